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

from jaxinit import _checks as check
from jaxinit._checks import DType, Real, Shape
from jaxinit._distributions import cast, shifted, truncated_disk
from jaxinit._initializer import Init, Law, LawOf, initializer

FAR = 3.0  # standard deviations; beyond, float32 leaves Φ⁻¹ under 2¹⁶ values


@initializer
def truncated_normal(
    stddev: Real = 1e-2,
    dtype: DType = None,
    lower: Real = -2.0,
    upper: Real = 2.0,
    *,
    mean: Real = 0.0,
    correct_std: bool = False,
) -> tuple[Init, LawOf]:
    """JAX's truncated normal: a normal cut at bounds counted in standard deviations.

    An entry is mean + stddev · z, z ~ N(0, 1) given lower <= z <= upper. Cutting
    narrows it: at ±2 its standard deviation is 0.8796 stddev, unless
    `correct_std=True` widens it so that stddev is what comes out (then the bounds
    widen too). Bounds may be infinite, one-sided or far in a tail.

    Entries are JAX's where its inverse of Φ is sound; beyond 3 standard deviations,
    and at a bound that JAX would return for u = 0, they are drawn from the tail
    itself. Complex entries have a circular law whose modulus is cut at `upper`, and
    need lower = -upper; uncut, E |w - mean|² would be stddev².

    The uncorrected variance scaling of Haiku, Mesh TensorFlow and tf.contrib is
    `variance_scaling(0.8796256610342398**2 * scale, mode, "truncated_normal")`
    (tf.contrib multiplies scale by 1.3 besides).

    Args:
        stddev: the standard deviation before the cut, not negative.
        dtype: the default dtype of the calls, float or complex.
        lower, upper: the bounds of z.
        mean: the centre of the uncut normal.
        correct_std: make stddev the standard deviation after the cut.

    Raises:
        ValueError: unless lower < upper, or for a negative stddev.

    Example:
        >>> import jax, jaxinit
        >>> w = jaxinit.truncated_normal(0.02)(jax.random.key(0), (512, 512))
        >>> bool(abs(w).max() <= 0.04)
        True
        >>> far = jaxinit.truncated_normal(1.0, lower=8.0, upper=9.0)
        >>> bool(abs(far(jax.random.key(0), (4096,)).mean() - 8.1213) < 0.01)
        True
    """
    stddev = check.number("stddev", stddev, low=0)
    lower = check.number("lower", lower, finite=False)
    upper = check.number("upper", upper, finite=False)
    mean = check.number("mean", mean)
    check.ordered("lower", lower, "upper", upper)
    correct_std = check.flag("correct_std", correct_std)
    if correct_std and (check.is_traced(lower) or check.is_traced(upper)):
        raise TypeError("correct_std needs bounds that are known before jit")

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        if jnp.issubdtype(dtype, jnp.complexfloating):
            if lower != -upper:
                raise TypeError(
                    "a complex truncated normal cuts the modulus and needs "
                    f"lower = -upper, got lower={lower!r} and upper={upper!r}"
                )
            z = truncated_disk(key, upper, shape, dtype)
            after = modulus_std(upper) if correct_std else 1.0
        else:
            z = cut_normal(key, shape, dtype, lower, upper)
            after = moments(lower, upper)[1] if correct_std else 1.0
        return shifted(z * cast(stddev / after, dtype), mean)

    def law(shape: Shape) -> Law:
        m, s = moments(lower, upper)
        std = stddev / s if correct_std else stddev
        ends = (mean + std * lower, mean + std * upper) if std else (mean, mean)
        return Law(mean + std * m, std * s, *ends, bounded=True)

    return init, law


@initializer
def trunc_normal(
    mean: Real = 0.0,
    std: Real = 1.0,
    a: Real = -2.0,
    b: Real = 2.0,
    dtype: DType = None,
) -> tuple[Init, LawOf]:
    """PyTorch's `trunc_normal_`: N(mean, std²) cut at the absolute bounds a and b.

    The bounds do not scale with std: with std = 0.02 the default ±2 lies 100
    standard deviations away and cuts nothing. (JAX's bounds, in standard deviations,
    are `truncated_normal`'s.)

    Args:
        mean: the centre of the uncut normal; it may lie outside the bounds.
        std: the standard deviation before the cut, positive.
        a, b: the bounds of the entries.
        dtype: the default dtype of the calls, a float.

    Raises:
        ValueError: unless a < b and std > 0.

    Example:
        >>> import jax, jaxinit
        >>> w = jaxinit.trunc_normal(std=0.02, a=-0.03)(jax.random.key(0), (64, 64))
        >>> bool(w.min() >= -0.03)
        True
    """
    mean = check.number("mean", mean)
    std = check.number("std", std, above=0)
    a = check.number("a", a, finite=False)
    b = check.number("b", b, finite=False)
    check.ordered("a", a, "b", b)
    lower, upper = (a - mean) / std, (b - mean) / std

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise TypeError(
                f"trunc_normal cuts an interval and has no {np.dtype(dtype).name} "
                "form; use truncated_normal, which cuts the modulus"
            )
        z = cut_normal(key, shape, dtype, lower, upper)
        return jnp.clip(
            shifted(z * cast(std, dtype), mean), cast(a, dtype), cast(b, dtype)
        )

    def law(shape: Shape) -> Law:
        m, s = moments(lower, upper)
        return Law(mean + std * m, std * s, a, b, bounded=True)

    return init, law


def cut_normal(key: Any, shape: Shape, dtype: Any, lower: Any, upper: Any) -> jax.Array:
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


@functools.lru_cache(maxsize=256)
def moments(lower: float, upper: float) -> tuple[float, float]:
    """The mean and standard deviation of N(0, 1) cut at two bounds.

    By Gauss-Legendre quadrature of the density relative to its largest value, in the
    distance from there: no cancellation in the tails.
    """
    if upper < -lower:  # the heavier side first
        mean, std = moments(-upper, -lower)
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


def modulus_std(cut: float) -> float:
    """√E |z|² of a circular complex normal, E |z|² = 1 before its modulus is cut."""
    squared = min(cut, 26.0) ** 2  # beyond, e^(-cut²) is nothing
    return math.sqrt(1 - squared / math.expm1(squared))
