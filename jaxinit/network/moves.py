# SPDX-License-Identifier: Apache-2.0
"""Equations that only move entries: what an array holds afterwards."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from jaxinit.network.views import Range, View, extent, repeat

__all__ = [
    "JOINS",
    "MOVES",
    "SPLITS",
    "expand",
    "gather",
    "join",
    "move",
    "pick",
    "split",
]


def _broadcast(view: View, shape: Any, params: Any) -> View | None:
    return view.broadcast(shape, params["broadcast_dimensions"])


def _slice(view: View, shape: Any, params: Any) -> View | None:
    lows, highs = params["start_indices"], params["limit_indices"]
    steps = params["strides"] or (1,) * len(lows)
    made: View | None = view
    for axis, each in enumerate(zip(lows, highs, steps, strict=True)):
        made = made and made.cut(axis, *each)
    return made


def _pad(view: View, shape: Any, params: Any) -> View | None:
    made = view
    for axis, (low, high, inner) in enumerate(params["padding_config"]):
        if inner or low < 0 or high < 0:
            return None
        made = made.put(axis, low, view.shape[axis] + low + high)
    return made


def _flip(view: View, shape: Any, params: Any) -> View:
    places = list(view.places)
    for axis in params["dimensions"]:
        places[axis] = view.shape[axis] - places[axis] - extent(view.runs[axis])
    return view._replace(places=tuple(places))


def _reshape(view: View, shape: Any, params: Any) -> View | None:
    order = params["dimensions"]  # the axes are put in that order first
    return (view if order is None else view.permute(order)).reshape(shape)


def _tile(view: View, shape: Any, params: Any) -> View | None:
    if not all(map(view.covers, range(len(shape)))):
        return None
    pairs = zip(view.runs, params["reps"], strict=True)
    runs = tuple((*repeat(int(count)), *run) for run, count in pairs)
    return View(tuple(shape), runs, view.places, view.fixed)


def _same(view: View, shape: Any, params: Any) -> View | None:
    return view


# By the name of the primitive; each is given the shape and the parameters.
MOVES: dict[str, Callable[[View, Any, Any], View | None]] = {
    "broadcast_in_dim": _broadcast,
    "convert_element_type": _same,
    "copy": _same,
    "copy_p": _same,
    "device_put": _same,
    "name": _same,
    "optimization_barrier": _same,
    "pad": _pad,
    "pvary": _same,
    "reduce_precision": _same,
    "reshape": _reshape,
    "rev": _flip,
    "sharding_constraint": _same,
    "slice": _slice,
    "squeeze": lambda view, shape, params: view.without(params["dimensions"]),
    "stop_gradient": _same,
    "tile": _tile,
    "transpose": lambda view, shape, params: view.permute(params["permutation"]),
}

SPLITS = ("split", "unstack")  # moves of several outputs
JOINS = ("concatenate", "stack")


def move(name: str, view: View, shape: Any, params: Any) -> View | None:
    """What a move makes of a view; None where that cannot be said."""
    return MOVES[name](view, shape, params)


def split(view: View, params: Any) -> list[View | None]:
    """What `split` makes of a view; without sizes, what `unstack` makes of it."""
    axis = params["axis"]
    if "sizes" not in params:
        single = [view.cut(axis, k, k + 1) for k in range(view.shape[axis])]
        return [each and each.without([axis]) for each in single]
    made, low = [], 0
    for size in map(int, params["sizes"]):
        made.append(view.cut(axis, low, low + size))
        low += size
    return made


def join(view: View, axis: int, offset: int, size: int) -> View:
    """An operand of `concatenate`, or of `stack`, which begins at the offset."""
    return view.put(axis, offset, size)


def expand(view: View, axis: int) -> View:
    """With a new axis of one index."""
    return View(
        (*view.shape[:axis], 1, *view.shape[axis:]),
        (*view.runs[:axis], (), *view.runs[axis:]),
        (*view.places[:axis], 0, *view.places[axis:]),
        view.fixed,
    )


def pick(view: View, sizes: Sequence[int]) -> tuple[View, tuple[Range, ...]] | None:
    """What `dynamic_slice` makes of a view, and the ranges that it picks from."""
    from_: list[Range] = []
    for axis, size in enumerate(sizes):
        if size == view.shape[axis]:
            continue
        run = view.runs[axis]
        if not view.covers(axis):
            return None
        if size == 1:
            from_ += run
            new = repeat(1)
        elif len(run) == 1:
            new = (run[0]._replace(size=size),)
        else:
            return None
        runs = (*view.runs[:axis], new, *view.runs[axis + 1 :])
        shape = (*view.shape[:axis], size, *view.shape[axis + 1 :])
        view = View(shape, runs, view.places, view.fixed)
    return view, tuple(from_)


def gather(
    view: View, shape: Any, params: Any
) -> tuple[View, tuple[Range, ...]] | None:
    """What `gather` makes of a view: whole slices, and the ranges it picks from."""
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    batching = getattr(numbers, "operand_batching_dims", ())
    gone = (*numbers.collapsed_slice_dims, *batching)
    from_: tuple[Range, ...] = ()
    kept = []
    for axis, size in enumerate(sizes):
        whole = size == view.shape[axis]
        if axis in gone:
            from_ += view.runs[axis]
        elif not whole and size == 1:
            from_ += view.runs[axis]
            kept.append(repeat(1))
        elif whole and view.covers(axis):
            kept.append(view.runs[axis])
        else:
            return None
    runs = [repeat(n) for n in shape]
    for dim, run in zip(numbers.offset_dims, kept, strict=True):
        runs[dim] = run
    if any(math.prod([extent(run)]) != n for run, n in zip(runs, shape, strict=True)):
        return None
    return View(tuple(shape), tuple(runs), (0,) * len(shape), view.fixed), from_
