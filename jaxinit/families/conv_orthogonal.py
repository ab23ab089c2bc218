# SPDX-License-Identifier: Apache-2.0
"""Convolutions that keep the energy of every image, with all their taps.

Under circular padding a kernel w acts on the frequency θ by the matrix
W(θ) = Σ_t w[t] e^(i θ·t), and keeps all norms just when W Wᴴ = I at every θ. With an
orthogonal projection P, the kernel of two taps (P, I - P) does: P (I - P) = 0 leaves

    (P + (I - P) e^(iθ)) (P + (I - P) e^(-iθ)) = P + (I - P) = I,

and so does any product of such factors, along any axes: a product of matrices at each
frequency is a convolution of kernels, and each factor widens the window by one.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxinit.core import DType, Fans, Init, Law, LawOf, Real, Shape, initializer
from jaxinit.core import checks as check
from jaxinit.families.views import as_kernels
from jaxinit.samplers import cast, haar, stiefel

_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


@initializer
def conv_orthogonal(
    scale: Real = 1.0, dtype: DType = None, *, fans: Fans | None = None
) -> tuple[Init, LawOf]:
    """Orthogonal convolutions (Xiao et al. 2018) in 1-D, 2-D, 3-D, all taps at work.

    A kernel (*window, in, out) is scale · H Π (P, I - P): a Haar matrix H of (in, out),
    convolved with kernels of two taps, k - 1 of them along each axis of the window, in
    turn. The P are independent projections on uniformly distributed subspaces, of
    dimension ⌊out / 2⌋ (random in the reference code, out / 2 in the mean). With
    circular padding

    - in <= out: |conv(x)| = scale · |x| exactly, for every x;
    - in > out (refused by the reference code): the kernel is the adjoint of such a
      one, and it is the gradient whose norm is kept exactly on its way back.

    An entry has mean 0 and standard deviation scale / √(taps · max(in, out)).
    `delta_orthogonal` is the same with one tap; a reshaped `orthogonal` matrix keeps
    the energy of white noise alone. For a convolution with groups write
    `blocks(conv_orthogonal(), groups)`: each group keeps its energy.

    Args:
        scale: the singular values of the layer.
        dtype: the default dtype of the calls, float or complex.
        fans: how the layer counts: a kernel is then one of its inputs and outputs,
            and each group and stack has its own.

    Raises:
        ValueError: at the call, for a shape with fewer than three or more than five
            axes.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> w = jaxinit.conv_orthogonal()(jax.random.key(0), (3, 3, 8, 16))
        >>> taps = w.sum((0, 1))  # W at frequency 0
        >>> bool(jnp.allclose(taps @ taps.T, jnp.eye(8), atol=1e-5))
        True

    References:
        Xiao, Bahri, Sohl-Dickstein, Schoenholz, Pennington, "Dynamical Isometry and a
        Mean Field Theory of CNNs", 2018, arXiv:1806.05393, algorithm 1; Kautsky,
        Turcajová, "A matrix approach to discrete wavelets", 1994 (the factors).
    """
    scale = check.number("scale", scale)

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        *window, n, m = shape
        if n > m:
            return init(key, (*window, m, n), dtype).swapaxes(-1, -2)
        axes = [a for i in range(1, max(window)) for a, k in enumerate(window) if i < k]
        key_h, key_u = jax.random.split(key)
        w = haar(key_h, (), n, m, dtype).reshape(*[1] * len(window), n, m)
        subspaces = haar(key_u, (len(axes),), m, m // 2, dtype)
        for axis, u in zip(axes, subspaces, strict=True):  # P = u uᴴ
            inside = _matmul(_matmul(w, u), jnp.conj(u.T))
            later = [(int(a == axis), 0) for a in range(w.ndim)]
            sooner = [after[::-1] for after in later]
            w = jnp.pad(inside, sooner) + jnp.pad(w - inside, later)
        return cast(scale, dtype) * w

    def law(shape: Shape) -> Law:
        check.rank(shape, 3, 5, " (*window, in, out)")
        entries = math.prod(shape[:-2]) * max(shape[-2:])
        std = abs(scale) / math.sqrt(entries or 1)
        return Law(0.0, std, -abs(scale), abs(scale), independent=stiefel(*shape[-2:]))

    return as_kernels(fans, init, law, window=True)
