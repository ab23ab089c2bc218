# SPDX-License-Identifier: Apache-2.0
"""Gaussian expectations of an activation: E f(u)ⁿ and E f(u) f(v), in float64.

The one of a single variable are those of `gains`. For two variables of
variances q₁, q₂ and correlation c, mirrored to c >= 0, the rotation

    u / √q₁ = a x + b z,   v / √q₂ = a x - b z,   a² = (1 + c) / 2,   b² = (1 - c) / 2

makes x and z independent N(0, 1). Along x the product f(u) f(v) is smooth between the
kinks of either factor, which lie at known places, so that Gauss-Lobatto panels between
them are exact; the integral over x is smooth in z between the crossings of two kinks,
z = (κ - κ′) / 2b. Nothing degenerates as c → 1, where only b → 0.

References:
    Abramowitz, Stegun, "Handbook of mathematical functions", 1964, 25.4.32
        (Gauss-Lobatto).
"""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from jaxinit.gains import (
    ACTIVATIONS,
    Activation,
    function_of,
    gaussian_mean,
    numeric,
    on_host,
)

Values: TypeAlias = Callable[[np.ndarray], np.ndarray]

_ORDER = 18  # nodes of a panel, both ends among them, where a kink can hide
_K = np.arange(1, _ORDER - 2)
_JACOBI = np.diag(np.sqrt(_K * (_K + 2) / ((2 * _K + 1) * (2 * _K + 3))), 1)
_NODES = np.concatenate([[-1], np.linalg.eigvalsh(_JACOBI + _JACOBI.T), [1]])
_LAST = np.polynomial.Legendre.basis(_ORDER - 1)
_WEIGHTS = 2 / (_ORDER * (_ORDER - 1) * _LAST(_NODES) ** 2)
_TAIL = (  # from the values at the nodes to the last Legendre coefficients
    np.polynomial.legendre.legvander(_NODES, _ORDER - 2)
    * (np.arange(_ORDER - 1) + 0.5)
    * _WEIGHTS[:, None]
)[:, -3:]
_ROUGH = 1e-8  # of the tail; a product's integral has twice the digits
_REACH = 10.0  # standard deviations of x and z: beyond lies 1e-22 of the Gaussian
# Irrational, so that no kink hides on the edge of a panel; 0 is always an edge.
_GRID = 0.6 * math.pi * np.arange(-8, 9)
_NARROW = 2.0**-46  # a panel that is rough down to this width holds a kink
_ASIDE = 2.0**-44  # the distance from a kink to the ends of the panels beside it
_SOFT = 2.0**-12  # the narrowest panel where no kink is known
_CROWD = 2**8  # of rough panels at once: f is rounded, to float32 for example, if
_ROUNDED = 1e-5  # ... their median tail is below this
_ZERO = 1e-12  # relative to q, a σ_b² that is rounding
_BATCHES = 2**10, 2**14  # points per call, so that a jitted f is compiled twice


def activation_of(activation: object) -> str | Activation:
    """An activation by the name that it has in the table, or the callable."""
    function = function_of(activation)
    try:
        hash(function)
    except TypeError:
        raise TypeError(
            f"activation must be hashable, got {function!r}; pass a function"
        ) from None
    names = [name for name, each in ACTIVATIONS.items() if each is function]
    if activation in names or not names:
        return activation if isinstance(activation, str) else function
    return names[0]


@functools.lru_cache(maxsize=256)
def _values(function: Activation, derivative: bool) -> Values:
    values = on_host(lambda: numeric(function, derivative))

    def in_batches(points: np.ndarray) -> np.ndarray:
        flat = points.ravel()
        size = _BATCHES[flat.size > _BATCHES[0]]
        fill = np.pad(flat, (0, -flat.size % size)).reshape(-1, size)
        out = np.concatenate([values(batch) for batch in fill])[: flat.size]
        if not np.isfinite(out).all():
            at = flat[np.isfinite(out).argmin()]
            raise ValueError(
                f"activation must be finite, got {function!r}, which is not at {at:.6g}"
            )
        return out.reshape(points.shape)

    return in_batches


@functools.lru_cache(maxsize=2**14)
def moment(
    function: Activation, q: float, order: int = 2, derivative: bool = False
) -> float:
    """E g(√q z)ⁿ for g = f or f′."""
    values = _values(function, derivative)
    return _mean(function, q, lambda z: values(math.sqrt(q) * z) ** order)


def critical_variances(activation: str | Activation, q: float) -> tuple[float, float]:
    """(σ_w², σ_b²) of the critical point of length q; σ_b² < 0 where there is none."""
    f = function_of(activation)
    slope = moment(f, q, derivative=True)
    if slope == 0:
        raise ValueError(
            f"activation must have a slope, got {activation!r}, for which E f′(z)² is "
            f"0, z ~ N(0, {q:g})"
        )
    sigma_b2 = q - moment(f, q) / slope
    return 1 / slope, 0.0 if abs(sigma_b2) < _ZERO * q else sigma_b2


@functools.lru_cache(maxsize=2**14)
def growth(function: Activation, q: float) -> float:
    """d/dq E f(√q z)² = E z f(√q z) f′(√q z) / √q."""
    f, slope = _values(function, False), _values(function, True)
    root = math.sqrt(q)
    return _mean(function, q, lambda z: z * f(root * z) * slope(root * z)) / root


