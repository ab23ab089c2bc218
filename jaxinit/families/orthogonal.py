# SPDX-License-Identifier: Apache-2.0
"""Orthogonal matrices, drawn from Haar measure, and convolutions made of them."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import Axes, DType, Fans, Init, Law, LawOf, Real, Shape, initializer
from jaxinit.core import checks as check
from jaxinit.families.views import as_kernels
from jaxinit.samplers import cast, haar, stiefel

METHODS = ("householder", "qr")


@initializer
def orthogonal(
    scale: Real = 1.0,
    column_axis: int = -1,
    dtype: DType = None,
    *,
    batch_axis: Axes = (),
    method: str = "householder",
    fans: Fans | None = None,
) -> tuple[Init, LawOf]:
    """JAX's orthogonal (Saxe 2014): a matrix W of Haar measure, with Wᵀ W = scale² I.

    The kernel is read as a matrix with `column_axis` as its columns and all other
    axes (but the batch axes) as its rows. A tall or square matrix has orthonormal
    columns times scale, a wide one orthonormal rows, W Wᵀ = scale² I; no direction
    is preferred. Complex matrices are unitary, Wᴴ W = scale² I. An entry has mean 0
    and standard deviation scale / √max(rows, columns). The norm of x W is kept where
    the matrix does not shrink: E |x W|² = scale² · min(1, columns / rows) · |x|².

    The numbers are not JAX's: the same distribution comes from Householder
    reflectors in closed form. `method="qr"` gives JAX's numbers.

    Args:
        scale: the singular values.
        column_axis: the axis of the columns, the output features.
        dtype: the default dtype of the calls, float or complex; narrow floats are
            computed in float32 and rounded.
        batch_axis: axes that stack independent matrices.
        method: "householder" or "qr".
        fans: instead of the axes, how the layer counts: its inputs, all of them, are
            the rows and its outputs the columns; a matrix for each group and stack.

    Raises:
        ValueError: at the call, for a shape with fewer than two axes besides the
            batch axes, or for axes that overlap or fall outside it.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> w = jaxinit.orthogonal()(jax.random.key(0), (64, 32))
        >>> bool(jnp.allclose(w.T @ w, jnp.eye(32), atol=1e-5))
        True

    References:
        Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of
        learning in deep linear neural networks", 2014, arXiv:1312.6120; Mezzadri,
        "How to generate random matrices from the classical compact groups", 2007,
        arXiv:math-ph/0609050.
    """
    scale = check.number("scale", scale)
    column_axis = check.integer("column_axis", column_axis)
    batch_axis = check.axes("batch_axis", batch_axis)
    method = check.choice("method", method, METHODS)
    _either(fans, column_axis, batch_axis)

    def layout(shape: Shape) -> tuple[tuple[int, ...], Shape, int, int]:
        """The axes in the order (batch, rows, column), and the sizes of the three."""
        (column,) = check.axes_of("column_axis", column_axis, len(shape))
        batch = check.axes_of("batch_axis", batch_axis, len(shape))
        if column in batch:
            raise ValueError(f"column_axis and batch_axis share axis {column}")
        check.rank(shape, 2 + len(batch), why=" (rows, columns and the batch axes)")
        rows = [axis for axis in range(len(shape)) if axis not in (*batch, column)]
        sizes = tuple(shape[axis] for axis in batch)
        n = math.prod([shape[axis] for axis in rows])
        return (*batch, *rows, column), sizes, n, shape[column]

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        order, batch, n, m = layout(shape)
        if method == "qr":
            q = jax.random.orthogonal(key, n, batch, dtype, m)
        else:
            q = haar(key, batch, n, m, dtype)
        q = q.reshape([shape[axis] for axis in order])
        return cast(scale, dtype) * q.transpose(np.argsort(order))

    def law(shape: Shape) -> Law:
        _, batch, n, m = layout(shape)
        std = abs(scale) / math.sqrt(max(n, m, 1))
        independent = math.prod(batch) * stiefel(n, m)
        return Law(0.0, std, -abs(scale), abs(scale), independent=independent)

    return as_kernels(fans, init, law)


@initializer
def delta_orthogonal(
    scale: Real = 1.0,
    column_axis: int = -1,
    dtype: DType = None,
    *,
    batch_axis: Axes = (),
    method: str = "householder",
    fans: Fans | None = None,
) -> tuple[Init, LawOf]:
    """JAX's delta-orthogonal (Xiao 2018): one orthogonal matrix, at the centre tap.

    A kernel (*window, in, out) is zero but for the window's centre, index
    (k - 1) // 2, which holds a Haar matrix H of (in, out) times scale. With circular
    padding the layer then acts on each position alone:

    - in <= out: H Hᵀ = I, and |conv(x)| = scale · |x| exactly;
    - in > out (refused by JAX): Hᵀ H = I. The layer projects, |conv(x)| <= scale ·
      |x| with E |conv(x)|² = scale² · out / in · |x|², and it is the gradient whose
      norm is kept exactly on its way back.

    Args:
        scale: the singular values of the centre.
        column_axis: the axis of the output features, -1 or -2 of the kernel.
        dtype: the default dtype of the calls, float or complex.
        batch_axis: axes that stack independent kernels.
        method: "householder", or "qr" for JAX's numbers.
        fans: instead of the axes, how the layer counts: groups are drawn one by one,
            and a transposed kernel is one of its inputs and outputs.

    Raises:
        ValueError: at the call, for a kernel with fewer than three or more than five
            axes besides the batch axes.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> w = jaxinit.delta_orthogonal()(jax.random.key(0), (3, 3, 8, 16))
        >>> bool(jnp.allclose(w[1, 1] @ w[1, 1].T, jnp.eye(8), atol=1e-5))
        True
        >>> int((abs(w).max(axis=(2, 3)) > 0).sum())
        1

    References:
        Xiao, Bahri, Sohl-Dickstein, Schoenholz, Pennington, "Dynamical Isometry and a
        Mean Field Theory of CNNs", 2018, arXiv:1806.05393, algorithm 2.
    """
    centre_of = orthogonal(scale, column_axis, method=method)
    if column_axis not in (-1, -2):
        raise ValueError(
            f"column_axis must be -1 or -2 of (*window, in, out), got {column_axis}"
        )
    batch_axis = check.axes("batch_axis", batch_axis)
    _either(fans, column_axis, batch_axis)

    def split(shape: Shape) -> tuple[tuple[int, ...], Shape, Shape]:
        """The batch axes, their sizes, and the shape of one kernel."""
        batch = check.axes_of("batch_axis", batch_axis, len(shape))
        kernel = tuple(n for axis, n in enumerate(shape) if axis not in batch)
        check.rank(kernel, 3, 5, " (*window, in, out) besides the batch axes")
        return batch, tuple(shape[axis] for axis in batch), kernel

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        batch, sizes, kernel = split(shape)
        stack = orthogonal(
            scale, column_axis, batch_axis=tuple(range(len(sizes))), method=method
        )
        h = stack(key, (*sizes, *kernel[-2:]), dtype)
        around = [((k - 1) // 2, k // 2) for k in kernel[:-2]]
        h = h.reshape(*sizes, *(1 for _ in around), *kernel[-2:])
        w = jnp.pad(h, [(0, 0)] * len(sizes) + around + [(0, 0)] * 2)
        return jnp.moveaxis(w, range(len(sizes)), batch)

    def law(shape: Shape) -> Law:
        _, sizes, kernel = split(shape)
        centre, taps = centre_of.law(kernel[-2:]), math.prod(kernel[:-2]) or 1
        return centre._replace(
            std=centre.std / math.sqrt(taps),
            independent=math.prod(sizes) * centre.count(kernel[-2:]),
            zeros=1 - 1 / taps,
        )

    return as_kernels(fans, init, law, window=True)


def _either(fans: Fans | None, column_axis: int, batch_axis: Axes) -> None:
    if fans is not None and (column_axis, batch_axis) != (-1, ()):
        raise ValueError("give either fans or column_axis and batch_axis")
