# SPDX-License-Identifier: Apache-2.0
"""Recipes: the rules by which well-known models and libraries initialise.

A recipe is a sequence of rules for `init_tree`. It knows the names that Flax gives to
parameters (kernel, bias, scale, embedding, and the statistics mean and var); for any
other name put a rule of your own before it: `[("cls", zeros), *rules.vit("head")]`.
Pass `layers` (of `jaxinit.linen` or `jaxinit.nnx`) to `init_tree`, so that attention,
grouped, transposed and fused kernels are counted as their layers use them.

Example:
    >>> import jax, jaxinit
    >>> layer = {"kernel": jax.ShapeDtypeStruct((12, 5), "float32")}
    >>> (row,) = jaxinit.describe_tree(layer, jaxinit.rules.torch()).rows
    >>> round(row.std, 6)  # 1/√(3 · 12)
    0.166667
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from jaxinit import _checks as check
from jaxinit._constants import zeros
from jaxinit._distributions import normal, uniform_between
from jaxinit._orthogonal import orthogonal
from jaxinit._presets import glorot_uniform, lecun_normal
from jaxinit._recipes import kernel_of, parent, recipe
from jaxinit._rules import Param, Pattern, Rules, per_param
from jaxinit._torch import kaiming_normal, torch_linear, xavier_uniform
from jaxinit._truncated import truncated_normal
from jaxinit._variance_scaling import variance_scaling

__all__ = ["gpt2", "keras", "llama", "resnet", "spectral", "t5", "torch", "vit"]

Choice: TypeAlias = Callable[..., Any]  # an initializer


def torch() -> Rules:
    """PyTorch's defaults, so that a ported model starts as it did there.

    Linear and convolution: kernel and bias U(±1/√fan_in), standard deviation
    1/√(3 fan_in), where a transposed convolution counts out · window as PyTorch does.
    Attention: query, key and value as one fused Xavier-uniform kernel,
    U(±√(6/(fan_in + 3 fan_out))), biases zero. LSTM and GRU: U(±1/√hidden) for all.
    Embedding: N(0, 1). Normalisation: scale 1, bias 0.

    Example:
        >>> import jax, jaxinit
        >>> tree = {"embedding": jax.ShapeDtypeStruct((7, 4), "float32")}
        >>> (row,) = jaxinit.describe_tree(tree, jaxinit.rules.torch()).rows
        >>> round(row.std, 6)  # N(0, 1)
        1.0

    References:
        PyTorch 2, `reset_parameters` of torch.nn.Linear, _ConvNd, MultiheadAttention,
            RNNBase and Embedding.
    """

    def kernel(param: Param) -> Choice:
        bound = _torch_bound(param)
        if bound is None:
            return torch_linear()
        return uniform_between(-bound, bound)

    def bias(param: Param) -> Choice:
        if "kernel" not in param.siblings or _attention(param):
            return zeros
        bound = _torch_bound(param)
        if bound is None:
            layer, shape = kernel_of(param)
            bound = 1 / math.sqrt(layer.fans.fan_in(shape))
        return uniform_between(-bound, bound)

    return recipe("torch", kernel=kernel, bias=bias, embedding=normal(1.0))


def _torch_bound(param: Param) -> float | None:
    """PyTorch's bound where it is not 1/√fan_in of the layer."""
    layer, shape = kernel_of(param)
    fan_in, fan_out = layer.fans(shape)
    if layer.parts > 1 or parent(param) in LSTM_GATES:
        return 1 / math.sqrt(shape[-1])
    if layer.fans.name == "Fans.conv_transpose":
        return 1 / math.sqrt(fan_out)
    if _attention(param) and parent(param) != "out":
        return math.sqrt(6 / (fan_in + 3 * fan_out))
    return None


LSTM_GATES = ("ii", "if", "ig", "io", "hi", "hf", "hg", "ho")  # of Linen's cells


def _attention(param: Param) -> bool:
    """Whether a kernel or bias is of Flax's attention, whose kernels have heads."""
    layer, shape = kernel_of(param)
    return (
        parent(param) in ("query", "key", "value", "out")
        and layer.fans.name == "Fans.axes"
        and len(shape) == 3
    )


