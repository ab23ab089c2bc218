# SPDX-License-Identifier: Apache-2.0
"""Where the prediction meets a parameter: a kernel, a bias, a table, a gate."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from jaxinit.network import moves
from jaxinit.prediction import contractions as sums
from jaxinit.prediction.entry import EXAMPLE, POSITION, Entry, gaussian
from jaxinit.prediction.functions import number_of
from jaxinit.prediction.layouts import kinds_of
from jaxinit.prediction.values import Drawn, Logits, Lost

__all__ = ["meet"]

Function = Callable[[Any, list[Any], Any], Any]


def meet(
    batch: int,
    function: Function,
    eqn: Any,
    operands: list[Any],
    drawn: Sequence[Drawn],
    shape: Any,
) -> Any:
    """What an equation makes of data and parameters.

    `function` runs it on single entries.
    """
    name, w = eqn.primitive.name, drawn[0]
    others = [x for x in operands if not isinstance(x, Drawn)]
    if name in moves.MOVES or (name == "dynamic_slice" and operands[0] is w):
        return Drawn(w.std, tuple(shape))
    if name == "concatenate" and not others:
        total = sum(math.prod(x.shape) * x.std**2 for x in drawn)
        return Drawn(math.sqrt(total / math.prod(shape)), tuple(shape))
    if len(drawn) > 1:
        if name in ("add", "add_any", "sub"):
            return Drawn(math.hypot(*(x.std for x in drawn)), tuple(shape))
        raise Lost("a function of two parameters")
    (x, *rest) = others or [None]
    if name == "gather" and operands[0] is w:
        return sums.lookup(w, x, shape, batch)
    side = operands.index(w)
    if name == "dot_general":
        data = x.entry if isinstance(x, Logits) else x
        return sums.contraction(eqn, data, w, side, batch)
    if name == "conv_general_dilated" and side == 1:
        return sums.convolution(eqn, x, w, batch)
    if name in ("add", "add_any", "sub") and not rest:
        kinds = kinds_of(x, shape)
        bias = _add(w, shape, kinds)
        return function(eqn, [bias if y is w else y for y in operands], shape)
    scale = number_of(x)
    if name in ("mul", "div") and scale is not None and (name == "mul" or side == 0):
        return Drawn(w.std * abs(scale if name == "mul" else 1 / scale), tuple(shape))
    if name == "neg":
        return w
    if name == "mul" and isinstance(x, Entry):
        gate = gaussian(w.std**2, w.std**2, w.std**2, shape, x.kinds)
        return function(eqn, [gate if y is w else y for y in operands], shape)
    raise Lost("a parameter in it")


def _add(w: Drawn, shape: Any, kinds: Any) -> Entry:
    """A parameter that is added: another at each place that it has entries for."""
    shift = len(shape) - len(w.shape)
    varied = {
        kind
        for axis, n in enumerate(w.shape)
        if n > 1
        for kind, _ in kinds[axis + shift]
    }
    power = w.std**2
    near = 0.0 if POSITION in varied else power
    return gaussian(power, near, 0.0 if EXAMPLE in varied else power, shape, kinds)
