# SPDX-License-Identifier: Apache-2.0
"""`coord_check`: whether a network learns alike at every width."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import jax
import numpy as np

from jaxinit.core import Tabular, columns
from jaxinit.core import checks as check
from jaxinit.signal.widths import numbers, slope, train
from jaxinit.trees import Rules

__all__ = ["CoordCheck", "Coordinate", "coord_check"]

# Each parametrisation scales with powers of √width: between the right slope and the
# nearest wrong one lies 1/4.
HALFWAY = 0.25
SIGMAS = 2.0


@dataclass(frozen=True)
class Coordinate:
    """How the output of one kernel goes with the width, at one step.

    Attributes:
        path: the kernel's path, as `jaxinit.signal.report` has it.
        step: 0 before training.
        rms: the slope of log rms y on log width.
        rms_error: its standard error, over the widths and seeds.
        change: the slope of the rms of y's change since step 0; None at step 0.
        change_error: its standard error.
        output: whether it is an output of the model, which may begin smaller.

    Example:
        >>> from jaxinit.signal import Coordinate
        >>> Coordinate("head", 1, 0.01, 0.02, 0.52, 0.01, False).flag
        'head: its change grows as width^0.52 at step 1'
    """

    path: str
    step: int
    rms: float
    rms_error: float
    change: float | None = None
    change_error: float | None = None
    output: bool = False

    @property
    def flag(self) -> str | None:
        """What is wrong, in words."""
        least = -0.5 if self.output and self.step == 0 else 0.0
        checked: list[tuple[str, float | None, float | None, float]] = [
            ("size", self.rms, self.rms_error, least),
            ("change", self.change, self.change_error, 0.0),
        ]
        for what, found, error, low in checked:
            if found is None or error is None:
                continue
            if math.isnan(found):
                return f"{self.path}: its {what} is 0 or not finite at step {self.step}"
            verb = None
            if found - SIGMAS * error > HALFWAY:
                verb = "grows"
            elif found + SIGMAS * error < low - HALFWAY:
                verb = "falls"
            if verb and not (what == "size" and self.output and self.step):
                return (
                    f"{self.path}: its {what} {verb} as width^{found:.2f} at step "
                    f"{self.step}"
                )
        return None


@dataclass(frozen=True, repr=False)
class CoordCheck(Tabular):
    """The result of `coord_check`; it prints as a table with the flags below.

    Attributes:
        widths: that were trained.
        rows: a `Coordinate` for each kernel and step.
        values: for each of them the rms of y and of its change, (widths, seeds).

    Example:
        >>> from jaxinit.signal import Coordinate, CoordCheck
        >>> CoordCheck((64, 128), (Coordinate("w", 0, 0.0, 0.01),)).ok
        True
    """

    widths: tuple[int, ...]
    rows: tuple[Coordinate, ...]
    values: tuple[tuple[np.ndarray, np.ndarray], ...] = field(default=(), compare=False)

    @property
    def flags(self) -> tuple[str, ...]:
        """What is wrong, in words."""
        return tuple(row.flag for row in self.rows if row.flag is not None)

    @property
    def ok(self) -> bool:
        """Whether nothing grows or falls with the width."""
        return not self.flags

    def _columns(self) -> dict[str, list[Any]]:
        named = columns(Coordinate, self.rows)
        del named["output"]
        return named

    def _notes(self) -> tuple[str, ...]:
        return self.flags

    def to_dict(self) -> dict[str, Any]:
        """The widths, rows and flags as JSON can hold them."""
        rows = [
            {
                k: str(v) if isinstance(v, float) and math.isnan(v) else v
                for k, v in d.items()
            }
            for d in map(asdict, self.rows)
        ]
        return {"widths": list(self.widths), "rows": rows, "flags": list(self.flags)}

    def plot(self, axes: Any = None) -> Any:
        """Draw the rms of the changes by width, a panel for each step."""
        from jaxinit import plot

        return plot.coordinates(self, axes)


def coord_check(
    make: Callable[[int, Any], Any],
    widths: Sequence[int],
    batch: Any,
    *,
    loss: Callable[[Any], Any],
    optimizer: Callable[[int, Any], Any],
    rules: Rules | None = None,
    steps: int = 4,
    seeds: int = 3,
    key: Any = None,
) -> CoordCheck:
    """The coordinate check of muP: whether outputs and their changes go with the width.

    Networks of several widths are trained a few steps on one batch. For each kernel's
    output y the slope of log rms y, and of log rms (y - y₀), on log width is fitted.
    In a parametrisation that transfers, both are 0 for every kernel; an output of the
    model may begin smaller, with a slope down to -1/2. In the standard one the changes
    of hidden layers and outputs grow with the width.

    Args:
        make: from a width and a key to the model as `signal.report` takes it before
            the batch: (module, variables) of Linen, a module of NNX, or (function,
            parameters).
        widths: two or more, growing.
        batch: what the model takes after that; several arguments in a tuple.
        loss: from the model's output to a real scalar.
        optimizer: from a width and the parameters to a pair of functions `init` and
            `update`, as those of Optax; the rates of `rules.mup_rates` go there.
        rules: redraw the parameters by these rules, as `init_tree`.
        steps: how many steps of training.
        seeds: how many networks of each width.
        key: the PRNG key, `jax.random.key(0)` if none is given.

    Returns:
        A `CoordCheck`, with `ok`, `flags`, a table and a plot.

    Raises:
        TypeError, ValueError: for widths that do not grow, and as `signal.report`.

    Example:
        One linear layer, of which each output sums over 8 inputs at any width:

        >>> import jax, optax
        >>> from jaxinit import signal
        >>> def make(width, key):
        ...     w = jax.random.normal(key, (8, width)) / 8**0.5
        ...     return (lambda params, x: x @ params["w"]), {"w": w}
        >>> x = jax.random.normal(jax.random.key(1), (16, 8))
        >>> found = signal.coord_check(
        ...     make, [64, 256], x, loss=lambda y: (y**2).mean(), steps=0,
        ...     optimizer=lambda width, params: optax.sgd(0.1),
        ... )
        >>> found.ok
        True

    References:
        G. Yang et al., "Tensor programs V", 2022, arXiv:2203.03466, appendix D.1.
    """
    with check.speaker("signal.coord_check"):
        widths = numbers(widths)
        steps = check.integer("steps", steps, low=0)
        seeds = check.integer("seeds", seeds, low=1)
        key = check.key(jax.random.key(0) if key is None else key)
        found: dict[str, np.ndarray] = {}
        outputs: frozenset[str] = frozenset()
        shape = (2, steps + 1, len(widths), seeds)
        for i, net in enumerate(train(make, widths, batch, rules, loss, key, seeds)):
            outputs = net.outputs
            for seed, start in enumerate(net.starts):
                made = optimizer(net.width, start)
                states = [params for params, _ in net.steps(start, made, steps)]
                for label, values in net.sizes(states).items():
                    new = found.setdefault(label, np.full(shape, np.nan))
                    new[:, :, i, seed] = values
        rows, kept = [], []
        for step in range(steps + 1):
            for label, (size, change) in found.items():
                plain = label.partition("[")[0].partition(" (")[0]
                output = label in outputs or plain in outputs
                row = Coordinate(label, step, *slope(widths, size[step]), output=output)
                if step:
                    moved, error = slope(widths, change[step])
                    row = replace(row, change=moved, change_error=error)
                rows.append(row)
                kept.append((size[step], change[step]))
        return CoordCheck(widths, tuple(rows), tuple(kept))
