# SPDX-License-Identifier: Apache-2.0
"""When two traces are one program: a signature that is equal for both."""

import functools
import itertools
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import jax.extend.core as jex
import numpy as np

__all__ = ["of_jaxpr", "signature"]

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
    return _signature(trace.jaxpr), tuple(map(_plain, trace.consts))


_numbers: dict[Hashable, int] = {}
_next = itertools.count()


@of_jaxpr
def _signature(jaxpr: jex.Jaxpr) -> int:
    """A number for each structure, so that a nested one is compared at no cost."""
    names: dict[Any, int] = {}

    def name(atom: Any) -> Hashable:
        if isinstance(atom, jex.Literal):
            value = np.asarray(atom.val)
            return atom.aval, value.dtype, value.tobytes()
        return names.setdefault(atom, len(names))

    def lines() -> Iterator[Hashable]:
        for v in (*jaxpr.constvars, *jaxpr.invars):
            yield name(v), v.aval
        for eqn in jaxpr.eqns:
            yield (
                eqn.primitive,
                tuple((key, _plain(value)) for key, value in eqn.params.items()),
                tuple(map(name, eqn.invars)),
                tuple((name(v), v.aval) for v in eqn.outvars),
                repr(eqn.ctx),
            )
        yield tuple(map(name, jaxpr.outvars))

    return _numbers.setdefault(tuple(lines()), next(_next))


def _plain(value: Any) -> Hashable:
    """A parameter of an equation in a form that compares by value where it can."""
    if isinstance(value, jex.Jaxpr | jex.ClosedJaxpr):
        consts = getattr(value, "consts", ())
        jaxpr = getattr(value, "jaxpr", value)
        return "jaxpr", _signature(jaxpr), tuple(map(_plain, consts))
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_plain, value))
    if isinstance(value, dict):
        return tuple((key, _plain(each)) for key, each in value.items())
    if isinstance(value, np.ndarray) and value.size <= SMALL:
        return value.shape, value.dtype, value.tobytes()
    if hasattr(value, "unpack"):  # of a scan: how many are carried, not which
        return tuple(map(len, value.unpack()))
    try:
        hash(value)
    except TypeError:
        return "alone", next(_next)
    return type(value), value
