# SPDX-License-Identifier: Apache-2.0
"""The fans of kernels by brute force: each entry of each parameter is followed.

A trace is interpreted on numbers: an array that was made of parameters holds, for each
parameter, which of its entries lies where (counted from 1; 0 is none of them). Where
such an array meets data in a contraction, ones are put where the parameter's entries
lie and ones for the data: each output then is the number of entries that meet in it,
the fan_in, and the transposed product gives for each input the number of outputs that
it reaches, the fan_out. Nothing here is shared with what it judges.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

Entries = dict[int, np.ndarray | None]  # by parameter; None where they are no longer

ELEMENTWISE = {"neg", "mul", "div", "add", "sub", "add_any", "complex"}
MOVES: dict[str, Callable[[np.ndarray, Any, Any], np.ndarray]] = {
    "broadcast_in_dim": lambda x, shape, p: np.broadcast_to(
        x.reshape([
            x.shape[p["broadcast_dimensions"].index(i)]
            if i in p["broadcast_dimensions"]
            else 1
            for i in range(len(shape))
        ]),
        shape,
    ),
    "reshape": lambda x, shape, p: (
        x.transpose(p["dimensions"] or range(x.ndim)).reshape(shape)
    ),
    "transpose": lambda x, shape, p: x.transpose(p["permutation"]),
    "squeeze": lambda x, shape, p: x.reshape(shape),
    "tile": lambda x, shape, p: np.tile(x, p["reps"]),
    "rev": lambda x, shape, p: np.flip(x, p["dimensions"]),
    "slice": lambda x, shape, p: x[
        tuple(
            map(slice, p["start_indices"], p["limit_indices"],
                p["strides"] or [1] * x.ndim)
        )
    ],
    "pad": lambda x, shape, p: np.pad(x, [(a, b) for a, b, _ in p["padding_config"]]),
}  # fmt: skip
SAME = {
    "copy",
    "convert_element_type",
    "stop_gradient",
    "optimization_barrier",
    "name",
    "reduce_precision",
}
PRODUCTS = ("dot_general", "conv_general_dilated", "ragged_dot_general")
DATA, CONSTANT = "data", "constant"


class Uneven(ValueError):
    """Not all outputs of a product are sums of as many entries."""


@dataclasses.dataclass(frozen=True, eq=False)
class Use:
    """A contraction, or a look-up, of data with a parameter."""

    parameter: int
    fan_in: float
    fan_out: float
    entries: np.ndarray  # of the parameter, where the equation has them
    eqn: Any
    side: int  # which operand it is


def uses_of(trace: Any, kinds: Sequence[str]) -> list[Use]:
    """Each use of each parameter; the inputs are "parameter", "constant" or "data"."""
    walk = _Walk()
    inputs: list[Any] = []
    number = 0
    for v, kind in zip(trace.jaxpr.invars, kinds, strict=True):
        if kind == "parameter":
            size = math.prod(v.aval.shape)
            inputs.append({number: np.arange(1, size + 1).reshape(v.aval.shape)})
            number += 1
        else:
            inputs.append(kind)
    walk.run(trace.jaxpr, inputs)
    return walk.uses


class _Walk:
    def __init__(self) -> None:
        self.uses: list[Use] = []

    def run(self, jaxpr: Any, inputs: Sequence[Any]) -> list[Any]:
        env = dict(zip(jaxpr.invars, inputs, strict=True))
        env |= dict.fromkeys(jaxpr.constvars, CONSTANT)

        def read(atom: Any) -> Any:
            return CONSTANT if isinstance(atom, Literal) else env[atom]

        for eqn in jaxpr.eqns:
            outs = self.step(eqn, [read(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, outs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def step(self, eqn: Any, operands: list[Any]) -> list[Any]:
        name, params = eqn.primitive.name, eqn.params
        if all(x is CONSTANT for x in operands):
            return [CONSTANT] * len(eqn.outvars)
        if name == "scan":
            return self.scan(eqn, operands)
        if name == "while":
            inputs = operands[params["cond_nconsts"] :]
            carried = range(params["body_nconsts"], len(inputs))
            return self.loop(params["body_jaxpr"].jaxpr, inputs, carried)
        if name == "cond":
            made = [self.run(b.jaxpr, operands[1:]) for b in params["branches"]]
            return [
                DATA if DATA in each else each[0] for each in zip(*made, strict=True)
            ]
        body = params.get("jaxpr", params.get("call_jaxpr"))
        if body is not None:
            return self.run(getattr(body, "jaxpr", body), operands)
        given = [x for x in operands if isinstance(x, dict)]
        if not given:
            return [DATA] * len(eqn.outvars)
        many = name == "gather" and math.prod(eqn.invars[1].aval.shape[:-1]) > 1
        if name == "gather" and isinstance(operands[0], dict) and many:
            return [self.looked_up(eqn, operands[0])]
        if DATA in operands and not (name == "dynamic_slice" and operands[0] != DATA):
            if name in PRODUCTS:
                self.used(eqn, operands)
            return [DATA] * len(eqn.outvars)
        return self.of_parameters(eqn, operands)

    def scan(self, eqn: Any, operands: list[Any]) -> list[Any]:
        body, inputs = eqn.params["jaxpr"].jaxpr, []
        for x, outer, inner in zip(operands, eqn.invars, body.invars, strict=True):
            if outer.aval.ndim > inner.aval.ndim and isinstance(x, dict):
                inputs.append({p: e if e is None else e[0] for p, e in x.items()})
            else:
                inputs.append(x)
        carry = sum(
            outer.aval.ndim == inner.aval.ndim
            for outer, inner in zip(eqn.outvars, body.outvars, strict=True)
        )
        sliced = sum(
            outer.aval.ndim > inner.aval.ndim
            for outer, inner in zip(eqn.invars, body.invars, strict=True)
        )
        first = len(inputs) - sliced - carry
        return self.loop(body, inputs, range(first, first + carry))

    def loop(self, body: Any, inputs: list[Any], carried: range) -> list[Any]:
        """The first step, where what the loop makes data of is data from the start."""
        before = len(self.uses)
        outs = self.run(body, inputs)
        made = list(inputs)
        for k, out in zip(carried, outs, strict=False):
            if out is DATA:
                made[k] = DATA
        if all(a is b for a, b in zip(made, inputs, strict=True)):
            return outs
        del self.uses[before:]
        return self.loop(body, made, carried)

    def of_parameters(self, eqn: Any, operands: list[Any]) -> list[Any]:
        name, params = eqn.primitive.name, eqn.params
        shapes = [v.aval.shape for v in eqn.outvars]
        if name in ("split", "unstack"):
            (x,), axis = operands, params["axis"]
            cuts = np.cumsum(params.get("sizes", [1] * len(shapes)))[:-1]
            cut = {p: e if e is None else np.split(e, cuts, axis) for p, e in x.items()}
            return [
                {p: e if e is None else e[k].reshape(shape) for p, e in cut.items()}
                for k, shape in enumerate(shapes)
            ]
        made: Entries = {}
        if name in ("mul", "div"):
            operands = [_without_scales(i, operands) for i in range(len(operands))]
        for i, x in enumerate(operands):
            for p, entries in x.items() if isinstance(x, dict) else ():
                new = None
                if entries is not None:
                    new = self.moved(eqn, operands, i, entries, shapes[0])
                before = made.get(p)
                if before is None or new is None:
                    made[p] = before if new is None else new
                else:
                    made[p] = np.maximum(new, before)
        return [made] * len(shapes)

    def moved(self, eqn: Any, operands: Any, i: int, x: np.ndarray, shape: Any) -> Any:
        """Where entries lie after an equation; None where they lie nowhere."""
        name, params = eqn.primitive.name, eqn.params
        others = [v.aval.shape for k, v in enumerate(eqn.invars) if k != i]
        if name in SAME:
            return x
        if name in MOVES:
            return MOVES[name](x, shape, params)
        if name in ("concatenate", "stack"):
            zeros = [np.zeros(v.aval.shape, int) for v in eqn.invars]
            zeros[i] = x
            if name == "stack":
                return np.stack(zeros, params["axis"])
            return np.concatenate(zeros, params["dimension"])
        if name == "dynamic_slice":
            low = [int(v.val) if isinstance(v, Literal) else 0 for v in eqn.invars[1:]]
            sizes = params["slice_sizes"]
            return x[tuple(slice(a, a + n) for a, n in zip(low, sizes, strict=True))]
        if name == "gather":
            numbers = params["dimension_numbers"]
            keep = tuple(
                slice(0, 1) if n == 1 else slice(0, n) for n in params["slice_sizes"]
            )
            picked = x[keep].squeeze(numbers.collapsed_slice_dims)
            new = [1] * len(shape)
            for dim, size in zip(numbers.offset_dims, picked.shape, strict=True):
                new[dim] = size
            return np.broadcast_to(picked.reshape(new), shape)
        if name == "dot_general" and len(others) == 1:
            letters = _letters(eqn)
            ones = _identity(eqn, 1 - i)
            pair = (x, ones) if i == 0 else (ones, x)
            return np.einsum(letters, *pair).astype(int)
        if name in ELEMENTWISE and not (name == "div" and i == 1):
            return np.broadcast_to(x, shape)
        return None

    def looked_up(self, eqn: Any, entries: Entries) -> Any:
        shape = eqn.outvars[0].aval.shape
        moved = self.of_parameters(eqn, [entries, CONSTANT])[0]
        sizes = [n for n in eqn.params["slice_sizes"] if n > 1]
        if len(sizes) > 1:
            return moved  # a matrix for each index: a kernel
        for p in moved:
            features = math.prod(shape[i] for i in _offsets(eqn))
            whole = entries[p]
            if whole is not None:
                self.uses.append(Use(p, 1, features, whole, eqn, 0))
        return DATA

    def used(self, eqn: Any, operands: list[Any]) -> None:
        for side, x in enumerate(operands):
            for p, entries in x.items() if isinstance(x, dict) else ():
                if entries is None or not entries.any():
                    continue
                fans = counts(eqn, side, entries)
                self.uses.append(Use(p, *fans, entries, eqn, side))


def _without_scales(i: int, operands: Sequence[Any]) -> Any:
    """An operand without the parameters that scale the other one's."""
    x = operands[i]
    others = [y for k, y in enumerate(operands) if k != i and isinstance(y, dict)]
    most = max(
        (len(np.unique(e)) for y in others for e in y.values() if e is not None),
        default=0,
    )
    if not isinstance(x, dict):
        return x
    return {p: e for p, e in x.items() if e is None or len(np.unique(e)) >= most}


