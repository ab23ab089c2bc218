# SPDX-License-Identifier: Apache-2.0
"""Rules by depth: how residual branches must shrink so that many of them may add up.

A branch that adds a signal of unit variance lets the variance grow with every block;
one that answers an update at full strength lets a step of the optimiser grow with
their number. Each recipe here shrinks the branches by its own power of the depth.
"""

import math
from collections.abc import Sequence

from jaxinit.core import Initializer
from jaxinit.core import checks as check
from jaxinit.families import constant, normal, torch_linear, zeros
from jaxinit.rules.places import kernel_beside
from jaxinit.rules.recipe import recipe
from jaxinit.trees import Param, Pattern, Rules, per_param

__all__ = ["fixup", "layer_scale", "rezero"]

Patterns = Sequence[Pattern]


def fixup(
    branches: int,
    inner: Patterns,
    last: Patterns,
    head: Patterns,
    depth: int = 2,
    stem: Patterns = (),
) -> Rules:
    """Fixup: residual networks without normalisation, whose updates ignore the depth.

    With L branches of m layers each, the first m - 1 kernels of a branch are He's
    times L^(-1/(2m - 2)), standard deviation √(2/fan_out) · L^(-1/(2m - 2)), where
    fan_out is out · window, whatever the stride and the groups, as in its code; its
    last kernel and the classifier are 0, all others He's, but for a stem that the code
    leaves as PyTorch draws it, U(±1/√fan_in). The scalar biases and multipliers that
    Fixup puts around the layers are 0 where they are called bias, and 1 where they are
    called scale; give rules of your own to other names. A network then begins with
    logits of 0 and blocks that pass their input on, and a step of size η changes its
    output by Θ(η) at any depth.

    Args:
        branches: the number L of residual branches in the network.
        inner: patterns of the kernels of a branch but its last.
        last: patterns of the last kernel of each branch.
        head: patterns of the classifier's kernel.
        depth: the number m of layers in a branch, at least 2.
        stem: patterns of the first convolution's kernel.

    Raises:
        ValueError: for no branch, or for branches of one layer, for which the power
            of L is not defined.

    Example:
        >>> import jax, jaxinit
        >>> kernel = {"kernel": jax.ShapeDtypeStruct((50, 50), "float32")}
        >>> rules = jaxinit.rules.fixup(16, ["up/kernel"], ["down/kernel"], [])
        >>> table = jaxinit.describe_tree({"up": kernel, "down": kernel}, rules[:2])
        >>> [round(row.std, 6) for row in table.rows]  # √(2 / 50) / √16 for up
        [0.0, 0.05]

    References:
        H. Zhang, Y. N. Dauphin, T. Ma, "Fixup initialization: residual learning without
            normalization", 2019, arXiv:1901.09321, section 3.
    """
    branches = check.integer("branches", branches, low=1)
    depth = check.integer("depth", depth, low=2)
    factor = branches ** (-1 / (2 * depth - 2))

    def he(param: Param, factor: float = 1.0) -> Initializer:
        here = kernel_beside(param)
        _, n_out, window = (1, param.shape[-1], 1) if here is None else here.axes
        return normal(factor * math.sqrt(2 / (n_out * window)))

    shrunk = per_param(lambda param: he(param, factor))
    return [
        *((pattern, shrunk) for pattern in inner),
        *((pattern, zeros) for pattern in (*last, *head)),
        *((pattern, torch_linear()) for pattern in stem),
        *recipe("fixup", kernel=he),
    ]


def rezero(multipliers: Patterns) -> Rules:
    """ReZero and SkipInit: the learned multiplier of each residual branch is 0.

    With x + α f(x) and α = 0 every block begins as the identity, and so does any stack
    of them, with its Jacobian. These rules are for the multipliers alone: put them
    before a recipe for the rest, [*rezero(["alpha"]), *torch()].

    Args:
        multipliers: patterns of the multipliers α.

    Example:
        >>> import jax, jaxinit
        >>> tree = {"alpha": jax.ShapeDtypeStruct((), "float32")}
        >>> rules = jaxinit.rules.rezero(["alpha"])
        >>> jaxinit.init_tree(jax.random.key(0), tree, rules)["alpha"].item()
        0.0

    References:
        T. Bachlechner et al., "ReZero is all you need", 2020, arXiv:2003.04887;
            S. De, S. L. Smith, "Batch normalization biases residual blocks towards the
            identity function in deep networks", 2020, arXiv:2002.10444 (SkipInit).
    """
    return [(pattern, zeros) for pattern in multipliers]


def layer_scale(layers: int, scales: Patterns) -> Rules:
    """LayerScale: the learned scale of each channel of a branch begins small.

    The scales are 0.1 for up to 18 layers, 10⁻⁵ for up to 24 and 10⁻⁶ for more. These
    rules are for the scales alone: put them before a recipe for the rest.

    Args:
        layers: the number of layers.
        scales: patterns of the scales that multiply the branches.

    Example:
        >>> import jax, jaxinit
        >>> tree = {"gamma": jax.ShapeDtypeStruct((8,), "float32")}
        >>> rules = jaxinit.rules.layer_scale(12, ["gamma"])
        >>> gamma = jaxinit.init_tree(jax.random.key(0), tree, rules)["gamma"]
        >>> bool(abs(gamma - 0.1).max() < 1e-7)
        True

    References:
        H. Touvron et al., "Going deeper with image transformers", 2021,
            arXiv:2103.17239, section 2.
    """
    layers = check.integer("layers", layers, low=1)
    scale = constant(0.1 if layers <= 18 else 1e-5 if layers <= 24 else 1e-6)
    return [(pattern, scale) for pattern in scales]
