# SPDX-License-Identifier: Apache-2.0
"""Attention: products of queries and keys, their softmax, averages, and back again.

What comes back through a softmax is exact where the gradient is independent of the
weights that the softmax gave, as it is between fresh kernels, and where keys are alike;
both hold about, so that what comes back to queries and keys is called approximate.
"""

import functools
import math
from dataclasses import replace
from typing import Any

import numpy as np

from jaxinit.prediction.contractions import moments
from jaxinit.prediction.entry import (
    KEY,
    POSITION,
    QUERY,
    UNIT,
    Entry,
    gaussian,
    mean_of_others,
    nodes,
    number,
)
from jaxinit.prediction.places import MOST, covariance, differing, places_of
from jaxinit.prediction.values import Attention, Cotangent, Logits, Lost, Sum

__all__ = ["attention", "average", "product", "scores", "silent", "slopes"]

OTHER = {KEY: QUERY, QUERY: KEY}
ENTRIES = 2**22  # of the masks that are looked at
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
    keys = b.position / b.power if b.power else 0.0
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
    made = gaussian(
        power,
        power * (a.position / a.power if a.power else 0.0),
        0.0,
        shape,
        (*batch, *rows, *cols),
        a.assumed or b.assumed,
        None
        if a.profile is not None and b.profile is not None
        else a.places or b.places,
    )
    return replace(made, sources=(replace(made.sources[0], key=keys),))


def silent(eqn: Any, a: Any, b: Any, zeros: list[bool]) -> Entry:
    """A product with zeros; of queries or keys, after which all keys count alike."""
    contract, batched = eqn.params["dimension_numbers"]
    nothing = number(0.0, eqn.outvars[0].aval.shape)
    if all(zeros) or not batched[0]:  # as by a kernel
        return nothing
    side = zeros.index(True)
    zero, known = (a, b) if side == 0 else (b, a)
    kinds: list[Any] = [((POSITION, n),) if n > 1 else () for n in zero.shape]
    for axes in (contract, batched):
        for i, j in zip(axes[side], axes[1 - side], strict=True):
            kinds[i] = known.kinds[j]
    zero = gaussian(0.0, 0.0, 0.0, zero.shape, kinds)
    try:
        return scores(eqn, *((zero, known) if side == 0 else (known, zero)))
    except Lost:
        return nothing


def attention(weights: Any, total: Sum) -> Attention:
    """exp(s) over its sum: what a softmax over keys gives to the average of values."""
    entry = weights.entry
    if len(entry.sources) != 1 or (entry.values <= 0).any():
        raise Lost("a softmax of a function of its own")
    z = nodes()[0]
    logs = np.log(entry.values)
    slope = (logs[-1] - logs[0]) / (z[-1] - z[0])
    source = entry.sources[0]
    shared = source.key if total.kind == KEY else source.position
    variance = slope**2 * (1 - shared)
    seen = _seen(weights, total.kind)
    count = np.maximum(seen.sum(-1), 1)
    counts, which = np.unique(count, return_inverse=True)
    of_counts = _softmax(round(variance, 12), tuple(counts.tolist()))
    power, slopes = (each[which.reshape(count.shape)] for each in of_counts)
    each = seen / count[..., None]
    both = each @ each.swapaxes(-1, -2)  # Σ a a' of any two queries, in the mean
    inverse = 1 / count
    near = both * (1 - inverse[:, :, None] - inverse[:, None, :] + both)
    few = _count(weights.entry, OTHER[total.kind]) <= MOST and seen.shape[-1] <= MOST
    return Attention(
        each if few else None,
        power,
        mean_of_others(both.mean(0)),
        slopes.mean(0),
        near.mean(0),
        total.of.entry,
        total.kind,
    )


def _count(law: Entry, kind: int) -> int:
    """How many places of a kind there are."""
    return math.prod(law.size(i, kind) for i in range(len(law.shape)))