def _one(counts: np.ndarray) -> float:
    """The number that all positive counts are."""
    found = counts[counts > 0]
    if not np.allclose(found, found[0]):
        raise Uneven(f"some of {found.min()}, some of {found.max()}")
    return float(found[0])


def counts(eqn: Any, side: int, entries: np.ndarray) -> tuple[float, float]:
    """The fan_in and fan_out of entries in a contraction with data."""
    count = {
        "dot_general": contraction,
        "conv_general_dilated": convolution,
        "ragged_dot_general": ragged,
    }[eqn.primitive.name]
    fan_in, fan_out = map(_one, count(eqn, side, (entries > 0) * 1.0))
    return fan_in, fan_out


def _offsets(eqn: Any) -> tuple[int, ...]:
    return eqn.params["dimension_numbers"].offset_dims


def _letters(eqn: Any) -> str:
    """A `dot_general` as an equation of `einsum`."""
    (left, right), (batch, other) = eqn.params["dimension_numbers"]
    a, b = (v.aval.ndim for v in eqn.invars)
    names = [chr(ord("a") + i) for i in range(a)]
    more = [chr(ord("A") + i) for i in range(b)]
    for i, j in (*zip(left, right, strict=True), *zip(batch, other, strict=True)):
        more[j] = names[i]
    out = [names[i] for i in batch]
    out += [n for i, n in enumerate(names) if i not in (*left, *batch)]
    out += [n for j, n in enumerate(more) if j not in (*right, *other)]
    return f"{''.join(names)},{''.join(more)}->{''.join(out)}"


