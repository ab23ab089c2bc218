# SPDX-License-Identifier: Apache-2.0
"""Laws of arrays that are moved, cut, spread and padded.

Pieces of one law are laws of their own sources: units of one half are independent of
those of the other. A piece that is taken twice is the same, which `Pieces` remembers.
"""

import math
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from jaxinit.prediction.entry import POSITION, UNIT, Entry, Source, number
from jaxinit.prediction.functions import number_of
from jaxinit.prediction.layouts import (
    cut_kinds,
    kinds_of,
    rearrange,
    rearrange_or_guess,
)
from jaxinit.prediction.values import Attention, Logits, Lost, Mixture

__all__ = ["Pieces", "cut", "move", "turn"]

Pieces = dict[Hashable, Source]
STEPS = 64  # of a sequence that are told apart


def move(eqn: Any, operands: list[Any], shape: Any, pieces: Pieces) -> Any:
    """What a move makes of a law."""
    x = operands[0]
    if isinstance(x, Logits):
        return replace(x, entry=rearrange(eqn, x.entry, shape))
    if isinstance(x, Attention):
        return replace(x, law=rearrange(eqn, x.law, shape))
    if isinstance(x, Entry):
        if eqn.primitive.name == "slice":
            low = eqn.params["start_indices"]
            high = eqn.params["limit_indices"]
            for axis, (a, b) in enumerate(zip(low, high, strict=True)):
                x = cut(
                    x,
                    axis,
                    (a, b),
                    (*x.shape[:axis], b - a, *x.shape[axis + 1 :]),
                    pieces,
                )
            return x.reshape(shape, cut_kinds(x.kinds, shape))
        if eqn.primitive.name == "broadcast_in_dim":
            return _spread(rearrange(eqn, x, shape), shape, pieces)
        if eqn.primitive.name == "pad" and number_of(operands[1]) == 0:
            return _pad(eqn, x, shape)
        return rearrange(eqn, x, shape)
    if isinstance(x, Mixture):
        parts = tuple(
            (share, rearrange_or_guess(eqn, e, shape)) for share, e in x.parts
        )
        return Mixture(parts, tuple(shape))
    return replace(x, shape=tuple(shape))


def _spread(x: Entry, shape: Any, pieces: Pieces) -> Entry:
    """A law that is the same at all positions, where it had none."""
    new = [i for i, n in enumerate(shape) if n > 1 and not x.kinds[i]]
    if not new or not x.sources or any(POSITION in dict(run) for run in x.kinds):
        return x
    kinds = [
        ((POSITION, shape[i]),) if i in new else x.kinds[i] for i in range(len(shape))
    ]
    made = _renewed(x, pieces, "spread", position=1.0, pairs=None)
    return made.reshape(shape, kinds)


def _renewed(x: Entry, pieces: Pieces, *mark: Any, **changes: Any) -> Entry:
    """The same function of sources of its own, which have such a mark."""

    def own(s: Source) -> Source:
        return pieces.setdefault((s, *mark), replace(s, of=None, **changes))

    back = None if x.back is None else own(x.back)
    return replace(x, sources=tuple(map(own, x.sources)), back=back)


def _pad(eqn: Any, x: Entry, shape: Any) -> Any:
    """With zeros; but for a border of an image, they have a share of their own."""
    share = math.prod(x.shape) / math.prod(shape)
    sides = [*zip(x.kinds, eqn.params["padding_config"], strict=True)]
    border = all(
        not any(pads) or (UNIT not in dict(run) and pads[2] == 0) for run, pads in sides
    )
    whole = rearrange(eqn, x, shape)
    if border and share > 0.5:
        return whole
    padded = [k for k, (_, pads) in enumerate(sides) if any(pads)]
    n, zero = shape[padded[0]], number(0.0, shape)
    if border and len(padded) == 1 and n <= STEPS:  # as of the last step of a loop
        low = eqn.params["padding_config"][padded[0]][0]
        inside = range(low, low + x.shape[padded[0]])
        parts = tuple((1 / n, whole if i in inside else zero) for i in range(n))
        return Mixture(parts, tuple(shape))
    return Mixture(((share, whole), (1 - share, zero)), tuple(shape))


def cut(x: Any, axis: int, ends: tuple[int, int], shape: Any, pieces: Pieces) -> Any:
    """A piece; other units of one law are independent of each other."""
    if not isinstance(x, Entry):
        raise Lost("a piece of what is no signal")
    kinds = cut_kinds(x.kinds, shape)
    low, high = ends
    units = x.size(axis, UNIT) > 1 and (low, high) != (0, x.shape[axis])
    if not units:
        return _some(x, axis, ends).reshape(shape, kinds)
    return _renewed(x, pieces, axis, low, high).reshape(shape, kinds)


def _some(x: Entry, axis: int, ends: tuple[int, int]) -> Entry:
    """Some places of a sequence, with the size that they have."""
    n, profile = x.shape[axis], x.profile
    if profile is None or profile.shape != (n,) or x.size(axis, POSITION) != n:
        return x
    some = profile[slice(*ends)]
    mean = float(some.mean())
    rest = some / mean if len(some) > 1 and mean > 0 else None
    return replace(x, values=x.values * math.sqrt(mean), profile=rest)


def turn(x: Entry, kinds: Any, shape: Any, pieces: Pieces) -> Entry:
    """A law whose units are positions of another's: independent there."""
    turned = any(
        a and b and a[0][0] == UNIT and b[0][0] == POSITION
        for a, b in zip(kinds_of(x, shape), kinds, strict=True)
    )
    if not turned or not x.sources:
        return x
    alike = max(x.position, 0.0) / x.power if x.power and len(x.sources) == 1 else 0.0
    made = _renewed(x, pieces, "turned", position=0.0, pairs=None)
    return replace(made, common=alike)
