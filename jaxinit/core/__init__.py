# SPDX-License-Identifier: Apache-2.0
"""What an initializer is: checks, value, call boundary, law, fans, registry."""

from jaxinit.core import checks
from jaxinit.core.checks import Axes, DType, Real, Shape
from jaxinit.core.config import find
from jaxinit.core.counts import compute_fans, resolve
from jaxinit.core.draw import Init, LawOf
from jaxinit.core.einsum import operands
from jaxinit.core.extras import require
from jaxinit.core.fans import Fans
from jaxinit.core.initializer import Initializer, callee, initializer
from jaxinit.core.law import Law
from jaxinit.core.registry import SINGLE, available, get, to_config
from jaxinit.core.table import Tabular, align, cell, columns
from jaxinit.core.value import FACTORIES, Value, once

__all__ = [
    "FACTORIES",
    "SINGLE",
    "Axes",
    "DType",
    "Fans",
    "Init",
    "Initializer",
    "Law",
    "LawOf",
    "Real",
    "Shape",
    "Tabular",
    "Value",
    "align",
    "available",
    "callee",
    "cell",
    "checks",
    "columns",
    "compute_fans",
    "find",
    "get",
    "initializer",
    "once",
    "operands",
    "require",
    "resolve",
    "to_config",
]
