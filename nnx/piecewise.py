"""Activations made of straight pieces, with PyTorch's derivatives where two of them meet."""

from __future__ import annotations

from typing import Any

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import random

from .module import Module, static, title

__all__ = [
    "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "PReLU", "RReLU", "ReLU6", "Softshrink",
    "Threshold",
]  # fmt: skip


def _between(x: Any, low: float, high: float, inside: Any) -> ft.Array:
    """Return low and high at and beyond these bounds of x, ``inside`` between; nan stays nan."""
    return fnp.where(x <= low, low, fnp.where(x >= high, high, inside))


class Hardtanh(Module):
    """Keep x within [min_val, max_val].

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Hardtanh()(fnp.array([-2.0, 0.5, 2.0]))
        Array([-1. ,  0.5,  1. ], dtype=float32)
    """

    min_val: float = static(-1.0)
    max_val: float = static(1.0)

    def __post_init__(self) -> None:
        if self.min_val > self.max_val:
            raise ValueError(f"Hardtanh takes min_val <= max_val; it is {title(self)}")

    def __call__(self, x: Any) -> ft.Array:
        x = fnp.asarray(x)
        return _between(x, self.min_val, self.max_val, x)


class ReLU6(Module):
    """Keep x within [0, 6].

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ReLU6()(fnp.array([-1.0, 2.0, 8.0]))
        Array([0., 2., 6.], dtype=float32)
    """

    def __call__(self, x: Any) -> ft.Array:
        x = fnp.asarray(x)
        return _between(x, 0, 6, x)


class Hardsigmoid(Module):
    """Go from 0 to 1 in a straight line between -3 and 3.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Hardsigmoid()(fnp.array([-4.0, 0.0, 4.0]))
        Array([0. , 0.5, 1. ], dtype=float32)
    """

    def __call__(self, x: Any) -> ft.Array:
        x = fnp.asarray(x)
        return fnp.where(x <= -3, 0, fnp.where(x >= 3, 1, x / 6 + 0.5))


class Hardswish(Module):
    """Weigh x by its hard sigmoid: 0 up to -3, x from 3 on, x (x + 3) / 6 between.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Hardswish()(fnp.array([-4.0, 0.0, 4.0]))
        Array([0., 0., 4.], dtype=float32)
    """

    def __call__(self, x: Any) -> ft.Array:
        x = fnp.asarray(x)
        return fnp.where(x <= -3, 0, fnp.where(x >= 3, x, x * (x + 3) / 6))


class Hardshrink(Module):
    """Zero what is at most lambd in size.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Hardshrink()(fnp.array([-2.0, 0.25, 1.0]))
        Array([-2.,  0.,  1.], dtype=float32)
    """

    lambd: float = static(0.5)

    def __call__(self, x: Any) -> ft.Array:
        x = fnp.asarray(x)
        return fnp.where((x >= -self.lambd) & (x <= self.lambd), 0, x)


class Softshrink(Module):
    """Move x towards 0 by lambd, and no further.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Softshrink()(fnp.array([-2.0, 0.25, 1.0]))
        Array([-1.5,  0. ,  0.5], dtype=float32)
    """

    lambd: float = static(0.5)

    def __post_init__(self) -> None:
        if self.lambd < 0:
            raise ValueError(f"Softshrink takes lambd of 0 or more; it was given {self.lambd}")

    def __call__(self, x: Any) -> ft.Array:
        x, size = fnp.asarray(x), self.lambd
        moved = fnp.where(x > size, x - size, x + size)
        return fnp.where((x >= -size) & (x <= size), 0, moved)


class Threshold(Module):
    """Put a value in the place of what is not above a threshold.

    Args:
        threshold: what elements must be above to stay.
        value: what the others become.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Threshold(0.1, 20.0)(fnp.array([0.0, 1.0]))
        Array([20.,  1.], dtype=float32)
    """

    threshold: float = static()
    value: float = static()

    def __call__(self, x: Any) -> ft.Array:
        x = fnp.asarray(x)
        return fnp.where(x <= self.threshold, self.value, x)


class PReLU(Module):
    """Keep what is positive and shrink the rest by a learned factor.

    Args:
        num_parameters: 1, or the number of channels (axis 1), each with its own factor.
        init: where the factors start.
        dtype: floating-point dtype of the factors.

    Raises:
        ValueError: when called, the input has another number of channels.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.PReLU()(fnp.array([-4.0, 2.0]))
        Array([-1.,  2.], dtype=float32)

    References:
        K. He et al., "Delving deep into rectifiers", ICCV 2015.
    """

    weight: ft.Array
    num_parameters: int = static()

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, *, dtype: Any = fnp.float32
    ) -> None:
        self.num_parameters = num_parameters
        self.weight = fnp.full((num_parameters,), init, dtype)

    def __call__(self, x: Any) -> ft.Array:
        x, weight = fnp.asarray(x), self.weight
        if self.num_parameters > 1:
            if x.ndim < 2 or x.shape[1] != self.num_parameters:
                raise ValueError(
                    f"{title(self)} takes an array of shape (batch, {self.num_parameters}, ...); "
                    f"it was given one of shape {x.shape}"
                )
            weight = weight.reshape(-1, *(1,) * (x.ndim - 2))
        elif not x.ndim:
            weight = weight[0]
        return fnp.where(x > 0, x, weight * x)


class RReLU(Module):
    """Keep what is positive and shrink the rest by factors drawn from [lower, upper).

    In evaluation, which is without `train` and without a key, the factor is the mean of the two.

    Args:
        lower: the smallest factor.
        upper: the largest factor.

    Raises:
        ValueError: lower is above upper.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> nnx.RReLU(0.25, 0.75)(fnp.array([-4.0, 2.0]))
        Array([-2.,  2.], dtype=float32)
        >>> y = nnx.RReLU(0.25, 0.75)(fnp.full(100, -4.0), key=random.key(0))
        >>> bool(((y <= -1) & (y > -3)).all())
        True

    References:
        B. Xu et al., "Empirical evaluation of rectified activations in convolution network", 2015.
    """

    lower: float = static(1 / 8)
    upper: float = static(1 / 3)

    def __post_init__(self) -> None:
        if self.lower > self.upper:
            raise ValueError(f"RReLU takes lower <= upper; it is {title(self)}")

    def __call__(self, x: Any, *, key: Any = None) -> ft.Array:
        """Shrink by random factors in training, or where there is a key."""
        x = fnp.asarray(x)
        if key is None and self.training:
            key = self.fresh_key(x)
        if key is None:
            slope: Any = (self.lower + self.upper) / 2
        else:
            slope = random.uniform(key, x.shape, x.dtype, self.lower, self.upper)
        return fnp.where(x > 0, x, slope * x)
