# SPDX-License-Identifier: Apache-2.0
"""The plan of a call of `jit_init`: the keys, then a program for each output."""

import collections
import os
import types
import weakref
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxinit import compat as jex
from jaxinit.compile import cuts
from jaxinit.compile.arguments import Refusal, leaves_by_name
from jaxinit.compile.draws import with_fast_bits
from jaxinit.network import SMALL, keeps_objects, signature, traces

__all__ = ["Plan", "Program", "make_plan"]


class Program:
    """A function to compile; equal ones are the same object (see `_program`)."""

    def __init__(self, trace: jex.ClosedJaxpr, out_shardings: tuple[Any, ...]) -> None:
        avals: list[Any] = [v.aval for v in trace.jaxpr.invars]
        self._avals = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]
        self.run = jax.jit(
            jex.jaxpr_as_fun(with_fast_bits(trace)),
            out_shardings=None if set(out_shardings) == {None} else list(out_shardings),
        )
        self.ready = False

    def lower(self, *known: Any) -> jax.stages.Lowered:
        """Lowered for its arguments, or for their shapes where they are not known."""
        pairs = zip(known or (None,) * len(self._avals), self._avals, strict=True)
        return self.run.lower(*[aval if x is None else x for x, aval in pairs])


class Step(NamedTuple):
    """A program and the variables that it reads and writes."""

    program: Program
    inputs: list[jex.Var]
    outputs: list[jex.Var]


class Plan(NamedTuple):
    """How to compute the outputs: first the keys, then the arrays.

    `moves` has a sharding for each output that would come without the one asked for.
    """

    tree: Any
    graph: traces.Graph
    names: list[str]
    keys: list[Step]
    pieces: list[Step]
    moves: list[Any]

    @property
    def programs(self) -> list[Program]:
        """The distinct programs that draw."""
        return list(dict.fromkeys(step.program for step in self.pieces))

    def run(self, leaves: Sequence[Any]) -> list[Any]:
        env = {**self.graph.values, **dict(zip(self.graph.inputs, leaves, strict=True))}
        for v, name in zip(self.graph.inputs, self.names, strict=True):
            if isinstance(env[v], jax.ShapeDtypeStruct) and self._needs(v):
                raise Refusal(
                    f"jit_init: argument {name} is a ShapeDtypeStruct, and an output "
                    "depends on its values; pass an array"
                )
        home = _home(leaves)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            steps = self.keys + self.pieces
            if home is not None:  # where the keys lie is where the programs will run
                _take(self.keys, env, {})
                steps = self.pieces
            _take(steps, env, _compilations(pool, steps, env))
        results = [_read(env, atom) for atom in self.graph.outputs]
        results = [x if isinstance(x, jax.Array) else jnp.asarray(x) for x in results]
        # An output may be donated: no two share a buffer, and none has the caller's.
        seen = {id(value) for value in (*self.graph.values.values(), *leaves)}
        for i, value in enumerate(results):
            if id(value) in seen:
                results[i] = jnp.copy(value)
            seen.add(id(value))
        return [
            _move(value, sharding if sharding or jex.is_committed(value) else home)
            for value, sharding in zip(results, self.moves, strict=True)
        ]

    def _needs(self, v: jex.Var) -> bool:
        steps = [*self.keys, *self.pieces]
        return v in self.graph.outputs or any(v in step.inputs for step in steps)


def _compilations(
    pool: ThreadPoolExecutor, steps: Sequence[Step], env: dict[Any, Any]
) -> dict[Program, Future[Any]]:
    """The compilations of what was never compiled, on all cores, as lowering goes on.

    A program is lowered for the arguments that are known, and for the others' shapes.
    """
    fresh = {s.program: s for s in steps if not s.program.ready}
    if any(jex.is_committed(each) for each in env.values()):
        # What a step draws for another is committed to a device when it is drawn.
        drawn = {v for step in steps for v in step.outputs}
        fresh = {p: s for p, s in fresh.items() if drawn.isdisjoint(s.inputs)}
    compiling: dict[Program, Future[Any]] = {}
    for program, step in fresh.items():
        lowered = program.lower(*[env.get(v) for v in step.inputs])
        compiling[program] = pool.submit(lowered.compile)
        program.ready = True
    return compiling


def _take(
    steps: Sequence[Step],
    env: dict[Any, Any],
    compiling: dict[Program, Future[Any]],
) -> None:
    for step in steps:
        if step.program in compiling:
            compiling.pop(step.program).result()
        results = step.program.run(*[_read(env, atom) for atom in step.inputs])
        env.update(zip(step.outputs, results, strict=True))


