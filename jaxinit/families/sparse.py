# SPDX-License-Identifier: Apache-2.0
"""Sparse matrices: a few strong connections instead of many weak ones."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxinit.core import DType, Fans, Init, Law, LawOf, Real, Shape, initializer
from jaxinit.core import checks as check
from jaxinit.families.views import as_kernels
from jaxinit.samplers import cast, standard_normal

PER = ("output", "input")


@initializer
def sparse(
    sparsity: float,
    std: Real = 0.01,
    dtype: DType = None,
    *,
    per: str = "output",
    fans: Fans | None = None,
) -> tuple[Init, LawOf]:
    """Sparse (Martens 2010): N(0, std²), an exact share of zeros for each output.

    Each column of the (in, out) kernel, the connections into one output, has
    ⌈sparsity · in⌉ zeros at places drawn uniformly and independently per column. A
    unit then sees the same few inputs at full strength, however wide the layer.

    PyTorch's `sparse_` counts the columns of its (out, in) weight, the connections from
    one input: sparse(..., per="input") has ⌈sparsity · out⌉ zeros in each of our rows.

    Args:
        sparsity: the share of zeros, in [0, 1].
        std: the standard deviation of the other entries, not negative.
        dtype: the default dtype of the calls, float or complex.
        per: whose zeros are counted, each "output" or, as in PyTorch, each "input".
        fans: how the layer counts: the matrix is then one of its inputs and outputs.

    Raises:
        ValueError: for a sparsity outside [0, 1], a negative std or another `per`; at
            the call, for a shape that has not two axes.

    Example:
        >>> import jax, jaxinit
        >>> w = jaxinit.sparse(0.9)(jax.random.key(0), (50, 3))
        >>> (w == 0).sum(axis=0).tolist()
        [45, 45, 45]
        >>> w = jaxinit.sparse(0.9, per="input")(jax.random.key(0), (3, 50))
        >>> (w == 0).sum(axis=1).tolist()
        [45, 45, 45]

    References:
        Martens, "Deep learning via Hessian-free optimization", ICML 2010, section 5.
    """
    sparsity = check.number("sparsity", sparsity, low=0, high=1)
    std = check.number("std", std, low=0)
    axis = PER.index(check.choice("per", per, PER))
    if check.is_traced(sparsity):
        raise TypeError("sparsity must be known before jit: it counts the zeros")

    def zeros_in(shape: Shape) -> int:
        check.rank(shape, 2, 2, " (in, out)")
        return math.ceil(sparsity * shape[axis])

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        key_places, key_values = jax.random.split(key)
        zeros = zeros_in(shape)
        first = jnp.arange(shape[axis]) >= zeros
        first = jnp.broadcast_to(jnp.expand_dims(first, 1 - axis), shape)
        kept = jax.random.permutation(key_places, first, axis, independent=True)
        values = standard_normal(key_values, shape, dtype, cast(std, dtype))
        return jnp.where(kept, values, jnp.zeros((), dtype))

    def law(shape: Shape) -> Law:
        zeros = zeros_in(shape)
        kept = shape[axis] - zeros
        share = kept / max(shape[axis], 1)
        return Law(
            0.0,
            std * math.sqrt(share),
            independent=kept * shape[1 - axis],
            zeros=1 - share,
        )

    return as_kernels(fans, init, law)
