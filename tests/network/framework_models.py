# SPDX-License-Identifier: Apache-2.0
"""Models of Flax Linen, Flax NNX, Equinox and Haiku."""

import functools
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
from flax import nnx

from tests import models as flax_models
from tests.network.models import MODELS, Case, ids, model, s

D = 24


# --- Flax ---


def _linen(name: str) -> Any:
    module, batch = flax_models.LINEN[name]
    return module, jax.eval_shape(module.init, jax.random.key(0), batch), batch


def _nnx(make: Any, *batch: Any) -> Any:
    return nnx.eval_shape(lambda: make(nnx.Rngs(0))), *batch


RESIDUALS = [f"params/Residual_{k}/Conv_{i}/kernel" for k in range(4) for i in range(2)]
FACTS: dict[str, Any] = {
    "linen-gpt2-tied": {"tied": frozenset(["params/Embed_0/embedding"])},
    "linen-lstm": {
        "calls": {
            f"params/OptimizedLSTMCell_{k}/{a}{b}/kernel": 5
            for k in range(2)
            for a in "ih"
            for b in "ifgo"
        }
    },
    "linen-resnet": {
        "invariant": frozenset([*RESIDUALS, "params/Residual_2/Conv_2/kernel"])
    },
    "nnx-convolutional": {
        "invariant": frozenset(f"convs/{k}/kernel" for k in range(2))
    },
}

for name in flax_models.LINEN:
    facts = FACTS.get(f"linen-{name}", {})
    MODELS[f"linen-{name}"] = Case(functools.partial(_linen, name), **facts)
for name, batch in (
    ("convolutional", flax_models.IMAGES),
    ("transformer", flax_models.TOKENS),
):
    MODELS[f"nnx-{name}"] = Case(
        functools.partial(_nnx, flax_models.NNX[name], batch),
        **FACTS.get(f"nnx-{name}", {}),
    )


@model()
def nnx_mapped() -> Any:
    """Twelve layers that `nnx.vmap` made, in a loop over them."""

    class Stack(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            @nnx.split_rngs(splits=12)
            @nnx.vmap
            def make(rngs: nnx.Rngs) -> nnx.Linear:
                return nnx.Linear(D, D, rngs=rngs)

            self.layers = make(rngs)

        def __call__(self, x: Any) -> Any:
            @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
            def run(x: Any, layer: Any) -> Any:
                return jnp.tanh(layer(x))

            return run(x, self.layers)

    return _nnx(Stack, s(2, D))


@model()
def nnx_side_by_side() -> Any:
    class Sides(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            @nnx.split_rngs(splits=12)
            @nnx.vmap
            def make(rngs: nnx.Rngs) -> nnx.Linear:
                return nnx.Linear(D, 8, rngs=rngs)

            self.layers = make(rngs)

        def __call__(self, x: Any) -> Any:
            return nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))(
                self.layers, x
            )

    return _nnx(Sides, s(2, D))


@model()
def linen_mapped_twice() -> Any:
    options: Any = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
    inner = nn.vmap(nn.Dense, in_axes=None, axis_size=3, **options)
    outer = nn.vmap(inner, in_axes=None, axis_size=4, **options)
    module, batch = outer(8), s(2, D)
    return module, jax.eval_shape(module.init, jax.random.key(0), batch), batch


@model()
def linen_scanned_experts() -> Any:
    """A map in a loop, whose parameters are stacked on axis 1."""
    options: Any = {"split_rngs": {"params": True}}

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: Any, _: Any) -> Any:
            experts = nn.vmap(
                nn.Dense,
                in_axes=None,
                axis_size=4,
                variable_axes={"params": 0},
                **options,
            )
            return x + nn.gelu(experts(D)(x)).mean(0), None

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            blocks = nn.scan(
                nn.remat(Block), variable_axes={"params": 1}, length=3, **options
            )
            return blocks()(x, None)[0]

    module, batch = Stack(), s(2, D)
    return module, jax.eval_shape(module.init, jax.random.key(0), batch), batch


@model(
    parts={f"params/cell/{name}/kernel": (8,) * 4 for name in ("ih", "hh")},
    calls={f"params/cell/{name}/kernel": 5 for name in ("ih", "hh")},
)
def linen_conv_lstm() -> Any:
    module, batch = nn.RNN(nn.ConvLSTMCell(8, (3, 3))), s(2, 5, 6, 6, 4)
    return module, jax.eval_shape(module.init, jax.random.key(0), batch), batch


@model(
    parts={"params/Conv_0/kernel": (4, 4)},
    invariant="params/Dense_0/kernel params/Conv_0/kernel",
)
def linen_normed_kernels() -> Any:
    """Kernels over their length, and over their largest singular value."""

    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = nn.relu(nn.WeightNorm(nn.Dense(D))(x))
            x = nn.SpectralNorm(nn.Dense(D))(x, update_stats=True)
            return nn.glu(nn.WeightNorm(nn.Conv(8, (3,)))(x))

    module, batch = Normed(), s(2, 5, D)
    return module, jax.eval_shape(module.init, jax.random.key(0), batch), batch


# --- Equinox ---


def _eqx(make: Any, *batch: Any, run: Any = None) -> Any:
    made = eqx.filter_eval_shape(make, jax.random.key(0))
    params, static = eqx.partition(made, lambda x: isinstance(x, jax.ShapeDtypeStruct))

    def call(params: Any, *batch: Any) -> Any:
        whole = eqx.combine(params, static)
        return whole(*batch) if run is None else run(whole, *batch)

    return call, params, *batch


