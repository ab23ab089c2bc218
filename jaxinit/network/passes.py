# SPDX-License-Identifier: Apache-2.0
"""A model's pass over a batch, as a function of arrays alone."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxinit.core import checks as check

__all__ = ["Pass", "arrays_of", "pass_of", "path_of"]


@dataclass(frozen=True)
class Pass:
    """A model's pass over a batch.

    Attributes:
        run: from the leaves of the parameters and the other arrays to what it returns.
        leaves: the arrays, or shapes, that hold the parameters, in order.
        structure: the tree of the parameters that they are the leaves of.
        paths: the path of each.
        fixed: the leaves that are no parameters: counters, statistics, keys.
        arrays: the other arrays: the batch.
        constants: those of them that are no data, by their numbers.
        who: the model's name.
        remade: the variables, the model or the parameters, with other leaves.
    """

    run: Callable[[Sequence[Any], Sequence[Any]], Any]
    leaves: Sequence[Any]
    structure: Any
    paths: Sequence[str]
    fixed: frozenset[int]
    arrays: Sequence[Any]
    constants: frozenset[int]
    who: str
    rebuild: Callable[[Sequence[Any]], Any]

    @property
    def kinds(self) -> list[str]:
        """Of all inputs: "parameter", "constant" or "data"."""
        first = [
            "constant" if i in self.fixed else "parameter"
            for i in range(len(self.leaves))
        ]
        return first + [
            "constant" if i in self.constants else "data"
            for i in range(len(self.arrays))
        ]


def pass_of(model: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Pass:
    """The pass of a Linen module, an NNX module or a function of parameters."""
    if _is_of("flax.linen", model):
        from jaxinit.network import linen_pass

        return linen_pass.pass_of(model, args, kwargs)
    if _is_of("flax.nnx", model):
        from jaxinit.network import nnx_pass

        return nnx_pass.pass_of(model, args, kwargs)
    if not inspect.ismethod(model) and (held := _held(model)):
        raise TypeError(
            "the model must be a Flax module or a function of parameters, got "
            f"{type(model).__name__}; it holds one, pass model.{held}"
        )
    if not callable(model) or isinstance(model, type):
        raise TypeError(
            "the model must be a Flax module (not its class) or a function of "
            f"parameters, got {getattr(model, '__name__', type(model).__name__)}"
        )
    if not args:
        raise TypeError(
            "a function comes with its parameters, a tree of arrays or shapes, and "
            "then with the batch"
        )
    return _of_function(model, args, kwargs)


def _of_function(
    model: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Pass:
    params, *batch = args
    leaves, structure, paths = flat(params)
    arrays, rebuilt = arrays_of((batch, dict(kwargs)))

    def run(leaves: Sequence[Any], arrays: Sequence[Any]) -> Any:
        batch, named = rebuilt(arrays)
        return model(jax.tree.unflatten(structure, leaves), *batch, **named)

    fixed = frozenset(i for i, x in enumerate(leaves) if not is_float(x))
    if len(fixed) == len(leaves):
        raise ValueError(
            "the first argument has no parameters, arrays of real or complex numbers; "
            "a function comes with its parameters first"
        )
    return Pass(
        run,
        leaves,
        structure,
        paths,
        fixed,
        arrays,
        frozenset(),
        getattr(model, "__name__", type(model).__name__),
        lambda new: jax.tree.unflatten(structure, new),
    )


def flat(tree: Any) -> tuple[list[Any], Any, list[str]]:
    """The leaves of a tree, its structure, and their paths."""
    pairs, structure = jax.tree.flatten_with_path(tree)
    for place, leaf in pairs:
        if not isinstance(leaf, (*check.ARRAYS, jax.ShapeDtypeStruct)):
            raise TypeError(
                f"{path_of(place) or 'the parameters'} must be an array or a shape, "
                f"got {type(leaf).__name__}; with Equinox, pass eqx.filter(model, "
                "eqx.is_array), or the first part of eqx.partition"
            )
    return (
        [leaf for _, leaf in pairs],
        structure,
        [path_of(place) for place, _ in pairs],
    )


def path_of(place: Any) -> str:
    """A place in a tree, as `init_tree` has it."""
    return jax.tree_util.keystr(place, simple=True, separator="/")


def is_float(x: Any) -> bool:
    """Whether an array is of real or complex numbers."""
    return bool(jnp.issubdtype(x.dtype, jnp.inexact))


def arrays_of(tree: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """The arrays and shapes of a tree, and the way back; all else stays as it is."""
    kinds = (*check.ARRAYS, jax.ShapeDtypeStruct)
    leaves, structure = jax.tree.flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, kinds)]

    def rebuilt(arrays: Sequence[Any]) -> Any:
        new = list(leaves)
        for i, array in zip(places, arrays, strict=True):
            new[i] = array
        return jax.tree.unflatten(structure, new)

    return [leaves[i] for i in places], rebuilt


def _is_of(module: str, model: Any) -> bool:
    """Whether a model is one of Flax, which is imported by who has one."""
    flax = sys.modules.get(module)
    return flax is not None and isinstance(model, flax.Module)


def _held(model: Any) -> str:
    """The attribute of a wrapper that holds a module, or a method of one, or ""."""
    slots = [
        name for cls in type(model).__mro__ for name in vars(cls).get("__slots__", ())
    ]
    for name in ("", *getattr(model, "__dict__", ()), *slots, "func"):
        value = getattr(model, name, None) if name else model
        owner = [name, "__self__"] if name else ["__self__"]
        for each, path in ((value, [name]), (getattr(value, "__self__", None), owner)):
            flax = _is_of("flax.linen", each) or _is_of("flax.nnx", each)
            if each is not model and flax:
                return ".".join(path)
    return ""