def _read(env: dict[Any, Any], atom: Any) -> Any:
    if isinstance(atom, jex.Literal):
        aval: Any = atom.aval
        value = np.asarray(atom.val, aval.dtype)
        return jnp.asarray(value.item() if aval.weak_type else value)
    return env[atom]


def _home(leaves: Sequence[Any]) -> Any:
    """Where `jax.jit` would put outputs that depend on no argument."""
    for leaf in leaves:
        if jex.is_committed(leaf):
            mesh = getattr(leaf.sharding, "mesh", None)
            return NamedSharding(mesh, PartitionSpec()) if mesh else leaf.sharding
    return None


def _move(value: jax.Array, sharding: Any) -> jax.Array:
    if sharding is None:
        return value
    return jax.jit(jnp.copy, out_shardings=sharding)(value)


def make_plan(traced: Any, args: Any, kwargs: Any, placed: Sequence[Any]) -> Plan:
    """How to compute the outputs of a trace; `placed` is the sharding of each."""
    names = [f"args{name}" for name, _ in leaves_by_name(args)]
    names += [f"kwargs{name}" for name, _ in leaves_by_name(kwargs)]
    graph = traces.graph(traced.jaxpr)
    wanted = {v for v in graph.outputs if isinstance(v, jex.Var)}
    kinds = cuts.by_kind(cuts.dependencies(graph.equations, wanted), graph.values)
    for eqn in (*kinds.constants, *kinds.others):
        if eqn.effects:
            raise Refusal(f"jit_init: fn must be pure, and has effects {eqn.effects}")
    graph.outputs[:] = [
        kinds.same.get(v, v) if isinstance(v, jex.Var) else v for v in graph.outputs
    ]
    wanted = {v for v in graph.outputs if isinstance(v, jex.Var)}
    apart = all(sharding is None for sharding in placed)
    cores = cuts.draw_groups(kinds.others, wanted if apart else set())
    cores += cuts.constant_groups(kinds, wanted)
    writer = {v: eqn for eqn in kinds.constants for v in eqn.outvars}

    sharding: dict[jex.Var, Any] = {}
    for v, asked in zip(graph.outputs, placed, strict=True):
        if isinstance(v, jex.Var):
            sharding.setdefault(v, asked)
    groups = [cuts.with_constants(core, writer) for core in cores]
    readers = collections.Counter(v for group in groups for v in cuts.inputs(group))
    pieces = []
    for core, group in zip(cores, groups, strict=True):
        known = {
            v: graph.values[v]
            for v in cuts.inputs(group)
            if v in graph.values and _is_constant(graph.values[v], readers[v])
        }
        outputs = [v for eqn in core for v in eqn.outvars if v in wanted]
        pieces.append(_step(group, outputs, sharding, known))
    # Keys are made step by step, each distinct step compiled once.
    read = {*readers} | (wanted - writer.keys())
    keys = [_step([eqn], eqn.outvars) for eqn in cuts.dependencies(kinds.keys, read)]
    drawn = {v: sharding[v] for step in pieces for v in step.outputs}
    moves = [
        None if isinstance(v, jex.Var) and drawn.get(v, ...) == asked else asked
        for v, asked in zip(graph.outputs, placed, strict=True)
    ]
    tree = jax.tree.structure(traced.out_info)
    return Plan(tree, graph, names, keys, pieces, moves)


def _is_constant(value: Any, readers: int) -> bool:
    """Whether a captured value is a constant of the programs that read it.

    As it is in `jax.jit`; a large one that many read is an argument, to lie there once.
    """
    return not traces.is_key(jax.typeof(value)) and (
        readers == 1 or np.size(value) <= SMALL
    )


def _step(
    equations: Sequence[jex.JaxprEqn],
    outputs: Sequence[jex.Var],
    sharding: Mapping[jex.Var, Any] = types.MappingProxyType({}),
    known: Mapping[jex.Var, Any] = types.MappingProxyType({}),
) -> Step:
    inputs = [v for v in cuts.inputs(equations) if v not in known]
    asked = tuple(map(sharding.get, outputs))
    program = _program(traces.close(inputs, equations, outputs, known), asked)
    return Step(program, inputs, [*outputs])


# Equal programs are one object while a plan holds it. The newest that keep no object of
# the user's stay for the next model.
_programs: weakref.WeakValueDictionary[Hashable, Program] = (
    weakref.WeakValueDictionary()
)
_newest: collections.deque[Program] = collections.deque(maxlen=512)


def _program(trace: jex.ClosedJaxpr, out_shardings: tuple[Any, ...]) -> Program:
    name = signature(trace), out_shardings
    program = _programs.get(name)
    if program is None:
        program = _programs.setdefault(name, Program(trace, out_shardings))
        if not keeps_objects(trace):
            _newest.append(program)
    return program
