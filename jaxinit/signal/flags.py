# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the signal in a network, in sentences with the likely cure."""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxinit.signal.chains import longest

__all__ = ["Flag", "Row", "flags"]

# A trend takes layers enough to tell it from one odd layer, and nearly all pairs of
# them agree on it, as branches and skips do not. It counts where a tenth or more is
# lost at each layer and a factor of ten over all, which the random walk of a healthy
# ReLU network does not reach: its log rms has the variance 5 depth / (4 width) (Hanin &
# Rolnick 2018). A factor of a thousand counts however slowly it came.
LAYERS = 5
AGREEMENT = 0.9
RATE = 0.9
RANGE = 10.0
REACH = 1000.0

# A ReLU network so deep that all examples look alike leaves half of its units dead on
# any batch; below so many examples even a healthy unit may see none that it likes.
DEAD = 0.5
EXAMPLES = 8


@dataclass(frozen=True)
class Row:
    """What one use of a kernel or an embedding does to the signal.

    Attributes:
        path: the kernel's path; "blocks/up/kernel[1]" is a slice of a stack of them.
        call: which use of it, from 1 on.
        shape: the shape of its output; a loop over time comes first.
        mean: the mean of its output, of the moduli where it is complex.
        rms: the root mean square of its output.
        dead: the fraction of its outputs whose gradient is zero for the whole batch;
            None where no gradient comes at all.
        grad_rms: the root mean square of the gradient of the loss by its output.
        param_grad_rms: that of the gradient by the kernel and its bias, over all uses.
        update_ratio: the rms of the optimizer's update of the kernel over its own; None
            where it is zero.
        joins: whether it ends a residual branch, whose sum with the stream comes next.

    Example:
        >>> from jaxinit.signal import Row
        >>> Row("up", 2, (8, 64), 0.0, 1.0, 0.5, 0.1, 0.1, 0.01).label
        'up (call 2)'
    """

    path: str
    call: int
    shape: tuple[int, ...]
    mean: float
    rms: float
    dead: float | None
    grad_rms: float
    param_grad_rms: float
    update_ratio: float | None
    joins: bool = False

    @property
    def label(self) -> str:
        """The path, and which call if it is not the first."""
        return self.path if self.call == 1 else f"{self.path} (call {self.call})"


class Flag(str):
    """A sentence on what is wrong.

    Attributes:
        labels: of the rows that it is about, from the first to the last of them.
    """

    labels: tuple[str, ...]

    def __new__(cls, text: str, labels: Sequence[str] = ()) -> "Flag":
        flag = super().__new__(cls, text)
        flag.labels = tuple(labels)
        return flag

    def __getnewargs__(self) -> tuple[Any, ...]:
        return str(self), self.labels


def flags(
    rows: Sequence[Row], feeds: Sequence[Sequence[int]], lost: Sequence[str]
) -> tuple[Flag, ...]:
    """What is wrong, the worst first; `feeds` are the rows that enter each row."""
    found = [
        *_not_finite(rows),
        *_trends(rows, feeds),
        *_silent(rows),
        *_dead(rows),
    ]
    if lost:
        found.append(
            Flag(
                f"{_list(lost)} not measured: this pass did not use it, or used it in "
                "a branch, a while loop or a function with a derivative of its own"
            )
        )
    return tuple(found)


def _list(names: Sequence[str]) -> str:
    """'a', 'a and b', 'a and 5 more'."""
    first, *others = names
    if not others:
        return first
    return f"{first} and {others[0] if len(others) == 1 else f'{len(others)} more'}"


def _not_finite(rows: Sequence[Row]) -> list[Flag]:
    bad = [row for row in rows if not math.isfinite(row.rms)]
    if bad:
        return [
            Flag(
                f"the signal is not finite: {bad[0].label} is the first of {len(bad)} "
                "layers with NaN or infinity in its output; look at what enters it and "
                "at the scale of its kernel",
                [row.label for row in bad],
            )
        ]
    bad = [row for row in rows if not math.isfinite(row.grad_rms)]
    if bad:  # it came from the last of them
        return [
            Flag(
                f"the gradient is not finite: on its way back, {bad[-1].label} is the "
                f"first of {len(bad)} layers with NaN or infinity; look for a function "
                "without a derivative there (√0, |0|, 0/0) and at the loss",
                [row.label for row in bad],
            )
        ]
    return []


