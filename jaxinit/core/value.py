# SPDX-License-Identifier: Apache-2.0
"""A value is known by the call that made it.

`value_factory` turns a function that returns a closure into a factory of values. A
value remembers its factory and its arguments in plain form, and from these two alone
come equality, hash, repr, pickle and configuration. The closure, the mathematics of one
family, is the value's content.
"""

import functools
import inspect
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from jaxinit.core import checks as check
from jaxinit.core.plain import (
    NUMBERS,
    SIMPLE,
    identity_of,
    is_minus_zero,
    plain,
    text_of,
)

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V", bound="Value")

PACKAGE = __name__.partition(".")[0]
# Name in a configuration -> factory, for as long as somebody else holds the factory.
FACTORIES: weakref.WeakValueDictionary[str, Callable[..., Any]] = (
    weakref.WeakValueDictionary()
)


class Value:
    """What a factory made, equal to whatever the same call makes again."""

    __slots__ = (
        "__weakref__",
        "_arguments",
        "_content",
        "_factory",
        "_hash",
        "_identity",
        "_traced",
    )

    _arguments: dict[str, Any]
    _factory: Callable[..., Any]
    _hash: int
    _identity: tuple[Any, ...]
    _content: Any
    _traced: bool

    def __init__(
        self, factory: Callable[..., Any], arguments: dict[str, Any], made: Any
    ) -> None:
        traced = any(map(check.is_traced, leaves(arguments.values())))
        identity = tuple(map(identity_of, arguments.values()))
        for slot, content in (
            ("_factory", factory),
            ("_arguments", arguments),
            ("_content", made),
            ("_traced", traced),
            ("_identity", identity),
            ("_hash", id(self) if traced else hash((name_of(factory), identity))),
        ):
            object.__setattr__(self, slot, content)

    @property
    def name(self) -> str:
        """The factory's name in a configuration, such as "variance_scaling"."""
        return name_of(self._factory)

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
        return self._factory is other._factory and self._identity == other._identity

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        words, positional = [], True
        for name, value, default, keyword_only in self._call_items():
            if default:
                positional = False
                continue
            positional = positional and not keyword_only
            text = text_of(value)
            words.append(text if positional else f"{name}={text}")
        return f"{self._factory.__qualname__}({', '.join(words)})"

    def _call_items(self) -> Iterator[tuple[str, Any, bool, bool]]:
        for name, parameter in inspect.signature(self._factory).parameters.items():
            value = self._arguments[name]
            default = not check.is_traced(value) and (
                parameter.default is not parameter.empty
                and type(value) is type(plain(name, parameter.default))
                and identity_of(value) == identity_of(plain(name, parameter.default))
            )
            yield name, value, default, parameter.kind is parameter.KEYWORD_ONLY

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self!r} is a value and does not change; build another")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._factory, self._arguments)

    def __copy__(self: V) -> V:
        return self

    def __deepcopy__(self: V, memo: object) -> V:
        return self


def value_factory(
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
        _refuse_a_call_for_an_array(function, args)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        with check.speaker(function.__qualname__):
            arguments = {n: plain(n, v) for n, v in bound.arguments.items()}
            made = function(**arguments)  # type: ignore[call-arg]
            return made if isinstance(made, Value) else kind(factory, arguments, made)  # type: ignore[return-value]

    remembered = functools.lru_cache(maxsize=256, typed=True)(make)

    @functools.wraps(function)
    def factory(*args: P.args, **kwargs: P.kwargs) -> V:
        # Equal calls share one immutable value; -0.0 == 0.0, and is another argument.
        given = (*args, *kwargs.values())
        if SIMPLE.issuperset(map(type, given)) and not any(map(is_minus_zero, given)):
            return remembered(*args, **kwargs)  # type: ignore[arg-type]
        return make(*args, **kwargs)

    if factory.__module__.startswith(f"{PACKAGE}."):
        factory.__module__ = PACKAGE  # the one public path of a public name
    factory.__jaxinit_factory__ = True  # type: ignore[attr-defined]
    if (name := name_of(factory)) in FACTORIES:
        warnings.warn(
            f"{name} is defined again; initializers built before keep their meaning, "
            "and configurations and get() mean the new one from now on",
            UserWarning,
            stacklevel=3,
        )
    FACTORIES[name] = factory
    return factory


def once(known: dict[Any, T], key: Any, work: Callable[[], T]) -> T:
    """What work() gives, known by a value; the newest 512 are kept."""
    if key not in known:
        found = work()
        while len(known) >= 512:
            known.pop(next(iter(known)))
        known[key] = found
    return known[key]


def call_of(factory: Callable[..., Any]) -> str:
    """The least call of a factory: its name, and the arguments without a default."""
    parameters = inspect.signature(factory).parameters.values()
    needed = [each.name for each in parameters if each.default is each.empty]
    return f"{factory.__qualname__}({', '.join(needed)})"


def is_factory(value: object) -> bool:
    """Whether a value is a factory made by `value_factory` (and so not yet a value)."""
    return getattr(value, "__jaxinit_factory__", False)


def name_of(factory: Callable[..., Any]) -> str:
    if factory.__module__ == PACKAGE:
        return factory.__qualname__
    return f"{factory.__module__}:{factory.__qualname__}"


def _rebuild(factory: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    return factory(**arguments)


def is_permanent(value: Any) -> bool:
    """Whether something lives on whoever drops it: plain, or found in a module."""
    if type(value) in SIMPLE or type(value) is complex:
        return True
    module = getattr(value, "__module__", None) or ""
    found: Any = sys.modules.get(module)
    for part in getattr(value, "__qualname__", "?").split("."):
        found = getattr(found, part, None)
    return found is value or module.split(".")[0] == PACKAGE


def leaves(values: Any) -> Iterator[Any]:
    """The arguments beneath tuples and values, but for the numbers of long tuples."""
    for value in values:
        if isinstance(value, tuple):
            if not NUMBERS.issuperset(map(type, value)):
                yield from leaves(value)
        elif isinstance(value, Value):
            yield value._factory
            yield from leaves(value._arguments.values())
        else:
            yield value


def _refuse_a_call_for_an_array(factory: Any, args: tuple[Any, ...]) -> None:
    if len(args) > 1 and check.is_key(args[0]) and check.is_shape(args[1]):
        raise TypeError(
            f"{factory.__qualname__} is a factory and was called with a key and a "
            "shape, like an initializer; call it first: "
            f"kernel_init=jaxinit.{call_of(factory)}"
        )
