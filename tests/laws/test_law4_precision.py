# SPDX-License-Identifier: Apache-2.0
"""Law 4: sample in float32, round once, and stay within the bounds."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxinit
from tests.cases import CASES, ids, one_a_program
from tests.helpers import fresh

QUICK = True  # see conftest.py

NARROW = ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"]


def numbers(dtype: np.dtype, low: float, high: float) -> np.ndarray:
    """Every number of a narrow dtype between two bounds."""
    words = np.arange(256**dtype.itemsize, dtype=f"uint{8 * dtype.itemsize}")
    with np.errstate(invalid="ignore"):
        every = words.view(dtype).astype(np.float64)
    return np.sort(every[(every >= low) & (every <= high) & np.isfinite(every)])


@pytest.mark.parametrize("case", one_a_program(CASES), ids=ids)
def test_rounded_once(case, key):
    @jax.jit
    def draw(key):
        wide = case.init(fresh(key), case.small, jnp.float32)
        rounded = [wide.astype(dtype) for dtype in NARROW]
        return rounded, [case.init(fresh(key), case.small, d) for d in NARROW]

    law = case.init.law(case.small)
    for rounded, narrow in zip(*draw(key), strict=True):
        expected = np.asarray(rounded).astype(np.float64)
        if law.bounded:
            within = numbers(narrow.dtype, law.low, law.high)
            expected = np.clip(expected, within[0], within[-1])
        np.testing.assert_array_equal(np.asarray(narrow).astype(np.float64), expected)


def test_jax_itself_does_not(key):
    """The comparison rejects JAX, which samples in the narrow dtype."""
    theirs = jaxinit.scaled(jax.nn.initializers.normal(1.0), 1.0)
    narrow = jax.nn.initializers.normal(1.0)(fresh(key), (64, 64), jnp.bfloat16)
    wide = theirs(fresh(key), (64, 64), jnp.float32)
    assert not bool((narrow == wide.astype(jnp.bfloat16)).all())


def test_bfloat16_is_not_biased(key):
    """JAX's bfloat16 normals have 128 values and a mean of -0.011 σ; ours do not."""
    n = 2**20
    ours = np.asarray(jaxinit.normal(1.0)(fresh(key), (n,), "bfloat16"), np.float64)
    jaxs = jax.random.normal(fresh(key), (n,), "bfloat16")
    theirs = np.asarray(jaxs, np.float64)
    assert abs(ours.mean()) < 5 / np.sqrt(n)
    assert abs(theirs.mean()) > 5 / np.sqrt(n)
    assert len(np.unique(ours)) > 1000 > len(np.unique(theirs))


@settings(max_examples=10)
@given(
    low=st.floats(-4, 4),
    width=st.floats(0.25, 2),
    dtype=st.sampled_from(["bfloat16", "float16", "float32"]),
)
def test_uniform_stays_within_any_bounds(low, width, dtype):
    init = jaxinit.uniform_between(low, low + width)
    array = np.asarray(init(jax.random.key(0), (512,), dtype), np.float64)
    rounding = 1e-6 if dtype == "float32" else 0.0  # of the bounds themselves
    assert array.min() >= low - rounding
    assert array.max() < low + width + rounding


def test_the_upper_bound_is_never_reached(key):
    for dtype in NARROW:
        array = jaxinit.uniform(1.0)(fresh(key), (2**16,), dtype)
        assert float(array.max()) < 1.0
        rounded = jaxinit.uniform(1.0)(fresh(key), (2**16,)).astype(dtype)
        assert float(rounded.max()) == 1.0  # what rounding alone would give


def test_bounds_without_a_number_between_are_refused(key):
    init = jaxinit.uniform_between(1.001, 1.002)
    with pytest.raises(ValueError, match="no bfloat16 number lies between"):
        init(key, (4,), "bfloat16")


@pytest.mark.parametrize(
    ("init", "dtype"),
    [
        (jaxinit.normal(1000.0), "float8_e4m3fn"),
        (jaxinit.normal(20000.0), "float16"),
        (jaxinit.uniform(1e39), "float32"),
        (jaxinit.normal(), "float8_e8m0fnu"),
        (jaxinit.constant(1e6), "float16"),
    ],
    ids=str,
)
def test_a_dtype_that_cannot_hold_the_law_is_refused(init, dtype, key):
    with pytest.raises(ValueError, match=f"dtype {dtype} holds"):
        init(key, (4,), dtype)


