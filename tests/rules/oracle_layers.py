# SPDX-License-Identifier: Apache-2.0
"""Flax's layers, one by one, as PyTorch and Keras have them too."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax


def shape(*sizes: int, dtype: str = "float32") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


FLAT, SERIES, IMAGE, SPACE = (2, 24), (2, 6, 12), (2, 8, 8, 12), (2, 6, 6, 6, 6)
IDS = shape(2, 6, dtype="int32")


class One(nn.Module):
    """A layer by Flax's own name for it."""

    make: Callable[[], Any]
    fixed: tuple[tuple[str, Any], ...] = ()

    @nn.compact
    def __call__(self, *x):
        return self.make()(*x, **dict(self.fixed))


FIRST = [(r"^[A-Z]\w*/", "")]  # the layer's name
TRAIN = (("use_running_average", False),)


def linen(make: Callable[[], Any], fixed: Any = ()) -> nn.Module:
    return One(make, fixed)


def depthwise() -> Any:
    return nn.Conv(24, (3, 3), feature_group_count=12)


def attention() -> Any:
    return nn.MultiHeadDotProductAttention(4, qkv_features=24, out_features=24)


def rnn(cell: Any) -> Callable[[], Any]:
    return lambda: nn.RNN(cell(20))
