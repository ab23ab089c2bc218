# SPDX-License-Identifier: Apache-2.0
"""Arguments as they are now: equal where each value and each type is."""

import dataclasses
import enum
import functools
import types
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from jaxinit.core import Value

__all__ = ["by_value"]

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))
_COMPARED = (np.dtype, jax.sharding.Mesh, jax.sharding.NamedSharding, PartitionSpec)
_SAME = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    type(jax.jit(lambda: None)),
    jax.custom_jvp,
    jax.custom_vjp,
    np.ufunc,
    jnp.ufunc,
    enum.Enum,
)


def by_value(x: Any, apart: tuple[type, ...] = ()) -> Hashable | None:
    """Equal for what is equal in value and type; None where that cannot be told.

    Functions and classes are compared by identity, and whatever is of a type in
    `apart` is equal to its like. `1`, `1.0` and `True` differ, as do `0.0` and `-0.0`.

    Example:
        >>> from jaxinit.compile.by_value import by_value
        >>> by_value([1, {"a": 2.0}]) == by_value([1, {"a": 2.0}])
        True
        >>> by_value([1]) == by_value([True])
        False
        >>> by_value(object()) is None
        True
    """
    try:
        return _by_value(x, apart)
    except _UnknownError:
        return None


class _UnknownError(Exception):
    pass


def _by_value(x: Any, apart: tuple[type, ...]) -> Hashable:
    kind = type(x)

    def each(many: Iterable[Any]) -> Iterator[Hashable]:
        return (_by_value(one, apart) for one in many)

    if isinstance(x, apart):
        return (kind,)
    if kind in _PLAIN:
        return kind, repr(x)  # tells 0.0 from -0.0
    if isinstance(x, _SAME):
        return _Same(x)
    if isinstance(x, np.generic):
        return kind, x.dtype, x.tobytes()
    if isinstance(x, _COMPARED):
        return kind, x
    if isinstance(x, Value):
        return kind, x, repr(x)
    if kind is dict:
        return kind, tuple(each(x.items()))
    if kind in (tuple, list) or (isinstance(x, tuple) and hasattr(x, "_fields")):
        return kind, tuple(each(x))
    if kind in (set, frozenset):
        return kind, frozenset(each(x))
    if kind is functools.partial:
        return kind, tuple(each((x.func, x.args, x.keywords)))
    if kind is types.MethodType:
        return kind, tuple(each((x.__self__, x.__func__)))
    if dataclasses.is_dataclass(x):
        names = [field.name for field in dataclasses.fields(x)]
        if set(getattr(x, "__dict__", ())) <= set(names):
            return kind, tuple(each(getattr(x, name) for name in names))
    raise _UnknownError


class _Same:
    """Equal for the same object only, whatever it says of itself."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.x is other.x

    def __hash__(self) -> int:
        return id(self.x)
