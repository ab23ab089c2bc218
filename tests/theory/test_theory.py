# SPDX-License-Identifier: Apache-2.0
"""Mean-field theory: against 50-digit integrals, closed forms and real networks."""

import functools
import json
import math
import pathlib
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

import jaxinit
from jaxinit.gains import function_of
from jaxinit.theory import MeanField, critical, erf_kernel, relu_kernel
from jaxinit.theory.kernels import kernel, moment
from jaxinit.theory.roots import root
from tests.helpers import SIGMAS

QUICK = True  # see conftest.py

DATA = pathlib.Path(__file__).parents[1] / "data" / "meanfield.json"
ORACLE = json.loads(DATA.read_text())
TIGHT = 1e-11  # relative


def close(x: Any, rel: float = TIGHT, abs: float = 0.0) -> Any:
    return pytest.approx(x, rel=rel, abs=abs)


# Critical points.

BY_SIGMA_B = [(f, *row) for f, rows in ORACLE["critical"].items() for row in rows]
BY_Q = [(f, *row) for f, rows in ORACLE["critical_squares"].items() for row in rows]


def test_the_oracle_has_all_of_them():
    assert len(BY_SIGMA_B) == 70 and len(BY_Q) == 90
    assert len(ORACLE["critical"]) == len(ORACLE["critical_squares"]) == 10


@pytest.mark.sweep
@pytest.mark.parametrize("f", ORACLE["critical"])
def test_fifty_digits(f):
    for sigma_b, sigma_w, q_star, chi_q in ORACLE["critical"][f]:
        ours = critical(f, q=q_star)
        # σ_b² is a small difference of numbers of the size of q*
        assert ours.sigma_b**2 == close(sigma_b**2, abs=TIGHT * q_star)
        assert ours.sigma_w == close(sigma_w)
        assert ours.chi_1 == close(1) and ours.phase == "critical"
        assert ours.q_star == ours.q == q_star
        assert chi_q is None or ours.chi_q == close(chi_q)
    for q_star, square_w, square_b in ORACLE["critical_squares"][f]:
        ours = critical(f, q=q_star)
        assert ours.sigma_w**2 == close(square_w)
        assert ours.sigma_b**2 == close(square_b, abs=TIGHT * q_star)


@pytest.mark.sweep
@pytest.mark.parametrize("f", ORACLE["critical"])
def test_the_search_finds_them(f):
    sigma_b, sigma_w, q_star, _ = ORACLE["critical"][f][4]
    ours = critical(f, sigma_b=sigma_b)
    assert (ours.sigma_w, ours.q_star) == (close(sigma_w), close(q_star, 1e-10))
    assert ours.sigma_b == sigma_b and abs(ours.chi_1 - 1) < 1e-10


def test_sigma_w_given():
    """Pennington et al. 2017 print (1.05, 2.01e-5), which are squares."""
    ours = critical("tanh", sigma_w=math.sqrt(1.05))
    assert ours.sigma_b**2 == close(2.01052134e-5, 1e-8)
    assert ours.q_star == close(0.0259209482, 1e-8)


def test_the_first_stable_one_of_several():
    """GELU has σ_w = 1.41 twice: at q* = 3.4, which lengths leave, and far out."""
    ours = critical("gelu", sigma_w=1.41)
    assert ours.chi_q < 1 and ours.q_star > 100
    assert critical("gelu", q=3.3).sigma_w > 1.41 > critical("gelu", q=3.5).sigma_w
    assert critical("gelu", q=3.5).chi_q > 1
    assert critical("gelu", sigma_b=0.1).chi_q > 1  # here there is but one


@pytest.mark.parametrize("f", ["gelu", "silu"])
def test_the_one_point_where_both_slopes_are_1(f):
    """Roberts, Yaida, Hanin, "The Principles of Deep Learning Theory", 2022, ch. 5."""
    square_w, square_b, q_star = {
        "gelu": (1.98305826, 0.17292239, 3.5615528),
        "silu": (1.98800468, 0.55514317, 14.3201736),
    }[f]
    slope = root(lambda q: critical(f, q=q).chi_q - 1, 0.9 * q_star, 1.1 * q_star)
    ours = critical(f, q=slope)
    assert slope == close(q_star, 1e-6)
    assert (ours.sigma_w**2, ours.sigma_b**2) == close((square_w, square_b), 1e-7)


@pytest.mark.parametrize("f", ["relu", "leaky_relu_0.2"])
def test_scale_invariant_activations(f):
    forward = jaxinit.gain(f)
    ours = critical(f, sigma_b=0)
    assert ours == critical(f, q=1) and ours.sigma_w == close(forward)
    assert ours.sigma_b == 0 and ours.q_star == 1
    assert critical(f, q=7.0).q_star == 7
    assert critical(f, sigma_w=forward).q_star == 1
    with pytest.raises(ValueError, match=f"no critical point of '{f}' has sigma_b = 0"):
        critical(f, sigma_b=0.1)


