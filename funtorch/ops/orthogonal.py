"""Orthogonal factors, over any leading batch dimensions.

    qr(x; full) -> (q, r)              q has min(m, n) columns, or m if full
    qr_pivoting(x; full) -> (q, r, p)  q r = x[:, p], r's diagonal falls in absolute value
    geqrf(x) -> (a, taus)              r over x, and under it the vectors of reflectors
    householder_product(a, taus) -> q  the first n columns of the product of reflectors
    hessenberg(x) -> (a, taus)         qᴴ x q over x, and under it the vectors of reflectors
    tridiagonal(x; lower) -> (a, d, e, taus)  the same for a Hermitian x; the two diagonals

References:
    S. F. Walter, L. Lehmann, "Algorithmic differentiation of linear algebra functions with
    application in optimum experimental design", 2010 (QR). R. Schreiber, C. Van Loan, "A
    storage-efficient WY representation for products of Householder transformations", 1989.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funtorch import dtypes
from funtorch.core import ShapedArray
from funtorch.ops.elementwise import add, mul, neg, real, sub
from funtorch.ops.families import broadcast_in_dim, ones_like
from funtorch.ops.indexing import gather
from funtorch.ops.matrices import (
    adjoint,
    as_dtype,
    blocks,
    check_matrices,
    columns,
    diagonal_part,
    identity_like,
    macro,
    mm,
    part,
    primitive,
    triangle,
    turned,
)
from funtorch.ops.shape import iota
from funtorch.ops.solves import triangular_solve

__all__ = [
    "geqrf",
    "hessenberg",
    "householder_product",
    "ordered_columns",
    "ordered_rows",
    "qr",
    "qr_p",
    "qr_pivoting",
    "reflection",
    "tridiagonal",
]

_PACKED = "reflectors are stored in the places of zeros: write it as a product to differentiate it"


# ----------------------------------------------------------------------------------------------- QR
def _qr_type(x: ShapedArray, *, full: bool) -> list[ShapedArray]:
    check_matrices("qr", x, square=False)
    *lead, m, n = x.shape
    k = m if full else min(m, n)
    return [ShapedArray((*lead, m, k), x.dtype), ShapedArray((*lead, k, n), x.dtype)]


def _qr_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, full: bool) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    q, r = qr_p.bind(x, full=full)
    dq, dr = _qr_change(q, r, x, t)
    return [q, r], [dq, dr]


def _qr_change(q: Any, r: Any, x: Any, t: Any) -> tuple[Any, Any]:
    """q and the left square of r follow from the leading columns; r = qᴴ x gives the rest.

    Columns of q beyond those of x turn with the space that they span, and not inside of it.
    """
    (m, n), k = x.shape[-2:], min(x.shape[-2:])
    square, dx = part(r, (0, k), (0, k)), part(t, (0, m), (0, k))
    dx = turned(triangular_solve(square, turned(dx), lower=False, trans=1, unit=False))
    own = part(q, (0, m), (0, k))
    inner = mm(adjoint(own), dx)  # dx is over the square now
    lower = triangle(inner, lower=True, strict=True)
    turn = sub(lower, adjoint(lower))
    if dtypes.is_complex(x.dtype):
        diagonal = diagonal_part(inner)
        turn = add(turn, sub(diagonal, as_dtype(real(diagonal), x.dtype)))
    dq = add(mm(own, sub(turn, inner)), dx)
    dr = triangle(add(mm(adjoint(dq), x), mm(adjoint(own), t)), lower=False)
    wide = q.shape[-1]
    if wide > k:
        other = part(q, (0, m), (k, wide))
        dq = blocks([[dq, neg(mm(own, mm(adjoint(dq), other)))]])
        dr = blocks([[dr], [_zeros(part(r, (k, wide), (0, n)))]])
    return dq, dr


def _zeros(x: Any) -> Any:
    return sub(ones_like(x), ones_like(x))


qr_p = primitive(
    "qr",
    _qr_type,
    _qr_jvp,
    small=lambda xp, x, full: tuple(xp.linalg.qr(x, mode="complete" if full else "reduced")),
)


def qr(x: Any, *, full: bool = False) -> Any:
    """Return q, r; q has as many columns as x, or as rows if ``full``."""
    return qr_p.bind(x, full=full)


# ---------------------------------------------------------------------------------- with pivoting
def _reflectors_type(name: str) -> Any:
    def type_rule(x: ShapedArray) -> list[ShapedArray]:
        check_matrices(name, x, square=False)
        *lead, m, n = x.shape
        order = [ShapedArray((*lead, n), dtypes.int32)] if name == "geqp3" else []
        return [x, ShapedArray((*lead, min(m, n)), x.dtype), *order]

    return type_rule


geqrf_p = primitive("geqrf", _reflectors_type("geqrf"), _PACKED)
geqp3_p = primitive("geqp3", _reflectors_type("geqp3"), _PACKED)
geqrf, geqp3 = geqrf_p.bind, geqp3_p.bind


def ordered_columns(x: Any, order: Any) -> Any:
    """Return the columns of matrices (..., m, n) in orders (..., n)."""
    return turned(ordered_rows(turned(x), order))


def ordered_rows(x: Any, order: Any) -> Any:
    """Return the rows of matrices (..., m, n) in orders (..., m)."""
    shape, n = order.shape, len(order.shape)
    places = [
        broadcast_in_dim(iota(shape=(shape[k],), axis=0, dtype=order.dtype), shape=shape, dims=(k,))
        for k in range(n - 1)
    ]
    return gather(x, *places, order, axes=tuple(range(n)), mode="promise", fill=None)


def _pivoting_check(x: ShapedArray, *, full: bool) -> None:
    check_matrices("qr_pivoting", x, square=False)


def _pivoting_program(x: Any, *, full: bool) -> tuple[Any, Any, Any]:
    a, taus, ones = geqp3(x)
    m, n = x.shape[-2:]
    k = m if full else min(m, n)
    if k > n:
        extra = _zeros(
            broadcast_in_dim(
                part(a, (0, m), (0, 1)),
                shape=(*a.shape[:-1], k - n),
                dims=tuple(range(len(a.shape))),
            )
        )
        wide = blocks([[a, extra]])
    else:
        wide = part(a, (0, m), (0, k))
    q = householder_product(wide, taus)
    r = triangle(part(a, (0, min(k, m)), (0, n)), lower=False)
    return q, r, sub(ones, ones_like(ones))


def _pivoting_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, full: bool
) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    q, r, order = qr_pivoting_p.bind(x, full=full)
    dq, dr = _qr_change(q, r, ordered_columns(x, order), ordered_columns(t, order))
    return [q, r, order], [dq, dr, None]


qr_pivoting_p = macro("qr_pivoting", _pivoting_check, _pivoting_program, _pivoting_jvp)


def qr_pivoting(x: Any, *, full: bool = False) -> Any:
    """Return q, r, p with q r = x[:, p]; p int32."""
    return qr_pivoting_p.bind(x, full=full)


# --------------------------------------------------------------------------------------- reflectors
def _product_type(a: ShapedArray, taus: ShapedArray) -> ShapedArray:
    check_matrices("householder_product", a, square=False)
    *lead, m, n = a.shape
    fits = taus.ndim == a.ndim - 1 and list(taus.shape[:-1]) == lead and taus.dtype == a.dtype
    if not fits or not m >= n >= taus.shape[-1]:
        raise TypeError(
            "householder_product(a, taus) takes a (..., m, n) with m >= n and taus (..., k) of the "
            f"same dtype with k <= n, got {a.str_short()} and {taus.str_short()}"
        )
    return ShapedArray(a.shape, a.dtype)


def _compact(a: Any, taus: Any) -> tuple[Any, Any, Any, Any]:
    """Return v, s, f, g: the product of k reflectors is 1 - v g vᴴ, where f g = d.

    v has their vectors as columns, d their factors on its diagonal; s is what is strictly above the
    diagonal of vᴴ v, and f = 1 + d s.
    """
    k = taus.shape[-1]
    v = triangle(part(a, (0, a.shape[-2]), (0, k)), lower=True, strict=True)
    v = add(v, identity_like(v))
    s = triangle(mm(adjoint(v), v), lower=False, strict=True)
    d = diagonal_part(columns(taus, s))
    f = add(identity_like(s), mul(columns(taus, s, 2), s))
    g = triangular_solve(f, d, lower=False, trans=0, unit=True)
    return v, s, f, g


def _product_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (a, taus), (ta, tt) = primals, tangents
    q = householder_product(a, taus)
    if not taus.shape[-1]:
        return q, None
    v, s, f, g = _compact(a, taus)
    n, k = a.shape[-1], taus.shape[-1]

    def top(x: Any) -> Any:
        return adjoint(part(x, (0, n), (0, k)))

    change = None
    if ta is not None:
        dv = triangle(part(ta, (0, a.shape[-2]), (0, k)), lower=True, strict=True)
        across = mm(adjoint(dv), v)
        ds = triangle(add(across, adjoint(across)), lower=False, strict=True)
        rest = neg(mul(columns(taus, s, 2), mm(ds, g)))
        dg = triangular_solve(f, rest, lower=False, trans=0, unit=True)
        change = add(mm(add(mm(dv, g), mm(v, dg)), top(v)), mm(mm(v, g), top(dv)))
    if tt is not None:
        rest = sub(diagonal_part(columns(tt, s)), mul(columns(tt, s, 2), mm(s, g)))
        dg = triangular_solve(f, rest, lower=False, trans=0, unit=True)
        more = mm(mm(v, dg), top(v))
        change = more if change is None else add(change, more)
    return q, neg(change)


householder_product_p = primitive(
    "householder_product", _product_type, _product_jvp, multiple_results=False
)
householder_product = householder_product_p.bind


def reflection(a: Any, taus: Any, c: Any, *, left: bool, back: bool) -> Any:
    """Multiply c by the whole product of reflectors, or its adjoint (``back``), from a side."""
    if not taus.shape[-1]:
        return c
    v, _, _, g = _compact(a, taus)
    if back:
        g = adjoint(g)
    if left:
        return sub(c, mm(v, mm(g, mm(adjoint(v), c))))
    return sub(c, mm(mm(mm(c, v), g), adjoint(v)))


# ------------------------------------------------------------------------------------- similarities
def _hessenberg_type(x: ShapedArray) -> list[ShapedArray]:
    check_matrices("hessenberg", x)
    *lead, n, _ = x.shape
    return [ShapedArray(x.shape, x.dtype), ShapedArray((*lead, max(n - 1, 0)), x.dtype)]


def _tridiagonal_type(x: ShapedArray, *, lower: bool) -> list[ShapedArray]:
    check_matrices("tridiagonal", x)
    *lead, n, _ = x.shape
    real_dtype, less = dtypes.real_dtype(x.dtype), max(n - 1, 0)
    return [
        ShapedArray(x.shape, x.dtype),
        ShapedArray((*lead, n), real_dtype),
        ShapedArray((*lead, less), real_dtype),
        ShapedArray((*lead, less), x.dtype),
    ]


hessenberg_p = primitive("hessenberg", _hessenberg_type, _PACKED)
tridiagonal_p = primitive("tridiagonal", _tridiagonal_type, _PACKED)
hessenberg, tridiagonal = hessenberg_p.bind, tridiagonal_p.bind
