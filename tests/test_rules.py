# SPDX-License-Identifier: Apache-2.0
"""The recipes, on real models, against the standard deviations that they state."""

import math
from typing import Any

import jax
import numpy as np
import pytest
import scipy.stats
from flax import nnx

import jaxinit
import jaxinit.linen
import jaxinit.nnx
from jaxinit import rules
from tests.helpers import fresh
from tests.models import HEADS, LINEN, NNX, VOCABULARY, WIDTH

PLACES = ("places", jaxinit.normal(0.02))
FLAT = 1 / math.sqrt(3)  # the standard deviation of U(-1, 1)


def planned(name: str, recipe: Any) -> tuple[Any, Any, Any]:
    """A Linen model's shapes, its layers, and the rules that its tree needs."""
    model, x = LINEN[name]
    tree = jax.eval_shape(model.init, jax.random.key(0), x)
    return tree, jaxinit.linen.layers(model, x), recipe


def stds(tree: Any, layers: Any, recipe: Any) -> dict[str, float | None]:
    """Wanted standard deviations by path, without the collection's name."""
    table = jaxinit.describe_tree(tree, recipe, layers=layers)
    return {row.path.removeprefix("params/"): row.std for row in table.rows}


def assert_drawn(tree: Any, layers: Any, recipe: Any, key: jax.Array) -> None:
    """What comes out is what the table says."""
    drawn = jaxinit.init_tree(fresh(key), tree, recipe, layers=layers)
    report = jaxinit.check_tree(drawn, recipe, layers=layers)
    assert report.ok, report.problems


def test_torch_linear_convolution_and_normalisation(key):
    plan = planned("resnet", rules.torch())
    found = stds(*plan)
    assert found["Conv_0/kernel"] == pytest.approx(FLAT / math.sqrt(9 * 3))
    assert found["Dense_0/kernel"] == pytest.approx(FLAT / math.sqrt(16))
    assert found["Dense_0/bias"] == pytest.approx(FLAT / math.sqrt(16))
    assert found["Residual_0/BatchNorm_0/scale"] == 0
    assert_drawn(*plan, key)


def test_torch_counts_a_transposed_convolution_by_its_outputs(key):
    plan = planned("unet", rules.torch())
    found = stds(*plan)
    # From 8 to 8 channels and from 12 to 4, window 2 x 2.
    for name, out in (("ConvTranspose_0", 8), ("ConvTranspose_1", 4)):
        assert found[f"{name}/kernel"] == pytest.approx(FLAT / math.sqrt(4 * out))
        assert found[f"{name}/bias"] == pytest.approx(FLAT / math.sqrt(4 * out))
    assert_drawn(*plan, key)


def test_torch_recurrent_kernels_by_their_hidden_size(key):
    plan = planned("lstm", rules.torch())
    found = stds(*plan)
    for name in ("ii/kernel", "hf/kernel", "hf/bias"):
        wanted = FLAT / math.sqrt(WIDTH)
        assert found[f"OptimizedLSTMCell_1/{name}"] == pytest.approx(wanted)
    assert_drawn(*plan, key)


@pytest.mark.parametrize("name", ["gpt2", "scanned"])
def test_torch_attention_is_one_fused_xavier_kernel(name, key):
    own = [PLACES] if name == "gpt2" else []
    plan = planned(name, [*own, *rules.torch()])
    found = stds(*plan)
    place = next(path for path in found if path.endswith("query/kernel"))
    place = place.removesuffix("query/kernel")
    xavier = FLAT * math.sqrt(6 / (WIDTH + 3 * WIDTH))
    for part in ("query", "key", "value"):
        assert found[f"{place}{part}/kernel"] == pytest.approx(xavier)
    assert found[f"{place}out/kernel"] == pytest.approx(FLAT / math.sqrt(WIDTH))
    assert found[f"{place}query/bias"] == found[f"{place}out/bias"] == 0
    assert found["Embed_0/embedding"] == 1
    assert_drawn(*plan, key)


def test_torch_fused_gates_of_nnx(key):
    cell = nnx.OptimizedLSTMCell(5, 16, rngs=nnx.Rngs(0))
    tree, layers = nnx.state(cell, nnx.Param), jaxinit.nnx.layers(cell)
    found = stds(tree, layers, rules.torch())
    assert found["dense_i/kernel"] == pytest.approx(FLAT / 4)
    assert found["dense_h/bias"] == pytest.approx(FLAT / 4)
    assert_drawn(tree, layers, rules.torch(), key)


