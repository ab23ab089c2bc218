# SPDX-License-Identifier: Apache-2.0
"""The reader: a trace, walked once, in which each parameter meets the data.

Parameters are followed through whatever only moves their entries; the equation in which
one meets the data says what it does, and is recorded as a `Use`. The data make a graph
of `Node`s. Calls are walked where they stand; the body of a loop is walked once.
"""

from collections.abc import Sequence
from typing import Any

from jaxinit import compat as jex
from jaxinit.network.loops import branches, once, scan
from jaxinit.network.meetings import met, settle
from jaxinit.network.nodes import Node, Weight, Weights
from jaxinit.network.record import Record
from jaxinit.network.signals import of_data
from jaxinit.network.traces import body_of, is_key
from jaxinit.network.views import whole
from jaxinit.network.weights import of_weights

__all__ = ["CALLS", "Reader"]

CALLS = (
    "call",
    "checkpoint",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_lin",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "jit",
    "pjit",
    "remat",
    "remat2",
    "run_state",
)
LOOPS = {"scan": scan, "while": once, "cond": branches}


class Reader(Record):
    """A walk through a trace whose inputs are of such kinds: parameter, constant, data.

    Attributes:
        outputs: what the function returns.
    """

    def __init__(self, trace: Any, kinds: Sequence[str]) -> None:
        super().__init__()
        inputs: list[Any] = []
        number = 0
        for v, kind in zip(trace.jaxpr.invars, kinds, strict=True):
            aval: Any = v.aval
            if kind == "parameter":
                view = whole(tuple(aval.shape))
                inputs.append(Weights((Weight(number, view),), {}))
                number += 1
            elif kind == "constant" or is_key(aval):
                inputs.append(self.constant(None, (), aval.shape))
            else:
                inputs.append(self.signal("input", None, (), aval.shape))
        self.outputs = self.walk(trace.jaxpr, trace.consts, inputs)

    def walk(
        self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]
    ) -> list[Any]:
        """The outputs of a function at such inputs."""
        env = dict(zip(jaxpr.invars, inputs, strict=True))
        for v, value in zip(jaxpr.constvars, consts, strict=True):
            small = value if getattr(value, "size", 1) == 1 else None
            env[v] = self.constant(None, (), v.aval.shape, small)

        def read(atom: Any) -> Any:
            if isinstance(atom, jex.Literal):
                return self.constant(None, (), atom.aval.shape, atom.val)
            return env[atom]

        for i, eqn in enumerate(jaxpr.eqns):
            with self.inside(i):
                outs = self._read(eqn, [read(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, outs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _read(self, eqn: Any, operands: list[Any]) -> list[Any]:
        name, shapes = eqn.primitive.name, [v.aval.shape for v in eqn.outvars]
        if name in CALLS and body_of(eqn)[0] is not None:
            return self.walk(*body_of(eqn), operands)
        operands = settle(self, eqn, operands)
        known = [x for x in operands if not (isinstance(x, Node) and x.is_constant)]
        if not known:
            return [self.constant(eqn, operands, s) for s in shapes]
        if name in LOOPS:
            return LOOPS[name](self, self.walk, eqn, operands)
        if not any(isinstance(x, Weights) for x in known):
            return of_data(self, eqn, operands, shapes)
        if all(isinstance(x, Weights) for x in known):
            return of_weights(self, eqn, operands, shapes)
        return met(self, eqn, operands, shapes)
