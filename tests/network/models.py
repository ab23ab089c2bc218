# SPDX-License-Identifier: Apache-2.0
"""The models that are read: what `read` takes of each, and what it ought to find.

`MODELS` has them by name. Each is built by a function, which says beside it what no
count of ones can tell: which kernels are fused, tied, indifferent to their scale, and
where a reading ends. In models of plain JAX the first letter of a parameter's name is
its role: w(eight), b(ias), g(ain), e(mbedding), t(oken).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["MODELS", "Case", "attention", "ids", "model", "norm", "rms", "s"]

ROLES = {"w": "kernel", "b": "bias", "g": "scale", "e": "embedding", "t": "token"}


class Case(NamedTuple):
    """A model, and the facts of it that counting does not tell, by path.

    Attributes:
        build: gives what `read` takes.
        parts: the sizes of fused parts, and in how many groups they lie.
        tied: the parameters of two uses that want different fans.
        one_hot: those multiplied by one-hot vectors.
        invariant: the kernels whose scale does not matter; None where that is not said.
        ends: the primitive at which the reading of a parameter ends.
        unused: what nothing uses.
        calls: how often kernels are used where it is more than once.
    """

    build: Callable[[], tuple[Any, ...]]
    parts: Mapping[str, tuple[tuple[int, ...], int]] = {}
    tied: frozenset[str] = frozenset()
    one_hot: frozenset[str] = frozenset()
    invariant: frozenset[str] = frozenset()
    ends: Mapping[str, str] = {}
    unused: frozenset[str] = frozenset()
    calls: Mapping[str, int] = {}


MODELS: dict[str, Case] = {}


def model(parts: Any = (), calls: Any = (), ends: Any = (), **facts: str) -> Any:
    """Put a builder into the table; sets of paths are given as words."""

    def add(build: Callable[[], tuple[Any, ...]]) -> Callable[[], tuple[Any, ...]]:
        name = build.__name__.strip("_")
        assert name not in MODELS
        sized = {
            path: each if isinstance(each[0], tuple) else (each, 1)
            for path, each in dict(parts).items()
        }
        sets = {fact: frozenset(words.split()) for fact, words in facts.items()}
        MODELS[name] = Case(build, sized, calls=dict(calls), ends=dict(ends), **sets)
        return build

    return add


def s(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """The shape of a parameter, or of a batch."""
    return jax.ShapeDtypeStruct(shape, dtype)


def ids(*shape: int) -> jax.ShapeDtypeStruct:
    """The shape of a batch of tokens."""
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def norm(x: jax.Array, g: Any = None, b: Any = None, axis: Any = -1) -> jax.Array:
    """A normalisation over an axis or several."""
    centred = x - x.mean(axis, keepdims=True)
    y = centred * jax.lax.rsqrt(jnp.square(centred).mean(axis, keepdims=True) + 1e-5)
    y = y if g is None else y * g
    return y if b is None else y + b


def rms(x: jax.Array, g: Any) -> jax.Array:
    """Division by the root of the mean square."""
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6) * g


def attention(q: jax.Array, k: jax.Array, v: jax.Array, bias: Any = None) -> jax.Array:
    """Causal attention of (batch, time, heads, features)."""
    scores = jnp.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5
    scores = scores if bias is None else scores + bias
    causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    weights = jax.nn.softmax(jnp.where(causal, scores, -1e9), axis=-1)
    return jnp.einsum("bhts,bshd->bthd", weights, v)
