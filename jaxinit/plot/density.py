# SPDX-License-Identifier: Apache-2.0
"""The density of a law: of all with its mean, deviation and bounds, the most random."""

import numpy as np

from jaxinit.core import Law


def density(promise: Law) -> tuple[np.ndarray, np.ndarray]:
    """The density of greatest entropy with a law's mean, std and bounds: x and p(x).

    It is ∝ exp(a t + b t²), t from -1 to 1 between the bounds: the uniform, the normal
    and the truncated normal, as the standard deviation asks. Newton's method, damped.
    """
    mean, std = float(np.real(promise.mean)), promise.std
    low, high = max(promise.low, mean - 16 * std), min(promise.high, mean + 16 * std)
    middle, half = (low + high) / 2, (high - low) / 2
    t = np.linspace(-1, 1, 2001)
    powers = np.stack([t, t**2])
    m = (mean - middle) / half
    wanted = np.array([m, m**2 + (std / half) ** 2])

    def spread(p: np.ndarray) -> float:  # convex, and least for the density wanted
        return float(np.log(np.trapezoid(np.exp(p @ (powers - wanted[:, None])), t)))

    # the normal, from which the truncated differ
    p = np.array([m, -0.5]) / (std / half) ** 2
    for _ in range(100):
        share = np.exp(p @ powers - (p @ powers).max())
        share /= np.trapezoid(share, t)
        off = wanted - np.trapezoid(powers * share, t)
        if np.abs(off).max() < 1e-10:
            break
        centred = powers - (wanted - off)[:, None]
        step = np.linalg.solve(np.trapezoid(centred[:, None] * centred * share, t), off)
        while spread(p + step) > spread(p) + 1e-12:
            step = step / 2
        p = p + step
    return middle + half * t, share / half
