# SPDX-License-Identifier: Apache-2.0
"""The defaults of other libraries, as rules that count as the library counts."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxinit.core import Fans, Law, Shape
from jaxinit.families import (
    constant,
    forget_gate,
    glorot_uniform,
    normal,
    ones,
    orthogonal,
    uniform_between,
    zeros,
)
from jaxinit.rules.places import Kernel, kernel_beside
from jaxinit.rules.recipe import Choice, recipe
from jaxinit.trees import Param, Part, Rules

__all__ = ["keras", "torch"]

# The gates of Flax's cells, by the names of their layers, in Keras's order.
LSTM, GRU = ("i", "f", "g", "o"), ("z", "r", "n")
INTO = {f"i{gate}": 4 for gate in LSTM} | {f"i{gate}": 3 for gate in GRU}
INTO |= {"i": 1, "if_": 4}
AGAIN = {f"h{gate}": (4, k) for k, gate in enumerate(LSTM)}
AGAIN |= {f"h{gate}": (3, k) for k, gate in enumerate(GRU)} | {"h": (1, 0)}


def torch() -> Rules:
    """PyTorch's defaults, so that a ported model starts as it did there.

    Linear and convolution: kernel and bias U(±1/√fan_in), standard deviation
    1/√(3 fan_in), where a transposed convolution counts out · window as PyTorch does.
    Attention: query, key and value as one fused Xavier-uniform kernel,
    U(±√(6/(fan_in + 3 fan_out))), or Xavier's each where their inputs differ in width;
    biases zero. LSTM, GRU and SimpleCell: U(±1/√hidden) for all. Embedding: N(0, 1).
    Normalisation: scale 1, bias 0. PReLU: 1/4.

    Layers are told by `layers=jaxinit.read(...)`; the gates of cells, and transposed
    convolutions of stride 1, by Flax's names. (A `Bilinear` of PyTorch counts the first
    of its two inputs, which no layer of Flax has.)

    Example:
        >>> import jax, jaxinit
        >>> tree = {"embedding": jax.ShapeDtypeStruct((7, 4), "float32")}
        >>> (row,) = jaxinit.describe_tree(tree, jaxinit.rules.torch()).rows
        >>> round(row.std, 6)  # N(0, 1)
        1.0

    References:
        PyTorch 2, `reset_parameters` of torch.nn.Linear, _ConvNd, MultiheadAttention,
            RNNBase, Embedding and PReLU.
    """

    def kernel(param: Param) -> Choice:
        bound = _torch_bound(_here(param))
        return uniform_between(-bound, bound)

    def bias(param: Param) -> Choice:
        beside = kernel_beside(param)
        if beside is None or beside.attention:
            return zeros
        bound = _torch_bound(beside)
        return uniform_between(-bound, bound)

    return recipe(
        "torch",
        kernel=kernel,
        bias=bias,
        embedding=normal(1.0),
        negative_slope=constant(0.25),
    )


def keras() -> Rules:
    """Keras's defaults.

    Kernels are Glorot-uniform, standard deviation √(2/(fan_in + fan_out)), with fans by
    the axes of Keras's kernel, whatever the layer does with it: strides and groups are
    not counted, a depthwise kernel is (*window, in, multiplier), gates and other fused
    kernels are one.
    The recurrent kernel of a cell is orthogonal, all gates together: its rows are
    orthonormal, standard deviation 1/√(4 units) in an LSTM. The LSTM's forget gate has
    the bias 1, which Flax's ConvLSTM adds itself. Embeddings U(±0.05), standard
    deviation 0.0289; biases and PReLU's slopes 0, scales 1.

    Gates are told by the names that Flax gives them, a depthwise kernel with more than
    one output for each input by `layers=jaxinit.read(...)`.

    Example:
        >>> import jax, jaxinit
        >>> tree = {"kernel": jax.ShapeDtypeStruct((30, 20), "float32")}
        >>> (row,) = jaxinit.describe_tree(tree, jaxinit.rules.keras()).rows
        >>> round(row.std, 6)  # √(2 / (30 + 20))
        0.2

    References:
        Keras 3, `kernel_initializer`, `recurrent_initializer`, `unit_forget_bias` and
            `embeddings_initializer` of its layers.
    """

    def kernel(param: Param) -> Choice:
        here = _here(param)
        if here.label in AGAIN and _is_gate(here):
            return Recurrent(*AGAIN[here.label])
        if here.label in ("dense_h", "hh"):
            return Recurrent()
        return glorot_uniform(fans=Fans.explicit(*_keras_fans(here)))

    def bias(param: Param) -> Choice:
        beside = kernel_beside(param)
        if beside is None:
            return zeros
        if beside.label == "hf" and _is_gate(beside):
            return ones
        *_, n_in, n_out = beside.shape
        fused = beside.label == "dense_h" and n_out == 4 * n_in
        return forget_gate(1.0, 4, 1) if fused else zeros

    return recipe(
        "keras",
        source=_first_gate,
        kernel=kernel,
        bias=bias,
        embedding=uniform_between(-0.05, 0.05),
        negative_slope=zeros,
    )


@dataclass(frozen=True)
class Recurrent(Part):
    """The recurrent kernel of all gates of a cell, orthogonal, or that of one gate."""

    gates: int = 1
    index: int = 0

    def whole(self, shape: Shape, dtype: Any) -> "Orthogonal":
        *rows, columns = shape
        return Orthogonal((*rows, self.gates * columns), np.dtype(dtype))

    def part(self, drawn: Any, shape: Shape, dtype: Any) -> jax.Array:
        columns = shape[-1]
        gate: jax.Array = drawn[..., self.index * columns : (self.index + 1) * columns]
        return gate

    def law(self, shape: Shape) -> Law:
        whole = self.whole(shape, np.float32).shape
        return orthogonal().law(whole)._replace(independent=math.prod(shape))


@dataclass(frozen=True)
class Orthogonal:
    """Orthonormal rows or columns, as a function of the key that compares by value."""

    shape: Shape
    dtype: Any

    def __call__(self, key: Any) -> jax.Array:
        return orthogonal()(key, self.shape, self.dtype)


# --- helpers --------------------------------------------------------------------------


def _here(param: Param) -> Kernel:
    found = kernel_beside(param)
    assert found is not None  # it is a kernel
    return found


def _torch_bound(kernel: Kernel) -> float:
    """The bound of PyTorch's uniform."""
    if (hidden := _hidden_size(kernel)) is not None:
        return 1 / math.sqrt(hidden)
    if kernel.is_transposed:
        _, n_out, window = kernel.axes
        return 1 / math.sqrt(n_out * window)
    attention = kernel.attention
    if kernel.path in attention:
        n_in, n_out, _ = kernel.axes
        others = (kernel.at(path) for path in attention)
        widths = {each.axes[0] for each in others if each is not None}
        fused = len(widths) == 1 and len(attention) == 3
        return math.sqrt(6 / (n_in + (3 if fused else 1) * n_out))
    fan_in, _ = kernel.fans
    return 1 / math.sqrt(fan_in)


