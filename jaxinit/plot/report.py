# SPDX-License-Identifier: Apache-2.0
"""The picture of a report: the signal by layer, forward and backward."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxinit.plot.look import COLOURS, PALETTE, Axes, canvas

__all__ = ["report"]

NAMES = 40  # rows that are named one by one; beyond, groups of them are
GROUPS = 30  # groups that are named; beyond, some of them are
INCHES = (7.0, 16.0)  # of a figure's width
TRACES = {"rms": ("signal", "o"), "grad_rms": ("gradient", "s")}


def report(measured: Any, predicted: Any = None, ax: Axes | None = None) -> Axes:
    """A report's layers by name, in order of execution, forward and backward.

    Filled marks are the rms of outputs and of gradients by them; hollow ones end a
    residual branch. Lines are a prediction. Layers of one block stand on one ground. A
    flag stands over the layers that it is about, with its first words.

    Args:
        measured: a `signal.Report`.
        predicted: a `signal.Prediction` of the same network.
        ax: the axes; a figure of its own is as wide as the layers ask.

    Raises:
        TypeError: for what is no report.
        ValueError: for one without rows, or a prediction of another network.

    Example:
        >>> import jax, jaxinit, jaxinit.plot
        >>> key, x = jax.random.key(0), jax.numpy.ones((8, 64))
        >>> w = jaxinit.he_normal()(key, (64, 64))
        >>> found = jaxinit.signal.report(lambda w, x: jax.nn.relu(x @ w), w, x)
        >>> jaxinit.plot.report(found).get_yscale()
        'log'
    """
    with canvas("report", ax) as axes:
        rows = getattr(measured, "rows", None)
        what = f"measured must be a signal.Report with rows, got {measured!r}"
        if rows is None or (rows and not hasattr(rows[0], "param_grad_rms")):
            raise TypeError(what)
        if not rows:
            raise ValueError(what)
        if predicted is not None:
            predicted.compare(measured)
        if ax is None:
            width = float(np.clip(0.22 * len(rows) + 2, *INCHES))
            axes.figure.set_size_inches((width, 4.4))
        _grounds(axes, rows)
        for (field, (name, marker)), colour in zip(
            TRACES.items(), COLOURS, strict=False
        ):
            _trace(axes, rows, field, name, marker, colour)
            if predicted is not None:
                line = [getattr(row, field) for row in predicted.rows]
                axes.plot(line, "--", color=colour, label=f"{name}, predicted")
        axes.set_yscale("log")
        _flags(axes, measured)
        axes.set_xlim(-0.7, len(rows) - 0.3)
        axes.set_ylabel("root mean square")
        axes.grid(visible=False, axis="x")
        axes.legend(loc="best")
        return axes


def _trace(
    axes: Axes, rows: Sequence[Any], field: str, name: str, marker: str, colour: str
) -> None:
    """The marks of one direction; a hollow one ends a branch."""
    size = 6 if len(rows) <= NAMES else 3.5
    for joins, label in ((False, name), (True, f"{name}, end of a branch")):
        at = [k for k, row in enumerate(rows) if row.joins == joins]
        found = np.array([getattr(rows[k], field) for k in at], float)
        shown = np.isfinite(found) & (found > 0)  # a logarithm has no other place
        if shown.any():
            axes.plot(
                np.array(at)[shown],
                found[shown],
                marker,
                color=colour,
                markersize=size,
                markerfacecolor="white" if joins else colour,
                label=label,
            )


def _grounds(axes: Axes, rows: Sequence[Any]) -> None:
    """The names of layers, or of blocks, which are shaded by turns."""
    groups = [(name, list(each)) for name, each in _groups(rows)]
    for k, (_, at) in enumerate(groups):
        if k % 2:
            axes.axvspan(at[0] - 0.5, at[-1] + 0.5, color="#000000", alpha=0.05, lw=0)
    if len(rows) <= NAMES:
        labels = [(float(k), _short(row)) for k, row in enumerate(rows)]
    else:
        every = -(-len(groups) // GROUPS)
        labels = [((at[0] + at[-1]) / 2, name) for name, at in groups[::every]]
    axes.set_xticks(
        [x for x, _ in labels],
        [text for _, text in labels],
        rotation=60,
        ha="right",
        rotation_mode="anchor",
        fontsize=8,
    )


def _groups(rows: Sequence[Any]) -> Iterator[tuple[str, Iterator[int]]]:
    """Neighbours of one block: all of a path but the parameter and its layer."""
    names = [_block(row.path) for row in rows]
    return itertools.groupby(range(len(rows)), key=names.__getitem__)


def _block(path: str) -> str:
    """The path as far as its first number, "blocks/3", or its first name."""
    stem, _, index = path.partition("[")
    parts = [part for part in stem.split("/") if part != "params"]
    if index:  # a slice of a stack of blocks
        return f"{parts[0]}[{index}"
    for k, part in enumerate(parts[:-1]):
        if any(c.isdigit() for c in part):
            return "/".join(parts[: k + 1])
    return parts[0]


def _short(row: Any) -> str:
    """A label without what all have: the collection, and the word kernel."""
    parts = [part for part in row.label.split("/") if part not in ("params", "kernel")]
    return "/".join(parts[-3:]) or row.label


def _flags(axes: Axes, measured: Any) -> None:
    """Each flag's first words, over the layers that it is about."""
    at = {row.label: k for k, row in enumerate(measured.rows)}
    for height, flag in enumerate(measured.flags):
        places = [at[label] for label in getattr(flag, "labels", ()) if label in at]
        if not places:
            continue
        y = 1.04 + 0.08 * height
        ends = (min(places) - 0.3, max(places) + 0.3)
        where = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(ends, (y, y), color=PALETTE["vermillion"], linewidth=2, **where)
        axes.text(
            ends[0],
            y + 0.015,
            flag.partition(":")[0],
            fontsize=8,
            color=PALETTE["vermillion"],
            **where,
        )
