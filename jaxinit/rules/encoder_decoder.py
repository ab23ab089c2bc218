# SPDX-License-Identifier: Apache-2.0
"""Rules by depth for transformers, an encoder and a decoder: T-Fixup and DeepNorm."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxinit.core import checks as check
from jaxinit.families import (
    normal,
    scaled,
    torch_linear,
    uniform_between,
    xavier_normal,
    xavier_uniform,
    zeros,
)
from jaxinit.rules.places import KEY, QUERY, VALUE, kernel_beside
from jaxinit.rules.recipe import Choice, is_named, recipe
from jaxinit.trees import Line, Param, Pattern, Rules, per_param

__all__ = ["DeepNorm", "deepnorm", "deepnorm_scales", "t_fixup"]

Patterns = Sequence[Pattern]


def t_fixup(
    encoder_layers: int,
    decoder_layers: int,
    encoder: Patterns,
    decoder: Patterns,
    sources: Patterns = (),
) -> Rules:
    """T-Fixup: transformers without normalisation or warm-up.

    Xavier-uniform kernels, standard deviation √(2/(fan_in + fan_out)), of which those
    that `encoder` and `decoder` name (value, output and both MLP kernels) are times

        0.67 N^(-1/4) in an encoder of N layers, (9M)^(-1/4) in a decoder of M layers,

    and queries and keys, told by their names (query, q_proj, ...), times 1/√2.
    Embeddings have 1/√features · (9M)^(-1/4), with N for M in the encoder; the head,
    where `layers=jaxinit.read(...)` tells it, 1/√fan_in; the biases of query, key and
    value U(±1/√fan_in), others 0, as in the authors' code. For N = M = 6 the factors
    are 0.428 and 0.369. A step of the optimiser then changes the output by an amount
    that does not grow with the layers.

    Args:
        encoder_layers: the number N of layers in the encoder; 0 without one.
        decoder_layers: the number M of layers in the decoder; 0 without one.
        encoder: patterns of the value, output and MLP kernels of the encoder.
        decoder: patterns of those of the decoder, both of its attentions.
        sources: patterns of the encoder's embedding, or of the shared one, where there
            is a decoder too.

    Raises:
        ValueError: for no layers at all, or for patterns of a stack without layers.

    Example:
        >>> import jax, jaxinit
        >>> kernel = {"kernel": jax.ShapeDtypeStruct((64, 64), "float32")}
        >>> rules = jaxinit.rules.t_fixup(0, 9, [], ["value/kernel"])
        >>> table = jaxinit.describe_tree({"up": kernel, "value": kernel}, rules)
        >>> [round(row.std, 6) for row in table.rows]  # 1 / √64, and a third of it
        [0.125, 0.041667]

    References:
        X. S. Huang, F. Perez, J. Ba, M. Volkovs, "Improving transformer optimization
            through better initialization", ICML 2020, and its code.
    """
    n, m = _stacks(encoder_layers, decoder_layers, encoder, decoder)

    def kernel(param: Param) -> Choice:
        here = kernel_beside(param)
        if here is not None and here.is_head:
            return Line(normal(1 / math.sqrt(here.fans[0])), "head")
        if here is not None and here.label in (*QUERY, *KEY):
            return Line(xavier_uniform(1 / math.sqrt(2)), "query or key")
        return xavier_uniform()

    def bias(param: Param) -> Choice:
        beside = kernel_beside(param)
        if beside is None or beside.label not in (*QUERY, *KEY, *VALUE):
            return zeros
        bound = 1 / math.sqrt(beside.axes[0])
        return uniform_between(-bound, bound)

    def embedding(layers: int) -> Callable[[Param], Choice]:
        return lambda param: _by_features(param, (9 * layers) ** (-1 / 4))

    return [
        *((pattern, xavier_uniform(0.67 * n ** (-1 / 4))) for pattern in encoder),
        *((pattern, xavier_uniform((9 * m) ** (-1 / 4))) for pattern in decoder),
        *((pattern, per_param(embedding(n))) for pattern in sources),
        *recipe("t_fixup", kernel=kernel, bias=bias, embedding=embedding(m or n)),
    ]


class DeepNorm(NamedTuple):
    """What DeepNorm multiplies in a stack: residuals by alpha, kernels by beta.

    Example:
        >>> import jaxinit
        >>> scales, _ = jaxinit.rules.deepnorm_scales(8, 0)
        >>> round(scales.alpha, 9)  # a block is normalise(alpha · x + branch(x))
        2.0
    """

    alpha: float
    beta: float


def deepnorm_scales(
    encoder_layers: int, decoder_layers: int
) -> tuple[DeepNorm | None, DeepNorm | None]:
    """DeepNorm's alpha and beta, of the encoder and of the decoder.

    A stack of N layers alone has α = (2N)^(1/4), β = (8N)^(-1/4). Together, with N and
    M layers, the encoder has α = 0.81 (N⁴M)^(1/16), β = 0.87 (N⁴M)^(-1/16), the decoder
    α = (3M)^(1/4), β = (12M)^(-1/4). A block of the model is normalise(α x + f(x)).

    Args:
        encoder_layers: the number N of layers in the encoder; 0 without one.
        decoder_layers: the number M of layers in the decoder; 0 without one.

    Returns:
        The pair of the encoder and the decoder; None for the one that is not there.

    Raises:
        ValueError: for no layers at all.

    Example:
        >>> import jaxinit
        >>> encoder, decoder = jaxinit.rules.deepnorm_scales(12, 12)
        >>> round(decoder.alpha, 6)  # 36 ** (1 / 4)
        2.44949

    References:
        H. Wang et al., "DeepNet: scaling transformers to 1,000 layers", 2022,
            arXiv:2203.00555, figure 2.
    """
    n, m = _stacks(encoder_layers, decoder_layers)
    if n and m:
        both = (n**4 * m) ** (1 / 16)
        return (
            DeepNorm(0.81 * both, 0.87 / both),
            DeepNorm((3 * m) ** (1 / 4), (12 * m) ** (-1 / 4)),
        )
    alone = DeepNorm((2 * (n + m)) ** (1 / 4), (8 * (n + m)) ** (-1 / 4))
    return (alone, None) if n else (None, alone)


def deepnorm(
    encoder_layers: int,
    decoder_layers: int,
    encoder: Patterns,
    decoder: Patterns,
    code: str = "paper",
) -> Rules:
    """DeepNorm: transformers of a thousand layers that are normalised after each block.

    Xavier-normal kernels, standard deviation √(2/(fan_in + fan_out)), of which those
    that `encoder` and `decoder` name (value, output and both MLP kernels) are times the
    β of `deepnorm_scales`; queries and keys are not. Embeddings have 1/√features,
    biases 0, scales 1. The model must multiply its residuals by the α that belongs to
    it: normalise(α x + f(x)). A step then changes the output by a bounded amount.

    The authors' own package leaves PyTorch's U(±1/√fan_in) to kernels and biases, and
    multiplies both of those layers by β, in which the encoder of an encoder-decoder
    has 1.15 for 0.87.

    Args:
        encoder_layers: the number of layers in the encoder; 0 without one.
        decoder_layers: the number of layers in the decoder; 0 without one.
        encoder: patterns of the value, output and MLP kernels of the encoder.
        decoder: patterns of those of the decoder, both of its attentions.
        code: "paper", or "torchscale".

    Raises:
        ValueError: for no layers at all, for patterns of a stack without layers, or for
            another code.

    Example:
        >>> import jax, jaxinit
        >>> kernel = {"kernel": jax.ShapeDtypeStruct((64, 64), "float32")}
        >>> rules = jaxinit.rules.deepnorm(2, 0, ["value/kernel"], [])
        >>> table = jaxinit.describe_tree({"query": kernel, "value": kernel}, rules)
        >>> [round(row.std, 6) for row in table.rows]  # 1 / √64, and half of it
        [0.125, 0.0625]

    References:
        H. Wang et al., "DeepNet: scaling transformers to 1,000 layers", 2022,
            arXiv:2203.00555, figure 2.
    """
    n, m = _stacks(encoder_layers, decoder_layers, encoder, decoder)
    code = check.choice("code", code, ("paper", "torchscale"))
    scales = deepnorm_scales(n, m)
    both = 1.15 / 0.87 if code == "torchscale" and n and m else 1.0
    betas = [
        (pattern, scale.beta * times)
        for scale, times, patterns in zip(
            scales, (both, 1.0), (encoder, decoder), strict=True
        )
        if scale is not None
        for pattern in patterns
    ]
    if code == "torchscale":
        return _torchscale(betas)
    return [
        *((pattern, xavier_normal(beta)) for pattern, beta in betas),
        *recipe("deepnorm", kernel=xavier_normal(), embedding=_by_features),
    ]


# --- helpers --------------------------------------------------------------------------


def _by_features(param: Param, factor: float = 1.0) -> Choice:
    """An embedding's law: rows whose length does not depend on the features."""
    return normal(factor / math.sqrt(param.shape[-1]))


