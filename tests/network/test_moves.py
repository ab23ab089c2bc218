# SPDX-License-Identifier: Apache-2.0
"""Kernels that were moved at random, and products by random letters, are counted."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from tests.network import oracle
from tests.network.models import s

QUICK = True  # see conftest.py

SIZES = (2, 3, 4, 6)


def factors(n: int, rng: np.random.Generator) -> list[int]:
    """Sizes whose product is n."""
    made = []
    while n > 1:
        made.append(next(k for k in range(2, n + 1) if n % k == 0))
        n //= made[-1]
    rng.shuffle(made)
    while len(made) > 1 and rng.random() < 0.5:
        made[-2:] = [made[-2] * made[-1]]
    return made or [1]


def moved(w: Any, rng: np.random.Generator) -> Any:
    """A kernel after some moves."""
    for _ in range(rng.integers(0, 5)):
        axis = int(rng.integers(w.ndim))
        n = w.shape[axis]
        match rng.integers(9):
            case 0:
                w = w.transpose(rng.permutation(w.ndim))
            case 1 | 2:
                w = w.reshape(factors(w.size, rng))
            case 3:
                w = jnp.flip(w, axis)
            case 4 if n % 2 == 0:
                w = jnp.split(w, 2, axis)[int(rng.integers(2))]
            case 5 if n > 2:
                low = int(rng.integers(n - 1))
                w = jax.lax.slice_in_dim(
                    w, low, int(rng.integers(low + 1, n + 1)), 1, axis
                )
            case 6:
                w = jnp.concatenate([w, jnp.zeros_like(w)], axis)
            case 7:
                w = jnp.expand_dims(w, axis) * 2
            case 8 if n > 2:
                w = w[
                    tuple(
                        slice(None, None, 2 if i == axis else None)
                        for i in range(w.ndim)
                    )
                ]
    return w


def applied(w: Any, rng: np.random.Generator) -> Any:
    """A product of data with a kernel of any shape, by random letters."""
    letters = "abcdefghijklmnop"[: w.ndim]
    roles = [str(rng.choice(["in", "out", "copy"])) for _ in letters]
    if "in" not in roles:
        roles[int(rng.integers(w.ndim))] = "in"
    data = [n for n, role in zip(letters, roles, strict=True) if role != "out"]
    outs = [n for n, role in zip(letters, roles, strict=True) if role != "in"]
    data, outs = [*data, "z"], [*outs, "z"]
    rng.shuffle(data)
    rng.shuffle(outs)
    sizes = dict(zip(letters, w.shape, strict=True), z=2)
    x = jnp.ones([sizes[n] for n in data])
    pair = [("".join(data), x), (letters, w)]
    if rng.random() < 0.5:
        pair = pair[::-1]
    equation = f"{pair[0][0]},{pair[1][0]}->{''.join(outs)}"
    return equation, x.shape, pair[0][0] != letters


def check(seed: int) -> bool:
    """Whether the reading counts a random use as the oracle does; False if it ends."""
    shape = np.random.default_rng(seed).choice(SIZES, size=1 + seed % 4)
    shapes = [s(*map(int, shape))]
    like = jax.eval_shape(
        lambda w: moved(w, np.random.default_rng((seed, 1))), shapes[0]
    )
    zeros = jnp.zeros(like.shape)
    equation, batch, first = applied(zeros, np.random.default_rng((seed, 2)))

    def run(params: Any, x: Any) -> Any:
        w = moved(params[0], np.random.default_rng((seed, 1)))
        return jnp.einsum(equation, *((x, w) if first else (w, x)))

    (p,) = jaxinit.read(run, shapes, s(*batch)).values()
    trace = jax.make_jaxpr(run)(shapes, s(*batch))
    if p.role == "unknown":
        return False
    try:
        uses = oracle.uses_of(trace, ["parameter", "data"])
    except oracle.Uneven:
        return False
    counted = {(use.fan_in, use.fan_out) for use in uses}
    read = {(a, b) for _, a, b in p.uses}
    assert counted == read, f"{seed}, {equation}: counted {counted}, read {read}"
    return True


@pytest.mark.sweep
@pytest.mark.parametrize("block", range(10))
def test_kernels_that_were_moved_are_counted(block):
    """And nearly all can be followed."""
    followed = [check(seed) for seed in range(25 * block, 25 * (block + 1))]
    assert np.mean(followed) > 0.6
