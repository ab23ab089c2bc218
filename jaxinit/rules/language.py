# SPDX-License-Identifier: Apache-2.0
"""How well-known language models are initialised, as rules.

With `layers=jaxinit.read(model, ...)` none of them needs a name: the kernels that end
residual branches, how many there are, the head and the tables are read.
"""

import math
from collections.abc import Callable, Sequence

from jaxinit.core import checks as check
from jaxinit.families import normal, truncated_normal
from jaxinit.rules.places import (
    additions,
    gives_output,
    kernel_beside,
    stream_width,
)
from jaxinit.rules.recipe import Choice, recipe
from jaxinit.trees import Line, Param, Pattern, Rules, per_param

__all__ = ["bert", "gpt2", "llama", "mistral", "small_init", "whisper"]

Patterns = Sequence[Pattern]


def gpt2(
    layers: int | None = None, residual: Patterns | None = None, std: float = 0.02
) -> Rules:
    """GPT-2: normals of one standard deviation, smaller where a branch ends.

    Kernels, embeddings and positions N(0, std²); the kernels that write into the
    residual stream N(0, std²/branches), of which a block has two; biases 0, scales 1.
    For 12 layers the standard deviations are 0.02 and 0.00408.

    Args:
        layers: the number of blocks; by default, half of the branches that are read.
        residual: patterns of the kernels at the ends of branches, such as
            ["attention/out/kernel", "mlp/down/kernel"]; by default, those that are
            read.
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
            section 2.3; as `GPT2PreTrainedModel` of transformers has it.
    """

    def last(param: Param, branches: int) -> Choice:
        return normal(std / math.sqrt(branches))

    return _by_branches("gpt2", layers, residual, lambda param: normal(std), last)


def bert(std: float = 0.02) -> Rules:
    """BERT: one normal for all kernels and tables.

    Kernels, embeddings and positions N(0, std²), biases 0, scales 1, at any depth.

    Args:
        std: the standard deviation.

    Example:
        >>> import jax, jaxinit
        >>> kernel = {"kernel": jax.ShapeDtypeStruct((8, 8), "float32")}
        >>> jaxinit.describe_tree(kernel, jaxinit.rules.bert()).rows[0].std
        0.02

    References:
        J. Devlin et al., "BERT", 2019, arXiv:1810.04805; as `BertPreTrainedModel` of
            transformers has it. (The authors' own code truncates at ±2 deviations.)
    """
    return _plain("bert", std)


def mistral(std: float = 0.02) -> Rules:
    """Mistral, Qwen and Llama as transformers trains them: one normal for all.

    Kernels, the head and embeddings N(0, std²), biases 0, scales 1, at any depth.

    Args:
        std: the standard deviation, `initializer_range` there.

    Example:
        >>> import jax, jaxinit
        >>> kernel = {"kernel": jax.ShapeDtypeStruct((8, 8), "float32")}
        >>> jaxinit.describe_tree(kernel, jaxinit.rules.mistral()).rows[0].std
        0.02

    References:
        A. Q. Jiang et al., "Mistral 7B", 2023, arXiv:2310.06825; `PreTrainedModel` of
            transformers.
    """
    return _plain("mistral", std)


def whisper(std: float = 0.02) -> Rules:
    """Whisper: one normal for all kernels, convolutions too, and tables.

    Kernels, embeddings and the decoder's positions N(0, std²), biases 0, scales 1. The
    encoder's positions are sinusoids, and no parameters.

    Args:
        std: the standard deviation, `init_std` there.

    Example:
        >>> import jax, jaxinit
        >>> kernel = {"kernel": jax.ShapeDtypeStruct((3, 8, 8), "float32")}
        >>> jaxinit.describe_tree(kernel, jaxinit.rules.whisper()).rows[0].std
        0.02

    References:
        A. Radford et al., "Robust speech recognition via large-scale weak supervision",
            2022, arXiv:2212.04356; as `WhisperPreTrainedModel` of transformers has it.
    """
    return _plain("whisper", std)


