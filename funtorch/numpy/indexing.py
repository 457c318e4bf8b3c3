"""x[index], x.at[index], and the functions that take or put elements by index.

An index is read once into entries, one per axis it consumes. Static integers, slices and None
lower to
slice, rev and reshape; integer arrays become one gather or scatter over the axes they index.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl, _state, concrete_or_error, eval_trace, primitives
from funtorch.errors import MismatchError
from funtorch.numpy import elementwise
from funtorch.numpy.direct import direct, indexed
from funtorch.numpy.indices import (
    Entry,
    Plan,
    is_static,
    known_index,
    read_index,
    scalar_masks,
    wrap_negative,
)
from funtorch.numpy.manipulation import expand_dims, moveaxis, ravel, reshape, squeeze
from funtorch.numpy.promotion import (
    asarray,
    broadcast_shapes,
    broadcast_to,
    canonical_axis,
    convert,
    describe,
    moves,
    no_out,
    quiet,
    spread_to,
    to_array,
)
from funtorch.ops import families
from funtorch.tracebacks import hide_frames, self_bounded

__all__ = [
    "AtIndex",
    "AtView",
    "getitem",
    "put_along_axis",
    "take",
    "take_along_axis",
    "wrap_negative",
]

_MODES = {
    None: None,
    "clip": "clip",
    "fill": "fill",
    "drop": "drop",
    "promise_in_bounds": "promise",
}


# --------------------------------------------------------------------------------- reading elements
@self_bounded
def getitem(x: Any, index: Any) -> Any:
    """Return ``x[index]``; integer arrays are clipped to the axis."""
    try:
        if type(x) is ArrayImpl and _state.trace is eval_trace:
            if is_static(index) or (type(index) is tuple and all(map(is_static, index))):
                data = x._data[index]
                return ArrayImpl(
                    data if isinstance(data, np.ndarray) else np.asarray(data), x._weak
                )
            if type(x._data) is np.ndarray:
                try:
                    return ArrayImpl(np.asarray(x._data[known_index(index)]), x._weak)
                except (IndexError, TypeError):
                    pass  # out of range, which clips, or an index that NumPy reads otherwise
        return _get(x, index, "clip", None)
    except Exception as error:
        hide_frames(error)
        raise


def _get(x: Any, index: Any, mode: str, fill: Any, checked: bool = True, wrap: bool = True) -> Any:
    new, index = scalar_masks(index, x.ndim)
    if new:
        x = expand_dims(x, new)
    plan = read_index(x, index, checked, wrap)
    out, dropped = _basic(x, [e for e in plan.entries if e.kind != "array"])
    if plan.arrays:
        # Axes that ints removed come before; the arrays' axes are counted in what is left.
        axes = tuple(a - builtins.sum(d < a for d in dropped) for a in plan.array_axes)
        out = primitives["gather"].bind(out, *plan.arrays, axes=axes, mode=mode, fill=fill)
    return _arrange(out, plan)


def _basic(x: Any, entries: list[Entry]) -> tuple[Any, list[int]]:
    """Apply ints and slices; the axes of ints are removed and returned."""
    starts, limits, strides = [0] * x.ndim, list(x.shape), [1] * x.ndim
    reverse, dropped = [], []
    for kind, axis, value in entries:
        if kind == "int":
            starts[axis], limits[axis] = value, value + 1
            dropped.append(axis)
            continue
        start, count, step = value
        if step < 0 and count:
            reverse.append(axis)
            start, step = start + (count - 1) * step, -step
        starts[axis] = start if count else 0
        limits[axis] = start + (count - 1) * step + 1 if count else 0
        strides[axis] = builtins.abs(step) if count else 1
    if tuple(limits) != x.shape or any(starts) or any(s != 1 for s in strides):
        x = primitives["slice"].bind(
            x, start=tuple(starts), limit=tuple(limits), stride=tuple(strides)
        )
    if reverse:
        x = primitives["rev"].bind(x, axes=tuple(reverse))
    if dropped:
        x = reshape(x, tuple(n for k, n in enumerate(x.shape) if k not in dropped))
    return x, dropped


def _arrange(out: Any, plan: Plan) -> Any:
    """Move the index arrays' axes, in front after a gather, to their place; put in the new axes."""
    rank = plan.arrays[0].ndim if plan.arrays else 0
    kept = [item for item in plan.order if item != "new"]
    if rank and kept[0] != "arrays":
        before = kept.index("arrays")
        out = moveaxis(out, tuple(range(rank)), tuple(range(before, before + rank)))
    if "new" not in plan.order:
        return out
    place, new = 0, []
    for item in plan.order:
        if item == "new":
            new.append(place)
        place += rank if item == "arrays" else 1
    return expand_dims(out, tuple(new))


