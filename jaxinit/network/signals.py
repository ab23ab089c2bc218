# SPDX-License-Identifier: Apache-2.0
"""Equations of data alone: where a signal goes on, and where another begins."""

from typing import Any

from jaxinit.network.moves import MOVES, SPLITS, move, pick, split
from jaxinit.network.nodes import ELEMENTWISE, REDUCTIONS, Node, degree_of, number
from jaxinit.network.record import Record
from jaxinit.network.views import View, entries

__all__ = ["of_data"]

KINDS = {
    "dot_general": "contraction",
    "conv_general_dilated": "contraction",
    "ragged_dot_general": "contraction",
    "concatenate": "concatenation",
    "stack": "concatenation",
}


def of_data(record: Record, eqn: Any, operands: list[Any], shapes: Any) -> list[Node]:
    """The nodes that an equation makes."""
    name, params = eqn.primitive.name, eqn.params
    data = [x for x in operands if not x.is_constant]
    if name in SPLITS:
        return _cut(record, eqn, operands, data[0], shapes)
    if len(shapes) > 1:
        return [
            record.signal("other", eqn, operands, shape, k)
            for k, shape in enumerate(shapes)
        ]
    (shape,) = shapes
    if name in MOVES or (name == "dynamic_slice" and operands[0] in data):
        node = record.chain(eqn, operands, data[0], shape)
        node.direct = data[0].direct
        node.parts = _follow(record, eqn, data[0], node)
        return [node]
    if name in REDUCTIONS:
        node = record.chain(eqn, operands, data[0], shape)
        node.degree = degree_of(name, params, [data[0].degree])
        node.reduced = True
        return [node]
    if name == "mul" and any(x.is_constant and number(x) == 0 for x in operands):
        return [record.constant(eqn, operands, shape)]  # such as a state's beginning
    if name in ELEMENTWISE:
        return [_combine(record, eqn, operands, shape)]
    pools = name.startswith("reduce_window")
    kind = "pool" if pools else KINDS.get(name, "other")
    return [record.signal(kind, eqn, operands, shape)]


def _combine(record: Record, eqn: Any, operands: list[Any], shape: Any) -> Node:
    """A function of single entries."""
    name = eqn.primitive.name
    data = [x for x in operands if not x.is_constant]
    chosen = name == "select_n" and operands[0] in data and len(data) > 1
    values = data[1:] if chosen else data
    if len({x.root for x in values}) > 1:
        return _mix(record, eqn, operands, data, shape)
    first = values[0]
    node = Node(eqn, tuple(operands), tuple(shape))
    node.root = first.root
    degrees = [x if x.is_constant else x.degree for x in operands]
    node.degree = degree_of(name, eqn.params, degrees)
    node.reduced = all(x.reduced for x in values)
    if all(x.parts == first.parts for x in values):
        node.parts = _spread(first, node.shape)
    ratio = name in ("mul", "div") and len({x.reduced for x in values}) == 2
    if ratio and (node.degree == 0 or (node.degree is None and name == "div")):
        node.kind = "norm" if node.degree == 0 else "softmax"
        node.root, node.degree, node.direct = node, 1.0, True
        node.reduced, node.parts = False, ()
    return record.add(node)


def _mix(
    record: Record, eqn: Any, operands: list[Any], data: list[Node], shape: Any
) -> Node:
    """A function of several signals."""
    sums = eqn.primitive.name in ("add", "sub", "add_any")
    node = record.signal("sum" if sums else "product", eqn, operands, shape)
    if sums:
        record.addition(node)
        if all(x.direct and x.root.kind == "use" for x in data):
            node.parts = tuple(part for x in data for part in _spread(x, node.shape))
    return node


def _spread(x: Node, shape: Any) -> tuple[tuple[int, View], ...]:
    """What an operand holds of the outputs of uses, its axes of one index repeated."""
    if x.shape == shape:
        return x.parts
    dims = range(len(shape) - len(x.shape), len(shape))
    return tuple((use, view.broadcast(shape, dims)) for use, view in x.parts)


def _follow(
    record: Record, eqn: Any, source: Node, node: Node
) -> tuple[tuple[int, View], ...]:
    """What a moved array holds of the outputs of uses; pieces are noted."""
    kept = []
    for use, view in source.parts:
        if eqn.primitive.name == "dynamic_slice":
            made = pick(view, eqn.params["slice_sizes"])
            new = made and made[0]
        else:
            new = move(eqn.primitive.name, view, node.shape, eqn.params)
        if new is not None and not new.is_empty:
            kept.append((use, new))
            _note_piece(record, use, source, node, view, new)
    return tuple(kept)


def _cut(
    record: Record, eqn: Any, operands: list[Any], source: Node, shapes: Any
) -> list[Node]:
    """The pieces of a split."""
    made = []
    cuts = [(use, view, split(view, eqn.params)) for use, view in source.parts]
    for k, shape in enumerate(shapes):
        node = record.chain(eqn, operands, source, shape, k)
        node.direct = source.direct
        for use, view, pieces in cuts:
            new = pieces[k]
            if new is not None and not new.is_empty:
                node.parts += ((use, new),)
                _note_piece(record, use, source, node, view, new)
        made.append(node)
    return made


def _note_piece(
    record: Record, use: int, source: Node, node: Node, view: View, new: View
) -> None:
    if entries(new) < entries(view):
        record.pieces.setdefault(use, []).append((source, node, view, new))
