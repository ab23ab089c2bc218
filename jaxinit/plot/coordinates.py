# SPDX-License-Identifier: Apache-2.0
"""The picture of a coordinate check: the size of each change by the width."""

from typing import Any

import numpy as np

from jaxinit.core import checks as check
from jaxinit.plot.look import COLOURS, panels, style

__all__ = ["coordinates"]


def coordinates(found: Any, axes: Any = None) -> Any:
    """The rms of each kernel's output, and of its change, by width: a panel a step.

    Lines that are level transfer; the band is the spread over the seeds.

    Args:
        found: a `signal.CoordCheck`.
        axes: one for each step; a new figure if none is given.

    Raises:
        TypeError: for anything else.

    Example:
        >>> import numpy as np, jaxinit.plot
        >>> from jaxinit.signal import Coordinate, CoordCheck
        >>> values = (np.ones((2, 3)), np.zeros((2, 3)))
        >>> found = CoordCheck((64, 128), (Coordinate("w", 0, 0.0, 0.0),), (values,))
        >>> [ax.get_title() for ax in jaxinit.plot.coordinates(found)]
        ['before training']
    """
    if not hasattr(found, "rows") or not hasattr(found, "widths"):
        raise TypeError(f"plot.coordinates: found must be a CoordCheck, got {found!r}")
    steps = sorted({row.step for row in found.rows})
    with check.speaker("plot.coordinates"), style():
        axes = panels(len(steps)) if axes is None else axes
        for ax, step in zip(np.atleast_1d(axes), steps, strict=True):
            shown = zip(found.rows, found.values, strict=True)
            here = [(row, pair) for row, pair in shown if row.step == step]
            for k, (row, (size, change)) in enumerate(here):
                values = change if step else size
                colour = COLOURS[k % len(COLOURS)]
                middle = values.mean(1)
                ax.loglog(found.widths, middle, "o-", color=colour, label=row.path)
                ax.fill_between(
                    found.widths, values.min(1), values.max(1), color=colour, alpha=0.15
                )
            what = f"change after step {step}" if step else "before training"
            ax.set(title=what, xlabel="width", ylabel="rms")
        np.atleast_1d(axes)[-1].legend(fontsize=6)
        return axes
