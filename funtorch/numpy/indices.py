"""Indices: what ``x[index]`` and ``x.at[index]`` ask for, sorted out axis by axis."""

from __future__ import annotations

import builtins
import operator
from typing import Any, NamedTuple

import numpy as np

from funtorch import dtypes
from funtorch.core import Array, ArrayImpl, Tracer, concrete_or_error, escaped_tracer
from funtorch.errors import (
    ConcretizationTypeError,
    IndexKindError,
    IndexShapeError,
    NonConcreteBooleanIndexError,
    SliceBoundError,
)
from funtorch.numpy import elementwise
from funtorch.numpy.promotion import asarray, broadcast, convert, describe

__all__ = [
    "Entry", "Plan", "is_static", "known_index", "read_index", "scalar_masks", "wrap_negative",
]  # fmt: skip


class Entry(NamedTuple):
    """One axis of the array: its index, and what kind ('int', 'slice' or 'array') that is."""

    kind: str
    axis: int
    value: Any


class Plan(NamedTuple):
    """An index, read: what happens to each axis, and where None and the arrays' axes come in the
    result.

    ``order`` lists the result's axes as 'new', ('slice', axis) and 'arrays' (all broadcast axes of
    the
    index arrays, at the place NumPy puts them).
    """

    entries: list[Entry]
    order: list[Any]
    arrays: list[Any]
    array_axes: tuple[int, ...]


def is_static(index: Any) -> bool:
    kind = type(index)
    return kind is int or kind is slice or index is None or index is Ellipsis


def _expand(index: Any, ndim: int) -> tuple[list[Any], int]:
    """Return the items of an index with Ellipsis and masks written out, one item per axis or
    None, and the place of an Ellipsis that stands for no axis (it still keeps arrays apart), or
    -1."""
    items: list[Any] = []
    for item in index if isinstance(index, tuple) else (index,):
        items.extend(_item(item))
    used = builtins.sum(item is not None and item is not Ellipsis for item in items)
    places = [k for k, item in enumerate(items) if item is Ellipsis]
    if len(places) > 1:
        raise IndexError("an index can have only one Ellipsis ('...')")
    if used > ndim:
        raise IndexError(f"too many indices: the array has {ndim} axes, but {used} were indexed")
    rest = [slice(None)] * (ndim - used)
    at = places[0] if places else len(items)
    return items[:at] + rest + items[at + 1 :], at if places and not rest else -1


def _item(item: Any) -> list[Any]:
    if is_static(item):
        return [item]
    if isinstance(item, np.integer):
        return [int(item)]
    if isinstance(item, (list, tuple)):
        item = asarray(item) if len(item) else asarray(item, "int32")
    if isinstance(item, np.ndarray):
        item = asarray(item)
    if isinstance(item, Array):
        if item.dtype == dtypes.bool_:
            return _mask(item)
        if dtypes.is_integer(item.dtype):
            return [item]
        raise IndexKindError(
            f"arrays used as indices must be integers or bool, got {describe(item)}: an indexer "
            "must have integer or boolean type"
        )
    try:
        return [operator.index(item)]
    except TypeError:
        raise IndexKindError(
            f"an index must be an int, slice, None, Ellipsis, or an integer or bool array, got "
            f"{type(item).__name__}: {item!r:.80}"
        ) from None


def _known(mask: Any) -> np.ndarray:
    if isinstance(mask, Tracer) and mask.concrete() is None:
        if not mask.owner.alive:
            raise escaped_tracer(mask)
        raise NonConcreteBooleanIndexError(
            f"a boolean mask of type {describe(mask)} was used as an index while its values are "
            "not known, so "
            f"the result has no fixed shape; it was made at {mask.source}. Use "
            "funtorch.numpy.where(mask, x, "
            "y) to choose elements, or funtorch.numpy.nonzero(mask, size=n, fill_value=...) to "
            "index with a "
            "fixed number of them"
        )
    return concrete_or_error(mask, "a boolean mask")


def _mask(mask: Any) -> list[Any]:
    value = _known(mask)
    return [
        _Mask(i.astype(np.int32), n) for i, n in zip(np.nonzero(value), value.shape, strict=True)
    ]


def _is_scalar_mask(item: Any) -> bool:
    if isinstance(item, (np.ndarray, Array)):
        return item.ndim == 0 and item.dtype == dtypes.bool_
    return isinstance(item, (bool, np.bool_))


def _axes_of(item: Any) -> int:
    """Return how many axes an item is about, without those of an Ellipsis."""
    return 0 if item is None or item is Ellipsis else len(_item(item))


def scalar_masks(index: Any, ndim: int) -> tuple[tuple[int, ...], Any]:
    """Write masks without axes, as in ``x[True]``, as positions on new axes of size 1.

    Returns:
        Where the array gets new axes, and the index of the array with them.
    """
    items = index if isinstance(index, tuple) else (index,)
    if not any(map(_is_scalar_mask, items)):
        return (), index
    others = tuple(item for item in items if not _is_scalar_mask(item))
    _expand(others, ndim)  # raises where they do not fit
    rest = ndim - builtins.sum(map(_axes_of, others))
    place, new, out = 0, [], []
    for item in items:
        if _is_scalar_mask(item):
            new.append(place)
            out.append(asarray(np.zeros(int(_known(asarray(item))), np.int32)))
            place += 1
        else:
            out.append(item)
            place += rest if item is Ellipsis else _axes_of(item)
    return tuple(new), tuple(out)


