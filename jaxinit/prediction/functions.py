# SPDX-License-Identifier: Apache-2.0
"""Functions of single entries, of laws and of numbers."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.prediction.entry import POSITION, Entry, gaussian, number
from jaxinit.prediction.layouts import kinds_of_shape
from jaxinit.prediction.places import added
from jaxinit.prediction.values import Given, Logits, Lost, Mixture, Steps

__all__ = [
    "as_entry",
    "bind",
    "common",
    "compute",
    "join",
    "merge_sum",
    "mix",
    "number_of",
    "numbers",
    "select",
    "stack",
    "step_of",
]

FAR = -1e3  # a logit that counts for nothing


def numbers(x: Any, v: Any) -> Given:
    """A constant that a rule draws, as an array."""
    if isinstance(x, Given):
        return x
    return Given(np.full(x.shape, float(x.values), v.aval.dtype))


def compute(eqn: Any, operands: Sequence[Given]) -> list[Any]:
    """What numbers alone make."""
    with jax.ensure_compile_time_eval():
        outs = eqn.primitive.bind(*(x.array for x in operands), **eqn.params)
    return [Given(x) for x in (outs if eqn.primitive.multiple_results else [outs])]


def bind(eqn: Any, values: Sequence[np.ndarray]) -> np.ndarray:
    """A function of single entries, in float64."""
    if eqn.primitive.name in ("stop_gradient", "reduce_precision"):
        return values[0]
    grid = np.broadcast_shapes(*(v.shape for v in values))
    dtypes = [v.aval.dtype for v in eqn.invars]
    wide = [
        np.broadcast_to(v, grid).astype(
            np.float64 if jnp.issubdtype(d, jnp.floating) else d
        )
        for v, d in zip(values, dtypes, strict=True)
    ]
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        found = np.asarray(eqn.primitive.bind(*map(jnp.asarray, wide), **eqn.params))
    if np.iscomplexobj(found):
        raise Lost("complex numbers")
    return found


def as_entry(name: str, x: Any, shape: Any) -> Entry:
    """An operand of a function of single entries, as a law."""
    if isinstance(x, Entry):
        return x
    if not isinstance(x, Given):
        raise Lost("no law of its entries")
    known = x.number
    if known is not None:
        return number(known, x.shape)
    array = np.asarray(x.array)
    if array.dtype.kind not in "fiub":
        raise Lost("numbers of that kind")
    array = array.astype(np.float64)
    if name in ("mul", "div"):  # it counts by its mean square
        return number(math.sqrt(float((array**2).mean())), x.shape)
    mean, std = float(array.mean()), float(array.std())
    z = gaussian(1.0, 0.0, 1.0, x.shape, kinds_of_shape(x.shape))
    return replace(z, values=mean + std * z.values)


def number_of(x: Any) -> float | None:
    if isinstance(x, Given):
        return x.number
    if isinstance(x, Entry) and not x.sources:
        return float(x.values)
    return None


def merge_sum(x: Entry, name: str, terms: Sequence[Entry]) -> Entry:
    """A sum of independent Gaussians is one, with the covariances of all."""
    if name not in ("add", "add_any", "sub") or len(x.sources) < 2 or x.back:
        return x
    linear = _is_sum_of_lines(x)
    if not linear:
        return x
    m = x.mean
    apart = len(x.sources) == sum(len(e.sources) for e in terms)
    made = gaussian(
        x.power - m**2,
        x.position - m**2,
        x.example - m**2,
        x.shape,
        x.kinds,
        x.assumed,
        added([(1.0, e) for e in terms]) if apart else x.places,
    )
    return replace(made, values=made.values + m)


def common(made: Entry, entries: Sequence[Entry], name: str) -> float:
    """The share of a linear function that all units have in common."""
    share = sum(e.common for e in entries)
    if not share or made.slope is None:
        return 0.0
    if name in ("add", "add_any", "sub"):
        return sum(e.common * e.power for e in entries) / made.power
    return share  # of what is multiplied by a number


def _is_sum_of_lines(x: Entry) -> bool:
    """Whether a function is linear in all its sources."""
    values = x.values
    middle = values[tuple(len(values) // 2 for _ in x.sources)]
    rebuilt = np.asarray(middle)
    n = values.shape[0]
    for k in range(len(x.sources)):
        index: list[Any] = [n // 2] * len(x.sources)
        index[k] = slice(None)
        line = values[tuple(index)]
        alone = Entry((x.sources[k],), line, (), ())
        if alone.slope is None:
            return False
        shape = [1] * len(x.sources)
        shape[k] = n
        rebuilt = rebuilt + (line - middle).reshape(shape)
    return bool(
        np.abs(rebuilt - values).max() <= 1e-9 * (np.abs(values).max() + 1e-300)
    )


def select(operands: Sequence[Any], shape: Any) -> Any:
    """`select_n` by numbers: all of one case, or a mask of logits."""
    which, *cases = operands
    known = which.number
    if known is not None:
        return cases[int(known)]
    far = [k for k, x in enumerate(cases) if (number_of(x) or 0.0) < FAR]
    if len(cases) == 2 and len(far) == 1 and isinstance(cases[1 - far[0]], Entry):
        mask = np.asarray(which.array).astype(bool)
        keep = mask if far[0] == 0 else ~mask
        entry = cases[1 - far[0]]
        return Logits(entry, np.broadcast_to(keep, shape))
    logits = [x for x in cases if isinstance(x, Logits)]
    if len(cases) == 2 and logits and 0.0 in map(number_of, cases):
        return logits[0]  # what comes back to masked logits, which is 0 where they are
    entries = [as_entry("select_n", x, shape) for x in cases]
    silent = [k for k, e in enumerate(entries) if not e.sources and not e.values.any()]
    if len(cases) == 2 and len(silent) == 1:  # a share of the entries is put out
        share = float((np.asarray(which.array) == 1 - silent[0]).mean())
        kept = entries[1 - silent[0]]
        return replace(kept, values=kept.values * math.sqrt(share)).reshape(
            shape, kept.kinds
        )
    raise Lost("a mask of data")


def join(operands: Sequence[Any], axis: int, shape: Any) -> Any:
    """Arrays side by side."""
    parts: list[tuple[float, Entry]] = []
    for x in operands:
        share = x.shape[axis] / shape[axis]
        if isinstance(x, Mixture):
            parts += [(share * s, e) for s, e in x.parts]
        else:
            entry = as_entry("concatenate", x, x.shape)
            size = (*entry.shape[:axis], shape[axis], *entry.shape[axis + 1 :])
            kinds = list(entry.kinds)
            kind = kinds[axis][0][0] if kinds[axis] else POSITION
            kinds[axis] = ((kind, shape[axis]),)
            parts.append((share, entry.reshape(size, tuple(kinds))))
    first = parts[0][1]
    alike = all(
        np.isclose(e.power, first.power)
        and np.isclose(e.position, first.position)
        and len(e.sources) == len(first.sources) < 2
        and np.allclose(e.values, first.values)
        for _, e in parts
    )
    return first if alike else Mixture(tuple(parts), tuple(shape))


def mix(parts: Sequence[tuple[float, Any]], shape: Any) -> Mixture:
    """Laws with their shares; those of a mixture count one by one."""
    flat: list[tuple[float, Entry]] = []
    for share, x in parts:
        if isinstance(x, Mixture):
            flat += [(share * s, e) for s, e in x.parts]
        elif isinstance(x, Entry):
            flat.append((share, x))
        else:
            raise Lost("a mixture of what is no signal")
    return Mixture(tuple(flat), tuple(shape))


def step_of(x: Any, i: int) -> Any:
    """A slice of what a loop goes over."""
    if isinstance(x, Given):
        return Given(x.array[i])
    if isinstance(x, Steps):
        return x.values[i]
    if isinstance(x, Entry):
        return x.reshape(x.shape[1:], x.kinds[1:])
    if isinstance(x, Mixture) and len(x.parts) == x.shape[0]:
        entry = x.parts[i][1]
        return entry.reshape(
            x.shape[1:],
            entry.kinds[1:]
            if len(entry.kinds) == len(x.shape)
            else kinds_of_shape(x.shape[1:]),
        )
    return replace(x, shape=tuple(x.shape[1:]))


def stack(steps: Sequence[Any], shape: Any) -> Any:
    """What a loop leaves behind of all its steps."""
    if all(isinstance(x, Given) for x in steps):
        return Given(np.stack([np.asarray(x.array) for x in steps]))
    if all(isinstance(x, Entry) for x in steps):
        first = ((POSITION, shape[0]),) if shape[0] > 1 else ()
        laid = [x.reshape(shape, (first, *x.kinds)) for x in steps]
        return Mixture(tuple((1 / len(laid), x) for x in laid), tuple(shape))
    return Steps(tuple(steps), tuple(shape))
