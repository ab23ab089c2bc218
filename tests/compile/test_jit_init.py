# SPDX-License-Identifier: Apache-2.0
"""`jit_init` gives the arrays of `jax.jit`, with few programs, each compiled once.

The standard is always `jax.jit(fn)` on the same arguments: the tree, the dtypes, the
bits, the devices. The programs are counted by what `lower` returns, compilations by
JAX's own monitor.
"""

import chex
import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax, random
from jax.experimental import io_callback

import jaxinit
from jaxinit import jit_init
from tests.helpers import AS_USERS, bits, fresh
from tests.models import GPT2, LINEN, NNX, TOKENS

QUICK = not AS_USERS  # see conftest.py


def is_key(x):
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def described(tree):
    """All that must be the same: the tree, and each leaf's type and bits."""
    leaves, structure = jax.tree.flatten(tree)
    assert all(isinstance(x, jax.Array) for x in leaves)
    return structure, [
        (x.shape, x.dtype, bits(random.key_data(x)))
        if is_key(x)
        else (x.shape, x.dtype, x.weak_type, bits(x))
        for x in leaves
    ]


def again(tree):
    """The same arguments once more; keys are cloned."""
    return jax.tree.map(
        lambda x: fresh(x) if isinstance(x, jax.Array) and is_key(x) else x, tree
    )


def assert_same(fn, *args):
    """`jit_init(fn)` gives what `jax.jit(fn)` gives; returns it."""
    made = jit_init(fn)(*again(args))
    assert described(made) == described(jax.jit(fn)(*again(args)))
    return made


def batch(x):
    return jnp.zeros(x.shape, x.dtype)


def programs(fn, *args):
    return len(jit_init(fn).lower(*args))


def nnx_init(constructor):
    return lambda key: nnx.split(constructor(nnx.Rngs(key)))[1]


# --- models ---------------------------------------------------------------------------


def shallow(name):
    """A model of one block; two equal ones are shown once, by GPT-2."""
    model, x = LINEN[name]
    if name != "gpt2" and "depth" in model.__dataclass_fields__:
        model = model.clone(depth=1)
    return model, x


@pytest.mark.sweep
@pytest.mark.parametrize("name", LINEN)
def test_a_linen_model_is_that_of_jit(name, key):
    model, x = shallow(name)
    wanted = described(jax.jit(model.init)(fresh(key), batch(x)))
    init = jit_init(model.init)
    assert described(init(fresh(key), x)) == wanted
    assert described(init(fresh(key), batch(x))) == wanted


@pytest.mark.parametrize("name", NNX)
def test_an_nnx_model_is_that_of_jit(name, key):
    state = assert_same(nnx_init(NNX[name]), key)
    if any(map(is_key, leaves := jax.tree.leaves(state))):  # of the dropout's stream
        assert any(x.dtype == jnp.uint32 for x in leaves)  # and its counter
    else:
        assert name == "convolutional"


class Dropped(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(4, 3, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)


def test_an_nnx_model_with_streams_of_keys(key):
    def init(params, dropout):
        return nnx.state(Dropped(nnx.Rngs(params=params, dropout=dropout)))

    assert_same(init, *random.split(key))


def test_a_seed_within_the_function():
    assert_same(lambda: nnx.state(Dropped(nnx.Rngs(0))))


def test_a_seed_as_the_argument():
    def init(seed):
        key, sub = random.split(random.key(seed))
        return random.normal(key, (3,)), random.normal(sub, (3,))

    assert_same(init, 7)
    assert_same(init, np.uint32(7))


@pytest.mark.parametrize("name", ["partitioned", "experts"])
def test_legacy_keys(name):
    model, x = shallow(name)
    key = random.PRNGKey(3)
    wanted = described(jax.jit(model.init)(key, batch(x)))
    assert described(jit_init(model.init)(key, x)) == wanted
    assert described(jit_init(model.init)(np.asarray(key), x)) == wanted


@pytest.mark.parametrize("name", ["partitioned", "experts"])
def test_a_dict_of_keys(name, key):
    model, x = shallow(name)
    params, dropout = random.split(key)
    assert_same(model.init, {"params": params, "dropout": dropout}, batch(x))


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("name", "impl"),
    [("partitioned", "rbg"), ("experts", "rbg"), ("experts", "unsafe_rbg")],
)
def test_other_kinds_of_keys(name, impl):
    model, x = shallow(name)
    assert_same(model.init, random.key(0, impl=impl), batch(x))


def test_double_precision(key):
    def init(key):
        a, b, c = random.split(key, 3)
        return {
            "ours": jaxinit.he_normal()(a, (4, 4)),
            "jax": jax.nn.initializers.lecun_normal()(b, (4, 4), float),
            "integers": random.randint(c, (3,), 0, 9, int),
        }

    made = jit_init(init)
    narrow = described(made(fresh(key)))
    with jax.enable_x64(True):
        wide = described(made(fresh(key)))
        assert wide == described(jax.jit(init)(fresh(key)))
    assert described(made(fresh(key))) == narrow != wide


def test_the_stream_that_is_not_partitionable(key):
    def init(key):
        a, b = random.split(key)
        return jaxinit.he_normal()(a, (4, 6)), random.normal(b, (4, 6))

    made = jit_init(init)
    first = described(made(fresh(key)))
    with jax.threefry_partitionable(False):
        other = described(made(fresh(key)))
        assert other == described(jax.jit(init)(fresh(key)))
    assert described(made(fresh(key))) == first != other


# --- what is not run ------------------------------------------------------------------


def test_the_programs_hold_no_forward_pass(key):
    def products(init):
        return sum("dot_general" in x.as_text() for x in init.lower(key, TOKENS))

    assert products(jit_init(GPT2().init)) == 0
    assert products(jit_init(GPT2().init_with_output)) == 1


def test_side_effects_of_the_forward_pass_do_not_happen(key):
    seen: list[jax.Array] = []

    class Watched(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.Dense(3)(x)
            jax.debug.callback(seen.append, h)
            return nn.Dense(2)(h)

    x = jnp.ones((2, 4))
    jax.block_until_ready(jit_init(Watched().init)(fresh(key), x))
    jax.effects_barrier()
    assert not seen
    jax.block_until_ready(jax.jit(Watched().init)(fresh(key), x))
    jax.effects_barrier()
    assert seen


def test_a_forward_pass_that_fails_does_no_harm(key):
    def fail(_):
        raise AssertionError("the forward pass ran")

    class Broken(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.Dense(3)(x)
            kind = jax.ShapeDtypeStruct(h.shape, h.dtype)
            return nn.Dense(2)(jax.pure_callback(fail, kind, h))

    class Sound(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.Dense(3)(x)
            return nn.Dense(2)(h)

    x = jnp.ones((2, 4))
    wanted = described(jax.jit(Sound().init)(fresh(key), x))
    assert described(jit_init(Broken().init)(fresh(key), x)) == wanted


# --- outputs that depend on data and on each other ------------------------------------


def normalised(key, x):
    """A scale from the data, as in Salimans and Kingma's initialisation."""
    a, b = random.split(key)
    kernel = 0.05 * random.normal(a, (x.shape[-1], 4))
    y = x @ kernel
    scale = 1 / y.std(0)
    free = jaxinit.he_normal()(b, (4, 4))
    return {"kernel": kernel, "scale": scale, "bias": -y.mean(0) * scale, "free": free}


def test_outputs_may_depend_on_the_batch(key):
    a, b = random.split(key)
    made = assert_same(normalised, a, random.normal(b, (16, 6)))
    assert jnp.isfinite(made["scale"]).all()
    assert programs(normalised, fresh(a), jnp.ones((16, 6))) == 3


def averaged(key, x):
    """Running averages of the batch behind each convolution, as in Haiku."""
    layers = []
    for k in random.split(key, 4):
        kernel = jaxinit.he_normal()(k, (3, 3, x.shape[-1], 8))
        x = lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        scale = lax.rsqrt(variance + 1e-5)
        x = jax.nn.relu((x - mean[None, None, None]) * scale[None, None, None])
        layers.append((kernel, 0.1 * mean, 0.1 * variance + 0.9, jnp.zeros(8)))
    dense = random.normal(random.fold_in(fresh(key), 9), (8, 5))
    return layers, dense, (x.mean((1, 2)) @ dense).mean(0)


@pytest.mark.parametrize("size", [(2, 32, 32, 3), (1, 16, 16, 3)])
def test_draws_stand_alone_where_averages_depend_on_the_batch(size, key):
    a, b = random.split(key)
    assert_same(averaged, a, random.normal(b, size))


def test_a_running_average_is_one_program_beside_the_draws(key):
    x = jnp.ones((2, 32, 32, 3))
    made = [each.as_text() for each in jit_init(averaged).lower(key, x)]
    assert len(made) == 5  # two kinds of kernels, the dense one, the averages, zeros
    (averages,) = [text for text in made if "convolution" in text]
    assert "shift_left" not in averages and "threefry" not in averages


def test_what_else_reads_a_kernel_is_drawn_with_it(key):
    """A kernel that is normalised, or meets a single row, is fused with its draw."""

    def init(key, x):
        a, b, c, d = random.split(key, 4)
        kernel, other = random.normal(a, (6, 4)), random.normal(b, (6, 4))
        chain, last = random.normal(c, (6, 6)), random.normal(d, (6, 6))
        normal = kernel / jnp.linalg.norm(kernel, axis=0, keepdims=True)
        product = chain @ last
        return kernel, x @ normal, other, x[:1] @ other, chain, last, product @ chain

    assert_same(init, key, random.normal(fresh(key), (16, 6)))


def test_cuts_leave_an_order(key):
    """A product of a draw, itself an output that a product reads."""

    def init(key):
        first, second = random.normal(key, (2, 32, 32))
        product = first @ second
        return first, product, product @ second

    assert_same(init, key)


def test_an_output_of_the_model_may_be_wanted(key):
    model, x = LINEN["partitioned"]
    a, b = random.split(key)
    assert_same(model.init_with_output, a, random.normal(b, x.shape))


def test_a_batch_that_is_needed_cannot_be_a_shape(key):
    x = jax.ShapeDtypeStruct((16, 6), jnp.float32)
    jit_init(lambda key, x: normalised(key, x)["kernel"])(fresh(key), x)
    with pytest.raises(TypeError, match=r"argument .* ShapeDtypeStruct"):
        jit_init(lambda key, x: normalised(key, x)["scale"])(key, x)


def test_an_input_that_is_an_output_cannot_be_a_shape(key):
    with pytest.raises(TypeError, match=r"argument .* ShapeDtypeStruct"):
        jit_init(lambda key, x: x)(key, TOKENS)


# --- errors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fn", [None, 3, {"init": jit_init}], ids=lambda x: type(x).__name__
)
def test_what_is_no_function(fn):
    with pytest.raises(TypeError, match="jit_init: fn must be a function"):
        jit_init(fn)


def test_what_is_no_array(key):
    def init(key):
        return {"name": "dense", "x": random.normal(key, (3,))}

    words = r"jit_init: .*output\['name'\] is of type str: 'dense'; return the arrays"
    with pytest.raises(TypeError, match=words):
        jit_init(init)(key)


def test_a_model_of_equinox(key):
    def init(key):
        return eqx.nn.MLP(2, 2, 4, 1, key=key)

    words = r"output.activation is of type .*eqx.filter\(model, eqx.is_array\)"
    with pytest.raises(TypeError, match=words):
        jit_init(init)(key)
    assert_same(lambda key: eqx.filter(init(key), eqx.is_array), key)


@pytest.mark.parametrize("kind", [TypeError, ValueError, KeyError, AttributeError])
def test_the_errors_of_the_function_are_its_own(kind, key):
    error = kind("of the user")

    def init(key):
        raise error

    with pytest.raises(kind) as caught:
        jit_init(init)(key)
    assert caught.value is error


def test_a_side_effect_that_an_output_needs(key):
    def init(key):
        kind = jax.ShapeDtypeStruct((3,), jnp.float32)
        return io_callback(lambda: np.ones(3, np.float32), kind)

    with pytest.raises(TypeError, match="pure"):
        jit_init(init)(key)


def test_a_pure_callback_is_no_side_effect(key):
    def init(key):
        kind = jax.ShapeDtypeStruct((3,), jnp.float32)
        return jax.pure_callback(np.square, kind, random.normal(key, (3,)))

    assert_same(init, key)


def test_a_wrong_argument(key):
    model, _ = LINEN["gpt2"]
    with pytest.raises(TypeError):
        jit_init(model.init)(key)


def test_keys_that_are_used_twice_are_found(key):
    def init(key):
        return random.normal(key, (3,)), random.normal(key, (4,))

    with pytest.raises(jax.errors.KeyReuseError):
        jit_init(init)(key)


@pytest.mark.parametrize("where", ["network.traces.graph", "compile.plan.Plan.run"])
@pytest.mark.parametrize("error", [AttributeError, KeyError, TypeError, ValueError])
def test_a_trace_that_cannot_be_read_is_compiled_whole(where, error, key, monkeypatch):
    """The way out if JAX changes its traces: loud, and the same arrays."""

    def init(key, x):
        return [jax.random.normal(jax.random.fold_in(key, i), (3,)) for i in range(2)]

    def unreadable(*_):
        raise error("no such thing in a trace")

    monkeypatch.setattr(f"jaxinit.{where}", unreadable)
    ours, x = jit_init(init), jnp.zeros(2)
    with pytest.warns(RuntimeWarning, match="cannot read the traces of this JAX"):
        drawn = ours(fresh(key), x)
    chex.assert_trees_all_equal(drawn, jax.jit(init)(fresh(key), x))
    ours(fresh(key), x)  # and is not tried again
    assert len(ours.lower(key, x)) == 1
    with pytest.raises(TypeError, match="an argument is a ShapeDtypeStruct; pass"):
        ours(fresh(key), jax.ShapeDtypeStruct((2,), jnp.float32))


def test_a_loop_that_cannot_be_taken_apart_stays_whole(key, monkeypatch):
    def init(key):
        def body(carry, key):
            first, second = jax.random.split(key)
            return carry, (jax.random.normal(first), jax.random.uniform(second))

        return jax.lax.scan(body, 0, jax.random.split(key, 4))[1]

    assert len(jit_init(init).lower(fresh(key))) == 2
    monkeypatch.setattr("jaxinit.network.traces.dce_jaxpr", None)
    ours = jit_init(init)
    assert len(ours.lower(fresh(key))) == 1
    chex.assert_trees_all_equal(ours(fresh(key)), jax.jit(init)(fresh(key)))
