"""Factorisations and solves of matrices, over any leading batch dimensions.

    cholesky(x) -> l                                  x Hermitian, l lower: x = l lᴴ
    triangular_solve(a, b; lower, trans, unit) -> x   op(a) x = b, trans 0, 1, 2: op(a) = a, aᵀ, aᴴ
    solve(a, b) -> x                                  a x = b
    tridiagonal_solve(dl, d, du, b) -> x              the same for the diagonals below, of and above
    sylvester(a, b, c) -> x                           a x + x b = c
    lu(x) -> (lu, pivots, permutation)                x[permutation] = l u, both in one matrix
    slogdet(x) -> (sign, logabs), det(x) -> d
    pinv(x; rtol) -> y                                the Moore-Penrose inverse

and, in `funtorch.ops.spectra` and `funtorch.ops.orthogonal`, decompositions. ``b`` has matrix
columns. Where a matrix has no factorisation or no solution, its results are nan; no other matrix of
the batch suffers, and nothing is raised. Of a Hermitian ``x`` only the lower triangle is read, and
tangents are taken to be Hermitian as well.

References:
    M. B. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
    differentiation", 2008. I. Murray, "Differentiation of the Cholesky decomposition", 2016.
    G. H. Golub, V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares
    problems whose variables separate", SIAM Journal on Numerical Analysis 10 (1973).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funtorch import dtypes
from funtorch.core import ShapedArray
from funtorch.ops.elementwise import (
    abs,
    add,
    complex,
    div,
    eq,
    exp,
    imag,
    le,
    log,
    mul,
    ne,
    neg,
    real,
    select,
    sub,
)
from funtorch.ops.elementwise import max as larger
from funtorch.ops.elementwise import min as smaller
from funtorch.ops.families import broadcast_in_dim, full_like, ones_like, zeros_like
from funtorch.ops.matrices import (
    adjoint,
    as_dtype,
    blocks,
    check_matrices,
    columns,
    diagonal,
    diagonal_part,
    identity_like,
    macro,
    mm,
    part,
    primitive,
    real_part,
    scale,
    triangle,
    turned,
)
from funtorch.ops.orthogonal import householder_product, ordered_rows, qr, qr_p
from funtorch.ops.reduce import reduce_max, reduce_prod, reduce_sum
from funtorch.ops.shape import iota
from funtorch.ops.solves import (
    solve,
    solve_p,
    sylvester,
    sylvester_p,
    triangular_solve,
    triangular_solve_p,
    tridiagonal_solve,
    tridiagonal_solve_p,
)
from funtorch.ops.spectra import eig, eigh, eigh_p, schur, svd, svd_p

__all__ = [
    "cholesky",
    "cholesky_p",
    "det",
    "det_p",
    "eig",
    "eigh",
    "eigh_p",
    "householder_product",
    "lu",
    "lu_p",
    "permutation_of",
    "pinv",
    "pinv_p",
    "qr",
    "qr_p",
    "schur",
    "slogdet",
    "slogdet_p",
    "solve",
    "solve_p",
    "svd",
    "svd_p",
    "sylvester",
    "sylvester_p",
    "triangular_solve",
    "triangular_solve_p",
    "tridiagonal_solve",
    "tridiagonal_solve_p",
]


# ----------------------------------------------------------------------------------------- Cholesky
def _cholesky_type(x: ShapedArray) -> ShapedArray:
    check_matrices("cholesky", x)
    return ShapedArray(x.shape, x.dtype)


def _cholesky_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    low = cholesky(primals[0])
    half = triangular_solve(low, tangents[0], lower=True, trans=0, unit=False)
    inner = adjoint(triangular_solve(low, adjoint(half), lower=True, trans=0, unit=False))
    phi = sub(triangle(inner, lower=True), scale(diagonal_part(inner), 0.5))
    return low, mm(low, phi)


cholesky_p = primitive(
    "cholesky",
    _cholesky_type,
    _cholesky_jvp,
    small=lambda xp, x: (xp.linalg.cholesky(x),),
    unique=True,
    multiple_results=False,
)


# ----------------------------------------------------------------------------------------------- LU
def _factor_type(x: ShapedArray) -> list[ShapedArray]:
    check_matrices("getrf", x, square=False)
    pivots = (*x.shape[:-2], min(x.shape[-2:]))
    return [ShapedArray(x.shape, x.dtype), ShapedArray(pivots, dtypes.int32)]


def _interchange_type(x: ShapedArray, pivots: ShapedArray) -> ShapedArray:
    fitting = x.ndim >= 1 and x.shape[:-1] == pivots.shape[:-1]
    if not fitting or pivots.dtype != dtypes.int32 or not dtypes.is_inexact(x.dtype):
        raise TypeError(
            "interchange takes inexact vectors (..., n) and int32 pivots (..., k), got "
            f"{x.str_short()} and {pivots.str_short()}"
        )
    return ShapedArray(x.shape, x.dtype)


getrf_p = primitive("getrf", _factor_type, "it is a step of lu, which has a derivative")
interchange_p = primitive(
    "interchange",
    _interchange_type,
    "it counts rows: its result has no derivative",
    multiple_results=False,
)
getrf, interchange = getrf_p.bind, interchange_p.bind


def permutation_of(pivots: Any, size: int) -> Any:
    """Return the order of rows after interchanges: int32 (..., size) from pivots (..., k).

    Row j changes places with row pivots[j], in order. Pivots that are no rows become the nearest:
    native code follows them.
    """
    lead = pivots.shape[:-1]
    rows = iota(shape=(size,), axis=0, dtype=dtypes.float64)
    rows = broadcast_in_dim(rows, shape=(*lead, size), dims=(len(lead),))
    if pivots.shape[-1]:
        pivots = smaller(larger(pivots, zeros_like(pivots)), full_like(pivots, size - 1))
        rows = interchange(rows, add(pivots, ones_like(pivots)))
    return as_dtype(rows, dtypes.int32)


def _lu_program(x: Any) -> tuple[Any, Any, Any]:
    factors, ones = getrf(x)
    pivots = sub(ones, ones_like(ones))
    return factors, pivots, permutation_of(pivots, x.shape[-2])


def _lu_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """x[permutation] = l u. Beyond the square part, l or u has rows or columns of its own."""
    (x,), (t,) = primals, tangents
    factors, pivots, order = lu(x)
    m, n = x.shape[-2:]
    k = min(m, n)
    t = ordered_rows(t, order)
    square = part(factors, (0, k), (0, k))

    def solved(b: Any, lower: bool, right: bool) -> Any:
        """Divide by the square factor, from the right by way of transposes."""
        given = {"lower": lower, "unit": lower, "trans": int(right)}
        out = triangular_solve(square, turned(b) if right else b, **given)
        return turned(out) if right else out

    inner = solved(solved(part(t, (0, k), (0, k)), True, False), False, True)
    low, up = triangle(inner, lower=True, strict=True), triangle(inner, lower=False)
    unit = add(triangle(square, lower=True, strict=True), identity_like(square))
    upper = triangle(square, lower=False)
    change = add(mm(unit, low), mm(up, upper))
    if m > n:  # rows below: l2 = x2 / u
        below = sub(part(t, (k, m), (0, n)), mm(part(factors, (k, m), (0, n)), mm(up, upper)))
        change = blocks([[change], [solved(below, False, True)]])
    if n > m:  # columns beside: u2 = l \ x2
        beside = part(t, (0, m), (k, n))
        rest = sub(beside, mm(mm(unit, low), part(factors, (0, m), (k, n))))
        change = blocks([[change, solved(rest, True, False)]])
    return [factors, pivots, order], [change, None, None]


def _lu_check(x: ShapedArray) -> None:
    check_matrices("lu", x, square=False)


lu_p = macro("lu", _lu_check, _lu_program, _lu_jvp)


# ------------------------------------------------------------------------------------- determinants
def _slogdet_check(x: ShapedArray) -> None:
    check_matrices("slogdet", x)


def _slogdet_program(x: Any) -> tuple[Any, Any]:
    factors, ones = getrf(x)
    u = diagonal(factors)
    axis = len(u.shape) - 1
    size = abs(u)
    zero = eq(size, zeros_like(size))
    where = iota(shape=(u.shape[-1],), axis=0, dtype=dtypes.int32)
    where = broadcast_in_dim(where, shape=u.shape, dims=(axis,))
    moved = ne(ones, add(where, ones_like(where)))
    turns = select(moved, full_like(size, -1), ones_like(size))
    phase = div(u, as_dtype(select(zero, ones_like(size), size), u.dtype))
    sign = reduce_prod(mul(phase, as_dtype(turns, u.dtype)), axes=(axis,))
    return sign, reduce_sum(log(size), axes=(axis,))


def _slogdet_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    sign, logabs = slogdet(x)
    k = len(sign.shape)
    trace = reduce_sum(diagonal_part(solve(x, t)), axes=(k, k + 1))
    if not dtypes.is_complex(x.dtype):
        return [sign, logabs], [None, trace]
    angle = imag(trace)
    return [sign, logabs], [mul(sign, complex(zeros_like(angle), angle)), real(trace)]


def _small_slogdet(xp: Any, x: Any) -> tuple[Any, Any]:
    sign, logabs = xp.linalg.slogdet(x)
    return xp.asarray(sign), xp.asarray(logabs)


slogdet_p = macro("slogdet", _slogdet_check, _slogdet_program, _slogdet_jvp, small=_small_slogdet)


def _det_check(x: ShapedArray) -> None:
    check_matrices("det", x)


def _det_program(x: Any) -> tuple[Any]:
    sign, logabs = slogdet(x)
    return (mul(sign, as_dtype(exp(logabs), x.dtype)),)


def _adjugate_times(x: Any, b: Any) -> Any:
    """Return adj(x) b, which is det(x) x⁻¹ b where that exists, for matrices of any rank.

    The last diagonal element of u divides nothing: what it would divide is multiplied with the
    other ones, what it would not divide with all.
    """
    factors, pivots, order = lu(x)
    n = x.shape[-1]
    u = diagonal(factors)
    axis = len(u.shape) - 1
    place = iota(shape=(n,), axis=0, dtype=dtypes.int32)
    place = broadcast_in_dim(place, shape=u.shape, dims=(axis,))
    last, one = eq(place, full_like(place, n - 1)), ones_like(u)
    safe = select(eq(abs(u), zeros_like(abs(u))), one, u)
    safe = select(last, one, safe)
    turns = as_dtype(
        select(ne(pivots, place), full_like(real_part(u), -1), real_part(one)), x.dtype
    )
    sign = reduce_prod(turns, axes=(axis,))
    others = mul(sign, reduce_prod(select(last, one, u), axes=(axis,)))
    final = reduce_sum(select(last, u, zeros_like(u)), axes=(axis,))
    lead = tuple(range(axis))
    factor = broadcast_in_dim(mul(others, final), shape=u.shape, dims=lead)
    factor = select(last, broadcast_in_dim(others, shape=u.shape, dims=lead), factor)
    y = triangular_solve(factors, ordered_rows(b, order), lower=True, trans=0, unit=True)
    y = mul(y, columns(factor, y, 2))
    upper = add(sub(factors, diagonal_part(factors)), diagonal_part(columns(safe, factors)))
    return triangular_solve(upper, y, lower=False, trans=0, unit=False)


def _det_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    k = len(x.shape) - 2
    out = det(x)
    if not x.shape[-1]:
        return [out], [None]
    return [out], [reduce_sum(diagonal_part(_adjugate_times(x, t)), axes=(k, k + 1))]


det_p = macro(
    "det", _det_check, _det_program, _det_jvp, small=lambda xp, x: (xp.asarray(xp.linalg.det(x)),)
)


def det(x: Any) -> Any:
    """Return determinants."""
    return det_p.bind(x)[0]


# ---------------------------------------------------------------------------------- pseudo-inverses
def _pinv_check(x: ShapedArray, *, rtol: float, hermitian: bool) -> None:
    check_matrices("pinv", x, square=hermitian)


def _pinv_program(x: Any, *, rtol: float, hermitian: bool) -> tuple[Any]:
    if hermitian:
        values, v = eigh(x)
        left, size = adjoint(v), abs(values)
    else:
        u, values, vt = svd(x)
        left, v, size = adjoint(u), adjoint(vt), values
    axis = len(size.shape) - 1
    if not size.shape[-1]:
        return (mm(v, left),)
    largest = reduce_max(size, axes=(axis,))
    limit = broadcast_in_dim(scale(largest, rtol), shape=size.shape, dims=tuple(range(axis)))
    small = le(size, limit)
    inverse = div(ones_like(values), select(small, ones_like(values), values))
    inverse = select(small, zeros_like(values), inverse)
    return (mm(mul(v, columns(inverse, v)), left),)


def _pinv_jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    """Golub and Pereyra's formula, where the rank does not change."""
    (x,), (t,) = primals, tangents
    (y,) = pinv_p.bind(x, **params)
    change, th, yh = neg(mm(mm(y, t), y)), adjoint(t), adjoint(y)
    left, right = mm(mm(y, yh), th), mm(th, mm(yh, y))  # times the projections off x and xᴴ
    change = add(change, sub(left, mm(mm(left, x), y)))
    change = add(change, sub(right, mm(y, mm(x, right))))
    return [y], [change]


pinv_p = macro("pinv", _pinv_check, _pinv_program, _pinv_jvp)


def pinv(x: Any, *, rtol: float, hermitian: bool = False) -> Any:
    """Return the Moore-Penrose inverse; values up to ``rtol`` of the largest one count as 0."""
    return pinv_p.bind(x, rtol=rtol, hermitian=hermitian)[0]


cholesky, lu, slogdet = cholesky_p.bind, lu_p.bind, slogdet_p.bind
