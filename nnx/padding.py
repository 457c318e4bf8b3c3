"""Padding layers: values around the last axes of an array.

Sizes are in PyTorch's order, which begins with the last axis: (left, right, top, bottom, front,
back). Negative sizes cut elements off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

from .module import Module, static, title
from .sizes import axis_names

__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d",
    "ConstantPad3d", "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d",
    "ReplicationPad2d", "ReplicationPad3d", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d",
]  # fmt: skip

Cut = Callable[[int, int], ft.Array]


def _mirrored(cut: Cut, axis: int, n: int, lo: int, hi: int) -> tuple[ft.Array, ft.Array]:
    return fnp.flip(cut(1, lo + 1), axis), fnp.flip(cut(n - 1 - hi, n - 1), axis)


def _repeated(cut: Cut, axis: int, n: int, lo: int, hi: int) -> tuple[ft.Array, ft.Array]:
    return fnp.repeat(cut(0, 1), lo, axis), fnp.repeat(cut(n - 1, n), hi, axis)


def _wrapped(cut: Cut, axis: int, n: int, lo: int, hi: int) -> tuple[ft.Array, ft.Array]:
    return cut(n - lo, n), cut(0, hi)


# mode: what stands before and after an axis, and the most that can, given the axis's size
_SIDES: dict[str, tuple[Callable[..., tuple[ft.Array, ft.Array]], Callable[[int], float]]] = {
    "reflect": (_mirrored, lambda n: n - 1),
    "replicate": (_repeated, lambda n: float("inf") if n else 0),
    "circular": (_wrapped, lambda n: n),
}


def _cropped(x: ft.Array, pads: Sequence[tuple[int, int]]) -> ft.Array:
    for axis, (lo, hi) in enumerate(pads, x.ndim - len(pads)):
        start = max(-lo, 0)
        x = lax.slice_in_dim(x, start, max(start, x.shape[axis] + min(hi, 0)), axis=axis)
    return x


def extended(layer: Module, x: ft.Array, pads: Sequence[tuple[int, int]], mode: str) -> ft.Array:
    """Continue the last axes of an array by its own elements.

    It is put together from slices, whose derivative is cheaper than that of a gather.

    Args:
        layer: the layer that errors name.
        x: the array.
        pads: (before, after) of each of the last axes.
        mode: 'reflect', 'replicate' or 'circular'.

    Returns:
        An array with larger axes; negative sizes cut elements off.

    Raises:
        ValueError: an axis has too few elements.
    """
    if mode == "circular":  # what is cut off does not come back at the other end
        x = _cropped(x, pads)
        pads = [(max(lo, 0), max(hi, 0)) for lo, hi in pads]
    sides, most = _SIDES[mode]
    for axis, (lo, hi) in enumerate(pads, x.ndim - len(pads)):
        n = x.shape[axis]
        if max(lo, hi) > most(n) or n + min(lo, 0) + min(hi, 0) < 0:
            raise ValueError(
                f"{title(layer)}: an axis of size {n} cannot be padded by {(lo, hi)}; the array "
                f"has shape {x.shape}"
            )
        if not (lo or hi):
            continue

        def cut(start: int, stop: int, x: ft.Array = x, axis: int = axis) -> ft.Array:
            return lax.slice_in_dim(x, start, stop, axis=axis)

        before, after = sides(cut, axis, n, max(lo, 0), max(hi, 0))
        body = cut(max(-lo, 0), n - max(-hi, 0))
        x = fnp.concatenate([before, body, after], axis)
    return x


class _Pad(Module):
    padding: tuple[int, ...] = static()

    space: ClassVar[int]

    def __init__(self, padding: int | Sequence[int]) -> None:
        m = self.space
        sizes = (padding,) * (2 * m) if isinstance(padding, int) else tuple(padding)
        if len(sizes) != 2 * m or any(not isinstance(n, int) for n in sizes):
            raise ValueError(
                f"{type(self).__name__} takes padding as an int or {2 * m} ints, two for each axis "
                f"and the last axis first; it was given {padding!r}"
            )
        self.padding = sizes

    def _pairs(self) -> list[tuple[int, int]]:
        """Return (before, after) of each axis, the last axis last."""
        return [(self.padding[k], self.padding[k + 1]) for k in range(2 * self.space - 2, -1, -2)]


class _ConstantPad(_Pad):
    value: float = static(0.0)

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def __call__(self, x: Any) -> ft.Array:
        """Pad the last axes of x, which may have any axes before them."""
        x = fnp.asarray(x)
        if x.ndim < self.space:
            raise ValueError(
                f"{title(self)} takes an array of shape (..., {axis_names(self.space)}); it was "
                f"given one of shape {x.shape}"
            )
        pairs = [(0, 0)] * (x.ndim - self.space) + self._pairs()
        if any(n + min(lo, 0) + min(hi, 0) < 0 for n, (lo, hi) in zip(x.shape, pairs, strict=True)):
            raise ValueError(f"{title(self)} cuts more off than an array of shape {x.shape} has")
        return lax.pad(x, fnp.asarray(self.value, x.dtype), [(lo, hi, 0) for lo, hi in pairs])


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__(padding, 0.0)


class _ExtendingPad(_Pad):
    mode: ClassVar[str]

    def __call__(self, x: Any) -> ft.Array:
        """Pad x of shape (batch, channels, *space) or (channels, *space)."""
        x = fnp.asarray(x)
        if x.ndim not in (self.space + 1, self.space + 2):
            raise ValueError(
                f"{title(self)} takes an array of shape (batch, channels, "
                f"{axis_names(self.space)}) or (channels, {axis_names(self.space)}); it was given "
                f"one of shape {x.shape}"
            )
        return extended(self, x, self._pairs(), self.mode)


class _ReflectionPad(_ExtendingPad):
    mode: ClassVar[str] = "reflect"


class _ReplicationPad(_ExtendingPad):
    mode: ClassVar[str] = "replicate"


class _CircularPad(_ExtendingPad):
    mode: ClassVar[str] = "circular"


class ConstantPad1d(_ConstantPad):
    """Surround a line by a value.

    The input has shape (..., length); sizes are as in `ConstantPad2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ConstantPad1d(2, 7.0)(fnp.array([[1.0, 2.0, 3.0]]))
        Array([[7., 7., 1., 2., 3., 7., 7.]], dtype=float32)
    """

    space: ClassVar[int] = 1


class ConstantPad2d(_ConstantPad):
    """Surround images by a value.

    Args:
        padding: int, or four: left, right, top and bottom.
        value: the value.

    Raises:
        ValueError: padding is none of these; or, when called, the array's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ConstantPad2d((1, 1, 2, 0), 0.5)(fnp.ones((1, 4, 5))).shape
        (1, 6, 7)
    """

    space: ClassVar[int] = 2


class ConstantPad3d(_ConstantPad):
    """Surround volumes by a value.

    The input has shape (..., depth, height, width); sizes are as in `ConstantPad2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ConstantPad3d((1, 1, 2, 0, 1, 2), 0.5)(fnp.ones((1, 4, 5, 6))).shape
        (1, 7, 7, 8)
    """

    space: ClassVar[int] = 3


class ZeroPad1d(_ZeroPad):
    """Surround a line by zeros.

    The input has shape (..., length); sizes are as in `ZeroPad2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ZeroPad1d((1, 2))(fnp.array([[1.0, 2.0, 3.0]]))
        Array([[0., 1., 2., 3., 0., 0.]], dtype=float32)
    """

    space: ClassVar[int] = 1


class ZeroPad2d(_ZeroPad):
    """Surround images by zeros.

    Args:
        padding: int, or four: left, right, top and bottom.

    Raises:
        ValueError: padding is none of these; or, when called, the array's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ZeroPad2d((1, 1, 2, 0))(fnp.ones((1, 4, 5))).shape
        (1, 6, 7)
    """

    space: ClassVar[int] = 2


class ZeroPad3d(_ZeroPad):
    """Surround volumes by zeros.

    The input has shape (..., depth, height, width); sizes are as in `ZeroPad2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ZeroPad3d((1, 1, 2, 0, 1, 2))(fnp.ones((1, 4, 5, 6))).shape
        (1, 7, 7, 8)
    """

    space: ClassVar[int] = 3


class ReflectionPad1d(_ReflectionPad):
    """Surround a line by what lies on the other side of the ends, mirrored.

    The input has shape (..., channels, length); sizes are as in `ReflectionPad2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ReflectionPad1d(2)(fnp.array([[1.0, 2.0, 3.0]]))
        Array([[3., 2., 1., 2., 3., 2., 1.]], dtype=float32)
    """

    space: ClassVar[int] = 1


class ReflectionPad2d(_ReflectionPad):
    """Surround images by what lies on the other side of the ends, mirrored.

    Args:
        padding: int, or four: left, right, top and bottom.

    Raises:
        ValueError: padding is none of these; or, when called, an axis is not
            larger than its padding or the array's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ReflectionPad2d((1, 1, 2, 0))(fnp.ones((1, 4, 5))).shape
        (1, 6, 7)
    """

    space: ClassVar[int] = 2


class ReflectionPad3d(_ReflectionPad):
    """Surround volumes by what lies on the other side of the ends, mirrored.

    The input has shape (..., channels, depth, height, width); sizes are as in `ReflectionPad2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ReflectionPad3d((1, 1, 2, 0, 1, 2))(fnp.ones((1, 4, 5, 6))).shape
        (1, 7, 7, 8)
    """

    space: ClassVar[int] = 3


class ReplicationPad1d(_ReplicationPad):
    """Surround a line by the elements at the ends.

    The input has shape (..., channels, length); sizes are as in `ReplicationPad2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ReplicationPad1d(2)(fnp.array([[1.0, 2.0, 3.0]]))
        Array([[1., 1., 1., 2., 3., 3., 3.]], dtype=float32)
    """

    space: ClassVar[int] = 1


class ReplicationPad2d(_ReplicationPad):
    """Surround images by the elements at the ends.

    Args:
        padding: int, or four: left, right, top and bottom.

    Raises:
        ValueError: padding is none of these; or, when called, the array's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ReplicationPad2d((1, 1, 2, 0))(fnp.ones((1, 4, 5))).shape
        (1, 6, 7)
    """

    space: ClassVar[int] = 2


class ReplicationPad3d(_ReplicationPad):
    """Surround volumes by the elements at the ends.

    The input has shape (..., channels, depth, height, width); sizes are as in `ReplicationPad2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ReplicationPad3d((1, 1, 2, 0, 1, 2))(fnp.ones((1, 4, 5, 6))).shape
        (1, 7, 7, 8)
    """

    space: ClassVar[int] = 3


class CircularPad1d(_CircularPad):
    """Surround a line by what lies at the other end.

    The input has shape (..., channels, length); sizes are as in `CircularPad2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.CircularPad1d(2)(fnp.array([[1.0, 2.0, 3.0]]))
        Array([[2., 3., 1., 2., 3., 1., 2.]], dtype=float32)
    """

    space: ClassVar[int] = 1


class CircularPad2d(_CircularPad):
    """Surround images by what lies at the other end.

    Args:
        padding: int, or four: left, right, top and bottom.

    Raises:
        ValueError: padding is none of these; or, when called, an axis is
            smaller than its padding or the array's shape does not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.CircularPad2d((1, 1, 2, 0))(fnp.ones((1, 4, 5))).shape
        (1, 6, 7)
    """

    space: ClassVar[int] = 2


class CircularPad3d(_CircularPad):
    """Surround volumes by what lies at the other end.

    The input has shape (..., channels, depth, height, width); sizes are as in `CircularPad2d`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.CircularPad3d((1, 1, 2, 0, 1, 2))(fnp.ones((1, 4, 5, 6))).shape
        (1, 7, 7, 8)
    """

    space: ClassVar[int] = 3
