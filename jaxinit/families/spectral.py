# SPDX-License-Identifier: Apache-2.0
"""The spectral condition: matrices whose norm is √(fan_out / fan_in), at any width."""

import math
from typing import Any

import jax

from jaxinit.core import (
    Axes,
    DType,
    Fans,
    Init,
    Initializer,
    Law,
    LawOf,
    Real,
    Shape,
    initializer,
    resolve,
)
from jaxinit.core import checks as check
from jaxinit.families.distributions import normal
from jaxinit.families.orthogonal import METHODS, orthogonal
from jaxinit.families.views import as_kernels


def spectral_std(fan_in: float, fan_out: float) -> float:
    """The standard deviation of a Gaussian of norm near √(fan_out / fan_in)."""
    return min(1.0, math.sqrt(fan_out / fan_in)) / math.sqrt(fan_in)


@initializer
def spectral_normal(
    scale: Real = 1.0,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DType = None,
    *,
    fans: Fans | None = None,
) -> tuple[Init, LawOf]:
    """The spectral condition (Yang et al. 2023): Std W = min(1, √(out / in)) / √in.

    Features are learned at any width if ‖W‖₂ is of the order √(fan_out / fan_in), as
    are its updates: inputs and outputs then have entries of the same size, and so do
    their changes. A Gaussian of this standard deviation has

        ‖W‖₂ / √(fan_out / fan_in) → 1 + √(min / max of the fans),

    between 1 and 2. Hidden and input layers are as in LeCun's law, Var W = 1 / fan_in;
    a layer that narrows is smaller by √(fan_out / fan_in). It is the initialization of
    muP without base shapes; `rules.spectral()` sets a whole model so. (muP prescribes
    learning rates too.)

    Args:
        scale: a factor of the standard deviation, not negative.
        in_axis, out_axis, batch_axis, dtype, fans: as in `variance_scaling`.

    Raises:
        ValueError: for a negative scale; at the call, for a shape without an input
            axis.

    Example:
        >>> import jaxinit
        >>> round(jaxinit.spectral_normal().law((64, 16)).std, 9)  # √(16 / 64) / √64
        0.0625

    References:
        Yang, Simon, Bernstein, "A Spectral Condition for Feature Learning", 2023,
        arXiv:2310.17813, section 4.
    """
    scale = check.number("scale", scale, low=0)
    counted = resolve(fans, in_axis, out_axis, batch_axis)

    def gaussian(shape: Shape) -> Initializer:
        fan_in, fan_out = counted(shape)
        return normal(scale * spectral_std(fan_in, fan_out) if fan_in else 0.0)

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        return gaussian(shape)(key, shape, dtype)

    def law(shape: Shape) -> Law:
        return gaussian(shape).law(shape)

    return init, law


@initializer
def spectral_orthogonal(
    scale: Real = 1.0,
    dtype: DType = None,
    *,
    method: str = "householder",
    fans: Fans | None = None,
) -> tuple[Init, LawOf]:
    """The spectral condition (Yang et al. 2023) exactly: orthogonal · √(out / in).

    A Haar matrix of (in, out) all of whose singular values are scale · √(out / in).
    A layer that widens keeps the size of entries exactly, for every x:
    |x W|² / out = scale² · |x|² / in, where `orthogonal` shrinks it by out / in. A
    layer that narrows has ‖W‖₂ as small as the spectral condition wants.

    Args:
        scale: a factor of the singular values.
        dtype: the default dtype of the calls, float or complex.
        method: as in `orthogonal`.
        fans: how the layer counts: the matrix is then one of its inputs and outputs.

    Raises:
        ValueError: at the call, for a shape that has not two axes (for a stack of
            matrices see `stacked`).

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> w = jaxinit.spectral_orthogonal()(jax.random.key(0), (32, 128))
        >>> bool(jnp.allclose(w @ w.T, 128 / 32 * jnp.eye(32), atol=1e-4))
        True

    References:
        Yang, Simon, Bernstein, "A Spectral Condition for Feature Learning", 2023,
        arXiv:2310.17813, section 4.
    """
    scale = check.number("scale", scale)
    method = check.choice("method", method, METHODS)

    def matrix(shape: Shape) -> Initializer:
        check.rank(shape, 2, 2, " (in, out); see stacked and blocks")
        n, m = shape
        return orthogonal(scale * math.sqrt(m / max(n, 1)), method=method)

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        return matrix(shape)(key, shape, dtype)

    def law(shape: Shape) -> Law:
        return matrix(shape).law(shape)

    return as_kernels(fans, init, law)
