# SPDX-License-Identifier: Apache-2.0
"""What an array holds: moments, held against a law, and entries of another.

Arrays are measured on the host in float64, a chunk at a time, for a compilation takes
longer than most parameters do. What other processes hold a part of is measured where
it lies, by one program for each shape.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import Law

__all__ = ["Moments", "differing", "moments", "z_scores"]

CHUNK = 2**16  # entries in float64 at once


class Moments(NamedTuple):
    """Of all entries; least and greatest are of their real parts."""

    mean: float | complex
    variance: float
    kurtosis: float
    low: float
    high: float
    bad: int  # entries that are not finite; with one the others mean nothing

    @property
    def std(self) -> float:
        """The standard deviation."""
        return math.sqrt(self.variance)


def moments(x: Any) -> Moments:
    """The moments of an array that is not empty."""
    flat = _on_host(x)
    if flat is None:
        with jax.enable_x64(True):
            return Moments(*(np.asarray(each).item() for each in _moments(x)))
    wide: Any = np.complex128 if np.iscomplexobj(flat) else np.float64
    n, starts = flat.size, range(0, flat.size, CHUNK)

    def chunks() -> Iterator[np.ndarray]:
        return (flat[i : i + CHUNK].astype(wide) for i in starts)

    with np.errstate(all="ignore"):
        sums = [
            (c.sum(), c.real.min(), c.real.max(), (~np.isfinite(c)).sum())
            for c in chunks()
        ]
        totals, lows, highs, bad = map(np.array, zip(*sums, strict=True))
        mean = totals.sum() / n
        squares = (np.abs(c - mean) ** 2 for c in chunks())
        variance, fourth = np.sum([(d.sum(), (d * d).sum()) for d in squares], 0) / n
        kurtosis = fourth / (variance**2 or 1)
    found = (mean, variance, kurtosis, lows.min(), highs.max(), bad.sum())
    return Moments(*(each.item() for each in found))


def z_scores(
    found: Moments, law: Law, count: int, eps: float = 0.0
) -> tuple[float, float]:
    """By how many standard errors the mean and the deviation miss a law's.

    There are `count` independent entries b, and the zeros of the law, whose number is
    sure. With a share s of others, and t = μ² / σ², the variance of a mean is that of
    s b, σ² (s - (1 - s) t) / count, and the kurtosis k counts for the variance as
    s k + (1 - s) t (2 - t). Wilson and Hilferty (1931): the cube root of a variance of
    small samples is nearly normal. The sample's kurtosis is drawn to the normal's by 30
    entries of weight, for a few entries do not tell their own; rounding to a dtype adds
    its eps² at most.
    """
    s, mean = 1 - law.zeros, float(np.real(law.mean))
    t = (mean / law.std) ** 2
    error = law.std * math.sqrt(max(s - (1 - s) * t, eps) / count)
    kurtosis = max(s * found.kurtosis + (1 - s) * t * (2 - t), 1)
    spread = ((count * kurtosis + 30 * 3) / (count + 30) - 1) / (9 * count)
    root = (found.variance / law.std**2) ** (1 / 3)
    z_std = (root - (1 - spread)) / (math.sqrt(spread) + eps**2)
    return float(np.real(found.mean) - mean) / error, z_std


def differing(x: Any, wanted: Any) -> int:
    """How many entries of `x` are not those of `wanted`, in its dtype and in order."""
    ours, theirs = _on_host(x), _on_host(wanted)
    if ours is None or theirs is None:
        return int(_differing(x, wanted))
    return int((ours.astype(theirs.dtype) != theirs).sum())


def _on_host(x: Any) -> np.ndarray | None:
    """The entries in a row, or None where another process holds some of them."""
    if isinstance(x, jax.Array):
        if not x.is_fully_addressable:
            return None
        x = jax.device_put(x, x.sharding)  # the host's copy goes with this alias
    return np.ravel(np.asarray(x))


@jax.jit
def _moments(x: jax.Array) -> tuple[jax.Array, ...]:
    is_complex = jnp.issubdtype(x.dtype, jnp.complexfloating)
    wide = x.astype(jnp.complex128 if is_complex else jnp.float64)
    mean = wide.mean()
    squares = jnp.abs(wide - mean) ** 2
    variance, bad = squares.mean(), (~jnp.isfinite(wide)).sum()
    kurtosis = (squares**2).mean() / jnp.where(variance > 0, variance, 1) ** 2
    return mean, variance, kurtosis, wide.real.min(), wide.real.max(), bad


@jax.jit
def _differing(x: jax.Array, wanted: jax.Array) -> jax.Array:
    return (x.astype(wanted.dtype).ravel() != wanted.ravel()).sum()
