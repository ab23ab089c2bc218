# SPDX-License-Identifier: Apache-2.0
"""Places that are unlike, against the covariances of all places, which are exact.

Of linear networks the covariance of any two places of an image or a sequence follows
in closed form; a prediction has the same one.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

import jaxinit
from jaxinit import signal
from tests.network.models import norm, s
from tests.signal.networks import conv

QUICK = True  # see conftest.py

KERNEL = [("**", jaxinit.variance_scaling(1.0, "fan_in", "normal"))]
SIDE, WIDTH, TOKENS = 6, 16, 12


def predicted(
    run: Any, params: Any, x: Any, rules: Any
) -> dict[str, tuple[float, float]]:
    rows = signal.predict(run, params, x, rules=rules).rows
    assert not any(row.note for row in rows)
    return {row.path: (row.rms**2, row.grad_rms**2) for row in rows}


# --- images ---------------------------------------------------------------------------


def through_conv(k: np.ndarray) -> np.ndarray:
    """K'(p, q) = Σ K(p + d, q + d) / 9 over the taps d that both have."""
    taps = np.zeros((3, 3, 3, 3))
    for i in range(3):
        for j in range(3):
            taps[i, j, i, j] = 1 / 9
    return ndimage.convolve(k, taps, mode="constant")


def sizes(k: np.ndarray) -> np.ndarray:
    n = k.shape[0] * k.shape[1]
    return k.reshape(n, n).diagonal()


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_borders_of_zeros(depth):
    def run(p: Any, x: Any) -> Any:
        for w in p["w"]:
            x = conv(x, w)
        return x.mean((1, 2)) @ p["head"]

    params = {"w": [s(3, 3, WIDTH, WIDTH)] * depth, "head": s(WIDTH, WIDTH)}
    found = predicted(run, params, jnp.ones((2, SIDE, SIDE, WIDTH)), KERNEL)
    there = [np.ones((SIDE,) * 4)]
    for _ in range(depth):
        there.append(through_conv(there[-1]))
    # A unit signal that comes back through the mean; the network is its own mirror.
    factor = 1 / SIDE**4
    for i in range(depth):
        forward, back = found[f"w/{i}"]
        assert forward == pytest.approx(sizes(there[i + 1]).mean(), rel=1e-5)
        wanted = factor * sizes(there[depth - 1 - i]).mean()
        assert back == pytest.approx(wanted, rel=1e-5)
    wanted = there[-1].mean()
    assert found["head"][0] == pytest.approx(wanted, rel=1e-5)
    # Places that are taken as alike share more than these do.
    assert sizes(there[-1]).mean() > 1.1 * wanted


def test_a_norm_of_each_place_makes_them_even():
    def run(p: Any, x: Any) -> Any:
        x = conv(x, p["a"])
        x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True))
        return conv(conv(x, p["b"]), p["c"]).mean((1, 2)) @ p["d"]

    params = {n: s(3, 3, WIDTH, WIDTH) for n in "abc"} | {"d": s(WIDTH, WIDTH)}
    found = predicted(run, params, jnp.ones((2, SIDE, SIDE, WIDTH)), KERNEL)
    first = through_conv(np.ones((SIDE,) * 4))
    even = ndimage.uniform_filter(np.ones((SIDE, SIDE)), 3, mode="constant")
    twice = ndimage.uniform_filter(even, 3, mode="constant")
    assert found["a"][0] == pytest.approx(sizes(first).mean(), rel=1e-5)
    assert found["b"][0] == pytest.approx(even.mean(), rel=1e-4)
    assert found["c"][0] == pytest.approx(twice.mean(), rel=1e-4)


# --- sequences ------------------------------------------------------------------------