def small_init(
    layers: int | None = None,
    residual: Patterns | None = None,
    width: int | None = None,
) -> Rules:
    """Small init and Wang init: GPT-NeoX's normals, by the width and by the depth.

    Kernels and embeddings N(0, 2/(5d)), which is Xavier's law of a layer from d to 4d
    for all; the kernels that write into the residual stream have standard deviation
    2/(L√d), smaller than GPT-2's by √L, so that L branches add a variance of the order
    1/L in all. Biases 0, scales 1. For d = 512 and L = 12 the standard deviations are
    0.02795 and 0.00737.

    Args:
        layers: the number L of blocks; by default, half of the branches that are read.
        residual: patterns of the kernels at the ends of branches; by default, those
            that are read.
        width: the width d of the residual stream; by default, the outputs of the
            kernels that are read to end its branches.

    Example:
        >>> import jax, jaxinit
        >>> kernel = {"kernel": jax.ShapeDtypeStruct((40, 40), "float32")}
        >>> rules = jaxinit.rules.small_init(10, ["out/kernel"], 40)
        >>> table = jaxinit.describe_tree({"out": kernel, "up": kernel}, rules)
        >>> [round(row.std, 6) for row in table.rows]
        [0.031623, 0.1]

    References:
        T. Q. Nguyen, J. Salazar, "Transformers without tears", 2019, arXiv:1910.05895,
            section 2.2; S. Black et al., "GPT-NeoX-20B", 2022, arXiv:2204.06745,
            "Initialization".
    """
    if width is not None:
        width = check.integer("width", width, low=1)

    def wide(param: Param) -> int:
        return width or stream_width("small_init", param)

    def inner(param: Param) -> Choice:
        return normal(math.sqrt(2 / (5 * wide(param))))

    def last(param: Param, branches: int) -> Choice:
        blocks = branches / 2
        return normal(2 / (blocks * math.sqrt(wide(param))))

    return _by_branches("small_init", layers, residual, inner, last)


def llama(
    layers: int | None = None,
    residual: Patterns | None = None,
    head: Patterns | None = None,
    std: float = 0.02,
) -> Rules:
    """LLaMA-style: as GPT-2, truncated at three deviations, and the head by its width.

    Kernels and embeddings std; the ends of branches std/√branches, of which a block has
    two; the head 1/√fan_in; scales 1, biases 0. The deviations are of the normal before
    truncation at ±3, which takes 1.3 % off. (LLaMA's own code leaves its kernels to the
    caller; for transformers' see `mistral`.)

    Args:
        layers: the number of blocks; by default, half of the branches that are read.
        residual: patterns of the kernels at the ends of branches; by default, those
            that are read.
        head: patterns of the output projection, empty where it is tied; by default,
            the kernel that is read to give the output.
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

    def cut_at_three(std: float) -> Choice:
        return truncated_normal(std, lower=-3.0, upper=3.0)

    def inner(param: Param) -> Choice:
        return cut_at_three(std)

    def last(param: Param, branches: int) -> Choice:
        return cut_at_three(std / math.sqrt(branches))

    def by_width(param: Param) -> Choice:
        kernel = kernel_beside(param)
        fan_in = kernel.fans[0] if kernel is not None else param.shape[-2]
        return cut_at_three(1 / math.sqrt(fan_in))

    def of_head(param: Param) -> Line | None:
        gives = gives_output("llama", kernel_beside(param), head)
        return Line(by_width(param), "head") if gives else None

    return [
        *((pattern, per_param(by_width)) for pattern in head or ()),
        *_by_branches("llama", layers, residual, inner, last, of_head),
    ]


# --- helpers --------------------------------------------------------------------------


def _plain(who: str, std: float) -> Rules:
    same = normal(std)
    return recipe(who, kernel=same, embedding=same, token=same)


def _by_branches(
    who: str,
    layers: int | None,
    residual: Patterns | None,
    inner: Callable[[Param], Choice],
    last: Callable[[Param, int], Choice],
    head: Callable[[Param], Line | None] = lambda param: None,
) -> Rules:
    """`last` of the number of branches for the kernels that end one."""
    if layers is not None:
        layers = check.integer("layers", layers, low=1)

    def kernel(param: Param) -> Choice:
        if (of_head := head(param)) is not None:
            return of_head
        if residual is not None:
            return inner(param)
        branches = additions(who, param, None)  # which are read
        here = kernel_beside(param)
        ends = here is not None and here.known is not None and here.known.branch
        return end(param, 2 * layers if layers else branches) if ends else inner(param)

    def end(param: Param, count: int) -> Line:
        return Line(last(param, count), f"ends 1 of {count} branches")

    def by_pattern(param: Param) -> Line:
        line = end(param, additions(who, param, layers))
        return line._replace(words=f"{who}: {line.words}")

    return [
        *((pattern, per_param(by_pattern)) for pattern in residual or ()),
        *recipe(who, kernel=kernel, embedding=inner, token=inner),
    ]
