# SPDX-License-Identifier: Apache-2.0
"""Vision transformers, as the public codes initialise them: Google's, torchvision's,
timm's."""

import math
from collections.abc import Sequence

from jaxinit.core import checks as check
from jaxinit.families import (
    lecun_normal,
    normal,
    torch_linear,
    trunc_normal,
    uniform_between,
    xavier_uniform,
    zeros,
)
from jaxinit.rules.places import Kernel, gives_output, kernel_beside
from jaxinit.rules.recipe import Choice, is_named, recipe
from jaxinit.trees import Line, Param, Pattern, Rules

__all__ = ["timm", "vit"]

Patterns = Sequence[Pattern]
TINY = normal(1e-6)


def vit(head: Patterns | None = None, code: str = "google") -> Rules:
    """ViT: Xavier-uniform kernels, a patch convolution by fan_in, a silent head.

    Dense and attention kernels U(±√(6/(fan_in + fan_out))), query, key and value each;
    the patch convolution LeCun-normal, truncated at ±2 deviations, 1/√fan_in; the head
    zero; biases of the MLPs N(0, 10⁻¹²), others 0; scales 1. By the reading of
    `layers=jaxinit.read(...)`, position embeddings N(0, 0.02²) and the class token 0.
    Others differ:

        torchvision   query, key and value are one Xavier-uniform kernel, √2 smaller,
                      the kernel behind them U(±1/√fan_in), the patches not truncated
        timm          one kernel too, the class token N(0, 10⁻¹²) (weight_init="jax";
                      for timm's default see `timm`)

    Args:
        head: patterns of the head's kernel; by default, the kernel that is read to give
            the output.
        code: "google", "torchvision" or "timm".

    Raises:
        ValueError: for another code.

    Example:
        >>> import jax, jaxinit
        >>> kernel = {"kernel": jax.ShapeDtypeStruct((4, 4), "float32")}
        >>> rules = jaxinit.rules.vit(["head/kernel"])
        >>> table = jaxinit.describe_tree({"head": kernel, "up": kernel}, rules)
        >>> [round(row.std, 9) for row in table.rows]
        [0.0, 0.5]

    References:
        A. Dosovitskiy et al., "An image is worth 16x16 words", 2021, arXiv:2010.11929;
            its code, `models_vit.py`; `vision_transformer.py` of torchvision and timm.
    """
    code = check.choice("code", code, ("google", "torchvision", "timm"))

    def kernel(param: Param) -> Choice:
        here = kernel_beside(param)
        silent = gives_output("vit", here, head)
        if here is None or here.is_conv:
            if here is None or code != "torchvision":
                return lecun_normal()
            return normal(1 / math.sqrt(here.fans[0]))
        if silent:
            return Line(zeros, "head")
        if code != "google" and here.path in here.attention:
            return Line(_fused_qkv(here), "query, key or value")
        behind = code == "torchvision" and here.attention
        return torch_linear() if behind else xavier_uniform()

    def bias(param: Param) -> Choice:
        beside = kernel_beside(param)
        if beside is None or not beside.is_mlp or beside.is_head:
            return zeros
        silent = is_named(head or (), beside.path, param)
        return zeros if silent else Line(TINY, "bias of an MLP")

    def token(param: Param) -> Choice:
        if not _is_joined(param):
            return normal(0.02)
        return TINY if code == "timm" else zeros

    return [
        *((pattern, zeros) for pattern in head or ()),
        *recipe("vit", kernel=kernel, bias=bias, embedding=normal(0.02), token=token),
    ]


def timm(std: float = 0.02) -> Rules:
    """timm's vision transformers, and torchvision's Swin: one truncated normal.

    Dense kernels, the head's too, position embeddings and tables of relative positions
    N(0, std²) (PyTorch's truncation at ±2 is a hundred deviations away), the patch
    convolution and its bias PyTorch's U(±1/√fan_in), other biases 0, scales 1; by the
    reading of `layers=jaxinit.read(...)`, the class token N(0, 10⁻¹²).

    Args:
        std: the standard deviation.

    Example:
        >>> import jax, jaxinit
        >>> tree = {"kernel": jax.ShapeDtypeStruct((8, 8), "float32")}
        >>> (row,) = jaxinit.describe_tree(tree, jaxinit.rules.timm()).rows
        >>> round(row.std, 6)
        0.02

    References:
        R. Wightman, "PyTorch image models", `vision_transformer.py`; Z. Liu et al.,
            "Swin transformer", 2021, arXiv:2103.14030, as torchvision has it.
    """
    cut = trunc_normal(std=std)

    def kernel(param: Param) -> Choice:
        here = kernel_beside(param)
        return torch_linear() if here is not None and here.is_conv else cut

    def bias(param: Param) -> Choice:
        beside = kernel_beside(param)
        if beside is None or not beside.is_conv:
            return zeros
        bound = 1 / math.sqrt(beside.fans[0])
        return uniform_between(-bound, bound)

    def token(param: Param) -> Choice:
        return TINY if _is_joined(param) else cut

    return recipe("timm", kernel=kernel, bias=bias, embedding=cut, token=token)


# --- helpers --------------------------------------------------------------------------


def _fused_qkv(kernel: Kernel) -> Choice:
    """Xavier's law of query, key and value in one kernel."""
    n_in, n_out, _ = kernel.axes
    bound = math.sqrt(6 / (n_in + (3 if len(kernel.attention) == 3 else 1) * n_out))
    return uniform_between(-bound, bound)


def _is_joined(param: Param) -> bool:
    """Whether a token is joined to the data, and not added to it."""
    return param.layers[param.name].primitive == "concatenate"