def _disarrange(v: Any, plan: Plan) -> Any:
    """Undo `_arrange` on an array of the indexed shape."""
    rank = plan.arrays[0].ndim if plan.arrays else 0
    place, sizes = 0, []
    for item in plan.order:
        width = rank if item == "arrays" else 1
        if item != "new":
            sizes.extend(v.shape[place : place + width])
        place += width
    v = reshape(v, tuple(sizes))
    kept = [item for item in plan.order if item != "new"]
    if rank and kept[0] != "arrays":
        before = kept.index("arrays")
        v = moveaxis(v, tuple(range(before, before + rank)), tuple(range(rank)))
    return v


def _indexed_shape(x: Any, plan: Plan) -> tuple[int, ...]:
    counts = {e.axis: e.value[1] for e in plan.entries if e.kind == "slice"}
    shape: list[int] = []
    for item in plan.order:
        if item == "new":
            shape.append(1)
        elif item == "arrays":
            shape.extend(plan.arrays[0].shape)
        else:
            shape.append(counts[item[1]])
    return tuple(shape)


# --------------------------------------------------------------------------------- writing elements
_COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "set": lambda old, new: new,
    "add": elementwise.add,
    "mul": elementwise.multiply,
    "min": elementwise.minimum,
    "max": elementwise.maximum,
}


def _update(
    x: Any,
    index: Any,
    values: Any,
    how: str,
    mode: str,
    unique: bool,
    checked: bool = True,
    wrap: bool = True,
) -> Any:
    new, index = scalar_masks(index, x.ndim)
    if new:
        given = (index, values, how, mode, unique, checked, wrap)
        return squeeze(_update(expand_dims(x, new), *given), new)
    plan = read_index(x, index, checked, wrap)
    shape = _indexed_shape(x, plan)
    v = convert(values, x.dtype, x.weak_type)
    try:
        fits = broadcast_shapes(v.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"x.at[...].{how}: values {describe(v)} do not broadcast to the indexed shape {shape}"
        )
    v = _disarrange(spread_to(v, shape), plan)
    if not plan.arrays:
        return _update_basic(x, plan.entries, v, how)
    basic = [e for e in plan.entries if e.kind != "array"]
    partial = [e for e in basic if e.value != (0, x.shape[e.axis], 1)]
    if not partial:
        return _scatter(x, v, plan.arrays, plan.array_axes, how, mode, unique)
    inner, _ = _basic(x, basic)
    inner = _scatter(inner, v, plan.arrays, plan.array_axes, how, mode, unique)
    whole = [Entry("slice", a, (0, x.shape[a], 1)) for a in plan.array_axes]
    return _update_basic(x, [*basic, *whole], inner, "set")


def _update_known(x: Any, index: Any, values: Any, ufunc: np.ufunc | None) -> Any:
    """Update a static region of a known array; None if that takes the general way."""
    static = is_static(index) or (type(index) is tuple and all(map(is_static, index)))
    if not static or type(values) is not ArrayImpl or type(x._data) is not np.ndarray:
        return None
    values = convert(values, x.dtype)._data
    data = x._data.copy()
    try:
        region = data[index]
        if values.ndim > region.ndim:
            return None
        data[index] = values if ufunc is None else quiet.run(ufunc, region, values)
    except (IndexError, ValueError):
        return None
    return ArrayImpl(data, x._weak)


