# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of the library: types, and every check of an argument.

A check takes an argument's name and value, and returns the value in its plain form
(a Python number, a tuple of ints) or refuses it in one sentence: what was expected,
what came, what to do. Whoever called adds who is speaking (see `speaker`).
"""

import contextlib
import difflib
import math
import numbers
import operator
from collections.abc import Collection, Iterable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxinit import compat

Shape: TypeAlias = tuple[int, ...]
Axes: TypeAlias = int | Collection[int]
DType: TypeAlias = Any  # what numpy and JAX take for a dtype: jnp.float32, "bfloat16"
Real: TypeAlias = Any  # a Python, numpy or 0-d JAX number, or a traced one
OutSharding: TypeAlias = NamedSharding | PartitionSpec | None

is_traced = compat.is_traced

ARRAYS = (jax.Array, np.ndarray, np.generic)


@contextlib.contextmanager
def speaker(who: str) -> Iterator[None]:
    """Put `who` in front of the message of any error raised inside."""
    try:
        yield
    except Exception as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (f"{who}: {error.args[0]}", *error.args[1:])
        raise


def is_typed(value: Any) -> bool:
    """Whether an array holds typed PRNG keys."""
    return isinstance(value, jax.Array) and jnp.issubdtype(
        value.dtype, jax.dtypes.prng_key
    )


def is_key(value: object) -> bool:
    """Whether a value is a PRNG key, typed or legacy (uint32 words)."""
    if not isinstance(value, (np.ndarray, jax.Array)):
        return False
    legacy = value.dtype == np.uint32 and value.shape[-1:] in ((2,), (4,))
    return legacy or is_typed(value)


def choice(name: str, value: object, options: Iterable[str]) -> str:
    """One of some words; a misspelt one is answered with the nearest."""
    options = tuple(options)
    if isinstance(value, str) and value in options:
        return value
    near = difflib.get_close_matches(str(value), options, n=1)
    cure = f"did you mean {near[0]!r}?" if near else "choose one of them"
    if len(options) > 12 and near:
        raise ValueError(f"{name} {value!r} is not known; {cure}")
    words = ", ".join(map(repr, options))
    raise ValueError(f"{name} must be one of {words}, got {value!r}; {cure}")


def number(
    name: str,
    value: Real,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float | None = None,
    below: float | None = None,
    finite: bool = True,
) -> Any:
    """A real number, low <= number <= high, above < number < below; a tracer passes."""
    if is_traced(value) and not is_key(value):
        real = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(
            value.dtype, jnp.integer
        )
        if np.shape(value) != () or not real:
            raise TypeError(f"{name} must be a real number, got {value}")
        return value
    if isinstance(value, (np.ndarray, jax.Array)) and np.shape(value) == ():
        value = value.item() if not is_key(value) else value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    value = value if isinstance(value, int) else float(value)
    if math.isnan(value) or (finite and math.isinf(value)):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    inside = (above is None or value > above) and (below is None or value < below)
    if not (low <= value <= high and inside):
        bounds = [f">= {low:g}"] if low > -math.inf else []
        bounds += [] if above is None else [f"> {above:g}"]
        bounds += [f"<= {high:g}"] if high < math.inf else []
        bounds += [] if below is None else [f"< {below:g}"]
        raise ValueError(f"{name} must be {' and '.join(bounds)}, got {value!r}")
    return value


def order(low_name: str, low: Real, high_name: str, high: Real) -> None:
    """Refuse low >= high (traced bounds pass unseen)."""
    if not (is_traced(low) or is_traced(high)) and not low < high:
        raise ValueError(
            f"{low_name} must be below {high_name}, got {low_name}={low!r} and "
            f"{high_name}={high!r}; swap or move them"
        )


def flag(name: str, value: object) -> bool:
    """True or False, and nothing that merely counts as one."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def integer(
    name: str, value: object, *, low: int | None = None, high: int | None = None
) -> int:
    """An integer, low <= integer <= high; bools and floats are refused."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        result = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if low is not None and result < low:
        raise ValueError(f"{name} must be at least {low}, got {result}")
    if high is not None and result > high:
        raise ValueError(f"{name} must be at most {high}, got {result}")
    return result


def integers(name: str, value: object, *, low: int | None = None) -> tuple[int, ...]:
    """A sequence of integers, in a list, tuple or array."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} must be a sequence of integers, got {value!r}")
    if getattr(value, "ndim", 1) != 1:
        raise TypeError(f"{name} must be a flat sequence of integers, got {value!r}")
    return tuple(integer(f"{name}[{i}]", n, low=low) for i, n in enumerate(value))


