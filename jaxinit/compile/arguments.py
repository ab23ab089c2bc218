# SPDX-License-Identifier: Apache-2.0
"""The arguments and the outputs of `jit_init`: their names, where the outputs go."""

from typing import Any

import jax

__all__ = ["Refusal", "leaves_by_name", "shardings"]


class Refusal(TypeError):
    """What is the matter with the user's function, and not with our reading of it."""


def shardings(out_info: Any, out_shardings: Any) -> list[Any]:
    """The sharding of each output, or None."""
    if out_shardings is None:
        return [None] * len(jax.tree.leaves(out_info))
    if callable(out_shardings):  # for `jaxinit.nnx`, where the output tells
        out_shardings = out_shardings(out_info)
    try:
        whole = jax.tree.broadcast(
            out_shardings, out_info, is_leaf=lambda each: each is None
        )
    except ValueError as error:
        raise ValueError(
            f"jit_init: out_shardings must be a prefix of the output's tree: {error}"
        ) from error
    leaves = jax.tree.leaves(whole, is_leaf=lambda each: each is None)
    for (name, info), sharding in zip(leaves_by_name(out_info), leaves, strict=True):
        if isinstance(sharding, jax.sharding.Sharding):
            try:
                sharding.shard_shape(info.shape)
            except ValueError as error:
                raise ValueError(
                    f"jit_init: output {name} of shape {info.shape} cannot be placed "
                    f"as {sharding}: {error}"
                ) from error
    return leaves


def leaves_by_name(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree.leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]
