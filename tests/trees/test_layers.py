# SPDX-License-Identifier: Apache-2.0
"""The fans of Flax's layers: variance 1 in, variance 1 out, and back.

One table has a row for each kernel of each parametric layer of Linen and NNX, with the
`Fans` that it wants. Independent N(0, 1) inputs must give outputs of mean square 1
under mode "fan_in"; independent N(0, 1) cotangents must give gradients of mean square
1 under "fan_out". Borders are periodic, or left out, so that 1 is exact.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit
from jaxinit import Fans
from tests.helpers import SIGMAS, fresh
from tests.network.layers import BACKWARD, FORWARD, ROWS, Row

QUICK = True  # see conftest.py

RUNS = [
    pytest.param(row, direction, id=f"{row.id}-{direction}")
    for row in ROWS
    for direction in row.modes
]


# A measurement: many draws of a kernel, each handed to a layer of its own with its own
# inputs. Programs are used a few times, so optimising them costs more than it saves.
# Only convolutions are compiled as a whole: fusions of matrix products on the CPU have
# read a constant operand as garbage (jaxlib 0.10.2 and 0.12.0.1), and the zeros and the
# identity that stand in for the kernels not measured are constant.

DRAWS = 64
NOISE = np.random.default_rng(31).standard_normal((2, DRAWS, 2**14), np.float32)


@functools.lru_cache(maxsize=4)
def drawn(init: jaxinit.Initializer, shape: tuple[int, ...]) -> jax.Array:
    """Independent kernels."""

    def draw(seed):
        return init(jax.random.key(seed), shape)

    return jax.jit(jax.vmap(draw))(np.arange(DRAWS))


@functools.lru_cache(maxsize=4)
def passing(row: Row, direction: str) -> Callable[..., jax.Array]:
    """(kernels, inputs, cotangents) -> the outputs, or the gradients of the inputs."""

    def forward(kernel, x, cotangent=None):
        def init(key, shape, dtype):
            assert tuple(shape) == row.kernel
            return kernel

        return row.run(init, x)

    def backward(kernel, x, cotangent):
        y, pull = jax.vjp(functools.partial(forward, kernel), x)
        (gradient,) = pull(cotangent[: y.size].reshape(y.shape))
        return gradient[row.inside]

    mapped = jax.vmap({FORWARD: forward, BACKWARD: backward}[direction])
    return jax.jit(mapped) if row.compiled else mapped


def come_out(row: Row, direction: str, kernels: Any, noise: Any) -> np.ndarray:
    """What comes out of the layers, of inputs and cotangents made of noise."""
    inputs, cotangents = noise
    if row.tokens:
        x = np.broadcast_to(np.arange(*row.inputs), (DRAWS, *row.inputs))
    else:
        x = inputs[:, : math.prod(row.inputs)].reshape(DRAWS, *row.inputs)
    return np.asarray(passing(row, direction)(kernels, x, cotangents))


def measured(row: Row, init: Any, direction: str) -> tuple[float, float]:
    """The mean square of what comes out, and its standard error.

    What comes of one draw hangs together, so the error is that of the draws' means.
    """
    out = come_out(row, direction, drawn(init, row.kernel), NOISE)
    squares = np.mean(out.astype(np.float64) ** 2, axis=tuple(range(1, out.ndim)))
    return squares.mean(), squares.std(ddof=1) / math.sqrt(DRAWS)


# One row's tests follow each other and share its kernels and its program.
every_run = pytest.mark.parametrize(("row", "direction"), RUNS, scope="module")


@pytest.mark.sweep
@every_run
def test_the_variance_is_kept(row, direction):
    mean, error = measured(row, row.init(direction), direction)
    assert error < 0.02
    assert abs(mean - 1) < SIGMAS * error


@pytest.mark.sweep
@every_run
def test_positional_fans_are_told_apart(row, direction):
    positional = row.positional(direction)
    if direction in row.wrong:
        mean, error = measured(row, positional, direction)
        assert error < 0.02 * mean
        assert abs(mean - 1) > SIGMAS * error
    else:
        assert positional.law(row.kernel) == row.init(direction).law(row.kernel)


@pytest.mark.parametrize("direction", [FORWARD, BACKWARD])
def test_the_other_fan_is_found_wrong(direction):
    row = ROWS[0]
    other = {FORWARD: BACKWARD, BACKWARD: FORWARD}[direction]
    mean, error = measured(row, row.init(other), direction)
    assert abs(mean - 1) > SIGMAS * error


@pytest.mark.sweep
@every_run
def test_ones_count_the_fans(row, direction):
    """Ones through weights of one: each output is the number of inputs it sums."""
    kernels = np.ones((DRAWS, *row.kernel), np.float32)
    counts = come_out(row, direction, kernels, np.ones_like(NOISE))
    np.testing.assert_allclose(counts.mean(), row.fan(direction), rtol=1e-6)


def takes_a_kernel(value: Any) -> bool:
    """Whether a public name of Flax is a layer that takes a kernel's initializer."""
    if not (inspect.isclass(value) and issubclass(value, (nn.Module, nnx.Module))):
        return False
    names = ("kernel_init", "embedding_init", "a_initializer")
    return any(name in inspect.signature(value.__init__).parameters for name in names)


def test_every_parametric_layer_has_a_row():
    public = [*vars(nn).values(), *vars(nnx).values()]
    layers = {value for value in public if takes_a_kernel(value)}
    aliases = {nn.SelfAttention, nn.MultiHeadAttention}  # of attention with a row
    assert layers - aliases == {row.layer for row in ROWS} - {nn.ConvLSTMCell}


@pytest.mark.parametrize("layer", [nn.Embed, nnx.Embed])
def test_the_default_of_embed_is_the_tied_one(layer, key):
    default = inspect.signature(layer.__init__).parameters["embedding_init"].default
    ours = jaxinit.variance_scaling(1.0, "fan_out", "normal", fans=Fans.embedding())
    theirs = jax.jit(lambda key: default(key, (48, 32), jnp.float32))(fresh(key))
    np.testing.assert_array_equal(ours(key, (48, 32)), theirs)
