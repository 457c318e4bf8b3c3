"""Arrays as text and as files: how they print, and NumPy's formats."""

from __future__ import annotations

import os
from typing import IO, Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl, Tracer, concrete_or_error
from funtorch.numpy.promotion import asarray, to_array

__all__ = [
    "array_repr",
    "array_str",
    "fromstring",
    "get_printoptions",
    "iterable",
    "load",
    "printoptions",
    "save",
    "savez",
    "set_printoptions",
]

get_printoptions = np.get_printoptions
set_printoptions = np.set_printoptions
printoptions = np.printoptions


def _with_options(x: Any, render: Any, *options: Any) -> str:
    names = ("linewidth", "precision", "suppress")
    given = {n: v for n, v in zip(names, options, strict=True) if v is not None}
    with np.printoptions(**given):
        return render(x)


def array_repr(
    arr: Any,
    max_line_width: int | None = None,
    precision: int | None = None,
    suppress_small: bool | None = None,
) -> str:
    """Return the representation of an array.

    Args:
        arr: array.
        max_line_width, precision, suppress_small: replace the printing options.

    Example:
        >>> array_repr(asarray([1, 2]))
        'Array([1, 2], dtype=int32)'

    References:
        numpy.array_repr
    """
    x = to_array(arr, "array_repr", "arr")
    return _with_options(x, repr, max_line_width, precision, suppress_small)


def array_str(
    a: Any,
    max_line_width: int | None = None,
    precision: int | None = None,
    suppress_small: bool | None = None,
) -> str:
    """Return the values of an array as text; arguments as for `array_repr`.

    Example:
        >>> array_str(asarray([1, 2]))
        '[1 2]'

    References:
        numpy.array_str
    """
    x = to_array(a, "array_str", "a")
    return _with_options(x, str, max_line_width, precision, suppress_small)


def fromstring(string: str, dtype: Any = float, count: int = -1, *, sep: str) -> Any:
    """Make a vector of the numbers in a text.

    Args:
        string: numbers with separators between them.
        dtype: dtype of the result.
        count: how many to read; -1 for all.
        sep: the separator.

    Example:
        >>> fromstring("1 2 3", int, sep=" ")
        Array([1, 2, 3], dtype=int32)

    References:
        numpy.fromstring
    """
    return asarray(np.fromstring(string, dtypes.canonical(dtype), count, sep=sep))


def iterable(y: Any) -> bool:
    """Tell whether an object can be iterated over.

    References:
        numpy.iterable
    """
    try:
        iter(y)
    except TypeError:
        return False
    return True


def _values(x: Any, what: str) -> np.ndarray:
    return np.asarray(concrete_or_error(x, what) if isinstance(x, (ArrayImpl, Tracer)) else x)


def save(file: str | os.PathLike[str] | IO[bytes], arr: Any, allow_pickle: bool = True) -> None:
    """Write an array in NumPy's format .npy.

    Args:
        file: path, or file open for bytes.
        arr: array; its value must be known.
        allow_pickle: accepted for NumPy's sake: arrays hold no objects.

    References:
        numpy.save
    """
    np.save(file, _values(arr, "the array given to save"), allow_pickle=allow_pickle)


def savez(
    file: str | os.PathLike[str] | IO[bytes], *args: Any, allow_pickle: bool = True, **kwds: Any
) -> None:
    """Write several arrays in NumPy's format .npz.

    Args:
        file: path, or file open for bytes.
        *args, **kwds: arrays, stored under arr_0, arr_1 ... and under their names.
        allow_pickle: accepted for NumPy's sake.

    References:
        numpy.savez
    """
    what = "an array given to savez"
    named = {name: _values(x, what) for name, x in kwds.items()}
    np.savez(file, *[_values(x, what) for x in args], allow_pickle=allow_pickle, **named)


def load(file: str | os.PathLike[str] | IO[bytes], *args: Any, **kwargs: Any) -> Any:
    """Read what `save` wrote as an Array; of .npz files, NumPy's mapping of names to arrays.

    Args:
        file: path, or file open for bytes.
        *args, **kwargs: as for numpy.load.

    References:
        numpy.load
    """
    out = np.load(file, *args, **kwargs)
    if not isinstance(out, np.ndarray):
        return out
    if out.dtype == np.dtype("V2"):
        out = out.view(dtypes.bfloat16)  # NumPy writes bfloat16 as two bytes without a name
    return asarray(out)
