# SPDX-License-Identifier: Apache-2.0
"""A program's random bits, drawn from fast keys where that changes no number."""

import functools
from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
from jax import lax
from jax.extend.core import primitives

from jaxinit import _jaxpr
from jaxinit._signature import of_jaxpr
from jaxinit._threefry import fast_key, has_short_rows

__all__ = ["fast"]


def fast(trace: jex.ClosedJaxpr) -> jex.ClosedJaxpr:
    """The same function, its random bits drawn from fast keys.

    XLA rounds otherwise where it fuses them into a loop over short rows of another
    shape (see `_threefry`) or into a sum: such a function is left as it is.
    """
    last = trace.jaxpr.eqns[-1]
    form = _Form((), ())
    if last.primitive.name == "reshape":
        form = _Form(*(v.aval.shape for v in (last.invars[0], last.outvars[0])))
    if has_short_rows(form.after) or _reduces(trace.jaxpr):
        return trace
    return jex.ClosedJaxpr(_fast(trace.jaxpr, form), trace.consts)


class _Form(NamedTuple):
    """The shapes before and after a reshape of what is drawn.

    The bits of such a draw take the second: in a loop over it, the place of an element
    in the first costs a division.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]


@of_jaxpr
def _reduces(jaxpr: jex.Jaxpr) -> bool:
    """Whether there is a sum, or another reduction, that a draw may be fused into."""
    return any(
        eqn.primitive.name.startswith("reduce_")
        or any(map(_reduces, jex.jaxprs_in_params(eqn.params)))
        for eqn in jaxpr.eqns
    )


@functools.lru_cache(maxsize=256)  # one function called twice stays one
def _fast(jaxpr: jex.Jaxpr, form: _Form) -> jex.Jaxpr:
    if not any(map(_jaxpr.draws, jaxpr.eqns)):
        return jaxpr
    made: list[jex.JaxprEqn] = []
    for eqn in jaxpr.eqns:
        if eqn.primitive is primitives.random_bits_p:
            key = eqn.invars[0]
            aval: Any = key.aval
            params = tuple(eqn.params.items())
            trace = _fast_bits(aval.shape, aval.dtype, params, form, _jaxpr.context())
            into = _jaxpr.Graph([], [], [], {})
            (out,) = _jaxpr.inline(into, trace.jaxpr, trace.consts, [key])
            *first, last = into.equations
            assert last.outvars == [out]
            made += [*first, last.replace(outvars=eqn.outvars)]
        elif _jaxpr.draws(eqn):
            inner = {name: _fast_param(x, form) for name, x in eqn.params.items()}
            made.append(eqn.replace(params=inner))
        else:
            made.append(eqn)
    return jaxpr.replace(eqns=made)


def _fast_param(value: Any, form: _Form) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_fast_param(each, form) for each in value)
    if isinstance(value, jex.Jaxpr):
        return _fast(value, form)
    if isinstance(value, jex.ClosedJaxpr):
        return value.replace(jaxpr=_fast(value.jaxpr, form))
    return value


@functools.lru_cache(maxsize=4096)
def _fast_bits(
    shape: tuple[int, ...],
    dtype: Any,
    params: tuple[tuple[str, Any], ...],
    form: _Form,
    context: Hashable,
) -> jex.ClosedJaxpr:
    def bits(key: jax.Array) -> Any:
        asked = dict(params)
        if not key.shape and asked["shape"] == form.before:
            asked["shape"] = form.after
        drawn = primitives.random_bits_p.bind(fast_key(key), **asked)
        return lax.reshape(drawn, (*key.shape, *dict(params)["shape"]))

    return jax.make_jaxpr(bits)(jax.ShapeDtypeStruct(shape, dtype))