def test_orthogonal_in_bfloat16(key):
    w = jaxinit.orthogonal()(key, (64, 64), "bfloat16").astype(jnp.float32)
    chex.assert_trees_all_close(w @ w.T, jnp.eye(64), atol=0.02)


@pytest.mark.parametrize(
    ("init", "dtype"),
    [
        (jaxinit.normal(1e-9), "float16"),
        (jaxinit.normal(5e-5), "float16"),  # half of a normal is below 0.67 of it
        (jaxinit.uniform(5e-5), "float16"),
        (jaxinit.constant(1e-6), "float8_e4m3fn"),
        (jaxinit.constant(1e-39), "float32"),
        (jaxinit.sparse(0.5, 1e-9), "float16"),
        (jaxinit.scaled(jaxinit.he_normal(), 1e-8), "float16"),
        (jaxinit.identity(1e-9), "float16"),
    ],
    ids=str,
)
def test_what_a_dtype_would_round_to_zero_is_refused(init, dtype, key):
    with pytest.raises(
        ValueError, match=f"{dtype} rounds numbers below .* wider dtype"
    ):
        init(key, (8, 8), dtype)


@pytest.mark.parametrize(
    ("init", "dtype"),
    [
        (jaxinit.normal(1e-4), "float16"),
        (jaxinit.normal(0.0), "float16"),
        (jaxinit.zeros, "float8_e4m3fn"),
        (jaxinit.constant(1e-6), "bfloat16"),
        (
            jaxinit.sparse(0.9, 0.1),
            "float8_e4m3fn",
        ),  # zeros by construction are no loss
        (jaxinit.identity(), "float8_e4m3fn"),
        (jaxinit.scaled(jaxinit.he_normal(), 0.0), "float16"),
    ],
    ids=str,
)
def test_what_a_dtype_holds_is_drawn(init, dtype, key):
    narrow, wide = (init(fresh(key), (512, 512), d) for d in (dtype, "float32"))
    held = jnp.finfo(dtype)
    least, eps = float(held.smallest_normal), float(held.eps)
    # Two programs: an entry between two numbers may be rounded to either.
    np.testing.assert_allclose(
        np.asarray(narrow, np.float32), wide, rtol=eps, atol=least * eps
    )
    drawn = np.abs(np.asarray(wide)[np.asarray(wide) != 0])
    assert drawn.size == 0 or np.mean(drawn >= least) > 0.5


def test_constants_lose_nothing(key):
    for init, message in (
        (jaxinit.scaled(jaxinit.ones, 0.5), "0.5 is not a int32"),
        (jaxinit.constant(2.5), "2.5 is not a int32"),
    ):
        with pytest.raises(ValueError, match=message):
            init(key, (2,), "int32")
    assert jaxinit.scaled(jaxinit.ones, 3)(key, (2,), "int32").tolist() == [3, 3]


BOUNDED = {
    "uniform": jaxinit.uniform,
    "uniform_between": lambda s: jaxinit.uniform_between(-s, s),
    "torch_bias": lambda s: jaxinit.torch_bias(1 / s**2),
    "truncated_normal": lambda s: jaxinit.truncated_normal(s, lower=-1.0, upper=1.0),
    "truncated_normal at a": lambda s: jaxinit.truncated_normal(1.0, lower=-s, upper=s),
    "trunc_normal": lambda s: jaxinit.trunc_normal(0.0, 1.0, -s, s),
    "scaled": lambda s: jaxinit.scaled(jaxinit.uniform(0.5), -2 * s),
    "stacked": lambda s: jaxinit.stacked(jaxinit.uniform(s)),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_bounds_hold_where_the_scale_is_traced(name, key):
    """0.3 lies above a number of each narrow dtype to which others are rounded."""

    @jax.jit
    def draw(scale, key):
        made = BOUNDED[name](scale)
        return [made(fresh(key), (4, 2**14), dtype) for dtype in NARROW]

    for array in draw(0.3, key):
        assert float(abs(array.astype(jnp.float32)).max()) <= np.float32(0.3)


def test_a_range_that_is_traced_still_wants_a_float(key):
    with pytest.raises(TypeError, match="int32 cannot hold random values"):
        jax.jit(lambda s: jaxinit.normal(s)(key, (2,), "int32"))(1.0)


def test_the_warning_comes_with_every_call(key):
    for _ in range(2):
        with pytest.warns(UserWarning, match="needs jax_enable_x64") as caught:
            jaxinit.normal()(fresh(key), (3,), "float64")
        assert caught[0].filename == __file__
