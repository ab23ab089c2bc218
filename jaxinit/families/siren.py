# SPDX-License-Identifier: Apache-2.0
"""SIREN: networks of sines over coordinates, whose signal keeps its size."""

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
from jaxinit.families.variance_scaling import variance_scaling


@initializer
def siren(
    omega: Real = 30.0,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DType = None,
    *,
    first: bool = False,
    fans: Fans | None = None,
) -> tuple[Init, LawOf]:
    """SIREN (Sitzmann et al. 2020): U(-r, r), r = √(6 / fan_in) / ω; first 1 / fan_in.

    For layers x ↦ sin(ω (W x + b)). Hidden layers have ω² fan_in Var W = 2, so that a
    pre-activation z of variance s², near to normal, is followed by one of variance
    2 E sin² z = 1 - e^(-2 s²). Its size settles, at any depth, at the fixed point

        s² = 1 + W₀(-2 e⁻²) / 2 = 0.79681,    s = 0.89264,

    with W₀ Lambert's function (the paper says 1). The first layer is U(±1 / fan_in):
    coordinates uniform on (-1, 1) give ω W x the standard deviation ω / (3 √fan_in),
    which spreads the sines over many periods.

    The reference code leaves the biases at PyTorch's default, `torch_bias(fan_in)`.

    Args:
        omega: the frequency ω by which the layer multiplies before its sine, positive;
            the first layer's weights do not depend on it.
        in_axis, out_axis, batch_axis, dtype, fans: as in `variance_scaling`.
        first: whether this layer takes the coordinates.

    Raises:
        ValueError: for an omega that is not positive; at the call, for a shape
            without an input axis.

    Example:
        >>> import jaxinit
        >>> round(30 * jaxinit.siren(30.0).law((600, 5)).high, 9)  # √(6 / 600)
        0.1
        >>> round(jaxinit.siren(first=True).law((2, 256)).high, 9)
        0.5

    References:
        Sitzmann, Martel, Bergman, Lindell, Wetzstein, "Implicit Neural Representations
        with Periodic Activation Functions", 2020, arXiv:2006.09661, section 3.2
        and, for ω and the first layer, section 1.5 of the supplement.
    """
    omega = check.number("omega", omega, above=0)
    first = check.flag("first", first)
    counted = resolve(fans, in_axis, out_axis, batch_axis)

    def uniform(shape: Shape) -> Initializer:
        """Its bound is r = √(3 scale / fan_in)."""
        scale = 1 / (3 * max(counted.fan_in(shape), 1)) if first else 2 / omega**2
        return variance_scaling(scale, "fan_in", "uniform", fans=counted)

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        return uniform(shape)(key, shape, dtype)

    def law(shape: Shape) -> Law:
        return uniform(shape).law(shape)

    return init, law
