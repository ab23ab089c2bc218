# SPDX-License-Identifier: Apache-2.0
"""Activations: by name, and as functions of numbers on the host."""

import functools
import math
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import checks as check

Activation: TypeAlias = Callable[[Any], Any]  # elementwise, written in jax.numpy
Result = TypeVar("Result")
_FREE = threading.Lock()  # held while the thread that is kept works


@functools.lru_cache(maxsize=256)
def _leaky_relu(slope: float) -> Activation:
    return lambda x: jax.nn.leaky_relu(x, slope)


_JAX_NN = """celu elu hard_sigmoid hard_silu hard_swish hard_tanh identity leaky_relu
log_sigmoid mish relu relu6 selu sigmoid silu soft_sign softplus sparse_plus
sparse_sigmoid squareplus swish"""

_FOUND = {name: getattr(jax.nn, name, None) for name in _JAX_NN.split()} | {
    "cos": jnp.cos,
    "erf": jax.lax.erf,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_quick": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "gelu_tanh": getattr(jax.nn, "gelu", None),
    "linear": getattr(jax.nn, "identity", None),
    "prelu": _leaky_relu(0.25),
    "relu_squared": lambda x: jnp.square(jax.nn.relu(x)),
    "sin": jnp.sin,
    "softsign": getattr(jax.nn, "soft_sign", None),
    "tanh": jnp.tanh,
}
ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {name: f for name, f in _FOUND.items() if f is not None}  # what this JAX has
)


def function_of(activation: object, argument: str = "activation") -> Activation:
    """The activation of a name; a callable passes."""
    if callable(activation):
        return activation
    if not isinstance(activation, str):
        raise TypeError(
            f"{argument} must be a name or a callable, got {activation!r}; pass 'gelu' "
            "or jax.nn.gelu, for example"
        )
    if activation.startswith("leaky_relu_"):
        try:
            slope = float(activation.removeprefix("leaky_relu_"))
        except ValueError:
            slope = math.nan
        if math.isfinite(slope):
            return _leaky_relu(slope)
    return ACTIVATIONS[check.choice(argument, activation, ACTIVATIONS)]


def on_host(work: Callable[[], Result]) -> Result:
    """work() in float64 on the CPU, apart from what the caller traces or has set.

    JAX keeps the trace, the mesh and local settings per thread; one of our own has
    none. It is kept, for what JAX does the first time in a thread takes longer than an
    integral; work that begins while it is busy, within other work say, has a fresh one.
    """
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # a process without the CPU backend
        device = None

    def apart() -> Result:
        with (
            jax.enable_x64(True),
            jax.default_device(device),
            jax.numpy_dtype_promotion("standard"),
            jax.transfer_guard("allow"),
        ):
            return work()

    if _FREE.acquire(blocking=False):
        try:
            return _kept(os.getpid()).submit(apart).result()
        finally:
            _FREE.release()
    with ThreadPoolExecutor(max_workers=1) as fresh:
        return fresh.submit(apart).result()


@functools.lru_cache(maxsize=1)
def _kept(process: int) -> ThreadPoolExecutor:
    """The thread of a process: a fork has none of its parent's."""
    return ThreadPoolExecutor(max_workers=1)


def numeric(
    function: Activation, derivative: bool = False
) -> Callable[[np.ndarray], np.ndarray]:
    """f, or f′ as `jax.grad` has it, compiled, from points to float64 values.

    To be made and called inside `on_host`. Refuses what is not an activation.
    """

    def value(z: jax.Array) -> Any:  # jit wants a weak reference
        return function(z)

    slope = jax.grad(lambda z: jnp.sum(value(z)))
    traced = jax.jit(slope if derivative else value)
    probe = np.array([0.3, -0.7, 1.1, -1.9])
    known = any(function is other for other in ACTIVATIONS.values())
    try:
        out, _ = jax.eval_shape(lambda z: (value(z), traced(z)), probe)
        elementwise = known or _is_elementwise(function, probe, out)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise TypeError(
            "activation must be a function that JAX can "
            f"{'differentiate' if derivative else 'trace'}, got {function!r}; write it "
            "with jax.numpy, of its argument and constants alone "
            f"({type(error).__name__}: {reason})"
        ) from error
    if not elementwise:
        raise ValueError(
            "activation must map real numbers to real numbers elementwise, got "
            f"{function!r}; for a gated unit u · f(v) take the gain of its gate f"
        )
    return lambda z: np.asarray(jax.device_get(traced(z)), dtype=np.float64)


def _is_elementwise(function: Activation, probe: np.ndarray, out: Any) -> bool:
    """Whether f keeps the shape, and each number alone gives what it gives in company.

    out is the shape and dtype of f(probe).
    """
    if getattr(out, "shape", None) != probe.shape or out.dtype.kind == "c":
        return False

    def alone(z: jax.Array) -> jax.Array:
        return jnp.concatenate([function(z[i : i + 1]) for i in range(len(probe))])

    try:
        jax.eval_shape(alone, probe)
    except Exception:  # of one point, such as of an axis to be halved
        return False
    pair = jax.jit(lambda z: (function(z), alone(z)))(probe)
    company, single = np.asarray(jax.device_get(pair), dtype=np.float64)
    size = np.nan_to_num(np.abs(company)).max()
    return np.allclose(single, company, rtol=0, atol=1e-6 * size, equal_nan=True)
