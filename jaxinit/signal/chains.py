# SPDX-License-Identifier: Apache-2.0
"""Chains: the ways of the signal from kernel to kernel, between normalisations."""

from collections.abc import Sequence
from typing import Any

from jaxinit.signal.trace import Observation, Traced

__all__ = ["feeds", "longest"]


def feeds(traced: Traced, rows: Sequence[Observation]) -> list[tuple[int, ...]]:
    """For each row, the rows whose signal enters it with its size.

    A normalisation and a softmax set the size anew. Behind a residual addition stand
    the kernels that end its branch; a loop over layers carries on from its last step.
    """
    places = {(row.tap.use, row.at): i for i, row in enumerate(rows)}
    found = []
    for row in rows:
        use = traced.reader.uses[row.tap.use]
        entered = set()
        for k, back in _behind(traced, use.data):
            at = _before(row.at) if back else row.at
            if at is not None:
                depth = len(traced.reader.uses[k].loops)
                entered |= _rows(places, k, at, depth)
        found.append(tuple(sorted(i for i in entered if rows[i] is not row)))
    return found


def _rows(places: Any, k: int, at: Any, depth: int) -> set[int]:
    """The row of a use at such steps; where it is in a loop of its own, the last."""
    shared = at[:depth]
    fitting = [
        i
        for (use, steps), i in places.items()
        if use == k and steps[: len(shared)] == shared
    ]
    return {max(fitting)} if fitting else set()


def _before(at: tuple[int | None, ...]) -> tuple[int | None, ...] | None:
    """The step before, of the innermost loop over layers."""
    for k in reversed(range(len(at))):
        step = at[k]
        if step is not None:
            return (*at[:k], step - 1, *at[k + 1 :]) if step else None
    return None


def _behind(traced: Traced, node: Any) -> set[tuple[int, bool]]:
    """The uses whose outputs make a node, and whether a step of a loop lies between."""
    seen: set[tuple[int, bool]] = set()
    found: set[tuple[int, bool]] = set()
    stack = [(node, False)]
    while stack:
        here, back = stack.pop()
        if here is None or here.is_constant or (here.index, back) in seen:
            continue
        seen.add((here.index, back))
        if here.kind == "use":
            found |= {(k, back) for k, _ in here.parts}
        elif here.kind == "loop":
            stack += [(x, back) for x in here.data]
            if here.back is not None and not back:
                stack.append((here.back, True))
        elif here.kind not in ("norm", "softmax"):
            branch = traced.graph.branch(here) if here.kind == "sum" else None
            stack += [
                (x, back) for x in ([branch] if branch is not None else here.data)
            ]
    return found


def longest(feeds: Sequence[Sequence[int]]) -> list[list[int]]:
    """Chains of rows, each fed by the one before, the longest first.

    Every row ends one of them or lies on one that goes on.
    """
    best: list[list[int]] = []
    for i, before in enumerate(feeds):
        earlier = [best[k] for k in before if k < i]
        best.append([*max(earlier, key=len, default=[]), i])
    inner = {k for chain in best for k in chain[:-1]}
    return sorted((c for i, c in enumerate(best) if i not in inner), key=len)[::-1]
