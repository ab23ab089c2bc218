# SPDX-License-Identifier: Apache-2.0
"""Arrays that are parts of one draw, as the factors of a matrix are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from jaxinit.core import Law, Shape

__all__ = ["Part", "stack"]


class Part:
    """An initializer of one of several arrays that are made of one draw.

    `whole` says what is drawn, a function of the key that is equal for all the parts,
    and `part` takes an array out of it. `init_tree` draws the whole of parameters that
    share it and a source once. Fused parts of a kernel are not cut: a `Part` counts the
    parameter as it is.
    """

    random = True

    def whole(self, shape: Shape, dtype: Any) -> Callable[[Any], Any]:
        """A function of the key, which compares and hashes by value."""
        raise NotImplementedError

    def part(self, drawn: Any, shape: Shape, dtype: Any) -> jax.Array:
        """The array, from what the whole drew."""
        raise NotImplementedError

    def law(self, shape: Shape) -> Law | None:
        """The law of the entries, where it is known."""
        return None

    def __call__(self, key: Any, shape: Shape, dtype: Any) -> jax.Array:
        """The array, drawn alone."""
        return self.part(self.whole(shape, dtype)(key), shape, dtype)


def stack(init: Part, axis: int) -> Part:
    """Parts of a stack of wholes along an axis, with the keys of `stacked`."""
    return _Stack(init, axis)


@dataclass(frozen=True)
class _Stack(Part):
    init: Part
    axis: int

    def whole(self, shape: Shape, dtype: Any) -> Callable[[Any], Any]:
        n, rest = self._sizes(shape)
        return _Wholes(self.init.whole(rest, dtype), n)

    def part(self, drawn: Any, shape: Shape, dtype: Any) -> jax.Array:
        _, rest = self._sizes(shape)

        def one(each: Any) -> jax.Array:
            return self.init.part(each, rest, dtype)

        return jax.vmap(one, out_axes=self.axis)(drawn)

    def law(self, shape: Shape) -> Law | None:
        n, rest = self._sizes(shape)
        law = self.init.law(rest)
        if law is None or law.independent is None:
            return law
        return law._replace(independent=n * law.independent)

    def _sizes(self, shape: Shape) -> tuple[int, Shape]:
        sizes = list(shape)
        return sizes.pop(self.axis), tuple(sizes)


@dataclass(frozen=True)
class _Wholes:
    one: Callable[[Any], Any]
    count: int

    def __call__(self, key: Any) -> Any:
        return jax.vmap(self.one)(jax.random.split(key, self.count))