def _mean(function: Activation, q: float, integrand: Values) -> float:
    try:
        return float(on_host(lambda: gaussian_mean(lambda z: integrand(z)[None]))[0])
    except ValueError as error:
        raise ValueError(
            "activation must have finite moments under N(0, q), got "
            f"{function!r} at q = {q:.6g}: {error}"
        ) from error


@functools.lru_cache(maxsize=2**14)
def kernel(
    function: Activation, c: float, q1: float, q2: float, derivative: bool = False
) -> float:
    """E g(u) g(v) for g = f or f′; u, v of variances q1, q2 and correlation c."""
    if c == 1 and q1 == q2:
        return moment(function, q1, 2, derivative)
    scales = math.sqrt(q1), math.copysign(math.sqrt(q2), c)
    return on_host(lambda: _kernel(function, abs(c), *scales, derivative))


def _kernel(
    function: Activation, c: float, scale: float, other: float, derivative: bool
) -> float:
    """E g(scale · s) g(other · t), s and t standard of correlation c >= 0."""
    values = _values(function, derivative)
    kinks, edges = _panels(function, scale)
    kinks_too, edges_too = _panels(function, other)
    a, b = math.sqrt((1 + c) / 2), math.sqrt((1 - c) / 2)

    def integral_over_x(z: np.ndarray) -> np.ndarray:
        ends = np.concatenate([edges - b * z[:, None], edges_too + b * z[:, None]], 1)
        ends = np.sort(np.clip(ends / a, -_REACH, _REACH), axis=1)
        lower, upper = ends[:, :-1], ends[:, 1:]
        row, column = np.nonzero(upper > lower)
        x, half = _nodes(lower[row, column], upper[row, column])
        s, t = a * x + b * z[row, None], a * x - b * z[row, None]
        product = values(scale * s) * values(other * t) * _density(x)
        return np.bincount(row, product @ _WEIGHTS * half, len(z))

    if b == 0:
        return float(integral_over_x(np.zeros(1))[0])
    crossings = np.subtract.outer(kinks, kinks_too).ravel() / (2 * b)
    low = 0.0 if scale == other else -_REACH  # even in z
    ends = np.concatenate([_GRID, crossings, [low, _REACH]])
    ends = np.unique(ends[(low <= ends) & (ends <= _REACH)])

    def integrand(z: np.ndarray) -> np.ndarray:
        return (integral_over_x(z.ravel()).reshape(z.shape) * _density(z))[None]

    lower, upper, terms = _resolve(integrand, ends, _SOFT)
    whole = float((terms[0] @ _WEIGHTS * (upper - lower) / 2).sum())
    return whole if low else 2 * whole


@functools.lru_cache(maxsize=1024)
def _panels(function: Activation, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The kinks of x ↦ f(scale · x), and edges between which f and f′ are smooth."""
    samples = [_values(function, False)]
    with contextlib.suppress(TypeError):  # f may be none that JAX can differentiate
        samples.append(_values(function, True))

    def values(x: np.ndarray) -> np.ndarray:
        weight = np.exp(-x * x / 4)  # each factor of a product has a half of φ
        return np.stack([sample(scale * x) * weight for sample in samples])

    lower, upper, _ = _resolve(values, _GRID, _NARROW, aside=2.0**-70)
    kinks = np.union1d((lower + upper)[upper - lower <= _NARROW] / 2, [0.0])
    kinks = kinks[np.diff(kinks, prepend=-np.inf) > 8 * _NARROW]
    lower, upper, _ = _resolve(values, np.union1d(_GRID, kinks), _SOFT)
    return kinks, np.union1d(lower, upper)


def _resolve(
    values: Values, edges: np.ndarray, narrow: float, aside: float = _ASIDE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Panels bisected until the values on each are a polynomial, or it is narrow.

    Lower and upper ends, shape (n,), and the values at the nodes, shape (k, n, 18).
    """
    lower, upper = edges[:-1], edges[1:]
    done: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    scale = np.float64(np.finfo(np.float64).tiny)
    while len(lower):
        x, half = _nodes(lower, upper, aside)
        found = values(x)
        scale = np.maximum(scale, np.abs(found).max((1, 2)))
        tail = (np.abs(found @ _TAIL).max(2) / scale[:, None]).max(0)
        rough = (tail > _ROUGH) & (2 * half > narrow)
        if rough.sum() > _CROWD:
            if np.median(tail[rough]) > _ROUNDED:
                raise ValueError(
                    f"activation must have fewer than {_CROWD} kinks and jumps within "
                    "the reach of its argument; lower the variance of that"
                )
            rough[:] = False
        done.append((lower[~rough], upper[~rough], found[:, ~rough]))
        middle = ((lower + upper) / 2)[rough]
        lower, upper = (
            np.concatenate([lower[rough], middle]),
            np.concatenate([middle, upper[rough]]),
        )
    lowers, uppers, all_found = zip(*done, strict=True)
    return (
        np.concatenate(lowers),
        np.concatenate(uppers),
        np.concatenate(all_found, axis=1),
    )


def _nodes(
    lower: np.ndarray, upper: np.ndarray, aside: float = _ASIDE
) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Lobatto nodes of each panel, shape (n, 18), and half its width."""
    half = (upper - lower) / 2
    x = (lower + half)[:, None] + half[:, None] * _NODES
    off = np.minimum(half / 2, aside)
    return np.clip(x, (lower + off)[:, None], (upper - off)[:, None]), half


def _density(x: np.ndarray) -> np.ndarray:
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
