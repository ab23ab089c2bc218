# SPDX-License-Identifier: Apache-2.0
"""Every cure in code that a message prints is run, as the message has it.

A row provokes a real message. The calls in it are evaluated with the public names, what
a user has at hand there, and stand-ins for what the message leaves open ("activation").
"""

import ast
import functools
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

import jaxinit
import jaxinit.nnx
from jaxinit import Fans, signal
from jaxinit.cli import show as _show
from tests.helpers import fresh

QUICK = True  # see conftest.py

SHAPE = (4, 6)


def at_hand() -> dict[str, Any]:
    """The names that a cure may use."""
    return {
        **vars(jaxinit),
        "jaxinit": jaxinit,
        "jax": jax,
        "jnp": jnp,
        "eqx": eqx,
        "hk": hk,
        "key": jax.random.key(1),
        "shape": SHAPE,
        "dtype": jnp.float32,
        "batch": jnp.ones((2, 4)),
        "activation": "tanh",
        "init": jaxinit.he_normal(),
        "fan_in": 4,
        "fan_out": 6,
        "mesh": jax.make_mesh((1,), ("x",)),
        # arguments that a factory has no default for
        "sparsity": 0.5,
        "scale": 2.0,
        "mode": "fan_in",
        "distribution": "normal",
        "value": 1.0,
        "low": -1.0,
        "high": 1.0,
        "factor": 2,
        "count": 2,
        "max_length": 10.0,
        "nu": (0.1, 0.2),
        "equation": "bd,df->bf",
    }


def calls(message: str) -> Iterator[str]:
    """The calls in a text: names of three letters or more, and what closes in order."""
    end = 0
    for start in re.finditer(r"(?<![\w.])[A-Za-z_][\w.]{2,}\(", message):
        if start.start() < end:
            continue
        depth = 1
        for end in range(start.end(), len(message) + 1):
            depth += (
                {"(": 1, ")": -1}.get(message[end - 1], 0) if end > start.end() else 0
            )
            if depth == 0:
                break
        yield message[start.start() : end]


def deep(width: int, scale: float) -> Callable[[], str]:
    """The flags of a deep network whose kernels are too small, or too large."""

    @functools.cache
    def told() -> str:
        init = jaxinit.variance_scaling(scale, "fan_in", "normal")
        model = nn.Sequential([nn.Dense(width, kernel_init=init) for _ in range(20)])
        x = jnp.ones((8, width))
        flags = signal.report(model, model.init(jax.random.key(0), x), x).flags
        return "\n".join(flags)

    return told


def told_by(run: Callable[[], Any]) -> Callable[[], str]:
    """The message of an error, and its notes."""

    @functools.cache
    def told() -> str:
        with pytest.raises(
            (TypeError, ValueError, SystemExit, _show.Refusal)
        ) as caught:
            run()
        return str(caught.value)

    return told


def shapes(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def told_gru() -> Any:
    model = nnx.GRUCell(2, 4, rngs=nnx.Rngs(0))
    rules = [*jaxinit.rules.forget_gate(), ("**", jaxinit.zeros)]
    return jaxinit.describe_tree(nnx.state(model, nnx.Param), rules)


KEY = jax.random.key(0)
UNCALLED: Any = jaxinit.he_normal
RECURRENT = nnx.RNN(nnx.GRUCell(2, 4, rngs=nnx.Rngs(0)))
LINEAR = eqx.nn.Linear(2, 3, key=jax.random.key(0))
FACTORIES = [
    getattr(jaxinit, name)
    for name in jaxinit.available()
    if name in jaxinit.__all__ and name not in ("zeros", "ones")
]

MESSAGES: dict[str, tuple[Callable[[], str], dict[str, Any]]] = {
    **{
        factory.__name__: (told_by(functools.partial(factory, KEY, SHAPE)), {})
        for factory in FACTORIES
    },
    "callee": (told_by(lambda: jaxinit.scaled(UNCALLED, 2.0)), {}),
    "callee of arguments": (
        told_by(lambda: jaxinit.stacked(cast(Any, jaxinit.sparse))),
        {},
    ),
    "fans factory": (told_by(lambda: jaxinit.he_normal(fans=cast(Any, Fans.conv))), {}),
    "fans of arguments": (
        told_by(lambda: jaxinit.he_normal(fans=cast(Any, Fans.einsum))),
        {},
    ),
    "fans": (told_by(lambda: jaxinit.he_normal(fans=cast(Any, 3))), {}),
    "view": (told_by(lambda: jaxinit.orthogonal(fans=cast(Any, 3))), {}),
    "one axis": (told_by(lambda: jaxinit.he_normal()(KEY, (3,))), {}),
    "einsum": (told_by(lambda: Fans.einsum("bx,df->bf")), {}),
    "key": (told_by(lambda: jaxinit.normal()(3, SHAPE)), {}),
    "haiku": (told_by(lambda: jaxinit.normal()(SHAPE, jnp.float32)), {}),
    "gain": (told_by(lambda: jaxinit.calculate_gain("gelu")), {}),
    "factory": (told_by(jaxinit.initializer(cast(Any, lambda: 3))), {}),
    "mesh": (
        told_by(lambda: jaxinit.normal()(KEY, SHAPE, None, PartitionSpec("x"))),
        {},
    ),
    "equinox": (
        told_by(
            lambda: jaxinit.jit_init(lambda key: eqx.nn.MLP(2, 3, 4, 1, key=key))(KEY)
        ),
        {"model": LINEAR},
    ),
    "linen": (
        told_by(lambda: signal.report(nn.Dense(3), {}, jnp.ones((2, 4)))),
        {"model": nn.Dense(3)},
    ),
    "cell": (told_by(told_gru), {"model": RECURRENT, "batch": jnp.ones((1, 3, 2))}),
    "too small": (deep(64, 0.3), {}),
    "too large": (deep(64, 3.0), {}),
    "show": (told_by(lambda: _show.read_call("3")), {}),
    "call": (told_by(lambda: _show.read_call("(")), {}),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", MESSAGES)
def test_the_cure_runs(name):
    told, more = MESSAGES[name]
    found = list(calls(told()))
    assert found
    names = {**at_hand(), **more}
    for call in found:
        # Haiku's keys are there within its transforms alone.
        hk.transform(lambda: run(call, names)).init(jax.random.key(0))  # noqa: B023


def run(call: str, names: dict[str, Any]) -> None:
    """Evaluate a call; what holds in a `with` statement is left again."""
    result = eval(call, {**names, "key": fresh(names["key"])})
    if hasattr(result, "__exit__"):
        result.__exit__(None, None, None)


def test_a_cure_that_does_not_run_is_found():
    """The advice of a signal that vanishes, as it was."""
    (call,) = calls("others variance_scaling(gain(activation) ** 2); or normalise")
    with pytest.raises(TypeError, match="missing a required argument: 'mode'"):
        run(call, at_hand())


def test_every_message_with_code_has_a_row():
    """The texts of the package that have a call in them are in a message above."""
    texts = "\n".join(told() for told, _ in MESSAGES.values())
    found: list[str] = []
    for path in sorted(pathlib.Path(jaxinit.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text())
        raised = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
        written = [node for node in tree.body if isinstance(node, ast.Assign)]
        for node in (each for top in (*raised, *written) for each in ast.walk(top)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found += [] if ">>>" in node.value else calls(node.value)
    assert len(found) > 10
    assert [call for call in found if call not in texts] == []
