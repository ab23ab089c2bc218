# SPDX-License-Identifier: Apache-2.0
"""Constants: the initializers that ignore their key and take any dtype."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import (
    SINGLE,
    DType,
    Fans,
    Init,
    Initializer,
    Law,
    LawOf,
    Shape,
    initializer,
)
from jaxinit.core import checks as check
from jaxinit.families.views import as_kernels


@initializer
def constant(value: Any, dtype: DType = None) -> tuple[Init, LawOf]:
    """JAX's constant, PyTorch's `constant_`: every entry is `value`.

    An array of values is broadcast against the shape, like a row of biases.

    Args:
        value: a real, complex or boolean number, infinities among them, or a
            (nested) sequence of numbers.
        dtype: the default dtype of the calls, of any kind that can hold the value.

    Raises:
        TypeError: for a value that is no number.
        ValueError: at the call, for a dtype that cannot hold the value, or a shape
            against which it does not broadcast.

    Example:
        >>> import jax, jaxinit
        >>> jaxinit.constant(7)(jax.random.key(0), (2, 2), "int32").tolist()
        [[7, 7], [7, 7]]
    """
    held = np.zeros(()) if check.is_traced(value) else _numbers(value)

    def init(shape: Shape, dtype: Any) -> jax.Array:
        return jnp.full(shape, cast_exactly(value, dtype), dtype)

    def law(shape: Shape) -> Law:
        last = shape[max(len(shape) - held.ndim, 0) :]
        if held.ndim > len(shape) or any(
            n not in (1, m) for n, m in zip(held.shape, last, strict=True)
        ):
            raise ValueError(
                f"a value of shape {held.shape} does not fit; give one that broadcasts "
                "against the shape"
            )
        low, high = float(held.real.min()), float(held.real.max())
        with np.errstate(invalid="ignore"):  # infinities have no mean between them
            std = 0.0 if low == high else float(held.std())
            return Law(held.mean().item(), std, low, high)

    return init, law


def _numbers(value: Any) -> np.ndarray[Any, Any]:
    try:
        held = np.asarray(value)
    except ValueError:
        held = np.asarray(None)
    if held.dtype.kind not in "biufc" or held.size == 0:
        raise TypeError(f"value must be a number or an array of them, got {value!r}")
    return held


def cast_exactly(value: Any, dtype: Any) -> Any:
    """A value in a dtype that keeps it: floats may round, nothing else may change."""
    if check.is_traced(value):
        return jnp.asarray(value, dtype)
    held = np.asarray(value)
    real = not jnp.issubdtype(dtype, jnp.complexfloating)
    with np.errstate(invalid="ignore"):
        there = held.real.astype(dtype) if real else held.astype(dtype)
    lost = there != held
    if jnp.issubdtype(dtype, jnp.inexact):
        lost = (held.imag != 0) & real
    if lost.any():
        raise ValueError(f"{held[lost].flat[0].item()} is not a {np.dtype(dtype).name}")
    return there


zeros: Initializer = constant(0)
"""JAX's `zeros`, PyTorch's `zeros_`: the initializer itself, not a factory.

Example:
    >>> import jax, jaxinit
    >>> jaxinit.zeros(jax.random.key(0), (3,)).tolist()
    [0.0, 0.0, 0.0]
"""

ones: Initializer = constant(1)
"""JAX's `ones`, PyTorch's `ones_`: the initializer itself, not a factory.

Example:
    >>> import jax, jaxinit
    >>> jaxinit.ones(jax.random.key(0), (3,)).tolist()
    [1.0, 1.0, 1.0]
