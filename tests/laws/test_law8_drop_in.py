# SPDX-License-Identifier: Apache-2.0
"""Law 8: what JAX's initializers accept and give a meaning, ours accept with it.

Every layer of Flax and Haiku is drawn with theirs and with ours by `tests/swapped.py`,
which `.ci/run swapped` runs.
"""

import gc
import json
import pathlib
import re
import types
import weakref

import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit
from tests.helpers import SIGMAS, bits, fresh, z_of_variance

QUICK = True  # see conftest.py

jnn = jax.nn.initializers

AXES = [  # in_axis, out_axis, batch_axis: any collection, one axis named by two
    (-2, 0, ()),
    (-1, -1, ()),
    (0, 1, 0),
    ((0, 2), (2, 1), ()),
    ((0, -3), 1, ()),
    ({}, set(), {}),
    (range(1), [1], frozenset()),
    ({0}, {1: "rows"}, np.array([2])),
]


@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["f32", "f64"])
def test_axes_mean_what_they_mean_to_jax(axes, dtype, key):
    def drawn(make):
        @jax.jit
        def draw(key):
            return [
                make(3.0, mode, "uniform", *axes)(fresh(key), (7, 3, 5), dtype)
                for mode in ("fan_in", "fan_out", "fan_avg")
            ]

        return [bits(array) for array in draw(fresh(key))]

    with jax.enable_x64(True):
        ours, theirs = map(drawn, (jaxinit.variance_scaling, jnn.variance_scaling))
    assert ours == theirs


def test_equal_axes_are_equal_values():
    as_set = jaxinit.he_normal(in_axis={0}, batch_axis={})
    assert as_set == jaxinit.he_normal(in_axis=(0,), batch_axis=())
    assert eval(repr(as_set), vars(jaxinit)) == as_set


def test_every_scaled_family_takes_one_axis_twice(key):
    for make in (
        jaxinit.he_normal,
        jaxinit.glorot_uniform,
        jaxinit.kaiming_normal,
        jaxinit.xavier_uniform,
        jaxinit.torch_linear,
        jaxinit.spectral_normal,
        jaxinit.siren,
        jaxinit.rayleigh,
    ):
        init = make(out_axis=0)
        assert init(fresh(key), (6, 4)).shape == (6, 4)
        assert jaxinit.compute_fans((6, 4), out_axis=0) == (4, 4)
        twin = make(fans=jaxinit.Fans.explicit(4, 4))
        assert init.law((6, 4)) == twin.law((6, 4))


def test_flaxs_own_default_for_embeddings(key):
    """It names axis 0 twice, and divides by the features."""
    default = jaxinit.variance_scaling(1.0, "fan_in", "normal", out_axis=0)
    theirs, ours = (
        jax.jit(layer.init)(fresh(key), jnp.zeros(1, int))["params"]["embedding"]
        for layer in (nn.Embed(11, 6), nn.Embed(11, 6, embedding_init=default))
    )
    assert bits(theirs) == bits(ours)
    assert default.law((11, 6)).std == 6**-0.5


KEYS = [None, 3, "rng", object(), np.zeros(3), jax.random.split(jax.random.key(0), 2)]


@pytest.mark.parametrize(
    "init",
    [
        jaxinit.zeros,
        jaxinit.ones_init(),
        jaxinit.constant(0.5),
        jaxinit.scaled(jaxinit.ones, 2.0),
        jaxinit.stacked(jaxinit.ones),
        jaxinit.blocks(jaxinit.zeros, 2),
        jaxinit.identity(),
        jaxinit.forget_gate(),
        jaxinit.s4d_decay(),
        jaxinit.hadamard(),
    ],
    ids=str,
)
def test_constants_never_look_at_the_key(init):
    assert not init.random
    wanted = init(jax.random.key(0), (4, 4))
    for given in (*KEYS, nnx.Rngs(0).params):
        assert bits(init(given, (4, 4))) == bits(wanted)
    traced = jax.jit(lambda value: jaxinit.constant(value)(None, (2,)))(0.5)
    assert traced.tolist() == [0.5, 0.5]


