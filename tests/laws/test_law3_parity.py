# SPDX-License-Identifier: Apache-2.0
"""Law 3: the same numbers as JAX, bit for bit."""

import functools

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxinit
from tests.cases import WITH_JAX, Case, ids, one_a_program
from tests.helpers import bits, fresh

jnn = jax.nn.initializers
PROGRAMS = one_a_program(WITH_JAX)


def both(case: Case, key, shape, dtype) -> tuple[bytes, bytes]:
    """Our bits, and those of JAX under jit."""
    assert case.jax is not None
    theirs = jax.jit(case.jax, static_argnums=(1, 2))(fresh(key), shape, dtype)
    return bits(case.init(fresh(key), shape, dtype)), bits(theirs)


@pytest.fixture(scope="module")
def of_jax() -> list[bytes]:
    """JAX's bits for every row.

    Samples come from one program; a product of matrices is rounded as the program that
    it is in has it, and comes from its own.
    """
    key = jax.random.key(20)

    @functools.partial(jax.jit, static_argnums=1)
    def draw(key, numbers):
        cases = [WITH_JAX[i] for i in numbers]
        return [c.jax(fresh(key), c.small, jnp.float32) for c in cases if c.jax]

    numbers = range(len(WITH_JAX))
    together = tuple(i for i in numbers if not WITH_JAX[i].products)
    found = dict(zip(together, draw(fresh(key), together), strict=True))
    found |= {i: draw(fresh(key), (i,))[0] for i in numbers if i not in found}
    return [bits(found[i]) for i in numbers]


@pytest.mark.parametrize("number", range(len(WITH_JAX)), ids=map(ids, WITH_JAX))
def test_float32(number, key, of_jax):
    case = WITH_JAX[number]
    assert bits(case.init(key, case.small, jnp.float32)) == of_jax[number]


@pytest.mark.sweep
@pytest.mark.parametrize("case", PROGRAMS, ids=ids)
def test_float32_of_many_entries(case, key):
    ours, theirs = both(case, key, case.shape, jnp.float32)
    assert ours == theirs


@pytest.mark.parametrize("case", [c for c in PROGRAMS if c.random][:3], ids=ids)
def test_legacy_keys(case):
    ours, theirs = both(case, jax.random.PRNGKey(3), case.small, jnp.float32)
    assert ours == theirs


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("shape", "distribution"),
    [
        ((24, 5), "normal"),
        ((24, 5), "truncated_normal"),
        ((33, 3), "normal"),
        ((2, 3, 4, 5), "truncated_normal"),
        ((9, 7), "normal"),
        ((40, 3, 1), "truncated_normal"),
    ],
)
def test_short_rows(shape, distribution, key):
    """Where XLA would vectorise the logarithm in erf⁻¹ otherwise than for JAX."""
    init = jaxinit.variance_scaling(1.0, "fan_in", distribution)
    reference = jnn.variance_scaling(1.0, "fan_in", distribution)
    case = Case(init, ("variance_scaling",), jax=reference)
    ours, theirs = both(case, key, shape, jnp.float32)
    assert ours == theirs


@pytest.mark.sweep
@pytest.mark.parametrize("length", [3, 4, 5])
def test_short_rows_of_a_batch(length, key):
    def drawn(init):
        keys = jax.random.split(fresh(key), 40)
        return bits(jax.jit(jax.vmap(lambda k: init(k, (length,))))(keys))

    assert drawn(jaxinit.normal()) == drawn(jnn.normal())


@pytest.mark.sweep
@pytest.mark.parametrize("case", PROGRAMS, ids=ids)
def test_float64(case, key):
    with jax.enable_x64(True):
        ours, theirs = both(case, key, case.shape, jnp.float64)
    assert ours == theirs


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("case", [c for c in PROGRAMS if c.jax_complex], ids=ids)
def test_complex(case, key, dtype):
    with jax.enable_x64(dtype == "complex128"):
        ours, theirs = both(case, key, case.shape, jnp.dtype(dtype))
    assert ours == theirs


@settings(max_examples=4)
@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple),
    seed=st.integers(0, 2**31 - 1),
    scale=st.floats(1e-3, 1e3),
    mode=st.sampled_from(["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]),
    distribution=st.sampled_from(["normal", "truncated_normal", "uniform"]),
)
def test_any_variance_scaling(shape, seed, scale, mode, distribution):
    arguments = (scale, mode, distribution)
    key = jax.random.key(seed)
    ours = jaxinit.variance_scaling(*arguments)(key, shape)
    theirs = jax.jit(lambda k: jnn.variance_scaling(*arguments)(k, shape))(fresh(key))
    assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_other_implementations(impl):
    key = jax.random.key(0, impl=impl)
    ours = jaxinit.he_normal()(key, (64, 32))
    theirs = jax.jit(lambda k: jnn.he_normal()(k, (64, 32)))(fresh(key))
    assert bits(ours) == bits(theirs)


def test_without_the_partitionable_stream(key):
    with jax.threefry_partitionable(False):
        ours = jaxinit.he_normal()(key, (64, 32))
        theirs = jax.jit(lambda k: jnn.he_normal()(k, (64, 32)))(fresh(key))
    assert bits(ours) == bits(theirs)
    assert bits(jaxinit.he_normal()(fresh(key), (64, 32))) != bits(ours)


def test_the_comparison_can_fail(key):
    case = Case(jaxinit.he_normal(), ("he_normal",), jax=jnn.lecun_normal())
    ours, theirs = both(case, key, (8, 8), jnp.float32)
    assert ours != theirs
