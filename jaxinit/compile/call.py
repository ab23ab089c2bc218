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
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from jaxinit.compile.arguments import Refusal, shardings
from jaxinit.core import checks as check

if TYPE_CHECKING:
    from jaxinit.compile.plan import Plan

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
        A function of the same arguments. Its arrays are those of `jax.jit(fn)`, bit for
        bit on the JAX versions and processors that the tests run on, and elsewhere but
        for last places; `lower` gives the distinct programs that draw them.

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
        self._fn = fn
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
        if not any(check.is_traced(leaf) for leaf in leaves):
            jaxpr, plan = self._plan(args, kwargs)
            # With tracers closed over, the trace has more inputs than arguments.
            if plan is not None and len(plan.graph.inputs) == len(leaves):
                try:
                    # One key may now go to two programs, each of which draws a part.
                    with jax.debug_key_reuse(False):
                        return jax.tree.unflatten(plan.tree, plan.run(leaves))
                except Refusal:
                    raise
                except _MISREADINGS as error:
                    _warn(error)
                    self._plans[jaxpr] = None
            if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
                raise TypeError(
                    "jit_init: the whole function is compiled, which needs arrays, and "
                    "an argument is a ShapeDtypeStruct; pass an array of that shape"
                )
        return self._whole(*args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> list[jax.stages.Lowered]:
        """The distinct programs that draw, lowered; arguments may be shapes."""
        _, plan = self._plan(args, kwargs)
        if plan is None:
            return [self._whole.lower(*args, **kwargs)]
        return [program.lower() for program in plan.programs]

    def _plan(self, args: Any, kwargs: Any) -> "tuple[Any, Plan | None]":
        try:
            traced = self._traced.trace(*args, **kwargs)
        except TypeError as error:
            if found := _no_array(self._fn, args, kwargs):
                raise TypeError(
                    f"jit_init: fn must return arrays alone, and {found}; return the "
                    "arrays and leave the rest out (of an Equinox model, return "
                    "eqx.filter(model, eqx.is_array))"
                ) from error
            raise
        # JAX keeps one trace per kind of arguments and context: a plan belongs to each.
        jaxpr = traced.jaxpr.jaxpr
        if jaxpr not in self._plans:
            placed = shardings(traced.out_info, self._out_shardings)
            try:
                from jaxinit.compile.plan import make_plan  # on first use

                self._plans[jaxpr] = make_plan(traced, args, kwargs, placed)
            except Refusal:
                raise
            except _MISREADINGS as error:
                _warn(error)
                self._plans[jaxpr] = None
        return jaxpr, self._plans[jaxpr]


# What reading a trace raises where this JAX writes it otherwise. The user's function
# has been traced by then, and has raised its own errors.
_MISREADINGS = (
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
)


def _warn(error: Exception) -> None:
    warnings.warn(
        f"jit_init cannot read the traces of this JAX ({error!r}) and compiles the "
        "whole as jax.jit does",
        RuntimeWarning,
        stacklevel=4,
    )


def _no_array(fn: Callable[..., Any], args: Any, kwargs: Any) -> str | None:
    """Which output of a function is no array, in words."""
    found: list[str] = []

    def look(*args: Any, **kwargs: Any) -> None:
        for path, leaf in jax.tree.leaves_with_path(fn(*args, **kwargs)):
            try:
                jax.typeof(leaf)
            except TypeError:
                found.append(
                    f"output{jax.tree_util.keystr(path)} is of type "
                    f"{type(leaf).__qualname__}: " + repr(leaf)[:80]
                )

    with contextlib.suppress(Exception):
        jax.eval_shape(look, *args, **kwargs)
    return found[0] if found else None
