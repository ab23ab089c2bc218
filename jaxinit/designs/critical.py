# SPDX-License-Identifier: Apache-2.0
"""Lines at the edge of chaos, where both directions keep their size."""

import math
from collections.abc import Sequence
from dataclasses import replace

from jaxinit.designs.lines import Line
from jaxinit.designs.power import mean_square, slope_square
from jaxinit.families import normal, variance_scaling
from jaxinit.network import Network, Parameter

__all__ = ["at_criticality"]

EXACT = 1e-9  # of a variance, below which no bias is wanted


def at_criticality(network: Network, lines: Sequence[Line]) -> list[Line]:
    """The lines, with kernels and their biases at the critical point of length 1.

    χ_1 = σ_w² E f′² = 1 keeps gradients, and σ_w² E f² + σ_b² = 1 lengths. Where there
    is no such point, or no bias that the second wants, the line stays and says so.
    """
    found = {each.path: each for each in lines}
    for p in network.values():
        if p.role == "kernel" and _is_chained(p):
            found |= _of_kernel(p, found[p.path])
    return [found[each.path] for each in lines]


def _is_chained(p: Parameter) -> bool:
    """Whether a kernel takes an activation of one Gaussian signal, and hands on."""
    after = p.after
    return (
        after is not None
        and after.kinds == ("use",)
        and after.name != "identity"
        and p.branch is None
        and "output" not in p.before
        and not (p.invariant or p.tied)
        and p.calls == 1
    )


def _of_kernel(p: Parameter, old: Line) -> dict[str, Line]:
    """The lines of a kernel and its bias, or the old one and why it stays."""
    after = p.after
    assert after is not None
    slope, square = slope_square(after, [1.0]), mean_square(after, [1.0])
    if not slope or square is None:
        return {}
    name = after.name or "a function of its own"
    weight, rest = 1 / slope, 1 - square / slope
    if rest < -EXACT:
        why = f"no critical point of length 1 behind {name}: E f² > E f′²"
        return {p.path: replace(old, reason=f"{old.reason}; {why}")}
    if rest > EXACT and not p.bias:
        why = f"the critical point behind {name} wants a bias, and there is none"
        return {p.path: replace(old, reason=f"{old.reason}; {why}")}
    init = variance_scaling(float(f"{weight:.12g}"), "fan_in", "normal")
    why = f"{weight:.4g} / fan_in: at the edge of chaos behind {name}, E f′² = 1 / σ_w²"
    lines = {p.path: Line(p.path, init, why)}
    if rest > EXACT:
        bias = normal(float(f"{math.sqrt(rest):.12g}"))
        why = f"σ_b² = {rest:.4g} = 1 - σ_w² E f²: holds the length there"
        lines[p.bias] = Line(p.bias, bias, why)
    return lines
