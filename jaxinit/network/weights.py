# SPDX-License-Identifier: Apache-2.0
"""Equations of parameters alone: which entries of which parameters come out."""

import math
from collections.abc import Sequence
from typing import Any

from jaxinit.core import Shape
from jaxinit.network.moves import (
    JOINS,
    MOVES,
    SPLITS,
    expand,
    gather,
    join,
    move,
    pick,
    split,
)
from jaxinit.network.nodes import (
    ELEMENTWISE,
    LINEAR,
    REDUCTIONS,
    LookUp,
    Node,
    Weight,
    Weights,
    degree_of,
    number,
)
from jaxinit.network.record import Loop, Record
from jaxinit.network.views import View, entries, repeat

__all__ = ["end", "look_up", "of_weights"]

Sums = dict[int, float | None]


def of_weights(
    record: Record, eqn: Any, operands: list[Any], shapes: Any
) -> list[Weights]:
    """What an equation makes of parameters."""
    name, params = eqn.primitive.name, eqn.params
    given = [x for x in operands if isinstance(x, Weights)]
    sums: Sums = {}
    for each in given:
        sums |= each.sums
    if name in SPLITS:
        return _cut(name, given[0], params, shapes)
    if len(shapes) > 1:
        return [end(name, given, sums, shape) for shape in shapes]
    (shape,) = shapes
    if name in JOINS:
        return [_join(eqn, operands, sums, shape)]
    if name in MOVES:
        parts = _move(name, given[0].parts, shape, params)
        return [given[0]._replace(parts=parts)]
    if name in ("dynamic_slice", "gather") and operands[0] is given[0]:
        made = look_up(record, eqn, operands, shape)
        return [made or end(name, given, sums, shape)]
    if name in REDUCTIONS:
        for w in given[0].parts:
            sums[w.parameter] = degree_of(name, params, [w.degree])
            record.lost.setdefault(w.parameter, name)
        return [Weights((), sums)]
    if name in ELEMENTWISE:
        return [_elementwise(record, eqn, operands, sums, shape)]
    if name == "dot_general":
        return [_multiply(record, eqn, operands, given, shape)]
    return [end(name, given, sums, shape)]


def end(name: str, given: Sequence[Weights], sums: Any, shape: Any) -> Weights:
    """After an equation whose outputs have no parameter's entries."""
    parts = tuple(
        w._replace(through=w.through or name, degree=None, view=_nothing(shape))
        for x in given
        for w in x.parts
    )
    return Weights(parts, sums)


def look_up(
    record: Record, eqn: Any, operands: list[Any], shape: Any
) -> Weights | None:
    """Slices of parameters at places that are known when it runs, or constant."""
    weights, *at = operands
    name = eqn.primitive.name
    many = name == "gather" and math.prod(eqn.invars[1].aval.shape[:-1]) > 1
    counter = _counter(record, at) if name == "dynamic_slice" else None
    parts = []
    for w in weights.parts:
        if name == "gather":
            made = gather(w.view, shape, eqn.params)
        else:
            made = pick(w.view, eqn.params["slice_sizes"])
        if made is None:
            return None
        view, taken = made
        parts.append(w._replace(view=view, stack=(*w.stack, *taken)))
        if counter is not None and counter.length in [r.size for r in taken]:
            counter.stacked.add(w.parameter)
    found = LookUp(eqn, operands, record.place, tuple(shape))
    return Weights(tuple(parts), weights.sums, found if many else None)


def _counter(record: Record, at: Sequence[Node]) -> Loop | None:
    """The loop whose steps one of the indices counts."""
    for loop in record.loops:
        if any(_begin(index).eqn is loop.eqn for index in at):
            return loop
    return None


def _begin(index: Node) -> Node:
    """Where an index comes from: what a loop carries, or the constant it goes over."""
    while index.is_constant and index.constants and index.name != "scan":
        index = index.constants[0]
    return index.root or index


def _cut(name: str, given: Weights, params: Any, shapes: Any) -> list[Weights]:
    made: list[list[Weight]] = [[] for _ in shapes]
    for w in given.parts:
        for k, view in enumerate(split(w.view, params)):
            if view is None:
                lost = w._replace(view=_nothing(shapes[k]), through=w.through or name)
                made[k].append(lost)
            elif not view.is_empty:
                made[k].append(w._replace(view=view))
    return [given._replace(parts=tuple(parts)) for parts in made]


def _join(eqn: Any, operands: list[Any], sums: Sums, shape: Any) -> Weights:
    stacks = eqn.primitive.name == "stack"
    axis, offset = eqn.params["axis" if stacks else "dimension"], 0
    parts: list[Weight] = []
    for x, v in zip(operands, eqn.invars, strict=True):
        for w in x.parts if isinstance(x, Weights) else ():
            view = expand(w.view, axis) if stacks else w.view
            view = join(view, axis, offset, shape[axis])
            parts.append(w._replace(view=view))
        offset += 1 if stacks else v.aval.shape[axis]
    return Weights(tuple(parts), sums)