"""

SINGLE.update(zeros=zeros, ones=ones)


@initializer
def zeros_init() -> Initializer:
    """Flax's `zeros_init()`: `zeros`, for those who write the parentheses.

    Example:
        >>> import jaxinit
        >>> jaxinit.zeros_init() == jaxinit.zeros == jaxinit.constant(0)
        True
    """
    return zeros


@initializer
def ones_init() -> Initializer:
    """Flax's `ones_init()`: `ones`, for those who write the parentheses.

    Example:
        >>> import jaxinit
        >>> jaxinit.ones_init() == jaxinit.ones == jaxinit.constant(1)
        True
    """
    return ones


@initializer
def identity(
    gain: float = 1.0, dtype: DType = None, *, fans: Fans | None = None
) -> tuple[Init, LawOf]:
    """PyTorch's `eye_`: gain on the diagonal of (in, out), zero elsewhere.

    A square kernel passes its inputs through, y = gain · x; a wide one adds zero
    features, a tall one drops the last inputs. Axes before the last two stack such
    matrices.

    Args:
        gain: the diagonal.
        dtype: the default dtype of the calls, of any kind that can hold the gain.
        fans: how the layer counts: the matrix is then one of its inputs and outputs.

    Raises:
        ValueError: at the call, for a shape with fewer than two axes.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> w = jaxinit.identity()(jax.random.key(0), (3, 5))
        >>> (jnp.arange(3.0) @ w).tolist()
        [0.0, 1.0, 2.0, 0.0, 0.0]

    References:
        Le, Jaitly, Hinton, "A Simple Way to Initialize Recurrent Networks of Rectified
        Linear Units", 2015, arXiv:1504.00941.
    """
    gain = check.number("gain", gain)

    def init(shape: Shape, dtype: Any) -> jax.Array:
        check.rank(shape, 2, why=" (..., in, out)")
        eye = jnp.eye(shape[-2], shape[-1], dtype=dtype) * cast_exactly(gain, dtype)
        return jnp.broadcast_to(eye, shape)

    def law(shape: Shape) -> Law:
        check.rank(shape, 2, why=" (..., in, out)")
        return sparse_law(gain, min(shape[-2:]), math.prod(shape[-2:]))

    return as_kernels(fans, init, law, window=True)


@initializer
def dirac(
    groups: int = 1, gain: float = 1.0, dtype: DType = None
) -> tuple[Init, LawOf]:
    """PyTorch's `dirac_` in JAX's layout: a convolution that passes its input through.

    A kernel (*window, in / groups, out) is zero but for the window's centre, index
    (k - 1) // 2 (the tap that XLA's SAME padding aligns with the input, for even
    windows too), where each group holds gain on the diagonal of (in, out): output i
    of a group is gain · input i of that group, and outputs beyond the inputs are zero.

    Args:
        groups: the number of groups, dividing the output features.
        gain: the central diagonal.
        dtype: the default dtype of the calls, of any kind that can hold the gain.

    Raises:
        ValueError: for groups below 1; at the call, for a shape with fewer than three
            or more than five axes, or groups that do not divide the outputs.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> w = jaxinit.dirac()(jax.random.key(0), (3, 4, 4))
        >>> x = jax.random.normal(jax.random.key(1), (1, 8, 4))
        >>> dims = ("NWC", "WIO", "NWC")
        >>> y = jax.lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=dims)
        >>> bool(jnp.array_equal(x, y))
        True
    """
    groups = check.integer("groups", groups, low=1)
    gain = check.number("gain", gain)

    def taps(shape: Shape) -> tuple[int, int]:
        check.rank(shape, 3, 5, " (*window, in / groups, out)")
        outs = check.divides("groups", groups, "the output features", shape[-1])
        return outs, min(outs, shape[-2])

    def init(shape: Shape, dtype: Any) -> jax.Array:
        outs, passed = taps(shape)
        unit = np.arange(passed)
        columns = (np.arange(groups)[:, None] * outs + unit).ravel()
        centre = tuple((k - 1) // 2 for k in shape[:-2])
        where = (*centre, np.tile(unit, groups), columns)
        return jnp.zeros(shape, dtype).at[where].set(cast_exactly(gain, dtype))

    def law(shape: Shape) -> Law:
        _, passed = taps(shape)
        return sparse_law(gain, passed * groups, math.prod(shape))

    return init, law


def sparse_law(gain: float, count: int, size: int) -> Law:
    """The law of `count` entries of `gain` among `size`, the others zero."""
    share = count / size if size else 0.0
    std = abs(gain) * math.sqrt(share * (1 - share))
    return Law(gain * share, std, min(gain, 0), max(gain, 0), zeros=1 - share)
