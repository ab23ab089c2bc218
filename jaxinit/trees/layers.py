# SPDX-License-Identifier: Apache-2.0
"""An initializer for a parameter whose use is known: its fans, copies, fused parts."""

from typing import Any

from jaxinit.core import Fans, Initializer
from jaxinit.families import blocks, stacked
from jaxinit.network import Parameter
from jaxinit.trees import parts

__all__ = ["draw_by", "fans_source"]

AXES = {"in_axis": -2, "out_axis": -1, "batch_axis": (), "column_axis": -1}


def draw_by(init: Any, parameter: Parameter | None) -> Any:
    """`init` with the parameter's fans, drawn copy by copy and part by part."""
    if parameter is None or init is None:
        return init
    if parameter.fans is None:
        if parameter.role == "unknown" and _wants_fans(init):
            raise ValueError(
                f"what the parameter does is not known, for the reading ended at "
                f"{parameter.primitive}, and {init!r} needs its fans; give the "
                "parameter a rule of its own, with fans= or without any"
            )
        return init
    init = _with_fans(init, parameter.fans)
    stack = parameter.stack
    fused = None if isinstance(init, parts.Part) else parameter.parts
    if fused is not None:
        place = sum(i not in stack for i in range(fused.axis))
        last = len(parameter.shape) - len(stack) - 1
        count = fused.sizes if len(set(fused.sizes)) > 1 else fused.count
        axis = -1 if place == last else place
        init = blocks(init, count, axis, repeats=fused.repeats)
    stack_of = parts.stack if isinstance(init, parts.Part) else stacked
    for k, axis in reversed(list(enumerate(stack))):
        init = stack_of(init, axis - k)
    return init


def fans_source(init: Any, parameter: Parameter | None) -> str | None:
    """Where the fans of a rule's initializer come from; None where it takes none.

    They are "given" with it, "read" in the network, or "guessed": counted from the
    shape alone, as of a dense kernel.
    """
    if _wants_fans(init):
        return "guessed" if parameter is None or parameter.fans is None else "read"
    while isinstance(init, Initializer) and "init" in init.arguments:
        init = init.arguments["init"]
    return (
        "given" if isinstance(init, Initializer) and "fans" in init.arguments else None
    )


def _wants_fans(init: Any) -> bool:
    return _with_fans(init, Fans.explicit(1, 1)) is not init


def _with_fans(init: Any, fans: Fans) -> Any:
    """`init` with the fans where it takes some and was given none, nor axes."""
    if not isinstance(init, Initializer):
        return init
    given = init.arguments
    if "fans" in given:
        bare = init.replace(**{name: AXES[name] for name in AXES if name in given})
        alone = given["fans"] is None and bare == init
        return init.replace(fans=fans) if alone else init
    if "init" in given:
        inner = _with_fans(given["init"], fans)
        return init if inner is given["init"] else init.replace(init=inner)
    return init
