# SPDX-License-Identifier: Apache-2.0
"""The one door to what JAX does not promise: each such thing is taken from here.

A name is looked up when it is first asked for, so that a JAX that has moved or dropped
one disturbs only what needs it, and that says so in words (`Missing`). The initializers
need none: without `define_prng_impl` they draw from JAX's own stream, with the same
numbers. `has(name)` tells whether the JAX at hand has a name of `USES`.
"""

import functools
import importlib
from typing import Any

import jax

# What is read of each.
FIELDS = {
    "ClosedJaxpr": ("consts", "jaxpr"),
    "Jaxpr": ("constvars", "effects", "eqns", "invars", "outvars", "replace"),
    "JaxprEqn": (
        "ctx",
        "effects",
        "invars",
        "outvars",
        "params",
        "primitive",
        "replace",
    ),
    "Literal": ("aval", "val"),
    "Var": ("aval",),
}

# The settings that are asked for, and what holds in a JAX that has dropped one.
SETTINGS = {
    "jax_debug_key_reuse": False,
    "jax_enable_x64": False,
    "jax_threefry_partitionable": True,
}

# Where each name is, and what needs it.
USES = {
    "ClosedJaxpr": ("jax.extend.core", "jit_init and signal"),
    "DropVar": ("jax.extend.core", "signal"),
    "Jaxpr": ("jax.extend.core", "jit_init and signal"),
    "JaxprEqn": ("jax.extend.core", "jit_init and signal"),
    "Literal": ("jax.extend.core", "jit_init and signal"),
    "Var": ("jax.extend.core", "jit_init and signal"),
    "dce_jaxpr": ("jax.interpreters.partial_eval", "jit_init, to take loops apart"),
    "define_prng_impl": ("jax.extend.random", "fast_key"),
    "jaxpr_as_fun": ("jax.extend.core", "jit_init and signal"),
    "jaxprs_in_params": ("jax.extend.core", "jit_init and signal"),
    "make_user_context": ("jax", "signal"),
}


class Missing(ImportError):
    """This JAX lacks something that it did not promise."""


def __getattr__(name: str) -> Any:
    if name not in USES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place, user = USES[name]
    try:
        found = getattr(importlib.import_module(place), name)
    except (AttributeError, ImportError):
        raise Missing(_message(f"{place}.{name}", user)) from None
    for field in FIELDS.get(name, ()):
        if not hasattr(found, field):
            raise Missing(_message(f"{place}.{name}.{field}", user))
    globals()[name] = found
    return found


def _message(what: str, user: str) -> str:
    return (
        f"jax {jax.__version__} has no {what}, which is needed by {user}; the "
        "initializers do without: draw with them, or install another JAX"
    )


class _Primitives:
    """JAX's primitives by their names, such as `jit_p`."""

    def __getattr__(self, name: str) -> Any:
        place = "jax.extend.core.primitives"
        try:
            return getattr(importlib.import_module(place), name)
        except (AttributeError, ImportError):
            text = _message(f"{place}.{name}", "jit_init and signal")
            raise AttributeError(text) from None


primitives = _Primitives()


def has(name: str) -> bool:
    """Whether this JAX has a name of `USES`, with its `FIELDS`."""
    try:
        __getattr__(name)
    except Missing:
        return False
    return True


@functools.cache
def _tracer() -> type:
    """The base class of tracers; where JAX hides it, it is that of one it shows."""
    try:
        return jax.core.Tracer
    except AttributeError:
        seen: list[type] = []
        jax.eval_shape(lambda x: seen.extend(type(x).__mro__), 0.0)
        return next((kind for kind in seen if kind.__name__ == "Tracer"), seen[0])


def is_traced(value: object) -> bool:
    """Whether a value is known only inside somebody's trace."""
    return isinstance(value, _tracer())


def is_committed(value: object) -> bool:
    """Whether an array is bound to its devices."""
    return bool(getattr(value, "committed", False))


def setting(name: str) -> bool:
    """A flag of JAX's, one of `SETTINGS`."""
    return bool(getattr(jax.config, name, SETTINGS[name]))
