# SPDX-License-Identifier: Apache-2.0
"""Rules for attention whose kernels fit each other, as those of trained models do.

In a trained transformer W_Q W_Kᵀ has a positive diagonal, so that tokens attend to
those alike, and W_V W_O a negative one. A product of two kernels is drawn, and each
kernel is one factor of it: the product is drawn once, and its SVD is taken apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import Shape
from jaxinit.core import checks as check
from jaxinit.trees import Param, Part, PerParam, Rules, per_param

__all__ = ["mimetic_attention"]


def mimetic_attention(
    attention: str = "**",
    query_key: tuple[float, float] = (0.7, 0.7),
    value_out: tuple[float, float] = (0.4, 0.4),
) -> Rules:
    """Mimetic attention: W_Q W_Kᵀ ≈ α₁ Z + β₁ I per head and W_V W_O ≈ α₂ Z - β₂ I.

    Z is d by d with entries N(0, 1/d). Of a head's product U S Vᵀ, query and key keep
    the k largest singular values, U √S and V √S, k being the size of a head: the best
    product of its rank, whose mean diagonal is therefore below β₁ (for k = d/3 about
    0.4 of 0.7). Values and output, all heads side by side, have the whole product where
    the heads fill the width. Kernels have Flax's shapes, (d, heads, k) for query, key
    and value, (heads, k, d) for out. These rules are for those kernels alone: put them
    before a recipe for the rest, [*mimetic_attention(), *vit(head)]. The paper has
    sinusoidal position embeddings with them.

    Args:
        attention: the glob of the attention layers' paths.
        query_key: α₁ and β₁.
        value_out: α₂ and β₂.

    Raises:
        ValueError: when a kernel has other axes.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> into = {"kernel": jax.ShapeDtypeStruct((32, 2, 16), "float32")}
        >>> out = {"kernel": jax.ShapeDtypeStruct((2, 16, 32), "float32")}
        >>> tree = {"query": into, "key": into, "value": into, "out": out}
        >>> rules = jaxinit.rules.mimetic_attention(value_out=(0.0, 0.4))
        >>> drawn = jaxinit.init_tree(jax.random.key(0), tree, rules)
        >>> product = jnp.tensordot(drawn["value"]["kernel"], drawn["out"]["kernel"])
        >>> bool(jnp.allclose(product, -0.4 * jnp.eye(32), atol=1e-5))
        True

    References:
        A. Trockman, J. Z. Kolter, "Mimetic initialization of self-attention layers",
            2023, arXiv:2305.09828.
    """
    products = {
        ("query", "key"): _numbers("query_key", query_key),
        ("value", "out"): _numbers("value_out", value_out),
    }
    return [
        (f"{attention}/{name}/kernel", _factor(MimeticKernel(name, *numbers), pair[0]))
        for pair, numbers in products.items()
        for name in pair
    ]


@dataclass(frozen=True)
class Product:
    """Matrices α Z + β I of (count, d, d), by their singular vectors and values."""

    alpha: float
    beta: float
    count: int
    d: int
    dtype: Any

    def __call__(self, key: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        """U, S and Vᵀ."""
        d, dtype = self.d, self.dtype
        z = jax.random.normal(key, (self.count, d, d), dtype) / jnp.asarray(
            d**0.5, dtype
        )
        diagonal = self.beta * jnp.eye(d, dtype=dtype)[None]
        u, s, vt = jnp.linalg.svd(self.alpha * z + diagonal)
        return u, s, vt


@dataclass(frozen=True)
class MimeticKernel(Part):
    """The initializer of one of the four kernels, a factor of a `Product`."""

    name: str
    alpha: float
    beta: float

    def whole(self, shape: Shape, dtype: Any) -> Product:
        """α Z + β I for each head, or one α Z - β I for values and output."""
        d, count, rank = self._sizes(shape)
        if rank > d:
            raise ValueError(
                f"a product of {d} by {d} has no factors of rank {rank}; mimetic "
                "attention needs heads that fit into the width"
            )
        exact = dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32
        beta = -self.beta if self._is_fused else self.beta
        return Product(self.alpha, beta, count, d, np.dtype(exact))

    def part(self, drawn: Any, shape: Shape, dtype: Any) -> jax.Array:
        """U √S, or V √S for keys and output, to the rank that fits the kernel."""
        u, s, vt = drawn
        left = self.name in ("query", "value")
        factor = (u if left else jnp.swapaxes(vt, 1, 2)) * jnp.sqrt(s)[:, None, :]
        _, _, rank = self._sizes(shape)
        kernel = jnp.swapaxes(factor[:, :, :rank], 0, 1)  # (d, count, rank)
        if self.name == "out":
            kernel = jnp.moveaxis(kernel, 0, 2)
        return kernel.reshape(shape).astype(dtype)

    @property
    def _is_fused(self) -> bool:
        return self.name in ("value", "out")

    def _sizes(self, shape: Shape) -> Shape:
        """The width, and how many factors of which rank."""
        check.rank(
            shape, 3, 3, " (width, heads, size), or (heads, size, width) for out"
        )
        d, heads, k = (shape[2], *shape[:2]) if self.name == "out" else shape
        return (d, 1, heads * k) if self._is_fused else (d, heads, k)


# --- helpers --------------------------------------------------------------------------


def _factor(kernel: MimeticKernel, first: str) -> PerParam:
    """A kernel that is drawn by the key of the first of its pair."""

    def source(param: Param) -> str:
        return f"{param.path.removesuffix(f'{kernel.name}/kernel')}{first}/kernel"

    return per_param(lambda param: kernel, source=source)


def _numbers(name: str, value: Any) -> tuple[float, float]:
    """A pair (α, β)."""
    if not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"{name} must be a pair of numbers (α, β), got {value!r}")
    alpha, beta = (check.number(f"{name}[{i}]", each) for i, each in enumerate(value))
    return alpha, beta
