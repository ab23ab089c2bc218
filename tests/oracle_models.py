# SPDX-License-Identifier: Apache-2.0
"""The models of other libraries that `tests.record_recipes` runs, small of size.

Each library has its packages and a function of no arguments that imports them and gives
its models: by name, a function from a seed to the parameters by path.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

Make: TypeAlias = Callable[[int], Mapping[str, np.ndarray]]
Models: TypeAlias = dict[str, Make]


def seeded(make: Callable[[], Any]) -> Make:
    """A PyTorch module's parameters, by a seed."""

    def parameters(seed: int) -> dict[str, np.ndarray]:
        import torch

        torch.manual_seed(seed)
        with torch.no_grad():
            named = make().named_parameters()
            return {path: each.float().numpy().copy() for path, each in named}

    return parameters


def torch_layers() -> Models:
    from torch import nn

    layers: dict[str, Callable[[], Any]] = {
        "Linear": lambda: nn.Linear(24, 40),
        "Bilinear": lambda: nn.Bilinear(12, 20, 16),
        "Conv1d": lambda: nn.Conv1d(12, 20, 5),
        "Conv2d": lambda: nn.Conv2d(12, 20, 3),
        "Conv2d strided": lambda: nn.Conv2d(12, 20, 3, 2),
        "Conv2d grouped": lambda: nn.Conv2d(12, 24, 3, groups=4),
        "Conv2d depthwise": lambda: nn.Conv2d(12, 24, 3, groups=12),
        "Conv3d": lambda: nn.Conv3d(6, 10, 3),
        "ConvTranspose1d": lambda: nn.ConvTranspose1d(12, 20, 4, 2),
        "ConvTranspose2d": lambda: nn.ConvTranspose2d(12, 20, 4, 2),
        "ConvTranspose3d": lambda: nn.ConvTranspose3d(6, 10, 3, 1),
        "Embedding": lambda: nn.Embedding(50, 16),
        "EmbeddingBag": lambda: nn.EmbeddingBag(50, 16),
        "RNN": lambda: nn.RNN(12, 20, 2),
        "LSTM": lambda: nn.LSTM(12, 20, 2),
        "LSTM projected": lambda: nn.LSTM(12, 20, proj_size=8),
        "GRU": lambda: nn.GRU(12, 20, 2),
        "RNNCell": lambda: nn.RNNCell(12, 20),
        "LSTMCell": lambda: nn.LSTMCell(12, 20),
        "GRUCell": lambda: nn.GRUCell(12, 20),
        "MultiheadAttention": lambda: nn.MultiheadAttention(24, 4),
        "MultiheadAttention kdim": lambda: nn.MultiheadAttention(
            24, 4, kdim=40, vdim=16, add_bias_kv=True
        ),
        "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(24, 4, 64),
        "TransformerDecoderLayer": lambda: nn.TransformerDecoderLayer(24, 4, 64),
        "BatchNorm2d": lambda: nn.BatchNorm2d(24),
        "GroupNorm": lambda: nn.GroupNorm(4, 24),
        "LayerNorm": lambda: nn.LayerNorm(24),
        "RMSNorm": lambda: nn.RMSNorm(24),
        "InstanceNorm2d": lambda: nn.InstanceNorm2d(24, affine=True),
        "PReLU": lambda: nn.PReLU(24),
    }
    return {name: seeded(make) for name, make in layers.items()}


