# SPDX-License-Identifier: Apache-2.0
"""Orthogonal, delta-orthogonal, identity, dirac and sparse: exact structure."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxinit
from tests.helpers import SIGMAS, fresh

QUICK = True  # see conftest.py

METHODS = ["householder", "qr"]


def is_isometry(
    w: jax.typing.ArrayLike, scale: float = 1.0, atol: float = 1e-5
) -> bool:
    """Whether Wᴴ W of tall matrices, W Wᴴ of wide ones, is scale² I."""
    wide = np.asarray(w).astype(complex)
    h = wide.conj().swapaxes(-1, -2)
    gram = h @ wide if wide.shape[-2] >= wide.shape[-1] else wide @ h
    return bool(abs(gram - scale**2 * np.eye(gram.shape[-1])).max() <= atol)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (40, 9), (9, 40), (2, 3, 4, 5)])
def test_orthogonal(shape, method, dtype, key):
    w = jaxinit.orthogonal(1.5, method=method)(key, shape, dtype)
    chex.assert_shape(w, shape)
    assert w.dtype == dtype
    assert is_isometry(w.reshape(-1, shape[-1]), 1.5)


def test_the_nearest_wrong_scale_is_no_isometry():
    assert is_isometry(2.0 * np.eye(7, 3), 2.0)
    assert not is_isometry(2.0 * np.eye(7, 3), 2.0001)


def test_orthogonal_in_float64(key):
    with jax.enable_x64(True):
        w = jaxinit.orthogonal()(key, (30, 20), jnp.float64)
        assert is_isometry(w, atol=1e-13)


@pytest.mark.parametrize("column_axis", [0, 1, 2, -1])
def test_the_column_axis(column_axis, key):
    w = jaxinit.orthogonal(column_axis=column_axis)(key, (4, 5, 6))
    columns = np.moveaxis(np.asarray(w), column_axis, -1)
    assert is_isometry(columns.reshape(-1, w.shape[column_axis]))


@pytest.mark.sweep
@pytest.mark.parametrize("batch_axis", [0, 1, (0, 2), -2])
def test_batch_axes_stack_independent_matrices(batch_axis, key):
    w = np.asarray(jaxinit.orthogonal(batch_axis=batch_axis)(key, (3, 4, 5, 6)))
    batch = np.atleast_1d(batch_axis) % 4
    w = np.moveaxis(w, batch.tolist(), range(len(batch)))
    w = w.reshape(math.prod(w.shape[: len(batch)]), -1, 6)
    assert is_isometry(w)
    assert len({matrix.tobytes() for matrix in w}) == len(w)


@pytest.mark.parametrize("method", METHODS)
def test_no_direction_is_preferred(method):
    """An entry of a 3 x 3 Haar matrix is uniform on [-1, 1] (Archimedes)."""
    keys = jax.random.split(jax.random.key(6), 4096)
    init = jaxinit.orthogonal(method=method)
    w = np.asarray(jax.vmap(lambda k: init(k, (3, 3)))(keys))
    for i in range(3):
        for j in range(3):
            cdf = scipy.stats.uniform(-1, 2).cdf
            assert scipy.stats.kstest(w[:, i, j], cdf).pvalue > 1e-6
    positive = (np.linalg.det(w) > 0).mean()
    assert abs(positive - 0.5) < SIGMAS * 0.5 / math.sqrt(4096)
    unsigned = np.linalg.qr(np.random.default_rng(0).normal(size=(4096, 3, 3)))[0]
    assert scipy.stats.kstest(unsigned[:, 0, 0], cdf).pvalue < 1e-6  # no sign fix


def conv(x: jax.Array, w: jax.Array) -> jax.Array:
    """A circular convolution of NHWC images with an HWIO kernel."""
    pad = [((k - 1) // 2, k // 2) for k in w.shape[:2]]
    x = jnp.pad(x, [(0, 0), *pad, (0, 0)], mode="wrap")
    dims = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=dims)


@pytest.mark.sweep
@pytest.mark.parametrize("window", [(3, 3), (2, 4)])
@pytest.mark.parametrize(("features_in", "features_out"), [(6, 6), (6, 10), (10, 6)])
def test_delta_orthogonal_keeps_a_norm(window, features_in, features_out, key):
    w = jaxinit.delta_orthogonal()(fresh(key), (*window, features_in, features_out))
    assert int((abs(w).max(axis=(2, 3)) > 0).sum()) == 1
    x = jax.random.normal(fresh(key), (2, 8, 8, features_in))
    y = jax.jit(conv)(x, w)
    g = jax.random.normal(fresh(key), y.shape)
    if features_in <= features_out:
        chex.assert_trees_all_close(jnp.vdot(y, y), jnp.vdot(x, x), rtol=1e-4)
    if features_in >= features_out:
        (gradient,) = jax.jit(jax.linear_transpose(lambda x: conv(x, w), x))(g)
        wanted = jnp.vdot(g, g)
        chex.assert_trees_all_close(jnp.vdot(gradient, gradient), wanted, rtol=1e-4)
        assert float(jnp.vdot(y, y)) <= float(jnp.vdot(x, x)) * 1.0001


def test_delta_orthogonal_with_batch_axes(key):
    w = jaxinit.delta_orthogonal(batch_axis=1)(key, (3, 5, 4, 6))
    assert bool((w[0] == 0).all()) and bool((w[2] == 0).all())
    assert is_isometry(w[1])


def test_delta_orthogonal_in_one_and_three_dimensions(key):
    for shape in ((4, 2, 3), (3, 2, 5, 2, 3)):
        w = jaxinit.delta_orthogonal()(fresh(key), shape)
        centre = w[tuple((k - 1) // 2 for k in shape[:-2])]
        assert is_isometry(centre)
        assert int((w != 0).sum()) == 6


@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (5, 3), (2, 4, 3)])
def test_identity(shape, key):
    w = jaxinit.identity(2.0)(key, shape)
    expected = np.broadcast_to(2.0 * np.eye(*shape[-2:], dtype=np.float32), shape)
    np.testing.assert_array_equal(w, expected)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("window", [(1, 1), (2, 2), (3, 3), (4, 5)])
def test_dirac_passes_its_input(window, groups, key):
    w = jaxinit.dirac(groups)(fresh(key), (*window, 8 // groups, 8))
    x = jax.random.normal(fresh(key), (1, 6, 6, 8))
    dims = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(
        x,
        w,
        (1, 1),
        "SAME",
        dimension_numbers=dims,
        feature_group_count=groups,
        precision=jax.lax.Precision.HIGHEST,
    )
    np.testing.assert_array_equal(x, y)


def test_dirac_rectangular(key):
    wide = np.asarray(jaxinit.dirac(gain=0.5)(key, (3, 2, 5)))
    np.testing.assert_array_equal(wide[1], 0.5 * np.eye(2, 5, dtype=np.float32))
    assert not wide[[0, 2]].any()
    grouped = np.asarray(jaxinit.dirac(2)(fresh(key), (1, 3, 4)))[0]
    assert grouped.tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]]


@settings(max_examples=5)
@given(sparsity=st.floats(0, 1), rows=st.integers(1, 20), columns=st.integers(1, 8))
def test_sparse_counts_exactly(sparsity, rows, columns):
    w = jaxinit.sparse(sparsity)(jax.random.key(1), (rows, columns))
    zeros = (np.asarray(w) == 0).sum(axis=0)
    assert zeros.tolist() == [math.ceil(sparsity * rows)] * columns
    w = jaxinit.sparse(sparsity, per="input")(jax.random.key(1), (columns, rows))
    zeros = (np.asarray(w) == 0).sum(axis=1)
    assert zeros.tolist() == [math.ceil(sparsity * rows)] * columns


def test_sparse_per_input_is_pytorchs():
    """PyTorch zeroes ⌈sparsity · rows⌉ entries of each column of (out, in)."""
    out, ins = 7, 200
    w = np.asarray(jaxinit.sparse(0.5, per="input")(jax.random.key(1), (ins, out))).T
    zeros = w == 0
    assert (zeros.sum(axis=0) == 4).all()
    # a place is zero with the chance 4/7, and 200 columns are independent
    spread = math.sqrt(ins * 4 / 7 * 3 / 7)
    assert (np.abs(zeros.sum(axis=1) - ins * 4 / 7) < 5 * spread).all()
    assert len(np.unique(zeros.sum(axis=1))) > 1  # the default counts these alike


def test_sparse_places_are_uniform_and_values_normal():
    w = np.asarray(jaxinit.sparse(0.25, 0.1)(jax.random.key(1), (40, 20000)))
    share = (w == 0).mean(axis=1)  # each row is zero in a quarter of the columns
    assert abs(share - 0.25).max() < SIGMAS * math.sqrt(0.25 * 0.75 / 20000)
    values = w[w != 0].astype(np.float64)
    assert scipy.stats.kstest(values, scipy.stats.norm(0, 0.1).cdf).pvalue > 1e-6
    assert len(np.unique(w == 0, axis=1).T) > 19000  # no two columns alike