def axes(name: str, value: Axes) -> int | tuple[int, ...]:
    """An axis or a sequence of axes, not yet held against a shape."""
    if hasattr(value, "__iter__"):
        return integers(name, value)
    return integer(name, value)


def axes_of(
    name: str, value: Axes, ndim: int, *, distinct: bool = True
) -> tuple[int, ...]:
    """Axes as a tuple of numbers from 0 to ndim - 1, distinct where that is asked."""
    given = value if isinstance(value, tuple) else (value,)
    for axis in given:
        if not -ndim <= axis < ndim:
            raise ValueError(
                f"{name} {axis} falls outside a shape of {ndim} axes; "
                f"name the axes of this kernel, or pass fans="
            )
    result = tuple(axis % ndim for axis in given)
    if distinct and len(set(result)) < len(result):
        raise ValueError(f"{name} {given} names one axis twice")
    return result


def factors(name: str, value: Axes) -> int | tuple[int, ...]:
    """A positive integer for all axes of a window, or one for each."""
    if hasattr(value, "__iter__"):
        return integers(name, value, low=1)
    return integer(name, value, low=1)


def per_axis(name: str, value: Axes, dims: int) -> tuple[int, ...]:
    """The factor of each axis of a window."""
    given = (value,) * dims if isinstance(value, int) else tuple(value)
    if len(given) != dims:
        raise ValueError(f"{name} {given} must have one entry per window axis, {dims}")
    return given


def divides(name: str, divisor: int, what: str, size: int) -> int:
    """size / divisor, which must be whole."""
    if size % divisor:
        raise ValueError(f"{name} must divide {what}: {divisor} does not divide {size}")
    return size // divisor


def rank(shape: Shape, low: int, high: int | None = None, why: str = "") -> None:
    """Refuse a shape with fewer than `low` or more than `high` axes."""
    if not low <= len(shape) <= (len(shape) if high is None else high):
        span = f"{low} axes" if low == high else f"at least {low} axes"
        if high is not None and high != low:
            span = f"{low} to {high} axes"
        raise ValueError(f"the shape must have {span}{why}, got {len(shape)}")


def dtype_name(name: str, value: DType) -> str | None:
    """The name of a dtype ("float32"), by which dtypes are kept in values."""
    if value is None:
        return None
    try:
        return str(jnp.dtype(value).name)
    except TypeError:
        raise TypeError(f"{name} must be a dtype, got {value!r}") from None


def real_form(dtype: DType) -> None:
    """Refuse a complex dtype where the entries are real by what they mean."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(
            f"dtype must be a float dtype, got {jnp.dtype(dtype).name}: these "
            "parameters are real, and have no complex form"
        )


def shape(value: object) -> Shape:
    """A shape: a sequence of sizes, each an integer that is not negative, or one size.

    JAX takes an int for a shape of one axis.
    """
    if isinstance(value, (int, np.integer)):
        return (integer("shape", value, low=0),)
    return integers("shape", value, low=0)


def is_shape(value: object) -> bool:
    """Whether a value can be meant as a shape."""
    try:
        shape(value)
    except (TypeError, ValueError):
        return False
    return True


def is_dtype(value: object) -> bool:
    """Whether a value is one of what numpy and JAX take for a dtype."""
    try:
        return dtype_name("dtype", value) is not None
    except TypeError:
        return False


def call_error(key: object, shape: object, text: str) -> str:
    """An error of a call, with its shape; or the cure of a call without a key."""
    if is_shape(key) and not (is_key(key) or is_shape(shape)) and is_dtype(shape):
        return (
            f"was called with (shape, dtype), {key} and {dtype_name('', shape)}, as "
            "Haiku and Keras call theirs; it takes (key, shape, dtype). In Haiku write "
            "w_init=lambda shape, dtype: init(hk.next_rng_key(), shape, dtype)"
        )
    return f"for shape {shape}: {text}"


def key(value: Any) -> jax.Array:
    """One PRNG key, typed or legacy."""
    if not is_key(value):
        kind = f"an array of {value.dtype}" if hasattr(value, "dtype") else repr(value)
        raise TypeError(
            f"key must be a JAX PRNG key, got {kind}; make one by jax.random.key(0)"
        )
    shape = value.shape if is_typed(value) else value.shape[:-1]
    if shape != ():
        raise TypeError(
            f"key must be a single key, got keys of shape {shape}; map over them with "
            "jax.vmap"
        )
    return value


def typed_key(value: Any) -> jax.Array:
    """A key whose legacy words, if it is made of them, are wrapped."""
    return value if is_typed(value) else jax.random.wrap_key_data(value)
