# SPDX-License-Identifier: Apache-2.0
"""The pass of a Flax Linen model over a batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from flax.core import FrozenDict, freeze

from jaxinit.network.passes import Pass, arrays_of, flat, is_float

__all__ = ["pass_of"]


def pass_of(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Pass:
    """The pass `model.apply(*args, **kwargs)`; the variables come first."""
    variables, *batch = args or ({},)
    if not isinstance(variables, Mapping) or "params" not in variables:
        got = f"{sorted(variables)}" if isinstance(variables, Mapping) else ""
        raise TypeError(
            "a Linen model comes with its variables, a dict that has 'params', got "
            f"{got or type(variables).__name__}; pass what model.init(key, batch) "
            "returned, or its shapes, then the batch"
        )
    leaves, structure = jax.tree.flatten(variables["params"])
    _, _, paths = flat(nn.unbox(variables["params"]))
    rest = {name: each for name, each in variables.items() if name != "params"}
    others, of_rest = jax.tree.flatten(rest)
    arrays, rebuilt = arrays_of((batch, {"mutable": list(rest), **kwargs}))

    def variables_of(leaves: Sequence[Any], others: Sequence[Any]) -> Any:
        params = jax.tree.unflatten(structure, leaves)
        return {**jax.tree.unflatten(of_rest, others), "params": params}

    def run(leaves: Sequence[Any], arrays: Sequence[Any]) -> Any:
        others_, arrays = arrays[: len(others)], arrays[len(others) :]
        batch, named = rebuilt(arrays)
        out = model.apply(variables_of(leaves, others_), *batch, **named)
        return out[0] if named["mutable"] is not False else out

    def rebuild(leaves: Sequence[Any]) -> Any:
        new = {**variables, "params": jax.tree.unflatten(structure, leaves)}
        return freeze(new) if isinstance(variables, FrozenDict) else new

    return Pass(
        run,
        leaves,
        structure,
        [f"params/{path}" for path in paths],
        frozenset(i for i, x in enumerate(leaves) if not is_float(x)),
        [*others, *arrays],
        frozenset(range(len(others))),
        type(model).__name__,
        rebuild,
    )
