"""Linear algebra: decompositions, solvers, norms. Leading axes are batches."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from funtorch import dtypes
from funtorch.core import primitives
from funtorch.numpy import elementwise
from funtorch.numpy.contractions import cross, matmul, multi_dot, outer, tensordot, vecdot
from funtorch.numpy.contractions import diagonal as _diagonal
from funtorch.numpy.contractions import trace as _trace
from funtorch.numpy.creation import eye
from funtorch.numpy.direct import FLOATS, direct
from funtorch.numpy.elementwise import absolute, conjugate, divide, multiply, sqrt, subtract, where
from funtorch.numpy.manipulation import matrix_transpose, moveaxis, ravel, reshape, transpose
from funtorch.numpy.promotion import (
    asarray,
    broadcast_shapes,
    broadcast_to,
    canonical_axes,
    canonical_axis,
    convert,
    describe,
    promote_inexact,
    static_int,
    to_array,
    to_arrays,
)
from funtorch.numpy.reductions import max as max_
from funtorch.numpy.reductions import min as min_
from funtorch.numpy.reductions import sum as sum_

__all__ = [
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "lstsq",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "tensorinv",
    "tensorsolve",
    "trace",
    "vecdot",
    "vector_norm",
]


class EighResult(NamedTuple):
    """Eigenvalues in ascending order, and eigenvectors as columns."""

    eigenvalues: Any
    eigenvectors: Any


class QRResult(NamedTuple):
    """Orthonormal columns, and an upper triangular matrix."""

    Q: Any
    R: Any


class SVDResult(NamedTuple):
    """Left singular vectors, singular values in descending order, right singular vectors as
    rows."""

    U: Any
    S: Any
    Vh: Any


class SlogdetResult(NamedTuple):
    """Sign and logarithm of the absolute value of a determinant."""

    sign: Any
    logabsdet: Any


def _matrix(a: Any, name: str, square: bool = False) -> Any:
    """Return an argument as float or complex matrices."""
    x = to_array(a, name, "a")
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        kind = "square matrices, shape (..., n, n)" if square else "matrices, shape (..., n, m)"
        raise ValueError(f"{name}: argument a must hold {kind}, got {describe(x)}")
    return convert(x, dtypes.to_inexact(x.dtype))


def _adjoint(x: Any) -> Any:
    return conjugate(matrix_transpose(x))


# ----------------------------------------------------------------------------------- decompositions


def cholesky(a: Any, *, upper: bool = False, symmetrize_input: bool = True) -> Any:
    """Return L with a = L @ L^H, lower triangular; nan where a is not positive definite.

    Args:
        a: positive definite matrices, shape (..., n, n).
        upper: return L^H.
        symmetrize_input: take (a + a^H) / 2 first, which makes derivatives symmetric.

    Example:
        >>> cholesky(asarray([[4.0, 0.0], [0.0, 9.0]]))
        Array([[2., 0.],
               [0., 3.]], dtype=float32)

    References:
        numpy.linalg.cholesky
    """
    x = _matrix(a, "cholesky", square=True)
    if symmetrize_input:
        x = multiply(x + _adjoint(x), 0.5)
    out = primitives["cholesky"].bind(x)
    return _adjoint(out) if upper else out


def eigh(a: Any, UPLO: str = "L", symmetrize_input: bool = True) -> EighResult:
    """Return eigenvalues and eigenvectors of Hermitian matrices.

    Args:
        a: Hermitian matrices, shape (..., n, n).
        UPLO: 'L' or 'U', the triangle that is read when the input is not symmetrized.
        symmetrize_input: take (a + a^H) / 2 first.

    Returns:
        EighResult: eigenvalues (..., n), ascending, and eigenvectors (..., n, n) as columns.

    References:
        numpy.linalg.eigh
    """
    x = _matrix(a, "eigh", square=True)
    if UPLO not in ("L", "U"):
        raise ValueError(f"eigh: UPLO must be 'L' or 'U', got {UPLO!r}")
    if symmetrize_input:
        x = multiply(x + _adjoint(x), 0.5)
    elif UPLO == "U":
        x = _adjoint(x)
    return EighResult(*primitives["eigh"].bind(x))


def eigvalsh(a: Any, UPLO: str = "L", *, symmetrize_input: bool = True) -> Any:
    """Return the eigenvalues of Hermitian matrices in ascending order.

    References:
        numpy.linalg.eigvalsh
    """
    return eigh(a, UPLO, symmetrize_input).eigenvalues


def qr(a: Any, mode: str = "reduced") -> Any:
    """Factor matrices into orthonormal columns times an upper triangle.

    Args:
        a: matrices, shape (..., n, m).
        mode: 'reduced' or 'r'.

    Returns:
        QRResult(Q, R), or R alone.

    References:
        numpy.linalg.qr
    """
    if mode not in ("reduced", "r"):
        raise NotImplementedError(f"qr: mode {mode!r} is not supported; use 'reduced' or 'r'")
    q, r = primitives["qr"].bind(_matrix(a, "qr"))
    return r if mode == "r" else QRResult(q, r)


def svd(
    a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> Any:
    """Return the singular value decomposition a = U @ diag(S) @ Vh.

    Args:
        a: matrices, shape (..., n, m).
        full_matrices: only False is supported for matrices that are not square.
        compute_uv: whether to return U and Vh.
        hermitian: accepted for NumPy's sake.

    Returns:
        SVDResult(U, S, Vh), or S alone.

    References:
        numpy.linalg.svd
    """
    x = _matrix(a, "svd")
    u, s, vh = primitives["svd"].bind(x)
    if not compute_uv:
        return s
    if full_matrices and x.shape[-1] != x.shape[-2]:
        raise NotImplementedError(
            f"svd: full_matrices=True is not supported for {describe(x)}; pass False"
        )
    return SVDResult(u, s, vh)


def svdvals(x: Any, /) -> Any:
    """Return the singular values in descending order.

    References:
        numpy.linalg.svdvals
    """
    return svd(x, compute_uv=False)


# ---------------------------------------------------------------------------- determinants, solving


def slogdet(a: Any, *, method: None = None) -> SlogdetResult:
    """Return the sign and the logarithm of the absolute value of determinants.

    References:
        numpy.linalg.slogdet
    """
    return SlogdetResult(*primitives["slogdet"].bind(_matrix(a, "slogdet", square=True)))


def det(a: Any) -> Any:
    """Return determinants.

    References:
        numpy.linalg.det
    """
    x = _matrix(a, "det", square=True)
    n = x.shape[-1]
    if n == 1:
        return x[..., 0, 0]
    if n == 2:
        return x[..., 0, 0] * x[..., 1, 1] - x[..., 0, 1] * x[..., 1, 0]
    if n == 3:
        return sum_(multiply(x[..., 0, :], cross(x[..., 1, :], x[..., 2, :])), -1)
    sign, logabs = slogdet(x)
    return multiply(sign, elementwise.exp(logabs))


def solve(a: Any, b: Any) -> Any:
    """Solve a @ x = b.

    Args:
        a: matrices, shape (..., n, n).
        b: right-hand sides, shape (n,) or (..., n, k).

    Returns:
        An Array of the shape of b, batch axes broadcast.

    Example:
        >>> solve(asarray([[2.0, 0.0], [0.0, 4.0]]), asarray([2.0, 4.0]))
        Array([1., 1.], dtype=float32)

    References:
        numpy.linalg.solve
    """
    x = _matrix(a, "solve", square=True)
    y = to_array(b, "solve", "b")
    vector = y.ndim == 1
    if y.ndim == 0 or y.shape[0 if vector else -2] != x.shape[-1]:
        raise ValueError(f"solve: b {describe(y)} does not fit a {describe(x)}")
    if vector:
        y = reshape(y, (*y.shape, 1))
    x, y = promote_inexact("solve", x, y)
    batch = broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x, y = broadcast_to(x, batch + x.shape[-2:]), broadcast_to(y, batch + y.shape[-2:])
    out = primitives["solve"].bind(x, y)
    return reshape(out, out.shape[:-1]) if vector else out


def inv(a: Any) -> Any:
    """Invert matrices.

    References:
        numpy.linalg.inv
    """
    x = _matrix(a, "inv", square=True)
    return solve(x, broadcast_to(eye(x.shape[-1], dtype=x.dtype), x.shape))


def _cutoff(s: Any, rtol: Any, shape: tuple[int, ...]) -> Any:
    """Return the limit below which singular values count as zero."""
    if rtol is None:
        rtol = max(shape[-2:]) * float(dtypes.finfo(s.dtype).eps)
    return multiply(asarray(rtol, s.dtype)[..., None], max_(s, -1, keepdims=True, initial=0))


def pinv(a: Any, rtol: Any = None, hermitian: bool = False, *, rcond: Any = None) -> Any:
    """Return the Moore-Penrose inverse.

    Args:
        a: matrices, shape (..., n, m).
        rtol, rcond: singular values up to this fraction of the largest count as zero (default: 10
        times
            the larger size times eps).

    References:
        numpy.linalg.pinv
    """
    x = _matrix(a, "pinv")
    u, s, vh = svd(x, full_matrices=False)
    rtol = rcond if rtol is None else rtol
    if rtol is None:
        rtol = 10 * max(x.shape[-2:]) * float(dtypes.finfo(s.dtype).eps)
    small = elementwise.less_equal(s, _cutoff(s, rtol, x.shape))
    inverse = where(small, 0, divide(1, where(small, 1, s)))
    return matmul(_adjoint(vh), multiply(convert(inverse, x.dtype)[..., None], _adjoint(u)))


def matrix_rank(M: Any, rtol: Any = None, *, tol: Any = None) -> Any:
    """Count the singular values that are not negligible.

    References:
        numpy.linalg.matrix_rank
    """
    x = _matrix(M, "matrix_rank")
    s = svd(x, compute_uv=False)
    limit = _cutoff(s, rtol, x.shape) if tol is None else asarray(tol, s.dtype)[..., None]
    return sum_(elementwise.greater(s, limit), -1)


def cond(x: Any, p: Any = None) -> Any:
    """Return condition numbers; p is a matrix norm.

    References:
        numpy.linalg.cond
    """
    if p in (None, 2, -2):
        s = svd(_matrix(x, "cond"), compute_uv=False)
        return divide(s[..., -1], s[..., 0]) if p == -2 else divide(s[..., 0], s[..., -1])
    x = _matrix(x, "cond", square=True)
    return multiply(norm(x, p, (-2, -1)), norm(inv(x), p, (-2, -1)))


def lstsq(
    a: Any, b: Any, rcond: float | None = None, *, numpy_resid: bool = False
) -> tuple[Any, Any, Any, Any]:
    """Return the x of least norm that minimizes |a @ x - b|.

    Args:
        a: matrix of shape (n, m).
        b: shape (n,) or (n, k).
        rcond: singular values up to this fraction of the largest count as zero.

    Returns:
        (x, squared residuals, rank, singular values).

    References:
        numpy.linalg.lstsq
    """
    x, y = promote_inexact("lstsq", *to_arrays("lstsq", a=a, b=b))
    if x.ndim != 2 or y.ndim not in (1, 2) or x.shape[0] != y.shape[0]:
        raise ValueError(
            f"lstsq: a {describe(x)} must be (n, m) and b {describe(y)} (n,) or (n, k)"
        )
    rhs = reshape(y, (-1, 1)) if y.ndim == 1 else y
    u, s, vh = svd(x, full_matrices=False)
    small = elementwise.less_equal(s, _cutoff(s, rcond, x.shape))
    inverse = convert(where(small, 0, divide(1, where(small, 1, s))), x.dtype)
    out = matmul(_adjoint(vh), multiply(inverse[:, None], matmul(_adjoint(u), rhs)))
    residual = sum_(elementwise.square(absolute(subtract(matmul(x, out), rhs))), 0)
    rank = sum_(elementwise.logical_not(small))
    return (out[:, 0] if y.ndim == 1 else out), residual, rank, s


def matrix_power(a: Any, n: int) -> Any:
    """Multiply a square matrix with itself n times; negative n inverts first.

    References:
        numpy.linalg.matrix_power
    """
    x = to_array(a, "matrix_power", "a")
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"matrix_power: a must hold square matrices, got {describe(x)}")
    n = static_int(n, "matrix_power: n")
    if n == 0:
        return broadcast_to(eye(x.shape[-1], dtype=x.dtype), x.shape)
    if n < 0:
        x, n = inv(x), -n
    out = None
    while n:
        if n & 1:
            out = x if out is None else matmul(out, x)
        n >>= 1
        if n:
            x = matmul(x, x)
    return out


def tensorinv(a: Any, ind: int = 2) -> Any:
    """Invert a tensor as a map from its last axes to its first ``ind``.

    References:
        numpy.linalg.tensorinv
    """
    x = to_array(a, "tensorinv", "a")
    first, last = x.shape[:ind], x.shape[ind:]
    return reshape(inv(reshape(x, (math.prod(first), -1))), last + first)


def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    """Solve tensordot(a, x, x.ndim) = b.

    References:
        numpy.linalg.tensorsolve
    """
    x, y = to_arrays("tensorsolve", a=a, b=b)
    if axes is not None:
        moved = [canonical_axis(k, x.ndim, "tensorsolve") for k in axes]
        x = transpose(x, [k for k in range(x.ndim) if k not in moved] + moved)
    shape = x.shape[y.ndim :]
    return reshape(solve(reshape(x, (y.size, -1)), ravel(y)), shape)


# ------------------------------------------------------------------------------------------ norms
def _norm(x: np.ndarray, ord: None = None, axis: None = None) -> Any:
    if ord is not None or axis is not None:
        raise TypeError("only the root of the sum of all squares")
    flat = x.ravel()
    return np.sqrt(np.dot(flat, flat))


@direct(_norm, FLOATS)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Return norms of vectors or matrices.

    Args:
        x: array.
        ord: None (root of the sum of squares), for vectors inf, -inf, 0 or a number p; for
        matrices 'fro',
            'nuc', inf, -inf, 1, -1, 2, -2.
        axis: int for vectors, pair for matrices; None takes the whole array.
        keepdims: keep reduced axes with size 1.

    Returns:
        An Array of a real dtype.

    Example:
        >>> norm(asarray([3.0, 4.0]))
        Array(5., dtype=float32)

    References:
        numpy.linalg.norm
    """
    x = to_array(x, "norm")
    x = convert(x, dtypes.to_inexact(x.dtype), x.weak_type)
    if axis is None and ord is None:
        return _euclid(x, tuple(range(x.ndim)), keepdims)
    axes = canonical_axes(axis, x.ndim, "norm")
    if isinstance(axis, (tuple, list)):
        axes = tuple(canonical_axis(k, x.ndim, "norm") for k in axis)
    if len(axes) == 1:
        return _vector(x, 2 if ord is None else ord, axes, keepdims)
    if len(axes) != 2:
        raise ValueError(
            f"norm: axis must be an int or a pair of ints, got {axis} for {describe(x)}"
        )
    return _matrix_norm(x, "fro" if ord is None else ord, axes, keepdims)


