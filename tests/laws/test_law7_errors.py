# SPDX-License-Identifier: Apache-2.0
"""Law 7: fail early, in words: who, what was expected, what came, and the cure."""

# mypy: disable-error-code="arg-type, call-arg"

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from tests.cases import RANDOM, ids
from tests.helpers import fresh

QUICK = True  # see conftest.py


def words(value: object) -> str:
    """The id of a message; calls and arrays go by their number."""
    return value[:50] if isinstance(value, str) else ""


NAN, INF = float("nan"), float("inf")

AT_CONSTRUCTION = [
    # misspelt words, with the nearest
    (
        lambda: jaxinit.variance_scaling(1.0, "fanin", "normal"),
        "variance_scaling: mode must be one of 'fan_in', 'fan_out', 'fan_avg', "
        "'fan_geo_avg', got 'fanin'; did you mean 'fan_in'?",
    ),
    (
        lambda: jaxinit.variance_scaling(1.0, "fan_in", "gaussian"),
        "distribution must be one of 'truncated_normal', 'normal', 'uniform', got "
        "'gaussian'; choose one of them",
    ),
    (lambda: jaxinit.kaiming_normal("fan_inn"), "kaiming_normal: mode must be one of"),
    (lambda: jaxinit.kaiming_normal(nonlinearity="gelo"), "did you mean 'gelu'?"),
    (lambda: jaxinit.kaiming_normal(nonlinearity="tanh", a=0.1), "a must be 0 for"),
    (lambda: jaxinit.orthogonal(method="svd"), "orthogonal: method must be one of"),
    (lambda: jaxinit.get("he_norma"), "did you mean 'he_normal'?"),
    (lambda: jaxinit.get("qqqqq"), "name must be one of"),
    # numbers out of range
    (
        lambda: jaxinit.variance_scaling(-1.0, "fan_in", "normal"),
        "variance_scaling: scale must be >= 0, got -1.0",
    ),
    (lambda: jaxinit.variance_scaling(NAN, "fan_in", "normal"), "must not be NaN"),
    (lambda: jaxinit.variance_scaling(INF, "fan_in", "normal"), "a finite number"),
    (lambda: jaxinit.normal(-0.1), "normal: stddev must be >= 0, got -0.1"),
    (lambda: jaxinit.normal(np.float32("nan")), "stddev must not be NaN"),
    (lambda: jaxinit.normal(jnp.array([NAN])), "stddev[0] must not be NaN"),
    (lambda: jaxinit.normal(mean=INF), "mean must be a finite number, got inf"),
    (lambda: jaxinit.uniform(-1.0), "uniform: scale must be >= 0, got -1.0"),
    (lambda: jaxinit.xavier_normal(-1.0), "xavier_normal: gain must be >= 0"),
    (lambda: jaxinit.xavier_uniform(-1.0), "xavier_uniform: gain must be >= 0"),
    (lambda: jaxinit.torch_bias(0), "torch_bias: fan_in must be > 0, got 0"),
    (lambda: jaxinit.sparse(1.5), "sparse: sparsity must be >= 0 and <= 1, got 1.5"),
    (lambda: jaxinit.sparse(-0.5), "sparsity must be >= 0"),
    (lambda: jaxinit.sparse(0.5, -1.0), "std must be >= 0, got -1.0"),
    (lambda: jaxinit.sparse(0.5, per="inputs"), "did you mean 'input'?"),
    (lambda: jaxinit.orthogonal(INF), "orthogonal: scale must be a finite number"),
    (lambda: jaxinit.trunc_normal(std=0.0), "trunc_normal: std must be > 0, got 0.0"),
    (
        lambda: jaxinit.truncated_normal(lower=2.0, upper=2.0),
        "truncated_normal: lower must be below upper, got lower=2.0 and upper=2.0",
    ),
    (lambda: jaxinit.trunc_normal(a=2.0, b=1.0), "a must be below b, got a=2.0"),
    (lambda: jaxinit.uniform_between(1.0, 0.0), "low must be below high"),
    (lambda: jaxinit.uniform_between(-INF, 0.0), "low must be a finite number"),
    (lambda: jaxinit.dirac(0), "dirac: groups must be at least 1, got 0"),
    (lambda: jaxinit.blocks(jaxinit.zeros, 0), "blocks: count must be at least 1"),
    (lambda: jaxinit.bilinear(0), "bilinear: factor must be at least 1, got 0"),
    (lambda: jaxinit.icnr(jaxinit.zeros, (2, 0)), "factor[1] must be at least 1"),
    (lambda: jaxinit.icnr(jaxinit.zeros, 2, "nhwc"), "order must be one of"),
    (lambda: jaxinit.forget_gate(index=4), "forget_gate: index must be at most 3, got"),
    (lambda: jaxinit.forget_gate(gates=0), "gates must be at least 1, got 0"),
    (lambda: jaxinit.chrono(2.0), "chrono: min_length must be below max_length, got"),
    (lambda: jaxinit.chrono(9.0, 1.0), "min_length must be > 1, got 1.0"),
    (lambda: jaxinit.chrono(9.0, index=0), "index and input_index must differ, got 0"),
    (lambda: jaxinit.chrono(9.0, gates=1, index=0, input_index=1), "must be at most 0"),
    (lambda: jaxinit.prior_probability(1.0), "p must be > 0 and < 1, got 1.0"),
    (lambda: jaxinit.fourier_features(-1.0), "fourier_features: scale must be >= 0"),
    (lambda: jaxinit.spectral_normal(-1.0), "spectral_normal: scale must be >= 0"),
    (lambda: jaxinit.noisy_identity(1.0, -1.0), "stddev must be >= 0, got -1.0"),
    (lambda: jaxinit.s4d_decay("linear"), "did you mean 'lin'?"),
    (lambda: jaxinit.s4d_frequency("real"), "spectrum must be one of 'lin', 'inv'"),
    (lambda: jaxinit.lru_nu(0.9, 0.9), "lru_nu: r_min must be below r_max, got"),
    (lambda: jaxinit.lru_nu(0.9, 1.1), "r_max must be <= 1, got 1.1"),
    (lambda: jaxinit.lru_theta(0.0), "lru_theta: max_phase must be > 0, got 0.0"),
    (lambda: jaxinit.mamba_dt(0.0), "mamba_dt: dt_min must be > 0, got 0.0"),
    (lambda: jaxinit.mamba_dt(0.2), "dt_min must be below dt_max, got dt_min=0.2"),
    (lambda: jaxinit.mamba_dt(floor=0.1), "floor must be below dt_max, got floor=0.1"),
    (lambda: jaxinit.rayleigh("xavier"), "rayleigh: criterion must be one of"),
    (lambda: jaxinit.siren(0.0), "siren: omega must be > 0, got 0.0"),
    (lambda: jaxinit.constant(NAN), "constant: value must not be NaN"),
    (lambda: jaxinit.delta_orthogonal(column_axis=0), "column_axis must be -1 or -2"),
]

