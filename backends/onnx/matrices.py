"""Linear algebra for ONNX, which has `Det` alone: factorisations as loops over columns.

Sizes of matrices are numbers; leading axes are batches. Each step works on whole matrices through
masks, so that a step is the same for all columns and a loop is one `Scan`.

References:
    G. H. Golub, C. F. Van Loan, "Matrix Computations", 4th ed., 2013: 3.1 (triangular systems),
    3.4 (LU with partial pivoting), 4.2 (Cholesky), 5.2 (Householder QR), 8.5 (Jacobi).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch.core import ShapedArray, primitives
from funtorch.jaxpr import stage

__all__ = [
    "FACTORS", "adjoint", "along", "column_of", "columns", "loop", "reflected", "reflector",
    "row_of", "rows", "squares", "swapped", "turned",
]  # fmt: skip


def loop(count: int, step: Callable[..., Sequence[Any]], *carry: Any, back: bool = False) -> Any:
    """Return what ``step(k, *carry)`` makes of some arrays for k = 0, 1 ..., or the other way."""
    ks = fnp.asarray(np.arange(count, dtype="int32")[:: -1 if back else 1].copy())
    avals = [x.aval for x in carry]
    body = stage(lambda *xs: list(step(xs[-1], *xs[:-1])), [*avals, ShapedArray((), ks.dtype)])
    return primitives["scan"].bind(
        *body.consts, *carry, ks, jaxpr=body.hoisted(), num_consts=len(body.consts),
        num_carry=len(carry), length=count, reverse=False,
    )  # fmt: skip


def rows(x: Any) -> Any:
    """Return the number of each row, as a column."""
    return fnp.arange(x.shape[-2], dtype="int32")[:, None]


def columns(x: Any) -> Any:
    return fnp.arange(x.shape[-1], dtype="int32")


def row_of(x: Any, k: Any) -> Any:
    """Return row k of matrices, as matrices of one row."""
    return fnp.where(rows(x) == k, x, 0).sum(-2, keepdims=True)


def column_of(x: Any, k: Any) -> Any:
    return fnp.where(columns(x) == k, x, 0).sum(-1, keepdims=True)


def turned(x: Any) -> Any:
    return fnp.swapaxes(x, -1, -2)


def adjoint(x: Any) -> Any:
    return fnp.conj(turned(x))


def along(x: Any, y: Any) -> Any:
    """Return the products of columns with those of another matrix, of which there may be one."""
    return (fnp.conj(x) * y).sum(-2, keepdims=True)


def squares(x: Any) -> Any:
    """Return the squares of the columns' lengths."""
    return (fnp.abs(x) ** 2).sum(-2, keepdims=True)


# ------------------------------------------------------------------------------ factorisations
def _cholesky(x: Any) -> Any:
    def step(k: Any, a: Any, low: Any) -> Any:
        column = column_of(a, k)
        pivot = fnp.real(row_of(column, k))
        root = fnp.sqrt(fnp.where(pivot > 0, pivot, fnp.nan))
        column = fnp.where(rows(a) >= k, column / root, 0)
        return a - column * adjoint(column), fnp.where(columns(a) == k, column, low)

    _, low = loop(x.shape[-1], step, x, fnp.zeros_like(x))
    bad = fnp.isnan(low).any((-1, -2), keepdims=True)
    return fnp.where(bad, fnp.nan, low)


def _getrf(x: Any) -> Any:
    """Return factors in one matrix, and with which row each one changed places, from 1 on."""
    count = min(x.shape[-2:])

    def step(k: Any, a: Any, pivots: Any) -> Any:
        size = fnp.where(rows(a) >= k, fnp.abs(column_of(a, k)), -1)
        best = fnp.argmax(size, -2, keepdims=True).astype("int32")
        a = swapped(a, k, best)
        column, row = column_of(a, k), row_of(a, k)
        pivot = row_of(column, k)
        factor = fnp.where(pivot == 0, column, column / fnp.where(pivot == 0, 1, pivot))
        below, beside = rows(a) > k, columns(a) > k
        change = fnp.where(below, factor, 0) * fnp.where(beside, row, 0)
        a = fnp.where(below & (columns(a) == k), factor, a - change)
        return a, fnp.where(columns(pivots) == k, best[..., 0] + 1, pivots)

    pivots = fnp.zeros((*x.shape[:-2], count), "int32")
    return loop(count, step, x, pivots)


def swapped(a: Any, k: Any, other: Any) -> Any:
    """Return matrices in which row k and another one have changed places."""
    place = rows(a)
    first, second = row_of(a, k), fnp.where(place == other, a, 0).sum(-2, keepdims=True)
    return fnp.where(place == k, second, fnp.where(place == other, first, a))


def _interchange(x: Any, pivots: Any) -> Any:
    def step(k: Any, places: Any) -> Any:
        other = column_of(pivots[..., None, :], k) - 1
        return (swapped(places, k, other),)

    return loop(pivots.shape[-1], step, x[..., None])[0][..., 0]


