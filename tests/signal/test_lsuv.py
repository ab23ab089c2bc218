# SPDX-License-Identifier: Apache-2.0
"""LSUV: unit variance at every layer of the batch that it was given."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core import freeze

import jaxinit
import jaxinit.nnx
from tests.helpers import fresh
from tests.signal.test_signal import Deep, Looped, column, filled, structure

QUICK = True  # see conftest.py

TOL = 0.05


@functools.cache
def drawn() -> tuple[Any, jax.Array]:
    """The parameters of every deep model, and a batch: they hold no activation."""
    x = jax.random.normal(jax.random.key(2), (256, 128))
    model = Deep(jaxinit.lecun_normal(), depth=30, width=128)
    return jax.jit(model.init)(jax.random.key(3), x), x


def deep(activation: Any) -> tuple[Any, Any, jax.Array]:
    variables, x = drawn()
    model = Deep(jaxinit.lecun_normal(), activation, 30, 128)
    return model, jax.tree.map(lambda leaf: leaf, variables), x


def variances(model: Any, variables: Any, x: jax.Array) -> np.ndarray[Any, Any]:
    """The variance of each layer's output, by numpy."""
    kernels, biases = (
        np.asarray(variables["params"]["l"][k]) for k in ("kernel", "bias")
    )
    found, h = [], np.asarray(x, np.float64)
    for w, b in zip(kernels, biases, strict=True):
        z = h @ w.astype(np.float64) + b
        found.append(z.var())
        h = np.asarray(model.activation(jnp.asarray(z, jnp.float32)), np.float64)
    return np.array(found)


@pytest.mark.sweep
@pytest.mark.parametrize("activation", ["relu", "tanh", "silu", "sigmoid"])
def test_unit_variance_at_every_layer(activation):
    """Thirty layers of 128: each within tol on the batch, after one step.

    A kernel without a bias is one step from its goal, up to float32.
    """
    model, variables, x = deep(getattr(jax.nn, activation))
    before = variances(model, variables, x)
    made, changes = jaxinit.lsuv(model, variables, x, tol=TOL)
    after = variances(model, made, x)
    assert np.abs(before - 1).max() > 0.3  # LeCun's is not so
    assert np.abs(after - 1).max() <= TOL + 1e-4
    assert column(changes, "path") == [f"params/l/kernel[{i}]" for i in range(30)]
    assert column(changes, "std_after") == pytest.approx(np.sqrt(after), rel=1e-4)
    assert set(column(changes, "iterations")) <= {0, 1}
    for w, change in zip(made["params"]["l"]["kernel"], changes.rows, strict=True):
        q = np.asarray(w) / change.factor
        assert np.abs(q @ q.T - np.eye(128)).max() < 1e-5


@pytest.mark.thorough
def test_a_bias_takes_more_steps():
    """The mean of the biases is no variance; their spread is, and is not scaled."""
    model, variables, x = deep(jnp.tanh)
    noise = 0.3 * jax.random.normal(jax.random.key(4), (30, 128))
    variables["params"]["l"]["bias"] = noise
    made, changes = jaxinit.lsuv(model, variables, x, tol=0.01)
    assert np.abs(variances(model, made, x) - 1).max() <= 0.0101
    assert max(column(changes, "iterations")) > 1
    assert jnp.array_equal(made["params"]["l"]["bias"], noise)


class Counted(nn.Module):
    """Counts how often it is traced."""

    traces = 0

    @nn.compact
    def __call__(self, x):
        Counted.traces += 1
        for _ in range(6):
            x = nn.relu(nn.Dense(16)(x))
        return x


def test_one_trace_serves_all_steps(key):
    model, x = Counted(), jax.random.normal(key, (32, 16))
    variables = model.init(jax.random.key(0), x)
    Counted.traces = 0
    _, changes = jaxinit.lsuv(model, variables, x)
    assert len(changes.rows) == 6
    assert Counted.traces == 1


@pytest.mark.sweep
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_slices_of_a_stack(axis, key):
    x = jax.random.normal(key, (64, 4))
    model = Looped(axis=axis)
    made, changes = jaxinit.lsuv(model, model.init(jax.random.key(0), x), x)
    stack = np.asarray(made["params"]["stack"]["dense"]["kernel"])
    h = np.asarray(x)
    for i, (w, row) in enumerate(
        zip(np.moveaxis(stack, axis, 0), changes.rows, strict=True)
    ):
        assert row.path == f"params/stack/dense/kernel[{i}]"
        z = h @ w
        assert abs(z.var() - 1) <= TOL + 1e-4
        h = np.maximum(z, 0)


