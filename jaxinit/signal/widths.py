# SPDX-License-Identifier: Apache-2.0
"""Networks of several widths, trained a few steps: the coordinate check, and transfer.

Yang et al., "Tensor programs V: tuning large neural networks via zero-shot
hyperparameter transfer", 2022, arXiv:2203.03466, appendix D.1 and figure 1.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxinit.core import checks as check
from jaxinit.network import pass_of
from jaxinit.signal.report import scalar
from jaxinit.signal.sums import fetch, powers, rms
from jaxinit.signal.trace import Traced
from jaxinit.trees import Rules, init_tree

__all__ = ["Trained", "numbers", "slope", "train"]

Make = Callable[[int, Any], Any]


class Trained:
    """Networks of one width, one for each seed, trained on one batch."""

    def __init__(
        self,
        make: Make,
        width: int,
        batch: Sequence[Any],
        rules: Rules | None,
        loss: Callable[[Any], Any],
        keys: Sequence[Any],
    ) -> None:
        models = [_parts(make(width, jax.random.fold_in(key, 0))) for key in keys]
        model, *args = models[0]
        self.width, self.traced = width, Traced(model, [*args, *batch], {})
        given = self.given = self.traced.given
        drawn = [
            list(pass_of(model, [*args, *batch], {}).leaves) for model, *args in models
        ]
        if rules is not None:
            drawn = [
                self._draw(rules, jax.random.fold_in(key, 1), leaves)
                for key, leaves in zip(keys, drawn, strict=True)
            ]
        self.starts = [jax.tree.unflatten(given.structure, x) for x in drawn]

        def objective(params: Any) -> Any:
            return scalar(loss, given.run(jax.tree.leaves(params), given.arrays), None)

        self.slopes = jax.jit(jax.value_and_grad(objective))

    def _draw(self, rules: Rules, key: Any, leaves: Sequence[Any]) -> list[Any]:
        """The parameters redrawn by rules."""
        paths, network = self.given.paths, self.traced.network
        tree = {paths[i]: leaves[i] for i in self.traced.numbers}
        new = init_tree(key, tree, rules, layers=network)
        return [new.get(path, x) for path, x in zip(paths, leaves, strict=True)]

    @property
    def outputs(self) -> frozenset[str]:
        """The taps whose signal is an output of the model, by their paths."""
        network, paths = self.traced.network, self.given.paths
        return frozenset(
            tap.path
            for tap in self.traced.taps
            if "output" in network[paths[tap.own[0].leaf]].before
        )

    def steps(self, start: Any, optimizer: Any, count: int) -> Iterator[Any]:
        """The parameters and the loss, at the start and after each step."""

        @jax.jit
        def step(grads: Any, state: Any, params: Any) -> Any:
            updates, state = optimizer.update(grads, state, params)
            added = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates)
            return added, state

        params, state = start, optimizer.init(start)
        for k in range(count + 1):
            value, grads = self.slopes(params)
            yield params, float(value)
            if k < count:
                params, state = step(grads, state, params)

    @functools.cached_property
    def _sums(self) -> Callable[[Any, Any], Any]:
        traced = self.traced

        @jax.jit
        def look(params: Any, first: Any) -> Any:
            now, then = (
                traced.run(jax.tree.leaves(p), traced.given.arrays, None)[1]
                for p in (params, first)
            )
            return {
                n: {
                    "size": powers(now[n]["value"], len(tap.loops)),
                    "change": powers(
                        now[n]["value"] - then[n]["value"], len(tap.loops)
                    ),
                }
                for n, tap in enumerate(traced.taps)
            }

        return look

    def sizes(self, states: Sequence[Any]) -> dict[str, np.ndarray]:
        """The rms of each output, and of its change since the first, (2, states)."""
        found: dict[str, list[tuple[float, float]]] = {}
        zeros = self.traced.probes
        for params in states:
            calls: Counter[str] = Counter()
            sums = fetch(self._sums(params, states[0]))
            for seen in self.traced.observations(sums, zeros):
                calls[seen.label] += 1
                k = calls[seen.label]
                label = seen.label if k == 1 else f"{seen.label} (call {k})"
                size, change = (
                    rms(seen.record[which], seen.count) for which in ("size", "change")
                )
                found.setdefault(label, []).append((size, change))
        return {label: np.array(pairs).T for label, pairs in found.items()}


def _parts(made: Any) -> tuple[Any, ...]:
    return made if isinstance(made, tuple) else (made,)


def train(
    make: Make,
    widths: Sequence[int],
    batch: Any,
    rules: Rules | None,
    loss: Any,
    key: Any,
    seeds: int,
) -> Iterator[Trained]:
    """The networks of each width."""
    if not callable(make):
        raise TypeError(f"make must be a function of a width and a key, got {make!r}")
    if not callable(loss):
        raise TypeError(f"loss must be a function of the model's output, got {loss!r}")
    args = batch if isinstance(batch, tuple) else (batch,)
    for width in widths:
        keys = [
            jax.random.fold_in(jax.random.fold_in(key, seed), width)
            for seed in range(seeds)
        ]
        yield Trained(make, width, args, rules, loss, keys)


def numbers(widths: Any) -> tuple[int, ...]:
    """Two widths or more, growing."""
    given = check.integers("widths", widths, low=1)
    if len(given) < 2 or list(given) != sorted(set(given)):
        raise ValueError(f"widths must be two or more, growing, got {given}")
    return given


def slope(widths: Sequence[int], values: np.ndarray) -> tuple[float, float]:
    """The slope of log values (widths, seeds) on log widths, and its standard error."""
    x = np.repeat(np.log(widths), values.shape[1])
    with np.errstate(divide="ignore"):
        y = np.log(values).ravel()
    if not np.isfinite(y).all():
        return math.nan, math.nan
    x = x - x.mean()
    found = float((x * y).sum() / (x * x).sum())
    rest = y - y.mean() - found * x
    error = math.sqrt(
        float((rest**2).sum()) / max(len(y) - 2, 1) / float((x * x).sum())
    )
    return found, error
