# SPDX-License-Identifier: Apache-2.0
"""Every function of torch.nn.init against its documented closed form.

Kernels are (out, in) there and (in, out) here; the closed forms are those of the
documentation of torch.nn.init.
"""

import math

import jax
import numpy as np
import pytest
import scipy.stats

import jaxinit
from tests.helpers import SIGMAS

QUICK = True  # see conftest.py

N_IN, N_OUT = 400, 600
NORM, UNIF = scipy.stats.norm, scipy.stats.uniform


def symmetric(bound: float):
    return UNIF(-bound, 2 * bound)


ROWS = {
    "uniform_": (jaxinit.uniform_between(0.0, 1.0), UNIF(0, 1)),
    "uniform_(a, b)": (jaxinit.uniform_between(-2.0, 3.0), UNIF(-2, 5)),
    "normal_": (jaxinit.normal(1.0), NORM(0, 1)),
    "normal_(mean, std)": (jaxinit.normal(0.5, mean=3.0), NORM(3, 0.5)),
    "trunc_normal_": (jaxinit.trunc_normal(), scipy.stats.truncnorm(-2, 2)),
    "trunc_normal_(mean, std, a, b)": (
        jaxinit.trunc_normal(1.0, 0.5, 0.0, 1.2),
        scipy.stats.truncnorm(-2, 0.4, 1, 0.5),
    ),
    "xavier_uniform_": (
        jaxinit.xavier_uniform(),
        symmetric(math.sqrt(6 / (N_IN + N_OUT))),
    ),
    "xavier_uniform_(gain)": (
        jaxinit.xavier_uniform(jaxinit.calculate_gain("relu")),
        symmetric(math.sqrt(2) * math.sqrt(6 / (N_IN + N_OUT))),
    ),
    "xavier_normal_": (
        jaxinit.xavier_normal(),
        NORM(0, math.sqrt(2 / (N_IN + N_OUT))),
    ),
    "kaiming_normal_": (jaxinit.kaiming_normal(), NORM(0, math.sqrt(2 / N_IN))),
    "kaiming_normal_(fan_out, relu)": (
        jaxinit.kaiming_normal("fan_out", "relu"),
        NORM(0, math.sqrt(2 / N_OUT)),
    ),
    "kaiming_normal_(a=0.2)": (
        jaxinit.kaiming_normal(a=0.2),
        NORM(0, math.sqrt(2 / 1.04 / N_IN)),
    ),
    "kaiming_normal_(tanh)": (
        jaxinit.kaiming_normal(nonlinearity="tanh"),
        NORM(0, 5 / 3 / math.sqrt(N_IN)),
    ),
    "kaiming_normal_(selu)": (
        jaxinit.kaiming_normal(nonlinearity="selu"),
        NORM(0, 0.75 / math.sqrt(N_IN)),
    ),
    "kaiming_normal_(sigmoid)": (
        jaxinit.kaiming_normal(nonlinearity="sigmoid"),
        NORM(0, 1 / math.sqrt(N_IN)),
    ),
    "kaiming_uniform_": (jaxinit.kaiming_uniform(), symmetric(math.sqrt(6 / N_IN))),
    "kaiming_uniform_(a=√5)": (
        jaxinit.kaiming_uniform(a=math.sqrt(5)),
        symmetric(1 / math.sqrt(N_IN)),
    ),
    "Linear.weight": (jaxinit.torch_linear(), symmetric(1 / math.sqrt(N_IN))),
    "Linear.bias": (jaxinit.torch_bias(N_IN), symmetric(1 / math.sqrt(N_IN))),
}


def fits(init: jaxinit.Initializer, law, key: jax.Array) -> bool:
    x = np.asarray(init(key, (N_IN, N_OUT)), np.float64).ravel()
    moment = abs((x - law.mean()).var() / law.var() - 1) < SIGMAS * math.sqrt(
        2 / x.size
    )
    return bool(moment and scipy.stats.kstest(x, law.cdf).pvalue > 1e-6)


@pytest.mark.sweep
@pytest.mark.parametrize("name", ROWS)
def test_distribution(name, key):
    assert fits(*ROWS[name], key)


def test_the_check_can_fail(key):
    init, _ = ROWS["kaiming_normal_"]
    assert not fits(init, ROWS["kaiming_normal_(fan_out, relu)"][1], key)


def test_constants():
    assert float(jaxinit.constant(0.3)(None, (2, 2)).sum()) == pytest.approx(1.2)
    assert float(jaxinit.ones(None, (2, 2)).sum()) == 4
    assert float(jaxinit.zeros(None, (2, 2)).sum()) == 0
    np.testing.assert_array_equal(jaxinit.identity()(None, (3, 5)), np.eye(3, 5))


def test_convolutions_count_the_window(key):
    init = jaxinit.kaiming_normal("fan_out", "relu")
    w = np.asarray(init(key, (3, 3, 64, 256)), np.float64)
    assert abs(w.std() / math.sqrt(2 / (256 * 9)) - 1) < SIGMAS / math.sqrt(2 * w.size)


def test_exact_gains_beyond_the_table():
    for mode, direction in (("fan_in", "forward"), ("fan_out", "backward")):
        for activation in ("gelu", "silu", "mish", jax.nn.silu, jax.numpy.tanh):
            init = jaxinit.kaiming_normal(mode, activation)
            gain = jaxinit.gain(activation, direction)
            assert init.arguments["scale"] == pytest.approx(gain**2, rel=1e-12)


def test_the_order_of_arguments_is_ours():
    with pytest.raises(ValueError, match="mode must be one of"):
        jaxinit.kaiming_normal(-2)  # type: ignore[arg-type]
