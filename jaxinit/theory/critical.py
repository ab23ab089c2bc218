# SPDX-License-Identifier: Apache-2.0
"""The critical point of an activation, and kernels in closed form."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxinit.core import Real
from jaxinit.core import checks as check
from jaxinit.gains import Activation
from jaxinit.theory.kernels import activation_of, critical_variances
from jaxinit.theory.mean_field import EDGE, TINY, MeanField
from jaxinit.theory.numbers import Numbers, covariance_of, host_number, scalar_or_array
from jaxinit.theory.roots import root

__all__ = ["MeanField", "critical", "erf_kernel", "relu_kernel"]


def critical(
    activation: str | Activation,
    *,
    sigma_b: Real = None,
    sigma_w: Real = None,
    q: Real = None,
) -> MeanField:
    """The point on the edge of chaos, χ_1 = 1, of one given σ_b, σ_w or length q*.

    The critical points of f are a curve, with q* as its parameter:

        σ_w² = 1 / E f′(√q* z)²,   σ_b² = q* - σ_w² E f(√q* z)².

    Given q it is one evaluation; given σ_b or σ_w the curve is searched, from q* = 4e-9
    to 1e6 and at q* = 0. Of several points the first with a stable length is returned,
    or the first if none is: then lengths leave q* in either direction and `chi_q` is
    above 1, as for GELU up to σ_b ≈ 0.4 and SiLU up to σ_b ≈ 0.75. Where every length
    is fixed (ReLU, linear) it is q* = 1.

    Args:
        activation: f, by name or as a callable.
        sigma_b: the standard deviation of the biases, or
        sigma_w: σ_w, or
        q: q*, positive. Exactly one of the three.

    Returns:
        The network, which starts at q*. For another length of its input take
        `dataclasses.replace(network, q=...)`.

    Raises:
        ValueError: where there is no such point (sigmoid and softplus at q = 1), or
            other than one of the three is given.
        TypeError: for what is no number or no function.

    Example:
        >>> from jaxinit.theory import critical
        >>> erf = critical("erf", sigma_b=0.2)
        >>> abs(erf.sigma_w - 1.15279541) < 1e-8, abs(erf.chi_1 - 1) < 1e-9
        (True, True)
        >>> round(critical("relu", sigma_b=0).sigma_w, 9)  # √2
        1.414213562

    References:
        Schoenholz, Gilmer, Ganguli, Sohl-Dickstein, "Deep Information Propagation",
            2017, arXiv:1611.01232; Hayou, Doucet, Rousseau, "On the impact of the
            activation function on deep neural networks training", 2019,
            arXiv:1902.06853.
    """
    with check.speaker("critical"):
        activation = activation_of(activation)
        given = {"sigma_b": sigma_b, "sigma_w": sigma_w, "q": q}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) != 1:
            raise ValueError(
                "give exactly one of sigma_b, sigma_w and q, got "
                f"{', '.join(given) or 'none'}"
            )
        ((name, value),) = given.items()
        least = {"low": 0.0} if name == "sigma_b" else {"above": 0.0}
        value = host_number(name, value, **least)
        miss: dict[str, Callable[[float, float], float]] = {
            "sigma_b": lambda w2, b2: b2 - value**2,
            "sigma_w": lambda w2, b2: w2 / value**2 - 1,
        }
        points = iter([value]) if name == "q" else _lengths(activation, miss[name])
        first = None
        for length in points:
            w2, b2 = critical_variances(activation, max(length, TINY))
            if b2 >= 0:
                exact = {
                    "sigma_w": math.sqrt(w2),
                    "sigma_b": math.sqrt(b2),
                    "q": length,
                }
                found = MeanField(activation, **{**exact, name: value})
                if name == "q" or found.chi_q <= 1 + EDGE:
                    return found
                first = first or found
        if first is not None:
            return first
        length = value if name == "q" else 1.0
        w2, b2 = critical_variances(activation, max(length, TINY))
        raise ValueError(
            f"no critical point of {activation!r} has {name} = {value:g}; at q = "
            f"{length:g}, for one, χ_1 = 1 takes sigma_w² = {w2:.6g}, and the length "
            f"then stays if sigma_b² = {b2:.6g}"
        )


def _lengths(
    activation: str | Activation, miss: Callable[[float, float], float]
) -> Iterator[float]:
    """The lengths at which miss(σ_w², σ_b²) = 0 along the curve."""

    def at(t: float) -> float:
        return miss(*critical_variances(activation, 2.0**t))

    for q in (1.0, TINY):  # all lengths may be critical, or the limit 0
        w2, b2 = critical_variances(activation, q)
        if abs(miss(w2, b2)) <= EDGE and abs(b2) <= 1e-6 * q:
            yield 1.0 if q == 1 else 0.0
            return
    for t in range(-28, 20):
        try:
            turns = at(t) * at(t + 1) <= 0 and at(t + 1) != 0
        except ValueError:  # f(√q z) is too wild to integrate from here on
            return
        if turns:
            yield 2.0 ** root(at, t, t + 1)


def relu_kernel(
    k: Numbers, q1: Numbers, q2: Numbers, *, derivative: bool = False
) -> Any:
    """E f(u) f(v) of f = ReLU in closed form, for u, v of covariance k.

    √(q1 q2) / 2π · (sin θ + (π - θ) cos θ) with cos θ = k / √(q1 q2), the arc-cosine
    kernel; that of f′, the step, is (π - θ) / 2π.

    Args:
        k: the covariance, a number or an array.
        q1, q2: the variances.
        derivative: whether to take E f′(u) f′(v).

    Raises:
        ValueError: for |k| > √(q1 q2), or variances that are negative.

    Example:
        >>> from jaxinit.theory import relu_kernel
        >>> [round(abs(relu_kernel(k, 1.0, 1.0)), 9) for k in (1.0, -1.0)]
        [0.5, 0.0]

    References:
        Cho, Saul, "Kernel Methods for Deep Learning", NeurIPS 2009, eqs. 3 and 6.
    """
    with check.speaker("relu_kernel"):
        k, q1, q2 = covariance_of(k, q1, q2)
        check.flag("derivative", derivative)
    sine = np.sqrt(np.maximum(q1 * q2 - k * k, 0))
    angle = np.pi - np.arctan2(sine, k)
    found = angle if derivative else sine + angle * k
    return scalar_or_array(found / (2 * np.pi))


def erf_kernel(
    k: Numbers, q1: Numbers, q2: Numbers, *, derivative: bool = False
) -> Any:
    """E f(u) f(v) of f = erf in closed form, for u, v of covariance k.

    2/π · arcsin(2 k / √((1 + 2 q1)(1 + 2 q2))), the arcsine kernel; that of f′ is
    4/π / √((1 + 2 q1)(1 + 2 q2) - 4 k²).

    Args:
        k: the covariance, a number or an array.
        q1, q2: the variances.
        derivative: whether to take E f′(u) f′(v).

    Raises:
        ValueError: for |k| > √(q1 q2), or variances that are negative.

    Example:
        >>> from jaxinit.theory import MeanField, erf_kernel
        >>> erf = MeanField("erf", sigma_w=1.0)
        >>> abs(erf.covariance(0.5, 1.0, 2.0) - erf_kernel(0.5, 1.0, 2.0)) < 1e-10
        True

    References:
        Williams, "Computing with Infinite Networks", NeurIPS 1997, eq. 11.
    """
    with check.speaker("erf_kernel"):
        k, q1, q2 = covariance_of(k, q1, q2)
        check.flag("derivative", derivative)
    size = (1 + 2 * q1) * (1 + 2 * q2)
    if derivative:
        return scalar_or_array(4 / np.pi / np.sqrt(size - 4 * k * k))
    return scalar_or_array(2 / np.pi * np.arcsin(2 * k / np.sqrt(size)))
