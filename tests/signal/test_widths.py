# SPDX-License-Identifier: Apache-2.0
"""The coordinate check and transfer: what muP promises, and the standard breaks."""

import functools
import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxinit
from jaxinit import rules, signal
from jaxinit.signal.widths import slope

QUICK = True  # see conftest.py

WIDTHS = (32, 128)
X = jax.random.normal(jax.random.key(0), (32, 16))
Y = jax.random.normal(jax.random.key(1), (32, 4))
STANDARD = [
    ("out/kernel", jaxinit.lecun_normal()),
    ("kernel", jaxinit.he_normal()),
    ("bias", jaxinit.zeros),
]


class Net(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.width, name="into")(x))
        for i in range(2):
            x = nn.relu(nn.Dense(self.width, name=f"hidden_{i}")(x))
        return nn.Dense(4, name="out")(x)


def make(width: int, key: jax.Array) -> tuple[Any, Any]:
    """The rules draw what is zero here."""
    return Net(width), jax.tree.map(jnp.zeros_like, params_of(width))


def loss(out: jax.Array) -> jax.Array:
    return jnp.square(out - Y).mean()


def params_of(width: int) -> Any:
    return jax.eval_shape(Net(width).init, jax.random.key(0), X)


def scaled_adam(width: int, params: Any, rate: float = 0.02) -> Any:
    """Adam with muP's rates."""
    rates = rules.mup_rates(params, params_of(WIDTHS[0])["params"])
    adam = optax.scale_by_adam()

    def update(grads: Any, state: Any, params: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            steps, state = adam.update(grads, state, params)
            return jax.tree.map(lambda s, r: -rate * r * s, steps, rates), state

    return optax.GradientTransformation(adam.init, update)


def plain_adam(width: int, params: Any, rate: float = 0.02) -> Any:
    adam = optax.adam(rate)

    def update(grads: Any, state: Any, params: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return adam.update(grads, state, params)

    return optax.GradientTransformation(adam.init, update)


@functools.cache
def checked(which: str) -> signal.CoordCheck:
    if which == "mup":
        recipe, optimizer = rules.mup(params_of(WIDTHS[0]), STANDARD), scaled_adam
    else:
        recipe, optimizer = STANDARD, plain_adam
    return signal.coord_check(
        make, WIDTHS, X, loss=loss, optimizer=optimizer, rules=recipe, steps=2
    )


def test_mup_passes():
    found = checked("mup")
    assert found.ok, found.flags
    assert len(found.rows) == 4 * 3


def test_the_standard_parametrisation_fails():
    found = checked("standard")
    assert not found.ok
    assert any("hidden_1/kernel: its change grows" in flag for flag in found.flags)
    steep = [
        r.change for r in found.rows if r.path.endswith("hidden_1/kernel") and r.step
    ]
    assert min(x for x in steep if x is not None) > 0.25


def test_the_slope_and_its_error():
    values = np.array([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])
    assert slope((8, 32, 128), values) == pytest.approx((0.5, 0.0), abs=1e-12)
    found, error = slope((8, 32, 128), values * np.array([[0.9, 1.1]] * 3))
    assert found == pytest.approx(0.5) and 0.02 < error < 0.1
    assert np.isnan(slope((8, 32), np.zeros((2, 1)))).all()


def test_words_of_a_row():
    row = signal.Coordinate("w", 0, -0.5, 0.01, output=True)
    assert row.flag is None  # an output may begin smaller
    assert signal.Coordinate("w", 0, -0.5, 0.01).flag is not None
    nan = signal.Coordinate("w", 1, 0.0, 0.0, float("nan"), float("nan"))
    assert nan.flag == "w: its change is 0 or not finite at step 1"
    assert signal.Coordinate("w", 1, 0.0, 0.0, 0.4, 0.2).flag is None  # not sure


def test_the_check_is_a_value():
    found = checked("mup")
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["widths"] == list(WIDTHS) and len(plain["rows"]) == len(found.rows)
    assert repr(found).splitlines()[0].split()[:2] == ["path", "step"]
    assert len(found.plot()) == 3


@pytest.mark.thorough
def test_a_linen_scan_has_a_row_for_each_layer():
    class Scanned(nn.Module):
        width: int

        @nn.compact
        def __call__(self, x):
            x = nn.Dense(self.width, name="into")(x)
            axes, rngs = {"params": 0}, {"params": True}
            step = nn.scan(_step, variable_axes=axes, split_rngs=rngs, length=2)
            x, _ = step(nn.Dense(self.width, name="layer"), x, None)
            return x

    def _step(layer, x, _):
        return nn.relu(layer(x)), None

    def build(width, key):
        model = Scanned(width)
        return model, model.init(key, X)

    found = signal.coord_check(
        build, (16, 32), X, loss=lambda y: (y**2).mean(), optimizer=plain_adam, steps=1
    )
    paths = {row.path for row in found.rows}
    assert {"params/layer/kernel[0]", "params/layer/kernel[1]"} < paths


@pytest.mark.thorough
def test_transfer():
    """Under muP the best rate stays, in the standard parametrisation it falls."""
    rates = [0.002 * 4**k for k in range(5)]
    drift = {}
    for name, optimizer, recipe in (
        ("mup", scaled_adam, rules.mup(params_of(WIDTHS[0]), STANDARD)),
        ("standard", plain_adam, STANDARD),
    ):
        found = signal.transfer(
            make,
            WIDTHS,
            rates,
            X,
            loss=loss,
            optimizer=optimizer,
            rules=recipe,
            steps=10,
            seeds=1,
        )
        assert found.losses.shape == (2, 5, 1)
        assert "octaves" in repr(found)
        drift[name] = found.drift
    assert abs(drift["mup"]) < 1 < -drift["standard"]


nothing: Any = 3
BAD: dict[str, tuple[Any, str]] = {
    "falling widths": (
        lambda: signal.coord_check(make, (64, 32), X, loss=loss, optimizer=plain_adam),
        "two or more, growing",
    ),
    "no function": (
        lambda: signal.coord_check(
            nothing, (32, 64), X, loss=loss, optimizer=plain_adam
        ),
        "make must be a function",
    ),
    "a rate of zero": (
        lambda: signal.transfer(
            make, (32, 64), [0.0], X, loss=loss, optimizer=plain_adam
        ),
        "rates must be > 0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, words = BAD[name]
    with pytest.raises((TypeError, ValueError), match=words):
        call()
