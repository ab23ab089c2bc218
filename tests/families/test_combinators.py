# SPDX-License-Identifier: Apache-2.0
"""Scaled, stacked and fused initializers, over ours and anybody's."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from tests.helpers import bits, fresh

QUICK = True  # see conftest.py

OURS = jaxinit.he_normal()
THEIRS = jax.nn.initializers.he_normal()


@pytest.mark.parametrize("inner", [OURS, THEIRS], ids=["ours", "theirs"])
def test_scaled(inner, key):
    w = jaxinit.scaled(inner, -0.5)(fresh(key), (8, 4))
    chex.assert_trees_all_close(w, -0.5 * inner(fresh(key), (8, 4)), rtol=1e-6)


@pytest.mark.sweep
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("inner", [OURS, THEIRS], ids=["ours", "theirs"])
def test_stacked_slices_are_the_initializers_own(inner, axis, key):
    w = jaxinit.stacked(inner, axis)(fresh(key), (3, 4, 5))
    n = w.shape[axis]
    keys = jax.random.split(fresh(key), n)
    for i in range(n):
        one = jnp.take(w, i, axis)
        chex.assert_trees_all_close(one, inner(fresh(keys[i]), one.shape), rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_blocks_are_the_initializers_own(axis, key):
    w = jaxinit.blocks(OURS, 2, axis)(fresh(key), (4, 6))
    keys = jax.random.split(fresh(key), 2)
    for i, part in enumerate(jnp.split(w, 2, axis)):
        assert bits(part) == bits(OURS(fresh(keys[i]), part.shape))


def test_fused_gates_are_orthogonal_each(key):
    w = jaxinit.blocks(jaxinit.orthogonal(), 4)(fresh(key), (16, 64))
    fused = jaxinit.orthogonal()(fresh(key), (16, 64))
    for gate in jnp.split(w, 4, axis=1):
        chex.assert_trees_all_close(gate.T @ gate, jnp.eye(16), atol=1e-5)
    gate = fused[:, :16]
    assert float(abs(gate.T @ gate - jnp.eye(16)).max()) > 0.1  # what goes wrong


def test_the_law_of_a_stack_is_that_of_a_slice():
    stack = jaxinit.stacked(jaxinit.lecun_normal())
    assert stack.law((12, 64, 32)) == jaxinit.lecun_normal().law((64, 32))
    fused = jaxinit.blocks(jaxinit.glorot_normal(), 3)
    assert fused.law((64, 96)) == jaxinit.glorot_normal().law((64, 32))
    assert not jaxinit.stacked(THEIRS).states_law


def test_they_nest(key):
    init = jaxinit.stacked(jaxinit.blocks(jaxinit.scaled(jaxinit.ones, 3.0), 2))
    assert bool((init(fresh(key), (2, 3, 4)) == 3).all())
    assert bool((init(None, (2, 3, 4)) == 3).all())
    assert eval(repr(init), vars(jaxinit)) == init


def test_a_stack_is_what_a_scanned_layer_draws(key):
    """nn.scan splits its key and draws each layer's kernel on its own."""
    keys = jax.random.split(fresh(key), 4)
    layers = np.stack([OURS(fresh(k), (8, 8)) for k in keys])
    np.testing.assert_array_equal(jaxinit.stacked(OURS)(fresh(key), (4, 8, 8)), layers)
