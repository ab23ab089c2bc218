# SPDX-License-Identifier: Apache-2.0
"""Two traces have one signature where they compute the same, and only there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxinit.network import SMALL, signature

QUICK = True  # see conftest.py

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def scanned(names=("a", "b"), carry=2, swap=False, scale=2.0):
    """A loop over rows whose state is two named leaves, or one beside a constant."""

    def function(x):
        def body(state, row):
            a, b = (state | fixed)[names[0]] + row, (state | fixed)[names[1]] * scale
            new = dict(zip(names, (a, b), strict=True))
            return {name: new[name] for name in state}, (a, b)[swap]

        leaves = dict(zip(names, x, strict=True))
        state = dict([*leaves.items()][:carry])
        fixed = {name: leaf for name, leaf in leaves.items() if name not in state}
        return lax.scan(body, state, x)

    return function


def large(value):
    return lambda x: x.sum() + jnp.asarray(np.full(SMALL + 1, value, np.float32))


def captured(value):
    return lambda x: x + jnp.asarray(value)


def of(function):
    return signature(jax.make_jaxpr(function)(X))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (scanned(), scanned(names=("kernel", "scale"))),
        (captured(X), captured(X.copy())),
        (lambda x: x * 0.5, lambda y: y * 0.5),
    ],
)
def test_the_same_function_has_one_signature(one, other):
    assert of(one) == of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (scanned(), scanned(swap=True)),
        (scanned(), scanned(carry=1)),
        (scanned(), scanned(scale=-2.0)),
        (scanned(carry=1), scanned(carry=1, swap=True)),
        (captured(X), captured(X + 1)),
        (captured(0 * X), captured(-(0 * X))),
        (captured(X[:1]), captured(X[:, :1])),
        (lambda x: x * 0.0, lambda x: x * -0.0),
        (lambda x: x[:, :2], lambda x: x[:, 1:]),
        (lambda x: x @ x.T, lambda x: jnp.matmul(x, x.T, precision="highest")),
        (large(1.0), large(1.0)),  # a large constant is not compared
    ],
)
def test_another_function_has_another(one, other):
    assert of(one) != of(other)


@pytest.mark.parametrize("zero", [float, np.float32, complex])
def test_a_parameter_that_is_zero_keeps_its_sign(zero):
    trace = jax.make_jaxpr(lambda x: x * 2)(X)
    first, *rest = trace.jaxpr.eqns

    def with_param(value):
        eqn = first.replace(params={**first.params, "value": value})
        return signature(trace.replace(jaxpr=trace.jaxpr.replace(eqns=[eqn, *rest])))

    assert with_param(zero(0.0)) == with_param(zero(0.0))
    assert with_param(zero(0.0)) != with_param(-zero(0.0))
