# SPDX-License-Identifier: Apache-2.0
"""Whole models, each initialised in a cold process: `jit_init` against `jax.jit`.

Run as a script it is one competitor: it initialises one model and prints its figures.
"own" is the time in the model's own Python code, which every competitor runs once.
"""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
WIDTH, HEADS, LENGTH = 768, 12, 1024

# model: depth, vocabulary, who competes with jit_init
MODELS = {
    "GPT-2, 12 blocks, Linen": ("linen", 12, 50257, ["jit"]),
    "48 blocks of width 768, Linen": ("linen", 48, 1000, ["jit"]),
    "12-block transformer, NNX": ("nnx", 12, 50257, ["jit", "eager"]),
}


def gpt2(depth: int, vocabulary: int) -> tuple[Any, Any]:
    """The model and its tokens."""
    import flax.linen as nn
    import jax.numpy as jnp

    normal = nn.initializers.normal

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):  # type: ignore[no-untyped-def]
            y = nn.LayerNorm()(x)
            attention = nn.MultiHeadDotProductAttention(HEADS, kernel_init=normal(0.02))
            x += attention(y, y)
            y = nn.LayerNorm()(x)
            y = nn.gelu(nn.Dense(4 * WIDTH, kernel_init=normal(0.02))(y))
            return x + nn.Dense(WIDTH, kernel_init=normal(0.02 / (2 * depth) ** 0.5))(y)

    class GPT2(nn.Module):
        @nn.compact
        def __call__(self, tokens):  # type: ignore[no-untyped-def]
            embed = nn.Embed(vocabulary, WIDTH, embedding_init=normal(0.02))
            x = embed(tokens) + self.param("positions", normal(0.01), (LENGTH, WIDTH))
            for _ in range(depth):
                x = Block()(x)
            return embed.attend(nn.LayerNorm()(x))

    return GPT2(), jnp.zeros((1, LENGTH), jnp.int32)


def linen(depth: int, vocabulary: int) -> Any:
    model, tokens = gpt2(depth, vocabulary)
    return lambda key: model.init(key, tokens)


def nnx_constructor(depth: int, vocabulary: int) -> Any:
    from flax import nnx

    class Block(nnx.Module):
        def __init__(self, rngs):  # type: ignore[no-untyped-def]
            self.first = nnx.LayerNorm(WIDTH, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(
                HEADS, WIDTH, decode=False, rngs=rngs
            )
            self.second = nnx.LayerNorm(WIDTH, rngs=rngs)
            self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
            self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    class Transformer(nnx.Module):
        def __init__(self, rngs):  # type: ignore[no-untyped-def]
            self.embed = nnx.Embed(vocabulary, WIDTH, rngs=rngs)
            self.blocks = nnx.List([Block(rngs) for _ in range(depth)])
            self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)

    return Transformer


def run(competitor: str, kind: str, depth: int, vocabulary: int) -> dict[str, float]:
    import jax

    import jaxinit

    own: list[float] = []

    def timed(function: Any) -> Any:
        def call(argument: Any) -> Any:
            start = time.perf_counter()
            result = function(argument)
            own.append(time.perf_counter() - start)
            return result

        return call

    key = jax.block_until_ready(jax.random.key(0))
    if kind == "linen":
        jit = jax.jit if competitor == "jit" else jaxinit.jit_init
        init = jit(timed(linen(depth, vocabulary)))

        def draw() -> Any:
            return init(key)
    else:
        from flax import nnx

        import jaxinit.nnx

        make = timed(nnx_constructor(depth, vocabulary))
        build = {
            "jaxinit": lambda rngs: jaxinit.nnx.create(make, rngs),
            "jit": nnx.jit(make),
            "eager": make,
        }[competitor]

        def draw() -> Any:
            return nnx.state(build(nnx.Rngs(0)))

    resident, high = _resident(), [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            high[0] = max(high[0], _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    arrays = jax.block_until_ready(jax.tree.leaves(draw()))
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    size = sum(x.nbytes for x in arrays)
    del arrays
    start = time.perf_counter()
    jax.block_until_ready(jax.tree.leaves(draw()))
    again = time.perf_counter() - start
    return {
        "seconds": seconds,
        "again": again,
        "own": own[0],
        "memory": (high[0] - resident) / size,
        "parameters": size / 4,
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def measured(competitor: str, model: str) -> dict[str, float]:
    """The figures of a competitor in a fresh process."""
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.models", competitor, model],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    figures: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    _, who, which = sys.argv
    kind, depth, vocabulary, _ = MODELS[which]
    print(json.dumps(run(who, kind, depth, vocabulary)))
