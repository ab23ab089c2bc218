# SPDX-License-Identifier: Apache-2.0
"""The initializer: a value that is called with a key and a shape.

A family of initializers is a factory in the JAX idiom: an outer function takes the
hyperparameters and checks them, an inner `init(key, shape, dtype)` is the
mathematics. `@initializer` above the outer function adds all the rest, once: the value
(`_value.py`) and the call boundary below. Beside `init` the factory may return `law`,
a function of the shape that says what the family promises.
"""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxinit import _checks as check
from jaxinit._checks import DType, OutSharding, Shape
from jaxinit._threefry import fast_key
from jaxinit._value import Value, built, is_factory

P = ParamSpec("P")

REACH = 5.5  # float32 normals end at 5.42 standard deviations, uniforms at 1.74


class Law(NamedTuple):
    """What an initializer promises of the entries of an array of a given shape."""

    mean: float | complex
    std: float
    low: float = -np.inf
    high: float = np.inf
    bounded: bool = False  # low and high are the caller's: rounding stays within
    random: bool = True  # False: the key is ignored, and any dtype will do


Init: TypeAlias = Callable[[Any, Shape, Any], jax.Array]
LawOf: TypeAlias = Callable[[Shape], Law]


class Initializer(Value):
    """A pure function (key, shape, dtype) -> array, known by the call that built it.

    Built alike means equal: initializers compare, hash, print, pickle and copy by
    their factory and its arguments, so that one is fit to be a static argument of
    `jax.jit` or a field of a Flax module without a second trace.

    The array is drawn in float32 when the dtype is narrower, and rounded once. Each
    call runs one compiled program, shared by all equal initializers.

    Example:
        >>> import jax, jaxinit
        >>> init = jaxinit.he_normal()
        >>> init == jaxinit.variance_scaling(2.0, "fan_in", "truncated_normal")
        True
        >>> init(jax.random.key(0), (64, 32), "bfloat16").dtype.name
        'bfloat16'
    """

    __slots__ = ()

    def __call__(
        self,
        key: Any,
        shape: Any,
        dtype: DType = None,
        out_sharding: OutSharding = None,
    ) -> jax.Array:
        """Draw an array.

        Args:
            key: one PRNG key, typed or legacy.
            shape: the sizes of the array's axes; with a zero among them the array
                is empty.
            dtype: by default the factory's dtype, or else JAX's default float.
            out_sharding: a `NamedSharding`, or a `PartitionSpec` under
                `jax.set_mesh`; each shard is drawn where it lives.

        Raises:
            TypeError, ValueError: for a key that is none, or a shape or dtype that
                the family does not define.
        """
        try:
            if type(shape) is not tuple or not {int}.issuperset(map(type, shape)):
                shape = check.shape(shape)
            if key is not None and not hasattr(key, "dtype"):
                check.key(key)
            if self._traced:
                return _drawn(self, key, shape, _canonical(self, dtype), out_sharding)
            x64 = jax.config.jax_enable_x64  # type: ignore[attr-defined]
            return _program(self, shape, dtype, out_sharding, x64)(key)
        except Exception as error:
            text = error.args[0] if error.args else None
            if isinstance(text, str):
                error.args = (f"{self!r} for shape {shape}: {text}", *error.args[1:])
            raise

    def law(self, shape: Any) -> Law:
        """The mean, standard deviation and bounds of the real entries of such an array.

        Example:
            >>> import jaxinit
            >>> jaxinit.he_normal().law((200, 10)).std
            0.1
        """
        law = self._law(check.shape(shape))
        if law is None:
            raise ValueError(
                f"{self!r} states no law: its factory returns no (init, law), or an "
                "argument is traced"
            )
        return law

    @property
    def states_law(self) -> bool:
        """Whether `law` has an answer."""
        return self._made[1] is not None and not self._traced

    def _law(self, shape: Shape) -> Law | None:
        _, law = self._made
        return law(shape) if self.states_law else None


def initializer(
    factory: Callable[P, Init | tuple[Init, LawOf] | Initializer],
) -> Callable[P, Initializer]:
    """Make a closure factory a factory of `Initializer` values.

    The factory takes hyperparameters and returns `init(key, shape, dtype)`, or a
    pair of it and `law(shape) -> Law`; or it returns an `Initializer` (a preset).
    Arguments reach it in plain form: lists as tuples, numpy scalars and 0-d arrays
    as Python numbers. An argument named `dtype` is the default dtype of the calls.
    `init` is called with a typed key, a tuple of positive ints and a dtype of at
    least 32 bits, once per shape and dtype, inside `jax.jit`.

    Raises:
        TypeError: if the factory takes *args or **kwargs, which have no names to
            compare, print and store by.

    Example:
        >>> import jax, jaxinit
        >>> @jaxinit.initializer
        ... def laplace(scale=1.0):
        ...     def init(key, shape, dtype):
        ...         return scale * jax.random.laplace(key, shape, dtype)
        ...     return init
        >>> laplace(0.5), laplace(0.5) == laplace(0.5)
        (laplace(0.5), True)
    """
    return built(_made, factory)


def _made(
    factory: Callable[..., Any], arguments: dict[str, Any], made: Any
) -> Initializer:
    init, law = made if isinstance(made, tuple) else (made, None)
    if not callable(init):
        raise TypeError(
            f"the factory must return init(key, shape, dtype), got {made!r}"
        )
    return Initializer(factory, arguments, (init, law))


