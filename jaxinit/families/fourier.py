# SPDX-License-Identifier: Apache-2.0
"""Random Fourier features: frequencies whose waves average to a Gaussian kernel."""

from jaxinit.core import DType, Initializer, Real, initializer
from jaxinit.core import checks as check
from jaxinit.families.distributions import normal


@initializer
def fourier_features(scale: Real = 10.0, dtype: DType = None) -> Initializer:
    """Random Fourier features (Tancik et al. 2020): frequencies B of N(0, scale²).

    Coordinates x, a row, are mapped to γ(x) = (cos 2π x B, sin 2π x B) / √m, with
    B of (in, m), commonly kept fixed. Then

        γ(x) · γ(y) = mean of cos 2π (x - y) B  →  e^(-2 π² scale² |x - y|²),

    a Gaussian kernel of width 1 / (2 π scale), with a standard error of at most
    1 / √(2 m).
    A small scale blurs, a large one sees noise: the authors tune it for each task, and
    find 10 for images on the unit square. It is `normal(scale)`.

    Args:
        scale: the standard deviation of the frequencies, not negative.
        dtype: the default dtype of the calls.

    Raises:
        ValueError: for a negative scale.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> b = jaxinit.fourier_features(1.0)(jax.random.key(0), (2, 4096))
        >>> step = jnp.array([0.1, -0.1])
        >>> kernel = jnp.exp(-2 * jnp.pi**2 * jnp.vdot(step, step))
        >>> bool(abs(jnp.cos(2 * jnp.pi * step @ b).mean() - kernel) < 5 / 8192**0.5)
        True

    References:
        Tancik, Srinivasan, Mildenhall, et al., "Fourier Features Let Networks Learn
        High Frequency Functions in Low Dimensional Domains", 2020, arXiv:2006.10739;
        Rahimi, Recht, "Random Features for Large-Scale Kernel Machines", 2007.
    """
    return normal(check.number("scale", scale, low=0), dtype)
