# SPDX-License-Identifier: Apache-2.0
"""Rules: which parameter of a tree a pattern means, and what it is to be drawn from."""

import difflib
import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jaxinit.core import Initializer, Shape, callee
from jaxinit.core import checks as check
from jaxinit.network import Parameter
from jaxinit.trees.layers import draw_by, fans_source

Callee: TypeAlias = Callable[..., jax.Array]  # any initializer, ours or not


@dataclass(frozen=True)
class Param:
    """One leaf of a tree; `siblings` are the leaves beside it and itself, by name.

    `layers` has what a reading says of them, by name too. `tree` and `network` are the
    leaves and the reading of the whole model, by path.

    Example:
        >>> import jax, jaxinit
        >>> bias = jax.ShapeDtypeStruct((3,), "float32")
        >>> jaxinit.Param("params/a/bias", (3,), bias.dtype, None, {"bias": bias}).name
        'bias'
    """

    path: str
    shape: Shape
    dtype: Any
    sharding: Any
    siblings: Mapping[str, jax.ShapeDtypeStruct] = field(repr=False)
    layers: Mapping[str, Parameter] = field(repr=False, default_factory=dict)
    tree: Mapping[str, jax.ShapeDtypeStruct] = field(repr=False, default_factory=dict)
    network: Mapping[str, Parameter] = field(repr=False, default_factory=dict)

    @property
    def name(self) -> str:
        """The last segment of the path."""
        return self.path.rpartition("/")[2]


Pattern: TypeAlias = str | re.Pattern[str] | Callable[[Param], bool]


@dataclass(frozen=True)
class Rest:
    """Every parameter that is drawn: the pattern of a recipe, by the recipe's name."""

    recipe: str

    def __call__(self, param: Param) -> bool:
        return bool(jnp.issubdtype(param.dtype, jnp.inexact))


class Possible(str):
    """A glob whose rule may be left with nothing: one of a whole set, for one leaf."""

    __slots__ = ()


class Line(NamedTuple):
    """What a rule chooses for a parameter, and why, in the rule's words.

    A recipe's function returns it with the first two; `fans` is where they come from.
    """

    init: Any
    words: str
    fans: str | None = None


class Unplaced(ValueError):
    """A recipe has no law for a parameter; `init_tree` lists all of them."""

    def __init__(self, recipe: str, param: Param, why: str) -> None:
        self.recipe = recipe
        self.line = f"{param.path} of shape {param.shape}{why and f': {why}'}"
        super().__init__(f"{recipe}: {self.line}")


@dataclass(frozen=True)
class PerParam:
    """What `per_param` returns."""

    fn: Callable[[Param], Callee | Line]
    source: Callable[[Param], str] | None = None

    def __repr__(self) -> str:
        return f"per_param({words(self.fn)})"


Rules: TypeAlias = Sequence[tuple[Pattern, Callee | PerParam]]


def per_param(
    fn: Callable[[Param], Callee | Line],
    *,
    source: Callable[[Param], str] | None = None,
) -> PerParam:
    """A rule's value that depends on the parameter: `fn(param)` is its initializer.

    Args:
        fn: a function of a `Param`.
        source: a function of it too, the path whose key it is drawn by; its own by
            default. Two parameters that must fit, such as the factors of one matrix,
            draw the same numbers from one source and take each its half.

    Raises:
        TypeError: if `fn` or `source` is no function of a `Param`.

    Example:
        >>> import jax, jaxinit
        >>> def bias(param):  # PyTorch's, bounded by the fan_in of the kernel beside it
        ...     return jaxinit.torch_bias(param.siblings["kernel"].shape[0])
        >>> rules = [
        ...     ("kernel", jaxinit.torch_linear()),
        ...     ("bias", jaxinit.per_param(bias)),
        ... ]
        >>> layer = {"kernel": jax.numpy.zeros((16, 3)), "bias": jax.numpy.zeros(3)}
        >>> tree = jaxinit.init_tree(jax.random.key(0), layer, rules)
        >>> bool(abs(tree["bias"]).max() <= 1 / 16**0.5)
        True
    """
    for name, given in (("fn", fn), ("source", source)):
        optional = name == "source" and given is None
        if isinstance(given, Initializer) or not (callable(given) or optional):
            raise TypeError(
                f"per_param: {name} must be a function of a Param, got {given!r}"
            )
    return PerParam(fn, source)


