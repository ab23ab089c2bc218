# SPDX-License-Identifier: Apache-2.0
"""Initializers by name: for configuration files and command lines."""

from typing import Any

from jaxinit.core import checks as check
from jaxinit.core import config as _config
from jaxinit.core.initializer import Initializer
from jaxinit.core.value import FACTORIES

SINGLE: dict[str, Initializer] = {}  # names of initializers that are no factories


def get(name_or_config: Any, **kwargs: Any) -> Initializer:
    """An initializer from its name, or from the configuration that `to_config` wrote.

    Args:
        name_or_config: a name of `available()`, a dict `{"name": ..., argument: ...}`,
            or an initializer, which is returned as it is.
        kwargs: arguments for the factory of that name.

    Raises:
        ValueError: for an unknown name (the nearest is offered).
        TypeError: for anything else, or for arguments beside an initializer.

    Example:
        >>> import jaxinit
        >>> jaxinit.get("kaiming_normal", nonlinearity="relu", mode="fan_out")
        variance_scaling(2.0, 'fan_out', 'normal')
        >>> init = jaxinit.truncated_normal(0.02)
        >>> jaxinit.get(jaxinit.to_config(init)) == init
        True
    """
    found = name_or_config
    if isinstance(found, str):
        name = check.choice("name", found, available())
        if name not in SINGLE:
            return _config.find(name)(**kwargs)
        found = SINGLE[name]
    elif isinstance(found, dict):
        found = _config.from_config(found, **kwargs)
        kwargs = {}
    if not isinstance(found, Initializer):
        raise TypeError(
            f"get takes a name, a configuration or an initializer, got {found!r}"
        )
    if kwargs:
        raise TypeError(f"{found!r} is an initializer and takes no {sorted(kwargs)}")
    return found


def to_config(init: Initializer) -> dict[str, Any]:
    """An initializer as a dict for JSON, which `get` reads back.

    Raises:
        TypeError: for what has no configuration: an initializer of another library
            inside a combinator, or an argument traced by `jax.jit`.

    Example:
        >>> import jaxinit
        >>> jaxinit.to_config(jaxinit.he_normal())["scale"]
        2.0
    """
    if not isinstance(init, Initializer):
        raise TypeError(f"to_config takes an initializer, got {init!r}")
    config: dict[str, Any] = _config.to_config(init)
    return config


def available() -> list[str]:
    """The names that `get` knows, sorted; your own as "module:name".

    Example:
        >>> import jaxinit
        >>> "he_normal" in jaxinit.available()
        True
    """
    names = {name for name in FACTORIES if not name.startswith("Fans.")}
    return sorted(names | set(SINGLE))
