"""Linear algebra of sparse matrices: `spsolve`."""

from __future__ import annotations

from typing import Any

from funtorch import numpy as fnp
from funtorch.numpy import linalg

from .bcsr import BCSR

__all__ = ["spsolve"]


def spsolve(
    data: Any, indices: Any, indptr: Any, b: Any, tol: float = 1e-6, reorder: int = 1
) -> Any:
    """Solve A x = b for a sparse matrix by rows. It is made dense: for matrices of moderate size.

    Args:
        data, indices, indptr: the matrix A, as in `BCSR`.
        b: right side, shape (n,).
        tol, reorder: taken for JAX's sake.

    Returns:
        x, shape (n,).

    Example:
        >>> M = BCSR.fromdense(fnp.array([[2.0, 0.0], [1.0, 4.0]]))
        >>> spsolve(M.data, M.indices, M.indptr, fnp.array([2.0, 9.0]))
        Array([1., 2.], dtype=float32)
    """
    n = fnp.shape(indptr)[0] - 1
    return linalg.solve(BCSR((data, indices, indptr), shape=(n, n)).todense(), b)
