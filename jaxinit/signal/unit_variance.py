# SPDX-License-Identifier: Apache-2.0
"""LSUV: kernels scaled until each layer's output has unit variance on a batch.

Mishkin & Matas, "All you need is a good init", 2015, arXiv:1511.06422.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import Tabular, columns
from jaxinit.core import checks as check
from jaxinit.families import orthogonal
from jaxinit.signal.sums import fetch, moments
from jaxinit.signal.trace import Observation, Traced
from jaxinit.trees import Pattern, init_tree, plan_of

__all__ = ["Change", "Changes", "lsuv"]


@dataclass(frozen=True)
class Change:
    """What was done to one kernel, or to one slice of a stack of kernels.

    Attributes:
        path: the kernel's path, as `jaxinit.signal.report` has it.
        std_before: the standard deviation of its output before any was scaled.
        factor: what its kernel was multiplied by.
        iterations: in how many steps.
        std_after: the standard deviation then.
    """

    path: str
    std_before: float
    factor: float
    iterations: int
    std_after: float


@dataclass(frozen=True, repr=False)
class Changes(Tabular):
    """The kernels that were scaled, in order of execution, and those that were kept."""

    rows: tuple[Change, ...]
    kept: tuple[str, ...] = ()

    def _columns(self) -> dict[str, list[Any]]:
        return columns(Change, self.rows)

    def _notes(self) -> list[str]:
        return [f"kept: {', '.join(self.kept)}"] if self.kept else []


def lsuv(
    model: Any,
    *args: Any,
    key: Any = None,
    tol: float = 0.05,
    max_iter: int = 10,
    keep: Sequence[Pattern] = (),
    **kwargs: Any,
) -> tuple[Any, Changes]:
    """Layer-sequential unit-variance initialisation of a network, on a batch.

    Each kernel becomes orthogonal, as the network uses it: from its inputs to its
    outputs, slice by slice of a stack, part by part of a fused one. Then, in order of
    execution, W is divided by √Var(y) of its output y (with the bias) until
    |Var(y) - 1| <= tol, where the variance is over the whole output. A kernel alone
    takes one step, one with a bias or in a recurrence a few. Biases, embeddings, scales
    and complex kernels stay as they are, and so does a kernel that is not used, or
    whose scale cannot matter, for it is divided by its own size (weight
    standardisation). Of one that is used twice the first use counts. One compiled pass
    serves all steps.

    Args:
        model: a Linen module, an NNX module, or any function of (params, *args).
        *args: for Linen, the variables and then what the module takes, as in
            `model.apply(variables, batch)`; for NNX, what the module takes; for a
            function, the parameters and then the rest.
        key: the PRNG key of the orthogonal kernels, `jax.random.key(0)` if none is
            given.
        tol: how far the variance may be from 1.
        max_iter: the most steps for a kernel.
        keep: patterns, as those of `init_tree`, of kernels that stay as they are: a
            head of zeros, the end of a residual branch.
        **kwargs: for `model.apply`, such as `rngs`, or for the call.

    Returns:
        (variables, changes) for Linen, (model, changes) for NNX, (params, changes) for
        a function: new ones, the old stay as they are; `changes` has a row for each
        kernel scaled, and `kept`, the paths of the other kernels and embeddings.

    Raises:
        TypeError: as `jaxinit.signal.report`.
        ValueError: for a kernel whose output's variance is zero or not finite, does not
            move with its scale, or does not come within tol in max_iter steps, by its
            path.

    Example:
        >>> import jax, flax.linen as nn
        >>> import jaxinit
        >>> model = nn.Sequential([nn.Dense(64), nn.tanh, nn.Dense(64)])
        >>> x = 3 * jax.random.normal(jax.random.key(0), (128, 32))
        >>> variables = model.init(jax.random.key(1), x)
        >>> variables, changes = jaxinit.lsuv(model, variables, x)
        >>> bool(abs(model.apply(variables, x).var() - 1) < 0.05)
        True

    References:
        Mishkin & Matas, "All you need is a good init", 2015, arXiv:1511.06422,
        algorithm 1.
    """
    with check.speaker("lsuv"):
        key = check.key(jax.random.key(0) if key is None else key)
        tol = check.number("tol", tol, above=0.0)
        max_iter = check.integer("max_iter", max_iter, low=1)
        traced = Traced(model, args, kwargs)
        kernels = _kernels(traced, keep)
        if not kernels:
            raise ValueError(
                f"no kernel of {traced.given.who} is to be scaled: it has none of real "
                "numbers that is used, whose scale matters, and that is not kept"
            )
        drawn = _orthogonal(key, traced, kernels)
        factors, rows = _scale(traced, drawn, kernels, tol, max_iter)
        made = traced.given.rebuild(jax.jit(_multiply)(drawn, factors))
        paths = traced.given.paths
        kept = tuple(
            p.path
            for p in traced.network.values()
            if p.role in ("kernel", "embedding", "unknown", "unused")
            and len(p.shape) > 1
            and p.path not in {paths[i] for i in kernels}
        )
        return made, Changes(tuple(rows), kept)


def _kernels(traced: Traced, keep: Sequence[Pattern]) -> frozenset[int]:
    """The kernels to be scaled, by their numbers."""
    names = {}
    for tap in traced.taps:
        i = tap.own[0].leaf
        known = traced.network[traced.given.paths[i]]
        movable = known.role == "kernel" and traced.reader.uses[tap.use].degree != 0
        if movable and not jnp.iscomplexobj(traced.leaves[i]):
            names[known.path] = i
    if not names:
        return frozenset()
    tree = {path: traced.leaves[i] for path, i in names.items()}
    plan, _ = plan_of(tree, [("**", orthogonal())], keep)
    return frozenset(names[leaf.param.path] for leaf in plan if leaf.init is not None)


def _orthogonal(
    key: jax.Array, traced: Traced, kernels: frozenset[int]
) -> list[jax.Array]:
    """The parameters, with orthogonal kernels."""
    paths = traced.given.paths
    tree = {paths[i]: traced.leaves[i] for i in sorted(kernels)}
    layers = {path: traced.network[path] for path in tree}
    drawn = init_tree(key, tree, [("**", orthogonal())], layers=layers)
    return [drawn.get(path, x) for path, x in zip(paths, traced.leaves, strict=True)]


# --- scaling --------------------------------------------------------------------------


def _multiply(leaves: Sequence[jax.Array], factors: dict[int, Any]) -> list[Any]:
    new = list(leaves)
    for i, factor in factors.items():
        x = new[i]
        wide = x.dtype if x.dtype.itemsize > 4 else jnp.float32
        new[i] = (x.astype(wide) * factor.astype(wide)).astype(x.dtype)
    return new


def _scale(
    traced: Traced,
    leaves: Sequence[jax.Array],
    kernels: frozenset[int],
    tol: float,
    max_iter: int,
) -> tuple[dict[int, Any], list[Change]]:
    """The factors of the kernels' slices, found one by one, and what it took."""
    zeros = traced.probes
    factors: dict[int, Any] = {}
    for tap in traced.taps:
        i, axes = tap.own[0].leaf, tap.own[0].axes
        if i in kernels:
            sizes = enumerate(leaves[i].shape)
            shape = [size if axis in axes else 1 for axis, size in sizes]
            factors.setdefault(i, np.ones(shape, np.float32))

    @jax.jit
    def run(leaves: Any, arrays: Any, factors: Any) -> Any:
        return traced.run(_multiply(leaves, factors), arrays, zeros)[1]

    def look() -> list[Observation]:
        records = fetch(run(leaves, traced.given.arrays, factors))
        return list(traced.observations(records, zeros))

    found, rows = look(), []
    done: set[Any] = set()
    for n, row in enumerate(found):
        own = row.tap.own[0]
        i, axes = own.leaf, own.axes
        index = dict(zip(axes, row.index(own), strict=True))
        if i not in kernels or (i, *sorted(index.items())) in done:
            continue
        done.add((i, *sorted(index.items())))
        at = tuple(index.get(axis, 0) for axis in range(leaves[i].ndim))
        before, steps = _std(row), 0
        while not abs((std := _std(found[n])) ** 2 - 1) <= tol:
            _check(row.label, std, steps, max_iter, tol)
            factors[i][at] /= std
            found, steps = look(), steps + 1
            if abs(_std(found[n]) / std - 1) < STILL:
                raise ValueError(
                    f"the output of {row.label} does not move with its kernel's scale: "
                    f"its standard deviation stays {std:.4g}; give it to keep="
                )
        rows.append(Change(row.label, before, float(factors[i][at]), steps, std))
    return factors, rows


STILL = 1e-3  # a step that moves the deviation by less will not reach its goal


def _std(row: Observation) -> float:
    mean, rms = moments(row.record["total"], row.record["power"], row.count)
    return math.sqrt(max(rms**2 - mean**2, 0.0))


def _check(path: str, std: float, steps: int, max_iter: int, tol: float) -> None:
    if std == 0 or not math.isfinite(std):
        raise ValueError(
            f"the output of {path} has the standard deviation {std:g} and cannot be "
            "scaled to 1; look at the batch and at the layers before it, or give its "
            "kernel to keep="
        )
    if steps == max_iter:
        raise ValueError(
            f"the output of {path} has the variance {std**2:.4g} after {steps} steps, "
            f"not 1 ± {tol:g}; raise max_iter or tol, or give its kernel to keep="
        )
