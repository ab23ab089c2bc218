# SPDX-License-Identifier: Apache-2.0
"""The truncated normal, right in its tails.

Near the centre the entries are JAX's own: u uniform between Φ at the two bounds, and
Φ⁻¹(u). Far out Φ rounds to 1 and its inverse knows nothing; there the tail is inverted
by itself. With Q = 1 - Φ and Mills' ratio R(x) = Q(x) / φ(x), a draw x = a + d above a
far bound a solves Q(x) / Q(a) = v, v uniform on (Q(b) / Q(a), 1]:

    a d + d² / 2 - log(R(a + d) / R(a)) + log v = 0.

The first two terms dominate: d₀ = -2 log v / (a + √(a² - 2 log v)) solves the equation
without R, and since d/dx log Q = -1 / R, Newton's step is d ← d - f(d) R(a + d).
Everything is written in d, so nothing is lost to cancellation however far a lies. No
rejection: every entry costs the same.

References: Mills, "Table of the ratio: area to bounding ordinate", Biometrika 1926;
Marsaglia, "Generating a variable from the tail of the normal distribution", 1964.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import Shape
from jaxinit.core import checks as check
from jaxinit.samplers.normal import cast

FAR = 3.0  # standard deviations; beyond, float32 leaves Φ⁻¹ under 2¹⁶ values


def standard_truncated_normal(
    key: Any, shape: Shape, dtype: Any, lower: Any, upper: Any
) -> jax.Array:
    """z ~ N(0, 1) given lower <= z <= upper."""
    if check.is_traced(lower) or check.is_traced(upper):
        return _central(key, shape, dtype, lower, upper)
    if lower > FAR:
        return _tail(key, shape, dtype, lower, upper)
    if upper < -FAR:
        return -_tail(key, shape, dtype, -upper, -lower)
    return _central(key, shape, dtype, lower, upper)


def _central(key: Any, shape: Shape, dtype: Any, lower: Any, upper: Any) -> jax.Array:
    """√2 erf⁻¹(u), u uniform between erf at the bounds / √2."""
    low, high = jnp.asarray(lower, dtype), jnp.asarray(upper, dtype)
    one, sqrt2 = np.ones((), dtype), np.asarray(math.sqrt(2), dtype)
    u = jax.random.uniform(
        key, shape, dtype, jax.lax.erf(low / sqrt2), jax.lax.erf(high / sqrt2)
    )
    u = jnp.clip(u, np.nextafter(-one, one), np.nextafter(one, -one))
    inf = np.asarray(np.inf, dtype)
    return jnp.clip(
        sqrt2 * jax.lax.erf_inv(u), jnp.nextafter(low, inf), jnp.nextafter(high, -inf)
    )


def _tail(key: Any, shape: Shape, dtype: Any, a: float, b: float) -> jax.Array:
    """z given 3 < a <= z <= b, by Newton's method on the distance d = z - a."""
    width = b - a
    kept = -math.expm1(_log_tail(a, width)) if math.isfinite(b) else 1.0
    u = jax.random.uniform(key, shape, dtype)
    minus_log_v = -jnp.log1p(-u * cast(kept, dtype))
    a_, ratio_a = cast(a, dtype), cast(mills(np.float64(a)), dtype)
    d = 2 * minus_log_v / (a_ + jnp.sqrt(a_ * a_ + 2 * minus_log_v))
    for _ in range(2):
        ratio = mills(a_ + d)
        d -= (d * (a_ + d / 2) - jnp.log(ratio / ratio_a) - minus_log_v) * ratio
    return jnp.clip(a_ + d, a_, cast(b, dtype))


def mills(x: Any) -> Any:
    """Mills' ratio Q(x) / φ(x), by Laplace's continued fraction; for x >= 3.

    R(x) = 1 / (x + 1 / (x + 2 / (x + 3 / ...))): 28 terms leave a relative error of
    4e-12 at x = 3, and 1e-14 from 4 on.
    """
    tail = x
    for k in range(28, 0, -1):
        tail = x + k / tail
    return 1 / tail


def _log_tail(a: float, d: float) -> float:
    """log(Q(a + d) / Q(a)) on the host, for a >= 3."""
    return -d * (a + d / 2) + math.log(mills(a + d) / mills(a))


def moments(lower: float, upper: float) -> tuple[float, float]:
    """The mean and standard deviation of N(0, 1) cut at two bounds.

    By Gauss-Legendre quadrature of the density relative to its largest value, in the
    distance from there: no cancellation in the tails. Of traced bounds they are NaN.
    """
    if check.is_traced(lower) or check.is_traced(upper):
        return math.nan, math.nan
    return _moments(lower, upper)


@functools.lru_cache(maxsize=256)
def _moments(lower: float, upper: float) -> tuple[float, float]:
    if upper < -lower:  # the heavier side first
        mean, std = _moments(-upper, -lower)
        return -mean, std
    peak = max(lower, 0.0)
    low, high = max(lower - peak, -40.0), min(upper - peak, 40.0 / (1.0 + peak))
    nodes, weights = np.polynomial.legendre.leggauss(64)
    edges = np.linspace(low, high, 17)
    half = np.diff(edges)[:, None] / 2
    d = edges[:-1, None] + half * (1 + nodes)
    mass = half * weights * np.exp(-d * (peak + d / 2))
    mean = float((mass * d).sum() / mass.sum())
    variance = float((mass * (d - mean) ** 2).sum() / mass.sum())
    return peak + mean, math.sqrt(variance)
