# SPDX-License-Identifier: Apache-2.0
"""Flax NNX models, created as `jit_init` creates arrays."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxinit._fans import Fans
from jaxinit._jit_init import JitInit
from jaxinit._layers import Layer, general

try:
    from flax import nnx
except ImportError as error:
    raise ImportError("jaxinit.nnx needs Flax: pip install 'jaxinit[flax]'") from error

__all__ = ["create", "layers"]

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
    a second model of the same constructor and arguments is drawn without building or
    tracing anything.

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
    places = tuple(i for i, x in enumerate(passed) if isinstance(x, nnx.Rngs))
    streams = tuple(passed[i] for i in places)
    others = tuple(None if i in places else x for i, x in enumerate(passed))
    graph, state = nnx.split(streams)
    try:
        built = _built(constructor, others, static, places, graph, mesh)
    except TypeError:  # arguments that cannot be remembered
        built = _built.__wrapped__(constructor, others, static, places, graph, mesh)
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        whole = built.init(state)
    model, after = nnx.merge(built.graph[0], whole)
    nnx.update(streams, nnx.state(after))
    return model


class _Built(NamedTuple):
    init: JitInit
    graph: list[Any]  # filled when `init` is traced


@functools.lru_cache(maxsize=64)
def _built(
    constructor: Callable[..., Any],
    others: tuple[Any, ...],
    static: Any,
    places: tuple[int, ...],
    streams: Any,
    mesh: jax.sharding.Mesh | None,
) -> _Built:
    found: list[Any] = []

    def init(state: Any) -> Any:
        rngs = nnx.merge(streams, state)
        passed = list(others)
        for place, each in zip(places, rngs, strict=True):
            passed[place] = each
        args, kwargs = jax.tree.unflatten(static, passed)
        model = constructor(*args, **kwargs)
        if not isinstance(model, nnx.Module):
            raise TypeError(
                f"jaxinit.nnx.create: {constructor!r} must return an nnx.Module, got "
                f"{type(model).__name__}"
            )
        graph, whole = nnx.split((model, rngs))
        found[:] = [graph]
        return whole

    def placed(whole: Any) -> Any:
        specs = nnx.get_partition_spec(whole)
        return jax.tree.map(
            lambda spec: NamedSharding(cast(Any, mesh), spec or PartitionSpec()),
            specs,
            is_leaf=lambda each: each is None or isinstance(each, PartitionSpec),
        )

    return _Built(JitInit(init, None if mesh is None else placed), found)


# --- layers ---------------------------------------------------------------------------


def layers(model: Any) -> dict[str, Layer]:
    """The `Layer` of every kernel in a model, by its path in the model's state.

    The shape of a kernel does not tell its fans: transposed, grouped, batched and
    einsum kernels look like others, and the gates of an LSTM are fused into one. Hand
    the result to `jaxinit.init_tree` as `layers`.

    Args:
        model: an NNX module, real or abstract (`nnx.eval_shape`).

    Example:
        >>> import jaxinit.nnx
        >>> from flax import nnx
        >>> conv = nnx.Conv(8, 16, (3, 3), feature_group_count=4, rngs=nnx.Rngs(0))
        >>> jaxinit.nnx.layers(conv)["kernel"].fans
        Fans.conv(4)
    """
    made: dict[str, Layer] = {}
    for path, module in nnx.iter_graph(model):
        for name in ("kernel", "embedding"):
            if isinstance(variable := getattr(module, name, None), nnx.Variable):
                fans = _fans(module, variable.get_value().ndim)
                if fans is not None:
                    made["/".join(map(str, (*path, name)))] = Layer(fans)
    for path, module in nnx.iter_graph(model):
        for cell, gates in ((nnx.OptimizedLSTMCell, 4), (nnx.GRUCell, 3)):
            if isinstance(module, cell):
                for name in ("dense_i", "dense_h"):
                    where = "/".join(map(str, (*path, name, "kernel")))
                    made[where] = Layer(Fans.axes(), parts=gates)
    return made


def _fans(module: Any, ndim: int) -> Fans | None:
    match module:
        case nnx.ConvTranspose():
            return Fans.conv_transpose(module.strides or 1, module.transpose_kernel)
        case nnx.Conv():
            return Fans.conv(module.feature_group_count, module.strides or 1)
        case nnx.Einsum():
            return Fans.einsum(module.einsum_str)
        case nnx.Embed():
            return Fans.embedding()
        case nnx.LinearGeneral():
            return general(ndim, len(module.batch_axis), len(module.out_features))
        case nnx.Linear():
            return Fans.axes()
    return None