SMALL = (
    "the kernels' gain is too small: ReLU layers want he_normal() (gain √2), others "
    "variance_scaling(gain(activation) ** 2, 'fan_in', 'normal'); or normalise"
)
LARGE = (
    "the kernels' gain is too large: see jaxinit.gain(activation); scale the branches "
    "of a residual network by 1/√depth, or normalise"
)
SHORT = (
    "the way back wants gain(activation, 'backward') and kernels that keep lengths, as "
    "orthogonal() does; saturated activations want smaller inputs"
)
LONG = (
    "the way back wants a smaller gain, gain(activation, 'backward'), or normalisation"
)


def _trends(rows: Sequence[Row], feeds: Sequence[Sequence[int]]) -> list[Flag]:
    """Growth and decay along chains of kernels, between normalisations."""
    told: dict[str, Flag] = {}
    for chain in longest(feeds):
        run = [rows[i] for i in chain if rows[i].rms > 0]
        signal = [(row.label, row.rms) for row in run]
        gradient = [
            (row.label, row.grad_rms * math.sqrt(math.prod(row.shape))) for row in run
        ]
        # with the head and without: one small head says nothing of the way to it
        found = _trend(signal, "signal", "rms", SMALL, LARGE) or _trend(
            signal[:-1], "signal", "rms", SMALL, LARGE
        )
        found += _trend(gradient[::-1], "gradient", "norm", SHORT, LONG) or _trend(
            gradient[-2::-1], "gradient", "norm", SHORT, LONG
        )
        for text in found:
            told.setdefault(text.partition(":")[0], text)
    return list(told.values())


def _trend(
    values: Sequence[tuple[str, float]], what: str, of: str, low: str, high: str
) -> list[Flag]:
    known = [(label, x) for label, x in values if 0 < x < math.inf]
    if len(known) < LAYERS:
        return []
    logs = [math.log(x) for _, x in known]
    slopes = [
        (logs[j] - logs[i]) / (j - i)
        for i, j in itertools.combinations(range(len(logs)), 2)
    ]
    slope = statistics.median(slopes)  # Theil and Sen
    agree = sum(each * slope > 0 for each in slopes) / len(slopes)
    total = abs(slope) * (len(logs) - 1)
    steep = abs(slope) > -math.log(RATE) and total > math.log(RANGE)
    if agree < AGREEMENT or not (steep or total > math.log(REACH)):
        return []
    (first, a), (last, b) = known[0], known[-1]
    verb, change, cure = (
        ("vanishes", "falls", low) if slope < 0 else ("explodes", "grows", high)
    )
    return [
        Flag(
            f"the {what} {verb}: its {of} {change} from {a:.2g} in {first} to {b:.2g} "
            f"in {last}, by a factor of {math.exp(slope):.2g} a layer; {cure}",
            [label for label, _ in known],
        )
    ]


def _silent(rows: Sequence[Row]) -> list[Flag]:
    """Layers that give zero, and layers that no gradient reaches."""
    zero = [row.label for row in rows if row.rms == 0]
    cut = [row.label for row in rows if row.grad_rms == 0]
    found = []
    if zero:
        found.append(
            Flag(
                f"zero everywhere: the output of {_list(zero)}; by design if a head or "
                "the end of a residual branch is initialised so",
                zero,
            )
        )
    if cut:
        why = (
            "by design behind a kernel of zeros, which learns first"
            if zero
            else "by design behind a scale of zeros; else the loss does not depend on "
            "it, the gradient is stopped, or every unit after it is dead"
        )
        found.append(Flag(f"no gradient reaches {_list(cut)}: {why}", cut))
    return found


def _dead(rows: Sequence[Row]) -> list[Flag]:
    bad = []
    for row in rows:
        units = row.shape[-1] if row.shape else 1
        examples = math.prod(row.shape) // max(units, 1)
        chance = 3 * math.sqrt(DEAD * (1 - DEAD) / max(units, 1))  # 3 standard errors
        if row.dead is not None and row.dead > DEAD + chance and examples >= EXAMPLES:
            bad.append(row)
    if not bad:
        return []
    most = max(bad, key=lambda row: row.dead or 0.0)
    labels = [row.label for row in bad]
    return [
        Flag(
            f"more than half of the units of {_list(labels)} are dead ({most.dead:.0%} "
            f"in {most.label}): no example of the batch sends a gradient through them; "
            "look at biases below zero and at the mean of what enters",
            labels,
        )
    ]
