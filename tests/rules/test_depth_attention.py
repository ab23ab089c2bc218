# SPDX-License-Identifier: Apache-2.0
"""DeepNorm and T-Fixup on blocks with attention: what depth does to a step."""

from typing import Any

import flax.linen as nn
import jax
import pytest

import jaxinit
from jaxinit import rules
from tests.helpers import exponent
from tests.rules.test_rules_depth import (
    TRANSFORMER,
    WIDTH,
    Dense,
    Net,
    Norm,
    Transformer,
    moved,
)

QUICK = True  # see conftest.py


class Normalised(nn.Module):
    """DeepNorm's block: attention and an MLP, each normalised after its addition."""

    @nn.compact
    def __call__(self, x, _):
        alpha = jax.lax.stop_gradient(self.param("alpha", nn.initializers.ones, ()))
        attention = nn.MultiHeadDotProductAttention(2, use_bias=False, name="attention")
        x = Norm()(alpha * x + attention(x[None])[0])
        h = nn.relu(Dense(2 * WIDTH, name="up")(x))
        return Norm()(alpha * x + Dense(WIDTH, name="down")(h)), None


def deepnorm(depth: int, alpha: float, patterns: list[str]) -> Any:
    recipe = rules.deepnorm(depth, 0, patterns, [])
    return [("alpha", jaxinit.constant(alpha)), *recipe]


@pytest.mark.thorough
def test_deepnorm_with_attention_learns_alike_at_every_depth(key):
    def deep(depth: int) -> float:
        scales, _ = rules.deepnorm_scales(depth, 0)
        assert scales is not None
        recipe = deepnorm(depth, scales.alpha, TRANSFORMER)
        return moved(Net(depth, Normalised), recipe, key)

    def plain(depth: int) -> float:
        return moved(Net(depth, Normalised), deepnorm(depth, 1.0, []), key)

    assert abs(exponent(deep(2), deep(32), 16)) < 1 / 4
    assert exponent(plain(2), plain(32), 16) > 1 / 4


@pytest.mark.thorough
def test_t_fixup_with_attention_learns_alike_at_every_depth(key):
    def at(layers: int, depth: int) -> float:
        recipe = rules.t_fixup(0, layers, [], TRANSFORMER)
        return moved(Net(depth, Transformer, tokens=True), recipe, key)

    assert abs(exponent(at(2, 2), at(32, 32), 16)) < 1 / 4
    # Without the factor of its depth, a network of 32 layers moves farther.
    assert exponent(at(2, 2), at(2, 32), 16) > 1 / 4


@pytest.mark.thorough
@pytest.mark.parametrize("names", [TRANSFORMER[:2], TRANSFORMER[2:]], ids=str)
def test_both_kinds_of_branches_need_the_factor(names, key):
    """Attention's branches alone, or the MLP's, leave the others as they were."""
    recipe: Any = rules.t_fixup(0, 32, [], names)
    whole: Any = rules.t_fixup(0, 32, [], TRANSFORMER)
    half, full = (
        moved(Net(32, Transformer, tokens=True), each, key) for each in (recipe, whole)
    )
    assert half > 1.5 * full