def test_what_draws_still_looks_at_the_key():
    assert jaxinit.normal().random and jaxinit.scaled(jaxinit.normal(), 2.0).random
    for given in (None, 3, "rng", object(), np.zeros(3)):
        with pytest.raises(TypeError, match="key must be a JAX PRNG key"):
            jaxinit.normal()(given, (2,))


def test_a_users_own_constant_has_no_key():
    @jaxinit.initializer
    def ramp(step=1.0):
        def init(shape, dtype):
            return step * jnp.arange(shape[-1], dtype=dtype)

        return init

    assert ramp(2.0)(None, (3,)).tolist() == [0.0, 2.0, 4.0]
    assert not ramp().random


def test_two_words_are_values_and_no_key(key):
    pair = np.array([1, 2], np.uint32)
    for dtype in ("float32", None):
        init = jaxinit.constant(pair, dtype)
        assert init(key, (2,)).tolist() == [1.0, 2.0]


def test_a_bias_may_have_a_traced_fan_in(key):
    traced = jax.jit(lambda n: jaxinit.torch_bias(n)(fresh(key), (64,)))(100.0)
    known = jaxinit.torch_bias(100)(fresh(key), (64,))
    np.testing.assert_allclose(traced, known, rtol=1e-6)


def test_an_int_is_a_shape_of_one_axis(key):
    for size in (5, np.int64(5)):
        assert jaxinit.ones(None, size).shape == (5,)
        assert jaxinit.constant(np.arange(5.0))(None, size).shape == (5,)
        for ours, theirs in (
            (jaxinit.normal(), jnn.normal()),
            (jaxinit.uniform(), jnn.uniform()),
            (jaxinit.truncated_normal(), jnn.truncated_normal()),
        ):
            draw = jax.jit(theirs, static_argnums=1)
            assert bits(ours(fresh(key), size)) == bits(draw(fresh(key), 5))


ODD = [  # numbers at the edge of their range, with a meaning all the same
    lambda of: of.uniform(0.0),
    lambda of: of.normal(0.0),
    lambda of: of.truncated_normal(0),
    lambda of: of.variance_scaling(0, "fan_avg", "uniform"),
    lambda of: of.constant(jnp.inf),
    lambda of: of.constant(-np.inf),
    lambda of: of.constant(np.array([0.0, -np.inf, 1.0])),
    lambda of: of.constant(np.array([np.inf, -np.inf, 2])),
]


@pytest.mark.parametrize("make", ODD)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e5m2"])
def test_zero_scales_and_infinite_constants_are_jaxs(make, dtype, key):
    ours, theirs = make(jaxinit), make(jnn)
    array = ours(fresh(key), (4, 3), dtype)
    assert (array == theirs(fresh(key), (4, 3), dtype)).all()
    assert (
        jaxinit.get(jaxinit.to_config(ours)) == ours == eval(repr(ours), vars(jaxinit))
    )
    assert jaxinit.check_tree({"w": array}, [("w", ours)]).ok


def test_infinity_is_refused_where_there_is_none(key):
    with pytest.raises(ValueError, match="dtype float8_e4m3fn holds -448 to 448"):
        jaxinit.constant(-np.inf)(key, (2,), "float8_e4m3fn")
    with pytest.raises(ValueError, match="inf is not a int32"):
        jaxinit.constant(np.inf)(key, (2,), "int32")
    array = jnp.full((3,), jnp.inf)
    assert not jaxinit.check_tree({"w": array}, [("w", jaxinit.constant(-np.inf))]).ok


# --- who calls without a key ----------------------------------------------------------


