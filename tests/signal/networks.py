# SPDX-License-Identifier: Apache-2.0
"""Networks of any width, whose signal is predicted and measured over many draws.

Each is a function of (params, batch) in plain JAX; tables are called e, kernels w.
`python -m tests.signal.networks 256 512 1024` prints how far predictions are from the
mean of 16 networks of each width.
"""

import math
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxinit
from jaxinit import signal
from jaxinit.signal.sums import rms
from jaxinit.signal.trace import Traced
from tests.network.models import norm, s

__all__ = ["NETWORKS", "RULES", "UNSTABLE", "measure", "powers", "predict", "ratios"]

NETWORKS: dict[str, Callable[[int], tuple[Any, Any, Any]]] = {}
KERNEL = jaxinit.variance_scaling(1.0, "fan_in", "normal")
GELU = jaxinit.gain("gelu_tanh")
TABLE = jaxinit.normal(1.0)
RULES = [
    ("**", jaxinit.per_param(lambda p: TABLE if p.path[0] == "e" else KERNEL)),
]
UNSTABLE = "gelu"  # a difference in length grows with each layer, whatever the width
B, T, H, IMAGE = 4, 16, 4, 8  # examples, tokens, heads, pixels along a side


def network(build: Any) -> Any:
    NETWORKS[build.__name__.strip("_")] = build
    return build


def data(*shape: int) -> jax.Array:
    x = jax.random.normal(jax.random.key(1), shape)
    return x / jnp.sqrt(jnp.square(x).mean())


def tokens(n: int = 512) -> jax.Array:
    return jax.random.randint(jax.random.key(1), (B, T), 0, n)


def rms_norm(x: Any) -> Any:
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)


def batch_norm(x: Any) -> Any:
    return norm(x, axis=tuple(range(x.ndim - 1)))


