# SPDX-License-Identifier: Apache-2.0
"""Kernels of layers that enlarge images, free of the checkerboard at the start.

An upsampling layer fills each phase of its finer grid from weights of its own. Where
the phases begin unequal, the output has a pattern with the period of the factor, and
training has to unlearn it (Odena, Dumoulin, Olah 2016).
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import Axes, DType, Init, Law, LawOf, Shape, callee, initializer
from jaxinit.core import checks as check
from jaxinit.families.combinators import Callee, with_law
from jaxinit.families.constants import cast_exactly

ORDERS = ("depth_to_space", "pixel_shuffle")


@initializer
def icnr(
    init: Callee, factor: Axes, order: str = "depth_to_space"
) -> tuple[Init, LawOf] | Init:
    """ICNR (Aitken et al. 2017): a sub-pixel convolution that starts as nearest pixels.

    A sub-pixel convolution with a kernel (*window, in, factor^d · out) rearranges its
    channels into `factor` pixels along each of d axes. With W₀ of shape (*window, in,
    out) from `init`, all factor^d kernels of an output channel are copies of one:

        rearrange(conv(x, W)) = nearest(conv(x, W₀)).

    A convolution with groups needs the order "pixel_shuffle", which has the copies of a
    channel side by side, in one group.

    Args:
        init: the initializer of W₀: ours, or any callable (key, shape, dtype).
        factor: the enlargement, one for all axes of the window or one for each.
        order: how the layer rearranges channels. "depth_to_space": TensorFlow's, and
            `einops.rearrange(y, "b h w (i j c) -> b (h i) (w j) c")`, where the copies
            are tiled; "pixel_shuffle": PyTorch's, "(c i j)", where they are repeated.

    Raises:
        ValueError: for a factor below 1 or another order; at the call, for channels
            that the factors do not divide.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> subpixel = jaxinit.icnr(jaxinit.he_normal(), 2)
        >>> w = subpixel(jax.random.key(0), (3, 3, 8, 4 * 16))
        >>> bool(jnp.array_equal(w[..., :16], w[..., 16:32]))
        True

    References:
        Aitken, Ledig, Theis, Caballero, Wang, Shi, "Checkerboard artifact free
        sub-pixel convolution", 2017, arXiv:1707.02937.
    """
    init = callee("init", init)
    factor = check.factors("factor", factor)
    order = check.choice("order", order, ORDERS)

    def base(shape: Shape) -> tuple[Shape, int]:
        """The shape of W₀, and how many copies there are of it."""
        check.rank(shape, 3, 5, " (*window, in, copies · out)")
        copies = math.prod(check.per_axis("factor", factor, len(shape) - 2))
        out = check.divides(
            "the product of the factors", copies, "the output features", shape[-1]
        )
        return (*shape[:-1], out), copies

    def draw(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        small, copies = base(shape)
        w = init(key, small, dtype)
        if order == "depth_to_space":
            return jnp.tile(w, copies)
        return jnp.repeat(w, copies, axis=-1)

    def law(shape: Shape, of: LawOf) -> Law:
        small, _ = base(shape)
        inner = of(small)
        return inner._replace(independent=inner.count(small))

    return with_law(draw, init, law)


@initializer
def bilinear(factor: Axes, dtype: DType = None) -> tuple[Init, LawOf]:
    """Bilinear upsampling (Long et al. 2015): the kernel of a strided ConvTranspose.

    Along each axis of the window, of size k, the weights are the tent

        w(i) = max(0, 1 - |i - (k - 1) / 2| / factor),

    so that the weights of each phase of the output sum to 1 and constants stay
    constants: there is no checkerboard. With a window of 2 factor - factor mod 2
    and strides = factor, `nn.ConvTranspose(padding="SAME")` is
    `jax.image.resize(x, shape, "bilinear")`, but for the border. A channel is
    enlarged on its own: in must equal out, or be 1 (a depthwise kernel). It is linear
    in one dimension and trilinear in three.

    Args:
        factor: the strides of the layer, one for all axes of the window or one for
            each.
        dtype: the default dtype of the calls, float or complex.

    Raises:
        ValueError: for a factor below 1; at the call, for channels that differ, or a
            window smaller than the tent: 2 factor - 1 if odd, 2 factor if even.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> w = jaxinit.bilinear(2)(jax.random.key(0), (4, 1, 1))
        >>> w.ravel().tolist()
        [0.25, 0.75, 0.75, 0.25]

    References:
        Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic
        Segmentation", 2015, arXiv:1411.4038, section 3.3.
    """
    factor = check.factors("factor", factor)

    def tents(shape: Shape) -> list[np.ndarray]:
        check.rank(shape, 3, 5, " (*window, in, out)")
        window, (n, m) = shape[:-2], shape[-2:]
        if n not in (0, 1, m):
            raise ValueError(
                f"each channel is enlarged on its own, so in must be out (or 1, for a "
                f"depthwise kernel), got {n} and {m}; change the number of channels "
                "in another layer"
            )
        each = check.per_axis("factor", factor, len(window))
        return [_tent(k, f) for k, f in zip(window, each, strict=True)]

    def init(shape: Shape, dtype: Any) -> jax.Array:
        kernel = cast_exactly(functools.reduce(np.multiply.outer, tents(shape)), dtype)
        n, m = shape[-2:]
        channels = jnp.eye(m, dtype=dtype) if n == m else jnp.ones((1, m), dtype)
        return kernel[..., None, None] * channels.reshape(*[1] * kernel.ndim, n, m)

    def law(shape: Shape) -> Law:
        every = tents(shape)
        if 0 in shape:
            return Law(0.0, 0.0)
        share = 1 / shape[-2]  # of the channels that a channel is joined to
        mean = share * math.prod(float(tent.mean()) for tent in every)
        square = share * math.prod(float((tent**2).mean()) for tent in every)
        high = math.prod(float(tent.max()) for tent in every)
        low = 0.0 if share < 1 else math.prod(float(tent.min()) for tent in every)
        std = math.sqrt(square - mean**2)
        return Law(mean, std, low, high, zeros=1 - share)

    return init, law


def _tent(k: int, factor: int) -> np.ndarray:
    """Weights in k places, whose sum over places of one phase is 1."""
    if 0 < k < 2 * factor - k % 2:
        raise ValueError(
            f"a window of {k} is too small for factor {factor}; "
            f"use {2 * factor - 1} or {2 * factor}"
        )
    return np.maximum(0, 1 - abs(np.arange(k) - (k - 1) / 2) / factor)