def attend(p: Any, x: Any) -> Any:
    q, k, v = (x @ p[name] for name in ("q", "k", "v"))
    mask = jnp.tril(jnp.ones((TOKENS, TOKENS), bool))
    logits = jnp.where(mask, jnp.einsum("btd,bsd->bts", q, k), -1e30)
    return jnp.einsum("bts,bsd->btd", jax.nn.softmax(logits, -1), v) @ p["o"]


def test_each_query_of_a_causal_mask_has_its_own_keys():
    """Two layers of attention with queries of zeros: means over the tokens so far."""

    def run(p: Any, ids: Any) -> Any:
        x = p["e"][ids]
        for layer in p["layers"]:
            x = attend(layer, x)
        return x

    layers = [{name: s(WIDTH, WIDTH) for name in "qkvo"}] * 2
    params = {"e": s(TOKENS, WIDTH), "layers": layers}
    rules = [("**/q", jaxinit.zeros), ("e", jaxinit.normal(1.0)), *KERNEL]
    found = predicted(run, params, jnp.arange(TOKENS)[None], rules)
    means = np.tril(np.ones((TOKENS, TOKENS))) / np.arange(1, TOKENS + 1)[:, None]
    one = means @ means.T
    two = means @ one @ means.T
    assert found["layers/0/o"][0] == pytest.approx(one.trace() / TOKENS, rel=1e-5)
    assert found["layers/1/o"][0] == pytest.approx(two.trace() / TOKENS, rel=1e-5)
    back = means.T @ means
    before = means.T @ back @ means
    assert found["layers/1/v"][1] == pytest.approx(back.trace() / TOKENS, rel=1e-5)
    assert found["layers/0/v"][1] == pytest.approx(before.trace() / TOKENS, rel=1e-5)
    # Were any two tokens as alike as others, the mean over them would be smaller.
    each = one.diagonal()
    near = (one.sum() - each.sum()) / (TOKENS * (TOKENS - 1))
    assert np.mean(each * each.mean() + (1 - each) * near) < 0.8 * two.trace() / TOKENS


@pytest.mark.parametrize("centre", [True, False])
def test_a_norm_takes_off_what_all_units_of_a_token_share(centre):
    """A kernel over tokens gives the units of a token E y together, and E y² apart."""

    def run(p: Any, x: Any) -> Any:
        y = jax.nn.relu(x @ p["up"])
        x = x + jnp.einsum("btd,ts->bsd", y, p["mix"])
        normed = (
            norm(x) if centre else x * jax.lax.rsqrt(jnp.square(x).mean(-1)[..., None])
        )
        return normed @ p["head"]

    params = {"up": s(WIDTH, WIDTH), "mix": s(TOKENS, TOKENS), "head": s(WIDTH, WIDTH)}
    x = jax.random.normal(jax.random.key(0), (4, TOKENS, WIDTH))
    x = x / jnp.sqrt(jnp.square(x).mean())
    found = predicted(run, params, x, KERNEL)
    mean, square = 1 / math.sqrt(2 * math.pi), 1 / 2  # of relu
    left = 1 + square - mean**2 * centre
    assert found["mix"][0] == pytest.approx(square, rel=1e-6)
    assert found["mix"][1] == pytest.approx(1 / left, rel=1e-4)


def test_a_piece_of_a_sequence_has_its_own_size():
    """The last of many tokens is a mean of all, the first is itself."""

    def run(p: Any, ids: Any) -> Any:
        x = attend(p, p["e"][ids])
        return {"first": x[:, 0] @ p["first"], "last": x[:, -1] @ p["last"]}

    names = [*"qkvo", "first", "last"]
    params = {name: s(WIDTH, WIDTH) for name in names} | {"e": s(TOKENS, WIDTH)}
    rules = [("q", jaxinit.zeros), ("e", jaxinit.normal(1.0)), *KERNEL]
    found = predicted(run, params, jnp.arange(TOKENS)[None], rules)
    assert found["first"][0] == pytest.approx(1.0, rel=1e-4)
    assert found["last"][0] == pytest.approx(1 / TOKENS, rel=1e-4)
