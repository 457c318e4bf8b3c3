"""pad: elements around an array."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import concrete_or_error, primitives
from funtorch.numpy import elementwise
from funtorch.numpy.creation import linspace
from funtorch.numpy.indexing import AtView
from funtorch.numpy.manipulation import concatenate, flip, moveaxis, reshape, slice_axis
from funtorch.numpy.promotion import asarray, broadcast_to, convert, to_array
from funtorch.numpy.quantiles import median
from funtorch.numpy.reductions import max, mean, min

__all__ = ["pad"]

Widths = list[tuple[int, int]]


def pad(
    array: Any, pad_width: Any, mode: str | Callable[..., Any] = "constant", **kwargs: Any
) -> Any:
    """Add elements around an array.

    Args:
        array: array.
        pad_width: int, (before, after), one such pair per axis, or a dict of axes to pairs.
        mode: 'constant', 'empty', 'edge', 'linear_ramp', 'maximum', 'mean', 'median', 'minimum',
            'reflect', 'symmetric', 'wrap', or a function (vector, (before, after), axis, kwargs) of
            each line with zeros put in, which returns it filled.
        **kwargs: what the mode takes: constant_values, end_values, stat_length, or reflect_type
            ('even' or 'odd').

    Returns:
        An Array.

    Raises:
        TypeError: pad_width is no integers.
        ValueError: a number is negative, an axis to mirror is empty, or a keyword is not one of
            the mode.
        NotImplementedError: there is no such mode.

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
    if callable(mode):
        return _pad_by(x, widths, mode, kwargs)
    if mode not in _MODES:
        raise NotImplementedError(f"pad: mode {mode!r} is none of {', '.join(_MODES)}")
    way, allowed = _MODES[mode]
    unknown = set(kwargs) - set(allowed)
    if unknown:
        raise ValueError(f"pad: mode {mode!r} does not take {', '.join(sorted(unknown))}")
    return way(x, widths, mode, **kwargs)


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


def _constant(x: Any, widths: Widths, mode: str, constant_values: Any = 0) -> Any:
    values = asarray(constant_values)
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


def _positions(x: Any, widths: Widths, mode: str, reflect_type: str = "even") -> Any:
    if reflect_type == "odd":
        return _odd(x, widths, mode)
    if reflect_type != "even":
        raise ValueError(f"pad: reflect_type must be 'even' or 'odd', got {reflect_type!r}")
    for k, (lo, hi) in enumerate(widths):
        if lo or hi:
            # NumPy pads the positions, which are static; the array is then only read at them.
            indices = np.pad(np.arange(x.shape[k]), (lo, hi), mode=mode)  # type: ignore[call-overload]
            x = AtView(x, (slice(None),) * k + (indices,)).get(mode="clip")
    return x


def _odd(x: Any, widths: Widths, mode: str) -> Any:
    """Mirror at the ends, also the values: about the value there.

    Such an extension comes back after two lengths of the array, raised by twice the difference of
    its ends. So all its elements are +-x[i] + a x[last] + b x[0], with numbers known by now.
    """
    for k, (lo, hi) in enumerate(widths):
        if not (lo or hi):
            continue
        n, skip = x.shape[k], int(mode == "reflect")
        if not n:
            raise ValueError(f"pad: axis {k} is empty: there is nothing to mirror")
        period = builtins.max(2 * (n - skip), 1)
        turns, place = np.divmod(np.arange(-lo, n + hi), period)
        back = place >= n
        index = np.where(back, period - 1 + skip - place, place)
        line = (1,) * k + (-1,) + (1,) * (x.ndim - k - 1)
        signs, tops, bottoms = (
            asarray(v.reshape(line), x.dtype)
            for v in (np.where(back, -1, 1), 2 * turns + 2 * back, -2 * turns)
        )
        index = np.clip(index, 0, n - 1).astype(np.int32)
        read = AtView(x, (slice(None),) * k + (index,)).get(mode="clip")
        first, last = slice_axis(x, k, 0, 1), slice_axis(x, k, n - 1, n)
        terms = [
            elementwise.multiply(a, b) for a, b in ((read, signs), (last, tops), (first, bottoms))
        ]
        x = elementwise.add(elementwise.add(*terms[:2]), terms[2])
    return x


def _ramp(x: Any, widths: Widths, mode: str, end_values: Any = 0) -> Any:
    ends = broadcast_to(convert(asarray(end_values), x.dtype), (x.ndim, 2))
    for k, (lo, hi) in enumerate(widths):
        n = x.shape[k]
        first, last = slice_axis(x, k, 0, 1), slice_axis(x, k, n - 1, n)
        parts = [x]
        for side, (count, edge) in enumerate(((lo, first), (hi, last))):
            line = reshape(edge, edge.shape[:k] + edge.shape[k + 1 :])
            ramp = linspace(ends[k, side], line, count, endpoint=False, dtype=x.dtype, axis=k)
            parts = [*parts, flip(ramp, k)] if side else [ramp, *parts]
        x = concatenate(parts, k)
    return x


_STATISTICS: dict[str, Callable[..., Any]] = {
    "maximum": max, "mean": mean, "median": median, "minimum": min,
}  # fmt: skip


def _statistic(x: Any, widths: Widths, mode: str, stat_length: Any = None) -> Any:
    lengths = None if stat_length is None else _pairs(stat_length, x.ndim, "pad: stat_length")
    for k, pair in enumerate(widths):
        n, parts = x.shape[k], [x]
        for side, count in enumerate(pair):
            length = n if lengths is None else builtins.min(lengths[k][side], n)
            if length < 1:
                raise ValueError(f"pad: stat_length must be positive, got {stat_length}")
            part = slice_axis(x, k, n - length, n) if side else slice_axis(x, k, 0, length)
            value = _STATISTICS[mode](part, k, keepdims=True)
            if not dtypes.is_inexact(x.dtype) and dtypes.is_inexact(value.dtype):
                value = elementwise.round(value)
            shape = (*x.shape[:k], count, *x.shape[k + 1 :])
            filled = broadcast_to(convert(value, x.dtype), shape)
            parts = [*parts, filled] if side else [filled, *parts]
        x = concatenate(parts, k)
    return x


def _pad_by(x: Any, widths: Widths, function: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
    """Let a function fill the lines of each axis in turn."""
    x = _constant(x, widths, "constant")
    for k, pair in enumerate(widths):
        rows = moveaxis(x, k, -1)
        lines = reshape(rows, (-1, rows.shape[-1]))
        filled = [function(lines[j], pair, k, kwargs) for j in range(lines.shape[0])]
        if filled:
            x = moveaxis(reshape(asarray(filled), rows.shape), -1, k)
    return x


_MODES: dict[str, tuple[Callable[..., Any], Sequence[str]]] = {
    "constant": (_constant, ("constant_values",)),
    "empty": (_constant, ()),
    "edge": (_positions, ()),
    "reflect": (_positions, ("reflect_type",)),
    "symmetric": (_positions, ("reflect_type",)),
    "wrap": (_positions, ()),
    "linear_ramp": (_ramp, ("end_values",)),
    **dict.fromkeys(_STATISTICS, (_statistic, ("stat_length",))),
}
