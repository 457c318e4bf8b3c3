"""gather and the scatters in XLA's most general form: windows at computed starts.

The last axis of the start indices holds the start of a window; ``B`` is the shape of the others. An
axis of the operand that is not in the index map starts at 0. All is brought to the gather and
scatter primitives, whose indices are arrays of shape B + the windows' axes that are indexed.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funtorch import dtypes
from funtorch.core import primitives
from funtorch.numpy import elementwise, manipulation
from funtorch.numpy.creation import ones
from funtorch.numpy.indexing import fill_value_of
from funtorch.numpy.promotion import asarray, convert, describe, spread_to, static_int, to_array
from funtorch.transforms import while_loop

__all__ = [
    "GatherDimensionNumbers",
    "GatherScatterMode",
    "ScatterDimensionNumbers",
    "gather",
    "scatter",
    "scatter_add",
    "scatter_apply",
    "scatter_max",
    "scatter_min",
    "scatter_mul",
    "scatter_sub",
]


class GatherScatterMode(enum.Enum):
    """What a window out of bounds does: it is moved inside, or read as a fill value, not written.

    `PROMISE_IN_BOUNDS` says that there is none.
    """

    CLIP = 1
    FILL_OR_DROP = 2
    PROMISE_IN_BOUNDS = 3
    ONE_HOT = 4

    @staticmethod
    def from_any(s: str | GatherScatterMode | None) -> GatherScatterMode:
        """Return the mode that a name stands for; None is `FILL_OR_DROP`.

        Raises:
            ValueError: there is no such mode.
        """
        if isinstance(s, GatherScatterMode):
            return s
        if s not in _MODES:
            names = ", ".join(repr(name) for name in _MODES if name)
            raise ValueError(f"mode must be a GatherScatterMode or one of {names}, got {s!r}")
        return _MODES[s]


_MODES: dict[Any, GatherScatterMode] = {
    None: GatherScatterMode.FILL_OR_DROP,
    "clip": GatherScatterMode.CLIP,
    "fill": GatherScatterMode.FILL_OR_DROP,
    "drop": GatherScatterMode.FILL_OR_DROP,
    "promise_in_bounds": GatherScatterMode.PROMISE_IN_BOUNDS,
}


class GatherDimensionNumbers(NamedTuple):
    """Which axes are which in `gather`, by XLA's names.

    Attributes:
        offset_dims: axes of the result that run over a window.
        collapsed_slice_dims: axes of the operand whose windows have size 1 and are dropped.
        start_index_map: axes of the operand whose starts the last axis of start_indices holds.
        operand_batching_dims, start_indices_batching_dims: axes that run together.

    References:
        OpenXLA, "Operation semantics", Gather.
    """

    offset_dims: tuple[int, ...]
    collapsed_slice_dims: tuple[int, ...]
    start_index_map: tuple[int, ...]
    operand_batching_dims: tuple[int, ...] = ()
    start_indices_batching_dims: tuple[int, ...] = ()


class ScatterDimensionNumbers(NamedTuple):
    """Which axes are which in `scatter`, by XLA's names.

    Attributes:
        update_window_dims: axes of the updates that run over a window.
        inserted_window_dims: axes of the operand whose windows have size 1 and that updates lack.
        scatter_dims_to_operand_dims: axes of the operand whose starts the last axis of
            scatter_indices holds.
        operand_batching_dims, scatter_indices_batching_dims: axes that run together.

    References:
        OpenXLA, "Operation semantics", Scatter.
    """

    update_window_dims: Sequence[int]
    inserted_window_dims: Sequence[int]
    scatter_dims_to_operand_dims: Sequence[int]
    operand_batching_dims: Sequence[int] = ()
    scatter_indices_batching_dims: Sequence[int] = ()


# ------------------------------------------------------------------------------------------ windows
class _Windows(NamedTuple):
    """Windows of an operand, as the primitives' indices.

    ``indices`` have the shape B + the sizes of ``axes``; ``whole`` are the other axes, which the
    windows cover in full; ``inside`` tells for each element of B whether its window is in bounds.
    """

    axes: tuple[int, ...]
    whole: tuple[int, ...]
    indices: list[Any]
    inside: Any


def _windows(
    name: str,
    x: Any,
    starts: Any,
    index_map: Sequence[int],
    batching: Sequence[tuple[int, int]],
    sizes: Sequence[int],
) -> _Windows:
    """Return the windows of given sizes; ``batching`` pairs axes of the operand and of B."""
    if not dtypes.is_integer(starts.dtype):
        raise TypeError(f"lax.{name}: indices must be integers, got {describe(starts)}")
    if not starts.ndim or starts.shape[-1] != len(index_map):
        raise TypeError(
            f"lax.{name}: the last axis of the indices, {describe(starts)}, must hold "
            f"{len(index_map)} starts, one for each of the axes {tuple(index_map)}"
        )
    lead = starts.shape[:-1]
    batched = dict(batching)
    axes = tuple(
        d for d in range(x.ndim) if d in batched or d in index_map or sizes[d] != x.shape[d]
    )
    inside, indices = asarray(True), []
    for place, d in enumerate(axes):
        window = [1] * len(axes)
        window[place] = sizes[d]
        steps = asarray(
            np.arange(sizes[d], dtype=np.int32).reshape((1,) * len(lead) + tuple(window))
        )
        if d in batched:
            shape = [1] * (len(lead) + len(axes))
            shape[batched[d]] = lead[batched[d]]
            start = asarray(np.arange(lead[batched[d]], dtype=np.int32).reshape(shape))
        elif d in index_map:
            given = starts[..., list(index_map).index(d)]
            last = x.shape[d] - sizes[d]
            fits = elementwise.logical_and(
                elementwise.greater_equal(given, 0), elementwise.less_equal(given, last)
            )
            inside = elementwise.logical_and(inside, fits)
            start = convert(elementwise.clip(given, 0, last), dtypes.int32)
            start = manipulation.reshape(start, lead + (1,) * len(axes))
        else:
            start = asarray(np.int32(0))
        indices.append(elementwise.add(start, steps))
    shape = lead + tuple(sizes[d] for d in axes)
    whole = tuple(d for d in range(x.ndim) if d not in axes)
    indices = [spread_to(i, shape) for i in indices] or [asarray(np.zeros(shape, np.int32))]
    return _Windows(axes, whole, indices, spread_to(inside, lead))


def _arrangement(rank: int, window_dims: Sequence[int], order: Sequence[int], n: int) -> list[int]:
    """Return, for each axis of a gathered array, where it comes from in B + windows by ``order``.

    Args:
        rank: rank of the array.
        window_dims: its axes that run over windows, which are those of ``order`` sorted.
        order: the operand's axes in the order they come in after the ``n`` axes of B.
    """
    sources = {d: n + k for k, d in enumerate(order)}
    windows = iter(sorted(order))
    batch = iter(range(n))
    return [sources[next(windows)] if k in window_dims else next(batch) for k in range(rank)]


# ------------------------------------------------------------------------------------------- gather
def gather(
    operand: Any,
    start_indices: Any,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Sequence[int],
    *,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    mode: str | GatherScatterMode | None = None,
    fill_value: Any = None,
) -> Any:
    """Read windows of given sizes at computed starts.

    Args:
        operand: array.
        start_indices: integer array; its last axis holds the starts of a window.
        dimension_numbers: a `GatherDimensionNumbers`.
        slice_sizes: sizes of the windows, one per axis of the operand.
        unique_indices, indices_are_sorted: promises that are not needed.
        mode: what a window out of bounds does: it is moved inside ('clip', and None), or reads
            ``fill_value`` ('fill').
        fill_value: by default nan, or an extreme value of integers.

    Returns:
        An Array: B with the windows' axes put in at ``offset_dims``.

    Raises:
        TypeError: sizes or axes do not fit each other.

    Example:
        >>> numbers = GatherDimensionNumbers((1,), (0,), (0,))
        >>> rows = gather(asarray([[1, 2], [3, 4]]), asarray([[1], [0]]), numbers, (1, 2))
        >>> rows.tolist()
        [[3, 4], [1, 2]]

    References:
        jax.lax.gather
    """
    x = to_array(operand, "gather", "operand")
    starts = to_array(start_indices, "gather", "start_indices")
    _check_numbers("gather", dimension_numbers, GatherDimensionNumbers)
    numbers = dimension_numbers
    sizes = tuple(static_int(n, "gather: a size in slice_sizes") for n in slice_sizes)
    dropped = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    _check_sizes("gather", x, sizes, dropped)
    batching = list(
        zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    )
    windows = _windows("gather", x, starts, numbers.start_index_map, batching, sizes)
    lead = starts.shape[:-1]
    kind = GatherScatterMode.CLIP if mode is None else GatherScatterMode.from_any(mode)
    out = x if windows.axes else x[None]
    out = primitives["gather"].bind(
        out, *windows.indices, axes=windows.axes or (0,), mode="promise", fill=None
    )
    # Now B, the windows' axes that are indexed, and the whole ones: drop those of size 1.
    order = [d for d in (*windows.axes, *windows.whole) if d not in dropped]
    out = manipulation.reshape(out, lead + tuple(sizes[d] for d in order))
    if len(numbers.offset_dims) != len(order):
        raise TypeError(
            f"lax.gather: offset_dims {tuple(numbers.offset_dims)} must name {len(order)} axes, as "
            f"many as windows of {describe(x)} have besides {dropped}"
        )
    if kind is GatherScatterMode.FILL_OR_DROP:
        fill = asarray(fill_value_of(x.dtype, fill_value), x.dtype)
        inside = manipulation.reshape(windows.inside, lead + (1,) * len(order))
        out = elementwise.where(inside, out, fill)
    perm = _arrangement(out.ndim, numbers.offset_dims, order, len(lead))
    return manipulation.transpose(out, perm)


def _check_numbers(name: str, numbers: Any, kind: type) -> None:
    if not hasattr(numbers, "_fields") or set(kind._fields) - set(numbers._fields):  # type: ignore[attr-defined]
        raise TypeError(
            f"lax.{name}: dimension_numbers must be a {kind.__name__}, got "
            f"{type(numbers).__name__}: {numbers!r:.80}"
        )


def _check_sizes(name: str, x: Any, sizes: tuple[int, ...], dropped: Sequence[int]) -> None:
    if len(sizes) != x.ndim or any(not 0 <= n <= m for n, m in zip(sizes, x.shape, strict=True)):
        raise TypeError(
            f"lax.{name}: windows of sizes {sizes} do not fit into {describe(x)}: one size per "
            "axis is needed, at most that of the axis"
        )
    for d in dropped:
        if sizes[d] > 1:
            raise TypeError(
                f"lax.{name}: axis {d} of the windows is dropped, so its size must be 1, got "
                f"{sizes[d]}"
            )


# ------------------------------------------------------------------------------------------ scatter
def _scatter(
    name: str,
    operand: Any,
    scatter_indices: Any,
    updates: Any,
    dimension_numbers: ScatterDimensionNumbers,
    unique_indices: bool,
    mode: str | GatherScatterMode | None,
) -> Any:
    x = to_array(operand, name, "operand")
    starts = to_array(scatter_indices, name, "scatter_indices")
    v = to_array(updates, name, "updates")
    _check_numbers(name, dimension_numbers, ScatterDimensionNumbers)
    if v.dtype != x.dtype:
        raise TypeError(
            f"lax.{name}: operand {describe(x)} and updates {describe(v)} differ in dtype"
        )
    numbers = dimension_numbers
    dropped = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    kept = [d for d in range(x.ndim) if d not in dropped]
    window_dims = sorted(numbers.update_window_dims)
    lead = starts.shape[:-1]
    if len(window_dims) != len(kept) or v.ndim != len(lead) + len(kept):
        raise TypeError(
            f"lax.{name}: updates {describe(v)} must have the {len(lead)} leading axes of the "
            f"indices {describe(starts)} and, at update_window_dims {tuple(window_dims)}, the "
            f"{len(kept)} axes of a window of {describe(x)} besides {dropped}"
        )
    sizes = [1] * x.ndim
    for d, k in zip(kept, window_dims, strict=True):
        sizes[d] = v.shape[k]
    _check_sizes(name, x, tuple(sizes), dropped)
    batching = list(
        zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True)
    )
    windows = _windows(
        name, x, starts, numbers.scatter_dims_to_operand_dims, batching, tuple(sizes)
    )
    order = [d for d in (*windows.axes, *windows.whole) if d not in dropped]
    perm = _arrangement(v.ndim, window_dims, order, len(lead))
    v = manipulation.transpose(v, [perm.index(k) for k in range(v.ndim)])
    axes, indices = windows.axes, windows.indices
    v = manipulation.reshape(v, indices[0].shape + tuple(x.shape[d] for d in windows.whole))
    kind = GatherScatterMode.from_any(mode)
    how = "promise"
    if kind is GatherScatterMode.FILL_OR_DROP and axes:
        inside = manipulation.reshape(windows.inside, lead + (1,) * len(axes))
        outside = asarray(np.int32(x.shape[axes[0]]))
        first = elementwise.where(inside, indices[0], outside)
        indices, how = [convert(first, dtypes.int32), *indices[1:]], "drop"
    if not axes:
        out = primitives[name].bind(x[None], v, *indices, axes=(0,), mode=how, unique=False)
        return out[0]
    return primitives[name].bind(x, v, *indices, axes=axes, mode=how, unique=bool(unique_indices))


def _family(name: str, text: str) -> Callable[..., Any]:
    def function(
        operand: Any,
        scatter_indices: Any,
        updates: Any,
        dimension_numbers: ScatterDimensionNumbers,
        *,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        mode: str | GatherScatterMode | None = None,
    ) -> Any:
        return _scatter(
            name, operand, scatter_indices, updates, dimension_numbers, unique_indices, mode
        )

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""{text} windows at computed starts.

    Args:
        operand: array.
        scatter_indices: integer array; its last axis holds the starts of a window.
        updates: array of the operand's dtype: B with the windows' axes put in.
        dimension_numbers: a `ScatterDimensionNumbers`.
        indices_are_sorted: a promise that is not needed.
        unique_indices: promise that no element is updated twice.
        mode: what a window out of bounds does: nothing (None, 'fill' or 'drop'), or it is moved
            inside ('clip').

    Returns:
        An Array like the operand.

    Raises:
        TypeError: sizes, axes or dtypes do not fit each other.

    References:
        jax.lax.{name}
    """
    return function


