# SPDX-License-Identifier: Apache-2.0
"""Law 5: the same numbers eagerly, under jit, under vmap and in a scan."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from tests.cases import RANDOM, Case, ids, one_a_program
from tests.helpers import bits, fresh

PROGRAMS = one_a_program(RANDOM)


def three_ways(case: Case, key: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
    """Four draws called by themselves, and within a program, of which three mapped."""

    @jax.jit
    def draw(keys):
        one, several = keys
        within = 1.0 * case.init(one, case.small)
        return within, jax.vmap(lambda k: case.init(k, case.small))(several)

    keys = jax.random.split(fresh(key), 3)
    within, mapped = draw((fresh(key), fresh(keys)))
    alone = [case.init(fresh(k), case.small) for k in (key, *keys)]
    chex.assert_type(alone, jnp.float32)
    chex.assert_tree_all_finite(alone)
    return alone, [within, *mapped]


@pytest.mark.parametrize("case", [c for c in PROGRAMS if not c.products], ids=ids)
def test_eagerly_under_jit_and_under_vmap(case, key):
    alone, together = three_ways(case, key)
    assert list(map(bits, alone)) == list(map(bits, together))


def test_scan_over_keys(key):
    keys = jax.random.split(fresh(key), 3)
    init = jaxinit.he_normal()
    _, scanned = jax.lax.scan(lambda c, k: (c, init(k, (4, 5))), 0, fresh(keys))
    one_by_one = [init(fresh(k), (4, 5)) for k in keys]
    assert bits(scanned) == b"".join(map(bits, one_by_one))


def test_without_jit(key):
    compiled = jaxinit.he_normal()(fresh(key), (8, 4))
    with jax.disable_jit():
        interpreted = jaxinit.he_normal()(fresh(key), (8, 4))
    chex.assert_trees_all_close(compiled, interpreted, rtol=1e-5)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_out_sharding(kind, key):
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType[kind],))
    plain = jaxinit.he_normal()(fresh(key), (8, 4))
    spec = PartitionSpec("x", None)
    with jax.set_mesh(mesh):
        by_spec = jaxinit.he_normal()(fresh(key), (8, 4), None, spec)
    by_name = jaxinit.he_normal()(fresh(key), (8, 4), None, NamedSharding(mesh, spec))
    for placed in (by_spec, by_name):
        assert bits(placed) == bits(plain)
        assert placed.sharding.is_equivalent_to(NamedSharding(mesh, spec), 2)


def test_out_sharding_without_a_mesh_is_refused(key):
    from jax.sharding import PartitionSpec

    with pytest.raises(ValueError, match="needs a mesh"):
        jaxinit.he_normal()(key, (8, 4), None, PartitionSpec("x"))
    with pytest.raises(TypeError, match="out_sharding must be"):
        jaxinit.he_normal()(key, (8, 4), None, "x")  # type: ignore[arg-type]


def test_sparse_by_key_alone(key):
    one, other = (jaxinit.sparse(0.5)(fresh(key), (9, 5)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert bool(jnp.any(one != jaxinit.sparse(0.5)(jax.random.key(1), (9, 5))))
