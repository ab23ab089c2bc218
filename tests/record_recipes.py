# SPDX-License-Identifier: Apache-2.0
"""Record what other libraries draw: `python -m tests.record_recipes [library ...]`.

Run by hand, in an environment of its own with the extra `oracles`. Each model of
`tests/oracle_models.py`, `oracle_scaling.py` and `oracle_sources.py` is made with
several seeds, and every parameter's moments go to
`tests/data/recipes/<library>.json`: a list of

    path, shape, entries, mean, standard deviation, least, greatest, kind

whose kind is "random", "fixed" (not one number, but the same with every seed) or
"constant". The suite compares the recipes with these files, and installs none of the
libraries.
"""

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

os.environ["KERAS_BACKEND"] = "jax"

FOLDER = Path(__file__).parent / "data" / "recipes"
ENTRIES, SEEDS = 8192, (4, 176)  # of the smallest random parameter; the seeds' bounds
DIGITS = 7


class Moments:
    """The count, mean, variance and bounds of a parameter over all seeds."""

    def __init__(self, first: np.ndarray) -> None:
        self.first, self.fixed, self.entries = first, True, 0
        self.sum = self.squares = 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, array: np.ndarray) -> None:
        x = np.asarray(array, "float64")
        self.fixed = self.fixed and np.array_equal(x, self.first)
        self.entries += x.size
        self.sum += float(x.sum())
        self.squares += float((x**2).sum())
        self.low, self.high = min(self.low, x.min()), max(self.high, x.max())

    def row(self, path: str) -> list[Any]:
        mean = self.sum / self.entries
        std = math.sqrt(max(self.squares / self.entries - mean**2, 0.0))
        kind = "fixed" if self.fixed else "random"
        if self.low == self.high:
            kind, mean, std = "constant", self.low, 0.0
        numbers = (float(f"{x:.{DIGITS}g}") for x in (mean, std, self.low, self.high))
        return [path, list(self.first.shape), self.entries, *numbers, kind]


def record(make: Callable[[int], Mapping[str, np.ndarray]]) -> list[list[Any]]:
    """The rows of a model, of which `make(seed)` gives the parameters by path."""
    least, most = SEEDS
    found: dict[str, Moments] = {}
    for seed in range(most):
        for path, array in make(seed).items():
            found.setdefault(path, Moments(np.array(array, "float64"))).add(array)
        few = [each for each in found.values() if each.entries < ENTRIES]
        if seed + 1 >= least and all(each.fixed for each in few):
            break
    return [each.row(path) for path, each in found.items()]


def written(versions: Mapping[str, str], models: Mapping[str, Iterable[Any]]) -> str:
    """The file of a library, a line for each parameter."""
    blocks = [
        f"  {json.dumps(name)}: [\n"
        + ",\n".join(f"   {json.dumps(row, separators=(',', ':'))}" for row in rows)
        + "\n  ]"
        for name, rows in models.items()
    ]
    head = json.dumps(dict(versions))
    return f'{{"versions": {head},\n "models": {{\n' + ",\n".join(blocks) + "\n}}\n"


def main(libraries: list[str]) -> None:
    from tests.oracle_models import LIBRARIES
    from tests.oracle_scaling import SCALING
    from tests.oracle_sources import COMMITS, SOURCES

    FOLDER.mkdir(parents=True, exist_ok=True)
    known = LIBRARIES | SCALING | SOURCES
    for library in libraries or known:
        packages, models = known[library]
        recorded = {}
        for name, make in models().items():
            print(library, name, flush=True)
            recorded[name] = record(make)
        versions = {"repository": COMMITS[library]} if library in COMMITS else {}
        versions |= {package: version(package) for package in packages}
        (FOLDER / f"{library}.json").write_text(written(versions, recorded))


if __name__ == "__main__":
    main(sys.argv[1:])
