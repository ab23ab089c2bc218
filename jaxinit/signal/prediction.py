# SPDX-License-Identifier: Apache-2.0
"""What a prediction tells, by itself and beside a measurement."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from jaxinit.core import Tabular, columns
from jaxinit.signal.report import Report, Row

__all__ = ["Comparison", "Predicted", "Prediction"]


@dataclass(frozen=True)
class Predicted:
    """The signal that one use of a kernel will give.

    Attributes:
        path: the kernel's path, as `signal.report` has it.
        call: which use of it, from 1 on.
        shape: the shape of its output.
        rms: the root mean square of its output y.
        grad_rms: that of the gradient with respect to y, where a standard normal signal
            enters at the model's output, as in a report without a loss.
        note: what `rms` rests on beside the weights' laws; "" for nothing.
        grad_note: the same of `grad_rms`.

    Example:
        >>> from jaxinit.signal import Predicted
        >>> Predicted("up", 1, (8, 64), 1.0, 0.5).note
        ''
    """

    path: str
    call: int
    shape: tuple[int, ...]
    rms: float
    grad_rms: float = math.nan
    note: str = ""
    grad_note: str = ""


@dataclass(frozen=True, repr=False)
class Prediction(Tabular):
    """The rows of a network in order of execution; it prints as aligned text.

    Example:
        >>> from jaxinit.signal import Predicted, Prediction
        >>> len(Prediction((Predicted("up", 1, (8, 64), 1.0),)).rows)
        1
    """

    rows: tuple[Predicted, ...]

    def _columns(self) -> dict[str, list[Any]]:
        named = columns(Predicted, self.rows)
        for name in ("note", "grad_note"):
            if not any(named[name]):
                del named[name]
        if set(named["call"]) == {1}:
            del named["call"]
        return named

    def to_dict(self) -> dict[str, Any]:
        """The rows as JSON can hold them."""
        return {"rows": [{**asdict(r), "shape": list(r.shape)} for r in self.rows]}

    def compare(self, measured: Report) -> "Comparison":
        """Beside what a report measured, row by row.

        Raises:
            ValueError: for a report of another network.
        """
        ours = [(row.path, row.call) for row in self.rows]
        theirs = [(row.path, row.call) for row in measured.rows]
        if ours != theirs:
            raise ValueError("compare: the report is one of another network, or pass")
        return Comparison(tuple(map(Compared.of, self.rows, measured.rows)))


@dataclass(frozen=True)
class Compared:
    """A row of both.

    Attributes:
        path, call: whose.
        predicted, measured, ratio: the rms of the output, and one over the other.
        grad_predicted, grad_measured, grad_ratio: the same of the gradient, of a report
            without a loss; with one the scale is the loss's own.
    """

    path: str
    call: int
    predicted: float
    measured: float
    ratio: float
    grad_predicted: float
    grad_measured: float
    grad_ratio: float

    @classmethod
    def of(cls, ours: Predicted, theirs: Row) -> "Compared":
        """A row of each."""
        pairs = ((ours.rms, theirs.rms), (ours.grad_rms, theirs.grad_rms))
        forward, back = ((a, b, a / b if b else math.nan) for a, b in pairs)
        return cls(ours.path, ours.call, *forward, *back)


@dataclass(frozen=True, repr=False)
class Comparison(Tabular):
    """A prediction beside a measurement; it prints as aligned text."""

    rows: tuple[Compared, ...]

    def _columns(self) -> dict[str, list[Any]]:
        return columns(Compared, self.rows)
