# SPDX-License-Identifier: Apache-2.0
"""Truncated normals, with bounds in standard deviations or absolute ones."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import DType, Init, Law, LawOf, Real, Shape, initializer
from jaxinit.core import checks as check
from jaxinit.samplers import (
    add_mean,
    cast,
    modulus_std,
    moments,
    standard_truncated_normal,
    truncated_disk,
)


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
        stddev: the standard deviation (JAX's name for it) before the cut, not
            negative.
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
    check.order("lower", lower, "upper", upper)
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
            z = standard_truncated_normal(key, shape, dtype, lower, upper)
            after = moments(lower, upper)[1] if correct_std else 1.0
        return add_mean(z * cast(stddev / after, dtype), mean)

    def law(shape: Shape) -> Law:
        m, s = moments(lower, upper)
        std = stddev / s if correct_std else stddev
        flat = not check.is_traced(std) and std == 0  # 0 · ∞ is no number
        ends = (mean, mean) if flat else (mean + std * lower, mean + std * upper)
        centre, spread = mean + std * m, std * s
        return Law(centre, spread, *ends, bounded=True, density="truncated_normal")

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
    check.order("a", a, "b", b)
    lower, upper = (a - mean) / std, (b - mean) / std

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise TypeError(
                f"trunc_normal cuts an interval and has no {np.dtype(dtype).name} "
                "form; use truncated_normal, which cuts the modulus"
            )
        z = standard_truncated_normal(key, shape, dtype, lower, upper)
        return jnp.clip(
            add_mean(z * cast(std, dtype), mean), cast(a, dtype), cast(b, dtype)
        )

    def law(shape: Shape) -> Law:
        m, s = moments(lower, upper)
        centre, spread = mean + std * m, std * s
        return Law(centre, spread, a, b, bounded=True, density="truncated_normal")

    return init, law
