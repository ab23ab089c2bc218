# SPDX-License-Identifier: Apache-2.0
"""Deep networks that begin without normalisation, as their papers' code builds them."""

from typing import Any

import flax.linen as nn
import jax

import jaxinit
from jaxinit import rules
from tests.rules.oracle import Case
from tests.rules.oracle_decoders import IDS, INNER, VOCABULARY, WIDTH, attend, dense
from tests.rules.oracle_images import CLASSES, IMAGES, conv


class FixupNet(nn.Module):
    """Fixup's ResNet of four blocks, with biases and multipliers of one entry."""

    bottleneck: bool = False

    def one(self, name: str) -> jax.Array:
        return self.param(name, nn.initializers.zeros, (1,))[None, None, None]

    @nn.compact
    def __call__(self, x):
        x = nn.relu(conv(64, 7, "conv1", 2)(x) + self.one("bias1"))
        for stage in range(4):
            at, stride = f"layer{stage + 1}/0", 2 if stage else 1
            x = self.block(at, x, 64 * 2**stage, stride)
        return nn.Dense(CLASSES, name="fc")(x.mean((1, 2)) + self.one("bias2")[0, 0])

    def block(self, at: str, x: Any, planes: int, stride: int) -> Any:
        out = 4 * planes if self.bottleneck else planes
        sizes = [(planes, 3, stride), (planes, 3, 1)]
        if self.bottleneck:
            sizes = [(planes, 1, 1), (planes, 3, stride), (out, 1, 1)]
        begun = x + self.one(f"{at}/bias1a")
        h = begun
        for k, (features, size, step) in enumerate(sizes, 1):
            h = h if k == 1 else h + self.one(f"{at}/bias{k}a")
            h = conv(features, size, f"{at}/conv{k}", step)(h)
            if k < len(sizes):
                h = nn.relu(h + self.one(f"{at}/bias{k}b"))
        h = h * self.one(f"{at}/scale") + self.one(f"{at}/bias{len(sizes)}b")
        if stride > 1 or x.shape[-1] != out:
            x = conv(out, 1, f"{at}/downsample", stride)(begun)
        return nn.relu(x + h)


class TFixup(nn.Module):
    """T-Fixup's transformer: two layers and three, and one norm that its code keeps."""

    @nn.compact
    def __call__(self, tokens, targets):
        x = nn.Embed(VOCABULARY, WIDTH, name="encoder_embed_tokens")(tokens)
        for k in range(2):
            x = self.mlp(f"encoder_{k}", self.attended(f"encoder_{k}_self_attn", x, x))
        y = nn.Embed(VOCABULARY, WIDTH, name="decoder_embed_tokens")(targets)
        for k in range(3):
            at = f"decoder_{k}"
            y = self.attended(f"{at}_self_attn", y, y)
            y = self.attended(f"{at}_encoder_attn", y, x)
            y = nn.LayerNorm(name=f"{at}_encoder_attn_layer_norm")(y)
            y = self.mlp(at, y)
        return dense(VOCABULARY, "decoder_embed_out")(y)

    def attended(self, at: str, x: Any, other: Any) -> Any:
        pairs = zip("qkv", (x, other, other), strict=True)
        q, k, v = (dense(WIDTH, f"{at}/{n}_proj", True)(each) for n, each in pairs)
        return x + dense(WIDTH, f"{at}/out_proj", True)(attend(q, k, v))

    def mlp(self, at: str, x: Any) -> Any:
        h = nn.relu(dense(INNER, f"{at}/fc1", True)(x))
        return x + dense(WIDTH, f"{at}/fc2", True)(h)


LAST = ("v_proj", "out_proj", "fc1", "fc2")


def t_fixup() -> Any:
    encoder, decoder = (
        [f"{side}*/{name}/kernel" for name in LAST] for side in ("encoder", "decoder")
    )
    return rules.t_fixup(2, 3, encoder, decoder, ["encoder_embed_tokens/embedding"])


def fixup(depth: int) -> Any:
    inner = [f"layer*/0/conv{k}/kernel" for k in range(1, depth)]
    last, head = [f"layer*/0/conv{depth}/kernel"], ["fc/kernel"]
    stem = ["/params/conv1/kernel"]
    biases = ("bias[123]*", jaxinit.zeros)
    return [biases, *rules.fixup(4, inner, last, head, depth, stem)]


T_FIXUP = [
    (r"^(encoder|decoder)_(\d)_?", r"\1/layers/\2/"),
    ("//", "/"),
    ("^(encoder|decoder)_embed_out/kernel", r"\1/embed_out"),
    ("^(encoder|decoder)_", r"\1/"),
]
KEPT = [("/scale$", ".scale")]
DEPTH = [
    Case(
        *("fixup", "fixup", "ResNet basic", FixupNet(), (IMAGES,), KEPT),
        rules=lambda: fixup(2),
    ),
    Case(
        *("fixup", "fixup", "ResNet bottleneck", FixupNet(True), (IMAGES,), KEPT),
        rules=lambda: fixup(3),
    ),
    Case(
        *("t_fixup", "t_fixup", "Transformer", TFixup(), (IDS, IDS), T_FIXUP, t_fixup),
        by_name=False,
    ),
]
