# SPDX-License-Identifier: Apache-2.0
"""A trace, run on the laws of entries in place of arrays."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit import compat as jex
from jaxinit.network import CALLS, body_of, moves, nodes, scan_counts
from jaxinit.prediction import functions, softmax, statistics
from jaxinit.prediction.entry import (
    MOST,
    Entry,
    Source,
)
from jaxinit.prediction.functions import number_of
from jaxinit.prediction.kernels import meet
from jaxinit.prediction.layouts import cut_kinds, kinds_of, signal
from jaxinit.prediction.pieces import cut, move, turn
from jaxinit.prediction.sources import applied, carried, many
from jaxinit.prediction.values import Attention, Drawn, Given, Logits, Lost, Mixture

__all__ = ["Interpreter"]


class Interpreter:
    """Runs a trace; `visit` takes each output, and gives what goes on.

    It is told the place of the output, or the name that it was marked with.
    """

    def __init__(
        self, batch: int, visit: Callable[[tuple[int, ...] | str, Any], Any]
    ) -> None:
        self.batch, self.visit = batch, visit
        self.pieces: dict[Any, Source] = {}

    def run(
        self,
        jaxpr: Any,
        consts: Sequence[Any],
        inputs: Sequence[Any],
        place: tuple[int, ...] = (),
    ) -> list[Any]:
        """The outputs of a function of such inputs."""
        env = dict(zip(jaxpr.invars, inputs, strict=True))
        env |= dict(zip(jaxpr.constvars, map(Given, consts), strict=True))

        def read(atom: Any) -> Any:
            return Given(atom.val) if isinstance(atom, jex.Literal) else env[atom]

        for i, eqn in enumerate(jaxpr.eqns):
            here = (*place, i)
            operands = [read(atom) for atom in eqn.invars]
            try:
                outs = self._run(eqn, operands, here)
            except (IndexError, TypeError, ValueError) as error:
                outs = [self._guess(v.aval, eqn, error) for v in eqn.outvars]
            for k, (v, x) in enumerate(zip(eqn.outvars, outs, strict=True)):
                env[v] = self.visit((*here, k), x)
        return [read(atom) for atom in jaxpr.outvars]

    def _guess(self, aval: Any, eqn: Any, error: Exception) -> Any:
        """A signal of unit size, in place of one that cannot be predicted."""
        why = f"{eqn.primitive.name} ({error})" if str(error) else eqn.primitive.name
        shape = aval.shape
        if jnp.issubdtype(aval.dtype, jax.dtypes.prng_key):
            return Given(jnp.broadcast_to(jax.random.key(0), shape))
        if aval.dtype == bool:
            coin = signal(shape, f"taken as a fair coin after {why}")
            return replace(coin, values=coin.values > 0)
        if not jnp.issubdtype(aval.dtype, jnp.inexact):
            return Given(np.zeros(shape, aval.dtype))
        return signal(shape, f"taken as 1 after {why}")

    def _run(self, eqn: Any, operands: list[Any], place: tuple[int, ...]) -> list[Any]:
        name, params = eqn.primitive.name, eqn.params
        if name == "scan":
            return self._scan(eqn, operands, place)
        if name in CALLS and body_of(eqn)[0] is not None:
            return self.run(*body_of(eqn), operands, place)
        if name == "name":
            return [self.visit(params["name"], operands[0])]
        if all(isinstance(x, Given) for x in operands):
            return functions.compute(eqn, operands)
        (out, *more) = eqn.outvars
        shape = out.aval.shape
        if name == "split":
            return [
                cut(
                    operands[0],
                    params["axis"],
                    (low, low + n),
                    v.aval.shape,
                    self.pieces,
                )
                for n, low, v in zip(
                    params["sizes"],
                    np.cumsum([0, *params["sizes"][:-1]]).tolist(),
                    eqn.outvars,
                    strict=True,
                )
            ]
        if more:
            raise Lost("several outputs")
        drawn = [x for x in operands if isinstance(x, Drawn)]
        if drawn:
            return [meet(self.batch, self._elementwise, eqn, operands, drawn, shape)]
        if name in moves.MOVES:
            return [move(eqn, operands, shape, self.pieces)]
        if name in nodes.ELEMENTWISE:
            return [self._elementwise(eqn, operands, shape)]
        if name in nodes.REDUCTIONS:
            return [statistics.reduce(eqn, operands[0], shape)]
        match name:
            case "dot_general":
                return [_product(eqn, operands, self.batch)]
            case "concatenate":
                return [functions.join(operands, params["dimension"], shape)]
            case "reduce_window_sum":
                return [statistics.window_sum(eqn, operands[0], shape)]
            case "reduce_window_max":
                return [statistics.window_max(eqn, operands[0], shape)]
            case "dynamic_slice" if isinstance(operands[0], Entry):
                return [operands[0].reshape(shape, cut_kinds(operands[0].kinds, shape))]
        raise Lost("no rule for it")

    # --- entries ----------------------------------------------------------------------

    def _elementwise(self, eqn: Any, operands: list[Any], shape: Any) -> Any:
        name = eqn.primitive.name
        special = statistics.statistic(name, operands, shape)
        if special is not None:
            return special
        for k, x in enumerate(operands):
            if isinstance(x, Mixture):
                parts = [
                    (share, [*operands[:k], e, *operands[k + 1 :]])
                    for share, e in x.parts
                ]
                return functions.mix(
                    [(s, self._elementwise(eqn, each, shape)) for s, each in parts],
                    shape,
                )
        if name == "select_n" and isinstance(operands[0], Given):
            return functions.select(operands, shape)
        if any(isinstance(x, Given) and x.number is None for x in operands) and all(
            isinstance(x, Given) or (isinstance(x, Entry) and not x.sources)
            for x in operands
        ):
            return functions.compute(
                eqn,
                [
                    functions.numbers(x, v)
                    for x, v in zip(operands, eqn.invars, strict=True)
                ],
            )[0]
        logits = next((x for x in operands if isinstance(x, Logits)), None)
        plain = [x.entry if isinstance(x, Logits) else x for x in operands]
        entries = [functions.as_entry(name, x, shape) for x in plain]
        main = max(entries, key=lambda e: (bool(e.sources), sum(map(len, e.kinds))))
        kinds = kinds_of(main, shape)
        entries = [turn(e, kinds, shape, self.pieces) for e in entries]
        if many(entries):
            entries = [e if np.any(e.values) else _nothing(e) for e in entries]
        run = functools.partial(functions.bind, eqn)
        note = next((e.assumed for e in entries if e.assumed), "")
        laid = replace(main, shape=tuple(shape), kinds=kinds, assumed=note)
        made = None
        if many(entries):
            made = carried(run, name, entries, laid)
        if made is None and name == "select_n" and _are_many(entries):
            which, *cases = (e.reshape(shape, kinds) for e in entries)
            shares = (1 - which.mean, which.mean)
            return functions.mix(list(zip(shares, cases, strict=True)), shape)
        if made is None:
            made = applied(run, entries, laid, sparing=name == "mul")
        made = functions.merge_sum(made, name, entries)
        made = replace(made, common=functions.common(made, entries, name))
        return made if logits is None else replace(logits, entry=made)

    # --- loops ------------------------------------------------------------------------

    def _scan(self, eqn: Any, operands: list[Any], place: tuple[int, ...]) -> list[Any]:
        (body, consts), (fixed, carried) = body_of(eqn), scan_counts(eqn)
        start, length = fixed + carried, eqn.params["length"]
        carry, slices = list(operands[fixed:start]), operands[start:]
        stacked: list[list[Any]] = []
        order = range(length - 1, -1, -1) if eqn.params["reverse"] else range(length)
        for i in order:
            each = [functions.step_of(x, i) for x in slices]
            outs = self.run(body, consts, [*operands[:fixed], *carry, *each], place)
            carry = outs[:carried]
            if not any(isinstance(x, Drawn) for x in slices):
                carry = [_rests_on_steps(x) for x in carry]
            stacked.append(outs[carried:])
        stacked = stacked[::-1] if eqn.params["reverse"] else stacked
        made = []
        for k, v in enumerate(eqn.outvars[carried:]):
            made.append(functions.stack([each[k] for each in stacked], v.aval.shape))
        return [*carry, *made]


def _nothing(x: Entry) -> Entry:
    """Zeros, whatever they were made of."""
    return replace(x, sources=(), values=np.zeros(()), back=None)


def _are_many(entries: Sequence[Entry]) -> bool:
    """Whether a choice and its cases have too many sources, and none together."""
    which, *cases = (set(e.sources) for e in entries)
    if len(cases) != 2:
        return False
    either = set().union(*cases)
    return not which & either and len(which | either) > MOST


STEPS = "steps of a loop in time taken as independent"


def _rests_on_steps(x: Any) -> Any:
    """What a loop in time carries, which rests on more than the weights' laws."""
    return replace(x, assumed=x.assumed or STEPS) if isinstance(x, Entry) else x


def _product(eqn: Any, operands: Sequence[Any], batch: int) -> Any:
    """A product of data with data."""
    a, b = operands
    for side, (x, y) in enumerate(((a, b), (b, a))):
        if isinstance(x, Attention) and isinstance(y, Entry):
            return softmax.average(eqn, x, y, side)
        if isinstance(x, Logits) and isinstance(y, Entry):
            return softmax.product(eqn, x, y, side)
    zeros = [number_of(x) == 0 for x in operands]
    if any(zeros):
        return softmax.silent(eqn, a, b, zeros)
    if isinstance(a, Entry) and isinstance(b, Entry):
        return softmax.scores(eqn, a, b)
    raise Lost("a product of data with data")