def _seen(x: Logits, kind: int) -> np.ndarray:
    """Which keys count for which queries, or some of them, in kinds of examples."""
    law, last = x.entry, len(x.shape) - 1
    axis = next((i for i in range(last) if law.size(i, OTHER[kind]) > 1), None)
    queries, keys = 1 if axis is None else law.shape[axis], law.shape[last]
    some = np.unique(np.linspace(0, queries - 1, min(queries, MOST)).astype(int))
    if x.mask is None or x.mask.shape != law.shape:
        return np.ones((1, len(some), keys), bool)
    lead = tuple(
        slice(1) if i not in (axis, last) and stride == 0 else slice(None)
        for i, stride in enumerate(x.mask.strides)
    )
    mask = x.mask[lead]
    mask = mask[..., None, :] if axis is None else np.moveaxis(mask, axis, -2)
    mask = mask[..., some, :].reshape(-1, len(some), keys)
    return np.asarray(mask[: max(1, ENTRIES // (len(some) * keys))])


@functools.lru_cache(maxsize=64)
def _softmax(variance: float, counts: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """E Σ a² and E Σ a² (1 - 2 a + Σ a²), a the softmax of so many logits."""
    most = int(max(counts))
    draws = max(64, min(2**16, 2**22 // max(most, 1)))
    logits = math.sqrt(variance) * np.random.default_rng(0).standard_normal(
        (draws, most)
    )
    e = np.exp(logits - logits.max(1, keepdims=True))
    ends = np.array([max(int(c), 1) for c in counts]) - 1
    two, three = (
        np.cumsum(e**k, 1)[:, ends] / np.cumsum(e, 1)[:, ends] ** k for k in (2, 3)
    )
    return two.mean(0), (two - 2 * three + two**2).mean(0)


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
    keys, n = _count(a.law, a.kind), _count(a.law, OTHER[a.kind])
    groups = math.prod(a.shape[i] for i in contract[side]) / n  # that share the keys
    forward = any(a.law.size(i, a.kind) > 1 for i in contract[side]) or keys == 1
    if not forward:
        far = groups * (n / keys) ** 2 * far
    if a.weights is None:
        mean, rest, pairs = float(a.power.mean()), power - near, n * (n - 1) * near
        size, both = near + rest * mean, near + rest * a.shared
        if not forward:
            size = groups * (n * mean * power + a.shared * pairs) / keys
            both = n * (1 - mean) / (keys * (keys - 1)) * power + pairs / keys**2
            both = groups * both
        return gaussian(size, both, far, *laid, note)
    if forward:
        whole = covariance(places_of(v), power, near, a.weights.shape[-1])
        alone, every = _of_queries(a, a.weights, whole)
    else:
        whole = covariance(places_of(v), power, near, n)
        alone, every = (groups * x for x in _of_keys(a, a.weights, whole))
    both = mean_of_others(every)
    return gaussian(alone.mean(), both, far, *laid, note, differing(alone, every))


def _of_queries(
    a: Attention, weights: np.ndarray, whole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """E y² of each average of values, and E y y' of any two."""
    pairs = weights @ whole @ weights.swapaxes(-1, -2)
    each = weights @ whole.diagonal()  # of E a, and so for E a²
    others = pairs.diagonal(0, -2, -1) - weights**2 @ whole.diagonal()
    alone = a.power * each + (1 - a.power) * others / _spread(weights)
    return alone.mean(0), pairs.mean(0)


def _of_keys(
    a: Attention, weights: np.ndarray, whole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same of what comes back to each key, from all queries."""
    each, back = whole.diagonal(), weights.swapaxes(-1, -2)
    between = back @ (whole - np.diag(each)) @ weights  # of two queries
    alone = (back * (a.power * each)[:, None]).sum(-1)
    rest = (1 - a.power) / _spread(weights) * each
    pairs = between + back * rest[:, None] @ weights
    return (alone + between.diagonal(0, -2, -1)).mean(0), pairs.mean(0)


def _spread(weights: np.ndarray) -> np.ndarray:
    """The share of pairs of two keys, by which their products are divided."""
    own = (weights**2).sum(-1)
    return np.where(own < 1, 1 - own, 1.0)


def _sizes(x: Any, n: int) -> np.ndarray:
    """E x² at each query over its mean."""
    return covariance(places_of(x), 1.0, 0.0, n).diagonal()


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
    # Of two queries, and of each, whose gradients need not be of one size.
    whole = covariance(law.places, 1.0, other, len(softmax.slopes))
    passed = softmax.slopes * whole.diagonal()
    whole = softmax.near * whole
    np.fill_diagonal(whole, passed)
    power, near = float(passed.mean()), mean_of_others(whole)
    kinds = tuple(
        tuple(
            (KEY if i == axis else QUERY if k in (KEY, QUERY) else k, n) for k, n in run
        )
        for i, run in enumerate(law.kinds)
    )
    places = None if softmax.weights is None else differing(passed, whole)
    made = gaussian(
        spread * power, spread * near, 0.0, law.shape, kinds, APPROXIMATE, places
    )
    return Logits(made, e.mask, softmax.weights)


def product(eqn: Any, logits: Logits, x: Any, side: int) -> Entry:
    """Logits' gradients, times keys or queries."""
    contract, _ = eqn.params["dimension_numbers"]
    s = logits.entry
    power, near, _far, _note = moments(x, contract[1 - side])
    n = math.prod(s.shape[i] for i in contract[side])
    laid = (eqn.outvars[0].aval.shape, _kinds(eqn, x, side))
    if any(s.size(i, KEY) > 1 for i in contract[side]):  # they sum to 0 over keys
        rest = n * (power - near)
        return gaussian(
            rest * s.power, rest * s.position, 0.0, *laid, s.assumed, s.places
        )
    queries = math.prod(s.size(i, QUERY) for i in contract[side])
    keys = _count(s, KEY)
    of_two = (queries - 1) * s.position * near
    weights = logits.weights
    if weights is None or weights.shape[1:] != (queries, keys):
        return gaussian(n * (s.power * power + of_two), 0.0, 0.0, *laid, s.assumed)
    back = weights.swapaxes(-1, -2)
    passed = keys * s.power * power * _sizes(s, queries)
    apart = passed / _spread(weights)  # over keys they sum to 0
    pairs = -(back * apart[:, None] @ weights).mean(0)
    each = (back * passed).sum(-1).mean(0) + queries * of_two
    np.fill_diagonal(pairs, each)
    pairs, each = n / queries * pairs, n / queries * each
    both = mean_of_others(pairs)
    return gaussian(each.mean(), both, 0.0, *laid, s.assumed, differing(each, pairs))
