# SPDX-License-Identifier: Apache-2.0
"""What a family promises of its entries, and which dtypes can hold that."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import checks as check
from jaxinit.core.checks import Shape

# In standard deviations. float32 normals end at 5.42, uniforms at 1.74; the median size
# of a normal's entries is 0.6745, of a uniform's 0.866.
REACH = 5.5
MIDDLE = math.sqrt(3) / 2


class NoLaw(ValueError):
    """An initializer that states no law was asked for it."""


class Law(NamedTuple):
    """What an initializer promises of the entries of an array of a given shape."""

    mean: float | complex
    std: float
    low: float = -np.inf
    high: float = np.inf
    bounded: bool = False  # low and high are the caller's: rounding stays within
    density: str = ""  # "normal", "truncated_normal", "uniform"; or ""
    independent: int | None = None  # entries that no others determine; None: all
    zeros: float = 0.0  # the share of entries that are zero by construction

    def count(self, shape: Shape) -> int:
        """How many entries of such an array are independent."""
        return math.prod(shape) if self.independent is None else self.independent


def fits(law: Law, random: bool, dtype: np.dtype[Any]) -> None:
    """Refuse a dtype that cannot hold what the law promises.

    The range of traced numbers is not known here, and not checked.
    """
    if not jnp.issubdtype(dtype, jnp.inexact):
        if random:
            raise TypeError(
                f"dtype {dtype.name} cannot hold random values; use a float dtype"
            )
        return
    if jnp.issubdtype(dtype, jnp.complexfloating) or any(map(check.is_traced, law)):
        return
    reach = REACH * law.std
    mean = float(np.real(law.mean))
    low, high = max(law.low, mean - reach), min(law.high, mean + reach)
    holds = jnp.finfo(dtype)
    size = math.hypot(mean, law.std) / math.sqrt(1 - law.zeros or 1)
    least = float(holds.smallest_normal) / (MIDDLE if random else 1)
    if 0 < size < least:
        raise ValueError(
            f"dtype {dtype.name} rounds numbers below {float(holds.smallest_normal):g} "
            f"to few digits or to zero, and the entries are of size {size:.3g}; use a "
            "wider dtype or a larger scale"
        )
    beyond = [x for x in (low, high) if not float(holds.min) <= x <= float(holds.max)]
    if np.isinf(float(np.asarray(np.inf, dtype))):  # not of every float8
        beyond = [x for x in beyond if not math.isinf(x)]
    if beyond:
        raise ValueError(
            f"dtype {dtype.name} holds {float(holds.min):g} to {float(holds.max):g}, "
            f"and the entries reach from {low:.3g} to {high:.3g}; use a wider dtype "
            "or a smaller scale"
        )


def inside(law: Law, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The least and the greatest number of a dtype within the bounds, as float32."""
    holds = jnp.finfo(dtype)
    least, most = float(holds.min), float(holds.max)
    traced = check.is_traced(law.low) or check.is_traced(law.high)
    xp, nextafter = (jnp, jax.lax.nextafter) if traced else (np, np.nextafter)
    wide = np.float32 if traced else np.float64
    ends = []
    for given, inward, sign in ((law.low, most, 1), (law.high, least, -1)):
        bound = xp.asarray(given, wide)
        end = xp.clip(bound, least, most).astype(dtype)
        if traced:  # else XLA may drop the rounding to the dtype and back, on a GPU
            end = jax.lax.optimization_barrier(end)
        outside = (end.astype(wide) - bound) * sign < 0
        next_one = nextafter(end, xp.asarray(inward, dtype))
        ends.append(xp.where(outside, next_one, end).astype(np.float32))
    low, high = ends
    if not traced and low > high:
        raise ValueError(
            f"no {dtype.name} number lies between {law.low} and {law.high}"
        )
    return low, high