def keras_layers() -> Models:
    import keras
    from keras import layers as k

    image, series, flat = (2, 8, 8, 12), (2, 6, 12), (2, 24)
    table: dict[str, tuple[Callable[[], Any], list[tuple[int, ...]]]] = {
        "Dense": (lambda: k.Dense(40), [flat]),
        "EinsumDense": (
            lambda: k.EinsumDense("abc,cde->abde", (None, 4, 10), bias_axes="de"),
            [series],
        ),
        "Conv1D": (lambda: k.Conv1D(20, 5), [series]),
        "Conv2D": (lambda: k.Conv2D(20, 3), [image]),
        "Conv2D strided": (lambda: k.Conv2D(20, 3, 2), [image]),
        "Conv2D grouped": (lambda: k.Conv2D(24, 3, groups=4), [image]),
        "Conv3D": (lambda: k.Conv3D(10, 3), [(2, 6, 6, 6, 12)]),
        "DepthwiseConv1D": (lambda: k.DepthwiseConv1D(3), [series]),
        "DepthwiseConv2D": (lambda: k.DepthwiseConv2D(3), [image]),
        "DepthwiseConv2D twice": (
            lambda: k.DepthwiseConv2D(3, depth_multiplier=2),
            [image],
        ),
        "SeparableConv1D": (lambda: k.SeparableConv1D(20, 3), [series]),
        "SeparableConv2D": (lambda: k.SeparableConv2D(20, 3), [image]),
        "Conv1DTranspose": (lambda: k.Conv1DTranspose(20, 4, 2), [series]),
        "Conv2DTranspose": (lambda: k.Conv2DTranspose(20, 4, 2), [image]),
        "Conv3DTranspose": (lambda: k.Conv3DTranspose(10, 3), [(2, 6, 6, 6, 12)]),
        "Embedding": (lambda: k.Embedding(50, 16), [(2, 6)]),
        "LSTM": (lambda: k.LSTM(20), [series]),
        "GRU": (lambda: k.GRU(20), [series]),
        "SimpleRNN": (lambda: k.SimpleRNN(20), [series]),
        "ConvLSTM1D": (lambda: k.ConvLSTM1D(10, 3), [(2, 4, 8, 6)]),
        "ConvLSTM2D": (lambda: k.ConvLSTM2D(10, 3), [(2, 4, 8, 8, 6)]),
        "MultiHeadAttention": (lambda: k.MultiHeadAttention(4, 6), [(2, 6, 24)] * 2),
        "MultiHeadAttention narrow": (
            lambda: k.MultiHeadAttention(4, 6),
            [(2, 6, 24), (2, 6, 16)],
        ),
        "GroupQueryAttention": (
            lambda: k.GroupQueryAttention(6, 4, 2),
            [(2, 6, 24)] * 2,
        ),
        "BatchNormalization": (k.BatchNormalization, [image]),
        "GroupNormalization": (lambda: k.GroupNormalization(4), [image]),
        "LayerNormalization": (k.LayerNormalization, [flat]),
        "RMSNormalization": (k.RMSNormalization, [flat]),
        "PReLU": (k.PReLU, [flat]),
    }

    def model(make: Callable[[], Any], shapes: list[tuple[int, ...]]) -> Make:
        def parameters(seed: int) -> dict[str, np.ndarray]:
            keras.utils.set_random_seed(seed)
            layer = make()
            layer.build(*shapes)
            named = {each.path.partition("/")[2]: each for each in layer.weights}
            named = {path: each for path, each in named.items() if "seed" not in path}
            return {path: np.asarray(each) for path, each in named.items()}

        return parameters

    return {name: model(*each) for name, each in table.items()}


