# SPDX-License-Identifier: Apache-2.0
"""Predictions of whole networks, held against the mean of drawn ones, both ways.

A prediction is that of infinite width. At width n a mean square is off by the order of
5/n a layer (Hanin & Rolnick 2018, arXiv:1803.01719), of which most cancels; the bound
here, in rms, is one such layer beside the standard error of the mean, and convolutions
have a quarter of the width in channels. What comes back is promised to 5 %.
"""

import functools

import numpy as np
import pytest

from tests.helpers import SIGMAS
from tests.signal.networks import NETWORKS, UNSTABLE, measure, predict

QUICK = True  # see conftest.py

WIDTH, SEEDS = 256, 8
BIAS = 5 / WIDTH
IMAGES = ("vgg", "resnet_v1", "resnet_v2", "u_net")  # of 32 channels
BACK = 0.05


def width(name: str) -> int:
    return 128 if name in IMAGES else WIDTH


@functools.cache
def measured(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The rms of each row both ways, and its relative standard error."""
    found = measure(NETWORKS[name], width(name), SEEDS)
    mean = found.mean(0)
    return np.sqrt(mean), found.std(0, ddof=1) / (2 * mean * np.sqrt(SEEDS))


@pytest.mark.sweep(every=8)
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != UNSTABLE])
def test_what_networks_do_both_ways(name):
    rms, error = measured(name)
    bias = 4 * BIAS * WIDTH / width(name) if name in IMAGES else BIAS
    for k, row in enumerate(predict(NETWORKS[name], width(name)).rows):
        forward = abs(row.rms / rms[k, 0] - 1)
        assert forward < SIGMAS * error[k, 0] + bias, row.path
        back = abs(row.grad_rms / rms[k, 1] - 1)
        assert back < SIGMAS * error[k, 1] + BACK, row.path


@pytest.mark.thorough
def test_an_unstable_chain_keeps_to_its_prediction_as_long_as_it_can():
    """GELU's map of lengths leaves its fixed point, by a factor a layer."""
    rms, error = measured(UNSTABLE)
    rows = predict(NETWORKS[UNSTABLE], WIDTH).rows
    assert [row.rms for row in rows] == pytest.approx([1.0] * len(rows), abs=0.01)
    for k in range(8):
        assert abs(rows[k].rms / rms[k, 0] - 1) < SIGMAS * error[k, 0] + BIAS


def test_the_nearest_wrong_answers_are_rejected():
    """Values that are not averaged, and queries whose gradient is that of values."""
    rms, error = measured("gpt2")
    paths = [row.path for row in predict(NETWORKS["gpt2"], WIDTH).rows]
    k = paths.index("wo/1")
    assert abs(1.0 / rms[k, 0] - 1) > SIGMAS * error[k, 0] + BIAS
    k = paths.index("wq/1")
    v = rms[paths.index("wv/1"), 1]
    assert abs(v / rms[k, 1] - 1) > SIGMAS * error[k, 1] + BACK
