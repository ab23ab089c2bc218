# SPDX-License-Identifier: Apache-2.0
"""Predictions: exact where the theory is, and held against many drawn networks."""

import functools
import itertools
import json
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit import signal
from jaxinit.prediction.entry import Entry, Source, gaussian, nodes
from jaxinit.prediction.sources import collapse, together
from tests.helpers import SIGMAS

QUICK = True  # see conftest.py

WIDTH, SEEDS = 128, 192
DENSE = jaxinit.variance_scaling(1.0, "fan_in", "normal")


def shape(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, "float32")


def chain(activation: Any, depth: int) -> tuple[Any, Any]:
    def run(params: Any, x: jax.Array) -> jax.Array:
        for w in params[:-1]:
            x = activation(x @ w)
        return x @ params[-1]

    return run, [shape(WIDTH, WIDTH)] * depth


# --- exact ----------------------------------------------------------------------------


def test_he_keeps_the_second_moment():
    run, params = chain(jax.nn.relu, 30)
    x = jax.random.normal(jax.random.key(0), (16, WIDTH))
    rows = signal.predict(run, params, x, rules=[("**", jaxinit.he_normal())]).rows
    ratios = [b.rms / a.rms for a, b in itertools.pairwise(rows)]
    assert ratios == pytest.approx([1.0] * 29, abs=1e-7)


@pytest.mark.parametrize("name", ["tanh", "relu", "erf"])
def test_mean_field_theory_comes_out(name):
    net = jaxinit.theory.MeanField(name, sigma_w=1.5)
    f = {"tanh": jnp.tanh, "relu": jax.nn.relu, "erf": jax.lax.erf}[name]
    run, params = chain(f, 12)
    init = jaxinit.variance_scaling(1.5**2, "fan_in", "normal")
    x = jax.random.normal(jax.random.key(0), (64, WIDTH))
    rows = signal.predict(run, params, x, rules=[("**", init)]).rows
    lengths = net.lengths(11, rows[0].rms ** 2)
    assert [row.rms**2 for row in rows] == pytest.approx(list(lengths), rel=1e-6)


def test_correlations_follow_the_map():
    """Mehler's series against the angles of the arc-cosine kernel."""
    z, _ = nodes()
    for c in (0.0, 0.3, 0.9):
        entry = Entry((Source(c, 0.0),), np.maximum(z, 0), (), ())
        angle = math.acos(c)
        wanted = (math.sin(angle) + (math.pi - angle) * c) / (2 * math.pi)
        assert entry.position == pytest.approx(wanted, abs=2e-4)
        assert entry.example == pytest.approx(1 / (2 * math.pi), abs=1e-9)


@pytest.mark.parametrize("f", [jax.nn.relu, jnp.tanh, jax.nn.silu])
def test_a_chain_of_sums_comes_back_through_all_its_slopes(f):
    """x' = f(x + w·side): slopes of one unit at all depths go together.

    Each is a function of all sums before it: more than are integrated over at once.
    """
    side = jax.random.normal(jax.random.key(0), (16, WIDTH))
    side = side / jnp.sqrt(jnp.square(side).mean())

    def run(params: Any, x: jax.Array) -> jax.Array:
        total = jnp.zeros(())
        for w in params:
            total = f(total + x @ w)
        return total

    depth = 6
    params = [shape(WIDTH, WIDTH)] * depth
    rows = signal.predict(run, params, side, rules=[("**", DENSE)]).rows
    slope = jax.jit(jax.vmap(jax.value_and_grad(f)))
    rng, x, slopes = np.random.default_rng(0), np.zeros(1_000_000), []
    for _ in range(depth):
        x, each = slope((x + rng.standard_normal(len(x))).astype("float32"))
        slopes.append(np.asarray(each) ** 2)
    # A step, as of relu's slope, is anywhere between two nodes, at each of the others';
    # after the first sum it is on at two thirds of the units or more.
    w = nodes()[1]
    step = w.max() / math.sqrt(12) * math.sqrt((w**2).sum())
    bound = depth * step / (2 / 3)
    for k, row in enumerate(rows):
        assert not row.grad_note
        both = np.prod(slopes[k:], 0).mean()
        assert row.grad_rms**2 == pytest.approx(both, rel=bound)
    apart = math.prod(each.mean() for each in slopes)
    assert abs(apart / np.prod(slopes, 0).mean() - 1) > 0.2


