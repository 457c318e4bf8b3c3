"""Eigenvalues of any matrices, and the forms on the way to them, for ONNX: loops over columns.

A Schur form is found by the QR iteration with Wilkinson's shifts, each step a product with a whole
matrix: what it costs grows with the fourth power of the size. Complex forms are triangles; real
ones have blocks whose places depend on the values, so they are not written.

References:
    G. H. Golub, C. F. Van Loan, "Matrix Computations", 4th ed., 2013: 5.4 (QR with column
    pivoting), 7.4 (Hessenberg form), 7.5 (QR iteration), 7.6 (eigenvectors), 8.3 (tridiagonal).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import primitives
from funtorch.jaxpr import stage
from funtorch.ops.orthogonal import householder_product
from funtorch.ops.solves import triangular_solve

from .graph import NotExpressible, Rule
from .matrices import (
    FACTORS,
    adjoint,
    along,
    column_of,
    columns,
    loop,
    reflected,
    reflector,
    row_of,
    rows,
    squares,
    swapped,
    turned,
)
from .written import program

__all__ = ["MATRICES", "PROGRAMS"]

_MOST_STEPS = 30
"""Of the iteration, for each row: far more than are ever needed."""


# ------------------------------------------------------------------------------ reflections
def _geqp3(x: Any) -> Any:
    """Return what `geqrf` does of columns in an order, and that order, from 1 on."""

    def step(k: Any, a: Any, taus: Any, order: Any) -> Any:
        sizes = squares(fnp.where(rows(a) >= k, a, 0))
        best = fnp.argmax(fnp.where(columns(a) >= k, sizes, -1), -1, keepdims=True).astype("int32")
        a = turned(swapped(turned(a), k, best))
        return *reflected(k, a, taus), swapped(order, k, best)

    taus = fnp.zeros((*x.shape[:-2], min(x.shape[-2:])), x.dtype)
    order = fnp.arange(1, x.shape[-1] + 1, dtype="int32")[:, None]
    order = fnp.broadcast_to(order, (*x.shape[:-2], x.shape[-1], 1))
    a, taus, order = loop(taus.shape[-1], step, x, taus, order)
    return a, taus, order[..., 0]


def _below(k: Any, a: Any, taus: Any) -> Any:
    """Clear column k below the next row, by a reflection that is done from both sides."""
    v, tau, beta = reflector(column_of(a, k), k + 1)
    turn = a - fnp.conj(tau) * v * along(v, a)
    turn = turn - tau * (turn @ v) * adjoint(v)
    own = fnp.where(rows(a) > k + 1, v, fnp.where(rows(a) == k + 1, beta, a))
    a = fnp.where(columns(a) == k, own, fnp.where(columns(a) > k, turn, a))
    return a, fnp.where(columns(taus) == k, tau[..., 0], taus)


def _hessenberg(x: Any) -> Any:
    taus = fnp.zeros((*x.shape[:-2], max(x.shape[-1] - 1, 0)), x.dtype)
    return loop(taus.shape[-1], _below, x, taus)


def _tridiagonal(x: Any, *, lower: bool) -> Any:
    """From the upper triangle it is the same, turned around."""
    if not lower:
        a, d, e, taus = _tridiagonal(fnp.flip(x, (-2, -1)), lower=True)
        return fnp.flip(a, (-2, -1)), *(fnp.flip(v, -1) for v in (d, e, taus))
    under = fnp.where(rows(x) > columns(x), x, 0)
    whole = under + adjoint(under) + fnp.where(rows(x) == columns(x), fnp.real(x), 0)
    a, taus = _hessenberg(whole.astype(x.dtype))
    a = fnp.where(rows(x) >= columns(x), a, x)
    d, e = (fnp.real(fnp.diagonal(a, k, -2, -1)) for k in (0, -1))
    return fnp.where(rows(x) == columns(x), fnp.real(a), a), d, e, taus


# ------------------------------------------------------------------------------ Schur forms
def _shift(h: Any, last: Any, count: Any) -> Any:
    """Return the eigenvalue of the last block of two that is nearer to its last element."""
    before = last - 1
    a, b, c, d = (column_of(row_of(h, i), j) for i in (before, last) for j in (before, last))
    middle, apart = (a + d) / 2, (a - d) / 2
    root = fnp.sqrt(apart * apart + b * c)
    one, other = middle + root, middle - root
    nearer = fnp.where(fnp.abs(one - d) < fnp.abs(other - d), one, other)
    return fnp.where(count % 11 == 10, d + fnp.abs(c), nearer)  # where it goes round in a ring


def _qr_step(count: Any, h: Any, z: Any) -> Any:
    """Do one step on the last block of each matrix that is no triangle yet."""
    n = h.shape[-1]
    number = fnp.arange(1, n, dtype="int32")
    active = fnp.diagonal(h, -1, -2, -1) != 0
    last = fnp.where(active, number, 0).max(-1)[..., None, None]
    start = fnp.where(~active & (number <= last[..., 0]), number, 0).max(-1)[..., None, None]
    unit = fnp.eye(n, dtype=h.dtype)
    row, column = rows(h), columns(h)
    inside = (row >= start) & (row <= last) & (column >= start) & (column <= last) & (last > 0)
    q, _ = primitives["qr"].bind(
        fnp.where(inside, h - _shift(h, last, count) * unit, unit), full=False
    )
    h = adjoint(q) @ h @ q
    return count + 1, _without_small(fnp.where(row <= column + 1, h, 0)), z @ q


def _without_small(h: Any) -> Any:
    """Set what is next to nothing beside its neighbours on the diagonal to zero."""
    size = fnp.abs(fnp.diagonal(h, 0, -2, -1))
    beside = fnp.pad(size[..., :-1], [(0, 0)] * (size.ndim - 1) + [(1, 0)]) + size
    small = fnp.abs(h) <= beside[..., :, None] * float(np.finfo(h.dtype).eps)
    return fnp.where(small & (rows(h) == columns(h) + 1), 0, h)


def _schur_of_complex(x: Any) -> tuple[Any, Any]:
    n = x.shape[-1]
    unit = fnp.broadcast_to(fnp.eye(n, dtype=x.dtype), x.shape)
    if n < 2:
        return x, unit
    packed, taus = primitives["hessenberg"].bind(x)
    inner = householder_product(packed[..., 1:, : n - 1], taus)
    z = fnp.pad(inner, [(0, 0)] * (x.ndim - 2) + [(1, 0), (1, 0)]) + unit * (rows(x) == 0)
    h = _without_small(fnp.where(rows(x) <= columns(x) + 1, packed, 0))
    carry = [fnp.zeros((), "int32"), h, z]
    avals = [v.aval for v in carry]

    def unfinished(count: Any, h: Any, z: Any) -> list[Any]:
        return [(count < _MOST_STEPS * n) & (fnp.diagonal(h, -1, -2, -1) != 0).any()]

    cond, body = stage(unfinished, avals), stage(lambda *xs: list(_qr_step(*xs)), avals)
    _, h, z = primitives["while"].bind(
        *cond.consts, *body.consts, *carry, cond_jaxpr=cond.hoisted(), body_jaxpr=body.hoisted(),
        cond_nconsts=len(cond.consts), body_nconsts=len(body.consts),
    )  # fmt: skip
    return fnp.where(rows(h) <= columns(h), h, 0), z


def _for_complex_alone(x: Any) -> None:
    if not dtypes.is_complex(x.dtype):
        raise NotExpressible(
            "of real matrices, whose blocks are where the values want them (complex matrices have "
            "none), has no counterpart"
        )


def _schur(x: Any, *, vectors: bool) -> Any:
    _for_complex_alone(x)
    return _schur_of_complex(x)[: 1 + vectors]


# ------------------------------------------------------------------------------ eigenvectors
def _triangle_vectors(t: Any) -> Any:
    """Return the eigenvectors of triangles, whose diagonal is 1, row by row from below."""
    main = fnp.diagonal(t, 0, -2, -1)[..., None, :]
    tiny = float(np.finfo(t.dtype).tiny)
    least = fnp.abs(main) * float(np.finfo(t.dtype).eps) + tiny

    def step(k: Any, v: Any) -> Any:
        right = fnp.where(columns(t) > k, row_of(t, k), 0)
        apart = main - column_of(main, k)
        apart = fnp.where(fnp.abs(apart) < least, least, apart)
        return (fnp.where((rows(t) == k) & (columns(t) > k), (right @ v) / apart, v),)

    start = fnp.broadcast_to(fnp.eye(t.shape[-1], dtype=t.dtype), t.shape)
    return loop(t.shape[-1], step, start, back=True)[0]


def _trevc(x: Any) -> Any:
    """The largest element of each vector has 1 as the sum of its parts' sizes."""
    _for_complex_alone(x)
    v = _triangle_vectors(x)
    return v / (fnp.abs(v.real) + fnp.abs(v.imag)).max(-2, keepdims=True)


