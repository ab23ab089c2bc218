# SPDX-License-Identifier: Apache-2.0
"""Law 1: an initializer is what every JAX library takes for one."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxinit
from tests.cases import CASES, FAN_IN, FAN_OUT, Case, ids
from tests.helpers import bits, fresh


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_shape_and_dtype(case, key):
    array = case.init(key, case.small)
    assert isinstance(case.init, jax.nn.initializers.Initializer)
    chex.assert_shape(array, case.small)
    chex.assert_type(array, jnp.float32)
    chex.assert_tree_all_finite(array)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_a_shape_with_a_zero_gives_an_empty_array(case, key):
    for axis in range(len(case.small)):
        shape = tuple(0 if i == axis else n for i, n in enumerate(case.small))
        if case.init.law(case.small).random or axis < len(shape) - 1:
            chex.assert_shape(case.init(fresh(key), shape), shape)


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


def kernels(case: Case) -> dict:
    """A Linen Dense layer's parameters, with the case for its kernel and bias."""
    layer = nn.Dense(8, kernel_init=case.init, bias_init=jaxinit.constant(0.5))
    with jax.numpy_rank_promotion("allow"):  # Dense adds its bias by promotion
        return layer.init(jax.random.key(0), jnp.ones((1, 6)))["params"]


MATRICES = [c for c in CASES if len(c.small) == 2 and c.shape == (FAN_IN, FAN_OUT)]


@pytest.mark.parametrize("case", MATRICES, ids=ids)
def test_linen_takes_it(case):
    params = kernels(case)
    chex.assert_shape(params["kernel"], (6, 8))
    assert bool((params["bias"] == 0.5).all())


@pytest.mark.parametrize("case", MATRICES[:3], ids=ids)
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
