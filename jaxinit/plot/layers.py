# SPDX-License-Identifier: Apache-2.0
"""The picture of a network's layers: which feeds which, and the residual stream."""

from collections.abc import Mapping
from typing import Any

from jaxinit.core import checks as check
from jaxinit.plot.look import COLOURS, Axes, canvas

__all__ = ["network"]

INCHES = (1.8, 0.42)  # of a layer's box
LETTERS = 20  # that it holds
SIGNS = {"kernel": COLOURS[0], "embedding": COLOURS[2]}


def network(layers: Mapping[str, Any], ax: Axes | None = None) -> Axes:
    """The graph of a network's kernels, from its input at the top to its output.

    Kernels that have the same kernels before them stand side by side; a line leads from
    each to those that take its output, with the activation's name on the way. On the
    right runs the residual stream, with a plus where a branch joins it. Good for some
    hundred layers.

    Args:
        layers: a `Network`, of `jaxinit.read`.
        ax: the axes; a figure of its own is as large as the network asks.

    Raises:
        TypeError: for anything else.

    Example:
        >>> import jax, jaxinit, jaxinit.plot
        >>> w, x = (jax.ShapeDtypeStruct(s, "float32") for s in ((8, 8), (2, 8)))
        >>> def block(params, x):
        ...     return x + jax.nn.relu(x @ params["up"]) @ params["down"]
        >>> ax = jaxinit.plot.network(jaxinit.read(block, {"up": w, "down": w}, x))
        >>> [text.get_text() for text in ax.texts]
        ['up', 'relu', 'down', '+']
    """
    if not isinstance(layers, Mapping) or not all(
        hasattr(each, "role") for each in layers.values()
    ):
        raise TypeError(f"plot.network: layers must be a Network, got {layers!r}")
    shown = [each for each in layers.values() if each.role in SIGNS]
    rows: dict[str, int] = {}
    for each in shown:
        before = each.after.layers if each.after else ()
        rows[each.path] = 1 + max((rows.get(path, -1) for path in before), default=-1)
    abreast: dict[int, list[str]] = {}
    for path, row in rows.items():
        abreast.setdefault(row, []).append(path)
    width = max(map(len, abreast.values()), default=1)
    places = {
        path: (k - (len(paths) - 1) / 2, -float(row))
        for row, paths in abreast.items()
        for k, path in enumerate(paths)
    }
    own = ax is None
    with check.speaker("plot.network"), canvas("network", ax) as ax:
        if own:
            size = (INCHES[0] * (width + 1), INCHES[1] * 2 * (len(abreast) + 1))
            ax.figure.set_size_inches(size)
        for each in shown:
            _layer(ax, each, places)
        _stream(ax, shown, places, width / 2 + 0.2)
        ax.set_axis_off()
        ax.set_xlim(-width / 2 - 0.2, width / 2 + 0.6)
        ax.set_ylim(-len(abreast) - 0.2, 0.6)
        return ax


def _layer(ax: Axes, each: Any, places: Mapping[str, tuple[float, float]]) -> None:
    """One box, the lines into it, and the name of what lies on the way."""
    x, y = places[each.path]
    after = each.after
    for path in after.layers if after else ():
        if path in places:
            x0, y0 = places[path]
            ax.plot([x0, x], [y0 - 0.18, y + 0.18], color="#888888", linewidth=0.8)
    name = after.name if after else None
    if name not in (None, "identity"):
        ax.text(x, y + 0.34, name, ha="center", va="center", fontsize=7, style="italic")
    ax.text(
        x,
        y,
        _short(each.path),
        ha="center",
        va="center",
        fontsize=8,
        color="white",
        bbox={"boxstyle": "round", "facecolor": SIGNS[each.role], "linewidth": 0},
    )


def _short(path: str) -> str:
    """As much of the end of a path as a box holds."""
    segments = path.split("/")
    if segments[-1] in ("kernel", "embedding") and len(segments) > 1:
        segments.pop()
    name = "/".join(segments[-2:])
    return name if len(name) <= LETTERS else segments[-1][-LETTERS:]


def _stream(
    ax: Axes, shown: Any, places: Mapping[str, tuple[float, float]], x: float
) -> None:
    """The residual stream, with a plus for each branch that joins it."""
    joins = [places[each.path] for each in shown if each.branch is not None]
    if not joins:
        return
    ends = sorted({y - 0.4 for _, y in joins}, reverse=True)
    ax.plot([x, x], [0.4, ends[-1]], color=COLOURS[1], linewidth=1.5)
    for x0, y0 in joins:
        ax.plot([x0, x], [y0 - 0.18, y0 - 0.4], color=COLOURS[1], linewidth=0.8)
    for y in ends:
        ax.text(
            x,
            y,
            "+",
            ha="center",
            va="center",
            color="white",
            bbox={"boxstyle": "circle", "facecolor": COLOURS[1], "linewidth": 0},
        )
