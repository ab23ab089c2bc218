# SPDX-License-Identifier: Apache-2.0
"""Tables of a tree: what its rules would draw, and whether it holds that."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.compile import jit_init
from jaxinit.core import Fans, Initializer, Law, Shape, Tabular, cell, columns
from jaxinit.core import checks as check
from jaxinit.network import Parameter
from jaxinit.trees.measures import differing, moments, z_scores
from jaxinit.trees.parts import Part
from jaxinit.trees.patterns import Pattern, Rules
from jaxinit.trees.tree import Leaf, plan_of


@dataclass(frozen=True)
class Row:
    """What a leaf should be (`std` is the law's) and, after a check, what it is.

    `rule` is the rule that gives it, in words; `fans` tells whether they were "given"
    with the initializer, "read" in the network or "guessed" from the shape.
    """

    path: str
    shape: Shape
    dtype: str
    initializer: str
    rule: str | None
    fans: str | None
    fan_in: float | None
    fan_out: float | None
    std: float | None
    parameters: int
    bytes: int
    measured_mean: float | complex | None = None
    measured_std: float | None = None
    z_mean: float | None = None
    z_std: float | None = None


@dataclass(frozen=True, repr=False)
class Table(Tabular):
    """The rows of a tree and the problems found in it; it prints as aligned text."""

    rows: tuple[Row, ...]
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def _columns(self) -> dict[str, list[Any]]:
        return columns(Row, self.rows)

    def _notes(self) -> list[str]:
        """What stands beneath the rows."""
        parameters = cell(sum(row.parameters for row in self.rows))
        size = sum(row.bytes for row in self.rows) / 2**20
        notes = [f"{len(self.rows)} leaves, {parameters} parameters, {size:.4g} MiB"]
        if guessed := sum(row.fans == "guessed" for row in self.rows):
            notes.append(
                f"the fans of {guessed} are guessed, as of dense kernels; "
                "layers=jaxinit.read(model, ...) reads them"
            )
        return [*notes, *self.problems]


def describe_tree(
    tree: Any,
    rules: Rules,
    *,
    keep: Sequence[Pattern] = (),
    layers: Mapping[str, Parameter] | None = None,
) -> Table:
    """The table of what `init_tree` would draw, with the same errors; draws nothing.

    Example:
        >>> import jax, jaxinit
        >>> tree = {"kernel": jax.ShapeDtypeStruct((200, 50), "float32")}
        >>> (row,) = jaxinit.describe_tree(tree, [("kernel", jaxinit.he_normal())]).rows
        >>> row.fan_in, round(row.std, 9)  # √(2 / 200)
        (200, 0.1)
    """
    with check.speaker("describe_tree"):
        return Table(tuple(map(_row, _drawable(tree, rules, keep, layers))))


def check_tree(
    tree: Any,
    rules: Rules,
    *,
    keep: Sequence[Pattern] = (),
    layers: Mapping[str, Parameter] | None = None,
) -> Table:
    """Measure a tree of arrays against the rules that should have drawn it.

    The table of `describe_tree`, with means, standard deviations and their z: by how
    many standard errors they miss the law. Its `problems` are |z| > 5, entries that are
    not finite or outside the law's bounds, constant or duplicate leaves where the law
    is random, and other entries where it is not. Complex entries have no z, for the law
    is one of real entries.

    Raises:
        TypeError, ValueError: as `init_tree`, and for a leaf that is no array.

    Example:
        >>> import jax, jaxinit
        >>> rules = [("kernel", jaxinit.he_normal())]
        >>> tree = {"kernel": jax.numpy.zeros((200, 50))}
        >>> jaxinit.check_tree(tree, rules).problems
        ('kernel: all entries are 0',)
        >>> tree = jaxinit.init_tree(jax.random.key(0), tree, rules)
        >>> jaxinit.check_tree(tree, rules).ok
        True
    """
    with check.speaker("check_tree"):
        problems: list[str] = []
        seen: dict[Any, list[Leaf]] = {}
        plan = _drawable(tree, rules, keep, layers)
        fixed = _constants(plan)
        rows = [_measure(leaf, fixed, problems, seen) for leaf in plan]
        return Table(tuple(rows), tuple(problems))


def _drawable(tree: Any, rules: Any, keep: Any, layers: Any) -> list[Leaf]:
    """The leaves, each of which could be drawn."""
    plan, _ = plan_of(tree, rules, keep, layers)
    kinds: dict[Any, Leaf] = {}
    for leaf in plan:
        init = leaf.init if isinstance(leaf.init, Initializer) else id(leaf.init)
        kinds.setdefault((init, leaf.param.shape, leaf.param.dtype), leaf)
    drawn = [leaf for leaf in kinds.values() if leaf.init is not None]
    key = jax.eval_shape(jax.random.key, 0)
    jax.eval_shape(
        lambda keys: [leaf.draw(k) for leaf, k in zip(drawn, keys, strict=True)],
        [key] * len(drawn),
    )
    return plan


def _law(leaf: Leaf) -> Law | None:
    init = leaf.init
    if isinstance(init, Part):
        return init.law(leaf.param.shape)
    if isinstance(init, Initializer) and init.states_law:
        return init.law(leaf.param.shape)
    return None


def _row(leaf: Leaf) -> Row:
    param, init, law = leaf.param, leaf.init, _law(leaf)
    fans: list[float | None] = [None, None]
    inner = init
    while isinstance(inner, Initializer) and "init" in inner.arguments:
        inner = inner.arguments["init"]
    if isinstance(inner, Initializer) and "mode" in inner.arguments:
        given = inner.arguments
        axes = (given[name] for name in ("in_axis", "out_axis", "batch_axis"))
        counts = given["fans"] or Fans.axes(*axes)
        known = param.layers.get(param.name)
        shape = param.shape if known is None else known.kernel(param.shape)
        for i, count in enumerate((counts.fan_in, counts.fan_out)):
            with contextlib.suppress(ValueError):
                fans[i] = count(shape)
    return Row(
        path=param.path,
        shape=param.shape,
        dtype=str(param.dtype),
        initializer="kept" if init is None else repr(init),
        rule=leaf.rule,
        fans=leaf.fans,
        fan_in=fans[0],
        fan_out=fans[1],
        std=None if law is None else law.std,
        parameters=math.prod(param.shape),
        bytes=math.prod(param.shape) * param.dtype.itemsize,
    )


def _is_fixed(leaf: Leaf) -> bool:
    """Whether the entries are known before any draw."""
    law = _law(leaf)
    return law is not None and not (leaf.init.random and law.std)


def _constant(leaf: Leaf) -> Any:
    """The array of a leaf that one number fills, without a program; None for others."""
    law, dtype = _law(leaf), leaf.param.dtype
    if law is None or law.std or law.low != law.high or not leaf.is_float:
        return None
    wide = np.asarray(law.mean, np.float32 if dtype.itemsize < 4 else None)
    return np.broadcast_to(wide.astype(dtype), leaf.param.shape)


def _constants(plan: Sequence[Leaf]) -> dict[str, Any]:
    """The arrays that do not depend on the key, by path and placed as the leaves."""
    known = {leaf.param.path: _constant(leaf) for leaf in plan if _is_fixed(leaf)}
    leaves = [leaf for leaf in plan if known.get(leaf.param.path, leaf) is None]
    key = jax.random.key(0)
    draw = jit_init(
        lambda: [leaf.draw(key) for leaf in leaves],
        out_shardings=[leaf.param.sharding for leaf in leaves],
    )
    arrays = draw() if leaves else ()
    return known | dict(zip([leaf.param.path for leaf in leaves], arrays, strict=True))


def _measure(
    leaf: Leaf,
    fixed: Mapping[str, Any],
    problems: list[str],
    seen: dict[Any, list[Leaf]],
) -> Row:
    """A leaf's row with what it holds; what is wrong with it joins the problems."""
    row, law, x = _row(leaf), _law(leaf), leaf.value
    if not leaf.is_array or check.is_traced(x):
        raise TypeError(f"{row.path} must be an array with values, got {x!r}")
    n = row.parameters

    def problem(text: str) -> None:
        problems.append(f"{row.path}: {text}")

    if n and leaf.is_float:
        found = moments(x)
        meant = law is not None and not np.isfinite(law.mean)  # constant(inf)
        if found.bad and not meant:
            problem(f"{found.bad} of {n} entries are NaN or infinite")
            return row
        mean, std, low, high = found.mean, found.std, found.low, found.high
        row = replace(row, measured_mean=mean, measured_std=std)
    if law is None or n == 0:
        return row
    if row.path in fixed:
        if others := differing(x, fixed[row.path]):
            problem(f"{others} of {n} entries are not those of {row.initializer}")
        return row
    eps = float(jnp.finfo(x.dtype).eps)
    reach = max(abs(end) for end in (law.low, law.high, 0.0) if math.isfinite(end))
    real = not np.iscomplexobj(x)
    if real and (low < law.low - eps * reach or high > law.high + eps * reach):
        problem(
            f"entries reach from {low:.6g} to {high:.6g}, and the law from "
            f"{law.low:.6g} to {law.high:.6g}"
        )
    count = law.count(row.shape)
    if count > 1 and count * x.dtype.itemsize >= 8:  # fewer bits may agree by chance
        if low == high:
            problem(f"all entries are {low:g}")
            return row
        like = seen.setdefault((n, x.dtype, low, high), [])
        for other in like:
            if not differing(x, other.value):
                problem(f"the entries are those of {other.param.path}")
        like.append(leaf)
    if count and n > 1 and real:
        z_mean, z_std = z_scores(found, law, count, eps)
        row = replace(row, z_mean=z_mean, z_std=z_std)
        for what, got, want, z in (
            ("mean", mean, law.mean, z_mean),
            ("standard deviation", std, law.std, z_std),
        ):
            if abs(z) > 5:
                problem(f"the {what} is {got:.6g}, not {want:.6g}: z = {z:+.1f}")
    return row
