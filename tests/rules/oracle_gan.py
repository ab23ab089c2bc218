# SPDX-License-Identifier: Apache-2.0
"""DCGAN's generator and discriminator, of 8 features, as PyTorch's example has them."""

import flax.linen as nn
import jax.numpy as jnp

from tests.rules.oracle import Case
from tests.rules.oracle_layers import shape


def norm(name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=False, name=name)


class Generator(nn.Module):
    """From noise of 16 to an image of 64 by 64; ReLUs are layers of the example too."""

    @nn.compact
    def __call__(self, z):
        x = z[:, None, None]
        for k, features in enumerate((64, 32, 16, 8, 3)):
            step, padding = ((1, 1), "VALID") if k == 0 else ((2, 2), "SAME")
            x = nn.ConvTranspose(
                *(features, (4, 4), step, padding),
                use_bias=False,
                name=f"main/{3 * k}",
            )(x)
            if features > 3:
                x = nn.relu(norm(f"main/{3 * k + 1}")(x))
        return jnp.tanh(x)


class Discriminator(nn.Module):
    @nn.compact
    def __call__(self, x):
        places = ((0, 8), (2, 16), (5, 32), (8, 64), (11, 1))
        for place, features in places:
            step, padding = ((1, 1), "VALID") if features == 1 else ((2, 2), "SAME")
            x = nn.Conv(
                *(features, (4, 4), step, padding),
                use_bias=False,
                name=f"main/{place}",
            )(x)
            if features > 1:
                x = x if features == 8 else norm(f"main/{place + 1}")(x)
                x = nn.leaky_relu(x, 0.2)
        return nn.sigmoid(x)


STATISTICS = "(mean|var)$"  # buffers, not parameters, in PyTorch
NOISE, IMAGE = shape(2, 16), shape(2, 64, 64, 3)
MODELS = {"Generator": (Generator(), NOISE), "Discriminator": (Discriminator(), IMAGE)}
GAN = [
    Case("dcgan", "dcgan", name, model, (x,), apart=STATISTICS)
    for name, (model, x) in MODELS.items()
]
