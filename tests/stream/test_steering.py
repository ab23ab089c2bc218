# SPDX-License-Identifier: Apache-2.0
"""What steers the compiler can be turned off, and changes no random bit."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxinit.stream import is_left_to_jax, steering

QUICK = True  # see conftest.py

DRAW = """
import jax, numpy as np, jaxinit
key = jaxinit.fast_key(jax.random.key(0))
for draw in (jax.random.bits, jax.random.uniform, jax.random.normal):
    print(np.asarray(jax.jit(draw, static_argnums=1)(key, (24, 5))).tobytes().hex())
"""


def drawn(steering: str) -> list[bytes]:
    done = subprocess.run(
        [sys.executable, "-c", DRAW],
        env={**os.environ, "JAXINIT_STEERING": steering},
        capture_output=True,
        text=True,
        check=True,
    )
    return [bytes.fromhex(line) for line in done.stdout.split()]


def test_the_switch_changes_last_places_at_most():
    on, off = drawn("1"), drawn("0")
    assert on[:2] == off[:2]
    one, other = (np.frombuffer(each[2], np.float32) for each in (on, off))
    np.testing.assert_array_almost_equal_nulp(one, other, nulp=4)


@pytest.mark.parametrize(
    ("function", "left"),
    [
        (lambda w: w * 2, False),
        (lambda w: w.reshape(8, 3, 16), False),
        (lambda w: w.reshape(16, 3, 8), True),
        (lambda w: w / w.sum(), True),
        (jax.jit(lambda w: w - w.mean(0, keepdims=True)), True),
    ],
)
def test_what_is_left_to_jax(function, left, monkeypatch):
    trace = jax.make_jaxpr(function)(np.ones((24, 16), np.float32))
    assert is_left_to_jax(trace.jaxpr) == left
    monkeypatch.setattr(steering, "ON", False)
    assert not is_left_to_jax(trace.jaxpr)


def test_the_switch_is_on():
    assert steering.ON and steering.has_short_rows((24, 5))
    assert not steering.has_short_rows((5, 24))
