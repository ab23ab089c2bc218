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

**By panels.** One panel of all m columns takes (2 + 2 + 1) n m² multiplications or so.
We take at most eight panels of equal width and apply them to E D from the last to the
first. Panel k then meets only the rows and columns from its own first on, since the
rest of E is still untouched: for m = n the work falls to about n³, nearly all of it in
matrix products. (In the last panel, columns beyond m are zero, and stand for the
identity.)

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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["haar"]

PANELS = 8  # more save little work and cost compile time
WIDTH = 128  # narrower panels make poor matrix products

_matmul = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def haar(
    key: jax.Array, shape: tuple[int, ...], n: int, m: int, dtype: Any
) -> jax.Array:
    """Matrices of Haar's law, (*shape, n, m): Qᴴ Q = I, or Q Qᴴ = I where n < m.

    Args:
        key: one key, spent by a single draw of normal numbers.
        shape: the batch of independent matrices.
        n: the number of rows.
        m: the number of columns.
        dtype: float32, float64, complex64 or complex128.
    """
    if n < m:
        return _adjoint(haar(key, shape, m, n, dtype))
    if m == 0:
        return jnp.zeros((*shape, n, m), dtype)
    x = lax.optimization_barrier(jax.random.normal(key, (*shape, n, m), dtype))
    v, phase = _reflectors(x)
    count = min(PANELS, -(-m // WIDTH))
    width = -(-m // count)
    v = jnp.pad(v, [(0, 0)] * len(shape) + [(0, 0), (0, count * width - m)])
    starts = [k * width for k in range(count)]
    panels = [v[..., start:, start : start + width] for start in starts]
    grams = [_matmul(_adjoint(panel), panel) for panel in panels]
    t = _inverse(_triangle(jnp.stack(grams, axis=-3)))

    q = jnp.where(_below(x.shape) == 0, -phase[..., None, :], _zero(x))  # E D
    for k in reversed(range(count)):
        corner = q[..., starts[k] :, starts[k] :]
        part = _matmul(t[..., k, :, :], _matmul(_adjoint(panels[k]), corner))
        corner -= _matmul(panels[k], part)
        q = lax.dynamic_update_slice(q, corner, (0,) * len(shape) + (starts[k],) * 2)
    return q


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
    eye = jnp.broadcast_to(jnp.eye(s.shape[-1], dtype=s.dtype), s.shape)
    return lax.linalg.triangular_solve(s, eye, left_side=True, lower=False)


def _below(shape: tuple[int, ...]) -> jax.Array:
    """How far each entry lies below the diagonal."""
    row, column = (
        lax.broadcasted_iota(np.int32, shape, len(shape) - axis) for axis in (2, 1)
    )
    return row - column


def _adjoint(x: jax.Array) -> jax.Array:
    return jnp.conj(jnp.swapaxes(x, -1, -2))


def _zero(x: jax.Array) -> jax.Array:
    return jnp.zeros((), x.dtype)
