# SPDX-License-Identifier: Apache-2.0
"""`jit_init` on models of Equinox and Haiku: the bits of `jax.jit`, fewer programs."""

import functools

import chex
import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import pytest

import jaxinit
from tests.helpers import fresh

QUICK = True  # the last places are held by test_jit_init_functions.py


@pytest.mark.thorough
def test_equinox(key):
    def init(key, depth):
        return eqx.filter(eqx.nn.MLP(8, 8, 8, depth, key=key), eqx.is_array)

    counts = []
    for depth in (5, 9):
        plain = functools.partial(init, depth=depth)
        ours = jaxinit.jit_init(plain)
        chex.assert_trees_all_equal(ours(fresh(key)), jax.jit(plain)(fresh(key)))
        counts.append(len(ours.lower(key)))
    assert counts[0] == counts[1] < 12  # six kernels and six biases, or ten and ten


@pytest.mark.thorough
def test_haiku(key):
    batch = jax.ShapeDtypeStruct((2, 8), jnp.float32)
    counts = []
    for depth in (6, 9):
        init = hk.transform(lambda x, depth=depth: hk.nets.MLP([8] * depth)(x)).init
        ours = jaxinit.jit_init(init)
        theirs = jax.jit(init)(fresh(key), jnp.ones(batch.shape))
        chex.assert_trees_all_equal(ours(fresh(key), batch), theirs)
        counts.append(len(ours.lower(fresh(key), batch)))
    assert counts[0] == counts[1] < 12
