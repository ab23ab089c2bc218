# SPDX-License-Identifier: Apache-2.0
"""Rules for single kinds of layers, cells and attention, and for vision models."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit
import jaxinit.nnx
from jaxinit import Fans, rules
from jaxinit.network import Parameter
from tests.helpers import fresh, read_shapes
from tests.models import WIDTH
from tests.rules.test_rules import PLACES, assert_drawn, planned, stds

QUICK = True  # see conftest.py

REST = rules.mixer([])  # LeCun-normal kernels, biases 0

# --- recurrent cells ------------------------------------------------------------------

UNITS, INPUTS = 64, 3
LINEN_CELLS = [nn.LSTMCell, nn.OptimizedLSTMCell, nn.GRUCell, nn.MGUCell]
NNX_CELLS = [nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell]
CELLS = [*LINEN_CELLS, *NNX_CELLS]


def name(cell: Any) -> str:
    return f"{cell.__module__.split('.')[1]}-{cell.__name__}"


def read_cell(model: Any) -> Any:
    """What one step of a cell of NNX does with its parameters."""
    state, x = jnp.ones((1, UNITS)), jnp.ones((1, INPUTS))
    carry = (state, state) if "LSTM" in type(model).__name__ else state
    return jaxinit.read(model, carry, x)


def cell_parts(cell: Any) -> tuple[Any, Any]:
    """The parameters of a cell, or their shapes, and its layers."""
    if cell in NNX_CELLS:
        model = cell(INPUTS, UNITS, rngs=nnx.Rngs(0))
        return nnx.state(model, nnx.Param), read_cell(model)
    model, x = nn.RNN(cell(UNITS)), jax.ShapeDtypeStruct((1, 2, INPUTS), "float32")
    tree = jax.eval_shape(model.init, jax.random.key(0), x)
    return tree["params"]["cell"], {}


def remembered(cell: Any, drawn: Any) -> np.ndarray:
    """What part of a state of ones each unit keeps, where only the biases decide."""

    def alone(path: Any, leaf: jax.Array) -> jax.Array:
        return leaf if "bias" in jax.tree_util.keystr(path) else jnp.zeros_like(leaf)

    drawn = jax.tree.map_with_path(alone, drawn)
    state, x = jnp.ones((1, UNITS)), jnp.zeros((1, INPUTS))
    carry = (state, 0 * state) if "LSTM" in cell.__name__ else state
    if cell in NNX_CELLS:
        model = cell(INPUTS, UNITS, rngs=nnx.Rngs(0))
        nnx.update(model, drawn)
        after, _ = model(carry, x)
    else:
        after, _ = cell(UNITS).apply({"params": drawn}, carry, x)
    return np.asarray(after[0] if isinstance(after, tuple) else after)[0]


@pytest.mark.sweep
@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_the_forget_gate_keeps_the_state(cell, key):
    tree, layers = cell_parts(cell)
    for value in (0.0, 1.0, 3.0):
        recipe = [*rules.forget_gate(value), *REST]
        drawn = jaxinit.init_tree(fresh(key), tree, recipe, layers=layers)
        kept = remembered(cell, drawn)
        np.testing.assert_allclose(kept, 1 / (1 + math.exp(-value)), rtol=1e-6)


@pytest.mark.sweep
@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_chrono_remembers_up_to_the_longest_time(cell, key):
    tree, layers = cell_parts(cell)
    recipe = [*rules.chrono(100), *REST]
    drawn = jaxinit.init_tree(fresh(key), tree, recipe, layers=layers)
    times = 1 / (1 - remembered(cell, drawn))
    assert times.min() >= 1.99 and times.max() <= 100.1
    # uniform between 2 and 100
    assert times.mean() == pytest.approx(51, abs=5 * 98 / math.sqrt(12 * UNITS))


@pytest.mark.parametrize("cell", [c for c in CELLS if "LSTM" in c.__name__], ids=name)
def test_chrono_lets_in_what_is_forgotten(cell, key):
    tree, layers = cell_parts(cell)
    recipe = [*rules.chrono(100), *REST]
    drawn = jaxinit.init_tree(fresh(key), tree, recipe, layers=layers)
    if cell is nnx.OptimizedLSTMCell:
        i, f, g, o = np.split(np.asarray(drawn["dense_h"]["bias"][...]), 4)
    else:
        i, f, g, o = (np.asarray(drawn[f"h{n}"]["bias"][...]) for n in "ifgo")
    np.testing.assert_array_equal(i, -f)
    assert len(np.unique(f)) == UNITS and not (g.any() or o.any())
    report = jaxinit.check_tree(drawn, recipe, layers=layers)
    assert report.ok, report.problems


def test_cells_with_packed_gates_need_their_layers():
    tree, _ = cell_parts(nnx.GRUCell)
    with pytest.raises(ValueError, match=r"pass layers=jaxinit\.read\(model, batch\)"):
        jaxinit.describe_tree(tree, [*rules.forget_gate(), *REST])
    plain = nnx.SimpleCell(INPUTS, UNITS, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"\(_forgets\) matches nothing"):
        jaxinit.describe_tree(
            nnx.state(plain, nnx.Param),
            [*rules.forget_gate(), *REST],
            layers=read_cell(plain),
        )


def test_gates_refuse_what_their_initializers_refuse():
    with pytest.raises(TypeError, match="value must be a real number"):
        rules.forget_gate("one")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="min_length must be below max_length"):
        rules.chrono(1.5)


# --- attention ------------------------------------------------------------------------

D, HEADS = 48, 3
NAMES = ("query", "key", "value", "out")


def attention(key: jax.Array, library: str, **given: Any) -> list[np.ndarray]:
    """The four kernels as matrices: (heads, d, k) three times, (heads, k, d)."""
    layers: Any
    if library == "nnx":
        model = nnx.MultiHeadAttention(HEADS, D, rngs=nnx.Rngs(0))
        layers = jaxinit.read(model, jnp.ones((1, 4, D)), decode=False)
        tree = nnx.state(model, nnx.Param)
    else:
        model = nn.MultiHeadDotProductAttention(HEADS)
        x = jax.ShapeDtypeStruct((1, 4, D), "float32")
        tree = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
        layers = None
    recipe = [*rules.mimetic_attention(**given), *REST]
    drawn = jaxinit.init_tree(fresh(key), tree, recipe, layers=layers)
    kernels = [np.asarray(drawn[name]["kernel"][...], "float64") for name in NAMES]
    return [*(kernel.swapaxes(0, 1) for kernel in kernels[:3]), kernels[3]]


def diagonal(product: np.ndarray) -> float:
    return float(np.trace(product) / D)


@pytest.mark.parametrize("library", ["linen", "nnx"])
def test_mimetic_products_are_those_of_trained_models(library, key):
    q, k, v, o = attention(key, library)
    product = np.einsum("hdk,hek->hde", q, k)
    # The best part of rank d/3 of 0.7 Z + 0.7 I, whose own mean diagonal is 0.7; with
    # numpy at d = 192 it is 0.398.
    assert all(0.3 < diagonal(head) < 0.5 for head in product)
    whole = np.einsum("hdk,hke->de", v, o)
    # Z's trace has the standard deviation 1, so the mean diagonal 0.4/d.
    assert diagonal(whole) == pytest.approx(-0.4, abs=5 * 0.4 / D)
    noise = whole + 0.4 * np.eye(D)
    assert noise.std() == pytest.approx(0.4 / math.sqrt(D), rel=5 / math.sqrt(2) / D)
    # Kernels that are drawn apart have no such diagonal.
    assert abs(diagonal(np.einsum("hdk,hek->de", v, k))) < 0.1


def test_mimetic_factors_are_the_best_of_their_rank(key):
    (q, *_), (_, k, *_) = (attention(key, "linen") for _ in range(2))
    product = np.einsum("hdk,hek->hde", q, k)
    for head, left, right in zip(product, q, k, strict=True):
        # both halves carry the root of the same singular values
        kept = np.linalg.svd(head)[1][: D // HEADS]
        for half in (left, right):
            np.testing.assert_allclose(np.linalg.svd(half)[1] ** 2, kept, rtol=1e-4)
        assert kept.min() > 0.5


def test_mimetic_factors_of_the_identity(key):
    *_, v, o = attention(key, "linen", value_out=(0.0, 0.5))
    np.testing.assert_allclose(
        np.einsum("hdk,hke->de", v, o), -0.5 * np.eye(D), atol=1e-5
    )


def test_mimetic_kernels_are_rounded_once(key):
    def drawn(dtype):
        tree = {
            "value": {"kernel": jax.ShapeDtypeStruct((D, HEADS, D // HEADS), dtype)}
        }
        rule = rules.mimetic_attention()[NAMES.index("value")]
        return jaxinit.init_tree(fresh(key), tree, [rule])["value"]["kernel"]

    np.testing.assert_array_equal(
        drawn("bfloat16"), drawn("float32").astype(jnp.bfloat16)
    )


def test_mimetic_attention_in_a_stack(key):
    tree, layers, _ = planned("scanned", None)
    recipe = [*rules.mimetic_attention(), ("embedding", jaxinit.normal()), *REST]
    drawn = jaxinit.init_tree(fresh(key), tree, recipe, layers=layers)
    (found,) = (
        inner
        for path, inner in jax.tree.leaves_with_path(
            drawn, is_leaf=lambda each: isinstance(each, dict) and "query" in each
        )
        if isinstance(inner, dict)
    )
    v, o = found["value"]["kernel"], found["out"]["kernel"]
    for product in np.einsum("ldhk,lhke->lde", v, o):
        assert np.trace(product) / WIDTH == pytest.approx(-0.4, abs=5 * 0.4 / WIDTH)


@pytest.mark.parametrize("stack", [(), (5,)], ids=["single", "stacked"])
def test_mimetic_pairs_are_drawn_once(stack, key):
    """Three layers have two products each, in two programs that return both factors."""
    into, out = (
        {"kernel": jax.ShapeDtypeStruct((*stack, *shape), "float32")}
        for shape in ((D, HEADS, D // HEADS), (HEADS, D // HEADS, D))
    )
    layer = dict(zip(NAMES, (into, into, into, out), strict=True))
    tree = {f"{i}": layer for i in range(3)}
    paths = [f"{i}/{name}/kernel" for i in range(3) for name in NAMES]
    layers = {
        path: Parameter(
            path, (5, D, HEADS, D // HEADS), "kernel", fans=Fans.axes(), stack=(0,)
        )
        for path in paths
    }

    def draw(key):
        recipe = rules.mimetic_attention()
        return jaxinit.init_tree(key, tree, recipe, layers=layers if stack else None)

    def decompositions(jaxpr):
        inner = [
            each for eqn in jaxpr.eqns for each in jex.jaxprs_in_params(eqn.params)
        ]
        here = sum(eqn.primitive.name == "svd" for eqn in jaxpr.eqns)
        return here + sum(map(decompositions, inner))

    assert decompositions(jax.make_jaxpr(draw)(fresh(key)).jaxpr) == 3 * 2
    programs = jaxinit.jit_init(draw).lower(key)
    assert len(programs) == 2
    for program in programs:
        assert len(jax.tree.leaves(program.out_info)) == 2


def test_mimetic_attention_tells_what_does_not_fit(key):
    def drawn(name, shape, **given):
        tree = {name: {"kernel": jax.ShapeDtypeStruct(shape, "float32")}}
        rule = rules.mimetic_attention(**given)[NAMES.index(name)]
        return jaxinit.init_tree(fresh(key), tree, [rule])

    with pytest.raises(ValueError, match=r"must have 3 axes \(width, heads, size\)"):
        drawn("query", (8, 8))
    with pytest.raises(ValueError, match="needs heads that fit into the width"):
        drawn("value", (8, 4, 4))
    with pytest.raises(TypeError, match="query_key must be a pair of numbers"):
        rules.mimetic_attention(query_key=0.7)  # type: ignore[arg-type]


def test_a_source_is_the_path_whose_key_is_used(key):
    def source(param):
        return param.path.replace("b", "a")

    shape = jax.ShapeDtypeStruct((5,), "float32")
    shared = jaxinit.per_param(lambda param: jaxinit.normal(), source=source)
    apart = jaxinit.init_tree(
        fresh(key), {"a": shape, "b": shape}, [("*", jaxinit.normal())]
    )
    drawn = jaxinit.init_tree(fresh(key), {"a": shape, "b": shape}, [("*", shared)])
    np.testing.assert_array_equal(drawn["b"], apart["a"])
    np.testing.assert_array_equal(drawn["a"], apart["a"])
    assert (apart["b"] != apart["a"]).any()
    with pytest.raises(TypeError, match="source must be a function of a Param"):
        jaxinit.per_param(lambda param: jaxinit.normal(), source="a")  # type: ignore[arg-type]


# --- vision models --------------------------------------------------------------------


class Vision(nn.Module):
    """A strided, a plain, a grouped and a depthwise convolution, a scale and a head."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), strides=(2, 2), name="stem")(x)
        x = nn.Conv(8, (3, 3), name="plain")(x)
        x = nn.Conv(16, (3, 3), feature_group_count=2, name="grouped")(x)
        x = nn.Conv(16, (7, 7), feature_group_count=16, name="depthwise")(x)
        x = x * self.param("gamma", nn.initializers.ones, (1, 1, 1, 16))
        return nn.Dense(10, name="head")(nn.LayerNorm()(x).mean((1, 2)))


