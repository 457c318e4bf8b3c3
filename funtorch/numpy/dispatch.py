"""How an elementwise function meets its arguments: one mechanism for one argument, one for two.

Eager calls on arrays of a dtype that the NumPy ufunc takes as it is go straight to the ufunc,
which broadcasts by itself. All other calls promote and broadcast first and then apply the strict
function, which is written with primitives.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.config import config
from funtorch.core import Array, ArrayImpl, Eval, _state, eval_trace, primitives
from funtorch.numpy.direct import LARGE
from funtorch.numpy.promotion import (
    SCALARS,
    broadcast,
    convert,
    from_protocol,
    is_eager,
    own,
    quiet,
    to_array,
)
from funtorch.numpy.strictness import check_dtypes
from funtorch.tracebacks import hide_frames, self_bounded

__all__ = ["OPERANDS", "OPERATORS", "binary", "not_an_operand", "refuse", "strict_of", "unary"]

_ndarray = np.ndarray
_FLOATS = frozenset({dtypes.float16, dtypes.float32, dtypes.float64})
_COMPLEX = frozenset({dtypes.complex64, dtypes.complex128})
_INTS = frozenset(filter(dtypes.is_integer, dtypes.ALL))
_INEXACT = _FLOATS | _COMPLEX | {dtypes.bfloat16}
_NUMBERS = _INTS | _INEXACT
_NONE: frozenset[Any] = frozenset()


def _bits_dtype(dtype: Any) -> Any:
    if dtypes.is_inexact(dtype):
        raise TypeError(f"bitwise functions and shifts take integers or bool, got {dtype}")
    return dtype


_ALL = _NUMBERS | {dtypes.bool_}
# policy: (what becomes of the common dtype, the dtypes that it leaves as they are)
_POLICIES: dict[str, tuple[Callable[[Any], Any], frozenset[Any]]] = {
    "any": (lambda d: d, _ALL),
    "number": (lambda d: dtypes.default_int() if d == dtypes.bool_ else d, _NUMBERS),
    "inexact": (dtypes.to_inexact, _INEXACT),
    "bits": (_bits_dtype, _INTS | {dtypes.bool_}),
    "shift": (lambda d: dtypes.default_int() if d == dtypes.bool_ else _bits_dtype(d), _INTS),
    "bool": (lambda d: dtypes.bool_, frozenset({dtypes.bool_})),
}
# What a ufunc takes as it is beside those: numbers are their own truth values.
_ALSO = {"bool": _ALL - {dtypes.bfloat16}}
# Python scalar type -> dtypes of arrays that absorb it, as both NumPy and JAX have it.
_SYMBOLS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "floor_divide": "//",
    "remainder": "%", "power": "**", "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^",
    "left_shift": "<<", "right_shift": ">>", "equal": "==", "not_equal": "!=", "less": "<",
    "less_equal": "<=", "greater": ">", "greater_equal": ">=",
}  # fmt: skip
_CONTAINERS = (list, tuple, set, dict)
_SMALL = _INTS - {dtypes.int32, dtypes.int64}
_ABSORBS = {int: _INTS | _FLOATS | _COMPLEX, float: _FLOATS | _COMPLEX, complex: _COMPLEX}


# What NumPy computes element by element, ten times slower than compiled code: 16-bit floats and
# complex numbers, and for some functions floats, too.
_SLOW = {
    **dict.fromkeys(("sin", "cos", "tanh"), frozenset({dtypes.float64})),
    **dict.fromkeys(("arccosh", "floor_divide", "fmod", "hypot", "remainder"), _FLOATS),
    **dict.fromkeys(("logaddexp", "logaddexp2", "nextafter"), _FLOATS),
}


def _slow(name: str) -> frozenset[Any]:
    """Return the dtypes of which large arrays go through a compiled program."""
    return _SLOW.get(name, _NONE) | _COMPLEX | {dtypes.float16}


def strict_of(name: str, on_bool: str | None = None) -> Callable[..., Any]:
    """Return the strict function of a primitive, or of another one for bool arrays."""
    prim = primitives[name]
    if on_bool is None:
        return prim.bind
    logical = primitives[on_bool]

    def strict(*xs: Any) -> Any:
        return (logical if xs[0].dtype == dtypes.bool_ else prim).bind(*xs)

    return strict


# ---------------------------------------------------------------------------------------- mechanism
def unary(
    name: str, strict: Callable[..., Any], ufunc: Any, policy: str, keep: bool, doc: str
) -> Any:
    to_dtype, settled = _POLICIES[policy]
    fast = _NONE if ufunc is None else settled | _ALSO.get(policy, _NONE)

    slow = _slow(name)

    def general(x: Any) -> Any:
        x = to_array(x, name)
        dtype, weak = x.dtype, x.weak_type
        if dtype not in settled or (weak and not keep):
            x = convert(x, to_dtype(dtype), keep and weak)
        if type(x) is ArrayImpl and x.dtype in fast and _state.trace is eval_trace:
            try:
                return ArrayImpl(own(quiet.run(ufunc, x._data)), keep and x._weak)
            except TypeError:
                return strict(x)  # NumPy has no loop for the dtype
        return strict(x)

    def function(x: Any) -> Any:
        try:
            if type(x) is ArrayImpl and _state.trace is eval_trace:
                data = x._data
                if data.dtype in fast:
                    if data.dtype in slow and data.size >= LARGE:
                        whole = Eval.compiled(general, (x,), _NO_OPTIONS)
                        if whole is not NotImplemented:
                            return whole
                    try:
                        out = quiet.run(ufunc, data)
                    except TypeError:
                        return general(x)
                    return ArrayImpl(out if type(out) is _ndarray else own(out), keep and x._weak)
            return general(x)
        except Exception as error:
            hide_frames(error)
            raise

    return _named(function, name, f"{doc}.\n\n    References:\n        numpy.{name}\n    ")


# Dtypes of pairs of arrays that go to NumPy at once, by function: now, and where nobody asks for a
# look at their ranks.
_pairs: list[tuple[set[Any], frozenset[Any]]] = []


def _rank_promotion_changed() -> None:
    free = config.numpy_rank_promotion == "allow"
    for now, always in _pairs:
        now.clear()
        now.update(always if free else _NONE)


config.watch("numpy_rank_promotion", _rank_promotion_changed)


def binary(
    name: str, strict: Callable[..., Any], ufunc: Any, policy: str, keep: bool, doc: str
) -> Any:
    """Return the function of a row; leave in OPERATORS the twin that gives up on other types."""
    to_dtype, settled = _POLICIES[policy]
    always = _NONE if ufunc is None else settled | _ALSO.get(policy, _NONE)
    fast = set(always)
    _pairs.append((fast, always))
    absorbs = {kind: always & into for kind, into in _ABSORBS.items()}
    if policy == "any" and not keep:
        # NumPy compares an int that a small dtype cannot hold as it is; here it wraps first.
        absorbs[int] -= _SMALL
    get = absorbs.get
    slow = _slow(name)

    def general(x: Any, y: Any) -> Any:
        if y is _ABSENT:
            raise TypeError(f"{name} takes 2 arguments, got 1")
        if type(x) is int or type(y) is int:
            check_small(name, x, y)
        x, y = to_array(x, name, "x1"), to_array(y, name, "x2")
        dtype, weak = x.dtype, x.weak_type
        if y.dtype is not dtype or y.weak_type != weak or dtype not in settled:
            if config.numpy_dtype_promotion == "strict":
                check_dtypes(name, (x, y))
            dtype, weak = dtypes.promote(dtype, weak, y.dtype, y.weak_type)
            dtype = to_dtype(dtype)
            x, y = convert(x, dtype, weak), convert(y, dtype, weak)
        if dtype in fast and is_eager(x, y):
            try:
                return ArrayImpl(own(quiet.run(ufunc, x._data, y._data)), keep and weak)
            except (TypeError, ValueError):  # no loop for the dtype, or no shape for both
                return strict(*broadcast(name, x, y))
        if x.shape != y.shape:
            x, y = broadcast(name, x, y)
        return strict(x, y)

    def operator_general(x: Any, y: Any) -> Any:
        if isinstance(x, OPERANDS) and isinstance(y, OPERANDS):
            return general(x, y)
        x, y = from_protocol(x), from_protocol(y)
        if isinstance(x, OPERANDS) and isinstance(y, OPERANDS):
            return general(x, y)
        return not_an_operand(name, x, y)

    def make(fallback: Callable[..., Any]) -> Any:
        def function(x1: Any, x2: Any = _ABSENT, *, out: Any = None, where: Any = None) -> Any:
            try:
                if out is not None or where is not None:
                    refuse(name, out=out, where=where)
                if _state.trace is not eval_trace:
                    return fallback(x1, x2)
                if type(x1) is ArrayImpl:
                    a = x1._data
                    if type(x2) is ArrayImpl:
                        b = x2._data
                        dtype = a.dtype
                        if dtype is not b.dtype or dtype not in fast:
                            return fallback(x1, x2)
                        weak = keep and x1._weak and x2._weak
                    else:
                        b, dtype = x2, a.dtype
                        if dtype not in get(type(b), _NONE):
                            return fallback(x1, x2)
                        weak = keep and x1._weak
                elif type(x2) is ArrayImpl:
                    a, b = x1, x2._data
                    dtype = b.dtype
                    if dtype not in get(type(a), _NONE):
                        return fallback(x1, x2)
                    weak = keep and x2._weak
                else:
                    return fallback(x1, x2)
                if dtype in slow and (np.size(a) >= LARGE or np.size(b) >= LARGE):
                    whole = Eval.compiled(general, (x1, x2), _NO_OPTIONS)
                    if whole is not NotImplemented:
                        return whole
                try:
                    out = quiet.run(ufunc, a, b)
                except (TypeError, ValueError, OverflowError):
                    return fallback(x1, x2)
                return ArrayImpl(out if type(out) is _ndarray else own(out), weak)
            except Exception as error:
                hide_frames(error)
                raise

        function.__signature__ = _OF_TWO  # type: ignore[attr-defined]
        return function

    doc = (
        f"{doc}.\n\n    Args broadcast against each other and are promoted to a common dtype.\n\n"
        f"    References:\n        numpy.{name}\n    "
    )
    OPERATORS[name] = _named(make(operator_general), name, doc)
    return _named(make(general), name, doc)


def not_an_operand(name: str, x: Any, y: Any) -> Any:
    """Say that Python may ask the other operand; but it asks no list, whose answer would mislead.

    By itself it would compare identities, and repeat a tuple as often as an integer array says.
    """
    if isinstance(x, _CONTAINERS) or isinstance(y, _CONTAINERS):
        raise TypeError(
            f"unsupported operand type(s) for {_SYMBOLS[name]}: {type(x).__name__!r} and "
            f"{type(y).__name__!r}; convert the container with funtorch.numpy.asarray first"
        )
    return NotImplemented


def check_small(name: str, *xs: Any) -> None:
    """Refuse a Python int of more than 32 bits beside an array whose dtype cannot hold it.

    A smaller one wraps, in jitted programs too.
    """
    for x in xs:
        if type(x) is int and not -(2**31) <= x < 2**31:
            other = next((y for y in xs if isinstance(y, Array)), None)
            if other is not None and not _holds(other.dtype, x):
                raise OverflowError(
                    f"{name}: the Python int {x} does not fit into {other.dtype}, the dtype of the "
                    "array beside it; convert the array first, such as by x.astype('int64')"
                )


def _holds(dtype: Any, x: int) -> bool:
    return not dtypes.is_integer(dtype) or dtypes.iinfo(dtype).min <= x <= dtypes.iinfo(dtype).max


def refuse(name: str, **given: Any) -> None:
    """Refuse options of NumPy's ufuncs that write into an array."""
    for option, value in given.items():
        if value is not None and value is not True:
            raise NotImplementedError(
                f"{name}: {option}= is not supported: arrays are immutable; use the result, and "
                "funtorch.numpy.where(condition, result, other)"
            )


def _of_two(x1: Any, x2: Any) -> Any: ...


_OF_TWO = inspect.signature(_of_two)
_ABSENT: Any = object()
_NO_OPTIONS: dict[str, Any] = {}


def _named(function: Any, name: str, doc: str) -> Any:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return self_bounded(function)


OPERATORS: dict[str, Callable[..., Any]] = {}
OPERANDS = (Array, np.ndarray, *SCALARS)
