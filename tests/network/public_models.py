# SPDX-License-Identifier: Apache-2.0
"""Public architectures, small, with their weights laid out as their authors do."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tests.network.models import attention, ids, model, norm, rms, s

T, D, H, V = 6, 24, 4, 40  # time, width, heads, vocabulary


def heads(x: jax.Array, count: int = H) -> jax.Array:
    return x.reshape(*x.shape[:2], count, -1)


def flat(x: jax.Array) -> jax.Array:
    return x.reshape(*x.shape[:2], -1)


@model(parts={f"blocks/{k}/w_qkv": (D, D, D) for k in range(2)}, tied="e_tokens")
def gpt2() -> Any:
    """Weights are stored (out, in), and the head is the table of tokens."""
    block = {
        "g1": s(D), "b1": s(D), "w_qkv": s(3 * D, D), "b_qkv": s(3 * D),
        "w_out": s(D, D), "b_out": s(D), "g2": s(D), "b2": s(D),
        "w_up": s(4 * D, D), "b_up": s(4 * D), "w_down": s(D, 4 * D), "b_down": s(D),
    }  # fmt: skip
    params = {
        "e_tokens": s(V, D), "e_places": s(T, D),
        "blocks": [block, block], "g": s(D), "b": s(D),
    }  # fmt: skip

    def conv1d(x: Any, w: Any, b: Any) -> Any:
        return lax.dot_general(x, w.transpose(), (((2,), (0,)), ((), ()))) + b

    def run(p: Any, tokens: Any) -> Any:
        places = jnp.broadcast_to(jnp.arange(T)[None], tokens.shape)
        x = jnp.take(p["e_tokens"], tokens, axis=0)
        x = x + jnp.take(p["e_places"], places, axis=0)
        for q in p["blocks"]:
            y = conv1d(norm(x, q["g1"], q["b1"]), q["w_qkv"], q["b_qkv"])
            y = flat(attention(*map(heads, jnp.split(y, 3, axis=2))))
            x = x + conv1d(y, q["w_out"], q["b_out"])
            y = conv1d(norm(x, q["g2"], q["b2"]), q["w_up"], q["b_up"])
            x = x + conv1d(jax.nn.gelu(y), q["w_down"], q["b_down"])
        return norm(x, p["g"], p["b"]) @ p["e_tokens"].T

    return run, params, ids(2, T)


@model(tied="e_tokens")
def bert() -> Any:
    """Normalised after each addition."""
    square = {"w": s(D, D), "b": s(D)}
    block = {
        "query": square, "key": square, "value": square, "out": square,
        "up": {"w": s(D, 4 * D), "b": s(4 * D)}, "down": {"w": s(4 * D, D), "b": s(D)},
        "g1": s(D), "b1": s(D), "g2": s(D), "b2": s(D),
    }  # fmt: skip
    params = {
        "e_tokens": s(V, D), "e_kinds": s(2, D), "e_places": s(T, D),
        "g": s(D), "b": s(D), "blocks": [block, block],
        "pooler": square, "transform": square, "bias": s(V),
    }  # fmt: skip

    def dense(p: Any, x: Any) -> Any:
        return x @ p["w"] + p["b"]

    def run(p: Any, tokens: Any, kinds: Any) -> Any:
        x = p["e_tokens"][tokens] + p["e_kinds"][kinds]
        x = norm(x + p["e_places"][jnp.arange(T)], p["g"], p["b"])
        for q in p["blocks"]:
            y = (heads(dense(q[name], x)) for name in ("query", "key", "value"))
            y = dense(q["out"], flat(attention(*y)))
            x = norm(x + y, q["g1"], q["b1"])
            y = dense(q["down"], jax.nn.gelu(dense(q["up"], x), approximate=False))
            x = norm(x + y, q["g2"], q["b2"])
        pooled = jnp.tanh(dense(p["pooler"], x[:, 0]))
        hidden = jax.nn.gelu(dense(p["transform"], x), approximate=False)
        return hidden @ p["e_tokens"].T + p["bias"], pooled

    return run, params, ids(2, T), ids(2, T)


@model(tied="e_shared", calls={"e_shared": 2})
def t5() -> Any:
    """Encoder and decoder share a table; positions are a bias to the scores."""
    attend = {"w_q": s(D, D), "w_k": s(D, D), "w_v": s(D, D), "w_o": s(D, D)}
    mlp = {"w_gate": s(D, 48), "w_up": s(D, 48), "w_down": s(48, D)}
    params = {
        "e_shared": s(V, D), "e_bias": s(8, H),
        "encoder": {"own": attend, "mlp": mlp, "g": [s(D), s(D), s(D)]},
        "decoder": {"own": attend, "cross": attend, "mlp": mlp,
                    "g": [s(D), s(D), s(D), s(D)]},
    }  # fmt: skip

    def attended(p: Any, x: Any, memory: Any, bias: Any = None) -> Any:
        q, k, v = (
            heads(y @ p[n]) for y, n in ((x, "w_q"), (memory, "w_k"), (memory, "w_v"))
        )
        return flat(attention(q, k, v, bias)) @ p["w_o"]

    def gated(p: Any, x: Any) -> Any:
        return (jax.nn.gelu(x @ p["w_gate"]) * (x @ p["w_up"])) @ p["w_down"]

    def run(p: Any, tokens: Any, targets: Any) -> Any:
        apart = jnp.arange(T)[:, None] - jnp.arange(T)
        bias = p["e_bias"][jnp.clip(apart, 0, 7)].transpose(2, 0, 1)[None]
        x, q = p["e_shared"][tokens], p["encoder"]
        y = rms(x, q["g"][0])
        x = x + attended(q["own"], y, y, bias)
        x = x + gated(q["mlp"], rms(x, q["g"][1]))
        memory = rms(x, q["g"][2])
        x, q = p["e_shared"][targets], p["decoder"]
        y = rms(x, q["g"][0])
        x = x + attended(q["own"], y, y)
        x = x + attended(q["cross"], rms(x, q["g"][1]), memory)
        x = x + gated(q["mlp"], rms(x, q["g"][2]))
        return rms(x, q["g"][3]) * D**-0.5 @ p["e_shared"].T

    return run, params, ids(2, T), ids(2, T)


def rotated(x: jax.Array) -> jax.Array:
    half = x.shape[-1] // 2
    angles = jnp.arange(x.shape[1])[:, None] / 100 ** (jnp.arange(half) / half)
    sin, cos = jnp.sin(angles)[None, :, None], jnp.cos(angles)[None, :, None]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


@model(
    parts={"blocks/w_kv": (12, 12), "blocks/w_mlp": (48, 48)},
)
def llama() -> Any:
    """A rematerialised loop; keys and values of two heads, and both gates, fused."""
    n, kv = 3, 2
    block = {
        "g1": s(n, D), "w_q": s(n, D, D), "w_kv": s(n, D, 2 * kv * 6),
        "w_o": s(n, D, D), "g2": s(n, D), "w_mlp": s(n, D, 96), "w_down": s(n, 48, D),
    }  # fmt: skip
    params = {"e": s(V, D), "blocks": block, "g": s(D), "w_head": s(D, V)}

    @jax.checkpoint
    def step(x: Any, p: Any) -> Any:
        y = rms(x, p["g1"])
        k, v = jnp.split(y @ p["w_kv"], 2, axis=-1)
        q, k, v = rotated(heads(y @ p["w_q"])), rotated(heads(k, kv)), heads(v, kv)
        k, v = (jnp.repeat(each, H // kv, axis=2) for each in (k, v))
        x = x + flat(attention(q, k, v)) @ p["w_o"]
        gate, up = jnp.split(rms(x, p["g2"]) @ p["w_mlp"], 2, axis=-1)
        return x + (jax.nn.silu(gate) * up) @ p["w_down"], None

    def run(p: Any, tokens: Any) -> Any:
        x, _ = lax.scan(step, p["e"][tokens], p["blocks"])
        return rms(x, p["g"]) @ p["w_head"]

    return run, params, ids(2, T)


@model(tied="e", parts={"w_kv": (1, 1), "w_gate": (1, 1)})
def gemma() -> Any:
    """Every product an einsum; two kernels of a pair are stacked, not side by side."""
    params = {
        "e": s(V, D), "g1": s(D), "w_q": s(H, D, 6), "w_kv": s(2, 2, D, 6),
        "w_o": s(H, 6, D), "g2": s(D), "w_gate": s(2, D, 48), "w_down": s(48, D),
        "g": s(D),
    }  # fmt: skip

    def run(p: Any, tokens: Any) -> Any:
        x = p["e"][(tokens,)] * D**0.5
        y = rms(x, 1 + p["g1"])
        q = jnp.einsum("BTD,NDH->BTNH", y, p["w_q"])
        k, v = jnp.einsum("BSD,CKDH->CBSKH", y, p["w_kv"])
        q = rotated(q).reshape(2, T, 2, 2, 6)
        scores = jnp.einsum("BTKGH,BSKH->BTKGS", q, rotated(k))
        y = jnp.einsum("BTKGS,BSKH->BTKGH", jax.nn.softmax(scores), v)
        x = x + jnp.einsum("BTNH,NHD->BTD", y.reshape(2, T, H, 6), p["w_o"])
        gate, up = jnp.einsum("BTD,CDF->CBTF", rms(x, 1 + p["g2"]), p["w_gate"])
        x = x + (jax.nn.gelu(gate) * up) @ p["w_down"]
        return jnp.dot(rms(x, 1 + p["g"]), p["e"].T)

    return run, params, ids(2, T)


@model()
def v_moe() -> Any:
    """Experts take what a router hands them, by products with its plan."""
    n, c = 4, 3
    params = {
        "w_patch": s(4, 4, 3, D), "b_patch": s(D), "t": s(1, 16, D),
        "g": s(D), "b": s(D), "w_router": s(D, n),
        "w_up": s(n, D, 48), "b_up": s(n, 1, 48), "w_down": s(n, 48, D),
        "w_head": s(D, 10),
    }  # fmt: skip

    def run(p: Any, x: Any) -> Any:
        x = lax.conv_general_dilated(
            x, p["w_patch"], (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = (x + p["b_patch"]).reshape(2, 16, D) + p["t"]
        y = norm(x, p["g"], p["b"])
        gates = jax.nn.softmax(y @ p["w_router"])
        plan = (
            jax.nn.one_hot(jnp.argmax(gates, -1), n)[..., None]
            * jax.nn.one_hot(jnp.argsort(gates[..., 0]) % c, c)[:, :, None]
        )
        z = jnp.einsum("bsd,bsec->ebcd", y, plan).reshape(n, 2 * c, D)
        z = jax.nn.gelu(jnp.einsum("etd,edf->etf", z, p["w_up"]) + p["b_up"])
        z = jnp.einsum("etf,efd->etd", z, p["w_down"]).reshape(n, 2, c, D)
        x = x + jnp.einsum("ebcd,bsec->bsd", z, plan * gates[..., None])
        return x.mean(1) @ p["w_head"]

    return run, params, s(2, 16, 16, 3)


@model()
def mixtral() -> Any:
    """Rows sorted by their experts, and one ragged product for all of them."""
    n = 4
    params = {
        "e": s(V, D), "w_router": s(D, n), "w_gate": s(n, D, 48), "w_up": s(n, D, 48),
        "w_down": s(n, 48, D), "w_head": s(D, V),
    }  # fmt: skip

    def run(p: Any, tokens: Any) -> Any:
        x = p["e"][tokens].reshape(-1, D)
        chosen = jnp.argmax(x @ p["w_router"], axis=-1)
        order = jnp.argsort(chosen)
        sizes = jnp.bincount(chosen, length=n)
        y = x[order]
        y = jax.nn.silu(lax.ragged_dot(y, p["w_gate"], sizes)) * lax.ragged_dot(
            y, p["w_up"], sizes
        )
        y = lax.ragged_dot(y, p["w_down"], sizes)
        return (x + y[jnp.argsort(order)]) @ p["w_head"]

    return run, params, ids(2, T)


@model()
def mixer() -> Any:
    """Layers over the places, then over the features."""
    mlp = {"w1": s(16, 32), "b1": s(32), "w2": s(32, 16), "b2": s(16)}
    wide = {"w1": s(D, 48), "b1": s(48), "w2": s(48, D), "b2": s(D)}
    block = {
        "g1": s(D),
        "b1": s(D),
        "g2": s(D),
        "b2": s(D),
        "places": mlp,
        "features": wide,
    }
    params = {"w": s(48, D), "b": s(D), "blocks": [block, block], "w_head": s(D, 10)}

    def dense(p: Any, x: Any) -> Any:
        return jax.nn.gelu(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]

    def run(p: Any, x: Any) -> Any:
        x = x.reshape(2, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 16, 48)
        x = x @ p["w"] + p["b"]
        for q in p["blocks"]:
            y = norm(x, q["g1"], q["b1"]).swapaxes(1, 2)
            x = x + dense(q["places"], y).swapaxes(1, 2)
            x = x + dense(q["features"], norm(x, q["g2"], q["b2"]))
        return x.mean(1) @ p["w_head"]

    return run, params, s(2, 16, 16, 3)


def conv(x: Any, w: Any, stride: int = 1, padding: Any = "SAME", **options: Any) -> Any:
    """A convolution of channels last, in one or two dimensions."""
    numbers = {3: ("NWC", "WIO", "NWC"), 4: ("NHWC", "HWIO", "NHWC")}[x.ndim]
    strides = (stride,) * (x.ndim - 2)
    return lax.conv_general_dilated(
        x, w, strides, padding, dimension_numbers=numbers, **options
    )


@model(invariant=" ".join(f"w{k}" for k in range(6)))
def bit() -> Any:
    """Kernels are standardised, and so indifferent to their own scale."""
    params = {
        "w0": s(3, 3, 3, 8), "w1": s(3, 3, 8, 8), "w2": s(3, 3, 8, 8),
        "w3": s(1, 1, 8, 16), "w4": s(3, 3, 8, 16), "w5": s(3, 3, 16, 16),
        "g": [s(8), s(8), s(8), s(16), s(16)], "b": [s(8), s(8), s(8), s(16), s(16)],
        "w_head": s(16, 10), "b_head": s(10),
    }  # fmt: skip

    def standard(w: Any) -> Any:
        w = w - jnp.mean(w, axis=(0, 1, 2))
        return w / jnp.sqrt(jnp.var(w, axis=(0, 1, 2)) + 1e-10)

    def grouped(x: Any, p: Any, k: int) -> Any:
        y = x.reshape(*x.shape[:-1], 4, -1)
        y = norm(y, axis=(1, 2, 4)).reshape(x.shape)
        return jax.nn.relu(y * p["g"][k] + p["b"][k])

    def run(p: Any, x: Any) -> Any:
        x = conv(x, standard(p["w0"]))
        y = conv(grouped(x, p, 0), standard(p["w1"]))
        x = x + conv(grouped(y, p, 1), standard(p["w2"]))
        y = grouped(x, p, 2)
        short = conv(y, standard(p["w3"]), 2)
        y = conv(y, standard(p["w4"]), 2)
        x = short + conv(grouped(y, p, 3), standard(p["w5"]))
        return grouped(x, p, 4).mean((1, 2)) @ p["w_head"] + p["b_head"]

    return run, params, s(2, 8, 8, 3)


@model(invariant="blocks/0/w_depth blocks/1/w_depth")
def convnext() -> Any:
    """A depthwise convolution, and a scale at the end of each branch."""
    block = {
        "w_depth": s(7, 7, 1, 8), "b_depth": s(8), "g": s(8), "b": s(8),
        "w_up": s(8, 32), "b_up": s(32), "w_down": s(32, 8), "b_down": s(8),
        "g_end": s(8),
    }  # fmt: skip
    params = {
        "w_stem": s(4, 4, 3, 8), "b_stem": s(8), "blocks": [block, block],
        "g": s(8), "b": s(8), "w_next": s(2, 2, 8, 16), "w_head": s(16, 10),
    }  # fmt: skip

    def run(p: Any, x: Any) -> Any:
        x = conv(x, p["w_stem"], 4, "VALID") + p["b_stem"]
        for q in p["blocks"]:
            y = conv(x, q["w_depth"], feature_group_count=8) + q["b_depth"]
            y = norm(y, q["g"], q["b"]) @ q["w_up"] + q["b_up"]
            y = jax.nn.gelu(y) @ q["w_down"] + q["b_down"]
            x = x + q["g_end"] * y
        x = conv(norm(x, p["g"], p["b"]), p["w_next"], 2, "VALID")
        return x.mean((1, 2)) @ p["w_head"]

    return run, params, s(2, 16, 16, 3)


@model()
def u_net() -> Any:
    """Of channels first, with kernels (out, in, height, width)."""
    params = {
        "w1": s(4, 3, 3, 3), "w2": s(8, 4, 3, 3), "w3": s(8, 8, 3, 3),
        "w_up1": s(8, 8, 2, 2), "w4": s(8, 16, 3, 3), "w_up2": s(4, 8, 2, 2),
        "w5": s(4, 8, 3, 3), "w_out": s(2, 4, 1, 1), "b_out": s(2, 1, 1),
    }  # fmt: skip

    def conv(x: Any, w: Any) -> Any:
        return lax.conv(x, w, (1, 1), "SAME")

    def up(x: Any, w: Any) -> Any:
        return lax.conv_transpose(
            x, w, (2, 2), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW")
        )

    def pool(x: Any) -> Any:
        return lax.reduce_window(
            x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"
        )

    def run(p: Any, x: Any) -> Any:
        a = jax.nn.relu(conv(x, p["w1"]))
        b = jax.nn.relu(conv(pool(a), p["w2"]))
        c = jax.nn.relu(conv(pool(b), p["w3"]))
        y = jnp.concatenate([up(c, p["w_up1"]), b], 1)
        y = jax.nn.relu(conv(y, p["w4"]))
        y = jnp.concatenate([up(y, p["w_up2"]), a], 1)
        return conv(jax.nn.relu(conv(y, p["w5"])), p["w_out"]) + p["b_out"]

    return run, params, s(2, 3, 8, 8)


@model(invariant="w0")
def densenet() -> Any:
    """Each layer takes the concatenation of all before it; batch statistics."""
    n, grow = 3, 4
    params = {
        "w0": s(3, 3, 3, 8), "w": [s(3, 3, 8 + grow * k, grow) for k in range(n)],
        "g": [s(8 + grow * k) for k in range(n)],
        "b": [s(8 + grow * k) for k in range(n)],
        "w_head": s(8 + grow * n, 10),
    }  # fmt: skip

    def run(p: Any, x: Any) -> Any:
        x = norm(conv(x, p["w0"]), axis=(0, 1, 2))
        for w, g, b in zip(p["w"], p["g"], p["b"], strict=True):
            y = conv(jax.nn.relu(norm(x, g, b, axis=(0, 1, 2))), w)
            x = jnp.concatenate([x, y], axis=-1)
        return x.mean((1, 2)) @ p["w_head"]

    return run, params, s(2, 8, 8, 3)


@model(
    parts={"w_in": (48, 48), "w_x": (3, 4, 4)},
    ends={"a_log": "exp"},
)
def mamba() -> Any:
    """A selective scan: the steps, and what goes in and out, are read from the data."""
    inner, state, rank = 48, 4, 3
    params = {
        "e": s(V, D), "g": s(D), "w_in": s(D, 2 * inner), "w_conv": s(4, 1, inner),
        "b_conv": s(inner), "w_x": s(inner, rank + 2 * state), "w_dt": s(rank, inner),
        "b_dt": s(inner), "a_log": s(inner, state), "g_d": s(inner),
        "w_out": s(inner, D), "w_head": s(D, V),
    }  # fmt: skip

    def run(p: Any, tokens: Any) -> Any:
        x = p["e"][tokens]
        u, z = jnp.split(rms(x, p["g"]) @ p["w_in"], 2, axis=-1)
        u = conv(u, p["w_conv"], padding=[(3, 0)], feature_group_count=inner)
        u = jax.nn.silu(u + p["b_conv"])
        dt, b, c = jnp.split(u @ p["w_x"], [rank, rank + state], axis=-1)
        dt = jax.nn.softplus(dt @ p["w_dt"] + p["b_dt"])
        kept = jnp.exp(dt[..., None] * -jnp.exp(p["a_log"]))
        put = (dt * u)[..., None] * b[:, :, None]

        def step(h: Any, each: Any) -> Any:
            kept, put, c = each
            h = kept * h + put
            return h, jnp.einsum("bds,bs->bd", h, c)

        first = jnp.zeros((2, inner, state))
        over = [each.swapaxes(0, 1) for each in (kept, put, c)]
        _, y = lax.scan(step, first, over)
        y = (y.swapaxes(0, 1) + u * p["g_d"]) * jax.nn.silu(z)
        return (x + y @ p["w_out"]) @ p["w_head"]

    return run, params, ids(2, T)


@model()
def lora() -> Any:
    """Factors beside a kernel, and merged with one."""
    params = {
        "first": {"w": s(D, 48), "w_a": s(D, 4), "w_b": s(4, 48)},
        "second": {"w": s(48, D), "w_a": s(48, 4), "w_b": s(4, D)},
    }

    def run(p: Any, x: Any) -> Any:
        q = p["first"]
        x = jax.nn.relu(x @ q["w"] + 0.5 * (x @ q["w_a"] @ q["w_b"]))
        q = p["second"]
        return x @ (q["w"] + 0.5 * (q["w_a"] @ q["w_b"]))

    return run, params, s(2, D)


@model()
def wavenet() -> Any:
    """Dilated and causal; gates of tanh and sigmoid; the sum of all skips."""
    layer = {
        "w_filter": s(2, 8, 8), "w_gate": s(2, 8, 8), "w_skip": s(1, 8, 12),
        "w_residual": s(1, 8, 8), "b": s(8),
    }  # fmt: skip
    params = {
        "w_in": s(2, 1, 8), "layers": [layer] * 3, "w1": s(1, 12, 12),
        "w2": s(1, 12, 16),
    }  # fmt: skip

    def causal(x: Any, w: Any, gap: int = 1) -> Any:
        pad = [(gap * (w.shape[0] - 1), 0)]
        return conv(x, w, padding=pad, rhs_dilation=(gap,))

    def run(p: Any, x: Any) -> Any:
        x, skips = causal(x, p["w_in"]), []
        for k, q in enumerate(p["layers"]):
            gap = 2**k
            y = jnp.tanh(causal(x, q["w_filter"], gap) + q["b"])
            y = y * jax.nn.sigmoid(causal(x, q["w_gate"], gap))
            skips.append(causal(y, q["w_skip"]))
            x = x + causal(y, q["w_residual"])
        y = jax.nn.relu(sum(skips))
        return causal(jax.nn.relu(causal(y, p["w1"])), p["w2"])

    return run, params, s(2, 16, 1)


@model(ends={"decay": "exp", "first": "exp"})
def rwkv() -> Any:
    """Mixed with the step before; attention without scores, in a loop over time."""
    params = {
        "e": s(V, D), "g1": s(D), "b1": s(D), "g2": s(D), "b2": s(D),
        "g_k": s(D), "g_v": s(D), "g_r": s(D), "decay": s(D), "first": s(D),
        "w_k": s(D, D), "w_v": s(D, D), "w_r": s(D, D), "w_o": s(D, D),
        "w_key": s(D, 96), "w_value": s(96, D), "w_gate": s(D, D), "w_head": s(D, V),
    }  # fmt: skip

    def run(p: Any, tokens: Any) -> Any:
        x = p["e"][tokens]
        y = norm(x, p["g1"], p["b1"])
        past = jnp.pad(y, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        k, v, r = (
            (y * p[f"g_{n}"] + past * (1 - p[f"g_{n}"])) @ p[f"w_{n}"] for n in "kvr"
        )
        decay, first = jnp.exp(-jnp.exp(p["decay"])), jnp.exp(p["first"])

        def step(carry: Any, each: Any) -> Any:
            a, b = carry
            k, v = each
            out = (a + first * jnp.exp(k) * v) / (b + first * jnp.exp(k))
            return (decay * a + jnp.exp(k) * v, decay * b + jnp.exp(k)), out

        zero = jnp.zeros((2, D))
        _, y = lax.scan(step, (zero, zero), (k.swapaxes(0, 1), v.swapaxes(0, 1)))
        x = x + (jax.nn.sigmoid(r) * y.swapaxes(0, 1)) @ p["w_o"]
        y = norm(x, p["g2"], p["b2"])
        value = jnp.square(jax.nn.relu(y @ p["w_key"])) @ p["w_value"]
        return (x + jax.nn.sigmoid(y @ p["w_gate"]) * value) @ p["w_head"]

    return run, params, ids(2, T)


@model(ends={"a": "max"}, parts={"w_gate": (1, 1)})
def griffin() -> Any:
    """A linear recurrence behind gates of blocks on the diagonal."""
    blocks, block = 4, 6
    params = {
        "e": s(V, D), "g1": s(D), "w_x": s(D, D), "w_y": s(D, D), "b_y": s(D),
        "w_conv": s(4, 1, D), "w_in": s(blocks, block, block), "b_in": s(blocks, block),
        "w_a": s(blocks, block, block), "b_a": s(blocks, block), "a": s(D),
        "w_out": s(D, D), "g2": s(D), "w_gate": s(2, D, 48), "w_down": s(48, D),
    }  # fmt: skip

    def diagonal(x: Any, w: Any, b: Any) -> Any:
        x = x.reshape(*x.shape[:-1], blocks, block)
        y = jnp.einsum("...hi,hij->...hj", x, w) + b
        return jax.nn.sigmoid(y).reshape(*y.shape[:-2], D)

    def run(p: Any, tokens: Any) -> Any:
        x = p["e"][tokens]
        z = rms(x, p["g1"])
        y, z = jax.nn.gelu(z @ p["w_y"] + p["b_y"]), z @ p["w_x"]
        z = conv(z, p["w_conv"], padding=[(3, 0)], feature_group_count=D)
        gate = diagonal(z, p["w_a"], p["b_a"])
        log = -8.0 * gate * jax.nn.softplus(p["a"])
        put = z * diagonal(z, p["w_in"], p["b_in"]) * jnp.sqrt(1 - jnp.exp(2 * log))

        def both(one: Any, other: Any) -> Any:
            return one[0] * other[0], other[0] * one[1] + other[1]

        _, h = lax.associative_scan(both, (jnp.exp(log), put), axis=1)
        x = x + (h * y) @ p["w_out"]
        gate, up = jnp.einsum("btd,cdf->cbtf", rms(x, p["g2"]), p["w_gate"])
        return x + (jax.nn.gelu(gate) * up) @ p["w_down"]

    return run, params, ids(2, T)


@model(calls={"w_h": T, "w_back": T})
def deep_speech() -> Any:
    """A strided convolution over time and a recurrence in both directions."""
    params = {
        "w_conv": s(5, 12, D), "b_conv": s(D), "w_x": s(D, D), "b_x": s(D),
        "w_h": s(D, D), "w_y": s(D, D), "w_back": s(D, D), "w_head": s(D, V),
        "b_head": s(V),
    }  # fmt: skip

    def clipped(x: Any) -> Any:
        return jnp.minimum(jax.nn.relu(x), 20.0)

    def recurrent(x: Any, w: Any, reverse: bool) -> Any:
        def step(h: Any, x: Any) -> Any:
            h = clipped(x + h @ w)
            return h, h

        start = jnp.zeros((2, D))
        return lax.scan(step, start, x.swapaxes(0, 1), reverse=reverse)[1].swapaxes(
            0, 1
        )

    def run(p: Any, x: Any) -> Any:
        x = clipped(conv(x, p["w_conv"], 2) + p["b_conv"])
        forward = recurrent(x @ p["w_x"] + p["b_x"], p["w_h"], False)
        backward = recurrent(x @ p["w_y"], p["w_back"], True)
        return jax.nn.log_softmax((forward + backward) @ p["w_head"] + p["b_head"])

    return run, params, s(2, 2 * T, 12)


@model(invariant="w w1")
def dcgan() -> Any:
    """From noise to an image, by transposed convolutions of stride 2."""
    params = {
        "w": s(12, 4 * 4 * 16), "g": [s(16), s(8)], "b": [s(16), s(8)],
        "w1": s(4, 4, 16, 8), "w2": s(4, 4, 8, 3),
    }  # fmt: skip

    def up(x: Any, w: Any) -> Any:
        return lax.conv_transpose(x, w, (2, 2), "SAME")

    def run(p: Any, z: Any) -> Any:
        x = (z @ p["w"]).reshape(2, 4, 4, 16)
        x = jax.nn.relu(norm(x, p["g"][0], p["b"][0], axis=(0, 1, 2)))
        x = norm(up(x, p["w1"]), p["g"][1], p["b"][1], axis=(0, 1, 2))
        return jnp.tanh(up(jax.nn.relu(x), p["w2"]))

    return run, params, s(2, 12)


@model(parts={"w_out": (1, 32)})
def nerf() -> Any:
    """Encoded places come in again half-way; density and features leave together."""
    params = {
        "w": [s(15, 32), s(32, 32), s(47, 32)], "b": [s(32)] * 3, "w_out": s(32, 33),
        "w_colour": s(32, 3),
    }  # fmt: skip

    def run(p: Any, x: Any) -> Any:
        encoded = jnp.concatenate(
            [x, *[f(2.0**k * x) for k in range(2) for f in (jnp.sin, jnp.cos)]], -1
        )
        h = encoded
        for k, (w, b) in enumerate(zip(p["w"], p["b"], strict=True)):
            h = jax.nn.relu(
                (jnp.concatenate([h, encoded], -1) if k == 2 else h) @ w + b
            )
        out = h @ p["w_out"]
        return jax.nn.softplus(out[:, :1]), jax.nn.sigmoid(out[:, 1:] @ p["w_colour"])

    return run, params, s(7, 3)


@model()
def siren() -> Any:
    """Sines all the way; the first of a higher frequency."""
    params = {"w": [s(2, 32), s(32, 32), s(32, 1)], "b": [s(32), s(32), s(1)]}

    def run(p: Any, x: Any) -> Any:
        first, second, last = zip(p["w"], p["b"], strict=True)
        x = jnp.sin(30.0 * (x @ first[0] + first[1]))
        x = jnp.sin(30.0 * (x @ second[0] + second[1]))
        return x @ last[0] + last[1]

    return run, params, s(7, 2)


@model(
    parts={
        **{f"blocks/{k}/w_mod": (D,) * 6 for k in range(2)},
        **{f"blocks/{k}/w_qkv": (1, 1, 1) for k in range(2)},
    }
)
def dit() -> Any:
    """A condition shifts and scales each norm, and gates each branch."""
    block = {
        "w_mod": s(D, 6 * D), "b_mod": s(6 * D), "w_qkv": s(D, 3, H, 6),
        "w_out": s(H, 6, D), "w_up": s(D, 48), "w_down": s(48, D),
    }  # fmt: skip
    params = {"w_in": s(12, D), "w_time": s(8, D), "blocks": [block] * 2, "w": s(D, 12)}

    def run(p: Any, x: Any, time: Any) -> Any:
        x, c = x @ p["w_in"], jax.nn.silu(time @ p["w_time"])
        for q in p["blocks"]:
            mod = (c @ q["w_mod"] + q["b_mod"])[:, None]
            shift, scale, gate, shift2, scale2, gate2 = jnp.split(mod, 6, axis=-1)
            y = norm(x) * (1 + scale) + shift
            q_, k, v = jnp.einsum("btd,dchk->cbthk", y, q["w_qkv"])
            y = jnp.einsum("bthk,hkd->btd", attention(q_, k, v), q["w_out"])
            x = x + gate * y
            y = jax.nn.gelu((norm(x) * (1 + scale2) + shift2) @ q["w_up"])
            x = x + gate2 * (y @ q["w_down"])
        return norm(x) @ p["w"]

    return run, params, s(2, T, 12), s(2, 8)


@model(parts={"w_t4": (16, 16)}, invariant="w1 w4")
def diffusion() -> Any:
    """Residual blocks that are told the time, in two ways; one squeezed and excited."""
    params = {
        "w_time": s(8, 16), "w0": s(3, 3, 3, 8), "w1": s(3, 3, 8, 16),
        "w_t1": s(16, 16), "w2": s(3, 3, 16, 16), "w_short": s(1, 1, 8, 16),
        "w4": s(3, 3, 16, 16), "w_t4": s(16, 32), "w_squeeze": s(16, 4),
        "w_excite": s(4, 16), "w5": s(3, 3, 16, 16), "w_end": s(3, 3, 16, 3),
    }  # fmt: skip

    def run(p: Any, x: Any, time: Any) -> Any:
        x, c = conv(x, p["w0"]), jax.nn.silu(time @ p["w_time"])
        y = conv(jax.nn.silu(norm(x)), p["w1"])
        y = norm(y) + (c @ p["w_t1"])[:, None, None]
        x = conv(x, p["w_short"]) + conv(jax.nn.silu(y), p["w2"])
        y = conv(jax.nn.silu(norm(x)), p["w4"])
        scale, shift = jnp.split((c @ p["w_t4"])[:, None, None], 2, axis=-1)
        y = jax.nn.silu(norm(y) * (1 + scale) + shift)
        gate = jax.nn.relu(y.mean((1, 2)) @ p["w_squeeze"]) @ p["w_excite"]
        y = y * jax.nn.sigmoid(gate)[:, None, None]
        return conv(x + conv(y, p["w5"]), p["w_end"])

    return run, params, s(2, 8, 8, 3), s(2, 8)
