"""Linear maps over several axes at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import random

from .module import Module, static, title

__all__ = ["Einsum", "LinearGeneral"]


def _uniform(key: Any, shape: tuple[int, ...], ins: int, dtype: Any) -> ft.Array:
    bound = 1 / math.sqrt(ins) if ins else 0.0
    return random.uniform(key, shape, dtype, -bound, bound)


class LinearGeneral(Module):
    """Apply an affine map from some axes to new ones, which stand last.

    Weight and bias start uniform in [-1/√n, 1/√n], n inputs to each output.

    Args:
        in_features: sizes of the axes that are mapped: int or several.
        out_features: sizes of the new axes: int or several.
        axis: the axes that are mapped, as many as in_features; the last where it is an int.
        bias: whether there is a bias.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: axis and in_features differ in number; or, when called, the input's axes have
            other sizes.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> heads = nnx.LinearGeneral(8, (2, 4), key=random.key(0))
        >>> join = nnx.LinearGeneral((2, 4), 8, axis=(-2, -1), key=random.key(0))
        >>> heads(fnp.ones((3, 8))).shape, join(fnp.ones((3, 2, 4))).shape
        ((3, 2, 4), (3, 8))
    """

    weight: ft.Array  # (*out_features, *in_features)
    bias: ft.Array | None
    in_features: tuple[int, ...] = static()
    out_features: tuple[int, ...] = static()
    axis: tuple[int, ...] = static()

    def __init__(
        self, in_features: int | Sequence[int], out_features: int | Sequence[int],
        axis: int | Sequence[int] = -1, bias: bool = True, *, key: Any, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        self.in_features, self.out_features, self.axis = (
            (value,) if isinstance(value, int) else tuple(value)
            for value in (in_features, out_features, axis)
        )
        if len(self.axis) != len(self.in_features):
            raise ValueError(
                "LinearGeneral takes one axis for each of in_features; it was given "
                f"in_features={in_features}, axis={axis}"
            )
        weight_key, bias_key = random.split(key)
        ins = math.prod(self.in_features)
        self.weight = _uniform(weight_key, self.out_features + self.in_features, ins, dtype)
        self.bias = _uniform(bias_key, self.out_features, ins, dtype) if bias else None

    def __call__(self, x: Any) -> ft.Array:
        """Map x to an array of its other axes and out_features."""
        x = fnp.asarray(x)
        if any(
            not -x.ndim <= k < x.ndim or x.shape[k] != n
            for k, n in zip(self.axis, self.in_features, strict=True)
        ):
            raise ValueError(
                f"{title(self)} takes an array with sizes {self.in_features} of axes {self.axis}; "
                f"it was given one of shape {x.shape}"
            )
        news = len(self.out_features)
        mapped = tuple(range(news, news + len(self.in_features)))
        y = fnp.tensordot(x, self.weight, (self.axis, mapped))
        return y if self.bias is None else y + self.bias


class Einsum(Module):
    """Contract the input with a weight as an equation says.

    Weight and bias start uniform in [-1/√n, 1/√n], n inputs to each output.

    Args:
        equation: as `funtorch.numpy.einsum` takes it, of the input and the weight.
        shape: shape of the weight.
        bias: whether there is a bias: one number for each index that the weight gives the result.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: the equation is not of two arrays and a result, or does not fit the shape.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.Einsum("btd,dhk->bhtk", (8, 2, 4), key=random.key(0))
        >>> layer(fnp.ones((3, 5, 8))).shape, layer.bias.shape
        ((3, 2, 5, 4), (2, 1, 4))
    """

    weight: ft.Array
    bias: ft.Array | None
    equation: str = static()

    def __init__(
        self, equation: str, shape: Sequence[int], bias: bool = True, *, key: Any,
        dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        self.equation = equation.replace(" ", "")
        arrays, arrow, result = self.equation.partition("->")
        labels = arrays.split(",")
        shape = tuple(shape)
        if not arrow or len(labels) != 2 or len(labels[1]) != len(shape) or "." in labels[1]:
            raise ValueError(
                "Einsum takes an equation 'input,weight->result' with an index for each axis of "
                f"the weight; it was given {equation!r} with shape {shape}"
            )
        sizes = dict(zip(labels[1], shape, strict=True))
        ins = math.prod(n for label, n in sizes.items() if label not in result)
        weight_key, bias_key = random.split(key)
        self.weight = _uniform(weight_key, shape, ins, dtype)
        self.bias = None
        if bias:
            head, _, tail = result.rpartition("...")
            if any(label in sizes for label in head):
                raise ValueError(
                    f"Einsum takes no bias where the weight's indices stand before '...'; it was "
                    f"given {equation!r}"
                )
            along = [sizes.get(label, 1) for label in tail]
            while along and along[0] == 1 and tail[len(tail) - len(along)] not in sizes:
                along.pop(0)
            self.bias = _uniform(bias_key, tuple(along), ins, dtype)

    def __call__(self, x: Any) -> ft.Array:
        """Map x as the equation says."""
        y = fnp.einsum(self.equation, x, self.weight)
        return y if self.bias is None else y + self.bias
