# SPDX-License-Identifier: Apache-2.0
"""Uses: the equations in which a parameter meets the data, and what they say of it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from jaxinit.network.nodes import Node, Weight
from jaxinit.network.views import REPEAT, Run, View, extent, repeat

__all__ = ["Use", "contraction", "convolution", "lookup", "plain", "ragged_product"]


@dataclasses.dataclass(eq=False, repr=False)
class Use:
    """One equation in which a parameter meets the data.

    Attributes:
        parameter: its number.
        role: "kernel", "embedding", "bias", "scale", "token" or "unknown".
        primitive: the equation's, or the one that ended the reading before it.
        ins, outs: the ranges of the parameter that are summed over, and that are not;
            with those that repeat it, which count too.
        window: the ranges of a convolution's window.
        copies: the ranges that stack independent kernels.
        fixed: the single indices at which slices of it were taken.
        groups, strides, dilation: of a convolution; the dilation is that of its inputs.
        patches: the window and the strides of a convolution that is not shared.
        one_hot: whether it is multiplied by one-hot vectors: a look-up.
        degree: the power of its scale with which what is used grows.
        to: of a bias, a scale and a token, the node that has it.
        view: of these, which entries of it are where in what is added or multiplied.
        data, out: of a kernel and an embedding, what it is applied to and gives.
        loops: the loops around it.
        neutral: of a scale, the number at which it changes nothing.
    """

    parameter: int
    role: str
    primitive: str
    ins: Run = ()
    outs: Run = ()
    window: Run = ()
    copies: Run = ()
    fixed: Run = ()
    groups: int = 1
    strides: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    patches: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    one_hot: bool = False
    degree: float | None = 1.0
    to: Node | None = None
    view: View | None = None
    data: Node | None = None
    out: Node | None = None
    loops: tuple[Any, ...] = ()
    neutral: float = 1.0

    @property
    def fan_in(self) -> float:
        """The number of inputs that each output sums over."""
        if self.role == "embedding":
            return 1
        window = extent(self.window) / math.prod(self.dilation)
        return extent(self.ins) * window

    @property
    def fan_out(self) -> float:
        """The number of outputs that each input feeds."""
        window, steps = self.patches
        steps = steps or self.strides
        taps = extent(self.window) * math.prod(window)
        return extent(self.outs) / self.groups * taps / math.prod(steps)


def joint(runs: Sequence[Run]) -> Run:
    """The ranges of several axes."""
    return tuple(r for run in runs for r in run)


def ranges(runs: Sequence[Run]) -> Run:
    """The parameter's ranges among the runs of several axes."""
    return tuple(r for run in runs for r in run if r.axis != REPEAT)


def plain(w: Weight, role: str, name: str, to: Node | None, loops: Any) -> Use:
    """A use whose axes say nothing of fans."""
    ended = bool(w.through)
    return Use(
        w.parameter,
        "unknown" if ended else role,
        w.through or name,
        outs=ranges(w.view.runs),
        copies=w.stack,
        fixed=w.view.fixed,
        degree=w.degree,
        to=to,
        view=w.view,
        loops=loops,
        neutral=1.0 - (w.added or 0.0),
    )


Found = list[tuple[Use, View]]


def contraction(eqn: Any, operands: Sequence[Any], side: int) -> Found:
    """A product of data with a parameter: contracted, free and batch axes."""
    contract, batch = eqn.params["dimension_numbers"]
    ndim = len(eqn.outvars[0].aval.shape)
    data = operands[1 - side]
    one_hot = _is_one_hot(data, contract[1 - side])
    found = []
    for w in operands[side].parts:
        view = w.view
        free = [
            i
            for i in range(len(view.shape))
            if i not in (*contract[side], *batch[side])
        ]
        first = len(batch[side]) if side == 0 else ndim - len(free)
        ins = joint([view.runs[i] for i in contract[side]])
        outs = joint([view.runs[i] for i in free])
        copies = ranges([view.runs[i] for i in batch[side]])
        use = _kernel(w, eqn, data, ins, outs, copies)
        if one_hot:
            use.copies, use.outs = (*use.copies, *ranges([use.ins])), ranges([use.outs])
            use.role, use.ins = "embedding", ()
            use.one_hot = True
        use.patches = _patches(data) if copies else ((), ())
        placed = {first + k: i for k, i in enumerate(free)}
        placed |= dict(enumerate(batch[side]))
        found.append((use, _output_view(eqn, view, placed)))
    return found


