# SPDX-License-Identifier: Apache-2.0
"""Small models of the common architectures, in Flax Linen and NNX.

`LINEN` has a model and the kind of batch that it takes for each name, `NNX` a function
of `nnx.Rngs` that makes the model. They are as the textbooks have them, with Flax's own
initializers, JAX's and jaxinit's side by side.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

import jaxinit

VOCABULARY, LENGTH, WIDTH, HEADS = 96, 12, 24, 2
TOKENS = jax.ShapeDtypeStruct((2, LENGTH), jnp.int32)
IMAGES = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
VECTORS = jax.ShapeDtypeStruct((2, WIDTH), jnp.float32)
SERIES = jax.ShapeDtypeStruct((2, 5, WIDTH), jnp.float32)

small = nn.initializers.normal(0.02)


class Block(nn.Module):
    """A transformer's block, normalised first."""

    @nn.compact
    def __call__(self, x, mask=None):
        h = nn.MultiHeadDotProductAttention(HEADS)(nn.LayerNorm()(x), mask=mask)
        x = x + h
        h = nn.Dense(4 * WIDTH, kernel_init=small)(nn.LayerNorm()(x))
        init = jaxinit.variance_scaling(0.5, "fan_in", "truncated_normal")
        return x + nn.Dense(WIDTH, kernel_init=init)(nn.gelu(h))


class GPT2(nn.Module):
    depth: int = 2
    tied: bool = False
    block: Any = Block

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(VOCABULARY, WIDTH, embedding_init=jaxinit.normal(0.02))
        places = self.param("places", small, (LENGTH, WIDTH))
        x, mask = embed(tokens) + places[None], nn.make_causal_mask(tokens)
        for _ in range(self.depth):
            x = self.block()(x, mask)
        x = nn.LayerNorm()(x)
        return embed.attend(x) if self.tied else nn.Dense(VOCABULARY)(x)


class Scanned(nn.Module):
    """Blocks in a loop, their parameters stacked, the forward pass done again."""

    depth: int = 3

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(VOCABULARY, WIDTH)(tokens)
        blocks = nn.scan(
            nn.remat(_Carried),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.depth,
        )
        x, _ = blocks()(x, None)
        return nn.Dense(VOCABULARY, kernel_init=jaxinit.lecun_normal())(x)


class _Carried(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return Block()(x), None


class ViT(nn.Module):
    depth: int = 2

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(WIDTH, (4, 4), strides=4, kernel_init=jaxinit.lecun_normal())(x)
        x = x.reshape(len(x), -1, WIDTH)
        token = self.param("token", nn.initializers.zeros, (1, 1, WIDTH))
        x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, WIDTH)), x], 1)
        x = x + self.param("places", small, (1, *x.shape[1:]))
        for _ in range(self.depth):
            x = Block()(x)
        return nn.Dense(10, kernel_init=nn.initializers.zeros)(nn.LayerNorm()(x)[:, 0])


class Residual(nn.Module):
    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        def norm(x, **kinds):
            return nn.BatchNorm(use_running_average=False, **kinds)(x)

        def conv(x, size, stride):
            strides, init = (stride, stride), jaxinit.he_normal()
            return nn.Conv(
                self.features, (size, size), strides, use_bias=False, kernel_init=init
            )(x)

        h = nn.relu(norm(conv(x, 3, self.stride)))
        h = norm(conv(h, 3, 1), scale_init=nn.initializers.zeros)
        if x.shape != h.shape:
            x = norm(conv(x, 1, self.stride))
        return nn.relu(x + h)


class ResNet(nn.Module):
    depth: int = 2  # blocks of each width

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), use_bias=False, kernel_init=jaxinit.he_normal())(x)
        for features in (8, 16):
            for k in range(self.depth):
                x = Residual(features, 2 if features > 8 and k == 0 else 1)(x)
        return nn.Dense(10)(x.mean((1, 2)))