def test_keras_recurrent_kernels_are_orthogonal_gate_by_gate(key):
    cell = nnx.OptimizedLSTMCell(5, 16, rngs=nnx.Rngs(0))
    tree, layers = nnx.state(cell, nnx.Param), jaxinit.nnx.layers(cell)
    drawn = jaxinit.init_tree(fresh(key), tree, rules.keras(), layers=layers)
    for gate in np.split(np.asarray(drawn["dense_h"]["kernel"][...]), 4, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(16), atol=1e-5)
    kernel = np.asarray(drawn["dense_i"]["kernel"][...])
    assert np.abs(kernel).max() <= math.sqrt(6 / (5 + 16))


def test_keras(key):
    plan = planned("gpt2", [PLACES, *rules.keras()])
    found = stds(*plan)
    assert found["Dense_0/kernel"] == pytest.approx(math.sqrt(2 / (WIDTH + VOCABULARY)))
    assert found["Block_0/Dense_0/kernel"] == pytest.approx(math.sqrt(2 / (5 * WIDTH)))
    assert found["Embed_0/embedding"] == pytest.approx(0.05 * FLAT)
    assert_drawn(*plan, key)


RESIDUAL = ["MultiHeadDotProductAttention_*/out/kernel", "Block_*/Dense_1/kernel"]


def test_gpt2(key):
    plan = planned("gpt2", [PLACES, *rules.gpt2(12, RESIDUAL)])
    found = stds(*plan)
    assert found["Block_1/Dense_0/kernel"] == found["Embed_0/embedding"] == 0.02
    assert found["Block_1/Dense_1/kernel"] == pytest.approx(0.0040824829)
    attention = "Block_0/MultiHeadDotProductAttention_0"
    assert found[f"{attention}/out/kernel"] == pytest.approx(0.0040824829)
    assert found[f"{attention}/query/kernel"] == 0.02
    assert_drawn(*plan, key)


def test_a_residual_pattern_that_matches_nothing_is_told():
    tree, layers, _ = planned("gpt2", None)
    with pytest.raises(ValueError, match=r"'attn/out'\) matches nothing"):
        stds(tree, layers, [PLACES, *rules.gpt2(12, ["attn/out"])])


def test_llama(key):
    recipe = rules.llama(8, RESIDUAL, ["/params/Dense_0/kernel"])
    plan = planned("gpt2", [PLACES, *recipe])
    found = stds(*plan)
    cut = scipy.stats.truncnorm.std(-3, 3)
    assert found["Block_1/Dense_0/kernel"] == pytest.approx(0.02 * cut)
    assert found["Block_1/Dense_1/kernel"] == pytest.approx(0.005 * cut)
    assert found["Dense_0/kernel"] == pytest.approx(cut / math.sqrt(WIDTH))
    assert_drawn(*plan, key)


def test_t5(key):
    plan = planned("gpt2", [PLACES, *rules.t5()])
    found = stds(*plan)
    attention = "Block_0/MultiHeadDotProductAttention_0"
    size = WIDTH // HEADS
    assert found[f"{attention}/query/kernel"] == pytest.approx(
        1 / math.sqrt(WIDTH * size)
    )
    for name in ("key/kernel", "out/kernel"):
        assert found[f"{attention}/{name}"] == pytest.approx(1 / math.sqrt(WIDTH))
    assert found["Block_0/Dense_1/kernel"] == pytest.approx(1 / math.sqrt(4 * WIDTH))
    assert_drawn(*plan, key)


def test_vit(key):
    own = [PLACES, ("token", jaxinit.zeros)]
    plan = planned("vit", [*own, *rules.vit(["params/Dense_0/kernel"])])
    found = stds(*plan)
    attention = "Block_0/MultiHeadDotProductAttention_0"
    assert found["Conv_0/kernel"] == pytest.approx(1 / math.sqrt(16 * 3))
    assert found[f"{attention}/query/kernel"] == pytest.approx(1 / math.sqrt(WIDTH))
    assert found["Block_0/Dense_0/kernel"] == pytest.approx(math.sqrt(2 / (5 * WIDTH)))
    assert found["Block_0/Dense_0/bias"] == 1e-6
    assert found["Dense_0/kernel"] == 0
    assert_drawn(*plan, key)


