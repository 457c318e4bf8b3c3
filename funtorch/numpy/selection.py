"""Choosing among arrays, and replacing elements by masks and positions."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import concrete_or_error
from funtorch.errors import InPlaceError, MismatchError
from funtorch.numpy import elementwise
from funtorch.numpy.creation import arange, ones
from funtorch.numpy.elementwise import imag, real, select
from funtorch.numpy.indexing import AtView, take, take_along_axis
from funtorch.numpy.manipulation import ravel, reshape, slice_axis
from funtorch.numpy.promotion import (
    asarray,
    broadcast,
    broadcast_to,
    canonical_axes,
    canonical_axis,
    convert,
    describe,
    no_out,
    promote,
    static_int,
    to_array,
)
from funtorch.numpy.sorting import argsort, lexsort, nonzero

__all__ = [
    "argpartition",
    "choose",
    "fill_diagonal",
    "mask_indices",
    "piecewise",
    "place",
    "put",
    "sort_complex",
    "trim_zeros",
]


def _not_in_place(name: str, inplace: bool) -> None:
    if inplace:
        raise InPlaceError(f"{name}: arrays are immutable: pass inplace=False and use the result")


def _index_mode(name: str, mode: Any, allowed: Sequence[Any]) -> None:
    if mode not in allowed:
        names = ", ".join(map(repr, allowed))
        raise ValueError(f"{name}: mode must be one of {names}, got {mode!r}")


def choose(a: Any, choices: Any, out: None = None, mode: str = "raise") -> Any:
    """Take each element from the array of choices that ``a`` names.

    Args:
        a: integer array.
        choices: arrays that broadcast with a and each other, or one array with a leading axis.
        out: must be None; arrays are immutable.
        mode: what numbers out of range do: 'raise' (not under jit), 'wrap' or 'clip'.

    Example:
        >>> choose(asarray([1, 0]), [asarray([1, 2]), asarray([10, 20])])
        Array([10,  2], dtype=int32)

    References:
        numpy.choose
    """
    no_out(out, "choose")
    _index_mode("choose", mode, ("raise", "wrap", "clip"))
    which = to_array(a, "choose", "a")
    if not dtypes.is_integer(which.dtype):
        raise MismatchError(f"choose: a must be integers, got {describe(which)}")
    arrays = list(choices) if isinstance(choices, (tuple, list)) else list(asarray(choices))
    if not arrays:
        raise ValueError("choose: at least one choice is needed")
    arrays = promote("choose", *[asarray(x) for x in arrays])
    n = len(arrays)
    if mode == "wrap":
        which = elementwise.remainder(which, n)
    elif mode == "clip":
        which = elementwise.clip(which, 0, n - 1)
    else:
        known = concrete_or_error(which, "the array a given to choose with mode='raise'")
        if ((known < 0) | (known >= n)).any():
            raise ValueError(f"choose: a has numbers outside of the {n} choices; pass mode='clip'")
    which, *arrays = broadcast("choose", which, *arrays)
    return select([elementwise.equal(which, k) for k in range(n)], arrays)


def piecewise(x: Any, condlist: Any, funclist: Sequence[Any], *args: Any, **kw: Any) -> Any:
    """Compute each element by the function of the last condition that holds.

    Args:
        x: array.
        condlist: bool arrays of the shape of x, or bools for all of it.
        funclist: functions or numbers, one per condition, and maybe one for where none holds
            (default 0).
        *args, **kw: passed on to the functions.

    Returns:
        An Array of the dtype of x.

    Example:
        >>> x = asarray([-1.0, 2.0])
        >>> piecewise(x, [x < 0, x >= 0], [lambda v: -v, 5])
        Array([1., 5.], dtype=float32)

    References:
        numpy.piecewise
    """
    x = to_array(x, "piecewise", "x")
    if not isinstance(condlist, (tuple, list)):
        conditions = asarray(condlist)
        single = conditions.ndim == x.ndim and len(funclist) <= 2
        condlist = [conditions] if single else list(conditions)
    elif condlist and builtins.all(isinstance(c, (bool, np.bool_)) for c in condlist):
        condlist = [asarray(condlist)] if x.ndim else condlist
    conditions = [convert(asarray(c), dtypes.bool_) for c in condlist]
    n = len(conditions)
    functions = list(funclist)
    if len(functions) == n:
        functions.append(0)
    if len(functions) != n + 1:
        raise ValueError(
            f"piecewise: {n} conditions need {n} functions, or one more; got {len(funclist)}"
        )
    *chosen, out = [
        convert(asarray(f(x, *args, **kw) if callable(f) else f), x.dtype) for f in functions
    ]
    for condition, value in zip(conditions, chosen, strict=True):
        out = elementwise.where(condition, value, out)
    return broadcast_to(out, x.shape)


def place(arr: Any, mask: Any, vals: Any, *, inplace: bool = True) -> Any:
    """Return a copy with values, repeated as needed, put where a mask holds.

    Args:
        arr: array.
        mask: array with as many elements.
        vals: vector.
        inplace: must be False; arrays are immutable.

    Example:
        >>> place(asarray([1, 2, 3]), asarray([True, False, True]), asarray([7, 8]), inplace=False)
        Array([7, 2, 8], dtype=int32)

    References:
        numpy.place
    """
    _not_in_place("place", inplace)
    x, chosen, values = to_array(arr, "place", "arr"), asarray(mask), ravel(asarray(vals))
    if chosen.size != x.size:
        raise ValueError(
            f"place: arr {describe(x)} and mask {describe(chosen)} must have as many elements"
        )
    if not values.size:
        if x.size:
            raise ValueError("place: vals must not be empty")
        return x
    (places,) = nonzero(ravel(chosen), size=x.size, fill_value=x.size)
    repeated = take(values, elementwise.remainder(arange(x.size), values.size), mode="clip")
    return reshape(ravel(x).at[places].set(convert(repeated, x.dtype), mode="drop"), x.shape)


def put(a: Any, ind: Any, v: Any, mode: str | None = None, *, inplace: bool = True) -> Any:
    """Return a copy with values, repeated as needed, at positions of the flattened array.

    Args:
        a: array.
        ind: integer array.
        v: values.
        mode: what positions out of range do: 'clip' (None too), or 'wrap'.
        inplace: must be False; arrays are immutable.

    Example:
        >>> put(asarray([1, 2, 3]), asarray([0, 2]), 9, inplace=False)
        Array([9, 2, 9], dtype=int32)

    References:
        numpy.put
    """
    _not_in_place("put", inplace)
    _index_mode("put", mode, (None, "wrap", "clip"))
    x, places, values = to_array(a, "put", "a"), ravel(asarray(ind)), ravel(asarray(v))
    if not places.size or not x.size:
        return x
    if not values.size:
        raise ValueError("put: v must not be empty")
    if mode == "wrap":
        places = elementwise.remainder(places, x.size)
    repeated = take(values, elementwise.remainder(arange(places.size), values.size), mode="clip")
    view = AtView(ravel(x), places)
    return reshape(view.set(convert(repeated, x.dtype), mode="clip"), x.shape)


def fill_diagonal(a: Any, val: Any, wrap: bool = False, *, inplace: bool = True) -> Any:
    """Return a copy with values on the main diagonal.

    Args:
        a: array of at least 2 axes; of more only if their sizes are equal.
        val: number, or values repeated along the diagonal.
        wrap: go on from the top of a tall matrix after each square block.
        inplace: must be False; arrays are immutable.

    Example:
        >>> fill_diagonal(ones((2, 2), int), 5, inplace=False)
        Array([[5, 1],
               [1, 5]], dtype=int32)

    References:
        numpy.fill_diagonal
    """
    _not_in_place("fill_diagonal", inplace)
    x, values = to_array(a, "fill_diagonal", "a"), ravel(asarray(val))
    if x.ndim < 2 or (x.ndim > 2 and len(set(x.shape)) > 1):
        raise ValueError(
            f"fill_diagonal: at least 2 axes, of one size if more, are needed, got {describe(x)}"
        )
    step = int(sum(np.prod(x.shape[k + 1 :], dtype=np.int64) for k in range(x.ndim)))
    end = x.size if wrap or x.ndim > 2 else min(x.size, x.shape[1] ** 2)
    places = np.arange(0, end, step, dtype=np.int32)
    if not places.size:
        return x
    if not values.size:
        raise ValueError("fill_diagonal: val must not be empty")
    repeated = values[np.arange(places.size) % values.size]
    flat = ravel(x).at[places].set(convert(repeated, x.dtype), unique_indices=True)
    return reshape(flat, x.shape)


def mask_indices(
    n: int, mask_func: Callable[[Any, int], Any], k: int = 0, *, size: int | None = None
) -> tuple[Any, ...]:
    """Return the indices of the part of an n x n matrix that a function such as `triu` keeps.

    Args:
        n: size of the matrix.
        mask_func: function of a matrix and k.
        k: passed on.
        size: number of indices to return.

    References:
        numpy.mask_indices
    """
    n, k = static_int(n, "mask_indices: n"), static_int(k, "mask_indices: k")
    return nonzero(mask_func(ones((n, n)), k), size=size)


def trim_zeros(filt: Any, trim: str = "fb", axis: int | Sequence[int] | None = None) -> Any:
    """Return an array without the zeros at its ends, whose values must be known.

    Args:
        filt: array.
        trim: 'f' for the front, 'b' for the back, or both.
        axis: axes to cut; None means all.

    Example:
        >>> trim_zeros(asarray([0, 1, 0, 2, 0]))
        Array([1, 0, 2], dtype=int32)

    References:
        numpy.trim_zeros
    """
    if not isinstance(trim, str) or set(trim.lower()) - set("fb"):
        raise ValueError(f"trim_zeros: trim must be made of 'f' and 'b', got {trim!r}")
    x = to_array(filt, "trim_zeros", "filt")
    axes = canonical_axes(axis, x.ndim, "trim_zeros")
    known = concrete_or_error(x, "the number of zeros, in trim_zeros,") != 0
    for k in axes:
        others = tuple(j for j in range(x.ndim) if j != k)
        found = np.flatnonzero(known.any(axis=others))
        n = x.shape[k]
        if not found.size:
            return slice_axis(x, k, 0, 0)
        start = int(found[0]) if "f" in trim.lower() else 0
        stop = int(found[-1]) + 1 if "b" in trim.lower() else n
        x = slice_axis(x, k, start, stop)
    return x


def argpartition(a: Any, kth: int, axis: int = -1) -> Any:
    """Return indices that put element ``kth`` where sorting does; here, they sort.

    Args:
        a: array.
        kth: position.
        axis: the axis.

    References:
        numpy.argpartition
    """
    x = to_array(a, "argpartition", "a")
    k = canonical_axis(axis, x.ndim, "argpartition")
    canonical_axis(kth, x.shape[k], "argpartition (kth)")
    return argsort(x, k)


def sort_complex(a: Any) -> Any:
    """Sort by real, then imaginary parts along the last axis; the result is complex.

    References:
        numpy.sort_complex
    """
    x = to_array(a, "sort_complex", "a")
    x = convert(x, dtypes.complex_dtype(x.dtype))
    if not x.ndim:
        raise ValueError(f"sort_complex: a must have at least 1 axis, got {describe(x)}")
    return take_along_axis(x, lexsort((imag(x), real(x))), -1, mode="clip")
