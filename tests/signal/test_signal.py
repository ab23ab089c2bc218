# SPDX-License-Identifier: Apache-2.0
"""The signal in a network: against numbers by hand, and the same however it is run."""

import dataclasses
import functools
import json
import math
import re
import types
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxinit
import jaxinit.nnx
from jaxinit import signal
from jaxinit.signal.flags import flags
from jaxinit.signal.sums import moments, powers, rms, totals
from tests.helpers import SIGMAS
from tests.models import LINEN, NNX
from tests.rules.oracle_decoders import DECODERS
from tests.rules.oracle_encoders import ENCODERS

QUICK = True  # see conftest.py

CLOSE = 1e-5  # relative: sums of some hundred numbers in float32
DEPTH, WIDTH, BATCH = 3, 4, 6


def batch_of(struct: jax.ShapeDtypeStruct) -> jax.Array:
    key = jax.random.key(1)
    if jnp.issubdtype(struct.dtype, jnp.integer):
        return jax.random.randint(key, struct.shape, 0, 90, struct.dtype)
    return jax.random.normal(key, struct.shape, struct.dtype)


def structure(tree: Any) -> str:
    return str(jax.tree.structure(tree))


def column(report: Any, name: str) -> list[Any]:
    return [getattr(row, name) for row in report.rows]


# --- a network by hand ----------------------------------------------------------------

# Three layers z = h W + b, h = relu(z); unit 2 of the second layer is never positive.
_rng = np.random.default_rng(7)
KERNELS = _rng.normal(0, 0.7, (DEPTH, WIDTH, WIDTH)).astype(np.float32)
BIASES = _rng.normal(0, 0.1, (DEPTH, WIDTH)).astype(np.float32)
BIASES[1, 2] = -9.0
X = _rng.normal(0, 1, (BATCH, WIDTH)).astype(np.float32)


def loss(out: jax.Array) -> jax.Array:
    return (out**2).sum() / 2


def root_mean_square(x: np.ndarray) -> float:
    return float(np.sqrt((x.astype(np.float64) ** 2).mean()))


def by_hand() -> dict[str, list[Any]]:
    """Every column, by numpy: forward, then backward through the chain rule."""
    weights, biases = KERNELS.astype(np.float64), BIASES.astype(np.float64)
    h, inputs, z = X.astype(np.float64), [], []
    for w, b in zip(weights, biases, strict=True):
        inputs.append(h)
        z.append(h @ w + b)
        h = np.maximum(z[-1], 0)
    g, slopes = h, []
    for w, each in zip(weights[::-1], z[::-1], strict=True):
        slopes.append(g * (each > 0))
        g = slopes[-1] @ w.T
    slopes = slopes[::-1]
    kernels = [x.T @ s for x, s in zip(inputs, slopes, strict=True)]
    own = [
        np.concatenate([k.ravel(), s.sum(0)])
        for k, s in zip(kernels, slopes, strict=True)
    ]
    return {
        "mean": [float(each.mean()) for each in z],
        "rms": [root_mean_square(each) for each in z],
        "dead": [float((s == 0).all(0).mean()) for s in slopes],
        "grad_rms": [root_mean_square(s) for s in slopes],
        "param_grad_rms": [root_mean_square(each) for each in own],
        "update_ratio": [
            root_mean_square(k) / root_mean_square(w)
            for k, w in zip(kernels, weights, strict=True)
        ],
    }


class Unrolled(nn.Module):
    layer: Any = nn.Dense

    @nn.compact
    def __call__(self, x):
        for i in range(DEPTH):
            x = nn.relu(self.layer(WIDTH, name=f"stack_{i}")(x))
        return x


