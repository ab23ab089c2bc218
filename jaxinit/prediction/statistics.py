# SPDX-License-Identifier: Apache-2.0
"""Sums, averages and extrema of signals, and what is made of them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jaxinit.prediction import contractions as sums
from jaxinit.prediction import softmax
from jaxinit.prediction.entry import (
    EXAMPLE,
    KEY,
    QUERY,
    UNIT,
    Entry,
    gaussian,
    nodes,
    number,
)
from jaxinit.prediction.functions import number_of
from jaxinit.prediction.layouts import cut_kinds
from jaxinit.prediction.places import centred, windowed
from jaxinit.prediction.values import (
    Attention,
    Average,
    Cotangent,
    Logits,
    Lost,
    Mixture,
    Shift,
    Sum,
)

__all__ = ["reduce", "statistic", "window_max", "window_sum"]

ENOUGH = 8  # entries of which a sum is taken for its expectation


NEIGHBOURS = "entries beside each other taken as independent but for what all share"


def statistic(name: str, operands: Sequence[Any], shape: Any) -> Any:
    """Combinations of a signal with its own averages, maxima and sums."""
    kinds = tuple(type(x) for x in operands)
    if any(k is Shift for k in kinds):
        others = [x for x in operands if not isinstance(x, Shift)]
        if name == "sub" and isinstance(operands[1], Shift):
            return others[0]
        if name in ("add", "add_any") and Cotangent in kinds:
            return replace(others[0], centred=True)
        return Shift(tuple(shape))
    if any(k is Sum for k in kinds):
        return _of_sum(name, operands, shape)
    if any(k is Cotangent for k in kinds):
        g, other = sorted(operands, key=lambda x: not isinstance(x, Cotangent))
        if name == "mul" and g.centred:
            mine = other if isinstance(other, Logits) else Logits(other, None)
            return softmax.slopes(g, mine)
        raise Lost("a gradient behind a softmax")
    if any(k is Average for k in kinds):
        return _of_averages(name, operands, shape)
    if any(k is Attention for k in kinds):
        known = [number_of(x) for x in operands if not isinstance(x, Attention)]
        if name == "mul" and known == [1.0]:
            return next(x for x in operands if isinstance(x, Attention))
        raise Lost("a function of attention")
    return None


def _of_sum(name: str, operands: Sequence[Any], shape: Any) -> Any:
    """A softmax, or in its reverse pass what comes back to one."""
    if name == "integer_pow":
        return Shift(tuple(shape))  # of Σ a g: slopes have it
    if name == "div" and isinstance(operands[1], Sum):
        top, total = operands
        logits = top if isinstance(top, Logits) else Logits(top, None)
        if any(s in total.of.entry.sources for s in logits.entry.sources):
            return softmax.attention(logits, total)
        return Cotangent(logits.entry, total)
    raise Lost("a sum of exponentials")


def _of_averages(name: str, operands: Sequence[Any], shape: Any) -> Any:
    """Averages over a batch: a mean that is taken off, and what is left of squares."""
    first = next(x for x in operands if isinstance(x, Average))
    known = [number_of(x) for x in operands if not isinstance(x, Average)]
    if name in ("mul", "div") and len(known) == 1 and known[0] is not None:
        scale = known[0] if name == "mul" else 1 / known[0]
        return replace(
            first, of=replace(first.of, values=first.of.values * scale), shape=shape
        )
    if name in ("square", "integer_pow") or (name == "mul" and len(operands) == 2):
        return replace(first, squared=True, shape=tuple(shape))
    if name == "sub" and len(operands) == 2:
        a, b = operands
        if isinstance(a, Entry) and isinstance(b, Average) and not b.squared:
            return _centre(a, b, shape)
        if isinstance(a, Average) and isinstance(b, Average) and b.squared:
            return number(b.of.power - b.square, shape)
        if isinstance(b, Average) and b.squared and (x := number_of(a)) is not None:
            return number(x - b.square, shape)
        if isinstance(a, Average) and (x := number_of(b)) is not None:
            return number(a.of.mean - x, shape)
    if name == "max" and known and known[0] == 0:
        return first
    raise Lost("an average that is random")


def _centre(x: Entry, mean: Average, shape: Any) -> Entry:
    """What is left of a signal without its mean over the batch, or over units."""
    if x.slope is None:
        raise Lost("a mean of a function that is not linear")
    rest = x.power - mean.square
    if mean.units:
        both = x.position, x.example
        return gaussian(rest, *both, shape, x.kinds, x.assumed, x.places)
    near = x.position - x.example
    return gaussian(rest, near, 0.0, shape, x.kinds, x.assumed, centred(x))


def reduce(eqn: Any, x: Any, shape: Any) -> Any:
    """Sums over axes: over units a number, over others an average."""
    name, axes = eqn.primitive.name, eqn.params["axes"]
    if isinstance(x, Mixture):
        if len(x.parts) == 1:
            return reduce(eqn, x.parts[0][1], shape)
        count = math.prod(x.shape[i] for i in axes)
        return number(count * sum(s * e.mean for s, e in x.parts), shape)
    if isinstance(x, Shift):
        return Shift(tuple(shape))
    if isinstance(x, Average | Attention | Cotangent | Sum):
        raise Lost("a sum of statistics")
    entry = x.entry if isinstance(x, Logits) else x
    keys = next((k for k in (KEY, QUERY) for i in axes if entry.size(i, k) > 1), None)
    if name == "reduce_max" and keys:
        return Shift(tuple(shape))
    if name != "reduce_sum":
        raise Lost("an extremum")
    if keys:
        top = x if isinstance(x, Logits) else Logits(x, None)
        return Sum(top, tuple(shape), keys)
    kept = tuple(run for i, run in enumerate(entry.kinds) if i not in axes)
    count = math.prod(entry.shape[i] for i in axes)
    units = math.prod(entry.size(i, UNIT) for i in axes)
    if count == 1:
        return entry.reshape(shape, kept)
    if entry.common and count == units and entry.slope is not None:
        whole = replace(entry, values=entry.values * count)
        return Average(whole, count, tuple(shape), units=True)
    if units >= ENOUGH or not entry.sources:
        made = number(count * entry.mean, shape).reshape(shape, kept)
        return replace(made, profile=entry.profile if count == units else None)
    if units > 1:
        raise Lost(f"a sum over {units} units, too few for their mean")
    examples = math.prod(entry.size(i, EXAMPLE) for i in axes)
    if examples > 1:
        if abs(entry.example - entry.mean**2) <= 1e-9 * max(entry.power, 1e-300):
            rest = sums.pool(entry, axes, shape, kept)
            made = number(count * entry.mean, shape).reshape(shape, kept)
            return replace(made, loose=rest.power - rest.mean**2)
        return Average(replace(entry, values=entry.values * count), count, tuple(shape))
    return sums.pool(entry, axes, shape, kept)


def window_sum(eqn: Any, x: Any, shape: Any) -> Entry:
    """A sum over windows of positions."""
    if not isinstance(x, Entry):
        raise Lost("a window of what is no signal")
    sizes = eqn.params["window_dimensions"]
    count = math.prod(sizes)
    if any(n > 1 and x.size(i, UNIT) > 1 for i, n in enumerate(sizes)):
        raise Lost("a window of units")
    inner = x.position + (x.power - x.position) / count
    m = x.mean
    made = gaussian(
        count**2 * (inner - m**2),
        count**2 * (x.position - m**2),
        count**2 * (x.example - m**2),
        shape,
        cut_kinds(x.kinds, shape),
        x.assumed or NEIGHBOURS,
        windowed(eqn, x),
    )
    return replace(made, values=made.values + count * m)


def window_max(eqn: Any, x: Any, shape: Any) -> Entry:
    """The greatest of a window of positions, of a function that does not fall."""
    if not isinstance(x, Entry) or len(x.sources) != 1:
        raise Lost("a window of what is no signal")
    if (np.diff(x.values) < 0).any():
        raise Lost("the greatest of a function that falls")
    count = math.prod(eqn.params["window_dimensions"])
    z, w = nodes()
    shared = max(x.sources[0].position, 0.0)
    chance = np.clip(np.cumsum(w) - w / 2, 1e-12, 1 - 1e-12)
    most = np.interp(chance ** (1 / count), chance, z)  # quantiles of the greatest of n
    at = math.sqrt(shared) * z[:, None] + math.sqrt(1 - shared) * most[None, :]
    f = np.interp(at, z, x.values)
    given = f @ w
    mean, power, near = float(w @ given), float(w @ (f**2 @ w)), float(w @ given**2)
    far = mean**2 + (near - mean**2) * (
        x.sources[0].example / shared if shared else 0.0
    )
    kinds = cut_kinds(x.kinds, shape)
    made = gaussian(
        power - mean**2,
        near - mean**2,
        far - mean**2,
        shape,
        kinds,
        x.assumed or NEIGHBOURS,
        windowed(eqn, x),
    )
    return replace(made, values=made.values + mean)