def test_convolutions_and_cells(key):
    """The gates of a cell are kernels as others are, each with a part of the output."""

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(4, (3, 3), name="conv")(x))
            x = nn.ConvTranspose(4, (2, 2), strides=(2, 2), name="up")(x)
            x = nn.RNN(nn.OptimizedLSTMCell(4, name="cell"))(x.mean(2))
            return nn.Dense(2, name="head")(x)

    x = jax.random.normal(key, (2, 8, 8, 4))
    variables = filled(jax.eval_shape(Model().init, jax.random.key(0), x))
    made, changes = jaxinit.lsuv(Model(), variables, x, keep=["cell/h?/kernel"])
    gates = [f"cell/i{gate}" for gate in "ifgo"]
    paths = [f"params/{name}/kernel" for name in ("conv", "up", *gates, "head")]
    assert column(changes, "path") == paths
    assert column(changes, "std_after") == pytest.approx([1.0] * 7, abs=TOL)
    assert len(changes.kept) == 4
    assert "params/cell/hf/kernel" in repr(changes).partition("kept: ")[2]
    assert structure(made) == structure(variables)
    kernel = np.asarray(made["params"]["conv"]["kernel"]).reshape(36, 4)
    q = kernel / changes.rows[0].factor
    assert np.abs(q.T @ q - np.eye(4)).max() < 1e-5


class Standardised(nn.Module):
    """A kernel of mean 0 and variance 1 / fan_in for each output, whatever it was."""

    @nn.compact
    def __call__(self, x):
        w = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], 16))
        w = w - w.mean(0, keepdims=True)
        w = w / jnp.sqrt(len(w) * w.var(0, keepdims=True) + 1e-10)
        return nn.Dense(4, name="head")(nn.relu(x @ w))


def test_a_kernel_whose_scale_cannot_matter_is_kept(key):
    x = jax.random.normal(key, (64, 8))
    variables = Standardised().init(jax.random.key(0), x)
    assert jaxinit.read(Standardised(), variables, x)["params/kernel"].invariant
    made, changes = jaxinit.lsuv(Standardised(), variables, x)
    assert column(changes, "path") == ["params/head/kernel"]
    assert changes.kept == ("params/kernel",)
    assert jnp.array_equal(made["params"]["kernel"], variables["params"]["kernel"])


def test_a_function_of_parameters(key):
    def mlp(params, x):
        for w in params:
            x = jnp.tanh(x @ w)
        return x

    params = [0.1 * k * jnp.eye(8) for k in (1, 2, 3)]
    made, changes = jaxinit.lsuv(mlp, params, jax.random.normal(key, (64, 8)))
    assert column(changes, "path") == ["0", "1", "2"]
    assert column(changes, "std_after") == pytest.approx([1.0] * 3, abs=TOL)
    assert structure(made) == structure(params)


class Skipping(nnx.Module):
    def __init__(self, rngs):
        self.used, self.unused = (nnx.Linear(4, 4, rngs=rngs) for _ in range(2))

    def __call__(self, x):
        return self.used(x)


def test_a_layer_that_does_not_run_is_kept(key):
    model = jaxinit.nnx.create(Skipping, nnx.Rngs(0))
    made, changes = jaxinit.lsuv(model, jax.random.normal(key, (64, 4)))
    assert column(changes, "path") == ["used/kernel"]
    assert changes.kept == ("unused/kernel",)
    assert jnp.array_equal(made.unused.kernel[...], model.unused.kernel[...])


def test_a_layer_for_a_model_and_frozen_variables(key):
    x = jax.random.normal(key, (64, 4))
    variables = freeze(nn.Dense(4).init(jax.random.key(0), x))
    made, changes = jaxinit.lsuv(nn.Dense(4), variables, x)
    assert structure(made) == structure(variables)
    assert column(changes, "path") == ["params/kernel"]


def test_complex_kernels_are_kept(key):
    """The variance of a complex output is not that of the moduli."""
    wave = nn.Dense(8, param_dtype="complex64", dtype="complex64")
    model = nn.Sequential([wave, jnp.abs, nn.Dense(4)])
    x = jax.random.normal(key, (64, 4))
    variables = model.init(jax.random.key(0), x)
    made, changes = jaxinit.lsuv(model, variables, x)
    assert changes.kept == ("params/layers_0/kernel",)
    for before, after in zip(
        *(jax.tree.leaves(v["params"]["layers_0"]) for v in (variables, made)),
        strict=True,
    ):
        assert jnp.array_equal(before, after)


