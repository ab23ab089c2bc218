# SPDX-License-Identifier: Apache-2.0
"""The readings of the models, and their traces."""

import functools
from collections.abc import Sequence
from typing import Any

import jax

import jaxinit
from jaxinit.network import Network, pass_of
from tests.network import forms, framework_models, oracle, public_models  # noqa: F401
from tests.network.models import MODELS

__all__ = ["NAMES", "built", "network", "uses"]

NAMES = sorted(MODELS)


def _plainly(run: Any) -> Any:
    """JAX as it is without a test's strictness: models promote ranks and types."""

    @functools.cache
    @functools.wraps(run)
    def call(name: str) -> Any:
        with (
            jax.numpy_rank_promotion("allow"),
            jax.numpy_dtype_promotion("standard"),
            jax.debug_key_reuse(False),
        ):
            return run(name)

    return call


@_plainly
def built(name: str) -> Sequence[Any]:
    """What `read` takes of a model."""
    return MODELS[name].build()


@_plainly
def network(name: str) -> Network:
    """The reading of a model."""
    return jaxinit.read(*built(name))


@_plainly
def uses(name: str) -> dict[str, list[oracle.Use]]:
    """The uses of each parameter of a model, by brute force."""
    given = pass_of(built(name)[0], built(name)[1:], {})
    trace = jax.make_jaxpr(given.run)(given.leaves, given.arrays)
    paths = [p for i, p in enumerate(given.paths) if i not in given.fixed]
    found: dict[str, list[oracle.Use]] = {path: [] for path in paths}
    for use in oracle.uses_of(trace, given.kinds):
        found[paths[use.parameter]].append(use)
    return found