def test_of_two_products_one_stays_as_it_is():
    """Where one operand is enough, the other can be met again, by the same sources."""
    z, _ = nodes()
    old, new = (gaussian(1.0, 0.0, 0.0, (), ()) for _ in range(2))
    t = Entry((*old.sources, *new.sources), np.tanh(np.add.outer(z, z)), (), ())
    back = [gaussian(1.0, 0.0, 0.0, (), ()) for _ in range(2)]
    g = Entry(
        (*back[0].sources, *back[1].sources), np.multiply.outer(z, np.abs(z)), (), ()
    )
    sources, (left, _) = together([g, t], sparing=True)
    assert set(t.sources) < set(sources) and len(sources) == 3
    assert left.size == len(z)
    sources, _ = together([g, t])
    assert not set(t.sources) & set(sources) and len(sources) == 2


def test_a_collapse_keeps_the_law():
    a = gaussian(1.0, 0.2, 0.1, (), ())
    b = gaussian(2.0, 0.0, 0.0, (), ())
    made = Entry(
        (*a.sources, *b.sources), np.multiply.outer(a.values, b.values), (), ()
    )
    alone = collapse(made)
    assert len(alone.sources) == 1
    for name in ("mean", "power"):
        assert getattr(alone, name) == pytest.approx(getattr(made, name), abs=1e-3)


# --- against drawn networks -----------------------------------------------------------

T = 16


def gated(p: Any, x: Any) -> Any:
    for gate, up, down in zip(p["gate"], p["up"], p["down"], strict=True):
        h = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
        x = x + (jax.nn.silu(h @ gate) * (h @ up)) @ down
    return x @ p["head"]


def attention(p: Any, x: Any) -> Any:
    q, k, v = (jnp.einsum("btd,dhe->bthe", x, p[n]) for n in "qkv")
    logits = jnp.einsum("bthe,bshe->bhts", q, k) / math.sqrt(q.shape[-1])
    mask = jnp.tril(jnp.ones((T, T), bool))
    logits = jnp.where(mask[None, None], logits, -1e30)
    y = jnp.einsum("bhts,bshe->bthe", jax.nn.softmax(logits, -1), v)
    return jnp.einsum("bthe,hed->btd", y, p["o"])


def image(p: Any, x: Any) -> Any:
    for w in p["conv"]:
        x = jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x)
    return x.mean((1, 2)) @ p["head"]


def batch_norm(p: Any, x: Any) -> Any:
    for w in p["w"]:
        x = x @ w
        x = (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0, keepdims=True) + 1e-5)
        x = jax.nn.relu(x)
    return x @ p["head"]


def mixed(p: Any, x: Any) -> Any:
    h = jax.nn.gelu(jnp.einsum("btd,ts->bsd", x, p["in"]))
    return (x + jnp.einsum("bsd,st->btd", h, p["out"])) @ p["head"]


