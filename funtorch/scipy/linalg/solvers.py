"""Systems of linear equations under SciPy's names."""

from __future__ import annotations

from typing import Any

import funtorch.numpy as fnp
from funtorch.numpy.linalg import as_matrices
from funtorch.numpy.promotion import broadcast_shapes, describe, promote_inexact, to_array
from funtorch.ops import linalg as ops

__all__ = ["det", "inv", "solve", "solve_sylvester", "solve_triangular", "system"]

_TRANS = {0: 0, "N": 0, 1: 1, "T": 1, 2: 2, "C": 2}


def system(name: str, a: Any, b: Any) -> tuple[Any, Any, bool]:
    """Return the matrices and the right-hand sides of a system, and whether those were vectors.

    Args:
        name: of the function that they were given to.
        a: matrices, shape (..., n, n).
        b: shape (n,) or (..., n, k).

    Raises:
        ValueError: the shapes do not fit.
    """
    x = as_matrices(a, name, square=True)
    y = to_array(b, name, "b")
    vector = y.ndim == 1
    if y.ndim == 0 or y.shape[0 if vector else -2] != x.shape[-1]:
        raise ValueError(f"{name}: b {describe(y)} does not fit a {describe(x)}")
    y = y[:, None] if vector else y
    x, y = promote_inexact(name, x, y)
    lead = broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x = fnp.broadcast_to(x, lead + x.shape[-2:])
    return x, fnp.broadcast_to(y, lead + y.shape[-2:]), vector


def det(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    """Return determinants.

    Args:
        a: matrices, shape (..., n, n).
        overwrite_a, check_finite: accepted for SciPy's sake.

    Returns:
        An Array of shape (...).

    Raises:
        ValueError: a does not hold square matrices.
    """
    return fnp.linalg.det(a)


def inv(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    """Invert matrices.

    Args:
        a: matrices, shape (..., n, n).
        overwrite_a, check_finite: accepted for SciPy's sake.

    Returns:
        An Array of the shape of a; nan where a matrix is singular.

    Raises:
        ValueError: a does not hold square matrices.
    """
    return fnp.linalg.inv(a)


def solve(
    a: Any,
    b: Any,
    lower: bool = False,
    overwrite_a: bool = False,
    overwrite_b: bool = False,
    debug: bool = False,
    check_finite: bool = True,
    assume_a: str = "gen",
) -> Any:
    """Solve a @ x = b.

    Args:
        a: matrices, shape (..., n, n).
        b: right-hand sides, shape (n,) or (..., n, k).
        lower: which triangle of a is read if it is Hermitian.
        overwrite_a, overwrite_b, debug, check_finite: accepted for SciPy's sake.
        assume_a: 'gen', 'sym', 'her', or 'pos' for positive definite matrices, which are solved by
            a Cholesky factorisation.

    Returns:
        An Array of the shape of b, batch axes broadcast; nan where a matrix is singular.

    Raises:
        ValueError: the shapes do not fit, or assume_a is none of these.

    Example:
        >>> a, b = fnp.diag(fnp.asarray([4.0, 16.0])), fnp.asarray([4.0, 16.0])
        >>> solve(a, b, assume_a="pos")
        Array([1., 1.], dtype=float32)
    """
    if assume_a not in ("gen", "sym", "her", "pos"):
        raise ValueError(f"solve: assume_a must be 'gen', 'sym', 'her' or 'pos', got {assume_a!r}")
    if assume_a != "pos":
        return fnp.linalg.solve(a, b)
    x, y, vector = system("solve", a, b)
    low = ops.cholesky(x if lower else fnp.conj(fnp.matrix_transpose(x)))
    half = ops.triangular_solve(low, y, lower=True, trans=0, unit=False)
    out = ops.triangular_solve(low, half, lower=True, trans=2, unit=False)
    return out[..., 0] if vector else out


def solve_triangular(
    a: Any,
    b: Any,
    trans: int | str = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
    overwrite_b: bool = False,
    debug: Any = None,
    check_finite: bool = True,
) -> Any:
    """Solve op(a) @ x = b for a triangular a.

    Args:
        a: matrices, shape (..., n, n); one triangle is read.
        b: right-hand sides, shape (n,) or (..., n, k).
        trans: 0 or 'N': op(a) is a; 1 or 'T': its transpose; 2 or 'C': its adjoint.
        lower: which triangle is read.
        unit_diagonal: take the diagonal of a to be 1.
        overwrite_b, debug, check_finite: accepted for SciPy's sake.

    Returns:
        An Array of the shape of b; nan where a matrix is singular.

    Raises:
        ValueError: the shapes do not fit, or trans is none of these.
    """
    if trans not in _TRANS:
        raise ValueError(f"solve_triangular: trans must be 0, 1, 2, 'N', 'T' or 'C', got {trans!r}")
    x, y, vector = system("solve_triangular", a, b)
    out = ops.triangular_solve(x, y, lower=bool(lower), trans=_TRANS[trans], unit=unit_diagonal)
    return out[..., 0] if vector else out


def solve_sylvester(A: Any, B: Any, C: Any, *, method: str = "schur", tol: float = 1e-8) -> Any:
    """Solve A @ X + X @ B = C.

    Args:
        A: matrices, shape (..., m, m).
        B: matrices, shape (..., n, n).
        C: matrices, shape (..., m, n).
        method: 'schur' (Bartels and Stewart) or 'eigen' (by eigenvectors, which A and B must have).
        tol: for 'eigen', sums of eigenvalues of A and B of no more than this count as 0: there is
            no unique solution, and X is nan.

    Returns:
        An Array of the shape of C.

    Raises:
        ValueError: the shapes do not fit, or method is neither.

    References:
        R. H. Bartels, G. W. Stewart, "Solution of the matrix equation AX + XB = C", Communications
        of the ACM 15 (1972).
    """
    if method not in ("schur", "eigen"):
        raise ValueError(f"solve_sylvester: method must be 'schur' or 'eigen', got {method!r}")
    a = as_matrices(A, "solve_sylvester", square=True, argument="A")
    b = as_matrices(B, "solve_sylvester", square=True, argument="B")
    c = as_matrices(C, "solve_sylvester", argument="C")
    if c.shape != (*a.shape[:-1], b.shape[-1]) or a.shape[:-2] != b.shape[:-2]:
        raise ValueError(
            f"solve_sylvester: C {describe(c)} does not fit A {describe(a)} and B {describe(b)}"
        )
    a, b, c = promote_inexact("solve_sylvester", a, b, c)
    if method == "schur":
        return ops.sylvester(a, b, c)
    (p, u), (q, v) = fnp.linalg.eig(a), fnp.linalg.eig(b)
    sums = p[..., :, None] + q[..., None, :]
    inner = fnp.matmul(fnp.linalg.solve(u, fnp.astype(c, u.dtype)), v)
    small = fnp.any(fnp.abs(sums) < tol, (-2, -1), keepdims=True)
    x = fnp.matmul(u, inner / fnp.where(small, fnp.nan, sums))
    # x v⁻¹ by way of transposes.
    turned = fnp.linalg.solve(fnp.matrix_transpose(v), fnp.matrix_transpose(x))
    out = fnp.matrix_transpose(turned)
    return out if c.dtype == out.dtype else fnp.real(out)
