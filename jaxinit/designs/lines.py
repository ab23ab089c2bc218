# SPDX-License-Identifier: Apache-2.0
"""A design: a line with its reason for each parameter, and rules for `init_tree`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxinit.core import Initializer, Tabular, to_config
from jaxinit.trees import Pattern, Possible

__all__ = ["Design", "Line"]


@dataclass(frozen=True)
class Line:
    """What a design gives to one parameter, and why.

    Attributes:
        path: the parameter's path.
        initializer: what draws it; None where that is left to you.
        reason: in words.

    Example:
        >>> import jaxinit
        >>> line = jaxinit.designs.Line("b", jaxinit.zeros, "keeps its zeros: bias")
        >>> line.rule
        ('/b', constant(0))
    """

    path: str
    initializer: Initializer | None
    reason: str

    @property
    def rule(self) -> tuple[Pattern, Any]:
        """The rule for `init_tree`, for this path alone."""
        literal = "".join(f"[{c}]" if c in "*?[" else c for c in self.path)
        return Possible(f"/{literal}"), self.initializer


class Design(Tabular, tuple[Any, ...]):
    """Rules for `init_tree`, each with its reason; it prints as a table.

    It is a tuple of pairs (pattern, initializer), to be put behind rules of your own,
    which may take the place of some of them, and good for a part of the tree as well.
    `lines` has the reasons, and what was left to you.

    Example:
        >>> import jax, jaxinit
        >>> w, x = (jax.ShapeDtypeStruct(s, "float32") for s in ((8, 4), (2, 8)))
        >>> made = jaxinit.design(lambda p, x: jax.nn.relu(x) @ p["w"], {"w": w}, x)
        >>> made.lines[0].reason
        '2 / fan_in: its input comes through relu, E relu² = 1/2'
    """

    lines: tuple[Line, ...]

    def __new__(cls, lines: Sequence[Line]) -> "Design":
        made = super().__new__(
            cls, (each.rule for each in lines if each.initializer is not None)
        )
        made.lines = tuple(lines)
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (self.lines,)

    def _columns(self) -> dict[str, list[str]]:
        return {
            "parameter": [each.path for each in self.lines],
            "initializer": [
                "yours" if each.initializer is None else repr(each.initializer)
                for each in self.lines
            ],
            "reason": [each.reason for each in self.lines],
        }

    def to_json(self) -> str:
        """The design as JSON: a list of path, initializer's configuration, reason."""
        return json.dumps(
            [
                {
                    "path": each.path,
                    "initializer": each.initializer and to_config(each.initializer),
                    "reason": each.reason,
                }
                for each in self.lines
            ],
            ensure_ascii=False,
        )
