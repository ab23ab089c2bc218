# SPDX-License-Identifier: Apache-2.0
"""Gaussian quadrature, and the gains of activations that follow from it."""

from jaxinit.gains.activations import (
    ACTIVATIONS,
    Activation,
    function_of,
    numeric,
    on_host,
)
from jaxinit.gains.gains import calculate_gain, gain, kaiming_scale
from jaxinit.gains.quadrature import gaussian_mean, uniform_moments

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "calculate_gain",
    "function_of",
    "gain",
    "gaussian_mean",
    "kaiming_scale",
    "numeric",
    "on_host",
    "uniform_moments",
]
