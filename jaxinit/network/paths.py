# SPDX-License-Identifier: Apache-2.0
"""Paths through the graph: what an input comes through, and where an output goes."""

from jaxinit.network.branches import Branches
from jaxinit.network.moves import MOVES, SPLITS
from jaxinit.network.nodes import ELEMENTWISE, Node, walk
from jaxinit.network.reader import Reader
from jaxinit.network.trail import Trail

__all__ = ["Graph"]

PASSED = {"sum", "product", ""}  # the kinds that are functions of single entries
CUTS = (*SPLITS, "dynamic_slice", "pad", "rev", "slice")


class Graph(Branches):
    """The paths of a network that was read."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self.taken: dict[int, list[int]] = {}  # the uses that take a node, by number
        for k, use in enumerate(reader.uses):
            if use.data is not None and not use.data.is_constant:
                self.taken.setdefault(id(use.data), []).append(k)
        self.outputs = {id(x) for x in reader.outputs if isinstance(x, Node)}

    def trail(self, node: Node) -> Trail:
        """What lies between a node and the signals before it.

        Where several pieces of an array go in, or some beside the whole of it, each is
        a signal of its own.
        """
        pieces: set[int] = set()
        while True:
            ends: dict[int, Node] = {}
            chain: dict[int, Node] = {}
            stack = [node]
            while stack:
                here = stack.pop()
                if here.index in ends or here.index in chain:
                    continue
                if here.index in pieces or self._is_end(here):
                    ends[here.index] = here
                else:
                    chain[here.index] = here
                    stack += here.data
            taken: dict[int, int] = {}
            for each in chain.values():
                for source in each.data:
                    taken[source.index] = taken.get(source.index, 0) + 1
            apart = {
                i
                for i, each in chain.items()
                if each.name in CUTS and taken[each.data[0].index] > 1
            }
            if not apart:
                break
            pieces |= apart
        return Trail(
            tuple(ends[i] for i in sorted(ends)), tuple(chain[i] for i in sorted(chain))
        )

    def _is_end(self, node: Node) -> bool:
        if node.kind == "sum":
            return self.branch(node) is not None
        if node.kind:
            return node.kind not in PASSED
        if node.reduced:
            return True
        if node.root.kind == "use" and node.direct:
            return not node.data or not (
                node.data[0].kind == "" and node.data[0].direct and node.name in MOVES
            )
        return not (
            node.name in MOVES
            or node.name in ELEMENTWISE
            or node.name in (*SPLITS, "scan", "dynamic_slice", "cond", "while")
        )

    def consumers(self, node: Node) -> tuple[list[int], bool, bool]:
        """The kernels that take what a node becomes, and where it ends else.

        Those before the next residual addition; whether there is one, and whether the
        node becomes an output of the model.
        """

        def joins(each: Node) -> bool:
            return each.kind == "sum" and self.branch(each) is not None

        def onward(here: Node) -> list[Node]:
            return [x for x in here.consumers if x.kind != "use" and not joins(x)]

        met = list(walk(node, onward))
        found = {k for here in met for k in self.taken.get(id(here), ())}
        residual = any(joins(x) for here in met for x in here.consumers)
        return sorted(found), residual, any(id(here) in self.outputs for here in met)

    def is_normalised(self, node: Node) -> bool:
        """Whether all that a node becomes is divided by its own size."""
        stack, seen, normed = [node], set(), False
        while stack:
            here = stack.pop()
            if here.index in seen:
                continue
            seen.add(here.index)
            if here.reduced:
                continue
            if id(here) in self.taken or id(here) in self.outputs:
                return False
            for each in here.consumers:
                if each.kind == "norm":
                    normed = True
                elif each.kind:
                    return False
                else:
                    stack.append(each)
        return normed
