# SPDX-License-Identifier: Apache-2.0
"""Draws that families share: normals, cut or not, complex disks, Haar matrices."""

from jaxinit.samplers.disk import disk, modulus_std, truncated_disk
from jaxinit.samplers.haar import haar, stiefel
from jaxinit.samplers.normal import (
    add_mean,
    cast,
    next_toward,
    real_of,
    standard_normal,
)
from jaxinit.samplers.truncated_normal import moments, standard_truncated_normal

__all__ = [
    "add_mean",
    "cast",
    "disk",
    "haar",
    "modulus_std",
    "moments",
    "next_toward",
    "real_of",
    "standard_normal",
    "standard_truncated_normal",
    "stiefel",
    "truncated_disk",
]
