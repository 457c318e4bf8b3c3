"""Eager calls go straight to NumPy where its function gives what ours gives.

A function of NumPy's name does more than NumPy: it takes tracers, weak numbers, other dtypes, and
explains what is wrong. `direct` puts NumPy's function before ours, for concrete arrays of dtypes
for which both are the same; whatever NumPy refuses goes to ours, whose messages say why.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl, Eval, _state, eval_trace

__all__ = [
    "ALL",
    "FLOATS",
    "INTEGERS",
    "LARGE",
    "NUMBERS",
    "alike",
    "choice",
    "compiled_if_large",
    "direct",
    "first",
    "indexed",
    "measured",
    "pair",
    "sequence",
]

ALL = frozenset(dtypes.ALL)
FLOATS = frozenset({dtypes.float32, dtypes.float64})
"""The dtypes in which NumPy computes and adds up as we do."""
INTEGERS = frozenset(filter(dtypes.is_integer, dtypes.ALL))
NUMBERS = FLOATS | INTEGERS

LARGE = 1 << 16
"""Elements of an array from which eager functions that NumPy is slow at, or that are several of its
functions, run as compiled programs: they take longer than a tenth of a millisecond then."""

F = TypeVar("F", bound=Callable[..., Any])
_Dtypes = frozenset[Any]
_PLAIN = frozenset({int, bool, tuple, type(None)})
_ndarray, _asarray = np.ndarray, np.asarray
_Taken = tuple[Any, ...] | None


def _are_plain(types: Iterable[type]) -> bool:
    return _PLAIN.issuperset(types)


def first(args: tuple[Any, ...], fits: _Dtypes) -> _Taken:
    """Take one array, then axes, shapes and flags."""
    x = args[0]
    if type(x) is ArrayImpl and not x._weak and _are_plain(map(type, args[1:])):
        data = x._data
        if type(data) is _ndarray and data.dtype in fits:
            return (data, *args[1:])
    return None


def pair(args: tuple[Any, ...], fits: _Dtypes) -> _Taken:
    """Take two arrays of one dtype."""
    if len(args) == 2:
        x, y = args
        if type(x) is ArrayImpl and type(y) is ArrayImpl and not x._weak and not y._weak:
            a, b = x._data, y._data
            if type(a) is _ndarray and type(b) is _ndarray and a.dtype is b.dtype in fits:
                return a, b
    return None


def alike(args: tuple[Any, ...], fits: _Dtypes) -> _Taken:
    """Take arrays of one dtype, as many as come."""
    found, dtype = [], None
    for x in args:
        if type(x) is not ArrayImpl or x._weak:
            return None
        data = x._data
        if dtype is None:
            dtype = data.dtype
        if type(data) is not _ndarray or data.dtype is not dtype:
            return None
        found.append(data)
    return tuple(found) if dtype in fits else None


def measured(args: tuple[Any, ...], fits: _Dtypes) -> _Taken:
    """Take an array, a Python number, then axes and flags."""
    if len(args) > 1 and type(args[1]) in (float, int):
        taken = first((args[0], *args[2:]), fits)
        if taken is not None:
            return (taken[0], args[1], *taken[1:])
    return None


def indexed(args: tuple[Any, ...], fits: _Dtypes) -> _Taken:
    """Take an array, an array of integers, then axes and flags."""
    if len(args) > 1 and type(args[1]) is ArrayImpl:
        taken = first((args[0], *args[2:]), fits)
        index = args[1]._data
        if taken is not None and type(index) is _ndarray and index.dtype in INTEGERS:
            return (taken[0], index, *taken[1:])
    return None


def choice(args: tuple[Any, ...], fits: _Dtypes) -> _Taken:
    """Take an array of bools, and two arrays of one dtype or a number that it absorbs."""
    if len(args) != 3 or type(args[0]) is not ArrayImpl:
        return None
    mask, dtype = args[0]._data, None
    found: list[Any] = []
    for x in args[1:]:
        if type(x) is ArrayImpl and not x._weak and type(x._data) is _ndarray:
            if dtype is not None and x._data.dtype is not dtype:
                return None
            dtype = x._data.dtype
            found.append(x._data)
        elif type(x) is float:
            found.append(x)
        else:
            return None
    absorbed = dtype in FLOATS or (dtype in fits and float not in map(type, found))
    return (mask, *found) if absorbed and mask.dtype is dtypes.bool_ else None


def sequence(args: tuple[Any, ...], fits: _Dtypes) -> _Taken:
    """Take a sequence of arrays of one dtype, then axes and flags."""
    arrays = args[0]
    if type(arrays) in (list, tuple) and arrays and _are_plain(map(type, args[1:])):
        found, dtype = [], None
        for x in arrays:
            if type(x) is not ArrayImpl or x._weak:
                return None
            data = x._data
            if dtype is None:
                dtype = data.dtype
            if type(data) is not _ndarray or data.dtype is not dtype:
                return None
            found.append(data)
        if dtype in fits:
            return (found, *args[1:])
    return None


def direct(
    numpy_function: Callable[..., Any],
    fits: _Dtypes = ALL,
    take: Callable[[tuple[Any, ...], _Dtypes], _Taken] = first,
    large: int = 0,
) -> Callable[[F], F]:
    """Let eager calls on arrays go to a function of NumPy first.

    Args:
        numpy_function: takes positions and names as the decorated function does; what it refuses
            by a TypeError, ValueError or IndexError goes to that.
        fits: dtypes of arrays for which both give the same.
        take: gives the arguments for NumPy, or None for those that are none of its business.
        large: elements of the first array from which the decorated function is compiled instead;
            0: never.

    Returns:
        a decorator.

    Example:
        >>> import funtorch.numpy as fnp
        >>> double = direct(lambda x: x * 2)(lambda x: "not an array")
        >>> double(fnp.arange(2)), double([0, 1])
        (Array([0, 2], dtype=int32), 'not an array')
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def eager_first(*args: Any, **kwargs: Any) -> Any:
            if _state.trace is eval_trace and args:
                taken = take(args, fits)
                if taken is not None and (not kwargs or _are_plain(map(type, kwargs.values()))):
                    if large and taken[0].size >= large:
                        whole = Eval.compiled(function, args, kwargs)
                        if whole is not NotImplemented:
                            return whole
                    try:
                        out = _state.quiet(numpy_function, *taken, **kwargs)
                    except (TypeError, ValueError, IndexError, OverflowError):
                        return function(*args, **kwargs)
                    if type(out) is tuple:
                        return tuple([ArrayImpl(_asarray(part)) for part in out])
                    return ArrayImpl(out if type(out) is _ndarray else _asarray(out))
            return function(*args, **kwargs)

        return eager_first  # type: ignore[return-value]

    return decorate


def compiled_if_large(function: F) -> F:
    """Let eager calls on large arrays run as one compiled program, not operation by operation.

    What is neither an array nor a float among the arguments is a part of the program.
    """

    @functools.wraps(function)
    def whole_if_large(*args: Any, **kwargs: Any) -> Any:
        if _state.trace is eval_trace and args:
            x = args[0]
            if type(x) is ArrayImpl and x._data.size >= LARGE:
                done = Eval.compiled(function, args, kwargs)
                if done is not NotImplemented:
                    return done
        return function(*args, **kwargs)

    return whole_if_large  # type: ignore[return-value]