W = shape(WIDTH, WIDTH)
HEADS = {n: shape(WIDTH, 2, WIDTH // 2) for n in "qkv"} | {
    "o": shape(2, WIDTH // 2, WIDTH)
}
NETWORKS: dict[str, tuple[Any, Any, tuple[int, ...], float]] = {
    # the function, its parameters, the batch, and the bias of order 1 / width
    "relu": (*chain(jax.nn.relu, 6), (8, WIDTH), 0.02),
    "gelu": (*chain(jax.nn.gelu, 6), (8, WIDTH), 0.02),
    "tanh": (*chain(jnp.tanh, 6), (8, WIDTH), 0.02),
    "gates": (
        gated,
        {name: [W] * 3 for name in ("gate", "up", "down")} | {"head": W},
        (8, WIDTH),
        0.02,
    ),
    "attention": (attention, HEADS, (2, T, WIDTH), 0.02),
    "borders": (
        image,
        {"conv": [shape(3, 3, 32, 32)] * 4, "head": shape(32, 32)},
        (4, 8, 8, 32),
        0.06,
    ),
    "batch normalisation": (
        batch_norm,
        {"w": [W] * 3, "head": W},
        (64, WIDTH),
        0.02,
    ),
    "mixing positions": (
        mixed,
        {"in": shape(T, 64), "out": shape(64, T), "head": W},
        (4, T, WIDTH),
        0.03,
    ),
}
RULES = [("conv/**", jaxinit.he_normal()), ("**", DENSE)]


@functools.cache
def measured(name: str) -> tuple[float, float]:
    """E y² of the last kernel's output over many networks, and its standard error."""
    run, params, sizes, _ = NETWORKS[name]
    x = jax.random.normal(jax.random.key(1), sizes)
    network = jaxinit.read(run, params, x)
    rules = RULES if "conv" in params else RULES[1:]

    def power(key: jax.Array) -> jax.Array:
        of_weights, of_data = jax.random.split(key)
        drawn = jaxinit.init_tree(of_weights, params, rules, layers=network)
        return jnp.square(run(drawn, jax.random.normal(of_data, sizes))).mean()

    keys = jax.random.split(jax.random.key(2), SEEDS)
    found = np.asarray(jax.lax.map(jax.jit(power), keys, batch_size=16), np.float64)
    return float(found.mean()), float(found.std(ddof=1) / math.sqrt(SEEDS))


def predicted(name: str) -> float:
    run, params, sizes, _ = NETWORKS[name]
    x = jax.random.normal(jax.random.key(1), sizes)
    x = x / jnp.sqrt(jnp.square(x).mean())
    rules = RULES if "conv" in params else RULES[1:]
    found = signal.predict(run, params, x, rules=rules)
    assert not any(row.note for row in found.rows)
    return found.rows[-1].rms ** 2


@pytest.mark.sweep
@pytest.mark.parametrize("name", NETWORKS)
def test_what_networks_do(name):
    mean, error = measured(name)
    bias = NETWORKS[name][3]
    assert abs(predicted(name) / mean - 1) < SIGMAS * error / mean + bias


def test_the_nearest_wrong_answers_are_found():
    """The variance for the second moment; all taps at a border; values alike."""
    mean, error = measured("relu")
    wrong = (0.5 - 1 / (2 * math.pi)) ** 5  # Var relu(z) in place of E relu(z)²
    assert abs(wrong / mean - 1) > SIGMAS * error / mean + 0.02
    mean, error = measured("borders")
    assert abs(1.0 / mean - 1) > SIGMAS * error / mean + 0.06
    mean, error = measured("attention")
    assert abs(1.0 / mean - 1) > SIGMAS * error / mean + 0.02


# --- rows -----------------------------------------------------------------------------


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x):
        def step(layer, x, _):
            return nn.relu(layer(x)), None

        axes, rngs = {"params": 0}, {"params": True}
        loop = nn.scan(step, variable_axes=axes, split_rngs=rngs, length=3)
        x, _ = loop(nn.Dense(WIDTH, name="layer"), x, None)
        return nn.Dense(64, name="head")(x)


def test_rows_are_those_of_the_report():
    model, x = Scanned(), jax.random.normal(jax.random.key(0), (32, WIDTH))
    variables = model.init(jax.random.key(1), x)
    found = signal.predict(model, variables, x)
    report = signal.report(model, variables, x)
    assert [row.path for row in found.rows] == [row.path for row in report.rows]
    assert [row.shape for row in found.rows] == [row.shape for row in report.rows]
    beside = found.compare(report)
    assert [row.ratio for row in beside.rows] == pytest.approx([1.0] * 4, abs=0.25)
    assert " ".join(repr(beside).splitlines()[0].split()) == (
        "path call predicted measured ratio grad predicted grad measured grad ratio"
    )
    assert report.compare(found) == beside
    back = [row.grad_ratio for row in beside.rows]
    assert back == pytest.approx([1.0] * 4, abs=0.25)
    assert beside._repr_html_().count("<tr>") == found._repr_html_().count("<tr>") == 5
    with pytest.raises(ValueError, match="one of another network"):
        found.compare(signal.Report(report.rows[1:]))
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["rows"][0]["shape"] == [32, WIDTH]
    assert "note" not in repr(found).splitlines()[0]


def test_what_cannot_be_predicted_says_so():
    def run(params: Any, x: jax.Array) -> jax.Array:
        y = jnp.sort(x @ params["a"], -1)
        return jnp.tanh(y) @ params["b"]

    params = {"a": W, "b": W}
    found = signal.predict(run, params, shape(8, WIDTH), rules=[("**", DENSE)])
    first, second = found.rows
    assert first.note == ""
    assert second.note.startswith("taken as 1 after sort")
    assert "note" in repr(found).splitlines()[0]


def test_a_loop_in_time_says_so():
    def run(params: Any, x: jax.Array) -> jax.Array:
        def step(h: Any, x: Any) -> Any:
            h = jnp.tanh(h @ params["h"] + x @ params["x"])
            return h, None

        h, _ = jax.lax.scan(step, jnp.zeros((8, WIDTH)), x)
        return h @ params["out"]

    params = {"h": W, "x": W, "out": W}
    found = signal.predict(run, params, shape(5, 8, WIDTH), rules=[("**", DENSE)])
    assert "loop in time" in found.rows[-1].note
    assert next(row for row in found.rows if row.path == "x").note == ""


def test_what_has_no_reverse_pass_is_predicted_forward():
    def run(params: Any, x: jax.Array) -> jax.Array:
        y = jax.lax.while_loop(lambda y: y.sum() < 0, jnp.abs, x @ params["a"])
        return y @ params["b"]

    params = {"a": W, "b": W}
    first, second = signal.predict(
        run, params, shape(8, WIDTH), rules=[("**", DENSE)]
    ).rows
    assert first.rms == pytest.approx(1.0) and math.isnan(first.grad_rms)
    assert first.grad_note.startswith("no reverse pass: ")
    assert second.note.startswith("taken as 1 after while")


def other(dtype: str) -> tuple[Any, Any]:
    def run(params: Any, x: jax.Array) -> jax.Array:
        y = jnp.real(x.astype(dtype) @ params["a"])
        return y.astype(jnp.float32) @ params["b"]

    return run, {"a": jax.ShapeDtypeStruct((WIDTH, WIDTH), dtype), "b": W}


def test_a_narrow_dtype_has_a_way_back():
    run, params = other("bfloat16")
    found = signal.predict(run, params, shape(8, WIDTH), rules=[("**", DENSE)])
    back = [row.grad_rms for row in found.rows]
    assert back == pytest.approx([1.0, 1.0], rel=1e-3)


def test_complex_numbers_say_that_they_are_not_predicted():
    run, params = other("complex64")
    found = signal.predict(run, params, shape(8, WIDTH), rules=[("**", DENSE)])
    assert "complex numbers" in found.rows[0].note + found.rows[1].note
    assert found.rows[1].grad_rms == pytest.approx(1.0)


def no_law(key: Any, shape: Any, dtype: Any = None) -> Any:
    return jnp.ones(shape, dtype)


BAD: dict[str, tuple[Any, str]] = {
    "shapes without rules": (
        lambda: signal.predict(*chain(jnp.tanh, 2), shape(8, WIDTH)),
        "0 is a shape, and its law is not known; give rules=",
    ),
    "no law": (
        lambda: signal.predict(
            *chain(jnp.tanh, 2), shape(8, WIDTH), rules=[("**", no_law)]
        ),
        "states no law",
    ),
    "a mean": (
        lambda: signal.predict(
            *chain(jnp.tanh, 2),
            shape(8, WIDTH),
            rules=[("**", jaxinit.normal(0.1, mean=1.0))],
        ),
        "has the mean 1, not 0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, words = BAD[name]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert str(caught.value).startswith("signal.predict: ")
