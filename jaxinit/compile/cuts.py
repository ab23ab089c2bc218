# SPDX-License-Identifier: Apache-2.0
"""Equations of a trace in groups: which belong together, and what each group needs."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxinit import compat as jex
from jaxinit.network import alike, traces

__all__ = [
    "Kinds",
    "by_kind",
    "components",
    "constant_groups",
    "dependencies",
    "draw_groups",
    "inputs",
    "reads",
    "rename",
    "with_constants",
]


def reads(equations: Sequence[jex.JaxprEqn]) -> list[jex.Var]:
    return [v for eqn in equations for v in eqn.invars if isinstance(v, jex.Var)]


def inputs(equations: Sequence[jex.JaxprEqn]) -> list[jex.Var]:
    """What the equations read and do not write, in order."""
    written = {v for eqn in equations for v in eqn.outvars}
    return [v for v in dict.fromkeys(reads(equations)) if v not in written]


def dependencies(
    equations: Sequence[jex.JaxprEqn], wanted: set[jex.Var]
) -> list[jex.JaxprEqn]:
    """The equations that the wanted variables depend on; loops give up the rest."""
    wanted = set(wanted)
    kept: list[jex.JaxprEqn] = []
    for eqn in reversed(equations):
        outs = [k for k, v in enumerate(eqn.outvars) if v in wanted]
        if not outs:
            continue
        parts = [eqn]
        if len(eqn.outvars) > 1 and traces.is_loop(eqn):
            parts = [each for k in outs for each in traces.only(eqn, k)]
        wanted.update(reads(parts))
        kept += reversed(parts)
    kept.reverse()
    return kept


class Kinds(NamedTuple):
    """The equations of a graph by what they depend on; see `by_kind`."""

    keys: list[jex.JaxprEqn]
    constants: list[jex.JaxprEqn]
    others: list[jex.JaxprEqn]
    tables: set[jex.Var]  # the constants whose elements differ
    same: dict[jex.Var, jex.Var]  # for a table that is made twice, the first


def by_kind(equations: Sequence[jex.JaxprEqn], known: Mapping[jex.Var, Any]) -> Kinds:
    """Equations that make keys; that depend on nothing; and the others.

    A small range of integers is of the first two kinds: keys may be made of it, and
    where it becomes a table XLA has to see the whole of it, because it computes a
    constant otherwise than an argument. A table that is made twice is made once, as
    XLA sees to.
    """
    kinds = Kinds([], [], [], set(), {})
    constant = {v for v in known if not traces.is_key(v.aval)}
    kinds.tables.update(v for v in constant if _size(v) > 1)
    fixed: set[jex.Var] = set()  # constants that no key is made of
    other: set[jex.Var] = set()
    seen: dict[Hashable, jex.JaxprEqn] = {}
    for each in equations:
        eqn = rename(each, kinds.same)
        read = reads([eqn])
        made_of_nothing = (
            constant.issuperset(read)
            and not traces.draws(eqn)
            and not any(traces.is_key(v.aval) for v in eqn.outvars)
        )
        if made_of_nothing and _makes_table(eqn, read, kinds.tables):
            first = seen.setdefault(alike(eqn), eqn)
            kinds.tables.update(eqn.outvars)
            if first is not eqn:
                kinds.same.update(zip(eqn.outvars, first.outvars, strict=True))
                continue
        makes_keys = (
            traces.derives_keys(eqn)
            and not fixed.intersection(read)
            and not other.intersection(read)
        )
        if makes_keys:
            kinds.keys.append(eqn)
        if made_of_nothing:
            kinds.constants.append(eqn)
            constant.update(eqn.outvars)
        if not makes_keys:
            (fixed if made_of_nothing else other).update(eqn.outvars)
            if not made_of_nothing:
                kinds.others.append(eqn)
    return kinds


def rename(eqn: jex.JaxprEqn, names: Mapping[jex.Var, jex.Var]) -> jex.JaxprEqn:
    if not any(isinstance(v, jex.Var) and v in names for v in eqn.invars):
        return eqn
    atoms = [names.get(v, v) if isinstance(v, jex.Var) else v for v in eqn.invars]
    return eqn.replace(invars=atoms)


def _makes_table(
    eqn: jex.JaxprEqn, read: Sequence[jex.Var], tables: set[jex.Var]
) -> bool:
    if read:
        return not tables.isdisjoint(read)
    fills = eqn.primitive.name == "broadcast_in_dim"
    return not fills and any(_size(v) > 1 for v in eqn.outvars)


def _size(v: jex.Var) -> int:
    aval: Any = v.aval
    return int(getattr(aval, "size", 1))


def components(
    equations: Sequence[jex.JaxprEqn], cut: Collection[jex.Var] = ()
) -> list[list[jex.JaxprEqn]]:
    """Groups of equations such that none reads what another writes, except `cut`."""
    parent = {v: eqn.outvars[0] for eqn in equations for v in eqn.outvars}

    def root(v: jex.Var) -> jex.Var:
        while parent[v] is not v:
            parent[v] = v = parent[parent[v]]
        return v

    for eqn in equations:
        for v in reads([eqn]):
            if v in parent and v not in cut:
                parent[root(v)] = root(eqn.outvars[0])
    groups: dict[jex.Var, list[jex.JaxprEqn]] = {}
    for eqn in equations:
        groups.setdefault(root(eqn.outvars[0]), []).append(eqn)
    return list(groups.values())


def draw_groups(
    equations: Sequence[jex.JaxprEqn], wanted: set[jex.Var]
) -> list[list[jex.JaxprEqn]]:
    """Groups in an order in which each may be run, cut at the kernels of a network.

    A kernel that is an output and that products alone read, such as those of the layers
    before a running average, lies in memory in any program: it is drawn on its own, and
    the products are given the array.
    """
    readers: dict[jex.Var, list[jex.JaxprEqn]] = {}
    for eqn in equations:
        for v in reads([eqn]):
            readers.setdefault(v, []).append(eqn)
    written = {v for eqn in equations for v in eqn.outvars}
    cut = {
        v
        for v in wanted & written & readers.keys()
        if all(map(traces.is_product, readers[v]))
    }
    while True:
        groups = components(equations, cut)
        later = [bool(cut.intersection(inputs(group))) for group in groups]
        both = cut.intersection(
            v
            for group, reading in zip(groups, later, strict=True)
            if reading
            for eqn in group
            for v in eqn.outvars
        )
        if not both:
            order = sorted(range(len(groups)), key=later.__getitem__)
            return [groups[i] for i in order]
        cut -= both


def constant_groups(kinds: Kinds, wanted: set[jex.Var]) -> list[list[jex.JaxprEqn]]:
    """The wanted constants: tables with those that share their making, others alone."""
    tables, plain = [], []
    for eqn in kinds.constants:
        if not kinds.tables.isdisjoint(eqn.outvars):
            tables.append(eqn)
        elif wanted.intersection(eqn.outvars):
            plain.append([eqn])
    return [*components(dependencies(tables, wanted)), *plain]


def with_constants(
    group: Sequence[jex.JaxprEqn], writer: Mapping[jex.Var, jex.JaxprEqn]
) -> list[jex.JaxprEqn]:
    """A group after the constant equations that it needs, in order."""
    found: dict[int, jex.JaxprEqn] = {}

    def visit(equations: Sequence[jex.JaxprEqn]) -> None:
        for v in reads(equations):
            if v in writer and id(writer[v]) not in found:
                visit([writer[v]])
                found[id(writer[v])] = writer[v]

    visit(group)
    for eqn in group:
        found.pop(id(eqn), None)
    return [*found.values(), *group]
