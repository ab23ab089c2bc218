# SPDX-License-Identifier: Apache-2.0
"""How signals meet in one function, of a few sources at once.

A function of all sources that its operands have is exact. Where there are too many, an
operand that shares none with the others becomes a function of one new source, by its
quantiles. What comes back in a reverse pass is not: it is linear, z φ(u), with z fresh
and u the sources of the functions that it came through, which it may meet again. Where
u are too many, the newest are integrated out: the reverse pass has passed their place,
and meets the older ones next.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from jaxinit.prediction.entry import MOST, Entry, Source, nodes
from jaxinit.prediction.places import added, response

__all__ = ["applied", "carried", "collapse", "many", "together"]

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
    made = Entry(
        sources,
        np.broadcast_to(found, grid).copy(),
        main.shape,
        main.kinds,
        main.assumed,
    )
    if any(e.profile is not None for e in entries):
        return replace(made, profile=response(run, entries, values, made))
    return made


def many(entries: Sequence[Entry]) -> bool:
    """Whether entries have more sources than one function is integrated over."""
    return any(e.back for e in entries) or len(_sources(entries)) > MOST


def carried(
    run: Function, name: str, entries: Sequence[Entry], main: Entry
) -> Entry | None:
    """A function that is linear in what comes back; None of anything else."""
    parts = [_carrier(e) for e in entries]
    known = dict.fromkeys(part[0] for part in parts if part is not None)
    if name in ("add", "add_any", "sub") and None not in parts and len(known) == 2:
        one, two = known
        if any(z in e.sources for z, e in zip((two, one), entries, strict=True)):
            return None
        met = _meet([part[1] for part in parts if part is not None], [0, 1])
        if met is None:
            return None
        size = applied(lambda v: np.hypot(*v), met, main)
        places = added([(1.0, e) for e in entries])
        size = replace(size, profile=None if places is None else places.power)
        return _times(_mixed(one, entries[0], two, entries[1]), size)
    z = max(known, key=lambda z: z.born, default=None)
    holders = [k for k, part in enumerate(parts) if part is not None and part[0] is z]
    phis = [
        part[1] if part is not None and k in holders else e
        for k, (part, e) in enumerate(zip(parts, entries, strict=True))
    ]
    if z is None or any(e.back or s.born >= z.born for e in phis for s in e.sources):
        return None
    met = _meet(phis, holders)
    if met is None:
        return None
    size = applied(run, met, main)
    _, values = together(met)
    double = run([2.0 * v if k in holders else v for k, v in enumerate(values)])
    if np.abs(double - 2.0 * size.values).max() > LINEAR * np.abs(double).max():
        return None
    return _times(z, size)


def _carrier(e: Entry) -> tuple[Source, Entry] | None:
    """z and φ of what is z φ(u), with z the newest of its sources."""
    if e.back is not None:
        return e.back, replace(e, back=None)
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


def _meet(entries: Sequence[Entry], phis: Sequence[int]) -> list[Entry] | None:
    """Entries, some of them φ, as functions of a few sources together.

    A source that is the quantile of others that are here gives way to them. Of φ the
    newest sources that no other entry has are integrated out, E φ² being kept.
    """
    made = list(entries)
    while True:
        alone = []
        for k, e in enumerate(made):
            here = {*_sources([*made[:k], *made[k + 1 :]])}
            for s in (s for s in e.sources if s not in here):
                apart = s.of is None or not {*s.of[0]} & here
                alone.append((apart, s.born, k, s))
        alone.sort(key=lambda x: x[:3])
        related = [(k, s) for apart, _, k, s in alone if not apart]
        for k, s in related:
            wide = _expanded(made[k], s)
            if wide is not None:
                made[k] = wide
                break
        else:
            few = len(_sources(made)) <= MOST
            free = [(k, s) for _, _, k, s in alone if k in phis]
            if few and not (related and free):
                return made
            if not free:
                return None
            k, newest = free[-1]
            made[k] = _without(made[k], newest)


def _without(e: Entry, source: Source) -> Entry:
    """√E φ² given the other sources."""
    square = np.square(np.asarray(e.values, np.float64))
    axis = e.sources.index(source)
    return replace(
        e,
        sources=tuple(s for s in e.sources if s is not source),
        values=np.sqrt(np.tensordot(square, nodes()[1], ([axis], [0]))),
    )


def _expanded(e: Entry, s: Source) -> Entry | None:
    """A function of a quantile, as one of what it is the quantile of."""
    rest = tuple(x for x in e.sources if x is not s)
    if s.of is None or {*rest} & {*s.of[0]} or len(rest) + len(s.of[0]) > MOST:
        return None
    z, (sources, function, stands) = nodes()[0], s.of
    at = np.interp(function.ravel(), stands, z)
    values = np.moveaxis(np.asarray(e.values, np.float64), e.sources.index(s), 0)
    flat = values.reshape(len(z), -1)
    low = np.clip(np.searchsorted(z, at) - 1, 0, len(z) - 2)
    share = np.clip((at - z[low]) / (z[low + 1] - z[low]), 0.0, 1.0)[:, None]
    made = flat[low] * (1 - share) + flat[low + 1] * share
    shape = (*function.shape, *values.shape[1:])
    return replace(e, sources=(*sources, *rest), values=made.reshape(shape))


def _times(z: Source, size: Entry) -> Entry:
    if len(size.sources) >= MOST:
        return replace(size, back=z)
    values = np.multiply.outer(nodes()[0], size.values)
    return replace(size, sources=(z, *size.sources), values=values)


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
    """The same law as a function of one new source: its quantiles.

    What comes back is taken for a Gaussian, for it goes on linearly.
    """
    if entry.back is not None:
        power = entry.power or 1.0
        source = Source(entry.position / power, entry.example / power)
        values = math.sqrt(entry.power) * nodes()[0]
        return replace(entry, sources=(source,), values=values, back=None)
    if len(entry.sources) < 2:
        return entry
    seen, weights = _seen(len(entry.sources))
    found = _quantiles(np.asarray(entry.values, np.float64).ravel()[seen], weights)
    spread = entry.power - entry.mean**2 or 1.0
    pos, ex = (
        min(max((c - entry.mean**2) / spread, -1.0), 1.0)
        for c in (entry.position, entry.example)
    )
    pairs = None if entry.places is None else entry.places.correlations
    if pairs is not None:
        pairs = np.clip((entry.power * pairs - entry.mean**2) / spread, -1.0, 1.0)
    of = (entry.sources, np.asarray(entry.values, np.float32), found)
    born = max(s.born for s in entry.sources)
    source = Source(pos, ex, pairs=pairs, born=born, of=of)
    return replace(entry, sources=(source,), values=found)


def _narrowed(e: Entry, kept: set[Source]) -> Entry:
    """The same law given some of its sources, as a function of one other: quantiles."""
    few = [k for k, s in enumerate(e.sources) if s in kept]
    own = [k for k, s in enumerate(e.sources) if s not in kept]
    seen, weights = _seen(len(own))
    values = np.asarray(e.values, np.float64).transpose([*few, *own])
    flat = values.reshape(-1, len(seen))[:, seen]
    rows = np.array([_quantiles(row, weights) for row in flat])
    made = rows.reshape(*values.shape[: len(few)], -1)
    source = Source(
        float(np.mean([e.sources[k].position for k in own])),
        float(np.mean([e.sources[k].example for k in own])),
        born=max(e.sources[k].born for k in own),
    )
    sources = (*(e.sources[k] for k in few), source)
    return replace(e, sources=sources, values=made)


def _quantiles(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """At the nodes, with the mean and the variance of the whole."""
    w, order = nodes()[1], np.argsort(values)
    below = np.cumsum(weights[order]) - weights[order] / 2
    found = np.interp(np.cumsum(w) - w / 2, below, values[order])
    mean, middle = values @ weights, found @ w
    wide, has = (values - mean) ** 2 @ weights, (found - middle) ** 2 @ w
    scale = math.sqrt(wide / has) if wide > 0 and has > 0 else 1.0
    return np.asarray((found - middle) * scale + mean)


def together(
    entries: Sequence[Entry], sparing: bool = False
) -> tuple[tuple[Source, ...], list[np.ndarray]]:
    """Their sources, and their functions on one product of nodes.

    Where there are too many, entries that share none are collapsed: all
    of them, or sparingly as many as need be, the newest first.
    """
    if many(entries):
        entries = list(entries)
        alone = [
            i
            for i, e in enumerate(entries)
            if e.back
            or not {*e.sources} & {*_sources([*entries[:i], *entries[i + 1 :]])}
        ]
        alone.sort(key=lambda i: -max((s.born for s in entries[i].sources), default=0))
        for i in alone:
            if not sparing or many(entries):
                entries[i] = collapse(entries[i])
        for i, e in enumerate(entries):
            others = {*_sources([*entries[:i], *entries[i + 1 :]])}
            if many(entries) and not e.back and len({*e.sources} - others) > 1:
                entries[i] = _narrowed(e, others)
    sources = _sources(entries)
    if many(entries):
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
