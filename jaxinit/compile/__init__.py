# SPDX-License-Identifier: Apache-2.0
"""`jit_init`: one program for each kind of parameter."""

from jaxinit.compile.by_value import by_value
from jaxinit.compile.call import JitInit, jit_init

__all__ = [
    "JitInit",
    "by_value",
    "jit_init",
]
