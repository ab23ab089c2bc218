# SPDX-License-Identifier: Apache-2.0
"""The recipes for deep networks: what they draw, and what depth does to it.

The networks are stacks of blocks under `nn.scan`, so that any depth compiles alike.
What a paper promises of depth is measured at a small depth and at a large one, and so
is the network without the paper's factor, for which it must fail.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit import rules
from tests.helpers import exponent, fresh, read_shapes
from tests.rules.test_rules import assert_drawn, stds

QUICK = True  # see conftest.py

WIDTH, BATCH, CLASSES = 64, 64, 4

Dense = functools.partial(nn.Dense, use_bias=False)
Norm = functools.partial(nn.LayerNorm, use_bias=False, use_scale=False)


class Plain(nn.Module):
    """A residual branch of two layers."""

    @nn.compact
    def __call__(self, x, _):
        h = nn.relu(Dense(WIDTH, name="up")(x))
        return x + Dense(WIDTH, name="down")(h), None


class Gated(nn.Module):
    """A branch with a multiplier, and one of each channel."""

    @nn.compact
    def __call__(self, x, _):
        h = nn.relu(nn.Dense(WIDTH, name="up")(x))
        alpha = self.param("alpha", nn.initializers.ones, ())
        gamma = self.param("gamma", nn.initializers.ones, (WIDTH,))
        return x + alpha * gamma[None] * h, None


class PreNorm(nn.Module):
    """A branch that is normalised first, four times as wide inside."""

    @nn.compact
    def __call__(self, x, _):
        h = nn.relu(Dense(4 * WIDTH, name="up")(Norm()(x)))
        return x + Dense(WIDTH, name="down")(h), None


class PostNorm(nn.Module):
    """DeepNorm's block, with α among the parameters, but not learned."""

    @nn.compact
    def __call__(self, x, _):
        alpha = jax.lax.stop_gradient(self.param("alpha", nn.initializers.ones, ()))
        h = nn.relu(Dense(2 * WIDTH, name="up")(x))
        return Norm()(alpha * x + Dense(WIDTH, name="down")(h)), None


class Transformer(nn.Module):
    """A transformer's block without normalisation; the batch is its sequence."""

    @nn.compact
    def __call__(self, x, _):
        attention = nn.MultiHeadDotProductAttention(2, use_bias=False, name="attention")
        x = x + attention(x[None])[0]
        h = nn.relu(Dense(2 * WIDTH, name="up")(x))
        return x + Dense(WIDTH, name="down")(h), None


TRANSFORMER = ["value/kernel", "out/kernel", "up/kernel", "down/kernel"]


class Net(nn.Module):
    """Blocks between a layer, or a table of tokens, and a head."""

    depth: int
    block: Any = Plain
    tokens: bool = False

    @nn.compact
    def __call__(self, x):
        if self.tokens:
            x = nn.Embed(BATCH, WIDTH, name="into")(jnp.arange(BATCH))
        else:
            x = Dense(WIDTH, name="into")(x)
        stack = nn.scan(
            self.block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.depth,
        )
        x, _ = stack(name="blocks")(x, None)
        return nn.Dense(CLASSES, name="head")(x), x


INPUTS = np.random.default_rng(0).normal(size=(BATCH, WIDTH)).astype("float32")
LABELS = np.arange(BATCH) % CLASSES


def parts(model: Net, recipe: Any) -> tuple[Any, Any, Any]:
    """The shapes of a model, its layers and its rules."""
    tree = jax.eval_shape(model.init, jax.random.key(0), INPUTS)
    return tree, read_shapes(model, INPUTS), recipe


def draw(model: Net, recipe: Any, key: jax.Array) -> Any:
    tree, layers, _ = parts(model, recipe)
    return jaxinit.init_tree(fresh(key), tree, recipe, layers=layers)


@functools.partial(jax.jit, static_argnums=0)
def outputs(model: Net, params: Any) -> tuple[jax.Array, jax.Array]:
    """The logits and the last features."""
    return model.apply(params, INPUTS)


@functools.partial(jax.jit, static_argnums=0)
def stepped(model: Net, params: Any, rate: float) -> Any:
    """The parameters after a step of gradient descent on the cross-entropy."""

    def loss(params):
        logits, _ = model.apply(params, INPUTS)
        return -nn.log_softmax(logits)[jnp.arange(BATCH), LABELS].mean()

    return jax.tree.map(lambda p, g: p - rate * g, params, jax.grad(loss)(params))


def rms(x: Any) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(x, "float64")))))


def through(params: Any) -> Any:
    """What the first layer makes of the inputs."""
    return outputs(Net(1), {"params": {**params["params"], "blocks": NOTHING}})[1]


NOTHING = {
    name: {"kernel": np.zeros((1, WIDTH, WIDTH), "float32")} for name in ("up", "down")
}


REST = [("kernel", jaxinit.he_normal()), ("bias", jaxinit.zeros)]

# --- Fixup ----------------------------------------------------------------------------

FIXUP = (["up/kernel"], ["down/kernel"], ["head/kernel"])


