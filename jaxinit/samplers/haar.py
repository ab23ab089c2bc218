# SPDX-License-Identifier: Apache-2.0
"""Random orthogonal and unitary matrices without a QR decomposition.

**The reflectors of a Gaussian matrix are independent.** Let G be n x m, n >= m, with
independent standard normal entries (real or complex). Householder's QR maps the first
column x to a multiple of e₁ by the reflection H₁ = I - 2 v vᴴ / |v|² with

    v = x / |x| + s e₁,        s = x₁ / |x₁|,        H₁ x = -s |x| e₁.

H₁ depends on x alone and G's law does not change under rotation, so what H₁ leaves of
the other columns is again Gaussian and independent of x. By induction the k-th
reflector is that of a fresh Gaussian vector on the coordinates k, ..., n, and

    Q = H₁ H₂ ⋯ Hₘ E D,        E = the first m columns of I,    D = diag(-s₁, ..., -sₘ)

is the factor Q of G = Q R, where D makes the diagonal of R positive. That factor has
Haar's law: W G is distributed as G for every unitary W, and it factorises uniquely into
W Q and R. So we draw the vectors, and no decomposition is needed (Stewart).

**Their product has a closed form.** With the vectors as the columns of V (n x b, zero
above the diagonal),

    H₁ H₂ ⋯ H_b = I - V T Vᴴ,        T⁻¹ = S,    S + Sᴴ = Vᴴ V,    S upper triangular:

S is the strict upper triangle of Vᴴ V plus half of its diagonal (Puglisi; Joffrain et
al.). The product is unitary for any V, by the identity for S + Sᴴ.

**By panels.** One panel of all m columns costs 2 n m² multiplications, and up to half
as many more for T. We take panels of equal width, √(30 m), and apply them to E D from
the last to the first. A panel then meets only the rows and columns from its own first
on, for the rest is still E D, and there its own columns are known:

    Q ← [D 0; 0 Q] - V T [V₁ᴴ D, V₂ᴴ Q],    V = [V₁; V₂],  V₁ square.

For m = n = 4096 the work falls to 0.8 n³, nearly all of it in matrix products. T is the
inverse of S by halves, so that nothing but matrix products is left, on any device:
[A C; 0 B]⁻¹ = [A⁻¹ X; 0 B⁻¹] with X = -A⁻¹ C B⁻¹.

References:
    G. W. Stewart, "The efficient generation of random orthogonal matrices with an
        application to condition estimators", SIAM J. Numer. Anal. 17, 1980, section 3.
    F. Mezzadri, "How to generate random matrices from the classical compact groups",
        Notices of the AMS 54, 2007, arXiv:math-ph/0609050, section 5.
    C. Puglisi, "Modification of the Householder method based on the compact WY
        representation", SIAM J. Sci. Stat. Comput. 13, 1992.
    T. Joffrain, T. M. Low, E. S. Quintana-Ortí, R. van de Geijn, F. G. Van Zee,
        "Accumulating Householder transformations, revisited", ACM TOMS 32, 2006.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["haar"]

WIDTH = 128  # narrower panels make poor matrix products, and take longer to compile

_matmul = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def haar(
    key: jax.Array, shape: tuple[int, ...], n: int, m: int, dtype: Any
) -> jax.Array:
    """Matrices of Haar's law, (*shape, n, m): Qᴴ Q = I, or Q Qᴴ = I where n < m.

    Args:
        key: one key.
        shape: the batch of independent matrices.
        n: the number of rows.
        m: the number of columns.
        dtype: float32, float64, complex64 or complex128.
    """
    if n < m:
        return _adjoint(haar(key, shape, m, n, dtype))
    if m == 0:
        return jnp.zeros((*shape, n, m), dtype)
    x = jax.random.normal(key, (*shape, n, m), dtype)
    v, phase = _reflectors(x)
    width = _width(m)
    starts = range(0, m, width)
    panels = [v[..., k:, k : k + width] for k in starts]
    grams = [_matmul(_adjoint(panel), panel) for panel in panels]
    missing = (0, len(starts) * width - m)
    grams[-1] = _pad(grams[-1], missing, missing)
    inverses = _inverse(_triangle(jnp.stack(grams, axis=-3)))

    q = jnp.zeros((*shape, n - m, 0), dtype)
    for i in reversed(range(len(starts))):
        panel, b, rest = panels[i], panels[i].shape[-1], q.shape[-1]
        signs = -phase[..., None, starts[i] : starts[i] + b]
        t = inverses[..., i, :b, :b]
        first = _adjoint(panel[..., :b, :]) * signs
        others = _matmul(_adjoint(panel[..., b:, :]), q)
        both = _pad(first, columns=(0, rest)) + _pad(others, columns=(b, 0))
        d = jnp.where(_below(panel.shape) == 0, signs, _zero(x))
        q = _pad(d, columns=(0, rest)) + _pad(q, (b, 0), (b, 0))
        q -= _matmul(panel, _matmul(t, both))
    return q


def _width(m: int) -> int:
    """The width of a panel: even as often as `_inverse` halves it."""
    width = max(WIDTH, math.isqrt(30 * m))
    halvings = max(0, math.ceil(math.log2(width / WIDTH)))
    return min(m, -(-width // 2**halvings) * 2**halvings)


def _reflectors(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The vectors v as columns, zero above the diagonal, and the phases s."""
    below = _below(x.shape)
    squares = jnp.where(below >= 0, jnp.square(jnp.abs(x)), 0)
    norm = jnp.sqrt(jnp.sum(squares, axis=-2, keepdims=True))
    # A vector of zeros has probability 0 but is among the floats: take e₁ for it.
    y = x / jnp.where(norm == 0, 1, norm).astype(x.dtype)
    first = jnp.diagonal(y, axis1=-2, axis2=-1)
    phase = jnp.where(first == 0, jnp.ones_like(first), jnp.sign(first))
    pivot = (first + phase)[..., None, :]
    return jnp.where(below > 0, y, jnp.where(below == 0, pivot, _zero(x))), phase