class LSTM(nn.Module):
    depth: int = 2

    @nn.compact
    def __call__(self, x):
        for _ in range(self.depth):
            x = nn.RNN(nn.OptimizedLSTMCell(WIDTH))(x)
        return nn.Dense(1, kernel_init=jaxinit.orthogonal())(x)


class UNet(nn.Module):
    widths: tuple[int, ...] = (4, 8)

    @nn.compact
    def __call__(self, x):
        passed = []
        for width in self.widths:
            x = nn.relu(nn.Conv(width, (3, 3), kernel_init=jaxinit.he_uniform())(x))
            passed.append(x)
            x = nn.max_pool(x, (2, 2), (2, 2))
        for width in reversed(self.widths):
            x = nn.ConvTranspose(width, (2, 2), strides=(2, 2))(x)
            x = jnp.concatenate([x, passed.pop()], -1)
            x = nn.relu(nn.Conv(width, (3, 3))(x))
        return nn.Conv(3, (1, 1))(x)


class Partitioned(nn.Module):
    """Kernels in boxes that name their axes."""

    depth: int = 2

    @nn.compact
    def __call__(self, x):
        up = nn.with_partitioning(jaxinit.he_normal(), (None, "model"))
        down = nn.with_partitioning(nn.initializers.lecun_normal(), ("model", None))
        for _ in range(self.depth):
            h = nn.relu(nn.Dense(4 * WIDTH, kernel_init=up)(x))
            x = x + nn.Dense(WIDTH, kernel_init=down)(h)
        return x


class Experts(nn.Module):
    """Dense layers side by side, each with its own key."""

    number: int = 4

    @nn.compact
    def __call__(self, x):
        experts = nn.vmap(
            nn.Dense,
            in_axes=None,
            out_axes=0,
            axis_size=self.number,
            variable_axes={"params": 0},
            split_rngs={"params": True},
        )
        gate = nn.softmax(nn.Dense(self.number)(x))
        y = experts(WIDTH, kernel_init=jaxinit.glorot_normal())(x)
        return jnp.einsum("be,ebd->bd", gate, y)


class NNXBlock(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm1, self.norm2 = (nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2))
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        init = jaxinit.he_normal()
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, kernel_init=init, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.dropout(self.down(nnx.gelu(self.up(self.norm2(x)))))


class Transformer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, depth: int = 2) -> None:
        self.embed = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.blocks = nnx.List([NNXBlock(rngs) for _ in range(depth)])
        self.head = nnx.Linear(WIDTH, VOCABULARY, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Convolutional(nnx.Module):
    """With statistics of the batch, which are no parameters."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.convs = nnx.List(
            [nnx.Conv(m, n, (3, 3), rngs=rngs) for m, n in ((3, 8), (8, 8))]
        )
        self.norms = nnx.List([nnx.BatchNorm(8, rngs=rngs) for _ in range(2)])
        self.head = nnx.Linear(8, 10, kernel_init=jaxinit.orthogonal(), rngs=rngs)

    def __call__(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nnx.relu(norm(conv(x)))
        return self.head(x.mean((1, 2)))


LINEN: dict[str, tuple[nn.Module, jax.ShapeDtypeStruct]] = {
    "experts": (Experts(), VECTORS),
    "gpt2": (GPT2(), TOKENS),
    "gpt2-tied": (GPT2(tied=True), TOKENS),
    "lstm": (LSTM(), SERIES),
    "partitioned": (Partitioned(), VECTORS),
    "remat": (GPT2(block=nn.remat(Block)), TOKENS),
    "resnet": (ResNet(), IMAGES),
    "scanned": (Scanned(), TOKENS),
    "unet": (UNet(), IMAGES),
    "vit": (ViT(), IMAGES),
}

NNX: dict[str, Callable[[nnx.Rngs], nnx.Module]] = {
    "convolutional": Convolutional,
    "transformer": Transformer,
}
