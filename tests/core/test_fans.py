# SPDX-License-Identifier: Apache-2.0
"""Fans are counted by hand here, by properties, and refused in words.

That the counts are those of Flax's layers is the subject of `test_layers.py`.
"""

import copy
import itertools
import json
import math
import pickle
import string
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxinit
from jaxinit import Fans, compute_fans

QUICK = True  # see conftest.py

ANY: Any = Fans  # for calls that a type checker would refuse

COUNTS = [
    # fan_in = field · in, fan_out = field · out
    (Fans.axes(), (64, 128), (64, 128)),
    (Fans.axes(), (3, 3, 64, 128), (576, 1152)),
    (Fans.axes(), (12, 64, 64), (768, 768)),
    (Fans.axes(batch_axis=0), (12, 64, 64), (64, 64)),
    (Fans.axes(-1, -2), (64, 128), (128, 64)),
    (Fans.axes(0, (1, 2)), (512, 8, 64), (512, 512)),
    (Fans.axes((0, 1), 2), (8, 64, 512), (512, 512)),
    (Fans.axes(1, (0, 2), 3), (8, 64, 16, 5), (64, 128)),
    (Fans.axes(0, ()), (7,), (7, 1)),
    (Fans.axes((), -1), (7,), (1, 7)),
    (Fans.axes(), (0, 5), (0, 5)),
    # fan_in = window · in / groups, fan_out = window · out / groups / strides
    (Fans.conv(), (64, 128), (64, 128)),
    (Fans.conv(), (5, 16, 24), (80, 120)),
    (Fans.conv(), (3, 3, 3, 4, 8), (108, 216)),
    (Fans.conv(groups=4), (3, 3, 16, 128), (144, 288)),
    (Fans.conv(groups=64), (3, 3, 1, 64), (9, 9)),
    (Fans.conv(groups=64), (3, 3, 1, 128), (9, 18)),
    (Fans.conv(strides=2), (4, 4, 64, 128), (1024, 512)),
    (Fans.conv(strides=2), (3, 3, 64, 128), (576, 288)),
    (Fans.conv(strides=2), (3, 3, 64, 1), (576, 2.25)),
    (Fans.conv(strides=(2, 1)), (3, 3, 64, 128), (576, 576)),
    (Fans.conv(groups=2, strides=4), (8, 8, 16), (64, 16)),
    (Fans.conv(strides=2), (1, 1, 64, 128), (64, 32)),
    # fan_in = window · in / strides, fan_out = window · out
    (Fans.conv_transpose(), (3, 3, 64, 16), (576, 144)),
    (Fans.conv_transpose(transpose_kernel=True), (3, 3, 16, 64), (576, 144)),
    (Fans.conv_transpose(2), (4, 4, 64, 16), (256, 256)),
    (Fans.conv_transpose(2, True), (4, 4, 16, 64), (256, 256)),
    (Fans.conv_transpose(4), (8, 8, 64, 16), (256, 1024)),
    (Fans.conv_transpose(2), (3, 3, 64, 16), (144, 144)),
    (Fans.conv_transpose(2), (3, 3, 1, 16), (2.25, 144)),
    (Fans.conv_transpose((1, 3)), (3, 3, 64, 16), (192, 144)),
    # fan_in = window · in, fan_out = window · out / strides
    (Fans.conv_local(kernel_size=3), (16, 16, 72, 12), (72, 108)),
    (Fans.conv_local(2, (5, 3)), (16, 16, 120, 12), (120, 180)),
    (Fans.conv_local(1, 5), (16, 40, 12), (40, 60)),
    (Fans.conv_local(2, 3, 2), (8, 8, 72, 12), (72, 27)),
    # fan_in: the letters that the output lacks; fan_out: those that the inputs lack
    (Fans.einsum("bi,io->bo"), (64, 128), (64, 128)),
    (Fans.einsum("bi,oi->bo"), (128, 64), (64, 128)),
    (Fans.einsum("bth,hdf->btdf"), (512, 8, 64), (512, 512)),
    (Fans.einsum("btdf,dfh->bth"), (8, 64, 512), (512, 512)),
    (Fans.einsum("ebd,edf->ebf"), (16, 64, 128), (64, 128)),
    (Fans.einsum("...d,fd->...f"), (128, 64), (64, 128)),
    (Fans.einsum("bhd,hd->bhd"), (8, 64), (1, 1)),
    (Fans.einsum(" b i , i o -> b o "), (64, 128), (64, 128)),
    # the others
    (Fans.dense_general(), (64, 128), (64, 128)),
    (Fans.dense_general(16), (1024, 128), (64, 128)),
    (Fans.embedding(), (5000, 64), (1, 64)),
    (Fans.explicit(3, 4.5), (2, 2), (3, 4.5)),
    (Fans.explicit(3.0, 4), (), (3, 4)),
]


