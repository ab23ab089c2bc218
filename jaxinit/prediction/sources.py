# SPDX-License-Identifier: Apache-2.0
"""How signals meet in one function, of a few sources at once.

A function of all sources that its operands have is exact. Where there are too many, an
operand that shares none with the others becomes a function of one new source, by its
quantiles. What comes back in a reverse pass is not: it is linear, z φ(u), with z fresh
and u the sources of the functions that it came through, which it may meet again. Of φ
only the square counts, so the newest u are integrated out: the reverse pass has
passed their place, and meets the older ones next.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from jaxinit.prediction.entry import MOST, Entry, Source, nodes
from jaxinit.prediction.places import added, response

__all__ = ["applied", "carried", "collapse", "together"]

Function = Callable[[Sequence[np.ndarray]], np.ndarray]
UNSEEN = 1e-17  # a weight that quantiles do not show
LINEAR = 1e-9  # what a line may be off by, relatively


def applied(
    run: Function, entries: Sequence[Entry], main: Entry, sparing: bool = False
) -> Entry:
    """A function of entries; the axes and the note are those of `main`."""
    sources, values = together(entries, sparing=sparing)
    found = run(values)
    grid = np.broadcast_shapes(found.shape, *(v.shape for v in values))
    whole = np.broadcast_to(found, grid).copy()
    made = replace(main, sources=sources, values=whole, profile=None, common=0.0)
    made = replace(made, loose=0.0)
    if any(e.profile is not None for e in entries):
        return replace(made, profile=response(run, entries, values, made))
    return made


def carried(
    run: Function, name: str, entries: Sequence[Entry], main: Entry
) -> Entry | None:
    """A sum of what comes back, or some of it by a mask; None of anything else.

    Of a mask φ has no sign that could be lost.
    """
    parts = [_carrier(e) for e in entries]
    known = [(k, *part) for k, part in enumerate(parts) if part is not None]
    if name in ("add", "add_any", "sub") and len(known) == len(entries) == 2:
        (_, one, first), (_, two, second) = known
        if one in entries[1].sources or two in entries[0].sources:
            return None
        source = _mixed(one, entries[0], two, entries[1])
        size = applied(lambda v: np.hypot(*v), [_left(first), _left(second)], main)
        made = _times(source, _left(size))
        places = added([(1.0, e) for e in entries])
        return replace(made, profile=None if places is None else places.power)
    for k, source, rest in known if name == "select_n" else ():
        others = [e for i, e in enumerate(entries) if i != k]
        shared = {s for e in others for s in e.sources}
        if any(s.born >= source.born for s in shared):  # not from behind
            continue
        few = rest if len(shared | {*rest.sources}) <= MOST else _left(rest, shared)
        if len(shared | {*few.sources}) > MOST:
            continue
        size, twice = (
            applied(run, [*entries[:k], x, *entries[k + 1 :]], main)
            for x in (few, replace(few, values=2 * few.values))
        )
        most = LINEAR * np.abs(twice.values).max()
        if np.abs(twice.values - 2.0 * size.values).max() <= most:
            return _times(source, _left(size))
    return None


def _carrier(e: Entry) -> tuple[Source, Entry] | None:
    """z and φ of what is z φ(u), with z the newest of its sources."""
    if not e.sources:
        return None
    z, k = nodes()[0], max(range(len(e.sources)), key=lambda k: e.sources[k].born)
    values = np.moveaxis(np.asarray(e.values, np.float64), k, 0)
    rest = values[-1] / z[-1]
    off = np.abs(values - np.multiply.outer(z, rest)).max()
    if off > LINEAR * np.abs(values).max():
        return None
    others = tuple(s for i, s in enumerate(e.sources) if i != k)
    return e.sources[k], replace(e, sources=others, values=rest)


def _left(e: Entry, kept: set[Source] | None = None) -> Entry:
    """√E φ², given the oldest sources, or such."""
    order = sorted(e.sources, key=lambda s: s.born)
    stay = set(order[: MOST - 1]) if kept is None else kept
    square = np.square(np.asarray(e.values, np.float64))
    for k in reversed(range(len(e.sources))):
        if e.sources[k] not in stay:
            square = np.tensordot(square, nodes()[1], ([k], [0]))
    sources = tuple(s for s in e.sources if s in stay)
    if len(sources) == len(e.sources):
        return e
    return replace(e, sources=sources, values=np.sqrt(square))


def _times(source: Source, size: Entry) -> Entry:
    values = np.multiply.outer(nodes()[0], size.values)
    return replace(size, sources=(source, *size.sources), values=values)


def _mixed(one: Source, a: Entry, two: Source, b: Entry) -> Source:
    """A source with the correlations of a sum of two."""
    total = a.power + b.power or 1.0
    x, y = a.power / total, b.power / total
    pairs = None
    if one.pairs is not None or two.pairs is not None:
        each = [s.position if s.pairs is None else s.pairs for s in (one, two)]
        if len({np.shape(c) for c in each} - {()}) == 1:
            pairs = np.asarray(x * each[0] + y * each[1])
    return Source(
        x * one.position + y * two.position,
        x * one.example + y * two.example,
        pairs=pairs,
    )


@functools.cache
def _seen(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Which nodes of so many sources weigh anything, the corners do not; and what."""
    weights = functools.reduce(np.multiply.outer, [nodes()[1]] * n).ravel()
    seen = weights > UNSEEN
    return seen, weights[seen]


