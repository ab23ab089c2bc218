# SPDX-License-Identifier: Apache-2.0
"""What an array may be while a network is predicted, beside the law of its entries."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxinit.prediction.entry import Entry

__all__ = [
    "Attention",
    "Average",
    "Cotangent",
    "Drawn",
    "Given",
    "Logits",
    "Lost",
    "Mixture",
    "Shift",
    "Steps",
    "Sum",
]


class Lost(ValueError):
    """Where the prediction ends, in words."""


@dataclass(frozen=True, eq=False)
class Given:
    """An array of numbers: of the batch, a constant, or made of those."""

    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.array)

    @property
    def number(self) -> float | None:
        """The number that fills it, if one does."""
        array = np.asarray(self.array)
        if array.size == 0 or (array.dtype.kind not in "fiub" and array.ndim):
            return None
        first = array.ravel()[0]
        return float(first) if (array == first).all() else None


@dataclass(frozen=True, eq=False)
class Drawn:
    """Independent entries of a parameter, of mean 0 and such a deviation."""

    std: float
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Mixture:
    """Entries side by side: laws with their shares, along one axis."""

    parts: tuple[tuple[float, Entry], ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Steps:
    """What a loop leaves behind of each of its steps, where they are not all alike."""

    values: tuple[Any, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Average:
    """A sum over examples of such a law, or over units; or its square."""

    of: Entry
    count: int
    shape: tuple[int, ...]
    squared: bool = False
    units: bool = False

    @property
    def square(self) -> float:
        """The expectation of the square."""
        return self.of.common * self.of.power if self.units else self.of.example


@dataclass(frozen=True, eq=False)
class Shift:
    """The greatest logit, which a softmax does not depend on; or Σ a g, coming back."""

    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Sum:
    """A sum of exponentials over the keys of a query."""

    of: Any
    shape: tuple[int, ...]
    kind: int


@dataclass(frozen=True, eq=False)
class Cotangent:
    """What comes back to a softmax, over its sum; centred or not yet."""

    entry: Entry
    total: Sum
    centred: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape


@dataclass(frozen=True, eq=False)
class Attention:
    """A softmax a over keys, of each query, and another, a', of another query.

    Attributes:
        weights: E a, of each query and key, for each kind of mask; None for too many.
        power: E Σ a², of each query for each kind of mask.
        shared: E Σ a a', in the mean.
        slopes: E Σ a² (1 - 2 a + Σ a²), with which gradients pass, of each query.
        near: E Σ a a' (1 - a - a' + Σ a a'), the same of any two.
        law: of what it is the softmax of, for the axes.
        kind: what its axis of keys is called there.
    """

    weights: np.ndarray | None
    power: np.ndarray
    shared: float
    slopes: np.ndarray
    near: np.ndarray
    law: Entry
    kind: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.law.shape


@dataclass(frozen=True, eq=False)
class Logits:
    """Entries along an axis of keys, of which a mask lets some count.

    What comes back to them has the weights of the softmax: (masks, queries, keys).
    """

    entry: Entry
    mask: np.ndarray | None
    weights: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape
