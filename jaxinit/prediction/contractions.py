# SPDX-License-Identifier: Apache-2.0
"""Sums of many entries: contractions with kernels, look-ups, averages, attention."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxinit.prediction.entry import (
    EXAMPLE,
    POSITION,
    UNIT,
    Entry,
    Source,
    gaussian,
    nodes,
    number,
)
from jaxinit.prediction.places import convolved, places_of
from jaxinit.prediction.values import Drawn, Given, Lost, Mixture

__all__ = [
    "contraction",
    "convolution",
    "lookup",
    "moments",
    "pool",
]

Moments = tuple[float, float, float, str]  # power, at two positions, in two examples


def moments(x: Any, axes: Sequence[int]) -> Moments:
    """E x² and covariances of what is summed over such axes, for one entry."""
    if isinstance(x, Mixture):
        power, near, far = (
            sum(share * value for share, value in each)
            for each in (
                [(s, e.power) for s, e in x.parts],
                [(s, e.position) for s, e in x.parts],
                [(s, e.example) for s, e in x.parts],
            )
        )
        return power, near, far, next((e.assumed for _, e in x.parts if e.assumed), "")
    if isinstance(x, Entry):
        return x.power, x.position, x.example, x.assumed
    if np.iscomplexobj(x.array):
        raise Lost("complex numbers")
    return (*_of_array(np.asarray(x.array, np.float64), tuple(axes)), "")


def _of_array(x: np.ndarray, axes: tuple[int, ...]) -> tuple[float, float, float]:
    """The same of numbers: the first other axis is of examples, the rest positions."""
    free = [i for i in range(x.ndim) if i not in axes]
    n = math.prod(x.shape[i] for i in axes) or 1
    examples = x.shape[free[0]] if free else 1
    x = x.transpose([*free, *axes]).reshape(examples, -1, n)
    positions = x.shape[1]
    power = float((x**2).mean())
    near, far = power, power
    if positions > 1:
        total = x.sum(1)
        pairs = (total**2).sum(-1) - (x**2).sum((1, 2))
        near = float(pairs.mean() / (positions * (positions - 1) * n))
    if examples > 1:
        total, each = x.sum((0, 1)), x.sum(1)
        pairs = float((total**2).sum() - (each**2).sum())
        far = pairs / (examples * (examples - 1) * positions**2 * n)
    return power, near, far


def free_kinds(x: Any, axes: Sequence[int], batch: int) -> list[Any]:
    """What the axes of data that are not summed over are."""
    if isinstance(x, Entry):
        return [x.kinds[i] for i in axes]
    shape = x.shape
    first = next((i for i in axes if shape[i] == batch), None)
    return [
        ((EXAMPLE if i == first else POSITION, shape[i]),) if shape[i] > 1 else ()
        for i in axes
    ]


def contraction(eqn: Any, x: Any, w: Drawn, side: int, batch: int) -> Entry:
    """A product of data with a fresh kernel."""
    (contract, batched) = eqn.params["dimension_numbers"]
    mine, theirs = contract[1 - side], contract[side]
    ours, kernels = batched[1 - side], batched[side]
    shape = eqn.outvars[0].aval.shape
    power, near, far, note = moments(x, mine)
    n = math.prod(x.shape[i] for i in mine)
    free = [i for i in range(len(x.shape)) if i not in (*mine, *ours)]
    kinds, places = free_kinds(x, free, batch), places_of(x)
    if isinstance(x, Entry) and any(x.size(i, POSITION) > 1 for i in mine):
        places = None
    if isinstance(x, Entry) and not any(x.size(i, UNIT) > 1 for i in mine) and n > 1:
        # The sum is over positions: units that share the kernel take their place.
        kinds = [
            tuple((POSITION if k == UNIT else k, m) for k, m in run) for run in kinds
        ]
        near = x.mean**2
    own = [
        ((UNIT, w.shape[i]),) if w.shape[i] > 1 else ()
        for i in range(len(w.shape))
        if i not in (*theirs, *kernels)
    ]
    shared = [((UNIT, w.shape[i]),) if w.shape[i] > 1 else () for i in kernels]
    laid = [*shared, *own, *kinds] if side == 0 else [*shared, *kinds, *own]
    v = w.std**2 * n
    return gaussian(v * power, v * near, v * far, shape, laid, note, places)


def convolution(eqn: Any, x: Any, w: Drawn, batch: int) -> Entry:
    """A convolution with a fresh kernel; at borders fewer entries meet."""
    numbers = eqn.params["dimension_numbers"]
    rhs, out = numbers.rhs_spec, numbers.out_spec
    *laws, note = moments(x, [numbers.lhs_spec[1]])
    window = [w.shape[i] for i in rhs[2:]]
    sums, places = convolved(eqn, x, (laws[0], laws[1], laws[2]), window)
    shape = eqn.outvars[0].aval.shape
    kinds: list[Any] = [()] * len(shape)
    for k, axis in enumerate(out):
        kind = (EXAMPLE, UNIT)[k] if k < 2 else POSITION
        kinds[axis] = ((kind, shape[axis]),) if shape[axis] > 1 else ()
    v = w.std**2 * w.shape[rhs[1]]
    power, near, far = (v * each for each in sums)
    return gaussian(power, near, far, shape, kinds, note, places)


def lookup(w: Drawn, index: Any, shape: Any, batch: int) -> Entry:
    """Rows of a table: equal where the indices are."""
    ids = np.asarray(index.array).reshape(shape[:-1])
    kinds = free_kinds(Given(ids), range(ids.ndim), batch)
    axis = next(
        (i for i, run in enumerate(kinds) if run and run[0][0] == EXAMPLE), None
    )
    rows = ids[None] if axis is None else np.moveaxis(ids, axis, 0)
    near, far = _equal(rows.reshape(len(rows), -1))
    units = ((UNIT, shape[-1]),)
    return gaussian(w.std**2, w.std**2 * near, w.std**2 * far, shape, [*kinds, units])


def _equal(rows: np.ndarray) -> tuple[float, float]:
    """How often two indices of an example, and of two examples, are the same."""
    n = rows.shape[1]
    _, whole = np.unique(rows, return_counts=True)
    each = [np.unique(row, return_counts=True)[1] for row in rows]
    within = sum(float((c.astype(float) ** 2).sum()) for c in each)
    total = float((whole.astype(float) ** 2).sum())
    pairs = len(rows) * n * (n - 1)
    far = len(rows) * (len(rows) - 1) * n * n
    near = (within - rows.size) / pairs if pairs else 1.0
    return near, (total - within) / far if far else 1.0


def pool(x: Entry, axes: Sequence[int], shape: Any, kinds: Any) -> Entry:
    """A sum over positions, or over positions and examples: Gaussian in its place."""
    p = math.prod(x.size(i, POSITION) for i in axes)
    b = math.prod(x.size(i, EXAMPLE) for i in axes)
    n, m = p * b, x.mean
    inner = x.position + (x.power - x.position) / p
    power = x.example + (inner - x.example) / b
    spread = max(power - m**2, 0.0)
    z = nodes()[0]
    if spread <= 1e-12 * max(power, 1e-300):
        return number(n * m, shape).reshape(shape, kinds)
    between = x.example + (x.position - x.example) / b  # what other positions share
    left = any(POSITION in dict(run) for run in kinds)
    near = (between - m**2) / spread if left else 1.0
    source = Source(min(near, 1.0), min((x.example - m**2) / spread, 1.0))
    values = n * (m + math.sqrt(spread) * z)
    return Entry((source,), values, tuple(shape), tuple(kinds), x.assumed)
