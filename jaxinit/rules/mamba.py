# SPDX-License-Identifier: Apache-2.0
"""Mamba's initialisation, as rules: a selective state space in every block."""

import math

from jaxinit.core import checks as check
from jaxinit.families import (
    mamba_dt,
    normal,
    ones,
    s4d_decay,
    torch_linear,
    uniform_between,
    zeros,
)
from jaxinit.rules.places import additions, kernel_beside
from jaxinit.rules.recipe import Choice, recipe
from jaxinit.trees import Line, Param, Rules

__all__ = ["mamba"]

STEPS = ("dt_proj", "dt", "w_dt")


def mamba(std: float = 0.1, rescale: bool = False, layers: int | None = None) -> Rules:
    """Mamba: steps between 0.001 and 0.1, decays of 1 to N, and one normal for others.

    Embeddings and kernels N(0, std²), but for the convolution and the kernel that ends
    a block, U(±1/√fan_in), and that of the steps, U(±1/√rank); the steps' bias is
    `mamba_dt`, A_log log n, D 1; other biases 0, scales 1. The steps' layer is told by
    its name (dt_proj, dt), A_log and D by theirs, the ends of blocks by the reading of
    `layers=jaxinit.read(...)` or the name out_proj.

    Args:
        std: the standard deviation, `initializer_range` in transformers.
        rescale: divide the kernels that end blocks by √layers.
        layers: the number of blocks; by default, as many as are read.

    Example:
        >>> import jax, jaxinit
        >>> tree = {"A_log": jax.ShapeDtypeStruct((2, 4), "float32")}
        >>> drawn = jaxinit.init_tree(jax.random.key(0), tree, jaxinit.rules.mamba())
        >>> [round(float(a), 4) for a in drawn["A_log"][0]]  # log 1, ..., log 4
        [0.0, 0.6931, 1.0986, 1.3863]

    References:
        A. Gu, T. Dao, "Mamba: linear-time sequence modeling with selective state
            spaces", 2023, arXiv:2312.00752, section 3.6; as `MambaPreTrainedModel` of
            transformers has it.
    """
    if layers is not None:
        layers = check.integer("layers", layers, low=1)

    def blocks(param: Param) -> float:
        return layers or additions("mamba", param, None)

    def kernel(param: Param) -> Choice:
        here = kernel_beside(param)
        if here is None:
            return normal(std)
        if here.label in STEPS:
            bound = 1 / math.sqrt(here.fans[0])
            return Line(uniform_between(-bound, bound), "kernel of the steps")
        if here.is_conv:
            return torch_linear()
        known = here.known
        ends = here.label == "out_proj" if known is None else known.branch is not None
        if not ends:
            return normal(std)
        bound = 1 / math.sqrt(here.fans[0] * (blocks(param) if rescale else 1))
        return Line(uniform_between(-bound, bound), "ends a block")

    def bias(param: Param) -> Choice:
        beside = kernel_beside(param)
        steps = beside is not None and beside.label in STEPS
        return mamba_dt() if steps else zeros

    decay = s4d_decay("real")
    return recipe(
        "mamba", kernel=kernel, bias=bias, embedding=normal(std), A_log=decay, D=ones
    )
