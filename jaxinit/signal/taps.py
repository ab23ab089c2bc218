# SPDX-License-Identifier: Apache-2.0
"""Taps: a trace, run with what the outputs of its kernels hold and what comes back.

A tap lies where a kernel's output, with its bias, is computed, wherever that is in the
trace: it passes the signal on, records its sums, and has a probe, an input that adds
nothing and whose gradient, by a rule of its own, is the sums of the signal that comes
back. So one reverse pass measures every kernel, and holds no more than training does.
A probe of one number marks what comes back by a name, for who reads the reverse trace.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxinit import compat as jex
from jaxinit.network import Loop, body_of, close, scan_counts
from jaxinit.signal.sums import powers, totals

__all__ = ["CALLS", "Own", "Plan", "Tap", "run"]

CALLS = ("checkpoint", "closed_call", "core_call", "jit", "pjit", "remat", "remat2")


class Own(NamedTuple):
    """A parameter of a tap, and which slice of it.

    Attributes:
        leaf: its number among the leaves.
        axes: those along which a slice is taken.
        at: where; None where it is the step of a loop over layers.
        depths: those loops, by their place among the loops around the tap.
    """

    leaf: int
    axes: tuple[int, ...]
    at: tuple[int | None, ...]
    depths: tuple[int, ...]


@dataclass(frozen=True)
class Tap:
    """The output of one use of a kernel, or of an embedding.

    Attributes:
        use: its number in the reading.
        path: the parameter's path, with the index of a slice that is taken by hand.
        place: the equation and the output that it is, by its place in the trace.
        slices: where it is in the array; None if it is all of it.
        units: the axes of its units.
        shape: of the output.
        loops: the loops around it.
        own: the kernel and its biases.
    """

    use: int
    path: str
    place: tuple[int, ...]
    slices: tuple[slice, ...] | None
    units: tuple[int, ...]
    shape: tuple[int, ...]
    loops: tuple[Loop, ...]
    own: tuple[Own, ...]

    def of(self, array: jax.Array) -> jax.Array:
        """The tap's part of the array that is computed there."""
        return array if self.slices is None else array[self.slices]

    @property
    def probe(self) -> dict[str, np.ndarray]:
        """Zeros, in whose place a reverse pass leaves what came back."""
        units = math.prod(self.shape[i] for i in self.units)
        sizes = {"power": 3, "alive": units}
        return {
            name: np.zeros((*self.mark.shape, n), np.float32)
            for name, n in sizes.items()
        }

    @property
    def mark(self) -> np.ndarray:
        """Zeros, for a reverse pass to mark what comes back by the tap's name."""
        over = [loop.length for loop in self.loops if loop.stacked]
        return np.zeros(over, np.float32)

    @property
    def name(self) -> str:
        """What it is called in a reverse trace."""
        return f"jaxinit tap {self.use}"


@dataclass
class Plan:
    """The taps of a function: at its own equations, and in those that it calls."""

    taps: dict[int, dict[int, list[int]]] = field(default_factory=dict)
    inner: dict[int, "Plan"] = field(default_factory=dict)

    @property
    def numbers(self) -> list[int]:
        """All taps in it."""
        own = [n for outs in self.taps.values() for ns in outs.values() for n in ns]
        return own + [n for each in self.inner.values() for n in each.numbers]


