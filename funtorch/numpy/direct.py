"""Eager calls go straight to NumPy where its function gives what ours gives.

A function of NumPy's name does more than NumPy: it takes tracers, weak numbers, other dtypes, and
explains what is wrong. `direct` puts NumPy's function before ours, for concrete arrays of dtypes
for which both are the same; whatever NumPy refuses goes to ours, whose messages say why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl, Eval, _state, eval_trace
from funtorch.tracebacks import hide_frames, like, self_bounded

__all__ = [
    "ALL",
    "FLOATS",
    "INTEGERS",
    "LARGE",
    "NUMBERS",
    "SORTED",
    "alike",
    "bounded",
    "choice",
    "compiled_from",
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

SORTED = 1 << 13
"""Elements from which sorting and looking up sorted values are compiled."""

LARGE = 1 << 16
"""Elements of an array from which eager functions that NumPy is slow at, or that are several of its
functions, run as compiled programs: they take longer than a tenth of a millisecond then."""

F = TypeVar("F", bound=Callable[..., Any])
_Dtypes = frozenset[Any]
_PLAIN = frozenset({int, bool, tuple, type(None)})
_ABSORBED = frozenset({int, float, type(None)})
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
    if type(arrays) is not list and type(arrays) is not tuple:
        return None
    found: list[np.ndarray] = []
    dtype = None
    for x in arrays:
        if type(x) is not ArrayImpl or x._weak:
            return None
        data = x._data
        if dtype is not data.dtype:
            if dtype is not None or data.dtype not in fits or type(data) is not _ndarray:
                return None
            dtype = data.dtype
        found.append(data)
    if len(args) == 1:
        return (found,) if found else None
    return (found, *args[1:]) if found and _are_plain(map(type, args[1:])) else None


def bounded(args: tuple[Any, ...], fits: _Dtypes) -> _Taken:
    """Take an array, then arrays of its dtype, numbers that it absorbs, and None."""
    x = args[0]
    if type(x) is not ArrayImpl or x._weak:
        return None
    found = [x._data]
    dtype = found[0].dtype
    absorbed = _PLAIN if dtype in INTEGERS else _ABSORBED
    for y in args[1:]:
        if type(y) is ArrayImpl and not y._weak and y._data.dtype is dtype:
            found.append(y._data)
        elif type(y) in absorbed and type(y) is not bool:
            found.append(y)
        else:
            return None
    return tuple(found) if dtype in fits and type(found[0]) is _ndarray else None


def direct(
    numpy_function: Callable[..., Any],
    fits: _Dtypes = ALL,
    take: Callable[[tuple[Any, ...], _Dtypes], _Taken] | None = None,
    large: int = 0,
) -> Callable[[F], F]:
    """Let eager calls on arrays go to a function of NumPy first.

    Errors that leave the function lose the package's frames, as at a boundary.

    Args:
        numpy_function: takes positions and names as the decorated function does; what it refuses
            by a TypeError, ValueError or IndexError goes to that.
        fits: dtypes of arrays for which both give the same.
        take: gives the arguments for NumPy, or None for those that are none of its business; by
            default one array, and then axes, shapes and flags.
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
        if take is None:
            return _of_one(function, numpy_function, fits, large)
        return _of_several(function, numpy_function, fits, take, large)

    return decorate


_REFUSED = (TypeError, ValueError, IndexError, OverflowError)
_NOTHING: Any = object()


def _wrapped(out: Any) -> Any:
    """Return what NumPy gave, an array, a number or several, as ours."""
    if type(out) is tuple:
        return tuple([ArrayImpl(_asarray(part)) for part in out])
    return ArrayImpl(_asarray(out))


def _of_one(function: F, numpy_function: Callable[..., Any], fits: _Dtypes, large: int) -> F:
    state, now, concrete, array, evaluation = _state, eval_trace, ArrayImpl, _ndarray, Eval
    wrapped, refused, plain, nothing, hide = _wrapped, _REFUSED, _are_plain, _NOTHING, hide_frames

    def eager_first(x: Any = nothing, /, *args: Any, **options: Any) -> Any:
        try:
            if type(x) is concrete and state.trace is now and not x._weak:
                data = x._data
                given = args or options
                simple = not given or plain(map(type, (*args, *options.values())))
                if large and simple and type(data) is array and data.size >= large:
                    whole = evaluation.compiled(function, (x, *args), options)
                    if whole is not NotImplemented:
                        return whole
                if simple and type(data) is array and data.dtype in fits:
                    try:
                        if given:
                            out = state.quiet(numpy_function, data, *args, **options)
                        else:
                            out = state.quiet(numpy_function, data)
                    except refused:
                        return function(x, *args, **options)
                    return concrete(out) if type(out) is array else wrapped(out)
            if x is nothing:
                return function(*args, **options)
            return function(x, *args, **options)
        except Exception as error:
            hide(error)
            raise

    return self_bounded(like(function, eager_first))


def _of_several(
    function: F,
    numpy_function: Callable[..., Any],
    fits: _Dtypes,
    take: Callable[[tuple[Any, ...], _Dtypes], _Taken],
    large: int,
) -> F:
    state, now, concrete, array, evaluation = _state, eval_trace, ArrayImpl, _ndarray, Eval
    wrapped, refused, plain, hide = _wrapped, _REFUSED, _are_plain, hide_frames

    def eager_first(*args: Any, **options: Any) -> Any:
        try:
            if state.trace is now and args:
                taken = take(args, fits)
                if taken is not None and (not options or plain(map(type, options.values()))):
                    if large and taken[0].size >= large:
                        whole = evaluation.compiled(function, args, options)
                        if whole is not NotImplemented:
                            return whole
                    try:
                        out = state.quiet(numpy_function, *taken, **options)
                    except refused:
                        return function(*args, **options)
                    return concrete(out) if type(out) is array else wrapped(out)
            return function(*args, **options)
        except Exception as error:
            hide(error)
            raise

    return self_bounded(like(function, eager_first))


def compiled_from(least: int, repeats: bool = True) -> Callable[[F], F]:
    """Let eager calls on arrays of so many elements run as one compiled program, not operation by
    operation.

    What is neither an array nor a float among the arguments is a part of the program.

    Args:
        least: elements of the first argument.
        repeats: whether calls on fewer run as one function of NumPy arrays once they have come
            often; not where the decorated function finds one for concrete arrays itself.
    """
    state, now, concrete, evaluation, hide = _state, eval_trace, ArrayImpl, Eval, hide_frames

    def decorate(function: F) -> F:
        def as_one(*args: Any, **kwargs: Any) -> Any:
            try:
                if state.trace is now and args:
                    x = args[0]
                    if type(x) is concrete:
                        done = NotImplemented
                        if x._data.size >= least:
                            done = evaluation.compiled(function, args, kwargs)
                        elif repeats:
                            done = evaluation.repeated(function, args, kwargs)
                        if done is not NotImplemented:
                            return done
                return function(*args, **kwargs)
            except Exception as error:
                hide(error)
                raise

        return self_bounded(like(function, as_one))

    return decorate


compiled_if_large = compiled_from(LARGE)
