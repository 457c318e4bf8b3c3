"""Pooling layers: PyTorch's windows and numbers.

Inputs are (batch, channels, *space), or (channels, *space) for one sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

from .module import Module, static, title
from .places import best_places, gathered
from .sizes import Sizes, samples_of, sizes_of

__all__ = [
    "AvgPool1d", "AvgPool2d", "AvgPool3d", "LPPool1d", "LPPool2d", "LPPool3d", "MaxPool1d",
    "MaxPool2d", "MaxPool3d", "MinPool1d", "MinPool2d", "MinPool3d",
]  # fmt: skip


class _Pool(Module):
    """What pooling layers of all kinds and ranks share: the windows."""

    kernel_size: tuple[int, ...] = static()
    stride: tuple[int, ...] = static()
    padding: tuple[int, ...] = static()
    dilation: tuple[int, ...] = static()
    ceil_mode: bool = static()

    space: ClassVar[int]

    def _windows(
        self, kernel_size: Sizes, stride: Sizes | None, padding: Sizes, dilation: Sizes, ceil: bool
    ) -> None:
        name, m = type(self).__name__, self.space
        self.kernel_size = sizes_of(name, "kernel_size", kernel_size, m)
        given = self.kernel_size if stride is None else stride
        self.stride = sizes_of(name, "stride", given, m)
        self.padding = sizes_of(name, "padding", padding, m, 0)
        self.dilation = sizes_of(name, "dilation", dilation, m)
        self.ceil_mode = bool(ceil)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(
                f"{name} takes padding of at most half the kernel_size; it was given "
                f"padding={self.padding}, kernel_size={self.kernel_size}"
            )

    def _pads(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Return the padding, which grows at the high end where a part of a window counts."""
        pads = []
        for n, k, s, p, d in zip(
            sizes, self.kernel_size, self.stride, self.padding, self.dilation, strict=True
        ):
            room = n + 2 * p - d * (k - 1) - 1
            count = (-(-room // s) if self.ceil_mode else room // s) + 1
            if self.ceil_mode and (count - 1) * s >= n + p:
                count -= 1  # a window that begins in the padding at the high end
            if count < 1 or (room < 0 and not self.ceil_mode):
                raise ValueError(
                    f"{title(self)}: no window fits into an axis of size {n} with padding {p}"
                )
            pads.append((p, p + max(0, (count - 1) * s - room)))
        return pads

    def _reduce(self, x: Any, start: Any, f: Any, pads: Sequence[tuple[int, int]]) -> Any:
        return lax.reduce_window(
            x,
            start,
            f,
            (1, 1, *self.kernel_size),
            (1, 1, *self.stride),
            [(0, 0), (0, 0), *pads],
            window_dilation=(1, 1, *self.dilation),
        )


class _MaxPool(_Pool):
    return_indices: bool = static()

    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
        dilation: Sizes = 1, return_indices: bool = False, ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        self._windows(kernel_size, stride, padding, dilation, ceil_mode)
        self.return_indices = bool(return_indices)

    def __call__(self, x: Any) -> Any:
        """Map x of (batch, channels, *space) to fewer places."""
        x, batched = samples_of(self, x, self.space)
        pads = self._pads(x.shape[2:])
        if self.return_indices:
            y, places = self._with_indices(x, pads)
            return (y, places) if batched else (y[0], places[0])
        y = self._reduce(x, _extremes(x.dtype)[0], lax.max, pads)
        return y if batched else y[0]

    def _with_indices(
        self, x: ft.Array, pads: Sequence[tuple[int, int]]
    ) -> tuple[ft.Array, ft.Array]:
        tables = []
        for n, (lo, hi), k, s, d in zip(
            x.shape[2:], pads, self.kernel_size, self.stride, self.dilation,
            strict=True,
        ):  # fmt: skip
            first = np.arange(0, n + lo + hi - d * (k - 1), s)[:, None] - lo
            tables.append(first + d * np.arange(k))
        places = best_places(x, tables)
        return gathered(x, places, self.space), places


class _MinPool(_Pool):
    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
        dilation: Sizes = 1, ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        self._windows(kernel_size, stride, padding, dilation, ceil_mode)

    def __call__(self, x: Any) -> ft.Array:
        """Map x of (batch, channels, *space) to fewer places."""
        x, batched = samples_of(self, x, self.space)
        y = self._reduce(x, _extremes(x.dtype)[1], lax.min, self._pads(x.shape[2:]))
        return y if batched else y[0]


def _extremes(dtype: Any) -> tuple[Any, Any]:
    if fnp.issubdtype(dtype, fnp.floating):
        return -fnp.inf, fnp.inf
    return fnp.iinfo(dtype).min, fnp.iinfo(dtype).max


class _AvgPool(_Pool):
    count_include_pad: bool = static()
    divisor_override: int | None = static()

    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
        ceil_mode: bool = False, count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:  # fmt: skip
        self._windows(kernel_size, stride, padding, 1, ceil_mode)
        if divisor_override == 0:
            raise ValueError(f"{type(self).__name__} takes a divisor_override other than 0")
        self.count_include_pad = bool(count_include_pad)
        self.divisor_override = divisor_override

    def __call__(self, x: Any) -> ft.Array:
        """Map x of (batch, channels, *space) to fewer places."""
        x, batched = samples_of(self, x, self.space)
        pads = self._pads(x.shape[2:])
        apart = self.stride == self.kernel_size
        total = self._blocks(x, pads) if apart else self._reduce(x, 0, lax.add, pads)
        y = total / self._divisor(x.shape[2:], pads, total.dtype)
        return y if batched else y[0]

    def _blocks(self, x: ft.Array, pads: Sequence[tuple[int, int]]) -> ft.Array:
        """Add up windows that do not overlap: axes of a reshaped array."""
        fit = [(0, 0, 0), (0, 0, 0)]  # what is cut off at the end belongs to no window
        shape = list(x.shape[:2])
        for n, (lo, hi), k in zip(x.shape[2:], pads, self.kernel_size, strict=True):
            count = (n + lo + hi) // k
            fit.append((lo, count * k - n - lo, 0))
            shape += [count, k]
        blocks = lax.pad(x, fnp.zeros((), x.dtype), fit).reshape(shape)
        return blocks.sum(tuple(range(3, blocks.ndim, 2)), dtype=x.dtype)

    def _divisor(self, sizes: Sequence[int], pads: Sequence[tuple[int, int]], dtype: Any) -> Any:
        """Return how many elements the windows have: one number, or one per place."""
        if self.divisor_override is not None:
            return self.divisor_override
        counts = np.ones(())
        for n, (lo, hi), k, s, p in zip(
            sizes, pads, self.kernel_size, self.stride, self.padding, strict=True
        ):
            first = np.arange(0, n + lo + hi - k + 1, s)
            low, high = (0, n + 2 * p) if self.count_include_pad else (lo, lo + n)
            inside = np.clip(first + k, low, high) - np.clip(first, low, high)
            counts = counts[..., None] * inside
        whole = math.prod(self.kernel_size)
        return whole if (counts == whole).all() else fnp.asarray(counts, dtype)


class MaxPool1d(_MaxPool):
    """Take the largest element of each window: (batch, channels, length); as `MaxPool2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.MaxPool1d(2)(fnp.array([[1.0, 3.0, 2.0, 0.0]]))
        Array([[3., 2.]], dtype=float32)
    """

    space: ClassVar[int] = 1


class MaxPool2d(_MaxPool):
    """Take the largest element of each window: (batch, channels, height, width).

    Its derivative goes to the first element that is the largest.

    Args:
        kernel_size: int, or one per axis.
        stride: int, or one per axis; kernel_size where None.
        padding: int, or one per axis, on both sides; at most half of kernel_size.
        dilation: distance between the elements of a window: int, or one per axis.
        return_indices: whether to return also where the largest elements are: numbers of elements
            of a channel in its order, which `MaxUnpool2d` takes.
        ceil_mode: whether a window that only partly fits counts at the high end.

    Raises:
        ValueError: a parameter is none of these; or, when called, the input's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.MaxPool2d(2)(fnp.ones((1, 8, 28, 28))).shape
        (1, 8, 14, 14)
        >>> nnx.MaxPool2d(2, return_indices=True)(fnp.arange(4.0).reshape(1, 2, 2))
        (Array([[[3.]]], dtype=float32), Array([[[3]]], dtype=int32))
    """

    space: ClassVar[int] = 2


class MaxPool3d(_MaxPool):
    """Take the largest element of each window: (batch, channels, depth, height, width).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.MaxPool3d((1, 2, 2))(fnp.ones((1, 2, 4, 4, 4))).shape
        (1, 2, 4, 2, 2)
    """

    space: ClassVar[int] = 3


class MinPool1d(_MinPool):
    """Take the smallest element of each window; as `MaxPool1d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.MinPool1d(2)(fnp.array([[1.0, 3.0, 2.0, 0.0]]))
        Array([[1., 0.]], dtype=float32)
    """

    space: ClassVar[int] = 1


class MinPool2d(_MinPool):
    """Take the smallest element of each window; as `MaxPool2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.MinPool2d(2)(fnp.ones((1, 8, 28, 28))).shape
        (1, 8, 14, 14)
    """

    space: ClassVar[int] = 2


class MinPool3d(_MinPool):
    """Take the smallest element of each window; as `MaxPool3d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.MinPool3d(2)(fnp.ones((1, 2, 4, 4, 4))).shape
        (1, 2, 2, 2, 2)
    """

    space: ClassVar[int] = 3


class AvgPool1d(_AvgPool):
    """Average each window: (batch, channels, length); as `AvgPool2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.AvgPool1d(2)(fnp.array([[1.0, 3.0, 2.0, 0.0]]))
        Array([[2., 1.]], dtype=float32)
    """

    space: ClassVar[int] = 1


class AvgPool2d(_AvgPool):
    """Average each window: (batch, channels, height, width).

    Args:
        kernel_size: int, or one per axis.
        stride: int, or one per axis; kernel_size where None.
        padding: int, or one per axis, on both sides; at most half of kernel_size.
        ceil_mode: whether a window that only partly fits counts at the high end.
        count_include_pad: whether padding counts among the elements that are averaged.
        divisor_override: what to divide sums by, in place of the number of elements.

    Raises:
        ValueError: a parameter is none of these; or, when called, the input's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.AvgPool2d(2)(fnp.ones((1, 8, 28, 28))).shape
        (1, 8, 14, 14)
    """

    space: ClassVar[int] = 2


class AvgPool3d(_AvgPool):
    """Average each window: (batch, channels, depth, height, width).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.AvgPool3d(2)(fnp.ones((1, 2, 4, 4, 4))).shape
        (1, 2, 2, 2, 2)
    """

    space: ClassVar[int] = 3


class _LPPool(_AvgPool):
    norm_type: float = static()

    def __init__(
        self, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None,
        ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, ceil_mode=ceil_mode)
        if norm_type == 0:
            raise ValueError(f"{type(self).__name__} takes a norm_type other than 0")
        self.norm_type = float(norm_type)

    def __call__(self, x: Any) -> ft.Array:
        """Map x of (batch, channels, *space) to fewer places."""
        mean = super().__call__(fnp.asarray(x) ** self.norm_type)
        # The inner choice keeps the root's derivative finite where a window is all 0.
        nothing = mean == 0
        total = fnp.where(nothing, 1, mean) * math.prod(self.kernel_size)
        return fnp.where(nothing, 0, total ** (1 / self.norm_type))


class LPPool1d(_LPPool):
    """Take the p-norm of each window: (batch, channels, length); as `LPPool2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.LPPool1d(2, 2)(fnp.array([[3.0, 4.0, 0.0, 0.0]]))
        Array([[5., 0.]], dtype=float32)
    """

    space: ClassVar[int] = 1


class LPPool2d(_LPPool):
    """Take the p-norm of each window, sum(x ** p) ** (1 / p): (batch, channels, height, width).

    Args:
        norm_type: p.
        kernel_size: int, or one per axis.
        stride: int, or one per axis; kernel_size where None.
        ceil_mode: whether a window that only partly fits counts at the high end, as if its mean
            were that of a whole one.

    Raises:
        ValueError: a parameter is none of these; or, when called, the input's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.LPPool2d(1, 2)(fnp.ones((1, 8, 28, 28))).shape
        (1, 8, 14, 14)
    """

    space: ClassVar[int] = 2


class LPPool3d(_LPPool):
    """Take the p-norm of each window: (batch, channels, depth, height, width); as `LPPool2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.LPPool3d(2, 2)(fnp.ones((1, 2, 4, 4, 4))).shape
        (1, 2, 2, 2, 2)
    """

    space: ClassVar[int] = 3