@pytest.mark.parametrize("f", ["tanh", "gelu", "softsign", "selu"])
def test_no_bias(f):
    """The limit q* → 0: σ_w² = 1 / E f′(0)²."""
    ours = critical(f, sigma_b=0)
    assert (ours.q_star, ours.sigma_b, ours.phase) == (0, 0, "critical")


@pytest.mark.parametrize("f", ["sigmoid", "softplus", "squareplus", "cos"])
def test_no_critical_point_where_the_backward_gain_is_greater(f):
    assert jaxinit.gain(f, "backward") > jaxinit.gain(f)
    with pytest.raises(ValueError, match=r"no critical .* q = 1.* sigma_b² = -"):
        critical(f, q=1.0)


@pytest.mark.parametrize("f", ["tanh", "elu", "gelu", "sin"])
def test_the_backward_gain_is_the_critical_sigma_w(f):
    assert critical(f, q=1).sigma_w == close(jaxinit.gain(f, "backward"))


# Depth scales: tanh, σ_b² = 0.05, by 50-digit quadrature.
# σ_w²: (q*, χ_1, c*, ξ_q, ξ_c, ξ_∇)

TABLE = {
    0.5: (0.08757987, 0.43198738, 1, 1.00885, 1.19139, 1.191),
    1.0: (0.19359252, 0.75903165, 1, 1.74763, 3.62698, 3.627),
    1.25: (0.29205430, 0.86323959, 1, 1.80042, 6.79981, 6.800),
    1.5: (0.41803720, 0.93863627, 1, 1.68283, 15.79099, 15.791),
    1.76095464: (0.57004788, 1, 1, 1.52110, math.inf, math.inf),
    2.0: (0.72176187, 1.04766600, 0.74408242, 1.38798, 25.21341, -21.475),
    2.5: (1.06395838, 1.13351570, 0.44680423, 1.17987, 11.79560, -7.979),
    3.0: (1.42800846, 1.20893442, 0.29931764, 1.04146, 9.05146, -5.270),
    4.0: (2.19549393, 1.34240241, 0.16506496, 0.87329, 6.98027, -3.396),
}


@pytest.mark.sweep
@pytest.mark.parametrize("square_w", TABLE)
def test_depth_scales(square_w):
    q_star, chi_1, c_star, *scales = TABLE[square_w]
    ours = MeanField("tanh", math.sqrt(square_w), math.sqrt(0.05))
    assert (ours.q_star, ours.chi_1, ours.c_star) == close(
        (q_star, chi_1, c_star), abs=6e-9
    )
    assert (ours.xi_q, ours.xi_c, ours.xi_grad) == close(tuple(scales), abs=6e-4)
    assert ours.trainable_depth == close(6 * scales[1], 1e-5)
    assert (
        ours.phase
        == ["ordered", "critical", "chaotic"][1 + int(np.sign(square_w - 1.76095464))]
    )
    assert ours.length(ours.q_star) == close(ours.q_star)
    assert ours.correlation(ours.c_star) == close(ours.c_star)


@pytest.mark.parametrize(
    ("f", "sigma_w", "sigma_b", "exact"),
    [  # Poole et al. 2016 (tanh, σ_b = 0.3), and erf; by 50-digit quadrature
        ("tanh", 1.3, 0.3, (0.60704679, 0.93980743, 1)),
        ("tanh", 2.5, 0.3, (4.07912388, 1.58522477, 0.12210375)),
        ("tanh", 4.0, 0.3, (12.6041495, 2.36726104, 0.02969592)),
        ("erf", 2**0.5, 0.05**0.5, (0.96595481, 1.15465277, 0.43448124)),
    ],
)
def test_fixed_points(f, sigma_w, sigma_b, exact):
    ours = MeanField(f, sigma_w, sigma_b)
    assert (ours.q_star, ours.chi_1, ours.c_star) == close(exact, 1e-8, 6e-9)


# (q_1, q_2, c) after 1 and after 5 layers from (1, 0.5, 0.3), by 50-digit quadrature.

LAYERS: dict[tuple[str, float, float], list[tuple[float, float, float]]] = {
    ("tanh", 2.25, 0.09): [(0.9771626034, 0.7057716929, 0.3622560299),
                           (0.9613678817, 0.9503343425, 0.5020068265)],
    ("relu", 2.0, 0.0): [(1, 0.5, 0.4827442838), (1, 0.5, 0.7743435429)],
    ("erf", 2.25, 0.09): [(1.1352578724, 0.8400000000, 0.3475105914),
                          (1.2179255047, 1.2119487037, 0.4184753853)],
    ("gelu", 2.0, 0.1): [(0.9504429651, 0.4791130837, 0.4569142794),
                         (0.7681894922, 0.4166064470, 0.7400344263)],
    ("silu", 2.0, 0.1): [(0.8115510396, 0.4171524991, 0.4449999423),
                         (0.3760849698, 0.2691817944, 0.8174142013)],
    ("elu", 1.5, 0.05): [(1.0174181262, 0.5721521658, 0.3541841671),
                         (1.0658935123, 0.8021038766, 0.5081310828)],
}  # fmt: skip