class Step(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.relu(nn.Dense(WIDTH, name="dense")(x)), None


class Looped(nn.Module):
    axis: int = 0
    step: Any = Step

    @nn.compact
    def __call__(self, x):
        stack = nn.scan(
            self.step,
            variable_axes={"params": self.axis},
            split_rngs={"params": True},
            length=DEPTH,
        )
        return stack(name="stack")(x, None)[0]


class Listed(nnx.Module):
    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.stack = nnx.List([nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(3)])
        for i, layer in enumerate(self.stack):
            layer.kernel.set_value(jnp.asarray(KERNELS[i]))
            layer.bias.set_value(jnp.asarray(BIASES[i]))

    def __call__(self, x):
        for layer in self.stack:
            x = nnx.relu(layer(x))
        return x


class Stacked(nnx.Module):
    def __init__(self) -> None:
        @nnx.split_rngs(splits=DEPTH)
        @nnx.vmap
        def layers(rngs: nnx.Rngs) -> nnx.Linear:
            return nnx.Linear(WIDTH, WIDTH, rngs=rngs)

        self.stack = layers(nnx.Rngs(0))
        self.stack.kernel.set_value(jnp.asarray(KERNELS))
        self.stack.bias.set_value(jnp.asarray(BIASES))

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def run(x, layer):
            return nnx.relu(layer(x))

        return run(x, self.stack)


class Compiled(Listed):
    """Each layer in a call of one compiled function, and done again on the way back."""

    def __call__(self, x):
        for layer in self.stack:
            x = _compiled(layer, x)
        return x


@nnx.jit
@nnx.remat
def _compiled(layer, x):
    return nnx.relu(layer(x))


def unrolled_params() -> Any:
    return {
        f"stack_{i}": {
            "kernel": jnp.asarray(KERNELS[i]),
            "bias": jnp.asarray(BIASES[i]),
        }
        for i in range(DEPTH)
    }


def looped_params(axis: int) -> Any:
    kernel, bias = jnp.moveaxis(KERNELS, 0, axis), jnp.moveaxis(BIASES, 0, axis)
    return {"stack": {"dense": {"kernel": kernel, "bias": bias}}}


UNROLLED = [f"params/stack_{i}/kernel" for i in range(DEPTH)]
LOOPED = [f"params/stack/dense/kernel[{i}]" for i in range(DEPTH)]
LISTED = [f"stack/{i}/kernel" for i in range(DEPTH)]
VERSIONS: dict[str, tuple[Any, Any, list[str]]] = {
    "linen": (Unrolled(), unrolled_params, UNROLLED),
    "linen jit": (Unrolled(nn.jit(nn.Dense)), unrolled_params, UNROLLED),
    "linen remat": (Unrolled(nn.remat(nn.Dense)), unrolled_params, UNROLLED),
    "linen scan": (Looped(), lambda: looped_params(0), LOOPED),
    "linen scan, last axis": (Looped(axis=-1), lambda: looped_params(-1), LOOPED),
    "linen scan of remat": (
        Looped(step=nn.remat(Step)),
        lambda: looped_params(0),
        LOOPED,
    ),
    "nnx": (Listed, None, LISTED),
    "nnx jit of remat": (Compiled, None, LISTED),
    "nnx scan": (Stacked, None, [f"stack/kernel[{i}]" for i in range(DEPTH)]),
}


def report_on(name: str) -> signal.Report:
    model, params, _ = VERSIONS[name]
    if params is None:
        return signal.report(model(), jnp.asarray(X), loss=loss)
    return signal.report(model, {"params": params()}, jnp.asarray(X), loss=loss)


@pytest.mark.sweep
@pytest.mark.parametrize("name", VERSIONS)
def test_a_network_by_hand(name):
    report = report_on(name)
    assert column(report, "path") == VERSIONS[name][2]
    assert column(report, "shape") == [(BATCH, WIDTH)] * DEPTH
    assert column(report, "call") == [1] * DEPTH
    for what, wanted in by_hand().items():
        assert column(report, what) == pytest.approx(wanted, rel=CLOSE), what
    assert report.rows[1].dead is not None and report.rows[1].dead >= 1 / WIDTH


def test_another_network_has_other_numbers():
    """The test of the test: a hundredth of one kernel is seen in every number."""
    params = unrolled_params()
    params["stack_1"]["kernel"] *= 1.01
    report = signal.report(Unrolled(), {"params": params}, jnp.asarray(X), loss=loss)
    for what, wanted in by_hand().items():
        same = column(report, what) == pytest.approx(wanted, rel=CLOSE)
        assert same == (what == "dead"), what


# --- real models ----------------------------------------------------------------------


@functools.cache
def small(name: str) -> tuple[Any, ...]:
    """What `report` takes for a model of `tests/models.py`, one block deep."""
    if name in NNX:
        x = batch_of(LINEN["gpt2" if name == "transformer" else "unet"][1])
        depth: dict[str, Any] = {"depth": 1} if name == "transformer" else {}
        return jaxinit.nnx.create(NNX[name], nnx.Rngs(0), **depth), x
    model, struct = LINEN[name]
    if "depth" in model.__dataclass_fields__:
        model = model.clone(depth=2 if name == "scanned" else 1)
    x = batch_of(struct)
    if name == "gpt2":
        return model, jaxinit.jit_init(model.init)(jax.random.key(0), x), x
    return model, filled(jax.eval_shape(model.init, jax.random.key(0), x)), x


def filled(shapes: Any) -> Any:
    """Kernels of variance 1 / fan_in, and ones; what they are does not matter."""
    rng = np.random.default_rng(3)

    def fill(struct: jax.ShapeDtypeStruct) -> jax.Array:
        if len(struct.shape) < 2:
            return jnp.ones(struct.shape, struct.dtype)
        size = 1 / math.sqrt(math.prod(struct.shape[:-1]))
        return jnp.asarray(rng.normal(0, size, struct.shape), struct.dtype)

    return jax.tree.map(fill, shapes)


@functools.cache
def real(name: str) -> signal.Report:
    return signal.report(*small(name))


def plain(path: str) -> str:
    return re.sub(r"\[\d+\]", "", path)


@pytest.mark.sweep
@pytest.mark.parametrize("name", LINEN)
def test_every_kernel_of_a_real_model(name):
    """Each has its rows, in the order in which Flax calls its layer."""
    (model, variables, x), report = small(name), real(name)
    order: list[str] = []

    def look(call, args, kwargs, context):
        result = call(*args, **kwargs)
        if context.method_name in ("__call__", "attend"):
            order.append("/".join(("params", *context.module.path)))
        return result

    with nn.intercept_methods(look):
        mutable = [each for each in variables if each != "params"]
        jax.eval_shape(lambda v, x: model.apply(v, x, mutable=mutable), variables, x)
    paths = list(dict.fromkeys(map(plain, column(report, "path"))))
    leaves = jax.tree.leaves_with_path(nn.unbox(variables))
    names = [jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in leaves]
    kernels = {each for each in names if each.endswith(("kernel", "embedding"))}
    assert set(paths) == kernels
    layers = [path.rpartition("/")[0] for path in paths]
    gates = r"/[ih][ifgo]$"  # which a fused LSTM cell computes in its own order
    called = [path for path in layers if path in order and not re.search(gates, path)]
    first = list(dict.fromkeys(each for each in order if each in called))
    assert called == first
    for what in ("mean", "rms", "grad_rms", "param_grad_rms"):
        assert np.isfinite(column(report, what)).all()


ORDER = {
    "convolutional": ["convs/0/kernel", "convs/1/kernel", "head/kernel"],
    "transformer": [
        "embed/embedding",
        *(f"blocks/0/attention/{name}/kernel" for name in ("query", "key", "value")),
        "blocks/0/attention/out/kernel",
        "blocks/0/up/kernel",
        "blocks/0/down/kernel",
        "head/kernel",
    ],
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", NNX)
def test_every_layer_of_a_real_nnx_model(name):
    model, x = small(name)
    before = jax.tree.map(jnp.copy, nnx.state(model))
    report = signal.report(model, x)
    assert column(report, "path") == ORDER[name]
    assert not report.flags
    for what in ("mean", "rms", "grad_rms", "param_grad_rms"):
        assert np.isfinite(column(report, what)).all()
    assert jax.tree.all(jax.tree.map(jnp.array_equal, before, nnx.state(model)))
    assert type(model.head) is nnx.Linear
    assert not any("jaxinit" in name for name in vars(model.head))


def test_the_outputs_are_those_that_flax_captures():
    model, variables, x = small("unet")
    report = real("unet")
    _, captured = model.apply(variables, x, capture_intermediates=True)
    for row in report.rows:
        _, layer, _ = row.path.split("/")
        (y,) = captured["intermediates"][layer]["__call__"]
        assert row.shape == y.shape
        assert row.rms == pytest.approx(root_mean_square(np.asarray(y)), rel=CLOSE)
        assert row.mean == pytest.approx(float(y.mean()), abs=CLOSE * row.rms)


def test_a_unit_signal_is_sent_backward():
    """The gates that are computed together have each its row; the steps add up."""
    model, variables, x = small("lstm")
    report, key = real("lstm"), jax.random.key(0)

    def objective(variables):
        out = model.apply(variables, x)
        v = jax.random.normal(jax.random.fold_in(key, 0), out.shape)
        return (v * out).sum()

    grads = jax.jit(jax.grad(objective))(variables)["params"]
    assert len(report.rows) == 9
    for row in report.rows:
        gate: Any = grads
        for name in row.path.split("/")[1:-1]:
            gate = gate[name]
        flat = np.concatenate([np.ravel(g) for g in jax.tree.leaves(gate)])
        assert row.param_grad_rms == pytest.approx(root_mean_square(flat), rel=CLOSE)
    assert report.rows[0].shape == (5, 2, 24)  # steps first


class Steps(nn.Module):
    scanned: bool

    @nn.compact
    def __call__(self, x):
        cell = nn.SimpleCell(WIDTH, name="cell")
        if self.scanned:
            return nn.RNN(cell)(x, initial_carry=1e-30 * x[:, 0])
        carry, ys = 1e-30 * x[:, 0], []
        for t in range(x.shape[1]):
            carry, y = cell(carry, x[:, t])
            ys.append(y)
        return jnp.stack(ys, 1)


def test_a_loop_over_time_is_its_steps_together(key):
    x = jax.random.normal(key, (BATCH, 3, WIDTH))
    variables = Steps(True).init(jax.random.key(0), x)
    looped = signal.report(Steps(True), variables, x, loss=loss)
    called = signal.report(Steps(False), variables, x, loss=loss)
    labels = {f"params/cell/{name}/kernel (call {k})" for name in "ih" for k in (2, 3)}
    assert labels < set(column(called, "label")) and len(called.rows) == 6
    for row in looped.rows:
        steps = [each for each in called.rows if each.path == row.path]
        assert row.shape == (3, BATCH, WIDTH) and len(steps) == 3
        for what in ("rms", "grad_rms"):
            squares = [getattr(each, what) ** 2 for each in steps]
            assert getattr(row, what) ** 2 == pytest.approx(np.mean(squares), rel=CLOSE)
        assert row.mean == pytest.approx(np.mean([s.mean for s in steps]), rel=1e-4)
        for step in steps:  # the parameters' gradient is that of all calls
            assert step.param_grad_rms == pytest.approx(row.param_grad_rms, rel=CLOSE)


def test_models_mapped_over_their_last_axis():
    """A vmap may put its axis anywhere; the units stay the layer's."""
    layer = nnx.Linear(WIDTH, 3, rngs=nnx.Rngs(0))
    layer.bias.set_value(jnp.array([0.0, -99.0, 0.0]))

    class Mapped(nnx.Module):
        def __init__(self):
            self.layer = layer

        def __call__(self, x):
            return jax.vmap(lambda x: nnx.relu(self.layer(x)), -1, -1)(x)

    (row,) = signal.report(Mapped(), jnp.asarray(X).T).rows
    assert row.dead == pytest.approx(1 / 3)


class Branched(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first, self.second = (nnx.Linear(4, 4, rngs=rngs) for _ in range(2))
        self.never = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        x = self.first(x)
        return nnx.cond(x.sum() > 0, lambda m, x: m(x), lambda m, x: x, self.second, x)


def test_what_is_not_measured_is_named():
    report = signal.report(Branched(), jnp.asarray(X))
    assert column(report, "path") == ["first/kernel"]
    (flag,) = report.flags
    assert flag.startswith("never/kernel and second/kernel not measured: ")


class Weights(nn.Module):
    """Gives its kernel away, as tied weights do."""

    def setup(self):
        self.kernel = self.param("kernel", nn.initializers.lecun_normal(), (4, 4))

    def transposed(self):
        return self.kernel.T

    def __call__(self, x):
        return x @ self.kernel


class Tied(nn.Module):
    @nn.compact
    def __call__(self, x):
        first = Weights(name="first")
        x = nn.WeightNorm(nn.Dense(4, name="dense"), name="norm")(first(x))
        return x @ first.transposed()


def test_layers_that_share_their_weights_or_hold_others():
    """A kernel that is used twice has two rows, and one may be normalised."""
    report = signal.report(Tied(), Tied().init(jax.random.key(0), X), X)
    first, dense, again = column(report, "label")
    assert (first, dense) == ("params/first/kernel", "params/dense/kernel")
    assert again == "params/first/kernel (call 2)"
    assert column(report, "update_ratio")[0] is not None
    assert report.flags == ()


def test_a_linen_layer_in_an_nnx_model():
    rngs, x = nnx.Rngs(0), jnp.asarray(X)
    dense = nnx.bridge.lazy_init(nnx.bridge.ToNNX(nn.Dense(4), rngs), x)
    model = nnx.Sequential(dense, nnx.relu, nnx.Linear(4, 2, rngs=rngs))
    report = signal.report(model, x)
    assert column(report, "path") == ["layers/0/kernel", "layers/2/kernel"]
    assert report.rows[0].update_ratio is not None


class Straight(nn.Module):
    """A function with a derivative of its own is left alone: that derivative counts."""

    @nn.compact
    def __call__(self, x):
        @jax.custom_vjp
        def rounded(x):
            return jnp.round(x)

        rounded.defvjp(lambda x: (jnp.round(x), None), lambda _, g: (g,))
        return rounded(nn.Dense(WIDTH)(x))


def test_a_derivative_of_its_own_counts():
    variables = Straight().init(jax.random.key(0), X)
    report = signal.report(Straight(), variables, X)
    assert report.rows[0].grad_rms > 0.5 and not report.flags


class Many(nn.Module):
    """Statistics of the batch, dropout, arguments by name, outputs of several kinds."""

    @nn.compact
    def __call__(self, batch, *, train):
        x = nn.BatchNorm(use_running_average=not train)(batch["x"] * batch["scale"])
        x = nn.Dense(WIDTH)(nn.Dropout(0.5, deterministic=not train)(x))
        return {"y": x, "index": x.argmax(-1), "none": None}


def test_arguments_go_to_the_model(key):
    batch = {"x": jnp.asarray(X), "scale": 2.0}
    variables = Many().init(jax.random.key(0), batch, train=False)
    rngs = {"dropout": key}
    report = signal.report(Many(), variables, batch, train=True, rngs=rngs)
    assert column(report, "path") == ["params/Dense_0/kernel"]
    # for evaluation the statistics are those of the variables: mean 0 and variance 1
    still = signal.report(Many(), variables, batch, train=False, mutable=False)
    kernel = np.asarray(variables["params"]["Dense_0"]["kernel"])
    wanted = root_mean_square(2 * X / np.sqrt(1 + 1e-5) @ kernel)
    assert still.rows[0].rms == pytest.approx(wanted, rel=1e-4)
    assert report.rows[0].rms != pytest.approx(wanted, rel=1e-2)


class Dropped(nnx.Module):
    def __init__(self, rngs):
        self.layer, self.dropout = nnx.Linear(4, 4, rngs=rngs), nnx.Dropout(0.5)

    def encode(self, x, rngs):
        return self.dropout(self.layer(x), rngs=rngs)

    def __call__(self, x, rngs):
        return self.encode(x, rngs)


def test_nnx_rngs_are_passed_and_not_used_up():
    rngs = nnx.Rngs(dropout=3)
    model = Dropped(nnx.Rngs(0))
    (row,) = signal.report(model, jnp.asarray(X), rngs=rngs).rows
    assert row.path == "layer/kernel" and int(rngs.dropout.count[...]) == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "complex64"])
def test_other_dtypes(dtype):
    model = nn.Dense(WIDTH, dtype=dtype, param_dtype=dtype)
    x = jnp.asarray(X).astype(dtype)
    variables = model.init(jax.random.key(0), x)
    (row,) = signal.report(model, variables, x).rows
    y = np.asarray(model.apply(variables, x)).astype(complex)
    tolerance = 4 * float(jnp.finfo(dtype).eps)
    assert row.path == "params/kernel"
    assert row.rms == pytest.approx(root_mean_square(np.abs(y)), rel=tolerance)
    size = np.abs(y) if dtype == "complex64" else y
    assert row.mean == pytest.approx(size.mean().real, rel=4 * tolerance)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-15, 1.0, 1e15, 1e30])
