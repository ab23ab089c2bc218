# SPDX-License-Identifier: Apache-2.0
"""Designs: scales that follow from the network, held against what it then does."""

import gc
import json
import math
import pickle
import weakref
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit.designs import power
from tests.helpers import fresh, read_shapes
from tests.models import LINEN

QUICK = True  # see conftest.py

X = jax.ShapeDtypeStruct((2, 64), "float32")


def mlp(activation: Any, depth: int = 3) -> tuple[Any, Any]:
    """A perceptron of equal widths without biases, and its parameters' shapes."""

    def run(params: Any, x: jax.Array) -> jax.Array:
        for w in params[:-1]:
            x = activation(x @ w)
        return x @ params[-1]

    return run, [jax.ShapeDtypeStruct((64, 64), "float32")] * depth


def scales(model: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
    """Var W times fan_in, by path."""
    made = jaxinit.design(model, *args, **kwargs)
    return {
        each.path: each.initializer.arguments["scale"]
        for each in made.lines
        if each.initializer is not None and "mode" in each.initializer.arguments
    }


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "silu"])
def test_the_gain_of_what_comes_before(name):
    found = scales(*mlp(getattr(jax.nn, name)), X)
    gain = jaxinit.gain("gelu_tanh" if name == "gelu" else name)
    assert found == pytest.approx({"0": 1.0, "1": gain**2, "2": gain**2}, rel=1e-9)


def test_an_activation_of_the_user():
    found = scales(*mlp(lambda x: jnp.where(x > 0, x, 0.1 * x) + x**2), X)
    # E (a z + z²)² = E a² z² + 2 E a z³ + E z⁴, with a = 1 or 0.1 on the half lines
    odd = 2 * (1 - 0.1) * math.sqrt(2 / math.pi)
    assert found["1"] == pytest.approx(1 / (0.505 + odd + 3), rel=1e-6)


def test_what_is_done_alike_is_integrated_once_and_not_held(monkeypatch):
    done: list[Any] = []
    alone = power._alone

    def count(f, *args):
        done.append(weakref.ref(f))
        return alone(f, *args)

    monkeypatch.setattr(power, "_alone", count)
    model, params = mlp(lambda x: jnp.where(x > 0, 0.7 * x, jnp.tanh(x)), depth=9)
    found = scales(model, params, X)
    assert len(done) == 1 and len({found[str(k)] for k in range(1, 9)}) == 1
    scales(*mlp(lambda x: jnp.where(x > 0, 0.6 * x, jnp.tanh(x))), X)
    assert len(done) == 2
    gc.collect()
    assert [each() for each in done] == [None, None]  # they hold a network


def test_gates_are_integrated_together():
    def swiglu(params: Any, x: jax.Array) -> jax.Array:
        gate, up, down = params
        return (jax.nn.silu(x @ gate) * (x @ up)) @ down

    found = scales(swiglu, [jax.ShapeDtypeStruct((64, 64), "float32")] * 3, X)
    assert found["2"] == pytest.approx(jaxinit.gain("silu") ** 2, rel=1e-6)
    assert found["2"] != pytest.approx(jaxinit.gain("silu"), rel=1e-2)


