# SPDX-License-Identifier: Apache-2.0
"""ZerO: an initialization without randomness, of identities and Hadamard matrices."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxinit.core import DType, Fans, Init, Law, LawOf, Shape, initializer
from jaxinit.core import checks as check
from jaxinit.families.constants import cast_exactly, sparse_law
from jaxinit.families.views import as_kernels


@initializer
def hadamard(
    gain: float = 1.0, dtype: DType = None, *, fans: Fans | None = None
) -> tuple[Init, LawOf]:
    """ZerO (Zhao et al. 2021): the identity, or Hadamard's matrix where a layer widens.

    A matrix (in, out) with in >= out is gain on the diagonal. One with in < out is the
    corner of gain · H / √p, with p = 2^⌈log₂ out⌉ and Sylvester's matrix of signs

        H[i, j] = (-1)^(number of ones in the binary digits of i and j both),

    Hᵀ H = p I: an identity alone would leave features that never differ. Where out is
    a power of two, W Wᵀ = gain² I and the layer keeps every norm; elsewhere, as in the
    paper, the corner cuts H, a row has norm gain · √(out / p) > 0.7 gain, and no
    singular value exceeds gain. (The factor 1 / √p is that of the authors' code; the
    paper prints √(2 / p), gain √2 here.) A convolution (*window, in, out) has the
    matrix at its centre, index (k - 1) // 2, and zeros elsewhere; for one with groups
    write `blocks(hadamard(), groups)`. (The paper's networks have zeros in the last
    layer of each residual branch.)

    Args:
        gain: what all entries are multiplied by.
        dtype: the default dtype of the calls, of any kind that can hold the entries.
        fans: how the layer counts: a kernel is then one of its inputs and outputs,
            and each group and stack has its own.

    Raises:
        ValueError: at the call, for a shape with fewer than two or more than five
            axes.

    Example:
        >>> import jax, jaxinit
        >>> w = jaxinit.hadamard(2.0)(jax.random.key(0), (2, 4))
        >>> w.tolist()
        [[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0]]

    References:
        Zhao, Schäfer, Anandkumar, "ZerO Initialization: Initializing Neural Networks
        with only Zeros and Ones", 2021, arXiv:2110.12661, algorithms 1 and 2.
    """
    gain = check.number("gain", gain)

    def init(shape: Shape, dtype: Any) -> jax.Array:
        *window, n, m = shape
        if n >= m:
            matrix = jnp.eye(n, m, dtype=dtype) * cast_exactly(gain, dtype)
        else:
            ones = jnp.arange(n)[:, None] & jnp.arange(m)[None, :]
            odd = jax.lax.population_count(ones) % 2 == 1
            entry = gain / math.sqrt(_order(m))
            matrix = jnp.where(
                odd, cast_exactly(-entry, dtype), cast_exactly(entry, dtype)
            )
        centre = tuple((k - 1) // 2 for k in window)
        return jnp.zeros(shape, dtype).at[centre].set(matrix)

    def law(shape: Shape) -> Law:
        check.rank(shape, 2, 5, " (*window, in, out)")
        n, m = shape[-2:]
        size = math.prod(shape)
        if n >= m or size == 0:
            return sparse_law(gain, min(n, m), size)
        entry = abs(gain) / math.sqrt(_order(m))
        mean = math.copysign(entry, gain) * _sum(n, m) / size
        std = math.sqrt(entry**2 * n * m / size - mean**2)
        return Law(mean, std, -entry, entry, zeros=1 - n * m / size)

    return as_kernels(fans, init, law, window=True)


def _order(m: int) -> int:
    """The least power of two that is no smaller."""
    return int(1 << (m - 1).bit_length())


def _sum(n: int, m: int) -> int:
    """The sum of the corner (n, m) of H = [h h; h -h], n <= m.

    A block h of order p / 2 has the sum p / 2, and so have all its rows together with
    any of its columns: every column but the first has the sum 0.
    """
    if m <= 1:
        return n
    half = _order(m) // 2
    if n > half:
        return 3 * half - _sum(n - half, m - half)
    return half + _sum(*sorted((n, m - half)))
