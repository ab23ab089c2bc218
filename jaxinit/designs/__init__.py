# SPDX-License-Identifier: Apache-2.0
"""Designs: rules derived from the network itself, each with its reason in words."""

from jaxinit.designs.derive import design
from jaxinit.designs.lines import Design, Line

__all__ = ["Design", "Line", "design"]
