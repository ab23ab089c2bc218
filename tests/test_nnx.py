# SPDX-License-Identifier: Apache-2.0
"""`jaxinit.nnx.create` builds the model that `nnx.jit` of its constructor builds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit
import jaxinit.nnx

built: list[int] = []


class Block(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs, kernel_init: Any = None):
        built.append(width)
        self.first = nnx.Linear(width, width, rngs=rngs)
        self.second = nnx.Linear(
            width, width, rngs=rngs, kernel_init=kernel_init or jaxinit.he_normal()
        )
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)


def leaves(graph: Any) -> list[np.ndarray]:
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, KEY) else x)
        for x in jax.tree.leaves(nnx.state(graph))
    ]


KEY = jax.dtypes.prng_key


def assert_equal(model: Any, other: Any) -> None:
    assert nnx.split(model)[0] == nnx.split(other)[0]
    for x, y in zip(leaves(model), leaves(other), strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_model_and_the_streams_of_nnx_jit():
    ours, theirs = nnx.Rngs(3, params=4), nnx.Rngs(3, params=4)
    for _ in range(2):  # the second model continues the streams
        model = jaxinit.nnx.create(Block, 20, rngs=ours)
        other = nnx.jit(lambda rngs: Block(20, rngs))(theirs)
        assert_equal(model, other)
        assert_equal(ours, theirs)
    assert isinstance(model, Block)
    assert model.norm.use_running_average is other.norm.use_running_average


def test_the_second_model_is_drawn_without_building_it():
    first = jaxinit.nnx.create(Block, 24, rngs=nnx.Rngs(0))
    del built[:]
    second = jaxinit.nnx.create(Block, 24, rngs=nnx.Rngs(1))
    assert not built
    assert (first.first.kernel[...] != second.first.kernel[...]).any()


def test_arguments_that_have_no_hash():
    settings = {"width": 12}
    model = jaxinit.nnx.create(
        lambda settings, rngs: Block(settings["width"], rngs), settings, nnx.Rngs(0)
    )
    other = nnx.jit(lambda rngs: Block(12, rngs))(nnx.Rngs(0))
    assert_equal(model, other)


def test_each_parameter_is_drawn_where_its_annotation_says():
    mesh = jax.make_mesh((8,), ("m",), axis_types=(jax.sharding.AxisType.Auto,))
    kernel_init = nnx.with_partitioning(jaxinit.he_normal(), (None, "m"))
    model = jaxinit.nnx.create(
        Block, 16, rngs=nnx.Rngs(0), kernel_init=kernel_init, mesh=mesh
    )
    kernel = model.second.kernel[...]
    assert kernel.sharding.spec == jax.sharding.PartitionSpec(None, "m")
    assert kernel.addressable_shards[0].data.shape == (16, 2)
    assert model.second.bias[...].sharding.is_fully_replicated
    plain = jaxinit.nnx.create(Block, 16, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(kernel, plain.second.kernel[...])


def test_an_annotation_that_does_not_divide():
    mesh = jax.make_mesh((8,), ("m",), axis_types=(jax.sharding.AxisType.Auto,))
    kernel_init = nnx.with_partitioning(jaxinit.he_normal(), (None, "m"))
    with pytest.raises(ValueError, match="divi"):
        jaxinit.nnx.create(
            Block, 12, rngs=nnx.Rngs(0), kernel_init=kernel_init, mesh=mesh
        )


def test_what_is_no_module():
    with pytest.raises(TypeError, match=r"must return an nnx.Module, got int"):
        jaxinit.nnx.create(lambda rngs: 3, nnx.Rngs(0))
