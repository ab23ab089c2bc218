# SPDX-License-Identifier: Apache-2.0
"""The forms in which weights meet data: fused, stacked, tied, mapped, in loops."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tests.network.models import attention, ids, model, s

D, H = 24, 4


@model()
def perceptron() -> Any:
    params = {"w1": s(D, 48), "b1": s(48), "w2": s(48, 10), "b2": s(10)}

    def run(p: Any, x: Any) -> Any:
        return jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]

    return run, params, s(5, D)


@model()
def transposed() -> Any:
    """Weights (out, in), on either side of the product."""
    params = {"w1": s(48, D), "w2": s(10, 48), "w3": s(10, 10)}

    def run(p: Any, x: Any) -> Any:
        return p["w3"] @ jax.nn.tanh(x @ p["w1"].T @ p["w2"].T).T

    return run, params, s(5, D)


@model()
def letters() -> Any:
    """Products by letters: two axes in, two out, copies, letters of the kernel."""
    params = {
        "w1": s(4, 6, 8, 3), "w2": s(3, 8, 10), "w3": s(5, 10, 7), "g4": s(7, 5),
        "w5": s(2, 5, 6, 4),
    }  # fmt: skip

    def run(p: Any, x: Any) -> Any:
        x = jnp.einsum("bij,ijkl->blk", x, p["w1"])
        x = jnp.einsum("blk,lkm->bm", x, p["w2"])
        x = jnp.einsum("bm,tmn->tbn", x, p["w3"])
        x = jnp.einsum("tbn,nt->btn", x, p["g4"] * 1.0)
        return jnp.einsum("btn,ktmn->bkm", x[..., :4], p["w5"])

    return run, params, s(5, 4, 6)


def _qkv(params: Any, pick: Any) -> Any:
    def run(p: Any, x: Any) -> Any:
        return attention(*pick(p, x)).reshape(2, 5, D) @ p["w_out"]

    return run, {**params, "w_out": s(D, D)}, s(2, 5, D)


@model(parts={"w": (D, D, D)})
def qkv_split() -> Any:
    def pick(p: Any, x: Any) -> Any:
        return (y.reshape(2, 5, H, 6) for y in jnp.split(x @ p["w"] + p["b"], 3, -1))

    return _qkv({"w": s(D, 3 * D), "b": s(3 * D)}, pick)


@model(parts={"w": (D, D, D)})
def qkv_reshaped() -> Any:
    def pick(p: Any, x: Any) -> Any:
        y = (x @ p["w"] + p["b"]).reshape(2, 5, 3, H, 6)
        return y[:, :, 0], y[:, :, 1], y[:, :, 2]

    return _qkv({"w": s(D, 3 * D), "b": s(3 * D)}, pick)


@model(parts={"w": ((D, D, D), H)})
def qkv_interleaved() -> Any:
    """Query, key and value side by side in each head."""

    def pick(p: Any, x: Any) -> Any:
        y = (x @ p["w"]).reshape(2, 5, H, 3, 6)
        return y[..., 0, :], y[..., 1, :], y[..., 2, :]

    return _qkv({"w": s(D, 3 * D)}, pick)


@model(parts={"w": ((D, D, D), H)})
def qkv_split_in_heads() -> Any:
    def pick(p: Any, x: Any) -> Any:
        return jnp.split((x @ p["w"]).reshape(2, 5, H, 18), 3, axis=-1)

    return _qkv({"w": s(D, 3 * D)}, pick)


@model(parts={"w": (D, D, D)})
def qkv_transposed() -> Any:
    """Taken apart along a first axis, as timm's attention does."""

    def pick(p: Any, x: Any) -> Any:
        y = (x @ p["w"]).reshape(2, 5, 3, H, 6).transpose(2, 0, 1, 3, 4)
        return (y[k] for k in range(3))

    return _qkv({"w": s(D, 3 * D)}, pick)


@model(parts={"w": (D, D, D)})
def qkv_sliced() -> Any:
    def pick(p: Any, x: Any) -> Any:
        y = x @ p["w"]
        return (y[..., k * D : (k + 1) * D].reshape(2, 5, H, 6) for k in range(3))

    return _qkv({"w": s(D, 3 * D)}, pick)