def _triangular_solve(a: Any, b: Any, *, lower: bool, trans: int, unit: bool) -> Any:
    if trans:
        a, lower = (turned(a) if trans == 1 else adjoint(a)), not lower

    def step(k: Any, x: Any) -> Any:
        column, known = column_of(a, k), row_of(x, k)
        known = known if unit else known / row_of(column, k)
        others = rows(a) > k if lower else rows(a) < k
        x = x - fnp.where(others, column, 0) * known
        return (fnp.where(rows(a) == k, known, x),)

    return loop(a.shape[-1], step, b, back=not lower)[0]


def _solve(a: Any, b: Any) -> Any:
    factors, pivots = primitives["getrf"].bind(a)

    def step(k: Any, x: Any) -> Any:
        return (swapped(x, k, column_of(pivots[..., None, :], k) - 1),)

    (b,) = loop(a.shape[-1], step, b)
    solve = primitives["triangular_solve"].bind
    b = solve(factors, b, lower=True, trans=0, unit=True)
    b = solve(factors, b, lower=False, trans=0, unit=False)
    singular = fnp.diagonal(factors, axis1=-2, axis2=-1) == 0
    return fnp.where(singular.any(-1)[..., None, None], fnp.nan, b)


def _tridiagonal_solve(below: Any, main: Any, above: Any, b: Any) -> Any:
    """The whole matrix is written: what it costs grows with the cube of its size."""
    size = main.shape[-1]
    apart = np.arange(size) - np.arange(size)[:, None]
    parts = [
        fnp.where(apart == k, x[..., :, None], fnp.zeros((), x.dtype))
        for k, x in ((-1, below), (0, main), (1, above))
    ]
    return primitives["solve"].bind(sum(parts[1:], parts[0]), b)


def _sylvester(a: Any, b: Any, c: Any) -> Any:
    """One system for all elements of the result."""
    m, n = c.shape[-2:]
    left = a[..., :, None, :, None] * fnp.eye(n, dtype=a.dtype)[:, None, :]
    right = fnp.eye(m, dtype=a.dtype)[:, None, :, None] * turned(b)[..., None, :, None, :]
    lead = c.shape[:-2]
    whole = (left + right).reshape(*lead, m * n, m * n)
    return primitives["solve"].bind(whole, c.reshape(*lead, m * n, 1)).reshape(c.shape)


# ------------------------------------------------------------------------------ reflections
def reflector(column: Any, k: Any) -> tuple[Any, Any, Any]:
    """Return what clears a column below row k: a vector that is 1 there, its factor, and what is
    left in row k, a real number."""
    below, at = rows(column) > k, rows(column) == k
    first, rest = row_of(column, k), fnp.where(below, column, 0)
    most = fnp.abs(rest).max(-2, keepdims=True)
    safe = fnp.where(most == 0, 1, most)
    length = safe * fnp.sqrt(squares(rest / safe))
    none = (most == 0) & (fnp.imag(first) == 0)
    length = -fnp.copysign(fnp.hypot(fnp.abs(first), length), fnp.real(first))
    beta = fnp.where(none, fnp.real(first), length)
    tau = fnp.where(none, 0, (beta - first) / fnp.where(beta == 0, 1, beta))
    return rest / fnp.where(none, 1, first - beta) + at, tau, beta


def reflected(k: Any, a: Any, taus: Any) -> Any:
    """Do step k of a factorisation by reflections."""
    v, tau, beta = reflector(column_of(a, k), k)
    change = fnp.conj(tau) * v * along(v, fnp.where(columns(a) > k, a, 0))
    own = fnp.where(rows(a) > k, v, fnp.where(rows(a) == k, beta, a))
    a = fnp.where(columns(a) == k, own, a - change)
    return a, fnp.where(columns(taus) == k, tau[..., 0], taus)


def _geqrf(x: Any) -> Any:
    """Return the upper factor with the reflectors under it, and their factors."""
    taus = fnp.zeros((*x.shape[:-2], min(x.shape[-2:])), x.dtype)
    return loop(taus.shape[-1], reflected, x, taus)


def _householder_product(a: Any, taus: Any) -> Any:
    def step(k: Any, q: Any) -> Any:
        v = fnp.where(rows(a) > k, column_of(a, k), 0) + (rows(a) == k)
        tau = column_of(taus[..., None, :], k)
        return (q - tau * v * along(v, q),)

    m, n = a.shape[-2:]
    start = fnp.broadcast_to(fnp.eye(m, n, dtype=a.dtype), a.shape)
    return loop(taus.shape[-1], step, start, back=True)[0]


def _qr(x: Any, *, full: bool) -> Any:
    m, n = x.shape[-2:]
    packed, taus = primitives["geqrf"].bind(x)
    k = m if full else min(m, n)
    wide = fnp.pad(packed, [(0, 0)] * (x.ndim - 1) + [(0, max(k - n, 0))])[..., :k]
    q = primitives["householder_product"].bind(wide, taus)
    return q, fnp.where(rows(packed) <= columns(packed), packed, 0)[..., :k, :]


