# SPDX-License-Identifier: Apache-2.0
"""`jit_init`: compile a model's initialisation once per kind of parameter.

`jax.jit(model.init)` compiles the sampler of every parameter, although a deep model has
few different ones, and holds the scratch space of many at a time. Here the function is
traced as usual; each output is cut out of the trace with the equations that it needs
(the forward pass is needed by none); what makes one key from another is taken apart
from what draws an array from a key; programs that are equal up to their inputs are
compiled once and run for each parameter.
"""

import contextlib
import functools
import gc
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxinit._plan import Plan, planned

__all__ = ["jit_init"]


def jit_init(fn: Callable[..., Any], *, out_shardings: Any = None) -> "JitInit":
    """`jax.jit` for functions that initialise: the same arrays, compiled far less.

    Works for any pure function of keys: `model.init` of Flax Linen, a function that
    builds an Equinox or NNX model and returns its arrays, Haiku's `init`, plain JAX.
    Each distinct program is compiled once in the process, whichever call or model
    needs it; what no output depends on, such as the forward pass of `model.init`, is
    not run. Outputs that depend on each other, for example on the data of a batch, are
    computed together in one program.

    Args:
        fn: a pure function of arrays (and pytrees of them) that returns such a
            pytree. An argument that no output depends on, as the batch of
            `model.init`, may be a `jax.ShapeDtypeStruct`.
        out_shardings: as in `jax.jit`: one sharding, or a tree of them that is a
            prefix of the output; None leaves the placement to JAX.

    Returns:
        A function of the same arguments. Its arrays are those of `jax.jit(fn)` bit
        for bit; `lower` gives the distinct programs that draw them.

    Raises:
        TypeError: where `fn` returns what is no array, has side effects, or needs the
            values of an argument of which only shape and dtype were given.
        ValueError: for a sharding that does not divide an output.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxinit
        >>> def init(key):
        ...     return [
        ...         jaxinit.he_normal()(jax.random.fold_in(key, i), (64, 64))
        ...         for i in range(50)
        ...     ]
        >>> key = jax.random.key(0)
        >>> compact = jaxinit.jit_init(init)
        >>> all(map(jnp.array_equal, compact(key), jax.jit(init)(key)))
        True
        >>> len(compact.lower(key))
        1
    """
    if not callable(fn):
        raise TypeError(f"jit_init: fn must be a function, got {fn!r}")
    return JitInit(fn, out_shardings)


class JitInit:
    """What `jit_init` returns."""

    def __init__(self, fn: Callable[..., Any], out_shardings: Any) -> None:
        functools.update_wrapper(self, fn)
        self._traced = jax.jit(fn)
        self._out_shardings = out_shardings
        placed = None if callable(out_shardings) else out_shardings
        self._whole = jax.jit(fn, out_shardings=placed)
        self._plans: weakref.WeakKeyDictionary[Any, Plan | None] = (
            weakref.WeakKeyDictionary()
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The arrays of `fn(*args, **kwargs)`."""
        leaves = jax.tree.leaves((args, kwargs))
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            with _no_collection():
                plan = self._plan(args, kwargs)
                # With tracers closed over, the trace has more inputs than arguments.
                if plan is not None and len(plan.graph.inputs) == len(leaves):
                    # One key may now go to two programs, each of which draws a part.
                    with jax.debug_key_reuse(False):
                        return jax.tree.unflatten(plan.tree, plan.run(leaves))
        return self._whole(*args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> list[jax.stages.Lowered]:
        """The distinct programs that draw, lowered; arguments may be shapes."""
        plan = self._plan(args, kwargs)
        if plan is None:
            return [self._whole.lower(*args, **kwargs)]
        return [program.lower() for program in plan.programs]

    def _plan(self, args: Any, kwargs: Any) -> Plan | None:
        traced = self._traced.trace(*args, **kwargs)
        # JAX remembers the trace for the kind of arguments and of context; so do we.
        jaxpr = traced.jaxpr.jaxpr
        if jaxpr not in self._plans:
            try:
                plan = planned(traced, args, kwargs, self._out_shardings)
            except (AttributeError, IndexError, KeyError) as error:
                warnings.warn(
                    f"jit_init cannot read the traces of this JAX ({error!r}) and "
                    "compiles the whole as jax.jit does",
                    RuntimeWarning,
                    stacklevel=3,
                )
                plan = None
            self._plans[jaxpr] = plan
        return self._plans[jaxpr]


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without garbage collection: what is traced is alive until the trace is done.

    The collector would look through all of it again and again, a tenth of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
