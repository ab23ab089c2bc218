# SPDX-License-Identifier: Apache-2.0
"""A function's trace, taken apart: what looks inside the form that JAX gives it.

A `Graph` is a trace with its calls inlined, so that each output can be cut out with the
equations that it needs. The constants that only tell one key from another (the number
that is folded into a key, the place of a key among its siblings) become inputs, so that
two parameters that differ in nothing else are one program.
"""

import functools
import types
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxinit import compat as jex
from jaxinit.compat import primitives
from jaxinit.network.equality import of_jaxpr

# Without it a loop stays one program.
dce_jaxpr: Any = jex.dce_jaxpr if jex.has("dce_jaxpr") else None

__all__ = [
    "Graph",
    "body_of",
    "close",
    "context",
    "derives_keys",
    "draws",
    "graph",
    "inline",
    "is_key",
    "is_loop",
    "is_product",
    "only",
]

_CALLS = {
    getattr(primitives, name)
    for name in (
        "jit_p",
        "remat_p",
        "call_p",
        "closed_call_p",
        "custom_jvp_call_p",
        "custom_vjp_call_p",
    )
    if hasattr(primitives, name)
}
SMALL = 2**14  # elements of what may be the material of keys


class Graph(NamedTuple):
    """Equations in order, each variable written once; `values` are known inputs."""

    inputs: list[jex.Var]
    outputs: list[Any]
    equations: list[jex.JaxprEqn]
    values: dict[jex.Var, Any]


def graph(trace: jex.ClosedJaxpr) -> Graph:
    """The graph of a trace."""
    inputs = [jex.Var(v.aval) for v in trace.jaxpr.invars]
    made = Graph(inputs, [], [], {})
    made.outputs.extend(inline(made, trace.jaxpr, trace.consts, inputs))
    return made


def inline(
    into: Graph, jaxpr: jex.Jaxpr, consts: Sequence[Any], inputs: Sequence[Any]
) -> list[Any]:
    """Append the equations of `jaxpr` at `inputs`; returns its outputs."""
    env = dict(zip(jaxpr.invars, inputs, strict=True))
    for v, value in zip(jaxpr.constvars, consts, strict=True):
        env[v] = _value(into, v.aval, value)

    def read(atom: Any) -> Any:
        return atom if isinstance(atom, jex.Literal) else env[atom]

    for eqn in jaxpr.eqns:
        atoms = [read(atom) for atom in eqn.invars]
        body = _body(eqn)
        if body is not None:
            outs = inline(into, *body, atoms)
        elif (trace := _indexing(eqn)) is not None:
            starts = eqn.params["start_indices"]
            index = [_value(into, jax.typeof(_ZERO), np.int32(s)) for s in starts]
            outs = inline(into, trace.jaxpr, trace.consts, [*atoms, *index])
        else:
            if eqn.primitive is primitives.random_fold_in_p and isinstance(
                atoms[1], jex.Literal
            ):
                atoms[1] = _value(into, atoms[1].aval, atoms[1].val)
            outs = [jex.Var(v.aval) for v in eqn.outvars]
            into.equations.append(eqn.replace(invars=atoms, outvars=outs))
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


_ZERO = np.int32(0)


def _value(into: Graph, aval: Any, value: Any) -> jex.Var:
    v = jex.Var(aval)
    into.values[v] = value
    return v


def _body(eqn: jex.JaxprEqn) -> tuple[jex.Jaxpr, Sequence[Any]] | None:
    """What a call equation calls, where it is to be inlined.

    The call of one array's draw stays as it is: it is a unit already.
    """
    one = eqn.primitive is primitives.jit_p and len(eqn.outvars) == 1
    if eqn.primitive not in _CALLS or one:
        return None
    placed = (*eqn.params.get("in_shardings", ()), *eqn.params.get("out_shardings", ()))
    if any(isinstance(each, jax.sharding.Sharding) for each in placed):
        return None
    jaxpr, consts = body_of(eqn)
    return None if jaxpr is None else (jaxpr, consts)


def body_of(eqn: jex.JaxprEqn) -> tuple[Any, Sequence[Any]]:
    """What a call or a loop runs, and its constants."""
    body: Any = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    return getattr(body, "jaxpr", body), getattr(body, "consts", ())


