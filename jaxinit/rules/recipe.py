# SPDX-License-Identifier: Apache-2.0
"""What recipes share: a choice by a parameter's role, or by its name without a reading.

The reading of a network tells roles whatever the parameters are called: kernels,
embeddings, biases, scales, tokens. Names tell them where there is no reading, and for
what has a name of its own: statistics, slopes.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from jaxinit.core import Fans, Initializer, Shape
from jaxinit.families import ones, zeros
from jaxinit.network import Parameter
from jaxinit.trees import (
    Line,
    Param,
    Pattern,
    Rest,
    Rules,
    Unplaced,
    matches,
    per_param,
)

__all__ = ["Choice", "fans_of", "gates_of", "is_named", "kernel_of", "parent", "recipe"]

Choice: TypeAlias = Callable[..., Any] | Line  # an initializer, and why
ROLES = ("kernel", "embedding", "bias", "scale", "token")


def recipe(
    who: str, *, source: Callable[[Param], str] | None = None, **choices: Any
) -> Rules:
    """Rules by a parameter's role; a function of a `Param` chooses for it."""
    table = {"bias": zeros, "scale": ones, "mean": zeros, "var": ones, **choices}

    def choose(param: Param) -> Any:
        role = _role(param, table)
        choice = table.get(role)
        if choice is None:
            known = ", ".join(name for name in ROLES if name in table)
            raise Unplaced(who, param, f"{_words(param)}, and {who} knows {known}")
        if param.name not in param.layers and param.name == "kernel" and _flat(param):
            raise Unplaced(
                who,
                param,
                "a kernel of one axis may be a scale or a bias; pass "
                "layers=jaxinit.read(model, batch)",
            )
        chosen = choice if isinstance(choice, Initializer) else choice(param)
        told = chosen if isinstance(chosen, Line) else Line(chosen, role)
        return Line(told.init, f"{who}: {told.words}")

    choose.__qualname__ = who
    return [(Rest(who), per_param(choose, source=source))]


def _role(param: Param, table: dict[str, Any]) -> str:
    """The name where it is a special one, then the role of the reading."""
    known = param.layers.get(param.name)
    if known is None or (param.name in table and param.name not in ROLES):
        return param.name
    return known.role if known.role in table else param.name


def _words(param: Param) -> str:
    """What is known of a parameter that has no law."""
    known = param.layers.get(param.name)
    if known is None:
        return f"a name without a meaning, {param.name}"
    return f"a {known.role}" if known.role in ROLES else f"of {known.role} use"


def _flat(param: Param) -> bool:
    return len(param.shape) < 2


def kernel_of(param: Param) -> tuple[Fans, Shape]:
    """The fans and the shape of one kernel, for a kernel or the bias beside it."""
    return fans_of(param.layers.get("kernel"), param.siblings["kernel"].shape)


def fans_of(known: Parameter | None, shape: Shape) -> tuple[Fans, Shape]:
    """The fans and the shape of one kernel of a parameter of such a shape."""
    if known is None or known.fans is None:
        return Fans.axes(), shape
    return known.fans, known.kernel(shape)


def gates_of(param: Param) -> int:
    """How many kernels are fused in one, for a kernel or the bias beside it."""
    known = param.layers.get("kernel")
    return known.parts.count if known is not None and known.parts else 1


def is_named(patterns: Sequence[Pattern], path: str, param: Param) -> bool:
    """Whether patterns name the kernel that is a parameter or beside it."""
    kernel = Param(path, param.tree[path].shape, param.dtype, None, param.siblings)
    return any(matches(pattern, kernel) for pattern in patterns)


def parent(param: Param) -> str:
    """The name of the layer that a parameter belongs to."""
    return "".join(param.path.split("/")[-2:-1])