def test_fixup_stds(key):
    plan = parts(Net(16), rules.fixup(16, *FIXUP))
    found = stds(*plan)
    he = math.sqrt(2 / WIDTH)
    assert found["blocks/up/kernel"] == pytest.approx(he / 4)
    assert found["into/kernel"] == pytest.approx(he)
    assert found["blocks/down/kernel"] == found["head/kernel"] == 0
    assert_drawn(*plan, key)


@pytest.mark.parametrize(("depth", "power"), [(2, 1 / 2), (3, 1 / 4), (5, 1 / 8)])
def test_fixup_by_the_depth_of_a_branch(depth, power):
    tree = {"up": {"kernel": jax.ShapeDtypeStruct((50, 50), "float32")}}
    found = stds(tree, {}, [rules.fixup(20, *FIXUP, depth=depth)[0]])
    assert found["up/kernel"] == pytest.approx(0.2 * 20**-power)


def test_fixup_is_silent_and_passes_on_what_he_multiplies(key):
    model = Net(16)
    params = draw(model, rules.fixup(16, *FIXUP), key)
    logits, last = outputs(model, params)
    assert not logits.any()
    np.testing.assert_array_equal(last, through(params))
    plain = draw(model, REST, key)
    # He's branch has twice the variance of its input, so that a block triples it.
    assert rms(outputs(model, plain)[1]) / rms(through(plain)) > math.sqrt(2**16)


def learned(branches: int, depth: int, key: jax.Array) -> float:
    """How far two steps move the features; the first one only wakes the head."""
    model = Net(depth)
    params = draw(model, rules.fixup(branches, *FIXUP), key)
    _, before = outputs(model, params)
    for _ in range(2):
        params = stepped(model, params, 0.1)
    return rms(outputs(model, params)[1] - before)


@pytest.mark.thorough
def test_fixup_learns_alike_at_every_depth(key):
    assert abs(exponent(learned(4, 4, key), learned(64, 64, key), 16)) < 1 / 4
    # Without the factor 64 branches move 16 times as far as 4.
    assert exponent(learned(1, 4, key), learned(1, 64, key), 16) > 3 / 4


def test_fixup_refuses_branches_of_one_layer():
    with pytest.raises(ValueError, match="depth must be at least 2, got 1"):
        rules.fixup(8, *FIXUP, depth=1)


# --- T-Fixup and DeepNorm -------------------------------------------------------------


def moved(model: Net, recipe: Any, key: jax.Array) -> float:
    """How far a small step moves the logits, by its size."""
    params = draw(model, recipe, key)
    before, _ = outputs(model, params)
    after, _ = outputs(model, stepped(model, params, 0.001))
    return rms(after - before) / 0.001


def test_t_fixup_stds(key):
    encoder, decoder = ["encoder/value/kernel"], ["decoder/value/kernel"]
    recipe: Any = rules.t_fixup(6, 6, encoder, decoder)
    (_, first), (_, second), _ = recipe
    # Xavier's standard deviation is 1/8 for 64 by 64.
    assert 8 * first.law((64, 64)).std == pytest.approx(0.42809188, rel=1e-7)
    assert 8 * second.law((64, 64)).std == pytest.approx(0.36889397, rel=1e-7)
    table = {"embedding": jax.ShapeDtypeStruct((90, 16), "float32")}
    for layers in ((6, 6), (0, 6), (6, 0)):
        (row,) = jaxinit.describe_tree(table, rules.t_fixup(*layers, [], [])).rows
        assert row.std == pytest.approx(0.36889397 / 4)
    plan = parts(Net(6, Transformer, tokens=True), rules.t_fixup(0, 6, [], TRANSFORMER))
    found = stds(*plan)
    query = 1 / math.sqrt(2) / 8
    assert found["blocks/attention/query/kernel"] == pytest.approx(query)
    assert found["blocks/attention/value/kernel"] == pytest.approx(0.36889397 / 8)
    assert_drawn(*plan, key)


@pytest.mark.thorough
def test_t_fixup_learns_alike_at_every_depth(key):
    def at(layers, depth):
        recipe = rules.t_fixup(0, layers, [], ["up/kernel", "down/kernel"])
        return moved(Net(depth, tokens=True), recipe, key)

    assert abs(exponent(at(2, 2), at(32, 32), 16)) < 1 / 4
    assert exponent(at(2, 2), at(2, 32), 16) > 1 / 4


# arXiv:2203.00555, figure 2, for N = M = 12.
SCALES: dict[Any, list[Any]] = {
    (12, 0): [(2.21336384, 0.31947155), None],
    (0, 12): [None, (2.21336384, 0.31947155)],
    (12, 12): [(1.76087756, 0.40019818), (2.44948974, 0.28867513)],
}


@pytest.mark.parametrize("layers", SCALES, ids=str)
def test_deepnorm_scales(layers):
    for found, wanted in zip(
        rules.deepnorm_scales(*layers), SCALES[layers], strict=True
    ):
        assert found == (wanted and pytest.approx(wanted, rel=1e-7))


