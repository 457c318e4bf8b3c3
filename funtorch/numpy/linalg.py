"""Linear algebra: decompositions, solvers, norms. Leading axes are batches."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from funtorch import dtypes
from funtorch.config import config
from funtorch.errors import MismatchError
from funtorch.numpy import contractions, elementwise, straight
from funtorch.numpy.contractions import diagonal as _diagonal
from funtorch.numpy.contractions import matmul, multi_dot, tensordot, vecdot
from funtorch.numpy.contractions import trace as _trace
from funtorch.numpy.creation import eye
from funtorch.numpy.direct import FLOATS, direct, pair
from funtorch.numpy.elementwise import absolute, conjugate, divide, multiply, subtract, where
from funtorch.numpy.indexing import take_along_axis
from funtorch.numpy.manipulation import matrix_transpose, ravel, reshape, transpose
from funtorch.numpy.norms import matrix_norm, norm, vector_norm
from funtorch.numpy.promotion import (
    asarray,
    broadcast_shapes,
    broadcast_to,
    canonical_axis,
    convert,
    describe,
    promote_inexact,
    static_int,
    to_array,
    to_arrays,
)
from funtorch.numpy.reductions import any as any_
from funtorch.numpy.reductions import max as max_
from funtorch.numpy.reductions import sum as sum_
from funtorch.numpy.sorting import argsort
from funtorch.ops import linalg as ops
from funtorch.ops.orthogonal import geqrf

__all__ = [
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
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


class EigResult(NamedTuple):
    """Eigenvalues, and eigenvectors as columns, both complex."""

    eigenvalues: Any
    eigenvectors: Any


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


def as_matrices(a: Any, name: str, square: bool = False, argument: str = "a") -> Any:
    """Return an argument as float or complex matrices.

    Args:
        a: what was given.
        name: of the function that it was given to.
        square: whether matrices must be.
        argument: its name.

    Raises:
        ValueError: it holds no (square) matrices.
    """
    x = to_array(a, name, argument)
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        kind = "square matrices, shape (..., n, n)" if square else "matrices, shape (..., n, m)"
        raise MismatchError(f"{name}: argument {argument} must hold {kind}, got {describe(x)}")
    return convert(x, dtypes.to_inexact(x.dtype))


def _adjoint(x: Any) -> Any:
    return conjugate(matrix_transpose(x))


# ----------------------------------------------------------------------------------- decompositions


@direct(straight.cholesky, FLOATS)
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
    x = as_matrices(a, "cholesky", square=True)
    if symmetrize_input:
        x = multiply(x + _adjoint(x), 0.5)
    out = ops.cholesky(x)
    return _adjoint(out) if upper else out


def eig(a: Any) -> EigResult:
    """Return eigenvalues and right eigenvectors of square matrices.

    Vectors have length 1, and their largest element is real.

    Args:
        a: matrices, shape (..., n, n).

    Returns:
        EigResult: eigenvalues (..., n) and eigenvectors (..., n, n) as columns, both complex.

    Raises:
        ValueError: a does not hold square matrices.

    Example:
        >>> eig(asarray([[2.0, 0.0], [0.0, 3.0]])).eigenvalues
        Array([2.+0.j, 3.+0.j], dtype=complex64)

    References:
        numpy.linalg.eig
    """
    return EigResult(*ops.eig(as_matrices(a, "eig", square=True)))


def eigvals(a: Any) -> Any:
    """Return the eigenvalues of square matrices, in no certain order.

    Args:
        a: matrices, shape (..., n, n).

    Returns:
        A complex Array of shape (..., n).

    References:
        numpy.linalg.eigvals
    """
    return ops.eig(as_matrices(a, "eigvals", square=True), right=False)[0]


def _hermitian(name: str, a: Any, UPLO: str | None, symmetrize: bool) -> Any:
    """Return matrices whose lower triangle holds what is asked for."""
    x = as_matrices(a, name, square=True)
    if UPLO not in (None, "L", "U"):
        raise ValueError(f"{name}: UPLO must be 'L' or 'U', got {UPLO!r}")
    if symmetrize:
        return multiply(x + _adjoint(x), 0.5)
    return _adjoint(x) if UPLO == "U" else x


def eigh(a: Any, UPLO: str | None = None, symmetrize_input: bool = True) -> EighResult:
    """Return eigenvalues and eigenvectors of Hermitian matrices.

    Args:
        a: Hermitian matrices, shape (..., n, n).
        UPLO: 'L' (as None) or 'U', the triangle that is read when the input is not symmetrized.
        symmetrize_input: take (a + a^H) / 2 first.

    Returns:
        EighResult: eigenvalues (..., n), ascending, and eigenvectors (..., n, n) as columns.

    References:
        numpy.linalg.eigh
    """
    return EighResult(*ops.eigh(_hermitian("eigh", a, UPLO, symmetrize_input)))


def eigvalsh(a: Any, UPLO: str | None = "L", *, symmetrize_input: bool = True) -> Any:
    """Return the eigenvalues of Hermitian matrices in ascending order.

    References:
        numpy.linalg.eigvalsh
    """
    return ops.eigh(_hermitian("eigvalsh", a, UPLO, symmetrize_input), vectors=False)[0]


def qr(a: Any, mode: str = "reduced") -> Any:
    """Factor matrices into orthonormal columns times an upper triangle.

    Args:
        a: matrices, shape (..., n, m).
        mode: 'reduced' or 'full' (min(n, m) columns), 'complete' (n columns), 'r' (the triangle
            alone), or 'raw' (Householder reflectors and their factors, as LAPACK has them,
            transposed).

    Returns:
        QRResult(Q, R), R alone, or (h, taus) for 'raw'.

    Raises:
        ValueError: mode is none of these, or a holds no matrices.

    References:
        numpy.linalg.qr
    """
    if mode not in ("reduced", "complete", "r", "raw", "full"):
        raise ValueError(
            f"qr: mode must be 'reduced', 'complete', 'r', 'raw' or 'full', got {mode!r}"
        )
    x = as_matrices(a, "qr")
    if mode == "raw":
        h, taus = geqrf(x)
        return matrix_transpose(h), taus
    q, r = ops.qr(x, full=mode == "complete")
    return r if mode == "r" else QRResult(q, r)


def svd(
    a: Any,
    full_matrices: bool = True,
    compute_uv: bool = True,
    hermitian: bool = False,
    subset_by_index: tuple[int, int] | None = None,
) -> Any:
    """Return the singular value decomposition a = U @ diag(S) @ Vh.

    Args:
        a: matrices, shape (..., n, m).
        full_matrices: whether U and Vh are square.
        compute_uv: whether to return U and Vh.
        hermitian: whether a is Hermitian, and may be decomposed by its eigenvalues.
        subset_by_index: the first of the values that are wanted, and the one after the last.

    Returns:
        SVDResult(U, S, Vh), or S alone.

    Raises:
        ValueError: a holds no matrices, or subset_by_index does not fit them.

    References:
        numpy.linalg.svd
    """
    x = as_matrices(a, "svd", square=hermitian)
    first, last = _subset(subset_by_index, min(x.shape[-2:]), full_matrices and compute_uv)
    if not compute_uv:
        s = _hermitian_svd(x)[1] if hermitian else ops.svd(x, vectors=False)[0]
        return s[..., first:last] if subset_by_index else s
    if hermitian:
        u, s, vh = _hermitian_svd(x)
    else:
        u, s, vh = ops.svd(x, full=full_matrices and x.shape[-1] != x.shape[-2])
    if subset_by_index:
        u, s, vh = u[..., first:last], s[..., first:last], vh[..., first:last, :]
    return SVDResult(u, s, vh)


def _subset(wanted: tuple[int, int] | None, count: int, full: bool) -> tuple[int, int]:
    if wanted is None:
        return 0, count
    first, last = (static_int(k, "svd: subset_by_index") for k in wanted)
    if not 0 <= first < last <= count or (full and (first, last) != (0, count)):
        raise ValueError(
            f"svd: subset_by_index must be a part of (0, {count}), and full_matrices False; got "
            f"{wanted} with full_matrices={full}"
        )
    return first, last


def _hermitian_svd(x: Any) -> tuple[Any, Any, Any]:
    w, v = ops.eigh(multiply(x + _adjoint(x), 0.5))
    order = argsort(absolute(w), descending=True)
    w, v = take_along_axis(w, order, -1), take_along_axis(v, order[..., None, :], -1)
    signs = convert(where(elementwise.less(w, 0), -1, 1), x.dtype)
    return multiply(v, signs[..., None, :]), absolute(w), _adjoint(v)


def svdvals(x: Any, /) -> Any:
    """Return the singular values in descending order.

    References:
        numpy.linalg.svdvals
    """
    return svd(x, compute_uv=False)


# ---------------------------------------------------------------------------- determinants, solving


def slogdet(a: Any, *, method: str | None = None) -> SlogdetResult:
    """Return the sign and the logarithm of the absolute value of determinants.

    References:
        numpy.linalg.slogdet
    """
    if method not in (None, "lu", "qr"):
        raise ValueError(f"slogdet: method must be None, 'lu' or 'qr', got {method!r}")
    return SlogdetResult(*ops.slogdet(as_matrices(a, "slogdet", square=True)))


def det(a: Any) -> Any:
    """Return determinants.

    References:
        numpy.linalg.det
    """
    x = as_matrices(a, "det", square=True)
    n = x.shape[-1]
    if n == 1:
        return x[..., 0, 0]
    if n == 2:
        return x[..., 0, 0] * x[..., 1, 1] - x[..., 0, 1] * x[..., 1, 0]
    if n == 3:
        return sum_(multiply(x[..., 0, :], contractions.cross(x[..., 1, :], x[..., 2, :])), -1)
    return ops.det(x)


@direct(straight.solve, FLOATS, pair)
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
    x = as_matrices(a, "solve", square=True)
    y = to_array(b, "solve", "b")
    vector = y.ndim == 1
    if y.ndim == 0 or y.shape[0 if vector else -2] != x.shape[-1]:
        raise ValueError(f"solve: b {describe(y)} does not fit a {describe(x)}")
    if vector:
        y = reshape(y, (*y.shape, 1))
    x, y = promote_inexact("solve", x, y)
    batch = broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x, y = broadcast_to(x, batch + x.shape[-2:]), broadcast_to(y, batch + y.shape[-2:])
    out = ops.solve(x, y)
    return reshape(out, out.shape[:-1]) if vector else out


@direct(straight.inv, FLOATS)
def inv(a: Any) -> Any:
    """Invert matrices.

    References:
        numpy.linalg.inv
    """
    x = as_matrices(a, "inv", square=True)
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
            times the larger size times eps).
        hermitian: whether a is Hermitian, and may be decomposed by its eigenvalues.

    Raises:
        ValueError: a does not hold matrices, or no square ones though ``hermitian``.

    References:
        numpy.linalg.pinv
    """
    x = as_matrices(a, "pinv", square=hermitian)
    rtol = rcond if rtol is None else rtol
    if rtol is None:
        rtol = 10 * max(x.shape[-2:]) * float(dtypes.finfo(x.dtype).eps)
    if isinstance(rtol, (int, float)):
        return ops.pinv(x, rtol=float(rtol), hermitian=hermitian)
    u, s, vh = svd(x, full_matrices=False, hermitian=hermitian)
    small = elementwise.less_equal(s, _cutoff(s, rtol, x.shape))
    inverse = where(small, 0, divide(1, where(small, 1, s)))
    return matmul(_adjoint(vh), multiply(convert(inverse, x.dtype)[..., None], _adjoint(u)))


