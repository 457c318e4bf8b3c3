"""Layers with their settings and inputs, one row each: all are PyTorch's, by the same names.

A row is (name, arguments, settings, inputs). An input is the shape of an array of floats, or a
list: integers as they stand.
"""

from __future__ import annotations

from typing import Any

Row = tuple[str, tuple[Any, ...], dict[str, Any], tuple[Any, ...]]

ACTIVATIONS: list[Row] = [
    *((name, (), {}, ((3, 5),)) for name in (
        "ReLU", "ReLU6", "LeakyReLU", "ELU", "CELU", "SELU", "GELU", "SiLU", "Mish", "Sigmoid",
        "Tanh", "Softplus", "Softsign", "Tanhshrink", "LogSigmoid", "Hardtanh", "Hardsigmoid",
        "Hardswish", "Hardshrink", "Softshrink", "RReLU", "PReLU",
    )),
    ("LeakyReLU", (0.3,), {}, ((7,),)),
    ("ELU", (0.7,), {}, ((7,),)),
    ("CELU", (0.7,), {}, ((7,),)),
    ("GELU", ("tanh",), {}, ((7,),)),
    ("Softplus", (2.0, 1.5), {}, ((7,),)),
    ("Hardtanh", (-0.5, 0.75), {}, ((7,),)),
    ("Hardshrink", (0.2,), {}, ((7,),)),
    ("Softshrink", (0.2,), {}, ((7,),)),
    ("Threshold", (0.1, 20.0), {}, ((7,),)),
    ("RReLU", (0.2, 0.4), {}, ((),)),
    ("PReLU", (4,), {}, ((2, 4, 3),)),
    ("PReLU", (4,), {}, ((3, 4),)),
    ("PReLU", (1, 0.4), {}, ((),)),
    ("GLU", (), {}, ((3, 6),)),
    ("GLU", (0,), {}, ((4, 3),)),
    ("Softmax", (-1,), {}, ((2, 3, 5),)),
    ("Softmax", (1,), {}, ((2, 3, 5),)),
    ("LogSoftmax", (0,), {}, ((3, 5),)),
    ("Softmin", (1,), {}, ((3, 5),)),
    ("Softmax2d", (), {}, ((2, 3, 4, 5),)),
    ("Softmax2d", (), {}, ((3, 4, 5),)),
]  # fmt: skip

NORMS: list[Row] = [
    ("LayerNorm", (5,), {}, ((3, 5),)),
    ("LayerNorm", ((3, 5),), {"eps": 0.1}, ((2, 3, 5),)),
    ("LayerNorm", (5,), {"elementwise_affine": False}, ((5,),)),
    ("LayerNorm", (5, 1e-3), {"bias": False}, ((2, 3, 5),)),
    ("RMSNorm", (5,), {}, ((3, 5),)),
    ("RMSNorm", ((3, 5), 0.1), {}, ((2, 3, 5),)),
    ("RMSNorm", (5,), {"elementwise_affine": False}, ((5,),)),
    ("GroupNorm", (2, 6), {}, ((3, 6, 4, 5),)),
    ("GroupNorm", (6, 6, 0.1), {}, ((3, 6, 7),)),
    ("GroupNorm", (1, 6), {"affine": False}, ((3, 6),)),
    ("LocalResponseNorm", (3, 0.3, 0.6, 2.0), {}, ((2, 5, 3, 4),)),
    ("LocalResponseNorm", (4, 0.5), {}, ((2, 5, 3),)),
    ("LocalResponseNorm", (9, 0.5), {}, ((1, 3, 2, 3, 2),)),
]

COMPARISONS: list[Row] = [
    ("CosineSimilarity", (), {}, ((3, 5, 2), (3, 5, 2))),
    ("CosineSimilarity", (-1, 2.0), {}, ((3, 5), (5,))),
    ("PairwiseDistance", (), {}, ((3, 5), (3, 5))),
    ("PairwiseDistance", (1.0,), {"keepdim": True}, ((3, 5), (5,))),
    ("PairwiseDistance", (3.0, 0.1), {}, ((5,), (5,))),
]

SHUFFLES: list[Row] = [
    ("PixelShuffle", (2,), {}, ((2, 12, 3, 5),)),
    ("PixelShuffle", (3,), {}, ((9, 2, 3),)),
    ("PixelUnshuffle", (2,), {}, ((2, 3, 4, 6),)),
    ("PixelUnshuffle", (3,), {}, ((1, 6, 3),)),
    ("ChannelShuffle", (2,), {}, ((2, 6, 3, 4),)),
    ("ChannelShuffle", (3,), {}, ((2, 6, 5),)),
]

ROWS: list[Row] = [*ACTIVATIONS, *NORMS, *COMPARISONS, *SHUFFLES]
