# SPDX-License-Identifier: Apache-2.0
"""Vision transformers in Flax, of the same architecture as those recorded."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from jaxinit import rules
from tests.rules.oracle_images import CLASSES, MLP, WIDTH, case


class ViT(nn.Module):
    """Google's; timm's MLPs are four times as wide as the stream."""

    hidden: int = 96

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(WIDTH, (8, 8), 8, padding="VALID", name="embedding")(x)
        x = x.reshape(len(x), -1, WIDTH)
        cls = self.param("cls", nn.initializers.zeros, (1, 1, WIDTH))
        x = jnp.concatenate([jnp.tile(cls, (len(x), 1, 1)), x], axis=1)
        at = "Transformer/posembed_input/pos_embedding"
        x = x + self.param(at, nn.initializers.zeros, (1, *x.shape[1:]))
        for k in range(2):
            at = f"Transformer/encoderblock_{k}"
            h = nn.LayerNorm(name=f"{at}/LayerNorm_0")(x)
            attention = f"{at}/MultiHeadDotProductAttention_0"
            x = x + nn.MultiHeadDotProductAttention(4, name=attention)(h)
            h = nn.LayerNorm(name=f"{at}/LayerNorm_1")(x)
            x = x + MLP(self.hidden, name=f"{at}/MlpBlock_0")(h)
        x = nn.LayerNorm(name="Transformer/encoder_norm")(x)[:, 0]
        return nn.Dense(CLASSES, name="head")(x)


class ViTBlock(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm1, self.norm2 = (nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2))
        self.attn = nnx.MultiHeadAttention(4, WIDTH, decode=False, rngs=rngs)
        self.fc1 = nnx.Linear(WIDTH, 96, rngs=rngs)
        self.fc2 = nnx.Linear(96, WIDTH, rngs=rngs)

    def __call__(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(nnx.gelu(self.fc1(self.norm2(x))))


class ViTNNX(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.patch = nnx.Conv(3, WIDTH, (8, 8), 8, padding="VALID", rngs=rngs)
        self.cls = nnx.Param(jnp.zeros((1, 1, WIDTH)))
        self.places = nnx.Param(jnp.zeros((1, 17, WIDTH)))
        self.blocks = nnx.List([ViTBlock(rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = self.patch(x).reshape(len(x), -1, WIDTH)
        cls = jnp.tile(self.cls[...], (len(x), 1, 1))
        x = jnp.concatenate([cls, x], axis=1) + self.places[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Swin(nn.Module):
    """torchvision's, of two stages; its windows are 4 by 4, and not shifted here."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(24, (4, 4), 4, padding="VALID", name="features/0/0")(x)
        x = nn.LayerNorm(name="features/0/2")(x)
        for stage, heads in ((1, 2), (3, 4)):
            for k in range(2):
                at = f"features/{stage}/{k}"
                x = x + self.attended(at, nn.LayerNorm(name=f"{at}/norm1")(x), heads)
                h = nn.LayerNorm(name=f"{at}/norm2")(x)
                h = nn.gelu(nn.Dense(4 * h.shape[-1], name=f"{at}/mlp/0")(h))
                x = x + nn.Dense(x.shape[-1], name=f"{at}/mlp/3")(h)
            if stage == 1:
                x = windows(x, 2).reshape(len(x), 4, 4, -1)
                x = nn.LayerNorm(name="features/2/norm")(x)
                x = nn.Dense(48, use_bias=False, name="features/2/reduction")(x)
        x = nn.LayerNorm(name="norm")(x).mean((1, 2))
        return nn.Dense(CLASSES, name="head")(x)

    def attended(self, at: str, x: jax.Array, heads: int) -> jax.Array:
        table = self.param(
            f"{at}/attn/relative_position_bias_table",
            nn.initializers.zeros,
            (49, heads),
        )
        row, column = jnp.divmod(jnp.arange(16), 4)
        apart = 7 * (row[:, None] - row[None] + 3) + column[:, None] - column[None] + 3
        w = windows(x, 4)
        qkv = nn.Dense(3 * w.shape[-1], name=f"{at}/attn/qkv")(w)
        q, k, v = (
            y.reshape(*y.shape[:2], heads, -1) for y in jnp.split(qkv, 3, axis=-1)
        )
        scores = jnp.einsum("bthd,bshd->bhts", q, k)
        scores = scores + table[apart].transpose(2, 0, 1)[None]
        mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), v)
        y = nn.Dense(x.shape[-1], name=f"{at}/attn/proj")(mixed.reshape(w.shape))
        return y.reshape(x.shape)


