# SPDX-License-Identifier: Apache-2.0
"""Families of matrices draw the matrix of a layer, in whatever axes its kernel has.

A row names a kernel and its matrices (copies, inputs, outputs), by an expression of its
axes that owes nothing to `Fans`.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit
import jaxinit.nnx
from jaxinit import Fans
from jaxinit.families.views import view
from tests.helpers import bits, fresh, read_shapes

QUICK = True  # see conftest.py

ROWS = {
    "query": (Fans.axes(0, (1, 2)), (12, 3, 8), lambda w: w.reshape(1, 12, 24)),
    "out": (Fans.axes((0, 1), 2), (3, 8, 12), lambda w: w.reshape(1, 24, 12)),
    "reversed": (Fans.axes(1, 0), (5, 7), lambda w: w.T[None]),
    "batch": (Fans.axes(1, 2, 0), (4, 6, 5), lambda w: w),
    "split": (
        Fans.axes((0, 2), 1),
        (3, 20, 4),
        lambda w: np.stack([w[i, :, j] for i in range(3) for j in range(4)])[None],
    ),
    "heads": (
        Fans.einsum("bth,hdf->btdf"),
        (12, 3, 8),
        lambda w: w.reshape(1, 12, 24),
    ),
    "experts": (Fans.einsum("ebd,edf->ebf"), (4, 6, 5), lambda w: w),
    "backward": (Fans.einsum("bf,df->bd"), (5, 9), lambda w: w.T[None]),
    "flattened": (
        Fans.dense_general(4),
        (4 * 6, 5),
        lambda w: np.stack([w[6 * i : 6 * i + 6] for i in range(4)]),
    ),
    "positions": (Fans.conv_local(1), (4, 6, 5), lambda w: w),
    "convolution": (Fans.conv(), (3, 2, 4, 6), lambda w: w.reshape(1, 24, 6)),
    "groups": (
        Fans.conv(groups=3),
        (3, 2, 4, 15),
        lambda w: np.stack(
            [w[..., 5 * g : 5 * g + 5].reshape(24, 5) for g in range(3)]
        ),
    ),
    "depthwise": (
        Fans.conv(groups=6),
        (3, 3, 1, 6),
        lambda w: np.stack([w[..., g].reshape(9, 1) for g in range(6)]),
    ),
    "transposed": (
        Fans.conv_transpose(2, transpose_kernel=True),
        (2, 2, 6, 4),
        lambda w: w.swapaxes(2, 3).reshape(1, 16, 6),
    ),
    "not transposed": (
        Fans.conv_transpose(2),
        (2, 2, 4, 6),
        lambda w: w.reshape(1, 16, 6),
    ),
    "explicit": (Fans.explicit(3, 4), (2, 4, 6), lambda w: w.reshape(1, 8, 6)),
}


ORTHOGONAL = jaxinit.orthogonal(1.5)


def matrices(init, name, key):
    fans, shape, read = ROWS[name]
    w = init.replace(fans=fans)(fresh(key), shape)
    assert w.shape == shape
    return read(np.asarray(w, np.float64))


@pytest.mark.sweep
@pytest.mark.parametrize("name", ROWS)
def test_all_singular_values_are_the_scale(name, key):
    found = matrices(ORTHOGONAL, name, key)
    np.testing.assert_allclose(np.linalg.svd(found)[1], 1.5, atol=1e-5)
    if len(found) > 1:  # each is a draw of its own
        assert len({each.tobytes() for each in found}) == len(found)


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["query", "out", "batch", "groups", "reversed"])
def test_other_families_of_matrices_see_them_too(name, key):
    found = matrices(jaxinit.spectral_orthogonal(2.0), name, key)
    _, n, m = found.shape
    np.testing.assert_allclose(np.linalg.svd(found)[1], 2 * math.sqrt(m / n), atol=1e-4)
    for per, axis in (("output", 1), ("input", 2)):
        found = matrices(jaxinit.sparse(0.3, per=per), name, key)
        assert ((found == 0).sum(axis) == math.ceil(0.3 * found.shape[axis])).all()


@pytest.mark.parametrize("name", ["query", "out", "batch", "reversed", "flattened"])
def test_identities_pass_inputs_to_outputs(name, key):
    found = matrices(jaxinit.identity(0.5), name, key)
    _, n, m = found.shape
    assert (found == 0.5 * np.eye(n, m)).all()
    noisy = matrices(jaxinit.noisy_identity(0.5, 1e-3), name, key)
    assert 0 < abs(noisy - found).max() < 1e-2
    zero = matrices(jaxinit.hadamard(), name, key)
    assert (zero == np.asarray(jaxinit.hadamard()(None, (n, m)), float)).all()


CENTRES = {
    "groups": lambda w: np.stack([w[1, 0, :, 5 * g : 5 * g + 5] for g in range(3)]),
    "transposed": lambda w: w[0, 0].T[None],
    "convolution": lambda w: w[1, 0][None],
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", CENTRES)
def test_convolutions_are_those_of_the_layer(name, key):
    fans, shape, _ = ROWS[name]
    for init in (jaxinit.delta_orthogonal(2.0, fans=fans), jaxinit.hadamard(fans=fans)):
        w = np.asarray(init(fresh(key), shape), np.float64)
        centre = CENTRES[name](w)
        assert (w != 0).sum() == (centre != 0).sum()
        if init.random:
            np.testing.assert_allclose(np.linalg.svd(centre)[1], 2.0, atol=1e-5)
        else:
            n, m = centre.shape[1:]
            assert (centre == np.asarray(jaxinit.hadamard()(None, (n, m)))).all()
    whole = jaxinit.conv_orthogonal(fans=fans)(fresh(key), shape)
    summed = np.asarray(whole, np.float64).sum((0, 1))  # at frequency 0
    parts = {
        "groups": lambda s: s.reshape(4, 3, 5).swapaxes(0, 1),
        "transposed": lambda s: s.T,
    }
    matrix = parts.get(name, lambda s: s)(summed)
    np.testing.assert_allclose(np.linalg.svd(matrix)[1], 1.0, atol=1e-5)


@pytest.mark.sweep
@pytest.mark.parametrize("name", ROWS)
def test_the_law_is_that_of_the_kernel(name, key):
    """An orthogonal matrix has the sum of squares of its law exactly."""
    fans, shape, _ = ROWS[name]
    law = ORTHOGONAL.replace(fans=fans).law(shape)
    found = matrices(ORTHOGONAL, name, key)
    assert (found**2).mean() == pytest.approx(law.std**2, rel=1e-5)
    copies, n, m = found.shape
    k = min(n, m)
    assert law.count(shape) == copies * (n * m - k * (k + 1) // 2)
    assert view(fans, shape).copies == copies


def test_a_plain_kernel_is_drawn_as_before(key):
    for fans, shape in ((Fans.axes(), (6, 4)), (Fans.conv(), (3, 3, 4, 6))):
        for init in (jaxinit.orthogonal(), jaxinit.orthogonal(method="qr")):
            seen = init.replace(fans=fans)
            assert bits(seen(fresh(key), shape)) == bits(init(fresh(key), shape))


def test_what_is_no_matrix_is_refused(key):
    def drawn(**given):
        return jaxinit.orthogonal(**given)(fresh(key), (4, 4))

    with pytest.raises(ValueError, match="an axis has two meanings"):
        drawn(fans=Fans.axes(out_axis=0))
    with pytest.raises(ValueError, match="give either fans or column_axis and batch_a"):
        drawn(fans=Fans.axes(), column_axis=0)
    with pytest.raises(TypeError, match=r"fans must be a Fans, got 3; for example"):
        drawn(fans=3)
    with pytest.raises(ValueError, match="the shape must have at least 2 axes"):
        jaxinit.identity(fans=Fans.conv())(None, (4,))


# --- layers ---------------------------------------------------------------------------

D, HEADS = 24, 3


def attention(library, key):
    """A tree of attention's parameters, and its layers."""
    if library == "nnx":
        model = nnx.MultiHeadAttention(HEADS, D, rngs=nnx.Rngs(key))
        layers = jaxinit.read(model, jnp.zeros((1, 4, D)), decode=False)
        return nnx.state(model, nnx.Param), layers
    linen, x = nn.MultiHeadDotProductAttention(HEADS), jnp.zeros((1, 4, D))
    return jax.eval_shape(linen.init, key, x), read_shapes(linen, x)


