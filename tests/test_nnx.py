# SPDX-License-Identifier: Apache-2.0
"""`jaxinit.nnx.create` builds the model that `nnx.jit` of its constructor builds."""

import dataclasses
import functools
import gc
import re
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit
import jaxinit.nnx

QUICK = True  # see conftest.py

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


@dataclasses.dataclass
class Settings:
    width: Any = 8


@dataclasses.dataclass(frozen=True)
class Frozen:
    width: Any
    more: Any = None


class Config:
    """What most configurations are: compared by identity, and changed in place."""

    def __init__(self, width: Any):
        self.width = width


class Hashed(Config):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config)

    def __hash__(self) -> int:
        return 0


@pytest.mark.parametrize("kind", [Settings, Config, Hashed, lambda w: {"width": w}])
def test_a_configuration_that_was_changed(kind):
    def model_of(config: Any, rngs: nnx.Rngs) -> nnx.Linear:
        width = config["width"] if isinstance(config, dict) else config.width
        return nnx.Linear(3, width, rngs=rngs)

    config = kind(8)
    first = jaxinit.nnx.create(model_of, config, nnx.Rngs(0))
    if isinstance(config, dict):
        config["width"] = 5
    else:
        config.width = 5
    assert first.kernel.shape == (3, 8)
    second = jaxinit.nnx.create(model_of, config, nnx.Rngs(0))
    assert second.kernel.shape == (3, 5)


def test_a_configuration_within_a_frozen_one():
    def model_of(config: Frozen, rngs: nnx.Rngs) -> nnx.Linear:
        return nnx.Linear(3, config.width.width, rngs=rngs)

    inner = Config(8)
    first = jaxinit.nnx.create(model_of, Frozen(inner), nnx.Rngs(0))
    inner.width = 5
    second = jaxinit.nnx.create(model_of, Frozen(inner), nnx.Rngs(0))
    assert (first.kernel.shape, second.kernel.shape) == ((3, 8), (3, 5))


class Typed(nnx.Module):
    def __init__(self, x: Any, rngs: nnx.Rngs):
        built.append(0)
        self.kind = repr(x)
        self.linear = nnx.Linear(2, 3, rngs=rngs)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], Frozen, Settings])
def test_one_is_not_true(wrap):
    alive = []
    for x in (1, 1.0, True, 0.0, -0.0, "1", np.float32(1), np.float64(1), 1 + 0j):
        alive.append(jaxinit.nnx.create(Typed, wrap(x), rngs=nnx.Rngs(0)))
        assert alive[-1].kind == repr(wrap(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda: 1.5,
        lambda: "a",
        lambda: None,
        lambda: (1, [2, {"a": {3}}]),
        lambda: Frozen(1, (2, None)),
        lambda: Settings(4),
        lambda: np.float32(2),
        lambda: jnp.float32,
        lambda: np.dtype("int8"),
        lambda: jax.nn.relu,
        lambda: jnp.tanh,
        lambda: functools.partial(jax.nn.leaky_relu, negative_slope=0.1),
        lambda: jaxinit.normal(0.5),
        lambda: jaxinit.Fans.conv(2),
        lambda: jax.sharding.PartitionSpec("m"),
    ],
    ids=lambda make: re.sub(r" (at|object) .*", "", str(make())),
)
def test_what_compares_by_value_is_built_once(make):
    first = jaxinit.nnx.create(Typed, make(), rngs=nnx.Rngs(0))
    del built[:]
    second = jaxinit.nnx.create(Typed, make(), rngs=nnx.Rngs(0))
    assert not built
    assert_equal(first, second)


def test_what_does_not_compare_is_built_again():
    alive = []
    for x in (object(), jnp.ones(2), np.ones(2), Config(3), Frozen(Config(3))):
        del built[:]
        alive += [jaxinit.nnx.create(Typed, x, rngs=nnx.Rngs(0)) for _ in range(2)]
        assert len(built) == 2


def test_a_list_that_was_changed_after_it_was_remembered():
    """The first list is not read again, where the second is traced anew."""

    def model_of(widths: list[int], rngs: nnx.Rngs) -> nnx.Linear:
        return nnx.Linear(*widths, rngs=rngs)

    widths = [3, 4]
    first = jaxinit.nnx.create(model_of, widths, nnx.Rngs(0))
    widths[1] = 5
    second = jaxinit.nnx.create(
        model_of, [3, 4], nnx.Rngs(params=jax.random.PRNGKey(1))
    )
    assert first.kernel.shape == second.kernel.shape == (3, 4)


def test_what_a_model_was_made_of_can_be_collected():
    """All but a class of modules: Flax registers those with JAX, for good."""

    def activation(x: Any) -> Any:
        return x

    def model_of(config: Frozen, rngs: nnx.Rngs) -> Typed:
        return Typed(config, rngs=rngs)

    config = Frozen(activation)
    model = jaxinit.nnx.create(model_of, config, rngs=nnx.Rngs(0))
    refs = [weakref.ref(x) for x in (activation, model_of, config, model)]
    del activation, model_of, config, model
    gc.collect()
    assert [ref() for ref in refs] == [None] * 4


def test_traces_are_kept_no_longer_than_their_models():
    models = [jaxinit.nnx.create(Typed, x, rngs=nnx.Rngs(0)) for x in range(100, 110)]
    gc.collect()
    kept = len(jaxinit.nnx._known)
    del models[2:]
    gc.collect()
    assert len(jaxinit.nnx._known) == kept - 8