scatter = _family("scatter", "Replace")
scatter_add = _family("scatter_add", "Add to")
scatter_mul = _family("scatter_mul", "Multiply")
scatter_min = _family("scatter_min", "Take the minimum with")
scatter_max = _family("scatter_max", "Take the maximum with")


def scatter_sub(
    operand: Any,
    scatter_indices: Any,
    updates: Any,
    dimension_numbers: ScatterDimensionNumbers,
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
) -> Any:
    """Subtract from windows at computed starts; arguments as for `scatter_add`.

    References:
        jax.lax.scatter_sub
    """
    negated = elementwise.negative(to_array(updates, "scatter_sub", "updates"))
    return scatter_add(
        operand,
        scatter_indices,
        negated,
        dimension_numbers,
        unique_indices=unique_indices,
        mode=mode,
    )


def scatter_apply(
    operand: Any,
    scatter_indices: Any,
    func: Callable[[Any], Any],
    dimension_numbers: ScatterDimensionNumbers,
    *,
    update_shape: Sequence[int] = (),
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | GatherScatterMode | None = None,
) -> Any:
    """Apply a function to the elements of windows, as often as windows meet them.

    Args:
        operand: array.
        scatter_indices, dimension_numbers, unique_indices, indices_are_sorted, mode: as for
            `scatter`.
        func: elementwise function of an array.
        update_shape: shape that updates would have.

    Example:
        >>> numbers = ScatterDimensionNumbers((), (0,), (0,))
        >>> places = asarray([[0], [0]])
        >>> scatter_apply(asarray([1, 5]), places, lambda v: 2 * v, numbers, update_shape=(2,))
        Array([4, 5], dtype=int32)

    References:
        jax.lax.scatter_apply
    """
    x = to_array(operand, "scatter_apply", "operand")
    shape = tuple(update_shape)
    times = scatter_add(
        asarray(np.zeros(x.shape, np.int32)),
        scatter_indices,
        ones(shape, np.int32),
        dimension_numbers,
        mode=mode,
    )
    if unique_indices:
        return elementwise.where(elementwise.greater(times, 0), convert(func(x), x.dtype), x)

    def unfinished(state: Any) -> Any:
        return elementwise.greater(state[0], 0).any()

    def step(state: Any) -> Any:
        left, y = state
        y = elementwise.where(elementwise.greater(left, 0), convert(func(y), x.dtype), y)
        return elementwise.subtract(left, 1), y

    return while_loop(unfinished, step, (times, x))[1]
