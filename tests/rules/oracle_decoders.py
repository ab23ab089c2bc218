# SPDX-License-Identifier: Apache-2.0
"""Language models that predict the next token, as those recorded are built.

The names of their layers are those of the recorded models, shortened; the recipes are
told the roles by the reading, and need none of them.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from jaxinit import rules
from tests.rules.oracle import Case
from tests.rules.oracle_layers import shape

VOCABULARY, WIDTH, HEADS, INNER, PLACES = 96, 48, 4, 96, 32
IDS = shape(2, 6, dtype="int32")


def attend(q: jax.Array, k: jax.Array, v: jax.Array, bias: Any = 0.0) -> jax.Array:
    """Attention of HEADS queries to HEADS or fewer keys, whose axes are joined."""
    size = q.shape[-1] // HEADS
    q, k, v = (x.reshape(*x.shape[:2], -1, size) for x in (q, k, v))
    k, v = (jnp.repeat(x, HEADS // x.shape[2], axis=2) for x in (k, v))
    scores = jnp.einsum("bthd,bshd->bhts", q, k) + bias
    mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), v)
    return mixed.reshape(*mixed.shape[:2], -1)


def dense(features: int, name: str, bias: bool = False) -> nn.Dense:
    return nn.Dense(features, use_bias=bias, name=name)


class GPT2(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(VOCABULARY, WIDTH, name="wte")
        places = nn.Embed(PLACES, WIDTH, name="wpe")
        x = embed(tokens) + places(jnp.arange(tokens.shape[1]))[None]
        for k in range(2):
            h = nn.LayerNorm(name=f"h{k}_ln_1")(x)
            x = x + nn.MultiHeadDotProductAttention(HEADS, name=f"h{k}_attn")(h)
            h = nn.LayerNorm(name=f"h{k}_ln_2")(x)
            h = nn.gelu(dense(4 * WIDTH, f"h{k}_mlp_c_fc", True)(h))
            x = x + dense(WIDTH, f"h{k}_mlp_c_proj", True)(h)
        return embed.attend(nn.LayerNorm(name="ln_f")(x))


class GPT2Block(nnx.Module):
    """With query, key and value in one kernel, as GPT-2 has them."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.ln_1, self.ln_2 = (nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2))
        self.c_attn = nnx.Linear(WIDTH, 3 * WIDTH, rngs=rngs)
        self.c_proj = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x):
        h = attend(*jnp.split(self.c_attn(self.ln_1(x)), 3, axis=-1))
        x = x + self.c_proj(h)
        return x + self.down(nnx.gelu(self.up(self.ln_2(x))))