def _torchscale(betas: Sequence[tuple[Pattern, float]]) -> Rules:
    """PyTorch's own law, times β for the layers whose kernels patterns name."""

    def bias(param: Param) -> Choice:
        beside = kernel_beside(param)
        if beside is None:
            return zeros
        named = (b for p, b in betas if is_named([p], beside.path, param))
        bound = next(named, 1.0) / math.sqrt(beside.fans[0])
        return uniform_between(-bound, bound)

    return [
        *((pattern, scaled(torch_linear(), beta)) for pattern, beta in betas),
        *recipe("deepnorm", kernel=torch_linear(), bias=bias, embedding=_by_features),
    ]


def _stacks(
    encoder_layers: int,
    decoder_layers: int,
    encoder: Patterns = (),
    decoder: Patterns = (),
) -> tuple[int, int]:
    """The layers of an encoder and a decoder, one of which may be missing."""
    n = check.integer("encoder_layers", encoder_layers, low=0)
    m = check.integer("decoder_layers", decoder_layers, low=0)
    if not n + m:
        raise ValueError(
            "encoder_layers and decoder_layers are both 0; count the layers of one"
        )
    for name, layers, patterns in (("encoder", n, encoder), ("decoder", m, decoder)):
        if patterns and not layers:
            raise ValueError(
                f"{name} names kernels, {patterns[0]!r} first, of no layers; give "
                f"{name}_layers"
            )
    return n, m
