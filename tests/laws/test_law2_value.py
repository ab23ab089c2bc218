# SPDX-License-Identifier: Apache-2.0
"""Law 2: built alike means equal, and everything that follows from it."""

import copy
import functools
import gc
import json
import pickle
import sys
import weakref

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxinit
from tests.cases import CASES, ids
from tests.helpers import bits, fresh

QUICK = True  # see conftest.py


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_it_can_be_rebuilt(case):
    init = case.init
    through_json = json.loads(json.dumps(jaxinit.to_config(init), allow_nan=False))
    for again in (
        eval(repr(init), vars(jaxinit)),
        pickle.loads(pickle.dumps(init)),
        copy.copy(init),
        copy.deepcopy(init),
        jaxinit.get(through_json),
        jaxinit.get(init),
    ):
        assert again == init
        assert hash(again) == hash(init)
        assert repr(again) == repr(init)


def test_all_the_cases_differ():
    named = {case.init for case in CASES}
    same = {"zeros": 2, "ones": 2}  # the initializer and its Flax spelling
    doubles = sum(same.values()) - len(same)
    assert len(named) == len(CASES) - doubles


def test_it_is_no_pytree():
    leaves = jax.tree.leaves({"kernel": jaxinit.he_normal(), "bias": jaxinit.zeros})
    assert leaves == [jaxinit.zeros, jaxinit.he_normal()]


def test_it_can_be_referenced_weakly_and_jitted(key):
    init = jaxinit.normal(0.25)
    reference = weakref.ref(init)
    assert reference() is init
    array = jax.jit(init, static_argnums=(1, 2))(fresh(key), (3, 4), "float32")
    assert bits(array) == bits(init(fresh(key), (3, 4)))


def test_it_is_not_kept_for_ever():
    """What a factory remembers is bounded: the first goes when a thousand came."""
    init = jaxinit.normal(0.2503)
    reference = weakref.ref(init)
    for i in range(1000):
        jaxinit.normal(1.0 + i)
    gc.collect()
    assert reference() is init
    del init
    gc.collect()
    assert reference() is None


def test_it_does_not_change():
    init = jaxinit.normal()
    with pytest.raises(AttributeError, match=r"normal\(\) is a value"):
        init.scale = 2
    with pytest.raises(AttributeError, match="does not change"):
        del init._arguments
    with pytest.raises(TypeError):
        init.arguments["stddev"] = 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            jaxinit.he_normal(),
            jaxinit.variance_scaling(2, "fan_in", "truncated_normal"),
        ),
        (jaxinit.normal(1), jaxinit.normal(1.0)),
        (jaxinit.normal(np.float32(0.5)), jaxinit.normal(stddev=0.5)),
        (jaxinit.normal(jnp.array(0.5)), jaxinit.normal(np.array(0.5))),
        (jaxinit.normal(1.0, np.float32), jaxinit.normal(1.0, "float32")),
        (jaxinit.normal(1.0, jnp.bfloat16), jaxinit.normal(1.0, "bfloat16")),
        (jaxinit.he_normal([0, 1], 2), jaxinit.he_normal((0, 1), np.int64(2))),  # type: ignore[arg-type]
        (jaxinit.constant(np.ones(2)), jaxinit.constant([1, 1])),
        (jaxinit.glorot_uniform(), jaxinit.xavier_uniform()),
        (jaxinit.kaiming_normal(), jaxinit.kaiming_normal("fan_in", "relu")),
    ],
    ids=str,
)
def test_equal_arguments_are_equal_values(one, other):
    assert one == other
    assert hash(one) == hash(other)


def test_unequal_ones_differ():
    inits = [
        jaxinit.normal(),
        jaxinit.normal(0.5),
        jaxinit.normal(dtype="bfloat16"),
        jaxinit.uniform(),
        jaxinit.he_normal(),
        jaxinit.he_normal(fans=jaxinit.Fans.conv()),
        jaxinit.he_normal(fans=jaxinit.Fans.conv(2)),
    ]
    assert len(set(inits)) == len(inits)
    assert jaxinit.normal() != "normal()"


@pytest.mark.parametrize(
    ("init", "text"),
    [
        (jaxinit.normal(), "normal()"),
        (jaxinit.normal(0.5), "normal(0.5)"),
        (jaxinit.normal(mean=1.0), "normal(mean=1.0)"),
        (jaxinit.uniform(dtype=jnp.float16), "uniform(dtype='float16')"),
        (
            jaxinit.truncated_normal(1.0, lower=0.0, upper=np.inf),
            "truncated_normal(1.0, lower=0.0, upper=float('inf'))",
        ),
        (jaxinit.constant((1,)), "constant((1,))"),
        (jaxinit.Fans.conv(groups=2), "Fans.conv(2)"),
    ],
    ids=str,
)
def test_the_repr_is_the_shortest_call(init, text):
    assert repr(init) == text
    assert eval(text, vars(jaxinit)) == init


