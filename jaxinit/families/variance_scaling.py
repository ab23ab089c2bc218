# SPDX-License-Identifier: Apache-2.0
"""Variance scaling: the one law behind LeCun, Glorot, He and every gain.

Each entry is drawn independently with mean 0 and variance scale / n, where n is a fan
of the layer. JAX's and Keras's presets are lines over it; PyTorch's are in `torch.py`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import (
    Axes,
    DType,
    Fans,
    Init,
    Law,
    LawOf,
    Real,
    Shape,
    initializer,
    resolve,
)
from jaxinit.core import checks as check
from jaxinit.samplers import disk, standard_normal, truncated_disk

MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
DISTRIBUTIONS = ("truncated_normal", "normal", "uniform")

# The standard deviation of a normal cut at two: real, and complex (by its modulus).
STD_CUT = 0.87962566103423978  # √(1 - 4 φ(2) / (2 Φ(2) - 1))
STD_CUT_COMPLEX = 0.96196182800821354  # √((1 - 5 e⁻⁴) / (1 - e⁻⁴))


@initializer
def variance_scaling(
    scale: Real,
    mode: str,
    distribution: str,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DType = None,
    *,
    fans: Fans | None = None,
) -> tuple[Init, LawOf]:
    """Variance scaling (LeCun 1998, Glorot 2010, He 2015): Var W = scale / n, n a fan.

    n is fan_in, fan_out, their mean (fan_avg) or their geometric mean (fan_geo_avg).
    With n = fan_in, y = Wᵀ x has E y² = scale · E x² per unit; with n = fan_out the
    gradient keeps its variance on the way back; fan_avg is Glorot's compromise. The
    entries are independent, of mean 0 and variance exactly scale / n, drawn from

    - "normal": N(0, scale / n);
    - "truncated_normal": a normal cut at ±2 of its standard deviations, widened by
      1 / 0.8796 so that the variance after the cut is scale / n;
    - "uniform": U(-r, r) with r = √(3 scale / n).

    Complex entries have E |w|² = scale / n: a circular normal, one whose modulus is
    cut at 2 (widened by 1 / 0.9620), or a uniform disk of radius √(2 scale / n).

    Args:
        scale: the factor, not negative: 1 keeps the variance of a linear layer, 2 of
            a ReLU layer, gain² of any other.
        mode: "fan_in", "fan_out", "fan_avg" or "fan_geo_avg".
        distribution: "truncated_normal", "normal" or "uniform".
        in_axis, out_axis, batch_axis: the axes of the inputs, the outputs and of
            stacked kernels; all others are the receptive field.
        dtype: the default dtype of the calls, float or complex.
        fans: how the layer counts, instead of the axes.

    Returns:
        An initializer; under `jax.jit` its numbers are JAX's, but for the complex
        truncated normal, which JAX divides by 0.9531 (its standard deviation is
        0.9620).

    Raises:
        ValueError: for an unknown word, a negative scale, or (at the call) axes that
            fall outside the shape.
        TypeError: for a scale, axis or fans of the wrong kind.

    Example:
        >>> import jax, jaxinit
        >>> init = jaxinit.variance_scaling(2.0, "fan_in", "normal")
        >>> w = init(jax.random.key(0), (500, 400))
        >>> bool(abs(w.var() * 500 / 2 - 1) < 5 * (2 / w.size) ** 0.5)
        True

    References:
        He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, arXiv:1502.01852,
        eqs. 10 and 14; Glorot, Bengio, "Understanding the difficulty of training deep
        feedforward neural networks", AISTATS 2010, eq. 12.
    """
    scale = check.number("scale", scale, low=0)
    mode = check.choice("mode", mode, MODES)
    distribution = check.choice("distribution", distribution, DISTRIBUTIONS)
    counted = resolve(fans, in_axis, out_axis, batch_axis)

    def variance(shape: Shape) -> Any:
        n = _fan(counted, mode, shape)
        return scale / n if n else scale * 0.0  # an empty shape has no entries

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        xp = jnp if check.is_traced(scale) else np  # on the host wherever it can be
        v = xp.asarray(variance(shape), dtype)
        std = xp.sqrt(v)
        if distribution == "normal":
            return standard_normal(key, shape, dtype, std)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            if distribution == "uniform":
                return disk(key, shape, dtype) * std
            return truncated_disk(key, 2, shape, dtype) * (
                std / xp.asarray(STD_CUT_COMPLEX, dtype)
            )
        if distribution == "uniform":
            r = xp.sqrt(xp.asarray(3, dtype) * v)
            return jax.random.uniform(key, shape, dtype, -1) * r
        cut = jax.random.truncated_normal(key, -2, 2, shape, dtype)
        return cut * (std / xp.asarray(STD_CUT, dtype))

    def law(shape: Shape) -> Law:
        std = math.sqrt(variance(shape))
        ends = {"normal": math.inf, "uniform": math.sqrt(3) * std}
        end = ends.get(distribution, 2 / STD_CUT * std)
        return Law(0.0, std, -end, end, density=distribution)

    return init, law


def _fan(fans: Fans, mode: str, shape: Shape) -> float:
    if mode == "fan_in":
        return fans.fan_in(shape)
    if mode == "fan_out":
        return fans.fan_out(shape)
    fan_in, fan_out = fans(shape)
    return (fan_in + fan_out) / 2 if mode == "fan_avg" else (fan_in * fan_out) ** 0.5
