"""`gather` and the scatters: everything that indexes with arrays.

    gather(x, *indices; axes, mode, fill)
    scatter(x, updates, *indices; axes, mode, unique)
    scatter_add, scatter_mul, scatter_min, scatter_max: likewise

There is one integer array of indices, of one shape B, for each axis of x in ``axes``. Together they
name, for every position in B, a slice of x that runs over its other axes: gather reads these slices
into an array of shape B + other axes, a scatter combines an array of that shape into x.

An index out of range is moved to the nearest end in mode 'clip'; it reads ``fill`` in gather's mode
'fill' and is left out in scatter's mode 'drop'; mode 'promise' says that there is none. Negative
indices count as out of range. Where `scatter` meets an index twice, the last update stays;
``unique`` promises that this does not happen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Primitive, ShapedArray, aval_of
from funtorch.ops.elementwise import add, convert, div, eq, mul, select
from funtorch.ops.families import (
    NO_TRANSPOSE,
    accumulate,
    broadcast_in_dim,
    full_like,
    is_linear,
    linear_jvp,
    spread,
    zeros,
    zeros_like,
)
from funtorch.ops.shape import iota, reshape, transpose

__all__ = [
    "default_fill",
    "gather",
    "gather_p",
    "scatter",
    "scatter_add",
    "scatter_add_p",
    "scatter_max",
    "scatter_max_p",
    "scatter_min",
    "scatter_min_p",
    "scatter_mul",
    "scatter_mul_p",
    "scatter_p",
]

Axes = tuple[int, ...]

GATHER_MODES = ("clip", "fill", "promise")
SCATTER_MODES = ("clip", "drop", "promise")
_TO_SCATTER = {"clip": "clip", "fill": "drop", "promise": "promise"}
_TO_GATHER = {v: k for k, v in _TO_SCATTER.items()}


def default_fill(dtype: Any) -> Any:
    """Return what an index out of range reads when no fill value is given.

    Args:
        dtype: dtype of the array that is read.

    Returns:
        nan for floats and complex, the least value for signed and the greatest for unsigned
        integers, True for bool.

    Example:
        >>> default_fill("float32"), default_fill("int8"), default_fill("uint8")
        (nan, -128, 255)
    """
    if dtypes.is_inexact(dtype):
        return math.nan
    if dtypes.is_bool(dtype):
        return True
    info = dtypes.iinfo(dtype)
    return int(info.min if dtypes.is_signed(dtype) else info.max)


# -------------------------------------------------------------------------------------------- types
def _other_axes(ndim: int, axes: Axes) -> Axes:
    return tuple(d for d in range(ndim) if d not in axes)


def _slices_shape(
    name: str,
    x: ShapedArray,
    indices: Sequence[ShapedArray],
    axes: Axes,
    mode: str,
    modes: Sequence[str],
) -> tuple[int, ...]:
    """Check indices, axes and mode; return B + the other axes of x."""
    asked = f"of {x.str_short()} at axes {axes} with {', '.join(i.str_short() for i in indices)}"
    if mode not in modes:
        raise ValueError(f"{name}: mode {mode!r} is none of {', '.join(modes)}")
    if not indices or len(indices) != len(axes):
        raise TypeError(f"{name} {asked}: {len(axes)} axes need as many index arrays, at least one")
    if len(set(axes)) != len(axes) or any(not 0 <= d < x.ndim for d in axes):
        raise TypeError(f"{name} {asked}: axes must be different and within 0..{x.ndim - 1}")
    for i in indices:
        if not dtypes.is_integer(i.dtype) or i.shape != indices[0].shape:
            raise TypeError(f"{name} {asked}: index arrays must be integers of one shape")
    if mode == "clip" and indices[0].size and any(x.shape[d] == 0 for d in axes):
        raise TypeError(f"{name} {asked}: an axis of size 0 has no index to clip to")
    return (*indices[0].shape, *(x.shape[d] for d in _other_axes(x.ndim, axes)))


def _gather_type(
    x: ShapedArray, *indices: ShapedArray, axes: Axes, mode: str, fill: Any = None
) -> ShapedArray:
    return x.update(shape=_slices_shape("gather", x, indices, axes, mode, GATHER_MODES))


def _scatter_type(name: str) -> Callable[..., ShapedArray]:
    def type_rule(
        x: ShapedArray,
        updates: ShapedArray,
        *indices: ShapedArray,
        axes: Axes,
        mode: str,
        unique: bool = False,
    ) -> ShapedArray:
        shape = _slices_shape(name, x, indices, axes, mode, SCATTER_MODES)
        if updates.shape != shape or updates.dtype != x.dtype:
            raise TypeError(
                f"{name} into {x.str_short()} at axes {axes} with indices of shape "
                f"{indices[0].shape} takes updates of type "
                f"{ShapedArray(shape, x.dtype).str_short()}, got {updates.str_short()}"
            )
        return x

    return type_rule


# -------------------------------------------------------------------------------------------- eager
def _wide(xp: Any, index: Any) -> Any:
    """Return the index as int64; what int64 cannot hold is out of range there too."""
    if index.dtype == dtypes.uint64:
        index = xp.minimum(index, xp.uint64(dtypes.iinfo(dtypes.int64).max))
    return index.astype(dtypes.int64, copy=False)


def _in_range(indices: Sequence[Any], sizes: Sequence[int]) -> Any:
    """Return where all indices are in range, or None if that is everywhere."""
    valid = None
    for i, n in zip(indices, sizes, strict=True):
        ok = (i >= 0) & (i < n)
        valid = ok if valid is None else valid & ok
    return None if valid.all() else valid


def _gather_eager(xp: Any, x: Any, *indices: Any, axes: Axes, mode: str, fill: Any = None) -> Any:
    sizes = [x.shape[d] for d in axes]
    indices = tuple(_wide(xp, i) for i in indices)
    valid = _in_range(indices, sizes) if mode == "fill" else None
    others = _other_axes(x.ndim, axes)
    if 0 in sizes:
        out = xp.zeros((*indices[0].shape, *(x.shape[d] for d in others)), x.dtype)
    else:
        if mode == "clip" or valid is not None:
            indices = tuple(i.clip(0, n - 1) for i, n in zip(indices, sizes, strict=True))
        if len(axes) == 1:
            out = xp.take(x, indices[0], axis=axes[0])
            k, n = axes[0], indices[0].ndim
            if k:
                out = out.transpose(*range(k, k + n), *range(k), *range(k + n, out.ndim))
        else:
            out = x.transpose(*axes, *others)[indices]
    if valid is None:
        return out
    valid = valid.reshape(valid.shape + (1,) * len(others))
    fill = default_fill(x.dtype) if fill is None else fill
    return xp.where(valid, out, xp.asarray(fill, x.dtype))


# Repeated indices add up in many steps, so narrow floats go through a wider one.
_ACCUMULATE_IN = dict.fromkeys(dtypes.HALVES, dtypes.float32)


def _scatter_eager(write: Callable[..., None], accumulates: bool) -> Callable[..., Any]:
    """Return an eager rule; ``write(xp, target, i, updates, unique)`` combines rows into target.

    target is (positions, ...) and updates (n, ...) with i, the n positions, in range.
    """

    def eager(
        xp: Any, x: Any, updates: Any, *indices: Any, axes: Axes, mode: str, unique: bool = False
    ) -> Any:
        dtype = x.dtype
        inner = _ACCUMULATE_IN.get(dtype, dtype) if accumulates else dtype
        others = _other_axes(x.ndim, axes)
        perm = (*axes, *others)
        sizes = [x.shape[d] for d in axes]
        rest = [x.shape[d] for d in others]
        # One copy in an order in which the indexed axes merge into one axis of positions.
        target = xp.array(x.transpose(perm), dtype=inner, order="C")
        indices = tuple(_wide(xp, i).reshape(-1) for i in indices)
        updates = updates.reshape(indices[0].size, *rest).astype(inner, copy=False)
        if mode == "clip":
            indices = tuple(i.clip(0, n - 1) for i, n in zip(indices, sizes, strict=True))
        valid = _in_range(indices, sizes) if mode == "drop" else None
        if valid is not None:
            indices, updates = tuple(i[valid] for i in indices), updates[valid]
        if updates.size:
            position = indices[0]
            for i, n in zip(indices[1:], sizes[1:], strict=True):
                position = position * n + i
            write(xp, target.reshape(math.prod(sizes), *rest), position, updates, unique)
        return target.transpose(np.argsort(perm)).astype(dtype, copy=False)

    return eager


def _write_set(xp: Any, target: Any, i: Any, updates: Any, unique: bool) -> None:
    target[i] = updates


_AT_ONCE = 1 << 18
"""Elements that are scattered at a time: their places take eight bytes each."""


def _writer(ufunc: str) -> Callable[..., None]:
    def write(xp: Any, target: Any, i: Any, updates: Any, unique: bool) -> None:
        op = getattr(xp, ufunc)
        if unique:
            target[i] = op(target[i], updates)
            return
        # `at` is quick on one axis only: so each row is as many places of the flat array.
        width = math.prod(target.shape[1:])
        flat, rows = target.reshape(-1), max(1, _AT_ONCE // max(width, 1))
        updates, columns = updates.reshape(len(i), width), xp.arange(width)
        for k in range(0, len(i), rows):
            places = i[k : k + rows, None] * width + columns
            op.at(flat, places.reshape(-1), updates[k : k + rows].reshape(-1))

    return write


# -------------------------------------------------------------------------------------------- batch
def _permute(x: Any, perm: Sequence[int]) -> Any:
    return x if tuple(perm) == tuple(range(len(perm))) else transpose(x, perm=tuple(perm))


def _batched_indices(axis: Any, indices: Sequence[Any], batched: Sequence[bool]) -> list[Any]:
    return [i if b else spread(i, axis.size) for i, b in zip(indices, batched, strict=True)]


def _rows(axis: Any, indices: Sequence[Any]) -> Any:
    """Return, as an index array beside batched ones, which member of the batch each one is of."""
    return iota(shape=indices[0].shape, axis=0, dtype=dtypes.int32)


def _shift(axes: Axes) -> Axes:
    return tuple(d + 1 for d in axes)


def _gather_batch(
    axis: Any, args: Sequence[Any], batched: Sequence[bool], *, axes: Axes, **params: Any
) -> tuple[Any, bool]:
    x, *indices = args
    if not any(batched[1:]):
        out = gather(x, *indices, axes=_shift(axes), **params)
        k = len(indices[0].shape)  # the batch axis is the first of the other axes
        return _permute(out, (k, *range(k), *range(k + 1, len(out.shape)))), True
    indices = _batched_indices(axis, indices, batched[1:])
    if not batched[0]:
        return gather(x, *indices, axes=axes, **params), True
    return gather(x, _rows(axis, indices), *indices, axes=(0, *_shift(axes)), **params), True


def _scatter_batch(prim: Primitive) -> Callable[..., Any]:
    def batch(
        axis: Any, args: Sequence[Any], batched: Sequence[bool], *, axes: Axes, **params: Any
    ) -> tuple[Any, bool]:
        x, updates, *indices = args
        if not batched[0]:
            x = spread(x, axis.size)
        if not batched[1]:
            updates = spread(updates, axis.size)
        if any(batched[2:]):
            indices = _batched_indices(axis, indices, batched[2:])
            indices, axes = [_rows(axis, indices), *indices], (0, *_shift(axes))
        else:
            k = len(indices[0].shape)
            updates = _permute(updates, (*range(1, k + 1), 0, *range(k + 1, len(updates.shape))))
            axes = _shift(axes)
        return prim.bind(x, updates, *indices, axes=axes, **params), True

    return batch


# -------------------------------------------------------------------------------------- derivatives
def _gather_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, axes: Axes, mode: str, fill: Any = None
) -> tuple[Any, Any]:
    x, *indices = primals
    out = gather(x, *indices, axes=axes, mode=mode, fill=fill)
    if tangents[0] is None:
        return out, None
    return out, gather(tangents[0], *indices, axes=axes, mode=mode, fill=0)


def _gather_transpose(
    ct: Any, x: Any, *indices: Any, axes: Axes, mode: str, fill: Any = None
) -> list[Any]:
    out = scatter_add(zeros(x.aval), ct, *indices, axes=axes, mode=_TO_SCATTER[mode], unique=False)
    return [out, *(None for _ in indices)]


def _read(ct: Any, indices: Sequence[Any], axes: Axes, mode: str) -> Any:
    """Return the slices of ct that a scatter wrote, zero where it dropped the update."""
    return gather(ct, *indices, axes=axes, mode=_TO_GATHER[mode], fill=0)


def _scatter_transpose(
    ct: Any, x: Any, updates: Any, *indices: Any, axes: Axes, mode: str, unique: bool = False
) -> list[Any]:
    out: list[Any] = [None] * (2 + len(indices))
    shape = indices[0].shape
    if is_linear(updates):
        out[1] = _read(ct, indices, axes, mode)
        if not unique:
            stays = _last(aval_of(ct), indices, axes, mode)
            stays = broadcast_in_dim(stays, shape=out[1].shape, dims=tuple(range(len(shape))))
            out[1] = select(stays, out[1], zeros_like(out[1]))
    if is_linear(x):
        nothing = ShapedArray(
            (*shape, *(ct.shape[d] for d in _other_axes(len(ct.shape), axes))), ct.dtype
        )
        out[0] = scatter(ct, zeros(nothing), *indices, axes=axes, mode=mode, unique=unique)
    return out


def _last(aval: ShapedArray, indices: Sequence[Any], axes: Axes, mode: str) -> Any:
    """Return a bool array of shape B: whether no later update goes to the same position."""
    shape = indices[0].shape
    n = math.prod(shape)
    number = reshape(iota(shape=(n,), axis=0, dtype=dtypes.int32), shape=shape)
    number = add(number, full_like(number, 1))
    axes_of_board = tuple(range(len(axes)))
    board = zeros(ShapedArray(tuple(aval.shape[d] for d in axes), dtypes.int32))
    board = scatter(board, number, *indices, axes=axes_of_board, mode=mode, unique=False)
    return eq(_read(board, indices, axes_of_board, mode), number)


def _scatter_add_transpose(
    ct: Any, x: Any, updates: Any, *indices: Any, axes: Axes, mode: str, unique: bool = False
) -> list[Any]:
    return [
        ct if is_linear(x) else None,
        _read(ct, indices, axes, mode) if is_linear(updates) else None,
        *(None for _ in indices),
    ]


def _scatter_mul_transpose(
    ct: Any, x: Any, updates: Any, *indices: Any, **params: Any
) -> list[Any]:
    return [scatter_mul(ct, updates, *indices, **params), None, *(None for _ in indices)]


def _scatter_mul_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, axes: Axes, mode: str, unique: bool = False
) -> tuple[Any, Any]:
    """The derivative by an update is the product of x and the other updates at its position.

    Repeated indices and zero updates included; second derivatives need unique indices or updates
    that are not zero.
    """
    x, updates, *indices = primals
    tx, tu, *_ = tangents
    params = {"axes": axes, "mode": mode, "unique": unique}
    out = scatter_mul(x, updates, *indices, **params)
    terms = [None, None]
    if tx is not None:
        terms[0] = scatter_mul(tx, updates, *indices, **params)
    if tu is not None:
        if unique:
            others = _read(x, indices, axes, mode)
        else:
            others = _product_of_others(x, updates, indices, params)
        terms[1] = scatter_add(zeros_like(x), mul(tu, others), *indices, **params)
    return out, accumulate(terms)


def _product_of_others(x: Any, updates: Any, indices: Sequence[Any], params: dict[str, Any]) -> Any:
    one, zero = full_like(updates, 1), zeros_like(updates)
    is_zero = eq(updates, zero)
    rest = select(is_zero, one, updates)
    axes, mode = params["axes"], params["mode"]
    product = _read(scatter_mul(x, rest, *indices, **params), indices, axes, mode)
    count = scatter_add(zeros_like(x), select(is_zero, one, zero), *indices, **params)
    count = _read(count, indices, axes, mode)
    # Of the zeros at a position, all must be this update itself.
    alone = eq(count, select(is_zero, one, zero))
    return select(alone, div(product, rest), zero)


def _extremum_jvp(prim: Primitive) -> Callable[..., Any]:
    def jvp(
        primals: Sequence[Any],
        tangents: Sequence[Any],
        *,
        axes: Axes,
        mode: str,
        unique: bool = False,
    ) -> tuple[Any, Any]:
        """The tangent is the mean of the tangents of those that attain the extremum."""
        x, updates, *indices = primals
        params = {"axes": axes, "mode": mode, "unique": unique}
        out = prim.bind(x, updates, *indices, **params)
        wins = [
            _number(eq(x, out), x.dtype),
            _number(eq(updates, _read(out, indices, axes, mode)), x.dtype),
        ]
        parts = [
            zeros_like(w) if t is None else mul(w, t)
            for w, t in zip(wins, tangents[:2], strict=True)
        ]
        count = scatter_add(*wins, *indices, **params)
        return out, div(scatter_add(*parts, *indices, **params), count)

    return jvp


def _number(flag: Any, dtype: Any) -> Any:
    return convert(flag, dtype=dtype, weak_type=False)


# ----------------------------------------------------------------------------------- the primitives
gather_p = Primitive("gather", keeps_weak=True)
gather_p.weak_args = slice(1)
gather_p.type, gather_p.eager, gather_p.batch = _gather_type, _gather_eager, _gather_batch
gather_p.jvp, gather_p.transpose = _gather_jvp, _gather_transpose
gather = gather_p.bind


def _scatter(name: str, write: Callable[..., None], accumulates: bool) -> Primitive:
    prim = Primitive(name, keeps_weak=True)
    prim.weak_args = slice(1)
    prim.type, prim.eager = _scatter_type(name), _scatter_eager(write, accumulates)
    prim.batch = _scatter_batch(prim)
    return prim


scatter_p = _scatter("scatter", _write_set, False)
scatter_add_p = _scatter("scatter_add", _writer("add"), True)
scatter_mul_p = _scatter("scatter_mul", _writer("multiply"), True)
scatter_min_p = _scatter("scatter_min", _writer("minimum"), True)
scatter_max_p = _scatter("scatter_max", _writer("maximum"), True)

for _prim, _rule in ((scatter_p, _scatter_transpose), (scatter_add_p, _scatter_add_transpose)):
    _prim.jvp, _prim.transpose = linear_jvp(_prim, {0, 1}.__contains__), _rule
scatter_mul_p.jvp, scatter_mul_p.transpose = _scatter_mul_jvp, _scatter_mul_transpose
for _prim in (scatter_min_p, scatter_max_p):
    _prim.jvp = _extremum_jvp(_prim)
    _prim.none["transpose"] = NO_TRANSPOSE

scatter, scatter_add, scatter_mul = scatter_p.bind, scatter_add_p.bind, scatter_mul_p.bind
scatter_min, scatter_max = scatter_min_p.bind, scatter_max_p.bind
