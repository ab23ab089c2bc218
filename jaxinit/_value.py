# SPDX-License-Identifier: Apache-2.0
"""A value is known by the call that made it.

`built` turns a function that returns a closure into a factory of values. A value
remembers its factory and its arguments in plain form, and from these two alone come
equality, hash, repr, pickle and configuration. Closures stay what they are good at:
the mathematics of one family, written once, close to its paper.
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

from jaxinit import _checks as check

P = ParamSpec("P")
V = TypeVar("V", bound="Value")

PACKAGE = __name__.partition(".")[0]
SIMPLE = {int, float, str, bool, type(None)}
FACTORIES: dict[str, Callable[..., Any]] = {}  # name in a configuration -> factory


class Value:
    """What a factory made, equal to whatever the same call makes again."""

    __slots__ = ("__weakref__", "_arguments", "_factory", "_hash", "_made", "_traced")

    _arguments: dict[str, Any]
    _factory: Callable[..., Any]
    _hash: int
    _made: Any
    _traced: bool

    def __init__(
        self, factory: Callable[..., Any], arguments: dict[str, Any], made: Any
    ) -> None:
        traced = any(check.is_traced(leaf) for leaf in _leaves(arguments.values()))
        identity = (_name(factory), tuple(arguments.items()))
        for slot, content in (
            ("_factory", factory),
            ("_arguments", arguments),
            ("_made", made),
            ("_traced", traced),
            ("_hash", id(self) if traced else hash(identity)),
        ):
            object.__setattr__(self, slot, content)

    @property
    def name(self) -> str:
        """The factory's name in a configuration, such as "variance_scaling"."""
        return _name(self._factory)

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Every argument of the call that made this value, defaults included."""
        return MappingProxyType(self._arguments)

    def replace(self: V, **changes: Any) -> V:
        """The value of the same call with some arguments changed.

        Example:
            >>> import jaxinit
            >>> jaxinit.orthogonal(2.0).replace(column_axis=0)
            orthogonal(2.0, column_axis=0)
        """
        return self._factory(**{**self._arguments, **changes})

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Value):
            return NotImplemented
        if self._traced or other._traced or self._hash != other._hash:
            return False
        return self._factory is other._factory and self._arguments == other._arguments

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        words, positional = [], True
        for name, value, default, keyword_only in self._written():
            if default:
                positional = False
                continue
            positional = positional and not keyword_only
            words.append(_written(value) if positional else f"{name}={_written(value)}")
        return f"{self._factory.__qualname__}({', '.join(words)})"

    def _written(self) -> Iterator[tuple[str, Any, bool, bool]]:
        for name, parameter in inspect.signature(self._factory).parameters.items():
            value = self._arguments[name]
            default = not check.is_traced(value) and (
                parameter.default is not parameter.empty
                and type(value) is type(_plain(name, parameter.default))
                and value == _plain(name, parameter.default)
            )
            yield name, value, default, parameter.kind is parameter.KEYWORD_ONLY

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self!r} is a value and does not change; build another")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._factory, self._arguments)

    def __copy__(self: V) -> V:
        return self

    def __deepcopy__(self: V, memo: object) -> V:
        return self


def built(
    kind: Callable[[Callable[..., Any], dict[str, Any], Any], V],
    function: Callable[P, Any],
) -> Callable[P, V]:
    """A factory of values of one kind, from a function that returns a closure.

    The arguments reach the function in plain form: lists are tuples, numpy scalars
    and 0-d arrays are Python numbers, a dtype is its name. What the function raises
    is prefixed with its name. A function that returns a value already (a preset over
    a general law) passes it on unchanged.
    """
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(
                f"{function.__name__}: a factory's arguments are its identity, so each "
                f"needs a name; replace *{parameter.name} by named arguments"
            )

    def make(*args: P.args, **kwargs: P.kwargs) -> V:
        _refuse_a_call_for_an_array(function.__qualname__, args)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        with check.named(function.__qualname__):
            arguments = {n: _plain(n, v) for n, v in bound.arguments.items()}
            made = function(**arguments)  # type: ignore[call-arg]
            return made if isinstance(made, Value) else kind(factory, arguments, made)  # type: ignore[return-value]

    remembered = functools.lru_cache(maxsize=256, typed=True)(make)

    @functools.wraps(function)
    def factory(*args: P.args, **kwargs: P.kwargs) -> V:
        # values do not change, so one will do for equal calls
        if SIMPLE.issuperset(map(type, (*args, *kwargs.values()))):
            return remembered(*args, **kwargs)  # type: ignore[arg-type]
        return make(*args, **kwargs)

    if factory.__module__.startswith(f"{PACKAGE}._"):
        factory.__module__ = PACKAGE  # the one public path of a public name
    factory.__jaxinit_factory__ = True  # type: ignore[attr-defined]
    FACTORIES[_name(factory)] = factory
    return factory


def is_factory(value: object) -> bool:
    """Whether a value is a factory made by `built` (and so not yet a value)."""
    return getattr(value, "__jaxinit_factory__", False)


def to_config(value: Any) -> Any:
    """A value as plain JSON: {"name": factory, argument: ...}, defaults left out."""
    if isinstance(value, Value):
        given = {
            n: to_config(v) for n, v, default, _ in value._written() if not default
        }
        return {"name": value.name, **given}
    if isinstance(value, tuple):
        return [to_config(item) for item in value]
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, float) and math.isinf(value):
        return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{value!r} has no configuration; only numbers, words, tuples and what a "
        "factory made can be written down"
    )


def from_config(config: Any) -> Any:
    """The inverse of `to_config`."""
    if isinstance(config, Mapping):
        if "name" in config:
            arguments = {n: from_config(v) for n, v in config.items() if n != "name"}
            return find(config["name"])(**arguments)
        if set(config) == {"complex"}:
            return complex(*config["complex"])
        if set(config) == {"float"}:
            return float(config["float"])
        raise ValueError(f"config must have a 'name', got {dict(config)!r}")
    if isinstance(config, (list, tuple)):
        return tuple(from_config(item) for item in config)
    return config


def find(name: object) -> Callable[..., Any]:
    """The factory of that name."""
    return FACTORIES[check.choice("name", name, sorted(FACTORIES))]


def _name(factory: Callable[..., Any]) -> str:
    if factory.__module__ == PACKAGE:
        return factory.__qualname__
    return f"{factory.__module__}:{factory.__qualname__}"


def _rebuilt(factory: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    return factory(**arguments)


def _plain(name: str, value: Any) -> Any:
    if name == "dtype":
        return check.dtype_name(name, value)
    if check.is_traced(value):
        return value
    if isinstance(value, (np.ndarray, np.generic, jax.Array)) and not (
        check.is_typed(value)
    ):
        value = np.asarray(value).tolist()
    if isinstance(value, (list, tuple)):
        return tuple(_plain(f"{name}[{i}]", item) for i, item in enumerate(value))
    if value != value:
        raise ValueError(f"{name} must not be NaN")
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{name} must be a plain value that can be hashed, got {value!r}"
        ) from None
    return value


def _leaves(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple):
            yield from _leaves(value)
        elif isinstance(value, Value):
            yield from _leaves(value._arguments.values())
        else:
            yield value


def _written(value: Any) -> str:
    if isinstance(value, float) and math.isinf(value):
        return f"float('{value}')"
    if isinstance(value, tuple):
        inside = ", ".join(map(_written, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return repr(value)


def _refuse_a_call_for_an_array(name: str, args: tuple[Any, ...]) -> None:
    if len(args) > 1 and check.is_key(args[0]) and hasattr(args[1], "__len__"):
        raise TypeError(
            f"{name} is a factory and was called with a key and a shape, like an "
            f"initializer; write {name}(...) with its parentheses: "
            f"kernel_init=jaxinit.{name}()"
        )
