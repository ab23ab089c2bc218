# SPDX-License-Identifier: Apache-2.0
"""Independent entries from a fixed distribution: normal and uniform.

The samplers at the end serve the scaled families too. They keep JAX's order of
operations, which is what makes equal bits of equal laws.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit import _checks as check
from jaxinit._checks import DType, Real, Shape
from jaxinit._initializer import Init, Law, LawOf, initializer


@initializer
def normal(
    stddev: Real = 1e-2, dtype: DType = None, *, mean: Real = 0.0
) -> tuple[Init, LawOf]:
    """JAX's normal, PyTorch's `normal_`: independent entries of N(mean, stddev²).

    Complex entries are circular around the mean: E |w - mean|² = stddev², half of it
    in each part.

    Args:
        stddev: the standard deviation, not negative.
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
        return shifted(standard_normal(key, shape, dtype, cast(stddev, dtype)), mean)

    return init, lambda shape: Law(mean, stddev)


@initializer
def uniform(scale: Real = 1e-2, dtype: DType = None) -> tuple[Init, LawOf]:
    """JAX's uniform: independent entries of U[0, scale), not centred.

    The mean is scale / 2, the standard deviation scale / √12. For U(-r, r) write
    `uniform_between(-r, r)`. Complex entries are uniform on the disk |w| < scale,
    with mean 0 and E |w|² = scale² / 2.

    Args:
        scale: the upper bound (the radius), positive; it is not reached.
        dtype: the default dtype of the calls, float or complex.

    Raises:
        ValueError: for a scale that is not positive.

    Example:
        >>> import jax, jaxinit
        >>> w = jaxinit.uniform(0.5)(jax.random.key(0), (64, 64), "bfloat16")
        >>> bool(w.min() >= 0), bool(w.max() < 0.5)
        (True, True)
    """
    scale = check.number("scale", scale, above=0)

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        factor = cast(scale, dtype)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            return disk(key, shape, dtype, area=1) * factor
        return jax.random.uniform(key, shape, dtype) * factor

    def law(shape: Shape) -> Law:
        end = math.nextafter(scale, 0.0)
        return Law(scale / 2, scale / math.sqrt(12), 0.0, end, bounded=True)

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
    check.ordered("low", low, "high", high)

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
        end = math.nextafter(high, low)
        std = (high - low) / math.sqrt(12)
        return Law((low + high) / 2, std, low, end, bounded=True)

    return init, law


def cast(value: Any, dtype: Any) -> Any:
    """A hyperparameter in the dtype of the computation: on the host if it can be."""
    return (jnp if check.is_traced(value) else np).asarray(value, dtype)


def real_of(dtype: Any) -> np.dtype[Any]:
    """The dtype of a complex dtype's parts."""
    return np.zeros((), dtype).real.dtype


def shifted(array: jax.Array, mean: Any) -> jax.Array:
    """array + mean, leaving the bits alone where the mean is zero."""
    if not check.is_traced(mean) and mean == 0:
        return array
    return array + cast(mean, array.dtype)


def standard_normal(key: Any, shape: Shape, dtype: Any, std: Any) -> jax.Array:
    """N(0, std²) by the inverse of its distribution: std √2 erf⁻¹(u), u in (-1, 1)."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return jax.random.normal(key, shape, dtype) * std
    one = np.ones((), dtype)
    u = jax.random.uniform(key, shape, dtype, np.nextafter(-one, one), one)
    return (np.asarray(math.sqrt(2), dtype) * std) * jax.lax.erf_inv(u)


def disk(key: Any, shape: Shape, dtype: Any, area: float = 2) -> jax.Array:
    """Uniform on a complex disk of radius √area; E |w|² = area / 2."""
    part = real_of(dtype)
    key_r, key_theta = jax.random.split(key)
    squared = jax.random.uniform(key_r, shape, part)
    return polar(jnp.sqrt(np.asarray(area, part) * squared), key_theta)


def truncated_disk(key: Any, cut: Any, shape: Shape, dtype: Any) -> jax.Array:
    """A circular complex normal of E |w|² = 1 whose modulus is cut at `cut`.

    |w|² is exponential: P(|w|² > t) = e⁻ᵗ, so |w|² = -log(1 - u (1 - e^(-cut²))).
    """
    part = real_of(dtype)
    key_r, key_theta = jax.random.split(key)
    inside = -jnp.expm1(-jnp.square(cast(cut, part)))
    squared = -jnp.log1p(-inside * jax.random.uniform(key_r, shape, part))
    return polar(jnp.minimum(jnp.sqrt(squared), cast(cut, part)), key_theta)


def polar(modulus: jax.Array, key: Any) -> jax.Array:
    """Complex numbers of given modulus with uniform phases."""
    part = modulus.dtype
    theta = jax.random.uniform(key, modulus.shape, part) * np.asarray(2 * np.pi, part)
    return jax.lax.complex(modulus * jnp.cos(theta), modulus * jnp.sin(theta))
