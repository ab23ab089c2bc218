# SPDX-License-Identifier: Apache-2.0
"""The law of an entry: a function of Gaussian sources, on quadrature nodes.

A fresh kernel makes its outputs Gaussian, independent across units (Tensor Programs,
Yang 2019, arXiv:1910.12478). Entries of one unit at two positions of an example, or in
two examples, are correlated, for the kernel is the same; a `Source` has both
correlations, and Hermite coefficients carry them through any function (Mehler).
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.polynomial import hermite_e, legendre

__all__ = [
    "EXAMPLE",
    "KEY",
    "MOST",
    "POSITION",
    "QUERY",
    "UNIT",
    "Entry",
    "Places",
    "Source",
    "gaussian",
    "mean_of_others",
    "number",
]

EXAMPLE, POSITION, UNIT, KEY, QUERY = range(5)  # what the axes of an array are
PANELS = (-9.0, -6.0, -4.0, -2.5, -1.0, 0.0, 1.0, 2.5, 4.0, 6.0, 9.0)
EACH = 10  # Gauss-Legendre nodes in a panel: kinks at 0 are where panels meet
MOST = 3  # sources that one function is integrated over
ORDER = 40  # of the Hermite series
SMALL = 1e-9  # a term of a series that nobody sees


@functools.cache
def nodes() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for E f(z), z standard normal."""
    x, w = legendre.leggauss(EACH)
    pairs = list(itertools.pairwise(PANELS))
    z = np.concatenate([(b - a) / 2 * x + (a + b) / 2 for a, b in pairs])
    weights = np.concatenate([(b - a) / 2 * w for a, b in pairs])
    weights = weights * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return z, weights / weights.sum()


@functools.cache
def _hermite() -> np.ndarray:
    """Weighted orthonormal Hermite polynomials at the nodes, (order, nodes)."""
    z, w = nodes()
    rows = [
        hermite_e.hermeval(z, [0.0] * k + [1.0]) / math.sqrt(math.factorial(k))
        for k in range(ORDER + 1)
    ]
    return np.array(rows) * w


@dataclass(frozen=True, eq=False)
class Source:
    """A standard normal for each unit, position and example.

    Attributes:
        position: its correlation at two positions of one example.
        example: that in two examples.
        key: that of a product at two places of its second factor, where `position` is
            at two places of the first: the logits of attention.
        pairs: its correlation at any two places, of which `position` is the mean; None
            where they are alike, or too many.
        born: which of all sources it is, from first to last.
        of: the sources, and the function of them, of which it is the quantile, and the
            values that its nodes stand for; None for a source of its own.
    """

    position: float = 0.0
    example: float = 0.0
    key: float = 0.0
    pairs: np.ndarray | None = None
    born: int = field(default_factory=itertools.count().__next__)
    of: "tuple[tuple[Source, ...], np.ndarray, np.ndarray] | None" = None


@dataclass(frozen=True, eq=False)
class Places:
    """How places of an image or a sequence differ.

    Attributes:
        power: E x² at each over its mean.
        pairs: E x x' at any two, over the mean of E x²; None for too many of them.
    """

    power: np.ndarray
    pairs: np.ndarray | None

    @functools.cached_property
    def near(self) -> float | None:
        """The mean of E x x' over two different places."""
        return None if self.pairs is None else mean_of_others(self.pairs)

    @property
    def correlations(self) -> np.ndarray | None:
        """E x x' at any two, over the root of E x² at both."""
        if self.pairs is None:
            return None
        size = np.sqrt(np.maximum(self.power.ravel(), 1e-12))
        return np.asarray(self.pairs / np.outer(size, size))


def mean_of_others(pairs: np.ndarray) -> float:
    """The mean over two different places; of one alone, its own."""
    n = len(pairs)
    return float(
        (pairs.sum() - pairs.trace()) / (n * (n - 1)) if n > 1 else pairs[0, 0]
    )


