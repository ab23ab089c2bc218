# SPDX-License-Identifier: Apache-2.0
"""The truncated normal where it is hard: in the tails, one-sided, far, lopsided."""

import jax
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxinit
from jaxinit.samplers import modulus_std, moments
from jaxinit.samplers.truncated_normal import mills
from tests.helpers import SIGMAS, fresh, z_of_mean

QUICK = True  # see conftest.py

INF = float("inf")
N = 2**16

BOUNDS = [
    (-2.0, 2.0),
    (-INF, INF),
    (-INF, 0.0),
    (0.0, INF),
    (-0.1, 0.2),
    (-10.0, 1.0),
    (2.5, 6.0),
    (2.999, 3.5),
    (3.001, 3.5),
    (5.0, 5.01),
    (8.0, 9.0),
    (-9.0, -8.0),
    (8.0, INF),
    (-INF, -8.0),
    (30.0, 40.0),
    (200.0, INF),
]


def draw(lower: float, upper: float, dtype: str = "float32") -> np.ndarray:
    init = jaxinit.truncated_normal(1.0, lower=lower, upper=upper)
    return np.asarray(init(jax.random.key(4), (N,), dtype), np.float64)


def uniforms(x: np.ndarray, lower: float, upper: float) -> np.ndarray:
    """P(X <= x), by logarithms of tails; uniform if x has the law."""
    if lower > 0:
        return 1 - uniforms(-x, -upper, -lower)
    log_low, log_high = scipy.stats.norm.logcdf([lower, upper])
    log_x = scipy.stats.norm.logcdf(x)
    return (
        np.expm1(log_x - log_low) / np.expm1(log_high - log_low)
        if (log_low > -INF)
        else np.exp(log_x - log_high)
    )


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("lower", "upper"), BOUNDS)
def test_the_law_between_any_bounds(lower, upper, dtype):
    with jax.enable_x64(dtype == "float64"):
        x = draw(lower, upper, dtype)
    mean, std = moments(lower, upper)
    assert np.isfinite(x).all()
    assert lower <= x.min() and x.max() <= upper
    assert abs(z_of_mean(x, mean, std)) < SIGMAS
    assert abs(x.std() / std - 1) < SIGMAS * np.sqrt(2 / N)  # E z⁴ <= 9 in a tail
    assert scipy.stats.kstest(uniforms(x, lower, upper), "uniform").pvalue > 1e-6
    spread = np.unique(x).size / min(N, std / np.spacing(np.float32(abs(mean) + 1)))
    assert spread > 0.2  # not a handful of values


def test_jax_in_the_tail_is_rejected():
    theirs = jax.random.truncated_normal(jax.random.key(4), 8.0, 9.0, (N,))
    x = np.asarray(theirs, np.float64)
    assert abs(z_of_mean(x, *moments(8.0, 9.0))) > 100


@pytest.mark.thorough
def test_jax_at_an_infinite_bound_is_rejected():
    """JAX's u reaches -1 once in 2²³ draws, and Φ⁻¹ falls out of the world."""
    many = jaxinit.truncated_normal(1.0, lower=-INF, upper=0.0)
    key = jax.random.key(0)
    ours = many(fresh(key), (2**24,))
    theirs = jax.random.truncated_normal(fresh(key), -INF, 0.0, (2**24,))
    assert float(ours.min()) > -6
    assert float(theirs.min()) < -1e30


@settings(max_examples=60)
@given(lower=st.floats(-30, 30), width=st.floats(0.01, 20))
def test_moments_agree_with_scipy(lower, width):
    mean, std = moments(lower, lower + width)
    law = scipy.stats.truncnorm(lower, lower + width)
    assert mean == pytest.approx(law.mean(), rel=1e-6, abs=1e-9)
    assert std == pytest.approx(law.std(), rel=1e-4)


