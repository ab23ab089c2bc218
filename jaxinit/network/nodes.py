# SPDX-License-Identifier: Apache-2.0
"""The graph of a traced function: data, constants, and arrays made of parameters.

A `Node` is a value that depends on the data, or a constant. Data that was computed
elementwise from one signal knows that signal, its `root`, and the `degree` with which
it scales with it: a signal over its own deviation has degree 0, and is a normalisation.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxinit.network.moves import MOVES
from jaxinit.network.views import Run, View

__all__ = [
    "ELEMENTWISE",
    "LINEAR",
    "REDUCTIONS",
    "Node",
    "Weight",
    "Weights",
    "degree_of",
    "number",
    "walk",
]

# Functions of single entries, and those of them that are linear in their one operand.
LINEAR = {"neg", "real", "conj", "imag", "add_any"}
NAMES = """
abs acos acosh add and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt
ceil clamp complex cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor
ge gt integer_pow is_finite le lgamma log log1p log2 logistic lt max min mul ne
nextafter not one_minus_square or polygamma pow rem round rsqrt select_n sign sin
sinh sqrt square sub tan tanh xor
"""
ELEMENTWISE = LINEAR | set(NAMES.split())
REDUCTIONS = {
    "argmax",
    "argmin",
    "reduce_and",
    "reduce_max",
    "reduce_min",
    "reduce_or",
    "reduce_prod",
    "reduce_sum",
}
SMALL = 1e-3  # what is added to a variance so that nothing is divided by zero


class Weight(NamedTuple):
    """A parameter in an array that was made of parameters alone.

    Attributes:
        parameter: its number.
        view: which of its entries.
        degree: the power of its scale with which the array grows; None if it is none.
        through: the primitive after which its entries are no longer its own, or "".
        stack: ranges of it, of which a loop or a look-up takes one index at a time.
        inner: ranges that were contracted with another parameter.
        added: the constant that was added to it; None where more was done to it.
    """

    parameter: int
    view: View
    degree: float | None = 1.0
    through: str = ""
    stack: Run = ()
    inner: Run = ()
    added: float | None = 0.0


class Weights(NamedTuple):
    """An array of parameters.

    Attributes:
        parts: those whose entries it has.
        sums: those whose sums enter it, and with which degree.
        rows: of matrices that were looked up at several places, that look-up: where no
            data are multiplied by them they are an embedding.
    """

    parts: tuple[Weight, ...]
    sums: Mapping[int, float | None]
    rows: "LookUp | None" = None


class LookUp(NamedTuple):
    """An equation that takes slices of parameters: its operands, place and shape."""

    eqn: Any
    operands: Any
    place: tuple[int, ...]
    shape: tuple[int, ...]


@dataclasses.dataclass(eq=False, repr=False, slots=True)
class Node:
    """A value of the data, or a constant.

    Attributes:
        eqn: the equation that makes it; none makes an input or a literal.
        operands: what it takes: nodes and `Weights`.
        shape: of the array.
        kind: of a signal that begins here: "input", "use", "norm", "sum", "product",
            "contraction", "softmax", "pool", "concatenation", "choice", "loop" or
            "other"; "constant"; "" where the signal of the operand goes on.
        index: its place in the order of execution.
        value: of a constant that is known.
        root: the node where its signal begins.
        degree: the power of the root's scale with which it grows.
        reduced: whether it is a sum or another statistic of the root.
        direct: whether nothing but moves and biases lies between it and the root.
        parts: the uses whose outputs it holds, by their numbers, and which entries.
        consumers: the nodes that take it.
        back: of a value that a loop carries, what its step hands on.
        place: the equation that makes it, by its place in the trace and in the calls
            that it is in, and which of the outputs it is.
    """

    eqn: Any
    operands: tuple[Any, ...]
    shape: tuple[int, ...]
    kind: str = ""
    index: int = -1
    value: Any = None
    root: "Node" = None  # type: ignore[assignment]
    degree: float | None = None
    reduced: bool = False
    direct: bool = False
    parts: tuple[tuple[int, View], ...] = ()
    consumers: list["Node"] = dataclasses.field(default_factory=list)
    back: Any = None
    place: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The primitive's name, or ""."""
        return "" if self.eqn is None else self.eqn.primitive.name

    @property
    def params(self) -> Mapping[str, Any]:
        """The primitive's parameters."""
        return {} if self.eqn is None else self.eqn.params

    @property
    def is_constant(self) -> bool:
        """Whether neither data nor parameters enter."""
        return self.kind == "constant"

    @property
    def constants(self) -> list["Node"]:
        """The operands that are constants."""
        return [x for x in self.operands if isinstance(x, Node) and x.is_constant]

    @property
    def data(self) -> list["Node"]:
        """The operands that are data."""
        return [x for x in self.operands if isinstance(x, Node) and not x.is_constant]


def walk(node: Node, after: Callable[[Node], list[Node]]) -> Iterator[Node]:
    """A node and all that `after` leads to, each once."""
    seen: set[int] = set()
    stack = [node]
    while stack:
        here = stack.pop()
        if here.index not in seen:
            seen.add(here.index)
            yield here
            stack += after(here)


def number(node: Any) -> float | None:
    """The number that fills a constant, where it is known."""
    while isinstance(node, Node) and node.is_constant:
        if node.value is not None:
            value = np.asarray(node.value)
            return float(value) if value.ndim == 0 and _is_real(value) else None
        if node.name not in MOVES or len(node.operands) != 1:
            return None
        (node,) = node.operands
    return None


def _is_real(value: np.ndarray) -> bool:
    return bool(jnp.issubdtype(value.dtype, np.number)) and not np.iscomplexobj(value)


def degree_of(
    name: str, params: Mapping[str, Any], operands: Sequence["float | Node | None"]
) -> float | None:
    """The degree of a function of arrays of such degrees, and of constants."""
    degrees = [each for each in operands if not isinstance(each, Node)]
    known: list[float] = [each for each in degrees if each is not None]
    if len(known) < len(degrees) or not known:
        return None
    numbers = [number(each) for each in operands if isinstance(each, Node)]
    match name:
        case "abs" | "reduce_sum" | "reduce_max" | "reduce_min":
            return known[0]
        case _ if name in LINEAR or name in MOVES:
            return known[0]
        case "sqrt" | "rsqrt":
            return known[0] / 2 * (1 if name == "sqrt" else -1)
        case "square":
            return 2 * known[0]
        case "integer_pow":
            return float(params["y"]) * known[0]
        case "pow" if len(known) == 1 and numbers and numbers[0] is not None:
            return numbers[0] * known[0]
        case "mul":
            return sum(known)
        case "div" if len(known) == 2:
            return known[0] - known[1]
        case "div":
            return -known[0] if isinstance(operands[0], Node) else known[0]
        case "add" | "sub" | "max" | "min":
            small = SMALL if name in ("add", "sub") else 0.0
            return known[0] if _alike(known, numbers, small) else None
        case "select_n":
            choice = operands[0]
            if not isinstance(choice, Node) and known.pop(0) != 0:
                return None
            others = numbers[1:] if isinstance(choice, Node) else numbers
            return known[0] if known and _alike(known, others) else None
        case "eq" | "ge" | "gt" | "le" | "lt" | "ne" | "sign":
            return 0.0 if _alike(known, numbers) else None
    return None


def _alike(
    degrees: Sequence[float], numbers: Sequence[float | None], small: float = 0.0
) -> bool:
    """Whether degrees are the same, and numbers are such that any degree has them."""
    return len(set(degrees)) == 1 and all(
        x is not None and (abs(x) <= small or not math.isfinite(x)) for x in numbers
    )
