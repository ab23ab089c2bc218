# SPDX-License-Identifier: Apache-2.0
"""Haar measure from reflectors: moments that theory knows, and that reject less.

For Haar orthogonal Q of size n >= 4: E tr Q = 0, E (tr Q)² = 1, E (tr Q)⁴ = 3, and for
unitary U: E |tr U|² = 1, E |tr U|⁴ = 2 (Diaconis, Shahshahani, "On the eigenvalues of
random matrices", 1994). An entry has E q² = 1 / n and E q⁴ = 3 / (n (n + 2)).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxinit.samplers.haar import WIDTH, haar
from tests.helpers import SIGMAS, fresh

QUICK = True  # see conftest.py

COUNT = 2**14


@functools.cache
def many(n: int, m: int, dtype: str = "float32") -> np.ndarray:
    key = jax.random.key(8)
    return np.asarray(jax.jit(lambda k: haar(k, (COUNT,), n, m, jnp.dtype(dtype)))(key))


def is_mean(x: np.ndarray, mean: float) -> bool:
    """Whether a sample's mean is that, by its own spread."""
    return bool(abs(x.mean() - mean) < SIGMAS * x.std() / math.sqrt(x.size))


def traces_are_haars(q: np.ndarray) -> bool:
    trace = np.trace(q, axis1=1, axis2=2)
    return (
        is_mean(trace, 0)
        and is_mean(trace**2, 1)
        and is_mean(trace**3, 0)
        and is_mean(trace**4, 3)
        and is_mean(np.linalg.det(q), 0)
    )


@pytest.mark.parametrize("n", [4, 7])
def test_moments_of_the_trace(n):
    assert traces_are_haars(many(n, n))


def test_the_moments_reject_a_qr_without_the_signs():
    g = np.random.default_rng(0).normal(size=(COUNT, 4, 4))
    q, r = np.linalg.qr(g)
    signs = np.sign(np.diagonal(r, axis1=1, axis2=2))
    assert not traces_are_haars(q)
    assert traces_are_haars(q * signs[:, None, :])


def test_moments_of_the_unitary_trace():
    trace = np.trace(many(4, 4, "complex64"), axis1=1, axis2=2)
    assert is_mean(trace.real, 0) and is_mean(trace.imag, 0)
    assert is_mean((trace**2).real, 0)
    assert is_mean(abs(trace) ** 2, 1)
    assert is_mean(abs(trace) ** 4, 2)


def test_moments_of_every_entry():
    n = 5
    q = many(n, 3)
    for i in range(n):
        for j in range(3):
            assert is_mean(q[:, i, j], 0)
            assert is_mean(q[:, i, j] ** 2, 1 / n)
            assert is_mean(q[:, i, j] ** 4, 3 / (n * (n + 2)))
            assert is_mean(q[:, i, j] * q[:, (i + 1) % n, j], 0)


def test_an_entry_has_its_distribution():
    """q² of an entry is Beta(1 / 2, (n - 1) / 2)."""
    n = 7
    law = scipy.stats.beta(0.5, (n - 1) / 2)
    q = many(n, n)
    for entry in (q[:, 0, 0], q[:, 5, 5], q[:, 2, 4]):
        assert scipy.stats.kstest(entry.astype(np.float64) ** 2, law.cdf).pvalue > 1e-6
    wrong = scipy.stats.beta(0.5, n / 2)
    assert scipy.stats.kstest(q[:, 0, 0] ** 2, wrong.cdf).pvalue < 1e-6


def test_no_rotation_is_noticed():
    """W Q has the law of Q: its projections on a fixed frame agree in distribution."""
    q = many(4, 4)
    w = scipy.stats.ortho_group.rvs(4, random_state=1)
    rotated = np.einsum("ij,bjk->bik", w, q)
    for i, j in ((0, 0), (3, 1)):
        assert scipy.stats.ks_2samp(rotated[::2, i, j], q[1::2, i, j]).pvalue > 1e-6


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize(
    ("n", "m"),
    [
        (WIDTH, WIDTH),
        (WIDTH + 1, WIDTH + 1),
        (3 * WIDTH, 2 * WIDTH + 7),
        (40, 2 * WIDTH + 1),
        (6 * WIDTH + 5, 6 * WIDTH + 5),
    ],
)
def test_orthogonality_across_panels(n, m, dtype, key):
    q = jax.jit(lambda k: haar(k, (), n, m, jnp.dtype(dtype)))(key)
    q = np.asarray(q).astype(np.complex128)
    gram = q.conj().T @ q if n >= m else q @ q.conj().T
    assert abs(gram - np.eye(min(n, m))).max() < 5e-6


@pytest.mark.thorough
def test_the_error_at_4096_is_five_millionths_at_most(key):
    q = jax.jit(lambda k: haar(k, (), 4096, 4096, np.dtype("float32")))(fresh(key))
    rows = q[:, ::37]  # 111 columns against all
    gram = np.asarray(jnp.matmul(rows.T, q, precision=jax.lax.Precision.HIGHEST))
    eye = np.eye(4096, dtype=np.float32)[::37]
    assert abs(gram - eye).max() <= 5e-6


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (1, 1), (5, 1), (1, 5)])
def test_the_smallest(n, m, key):
    q = np.asarray(jax.jit(lambda k: haar(k, (2,), n, m, np.dtype("float32")))(key))
    assert q.shape == (2, n, m)
    if n and m:
        np.testing.assert_allclose(np.linalg.norm(q, axis=(1, 2)), 1, rtol=1e-6)
