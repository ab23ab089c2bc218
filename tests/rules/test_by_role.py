# SPDX-License-Identifier: Apache-2.0
"""Recipes on models whose names say nothing: the reading tells the roles."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxinit
from jaxinit import rules
from tests.helpers import fresh, read_shapes
from tests.models import LINEN
from tests.network import public_models as public
from tests.network.models import s
from tests.rules.test_rules import FLAT, assert_drawn, stds

QUICK = True  # see conftest.py

D, H = public.D, public.H
CUT = scipy.stats.truncnorm.std(-3, 3)


def plain(build: Any, recipe: Any) -> tuple[Any, Any, Any]:
    """The parameters of a model of plain JAX, their reading, and a recipe."""
    run, params, *batch = build()
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        return params, jaxinit.read(run, params, *batch), recipe


def test_gpt2_with_fused_kernels_stored_the_other_way(key):
    plan = plain(public.gpt2, rules.gpt2())
    found = stds(*plan)
    for k in range(2):
        assert found[f"blocks/{k}/w_qkv"] == found[f"blocks/{k}/w_up"] == 0.02
        assert found[f"blocks/{k}/w_out"] == pytest.approx(0.01)  # of 4 branches
        assert found[f"blocks/{k}/w_down"] == pytest.approx(0.01)
        assert found[f"blocks/{k}/b_qkv"] == found[f"blocks/{k}/g1"] == 0
    assert found["e_tokens"] == found["e_places"] == 0.02
    assert_drawn(*plan, key)


def test_the_depth_and_the_ends_can_be_said():
    found = stds(*plain(public.gpt2, rules.gpt2(layers=8)))
    assert found["blocks/0/w_out"] == pytest.approx(0.005)
    found = stds(*plain(public.gpt2, rules.gpt2(residual=["w_up"])))
    assert found["blocks/0/w_up"] == pytest.approx(0.01)
    assert found["blocks/0/w_out"] == 0.02


def test_small_init_reads_width_and_depth(key):
    plan = plain(public.gpt2, rules.small_init())
    found = stds(*plan)
    for k in range(2):
        assert found[f"blocks/{k}/w_qkv"] == pytest.approx(math.sqrt(0.4 / D))
        assert found[f"blocks/{k}/w_out"] == pytest.approx(2 / (2 * math.sqrt(D)))
        assert found[f"blocks/{k}/w_down"] == found[f"blocks/{k}/w_out"]
    assert found["e_tokens"] == found["e_places"] == found["blocks/0/w_up"]
    assert_drawn(*plan, key)
    told = stds(*plain(public.gpt2, rules.small_init(8, None, 4 * D)))
    assert told["blocks/0/w_out"] == pytest.approx(2 / (8 * math.sqrt(4 * D)))
    with pytest.raises(ValueError, match="small_init has no law for") as caught:
        jaxinit.describe_tree(plan[0], rules.small_init())
    assert "layers=jaxinit.read(model, batch)" in str(caught.value)


def test_each_row_names_its_line_of_the_recipe():
    params, network, recipe = plain(public.llama, rules.llama())
    everything = [("e", jaxinit.normal()), ("w_q", jaxinit.he_normal()), *recipe]
    table = jaxinit.describe_tree(params, everything, layers=network)
    rule = {row.path: row.rule for row in table.rows}
    assert rule["blocks/w_o"] == "llama: ends 1 of 6 branches"
    assert rule["w_head"] == "llama: head"
    assert rule["blocks/w_kv"] == "llama: kernel"
    assert rule["e"] == "e"
    assert {row.path: row.fans for row in table.rows if row.fans} == {
        "blocks/w_q": "read"
    }
    assert "guessed" not in str(table)
    html = table._repr_html_()
    assert all(f"<td>{each}</td>" in html for each in rule.values())


def test_fans_are_given_read_or_guessed():
    params, network, _ = plain(public.llama, ())
    fans = jaxinit.Fans.axes(-1, -2)
    for init, alone, read in (
        (jaxinit.he_normal(), "guessed", "read"),
        (jaxinit.scaled(jaxinit.orthogonal(), 0.5), "guessed", "read"),
        (jaxinit.he_normal(fans=fans), "given", "given"),
        (jaxinit.he_normal(-1, -2), "given", "given"),
        (jaxinit.normal(), None, None),
    ):
        for layers, wanted in ((None, alone), (network, read)):
            rules = [("w_head", init), ("**", jaxinit.zeros)]
            table = jaxinit.describe_tree(params, rules, layers=layers)
            (row,) = (row for row in table.rows if row.path == "w_head")
            assert row.fans == wanted
            assert ("are guessed" in str(table)) == (wanted == "guessed")


def test_llama_in_a_loop(key):
    plan = plain(public.llama, rules.llama())
    found = stds(*plan)
    assert found["blocks/w_q"] == found["e"] == pytest.approx(0.02 * CUT)
    for name in ("w_o", "w_down"):  # six branches of three blocks
        assert found[f"blocks/{name}"] == pytest.approx(0.02 * CUT / math.sqrt(6))
    assert found["w_head"] == pytest.approx(CUT / math.sqrt(D))
    assert_drawn(*plan, key)


def test_bert(key):
    plan = plain(public.bert, rules.bert())
    found = stds(*plan)
    assert {round(std, 9) for std in found.values() if std is not None} == {0, 0.02}
    assert found["blocks/0/out/w"] == found["e_kinds"] == 0.02
    assert found["blocks/0/g1"] == found["bias"] == 0
    assert_drawn(*plan, key)


def test_t5_asks_for_the_size_of_a_head(key):
    with pytest.raises(ValueError, match="t5 has no law for") as caught:
        stds(*plain(public.t5, rules.t5()))
    told = str(caught.value).split("\n  ")[1:-1]
    assert [line.partition(" ")[0] for line in told] == [
        "decoder/cross/w_q",
        "decoder/own/w_q",
        "encoder/own/w_q",
    ]
    assert all(line.endswith("give d_kv=") for line in told)
    plan = plain(public.t5, rules.t5(d_kv=D // H))
    found = stds(*plan)
    assert found["encoder/own/w_q"] == pytest.approx(1 / math.sqrt(D * D // H))
    assert found["encoder/own/w_k"] == pytest.approx(1 / math.sqrt(D))
    assert found["decoder/mlp/w_down"] == pytest.approx(1 / math.sqrt(48))
    assert_drawn(*plan, key)


def test_t5_refuses_attention_without_a_query():
    with pytest.raises(ValueError, match="query, key and value in one"):
        stds(*plain(public.gpt2, rules.t5(d_kv=6)))


def test_t5x_differs_in_relative_biases_and_the_head():
    leaf = jax.ShapeDtypeStruct((32, 4), "float32")
    tree = {"rel": {"embedding": leaf}, "q": {"kernel": s(64, 4, 16)}}
    found = stds(tree, {}, rules.t5(code="t5x"))
    assert found["rel/embedding"] == pytest.approx(math.sqrt(2 / (32 + 4)))
    tree["tokens"] = {"embedding": s(96, 64)}
    found = stds(tree, {}, rules.t5())
    assert found["rel/embedding"] == pytest.approx(1 / 8)


def test_torch_tells_attention_and_biases_by_what_they_do(key):
    plan = plain(public.bert, rules.torch())
    found = stds(*plan)
    xavier = FLAT * math.sqrt(6 / (D + 3 * D))
    for name in ("query", "key", "value"):
        assert found[f"blocks/0/{name}/w"] == pytest.approx(xavier)
        assert found[f"blocks/0/{name}/b"] == 0
    assert found["blocks/0/out/w"] == pytest.approx(FLAT / math.sqrt(D))
    assert found["blocks/0/up/b"] == pytest.approx(FLAT / math.sqrt(D))
    assert found["blocks/0/down/b"] == pytest.approx(FLAT / math.sqrt(4 * D))
    assert found["blocks/0/b1"] == found["b"] == 0
    assert found["e_tokens"] == 1
    assert_drawn(*plan, key)


def test_torch_fuses_what_is_fused():
    found = stds(*plain(public.gpt2, rules.torch()))
    xavier = FLAT * math.sqrt(6 / (D + 3 * D))
    assert found["blocks/0/w_qkv"] == pytest.approx(xavier)
    assert found["blocks/0/b_qkv"] == found["blocks/0/b1"] == 0
    assert found["blocks/0/b_up"] == pytest.approx(FLAT / math.sqrt(D))


def test_keras_counts_kernels_of_any_layout():
    found = stds(*plain(public.gpt2, rules.keras()))
    assert found["blocks/0/w_up"] == pytest.approx(math.sqrt(2 / (5 * D)))
    assert found["blocks/0/w_qkv"] == pytest.approx(math.sqrt(2 / (4 * D)))


def test_resnet_silences_the_last_norm_of_a_branch(key):
    model, x = LINEN["resnet"]
    tree = jax.eval_shape(model.init, jax.random.key(0), x)
    plan = tree, read_shapes(model, x), rules.resnet()
    drawn = jaxinit.init_tree(fresh(key), *plan[::2], layers=plan[1])["params"]
    for k in range(4):
        block = drawn[f"Residual_{k}"]
        norms = {name: each for name, each in block.items() if "scale" in each}
        silent = {name for name, each in norms.items() if not each["scale"].any()}
        assert silent == {"BatchNorm_1"}
    assert_drawn(*plan, key)


def test_resnet_leaves_the_norms_before_a_branch():
    params, layers, recipe = plain(public.bit, rules.resnet())
    drawn = jaxinit.init_tree(jax.random.key(0), params, recipe, layers=layers)
    assert all((each == 1).all() for each in drawn["g"])
    found = stds(params, layers, recipe)
    assert found["w4"] == pytest.approx(math.sqrt(2 / (9 * 16)))  # of stride 2
    assert found["b_head"] == pytest.approx(FLAT / 4)


def test_norms_that_subtract_nothing_end_no_branch():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(2):
                x = x + nn.Dense(8)(nn.relu(nn.Dense(16)(nn.RMSNorm()(x))))
            return x

    assert read_shapes(Net(), s(2, 8)).branches == 2


# --- what a recipe says ---------------------------------------------------------------


def test_a_recipe_that_is_not_told_the_branches_says_so():
    tree = {"a": {"kernel": s(8, 8)}, "b": {"kernel": s(8, 8)}}
    with pytest.raises(ValueError, match="gpt2 has no law for") as caught:
        stds(tree, {}, rules.gpt2())
    told = str(caught.value)
    assert "a/kernel" in told and "b/kernel" in told
    assert "pass layers=jaxinit.read(model, batch)" in told


def test_the_depth_alone_does_not_tell_which_kernels_end_branches():
    with pytest.raises(ValueError, match="which kernels end a residual branch"):
        stds({"kernel": s(8, 8)}, {}, rules.gpt2(12))


@pytest.mark.parametrize("recipe", [rules.vit, rules.mixer, lambda: rules.llama(8, [])])
def test_a_head_that_is_neither_read_nor_named_is_asked_for(recipe):
    with pytest.raises(ValueError, match="which kernel gives the output is not known"):
        stds({"kernel": s(8, 8)}, {}, recipe())


def test_a_model_of_another_kind_is_told():
    def straight(params: Any, x: jax.Array) -> jax.Array:
        return jax.nn.relu(x @ params["w"]) @ params["v"]

    params = {"w": s(8, 16), "v": s(16, 8)}
    layers = jaxinit.read(straight, params, s(2, 8))
    with pytest.raises(ValueError, match=r"w of .* has no residual branches"):
        stds(params, layers, rules.llama())


def test_a_scale_that_is_called_kernel():
    def run(params: Any, x: jax.Array) -> jax.Array:
        return (
            x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True)) * params["kernel"]
        )

    params = {"kernel": s(8)}
    layers = jaxinit.read(run, params, s(8))
    drawn = jaxinit.init_tree(jax.random.key(0), params, rules.mistral(), layers=layers)
    np.testing.assert_array_equal(drawn["kernel"], np.ones(8))
    with pytest.raises(ValueError, match="may be a scale or a bias; pass layers="):
        stds(params, {}, rules.mistral())
