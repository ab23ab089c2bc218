# SPDX-License-Identifier: Apache-2.0
"""Biases that decide at the start: how long a gate remembers, how rare an answer is.

Recurrent cells pack the biases of their gates into one vector, hidden entries to a
gate. In Flax NNX the order is (i, f, g, o) for `OptimizedLSTMCell` (its
`dense_h.bias`), as in PyTorch and Keras, and (r, z, n) for `GRUCell` (its
`dense_i.bias`), where z keeps the state as f does. Linen's cells have one vector for
each gate and ask one `bias_init` for them all; the rules `rules.forget_gate` and
`rules.chrono` tell their gates apart by the path, and NNX's too.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinit.core import DType, Init, Initializer, Law, LawOf, Real, Shape, initializer
from jaxinit.core import checks as check
from jaxinit.families.constants import cast_exactly, constant, sparse_law
from jaxinit.samplers import cast


@initializer
def forget_gate(
    value: float = 1.0, gates: int = 4, index: int = 1, dtype: DType = None
) -> tuple[Init, LawOf]:
    """The forget gate's bias (Jozefowicz et al. 2015): value for its gate, 0 elsewhere.

    With a bias of b a gate begins at 1 / (1 + e^(-b)): 0.5 for 0, which forgets half of
    the state at each step, and 0.73 for 1, Keras's `unit_forget_bias`. For a whole
    model, and for Linen's cells, see `rules.forget_gate`.

    Args:
        value: the bias of the forget gate.
        gates: the number of gates packed along the last axis.
        index: the place of the forget gate among them, from 0.
        dtype: the default dtype of the calls, of any kind that can hold the value.

    Raises:
        ValueError: for an index that is not among the gates; at the call, for a last
            axis that the gates do not divide.

    Example:
        >>> import jax, jaxinit
        >>> jaxinit.forget_gate()(jax.random.key(0), (8,)).tolist()
        [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]

    References:
        Gers, Schmidhuber, Cummins, "Learning to Forget", 2000; Jozefowicz, Zaremba,
        Sutskever, "An Empirical Exploration of Recurrent Network Architectures", ICML
        2015.
    """
    value = check.number("value", value)
    gates = check.integer("gates", gates, low=1)
    index = check.integer("index", index, low=0, high=gates - 1)

    def init(shape: Shape, dtype: Any) -> jax.Array:
        units = _units(shape, gates)
        row = jnp.zeros((gates, units), dtype).at[index].set(cast_exactly(value, dtype))
        return jnp.broadcast_to(row.ravel(), shape)

    def law(shape: Shape) -> Law:
        return sparse_law(value, _units(shape, gates), shape[-1])

    return init, law


@initializer
def chrono(
    max_length: Real,
    min_length: Real = 2.0,
    gates: int = 4,
    index: int = 1,
    input_index: int | None = 0,
    dtype: DType = None,
) -> tuple[Init, LawOf]:
    """Chrono (Tallec, Ollivier 2018): b_f = log U(T_min - 1, T_max - 1), b_i = -b_f.

    A gate f forgets in about 1 / (1 - f) steps. With the bias b_f that is
    1 + e^(b_f), which is drawn uniformly between the shortest and the longest time
    that the units shall remember. The input gate of the same unit begins at
    i = 1 - f, from the same draw, so that the state stays of the size of its inputs.
    The other gates have bias 0. For a whole model, and for Linen's cells, see
    `rules.chrono`.

    Args:
        max_length: the longest time T_max, in steps.
        min_length: the shortest time T_min, in steps, above 1; the paper's
            log U(1, T_max - 1) has 2.
        gates: the number of gates packed along the last axis.
        index: the place of the forget gate among them, from 0.
        input_index: the place of the input gate; None for a cell that ties it to the
            forget gate: gates=3, index=1, input_index=None for a GRU.
        dtype: the default dtype of the calls, float.

    Raises:
        ValueError: unless 1 < min_length < max_length, or for places that are not
            among the gates or equal; at the call, for a last axis that the gates do
            not divide.

    Example:
        >>> import jax, jax.numpy as jnp, jaxinit
        >>> b = jaxinit.chrono(100)(jax.random.key(0), (4 * 64,)).reshape(4, 64)
        >>> time = 1 / (1 - jax.nn.sigmoid(b[1]))
        >>> bool(time.min() >= 2), bool(time.max() <= 100.01)
        (True, True)
        >>> bool((b[0] == -b[1]).all())
        True

    References:
        Tallec, Ollivier, "Can recurrent neural networks warp time?", 2018,
        arXiv:1804.11188, "chrono initialization".
    """
    max_length = check.number("max_length", max_length)
    min_length = check.number("min_length", min_length, above=1)
    check.order("min_length", min_length, "max_length", max_length)
    gates = check.integer("gates", gates, low=1)
    index = check.integer("index", index, low=0, high=gates - 1)
    if input_index is not None:
        input_index = check.integer("input_index", input_index, low=0, high=gates - 1)
        if input_index == index:
            raise ValueError(
                f"index and input_index must differ, got {index} for both; give "
                "input_index=None for a cell without an input gate"
            )

    def init(key: Any, shape: Shape, dtype: Any) -> jax.Array:
        check.real_form(dtype)
        *batch, _ = shape
        low, high = cast(min_length - 1, dtype), cast(max_length - 1, dtype)
        units = _units(shape, gates)
        b = jnp.log(jax.random.uniform(key, (*batch, units), dtype, low, high))
        packed = jnp.zeros((*batch, gates, units), dtype).at[..., index, :].set(b)
        if input_index is not None:
            packed = packed.at[..., input_index, :].set(-b)
        return packed.reshape(shape)

    def law(shape: Shape) -> Law:
        units = _units(shape, gates)
        low, high = math.log(min_length - 1), math.log(max_length - 1)
        first, second = (
            (_antiderivative(power, high) - _antiderivative(power, low))
            / (max_length - min_length)
            for power in (1, 2)
        )
        signs = (1,) if input_index is None else (1, -1)
        mean = first * sum(signs) / gates
        square = second * len(signs) / gates
        ends = [sign * end for sign in signs for end in (low, high)]
        ends += [0.0] * (gates - len(signs))
        return Law(
            mean,
            math.sqrt(square - mean**2),
            min(ends),
            max(ends),
            independent=math.prod(shape[:-1]) * units,
            zeros=1 - len(signs) / gates,
        )

    return init, law


@initializer
def prior_probability(p: Real = 0.01, dtype: DType = None) -> Initializer:
    """The focal loss's last bias (Lin et al. 2017): -log((1 - p) / p), a prior of p.

    With small weights before it, the sigmoid begins at p for every class, so that the
    many negatives of a detector do not swamp its first steps.

    Args:
        p: the prior probability, between 0 and 1.
        dtype: the default dtype of the calls.

    Raises:
        ValueError: for a p that is not inside (0, 1).

    Example:
        >>> import jax, jaxinit
        >>> b = jaxinit.prior_probability(0.01)(jax.random.key(0), (80,))
        >>> bool(abs(jax.nn.sigmoid(b) - 0.01).max() < 1e-8)
        True

    References:
        Lin, Goyal, Girshick, He, Dollár, "Focal Loss for Dense Object Detection", 2017,
        arXiv:1708.02002, section 4.1.
    """
    p = check.number("p", p, above=0, below=1)
    xp = jnp if check.is_traced(p) else np
    return constant(xp.log(p) - xp.log1p(-p), dtype)


def _units(shape: Shape, gates: int) -> int:
    """The size of a gate."""
    check.rank(shape, 1, why=" (..., gates · units)")
    return check.divides("gates", gates, "the last axis", shape[-1])


def _antiderivative(power: int, x: float) -> float:
    """∫ xᵖ eˣ dx for p = 1 and 2: the moments of log u, in x = log u."""
    return math.exp(x) * (x - 1 if power == 1 else x * x - 2 * x + 2)
