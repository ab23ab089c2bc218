# SPDX-License-Identifier: Apache-2.0
"""Residual branches: which additions have one, where it begins, which kernels end it.

An addition of which one operand comes of the other is residual, and its other operand
is a branch. So is the addition to a projection of what the branch begins from, where
the branch has an activation and the projection is one kernel.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxinit.network.moves import JOINS, MOVES, SPLITS
from jaxinit.network.nodes import ELEMENTWISE, LINEAR, Node, Weights, walk
from jaxinit.network.reader import Reader
from jaxinit.network.record import Loop

__all__ = ["Branches"]

# Of which operands a function is linear, each of them by itself; None for all.
LINEAR_IN = {
    **dict.fromkeys((*MOVES, *SPLITS, *LINEAR, "add", "sub", "mul", "scan"), None),
    **dict.fromkeys((*JOINS, "cumsum", "reduce_sum", "cond", "while"), None),
    **dict.fromkeys(("dot_general", "conv_general_dilated"), None),
    **dict.fromkeys(("div", "dynamic_slice", "gather", "ragged_dot_general"), (0,)),
    "scatter-add": (0, 2),
    "select_n": (1, 2),
}


class Branches:
    """The residual branches of a network that was read."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._found: dict[int, tuple[Node, Node] | tuple[None, None]] = {}

    def branch(self, addition: Node) -> Node | None:
        """The operand of an addition that is a residual branch, if one is."""
        return self._residual(addition)[0]

    def last(self, addition: Node) -> list[int]:
        """The kernels that end the branch of an addition.

        It is linear in them, and not only gated by them, where there are such; and they
        lie on the ways from where it begins.
        """
        node, begin = self._residual(addition)
        if node is None or begin is None:
            return []

        def linear(here: Node) -> list[Node]:
            if here.name not in LINEAR_IN:
                return []
            which = LINEAR_IN[here.name]
            return [
                x
                for i, x in enumerate(here.operands)
                if isinstance(x, Node)
                and not x.is_constant
                and (which is None or i in which)
            ]

        inside = {each.index for each in self._between(node, begin)}
        ends = self._uses(node, linear) or self.kernels_behind(node)
        own = [
            k for k in ends if getattr(self.reader.uses[k].out, "index", -1) in inside
        ]
        return own or ends

    def kernels_behind(self, node: Node) -> list[int]:
        """The kernels and embeddings that a node is made of, without those behind.

        Behind a residual addition they are those of its branch.
        """
        return self._uses(node, lambda here: here.data)

    def _uses(self, node: Node, before: Callable[[Node], list[Node]]) -> list[int]:
        """The first uses on the ways back, where `before` tells the way from a node."""

        def back(here: Node) -> list[Node]:
            if here.kind == "use":
                return []
            branch = self.branch(here) if here.kind == "sum" else None
            return before(here) if branch is None else [branch]

        ends = (here for here in walk(node, back) if here.kind == "use")
        return sorted({k for here in ends for k, _ in here.parts})

    def residual(self) -> list[tuple[Node, tuple[int, ...]]]:
        """The residual additions, each with its places in the order of execution."""
        flat: list[Node] = []

        def run(sums: Sequence[Any]) -> Iterator[Node]:
            for each in sums:
                if isinstance(each, Loop):
                    for _ in range(each.length if each.stacked else 1):
                        yield from run(each.sums)
                elif self.branch(each) is not None:
                    yield each

        flat = list(run(self.reader.sums))
        places: dict[int, tuple[Node, list[int]]] = {}
        for k, each in enumerate(flat):
            places.setdefault(each.index, (each, []))[1].append(k)
        return [(node, tuple(ks)) for node, ks in places.values()]

    def _residual(self, addition: Node) -> tuple[Node, Node] | tuple[None, None]:
        """The branch of an addition, and where it begins."""
        if addition.index not in self._found:
            self._found[addition.index] = self._residual_of(addition)
        return self._found[addition.index]

    def _residual_of(self, addition: Node) -> tuple[Node, Node] | tuple[None, None]:
        if addition.name not in ("add", "add_any") or len(addition.data) != 2:
            return None, None
        a, b = addition.data
        for short, long in ((a, b), (b, a)):
            for begin in self._begins(short):
                if self._is_branch(long, begin):
                    return long, begin
        for short, long in ((a, b), (b, a)):
            projected = self._projection_start(short, long)
            if projected is not None:
                return long, projected
        return None, None

    def _begins(self, short: Node) -> Iterator[Node]:
        """The node whose entries an operand has, and those before its branches."""
        begin = _origin(short)
        yield begin
        while begin.kind == "sum" and (inner := self.branch(begin)) is not None:
            (other,) = (x for x in begin.data if x is not inner)
            begin = _origin(other)
            yield begin

    def _is_branch(self, node: Node, begin: Node) -> bool:
        """Whether a node comes of another through a kernel.

        Not where the other is taken away again, as an interpolation does, or where it
        has been added to something else before: a bias that all layers share.
        """
        inside = [] if node is begin else self._between(node, begin)
        for each in inside:
            if each.name != "sub" or not isinstance(each.operands[-1], Node):
                continue
            if _origin(each.operands[-1]) is begin:
                return False
            added = each.kind == "sum" and begin in map(_origin, each.data)
            if added and self.branch(each) is None:
                return False
        return any(each.kind == "use" for each in inside)

    def _projection_start(self, short: Node, long: Node) -> Node | None:
        """What the other operand begins from, if one is a projection of it."""
        uses = self.kernels_behind(short)
        if len(uses) != 1 or short.root.kind not in ("use", "norm"):
            return None
        projection = self.reader.uses[uses[0]]
        if projection.data is None or projection.data.is_constant:
            return None
        begin = _origin(projection.data, whole=True)
        inside = self._between(long, begin)
        within = {
            self.reader.uses[k].parameter for each in inside for k, _ in each.parts
        }
        if projection.parameter in within or not any(map(_bends, inside)):
            return None  # a gate, another step of a recurrence, or no activation
        places = {each.index for each in inside}
        for each in inside:
            if each.kind == "sum" and self.branch(each) is not None:
                return None  # it goes around another branch
            if each.kind == "product" and any(
                x.index not in places and y.degree is None
                for x in each.data
                for y in each.data
                if y.index in places
            ):
                return None  # it only lets through what comes from elsewhere
        return begin if sum(each.kind == "use" for each in inside) > 1 else None

    def _between(self, node: Node, begin: Node) -> list[Node]:
        """The nodes on the ways from `begin` to `node`, without the first."""
        seen: dict[int, Node] = {}
        stack = [node]
        while stack:
            here = stack.pop()
            if here.index not in seen and here.index > begin.index:
                seen[here.index] = here
                stack += here.data
        made = {begin.index}
        for i in sorted(seen):
            if any(x.index in made for x in seen[i].data):
                made.add(i)
        return [seen[i] for i in sorted(made - {begin.index})]


def _bends(node: Node) -> bool:
    """Whether a node is an activation."""
    return node.name == "max" or (node.name in ELEMENTWISE and node.degree is None)


def _origin(node: Node, whole: bool = False) -> Node:
    """The node of which a node has the entries, moved, scaled or pooled.

    The whole of it, if so asked: a step of a series is not the series.
    """
    while len(node.data) == 1 and (
        node.kind == "pool"
        or (node.kind == "" and (node.name in MOVES or _is_scaled(node)))
    ):
        if whole and node.name == "slice" and max(node.params["strides"] or (1,)) == 1:
            break
        (node,) = node.data
    return node


def _is_scaled(node: Node) -> bool:
    """Whether a node is another one times a constant."""
    first, *others = node.operands
    if node.name not in ("mul", "div") or any(isinstance(x, Weights) for x in others):
        return False
    return isinstance(first, Node) and not (node.name == "div" and first.is_constant)