@model()
def equinox_mlp() -> Any:
    return _eqx(
        lambda key: eqx.nn.MLP(D, 10, 48, 2, activation=jax.nn.gelu, key=key),
        s(5, D),
        run=lambda net, x: jax.vmap(net)(x),
    )


@model(invariant="layers/0/weight")
def equinox_convolutions() -> Any:
    def make(key: Any) -> Any:
        return eqx.nn.Sequential(
            [
                eqx.nn.Conv2d(3, 8, 3, key=key),
                eqx.nn.GroupNorm(4, 8),
                eqx.nn.Lambda(jax.nn.relu),
                eqx.nn.Conv2d(8, 16, 3, stride=2, groups=4, key=key),
                eqx.nn.ConvTranspose2d(16, 4, 4, stride=2, padding=1, key=key),
            ]
        )

    return _eqx(make, s(2, 3, 12, 12), run=lambda net, x: jax.vmap(net)(x))


@model()
def equinox_attention() -> Any:
    return _eqx(
        lambda key: eqx.nn.MultiheadAttention(4, D, use_output_bias=True, key=key),
        s(5, D),
        run=lambda net, x: net(x, x, x),
    )


def _recurrent(net: Any, x: Any, start: Any) -> Any:
    def step(carry: Any, x: Any) -> Any:
        return net(x, carry), None

    return jax.lax.scan(step, start, x)[0]


@model(
    parts={"weight_ih": (D,) * 3, "weight_hh": (D,) * 3},
    calls={"weight_ih": 5, "weight_hh": 5},
)
def equinox_gru() -> Any:
    return _eqx(
        lambda key: eqx.nn.GRUCell(12, D, key=key),
        s(5, 12),
        run=lambda net, x: _recurrent(net, x, jnp.zeros(D)),
    )


@model(
    parts={"weight_ih": (D,) * 4, "weight_hh": (D,) * 4},
    calls={"weight_ih": 5, "weight_hh": 5},
)
def equinox_lstm() -> Any:
    return _eqx(
        lambda key: eqx.nn.LSTMCell(12, D, key=key),
        s(5, 12),
        run=lambda net, x: _recurrent(net, x, (jnp.zeros(D), jnp.zeros(D))),
    )


@model()
def equinox_embedding() -> Any:
    def make(key: Any) -> Any:
        return eqx.nn.Embedding(40, D, key=key), eqx.nn.Linear(D, 3, key=key)

    def run(nets: Any, tokens: Any) -> Any:
        embed, head = nets
        return jax.vmap(lambda token: head(embed(token)))(tokens)

    return _eqx(make, ids(5), run=run)


# --- Haiku ---


def _haiku(run: Any, *batch: Any) -> Any:
    made = hk.transform_with_state(run)
    params, state = jax.eval_shape(made.init, jax.random.key(0), *batch)

    def call(params: Any, state: Any, *batch: Any) -> Any:
        return made.apply(params, state, None, *batch)[0]

    return call, params, state, *batch


@model()
def haiku_mlp() -> Any:
    return _haiku(lambda x: hk.nets.MLP([48, 10])(jnp.tanh(x)), s(5, D))


@model()
def haiku_convolutions() -> Any:
    def run(x: Any) -> Any:
        x = jax.nn.relu(hk.Conv2D(8, 3, stride=2)(x))
        x = jax.nn.relu(hk.DepthwiseConv2D(2, 3)(x))
        x = jax.nn.relu(hk.Conv2D(12, 1, feature_group_count=4)(x))
        x = hk.Conv2DTranspose(4, 4, stride=2)(x)
        return hk.Linear(3)(hk.Flatten()(x))

    return _haiku(run, s(2, 8, 8, 3))


@model(parts={"lstm/linear/w": (D,) * 4}, calls={"lstm/linear/w": 5})
def haiku_lstm() -> Any:
    def run(x: Any) -> Any:
        core = hk.LSTM(D)
        return hk.dynamic_unroll(core, x, core.initial_state(2))[0]

    return _haiku(run, s(5, 2, 12))


@model(
    parts={"gru/w_i": (D,) * 3, "gru/w_h": (D,) * 3},
    calls={"gru/w_i": 5, "gru/w_h": 5},
)
def haiku_gru() -> Any:
    def run(x: Any) -> Any:
        core = hk.GRU(D)
        return hk.dynamic_unroll(core, x, core.initial_state(2))[0]

    return _haiku(run, s(5, 2, 12))


@model()
def haiku_attention() -> Any:
    def run(x: Any) -> Any:
        init = hk.initializers.VarianceScaling(1.0)
        return hk.MultiHeadAttention(4, 6, w_init=init)(x, x, x)

    return _haiku(run, s(2, 5, D))


@model()
def haiku_embedding() -> Any:
    return _haiku(lambda tokens: hk.Linear(3)(hk.Embed(40, D)(tokens)), ids(2, 5))


@model(
    invariant=" ".join([
        "res_net/~/initial_conv/w",
        *[
            f"res_net/~/block_group_{group}/~/block_{block}/~/{name}/w"
            for group in range(4)
            for block in range(2)
            for name in ("conv_0", "conv_1", "shortcut_conv")[: 2 + (block == 0)]
        ],
    ])
)  # fmt: skip
def haiku_resnet18() -> Any:
    def run(x: Any) -> Any:
        net = hk.nets.ResNet(
            (2, 2, 2, 2), 10, bottleneck=False, channels_per_group=(4, 8, 8, 16),
            use_projection=(True,) * 4,
        )  # fmt: skip
        return net(x, is_training=True)

    return _haiku(run, s(2, 32, 32, 3))
