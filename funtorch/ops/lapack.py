"""LAPACK on NumPy matrices, from the private OpenBLAS, on the caller's thread.

NumPy offers the same factorisations, but no triangular solves, and runs them on threads of its own,
which on matrices of a few hundred rows wait for each other longer than they compute. Matrices that
have no factorisation or no solution give nan, each for itself. All arrays are (..., rows, columns)
of float32, float64, complex64 or complex128, and nothing is written to but the results.

References:
    E. Anderson et al., "LAPACK Users' Guide", third edition, 1999.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from funtorch import dtypes, openblas

__all__ = ["cholesky", "eigh", "solve", "takes", "triangular_solve"]

_LETTERS = {dtypes.float32: "s", dtypes.float64: "d", dtypes.complex64: "c", dtypes.complex128: "z"}
_ROW_MAJOR, _LEFT = 101, 141
_UPLO = {False: 121, True: 122}  # by `lower`
_TRANS = {0: 111, 1: 112, 2: 113}
_DIAG = {False: 131, True: 132}  # by `unit`
_FEWEST_ROWS = 24
"""Below, a call for each matrix costs more than NumPy's loop over them."""


def takes(xp: Any, a: Any) -> bool:
    """Tell whether matrices are for this module: of NumPy, not small, not empty."""
    return xp is np and a.dtype in _LETTERS and a.shape[-1] >= _FEWEST_ROWS and a.size > 0


def _call(name: str, *args: Any) -> int:
    """Call a function of the library; ints are C ints, arrays pointers."""
    return getattr(openblas.load(), name)(*(_as_c(x) for x in args))


def _as_c(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return ctypes.c_void_p(x.ctypes.data)
    return ctypes.c_char(x) if isinstance(x, bytes) else x


def _lapack(name: str, dtype: Any, *args: Any) -> bool:
    """Call a routine on row-major matrices; tell whether it succeeded."""
    return _call(f"scipy_LAPACKE_{_LETTERS[dtype]}{name}", _ROW_MAJOR, *args) == 0


def _each(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the matrices of C-contiguous batches, one of each at a time, as views."""
    return zip(*(x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:]) for x in arrays), strict=True)


def _copy(x: np.ndarray) -> np.ndarray:
    return np.array(x, order="C")


def cholesky(x: np.ndarray) -> np.ndarray:
    """Return the lower triangular l with x = l lᴴ; of x the lower triangle is read."""
    out = np.ascontiguousarray(np.tril(x))
    n = x.shape[-1]
    for (m,) in _each(out):
        if not _lapack("potrf", x.dtype, b"L", n, m, n):
            m[...] = np.nan
    return out


def triangular_solve(
    a: np.ndarray, b: np.ndarray, *, lower: bool, trans: int, unit: bool
) -> np.ndarray:
    """Return x with op(a) x = b; op is nothing, transpose or Hermitian transpose (trans 0, 1, 2).

    Of a only one triangle is read, without its diagonal if ``unit``.
    """
    a, out = np.ascontiguousarray(a), _copy(b)
    n, columns = out.shape[-2:]
    one = np.ones((), a.dtype)
    name = f"scipy_cblas_{_LETTERS[a.dtype]}trsm"
    # The factor: real ones go by value, complex ones by address.
    alpha: Any = {"s": ctypes.c_float(1), "d": ctypes.c_double(1)}.get(_LETTERS[a.dtype], one)
    flags = _ROW_MAJOR, _LEFT, _UPLO[lower], _TRANS[trans], _DIAG[unit]
    for m, rhs in _each(a, out):
        if not unit and not m.diagonal().all():
            rhs[...] = np.nan
        elif columns:
            _call(name, *flags, n, columns, alpha, m, n, rhs, columns)
    return out


def solve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return x with a x = b."""
    factors, out = _copy(a), _copy(b)
    n, columns = out.shape[-2:]
    pivots = np.empty(n, np.intc)
    for m, rhs in _each(factors, out):
        if columns and not _lapack("gesv", a.dtype, n, columns, m, n, pivots, rhs, columns):
            rhs[...] = np.nan
    return out


def eigh(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ascending w and v with x v = v diag(w); of x the lower triangle is read."""
    vectors, n = _copy(x), x.shape[-1]
    values = np.empty(x.shape[:-1], dtypes.real_dtype(x.dtype))
    name = "heevd" if dtypes.is_complex(x.dtype) else "syevd"
    for (m,), w in zip(_each(vectors), values.reshape(-1, n), strict=True):
        if not _lapack(name, x.dtype, b"V", b"L", n, m, n, w):
            m[...], w[...] = np.nan, np.nan
    return values, vectors
