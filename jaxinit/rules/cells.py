# SPDX-License-Identifier: Apache-2.0
"""Rules for recurrent cells: the one bias that decides how long a cell remembers.

Flax asks one `bias_init` for every gate of a cell and does not say for which; the path
says it. The gate that keeps the state is f in LSTM and MGU and z in GRU:

    Linen   LSTMCell, OptimizedLSTMCell   hi, hf, hg, ho / bias
            GRUCell                       ir, iz, in, hn / bias
            MGUCell                       if, in / bias
    NNX     LSTMCell                      hi, hf, hg, ho / bias
            OptimizedLSTMCell             dense_h / bias, of (i, f, g, o)
            GRUCell                       dense_i / bias, of (r, z, n)
"""

from typing import TypeAlias

from jaxinit import families
from jaxinit.core import Initializer
from jaxinit.families import scaled
from jaxinit.rules.recipe import gates_of, parent
from jaxinit.trees import Param, Rules, per_param

__all__ = ["chrono", "forget_gate"]

Gates: TypeAlias = tuple[int, int, int | None]  # how many; which forgets, which lets in
APART: Gates = (1, 0, None)
PACKED: dict[int, Gates] = {3: (3, 1, None), 4: (4, 1, 0)}


def forget_gate(value: float = 1.0) -> Rules:
    """The forget gate's bias of every LSTM, GRU and MGU cell: value, to remember.

    The initializer `jaxinit.forget_gate` where Flax's cells, of Linen and NNX, have the
    bias of the gate that keeps the state; packed gates have 0 beside it. Put it before
    a recipe for the rest, [*forget_gate(), *torch()].

    Args:
        value: the bias; 1 keeps 0.73 of the state at each step, 0 one half.

    Raises:
        ValueError: for the packed gates of NNX without `layers=` to tell their number.

    Example:
        >>> import jax, jaxinit
        >>> bias = {"bias": jax.ShapeDtypeStruct((3,), "float32")}
        >>> rules = [*jaxinit.rules.forget_gate(), ("bias", jaxinit.zeros)]
        >>> tree = {"hf": bias, "hg": bias, "hi": bias, "ho": bias}
        >>> drawn = jaxinit.init_tree(jax.random.key(0), tree, rules)
        >>> drawn["hf"]["bias"].tolist(), drawn["hi"]["bias"].tolist()
        ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])

    References:
        R. Jozefowicz, W. Zaremba, I. Sutskever, "An empirical exploration of recurrent
            network architectures", ICML 2015, section 2.
    """

    def choose(param: Param) -> Initializer:
        gates, index, _ = _gates_of(param)
        return families.forget_gate(value, gates, index)

    families.forget_gate(value)  # refuses here what is no number
    return [(_forgets, per_param(choose))]


def chrono(max_length: float, min_length: float = 2.0) -> Rules:
    """Chrono in every LSTM, GRU and MGU cell: units that remember 2 to T_max steps.

    The initializer `jaxinit.chrono` where Flax's cells, of Linen and NNX, have the
    biases: b_f = log U(T_min - 1, T_max - 1) for the gate that keeps the state and, in
    an LSTM, b_i = -b_f for the input gate of the same unit, whether the two are packed
    or apart. Put it before a recipe for the rest, [*chrono(100), *torch()].

    Args:
        max_length: the longest time T_max, in steps.
        min_length: the shortest time T_min, in steps, above 1.

    Raises:
        ValueError: unless 1 < min_length < max_length, and for the packed gates of NNX
            without `layers=` to tell their number.

    Example:
        >>> import jax, jaxinit
        >>> bias = {"bias": jax.ShapeDtypeStruct((64,), "float32")}
        >>> rules = [*jaxinit.rules.chrono(100), ("bias", jaxinit.zeros)]
        >>> tree = {"hf": bias, "hg": bias, "hi": bias, "ho": bias}
        >>> drawn = jaxinit.init_tree(jax.random.key(0), tree, rules)
        >>> bool((drawn["hi"]["bias"] == -drawn["hf"]["bias"]).all())
        True

    References:
        C. Tallec, Y. Ollivier, "Can recurrent neural networks warp time?", 2018,
            arXiv:1804.11188, "chrono initialization".
    """

    def choose(param: Param) -> Initializer:
        bias = families.chrono(max_length, min_length, *_gates_of(param))
        return scaled(bias, -1.0) if _lets_in(param) else bias

    def source(param: Param) -> str:
        """The bias of the forget gate, whose draw that of the input gate repeats."""
        path = param.path
        return f"{path.removesuffix('hi/bias')}hf/bias" if _lets_in(param) else path

    def decides(param: Param) -> bool:
        return _forgets(param) or _lets_in(param)

    families.chrono(max_length, min_length)  # refuses here what is out of order
    return [(decides, per_param(choose, source=source))]


# --- helpers --------------------------------------------------------------------------


def _forgets(param: Param) -> bool:
    """Whether a bias is, or has packed in it, that of the gate that keeps the state."""
    if param.name != "bias":
        return False
    if parent(param) not in ("dense_h", "dense_i"):
        return parent(param) in ("hf", "if", "iz")
    if "kernel" not in param.layers:
        raise ValueError(
            "a cell of NNX has one bias for several gates, and its layers tell how "
            "many; pass layers=jaxinit.read(model, batch)"
        )
    return gates_of(param) in PACKED


def _lets_in(param: Param) -> bool:
    return param.name == "bias" and parent(param) == "hi"


def _gates_of(param: Param) -> Gates:
    return PACKED.get(gates_of(param), APART)