@pytest.mark.parametrize(("fans", "shape", "counts"), COUNTS)
def test_counts(fans, shape, counts):
    for found in (fans(shape), compute_fans(list(shape), fans=fans)):
        assert found == counts
        assert [type(fan) for fan in found] == [type(fan) for fan in counts]
    assert (fans.fan_in(shape), fans.fan_out(shape)) == counts


@pytest.mark.parametrize(
    ("fans", "shape", "counts"), [row for row in COUNTS if 0 not in row[1]]
)
def test_the_mode_takes_the_count(fans, shape, counts):
    fan_in, fan_out = counts
    wanted = {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": (fan_in + fan_out) / 2,
        "fan_geo_avg": (fan_in * fan_out) ** 0.5,
    }
    for mode, fan in wanted.items():
        init = jaxinit.variance_scaling(3.0, mode, "normal", fans=fans)
        assert init.law(shape).std ** 2 == pytest.approx(3 / fan)


def test_an_unshared_kernel_tells_only_its_inputs():
    fans = Fans.conv_local()
    assert fans.fan_in((16, 16, 72, 12)) == 72
    assert jaxinit.he_normal(fans=fans).law((16, 16, 72, 12)).std == (2 / 72) ** 0.5
    with pytest.raises(ValueError, match=r"Fans\.conv_local\(\) cannot tell fan_out"):
        fans.fan_out((16, 16, 72, 12))
    with pytest.raises(ValueError, match="give kernel_size="):
        jaxinit.glorot_normal(fans=fans).law((16, 16, 72, 12))


# Properties.

sizes = st.integers(1, 9)
windows = st.lists(sizes, max_size=3).map(tuple)


@st.composite
def kernels(draw):
    """A shape, and its axes shared out among the inputs, the outputs, the stack."""
    shape = draw(st.lists(sizes, min_size=1, max_size=5).map(tuple))
    roles = draw(st.lists(st.sampled_from("iosf"), min_size=len(shape), max_size=5))
    axes = {
        role: tuple(axis for axis in range(len(shape)) if roles[axis] == role)
        for role in "iosf"
    }
    return shape, axes["i"], axes["o"], axes["s"]


@given(kernels())
def test_fans_are_as_their_sizes(kernel):
    shape, i, o, stack = kernel
    fan_in, fan_out = Fans.axes(i, o, stack)(shape)
    inputs, outputs, kernels = (
        math.prod(shape[axis] for axis in axes) for axes in (i, o, stack)
    )
    assert fan_in * outputs == fan_out * inputs
    assert fan_in * outputs * kernels == math.prod(shape)
    assert compute_fans(shape, list(i), list(o), list(stack)) == (fan_in, fan_out)


@given(kernels(), st.integers(0, 5), sizes)
def test_a_stack_does_not_count(kernel, place, size):
    shape, i, o, stack = kernel
    place = min(place, len(shape))
    stacked = (*shape[:place], size, *shape[place:])
    i2, o2, stack2 = (
        tuple(axis + (axis >= place) for axis in axes) for axes in (i, o, stack)
    )
    assert Fans.axes(i2, o2, (*stack2, place))(stacked) == Fans.axes(i, o, stack)(shape)


@given(kernels(), st.randoms(use_true_random=False))
def test_axes_may_be_permuted_with_their_names(kernel, random):
    shape, *named = kernel
    order = list(range(len(shape)))
    random.shuffle(order)
    moved = [tuple(order.index(axis) for axis in axes) for axes in named]
    negative = [tuple(axis - len(shape) for axis in axes) for axes in moved]
    permuted = tuple(shape[axis] for axis in order)
    assert Fans.axes(*moved)(permuted) == Fans.axes(*named)(shape)
    assert Fans.axes(*negative)(permuted) == Fans.axes(*named)(shape)


