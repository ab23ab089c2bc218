# SPDX-License-Identifier: Apache-2.0
"""The LRU's eigenvalues λ = exp(-exp(ν) + i exp(θ)), uniform on a ring.

The recurrence h ← λ h + exp(γ) B x decays with |λ| and turns by its phase. ν, θ and γ
are stored instead of λ, so that training cannot take it out of the unit disk.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import DType, Init, Initializer, Law, LawOf, Real, Shape, initializer
from jaxinit.core import checks as check
from jaxinit.families.constants import constant
from jaxinit.gains import uniform_moments
from jaxinit.samplers import cast


@initializer
def lru_nu(
    r_min: float = 0.0, r_max: float = 1.0, dtype: DType = None
) -> tuple[Init, LawOf]:
    """The LRU's ν (Orvieto et al. 2023): |λ|² of U(r_min², r_max²), |λ| = exp(-exp ν).

    With a uniform phase (`lru_theta`) the eigenvalues are uniform on the ring between
    r_min and r_max. Long sequences want a ring near 1, such as r_min 0.9, r_max 0.999.

    Args:
        r_min: the inner radius, not negative.
        r_max: the outer radius, at most 1.
        dtype: the default dtype of the calls, float.

    Raises:
        ValueError: unless 0 <= r_min < r_max <= 1.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> nu = jaxinit.lru_nu(0.9, 0.99)(jax.random.key(0), (256,))
        >>> r = jnp.exp(-jnp.exp(nu))
        >>> bool(r.min() >= 0.8999), bool(r.max() <= 0.9901)
        (True, True)

    References:
        Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu, De, "Resurrecting Recurrent
        Neural Networks for Long Sequences", 2023, arXiv:2303.06349, lemma 3.2.
    """
    r_min = check.number("r_min", r_min, low=0)
    r_max = check.number("r_max", r_max, high=1)
    check.order("r_min", r_min, "r_max", r_max)
    ring = r_max**2 - r_min**2

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        u = _open_uniform(key, shape, dtype)
        square = cast(r_min**2, dtype) + cast(ring, dtype) * u
        below = np.nextafter(np.ones((), dtype), np.zeros((), dtype))
        return jnp.log(-jnp.log(jnp.minimum(square, below)) / 2)

    def law(shape: Shape) -> Law:
        outside = 1 - r_max**2

        def value(u: np.ndarray, v: np.ndarray) -> np.ndarray:
            """ν, from u or from v = 1 - u, by whether |λ|² is nearer to 0 or to 1."""
            small = np.log(r_min**2 + ring * u)
            large = np.log1p(-(outside + ring * np.minimum(v, 0.5)))
            return np.log(np.where(u < v, small, large) / -2)

        low = math.log(-math.log(r_max)) if r_max < 1 else -math.inf
        high = math.log(-math.log(r_min)) if r_min > 0 else math.inf
        return Law(*uniform_moments(value), low, high)

    return init, law


@initializer
def lru_theta(max_phase: Real = 2 * math.pi, dtype: DType = None) -> tuple[Init, LawOf]:
    """The LRU's θ (Orvieto et al. 2023): a phase exp(θ) of U(0, max_phase).

    Args:
        max_phase: the largest phase in radians, positive; a small one, such as π / 10,
            begins with slow oscillations.
        dtype: the default dtype of the calls, float.

    Raises:
        ValueError: for a phase that is not positive.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> theta = jaxinit.lru_theta(1.0)(jax.random.key(0), (256,))
        >>> bool(jnp.exp(theta).max() < 1.0001)
        True

    References:
        Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu, De, "Resurrecting Recurrent
        Neural Networks for Long Sequences", 2023, arXiv:2303.06349, lemma 3.2.
    """
    max_phase = check.number("max_phase", max_phase, above=0)

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        return jnp.log(cast(max_phase, dtype) * _open_uniform(key, shape, dtype))

    def law(shape: Shape) -> Law:
        end = math.log(max_phase)
        return Law(end - 1, 1.0, -math.inf, end)

    return init, law


@initializer
def lru_gamma(nu: Any, dtype: DType = None) -> Initializer:
    """The LRU's γ (Orvieto et al. 2023): log √(1 - |λ|²), of the ν that was drawn.

    The recurrence h ← λ h + exp(γ) B x then has a state of the variance of B x, for an
    x that is white: Σ exp(2 γ) |λ|^(2k) = 1. γ is a function of ν, no draw of its own.

    Args:
        nu: the array that `lru_nu` gave; it may be traced.
        dtype: the default dtype of the calls, float or complex.

    Raises:
        TypeError: for a ν that is no array of floats.
        ValueError: at the call, for a shape against which ν does not broadcast.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> nu = jaxinit.lru_nu()(jax.random.key(0), (64,))
        >>> gamma = jaxinit.lru_gamma(nu)(jax.random.key(1), (64,))
        >>> bool(jnp.allclose(jnp.exp(2 * gamma) + jnp.exp(-2 * jnp.exp(nu)), 1))
        True

    References:
        Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu, De, "Resurrecting Recurrent
        Neural Networks for Long Sequences", 2023, arXiv:2303.06349.
    """
    xp = jnp if check.is_traced(nu) else np
    values = xp.asarray(nu)
    if not jnp.issubdtype(values.dtype, jnp.floating) or values.size == 0:
        raise TypeError(f"nu must be the array that lru_nu gave, got {nu!r}")
    return constant(xp.log(-xp.expm1(-2 * xp.exp(values))) / 2, dtype)


def _open_uniform(key: Any, shape: Shape, dtype: Any) -> jax.Array:
    """U(0, 1) at the middles of the sampler's steps, and so never 0 or 1."""
    check.real_form(dtype)
    return jax.random.uniform(key, shape, dtype) + jnp.finfo(dtype).eps / 2