# ------------------------------------------------------------------------------ rotations
_SWEEPS = 15
"""Of rotations; those after the columns are orthogonal change nothing."""


def _rotated(x: Any) -> tuple[Any, Any]:
    """Return orthogonal columns, and the rotation that made them of those of x.

    One-sided Jacobi: in each step neighbours are rotated, all pairs at once; then columns move by
    one place around the first, so that all have met after a round.
    """
    size = x.shape[-1] + x.shape[-1] % 2
    places = np.arange(size).reshape(-1, 2)  # columns of each pair, as players of a tournament
    ring = np.concatenate([places[:, 0], places[::-1, 1]])
    moved = np.concatenate([ring[:1], ring[-1:], ring[1:-1]])
    order = np.empty(size, np.int32)
    order[ring] = moved

    def step(k: Any, a: Any, v: Any) -> Any:
        p, q = a[..., 0::2], a[..., 1::2]
        product = along(p, q)
        inner = fnp.abs(product)
        apart = inner == 0
        inner = fnp.where(apart, 1, inner)
        phase = fnp.where(apart, 1, fnp.conj(product) / inner)
        ratio = (squares(q) - squares(p)) / (2 * inner)
        tangent = 1 / (fnp.abs(ratio) + fnp.hypot(ratio, fnp.ones_like(ratio)))
        tangent = fnp.where(apart, 0, fnp.copysign(tangent, ratio))
        cosine = 1 / fnp.sqrt(1 + tangent * tangent)
        turned = (_turn_pairs(m, phase, cosine, cosine * tangent) for m in (a, v))
        return [m[..., order] for m in turned]

    padded = fnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])
    start = fnp.broadcast_to(fnp.eye(size, dtype=x.dtype), (*x.shape[:-2], size, size))
    a, v = loop(_SWEEPS * max(size - 1, 0), step, padded, start)
    kept = slice(0, x.shape[-1])  # after whole rounds all columns are where they began
    return a[..., kept], v[..., kept, kept]


def _turn_pairs(m: Any, phase: Any, cosine: Any, sine: Any) -> Any:
    p, q = m[..., 0::2], m[..., 1::2] * phase
    pair = fnp.stack([cosine * p - sine * q, sine * p + cosine * q], -1)
    return pair.reshape(m.shape)


def _svd(x: Any, *, full: bool, vectors: bool) -> Any:
    if x.shape[-2] < x.shape[-1]:
        found = _svd(adjoint(x), full=full, vectors=vectors)
        return found if not vectors else (adjoint(found[2]), found[1], adjoint(found[0]))
    a, v = _rotated(x)
    most = fnp.abs(a).max((-1, -2), keepdims=True)
    safe = fnp.where(most == 0, 1, most)
    s = (safe * fnp.sqrt(squares(a / safe)))[..., 0, :]
    order = fnp.argsort(-s, -1)
    s = fnp.take_along_axis(s, order, -1)
    if not vectors:
        return (s,)
    a, v = (fnp.take_along_axis(m, order[..., None, :], -1) for m in (a, v))
    u, r = primitives["qr"].bind(a, full=full)  # orthogonal where a column is zero, too
    signs = fnp.where(fnp.real(fnp.diagonal(r, axis1=-2, axis2=-1)) < 0, -1, 1).astype(x.dtype)
    signs = fnp.pad(
        signs, [(0, 0)] * (s.ndim - 1) + [(0, u.shape[-1] - s.shape[-1])], constant_values=1
    )
    return u * signs[..., None, :], s, adjoint(v)


def _eigh(x: Any, *, vectors: bool) -> Any:
    """A matrix that is shifted to be positive has its singular vectors as eigenvectors."""
    lower = fnp.where(rows(x) > columns(x), x, 0)
    x = lower + adjoint(lower) + fnp.where(rows(x) == columns(x), fnp.real(x), 0)
    shift = fnp.abs(x).sum(-1).max(-1)[..., None, None]
    _, v = _rotated(x + shift * fnp.eye(x.shape[-1], dtype=x.dtype))
    w = fnp.real(fnp.conj(v) * (x @ v)).sum(-2)
    order = fnp.argsort(w, -1)
    w = fnp.take_along_axis(w, order, -1)
    return (w, fnp.take_along_axis(v, order[..., None, :], -1)) if vectors else (w,)


FACTORS: dict[str, Callable[..., Any]] = {
    "cholesky": _cholesky, "getrf": _getrf, "interchange": _interchange, "solve": _solve,
    "triangular_solve": _triangular_solve, "tridiagonal_solve": _tridiagonal_solve,
    "sylvester": _sylvester, "geqrf": _geqrf, "householder_product": _householder_product,
    "qr": _qr, "svd": _svd, "eigh": _eigh,
}  # fmt: skip
"""By primitive: a function of its operands, and of its parameters by name."""
