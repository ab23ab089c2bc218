# SPDX-License-Identifier: Apache-2.0
"""T5's initialisation, as rules: attention without 1/√d, whose queries are small."""

import math

from jaxinit.core import checks as check
from jaxinit.families import normal, uniform_between, variance_scaling
from jaxinit.rules.places import QUERY, Kernel, kernel_beside
from jaxinit.rules.recipe import Choice, recipe
from jaxinit.trees import Line, Param, Rules, Unplaced

__all__ = ["t5"]


def t5(d_kv: int | None = None, code: str = "transformers") -> Rules:
    """T5: every product of unit variance, with no 1/√d in the attention's logits.

    Kernels N(0, 1/fan_in); queries N(0, 1/(fan_in · d_kv)), d_kv the size of a head,
    so that query · key has unit variance; embeddings N(0, 1); scales 1, biases 0. The
    two public codes differ in the rest::

        transformers   relative biases N(0, 1/d), d the width; an untied head N(0, 1)
        t5x            relative biases U with variance 2/(buckets + heads); an untied
                       head as other kernels, which, but for attention's, are
                       truncated at ±2 deviations

    Queries are told by their names (query, q, q_proj, ...), relative biases by a name
    that begins with "rel", the head by `layers=jaxinit.read(...)`.

    Args:
        d_kv: the size of a head; by default the last of the three axes of a query.
        code: "transformers" or "t5x".

    Raises:
        ValueError: for a query of two axes without d_kv, and for query, key and value
            in one kernel.

    Example:
        >>> import jax, jaxinit
        >>> tree = {"kernel": jax.ShapeDtypeStruct((64, 32), "float32")}
        >>> (row,) = jaxinit.describe_tree(tree, jaxinit.rules.t5()).rows
        >>> round(row.std, 6)  # 1 / √64
        0.125

    References:
        C. Raffel et al., "Exploring the limits of transfer learning with a unified
            text-to-text transformer", 2020, arXiv:1910.10683; `T5PreTrainedModel` of
            transformers; T5X, `layers.py` of its minimal example.
    """
    code = check.choice("code", code, ("transformers", "t5x"))
    plain = code == "transformers"

    def kernel(param: Param) -> Choice:
        here = kernel_beside(param)
        assert here is not None  # it is a kernel
        if _is_relative(param):
            return relative(param)
        if here.is_head and plain:
            return Line(normal(1.0), "head")
        shrunk = _size_of_head(here, d_kv) if here.label in QUERY else 1
        _unambiguous(here)
        density = "normal" if plain or here.in_attention else "truncated_normal"
        init = variance_scaling(1 / shrunk, "fan_in", density)
        return Line(init, "query") if here.label in QUERY else init

    def embedding(param: Param) -> Choice:
        return relative(param) if _is_relative(param) else normal(1.0)

    def relative(param: Param) -> Choice:
        if not plain:
            buckets, heads = param.shape[-2:]
            bound = math.sqrt(6 / (buckets + heads))
            return Line(uniform_between(-bound, bound), "relative bias")
        return Line(normal(1 / math.sqrt(_width(param))), "relative bias")

    return recipe("t5", kernel=kernel, embedding=embedding, rel_embedding=relative)


# --- helpers --------------------------------------------------------------------------


def _size_of_head(query: Kernel, d_kv: int | None) -> int:
    if d_kv is not None:
        return d_kv
    if len(query.shape) == 3:
        return query.shape[-1]
    raise Unplaced("t5", query.param, "the size of a head is not known; give d_kv=")


def _unambiguous(kernel: Kernel) -> None:
    """Refuse kernels of attention among which the query cannot be told."""
    paths = kernel.attention
    if kernel.path not in paths:
        return
    labels = [each.label for path in paths if (each := kernel.at(path))]
    if not set(labels) & set(QUERY):
        why = (
            "query, key and value in one" if kernel.gates > 1 else "no name of a query"
        )
        raise Unplaced("t5", kernel.param, f"an attention with {why}")


def _is_relative(param: Param) -> bool:
    return any(part.lower().startswith("rel") for part in param.path.split("/")[-2:])


def _width(param: Param) -> int:
    """The features of the table of tokens."""
    tables = [
        leaf.shape
        for path, leaf in param.tree.items()
        if path != param.path
        and (path.endswith("embedding") or _role(param, path) == "embedding")
        and "rel" not in path
    ]
    if not tables:
        raise Unplaced("t5", param, "no table of tokens tells the width")
    return max(shape[-1] for shape in tables)


def _role(param: Param, path: str) -> str:
    known = param.network.get(path)
    return "" if known is None else known.role
