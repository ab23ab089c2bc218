# SPDX-License-Identifier: Apache-2.0
"""Places of an image that are unlike: at a border of zeros fewer entries meet.

Of the law of an entry two things differ from place to place, its mean square and what
it has in common with other places. Kernels carry both by the taps that meet each place,
functions of single entries as powers of them, with the exponents at the mean.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.prediction.entry import POSITION, Entry, Places
from jaxinit.prediction.values import Mixture

__all__ = ["centred", "convolved", "differing", "places_of", "response", "windowed"]

STEP = 1e-3  # of an amplitude, for the exponents
TINY = 1e-6  # the size of a place where nothing is
FLAT = 1e-6  # a difference between places that is none


def differing(power: np.ndarray, shared: np.ndarray) -> Places | None:
    """Both over their means; None where places are alike."""
    power, shared = (
        each / each.mean() if each.mean() > 0 else np.ones_like(each)
        for each in (power, shared)
    )
    flat = max(float(np.ptp(power)), float(np.ptp(shared))) < FLAT
    return None if flat else Places(power, shared)


def places_of(x: Any) -> Places | None:
    """Those of a signal, or of several side by side."""
    if isinstance(x, Entry):
        return x.places
    if not isinstance(x, Mixture):
        return None
    known = [(share, e, e.places) for share, e in x.parts if e.places is not None]
    if len({p.power.shape for _, _, p in known}) != 1:
        return None
    even = np.ones_like(known[0][2].power)
    shares = [(share, e, e.places or Places(even, even)) for share, e in x.parts]
    return differing(
        sum((s * e.power * p.power for s, e, p in shares), 0 * even),
        sum((s * max(e.position, 0.0) * p.shared for s, e, p in shares), 0 * even),
    )


def convolved(
    eqn: Any, x: Any, sizes: Sequence[int], window: Sequence[int]
) -> tuple[tuple[float, float, float], Places | None]:
    """How many taps meet: a place itself, two of one image, and of two images.

    Weighed by what is there, in the mean over places; and how places differ.
    """
    found, even = places_of(x), np.ones(tuple(sizes))
    if found is None or found.power.shape != even.shape:
        found = Places(even, even)
    power = _taps(eqn, found.power, window).sum(0)
    shared = _taps(eqn, found.shared, window)
    means = shared.mean(1)
    n = shared.shape[1]
    far = float((means**2).sum())
    pairs = float((shared.sum(1) ** 2).sum() - (shared**2).sum())
    near = pairs / (n * (n - 1)) if n > 1 else far
    alone = float(power.mean())
    shape = _shape(eqn)
    return (alone, near, far), differing(
        power.reshape(shape), (means @ shared).reshape(shape)
    )


def _shape(eqn: Any) -> tuple[int, ...]:
    out = eqn.params["dimension_numbers"].out_spec
    return tuple(eqn.outvars[0].aval.shape[i] for i in out[2:])


def _taps(eqn: Any, image: np.ndarray, window: Sequence[int]) -> np.ndarray:
    """What each tap of a window meets at each output: (taps, places)."""
    params, taps = eqn.params, math.prod(window)
    ones = np.eye(taps, dtype=np.float32).reshape(taps, 1, *window)
    with jax.ensure_compile_time_eval():
        met = jax.lax.conv_general_dilated(
            jnp.asarray(image[None, None], jnp.float32),
            jnp.asarray(ones),
            params["window_strides"],
            params["padding"],
            params["lhs_dilation"],
            params["rhs_dilation"],
        )
    return np.asarray(met, np.float64).reshape(taps, -1)


def response(
    run: Callable[[Sequence[np.ndarray]], np.ndarray],
    entries: Sequence[Entry],
    values: Sequence[np.ndarray],
    made: Entry,
) -> Places | None:
    """How places differ behind a function of single entries, which is `run`."""
    known = [(k, e, e.places) for k, e in enumerate(entries) if e.places is not None]
    if len({p.power.shape for _, _, p in known}) != 1:
        return None
    correlations = [s.position for s in made.sources]
    common = made.product(correlations)
    if abs(common) < FLAT * made.power:
        common = 0.0  # nothing is, or rounding errors
    power = shared = np.ones_like(known[0][2].power)
    for k, e, places in known:
        louder = run([v * (1 + STEP) if i == k else v for i, v in enumerate(values)])
        loud = replace(made, values=np.broadcast_to(louder, made.values.shape))
        apart = [
            c * (1 - STEP) if s in e.sources else c
            for s, c in zip(made.sources, correlations, strict=True)
        ]
        of_power = _exponent(loud.power, made.power, 1 + STEP) / 2
        of_size = _exponent(made.product(correlations, loud), common, 1 + STEP)
        of_sharing = _exponent(made.product(apart), common, 1 - STEP)
        power = power * (size := np.maximum(places.power, TINY)) ** of_power
        correlation = np.maximum(places.shared / np.sqrt(size), TINY)
        shared = shared * size ** (of_size / 2) * correlation**of_sharing
    return differing(power, shared)


def _exponent(new: float, old: float, factor: float) -> float:
    """The n of new = old · factorⁿ; 0 where nothing is there."""
    if old == 0 or new / old <= 0:
        return 0.0
    return math.log(new / old) / math.log(factor)


def centred(x: Entry) -> Places | None:
    """Without the mean over all examples and places."""
    p = x.places
    if p is None:
        return None
    left = x.power * p.power - x.example * (2 * p.shared - 1)
    return differing(np.maximum(left, 0.0), p.shared)


def windowed(eqn: Any, x: Entry) -> Places | None:
    """In the mean over windows."""
    p = x.places
    spatial = [i for i in range(len(x.shape)) if x.size(i, POSITION) > 1]
    if p is None or len(spatial) != p.power.ndim:
        return None
    each = {
        name: [eqn.params[name][i] for i in spatial]
        for name in (
            "window_dimensions",
            "window_strides",
            "padding",
            "base_dilation",
            "window_dilation",
        )
    }
    with jax.ensure_compile_time_eval():
        power, shared = (
            np.asarray(
                jax.lax.reduce_window(
                    jnp.asarray(image, jnp.float32), 0.0, jax.lax.add, **each
                ),
                np.float64,
            )
            for image in (p.power, p.shared)
        )
    return differing(power, shared)
