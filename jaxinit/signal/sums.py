# SPDX-License-Identifier: Apache-2.0
"""Sums of a signal, from which its mean and root mean square are told.

A signal that vanished or exploded squares to 0 or infinity in float32: squares are
summed at three scales, of which one is right. Sums add up over the steps of a loop.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["fetch", "moments", "powers", "rms", "totals"]

_SCALES = np.array([1, 2.0**60, 2.0**-60], np.float32)


def powers(x: jax.Array, keep: int = 0) -> jax.Array:
    """Σ |x|² at three scales, over all axes but the first `keep`."""
    return (_scale(jnp.abs(x), keep) ** 2).sum(-1)


def totals(x: jax.Array) -> jax.Array:
    """Σ x at the same scales, the moduli of complex numbers."""
    return _scale(jnp.abs(x) if jnp.iscomplexobj(x) else x, 0).sum(-1)


def _scale(x: jax.Array, keep: int) -> jax.Array:
    flat = x.astype(jnp.float32).reshape(*x.shape[:keep], 1, -1)
    return flat * _SCALES.reshape(*[1] * keep, -1, 1)


def moments(total: Any, power: Any, count: int) -> tuple[float, float]:
    """The mean and the root mean square of so many entries, from their sums."""
    count = max(count, 1)
    k = 2 if not power[0] < 1e30 else 1 if power[0] < 1e-20 else 0
    mean = float(total[k]) / count / float(_SCALES[k])
    return mean, math.sqrt(float(power[k]) / count) / float(_SCALES[k])


def rms(power: Any, count: int) -> float:
    """√(Σ |x|² / count), from the sums at three scales."""
    return moments(power, power, count)[1]


def fetch(tree: Any) -> Any:
    """Arrays on the host, where their sums add up in float64."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64), jax.device_get(tree))
