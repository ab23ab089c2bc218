# SPDX-License-Identifier: Apache-2.0
"""JAX's and Keras's presets: lines over variance scaling.

LeCun keeps the variance of a linear layer, He of a ReLU layer, and Glorot compromises
between the two directions. "normal" is here a normal cut at two standard deviations
with its variance restored, as in JAX and Keras; PyTorch's uncut presets are in
`torch.py`.

The arguments (in_axis, out_axis, batch_axis, dtype, *, fans) are written out in every
factory that takes them. A decorator could give the presets those of `variance_scaling`,
by `Concatenate` and a `ParamSpec`; type checkers and `inspect.signature` follow it, but
editors and documentation tools that read the source alone (Jedi, griffe) then show
`he_normal() -> None`. A factory with arguments of its own before these has no such
type: a `ParamSpec` may follow arguments given by position only, and the names of a
`TypedDict` (`Unpack`) may not be given by position, as programs for JAX do.
"""

from jaxinit.core import Axes, DType, Fans, Initializer, initializer
from jaxinit.families.variance_scaling import variance_scaling


@initializer
def lecun_normal(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DType = None,
    *,
    fans: Fans | None = None,
) -> Initializer:
    """LeCun (1998) normal: Var W = 1 / fan_in, cut at two standard deviations.

    The default of Flax's layers; keeps the variance of a linear or SELU layer.
    Arguments, numbers and errors are those of
    `variance_scaling(1.0, "fan_in", "truncated_normal")`.

    Example:
        >>> from jaxinit import lecun_normal, variance_scaling
        >>> lecun_normal() == variance_scaling(1.0, "fan_in", "truncated_normal")
        True

    References:
        LeCun, Bottou, Orr, Müller, "Efficient BackProp", 1998, section 4.6; Klambauer,
        Unterthiner, Mayr, Hochreiter, "Self-Normalizing Neural Networks", 2017,
        arXiv:1706.02515.
    """
    return variance_scaling(
        1.0,
        "fan_in",
        "truncated_normal",
        in_axis,
        out_axis,
        batch_axis,
        dtype,
        fans=fans,
    )


@initializer
def lecun_uniform(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DType = None,
    *,
    fans: Fans | None = None,
) -> Initializer:
    """LeCun (1998) uniform: U(-r, r), r = √(3 / fan_in), so Var W = 1 / fan_in.

    Keeps the variance of a linear layer, with bounded weights.
    Arguments, numbers and errors are those of
    `variance_scaling(1.0, "fan_in", "uniform")`.

    Example:
        >>> from jaxinit import lecun_uniform, variance_scaling
        >>> lecun_uniform() == variance_scaling(1.0, "fan_in", "uniform")
        True

    References:
        LeCun, Bottou, Orr, Müller, "Efficient BackProp", 1998, section 4.6.
    """
    return variance_scaling(
        1.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype, fans=fans
    )


@initializer
def glorot_normal(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DType = None,
    *,
    fans: Fans | None = None,
) -> Initializer:
    """Glorot (2010) normal: Var W = 2 / (fan_in + fan_out), cut at two deviations.

    The harmonic compromise between keeping the signal's variance forward (1 / fan_in)
    and the gradient's backward (1 / fan_out), for activations that are linear at zero.
    Arguments, numbers and errors are those of
    `variance_scaling(1.0, "fan_avg", "truncated_normal")`.

    Example:
        >>> from jaxinit import glorot_normal, variance_scaling
        >>> glorot_normal() == variance_scaling(1.0, "fan_avg", "truncated_normal")
        True

    References:
        Glorot, Bengio, "Understanding the difficulty of training deep feedforward
        neural networks", AISTATS 2010, eq. 12.
    """
    return variance_scaling(
        1.0,
        "fan_avg",
        "truncated_normal",
        in_axis,
        out_axis,
        batch_axis,
        dtype,
        fans=fans,
    )


@initializer
def glorot_uniform(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DType = None,
    *,
    fans: Fans | None = None,
) -> Initializer:
    """Glorot (2010) uniform: U(-r, r), r = √(6 / (fan_in + fan_out)).

    Var W = 2 / (fan_in + fan_out); the default of Keras's layers.
    Arguments, numbers and errors are those of
    `variance_scaling(1.0, "fan_avg", "uniform")`.

    Example:
        >>> from jaxinit import glorot_uniform, variance_scaling
        >>> glorot_uniform() == variance_scaling(1.0, "fan_avg", "uniform")
        True

    References:
        Glorot, Bengio, "Understanding the difficulty of training deep feedforward
        neural networks", AISTATS 2010, eq. 16.
    """
    return variance_scaling(
        1.0, "fan_avg", "uniform", in_axis, out_axis, batch_axis, dtype, fans=fans
    )


@initializer
def he_normal(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DType = None,
    *,
    fans: Fans | None = None,
) -> Initializer:
    """He (2015) normal: Var W = 2 / fan_in, cut at two standard deviations.

    A ReLU drops half of E x²; the 2 restores it, layer after layer. For PyTorch's uncut
    normal and for other activations, see `kaiming_normal`.
    Arguments, numbers and errors are those of
    `variance_scaling(2.0, "fan_in", "truncated_normal")`.

    Example:
        >>> from jaxinit import he_normal, variance_scaling
        >>> he_normal() == variance_scaling(2.0, "fan_in", "truncated_normal")
        True

    References:
        He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, arXiv:1502.01852,
        eq. 10.
    """
    return variance_scaling(
        2.0,
        "fan_in",
        "truncated_normal",
        in_axis,
        out_axis,
        batch_axis,
        dtype,
        fans=fans,
    )


@initializer
def he_uniform(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DType = None,
    *,
    fans: Fans | None = None,
) -> Initializer:
    """He (2015) uniform: U(-r, r), r = √(6 / fan_in), so Var W = 2 / fan_in.

    A ReLU drops half of E x²; the 2 restores it, layer after layer.
    Arguments, numbers and errors are those of
    `variance_scaling(2.0, "fan_in", "uniform")`.

    Example:
        >>> from jaxinit import he_uniform, variance_scaling
        >>> he_uniform() == variance_scaling(2.0, "fan_in", "uniform")
        True

    References:
        He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, arXiv:1502.01852,
        eq. 10.
    """
    return variance_scaling(
        2.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype, fans=fans
    )