def test_squares_neither_vanish_nor_overflow(scale):
    x = (X * scale).astype(np.float32)
    exact = root_mean_square(x)
    assert rms(powers(jnp.asarray(x)), x.size) == pytest.approx(exact, rel=CLOSE)
    mean, _ = moments(totals(jnp.asarray(x)), powers(jnp.asarray(x)), x.size)
    assert mean == pytest.approx(float(x.mean(dtype=float)), abs=CLOSE * exact)


def test_an_optimizer():
    """The update that is measured is its first, on the model's own tree."""
    args = (Unrolled(), {"params": unrolled_params()}, jnp.asarray(X))

    def update(grads, state, params):
        assert structure(grads) == structure(params) == state
        return jax.tree.map(lambda g: -1e-3 * jnp.sign(g), grads), state

    signs = types.SimpleNamespace(init=structure, update=update)
    wanted = by_hand()["update_ratio"]
    for optimizer, ratios in (
        (optax.sgd(0.1), [0.1 * each for each in wanted]),
        (signs, [1e-3 * share / root_mean_square(w) for share, w in signed()]),
    ):
        report = signal.report(*args, loss=loss, optimizer=optimizer)
        assert column(report, "update_ratio") == pytest.approx(ratios, rel=CLOSE)


def signed() -> list[tuple[float, np.ndarray]]:
    """The rms of a kernel's gradient's signs, beside the kernel."""
    h, g, inputs, z = X.astype(float), None, [], []
    for w, b in zip(KERNELS, BIASES, strict=True):
        inputs.append(h)
        z.append(h @ w + b)
        h = np.maximum(z[-1], 0)
    g, found = h, []
    for w, each, x in zip(KERNELS[::-1], z[::-1], inputs[::-1], strict=True):
        slope = g * (each > 0)
        found.append((root_mean_square(np.sign(x.T @ slope)), w))
        g = slope @ w.T
    return found[::-1]