@given(
    stddev=st.floats(0, 1e6),
    mean=st.floats(-1e6, 1e6),
    dtype=st.sampled_from([None, "float32", "bfloat16", "complex64"]),
)
def test_any_arguments_round_trip(stddev, mean, dtype):
    init = jaxinit.normal(stddev, dtype, mean=mean)
    assert eval(repr(init), vars(jaxinit)) == init
    assert pickle.loads(pickle.dumps(init)) == init
    assert jaxinit.get(json.loads(json.dumps(jaxinit.to_config(init)))) == init


def test_infinite_and_complex_arguments_survive_json():
    for init in (
        jaxinit.truncated_normal(lower=-np.inf),
        jaxinit.constant(1 + 2j),
        jaxinit.scaled(jaxinit.he_normal(fans=jaxinit.Fans.conv(4, (2, 2))), 0.5),
    ):
        text = json.dumps(jaxinit.to_config(init), allow_nan=False)
        assert jaxinit.get(json.loads(text)) == init


def test_minus_zero_is_another_number(key):
    plus, minus = jaxinit.constant(0.0), jaxinit.constant(-0.0)
    assert minus != plus and minus == jaxinit.constant(-0.0)
    assert repr(minus) == "constant(-0.0)"
    for init, sign in ((plus, False), (minus, True), (plus, False)):
        assert np.signbit(init(fresh(key), (3,))).all() == sign
    row = jaxinit.constant([0.0, -0.0, 1.0])
    assert row != jaxinit.constant([0.0, 0.0, 1.0])
    assert np.signbit(row(fresh(key), (3,))).tolist() == [False, True, False]
    for init in (minus, row, jaxinit.constant(complex(1, -0.0))):
        assert jaxinit.get(json.loads(json.dumps(jaxinit.to_config(init)))) == init
        assert eval(repr(init), vars(jaxinit)) == init


@jaxinit.initializer
def labelled(name="a", arguments=1.0):
    return lambda key, shape, dtype: jnp.full(shape, arguments, dtype)


@pytest.mark.parametrize(
    "init", [labelled(), labelled("b"), labelled(arguments=2.0), labelled("b", 3.0)]
)
def test_an_argument_may_be_called_name(init):
    text = json.dumps(jaxinit.to_config(init))
    assert jaxinit.get(json.loads(text)) == init
    changed = jaxinit.get(json.loads(text), name="c")
    assert changed == init.replace(name="c")


def test_many_numbers_cost_no_python_each(key):
    calls = []
    values = np.linspace(0.0, 1.0, 2**16)
    sys.setprofile(lambda *event: calls.append(event))
    init = jaxinit.constant(values)
    sys.setprofile(None)
    assert len(calls) < 2**10
    assert init == jaxinit.constant(values.tolist())
    chex.assert_trees_all_equal(init(key, (2**16,)), values.astype("float32"))


def test_one_trace_as_a_static_argument(key):
    @functools.partial(jax.jit, static_argnums=0)
    @chex.assert_max_traces(n=1)
    def draw(init, key):
        return init(key, (8, 8))

    for _ in range(5):
        draw(jaxinit.he_normal(), fresh(key))


def test_the_trace_count_can_fail(key):
    @functools.partial(jax.jit, static_argnums=0)
    @chex.assert_max_traces(n=1)
    def draw(init, key):
        return init(key, (8, 8))

    draw(jax.nn.initializers.he_normal(), fresh(key))
    with pytest.raises(AssertionError, match="traced"):
        draw(jax.nn.initializers.he_normal(), fresh(key))


def test_one_trace_through_linen(key):
    traces = []

    class Net(nn.Module):
        kernel_init: jaxinit.Initializer

        @nn.compact
        def __call__(self, x):
            traces.append(self)
            return nn.Dense(4, use_bias=False, kernel_init=self.kernel_init)(x)

    @functools.partial(jax.jit, static_argnums=0)
    def apply(net, params, x):
        return net.apply(params, x)

    x = jnp.ones((2, 3))
    params = Net(jaxinit.he_normal()).init(key, x)
    traces.clear()
    for _ in range(5):
        apply(Net(jaxinit.he_normal()), params, x)
    assert len(traces) == 1


def test_equal_initializers_share_the_compilation(key):
    calls = []

    @jaxinit.initializer
    def counted(scale):
        def init(key, shape, dtype):
            calls.append(shape)
            return scale * jax.random.normal(key, shape, dtype)

        return init

    for _ in range(4):
        counted(0.5)(fresh(key), (3, 4))
    assert calls == [(3, 4)]
    counted(0.25)(fresh(key), (3, 4))
    assert len(calls) == 2


