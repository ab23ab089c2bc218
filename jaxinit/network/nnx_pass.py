# SPDX-License-Identifier: Apache-2.0
"""The pass of a Flax NNX model over a batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from jaxinit.network.passes import Pass, arrays_of, is_float, path_of

__all__ = ["pass_of"]


def pass_of(model: nnx.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Pass:
    """The pass `model(*args, **kwargs)`; modules and keys among these are split."""
    if not callable(model):
        raise TypeError(
            f"the model must be callable, and {type(model).__name__} has no __call__"
        )
    passed, structure = jax.tree.flatten((args, dict(kwargs)), is_leaf=_is_object)
    places = [i for i, x in enumerate(passed) if _is_object(x)]
    objects = [passed[i] for i in places]
    for i in places:
        passed[i] = None
    arrays, rebuilt = arrays_of(passed)
    graph, params, rest = nnx.split((model, objects), nnx.Param, ...)
    leaves, of_params = jax.tree.flatten(params)
    others, of_rest = jax.tree.flatten(rest)
    pure = nnx.to_pure_dict(params)
    paths = [path_of(place[1:]) for place, _ in jax.tree.leaves_with_path(pure)]

    def run(leaves: Sequence[Any], arrays: Sequence[Any]) -> Any:
        params = jax.tree.unflatten(of_params, leaves)
        rest = jax.tree.unflatten(of_rest, arrays[: len(others)])
        made, objects = nnx.merge(graph, params, rest)
        values = rebuilt(arrays[len(others) :])
        for i, each in zip(places, objects, strict=True):
            values[i] = each
        args, kwargs = jax.tree.unflatten(structure, values)
        return made(*args, **kwargs)

    def rebuild(leaves: Sequence[Any]) -> nnx.Module:
        new = nnx.clone(model)
        nnx.update((new, objects), jax.tree.unflatten(of_params, leaves))
        return new

    return Pass(
        run,
        leaves,
        of_params,
        paths,
        frozenset(i for i, x in enumerate(leaves) if not is_float(x)),
        [*others, *arrays],
        frozenset(range(len(others))),
        type(model).__name__,
        rebuild,
    )


def _is_object(x: Any) -> bool:
    return isinstance(x, nnx.Module | nnx.Rngs)
