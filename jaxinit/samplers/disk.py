# SPDX-License-Identifier: Apache-2.0
"""Complex numbers of uniform phase: on a disk, and normals of a cut modulus."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import Shape
from jaxinit.samplers.normal import cast, real_of


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


def modulus_std(cut: float) -> float:
    """√E |z|² of a circular complex normal, E |z|² = 1 before its modulus is cut."""
    squared = min(cut, 26.0) ** 2  # beyond, e^(-cut²) underflows
    return math.sqrt(1 - squared / math.expm1(squared))
