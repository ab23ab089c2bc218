# SPDX-License-Identifier: Apache-2.0
"""The fused stream: threefry's own bits, however they are asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export

import jaxinit
from jaxinit.stream import threefry
from tests.helpers import bits, fresh

QUICK = True  # see conftest.py

DTYPES = ["uint8", "uint16", "uint32"]


def both(key, shape, dtype) -> tuple[bytes, bytes]:
    """JAX's bits, and the fused ones."""
    theirs = jax.jit(lambda k: jax.random.bits(k, shape, dtype))(fresh(key))
    fused = jax.jit(lambda k: jax.random.bits(jaxinit.fast_key(k), shape, dtype))
    return bits(theirs), bits(fused(fresh(key)))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *(((3, 1, 5), dtype) for dtype in DTYPES),
        *((shape, "uint32") for shape in [(), (0,), (1,), (7,), (2, 3, 4, 5)]),
    ],
)
def test_the_bits_are_threefrys(shape, dtype, key):
    theirs, ours = both(key, shape, dtype)
    assert ours == theirs


def test_64_bits(key):
    with jax.enable_x64(True):
        theirs, ours = both(key, (5, 7), "uint64")
    assert ours == theirs


@settings(max_examples=4)
@given(
    shape=st.lists(st.integers(0, 9), max_size=4).map(tuple),
    words=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
)
def test_any_key_and_shape(shape, words):
    key = jax.random.wrap_key_data(jnp.array(words, jnp.uint32))
    theirs, ours = both(key, shape, "uint32")
    assert ours == theirs


def test_derived_keys_are_threefrys(key):
    fast = jaxinit.fast_key(fresh(key))
    for ours, theirs in (
        (jax.random.split(fresh(fast), 3), jax.random.split(fresh(key), 3)),
        (jax.random.fold_in(fresh(fast), 7), jax.random.fold_in(fresh(key), 7)),
    ):
        assert bits(jax.random.key_data(ours)) == bits(jax.random.key_data(theirs))


def test_every_sampler_draws_the_same(key):
    def draw(key):
        k = jax.random.split(key, 5)
        return [
            jax.random.normal(k[0], (9,)),
            jax.random.uniform(k[1], (9,)),
            jax.random.truncated_normal(k[2], -1.0, 2.0, (9,)),
            jax.random.permutation(k[3], 9),
            jax.random.exponential(k[4], (9,)),
        ]

    fused = jax.jit(lambda k: draw(jaxinit.fast_key(k)))(fresh(key))
    for ours, theirs in zip(fused, jax.jit(draw)(fresh(key)), strict=True):
        assert bits(ours) == bits(theirs)


def test_batches_of_keys(key):
    keys = jax.random.split(fresh(key), 4)

    def draw(k):
        return jax.random.normal(jaxinit.fast_key(k), (3, 2))

    mapped = jax.jit(jax.vmap(draw))(fresh(keys))
    assert bits(mapped) == b"".join(bits(draw(fresh(k))) for k in keys)
    whole = jaxinit.fast_key(fresh(keys))
    assert whole.shape == (4,)


def test_legacy_keys_and_twice_fast_keys():
    legacy = jaxinit.fast_key(jax.random.PRNGKey(3))
    typed = jaxinit.fast_key(jax.random.key(3))
    twice = jaxinit.fast_key(jaxinit.fast_key(jax.random.key(3)))
    assert legacy.dtype == typed.dtype == twice.dtype
    drawn = [jax.random.normal(k, (4,)) for k in (legacy, typed, twice)]
    assert len({bits(array) for array in drawn}) == 1


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_other_implementations_pass_through(impl):
    key = jax.random.key(0, impl=impl)
    assert jaxinit.fast_key(key) is key


def test_the_old_stream_passes_through(key):
    with jax.threefry_partitionable(False):
        assert jaxinit.fast_key(key) is key


def test_under_export(key):
    def draw(words):
        key = jax.random.wrap_key_data(words)
        return jaxinit.he_normal()(key, (8, 4))

    words = jax.random.key_data(key)
    exported = export.export(jax.jit(draw))(words)
    assert bits(exported.call(words)) == bits(draw(words))


def numpy_threefry(key: tuple[int, int], counter: int) -> int:
    """The 32 bits of one counter, by the definition, in Python's integers."""
    mask = 2**32 - 1
    k = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    x = [(counter >> 32) + k[0] & mask, (counter & mask) + k[1] & mask]
    for group in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x[0] = x[0] + x[1] & mask
            x[1] = (x[1] << turn | x[1] >> 32 - turn) & mask ^ x[0]
        x[0] = x[0] + k[(group + 1) % 3] & mask
        x[1] = x[1] + k[(group + 2) % 3] + group + 1 & mask
    return x[0] ^ x[1]


def test_counters_beyond_32_bits():
    """The hash at chosen counters, without an array of so many."""
    words = (0x12345678, 0x9ABCDEF0)
    counters = [0, 5, 2**32 - 1, 2**32, 2**32 + 17, 2**40 + 3]
    high = jnp.array([c >> 32 for c in counters], jnp.uint32)
    low = jnp.array([c & 2**32 - 1 for c in counters], jnp.uint32)
    key0, key1 = map(jnp.uint32, words)
    one, other = threefry._threefry2x32(key0, key1, high, low)
    assert (one ^ other).tolist() == [numpy_threefry(words, c) for c in counters]


def test_shapes_beyond_32_bits(key):
    shape = (2**20, 2**13)  # 2³³ entries: only traced
    drawn = jax.eval_shape(lambda k: jaxinit.he_normal()(k, shape, "bfloat16"), key)
    assert drawn.shape == shape
    index = jax.make_jaxpr(lambda: threefry._index(shape))()
    assert "u64" in str(index) and "u64" not in str(
        jax.make_jaxpr(lambda: threefry._index((2**16, 2**16)))()
    )


def test_the_index_counts_in_64_bits():
    """A few rows of an array of 2³³ entries, cut out of the index by the compiler."""
    shape, rows = (2**20, 2**13), (0, 2**19 - 1, 2**19, 2**20 - 1)

    @jax.jit
    def corner(row):
        words = threefry._index(shape)
        return [jax.lax.dynamic_slice(w, (row, 0), (1, 3))[0] for w in words]

    for row in rows:
        high, low = (np.asarray(w).astype(np.uint64) for w in corner(row))
        wanted = row * 2**13 + np.arange(3, dtype=np.uint64)
        np.testing.assert_array_equal((high << np.uint64(32)) + low, wanted)


def test_no_temporary_memory(key):
    def temporaries(draw) -> int:
        memory = jax.jit(draw).lower(fresh(key)).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    shape = (1024, 1024)
    for init in (jaxinit.he_normal(), jaxinit.glorot_uniform(), jaxinit.normal()):
        for dtype in ("float32", "bfloat16"):
            assert temporaries(lambda k, i=init, d=dtype: i(k, shape, d)) <= 2**12
    init = jaxinit.he_normal()
    square = temporaries(lambda k: jnp.linalg.matrix_power(init(k, shape), 2))
    assert square >= 2**22  # the check can fail