# --- theory ---------------------------------------------------------------------------


class Deep(nn.Module):
    """A chain of one kind of layer, in a loop so that it compiles at once."""

    kernel_init: Any
    activation: Any = nn.relu
    depth: int = 20
    width: int = 256
    bias: float = 0.0

    @nn.compact
    def __call__(self, x):
        def step(layer, x, _):
            return self.activation(layer(x)), None

        axes, rngs = {"params": 0}, {"params": True}
        loop = nn.scan(step, variable_axes=axes, split_rngs=rngs, length=self.depth)
        bias = jaxinit.constant(self.bias)
        layer = nn.Dense(
            self.width, kernel_init=self.kernel_init, bias_init=bias, name="l"
        )
        return loop(layer, x, None)[0]


@functools.cache
def deep(*args: Any, **kwargs: Any) -> signal.Report:
    model = Deep(*args, **kwargs)
    x = jax.random.normal(jax.random.key(5), (64, model.width))
    variables = jax.jit(model.init)(jax.random.key(6), x)
    return signal.report(model, variables, x)


@pytest.mark.parametrize(
    ("init", "factor"), [("he_normal", 1.0), ("lecun_normal", 0.5)]
)
@pytest.mark.parametrize("what", ["rms", "grad_rms"])
def test_relu_keeps_half_of_the_second_moment(init, factor, what):
    """E z² over the layers is (scale / 2)^l: He keeps it, LeCun halves it.

    log E z² of one network walks with variance 5 / width a layer (Hanin & Rolnick 2018,
    arXiv:1803.01719), of which five standard deviations are allowed for.
    """
    values = column(deep(jaxinit.get(init)), what)
    values = values if what == "rms" else values[::-1]
    steps = len(values) - 1
    slope = 2 * math.log(values[-1] / values[0]) / steps
    spread = SIGMAS * math.sqrt(5 / 256 / steps)
    assert slope == pytest.approx(math.log(factor), abs=spread)
    assert slope != pytest.approx(math.log(1.5 * factor), abs=spread)


