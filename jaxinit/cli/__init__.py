# SPDX-License-Identifier: Apache-2.0
"""`python -m jaxinit`: the command line and the demo."""

from jaxinit.cli.commands import main

__all__ = [
    "main",
]
