# SPDX-License-Identifier: Apache-2.0
"""The mean square of what enters a kernel, where each signal before it is Gaussian."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import once
from jaxinit.gains import ACTIVATIONS, gain, on_host
from jaxinit.network import After

__all__ = ["mean_square", "slope_square"]

NODES = 64  # of each signal, where several meet: exact for polynomials up to 127


def mean_square(after: After, variances: Sequence[float]) -> float | None:
    """E f(z₁, …)² for independent z of such variances; None where f is not known."""
    return _moment(after, tuple(variances), "forward")


def slope_square(after: After, variances: Sequence[float]) -> float | None:
    """E (∂f/∂z₁)², what the gradient is multiplied by on its way back."""
    return _moment(after, tuple(variances), "backward")


def _moment(after: After, variances: tuple[float, ...], which: str) -> float | None:
    function = after.function
    if function is None or len(variances) > 3:
        return None
    if len(variances) == 1:
        (variance,) = variances
        if after.name == "identity":
            return variance if which == "forward" else 1.0
        name = after.name if after.name in ACTIVATIONS else None
        if name and variance == 1:
            return 1 / gain(name, which) ** 2
        f: Any = ACTIVATIONS[name] if name else function
        work = functools.partial(_alone, f, math.sqrt(variance), which)
        return once(_known, (name or after.trail.key, variance, which), work)
    scales = tuple(map(math.sqrt, variances))
    work = functools.partial(_together, function, scales, which)
    return once(_known, (after.trail.key, variances, which), work)


_known: dict[Any, float] = {}  # by what a trail does: itself, it holds the network


@dataclass
class _Scaled:
    """f(scale · z), without a hash, so that `gain` does not keep it."""

    f: Any
    scale: float

    def __call__(self, z: Any) -> Any:
        return self.f(self.scale * z)


def _alone(f: Any, scale: float, which: str) -> float:
    value = 1 / gain(_Scaled(f, scale), which) ** 2
    return value if which == "forward" else value / scale**2


def _together(f: Any, scales: tuple[float, ...], which: str) -> float:
    """On the product of Gauss-Hermite nodes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    n = len(scales)
    grid = [
        jnp.asarray(s * g, jnp.float32).ravel()
        for s, g in zip(scales, np.meshgrid(*[nodes] * n, indexing="ij"), strict=True)
    ]
    product = np.ones(())
    for _ in range(n):
        product = np.multiply.outer(product, weights)
    if which == "backward":
        whole = f

        def f(*z: Any) -> Any:
            return jax.grad(lambda *z: whole(*z).sum())(*z)

    values = on_host(lambda: np.asarray(jax.jit(f)(*grid), np.float64))
    return float((product.ravel() * values**2).sum())
