# SPDX-License-Identifier: Apache-2.0
"""Schemes of what remembers: the biases of gates, recurrent kernels, state spaces."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

import jaxinit
from tests.helpers import SIGMAS, fresh

QUICK = True  # see conftest.py

# gates


def remembered(bias: jaxinit.Initializer) -> np.ndarray:
    """The share of an LSTM's state that is left after a step without input.

    Flax's cell, with zero kernels: c ← f c, f the gate that the bias opens.
    """
    zeros = jaxinit.zeros_init()
    cell = nnx.OptimizedLSTMCell(
        3,
        16,
        kernel_init=zeros,
        recurrent_kernel_init=zeros,
        bias_init=bias,
        rngs=nnx.Rngs(0),
    )
    state = jnp.ones((1, 16))
    with jax.numpy_rank_promotion("allow"):  # the cell adds its bias by promotion
        (c, _), _ = cell((state, state), jnp.zeros((1, 3)))
    return np.asarray(c).ravel()


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0])
def test_the_forget_gate_is_flaxs(value):
    kept = 1 / (1 + math.exp(-value))
    np.testing.assert_allclose(remembered(jaxinit.forget_gate(value)), kept, rtol=1e-6)
    wrong = remembered(jaxinit.forget_gate(2.0, index=0))  # the input gate
    np.testing.assert_allclose(wrong, 0.5, rtol=1e-6)


def test_chrono_in_flaxs_lstm():
    time = 1 / (1 - remembered(jaxinit.chrono(100.0)))
    assert time.min() >= 2 and time.max() <= 100.01
    assert np.ptp(time) > 20  # 16 uniform times of 98 do once in 10⁹


def test_chrono_in_flaxs_gru():
    """z keeps the state, h ← (1 - z) n + z h, and is the second of (r, z, n)."""
    zeros = jaxinit.zeros_init()
    cell = nnx.GRUCell(
        3,
        16,
        kernel_init=zeros,
        recurrent_kernel_init=zeros,
        bias_init=jaxinit.chrono(100.0, gates=3, input_index=None),
        rngs=nnx.Rngs(0),
    )
    with jax.numpy_rank_promotion("allow"):
        h, _ = cell(jnp.ones((1, 16)), jnp.zeros((1, 3)))
    time = 1 / (1 - np.asarray(h))
    assert time.min() >= 2 and time.max() <= 100.01


def times_are_uniform(bias: np.ndarray, low: float, high: float) -> bool:
    times = scipy.stats.uniform(low, high - low)
    return bool(scipy.stats.kstest(1 + np.exp(bias), times.cdf).pvalue > 1e-6)


def test_the_shortest_time_may_be_any_above_one(key):
    """log(T - 1) stays finite where float32 rounds T itself to 1."""
    b = jaxinit.chrono(1 + 2e-12, 1 + 1e-12, 1, 0, None)(key, (8,))
    assert bool(jnp.isfinite(b).all())


def test_chronos_times_are_uniform_and_its_pair_is_one_draw(key):
    w = np.asarray(jaxinit.chrono(50.0, 10.0)(fresh(key), (3, 4 * 4096)), np.float64)
    i, f, g, o = np.split(w, 4, axis=1)
    assert times_are_uniform(f.ravel(), 10, 50)
    np.testing.assert_array_equal(i, -f)
    assert not g.any() and not o.any()
    logs = np.random.default_rng(0).uniform(math.log(9), math.log(49), f.size)
    assert not times_are_uniform(logs, 10, 50)  # uniform logarithms
    assert not times_are_uniform(f.ravel(), 9, 50)


@pytest.mark.parametrize(
    "init",
    [
        jaxinit.chrono(50.0),
        jaxinit.chrono(50.0, 1.5, gates=3, input_index=None),
        jaxinit.chrono(50.0, 20.0, 1, 0, None),
        jaxinit.chrono(50.0, 20.0, 2),
    ],
    ids=str,
)
def test_the_law_of_chrono(init, key):
    w = np.asarray(init(key, (6 * 2**16,)), np.float64)
    law = init.law(w.shape)
    assert abs(w.mean() - law.mean) < SIGMAS * law.std / math.sqrt(w.size)
    error = np.std((w - law.mean) ** 2) / math.sqrt(w.size)
    assert abs(((w - law.mean) ** 2).mean() - law.std**2) < SIGMAS * error
    # b = log(T - 1), and the extreme of n times is 15 ranges / n from the end once in
    # e¹⁵ = 3 million.
    longest, shortest, gates = (
        init.arguments[name] for name in ("max_length", "min_length", "gates")
    )
    slack = 15 * (longest - shortest) / (w.size / gates) / (shortest - 1)
    np.testing.assert_allclose((w.min(), w.max()), (law.low, law.high), atol=slack)


@pytest.mark.parametrize("p", [0.01, 0.5, 0.9])
def test_prior_probability_is_where_the_sigmoid_begins(p, key):
    layer = nn.Dense(7, bias_init=jaxinit.prior_probability(p))
    with jax.numpy_rank_promotion("allow"):
        y, _ = layer.init_with_output(key, jnp.zeros((2, 3)))
    np.testing.assert_allclose(jax.nn.sigmoid(y), p, rtol=1e-5)


def test_the_rarest_prior_is_finite(key):
    b = jaxinit.prior_probability(5e-324)(key, (1,))
    np.testing.assert_allclose(b, -1074 * math.log(2), rtol=1e-6)


# recurrent kernels


def state_after(steps: int, init: jaxinit.Initializer, key: jax.Array) -> np.ndarray:
    """How a ReLU network without input changes its state, relative to its size."""
    key_w, key_h = jax.random.split(key)
    w = init(key_w, (64, 64))
    h = jnp.abs(jax.random.normal(key_h, (16, 64)))
    after = jax.lax.fori_loop(0, steps, lambda _, h: jax.nn.relu(h @ w), h)
    change = jnp.linalg.norm(after - h, axis=1) / jnp.linalg.norm(h, axis=1)
    return np.asarray(change)


def test_the_identity_keeps_a_state_for_ever(key):
    assert not state_after(1000, jaxinit.identity(), fresh(key)).any()
    assert state_after(1000, jaxinit.orthogonal(), fresh(key)).min() > 0.5


def test_noise_forgets_after_its_time(key):
    """A step turns the state by stddev √n = 0.008, up to a spread of 1 / √(2 n).

    That is the spectral radius of the noise too: 1000 steps multiply by up to e⁸.
    """
    init = jaxinit.noisy_identity(1.0, 1e-3)
    once, spread = state_after(1, init, fresh(key)), SIGMAS / math.sqrt(2 * 64)
    assert abs(once / 0.008 - 1).max() < spread
    ten = (1 + 0.008 * (1 + spread)) ** 10 - 1  # if all turned one way
    assert state_after(10, init, fresh(key)).max() < ten
    assert state_after(1000, init, fresh(key)).min() > 1


def test_the_energy_of_a_noisy_identity():
    """E |h W|² = (gain² + n stddev²) |h|², over 4096 draws."""
    keys = jax.random.split(jax.random.key(2), 4096)
    h = np.ones(9) / 3
    w = jax.vmap(lambda k: jaxinit.noisy_identity(0.5, 0.2)(k, (9, 9)))(keys)
    energy = ((h @ np.asarray(w, np.float64)) ** 2).sum(axis=1)
    error = energy.std() / math.sqrt(energy.size)
    assert abs(energy.mean() - (0.25 + 9 * 0.04)) < SIGMAS * error
    assert abs(energy.mean() - 0.25) > SIGMAS * error


# state spaces


def legs_frequencies(size: int) -> np.ndarray:
    """The eigenvalues above the axis of HiPPO-LegS's normal part, largest first.

    A[n, k] is -√(2n + 1) √(2k + 1) below the diagonal and -(n + 1) on it; with the
    rank-one P Pᵀ, P = √(n + ½), it is -½ I and a skew matrix (Gu et al. 2020, 2022).
    """
    p = np.sqrt(np.arange(size) + 0.5)
    a = -np.tril(2 * np.outer(p, p), -1) - np.diag(np.arange(1.0, size + 1))
    eigenvalues = np.linalg.eigvals(a + np.outer(p, p))
    np.testing.assert_allclose(eigenvalues.real, -0.5, atol=1e-8)
    return np.sort(eigenvalues.imag)[::-1][: size // 2]


def test_s4d_inv_follows_hippo(key):
    """The largest is N² / π, and the formula N (N - 1) / π: they differ by 1 / N.

    Of the larger half each is nearer than to its double or its half, which are the
    next readings of N; the formula has no better claim for those between.
    """

    def follows(found: np.ndarray) -> bool:
        near = abs(np.log2(found[:16] / wanted[:16])) < 1 / 2
        largest = 64 * (1 - found[0] / wanted[0])
        return bool(near.all()) and abs(largest - 1) < 2 / 64  # the next order

    wanted = legs_frequencies(64)
    inverse = np.asarray(jaxinit.s4d_frequency("inv")(fresh(key), (32,)))
    linear = np.asarray(jaxinit.s4d_frequency()(fresh(key), (32,)))
    assert follows(inverse)
    assert not follows(linear[::-1])
    n = np.arange(32)
    assert not follows(32 / np.pi * (32 / (2 * n + 1) - 1))  # N for N / 2
    assert not follows(64 / np.pi * (64 / (2 * n + 1)))  # without the 1


def test_s4d_lin_is_a_fourier_series(key):
    """e^(t/2) Re e^(A t) are the cosines, orthogonal on [0, 1]."""
    decay, turn = jaxinit.s4d_decay(), jaxinit.s4d_frequency()
    a = -np.exp(decay(None, (8,))) + 1j * np.asarray(turn(None, (8,)))
    t = (np.arange(512) + 0.5) / 512
    waves = (
        np.real(np.exp(np.outer(t, np.asarray(a, complex)))) * np.exp(t / 2)[:, None]
    )
    gram = waves.T @ waves / 512
    np.testing.assert_allclose(gram, np.diag([1.0] + [0.5] * 7), atol=1e-5)
    inverse = np.asarray(jaxinit.s4d_frequency("inv")(fresh(key), (8,)))
    waves = np.cos(np.outer(t, inverse))
    assert abs(waves.T @ waves / 512 - gram).max() > 0.1


def test_every_row_of_a_spectrum_is_the_same(key):
    w = np.asarray(jaxinit.s4d_decay("real")(fresh(key), (3, 5)))
    np.testing.assert_allclose(np.exp(w), np.tile(np.arange(1, 6), (3, 1)), rtol=1e-6)


@pytest.mark.parametrize(("r_min", "r_max"), [(0.9, 0.999), (0.0, 1.0), (0.0, 0.5)])
def test_the_lrus_eigenvalues_are_uniform_on_the_ring(r_min, r_max, key):
    shape = (2**16,)
    nu = np.asarray(jaxinit.lru_nu(r_min, r_max)(fresh(key), shape), np.float64)
    theta = np.asarray(jaxinit.lru_theta()(jax.random.key(1), shape), np.float64)
    assert np.isfinite(nu).all() and np.isfinite(theta).all()
    modulus, phase = np.exp(-np.exp(nu)), np.exp(theta)

    def on_ring(modulus: np.ndarray) -> bool:
        ring = scipy.stats.uniform(r_min**2, r_max**2 - r_min**2)
        return bool(scipy.stats.kstest(modulus**2, ring.cdf).pvalue > 1e-6)

    assert on_ring(modulus)
    uniform = np.random.default_rng(0).uniform(r_min, r_max, shape)
    assert not on_ring(uniform)  # uniform radii crowd the centre
    circle = scipy.stats.uniform(0, 2 * np.pi)
    assert scipy.stats.kstest(phase, circle.cdf).pvalue > 1e-6


def test_the_lrus_state_has_the_variance_of_its_input(key):
    """h ← λ h + e^γ x for white x: E |h|² = 1, over 2048 units after 100 steps."""
    nu = jaxinit.lru_nu(0.2, 0.95)(fresh(key), (2048,))
    theta = jaxinit.lru_theta()(jax.random.key(1), (2048,))
    gamma = jaxinit.lru_gamma(nu)(None, (2048,))
    turn = jnp.exp(jax.lax.complex(-jnp.exp(nu), jnp.exp(theta)))

    def energy(gain: jax.Array) -> np.ndarray:
        x = jax.random.normal(jax.random.key(2), (100, 2048), jnp.complex64)
        h, _ = jax.lax.scan(lambda h, x: (turn * h + gain * x, None), turn - turn, x)
        return abs(np.asarray(h)) ** 2

    kept = energy(jnp.exp(gamma).astype(turn.dtype))
    assert abs(kept.mean() - 1) < SIGMAS * kept.std() / math.sqrt(kept.size)
    grown = energy(jnp.ones_like(turn))
    assert abs(grown.mean() - 1) > SIGMAS * grown.std() / math.sqrt(grown.size)


def test_gamma_of_a_traced_nu(key):
    nu = jaxinit.lru_nu()(fresh(key), (8,))
    known = jaxinit.lru_gamma(nu)(None, (8,))
    traced = jax.jit(lambda nu, k: jaxinit.lru_gamma(nu)(k, (8,)))(nu, fresh(key))
    np.testing.assert_allclose(traced, known, rtol=1e-5)
    with pytest.raises(ValueError, match=r"a value of shape \(8,\) does not fit"):
        jaxinit.lru_gamma(nu)(None, (9,))


@pytest.mark.parametrize("floor", [1e-4, 1e-2])
def test_mambas_steps_are_uniform_in_their_logarithm(floor, key):
    b = np.asarray(jaxinit.mamba_dt(floor=floor)(key, (2**16,)), np.float64)
    dt = np.log1p(np.exp(b))
    assert dt.min() >= max(1e-3, floor) * 0.9999 and dt.max() <= 0.10001
    free = dt[dt > floor * 1.0001]
    logs = scipy.stats.loguniform(max(1e-3, floor), 0.1)
    assert scipy.stats.kstest(free, logs.cdf).pvalue > 1e-6
    raised = 1 - free.size / dt.size
    share = 0.5 if floor == 1e-2 else 0.0  # 1e-2 is half way from 1e-3 to 1e-1
    assert abs(raised - share) <= SIGMAS * math.sqrt(share * (1 - share) / dt.size)
    wrong = np.random.default_rng(0).uniform(1e-3, 0.1, free.size)
    assert scipy.stats.kstest(wrong, logs.cdf).pvalue < 1e-6
    law = jaxinit.mamba_dt(floor=floor).law((1,))
    assert abs(b.mean() - law.mean) < SIGMAS * law.std / math.sqrt(b.size)
    assert abs(b.std() / law.std - 1) < SIGMAS / math.sqrt(b.size)
