# SPDX-License-Identifier: Apache-2.0
"""A network's pass over a batch, traced and read once, with a tap at every kernel."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import checks as check
from jaxinit.network import (
    Graph,
    Network,
    Reader,
    biased,
    body_of,
    parameters,
    pass_of,
)
from jaxinit.signal.taps import CALLS, Own, Plan, Tap, run

__all__ = ["Observation", "Traced"]


@dataclass(frozen=True)
class Observation:
    """What a tap saw; `at` are the steps of the loops over layers."""

    tap: Tap
    label: str
    at: tuple[int | None, ...]
    shape: tuple[int, ...]
    record: Mapping[str, Any]
    back: Mapping[str, Any]

    @property
    def count(self) -> int:
        """How many numbers the output has."""
        return math.prod(self.shape)

    def index(self, own: Own) -> tuple[int, ...]:
        """Which slice of a parameter is used here."""
        steps = (self.at[depth] for depth in own.depths)
        return tuple(next(steps) or 0 if i is None else i for i in own.at)


class Traced:
    """A model's pass over a batch, traced and read once, to be run with its taps."""

    def __init__(
        self, model: Any, args: Sequence[Any], kwargs: Any, *, values: bool = True
    ) -> None:
        given = pass_of(model, args, kwargs)
        for leaf in (*given.leaves, *given.arrays) if values else ():
            if isinstance(leaf, jax.ShapeDtypeStruct) or check.is_traced(leaf):
                raise TypeError(
                    "the model, its variables and the batch must have values, got "
                    f"{leaf}; pass real arrays, outside jax.jit"
                )
        self.given, self.leaves = given, list(given.leaves)
        trace, out = jax.make_jaxpr(given.run, return_shape=True)(
            given.leaves, given.arrays
        )
        self.trace, self.out = trace, jax.tree.structure(out)
        self.reader = Reader(trace, given.kinds)
        self.graph = Graph(self.reader)
        self.numbers = [i for i in range(len(self.leaves)) if i not in given.fixed]
        paths = [given.paths[i] for i in self.numbers]
        shapes = [self.leaves[i].shape for i in self.numbers]
        self.network = Network(parameters(self.graph, paths, shapes))
        self.taps = [tap for k in range(len(self.reader.uses)) for tap in self._tap(k)]
        self.plan = Plan()
        for n, tap in enumerate(self.taps):
            *above, eqn, which = tap.place
            plan = self.plan
            for i in above:
                plan = plan.inner.setdefault(i, Plan())
            plan.taps.setdefault(eqn, {}).setdefault(which, []).append(n)
        if not self.taps:
            raise ValueError(
                f"no kernel was found in {given.who}: none of its parameters meets the "
                "batch in a product, a convolution or a look-up that can be measured"
            )
        if all(0 in tap.shape for tap in self.taps):
            raise ValueError(
                f"the batch must have examples: the output of {self.taps[0].path} has "
                f"the shape {self.taps[0].shape}"
            )

    @property
    def lost(self) -> list[str]:
        """The parameters that are, or may be, kernels and are not measured."""
        seen = {tap.own[0].leaf for tap in self.taps}
        roles = ("kernel", "embedding", "unknown", "unused")
        return [
            self.given.paths[i]
            for i in self.numbers
            if i not in seen
            and self.leaves[i].ndim > 1
            and self.network[self.given.paths[i]].role in roles
        ]

    @property
    def probes(self) -> dict[int, Any]:
        """The probes of all taps."""
        return {n: tap.probe for n, tap in enumerate(self.taps)}

    def run(self, leaves: Any, arrays: Any, probes: Any) -> tuple[Any, Any]:
        """What the model returns, and the records of its taps."""
        args = jax.tree.leaves((leaves, arrays))
        consts = self.trace.consts
        trace, plan = self.trace.jaxpr, self.plan
        outs, records = run(self.taps, trace, consts, args, plan, probes, 0)
        return jax.tree.unflatten(self.out, outs), records

    def reverse(self) -> Any:
        """The trace of a reverse pass, of leaves, arrays, marks and cotangents.

        What comes back to each tap is marked by its name. The cotangents are those of
        `outputs`.
        """
        marks = [tap.mark for tap in self.taps]

        def run(leaves: Any, arrays: Any, marks: Any, cotangents: Any) -> Any:
            def floats(marks: Any) -> list[Any]:
                out, _ = self.run(leaves, arrays, dict(enumerate(marks)))
                return [x for x in jax.tree.leaves(out) if _is_float(x)]

            return jax.vjp(floats, marks)[1](cotangents)

        args = (self.leaves, self.given.arrays, marks, self.outputs)
        return jax.make_jaxpr(run)(*args)

    @property
    def outputs(self) -> list[Any]:
        """The shapes of the floating-point outputs."""
        outs = self.trace.out_avals
        shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in outs]
        return [x for x in shapes if _is_float(x)]

    def labels(self) -> Iterator[tuple[int, Tap, str, tuple[int, ...], int]]:
        """The rows, in order of execution: the tap, its label and shape, its steps."""
        for n, at in _unroll(self.taps, range(len(self.taps)), ()):
            tap = self.taps[n]
            label, times = _label(tap, at)
            yield n, tap, label, (*times, *tap.shape), math.prod(times)

    def observations(self, records: Any, backs: Any) -> Iterator[Observation]:
        """What each tap saw, in order of execution, loops over layers unrolled."""
        for n, at in _unroll(self.taps, range(len(self.taps)), ()):
            tap = self.taps[n]
            record = {k: _step(x, at) for k, x in records[n].items()}
            layers = tuple(i for i in at if i is not None)
            back = {k: np.asarray(x)[layers] for k, x in backs[n].items()}
            label, times = _label(tap, at)
            yield Observation(tap, label, at, (*times, *tap.shape), record, back)

    # --- taps -----------------------------------------------------------------------

    def _tap(self, k: int) -> Iterator[Tap]:
        use = self.reader.uses[k]
        if use.out is None or use.role not in ("kernel", "embedding"):
            return
        node, view, biases = biased(self.reader.uses, k)
        if not self._is_reached(node.place[:-1]):
            return
        units, slices = view.units, view.slices
        shape = tuple(
            n if part is None else part.stop - part.start
            for n, part in zip(
                node.shape, slices or [None] * len(node.shape), strict=True
            )
        )
        own = tuple(self._parameter(each) for each in (use, *biases))
        path = self.given.paths[own[0].leaf]
        hand = [str(i) for i in own[0].at if i is not None]
        path = f"{path}[{','.join(hand)}]" if hand else path
        yield Tap(k, path, node.place, slices, units, shape, use.loops, own)

    def _parameter(self, use: Any) -> Own:
        """A parameter of a use, and which slice of it."""
        leaf = self.numbers[use.parameter]
        shape = self.leaves[leaf].shape
        loops = enumerate(use.loops)
        depths = tuple(d for d, loop in loops if use.parameter in loop.stacked)
        axes = [r.axis for r in use.copies[: len(depths)]]
        index: list[int | None] = [None] * len(axes)
        used = {r.axis for r in (*use.ins, *use.outs, *use.window)}
        for r in use.fixed:
            if shape[r.axis] > 1 and r.axis not in used and r.axis not in axes:
                axes.append(r.axis)
                index.append(r.start)
        return Own(leaf, tuple(axes), tuple(index), depths)

    def _is_reached(self, place: Sequence[int]) -> bool:
        """Whether all equations around a place are taken apart when it runs."""
        jaxpr = self.trace.jaxpr
        for i in place[:-1]:
            eqn = jaxpr.eqns[i]
            if eqn.primitive.name not in (*CALLS, "scan"):
                return False
            jaxpr, _ = body_of(eqn)
        return True


