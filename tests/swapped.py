# SPDX-License-Identifier: Apache-2.0
"""Flax and Haiku on jaxinit: every layer's parameters are those of JAX, bit for bit.

    python -m tests.swapped

A second process puts jaxinit's names in the place of JAX's before Flax and Haiku are
imported. Both processes then initialise, under `jax.jit`, every layer that takes an
initializer, with the layer's own initializers and with others; the digests of their
parameters must agree.
"""

import functools
import hashlib
import inspect
import itertools
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Where an equal name means something else on purpose, who has JAX's numbers.
STANDS_IN = {
    "kaiming_normal": "he_normal",  # PyTorch's are not cut
    "xavier_normal": "glorot_normal",
}
BY_QR = {"delta_orthogonal", "orthogonal"}  # other draws, from the same distribution
CONSTANT = {"constant", "ones", "zeros"}

# What is given to kernels, and to biases, scales and states, in turn.
KERNELS: list[Callable[[Any], Any]] = [
    lambda of: of.lecun_normal(),
    lambda of: of.he_uniform(),
    lambda of: of.variance_scaling(1.0, "fan_in", "normal", out_axis=0),
    lambda of: of.orthogonal(),
    lambda of: of.glorot_normal(in_axis=-1, out_axis=-2),
    lambda of: of.variance_scaling(2.0, "fan_avg", "uniform", in_axis=[], out_axis={}),
    lambda of: of.truncated_normal(0.02),
    lambda of: of.kaiming_normal(),
    lambda of: of.xavier_uniform(batch_axis=()),
    lambda of: of.variance_scaling(1.0, "fan_geo_avg", "truncated_normal", 0, 1),
    lambda of: of.lecun_uniform(),
    lambda of: of.kaiming_uniform(),
]
VECTORS: list[Callable[[Any], Any]] = [
    lambda of: of.constant(0.5),
    lambda of: of.normal(0.1),
    lambda of: of.ones,
    lambda of: of.truncated_normal(0.5, lower=-1.0, upper=3.0),
    lambda of: of.zeros,
    lambda of: of.uniform(0.1),
]
OF_KERNELS = {
    "a_initializer",
    "b_initializer",
    "embedding_init",
    "kernel_init",
    "out_kernel_init",
    "recurrent_kernel_init",
    "w_h_init",
    "w_i_init",
    "w_init",
}

Layer = tuple[Any, ...]  # the arguments by name, then the shapes of the inputs
CONV = {"features": 4, "kernel_size": (3,)}
HEADS = {"num_heads": 2, "qkv_features": 6}
LINEN: dict[str, Layer] = {
    "BatchNorm": ({"use_running_average": True}, (2, 4)),
    "Conv": ({"features": 4, "kernel_size": (3, 2)}, (2, 4, 4, 3)),
    "ConvLocal": (CONV, (2, 8, 3)),
    "ConvTranspose": (CONV, (2, 8, 3)),
    "Dense": ({"features": 4}, (2, 3)),
    "DenseGeneral": ({"features": (2, 3), "axis": (-2, -1)}, (2, 3, 4)),
    "Einsum": ({"shape": (3, 4, 5), "einsum_str": "bi,ijk->bjk"}, (2, 3)),
    "Embed": ({"num_embeddings": 5, "features": 4}, (2,)),
    "GRUCell": ({"features": 4}, (2, 3)),
    "GroupNorm": ({"num_groups": 2}, (2, 4)),
    "InstanceNorm": ({}, (2, 8, 4)),
    "LSTMCell": ({"features": 4}, (2, 3)),
    "LayerNorm": ({}, (2, 4)),
    "MGUCell": ({"features": 4}, (2, 3)),
    "MultiHeadAttention": (HEADS, (2, 5, 8)),
    "MultiHeadDotProductAttention": (HEADS, (2, 5, 8), (2, 5, 8)),
    "OptimizedLSTMCell": ({"features": 4}, (2, 3)),
    "RMSNorm": ({}, (2, 4)),
    "SelfAttention": (HEADS, (2, 5, 8)),
    "SimpleCell": ({"features": 4}, (2, 3)),
    "WeightNorm": ({}, (2, 3)),
}
INTO = {"in_features": 3, "out_features": 4}
HIDDEN = {"in_features": 3, "hidden_features": 4}
NNX: dict[str, Layer] = {
    "BatchNorm": ({"num_features": 4},),
    "Conv": ({**INTO, "kernel_size": (3, 2)},),
    "ConvTranspose": ({**INTO, "kernel_size": (3,)},),
    "Einsum": (
        {
            "einsum_str": "bi,ijk->bjk",
            "kernel_shape": (3, 4, 5),
            "bias_shape": (4, 5),
        },
    ),
    "Embed": ({"num_embeddings": 5, "features": 4},),
    "GRUCell": (HIDDEN,),
    "GroupNorm": ({"num_features": 4, "num_groups": 2},),
    "InstanceNorm": ({"num_features": 4},),
    "LSTMCell": (HIDDEN,),
    "LayerNorm": ({"num_features": 4},),
    "Linear": (INTO,),
    "LinearGeneral": ({"in_features": (3, 4), "out_features": (2, 3), "axis": (1, 2)},),
    "LoRA": ({**INTO, "lora_rank": 2},),
    "LoRALinear": ({**INTO, "lora_rank": 2},),
    "MultiHeadAttention": ({"num_heads": 2, "in_features": 8, "decode": False},),
    "OptimizedLSTMCell": (HIDDEN,),
    "RMSNorm": ({"num_features": 4},),
    "SimpleCell": (HIDDEN,),
    "WeightNorm": ({},),
}
OUT = {"output_channels": 4, "kernel_shape": 2}
BY_CHANNEL = {"channel_multiplier": 2, "kernel_shape": 2}
BOTH = {"create_scale": True, "create_offset": True}
SPACE = {1: (2, 4, 3), 2: (2, 4, 4, 3), 3: (2, 4, 4, 4, 3)}
HAIKU: dict[str, Layer] = {
    "BatchNorm": ({**BOTH, "decay_rate": 0.9}, (2, 4)),
    "Bias": ({}, (2, 3)),
    **{f"Conv{n}D": (OUT, SPACE[n]) for n in SPACE},
    **{f"Conv{n}DTranspose": (OUT, SPACE[n]) for n in SPACE},
    "ConvND": ({**OUT, "num_spatial_dims": 1}, SPACE[1]),
    "ConvNDTranspose": ({**OUT, "num_spatial_dims": 1}, SPACE[1]),
    **{f"DepthwiseConv{n}D": (BY_CHANNEL, SPACE[n]) for n in SPACE},
    "Embed": ({"vocab_size": 5, "embed_dim": 4}, (2,)),
    "GRU": ({"hidden_size": 4}, (2, 3)),
    "GroupNorm": ({"groups": 2}, (2, 8, 4)),
    "InstanceNorm": (BOTH, (2, 8, 4)),
    "LayerNorm": ({**BOTH, "axis": -1}, (2, 4)),
    "Linear": ({"output_size": 4}, (2, 3)),
    "MultiHeadAttention": ({"num_heads": 2, "key_size": 3}, *[(2, 5, 8)] * 3),
    "RMSNorm": ({"axis": -1}, (2, 4)),
    "SeparableDepthwiseConv2D": (BY_CHANNEL, SPACE[2]),
}


