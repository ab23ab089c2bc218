# SPDX-License-Identifier: Apache-2.0
"""The parameters of a reading: what all the uses of each say together."""

import math
from collections.abc import Mapping, Sequence

from jaxinit.core import Shape
from jaxinit.network.biases import biased
from jaxinit.network.layout import layout
from jaxinit.network.parameter import After, Branch, Parameter
from jaxinit.network.paths import Graph
from jaxinit.network.uses import Use

__all__ = ["parameters"]

FIRST = ("kernel", "embedding", "bias", "scale", "token", "unknown")


def parameters(
    graph: Graph, paths: Sequence[str], shapes: Sequence[Shape]
) -> list[Parameter]:
    """Those of such paths and shapes, in order of execution."""
    reader = graph.reader
    found: dict[int, list[int]] = {}
    for k, use in enumerate(reader.uses):
        found.setdefault(use.parameter, []).append(k)
    ended: dict[int, Branch] = {}
    residual = graph.residual()
    of = sum(len(places) for _, places in residual)
    for addition, places in residual:
        for k in graph.last(addition):
            ended.setdefault(k, Branch(places, of))
    made = [
        _parameter(graph, paths, i, tuple(shapes[i]), ks, ended)
        for i, ks in found.items()
    ]
    for i, path in enumerate(paths):
        if i not in found:
            ended_at = reader.lost.get(i)
            role = "unused" if ended_at is None else "unknown"
            made.append(Parameter(path, tuple(shapes[i]), role, ended_at or ""))
    return made


def _parameter(
    graph: Graph,
    paths: Sequence[str],
    i: int,
    shape: Shape,
    numbers: Sequence[int],
    ended: Mapping[int, Branch],
) -> Parameter:
    uses = [graph.reader.uses[k] for k in numbers]
    strong = [use for use in uses if use.role in ("kernel", "embedding")]
    main = strong[0] if strong else min(uses, key=lambda use: FIRST.index(use.role))
    alike = [(k, u) for k, u in zip(numbers, uses, strict=True) if u.role == main.role]
    calls = sum(_calls(use) for _, use in alike)
    path = paths[i]
    if not strong:
        slices = {tuple(sorted(use.fixed)) for _, use in alike}
        calls = max(calls // len(slices), 1)
        role, neutral = main.role, main.neutral
        return Parameter(
            path, shape, role, main.primitive, calls=calls, neutral=neutral
        )
    laid = layout(graph, shape, alike)
    if laid.pieces > 1:
        calls = max(calls // laid.pieces, 1)
    _, use = alike[0]
    after = None if use.role == "embedding" else _after(graph, paths, use)
    ways = dict.fromkeys((u.role, u.fan_in, u.fan_out * laid.share(u)) for u in uses)
    fan_in, fan_out = use.fan_in, use.fan_out * laid.share(use)
    taken, residual, output = (
        graph.consumers(use.out) if use.out is not None else ([], False, False)
    )
    before = tuple(dict.fromkeys(paths[graph.reader.uses[n].parameter] for n in taken))
    branch = next((ended[n] for n, _ in alike if n in ended), None)
    if branch is not None and len(branch.places) == 1 and len(alike) > 1:
        places = tuple(p for n, _ in alike if n in ended for p in ended[n].places)
        branch = branch._replace(places=places)
    return Parameter(
        path,
        shape,
        main.role,
        main.primitive,
        laid.inputs,
        laid.outputs,
        laid.window,
        laid.copies,
        use.groups,
        use.strides,
        use.dilation,
        laid.parts,
        _whole(fan_in),
        _whole(fan_out),
        laid.fans(shape, use, fan_in, fan_out),
        after,
        branch,
        (*before, *["+"] * residual, *["output"] * output),
        calls,
        use.degree == 0 or (use.out is not None and graph.is_normalised(use.out)),
        tuple((role, _whole(a), _whole(b)) for role, a, b in ways),
        _bias(graph, paths, alike[0][0]),
        stack=laid.stack,
    )


def _bias(graph: Graph, paths: Sequence[str], k: int) -> str:
    if graph.reader.uses[k].out is None:
        return ""
    _, _, biases = biased(graph.reader.uses, k)
    return paths[biases[0].parameter] if len(biases) == 1 else ""


def _whole(fan: float) -> float:
    return int(fan) if fan == int(fan) else fan


def _calls(use: Use) -> int:
    """How often one slice is used in a use: once in each step of a loop over time."""
    return math.prod(
        loop.length for loop in use.loops if use.parameter not in loop.stacked
    )


def _after(graph: Graph, paths: Sequence[str], use: Use) -> After | None:
    if use.data is None or use.data.is_constant:
        return None
    trail = graph.trail(use.data)
    behind = dict.fromkeys(
        paths[graph.reader.uses[k].parameter]
        for end in trail.ends
        for k in graph.kernels_behind(end)
    )
    return After(tuple(behind), trail.kinds, trail)
