# SPDX-License-Identifier: Apache-2.0
"""What the axes of an array are, after it was moved."""

import math
import sys
from dataclasses import replace
from typing import Any

from jaxinit.network import moves, views
from jaxinit.prediction.entry import EXAMPLE, POSITION, UNIT, Entry, gaussian
from jaxinit.prediction.values import Lost

__all__ = [
    "cut_kinds",
    "kinds_of",
    "kinds_of_shape",
    "rearrange",
    "rearrange_or_guess",
    "signal",
]

LAST = sys.maxsize  # of births


def kinds_of_shape(shape: Any) -> list[Any]:
    kinds: list[Any] = [((POSITION, n),) if n > 1 else () for n in shape]
    if shape:
        kinds[-1] = ((UNIT, shape[-1]),) if shape[-1] > 1 else ()
    return kinds


def signal(shape: Any, note: str = "", back: bool = False) -> Entry:
    """A Gaussian of unit size whose entries are all independent.

    One that is sent back is born after all that it will meet.
    """
    kinds: list[Any] = [((POSITION, n),) if n > 1 else () for n in shape]
    if shape:
        kinds[0] = ((EXAMPLE, shape[0]),) if shape[0] > 1 else ()
        kinds[-1] = ((UNIT, shape[-1]),) if shape[-1] > 1 else ()
    made = gaussian(1.0, 0.0, 0.0, shape, kinds, note)
    if not back:
        return made
    return replace(made, sources=(replace(made.sources[0], born=LAST),))


def kinds_of(x: Any, shape: Any) -> tuple[Any, ...]:
    """The kinds of an operand's axes, for a result of such a shape."""
    kinds = tuple(x.kinds) if isinstance(x, Entry) else tuple(kinds_of_shape(x.shape))
    return (*[()] * (len(shape) - len(kinds)), *kinds)


def cut_kinds(kinds: Any, shape: Any) -> tuple[Any, ...]:
    """The kinds of axes that may have become shorter."""
    made = []
    for run, n in zip(kinds, shape, strict=True):
        whole = math.prod(m for _, m in run)
        made.append(
            run if whole == n or len(run) != 1 else (((run[0][0], n),) if n > 1 else ())
        )
    return tuple(made)


def rearrange(eqn: Any, x: Entry, shape: Any) -> Entry:
    """The same law with its axes moved."""
    runs = tuple(
        tuple(views.Range(kind, n) for kind, n in run) or views.repeat(size)
        for run, size in zip(x.kinds, x.shape, strict=True)
    )
    full = tuple(
        run if views.extent(run) == n else views.repeat(n)
        for run, n in zip(runs, x.shape, strict=True)
    )
    view = views.View(x.shape, full, (0,) * len(x.shape))
    made = moves.move(eqn.primitive.name, view, tuple(shape), eqn.params)
    if made is None:
        raise Lost("axes that mix")
    kinds = tuple(
        tuple((r.axis, r.size) for r in run if r.axis != views.REPEAT and r.size > 1)
        for run in made.runs
    )
    return x.reshape(shape, kinds)


def rearrange_or_guess(eqn: Any, x: Entry, shape: Any) -> Entry:
    try:
        return rearrange(eqn, x, shape)
    except (ValueError, IndexError):
        return x.reshape(shape, kinds_of_shape(shape))
