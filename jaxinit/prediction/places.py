# SPDX-License-Identifier: Apache-2.0
"""Places of an image or a sequence that are unlike.

At a border of zeros fewer entries meet, and a causal mask lets early queries see few
keys. Of the law of an entry two things differ then: its mean square at each place, and
the covariance of any two places. Kernels carry both by the taps that meet each place.
Functions of single entries carry sizes by how they respond to a change of an operand,
and covariances by the correlations of their sources.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.prediction.entry import POSITION, Entry, Places, mean_of_others
from jaxinit.prediction.values import Given, Mixture

__all__ = [
    "MOST",
    "added",
    "centred",
    "convolved",
    "covariance",
    "differing",
    "places_of",
    "response",
    "windowed",
]

MOST = 256  # places of which pairs are told apart
STEP = 1e-3  # of an amplitude, for exponents
FLAT = 1e-6  # a difference between places that is none
TINY = 1e-6  # the size of a place where nothing is


def differing(power: np.ndarray, pairs: np.ndarray | None) -> Places | None:
    """Of E x² at each place and E x x' at any two; None where places are alike."""
    mean = float(power.mean())
    if mean <= 0:
        return None
    made = Places(power / mean, None)
    spread = float(np.ptp(made.power))
    if pairs is not None and 1 < len(pairs) <= MOST:
        pairs = pairs / mean
        np.fill_diagonal(pairs, made.power.ravel())
        made = Places(made.power, pairs)
        away = np.abs(pairs - (made.near or 0.0))
        np.fill_diagonal(away, 0.0)
        spread = max(spread, float(away.max()))
    return None if spread < FLAT else made


def covariance(x: Places | None, power: float, near: float, n: int) -> np.ndarray:
    """E x x' at any two of so many places."""
    known = x is not None and x.power.size == n
    if x is not None and known and x.pairs is not None:
        return power * x.pairs
    made = np.full((n, n), near)
    np.fill_diagonal(
        made, power * x.power.ravel() if x is not None and known else power
    )
    return made


def places_of(x: Any) -> Places | None:
    """Those of a signal, or of several side by side."""
    if isinstance(x, Entry):
        return x.places
    if not isinstance(x, Mixture):
        return None
    return added(x.parts)


def added(parts: Sequence[tuple[float, Entry]]) -> Places | None:
    """Those of a sum of independent signals, or of a mixture with such shares."""
    known = [e.places.power.shape for _, e in parts if e.places is not None]
    if len(set(known)) != 1:
        return None
    n = math.prod(known[0])
    if n <= MOST:
        whole = np.asarray(
            sum(s * covariance(e.places, e.power, e.position, n) for s, e in parts)
        )
        return differing(whole.diagonal().reshape(known[0]), whole)
    power = sum(s * e.power * (e.places.power if e.places else 1.0) for s, e in parts)
    return differing(np.asarray(power), None)


def convolved(
    eqn: Any, x: Any, laws: tuple[float, float, float], window: Sequence[int]
) -> tuple[tuple[float, float, float], Places | None]:
    """E x², that of two places and of two images, summed over taps; and the places."""
    (power, near, far), spec = laws, eqn.params["dimension_numbers"]
    sizes = tuple(x.shape[i] for i in spec.lhs_spec[2:])
    n, found = math.prod(sizes), places_of(x)
    if found is not None and found.power.shape != sizes:
        found = None
    number = np.arange(1, n + 1, dtype=np.float32).reshape(sizes)
    met = _taps(eqn, number, window).round().astype(int)  # 0 for a border
    counts = met > 0
    m = counts.shape[1]
    shape = tuple(eqn.outvars[0].aval.shape[i] for i in spec.out_spec[2:])
    far = far * float((counts.mean(1) ** 2).sum())
    if max(n, m) <= MOST:
        before = _of_data(x, spec) if isinstance(x, Given) else None
        if before is None:
            before = covariance(found, power, near, n)
        known = np.pad(before, ((1, 0), (1, 0)))
        whole = np.asarray(sum(known[np.ix_(tap, tap)] for tap in met))
        each = whole.diagonal()
        places = differing(each.reshape(shape), whole)
        return (float(each.mean()), mean_of_others(whole), far), places
    of_each = np.ones(n) if found is None else found.power.ravel()
    each = power * np.append(0.0, of_each)[met].sum(0)
    both = near * float((counts.sum(1) ** 2).sum() - counts.sum()) / (m * (m - 1))
    return (float(each.mean()), both, far), differing(each.reshape(shape), None)