def collapse(entry: Entry) -> Entry:
    """The same law as a function of one new source: its quantiles."""
    if len(entry.sources) < 2:
        return entry
    _z, w = nodes()
    seen, weights = _seen(len(entry.sources))
    values = entry.values.ravel()[seen]
    order = np.argsort(values)
    below = np.cumsum(weights[order]) - weights[order] / 2
    chances = np.cumsum(w) - w / 2
    found = np.interp(chances, below, values[order])
    found = (found - (found * w).sum()) * _ratio(entry, found, w) + entry.mean
    spread = entry.power - entry.mean**2 or 1.0
    pos, ex = (
        min(max((c - entry.mean**2) / spread, -1.0), 1.0)
        for c in (entry.position, entry.example)
    )
    pairs, places = None, entry.places
    if places is not None and places.pairs is not None:
        size = np.sqrt(np.maximum(places.power.ravel(), 1e-12))
        whole = entry.power * places.pairs / np.outer(size, size)
        pairs = np.clip((whole - entry.mean**2) / spread, -1.0, 1.0)
    source = Source(pos, ex, pairs=pairs)
    return replace(entry, sources=(source,), values=found)


def _ratio(entry: Entry, found: np.ndarray, w: np.ndarray) -> float:
    """What gives quantiles the variance of the whole."""
    mean = (found * w).sum()
    have = float(((found - mean) ** 2 * w).sum())
    want = entry.power - entry.mean**2
    return math.sqrt(want / have) if have > 0 and want > 0 else 1.0


def together(
    entries: Sequence[Entry], most: int = MOST, sparing: bool = False
) -> tuple[tuple[Source, ...], list[np.ndarray]]:
    """Their sources, and their functions on one product of nodes.

    Where there are more sources than `most`, entries that share none are collapsed: all
    of them, or sparingly as many as need be, the newest first.
    """
    if len(_sources(entries)) > most:
        entries = list(entries)
        alone = [
            i
            for i, e in enumerate(entries)
            if not set(e.sources) & {*_sources([*entries[:i], *entries[i + 1 :]])}
        ]
        alone.sort(key=lambda i: -max((s.born for s in entries[i].sources), default=0))
        for i in alone:
            if not sparing or len(_sources(entries)) > most:
                entries[i] = collapse(entries[i])
    sources = _sources(entries)
    if len(sources) > most:
        raise ValueError(f"{len(sources)} signals meet in one function")
    made = []
    for e in entries:
        values = np.asarray(e.values)
        order = sorted(range(len(e.sources)), key=lambda i: sources.index(e.sources[i]))
        values = values.transpose(order) if order else values
        shape = [len(nodes()[0]) if s in e.sources else 1 for s in sources]
        made.append(values.reshape(shape))
    return tuple(sources), made


def _sources(entries: Sequence[Entry]) -> list[Source]:
    return list(dict.fromkeys(s for e in entries for s in e.sources))