# --- flags ----------------------------------------------------------------------------


def test_a_healthy_network_has_no_flags():
    assert deep(jaxinit.he_normal()).flags == ()
    assert deep(jaxinit.glorot_normal(), jnp.tanh, 5).flags == ()
    assert real("gpt2").flags == ()


def test_a_network_that_is_broken_is_told_so():
    vanishes = deep(jaxinit.lecun_normal()).flags
    assert [each.split(":")[0] for each in vanishes] == [
        "the signal vanishes",
        "the gradient vanishes",
    ]
    assert "l/kernel[0]" in vanishes[0] and "l/kernel[19]" in vanishes[0]
    assert "by a factor of 0.7" in vanishes[0] and "he_normal()" in vanishes[0]
    explodes = deep(jaxinit.variance_scaling(6.0, "fan_in", "normal")).flags
    assert [each.split(":")[0] for each in explodes] == [
        "the signal explodes",
        "the gradient explodes",
    ]
    # tanh holds the signal, and in the chaotic phase not the gradient
    (chaos,) = deep(jaxinit.variance_scaling(4.0, "fan_in", "normal"), jnp.tanh).flags
    assert chaos.startswith("the gradient explodes")
    (dead,) = deep(jaxinit.he_normal(), nn.relu, 1, bias=-4.0).flags
    assert dead.startswith(
        "more than half of the units of params/l/kernel[0] are dead (8"
    )
    (nan,) = deep(jaxinit.constant(1e30), nn.relu, 3).flags
    assert nan.startswith(
        "the signal is not finite: params/l/kernel[1] is the first of 2 layers"
    )


