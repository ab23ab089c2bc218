# SPDX-License-Identifier: Apache-2.0
"""Hyperparameters in a draw's dtype, and the normal law."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import Real, Shape
from jaxinit.core import checks as check


def cast(value: Any, dtype: Any) -> Any:
    """A hyperparameter in the dtype of the computation: on the host if it can be."""
    return (jnp if check.is_traced(value) else np).asarray(value, dtype)


def next_toward(x: Real, other: Real) -> Any:
    """The number next to x on the way to another; of a traced one, in float32."""
    if check.is_traced(x) or check.is_traced(other):
        return jax.lax.nextafter(jnp.float32(x), jnp.float32(other))
    return math.nextafter(x, other)


def real_of(dtype: Any) -> np.dtype[Any]:
    """The dtype of a complex dtype's parts."""
    return np.zeros((), dtype).real.dtype


def add_mean(array: jax.Array, mean: Any) -> jax.Array:
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
