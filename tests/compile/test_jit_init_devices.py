# SPDX-License-Identifier: Apache-2.0
"""`jit_init` on devices and under other transformations, always as `jax.jit`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxinit
from jaxinit import jit_init
from tests.compile.test_jit_init import described
from tests.compile.test_jit_init_functions import (
    CAPTURED,
    constants,
    nested,
    scanned,
    two_of_one,
)
from tests.helpers import compilations, fresh
from tests.models import LINEN

QUICK = True  # see conftest.py

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute")

# --- devices --------------------------------------------------------------------------


@pytest.fixture
def mesh():
    return mesh_of(AxisType.Auto)


def mesh_of(kind):
    return jax.make_mesh((2, 4), ("data", "model"), axis_types=(kind, kind))


def layers(key):
    a, b = random.split(key)
    return {
        "ours": {"kernel": jaxinit.he_normal()(a, (8, 16)), "bias": jnp.zeros(16)},
        "jax": {
            "kernel": jax.nn.initializers.lecun_normal()(b, (8, 16)),
            "scale": jnp.ones(16),
        },
    }


def shardings_of(tree):
    return jax.tree.map(lambda x: x.sharding, tree)


def assert_placed(made, wanted):
    """Each leaf lies as wanted, where a sharding is."""
    for x, sharding in zip(jax.tree.leaves(made), wanted, strict=True):
        if sharding is not None:
            assert x.sharding.is_equivalent_to(sharding, x.ndim)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_one_sharding_for_all(kind, key):
    each = NamedSharding(mesh_of(kind), P("model"))
    made = jit_init(layers, out_shardings=each)(fresh(key))
    assert_placed(made, [each] * 4)
    assert described(made) == described(jit_init(layers)(fresh(key)))


def test_a_prefix_of_shardings(mesh, key):
    rows, both = NamedSharding(mesh, P("data")), NamedSharding(mesh, P("data", "model"))
    tree = {"ours": {"kernel": both, "bias": None}, "jax": rows}
    made = jit_init(layers, out_shardings=tree)(fresh(key))
    assert_placed(made, [rows, rows, None, both])
    assert described(made) == described(jit_init(layers)(fresh(key)))


def test_shardings_of_linen_boxes(mesh, key):
    model, x = LINEN["partitioned"]
    tree = nn.get_sharding(jax.eval_shape(model.init, key, x), mesh)
    made = jit_init(model.init, out_shardings=tree)(fresh(key), x)
    assert_placed(made, jax.tree.leaves(tree))
    kernels = [x for x in jax.tree.leaves(made) if x.ndim == 2]
    assert all("model" in x.sharding.spec for x in kernels)
    assert described(made) == described(jit_init(model.init)(fresh(key), x))


def test_outputs_that_are_entangled_or_plain_are_placed(mesh, key):
    sharding = NamedSharding(mesh, P("model"))

    def init(key, x):
        a = random.normal(key, (8, 4))
        return a, jnp.tanh(a), a, x, CAPTURED, jnp.zeros(4)

    x = jnp.ones(4)
    made = jit_init(init, out_shardings=sharding)(fresh(key), x)
    wanted = jax.jit(init, out_shardings=sharding)(fresh(key), x)
    assert_placed(made, [sharding] * 6)
    assert described(made) == described(wanted)
    pointers = [x.addressable_shards[0].data.unsafe_buffer_pointer() for x in made]
    assert len(set(pointers)) == 6


def test_a_sharding_by_axes_of_the_mesh_in_use(mesh, key):
    with jax.set_mesh(mesh):
        made = jit_init(layers, out_shardings=P("data"))(fresh(key))
        wanted = jax.jit(layers, out_shardings=P("data"))(fresh(key))
    assert_placed(made, jax.tree.leaves(shardings_of(wanted)))
    assert described(made) == described(wanted)


def test_the_second_sharded_call_compiles_nothing(mesh, key):
    init = jit_init(layers, out_shardings=NamedSharding(mesh, P("data")))
    init(fresh(key))
    again = fresh(key)
    with compilations() as seen:
        init(again)
    assert not seen


def test_a_sharding_that_does_not_divide(mesh, key):
    sharding = NamedSharding(mesh, P("model"))
    init = jit_init(
        lambda key: {"odd": random.normal(key, (6,))}, out_shardings=sharding
    )
    with pytest.raises(ValueError, match=r"jit_init.*'odd'.*\(6,\)"):
        init(key)


def test_shardings_that_are_no_prefix(mesh, key):
    sharding = NamedSharding(mesh, P())
    init = jit_init(layers, out_shardings={"theirs": sharding})
    with pytest.raises(ValueError, match=r"jit_init.*prefix"):
        init(key)


def scratch(compiled):
    """The bytes of a program's temporary memory."""
    analysis = compiled.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