def compiled(factory: Any) -> Any:
    """A factory of JAX's whose draws run under `jax.jit`, equal ones in one program."""
    programs: dict[str, Any] = {}

    def make(*args: Any, **kwargs: Any) -> Any:
        init = jax.jit(factory(*args, **kwargs), static_argnums=(1, 2))
        program = programs.setdefault(f"{args} {kwargs}", init)
        return lambda key, shape, dtype=None: program(key, tuple(shape), dtype)

    return make


def swap(ours: bool) -> None:
    """Put jaxinit's names, or JAX's compiled ones, where the frameworks take them."""
    late = {"flax", "haiku"} & set(sys.modules)
    assert not late, f"{late} took JAX's initializers already"
    import jaxinit

    place = jax.nn.initializers
    for name in [n for n in dir(place) if not n.startswith("_") and n != "Initializer"]:
        if ours:
            new = getattr(jaxinit, STANDS_IN.get(name, name))
            new = functools.partial(new, method="qr") if name in BY_QR else new
        elif name in CONSTANT:
            continue
        else:
            new = compiled(getattr(place, name))
        setattr(place, name, new)


def takes(layer: Any) -> list[str]:
    """The arguments of a layer's class that are initializers."""
    given = inspect.signature(layer.__init__).parameters
    others = {"carry_init", "negative_slope_init"}  # of a state; a number
    return [
        n for n in given if n.endswith(("_init", "_initializer")) and n not in others
    ]


def layers(module: Any, base: type, table: dict[str, Layer]) -> dict[str, type]:
    """Every public layer of a framework that takes an initializer."""
    found = {
        name: layer
        for name, layer in vars(module).items()
        if inspect.isclass(layer) and issubclass(layer, base) and takes(layer)
    }
    if new := sorted(set(found) - set(table)):
        sys.exit(f"{module.__name__} has layers that tests/swapped.py lacks: {new}")
    return dict(sorted(found.items()))


def given(layer: type, turns: Iterator[Any]) -> dict[str, Any]:
    """The initializers that a layer is built with beside its own."""
    kernel, vector = (make(jax.nn.initializers) for make in next(turns))
    if layer.__name__ == "WeightNorm":  # NNX's gives a stream of keys for the key
        vector = jax.nn.initializers.constant(0.5)
    return {n: kernel if n in OF_KERNELS else vector for n in takes(layer)}