def _triangle(gram: jax.Array) -> jax.Array:
    """S, the upper half of Vᴴ V; a zero vector (padding) reflects nothing."""
    below = _below(gram.shape)
    half = jnp.where(gram == 0, jnp.ones_like(gram), gram / 2)
    return jnp.where(below < 0, gram, jnp.where(below == 0, half, _zero(gram)))


def _inverse(s: jax.Array) -> jax.Array:
    """Inverses of upper triangular matrices, by matrix products alone."""
    b = s.shape[-1]
    if b > WIDTH:
        h = b // 2
        halves = _inverse(jnp.stack([s[..., :h, :h], s[..., h:, h:]], axis=-3))
        first, last = halves[..., 0, :, :], halves[..., 1, :, :]
        corner = -_matmul(first, _matmul(s[..., :h, h:], last))
        upper = jnp.concatenate([first, corner], axis=-1)
        return jnp.concatenate([upper, _pad(last, columns=(h, 0))], axis=-2)

    # The same from the diagonal up, for the blocks of size 2, 4, 8, ... all at once.
    row, column = _indices(s.shape)
    diagonal = row == column

    def double(level: int, t: jax.Array) -> jax.Array:
        half = jnp.right_shift(row, level) != jnp.right_shift(column, level)
        size = level + 1
        whole = jnp.right_shift(row, size) == jnp.right_shift(column, size)
        corners = jnp.where(half & whole, s, _zero(s))
        return t - _matmul(t, _matmul(corners, t))

    t = jnp.where(diagonal, 1 / jnp.where(diagonal, s, 1), _zero(s))
    return lax.fori_loop(0, (b - 1).bit_length(), double, t)


def _indices(shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """The row and the column of each entry."""
    row, column = (
        lax.broadcasted_iota(np.int32, shape, len(shape) - axis) for axis in (2, 1)
    )
    return row, column


def _below(shape: tuple[int, ...]) -> jax.Array:
    """How far each entry lies below the diagonal."""
    row, column = _indices(shape)
    return row - column


def _pad(
    x: jax.Array, rows: tuple[int, int] = (0, 0), columns: tuple[int, int] = (0, 0)
) -> jax.Array:
    """`x` with zeros (before, after) its rows and columns."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [rows, columns])


def _adjoint(x: jax.Array) -> jax.Array:
    return jnp.conj(jnp.swapaxes(x, -1, -2))


def _zero(x: jax.Array) -> jax.Array:
    return jnp.zeros((), x.dtype)


def stiefel(n: int, m: int) -> int:
    """The dimension of the matrices (n, m) whose shorter side is orthonormal."""
    k = min(n, m)
    return n * m - k * (k + 1) // 2
