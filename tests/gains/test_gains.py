# SPDX-License-Identifier: Apache-2.0
"""Gains: against 50-digit integrals, closed forms, identities and PyTorch's table."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec
from scipy import special

import jaxinit
from jaxinit.gains import ACTIVATIONS, kaiming_scale, on_host
from jaxinit.gains.quadrature import gaussian_mean

QUICK = True  # see conftest.py

DATA = pathlib.Path(__file__).parents[1] / "data" / "gains.json"
ORACLE: dict[str, dict[str, float]] = json.loads(DATA.read_text())["gains"]
DIRECTIONS = ("forward", "backward", "std")
TIGHT = 1e-12  # relative


def tail(c: float) -> float:
    """P(z > c)."""
    return math.erfc(c / math.sqrt(2)) / 2


def density(c: float) -> float:
    return math.exp(-c * c / 2) / math.sqrt(2 * math.pi)


def middle(c: float) -> float:
    """E z² over |z| < c."""
    return math.erf(c / math.sqrt(2)) - 2 * c * density(c)


def gain_of(moment: float) -> float:
    return 1 / math.sqrt(moment)


def leaky(slope: float) -> tuple[float, float, float]:
    return (1 + slope**2) / 2, (1 + slope**2) / 2, (1 - slope) * density(0)


E1, E2 = math.exp(-1), math.exp(-2)
ELU = (
    0.5 + math.exp(2) * tail(2) - 2 * math.exp(0.5) * tail(1) + 0.5,
    0.5 + math.exp(2) * tail(2),
    density(0) + math.exp(0.5) * tail(1) - 0.5,
)
THREE = math.erf(3 / math.sqrt(2))
HARD_SWISH_SQUARE = 12 * middle(3) - 54 * density(3)

# E f², E f′² and E f, in closed form.
CLOSED: dict[str, tuple[float, float, float]] = {
    "identity": (1, 1, 0),
    "relu": leaky(0),
    "leaky_relu": leaky(0.01),
    "leaky_relu_0.01": leaky(0.01),
    "leaky_relu_0.2": leaky(0.2),
    "leaky_relu_-1": leaky(-1),  # |z|
    "prelu": leaky(0.25),
    "elu": ELU,
    "celu": ELU,
    "gelu": (
        1 / 3 + 1 / (2 * math.pi * math.sqrt(3)),
        1 / 3 + 2 / (3 * math.pi * math.sqrt(3)),
        1 / (2 * math.sqrt(math.pi)),
    ),
    "hard_tanh": (middle(1) + 2 * tail(1), math.erf(1 / math.sqrt(2)), 0),
    "relu6": (
        0.5 - tail(6) - 6 * density(6) + 36 * tail(6),
        0.5 - tail(6),
        density(0) - density(6) + 6 * tail(6),
    ),
    "hard_sigmoid": ((middle(3) + 9 * THREE) / 36 + tail(3), THREE / 36, 0.5),
    "hard_swish": (
        HARD_SWISH_SQUARE / 36 + 3 * density(3) + tail(3),
        (4 * middle(3) + 9 * THREE) / 36 + tail(3),
        middle(3) / 6 + density(3),
    ),
    "squareplus": (
        1.5,
        (2 - 4 * math.sqrt(math.pi / 8) * math.exp(2) * math.erfc(math.sqrt(2))) / 4,
        math.e * (special.k0(1) + special.k1(1)) / math.sqrt(2 * math.pi),
    ),
    "sin": ((1 - E2) / 2, (1 + E2) / 2, 0),
    "cos": ((1 + E2) / 2, (1 - E2) / 2, math.exp(-0.5)),
    "erf": (2 / math.pi * math.asin(2 / 3), 4 / (math.pi * math.sqrt(5)), 0),
    "relu_squared": (1.5, 2, 0.5),
}

# Odd functions and SELU have mean 0; σ(z) - 1/2 is odd.
MEANS = {"selu": 0, "tanh": 0, "softsign": 0, "sigmoid": 0.5}


@pytest.mark.sweep
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", ORACLE)
def test_fifty_digits(name, direction):
    exact = ORACLE[name][direction]
    assert jaxinit.gain(name, direction) == pytest.approx(exact, rel=TIGHT, abs=0)


def test_the_oracle_has_all_of_them():
    assert len(ORACLE) == 27
    assert all(set(row) == {"forward", "backward"} for row in ORACLE.values())


@pytest.mark.sweep
@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms(name):
    power, slope, mean = CLOSED[name]
    exact = map(gain_of, (power, slope, power - mean**2))
    ours = [jaxinit.gain(name, direction) for direction in DIRECTIONS]
    assert ours == pytest.approx(list(exact), rel=TIGHT, abs=0)


@pytest.mark.parametrize("name", MEANS)
def test_std_where_the_mean_is_known(name):
    exact = gain_of(ORACLE[name]["forward"] ** -2 - MEANS[name] ** 2)
    assert jaxinit.gain(name, "std") == pytest.approx(exact, rel=TIGHT, abs=0)


def test_relu_under_weight_standardization():
    exact = math.sqrt(2 / (1 - 1 / math.pi))
    assert jaxinit.gain("relu", "std") == pytest.approx(exact, rel=TIGHT, abs=0)


def test_softplus_has_the_slope_sigmoid():
    ours = jaxinit.gain("softplus", "backward")
    assert ours == pytest.approx(jaxinit.gain("sigmoid"), rel=TIGHT, abs=0)


def test_the_tolerance_tells_the_two_gelus_apart():
    exact, approximate = jaxinit.gain("gelu"), jaxinit.gain("gelu_tanh")
    assert exact != pytest.approx(approximate, rel=1e-5, abs=0)
    assert jaxinit.gain(jax.nn.gelu) == approximate


NOT_ELEMENTWISE = {
    *("dot_product_attention", "glu", "log_softmax", "logmeanexp", "logsumexp"),
    *("one_hot", "scaled_dot_general", "scaled_matmul", "softmax", "standardize"),
    *("get_scaled_dot_general_config", "initializers"),
    "log1mexp",  # of positive numbers only
}


OF_JAX = [n for n in dir(jax.nn) if n[0] != "_" and n not in NOT_ELEMENTWISE]


@pytest.mark.parametrize("name", OF_JAX)
def test_every_activation_of_jax_has_its_name(name):
    assert name in ACTIVATIONS
    default = "gelu_tanh" if name == "gelu" else name
    assert jaxinit.gain(getattr(jax.nn, name)) == jaxinit.gain(default)


def shifted(c: float) -> Callable[[jax.Array], jax.Array]:
    return lambda x: jnp.maximum(x - c, 0)


def moments_of_shifted(c: float) -> tuple[float, float, float]:
    """E f², E f′² and E f for f = max(z - c, 0)."""
    power = (1 + c * c) * tail(c) - c * density(c)
    return power, tail(c), density(c) - c * tail(c)


@pytest.mark.sweep
@pytest.mark.parametrize("c", [0.3137, -2.71828, 0.501, 0.998, 1 + 1e-7, 3.14159])
def test_kinks_at_odd_places(c):
    power, slope, mean = moments_of_shifted(c)
    exact = map(gain_of, (power, slope, power - mean**2))
    ours = [jaxinit.gain(shifted(c), direction) for direction in DIRECTIONS]
    assert ours == pytest.approx(list(exact), rel=1e-11, abs=0)


@settings(max_examples=60)
@given(
    near=st.integers(-3 * 64, 3 * 64), by=st.floats(-8, 0), sign=st.sampled_from("+-")
)
def test_kinks_and_jumps_anywhere(near, by, sign):
    c = (
        near / 64 + float(sign + "1") * 10**by / 64
    )  # at all distances from a panel's end
    ours = gaussian_mean(lambda z: np.stack([np.maximum(z - c, 0) ** 2, z > c]))
    assert ours == pytest.approx(moments_of_shifted(c)[:2], rel=1e-11, abs=0)


def test_moments_of_the_normal():
    ours = gaussian_mean(lambda z: np.stack([z**n for n in range(9)]))
    exact = [1, 0, 1, 0, 3, 0, 15, 0, 105]
    assert ours == pytest.approx(exact, rel=1e-14, abs=1e-14)


def test_singular_but_finite():
    """E |z|^-½ and E log²|z| exist; E |z|^-1 does not."""
    ours = gaussian_mean(
        lambda z: np.stack([np.abs(z) ** -0.5, np.log(np.abs(z)) ** 2])
    )
    root = 2**-0.25 * math.gamma(0.25) / math.sqrt(math.pi)
    log = ((np.euler_gamma + math.log(2)) / 2) ** 2 + math.pi**2 / 8
    assert ours == pytest.approx([root, log], rel=1e-12, abs=0)
    with pytest.raises(ValueError, match="does not exist, or converges too slowly"):
        gaussian_mean(lambda z: 1 / np.abs(z)[None])


def test_a_jitted_integrand_is_compiled_once():
    sizes = set()

    def integrand(z: np.ndarray) -> np.ndarray:
        sizes.add(z.shape)
        return (z > 0.3)[None]

    gaussian_mean(integrand)
    assert len(sizes) == 1


scales = st.floats(1e-3, 1e3) | st.floats(-1e3, -1e-3)


@settings(max_examples=8)
@given(c=scales, direction=st.sampled_from(DIRECTIONS))
def test_scaling_the_activation(c, direction):
    ours = jaxinit.gain(lambda x: c * jax.nn.mish(x), direction)
    assert ours == pytest.approx(jaxinit.gain("mish", direction) / abs(c), rel=TIGHT)


@settings(max_examples=8)
@given(c=scales, direction=st.sampled_from(["backward", "std"]))
def test_shifting_the_activation(c, direction):
    ours = jaxinit.gain(lambda x: jnp.tanh(x) + c, direction)
    assert ours == pytest.approx(jaxinit.gain("tanh", direction), rel=1e-10)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_mirroring_the_activation(direction):
    ours = jaxinit.gain(lambda x: jax.nn.silu(-x), direction)
    assert ours == pytest.approx(jaxinit.gain("silu", direction), rel=TIGHT)


@jax.custom_jvp
def clipped_through(x: jax.Array) -> jax.Array:
    """sign(x), with the slope of clip(x, -1, 1)."""
    return jnp.sign(x)


@clipped_through.defjvp
def _(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    return jnp.sign(x), jnp.where(jnp.abs(x) < 1, t, 0.0)


@jax.custom_vjp
def passed_through(x: jax.Array) -> jax.Array:
    """round(x), with slope 3."""
    return jnp.round(x)


passed_through.defvjp(lambda x: (jnp.round(x), None), lambda _, g: (3 * g,))


def test_straight_through_estimators():
    clipped = gain_of(math.erf(1 / math.sqrt(2)))
    assert jaxinit.gain(clipped_through) == pytest.approx(1, rel=TIGHT)
    assert jaxinit.gain(clipped_through, "backward") == pytest.approx(
        clipped, rel=TIGHT
    )
    assert jaxinit.gain(passed_through, "backward") == pytest.approx(1 / 3, rel=TIGHT)


def test_a_staircase():
    """E round(z)² = Σ (2k + 1) P(|z| > k + ½)."""
    exact = gain_of(sum((2 * k + 1) * 2 * tail(k + 0.5) for k in range(13)))
    assert jaxinit.gain(jnp.round) == pytest.approx(exact, rel=TIGHT)


def test_activations_that_round_themselves():
    def in_float32(x: jax.Array) -> jax.Array:
        return jnp.tanh(x.astype(jnp.float32)).astype(x.dtype)

    exact = pytest.approx(jaxinit.gain("tanh"), rel=1e-6)
    assert jaxinit.gain(in_float32) == exact
    assert jaxinit.gain(lambda x: jnp.tanh(x.astype(jnp.float32))) == exact


def test_constants_in_float32_promote():
    """Though this suite is strict about promotion, as a model may be."""
    two = jnp.float32(2)
    assert jaxinit.gain(lambda x: two * jnp.tanh(x)) == pytest.approx(
        jaxinit.gain("tanh") / 2, rel=TIGHT
    )


@pytest.mark.parametrize("transform", ["jit", "vmap", "grad", "scan", "shard_map"])
def test_inside_a_transformation(transform):
    seen = []

    def f(x: jax.Array) -> jax.Array:
        seen.append(jaxinit.gain(lambda z: z * jax.nn.sigmoid(z)))
        return seen[-1] * x

    one, spec = jnp.ones(1), PartitionSpec()
    mesh = jax.make_mesh((1,), ("x",))
    wrapped: dict[str, Callable[[], Any]] = {
        "jit": lambda: jax.jit(f)(one),
        "vmap": lambda: jax.vmap(f)(one),
        "grad": lambda: jax.grad(lambda x: f(x).sum())(one),
        "scan": lambda: jax.lax.scan(lambda c, x: (f(c), x), one, one),
        "shard_map": lambda: jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec)(
            one
        ),
    }
    wrapped[transform]()
    assert {type(g) for g in seen} == {float}
    assert seen[0] == pytest.approx(ORACLE["silu"]["forward"], rel=TIGHT)


@pytest.fixture
def no_transfers() -> Iterator[None]:
    jax.config.update("jax_transfer_guard", "disallow")
    yield
    jax.config.update("jax_transfer_guard", None)


@pytest.mark.usefixtures("no_transfers")
def test_leaves_the_caller_alone():
    with jax.set_mesh(jax.make_mesh((1,), ("x",))):
        assert jaxinit.gain(lambda x: jnp.sin(2 * x)) > 1
    assert not jax.config.values["jax_enable_x64"]
    assert jax.config.values["jax_numpy_dtype_promotion"] == "strict"


def test_is_computed_once():
    traces: list[None] = []

    def f(x: jax.Array) -> jax.Array:
        traces.append(None)
        return jnp.arctan(x)

    first, count = jaxinit.gain(f), len(traces)
    assert jaxinit.gain(f) == first
    assert len(traces) == count > 0


def test_a_callable_without_a_hash():
    @dataclasses.dataclass
    class Leaky:
        slope: float

        def __call__(self, x: jax.Array) -> jax.Array:
            return jnp.where(x > 0, x, self.slope * x)

    f = Leaky(0.0)
    assert jaxinit.gain(f) == pytest.approx(math.sqrt(2), rel=TIGHT)
    f.slope = 1.0
    assert jaxinit.gain(f) == pytest.approx(1, rel=TIGHT)


def twisted(x: jax.Array) -> jax.Array:
    return x[::-1]


def twin(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x, x


def turned(x: jax.Array) -> jax.Array:
    return 1j * x


def fixed(x: jax.Array) -> float:
    return 1.0


def branching(x: Any) -> Any:
    return x if x > 0 else 0 * x


def columns(x: jax.Array) -> jax.Array:
    return jax.nn.softmax(x, axis=0)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    "f",
    [
        *(jax.nn.softmax, jax.nn.glu, jax.nn.standardize),
        *(jnp.sort, jnp.cumsum, columns, twisted, fixed),
    ],
)
def test_refuses_what_is_not_elementwise(f, direction):
    with pytest.raises(ValueError, match=r"elementwise, got .*; for a gated unit"):
        jaxinit.gain(f, direction)


@pytest.mark.parametrize("f", [twin, turned])
def test_refuses_what_is_not_one_real_array(f):
    with pytest.raises(ValueError, match="activation must map real numbers to real"):
        jaxinit.gain(f)


@pytest.mark.parametrize("f", [np.tanh, math.tanh, branching])
def test_refuses_what_jax_cannot_trace(f):
    for _ in range(2):
        with pytest.raises(
            TypeError, match=r"JAX can trace, got .*; write it with jax\.n"
        ):
            jaxinit.gain(f)


def test_refuses_what_jax_cannot_differentiate():
    assert jaxinit.gain(jnp.isfinite) == pytest.approx(1)
    with pytest.raises(TypeError, match=r"JAX can differentiate, got .*grad requires"):
        jaxinit.gain(jnp.isfinite, "backward")


def test_refuses_a_traced_slope():
    with pytest.raises(TypeError, match="of its argument and constants alone"):
        jax.jit(lambda a: jaxinit.gain(lambda x: jnp.where(x > 0, x, a * x)))(0.1)


@pytest.mark.parametrize(
    ("f", "direction", "words"),
    [
        (jnp.zeros_like, "forward", "E f(z)², got 0 for .*; no weights bring back"),
        (jnp.sign, "backward", "E f′(z)², got 0 for "),
        (jnp.ones_like, "std", "Var f(z), got 0 for "),
        (lambda x: 0 * x + 0.1, "std", "Var f(z), got 0 for "),
        (jnp.log, "forward", "E f(z)², got .*: a value is not finite at z = -"),
        (
            lambda x: jnp.exp(x**2),
            "forward",
            "E f(z)², got .*: the mean does not exist",
        ),
        (lambda x: jnp.exp(x**2), "std", "Var f(z), got .*: the mean does not exist"),
        (lambda x: jnp.sqrt(jnp.abs(x)), "backward", "E f′(z)², got .* near z = "),
    ],
)
def test_refuses_what_has_no_gain(f, direction, words):
    pattern = words.replace("(z)", r"\(z\)")
    with pytest.raises(ValueError, match=f"a finite, positive {pattern}"):
        jaxinit.gain(f, direction)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("gleu",), ValueError, "activation 'gleu' .*did you mean 'gelu'"),
        (("leaky_relu_x",), ValueError, "did you mean 'leaky_relu'"),
        (("leaky_relu_nan",), ValueError, "did you mean 'leaky_relu'"),
        (
            (3,),
            TypeError,
            "activation must be a name or a callable, got 3; pass 'gelu'",
        ),
        ((None,), TypeError, "got None"),
        (("relu", "backwards"), ValueError, "direction .*did you mean 'backward'"),
        (("relu", 1), ValueError, "direction must be one of 'forward', .*got 1"),
    ],
)
def test_refuses_wrong_words(arguments, error, words):
    with pytest.raises(error, match=words):
        jaxinit.gain(*arguments)


PYTORCH = {  # torch.nn.init.calculate_gain of torch 2
    **dict.fromkeys(["linear", "conv1d", "conv2d", "conv3d", "sigmoid"], 1.0),
    **dict.fromkeys([f"conv_transpose{n}d" for n in (1, 2, 3)], 1.0),
    "tanh": 1.6666666666666667,
    "relu": 1.4142135623730951,
    "leaky_relu": 1.4141428569978354,
    "selu": 0.75,
}


@pytest.mark.parametrize("name", PYTORCH)
def test_pytorchs_table(name):
    assert jaxinit.calculate_gain(name) == PYTORCH[name]


@pytest.mark.parametrize("slope", [0, 0.2, -0.5, 1, np.float32(0.25)])
def test_pytorchs_slope(slope):
    exact = math.sqrt(2 / (1 + float(slope) ** 2))
    assert jaxinit.calculate_gain("leaky_relu", slope) == exact


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("rleu",), ValueError, "nonlinearity must be one of .*did you mean 'relu'"),
        (("gelu",), ValueError, r"got 'gelu'; jaxinit.gain\('gelu'\) gives its exact"),
        (("leaky_relu_0.2",), ValueError, r"jaxinit.gain\('leaky_relu_0.2'\)"),
        ((jnp.tanh,), ValueError, "nonlinearity must be in PyTorch's table, got <"),
        ((["relu"],), ValueError, "nonlinearity must be one of "),
        (
            ("relu", 0.1),
            ValueError,
            "param must be None for 'relu', got 0.1; it is the",
        ),
        (
            ("leaky_relu", math.nan),
            ValueError,
            "param must be a finite number, got nan",
        ),
        (("leaky_relu", True), TypeError, "param must be a real number, got True"),
        (("leaky_relu", "0.1"), TypeError, "param must be a real number, got '0.1'"),
    ],
)
def test_pytorchs_table_refuses(arguments, error, words):
    with pytest.raises(error, match=words):
        jaxinit.calculate_gain(*arguments)


MODES = ("fan_in", "fan_avg", "fan_geo_avg", "fan_out")


@pytest.mark.parametrize("mode", MODES)
def test_kaiming(mode):
    direction = "backward" if mode == "fan_out" else "forward"
    assert kaiming_scale("leaky_relu", 0.0, mode) == 2.0
    assert kaiming_scale("leaky_relu", 3, mode) == pytest.approx(0.2)
    assert kaiming_scale("tanh", 0.0, mode) == pytest.approx(25 / 9)
    assert kaiming_scale(jnp.tanh, 0.0, mode) == jaxinit.gain("tanh", direction) ** 2
    assert kaiming_scale("gelu", 0.0, mode) == jaxinit.gain("gelu", direction) ** 2


def test_kaiming_refuses():
    with pytest.raises(ValueError, match=r"a must be 0 for 'relu', got 0\.1; it"):
        kaiming_scale("relu", 0.1, "fan_in")
    with pytest.raises(ValueError, match=r"nonlinearity 'geluu' .*did you mean 'gelu'"):
        kaiming_scale("geluu", 0.0, "fan_in")
    with pytest.raises(TypeError, match="nonlinearity must be a name or a callable"):
        kaiming_scale(3, 0.0, "fan_in")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a must be a finite number, got nan"):
        kaiming_scale("leaky_relu", math.nan, "fan_in")


# Work on the host.


def test_work_within_work_and_beside_it():
    """The thread that is kept is busy: a fresh one does it."""

    def two() -> np.ndarray:
        return on_host(lambda: np.asarray(jnp.float64(2)))

    assert on_host(two).dtype == np.float64
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(two) for _ in range(16)]
    assert {float(each.result()) for each in found} == {2.0}


def test_what_fails_or_is_set_within_is_gone_after_it():
    def fails() -> None:
        jax.jit(lambda x: x.nothing)(1.0)

    with pytest.raises(AttributeError, match="nothing"):
        on_host(fails)
    assert on_host(lambda: jnp.ones(2).dtype) == np.float64
    with jax.numpy_dtype_promotion("strict"), jax.enable_x64(False):
        assert on_host(lambda: (jnp.ones(2) + np.float32(1)).dtype) == np.float64
    assert jnp.ones(2).dtype == np.float32
