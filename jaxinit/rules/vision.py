# SPDX-License-Identifier: Apache-2.0
"""How well-known models of vision are initialised, as rules."""

import math
from collections.abc import Sequence

from jaxinit.core import checks as check
from jaxinit.families import (
    constant,
    lecun_normal,
    normal,
    ones,
    torch_linear,
    trunc_normal,
    uniform_between,
    variance_scaling,
    zeros,
)
from jaxinit.rules.places import additions, gives_output, kernel_beside, output_norm
from jaxinit.rules.recipe import Choice, recipe
from jaxinit.trees import Line, Param, Pattern, Rules

__all__ = [
    "by_outputs",
    "convnext",
    "dcgan",
    "efficientnet",
    "head_bias",
    "mixer",
    "resnet",
]

Patterns = Sequence[Pattern]


def resnet(last: Patterns | None = None) -> Rules:
    """ResNet: He-normal by fan_out, and residual branches that begin as zero.

    Convolutions N(0, 2/fan_out), where fan_out is out · window, whatever the stride and
    the groups; the head's kernel and bias PyTorch's U(±1/√fan_in); the last scale of
    each branch 0, the others 1; other biases 0.

    Args:
        last: patterns of the last normalisation's scale in each branch, such as
            ["block*/norm3/scale"], empty for branches that begin at full strength (as
            torchvision's do unless `zero_init_residual`); by default, those that are
            read to follow the last kernel.

    Example:
        >>> import jax, jaxinit
        >>> tree = {"kernel": jax.ShapeDtypeStruct((3, 3, 8, 32), "float32")}
        >>> (row,) = jaxinit.describe_tree(tree, jaxinit.rules.resnet([])).rows
        >>> round(row.std, 6)  # √(2 / (9 · 32))
        0.083333

    References:
        K. He et al., "Delving deep into rectifiers", 2015, arXiv:1502.01852; as
            torchvision's `resnet.py` has it.
        P. Goyal et al., "Accurate, large minibatch SGD", 2017, arXiv:1706.02677,
            section 5.1 (the zero scale).
    """

    def scale(param: Param) -> Choice:
        if last is not None:
            return ones
        additions("resnet", param, None)  # the branches are known
        return zeros if output_norm(param) else ones

    return [
        *((pattern, zeros) for pattern in last or ()),
        *recipe("resnet", kernel=by_outputs, bias=head_bias, scale=scale),
    ]


def by_outputs(param: Param) -> Choice:
    """He's law of torchvision's convolutions, PyTorch's of its head."""
    here = kernel_beside(param)
    if here is None or not here.is_conv:
        return torch_linear()
    _, n_out, window = here.axes
    return normal(math.sqrt(2 / (n_out * window)))


def head_bias(param: Param) -> Choice:
    """The bias of a dense layer of PyTorch; 0 for that of a convolution."""
    beside = kernel_beside(param)
    if beside is None or beside.is_conv:
        return zeros
    bound = 1 / math.sqrt(beside.fans[0])
    return uniform_between(-bound, bound)


def mixer(head: Patterns | None = None) -> Rules:
    """MLP-Mixer: Flax's own LeCun-normal kernels, and a silent head.

    Kernels, the patches' too, LeCun-normal with standard deviation 1/√fan_in; the head
    zero; biases 0, scales 1.

    Args:
        head: patterns of the head's kernel; by default, the kernel that is read to give
            the output.

    Example:
        >>> import jax, jaxinit
        >>> kernel = {"kernel": jax.ShapeDtypeStruct((4, 4), "float32")}
        >>> rules = jaxinit.rules.mixer(["head/kernel"])
        >>> table = jaxinit.describe_tree({"head": kernel, "up": kernel}, rules)
        >>> [round(row.std, 9) for row in table.rows]
        [0.0, 0.5]

    References:
        I. Tolstikhin et al., "MLP-Mixer: an all-MLP architecture for vision", 2021,
            arXiv:2105.01601; its code, `models_mixer.py`.
    """

    def kernel(param: Param) -> Choice:
        silent = gives_output("mixer", kernel_beside(param), head)
        return Line(zeros, "head") if silent else lecun_normal()

    return [
        *((pattern, zeros) for pattern in head or ()),
        *recipe("mixer", kernel=kernel),
    ]


