# SPDX-License-Identifier: Apache-2.0
"""The look of the figures: one palette, one style, and the axes to draw into.

A new figure is opaque white, and so reads alike in notebooks of dark and of light
background. On a transparent one the same colours would have to stand out from both,
which no colour does by more than 4.6 to 1, and those of the palette by less.

References:
    Okabe, Ito, "Color Universal Design: how to make figures and presentations that are
        friendly to colorblind people", 2008.
"""

import contextlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from jaxinit.core import checks as check
from jaxinit.core import require

with require("jaxinit.plot", "matplotlib", "plot"):
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes as _Axes

Axes: TypeAlias = Any  # matplotlib's, which states no types

# Okabe and Ito's palette, told apart by every kind of colour vision; lines take it in
# this order.
PALETTE: Mapping[str, str] = MappingProxyType(
    {
        "blue": "#0072B2",
        "vermillion": "#D55E00",
        "green": "#009E73",
        "purple": "#CC79A7",
        "orange": "#E69F00",
        "sky": "#56B4E9",
        "black": "#000000",
    }
)
COLOURS = tuple(PALETTE.values())

_STYLE = {
    "axes.edgecolor": "#444444",
    "axes.facecolor": "white",
    "axes.grid": True,
    "axes.labelcolor": "#222222",
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "savefig.facecolor": "auto",
    "text.color": "#222222",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The look of this module's figures, for the time of a `with` block.

    Opaque white, dark text, a light grid, and the palette of Okabe and Ito.

    Example:
        >>> import matplotlib.pyplot as plt, jaxinit.plot
        >>> before = plt.rcParams["text.color"]
        >>> with jaxinit.plot.style():
        ...     figure, axes = plt.subplots(1, 2)
        >>> plt.rcParams["text.color"] == before
        True
    """
    # Not rc_context, which would also undo what a notebook's backend sets as it loads.
    before = {name: plt.rcParams[name] for name in _STYLE}
    plt.rcParams.update(_STYLE)
    try:
        yield
    finally:
        plt.rcParams.update(before)


@contextlib.contextmanager
def canvas(who: str, ax: Axes | None) -> Iterator[Axes]:
    """The caller's axes, in the caller's style, or those of a new figure, in ours."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(check.speaker(f"plot.{who}"))
        if ax is None:
            stack.enter_context(style())
            figure, ax = plt.subplots()
            stack.push(lambda kind, *_: plt.close(figure) if kind else None)
        elif not isinstance(ax, _Axes):
            raise TypeError(f"ax must be the Axes of a matplotlib figure, got {ax!r}")
        yield ax


def panels(count: int) -> Any:
    """The axes of a new figure, side by side."""
    size = (3.2 * count, 3.2)
    return plt.subplots(1, count, figsize=size, squeeze=False)[1][0]
