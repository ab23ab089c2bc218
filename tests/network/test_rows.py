# SPDX-License-Identifier: Apache-2.0
"""Each parametric layer of Flax is read as its row says.

The rows' own fans are measured in `tests/trees/test_layers.py`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jaxinit
from jaxinit.network import Parameter
from tests.network.layers import ROWS, Row

QUICK = True  # see conftest.py


def kernel_of(row: Row) -> Parameter:
    """The reading of a row's kernel, in the pass of its layer."""

    def run(kernel: Any, x: Any) -> Any:
        return row.run(lambda key, shape, dtype=None: kernel.reshape(shape), x)

    dtype = jnp.int32 if row.tokens else jnp.float32
    shapes = [jax.ShapeDtypeStruct(row.kernel, jnp.float32)]
    inputs = jax.ShapeDtypeStruct(row.inputs, dtype)
    (p,) = jaxinit.read(lambda params, x: run(params[0], x), shapes, inputs).values()
    return p


def wanted(row: Row) -> tuple[float, float]:
    """The row's fans; a table that is scaled by fan_out has that for its fan_in."""
    *rest, last = row.kernel
    fans = row.fans((*rest, last // row.parts))
    return fans if row.forward == "fan_in" else (fans[1], row.kernel[0])


# What measures ConvLSTMCell takes a part of a gate out; `MODELS` has the cell itself.
WHOLE = [row for row in ROWS if row.layer is not nn.ConvLSTMCell]


@pytest.mark.parametrize("row", WHOLE, ids=lambda row: row.id)
def test_the_fans_are_those_of_the_row(row):
    p = kernel_of(row)
    if row.kind == "diagonal":  # each entry scales one number: fans of 1 and 1
        assert (p.role, wanted(row)) == ("scale", (1, 1))
        return
    assert (p.fan_in, p.fan_out) == wanted(row)
    assert p.fans is not None
    assert p.fans(p.kernel(p.shape)) == wanted(row)
    assert (p.parts.count if p.parts else 1) == row.parts
