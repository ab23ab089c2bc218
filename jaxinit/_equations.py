# SPDX-License-Identifier: Apache-2.0
"""Equations of a trace in groups: which belong together, and what each group needs."""

from collections.abc import Sequence

import jax.extend.core as jex

from jaxinit import _jaxpr

__all__ = ["by_kind", "connected", "constants_of", "inputs", "needed", "reads"]


def reads(equations: Sequence[jex.JaxprEqn]) -> list[jex.Var]:
    return [v for eqn in equations for v in eqn.invars if isinstance(v, jex.Var)]


def inputs(equations: Sequence[jex.JaxprEqn]) -> list[jex.Var]:
    """What the equations read and do not write, in order."""
    written = {v for eqn in equations for v in eqn.outvars}
    return [v for v in dict.fromkeys(reads(equations)) if v not in written]


def needed(
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
        if len(eqn.outvars) > 1 and _jaxpr.is_loop(eqn):
            parts = [each for k in outs for each in _jaxpr.only(eqn, k)]
        wanted.update(reads(parts))
        kept += reversed(parts)
    kept.reverse()
    return kept


def by_kind(
    equations: Sequence[jex.JaxprEqn],
) -> tuple[list[jex.JaxprEqn], list[jex.JaxprEqn], list[jex.JaxprEqn]]:
    """Equations that make keys; that depend on nothing; and the others."""
    keys: list[jex.JaxprEqn] = []
    constants: list[jex.JaxprEqn] = []
    others: list[jex.JaxprEqn] = []
    constant: set[jex.Var] = set()
    other: set[jex.Var] = set()
    for eqn in equations:
        read = reads([eqn])
        fixed, drawn = constant.intersection(read), other.intersection(read)
        if _jaxpr.derives_keys(eqn) and not fixed and not drawn:
            keys.append(eqn)
        elif constant.issuperset(read) and not _jaxpr.draws(eqn):
            constants.append(eqn)
            constant.update(eqn.outvars)
        else:
            others.append(eqn)
            other.update(eqn.outvars)
    return keys, constants, others


def connected(equations: Sequence[jex.JaxprEqn]) -> list[list[jex.JaxprEqn]]:
    """Groups of equations such that none reads what another group writes."""
    parent = {v: eqn.outvars[0] for eqn in equations for v in eqn.outvars}

    def root(v: jex.Var) -> jex.Var:
        while parent[v] is not v:
            parent[v] = v = parent[parent[v]]
        return v

    for eqn in equations:
        for v in reads([eqn]):
            if v in parent:
                parent[root(v)] = root(eqn.outvars[0])
    groups: dict[jex.Var, list[jex.JaxprEqn]] = {}
    for eqn in equations:
        groups.setdefault(root(eqn.outvars[0]), []).append(eqn)
    return list(groups.values())


def constants_of(
    group: Sequence[jex.JaxprEqn], writer: dict[jex.Var, jex.JaxprEqn]
) -> list[jex.JaxprEqn]:
    """The constant equations that a group needs, in order."""
    found: dict[int, jex.JaxprEqn] = {}

    def visit(equations: Sequence[jex.JaxprEqn]) -> None:
        for v in reads(equations):
            if v in writer and id(writer[v]) not in found:
                visit([writer[v]])
                found[id(writer[v])] = writer[v]

    visit(group)
    return list(found.values())
