# SPDX-License-Identifier: Apache-2.0
"""Gaussian expectations E g(z), z ~ N(0, 1), on the host in float64.

Adaptive composite double-exponential quadrature. The line is cut at the integers into
panels, each panel is compared with its two halves, and panels that disagree are cut
again, so a kink, a jump or a singularity anywhere is closed in on by bisection. The
nodes x = tanh(π/2 sinh t), t in equal steps, crowd towards both ends of a panel: Gauss
nodes leave a gap there, in the panel and in its halves alike, where a kink can hide.

References:
    Takahasi, Mori, "Double exponential formulas for numerical integration",
    Publications of RIMS 9, 1974; Gander, Gautschi, "Adaptive quadrature - revisited",
    BIT 40, 2000.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

Integrand: TypeAlias = Callable[[np.ndarray], np.ndarray]

_REACH = 13  # the Gaussian weighs 1e-38 of its peak at 13 standard deviations
_TAIL = 1e-12  # what the outermost panels may hold of an integral that exists
_SMOOTH = 1e-14  # a panel's doubt per unit of length, relative to the whole integral
_ROUGH = 1e-7  # what may stay in doubt where g rounds itself, to float32 for one
_NARROW = 2.0**-46  # the narrowest panel, a few units in the last place of z
_CROWD = 2**12  # panels in doubt at one width
_BATCH = 32  # panels per call, always, so that a jitted g is compiled once


def _double_exponential(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [-1, 1]; the outermost nodes are 4e-14 from the ends."""
    t = np.linspace(-3, 3, count)
    s = np.pi / 2 * np.sinh(t)
    weights = np.cosh(t) / np.cosh(s) ** 2
    return np.tanh(s), 2 * weights / weights.sum()


_NODES, _WEIGHTS = _double_exponential(32)


def gaussian_mean(integrand: Integrand) -> np.ndarray:
    """E g(z) for z ~ N(0, 1), for one or several real functions g at once.

    E g(z) = ∫ g(x) φ(x) dx, to about 1e-13 of E |g(z)| for functions that are smooth
    between finitely many kinks and jumps, wherever these are. A function that rounds
    its own values (in float32, say) is integrated as far as its rounding allows. What
    happens only within a few hundredths of one point can fall between the nodes.

    Args:
        integrand: maps 1024 points to values, shape (n,) to (k, n).

    Returns:
        The k expectations, in float64.

    Raises:
        ValueError: for a value that is not finite, or an integral that does not exist
            or converges too slowly.
    """
    edges = np.arange(-_REACH, _REACH + 1, dtype=np.float64)
    lower, upper = edges[:-1], edges[1:]
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        whole, size = _integrate(integrand, lower, upper)
        if np.any(size[:, 0] + size[:, -1] > _TAIL * size.sum(1)):
            raise ValueError(
                f"the mean does not exist, or lies in the tails (|z| > {_REACH - 1})"
            )
        settled, settled_size = np.zeros((2, len(whole)))
        width = 1.0
        while True:
            middle = (lower + upper) / 2
            lower, upper = np.append(lower, middle), np.append(middle, upper)
            halves, size = _integrate(integrand, lower, upper)
            doubt = np.abs(whole - halves.reshape(len(whole), 2, -1).sum(1))
            scale = settled_size + size.sum(1)
            rough = np.any(doubt > _SMOOTH * width * scale[:, None], axis=0)
            again = np.tile(rough, 2)
            settled += halves[:, ~again].sum(1)
            settled_size += size[:, ~again].sum(1)
            lower, upper, whole = lower[again], upper[again], halves[:, again]
            width /= 2
            if not 0 < len(lower) <= _CROWD or width < _NARROW:
                break
        if np.any(doubt[:, rough].sum(1) > _ROUGH * scale):
            raise ValueError(
                "the mean does not exist, or converges too slowly, near "
                f"z = {lower[0]:.6g}"
            )
        settled += whole.sum(1)
    return settled


def uniform_moments(
    value: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[float, float]:
    """Mean and standard deviation of value(u, 1 - u) for u ~ U(0, 1), both precise.

    u = Φ(z) is uniform for z ~ N(0, 1), so that a value may be singular at 0 and at 1.
    """

    def powers(z: np.ndarray) -> np.ndarray:
        x = value(*(_erfc(sign * z / math.sqrt(2)) / 2 for sign in (-1, 1)))
        return np.stack([x, x * x])

    mean, square = map(float, gaussian_mean(powers))
    return mean, math.sqrt(square - mean**2)


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _integrate(
    integrand: Integrand, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """∫ g φ and ∫ |g| φ over each panel, shapes (k, panels)."""
    parts = []
    for start in range(0, len(lower), _BATCH):
        a, b = (_fill(ends[start : start + _BATCH]) for ends in (lower, upper))
        x = (a + b) / 2 + (b - a) / 2 * _NODES
        x = np.clip(x, np.nextafter(a, b), np.nextafter(b, a))  # never on a jump
        mass = (b - a) / 2 * _WEIGHTS * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        values = np.asarray(integrand(x.ravel()), dtype=np.float64)
        terms = values.reshape(-1, *x.shape) * mass
        if not np.all(np.isfinite(terms)):
            where = np.isfinite(terms).all(0).ravel().argmin()
            raise ValueError(f"a value is not finite at z = {x.ravel()[where]:.6g}")
        parts.append(np.stack([terms.sum(-1), np.abs(terms).sum(-1)]))
    integral, size = np.concatenate(parts, axis=-1)[..., : len(lower)]
    return integral, size


def _fill(ends: np.ndarray) -> np.ndarray:
    """A column of one batch, the last panel repeated."""
    return np.pad(ends, (0, _BATCH - len(ends)), mode="edge")[:, None]
