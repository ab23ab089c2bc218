# SPDX-License-Identifier: Apache-2.0
"""Attention: products of queries and keys, their softmax, averages, and back again.

What comes back through a softmax is exact where the gradient is independent of the
weights that the softmax gave, as it is between fresh kernels, and where keys are alike;
both hold about, so that what comes back to queries and keys is called approximate.
"""

import functools
import math
from typing import Any

import numpy as np

from jaxinit.prediction.contractions import moments
from jaxinit.prediction.entry import (
    KEY,
    POSITION,
    QUERY,
    UNIT,
    Entry,
    Source,
    gaussian,
    nodes,
)
from jaxinit.prediction.values import Attention, Cotangent, Logits, Lost, Sum

__all__ = ["attention", "average", "product", "scores", "slopes"]

APPROXIMATE = "approximate: it comes back through a softmax"


def scores(eqn: Any, a: Entry, b: Entry) -> Entry:
    """Products of queries and keys, over units: Gaussian, with an axis of keys."""
    (contract, batched) = eqn.params["dimension_numbers"]
    n = math.prod(a.shape[i] for i in contract[0])
    if not any(a.size(i, UNIT) > 1 for i in contract[0]) or set(a.sources) & set(
        b.sources
    ):
        raise Lost("a product of data with itself")
    power = n * a.power * b.power + (n * a.mean * b.mean) ** 2
    z = nodes()[0]
    keys = b.position / b.power if b.power else 0.0
    source = Source(a.position / a.power if a.power else 0.0, 0.0, keys)
    shape = eqn.outvars[0].aval.shape
    batch = [a.kinds[i] for i in batched[0]]
    rows, cols = (
        [
            tuple((kind if k == POSITION else k, m) for k, m in x.kinds[i])
            for i in range(len(x.shape))
            if i not in (*contract[side], *batched[side])
        ]
        for side, (x, kind) in enumerate(((a, QUERY), (b, KEY)))
    )
    values = math.sqrt(power) * z
    return Entry(
        (source,), values, tuple(shape), (*batch, *rows, *cols), a.assumed or b.assumed
    )


def attention(weights: Any, total: Sum) -> Attention:
    """exp(s) over its sum: what a softmax over keys gives to the average of values."""
    entry, mask = weights.entry, weights.mask
    if len(entry.sources) != 1 or (entry.values <= 0).any():
        raise Lost("a softmax of a function of its own")
    z = nodes()[0]
    logs = np.log(entry.values)
    slope = (logs[-1] - logs[0]) / (z[-1] - z[0])
    source = entry.sources[0]
    alike = source.key if total.kind == KEY else source.position
    variance = slope**2 * (1 - alike)
    counts, weight = _counts(entry.shape[-1], mask)
    found = _softmax(round(variance, 12), tuple(counts.tolist()))
    power, shared, slopes, near = (float(weight @ each) for each in found)
    return Attention(power, shared, slopes, near, total.of.entry, total.kind)


