# SPDX-License-Identifier: Apache-2.0
"""JAX's random stream, written so that the compiler can fuse it."""

from jaxinit.stream.steering import is_left_to_jax
from jaxinit.stream.threefry import fast_key

__all__ = ["fast_key", "is_left_to_jax"]
