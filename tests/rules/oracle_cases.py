# SPDX-License-Identifier: Apache-2.0
"""All models whose recipes are held to recorded ones, and the outcome of each."""

import functools

from tests.rules.oracle import Found, compared
from tests.rules.oracle_decoders import DECODERS
from tests.rules.oracle_depth import DEPTH
from tests.rules.oracle_encoders import ENCODERS
from tests.rules.oracle_gan import GAN
from tests.rules.oracle_images import VISION
from tests.rules.oracle_keras import KERAS
from tests.rules.oracle_scaling import SCALING
from tests.rules.oracle_torch import TORCH
from tests.rules.oracle_vit import TRANSFORMERS

CASES = [
    *TORCH,
    *KERAS,
    *DECODERS,
    *ENCODERS,
    *VISION,
    *TRANSFORMERS,
    *DEPTH,
    *GAN,
    *SCALING,
]


@functools.cache
def outcome(k: int) -> tuple[list[Found], list[Found]]:
    """What the comparison of a case finds, by its reading and by names alone."""
    case = CASES[k]
    tree, layers = case.parts()
    by_name = compared(case, tree, None) if case.by_name else []
    return compared(case, tree, layers), by_name
