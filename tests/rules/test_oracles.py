# SPDX-License-Identifier: Apache-2.0
"""The recipes against what the code that they are named after draws, as recorded."""

import re

import pytest

from jaxinit import rules
from tests.recipe_table import PAGE, table
from tests.rules.oracle import FOLDER, compared, disagreement, recorded
from tests.rules.oracle_cases import CASES, outcome

QUICK = True  # see conftest.py


@pytest.mark.sweep
@pytest.mark.parametrize("k", range(len(CASES)), ids=map(str, CASES))
def test_a_recipe_draws_what_its_reference_draws(k: int):
    wrong = [
        f"{each.path}: {each.wrong}, {each.law.std:.6g} for {each.row.std:.6g}"
        for found in outcome(k)
        for each in found
        if each.wrong
    ]
    assert not wrong, "\n".join(wrong)


# What Flax has no counterpart of; the biases that only one of the two cells has, and
# the second of two layers, which are as the first; sinusoids and what is tied.
ALONE = re.compile(
    r"torch: (Bilinear|EmbeddingBag|LSTM projected|.* bias_[kv]$|.*_l1$)"
    r"|torch: \w+ bias_[ih]h(_l0)?$"
    r"|keras: (GroupQueryAttention|ConvLSTM.* conv_lstm_cell/bias)"
    r"|mup: MLP, rates"  # in test_mup.py
    r"|transformers: (T5 1.1 .*embed_tokens|Whisper .*encoder.embed_positions)"
)


@pytest.mark.thorough
def test_every_recorded_number_is_compared():
    seen = {
        f"{case.library}: {case.reference} {each.row.path}"
        for k, case in enumerate(CASES)
        for each in outcome(k)[0]
    }
    every = {
        f"{file.stem}: {name} {path}"
        for file in FOLDER.glob("*.json")
        for name, rows in recorded(file.stem)[1].items()
        for path in rows
    }
    assert not {each for each in every - seen if not ALONE.match(each)}
    assert len(seen) > 0.95 * len(every)


@pytest.mark.thorough
def test_the_table_of_the_docs_is_current():
    """`python -m tests.recipe_table` writes it."""
    assert PAGE.read_text(encoding="utf-8") == table()


OTHERS = {"torch": "keras", "keras": "torch", "gpt2": "bert", "resnet": "efficientnet"}


@pytest.mark.parametrize("recipe", OTHERS)
def test_another_recipe_is_told_from_it(recipe: str):
    """The comparison is sharp enough to reject the nearest wrong answer."""
    sizes = ("Linear", "Dense", "GPT2", "ResNet basic")
    case = next(
        each for each in CASES if each.recipe == recipe and each.reference in sizes
    )
    tree, layers = case.parts()
    other = case._replace(rules=getattr(rules, OTHERS[recipe]))
    assert any(each.wrong for each in compared(other, tree, layers))


@pytest.mark.thorough
def test_a_law_that_is_slightly_off_is_told():
    """Five standard errors of 8192 entries are 3.9 % of a normal's deviation, and the
    recorded number may itself be off by as much."""
    rows = [each for k in range(len(CASES)) for each in outcome(k)[0]]
    random = [each for each in rows if each.row.kind == "random"]
    large = [each for each in random if each.row.entries >= 8192]
    assert len(large) > 0.9 * len(random)
    for each in large:
        assert disagreement(each.law._replace(std=1.08 * each.law.std), each.row)