def windows(x: jax.Array, size: int) -> jax.Array:
    """Windows of size by size, as (windows, places, features)."""
    batch, height, width, features = x.shape
    x = x.reshape(batch, height // size, size, width // size, size, features)
    return x.swapaxes(2, 3).reshape(-1, size * size, features)


BLOCK = r"Transformer/encoderblock_\1/"
VIT_NNX = [
    (r"blocks/(\d)/attn/", f"{BLOCK}MultiHeadDotProductAttention_0/"),
    (r"blocks/(\d)/norm1", f"{BLOCK}LayerNorm_0"),
    (r"blocks/(\d)/norm2", f"{BLOCK}LayerNorm_1"),
    (r"blocks/(\d)/fc1", f"{BLOCK}MlpBlock_0/Dense_0"),
    (r"blocks/(\d)/fc2", f"{BLOCK}MlpBlock_0/Dense_1"),
    ("^norm", "Transformer/encoder_norm"),
    ("^patch", "embedding"),
    ("^places", "Transformer/posembed_input/pos_embedding"),
]
TORCHVISION = [
    ("^cls$", "class_token"),
    ("^embedding/", "conv_proj/"),
    (".*pos_embedding", "encoder/pos_embedding"),
    (r"^Transformer/encoderblock_(\d)/", r"encoder/layers/encoder_layer_\1/"),
    (
        "MultiHeadDotProductAttention_0/(query|key|value)/kernel",
        "self_attention/in_proj",
    ),
    ("MultiHeadDotProductAttention_0/(query|key|value)/bias", "self_attention/in_bias"),
    ("MultiHeadDotProductAttention_0/out", "self_attention/out_proj"),
    ("in_proj$", "in_proj_weight"),
    ("in_bias$", "in_proj_bias"),
    ("LayerNorm_0", "ln_1"),
    ("LayerNorm_1", "ln_2"),
    ("MlpBlock_0/Dense_0", "mlp/0"),
    ("MlpBlock_0/Dense_1", "mlp/3"),
    ("Transformer/encoder_norm", "encoder/ln"),
    ("^head", "heads/head"),
]
TIMM = [
    ("^cls$", "cls_token"),
    ("^embedding/", "patch_embed/proj/"),
    (".*pos_embedding", "pos_embed"),
    (r"^Transformer/encoderblock_(\d)/", r"blocks/\1/"),
    ("MultiHeadDotProductAttention_0/(query|key|value)", "attn/qkv"),
    ("MultiHeadDotProductAttention_0/out", "attn/proj"),
    ("LayerNorm_0", "norm1"),
    ("LayerNorm_1", "norm2"),
    ("MlpBlock_0/Dense_0", "mlp/fc1"),
    ("MlpBlock_0/Dense_1", "mlp/fc2"),
    ("Transformer/encoder_norm", "norm"),
]


def of_torchvision() -> Any:
    return rules.vit(code="torchvision")


def of_timm() -> Any:
    return rules.vit(code="timm")


NAME = "VisionTransformer"
TRANSFORMERS = [
    case("vit", "vit_jax", NAME, ViT()),
    case("vit", "vit_jax", NAME, ViTNNX, VIT_NNX),
    case("vit", "torchvision", NAME, ViT(), TORCHVISION, of_torchvision),
    case("vit", "timm", f"{NAME} jax", ViT(192), TIMM, of_timm),
    case("timm", "timm", NAME, ViT(192), TIMM),
    case("timm", "torchvision", "SwinTransformer", Swin()),
]
