# SPDX-License-Identifier: Apache-2.0
"""The law of one parameter, from its own use in the network, with the reason."""

from collections.abc import Sequence

from jaxinit.designs.lines import Line
from jaxinit.designs.power import mean_square, slope_square
from jaxinit.families import (
    constant,
    normal,
    ones,
    orthogonal,
    variance_scaling,
    zeros,
)
from jaxinit.network import Network, Parameter

__all__ = ["formula"]


def formula(network: Network, p: Parameter, direction: str) -> Line:
    """What a parameter is to be drawn from, by its own use alone."""
    match p.role:
        case "bias":
            return Line(p.path, zeros, "keeps its zeros: bias")
        case "scale":
            init = {1.0: ones, 0.0: zeros}.get(p.neutral) or constant(p.neutral)
            return Line(p.path, init, "changes nothing at first: scale")
        case "token":
            return Line(
                p.path, normal(0.02), "small beside the data: token or position"
            )
        case "embedding":
            return _of_embedding(p)
        case "kernel":
            return _of_kernel(network, p, direction)
        case "unused":
            return Line(p.path, zeros, "nothing uses it")
    return Line(p.path, None, f"the reading ends at {p.primitive}")


def _of_embedding(p: Parameter) -> Line:
    if p.tied:
        init = variance_scaling(1.0, "fan_out", "normal")
        return Line(p.path, init, "1 / features: the last layer's kernel too")
    return Line(p.path, normal(1.0), "1: each output is one entry of it")


def _of_kernel(network: Network, p: Parameter, direction: str) -> Line:
    if p.invariant:
        init = variance_scaling(1.0, "fan_in", "normal")
        return Line(p.path, init, "1 / fan_in: its scale does not count")
    if p.calls > 1 and p.after is not None and p.after.kinds == ("loop",):
        return Line(
            p.path, orthogonal(), "orthogonal: recurrent, keeps lengths in time"
        )
    back = direction == "backward"
    fan = "fan_out" if back else "fan_in"
    factor, why = _through(network, p, back)
    if p.branch is not None:
        factor /= p.branch.of
        which = _ordinal(p.branch.places)
        why += f"; ÷ √{p.branch.of}: it ends residual branch {which} of {p.branch.of}"
    init = variance_scaling(float(f"{factor:.12g}"), fan, "normal")
    share = f" / {p.branch.of}" if p.branch is not None else ""
    top = factor * (p.branch.of if p.branch is not None else 1)
    return Line(p.path, init, f"{top:.4g}{share} / {fan}: {why}")


def _ordinal(places: Sequence[int]) -> str:
    first, *rest = (place + 1 for place in places)
    return f"{first} to {rest[-1]}" if rest else f"{first}"


def _through(network: Network, p: Parameter, back: bool) -> tuple[float, str]:
    """1 / E f² of a kernel's input, and the reason."""
    after = p.after
    if after is None:
        return 1.0, "its input is constant"
    sizes = [_size(network, p, kind) for kind in after.kinds]
    found = (slope_square if back else mean_square)(after, sizes)
    name = after.name or "a function of its own"
    stream = max(sizes)
    grown = f", of a stream grown to {stream:.3g}" if stream > 1 else ""
    symbol = "E f′²" if back else "E f²"
    if found is None or not found > 0:
        return 1.0, "its input is taken to be of unit size"
    if name == "identity":
        words = {
            "input": "it takes the input",
            "norm": "its input is normalised",
            "use": "it takes another kernel's output as it is",
        }
        kind = after.kinds[0]
        return 1 / found, words.get(kind, f"it takes the {kind} as it is") + grown
    if len(after.kinds) > 1:
        name = f"a function of {len(after.kinds)} signals"
    elif not back and after.name:
        symbol = f"E {name}²"
    return (
        1 / found,
        f"its input comes through {name}, {symbol} = {_number(found)}{grown}",
    )


def _number(x: float) -> str:
    return "1/2" if abs(x - 0.5) < 1e-9 else f"{x:.4g}"


def _size(network: Network, p: Parameter, kind: str) -> float:
    """The mean square of a signal that a kernel's input begins with."""
    if kind != "residual" or network.branches == 0:
        return 1.0
    return 1.0 + _branches_before(network, p) / network.branches


def _branches_before(network: Network, p: Parameter) -> float:
    """How many branches have joined the stream where a kernel reads it, on average."""
    before = [network[path].branch for path in (p.after.layers if p.after else ())]
    places = [place + 1 for branch in before if branch for place in branch.places]
    return sum(places) / len(places) if places else 0.0
