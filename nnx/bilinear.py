"""Bilinear maps."""

from __future__ import annotations

import math
from typing import Any

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import random

from .module import Module, static, title

__all__ = ["Bilinear"]


class Bilinear(Module):
    """Apply a map that is linear in each of two arrays: y_k = x1ᵀ W_k x2 + b_k.

    Weight and bias start uniform in [-1/√in1_features, 1/√in1_features], as in PyTorch.

    Args:
        in1_features: size of the last axis of the first input.
        in2_features: size of the last axis of the second.
        out_features: size of the last axis of the output.
        bias: whether there is a bias.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: a size is not positive; or, when called, shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.Bilinear(3, 4, 2, key=random.key(0))
        >>> layer(fnp.ones((5, 3)), fnp.ones((5, 4))).shape
        (5, 2)
    """

    weight: ft.Array
    bias: ft.Array | None
    in1_features: int = static()
    in2_features: int = static()
    out_features: int = static()

    def __init__(
        self, in1_features: int, in2_features: int, out_features: int, bias: bool = True, *,
        key: Any, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        shape = (out_features, in1_features, in2_features)
        if min(shape) < 1:
            raise ValueError(
                f"Bilinear takes positive sizes; it was given in1_features={in1_features}, "
                f"in2_features={in2_features}, out_features={out_features}"
            )
        self.in1_features, self.in2_features = in1_features, in2_features
        self.out_features = out_features
        bound = 1 / math.sqrt(in1_features)
        weight_key, bias_key = random.split(key)
        self.weight = random.uniform(weight_key, shape, dtype, -bound, bound)
        self.bias = random.uniform(bias_key, shape[:1], dtype, -bound, bound) if bias else None

    def __call__(self, x1: Any, x2: Any) -> ft.Array:
        """Map x1 of (..., in1_features) and x2 of (..., in2_features) to (..., out_features)."""
        x1, x2 = fnp.asarray(x1), fnp.asarray(x2)
        sizes = (self.in1_features, self.in2_features)
        if (x1.shape[-1:], x2.shape[-1:]) != ((sizes[0],), (sizes[1],)) or (
            x1.shape[:-1] != x2.shape[:-1]
        ):
            raise ValueError(
                f"{title(self)} takes arrays of shapes (..., {sizes[0]}) and (..., {sizes[1]}); it "
                f"was given {x1.shape} and {x2.shape}"
            )
        half = fnp.einsum("...i,kij->...kj", x1, self.weight)
        y = fnp.einsum("...kj,...j->...k", half, x2)
        return y if self.bias is None else y + self.bias
