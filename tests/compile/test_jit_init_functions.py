# SPDX-License-Identifier: Apache-2.0
"""`jit_init` of functions of all kinds, and how many programs it makes of them."""

import collections
import functools
import gc
import inspect
import weakref

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random

import jaxinit
from jaxinit import jit_init
from jaxinit.compile import plan
from jaxinit.network import equality
from tests.compile.test_jit_init import (
    assert_same,
    batch,
    described,
    nnx_init,
    programs,
)
from tests.helpers import AS_USERS, bits, compilations, fresh
from tests.models import GPT2, LINEN, TOKENS, Transformer

QUICK = not AS_USERS  # see conftest.py

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


def tables(key):
    """Constants, which XLA computes otherwise than it does arguments."""
    draw = functools.partial(random.normal, key, (32, 16))
    ranges = jnp.arange(1, 17), jnp.repeat(jnp.arange(1, 17), 32).reshape(32, 16)
    numbers = np.arange(1, 34, dtype=np.float32)
    where = np.arange(64)[:, None] / 10_000 ** (np.arange(16) / 16)
    line = jnp.linspace(1.0, 9.0, 33)
    return {
        "range": jnp.log(ranges[0]),
        "mamba": jnp.log(ranges[1]),
        "tiled": jnp.log(jnp.tile(jnp.arange(1, 17), (32, 1))),
        "numpy": jnp.log(numbers),
        "sinusoidal": jnp.sin(where.astype(np.float32)),
        "line": (jnp.log(line), jnp.exp(jnp.log(line)), jnp.log(line) + 1),
        "again": jnp.exp(jnp.log(jnp.linspace(1.0, 9.0, 33))),
        "scaled": draw() * jnp.log(ranges[0])[None],
        "counters": ranges,
    }


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
    tables,
    two_of_one,
    weak,
]


@pytest.mark.sweep
@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: fn.__name__)
def test_a_function_is_that_of_jit(fn, key):
    assert_same(fn, key)


@pytest.mark.sweep
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
    [(many, 1), (grid, 1), (folded, 2), (chain, 1), (halved_keys, 1)],
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


def test_equal_constants_are_one_program(key):
    def init(key):
        numbers = jnp.zeros((3, 229)), jnp.full((5,), 2.5, jnp.bfloat16)
        ours = jaxinit.ones(None, (4, 3)), jaxinit.constant(0.1)(None, 7)
        again = jnp.zeros((3, 229)), jaxinit.constant(0.1)(None, (7,))
        return *numbers, *ours, *again, jnp.ones(6, bool), jnp.ones(6).reshape(2, 3)

    assert programs(init, key) == 6
    assert_same(init, key)


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
def test_garbage_is_collected_as_before(enabled, key):
    within = []

    def init(key):
        within.append(gc.isenabled())
        return random.normal(key, (3,))

    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        jit_init(init)(key)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
    assert within == [enabled]


# --- what is remembered ---------------------------------------------------------------


def test_a_function_and_what_it_holds_can_be_collected(key):
    def used():
        class Layer(nn.Module):
            size: int

            @nn.compact
            def __call__(self, x):
                return nn.Dense(self.size, kernel_init=kernel_init)(x)

        def kernel_init(key, shape, dtype=jnp.float32):
            @jax.jit  # a call that stays one, with the function's own derivative in it
            def draw(key):
                return activation(random.normal(key, shape, dtype))

            return draw(key) * table.mean() + large[0]

        @jax.custom_jvp
        def activation(x):
            return jnp.tanh(x)

        activation.defjvp(lambda xs, ts: (activation(*xs), ts[0]))
        table, large = jnp.arange(3.0) + 1, jnp.ones(20_000)
        init = jit_init(Layer(5).init)
        jax.block_until_ready(init(key, jnp.ones((2, 3))))
        held = Layer, kernel_init, activation, table, large, init
        return [weakref.ref(x) for x in held]

    refs = used()
    gc.collect()
    assert [ref() for ref in refs] == [None] * len(refs)


def test_programs_are_kept_in_a_bounded_number(key, monkeypatch):
    monkeypatch.setattr("jaxinit.compile.plan._newest", collections.deque(maxlen=2))
    gc.collect()
    programs, structures = len(plan._programs), len(equality._structures)
    for i in range(5):
        jit_init(lambda key, i=i: jnp.full(3, i) + random.bits(key, (3,)))(fresh(key))
    gc.collect()
    assert len(plan._programs) - programs <= 2
    assert len(equality._structures) - structures <= 4  # each has one inside
