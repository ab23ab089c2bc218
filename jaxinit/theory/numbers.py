# SPDX-License-Identifier: Apache-2.0
"""Numbers that are known on the host, and functions of one number or of arrays."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from jaxinit.core import Real
from jaxinit.core import checks as check

Numbers: TypeAlias = Any  # a number, or an array of them: the answer has its shape


def host_number(name: str, value: Real, **limits: Any) -> float:
    """A number that is known on the host, within the limits of `check.number`."""
    if check.is_traced(value):
        raise TypeError(
            f"{name} must be a number known on the host, got a traced value; compute "
            "outside jax.jit"
        )
    return float(check.number(name, value, **limits))


def numbers_of(name: str, values: Numbers) -> np.ndarray:
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name} must be a number or an array, known on the host, got {values!r}"
        ) from None


def lengths_of(name: str, q: Numbers) -> np.ndarray:
    q = numbers_of(name, q)
    if not ((q >= 0) & (q < math.inf)).all():
        raise ValueError(f"{name} must be >= 0 and finite, got {q}")
    return q


def covariance_of(k: Numbers, q1: Numbers, q2: Numbers) -> tuple[np.ndarray, ...]:
    """Covariances and variances that belong together, as arrays."""
    k, q1, q2 = numbers_of("k", k), lengths_of("q1", q1), lengths_of("q2", q2)
    if not (abs(k) <= np.sqrt(q1 * q2) * (1 + 1e-12)).all():
        raise ValueError(
            f"k must be at most √(q1 q2), got k = {k}, q1 = {q1}, q2 = {q2}"
        )
    return k, q1, q2


def vectorize(function: Callable[..., float], *values: Any) -> Any:
    """A function of numbers over arrays."""
    return scalar_or_array(np.vectorize(function, otypes=[float])(*values))


def scalar_or_array(found: Any) -> Any:
    """A float where there is but one number."""
    return found if np.ndim(found) else float(found)
