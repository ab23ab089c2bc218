# SPDX-License-Identifier: Apache-2.0
"""The parametric layers of Linen and NNX, and the `Fans` that each kernel wants."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxinit
from jaxinit import Fans

FORWARD, BACKWARD = "forward", "backward"

Run = Callable[[Any, jax.Array], jax.Array]  # (initializer, inputs) -> outputs


@dataclasses.dataclass(frozen=True, eq=False)
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
    forward: str = "fan_in"
    backward: str | None = "fan_out"
    parts: int = 1  # the kernels that are fused in this one, along its last axis
    tokens: bool = False  # the inputs are integers, not N(0, 1)
    inside: tuple[slice, ...] = ()  # the inputs that no border touches
    compiled: bool = False  # run as one program, not by single operations

    @property
    def id(self) -> str:
        package = "nnx" if self.layer.__module__.startswith("flax.nnx") else "linen"
        return f"{package}-{self.layer.__name__}-{self.kind}".replace(" ", "_")

    @property
    def modes(self) -> dict[str, str]:
        """The directions that are defined, and their modes."""
        backward = {BACKWARD: self.backward} if self.backward else {}
        return {FORWARD: self.forward} | backward

    def init(self, direction: str) -> jaxinit.Initializer:
        """What keeps the variance in that direction."""
        mode = self.modes[direction]
        init = jaxinit.variance_scaling(1.0, mode, "normal", fans=self.fans)
        return jaxinit.blocks(init, self.parts) if self.parts > 1 else init

    def positional(self, direction: str) -> jaxinit.Initializer:
        """The same by JAX's default fans, of the kernel as a whole."""
        return jaxinit.variance_scaling(1.0, self.modes[direction], "normal")

    def fan(self, direction: str) -> float:
        """How many numbers meet in one, in that direction."""
        *rest, last = self.kernel
        fan_in, fan_out = self.fans((*rest, last // self.parts))
        return {"fan_in": fan_in, "fan_out": fan_out}[self.modes[direction]]


# How to run a layer: the initializer under one argument's name, all else as given.


def started(module: nn.Module, *inputs: jax.Array, **options: Any) -> Any:
    return module.init_with_output(jax.random.key(0), *inputs, **options)[0]


def linen(layer: Any, *args: Any, name: str = "kernel_init", **options: Any) -> Run:
    def run(init, x):
        return started(layer(*args, **{name: init}, **options), x)

    return run


def in_nnx(layer: Any, *args: Any, name: str = "kernel_init", **options: Any) -> Run:
    def run(init, x):
        return layer(*args, **{name: init}, **options, rngs=nnx.Rngs(0))(x)

    return run


# Dense layers.


def dense(kind, kernel, inputs, fans, of_linen, of_nnx, wrong=()) -> list[Row]:
    runs = linen(nn.DenseGeneral, **of_linen), in_nnx(nnx.LinearGeneral, **of_nnx)
    return [
        Row(nn.DenseGeneral, kind, runs[0], kernel, inputs, fans, wrong),
        Row(nnx.LinearGeneral, kind, runs[1], kernel, inputs, fans, wrong),
    ]


def einsum(kind, equation, kernel, inputs, wrong) -> list[Row]:
    fans = Fans.einsum(equation)
    runs = linen(nn.Einsum, kernel, equation), in_nnx(nnx.Einsum, equation, kernel)
    return [
        Row(nn.Einsum, kind, runs[0], kernel, inputs, fans, wrong),
        Row(nnx.Einsum, kind, runs[1], kernel, inputs, fans, wrong),
    ]


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


def conv(kind, kernel, inputs, fans, wrong=(), inside=(), **options) -> list[Row]:
    """Both Convs; the kernel's shape says the window and the features."""
    *window, _, features = kernel
    options = {"padding": "CIRCULAR"} | options
    run = linen(nn.Conv, features, window, **options)
    run_nnx = in_nnx(nnx.Conv, inputs[-1], features, window, **options)
    return [
        Row(layer, kind, run, kernel, inputs, fans, wrong, inside=inside, compiled=True)
        for layer, run in ((nn.Conv, run), (nnx.Conv, run_nnx))
    ]


def conv_transpose(kind, kernel, inputs, wrong=(), strides=1, **options) -> list[Row]:
    """Both ConvTransposes."""
    swapped = options.get("transpose_kernel", False)
    fans = Fans.conv_transpose(strides, swapped)
    window, features = kernel[:-2], kernel[-2 if swapped else -1]
    options = {"padding": "CIRCULAR", "strides": (strides,) * len(window)} | options
    run = linen(nn.ConvTranspose, features, window, **options)
    run_nnx = in_nnx(nnx.ConvTranspose, inputs[-1], features, window, **options)
    return [
        Row(layer, kind, run, kernel, inputs, fans, wrong, compiled=True)
        for layer, run in ((nn.ConvTranspose, run), (nnx.ConvTranspose, run_nnx))
    ]


def conv_local(kind, kernel, inputs, window, strides=1) -> Row:
    fans = Fans.conv_local(len(window), window, strides)
    run = linen(nn.ConvLocal, kernel[-1], window, strides, padding="CIRCULAR")
    wrong = (FORWARD, BACKWARD)
    return Row(nn.ConvLocal, kind, run, kernel, inputs, fans, wrong, compiled=True)


CONVOLUTIONS = [
    *conv("1-D", (5, 16, 24), (4, 16, 16), Fans.conv()),
    *conv("2-D", (3, 3, 8, 16), (4, 6, 6, 8), Fans.conv()),
    *conv("3-D", (3, 3, 3, 6, 8), (2, 4, 4, 4, 6), Fans.conv()),
    *conv("grouped", (3, 3, 4, 24), (4, 6, 6, 16), Fans.conv(groups=4),
          (BACKWARD,), feature_group_count=4),
    *conv("depthwise", (3, 3, 1, 32), (4, 6, 6, 32), Fans.conv(groups=32),
          (BACKWARD,), feature_group_count=32),
    *conv("depthwise to twice the features", (3, 3, 1, 32), (4, 6, 6, 16),
          Fans.conv(groups=16), (BACKWARD,), feature_group_count=16),
    *conv("strided", (4, 4, 8, 16), (4, 8, 8, 8), Fans.conv(strides=2),
          (BACKWARD,), strides=2),
    *conv("strides that do not divide", (3, 3, 8, 16), (4, 8, 8, 8),
          Fans.conv(strides=(2, 1)), (BACKWARD,), strides=(2, 1)),
    *conv("strided and grouped", (3, 3, 4, 24), (4, 8, 8, 16),
          Fans.conv(groups=4, strides=2), (BACKWARD,), strides=2,
          feature_group_count=4),
    *conv("dilated", (3, 3, 8, 16), (4, 6, 6, 8), Fans.conv(), kernel_dilation=2),
    *conv("dilated inputs", (4, 16, 24), (4, 16, 16), Fans.conv_transpose(strides=2),
          (FORWARD,), inside=np.s_[:, 2:-2], padding=0, input_dilation=2),
    *conv_transpose("plain", (3, 3, 8, 16), (4, 6, 6, 8)),
    *conv_transpose("transposed kernel", (3, 3, 16, 8), (4, 6, 6, 8),
                    (FORWARD, BACKWARD), transpose_kernel=True),
    *conv_transpose("1-D stride 2", (4, 16, 24), (4, 8, 16), (FORWARD,), 2),
    *conv_transpose("4x4 stride 2", (4, 4, 8, 16), (4, 4, 4, 8), (FORWARD,), 2),
    *conv_transpose("4x4 stride 2 transposed kernel", (4, 4, 16, 8), (4, 4, 4, 8),
                    (FORWARD, BACKWARD), 2, transpose_kernel=True),
    *conv_transpose("8x8 stride 4", (8, 8, 4, 8), (8, 2, 2, 4), (FORWARD,), 4),
    *conv_transpose("3x3 stride 2", (3, 3, 8, 16), (4, 4, 4, 8), (FORWARD,), 2),
    *conv_transpose("3x3 stride 2 transposed kernel", (3, 3, 16, 8), (4, 4, 4, 8),
                    (FORWARD, BACKWARD), 2, transpose_kernel=True),
    *conv_transpose("2x2 stride 3", (2, 2, 8, 16), (4, 4, 4, 8), (FORWARD,), 3),
    *conv_transpose("dilated", (3, 3, 8, 16), (4, 6, 6, 8), kernel_dilation=(2, 2)),
    conv_local("1-D", (16, 5 * 8, 12), (8, 16, 8), (5,)),
    conv_local("2-D", (6, 6, 9 * 8, 12), (4, 6, 6, 8), (3, 3)),
    conv_local("strided", (4, 8, 9 * 8, 12), (4, 8, 8, 8), (3, 3), (2, 1)),
]  # fmt: skip


# Embeddings. The inputs of a look-up are integers and have no gradient. A table that
# serves as the last layer too sums over the features: there fan_out keeps the variance.


def attend(init, x):
    embed = nn.Embed(48, 32, embedding_init=init)
    return started(embed, x, method=embed.attend)


def attend_in_nnx(init, x):
    return nnx.Embed(48, 32, embedding_init=init, rngs=nnx.Rngs(0)).attend(x)


def embeddings(layer, look_up, attend) -> list[Row]:
    kernel, both = (48, 32), (FORWARD, BACKWARD)
    return [
        Row(layer, "look-up", look_up, kernel, (48,), Fans.embedding(), (FORWARD,),
            backward=None, tokens=True),
        Row(layer, "attend", attend, kernel, (32, 32), Fans.axes(-1, -2), both),
        Row(layer, "attend by a tied table", attend, kernel, (32, 32),
            Fans.embedding(), forward="fan_out", backward=None),
    ]  # fmt: skip


EMBEDDINGS = [
    *embeddings(nn.Embed, linen(nn.Embed, 48, 32, name="embedding_init"), attend),
    *embeddings(
        nnx.Embed, in_nnx(nnx.Embed, 48, 32, name="embedding_init"), attend_in_nnx
    ),
]


# Attention. The softmax gives way to one of its arguments and the other projection to
# the identity, so that the output is the projection in question.


def attention(kind, which, measured, idle, width, out) -> list[Row]:
    options = {
        "num_heads": 4,
        "qkv_features": 48,
        "out_features": out,
        "attention_fn": lambda query, key, value, **_: (query, key, value)[which],
        "name": measured,
        idle: jaxinit.identity(),
    }
    layers = nn.MultiHeadDotProductAttention, nnx.MultiHeadAttention
    runs = (
        linen(layers[0], **options),
        in_nnx(layers[1], in_features=width, decode=False, **options),
    )
    return [
        Row(layer, kind, run, (width, out), (4, 8, width), Fans.axes())
        for layer, run in zip(layers, runs, strict=True)
    ]


ATTENTION = [
    *attention("query", 0, "kernel_init", "out_kernel_init", 32, 48),
    *attention("key", 1, "kernel_init", "out_kernel_init", 32, 48),
    *attention("value", 2, "kernel_init", "out_kernel_init", 32, 48),
    *attention("out", 0, "out_kernel_init", "kernel_init", 48, 32),
]


# Recurrent cells. Linear or constant gates leave one product of a kernel:
#   LSTM      h' = o (f c + i g)               gates 1, c = 0:  h' = g
#   simple    h' = W_i x + W_h h
#   GRU, MGU  h' = (1 - z) n + z h             gates 0:  h' = n = W_n x
#             with n = a(W_n x + r W_h h)      gates ½, a(y) = 4 y:  h' - h / 2 = W_h h
# with x = 0 where the recurrent kernel is measured and h = 0 where the other one is.

HIDDEN = 24
INPUT, RECURRENT = "kernel_init", "recurrent_kernel_init"


def linear(x):
    return x


def four_times(x):
    return 4.0 * x


def half(x):
    return jnp.full_like(x, 0.5)


@dataclasses.dataclass(frozen=True)
class Gates:
    """The functions that a cell is given, and how much of h they let through."""

    functions: Mapping[str, Callable[[jax.Array], jax.Array]]
    kept: float = 0.0
    memory: bool = False  # the carry is (c, h), with c = 0


OPEN = Gates({"gate_fn": jnp.ones_like, "activation_fn": linear}, memory=True)
NONE = Gates({"activation_fn": linear})
SHUT = Gates({"gate_fn": jnp.zeros_like, "activation_fn": linear})
HALF = Gates({"gate_fn": half, "activation_fn": four_times}, kept=0.5)


def cell(layer: Any, name: str, gates: Gates) -> Run:
    """One step of a cell from one of its two inputs, the other being zero."""
    other = RECURRENT if name == INPUT else INPUT

    def run(init, x):
        options = {name: init, other: jaxinit.zeros, **gates.functions}
        zero = jnp.zeros((*x.shape[:-1], HIDDEN))
        h, inputs = (zero, x) if name == INPUT else (x, jnp.zeros_like(x))
        carry: Any = (zero, h) if gates.memory else h
        if issubclass(layer, nn.Module):
            _, y = started(layer(HIDDEN, **options), carry, inputs)
        else:
            rngs = nnx.Rngs(0)
            _, y = layer(x.shape[-1], HIDDEN, **options, rngs=rngs)(carry, inputs)
        return y - gates.kept * h

    return run


def cells(layer: Any, of_input: Gates, of_recurrent: Gates, parts=1) -> list[Row]:
    """The input and the recurrent kernel of a cell, of `parts` fused gates."""
    wrong = (BACKWARD,) if parts > 1 else ()
    return [
        Row(layer, kind, cell(layer, name, gates), (width, parts * HIDDEN), (32, width),
            Fans.axes(), wrong, parts=parts)
        for kind, name, gates, width in (
            ("input", INPUT, of_input, 32),
            ("recurrent", RECURRENT, of_recurrent, HIDDEN),
        )
    ]  # fmt: skip


def conv_lstm(kind: str, name: str) -> Row:
    """A kernel of ConvLSTMCell, which takes no initializer and fixes its activations.

    So the kernel is put among its parameters, and a gate read from the inner Conv.
    """

    def run(init, x):
        step = nn.ConvLSTMCell(8, (3, 3), padding="CIRCULAR")
        carry = (jnp.zeros_like(x), x)
        shapes = jax.eval_shape(step.init, jax.random.key(0), carry, x)
        variables = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        kernel = variables["params"][name]["kernel"]
        variables["params"][name]["kernel"] = init(None, kernel.shape, kernel.dtype)
        _, seen = step.apply(
            variables, carry, x, capture_intermediates=lambda m, _: m.name == name
        )
        return seen["intermediates"][name]["__call__"][0][..., :8]

    kernel, inputs = (3, 3, 8, 4 * 8), (4, 6, 6, 8)
    return Row(nn.ConvLSTMCell, kind, run, kernel, inputs, Fans.conv(), (BACKWARD,),
               parts=4, compiled=True)  # fmt: skip


RECURRENT_CELLS = [
    *cells(nn.LSTMCell, OPEN, OPEN),
    *cells(nnx.LSTMCell, OPEN, OPEN),
    *cells(nn.OptimizedLSTMCell, OPEN, OPEN),
    *cells(nnx.OptimizedLSTMCell, OPEN, OPEN, parts=4),
    *cells(nn.SimpleCell, NONE, NONE),
    *cells(nnx.SimpleCell, NONE, NONE),
    *cells(nn.GRUCell, SHUT, HALF),
    *cells(nnx.GRUCell, SHUT, HALF, parts=3),
    *cells(nn.MGUCell, SHUT, HALF),
    conv_lstm("input", "ih"),
    conv_lstm("recurrent", "hh"),
]


# LoRA. The factor B is the identity, and the kernel that both correct is zero.


def lora(layer: Any, *args: Any, **options: Any) -> Row:
    options |= {"name": "a_initializer", "b_initializer": jaxinit.identity()}
    run = in_nnx(layer, *args, **options)
    return Row(layer, "A", run, (32, 24), (32, 32), Fans.axes())


ADAPTERS = [
    lora(nnx.LoRA, 32, 24, 24),
    lora(nnx.LoRALinear, 32, 24, lora_rank=24, kernel_init=jaxinit.zeros),
]


ROWS = [
    *DENSE,
    *CONVOLUTIONS,
    *EMBEDDINGS,
    *ATTENTION,
    *RECURRENT_CELLS,
    *ADAPTERS,
]
