# SPDX-License-Identifier: Apache-2.0
"""What an array may be while a network is predicted, beside the law of its entries."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxinit.prediction.entry import Entry

__all__ = [
    "Attention",
    "Average",
    "Drawn",
    "Given",
    "Logits",
    "Lost",
    "Mixture",
    "Shift",
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
class Average:
    """A sum over examples of such a law, or its square."""

    of: Entry
    count: int
    shape: tuple[int, ...]
    squared: bool = False


@dataclass(frozen=True, eq=False)
class Shift:
    """The greatest logit, which a softmax does not depend on."""

    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Sum:
    """A sum of exponentials over the keys of a query."""

    of: Any
    shape: tuple[int, ...]
    kind: int


@dataclass(frozen=True, eq=False)
class Attention:
    """A softmax over keys: E Σ a², and E Σ a a' of two queries."""

    power: float
    shared: float
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Logits:
    """Entries along an axis of keys, of which a mask lets some count."""

    entry: Entry
    mask: np.ndarray | None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape
