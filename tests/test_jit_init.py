# SPDX-License-Identifier: Apache-2.0
"""`jit_init` gives the arrays of `jax.jit`, with few programs, each compiled once.

The standard is always `jax.jit(fn)` on the same arguments: the tree, the dtypes, the
bits, the devices. The programs are counted by what `lower` returns, compilations by
JAX's own monitor.
"""

import contextlib
import functools
import gc
import inspect

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax, random
from jax.experimental import io_callback
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxinit
from jaxinit import jit_init
from tests.helpers import bits, fresh
from tests.models import GPT2, LINEN, NNX, TOKENS, Transformer

COMPILED = "/jax/core/compile/backend_compile_duration"
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute")


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


@contextlib.contextmanager
def compilations():
    """The list of the compilations within."""
    seen: list[float] = []

    def listen(event: str, duration_secs: float, **_: object) -> None:
        if event == COMPILED:
            seen.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def nnx_init(constructor):
    return lambda key: nnx.split(constructor(nnx.Rngs(key)))[1]


# --- models ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", LINEN)
def test_a_linen_model_is_that_of_jit(name, key):
    model, x = LINEN[name]
    wanted = described(jax.jit(model.init)(fresh(key), batch(x)))
    init = jit_init(model.init)
    assert described(init(fresh(key), x)) == wanted
    assert described(init(fresh(key), batch(x))) == wanted


@pytest.mark.parametrize("name", NNX)
def test_an_nnx_model_is_that_of_jit(name, key):
    assert_same(nnx_init(NNX[name]), key)


def test_an_nnx_state_has_its_keys_and_counters(key):
    state = assert_same(nnx_init(Transformer), key)
    leaves = jax.tree.leaves(state)
    assert any(map(is_key, leaves))
    assert any(x.dtype == jnp.uint32 for x in leaves)


def test_an_nnx_model_with_streams_of_keys(key):
    def init(params, dropout):
        return nnx.state(Transformer(nnx.Rngs(params=params, dropout=dropout)))

    assert_same(init, *random.split(key))


def test_a_seed_within_the_function():
    assert_same(lambda: nnx.state(Transformer(nnx.Rngs(0))))


def test_a_seed_as_the_argument():
    def init(seed):
        key, sub = random.split(random.key(seed))
        return random.normal(key, (3,)), random.normal(sub, (3,))

    assert_same(init, 7)
    assert_same(init, np.uint32(7))


@pytest.mark.parametrize("name", ["gpt2", "experts"])
def test_legacy_keys(name):
    model, x = LINEN[name]
    key = random.PRNGKey(3)
    wanted = described(jax.jit(model.init)(key, batch(x)))
    assert described(jit_init(model.init)(key, x)) == wanted
    assert described(jit_init(model.init)(np.asarray(key), x)) == wanted


@pytest.mark.parametrize("name", ["resnet", "remat"])
def test_a_dict_of_keys(name, key):
    model, x = LINEN[name]
    params, dropout = random.split(key)
    assert_same(model.init, {"params": params, "dropout": dropout}, batch(x))


@pytest.mark.parametrize(
    ("name", "impl"), [("lstm", "rbg"), ("experts", "rbg"), ("experts", "unsafe_rbg")]
)
def test_other_kinds_of_keys(name, impl):
    model, x = LINEN[name]
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


# --- functions ------------------------------------------------------------------------

CAPTURED = jax.random.uniform(jax.random.key(5), (4, 3))
LARGE = np.linspace(0.0, 1.0, 20_000, dtype=np.float32)


def chain(key):
    layers = []
    for _ in range(5):
        key, sub = random.split(key)
        layers.append(random.normal(sub, (4, 3)))
    return layers, key


def many(key):
    return [jaxinit.he_normal()(each, (4, 3)) for each in random.split(key, 7)]


def grid(key):
    keys = random.split(key, (2, 3))
    return [random.normal(keys[i, j], (4,)) for i in range(2) for j in range(-3, 0)]


def strided(key):
    keys = random.split(key, 9)
    return [jax.vmap(random.normal)(keys[i::3]) for i in range(3)]


def halved_keys(key):
    """Keys by halves."""
    keys = random.split(key, 6)
    draw = jax.vmap(lambda k: random.normal(k, (4,)))
    return draw(keys[:3]), draw(keys[3:])


def folded(key):
    return {
        f"layer{i}": {
            "kernel": jaxinit.lecun_normal()(random.fold_in(key, i), (4, 3)),
            "bias": jnp.zeros(3),
        }
        for i in range(6)
    }


def folded_twice(key):
    for i in range(4):
        key = random.fold_in(random.fold_in(key, i), 2**31 + i)
    return random.normal(key, (4,)), random.normal(random.fold_in(key, 1), (4,))


def samplers(key):
    keys = iter(random.split(key, 16))
    return {
        "orthogonal": random.orthogonal(next(keys), 5),
        "permutation": random.permutation(next(keys), 20),
        "choice": random.choice(next(keys), 20, (4,), replace=False),
        "categorical": random.categorical(next(keys), jnp.zeros((3, 4))),
        "randint": random.randint(next(keys), (5,), 0, 7),
        "bernoulli": random.bernoulli(next(keys), 0.3, (9,)),
        "truncated": random.truncated_normal(next(keys), -1.0, 1.0, (5,)),
        "complex": random.normal(next(keys), (5,), jnp.complex64),
        "half": random.normal(next(keys), (5,), jnp.bfloat16),
        "bits": random.bits(next(keys), (5,), jnp.uint8),
    }


def jaxinits(key):
    keys = iter(random.split(key, 16))
    return [
        jaxinit.orthogonal()(next(keys), (6, 4)),
        jaxinit.delta_orthogonal()(next(keys), (3, 3, 4, 4)),
        jaxinit.sparse(0.5)(next(keys), (8, 6)),
        jaxinit.normal(0.1, jnp.bfloat16)(next(keys), (6, 4)),
        jaxinit.blocks(jaxinit.glorot_uniform(), 2)(next(keys), (4, 6)),
        jax.nn.initializers.orthogonal()(next(keys), (6, 4)),
        jax.nn.initializers.he_uniform()(next(keys), (6, 4)),
    ]


def scanned(key):
    def layer(x, key):
        a, b = random.split(key)
        kernel, bias = random.normal(a, (4, 4)), random.uniform(b, (4,))
        return x @ kernel + bias, {"kernel": kernel, "bias": bias}

    return lax.scan(layer, jnp.ones(4), random.split(key, 3))[1]


def carried(key):
    def layer(key, i):
        key, a, b = random.split(key, 3)
        return key, (random.normal(a, (4,)), random.normal(random.fold_in(b, i), (2,)))

    return lax.scan(layer, key, jnp.arange(3))


def loop(key):
    def body(i, rows):
        return rows.at[i].set(random.normal(random.fold_in(key, i), (4,)))

    return lax.fori_loop(0, 3, body, jnp.zeros((3, 4)))


def chosen(key):
    a, b = random.split(key)
    coin = random.bernoulli(a)
    return lax.cond(coin, lambda: random.normal(b, (4,)), lambda: jnp.zeros(4))


def mapped(key):
    init = jaxinit.he_normal()
    return jax.vmap(lambda key: init(key, (4, 4)))(random.split(key, 3))


def nested(key):
    @functools.partial(jax.jit, static_argnames="width")
    def dense(key, width):
        a, b = random.split(key)
        return {"kernel": draw(a, width), "bias": draw(b, 1)}

    @functools.partial(jax.jit, static_argnums=1)
    def draw(key, width):
        return random.normal(key, (4, width))

    keys = random.split(key, 3)
    return [dense(keys[0], width=3), dense(keys[1], width=3), draw(keys[2], 3)]


def derivatives(key):
    def loss(w):
        return jnp.sum(jax.nn.relu(w) * jax.checkpoint(jnp.sin)(w))

    return jax.grad(loss)(random.normal(key, (5,)))


def nearly_equal(key):
    """Draws that differ in one number, or one kind of number."""
    draws = random.split(key, 10)
    captured, turned = CAPTURED, CAPTURED[::-1]
    return [
        0.1 * random.normal(draws[0], (4, 3)),
        0.2 * random.normal(draws[1], (4, 3)),
        random.normal(draws[2], (4, 3)) * captured,
        random.normal(draws[3], (4, 3)) * turned,
        random.normal(draws[4], (20_000,)) * LARGE,
        random.normal(draws[5], (20_000,)) * LARGE[::-1],
        random.randint(draws[6], (3,), 0, 5),
        random.randint(draws[7], (3,), 0, 6),
        random.normal(draws[8], (4, 3)) + 1.0,
        random.normal(draws[9], (4, 3)) - 1.0,
        *(jnp.full((3,), i) for i in range(4)),
        *(jnp.full((3,), float(i)) for i in range(4)),
    ]


def numbered(key):
    """The number that is folded in is also a part of the value."""
    out = []
    for i in range(4):
        n = jnp.int32(i)
        out.append(random.normal(random.fold_in(key, n), (3,)) * n.astype(jnp.float32))
    return out


def keys_alone(key):
    a, b = random.split(key)
    return {"a": a, "more": random.split(b, 3), "data": random.key_data(fresh(a))}


def key_and_draw(key):
    a, b = random.split(key)
    return a, random.normal(fresh(a), (3,)), random.fold_in(b, 2)


def constants(key):
    return {
        "integer": 3,
        "float": 1.5,
        "flag": True,
        "numpy": np.float32(2.0),
        "array": np.arange(4),
        "captured": CAPTURED,
        "zeros": jnp.zeros((3, 2)),
        "range": jnp.arange(5),
        "eye": jnp.eye(3),
        "half": jnp.ones(3, jnp.bfloat16),
    }


def absent(key):
    return {"none": None, "empty": {}, "list": [None, random.normal(key, (3,)), ()]}


def empty(key):
    return {}


def no_elements(key):
    return random.normal(key, (0, 3)), jnp.zeros((2, 0))


def one_draw_in_two(key):
    return jnp.split(random.normal(key, (4, 6)), 2, axis=1)


def two_of_one(key):
    a = random.normal(key, (4, 6))
    return a, jnp.tanh(a), (a / jnp.linalg.norm(a)).astype(jnp.bfloat16)


def reversible(key):
    """Three outputs, of which the last needs the others, and one that stands alone."""
    a, b, c = random.split(key, 3)
    left, right = random.normal(a, (4, 4)), random.normal(b, (4, 4))
    return left, right, left @ right, random.normal(c, (4, 4))


def rearranged(key):
    """Draws that XLA reads in other loops than those over the shape that is drawn."""
    keys = iter(random.split(key, 7))
    uniform = random.uniform(next(keys), (5, 3, 20))
    truncated = random.truncated_normal(next(keys), -2.0, 2.0, (40, 40))
    return [
        random.normal(next(keys), (40, 24)).reshape(40, 8, 3),
        truncated.reshape(40, 8, 5),
        jnp.swapaxes(random.normal(next(keys), (5, 3, 20)), -1, -2),
        uniform / jnp.linalg.norm(uniform, axis=0, keepdims=True),
        random.normal(next(keys), (8, 96)).reshape(8, 3, 32),
        random.uniform(next(keys), (16, 16)).T.reshape(4, 4, 16),
        jax.vmap(lambda k: random.normal(k, (3,)))(random.split(next(keys), 40)),
    ]


def weak(key):
    return random.bernoulli(key).astype(jnp.float32), jnp.asarray(2.0), 1, 2.0 * 3


FUNCTIONS = [
    absent,
    carried,
    chain,
    chosen,
    constants,
    derivatives,
    empty,
    folded,
    folded_twice,
    grid,
    halved_keys,
    jaxinits,
    key_and_draw,
    keys_alone,
    loop,
    many,
    mapped,
    nearly_equal,
    nested,
    no_elements,
    numbered,
    one_draw_in_two,
    rearranged,
    reversible,
    samplers,
    scanned,
    strided,
    two_of_one,
    weak,
]


@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: fn.__name__)
def test_a_function_is_that_of_jit(fn, key):
    assert_same(fn, key)


@pytest.mark.parametrize("fn", [chain, many, folded, nested], ids=lambda f: f.__name__)
def test_a_function_of_legacy_keys_is_that_of_jit(fn):
    assert_same(fn, random.PRNGKey(1))


def test_the_comparison_finds_the_nearest_wrong_answer(key):
    right, wrong = jnp.float32(0.1), jnp.nextafter(jnp.float32(0.1), jnp.float32(1.0))
    assert described([right]) == described([jnp.float32(0.1)])
    assert described([right]) != described([wrong])
    assert described([jnp.float32(2)]) != described([jnp.asarray(2.0)])  # a weak type
    assert described((right,)) != described([right])
    assert described(key) != described(random.fold_in(key, 1))


@pytest.mark.parametrize(
    "x", [np.ones(3, np.float32), np.arange(3), 2.0, 3, True, jnp.ones(3)], ids=repr
)
def test_an_input_may_be_an_output(x, key):
    def init(key, x):
        return {"input": x, "twice": x, "draw": random.normal(key, (3,)), "key": key}

    assert_same(lambda key, x: init(fresh(key), x) | {"key": key}, key, x)


def test_arguments_by_name(key):
    def init(key, *, sizes, scale=1.0):
        keys = random.split(key, len(sizes))
        each = zip(keys, sizes.values(), strict=True)
        return [scale * random.normal(k, x.shape) for k, x in each]

    sizes = {"a": jax.ShapeDtypeStruct((3,), jnp.float32), "b": jnp.ones((2, 2))}
    arrays = jax.tree.map(batch, sizes)
    wanted = described(jax.jit(init)(fresh(key), sizes=arrays, scale=2.0))
    assert described(jit_init(init)(fresh(key), sizes=sizes, scale=2.0)) == wanted


def test_a_name_and_a_docstring_are_kept():
    made = jit_init(halved_keys)
    assert inspect.unwrap(made) is halved_keys
    assert inspect.getdoc(made) == inspect.getdoc(halved_keys)


KEPT = jnp.full((4, 3), 2.5)


def donate(tree):
    """Give up the buffers of a tree; JAX refuses to give up one twice."""
    with jax.debug_key_reuse(False):
        jax.block_until_ready(
            jax.jit(lambda *xs: [x + 1 for x in xs], donate_argnums=(0, 1))(*tree)
        )


@pytest.mark.parametrize(
    "fn",
    [
        lambda key: (random.normal(key, (4, 3)),) * 2,
        lambda key: (jnp.zeros((4, 3)),) * 2,
        lambda key: (jnp.zeros((4, 3)), jnp.zeros((4, 3))),
        lambda key: (KEPT, KEPT),
        lambda key: (random.normal(key, (4, 3)), KEPT),
    ],
    ids=["draw", "zeros", "two zeros", "captured", "draw and captured"],
)
def test_every_output_may_be_donated(fn, key):
    init = jit_init(fn)
    first, second = init(fresh(key))
    wanted = bits(first), bits(second)
    assert first.unsafe_buffer_pointer() != second.unsafe_buffer_pointer()
    donate((first, second))
    assert first.is_deleted()
    assert second.is_deleted()
    assert not KEPT.is_deleted()
    assert tuple(map(bits, init(fresh(key)))) == wanted


# --- programs -------------------------------------------------------------------------


def gpt2(depth):
    return GPT2(depth=depth).init


def test_deep_models_have_the_programs_of_shallow_ones(key):
    def scaled(depth):
        return nnx_init(functools.partial(Transformer, depth=depth))

    assert programs(gpt2(2), key, TOKENS) == programs(gpt2(6), key, TOKENS) <= 12
    assert programs(scaled(2), key) == programs(scaled(5), key) <= 12


def test_equal_parameters_of_a_loop_over_layers_are_one_program(key):
    model, x = LINEN["scanned"]
    made = [each.as_text() for each in jit_init(model.init).lower(key, x)]
    assert len(made) == len(set(made))


@pytest.mark.parametrize(
    ("fn", "number"),
    [(many, 1), (grid, 1), (folded, 1), (chain, 1), (halved_keys, 1)],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_equal_draws_are_one_program(fn, number, key):
    assert programs(fn, key) == number


def test_different_draws_are_different_programs(key):
    def init(key):
        keys = random.split(key, 6)
        return [
            0.1 * random.normal(keys[0], (4, 3)),
            0.2 * random.normal(keys[1], (4, 3)),
            random.normal(keys[2], (4, 3)) + 1.0,
            random.normal(keys[3], (4, 3)) - 1.0,
            random.randint(keys[4], (3,), 0, 5),
            random.randint(keys[5], (3,), 0, 6),
        ]

    assert programs(init, key) == 6


@pytest.mark.parametrize("name", ["gpt2", "experts", "resnet"])
def test_lower_takes_shapes_alone(name, key):
    model, x = LINEN[name]
    shape = jax.ShapeDtypeStruct(key.shape, key.dtype)
    assert programs(model.init, shape, x) == programs(model.init, key, batch(x))


def test_each_program_is_compiled_once(key):
    def init(key):
        return [random.normal(random.fold_in(key, i), (3, 211 + i)) for i in range(2)]

    init = jit_init(init)
    first, second = random.split(key)
    with compilations() as seen:
        init(first)
    assert 2 <= len(seen) <= 3  # two draws, and the keys if no test before needed them
    with compilations() as seen:
        init(second)
    assert not seen


def test_small_constants_compile_nothing(key):
    def init(key):
        numbers = jnp.zeros((3, 229)), jnp.full((5,), 2.5, jnp.bfloat16)
        return *numbers, jnp.ones(6, bool), jnp.ones(6).reshape(2, 3)

    made = jit_init(init)
    assert made.lower(key) == []
    with compilations() as seen:
        jax.block_until_ready(made(key))
    assert not seen
    assert_same(init, key)
    large = jit_init(lambda key: jnp.zeros((2**14 + 1,)))
    assert len(large.lower(key)) == 1


def test_a_model_like_another_compiles_nothing(key):
    first, deep, tied, *keys = random.split(key, 6)
    jit_init(gpt2(2))(first, TOKENS)
    init = jit_init(gpt2(2))
    with compilations() as seen:
        for each in keys:
            init(each, TOKENS)
        jit_init(gpt2(5))(deep, TOKENS)
        jit_init(GPT2(depth=3, tied=True).init)(tied, TOKENS)
    assert not seen


def test_a_model_compiles_only_what_is_new(key):
    def init(key, *widths):
        shapes = [(5, x.size) for x in widths]
        keys = random.split(key, len(shapes))
        return [random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]

    known, new = jnp.ones(223), jnp.ones(227)
    jit_init(init)(fresh(key), known, known)
    jit_init(lambda key: random.split(key, 3))(fresh(key))
    with compilations() as seen:
        jit_init(init)(fresh(key), known, known, known)
    assert len(seen) <= 1  # the split in three
    with compilations() as seen:
        jit_init(init)(fresh(key), known, new, known)
    assert len(seen) == 1


def test_a_call_like_another_traces_nothing():
    traced = []

    def init(key, x):
        traced.append(x)
        return random.normal(key, x.shape)

    made = jit_init(init)
    for n in range(3):
        made(random.key(n), jax.ShapeDtypeStruct((3,), jnp.float32))
    assert len(traced) == 1
    made(random.key(4), jax.ShapeDtypeStruct((4,), jnp.float32))
    assert len(traced) == 2


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_afterwards_as_before(enabled, key):
    def fails(key):
        raise RuntimeError

    within = []

    def init(key):
        within.append(gc.isenabled())
        return random.normal(key, (3,))

    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        jit_init(init)(key)
        assert gc.isenabled() == enabled
        with pytest.raises(RuntimeError):
            jit_init(fails)(fresh(key))
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
    assert within == [False]


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
    assert programs(normalised, fresh(a), jnp.ones((16, 6))) == 2


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
        jaxinit.normal(),
        jaxinit.he_normal(),
        jaxinit.he_uniform(),
        jaxinit.lecun_normal(dtype=jnp.bfloat16),
        jaxinit.truncated_normal(),
        jax.nn.initializers.normal(),
        jax.nn.initializers.he_uniform(),
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


def test_what_is_reshaped_is_counted_in_its_last_shape(key):
    """Not in the shape that was drawn, which costs each element a division."""

    def heads(key):
        return random.normal(key, (8, 96)).reshape(8, 3, 32)

    (program,) = jit_init(heads).lower(key)
    counters = [line for line in program.as_text().splitlines() if "iota" in line]
    assert counters and all("8x3x32" in line for line in counters)


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


# --- errors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fn", [None, 3, {"init": layers}], ids=lambda x: type(x).__name__
)
def test_what_is_no_function(fn):
    with pytest.raises(TypeError, match="jit_init: fn must be a function"):
        jit_init(fn)


def test_what_is_no_array(key):
    with pytest.raises(TypeError, match="'name'"):
        jit_init(lambda key: {"name": "dense", "x": random.normal(key, (3,))})(key)


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


def test_a_trace_that_cannot_be_read_is_compiled_whole(key, monkeypatch):
    """The way out if JAX changes its traces: loud, and the same arrays."""

    def init(key):
        return [jax.random.normal(jax.random.fold_in(key, i), (3,)) for i in range(2)]

    def unreadable(trace):
        raise AttributeError("no such thing in a trace")

    monkeypatch.setattr("jaxinit._jaxpr.graph", unreadable)
    ours = jit_init(init)
    with pytest.warns(RuntimeWarning, match="cannot read the traces of this JAX"):
        drawn = ours(fresh(key))
    chex.assert_trees_all_equal(drawn, jax.jit(init)(fresh(key)))
    assert len(ours.lower(key)) == 1


def test_a_loop_that_cannot_be_taken_apart_stays_whole(key, monkeypatch):
    def init(key):
        def body(carry, key):
            first, second = jax.random.split(key)
            return carry, (jax.random.normal(first), jax.random.uniform(second))

        return jax.lax.scan(body, 0, jax.random.split(key, 4))[1]

    assert len(jit_init(init).lower(fresh(key))) == 2
    monkeypatch.setattr("jaxinit._jaxpr.dce_jaxpr", None)
    ours = jit_init(init)
    assert len(ours.lower(fresh(key))) == 1
    chex.assert_trees_all_equal(ours(fresh(key)), jax.jit(init)(fresh(key)))
