# SPDX-License-Identifier: Apache-2.0
"""Vision models in Flax, of the same architecture as those recorded."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from flax import nnx

from jaxinit import rules
from tests.rules.oracle import Case
from tests.rules.oracle_layers import shape

CLASSES, WIDTH = 50, 48
IMAGES, SMALL = shape(2, 32, 32, 3), shape(2, 16, 16, 3)


def conv(features: int, size: int, name: str, stride: int = 1, groups: int = 1) -> Any:
    return nn.Conv(
        features,
        (size, size),
        stride,
        use_bias=False,
        feature_group_count=groups,
        name=name,
    )


def batch_norm(name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=False, name=name)


class ResNet(nn.Module):
    """torchvision's; bottlenecks have `groups` and a `base` width."""

    depths: tuple[int, ...]
    bottleneck: bool = False
    groups: int = 1
    base: int = 64

    @nn.compact
    def __call__(self, x):
        x = nn.relu(batch_norm("bn1")(conv(64, 7, "conv1", 2)(x)))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for stage, depth in enumerate(self.depths):
            for k in range(depth):
                stride = 2 if stage and not k else 1
                x = self.block(f"layer{stage + 1}/{k}", x, 64 * 2**stage, stride)
        return nn.Dense(CLASSES, name="fc")(x.mean((1, 2)))

    def block(self, at: str, x: Any, planes: int, stride: int) -> Any:
        if self.bottleneck:
            width, out = planes * self.base // 64 * self.groups, 4 * planes
            sizes = [(width, 1, 1, 1), (width, 3, stride, self.groups), (out, 1, 1, 1)]
        else:
            out, sizes = planes, [(planes, 3, stride, 1), (planes, 3, 1, 1)]
        h = x
        for k, (features, size, step, groups) in enumerate(sizes, 1):
            h = conv(features, size, f"{at}/conv{k}", step, groups)(nn.relu(h))
            h = batch_norm(f"{at}/bn{k}")(h)
        if stride > 1 or x.shape[-1] != out:
            x = conv(out, 1, f"{at}/downsample/0", stride)(x)
            x = batch_norm(f"{at}/downsample/1")(x)
        return nn.relu(x + h)


class Basic(nnx.Module):
    def __init__(self, n: int, features: int, stride: int, rngs: nnx.Rngs) -> None:
        def conv(n: int, features: int, size: int, stride: int) -> nnx.Conv:
            sizes: Any = {"kernel_size": (size, size), "strides": stride}
            return nnx.Conv(n, features, **sizes, use_bias=False, rngs=rngs)

        self.conv1 = conv(n, features, 3, stride)
        self.conv2 = conv(features, features, 3, 1)
        self.bn1, self.bn2 = (nnx.BatchNorm(features, rngs=rngs) for _ in range(2))
        self.downsample = nnx.List([])
        if n != features:
            norm = nnx.BatchNorm(features, rngs=rngs)
            self.downsample = nnx.List([conv(n, features, 1, stride), norm])

    def __call__(self, x):
        h = self.bn2(self.conv2(nnx.relu(self.bn1(self.conv1(x)))))
        for layer in self.downsample:
            x = layer(x)
        return nnx.relu(x + h)


