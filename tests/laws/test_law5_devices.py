# SPDX-License-Identifier: Apache-2.0
"""Law 5 on many devices: the same bits, each shard drawn where it lives."""

import re
from typing import cast

import chex
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxinit
from tests.helpers import bits, fresh

COLLECTIVE = re.compile(
    r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)[a-z-]*\("
)
MIB = 2**20

SAMPLING = [
    jaxinit.he_normal(),
    jaxinit.glorot_uniform(),
    jaxinit.kaiming_normal("fan_out", "relu"),
    jaxinit.truncated_normal(0.02),
    jaxinit.truncated_normal(1.0, lower=8.0, upper=9.0),
    jaxinit.uniform_between(-1.0, 2.0),
    jaxinit.stacked(jaxinit.lecun_normal()),
    jaxinit.constant(0.5),
]
MESHES = {
    "8": ((8,), ("x",), PartitionSpec("x", None)),
    "4x2": ((4, 2), ("x", "y"), PartitionSpec("x", "y")),
    "2x4": ((2, 4), ("x", "y"), PartitionSpec(None, ("x", "y"))),
    "1x8": ((1, 8), ("x", "y"), PartitionSpec("y")),
    "replicated": ((8,), ("x",), PartitionSpec()),
}
SHAPE = (64, 128)
STACK = (8, 32, 64)


def text_of(program: jax.stages.Compiled) -> str:
    return program.as_text() or ""


def sharding(name: str, kind: str = "Auto") -> NamedSharding:
    sizes, axes, spec = MESHES[name]
    mesh = jax.make_mesh(sizes, axes, axis_types=(AxisType[kind],) * len(axes))
    return NamedSharding(mesh, spec)


def shape_of(init: jaxinit.Initializer) -> tuple[int, ...]:
    return STACK if init.name == "stacked" else SHAPE


@pytest.mark.parametrize("mesh", MESHES)
def test_the_same_bits_on_any_mesh(mesh, key):
    """The layout is the program's, whatever it draws: one initializer shows it."""
    where, init = sharding(mesh), SAMPLING[0]
    placed = init(fresh(key), SHAPE, None, where)
    assert bits(placed) == bits(init(fresh(key), SHAPE))
    assert placed.sharding.is_equivalent_to(where, len(SHAPE))


@pytest.mark.parametrize(
    ("init", "dtype"),
    [
        (SAMPLING[0], "float32"),
        (SAMPLING[0], "bfloat16"),
        (SAMPLING[0], "complex64"),
        (SAMPLING[1], "float32"),
        (SAMPLING[2], "float32"),
    ],
    ids=str,
)
def test_no_collectives_and_no_memory_beside_the_shard(init, dtype, key):
    """A shard of 2 MiB, drawn on each of 8 devices, and nothing else."""
    where, shape = sharding("4x2"), (2048, 2048)
    draw = jax.jit(lambda k: init(k, shape, dtype), out_shardings=where)
    program = draw.lower(fresh(key)).compile()
    assert not COLLECTIVE.search(text_of(program))
    memory = program.memory_analysis()
    assert memory is not None and memory.temp_size_in_bytes <= MIB


@pytest.mark.parametrize("init", SAMPLING, ids=str)
def test_jit_out_shardings(init, key):
    where, shape = sharding("4x2"), shape_of(init)
    draw = jax.jit(lambda k: init(k, shape), out_shardings=where)
    program = draw.lower(fresh(key)).compile()
    assert not COLLECTIVE.search(text_of(program))
    assert bits(program(fresh(key))) == bits(init(fresh(key), shape))


def test_the_search_for_collectives_can_fail(key):
    where = sharding("8")
    ordered = jax.jit(
        lambda k: jnp.sort(jax.random.normal(k, SHAPE), axis=0), out_shardings=where
    )
    assert COLLECTIVE.search(text_of(ordered.lower(fresh(key)).compile()))


@pytest.mark.parametrize("init", [SAMPLING[0], SAMPLING[6], SAMPLING[7]], ids=str)
def test_explicit_sharding_mode(init, key):
    where, shape = sharding("4x2", "Explicit"), shape_of(init)
    plain = init(fresh(key), shape)
    with jax.set_mesh(cast(jax.sharding.Mesh, where.mesh)):
        placed = jax.jit(lambda k: init(k, shape, None, where.spec))(fresh(key))
    outside = init(fresh(key), shape, None, where)
    for array in (placed, outside):
        assert bits(array) == bits(plain)
        assert array.sharding.is_equivalent_to(where, len(shape))


def test_orthogonal_on_a_mesh_is_equal_to_rounding(key):
    where = sharding("4x2")
    plain = jaxinit.orthogonal()(fresh(key), SHAPE)
    placed = jaxinit.orthogonal()(fresh(key), SHAPE, None, where)
    chex.assert_trees_all_close(jax.device_get(placed), plain, atol=1e-5)


def test_shard_map_over_keys(key):
    """Eight devices, a key each: what vmap draws on one."""
    mesh = sharding("8").mesh
    keys = jax.random.split(fresh(key), 8)
    init = jaxinit.he_normal()

    def draw(keys: jax.Array) -> jax.Array:
        return jax.vmap(lambda k: init(k, (16, 8)))(keys)

    mapped = jax.shard_map(
        draw, mesh=mesh, in_specs=PartitionSpec("x"), out_specs=PartitionSpec("x")
    )
    assert bits(jax.jit(mapped)(fresh(keys))) == bits(draw(fresh(keys)))
