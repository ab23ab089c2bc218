# SPDX-License-Identifier: Apache-2.0
"""What a layer knows of its kernel: its fans, its stack of copies, its fused parts."""

from dataclasses import dataclass
from typing import Any

from jaxinit._checks import Shape
from jaxinit._combinators import blocks, stacked
from jaxinit._fans import Fans
from jaxinit._initializer import Initializer

__all__ = ["Layer", "general"]


@dataclass(frozen=True)
class Layer:
    """How one kernel is used.

    Attributes:
        fans: how many inputs and outputs it connects, counted on the kernel itself.
        stack: the axis along which a scanned or mapped layer stacks its copies.
        parts: how many equal kernels lie side by side along the last axis, as the
            gates of an LSTM do.
    """

    fans: Fans
    stack: int | None = None
    parts: int = 1

    def kernel(self, shape: Shape) -> Shape:
        """The shape of one kernel of a parameter."""
        sizes = list(shape)
        if self.stack is not None:
            del sizes[self.stack]
        sizes[-1] //= self.parts
        return tuple(sizes)

    def drawn_by(self, init: Any) -> Any:
        """`init` with these fans, drawn copy by copy and part by part."""
        init = _with_fans(init, self.fans)
        if self.parts > 1:
            init = blocks(init, self.parts)
        return init if self.stack is None else stacked(init, self.stack)


def general(ndim: int, batch: int, out: int) -> Fans:
    """The fans of a general dense kernel (*batch, *in, *out) of `ndim` axes."""
    axes = range(ndim)
    return Fans.axes(
        tuple(axes[batch : ndim - out]), tuple(axes[ndim - out :]), tuple(axes[:batch])
    )


def _with_fans(init: Any, fans: Fans) -> Any:
    """`init` with the fans where it takes some and was given none."""
    if not isinstance(init, Initializer):
        return init
    given = init.arguments
    if "fans" in given:
        axes = (given["in_axis"], given["out_axis"], given["batch_axis"])
        if given["fans"] is not None or axes != (-2, -1, ()):
            return init
        return init.replace(fans=fans)
    if "init" in given:
        return init.replace(init=_with_fans(given["init"], fans))
    return init
