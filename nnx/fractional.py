"""Max pooling in windows whose distances vary, so that sizes shrink by any factor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import random

from .module import Module, static, title
from .places import gathered
from .sizes import Sizes, samples_of, sizes_of

__all__ = ["FractionalMaxPool2d", "FractionalMaxPool3d"]


class _FractionalMaxPool(Module):
    kernel_size: tuple[int, ...] = static()
    output_size: tuple[int, ...] | None = static()
    output_ratio: tuple[float, ...] | None = static()
    return_indices: bool = static()

    space: ClassVar[int]
    order: ClassVar[tuple[int, ...]]  # the sample of each axis, as PyTorch takes them

    def __init__(
        self, kernel_size: Sizes, output_size: Sizes | None = None,
        output_ratio: float | Sequence[float] | None = None, return_indices: bool = False,
    ) -> None:  # fmt: skip
        name, m = type(self).__name__, self.space
        if (output_size is None) == (output_ratio is None):
            raise ValueError(
                f"{name} takes either output_size or output_ratio; it was given output_size="
                f"{output_size}, output_ratio={output_ratio}"
            )
        self.kernel_size = sizes_of(name, "kernel_size", kernel_size, m)
        self.output_size = None
        self.output_ratio = None
        if output_size is not None:
            self.output_size = sizes_of(name, "output_size", output_size, m)
        elif output_ratio is not None:
            ratios = (
                (output_ratio,) * m
                if isinstance(output_ratio, (int, float))
                else tuple(output_ratio)
            )
            if len(ratios) != m or any(not 0 < r < 1 for r in ratios):
                raise ValueError(
                    f"{name} takes output_ratio as a number between 0 and 1, or {m} of them; it "
                    f"was given {output_ratio!r}"
                )
            self.output_ratio = ratios
        self.return_indices = bool(return_indices)

    def __call__(self, x: Any, *, key: Any = None, samples: Any = None) -> Any:
        """Map x of (batch, channels, *space) to fewer places.

        ``samples`` are numbers in [0, 1) of shape (batch, channels, axes of space) that shift the
        windows; ``key`` draws them, and so does training. Else all are 1/2.
        """
        x, batched = samples_of(self, x, self.space)
        samples = self._samples(x, key, samples)
        outs = self._outs(x.shape[2:])
        number: Any = fnp.zeros((*x.shape[:2], *(1,) * (2 * self.space)), fnp.int32)
        for axis, (n, k, out) in enumerate(zip(x.shape[2:], self.kernel_size, outs, strict=True)):
            first = _starts(samples[..., self.order[axis]], n, k, out)
            reads = first[..., None] + np.arange(k, dtype=np.int32)
            shape = [1] * (2 * self.space)
            shape[axis], shape[self.space + axis] = out, k
            number = number * n + reads.reshape(*x.shape[:2], *shape)
        windows = number.reshape(*x.shape[:2], *outs, math.prod(self.kernel_size))
        flat = (*x.shape[:2], math.prod(outs) * windows.shape[-1])
        plane = ft.lax.stop_gradient(x).reshape(*x.shape[:2], -1)
        values = fnp.take_along_axis(plane, windows.reshape(flat), -1).reshape(windows.shape)
        best = fnp.argmax(values, axis=-1, keepdims=True)
        places = fnp.take_along_axis(windows, best, -1)[..., 0]
        y = gathered(x, places, self.space)
        y, places = (y, places) if batched else (y[0], places[0])
        return (y, places) if self.return_indices else y

    def _samples(self, x: ft.Array, key: Any, samples: Any) -> ft.Array:
        shape = (*x.shape[:2], self.space)
        if samples is not None:
            samples = fnp.asarray(samples)
            if samples.shape != shape:
                raise ValueError(
                    f"{title(self)} takes samples of shape {shape}; it was given {samples.shape}"
                )
            return samples
        if key is None and self.training:
            key = self.fresh_key(x)
        if key is None:
            return fnp.full(shape, 0.5, fnp.float32)
        return random.uniform(key, shape)

    def _outs(self, space: Sequence[int]) -> tuple[int, ...]:
        outs = self.output_size
        if outs is None:
            ratios = self.output_ratio or ()
            outs = tuple(int(n * r) for n, r in zip(space, ratios, strict=True))
        for n, k, out in zip(space, self.kernel_size, outs, strict=True):
            if out < 1 or out + k - 1 > n:
                raise ValueError(
                    f"{title(self)}: an axis of size {n} has no {out} windows of {k} elements"
                )
        return outs


def _starts(u: ft.Array, n: int, k: int, out: int) -> ft.Array:
    """Return where windows begin: int32 of shape (batch, channels, out)."""
    if out == 1:
        return fnp.full((*u.shape, 1), n - k, fnp.int32)
    step = fnp.asarray((n - k) / (out - 1), u.dtype)
    place = fnp.arange(out - 1, dtype=u.dtype)
    u = u[..., None]
    starts = fnp.floor((place + u) * step) - fnp.floor(u * step)
    last = fnp.full((*u.shape[:-1], 1), n - k, fnp.int32)
    return fnp.concatenate([starts.astype(fnp.int32), last], -1)


class FractionalMaxPool2d(_FractionalMaxPool):
    """Take the largest elements of windows at random distances: (batch, channels, height, width).

    Args:
        kernel_size: int, or one per axis.
        output_size: int, or one per axis.
        output_ratio: the output's size by the input's, or one per axis; in place of output_size.
        return_indices: whether to return also where the largest elements are: numbers of elements
            of a channel in its order, which `MaxUnpool2d` takes.

    Raises:
        ValueError: a parameter is none of these; or, when called, the input's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.FractionalMaxPool2d(3, output_ratio=0.7)
        >>> layer(fnp.ones((1, 8, 20, 30)), key=random.key(0)).shape
        (1, 8, 14, 21)

    References:
        B. Graham, "Fractional max-pooling", 2014.
    """

    space: ClassVar[int] = 2
    order: ClassVar[tuple[int, ...]] = (1, 0)


class FractionalMaxPool3d(_FractionalMaxPool):
    """Take the largest elements of windows at random distances, in volumes.

    The parameters are those of `FractionalMaxPool2d`, with three sizes for its two.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.FractionalMaxPool3d(2, output_size=(3, 4, 5))
        >>> layer(fnp.ones((8, 6, 7, 8)), key=random.key(0)).shape
        (8, 3, 4, 5)
    """

    space: ClassVar[int] = 3
    order: ClassVar[tuple[int, ...]] = (0, 1, 2)