def _is_gate(kernel: Kernel) -> bool:
    """Whether a kernel is of a cell, where the inputs and the state have one each."""
    into, again = kernel.label in INTO, kernel.label in AGAIN
    if not (into or again):
        return False
    *above, label, name = kernel.path.split("/")
    partner = ("h" if into else "i") + label[1:].removesuffix("_")
    names = (partner, f"{partner}_")
    return any("/".join((*above, each, name)) in kernel.param.tree for each in names)


def _hidden_size(kernel: Kernel) -> int | None:
    """The hidden size of the cell that a kernel is of, by Flax's names."""
    if _is_gate(kernel):
        return kernel.shape[-1]
    if kernel.label not in ("dense_i", "dense_h"):
        return None
    again = kernel.at(kernel.path.replace("dense_i", "dense_h"))
    return None if again is None else again.shape[-2]


def _keras_fans(kernel: Kernel) -> tuple[float, float]:
    """Fans by the axes of the kernel that Keras has in the same layer."""
    if kernel.label in INTO and _is_gate(kernel):
        n_in, units = kernel.shape
        return n_in, INTO[kernel.label] * units
    n_in, n_out, window = kernel.axes
    groups = 1 if kernel.known is None else kernel.known.groups
    if groups > 1 and n_in == 1:  # depthwise
        n_in, n_out = groups, n_out // groups
    return n_in * window, n_out * window


def _first_gate(param: Param) -> str:
    """The path whose key draws a parameter: a cell's first gate for all its gates."""
    *above, label, name = ["", *param.path.split("/")]
    if name != "kernel" or label not in AGAIN or label == "h":
        return param.path
    first = "hi" if AGAIN[label][0] == 4 else "hz"
    return "/".join((*above, first, name)).removeprefix("/")
