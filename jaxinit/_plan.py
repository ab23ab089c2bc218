# SPDX-License-Identifier: Apache-2.0
"""The plan of a call of `jit_init`: the keys, then a program for each output."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxinit import _equations, _jaxpr
from jaxinit._fast import fast
from jaxinit._signature import signature

__all__ = ["Plan", "Program", "planned"]


class Program:
    """A function to compile; equal ones are the same object (see `_program`)."""

    def __init__(self, trace: jex.ClosedJaxpr, out_shardings: tuple[Any, ...]) -> None:
        avals: list[Any] = [v.aval for v in trace.jaxpr.invars]
        self._avals = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]
        self.run = jax.jit(
            jex.jaxpr_as_fun(fast(trace)),
            out_shardings=None if set(out_shardings) == {None} else list(out_shardings),
        )
        self.ready = False

    def lower(self, *known: Any) -> jax.stages.Lowered:
        """Lowered for its arguments, or for their shapes where they are not known."""
        pairs = zip(known or (None,) * len(self._avals), self._avals, strict=True)
        return self.run.lower(*[aval if x is None else x for x, aval in pairs])


class Step(NamedTuple):
    """A function and the variables that it reads and writes."""

    run: Callable[..., Any]
    inputs: list[jex.Var]
    outputs: list[jex.Var]
    program: Program | None = None  # whose `run` it is; none where the host fills


class Plan(NamedTuple):
    """How to compute the outputs: first the keys, then the arrays.

    `moves` has a sharding for each output that would come without the one asked for.
    """

    tree: Any
    graph: _jaxpr.Graph
    names: list[str]
    keys: list[Step]
    pieces: list[Step]
    moves: list[Any]

    @property
    def programs(self) -> list[Program]:
        """The distinct programs that draw."""
        return list(dict.fromkeys(s.program for s in self.pieces if s.program))

    def run(self, leaves: Sequence[Any]) -> list[Any]:
        env = {**self.graph.values, **dict(zip(self.graph.inputs, leaves, strict=True))}
        for v, name in zip(self.graph.inputs, self.names, strict=True):
            if isinstance(env[v], jax.ShapeDtypeStruct) and self._needs(v):
                raise TypeError(
                    f"jit_init: argument {name} is a ShapeDtypeStruct, and an output "
                    "depends on its values; pass an array"
                )
        home = _home(leaves)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            steps = self.keys + self.pieces
            if home is not None:  # where the keys lie is where the programs will run
                _take(self.keys, env, {})
                steps = self.pieces
            _take(steps, env, _compiling(pool, steps, env))
        results = [_read(env, atom) for atom in self.graph.outputs]
        results = [x if isinstance(x, jax.Array) else jnp.asarray(x) for x in results]
        # What is returned may be donated: each its own, and none the caller's.
        seen = {id(value) for value in (*self.graph.values.values(), *leaves)}
        for i, value in enumerate(results):
            if id(value) in seen:
                results[i] = jnp.copy(value)
            seen.add(id(value))
        return [
            _move(value, home if sharding is None and not value.committed else sharding)
            for value, sharding in zip(results, self.moves, strict=True)
        ]

    def _needs(self, v: jex.Var) -> bool:
        steps = [*self.keys, *self.pieces]
        return v in self.graph.outputs or any(v in step.inputs for step in steps)


def _compiling(
    pool: ThreadPoolExecutor, steps: Sequence[Step], env: dict[Any, Any]
) -> dict[Program | None, Future[Any]]:
    """The compilations of what was never compiled, on all cores, as lowering goes on.

    A program is lowered for the arguments that are known, and for the others' shapes.
    """
    fresh = {s.program: s for s in steps if s.program and not s.program.ready}
    compiling: dict[Program | None, Future[Any]] = {}
    for program, step in fresh.items():
        lowered = program.lower(*[env.get(v) for v in step.inputs])
        compiling[program] = pool.submit(lowered.compile)
        program.ready = True
    return compiling


def _take(
    steps: Sequence[Step],
    env: dict[Any, Any],
    compiling: dict[Program | None, Future[Any]],
) -> None:
    for step in steps:
        if step.program in compiling:
            compiling.pop(step.program).result()
        results = step.run(*[_read(env, atom) for atom in step.inputs])
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
        if getattr(leaf, "committed", False):
            mesh = getattr(leaf.sharding, "mesh", None)
            return NamedSharding(mesh, PartitionSpec()) if mesh else leaf.sharding
    return None


def _move(value: jax.Array, sharding: Any) -> jax.Array:
    if sharding is None:
        return value
    return jax.jit(jnp.copy, out_shardings=sharding)(value)


def planned(traced: Any, args: Any, kwargs: Any, out_shardings: Any) -> Plan:
    """How to compute the outputs of a trace."""
    names = [f"args{name}" for name, _ in _named(args)]
    names += [f"kwargs{name}" for name, _ in _named(kwargs)]
    graph = _jaxpr.graph(traced.jaxpr)
    out_info = traced.out_info
    placed = _shardings(out_info, out_shardings)
    wanted = {v for v in graph.outputs if isinstance(v, jex.Var)}
    needed = _equations.needed(graph.equations, wanted)
    keys, constants, draws = _equations.by_kind(needed)
    for eqn in (*constants, *draws):
        if eqn.effects:
            raise TypeError(f"jit_init: fn must be pure, and has effects {eqn.effects}")
    writer = {v: eqn for eqn in constants for v in eqn.outvars}
    cores = [*_equations.connected(draws)]
    cores += [[eqn] for eqn in constants if wanted.intersection(eqn.outvars)]

    # Keys that one group alone uses are made by a program of their own, so that their
    # rounds are compiled once and not with every shape; the others step by step.
    users: dict[jex.Var, set[int]] = {v: {-1} for v in wanted}
    for number, core in enumerate(cores):
        for v in _equations.reads(core):
            users.setdefault(v, set()).add(number)
    steps: list[Step] = []
    own: list[list[jex.JaxprEqn]] = [[] for _ in cores]
    for eqn in reversed(keys):
        by = set[int]().union(*(users.get(v, set()) for v in eqn.outvars))
        for v in _equations.reads([eqn]):
            users.setdefault(v, set()).update(by)
        if len(by) == 1 and -1 not in by:
            own[by.pop()].insert(0, eqn)
        else:
            steps.insert(0, _step([eqn], eqn.outvars, {}))

    sharding: dict[jex.Var, Any] = {}
    for v, asked in zip(graph.outputs, placed, strict=True):
        if isinstance(v, jex.Var):
            sharding.setdefault(v, asked)
    pieces = []
    for core, made in zip(cores, own, strict=True):
        group = [*_equations.constants_of(core, writer), *core]
        if made:
            read = {*_equations.reads(group)}
            outputs = [v for eqn in made for v in eqn.outvars if v in read]
            steps.append(_step(made, outputs, {}))
        outputs = [v for eqn in core for v in eqn.outvars if v in wanted]
        pieces.append(_step(group, outputs, sharding))
    drawn = {v: sharding[v] for step in pieces for v in step.outputs}
    moves = [
        None if isinstance(v, jex.Var) and drawn.get(v, ...) == asked else asked
        for v, asked in zip(graph.outputs, placed, strict=True)
    ]
    steps, pieces = [_filling([*steps, *pieces]), *_compiled(steps)], _compiled(pieces)
    tree = jax.tree.structure(out_info)
    return Plan(tree, graph, names, steps, pieces, moves)


def _compiled(steps: Sequence[Step]) -> list[Step]:
    return [step for step in steps if step.program]


def _filling(steps: Sequence[Step]) -> Step:
    """The steps that the host takes, as one: half the time of one for each."""
    fills = [step for step in steps if not step.program]
    outputs = [v for step in fills for v in step.outputs]
    return Step(lambda: jax.device_put([step.run() for step in fills]), [], outputs)


def _step(
    equations: Sequence[jex.JaxprEqn],
    outputs: Sequence[jex.Var],
    sharding: Mapping[jex.Var, Any],
) -> Step:
    inputs, asked = _equations.inputs(equations), tuple(map(sharding.get, outputs))
    if set(asked) == {None} and (array := _jaxpr.filled(equations)):
        return Step(array, inputs, [*outputs])
    program = _program(_Trace(_jaxpr.closed(inputs, equations, outputs)), asked)
    return Step(program.run, inputs, [*outputs], program)


class _Trace:
    """A trace that is equal to another where their signatures are."""

    def __init__(self, trace: jex.ClosedJaxpr) -> None:
        self.trace = trace
        self._signature = signature(trace)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Trace) and self._signature == other._signature

    def __hash__(self) -> int:
        return hash(self._signature)


@functools.lru_cache(maxsize=4096)
def _program(trace: _Trace, out_shardings: tuple[Any, ...]) -> Program:
    return Program(trace.trace, out_shardings)


def _shardings(out_info: Any, out_shardings: Any) -> list[Any]:
    """The sharding of each output, or None."""
    if out_shardings is None:
        return [None] * len(jax.tree.leaves(out_info))
    if callable(out_shardings):  # for `jaxinit.nnx`, where the output tells
        out_shardings = out_shardings(out_info)
    try:
        whole = jax.tree.broadcast(
            out_shardings, out_info, is_leaf=lambda each: each is None
        )
    except ValueError as error:
        raise ValueError(
            f"jit_init: out_shardings must be a prefix of the output's tree: {error}"
        ) from error
    leaves = jax.tree.leaves(whole, is_leaf=lambda each: each is None)
    for (name, info), sharding in zip(_named(out_info), leaves, strict=True):
        if isinstance(sharding, jax.sharding.Sharding):
            try:
                sharding.shard_shape(info.shape)
            except ValueError as error:
                raise ValueError(
                    f"jit_init: output {name} of shape {info.shape} cannot be placed "
                    f"as {sharding}: {error}"
                ) from error
    return leaves


def _named(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree.leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]
