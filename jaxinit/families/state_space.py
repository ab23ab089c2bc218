# SPDX-License-Identifier: Apache-2.0
"""State spaces: the eigenvalues and steps with which h′ = A h begins to remember.

A diagonal state decays and turns one eigenvalue at a time. S4D stores log(-Re A) and
Im A, so that A = -exp(s4d_decay) + i · s4d_frequency stays stable; Mamba stores log(-A)
of a real A, and the bias of a softplus that gives the step dt.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import DType, Init, Law, LawOf, Real, Shape, initializer
from jaxinit.core import checks as check
from jaxinit.families.constants import cast_exactly
from jaxinit.gains import uniform_moments
from jaxinit.samplers import cast

DECAYS = ("lin", "inv", "real")
FREQUENCIES = ("lin", "inv")


@initializer
def s4d_decay(spectrum: str = "lin", dtype: DType = None) -> tuple[Init, LawOf]:
    """S4D's log(-Re A) (Gu et al. 2022): log ½, or log(n + 1) for the real spectrum.

    "lin" and "inv" have Re A = -½ everywhere; "real", S4D-Real, has A_n = -(n + 1),
    n = 0, 1, ... along the last axis, and no frequencies. Mamba's A_log is the last.

    Args:
        spectrum: "lin", "inv" or "real".
        dtype: the default dtype of the calls.

    Raises:
        ValueError: for another spectrum; at the call, for a shape without axes.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> a_log = jaxinit.s4d_decay("real")(jax.random.key(0), (3,))
        >>> bool(jnp.allclose(-jnp.exp(a_log), jnp.array([-1.0, -2.0, -3.0])))
        True

    References:
        Gu, Gupta, Goel, Ré, "On the Parameterization and Initialization of Diagonal
        State Space Models", 2022, arXiv:2206.11893, section 4.
    """
    spectrum = check.choice("spectrum", spectrum, DECAYS)

    def row(size: int) -> np.ndarray:
        decay = np.arange(1, size + 1) if spectrum == "real" else np.full(size, 0.5)
        return np.log(decay)

    return _rows(row)


@initializer
def s4d_frequency(spectrum: str = "lin", dtype: DType = None) -> tuple[Init, LawOf]:
    """S4D's Im A (Gu et al. 2022): π n, or (N / π) (N / (2 n + 1) - 1).

    n = 0, 1, ..., N / 2 - 1 along the last axis, whose size is half of the state's: the
    other eigenvalues are conjugate. "lin" makes a Fourier series of damped waves,
    e^(-t/2 + iπnt); "inv" follows the eigenvalues of HiPPO-LegS's normal part, the
    larger the nearer, up to N² / π.

    Args:
        spectrum: "lin" or "inv".
        dtype: the default dtype of the calls.

    Raises:
        ValueError: for another spectrum; at the call, for a shape without axes.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> a = jaxinit.s4d_frequency()(jax.random.key(0), (2, 4))
        >>> bool(jnp.allclose(a, jnp.pi * jnp.arange(4.0)[None]))
        True

    References:
        Gu, Gupta, Goel, Ré, "On the Parameterization and Initialization of Diagonal
        State Space Models", 2022, arXiv:2206.11893, section 4.
    """
    spectrum = check.choice("spectrum", spectrum, FREQUENCIES)

    def row(half: int) -> np.ndarray:
        n, whole = np.arange(half), 2 * half
        if spectrum == "lin":
            return np.pi * n
        return whole / np.pi * (whole / (2 * n + 1) - 1)

    return _rows(row)


@initializer
def mamba_dt(
    dt_min: Real = 1e-3, dt_max: Real = 0.1, floor: Real = 1e-4, dtype: DType = None
) -> tuple[Init, LawOf]:
    """Mamba's step bias (Gu, Dao 2023): softplus(b) is exp(U(log dt_min, log dt_max)).

    The steps dt are uniform in their logarithm, and none is below the floor;
    b = log(e^dt - 1) = dt + log(1 - e^(-dt)) is what the softplus takes to dt. Of the
    other parameters of the block, A_log is `s4d_decay("real")` and D is `ones`.

    Args:
        dt_min: the smallest step, positive.
        dt_max: the largest step.
        floor: steps below it are raised to it; it acts where it exceeds dt_min.
        dtype: the default dtype of the calls, float.

    Raises:
        ValueError: unless 0 < dt_min < dt_max and 0 <= floor < dt_max.

    Example:
        >>> import jax, jaxinit
        >>> b = jaxinit.mamba_dt()(jax.random.key(0), (256,))
        >>> dt = jax.nn.softplus(b)
        >>> bool(dt.min() >= 0.000999), bool(dt.max() <= 0.1001)
        (True, True)

    References:
        Gu, Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
        2023, arXiv:2312.00752, section 3.6 and the code of its blocks.
    """
    dt_min = check.number("dt_min", dt_min, above=0)
    dt_max = check.number("dt_max", dt_max)
    floor = check.number("floor", floor, low=0)
    check.order("dt_min", dt_min, "dt_max", dt_max)
    check.order("floor", floor, "dt_max", dt_max)

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        check.real_form(dtype)
        low, high = (jnp.log(cast(dt, dtype)) for dt in (dt_min, dt_max))
        t = jax.random.uniform(key, shape, dtype, low, high)
        dt = jnp.maximum(jnp.exp(t), cast(floor, dtype))
        return dt + jnp.log(-jnp.expm1(-dt))

    def bias(dt: Any) -> Any:
        return dt + np.log(-np.expm1(-dt))

    def law(shape: Shape) -> Law:
        def value(u: np.ndarray, v: np.ndarray) -> np.ndarray:
            return bias(np.maximum(dt_min * (dt_max / dt_min) ** u, floor))

        low, high = float(bias(max(dt_min, floor))), float(bias(dt_max))
        return Law(*uniform_moments(value), low, high)

    return init, law


def _rows(row: Callable[[int], np.ndarray]) -> tuple[Init, LawOf]:
    """Every row along the last axis the same, a function of its size."""

    def init(shape: Shape, dtype: Any) -> jax.Array:
        return jnp.broadcast_to(cast_exactly(row(shape[-1]), dtype), shape)

    def law(shape: Shape) -> Law:
        check.rank(shape, 1, why=" (..., state)")
        values = row(shape[-1]) if 0 not in shape else np.zeros(1)
        ends = float(values.min()), float(values.max())
        return Law(float(values.mean()), float(values.std()), *ends)

    return init, law
