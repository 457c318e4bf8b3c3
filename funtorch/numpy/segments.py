"""Reductions of the rows of each group: the names of jax.ops, which `funtorch.ops` gets here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import funtorch.ops
from funtorch import dtypes
from funtorch.core import concrete_or_error, primitives
from funtorch.numpy.manipulation import reshape
from funtorch.numpy.padding import pad
from funtorch.numpy.promotion import asarray, convert, describe, spread_to, static_int, to_array
from funtorch.numpy.reductions import max as max_
from funtorch.numpy.reductions import min as min_
from funtorch.numpy.reductions import prod
from funtorch.numpy.reductions import sum as sum_

__all__ = ["segment_max", "segment_min", "segment_prod", "segment_sum"]


def _lowest(dtype: Any) -> Any:
    if dtypes.is_inexact(dtype):
        return -np.inf
    return False if dtype == dtypes.bool_ else dtypes.iinfo(dtype).min


def _highest(dtype: Any) -> Any:
    if dtypes.is_inexact(dtype):
        return np.inf
    return True if dtype == dtypes.bool_ else dtypes.iinfo(dtype).max


_MODES = {
    None: "drop",
    "fill": "drop",
    "drop": "drop",
    "clip": "clip",
    "promise_in_bounds": "promise",
    "FILL_OR_DROP": "drop",
    "CLIP": "clip",
    "PROMISE_IN_BOUNDS": "promise",
}


def _segment(
    name: str, scatter: str, neutral: Callable[[Any], Any], reduce: Any, text: str
) -> Callable[..., Any]:
    def function(
        data: Any,
        segment_ids: Any,
        num_segments: int | None = None,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        bucket_size: int | None = None,
        mode: Any = None,
    ) -> Any:
        x, ids = to_array(data, name, "data"), to_array(segment_ids, name, "segment_ids")
        if not dtypes.is_integer(ids.dtype):
            raise TypeError(f"{name}: segment_ids must be integers, got {describe(ids)}")
        if ids.ndim == 1 and (x.ndim == 0 or x.shape[0] == 1):  # one row for all
            x = spread_to(x, ids.shape + x.shape[1:])
        if ids.ndim != 1 or x.shape[0] != ids.shape[0]:
            raise ValueError(
                f"{name}: segment_ids must be a vector with one number for each row of data, got "
                f"{describe(ids)} for data {describe(x)}"
            )
        how = getattr(mode, "name", mode)
        if how not in _MODES:
            raise ValueError(
                f"{name}: mode must be None, 'fill', 'drop', 'clip' or 'promise_in_bounds', got "
                f"{mode!r}"
            )
        if num_segments is None:
            what = f"the number of segments (give num_segments= to fix it), in {name},"
            num_segments = int(concrete_or_error(ids, what).max(initial=-1)) + 1
        n = static_int(num_segments, f"{name}: num_segments")
        if n < 0:
            raise ValueError(f"{name}: num_segments must not be negative, got {n}")
        unique = bool(unique_indices)
        if bucket_size is None:
            return _scattered(scatter, x, ids, n, neutral, _MODES[how], unique)
        # Buckets are summed up on their own first, which rounds less.
        size = static_int(bucket_size, f"{name}: bucket_size")
        if size < 1:
            raise ValueError(f"{name}: bucket_size must be positive, got {size}")
        count = -(-x.shape[0] // size)
        missing = count * size - x.shape[0]
        place = np.repeat(np.arange(count, dtype=np.int32), size)
        x = pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
        ids = pad(ids, [(0, missing)], constant_values=n)
        flat = _bucketed(ids, place, n, count)
        parts = _scattered(scatter, x, flat, count * n, neutral, "drop", unique)
        return convert(reduce(reshape(parts, (count, n, *x.shape[1:])), 0), x.dtype)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{text} of the rows of each group.

    Args:
        data: array (rows, ...); a number or a single row stands for all.
        segment_ids: integer vector: the group of each row. Rows of groups outside of
            0..num_segments-1 are left out.
        num_segments: number of groups; None takes it from segment_ids, whose values must be known.
        indices_are_sorted: a promise that is not needed.
        unique_indices: promise that no group has two rows.
        bucket_size: reduce this many rows at a time, then what that gives; sums round less.
        mode: what groups out of range do: None, 'fill', 'drop' leave them out, 'clip' moves them.

    Returns:
        An Array (num_segments, ...).

    Raises:
        TypeError: segment_ids are no integers.
        ValueError: there is not one for each row.

    Example:
        >>> {name}(asarray([1, 2, 4]), asarray([0, 1, 1])).tolist()
        {_EXAMPLES[name]}

    References:
        jax.ops.{name}
    """
    return function


def _bucketed(ids: Any, place: np.ndarray, n: int, count: int) -> Any:
    """Return the place of each row among the groups of all buckets; outside for no group."""
    ids = convert(ids, dtypes.int32)
    inside = (ids >= 0) & (ids < n)
    outside = spread_to(asarray(np.int32(count * n)), ids.shape)
    return primitives["select"].bind(inside, ids + asarray(place * np.int32(n)), outside)


def _scattered(
    scatter: str, x: Any, ids: Any, n: int, neutral: Any, mode: str, unique: bool
) -> Any:
    start = spread_to(asarray(neutral(x.dtype), x.dtype), (n, *x.shape[1:]))
    if x.dtype == dtypes.bool_:
        start, x = (convert(z, dtypes.uint8) for z in (start, x))
        name = {"scatter_add": "scatter_max", "scatter_mul": "scatter_min"}.get(scatter, scatter)
        bound = primitives[name].bind
        out = bound(start, x, convert(ids, dtypes.int32), axes=(0,), mode=mode, unique=unique)
        return convert(out, dtypes.bool_)
    if not n:
        return start
    return primitives[scatter].bind(
        start, x, convert(ids, dtypes.int32), axes=(0,), mode=mode, unique=unique
    )


_EXAMPLES = {
    "segment_sum": [1, 6],
    "segment_prod": [1, 8],
    "segment_max": [1, 4],
    "segment_min": [1, 2],
}

segment_sum = _segment("segment_sum", "scatter_add", lambda d: 0, sum_, "Return the sum")
segment_prod = _segment("segment_prod", "scatter_mul", lambda d: 1, prod, "Return the product")
segment_max = _segment("segment_max", "scatter_max", _lowest, max_, "Return the maximum")
segment_min = _segment("segment_min", "scatter_min", _highest, min_, "Return the minimum")

for _name in __all__:
    setattr(funtorch.ops, _name, globals()[_name])
