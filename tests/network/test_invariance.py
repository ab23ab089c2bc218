# SPDX-License-Identifier: Apache-2.0
"""A reading does not depend on how the computation is wrapped."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jaxinit
from jaxinit.network import Network, Parameter
from tests.network.models import s
from tests.network.public_models import D, T
from tests.network.reading import built, network

QUICK = True  # see conftest.py

MODELS = [
    "bert", "bit", "convnext", "equinox_gru", "gemma", "gpt2", "griffin", "haiku_lstm",
    "llama", "lora", "lstm_fused", "mamba", "mixer", "mixtral", "qkv_interleaved",
    "rwkv", "scan_of_a_map", "siren", "t5", "u_net", "v_moe", "wavenet",
]  # fmt: skip


def read(run: Any, *args: Any) -> Network:
    with (
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
        jax.debug_key_reuse(False),
    ):
        return jaxinit.read(run, *args)


def facts(p: Parameter) -> Any:
    after = p.after and (p.after.name, p.after.kinds, p.after.layers)
    return (
        p.role, p.fans, p.fan_in, p.fan_out, p.kernel(p.shape), p.parts, after,
        p.branch, p.before, p.calls, p.invariant, p.tied,
    )  # fmt: skip


def same(one: Network, other: Network) -> None:
    assert one.keys() == other.keys()
    for path in one:
        assert facts(one[path]) == facts(other[path]), path


@pytest.mark.sweep
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint], ids=["jit", "remat"])
def test_calls_change_nothing(wrap, name):
    run, *args = built(name)
    same(read(wrap(run), *args), network(name))


def twice(run: Any) -> Any:
    @jax.custom_vjp
    def call(*args: Any) -> Any:
        return run(*args)

    call.defvjp(lambda *args: (run(*args), None), lambda kept, g: (g,))
    return call


@pytest.mark.parametrize("name", MODELS)
def test_derivatives_of_ones_own_change_nothing(name):
    run, *args = built(name)
    same(read(twice(run), *args), network(name))


def in_half(tree: Any) -> Any:
    def cast(x: Any) -> Any:
        half = jnp.issubdtype(x.dtype, jnp.floating)
        return s(*x.shape, dtype=jnp.bfloat16) if half else x

    return jax.tree.map(cast, tree)


@pytest.mark.parametrize("name", sorted({*MODELS} - {"equinox_gru", "lstm_fused"}))
def test_half_precision_changes_nothing(name):
    """But for the grain of the types, which no name of an activation survives."""
    run, *args = built(name)

    def cast(params: Any, *batch: Any) -> Any:
        return run(jax.tree.map(lambda x: x.astype(jnp.float32), params), *batch)

    found, before = read(cast, in_half(args[0]), *args[1:]), network(name)
    assert found.keys() == before.keys()
    for path in found:
        assert facts(found[path]) == facts(before[path]), path


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama", "mixer", "u_net"])
def test_a_map_over_examples_changes_no_fans(name):
    run, params, *batch = built(name)
    mapped = jax.vmap(run, in_axes=(None, *[0] * len(batch)))
    more = [s(3, *x.shape, dtype=x.dtype) for x in batch]
    found, before = read(mapped, params, *more), network(name)
    for path, p in found.items():
        q = before[path]
        assert (p.role, p.fan_in, p.fan_out) == (q.role, q.fan_in, q.fan_out), path
        assert (p.parts, p.branch, p.invariant) == (q.parts, q.branch, q.invariant)


@pytest.mark.parametrize("name", ["gpt2", "mixer", "llama", "wavenet"])
def test_a_map_over_models_stacks_each_parameter(name):
    run, params, *batch = built(name)
    stack = jax.tree.map(lambda x: s(5, *x.shape, dtype=x.dtype), params)
    more = [s(5, *x.shape, dtype=x.dtype) for x in batch]
    found, before = read(jax.vmap(run), stack, *more), network(name)
    for path, p in found.items():
        q = before[path]
        assert (p.role, p.fan_in, p.branch) == (q.role, q.fan_in, q.branch), path
        if (
            p.role == "kernel" and p.fans is not None
        ):  # a look-up at places that all share feeds all tables
            assert p.kernel(p.shape) == q.kernel(q.shape), path
            assert p.fans(p.kernel(p.shape)) == (q.fan_in, q.fan_out), path


def block(p: Any, x: Any) -> Any:
    return x + jnp.tanh(x @ p["w1"] + p["b"]) @ p["w2"]


STACK = {"w1": s(3, D, 48), "b": s(3, 48), "w2": s(3, 48, D)}


def scan(p: Any, x: Any) -> Any:
    return lax.scan(lambda x, q: (block(q, x), None), x, p)[0]


def unrolled(p: Any, x: Any) -> Any:
    return lax.scan(lambda x, q: (block(q, x), None), x, p, unroll=3)[0]


def loop(p: Any, x: Any) -> Any:
    for k in range(3):
        x = block(jax.tree.map(lambda w, k=k: w[k], p), x)
    return x


def unstacked(p: Any, x: Any) -> Any:
    for q in zip(p["w1"], p["b"], p["w2"], strict=True):
        x = block(dict(zip(("w1", "b", "w2"), q, strict=True)), x)
    return x


def fori(p: Any, x: Any) -> Any:
    def step(k: Any, x: Any) -> Any:
        return block(jax.tree.map(lambda w: w[k], p), x)

    return lax.fori_loop(0, 3, step, x)


def over_indices(p: Any, x: Any) -> Any:
    def step(x: Any, k: Any) -> Any:
        return block(jax.tree.map(lambda w: w[k], p), x), None

    return lax.scan(step, x, jnp.arange(3))[0]


@pytest.mark.parametrize("run", [unrolled, loop, unstacked, fori, over_indices])
def test_a_stack_is_a_stack_however_it_is_run(run):
    one, other = read(scan, STACK, s(T, D)), read(run, STACK, s(T, D))
    assert one.keys() == other.keys()
    for path, p in one.items():
        q = other[path]
        assert (p.role, p.fans, p.stack, p.branch, p.calls) == (
            q.role, q.fans, q.stack, q.branch, q.calls,
        ), path  # fmt: skip
    assert one["w2"].branch is not None and one["w2"].branch.of == 3