def test_deepnorm_stds():
    recipe = rules.deepnorm(12, 0, TRANSFORMER, [])
    found = stds(*parts(Net(12, Transformer, tokens=True), recipe))
    up = math.sqrt(2 / (3 * WIDTH))
    assert found["blocks/attention/key/kernel"] == pytest.approx(1 / 8)
    assert found["blocks/attention/out/kernel"] == pytest.approx(0.31947155 / 8)
    assert found["blocks/up/kernel"] == pytest.approx(0.31947155 * up)
    assert found["into/embedding"] == pytest.approx(1 / 8)
    both: Any = rules.deepnorm(12, 12, ["a"], ["b"])
    (_, first), (_, second), _ = both
    assert 8 * first.law((64, 64)).std == pytest.approx(0.40019818)
    assert 8 * second.law((64, 64)).std == pytest.approx(0.28867513)


@pytest.mark.thorough
def test_deepnorm_learns_alike_at_every_depth(key):
    def at(depth, alpha, patterns):
        recipe = rules.deepnorm(depth, 0, patterns, [])
        recipe = [("alpha", jaxinit.constant(alpha)), *recipe]
        return moved(Net(depth, PostNorm), recipe, key)

    def deep(depth):
        scales, _ = rules.deepnorm_scales(depth, 0)
        assert scales is not None
        return at(depth, scales.alpha, ["up/kernel", "down/kernel"])

    assert abs(exponent(deep(2), deep(32), 16)) < 1 / 4
    assert exponent(at(2, 1.0, []), at(32, 1.0, []), 16) > 1 / 4


@pytest.mark.parametrize("recipe", [rules.t_fixup, rules.deepnorm])
def test_stacks_without_layers_are_told(recipe):
    with pytest.raises(ValueError, match="are both 0"):
        recipe(0, 0, [], [])
    with pytest.raises(ValueError, match=r"decoder names kernels.*give decoder_layers"):
        recipe(6, 0, [], ["value/kernel"])


# --- multipliers ----------------------------------------------------------------------


def test_rezero_begins_as_the_identity(key):
    model = Net(8, Gated)
    gamma = ("gamma", jaxinit.ones)
    params = draw(model, [*rules.rezero(["alpha"]), gamma, *REST], key)
    _, last = outputs(model, params)
    np.testing.assert_array_equal(last, through(params))
    ones = draw(model, [("alpha", jaxinit.ones), gamma, *REST], key)
    assert rms(outputs(model, ones)[1] - last) > rms(last)


@pytest.mark.parametrize(
    ("layers", "scale"), [(12, 0.1), (18, 0.1), (24, 1e-5), (25, 1e-6), (36, 1e-6)]
)
def test_layer_scale(layers, scale, key):
    tree = {"gamma": jax.ShapeDtypeStruct((layers, WIDTH), "float32")}
    drawn = jaxinit.init_tree(fresh(key), tree, rules.layer_scale(layers, ["gamma"]))
    np.testing.assert_array_equal(
        drawn["gamma"], np.full((layers, WIDTH), scale, "float32")
    )


def test_layer_scale_makes_deep_networks_begin_near_the_identity(key):
    def added(layers):
        scales = rules.layer_scale(layers, ["gamma"])
        recipe = [*scales, ("alpha", jaxinit.ones), *REST]
        params = draw(Net(36, Gated), recipe, key)
        first = through(params)
        return rms(outputs(Net(36, Gated), params)[1] - first) / rms(first)

    assert 0 < added(36) < 1e-4
    assert added(18) > 1


# --- small init -----------------------------------------------------------------------


def test_small_init_stds(key):
    recipe = rules.small_init(12, ["down/kernel"], 512)
    shape = {"kernel": jax.ShapeDtypeStruct((8, 8), "float32")}
    found = stds({"up": shape, "down": shape}, {}, recipe)
    assert found["up/kernel"] == pytest.approx(0.0279508497)
    assert found["down/kernel"] == pytest.approx(0.0073656956)
    plan = parts(Net(4, PreNorm), rules.small_init(4, ["down/kernel"], WIDTH))
    assert_drawn(*plan, key)


def added(recipe: Any, depth: int, key: jax.Array) -> float:
    """The variance that all branches add to the stream."""
    params = draw(Net(depth, PreNorm), recipe, key)
    _, last = outputs(Net(depth, PreNorm), params)
    return rms(last - through(params)) ** 2


@pytest.mark.parametrize("depth", [4, 32])
def test_small_init_adds_a_variance_of_one_over_the_depth(depth, key):
    # Of a normalised input: 2/5 before relu, 1/5 after it, and 4d · 1/5 · 4/(L² d) of a
    # branch. A feature's mean square over the batch has the relative error √2 or less,
    # and there are WIDTH of them.
    wanted, error = 3.2 / depth, math.sqrt(2 / WIDTH)
    assert added(rules.small_init(depth, ["down/kernel"], WIDTH), depth, key) == (
        pytest.approx(wanted, rel=5 * error)
    )
    plain = rules.small_init(depth, [], WIDTH)
    assert added(plain, depth, key) > 1.5 * wanted