@pytest.fixture
def recipes():
    """The names that the pages on Haiku and Keras define.

    Keras is its protocol alone: a base class, a registry, a state that gives two words.
    """

    class SeedGenerator:
        def __init__(self, seed):
            self.words = np.array([seed or 0, 0], np.uint32)

        def next(self):
            self.words = self.words + np.array([0, 1], np.uint32)
            return jnp.array(self.words)

    class Initializer:
        @classmethod
        def from_config(cls, config):
            return cls(**config)

    keras = types.SimpleNamespace(
        initializers=types.SimpleNamespace(Initializer=Initializer),
        layers=types.SimpleNamespace(Dense=lambda n, kernel_initializer: None),
        random=types.SimpleNamespace(SeedGenerator=SeedGenerator),
        saving=types.SimpleNamespace(
            register_keras_serializable=lambda: lambda layer: layer
        ),
    )
    docs = pathlib.Path(__file__).parents[2] / "docs"
    pages = (docs / f"from_{name}.md" for name in ("haiku", "keras"))
    text = "".join(page.read_text("utf-8") for page in pages)
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    found: dict = {"hk": hk, "jaxinit": jaxinit, "keras": keras}
    hk.transform(lambda: exec("\n".join(blocks), found)).init(jax.random.key(0))
    return types.SimpleNamespace(**found)


def test_haiku_calls_with_a_shape_and_a_dtype(recipes, key):
    init = jaxinit.he_normal()

    def forward(x):
        return hk.Linear(10, w_init=recipes.keyed(init), name="dense")(x)

    params = hk.transform(forward).init(fresh(key), jnp.ones((2, 6)))
    _, given = jax.random.split(fresh(key))
    assert bits(params["dense"]["w"]) == bits(init(given, (6, 10)))


def test_keras_calls_an_object_that_is_saved(recipes):
    init = jaxinit.kaiming_normal(nonlinearity="silu")
    ours = recipes.FromJaxinit(init, seed=3)
    again = type(ours).from_config(json.loads(json.dumps(ours.get_config())))
    assert again.init == init
    w = ours((300, 400), dtype="float32")
    assert w.shape == (300, 400) and w.dtype == jnp.float32
    assert abs(z_of_variance(np.asarray(w), 0.0, init.law(w.shape).std)) < SIGMAS
    assert bits(w) != bits(ours((300, 400), dtype="float32"))


@pytest.mark.parametrize("init", [jaxinit.he_normal(), jaxinit.zeros], ids=str)
def test_a_call_without_a_key_is_told_the_recipe(init, key):
    for shape, dtype in (
        ((6, 10), jnp.float32),
        ([6, 10], "bfloat16"),
        (6, np.float32),
    ):
        with pytest.raises(TypeError) as raised:
            init(shape, dtype)
        said = str(raised.value)
        assert said.startswith(f"{init!r} was called with (shape, dtype), {shape} and ")
        assert jnp.dtype(dtype).name in said and "hk.next_rng_key()" in said
    for legacy in (key, jax.random.key_data(key)):
        with pytest.raises(TypeError, match=r"for shape float32: shape must be"):
            init(legacy, "float32")


def test_the_recipe_of_the_message_runs(key):
    """What the error says to write is what is written here."""
    init = jaxinit.glorot_uniform()
    with pytest.raises(TypeError) as raised:
        init((6, 10), jnp.float32)
    cure = str(raised.value).partition("w_init=")[2]

    def forward(x):
        return hk.Linear(10, w_init=eval(cure, {"hk": hk, "init": init}))(x)

    params = hk.transform(forward).init(key, jnp.ones((2, 6)))
    assert params["linear"]["w"].shape == (6, 10)


# --- what is kept, and for how long ---------------------------------------------------


def test_what_a_user_made_is_let_go(key):
    def one():
        @jaxinit.initializer
        def mine(scale=1.0):
            return lambda key, shape, dtype: jnp.full(shape, scale, dtype)

        def theirs(key, shape, dtype):
            return jnp.ones(shape, dtype)

        inits = mine(2.0), jaxinit.scaled(theirs, 3.0)
        for init in inits:
            init(fresh(key), (2,))
        return weakref.ref(mine), weakref.ref(theirs), weakref.ref(inits[0])

    references = one()
    jax.clear_caches()  # JAX's own
    gc.collect()
    assert [reference() for reference in references] == [None, None, None]
    assert not [name for name in jaxinit.available() if "mine" in name]
