# SPDX-License-Identifier: Apache-2.0
"""Flax's layers beside PyTorch's."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from flax import nnx

from tests.rules.oracle import Case
from tests.rules.oracle_layers import (
    FIRST,
    FLAT,
    IDS,
    IMAGE,
    SERIES,
    SPACE,
    TRAIN,
    attention,
    depthwise,
    linen,
    rnn,
    shape,
)


class Layer(nn.Module):
    """PyTorch's encoder layer, or with `decoder` its decoder layer."""

    decoder: bool = False

    @nn.compact
    def __call__(self, x):
        h = nn.MultiHeadDotProductAttention(4, name="self_attn")(x)
        x = nn.LayerNorm(name="norm1")(x + h)
        norm = nn.LayerNorm(name="norm2")
        if self.decoder:
            x = norm(x + nn.MultiHeadDotProductAttention(4, name="multihead_attn")(x))
            norm = nn.LayerNorm(name="norm3")
        h = nn.Dense(24, name="linear2")(nn.relu(nn.Dense(64, name="linear1")(x)))
        return norm(x + h)


MHA = [
    (r"(query|key|value)/kernel", "in_proj_weight"),
    (r"(query|key|value)/bias", "in_proj_bias"),
    (r"out/", "out_proj/"),
]
APART = [
    (r"query/kernel", "q_proj_weight"),
    (r"key/kernel", "k_proj_weight"),
    (r"value/kernel", "v_proj_weight"),
    *MHA[1:],
]
TORCH_CELL = [
    (r"^(dense_i|i\w*)/kernel", "weight_ih"),
    (r"^(dense_h|h\w*)/kernel", "weight_hh"),
    (r"^(dense_i|i\w*)/bias", "bias_ih"),
    (r"^(dense_h|h\w*)/bias", "bias_hh"),
]
LAYER_0 = [*FIRST, *((old, f"{new}_l0") for old, new in TORCH_CELL)]

CONVOLUTIONS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "Conv1d": (lambda: nn.Conv(20, (5,)), SERIES),
    "Conv2d": (lambda: nn.Conv(20, (3, 3)), IMAGE),
    "Conv2d strided": (lambda: nn.Conv(20, (3, 3), 2), IMAGE),
    "Conv2d grouped": (lambda: nn.Conv(24, (3, 3), feature_group_count=4), IMAGE),
    "Conv2d depthwise": (depthwise, IMAGE),
    "Conv3d": (lambda: nn.Conv(10, (3, 3, 3)), SPACE),
    "ConvTranspose1d": (lambda: nn.ConvTranspose(20, (4,), (2,)), SERIES),
    "ConvTranspose2d": (lambda: nn.ConvTranspose(20, (4, 4), (2, 2)), IMAGE),
    "ConvTranspose3d": (lambda: nn.ConvTranspose(10, (3, 3, 3)), SPACE),
}
OTHERS: dict[str, tuple[Callable[[], Any], tuple[int, ...], Any]] = {
    "Linear": (lambda: nn.Dense(40), FLAT, ()),
    "LayerNorm": (nn.LayerNorm, FLAT, ()),
    "RMSNorm": (nn.RMSNorm, FLAT, ()),
    "GroupNorm": (lambda: nn.GroupNorm(4), (2, 8, 8, 24), ()),
    "InstanceNorm2d": (nn.InstanceNorm, (2, 8, 8, 24), ()),
    "BatchNorm2d": (nn.BatchNorm, (2, 8, 8, 24), TRAIN),
    "PReLU": (nn.PReLU, FLAT, ()),
}
SLOPE = [*FIRST, ("negative_slope", "weight")]
STATISTICS = "/(mean|var)$"  # of which PyTorch has buffers


def _torch() -> list[Case]:
    made = [
        Case("torch", "torch", name, linen(layer), (shape(*x),), FIRST)
        for name, (layer, x) in CONVOLUTIONS.items()
    ]
    made += [
        Case(
            *("torch", "torch", name, linen(layer, fixed), (shape(*x),), SLOPE),
            apart=STATISTICS,
        )
        for name, (layer, x, fixed) in OTHERS.items()
    ]
    cells = {
        "RNN": nn.SimpleCell,
        "LSTM": nn.LSTMCell,
        "LSTM ": nn.OptimizedLSTMCell,
        "GRU": nn.GRUCell,
    }
    made += [
        Case(
            *("torch", "torch", name.strip(), linen(rnn(cell)), (shape(*SERIES),)),
            LAYER_0,
        )
        for name, cell in cells.items()
    ]
    embed = linen(lambda: nn.Embed(50, 16))
    wide = [shape(2, 6, width) for width in (24, 40, 16)]
    one = [shape(2, 6, 24)]
    names = [*FIRST, *MHA]
    multi = "MultiheadAttention"
    made += [
        Case("torch", "torch", "Embedding", embed, (IDS,), FIRST),
        Case("torch", "torch", multi, linen(attention), tuple(one), names),
        Case(
            *("torch", "torch", f"{multi} kdim", linen(attention), tuple(wide)),
            [*FIRST, *APART],
        ),
    ]
    for name in ("Encoder", "Decoder"):
        layer = Layer(decoder=name == "Decoder")
        names = [(f"/{old}", f".{new}") for old, new in MHA]
        case = ("torch", "torch", f"Transformer{name}Layer", layer, tuple(one), names)
        made.append(Case(*case))
    return [*made, *_torch_nnx()]


def _torch_nnx() -> list[Case]:
    def carried(cell: Any, state: int) -> tuple[Any, Any]:
        def make(rngs: nnx.Rngs) -> Any:
            return cell(12, 20, rngs=rngs)

        h = shape(2, 20)
        return make, ((h, h) if state == 2 else h, shape(2, 12))

    cells = {
        "LSTMCell": (nnx.OptimizedLSTMCell, 2),
        "LSTMCell ": (nnx.LSTMCell, 2),
        "GRUCell": (nnx.GRUCell, 1),
        "RNNCell": (nnx.SimpleCell, 1),
    }
    made = [
        Case("torch", "torch", name.strip(), *carried(*cell), names=TORCH_CELL)
        for name, cell in cells.items()
    ]
    layers: dict[str, tuple[Callable[[nnx.Rngs], Any], tuple[int, ...]]] = {
        "Linear": (lambda rngs: nnx.Linear(24, 40, rngs=rngs), FLAT),
        "Conv2d": (lambda rngs: nnx.Conv(12, 20, (3, 3), rngs=rngs), IMAGE),
        "Conv2d grouped": (
            lambda rngs: nnx.Conv(12, 24, (3, 3), feature_group_count=4, rngs=rngs),
            IMAGE,
        ),
        "ConvTranspose2d": (
            lambda rngs: nnx.ConvTranspose(12, 20, (4, 4), (2, 2), rngs=rngs),
            IMAGE,
        ),
        "MultiheadAttention": (
            lambda rngs: nnx.MultiHeadAttention(4, 24, decode=False, rngs=rngs),
            (2, 6, 24),
        ),
        "LayerNorm": (lambda rngs: nnx.LayerNorm(24, rngs=rngs), FLAT),
    }
    bare = [("^kernel$|^scale$|^embedding$", "weight"), *MHA]
    made += [
        Case(
            *("torch", "torch", name, make, (shape(*x),), bare),
            by_name="Transpose" not in name,  # its name is that of a convolution
        )
        for name, (make, x) in layers.items()
    ]
    return made


TORCH = _torch()
