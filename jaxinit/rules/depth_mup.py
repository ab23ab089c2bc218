# SPDX-License-Identifier: Apache-2.0
"""Depth-muP: branches and learning rates that make all depths train alike.

In the paper a block is x + a/√L · f(x), and Adam's learning rate is times 1/√L in the
branches; SGD's is kept. An initializer has no say in the forward pass, so the
multiplier is moved into the kernels that end the branches. A kernel W = V/√L must then
follow V: a step of V at the rate η is one of W at η/L for SGD, whose gradient is √L
times larger, and one at (η/√L)/√L for Adam, which does not see the gradient's size.
"""

import math
from collections.abc import Sequence
from typing import Any

from jaxinit.core import checks as check
from jaxinit.rules.mup import OPTIMIZERS, multiply_rules, rate_tree
from jaxinit.trees import Param, Pattern, Rule, Rules, words

__all__ = ["depth_mup", "depth_mup_rates"]


def depth_mup(
    blocks: int, residual: Sequence[Pattern], rules: Rules, base: int = 1
) -> Rules:
    """Depth-muP: any rules, with residual branches smaller by 1/√L.

    A block x + a/√L · f(x) keeps the variance bounded and lets all L blocks learn. Here
    the multiplier is in the kernels that end the branches: their standard deviation is
    what the rules give, times √(base / L). Train with the learning rates of
    `depth_mup_rates`. It is the one best parametrisation for branches of one layer, by
    the paper's theory; for deeper branches, it says, none is. For a width as well as a
    depth give it the rules of `mup` and multiply the rates.

    Args:
        blocks: the number L of residual branches.
        residual: patterns of the kernels, and biases, at the ends of the branches.
        rules: rules for the model.
        base: the number of branches of the model that the rules are right for.

    Raises:
        ValueError: for no block. (A pattern that matches nothing is refused by
            `depth_mup_rates`.)

    Example:
        >>> import jax, jaxinit
        >>> kernel = {"kernel": jax.ShapeDtypeStruct((64, 64), "float32")}
        >>> lecun = [("kernel", jaxinit.lecun_normal())]
        >>> rules = jaxinit.rules.depth_mup(16, ["block/kernel"], lecun)
        >>> table = jaxinit.describe_tree({"block": kernel, "out": kernel}, rules)
        >>> [round(row.std, 6) for row in table.rows]  # 1/√64 / √16, 1/√64
        [0.03125, 0.125]

    References:
        G. Yang, D. Yu, C. Zhu, S. Hayou, "Tensor programs VI: feature learning in
            infinite-depth neural networks", 2023, arXiv:2310.02244, table 1.
    """
    factor = math.sqrt(_ratio(blocks, base))
    places = _places("residual", residual, factor)

    def at(rule: Rule, param: Param) -> float:
        return factor if any(place.matches(param) for place in places) else 1.0

    with check.speaker("depth_mup"):
        return multiply_rules(rules, at)


def depth_mup_rates(
    tree: Any,
    blocks: int,
    residual: Sequence[Pattern],
    inner: Sequence[Pattern] = (),
    optimizer: str = "adam",
    base: int = 1,
) -> Any:
    """What Depth-muP multiplies each parameter's learning rate by, a tree of numbers.

    The ends of the branches have base/L, for they hold the multiplier 1/√L; the other
    parameters in the branches √(base/L) for Adam and 1 for SGD, and all the rest 1. The
    numbers are labels for optax as those of `mup_rates` are, and go together with them:
    jax.tree.map(operator.mul, wide, deep).

    Args:
        tree: the parameters of the model, arrays or shapes.
        blocks: the number L of residual branches.
        residual: patterns of the kernels and biases at the ends of the branches.
        inner: patterns of the other parameters in the branches.
        optimizer: "adam" or "sgd".
        base: the number of branches of the model whose rates are all 1.

    Returns:
        The tree with a float for each parameter.

    Raises:
        ValueError: for no block, and for a pattern that matches nothing.

    Example:
        >>> import jax, jaxinit
        >>> kernel = {"kernel": jax.ShapeDtypeStruct((8, 8), "float32")}
        >>> tree = {"block": {"up": kernel, "down": kernel}, "out": kernel}
        >>> rates = jaxinit.rules.depth_mup_rates(tree, 16, ["down/*"], ["up/*"])
        >>> jax.tree.leaves(rates)  # down, up, out
        [0.0625, 0.25, 1.0]

    References:
        G. Yang, D. Yu, C. Zhu, S. Hayou, "Tensor programs VI: feature learning in
            infinite-depth neural networks", 2023, arXiv:2310.02244, table 1.
    """
    optimizer = check.choice("optimizer", optimizer, OPTIMIZERS)
    ratio = _ratio(blocks, base)
    places = [
        *_places("residual", residual, ratio),
        *_places("inner", inner, math.sqrt(ratio) if optimizer == "adam" else 1.0),
    ]
    used: set[str] = set()

    def rate(param: Param) -> float:
        matching = [rule for rule in places if rule.matches(param)]
        used.update(rule.who for rule in matching)
        return matching[0].value if matching else 1.0

    with check.speaker("depth_mup_rates"):
        rates = rate_tree(tree, None, rate)
        if idle := [rule.who for rule in places if rule.who not in used]:
            raise ValueError(f"{', '.join(idle)} matches nothing in the tree")
    return rates


# --- helpers --------------------------------------------------------------------------


def _places(name: str, patterns: Sequence[Pattern], value: float) -> list[Rule]:
    """The patterns of an argument, each with a number for what it matches."""
    return [
        Rule(f"{name}[{i}] ({words(pattern)})", pattern, value)
        for i, pattern in enumerate(patterns)
    ]


def _ratio(blocks: int, base: int) -> float:
    return check.integer("base", base, low=1) / check.integer("blocks", blocks, low=1)
