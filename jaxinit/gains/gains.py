# SPDX-License-Identifier: Apache-2.0
"""Gains: the factor of the weights that undoes an activation's change of scale.

There are two traditions. `gain` computes the factor for any activation. PyTorch's
table, `calculate_gain`, is exact for ReLU and its leaky kin and conventional elsewhere
(tanh 5/3 where 1.5925 keeps the signal, sigmoid 1 where 1.8462 does, selu 3/4 where 1
does).
"""

import functools
import math

import numpy as np

from jaxinit.core import Real
from jaxinit.core import checks as check
from jaxinit.gains.activations import Activation, function_of, numeric, on_host
from jaxinit.gains.quadrature import gaussian_mean

_MOMENTS = {"forward": "E f(z)²", "backward": "E f′(z)²", "std": "Var f(z)"}

_PYTORCH = {  # squared, which floats hold exactly
    **dict.fromkeys(["linear", "sigmoid", "conv1d", "conv2d", "conv3d"], 1.0),
    **dict.fromkeys([f"conv_transpose{n}d" for n in (1, 2, 3)], 1.0),
    "tanh": 25 / 9,
    "relu": 2.0,
    "leaky_relu": 2 / (1 + 0.01**2),
    "selu": 9 / 16,
}


def gain(activation: str | Activation, direction: str = "forward") -> float:
    """The exact gain of any elementwise activation, by name or as a callable.

    A layer y = W f(z), its weights independent with mean 0 and Var W = g² / fan_in,
    has E y² = g² E f(z)² for a standard normal z. One g keeps the scale of the signal;
    another (over fan_out) keeps that of the gradient, which f′ multiplies on its way
    back; a third is for kernels whose weights sum to zero for each output, as under
    weight standardization, which see only how f(z) varies:

    - "forward": g = 1 / √E f(z)²;
    - "backward": g = 1 / √E f′(z)²;
    - "std": g = 1 / √Var f(z).

    For ReLU the first two agree, √2: half of the signal is cut off either way. SELU is
    made to need none: E f = 0 and E f² = 1.

    The expectations are integrals over the line, computed on the host in float64 to
    about twelve digits, wherever the kinks of f are. f′ is the derivative that training
    uses, that of `jax.grad`: a straight-through estimator counts as what it lets
    through. The gain is a Python float, inside `jax.jit` too, and is remembered, so a
    callable must be pure.

    Args:
        activation: f: a callable that maps arrays elementwise, or a name: those of
            JAX, where "gelu" is the exact one (with erf), "gelu_tanh" the default of
            `jax.nn.gelu`, and "leaky_relu_0.2" has its slope in its name; and "cos",
            "erf", "gelu_quick", "linear", "prelu" (slope 0.25), "relu_squared", "sin",
            "softsign".
        direction: "forward", "backward" or "std".

    Returns:
        The gain g, positive.

    Raises:
        ValueError: for an unknown word, an f that is not elementwise, or an expectation
            that is infinite or zero (f constant, or zero everywhere).
        TypeError: for an f that is neither a name nor a callable that JAX can trace.

    Example:
        >>> import jax.numpy as jnp, jaxinit
        >>> abs(jaxinit.gain("relu") - 2**0.5) < 1e-12
        True
        >>> f = lambda x: 3 * jnp.tanh(x)
        >>> abs(jaxinit.gain(f) - jaxinit.gain("tanh") / 3) < 1e-12
        True

    References:
        He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, arXiv:1502.01852,
        eqs. 10 (forward) and 14 (backward); Klambauer, Unterthiner, Mayr, Hochreiter,
        "Self-Normalizing Neural Networks", 2017, arXiv:1706.02515; Brock, De, Smith,
        "Characterizing signal propagation to close the performance gap in unnormalized
        ResNets", 2021, arXiv:2101.08692 (std).
    """
    direction = check.choice("direction", direction, _MOMENTS)
    function = function_of(activation)
    try:
        hash(function)
    except TypeError:
        return _gain.__wrapped__(function, direction)
    return _gain(function, direction)