def test_float64_stays_so(key):
    with jax.enable_x64(True):
        x = jax.random.normal(key, (64, 16), "float64")
        layer = nn.Dense(16, param_dtype="float64")
        made, changes = jaxinit.lsuv(layer, layer.init(jax.random.key(0), x), x)
        q = np.asarray(made["params"]["kernel"]) / changes.rows[0].factor
    assert np.abs(q @ q.T - np.eye(16)).max() < 1e-13


class Attention(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(8, 24, rngs=rngs)
        self.norm = nnx.LayerNorm(24, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 24, decode=False, rngs=rngs)
        self.head = nnx.Linear(24, 8, rngs=rngs)

    def __call__(self, tokens):
        return self.head(self.attention(self.norm(self.embed(tokens))))


def test_an_nnx_model_and_what_is_kept(key):
    model = jaxinit.nnx.create(Attention, nnx.Rngs(0))
    x = jax.random.randint(key, (8, 6), 0, 8)
    before = jax.tree.map(jnp.copy, nnx.state(model))
    made, changes = jaxinit.lsuv(model, x, keep=["head/kernel"])
    assert isinstance(made, Attention) and type(made.head) is nnx.Linear
    assert jax.tree.all(jax.tree.map(jnp.array_equal, before, nnx.state(model)))
    assert changes.kept == ("embed/embedding", "head/kernel")
    assert jnp.array_equal(made.head.kernel[...], model.head.kernel[...])
    heads = np.asarray(made.attention.query.kernel[...])
    factor = next(
        row.factor for row in changes.rows if row.path == "attention/query/kernel"
    )
    q = heads.reshape(24, 24) / factor  # inputs by heads and features
    assert np.abs(q @ q.T - np.eye(24)).max() < 1e-5
    assert column(changes, "std_after") == pytest.approx([1.0] * 4, abs=TOL)


def mlp() -> tuple[Any, Any, jax.Array]:
    model, x = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(4)]), jnp.ones((8, 4))
    x = x + jnp.arange(8.0)[:, None]
    return model, model.init(jax.random.key(0), x), x


def broken(layer: str, bias: Any) -> tuple[Any, Any, jax.Array]:
    model, variables, x = mlp()
    variables["params"][layer]["bias"] += bias
    return model, variables, x


def test_the_key(key):
    one, other = jax.random.split(key)
    first, again, second = (
        jaxinit.lsuv(*mlp(), key=k)[0] for k in (fresh(one), one, other)
    )
    assert jax.tree.all(jax.tree.map(jnp.array_equal, first, again))
    kernels = [made["params"]["layers_0"]["kernel"] for made in (first, second)]
    assert not jnp.allclose(*kernels)


BAD: dict[str, tuple[Any, str]] = {
    "a batch of zeros": (
        lambda: jaxinit.lsuv(*mlp()[:2], jnp.zeros((8, 4))),
        "layers_0/kernel has the standard deviation 0",
    ),
    "dead units": (
        lambda: jaxinit.lsuv(*broken("layers_0", -30.0)),
        "layers_2/kernel has the standard deviation 0",
    ),
    "not finite": (
        lambda: jaxinit.lsuv(*mlp()[:2], jnp.full((8, 4), jnp.nan)),
        "layers_0/kernel has the standard deviation nan",
    ),
    "no convergence": (
        lambda: jaxinit.lsuv(*broken("layers_0", jnp.arange(4.0)), max_iter=1),
        r"layers_0/kernel has the variance .* after 1 steps, not 1 ± 0.05; raise max_",
    ),
    "a bias that decides": (
        lambda: jaxinit.lsuv(*broken("layers_0", jnp.arange(4.0) * 9)),
        "layers_0/kernel does not move with its kernel's scale: .* give it to keep=",
    ),
    "a tolerance": (lambda: jaxinit.lsuv(*mlp(), tol=0.0), "tol must be > 0"),
    "no steps": (lambda: jaxinit.lsuv(*mlp(), max_iter=0), "max_iter must be at least"),
    "a pattern of nothing": (
        lambda: jaxinit.lsuv(*mlp(), keep=["had/kernel"]),
        "matches nothing",
    ),
    "nothing to scale": (
        lambda: jaxinit.lsuv(
            nn.Embed(4, 4), {"params": {"embedding": jnp.eye(4)}}, jnp.arange(4)
        ),
        "no kernel of Embed is to be scaled",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, words = BAD[name]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert str(caught.value).startswith("lsuv: ")
