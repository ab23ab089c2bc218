# SPDX-License-Identifier: Apache-2.0
"""The models of research code that `tests.record_recipes` runs.

All but OLMo's are on no index: their repositories, at the commits of `COMMITS`, must be
on the path, or the folder of the file that is imported.
"""

import argparse
import ast
import builtins
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.oracle_models import Make, Models, seeded

COMMITS = {
    "vit_jax": "google-research/vision_transformer c6de1e5",
    "t5x": "google-research/t5x cc342d4",
    "fixup": "hongyi-zhang/Fixup f3fa449",
    "dcgan": "pytorch/examples 77f55b9",
    "t_fixup": "layer6ai-labs/T-Fixup b17e166",
}


def olmo_models() -> Models:
    from olmo.config import InitFnType, LayerNormType, ModelConfig
    from olmo.model import OLMo

    def model() -> Any:
        return OLMo(
            ModelConfig(
                d_model=48,
                n_heads=4,
                n_layers=2,
                mlp_hidden_size=192,
                vocab_size=96,
                embedding_size=96,
                max_sequence_length=32,
                include_bias=False,
                layer_norm_type=LayerNormType.rms,
                rope=True,
                weight_tying=False,
                init_device="cpu",
                init_fn=InitFnType.full_megatron,
                init_cutoff_factor=3.0,
            )
        )

    return {"OLMo full_megatron": seeded(model)}


def vit_jax_models() -> Models:
    from vit_jax import models_mixer, models_vit

    class Patches:
        size = (8, 8)

    layers = {"mlp_dim": 96, "num_heads": 4, "num_layers": 2}
    vit = models_vit.VisionTransformer(50, Patches(), layers, 48)
    mixer = models_mixer.MlpMixer(Patches(), 50, 2, 48, 24, 96)
    image = np.zeros((1, 32, 32, 3), "float32")
    return {
        "VisionTransformer": flax(vit, image, train=False),
        "MlpMixer": flax(mixer, image, train=False),
    }


def t5x_models() -> Models:
    from t5x.examples.t5 import network

    sizes = {"emb_dim": 48, "num_heads": 4, "head_dim": 8, "mlp_dim": 96}
    sizes |= {"num_encoder_layers": 2, "num_decoder_layers": 2}
    model = network.Transformer(network.T5Config(vocab_size=96, **sizes))
    tokens = np.ones((2, 6), "int32")
    return {"Transformer": flax(model, tokens, tokens, tokens, enable_dropout=False)}


def fixup_models() -> Models:
    import fixup_resnet_imagenet as fixup

    def model(block: Any) -> Make:
        return seeded(lambda: fixup.FixupResNet(block, [1, 1, 1, 1], 50))

    return {
        "ResNet basic": model(fixup.FixupBasicBlock),
        "ResNet bottleneck": model(fixup.FixupBottleneck),
    }


def dcgan_models() -> Models:
    """The classes of dcgan/main.py, a script, with 8 features."""
    import torch

    (folder,) = [each for each in map(Path, sys.path) if (each / "dcgan").is_dir()]
    body = ast.parse((folder / "dcgan" / "main.py").read_text()).body
    kinds = (ast.ClassDef, ast.FunctionDef)
    made: dict[str, Any] = {"torch": torch, "nn": torch.nn, "nz": 16, "nc": 3}
    made |= {"ngf": 8, "ndf": 8}
    kept = ast.Module([each for each in body if isinstance(each, kinds)], [])
    exec(compile(kept, "main.py", "exec"), made)

    def model(name: str) -> Make:
        return seeded(lambda: made[name](1).apply(made["weights_init"]))

    return {name: model(name) for name in ("Generator", "Discriminator")}


def t_fixup_models() -> Models:
    for name in ("bool", "float", "int", "object"):  # as numpy had them then
        setattr(np, name, getattr(builtins, name))
    from fairseq.models import transformer

    class Words(dict[str, int]):
        def pad(self) -> int:
            return 1

        def __len__(self) -> int:
            return 96

    args = argparse.Namespace(Tfixup=True, dont_use_layernorm=True)
    for side, layers in (("encoder", 2), ("decoder", 3)):
        for name, value in (
            ("layers", layers),
            ("embed_dim", 48),
            ("ffn_embed_dim", 96),
            ("attention_heads", 4),
            ("layerdrop", 0.0),
        ):
            setattr(args, f"{side}_{name}", value)
    args.max_source_positions = args.max_target_positions = 32
    transformer.base_architecture(args)

    def model() -> Any:
        import torch

        sides = {
            "encoder": transformer.TransformerEncoder,
            "decoder": transformer.TransformerDecoder,
        }
        return torch.nn.ModuleDict(
            {
                side: make(args, Words(), transformer.Embedding(96, 48, 1))
                for side, make in sides.items()
            }
        )

    drawn = seeded(model)

    def parameters(seed: int) -> dict[str, np.ndarray]:
        """Without the tables' rows of the padding, which are 0."""
        return {
            path: np.delete(x, Words().pad(), 0) if "embed_tokens" in path else x
            for path, x in drawn(seed).items()
        }

    return {"Transformer": parameters}


def flax(module: Any, *args: Any, **kwargs: Any) -> Make:
    """A Linen module's parameters, by a seed."""

    def parameters(seed: int) -> dict[str, np.ndarray]:
        import jax

        key = jax.random.key(seed)
        tree = module.init(key, *args, **kwargs)["params"]
        return {
            jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
            for path, leaf in jax.tree.leaves_with_path(tree)
        }

    return parameters


SOURCES: dict[str, tuple[list[str], Callable[[], Models]]] = {
    "olmo": (["ai2-olmo", "torch"], olmo_models),
    "vit_jax": (["flax", "jax"], vit_jax_models),
    "t5x": (["flax", "jax"], t5x_models),
    "fixup": (["torch"], fixup_models),
    "dcgan": (["torch"], dcgan_models),
    "t_fixup": (["torch"], t_fixup_models),
}