def _of_length_one(v: Any) -> Any:
    """Return columns of length 1, the largest element of each a positive number."""
    size = fnp.abs(v)
    best = size == size.max(-2, keepdims=True)
    first = fnp.cumsum(best.astype("int32"), -2) == 1
    largest = fnp.where(best & first, v, 0).sum(-2, keepdims=True)
    v = v * (fnp.conj(largest) / fnp.abs(largest))
    return v / fnp.sqrt(squares(v))


def _eig(x: Any, *, left: bool, right: bool) -> Any:
    x = x.astype(dtypes.complex_dtype(x.dtype))
    t, q = _schur_of_complex(x)
    found = [fnp.diagonal(t, 0, -2, -1)]
    v = _triangle_vectors(t)
    if left:
        unit = fnp.broadcast_to(fnp.eye(x.shape[-1], dtype=x.dtype), x.shape)
        inverse = triangular_solve(v, unit, lower=False, trans=0, unit=True)
        found.append(_of_length_one(q @ adjoint(inverse)))
    return [*found, _of_length_one(q @ v)] if right else found


def _geev(x: Any, *, left: bool, right: bool) -> Any:
    if not dtypes.is_complex(x.dtype):
        raise NotExpressible("of real matrices, with LAPACK's packed vectors, has no counterpart")
    return _eig(x, left=left, right=right)


PROGRAMS: dict[str, Callable[..., Any]] = {
    **FACTORS, "geqp3": _geqp3, "hessenberg": _hessenberg, "tridiagonal": _tridiagonal,
    "schur": _schur, "trevc": _trevc, "geev": _geev, "eig": _eig,
}  # fmt: skip
"""By primitive: a function of its operands, and of its parameters by name."""

MATRICES: dict[str, Rule] = {name: program(f) for name, f in PROGRAMS.items()}
"""By primitive, as `RULES` has them."""
