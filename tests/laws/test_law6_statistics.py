# SPDX-License-Identifier: Apache-2.0
"""Law 6: mean, variance and shape of every distribution.

Moments by z-tests (they find an error of scale of a percent), the shape by
Kolmogorov and Smirnov's. Seeds are fixed; a right answer fails at five standard
errors. Every check is shown to reject the nearest wrong answer.
"""

import dataclasses
import functools
import math

import jax
import numpy as np
import pytest
import scipy.stats

import jaxinit
from tests.cases import (
    FAN_IN,
    RANDOM,
    WITH_LAW,
    Case,
    ids,
    one_a_program,
    program,
)
from tests.helpers import SIGMAS, fresh, z_of_mean, z_of_variance

PROGRAMS = one_a_program(WITH_LAW)


def sample(case: Case, dtype: str = "float32") -> np.ndarray:
    array = np.asarray(case.init(jax.random.key(11), case.shape, dtype)).ravel()
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def fits(case: Case, x: np.ndarray) -> bool:
    """Whether mean, variance, shape and support are those of the case's law."""
    mean, std = case.law.mean(), case.law.std()
    low, high = case.law.support()
    slack = 1e-6 * max(abs(x).max(), std)
    return bool(
        abs(z_of_mean(x, mean, std)) < SIGMAS
        and abs(z_of_variance(x, mean, std, case.kurtosis)) < SIGMAS
        and scipy.stats.kstest(x, case.law.cdf).pvalue > 1e-6
        and low - slack <= x.min()
        and x.max() <= high + slack
    )


@functools.cache
def right(case: Case) -> bool:
    return fits(case, sample(case))


@pytest.mark.parametrize("case", PROGRAMS, ids=ids)
def test_the_entries_have_the_law(case):
    assert right(case)


@pytest.mark.parametrize("case", [c for c in WITH_LAW if c not in PROGRAMS], ids=ids)
def test_equal_programs_differ_by_the_standard_deviation_that_they_state(case, key):
    """What was sampled of one holds of the others, whose scale is another number."""
    (first,) = (c for c in PROGRAMS if program(c) == program(case))
    ratio = case.init.law(case.small).std / first.init.law(case.small).std
    one, other = (c.init(fresh(key), case.small) for c in (first, case))
    # Two roundings in each product, and one here.
    np.testing.assert_allclose(other, np.float32(ratio) * one, rtol=5 * 2**-24)


@pytest.mark.parametrize("case", WITH_LAW, ids=ids)
def test_the_law_they_state_is_theirs(case):
    law = case.init.law(case.shape)
    low, high = case.law.support()
    stated = (law.mean, law.std, law.low, law.high)
    wanted = (case.law.mean(), case.law.std(), low, high)
    np.testing.assert_allclose(stated, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", [c for c in RANDOM if c.law is None], ids=ids)
def test_the_moments_of_the_others(case):
    """Entries that depend on one another: the stated standard deviation is exact
    for orthogonal matrices, whose squared entries sum to the rank."""
    law, x = case.init.law(case.shape), sample(case)
    error = law.std / math.sqrt(x.size)
    assert abs(x.mean() - law.mean) < SIGMAS * error
    assert abs(np.sqrt((x**2).mean()) / law.std - 1) < 0.01
    assert law.low - 1e-6 <= x.min() <= x.max() <= law.high + 1e-6


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("lecun_normal", jaxinit.lecun_normal(in_axis=-1, out_axis=-2)),  # fan_out
        ("he_normal", jaxinit.truncated_normal(math.sqrt(2 / FAN_IN))),  # not restored
        ("he_normal", jaxinit.kaiming_normal()),  # not truncated
        ("he_uniform", jaxinit.uniform(math.sqrt(6 / FAN_IN))),  # not centred
        ("glorot_uniform", jaxinit.lecun_uniform()),  # fan_in
        ("xavier_normal", jaxinit.xavier_normal(1.65)),  # a gain 1 % off
        ("kaiming_normal", jaxinit.kaiming_normal("fan_out", "gelu")),  # another gain
        ("normal", jaxinit.normal(0.101)),  # a standard deviation 1 % off
        ("normal", jaxinit.uniform_between(-0.1 * 3**0.5, 0.1 * 3**0.5)),  # the shape
        ("truncated_normal", jaxinit.trunc_normal(0.0, 0.1)),  # absolute bounds
        ("truncated_normal", jaxinit.truncated_normal(0.1, correct_std=True)),
        ("trunc_normal", jaxinit.trunc_normal(0.48, 1.0, -1.0, 1.0)),
        ("scaled", jaxinit.he_normal()),
        ("stacked", jaxinit.lecun_uniform()),  # the stack counted as a window
    ],
    ids=str,
)
def test_the_nearest_wrong_answers_are_rejected(name, wrong):
    case = next(case for case in WITH_LAW if name in case.names)
    assert right(case)
    assert not fits(case, sample(dataclasses.replace(case, init=wrong)))


@pytest.mark.sweep
@pytest.mark.parametrize(
    "case", [c for c in PROGRAMS if c.complex and c.law.mean() == 0], ids=ids
)
def test_complex_entries_are_circular(case):
    z = sample(case, "complex64")
    n, variance = z.size, case.complex_factor * case.law.var()
    assert abs(z.mean()) < SIGMAS * math.sqrt(variance / n)
    assert abs((abs(z) ** 2).mean() / variance - 1) < SIGMAS * math.sqrt(2 / n)
    assert abs((z**2).mean()) < SIGMAS * variance * math.sqrt(2 / n)


@pytest.mark.parametrize("mode", ["normal", "truncated_normal", "uniform"])
def test_the_modulus_of_complex_entries(mode):
    init = jaxinit.variance_scaling(
        1.0, "fan_in", mode, fans=jaxinit.Fans.explicit(1, 1)
    )
    z = np.asarray(init(jax.random.key(5), (2**16,), "complex64"))
    cut = 1 - math.exp(-4)
    cdf = {
        "normal": lambda r: 1 - np.exp(-(r**2)),
        "truncated_normal": lambda r: (1 - np.exp(-((r * STD) ** 2))) / cut,
        "uniform": lambda r: r**2 / 2,
    }[mode]
    assert scipy.stats.kstest(abs(z), cdf).pvalue > 1e-6
    phase = scipy.stats.uniform(-np.pi, 2 * np.pi)
    assert scipy.stats.kstest(np.angle(z), phase.cdf).pvalue > 1e-6
    wrong = scipy.stats.kstest(0.98 * abs(z), cdf)  # JAX's constant is 1 % off
    assert wrong.pvalue < 1e-6


STD = math.sqrt((1 - 5 * math.exp(-4)) / (1 - math.exp(-4)))


def test_complex_uniform_is_a_disk_of_its_radius():
    z = np.asarray(jaxinit.uniform(0.5)(jax.random.key(5), (2**16,), "complex64"))
    assert scipy.stats.kstest(abs(z), lambda r: (r / 0.5) ** 2).pvalue > 1e-6
    assert abs(z).max() <= 0.5


def test_entries_are_independent():
    """Neighbours along each axis are uncorrelated, and rows are not repeated."""
    w = np.asarray(jaxinit.kaiming_normal()(jax.random.key(2), (512, 256)))
    for one, other in ((w[1:], w[:-1]), (w[:, 1:], w[:, :-1])):
        correlation = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert abs(correlation) < SIGMAS / math.sqrt(one.size)
    assert len(np.unique(w, axis=0)) == 512
