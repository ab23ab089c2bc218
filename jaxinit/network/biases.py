# SPDX-License-Identifier: Apache-2.0
"""The biases that are added to a kernel's output."""

from collections.abc import Sequence
from typing import Any

from jaxinit.network.nodes import Node
from jaxinit.network.uses import Use
from jaxinit.network.views import View

__all__ = ["biased"]


def biased(uses: Sequence[Use], k: int) -> tuple[Node, View, list[Use]]:
    """A use's output with its biases, what it holds of the use, and the biases."""
    out = uses[k].out
    assert out is not None
    node = _with_bias(out)
    view = next((view for n, view in node.parts if n == k), None)
    if view is None:
        node = out
        view = next(view for n, view in node.parts if n == k)
    biases = [
        u
        for u in uses
        if u.to is node and u.role == "bias" and _is_beside(u.view, view)
    ]
    return node, view, biases


def _with_bias(out: Any) -> Any:
    """The node of a kernel's output with its bias, if it has one right behind it."""
    node = out
    while True:
        direct = [each for each in node.consumers if each.direct and not each.kind]
        if len(direct) != 1 or len(node.consumers) > 1:
            return out
        (node,) = direct
        if len(node.data) < len(node.operands) and node.name in ("add", "add_any"):
            return node


def _is_beside(bias: Any, view: Any) -> bool:
    """Whether a bias is added to what a view holds, and to nothing beside it."""
    shift = len(view.shape) - len(bias.shape)
    return all(
        bias.spans(axis) == view.spans(axis + shift)
        for axis in bias.units
        if bias.shape[axis] > 1
    )