@pytest.mark.sweep
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case[0])
def test_layer_by_layer(case):
    f, square_w, square_b = case
    ours = MeanField(f, math.sqrt(square_w), math.sqrt(square_b))
    q1, q2 = ours.lengths(5), ours.lengths(5, 0.5)
    k = 0.3 * math.sqrt(0.5)
    for l in range(5):
        k = ours.covariance(k, q1[l], q2[l])
        if l in (0, 4):
            here = q1[l + 1], q2[l + 1], k / math.sqrt(q1[l + 1] * q2[l + 1])
            assert here == close(LAYERS[case][l // 4], abs=6e-11)


# The quadrature against closed forms.


def by_angle(
    of_angle: Callable[[float], float],
) -> Callable[[float, float, float], float]:
    """A kernel of √(q1 q2) times a function of the angle."""

    def form(k: float, q1: float, q2: float) -> float:
        size = math.sqrt(q1 * q2)
        return size * of_angle(math.acos(max(-1.0, min(1.0, k / size))))

    return form


def gelu_form(k: float, q1: float, q2: float) -> float:
    a, d = 1 + q1, 1 + q2
    fall = a * d - k * k
    rest = q1 * q2 + k * k - q1 * k * k / a - q2 * k * k / d
    return (
        k / 4
        + k / (2 * math.pi) * math.asin(k / math.sqrt(a * d))
        + rest / (2 * math.pi * math.sqrt(fall))
    )


def absolute(t: float) -> float:
    return 2 / math.pi * (math.sin(t) + (math.pi / 2 - t) * math.cos(t))


def squared(t: float) -> float:
    sine, cosine = math.sin(t), math.cos(t)
    return (3 * sine * cosine + (math.pi - t) * (1 + 2 * cosine**2)) / (2 * math.pi)


def relu_squared_form(k: float, q1: float, q2: float) -> float:
    return math.sqrt(q1 * q2) * by_angle(squared)(k, q1, q2)


# Kernels of f and of f′.
FORMS: dict[str, tuple[Callable[..., float], Callable[..., float] | None]] = {
    "relu": (relu_kernel, lambda *x: relu_kernel(*x, derivative=True)),
    "erf": (erf_kernel, lambda *x: erf_kernel(*x, derivative=True)),
    "gelu": (gelu_form, None),
    "sin": (
        lambda k, q1, q2: math.exp(-(q1 + q2) / 2) * math.sinh(k),
        lambda k, q1, q2: math.exp(-(q1 + q2) / 2) * math.cosh(k),
    ),
    "leaky_relu_-1": (by_angle(absolute), None),
    "relu_squared": (relu_squared_form, None),
    "linear": (lambda k, q1, q2: k, lambda k, q1, q2: 1.0),
}

CORRELATIONS = [-1, -0.999999, -0.7, 0, 0.1, 0.5, 0.9, 0.999, 0.999999, 1 - 1e-9, 1]


@pytest.mark.sweep
@pytest.mark.parametrize("derivative", [False, True], ids=["f", "slope"])
@pytest.mark.parametrize("f", FORMS)
def test_kernels_in_closed_form(f, derivative):
    form = FORMS[f][derivative]
    if form is None:  # it follows from f by Price's theorem, below
        form, derivative = FORMS[f][0], False
    function = function_of(f)
    for q1, q2 in [(1.0, 1.0), (0.3, 2.0), (1.0, 1.0001), (9.0, 9.0), (1e-4, 1e-4)]:
        size = math.sqrt(q1 * q2)
        scale = math.sqrt(form(q1, q1, q1) * form(q2, q2, q2))
        for c in CORRELATIONS:
            # 1 - c, by way of k = c √(q1 q2), is good to 1e-16 / (1 - c), and the angle
            # θ, which a step feels, to the root of that
            ours = kernel(function, c, q1, q2, derivative)
            assert ours == close(form(c * size, q1, q2), 0, 1e-8 * scale)
            if abs(c) < 1 - 1e-7:
                assert ours == close(form(c * size, q1, q2), 0, 3e-12 * scale)


@pytest.mark.parametrize("f", ["relu", "relu6"])
def test_the_tolerance_tells_a_shifted_kink(f):
    """By 1e-9, where the quadrature finds the kink to 1e-12."""
    function = function_of(f)
    exact = kernel(function, 0.5, 1.0, 1.0)
    shifted = kernel(lambda x: function(x - 1e-9), 0.5, 1.0, 1.0)
    assert abs(shifted / exact - 1) > 1e-10


def test_hard_tanh():
    """The inner integral in closed form, the outer by scipy."""

    def inner(m: float, s: float) -> float:
        a, b = (-1 - m) / s, (1 - m) / s
        mass = special.ndtr(b) - special.ndtr(a)
        bell = [math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in (a, b)]
        return special.ndtr(-b) - special.ndtr(a) + m * mass + s * (bell[0] - bell[1])

    def whole(c: float) -> float:
        s = math.sqrt(1 - c * c)
        return 2 * sum(
            integrate.quad(
                lambda x: (
                    min(x, 1.0)
                    * inner(c * x, s)
                    * math.exp(-x * x / 2)
                    / math.sqrt(2 * math.pi)
                ),
                *ends,
                epsabs=1e-14,
                epsrel=1e-13,
            )[0]
            for ends in [(0, 0.5), (0.5, 1), (1, 2), (2, 10)]
        )

    for c in (-0.5, 0.3, 0.95):
        ours = kernel(function_of("hard_tanh"), c, 1.0, 1.0)
        assert ours == close(whole(c), 1e-11)


@pytest.mark.sweep
@pytest.mark.parametrize("f", ["tanh", "silu", "selu", "hard_swish"])
def test_price(f):
    """d/dk E f(u) f(v) = E f′(u) f′(v), with k the covariance (Price 1958)."""
    function = function_of(f)
    for c, q in [(-0.6, 1.0), (0.2, 3.0), (0.97, 0.5)]:
        h = 1e-4
        ends = [kernel(function, c + sign * h, q, q) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * h * q)
        exact = kernel(function, c, q, q, derivative=True)
        # a third derivative of size 1 / (1 - c²)², and rounding
        assert slope == close(exact, 0, 10 * h**2 / (1 - c * c) ** 2 + 1e-10)


@settings(max_examples=6)
@given(at=st.floats(-2, 2), c=st.floats(-0.99, 0.99))
def test_jumps_anywhere(at, c):
    """P(u > a, v > a), by Owen's T."""

    def step(x: jax.Array) -> jax.Array:
        return jnp.where(x > at, 1.0, 0.0)

    t = special.owens_t(at, math.sqrt((1 - c) / (1 + c)))
    exact = special.ndtr(-at) - 2 * t
    # a jump is found to 1e-12; what it leaves to the quadrature over z, to 1e-4²
    assert kernel(step, c, 1.0, 1.0) == close(exact, 0, 1e-8)


def test_at_the_ends():
    function = function_of("silu")
    power, mean = moment(function, 2.0), moment(function, 2.0, 1)
    assert kernel(function, 1, 2.0, 2.0) == power
    assert kernel(function, 1 - 1e-13, 2.0, 2.0) == close(power, 1e-12)
    assert kernel(function, 0, 2.0, 2.0) == close(mean**2)


def test_rounding_activations_cost_digits_only():
    def in_float32(x: jax.Array) -> jax.Array:
        return jnp.tanh(x.astype(jnp.float32)).astype(x.dtype)

    exact = kernel(function_of("tanh"), 0.5, 1.0, 1.0)
    assert kernel(in_float32, 0.5, 1.0, 1.0) == close(exact, 1e-7)


# How correlations come to 1 on the edge of chaos.


def test_relu_nears_1_by_the_square_of_the_depth():
    """l² (1 - c_l) → 9π²/2, that is, 1 / √(1 - c) grows by √2 / 3π a layer."""
    relu = critical("relu", q=1.0)
    for fall in (1e-3, 1e-4, 1e-6):
        grown = (1 - relu.correlation(1 - fall)) ** -0.5 - (1 - (1 - fall)) ** -0.5
        # the next order; a rounding of 1 - c
        assert grown == close(2**0.5 / (3 * math.pi), fall**0.5 + 1e-14 / fall**1.5)


@pytest.mark.parametrize(
    ("f", "sigma_b", "beta"),
    [
        ("tanh", 0.2, 7.08373782),
        ("tanh", 0.05**0.5, 6.17112614),
        ("erf", 0.2, 6.59886662),
    ],
)
def test_smooth_activations_near_1_by_the_depth(f, sigma_b, beta):
    """l (1 - c_l) → β = 2 / (σ_w² q* E f″²), that is, 1 / (1 - c) grows by 1 / β."""
    ours = critical(f, sigma_b=sigma_b)
    fall = 1e-4
    grown = 1 / (1 - ours.correlation(1 - fall)) - 1 / fall
    assert 1 / grown == close(beta, 5 * fall)


def test_correlations_of_relu_to_the_end():
    ours = MeanField("relu", math.sqrt(2)).correlations(100, -0.3)
    exact = [-0.3]
    for _ in range(100):
        exact.append(2 * relu_kernel(exact[-1], 1.0, 1.0))
    assert 1 - ours == close(1 - np.array(exact), 1e-9)


# Where lengths go.


def test_lengths_that_vanish_or_blow_up():
    small, large = MeanField("relu", 1.0), MeanField("relu", 1.8)
    assert (small.q_star, small.phase, small.c_star) == (0, "ordered", 1)
    assert (large.q_star, large.phase, large.c_star) == (math.inf, "chaotic", 1)
    assert small.chi_1 == close(0.5) and large.chi_1 == close(1.62)
    assert small.trainable_depth == close(6 / math.log(2))
    assert MeanField("tanh", 0.9).q_star == 0
    assert MeanField("tanh", 1.0).q_star == 0  # as 1 / 2l, slower than any power of e
    assert MeanField("tanh", 1.1).q_star > 0
    assert MeanField("linear", 1.0, 0.1).q_star == math.inf


def test_the_fixed_point_meant_is_that_of_q():
    """GELU of σ_b = 0.2 on its edge: q* = 0.5756 is left on both sides."""
    _, sigma_w, q_star, _ = ORACLE["critical"]["gelu"][3]
    below, at, above = (
        MeanField("gelu", sigma_w, 0.2, q=x * q_star) for x in (0.5, 1, 2)
    )
    assert at.q_star == at.q and at.phase == "critical"
    assert below.length(below.q_star) == close(below.q_star)
    assert below.q_star < 0.5 * q_star and below.chi_q < 1
    assert above.q_star == math.inf


def test_lengths_never_oscillate():
    """The nearest that they come to it: f of a peak, V = σ_w² / √(1 + 4 a q)."""
    a = 1e3
    ours = MeanField(lambda x: jnp.exp(-a * x**2), 8.0)
    q = ours.q_star
    assert ours.length(q) == close(q) == close(64 / math.sqrt(1 + 4 * a * q))
    assert ours.chi_q == close(-2 * a * q / (1 + 4 * a * q), 1e-9) and ours.chi_q > -0.5
    assert ours.lengths(60)[-1] == close(q)


def test_no_signal_and_no_bias():
    ours = MeanField("tanh", 2.0, q=0.0)
    assert ours.q_star == 0 and ours.chi_1 == close(4) and (ours.lengths(3) == 0).all()
    assert MeanField("tanh", 2.0, 0.1, q=0.0).q_star == close(
        MeanField("tanh", 2.0, 0.1).q_star
    )


def test_no_correlation_without_bias():
    """An odd f in the chaotic phase makes all inputs orthogonal."""
    ours = MeanField("tanh", 2.0)
    assert ours.c_star == 0
    assert ours.correlations(80, 0.9)[-1] == close(0, abs=1e-3)


def test_arrays():
    ours = MeanField("erf", 1.5, 0.2)
    q = np.array([[0.5], [2.0]])
    assert ours.length(q).shape == (2, 1)
    assert ours.length(q)[1, 0] == ours.length(2.0)
    assert ours.correlation([0.1, 0.5], q).shape == (2, 2)
    assert isinstance(ours.length(1), float)
    assert ours.correlation(0.5) == ours.correlation([0.5], ours.q_star)[0]
    assert relu_kernel([0.1, 0.2], 1, 1).shape == (2,)


# Theory against measured networks.

WIDTH, DEPTH, SEEDS = 1024, 8, 6
MEASURED = ["relu", "tanh", "gelu", "erf", "silu"]


def network(f: Any) -> MeanField:
    """Of each activation one with a bias, off its fixed point."""
    return MeanField(f, 1.02 * jaxinit.gain(f), 0.0 if f == "relu" else 0.3)


def layers(key: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """The kernels and biases of σ_w = σ_b = 1."""
    kernel_init = jaxinit.variance_scaling(1.0, "fan_in", "normal")
    bias_init = jaxinit.normal(1.0)
    found = []
    for each in jax.random.split(key, DEPTH):
        kernel_key, bias_key = jax.random.split(each)
        weight = kernel_init(kernel_key, (WIDTH, WIDTH))
        found.append((weight, bias_init(bias_key, (WIDTH,))))
    return found


def pre_activations(f, weights, z, bumps):
    """Every z, layer by layer, where bumps of zero may be put in."""
    found = [z + bumps[0]]
    for (weight, bias), bump in zip(weights, bumps[1:], strict=True):
        found.append(f(found[-1]) @ weight + bias[None] + bump)
    return found


@functools.partial(jax.jit, static_argnums=0)
def run(f, weights, start, v):
    """Every pre-activation, and the gradient of ⟨v, output⟩ with respect to it."""
    zero = [jnp.zeros_like(start)] * (DEPTH + 1)
    zs, back = jax.vjp(lambda bumps: pre_activations(f, weights, start, bumps), zero)
    (gradients,) = back([*zero[1:], v])
    return jnp.stack(zs), jnp.stack(gradients)


def signals(seed: int, c: float = 0.5) -> dict[str, dict[str, np.ndarray]]:
    """Of each activation: lengths, correlations and gradients, with two inputs.

    The networks of a seed have the same weights, up to their σ_w and σ_b.
    """
    weight_key, one, other, cotangent = jax.random.split(jax.random.key(seed), 4)
    s, t = jax.random.normal(one, (WIDTH,)), jax.random.normal(other, (WIDTH,))
    start = jnp.stack([s, c * s + math.sqrt(1 - c * c) * t])
    drawn = layers(weight_key)
    v = jax.random.normal(cotangent, start.shape)
    found = {}
    for name in MEASURED:
        theory = network(name)
        weights = [(theory.sigma_w * w, theory.sigma_b * b) for w, b in drawn]
        f = function_of(theory.activation)
        z, g = (np.asarray(x, np.float64) for x in run(f, weights, start, v))
        lengths, others, k = (
            (z[:, i] * z[:, j]).mean(-1) for i, j in [(0, 0), (1, 1), (0, 1)]
        )
        found[name] = {
            "lengths": lengths,
            "correlations": k / np.sqrt(lengths * others),
            "gradients": (g[:, 0] ** 2).mean(-1) / (g[-1, 0] ** 2).mean(-1),
        }
    return found


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, np.ndarray]]:
    """Of each activation: what was measured, of shape (seeds, layers)."""
    runs = [signals(seed) for seed in range(SEEDS)]
    return {
        f: {name: np.array([run[f][name] for run in runs]) for name in runs[0][f]}
        for f in MEASURED
    }


def length_errors(theory: MeanField) -> np.ndarray:
    """The standard error of a measured length, by layer, relative to it.

    Given κ_l = σ_w² mean f(z)² + σ_b² of the layer before, the z of layer l are
    independent N(0, κ_l): their mean square has variance 2 κ² / n. κ itself has the
    variance σ_w⁴ Var f(z)² / n, and passes on χ times what it was off before.
    """
    f, lengths = function_of(theory.activation), theory.lengths(DEPTH)
    off, found = 0.0, []
    for q in lengths:
        found.append((off + 2 * q**2 / WIDTH) / q**2)
        slope = (theory.length(q * 1.001) - theory.length(q)) / (0.001 * q)
        spread = moment(f, q, 4) - moment(f, q) ** 2
        off = slope**2 * off + theory.sigma_w**4 * spread / WIDTH
    return np.sqrt(np.array(found) / SEEDS)


def z_of_lengths(theory: MeanField, lengths: np.ndarray) -> np.ndarray:
    return (lengths.mean(0) / theory.lengths(DEPTH) - 1) / length_errors(theory)


@pytest.mark.sweep
@pytest.mark.parametrize("f", MEASURED)
def test_lengths_of_real_networks(f, measured):
    z = z_of_lengths(network(f), measured[f]["lengths"])
    assert np.abs(z).max() < SIGMAS


@pytest.mark.sweep
@pytest.mark.parametrize("f", MEASURED)
def test_the_nearest_wrong_lengths_are_found(f, measured):
    """σ_w 8 % off, or the gain of the gradient for that of the signal."""
    right, lengths = network(f), measured[f]["lengths"]
    wrong = [right.sigma_w * 1.08, right.sigma_w / 1.08]
    wrong += [1.02 * jaxinit.gain(f, "backward")] if f in ("tanh", "erf") else []
    for sigma_w in wrong:
        theory = MeanField(f, sigma_w, right.sigma_b)
        assert np.abs(z_of_lengths(theory, lengths)).max() > SIGMAS


def gradient_errors(theory: MeanField) -> np.ndarray:
    """The standard error of a measured gradient, by layer, relative to it.

    Backward, δ = f′(z) · ε with ε independent N(0, σ_w² mean δ²): a step multiplies
    mean δ² by a mean of f′² ε², of relative variance (3 μ_2 / μ_1² - 1) / n; and
    forward, lengths are off, which counts in every step after.
    """
    f, lengths = function_of(theory.activation), theory.lengths(DEPTH)
    forward = np.sqrt(SEEDS) * length_errors(theory)
    total, drift, found = 0.0, 0.0, [0.0]
    for q, off in list(zip(lengths, forward, strict=True))[-2::-1]:
        mu_1, mu_2, beyond = (
            moment(f, q, 2, True),
            moment(f, q, 4, True),
            moment(f, q * 1.001, 2, True),
        )
        total += (3 * mu_2 / mu_1**2 - 1) / WIDTH
        drift += abs(beyond / mu_1 - 1) / 0.001 * off
        found.append(math.sqrt(total + drift**2))
    return np.array(found[::-1]) / math.sqrt(SEEDS)


def z_of_gradients(theory: MeanField, gradients: np.ndarray) -> np.ndarray:
    off = gradients.mean(0)[:-1] / theory.gradients(DEPTH)[:-1] - 1
    return off / gradient_errors(theory)[:-1]


@pytest.mark.parametrize("f", ["relu", "tanh", "gelu"])
def test_gradients_of_real_networks(f, measured):
    assert np.abs(z_of_gradients(network(f), measured[f]["gradients"])).max() < SIGMAS


@pytest.mark.parametrize("f", ["relu", "tanh", "gelu"])
def test_the_nearest_wrong_gradients_are_found(f, measured):
    """σ_w 12 % off."""
    right, gradients = network(f), measured[f]["gradients"]
    for factor in (1.12, 1 / 1.12):
        theory = MeanField(f, right.sigma_w * factor, right.sigma_b)
        assert np.abs(z_of_gradients(theory, gradients)).max() > SIGMAS


def correlation_errors(theory: MeanField, start: float) -> np.ndarray:
    """The standard error of a measured correlation, by layer.

    As for lengths, of the state (q, q′, k): a layer adds σ_w⁴ Cov(f², f′², f f′) / n to
    what was off before, which its Jacobian passes on; measuring adds that of Gaussians.
    """
    f, rng = function_of(theory.activation), np.random.default_rng(0)
    normal = rng.standard_normal((2, 2**16))
    off, found = np.zeros((3, 3)), []
    states = theory.lengths(DEPTH), theory.correlations(DEPTH, start)
    for q, c in zip(*states, strict=True):
        z = math.sqrt(q) * np.stack(
            [normal[0], c * normal[0] + math.sqrt(1 - c * c) * normal[1]]
        )
        h = theory.sigma_w * np.asarray(f(jnp.asarray(z, jnp.float32)), np.float64)
        seen, added = (
            np.cov([x[0] ** 2, x[1] ** 2, x[0] * x[1]]) / WIDTH for x in (z, h)
        )
        gradient = np.array([-c / 2, -c / 2, 1]) / q
        found.append(gradient @ (off + seen) @ gradient)

        def layer(state: np.ndarray) -> np.ndarray:
            q, other, k = state
            return np.array(
                [theory.length(q), theory.length(other), theory.covariance(k, q, other)]
            )

        state, step = np.array([q, q, c * q]), 1e-4 * q
        jacobian = np.stack(
            [
                (layer(state + d) - layer(state - d)) / (2 * step)
                for d in step * np.eye(3)
            ],
            axis=1,
        )
        off = jacobian @ off @ jacobian.T + added
    return np.sqrt(np.array(found) / SEEDS)


def z_of_correlations(theory: MeanField, c: float, found: np.ndarray) -> np.ndarray:
    off = found.mean(0) - theory.correlations(DEPTH, c)
    return off / correlation_errors(network(theory.activation), 0.5)


@pytest.mark.parametrize("f", ["tanh", "relu"])
def test_correlations_of_real_networks(f, measured):
    right, found = network(f), measured[f]["correlations"]
    assert np.abs(z_of_correlations(right, 0.5, found)).max() < SIGMAS
    # inputs a little more alike, and a network without its bias or of another f
    assert np.abs(z_of_correlations(right, 0.55, found)).max() > SIGMAS
    other = MeanField({"tanh": "relu", "relu": "tanh"}[f], right.sigma_w)
    off = found.mean(0) - other.correlations(DEPTH, 0.5)
    assert np.abs(off / correlation_errors(right, 0.5)).max() > SIGMAS


def test_the_spread_of_the_jacobian():
    """Linear networks in closed form; ReLU by the singular values of real ones."""
    linear = critical("linear", q=1.0)
    assert linear.jacobian_spread(20) == close(20)
    assert linear.jacobian_spread(20, orthogonal=True) == 0
    relu = critical("relu", q=1.0)
    assert relu.jacobian_spread(3) == close(6)
    assert relu.jacobian_spread(3, orthogonal=True) == close(3)
    assert MeanField("relu", 1.0).jacobian_spread(2) == close(4 * 0.5**4)
    width = 256
    for orthogonal, spread in [(False, 6.0), (True, 3.0)]:
        kernel_init = (
            jaxinit.orthogonal(2**0.5) if orthogonal else jaxinit.kaiming_normal()
        )
        z_key, *keys = jax.random.split(jax.random.key(5), 4)
        z, jacobian = jax.random.normal(z_key, (width,)), jnp.eye(width)
        for each in keys:
            weight = kernel_init(each, (width, width))
            jacobian = jacobian @ jnp.where(z[:, None] > 0, weight, 0.0)
            z = jax.nn.relu(z) @ weight
        squares = np.linalg.svd(np.asarray(jacobian), compute_uv=False) ** 2
        # a layer adds 1/p, p the share of z > 0, which is a half to 1 / 2√width
        error = SIGMAS * math.sqrt(3) * 2 / width**0.5
        assert np.var(squares) / squares.mean() ** 2 == close(spread, 0, error)


# The value.


def test_a_value():
    ours = MeanField("tanh", 1.5, 0.2)
    assert (
        ours
        == MeanField(jnp.tanh, np.float64(1.5), sigma_b=0.2)
        != MeanField("erf", 1.5)
    )
    assert hash(ours) == hash(MeanField("tanh", 1.5, 0.2))
    assert pickle.loads(pickle.dumps(ours)) == ours
    assert ours.q_star > 0 and pickle.loads(pickle.dumps(ours)) == ours
    with pytest.raises(AttributeError):
        ours.sigma_w = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    "ours",
    [
        MeanField("tanh", 1.5),
        MeanField("leaky_relu_0.2", 1.5, 0.1, 2.0),
        MeanField(jax.nn.silu, 2, q=0),
        MeanField(jax.nn.gelu, 1.0),
    ],
    ids=repr,
)
def test_the_repr_rebuilds_it(ours):
    assert eval(repr(ours), {"MeanField": MeanField}) == ours


