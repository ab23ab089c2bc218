# SPDX-License-Identifier: Apache-2.0
"""`Parameter`: what a reading says of one parameter of a model."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxinit.core import Fans, Shape
from jaxinit.network.layout import Layout, Parts
from jaxinit.network.trail import Trail

__all__ = ["After", "Branch", "Parameter"]


class Branch(NamedTuple):
    """The residual branch that a kernel ends.

    Attributes:
        places: which of the residual additions, from 0 on; one for each slice of a
            stack.
        of: how many there are in the network.
    """

    places: tuple[int, ...]
    of: int


@dataclass(frozen=True)
class After:
    """What a kernel's input comes through.

    Attributes:
        layers: the paths of the kernels and embeddings that it is made of.
        kinds: what it begins with, one for each argument of `function`: "use" (the
            output of a kernel), "sum" (a piece of a sum of some), "norm", "residual",
            "input", "contraction", "pool", "softmax", "concatenation", "choice" (of a
            condition), "loop" (what a loop carries) or "other".
        trail: the way from there, as a function of single entries.
    """

    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    trail: Trail = field(repr=False, compare=False)

    @property
    def function(self) -> Callable[..., Any] | None:
        """From entries at those beginnings to the kernel's input.

        None where more than the entries decide: a mask, a parameter of the activation.
        """
        return self.trail if self.trail.is_function else None

    @property
    def name(self) -> str | None:
        """The activation's name, as `gain` knows it; "identity" where there is none.

        None for one without a name, or of more than one argument.
        """
        return self.trail.name

    @property
    def normalised(self) -> bool:
        """Whether a normalisation stands between."""
        return "norm" in self.kinds

    def __str__(self) -> str:
        inner = ", ".join(self.kinds).replace("use", "kernel")
        if self.name == "identity":
            return inner
        return f"{self.name or 'f'}({inner})"


@dataclass(frozen=True)
class Parameter:
    """What one parameter of a network does.

    Axes are those of the parameter itself.

    Attributes:
        path: its path in the tree.
        shape: its shape.
        role: "kernel", "embedding" (looked up), "bias" (added), "scale" (multiplied),
            "token" (joined to the data, or added along more than the units), "unknown",
            "unused".
        primitive: the equation that uses it, or ended the reading.
        inputs: the axes that are summed over; of an embedding none.
        outputs: the axes that are not.
        window: the axes of a convolution's window.
        copies: the axes that stack independent kernels; of an embedding, its rows.
        groups: the groups of a convolution.
        strides: the strides of a convolution.
        dilation: by how much its inputs are dilated: a transposed convolution.
        parts: the fused parts, such as gates, and where they lie; None if it is one.
        fan_in: the number of inputs that each output sums over.
        fan_out: the number of outputs of one part that each input feeds.
        fans: the `Fans` of one kernel, whose shape `kernel` tells; None without a use
            as a kernel or an embedding.
        after: what its input comes through.
        branch: the residual branch that it ends.
        before: the paths of the kernels that take its output, "+" for a residual
            addition, "output" for the model's.
        calls: how often it is used in one pass.
        invariant: whether the output ignores its scale.
        uses: all roles with their fans, more than one for tied parameters.
        bias: of a kernel, the path of the bias that is added to its output, or "".
        neutral: of a scale, what changes nothing: 1, or 0 where 1 is added to it.

    Example:
        >>> import jax, jaxinit
        >>> w, x = (jax.ShapeDtypeStruct(s, "float32") for s in ((3, 8, 4), (2, 3, 8)))
        >>> def experts(params, x):
        ...     return jax.numpy.einsum("bed,edf->bef", x, params["w"])
        >>> w = jaxinit.read(experts, {"w": w}, x)["w"]
        >>> w.role, w.inputs, w.outputs, w.copies, w.fan_in, w.matrix
        ('kernel', (1,), (2,), (0,), 8, (8, 4))
    """

    path: str
    shape: Shape
    role: str
    primitive: str = ""
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    window: tuple[int, ...] = ()
    copies: tuple[int, ...] = ()
    groups: int = 1
    strides: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    parts: Parts | None = None
    fan_in: float | None = None
    fan_out: float | None = None
    fans: Fans | None = None
    after: After | None = None
    branch: Branch | None = None
    before: tuple[str, ...] = ()
    calls: int = 0
    invariant: bool = False
    uses: tuple[tuple[str, float, float], ...] = ()
    bias: str = ""
    neutral: float = 1.0
    stack: tuple[int, ...] = field(repr=False, default=())

    def kernel(self, shape: Shape) -> Shape:
        """The shape of one kernel of a parameter of that shape, which `fans` counts."""
        return Layout(self.stack, self.parts).kernel(shape)

    @property
    def matrix(self) -> tuple[int, int] | None:
        """The inputs, with the window, and the outputs of one kernel, as a matrix."""
        if self.fan_in is None or not self.inputs:
            return None
        kernel = self.kernel(self.shape)
        total = math.prod(kernel)
        rows = round(self.fan_in * math.prod(self.dilation))
        return rows, total // max(rows, 1)

    @property
    def tied(self) -> bool:
        """Whether it has two uses that want different fans."""
        return len({use for use in self.uses if use[0] in ("kernel", "embedding")}) > 1