def test_moments_where_they_are_known():
    assert moments(-2, 2)[1] == pytest.approx(0.87962566103423978, rel=1e-14)
    assert moments(-3, 3)[1] == pytest.approx(0.98657839255810862, rel=1e-14)
    assert moments(-INF, INF) == pytest.approx((0, 1), abs=1e-14)
    half = (np.sqrt(2 / np.pi), np.sqrt(1 - 2 / np.pi))
    assert moments(0, INF) == pytest.approx(half, rel=1e-14)
    assert moments(-INF, 0) == pytest.approx((-half[0], half[1]), rel=1e-14)
    far = 1e4  # exponential of rate a there
    assert moments(far, INF)[0] - far == pytest.approx(1 / far, rel=1e-6)
    assert moments(far, INF)[1] == pytest.approx(1 / far, rel=1e-6)


def test_mills_ratio():
    for x in (3.0, 3.7, 5.0, 12.0, 30.0):
        exact = np.exp(scipy.stats.norm.logsf(x) - scipy.stats.norm.logpdf(x))
        assert mills(x) == pytest.approx(exact, rel=1e-11)


def test_the_modulus():
    assert modulus_std(2.0) == pytest.approx(0.96196182800821354, rel=1e-14)
    assert modulus_std(INF) == 1.0


def test_correct_std_makes_stddev_what_comes_out():
    for lower, upper in ((-2.0, 2.0), (-1.0, 3.0), (4.0, INF)):
        init = jaxinit.truncated_normal(0.5, lower=lower, upper=upper, correct_std=True)
        x = np.asarray(init(jax.random.key(1), (N,)), np.float64)
        assert abs(x.std() / 0.5 - 1) < SIGMAS * np.sqrt(2 / N)
    z = np.asarray(
        jaxinit.truncated_normal(0.5, correct_std=True)(
            jax.random.key(1), (N,), "complex64"
        )
    )
    assert abs((abs(z) ** 2).mean() / 0.25 - 1) < SIGMAS * np.sqrt(1 / N)


def test_torch_bounds_are_absolute():
    """std = 0.02 with the default bounds ±2 cuts nothing."""
    key = jax.random.key(9)
    cut = np.asarray(jaxinit.trunc_normal(std=0.02)(fresh(key), (N,)), np.float64)
    assert abs(z_of_mean(cut**2, 4e-4, 4e-4 * np.sqrt(2))) < SIGMAS
    assert abs(cut).max() > 0.06
    jax_style = jaxinit.truncated_normal(0.02)(fresh(key), (N,))
    assert float(abs(jax_style).max()) <= 0.04
    beside = jaxinit.trunc_normal(mean=-3.0, std=1.0, a=1.0, b=2.0)(fresh(key), (N,))
    assert 1.0 <= float(beside.min()) < 1.01 < float(beside.max()) <= 2.0


def test_haikus_uncorrected_recipe():
    """variance_scaling at 0.8796² of the scale is the truncated normal of Haiku."""
    key = jax.random.key(2)
    recipe = jaxinit.variance_scaling(
        0.8796256610342398**2, "fan_in", "truncated_normal"
    )
    haiku = jaxinit.truncated_normal(100**-0.5)
    ours, theirs = recipe(fresh(key), (100, 30)), haiku(fresh(key), (100, 30))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def loops(init) -> int:
    """The loops of a compiled draw: a rejection would be one."""
    program = jax.jit(lambda k: init(k, (64, 64))).lower(jax.random.key(0)).compile()
    return (program.as_text() or "").count(" while(")


@pytest.mark.parametrize(
    ("lower", "upper"), [(-2.0, 2.0), (8.0, 9.0), (0.0, INF), (200.0, INF)]
)
def test_no_loop_and_no_rejection(lower, upper):
    assert loops(jaxinit.truncated_normal(1.0, lower=lower, upper=upper)) == 0


def test_the_search_for_loops_can_fail():
    def until_within(key, shape):
        def again(drawn):
            key, _ = drawn
            key, sub = jax.random.split(key)
            return key, jax.random.normal(sub, shape)

        start = again((key, None))
        return jax.lax.while_loop(lambda drawn: (drawn[1] < 2).any(), again, start)[1]

    assert loops(until_within) > 0
