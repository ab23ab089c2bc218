# SPDX-License-Identifier: Apache-2.0
"""muP and Depth-muP: standard deviations, rates, and the coordinate check.

A model's outputs must move alike in the first steps, however wide or deep it is; with
the standard parametrisation, and with half of the recipe, they must not.
"""

import functools
import math
import operator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxinit
import jaxinit.nnx
from jaxinit import rules
from tests.helpers import exponent, fresh, read_shapes
from tests.rules.oracle import recorded
from tests.rules.oracle_scaling import ROWS, Widened
from tests.rules.test_rules import stds

QUICK = True  # see conftest.py

INPUTS, OUTPUTS, BATCH, FEATURES = 16, 4, 64, 256
# The targets' mean, which all networks see, stands out from what they begin with.
RNG = np.random.default_rng(0)
X = RNG.normal(size=(BATCH, INPUTS)).astype("float32")
Y = (4 + np.tanh(X @ RNG.normal(size=(INPUTS, OUTPUTS)))).astype("float32")


class Wide(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.width, name="into")(x))
        x = nn.relu(nn.Dense(self.width, name="hidden")(x))
        return nn.Dense(OUTPUTS, name="out")(x)


class Deep(nn.Module):
    """Branches of one layer."""

    depth: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(FEATURES, name="into")(x)
        stack = nn.scan(
            _Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.depth,
        )
        x, _ = stack(name="blocks")(x, None)
        return nn.Dense(OUTPUTS, name="out")(x)


class _Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.Dense(FEATURES, name="only")(nn.relu(x)), None


STANDARD = [
    ("out/kernel", jaxinit.lecun_normal()),
    ("kernel", jaxinit.he_normal()),
    ("bias", jaxinit.zeros),
]


def shapes(model: nn.Module) -> Any:
    return jax.eval_shape(model.init, jax.random.key(0), X)


OPTIMIZERS = {"adam": optax.scale_by_adam(), "sgd": optax.identity()}


@functools.partial(jax.jit, static_argnums=(0, 1))
def trained(model: nn.Module, optimizer: str, params: Any, rates: Any) -> Any:
    """The outputs before and after three steps, each parameter by its own rate."""

    def loss(params):
        return jnp.square(model.apply(params, X) - Y).mean()

    update = OPTIMIZERS[optimizer]
    state, after = update.init(params), params
    for _ in range(3):
        steps, state = update.update(jax.grad(loss)(after), state)
        after = jax.tree.map(lambda p, r, s: p - r * s, after, rates, steps)
    return model.apply(params, X), model.apply(after, X)


def moved(
    model: nn.Module, optimizer: str, recipe: Any, rates: Any, key: jax.Array
) -> float:
    """How far three steps move the outputs."""
    tree, layers = shapes(model), read_shapes(model, X)
    params = jaxinit.init_tree(fresh(key), tree, recipe, layers=layers)
    with jax.numpy_dtype_promotion("standard"):  # for optax
        before, after = trained(model, optimizer, params, rates)
    return float(np.sqrt(np.square(after - before).mean()))


def times(rates: Any, factor: float) -> Any:
    return jax.tree.map(lambda rate: rate * factor, rates)


# --- muP ------------------------------------------------------------------------------

BASE = shapes(Wide(64))


@pytest.mark.parametrize("width", [64, 256])
def test_mup_stds_are_those_of_the_base_by_kind(width):
    tree, grown = shapes(Wide(width)), width / 64
    found: Any = stds(tree, {}, rules.mup(BASE, STANDARD))
    base: Any = stds(BASE, {}, STANDARD)
    assert found["into/kernel"] == pytest.approx(base["into/kernel"])
    assert found["hidden/kernel"] == pytest.approx(
        base["hidden/kernel"] / math.sqrt(grown)
    )
    assert found["out/kernel"] == pytest.approx(base["out/kernel"] / grown)
    assert found["out/bias"] == 0


def test_mup_is_the_rules_themselves_at_the_base(key):
    drawn = [
        jaxinit.init_tree(fresh(key), BASE, recipe)
        for recipe in (STANDARD, rules.mup(BASE, STANDARD))
    ]
    jax.tree.map(np.testing.assert_array_equal, *drawn)


