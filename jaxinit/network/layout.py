# SPDX-License-Identifier: Apache-2.0
"""The layout of a kernel: which of a parameter's axes do what, and its fused parts."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxinit.core import Fans, Shape
from jaxinit.network.nodes import Node
from jaxinit.network.paths import Graph
from jaxinit.network.uses import Use
from jaxinit.network.views import REPEAT, Run, View

__all__ = ["Layout", "Parts", "layout"]


@dataclass(frozen=True)
class Parts:
    """Fused kernels side by side along an axis.

    Attributes:
        axis: of the parameter.
        sizes: of the parts, in order.
        repeats: in how many groups of parts the axis lies: the heads, where each head
            has its query, key and value side by side.
    """

    axis: int
    sizes: tuple[int, ...]
    repeats: int = 1

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.sizes)


@dataclass(frozen=True)
class Layout:
    """What the axes of a parameter do; see `Parameter`.

    `stack` are the copies that are drawn one by one, and not counted by the fans.
    `pieces` is the number of slices of the parameter that are used apart.
    """

    stack: tuple[int, ...]
    parts: Parts | None = None
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    window: tuple[int, ...] = ()
    copies: tuple[int, ...] = ()
    pieces: int = 1

    def share(self, use: Use) -> float:
        """The outputs of an input in the largest part over those in all of a use."""
        if self.parts is None:
            return 1
        axis = self.parts.axis
        held = [r for r in (*use.outs, *use.fixed) if r.axis == axis]
        size = math.prod(r.size for r in held) // use.groups  # of one group
        return min(max(self.parts.sizes), size) / size if held else 1

    def kernel(self, shape: Shape) -> Shape:
        """The shape of one kernel, the largest part of a fused one."""
        sizes = list(shape)
        if self.parts is not None:
            axis, (parts, total) = (
                self.parts.axis,
                (self.parts.sizes, sum(self.parts.sizes)),
            )
            sizes[axis] = sizes[axis] * max(parts) // total
        return tuple(n for i, n in enumerate(sizes) if i not in self.stack)

    def fans(self, shape: Shape, use: Use, fan_in: float, fan_out: float) -> Fans:
        """The `Fans` of one kernel, in the plainest words that count so."""
        kernel = self.kernel(shape)
        for made in self._candidates(shape, use):
            try:
                if made(kernel) == (fan_in, fan_out):
                    return made
            except ValueError:
                continue
        return Fans.explicit(fan_in, fan_out)

    def _candidates(self, shape: Shape, use: Use) -> Iterable[Fans]:
        kept = [i for i in range(len(shape)) if i not in self.stack]
        ndim = len(kept)
        ins, outs, copies = (
            tuple(kept.index(i) for i in axes if i in kept)
            for axes in (self.inputs, self.outputs, self.copies)
        )
        if use.role == "embedding":
            yield Fans.embedding()
            yield Fans.axes((), outs, copies)
            return
        if self.window or use.primitive == "conv_general_dilated":
            strides, dilation = _short(use.strides), _short(use.dilation)
            groups = use.groups
            if self.parts is not None:  # those of one part
                parts = self.parts.sizes
                groups = max(groups * max(parts) // sum(parts), 1)
            pair = [_from_end(axes, ndim) for axes in (ins, outs)]
            if dilation == 1:
                yield Fans.conv(groups, strides)
            elif strides == 1 and groups == 1:
                yield Fans.conv_transpose(dilation)
                yield Fans.conv_transpose(dilation, True)
            if len(ins) == len(outs) == 1:
                yield Fans.conv(groups, strides, *pair, input_dilation=dilation)
            return
        if use.patches[0]:
            yield Fans.conv_local(ndim - 2, use.patches[0], _short(use.patches[1]))
        if copies and set(copies) & set(ins):
            size = math.prod(r.size for r in use.copies if r.axis in self.inputs)
            yield Fans.dense_general(size)
        only = not set(ins) & set(outs) | set(copies) & {*ins, *outs}
        if only:
            if ins == (ndim - 2,) and outs == (ndim - 1,) and not copies:
                yield Fans.axes()
            yield Fans.axes(*(_from_end(axes, ndim) for axes in (ins, outs, copies)))


def _short(steps: Sequence[int]) -> Any:
    """One number where all are the same."""
    return steps[0] if steps and len(set(steps)) == 1 else tuple(steps) or 1


def _from_end(axes: tuple[int, ...], ndim: int) -> Any:
    """As JAX's arguments have them: -2 for the last but one, one axis bare."""
    named = tuple(i - ndim if i >= ndim - 2 else i for i in axes)
    return named[0] if len(named) == 1 else named