@dataclass(frozen=True, eq=False)
class Entry:
    """The law of the entries of an array.

    Attributes:
        sources: what it is a function of.
        values: that function, on the product of their nodes.
        shape: of the array.
        kinds: for each axis, what its factors are: pairs (kind, size).
        assumed: what the law rests on beside the weights, in words.
        profile: E x² at each place over its mean; None where places are alike.
        common: the share of E x² that all units of a place have in common.
        loose: the variance of a sum over examples that was taken for its mean.
        back: a source that it is linear in, beside those that it is a function of.
    """

    sources: tuple[Source, ...]
    values: np.ndarray
    shape: tuple[int, ...]
    kinds: tuple[tuple[tuple[int, int], ...], ...]
    assumed: str = ""
    profile: np.ndarray | None = None
    common: float = 0.0
    loose: float = 0.0
    back: Source | None = None

    def _mean(self, values: np.ndarray) -> float:
        for _ in self.sources:
            values = np.tensordot(values, nodes()[1], ([0], [0]))
        return float(values)

    @functools.cached_property
    def mean(self) -> float:
        """E x."""
        return 0.0 if self.back else self._mean(self.values)

    @functools.cached_property
    def power(self) -> float:
        """E x²."""
        return self._mean(self.values**2)

    @functools.cached_property
    def _coefficients(self) -> np.ndarray:
        found = self.values
        for _ in self.sources:  # the last axis comes to the front each time
            found = np.tensordot(found, _hermite(), ([0], [1]))
        return found

    @functools.cached_property
    def _rest(self) -> float:
        """What the series leaves out of E x²."""
        return max(self.power - float((self._coefficients**2).sum()), 0.0)

    def _product(self, which: str) -> float:
        """E x x' where the sources of the two are correlated as that says."""
        correlations = [getattr(s, which) for s in self.sources]
        back = getattr(self.back, which) if self.back else 1.0
        squares = self._coefficients**2
        for c in correlations:
            squares = np.tensordot(
                squares, np.power(c, np.arange(ORDER + 1)), ([0], [0])
            )
        top = max((abs(c) for c in correlations), default=1.0)
        return float(back * (float(squares) + self._rest * top ** (ORDER + 2)))

    @functools.cached_property
    def position(self) -> float:
        """E x x' at two positions of one example."""
        near = None if self.places is None else self.places.near
        if near is not None:
            return self.power * near
        return self._product("position")

    @functools.cached_property
    def places(self) -> Places | None:
        """How the places differ; None where they are alike."""
        if self.profile is None:
            return None
        square, known = self._coefficients**2, []
        for s in reversed(self.sources):
            if s.pairs is not None and s.pairs.size == self.profile.size**2:
                square = np.moveaxis(square, -1, 0)
                known.append(s.pairs)
            else:
                square = square @ s.position ** np.arange(ORDER + 1)
        if (self.sources and not known) or len(known) > 2:
            return Places(self.profile, None)
        size = np.sqrt(self.profile.ravel())
        whole = _series(square, known[::-1])
        if known:
            top = functools.reduce(np.maximum, map(np.abs, known))
            whole = whole + self._rest * top ** (ORDER + 2)
        if self.back is not None:
            alike = self.back.pairs
            fits = alike is not None and alike.size == size.size**2
            whole = whole * (alike if fits else self.back.position)
        pairs = np.outer(size, size) * whole / (self.power or 1.0)
        np.fill_diagonal(pairs, self.profile.ravel())
        return Places(self.profile, pairs)

    @functools.cached_property
    def example(self) -> float:
        """E x x' in two examples."""
        return self._product("example")

    @functools.cached_property
    def slope(self) -> float | None:
        """The a of a x + b, where it is linear in its one source."""
        if len(self.sources) != 1 or self.back is not None:
            return None
        z, _ = nodes()
        a = (self.values[-1] - self.values[0]) / (z[-1] - z[0])
        line = self.values[0] + a * (z - z[0])
        near = np.abs(self.values - line).max() <= 1e-9 * (1e-30 + np.abs(line).max())
        return float(a) if near else None

    def reshape(self, shape: Any, kinds: Any) -> "Entry":
        """The same law in another array."""
        return replace(self, shape=tuple(shape), kinds=tuple(kinds))

    def size(self, axis: int, kind: int) -> int:
        """How many entries of a kind an axis has."""
        return math.prod(n for k, n in self.kinds[axis] if k == kind)


def _series(squares: Any, correlations: Sequence[np.ndarray]) -> Any:
    """Σ c² ρⁱ ρ'ʲ, of one or two matrices of correlations."""
    if not correlations:
        return squares
    *others, last = correlations
    rows = np.moveaxis(squares, -1, 0)
    large = np.abs(rows).reshape(len(rows), -1).max(1) > SMALL * np.abs(rows).max()
    made: Any = 0.0
    for row in rows[: len(rows) - int(large[::-1].argmax())][::-1]:
        made = made * last + _series(row, others)
    return made


def number(value: float, shape: Any = ()) -> Entry:
    """A constant."""
    kinds = tuple(((UNIT, n),) if n > 1 else () for n in shape)
    return Entry((), np.float64(value), tuple(shape), kinds)  # type: ignore[arg-type]


def gaussian(
    power: float,
    position: float,
    example: float,
    shape: Any,
    kinds: Any,
    note: str = "",
    places: Places | None = None,
) -> Entry:
    """A fresh Gaussian of such a variance and covariances."""
    safe = power if power > 0 else 1.0
    near, far = (min(max(c / safe, -1.0), 1.0) for c in (position, example))
    values = math.sqrt(max(power, 0.0)) * nodes()[0]
    size = None if places is None else places.power
    pairs = None if places is None else places.correlations
    if pairs is not None:
        pairs = np.clip(pairs, -1.0, 1.0)
    source = Source(near, far, pairs=pairs)
    return Entry((source,), values, tuple(shape), tuple(kinds), note, size)
