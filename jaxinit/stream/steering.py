# SPDX-License-Identifier: Apache-2.0
"""What steers XLA's CPU compiler, in one place; `JAXINIT_STEERING=0` turns it off.

The random bits are the same without it. What it is worth, off over on:

- `opaque`, the processor's time under JAX 0.12: 1.22 for a cold 12-block transformer,
  1.43 for a network of ten convolutions, 1.7 for the program of one normal; 1.0 under
  JAX 0.10.
- `has_short_rows`, floats that differ from JAX's in the last place: 4 of 112 arrays
  under JAX 0.12, all of rows shorter than 6; none under JAX 0.10.
- `is_left_to_jax`, likewise for arrays that `jit_init` draws and normalises: 26 of 144
  under JAX 0.10.

The last two cost no time that can be measured: they are there for the numbers.
"""

import os
from typing import Any

import jax
import numpy as np
from jax import lax

from jaxinit import compat

__all__ = ["has_short_rows", "is_left_to_jax", "opaque", "through_memory"]

ON = os.environ.get("JAXINIT_STEERING", "1") != "0"


def opaque(index: jax.Array) -> jax.Array:
    """The same index; LLVM's vectoriser does not look for its uses beyond.

    As JAX 0.12 has it, the vectoriser follows the index of a loop to each use of a use,
    by every path, and each round of the hash doubles the paths. It stops at a minimum
    whose bound is not known to be idle.
    """
    return (
        lax.min(index, lax.optimization_barrier(np.uint32(2**32 - 1))) if ON else index
    )


def has_short_rows(shape: tuple[int, ...]) -> bool:
    """Whether the rows of an array are shorter than a vector register may be.

    XLA's CPU compiler vectorises a loop over short rows in one way when the two words
    of the hash come from memory, as JAX's do, and in another when they are computed
    there, and its scalar and vector logarithms differ in the last place. A short array
    of one axis may be a row of a batch.
    """
    sizes = [dim for dim in shape if dim > 1]
    return ON and bool(sizes) and sizes[-1] < 16


def through_memory(words: Any) -> Any:
    """The same words, read from memory by the loop that uses them."""
    return lax.optimization_barrier(words)


def is_left_to_jax(jaxpr: Any) -> bool:
    """Whether a function's floats depend on the loop in which its bits are computed.

    XLA rounds otherwise where it fuses the bits into a loop over short rows of another
    shape or into a sum.
    """
    last = jaxpr.eqns[-1]
    shape = last.outvars[0].aval.shape
    reshapes = last.primitive.name == "reshape" and has_short_rows(shape)
    return ON and (reshapes or _reduces(jaxpr))


def _reduces(jaxpr: Any) -> bool:
    return any(
        eqn.primitive.name.startswith("reduce_")
        or any(map(_reduces, compat.jaxprs_in_params(eqn.params)))
        for eqn in jaxpr.eqns
    )
