# SPDX-License-Identifier: Apache-2.0
"""Models with an encoder, as those recorded are built."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxinit import rules
from tests.rules.oracle_decoders import (
    HEADS,
    IDS,
    INNER,
    PLACES,
    VOCABULARY,
    WIDTH,
    attend,
    case,
    dense,
)
from tests.rules.oracle_layers import shape


class BERT(nn.Module):
    @nn.compact
    def __call__(self, tokens, types):
        embed = nn.Embed(VOCABULARY, WIDTH, name="word_embeddings")
        x = embed(tokens) + nn.Embed(2, WIDTH, name="token_type_embeddings")(types)
        places = nn.Embed(PLACES, WIDTH, name="position_embeddings")
        x = x + places(jnp.arange(tokens.shape[1]))[None]
        x = nn.LayerNorm(name="LayerNorm")(x)
        for k in range(2):
            names = [f"l{k}_attention_self_{n}" for n in ("query", "key", "value")]
            h = attend(*(dense(WIDTH, name, True)(x) for name in names))
            h = dense(WIDTH, f"l{k}_attention_output_dense", True)(h)
            x = nn.LayerNorm(name=f"l{k}_attention_output_LayerNorm")(x + h)
            h = nn.gelu(dense(INNER, f"l{k}_intermediate_dense", True)(x))
            h = dense(WIDTH, f"l{k}_output_dense", True)(h)
            x = nn.LayerNorm(name=f"l{k}_output_LayerNorm")(x + h)
        x = nn.gelu(dense(WIDTH, "transform_dense", True)(x))
        x = nn.LayerNorm(name="transform_LayerNorm")(x)
        bias = self.param("bias", nn.initializers.zeros, (VOCABULARY,))
        return embed.attend(x) + bias[None, None]


class T5(nn.Module):
    """Heads of 8, four of them; gated with a head of its own in version 1.1."""

    gated: bool = False
    head: bool = False

    def sub(self, k: int, side: str, n: int, x: Any, other: Any, bias: Any) -> Any:
        h = nn.RMSNorm(name=f"{side}_{k}_{n}_layer_norm")(x)
        kind = "SelfAttention" if other is None else "EncDecAttention"
        q, k_, v, o = (f"{side}_{k}_{n}_{kind}/{name}" for name in "qkvo")
        other = h if other is None else other
        q, k_, v = dense(32, q)(h), dense(32, k_)(other), dense(32, v)(other)
        return x + dense(WIDTH, o)(attend(q, k_, v, bias))

    def mlp(self, k: int, side: str, n: int, x: Any) -> Any:
        h = nn.RMSNorm(name=f"{side}_{k}_{n}_layer_norm")(x)
        at = f"{side}_{k}_{n}_DenseReluDense"
        if self.gated:
            gate = nn.gelu(dense(INNER, f"{at}/wi_0")(h))
            h = gate * dense(INNER, f"{at}/wi_1")(h)
        else:
            h = nn.relu(dense(INNER, f"{at}/wi")(h))
        return x + dense(WIDTH, f"{at}/wo")(h)

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(VOCABULARY, WIDTH, name="shared")
        encoded: Any = None
        for side in ("encoder", "decoder"):
            x = embed(tokens)
            places = jnp.arange(tokens.shape[1])
            table = nn.Embed(
                32, HEADS, name=f"{side}_0_0_SelfAttention/relative_attention_bias"
            )
            bias = table(places[:, None] - places[None] + 8).transpose(2, 0, 1)[None]
            for k in range(2):
                x = self.sub(k, side, 0, x, None, bias)
                if side == "decoder":
                    x = self.sub(k, side, 1, x, encoded, 0.0)
                x = self.mlp(k, side, 2 if side == "decoder" else 1, x)
            x = nn.RMSNorm(name=f"{side}_final_layer_norm")(x)
            encoded = x
        if self.head:
            return dense(VOCABULARY, "lm_head")(x)
        return embed.attend(x * WIDTH**-0.5)


class Whisper(nn.Module):
    def block(self, at: str, x: Any, other: Any = None) -> Any:
        kind = "self_attn" if other is None else "encoder_attn"
        h = nn.LayerNorm(name=f"{at}_{kind}_layer_norm")(x)
        other = h if other is None else other
        q, k, v, o = (f"{at}_{kind}_{name}" for name in ("q", "k", "v", "out"))
        q = dense(WIDTH, f"{q}_proj", True)(h)
        k = dense(WIDTH, f"{k}_proj")(other)
        v = dense(WIDTH, f"{v}_proj", True)(other)
        return x + dense(WIDTH, f"{o}_proj", True)(attend(q, k, v))

    def mlp(self, at: str, x: Any) -> Any:
        h = nn.LayerNorm(name=f"{at}_final_layer_norm")(x)
        h = nn.gelu(dense(INNER, f"{at}_fc1", True)(h))
        return x + dense(WIDTH, f"{at}_fc2", True)(h)

    @nn.compact
    def __call__(self, sound, tokens):
        x = nn.gelu(nn.Conv(WIDTH, (3,), name="encoder_conv1")(sound))
        x = nn.gelu(nn.Conv(WIDTH, (3,), 2, name="encoder_conv2")(x))
        x = x + jnp.ones((1, *x.shape[1:]))  # sinusoids
        for k in range(2):
            x = self.mlp(f"encoder_l{k}", self.block(f"encoder_l{k}", x))
        encoded = nn.LayerNorm(name="encoder_layer_norm")(x)
        embed = nn.Embed(VOCABULARY, WIDTH, name="decoder_embed_tokens")
        places = self.param("places", nn.initializers.zeros, (PLACES, WIDTH))
        x = embed(tokens) + places[None, : tokens.shape[1]]
        for k in range(2):
            at = f"decoder_l{k}"
            x = self.mlp(at, self.block(at, self.block(at, x), encoded))
        return embed.attend(nn.LayerNorm(name="decoder_layer_norm")(x))


BERT_NAMES = [
    ("^(transform_.*|bias)$", r"cls/predictions/\1"),
    ("transform_", "transform/"),
    (r"^l(\d)_", r"bert/encoder/layer/\1/"),
    ("attention_(self|output)_", r"attention/\1/"),
    ("(intermediate|output)_", r"\1/"),
    ("^(?!bert|cls)", "bert/embeddings/"),
]

T5_NAMES = [
    (r"^(encoder|decoder)_(\d)_(\d)_", r"\1/block/\2/layer/\3/"),
    (r"^(encoder|decoder)_", r"\1/"),
]

WHISPER = [
    ("^(encoder|decoder)_", r"\1/"),
    (r"l(\d)_", r"layers/\1/"),
    ("(self_attn|encoder_attn)_(?!layer)", r"\1/"),
    ("^places$", "decoder/embed_positions/weight"),
    ("^", "model/"),
]


SELF, CROSS = "self_attention", "encoder_decoder_attention"
T5X = [
    (r"^encoder_(\d)_0_SelfAttention/rel.*", "encoder/relpos_bias/rel_embedding"),
    (r"^decoder_(\d)_0_SelfAttention/rel.*", "decoder/relpos_bias/rel_embedding"),
    (r"^(encoder)_(\d)_0_layer_norm", r"\1/layers_\2/pre_attention_layer_norm"),
    (r"^(encoder)_(\d)_1_layer_norm", r"\1/layers_\2/pre_mlp_layer_norm"),
    (r"^(decoder)_(\d)_0_layer_norm", rf"\1/layers_\2/pre_{SELF}_layer_norm"),
    (r"^(decoder)_(\d)_1_layer_norm", r"\1/layers_\2/pre_cross_attention_layer_norm"),
    (r"^(decoder)_(\d)_2_layer_norm", r"\1/layers_\2/pre_mlp_layer_norm"),
    (r"^(encoder)_(\d)_0_SelfAttention", r"\1/layers_\2/attention"),
    (r"^(decoder)_(\d)_0_SelfAttention", rf"\1/layers_\2/{SELF}"),
    (r"^(decoder)_(\d)_1_EncDecAttention", rf"\1/layers_\2/{CROSS}"),
    (r"^(encoder|decoder)_(\d)_\d_DenseReluDense", r"\1/layers_\2/mlp"),
    (r"^(encoder|decoder)_final_layer_norm", r"\1/\1_norm"),
    *((f"/{k[0]}/", f"/{k}/") for k in ("query", "key", "value", "out")),
    ("^lm_head", "decoder/logits_dense"),
    ("^shared", "token_embedder"),
]


def heads_of_8_t5x() -> Any:
    return rules.t5(d_kv=8, code="t5x")


def heads_of_8() -> Any:
    return rules.t5(d_kv=8)


SOUND = shape(2, 12, 20)
ENCODERS = [
    case("t5", "Transformer", T5(head=True), T5X, library="t5x", by=heads_of_8_t5x),
    case("bert", "BERT", BERT(), BERT_NAMES, IDS, IDS),
    case("t5", "T5", T5(), T5_NAMES, by=heads_of_8),
    case(
        "t5",
        "T5 1.1",
        T5(gated=True, head=True),
        T5_NAMES,
        by=heads_of_8,
        by_name=False,
    ),
    case("whisper", "Whisper", Whisper(), WHISPER, SOUND, IDS, by_name=False),
]
