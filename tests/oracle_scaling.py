# SPDX-License-Identifier: Apache-2.0
"""The models of packages that scale by width or depth: mup and torchscale.

Like `tests/oracle_models.py`. mup multiplies what its readout gives by
base width / width; the kernel is recorded with that factor, as the network sees it. Its
optimisers' learning rates are recorded as constants, of a rate of 1 and as they are.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.oracle_models import Make, Models, seeded

BASE, DELTA, WIDE = 16, 32, 64


def mup_models() -> Models:
    import mup
    from torch import nn

    def mlp(width: int) -> Any:
        return nn.Sequential(
            *(nn.Linear(12, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
            mup.MuReadout(width, 10),
        )

    class Transformer(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.embed = nn.Embedding(96, width)
            for name in ("query", "key", "value", "out"):
                setattr(self, name, nn.Linear(width, width, bias=False))
            self.up = nn.Linear(width, 4 * width)
            self.down = nn.Linear(4 * width, width)
            self.norm = nn.LayerNorm(width)
            self.head = mup.MuReadout(width, 96, bias=False)

    def scaled(build: Callable[[int], Any], drawn: bool) -> Any:
        model = build(WIDE)
        mup.set_base_shapes(model, build(BASE), delta=build(DELTA))
        if drawn:
            for name, each in model.named_parameters():
                if each.ndim > 1:
                    mup.init.normal_(each, std=0.02)
                elif name.endswith("bias"):
                    each.zero_()
        return model

    def seen(build: Callable[[int], Any], drawn: bool) -> Make:
        def model() -> Any:
            made = scaled(build, drawn)
            for each in made.modules():
                if isinstance(each, mup.MuReadout):
                    each.weight.div_(each.width_mult())
            return made

        return seeded(model)

    def rates(optimizer: Callable[..., Any]) -> Make:
        def parameters(seed: int) -> dict[str, np.ndarray]:
            model = scaled(mlp, False)
            names = {id(each): name for name, each in model.named_parameters()}
            return {
                names[id(each)]: np.array([group["lr"]])
                for group in optimizer(model.parameters(), lr=1.0).param_groups
                for each in group["params"]
            }

        return parameters

    return {
        "MLP": seen(mlp, False),
        "Transformer": seen(Transformer, True),
        "MLP, rates of MuAdam": rates(mup.MuAdam),
        "MLP, rates of MuSGD": rates(mup.MuSGD),
    }


def torchscale_models() -> Models:
    from torchscale.architecture.config import DecoderConfig, EncoderConfig
    from torchscale.architecture.decoder import Decoder
    from torchscale.architecture.encoder import Encoder

    def sizes(side: str, layers: int) -> dict[str, Any]:
        return {
            "deepnorm": True,
            f"{side}_layers": layers,
            f"{side}_embed_dim": 48,
            f"{side}_attention_heads": 4,
            f"{side}_ffn_embed_dim": 96,
        }

    def encoder() -> Any:
        return Encoder(EncoderConfig(**sizes("encoder", 3)))

    def decoder() -> Any:
        return Decoder(DecoderConfig(**sizes("decoder", 3)))

    def paired(side: str) -> Callable[[], Any]:
        def make() -> Any:
            both = {"encoder_layers": 2, "decoder_layers": 3}
            if side == "encoder":
                config = EncoderConfig(**sizes(side, 2))
                config.decoder_layers = both["decoder_layers"]
                return Encoder(config, is_encoder_decoder=True)
            config = DecoderConfig(**sizes(side, 3))
            config.encoder_layers = both["encoder_layers"]
            return Decoder(config, is_encoder_decoder=True)

        return make

    models = {"Encoder": encoder, "Decoder": decoder}
    models |= {f"{s} of both".capitalize(): paired(s) for s in ("encoder", "decoder")}
    return {name: seeded(make) for name, make in models.items()}


SCALING: dict[str, tuple[list[str], Callable[[], Models]]] = {
    "mup": (["mup", "torch"], mup_models),
    "torchscale": (["torchscale", "torch"], torchscale_models),
}