def test_backward():
    model, params = mlp(jnp.tanh)
    made = jaxinit.design(model, params, X, direction="backward")
    init = made.lines[1].initializer
    assert init is not None
    wanted = jaxinit.gain("tanh", "backward") ** 2
    assert init.arguments["mode"] == "fan_out"
    assert init.arguments["scale"] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("one", [0.0, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_scale_that_one_is_added_to_starts_at_zero(one, dtype):
    def run(params: Any, x: jax.Array) -> jax.Array:
        return (x @ params["w"]) * (one + params["g"])[None]

    w, g = (jax.ShapeDtypeStruct(s, dtype) for s in ((64, 8), (8,)))
    x = jax.ShapeDtypeStruct((2, 64), dtype)
    lines = {p.path: p for p in jaxinit.design(run, {"w": w, "g": g}, x).lines}
    assert lines["g"].initializer == (jaxinit.zeros if one else jaxinit.ones)
    assert jaxinit.read(run, {"w": w, "g": g}, x)["g"].neutral == 1 - one


def biased(activation: Any, depth: int) -> tuple[Any, Any]:
    """A perceptron with biases, and its parameters' shapes."""

    def run(params: Any, x: jax.Array) -> jax.Array:
        for k, (w, b) in enumerate(params):
            x = (activation(x) if k else x) @ w + b[None]
        return x

    shapes = [jax.ShapeDtypeStruct(s, "float32") for s in ((64, 64), (64,))]
    return run, [shapes] * depth


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["tanh", "gelu", "relu"])
def test_the_edge_of_chaos(name):
    run, params = biased(getattr(jax.nn, name), 12)
    made = jaxinit.design(run, params, X, direction="critical")
    f = "gelu_tanh" if name == "gelu" else name
    point = jaxinit.theory.critical(f, q=1.0)
    lines: Any = {each.path: each.initializer for each in made.lines}
    assert lines["5/0"].arguments["scale"] == pytest.approx(point.sigma_w**2, rel=1e-9)
    stddev = lines["5/1"].arguments.get("stddev", 0.0)
    assert stddev == pytest.approx(point.sigma_b, rel=1e-6, abs=1e-4)
    rows = jaxinit.signal.predict(run, params, X, rules=made).rows
    assert [row.rms for row in rows[:-1]] == pytest.approx([1.0] * 11, abs=1e-6)
    back = [row.grad_rms for row in rows[:-1]]
    assert back == pytest.approx([back[0]] * 11, rel=1e-6)
    forward = jaxinit.design(run, params, X)
    back = [
        row.grad_rms
        for row in jaxinit.signal.predict(run, params, X, rules=forward).rows
    ]
    assert (back[0] == pytest.approx(back[-2], rel=0.01)) == (name == "relu")


def test_where_there_is_no_edge_of_chaos():
    run, params = biased(jax.nn.sigmoid, 3)
    lines = jaxinit.design(run, params, X, direction="critical").lines
    reasons = {each.path: each.reason for each in lines}
    assert "no critical point of length 1 behind sigmoid" in reasons["1/0"]
    lines = jaxinit.design(*mlp(jnp.tanh), X, direction="critical").lines
    assert "wants a bias, and there is none" in lines[1].reason
    assert jaxinit.read(run, params, X)["1/0"].bias == "1/1"


def test_branches_share_the_stream():
    model, x = LINEN["gpt2"]
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    lines = {each.path: each for each in jaxinit.design(model, variables, x).lines}
    out = lines["params/Block_1/MultiHeadDotProductAttention_0/out/kernel"]
    assert out.initializer is not None
    assert out.initializer.arguments["scale"] == pytest.approx(1 / 4)
    assert out.reason.endswith("÷ √4: it ends residual branch 3 of 4")
    query = lines["params/Block_1/MultiHeadDotProductAttention_0/query/kernel"]
    assert "normalised" in query.reason
    assert lines["params/Embed_0/embedding"].initializer == jaxinit.normal(1.0)


@pytest.mark.sweep
@pytest.mark.parametrize("name", LINEN)
def test_one_line_initialises_any_network(name, key):
    model, x = LINEN[name]
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    network, rules = read_shapes(model, x), jaxinit.design(model, shapes, x)
    left = [each.path for each in rules.lines if each.initializer is None]
    assert left == []
    table = jaxinit.describe_tree(nn.unbox(shapes), rules, layers=network)
    assert len(table.rows) == len(rules.lines) == len(rules)


class Deep(nn.Module):
    activation: Any
    depth: int = 20

    @nn.compact
    def __call__(self, x):
        for _ in range(self.depth):
            x = self.activation(nn.Dense(256, use_bias=False)(x))
        return nn.Dense(256, use_bias=False)(x)


def factors(rules: Any, activation: Any, key: jax.Array) -> np.ndarray:
    """The standard deviations of all outputs, after such rules."""
    model, x = Deep(activation), jax.random.normal(fresh(key), (256, 256))
    shapes = jax.eval_shape(model.init, key, x)
    network = jaxinit.read(model, shapes, x)
    variables = jaxinit.init_tree(jax.random.key(3), shapes, rules, layers=network)
    rows = jaxinit.signal.report(model, variables, x).rows
    return np.array([row.rms for row in rows])


@pytest.mark.sweep
@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.gelu, jax.nn.relu])
def test_the_signal_is_kept_through_twenty_layers(activation, key):
    """log rms walks by √(5 / width) a layer at most (Hanin & Rolnick 2018)."""
    x = jax.ShapeDtypeStruct((256, 256), "float32")
    model = Deep(activation)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    rms = factors(jaxinit.design(model, shapes, x), activation, key)
    walk = 0.5 * math.sqrt(5 / 256 * len(rms))
    assert np.abs(np.log(rms)).max() < 3 * walk
    plain = factors([("kernel", jaxinit.glorot_normal())], activation, key)
    assert np.abs(np.log(plain)).max() > 3 * walk  # a default does not keep it