class Rule(NamedTuple):
    """A pattern and its value; None keeps what matches."""

    who: str
    pattern: Pattern
    value: Any

    def matches(self, param: Param) -> bool:
        if isinstance(self.pattern, re.Pattern):
            return self.pattern.search(param.path) is not None
        if not isinstance(self.pattern, str):
            with check.speaker(f"{self.who} at {param.path}"):
                return bool(self.pattern(param))
        segments = self.pattern.split("/")
        segments = segments[1:] if self.pattern.startswith("/") else ["**", *segments]
        return _glob(segments, param.path.split("/"))

    def choose(self, param: Param) -> Line:
        """What the rule says of a parameter, whatever its layer does."""
        if not isinstance(self.value, PerParam):
            return Line(self.value, _text(self.pattern))
        with check.speaker(f"{param.path}: {self.who}"):
            chosen = self.value.fn(param)
            if isinstance(chosen, Line):
                return chosen
            init = callee(f"what {self.value!r} returns", chosen)
        return Line(init, _text(self.pattern))

    def line(self, param: Param) -> Line:
        """What draws a parameter, by its layer's axes, copies and parts."""
        chosen, known = self.choose(param), param.layers.get(param.name)
        with check.speaker(param.path):
            drawn = draw_by(chosen.init, known)
        return Line(drawn, chosen.words, fans_source(chosen.init, known))

    def source(self, param: Param) -> str:
        """The path whose key the parameter is drawn by."""
        given = self.value.source if isinstance(self.value, PerParam) else None
        if given is None:
            return param.path
        with check.speaker(f"{param.path}: {self.who}"):
            return given(param)


def matches(pattern: Pattern, param: Param) -> bool:
    """Whether a rule of this pattern would apply to a parameter."""
    return Rule("a pattern", pattern, None).matches(param)


def _glob(pattern: list[str], path: list[str]) -> bool:
    if not pattern or not path:
        return not path and all(segment == "**" for segment in pattern)
    if pattern[0] == "**":
        return _glob(pattern[1:], path) or _glob(pattern, path[1:])
    return fnmatch.fnmatchcase(path[0], pattern[0]) and _glob(pattern[1:], path[1:])


def read_rules(rules: Any, keep: Any) -> list[Rule]:
    """The patterns to keep and the rules, in the order of their turn."""
    pairs = rules.items() if isinstance(rules, Mapping) else rules
    for name, given in (("rules", pairs), ("keep", keep)):
        if isinstance(given, str) or not hasattr(given, "__iter__"):
            raise TypeError(f"{name} must be a sequence, got {given!r}")
    found = [Rule(f"keep[{i}]", pattern, None) for i, pattern in enumerate(keep)]
    for i, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"rule {i} must be a pair (pattern, value), got {pair!r}")
        if not isinstance(pair[1], PerParam):
            callee(f"rule {i}: the value", pair[1])
        found.append(Rule(f"rule {i}", *pair))
    for who, pattern, _ in found:
        if not (isinstance(pattern, str | re.Pattern) or callable(pattern)):
            raise TypeError(
                f"{who}: the pattern must be a glob, a compiled regular expression or "
                f"a predicate of a Param, got {pattern!r}"
            )
    return [rule._replace(who=_name(rule)) for rule in found]


def _text(pattern: Pattern) -> str:
    """A pattern as its rule has it."""
    if isinstance(pattern, Rest):
        return pattern.recipe
    if isinstance(pattern, re.Pattern):
        return pattern.pattern
    return pattern if isinstance(pattern, str) else words(pattern)


def _name(rule: Rule) -> str:
    if isinstance(rule.pattern, Rest):
        return rule.pattern.recipe
    return f"{rule.who} ({words(rule.pattern)})"


def nearest(pairs: list[tuple[Pattern, str, str]]) -> str:
    """The name of the pattern and path most alike, as far down as the pattern goes."""
    scores = {"": 0.5}
    for pattern, path, name in pairs:
        text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
        if isinstance(text, str):
            text = text.strip("/")
            tail = "/".join(path.split("/")[-1 - text.count("/") :])
            scores[name] = difflib.SequenceMatcher(None, text, tail).ratio()
    best = max(scores, key=scores.__getitem__)
    return best and f"; the nearest is {best}"


def words(thing: Any) -> str:
    return getattr(thing, "__qualname__", None) or repr(thing)