def test_mup_keeps_a_bias_that_depends_on_its_kernel(key):
    tree = shapes(Wide(256))
    found = stds(tree, {}, rules.mup(BASE, rules.torch()))
    assert found["hidden/bias"] == pytest.approx(1 / math.sqrt(3 * 64))
    assert found["hidden/kernel"] == pytest.approx(1 / math.sqrt(3 * 256))
    assert found["out/kernel"] == pytest.approx(1 / math.sqrt(3 * 64) / 4)


@pytest.mark.parametrize(
    ("optimizer", "into", "hidden", "out", "bias"),
    [("adam", 1, 1 / 4, 1 / 4, 1), ("sgd", 4, 1, 1 / 4, 4)],
)
def test_mup_rates(optimizer, into, hidden, out, bias):
    found = rules.mup_rates(shapes(Wide(256)), BASE, optimizer)["params"]
    assert [found[name]["kernel"] for name in ("into", "hidden", "out")] == [
        into,
        hidden,
        out,
    ]
    assert [found[name]["bias"] for name in ("into", "out")] == [bias, 1]
    assert set(jax.tree.leaves(rules.mup_rates(BASE, BASE, optimizer))) == {1.0}


@pytest.mark.sweep
@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 1e-3), ("sgd", 1e-3)])
def test_the_coordinate_check(optimizer, rate, key):
    narrow, wide = Wide(64), Wide(1024)
    recipe = rules.mup(BASE, STANDARD)
    rates = rules.mup_rates(shapes(wide), BASE, optimizer)
    ones = jax.tree.map(lambda _: 1.0, rates)

    def at(model, recipe, rates):
        return moved(model, optimizer, recipe, times(rates, rate), key)

    base = at(narrow, STANDARD, ones)
    assert abs(exponent(base, at(wide, recipe, rates), 16)) < 1 / 4
    # The steps of n weights add up: n, and √n for an output of 1/√n and right rates.
    assert exponent(base, at(wide, STANDARD, ones), 16) > 1 / 2
    assert exponent(base, at(wide, recipe, ones), 16) > 1 / 2
    assert exponent(base, at(wide, STANDARD, rates), 16) > 1 / 4


def test_rates_are_labels_for_optax(key):
    model = Wide(128)
    tree = shapes(model)
    rates = rules.mup_rates(tree, BASE)
    params = jaxinit.init_tree(fresh(key), tree, rules.mup(BASE, STANDARD))
    steps = {rate: optax.sgd(rate * 0.1) for rate in set(jax.tree.leaves(rates))}
    optimizer = optax.multi_transform(steps, rates)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimizer.update(params, optimizer.init(params), params)
    wanted = jax.tree.map(lambda p, r: -0.1 * r * p, params, rates)
    for found, each in zip(*map(jax.tree.leaves, (updates, wanted)), strict=True):
        np.testing.assert_allclose(found, each, rtol=1e-6)