def vision(recipe: Any) -> tuple[Any, Any, Any]:
    x = jax.ShapeDtypeStruct((1, 16, 16, 3), "float32")
    tree = jax.eval_shape(Vision().init, jax.random.key(0), x)
    return tree, read_shapes(Vision(), x), recipe


def test_efficientnet(key):
    plan = vision([("gamma", jaxinit.ones), *rules.efficientnet()])
    found = stds(*plan)
    assert found["stem/kernel"] == pytest.approx(math.sqrt(2 / (9 * 8)))
    assert found["plain/kernel"] == pytest.approx(math.sqrt(2 / (9 * 8)))
    assert found["grouped/kernel"] == pytest.approx(math.sqrt(2 / (9 * 8)))
    assert found["depthwise/kernel"] == pytest.approx(math.sqrt(2 / 49))
    assert found["head/kernel"] == pytest.approx(1 / math.sqrt(3 * 10))
    assert_drawn(*plan, key)


def test_convnext(key):
    plan = vision(rules.convnext(["gamma"]))
    found = stds(*plan)
    kernels = {value for path, value in found.items() if path.endswith("kernel")}
    assert [*kernels] == [pytest.approx(0.02)]
    assert_drawn(*plan, key)
    tree, layers, recipe = plan
    gamma = jaxinit.init_tree(fresh(key), tree, recipe, layers=layers)["params"][
        "gamma"
    ]
    np.testing.assert_array_equal(gamma, np.full((1, 1, 1, 16), 1e-6, "float32"))


def test_mixer(key):
    own = [PLACES, ("token", jaxinit.zeros)]
    found = stds(*planned("vit", [*own, *rules.mixer(["params/Dense_0/kernel"])]))
    assert found["Block_0/Dense_1/kernel"] == pytest.approx(1 / math.sqrt(4 * WIDTH))
    assert found["Conv_0/kernel"] == pytest.approx(1 / math.sqrt(16 * 3))
    assert found["Dense_0/kernel"] == 0
