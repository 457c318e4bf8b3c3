"""Systems of linear equations, over any leading batch dimensions.

    triangular_solve(a, b; lower, trans, unit) -> x   op(a) x = b, trans 0, 1, 2: op(a) = a, aᵀ, aᴴ
    solve(a, b) -> x                                  a x = b
    tridiagonal_solve(dl, d, du, b) -> x              the same for the diagonals below, of and above
    sylvester(a, b, c) -> x                           a x + x b = c

Of a triangular matrix one triangle is read, without its diagonal if ``unit``.

References:
    M. B. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
    differentiation", 2008.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch.core import ShapedArray
from funtorch.ops.elementwise import conj, mul, neg
from funtorch.ops.families import accumulate, is_linear, zeros
from funtorch.ops.matrices import adjoint, check_matrices, columns, mm, primitive, triangle, turned
from funtorch.ops.shape import concatenate, slice

__all__ = [
    "solve",
    "solve_p",
    "sylvester",
    "sylvester_p",
    "triangular_solve",
    "triangular_solve_p",
    "tridiagonal_solve",
    "tridiagonal_solve_p",
]

_BLOCK = 64  # triangular systems of at most this size go to the general solver


# --------------------------------------------------------------------------------------- triangular


def _triangular_type(
    a: ShapedArray, b: ShapedArray, *, lower: bool, trans: int, unit: bool
) -> ShapedArray:
    check_matrices("triangular_solve", a)
    if b.dtype != a.dtype or b.ndim != a.ndim or b.shape[:-1] != a.shape[:-1]:
        raise TypeError(
            f"triangular_solve(a, b) with a: {a.str_short()} takes b of the same dtype and of "
            f"shape ({', '.join(map(str, a.shape[:-1]))}, columns), got {b.str_short()}"
        )
    return ShapedArray(b.shape, b.dtype)


def _small_triangular(
    xp: Any, a: Any, b: Any, *, lower: bool, trans: int, unit: bool
) -> tuple[Any]:
    a = xp.tril(a) if lower else xp.triu(a)
    if unit:
        n = a.shape[-1]
        a = xp.where(xp.eye(n, dtype=bool), xp.ones((), a.dtype), a)
    if trans:
        a = a.swapaxes(-1, -2)
        lower = not lower
    return (_substitute(xp, a.conj() if trans == 2 else a, b, lower),)


def _substitute(xp: Any, a: Any, b: Any, lower: bool) -> Any:
    """Solve a triangular system by halves: two smaller ones, and a product between them."""
    n = a.shape[-1]
    if n <= _BLOCK:
        return xp.linalg.solve(a, b)
    h = n // 2
    top, bottom = np.s_[..., :h, :], np.s_[..., h:, :]
    a11, a12 = a[..., :h, :h], a[..., :h, h:]
    a21, a22 = a[..., h:, :h], a[..., h:, h:]
    if lower:
        x1 = _substitute(xp, a11, b[top], lower)
        x2 = _substitute(xp, a22, b[bottom] - xp.matmul(a21, x1), lower)
    else:
        x2 = _substitute(xp, a22, b[bottom], lower)
        x1 = _substitute(xp, a11, b[top] - xp.matmul(a12, x2), lower)
    return xp.concatenate([x1, x2], axis=-2)


def _triangular_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, lower: bool, trans: int, unit: bool
) -> tuple[Any, Any]:
    (a, b), (ta, tb) = primals, tangents
    params = {"lower": lower, "trans": trans, "unit": unit}
    x = triangular_solve(a, b, **params)
    change = None
    if ta is not None:
        ta = triangle(ta, lower, strict=unit)
        change = neg(mm((_same, turned, adjoint)[trans](ta), x))
    return x, triangular_solve(a, accumulate([tb, change]), **params)


def _same(x: Any) -> Any:
    return x


def _triangular_transpose(
    ct: Any, a: Any, b: Any, *, lower: bool, trans: int, unit: bool
) -> tuple[None, Any]:
    if trans == 2:
        a = conj(a)
    out = triangular_solve(a, ct, lower=lower, trans=int(trans == 0), unit=unit)
    return None, out if is_linear(b) else None


triangular_solve_p = primitive(
    "triangular_solve",
    _triangular_type,
    _triangular_jvp,
    small=_small_triangular,
    transpose=_triangular_transpose,
    multiple_results=False,
    shares_matrix=True,
)
triangular_solve = triangular_solve_p.bind


# -------------------------------------------------------------------------------------------- solve
def _solve_type(a: ShapedArray, b: ShapedArray) -> ShapedArray:
    check_matrices("solve", a)
    if b.dtype != a.dtype or b.ndim != a.ndim or b.shape[:-1] != a.shape[:-1]:
        raise TypeError(
            f"solve(a, b) with a: {a.str_short()} takes b of the same dtype and of shape "
            f"({', '.join(map(str, a.shape[:-1]))}, columns), got {b.str_short()}"
        )
    return ShapedArray(b.shape, b.dtype)


def _solve_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (a, b), (ta, tb) = primals, tangents
    x = solve(a, b)
    return x, solve(a, accumulate([tb, None if ta is None else neg(mm(ta, x))]))


def _solve_transpose(ct: Any, a: Any, b: Any) -> tuple[None, Any]:
    return None, solve(turned(a), ct) if is_linear(b) else None


solve_p = primitive(
    "solve",
    _solve_type,
    _solve_jvp,
    small=lambda xp, a, b: (xp.linalg.solve(a, b),),
    unique=True,
    transpose=_solve_transpose,
    multiple_results=False,
    shares_matrix=True,
)


# ------------------------------------------------------------------------------ tridiagonal systems
def _tridiagonal_type(
    dl: ShapedArray, d: ShapedArray, du: ShapedArray, b: ShapedArray
) -> ShapedArray:
    same = {dl.shape, d.shape, du.shape} == {b.shape[:-1]} and b.ndim >= 2
    if not same or len({dl.dtype, d.dtype, du.dtype, b.dtype}) > 1:
        raise TypeError(
            "tridiagonal_solve(dl, d, du, b) takes diagonals (..., n) and b (..., n, columns) of "
            f"one dtype, got {', '.join(a.str_short() for a in (dl, d, du, b))}"
        )
    check_matrices("tridiagonal_solve", b, square=False)
    return ShapedArray(b.shape, b.dtype)


def _moved(x: Any, by: int, axis: int) -> Any:
    """Move elements along an axis by one place, forth or back; what comes in is 0."""
    n = len(x.shape)
    none = [0] * n
    size = list(x.shape)
    edge = zeros(ShapedArray(tuple(1 if k == axis else m for k, m in enumerate(size)), x.dtype))
    if by > 0:
        size[axis] -= 1
        kept = slice(x, start=tuple(none), limit=tuple(size), stride=(1,) * n)
        return concatenate(edge, kept, axis=axis)
    none[axis] = 1
    kept = slice(x, start=tuple(none), limit=tuple(size), stride=(1,) * n)
    return concatenate(kept, edge, axis=axis)


def _tridiagonal_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (*system, b), (*changes, tb) = primals, tangents
    x = tridiagonal_solve(*system, b)
    axis = len(x.shape) - 2
    terms = [tb]
    for t, by in zip(changes, (1, 0, -1), strict=True):
        if t is not None:
            moved = _moved(x, by, axis) if by else x
            terms.append(neg(mul(columns(t, x, 2), moved)))
    return x, tridiagonal_solve(*system, accumulate(terms))


def _tridiagonal_transpose(ct: Any, dl: Any, d: Any, du: Any, b: Any) -> tuple[Any, ...]:
    if not is_linear(b):
        return None, None, None, None
    axis = len(d.shape) - 1
    return None, None, None, tridiagonal_solve(_moved(du, 1, axis), d, _moved(dl, -1, axis), ct)


tridiagonal_solve_p = primitive(
    "tridiagonal_solve",
    _tridiagonal_type,
    _tridiagonal_jvp,
    transpose=_tridiagonal_transpose,
    multiple_results=False,
    shares_matrix=True,
)


# ---------------------------------------------------------------------------------------- Sylvester
def _sylvester_type(a: ShapedArray, b: ShapedArray, c: ShapedArray) -> ShapedArray:
    check_matrices("sylvester", a)
    check_matrices("sylvester", b)
    fits = c.shape == (*a.shape[:-1], b.shape[-1]) and a.shape[:-2] == b.shape[:-2]
    if not fits or len({a.dtype, b.dtype, c.dtype}) > 1:
        raise TypeError(
            "sylvester(a, b, c) takes a (..., m, m), b (..., n, n) and c (..., m, n) of one "
            f"dtype, got {', '.join(x.str_short() for x in (a, b, c))}"
        )
    return ShapedArray(c.shape, c.dtype)


def _sylvester_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (a, b, c), (ta, tb, tc) = primals, tangents
    x = sylvester(a, b, c)
    terms = [tc, None if ta is None else neg(mm(ta, x)), None if tb is None else neg(mm(x, tb))]
    return x, sylvester(a, b, accumulate(terms))


def _sylvester_transpose(ct: Any, a: Any, b: Any, c: Any) -> tuple[Any, ...]:
    return None, None, sylvester(turned(a), turned(b), ct) if is_linear(c) else None


sylvester_p = primitive(
    "sylvester",
    _sylvester_type,
    _sylvester_jvp,
    transpose=_sylvester_transpose,
    multiple_results=False,
)

solve, tridiagonal_solve, sylvester = solve_p.bind, tridiagonal_solve_p.bind, sylvester_p.bind