def calculate_gain(nonlinearity: str, param: Real = None) -> float:
    """PyTorch's table of gains, `torch.nn.init.calculate_gain`.

    | nonlinearity | gain |
    | --- | --- |
    | linear, conv1d to conv3d, conv_transpose1d to conv_transpose3d, sigmoid | 1 |
    | tanh | 5/3 |
    | relu | √2 |
    | leaky_relu of slope a | √(2 / (1 + a²)) |
    | selu | 3/4 |

    The lines of ReLU are 1 / √E f(z)², the forward gain of `gain`; the others are
    conventions. 5/3 was found to work for tanh, and 3/4 for selu, where networks that
    are to normalize themselves want 1 ("linear").

    Args:
        nonlinearity: a name in the table.
        param: the slope of leaky_relu, 0.01 if not given; no other takes one.

    Returns:
        The gain.

    Raises:
        ValueError: for a name that is not in the table, or a param that has no use.
        TypeError: for a param that is not a real number.

    Example:
        >>> import jaxinit
        >>> jaxinit.calculate_gain("leaky_relu", 1.0)
        1.0
        >>> jaxinit.calculate_gain("tanh") > jaxinit.gain("tanh")
        True

    References:
        He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, arXiv:1502.01852
        (relu, leaky_relu); Klambauer, Unterthiner, Mayr, Hochreiter, "Self-Normalizing
        Neural Networks", 2017, arXiv:1706.02515 (selu).
    """
    if _is_known(nonlinearity) and nonlinearity not in _PYTORCH:
        raise ValueError(
            f"nonlinearity must be in PyTorch's table, got {nonlinearity!r}; "
            f"jaxinit.gain({nonlinearity!r}) gives its exact gain"
        )
    name = check.choice("nonlinearity", nonlinearity, _PYTORCH)
    if param is None:
        return math.sqrt(_PYTORCH[name])
    if name != "leaky_relu":
        raise ValueError(
            f"param must be None for {name!r}, got {param!r}; it is the slope of "
            "'leaky_relu'"
        )
    return math.sqrt(2 / (1 + check.number("param", param) ** 2))


def kaiming_scale(nonlinearity: str | Activation, a: Real, mode: str) -> float:
    """The squared gain of `kaiming_normal`: PyTorch's where it has one, else exact.

    The exact gain keeps the gradient in mode "fan_out" and the signal in the others.
    """
    a = check.number("a", a)
    if isinstance(nonlinearity, str) and nonlinearity == "leaky_relu":
        leaky: float = 2 / (1 + a**2)
        return leaky
    if check.is_traced(a) or a != 0:
        raise ValueError(
            f"a must be 0 for {nonlinearity!r}, got {a!r}; it is the slope of "
            "'leaky_relu'"
        )
    if isinstance(nonlinearity, str) and nonlinearity in _PYTORCH:
        return _PYTORCH[nonlinearity]
    function = function_of(nonlinearity, "nonlinearity")
    return gain(function, "backward" if mode == "fan_out" else "forward") ** 2


@functools.lru_cache(maxsize=256)
def _gain(function: Activation, direction: str) -> float:
    values = on_host(lambda: numeric(function, derivative=direction == "backward"))

    def moments() -> tuple[float, float]:
        mean = gaussian_mean(lambda z: values(z)[None])[0] if direction == "std" else 0
        return mean, gaussian_mean(lambda z: np.square(values(z) - mean)[None])[0]

    who = f"activation must have a finite, positive {_MOMENTS[direction]}, got"
    try:
        mean, power = on_host(moments)
    except ValueError as error:
        raise ValueError(f"{who} {function!r}: {error}") from error
    if power <= (1e-12 * mean) ** 2:  # the variance is rounding
        raise ValueError(
            f"{who} 0 for {function!r}; no weights bring back what is lost"
        )
    return float(1 / np.sqrt(power))


def _is_known(name: object) -> bool:
    try:
        return bool(function_of(name))
    except (TypeError, ValueError):
        return False
