# SPDX-License-Identifier: Apache-2.0
"""What the schemes of the catalogue do to a signal, each by its paper's own claim."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats

import jaxinit
from tests.helpers import SIGMAS, fresh

QUICK = True  # see conftest.py


def error(samples: np.ndarray) -> float:
    """The standard error of the mean of independent samples."""
    return float(np.std(samples, ddof=1) / math.sqrt(len(samples)))


# SIREN

OMEGA = 30.0
FIXED_POINT = math.sqrt(1 + scipy.special.lambertw(-2 * math.exp(-2)).real / 2)


def sine_layers(hidden: jaxinit.Initializer, width: int = 256) -> np.ndarray:
    """The size of the pre-activations in the first and the 8th layer of 8 networks."""

    @jax.jit
    @jax.vmap
    def sizes(key):
        key_x, key_first, key_hidden = jax.random.split(key, 3)
        x = jax.random.uniform(key_x, (256, 2), minval=-1)
        first = OMEGA * x @ jaxinit.siren(OMEGA, first=True)(key_first, (2, width))

        kernels = jaxinit.stacked(hidden)(key_hidden, (7, width, width))
        last, _ = jax.lax.scan(
            lambda z, w: (OMEGA * jnp.sin(z) @ w, None), first, kernels
        )
        return jnp.stack([jnp.std(first), jnp.std(last)])

    return np.asarray(sizes(jax.random.split(jax.random.key(3), 8)))


def test_sirens_settle_at_the_fixed_point():
    assert abs(FIXED_POINT - 0.89264334) < 1e-8
    sizes = sine_layers(jaxinit.siren(OMEGA))
    first, last = sizes[:, 0], sizes[:, -1]
    assert abs(first.mean() - OMEGA / (3 * math.sqrt(2))) < SIGMAS * error(first)
    assert abs(last.mean() - FIXED_POINT) < SIGMAS * error(last)
    assert abs(last.mean() - 1) > SIGMAS * error(last)  # what the paper says of it


def test_glorots_sines_do_not_settle_there():
    last = sine_layers(jaxinit.glorot_uniform())[:, -1]
    assert abs(last.mean() - FIXED_POINT) > SIGMAS * error(last)


@pytest.mark.parametrize("omega", [1.0, 30.0])
def test_the_first_siren_does_not_depend_on_omega(omega, key):
    w = jaxinit.siren(omega, first=True)(fresh(key), (3, 64))
    assert 0.9 / 3 < float(abs(w).max()) <= 1 / 3
    chex.assert_trees_all_equal(w, jaxinit.siren(first=True)(fresh(key), (3, 64)))


# complex weights


@pytest.mark.parametrize(
    ("criterion", "sigma"), [("glorot", (300 + 200) ** -0.5), ("he", 300**-0.5)]
)
def test_the_modulus_is_rayleighs_and_the_phase_uniform(criterion, sigma, key):
    w = jaxinit.rayleigh(criterion)(key, (300, 200), "complex64")
    r, phase = np.abs(w).ravel(), np.angle(w).ravel()
    rayleighs = scipy.stats.rayleigh(0, sigma)
    assert scipy.stats.kstest(r, rayleighs.cdf).pvalue > 1e-6
    assert (
        scipy.stats.kstest(phase, scipy.stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue
        > 1e-6
    )
    z = (np.mean(r**2) / (2 * sigma**2) - 1) * math.sqrt(r.size)  # |w|² is exponential
    assert abs(z) < SIGMAS
    # a normal modulus; and σ² for σ, as the authors' code has it
    assert scipy.stats.kstest(r, scipy.stats.halfnorm(0, sigma).cdf).pvalue < 1e-6
    assert scipy.stats.kstest(r, scipy.stats.rayleigh(0, sigma**2).cdf).pvalue < 1e-6


def test_orthogonal_is_unitary_in_complex_dtypes():
    """An entry of a Haar unitary matrix of size 3 has |w|² of Beta(1, 2), any phase."""
    keys = jax.random.split(jax.random.key(6), 4096)
    w = np.asarray(
        jax.vmap(lambda k: jaxinit.orthogonal()(k, (3, 3), "complex64"))(keys)
    )
    gram = w @ w.conj().swapaxes(-1, -2)
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(3), gram.shape), atol=1e-5)
    square, phase = abs(w[:, 0, 1]) ** 2, np.angle(w[:, 0, 1])
    assert scipy.stats.kstest(square, scipy.stats.beta(1, 2).cdf).pvalue > 1e-6
    assert (
        scipy.stats.kstest(phase, scipy.stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue
        > 1e-6
    )
    real = scipy.stats.beta(0.5, 1).cdf  # that of a real orthogonal matrix
    assert scipy.stats.kstest(square, real).pvalue < 1e-6


# random Fourier features


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_fourier_features_average_to_a_gaussian_kernel(scale, key):
    m, steps = 2**16, np.array([[0.0, 0.0], [0.1, 0.05], [0.2, -0.3], [0.4, 0.4]])

    def kernel(scale: float) -> np.ndarray:
        return np.exp(-2 * np.pi**2 * scale**2 * (steps**2).sum(1))

    def of(init: jaxinit.Initializer) -> np.ndarray:
        """The features of points a step apart, multiplied."""
        b = np.asarray(init(fresh(key), (2, m)), np.float64)
        gamma = [
            np.concatenate([f(2 * np.pi * x @ b) for f in (np.cos, np.sin)], -1)
            for x in (np.zeros_like(steps) + 0.3, steps + 0.3)
        ]
        return (gamma[0] * gamma[1]).sum(-1) / m

    found = of(jaxinit.fourier_features(scale))
    # z normal, E cos z = k: E cos 2z = k⁴ and Var cos z = (1 + k⁴) / 2 - k²
    k = kernel(scale)
    errors = np.sqrt(((1 + k**4) / 2 - k**2) / m)
    assert (abs(found - k) <= SIGMAS * errors + 1e-9).all()
    wrong = kernel(scale / (2 * np.pi))  # frequencies taken for angular ones
    assert (abs(found - wrong) > SIGMAS * errors + 1e-9).any()
    other = of(jaxinit.uniform_between(-scale, scale))
    assert (abs(other - k) > SIGMAS * errors + 1e-9).any()


# Hadamard


@pytest.mark.parametrize("shape", [(8, 8), (5, 16), (64, 32), (1, 2), (1, 1)], ids=str)
def test_hadamard_is_an_isometry_for_powers_of_two(shape, key):
    w = np.asarray(jaxinit.hadamard(2.0)(key, shape))
    singular = np.linalg.svd(w, compute_uv=False)
    np.testing.assert_allclose(singular, 2.0, rtol=1e-5)
    if shape[0] < shape[1]:
        assert (abs(w) == abs(w).max()).all()  # every output meets every input


@pytest.mark.parametrize("shape", [(20, 48), (2, 3), (5, 7), (33, 65)], ids=str)
def test_hadamard_of_other_sizes_is_cut(shape, key):
    w = np.asarray(jaxinit.hadamard()(key, shape), np.float64)
    norm = math.sqrt(shape[1] / 2 ** math.ceil(math.log2(shape[1])))
    assert norm > 0.7
    np.testing.assert_allclose(np.linalg.norm(w, axis=1), norm, rtol=1e-6)
    singular = np.linalg.svd(w, compute_uv=False)
    assert singular.max() < 1 + 1e-6 and singular.min() < 0.999


def test_hadamard_is_scipys(key):
    wanted = scipy.linalg.hadamard(16)[:5, :11] / 4
    np.testing.assert_array_equal(jaxinit.hadamard()(key, (5, 11)), wanted)


@pytest.mark.parametrize(
    "shape", [(5, 7), (3, 3, 20, 48), (4, 9, 4), (31, 33)], ids=str
)
def test_the_moments_of_hadamard(shape, key):
    init = jaxinit.hadamard(-0.5)
    w, law = np.asarray(init(key, shape), np.float64), init.law(shape)
    np.testing.assert_allclose((law.mean, law.std), (w.mean(), w.std()), rtol=1e-6)
    assert (w.min(), w.max()) == pytest.approx((law.low, law.high))


def test_hadamards_signs_need_a_signed_dtype(key):
    whole = jaxinit.hadamard(2)(fresh(key), (2, 4), "int8").tolist()
    assert whole == [[1, 1, 1, 1], [1, -1, 1, -1]]
    with pytest.raises(ValueError, match=r"-1\.0 is not a uint8"):
        jaxinit.hadamard(2)(fresh(key), (2, 4), "uint8")


def test_a_hadamard_convolution_acts_on_each_position_alone(key):
    w = np.asarray(jaxinit.hadamard()(fresh(key), (4, 3, 2, 4)))
    np.testing.assert_array_equal(w[1, 1], jaxinit.hadamard()(fresh(key), (2, 4)))
    assert np.count_nonzero(w) == 8


# the spectral condition


def test_the_norm_of_spectral_normals_is_that_of_theory():
    """‖W‖₂ / √(out / in) → 1 + √(min / max) within n^(-2/3) (Tracy and Widom)."""
    sizes = [(128, 512), (512, 128), (256, 256)]
    for shape in sizes:
        target = math.sqrt(shape[1] / shape[0])
        theory = 1 + math.sqrt(min(shape) / max(shape))
        error = max(shape) ** (-2 / 3) * SIGMAS
        w = np.asarray(jaxinit.spectral_normal()(jax.random.key(1), shape))
        assert abs(np.linalg.norm(w, 2) / target - theory) < error
        if shape[0] > shape[1]:  # LeCun's narrowing layer is too large
            w = np.asarray(jaxinit.lecun_normal()(jax.random.key(1), shape))
            assert np.linalg.norm(w, 2) / target > 2


@pytest.mark.parametrize("shape", [(24, 96), (96, 24)], ids=str)
def test_all_singular_values_of_spectral_orthogonals_are_the_norm(shape, key):
    w = np.asarray(jaxinit.spectral_orthogonal(0.5)(key, shape))
    wanted = 0.5 * math.sqrt(shape[1] / shape[0])
    singular = np.linalg.svd(w, compute_uv=False)
    np.testing.assert_allclose(singular, wanted, rtol=1e-5)


def test_a_widening_spectral_layer_keeps_the_size_of_entries(key):
    w = jaxinit.spectral_orthogonal(0.5)(fresh(key), (24, 96))
    x = np.asarray(jax.random.normal(fresh(key), (7, 24)))
    before, after = ((v**2).mean(axis=1) for v in (x, x @ w))
    np.testing.assert_allclose(after, before / 4, rtol=1e-4)
    shrunk = ((x @ jaxinit.orthogonal()(fresh(key), (24, 96))) ** 2).mean(axis=1)
    np.testing.assert_allclose(shrunk * 4, before, rtol=1e-4)


def test_the_recipe_and_the_initializer_are_one_law():
    tree = {"kernel": jax.ShapeDtypeStruct((96, 24), "float32")}
    (row,) = jaxinit.describe_tree(tree, jaxinit.rules.spectral(0.5)).rows
    assert row.std == jaxinit.spectral_normal(0.5).law((96, 24)).std