_UFUNCS = {
    "set": None, "add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum,
}  # fmt: skip


def _scatter(
    x: Any, v: Any, indices: Any, axes: tuple[int, ...], how: str, mode: str, unique: bool
) -> Any:
    name = "scatter" if how == "set" else f"scatter_{how}"
    if x.dtype == dtypes.bool_ and how != "set":
        as_int = _scatter(
            convert(x, dtypes.uint8),
            convert(v, dtypes.uint8),
            indices,
            axes,
            {"add": "max", "mul": "min"}.get(how, how),
            mode,
            unique,
        )
        return convert(as_int, dtypes.bool_)
    return primitives[name].bind(x, v, *indices, axes=axes, mode=mode, unique=unique)


def _update_basic(x: Any, entries: list[Entry], v: Any, how: str) -> Any:
    """Update a static region: v has the region's shape without the axes of ints."""
    entries = sorted(entries, key=lambda e: e.axis)
    if how != "set":
        old, _ = _basic(x, entries)
        v = _COMBINE[how](old, v)
    if any(n == 0 for n in v.shape):
        return x
    reverse = []
    out_axis = 0
    for e in entries:
        if e.kind == "slice":
            if e.value[2] < 0:
                reverse.append(out_axis)
            out_axis += 1
    if reverse:
        v = primitives["rev"].bind(v, axes=tuple(reverse))
    spans = {e.axis: _forward(e) for e in entries}
    v = reshape(v, tuple(spans[k][1] for k in range(x.ndim)))
    if all(step == 1 for _, _, step in spans.values()):
        if v.shape == x.shape:
            return v
        starts = [families.scalar(spans[k][0], np.int32) for k in range(x.ndim)]
        return primitives["dynamic_update_slice"].bind(x, v, *starts)
    grids = np.meshgrid(
        *[a + s * np.arange(n, dtype=np.int32) for a, n, s in (spans[k] for k in range(x.ndim))],
        indexing="ij",
    )
    indices = [ArrayImpl(g.astype(np.int32)) for g in grids]
    return primitives["scatter"].bind(
        x, v, *indices, axes=tuple(range(x.ndim)), mode="promise", unique=True
    )


def _forward(e: Entry) -> tuple[int, int, int]:
    """Return start, count and positive step of an int or slice."""
    if e.kind == "int":
        return e.value, 1, 1
    start, count, step = e.value
    return (start, count, step) if step > 0 else (start + (count - 1) * step, count, -step)


def _mode(mode: Any) -> Any:
    if mode is not None and not isinstance(mode, str):
        mode = {
            "FILL_OR_DROP": "fill",
            "CLIP": "clip",
            "PROMISE_IN_BOUNDS": "promise_in_bounds",
        }.get(getattr(mode, "name", ""), mode)
    if mode not in _MODES:
        raise ValueError(
            f"mode must be one of 'clip', 'fill', 'drop', 'promise_in_bounds', got {mode!r}"
        )
    return _MODES[mode]


def _updater(how: str, text: str) -> Callable[..., Any]:
    def method(
        self: AtView,
        values: Any,
        *,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        mode: str | None = None,
        wrap_negative_indices: bool = True,
    ) -> Any:
        chosen = _mode(mode) or "drop"
        values = asarray(values) if isinstance(values, (list, tuple)) else values
        v = to_array(values, f"x.at[...].{how}", "values")
        x = self.array
        wrap = wrap_negative_indices
        if type(x) is ArrayImpl and mode is None and wrap and _state.trace is eval_trace:
            out = _update_known(x, self.index, v, _UFUNCS[how])
            if out is not None:
                return out
        chosen = {"fill": "drop"}.get(chosen, chosen)
        checked = mode is None and wrap
        return _update(x, self.index, v, how, chosen, unique_indices, checked, wrap)

    method.__name__ = how
    method.__doc__ = f"Return a copy with the indexed elements {text}."
    return method