def test_callables():
    def f(x: jax.Array) -> jax.Array:
        return 2 * jnp.tanh(x)

    ours, tanh = MeanField(f, 0.75, 0.2), MeanField("tanh", 1.5, 0.2)
    assert ours.q_star == close(tanh.q_star) and ours.xi_c == close(tanh.xi_c)
    assert ours.activation is f and ours == MeanField(f, 0.75, 0.2)


def test_inside_a_transformation():
    seen = []

    @jax.jit
    def scaled(x):
        seen.append(critical("tanh", q=0.7).sigma_w)
        return seen[-1] * x

    scaled(jnp.ones(3))
    assert seen == [critical("tanh", q=0.7).sigma_w]


field: Any = MeanField  # for what a type checker refuses
loose: Any = relu_kernel

REFUSED: dict[str, tuple[Callable[[], object], type[Exception]]] = {
    r"MeanField: activation 'tahn' .* 'tanh'": (
        lambda: MeanField("tahn", 1),
        ValueError,
    ),
    "must be a name or a callable, got 3": (lambda: field(3, 1), TypeError),
    "sigma_w must be > 0, got 0": (lambda: MeanField("relu", 0), ValueError),
    "sigma_b must be >= 0, got -1": (lambda: MeanField("relu", 1, -1), ValueError),
    "MeanField: q must be >= 0": (lambda: MeanField("relu", 1, q=-1), ValueError),
    "sigma_w must be a real number": (lambda: field("relu", "1"), TypeError),
    "got a traced value": (lambda: jax.jit(scaled_relu)(1.0), TypeError),
    "depth must be at least 0": (lambda: scaled_relu(1).lengths(-1), ValueError),
    "depth must be an integer": (lambda: field("relu", 1).gradients(2.5), TypeError),
    "q must be >= 0 and finite, got -2": (
        lambda: scaled_relu(1).length(-2),
        ValueError,
    ),
    "c must be from -1 to 1": (lambda: scaled_relu(1).correlation(1.5), ValueError),
    "c must be >= -1 and <= 1": (lambda: scaled_relu(1).correlations(2, 2), ValueError),
    "k must be at most": (lambda: scaled_relu(1).covariance(2, 1, 1), ValueError),
    "elementwise": (lambda: MeanField(jax.nn.softmax, 1).q_star, ValueError),
    "JAX can trace": (lambda: MeanField(np.tanh, 1).q_star, TypeError),
    "finite moments .* q = 1:": (lambda: MeanField(jnp.log, 1).q_star, ValueError),
    "finite moments .* tails": (lambda: MeanField(jnp.exp, 1).lengths(9), ValueError),
    "exactly one of sigma_b, .* got none": (lambda: critical("relu"), ValueError),
    "got sigma_b, q": (lambda: critical("relu", sigma_b=0, q=1), ValueError),
    "critical: q must be > 0, got 0": (lambda: critical("relu", q=0), ValueError),
    "critical: sigma_b must be >= 0": (
        lambda: critical("relu", sigma_b=-1),
        ValueError,
    ),
    "no critical point .* = 0.5;": (lambda: critical("sigmoid", q=0.5), ValueError),
    "must have a slope": (lambda: critical(jnp.sign, q=1), ValueError),
    "q must be a number or an array.* 'a'": (
        lambda: field("relu", 1).length("a"),
        TypeError,
    ),
    "known on the host, got J": (
        lambda: jax.jit(scaled_relu(1).correlation)(0.5),
        TypeError,
    ),
    "relu_kernel: k must be at": (lambda: relu_kernel(2, 1, 1), ValueError),
    "erf_kernel: q1 must be >= 0 and": (lambda: erf_kernel(0, -1, 1), ValueError),
    "True or False": (lambda: loose(0, 1, 1, derivative=1), TypeError),
}


def scaled_relu(sigma_w: Any) -> MeanField:
    return MeanField("relu", sigma_w)


@pytest.mark.parametrize("words", REFUSED)
def test_refuses(words):
    call, error = REFUSED[words]
    with pytest.raises(error, match=words):
        call()
