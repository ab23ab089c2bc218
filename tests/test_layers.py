# SPDX-License-Identifier: Apache-2.0
"""The fans of Flax's layers: variance 1 in, variance 1 out, and back.

One table has a row for each kernel of each parametric layer of Linen and NNX, with the
`Fans` that it wants. Independent N(0, 1) inputs must give outputs of mean square 1
under mode "fan_in"; independent N(0, 1) cotangents must give gradients of mean square
1 under "fan_out". Borders are periodic, or left out, so that 1 is exact.
"""

import dataclasses
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
from jax.extend.random import define_prng_impl

import jaxinit
from jaxinit import Fans
from tests.helpers import SIGMAS, fresh

FORWARD, BACKWARD = "forward", "backward"
DRAWS = 64  # of the weights and the inputs
ERROR = 0.02  # the standard error that a measurement may have

# Each row compiles its own programs and runs them for a moment. So they stay as they
# are written, and the numbers come from a generator that compiles faster than JAX's.
QUICK = {"xla_backend_optimization_level": 0}


def mixed(x: jax.Array) -> jax.Array:
    """The finalizer of MurmurHash3, away from its fixed point 0."""
    x = x + jnp.uint32(0x9E3779B9)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> shift)) * jnp.uint32(factor)
    return x ^ (x >> 16)