def _subtract(self: AtView, values: Any, **options: Any) -> Any:
    """Return a copy with values subtracted from the indexed elements."""
    return self.add(elementwise.negative(values), **options)


def _power(self: AtView, values: Any, **options: Any) -> Any:
    """Return a copy with the indexed elements raised to a power; repeated indices multiply it."""
    x = self.array
    power = to_array(values, "x.at[...].power", "values")
    ones = AtView(families.full(x.shape, 1, power.dtype), self.index)
    return elementwise.power(x, ones.mul(power, **options))


def _divide(self: AtView, values: Any, **options: Any) -> Any:
    """Return a copy with the indexed elements divided by values."""
    x = self.array
    ones = AtView(families.full(x.shape, 1, x.dtype), self.index)
    return elementwise.divide(x, ones.mul(values, **options))


class AtIndex:
    """``x.at``: index it to say which elements to update."""

    __slots__ = ("array",)

    def __init__(self, array: Any) -> None:
        self.array = array

    def __getitem__(self, index: Any) -> AtView:
        return AtView(self.array, index)

    def __repr__(self) -> str:
        return f"AtIndex({self.array!r})"


class AtView:
    """``x.at[index]``: its methods return a copy of x with the indexed elements updated.

    ``mode`` says what indices out of bounds do: 'drop' (the default of updates: nothing), 'clip',
    'fill'
    (the default of `get`), 'promise_in_bounds' (the caller vouches for them). ``unique_indices``
    and
    ``indices_are_sorted`` are promises too. With ``wrap_negative_indices=False`` negative ones are
    out of bounds.
    """

    __slots__ = ("array", "index")

    def __init__(self, array: Any, index: Any) -> None:
        self.array = array
        self.index = index

    def __repr__(self) -> str:
        return f"AtView({self.array!r}, {self.index!r})"

    set = _updater("set", "replaced by values")
    add = _updater("add", "increased by values; repeated indices add up")
    mul = multiply = _updater("mul", "multiplied by values")
    min = _updater("min", "replaced by the minimum with values")
    max = _updater("max", "replaced by the maximum with values")
    subtract = sub = _subtract
    apply: Callable[..., Any]  # from `funtorch.numpy.ufuncs`: it may loop
    divide = div = _divide
    power = pow = _power

    def get(
        self,
        *,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        mode: str | None = None,
        fill_value: Any = None,
        wrap_negative_indices: bool = True,
    ) -> Any:
        """Return the indexed elements; out of bounds ``fill_value`` (nan, or the dtype's
        extreme)."""
        chosen = _mode(mode) or ("fill" if fill_value is not None else "clip")
        chosen = {"drop": "fill"}.get(chosen, chosen)
        x = self.array
        fill = fill_value_of(x.dtype, fill_value) if chosen == "fill" else None
        checked = mode is None and fill_value is None and wrap_negative_indices
        return _get(x, self.index, chosen, fill, checked, wrap_negative_indices)


def fill_value_of(dtype: Any, fill: Any) -> Any:
    """Return what is read out of bounds: nan, the least signed or greatest unsigned integer,
    True."""
    if fill is not None:
        return np.asarray(concrete_or_error(fill, "fill_value")).astype(dtype).item()
    if dtypes.is_inexact(dtype):
        return math.nan
    if dtype == dtypes.bool_:
        return True
    info = dtypes.iinfo(dtype)
    return info.min if dtypes.is_signed(dtype) else info.max


