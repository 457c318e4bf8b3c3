"""Factorisations of matrices under SciPy's names."""

from __future__ import annotations

from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch.core import concrete_or_error
from funtorch.lax import linalg as lax_linalg
from funtorch.numpy.linalg import as_matrices
from funtorch.numpy.promotion import describe, promote_inexact, to_array
from funtorch.ops import linalg as ops
from funtorch.ops import orthogonal
from funtorch.scipy.linalg.solvers import system

__all__ = [
    "cho_factor",
    "cho_solve",
    "cholesky",
    "eigh",
    "eigh_tridiagonal",
    "hessenberg",
    "lu",
    "lu_factor",
    "lu_solve",
    "polar",
    "qr",
    "qr_multiply",
    "rsf2csf",
    "schur",
    "svd",
]


def _adjoint(x: Any) -> Any:
    return fnp.conj(fnp.matrix_transpose(x))


# ----------------------------------------------------------------------------------------- Cholesky
def cholesky(
    a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> Any:
    """Return the Cholesky factor: u with a = uᴴ u, or l with a = l lᴴ if ``lower``.

    Args:
        a: Hermitian matrices, shape (..., n, n); the triangle that is asked for is read.
        lower: which factor to return.
        overwrite_a, check_finite: accepted for SciPy's sake.

    Returns:
        An Array of the shape of a; nan where a matrix is not positive definite.

    Raises:
        ValueError: a does not hold square matrices.
    """
    x = as_matrices(a, "cholesky", square=True)
    out = ops.cholesky(x if lower else _adjoint(x))
    return out if lower else _adjoint(out)


def cho_factor(
    a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> tuple[Any, bool]:
    """Return what `cho_solve` takes: the Cholesky factor, and ``lower``.

    Args:
        a: Hermitian matrices, shape (..., n, n).
        lower: which factor.
        overwrite_a, check_finite: accepted for SciPy's sake.

    Raises:
        ValueError: a does not hold square matrices.
    """
    return cholesky(a, lower), lower


def cho_solve(
    c_and_lower: tuple[Any, bool], b: Any, overwrite_b: bool = False, check_finite: bool = True
) -> Any:
    """Solve a @ x = b with the Cholesky factor of a.

    Args:
        c_and_lower: what `cho_factor` gave.
        b: right-hand sides, shape (n,) or (..., n, k).
        overwrite_b, check_finite: accepted for SciPy's sake.

    Returns:
        An Array of the shape of b.

    Raises:
        ValueError: the shapes do not fit.
    """
    c, lower = c_and_lower
    x, y, vector = system("cho_solve", c, b)
    first, last = (0, 2) if lower else (2, 0)
    half = ops.triangular_solve(x, y, lower=bool(lower), trans=first, unit=False)
    out = ops.triangular_solve(x, half, lower=bool(lower), trans=last, unit=False)
    return out[..., 0] if vector else out


# ----------------------------------------------------------------------------------------- spectra
def eigh(
    a: Any,
    b: Any = None,
    lower: bool = True,
    eigvals_only: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    turbo: bool = True,
    eigvals: tuple[int, int] | None = None,
    type: int = 1,
    check_finite: bool = True,
) -> Any:
    """Return eigenvalues and eigenvectors of Hermitian matrices: a v = b v diag(w).

    Args:
        a: Hermitian matrices, shape (..., n, n).
        b: positive definite matrices of the same shape; None: the identity.
        lower: which triangle is read.
        eigvals_only: return w alone.
        eigvals: the first and the last of the values that are wanted.
        type: with b: 1: a v = b v w, 2: a b v = v w, 3: b a v = v w.
        overwrite_a, overwrite_b, turbo, check_finite: accepted for SciPy's sake.

    Returns:
        w (..., n) ascending, and v (..., n, n) with vectors as columns, normalized as SciPy does.

    Raises:
        ValueError: the shapes do not fit, or type is not 1, 2 or 3.
    """
    if type not in (1, 2, 3):
        raise ValueError(f"eigh: type must be 1, 2 or 3, got {type!r}")
    x = as_matrices(a, "eigh", square=True)
    x = x if lower else _adjoint(x)
    if b is None:
        w, v = ops.eigh(x)
    else:
        y = as_matrices(b, "eigh", square=True, argument="b")
        if y.shape != x.shape:
            raise ValueError(f"eigh: b {describe(y)} must have the shape of a {describe(x)}")
        x, y = promote_inexact("eigh", x, y if lower else _adjoint(y))
        w, v = _generalized(x, y, type)
    if eigvals is not None:
        w, v = w[..., eigvals[0] : eigvals[1] + 1], v[..., eigvals[0] : eigvals[1] + 1]
    return w if eigvals_only else (w, v)


def _generalized(a: Any, b: Any, kind: int) -> tuple[Any, Any]:
    low = ops.cholesky(b)
    a = fnp.tril(a) + _adjoint(fnp.tril(a, -1))

    def solved(x: Any, trans: int) -> Any:
        return ops.triangular_solve(low, x, lower=True, trans=trans, unit=False)

    if kind == 1:
        w, v = ops.eigh(solved(_adjoint(solved(a, 0)), 0))
        return w, solved(v, 2)
    w, v = ops.eigh(fnp.matmul(_adjoint(low), fnp.matmul(a, low)))
    return w, solved(v, 2) if kind == 2 else fnp.matmul(low, v)


def eigh_tridiagonal(
    d: Any,
    e: Any,
    *,
    eigvals_only: bool = False,
    select: str = "a",
    select_range: tuple[float, float] | None = None,
    tol: float | None = None,
    key: Any = None,
) -> Any:
    """Return eigenvalues and eigenvectors of symmetric tridiagonal matrices.

    Args:
        d: the diagonal, shape (..., n).
        e: what is beside it, shape (..., n - 1); of complex numbers the conjugate is above.
        eigvals_only: return w alone.
        select: 'a' for all values, 'i' for those with the numbers in select_range, 'v' for those
            in that interval, which is closed above; for these values must be known.
        select_range: the first and the last number wanted, or the ends of the interval.
        tol, key: accepted for JAX's sake.

    Returns:
        w (..., n) ascending, and v (..., n, n) with vectors as columns.

    Raises:
        ValueError: the shapes do not fit, or select_range is missing.
        ConcretizationTypeError: select is 'v' under jit: the size of the result depends on values.

    Example:
        >>> line = fnp.ones(3)
        >>> w, v = eigh_tridiagonal(line, line[:2], select="v", select_range=(0, 3))
        >>> w.shape, v.shape
        ((2,), (3, 2))
    """
    fits = select == "a" or (np.shape(select_range) == (2,) and select in ("i", "v"))
    if not fits or (select == "i" and np.min(select_range or 0) < 0):
        raise ValueError(
            "eigh_tridiagonal: select must be 'a', or 'i' or 'v' with select_range of two numbers, "
            f"got select={select!r} and select_range={select_range!r:.80}"
        )
    given = {"d": d, "e": e}
    x, y = promote_inexact(
        "eigh_tridiagonal", *(to_array(v, "eigh_tridiagonal", k) for k, v in given.items())
    )
    n = x.shape[-1] if x.ndim else 0
    if x.ndim < 1 or y.shape != (*x.shape[:-1], max(n - 1, 0)):
        raise ValueError(
            f"eigh_tridiagonal: e {describe(y)} must have one element less than d {describe(x)}"
        )
    row, column = fnp.arange(n)[:, None], fnp.arange(n)
    beside = fnp.concatenate([y, fnp.zeros((*y.shape[:-1], 1), y.dtype)], axis=-1)
    low = fnp.where(row == column + 1, beside[..., None, :], 0)
    middle = fnp.where(row == column, fnp.astype(fnp.real(x), y.dtype)[..., None, :], 0)
    w, v = ops.eigh(middle + low + _adjoint(low))
    if select == "a":
        return w if eigvals_only else (w, v)
    first, last = select_range or (0, 0)
    if select == "v":
        first, last = _numbers_between(w, first, last)
    w, v = w[..., int(first) : int(last) + 1], v[..., int(first) : int(last) + 1]
    return w if eigvals_only else (w, v)


def _numbers_between(w: Any, low: float, high: float) -> tuple[int, int]:
    """Return the numbers of the first and the last of known ascending values in an interval."""
    if w.ndim != 1:
        raise ValueError(
            f"eigh_tridiagonal: select='v' takes one matrix, got a stack of shape {w.shape[:-1]}"
        )
    values = concrete_or_error(w, "the number of eigenvalues in an interval (see select='i')")
    first, beyond = np.searchsorted(values, [low, high], "right")
    return int(first), int(beyond) - 1


def svd(
    a: Any,
    full_matrices: bool = True,
    compute_uv: bool = True,
    overwrite_a: bool = False,
    check_finite: bool = True,
    lapack_driver: str = "gesdd",
) -> Any:
    """Return the singular value decomposition a = u @ diag(s) @ vh.

    Args:
        a: matrices, shape (..., m, n).
        full_matrices: whether u and vh are square.
        compute_uv: whether to return u and vh.
        overwrite_a, check_finite, lapack_driver: accepted for SciPy's sake.

    Returns:
        (u, s, vh), or s alone.

    Raises:
        ValueError: a does not hold matrices.
    """
    out = fnp.linalg.svd(a, full_matrices, compute_uv)
    return tuple(out) if compute_uv else out


def schur(a: Any, output: str = "real") -> tuple[Any, Any]:
    """Return the Schur form t and the unitary z with a = z @ t @ zᴴ.

    Args:
        a: matrices, shape (..., n, n).
        output: 'real': t of a real matrix is real, with blocks of two rows for conjugate pairs of
            eigenvalues; 'complex': t is triangular.

    Returns:
        (t, z).

    Raises:
        ValueError: a does not hold square matrices, or output is neither.
    """
    if output not in ("real", "complex"):
        raise ValueError(f"schur: output must be 'real' or 'complex', got {output!r}")
    x = as_matrices(a, "schur", square=True)
    if output == "complex":
        x = fnp.astype(x, fnp.result_type(x.dtype, fnp.complex64))
    return tuple(ops.schur(x))


def rsf2csf(T: Any, Z: Any, check_finite: bool = True) -> tuple[Any, Any]:
    """Make a real Schur form complex and triangular.

    Args:
        T: real Schur forms, shape (..., n, n).
        Z: their orthogonal matrices, of the same shape.
        check_finite: accepted for SciPy's sake.

    Returns:
        (t, z), complex, with Z @ T @ Zᵀ = z @ t @ zᴴ.

    Raises:
        ValueError: the shapes do not fit.
    """
    x = as_matrices(T, "rsf2csf", square=True, argument="T")
    y = as_matrices(Z, "rsf2csf", square=True, argument="Z")
    if x.shape != y.shape:
        raise ValueError(f"rsf2csf: T {describe(x)} and Z {describe(y)} must have one shape")
    x, y = promote_inexact("rsf2csf", x, y)
    t, q = schur(x, output="complex")
    return t, fnp.matmul(fnp.astype(y, q.dtype), q)


def hessenberg(
    a: Any, *, calc_q: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> Any:
    """Return the Hessenberg form h, and the unitary q with a = q @ h @ qᴴ if ``calc_q``.

    It has no derivative.

    Args:
        a: matrices, shape (..., n, n).
        calc_q: whether to return q.
        overwrite_a, check_finite: accepted for SciPy's sake.

    Returns:
        h, or (h, q).

    Raises:
        ValueError: a does not hold square matrices.
    """
    x = as_matrices(a, "hessenberg", square=True)
    packed, taus = orthogonal.hessenberg(x)
    h, n = fnp.triu(packed, -1), x.shape[-1]
    if not calc_q:
        return h
    q = fnp.broadcast_to(fnp.eye(n, dtype=x.dtype), x.shape)
    if n > 1:
        inner = ops.householder_product(packed[..., 1:, :-1], taus)
        q = q.at[..., 1:, 1:].set(inner)
    return h, q


def polar(
    a: Any,
    side: str = "right",
    *,
    method: str = "qdwh",
    eps: float | None = None,
    max_iterations: int | None = None,
) -> tuple[Any, Any]:
    """Return the polar decomposition: a = u @ p, or a = p @ u if ``side`` is 'left'.

    Args:
        a: matrices, shape (..., m, n).
        side: 'right' or 'left'.
        method, eps, max_iterations: accepted for JAX's sake; singular values are used in any case.

    Returns:
        (u, p): u with orthonormal columns (or rows), p Hermitian and positive semidefinite.

    Raises:
        ValueError: a does not hold matrices, side is neither, or there are fewer rows than columns
            (right), or more (left).
    """
    x = as_matrices(a, "polar")
    if side not in ("right", "left") or method not in ("qdwh", "svd"):
        raise ValueError(
            f"polar: side must be 'right' or 'left' and method 'qdwh' or 'svd', got {side!r} and "
            f"{method!r}"
        )
    if side == "right":
        return lax_linalg.qdwh(x)[:2]
    u, p, *_ = lax_linalg.qdwh(_adjoint(x))
    return _adjoint(u), p


# ----------------------------------------------------------------------------------------------- LU
def lu_factor(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> tuple[Any, Any]:
    """Return what `lu_solve` takes: both factors in one matrix, and the pivots.

    Args:
        a: matrices, shape (..., m, n).
        overwrite_a, check_finite: accepted for SciPy's sake.

    Returns:
        (lu, pivots).

    Raises:
        ValueError: a does not hold matrices.
    """
    return tuple(lax_linalg.lu(as_matrices(a, "lu_factor"))[:2])


def lu_solve(
    lu_and_piv: tuple[Any, Any],
    b: Any,
    trans: int = 0,
    overwrite_b: bool = False,
    check_finite: bool = True,
) -> Any:
    """Solve op(a) @ x = b with the factors of a.

    Args:
        lu_and_piv: what `lu_factor` gave.
        b: right-hand sides, shape (n,) or (..., n, k).
        trans: 0: op(a) is a; 1: its transpose; 2: its adjoint.
        overwrite_b, check_finite: accepted for SciPy's sake.

    Returns:
        An Array of the shape of b.

    Raises:
        ValueError: the shapes do not fit, or trans is none of these.
    """
    if trans not in (0, 1, 2):
        raise ValueError(f"lu_solve: trans must be 0, 1 or 2, got {trans!r}")
    lu, pivots = lu_and_piv
    x, y, vector = system("lu_solve", lu, b)
    order = lax_linalg.lu_pivots_to_permutation(pivots, x.shape[-1])
    order = fnp.broadcast_to(order, x.shape[:-1])

    def solved(y: Any, lower: bool) -> Any:
        return ops.triangular_solve(x, y, lower=lower, trans=trans, unit=lower)

    if trans == 0:
        out = solved(solved(orthogonal.ordered_rows(y, order), True), False)
    else:
        out = solved(solved(y, False), True)
        out = orthogonal.ordered_rows(out, fnp.astype(fnp.argsort(order, axis=-1), order.dtype))
    return out[..., 0] if vector else out


def lu(
    a: Any, permute_l: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> tuple[Any, ...]:
    """Factor matrices with partial pivoting: a = p @ l @ u.

    Args:
        a: matrices, shape (..., m, n).
        permute_l: return p @ l instead of p and l.
        overwrite_a, check_finite: accepted for SciPy's sake.

    Returns:
        (p, l, u), or (p @ l, u).

    Raises:
        ValueError: a does not hold matrices.
    """
    x = as_matrices(a, "lu")
    factors, _, order = lax_linalg.lu(x)
    m, n = x.shape[-2:]
    k = min(m, n)
    lower = fnp.tril(factors[..., :k], -1) + fnp.eye(m, k, dtype=x.dtype)
    upper = fnp.triu(factors[..., :k, :])
    p = fnp.astype(fnp.arange(m)[:, None] == order[..., None, :], fnp.real(x).dtype)
    if permute_l:
        return fnp.matmul(fnp.astype(p, x.dtype), lower), upper
    return p, lower, upper


# ----------------------------------------------------------------------------------------------- QR
def qr(
    a: Any,
    overwrite_a: bool = False,
    lwork: Any = None,
    mode: str = "full",
    pivoting: bool = False,
    check_finite: bool = True,
) -> tuple[Any, ...]:
    """Factor matrices into orthonormal columns times an upper triangle.

    Args:
        a: matrices, shape (..., m, n).
        mode: 'full' (q is square), 'economic' (min(m, n) columns) or 'r' (no q).
        pivoting: order columns so that the diagonal of r falls in absolute value.
        overwrite_a, lwork, check_finite: accepted for SciPy's sake.

    Returns:
        (q, r), with the order of columns if ``pivoting``; (r,) or (r, p) in mode 'r'.

    Raises:
        ValueError: a does not hold matrices, or mode is none of these.
    """
    if mode not in ("full", "economic", "r"):
        raise ValueError(f"qr: mode must be 'full', 'economic' or 'r', got {mode!r}")
    x = as_matrices(a, "qr")
    out = lax_linalg.qr(x, pivoting=pivoting, full_matrices=mode != "economic")
    return out[1:] if mode == "r" else out


def qr_multiply(
    a: Any,
    c: Any,
    mode: str = "right",
    pivoting: bool = False,
    conjugate: bool = False,
    overwrite_a: bool = False,
    overwrite_c: bool = False,
) -> tuple[Any, ...]:
    """Multiply with the q of a QR factorisation without forming it.

    Args:
        a: matrices, shape (..., m, n).
        c: vectors or matrices: of m columns, or of min(m, n) rows if mode is 'left'.
        mode: 'right' for c @ q, 'left' for q @ c, where q has min(m, n) columns.
        pivoting: order the columns of a.
        conjugate: take the conjugate of q.
        overwrite_a, overwrite_c: accepted for SciPy's sake.

    Returns:
        (product, r), with the order of columns if ``pivoting``.

    Raises:
        ValueError: the shapes do not fit, or mode is neither.
    """
    if mode not in ("right", "left"):
        raise ValueError(f"qr_multiply: mode must be 'right' or 'left', got {mode!r}")
    x = as_matrices(a, "qr_multiply")
    x, y = promote_inexact("qr_multiply", x, to_array(c, "qr_multiply", "c"))
    q, *rest = lax_linalg.qr(x, pivoting=pivoting, full_matrices=False)
    vector = y.ndim == 1
    want = q.shape[-2 if mode == "right" else -1]
    if vector:
        y = y[None, :] if mode == "right" else y[:, None]
    if y.ndim < 2 or y.shape[-1 if mode == "right" else -2] != want:
        raise ValueError(
            f"qr_multiply: c {describe(y)} does not fit a {describe(x)} in mode {mode!r}"
        )
    q = fnp.conj(q) if conjugate else q
    out = fnp.matmul(y, q) if mode == "right" else fnp.matmul(q, y)
    if vector:
        out = out[..., 0, :] if mode == "right" else out[..., 0]
    return (out, *rest)
