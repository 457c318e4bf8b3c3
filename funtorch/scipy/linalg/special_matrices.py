"""Matrices with names: Toeplitz, Hilbert, Hadamard and others.

References:
    scipy.linalg, "Special Matrices",
    https://docs.scipy.org/doc/scipy/reference/linalg.html#special-matrices
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.config import config
from funtorch.numpy.promotion import describe, promote, promote_inexact, static_int, to_array

__all__ = [
    "block_diag",
    "circulant",
    "companion",
    "convolution_matrix",
    "dft",
    "fiedler",
    "fiedler_companion",
    "hadamard",
    "hankel",
    "helmert",
    "hilbert",
    "invhilbert",
    "invpascal",
    "leslie",
    "pascal",
    "toeplitz",
]


def _vectors(name: str, argument: str, x: Any, least: int = 0) -> Any:
    """Return an argument as vectors along its last axis; scalars are vectors of one."""
    out = to_array(x, name, argument)
    out = out[None] if out.ndim == 0 else out
    if out.shape[-1] < least:
        raise ValueError(
            f"{name}: {argument} must have at least {least} elements along its last axis, got "
            f"{describe(out)}"
        )
    return out


def _size(name: str, n: Any, least: int = 0) -> int:
    size = static_int(n, f"{name}: n")
    if size < least:
        raise ValueError(f"{name}: n must be at least {least}, got {size}")
    return size


def block_diag(*arrs: Any) -> Any:
    """Return the matrix that has matrices along its diagonal, and zeros elsewhere.

    Args:
        *arrs: arrays of at most two dimensions; vectors are rows.

    Returns:
        An Array of two dimensions, of the dtype that they promote to.

    Raises:
        ValueError: an array has more than two dimensions.

    Example:
        >>> block_diag(fnp.asarray([[1, 2]]), 3)
        Array([[1, 2, 0],
               [0, 0, 3]], dtype=int32)
    """
    arrays = [to_array(x, "block_diag", f"number {k}") for k, x in enumerate(arrs)]
    if not arrays:
        return fnp.zeros((1, 0))
    for k, x in enumerate(arrays):
        if x.ndim > 2:
            raise ValueError(
                f"block_diag: arrays must have at most 2 dimensions, got {describe(x)} at "
                f"position {k}"
            )
    blocks = [fnp.atleast_2d(x) for x in promote("block_diag", *arrays)]
    width, before, rows = sum(x.shape[1] for x in blocks), 0, []
    for x in blocks:
        after = width - before - x.shape[1]
        rows.append(fnp.pad(x, ((0, 0), (before, after))))
        before += x.shape[1]
    return fnp.concatenate(rows, axis=0)


# ------------------------------------------------------------------------- constant along diagonals
def toeplitz(c: Any, r: Any = None) -> Any:
    """Return matrices that are constant along their diagonals.

    Args:
        c: first columns, shape (..., m).
        r: first rows, shape (..., n); the first element is not read. None: the conjugate of c.

    Returns:
        An Array of shape (..., m, n).

    Example:
        >>> toeplitz(fnp.asarray([1, 2, 3]))
        Array([[1, 2, 3],
               [2, 1, 2],
               [3, 2, 1]], dtype=int32)
    """
    column = _vectors("toeplitz", "c", c)
    row = fnp.conj(column) if r is None else _vectors("toeplitz", "r", r)
    column, row = promote("toeplitz", column, row)
    m, n = column.shape[-1], row.shape[-1]
    lead = fnp.broadcast_shapes(column.shape[:-1], row.shape[:-1])
    column = fnp.broadcast_to(column, (*lead, m))
    row = fnp.broadcast_to(row, (*lead, n))
    if not m or not n:
        return fnp.zeros((*lead, m, n), column.dtype)
    values = fnp.concatenate([column[..., ::-1], row[..., 1:]], axis=-1)
    return values[..., np.arange(m - 1, -1, -1)[:, None] + np.arange(n)]


def hankel(c: Any, r: Any = None) -> Any:
    """Return matrices that are constant along their antidiagonals.

    Args:
        c: first columns, shape (..., m).
        r: last rows, shape (..., n); the first element is not read. None: zeros.

    Returns:
        An Array of shape (..., m, n).
    """
    column = _vectors("hankel", "c", c)
    row = fnp.zeros_like(column) if r is None else _vectors("hankel", "r", r)
    column, row = promote("hankel", column, row)
    m, n = column.shape[-1], row.shape[-1]
    lead = fnp.broadcast_shapes(column.shape[:-1], row.shape[:-1])
    if not m or not n:
        return fnp.zeros((*lead, m, n), column.dtype)
    column = fnp.broadcast_to(column, (*lead, m))
    row = fnp.broadcast_to(row, (*lead, n))
    values = fnp.concatenate([column, row[..., 1:]], axis=-1)
    return values[..., np.arange(m)[:, None] + np.arange(n)]


def circulant(c: Any) -> Any:
    """Return matrices whose columns are the first one, rotated.

    Args:
        c: first columns, shape (..., n).

    Returns:
        An Array of shape (..., n, n).
    """
    x = _vectors("circulant", "c", c)
    n = x.shape[-1]
    return x[..., (np.arange(n)[:, None] - np.arange(n)) % max(n, 1)]


def convolution_matrix(a: Any, n: int, mode: str = "full") -> Any:
    """Return matrices m with m @ v = convolve(a, v, mode) for vectors v of n elements.

    Args:
        a: shape (..., m).
        n: columns, at least 1.
        mode: 'full', 'same' or 'valid'.

    Returns:
        An Array of shape (..., rows, n).

    Raises:
        ValueError: a is empty, n is less than 1, or mode is none of these.
    """
    columns = _size("convolution_matrix", n, 1)
    x = _vectors("convolution_matrix", "a", a, 1)
    if mode not in ("full", "same", "valid"):
        raise ValueError(
            f"convolution_matrix: mode must be 'full', 'same' or 'valid', got {mode!r}"
        )
    m = x.shape[-1]
    zeros = fnp.zeros((*x.shape[:-1], columns - 1), x.dtype)
    column = fnp.concatenate([x, zeros], axis=-1)
    row = fnp.concatenate([x[..., :1], zeros], axis=-1)
    whole = toeplitz(column, row)
    if mode == "same":
        cut = min(m, columns) - 1
        start, rows = cut // 2, max(m, columns)
    elif mode == "valid":
        start, rows = min(m, columns) - 1, max(m, columns) - min(m, columns) + 1
    else:
        start, rows = 0, m + columns - 1
    return whole[..., start : start + rows, :]


# --------------------------------------------------------------------------------- of given numbers
def companion(a: Any) -> Any:
    """Return the companion matrices of polynomials.

    Args:
        a: coefficients, the highest first and not 0, shape (..., n), n > 1.

    Returns:
        A float or complex Array of shape (..., n - 1, n - 1).

    Raises:
        ValueError: there are fewer than two coefficients.
    """
    (x,) = promote_inexact("companion", _vectors("companion", "a", a, 2))
    n = x.shape[-1] - 1
    row = -x[..., 1:] / x[..., :1]
    below = fnp.broadcast_to(fnp.eye(n - 1, n, dtype=x.dtype), (*x.shape[:-1], n - 1, n))
    return fnp.concatenate([row[..., None, :], below], axis=-2)


def fiedler(a: Any) -> Any:
    """Return the matrices of |a[j] - a[i]|.

    Args:
        a: shape (..., n).

    Returns:
        An Array of shape (..., n, n).
    """
    x = _vectors("fiedler", "a", a)
    return fnp.abs(x[..., :, None] - x[..., None, :])


def fiedler_companion(a: Any) -> Any:
    """Return the Fiedler companion matrices of polynomials, which have five diagonals.

    Args:
        a: coefficients, the highest first and not 0, shape (..., n).

    Returns:
        A float or complex Array of shape (..., n - 1, n - 1).

    References:
        M. Fiedler, "A note on companion matrices", Linear Algebra and its Applications 372 (2003).
    """
    (x,) = promote_inexact("fiedler_companion", _vectors("fiedler_companion", "a", a))
    n = max(x.shape[-1] - 1, 0)
    if n < 1:
        return fnp.zeros((*x.shape[:-1], 0, 0), x.dtype)
    x = x / x[..., :1]
    if n == 1:
        return -x[..., 1:, None]
    out = fnp.zeros((*x.shape[:-1], n, n), x.dtype)
    # Coefficients in even places stand right of the diagonal, in odd ones under it or on top.
    k = np.arange(0, n - 2, 2)
    out = out.at[..., k, k + 2].set(1)
    k = np.arange(1, n - 2, 2)
    out = out.at[..., k + 2, k].set(1)
    even, odd = np.arange(0, n - 1, 2), np.arange(1, n - 1, 2)
    out = out.at[..., even, even + 1].set(-x[..., even + 2])
    out = out.at[..., odd + 1, odd].set(-x[..., odd + 2])
    out = out.at[..., 0, 0].set(-x[..., 1])
    return out.at[..., 1, 0].set(1)


def leslie(f: Any, s: Any) -> Any:
    """Return Leslie matrices: fecundities in the first row, survival rates under the diagonal.

    Args:
        f: shape (..., n).
        s: shape (..., n - 1).

    Returns:
        An Array of shape (..., n, n).

    Raises:
        ValueError: s has not one element less than f.
    """
    x, y = promote("leslie", _vectors("leslie", "f", f, 2), _vectors("leslie", "s", s))
    n = x.shape[-1]
    if y.shape != (*x.shape[:-1], n - 1):
        raise ValueError(
            f"leslie: s {describe(y)} must have one element less than f {describe(x)} along the "
            "last axis"
        )
    beside = fnp.zeros((*y.shape[:-1], n - 1, 1), y.dtype)
    diagonal = fnp.where(np.eye(n - 1, dtype=bool), y[..., None, :], 0)
    below = fnp.concatenate([diagonal, beside], axis=-1)
    return fnp.concatenate([x[..., None, :], below], axis=-2)


# ---------------------------------------------------------------------------------- of a given size
def dft(n: int, scale: str | None = None, *, dtype: Any = None) -> Any:
    """Return the matrix of the discrete Fourier transform.

    Args:
        n: its size.
        scale: None, 'sqrtn' (divide by the root of n, which makes it unitary) or 'n'.
        dtype: a complex dtype; None: that of the default float.

    Returns:
        An Array of shape (n, n).

    Raises:
        ValueError: n is less than 0, or scale is none of these.
    """
    size = _size("dft", n)
    if scale not in (None, "sqrtn", "n"):
        raise ValueError(f"dft: scale must be None, 'sqrtn' or 'n', got {scale!r}")
    kind = dtypes.complex_dtype(config.default_float) if dtype is None else np.dtype(dtype)
    k = np.arange(size)
    out = np.exp(-2j * np.pi * (np.outer(k, k) % max(size, 1)) / max(size, 1))
    factor = {None: 1.0, "sqrtn": math.sqrt(max(size, 1)), "n": float(max(size, 1))}[scale]
    return fnp.asarray((out / factor).astype(kind))


def hadamard(n: int, dtype: Any = int) -> Any:
    """Return the Hadamard matrix of Sylvester's form.

    Args:
        n: its size, a power of two.
        dtype: of the result.

    Returns:
        An Array of shape (n, n) of ones and minus ones.

    Raises:
        ValueError: n is no power of two.
    """
    size = static_int(n, "hadamard: n")
    if size < 1 or size & (size - 1):
        raise ValueError(f"hadamard: n must be a power of two, got {size}")
    out = np.ones((1, 1), np.int8)
    while len(out) < size:
        out = np.block([[out, out], [out, -out]])
    return fnp.asarray(out, dtype=dtype)


def helmert(n: int, full: bool = False) -> Any:
    """Return the Helmert matrix, whose rows are orthonormal contrasts.

    Args:
        n: its size.
        full: whether to keep the first row, of equal elements.

    Returns:
        An Array of shape (n - 1, n), or (n, n) if ``full``.

    Raises:
        ValueError: n is less than 1.
    """
    size = _size("helmert", n, 1)
    out = np.tril(np.ones((size, size)), -1) - np.diag(np.arange(size, dtype=float))
    out[0] = 1
    steps = np.arange(size, dtype=float)
    scale = np.sqrt(np.where(steps == 0, size, steps * (steps + 1)))
    out = out / scale[:, None]
    return fnp.asarray((out if full else out[1:]).astype(config.default_float))


def hilbert(n: int) -> Any:
    """Return the Hilbert matrix, 1 / (i + j + 1).

    Args:
        n: its size.

    Returns:
        An Array of shape (n, n).
    """
    k = np.arange(_size("hilbert", n))
    return fnp.asarray((1.0 / (k[:, None] + k + 1)).astype(config.default_float))


_comb = np.frompyfunc(math.comb, 2, 1)


def _counts(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of rows and columns as Python ints, which never overflow."""
    k = np.arange(n).astype(object)
    return k[:, None], k