# ---------------------------------------------------------------------------------------- functions
@direct(np.ndarray.take, take=indexed)
@moves
def take(
    a: Any,
    indices: Any,
    axis: int | None = None,
    out: None = None,
    mode: str | None = None,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    fill_value: Any = None,
) -> Any:
    """Take elements along an axis.

    Args:
        a: array.
        indices: integer array.
        axis: the axis; None takes from the flattened array.
        mode: 'fill' (default: nan or an extreme value out of bounds), 'clip' (negative ones, too),
            or 'wrap'.
        fill_value: what is taken out of bounds.

    Example:
        >>> take(asarray([1.0, 2.0]), asarray([1, 5]))
        Array([ 2., nan], dtype=float32)

    References:
        numpy.take
    """
    no_out(out, "take")
    x, i = to_array(a, "take", "a"), asarray(indices)
    if not dtypes.is_integer(i.dtype):
        raise MismatchError(f"take: indices must be integers, got {describe(i)}")
    if axis is None:
        x, axis = ravel(x), 0
    k = canonical_axis(axis, x.ndim, "take")
    if mode == "raise":
        raise NotImplementedError(
            "take: mode='raise' is not supported, as values are not known while tracing; use "
            "'fill', 'clip' or 'wrap'"
        )
    if mode == "wrap":
        i, mode = elementwise.remainder(i, x.shape[k]), "promise_in_bounds"
    view = AtView(x, (slice(None),) * k + (i,))
    wrap = mode != "clip"
    return view.get(mode=mode or "fill", fill_value=fill_value, wrap_negative_indices=wrap)


@moves
def take_along_axis(
    arr: Any,
    indices: Any,
    axis: int | None = -1,
    mode: str | None = None,
    fill_value: Any = None,
    *,
    wrap_negative_indices: bool | None = None,
) -> Any:
    """Take, along an axis, the elements at the index array's positions.

    Args:
        arr: array.
        indices: integer array of the same rank; the other axes broadcast.
        axis: the axis; None takes from the flattened array.
        mode: as for `take`.

    References:
        numpy.take_along_axis
    """
    x, i = to_array(arr, "take_along_axis", "arr"), to_array(indices, "take_along_axis", "indices")
    if axis is None:
        x, i, axis = ravel(x), ravel(i), 0
    return AtView(*_along(x, i, axis, "take_along_axis")).get(
        mode=mode or "fill", fill_value=fill_value
    )


def put_along_axis(
    arr: Any,
    indices: Any,
    values: Any,
    axis: int | None,
    inplace: bool = True,
    *,
    mode: str | None = None,
) -> Any:
    """Return a copy with values put, along an axis, at the index array's positions.

    Raises:
        ValueError: ``inplace`` is left True: arrays never change.

    References:
        numpy.put_along_axis
    """
    if inplace:
        raise ValueError(
            "put_along_axis: arrays are immutable: pass inplace=False and use the result"
        )
    x, i = to_array(arr, "put_along_axis", "arr"), to_array(indices, "put_along_axis", "indices")
    if axis is None:
        flat = AtView(*_along(ravel(x), ravel(i), 0, "put_along_axis"))
        return reshape(flat.set(ravel(values) if np.ndim(values) else values, mode=mode), x.shape)
    return AtView(*_along(x, i, axis, "put_along_axis")).set(values, mode=mode)


def _along(x: Any, i: Any, axis: int, name: str) -> tuple[Any, tuple[Any, ...]]:
    if x.ndim != i.ndim:
        raise ValueError(
            f"{name}: arr {describe(x)} and indices {describe(i)} must have the same rank"
        )
    if not dtypes.is_integer(i.dtype):
        raise MismatchError(f"{name}: indices must be integers, got {describe(i)}")
    k = canonical_axis(axis, x.ndim, name)
    shape = broadcast_shapes(
        x.shape[:k] + (1,) + x.shape[k + 1 :], i.shape[:k] + (1,) + i.shape[k + 1 :]
    )
    x = broadcast_to(x, shape[:k] + (x.shape[k],) + shape[k + 1 :])
    index = []
    for axis_, n in enumerate(shape):
        if axis_ == k:
            index.append(i)
        else:
            inner = [1] * x.ndim
            inner[axis_] = n
            index.append(ArrayImpl(np.arange(n, dtype=np.int32).reshape(inner)))
    return x, tuple(index)
