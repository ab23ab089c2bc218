# SPDX-License-Identifier: Apache-2.0
"""Fans: how many numbers meet in one, the only thing a scale needs of a layer.

fan_in is the number of inputs that each output sums over, so that independent
weights of variance 1 / fan_in keep the variance of a signal on its way forward;
fan_out is the number of outputs that each input feeds, and does the same for the
gradient on its way back (He et al. 2015, arXiv:1502.01852, eqs. 10 and 14). A shape
alone does not tell them: it depends on what the layer does with its kernel.
"""

import math
from collections.abc import Callable
from typing import ParamSpec, TypeAlias

from jaxinit.core import checks as check
from jaxinit.core.checks import Axes, Shape
from jaxinit.core.einsum import operands
from jaxinit.core.value import Value, value_factory

P = ParamSpec("P")

# The rule of a kind of layer. It says None where the shape does not tell.
Count: TypeAlias = Callable[[Shape], tuple[float, float | None]]


def _rule(constructor: Callable[P, Count]) -> "Callable[P, Fans]":
    return value_factory(lambda *made: Fans(*made), constructor)  # noqa: PLW0108 (defined below)


class Fans(Value):
    """The fans of one kind of layer, for every scaled initializer's `fans=`.

    fan_in is the number of inputs that each output sums over, fan_out the number of
    outputs that each input feeds. Called with a kernel's shape, a `Fans` counts both.

    Example:
        >>> import jaxinit
        >>> from jaxinit import Fans
        >>> Fans.conv_transpose(strides=2)((4, 4, 64, 16))  # 4·4·64 / 2², 4·4·16
        (256, 256)
        >>> heads = Fans.einsum("bth,hdf->btdf")
        >>> round(jaxinit.he_normal(fans=heads).law((512, 8, 64)).std, 9)  # √(2 / 512)
        0.0625
    """

    __slots__ = ()

    def __call__(self, shape: object) -> tuple[float, float]:
        """(fan_in, fan_out) of a kernel of that shape."""
        return self.fan_in(shape), self.fan_out(shape)

    def fan_in(self, shape: object) -> float:
        """The number of inputs that each output sums over."""
        return self._count(shape)[0]

    def fan_out(self, shape: object) -> float:
        """The number of outputs that each input feeds."""
        fan_out = self._count(shape)[1]
        if fan_out is None:
            raise ValueError(
                f"{self!r} cannot tell fan_out from the shape alone; give kernel_size="
            )
        return fan_out

    def _count(self, shape: object) -> tuple[float, float | None]:
        sizes = check.shape(shape)
        with check.speaker(f"{self!r} for shape {sizes}"):
            count: Count = self._content
            fan_in, fan_out = count(sizes)
            return _whole(fan_in), None if fan_out is None else _whole(fan_out)

    @staticmethod
    @_rule
    def axes(in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()) -> Count:
        """Fans by position, as JAX counts them: the default of every initializer.

        fan_in = receptive field · Π in_axis, fan_out = receptive field · Π out_axis,
        where the receptive field is the size of the kernel over the sizes of all axes
        named: the product of the others. `batch_axis` names the axes that stack
        independent kernels. An axis may be named twice, with JAX's meaning: Flax's own
        default for embeddings, out_axis=0 beside in_axis=-2, has fan_in = features.
        """
        names = ("in_axis", "out_axis", "batch_axis")
        given = [
            check.axes(name, axis)
            for name, axis in zip(names, (in_axis, out_axis, batch_axis), strict=True)
        ]

        def count(shape: Shape) -> tuple[float, float]:
            if len(shape) < 2 and given[0] == -2:
                raise ValueError(
                    f"a kernel of {len(shape)} axes has no input axis -2; give in_axis "
                    "and out_axis, or fans=Fans.explicit(fan_in, fan_out)"
                )
            found = [
                check.axes_of(name, axis, len(shape), distinct=False)
                for name, axis in zip(names, given, strict=True)
            ]
            ins, outs, batch = (math.prod(shape[i] for i in axes) for axes in found)
            named = [axis for axes in found for axis in axes]
            field: float = math.prod(n for i, n in enumerate(shape) if i not in named)
            if len(set(named)) < len(named) and 0 not in shape:
                field = math.prod(shape) / ins / outs / batch  # in JAX's order
            return ins * field, outs * field

        return count

    @staticmethod
    @_rule
    def conv(
        groups: int = 1,
        strides: Axes = 1,
        in_axis: int = -2,
        out_axis: int = -1,
        *,
        input_dilation: Axes = 1,
    ) -> Count:
        """A convolution's kernel, (*window, in / groups, out).

        fan_in = window · in / groups. Each input feeds the outputs of its own group,
        at one position in `strides` along each axis:
        fan_out = window · out / groups / Π strides. A depthwise kernel
        (3, 3, 1, 64) with groups=64 has fans 9 and 9. Other libraries lay it out as
        (out, in / groups, *window): in_axis=1, out_axis=0. Where the inputs are dilated
        an output sees one in `input_dilation` along each axis, and fan_in is divided.
        """
        groups = check.integer("groups", groups, low=1)
        strides = check.factors("strides", strides)
        dilation = check.factors("input_dilation", input_dilation)
        places = [
            check.integer("in_axis", in_axis),
            check.integer("out_axis", out_axis),
        ]

        def count(shape: Shape) -> tuple[float, float]:
            check.rank(shape, 2, why=" (*window, in / groups, out)")
            axes = check.axes_of("in_axis and out_axis", tuple(places), len(shape))
            window = math.prod(n for i, n in enumerate(shape) if i not in axes)
            ins, outs = (shape[i] for i in axes)
            out, dims = (
                check.divides("groups", groups, "the output features", outs),
                len(shape) - 2,
            )
            fan_in = window * ins / _steps(dilation, dims, "input_dilation")
            return fan_in, window * out / _steps(strides, dims)

        return count

    @staticmethod
    @_rule
    def conv_transpose(strides: Axes = 1, transpose_kernel: bool = False) -> Count:
        """A transposed convolution's kernel, (*window, in, out).

        With transpose_kernel=True Flax lays it out as (*window, out, in). Each input
        is spread over a window of outputs, fan_out = window · out; each output sees
        one input in `strides` along each axis, fan_in = window · in / Π strides (on
        average where the strides do not divide the window).
        """
        strides = check.factors("strides", strides)
        transpose_kernel = check.flag("transpose_kernel", transpose_kernel)

        def count(shape: Shape) -> tuple[float, float]:
            check.rank(shape, 2, why=" (*window, in, out)")
            window, pair = math.prod(shape[:-2]), shape[-2:]
            fan_in, fan_out = pair[::-1] if transpose_kernel else pair
            return window * fan_in / _steps(strides, len(shape) - 2), window * fan_out

        return count

    @staticmethod
    @_rule
    def conv_local(
        spatial_dims: int = 2,
        kernel_size: Axes | None = None,
        strides: Axes = 1,
    ) -> Count:
        """An unshared convolution's kernel, (*positions, window · in, out).

        The first `spatial_dims` axes are positions, each with its own kernel:
        fan_in = window · in. fan_out = window · out / Π strides needs `kernel_size`,
        the window, which the shape has merged with the inputs.
        """
        spatial_dims = check.integer("spatial_dims", spatial_dims, low=1)
        strides = check.factors("strides", strides)
        if kernel_size is not None:
            kernel_size = check.factors("kernel_size", kernel_size)

        def count(shape: Shape) -> tuple[float, float | None]:
            check.rank(
                shape, spatial_dims + 2, spatial_dims + 2, " (*positions, in, out)"
            )
            if kernel_size is None:
                return shape[-2], None
            window = _steps(kernel_size, spatial_dims, "kernel_size")
            check.divides("kernel_size", window, "the axis window · in", shape[-2])
            return shape[-2], window * shape[-1] / _steps(strides, spatial_dims)

        return count

    @staticmethod
    @_rule
    def einsum(equation: str) -> Count:
        """The kernel of `einsum(equation, inputs, kernel)`, by its letters.

        Letters of the kernel that the output lacks are summed over and count for
        fan_in; letters that the inputs lack count for fan_out; letters in all three
        stack independent kernels.
        """
        inputs, kernel, output = operands(equation)

        def count(shape: Shape) -> tuple[float, float]:
            check.rank(
                shape, len(kernel), len(kernel), f" (its letters are {kernel!r})"
            )
            sizes = dict(zip(kernel, shape, strict=True))
            return (
                math.prod([n for letter, n in sizes.items() if letter not in output]),
                math.prod([n for letter, n in sizes.items() if letter not in inputs]),
            )

        return count

    @staticmethod
    @_rule
    def dense_general(batch_size: int = 1) -> Count:
        """A DenseGeneral kernel as Flax hands it out: (batch · in, out).

        Flax flattens the kernel to two axes and folds the sizes of `batch_dims`
        (`batch_axis` in NNX) into the first; `batch_size`, their product, divides
        them out: fan_in = in, fan_out = out.
        """
        batch_size = check.integer("batch_size", batch_size, low=1)

        def count(shape: Shape) -> tuple[float, float]:
            check.rank(shape, 2, 2, " (batch · in, out)")
            size = check.divides("batch_size", batch_size, "the first axis", shape[0])
            return size, shape[1]

        return count

    @staticmethod
    @_rule
    def embedding() -> Count:
        """A table of embeddings, (vocabulary, features).

        A look-up takes one row, so each output is one weight: fan_in = 1, and a row
        feeds fan_out = features. Where the table serves as the last layer too
        (logits = x · tableᵀ, each a sum over the features), scale by fan_out.
        """

        def count(shape: Shape) -> tuple[float, float]:
            check.rank(shape, 2, 2, " (vocabulary, features)")
            return 1, shape[1]

        return count

    @staticmethod
    @_rule
    def explicit(fan_in: float, fan_out: float) -> Count:
        """The two numbers themselves, for any shape."""
        fans = (
            check.number("fan_in", fan_in, above=0),
            check.number("fan_out", fan_out, above=0),
        )
        return lambda shape: fans


def _whole(fan: float) -> float:
    return int(fan) if fan == int(fan) else fan


def _steps(strides: Axes, dims: int, name: str = "strides") -> int:
    return math.prod(check.per_axis(name, strides, dims))
