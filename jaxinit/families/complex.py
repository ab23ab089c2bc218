# SPDX-License-Identifier: Apache-2.0
"""Complex weights. (For unitary matrices, `orthogonal` takes complex dtypes.)"""

from jaxinit.core import Axes, DType, Fans, Initializer, initializer
from jaxinit.core import checks as check
from jaxinit.families.variance_scaling import variance_scaling

CRITERIA = {"glorot": (1.0, "fan_avg"), "he": (2.0, "fan_in")}  # scale and mode


@initializer
def rayleigh(
    criterion: str = "glorot",
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DType = None,
    *,
    fans: Fans | None = None,
) -> Initializer:
    """Deep complex networks (Trabelsi et al. 2018): a Rayleigh modulus, any phase.

    |w| has the density (r / σ²) e^(-r² / 2σ²) and arg w is uniform, with

    - "glorot": σ = 1 / √(fan_in + fan_out), E |w|² = 2 σ² = 2 / (fan_in + fan_out);
    - "he": σ = 1 / √fan_in, E |w|² = 2 / fan_in.

    That is the law of a circular complex normal, whose two parts are N(0, σ²), and so
    it is variance scaling in a complex dtype; real entries are N(0, 2 σ²). (The
    authors' code draws with σ² for σ.) The unitary variant of the paper is
    `orthogonal(dtype="complex64")`.

    Args:
        criterion: "glorot" or "he".
        in_axis, out_axis, batch_axis, fans: as in `variance_scaling`.
        dtype: the default dtype of the calls, complex or float.

    Raises:
        ValueError: for another criterion.

    Example:
        >>> import jaxinit
        >>> jaxinit.rayleigh("he") == jaxinit.variance_scaling(2.0, "fan_in", "normal")
        True

    References:
        Trabelsi, Bilaniuk, Zhang, Serdyuk, Subramanian, Santos, Mehri, Rostamzadeh,
        Bengio, Pal, "Deep Complex Networks", 2018, arXiv:1705.09792, section 3.6.
    """
    scale, mode = CRITERIA[check.choice("criterion", criterion, CRITERIA)]
    return variance_scaling(
        scale, mode, "normal", in_axis, out_axis, batch_axis, dtype, fans=fans
    )