def torchvision_models() -> Models:
    from torchvision.models import convnext, efficientnet, resnet, swin_transformer
    from torchvision.models import vision_transformer as vit

    blocks = [
        convnext.CNBlockConfig(16, 32, 2),
        convnext.CNBlockConfig(32, None, 1),
    ]
    convs = [
        efficientnet.MBConvConfig(1, 3, 1, 32, 16, 1),
        efficientnet.MBConvConfig(6, 5, 2, 16, 24, 2),
    ]
    basic, bottleneck = resnet.BasicBlock, resnet.Bottleneck
    models: dict[str, Callable[[], Any]] = {
        "ResNet basic": lambda: resnet.ResNet(basic, [2, 1, 1, 1], 50),
        "ResNet bottleneck": lambda: resnet.ResNet(
            bottleneck, [1, 1, 1, 1], 50, zero_init_residual=True
        ),
        "ResNeXt": lambda: resnet.ResNet(
            bottleneck, [1, 1, 1, 1], 50, groups=8, width_per_group=4
        ),
        "ConvNeXt": lambda: convnext.ConvNeXt(blocks, num_classes=50),
        "EfficientNet": lambda: efficientnet.EfficientNet(convs, 0.2, num_classes=50),
        "VisionTransformer": lambda: vit.VisionTransformer(
            32, 8, 2, 4, 48, 96, num_classes=50
        ),
        "SwinTransformer": lambda: swin_transformer.SwinTransformer(
            [4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=50
        ),
    }
    return {name: seeded(make) for name, make in models.items()}


def timm_models() -> Models:
    from timm.models import convnext, efficientnet, mlp_mixer, vision_transformer
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models._manipulate import named_apply

    def mixer() -> Any:
        def flax(module: Any, name: str) -> None:
            mlp_mixer._init_weights(module, name, flax=True)

        model = mlp_mixer.MlpMixer(50, 32, patch_size=8, num_blocks=2, embed_dim=48)
        return named_apply(flax, model)

    sizes: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 48}
    sizes |= {"depth": 2, "num_heads": 4, "num_classes": 50}
    models: dict[str, Callable[[], Any]] = {
        "MlpMixer": mixer,
        "ConvNeXt": lambda: convnext.ConvNeXt(
            num_classes=50, depths=(2, 1, 1, 1), dims=(16, 32, 32, 48)
        ),
        "EfficientNet": lambda: efficientnet.EfficientNet(
            decode_arch_def(
                [["ds_r1_k3_s1_e1_c16_se0.25"], ["ir_r1_k5_s2_e6_c24_se0.25"]]
            ),
            num_classes=50,
            num_features=64,
        ),
        "VisionTransformer": lambda: vision_transformer.VisionTransformer(**sizes),
        "VisionTransformer jax": lambda: vision_transformer.VisionTransformer(
            **sizes, weight_init="jax"
        ),
    }
    return {name: seeded(make) for name, make in models.items()}


def transformers_models() -> Models:
    import transformers as t

    text = {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 4, "intermediate_size": 96}
    few = {"num_key_value_heads": 2}
    t5 = {"vocab_size": 96, "d_model": 48, "d_kv": 8, "d_ff": 96, "num_layers": 2}
    t5 |= {"num_heads": 4}
    whisper = {"vocab_size": 96, "d_model": 48, "pad_token_id": 0}
    for side in ("encoder", "decoder"):
        whisper |= {
            f"{side}_layers": 2,
            f"{side}_attention_heads": 4,
            f"{side}_ffn_dim": 96,
        }
    gpt2 = {"vocab_size": 96, "n_embd": 48, "n_layer": 2, "n_head": 4}
    mamba = {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 2}
    mamba |= {"state_size": 8, "use_mambapy": False}

    def gated_t5() -> Any:
        config = t.T5Config(**t5, feed_forward_proj="gated-gelu")
        config.tie_word_embeddings = False  # an argument of that name is ignored
        return t.T5ForConditionalGeneration(config)

    models: dict[str, Callable[[], Any]] = {
        "GPT2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**gpt2, n_positions=32)),
        "Llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**text, **few)),
        "Mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**text, **few)),
        "Qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**text, **few)),
        "BERT": lambda: t.BertForMaskedLM(
            t.BertConfig(**text, max_position_embeddings=32)
        ),
        "T5": lambda: t.T5ForConditionalGeneration(t.T5Config(**t5)),
        "T5 1.1": gated_t5,
        "Whisper": lambda: t.WhisperForConditionalGeneration(
            t.WhisperConfig(
                **whisper,
                num_mel_bins=20,
                max_source_positions=32,
                max_target_positions=32,
            )
        ),
        "Mamba": lambda: t.MambaForCausalLM(t.MambaConfig(**mamba)),
        "Mamba rescaled": lambda: t.MambaForCausalLM(
            t.MambaConfig(**mamba, rescale_prenorm_residual=True)
        ),
    }
    return {name: seeded(make) for name, make in models.items()}


LIBRARIES: dict[str, tuple[list[str], Callable[[], Models]]] = {
    "torch": (["torch"], torch_layers),
    "keras": (["keras"], keras_layers),
    "torchvision": (["torchvision", "torch"], torchvision_models),
    "timm": (["timm", "torch"], timm_models),
    "transformers": (["transformers", "torch"], transformers_models),
}