@pytest.mark.parametrize("library", ["linen", "nnx"])
def test_attention_is_orthogonal(library, key):
    tree, layers = attention(library, fresh(key))
    rules = [("kernel", jaxinit.orthogonal(0.5)), ("bias", jaxinit.zeros)]
    drawn = jaxinit.init_tree(fresh(key), tree, rules, layers=layers)
    assert jaxinit.check_tree(drawn, rules, layers=layers).ok
    kernels = {
        path[-2 if library == "linen" else -3].key: np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(drawn)
        if leaf.ndim == 3
    }
    assert set(kernels) == {"query", "key", "value", "out"}
    for name, w in kernels.items():
        matrix = w.reshape((-1, D) if name == "out" else (D, -1))
        np.testing.assert_allclose(np.linalg.svd(matrix)[1], 0.5, atol=1e-5)


def test_layers_leave_axes_that_were_given(key):
    shape = jax.ShapeDtypeStruct((4, 6), jnp.float32)
    layers = jaxinit.read(lambda w, x: x @ w["w"].T, {"w": shape}, jnp.ones((2, 6)))
    for given in (
        jaxinit.orthogonal(column_axis=0),
        jaxinit.orthogonal(fans=Fans.axes()),
    ):
        rules = [("w", given)]
        (row,) = jaxinit.describe_tree({"w": shape}, rules, layers=layers).rows
        assert row.initializer == repr(given)
    rules = [("w", jaxinit.scaled(jaxinit.orthogonal(), 2.0))]
    (row,) = jaxinit.describe_tree({"w": shape}, rules, layers=layers).rows
    assert row.initializer == "scaled(orthogonal(fans=Fans.axes(-1, -2)), 2.0)"
