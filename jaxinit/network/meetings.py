# SPDX-License-Identifier: Apache-2.0
"""Equations in which parameters meet the data: what each does there."""

from typing import Any

from jaxinit.network import uses
from jaxinit.network.moves import JOINS, MOVES, SPLITS
from jaxinit.network.nodes import LookUp, Node, Weight, Weights
from jaxinit.network.record import Record
from jaxinit.network.views import REPEAT, View
from jaxinit.network.weights import end, look_up

__all__ = ["met", "settle"]

PRODUCTS = {
    "conv_general_dilated": uses.convolution,
    "dot_general": uses.contraction,
    "ragged_dot_general": uses.ragged_product,
}
TOKENS = (*JOINS, "dynamic_update_slice", "scatter", "select_n")


def met(record: Record, eqn: Any, operands: list[Any], shapes: Any) -> list[Any]:
    """What comes of data and parameters."""
    name = eqn.primitive.name
    weights = [x for x in operands if isinstance(x, Weights)]
    if name in ("dynamic_slice", "gather") and operands[0] is weights[0]:
        made = look_up(record, eqn, operands, shapes[0])
        if made is not None:
            rows = name == "gather" and not all(map(_is_matrix, made.parts))
            look = LookUp(eqn, operands, record.place, tuple(shapes[0]))
            return [_look_up(record, made, look) if rows else made]
    if name in PRODUCTS and len(weights) == 1:
        found = PRODUCTS[name](eqn, operands, operands.index(weights[0]))
        if found is not None:
            out = record.signal("use", eqn, operands, shapes[0])
            return [record.use(found, out)]
    elif name in ("add", "sub", "add_any") and len(weights) == 1:
        return [_add(record, eqn, operands, weights[0], shapes[0])]
    elif (name == "mul" and len(weights) == 1) or (
        name == "div" and operands[1:] == weights
    ):
        return [_scale(record, eqn, operands, weights[0], shapes[0])]
    elif name in TOKENS:
        for x in weights:
            record.note(x, "token", name)
        kind = "concatenation" if name in JOINS else "other"
        return [record.signal(kind, eqn, operands, shapes[0])]
    for x in weights:
        record.note(x, "unknown", name)
    return [
        record.signal("other", eqn, operands, shape, k)
        for k, shape in enumerate(shapes)
    ]


def settle(record: Record, eqn: Any, operands: list[Any]) -> list[Any]:
    """The operands of an equation; rows that were looked up are data.

    But for matrices that are only moved, or that data are multiplied by: kernels.
    """
    if not any(isinstance(x, Weights) and x.rows for x in operands):
        return operands
    name = eqn.primitive.name
    data = any(isinstance(x, Node) and not x.is_constant for x in operands)
    product = name in PRODUCTS and data
    kept = name in MOVES or name in SPLITS or product
    made = []
    for x in operands:
        rows = x.rows if isinstance(x, Weights) else None
        if rows is None or (kept and all(map(_is_matrix, x.parts))):
            made.append(x)
        elif product and not any(
            map(_axes_of_parameter, x.parts)
        ):  # a matrix of single entries
            made.append(end("gather", [x], x.sums, x.parts[0].view.shape))
        else:
            made.append(_look_up(record, x, rows))
    return made


def _look_up(record: Record, rows: Weights, found: LookUp) -> Node:
    """The output of a look-up, which may lie before the equation that needs it."""
    eqn, operands, place, looked = found
    shape = rows.parts[0].view.shape
    out = record.signal("use", eqn, operands, shape)
    if tuple(shape) == looked:
        out.place = (*place, 0)
    return record.use([uses.lookup(w, eqn, operands) for w in rows.parts], out)


def _add(
    record: Record, eqn: Any, operands: list[Any], weights: Weights, shape: Any
) -> Node:
    (data,) = (x for x in operands if isinstance(x, Node))
    if data.is_constant:
        node = record.signal("other", eqn, operands, shape)
    else:
        node = record.chain(eqn, operands, data, shape)
        node.direct = data.direct
        if node.shape == data.shape:
            node.parts = data.parts
    role = "bias" if _is_bias(weights, data) else "token"
    record.note(weights, role, eqn.primitive.name, node)
    return node


def _scale(
    record: Record, eqn: Any, operands: list[Any], weights: Weights, shape: Any
) -> Node:
    data = next(x for x in operands if isinstance(x, Node))
    node = record.chain(eqn, operands, data, shape)
    if node.shape == data.shape:
        node.parts = data.parts
    record.note(weights, "scale", eqn.primitive.name, node)
    return node


def _axes(view: View) -> set[int]:
    """The axes of the array along which a view varies."""
    return {
        i
        for i, run in enumerate(view.runs)
        if any(r.axis != REPEAT and r.size > 1 for r in run)
    }


def _axes_of_parameter(w: Weight) -> set[int]:
    """The axes of a parameter that a view has."""
    runs = w.view.runs
    return {r.axis for run in runs for r in run if r.axis != REPEAT and r.size > 1}


def _is_matrix(w: Weight) -> bool:
    """Whether what was looked up has two axes of its own: a kernel of a stack."""
    return len(_axes_of_parameter(w)) > 1


def _is_bias(weights: Weights, data: Node) -> bool:
    """Whether what is added varies along nothing but the units of what it joins."""
    if data.root is not None and data.root.kind == "norm":
        return True
    units = {i for _, view in data.parts for i in _axes(view)}
    for w in weights.parts:
        axes = _axes(w.view)
        own = {r.axis for i in axes for r in w.view.runs[i] if r.axis != REPEAT}
        shift = len(data.shape) - len(w.view.shape)
        places = {i + shift for i in axes}
        if not (places <= units if units else len(own) <= 1):
            return False
    return True