def callee(name: str, value: Any) -> Callable[..., jax.Array]:
    """An initializer passed as an argument: one of ours, or any such callable."""
    if inspect.isclass(value) or not callable(value):
        raise TypeError(f"{name} must be an initializer, got {value!r}")
    if is_factory(value):
        raise TypeError(
            f"{name} must be an initializer, got the factory {value.__qualname__}; "
            f"call it: {value.__qualname__}()"
        )
    return cast(Callable[..., jax.Array], value)


@functools.lru_cache(maxsize=4096)
def _program(
    init: Initializer, shape: Shape, dtype: DType, out_sharding: OutSharding, x64: bool
) -> Callable[[Any], jax.Array]:
    """The compiled draw, found by what the caller wrote: a call costs one look."""
    return _compiled(init, check.shape(shape), _canonical(init, dtype), out_sharding)


@functools.lru_cache(maxsize=4096)
def _compiled(
    init: Initializer, shape: Shape, dtype: np.dtype[Any], out_sharding: OutSharding
) -> Callable[[Any], jax.Array]:
    """The compiled draw; equal initializers find the same one."""

    def draw(key: Any) -> jax.Array:
        return _drawn(init, key, shape, dtype, out_sharding)

    return jax.jit(draw)


def _drawn(
    init: Initializer,
    key: Any,
    shape: Shape,
    dtype: np.dtype[Any],
    out_sharding: OutSharding,
) -> jax.Array:
    """Draw in at least float32, round once, place the shards."""
    law = init._law(shape)
    if law is not None:
        _fits(law, dtype)
    if key is None and law is not None and not law.random:
        key = jax.random.key(0)  # never looked at
    key = check.key(key)

    def draw(key: Any) -> jax.Array:
        if 0 in shape:
            return jnp.zeros(shape, dtype)
        narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
        body, _ = init._made
        array = body(
            fast_key(check.typed_key(key)),
            shape,
            np.dtype(np.float32) if narrow else dtype,
        )
        if narrow and law is not None and law.bounded:
            array = jnp.clip(array, *_inside(law, dtype))
        return array.astype(dtype)

    return _placed(draw, key, out_sharding)


def _placed(
    draw: Callable[[Any], jax.Array], key: Any, out_sharding: OutSharding
) -> jax.Array:
    if out_sharding is None:
        return draw(key)
    if isinstance(out_sharding, NamedSharding):
        mesh = out_sharding.mesh.abstract_mesh
    elif isinstance(out_sharding, PartitionSpec):
        mesh = jax.sharding.get_abstract_mesh()
    else:
        raise TypeError(
            "out_sharding must be a NamedSharding or a PartitionSpec, got "
            f"{out_sharding!r}"
        )
    if mesh.empty:
        raise ValueError(
            f"out_sharding {out_sharding} needs a mesh; pass a NamedSharding, or call "
            "under jax.set_mesh(mesh)"
        )
    if explicit := mesh.explicit_axes:
        if jax.sharding.get_abstract_mesh().empty:  # called outside jax.set_mesh
            return jax.jit(draw, out_shardings=out_sharding)(key)
        place = jax.sharding.auto_axes(draw, axes=explicit, out_sharding=out_sharding)
        return place(key)
    return jax.lax.with_sharding_constraint(draw(key), out_sharding)


def _canonical(init: Initializer, dtype: DType) -> np.dtype[Any]:
    """The dtype to draw in: the call's, the factory's or JAX's default float."""
    if dtype is None:
        dtype = init.arguments.get("dtype")
    if dtype is None:
        return jax.dtypes.canonicalize_dtype(np.float64)
    asked = jnp.dtype(check.dtype_name("dtype", dtype))
    canonical = jax.dtypes.canonicalize_dtype(asked) if asked.itemsize >= 8 else asked
    if asked != canonical:
        warnings.warn(
            f"dtype {asked.name} needs jax_enable_x64, and {canonical.name} is drawn",
            UserWarning,
            stacklevel=4,
        )
    return canonical


def _fits(law: Law, dtype: np.dtype[Any]) -> None:
    """Refuse a dtype that cannot hold what the law promises."""
    if not jnp.issubdtype(dtype, jnp.inexact):
        if law.random:
            raise TypeError(
                f"dtype {dtype.name} cannot hold random values; use a float dtype"
            )
        return
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return
    reach = REACH * law.std
    mean = float(np.real(law.mean))
    low, high = max(law.low, mean - reach), min(law.high, mean + reach)
    holds = jnp.finfo(dtype)
    if low < float(holds.min) or high > float(holds.max):
        raise ValueError(
            f"dtype {dtype.name} holds {float(holds.min):g} to {float(holds.max):g}, "
            f"and the entries reach from {low:.3g} to {high:.3g}; use a wider dtype "
            "or a smaller scale"
        )


def _inside(law: Law, dtype: np.dtype[Any]) -> tuple[np.float32, np.float32]:
    """The least and the greatest number of a dtype within the bounds."""
    ends = []
    for bound, inward in ((law.low, np.inf), (law.high, -np.inf)):
        holds = jnp.finfo(dtype)
        end = np.asarray(np.clip(bound, float(holds.min), float(holds.max)), dtype)
        if (float(end) - bound) * np.sign(inward) < 0:
            end = np.nextafter(
                end,
                np.asarray(np.clip(inward, float(holds.min), float(holds.max)), dtype),
            )
        ends.append(np.float32(end))
    if ends[0] > ends[1]:
        raise ValueError(
            f"no {dtype.name} number lies between {law.low} and {law.high}"
        )
    return ends[0], ends[1]