def _is_float(x: Any) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating))


def _label(tap: Tap, at: Sequence[int | None]) -> tuple[str, list[int]]:
    """The path with the slice of a stack, and the lengths of the loops over time."""
    steps = zip(tap.loops, at, strict=True)
    times = [loop.length for loop, step in steps if step is None]
    index = [str(at[depth]) for depth in tap.own[0].depths]
    return (f"{tap.path}[{','.join(index)}]" if index else tap.path), times


def _unroll(
    taps: Sequence[Tap], numbers: Sequence[int], at: tuple[int | None, ...]
) -> Iterator[tuple[int, tuple[int | None, ...]]]:
    """The taps in order of execution, with the steps of the loops around them."""
    depth, k = len(at), 0
    while k < len(numbers):
        tap = taps[numbers[k]]
        if len(tap.loops) == depth:
            yield numbers[k], at
            k += 1
            continue
        loop, group = tap.loops[depth], []
        while k < len(numbers):
            loops = taps[numbers[k]].loops
            if len(loops) <= depth or loops[depth] is not loop:
                break
            group.append(numbers[k])
            k += 1
        for step in range(loop.length) if loop.stacked else (None,):
            yield from _unroll(taps, group, (*at, step))


def _step(x: Any, at: Sequence[int | None]) -> Any:
    """The sums of one step of the loops over layers, of all steps of those in time."""
    for i in at:
        x = x.sum(0) if i is None else x[i]
    return x
