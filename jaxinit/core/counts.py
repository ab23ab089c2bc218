# SPDX-License-Identifier: Apache-2.0
"""The fans of a kernel, by its axes or by the kind of its layer."""

from jaxinit.core import checks as check
from jaxinit.core.checks import Axes
from jaxinit.core.fans import Fans
from jaxinit.core.value import call_of, is_factory

__all__ = ["compute_fans", "resolve"]


def compute_fans(
    shape: object,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    *,
    fans: Fans | None = None,
) -> tuple[float, float]:
    """(fan_in, fan_out) of a kernel, by its axes or by the kind of its layer.

    Args:
        shape: the kernel's shape.
        in_axis, out_axis, batch_axis: the axes of the inputs, of the outputs, and of
            stacked kernels; all others are the receptive field.
        fans: how this kind of layer counts, instead of the axes.

    Raises:
        ValueError: for axes that overlap or fall outside the shape, or for a shape
            that the kind of layer cannot have.

    Example:
        >>> import jaxinit
        >>> jaxinit.compute_fans((3, 3, 64, 128))
        (576, 1152)
        >>> jaxinit.compute_fans((3, 3, 1, 64), fans=jaxinit.Fans.conv(groups=64))
        (9, 9)
    """
    with check.speaker("compute_fans"):
        return resolve(fans, in_axis, out_axis, batch_axis)(shape)


def resolve(fans: Fans | None, in_axis: Axes, out_axis: Axes, batch_axis: Axes) -> Fans:
    """The one `Fans` of an initializer that takes both axes and `fans`."""
    if fans is None:
        return Fans.axes(in_axis, out_axis, batch_axis)
    if not isinstance(fans, Fans):
        name = getattr(fans, "__qualname__", repr(fans))
        call = f"call it: {call_of(fans)}" if is_factory(fans) else ""
        cure = call or "for example Fans.conv()"
        raise TypeError(f"fans must be a Fans, got {name}; {cure}")
    if (in_axis, out_axis, batch_axis) != (-2, -1, ()):
        raise ValueError("give either fans or in_axis, out_axis and batch_axis")
    return fans
