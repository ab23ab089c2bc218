# SPDX-License-Identifier: Apache-2.0
"""A kernel's place in its model: its layer's kind, its neighbours, the way it ends.

The reading tells them where there is one: attention is a kernel of the product of what
others give, an MLP a kernel of an activation of another's, a head gives the output.
Names of layers, Flax's and the usual ones, tell them where there is none.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from jaxinit.core import Fans, Shape
from jaxinit.network import Parameter
from jaxinit.trees import Param, Unplaced

__all__ = [
    "KEY",
    "QUERY",
    "VALUE",
    "Kernel",
    "additions",
    "gives_output",
    "kernel_beside",
    "output_norm",
    "stream_width",
]

QUERY = ("query", "q", "q_proj", "wq", "w_q", "to_q")
KEY = ("key", "k", "k_proj", "wk", "w_k", "to_k")
VALUE = ("value", "v", "v_proj", "wv", "w_v", "to_v")
ATTENTION = (*QUERY, *KEY, *VALUE, "qkv", "o", "out", "o_proj", "out_proj")
GENERIC = ("kernel", "weight", "w", "embedding", "bias", "b")


@dataclass(frozen=True)
class Kernel:
    """One kernel of a stack, fused parts together, and what is known of it."""

    path: str
    shape: Shape
    known: Parameter | None
    param: Param  # it, or its bias

    @property
    def label(self) -> str:
        """The layer's name; the parameter's own where that says more."""
        *above, name = self.path.split("/")
        return above[-1] if above and name in GENERIC else name

    @property
    def gates(self) -> int:
        """How many kernels are fused in it."""
        return self.known.parts.count if self.known and self.known.parts else 1

    @property
    def fans(self) -> tuple[float, float]:
        """The fans of one part, as the network uses it."""
        if self.known is None or self.known.fans is None:
            return Fans.axes()(self.shape)
        return self.known.fans(self.known.kernel(self._whole))

    @property
    def axes(self) -> tuple[int, int, int]:
        """Inputs, outputs and window by the sizes of the axes, whatever the layer does.

        As the reading has them; without one (*window, inputs, outputs), but for Flax's
        attention.
        """
        known = self.known
        if known is not None and known.inputs:
            ins, outs, window = (
                math.prod(self._whole[i] for i in axes)
                for axes in (known.inputs, known.outputs, known.window)
            )
            return ins, outs, window
        *field, n_in, n_out = self.shape
        if self._attention_by_name():
            if self.label == "out":
                return math.prod((*field, n_in)), n_out, 1
            return self.shape[0], math.prod(self.shape[1:]), 1
        return n_in, n_out, math.prod(field)

    @property
    def is_conv(self) -> bool:
        """Whether it is a convolution's, which has at least three axes."""
        if self.known is None:
            return len(self.shape) > 2 and self.label not in ATTENTION
        return self.known.primitive == "conv_general_dilated"

    @property
    def is_transposed(self) -> bool:
        """Whether it is a transposed convolution's."""
        dilated = self.known is not None and math.prod(self.known.dilation) > 1
        return dilated or "convtranspose" in self.label.lower()

    @property
    def is_head(self) -> bool:
        """Whether it gives the model's output; False without a reading."""
        known = self.known
        return (
            known is not None
            and known.role == "kernel"
            and known.branch is None
            and "output" in known.before
        )

    @property
    def attention(self) -> tuple[str, ...]:
        """The paths of query, key and value of its attention; empty for another kernel.

        One path where they are fused, and in the order of execution where their names
        do not tell them apart. The kernel is one of them, or the one behind.
        """
        if self.known is None:
            return self._attention_by_name()
        network = self.param.network
        if own := _attention_kernels(self.known, network):
            return own
        for end in network.values():
            if end.after is not None and self.path in end.after.layers:
                found = _attention_kernels(end, network)
                if self.path in found:
                    return found
        return ()

    @property
    def in_attention(self) -> bool:
        """Whether it is one of an attention's, or behind one, or named so."""
        return bool(self.attention) or (self.known is None and self.label in ATTENTION)

    @property
    def is_mlp(self) -> bool:
        """Whether it leads to an activation that another kernel takes, or away."""
        if self.known is None:
            return len(self.shape) == 2 and self.label not in ATTENTION
        network = self.param.network
        behind = (network.get(path) for path in self.known.before)
        return _is_second(self.known) or any(
            each is not None
            and _is_second(each)
            and each.after is not None
            and self.path in each.after.layers
            for each in behind
        )

    def at(self, path: str) -> "Kernel | None":
        """Another kernel of the model."""
        leaf = self.param.tree.get(path)
        return None if leaf is None else _kernel(self.param, path, leaf)

    def _attention_by_name(self) -> tuple[str, ...]:
        above, _, name = self.path.rpartition("/")
        above, _, label = above.rpartition("/")
        if len(self.shape) != 3 or label not in ("query", "key", "value", "out"):
            return ()
        stem = f"{above}/" if above else ""
        paths = (f"{stem}{each}/{name}" for each in ("query", "key", "value"))
        return tuple(path for path in paths if path in self.param.tree)

    @property
    def _whole(self) -> Shape:
        return self.param.tree[self.path].shape