def _exact(numbers: np.ndarray) -> Any:
    """Return a matrix of Python ints of any size as floats."""
    return fnp.asarray(numbers.astype(float).astype(config.default_float))


def invhilbert(n: int) -> Any:
    """Return the inverse of the Hilbert matrix; its elements are integers.

    Args:
        n: its size.

    Returns:
        A float Array of shape (n, n).
    """
    size = _size("invhilbert", n)
    i, j = _counts(size)
    sides = _comb(size + i, size - j - 1) * _comb(size + j, size - i - 1)
    return _exact((-1) ** (i + j) * (i + j + 1) * sides * _comb(i + j, i) ** 2)


def _lower_pascal(n: int) -> np.ndarray:
    return _comb(*_counts(n))


def _kind(name: str, kind: str | None) -> str:
    known = ("symmetric", "lower", "upper")
    if kind not in (None, *known):
        raise ValueError(f"{name}: kind must be one of {', '.join(known)}, got {kind!r}")
    return kind or "symmetric"


def pascal(n: int, kind: str | None = None) -> Any:
    """Return the Pascal matrix, of binomial coefficients.

    Args:
        n: its size.
        kind: 'symmetric' (None), 'lower' or 'upper'.

    Returns:
        A float Array of shape (n, n).

    Raises:
        ValueError: kind is none of these.
    """
    size, which = _size("pascal", n), _kind("pascal", kind)
    low = _lower_pascal(size)
    return _exact({"lower": low, "upper": low.T}.get(which, np.matmul(low, low.T)))


def invpascal(n: int, kind: str | None = None) -> Any:
    """Return the inverse of the Pascal matrix; its elements are integers.

    Args:
        n: its size.
        kind: 'symmetric' (None), 'lower' or 'upper'.

    Returns:
        A float Array of shape (n, n).

    Raises:
        ValueError: kind is none of these.
    """
    size, which = _size("invpascal", n), _kind("invpascal", kind)
    i, j = _counts(size)
    low = _lower_pascal(size)
    inverse = {"lower": low, "upper": low.T}.get(which, np.matmul(low.T, low))
    return _exact((-1) ** (i + j) * inverse)