class GPT2NNX(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.wte = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.wpe = nnx.Embed(PLACES, WIDTH, rngs=rngs)
        self.h = nnx.List([GPT2Block(rngs) for _ in range(2)])
        self.ln_f = nnx.LayerNorm(WIDTH, rngs=rngs)

    def __call__(self, tokens):
        x = self.wte(tokens) + self.wpe(jnp.arange(tokens.shape[1]))[None]
        for block in self.h:
            x = block(x)
        return self.wte.attend(self.ln_f(x))


class Llama(nn.Module):
    """Two keys for four queries; Qwen's have biases."""

    bias: bool = False

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(VOCABULARY, WIDTH, name="embed_tokens")(tokens)
        for k in range(2):
            h = nn.RMSNorm(name=f"l{k}_input_layernorm")(x)
            at = f"l{k}_self_attn"
            q = dense(WIDTH, f"{at}_q_proj", self.bias)(h)
            pair = (dense(WIDTH // 2, f"{at}_{n}_proj", self.bias)(h) for n in "kv")
            x = x + dense(WIDTH, f"{at}_o_proj")(attend(q, *pair))
            h = nn.RMSNorm(name=f"l{k}_post_attention_layernorm")(x)
            gate = nn.silu(dense(INNER, f"l{k}_mlp_gate_proj")(h))
            h = gate * dense(INNER, f"l{k}_mlp_up_proj")(h)
            x = x + dense(WIDTH, f"l{k}_mlp_down_proj")(h)
        return dense(VOCABULARY, "lm_head")(nn.RMSNorm(name="norm")(x))


class OLMo(nn.Module):
    """Query, key and value in one kernel, and so the halves of the MLP."""

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(VOCABULARY, WIDTH, name="wte")(tokens)
        for k in range(2):
            h = nn.RMSNorm(name=f"b{k}_attn_norm")(x)
            h = attend(*jnp.split(dense(3 * WIDTH, f"b{k}_att_proj")(h), 3, axis=-1))
            x = x + dense(WIDTH, f"b{k}_attn_out")(h)
            h = nn.RMSNorm(name=f"b{k}_ff_norm")(x)
            up, gate = jnp.split(dense(4 * WIDTH, f"b{k}_ff_proj")(h), 2, axis=-1)
            x = x + dense(WIDTH, f"b{k}_ff_out")(nn.silu(gate) * up)
        return dense(VOCABULARY, "head")(nn.RMSNorm(name="ln_f")(x))


class Mamba(nn.Module):
    """Inner width 96, states of 8, steps of rank 3."""

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(VOCABULARY, WIDTH, name="embeddings")
        x = embed(tokens)
        for k in range(2):
            h = nn.RMSNorm(name=f"layers/{k}/norm")(x)
            x = x + self.mixed(f"layers/{k}/mixer", h)
        return embed.attend(nn.RMSNorm(name="norm_f")(x))

    def mixed(self, at: str, x: jax.Array) -> Any:
        u, z = jnp.split(dense(2 * INNER, f"{at}/in_proj")(x), 2, axis=-1)
        causal: Any = {"padding": "CAUSAL", "feature_group_count": INNER}
        u = nn.silu(nn.Conv(INNER, (4,), **causal, name=f"{at}/conv1d")(u))
        dt, b, c = jnp.split(dense(19, f"{at}/x_proj")(u), [3, 11], axis=-1)
        dt = nn.softplus(dense(INNER, f"{at}/dt_proj", True)(dt))
        a = self.param(f"{at}/A_log", nn.initializers.zeros, (INNER, 8))
        d = self.param(f"{at}/D", nn.initializers.zeros, (INNER,))
        kept = jnp.exp(dt[..., None] * -jnp.exp(a)[None, None])
        put = (dt * u)[..., None] * b[:, :, None]

        def step(h: jax.Array, each: Any) -> Any:
            kept, put, c = each
            h = kept * h + put
            return h, jnp.einsum("bds,bs->bd", h, c)

        over = tuple(each.swapaxes(0, 1) for each in (kept, put, c))
        _, y = jax.lax.scan(step, jnp.zeros((len(x), INNER, 8)), over)
        y = (y.swapaxes(0, 1) + u * d[None, None]) * nn.silu(z)
        return dense(WIDTH, f"{at}/out_proj")(y)


QKV = [(r"_attn/(query|key|value)/", "_attn/c_attn/"), ("_attn/out/", "_attn/c_proj/")]
GPT2_NAMES = [*QKV, (r"^h(\d)_", r"h/\1/"), ("_(?=c_)", "/"), ("^", "transformer/")]
GPT2_NNX = [
    (r"(\d)/(c_)", r"\1/attn/\2"),
    ("/up/", "/mlp/c_fc/"),
    ("/down/", "/mlp/c_proj/"),
    ("^", "transformer/"),
]
LLAMA = [
    (r"^l(\d)_", r"layers/\1/"),
    ("(self_attn|mlp)_", r"\1/"),
    ("^(?!lm_head)", "model/"),
]
OLMO = [
    (r"^b(\d)_", r"blocks/\1/"),
    ("^head", "ff_out"),
    ("^", "transformer/"),
]


def case(
    recipe: str,
    reference: str,
    model: Any,
    names: Any,
    *batch: Any,
    library: str = "transformers",
    by: Callable[[], Any] | None = None,
    by_name: bool = True,
) -> Case:
    return Case(recipe, library, reference, model, batch or (IDS,), names, by, by_name)


def rescaled() -> Any:
    return rules.mamba(rescale=True)


DECODERS = [
    case("gpt2", "GPT2", GPT2(), GPT2_NAMES, by_name=False),
    case("gpt2", "GPT2", GPT2NNX, GPT2_NNX, by_name=False),
    case("llama", "OLMo full_megatron", OLMo(), OLMO, library="olmo", by_name=False),
    case("mistral", "Llama", Llama(), LLAMA),
    case("mistral", "Mistral", Llama(), LLAMA),
    case("mistral", "Qwen2", Llama(bias=True), LLAMA),
    case("mamba", "Mamba", Mamba(), [("^", "backbone/")]),
    case(
        *("mamba", "Mamba rescaled", Mamba(), [("^", "backbone/")]),
        by=rescaled,
        by_name=False,
    ),
]
