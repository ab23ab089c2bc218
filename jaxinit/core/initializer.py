# SPDX-License-Identifier: Apache-2.0
"""The initializer: a value that is called with a key and a shape.

A family of initializers is a factory in the JAX idiom: an outer function takes the
hyperparameters and checks them, an inner `init(key, shape, dtype)` is the
mathematics. `@initializer` above the outer function adds all the rest, once: the value
(`value.py`), the call below, the draw (`draw.py`). Beside `init` the factory may return
`law`, a function of the shape that says what the family promises. An
`init(shape, dtype)` without a key belongs to a family whose arrays are the same for
every key.
"""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, cast

import jax

from jaxinit import compat
from jaxinit.core import checks as check
from jaxinit.core.checks import DType, OutSharding
from jaxinit.core.draw import Family, Init, LawOf, Programs, draw_array, dtype_of
from jaxinit.core.law import Law, NoLaw
from jaxinit.core.value import (
    Value,
    call_of,
    is_factory,
    is_permanent,
    leaves,
    value_factory,
)

P = ParamSpec("P")


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
            key: one PRNG key, typed or legacy; whatever else where `random` is False.
            shape: the sizes of the array's axes, or an int for one axis; with a zero
                among them the array is empty.
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
            if not self._content.random:
                key = None
            elif not hasattr(key, "dtype"):
                check.key(key)
            draw: Callable[[Any], jax.Array]
            if self._traced:
                canonical, narrowed = dtype_of(self, dtype)
                draw = functools.partial(
                    draw_array, self, shape, canonical, out_sharding
                )
            else:
                x64 = compat.setting("jax_enable_x64")
                find = self._content.programs.find
                draw, narrowed = find(self, shape, dtype, out_sharding, x64)
            if narrowed:
                warnings.warn(narrowed, UserWarning, stacklevel=2)
            return draw(key)
        except Exception as error:
            text = error.args[0] if error.args else None
            if isinstance(text, str):
                text = check.call_error(key, shape, text)
                error.args = (f"{self!r} {text}", *error.args[1:])
            raise

    def law(self, shape: Any) -> Law:
        """The mean, standard deviation and bounds of the real entries of such an array.

        Example:
            >>> import jaxinit
            >>> round(jaxinit.he_normal().law((200, 10)).std, 9)  # √(2 / 200)
            0.1
        """
        if not self.states_law:
            raise NoLaw(
                f"{self!r} states no law: its factory returns no (init, law), or an "
                "argument is traced"
            )
        law: Law = self._content.law(check.shape(shape))
        return law

    @property
    def states_law(self) -> bool:
        """Whether `law` has an answer."""
        return self._content.law is not None and not self._traced

    @property
    def random(self) -> bool:
        """Whether the array depends on the key; a constant takes any dtype too."""
        random: bool = self._content.random
        return random


def initializer(
    factory: Callable[P, Init | tuple[Init, LawOf] | Initializer],
) -> Callable[P, Initializer]:
    """Make a closure factory a factory of `Initializer` values.

    The factory takes hyperparameters and returns `init(key, shape, dtype)`, or a
    pair of it and `law(shape) -> Law`; or it returns an `Initializer` (a preset). An
    `init(shape, dtype)` is one whose arrays are the same for every key.
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
    return value_factory(_of, factory)


def _of(
    factory: Callable[..., Any], arguments: dict[str, Any], made: Any
) -> Initializer:
    init, law = made if isinstance(made, tuple) else (made, None)
    if not callable(init):
        raise TypeError(
            f"the factory must return init(key, shape, dtype), got {made!r}"
        )
    random = len(inspect.signature(init).parameters) != 2
    # Equal values share their programs, which live as long as their factory does. A
    # value of an argument that nothing else may hold (a local function) has its own.
    shared = all(map(is_permanent, leaves(arguments.values())))
    programs = getattr(factory, "__jaxinit_programs__", None) if shared else None
    if programs is None:
        programs = Programs()
        if shared:
            factory.__jaxinit_programs__ = programs  # type: ignore[attr-defined]
    return Initializer(factory, arguments, Family(init, law, random, programs))


def callee(name: str, value: Any) -> Callable[..., jax.Array]:
    """An initializer passed as an argument: one of ours, or any such callable."""
    if inspect.isclass(value) or not callable(value):
        raise TypeError(f"{name} must be an initializer, got {value!r}")
    if is_factory(value):
        raise TypeError(
            f"{name} must be an initializer, got the factory {value.__qualname__}; "
            f"call it: {call_of(value)}"
        )
    return cast(Callable[..., jax.Array], value)