@pytest.mark.parametrize(
    "init",
    [
        jaxinit.he_uniform(),
        jaxinit.lecun_normal(dtype=jnp.bfloat16),
        jax.nn.initializers.normal(),
        jax.nn.initializers.lecun_normal(),
    ],
    ids=lambda init: repr(init).split(" at ")[0],
)
def test_sharded_draws_need_no_communication_and_no_memory(init, mesh, key):
    sharding = NamedSharding(mesh, P("data", "model"))
    made = jit_init(lambda key: init(key, (2048, 2048)), out_shardings=sharding)
    (program,) = made.lower(key)
    compiled = program.compile()
    assert not any(name in (compiled.as_text() or "") for name in COLLECTIVES)
    assert scratch(compiled) <= 2**20


def test_draws_need_no_memory(key):
    def init(key):
        a, b, c = random.split(key, 3)
        return (
            jaxinit.he_normal()(a, (1024, 1024)),
            jax.nn.initializers.he_uniform()(b, (1024, 1024)),
            random.normal(c, (1024, 1024)),
        )

    made = jit_init(init).lower(key)
    assert len(made) == 3
    for each in made:
        assert scratch(each.compile()) <= 2**20


def everywhere(mesh):
    return NamedSharding(mesh, P())


def various(key):
    a, b = random.split(key)
    draw = random.normal(a, (4,))
    return constants(key) | {"draw": draw, "tanh": jnp.tanh(draw), "key": b}


def places(tree):
    return [(x.devices(), x.committed) for x in jax.tree.leaves(tree)]


@pytest.mark.sweep
@pytest.mark.parametrize("fn", [layers, various])
@pytest.mark.parametrize(
    "place", [lambda mesh: jax.devices()[3], everywhere], ids=["device 3", "mesh"]
)
def test_outputs_lie_where_jit_puts_them(fn, place, mesh, key):
    key = jax.device_put(key, place(mesh))
    made, wanted = jit_init(fn)(fresh(key)), jax.jit(fn)(fresh(key))
    assert places(made) == places(wanted)
    assert described(made) == described(wanted)


@pytest.mark.parametrize("fn", [layers, various])
def test_the_default_device_is_heeded(fn, key):
    init = jit_init(fn)
    assert places(init(fresh(key))) == places(jax.jit(fn)(fresh(key)))
    with jax.default_device(jax.devices()[2]):
        assert places(init(fresh(key))) == places(jax.jit(fn)(fresh(key)))


# --- under other transformations ------------------------------------------------------


@pytest.mark.sweep
@pytest.mark.parametrize("fn", [layers, nested, two_of_one, scanned, constants])
def test_under_jit(fn, key):
    init = jax.jit(jit_init(fn))
    assert described(init(fresh(key))) == described(jax.jit(fn)(fresh(key)))


@pytest.mark.parametrize("fn", [layers, nested, two_of_one])
def test_under_vmap(fn, key):
    keys = random.split(key, 3)
    made = jax.vmap(jit_init(fn))(fresh(keys))
    assert described(made) == described(jax.vmap(jax.jit(fn))(fresh(keys)))


@pytest.mark.parametrize("name", ["gpt2", "partitioned", "resnet"])
def test_under_eval_shape(name, key):
    model, x = LINEN[name]
    made = jax.eval_shape(jit_init(model.init), key, x)
    assert made == jax.eval_shape(model.init, key, x)


def test_sharded_under_jit(mesh, key):
    sharding = NamedSharding(mesh, P("data"))
    made = jax.jit(jit_init(layers, out_shardings=sharding))(fresh(key))
    assert described(made) == described(jax.jit(layers)(fresh(key)))


def test_around_a_traced_key(key):
    """The function holds a tracer, and its arguments are none."""

    def outer(key):
        return jit_init(lambda: layers(key))()

    made = jax.jit(outer)(fresh(key))
    assert described(made) == described(jax.jit(layers)(fresh(key)))


def test_around_a_derivative(key):
    def loss(scale):
        return jnp.sum(jit_init(lambda key: scale * random.normal(key, (3,)))(key) ** 2)

    wanted = jnp.sum(2 * random.normal(fresh(key), (3,)) ** 2)
    np.testing.assert_allclose(jax.grad(loss)(1.0), wanted, rtol=1e-6)