class _Mask:
    """One axis of a mask: the positions where it holds, and the size the axis must have."""

    __slots__ = ("positions", "size")

    def __init__(self, positions: np.ndarray, size: int) -> None:
        self.positions = positions
        self.size = size


def read_index(x: Any, index: Any, checked: bool = True, wrap: bool = True) -> Plan:
    """Sort out an index; where it is not ``checked``, ints out of range go to the mode as arrays,
    and where negative ones do not ``wrap``, those are out of range."""
    items, gap = _expand(index, x.ndim)
    advanced = any(isinstance(item, (Array, _Mask)) for item in items)
    if not checked and not advanced:
        axes_of = [item for item in items if item is not None]
        advanced = any(
            isinstance(item, int) and not (-n if wrap else 0) <= item < n
            for item, n in zip(axes_of, x.shape, strict=True)
        )
    entries: list[Entry] = []
    order: list[Any] = []
    arrays, axes, where = [], [], []
    axis = 0
    for place, item in enumerate(items):
        if item is None:
            order.append("new")
            continue
        n = x.shape[axis]
        if isinstance(item, _Mask):
            if item.size != n:
                raise IndexError(
                    f"a boolean mask has size {item.size} where axis {axis} of {describe(x)} "
                    f"has size {n}"
                )
            item = ArrayImpl(item.positions)
        if isinstance(item, slice):
            entries.append(Entry("slice", axis, slice_indices(item, n)))
            order.append(("slice", axis))
        elif isinstance(item, int) and not advanced:
            entries.append(Entry("int", axis, _static_index(item, n, axis, x)))
        else:
            if isinstance(item, int):
                known = _static_index(item, n, axis, x) if checked else item
                item = ArrayImpl(np.array(known, np.int32))
            entries.append(Entry("array", axis, item))
            arrays.append(wrap_negative(item, n) if wrap else item)
            axes.append(axis)
            where.append(place)
            if "arrays" not in order:
                order.append("arrays")
        axis += 1
    if where and (where[-1] - where[0] != len(where) - 1 or where[0] < gap <= where[-1]):
        # Index arrays that are not side by side: NumPy puts their axes first.
        order.remove("arrays")
        order.insert(0, "arrays")
    if arrays:
        try:
            arrays = broadcast("index", *arrays)
        except ValueError:
            shapes = ", ".join(str(a.shape) for a in arrays)
            raise IndexShapeError(
                f"index arrays do not broadcast together: their shapes are {shapes}"
            ) from None
    return Plan(entries, order, arrays, tuple(axes))


def _static_index(i: int, n: int, axis: int, x: Any) -> int:
    if -n <= i < n:
        return i % n
    if isinstance(x, Tracer) and x.concrete() is None and n:
        return 0 if i < 0 else n - 1  # compiled code clips, and so does what is traced
    raise IndexError(f"index {i} is out of bounds for axis {axis} with size {n} of {describe(x)}")


def _static_bound(part: Any) -> None:
    try:
        concrete_or_error(part, "a slice bound (use funtorch.lax.dynamic_slice for a traced start)")
    except ConcretizationTypeError as error:
        raise SliceBoundError(str(error)) from None


def slice_indices(item: slice, n: int) -> tuple[int, int, int]:
    """Return start, number of elements and step of a slice."""
    try:
        start, stop, step = item.indices(n)
    except TypeError:
        for part in (item.start, item.stop, item.step):
            if isinstance(part, Array):
                _static_bound(part)
        parts = [None if p is None else int(p) for p in (item.start, item.stop, item.step)]
        start, stop, step = slice(*parts).indices(n)
    return start, len(range(start, stop, step)), step


def wrap_negative(i: Any, n: int) -> Any:
    """Return indices as int32, counted from the front."""
    if not dtypes.is_signed(i.dtype):
        return convert(i, dtypes.int32)
    if type(i) is ArrayImpl:
        data = i._data
        if data.dtype != dtypes.int32:
            data = np.clip(data, -0x8000_0000, 0x7FFF_FFFF).astype(np.int32)
        return ArrayImpl(np.where(data < 0, data + np.int32(n), data).astype(np.int32))
    i = convert(i, dtypes.int32)
    return elementwise.where(elementwise.less(i, 0), elementwise.add(i, n), i)


def known_index(index: Any) -> Any:
    """Return an index of known integers and masks as NumPy takes it.

    Raises:
        TypeError: it has other items, or is one whose meaning to NumPy is not ours.
    """
    if type(index) is tuple:
        return tuple(map(known_index, index))
    if is_static(index):
        return index
    data = index.host() if isinstance(index, ArrayImpl) else index
    if type(data) is not np.ndarray or data.dtype.kind not in _INDEX_KINDS[data.ndim > 0]:
        raise TypeError
    return data


# What an array may hold to be an index, by whether it has axes: a mask without any is an error.
_INDEX_KINDS = ("iu", "iub")
