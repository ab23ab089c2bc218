# SPDX-License-Identifier: Apache-2.0
"""What torchscale scales by depth and mup by width, on the same architectures."""

from typing import Any

import flax.linen as nn
import jax

import jaxinit
from jaxinit import rules
from tests.rules.oracle import Case
from tests.rules.oracle_decoders import IDS, INNER, VOCABULARY, WIDTH, attend, dense
from tests.rules.oracle_depth import LAST
from tests.rules.oracle_layers import shape


class Stack(nn.Module):
    """A stack of torchscale's, normalised after each addition."""

    layers: int
    cross: bool = False

    @nn.compact
    def __call__(self, x, other=None):
        for k in range(self.layers):
            at = f"layers/{k}"
            x = self.added(at, "self_attn", x, self.attended(f"{at}/self_attn", x, x))
            if self.cross:
                y = self.attended(f"{at}/encoder_attn", x, other)
                x = self.added(at, "encoder_attn", x, y)
            h = nn.gelu(dense(INNER, f"{at}/ffn/fc1", True)(x))
            x = self.added(at, "final", x, dense(WIDTH, f"{at}/ffn/fc2", True)(h))
        return x

    def added(self, at: str, what: str, x: Any, y: Any) -> Any:
        return nn.LayerNorm(name=f"{at}/{what}_layer_norm")(2.0 * x + y)

    def attended(self, at: str, x: Any, other: Any) -> Any:
        pairs = zip("qkv", (x, other, other), strict=True)
        q, k, v = (dense(WIDTH, f"{at}/{n}_proj", True)(each) for n, each in pairs)
        return dense(WIDTH, f"{at}/out_proj", True)(attend(q, k, v))


class Widened(nn.Module):
    """The perceptron that mup's package scales."""

    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(dense(self.width, "0", True)(x))
        x = nn.relu(dense(self.width, "2", True)(x))
        return dense(10, "4", True)(x)


class WidenedTransformer(nn.Module):
    """The transformer that mup's package scales."""

    width: int

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(VOCABULARY, self.width, name="embed")(tokens)
        q, k, v = (dense(self.width, name)(x) for name in ("query", "key", "value"))
        x = x + dense(self.width, "out")(attend(q, k, v))
        h = nn.relu(dense(4 * self.width, "up", True)(x))
        x = nn.LayerNorm(name="norm")(x + dense(self.width, "down", True)(h))
        return dense(VOCABULARY, "head")(x)


def deepnorm(side: str, encoder: int, decoder: int) -> Any:
    patterns = [f"{name}/kernel" for name in LAST]
    one, other = (patterns, []) if side == "encoder" else ([], patterns)
    return rules.deepnorm(encoder, decoder, one, other, "torchscale")


def mup(model: type, batch: Any, given: Any) -> Any:
    base = jax.eval_shape(model(16).init, jax.random.key(0), batch)
    return rules.mup(base, given)


STREAM = shape(2, 6, WIDTH)
ROWS = shape(2, 12)
NORMAL = [
    ("**/bias", jaxinit.zeros),
    ("**/scale", jaxinit.ones),
    ("**", jaxinit.normal(0.02)),
]


def depth(reference: str, model: Any, batch: Any, *layers: int) -> Case:
    side = "encoder" if "Encoder" in reference else "decoder"
    return Case(
        *("deepnorm", "torchscale", reference, model, batch),
        rules=lambda: deepnorm(side, *layers),
    )


SCALING = [
    depth("Encoder", Stack(3), (STREAM,), 3, 0),
    depth("Decoder", Stack(3), (STREAM,), 0, 3),
    depth("Encoder of both", Stack(2), (STREAM,), 2, 3),
    depth("Decoder of both", Stack(3, True), (STREAM, STREAM), 2, 3),
    Case(
        *("mup", "mup", "MLP", Widened(64), (ROWS,)),
        rules=lambda: mup(Widened, ROWS, rules.torch()),
    ),
    Case(
        *("mup", "mup", "Transformer", WidenedTransformer(64), (IDS,)),
        rules=lambda: mup(WidenedTransformer, IDS, NORMAL),
    ),
]
