# SPDX-License-Identifier: Apache-2.0
"""Prediction: a network's computation, run on the laws of its entries."""

from jaxinit.prediction.entry import Entry, number
from jaxinit.prediction.interpret import Interpreter
from jaxinit.prediction.layouts import signal
from jaxinit.prediction.values import Drawn, Given, Mixture

__all__ = ["Drawn", "Entry", "Given", "Interpreter", "Mixture", "number", "signal"]