def conv(x: Any, w: Any, stride: int = 1, groups: int = 1) -> Any:
    return jax.lax.conv_general_dilated(
        x,
        w,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def rotate(x: Any) -> Any:
    """Rotary positions, of (batch, time, heads, features)."""
    n = x.shape[-1] // 2
    speed = 100.0 ** -(np.arange(n) / n)
    angle = jnp.asarray(np.outer(np.arange(x.shape[1]), speed), x.dtype)
    c, sn = (f(angle)[None, :, None] for f in (jnp.cos, jnp.sin))
    a, b = x[..., :n], x[..., n:]
    return jnp.concatenate([a * c - b * sn, b * c + a * sn], -1)


def attend(p: Any, x: Any, memory: Any = None, causal: bool = False) -> Any:
    memory = x if memory is None else memory
    q = jnp.einsum("btd,dhe->bthe", x, p["wq"])
    k, v = (jnp.einsum("btd,dhe->bthe", memory, p[n]) for n in ("wk", "wv"))
    if causal:
        q, k = rotate(q), rotate(k)
    groups = q.shape[2] // k.shape[2]
    q = q.reshape(*q.shape[:2], k.shape[2], groups, q.shape[-1])
    logits = jnp.einsum("bthge,bshe->bhgts", q, k) / math.sqrt(q.shape[-1])
    if causal:
        mask = jnp.tril(jnp.ones((T, T), bool))
        logits = jnp.where(mask[None, None, None], logits, -1e30)
    y = jnp.einsum("bhgts,bshe->bthge", jax.nn.softmax(logits, -1), v)
    return jnp.einsum(
        "bthe,hed->btd", y.reshape(*y.shape[:2], -1, y.shape[-1]), p["wo"]
    )


def attention_shapes(n: int, keys: int = H) -> Any:
    e = n // H
    heads = {"wq": s(n, H, e), "wk": s(n, keys, e), "wv": s(n, keys, e)}
    return heads | {"wo": s(H, e, n)}


def chain(activation: Any, n: int) -> Any:
    def run(p: Any, x: Any) -> Any:
        for w in p["w"][:-1]:
            x = activation(x @ w)
        return x @ p["w"][-1]

    return run, {"w": [s(n, n)] * 30}, data(16, n)


@network
def relu(n: int) -> Any:
    return chain(lambda x: math.sqrt(2) * jax.nn.relu(x), n)


@network
def gelu(n: int) -> Any:
    return chain(lambda x: GELU * jax.nn.gelu(x), n)


@network
def tanh(n: int) -> Any:
    return chain(jnp.tanh, n)


@network
def vgg(n: int) -> Any:
    n = n // 4

    def run(p: Any, x: Any) -> Any:
        for w in p["w"]:
            x = math.sqrt(2) * jax.nn.relu(conv(x, w))
        return x.mean((1, 2)) @ p["whead"]

    shapes = [s(3, 3, 3, n), *[s(3, 3, n, n)] * 5]
    return run, {"w": shapes, "whead": s(n, 64)}, data(B, IMAGE, IMAGE, 3)


def resnet(n: int, before: bool) -> Any:
    n = n // 4

    def run(p: Any, x: Any) -> Any:
        x = conv(x, p["wstem"])
        for a, b in zip(p["wa"], p["wb"], strict=True):
            if before:
                y = conv(jax.nn.relu(batch_norm(x)), a)
                x = x + conv(jax.nn.relu(batch_norm(y)), b)
            else:
                y = jax.nn.relu(batch_norm(conv(x, a)))
                x = jax.nn.relu(x + batch_norm(conv(y, b)))
        return x.mean((1, 2)) @ p["whead"]

    shapes = {"wstem": s(3, 3, 3, n), "whead": s(n, 64)}
    blocks = {"wa": [s(3, 3, n, n)] * 3, "wb": [s(3, 3, n, n)] * 3}
    return run, shapes | blocks, data(16, IMAGE, IMAGE, 3)


@network
def resnet_v1(n: int) -> Any:
    return resnet(n, before=False)


@network
def resnet_v2(n: int) -> Any:
    return resnet(n, before=True)


@network
def convnext(n: int) -> Any:
    n = n // 2

    def run(p: Any, x: Any) -> Any:
        x = norm(conv(x, p["wstem"], 4))
        for w, up, down in zip(p["wdepth"], p["wup"], p["wdown"], strict=True):
            y = norm(conv(x, w, groups=n))
            x = x + jax.nn.gelu(y @ up) @ down
        return norm(x.mean((1, 2))) @ p["whead"]

    shapes = {"wstem": s(4, 4, 3, n), "whead": s(n, 64), "wdepth": [s(5, 5, 1, n)] * 2}
    mlp = {"wup": [s(n, 4 * n)] * 2, "wdown": [s(4 * n, n)] * 2}
    return run, shapes | mlp, data(B, 4 * IMAGE, 4 * IMAGE, 3)


def mlp_shapes(n: int, gated: bool = False) -> Any:
    shapes = {"wup": s(n, 2 * n), "wdown": s(2 * n, n)}
    return shapes | ({"wgate": s(n, 2 * n)} if gated else {})


def blocks(n: int, keys: int = H, gated: bool = False) -> Any:
    one = {**attention_shapes(n, keys), **mlp_shapes(n, gated)}
    return {name: [each] * 2 for name, each in one.items()}


def block(p: Any, i: int) -> Any:
    return {name: p[name][i] for name in p if isinstance(p[name], list)}


def gpt2_block(q: Any, x: Any) -> Any:
    x = x + attend(q, norm(x), causal=True)
    return x + jax.nn.gelu(norm(x) @ q["wup"]) @ q["wdown"]


@network
def gpt2(n: int) -> Any:
    def run(p: Any, ids: Any) -> Any:
        x = p["e"][ids] + p["eplace"][jnp.arange(T)][None]
        for i in range(2):
            x = gpt2_block(block(p, i), x)
        return norm(x) @ p["whead"]

    return (
        run,
        {"e": s(512, n), "eplace": s(T, n), "whead": s(n, 512), **blocks(n)},
        (tokens()),
    )


@network
def scanned_gpt2(n: int) -> Any:
    def run(p: Any, ids: Any) -> Any:
        x = p["e"][ids] + p["eplace"][jnp.arange(T)][None]
        layers = {name: p[name] for name in blocks(n)}
        x, _ = jax.lax.scan(lambda x, q: (gpt2_block(q, x), None), x, layers)
        return norm(x) @ p["whead"]

    stacked = {name: s(2, *each[0].shape) for name, each in blocks(n).items()}
    return (
        run,
        {"e": s(512, n), "eplace": s(T, n), "whead": s(n, 512), **stacked},
        (tokens()),
    )


@network
def bert(n: int) -> Any:
    def run(p: Any, ids: Any) -> Any:
        x = norm(p["e"][ids] + p["eplace"][jnp.arange(T)][None])
        for i in range(2):
            q = block(p, i)
            x = norm(x + attend(q, x))
            x = norm(x + jax.nn.gelu(x @ q["wup"]) @ q["wdown"])
        return x @ p["whead"]

    return (
        run,
        {"e": s(512, n), "eplace": s(T, n), "whead": s(n, 512), **blocks(n)},
        (tokens()),
    )


@network
def llama(n: int) -> Any:
    """Grouped queries, rotary positions, gates of silu."""

    def run(p: Any, ids: Any) -> Any:
        x = p["e"][ids]
        for i in range(2):
            q = block(p, i)
            x = x + attend(q, rms_norm(x), causal=True)
            y = rms_norm(x)
            x = x + (jax.nn.silu(y @ q["wgate"]) * (y @ q["wup"])) @ q["wdown"]
        return rms_norm(x) @ p["whead"]

    return run, {"e": s(512, n), "whead": s(n, 512), **blocks(n, 2, True)}, tokens()


@network
def t5(n: int) -> Any:
    """Encoder and decoder; gates of gelu."""

    def run(p: Any, ids: Any) -> Any:
        x = p["e"][ids]
        for i in range(2):
            q = block(p, i)
            y = rms_norm(x)
            x = x + attend(q, y)
            y = rms_norm(x)
            x = x + (jax.nn.gelu(y @ q["wgate"]) * (y @ q["wup"])) @ q["wdown"]
        memory, x = rms_norm(x), p["e"][ids[:, ::-1]]
        for i in range(2):
            x = x + attend(block(p["own"], i), rms_norm(x), causal=True)
            x = x + attend(block(p["cross"], i), rms_norm(x), memory)
        return rms_norm(x) @ p["whead"]

    heads = {name: [each] * 2 for name, each in attention_shapes(n).items()}
    shapes = {"e": s(512, n), "whead": s(n, 512), "own": heads, "cross": heads}
    return run, shapes | blocks(n, gated=True), tokens()


@network
def vit(n: int) -> Any:
    def run(p: Any, x: Any) -> Any:
        x = conv(x, p["wstem"], 4).reshape(B, T, -1) + p["eplace"][None]
        for i in range(2):
            q = block(p, i)
            x = x + attend(q, norm(x))
            x = x + jax.nn.gelu(norm(x) @ q["wup"]) @ q["wdown"]
        return norm(x).mean(1) @ p["whead"]

    shapes = {"wstem": s(4, 4, 3, n), "eplace": s(T, n), "whead": s(n, 64)}
    return run, shapes | blocks(n), data(B, 2 * IMAGE, 2 * IMAGE, 3)


@network
def mixer(n: int) -> Any:
    def run(p: Any, x: Any) -> Any:
        x = x @ p["wstem"]
        for i in range(2):
            q = block(p, i)
            y = jax.nn.gelu(jnp.einsum("btd,ts->bsd", norm(x), q["win"]))
            x = x + jnp.einsum("bsd,st->btd", y, q["wout"])
            x = x + jax.nn.gelu(norm(x) @ q["wup"]) @ q["wdown"]
        return norm(x).mean(1) @ p["whead"]

    t = n // 8
    one = mlp_shapes(n) | {"win": s(t, 4 * t), "wout": s(4 * t, t)}
    shapes = {"wstem": s(48, n), "whead": s(n, 64)}
    many = {name: [each] * 2 for name, each in one.items()}
    return run, shapes | many, data(B, t, 48)


@network
def u_net(n: int) -> Any:
    n = n // 4

    def run(p: Any, x: Any) -> Any:
        a = jax.nn.relu(conv(x, p["wa"]))
        b = jax.nn.relu(conv(a, p["wb"], 2))
        c = jax.nn.relu(conv(b, p["wc"]))
        up = jnp.repeat(jnp.repeat(c, 2, 1), 2, 2)
        y = jax.nn.relu(conv(jnp.concatenate([a, up], -1), p["wd"]))
        return conv(y, p["whead"])

    shapes = {"wa": s(3, 3, 3, n), "wb": s(3, 3, n, n), "wc": s(3, 3, n, n)}
    last = {"wd": s(3, 3, 2 * n, n), "whead": s(1, 1, n, 4)}
    return run, shapes | last, data(B, IMAGE, IMAGE, 3)


@network
def lstm(n: int) -> Any:
    def run(p: Any, x: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            h, c = carry
            i, f, g, o = jnp.split(x @ p["win"] + h @ p["wh"], 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), None

        zeros = jnp.zeros((x.shape[1], n))
        (h, _), _ = jax.lax.scan(step, (zeros, zeros), x)
        return h @ p["whead"]

    return (
        run,
        {"win": s(n, 4 * n), "wh": s(n, 4 * n), "whead": s(n, 64)},
        (data(8, 16, n)),
    )


# --- prediction and measurement -------------------------------------------------------


def predict(build: Any, n: int) -> Any:
    run, shapes, batch = build(n)
    return signal.predict(run, shapes, batch, rules=RULES)


def powers(records: Any) -> Any:
    """Of what the taps saw the sums of squares alone, so that no others are taken."""
    return {k: {"power": sums["power"]} for k, sums in records.items()}


def measure(build: Any, n: int, seeds: int) -> np.ndarray:
    """Squares of rms of outputs and gradients: (seeds, rows, 2)."""
    run, shapes, batch = build(n)
    traced = Traced(run, (shapes, batch), {}, values=False)
    zeros = jax.tree.map(jnp.asarray, traced.probes)

    @jax.jit
    def both_ways(leaves: Any, key: jax.Array) -> Any:
        def objective(probes: Any) -> Any:
            out, records = traced.run(leaves, traced.given.arrays, probes)
            seen = jnp.vdot(jax.random.normal(key, out.shape), out)
            return seen, powers(records)

        return jax.grad(objective, has_aux=True)(zeros)

    found = []
    for seed in range(seeds):
        weights, back = jax.random.split(jax.random.key(seed))
        drawn = jaxinit.init_tree(weights, shapes, RULES, layers=traced.network)
        slopes, records = jax.device_get(both_ways(jax.tree.leaves(drawn), back))
        found.append(
            [
                [rms(sums["power"], row.count) ** 2 for sums in (row.record, row.back)]
                for row in traced.observations(records, slopes)
            ]
        )
    return np.asarray(found, np.float64)


def ratios(build: Any, n: int, seeds: int = 16) -> list[tuple[str, str, Any, Any]]:
    """Predicted over measured rms of each row, with its standard error, both ways."""
    found, predicted = measure(build, n, seeds), predict(build, n)
    mean = found.mean(0)
    error = found.std(0, ddof=1) / math.sqrt(seeds) / (2 * mean)
    return [
        (
            row.path,
            row.note or row.grad_note,
            (row.rms / math.sqrt(mean[k, 0]), error[k, 0]),
            (row.grad_rms / math.sqrt(mean[k, 1]), error[k, 1]),
        )
        for k, row in enumerate(predicted.rows)
    ]


def worst(rows: Any, way: int) -> str:
    """The row that is furthest off, in percent, with its standard error."""
    ratio, error = max((row[way] for row in rows), key=lambda x: abs(x[0] - 1))
    return f"{100 * (ratio - 1):+.1f} ± {100 * error:.1f}"


if __name__ == "__main__":
    wanted = [int(x) for x in sys.argv[1:] if x.isdigit()] or [256]
    names = [x for x in sys.argv[1:] if not x.isdigit()] or list(NETWORKS)
    print("| network |", *(f"{way} {n} |" for n in wanted for way in ("→", "←")))
    print("| --- |", *("---: |" for _ in range(2 * len(wanted))))
    for name in names:
        found = [ratios(NETWORKS[name], n) for n in wanted]
        cells = [f"{worst(rows, way)} |" for rows in found for way in (2, 3)]
        print(f"| {name} |", *cells, flush=True)