def _identity(eqn: Any, side: int) -> np.ndarray:
    """What stands in for the other factor of a product of two parameters."""
    contract, batch = (each[side] for each in eqn.params["dimension_numbers"])
    shape = eqn.invars[side].aval.shape
    free = [i for i in range(len(shape)) if i not in (*contract, *batch)]
    order = (*batch, *contract, *free)
    sizes = [math.prod(shape[i] for i in axes) for axes in (contract, free)]
    eye = np.broadcast_to(np.eye(*sizes), [*[shape[i] for i in batch], *sizes])
    return eye.reshape([shape[i] for i in order]).transpose(np.argsort(order))


def contraction(eqn: Any, side: int, ones: np.ndarray) -> tuple[Any, Any]:
    """The fans of each output and of each input of a `dot_general`."""
    pair, out = _letters(eqn).split("->")
    names = pair.split(",")
    data = np.ones(eqn.invars[1 - side].aval.shape)
    y = np.ones(eqn.outvars[0].aval.shape)
    kernel, inputs = names[side], names[1 - side]
    return (
        np.einsum(f"{inputs},{kernel}->{out}", data, ones, optimize=True),
        np.einsum(f"{out},{kernel}->{inputs}", y, ones, optimize=True),
    )


def convolution(eqn: Any, side: int, ones: np.ndarray) -> tuple[Any, Any]:
    """The fans by output and by input feature, far from borders.

    An output o sees the tap t if o · stride + t · dilation is a place where an input
    is, and none of the zeros that dilate the inputs; means are over one period.
    """
    assert side == 1
    params = eqn.params
    out_axis, in_axis, *window = params["dimension_numbers"].rhs_spec
    fan_in = ones.transpose(*window, in_axis, out_axis)
    groups = params["feature_group_count"]
    fan_out = fan_in.reshape(*fan_in.shape[:-1], groups, -1)
    steps = zip(
        params["window_strides"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        strict=True,
    )
    for stride, spread, gap in steps:  # each sums over the first axis of the window
        places = np.arange(fan_in.shape[0]) * gap
        seen = (np.arange(spread)[:, None] * stride + places) % spread == 0
        fed = (np.arange(stride)[:, None] * spread - places) % stride == 0
        fan_in = np.tensordot(seen.mean(0), fan_in, 1)
        fan_out = np.tensordot(fed.mean(0), fan_out, 1)
    return fan_in.sum(0), fan_out.sum(-1)


def ragged(eqn: Any, side: int, ones: np.ndarray) -> tuple[Any, Any]:
    """The fans of (groups, in, out), a matrix for each group of rows."""
    assert side == 1 and ones.ndim == 3
    return ones.sum(1), ones.sum(2)


# --- and by drawing -------------------------------------------------------------------


def drawn(use: Use, seed: int) -> tuple[float, float]:
    """The mean square of the outputs of N(0, 1) inputs, and of the way back.

    The parameter is drawn from N(0, 1), what is not of it is zero; convolutions are
    without borders.
    """
    rng = np.random.default_rng(seed)
    draws = np.append(0.0, rng.standard_normal(use.entries.max())).astype(np.float32)
    kernel, params = draws[use.entries], dict(use.eqn.params)
    data = use.eqn.invars[1 - use.side].aval
    if "padding" in params:
        params["padding"] = ((0, 0),) * len(params["padding"])

    def run(x: Any) -> Any:
        pair = (x, kernel) if use.side == 1 else (kernel, x)
        if "preferred_element_type" in params:
            params["preferred_element_type"] = np.dtype("float32")
        return use.eqn.primitive.bind(*pair, **params)

    x = rng.standard_normal(data.shape).astype(np.float32)
    y, back = jax.vjp(run, x)
    (g,) = back(rng.standard_normal(y.shape).astype(np.float32))
    return tuple(
        float(np.mean(np.square(each)[np.asarray(each) != 0])) for each in (y, g)
    )  # type: ignore[return-value]
