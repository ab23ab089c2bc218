# SPDX-License-Identifier: Apache-2.0
"""PyTorch's presets: untruncated normals, gains, and the defaults of its layers.

A gain is the factor that undoes what the activation does to the scale of a signal:
Std W = gain / √fan, that is variance scaling with scale = gain².
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxinit.core import Axes, DType, Fans, Initializer, Real, initializer
from jaxinit.core import checks as check
from jaxinit.families.distributions import uniform_between
from jaxinit.families.variance_scaling import MODES, variance_scaling
from jaxinit.gains import Activation, kaiming_scale


@initializer
def kaiming_normal(
    mode: str = "fan_in",
    nonlinearity: str | Activation = "leaky_relu",
    a: float = 0.0,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DType = None,
    *,
    fans: Fans | None = None,
) -> Initializer:
    """PyTorch's `kaiming_normal_` (He 2015): N(0, gain² / fan), not truncated.

    The gain is PyTorch's where its table has the activation (relu √2, leaky_relu
    √(2 / (1 + a²)), tanh 5/3, selu 3/4, sigmoid and linear 1). Any other activation
    has its exact gain: 1 / √E f(z)² with z ~ N(0, 1), so that E f(y)² = 1 goes on
    from layer to layer; in mode "fan_out" it is the backward 1 / √E f′(z)².

    Args:
        mode: "fan_in" keeps the signal's variance, "fan_out" the gradient's;
            "fan_avg" and "fan_geo_avg" as in `variance_scaling`.
        nonlinearity: the name of an activation, or any elementwise function that JAX
            can trace.
        a: the negative slope of leaky_relu.
        in_axis, out_axis, batch_axis, dtype, fans: as in `variance_scaling`.

    Raises:
        ValueError: for an unknown mode or activation, or a slope for an activation
            that has none.

    Example:
        >>> import jax, jaxinit
        >>> jaxinit.kaiming_normal("fan_out", "relu")
        variance_scaling(2.0, 'fan_out', 'normal')
        >>> gelu = jaxinit.kaiming_normal(nonlinearity=jax.nn.gelu)
        >>> abs(gelu.arguments["scale"] - jaxinit.gain(jax.nn.gelu) ** 2) < 1e-12
        True

    References:
        He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, arXiv:1502.01852,
        eqs. 10, 14 and 15.
    """
    mode = check.choice("mode", mode, MODES)
    scale = kaiming_scale(nonlinearity, a, mode)
    return variance_scaling(
        scale, mode, "normal", in_axis, out_axis, batch_axis, dtype, fans=fans
    )


@initializer
def kaiming_uniform(
    mode: str = "fan_in",
    nonlinearity: str | Activation = "leaky_relu",
    a: float = 0.0,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DType = None,
    *,
    fans: Fans | None = None,
) -> Initializer:
    """PyTorch's `kaiming_uniform_` (He 2015): U(-r, r), r = gain · √(3 / fan).

    Arguments, gains and errors are those of `kaiming_normal`. With a = √5 it is the
    default of PyTorch's layers, `torch_linear()`.

    Example:
        >>> import jaxinit
        >>> jaxinit.kaiming_uniform(nonlinearity="relu") == jaxinit.he_uniform()
        True

    References:
        He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, arXiv:1502.01852.
    """
    mode = check.choice("mode", mode, MODES)
    scale = kaiming_scale(nonlinearity, a, mode)
    return variance_scaling(
        scale, mode, "uniform", in_axis, out_axis, batch_axis, dtype, fans=fans
    )


@initializer
def xavier_normal(
    gain: Real = 1.0,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DType = None,
    *,
    fans: Fans | None = None,
) -> Initializer:
    """PyTorch's `xavier_normal_` (Glorot 2010): N(0, 2 gain² / (fan_in + fan_out)).

    (JAX's function of this name is `glorot_normal`, which truncates.)

    Args:
        gain: the factor of the standard deviation, not negative; see
            `calculate_gain` and `gain`.
        in_axis, out_axis, batch_axis, dtype, fans: as in `variance_scaling`.

    Raises:
        ValueError: for a negative gain.

    Example:
        >>> import jaxinit
        >>> round(jaxinit.xavier_normal().law((30, 20)).std, 9)  # √(2 / (30 + 20))
        0.2

    References:
        Glorot, Bengio, "Understanding the difficulty of training deep feedforward
        neural networks", AISTATS 2010, eq. 12.
    """
    return variance_scaling(
        _square(gain),
        "fan_avg",
        "normal",
        in_axis,
        out_axis,
        batch_axis,
        dtype,
        fans=fans,
    )


@initializer
def xavier_uniform(
    gain: Real = 1.0,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DType = None,
    *,
    fans: Fans | None = None,
) -> Initializer:
    """PyTorch's `xavier_uniform_` (Glorot 2010): U(±gain · √(6 / (fan_in + fan_out))).

    Arguments and errors are those of `xavier_normal`; with gain 1 it is
    `glorot_uniform`.

    Example:
        >>> import jaxinit
        >>> jaxinit.xavier_uniform() == jaxinit.glorot_uniform()
        True

    References:
        Glorot, Bengio, "Understanding the difficulty of training deep feedforward
        neural networks", AISTATS 2010, eq. 16.
    """
    return variance_scaling(
        _square(gain),
        "fan_avg",
        "uniform",
        in_axis,
        out_axis,
        batch_axis,
        dtype,
        fans=fans,
    )


@initializer
def torch_linear(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DType = None,
    *,
    fans: Fans | None = None,
) -> Initializer:
    """The default weight of PyTorch's Linear and Conv layers: U(±1 / √fan_in).

    PyTorch writes it as `kaiming_uniform_(a=√5)`; Var W = 1 / (3 fan_in), so a deep
    network of such layers shrinks its signal. Arguments are those of `he_uniform`.
    The default bias is `torch_bias(fan_in)`.

    Example:
        >>> import jaxinit
        >>> round(jaxinit.torch_linear().law((100, 7)).high, 9)
        0.1
    """
    return variance_scaling(
        1 / 3, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype, fans=fans
    )


@initializer
def torch_bias(fan_in: float, dtype: DType = None) -> Initializer:
    """The default bias of PyTorch's Linear and Conv layers: U(±1 / √fan_in).

    A bias's own shape does not tell the fan_in of its kernel, which is given.

    Args:
        fan_in: the fan_in of the layer's kernel, positive.
        dtype: the default dtype of the calls.

    Raises:
        ValueError: for a fan_in that is not positive.

    Example:
        >>> import jaxinit
        >>> round(jaxinit.torch_bias(100).law((7,)).high, 9)  # 1 / √100
        0.1
    """
    fan_in = check.number("fan_in", fan_in, above=0)
    bound = 1 / (jnp if check.is_traced(fan_in) else np).sqrt(fan_in)
    return uniform_between(-bound, bound, dtype)


def _square(gain: Real) -> Any:
    gain = check.number("gain", gain, low=0)
    return gain * gain
