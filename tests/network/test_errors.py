# SPDX-License-Identifier: Apache-2.0
"""What cannot be read says so, and names the parameter."""

from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit
from tests.network.models import ids, s
from tests.network.reading import network

QUICK = True  # see conftest.py

D = 8


def notes(error: Any) -> str:
    return "\n".join(error.value.__notes__)


# --- rows ---


def test_what_nothing_uses_has_a_row():
    found = network("odd")
    assert (found["spare"].role, found["spare"].calls) == ("unused", 0)
    assert "spare: nothing uses it" in repr(found)


def test_where_a_reading_ends_has_a_row():
    found = network("odd")
    assert (found["odd"].role, found["odd"].primitive) == ("unknown", "exp")
    assert found["odd"].fans is None
    assert "odd: the reading ends at exp" in repr(found)


@pytest.mark.parametrize(
    ("end", "f"),
    [
        ("exp", jnp.exp),
        ("tanh", jnp.tanh),
        ("sort", lambda w: jnp.sort(w, axis=0)),
        ("cumsum", lambda w: jnp.cumsum(w, axis=0)),
        ("logistic", jax.nn.sigmoid),
        ("mul", lambda w: w * w),
        ("max", jax.nn.softplus),
    ],
)
def test_the_end_of_a_reading_is_named(end, f):
    found = jaxinit.read(lambda p, x: x @ f(p["w"]), {"w": s(D, D)}, s(5, D))
    assert (found["w"].role, found["w"].primitive) == ("unknown", end)


def test_a_parameter_of_which_only_a_sum_enters_is_unknown():
    found = jaxinit.read(lambda p, x: x * jnp.sum(p["w"]), {"w": s(D, D)}, s(5, D))
    assert found["w"].role == "unknown"


def test_two_uses_that_want_different_fans_are_both_said():
    found = network("gpt2")
    assert found["e_tokens"].tied
    assert "e_tokens: tied, embedding (fans 1 and 24) and kernel (fans 24 and 40)" in (
        repr(found)
    )
    assert not network("shared")["w"].tied


def test_branches_of_a_choice_are_all_read():
    def run(p: Any, x: Any, choice: Any) -> Any:
        w = jax.lax.cond(choice > 0, lambda: p["a"], lambda: p["b"])
        return x @ w

    found = jaxinit.read(run, {"a": s(D, D), "b": s(D, D)}, s(5, D), ids())
    assert {p.role for p in found.values()} == {"kernel"}


# --- errors of the model ---


def test_a_batch_of_the_wrong_shape_is_the_models_own_error():
    module = nn.Dense(D)
    variables = module.init(jax.random.key(0), jnp.zeros((2, D)))
    with pytest.raises(Exception, match="shape") as error:
        jaxinit.read(module, variables, s(5, D + 1))
    assert "jaxinit.read: while tracing Dense on arrays of shapes (5, 9)" in notes(
        error
    )


def test_the_parameter_at_hand_is_named():
    def dense(x: Any, kernel: Any) -> Any:
        return x @ kernel

    def run(p: Any, x: Any) -> Any:
        return dense(dense(x, p["one"]), p["two"])

    with pytest.raises(TypeError) as error:
        jaxinit.read(run, {"one": s(D, D), "two": s(D + 1, D)}, s(5, D))
    assert notes(error).endswith("while tracing run on arrays of shapes (5, 8), at two")


def test_a_module_of_nnx_names_the_parameter_too():
    module = nnx.eval_shape(lambda: nnx.Linear(D, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(TypeError) as error:
        jaxinit.read(module, s(5, D + 1))
    assert notes(error).endswith("of shapes (5, 9), at bias, kernel")


def test_what_cannot_be_traced_is_the_models_own_error():
    def run(p: Any, x: Any) -> Any:
        return x @ p["w"] if x.sum() > 0 else x

    with pytest.raises(jax.errors.TracerBoolConversionError) as error:
        jaxinit.read(run, {"w": s(D, D)}, s(5, D))
    assert "jaxinit.read: while tracing run" in notes(error)


# --- what was passed ---


class Module(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(D)(x)


MLP = eqx.nn.MLP(D, D, D, 1, key=jax.random.key(0))
BAD: dict[str, tuple[Any, ...]] = {
    "a class": (Module, {}, s(5, D)),
    "without variables": (Module(), s(5, D)),
    "nothing at all": (Module(),),
    "a number": (3, {}, s(5, D)),
    "no parameters": (lambda p: p,),
    "no array": (lambda p, x: x, {"w": "kernel"}, s(5, D)),
    "a method": (Module().apply, {"params": {}}, s(5, D)),
    "a model of Equinox": (lambda net, x: net(x), MLP, s(D)),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_model_is_refused_in_words(name):
    with pytest.raises((TypeError, ValueError)) as error:
        jaxinit.read(*BAD[name])
    assert str(error.value).startswith("read: ")


def test_parameters_without_numbers_are_refused():
    with pytest.raises(ValueError, match="no parameters"):
        jaxinit.read(lambda p, x: x, {"count": np.arange(3)}, s(5, D))


def test_integers_and_keys_among_the_parameters_are_constants():
    def run(p: Any, x: Any) -> Any:
        kept = jax.random.bernoulli(jax.random.clone(p["key"]), 0.5, x.shape)
        return jnp.where(kept, x, p["count"].astype(float)) @ p["w"]

    params = {"w": s(D, D), "count": ids(), "key": jax.random.key(0)}
    assert list(jaxinit.read(run, params, s(5, D))) == ["w"]


def test_dropout_and_other_keywords_are_passed():
    class Dropped(nn.Module):
        @nn.compact
        def __call__(self, x: Any, train: bool) -> Any:
            x = nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Dense(D)(x)))
            return x + nn.Dense(D)(x)

    module = Dropped()
    variables = jax.eval_shape(
        lambda key, x: module.init(key, x, train=False), jax.random.key(0), s(5, D)
    )
    rngs = {"dropout": jax.random.key(0)}
    found = jaxinit.read(module, variables, s(5, D), train=True, rngs=rngs)
    assert found["params/Dense_1/kernel"].branch is not None
    after = found["params/Dense_1/kernel"].after
    assert after is not None and after.layers == ("params/Dense_0/kernel",)
