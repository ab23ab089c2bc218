# SPDX-License-Identifier: Apache-2.0
"""The picture of a report: names, grounds, traces, a prediction, flags."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest

import jaxinit.plot
from jaxinit.signal import Predicted, Prediction, Report, Row
from jaxinit.signal.flags import Flag

QUICK = True  # see conftest.py


@pytest.fixture(autouse=True)
def shut():
    yield
    plt.close("all")


def rows(blocks: int) -> tuple[Row, ...]:
    """Blocks of three kernels, the last of which ends a branch."""
    return tuple(
        Row(
            f"params/Block_{i}/{name}/kernel",
            1,
            (8, 64),
            0.0,
            2.0 + i,
            0.0,
            0.1 + i,
            0.1,
            0.1,
            joins=name == "down",
        )
        for i in range(blocks)
        for name in ("up", "gate", "down")
    )


def test_layers_are_named_and_blocks_stand_on_one_ground():
    ax = jaxinit.plot.report(Report(rows(2)))
    names = [text.get_text() for text in ax.get_xticklabels()]
    assert names[:3] == ["Block_0/up", "Block_0/gate", "Block_0/down"]
    (shade,) = ax.patches
    assert (shade.get_x(), shade.get_width()) == (2.5, 3.0)


def test_ends_of_branches_are_told_apart():
    ax = jaxinit.plot.report(Report(rows(2)))
    found = {line.get_label(): line for line in ax.lines}
    assert set(found) == {
        "signal", "signal, end of a branch", "gradient", "gradient, end of a branch",
    }  # fmt: skip
    ends = found["signal, end of a branch"]
    assert list(ends.get_xdata()) == [2, 5] and list(ends.get_ydata()) == [2.0, 3.0]
    assert ends.get_markerfacecolor() == "white"


def test_three_hundred_rows_are_legible():
    ax = jaxinit.plot.report(Report(rows(100)))
    assert len(ax.get_xticks()) <= 30
    assert ax.figure.get_size_inches()[0] == 16
    few = jaxinit.plot.report(Report(rows(2)))
    assert few.figure.get_size_inches()[0] == 7


def test_a_prediction_is_a_line():
    measured = Report(rows(2))
    predicted = Prediction(
        tuple(Predicted(r.path, r.call, r.shape, 1.5, 0.5) for r in measured.rows)
    )
    ax = measured.plot(predicted)
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert list(lines["signal, predicted"]) == [1.5] * 6
    assert list(lines["gradient, predicted"]) == [0.5] * 6
    with pytest.raises(ValueError, match="another network"):
        measured.plot(Prediction(predicted.rows[1:]))


def test_flags_stand_over_their_layers():
    row = rows(2)
    flag = Flag("zero everywhere: the output of two", [row[1].label, row[4].label])
    ax = jaxinit.plot.report(Report(row, (flag,)))
    (text,) = ax.texts
    assert text.get_text() == "zero everywhere"
    (bar,) = (
        line
        for line in ax.lines
        if len(line.get_xdata()) == 2 and line.get_linewidth() == 2
    )
    assert np.allclose(bar.get_xdata(), [0.7, 4.3])


def test_what_a_logarithm_cannot_show_is_left_out():
    row = rows(1)
    dull = tuple(dataclasses.replace(each, rms=0.0, grad_rms=np.nan) for each in row)
    ax = jaxinit.plot.report(Report((row[0], *dull[1:])))
    assert [len(line.get_xdata()) for line in ax.lines] == [1, 1]


def test_bad_input():
    with pytest.raises(TypeError, match=r"plot.report: measured must be a signal.Re"):
        jaxinit.plot.report([1.0, 2.0])
    with pytest.raises(ValueError, match="with rows"):
        jaxinit.plot.report(Report(()))
