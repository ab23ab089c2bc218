# SPDX-License-Identifier: Apache-2.0
"""Initializers made of initializers: scaled, stacked, fused."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxinit.core import Init, Initializer, Law, LawOf, Real, Shape, callee, initializer
from jaxinit.core import checks as check
from jaxinit.families.constants import cast_exactly

Callee = Callable[..., jax.Array]  # any initializer, ours or not


@initializer
def scaled(init: Callee, factor: Real) -> tuple[Init, LawOf] | Init:
    """An initializer's array times a factor: Std W = |factor| · Std.

    For residual projections (factor 1 / √(2 · layers)), a small last layer, or an
    initializer of another library.

    Args:
        init: an initializer, of this library or any callable (key, shape, dtype).
        factor: a real number.

    Raises:
        TypeError: for a factory where an initializer belongs.

    Example:
        >>> import jax, jaxinit
        >>> half = jaxinit.scaled(jaxinit.orthogonal(), 0.5)
        >>> round(half.law((64, 64)).std, 9)  # 1/√64 / 2
        0.0625
    """
    init = callee("init", init)
    factor = check.number("factor", factor)

    def draw(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        return init(key, shape, dtype) * cast_exactly(factor, dtype)

    def law(shape: Shape, of: LawOf) -> Law:
        inner = of(shape)
        low, high = inner.low * factor, inner.high * factor
        if check.is_traced(factor):
            low, high = jnp.minimum(low, high), jnp.maximum(low, high)
        else:
            low, high = (min(low, high), max(low, high)) if factor else (0.0, 0.0)
        mean, std = inner.mean * factor, inner.std * abs(factor)
        return inner._replace(mean=mean, std=std, low=low, high=high)

    return with_law(draw, init, law)


@initializer
def stacked(init: Callee, axis: int = 0) -> tuple[Init, LawOf] | Init:
    """Independent draws along an axis, each of the shape without it.

    The kernel of a scanned or mapped layer (`nn.scan`, experts) is a stack; its
    slices are drawn from `init` one by one, so that no fan, rank or orthogonality
    is counted over the stack. Slice i has the key `jax.random.split(key, n)[i]`.

    Args:
        init: an initializer, of this library or any callable (key, shape, dtype).
        axis: the axis of the stack.

    Raises:
        TypeError: for a factory where an initializer belongs.
        ValueError: at the call, for an axis outside the shape.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> w = jaxinit.stacked(jaxinit.orthogonal())(jax.random.key(0), (12, 8, 8))
        >>> bool(jnp.allclose(w[3] @ w[3].T, jnp.eye(8), atol=1e-5))
        True
    """
    init = callee("init", init)
    axis = check.integer("axis", axis)

    def slice_of(shape: Shape) -> tuple[int, Shape]:
        (place,) = check.axes_of("axis", axis, len(shape))
        return place, shape[:place] + shape[place + 1 :]

    def draw(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        place, rest = slice_of(shape)
        keys = jax.random.split(key, shape[place])
        return jax.vmap(lambda k: init(k, rest, dtype), out_axes=place)(keys)

    def law(shape: Shape, of: LawOf) -> Law:
        place, rest = slice_of(shape)
        return _copies(of(rest), shape[place])

    return with_law(draw, init, law)


@initializer
def blocks(
    init: Callee, count: int | tuple[int, ...], axis: int = -1, *, repeats: int = 1
) -> tuple[Init, LawOf] | Init:
    """A fused kernel of parts along an axis, each drawn on its own.

    The fused projection of queries, keys and values, or of the gates of an LSTM, is
    several kernels side by side; each is drawn from `init` at the shape of a part.
    Part i has the key `jax.random.split(key, count)[i]`.

    Args:
        init: an initializer, of this library or any callable (key, shape, dtype).
        count: the number of equal parts, or the sizes of all, as of queries, keys and
            values where several heads share a key.
        axis: the axis along which they lie.
        repeats: in how many groups of parts it lies: the heads, where each has its
            query, key and value side by side.

    Raises:
        TypeError: for a factory where an initializer belongs.
        ValueError: for a count or a size below 1; at the call, for parts that do not
            make up the axis, or repeats that do not divide them.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> gates = jaxinit.blocks(jaxinit.orthogonal(), 4)
        >>> w = gates(jax.random.key(0), (16, 64))
        >>> bool(jnp.allclose(w[:, 16:32] @ w[:, 16:32].T, jnp.eye(16), atol=1e-5))
        True
    """
    init = callee("init", init)
    if isinstance(count, tuple | list):
        given = check.integers("count", count, low=1)
    else:
        given = (check.integer("count", count, low=1),)
    equal = not isinstance(count, tuple | list)
    axis = check.integer("axis", axis)
    repeats = check.integer("repeats", repeats, low=1)

    def parts(shape: Shape) -> tuple[int, tuple[Shape, ...]]:
        (place,) = check.axes_of("axis", axis, len(shape))
        if equal:
            size = check.divides("count", given[0], f"axis {axis}", shape[place])
            sizes: tuple[int, ...] = (size,) * given[0]
        elif sum(given) != shape[place]:
            raise ValueError(
                f"axis {axis} has {shape[place]} entries, and the parts {given} have "
                f"{sum(given)}"
            )
        else:
            sizes = given
        for size in sizes:
            check.divides("repeats", repeats, "the size of a part", size)
        return place, tuple((*shape[:place], n, *shape[place + 1 :]) for n in sizes)

    def draw(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        place, shapes = parts(shape)
        keys = jax.random.split(key, len(shapes))
        if equal and repeats == 1:
            one = shapes[0]
            made = jax.vmap(lambda k: init(k, one, dtype), out_axes=place)(keys)
            return made.reshape(shape)
        drawn = [init(k, each, dtype) for k, each in zip(keys, shapes, strict=True)]
        grouped = [
            x.reshape(*x.shape[:place], repeats, -1, *x.shape[place + 1 :])
            for x in drawn
        ]
        return jnp.concatenate(grouped, place + 1).reshape(shape)

    def law(shape: Shape, of: LawOf) -> Law:
        _, shapes = parts(shape)
        if equal:
            return _copies(of(shapes[0]), len(shapes))
        return _mixture([(math.prod(each), of(each)) for each in shapes])

    return with_law(draw, init, law)


def _mixture(laws: Sequence[tuple[int, Law]]) -> Law:
    """The law of an entry of several arrays, given their sizes."""
    total = sum(n for n, _ in laws) or 1
    shares = [(n / total, law) for n, law in laws]
    mean = sum(share * law.mean for share, law in shares)
    power = sum(share * (law.std**2 + abs(law.mean) ** 2) for share, law in shares)
    each = [law for _, law in laws]
    counts = [n if law.independent is None else law.independent for n, law in laws]
    first = each[0]._replace(
        mean=mean,
        std=math.sqrt(max(power - abs(mean) ** 2, 0)),
        low=min(law.low for law in each),
        high=max(law.high for law in each),
        independent=sum(counts),
        zeros=sum(share * law.zeros for share, law in shares),
    )
    alike = len({(law.mean, law.std, law.density) for law in each}) == 1
    return first if alike else first._replace(density="")


def _copies(one: Law, count: int) -> Law:
    """The law of so many independent draws."""
    if one.independent is None:
        return one
    return one._replace(independent=count * one.independent)


def with_law(
    draw: Init, inner: Callee, law: Callable[[Shape, LawOf], Law]
) -> tuple[Init, LawOf] | Init:
    """The draw, and its law where the inner initializer states one."""
    if not isinstance(inner, Initializer):
        return draw
    if not inner.random:
        draw = _keyless(draw)
    of = inner._content.law
    return draw if of is None else (draw, lambda shape: law(shape, of))


def _keyless(draw: Init) -> Init:
    """A draw from what ignores its key ignores it too."""

    def init(shape: Shape, dtype: Any) -> jax.Array:
        return draw(jax.random.key(0), shape, dtype)

    return init