def matrix_rank(M: Any, rtol: Any = None, *, hermitian: bool = False, tol: Any = None) -> Any:
    """Count the singular values that are not negligible.

    Args:
        M: matrices, shape (..., n, m).
        rtol: values up to this fraction of the largest are (default: the larger size times eps).
        hermitian: whether M is Hermitian.
        tol: values up to this are, instead.

    Raises:
        ValueError: both rtol and tol are given.

    References:
        numpy.linalg.matrix_rank
    """
    if tol is not None and rtol is not None:
        raise ValueError("matrix_rank: give rtol or tol, not both")
    if to_array(M, "matrix_rank", "M").ndim < 2:
        return convert(any_(elementwise.not_equal(M, 0)), config.default_int)
    x = as_matrices(M, "matrix_rank", square=hermitian)
    s = svd(x, compute_uv=False, hermitian=hermitian)
    limit = _cutoff(s, rtol, x.shape) if tol is None else asarray(tol, s.dtype)[..., None]
    return sum_(elementwise.greater(s, limit), -1)


def cond(x: Any, p: Any = None) -> Any:
    """Return condition numbers; p is a matrix norm.

    Args:
        x: matrices, shape (..., n, m); n = m unless p is None, 2 or -2.
        p: None (2), or an order of `norm` for matrices.

    Raises:
        ValueError: x holds no matrices, or empty ones.

    References:
        numpy.linalg.cond
    """
    a = as_matrices(x, "cond", square=p not in (None, 2, -2))
    if 0 in a.shape[-2:]:
        raise ValueError(f"cond: argument x must not be empty, got {describe(a)}")
    if p in (None, 2, -2):
        s = svd(a, compute_uv=False)
        out = divide(s[..., -1], s[..., 0]) if p == -2 else divide(s[..., 0], s[..., -1])
    else:
        out = multiply(norm(a, p, (-2, -1)), norm(inv(a), p, (-2, -1)))
    unknown = any_(elementwise.isnan(a), (-2, -1))
    singular = elementwise.logical_and(elementwise.isnan(out), elementwise.logical_not(unknown))
    return where(singular, math.inf, out)


