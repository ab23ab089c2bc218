# SPDX-License-Identifier: Apache-2.0
"""The recipes, on real models, against the standard deviations that they state."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

import jaxinit
import jaxinit.nnx
from jaxinit import rules
from tests.helpers import fresh, read_shapes
from tests.models import HEADS, LINEN, VOCABULARY, WIDTH

QUICK = True  # see conftest.py

PLACES = ("places", jaxinit.normal(0.02))
FLAT = 1 / math.sqrt(3)  # the standard deviation of U(-1, 1)


def planned(name: str, recipe: Any) -> tuple[Any, Any, Any]:
    """A Linen model's shapes, its layers, and the rules that its tree needs."""
    model, x = LINEN[name]
    tree = jax.eval_shape(model.init, jax.random.key(0), x)
    return tree, read_shapes(model, x), recipe


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


def read_lstm(cell: Any) -> Any:
    """What one step of a cell of 5 inputs and 16 units does with its parameters."""
    h = jnp.ones((1, 16))
    return jaxinit.read(cell, (h, h), jnp.ones((1, 5)))


def test_torch_fused_gates_of_nnx(key):
    cell = nnx.OptimizedLSTMCell(5, 16, rngs=nnx.Rngs(0))
    tree, layers = nnx.state(cell, nnx.Param), read_lstm(cell)
    found = stds(tree, layers, rules.torch())
    assert found["dense_i/kernel"] == pytest.approx(FLAT / 4)
    assert found["dense_h/bias"] == pytest.approx(FLAT / 4)
    assert_drawn(tree, layers, rules.torch(), key)


def test_keras_recurrent_kernels_are_orthogonal_over_all_gates(key):
    cell = nnx.OptimizedLSTMCell(5, 16, rngs=nnx.Rngs(0))
    tree, layers = nnx.state(cell, nnx.Param), read_lstm(cell)
    drawn = jaxinit.init_tree(fresh(key), tree, rules.keras(), layers=layers)
    whole = np.asarray(drawn["dense_h"]["kernel"][...])
    np.testing.assert_allclose(whole @ whole.T, np.eye(16), atol=1e-5)
    kernel = np.asarray(drawn["dense_i"]["kernel"][...])
    assert np.abs(kernel).max() <= math.sqrt(6 / (5 + 4 * 16))
    i, f, g, o = np.split(np.asarray(drawn["dense_h"]["bias"][...]), 4)
    assert (f == 1).all() and not (i.any() or g.any() or o.any())


def test_keras_recurrent_kernels_of_gates_apart_are_parts_of_one(key):
    plan = planned("lstm", rules.keras())
    tree, layers, recipe = plan
    drawn = jaxinit.init_tree(fresh(key), tree, recipe, layers=layers)["params"]
    cell = drawn["OptimizedLSTMCell_1"]
    whole = np.concatenate([cell[f"h{gate}"]["kernel"] for gate in "ifgo"], axis=1)
    np.testing.assert_allclose(whole @ whole.T, np.eye(WIDTH), atol=1e-5)
    assert (cell["hf"]["bias"] == 1).all() and not cell["hi"]["bias"].any()
    assert_drawn(*plan, key)


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


def test_all_that_a_recipe_does_not_know_is_listed():
    shape = jax.ShapeDtypeStruct((), "float32")
    tree = {"a": {"temperature": shape, "bias": shape}, "kernel": shape}
    with pytest.raises(ValueError, match="keras has no law for") as caught:
        jaxinit.describe_tree(tree, rules.keras())
    _, first, second, cure = str(caught.value).split("\n  ")
    assert first.startswith("a/temperature of shape (): a name without a meaning")
    assert second.startswith("kernel of shape (): a kernel of one axis may be a scale")
    assert cure.startswith("pass layers=jaxinit.read(model, batch), which needs no")
    assert cure.endswith(" put rules for them before the recipe")


# --- layers ---------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match=r"the nearest is .*Conv_0"):
        jaxinit.describe_tree(tree["params"], recipe, layers=layers)