@given(kernels())
def test_einsum_counts_by_roles(kernel):
    shape, i, o, stack = kernel
    shape = tuple(n if a in i + o + stack else 1 for a, n in enumerate(shape))
    letters = string.ascii_lowercase[: len(shape)]
    inputs = "".join(letters[axis] for axis in range(len(shape)) if axis not in o)
    output = "".join(letters[axis] for axis in range(len(shape)) if axis not in i)
    fans = Fans.einsum(f"z{inputs},{letters}->z{output}")
    assert fans(shape) == Fans.axes(i, o, stack)(shape)


@given(windows, sizes, sizes, st.integers(1, 4))
def test_groups_are_convolutions_side_by_side(window, i, o, groups):
    apart = Fans.axes()((*window, i, o))
    assert Fans.conv()((*window, i, o)) == apart
    assert Fans.conv(groups)((*window, i, groups * o)) == apart


@given(windows, sizes, sizes, st.integers(1, 4), st.data())
def test_transposed_convolution_is_convolution_backwards(window, i, o, stride, data):
    each = data.draw(st.lists(sizes, min_size=len(window), max_size=len(window)))
    for strides in (stride, each):
        fan_in, fan_out = Fans.conv(strides=strides)((*window, i, o))
        backwards = Fans.conv_transpose(strides, transpose_kernel=True)
        assert backwards((*window, i, o)) == (fan_out, fan_in)
        assert Fans.conv_transpose(strides)((*window, o, i)) == (fan_out, fan_in)


@given(windows.filter(len), sizes, sizes, st.integers(1, 4))
def test_an_unshared_convolution_counts_as_a_shared_one(window, i, o, stride):
    unshared = (*(7 for _ in window), math.prod(window) * i, o)
    shared = Fans.conv(strides=stride)((*window, i, o))
    assert Fans.conv_local(len(window), window, stride)(unshared) == shared


@given(sizes, sizes, st.integers(1, 16))
def test_dense_general_divides_the_batch_out(i, o, batch):
    assert Fans.dense_general(batch)((batch * i, o)) == (i, o)


# Values.

VALUES = [
    (Fans.axes(), "Fans.axes()"),
    (Fans.axes(batch_axis=0), "Fans.axes(batch_axis=0)"),
    (Fans.axes([0, 1], 2), "Fans.axes((0, 1), 2)"),
    (Fans.conv(), "Fans.conv()"),
    (ANY.conv(groups=np.int64(4)), "Fans.conv(4)"),
    (ANY.conv(strides=np.array([2, 1])), "Fans.conv(strides=(2, 1))"),
    (Fans.conv_transpose(), "Fans.conv_transpose()"),
    (Fans.conv_transpose(2, transpose_kernel=True), "Fans.conv_transpose(2, True)"),
    (Fans.conv_local(1), "Fans.conv_local(1)"),
    (Fans.conv_local(kernel_size=(3, 3)), "Fans.conv_local(kernel_size=(3, 3))"),
    (Fans.einsum("bth,hdf->btdf"), "Fans.einsum('bth,hdf->btdf')"),
    (Fans.dense_general(16), "Fans.dense_general(16)"),
    (Fans.embedding(), "Fans.embedding()"),
    (Fans.explicit(3, 4.5), "Fans.explicit(3, 4.5)"),
]
each_value = pytest.mark.parametrize(("fans", "written"), VALUES)


@each_value
def test_repr_evaluates_back(fans, written):
    assert repr(fans) == written
    again = eval(written, {"Fans": Fans})
    assert again == fans
    assert hash(again) == hash(fans)


@each_value
def test_pickles_and_copies_are_equal(fans, written):
    again = pickle.loads(pickle.dumps(fans))
    assert again == fans
    assert hash(again) == hash(fans)
    assert copy.copy(fans) == copy.deepcopy(fans) == fans


@each_value
def test_json_round_trip(fans, written):
    init = jaxinit.he_normal(fans=fans)
    config = json.loads(json.dumps(jaxinit.to_config(init)))
    again = jaxinit.get(config)
    assert again == init
    assert again.arguments["fans"] == fans


def test_different_calls_make_different_values():
    for (one, _), (other, _) in itertools.combinations(VALUES, 2):
        assert one != other
        assert jaxinit.he_normal(fans=one) != jaxinit.he_normal(fans=other)


def test_a_value_does_not_change():
    with pytest.raises(AttributeError, match="is a value and does not change"):
        ANY.conv().groups = 2


# Errors.