WRONG_KINDS = [
    (lambda: jaxinit.kaiming_uniform(nonlinearity=3), "nonlinearity must be"),
    (lambda: jaxinit.normal("0.1"), "normal: stddev must be a real number, got '0.1'"),
    (lambda: jaxinit.normal(True), "stddev must be a real number, got True"),
    (lambda: jaxinit.normal(1j), "stddev must be a real number, got 1j"),
    (lambda: jaxinit.normal(np.ones(2)), "must be a real number, got (1.0, 1.0)"),
    (lambda: jaxinit.normal([]), "stddev must be a real number, got ()"),
    (lambda: jaxinit.normal(dtype="float33"), "dtype must be a dtype, got 'float33'"),
    (lambda: jaxinit.he_normal(1.5), "in_axis must be an integer, got 1.5"),
    (lambda: jaxinit.he_normal(True), "in_axis must be an integer, got True"),
    (lambda: jaxinit.he_normal((0, "1")), "in_axis[1] must be an integer, got '1'"),
    (lambda: jaxinit.he_normal(fans="conv"), "fans must be a Fans, got 'conv'"),
    (lambda: jaxinit.he_normal(fans=jaxinit.Fans.conv), "call it"),
    (lambda: jaxinit.lru_gamma(3), "nu must be the array that lru_nu gave, got 3"),
    (lambda: jaxinit.lru_gamma([]), "nu must be the array that lru_nu gave, got ()"),
    (lambda: jaxinit.dirac(1.5), "groups must be an integer, got 1.5"),
    (lambda: jaxinit.constant("1"), "value must be a number or an array of them"),
    (lambda: jaxinit.constant(None), "value must be a number"),
    (lambda: jaxinit.constant({}), "value must be a plain value that can be hashed"),
    (lambda: jaxinit.truncated_normal(correct_std=1), "correct_std must be True or"),
    (
        lambda: jaxinit.scaled(jaxinit.he_normal, 2.0),
        "scaled: init must be an initializer, got the factory he_normal; call it: "
        "he_normal()",
    ),
    (lambda: jaxinit.stacked(3), "init must be an initializer, got 3"),
    (lambda: jaxinit.blocks(jax.Array, 2), "init must be an initializer"),
    (lambda: jaxinit.get(3), "get takes a name, a configuration or an initializer"),
    (lambda: jaxinit.get(jaxinit.zeros, scale=1), "takes no ['scale']"),
    (lambda: jaxinit.get("zeros", scale=1), "takes no ['scale']"),
    (lambda: jaxinit.get({"name": "Fans.conv"}), "got Fans.conv()"),
    (lambda: jaxinit.he_normal(gain=1), "gain"),
]