def rows(values: list[tuple[Any, ...]]) -> list[signal.Row]:
    """Rows (path, rms, grad_rms, update_ratio) of layers of 64 units, 32 examples."""
    return [
        signal.Row(path, 1, (32, 64), 0.0, size, 0.0, grad, grad, ratio)
        for path, size, grad, ratio in values
    ]


def told(values: list[tuple[Any, ...]], feeds: Any = None) -> tuple[str, ...]:
    """The flags of rows of which each feeds the next, where nothing else is said."""
    chain = [(i - 1,) if i else () for i in range(len(values))]
    return flags(rows(values), chain if feeds is None else feeds, ())


def test_what_is_no_trend():
    ones: list[tuple[Any, ...]] = [(f"d{i}", 1.0, 1.0, 0.1) for i in range(6)]
    falling = [(f"d{i}", 0.5**i, 1.0, 0.1) for i in range(6)]
    assert told(ones) == ()
    assert told(falling)[0].startswith("the signal vanishes")
    assert told(falling[:4]) == ()  # too few to tell
    assert told([*ones, ("head", 1e-4, 1.0, 0.1)]) == ()
    assert told([*falling[::-1], ("head", 1e-3, 1.0, 0.1)])[0].startswith(
        "the signal explodes"
    )
    # a normalisation sets the signal back to 1
    assert told(falling, [(), (0,), (1,), (), (3,), (4,)]) == ()
    # gates beside a signal that is kept are no part of its way
    gated = [each for pair in zip(ones, falling, strict=True) for each in pair]
    feeds = [(2 * (i // 2) - 2,) if i > 1 else () for i in range(12)]
    assert told(gated, feeds) == ()
    # up and down, as through the skips of a U-Net
    wave = [(f"d{i}", 3.0 ** -min(i, 6 - i), 1.0, 0.1) for i in range(7)]
    assert told(wave) == ()


def test_zeros_are_told_gently():
    blocks = [("a", 1.0, 0.0, 0.0), ("b", 0.0, 1.0, None)]
    zero, cut = told(blocks)
    assert zero.startswith("zero everywhere: the output of b; by design if")
    assert cut.startswith("no gradient reaches a: by design")
    (cut,) = told([("a", 1.0, 0.0, 0.0), ("b", 1.0, 0.0, 0.0)])
    assert cut.startswith("no gradient reaches a and b: by design behind a scale of")


def test_a_gradient_that_is_not_finite():
    (flag,) = told([(f"d{i}", 1.0, [math.nan, 1.0][i], 0.1) for i in (0, 1)])
    assert flag.startswith("the gradient is not finite: on its way back, d0 is the")


# --- the value ------------------------------------------------------------------------


def test_the_report_is_a_value():
    report = report_on("linen")
    text = repr(report).splitlines()
    assert text[0].split()[:4] == ["path", "shape", "mean", "rms"]
    assert len(text) == 1 + DEPTH + len(report.flags)
    assert len({line.index(" ", 8) for line in text[1:4]}) == 1
    told = signal.Report(report.rows, ("a < b",))
    assert repr(told).endswith("\na < b")
    html = told._repr_html_()
    assert html.count("<tr>") == 1 + DEPTH and "a &lt; b" in html
    assert "color" not in html
    broken = dataclasses.replace(report.rows[0], rms=math.nan)
    plain_ = json.loads(json.dumps(signal.Report((broken,)).to_dict(), allow_nan=False))
    assert plain_["rows"][0]["rms"] == "nan"
    assert plain_["rows"][0]["shape"] == [BATCH, WIDTH]
    assert report == report_on("linen")
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.rows = ()  # type: ignore[misc]


# --- bad input ------------------------------------------------------------------------


class Functions(nn.Module):
    def __call__(self, x):
        return nn.relu(x)


class Numbered(nnx.Module):
    def __init__(self):
        self.layer = nnx.Linear(4, 4, rngs=nnx.Rngs(0))


mse: Any = "mse"  # no function


def dense() -> tuple[Any, Any]:
    return nn.Dense(4), {"params": {"kernel": jnp.eye(4), "bias": jnp.zeros(4)}}


STRUCT = jax.ShapeDtypeStruct((2, 4), jnp.float32)
BAD: dict[str, tuple[Any, Any, str]] = {
    "no model": (lambda: signal.report(3, X), TypeError, "a Flax module .*, got int"),
    "no parameters": (
        lambda: signal.report(jnp.sin, jnp.arange(3)),
        ValueError,
        "no parameters, arrays of real",
    ),
    "a class": (lambda: signal.report(nn.Dense, X), TypeError, "not its class"),
    "no params": (
        lambda: signal.report(nn.Dense(4), {"kernel": X}, X),
        TypeError,
        r"has 'params', got \['kernel'\]; pass what model.init",
    ),
    "no variables": (
        lambda: signal.report(nn.Dense(4), X),
        TypeError,
        "comes with its variables",
    ),
    "no arguments": (lambda: signal.report(nn.Dense(4)), TypeError, "its variables"),
    "shapes": (lambda: signal.report(*dense(), STRUCT), TypeError, "must have values"),
    "shapes for params": (
        lambda: signal.report(nn.Dense(4), {"params": {"kernel": STRUCT}}, X),
        TypeError,
        "must have values",
    ),
    "an abstract model": (
        lambda: signal.report(nnx.eval_shape(Listed), X),
        TypeError,
        "must have values",
    ),
    "traced": (
        lambda: jax.jit(lambda x: signal.report(*dense(), x))(X),
        TypeError,
        "outside jax.jit",
    ),
    "no layers": (
        lambda: signal.report(Functions(), {"params": {}}, X),
        ValueError,
        "no kernel was found in Functions",
    ),
    "no call": (
        lambda: signal.report(Numbered(), X),
        TypeError,
        "Numbered has no __call__",
    ),
    "a vector of losses": (
        lambda: signal.report(*dense(), X, loss=lambda y: y.sum(-1)),
        ValueError,
        r"real scalar, got float32 of shape \(6,\); take its mean",
    ),
    "an integer loss": (
        lambda: signal.report(*dense(), X, loss=lambda y: y.argmax()),
        ValueError,
        "real scalar, got int32",
    ),
    "no optimizer": (
        lambda: signal.report(*dense(), X, optimizer=0.1),
        TypeError,
        "functions init and update",
    ),
    "no loss": (
        lambda: signal.report(*dense(), X, loss=mse),
        TypeError,
        "loss must be a function of the model's output, got 'mse'",
    ),
    "variables for the model": (
        lambda: signal.report(*dense()[::-1], X),
        TypeError,
        "not its class.*, got dict$",
    ),
    "an empty batch": (
        lambda: signal.report(*dense(), X[:0]),
        ValueError,
        r"batch must have examples: the output of params/kernel has the shape \(0, 4\)",
    ),
    "no key": (lambda: signal.report(*dense(), X, key=0), TypeError, "a JAX PRNG key"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, kind, words = BAD[name]
    with pytest.raises(kind, match=words) as caught:
        call()
    assert str(caught.value).startswith("signal.report: ")


@dataclasses.dataclass
class Wrapper:
    module: Any
    step: int = 0


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner


def test_a_wrapper_is_asked_for_the_module_that_it_holds():
    linen, ours = nn.Dense(3), nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    wrappers = [
        (Wrapper(linen), "Wrapper; it holds one, pass model.module"),
        (Wrapper(ours), "Wrapper; it holds one, pass model.module"),
        (Slotted(ours), "Slotted; it holds one, pass model.inner"),
        (Wrapper(linen.apply), "Wrapper; it holds one, pass model.module.__self__"),
        (functools.partial(ours), "partial; it holds one, pass model.func"),
    ]
    for model, words in wrappers:
        with pytest.raises(TypeError, match=re.escape(f"got {words}") + "$") as caught:
            signal.report(model, jnp.ones((1, 2)))
        path = str(caught.value).rpartition(" ")[2]
        assert eval(path, {"model": model}) in (linen, ours)
    found = signal.report(linen.apply, linen.init(jax.random.key(0), X), X)
    assert column(found, "path") == ["params/kernel"]  # a method is a function
    with pytest.raises(TypeError, match=r"got Wrapper$"):
        signal.report(Wrapper(3), jnp.ones((1, 2)))


@pytest.mark.sweep
@pytest.mark.parametrize("reference", ["GPT2", "BERT", "Whisper"])
def test_tables_of_positions_are_measured_where_they_are_looked_up(reference):
    """By indices that the batch does not tell, in a call: before they meet the data."""
    case = next(each for each in DECODERS + ENCODERS if each.reference == reference)
    batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), case.batch)
    params = jaxinit.jit_init(case.model.init)(jax.random.key(0), *batch)
    report = signal.report(case.model, params, *batch)
    assert all(math.isfinite(row.rms) for row in report.rows)
    seen = {row.path: row for row in report.rows if row.call == 1}
    network = jaxinit.read(case.model, params, *batch)
    tables = [path for path, each in network.items() if each.role == "embedding"]
    assert tables and set(tables) <= set(seen)
    for path in tables:
        row = seen[path]
        table = functools.reduce(dict.__getitem__, path.split("/"), params)
        low, high = jnp.quantile(jnp.abs(table), jnp.array([0.05, 0.99]))
        assert row.shape[-1] == table.shape[-1] and low < row.rms < high
