"""Layers with their settings and inputs, one row each: all are PyTorch's, by the same names.

A row is (name, arguments, settings, inputs). An input is the shape of an array of floats, or an
integer or a list of them as they stand.
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

POOLS: list[Row] = [
    ("MaxPool1d", (2,), {}, ((2, 3, 9),)),
    ("MaxPool1d", (3, 2, 1), {"return_indices": True}, ((3, 9),)),
    ("MaxPool2d", (3, 2), {"padding": 1}, ((2, 3, 9, 8),)),
    ("MaxPool2d", ((3, 2), (2, 1)), {"dilation": (1, 2), "ceil_mode": True}, ((2, 3, 10, 8),)),
    ("MaxPool2d", (3, 2, 1, (2, 1), True, True), {}, ((2, 3, 10, 8),)),
    ("MaxPool3d", (2,), {"stride": 1}, ((2, 2, 3, 4, 5),)),
    ("MaxPool3d", (2, None, 1), {"return_indices": True}, ((2, 3, 4, 5),)),
    ("AvgPool1d", (3, 2), {"padding": 1, "count_include_pad": False}, ((2, 3, 9),)),
    ("AvgPool2d", (3, 2, 1), {}, ((2, 3, 9, 8),)),
    ("AvgPool2d", (3, 2, 1, True), {}, ((3, 10, 8),)),
    ("AvgPool2d", (2,), {"divisor_override": 3}, ((2, 3, 7, 6),)),
    ("MaxPool2d", (4, None, (1, 0), (2, 1), False, True), {}, ((1, 4, 4, 1),)),
    ("AvgPool1d", ((4,), 3, (0,), True, False), {}, ((2, 4, 2),)),
    ("AvgPool3d", (2,), {"ceil_mode": True, "count_include_pad": False}, ((1, 1, 4, 5, 3),)),
    ("LPPool1d", (2, 3), {}, ((2, 3, 9),)),
    ("LPPool2d", (2.0, (2, 3), 2), {}, ((2, 3, 5, 8),)),
    ("LPPool2d", (4, 3), {"ceil_mode": True}, ((3, 5, 8),)),
    ("LPPool3d", (2, 2), {}, ((1, 2, 4, 5, 3),)),
    ("AdaptiveAvgPool1d", (4,), {}, ((2, 3, 9),)),
    ("AdaptiveAvgPool2d", ((3, None),), {}, ((2, 3, 7, 5),)),
    ("AdaptiveAvgPool2d", (1,), {}, ((3, 7, 5),)),
    ("AdaptiveAvgPool2d", ((2, 3),), {}, ((2, 3, 4, 9),)),
    ("AdaptiveAvgPool2d", ((8, 3),), {}, ((2, 3, 5, 5),)),
    ("AdaptiveAvgPool3d", ((2, 3, 1),), {}, ((1, 2, 3, 4, 5),)),
    ("AdaptiveMaxPool1d", (4, True), {}, ((2, 3, 9),)),
    ("AdaptiveMaxPool2d", ((3, None),), {}, ((2, 3, 7, 5),)),
    ("AdaptiveMaxPool2d", (3,), {"return_indices": True}, ((3, 7, 5),)),
    ("AdaptiveMaxPool3d", ((2, 3, 1),), {"return_indices": True}, ((1, 2, 3, 4, 5),)),
    ("MaxUnpool1d", (2,), {}, ((1, 2, 3), [[[0, 3, 5], [1, 2, 4]]])),
    ("MaxUnpool2d", (2, 2, 1), {}, ((1, 2, 3), [[[1, 3, 7], [0, 4, 5]]])),
    ("MaxUnpool2d", ((2, 3), 1), {}, ((1, 1, 2, 2), [[[[0, 5], [7, 11]]]])),
    ("MaxUnpool3d", (2,), {}, ((1, 1, 1, 2, 1), [[[[[6], [12]]]]])),
]

PADS: list[Row] = [
    ("ConstantPad1d", (2, 3.5), {}, ((2, 3),)),
    ("ConstantPad1d", ((2, -1), 3.5), {}, ((4, 2, 3),)),
    ("ConstantPad2d", ((1, 2, -1, 0), 0.5), {}, ((2, 3, 4),)),
    ("ConstantPad3d", (1, -2.0), {}, ((2, 3, 1, 4),)),
    ("ZeroPad1d", ((0, 2),), {}, ((2, 3, 4),)),
    ("ZeroPad2d", (2,), {}, ((2, 3, 4),)),
    ("ZeroPad3d", ((1, 2, 0, 1, -1, 2),), {}, ((2, 3, 1, 4),)),
    ("ReflectionPad1d", (2,), {}, ((2, 2, 4),)),
    ("ReflectionPad1d", ((3, 0),), {}, ((2, 4),)),
    ("ReflectionPad2d", ((1, 2, 3, 0),), {}, ((2, 3, 4, 5),)),
    ("ReflectionPad2d", ((1, 2, -2, 1),), {}, ((3, 4, 5),)),
    ("ReflectionPad3d", (1,), {}, ((1, 2, 3, 4),)),
    ("ReplicationPad1d", ((5, 1),), {}, ((2, 2, 4),)),
    ("ReplicationPad2d", ((1, 2, -1, 0),), {}, ((2, 3, 4, 5),)),
    ("ReplicationPad3d", (1,), {}, ((1, 2, 3, 4),)),
    ("CircularPad1d", ((4, 1),), {}, ((2, 2, 4),)),
    ("CircularPad2d", ((1, 2, -1, 3),), {}, ((2, 3, 4, 5),)),
    ("CircularPad3d", (1,), {}, ((1, 2, 3, 4),)),
]

CONVS: list[Row] = [
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 1}, ((2, 4, 9),)),
    ("Conv2d", (4, 6, 3), {"padding": "same", "dilation": 2}, ((2, 4, 9, 8),)),
    ("Conv2d", (4, 6, (2, 3)), {"padding": (1, 0), "groups": 2, "bias": False}, ((2, 4, 6, 5),)),
    ("Conv2d", (4, 4, 3), {"padding": 2, "padding_mode": "circular"}, ((4, 6, 5),)),
    ("Conv2d", (4, 4, 4), {"padding": "same", "padding_mode": "reflect"}, ((1, 4, 6, 5),)),
    ("Conv2d", (4, 4, 3), {"padding": "valid", "padding_mode": "replicate"}, ((1, 4, 6, 5),)),
    ("Conv3d", (2, 3, 2), {"stride": (1, 2, 1)}, ((2, 2, 4, 5, 3),)),
    ("ConvTranspose1d", (4, 3, 3), {"stride": 2, "padding": 1}, ((2, 4, 5),)),
    ("ConvTranspose1d", (4, 6, 4, 3, 0, 1, 2), {}, ((4, 5),)),
    ("ConvTranspose2d", (4, 3, 3), {"bias": False}, ((2, 4, 5, 3),)),
    ("ConvTranspose2d", (4, 6, (2, 3), (2, 1), (0, 1), (1, 0), 2), {}, ((2, 4, 3, 5),)),
    ("ConvTranspose2d", (2, 3, 3, 2, 2, 1, 1, True, 2), {}, ((2, 4, 5),)),
    ("ConvTranspose2d", (4, 4, 2, 1, 3, 0, 4), {"dilation": 3}, ((1, 4, 7, 8),)),
    ("ConvTranspose3d", (2, 3, 2, 2), {}, ((1, 2, 2, 3, 2),)),
    ("Unfold", (2,), {}, ((2, 3, 4, 5),)),
    ("Unfold", ((2, 3), (2, 1), (1, 0), (1, 2)), {}, ((3, 4, 5),)),
    ("Fold", ((4, 5), 2), {}, ((2, 12, 12),)),
    ("Fold", ((4, 5), (2, 3), (2, 1), (1, 0), (1, 2)), {}, ((18, 8),)),
]

RESIZES: list[Row] = [
    ("Upsample", (None, 2), {}, ((2, 3, 4),)),
    ("Upsample", ((3, 7),), {}, ((2, 3, 4, 5),)),
    ("Upsample", (5,), {"mode": "linear"}, ((2, 3, 4),)),
    ("Upsample", (None, (1.5, 2.4)), {"mode": "bilinear"}, ((2, 3, 4, 5),)),
    ("Upsample", (None, 1.2), {"mode": "bilinear"}, ((2, 3, 4, 5),)),
    ("Upsample", ((3, 7),), {"mode": "bicubic", "align_corners": True}, ((2, 1, 4, 5),)),
    ("Upsample", (4,), {"mode": "trilinear"}, ((1, 2, 2, 3, 5),)),
    ("UpsamplingNearest2d", (7,), {}, ((1, 2, 4, 3),)),
    ("UpsamplingBilinear2d", (None, 2), {}, ((1, 2, 4, 3),)),
]

EMBEDDINGS: list[Row] = [
    ("Embedding", (5, 3), {}, ([[1, 4, 0], [2, 1, 1]],)),
    ("Embedding", (5, 3, 1), {}, ([1, 4, 1, 0],)),
    ("Embedding", (5, 3), {"max_norm": 0.9, "norm_type": 1.0}, ([1, 4, 1, 0],)),
    ("Embedding", (5, 3, -1, 0.5), {"scale_grad_by_freq": True}, ([[4, 1, 1, 0]],)),
    ("EmbeddingBag", (5, 3), {}, ([[1, 4, 0], [2, 1, 1]],)),
    ("EmbeddingBag", (5, 3), {"mode": "sum", "padding_idx": 0}, ([3, 0, 2, 3, 1, 0], [0, 2, 2, 5])),
    ("EmbeddingBag", (5, 3), {"mode": "max"}, ([3, 0, 2, 3, 1, 0], [0, 2, 2, 5])),
    ("EmbeddingBag", (5, 3), {"padding_idx": 3}, ([[3, 0, 2, 3], [1, 0, 4, 4], [3, 3, 3, 3]],)),
    ("EmbeddingBag", (5, 3, 0.8), {"mode": "max", "padding_idx": 3}, ([[3, 3], [1, 3], [4, 0]],)),
    (
        "EmbeddingBag",
        (5, 3),
        {"mode": "sum", "include_last_offset": True},
        ([3, 0, 2, 3, 1], [0, 2, 5]),
    ),
    ("Bilinear", (3, 4, 2), {}, ((5, 3), (5, 4))),
    ("Bilinear", (3, 4, 2, False), {}, ((2, 5, 3), (2, 5, 4))),
    ("Bilinear", (3, 4, 2), {}, ((3,), (4,))),
    ("Linear", (3, 4), {}, ((5, 3),)),
    ("Linear", (3, 4, False), {}, ((3,),)),
    ("Flatten", (), {}, ((2, 3, 4),)),
    ("Flatten", (1, 2), {}, ((2, 3, 4, 5),)),
    ("Flatten", (0,), {}, ((2, 3),)),
    ("Unflatten", (1, (2, -1)), {}, ((3, 6, 2),)),
    ("Unflatten", (-1, (2, 2)), {}, ((4,),)),
    ("Identity", (), {}, ((4,),)),
    ("AdaptiveLogSoftmaxWithLoss", (16, 12, [3, 7]), {}, ((5, 16), [0, 11, 4, 2, 7])),
    ("AdaptiveLogSoftmaxWithLoss", (8, 12, [5], 2.0, True), {}, ((8,), 7)),
]

ROWS: list[Row] = [
    *ACTIVATIONS, *NORMS, *COMPARISONS, *SHUFFLES, *POOLS, *PADS, *CONVS, *RESIZES, *EMBEDDINGS,
]  # fmt: skip