@pytest.mark.parametrize(("call", "message"), AT_CONSTRUCTION, ids=words)
def test_wrong_values_are_refused_by_the_factory(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(("call", "message"), WRONG_KINDS, ids=words)
def test_wrong_kinds_are_refused_by_the_factory(call, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        call()


def test_fans_and_axes_together_are_refused():
    with pytest.raises(ValueError, match="give either fans or in_axis"):
        jaxinit.he_normal(in_axis=0, fans=jaxinit.Fans.conv())


def test_a_configuration_without_a_name_is_refused():
    with pytest.raises(ValueError, match="config must have a 'name'"):
        jaxinit.get({"scale": 1.0})


AT_THE_CALL = [
    (jaxinit.he_normal(), (5,), "a kernel of 1 axes has no input axis -2"),
    (jaxinit.he_normal(in_axis=3), (4, 4), "in_axis 3 falls outside a shape of 2 axes"),
    (
        jaxinit.orthogonal(batch_axis=(0, -3)),
        (4, 4, 4),
        "batch_axis (0, -3) names one axis twice",
    ),
    (
        jaxinit.he_normal(fans=jaxinit.Fans.conv(3)),
        (3, 3, 1, 64),
        "groups must divide the output features: 3 does not divide 64",
    ),
    (
        jaxinit.glorot_normal(fans=jaxinit.Fans.conv_local(1)),
        (8, 12, 4),
        "cannot tell fan_out from the shape alone; give kernel_size=",
    ),
    (jaxinit.forget_gate(), (6,), "gates must divide the last axis: 4 does not divide"),
    (jaxinit.chrono(9.0), (), "must have at least 1 axes (..., gates · units), got 0"),
    (jaxinit.s4d_decay(), (), "must have at least 1 axes (..., state), got 0"),
    (jaxinit.siren(), (5,), "a kernel of 1 axes has no input axis -2"),
    (jaxinit.orthogonal(), (5,), "must have at least 2 axes"),
    (jaxinit.orthogonal(column_axis=4), (4, 4), "column_axis 4 falls outside"),
    (jaxinit.orthogonal(batch_axis=-1), (4, 4, 4), "column_axis and batch_axis share"),
    (jaxinit.delta_orthogonal(), (4, 4), "must have 3 to 5 axes (*window, in, out)"),
    (jaxinit.conv_orthogonal(), (4, 4), "must have 3 to 5 axes (*window, in, out)"),
    (jaxinit.hadamard(), (4,), "must have 2 to 5 axes (*window, in, out), got 1"),
    (jaxinit.spectral_normal(), (4,), "a kernel of 1 axes has no input axis -2"),
    (jaxinit.spectral_orthogonal(), (2, 4, 4), "must have 2 axes (in, out); see stack"),
    (jaxinit.noisy_identity(), (4,), "must have at least 2 axes (..., in, out), got 1"),
    (jaxinit.identity(), (4,), "must have at least 2 axes (..., in, out), got 1"),
    (jaxinit.dirac(), (4, 4), "must have 3 to 5 axes"),
    (jaxinit.dirac(3), (3, 4, 4), "groups must divide the output features"),
    (jaxinit.sparse(0.5), (3, 4, 4), "must have 2 axes (in, out), got 3"),
    (jaxinit.constant((1, 2, 3)), (3, 2), "(3,)"),
    (jaxinit.stacked(jaxinit.zeros, 3), (3, 2), "axis 3 falls outside"),
    (jaxinit.blocks(jaxinit.zeros, 3), (3, 4), "count must divide axis -1: 3 does not"),
    (
        jaxinit.icnr(jaxinit.zeros, 2),
        (3, 3, 4, 6),
        "the product of the factors must divide the output features: 4 does not",
    ),
    (jaxinit.icnr(jaxinit.zeros, (2, 2)), (3, 4, 4), "factor (2, 2) must have one"),
    (jaxinit.bilinear(2), (4, 4), "must have 3 to 5 axes (*window, in, out), got 2"),
    (jaxinit.bilinear(2), (4, 3, 5), "so in must be out (or 1, for a depthwise"),
    (jaxinit.bilinear(3), (4, 4, 2, 2), "a window of 4 is too small for factor 3; use"),
    (jaxinit.scaled(jaxinit.he_normal(), 2.0), (3,), "a kernel of 1 axes"),
    (jaxinit.he_normal(), (3, -1), "shape[1] must be at least 0, got -1"),
]


@pytest.mark.parametrize(("init", "shape", "message"), AT_THE_CALL, ids=str)
def test_wrong_shapes_are_refused_at_the_call(init, shape, message, key):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        init(key, shape)
    assert str(caught.value).startswith(f"{init!r} for shape {shape}: ")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3.0, 4), "shape[0] must be an integer, got 3.0"),
        ((True, 4), "shape[0] must be an integer, got True"),
        (3.0, "shape must be a sequence of integers, got 3.0"),
        (True, "shape must be an integer, got True"),
        ("34", "shape must be a sequence of integers, got '34'"),
        (None, "shape must be a sequence of integers, got None"),
        (np.ones((2, 2), int), "must be a flat sequence of integers"),
    ],
    ids=str,
)
def test_what_is_no_shape_is_refused(shape, message, key):
    jaxinit.he_normal()(fresh(key), (3, 4))  # the same sizes, already compiled
    with pytest.raises(TypeError, match=re.escape(message)):
        jaxinit.he_normal()(key, shape)