def inputs(name: str, shapes: tuple[Any, ...]) -> list[jax.Array]:
    return [jnp.ones(s, jnp.int32 if name == "Embed" else jnp.float32) for s in shapes]


def linen(turns: Iterator[Any]) -> Iterator[Any]:
    from flax import linen as nn

    for name, layer in layers(nn, nn.Module, LINEN).items():
        arguments, *shapes = LINEN[name]
        xs = inputs(name, tuple(shapes))

        def draw(key: jax.Array, layer: Any, arguments: Any, xs: Any) -> Any:
            arguments = dict(arguments)
            if layer is nn.WeightNorm:
                arguments["layer_instance"] = nn.Dense(4)
            module = layer(**arguments)
            if not issubclass(layer, nn.RNNCellBase):
                return module.lazy_init(key, *xs)
            carry = module.initialize_carry(key, xs[0].shape)
            return module.lazy_init(key, carry, *xs), carry

        for more in ({}, given(layer, turns)):
            yield (
                name,
                functools.partial(
                    draw, layer=layer, arguments={**arguments, **more}, xs=xs
                ),
            )


def nnx(turns: Iterator[Any]) -> Iterator[Any]:
    from flax import nnx

    for name, layer in layers(nnx, nnx.Module, NNX).items():
        (arguments,) = NNX[name]

        def draw(key: jax.Array, layer: Any, arguments: Any) -> Any:
            rngs = nnx.Rngs(key)
            arguments = dict(arguments)
            if layer is nnx.WeightNorm:
                arguments["layer_instance"] = nnx.Linear(3, 4, rngs=rngs)
            if "rngs" in inspect.signature(layer.__init__).parameters:
                arguments["rngs"] = rngs
            module = layer(**arguments)
            params = nnx.to_pure_dict(nnx.state(module, nnx.Param))
            if not issubclass(layer, nnx.RNNCellBase):
                return params
            return params, module.initialize_carry((2, 3), rngs)

        for more in ({}, given(layer, turns)):
            yield (
                name,
                functools.partial(draw, layer=layer, arguments={**arguments, **more}),
            )


def haiku(turns: Iterator[Any]) -> Iterator[Any]:
    import haiku as hk

    def adapted(init: Any) -> Any:
        return lambda shape, dtype: init(hk.next_rng_key(), shape, dtype)

    for name, layer in layers(hk, hk.Module, HAIKU).items():
        arguments, *shapes = HAIKU[name]
        xs = inputs(name, tuple(shapes))
        more = {n: adapted(init) for n, init in given(layer, turns).items()}

        def draw(key: jax.Array, layer: Any, arguments: Any, xs: Any) -> Any:
            def forward(*xs: Any) -> Any:
                module = layer(**arguments)
                if layer is hk.BatchNorm:
                    return module(*xs, is_training=True)
                if isinstance(module, hk.RNNCore):
                    return module(*xs, module.initial_state(len(xs[0])))
                return module(*xs)

            return hk.transform_with_state(forward).init(key, *xs)[0]

        yield (
            name,
            functools.partial(
                draw, layer=layer, arguments={**arguments, **more}, xs=xs
            ),
        )


def drawn() -> dict[str, str]:
    """The digest of every array that the layers start with, by its path."""
    key = jax.random.key(0)
    turns = zip(itertools.cycle(KERNELS), itertools.cycle(VECTORS), strict=True)
    digests = {}
    for framework in (linen, nnx, haiku):
        for i, (layer, draw) in enumerate(framework(turns)):
            for path, leaf in jax.tree_util.tree_leaves_with_path(draw(key)):
                array = np.asarray(leaf)
                place = f"{framework.__name__}.{layer}#{i}{jax.tree_util.keystr(path)}"
                bits = hashlib.sha256(array.tobytes()).hexdigest()
                digests[place] = f"{array.dtype}{list(array.shape)} {bits}"
    return digests


def run(whose: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.swapped", whose],
        cwd=pathlib.Path(__file__).parent.parent,
        env={**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"},
        stdout=subprocess.PIPE,
        text=True,
    )


def main() -> int:
    """Draw in two processes, compare, print the table; 1 if anything differs."""
    if sys.argv[1:]:
        swap(ours=sys.argv[1] == "jaxinit")
        print(json.dumps(drawn()))
        return 0
    processes = [run("jax"), run("jaxinit")]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        return 1
    theirs, ours = (json.loads(output.splitlines()[-1]) for output in outputs)
    differ = [p for p in theirs | ours if theirs.get(p) != ours.get(p)]
    for framework in ("linen", "nnx", "haiku"):
        paths = [p for p in theirs if p.startswith(f"{framework}.")]
        layers = {p.partition("#")[0] for p in paths}
        wrong = sum(p.startswith(f"{framework}.") for p in differ)
        print(
            f"{framework:8}{len(layers):3} layers{len(paths):5} arrays, {wrong} differ"
        )
    for path in differ:
        print(f"{path}: {theirs.get(path)} became {ours.get(path)}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
