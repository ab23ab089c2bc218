# SPDX-License-Identifier: Apache-2.0
"""What several laws' tests share: bits, compilations, tolerances by sample size."""

import contextlib
import math
import os
from collections.abc import Iterator
from typing import Any

import jax
import jax.monitoring
import numpy as np

import jaxinit

COMPILED = "/jax/core/compile/backend_compile_duration"
AS_USERS = os.environ.get("XLA_FLAGS") == ""  # the programs: see conftest.py
SIGMAS = 5.0  # a right answer fails one check in two million


def fresh(key: jax.Array) -> jax.Array:
    """The same key again, deliberately."""
    return jax.random.clone(key)


def read_shapes(model: Any, *args: Any) -> jaxinit.Network:
    """What a Linen model does with its parameters, from their shapes."""
    variables = jax.eval_shape(model.init, jax.random.key(0), *args)
    return jaxinit.read(model, variables, *args)


def bits(array: jax.Array) -> bytes:
    """An array's very bits."""
    return np.asarray(array).tobytes()


def z_of_mean(x: np.ndarray, mean: float, std: float) -> float:
    """How many standard errors the sample's mean is off."""
    return float((x.mean() - mean) / (std / math.sqrt(x.size)))


def z_of_variance(
    x: np.ndarray, mean: float, std: float, kurtosis: float = 3.0
) -> float:
    """How many standard errors the sample's variance is off, given E z⁴ of the law."""
    error = std**2 * math.sqrt((kurtosis - 1) / x.size)
    return float(((np.abs(x - mean) ** 2).mean() - std**2) / error)


@contextlib.contextmanager
def compilations() -> Iterator[list[float]]:
    """The list of the compilations within."""
    seen: list[float] = []

    def listen(event: str, duration_secs: float, **_: object) -> None:
        if event == COMPILED:
            seen.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def exponent(small: float, large: float, growth: float) -> float:
    """The power of its width or depth by which a quantity grew.

    A recipe that scales claims the exponent 0, and another choice of powers has a
    multiple of 1/2: 1/4 lies between, whatever the factors that the claim leaves open.
    """
    return math.log(large / small) / math.log(growth)
