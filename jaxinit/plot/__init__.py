# SPDX-License-Identifier: Apache-2.0
"""Plots: laws, gains, networks, phases, reports, the signal by depth, spectra.

Every function draws into `ax`, or into a new figure of the look of `style`, and returns
the axes; showing and saving are left to the caller. The axes of another figure keep its
style, and no setting of matplotlib is left changed.

Example:
    >>> import jaxinit, jaxinit.plot
    >>> ax = jaxinit.plot.law(jaxinit.he_normal(), (256, 128))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('entry', 'probability density')
"""

from jaxinit.plot.coordinates import coordinates
from jaxinit.plot.layers import network
from jaxinit.plot.look import PALETTE as PALETTE
from jaxinit.plot.pictures import (
    gains,
    law,
    phase_diagram,
    signal,
    singular_values,
    style,
)
from jaxinit.plot.report import report

__all__ = [
    "coordinates",
    "gains",
    "law",
    "network",
    "phase_diagram",
    "report",
    "signal",
    "singular_values",
    "style",
]