class Attentive(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(96, width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(width // 8, width, rngs=rngs)
        self.depthwise = nnx.Conv(
            width, width, (3,), feature_group_count=width, rngs=rngs
        )
        self.head = nnx.Linear(width, 96, rngs=rngs)

    def __call__(self, tokens):
        x = self.attention(self.embed(tokens), decode=False)
        return self.head(self.depthwise(x))


def test_mup_counts_the_axes_of_layers():
    narrow, wide = (
        nnx.eval_shape(lambda width=width: Attentive(width, nnx.Rngs(0)))
        for width in (16, 64)
    )
    trees = [nnx.state(model, nnx.Param) for model in (narrow, wide)]
    layers = [jaxinit.read(m, jnp.ones((1, 3), int)) for m in (narrow, wide)]
    rates = rules.mup_rates(trees[1], trees[0], layers=layers[1], base_layers=layers[0])
    found = {
        jax.tree_util.keystr(path[:-1], simple=True, separator="/"): rate
        for path, rate in jax.tree.leaves_with_path(rates)
    }
    quarter = {path for path, rate in found.items() if rate == 1 / 4}
    assert quarter == {
        *(f"attention/{name}/kernel" for name in ("query", "key", "value", "out")),
        "head/kernel",
    }
    assert {found[path] for path in found.keys() - quarter} == {1.0}
    recipe = rules.mup(trees[0], rules.torch(), layers=layers[0])
    table = jaxinit.describe_tree(trees[1], recipe, layers=layers[1])
    base = jaxinit.describe_tree(trees[0], rules.torch(), layers=layers[0])
    ratios = {
        row.path: row.std / old.std
        for row, old in zip(table.rows, base.rows, strict=True)
        if row.std and old.std
    }
    assert ratios["attention/query/kernel"] == pytest.approx(1 / 2)
    assert ratios["depthwise/kernel"] == ratios["embed/embedding"] == pytest.approx(1)
    assert ratios["head/kernel"] == pytest.approx(1 / 4)


def test_mup_tells_what_does_not_fit():
    tree = {"kernel": jax.ShapeDtypeStruct((8, 8), "float32")}
    other = {"weight": jax.ShapeDtypeStruct((8, 8), "float32")}
    flat = {"kernel": jax.ShapeDtypeStruct((8,), "float32")}
    with pytest.raises(ValueError, match="the base has no kernel; the nearest is weig"):
        rules.mup_rates(tree, other)
    with pytest.raises(ValueError, match="must have the same axes"):
        rules.mup_rates(tree, flat)
    with pytest.raises(ValueError, match=r"did you mean 'adam'"):
        rules.mup_rates(tree, tree, "adamw")
    foreign = rules.mup(tree, [("kernel", nn.initializers.lecun_normal())])
    with pytest.raises(ValueError, match=r"for kernel states no law"):
        jaxinit.describe_tree(tree, foreign)


# --- Depth-muP ------------------------------------------------------------------------


def test_depth_mup_stds():
    found = stds(
        shapes(Deep(16)),
        read_shapes(Deep(16), X),
        rules.depth_mup(16, ["only/kernel"], STANDARD, base=4),
    )
    assert found["blocks/only/kernel"] == pytest.approx(math.sqrt(2 / FEATURES) / 2)
    assert found["into/kernel"] == pytest.approx(math.sqrt(2 / INPUTS))


@pytest.mark.parametrize(("optimizer", "inner"), [("adam", 1 / 2), ("sgd", 1)])
def test_depth_mup_rates(optimizer, inner):
    kernel = {"kernel": jax.ShapeDtypeStruct((8, 8), "float32")}
    tree = {"down": kernel, "out": kernel, "up": kernel}
    found = rules.depth_mup_rates(tree, 16, ["down/*"], ["up/*"], optimizer, base=4)
    assert jax.tree.leaves(found) == [1 / 4, 1, inner]
    wide = jax.tree.map(lambda shape: 1 / shape.shape[0], tree)
    both = jax.tree.map(operator.mul, found, wide)
    assert jax.tree.leaves(both) == [1 / 32, 1 / 8, inner / 8]
    with pytest.raises(ValueError, match=r"inner\[0\] \('left/\*'\) matches nothing"):
        rules.depth_mup_rates(tree, 16, ["down/*"], ["left/*"])


@pytest.mark.thorough
@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 1e-4), ("sgd", 1e-4)])
def test_the_coordinate_check_over_depths(optimizer, rate, key):
    def at(depth, power):
        model = Deep(depth)
        rates = rules.depth_mup_rates(shapes(model), depth, ["only/*"], (), optimizer)
        rates = jax.tree.map(lambda each: rate * each**power, rates)
        recipe = rules.depth_mup(depth, ["only/kernel"], STANDARD)
        return moved(model, optimizer, recipe, rates, key)

    assert abs(exponent(at(16, 1), at(64, 1), 4)) < 1 / 4
    # The rates for a multiplier in the model are √L too high for one in the kernels.
    assert exponent(at(16, 1 / 2), at(64, 1 / 2), 4) > 1 / 4


def test_rates_are_those_of_mups_optimizers():
    """As recorded, with what the readout's factor does to a step of its kernel."""
    _, models = recorded("mup")
    wide, base = (
        jax.eval_shape(Widened(width).init, jax.random.key(0), ROWS)
        for width in (64, 16)
    )
    factor = 16 / 64  # mup's readout multiplies what its kernel gives
    for name, whose, times in (
        ("adam", "MuAdam", factor),
        ("sgd", "MuSGD", factor**2),
    ):
        found = rules.mup_rates(wide, base, name)["params"]
        theirs = models[f"MLP, rates of {whose}"]
        for layer, rates in found.items():
            for ours, kind in (("kernel", "weight"), ("bias", "bias")):
                row = theirs[f"{layer}.{kind}"]
                last = layer == "4" and kind == "weight"
                assert rates[ours] == pytest.approx(row.mean * (times if last else 1))
