"""Comparisons of whole arrays, and questions about what they hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Array, primitives
from funtorch.numpy.direct import compiled_if_large
from funtorch.numpy.elementwise import (
    absolute,
    equal,
    imag,
    isfinite,
    isnan,
    less_equal,
    logical_and,
    logical_or,
    not_equal,
)
from funtorch.numpy.promotion import SCALARS, asarray, broadcast, convert, promote, to_arrays

__all__ = [
    "allclose",
    "array_equal",
    "array_equiv",
    "isclose",
    "iscomplex",
    "iscomplexobj",
    "isreal",
    "isrealobj",
    "isscalar",
]


@compiled_if_large
def isclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    """Tell where |a - b| <= atol + rtol * |b|.

    References:
        numpy.isclose
    """
    if hasattr(a, "move_parts") and type(a) is type(b):
        return a == b  # keys
    a, b = promote("isclose", *to_arrays("isclose", a=a, b=b))
    if not dtypes.is_inexact(a.dtype):
        a, b = (convert(x, dtypes.default_float()) for x in (a, b))
    near = less_equal(absolute(a - b), absolute(b) * rtol + atol)
    out = logical_or(logical_and(near, isfinite(b)), equal(a, b))
    return logical_or(out, logical_and(isnan(a), isnan(b))) if equal_nan else out


@compiled_if_large
def allclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    """Tell whether |a - b| <= atol + rtol * |b| everywhere, as a bool array of rank 0.

    References:
        numpy.allclose
    """
    return _all(isclose(a, b, rtol, atol, equal_nan))


def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    """Tell whether two arrays have the same shape and elements, as a bool array of rank 0.

    References:
        numpy.array_equal
    """
    a, b = asarray(a1), asarray(a2)
    if a.shape != b.shape:
        return asarray(False)
    same = a == b  # keys can be compared too
    if equal_nan and all(dtypes.issubdtype(x.dtype, np.inexact) for x in (a, b)):
        same = logical_or(same, logical_and(isnan(a), isnan(b)))
    return _all(same)


def array_equiv(a1: Any, a2: Any) -> Any:
    """Tell whether two arrays broadcast to one shape and are equal there.

    References:
        numpy.array_equiv
    """
    try:
        a, b = broadcast("array_equiv", asarray(a1), asarray(a2))
    except ValueError:
        return asarray(False)
    return _all(equal(a, b))


def _all(x: Any) -> Any:
    return primitives["reduce_and"].bind(x, axes=tuple(range(x.ndim)))


def iscomplexobj(x: Any) -> bool:
    """Tell whether the dtype is complex, of an array or of what names a dtype.

    References:
        numpy.iscomplexobj
    """
    if isinstance(x, type):
        return dtypes.is_complex(dtypes.canonical(x))
    return dtypes.is_complex(x.dtype if hasattr(x, "dtype") else asarray(x).dtype)


def isrealobj(x: Any) -> bool:
    """Tell whether the dtype is not complex.

    References:
        numpy.isrealobj
    """
    return not iscomplexobj(x)


def iscomplex(x: Any) -> Any:
    """Tell where the imaginary part is not 0.

    References:
        numpy.iscomplex
    """
    return not_equal(imag(x), 0)


def isreal(x: Any) -> Any:
    """Tell where the imaginary part is 0.

    References:
        numpy.isreal
    """
    return equal(imag(x), 0)


def isscalar(element: Any) -> bool:
    """Tell whether the value is a number or an array of rank 0.

    References:
        numpy.isscalar
    """
    if isinstance(element, (str, bytes)):
        return True
    return isinstance(element, (Array, np.ndarray, *SCALARS)) and np.ndim(element) == 0
