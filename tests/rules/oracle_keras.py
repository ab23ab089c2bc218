# SPDX-License-Identifier: Apache-2.0
"""Flax's layers beside Keras's."""

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
    TRAIN,
    attention,
    depthwise,
    linen,
    rnn,
    shape,
)


class Separable(nn.Module):
    window: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        features = x.shape[-1]
        depthwise = nn.Conv(
            features,
            self.window,
            feature_group_count=features,
            use_bias=False,
            name="depthwise",
        )
        return nn.Conv(20, (1,) * len(self.window), name="pointwise")(depthwise(x))


KERAS_NORM = [
    *FIRST,
    ("scale", "gamma"),
    ("bias", "beta"),
    ("mean", "moving_mean"),
    ("var", "moving_variance"),
]
KERAS_CELL = [
    (r"^(dense_i|i\w*)/kernel", "kernel"),
    (r"^(dense_h|h\w*)/kernel", "recurrent_kernel"),
    (r"^(dense_i|dense_h|[ih]\w*)/bias", "bias"),
]


def _keras() -> list[Case]:
    flat: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
        "Dense": (lambda: nn.Dense(40), FLAT),
        "EinsumDense": (lambda: nn.DenseGeneral((4, 10)), SERIES),
        "Conv1D": (lambda: nn.Conv(20, (5,)), SERIES),
        "Conv2D": (lambda: nn.Conv(20, (3, 3)), IMAGE),
        "Conv2D strided": (lambda: nn.Conv(20, (3, 3), 2), IMAGE),
        "Conv2D grouped": (lambda: nn.Conv(24, (3, 3), feature_group_count=4), IMAGE),
        "Conv3D": (lambda: nn.Conv(10, (3, 3, 3)), (2, 6, 6, 6, 12)),
        "DepthwiseConv1D": (
            lambda: nn.Conv(12, (3,), feature_group_count=12),
            SERIES,
        ),
        "DepthwiseConv2D": (
            lambda: nn.Conv(12, (3, 3), feature_group_count=12),
            IMAGE,
        ),
        "DepthwiseConv2D twice": (depthwise, IMAGE),
        "Conv1DTranspose": (lambda: nn.ConvTranspose(20, (4,), (2,)), SERIES),
        "Conv2DTranspose": (lambda: nn.ConvTranspose(20, (4, 4), (2, 2)), IMAGE),
        "Conv3DTranspose": (
            lambda: nn.ConvTranspose(10, (3, 3, 3)),
            (2, 6, 6, 6, 12),
        ),
        "LayerNormalization": (nn.LayerNorm, FLAT),
        "GroupNormalization": (lambda: nn.GroupNorm(4), IMAGE),
        "BatchNormalization": (nn.BatchNorm, IMAGE),
    }
    made = [
        Case(
            *("keras", "keras", name),
            linen(layer, TRAIN if "Batch" in name else ()),
            (shape(*x),),
            KERAS_NORM if "Norm" in name else FIRST,
            by_name=name not in ("DepthwiseConv2D twice", "EinsumDense"),
        )
        for name, (layer, x) in flat.items()
    ]
    rms = linen(nn.RMSNorm), (shape(*FLAT),), [*FIRST]
    slope = linen(nn.PReLU), (shape(*FLAT),), [*FIRST, ("negative_slope", "alpha")]
    embed = (
        linen(lambda: nn.Embed(50, 16)),
        (IDS,),
        [*FIRST, ("embedding", "embeddings")],
    )
    made += [
        Case("keras", "keras", "RMSNormalization", *rms),
        Case("keras", "keras", "PReLU", *slope),
        Case("keras", "keras", "Embedding", *embed),
    ]
    separable = [("(depthwise|pointwise)/kernel", r"\1_kernel"), ("^pointwise/", "")]
    made += [
        Case("keras", "keras", f"SeparableConv{k}D", Separable((3,) * k), x, separable)
        for k, x in ((1, (shape(*SERIES),)), (2, (shape(*IMAGE),)))
    ]
    heads = [*FIRST, ("out/", "attention_output/")]
    for name, keys in (("", 24), (" narrow", 16)):
        x = (shape(2, 6, 24), shape(2, 6, keys))
        case = ("keras", "keras", f"MultiHeadAttention{name}", linen(attention), x)
        made.append(Case(*case, heads))
    return [*made, *_keras_cells()]


def _keras_cells() -> list[Case]:
    cells = {
        "SimpleRNN": (nn.SimpleCell, "simple_rnn_cell"),
        "LSTM": (nn.OptimizedLSTMCell, "lstm_cell"),
        "GRU": (nn.GRUCell, "gru_cell"),
    }
    made = [
        Case(
            *("keras", "keras", name, linen(rnn(cell)), (shape(*SERIES),)),
            [*FIRST, *KERAS_CELL, ("^", f"{place}/")],
            apart="h[ifgo]/bias" if name == "LSTM" else "^$",
        )
        for name, (cell, place) in cells.items()
    ]

    def conv_lstm(k: int) -> Callable[[], Any]:
        return lambda: nn.RNN(nn.ConvLSTMCell(10, (3,) * k))

    made += [
        Case(
            *("keras", "keras", f"ConvLSTM{k}D", linen(conv_lstm(k))),
            (shape(2, 4, *[8] * k, 6),),
            [*FIRST, *KERAS_CELL, ("^", "conv_lstm_cell/")],
            apart="bias",  # Flax's cell adds the 1 itself
        )
        for k in (1, 2)
    ]

    def lstm(rngs: nnx.Rngs) -> Any:
        return nnx.OptimizedLSTMCell(12, 20, rngs=rngs)

    h = shape(2, 20)
    names = [*KERAS_CELL, ("^", "lstm_cell/")]
    made.append(Case("keras", "keras", "LSTM", lstm, ((h, h), shape(2, 12)), names))
    return made


KERAS = _keras()
