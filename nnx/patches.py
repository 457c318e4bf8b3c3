"""Windows of images as columns, and the sum of such columns as an image."""

from __future__ import annotations

import math
from typing import Any

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

from .module import Module, static, title
from .sizes import Sizes, samples_of, sizes_of

__all__ = ["Fold", "Unfold"]


class _Patches(Module):
    kernel_size: tuple[int, ...] = static()
    dilation: tuple[int, ...] = static()
    padding: tuple[int, ...] = static()
    stride: tuple[int, ...] = static()

    def _windows(self, kernel_size: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes) -> None:
        name = type(self).__name__
        self.kernel_size = sizes_of(name, "kernel_size", kernel_size, 2)
        self.dilation = sizes_of(name, "dilation", dilation, 2)
        self.padding = sizes_of(name, "padding", padding, 2, 0)
        self.stride = sizes_of(name, "stride", stride, 2)

    def _counts(self, space: tuple[int, ...]) -> tuple[int, ...]:
        """Return how many windows there are along each axis."""
        counts = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, d, p, s in zip(
                space, self.kernel_size, self.dilation, self.padding, self.stride, strict=True
            )
        )
        if min(counts) < 1:
            raise ValueError(f"{title(self)}: no window fits into an image of size {space}")
        return counts

    def _columns(self, x: ft.Array) -> ft.Array:
        """Return the windows of x of (batch, channels, h, w): (batch, channels * taps, places)."""
        y = lax.conv_general_dilated_patches(
            x,
            self.kernel_size,
            self.stride,
            [(p, p) for p in self.padding],
            rhs_dilation=self.dilation,
        )
        return y.reshape(*y.shape[:2], math.prod(y.shape[2:]))


class Unfold(_Patches):
    """Make a column of each window of an image: (batch, channels, height, width).

    Args:
        kernel_size: int, or one per axis.
        dilation: distance between the elements of a window: int, or one per axis.
        padding: zeros on both sides: int, or one per axis.
        stride: int, or one per axis.

    Raises:
        ValueError: a parameter is none of these; or, when called, the input's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Unfold((2, 3))(fnp.ones((2, 5, 3, 4))).shape
        (2, 30, 4)
    """

    def __init__(
        self, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1
    ) -> None:
        self._windows(kernel_size, dilation, padding, stride)

    def __call__(self, x: Any) -> ft.Array:
        """Map x of (batch, channels, height, width) to (batch, channels * taps, windows)."""
        x, batched = samples_of(self, x, 2)
        self._counts(x.shape[2:])
        y = self._columns(x)
        return y if batched else y[0]


class Fold(_Patches):
    """Add up the columns that `Unfold` makes, each at its window's place.

    Args:
        output_size: height and width of the images.
        kernel_size: int, or one per axis.
        dilation: distance between the elements of a window: int, or one per axis.
        padding: what was added on both sides and is cut off now: int, or one per axis.
        stride: int, or one per axis.

    Raises:
        ValueError: a parameter is none of these; or, when called, the input's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Fold((4, 5), (2, 2))(fnp.ones((1, 3 * 2 * 2, 12)))[0, 0]
        Array([[1., 2., 2., 2., 1.],
               [2., 4., 4., 4., 2.],
               [2., 4., 4., 4., 2.],
               [1., 2., 2., 2., 1.]], dtype=float32)
    """

    output_size: tuple[int, ...] = static()

    def __init__(
        self, output_size: Sizes, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0,
        stride: Sizes = 1,
    ) -> None:  # fmt: skip
        self.output_size = sizes_of("Fold", "output_size", output_size, 2)
        self._windows(kernel_size, dilation, padding, stride)

    def __call__(self, x: Any) -> ft.Array:
        """Map x of (batch, channels * taps, windows) to (batch, channels, height, width)."""
        x = fnp.asarray(x)
        taps, places = math.prod(self.kernel_size), math.prod(self._counts(self.output_size))
        if x.ndim not in (2, 3) or x.shape[-1] != places or x.shape[-2] % taps:
            raise ValueError(
                f"{title(self)} takes an array of shape (batch, a multiple of {taps}, {places}) or "
                f"(a multiple of {taps}, {places}); it was given one of shape {x.shape}"
            )
        columns = x if x.ndim == 3 else x[None]
        images = (columns.shape[0], columns.shape[1] // taps, *self.output_size)
        (y,) = ft.linear_transpose(self._columns, ft.ShapeDtypeStruct(images, x.dtype))(columns)
        return y if x.ndim == 3 else y[0]
