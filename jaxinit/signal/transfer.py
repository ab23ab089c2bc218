# SPDX-License-Identifier: Apache-2.0
"""`transfer`: whether the best learning rate is the same at every width."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxinit.core import Tabular
from jaxinit.core import checks as check
from jaxinit.signal.widths import numbers, train
from jaxinit.trees import Rules

__all__ = ["Transfer", "transfer"]


@dataclass(frozen=True, repr=False)
class Transfer(Tabular):
    """The result of `transfer`.

    Attributes:
        widths, rates: that were tried.
        losses: after training, (widths, rates, seeds).

    Example:
        >>> import numpy as np
        >>> from jaxinit.signal import Transfer
        >>> u = np.array([[[2.0], [1.0], [2.0]], [[2.0], [1.0], [2.0]]])
        >>> Transfer((64, 128), (0.1, 0.2, 0.4), u).drift
        0.0
    """

    widths: tuple[int, ...]
    rates: tuple[float, ...]
    losses: np.ndarray = field(compare=False)

    @property
    def best(self) -> tuple[float, ...]:
        """The best rate of each width: the least of a parabola in log rate."""
        return tuple(self._best(each.mean(-1)) for each in self.losses)

    @property
    def error(self) -> float:
        """By how many octaves the optimum of a width varies over the seeds."""
        each = np.array(
            [
                [
                    math.log2(self._best(self.losses[i, :, s]))
                    for s in range(self.losses.shape[2])
                ]
                for i in range(len(self.widths))
            ]
        )
        return float(each.std(1).mean())

    @property
    def drift(self) -> float:
        """By how many octaves the optimum moves from the narrowest to the widest."""
        return math.log2(self.best[-1] / self.best[0])

    def _best(self, losses: np.ndarray) -> float:
        safe = np.where(np.isfinite(losses), losses, np.inf)
        k = int(np.argmin(safe))
        if k in (0, len(safe) - 1) or not np.isfinite(safe[k - 1 : k + 2]).all():
            return self.rates[k]
        x = np.log2(self.rates[k - 1 : k + 2])
        a, b, _ = np.polyfit(x, np.log(safe[k - 1 : k + 2]), 2)
        return (
            float(2 ** np.clip(-b / (2 * a), x[0], x[-1])) if a > 0 else self.rates[k]
        )

    def _columns(self) -> dict[str, list[Any]]:
        named: dict[str, list[Any]] = {
            "width": list(self.widths),
            "best rate": list(self.best),
        }
        for j, rate in enumerate(self.rates):
            named[f"{rate:.3g}"] = [float(x) for x in self.losses[:, j].mean(-1)]
        return named

    def _notes(self) -> tuple[str, ...]:
        drift = f"the best rate moves by {self.drift:+.2f} ± {self.error:.2f} octaves"
        return (drift,)


def transfer(
    make: Callable[[int, Any], Any],
    widths: Sequence[int],
    rates: Sequence[float],
    batch: Any,
    *,
    loss: Callable[[Any], Any],
    optimizer: Callable[[int, Any, float], Any],
    rules: Rules | None = None,
    steps: int = 20,
    seeds: int = 2,
    key: Any = None,
) -> Transfer:
    """The loss by learning rate for several widths, and whether the best rate stays.

    Args:
        make, widths, batch, loss, rules, seeds, key: as of `coord_check`.
        rates: the learning rates to try, growing.
        optimizer: from a width, the parameters and a rate to an optimizer.
        steps: how many steps of training.

    Returns:
        A `Transfer`: the losses, the best rate of each width, and its `drift`.

    Raises:
        TypeError, ValueError: as `coord_check`.

    Example:
        >>> import jax, optax
        >>> from jaxinit import signal
        >>> def make(width, key):
        ...     w = jax.random.normal(key, (4, width)) / 2
        ...     return (lambda params, x: x @ params["w"]), {"w": w}
        >>> found = signal.transfer(
        ...     make, [8, 16], [0.1, 0.4], jax.numpy.eye(4), steps=2,
        ...     loss=lambda y: (y**2).sum(),
        ...     optimizer=lambda width, params, rate: optax.sgd(rate),
        ... )
        >>> found.best
        (0.4, 0.4)

    References:
        G. Yang et al., "Tensor programs V", 2022, arXiv:2203.03466, figure 1.
    """
    with check.speaker("signal.transfer"):
        widths = numbers(widths)
        tried = tuple(check.number("rates", rate, above=0.0) for rate in rates)
        steps = check.integer("steps", steps, low=1)
        seeds = check.integer("seeds", seeds, low=1)
        key = check.key(jax.random.key(0) if key is None else key)
        losses = np.full((len(widths), len(tried), seeds), np.nan)
        for i, net in enumerate(train(make, widths, batch, rules, loss, key, seeds)):
            for seed, start in enumerate(net.starts):
                for j, rate in enumerate(tried):
                    made = optimizer(net.width, start, rate)
                    *_, (_, last) = net.steps(start, made, steps)
                    losses[i, j, seed] = last
        return Transfer(widths, tried, losses)
