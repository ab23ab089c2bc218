# SPDX-License-Identifier: Apache-2.0
"""Loops and branches: a body is walked once, whatever often it runs."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxinit.network.nodes import Node, Weights
from jaxinit.network.record import Loop, Record
from jaxinit.network.traces import body_of
from jaxinit.network.views import extent
from jaxinit.network.weights import end

__all__ = ["branches", "once", "scan", "scan_counts"]

Walk = Callable[[Any, Sequence[Any], Sequence[Any]], list[Any]]


def scan(record: Record, walk: Walk, eqn: Any, operands: list[Any]) -> list[Any]:
    """A loop of a length that is known, over slices and with what it carries."""
    (body, consts), (fixed, carried) = body_of(eqn), scan_counts(eqn)
    start, length = fixed + carried, eqn.params["length"]
    inputs = list(operands[:fixed])
    for k in range(carried):
        inputs.append(_carry(record, eqn, body, k, operands[fixed + k], fixed))
    sliced = operands[start:]
    stacked = {w.parameter for x in sliced if isinstance(x, Weights) for w in x.parts}
    for x, v in zip(sliced, body.invars[start:], strict=True):
        inputs.append(_slice(record, eqn, x, v.aval.shape))
    with record.looping(Loop(eqn, length, stacked)):
        outs = walk(body, consts, inputs)
    for x, out in zip(inputs[fixed:start], outs[:carried], strict=True):
        if isinstance(x, Node) and x.kind == "loop":
            x.back = out
    made = []
    for k, (x, v) in enumerate(zip(outs, eqn.outvars, strict=True)):
        if k < carried and x is inputs[fixed + k]:
            made.append(operands[fixed + k])
        elif k >= carried and isinstance(x, Weights):
            made.append(end("scan", [x], x.sums, v.aval.shape))
        else:
            made.append(_out(record, eqn, x, v.aval.shape, k, stacked=k >= carried))
    return made


def once(record: Record, walk: Walk, eqn: Any, operands: list[Any]) -> list[Any]:
    """A while loop, as if it ran once."""
    params = eqn.params
    first, second = params["cond_nconsts"], params["body_nconsts"]
    body = params["body_jaxpr"]
    fixed, carried = operands[first : first + second], operands[first + second :]
    inputs = list(fixed)
    for k, x in enumerate(carried):
        inputs.append(_carry(record, eqn, body.jaxpr, k, x, second))
    with record.looping(Loop(eqn, 1, set())):
        outs = walk(body.jaxpr, body.consts, inputs)
    return [
        carried[k]
        if x is inputs[second + k]
        else _out(record, eqn, x, v.aval.shape, k, stacked=False)
        for k, (x, v) in enumerate(zip(outs, eqn.outvars, strict=True))
    ]


def branches(record: Record, walk: Walk, eqn: Any, operands: list[Any]) -> list[Any]:
    """Branches, all of which are walked."""
    outs = []
    for k, branch in enumerate(eqn.params["branches"]):
        with record.inside(k):
            outs.append(walk(branch.jaxpr, branch.consts, operands[1:]))
    made: list[Any] = []
    pairs = zip(zip(*outs, strict=True), eqn.outvars, strict=True)
    for k, (each, v) in enumerate(pairs):
        nodes = [x for x in each if isinstance(x, Node) and not x.is_constant]
        weights = [x for x in each if isinstance(x, Weights)]
        shape = v.aval.shape
        if not nodes and weights:
            parts = dict.fromkeys(w for x in weights for w in x.parts)
            sums = {p: None for x in weights for p in x.sums}
            made.append(Weights(tuple(parts), sums))
        elif not nodes or all(x is each[0] for x in each):
            made.append(each[0])
        elif len({x.root for x in nodes}) == 1 and len(nodes) == len(each):
            made.append(_out(record, eqn, nodes[0], shape, k, stacked=False))
        else:
            for x in weights:
                record.note(x, "token", eqn.primitive.name)
            made.append(record.signal("choice", eqn, nodes, shape, k))
    return made


def _carry(record: Record, eqn: Any, body: Any, k: int, x: Any, fixed: int) -> Any:
    """What a loop begins with: as it is if each step leaves it so, else a signal."""
    if body.outvars[k] is body.invars[fixed + k]:
        return x
    if isinstance(x, Weights):
        record.note(x, "token", eqn.primitive.name)
    shape = body.invars[fixed + k].aval.shape
    return record.signal("loop", eqn, (x,), shape, -1 - k)


def _slice(record: Record, eqn: Any, x: Any, shape: Any) -> Any:
    """One step's slice of what a loop goes over."""
    if isinstance(x, Weights):
        parts = tuple(
            w._replace(
                view=w.view.without([0])._replace(fixed=w.view.fixed),
                stack=(*w.stack, *w.view.runs[0]),
            )
            for w in x.parts
        )
        return Weights(parts, x.sums)
    if x.is_constant:
        return record.constant(eqn, (x,), shape)
    node = record.chain(eqn, (x,), x, shape)
    node.direct = x.direct
    node.parts = tuple((u, v.without([0])) for u, v in x.parts if extent(v.runs[0]) > 0)
    return node


def _out(record: Record, eqn: Any, x: Any, shape: Any, k: int, *, stacked: bool) -> Any:
    """What comes out of a loop: that of its last step, or of all of them."""
    if isinstance(x, Weights):
        return x
    if x.is_constant:
        return record.constant(eqn, (x,), shape)
    node = record.chain(eqn, (x,), x, shape, k)
    node.direct, node.parts = x.direct, x.parts
    if stacked:
        dims = range(1, len(shape))
        node.parts = tuple((u, v.broadcast(node.shape, dims)) for u, v in x.parts)
    return node


def scan_counts(eqn: Any) -> tuple[int, int]:
    """How many constants and carried values a scan has: what is not cut in slices."""
    body, _ = body_of(eqn)

    def whole(outside: Sequence[Any], inside: Sequence[Any]) -> int:
        pairs = zip(outside, inside, strict=True)
        return sum(a.aval.ndim == b.aval.ndim for a, b in pairs)

    carry = whole(eqn.outvars, body.outvars)
    return whole(eqn.invars, body.invars) - carry, carry