def lstsq(
    a: Any, b: Any, rcond: float | None = None, *, numpy_resid: bool = False
) -> tuple[Any, Any, Any, Any]:
    """Return the x of least norm that minimizes |a @ x - b|.

    Args:
        a: matrix of shape (n, m).
        b: shape (n,) or (n, k).
        rcond: singular values up to this fraction of the largest count as zero (default: the larger
            size times eps).
        numpy_resid: give no residuals where NumPy gives none (not under jit).

    Returns:
        (x, squared residuals, rank, singular values).

    Raises:
        ValueError: the shapes do not fit.

    References:
        numpy.linalg.lstsq
    """
    x, y = promote_inexact("lstsq", *to_arrays("lstsq", a=a, b=b))
    if x.ndim != 2 or y.ndim not in (1, 2) or x.shape[0] != y.shape[0]:
        raise ValueError(
            f"lstsq: a {describe(x)} must be (n, m) and b {describe(y)} (n,) or (n, k)"
        )
    rhs = reshape(y, (-1, 1)) if y.ndim == 1 else y
    m, n = x.shape
    eps = float(dtypes.finfo(x.dtype).eps)
    cutoff = max(m, n) * eps if rcond is None else float(rcond)
    cutoff = eps if cutoff < 0 else cutoff
    s = svd(x, compute_uv=False)
    out = matmul(ops.pinv(x, rtol=cutoff), rhs)
    rank = sum_(elementwise.greater(s, _cutoff(s, cutoff, x.shape)))
    residual = sum_(elementwise.square(absolute(subtract(rhs, matmul(x, out)))), 0)
    if numpy_resid and (m <= n or int(rank) < n):
        residual = residual[:0]
    return (out[:, 0] if y.ndim == 1 else out), residual, rank, s