def _euclid(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if dtypes.is_complex(x.dtype):
        squares = elementwise.square(elementwise.real(x)) + elementwise.square(elementwise.imag(x))
    else:
        squares = elementwise.square(x)
    return sqrt(sum_(squares, axes, keepdims=keepdims))


def _vector(x: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if isinstance(ord, str):
        raise ValueError(f"norm: ord {ord!r} is for matrices; vectors take a number")
    if ord == 2:
        return _euclid(x, axes, keepdims)
    size = absolute(x)
    if ord == math.inf:
        return max_(size, axes, keepdims=keepdims)
    if ord == -math.inf:
        return min_(size, axes, keepdims=keepdims)
    if ord == 0:
        return sum_(elementwise.not_equal(x, 0), axes, size.dtype, keepdims=keepdims)
    if ord == 1:
        return sum_(size, axes, keepdims=keepdims)
    return sum_(size**ord, axes, keepdims=keepdims) ** (1.0 / ord)


def _matrix_norm(x: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if ord == "fro":
        return _euclid(x, axes, keepdims)
    rows, columns = axes
    out = moveaxis(x, (rows, columns), (-2, -1))
    extreme = {math.inf: (max_, -1), -math.inf: (min_, -1), 1: (max_, -2), -1: (min_, -2)}
    if ord in ("nuc", 2, -2):
        s = svd(out, compute_uv=False)
        out = sum_(s, -1) if ord == "nuc" else s[..., 0] if ord == 2 else s[..., -1]
    elif ord in extreme:
        choose, summed = extreme[ord]
        out = choose(sum_(absolute(out), summed), -1)
    else:
        raise ValueError(
            f"norm: ord {ord!r} is not one of 'fro', 'nuc', inf, -inf, 1, -1, 2, -2 for matrices"
        )
    if not keepdims:
        return out
    return reshape(out, tuple(1 if k in axes else n for k, n in enumerate(x.shape)))


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """Return norms of the matrices in the last two axes.

    References:
        numpy.linalg.matrix_norm
    """
    return norm(x, ord, (-2, -1), keepdims)


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    """Return norms of vectors; several axes count as one.

    References:
        numpy.linalg.vector_norm
    """
    x = to_array(x, "vector_norm")
    axes = canonical_axes(axis, x.ndim, "vector_norm")
    return _vector(convert(x, dtypes.to_inexact(x.dtype), x.weak_type), ord, axes, keepdims)


def diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """Take a diagonal of the matrices in the last two axes.

    References:
        numpy.linalg.diagonal
    """
    return _diagonal(x, offset, -2, -1)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """Sum a diagonal of the matrices in the last two axes.

    References:
        numpy.linalg.trace
    """
    return _trace(x, offset, -2, -1, dtype)
