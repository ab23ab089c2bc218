# SPDX-License-Identifier: Apache-2.0
"""A trace, run on the laws of entries in place of arrays."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit import compat as jex
from jaxinit.network import CALLS, body_of, moves, nodes, scan_counts
from jaxinit.prediction import contractions as sums
from jaxinit.prediction import functions, statistics
from jaxinit.prediction.entry import (
    EXAMPLE,
    POSITION,
    UNIT,
    Entry,
    Source,
    gaussian,
    number,
    together,
)
from jaxinit.prediction.functions import number_of
from jaxinit.prediction.kernels import meet
from jaxinit.prediction.layouts import cut_kinds, kinds_of, move, move_or_guess
from jaxinit.prediction.values import Attention, Drawn, Given, Logits, Lost, Mixture

__all__ = ["Interpreter"]


class Interpreter:
    """Runs a trace; `seen` takes each output by its place, and gives what goes on."""

    def __init__(
        self, batch: int, visit: Callable[[tuple[int, ...], Any], Any]
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
            except (Lost, ValueError, IndexError) as error:
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
        if not jnp.issubdtype(aval.dtype, jnp.floating):
            return Given(np.zeros(shape, aval.dtype))
        kinds: list[Any] = [((POSITION, n),) if n > 1 else () for n in shape]
        if shape:
            kinds[0] = ((EXAMPLE, shape[0]),) if shape[0] > 1 else ()
            kinds[-1] = ((UNIT, shape[-1]),) if shape[-1] > 1 else ()
        return gaussian(1.0, 0.0, 0.0, shape, kinds, f"taken as 1 after {why}")

    def _run(self, eqn: Any, operands: list[Any], place: tuple[int, ...]) -> list[Any]:
        name, params = eqn.primitive.name, eqn.params
        if name == "scan":
            return self._scan(eqn, operands, place)
        if name in CALLS and body_of(eqn)[0] is not None:
            return self.run(*body_of(eqn), operands, place)
        if all(isinstance(x, Given) for x in operands):
            return functions.compute(eqn, operands)
        (out, *more) = eqn.outvars
        shape = out.aval.shape
        if name == "split":
            return [
                self._cut(operands[0], params["axis"], low, low + n, v.aval.shape)
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
            return [self._move(eqn, operands, shape)]
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

    def _move(self, eqn: Any, operands: list[Any], shape: Any) -> Any:
        x = operands[0]
        if isinstance(x, Logits):
            return Logits(move(eqn, x.entry, shape), x.mask)
        if isinstance(x, Entry):
            if eqn.primitive.name == "slice":
                low = eqn.params["start_indices"]
                high = eqn.params["limit_indices"]
                for axis, (a, b) in enumerate(zip(low, high, strict=True)):
                    x = self._cut(
                        x, axis, a, b, (*x.shape[:axis], b - a, *x.shape[axis + 1 :])
                    )
                return x.reshape(shape, cut_kinds(x.kinds, shape))
            return move(eqn, x, shape)
        if isinstance(x, Mixture):
            parts = tuple((share, move_or_guess(eqn, e, shape)) for share, e in x.parts)
            return Mixture(parts, tuple(shape))
        return replace(x, shape=tuple(shape))

    def _cut(self, x: Any, axis: int, low: int, high: int, shape: Any) -> Any:
        """A piece; other units of one law are independent of each other."""
        if not isinstance(x, Entry):
            raise Lost("a piece of what is no signal")
        kinds = cut_kinds(x.kinds, shape)
        units = x.size(axis, UNIT) > 1 and (low, high) != (0, x.shape[axis])
        if not units:
            return x.reshape(shape, kinds)
        fresh = tuple(
            self.pieces.setdefault((s, axis, low, high), replace(s)) for s in x.sources
        )
        return replace(x, sources=fresh).reshape(shape, kinds)

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
                laws = tuple(
                    (s, self._elementwise(eqn, each, shape)) for s, each in parts
                )
                return Mixture(laws, tuple(shape))
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
        mask = next((x.mask for x in operands if isinstance(x, Logits)), None)
        masked = any(isinstance(x, Logits) for x in operands)
        plain = [x.entry if isinstance(x, Logits) else x for x in operands]
        entries = [functions.as_entry(name, x, shape) for x in plain]
        main = max(entries, key=lambda e: (bool(e.sources), sum(map(len, e.kinds))))
        kinds = kinds_of(main, shape)
        entries = [self._turn(e, kinds, shape) for e in entries]
        sources, values = together(entries)
        found = functions.bind(eqn, values)
        note = next((e.assumed for e in entries if e.assumed), "")
        grid = np.broadcast_shapes(found.shape, *(v.shape for v in values))
        whole = np.broadcast_to(found, grid).copy()
        profile = next((e.profile for e in entries if e.profile is not None), None)
        made = Entry(sources, whole, tuple(shape), kinds, note, profile)
        made = functions.merge_sum(made, name)
        return Logits(made, mask) if masked else made

    def _turn(self, x: Entry, kinds: Any, shape: Any) -> Entry:
        """A law whose units are positions of another's: independent there."""
        turned = any(
            a and b and a[0][0] == UNIT and b[0][0] == POSITION
            for a, b in zip(kinds_of(x, shape), kinds, strict=True)
        )
        if not turned or not x.sources:
            return x
        fresh = tuple(
            self.pieces.setdefault((s, "turned"), replace(s, position=0.0))
            for s in x.sources
        )
        return replace(x, sources=fresh)

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
        made = []
        for k, v in enumerate(eqn.outvars[carried:]):
            made.append(functions.stack([each[k] for each in stacked], v.aval.shape))
        return [*carry, *made]


STEPS = "steps of a loop in time taken as independent"


def _rests_on_steps(x: Any) -> Any:
    """What a loop in time carries, which rests on more than the weights' laws."""
    return replace(x, assumed=x.assumed or STEPS) if isinstance(x, Entry) else x


def _product(eqn: Any, operands: Sequence[Any], batch: int) -> Any:
    """A product of data with data."""
    a, b = operands
    for side, (x, y) in enumerate(((a, b), (b, a))):
        if isinstance(x, Attention) and isinstance(y, Entry):
            return sums.average(eqn, x, y, side)
    if any(number_of(x) == 0 for x in operands):
        return number(0.0, eqn.outvars[0].aval.shape)
    if isinstance(a, Entry) and isinstance(b, Entry):
        return sums.scores(eqn, a, b)
    raise Lost("a product of data with data")