def run(
    taps: Sequence[Tap],
    jaxpr: Any,
    consts: Sequence[Any],
    args: Sequence[Any],
    plan: Plan,
    probes: Mapping[int, Any] | None,
    depth: int,
) -> tuple[list[Any], dict[int, Any]]:
    """The outputs of a function and the records of the taps in it, by their numbers.

    Without probes a record is the signal itself. `depth` counts the loops around it.
    """
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
    records: dict[int, Any] = {}
    waiting: list[Any] = []

    def read(atom: Any) -> Any:
        if isinstance(atom, jex.Literal):
            aval: Any = atom.aval
            return jnp.asarray(atom.val, aval.dtype)
        return env[atom]

    def catch_up() -> None:
        """Run the equations without taps, all of them at once."""
        used = dict.fromkeys(
            v for e in waiting for v in e.invars if not isinstance(v, jex.Literal)
        )
        inputs = [v for v in used if v in env]
        outputs = [
            v for e in waiting for v in e.outvars if not isinstance(v, jex.DropVar)
        ]
        run = jex.jaxpr_as_fun(close(inputs, waiting, outputs))
        env.update(zip(outputs, run(*map(read, inputs)), strict=True))
        waiting.clear()

    for i, eqn in enumerate(jaxpr.eqns):
        if i in plan.inner:
            catch_up()
            given = [read(atom) for atom in eqn.invars]
            if eqn.primitive.name == "scan":
                outs, found = _scan(taps, eqn, given, plan.inner[i], probes, depth)
            else:
                body = body_of(eqn)
                outs, found = run(taps, *body, given, plan.inner[i], probes, depth)
            records |= found
            env.update(zip(eqn.outvars, outs, strict=True))
            continue
        waiting.append(eqn)
        if i in plan.taps:
            catch_up()
            for which, numbers in plan.taps[i].items():
                v = eqn.outvars[which]
                for n in numbers:
                    if probes is None:
                        records[n] = {"value": taps[n].of(env[v])}
                    else:
                        env[v], records[n] = _record(taps[n], env[v], probes[n])
    catch_up()
    return [read(atom) for atom in jaxpr.outvars], records


def _scan(
    taps: Sequence[Tap],
    eqn: Any,
    given: Sequence[Any],
    plan: Plan,
    probes: Mapping[int, Any] | None,
    depth: int,
) -> tuple[list[Any], Any]:
    consts, carry = scan_counts(eqn)
    start, numbers = consts + carry, plan.numbers
    over_layers = bool(taps[numbers[0]].loops[depth].stacked)
    inside = None if probes is None else {n: probes[n] for n in numbers}

    def step(carried: Any, sliced: Any) -> Any:
        values, mine = sliced
        args = (*given[:consts], *carried, *values)
        own = mine if over_layers else inside
        outs, records = run(taps, *body_of(eqn), args, plan, own, depth + 1)
        return outs[:carry], (outs[carry:], records)

    sliced = (given[start:], inside if over_layers else None)
    options = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
    last, (outs, records) = lax.scan(step, list(given[consts:start]), sliced, **options)
    return [*last, *outs], records


def _record(tap: Tap, y: jax.Array, probe: Any) -> tuple[jax.Array, Any]:
    if not isinstance(probe, Mapping):
        return _signpost(tap.name, y, probe), {}
    piece = tap.of(y)
    record = {"total": totals(piece), "power": powers(piece)}
    passed = _tap(tap.units, piece, probe)
    whole = passed if tap.slices is None else y.at[tap.slices].set(passed)
    return whole, record


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _tap(units: tuple[int, ...], y: jax.Array, probe: Any) -> jax.Array:
    return y


def _tap_forward(
    units: tuple[int, ...], y: jax.Array, probe: Any
) -> tuple[jax.Array, None]:
    return y, None


def _tap_backward(units: tuple[int, ...], _: None, g: jax.Array) -> tuple[Any, Any]:
    others = tuple(axis for axis in range(g.ndim) if axis not in units)
    alive = (g != 0).sum(others, dtype=jnp.float32).reshape(-1)
    return g, {"power": powers(g), "alive": alive}


_tap.defvjp(_tap_forward, _tap_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _signpost(name: str, y: jax.Array, probe: Any) -> jax.Array:
    return y


def _signpost_forward(name: str, y: jax.Array, probe: Any) -> tuple[jax.Array, None]:
    return y, None


def _signpost_backward(name: str, _: None, g: jax.Array) -> tuple[Any, Any]:
    g = checkpoint_name(g, name)
    return g, jnp.real(g).sum(dtype=jnp.float32)


_signpost.defvjp(_signpost_forward, _signpost_backward)