def test_resnet(key):
    plan = planned("resnet", rules.resnet(["Residual_*/BatchNorm_1/scale"]))
    tree, layers, recipe = plan
    found = stds(*plan)
    assert found["Conv_0/kernel"] == pytest.approx(math.sqrt(2 / (9 * 8)))
    drawn = jaxinit.init_tree(fresh(key), tree, recipe, layers=layers)["params"]
    assert (drawn["Residual_0"]["BatchNorm_1"]["scale"] == 0).all()
    assert (drawn["Residual_0"]["BatchNorm_0"]["scale"] == 1).all()
    assert_drawn(*plan, key)


def test_spectral_norms_are_of_one_order_at_every_width(key):
    for n_in, n_out in ((64, 1024), (1024, 64), (512, 512)):
        tree = {"kernel": jax.ShapeDtypeStruct((n_in, n_out), "float32")}
        drawn = jaxinit.init_tree(fresh(key), tree, rules.spectral())
        norm = np.linalg.norm(np.asarray(drawn["kernel"]), 2)
        wanted = 1 + math.sqrt(min(n_in, n_out) / max(n_in, n_out))  # Bai and Yin
        assert norm / math.sqrt(n_out / n_in) == pytest.approx(wanted, rel=0.03)


def test_a_name_that_no_recipe_knows():
    tree = {"temperature": jax.ShapeDtypeStruct((), "float32")}
    with pytest.raises(
        ValueError, match=r"the recipe keras knows bias, .* temperature"
    ):
        jaxinit.describe_tree(tree, rules.keras())


# --- layers ---------------------------------------------------------------------------


def test_layers_of_linen():
    model, x = LINEN["scanned"]
    found = jaxinit.linen.layers(model, x)
    (query,) = (layer for path, layer in found.items() if "query" in path)
    assert query.stack == 0
    assert query.fans == jaxinit.Fans.axes((0,), (1, 2))
    model, x = LINEN["unet"]
    found = jaxinit.linen.layers(model, x)
    assert found["params/ConvTranspose_0/kernel"].fans == jaxinit.Fans.conv_transpose(
        (2, 2)
    )
    model, x = LINEN["experts"]
    assert any(each.stack == 0 for each in jaxinit.linen.layers(model, x).values())


@pytest.mark.parametrize("name", LINEN)
def test_every_kernel_of_a_model_has_its_layer(name):
    model, x = LINEN[name]
    tree = jax.eval_shape(model.init, jax.random.key(0), x)
    paths = {
        row.path
        for row in jaxinit.describe_tree(tree, [("**", jaxinit.zeros)]).rows
        if row.path.endswith(("kernel", "embedding"))
    }
    assert set(jaxinit.linen.layers(model, x)) == paths


@pytest.mark.parametrize("name", NNX)
def test_every_kernel_of_an_nnx_model_has_its_layer(name):
    model = jaxinit.nnx.create(NNX[name], nnx.Rngs(0))
    table = jaxinit.describe_tree(nnx.state(model, nnx.Param), [("**", jaxinit.zeros)])
    paths = {r.path for r in table.rows if r.path.endswith(("kernel", "embedding"))}
    layers = jaxinit.nnx.layers(model)
    assert set(layers) == paths
    assert jaxinit.nnx.layers(nnx.eval_shape(lambda: NNX[name](nnx.Rngs(0)))) == layers


def test_a_stack_is_drawn_slice_by_slice(key):
    tree, layers, _ = planned("scanned", None)
    recipe = [("query/kernel", jaxinit.he_normal()), ("**", jaxinit.zeros)]
    table = jaxinit.describe_tree(tree, recipe, layers=layers)
    (row,) = (row for row in table.rows if row.path.endswith("query/kernel"))
    assert (row.fan_in, row.fan_out) == (WIDTH, WIDTH)
    assert row.std == pytest.approx(math.sqrt(2 / WIDTH))
    assert row.initializer.startswith("stacked(")


def test_layers_of_another_tree_are_told():
    tree, layers, recipe = planned("resnet", rules.torch())
    with pytest.raises(ValueError, match="the nearest is Conv_0/kernel"):
        jaxinit.describe_tree(tree["params"], recipe, layers=layers)
