# SPDX-License-Identifier: Apache-2.0
"""Views: which entries of a source an array holds, whatever has moved them.

A `View` labels the axes of an array with the axes of its source: each axis is a run of
`Range`s of the source's axes, the last varying fastest. Reshaping splits and joins the
runs, transposing and broadcasting reorder and repeat them, slicing shortens them. What
cannot be said so is None.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxinit.core import Shape

__all__ = ["REPEAT", "Range", "View", "entries", "extent", "repeat", "whole"]

REPEAT = -1  # the axis of a range that repeats the source


class Range(NamedTuple):
    """`size` indices of an axis of the source: start, start + stride and so on."""

    axis: int
    size: int
    stride: int = 1
    start: int = 0


Run = tuple[Range, ...]


def extent(run: Run) -> int:
    """How many entries a run has."""
    return math.prod(each.size for each in run)


def repeat(size: int) -> Run:
    return () if size == 1 else (Range(REPEAT, size, 0),)


class View(NamedTuple):
    """An array's entries, in terms of its source's.

    Attributes:
        shape: of the array.
        runs: for each axis of the array, what it holds of the source.
        places: where along each axis that begins, if other entries lie beside it.
        fixed: ranges of one index that lost their axis: a slice was taken there.
    """

    shape: Shape
    runs: tuple[Run, ...]
    places: tuple[int, ...]
    fixed: Run = ()

    @property
    def units(self) -> tuple[int, ...]:
        """The axes of the array along which the source varies."""
        return tuple(
            i for i, run in enumerate(self.runs) if any(r.axis != REPEAT for r in run)
        )

    def spans(self, axis: int) -> tuple[int, int]:
        """Where along an axis of the array the source's entries begin and end."""
        return self.places[axis], self.places[axis] + extent(self.runs[axis])

    @property
    def slices(self) -> tuple[slice, ...] | None:
        """Where in the array the source's entries lie; None if they fill it."""
        if all(map(self.covers, range(len(self.shape)))):
            return None
        return tuple(slice(*self.spans(i)) for i in range(len(self.shape)))

    def covers(self, axis: int) -> bool:
        """Whether the source alone fills an axis of the array."""
        return extent(self.runs[axis]) == self.shape[axis]

    def permute(self, order: Sequence[int]) -> "View":
        """With the axes in that order."""
        return View(
            tuple(self.shape[i] for i in order),
            tuple(self.runs[i] for i in order),
            tuple(self.places[i] for i in order),
            self.fixed,
        )

    def without(self, axes: Sequence[int]) -> "View":
        """Without some axes; the single indices there are noted."""
        kept = [i for i in range(len(self.shape)) if i not in axes]
        lost = tuple(r for i in axes for r in self.runs[i])
        view = self.permute(kept)
        return view._replace(fixed=(*self.fixed, *lost))

    def broadcast(self, shape: Shape, dims: Sequence[int]) -> "View":
        """As JAX's `broadcast_in_dim`."""
        runs = [repeat(size) for size in shape]
        places = [0] * len(shape)
        fixed = self.fixed
        for i, dim in enumerate(dims):
            if self.shape[i] == shape[dim]:
                runs[dim], places[dim] = self.runs[i], self.places[i]
            else:
                fixed = (*fixed, *self.runs[i])
        return View(shape, tuple(runs), tuple(places), fixed)

    def cut(self, axis: int, low: int, high: int, step: int = 1) -> "View | None":
        """Indices low to high of an axis; a view of nothing has an empty run there."""
        run, place, size = self.runs[axis], self.places[axis], self.shape[axis]
        length = -(-(high - low) // step)
        here, until = max(low, place), min(high, place + extent(run))
        if (low, high, step) == (0, size, 1):
            return self
        if here >= until:
            run, place = (Range(REPEAT, 0),), 0
        elif (here, until) == (place, place + extent(run)) and step == 1:
            place -= low
        elif step > 1 and (len(run) > 1 or extent(run) < size):
            return None
        else:
            first, *inner = run
            block = extent(tuple(inner))
            if (here - place) % block or (until - here) % block:
                return None
            skipped, kept = (here - place) // block, -(-(until - here) // block // step)
            start = first.start + skipped * first.stride
            stride = first.stride * step
            run = (first._replace(size=kept, stride=stride, start=start), *inner)
            place = max(place - low, 0)
        shape = (*self.shape[:axis], length, *self.shape[axis + 1 :])
        runs = (*self.runs[:axis], run, *self.runs[axis + 1 :])
        places = (*self.places[:axis], place, *self.places[axis + 1 :])
        return View(shape, runs, places, self.fixed)

    @property
    def is_empty(self) -> bool:
        """Whether the array holds nothing of the source."""
        return any(r.size == 0 for run in self.runs for r in run)

    def put(self, axis: int, offset: int, size: int) -> "View":
        """As a part of a longer array, from an offset on."""
        shape = (*self.shape[:axis], size, *self.shape[axis + 1 :])
        place = self.places[axis] + offset
        places = (*self.places[:axis], place, *self.places[axis + 1 :])
        return self._replace(shape=shape, places=places)

    def reshape(self, shape: Shape) -> "View | None":
        """In another shape of the same size."""
        if 0 in shape:
            return None
        fixed = (
            *self.fixed,
            *(
                r
                for n, run in zip(self.shape, self.runs, strict=True)
                if n == 1
                for r in run
            ),
        )
        old = [i for i, n in enumerate(self.shape) if n > 1]
        new = [j for j, n in enumerate(shape) if n > 1]
        runs: list[Run] = [()] * len(shape)
        places = [0] * len(shape)
        while old:
            olds, news = [old.pop(0)], [new.pop(0)]
            a, b = self.shape[olds[0]], shape[news[0]]
            while a != b:
                if a < b:
                    olds.append(old.pop(0))
                    a *= self.shape[olds[-1]]
                else:
                    news.append(new.pop(0))
                    b *= shape[news[-1]]
            made = self._regroup(olds, [shape[j] for j in news])
            if made is None:
                return None
            for j, (run, place) in zip(news, made, strict=True):
                runs[j], places[j] = run, place
        return View(shape, tuple(runs), tuple(places), fixed)

    def _regroup(
        self, olds: Sequence[int], sizes: Sequence[int]
    ) -> list[tuple[Run, int]] | None:
        """Neighbouring axes as others of the same number of entries."""
        first, *rest = olds
        if not rest and len(sizes) == 1:
            return [(self.runs[first], self.places[first])]
        if not all(map(self.covers, rest)):
            return None
        place, sizes = self.places[first], list(sizes)
        if not self.covers(first):  # a part of it, in whole steps of the new first axis
            inner = math.prod(self.shape[i] for i in rest)
            block = math.prod(sizes[1:])
            begin, length = place * inner, extent(self.runs[first]) * inner
            if begin % block or length % block:
                return None
            place, sizes[0] = begin // block, length // block
        factors = [r for i in olds for r in self.runs[i]]
        made: list[tuple[Run, int]] = []
        for size in reversed(sizes):
            run: list[Range] = []
            need = size
            while need > 1:
                last = factors.pop()
                if need % last.size == 0:
                    run.insert(0, last)
                    need //= last.size
                elif last.size % need == 0:
                    run.insert(0, last._replace(size=need, start=0))
                    outer = last.size // need
                    factors.append(last._replace(size=outer, stride=last.stride * need))
                    need = 1
                else:
                    return None
            made.insert(0, (tuple(run), 0))
        made[0] = (made[0][0], place)
        return made


def whole(shape: Shape) -> View:
    """An array that is its own source."""
    runs = tuple((Range(axis, n),) for axis, n in enumerate(shape))
    return View(tuple(shape), runs, (0,) * len(shape))


def entries(view: View) -> int:
    """How many entries of the source a view has."""
    return math.prod(r.size for run in view.runs for r in run if r.axis != REPEAT)
