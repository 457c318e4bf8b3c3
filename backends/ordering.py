"""Sorting as a matter of unsigned integers: what `sort` is written in terms of.

Numbers become unsigned integers of the same order. One array alone is sorted as these. Several are
sorted by their keys side by side in one integer, the place of each element in the lowest bits: so
equal keys keep their order, and where to take the elements from can be read off. Keys too long for
64 bits go piece by piece, the least important first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.jaxpr import Eqn, Var
from funtorch.ops.elementwise import (
    bitcast,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    convert,
    eq,
    imag,
    ne,
    real,
    select,
    shift_left,
    shift_right_logical,
)
from funtorch.ops.families import full_like
from funtorch.ops.indexing import gather
from funtorch.ops.shape import iota, reshape, transpose
from funtorch.ops.sort import sort_bits

from .coverage import KINDS
from .plan import Sort

__all__ = ["by_bits", "order"]

_WIDEST = 64
Key = tuple[Any, int]
"""Unsigned integers, and how many of their bits may be other than 0."""


def order(eqn: Eqn) -> Sort:
    """Return the step of a `sort_bits`."""
    (x,), (out,), p = eqn.invars, eqn.outvars, eqn.params
    assert isinstance(x, Var)
    n = x.aval.shape[-1]
    return Sort(x, out, x.aval.size // n, n, p["low"], p["high"], p["tie"])


# ---------------------------------------------------------------------- numbers as integers
def _unsigned(width: int) -> np.dtype:
    return np.dtype(f"uint{width}")


def _shift(x: Any, places: int, left: bool = False) -> Any:
    if not places:
        return x
    return (shift_left if left else shift_right_logical)(x, full_like(x, places))


def _as(x: Any, dtype: np.dtype) -> Any:
    return x if x.dtype == dtype else convert(x, dtype=dtype, weak_type=False)


def _of_float(x: Any, zeros_tie: bool) -> Any:
    """Return integers in the order of floats, nan greatest.

    The sign bit of positive numbers is set; negative ones are turned around altogether.
    """
    width = 8 * x.dtype.itemsize
    bits = bitcast(x, dtype=_unsigned(width))
    sign, none = full_like(bits, 1 << (width - 1)), full_like(bits, 0)
    if zeros_tie:
        bits = select(eq(bits, sign), none, bits)
    negative = ne(bitwise_and(bits, sign), none)
    ordered = select(negative, bitwise_not(bits), bitwise_or(bits, sign))
    return select(ne(x, x), full_like(bits, (1 << width) - 1), ordered)


def _keys(x: Any, zeros_tie: bool = True) -> list[Key]:
    """Return what to sort by, the most important first."""
    dtype, width = x.dtype, 8 * x.dtype.itemsize
    if dtype == np.bool_:
        return [(_as(x, _unsigned(8)), 1)]
    if dtypes.is_complex(dtype):
        return [key for part in (real(x), imag(x)) for key in _keys(part)]
    if dtypes.is_float(dtype):
        return [(_of_float(x, zeros_tie), width)]
    if dtype.kind == "u":
        return [(x, width)]
    bits = bitcast(x, dtype=_unsigned(width))
    return [(bitwise_xor(bits, full_like(bits, 1 << (width - 1))), width)]


def _numbers(bits: Any, dtype: np.dtype) -> Any:
    """Return the numbers that were made integers by `_keys`, zeros being told apart."""
    width = 8 * dtype.itemsize
    if dtype == np.bool_:
        return _as(bits, dtype)
    bits = _as(bits, _unsigned(width))
    if dtype.kind == "u":
        return bits
    sign = full_like(bits, 1 << (width - 1))
    if dtype.kind == "i":
        return bitcast(bitwise_xor(bits, sign), dtype=dtype)
    positive = ne(bitwise_and(bits, sign), full_like(bits, 0))
    return bitcast(select(positive, bitwise_xor(bits, sign), bitwise_not(bits)), dtype=dtype)


# ---------------------------------------------------------------------- several arrays
def _halves(key: Key, most: int) -> list[Key]:
    """Cut a key that is too long for the room that there is."""
    x, bits = key
    if bits <= most:
        return [key]
    low = bits // 2
    mask = full_like(x, (1 << low) - 1)
    return [(_shift(x, low), bits - low), (bitwise_and(x, mask), low)]


def _pieces(keys: Sequence[Key], most: int) -> list[list[Key]]:
    """Return runs of keys that have room beside each other, the least important run first."""
    parts = [part for key in keys for part in _halves(key, most)]
    found: list[list[Key]] = [[]]
    for part in reversed(parts):
        if sum(bits for _, bits in found[-1]) + part[1] > most:
            found.append([])
        found[-1].insert(0, part)
    return found


def _places(x: Any, where: Any) -> list[Any]:
    """Return the indices that take from the rows of a matrix what is at these places of each."""
    return [iota(shape=where.aval.shape, axis=0, dtype=where.dtype), where]


def _taken(x: Any, where: Any) -> Any:
    return gather(x, *_places(x, where), axes=(0, 1), mode="promise", fill=0)


def _packed(run: Sequence[Key], room: int, shape: tuple[int, ...]) -> tuple[Any, int]:
    """Return the keys of a run side by side above the places, and the end of their bits."""
    high = room + sum(bits for _, bits in run)
    dtype = _unsigned(32 if high <= 32 else 64)
    packed, at = iota(shape=shape, axis=1, dtype=dtype), room
    for x, bits in reversed(run):
        packed = bitwise_or(packed, _shift(_as(x, dtype), at, left=True))
        at += bits
    return packed, high


def _argsort(keys: Sequence[Key], shape: tuple[int, ...]) -> tuple[Any, Any, int]:
    """Return the places that sort the rows of matrices, the last run sorted, and its low bits."""
    n = shape[1]
    room = max((n - 1).bit_length(), 1)
    index = np.dtype("int32" if n < 1 << 31 else "int64")
    where = packed = None
    for run in _pieces(keys, _WIDEST - room):
        if where is not None:
            run = [(_taken(x, where), bits) for x, bits in run]
        packed, high = _packed(run, room, shape)
        packed = sort_bits(packed, low=room, high=high, tie=None)
        step = _as(bitwise_and(packed, full_like(packed, (1 << room) - 1)), index)
        where = step if where is None else _taken(where, step)
    return where, packed, room


def _alone(x: Any) -> Any:
    """Sort the rows of a matrix."""
    ((key, bits),) = _keys(x, zeros_tie=False)
    zero = (1 << (bits - 1)) - 1  # what -0.0 becomes
    tie = zero if dtypes.is_float(x.dtype) else None
    return _numbers(sort_bits(key, low=0, high=bits, tie=tie), x.dtype)


def _together(xs: Sequence[Any], num_keys: int) -> list[Any]:
    """Sort the rows of matrices by the first of them."""
    if len(xs) == 1 and not dtypes.is_complex(xs[0].dtype):
        return [_alone(xs[0])]
    keys = [key for x in xs[:num_keys] for key in _keys(x)]
    where, packed, room = _argsort(keys, xs[0].aval.shape)
    out = [_taken(x, where) for x in xs]
    # What was sorted by is there already, unless it lost the sign of its zeros.
    if len(keys) == 1 and keys[0][1] + room <= _WIDEST and xs[0].dtype.kind in "biu":
        out[0] = _numbers(_shift(packed, room), xs[0].dtype)
    return out


def by_bits(eqn: Eqn) -> Callable[..., Any] | None:
    """Return a sort, written as one of unsigned integers along the last of two axes."""
    aval, axis, num_keys = eqn.invars[0].aval, eqn.params["axis"], eqn.params["num_keys"]
    if any(v.aval.dtype not in KINDS for v in eqn.invars):
        return None
    shape, n = aval.shape, aval.shape[axis]
    last = (*(k for k in range(aval.ndim) if k != axis), axis)
    moved = math.prod(shape[axis + 1 :]) > 1
    back = tuple(last.index(k) for k in range(aval.ndim))

    def rows(x: Any) -> Any:
        return reshape(transpose(x, perm=last) if moved else x, shape=(aval.size // n, n))

    def whole(x: Any) -> Any:
        if not moved:
            return reshape(x, shape=shape)
        x = reshape(x, shape=tuple(shape[k] for k in last))
        return transpose(x, perm=back)

    def sort(*xs: Any) -> list[Any]:
        if n == 1:
            return list(xs)
        return [whole(x) for x in _together([rows(x) for x in xs], num_keys)]

    return sort