def _counts(length: int, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """How many keys queries have, and the share of queries with so many."""
    rows = np.full(1, length) if mask is None else mask.reshape(-1, mask.shape[-1])
    counts, times = np.unique(
        rows if mask is None else rows.sum(-1), return_counts=True
    )
    return counts, times / times.sum()


@functools.lru_cache(maxsize=64)
def _softmax(variance: float, counts: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Of a softmax a over so many logits of such a variance, for a and another a':

    E Σ a², E Σ a a', E Σ a² (1 - 2 a + Σ a²), E Σ a a' (1 - a - a' + Σ a a').
    """
    most = int(max(counts))
    draws = max(64, min(4096, 2**22 // max(most, 1)))
    logits = math.sqrt(variance) * np.random.default_rng(0).standard_normal(
        (draws, most)
    )
    e = np.exp(logits - logits.max(1, keepdims=True))
    ends = np.array([max(int(c), 1) for c in counts]) - 1
    one, two, three = (
        np.cumsum(e**k, 1)[:, ends] / np.cumsum(e, 1)[:, ends] ** k for k in (1, 2, 3)
    )
    shared = 1 / (ends + one[0])
    near = shared * (1 - shared)
    return two.mean(0), shared, (two - 2 * three + two**2).mean(0), near


def _kinds(eqn: Any, x: Any, side: int) -> list[Any]:
    """The kinds of axes of a product with data, whose other side has positions."""
    contract, batched = eqn.params["dimension_numbers"]
    mine, ours = contract[1 - side], batched[1 - side]
    shape = eqn.outvars[0].aval.shape
    kinds = [x.kinds[i] for i in ours]
    free = [x.kinds[i] for i in range(len(x.shape)) if i not in (*mine, *ours)]
    others = [
        ((POSITION, n),) if n > 1 else ()
        for n in shape[len(kinds) : len(shape) - len(free)]
    ]
    return [*kinds, *others, *free] if side == 0 else [*kinds, *free, *others]


def average(eqn: Any, a: Attention, v: Any, side: int) -> Entry:
    """An average of values: their shared part stays, the rest shrinks.

    Going back, the sum is over queries, and gives each key its share.
    """
    contract, _ = eqn.params["dimension_numbers"]
    power, near, far, note = moments(v, contract[1 - side])
    laid = (eqn.outvars[0].aval.shape, _kinds(eqn, v, side))
    keys = math.prod(a.law.size(i, a.kind) for i in range(len(a.shape)))
    if any(a.law.size(i, a.kind) > 1 for i in contract[side]) or keys == 1:
        rest = power - near
        both = near + rest * a.power, near + rest * a.shared
        return gaussian(*both, far, *laid, note)
    n = math.prod(a.shape[i] for i in contract[side])
    whole = n * a.power / keys * power + n * (n - 1) * a.shared / keys * near
    cross = n * (1 - a.power) / (keys * (keys - 1)) * power
    cross += n * (n - 1) / keys**2 * near
    return gaussian(whole, cross, (n / keys) ** 2 * far, *laid, note)


def slopes(g: Cotangent, e: Logits) -> Logits:
    """What comes back to logits: a (g - Σ a g), with g independent of a."""
    law, total = g.entry, g.total
    softmax = attention(total.of, total)
    if len(law.sources) != 1:
        raise Lost("a function of its own behind a softmax")
    axis = len(law.shape) - 1
    source = law.sources[0]
    alike, other = source.key, source.position
    if law.size(axis, QUERY) > 1:
        alike, other = other, alike
    keys = law.shape[axis]
    spread = law.power * (1 - alike) / keys
    near = other * softmax.near / softmax.slopes if softmax.slopes > 0 else 0.0
    kinds = tuple(
        tuple(
            (KEY if i == axis else QUERY if k in (KEY, QUERY) else k, n) for k, n in run
        )
        for i, run in enumerate(law.kinds)
    )
    made = gaussian(1.0, min(near, 1.0), 0.0, law.shape, kinds, APPROXIMATE)
    values = math.sqrt(spread * softmax.slopes) * made.values
    return Logits(Entry(made.sources, values, made.shape, kinds, made.assumed), e.mask)


def product(eqn: Any, s: Entry, x: Any, side: int) -> Entry:
    """Logits' gradients, times keys or queries."""
    contract, _ = eqn.params["dimension_numbers"]
    power, near, _far, _note = moments(x, contract[1 - side])
    n = math.prod(s.shape[i] for i in contract[side])
    laid = (eqn.outvars[0].aval.shape, _kinds(eqn, x, side))
    if any(s.size(i, KEY) > 1 for i in contract[side]):  # they sum to 0 over keys
        rest = n * (power - near)
        both = rest * s.power, rest * s.position
    else:
        queries = math.prod(s.size(i, QUERY) for i in contract[side])
        both = n * (s.power * power + (queries - 1) * s.position * near), 0.0
    return gaussian(*both, 0.0, *laid, s.assumed)