@model(parts={"w": (D, D, D)})
def qkv_kernel_sliced() -> Any:
    """The kernel itself is cut, and each piece used apart."""

    def pick(p: Any, x: Any) -> Any:
        pieces = jnp.split(p["w"], 3, axis=1)
        return ((x @ w).reshape(2, 5, H, 6) for w in pieces)

    return _qkv({"w": s(D, 3 * D)}, pick)


@model()
def qkv_joined() -> Any:
    """Three kernels put together before the product."""

    def pick(p: Any, x: Any) -> Any:
        y = x @ jnp.concatenate([p["w_q"], p["w_k"], p["w_v"]], 1)
        return (each.reshape(2, 5, H, 6) for each in jnp.split(y, 3, -1))

    return _qkv({f"w_{n}": s(D, D) for n in "qkv"}, pick)


@model(parts={"w": (D, 12, 12)})
def qkv_grouped() -> Any:
    """Two heads of keys and values for four of queries."""

    def pick(p: Any, x: Any) -> Any:
        q, k, v = jnp.split(x @ p["w"], [D, D + 12], axis=-1)
        k, v = (jnp.repeat(y.reshape(2, 5, 2, 6), 2, axis=2) for y in (k, v))
        return q.reshape(2, 5, H, 6), k, v

    return _qkv({"w": s(D, D + 24)}, pick)


@model(parts={"w": (D, D, D)})
def qkv_rotated() -> Any:
    """Pairs of neighbours are turned, and put together again: no parts."""

    def turned(x: Any) -> Any:
        pairs = x.reshape(*x.shape[:-1], -1, 2)
        a, b = pairs[..., 0], pairs[..., 1]
        sin, cos = jnp.sin(jnp.arange(3.0)), jnp.cos(jnp.arange(3.0))
        both = jnp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1)
        return both.reshape(x.shape)

    def pick(p: Any, x: Any) -> Any:
        q, k, v = (y.reshape(2, 5, H, 6) for y in jnp.split(x @ p["w"], 3, -1))
        return turned(q), turned(k), v

    return _qkv({"w": s(D, 3 * D)}, pick)


@model()
def kernels_stacked() -> Any:
    """Kernels put into one array, and one product with all of them."""

    def run(p: Any, x: Any) -> Any:
        y = jnp.einsum("bd,kdf->kbf", x, jnp.stack([p["w1"], p["w2"]]))
        return jax.nn.relu(y[0]) * y[1]

    return run, {"w1": s(D, 48), "w2": s(D, 48)}, s(5, D)


@model()
def kernels_repeated() -> Any:
    """Heads of keys that several queries share, repeated in the kernel itself."""

    def run(p: Any, x: Any) -> Any:
        k = jnp.einsum("bd,dhk->bhk", x, jnp.repeat(p["w_k"], 2, axis=1))
        q = jnp.einsum("bd,dhk->bhk", x, p["w_q"])
        return (q * k) @ jnp.tile(p["w"], (3, 1))

    return run, {"w_k": s(D, 2, 6), "w_q": s(D, 4, 6), "w": s(2, 3)}, s(5, D)


@model()
def complex_kernel() -> Any:
    def run(p: Any, x: Any) -> Any:
        w = lax.complex(p["w_real"], p["w_imaginary"])
        return (x.astype(jnp.complex64) @ w).real @ p["w"]

    return run, {"w_real": s(D, 8), "w_imaginary": s(D, 8), "w": s(8, 3)}, s(5, D)


@model(parts={"w": (48, 48)})
def swiglu_split() -> Any:
    def run(p: Any, x: Any) -> Any:
        gate, up = jnp.split(x @ p["w"], 2, axis=-1)
        return (jax.nn.silu(gate) * up) @ p["w_down"]

    return run, {"w": s(D, 96), "w_down": s(48, D)}, s(5, D)


@model(parts={"w": ((48, 48), 48)})
def swiglu_interleaved() -> Any:
    """Every other feature is a gate."""

    def run(p: Any, x: Any) -> Any:
        y = x @ p["w"]
        return (jax.nn.silu(y[:, ::2]) * y[:, 1::2]) @ p["w_down"]

    return run, {"w": s(D, 96), "w_down": s(48, D)}, s(5, D)


