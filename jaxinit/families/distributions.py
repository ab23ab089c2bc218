# SPDX-License-Identifier: Apache-2.0
"""Independent entries from a fixed distribution: normal and uniform."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxinit.core import DType, Init, Law, LawOf, Real, Shape, initializer
from jaxinit.core import checks as check
from jaxinit.samplers import add_mean, cast, disk, next_toward, real_of, standard_normal


@initializer
def normal(
    stddev: Real = 1e-2, dtype: DType = None, *, mean: Real = 0.0
) -> tuple[Init, LawOf]:
    """JAX's normal, PyTorch's `normal_`: independent entries of N(mean, stddev²).

    Complex entries are circular around the mean: E |w - mean|² = stddev², half of it
    in each part.

    Args:
        stddev: the standard deviation (JAX's name for it), not negative.
        dtype: the default dtype of the calls, float or complex.
        mean: the mean.

    Raises:
        ValueError: for a negative or infinite stddev.

    Example:
        >>> import jax, jaxinit
        >>> w = jaxinit.normal(0.02)(jax.random.key(0), (1000, 100))
        >>> bool(abs(w.std() / 0.02 - 1) < 5 / (2 * w.size) ** 0.5)
        True
    """
    stddev = check.number("stddev", stddev, low=0)
    mean = check.number("mean", mean)

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        return add_mean(standard_normal(key, shape, dtype, cast(stddev, dtype)), mean)

    return init, lambda shape: Law(mean, stddev, density="normal")


@initializer
def uniform(scale: Real = 1e-2, dtype: DType = None) -> tuple[Init, LawOf]:
    """JAX's uniform: independent entries of U[0, scale), not centred.

    The mean is scale / 2, the standard deviation scale / √12. For U(-r, r) write
    `uniform_between(-r, r)`. Complex entries are uniform on the disk |w| < scale,
    with mean 0 and E |w|² = scale² / 2.

    Args:
        scale: the upper bound (the radius), not negative; it is not reached.
        dtype: the default dtype of the calls, float or complex.

    Raises:
        ValueError: for a negative or infinite scale.

    Example:
        >>> import jax, jaxinit
        >>> w = jaxinit.uniform(0.5)(jax.random.key(0), (64, 64), "bfloat16")
        >>> bool(w.min() >= 0), bool(w.max() < 0.5)
        (True, True)
    """
    scale = check.number("scale", scale, low=0)

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        factor = cast(scale, dtype)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            return disk(key, shape, dtype, area=1) * factor
        return jax.random.uniform(key, shape, dtype) * factor

    def law(shape: Shape) -> Law:
        end = next_toward(scale, 0.0)
        std = scale / math.sqrt(12)
        return Law(scale / 2, std, 0.0, end, bounded=True, density="uniform")

    return init, law


@initializer
def uniform_between(low: Real, high: Real, dtype: DType = None) -> tuple[Init, LawOf]:
    """PyTorch's `uniform_`: independent entries of U[low, high).

    The mean is (low + high) / 2, the standard deviation (high - low) / √12. Both
    parts of complex entries are drawn so.

    Args:
        low: the lower bound.
        high: the upper bound, which is not reached.
        dtype: the default dtype of the calls, float or complex.

    Raises:
        ValueError: unless low < high.

    Example:
        >>> import jax, jaxinit
        >>> w = jaxinit.uniform_between(-0.1, 0.1)(jax.random.key(0), (64, 64))
        >>> bool(w.min() >= -0.1), bool(w.max() < 0.1)
        (True, True)
    """
    low, high = check.number("low", low), check.number("high", high)
    check.order("low", low, "high", high)

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        if jnp.issubdtype(dtype, jnp.complexfloating):
            part = real_of(dtype)
            return jax.lax.complex(
                *(init(k, shape, part) for k in jax.random.split(key))
            )
        least, end = cast(low, dtype), cast(high, dtype)
        array = jax.random.uniform(key, shape, dtype, least, end)
        return jnp.minimum(array, jnp.nextafter(end, least))  # the product may round up

    def law(shape: Shape) -> Law:
        end = next_toward(high, low)
        std = (high - low) / math.sqrt(12)
        mean = (low + high) / 2
        return Law(mean, std, low, end, bounded=True, density="uniform")

    return init, law