def layout(graph: Graph, shape: Shape, uses: Sequence[tuple[int, Use]]) -> Layout:
    """The layout of a parameter, from its uses in one role."""
    _, first = uses[0]
    single = [r.axis for r in first.fixed if shape[r.axis] > 1]
    roles = {
        name: _axes(run, shape)
        for name, run in (
            ("inputs", first.ins),
            ("outputs", first.outs),
            ("window", first.window),
            ("copies", first.copies),
        )
    }
    for axis in single:  # one index is taken of it, in each use another
        if not any(axis in axes for axes in roles.values()):
            roles["copies"] = tuple(sorted({*roles["copies"], axis}))
    _complete(roles, shape, first)
    busy = {*roles["inputs"], *roles["outputs"], *roles["window"]}
    stack = tuple(i for i in roles["copies"] if i not in busy)
    if first.role == "embedding" and stack:
        rows = {r.axis for r in first.copies[-1:]}  # the rows of one table
        stack = tuple(i for i in stack if i not in rows)
    if first.patches[0]:
        loops = {r.axis for r in first.copies[: -len(first.patches[0])]}
        stack = tuple(i for i in stack if i in loops)
    parts, pieces = _parts(graph, shape, uses, roles["outputs"])
    if pieces == 1 and single:
        pieces = len({tuple(sorted(use.fixed)) for _, use in uses})
    return Layout(stack, parts, **roles, pieces=pieces)


def _axes(run: Run, shape: Shape) -> tuple[int, ...]:
    return tuple(sorted({r.axis for r in run if r.axis != REPEAT}))


def _complete(roles: dict[str, tuple[int, ...]], shape: Shape, use: Use) -> None:
    """Axes of one index, which a reshape may have lost, belong where one is missing."""
    named = {i for axes in roles.values() for i in axes}
    for axis in range(len(shape) - 1, -1, -1):
        if axis in named or shape[axis] != 1:
            continue
        name = "outputs" if not roles["outputs"] else "inputs"
        if use.role == "embedding":
            name = "outputs"
        roles[name] = tuple(sorted((*roles[name], axis)))


Piece = tuple[int, int, int]


def _parts(
    graph: Graph,
    shape: Shape,
    uses: Sequence[tuple[int, Use]],
    outputs: tuple[int, ...],
) -> tuple[Parts | None, int]:
    """The parts of a kernel that are used apart, and how many slices of it are."""
    for axis in outputs:
        cut = {_piece((*use.outs, *use.fixed), axis): n for n, use in uses}
        if len(cut) > 1 and (made := _tiles(cut, axis, shape[axis])) is not None:
            finer = {
                each: None
                for piece, number in cut.items()
                for each in _finest(graph, number, axis, piece)
            }
            return _tiles(finer, axis, shape[axis]) or made, made.count
    number, _ = uses[0]
    for axis in outputs:
        whole = (0, shape[axis], shape[axis])
        pieces = _finest(graph, number, axis, whole)
        if len(pieces) > 1:
            return _tiles(pieces, axis, shape[axis]), 1
    return None, 1


def _finest(graph: Graph, number: int, axis: int, whole: Piece) -> list[Piece]:
    """The pieces that the outputs of a use, or a piece of them, are cut into."""
    start, size, _ = whole
    taken = graph.reader.pieces.get(number, [])
    nodes = {id(node) for _, node, _, _ in taken}
    found: dict[Piece, list[Node]] = {}
    for source, node, before, after in taken:
        held, got = (_piece(_ranges(view), axis) for view in (before, after))
        alone = all(id(each) in nodes for each in source.consumers)
        if held[:2] == (start, size) and got[1] < size and alone:
            found.setdefault(got, []).append(node)
    shifted = [(a - start, n, block) for a, n, block in found]
    made = _tiles(shifted, axis, size) if len(found) > 1 else None
    if made is None or _is_rotation(list(found.values())):
        return [whole]
    if made.repeats > 1:
        return list(found)
    return [each for piece in found for each in _finest(graph, number, axis, piece)]


def _ranges(view: View) -> Run:
    return (*(r for run in view.runs for r in run), *view.fixed)


def _piece(run: Run, axis: int) -> Piece:
    """Where a piece of an axis begins, its size, and the block it lies in."""
    mine = [r for r in run if r.axis == axis]
    start = sum(r.start for r in mine)
    block = [r.size * r.stride for r in mine if r.stride == 1]
    return start, math.prod(r.size for r in mine), min(block, default=1)


def _tiles(cut: Iterable[Piece], axis: int, total: int) -> Parts | None:
    """The parts of an axis, if pieces make up all of it."""
    pieces = sorted(cut)
    sizes = tuple(n for _, n, _ in pieces)
    if sum(sizes) != total or len({start for start, _, _ in pieces}) < len(pieces):
        return None
    ends = [start + n for start, n, _ in pieces]
    if [0, *ends[:-1]] == [start for start, _, _ in pieces]:
        return Parts(axis, sizes)
    block = pieces[1][0]
    regular = [start for start, _, _ in pieces] == [
        block * k for k in range(len(sizes))
    ]
    if regular and len(set(sizes)) == 1 and sizes[0] % block == 0:
        return Parts(axis, sizes, sizes[0] // block)
    return None


def _is_rotation(pieces: Sequence[Sequence[Node]]) -> bool:
    """Whether two pieces are put side by side again, as a rotation's halves are."""
    reached: list[set[int]] = []
    for nodes in pieces:
        found: set[int] = set()
        stack, seen = list(nodes), set()
        while stack:
            here = stack.pop()
            for each in here.consumers:
                if each.index in seen:
                    continue
                seen.add(each.index)
                if each.kind == "concatenation":
                    found.add(each.index)
                elif not each.kind:
                    stack.append(each)
        reached.append(found)
    return any(a & b for k, a in enumerate(reached) for b in reached[k + 1 :])
