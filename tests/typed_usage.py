# SPDX-License-Identifier: Apache-2.0
"""What a type checker must accept, and (each ignored line) what it must refuse.

An `ignore` that hides no error is itself an error under mypy's strict settings, so
both halves are held by the type checker in `.ci/run`; nothing here runs.
"""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

import jaxinit

protocol: jax.nn.initializers.Initializer = jaxinit.he_normal()
array: jax.Array = jaxinit.orthogonal(2.0)(jax.random.key(0), (3, 4), "bfloat16")
law: jaxinit.Law = jaxinit.normal(0.1).law((3, 4))
std: float = law.std
nn.Dense(4, kernel_init=jaxinit.kaiming_normal("fan_out", jax.nn.gelu))
jaxinit.stacked(jaxinit.scaled(jax.nn.initializers.he_normal(), 0.5), axis=-1)
fans: tuple[float, float] = jaxinit.Fans.conv(groups=2, strides=(2, 2))((3, 3, 4, 8))
config: dict[str, Any] = jaxinit.to_config(jaxinit.he_normal((0, 1), 2))
rules = [("bias", jaxinit.zeros), *jaxinit.rules.gpt2(12, ["out/kernel"])]
tree: Any = jaxinit.init_tree(jax.random.key(0), {"bias": array}, rules)
ok: bool = jaxinit.check_tree(tree, rules, keep=["kernel"]).ok
make = jaxinit.jit_init(lambda key: [jaxinit.he_normal()(key, (3, 4))])
lowered: list[jax.stages.Lowered] = make.lower(jax.random.key(0))
gain: float = jaxinit.gain(lambda x: x**3, "backward")


@jaxinit.initializer
def laplace(scale: float, *, shift: float = 0.0) -> Any:
    def init(key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        return shift + scale * jax.random.laplace(key, shape, dtype)

    return init


mine: jaxinit.Initializer = laplace(0.5, shift=1.0)

laplace()  # type: ignore[call-arg]
laplace("wide")  # type: ignore[arg-type]
jaxinit.he_normal(gain=2.0)  # type: ignore[call-arg]
jaxinit.jit_init(3)  # type: ignore[arg-type]
jaxinit.orthogonal(method=3)  # type: ignore[arg-type]
jaxinit.he_normal(fans=jaxinit.Fans.conv)  # type: ignore[arg-type]
missing = jaxinit.get("he_normal").gain  # type: ignore[attr-defined]
number: float = jaxinit.he_normal()  # type: ignore[assignment]