class ResNetNNX(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(3, 64, (7, 7), 2, use_bias=False, rngs=rngs)
        self.bn1 = nnx.BatchNorm(64, rngs=rngs)
        sizes = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        self.layers = nnx.List([Basic(*each, rngs) for each in sizes])
        self.fc = nnx.Linear(512, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn1(self.conv1(x)))
        for layer in self.layers:
            x = layer(x)
        return self.fc(x.mean((1, 2)))


class MLP(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, x):
        h = nn.gelu(nn.Dense(self.hidden)(x))
        return nn.Dense(x.shape[-1])(h)


class Mixer(nn.Module):
    """Google's, and timm's of the same names but for the layers."""

    hidden: tuple[int, int]

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(WIDTH, (8, 8), 8, padding="VALID", name="stem")(x)
        x = x.reshape(len(x), -1, WIDTH)
        for k in range(2):
            at = f"MixerBlock_{k}"
            h = nn.LayerNorm(name=f"{at}/LayerNorm_0")(x).swapaxes(1, 2)
            h = MLP(self.hidden[0], name=f"{at}/token_mixing")(h)
            x = x + h.swapaxes(1, 2)
            h = nn.LayerNorm(name=f"{at}/LayerNorm_1")(x)
            x = x + MLP(self.hidden[1], name=f"{at}/channel_mixing")(h)
        x = nn.LayerNorm(name="pre_head_layer_norm")(x).mean(1)
        return nn.Dense(CLASSES, name="head")(x)


class ConvNeXt(nn.Module):
    """timm's, of widths and depths."""

    stages: tuple[tuple[int, int], ...]

    @nn.compact
    def __call__(self, x):
        for stage, (width, depth) in enumerate(self.stages):
            at = f"stages/{stage}"
            if stage:
                x = nn.LayerNorm(name=f"{at}/downsample/0")(x)
                x = nn.Conv(width, (2, 2), 2, name=f"{at}/downsample/1")(x)
            else:
                x = nn.Conv(width, (4, 4), 4, name="stem/0")(x)
                x = nn.LayerNorm(name="stem/1")(x)
            for k in range(depth):
                x = x + self.block(f"{at}/blocks/{k}", x)
        x = nn.LayerNorm(name="head/norm")(x.mean((1, 2)))
        return nn.Dense(CLASSES, name="head/fc")(x)

    def block(self, at: str, x: Any) -> Any:
        width = x.shape[-1]
        name = f"{at}/conv_dw"
        h = nn.Conv(width, (7, 7), feature_group_count=width, name=name)(x)
        h = nn.LayerNorm(name=f"{at}/norm")(h)
        h = nn.gelu(nn.Dense(4 * width, name=f"{at}/mlp/fc1")(h))
        h = nn.Dense(width, name=f"{at}/mlp/fc2")(h)
        gamma = self.param(f"{at}/gamma", nn.initializers.ones, (width,))
        return gamma[None, None, None] * h


class EfficientNet(nn.Module):
    """timm's of two blocks, torchvision's of three."""

    third: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.silu(batch_norm("bn1")(conv(32, 3, "conv_stem", 2)(x)))
        at = "blocks/0/0"
        h = nn.silu(batch_norm(f"{at}/bn1")(conv(32, 3, f"{at}/conv_dw", 1, 32)(x)))
        h = self.excited(f"{at}/se", h, 8)
        x = batch_norm(f"{at}/bn2")(conv(16, 1, f"{at}/conv_pw")(h))
        at = "blocks/1/0"
        h = nn.silu(batch_norm(f"{at}/bn1")(conv(96, 1, f"{at}/conv_pw")(x)))
        h = nn.silu(batch_norm(f"{at}/bn2")(conv(96, 5, f"{at}/conv_dw", 2, 96)(h)))
        h = self.excited(f"{at}/se", h, 4)
        x = batch_norm(f"{at}/bn3")(conv(24, 1, f"{at}/conv_pwl")(h))
        if self.third:
            at = "blocks/1/1"
            h = nn.silu(batch_norm(f"{at}/bn1")(conv(144, 1, f"{at}/conv_pw")(x)))
            h = conv(144, 5, f"{at}/conv_dw", 1, 144)(h)
            h = self.excited(f"{at}/se", nn.silu(batch_norm(f"{at}/bn2")(h)), 6)
            x = x + batch_norm(f"{at}/bn3")(conv(24, 1, f"{at}/conv_pwl")(h))
        out = 96 if self.third else 64
        x = nn.silu(batch_norm("bn2")(conv(out, 1, "conv_head")(x)))
        return nn.Dense(CLASSES, name="classifier")(x.mean((1, 2)))

    def excited(self, at: str, x: jax.Array, narrow: int) -> jax.Array:
        h = x.mean((1, 2), keepdims=True)
        h = nn.silu(nn.Conv(narrow, (1, 1), name=f"{at}/conv_reduce")(h))
        h = nn.Conv(x.shape[-1], (1, 1), name=f"{at}/conv_expand")(h)
        return x * nn.sigmoid(h)


STATISTICS = "(mean|var)$"  # buffers, not parameters, in PyTorch


def case(
    recipe: str,
    library: str,
    reference: str,
    model: Any,
    names: Any = (),
    by: Callable[[], Any] | None = None,
    by_name: bool = False,
    x: Any = IMAGES,
) -> Case:
    case = Case(recipe, library, reference, model, (x,), names, by, by_name)
    return case._replace(apart=STATISTICS)


def full() -> Any:
    """Branches at full strength, torchvision's default."""
    return rules.resnet([])


STAGES = [("layers/0", "layer1/0"), ("layers/1", "layer1/1"), ("layers/2", "layer2/0")]
STAGES += [("layers/3", "layer3/0"), ("layers/4", "layer4/0")]
TIMM_MIXER = [
    ("^stem", "stem/proj"),
    (r"MixerBlock_(\d)", r"blocks/\1"),
    ("LayerNorm_0", "norm1"),
    ("LayerNorm_1", "norm2"),
    ("token_mixing", "mlp_tokens"),
    ("channel_mixing", "mlp_channels"),
    ("Dense_0", "fc1"),
    ("Dense_1", "fc2"),
    ("pre_head_layer_norm", "norm"),
]


def small_scales() -> Any:
    return rules.convnext(["*gamma"])


TORCH_NEXT = [
    ("^stem", "features/0"),
    (r"^stages/0/blocks/(\d)", r"features/1/\1"),
    (r"^stages/1/downsample", "features/2"),
    (r"^stages/1/blocks/(\d)", r"features/3/\1"),
    ("gamma", "layer_scale"),
    ("/conv_dw", "/block/0"),
    ("(features.*)/norm", r"\1/block/2"),
    ("/mlp/fc1", "/block/3"),
    ("/mlp/fc2", "/block/5"),
    ("^head/norm", "classifier/0"),
    ("^head/fc", "classifier/2"),
]
TORCH_EFFICIENT = [
    ("^conv_stem", "features/0/0"),
    ("^bn1", "features/0/1"),
    ("^conv_head", "features/3/0"),
    ("^bn2", "features/3/1"),
    ("^classifier", "classifier/1"),
    ("^blocks/0/0/conv_dw", "features/1/0/block/0/0"),
    ("^blocks/0/0/bn1", "features/1/0/block/0/1"),
    ("^blocks/0/0/se", "features/1/0/block/1"),
    ("^blocks/0/0/conv_pw", "features/1/0/block/2/0"),
    ("^blocks/0/0/bn2", "features/1/0/block/2/1"),
    (r"^blocks/1/(\d)/conv_pw/", r"features/2/\1/block/0/0/"),
    (r"^blocks/1/(\d)/bn1", r"features/2/\1/block/0/1"),
    (r"^blocks/1/(\d)/conv_dw", r"features/2/\1/block/1/0"),
    (r"^blocks/1/(\d)/bn2", r"features/2/\1/block/1/1"),
    (r"^blocks/1/(\d)/se", r"features/2/\1/block/2"),
    (r"^blocks/1/(\d)/conv_pwl", r"features/2/\1/block/3/0"),
    (r"^blocks/1/(\d)/bn3", r"features/2/\1/block/3/1"),
    ("conv_reduce", "fc1"),
    ("conv_expand", "fc2"),
]


def of_torchvision() -> Any:
    return rules.efficientnet("torchvision")


TWO, FOUR = ((16, 2), (32, 1)), ((16, 2), (32, 1), (32, 1), (48, 1))
BASIC, ONCE = ResNet((2, 1, 1, 1)), (1, 1, 1, 1)
VISION = [
    case("resnet", "torchvision", "ResNet basic", BASIC, by=full, by_name=True),
    case("resnet", "torchvision", "ResNet basic", ResNetNNX, STAGES, full, True),
    case("resnet", "torchvision", "ResNet bottleneck", ResNet(ONCE, True)),
    case("resnet", "torchvision", "ResNeXt", ResNet(ONCE, True, 8, 4), by=full),
    case("mixer", "vit_jax", "MlpMixer", Mixer((24, 96))),
    case("mixer", "timm", "MlpMixer", Mixer((24, 192)), TIMM_MIXER),
    case("convnext", "timm", "ConvNeXt", ConvNeXt(FOUR), by=small_scales, by_name=True),
    case(
        "convnext", "torchvision", "ConvNeXt", ConvNeXt(TWO), TORCH_NEXT, small_scales
    ),
    case("efficientnet", "timm", "EfficientNet", EfficientNet()),
    case(
        *("efficientnet", "torchvision", "EfficientNet", EfficientNet(third=True)),
        *(TORCH_EFFICIENT, of_torchvision, True),
    ),
]
