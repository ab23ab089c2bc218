# SPDX-License-Identifier: Apache-2.0
"""Law 1: an initializer is what every JAX library takes for one."""

import inspect

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxinit
from tests.cases import CASES, FAN_IN, FAN_OUT, Case, ids
from tests.helpers import bits, fresh

QUICK = True  # see conftest.py


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_shape_and_dtype(case, key):
    array = jax.eval_shape(lambda k: case.init(k, case.small), key)
    chex.assert_shape(array, case.small)
    chex.assert_type(array, jnp.float32)


def is_called_as_jaxs(init) -> bool:
    """Whether it takes what JAX's protocol takes, under the same names and defaults."""
    theirs = inspect.signature(jax.nn.initializers.Initializer.__call__)
    wanted = list(theirs.parameters.values())[1:]  # without self
    found = inspect.signature(init).parameters.values()
    return [(p.name, p.kind, p.default) for p in found] == [
        (p.name, p.kind, p.default) for p in wanted
    ]


def test_it_is_called_as_jaxs_own(key):
    assert is_called_as_jaxs(jaxinit.he_normal())
    assert is_called_as_jaxs(jax.nn.initializers.he_normal())
    assert not is_called_as_jaxs(jaxinit.he_normal)  # the factory
    assert not is_called_as_jaxs(jax.nn.relu)
    by_name = {"key": key, "shape": (3, 4), "dtype": "bfloat16", "out_sharding": None}
    chex.assert_type(jaxinit.he_normal()(**by_name), jnp.bfloat16)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_a_shape_with_a_zero_gives_an_empty_array(case, key):
    for axis in range(len(case.small)):
        shape = tuple(0 if i == axis else n for i, n in enumerate(case.small))
        if case.init.random or axis < len(shape) - 1:
            array = jax.eval_shape(lambda k, s=shape: case.init(k, s), fresh(key))
            chex.assert_shape(array, shape)


@pytest.mark.parametrize("init", [jaxinit.he_normal(), jaxinit.zeros], ids=str)
def test_an_empty_array_is_drawn_too(init, key):
    chex.assert_shape(init(key, (3, 0)), (3, 0))


@pytest.mark.parametrize("case", [c for c in CASES if not c.random], ids=ids)
def test_constants_take_any_dtype_and_no_key(case):
    array = case.init(None, case.small, jnp.complex64)
    chex.assert_type(array, jnp.complex64)
    chex.assert_trees_all_equal(array.real, case.init(None, case.small))


def test_legacy_and_typed_keys_agree():
    for seed in (0, 7):
        typed = jaxinit.he_normal()(jax.random.key(seed), (4, 4))
        legacy = jaxinit.he_normal()(jax.random.PRNGKey(seed), (4, 4))
        assert bits(typed) == bits(legacy)


def test_the_key_decides():
    init = jaxinit.he_normal()
    one, other = (init(jax.random.key(seed), (4, 4)) for seed in (0, 1))
    assert bits(one) != bits(other)


def test_the_dtype_of_the_factory_is_the_default(key):
    init = jaxinit.normal(1.0, "float16")
    chex.assert_type(init(fresh(key), (3,)), jnp.float16)
    chex.assert_type(init(fresh(key), (3,), jnp.float32), jnp.float32)
    with jax.enable_x64(True):
        chex.assert_type(jaxinit.normal()(fresh(key), (3,)), jnp.float64)


def test_a_dtype_without_x64_is_narrowed_aloud(key):
    with pytest.warns(UserWarning, match="needs jax_enable_x64"):
        chex.assert_type(jaxinit.normal()(key, (3,), jnp.float64), jnp.float32)


def dense(case: Case) -> nn.Dense:
    return nn.Dense(8, kernel_init=case.init, bias_init=jaxinit.constant(0.5))


MATRICES = [c for c in CASES if len(c.small) == 2 and c.shape == (FAN_IN, FAN_OUT)]


@pytest.mark.parametrize("case", MATRICES, ids=ids)
def test_linen_takes_it(case):
    with jax.numpy_rank_promotion("allow"):  # Dense adds its bias by promotion
        shapes = jax.eval_shape(dense(case).init, jax.random.key(0), jnp.ones((1, 6)))
    chex.assert_shape(shapes["params"]["kernel"], (6, 8))
    chex.assert_type(shapes["params"]["kernel"], jnp.float32)


def test_linen_draws_it():
    with jax.numpy_rank_promotion("allow"):
        params = dense(MATRICES[0]).init(jax.random.key(0), jnp.ones((1, 6)))["params"]
    assert params["kernel"].std() > 0
    assert bool((params["bias"] == 0.5).all())


@pytest.mark.parametrize("case", MATRICES[:1], ids=ids)
def test_nnx_takes_it(case):
    layer = nnx.Linear(6, 8, kernel_init=case.init, rngs=nnx.Rngs(0))
    chex.assert_shape(layer.kernel[...], (6, 8))


def test_a_users_own_factory_is_no_less(key):
    @jaxinit.initializer
    def laplace(scale=1.0):
        def init(key, shape, dtype):
            return scale * jax.random.laplace(key, shape, dtype)

        return init

    narrow = laplace(0.5)(fresh(key), (64,), jnp.bfloat16)
    wide = laplace(0.5)(fresh(key), (64,))
    chex.assert_trees_all_equal(narrow, wide.astype(jnp.bfloat16))
    with pytest.raises(ValueError, match="states no law"):
        laplace().law((3,))
