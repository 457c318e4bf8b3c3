"""Layers: modules that are called on arrays."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import random

from .module import Module, field, static, title

__all__ = ["Flatten", "Identity", "Lambda", "Linear", "Sequential", "Unflatten"]


class Linear(Module):
    """Apply an affine map along the last axis: y = x Wᵀ + b.

    Weight and bias start uniform in [-1/√in_features, 1/√in_features], as in PyTorch.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        bias: whether there is a bias.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: a size is negative; or, when called, the input's last axis has another size.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.Linear(3, 2, key=random.key(0))
        >>> layer(fnp.ones((5, 3))).shape
        (5, 2)
    """

    weight: ft.Array
    bias: ft.Array | None
    in_features: int = static()
    out_features: int = static()

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, key: Any,
        dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        if in_features < 0 or out_features < 0:
            raise ValueError(
                "Linear takes sizes of 0 or more; it was given "
                f"in_features={in_features}, out_features={out_features}"
            )
        self.in_features = in_features
        self.out_features = out_features
        bound = 1 / math.sqrt(in_features) if in_features else 0.0
        weight_key, bias_key = random.split(key)
        shape = (out_features, in_features)
        self.weight = random.uniform(weight_key, shape, dtype, -bound, bound)
        self.bias = random.uniform(bias_key, shape[:1], dtype, -bound, bound) if bias else None

    def __call__(self, x: Any) -> ft.Array:
        """Map x of shape (..., in_features) to shape (..., out_features)."""
        x = fnp.asarray(x)
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(
                f"{title(self)} takes an array of shape (..., {self.in_features}); it was given "
                f"one of shape {x.shape}"
            )
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class Identity(Module):
    """Give the input back; a stand-in where a layer is expected.

    Example:
        >>> from funtorch import nnx
        >>> nnx.Identity()(3)
        3
    """

    def __call__(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """Join some neighbouring axes into one: all but the first, unless said otherwise.

    Args:
        start_dim: the first of them.
        end_dim: the last of them.

    Raises:
        ValueError: when called, the input has no such axes.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Flatten()(fnp.ones((5, 8, 8))).shape
        (5, 64)
        >>> nnx.Flatten(1, 2)(fnp.ones((5, 8, 8, 3))).shape
        (5, 64, 3)
    """

    start_dim: int = static(1)
    end_dim: int = static(-1)

    def __call__(self, x: Any) -> ft.Array:
        x = fnp.asarray(x)
        # One sample has no axis to leave out at its end: (5,) becomes (5, 1).
        first, last = (d + x.ndim if d < 0 else d for d in (self.start_dim, self.end_dim))
        if not 0 <= first <= last + 1 <= x.ndim:
            raise ValueError(
                f"{title(self)} takes an array that has these axes; it was given one of shape "
                f"{x.shape}"
            )
        joined = math.prod(x.shape[first : last + 1])
        return x.reshape(*x.shape[:first], joined, *x.shape[last + 1 :])


class Unflatten(Module):
    """Split an axis into several.

    Args:
        dim: the axis.
        unflattened_size: sizes of what it becomes; one may be -1, for what is left.

    Raises:
        ValueError: when called, the input has no such axis, or its size is not their product.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Unflatten(1, (2, 5, 5))(fnp.ones((4, 50))).shape
        (4, 2, 5, 5)
    """

    dim: int = static()
    unflattened_size: tuple[int, ...] = static()

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def __call__(self, x: Any) -> ft.Array:
        x, sizes = fnp.asarray(x), self.unflattened_size
        k = self.dim + x.ndim if self.dim < 0 else self.dim
        if 0 <= k < x.ndim:
            known = math.prod(n for n in sizes if n != -1)
            left = x.shape[k] // known if known else 0
            sizes = tuple(left if n == -1 else n for n in sizes)
            if self.unflattened_size.count(-1) < 2 and math.prod(sizes) == x.shape[k]:
                return x.reshape(*x.shape[:k], *sizes, *x.shape[k + 1 :])
        raise ValueError(
            f"{title(self)} takes an array whose axis {self.dim} has the product of these sizes; "
            f"it was given one of shape {x.shape}"
        )


class Lambda(Module):
    """Make a layer of a function without parameters.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Lambda(fnp.sin)(0.0)
        Array(0., dtype=float32, weak_type=True)
    """

    function: Callable[..., Any] = static()

    def __call__(self, x: Any) -> Any:
        return self.function(x)


class Sequential(Module):
    """Apply layers one after another.

    Args:
        *layers: modules, or plain functions, which are wrapped in `Lambda`.

    Raises:
        TypeError: a layer cannot be called.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> k1, k2 = random.split(random.key(0))
        >>> model = nnx.Sequential(nnx.Linear(4, 8, key=k1), nnx.ReLU(), nnx.Linear(8, 2, key=k2))
        >>> model(fnp.ones((5, 4))).shape
        (5, 2)
        >>> len(model), type(model[1]).__name__
        (3, 'ReLU')
    """

    layers: tuple[Any, ...] = field(transparent=True)

    def __init__(self, *layers: Any) -> None:
        for i, layer in enumerate(layers):
            if not callable(layer):
                raise TypeError(
                    f"Sequential takes layers as separate arguments; argument {i} is a "
                    f"{type(layer).__name__}, which cannot be called"
                )
        wrapped = [layer if isinstance(layer, Module) else Lambda(layer) for layer in layers]
        self.layers = tuple(wrapped)

    def __call__(self, x: Any, *, key: Any = None) -> Any:
        """Apply the layers; each one that takes a key gets its own, split from ``key``."""
        takers = [layer for layer in self.layers if _takes_key(type(layer).__call__)]
        keys: Iterator[Any] = iter(
            random.split(key, len(takers)) if takers and key is not None else [None] * len(takers)
        )
        for layer in self.layers:
            x = layer(x, key=next(keys)) if _takes_key(type(layer).__call__) else layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)

    def __getitem__(self, index: int | slice) -> Any:
        chosen = self.layers[index]
        return Sequential(*chosen) if isinstance(index, slice) else chosen


@functools.cache
def _takes_key(call: Callable[..., Any]) -> bool:
    return "key" in inspect.signature(call).parameters
