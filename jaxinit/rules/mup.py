# SPDX-License-Identifier: Apache-2.0
"""Rules by width, and the learning rates that belong to them.

The maximal update parametrisation (muP) tells for each weight how its standard
deviation and its learning rate go with the width, so that every layer learns features
at every width and the best learning rate of a narrow model is that of a wide one. Here
nothing is added to the model: no multipliers, but smaller weights and rates (table 3 of
the paper). With r_in and r_out the growth of a weight's fans over the base model's,

                       input, bias     hidden        output
    standard deviation      1          1/√r_in       1/r_in
    rate of Adam            1          1/r_in        1/r_in
    rate of SGD           r_out      r_out/r_in      1/r_in

times what they are in the base model. A weight is of the input if only fan_out grows,
of the output if only fan_in does.
"""

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxinit.core import Initializer
from jaxinit.core import checks as check
from jaxinit.families import normal, scaled, spectral_std
from jaxinit.network import Parameter
from jaxinit.rules.recipe import Choice, fans_of, kernel_of, recipe
from jaxinit.trees import (
    Line,
    Param,
    Part,
    PerParam,
    Rule,
    Rules,
    leaves_of,
    per_param,
    read_rules,
)

__all__ = ["mup", "mup_rates", "spectral"]

OPTIMIZERS = ("adam", "sgd")
Layers = Mapping[str, Parameter]


def spectral(scale: float = 1.0) -> Rules:
    """The spectral condition, which is muP without base shapes.

    A layer learns features at any width if ‖W‖₂ is of the order √(fan_out/fan_in). A
    Gaussian kernel has it with standard deviation
    scale · min(1, √(fan_out/fan_in)) / √fan_in; an embedding, whose fan_in is 1, with
    scale. Biases 0, scales 1. (muP prescribes learning rates too.)

    Args:
        scale: a factor for all.

    Example:
        >>> import jax, jaxinit
        >>> tree = {"kernel": jax.ShapeDtypeStruct((64, 16), "float32")}
        >>> (row,) = jaxinit.describe_tree(tree, jaxinit.rules.spectral()).rows
        >>> round(row.std, 6)  # √(16 / 64) / √64
        0.0625

    References:
        G. Yang, J. B. Simon, J. Bernstein, "A spectral condition for feature learning",
            2023, arXiv:2310.17813, section 4; G. Yang et al., "Tensor programs V",
            2022, arXiv:2203.03466.
    """
    scale = check.number("scale", scale)

    def kernel(param: Param) -> Choice:
        fans, shape = kernel_of(param)
        fan_in, fan_out = fans(shape)
        return normal(scale * spectral_std(fan_in, fan_out))

    return recipe("spectral", kernel=kernel, embedding=normal(scale))


def mup(base: Any, rules: Rules, *, layers: Layers | None = None) -> Rules:
    """The maximal update parametrisation: any rules, carried on from a base width.

    Every parameter has the standard deviation that the rules give it in the base
    model, times 1 for inputs, embeddings and biases, 1/√r_in for hidden kernels and
    1/r_in for those of the output, r_in being the growth of fan_in. A model of the base
    shapes starts exactly as by the rules. Train with the learning rates of `mup_rates`.

    The rest of muP is the model's: attention divides its logits by the size of a head
    (not its root) where that size grows, and an output that is tied to the embedding
    needs a multiplier 1/r_in. An output of zeros (a rule of your own) is the paper's
    own advice.

    Args:
        base: the parameters of a narrow model, arrays or shapes, in the same tree.
        rules: rules for both, whose initializers must state their law.
        layers: the layers of the narrow model, as for `init_tree`, where their fans are
            counted otherwise than in the wide one: depthwise convolutions.

    Raises:
        ValueError: where the base lacks a parameter or has it with other axes, and for
            an initializer without a law.

    Example:
        >>> import jax, jaxinit
        >>> def shapes(n):
        ...     sizes = {"in": (16, n), "hidden": (n, n), "out": (n, 10)}
        ...     return {
        ...         name: {"kernel": jax.ShapeDtypeStruct(size, "float32")}
        ...         for name, size in sizes.items()
        ...     }
        >>> lecun = [("kernel", jaxinit.lecun_normal())]
        >>> rules = jaxinit.rules.mup(shapes(64), lecun)
        >>> rows = jaxinit.describe_tree(shapes(256), rules).rows
        >>> {row.path: round(row.std, 6) for row in rows}  # 1/√256, 1/√16, 1/√64 / 4
        {'hidden/kernel': 0.0625, 'in/kernel': 0.25, 'out/kernel': 0.03125}

    References:
        G. Yang, E. J. Hu et al., "Tensor programs V: tuning large neural networks via
            zero-shot hyperparameter transfer", 2022, arXiv:2203.03466, table 3.
    """
    narrow = _by_path(base, layers)

    def factor(rule: Rule, param: Param) -> float:
        model = _partner(param, narrow)
        grown_in, grown_out = _growth(param, model)
        shrunk = math.sqrt(grown_in) if grown_out != 1 else grown_in
        given = _std(rule, param)  # 0 for a constant, which stays what it is
        return _std(rule, model) / shrunk / given if given else 1.0

    with check.speaker("mup"):
        return multiply_rules(rules, factor)


