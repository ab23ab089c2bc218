# SPDX-License-Identifier: Apache-2.0
"""After a design there is nothing left for LSUV to do.

Mishkin & Matas (2015, arXiv:1511.06422) divide each kernel by the deviation of its
output on a batch. The outputs of designed kernels have the size that is wanted as they
are: 1, or 1 / √N at the end of one of N branches. What the literature leaves as small
as it comes is left out: heads, and what comes of attention's average.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit.signal.sums import rms
from jaxinit.signal.trace import Traced
from tests.helpers import SIGMAS
from tests.signal.networks import NETWORKS, RULES, UNSTABLE, powers

QUICK = True  # see conftest.py

WIDTH, SEEDS = 256, 8
MOST = 0.03  # that LSUV may change, beside the standard error of its mean
LONGEST = 10  # layers of a chain that drives the examples of a batch apart


def wanted(p: jaxinit.Parameter) -> float | None:
    """The size that a kernel's output is to have, where LSUV would give it that."""
    if p.role != "kernel" or p.after is None or p.invariant or "output" in p.before:
        return None
    if {"contraction", "loop"} & {*p.after.kinds}:
        return None
    return p.branch.of**-0.5 if p.branch else 1.0


def changes(name: str, rules: Any = None) -> dict[str, np.ndarray]:
    """The squares of what LSUV divides designed kernels by: (seeds,) by path."""
    run, shapes, batch = NETWORKS[name](WIDTH)
    traced = Traced(run, (shapes, batch), {}, values=False)
    network, paths = traced.network, traced.given.paths
    rules = jaxinit.design(run, shapes, batch) if rules is None else rules
    zeros = jax.tree.map(jnp.asarray, traced.probes)

    @jax.jit
    @jax.vmap
    def run_divided(leaves: Any, divisors: Any) -> Any:
        divided = [x / d for x, d in zip(leaves, divisors, strict=True)]
        return powers(traced.run(divided, traced.given.arrays, zeros)[1])

    def look() -> list[Any]:
        """The rows of each draw."""
        every = jax.device_get(run_divided(leaves, divisors))
        ones = [jax.tree.map(lambda x, i=i: x[i], every) for i in range(SEEDS)]
        return [list(traced.observations(records, zeros)) for records in ones]

    draws = [
        jax.tree.leaves(jaxinit.init_tree(key, shapes, rules, layers=network))
        for key in jax.random.split(jax.random.key(0), SEEDS)
    ]
    leaves = [jnp.stack(each) for each in zip(*draws, strict=True)]
    divisors = [np.ones((*x.shape[:2], *[1] * (x.ndim - 2)), "float32") for x in leaves]
    found = {}
    rows = look()
    for k, path in enumerate([row.label for row in rows[0]]):
        whole, _, place = path.partition("[")  # of a slice of a stack
        size = wanted(network[whole])
        if size is None:
            continue
        factors = np.array([rms(r[k].record["power"], r[k].count) for r in rows]) / size
        divisor = divisors[paths.index(whole)]
        slices = divisor[:, int(place[:-1])] if place else divisor
        slices *= factors.reshape(-1, *[1] * (slices.ndim - 1))
        found[path] = factors**2
        rows = look()
    return found


def off(squares: np.ndarray) -> float:
    """How much LSUV changes a kernel, in the mean."""
    return abs(math.sqrt(squares.mean()) - 1)


def bound(found: Any) -> float:
    """What it may, with the standard error of the mean, pooled over the kernels."""
    variance = np.mean([np.var(each, ddof=1) for each in found.values()])
    return MOST + SIGMAS * math.sqrt(variance / SEEDS) / 2


@pytest.mark.sweep(every=8)
@pytest.mark.parametrize("name", NETWORKS)
def test_lsuv_changes_no_kernel(name):
    found = changes(name)
    kept = list(found.values())[: LONGEST if name == UNSTABLE else None]
    assert max(off(each) for each in kept) < bound(found)


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["llama", "vit"])
def test_it_changes_kernels_that_pass_over_gates_and_branches(name):
    found = changes(name, RULES)
    assert max(off(each) for each in found.values()) > bound(found)
