"""The names of jax.lax.linalg: factorisations of matrices, with leading axes as batches.

    >>> import funtorch as ft
    >>> lu, pivots, permutation = ft.lax.linalg.lu(ft.numpy.asarray([[0.0, 2.0], [1.0, 1.0]]))
    >>> permutation
    Array([1, 0], dtype=int32)

References:
    jax.lax.linalg, https://docs.jax.dev/en/latest/jax.lax.html#module-jax.lax.linalg
    N. J. Higham, "Functions of Matrices", 2008, chapter 8 (polar decompositions).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.numpy.linalg import as_matrices
from funtorch.numpy.promotion import broadcast_shapes, describe, promote_inexact, to_array
from funtorch.ops import linalg as ops
from funtorch.ops import orthogonal
from funtorch.ops.elementwise import stop_gradient
from funtorch.transforms import custom_jvp, scan

__all__ = [
    "cholesky",
    "cholesky_update",
    "eig",
    "eigh",
    "hessenberg",
    "householder_product",
    "lu",
    "lu_pivots_to_permutation",
    "ormqr",
    "qdwh",
    "qr",
    "schur",
    "svd",
    "symmetric_product",
    "triangular_solve",
    "tridiagonal",
    "tridiagonal_solve",
]


def _adjoint(x: Any) -> Any:
    return fnp.conj(fnp.matrix_transpose(x))


def _hermitian(x: Any) -> Any:
    return fnp.multiply(x + _adjoint(x), 0.5)


def cholesky(x: Any, *, symmetrize_input: bool = True) -> Any:
    """Return the lower triangular l with x = l lᴴ; nan where x is not positive definite.

    Args:
        x: Hermitian matrices, shape (..., n, n).
        symmetrize_input: take (x + xᴴ) / 2 first; otherwise the lower triangle is read.

    Returns:
        An Array of the shape of x.

    Raises:
        ValueError: x does not hold square matrices.
    """
    a = as_matrices(x, "cholesky", square=True, argument="x")
    return ops.cholesky(_hermitian(a) if symmetrize_input else a)


def cholesky_update(r_matrix: Any, w_vector: Any) -> Any:
    """Return the upper triangular factor of rᴴ r + w wᴴ, with a diagonal that is not negative.

    Args:
        r_matrix: upper triangular matrices, shape (..., n, n).
        w_vector: vectors, shape (..., n).

    Returns:
        An Array of the shape of r_matrix.

    Raises:
        ValueError: the shapes do not fit.
    """
    r = as_matrices(r_matrix, "cholesky_update", square=True, argument="r_matrix")
    w = to_array(w_vector, "cholesky_update", "w_vector")
    if w.ndim < 1 or w.shape[-1] != r.shape[-1]:
        raise ValueError(
            f"cholesky_update: w_vector {describe(w)} must have as many elements as r_matrix "
            f"{describe(r)} has rows"
        )
    r, w = promote_inexact("cholesky_update", r, w)
    lead = broadcast_shapes(r.shape[:-2], w.shape[:-1])
    r = fnp.broadcast_to(fnp.triu(r), lead + r.shape[-2:])
    row = fnp.broadcast_to(fnp.conj(w)[..., None, :], (*lead, 1, w.shape[-1]))
    out = ops.qr(fnp.concatenate([r, row], axis=-2))[1]
    diagonal = fnp.diagonal(out, axis1=-2, axis2=-1)
    size = fnp.abs(diagonal)
    zero = size == 0
    phase = fnp.where(zero, 1, fnp.divide(diagonal, fnp.where(zero, 1, size)))
    return fnp.multiply(fnp.conj(phase)[..., None], out)


def eig(
    x: Any,
    *,
    compute_left_eigenvectors: bool = True,
    compute_right_eigenvectors: bool = True,
    enable_eigvec_derivs: bool = False,
    implementation: Any = None,
    use_magma: bool | None = None,
) -> list[Any]:
    """Return eigenvalues, and left and right eigenvectors, of square matrices.

    Args:
        x: matrices, shape (..., n, n).
        compute_left_eigenvectors: whether to return u with uᴴ x = diag(w) uᴴ.
        compute_right_eigenvectors: whether to return v with x v = v diag(w).
        enable_eigvec_derivs: accepted for JAX's sake; vectors always have derivatives here: those
            of vectors of length 1 whose largest element is real.
        implementation, use_magma: accepted for JAX's sake.

    Returns:
        A list of complex Arrays: w (..., n), and the matrices asked for, left ones first.

    Raises:
        ValueError: x does not hold square matrices.
    """
    a = as_matrices(x, "eig", square=True, argument="x")
    return list(ops.eig(a, left=compute_left_eigenvectors, right=compute_right_eigenvectors))


def eigh(
    x: Any,
    *,
    lower: bool = True,
    symmetrize_input: bool = True,
    sort_eigenvalues: bool = True,
    subset_by_index: tuple[int, int] | None = None,
    implementation: Any = None,
) -> tuple[Any, Any]:
    """Return eigenvectors and eigenvalues of Hermitian matrices, in this order.

    Args:
        x: Hermitian matrices, shape (..., n, n).
        lower: which triangle is read if the input is not symmetrized.
        symmetrize_input: take (x + xᴴ) / 2 first.
        sort_eigenvalues: accepted for JAX's sake; values always ascend.
        subset_by_index: the first of the values that are wanted, and the one after the last.
        implementation: accepted for JAX's sake.

    Returns:
        (v, w): (..., n, n) with vectors as columns, and (..., n).

    Raises:
        ValueError: x does not hold square matrices.
    """
    a = as_matrices(x, "eigh", square=True, argument="x")
    if symmetrize_input:
        a = _hermitian(a)
    elif not lower:
        a = _adjoint(a)
    w, v = ops.eigh(a)
    if subset_by_index is not None:
        first, last = subset_by_index
        w, v = w[..., first:last], v[..., first:last]
    return v, w


def hessenberg(a: Any) -> tuple[Any, Any]:
    """Reduce square matrices to Hessenberg form by reflections.

    Args:
        a: matrices, shape (..., n, n).

    Returns:
        (a, taus): the Hessenberg form over a, and under its subdiagonal the reflectors; their
        factors, shape (..., n - 1).

    Raises:
        ValueError: a does not hold square matrices.
    """
    return tuple(orthogonal.hessenberg(as_matrices(a, "hessenberg", square=True)))


def householder_product(a: Any, taus: Any) -> Any:
    """Return the first n columns of a product of reflections.

    Args:
        a: reflectors under the diagonal, shape (..., m, n), m >= n.
        taus: their factors, shape (..., k), k <= n.

    Returns:
        An Array of the shape of a.

    Raises:
        ValueError: a does not hold matrices.
        TypeError: the shapes do not fit.
    """
    x, t = promote_inexact(
        "householder_product",
        as_matrices(a, "householder_product"),
        to_array(taus, "householder_product", "taus"),
    )
    return ops.householder_product(x, t)


def lu(x: Any) -> tuple[Any, Any, Any]:
    """Factor matrices with partial pivoting: x[permutation] = l u.

    Args:
        x: matrices, shape (..., m, n).

    Returns:
        (lu, pivots, permutation): l without its diagonal of ones under u, shape (..., m, n); row k
        was exchanged with row pivots[k], int32 (..., min(m, n)); the order of rows, int32 (..., m).

    Raises:
        ValueError: x does not hold matrices.
    """
    return tuple(ops.lu(as_matrices(x, "lu", argument="x")))


def lu_pivots_to_permutation(pivots: Any, permutation_size: int) -> Any:
    """Return the order of rows that exchanging row k with row pivots[k], one by one, leads to.

    Args:
        pivots: integers, shape (..., k).
        permutation_size: how many rows there are.

    Returns:
        int32 Array of shape (..., permutation_size).

    Raises:
        TypeError: pivots are no integers.
        ValueError: there are fewer rows than pivots.
    """
    p = to_array(pivots, "lu_pivots_to_permutation", "pivots")
    if not dtypes.is_integer(p.dtype) or p.ndim < 1:
        raise TypeError(
            f"lu_pivots_to_permutation: pivots must be integers of shape (..., k), got "
            f"{describe(p)}"
        )
    if permutation_size < p.shape[-1]:
        raise ValueError(
            f"lu_pivots_to_permutation: permutation_size {permutation_size} is less than the "
            f"{p.shape[-1]} pivots"
        )
    return ops.permutation_of(fnp.astype(p, dtypes.int32), permutation_size)


def ormqr(a: Any, taus: Any, c: Any, *, left: bool = True, transpose: bool = False) -> Any:
    """Multiply matrices by the square q of a QR factorisation without forming it.

    Args:
        a: reflectors under the diagonal, shape (..., m, k).
        taus: their factors, shape (..., k).
        c: matrices, shape (..., m, n), or (..., n, m) if not ``left``.
        left: whether to return q c rather than c q.
        transpose: take qᴴ instead of q.

    Returns:
        An Array of the shape of c.

    Raises:
        ValueError: a or c does not hold matrices, or their shapes do not fit.
    """
    x, y = as_matrices(a, "ormqr"), as_matrices(c, "ormqr", argument="c")
    x, t, y = promote_inexact("ormqr", x, to_array(taus, "ormqr", "taus"), y)
    if y.shape[-2 if left else -1] != x.shape[-2] or t.shape != (*x.shape[:-2], t.shape[-1]):
        raise ValueError(
            f"ormqr: c {describe(y)} and taus {describe(t)} do not fit a {describe(x)}"
        )
    return orthogonal.reflection(x, t, y, left=left, back=transpose)


# -------------------------------------------------------------------------------------------- polar
@custom_jvp
def _polar(x: Any) -> tuple[Any, Any]:
    u, s, vh = ops.svd(x)
    v = _adjoint(vh)
    return fnp.matmul(u, vh), _hermitian(fnp.matmul(v * fnp.astype(s, x.dtype)[..., None, :], vh))


def _polar_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    """u turns by the solution of w h + h w = uᴴ dx - dxᴴ u, whatever values are equal."""
    (x,), (t,) = primals, tangents
    u, h = _polar(x)
    inner = fnp.matmul(_adjoint(u), t)
    turn = ops.sylvester(h, h, inner - _adjoint(inner))
    du = fnp.matmul(u, turn)
    if x.shape[-2] > x.shape[-1]:  # what leaves the space of u
        rest = t - fnp.matmul(u, inner)
        du = du + _adjoint(ops.solve(h, _adjoint(rest)))
    return (u, h), (du, _hermitian(inner - fnp.matmul(turn, h)))


_polar.defjvp(_polar_jvp)


def qdwh(
    x: Any,
    *,
    is_hermitian: bool = False,
    max_iterations: int | None = None,
    eps: float | None = None,
    dynamic_shape: tuple[int, int] | None = None,
) -> tuple[Any, Any, Any, Any]:
    """Return the polar decomposition x = u h: u with orthonormal columns, h positive semidefinite.

    It is computed by a singular value decomposition, so it takes no iterations.

    Args:
        x: matrices, shape (..., m, n), m >= n.
        is_hermitian, max_iterations, eps: accepted for JAX's sake.
        dynamic_shape: how many rows and columns of x count; the others of u and h are 0.

    Returns:
        (u, h, iterations, whether they converged).

    Raises:
        ValueError: x does not hold matrices, or has fewer rows than columns.

    References:
        N. J. Higham, "Functions of Matrices", 2008, section 8.4.
    """
    a = as_matrices(x, "qdwh", argument="x")
    m, n = a.shape[-2:]
    if m < n:
        raise ValueError(f"qdwh: x must have at least as many rows as columns, got {describe(a)}")
    if dynamic_shape is not None:
        rows, columns = dynamic_shape
        inside = (fnp.arange(m) < rows)[:, None] & (fnp.arange(n) < columns)
        a = fnp.where(inside, a, 0)
        u, h = _polar(a)
        square = (fnp.arange(n) < columns)[:, None] & (fnp.arange(n) < columns)
        u, h = fnp.where(inside, u, 0), fnp.where(square, h, 0)
    else:
        u, h = _polar(a)
    done = fnp.all(fnp.isfinite(h))
    return u, h, fnp.asarray(0, dtypes.int32), done


# ------------------------------------------------------------------------------------------- others
def qr(
    x: Any, *, pivoting: bool = False, full_matrices: bool = True, use_magma: bool | None = None
) -> tuple[Any, ...]:
    """Factor matrices into orthonormal columns times an upper triangle.

    Args:
        x: matrices, shape (..., m, n).
        pivoting: order columns so that the diagonal of r falls in absolute value.
        full_matrices: whether q has m columns rather than min(m, n).
        use_magma: accepted for JAX's sake.

    Returns:
        (q, r), or (q, r, p) with q r = x[..., p] if ``pivoting``; p int32 (..., n).

    Raises:
        ValueError: x does not hold matrices.
    """
    a = as_matrices(x, "qr", argument="x")
    return tuple((orthogonal.qr_pivoting if pivoting else ops.qr)(a, full=full_matrices))


def schur(
    x: Any,
    *,
    compute_schur_vectors: bool = True,
    sort_eig_vals: bool = False,
    select_callable: Callable[..., Any] | None = None,
) -> list[Any]:
    """Return the Schur form t of square matrices, and the unitary q with x = q t qᴴ.

    Real matrices have a real t, with blocks of two rows for conjugate pairs of eigenvalues.

    Args:
        x: matrices, shape (..., n, n).
        compute_schur_vectors: whether to return q.
        sort_eig_vals, select_callable: only the defaults are supported.

    Returns:
        A list: t, and q.

    Raises:
        ValueError: x does not hold square matrices.
        NotImplementedError: eigenvalues are to be sorted, which JAX refuses, too.
    """
    if sort_eig_vals or select_callable is not None:
        raise NotImplementedError("schur: eigenvalues are not sorted; leave sort_eig_vals False")
    a = as_matrices(x, "schur", square=True, argument="x")
    return list(ops.schur(a, vectors=compute_schur_vectors))


def svd(
    x: Any,
    *,
    full_matrices: bool = True,
    compute_uv: bool = True,
    subset_by_index: tuple[int, int] | None = None,
    algorithm: Any = None,
) -> Any:
    """Return the singular value decomposition x = u diag(s) vh.

    Args:
        x: matrices, shape (..., m, n).
        full_matrices: whether u and vh are square.
        compute_uv: whether to return u and vh.
        subset_by_index: the first of the values that are wanted, and the one after the last.
        algorithm: accepted for JAX's sake.

    Returns:
        (u, s, vh), or s alone.

    Raises:
        ValueError: x does not hold matrices, or subset_by_index does not fit them.
    """
    a = as_matrices(x, "svd", argument="x")
    out = fnp.linalg.svd(a, full_matrices, compute_uv, subset_by_index=subset_by_index)
    return tuple(out) if compute_uv else out


def symmetric_product(
    a_matrix: Any,
    c_matrix: Any,
    *,
    alpha: float = 1.0,
    beta: float = 0.0,
    symmetrize_output: bool = False,
) -> Any:
    """Return alpha a aᵀ + beta c.

    Args:
        a_matrix: matrices, shape (..., n, k).
        c_matrix: symmetric matrices, shape (..., n, n).
        alpha, beta: factors.
        symmetrize_output: accepted for JAX's sake; both triangles are always right.

    Returns:
        An Array of the shape of c_matrix.

    Raises:
        ValueError: the shapes do not fit.
    """
    a = as_matrices(a_matrix, "symmetric_product", argument="a_matrix")
    c = as_matrices(c_matrix, "symmetric_product", square=True, argument="c_matrix")
    if c.shape[:-1] != a.shape[:-1]:
        raise ValueError(f"symmetric_product: a_matrix {describe(a)} does not fit {describe(c)}")
    a, c = promote_inexact("symmetric_product", a, c)
    return fnp.multiply(fnp.matmul(a, fnp.matrix_transpose(a)), alpha) + fnp.multiply(c, beta)


def triangular_solve(
    a: Any,
    b: Any,
    *,
    left_side: bool = False,
    lower: bool = False,
    transpose_a: bool = False,
    conjugate_a: bool = False,
    unit_diagonal: bool = False,
) -> Any:
    """Solve op(a) x = b, or x op(a) = b if not ``left_side``, for a triangular a.

    Args:
        a: matrices, shape (..., n, n); one triangle is read.
        b: matrices, shape (..., n, m) or (..., m, n), or vectors, shape (..., n).
        left_side: whether op(a) stands on the left.
        lower: which triangle is read.
        transpose_a, conjugate_a: op.
        unit_diagonal: take the diagonal of a to be 1.

    Returns:
        An Array of the shape of b.

    Raises:
        ValueError: the shapes do not fit.
    """
    x = as_matrices(a, "triangular_solve", square=True)
    x, y = promote_inexact("triangular_solve", x, to_array(b, "triangular_solve", "b"))
    vector = y.ndim == x.ndim - 1
    if vector:
        y = y[..., None] if left_side else y[..., None, :]
    side = -2 if left_side else -1
    if y.ndim != x.ndim or y.shape[:-2] != x.shape[:-2] or y.shape[side] != x.shape[-1]:
        raise ValueError(f"triangular_solve: b {describe(y)} does not fit a {describe(x)}")
    if conjugate_a:
        x = fnp.conj(x)
    # x op(a) = b is op(a)ᵀ xᵀ = bᵀ.
    given = y if left_side else fnp.matrix_transpose(y)
    trans = int(transpose_a == left_side)
    out = ops.triangular_solve(x, given, lower=lower, trans=trans, unit=unit_diagonal)
    out = out if left_side else fnp.matrix_transpose(out)
    return (out[..., 0] if left_side else out[..., 0, :]) if vector else out


def tridiagonal(a: Any, *, lower: bool = True) -> tuple[Any, Any, Any, Any]:
    """Reduce Hermitian matrices to tridiagonal form by reflections.

    Args:
        a: matrices, shape (..., n, n).
        lower: which triangle is read, and holds the reflectors.

    Returns:
        (a, d, e, taus): the reduced matrices with the reflectors; the diagonal, shape (..., n), and
        what is beside it, shape (..., n - 1), both real; the reflectors' factors.

    Raises:
        ValueError: a does not hold square matrices.
    """
    x = as_matrices(a, "tridiagonal", square=True)
    return tuple(orthogonal.tridiagonal(x, lower=bool(lower)))


def tridiagonal_solve(dl: Any, d: Any, du: Any, b: Any, *, perturb_singular: bool = False) -> Any:
    """Solve systems whose matrices have three diagonals; nan where one is singular.

    Args:
        dl: what is below the diagonal, shape (..., n); its first element is not read.
        d: the diagonal, shape (..., n).
        du: what is above it, shape (..., n); its last element is not read.
        b: right-hand sides, shape (..., n, k).
        perturb_singular: replace pivots that are nearly 0 by the rounding error of the largest
            element of the factor, for finite results of singular systems, as inverse iteration
            wants them.

    Returns:
        An Array of the shape of b.

    Raises:
        TypeError: the shapes do not fit.

    Example:
        >>> line, zero = fnp.ones(2), fnp.zeros(2)
        >>> tridiagonal_solve(zero, zero, line, line[:, None], perturb_singular=True)[1] > 1e6
        Array([ True], dtype=bool)
    """
    given = {"dl": dl, "d": d, "du": du, "b": b}
    arrays = (to_array(x, "tridiagonal_solve", name) for name, x in given.items())
    system = promote_inexact("tridiagonal_solve", *arrays)
    if not perturb_singular:
        return ops.tridiagonal_solve(*system)
    ops.tridiagonal_solve_p.type(*(x.aval for x in system))
    return _perturbed_solve(*system) if system[1].size else system[3]


def _perturbed_solve(dl: Any, d: Any, du: Any, b: Any) -> Any:
    """Eliminate with row exchanges, one row after the other; then replace pivots that vanish."""
    rows = [fnp.moveaxis(x, axis, 0) for x, axis in ((dl, -1), (d, -1), (du, -1), (b, -2))]

    def step(carry: Any, row: Any) -> tuple[Any, Any]:
        p, q, c = carry
        low, diagonal, high, rhs = row
        swap = fnp.abs(low) > fnp.abs(p)
        zero = fnp.zeros_like(p)
        top = [fnp.where(swap, a, o) for a, o in ((low, p), (diagonal, q), (high, zero))]
        under = [fnp.where(swap, o, a) for a, o in ((low, p), (diagonal, q), (high, zero))]
        c_top = fnp.where(swap[..., None], rhs, c)
        c_under = fnp.where(swap[..., None], c, rhs)
        m = fnp.where(top[0] == 0, 0, under[0] / fnp.where(top[0] == 0, 1, top[0]))
        carry = (under[1] - m * top[1], under[2] - m * top[2], c_under - m[..., None] * c_top)
        return carry, (*top, c_top)

    start = (rows[1][0], rows[2][0], rows[3][0])
    last, done = scan(step, start, tuple(x[1:] for x in rows))
    final = (last[0], fnp.zeros_like(last[0]), fnp.zeros_like(last[0]), last[2])
    u0, u1, u2, c = (fnp.concatenate([x, y[None]]) for x, y in zip(done, final, strict=True))
    size = fnp.max(fnp.maximum(fnp.abs(u0), fnp.maximum(fnp.abs(u1), fnp.abs(u2))), 0)
    info = dtypes.finfo(d.dtype)
    least = fnp.maximum(float(info.eps) * stop_gradient(size), float(info.tiny) / float(info.eps))
    near = fnp.abs(u0) < least
    u0 = fnp.where(near, fnp.where(fnp.real(u0) < 0, -least, least).astype(u0.dtype), u0)

    def back(carry: Any, row: Any) -> tuple[Any, Any]:
        x1, x2 = carry
        a0, a1, a2, rhs = (row[0][..., None], row[1][..., None], row[2][..., None], row[3])
        x = (rhs - a1 * x1 - a2 * x2) / a0
        return (x, x1), x

    zero = fnp.zeros_like(c[0])
    return fnp.moveaxis(scan(back, (zero, zero), (u0, u1, u2, c), reverse=True)[1], 0, -2)
