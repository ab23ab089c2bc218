# SPDX-License-Identifier: Apache-2.0
"""Packages that the library runs without: what is missing, and what is broken."""

import contextlib
import importlib
from collections.abc import Iterator
from importlib import metadata

import jax

__all__ = ["require"]


@contextlib.contextmanager
def require(who: str, package: str, extra: str) -> Iterator[None]:
    """Say of imports that fail whether the package is missing or does not work."""
    try:
        importlib.import_module(package)
        yield
    except Exception as error:
        cure = f"pip install 'jaxinit[{extra}]'"
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise ImportError(f"{who} needs {package}: {cure}") from error
        try:
            version = f" {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            version = ""
        raise ImportError(
            f"{who} needs {package}, and {package}{version} is installed but does not "
            f"import with jax {jax.__version__} ({type(error).__name__}: {error}); "
            f"install versions that fit each other: {cure} --upgrade"
        ) from error