NOT_WHOLE = [
    (lambda: ANY.axes(1.0), "in_axis must be an integer, got 1.0"),
    (lambda: ANY.axes(0, True), "out_axis must be an integer, got True"),
    (lambda: ANY.axes("0"), "in_axis must be a sequence of integers, got '0'"),
    (
        lambda: ANY.axes(batch_axis=[0, 1.5]),
        "batch_axis[1] must be an integer, got 1.5",
    ),
    (
        lambda: ANY.conv_transpose(2, 1),
        "transpose_kernel must be True or False, got 1",
    ),
    (lambda: ANY.conv(2.0), "groups must be an integer, got 2.0"),
    (lambda: ANY.conv(True), "groups must be an integer, got True"),
    (lambda: ANY.conv(strides=1.5), "strides must be an integer, got 1.5"),
    (lambda: ANY.conv(strides=(2, 1.5)), "strides[1] must be an integer, got 1.5"),
    (lambda: ANY.conv_transpose(None), "strides must be an integer, got None"),
    (lambda: ANY.conv_local(2.5), "spatial_dims must be an integer, got 2.5"),
    (lambda: ANY.conv_local(2, 3.0), "kernel_size must be an integer, got 3.0"),
    (lambda: ANY.dense_general(2.0), "batch_size must be an integer, got 2.0"),
    (lambda: ANY.explicit("4", 1), "fan_in must be a real number, got '4'"),
    (lambda: ANY.explicit(1, True), "fan_out must be a real number, got True"),
]

OUT_OF_RANGE = [
    (lambda: Fans.conv(0), "groups must be at least 1, got 0"),
    (lambda: Fans.conv(strides=0), "strides must be at least 1, got 0"),
    (lambda: Fans.conv(strides=(2, 0)), "strides[1] must be at least 1, got 0"),
    (lambda: Fans.conv_transpose(-1), "strides must be at least 1, got -1"),
    (lambda: Fans.conv_local(0), "spatial_dims must be at least 1, got 0"),
    (lambda: Fans.conv_local(2, 0), "kernel_size must be at least 1, got 0"),
    (lambda: Fans.dense_general(0), "batch_size must be at least 1, got 0"),
    (lambda: Fans.explicit(0, 1), "fan_in must be > 0, got 0"),
    (lambda: Fans.explicit(1, -2), "fan_out must be > 0, got -2"),
    (lambda: Fans.explicit(math.nan, 1), "fan_in must not be NaN"),
    (lambda: Fans.explicit(1, math.inf), "fan_out must be a finite number, got inf"),
]

MALFORMED = [
    ("ab,bc", "equation must read 'inputs,kernel->output'"),
    ("ab->ab", "as in 'bth,hdf->btdf', got 'ab->ab'"),
    ("ab,bc,cd->ad", "equation must read"),
    ("ab,bc->ac->ab", "equation must read"),
    ("a1,1c->ac", "equation must read"),
    ("..a,ac->c", "equation must read"),
    ("", "equation must read"),
    (3, "as in 'bth,hdf->btdf', got 3"),
    ("ab,bb->a", "the kernel of 'ab,bb->a' must not repeat a letter"),
    ("ab,bc->az", "the output of 'ab,bc->az' must have letters of the operands"),
    ("ab,bc->acc", "the output of 'ab,bc->acc' must have letters of the operands"),
    ("btd,df->bf", "'btd,df->bf' sums its inputs over t, whose sizes no kernel tells"),
    ("bd,df->", "'bd,df->' sums its inputs over b, whose sizes no kernel tells"),
]

TOO_FEW = "the shape must have at least 2 axes"
ONE_EACH = "must have one entry per window axis, 2"

