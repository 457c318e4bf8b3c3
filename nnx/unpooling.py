"""Undo max pooling: put what was the largest back to where it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import funtorch as ft
import funtorch.numpy as fnp

from .module import Module, static, title
from .sizes import Sizes, samples_of, sizes_of

__all__ = ["MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d"]


class _MaxUnpool(Module):
    kernel_size: tuple[int, ...] = static()
    stride: tuple[int, ...] = static()
    padding: tuple[int, ...] = static()

    space: ClassVar[int]

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> None:
        name, m = type(self).__name__, self.space
        self.kernel_size = sizes_of(name, "kernel_size", kernel_size, m)
        given = self.kernel_size if stride is None else stride
        self.stride = sizes_of(name, "stride", given, m)
        self.padding = sizes_of(name, "padding", padding, m, 0)

    def __call__(self, x: Any, indices: Any, output_size: Sequence[int] | None = None) -> ft.Array:
        """Put x of (batch, channels, *space) where the indices say; all else is 0.

        ``output_size`` is the space of the result, or its whole shape; where it is None, it is the
        smallest that pools to the space of x.
        """
        x, batched = samples_of(self, x, self.space)
        where = fnp.asarray(indices)
        if where.shape != (x.shape if batched else x.shape[1:]):
            raise ValueError(
                f"{title(self)} takes indices of the shape of the array, "
                f"{x.shape if batched else x.shape[1:]}; they have shape {where.shape}"
            )
        space = self._space(x.shape[2:], output_size)
        lines, size = math.prod(x.shape[:2]), math.prod(x.shape[2:])
        rows = fnp.arange(lines, dtype=fnp.int32)[:, None]
        out = fnp.zeros((lines, math.prod(space)), x.dtype)
        # One element has one place, though windows that overlap may name it twice.
        y = out.at[rows, where.reshape(lines, size)].set(
            x.reshape(lines, size), mode="drop", unique_indices=True
        )
        y = y.reshape(*x.shape[:2], *space)
        return y if batched else y[0]

    def _space(self, space: Sequence[int], output_size: Sequence[int] | None) -> tuple[int, ...]:
        least = tuple(
            (n - 1) * s - 2 * p + k
            for n, s, p, k in zip(space, self.stride, self.padding, self.kernel_size, strict=True)
        )
        if output_size is None:
            return least
        wanted = tuple(output_size)[-self.space :]
        if len(wanted) != self.space or any(
            not least_n - s < n < least_n + s
            for n, least_n, s in zip(wanted, least, self.stride, strict=True)
        ):
            raise ValueError(
                f"{title(self)} takes an output_size less than a stride from {least}; it was given "
                f"{output_size}"
            )
        return wanted


class MaxUnpool1d(_MaxUnpool):
    """Undo `MaxPool1d`: (batch, channels, length); as `MaxUnpool2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> y, where = nnx.MaxPool1d(2, return_indices=True)(fnp.array([[1.0, 3.0, 2.0, 0.0]]))
        >>> nnx.MaxUnpool1d(2)(y, where)
        Array([[0., 3., 2., 0.]], dtype=float32)
    """

    space: ClassVar[int] = 1


class MaxUnpool2d(_MaxUnpool):
    """Undo `MaxPool2d`, from its result and its indices: (batch, channels, height, width).

    Args:
        kernel_size: int, or one per axis, as the pooling had it.
        stride: int, or one per axis; kernel_size where None.
        padding: int, or one per axis.

    Raises:
        ValueError: a parameter is none of these; or, when called, shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> pool, undo = nnx.MaxPool2d(2, return_indices=True), nnx.MaxUnpool2d(2)
        >>> undo(*pool(fnp.arange(16.0).reshape(1, 4, 4)))[0, 1]
        Array([0., 5., 0., 7.], dtype=float32)
    """

    space: ClassVar[int] = 2


class MaxUnpool3d(_MaxUnpool):
    """Undo `MaxPool3d`: (batch, channels, depth, height, width); as `MaxUnpool2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> pool, undo = nnx.MaxPool3d(2, return_indices=True), nnx.MaxUnpool3d(2)
        >>> undo(*pool(fnp.ones((1, 2, 2, 2)))).shape
        (1, 2, 2, 2)
    """

    space: ClassVar[int] = 3
