# SPDX-License-Identifier: Apache-2.0
"""JAX's default random stream, written so that the compiler can fuse it.

`threefry2x32` hashes a 64-bit counter, the flat index of each element, under a 64-bit
key. On the CPU JAX lowers the hash to rolled loops over whole buffers: it compiles
fast, but every sampler then runs from memory and needs three times its output as
scratch space. Here the twenty rounds are plain elementwise operations on an index that
is computed where it is used, so a sampler compiles into a single loop without
temporaries, and a partitioned sampler computes each shard where it lives. The bits are
the same.

Only the bits are rewritten. Keys are made, split and folded by JAX's own functions,
whose rolled loops are cheaper to compile and handle few elements.

What is here for the sake of XLA's compiler alone is in `steering.py`, with its switch.

References:
    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as
    easy as 1, 2, 3", SC 2011 (Threefry, section 4.2).
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxinit import compat
from jaxinit.stream import steering

__all__ = ["fast_key"]

_THREEFRY = "threefry2x32"
_PARITY = np.uint32(0x1BD11BDA)  # the Threefish key schedule's constant C240, low word
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def fast_key(key: jax.Array) -> jax.Array:
    """The same key, on the fast implementation of the same stream.

    Every `jax.random` function draws the same numbers from the result as from `key`;
    under `jax.jit` on a CPU it does so several times faster and without temporary
    memory. Keys derived from the result (`jax.random.split`, `jax.random.fold_in`) are
    fast too.

    The gain is under `jax.jit`: outside it, each sampler of `jax.random` compiles the
    new kind of key once more. A function that goes through `jax.export` may use
    `fast_key` inside, while the keys that it takes and returns have to be JAX's own.

    Args:
        key: a key, or an array of keys of any shape, typed or legacy. Keys of other
            implementations than "threefry2x32", and all keys while
            `jax_threefry_partitionable` is off, are returned as they are.

    Returns:
        Typed keys with the data of `key`.

    Example:
        >>> import jax
        >>> import jaxinit
        >>> @jax.jit
        ... def sample(key):
        ...     return jax.random.normal(jaxinit.fast_key(key), (256, 256))
        >>> key = jax.random.key(0)
        >>> bool((sample(key) == jax.random.normal(key, (256, 256))).all())
        True
    """
    if jax.random.key_impl(key) != _THREEFRY or not compat.setting(
        "jax_threefry_partitionable"
    ):
        return key
    if (fused := _implementation()) is None:
        return key
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if typed and compat.setting("jax_debug_key_reuse"):
        key = _consume(key)
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=fused)


@jax.jit
def _consume(key: jax.Array) -> jax.Array:
    """`key`, marked as used for JAX's check of key reuse.

    The check does not follow a key through its data. A key and its fast version are one
    key, so making the second spends the first, as drawing from it would.
    """
    return jax.random.clone(lax.optimization_barrier(key))


# --- the hash -------------------------------------------------------------------------


def _random_bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    """Random unsigned integers from the data of one key, equal to JAX's."""
    if not compat.setting("jax_threefry_partitionable") or not all(
        isinstance(dim, int) for dim in shape
    ):
        # The setting changed since the key was wrapped, or dimensions are symbolic.
        return jax.random.bits(_plain(key), shape, f"uint{bit_width}")
    high, low = _index(shape)
    first, second = _threefry2x32(key[0], key[1], high, steering.opaque(low))
    if steering.has_short_rows(shape):
        first, second = steering.through_memory((first, second))
    if bit_width != 64:
        bits = lax.bitwise_xor(first, second)
        return lax.convert_element_type(bits, np.dtype(f"uint{bit_width}"))
    high, low = (lax.convert_element_type(x, np.uint64) for x in (first, second))
    return lax.bitwise_or(lax.shift_left(high, np.uint64(32)), low)


def _index(shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """The flat index of every element, as the high and low words of 64 bits.

    It is a sum over dimensions and not a reshaped range, so that a partition of the
    array needs no communication. The high word costs something above 2^32 elements
    only. There the sum is taken in 64 bits, whatever `jax_enable_x64` says.
    """
    size = math.prod(shape)
    word = np.uint32 if size <= 2**32 else np.uint64
    x64 = compat.setting("jax_enable_x64")
    with jax.enable_x64(x64 or word is np.uint64):
        index = lax.full(shape, word(0))
        for axis, dim in enumerate(shape):
            if size > 0 and dim > 1:
                stride = word(math.prod(shape[axis + 1 :]))
                place = lax.broadcasted_iota(word, shape, axis)
                index = lax.add(index, lax.mul(place, stride))
        if word is np.uint32:
            return lax.full(shape, word(0)), index
        high = lax.shift_right_logical(index, word(32))
        return (
            lax.convert_element_type(high, np.uint32),
            lax.convert_element_type(index, np.uint32),
        )


def _threefry2x32(
    key0: jax.Array, key1: jax.Array, x0: jax.Array, x1: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 with 20 rounds, elementwise in the counter words `x0` and `x1`."""
    # Plain primitives: operators of arrays are jitted functions, slower to trace.
    parity = lax.bitwise_xor(lax.bitwise_xor(key0, key1), _PARITY)
    keys = (key0, key1, parity)
    x0 = lax.add(x0, keys[0])
    x1 = lax.add(x1, keys[1])
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            left, right = np.uint32(rotation), np.uint32(32 - rotation)
            x0 = lax.add(x0, x1)
            high, low = lax.shift_left(x1, left), lax.shift_right_logical(x1, right)
            x1 = lax.bitwise_xor(x0, lax.bitwise_or(high, low))
        x0 = lax.add(x0, keys[(group + 1) % 3])
        x1 = lax.add(x1, lax.add(keys[(group + 2) % 3], np.uint32(group + 1)))
    return x0, x1


# --- the implementation ---------------------------------------------------------------


def _plain(key: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(key, impl=_THREEFRY)


def _seed(seed: jax.Array) -> jax.Array:
    return jax.random.key_data(jax.random.key(seed, impl=_THREEFRY))


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.key_data(jax.random.split(_plain(key), shape))


def _fold_in(key: jax.Array, data: int) -> jax.Array:
    return jax.random.key_data(jax.random.fold_in(_plain(key), data))


@functools.cache
def _implementation() -> Any:
    """The implementation; None where this JAX takes none from outside."""
    if not compat.has("define_prng_impl"):
        return None
    return compat.define_prng_impl(
        key_shape=(2,),
        seed=_seed,
        split=_split,
        random_bits=_random_bits,
        fold_in=_fold_in,
        name="fused_threefry2x32",
        tag="fused_fry",
    )