def keras() -> Rules:
    """Keras's defaults.

    Kernels are Glorot-uniform, standard deviation √(2/(fan_in + fan_out)); the
    recurrent kernels of LSTM and GRU are orthogonal, gate by gate; embeddings
    U(±0.05), standard deviation 0.0289; biases 0, scales 1.

    Example:
        >>> import jax, jaxinit
        >>> tree = {"kernel": jax.ShapeDtypeStruct((30, 20), "float32")}
        >>> (row,) = jaxinit.describe_tree(tree, jaxinit.rules.keras()).rows
        >>> round(row.std, 6)  # √(2 / (30 + 20))
        0.2

    References:
        Keras 3, `kernel_initializer`, `recurrent_initializer` and
            `embeddings_initializer` of its layers.
    """

    def kernel(param: Param) -> Choice:
        recurrent = parent(param) in (*LSTM_GATES[4:], "dense_h")
        return orthogonal() if recurrent else glorot_uniform()

    return recipe("keras", kernel=kernel, embedding=uniform_between(-0.05, 0.05))


def gpt2(layers: int, residual: Sequence[Pattern], std: float = 0.02) -> Rules:
    """GPT-2: normals of one standard deviation, smaller where a branch ends.

    Kernels and embeddings N(0, std²); the kernels that write into the residual stream
    N(0, std²/(2 · layers)), for a block adds twice; biases 0, scales 1. For 12 layers
    the standard deviations are 0.02 and 0.00408.

    Args:
        layers: the number of blocks.
        residual: patterns of the kernels at the ends of branches, such as
            ["attention/out/kernel", "mlp/down/kernel"].
        std: the standard deviation of the others.

    Example:
        >>> import jax, jaxinit
        >>> kernel = {"kernel": jax.ShapeDtypeStruct((8, 8), "float32")}
        >>> rules = jaxinit.rules.gpt2(12, ["out/kernel"])
        >>> table = jaxinit.describe_tree({"out": kernel, "up": kernel}, rules)
        >>> [round(row.std, 6) for row in table.rows]
        [0.004082, 0.02]

    References:
        A. Radford et al., "Language models are unsupervised multitask learners", 2019,
            section 2.3.
    """
    layers = check.integer("layers", layers, low=1)
    last = normal(std / math.sqrt(2 * layers))
    return [
        *((pattern, last) for pattern in residual),
        *recipe("gpt2", kernel=normal(std), embedding=normal(std)),
    ]


def llama(
    layers: int, residual: Sequence[Pattern], head: Sequence[Pattern], std: float = 0.02
) -> Rules:
    """LLaMA-style: as GPT-2, truncated at three deviations, and the head by its width.

    Kernels and embeddings std; the ends of branches std/√(2 · layers); the head
    1/√fan_in; scales 1, biases 0. The deviations are of the normal before truncation at
    ±3, which takes 1.3 % off.

    Args:
        layers: the number of blocks.
        residual: patterns of the kernels at the ends of branches.
        head: patterns of the output projection; empty where it is tied.
        std: the standard deviation of the others.

    Example:
        >>> import jax, jaxinit
        >>> kernel = {"kernel": jax.ShapeDtypeStruct((8, 8), "float32")}
        >>> rules = jaxinit.rules.llama(8, ["out/kernel"], head=[])
        >>> table = jaxinit.describe_tree({"out": kernel, "up": kernel}, rules)
        >>> [round(row.std, 6) for row in table.rows]
        [0.004933, 0.019732]

    References:
        D. Groeneveld et al., "OLMo: accelerating the science of language models",
            2024, arXiv:2402.00838 (the initialisation "full_megatron" of its code).
        H. Touvron et al., "LLaMA", 2023, arXiv:2302.13971.
    """
    layers = check.integer("layers", layers, low=1)

    def truncated(std: float) -> Choice:
        return truncated_normal(std, lower=-3.0, upper=3.0)

    def by_width(param: Param) -> Choice:
        layer, shape = kernel_of(param)
        return truncated(1 / math.sqrt(layer.fans.fan_in(shape)))

    last = truncated(std / math.sqrt(2 * layers))
    return [
        *((pattern, per_param(by_width)) for pattern in head),
        *((pattern, last) for pattern in residual),
        *recipe("llama", kernel=truncated(std), embedding=truncated(std)),
    ]


def t5() -> Rules:
    """T5: every product of unit variance, with no 1/√d in the attention's logits.

    Kernels N(0, 1/fan_in); queries N(0, 1/(fan_in · d_kv)), d_kv the size of a head,
    so that query · key has unit variance; embeddings N(0, 1); scales 1, biases 0.

    Example:
        >>> import jax, jaxinit
        >>> tree = {"kernel": jax.ShapeDtypeStruct((64, 32), "float32")}
        >>> (row,) = jaxinit.describe_tree(tree, jaxinit.rules.t5()).rows
        >>> round(row.std, 6)  # 1 / √64
        0.125

    References:
        C. Raffel et al., "Exploring the limits of transfer learning with a unified
            text-to-text transformer", 2020, arXiv:1910.10683; N. Shazeer et al.,
            Mesh-TensorFlow, `attention.py`.
    """

    def kernel(param: Param) -> Choice:
        if parent(param) != "query":
            return variance_scaling(1.0, "fan_in", "normal")
        return variance_scaling(1 / param.shape[-1], "fan_in", "normal")

    return recipe("t5", kernel=kernel, embedding=normal(1.0))


