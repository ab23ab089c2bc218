# SPDX-License-Identifier: Apache-2.0
"""What an initialisation does to the signal in the real network, layer by layer.

`report` runs a network on a batch, forward and back, and makes a `Report`: a table, a
dict and a plot of a `Row` for each kernel, with what is wrong in words.

Example:
    A sigmoid has a slope of at most 1/4, and the gradient vanishes:

    >>> import jax, flax.linen as nn
    >>> from jaxinit import signal
    >>> model = nn.Sequential([f for _ in range(6) for f in (nn.Dense(64), nn.sigmoid)])
    >>> x = jax.random.normal(jax.random.key(0), (32, 64))
    >>> found = signal.report(model, model.init(jax.random.key(1), x), x)
    >>> [flag.split(":")[0] for flag in found.flags]
    ['the gradient vanishes']
"""

from jaxinit.signal.coordinates import CoordCheck, Coordinate, coord_check
from jaxinit.signal.laws import corrections as corrections
from jaxinit.signal.laws import predict
from jaxinit.signal.prediction import Predicted, Prediction
from jaxinit.signal.report import Report, Row, report
from jaxinit.signal.transfer import Transfer, transfer
from jaxinit.signal.unit_variance import lsuv as lsuv

__all__ = [
    "CoordCheck",
    "Coordinate",
    "Predicted",
    "Prediction",
    "Report",
    "Row",
    "Transfer",
    "coord_check",
    "predict",
    "report",
    "transfer",
]