class Image(nn.Module):
    """Borders of zeros, a maximum over windows, statistics, and a head."""

    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = nn.gelu(nn.Conv(64, (3, 3))(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.gelu(nn.Conv(64, (3, 3))(x))
        x = nn.BatchNorm(use_running_average=False)(x)
        x = nn.gelu(nn.Conv(64, (3, 3))(x))
        return nn.Dense(10)(x.mean((1, 2)))


def test_a_prediction_corrects_what_the_formulas_miss():
    model, x = Image(), jax.random.normal(jax.random.key(0), (8, 8, 8, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    made = jaxinit.design(model, shapes, x)
    found = jaxinit.signal.predict(model, shapes, x, rules=made)
    convs = [row for row in found.rows if "Conv" in row.path]
    exact = [row for row in convs if not row.note]
    assert [row.rms for row in exact] == pytest.approx([1.0] * len(exact), abs=0.011)
    assert len(exact) >= 2
    reasons = {each.path: each.reason for each in made.lines}
    assert ": by the prediction" in reasons["params/Conv_1/kernel"]
    assert "prediction" not in reasons["params/Dense_0/kernel"]  # the head
    assert jaxinit.design(model, shapes, jnp.zeros_like(x)) == jaxinit.design(
        model, shapes, jax.ShapeDtypeStruct(x.shape, x.dtype)
    )


def test_running_averages_start_as_those_of_unit_gaussians(key):
    model, x = Image(), jnp.zeros((8, 8, 8, 3))
    shapes = jax.eval_shape(model.init, key, x)
    made = jaxinit.design(model, shapes, x)
    network = jaxinit.read(model, shapes, x)
    variables = jaxinit.init_tree(fresh(key), shapes, made, layers=network)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    averages = variables["batch_stats"]["BatchNorm_0"]
    assert not averages["mean"].any() and (averages["var"] == 1).all()
    reasons = {each.path: each.reason for each in made.lines}
    var = "batch_stats/BatchNorm_0/var"
    assert reasons[var] == "1 at first: running variance"
    parameters = {"params": shapes["params"]}
    table = jaxinit.describe_tree(parameters, made, layers=network)
    assert len(table.rows) == len(made) - 2  # a part of the tree will do


def test_rules_of_your_own_stand_before_it(key):
    model, params = mlp(jnp.tanh)
    rules = [("1", jaxinit.zeros), *jaxinit.design(model, params, X)]
    drawn = jaxinit.init_tree(key, params, rules)
    assert not drawn[1].any() and drawn[0].any() and drawn[2].any()
    with pytest.raises(ValueError, match=r"rule 0 \('7'\) matches nothing"):
        jaxinit.init_tree(key, params, [("7", jaxinit.zeros), *rules[1:]])


def test_what_is_not_known_is_left():
    def odd(params: Any, x: jax.Array) -> jax.Array:
        return x @ jnp.exp(params["w"])

    w = {"w": jax.ShapeDtypeStruct((64, 4), "float32")}
    made = jaxinit.design(odd, w, X)
    (line,) = made.lines
    assert line.initializer is None and line.reason == "the reading ends at exp"
    assert made == () and "yours" in repr(made)


def test_a_design_is_a_value():
    made = jaxinit.design(*mlp(jnp.tanh), X)
    assert pickle.loads(pickle.dumps(made)) == made == tuple(made)
    assert pickle.loads(pickle.dumps(made)).lines == made.lines
    plain = json.loads(made.to_json())
    assert [jaxinit.get(each["initializer"]) for each in plain] == [i for _, i in made]
    assert repr(made).splitlines()[0].split() == ["parameter", "initializer", "reason"]
    assert made._repr_html_().count("<tr>") == 1 + len(made)


def test_a_path_with_signs_is_taken_literally():
    w = {"a[0]*": jax.ShapeDtypeStruct((64, 4), "float32")}
    made = jaxinit.design(lambda p, x: x @ p["a[0]*"], w, X)
    assert len(jaxinit.describe_tree(w, made).rows) == 1


def test_bad_input():
    with pytest.raises(ValueError, match="design: direction must be one of"):
        jaxinit.design(*mlp(jnp.tanh), X, direction="sideways")
    with pytest.raises(TypeError, match="not its class"):
        jaxinit.design(nn.Dense, X)
