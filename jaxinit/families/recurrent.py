# SPDX-License-Identifier: Apache-2.0
"""Recurrent kernels: the identity, which remembers, and noise, which mixes units."""

import math
from typing import Any

import jax

from jaxinit.core import DType, Fans, Init, Law, LawOf, Real, Shape, initializer
from jaxinit.core import checks as check
from jaxinit.families.constants import identity
from jaxinit.families.distributions import normal
from jaxinit.families.views import as_kernels


@initializer
def noisy_identity(
    gain: float = 1.0,
    stddev: Real = 1e-3,
    dtype: DType = None,
    *,
    fans: Fans | None = None,
) -> tuple[Init, LawOf]:
    """An identity with noise (after Le et al. 2015): gain · I + N(0, stddev²).

    A recurrent layer h ← ReLU(h W + x U) with W = I keeps a state h >= 0 for ever.
    Noise lets the units mix, at the price of a memory of about 1 / (stddev √n) steps
    for n units, on which E |h W|² = (gain² + n stddev²) |h|².

    The IRNN of Le et al. has no noise in W: that is `identity()`, of gain 1 for long
    memories and 0.01 for short ones, with biases 0; N(0, 10⁻⁶) is its law for the other
    kernels, and the default stddev here. Lee et al. have the noise, for deep tanh
    layers: a square one is noisy_identity(1.0, 0.085 / √n).

    Args:
        gain: the diagonal.
        stddev: the standard deviation of the noise, not negative.
        dtype: the default dtype of the calls, float or complex.
        fans: how the layer counts: the matrix is then one of its inputs and outputs.

    Raises:
        ValueError: for a negative stddev; at the call, for a shape with fewer than two
            axes.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> w = jaxinit.noisy_identity(1.0, 0.01)(jax.random.key(0), (64, 64))
        >>> bool(abs(w - jnp.eye(64)).max() < 0.06)
        True

    References:
        Le, Jaitly, Hinton, "A Simple Way to Initialize Recurrent Networks of Rectified
        Linear Units", 2015, arXiv:1504.00941; Lee, Choi, Kim, "Robust Weight
        Initialization for Tanh Neural Networks with Fixed Point Analysis", 2025,
        arXiv:2410.02242.
    """
    gain = check.number("gain", gain)
    stddev = check.number("stddev", stddev, low=0)
    diagonal, noise = identity(gain), normal(stddev)

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        return diagonal(key, shape, dtype) + noise(key, shape, dtype)

    def law(shape: Shape) -> Law:
        still = diagonal.law(shape)
        return Law(still.mean, math.hypot(still.std, stddev))

    return as_kernels(fans, init, law, window=True)
