# SPDX-License-Identifier: Apache-2.0
"""The initializers: one paper, one file.

A std is a standard deviation, a gain multiplies the entries of a kernel to undo an
activation, a factor is any other multiplier. Arguments that stand in for another
library's keep its names: JAX's `stddev` is a std, and JAX's `scale` multiplies the
variance in `variance_scaling` (a squared gain), the singular values in `orthogonal`,
and is the end of the interval in `uniform`.
"""

from jaxinit.families.combinators import blocks, scaled, stacked
from jaxinit.families.complex import rayleigh
from jaxinit.families.constants import (
    constant,
    dirac,
    identity,
    ones,
    ones_init,
    zeros,
    zeros_init,
)
from jaxinit.families.conv_orthogonal import conv_orthogonal
from jaxinit.families.distributions import normal, uniform, uniform_between
from jaxinit.families.fourier import fourier_features
from jaxinit.families.gates import chrono, forget_gate, prior_probability
from jaxinit.families.hadamard import hadamard
from jaxinit.families.lru import lru_gamma, lru_nu, lru_theta
from jaxinit.families.orthogonal import delta_orthogonal, orthogonal
from jaxinit.families.presets import (
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
)
from jaxinit.families.recurrent import noisy_identity
from jaxinit.families.siren import siren
from jaxinit.families.sparse import sparse
from jaxinit.families.spectral import spectral_normal, spectral_orthogonal, spectral_std
from jaxinit.families.state_space import mamba_dt, s4d_decay, s4d_frequency
from jaxinit.families.torch import (
    kaiming_normal,
    kaiming_uniform,
    torch_bias,
    torch_linear,
    xavier_normal,
    xavier_uniform,
)
from jaxinit.families.truncated import trunc_normal, truncated_normal
from jaxinit.families.upsampling import bilinear, icnr
from jaxinit.families.variance_scaling import variance_scaling

__all__ = [
    "bilinear",
    "blocks",
    "chrono",
    "constant",
    "conv_orthogonal",
    "delta_orthogonal",
    "dirac",
    "forget_gate",
    "fourier_features",
    "glorot_normal",
    "glorot_uniform",
    "hadamard",
    "he_normal",
    "he_uniform",
    "icnr",
    "identity",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "lru_gamma",
    "lru_nu",
    "lru_theta",
    "mamba_dt",
    "noisy_identity",
    "normal",
    "ones",
    "ones_init",
    "orthogonal",
    "prior_probability",
    "rayleigh",
    "s4d_decay",
    "s4d_frequency",
    "scaled",
    "siren",
    "sparse",
    "spectral_normal",
    "spectral_orthogonal",
    "spectral_std",
    "stacked",
    "torch_bias",
    "torch_linear",
    "trunc_normal",
    "truncated_normal",
    "uniform",
    "uniform_between",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
    "zeros_init",
]