def _move(
    name: str, parts: Sequence[Weight], shape: Any, params: Any
) -> tuple[Weight, ...]:
    made = []
    for w in parts:
        view = move(name, w.view, tuple(shape), params)
        if view is None:
            made.append(w._replace(view=_nothing(shape), through=w.through or name))
        elif not view.is_empty:
            made.append(w._replace(view=view))
    return tuple(made)


def _nothing(shape: Any) -> View:
    """A view of an array that has no entries of the source that could be told."""
    return View(tuple(shape), tuple(map(repeat, shape)), (0,) * len(shape))


def _elementwise(
    record: Record, eqn: Any, operands: list[Any], sums: Sums, shape: Shape
) -> Weights:
    """Parameters combined entry by entry, with each other or with sums of them."""
    name, params = eqn.primitive.name, eqn.params
    holders = [i for i, x in enumerate(operands) if isinstance(x, Weights) and x.parts]
    if not holders:
        return Weights(
            (), {p: degree_of(name, params, _degrees(operands, p)) for p in sums}
        )
    if name in ("mul", "div") and len(holders) == 2:
        small = min(
            holders, key=lambda i: max(entries(w.view) for w in operands[i].parts)
        )
        (large,) = (i for i in holders if i != small)
        own, others = ({w.parameter for w in operands[i].parts} for i in (small, large))
        if not own & others:  # the scale of another parameter
            record.note(Weights(operands[small].parts, {}), "scale", name)
            operands = [None if i == small else x for i, x in enumerate(operands)]
            holders = [large]
    linear = name in LINEAR or name in (
        "add",
        "sub",
        "mul",
        "div",
        "complex",
        "select_n",
    )
    squared = name in ("mul", "div") and len(holders) > 1
    parts: dict[Any, Weight] = {}
    for i in holders:
        if name == "select_n" and i == 0 and len(holders) > 1:
            continue  # the choice between them
        lost = squared or not linear or (name == "div" and i > 0)
        for w in operands[i].parts:
            degree = degree_of(name, params, _degrees(operands, w.parameter))
            through = w.through or (name if lost else "")
            view = w.view
            if view.shape != shape:  # axes of one index are repeated
                dims = range(len(shape) - len(view.shape), len(shape))
                view = view.broadcast(shape, dims)
            added = _added(name, operands, i, w)
            made = w._replace(view=view, degree=degree, through=through, added=added)
            parts.setdefault((w.parameter, view), made)
    held = {w.parameter for w in parts.values()}
    kept = {p: degree for p, degree in sums.items() if p not in held}
    return Weights(tuple(parts.values()), kept)


def _added(name: str, operands: Sequence[Any], i: int, w: Weight) -> float | None:
    """The constant that was added to a parameter, after an equation of its entries."""
    others = [x for k, x in enumerate(operands) if k != i]
    known = number(others[0]) if len(others) == 1 else None
    if w.added is not None and known is not None:
        if name == "add":
            return w.added + known
        if name == "sub" and i == 0:
            return w.added - known
    return None


def _degrees(operands: Sequence[Any], parameter: int) -> list[Any]:
    """The operands' degrees in one parameter, those that have it, and constants."""
    found: list[Any] = []
    for x in operands:
        if isinstance(x, Node):
            found.append(x)
        elif isinstance(x, Weights):
            own = [w.degree for w in x.parts if w.parameter == parameter]
            if own:
                found.append(own[0])
            elif parameter in x.sums:
                found.append(x.sums[parameter])
    return found


def _multiply(
    record: Record, eqn: Any, operands: list[Any], given: Sequence[Weights], shape: Any
) -> Weights:
    """A product of parameters with others, or of sums of them with what they are of."""
    held = [{w.parameter for w in x.parts} for x in given]
    if len(given) == 2 and all(held) and not held[0] & held[1]:
        sums = {**given[0].sums, **given[1].sums}
        return Weights(_product(given, eqn.params, shape), sums)
    for p in set().union(*held):
        record.lost.setdefault(p, eqn.primitive.name)
    every = set().union(*held, *(x.sums for x in given))
    return Weights((), {p: degree_of("mul", {}, _degrees(operands, p)) for p in every})


def _product(given: Sequence[Weights], params: Any, shape: Any) -> tuple[Weight, ...]:
    """A product of two parameters, such as the two factors of a LoRA."""
    contract, batch = params["dimension_numbers"]
    made = []
    for side, x in enumerate(given):
        for w in x.parts:
            view, inner = _free(w.view, contract[side], batch[side], side, shape)
            made.append(w._replace(view=view, inner=(*w.inner, *inner)))
    return tuple(made)


def _free(
    view: View, contract: Sequence[int], batch: Sequence[int], side: int, shape: Any
) -> tuple[View, Any]:
    """What a product of parameters holds of one of them, and what was contracted."""
    ndim = len(view.shape)
    free = [i for i in range(ndim) if i not in (*contract, *batch)]
    inner = tuple(r for i in contract for r in view.runs[i])
    runs: list[Any] = [repeat(n) for n in shape]
    first = len(batch) if side == 0 else len(shape) - len(free)
    for k, i in enumerate(batch):
        runs[k] = view.runs[i]
    for k, i in enumerate(free):
        runs[first + k] = view.runs[i]
    return View(tuple(shape), tuple(runs), (0,) * len(shape), view.fixed), inner
