# SPDX-License-Identifier: Apache-2.0
"""What several laws' tests share: bits, and tolerances derived from sample sizes."""

import math

import jax
import numpy as np

SIGMAS = 5.0  # a right answer fails one check in two million


def fresh(key: jax.Array) -> jax.Array:
    """The same key again, deliberately."""
    return jax.random.clone(key)


def bits(array: jax.Array) -> bytes:
    """An array's very bits."""
    return np.asarray(array).tobytes()


def z_of_mean(x: np.ndarray, mean: float, std: float) -> float:
    """How many standard errors the sample's mean is off."""
    return float((x.mean() - mean) / (std / math.sqrt(x.size)))


def z_of_variance(
    x: np.ndarray, mean: float, std: float, kurtosis: float = 3.0
) -> float:
    """How many standard errors the sample's variance is off, given E z⁴ of the law."""
    error = std**2 * math.sqrt((kurtosis - 1) / x.size)
    return float(((np.abs(x - mean) ** 2).mean() - std**2) / error)
