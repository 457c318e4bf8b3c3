"""Adding elements around an array."""

from __future__ import annotations

from typing import Any

import numpy as np

from funtorch.core import concrete_or_error, primitives
from funtorch.numpy.promotion import asarray, broadcast_to, convert, to_array

__all__ = ["pad"]


def pad(array: Any, pad_width: Any, mode: str = "constant", **kwargs: Any) -> Any:
    """Add elements around an array.

    Args:
        array: array.
        pad_width: int, (before, after), or one such pair per axis.
        mode: 'constant', 'edge', 'reflect', 'symmetric', 'wrap', 'empty', 'maximum', 'minimum',
        'mean' or
            'linear_ramp' are NumPy's; the first six are supported.
        constant_values: for mode 'constant'.

    Example:
        >>> pad(asarray([1, 2]), 1)
        Array([0, 1, 2, 0], dtype=int32)

    References:
        numpy.pad
    """
    x = to_array(array, "pad", "array")
    widths = _pairs(pad_width, x.ndim, "pad: pad_width")
    if any(n < 0 for pair in widths for n in pair):
        raise ValueError(f"pad: pad_width {pad_width} has a negative number")
    if mode in ("constant", "empty"):
        return _pad_constant(x, widths, kwargs.pop("constant_values", 0))
    maps = {"edge": "edge", "reflect": "reflect", "symmetric": "symmetric", "wrap": "wrap"}
    if mode not in maps:
        raise NotImplementedError(
            f"pad: mode {mode!r} is not supported; use constant, {', '.join(maps)}"
        )
    if kwargs.pop("reflect_type", "even") != "even" or kwargs:
        raise NotImplementedError(
            f"pad: keywords {sorted(kwargs)} are not supported with mode {mode!r}"
        )
    for k, (lo, hi) in enumerate(widths):
        if lo or hi:
            # NumPy pads the positions, which are static; the array is then only read at them.
            indices = np.pad(np.arange(x.shape[k]), (lo, hi), mode=mode)  # type: ignore[call-overload]
            x = x[(slice(None),) * k + (indices,)]
    return x


def _pairs(value: Any, rank: int, what: str) -> list[tuple[int, int]]:
    if isinstance(value, dict):
        full = [(0, 0)] * rank
        for k, pair in value.items():
            full[k] = pair if isinstance(pair, tuple) else (pair, pair)
        return full
    table = np.asarray(concrete_or_error(value, what))
    if table.dtype.kind not in "iu":
        raise TypeError(f"{what} must be integers, got {value!r}")
    return [(int(lo), int(hi)) for lo, hi in np.broadcast_to(table, (rank, 2))]


def _pad_constant(x: Any, widths: list[tuple[int, int]], value: Any) -> Any:
    values = asarray(value)
    zero = (0,) * x.ndim
    if values.ndim == 0:
        fill = convert(values, x.dtype)
        lo, hi = (tuple(pair[side] for pair in widths) for side in (0, 1))
        return primitives["pad"].bind(x, fill, lo=lo, hi=hi, interior=zero)
    values = broadcast_to(convert(values, x.dtype), (x.ndim, 2))
    for k, pair in enumerate(widths):
        for side, n in enumerate(pair):
            where = tuple(n if j == k else 0 for j in range(x.ndim))
            lo, hi = (where, zero) if side == 0 else (zero, where)
            x = primitives["pad"].bind(x, values[k, side], lo=lo, hi=hi, interior=zero)
    return x
