# SPDX-License-Identifier: Apache-2.0
"""The record of a walk through a trace: its nodes, uses of parameters, and loops."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from jaxinit.network import uses
from jaxinit.network.nodes import Node, Weights
from jaxinit.network.uses import Use
from jaxinit.network.views import View

__all__ = ["Loop", "Record"]


class Loop:
    """A loop that the walk is in.

    Attributes:
        eqn: the equation of the loop.
        length: how often it runs.
        stacked: the parameters of which each step takes a slice of its own; one with
            any is a loop over layers.
        sums: the additions in it, and the loops.
    """

    def __init__(self, eqn: Any, length: int, stacked: set[int]) -> None:
        self.eqn, self.length, self.stacked = eqn, length, stacked
        self.sums: list[Any] = []


class Record:
    """What a walk has found.

    Attributes:
        uses: where parameters meet the data, in order of execution.
        sums: the additions of data to data, in order; a loop has its own in it.
        pieces: for each use by number, the pieces that its output is cut into: the node
            before and after, and which of the parameter's entries each holds.
        lost: for parameters that were followed to an end, the primitive there.
        loops: those that the walk is in.
        place: the equation that the walk is at, within those around it.
    """

    def __init__(self) -> None:
        self.uses: list[Use] = []
        self.sums: list[Any] = []
        self.pieces: dict[int, list[tuple[Node, Node, View, View]]] = {}
        self.lost: dict[int, str] = {}
        self.loops: list[Loop] = []
        self._count = 0
        self.place: tuple[int, ...] = ()

    def constant(self, eqn: Any, operands: Any, shape: Any, value: Any = None) -> Node:
        """A node that neither data nor parameters enter."""
        return Node(eqn, tuple(operands), tuple(shape), "constant", value=value)

    def signal(
        self, kind: str, eqn: Any, operands: Any, shape: Any, out: int = 0
    ) -> Node:
        """A node where a signal begins."""
        node = Node(eqn, tuple(operands), tuple(shape), kind)
        node.root, node.degree, node.direct = node, 1.0, True
        return self.add(node, out)

    def chain(
        self, eqn: Any, operands: Any, source: Node, shape: Any, out: int = 0
    ) -> Node:
        """A node that goes on with the signal of another."""
        node = Node(eqn, tuple(operands), tuple(shape))
        node.root, node.degree = source.root, source.degree
        node.reduced = source.reduced
        return self.add(node, out)

    def add(self, node: Node, out: int = 0) -> Node:
        """A node, in its place in the graph."""
        node.index, node.place = self._count, (*self.place, out)
        self._count += 1
        for each in node.data:
            each.consumers.append(node)
        return node

    def addition(self, item: Any) -> None:
        """Note an addition, or a loop, in the order of execution."""
        (self.loops[-1].sums if self.loops else self.sums).append(item)

    def note(self, weights: Weights, role: str, name: str, to: Any = None) -> None:
        """Note uses without axes that count."""
        for w in weights.parts:
            self.uses.append(uses.plain(w, role, name, to, tuple(self.loops)))
        for p in weights.sums:
            self.lost.setdefault(p, name)

    def use(self, found: Sequence[tuple[Use, View]], out: Node) -> Node:
        """The output of a contraction; it holds what the parts of the kernel give."""
        for use, view in found:
            use.out, use.loops = out, tuple(self.loops)
            out.parts += ((len(self.uses), view),)
            self.uses.append(use)
        return out

    @contextlib.contextmanager
    def inside(self, place: int) -> Iterator[None]:
        """Within an equation of a body, or a branch of it."""
        outer, self.place = self.place, (*self.place, place)
        yield
        self.place = outer

    @contextlib.contextmanager
    def looping(self, loop: Loop) -> Iterator[None]:
        """Within a loop."""
        self.addition(loop)
        self.loops.append(loop)
        yield
        self.loops.pop()