def kernel_beside(param: Param) -> Kernel | None:
    """The kernel that a parameter is, or that its bias is of; None for another's."""
    known = param.layers.get(param.name)
    if param.name == "kernel" or (known is not None and known.role == "kernel"):
        return _kernel(param, param.path, param.siblings[param.name])
    above = param.path.removesuffix(param.name)
    if "kernel" in param.siblings:
        return _kernel(param, f"{above}kernel", param.siblings["kernel"])
    path = _before(param)
    return None if path is None else _kernel(param, path, param.tree[path])


def additions(who: str, param: Param, layers: int | None) -> int:
    """How many branches the residual stream takes up: two a block, or as read."""
    if layers is not None:
        return 2 * layers
    branches = (each.branch for each in param.network.values())
    of = max((branch.of for branch in branches if branch), default=0)
    if of:
        return of
    raise Unplaced(
        who,
        param,
        "the network has no residual branches; give residual= with the names of the "
        "kernels that end them, and layers="
        if param.network
        else "which kernels end a residual branch is not known; pass layers="
        "jaxinit.read(model, batch), or residual= with their names and layers=",
    )


def stream_width(who: str, param: Param) -> int:
    """The width of the residual stream: what the kernels that end branches give."""
    widths = {
        math.prod(each.shape[axis] for axis in each.outputs)
        for each in param.network.values()
        if each.branch
    }
    if len(widths) == 1:
        return widths.pop()
    raise Unplaced(
        who,
        param,
        f"the residual stream has the widths {sorted(widths)}; give width="
        if widths
        else "the width of the residual stream is not known; pass layers="
        "jaxinit.read(model, batch), or width=",
    )


def gives_output(who: str, kernel: Kernel | None, head: Any) -> bool:
    """Whether a kernel is the head as it is read, unless patterns name the head."""
    if head is not None or kernel is None:
        return False
    if not kernel.param.network:
        raise Unplaced(
            who,
            kernel.param,
            "which kernel gives the output is not known; pass layers="
            "jaxinit.read(model, batch), or its name as head=, [] where there is none",
        )
    return kernel.is_head


def output_norm(param: Param) -> bool:
    """Whether a scale is of the normalisation behind the last kernel of a branch.

    Before the addition, that is: where a normalisation stands between the additions and
    the kernels that come after them, it is of the next branch.
    """
    network = param.network
    ends = {path for path, each in network.items() if each.branch is not None}
    afters = (each.after for each in network.values())
    if any(each and each.normalised and ends & set(each.layers) for each in afters):
        return False
    last = None
    for path, each in network.items():
        if path == param.path:
            return last is not None and last.branch is not None and last.invariant
        if each.role == "kernel":
            last = each
    return False


# --- helpers --------------------------------------------------------------------------


def _kernel(param: Param, path: str, leaf: jax.ShapeDtypeStruct) -> Kernel:
    known = param.network.get(path)
    stack = () if known is None else known.stack
    shape = tuple(n for i, n in enumerate(leaf.shape) if i not in stack)
    return Kernel(path, shape, known, param)


def _before(param: Param) -> str | None:
    """The last kernel in the order of execution, unless a scale stands between."""
    found = None
    for path, each in param.network.items():
        if path == param.path:
            return found
        if each.role == "kernel":
            found = path
        elif each.role in ("scale", "embedding", "token"):
            found = None
    return None


def _attention_kernels(
    end: Parameter, network: Mapping[str, Parameter]
) -> tuple[str, ...]:
    """The three kernels, or the fused one, whose product a kernel takes."""
    if end.role != "kernel" or end.after is None or end.after.kinds != ("contraction",):
        return ()
    kernels = [
        each
        for path in end.after.layers
        if (each := network.get(path)) is not None and each.role == "kernel"
    ]
    fused = len(kernels) == 1 and kernels[0].parts is not None
    return tuple(each.path for each in kernels) if len(kernels) == 3 or fused else ()


def _is_second(known: Parameter) -> bool:
    """Whether a kernel takes the activation of what another gives."""
    after = known.after
    return (
        known.role == "kernel"
        and after is not None
        and set(after.kinds) == {"use"}
        and after.name != "identity"
    )
