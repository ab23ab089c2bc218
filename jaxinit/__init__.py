# SPDX-License-Identifier: Apache-2.0
"""jaxinit: the initializers of neural networks, in JAX.

An initializer is a value: a pure function (key, shape, dtype) -> array that compares,
prints, pickles and caches by the call that built it.

What an initializer does not need (whole models, recipes, theory, reports, plots) is
imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxinit.core import (
    Fans,
    Initializer,
    Law,
    available,
    compute_fans,
    get,
    initializer,
    to_config,
)
from jaxinit.families import (
    bilinear,
    blocks,
    chrono,
    constant,
    conv_orthogonal,
    delta_orthogonal,
    dirac,
    forget_gate,
    fourier_features,
    glorot_normal,
    glorot_uniform,
    hadamard,
    he_normal,
    he_uniform,
    icnr,
    identity,
    kaiming_normal,
    kaiming_uniform,
    lecun_normal,
    lecun_uniform,
    lru_gamma,
    lru_nu,
    lru_theta,
    mamba_dt,
    noisy_identity,
    normal,
    ones,
    ones_init,
    orthogonal,
    prior_probability,
    rayleigh,
    s4d_decay,
    s4d_frequency,
    scaled,
    siren,
    sparse,
    spectral_normal,
    spectral_orthogonal,
    stacked,
    torch_bias,
    torch_linear,
    trunc_normal,
    truncated_normal,
    uniform,
    uniform_between,
    variance_scaling,
    xavier_normal,
    xavier_uniform,
    zeros,
    zeros_init,
)
from jaxinit.stream import fast_key

if TYPE_CHECKING:
    from jaxinit import rules, signal, theory
    from jaxinit.compile import jit_init
    from jaxinit.designs import Design, design
    from jaxinit.gains import calculate_gain, gain
    from jaxinit.network import Network, Parameter, read
    from jaxinit.signal import lsuv
    from jaxinit.trees import Param, check_tree, describe_tree, init_tree, per_param

    __version__: str

__all__ = [
    "Design",
    "Fans",
    "Initializer",
    "Law",
    "Network",
    "Param",
    "Parameter",
    "available",
    "bilinear",
    "blocks",
    "calculate_gain",
    "check_tree",
    "chrono",
    "compute_fans",
    "constant",
    "conv_orthogonal",
    "delta_orthogonal",
    "describe_tree",
    "design",
    "dirac",
    "fast_key",
    "forget_gate",
    "fourier_features",
    "gain",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "hadamard",
    "he_normal",
    "he_uniform",
    "icnr",
    "identity",
    "init_tree",
    "initializer",
    "jit_init",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "lru_gamma",
    "lru_nu",
    "lru_theta",
    "lsuv",
    "mamba_dt",
    "noisy_identity",
    "normal",
    "ones",
    "ones_init",
    "orthogonal",
    "per_param",
    "prior_probability",
    "rayleigh",
    "read",
    "rules",
    "s4d_decay",
    "s4d_frequency",
    "scaled",
    "signal",
    "siren",
    "sparse",
    "spectral_normal",
    "spectral_orthogonal",
    "stacked",
    "theory",
    "to_config",
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

# Where the names are that are imported when they are first asked for.
_LATER = {
    "jit_init": "jaxinit.compile",
    "calculate_gain": "jaxinit.gains",
    "gain": "jaxinit.gains",
    "Design": "jaxinit.designs",
    "design": "jaxinit.designs",
    "Network": "jaxinit.network",
    "Parameter": "jaxinit.network",
    "read": "jaxinit.network",
    "lsuv": "jaxinit.signal",
    "Param": "jaxinit.trees",
    "check_tree": "jaxinit.trees",
    "describe_tree": "jaxinit.trees",
    "init_tree": "jaxinit.trees",
    "per_param": "jaxinit.trees",
}
_MODULES = {"nnx", "plot", "rules", "signal", "theory"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        found = getattr(importlib.import_module(_LATER[name]), name)
    elif name in _MODULES:
        found = importlib.import_module(f"{__name__}.{name}")
    elif name == "__version__":
        found = importlib.import_module("importlib.metadata").version(__name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    ours = {*__all__, *_MODULES, "__version__"}
    return sorted({*ours, *(n for n in globals() if n.startswith("__"))})