def vit(head: Sequence[Pattern]) -> Rules:
    """ViT: Xavier-uniform kernels, a patch convolution by fan_in, a silent head.

    Dense and attention kernels U(±√(6/(fan_in + fan_out))); the patch convolution
    LeCun-normal, 1/√fan_in; the head zero; biases N(0, 10⁻¹²); scales 1. The position
    embedding, N(0, 0.02²), and the class token, 0, have no common names: give them
    rules of your own.

    Args:
        head: patterns of the head's kernel.

    Example:
        >>> import jax, jaxinit
        >>> kernel = {"kernel": jax.ShapeDtypeStruct((4, 4), "float32")}
        >>> rules = jaxinit.rules.vit(["head/kernel"])
        >>> table = jaxinit.describe_tree({"head": kernel, "up": kernel}, rules)
        >>> [row.std for row in table.rows]
        [0.0, 0.5]

    References:
        A. Dosovitskiy et al., "An image is worth 16x16 words", 2021, arXiv:2010.11929;
            its code, `models_vit.py`.
    """

    def kernel(param: Param) -> Choice:
        return lecun_normal() if len(kernel_of(param)[1]) == 4 else xavier_uniform()

    return [
        *((pattern, zeros) for pattern in head),
        *recipe("vit", kernel=kernel, bias=normal(1e-6), embedding=normal(0.02)),
    ]


def resnet(last: Sequence[Pattern]) -> Rules:
    """ResNet: He-normal by fan_out, and residual branches that begin as zero.

    Convolutions N(0, 2/fan_out); the head PyTorch's U(±1/√fan_in); the last scale of
    each branch 0, the others 1; biases 0.

    Args:
        last: patterns of the last normalisation's scale in each branch, such as
            ["block*/norm3/scale"].

    Example:
        >>> import jax, jaxinit
        >>> tree = {"kernel": jax.ShapeDtypeStruct((3, 3, 8, 32), "float32")}
        >>> (row,) = jaxinit.describe_tree(tree, jaxinit.rules.resnet([])).rows
        >>> round(row.std, 6)  # √(2 / (9 · 32))
        0.083333

    References:
        K. He et al., "Delving deep into rectifiers", 2015, arXiv:1502.01852.
        P. Goyal et al., "Accurate, large minibatch SGD", 2017, arXiv:1706.02677,
            section 5.1 (the zero scale).
    """

    def kernel(param: Param) -> Choice:
        if len(kernel_of(param)[1]) == 2:
            return torch_linear()
        return kaiming_normal("fan_out", "relu")

    return [*((pattern, zeros) for pattern in last), *recipe("resnet", kernel=kernel)]


def spectral(scale: float = 1.0) -> Rules:
    """The spectral condition, which is muP without base shapes.

    A layer learns features at any width if ‖W‖₂ is of the order √(fan_out/fan_in). A
    Gaussian kernel has it with standard deviation
    scale · min(1, √(fan_out/fan_in)) / √fan_in; an embedding, whose fan_in is 1, with
    scale. Biases 0, scales 1. (muP prescribes learning rates too.)

    Args:
        scale: a factor for all.

    Example:
        >>> import jax, jaxinit
        >>> tree = {"kernel": jax.ShapeDtypeStruct((64, 16), "float32")}
        >>> (row,) = jaxinit.describe_tree(tree, jaxinit.rules.spectral()).rows
        >>> round(row.std, 6)  # √(16 / 64) / √64
        0.0625

    References:
        G. Yang, J. B. Simon, J. Bernstein, "A spectral condition for feature learning",
            2023, arXiv:2310.17813, section 4; G. Yang et al., "Tensor programs V",
            2022, arXiv:2203.03466.
    """
    scale = check.number("scale", scale)

    def kernel(param: Param) -> Choice:
        layer, shape = kernel_of(param)
        fan_in, fan_out = layer.fans(shape)
        return normal(scale * min(1.0, math.sqrt(fan_out / fan_in)) / math.sqrt(fan_in))

    return recipe("spectral", kernel=kernel, embedding=normal(scale))