def _of_data(x: Given, spec: Any) -> np.ndarray:
    """The mean of x x' at two places of the images that are given."""
    images = np.asarray(x.array, np.float64).transpose(spec.lhs_spec)
    flat = images.reshape(*images.shape[:2], -1)
    return np.einsum("bcp,bcq->pq", flat, flat) / max(math.prod(flat.shape[:2]), 1)


def _taps(eqn: Any, image: np.ndarray, window: Sequence[int]) -> np.ndarray:
    """What each tap of a window meets at each output: (taps, places)."""
    params, taps = eqn.params, math.prod(window)
    ones = np.eye(taps, dtype=np.float32).reshape(taps, 1, *window)
    with jax.ensure_compile_time_eval():
        met = jax.lax.conv_general_dilated(
            jnp.asarray(image[None, None]),
            jnp.asarray(ones),
            params["window_strides"],
            params["padding"],
            params["lhs_dilation"],
            params["rhs_dilation"],
            precision="highest",
        )
    return np.asarray(met).reshape(taps, -1)


def response(
    run: Callable[[Sequence[np.ndarray]], np.ndarray],
    entries: Sequence[Entry],
    values: Sequence[np.ndarray],
    made: Entry,
) -> np.ndarray | None:
    """E x² at each place over its mean, behind a function of entries, which is `run`.

    Each operand counts by a power of its own, with the exponent that is right at the
    mean.
    """
    known = [(k, e.profile) for k, e in enumerate(entries) if e.profile is not None]
    if len({size.shape for _, size in known}) != 1:
        return None
    power = np.ones_like(known[0][1])
    for k, size in known:
        louder = run([v * (1 + STEP) if i == k else v for i, v in enumerate(values)])
        loud = replace(made, values=np.broadcast_to(louder, made.values.shape))
        if made.power > 0 and loud.power > 0:
            ratio = math.log(loud.power / made.power) / math.log1p(STEP) / 2
            power = power * np.maximum(size, TINY) ** ratio
    return power / power.mean()


def centred(x: Entry) -> Places | None:
    """Without the mean over all examples and places."""
    p = x.places
    if p is None:
        return None
    if p.pairs is None:
        return differing(np.maximum(x.power * p.power - x.example, 0.0), None)
    n = len(p.pairs)
    means = (p.pairs.sum(1) - p.pairs.diagonal()) / (n - 1)
    means = means / means.mean() if means.mean() > 0 else np.ones(n)
    whole = x.power * p.pairs - x.example * (means[:, None] + means - 1)
    power = np.maximum(whole.diagonal(), 0.0)
    return differing(power.reshape(p.power.shape), whole)


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

    def pool(image: np.ndarray) -> np.ndarray:
        with jax.ensure_compile_time_eval():
            found = jax.lax.reduce_window(
                jnp.asarray(image.reshape(p.power.shape), jnp.float32),
                0.0,
                jax.lax.add,
                **each,
            )
        return np.asarray(found, np.float64)

    if p.pairs is None:
        return differing(pool(p.power), None)
    half = np.stack([pool(row).ravel() for row in p.pairs])
    whole = np.stack([pool(row).ravel() for row in half.T])
    return differing(whole.diagonal().reshape(pool(p.power).shape), whole)