def convolution(eqn: Any, operands: Sequence[Any], side: int) -> Found | None:
    """A convolution with a parameter as its kernel."""
    params = eqn.params
    if side == 0 or params["batch_group_count"] > 1:
        return None
    out_axis, in_axis, *window = params["dimension_numbers"].rhs_spec
    found = []
    for w in operands[1].parts:
        runs = w.view.runs
        use = _kernel(w, eqn, operands[0], runs[in_axis], runs[out_axis], ())
        use.window = joint([runs[i] for i in window])
        use.groups, use.outs, mapped = _groups(params["feature_group_count"], use.outs)
        use.copies += mapped
        use.strides = tuple(params["window_strides"])
        use.dilation = tuple(params["lhs_dilation"])
        feature = params["dimension_numbers"].out_spec[1]
        found.append((use, _output_view(eqn, w.view, {feature: out_axis})))
    return found


def _groups(groups: int, outs: Run) -> tuple[int, Run, Run]:
    """The groups of one kernel, its outputs, and copies of it that are groups too."""
    copies: Run = ()
    while len(outs) > 1 and groups > 1 and groups % outs[0].size == 0:
        groups //= outs[0].size
        copies, outs = (*copies, outs[0]), outs[1:]
    return groups, outs, copies


def ragged_product(eqn: Any, operands: Sequence[Any], side: int) -> Found | None:
    """A product of rows in groups with one matrix for each group, as of experts."""
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    contract, batch = numbers.dot_dimension_numbers
    if side != 1:
        return None
    groups = tuple(numbers.rhs_group_dimensions)
    found = []
    for w in operands[1].parts:
        runs = w.view.runs
        taken = (*contract[1], *batch[1], *groups)
        free = [i for i in range(len(runs)) if i not in taken]
        ins, outs = (joint([runs[i] for i in axes]) for axes in (contract[1], free))
        copies = ranges([runs[i] for i in (*batch[1], *groups)])
        first = len(eqn.outvars[0].aval.shape) - len(free)
        placed = {first + k: i for k, i in enumerate(free)}
        use = _kernel(w, eqn, operands[0], ins, outs, copies)
        found.append((use, _output_view(eqn, w.view, placed)))
    return found


def lookup(w: Weight, eqn: Any, operands: Sequence[Any]) -> tuple[Use, View]:
    """A look-up of rows of a parameter."""
    use = Use(
        w.parameter,
        "unknown" if w.through else "embedding",
        w.through or eqn.primitive.name,
        outs=ranges(w.view.runs),
        copies=w.stack,
        fixed=w.view.fixed,
        degree=w.degree,
        data=operands[1] if isinstance(operands[1], Node) else None,
    )
    return use, w.view


def _kernel(w: Weight, eqn: Any, data: Any, ins: Run, outs: Run, copies: Run) -> Use:
    summed = bool(ranges([ins])) or eqn.primitive.name == "conv_general_dilated"
    if summed:
        outs = (*ranges([outs]), *w.inner) if w.inner else outs
    elif eqn.primitive.name == "dot_general":
        ((left, _), _) = eqn.params["dimension_numbers"]
        ins, summed = w.inner, bool(w.inner or left)
    return Use(
        w.parameter,
        "unknown" if w.through else "kernel" if summed else "scale",
        w.through or eqn.primitive.name,
        ins=ins,
        outs=outs,
        copies=(*w.stack, *copies),
        fixed=w.view.fixed,
        degree=w.degree,
        data=data if isinstance(data, Node) else None,
    )


def _output_view(eqn: Any, view: View, placed: dict[int, int]) -> View:
    """What the output holds of a kernel: its free axes, at such axes of the output."""
    shape = tuple(eqn.outvars[0].aval.shape)
    runs = [
        view.runs[placed[k]] if k in placed else repeat(n) for k, n in enumerate(shape)
    ]
    places = [view.places[placed[k]] if k in placed else 0 for k in range(len(shape))]
    return View(shape, tuple(runs), tuple(places))


def _is_one_hot(data: Any, contract: Sequence[int]) -> bool:
    """Whether data are ones where an integer equals its place along an axis."""
    while isinstance(data, Node) and data.name in (
        "convert_element_type",
        "reshape",
        "broadcast_in_dim",
    ):
        data = data.operands[0]
    if not isinstance(data, Node) or data.name != "eq" or len(contract) != 1:
        return False
    return any(_is_iota(x) for x in data.operands)


def _is_iota(x: Any) -> bool:
    while isinstance(x, Node) and x.is_constant and x.operands:
        if x.name == "iota":
            return True
        x = x.operands[0]
    return isinstance(x, Node) and x.name == "iota"


def _patches(data: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The window and strides where data are the patches of an image."""
    moves = ("reshape", "transpose", "convert_element_type")
    while isinstance(data, Node) and data.name in moves:
        data = data.operands[0]
    if not isinstance(data, Node) or data.name != "conv_general_dilated":
        return (), ()
    kernel = data.operands[1]
    if not (isinstance(kernel, Node) and kernel.is_constant):
        return (), ()
    spec = data.params["dimension_numbers"].rhs_spec
    window = tuple(kernel.shape[i] for i in spec[2:])
    return window, tuple(data.params["window_strides"])