COUNTED_WRONGLY = [
    (
        Fans.conv_local(2, (3, 3)),
        (4, 4, 10, 2),
        "kernel_size must divide the axis window · in: 9 does not divide 10",
    ),
    (Fans.axes(2), (4, 5), "in_axis 2 falls outside a shape of 2 axes"),
    (Fans.axes(0, -3), (4, 5), "out_axis -3 falls outside a shape of 2 axes"),
    (Fans.axes(batch_axis=(0, 7)), (3, 4, 5), "batch_axis 7 falls outside"),
    (Fans.axes(), (4,), "a kernel of 1 axes has no input axis -2; give in_axis"),
    (Fans.axes(), (), "a kernel of 0 axes has no input axis -2"),
    (Fans.axes(), (4, -1), "shape[1] must be at least 0, got -1"),
    (Fans.axes(), (4, 2.5), "shape[1] must be an integer, got 2.5"),
    (Fans.axes(), 4, "a kernel of 1 axes has no input axis -2"),
    (Fans.axes(), 4.0, "shape must be a sequence of integers, got 4.0"),
    (Fans.axes(), -4, "shape must be at least 0, got -4"),
    (Fans.conv(3), (3, 8, 16), "groups must divide the output features: 3 does not"),
    (Fans.conv(), (4,), f"{TOO_FEW} (*window, in / groups, out), got 1"),
    (Fans.conv(strides=(2, 2, 2)), (3, 3, 8, 16), f"strides (2, 2, 2) {ONE_EACH}"),
    (Fans.conv_transpose(), (4,), f"{TOO_FEW} (*window, in, out), got 1"),
    (Fans.conv_transpose((2,)), (3, 3, 8, 16), f"strides (2,) {ONE_EACH}"),
    (Fans.conv_local(), (4, 9, 2), "must have 4 axes (*positions, in, out), got 3"),
    (Fans.conv_local(2, (3,)), (4, 4, 9, 2), f"kernel_size (3,) {ONE_EACH}"),
    (Fans.conv_local(2, 3, (2,)), (4, 4, 9, 2), f"strides (2,) {ONE_EACH}"),
    (Fans.einsum("bi,io->bo"), (3, 4, 5), "must have 2 axes (its letters are 'io')"),
    (Fans.dense_general(), (4, 5, 6), "must have 2 axes (batch · in, out), got 3"),
    (Fans.dense_general(3), (4, 5), "batch_size must divide the first axis: 3 does"),
    (Fans.embedding(), (4,), "must have 2 axes (vocabulary, features), got 1"),
]


@pytest.mark.parametrize(("make", "words"), NOT_WHOLE)
def test_what_is_no_whole_number_is_refused_when_made(make, words):
    with pytest.raises(TypeError, match=r"^Fans\.\w+: ") as error:
        make()
    assert words in str(error.value)


@pytest.mark.parametrize(("make", "words"), OUT_OF_RANGE)
def test_what_is_out_of_range_is_refused_when_made(make, words):
    with pytest.raises(ValueError, match=r"^Fans\.\w+: ") as error:
        make()
    assert words in str(error.value)


@pytest.mark.parametrize(("equation", "words"), MALFORMED)
def test_malformed_equations_are_refused_when_made(equation, words):
    with pytest.raises(ValueError, match=r"^Fans\.einsum: ") as error:
        ANY.einsum(equation)
    assert words in str(error.value)


@pytest.mark.parametrize(("fans", "shape", "words"), COUNTED_WRONGLY)
def test_refused_for_a_shape(fans, shape, words):
    init = jaxinit.he_normal(fans=fans)
    for call in (fans, init.law, lambda shape: compute_fans(shape, fans=fans)):
        with pytest.raises((TypeError, ValueError)) as error:
            call(shape)
        assert words in str(error.value)


def test_an_initializer_says_who_and_which_shape(key):
    init = jaxinit.he_normal(fans=Fans.conv(3))
    with pytest.raises(ValueError, match="3 does not divide 16") as error:
        init(key, (3, 3, 8, 16))
    assert repr(init) in str(error.value)
    assert "(3, 3, 8, 16)" in str(error.value)


TAKERS = [
    lambda **given: compute_fans((4, 5), **given),
    jaxinit.lecun_uniform,
    jaxinit.he_normal,
    jaxinit.kaiming_normal,
    jaxinit.xavier_uniform,
    jaxinit.torch_linear,
]


@pytest.mark.parametrize("taker", TAKERS)
def test_only_fans_are_fans(taker):
    with pytest.raises(TypeError, match="fans must be a Fans, got 'conv'; for example"):
        taker(fans="conv")
    with pytest.raises(TypeError, match=r"got Fans\.conv; call it: Fans\.conv\(\)"):
        taker(fans=Fans.conv)


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("axes", [{"in_axis": 0}, {"out_axis": 0}, {"batch_axis": 0}])
def test_fans_and_axes_are_not_both_given(taker, axes):
    with pytest.raises(ValueError, match="give either fans or in_axis, out_axis and"):
        taker(**axes, fans=Fans.conv())
