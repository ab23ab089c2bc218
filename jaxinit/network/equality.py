# SPDX-License-Identifier: Apache-2.0
"""When two traces are one program: a signature that is equal for both."""

import functools
import itertools
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit import compat as jex
from jaxinit.compat import primitives

__all__ = ["SMALL", "alike", "keeps_objects", "of_jaxpr", "signature"]

SMALL = 2**14  # elements of a constant that is compared by value


def of_jaxpr(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Remember the result for each living jaxpr, found by its identity."""
    known: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    @functools.wraps(function)
    def look(jaxpr: Any) -> Any:
        if jaxpr not in known:
            known[jaxpr] = function(jaxpr)
        return known[jaxpr]

    return look


def signature(trace: jex.ClosedJaxpr) -> Hashable:
    """Equal for programs that compute the same function, up to the names of variables.

    Literals, shapes and dtypes count. What cannot be compared is equal to nothing.
    """
    return _structure(trace.jaxpr), tuple(map(_plain, trace.consts))


def alike(eqn: jex.JaxprEqn) -> Hashable:
    """Equal for equations that compute the same of the same."""
    return _line(eqn), tuple(
        _literal(v) if isinstance(v, jex.Literal) else v for v in eqn.invars
    )


def keeps_objects(value: Any) -> bool:
    """Whether a trace, or a parameter in one, keeps a function or a large array."""
    if isinstance(value, jex.Jaxpr | jex.ClosedJaxpr):
        consts = getattr(value, "consts", ())
        jaxpr = getattr(value, "jaxpr", value)
        return _keeps_objects(jaxpr) or any(map(keeps_objects, consts))
    if isinstance(value, dict):
        return any(map(keeps_objects, value.values()))
    if type(value) in (tuple, list):  # a kind of keys is a named tuple of functions
        return any(map(keeps_objects, value))
    if isinstance(value, np.ndarray | jax.Array):
        return value.size > SMALL
    return callable(value) and not isinstance(value, _NO_FUNCTIONS)


# They can be called, and hold nothing.
_NO_FUNCTIONS = (type, jax.sharding.Mesh, jax.sharding.AbstractMesh)


@of_jaxpr
def _keeps_objects(jaxpr: jex.Jaxpr) -> bool:
    return any(keeps_objects(eqn.params) for eqn in jaxpr.eqns)


class _Structure:
    """What equal jaxprs have in common, so that a nested one is compared at no cost."""


# An entry lives as long as a jaxpr or a program of this structure.
_structures: weakref.WeakValueDictionary[Hashable, _Structure] = (
    weakref.WeakValueDictionary()
)
_next = itertools.count()


@of_jaxpr
def _structure(jaxpr: jex.Jaxpr) -> _Structure:
    names: dict[Any, int] = {}

    def name(atom: Any) -> Hashable:
        if isinstance(atom, jex.Literal):
            return _literal(atom)
        return names.setdefault(atom, len(names))

    def lines() -> Iterator[Hashable]:
        yield len(jaxpr.constvars)
        for v in (*jaxpr.constvars, *jaxpr.invars):
            yield name(v), v.aval
        for eqn in jaxpr.eqns:
            yield (
                _line(eqn),
                tuple(map(name, eqn.invars)),
                tuple(map(name, eqn.outvars)),
            )
        yield tuple(map(name, jaxpr.outvars))

    return _structures.setdefault(tuple(lines()), _Structure())


def _literal(atom: jex.Literal) -> Hashable:
    value = np.asarray(atom.val)
    return atom.aval, value.dtype, value.tobytes()


def _line(eqn: jex.JaxprEqn) -> Hashable:
    """An equation without its variables."""
    return (
        eqn.primitive,
        tuple((key, _param(eqn, value)) for key, value in eqn.params.items()),
        tuple(v.aval for v in eqn.outvars),
        repr(eqn.ctx),
    )


def _param(eqn: jex.JaxprEqn, value: Any) -> Hashable:
    if eqn.primitive is primitives.scan_p and hasattr(value, "unpack"):
        # The groups of operands (constants, carry, slices), without the trees that the
        # user gave them: layers of other names may be one program.
        return tuple(_plain(tuple(group)) for group in value.unpack())
    return _plain(value)


def _plain(value: Any) -> Hashable:
    """A parameter of an equation in a form that compares by value where it can."""
    if isinstance(value, jex.Jaxpr | jex.ClosedJaxpr):
        consts = getattr(value, "consts", ())
        jaxpr = getattr(value, "jaxpr", value)
        return "jaxpr", _structure(jaxpr), tuple(map(_plain, consts))
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_plain, value))
    if isinstance(value, dict):
        return tuple((key, _plain(each)) for key, each in value.items())
    arrays = np.ndarray | np.generic | jax.Array
    if isinstance(value, arrays) and not jex.is_traced(value):
        return _of_array(value)
    if isinstance(value, float | complex):
        return type(value), repr(value)  # 0.0 == -0.0
    try:
        hash(value)
    except TypeError:
        return "alone", next(_next)
    return type(value), value


def _of_array(value: Any) -> Hashable:
    aval: Any = jax.typeof(value)
    local = getattr(value, "is_fully_addressable", True)
    if (
        not local
        or aval.size > SMALL
        or jnp.issubdtype(aval.dtype, jax.dtypes.extended)
    ):
        return "alone", next(_next)
    return aval.shape, aval.dtype, aval.weak_type, np.asarray(value).tobytes()