def test_a_factory_defined_again_is_another(key):
    def cell(scale):  # a notebook cell, edited and run again
        @jaxinit.initializer
        def mine():
            return lambda key, shape, dtype: jnp.full(shape, scale, dtype)

        return mine

    first = cell(1.0)()
    with pytest.warns(UserWarning, match="mine is defined again"):
        second = cell(2.0)()
    assert first != second
    assert jaxinit.get(jaxinit.to_config(second)) == second
    with pytest.raises(ValueError, match="defined again since; build it anew"):
        jaxinit.to_config(first)
    assert float(first(fresh(key), ())) == 1.0
    assert float(second(fresh(key), ())) == 2.0


def test_a_traced_scale_works_where_it_is_known(key):
    @jax.jit
    def draw(scale, key):
        init = jaxinit.normal(scale)
        assert init == init and init != jaxinit.normal(scale)
        with pytest.raises(ValueError, match="traced"):
            init.law((4, 4))
        return init(key, (4, 4)), jaxinit.orthogonal(scale)(fresh(key), (4, 4))

    normal, matrix = draw(2.0, fresh(key))
    chex.assert_trees_all_close(normal, jaxinit.normal(2.0)(fresh(key), (4, 4)))
    chex.assert_trees_all_close(matrix @ matrix.T, 4 * jnp.eye(4), atol=1e-5)


TRACED = {
    "normal": lambda s: jaxinit.normal(s, mean=s),
    "uniform": jaxinit.uniform,
    "uniform_between": lambda s: jaxinit.uniform_between(-s, s),
    "truncated_normal": lambda s: jaxinit.truncated_normal(s, upper=s),
    "trunc_normal": lambda s: jaxinit.trunc_normal(std=s),
    "variance_scaling": lambda s: jaxinit.variance_scaling(s, "fan_in", "uniform"),
    "xavier_normal": jaxinit.xavier_normal,
    "constant": jaxinit.constant,
    "identity": jaxinit.identity,
    "dirac": lambda s: jaxinit.dirac(gain=s),
    "sparse": lambda s: jaxinit.sparse(0.5, s),
    "delta_orthogonal": jaxinit.delta_orthogonal,
    "scaled": lambda s: jaxinit.scaled(jaxinit.he_normal(), s),
    "stacked": lambda s: jaxinit.stacked(jaxinit.normal(s)),
    "siren": jaxinit.siren,
    "conv_orthogonal": jaxinit.conv_orthogonal,
    "forget_gate": jaxinit.forget_gate,
    "fourier_features": jaxinit.fourier_features,
    "hadamard": jaxinit.hadamard,
    "lru_theta": jaxinit.lru_theta,
    "noisy_identity": lambda s: jaxinit.noisy_identity(s, s),
    "spectral_normal": jaxinit.spectral_normal,
    "spectral_orthogonal": jaxinit.spectral_orthogonal,
    "chrono": lambda s: jaxinit.chrono(9.0 + s, 1.0 + s),
    "lru_nu": lambda s: jaxinit.lru_nu(s, 0.4 + s),
    "mamba_dt": lambda s: jaxinit.mamba_dt(s / 9, s, s / 8),
    "prior_probability": jaxinit.prior_probability,
}
SHAPES = {
    "conv_orthogonal": (3, 4, 4),
    "delta_orthogonal": (3, 4, 4),
    "dirac": (3, 4, 4),
    "stacked": (2, 4, 4),
}


@pytest.mark.parametrize("name", TRACED)
def test_every_scale_may_be_traced(name, key):
    shape = SHAPES.get(name, (4, 4))
    traced = jax.jit(lambda s, k: TRACED[name](s)(k, shape))(0.5, fresh(key))
    known = TRACED[name](0.5)(fresh(key), shape)
    chex.assert_trees_all_close(traced, known, rtol=1e-4)  # erf⁻¹ magnifies an ulp


def test_what_has_no_configuration():
    theirs = jaxinit.scaled(jax.nn.initializers.he_normal(), 2.0)
    with pytest.raises(TypeError, match="has no configuration"):
        jaxinit.to_config(theirs)
    with pytest.raises(TypeError, match="to_config takes an initializer"):
        jaxinit.to_config("normal")  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_a_call_is_one_compiled_program(make):
    """The call's trace is one equation, the jitted draw; nothing runs beside it."""
    trace = jax.make_jaxpr(lambda k: jaxinit.he_normal()(k, (8, 8)))(make(0))
    assert [str(equation.primitive) for equation in trace.eqns] == ["jit"]
    theirs = jax.nn.initializers.he_normal()
    trace = jax.make_jaxpr(lambda k: theirs(k, (8, 8)))(make(0))
    assert len(trace.eqns) > 1
