"""Factorisations and solves of matrices, over any leading batch dimensions.

    cholesky(x) -> l                                  x Hermitian, l lower: x = l lᴴ
    triangular_solve(a, b; lower, trans, unit) -> x   op(a) x = b, trans 0, 1, 2: op(a) = a, aᵀ, aᴴ
    solve(a, b) -> x                                  a x = b
    slogdet(x) -> (sign, logabs)
    eigh(x) -> (w, v)                                 x Hermitian, w ascending: x v = v diag(w)
    qr(x) -> (q, r)                                   thin
    svd(x) -> (u, s, vt)                              thin, s descending: x = u diag(s) vt

``b`` has matrix columns. Where a matrix has no factorisation or no solution, its results are nan;
no other matrix of the batch suffers, and nothing is raised. Of a Hermitian ``x`` only the lower
triangle is read, and tangents are taken to be Hermitian as well.

References:
    M. B. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
    differentiation", 2008. I. Murray, "Differentiation of the Cholesky decomposition", 2016.
    J. Townsend, "Differentiating the singular value decomposition", 2016. S. F. Walter,
    L. Lehmann, "Algorithmic differentiation of linear algebra functions with application in
    optimum experimental design", 2010 (QR).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import Primitive, ShapedArray
from funtorch.ops import lapack
from funtorch.ops.contract import dot_general
from funtorch.ops.elementwise import (
    add,
    complex,
    conj,
    convert,
    div,
    eq,
    ge,
    gt,
    imag,
    mul,
    neg,
    real,
    select,
    sub,
)
from funtorch.ops.families import (
    NO_TRANSPOSE,
    accumulate,
    broadcast_in_dim,
    full_like,
    is_linear,
    ones_like,
    spread,
    zeros_like,
)
from funtorch.ops.reduce import reduce_sum
from funtorch.ops.shape import iota, reshape, slice, transpose

__all__ = [
    "cholesky",
    "cholesky_p",
    "eigh",
    "eigh_p",
    "qr",
    "qr_p",
    "slogdet",
    "slogdet_p",
    "solve",
    "solve_p",
    "svd",
    "svd_p",
    "triangular_solve",
    "triangular_solve_p",
]

_BLOCK = 64  # triangular systems of at most this size go to the general solver


# -------------------------------------------------------------------------------------------- types
def _check(name: str, x: ShapedArray, square: bool = True) -> None:
    if x.ndim < 2 or (square and x.shape[-1] != x.shape[-2]):
        what = "square matrices" if square else "matrices"
        raise TypeError(f"{name} takes an array of {what} (..., n, n or m), got {x.str_short()}")
    if not dtypes.is_inexact(x.dtype):
        raise TypeError(f"{name} takes floats or complex numbers, got {x.str_short()}: convert it")


def _solve_type(name: str) -> Callable[..., ShapedArray]:
    def type_rule(a: ShapedArray, b: ShapedArray, **params: Any) -> ShapedArray:
        _check(name, a)
        if b.dtype != a.dtype or b.ndim != a.ndim or b.shape[:-1] != a.shape[:-1]:
            raise TypeError(
                f"{name}(a, b) with a: {a.str_short()} takes b of the same dtype and of shape "
                f"({', '.join(map(str, a.shape[:-1]))}, columns), got {b.str_short()}"
            )
        return ShapedArray(b.shape, b.dtype)

    return type_rule


def _cholesky_type(x: ShapedArray) -> ShapedArray:
    _check("cholesky", x)
    return ShapedArray(x.shape, x.dtype)


def _slogdet_type(x: ShapedArray) -> list[ShapedArray]:
    _check("slogdet", x)
    lead = x.shape[:-2]
    return [ShapedArray(lead, x.dtype), ShapedArray(lead, dtypes.real_dtype(x.dtype))]


def _eigh_type(x: ShapedArray) -> list[ShapedArray]:
    _check("eigh", x)
    return [ShapedArray(x.shape[:-1], dtypes.real_dtype(x.dtype)), ShapedArray(x.shape, x.dtype)]


def _qr_type(x: ShapedArray) -> list[ShapedArray]:
    _check("qr", x, square=False)
    *lead, m, n = x.shape
    k = min(m, n)
    return [ShapedArray((*lead, m, k), x.dtype), ShapedArray((*lead, k, n), x.dtype)]


def _svd_type(x: ShapedArray) -> list[ShapedArray]:
    _check("svd", x, square=False)
    *lead, m, n = x.shape
    k = min(m, n)
    return [
        ShapedArray((*lead, m, k), x.dtype),
        ShapedArray((*lead, k), dtypes.real_dtype(x.dtype)),
        ShapedArray((*lead, k, n), x.dtype),
    ]


# -------------------------------------------------------------------------------------------- eager
_HALF = (dtypes.float16, dtypes.bfloat16)


def _guarded(f: Callable[..., tuple[Any, ...]], multiple: bool = True) -> Callable[..., Any]:
    """Return an eager rule from ``f``: failing matrices give nan, halves go by float32."""

    def eager(xp: Any, *args: Any, **params: Any) -> Any:
        dtype = args[0].dtype
        if dtype in _HALF:
            args = tuple(x.astype(dtypes.float32) for x in args)
        try:
            outs = f(xp, *args, **params)
        except np.linalg.LinAlgError:
            outs = _one_by_one(xp, f, args, params)
        if dtype in _HALF:
            outs = tuple(x.astype(dtype) for x in outs)
        return outs if multiple else outs[0]

    return eager


def _one_by_one(
    xp: Any, f: Callable[..., tuple[Any, ...]], args: Sequence[Any], params: dict[str, Any]
) -> tuple[Any, ...]:
    lead = args[0].shape[:-2]
    flat = [x.reshape(-1, *x.shape[-2:]) for x in args]
    results = []
    for matrices in zip(*flat, strict=True):
        try:
            results.append(f(xp, *matrices, **params))
        except np.linalg.LinAlgError:
            stand_in = f(
                xp, xp.eye(*matrices[0].shape, dtype=matrices[0].dtype), *matrices[1:], **params
            )
            results.append(tuple(xp.full_like(x, np.nan) for x in stand_in))
    return tuple(xp.stack(xs).reshape(*lead, *xs[0].shape) for xs in zip(*results, strict=True))


def _cholesky_eager(xp: Any, x: Any) -> tuple[Any]:
    return (lapack.cholesky(x) if lapack.takes(xp, x) else xp.linalg.cholesky(x),)


def _triangular_eager(
    xp: Any, a: Any, b: Any, *, lower: bool, trans: int, unit: bool
) -> tuple[Any]:
    if lapack.takes(xp, a):
        return (lapack.triangular_solve(a, b, lower=lower, trans=trans, unit=unit),)
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


def _solve_eager(xp: Any, a: Any, b: Any) -> tuple[Any]:
    return (lapack.solve(a, b) if lapack.takes(xp, a) else xp.linalg.solve(a, b),)


def _slogdet_eager(xp: Any, x: Any) -> tuple[Any, Any]:
    sign, logabs = xp.linalg.slogdet(x)
    return xp.asarray(sign), xp.asarray(logabs)


def _eigh_eager(xp: Any, x: Any) -> tuple[Any, Any]:
    return lapack.eigh(x) if lapack.takes(xp, x) else tuple(xp.linalg.eigh(x))


def _qr_eager(xp: Any, x: Any) -> tuple[Any, Any]:
    return tuple(xp.linalg.qr(x))


def _svd_eager(xp: Any, x: Any) -> tuple[Any, Any, Any]:
    return tuple(xp.linalg.svd(x, full_matrices=False))


# ----------------------------------------------------------------------------------- matrix algebra
def _t(x: Any) -> Any:
    n = len(x.shape)
    return transpose(x, perm=(*range(n - 2), n - 1, n - 2))


def _h(x: Any) -> Any:
    return conj(_t(x)) if dtypes.is_complex(x.dtype) else _t(x)


def _mm(x: Any, y: Any) -> Any:
    n = len(x.shape)
    lead = tuple(range(n - 2))
    return dot_general(
        x, y, dimension_numbers=(((n - 1,), (n - 2,)), (lead, lead)), out_dtype=x.dtype
    )


def _scale(x: Any, factor: float) -> Any:
    return mul(x, full_like(x, factor))


def _positions(x: Any) -> tuple[Any, Any]:
    """Return the row and the column number of every element of the matrices x."""
    n = len(x.shape)
    row, column = (iota(shape=x.shape[-2:], axis=k, dtype=dtypes.int32) for k in (0, 1))
    return tuple(broadcast_in_dim(i, shape=x.shape, dims=(n - 2, n - 1)) for i in (row, column))


def _triangle(x: Any, lower: bool, strict: bool = False) -> Any:
    row, column = _positions(x)
    first, second = (row, column) if lower else (column, row)
    return select((gt if strict else ge)(first, second), x, zeros_like(x))


def _diagonal_part(x: Any) -> Any:
    return select(eq(*_positions(x)), x, zeros_like(x))


def _diagonal(x: Any) -> Any:
    return reduce_sum(_diagonal_part(x), axes=(len(x.shape) - 1,))


def _columns(v: Any, like: Any, dims_end: int = 1) -> Any:
    """Return vectors (..., k) as matrices: element j fills column j (dims_end 1) or row j (2)."""
    n = len(like.shape)
    out = broadcast_in_dim(v, shape=like.shape, dims=(*range(n - 2), n - dims_end))
    return _as(out, like.dtype)


def _as(x: Any, dtype: Any) -> Any:
    return x if x.dtype == dtype else convert(x, dtype=dtype, weak_type=False)


def _real(x: Any) -> Any:
    return real(x) if dtypes.is_complex(x.dtype) else x


def _reciprocal_or_zero(x: Any) -> Any:
    """Return 1 / x, or zero where x is zero.

    There, at equal or zero singular values, vectors are not unique and have no derivative; zero is
    right for all functions that do not depend on the choice.
    """
    is_zero = eq(x, zeros_like(x))
    inverse = div(ones_like(x), select(is_zero, ones_like(x), x))
    return select(is_zero, zeros_like(x), inverse)


# -------------------------------------------------------------------------------------- derivatives
def _cholesky_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    low = cholesky(primals[0])
    half = triangular_solve(low, tangents[0], lower=True, trans=0, unit=False)
    inner = triangular_solve(low, _h(half), lower=True, trans=0, unit=False)
    phi = sub(_triangle(inner, lower=True), _scale(_diagonal_part(inner), 0.5))
    return low, _mm(low, phi)


def _triangular_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, lower: bool, trans: int, unit: bool
) -> tuple[Any, Any]:
    (a, b), (ta, tb) = primals, tangents
    params = {"lower": lower, "trans": trans, "unit": unit}
    x = triangular_solve(a, b, **params)
    change = None
    if ta is not None:
        ta = _triangle(ta, lower, strict=unit)
        change = neg(_mm((_same, _t, _h)[trans](ta), x))
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


def _solve_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (a, b), (ta, tb) = primals, tangents
    x = solve(a, b)
    return x, solve(a, accumulate([tb, None if ta is None else neg(_mm(ta, x))]))


def _solve_transpose(ct: Any, a: Any, b: Any) -> tuple[None, Any]:
    return None, solve(_t(a), ct) if is_linear(b) else None


def _slogdet_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    sign, logabs = slogdet(x)
    k = len(sign.shape)
    trace = reduce_sum(_diagonal_part(solve(x, t)), axes=(k, k + 1))
    if not dtypes.is_complex(x.dtype):
        return [sign, logabs], [None, trace]
    angle = imag(trace)
    return [sign, logabs], [mul(sign, complex(zeros_like(angle), angle)), real(trace)]


def _eigh_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    w, v = eigh(primals[0])
    inner = _mm(_h(v), _mm(tangents[0], v))
    gaps = _reciprocal_or_zero(sub(_columns(w, _real(v)), _columns(w, _real(v), 2)))
    return [w, v], [_diagonal(_real(inner)), _mm(v, mul(_as(gaps, v.dtype), inner))]


def _qr_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """q and the left square of r follow from the leading columns; r = qᴴ x gives the rest."""
    (x,), (t,) = primals, tangents
    q, r = qr(x)
    k = q.shape[-1]
    square, dx = _leading_columns(r, k), _leading_columns(t, k)
    dx = _t(triangular_solve(square, _t(dx), lower=False, trans=1, unit=False))  # dx / square
    inner = _mm(_h(q), dx)
    lower = _triangle(inner, lower=True, strict=True)
    turn = sub(lower, _h(lower))
    if dtypes.is_complex(x.dtype):
        diagonal = _diagonal_part(inner)
        turn = add(turn, sub(diagonal, _as(real(diagonal), x.dtype)))
    dq = add(_mm(q, sub(turn, inner)), dx)
    dr = add(_mm(_h(dq), x), _mm(_h(q), t))
    return [q, r], [dq, _triangle(dr, lower=False)]


def _leading_columns(x: Any, k: int) -> Any:
    n = len(x.shape)
    return slice(x, start=(0,) * n, limit=(*x.shape[:-1], k), stride=(1,) * n)


def _svd_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    u, s, vt = svd(x)
    uh, v = _h(u), _h(vt)
    inner = _mm(uh, _mm(t, v))
    real_inner = _real(inner)
    across, down = _columns(s, real_inner), _columns(s, real_inner, 2)
    gaps = _as(_reciprocal_or_zero(mul(add(across, down), sub(across, down))), x.dtype)
    right, left = mul(_as(across, x.dtype), inner), mul(_as(down, x.dtype), inner)
    turn_u = mul(gaps, add(right, _h(right)))
    turn_v = mul(gaps, add(left, _h(left)))
    inverse = _reciprocal_or_zero(s)
    if dtypes.is_complex(x.dtype):
        # The phases of a pair of singular vectors: the change is charged to u.
        phase = _diagonal_part(sub(inner, _h(inner)))
        turn_u = add(turn_u, _scale(mul(phase, _columns(inverse, phase)), 0.5))
    du, dv = _mm(u, turn_u), _mm(v, turn_v)
    m, n = x.shape[-2:]
    if m > n:
        du = add(du, _outside(u, _mm(t, v), inverse))
    if n > m:
        dv = add(dv, _outside(v, _mm(_h(t), u), inverse))
    return [u, s, vt], [du, _diagonal(real_inner), _h(dv)]


def _outside(basis: Any, change: Any, inverse: Any) -> Any:
    """Return the part of ``change`` that is orthogonal to the basis, over the singular values."""
    rest = sub(change, _mm(basis, _mm(_h(basis), change)))
    return mul(rest, _columns(inverse, rest))


# -------------------------------------------------------------------------------------------- batch
def _spread_batch(prim: Primitive) -> Callable[..., Any]:
    def batch(
        axis: Any, args: Sequence[Any], batched: Sequence[bool], **params: Any
    ) -> tuple[Any, Any]:
        args = [x if b else spread(x, axis.size) for x, b in zip(args, batched, strict=True)]
        out = prim.bind(*args, **params)
        return out, [True] * len(out) if prim.multiple_results else True

    return batch


def _solve_batch(prim: Primitive) -> Callable[..., Any]:
    """Systems that share their matrix are one system with more columns: factorised once."""
    spread_all = _spread_batch(prim)

    def batch(
        axis: Any, args: Sequence[Any], batched: Sequence[bool], **params: Any
    ) -> tuple[Any, Any]:
        if batched[0]:
            return spread_all(axis, args, batched, **params)
        a, b = args
        k = len(b.shape) - 1
        moved = transpose(b, perm=(*range(1, k), 0, k))
        columns = reshape(moved, shape=(*moved.shape[:-2], axis.size * moved.shape[-1]))
        out = reshape(prim.bind(a, columns, **params), shape=moved.shape)
        return transpose(out, perm=(k - 1, *range(k - 1), k)), True

    return batch


# ----------------------------------------------------------------------------------- the primitives
def _primitive(
    name: str,
    type: Callable[..., Any],
    eager: Callable[..., Any],
    jvp: Callable[..., Any],
    transpose: Callable[..., Any] | None = None,
    *,
    multiple_results: bool = True,
) -> Primitive:
    prim = Primitive(name, multiple_results=multiple_results)
    prim.type, prim.eager = type, _guarded(eager, multiple_results)
    prim.jvp, prim.transpose = jvp, transpose
    prim.batch = (_spread_batch if transpose is None else _solve_batch)(prim)
    if transpose is None:
        prim.none["transpose"] = NO_TRANSPOSE
    return prim


cholesky_p = _primitive(
    "cholesky", _cholesky_type, _cholesky_eager, _cholesky_jvp, multiple_results=False
)
triangular_solve_p = _primitive(
    "triangular_solve",
    _solve_type("triangular_solve"),
    _triangular_eager,
    _triangular_jvp,
    _triangular_transpose,
    multiple_results=False,
)
solve_p = _primitive(
    "solve",
    _solve_type("solve"),
    _solve_eager,
    _solve_jvp,
    _solve_transpose,
    multiple_results=False,
)
slogdet_p = _primitive("slogdet", _slogdet_type, _slogdet_eager, _slogdet_jvp)
eigh_p = _primitive("eigh", _eigh_type, _eigh_eager, _eigh_jvp)
qr_p = _primitive("qr", _qr_type, _qr_eager, _qr_jvp)
svd_p = _primitive("svd", _svd_type, _svd_eager, _svd_jvp)

cholesky, triangular_solve, solve = cholesky_p.bind, triangular_solve_p.bind, solve_p.bind
slogdet, eigh, qr, svd = slogdet_p.bind, eigh_p.bind, qr_p.bind, svd_p.bind