def mup_rates(
    tree: Any,
    base: Any,
    optimizer: str = "adam",
    *,
    layers: Layers | None = None,
    base_layers: Layers | None = None,
) -> Any:
    """What muP multiplies each parameter's learning rate by, as a tree of numbers.

    For Adam, and others that divide by the size of the gradient: 1 for inputs,
    embeddings and biases, 1/r_in for hidden and output kernels. For SGD: r_out / r_in,
    with r_in = 1 for inputs and biases. r_in and r_out are the growth of the fans over
    the base model's, where all rates are 1.

    The numbers are labels too. With optax::

        rates = mup_rates(shapes, base)
        steps = {r: optax.adam(r * rate) for r in set(jax.tree.leaves(rates))}
        optimizer = optax.multi_transform(steps, rates)

    Args:
        tree: the parameters of the wide model, arrays or shapes.
        base: those of the narrow model.
        optimizer: "adam" or "sgd".
        layers: the layers of the wide model, as for `init_tree`.
        base_layers: those of the narrow model, where they differ.

    Returns:
        The tree with a float for each parameter.

    Raises:
        ValueError: where the base lacks a parameter or has it with other axes.

    Example:
        >>> import jax, jaxinit
        >>> def shape(n):
        ...     return {"kernel": jax.ShapeDtypeStruct((n, n), "float32")}
        >>> jaxinit.rules.mup_rates(shape(256), shape(64))
        {'kernel': 0.25}

    References:
        G. Yang, E. J. Hu et al., "Tensor programs V: tuning large neural networks via
            zero-shot hyperparameter transfer", 2022, arXiv:2203.03466, table 3.
    """
    optimizer = check.choice("optimizer", optimizer, OPTIMIZERS)
    narrow = _by_path(base, base_layers)

    def rate(param: Param) -> float:
        grown_in, grown_out = _growth(param, _partner(param, narrow))
        return (1.0 if optimizer == "adam" else grown_out) / grown_in

    with check.speaker("mup_rates"):
        return rate_tree(tree, layers, rate)


# --- helpers --------------------------------------------------------------------------


def _by_path(tree: Any, layers: Layers | None) -> dict[str, Param]:
    leaves, _ = leaves_of(tree, layers or {})
    return {leaf.param.path: leaf.param for leaf in leaves}


def multiply_rules(rules: Rules, factor: Callable[[Rule, Param], float]) -> Rules:
    """The same rules, each of whose arrays is times a factor of the parameter's."""

    def carry(rule: Rule) -> PerParam:
        def choose(param: Param) -> Line:
            line, times = rule.choose(param), factor(rule, param)
            if times == 1:
                return line
            return Line(scaled(line.init, times), f"{line.words}, × {times:.4g}")

        return per_param(choose, source=rule.source)

    return [(rule.pattern, carry(rule)) for rule in read_rules(rules, ())]


def rate_tree(tree: Any, layers: Layers | None, rate: Callable[[Param], float]) -> Any:
    """The tree with a number in the place of each leaf."""
    leaves, structure = leaves_of(tree, layers or {})
    return jax.tree.unflatten(structure, [float(rate(leaf.param)) for leaf in leaves])


def _partner(param: Param, narrow: Mapping[str, Param]) -> Param:
    """The same parameter of the base model."""
    model = narrow.get(param.path)
    if model is None:
        near = difflib.get_close_matches(param.path, narrow, 1, 0.0) or ["nothing"]
        raise ValueError(f"the base has no {param.path}; the nearest is {near[0]}")
    if len(model.shape) != len(param.shape):
        raise ValueError(
            f"{param.path} has shape {param.shape} and {model.shape} in the base; the "
            "two must have the same axes"
        )
    return model


def _growth(param: Param, model: Param) -> tuple[float, float]:
    """By what factors fan_in and fan_out are larger than in the base model."""
    if len(param.shape) < 2 or param.name in ("bias", "scale"):
        return 1.0, math.prod(param.shape) / math.prod(model.shape)
    known = param.layers.get(param.name)
    fans, shape = fans_of(known, param.shape)
    wide = fans(shape)
    fans, shape = fans_of(model.layers.get(model.name, known), model.shape)
    narrow = fans(shape)
    return wide[0] / narrow[0], wide[1] / narrow[1]


def _std(rule: Rule, param: Param) -> float:
    """The standard deviation that a rule gives."""
    init = rule.line(param).init
    if isinstance(init, Part) and (law := init.law(param.shape)) is not None:
        return law.std
    if not isinstance(init, Initializer) or not init.states_law:
        raise ValueError(
            f"{init!r} for {param.path} states no law, and its standard deviation is "
            "not known; use an initializer of jaxinit"
        )
    return init.law(param.shape).std
