"""Images at places between their pixels, under SciPy's names.

References:
    scipy.ndimage, https://docs.scipy.org/doc/scipy/reference/ndimage.html
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.numpy import promotion

__all__ = ["map_coordinates"]


def _mirror(i: Any, n: int) -> Any:
    """Return indices mirrored about the centres of the first and last element."""
    last = n - 1
    if not last:
        return fnp.zeros_like(i)
    return abs((i + last) % (2 * last) - last)


def _reflect(i: Any, n: int) -> Any:
    """Return indices mirrored about the edges of the first and last element."""
    return _mirror(2 * i + 1, 2 * n + 1) // 2


_OUTSIDE: dict[str, Callable[[Any, int], Any]] = {
    "constant": lambda i, n: i,
    "nearest": lambda i, n: fnp.clip(i, 0, n - 1),
    "wrap": lambda i, n: i % n,
    "mirror": _mirror,
    "reflect": _reflect,
}


def _nearest(x: Any) -> list[tuple[Any, Any]]:
    rounded = fnp.sign(x) * fnp.floor(abs(x) + 0.5) if not _whole(x) else x
    return [(promotion.convert(rounded, dtypes.int32), fnp.asarray(1.0, _weight_dtype(x)))]


def _linear(x: Any) -> list[tuple[Any, Any]]:
    if _whole(x):
        return [(promotion.convert(x, dtypes.int32), fnp.asarray(1.0, _weight_dtype(x)))]
    below = fnp.floor(x)
    upper = x - below
    index = promotion.convert(below, dtypes.int32)
    return [(index, 1 - upper), (index + 1, upper)]


def _whole(x: Any) -> bool:
    return not dtypes.is_inexact(x.dtype)


def _weight_dtype(x: Any) -> Any:
    return dtypes.to_inexact(x.dtype)


_ORDERS = {0: _nearest, 1: _linear}


def map_coordinates(
    input: Any, coordinates: Sequence[Any], order: int, mode: str = "constant", cval: Any = 0.0
) -> Any:
    """Read an array at coordinates that need not be integers.

    Args:
        input: array.
        coordinates: one array of coordinates per axis; they broadcast.
        order: 0 for the nearest element, 1 for linear interpolation.
        mode: what lies outside: 'constant' (``cval``), 'nearest', 'wrap', 'mirror' or 'reflect'.
        cval: number.

    Returns:
        An Array of the coordinates' shape and input's dtype.

    Raises:
        ValueError: coordinates are not as many as axes, or there is no such mode.
        NotImplementedError: order is above 1.

    Example:
        >>> map_coordinates(fnp.asarray([1.0, 3.0]), [fnp.asarray([0.5])], order=1)
        Array([2.], dtype=float32)

    References:
        scipy.ndimage.map_coordinates
    """
    name = "map_coordinates"
    x = promotion.to_array(input, name, "input")
    at = [fnp.asarray(c) for c in coordinates]
    if len(at) != x.ndim:
        raise ValueError(
            f"{name}: coordinates holds {len(at)} arrays, but input, {promotion.describe(x)}, has "
            f"{x.ndim} axes"
        )
    if mode not in _OUTSIDE:
        raise NotImplementedError(
            f"{name}: mode must be one of {', '.join(map(repr, _OUTSIDE))}, got {mode!r}"
        )
    if order not in _ORDERS:
        raise NotImplementedError(f"{name}: order must be 0 or 1, got {order!r}")
    move = _OUTSIDE[mode]
    fill = promotion.convert(fnp.asarray(cval), x.dtype)
    axes = []
    for c, n in zip(at, x.shape, strict=True):
        terms = []
        for index, weight in _ORDERS[order](c):
            valid = (index >= 0) & (index < n) if mode == "constant" else None
            terms.append((fnp.clip(move(index, n), 0, max(n - 1, 0)), valid, weight))
        axes.append(terms)
    total: list[Any] = []
    for corner in itertools.product(*axes):
        indices, valids, weights = zip(*corner, strict=True)
        value = x[indices] if corner else x
        if mode == "constant" and corner:
            value = fnp.where(functools.reduce(operator.and_, valids), value, fill)
        total.append(functools.reduce(operator.mul, weights, value))
    out = functools.reduce(operator.add, total)
    if dtypes.is_integer(x.dtype) and dtypes.is_inexact(out.dtype):
        out = fnp.round(out)
    return promotion.convert(out, x.dtype)