@model(parts={"w_x": (D,) * 4, "w_h": (D,) * 4}, calls={"w_h": 5, "w_x": 5})
def lstm_fused() -> Any:
    params = {"w_x": s(12, 4 * D), "w_h": s(D, 4 * D), "b": s(4 * D), "w": s(D, 3)}

    def run(p: Any, x: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            h, c = carry
            i, f, g, o = jnp.split(x @ p["w_x"] + h @ p["w_h"] + p["b"], 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), None

        zero = jnp.zeros((2, D))
        (h, _), _ = lax.scan(step, (zero, zero), x.swapaxes(0, 1))
        return h @ p["w"]

    return run, params, s(2, 5, 12)


@model(parts={"w": (D,) * 4}, calls={"w": 5})
def lstm_of_one_kernel() -> Any:
    """The input and the state side by side, before one kernel."""
    params = {"w": s(12 + D, 4 * D), "b": s(4 * D)}

    def run(p: Any, x: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            h, c = carry
            y = jnp.concatenate([x, h], axis=-1) @ p["w"] + p["b"]
            i, f, g, o = (y[:, k * D : (k + 1) * D] for k in range(4))
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zero = jnp.zeros((2, D))
        return lax.scan(step, (zero, zero), x.swapaxes(0, 1))[0][0]

    return run, params, s(2, 5, 12)


def _block(p: Any, x: Any) -> Any:
    return x + jnp.tanh(x @ p["w1"] + p["b"]) @ p["w2"]


@model()
def scanned() -> Any:
    stack = {"w1": s(3, D, 48), "b": s(3, 48), "w2": s(3, 48, D)}

    def run(p: Any, x: Any) -> Any:
        return lax.scan(lambda x, q: (_block(q, x), None), x, p)[0]

    return run, stack, s(5, D)


@model()
def scanned_on_axis_1() -> Any:
    stack = {"w1": s(D, 3, 48), "b": s(48, 3), "w2": s(48, 3, D)}
    axes = {"w1": 1, "b": 1, "w2": 1}

    def run(p: Any, x: Any) -> Any:
        p = jax.tree.map(lambda x, axis: jnp.moveaxis(x, axis, 0), p, axes)
        return lax.scan(jax.checkpoint(lambda x, q: (_block(q, x), None)), x, p)[0]

    return run, stack, s(5, D)


@model()
def mapped() -> Any:
    """Models side by side, each on inputs of its own."""
    stack = {"w1": s(7, D, 48), "b": s(7, 48), "w2": s(7, 48, D)}
    return jax.vmap(_block), stack, s(7, 5, D)


@model()
def mapped_on_one_input() -> Any:
    stack = {"w1": s(7, D, 48), "b": s(7, 48), "w2": s(7, 48, D)}

    def run(p: Any, x: Any) -> Any:
        return jax.vmap(_block, in_axes=(0, None))(p, x)

    return run, stack, s(5, D)


@model()
def mapped_twice() -> Any:
    stack = {"w1": s(7, 2, D, 48), "b": s(7, 2, 48), "w2": s(7, 48, 2, D)}
    inner = jax.vmap(_block, in_axes=({"w1": 0, "b": 0, "w2": 1}, None))
    return jax.vmap(inner, in_axes=(0, None)), stack, s(5, D)


@model()
def scan_of_a_map() -> Any:
    """Experts, averaged, in each layer of a loop."""
    stack = {"w1": s(3, 7, D, 48), "b": s(3, 7, 48), "w2": s(3, 7, 48, D)}

    def run(p: Any, x: Any) -> Any:
        def step(x: Any, q: Any) -> Any:
            return jax.vmap(_block, in_axes=(0, None))(q, x).mean(0), None

        return lax.scan(step, x, p)[0]

    return run, stack, s(5, D)


@model()
def map_of_a_scan() -> Any:
    """An ensemble of models, each a loop over its layers."""
    stack = {"w1": s(7, 3, D, 48), "b": s(7, 3, 48), "w2": s(7, 3, 48, D)}

    def one(p: Any, x: Any) -> Any:
        return lax.scan(lambda x, q: (_block(q, x), None), x, p)[0]

    return jax.vmap(one, in_axes=(0, None)), stack, s(5, D)


@model()
def indexed() -> Any:
    """A stack whose slices are taken one by one."""
    stack = {"w1": s(3, D, 48), "b": s(3, 48), "w2": s(3, 48, D)}

    def run(p: Any, x: Any) -> Any:
        for k in range(3):
            x = _block({"w1": p["w1"][k], "b": p["b"][k], "w2": p["w2"][k]}, x)
        return x

    return run, stack, s(5, D)


@model()
def indexed_in_a_loop() -> Any:
    stack = {"w1": s(3, D, 48), "b": s(3, 48), "w2": s(3, 48, D)}

    def run(p: Any, x: Any) -> Any:
        def body(k: Any, x: Any) -> Any:
            at = functools.partial(lax.dynamic_index_in_dim, index=k, keepdims=False)
            return _block(jax.tree.map(at, p), x)

        return lax.fori_loop(0, 3, body, x)

    return run, stack, s(5, D)


@model()
def picked_by_the_data() -> Any:
    """For each example the kernel that its number names."""

    def run(p: Any, x: Any, numbers: Any) -> Any:
        return jnp.einsum("bd,bdf->bf", x, p["w"][numbers]) @ p["w_out"]

    return run, {"w": s(6, D, 48), "w_out": s(48, 3)}, s(5, D), ids(5)


@model(calls={"w": 3})
def shared() -> Any:
    """One layer three times."""

    def run(p: Any, x: Any) -> Any:
        for _ in range(3):
            x = jnp.tanh(x @ p["w"] + p["b"])
        return x @ p["w_out"]

    return run, {"w": s(D, D), "b": s(D), "w_out": s(D, 3)}, s(5, D)


@model(tied="w", calls={"w": 2})
def autoencoder() -> Any:
    """Down by a kernel, and up by its transpose."""

    def run(p: Any, x: Any) -> Any:
        return jnp.tanh(x @ p["w"] + p["b"]) @ p["w"].T + p["b_out"]

    return run, {"w": s(D, 8), "b": s(8), "b_out": s(D)}, s(5, D)


@model(one_hot="e")
def one_hot() -> Any:
    def run(p: Any, tokens: Any) -> Any:
        return jax.nn.one_hot(tokens, 40) @ p["e"] @ p["w"]

    return run, {"e": s(40, D), "w": s(D, 3)}, ids(2, 5)


@model(one_hot="e", tied="e")
def one_hot_tied() -> Any:
    def run(p: Any, tokens: Any) -> Any:
        x = jax.nn.one_hot(tokens, 40) @ p["e"].astype(jnp.bfloat16).astype(jnp.float32)
        return jnp.einsum("btd,vd->btv", jnp.tanh(x @ p["w"]), p["e"])

    return run, {"e": s(40, D), "w": s(D, D)}, ids(2, 5)


@model(invariant="w1 w2")
def weight_norm() -> Any:
    """Kernels over their own length, as a direction and a scale."""

    def run(p: Any, x: Any) -> Any:
        def normed(w: Any, g: Any) -> Any:
            return g * w / jnp.linalg.norm(w, axis=0, keepdims=True)

        x = jax.nn.relu(x @ normed(p["w1"], p["g1"]) + p["b"])
        return x @ normed(p["w2"], p["g2"])

    params = {"w1": s(D, 48), "g1": s(48), "b": s(48), "w2": s(48, 3), "g2": s(3)}
    return run, params, s(5, D)


@model(invariant="w")
def batch_norm() -> Any:
    def run(p: Any, x: Any) -> Any:
        y = x @ p["w"]
        y = (y - y.mean(0)) / jnp.sqrt(y.var(0) + 1e-5)
        return jax.nn.relu(y * p["g"] + p["b"]) @ p["w_out"]

    return run, {"w": s(D, 48), "g": s(48), "b": s(48), "w_out": s(48, 3)}, s(5, D)


@model()
def half_precision() -> Any:
    """Weights in float32, products in bfloat16, sums in float32."""

    def run(p: Any, x: Any) -> Any:
        p16 = jax.tree.map(lambda each: each.astype(jnp.bfloat16), p)
        y = jax.nn.gelu(x.astype(jnp.bfloat16) @ p16["w1"] + p16["b1"])
        y = jnp.matmul(y, p16["w2"], preferred_element_type=jnp.float32)
        return x + y + p["b2"]

    params = {"w1": s(D, 48), "b1": s(48), "w2": s(48, D), "b2": s(D)}
    return run, params, s(5, D)


@jax.custom_vjp
def _straight(x: Any, w: Any) -> Any:
    return jnp.sign(x @ w)


_straight.defvjp(
    lambda x, w: (_straight(x, w), (x, w)),
    lambda kept, g: (g @ kept[1].T, kept[0].T @ g),
)


@model()
def custom_vjp() -> Any:
    def run(p: Any, x: Any) -> Any:
        return _straight(x, p["w1"]) @ p["w2"]

    return run, {"w1": s(D, 48), "w2": s(48, 3)}, s(5, D)


@model()
def conditional() -> Any:
    def run(p: Any, x: Any, choice: Any) -> Any:
        y = lax.cond(choice > 0, lambda x: x @ p["w1"], lambda x: x @ p["w2"], x)
        return jax.nn.relu(y) @ p["w_out"]

    params = {"w1": s(D, 48), "w2": s(D, 48), "w_out": s(48, 3)}
    return run, params, s(5, D), ids()


@model(unused="spare", ends={"odd": "exp"})
def odd() -> Any:
    """One parameter that nothing uses, and one that goes through an exponential."""

    def run(p: Any, x: Any) -> Any:
        return x @ jnp.exp(p["odd"]) @ p["w"]

    return run, {"w": s(48, 3), "odd": s(D, 48), "spare": s(4, 4)}, s(5, D)


def _convolved(kernel: Any, size: int, **options: Any) -> Any:
    def run(p: Any, x: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(x, p["w"], dimension_numbers=numbers, **options)
        return y + p["b"]

    return run, {"w": kernel, "b": s(kernel.shape[-1])}, s(2, 12, 12, size)


@model()
def conv_grouped() -> Any:
    return _convolved(s(3, 3, 4, 24), 16, window_strides=(1, 1), padding="SAME",
                      feature_group_count=4)  # fmt: skip


@model()
def conv_depthwise_twice() -> Any:
    return _convolved(s(3, 3, 1, 32), 16, window_strides=(2, 2), padding="SAME",
                      feature_group_count=16)  # fmt: skip


@model()
def conv_strided() -> Any:
    return _convolved(s(3, 5, 4, 8), 4, window_strides=(2, 3), padding="VALID")


@model()
def conv_dilated() -> Any:
    return _convolved(s(3, 3, 4, 8), 4, window_strides=(1, 1), padding="SAME",
                      rhs_dilation=(2, 3))  # fmt: skip


@model()
def conv_dilated_inputs() -> Any:
    """A transposed convolution, of a window that the dilation does not divide."""
    return _convolved(s(3, 5, 4, 8), 4, window_strides=(1, 1), lhs_dilation=(2, 2),
                      padding=[(2, 2), (4, 4)])  # fmt: skip


@model()
def conv_dilated_and_strided() -> Any:
    return _convolved(s(4, 4, 4, 8), 4, window_strides=(3, 3), lhs_dilation=(2, 2),
                      padding=[(2, 2), (2, 2)])  # fmt: skip


@model()
def conv_grouped_transposed() -> Any:
    return _convolved(s(4, 4, 4, 24), 16, window_strides=(1, 1), lhs_dilation=(2, 2),
                      padding=[(2, 2), (2, 2)], feature_group_count=4)  # fmt: skip


@model()
def conv_flipped() -> Any:
    """A kernel turned around and with its features swapped, as a gradient has it."""

    def run(p: Any, x: Any) -> Any:
        return lax.conv_transpose(
            x, p["w"], (2, 2), "SAME", transpose_kernel=True,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    return run, {"w": s(4, 4, 24, 16)}, s(2, 5, 5, 16)


@model(parts={"w_depth": (D,) * 3, "w_grouped": (D,) * 3})
def conv_of_parts() -> Any:
    """Convolutions of three streams at once, each feature or group on its own."""

    def run(p: Any, x: Any) -> Any:
        def conv(x: Any, w: Any, groups: int) -> Any:
            return lax.conv_general_dilated(
                x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"),
                feature_group_count=groups,
            )  # fmt: skip

        a, b, v = jnp.split(conv(x @ p["w"], p["w_depth"], 3 * D), 3, axis=-1)
        a, b, v = jnp.split(conv(a * b * v, p["w_grouped"], 6), 3, axis=-1)
        return a * b + v

    params = {"w": s(D, 3 * D), "w_depth": s(3, 1, 3 * D), "w_grouped": s(3, 4, 3 * D)}
    return run, params, s(2, 5, D)
