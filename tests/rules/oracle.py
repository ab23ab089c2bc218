# SPDX-License-Identifier: Apache-2.0
"""Recipes against what other libraries drew, as `tests/data/recipes` has it.

A `Case` is a Flax model of the architecture of a recorded one. Its parameters are named
after the recorded ones by regular expressions; several may be parts of one.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

import jaxinit
from jaxinit.core import Law
from jaxinit.trees import plan_of
from tests.helpers import SIGMAS

FOLDER = Path(__file__).parents[1] / "data" / "recipes"
SLASHES = ("keras", "t5x", "vit_jax")  # which name as Flax does
NAMES = [(r"(^|/)(kernel|scale|embedding)$", r"\1weight"), ("/", ".")]


class Case(NamedTuple):
    """A recipe, the recorded model, and a Flax model with the same parameters."""

    recipe: str
    library: str
    reference: str
    model: Any  # a Linen module, or a function of nnx.Rngs
    batch: tuple[Any, ...]
    names: Sequence[tuple[str, str]] = ()
    rules: Callable[[], Any] | None = None
    by_name: bool = True  # whether the recipe works without a reading
    apart: str = "^$"  # the paths that are not compared

    def __str__(self) -> str:
        kind = "nnx" if self.is_nnx else "linen"
        return f"{self.recipe}-{self.library}-{self.reference}-{kind}".replace(" ", "_")

    @property
    def is_nnx(self) -> bool:
        return not hasattr(self.model, "init_with_output")

    def parts(self) -> tuple[Any, Any]:
        """The shapes of the parameters, and the reading."""
        if self.is_nnx:
            model = self.model(nnx.Rngs(0))
            batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.batch)
            return nnx.state(model, nnx.Param), jaxinit.read(model, *batch)
        tree = jax.eval_shape(self.model.init, jax.random.key(0), *self.batch)
        return tree, jaxinit.read(self.model, tree, *self.batch)


class Row(NamedTuple):
    """What was recorded of a parameter."""

    path: str
    shape: tuple[int, ...]
    entries: int
    mean: float
    std: float
    low: float
    high: float
    kind: str


class Found(NamedTuple):
    """A parameter of the Flax model, its law, the recorded row, what is wrong."""

    path: str
    law: Law
    row: Row
    wrong: str


def recorded(library: str) -> tuple[dict[str, str], dict[str, dict[str, Row]]]:
    """The versions of a library's packages, and the rows of its models."""
    told = json.loads((FOLDER / f"{library}.json").read_text())
    models = {
        name: {row[0]: Row(*row) for row in rows}
        for name, rows in told["models"].items()
    }
    return told["versions"], models


def compared(case: Case, tree: Any, layers: Any) -> list[Found]:
    """Each parameter of a case with what the reference drew."""
    rules = case.rules() if case.rules else getattr(jaxinit.rules, case.recipe)()
    rows = recorded(case.library)[1][case.reference]
    plan, _ = plan_of(tree, rules, (), layers)
    found = []
    for leaf in plan:
        path = leaf.param.path.removeprefix("params/").removeprefix("batch_stats/")
        if re.search(case.apart, path):
            continue
        name = path
        usual = () if case.library in SLASHES else NAMES
        for pattern, new in (*case.names, *usual):
            name = re.sub(pattern, new, name)
        law = leaf.init.law(leaf.param.shape)
        found.append(Found(path, law, rows[name], disagreement(law, rows[name])))
    return found


def disagreement(law: Law, row: Row) -> str:
    """In what a law is not that of a row; nothing within five standard errors."""
    flat = law.density == "uniform"
    kurtosis = 1.8 if flat else 3.0
    mean = float(law.mean.real)
    off = abs(row.mean - mean)
    if row.low == law.low < -20 * law.std:
        row = _without_its_bound(row)
    if row.kind != "random":
        pairs = ((row.mean, mean), (row.std, law.std))
        same = all(math.isclose(a, b, rel_tol=1e-6) for a, b in pairs)
        return "" if same else "constant"
    if law.std == 0:
        return "not random"
    if off > SIGMAS * law.std / math.sqrt(row.entries):
        return "mean"
    error = math.sqrt((kurtosis - 1) / (4 * row.entries))
    if abs(row.std / law.std - 1) > SIGMAS * error:
        return "standard deviation"
    slack = 1 + 1e-5
    if row.low < law.low * slack or row.high > law.high * slack:
        return "bounds"
    reached = max(-row.low, row.high)
    if flat and reached < law.high * (1 - 40 / row.entries):
        return "never near its bounds"
    return "" if flat or law.density != "normal" or reached > 2 * law.std else "flat"


def _without_its_bound(row: Row) -> Row:
    """A row without the entry at its lower bound, a hundred deviations out.

    PyTorch's `trunc_normal_` gives the bound where its uniform number is 0, which
    happens once in 2²⁴ entries.
    """
    n = row.entries - 1
    mean = (row.entries * row.mean - row.low) / n
    square = (row.entries * (row.std**2 + row.mean**2) - row.low**2) / n
    return row._replace(
        entries=n, mean=mean, std=math.sqrt(square - mean**2), low=-row.high
    )
