"""Functions of matrices: exponential, logarithm, square root, and any other of the eigenvalues.

Their derivatives follow from equations for the result, or divided differences, not from those of
eigenvectors, so equal eigenvalues do no harm.

References:
    N. J. Higham, "Functions of Matrices: Theory and Computation", 2008.
    A. H. Al-Mohy, N. J. Higham, "A new scaling and squaring algorithm for the matrix exponential",
    SIAM Journal on Matrix Analysis and Applications 31 (2009).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.numpy.linalg import as_matrices
from funtorch.numpy.promotion import describe, promote_inexact
from funtorch.ops import linalg as ops
from funtorch.ops.elementwise import stop_gradient
from funtorch.scipy.linalg.divided import error_of, matrix_function
from funtorch.transforms import cond, custom_jvp, jvp, scan

__all__ = ["expm", "expm_frechet", "funm", "logm", "sqrtm"]

# The highest order of the Padé approximants used, and the norms up to which they are exact.
_PADE = {24: (7, 3.925724783138660), 53: (13, 5.371920351148152)}


# -------------------------------------------------------------------------------------- exponential
def expm(A: Any, *, upper_triangular: bool = False, max_squarings: int = 16) -> Any:
    """Return the exponential of matrices, by scaling and squaring.

    Args:
        A: matrices, shape (..., n, n).
        upper_triangular: whether A is upper triangular, which makes systems triangular.
        max_squarings: most squarings; matrices so large that they would need more give nan.

    Returns:
        An Array of the shape of A.

    Raises:
        ValueError: A does not hold square matrices.

    Example:
        >>> expm(fnp.asarray([[0.0, 1.0], [0.0, 0.0]]))
        Array([[1., 1.],
               [0., 1.]], dtype=float32)
    """
    x = as_matrices(A, "expm", square=True, argument="A")
    order, limit = _PADE[53 if dtypes.finfo(x.dtype).nmant > 23 else 24]
    norm = stop_gradient(fnp.max(fnp.sum(fnp.abs(x), -2), -1, initial=0))
    known = fnp.isfinite(norm) & (norm > 0)
    needed = fnp.ceil(fnp.log2(fnp.where(known, norm, limit) / limit))
    squarings = fnp.maximum(needed, 0)
    x = x * fnp.astype(fnp.exp2(-squarings), x.dtype)[..., None, None]
    p, q = _pade(x, order)
    if upper_triangular:
        r = ops.triangular_solve(q, p, lower=False, trans=0, unit=False)
    else:
        r = ops.solve(q, p)
    if max_squarings > 0:
        r = _squared(r, squarings, max_squarings)
    return fnp.where((squarings > max_squarings)[..., None, None], fnp.nan, r)


def _pade(x: Any, order: int) -> tuple[Any, Any]:
    """Return numerator and denominator of the Padé approximant of exp, of an odd order."""
    c = [
        math.factorial(2 * order - k)
        * math.factorial(order)
        // (math.factorial(k) * math.factorial(order - k))
        for k in range(order + 1)
    ]
    c = [v / c[0] for v in c]
    one = fnp.broadcast_to(fnp.eye(x.shape[-1], dtype=x.dtype), x.shape)
    square = fnp.matmul(x, x)
    power, even, odd = one, c[0] * one, c[1] * one
    for k in range(2, order, 2):
        power = square if k == 2 else fnp.matmul(power, square)
        even, odd = even + c[k] * power, odd + c[k + 1] * power
    odd = fnp.matmul(x, odd)
    return even + odd, even - odd


def _squared(r: Any, times: Any, most: int) -> Any:
    """Square each matrix so many times, at most ``most``."""

    def step(r: Any, k: Any) -> tuple[Any, None]:
        due = k < times
        again = cond(
            fnp.any(due),
            lambda r: fnp.where(due[..., None, None], fnp.matmul(r, r), r),
            lambda r: r,
            r,
        )
        return again, None

    return scan(step, r, fnp.arange(most, dtype=times.dtype))[0]


def expm_frechet(A: Any, E: Any, *, method: str | None = None, compute_expm: bool = True) -> Any:
    """Return the exponential of A, and its derivative in the direction E.

    Args:
        A: matrices, shape (..., n, n).
        E: directions, of the same shape.
        method: accepted for SciPy's sake.
        compute_expm: whether to return the exponential, too.

    Returns:
        (exponential, derivative), or the derivative.

    Raises:
        ValueError: the shapes do not fit.
    """
    x = as_matrices(A, "expm_frechet", square=True, argument="A")
    t = as_matrices(E, "expm_frechet", square=True, argument="E")
    if x.shape != t.shape:
        raise ValueError(f"expm_frechet: E {describe(t)} must have the shape of A {describe(x)}")
    x, t = promote_inexact("expm_frechet", x, t)
    value, change = jvp(expm, (x,), (t,))
    return (value, change) if compute_expm else change


# -------------------------------------------------------------------------------------- square root
def sqrtm(A: Any, blocksize: int = 1) -> Any:
    """Return the principal square root of matrices.

    Args:
        A: matrices, shape (..., n, n).
        blocksize: only 1 is supported.

    Returns:
        A complex Array of the shape of A.

    Raises:
        ValueError: A does not hold square matrices.
        NotImplementedError: another blocksize.

    References:
        A. Björck, S. Hammarling, "A Schur method for the square root of a matrix", Linear Algebra
        and its Applications 52 (1983).
    """
    if blocksize > 1:
        raise NotImplementedError(f"sqrtm: blocksize must be 1, got {blocksize}")
    x = as_matrices(A, "sqrtm", square=True, argument="A")
    return _root(fnp.astype(x, fnp.result_type(x.dtype, np.complex64)))


@custom_jvp
def _root(x: Any) -> Any:
    n = x.shape[-1]
    if not n:
        return x
    t, q = ops.schur(x)
    r = _triangular_root(t)
    return fnp.matmul(fnp.matmul(q, r), fnp.conj(fnp.matrix_transpose(q)))


def _triangular_root(t: Any) -> Any:
    """Return the root of upper triangular matrices, by blocks that double in size.

    The block beside two roots is the solution of a Sylvester equation.
    """
    lead, n = t.shape[:-2], t.shape[-1]
    size = 1 << (n - 1).bit_length()
    if size > n:  # made a power of two by an identity
        pad = [(0, 0)] * len(lead) + [(0, size - n)] * 2
        t = fnp.pad(t, pad) + fnp.diag(fnp.astype(fnp.arange(size) >= n, t.dtype))
    roots = fnp.sqrt(fnp.diagonal(t, axis1=-2, axis2=-1))[..., None, None]
    s = 1
    while s < size:
        count = size // (2 * s)
        tiles = fnp.reshape(t, (*lead, count, 2 * s, count, 2 * s))
        own = fnp.moveaxis(fnp.diagonal(tiles, axis1=-4, axis2=-2), -1, -3)
        first, second = roots[..., 0::2, :, :], roots[..., 1::2, :, :]
        beside = ops.sylvester(first, second, own[..., :s, s:])
        zero = fnp.zeros_like(beside)
        roots = fnp.concatenate(
            [fnp.concatenate([first, beside], -1), fnp.concatenate([zero, second], -1)], -2
        )
        s *= 2
    return roots[..., 0, :n, :n]


def _root_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    r = _root(primals[0])
    return r, ops.sylvester(r, r, tangents[0])


_root.defjvp(_root_jvp)


# ---------------------------------------------------------------------------------------- logarithm
_ROOTS = {24: 7, 53: 9}  # square roots taken at most
_NEAR = 0.25  # distance from the identity from which no more are taken
_NODES = {24: 5, 53: 8}  # of the quadrature


def logm(A: Any) -> Any:
    """Return the principal logarithm of matrices, by square roots and a Padé approximant.

    Args:
        A: matrices without eigenvalues on the closed negative real axis, shape (..., n, n).

    Returns:
        A complex Array of the shape of A.

    Raises:
        ValueError: A does not hold square matrices.

    Example:
        >>> logm(fnp.asarray([[1.0, 1.0], [0.0, 1.0]])).real
        Array([[0., 1.],
               [0., 0.]], dtype=float32)

    References:
        N. J. Higham, "Functions of Matrices", 2008, chapter 11.
    """
    x = as_matrices(A, "logm", square=True, argument="A")
    digits = 53 if dtypes.finfo(x.dtype).nmant > 23 else 24
    x = fnp.astype(x, fnp.result_type(x.dtype, np.complex64))
    one = fnp.eye(x.shape[-1], dtype=x.dtype)
    factor = fnp.ones(x.shape[:-2], fnp.real(x).dtype)
    for _ in range(_ROOTS[digits]):
        far = stop_gradient(fnp.max(fnp.sum(fnp.abs(x - one), -2), -1, initial=0)) > _NEAR
        x = fnp.where(far[..., None, None], _root(x), x)
        factor = fnp.where(far, 2 * factor, factor)
    # Gauss and Legendre's rule for the integral of (x - 1) (1 + t (x - 1))⁻¹ is the approximant.
    nodes, weights = np.polynomial.legendre.leggauss(_NODES[digits])
    shift = x - one
    total = fnp.zeros_like(x)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        total = total + float(weight) * ops.solve(one + float(node) * shift, shift)
    return fnp.astype(factor, x.dtype)[..., None, None] * total


# ------------------------------------------------------------------------------------ any function
def funm(A: Any, func: Callable[[Any], Any], disp: bool = True, *, hermitian: bool = False) -> Any:
    """Return a function of matrices, given on numbers, by the Schur form and Parlett's recurrence.

    The value divides by differences of eigenvalues, and has few digits where they are close; its
    derivatives do not. With ``hermitian`` the value is exact, too: it is ``(v * func(w)) @ vᴴ``,
    which when written out has no derivative where eigenvalues are equal.

    Args:
        A: matrix, shape (n, n); derivatives are for those that have n eigenvectors.
        func: from an Array of numbers to the Array of their values.
        disp: whether to return the value alone.
        hermitian: whether A equals its adjoint. Then func gets real numbers, and gives real ones.

    Returns:
        A complex Array of the shape of A (real for real A with ``hermitian``); with an estimate of
        the relative error unless ``disp``.

    Example:
        >>> import funtorch as ft
        >>> root = lambda a: funm(a, fnp.sqrt, hermitian=True).sum()
        >>> ft.grad(root)(4 * fnp.eye(2))
        Array([[0.25, 0.25],
               [0.25, 0.25]], dtype=float32)

    Raises:
        ValueError: A is no square matrix.

    References:
        N. J. Higham, "Functions of Matrices", 2008, algorithm 4.13.
    """
    x = as_matrices(A, "funm", square=True, argument="A")
    if x.ndim != 2:
        raise ValueError(f"funm: argument A must be one matrix, got {describe(x)}")
    if hermitian:
        x = fnp.astype((x + fnp.conj(x.T)) / 2, dtypes.to_inexact(x.dtype))
        out = matrix_function(x, func, True)
        return out if disp else (out, fnp.asarray(dtypes.finfo(x.dtype).eps))
    x = fnp.astype(x, fnp.result_type(x.dtype, np.complex64))
    out = matrix_function(x, func, False)
    return out if disp else (out, error_of(stop_gradient(x), stop_gradient(out)))
