# SPDX-License-Identifier: Apache-2.0
"""What stands before a kernel and what behind it: activations, norms, branches."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit.network import After, Branch, Network
from tests.network.models import norm, rms, s
from tests.network.reading import NAMES, network

QUICK = True  # see conftest.py

D = 8
GRID = np.linspace(-3, 3, 31, dtype=np.float32)


def read(run: Any, params: Any, *batch: Any) -> Network:
    with jax.numpy_rank_promotion("allow"):
        return jaxinit.read(run, params, *(batch or (s(5, D),)))


def before(found: Network, path: str) -> After:
    """What a kernel comes after."""
    after = found[path].after
    assert after is not None
    return after


def through(f: Any, **more: Any) -> After:
    """What the second of two kernels comes after, with a function between."""
    params = {"w1": s(D, D), "w2": s(D, D), **more}
    return before(read(lambda p, x: f(x @ p["w1"], p) @ p["w2"], params), "w2")


# --- activations ---


ACTIVATIONS = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": jax.nn.gelu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "leaky_relu": jax.nn.leaky_relu,
    "softplus": jax.nn.softplus,
    "mish": jax.nn.mish,
    "identity": lambda x: x,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_has_its_name(name):
    after = through(lambda x, p: ACTIVATIONS[name](x))
    assert (after.name, after.kinds, after.layers) == (name, ("use",), ("w1",))


HAND_WRITTEN = {
    "relu": lambda x: jnp.where(x > 0, x, 0.0),
    "silu": lambda x: x / (1 + jnp.exp(-x)),
    "gelu_tanh": lambda x: (
        0.5 * x * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "gelu": lambda x: x * 0.5 * (1 + jax.lax.erf(x / math.sqrt(2))),
    "sigmoid": lambda x: 0.5 * (jnp.tanh(x / 2) + 1),
}


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_an_activation_written_out_has_its_name(name):
    assert through(lambda x, p: HAND_WRITTEN[name](x)).name == name


FUNCTIONS: dict[str, Any] = {
    "sine": lambda x: jnp.sin(30 * x),
    "cubed": lambda x: x**3 - 0.3 * x,
    "half": lambda x: jnp.where(x < 1, x, 1.0) / 2,
    "cast": lambda x: jnp.tanh(2 * x.astype(jnp.bfloat16)).astype(jnp.float32),
    "shift": lambda x: jnp.maximum(x + 0.5, 0.1 * x),
    "jitted": jax.jit(lambda x: jnp.square(jax.nn.relu(x)) + 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_without_a_name_gives_its_numbers(name):
    after = through(lambda x, p: FUNCTIONS[name](x))
    assert after.name is None and after.function is not None
    rtol = 1e-2 if name == "cast" else 1e-6
    np.testing.assert_allclose(after.function(GRID), FUNCTIONS[name](GRID), rtol=rtol)


def test_a_bias_before_the_activation_counts_as_none():
    after = through(lambda x, p: jnp.tanh(x + p["b"]), b=s(D))
    assert after.name == "tanh"


def test_a_function_of_two_kernels_takes_both():
    params = {"w": s(D, 2 * D), "w_gate": s(D, D), "w_down": s(D, D)}

    def split(p: Any, x: Any) -> Any:
        gate, up = jnp.split(x @ p["w"], 2, axis=-1)
        return (jax.nn.silu(gate) * up) @ p["w_down"]

    def sliced(p: Any, x: Any) -> Any:
        y = x @ p["w"]
        return (jax.nn.silu(y[:, :D]) * y[:, D:]) @ p["w_down"]

    def apart(p: Any, x: Any) -> Any:
        y = x @ p["w_gate"]
        return (jax.nn.silu(y) * (x @ p["w"])[:, :D]) @ p["w_down"]

    for run in (split, sliced, apart):
        after = before(read(run, params), "w_down")
        assert after.kinds == ("use", "use") and after.function is not None
        values = after.function(GRID, np.float32(2))
        np.testing.assert_allclose(values, 2 * jax.nn.silu(GRID), rtol=1e-6)
        assert after.name is None


@pytest.mark.parametrize(
    "f",
    [
        lambda x, p: jax.nn.relu(x) * p["a"] - jax.nn.relu(-x) * p["a"] * 2,
        lambda x, p: jnp.where(jnp.arange(D) > 3, x, 0.0),
    ],
    ids=["a parameter", "a mask"],
)
def test_what_more_than_the_entries_decide_is_no_function(f):
    after = through(f, a=s(D))
    assert after.function is None and after.name is None


# --- normalisation ---


NORMS = {
    "layer": lambda x, p: norm(x, p["g"], p["b"]),
    "layer by jnp.var": lambda x, p: (
        (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
    ),
    "rms": lambda x, p: rms(x, p["g"]),
    "length": lambda x, p: x / jnp.linalg.norm(x, axis=-1, keepdims=True),
    "batch": lambda x, p: norm(x, p["g"], p["b"], axis=0),
    "groups": lambda x, p: norm(x.reshape(5, 2, 4)).reshape(5, D) * p["g"],
}


@pytest.mark.parametrize("name", NORMS)
def test_a_normalisation_is_seen(name):
    params = {"w1": s(D, D), "w2": s(D, D), "g": s(D), "b": s(D)}
    found = read(lambda p, x: NORMS[name](x @ p["w1"], p) @ p["w2"], params)
    after = before(found, "w2")
    assert after.normalised and after.name == "identity"
    assert found["w1"].invariant and not found["w2"].invariant


def test_an_activation_behind_a_normalisation_has_its_name():
    after = through(lambda x, p: jax.nn.relu(norm(x, p["g"], p["b"])), g=s(D), b=s(D))
    assert after.normalised and after.name == "relu" and str(after) == "relu(norm)"


@pytest.mark.parametrize(
    "f",
    [
        jax.nn.softmax,
        lambda x: x - x.mean(-1, keepdims=True),
        lambda x: x / (1 + jnp.square(x).mean(-1, keepdims=True)),
    ],
    ids=["softmax", "mean", "a large constant"],
)
def test_what_keeps_the_scale_is_no_normalisation(f):
    params = {"w1": s(D, D), "w2": s(D, D)}
    found = read(lambda p, x: f(x @ p["w1"]) @ p["w2"], params)
    assert not before(found, "w2").normalised and not found["w1"].invariant


def test_what_goes_around_a_normalisation_is_not_invariant():
    params = {"w1": s(D, D), "w2": s(D, D)}

    def run(p: Any, x: Any) -> Any:
        y = x @ p["w1"]
        return y + norm(y) @ p["w2"]

    assert not read(run, params)["w1"].invariant


# --- residual branches ---


def _mlp(p: Any, x: Any) -> Any:
    return jax.nn.relu(x @ p["w1"]) @ p["w2"]


BLOCK = {"w1": s(D, D), "w2": s(D, D), "g": s(D)}
BLOCKS = {
    "pre-norm": lambda p, x: x + _mlp(p, rms(x, p["g"])),
    "post-norm": lambda p, x: rms(x + _mlp(p, x), p["g"]),
    "both": lambda p, x: x + rms(_mlp(p, rms(x, p["g"])), p["g"]),
    "other way around": lambda p, x: _mlp(p, rms(x, p["g"])) + x,
    "scaled": lambda p, x: 0.5**0.5 * x + 0.5**0.5 * _mlp(p, x),
    "layer scale": lambda p, x: x + p["g"] * _mlp(p, x),
    "dropped": lambda p, x: x + jnp.where(jnp.ones((5, D), bool), _mlp(p, x), 0) / 0.9,
    "in another type": lambda p, x: (
        x + _mlp(p, x.astype(jnp.bfloat16)).astype(jnp.float32)
    ),
    "jitted": lambda p, x: x + jax.jit(_mlp)(p, x),
    "rematerialised": jax.checkpoint(lambda p, x: x + _mlp(p, x)),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_branch_ends_with_its_last_kernel(name):
    def run(p: Any, x: Any) -> Any:
        x = x @ p["w"]
        for q in p["blocks"]:
            half = name == "in another type"
            like = jnp.bfloat16 if half else jnp.float32
            x = BLOCKS[name](jax.tree.map(lambda w, to=like: w.astype(to), q), x)
        return x @ p["w_head"]

    params = {"w": s(D, D), "blocks": [BLOCK] * 3, "w_head": s(D, 2)}
    found = read(run, params)
    ends = {p.path: p.branch for p in found.values() if p.branch}
    assert ends == {f"blocks/{k}/w2": Branch((k,), 3) for k in range(3)}
    assert found.branches == 3
    assert found["blocks/0/w2"].before == ("+",)
    assert found["blocks/0/w1"].before == ("blocks/0/w2",)
    assert found["w_head"].before == ("output",)


def test_parallel_branches_are_two():
    def run(p: Any, x: Any) -> Any:
        y = norm(x)
        return x + _mlp(p["a"], y) + _mlp(p["b"], y)

    found = read(run, {"a": BLOCK, "b": BLOCK})
    ends = {p.path: p.branch for p in found.values() if p.branch}
    assert ends == {"a/w2": Branch((0,), 2), "b/w2": Branch((1,), 2)}


def test_branches_that_are_added_first_end_together():
    def run(p: Any, x: Any) -> Any:
        y = norm(x)
        return x + (_mlp(p["a"], y) + _mlp(p["b"], y))

    found = read(run, {"a": BLOCK, "b": BLOCK})
    assert found["a/w2"].branch == found["b/w2"].branch == Branch((0,), 1)


def test_a_shortcut_with_a_projection():
    def run(p: Any, x: Any) -> Any:
        return x @ p["w"] + _mlp(p, x)

    found = read(run, {**BLOCK, "w": s(D, D)})
    assert found["w2"].branch == Branch((0,), 1) and found["w"].branch is None


def _rnn(p: Any, h: Any, x: Any) -> Any:
    return jnp.tanh(x @ p["w1"] + h @ p["w2"])


def _gru(p: Any, h: Any, x: Any) -> Any:
    z = jax.nn.sigmoid(x @ p["w1"] + h @ p["w2"])
    r = jax.nn.sigmoid(x @ p["w3"] + h @ p["w4"])
    return (1 - z) * jnp.tanh(x @ p["w5"] + (r * h) @ p["w6"]) + z * h


def _minimal(p: Any, h: Any, x: Any) -> Any:
    z = jax.nn.sigmoid(x @ p["w1"] + h @ p["w2"])
    return h + z * (jnp.tanh(x @ p["w3"]) - h)


@pytest.mark.parametrize("cell", [_rnn, _gru, _minimal])
def test_a_recurrence_that_is_unrolled_has_no_branches(cell):
    def run(p: Any, x: Any) -> Any:
        h = jnp.zeros((5, D))
        for k in range(3):
            h = cell(p, h, x[:, k])
        return h

    params = {f"w{k}": s(D, D) for k in range(1, 7)}
    found = read(run, params, s(5, 3, D))
    assert found.branches == 0
    assert found["w1"].calls == 3


def test_a_bias_that_all_layers_share_begins_no_branch():
    def run(p: Any, x: Any) -> Any:
        bias = p["e"][jnp.abs(jnp.arange(5)[:, None] - jnp.arange(5))]
        for q in p["blocks"]:
            scores = jnp.einsum("td,sd->ts", x @ q["w1"], x) + bias
            x = x + jax.nn.softmax(scores) @ x @ q["w2"]
        return x

    found = read(run, {"e": s(5), "blocks": [BLOCK] * 3})
    ends = {p.path: p.branch for p in found.values() if p.branch}
    assert ends == {f"blocks/{k}/w2": Branch((k,), 3) for k in range(3)}


def test_a_branch_within_a_branch():
    def run(p: Any, x: Any) -> Any:
        return x + _mlp(p["a"], x + _mlp(p["b"], x))

    found = read(run, {"a": BLOCK, "b": BLOCK})
    ends = {p.path: p.branch for p in found.values() if p.branch}
    assert ends == {"b/w2": Branch((0,), 2), "a/w2": Branch((1,), 2)}


def test_a_gate_does_not_end_a_branch():
    def run(p: Any, x: Any) -> Any:
        return x + jax.nn.sigmoid(x @ p["w_gate"]) * _mlp(p, x)

    found = read(run, {**BLOCK, "w_gate": s(D, D)})
    assert found["w2"].branch == Branch((0,), 1) and found["w_gate"].branch is None


BRANCHES = {
    "bert": 4, "bit": 2, "convnext": 2, "diffusion": 2, "dit": 4, "gemma": 2,
    "gpt2": 4, "griffin": 2,
    "haiku_resnet18": 8, "half_precision": 1, "indexed": 3, "indexed_in_a_loop": 3,
    "linen-gpt2": 4, "linen-gpt2-tied": 4, "linen-partitioned": 2, "linen-remat": 4,
    "linen-resnet": 4, "linen-scanned": 6, "linen-vit": 4, "linen_scanned_experts": 3,
    "llama": 6, "mamba": 1, "map_of_a_scan": 3, "mapped": 1, "mapped_on_one_input": 1,
    "mapped_twice": 1, "mixer": 4, "mixtral": 1, "nnx-transformer": 4, "rwkv": 2,
    "scan_of_a_map": 3, "scanned": 3, "scanned_on_axis_1": 3, "t5": 5, "v_moe": 1,
    "wavenet": 3,
}  # fmt: skip


@pytest.mark.sweep
@pytest.mark.parametrize("name", NAMES)
def test_each_model_has_its_branches_and_no_others(name):
    """None in recurrent cells, gated units, LoRA, skips that are concatenated."""
    assert network(name).branches == BRANCHES.get(name, 0)


def test_the_ends_of_branches_are_in_order():
    ends = [
        place
        for p in network("gpt2").values()
        for place in (p.branch.places if p.branch else ())
    ]
    assert ends == [0, 1, 2, 3]
    assert network("llama")["blocks/w_down"].branch == Branch((1, 3, 5), 6)
    assert network("indexed")["w2"].branch == Branch((0, 1, 2), 3)


# --- layers before and behind ---


def test_what_takes_an_output():
    found = network("gpt2")
    assert found["blocks/0/w_qkv"].before == ("blocks/0/w_out",)
    assert found["e_tokens"].before == ("blocks/0/w_qkv", "+")
    assert found["blocks/1/w_down"].before == ("+",)
    assert network("perceptron")["w2"].before == ("output",)
    assert network("shared")["w"].before == ("w",)


def test_what_an_input_is_made_of():
    found = network("densenet")
    assert before(found, "w/2").layers == ("w0", "w/0", "w/1")
    found = network("u_net")
    assert before(found, "w5").layers == ("w1", "w_up2")
    assert before(found, "w5").kinds == ("concatenation",)
    found = network("bit")
    assert before(found, "w4").layers == ("w2",)
