# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run: small requests to their processes, and the arithmetic of rows."""

import json
from collections.abc import Iterator

import jax
import pytest

from benchmarks.__main__ import Worker, growth, in_turns, row, show
from benchmarks.models import MODELS
from benchmarks.worker import CASES, answer

QUICK = True  # see conftest.py


@pytest.fixture(autouse=True)
def one_key_for_all() -> Iterator[None]:
    """Competitors draw from the same key, time and again."""
    with jax.debug_key_reuse(False):
        yield


@pytest.mark.sweep
@pytest.mark.parametrize("case", CASES)
def test_each_case_draws(case):
    for competitor in ("jaxinit", "jax"):
        draw = {
            "do": "time",
            "competitor": competitor,
            "draw": [case, (8, 8), "float32"],
        }
        assert answer({**draw, "seconds": 0.0, "keep": False})[0] > 0


@pytest.mark.parametrize("outer", [True, False])
def test_small_calls_and_programs(outer):
    assert answer({"do": "eager", "competitor": "jaxinit", "outer": outer})[0] > 0
    draw = ["he_normal", (8, 8), 2]
    assert answer({"do": "compile", "competitor": "jax", "draw": draw})[0] > 0


def test_a_sampler_holds_no_temporary_memory():
    ask = {"do": "memory", "case": "he_normal", "shape": (64, 64)}
    held = {c: answer({**ask, "competitor": c}) for c in ("jaxinit", "jax")}
    assert held["jaxinit"] < held["jax"]


def test_processes_take_turns_and_a_row_has_ratios(capsys):
    pair = [Worker("jaxinit"), Worker("fill")]
    draw = ["he_normal", (8, 8), "float32"]
    try:
        seconds = in_turns(pair, 2, do="time", draw=draw, seconds=0.0, keep=False)
    finally:
        for worker in pair:
            worker.stop()
    assert {name: len(rounds) for name, rounds in seconds.items()} == {
        "jaxinit": 2,
        "fill": 2,
    }
    show(row("he_normal", seconds))
    assert "times the fill" in capsys.readouterr().out


def test_the_ratios_of_a_row():
    made = row("x", {"jaxinit": [1.0, 2.0, 3.0], "jax": [4.0, 4.0, 9.0]})
    assert made["faster than jax"] == [2.0, 2.0, 4.0]
    assert made["times the fill"] is None
    assert json.loads(json.dumps(made)) == made


def test_growth_leaves_out_what_both_pay():
    shallow = {"seconds": 3.0, "again": 1.0, "own": 1.0}
    deep = {"seconds": 7.0, "again": 3.0, "own": 2.0}
    assert set(growth(shallow, deep).values()) == {2.0}
    assert len(MODELS) == 3