def _indexing(eqn: jex.JaxprEqn) -> jex.ClosedJaxpr | None:
    """A slice of keys with its start as an input, where `eqn` is such a slice."""
    if eqn.primitive.name != "slice" or not is_key_material(eqn.invars[0].aval):
        return None
    if any(stride != 1 for stride in eqn.params["strides"] or ()):
        return None
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    sizes = tuple(limit - start for start, limit in zip(starts, limits, strict=True))
    source: Any = eqn.invars[0].aval
    return _index(source.shape, source.dtype, sizes, context())


@functools.lru_cache(maxsize=256)
def _index(
    shape: tuple[int, ...], dtype: Any, sizes: tuple[int, ...], context: Hashable
) -> jex.ClosedJaxpr:
    def index(x: jax.Array, *starts: jax.Array) -> jax.Array:
        # Within bounds: the plain primitive neither clamps nor wraps what it is given.
        return lax.dynamic_slice_p.bind(x, *starts, slice_sizes=sizes)

    start = jax.ShapeDtypeStruct((), np.int32)
    return jax.make_jaxpr(index)(
        jax.ShapeDtypeStruct(shape, dtype), *[start] * len(shape)
    )


def context() -> Hashable:
    """What a trace of ours depends on beside its arguments."""
    partitionable = jex.setting("jax_threefry_partitionable")
    return jax.sharding.get_abstract_mesh(), partitionable


def is_key_material(aval: Any) -> bool:
    """Whether an array may be keys or the counters that keys are made from."""
    dtype = getattr(aval, "dtype", None)
    return (
        dtype is not None
        and (is_key(aval) or jnp.issubdtype(dtype, np.integer) or dtype == np.bool)
        and aval.size <= SMALL
    )


def is_key(aval: Any) -> bool:
    """Whether an array's elements are typed keys."""
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def derives_keys(eqn: jex.JaxprEqn) -> bool:
    """Whether an equation only makes keys from keys and counters."""
    return all(is_key_material(v.aval) for v in eqn.outvars) and not draws(eqn)


def draws(eqn: jex.JaxprEqn) -> bool:
    """Whether random bits are drawn in an equation."""
    return eqn.primitive is primitives.random_bits_p or any(
        _draws(jaxpr) for jaxpr in jex.jaxprs_in_params(eqn.params)
    )


@of_jaxpr
def _draws(jaxpr: jex.Jaxpr) -> bool:
    return any(map(draws, jaxpr.eqns))


def is_product(eqn: jex.JaxprEqn) -> bool:
    """Whether an equation is a convolution or a product of matrices.

    XLA fuses nothing into these. A product with a vector is none: there the matrix may
    be drawn within the loop that sums.
    """
    name = eqn.primitive.name
    aval: Any = eqn.outvars[0].aval
    return (
        name in ("dot_general", "conv_general_dilated")
        and sum(dim > 1 for dim in aval.shape) > 1
    )


def is_loop(eqn: jex.JaxprEqn) -> bool:
    """Whether `only` can take an equation apart."""
    return eqn.primitive is primitives.scan_p and dce_jaxpr is not None


def only(eqn: jex.JaxprEqn, k: int) -> list[jex.JaxprEqn]:
    """Equations for the output `k` alone of an equation that has several.

    A scan over layers draws every parameter of a layer, and runs the layer, in one
    equation; here it becomes a loop that draws one parameter.
    """
    inputs = list(dict.fromkeys(v for v in eqn.invars if isinstance(v, jex.Var)))
    whole = close(inputs, [eqn], [eqn.outvars[k]])
    lean, _ = dce_jaxpr(whole.jaxpr, [True], True)
    return list(lean.eqns)


# --- programs -------------------------------------------------------------------------


def close(
    inputs: Sequence[jex.Var],
    equations: Sequence[jex.JaxprEqn],
    outputs: Sequence[Any],
    known: Mapping[jex.Var, Any] = types.MappingProxyType({}),
) -> jex.ClosedJaxpr:
    """The function of `inputs` that the equations compute, given what is known."""
    # `replace` and not the constructor, which wants JAX's private notes for debugging.
    jaxpr = _EMPTY.jaxpr.replace(
        constvars=list(known),
        invars=list(inputs),
        outvars=list(outputs),
        eqns=list(equations),
    )
    return jex.ClosedJaxpr(jaxpr, list(known.values()))


_EMPTY = jax.make_jaxpr(lambda: ())()