def test_shapes_of_real_programs_pass(key):
    for shape in ([3, 4], (np.int64(3), 4), np.array([3, 4])):
        assert jaxinit.he_normal()(fresh(key), shape).shape == (3, 4)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (0, "key must be a JAX PRNG key, got 0; make one by jax.random.key(0)"),
        (None, "key must be a JAX PRNG key, got None"),
        (np.ones(2), "got an array of float32"),
        (jnp.ones(2), "got an array of float32"),
        (jnp.ones((), int), "got an array of int32"),
        (
            jax.random.split(jax.random.key(0), 3),
            "a single key, got keys of shape (3,)",
        ),
        (jax.random.split(jax.random.PRNGKey(0), 3), "got keys of shape (3,)"),
    ],
    ids=words,
)
def test_what_is_no_key_is_refused(key, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        jaxinit.he_normal()(key, (3, 4))


@pytest.mark.parametrize("case", RANDOM, ids=ids)
@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_random_families_refuse_integers(case, dtype, key):
    with pytest.raises(TypeError, match=f"dtype {dtype} cannot hold random values"):
        case.init(key, case.small, dtype)


def test_a_dtype_that_is_none_is_refused(key):
    with pytest.raises(TypeError, match="dtype must be a dtype, got 'float33'"):
        jaxinit.normal()(key, (3,), "float33")


@pytest.mark.parametrize(
    ("init", "dtype", "message"),
    [
        (jaxinit.constant(0.5), "int32", "0.5 is not a int32"),
        (jaxinit.constant(300), "int8", "300 is not a int8"),
        (jaxinit.constant(-1), "uint8", "-1 is not a uint8"),
        (jaxinit.constant(2), "bool", "2 is not a bool"),
        (jaxinit.constant(1j), "float32", "1j is not a float32"),
        (jaxinit.identity(0.5), "int32", "0.5 is not a int32"),
        (jaxinit.dirac(gain=0.5), "int32", "0.5 is not a int32"),
        (jaxinit.hadamard(0.5), "int32", "0.5 is not a int32"),
    ],
    ids=str,
)
def test_a_dtype_that_would_lose_the_constant_is_refused(init, dtype, message, key):
    with pytest.raises(ValueError, match=re.escape(message)):
        init(key, (3, 4, 4), dtype)


def test_integer_constants_of_integer_dtypes_pass(key):
    for dtype in ("int8", "uint8", "int32", "bool"):
        assert int(jaxinit.ones(fresh(key), (3,), dtype).sum()) == 3
    assert jaxinit.identity()(fresh(key), (2, 2), "int32").tolist() == [[1, 0], [0, 1]]
    assert jaxinit.constant(True)(fresh(key), (2,), "bool").tolist() == [True, True]


def test_complex_where_there_is_none_is_refused(key):
    with pytest.raises(TypeError, match="cuts an interval and has no complex64 form"):
        jaxinit.trunc_normal()(fresh(key), (3,), "complex64")
    with pytest.raises(TypeError, match=r"needs lower = -upper, got lower=-1\.0"):
        jaxinit.truncated_normal(lower=-1.0)(fresh(key), (3,), "complex64")


@pytest.mark.parametrize(
    "init",
    [
        jaxinit.chrono(9.0),
        jaxinit.lru_nu(),
        jaxinit.lru_theta(),
        jaxinit.mamba_dt(),
    ],
    ids=str,
)
def test_what_is_real_has_no_complex_form(init, key):
    message = f"{init!r} for shape (4,): dtype must be a float dtype, got complex64"
    with pytest.raises(TypeError, match=re.escape(message)):
        init(key, (4,), "complex64")


@pytest.mark.parametrize("shape", [(), (2,), (4, 3)], ids=str)
def test_an_array_that_does_not_broadcast_is_refused(shape, key):
    with pytest.raises(ValueError, match=r"a value of shape \(1, 4\) does not fit"):
        jaxinit.constant([[1.0, 2.0, 3.0, 4.0]])(key, shape)


@pytest.mark.parametrize("bad", [{"gain": "a"}, {"stddev": -1.0}], ids=str)
def test_the_error_names_one_factory(bad):
    (name,) = bad
    with pytest.raises((TypeError, ValueError), match=f"^noisy_identity: {name} must"):
        jaxinit.noisy_identity(**bad)


FACTORIES = [
    name
    for name in jaxinit.available()
    if name in jaxinit.__all__ and name not in ("zeros", "ones")
]


@pytest.mark.parametrize("legacy", [False, True], ids=["typed", "legacy"])
@pytest.mark.parametrize("name", FACTORIES)
def test_forgotten_parentheses_are_answered_with_the_cure(name, legacy):
    key = jax.random.PRNGKey(0) if legacy else jax.random.key(0)
    factory = getattr(jaxinit, name)
    cure = re.escape(f"kernel_init=jaxinit.{name}(")  # and what it needs: test_cures
    for arguments in ((key, (3, 4)), (key, (3, 4), jnp.float32)):
        with pytest.raises(TypeError, match=cure):
            factory(*arguments)


def test_forgotten_parentheses_in_linen():
    layer = nn.Dense(4, kernel_init=jaxinit.orthogonal)
    with pytest.raises(TypeError, match=r"kernel_init=jaxinit\.orthogonal\(\)"):
        layer.init(jax.random.key(0), jnp.ones((1, 3)))


def test_a_factory_needs_named_arguments():
    with pytest.raises(TypeError, match=r"mine: .* replace \*scales by named"):

        @jaxinit.initializer
        def mine(*scales):
            return lambda key, shape, dtype: jnp.zeros(shape, dtype)


def test_a_factory_must_return_a_function():
    @jaxinit.initializer
    def mine():
        return 3

    with pytest.raises(TypeError, match=r"mine: .* return init\(key, shape, dtype\)"):
        mine()