def random_bits(key: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
    assert width == 32
    counter = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    return mixed(mixed(counter + mixed(key[0])) ^ key[0])


HASH = define_prng_impl(
    key_shape=(1,),
    seed=lambda seed: mixed(jnp.uint32(seed))[None],
    split=lambda key, shape: random_bits(key, 32, (*shape, 1)),
    fold_in=lambda key, data: mixed(key + mixed(data.astype(jnp.uint32))),
    random_bits=random_bits,
    name="hash",
    tag="hash",
)

Run = Callable[[Any, jax.Array, jax.Array], jax.Array]  # (initializer, key, inputs)


@dataclasses.dataclass(frozen=True)
class Row:
    """One kernel of one kind of layer, and the `Fans` that it wants."""

    layer: type
    kind: str
    run: Run
    kernel: tuple[int, ...]  # the shape that the initializer is asked for
    inputs: tuple[int, ...]
    fans: Fans
    # The directions in which Fans.axes(), the default, counts wrongly.
    wrong: tuple[str, ...] = ()
    # The mode that keeps the variance in each direction; None where none is defined.
    forward: str | None = "fan_in"
    backward: str | None = "fan_out"
    parts: int = 1  # the kernels that are fused in this one along its last axis
    tokens: int = 0  # inputs are integers below this number, not N(0, 1)
    inside: tuple[slice, ...] = ()  # the inputs that no border touches

    @property
    def id(self) -> str:
        package = "nnx" if self.layer.__module__.startswith("flax.nnx") else "linen"
        return f"{package}-{self.layer.__name__}-{self.kind}".replace(" ", "_")

    def mode(self, direction: str) -> str | None:
        return {FORWARD: self.forward, BACKWARD: self.backward}[direction]

    def init(self, direction: str) -> jaxinit.Initializer:
        """What keeps the variance in that direction."""
        init = jaxinit.variance_scaling(
            1.0, self.mode(direction), "normal", fans=self.fans
        )
        return jaxinit.blocks(init, self.parts) if self.parts > 1 else init

    def positional(self, direction: str) -> jaxinit.Initializer:
        """The same by JAX's default fans, of the kernel as a whole."""
        return jaxinit.variance_scaling(1.0, self.mode(direction), "normal")

    def draw(self, key: jax.Array) -> jax.Array:
        if self.tokens:
            return jax.random.randint(key, self.inputs, 0, self.tokens)
        return jax.random.normal(key, self.inputs)


# How to run a layer: the initializer under one argument's name, all else as given.


def linen(layer: type, *args: Any, name: str = "kernel_init", **options: Any) -> Run:
    def run(init, key, x):
        return layer(*args, **{name: init}, **options).init_with_output(key, x)[0]

    return run


def in_nnx(layer: type, *args: Any, name: str = "kernel_init", **options: Any) -> Run:
    def run(init, key, x):
        return layer(*args, **{name: init}, **options, rngs=nnx.Rngs(key))(x)

    return run


# Dense layers.


def dense(kind, kernel, inputs, fans, of_linen, of_nnx, wrong=()) -> list[Row]:
    """Rows of DenseGeneral and LinearGeneral, alike up to their arguments."""
    return [
        Row(nn.DenseGeneral, kind, linen(nn.DenseGeneral, **of_linen), kernel, inputs,
            fans, wrong),
        Row(nnx.LinearGeneral, kind, in_nnx(nnx.LinearGeneral, **of_nnx), kernel,
            inputs, fans, wrong),
    ]  # fmt: skip


def einsum(kind, equation, kernel, inputs, wrong=()) -> list[Row]:
    fans = Fans.einsum(equation)
    return [
        Row(nn.Einsum, kind, linen(nn.Einsum, kernel, equation), kernel, inputs, fans,
            wrong),
        Row(nnx.Einsum, kind, in_nnx(nnx.Einsum, equation, kernel), kernel, inputs,
            fans, wrong),
    ]  # fmt: skip


DENSE = [
    Row(nn.Dense, "plain", linen(nn.Dense, 48), (32, 48), (32, 32), Fans.axes()),
    Row(nnx.Linear, "plain", in_nnx(nnx.Linear, 32, 48), (32, 48), (32, 32),
        Fans.axes()),
    *dense("one axis", (32, 48), (32, 32), Fans.dense_general(),
           {"features": (6, 8)}, {"in_features": 32, "out_features": (6, 8)}),
    *dense("two axes", (32, 48), (4, 32, 8), Fans.dense_general(),
           {"features": (4, 12), "axis": (0, -1)},
           {"in_features": (4, 8), "out_features": (4, 12), "axis": (0, -1)}),
    *dense("one batch axis", (16 * 12, 24), (16, 32, 12), Fans.dense_general(16),
           {"features": 24, "batch_dims": (0,)},
           {"in_features": 12, "out_features": 24, "batch_axis": {0: 16}},
           wrong=(FORWARD,)),
    *dense("two batch axes", (2 * 3 * 12, 24), (2, 3, 32, 12), Fans.dense_general(6),
           {"features": (4, 6), "batch_dims": (0, 1)},
           {"in_features": 12, "out_features": (4, 6), "batch_axis": {0: 2, 1: 3}},
           wrong=(FORWARD,)),
    *einsum("heads", "bth,hdf->btdf", (32, 8, 12), (4, 8, 32), (FORWARD, BACKWARD)),
    *einsum("heads back", "btdf,dfh->bth", (8, 12, 32), (4, 8, 8, 12), (BACKWARD,)),
    *einsum("experts", "ebd,edf->ebf", (8, 16, 24), (8, 16, 16), (FORWARD, BACKWARD)),
    *einsum("ellipsis", "...d,fd->...f", (48, 32), (4, 8, 32), (FORWARD, BACKWARD)),
    *einsum("diagonal", "bhd,hd->bhd", (16, 32), (4, 16, 32), (FORWARD, BACKWARD)),
]  # fmt: skip


# Convolutions. A periodic border lets every output see a full window.


def conv(kind, kernel, inputs, fans, wrong=(), **options) -> list[Row]:
    """Rows of both Convs; the kernel's shape says the window and the features."""
    window, features = kernel[:-2], kernel[-1]
    inside = options.pop("inside", ())
    options.setdefault("padding", "CIRCULAR")
    return [
        Row(nn.Conv, kind, linen(nn.Conv, features, window, **options), kernel, inputs,
            fans, wrong, inside=inside),
        Row(nnx.Conv, kind, in_nnx(nnx.Conv, inputs[-1], features, window, **options),
            kernel, inputs, fans, wrong, inside=inside),
    ]  # fmt: skip


def conv_transpose(kind, kernel, inputs, transpose_kernel, wrong=(), **options):
    """Rows of both ConvTransposes."""
    window, features = kernel[:-2], kernel[-2 if transpose_kernel else -1]
    strides = options.get("strides", 1)
    fans = Fans.conv_transpose(strides, transpose_kernel)
    options |= {"padding": "CIRCULAR", "transpose_kernel": transpose_kernel}
    run = in_nnx(nnx.ConvTranspose, inputs[-1], features, window, **options)
    options["strides"] = (strides,) * len(window)  # Linen's circular border wants all
    return [
        Row(nn.ConvTranspose, kind, linen(nn.ConvTranspose, features, window, **options),
            kernel, inputs, fans, wrong),
        Row(nnx.ConvTranspose, kind, run, kernel, inputs, fans, wrong),
    ]  # fmt: skip


def conv_local(kind, kernel, inputs, window, wrong, strides=1) -> list[Row]:
    dims = len(window)
    fans = Fans.conv_local(dims, window, strides)
    run = linen(nn.ConvLocal, kernel[-1], window, strides, padding="CIRCULAR")
    return [Row(nn.ConvLocal, kind, run, kernel, inputs, fans, wrong)]


CONVOLUTIONS = [
    *conv("1-D", (5, 16, 24), (4, 16, 16), Fans.conv()),
    *conv("2-D", (3, 3, 8, 16), (4, 6, 6, 8), Fans.conv()),
    *conv("3-D", (3, 3, 3, 6, 8), (2, 4, 4, 4, 6), Fans.conv()),
    *conv("grouped", (3, 3, 4, 24), (4, 6, 6, 16), Fans.conv(groups=4),
          wrong=(BACKWARD,), feature_group_count=4),
    *conv("depthwise", (3, 3, 1, 32), (4, 6, 6, 32), Fans.conv(groups=32),
          wrong=(BACKWARD,), feature_group_count=32),
    *conv("depthwise, twice the features", (3, 3, 1, 32), (4, 6, 6, 16),
          Fans.conv(groups=16), wrong=(BACKWARD,), feature_group_count=16),
    *conv("strided", (4, 4, 8, 16), (4, 8, 8, 8), Fans.conv(strides=2),
          wrong=(BACKWARD,), strides=2),
    *conv("strides that do not divide", (3, 3, 8, 16), (4, 8, 8, 8),
          Fans.conv(strides=(2, 1)), wrong=(BACKWARD,), strides=(2, 1)),
    *conv("strided, grouped", (3, 3, 4, 24), (4, 8, 8, 16), Fans.conv(4, 2),
          wrong=(BACKWARD,), strides=2, feature_group_count=4),
    *conv("dilated", (3, 3, 8, 16), (4, 6, 6, 8), Fans.conv(), kernel_dilation=2),
    *conv("dilated inputs", (4, 16, 24), (4, 16, 16), Fans.conv_transpose(2),
          wrong=(FORWARD,), padding=0, input_dilation=2,
          inside=np.s_[:, 2:-2]),
    *conv_transpose("plain", (3, 3, 8, 16), (4, 6, 6, 8), False),
    *conv_transpose("transposed kernel", (3, 3, 16, 8), (4, 6, 6, 8), True,
                    wrong=(FORWARD, BACKWARD)),
    *conv_transpose("1-D", (4, 16, 24), (4, 8, 16), False, wrong=(FORWARD,),
                    strides=2),
    *conv_transpose("4x4, stride 2", (4, 4, 8, 16), (4, 4, 4, 8), False,
                    wrong=(FORWARD,), strides=2),
    *conv_transpose("4x4, stride 2, transposed kernel", (4, 4, 16, 8), (4, 4, 4, 8),
                    True, wrong=(FORWARD, BACKWARD), strides=2),
    *conv_transpose("8x8, stride 4", (8, 8, 4, 8), (8, 2, 2, 4), False,
                    wrong=(FORWARD,), strides=4),
    *conv_transpose("3x3, stride 2", (3, 3, 8, 16), (4, 4, 4, 8), False,
                    wrong=(FORWARD,), strides=2),
    *conv_transpose("3x3, stride 2, transposed kernel", (3, 3, 16, 8), (4, 4, 4, 8),
                    True, wrong=(FORWARD, BACKWARD), strides=2),
    *conv_transpose("2x2, stride 3", (2, 2, 8, 16), (4, 4, 4, 8), False,
                    wrong=(FORWARD,), strides=3),
    *conv_transpose("dilated", (3, 3, 8, 16), (4, 6, 6, 8), False, kernel_dilation=2),
    *conv_local("1-D", (16, 5 * 8, 12), (8, 16, 8), (5,), (FORWARD, BACKWARD)),
    *conv_local("2-D", (6, 6, 9 * 8, 12), (4, 6, 6, 8), (3, 3), (FORWARD, BACKWARD)),
    *conv_local("strided", (4, 8, 9 * 8, 12), (4, 8, 8, 8), (3, 3),
                (FORWARD, BACKWARD), (2, 1)),
]  # fmt: skip


# Embeddings. The inputs of a look-up are integers and have no gradient. A table that
# serves as the last layer too sums over the features: there fan_out keeps the variance.


def attend(init, key, x):
    embed = nn.Embed(48, 32, embedding_init=init)
    return embed.init_with_output(key, x, method=embed.attend)[0]


def attend_in_nnx(init, key, x):
    return nnx.Embed(48, 32, embedding_init=init, rngs=nnx.Rngs(key)).attend(x)


LOOK_UP = {"fans": Fans.embedding(), "wrong": (FORWARD,), "backward": None, "tokens": 48}
ATTEND = {"fans": Fans.axes(-1, -2), "wrong": (FORWARD, BACKWARD)}
TIED = {"fans": Fans.embedding(), "forward": "fan_out", "backward": None}

EMBEDDINGS = [
    Row(nn.Embed, "look-up", linen(nn.Embed, 48, 32, name="embedding_init"), (48, 32),
        (64,), **LOOK_UP),
    Row(nnx.Embed, "look-up", in_nnx(nnx.Embed, 48, 32, name="embedding_init"),
        (48, 32), (64,), **LOOK_UP),
    Row(nn.Embed, "attend", attend, (48, 32), (32, 32), **ATTEND),
    Row(nnx.Embed, "attend", attend_in_nnx, (48, 32), (32, 32), **ATTEND),
    Row(nn.Embed, "attend, tied", attend, (48, 32), (32, 32), **TIED),
    Row(nnx.Embed, "attend, tied", attend_in_nnx, (48, 32), (32, 32), **TIED),
]  # fmt: skip


# Attention. The softmax gives way to one of its arguments and the other projection to
# the identity, so that the output is the projection in question.

HEADS, WIDTH, QKV = 4, 32, 48


def only(which: int) -> Callable[..., jax.Array]:
    return lambda query, key, value, **_: (query, key, value)[which]


def attention(kind, which, measured, idle, inputs, width) -> list[Row]:
    options = {
        "num_heads": HEADS,
        "qkv_features": QKV,
        "out_features": width,
        "attention_fn": only(which),
        idle: jaxinit.identity(),
    }
    kernel = (inputs[-1], width)
    run = linen(nn.MultiHeadDotProductAttention, name=measured, **options)
    options |= {"in_features": inputs[-1], "decode": False}
    run_nnx = in_nnx(nnx.MultiHeadAttention, name=measured, **options)
    return [
        Row(nn.MultiHeadDotProductAttention, kind, run, kernel, inputs, Fans.axes()),
        Row(nnx.MultiHeadAttention, kind, run_nnx, kernel, inputs, Fans.axes()),
    ]


ATTENTION = [
    *attention("query", 0, "kernel_init", "out_kernel_init", (4, 8, WIDTH), QKV),
    *attention("key", 1, "kernel_init", "out_kernel_init", (4, 8, WIDTH), QKV),
    *attention("value", 2, "kernel_init", "out_kernel_init", (4, 8, WIDTH), QKV),
    *attention("out", 0, "out_kernel_init", "kernel_init", (4, 8, QKV), WIDTH),
]


# Recurrent cells. Linear or constant gates leave one product of a kernel:
#   LSTM    h' = o (f c + i g)                     gates 1, c = 0:  h' = g
#   simple  h' = W_i x + W_h h
#   GRU     h' = (1 - z) n + z h,                  gates 0:  h' = n = W_n x
#   MGU       n = a (W_n x + r W_h h)              gates ½, a = 4:  h' - ½ h = W_h h
# with x = 0 where the recurrent kernel is measured, and h = 0 elsewhere.

HIDDEN = 24
INPUT, RECURRENT = "kernel_init", "recurrent_kernel_init"


def linear(x):
    return x


def four_times(x):
    return 4.0 * x


def half(x):
    return jnp.full_like(x, 0.5)


def no_correction(h):
    return jnp.zeros_like(h)


LSTM = {"gate_fn": jnp.ones_like, "activation_fn": linear}
SIMPLE = {"activation_fn": linear}
GATED = {
    INPUT: {"gate_fn": jnp.zeros_like, "activation_fn": linear},
    RECURRENT: {"gate_fn": half, "activation_fn": four_times},
}


def cell(layer, name, options, *, memory=False, kept=no_correction) -> Run:
    """One step of a cell from one of its two inputs, the other being zero.

    `memory` says whether the carry is (c, h), with c = 0, and `kept` is what the gates
    let through of h.
    """
    idle = RECURRENT if name == INPUT else INPUT
    options = options | {idle: jaxinit.zeros}

    def run(init, key, x):
        still = jnp.zeros((*x.shape[:-1], HIDDEN))
        h, inputs = (still, x) if name == INPUT else (x, jnp.zeros_like(x))
        carry = (still, h) if memory else h
        if issubclass(layer, nn.Module):
            step = layer(HIDDEN, **{name: init}, **options)
            (_, y), _ = step.init_with_output(key, carry, inputs)
        else:
            rngs = nnx.Rngs(key)
            step = layer(x.shape[-1], HIDDEN, **{name: init}, **options, rngs=rngs)
            _, y = step(carry, inputs)
        return y - kept(h)

    return run


def cells(layer, options, parts=1, *, gated=False, memory=False) -> list[Row]:
    """The input and the recurrent kernel of a cell, of `parts` fused gates."""
    rows = []
    for kind, name, width in (("input", INPUT, 32), ("recurrent", RECURRENT, HIDDEN)):
        kept = half_of if gated and name == RECURRENT else no_correction
        chosen = options[name] if gated else options
        run = cell(layer, name, chosen, memory=memory, kept=kept)
        kernel, wrong = (width, parts * HIDDEN), (BACKWARD,) if parts > 1 else ()
        rows.append(
            Row(layer, kind, run, kernel, (32, width), Fans.axes(), wrong, parts=parts)
        )
    return rows


def half_of(h):
    return 0.5 * h


def conv_lstm(name: str) -> Run:
    """A gate of ConvLSTMCell, which takes no initializer and fixes its activations.

    The kernel is put among its parameters and the gate read from the inner Conv.
    """

    def run(init, key, x):
        step = nn.ConvLSTMCell(8, (3, 3), padding="CIRCULAR")
        carry = (jnp.zeros_like(x), x)
        shapes = jax.eval_shape(step.init, jax.random.key(0), carry, x)
        variables = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        kernel = variables["params"][name]["kernel"]
        variables["params"][name]["kernel"] = init(key, kernel.shape, kernel.dtype)
        _, seen = step.apply(
            variables, carry, x, capture_intermediates=lambda m, _: m.name == name
        )
        return seen["intermediates"][name]["__call__"][0][..., :8]

    return run


CONV_LSTM = {
    "kernel": (3, 3, 8, 4 * 8),
    "inputs": (4, 6, 6, 8),
    "fans": Fans.conv(),
    "parts": 4,
    "wrong": (BACKWARD,),
}

RECURRENT_CELLS = [
    *cells(nn.LSTMCell, LSTM, memory=True),
    *cells(nnx.LSTMCell, LSTM, memory=True),
    *cells(nn.OptimizedLSTMCell, LSTM, memory=True),
    *cells(nnx.OptimizedLSTMCell, LSTM, 4, memory=True),
    *cells(nn.SimpleCell, SIMPLE),
    *cells(nnx.SimpleCell, SIMPLE),
    *cells(nn.GRUCell, GATED, gated=True),
    *cells(nnx.GRUCell, GATED, 3, gated=True),
    *cells(nn.MGUCell, GATED, gated=True),
    Row(nn.ConvLSTMCell, "input", conv_lstm("ih"), **CONV_LSTM),
    Row(nn.ConvLSTMCell, "recurrent", conv_lstm("hh"), **CONV_LSTM),
]


# LoRA. The factor B is the identity and the kernel that it corrects is zero.

LORA = {"name": "a_initializer", "b_initializer": jaxinit.identity()}

ADAPTERS = [
    Row(nnx.LoRA, "A", in_nnx(nnx.LoRA, 32, 24, 24, **LORA), (32, 24), (32, 32),
        Fans.axes()),
    Row(nnx.LoRALinear, "A", in_nnx(nnx.LoRALinear, 32, 24, lora_rank=24,
        kernel_init=jaxinit.zeros, **LORA), (32, 24), (32, 32), Fans.axes()),
]  # fmt: skip


ROWS = [
    *DENSE,
    *CONVOLUTIONS,
    *EMBEDDINGS,
    *ATTENTION,
    *RECURRENT_CELLS,
    *ADAPTERS,
]

RUNS = [
    pytest.param(row, direction, id=f"{row.id}-{direction}")
    for row in ROWS
    for direction in (FORWARD, BACKWARD)
    if row.mode(direction)
]

WRONG_RUNS = [run for run in RUNS if run.values[1] in run.values[0].wrong]


def measured(row: Row, init: Any, direction: str) -> tuple[float, float]:
    """The mean square of what comes out, and its standard error from the draws."""

    def mean_square(seed):
        key = jax.random.key(seed, impl=HASH)
        weights, inputs, cotangents = jax.random.split(key, 3)
        x = row.draw(inputs)
        if direction == FORWARD:
            return jnp.mean(row.run(init, weights, x) ** 2)
        y, pull = jax.vjp(lambda x: row.run(init, weights, x), x)
        (gradient,) = pull(jax.random.normal(cotangents, y.shape))
        return jnp.mean(gradient[row.inside] ** 2)

    program = jax.jit(mean_square, compiler_options=QUICK)
    draws = np.array([program(seed) for seed in range(DRAWS)], np.float64)
    return draws.mean(), draws.std(ddof=1) / math.sqrt(DRAWS)


@pytest.mark.parametrize(("row", "direction"), RUNS)
def test_the_variance_is_kept(row, direction):
    mean, error = measured(row, row.init(direction), direction)
    assert error < ERROR
    assert abs(mean - 1) < SIGMAS * error


@pytest.mark.parametrize(("row", "direction"), WRONG_RUNS)
def test_positional_fans_are_found_wrong(row, direction):
    mean, error = measured(row, row.positional(direction), direction)
    assert error < ERROR * mean
    assert abs(mean - 1) > SIGMAS * error


@pytest.mark.parametrize(("row", "direction"), RUNS)
def test_positional_fans_are_right_elsewhere(row, direction):
    wanted = row.init(direction).law(row.kernel)
    assert (row.positional(direction).law(row.kernel) == wanted) == (
        direction not in row.wrong
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_kernel_that_the_initializer_sees(row):
    seen = set()

    def init(key, shape, dtype, *rest):
        seen.add(tuple(shape))
        return jnp.zeros(shape, dtype)

    x = jax.ShapeDtypeStruct(row.inputs, jnp.int32 if row.tokens else jnp.float32)
    jax.eval_shape(lambda key, x: row.run(init, key, x), jax.random.key(0), x)
    assert seen == {row.kernel}


def takes_a_kernel(value: Any) -> bool:
    """Whether a public name of Flax is a layer that takes a kernel's initializer."""
    if not (inspect.isclass(value) and issubclass(value, (nn.Module, nnx.Module))):
        return False
    names = ("kernel_init", "embedding_init", "a_initializer")
    return any(name in inspect.signature(value.__init__).parameters for name in names)


def test_every_parametric_layer_has_a_row():
    public = [*vars(nn).values(), *vars(nnx).values()]
    layers = {value for value in public if takes_a_kernel(value)}
    covered = {row.layer for row in ROWS}
    aliases = {nn.SelfAttention, nn.MultiHeadAttention}  # of attention with a row
    assert layers - aliases == covered - {nn.ConvLSTMCell}


@pytest.mark.parametrize("layer", [nn.Embed, nnx.Embed])
def test_the_default_of_embed_is_the_tied_one(layer, key):
    default = inspect.signature(layer.__init__).parameters["embedding_init"].default
    ours = jaxinit.variance_scaling(1.0, "fan_out", "normal", fans=Fans.embedding())
    theirs = jax.jit(lambda key: default(key, (48, 32), jnp.float32))(fresh(key))
    np.testing.assert_array_equal(ours(key, (48, 32)), theirs)
