# SPDX-License-Identifier: Apache-2.0
"""Arguments in plain form: how one is kept, told from others and written."""

import math
from collections.abc import Collection
from operator import ne
from typing import Any

import jax
import numpy as np

from jaxinit.core import checks as check

NUMBERS = {int, float, bool, complex}
SIMPLE = {int, float, str, bool, type(None)}


def plain(name: str, value: Any) -> Any:
    """Lists as tuples, arrays as tuples of Python numbers, a dtype as its name."""
    if name == "dtype":
        return check.dtype_name(name, value)
    if check.is_traced(value):
        return value
    if isinstance(value, (np.ndarray, np.generic, jax.Array)) and not (
        check.is_typed(value)
    ):
        value = np.asarray(value).tolist()
    is_axes = name.endswith("_axis") and not isinstance(value, str)
    if is_axes and isinstance(value, Collection):
        value = list(value)  # a set of axes, a dict of them, a range
    if isinstance(value, (list, tuple)):
        if NUMBERS.issuperset(map(type, value)) and not any(map(ne, value, value)):
            return tuple(value)
        return tuple(plain(f"{name}[{i}]", item) for i, item in enumerate(value))
    if value != value:
        raise ValueError(f"{name} must not be NaN")
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{name} must be a plain value that can be hashed, got {value!r}"
        ) from None
    return value


def identity_of(value: Any) -> Any:
    """What tells a value from others: -0.0 equals 0.0, and is another number."""
    if isinstance(value, tuple):
        if NUMBERS.issuperset(map(type, value)):  # one comparison for a long tuple
            numbers = np.asarray(value)
            if (
                numbers.dtype.kind in "bif"
                and not np.signbit(numbers[numbers == 0]).any()
            ):
                return value
        return tuple(map(identity_of, value))
    if is_minus_zero(value):
        return "-0.0", type(value), str(value)
    return value


def is_minus_zero(value: Any) -> bool:
    """Whether a float, or a part of a complex number, is -0.0."""
    if type(value) is complex:
        return is_minus_zero(value.real) or is_minus_zero(value.imag)
    return type(value) is float and value == 0 and math.copysign(1, value) < 0


def text_of(value: Any) -> str:
    """A repr that can be evaluated, for infinities and parts of -0.0 too."""
    if isinstance(value, float) and math.isinf(value):
        return f"float('{value}')"
    if isinstance(value, complex) and is_minus_zero(value):
        return f"complex({value.real!r}, {value.imag!r})"  # 1-0j is 1+0j to Python
    if isinstance(value, tuple):
        inside = ", ".join(map(text_of, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return repr(value)
