# SPDX-License-Identifier: Apache-2.0
"""A kernel as the matrix of its inputs and outputs, whatever the order of its axes.

`fans` tell which axes of a kernel are inputs and outputs, which stack kernels, and
which are a window. A family of matrices is drawn as matrices, (inputs, outputs), one
for each place of the stack, and laid out in the kernel's axes.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import Fans, Law, Shape, operands
from jaxinit.core import checks as check

__all__ = ["View", "as_kernels", "view"]


class View(NamedTuple):
    """The axes of a kernel by their meaning, in its shape with fused axes split."""

    sizes: Shape
    batch: tuple[int, ...]  # stacks independent kernels
    window: tuple[int, ...]
    ins: tuple[int, ...]
    outs: tuple[int, ...]

    def kernel(self, window: bool) -> Shape:
        """The shape of one kernel, (inputs, outputs), with its window or in one."""
        n, m = (math.prod(self.sizes[i] for i in axes) for axes in self[3:])
        taps = [self.sizes[i] for i in self.window]
        return (*taps, n, m) if window else (math.prod(taps) * n, m)

    @property
    def copies(self) -> int:
        """The number of kernels."""
        return math.prod(self.sizes[i] for i in self.batch)

    def layout(self, kernels: jax.Array, shape: Shape) -> jax.Array:
        """Kernels, one after the other, in the axes of the whole."""
        order = (*self.batch, *self.window, *self.ins, *self.outs)
        apart = kernels.reshape([self.sizes[i] for i in order])
        return apart.transpose(np.argsort(order)).reshape(shape)


def view(fans: Fans, shape: Shape) -> View:
    """What the axes of a kernel of that shape mean, by the kind of its layer.

    A kind that does not say (`Fans.explicit`) has its inputs and outputs last.
    """
    with check.speaker(f"{fans!r} for shape {shape}"):
        fans.fan_in(shape)  # refuses what no such kernel is
        given, ndim = fans.arguments, len(shape)
        sizes, batch = shape, tuple[int, ...]()
        ins: tuple[int, ...] = (ndim - 2,)
        outs: tuple[int, ...] = (ndim - 1,)
        match fans.name.partition(".")[2]:
            case "axes":
                batch, ins, outs = (
                    check.axes_of(name, given[name], ndim)
                    for name in ("batch_axis", "in_axis", "out_axis")
                )
            case "conv":
                ins, outs = (
                    check.axes_of(name, given[name], ndim)
                    for name in ("in_axis", "out_axis")
                )
                if (groups := given["groups"]) > 1:
                    (out,) = outs
                    size = shape[out] // groups
                    sizes = (*shape[:out], groups, size, *shape[out + 1 :])
                    ins = tuple(i + (i > out) for i in ins)
                    batch, outs = (out,), (out + 1,)
            case "conv_transpose" if given["transpose_kernel"]:
                ins, outs = outs, ins
            case "conv_local":
                batch = tuple(range(ndim - 2))
            case "einsum":
                inputs, kernel, output = operands(given["equation"])
                ins, outs = (
                    tuple(i for i, letter in enumerate(kernel) if letter not in others)
                    for others in (output, inputs)
                )
                batch = tuple(i for i in range(ndim) if i not in (*ins, *outs))
            case "dense_general" if given["batch_size"] > 1:
                count = given["batch_size"]
                sizes = (count, shape[0] // count, shape[1])
                batch, ins, outs = (0,), (1,), (2,)
        named = (*batch, *ins, *outs)
        if len(set(named)) < len(named):
            raise ValueError("an axis has two meanings, and a matrix needs them apart")
        window = tuple(i for i in range(len(sizes)) if i not in named)
        return View(sizes, batch, window, ins, outs)


def as_kernels(
    fans: Fans | None,
    init: Callable[..., jax.Array],
    law: Callable[[Shape], Law],
    *,
    window: bool = False,
) -> tuple[Callable[..., jax.Array], Callable[[Shape], Law]]:
    """A family of matrices, or of kernels with a window, for kernels with such fans."""
    if fans is None:
        return init, law
    if not isinstance(fans, Fans):
        raise TypeError(f"fans must be a Fans, got {fans!r}; for example Fans.conv()")
    look = functools.partial(view, fans)

    def draw(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        seen = look(shape)
        kernel = seen.kernel(window)
        if not seen.batch:
            return seen.layout(init(key, kernel, dtype), shape)
        keys = jax.random.split(key, seen.copies)
        return seen.layout(jax.vmap(lambda k: init(k, kernel, dtype))(keys), shape)

    def constant(shape: Shape, dtype: Any) -> jax.Array:
        seen = look(shape)
        one = init(seen.kernel(window), dtype)
        return seen.layout(jnp.broadcast_to(one, (seen.copies, *one.shape)), shape)

    def whole_law(shape: Shape) -> Law:
        seen = look(shape)
        one = law(seen.kernel(window))
        if one.independent is None:
            return one
        return one._replace(independent=seen.copies * one.independent)

    keyless = len(inspect.signature(init).parameters) == 2
    return constant if keyless else draw, whole_law