def convnext(scales: Patterns) -> Rules:
    """ConvNeXt: one small normal for all kernels, and branches that begin near zero.

    Convolutions and dense kernels N(0, 0.02²) (PyTorch's truncation at ±2 is a hundred
    deviations away), the layer scales 10⁻⁶, biases 0, normalisation 1.

    Args:
        scales: patterns of the layer scales γ that multiply the branches.

    Example:
        >>> import jax, jaxinit
        >>> block = {
        ...     "gamma": jax.ShapeDtypeStruct((8,), "float32"),
        ...     "kernel": jax.ShapeDtypeStruct((7, 7, 1, 8), "float32"),
        ... }
        >>> rows = jaxinit.describe_tree(block, jaxinit.rules.convnext(["gamma"])).rows
        >>> [round(row.std, 6) for row in rows]
        [0.0, 0.02]

    References:
        Z. Liu et al., "A ConvNet for the 2020s", 2022, arXiv:2201.03545, appendix A;
            its code, `convnext.py`.
    """
    return [
        *((pattern, constant(1e-6)) for pattern in scales),
        *recipe("convnext", kernel=trunc_normal(std=0.02)),
    ]


def dcgan(std: float = 0.02) -> Rules:
    """DCGAN: one normal for all kernels, and one around 1 for the scales.

    Kernels of generator and discriminator N(0, std²), scales of their normalisation
    N(1, std²), biases 0.

    Args:
        std: the standard deviation.

    Example:
        >>> import jax, jaxinit
        >>> tree = {"scale": jax.ShapeDtypeStruct((8,), "float32")}
        >>> (row,) = jaxinit.describe_tree(tree, jaxinit.rules.dcgan()).rows
        >>> row.initializer
        'normal(0.02, mean=1.0)'

    References:
        A. Radford, L. Metz, S. Chintala, "Unsupervised representation learning with
            deep convolutional generative adversarial networks", 2015, arXiv:1511.06434,
            section 4; as PyTorch's example has it (the scales).
    """
    return recipe("dcgan", kernel=normal(std), scale=normal(std, mean=1.0))


def efficientnet(code: str = "google") -> Rules:
    """EfficientNet: normals by the outputs of a window, whatever the stride.

    Convolutions N(0, 2/(window · out/groups)), a depthwise one N(0, 2/window), in
    torchvision's code N(0, 2/(window · out)) whatever the groups; dense kernels
    U(±1/√out), standard deviation 1/√(3 out); biases 0, scales 1. (The fan_out of
    `Fans.conv` counts a stride as well.)

    Args:
        code: "google", which is timm's too, or "torchvision".

    Raises:
        ValueError: for another code.

    Example:
        >>> import jax, jaxinit
        >>> tree = {"kernel": jax.ShapeDtypeStruct((3, 3, 8, 32), "float32")}
        >>> (row,) = jaxinit.describe_tree(tree, jaxinit.rules.efficientnet()).rows
        >>> round(row.std, 6)  # √(2 / (9 · 32))
        0.083333

    References:
        M. Tan, Q. V. Le, "EfficientNet: rethinking model scaling for convolutional
            neural networks", 2019, arXiv:1905.11946; its code, `efficientnet_model.py`.
    """

    code = check.choice("code", code, ("google", "torchvision"))

    def kernel(param: Param) -> Choice:
        here = kernel_beside(param)
        if here is None or not here.is_conv:
            return variance_scaling(1 / 3, "fan_out", "uniform")
        _, n_out, window = here.axes
        counted = here.known if code == "google" else None
        groups = 1 if counted is None else counted.groups
        return normal(math.sqrt(2 * groups / (n_out * window)))

    return recipe("efficientnet", kernel=kernel)
