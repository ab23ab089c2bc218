# SPDX-License-Identifier: Apache-2.0
"""What `check_tree` measures: moments in float64, and their z where entries depend."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit import check_tree, init_tree
from jaxinit.core.law import Law
from jaxinit.trees import measures as _measures
from tests.helpers import SIGMAS, compilations, fresh

QUICK = True  # see conftest.py

SEEDS = 30
# Each has 270 independent entries or more.
DEPENDENT = [
    (jaxinit.icnr(jaxinit.he_normal(), 2), (3, 3, 8, 16)),
    (jaxinit.icnr(jaxinit.uniform_between(0.0, 1.0), 3), (3, 2, 8, 72)),
    (jaxinit.blocks(jaxinit.icnr(jaxinit.he_normal(), 2), 2), (3, 3, 8, 32)),
    (jaxinit.chrono(100), (4 * 320,)),
    (jaxinit.chrono(100, gates=3, index=1, input_index=None), (3 * 320,)),
    (jaxinit.stacked(jaxinit.chrono(20)), (5, 4 * 64)),
    (jaxinit.orthogonal(), (32, 32)),
    (jaxinit.orthogonal(0.5), (12, 48)),
    (jaxinit.spectral_orthogonal(), (48, 12)),
    (jaxinit.stacked(jaxinit.orthogonal()), (8, 12, 12)),
    (jaxinit.blocks(jaxinit.orthogonal(), 4), (16, 64)),
    (jaxinit.delta_orthogonal(), (3, 3, 24, 32)),
    (jaxinit.conv_orthogonal(), (3, 3, 24, 32)),
    (jaxinit.sparse(0.9), (80, 40)),
    (jaxinit.scaled(jaxinit.stacked(jaxinit.sparse(0.5)), -2.0), (2, 16, 24)),
]


def scores(init, shape, law):
    """The z of the mean and of the deviation, of so many draws."""
    keys = jax.random.split(jax.random.key(7), SEEDS)
    found = [_measures.moments(init(key, shape)) for key in keys]
    return np.array([_measures.z_scores(each, law, law.count(shape)) for each in found])


@pytest.mark.sweep
@pytest.mark.parametrize(("init", "shape"), DEPENDENT, ids=str)
def test_entries_that_depend_have_standard_errors_of_their_own(init, shape):
    """z is standard normal, or closer to 0 where entries balance each other."""
    law = init.law(shape)
    assert 270 <= law.count(shape) < math.prod(shape)
    z = scores(init, shape, law)
    assert np.abs(z).max() < SIGMAS
    assert (np.abs(z.sum(0)) < SIGMAS * math.sqrt(SEEDS)).all()
    most = SEEDS + SIGMAS * math.sqrt(2 * SEEDS)  # of χ² with so many degrees
    assert ((z**2).sum(0) < most).all()


@pytest.mark.parametrize(("init", "shape"), DEPENDENT[:3], ids=str)
def test_entries_that_repeat_are_not_independent(init, shape):
    law = init.law(shape)._replace(independent=None)
    most = SEEDS + SIGMAS * math.sqrt(2 * SEEDS)
    assert ((scores(init, shape, law) ** 2).sum(0) > most).all()


@pytest.mark.sweep
@pytest.mark.parametrize(("init", "shape"), DEPENDENT, ids=str)
def test_a_wrong_draw_of_dependent_entries_is_found(init, shape, key):
    """270 normal entries tell a deviation 22 % off, 5 / √(2 · 270), and a mean 0.3 off.

    Both are off by twice that, for other kurtoses.
    """
    rules, tree = [("w", init)], {"w": init(key, shape)}
    assert check_tree(tree, rules).ok
    std = init.law(shape).std
    for change in (lambda w: 1.6 * w, lambda w: 0.5 * w, lambda w: w + 0.7 * std):
        (row,) = (report := check_tree({"w": change(tree["w"])}, rules)).rows
        assert not report.ok
        assert max(abs(row.z_mean or 0), abs(row.z_std or 0)) > SIGMAS


def test_one_entry_repeated_is_no_constant(key):
    """An array of a single draw says nothing of its law."""
    one = {"w": jnp.zeros((1, 1, 1, 4))}
    for init, tree in (
        (jaxinit.icnr(jaxinit.normal(), 2), dict.fromkeys("abcdefgh", one)),
        (jaxinit.blocks(jaxinit.orthogonal(), 8), {"w": jnp.zeros((1, 8))}),
    ):
        rules = [("w", init)]
        report = check_tree(init_tree(fresh(key), tree, rules), rules)
        assert report.ok, report.problems


# --- z of independent entries ---------------------------------------------------------


def z_of(entries, law):
    found = _measures.moments(entries)
    return np.array(_measures.z_scores(found, law, entries.size))


def test_z_scores_accept_the_law_and_reject_its_neighbours():
    # 2¹⁶ entries: 0.03 is 7.7 standard errors of the mean, 10.9 of the deviation
    gaussian = np.random.default_rng(0).normal(size=2**16)
    assert np.abs(z_of(gaussian, Law(0.0, 1.0))).max() < 4.5
    assert abs(z_of(gaussian, Law(0.03, 1.0))[0]) > 4.5
    assert abs(z_of(gaussian, Law(0.0, 1.03))[1]) > 4.5


def test_z_scores_are_standard_normal():
    rng = np.random.default_rng(1)
    law = Law(0.5, 1 / math.sqrt(12))
    z = np.array([z_of(rng.random(1000), law) for _ in range(400)])
    assert (np.abs(z.mean(0)) < SIGMAS / math.sqrt(400)).all()
    assert (np.abs(z.std(0) - 1) < SIGMAS / math.sqrt(2 * 400)).all()


# --- moments --------------------------------------------------------------------------

DTYPES = ["float64", "float32", "bfloat16", "float16", "float8_e4m3fn", "complex64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chunk", [7, 2**16])
def test_moments_are_those_of_float64(dtype, chunk, key, monkeypatch):
    monkeypatch.setattr(_measures, "CHUNK", chunk)
    with jax.enable_x64(True):
        x = jax.random.normal(key, (9, 11), "float64") + 0.5
        x = (jax.lax.complex(x, x[::-1]) if dtype == "complex64" else x).astype(dtype)
        compiled = _measures._moments(x)
    found, wide = _measures.moments(x), np.asarray(x)
    wide = wide.astype(complex if dtype == "complex64" else float)
    squares = abs(wide - wide.mean()) ** 2
    kurtosis = (squares**2).mean() / squares.mean() ** 2
    wanted = (
        wide.mean(),
        squares.mean(),
        kurtosis,
        wide.real.min(),
        wide.real.max(),
        0,
    )
    for got in (found, _measures.moments(np.asarray(x)), compiled):
        np.testing.assert_allclose(np.array(got), np.array(wanted), rtol=1e-12)
    assert {type(each) for each in found} <= {float, complex, int}


def test_entries_that_are_not_finite_are_counted():
    x = np.array([1.0, np.nan, np.inf, -np.inf, 1e308, -1e308])
    assert _measures.moments(x).bad == 3
    assert _measures.moments(x.astype(complex)).bad == 3
    assert _measures.moments(np.full(4, 0.3)).kurtosis == 0


def test_entries_that_differ_are_counted():
    x = jnp.arange(6.0).reshape(2, 3)
    assert _measures.differing(x, x + 0) == 0
    assert _measures.differing(x, x.at[0, 1:].add(1)) == 2
    assert _measures.differing(np.array(0.1), jnp.float32(0.1)) == 0  # rounded
    assert int(_measures._differing(x, x.at[0, 1:].add(1))) == 2


def test_a_check_compiles_nothing_for_a_shape(key):
    """Fifty shapes of kernels and of constants, drawn and then checked."""
    sizes = range(3, 53)
    tree = {
        f"{n}": {"w": np.zeros((n, 2), "float32"), "b": np.zeros(n, "float32")}
        for n in sizes
    }
    rules = [("w", jaxinit.normal()), ("b", jaxinit.zeros)]
    values = np.random.default_rng(3).normal(0, 0.01, (60, 2)).astype("float32")
    for n in sizes:
        tree[f"{n}"]["w"] = values[:n] + np.float32(n * 1e-9)
    check_tree({"w": np.zeros((2, 2), "float32")}, rules[:1])  # the key's own programs
    with compilations() as seen:
        check_tree(tree, rules)
    assert len(seen) <= 1
