# SPDX-License-Identifier: Apache-2.0
"""Recipes: the rules by which well-known models and libraries initialise.

A recipe is a sequence of rules for `init_tree`. With `layers=jaxinit.read(model, ...)`
it goes by what each parameter does, whatever it is called: kernels, embeddings, biases,
scales and tokens, the kernels that end residual branches, attention, the head. Without,
it knows the names that Flax gives to parameters (kernel, bias, scale, embedding, and
the statistics mean and var). For what it has no law for, put a rule of your own before
it: `[("temperature", ones), *rules.torch()]`.

A recipe that is named after a library or a model counts fans as its code counts them,
and a reading does not change that; docs/recipes.md has what each was compared with.

Most recipes are rules for a whole model. Those of single parameters (`rezero`,
`layer_scale`, `forget_gate`, `chrono`, `mimetic_attention`) go before one of them, and
`mup` and `depth_mup` take rules and carry them on to another width or depth, with
learning rates to match.

Example:
    >>> import jax, jaxinit
    >>> layer = {"kernel": jax.ShapeDtypeStruct((12, 5), "float32")}
    >>> (row,) = jaxinit.describe_tree(layer, jaxinit.rules.torch()).rows
    >>> round(row.std, 6)  # 1/√(3 · 12)
    0.166667
"""

from jaxinit.rules.attention import mimetic_attention
from jaxinit.rules.cells import chrono, forget_gate
from jaxinit.rules.depth import fixup, layer_scale, rezero
from jaxinit.rules.depth_mup import depth_mup, depth_mup_rates
from jaxinit.rules.encoder_decoder import (
    DeepNorm,
    deepnorm,
    deepnorm_scales,
    t_fixup,
)
from jaxinit.rules.language import bert, gpt2, llama, mistral, small_init, whisper
from jaxinit.rules.libraries import keras, torch
from jaxinit.rules.mamba import mamba
from jaxinit.rules.mup import mup, mup_rates, spectral
from jaxinit.rules.t5 import t5
from jaxinit.rules.vision import (
    convnext,
    dcgan,
    efficientnet,
    mixer,
    resnet,
)
from jaxinit.rules.vit import timm, vit

__all__ = [
    "DeepNorm",
    "bert",
    "chrono",
    "convnext",
    "dcgan",
    "deepnorm",
    "deepnorm_scales",
    "depth_mup",
    "depth_mup_rates",
    "efficientnet",
    "fixup",
    "forget_gate",
    "gpt2",
    "keras",
    "layer_scale",
    "llama",
    "mamba",
    "mimetic_attention",
    "mistral",
    "mixer",
    "mup",
    "mup_rates",
    "resnet",
    "rezero",
    "small_init",
    "spectral",
    "t5",
    "t_fixup",
    "timm",
    "torch",
    "vit",
    "whisper",
]
