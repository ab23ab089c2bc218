# SPDX-License-Identifier: Apache-2.0
"""The draw of an array: in which dtype, by which program, rounded and placed."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxinit.core import checks as check
from jaxinit.core.checks import DType, OutSharding, Shape
from jaxinit.core.law import Law, NoLaw, fits, inside
from jaxinit.stream import fast_key

if TYPE_CHECKING:
    from jaxinit.core.initializer import Initializer

Init: TypeAlias = Callable[..., jax.Array]  # (key, shape, dtype), or (shape, dtype)
LawOf: TypeAlias = Callable[[Shape], Law]


class Family(NamedTuple):
    """What a factory returned."""

    init: Init
    law: LawOf | None
    random: bool
    programs: "Programs"

    def draw(self, key: Any, shape: Shape, dtype: Any) -> jax.Array:
        """An array of a dtype of at least 32 bits."""
        if not self.random:
            return self.init(shape, dtype)
        return self.init(fast_key(check.typed_key(key)), shape, dtype)

    def promise(self, shape: Shape) -> Law | None:
        """The law, as far as it can be told; traced arguments make its numbers so."""
        if self.law is None:
            return None
        try:
            return self.law(shape)
        except (NoLaw, jax.errors.ConcretizationTypeError):  # it needs the numbers
            return None


class Programs:
    """The compiled draws of equal initializers, the last thousands of them.

    `find` gives a draw by what the caller wrote, and a warning or "": a call costs one
    look.
    """

    def __init__(self) -> None:
        @functools.lru_cache(maxsize=4096)
        def program(
            init: "Initializer", shape: Shape, dtype: Any, out_sharding: OutSharding
        ) -> Callable[[Any], jax.Array]:
            return jax.jit(
                functools.partial(draw_array, init, shape, dtype, out_sharding)
            )

        @functools.lru_cache(maxsize=4096)
        def find(
            init: "Initializer",
            shape: Shape,
            dtype: DType,
            out_sharding: OutSharding,
            x64: bool,
        ) -> tuple[Callable[[Any], jax.Array], str]:
            canonical, narrowed = dtype_of(init, dtype)
            return program(init, check.shape(shape), canonical, out_sharding), narrowed

        self.find = find


def draw_array(
    init: "Initializer",
    shape: Shape,
    dtype: np.dtype[Any],
    out_sharding: OutSharding,
    key: Any,
) -> jax.Array:
    """Draw in at least float32, round once, place the shards."""
    made: Family = init._content
    law = made.promise(shape)
    if law is not None:
        fits(law, made.random, dtype)
    if made.random:
        key = check.key(key)

    def draw(key: Any) -> jax.Array:
        if 0 in shape:
            return jnp.zeros(shape, dtype)
        narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
        array = made.draw(key, shape, np.dtype(np.float32) if narrow else dtype)
        if narrow and law is not None and law.bounded:
            array = jnp.clip(array, *inside(law, dtype))
        return array.astype(dtype)

    return place(draw, key, out_sharding)


def place(
    draw: Callable[[Any], jax.Array], key: Any, out_sharding: OutSharding
) -> jax.Array:
    """draw(key), each shard where it lives."""
    if out_sharding is None:
        return draw(key)
    if isinstance(out_sharding, NamedSharding):
        mesh = out_sharding.mesh.abstract_mesh
    elif isinstance(out_sharding, PartitionSpec):
        mesh = jax.sharding.get_abstract_mesh()
    else:
        raise TypeError(
            "out_sharding must be a NamedSharding or a PartitionSpec, got "
            f"{out_sharding!r}"
        )
    if mesh.empty:
        raise ValueError(
            f"out_sharding {out_sharding} needs a mesh; pass a NamedSharding, or call "
            "under jax.set_mesh(mesh)"
        )
    if explicit := mesh.explicit_axes:
        if jax.sharding.get_abstract_mesh().empty:  # called outside jax.set_mesh
            return jax.jit(draw, out_shardings=out_sharding)(key)
        return jax.sharding.auto_axes(draw, axes=explicit, out_sharding=out_sharding)(
            key
        )
    return jax.lax.with_sharding_constraint(draw(key), out_sharding)


def dtype_of(init: "Initializer", dtype: DType) -> tuple[np.dtype[Any], str]:
    """The dtype to draw in: the call's, the factory's or JAX's default float.

    With it a warning where that is not the one that was asked for, or "".
    """
    if dtype is None:
        dtype = init.arguments.get("dtype")
    if dtype is None:
        return jax.dtypes.canonicalize_dtype(np.float64), ""
    asked = jnp.dtype(check.dtype_name("dtype", dtype))
    canonical = jax.dtypes.canonicalize_dtype(asked) if asked.itemsize >= 8 else asked
    if asked == canonical:
        return canonical, ""
    narrowed = f"dtype {asked.name} needs jax_enable_x64, and {canonical.name} is drawn"
    return canonical, narrowed
