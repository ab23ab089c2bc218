# SPDX-License-Identifier: Apache-2.0
"""`Network`: the parameters of a model by their paths, as a table."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxinit.core import Tabular, cell
from jaxinit.network.parameter import Branch, Parameter
from jaxinit.network.paths import Graph

__all__ = ["Network"]


class Network(Tabular, Mapping[str, Parameter]):
    """The parameters of a network, by their paths, in order of execution.

    It prints as an aligned table, and goes to `init_tree`, `describe_tree` and
    `check_tree` as their `layers`.

    Example:
        >>> import jax, jaxinit
        >>> shapes = (8, 4), (4,), (2, 8)
        >>> w, b, x = (jax.ShapeDtypeStruct(each, "float32") for each in shapes)
        >>> def layer(params, x):
        ...     return jax.numpy.dot(x, params["w"]) + params["b"][None]
        >>> network = jaxinit.read(layer, {"w": w, "b": b}, x)
        >>> [(path, each.role) for path, each in network.items()]
        [('w', 'kernel'), ('b', 'bias')]
    """

    def __init__(
        self, parameters: Sequence[Parameter], graph: Graph | None = None
    ) -> None:
        self._parameters = {each.path: each for each in parameters}
        self._graph = graph

    def __getitem__(self, path: str) -> Parameter:
        return self._parameters[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    @property
    def branches(self) -> int:
        """How many residual additions there are."""
        return max((p.branch.of for p in self.values() if p.branch), default=0)

    def _columns(self) -> dict[str, list[Any]]:
        named: dict[str, list[Any]] = {"parameter": [], "shape": [], "role": []}
        named |= {name: [] for name in ("fan_in", "fan_out", "copies", "parts")}
        named |= {name: [] for name in ("after", "branch", "calls")}
        for p in self.values():
            named["parameter"].append(p.path)
            named["shape"].append(p.shape)
            named["role"].append(p.role)
            named["fan_in"].append(p.fan_in)
            named["fan_out"].append(p.fan_out)
            copies = math.prod(p.shape[i] for i in p.stack)
            named["copies"].append(copies if copies > 1 else None)
            named["parts"].append(p.parts and p.parts.count)
            named["after"].append(None if p.after is None else str(p.after))
            named["branch"].append(_words(p.branch))
            named["calls"].append(p.calls if p.calls > 1 else None)
        return named

    def _notes(self) -> list[str]:
        found = []
        for p in self.values():
            if p.role == "unknown":
                found.append(f"{p.path}: the reading ends at {p.primitive}")
            elif p.role == "unused":
                found.append(f"{p.path}: nothing uses it")
            elif p.tied:
                ways = " and ".join(
                    f"{role} (fans {cell(a)} and {cell(b)})" for role, a, b in p.uses
                )
                found.append(f"{p.path}: tied, {ways}")
            if p.invariant:
                found.append(f"{p.path}: the output does not depend on its scale")
        return found

    def plot(self, ax: Any = None) -> Any:
        """Draw the layers by `jaxinit.plot.network`; returns the axes."""
        from jaxinit import plot

        return plot.network(self, ax=ax)


def _words(branch: Branch | None) -> str | None:
    if branch is None:
        return None
    places = [str(place + 1) for place in branch.places]
    if len(places) > 4:
        places = [*places[:2], "…", places[-1]]
    return f"{', '.join(places)} of {branch.of}"
