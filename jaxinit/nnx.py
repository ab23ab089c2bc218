# SPDX-License-Identifier: Apache-2.0
"""Flax NNX models, created as `jit_init` creates arrays."""

import contextlib
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar, cast

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxinit.compile import JitInit, by_value
from jaxinit.core import require

with require("jaxinit.nnx", "flax", "flax"):
    from flax import nnx

__all__ = ["create"]

M = TypeVar("M")


def create(
    constructor: Callable[..., M],
    *args: Any,
    mesh: jax.sharding.Mesh | None = None,
    **kwargs: Any,
) -> M:
    """The model `constructor(*args, **kwargs)`, its parameters drawn by `jit_init`.

    The model is the one that the constructor would build under `nnx.jit`, bit for bit,
    and so is the state of the `nnx.Rngs` that are passed, which count on as the
    constructor drew from them. Each kind of parameter is compiled once in the process;
    while a model lives, a second one of the same constructor and arguments is drawn
    without building or tracing anything. Arguments are the same where they are compared
    by value and type (numbers, text, containers, dataclasses and initializers of such)
    or are the same function or class; with any other argument, such as a configuration
    object of a class of its own, the constructor is run each time.

    Args:
        constructor: a class of modules, or any function that returns one.
        *args: its arguments. `nnx.Rngs` among them, or among `kwargs`, are drawn
            from; everything else is passed as it is.
        mesh: where given, each variable is placed as its annotation says
            (`nnx.with_partitioning`), and drawn where it lives; variables without one
            are replicated. The constructor runs under `jax.set_mesh(mesh)`.
        **kwargs: the constructor's keyword arguments.

    Raises:
        TypeError: for a constructor that returns no NNX module.
        ValueError: for an annotation that does not divide its variable on the mesh.

    Example:
        >>> import jaxinit.nnx
        >>> from flax import nnx
        >>> layer = jaxinit.nnx.create(nnx.Linear, 8, 4, rngs=nnx.Rngs(0))
        >>> layer.kernel.shape
        (8, 4)
    """
    passed, static = jax.tree.flatten(
        (args, kwargs), is_leaf=lambda each: isinstance(each, nnx.Rngs)
    )
    places = [i for i, x in enumerate(passed) if isinstance(x, nnx.Rngs)]
    streams = tuple(passed[i] for i in places)
    graph, state = nnx.split(streams)

    def build(rngs: Sequence[nnx.Rngs]) -> Any:
        given = dict(zip(places, rngs, strict=True))
        leaves = [given.get(i, x) for i, x in enumerate(passed)]
        args, kwargs = jax.tree.unflatten(static, leaves)
        return constructor(*args, **kwargs)

    value = by_value((constructor, args, kwargs), apart=(nnx.Rngs,))
    if value is None:
        built = _Built(graph, mesh)
    else:
        built = _known.setdefault((value, graph, mesh), _Built(graph, mesh))
    built.build = build  # the arguments as they are now, should it be traced again
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        whole = built.init(state)
    model, after = nnx.merge(built.graph, whole)
    nnx.update(streams, nnx.state(after))
    # The trace is remembered as long as a model of it is there, and nothing longer.
    weakref.finalize(model, _keep, built).atexit = False
    return model


class _Built:
    """What a constructor builds of its arguments: drawn, and the graph around it."""

    build: Callable[[Sequence[nnx.Rngs]], Any]
    graph: Any  # known when `init` has been traced

    def __init__(self, streams: Any, mesh: jax.sharding.Mesh | None) -> None:
        def init(state: Any) -> Any:
            rngs = nnx.merge(streams, state)
            model = self.build(rngs)
            if not isinstance(model, nnx.Module):
                raise TypeError(
                    "jaxinit.nnx.create: the constructor must return an nnx.Module, "
                    f"got {type(model).__name__}"
                )
            self.graph, whole = nnx.split((model, rngs))
            return whole

        def placements(whole: Any) -> Any:
            specs = nnx.get_partition_spec(whole)
            return jax.tree.map(
                lambda spec: NamedSharding(cast(Any, mesh), spec or PartitionSpec()),
                specs,
                is_leaf=lambda each: each is None or isinstance(each, PartitionSpec),
            )

        self.init = JitInit(init, None if mesh is None else placements)


_known: weakref.WeakValueDictionary[Hashable, _Built] = weakref.WeakValueDictionary()


def _keep(built: _Built) -> None:
    """Holds what it is given until it is called, as a finalizer."""