def matrix_power(a: Any, n: int) -> Any:
    """Multiply a square matrix with itself n times; negative n inverts first.

    References:
        numpy.linalg.matrix_power
    """
    x = to_array(a, "matrix_power", "a")
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise MismatchError(f"matrix_power: a must hold square matrices, got {describe(x)}")
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

    Args:
        a: array whose first axes have the sizes of b's, and as many elements along the others.
        b: array.
        axes: axes of a that are moved to its end first.

    References:
        numpy.linalg.tensorsolve
    """
    x, y = to_arrays("tensorsolve", a=a, b=b)
    if axes is not None:
        moved = [canonical_axis(k, x.ndim, "tensorsolve") for k in axes]
        x = transpose(x, [k for k in range(x.ndim) if k not in moved] + moved)
    shape = x.shape[y.ndim :]
    return reshape(solve(reshape(x, (y.size, -1)), ravel(y)), shape)


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


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """Return the vectors orthogonal to pairs of vectors of three elements.

    Args:
        x1, x2: arrays that broadcast, of size 3 along the axis.
        axis: the axis of the vectors.

    Raises:
        ValueError: vectors have another number of elements.

    References:
        numpy.linalg.cross
    """
    a, b = to_array(x1, "cross", "x1"), to_array(x2, "cross", "x2")
    sizes = [x.shape[canonical_axis(axis, x.ndim, "cross")] for x in (a, b)]
    if sizes != [3, 3]:
        raise ValueError(
            "cross: both input arrays must be (arrays of) 3-dimensional vectors, but they have "
            f"sizes {sizes[0]} and {sizes[1]} along axis {axis}"
        )
    return contractions.cross(a, b, axis=axis)


def outer(x1: Any, x2: Any, /) -> Any:
    """Return the matrix of all products of two vectors.

    Raises:
        ValueError: an argument is no vector.

    References:
        numpy.linalg.outer
    """
    a, b = to_array(x1, "outer", "x1"), to_array(x2, "outer", "x2")
    if (a.ndim, b.ndim) != (1, 1):
        raise ValueError(
            "outer: input arrays must be one-dimensional, but they are "
            f"{describe(a)} and {describe(b)}"
        )
    return contractions.outer(a, b)
