"""Pooling to a given number of places, whatever the size of the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

import funtorch as ft
import funtorch.numpy as fnp

from .module import Module, static
from .places import best_places, gathered
from .sizes import samples_of

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d", "AdaptiveMaxPool3d",
]  # fmt: skip

OutputSize = int | Sequence[int | None] | None


def _bounds(n: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where windows begin and end; they overlap where the sizes do not divide."""
    place = np.arange(out)
    return place * n // out, -(-(place + 1) * n // out)


class _AdaptivePool(Module):
    output_size: tuple[int | None, ...] = static()

    space: ClassVar[int]

    def _targets(self, output_size: OutputSize) -> None:
        m = self.space
        sizes = (
            (output_size,) * m
            if output_size is None or isinstance(output_size, int)
            else tuple(output_size)
        )
        if len(sizes) != m or any(
            n is not None and (not isinstance(n, int) or n < 1) for n in sizes
        ):
            raise ValueError(
                f"{type(self).__name__} takes output_size as a positive int or None, or {m} of "
                f"them; it was given {output_size!r}"
            )
        self.output_size = sizes

    def _samples(self, x: Any) -> tuple[ft.Array, bool, list[int]]:
        x, batched = samples_of(self, x, self.space)
        space = x.shape[2:]
        if 0 in x.shape[1:]:
            raise ValueError(
                f"{type(self).__name__} takes an array with channels and places; it was given one "
                f"of shape {x.shape if batched else x.shape[1:]}"
            )
        outs = [n if out is None else out for n, out in zip(space, self.output_size, strict=True)]
        return x, batched, outs


class _AdaptiveAvgPool(_AdaptivePool):
    def __init__(self, output_size: OutputSize) -> None:
        self._targets(output_size)

    def __call__(self, x: Any) -> ft.Array:
        """Map x of (batch, channels, *space) to (batch, channels, *output_size)."""
        x, batched, outs = self._samples(x)
        y = averaged(x, outs)
        return y if batched else y[0]


def averaged(x: ft.Array, outs: Sequence[int]) -> ft.Array:
    """Average x of (batch, channels, *space) to (batch, channels, *outs)."""
    pairs = [(out, n // out) for n, out in zip(x.shape[2:], outs, strict=True)]
    if all(n == out * part for n, (out, part) in zip(x.shape[2:], pairs, strict=True)):
        blocks = x.reshape(*x.shape[:2], *(n for pair in pairs for n in pair))
        return blocks.mean(tuple(range(3, blocks.ndim, 2)))
    for axis, out in enumerate(outs, 2):
        x = _average(x, axis, out)
    return x


def _average(x: ft.Array, axis: int, out: int) -> ft.Array:
    first, last = _bounds(x.shape[axis], out)
    places = first[:, None] + np.arange((last - first).max())
    inside = places < last[:, None]
    reads = np.minimum(places, x.shape[axis] - 1).astype(np.int32)
    taken = fnp.take(x, reads, axis=axis, mode="clip")
    rest = (1,) * (x.ndim - axis - 1)
    total = fnp.where(inside.reshape(*inside.shape, *rest), taken, 0).sum(axis + 1)
    return total / fnp.asarray((last - first).reshape(-1, *rest), x.dtype)


class _AdaptiveMaxPool(_AdaptivePool):
    return_indices: bool = static()

    def __init__(self, output_size: OutputSize, return_indices: bool = False) -> None:
        self._targets(output_size)
        self.return_indices = bool(return_indices)

    def __call__(self, x: Any) -> Any:
        """Map x of (batch, channels, *space) to (batch, channels, *output_size)."""
        x, batched, outs = self._samples(x)
        tables = []
        for n, out in zip(x.shape[2:], outs, strict=True):
            first, last = _bounds(n, out)
            taps = first[:, None] + np.arange((last - first).max())
            tables.append(np.where(taps < last[:, None], taps, first[:, None]))
        places = best_places(x, tables)
        y = gathered(x, places, self.space)
        y, places = (y, places) if batched else (y[0], places[0])
        return (y, places) if self.return_indices else y


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Average a line of any length to a given one: (batch, channels, length).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.AdaptiveAvgPool1d(2)(fnp.array([[1.0, 3.0, 2.0, 0.0]]))
        Array([[2., 1.]], dtype=float32)
    """

    space: ClassVar[int] = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Average images of any size to a given one: (batch, channels, height, width).

    Place i of n averages the elements from floor(i size / n) up to ceil((i + 1) size / n).

    Args:
        output_size: int, or one per axis; None keeps the input's.

    Raises:
        ValueError: a size is not positive; or, when called, the input's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.AdaptiveAvgPool2d((5, None))(fnp.ones((1, 64, 8, 9))).shape
        (1, 64, 5, 9)
    """

    space: ClassVar[int] = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Average volumes of any size to a given one: (batch, channels, depth, height, width).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.AdaptiveAvgPool3d(1)(fnp.ones((1, 64, 8, 9, 10))).shape
        (1, 64, 1, 1, 1)
    """

    space: ClassVar[int] = 3


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Take the largest elements of a given number of windows: (batch, channels, length).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.AdaptiveMaxPool1d(2)(fnp.array([[1.0, 3.0, 2.0, 0.0]]))
        Array([[3., 2.]], dtype=float32)
    """

    space: ClassVar[int] = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Take the largest elements of a given number of windows: (batch, channels, height, width).

    The windows are those of `AdaptiveAvgPool2d`.

    Args:
        output_size: int, or one per axis; None keeps the input's.
        return_indices: whether to return also where the largest elements are: numbers of elements
            of a channel in its order.

    Raises:
        ValueError: a size is not positive; or, when called, the input's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.AdaptiveMaxPool2d(1, return_indices=True)(fnp.arange(6.0).reshape(1, 2, 3))
        (Array([[[5.]]], dtype=float32), Array([[[5]]], dtype=int32))
    """

    space: ClassVar[int] = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Take the largest elements of a given number of windows, in volumes.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.AdaptiveMaxPool3d((5, 7, 9))(fnp.ones((1, 64, 8, 9, 10))).shape
        (1, 64, 5, 7, 9)
    """

    space: ClassVar[int] = 3
