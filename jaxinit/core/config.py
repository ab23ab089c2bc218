# SPDX-License-Identifier: Apache-2.0
"""A value in a configuration file: its factory's name and its arguments, in JSON."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from jaxinit.core import checks as check
from jaxinit.core.value import FACTORIES, Value

__all__ = ["find", "from_config", "to_config"]


def to_config(value: Any) -> Any:
    """A value as plain JSON: {"name": factory, argument: ...}, defaults left out.

    Where an argument is called "name" itself, they stand apart under "arguments".
    """
    if isinstance(value, Value):
        if FACTORIES.get(value.name) is not value._factory:
            raise ValueError(
                f"{value!r} was built by a {value.name} that has been defined again "
                "since; build it anew"
            )
        given = {
            n: to_config(v) for n, v, default, _ in value._call_items() if not default
        }
        if given.keys() & {"name", "arguments"}:
            return {"name": value.name, "arguments": given}
        return {"name": value.name, **given}
    if isinstance(value, tuple):
        return [to_config(item) for item in value]
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, float) and math.isinf(value):
        return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{value!r} has no configuration; only numbers, words, tuples and what a "
        "factory made can be written down"
    )


def from_config(config: Any, **changes: Any) -> Any:
    """The inverse of `to_config`, with some arguments changed."""
    if isinstance(config, Mapping):
        if "name" in config:
            given = {n: v for n, v in config.items() if n != "name"}
            if given.keys() == {"arguments"} and isinstance(given["arguments"], dict):
                given = given["arguments"]
            arguments = {n: from_config(v) for n, v in given.items()}
            return find(config["name"])(**{**arguments, **changes})
        if set(config) == {"complex"}:
            return complex(*config["complex"])
        if set(config) == {"float"}:
            return float(config["float"])
        raise ValueError(f"config must have a 'name', got {dict(config)!r}")
    if isinstance(config, (list, tuple)):
        return tuple(from_config(item) for item in config)
    return config


def find(name: object) -> Callable[..., Any]:
    """The factory of that name."""
    return FACTORIES[check.choice("name", name, sorted(FACTORIES))]
