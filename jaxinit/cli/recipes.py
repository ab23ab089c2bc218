# SPDX-License-Identifier: Apache-2.0
"""`python -m jaxinit recipes`: every recipe in a line, and what some make of GPT-2."""

import argparse
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxinit.rules
from jaxinit.core import align
from jaxinit.network import Network, read
from jaxinit.trees import describe_tree

LAYERS, WIDTH, HEADS, SIZE, VOCABULARY, PLACES = 12, 768, 12, 64, 50257, 1024
SHAPES = {
    "query": (WIDTH, HEADS, SIZE),
    "key": (WIDTH, HEADS, SIZE),
    "value": (WIDTH, HEADS, SIZE),
    "out": (HEADS, SIZE, WIDTH),
    "up": (WIDTH, 4 * WIDTH),
    "down": (4 * WIDTH, WIDTH),
}


def recipes(args: argparse.Namespace) -> None:
    """Every recipe; --like gpt2 adds the standard deviations of GPT-2's parameters."""
    width = max(map(len, jaxinit.rules.__all__))
    for name in jaxinit.rules.__all__:
        made = getattr(jaxinit.rules, name)
        line, _, _ = (inspect.getdoc(made) or "").partition("\n")
        if inspect.isfunction(made):
            print(f"{name:<{width}}  {line}")
    if args.like is not None:
        print("\nThe standard deviations in GPT-2 small, block by block alike:")
        print("\n".join(align(_columns())))


def _columns() -> dict[str, list[Any]]:
    """A row for each recipe that needs no names, a column for each kind of kernel."""
    tree, network = gpt2()
    columns: dict[str, list[Any]] = {"recipe": []}
    for name in jaxinit.rules.__all__:
        recipe = getattr(jaxinit.rules, name)
        if not inspect.isfunction(recipe) or _needs_arguments(recipe):
            continue
        try:
            rows = describe_tree(tree, recipe(), layers=network).rows
        except ValueError:
            continue  # for models of another kind
        stds = {row.path: row.std for row in rows}
        columns["recipe"].append(name)
        for path in ("tokens/embedding", "places/embedding", *_paths("block_0")):
            column = path.removesuffix("/kernel").removesuffix("/embedding")
            columns.setdefault(column.rpartition("/")[2], []).append(stds[path])
    return columns


def _paths(block: str) -> list[str]:
    return [f"{block}/{name}/kernel" for name in SHAPES]


def _needs_arguments(recipe: Callable[..., Any]) -> bool:
    parameters = inspect.signature(recipe).parameters.values()
    return any(each.default is each.empty for each in parameters)


def gpt2() -> tuple[Any, Network]:
    """The shapes of GPT-2 small, with a head that is tied, and their reading."""

    def shape(*sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, "float32")

    kernels = {name: {"kernel": shape(*sizes)} for name, sizes in SHAPES.items()}
    norms = {f"norm_{k}": {"scale": shape(WIDTH)} for k in range(2)}
    tree: dict[str, Any] = {
        "tokens": {"embedding": shape(VOCABULARY, WIDTH)},
        "places": {"embedding": shape(PLACES, WIDTH)},
        **{f"block_{k}": {**kernels, **norms} for k in range(LAYERS)},
    }
    tokens = jax.ShapeDtypeStruct((1, 8), "int32")
    return tree, read(_forward, tree, tokens)


def _forward(params: Any, tokens: jax.Array) -> jax.Array:
    table = params["tokens"]["embedding"]
    places = params["places"]["embedding"][jnp.arange(tokens.shape[1])]
    x = table[tokens] + places[None]
    for k in range(LAYERS):
        block = params[f"block_{k}"]
        kernels = {name: block[name]["kernel"] for name in SHAPES}
        h = _norm(x, block["norm_0"]["scale"])
        q, key, v = (
            jnp.einsum("btd,dhk->bthk", h, kernels[name])
            for name in ("query", "key", "value")
        )
        weights = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, key) / SIZE**0.5)
        h = jnp.einsum("bhts,bshk->bthk", weights, v)
        x = x + jnp.einsum("bthk,hkd->btd", h, kernels["out"])
        h = jax.nn.gelu(_norm(x, block["norm_1"]["scale"]) @ kernels["up"])
        x = x + h @ kernels["down"]
    return x @ table.T


def _norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True)) * scale[None, None]
