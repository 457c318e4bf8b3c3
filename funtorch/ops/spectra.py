"""Eigenvalues and singular values, over any leading batch dimensions.

    eigh(x; vectors) -> (w, v)          x Hermitian, w ascending: x v = v diag(w); or w alone
    svd(x; full, vectors) -> (u, s, vt) s descending: x = u diag(s) vt; s alone without vectors
    eig(x; left, right) -> (w, ...)     complex: x v = v diag(w), uᴴ x = diag(w) uᴴ; columns of
                                        length 1 whose largest element is real
    schur(x; vectors) -> (t, q)         x = q t qᴴ, t triangular; with blocks of 2 if x is real

Vectors of equal values are not unique. Derivatives take them to stay as they are in the space that
they span, which is right for what depends on that space alone, and keep every other number finite.
With ``config.strict_gradients`` the formulas are used as they are, and give inf and nan there.

References:
    M. B. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
    differentiation", 2008. J. Townsend, "Differentiating the singular value decomposition", 2016.
    C. Boeddeker et al., "On the computation of complex-valued gradients with application to
    statistically optimum beamforming", 2017 (eig).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funtorch import dtypes
from funtorch.core import ShapedArray
from funtorch.ops.elementwise import (
    abs,
    add,
    bitwise_and,
    bitwise_not,
    complex,
    conj,
    div,
    eq,
    gt,
    imag,
    max,
    mul,
    ne,
    neg,
    real,
    select,
    sqrt,
    sub,
)
from funtorch.ops.families import broadcast_in_dim, is_linear, ones_like, zeros_like
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
    positions,
    primitive,
    real_part,
    reciprocal_or_zero,
    scale,
    turned,
)
from funtorch.ops.reduce import reduce_max, reduce_sum
from funtorch.ops.shape import concatenate
from funtorch.ops.shape import slice as cut
from funtorch.ops.solves import solve

__all__ = ["eig", "eig_p", "eigh", "eigh_p", "schur", "schur_p", "svd", "svd_p"]


# ---------------------------------------------------------------------------------------- Hermitian
def _eigh_type(x: ShapedArray, *, vectors: bool = True) -> list[ShapedArray]:
    check_matrices("eigh", x)
    values = ShapedArray(x.shape[:-1], dtypes.real_dtype(x.dtype))
    return [values, ShapedArray(x.shape, x.dtype)][: 1 + vectors]


def _largest(values: Any, like: Any) -> Any:
    """Return the largest absolute value of vectors, for each element of matrices."""
    k = len(values.shape) - 1
    most = reduce_max(abs(values), axes=(k,))
    return broadcast_in_dim(most, shape=like.shape, dims=tuple(range(k)))


def _off_diagonal_inverse(gaps: Any, size: Any, count: int) -> Any:
    """Return 1 over the differences of values, with zeros on the diagonal and for equal values."""
    inverse = reciprocal_or_zero(add(gaps, identity_like(gaps)), size, count)
    return sub(inverse, diagonal_part(inverse))


def _eigh_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, vectors: bool) -> tuple[Any, Any]:
    w, v = eigh(primals[0])
    if not w.shape[-1]:
        return [w, v][: 1 + vectors], [None, None][: 1 + vectors]
    inner = mm(adjoint(v), mm(tangents[0], v))
    if not vectors:
        return [w], [diagonal(real_part(inner))]
    plain = real_part(v)
    gaps = sub(columns(w, plain), columns(w, plain, 2))
    inverse = _off_diagonal_inverse(gaps, _largest(w, plain), w.shape[-1])
    return [w, v], [diagonal(real_part(inner)), mm(v, mul(as_dtype(inverse, v.dtype), inner))]


def _small_eigh(xp: Any, x: Any, *, vectors: bool) -> tuple[Any, ...]:
    return tuple(xp.linalg.eigh(x)) if vectors else (xp.linalg.eigvalsh(x),)


eigh_p = primitive("eigh", _eigh_type, _eigh_jvp, small=_small_eigh)


def eigh(x: Any, *, vectors: bool = True) -> Any:
    """Return w, v, or w alone in a list."""
    return eigh_p.bind(x, vectors=vectors)


# ---------------------------------------------------------------------------------- singular values
def _svd_type(x: ShapedArray, *, full: bool, vectors: bool) -> list[ShapedArray]:
    check_matrices("svd", x, square=False)
    *lead, m, n = x.shape
    k = m if m < n else n
    values = ShapedArray((*lead, k), dtypes.real_dtype(x.dtype))
    if not vectors:
        return [values]
    rows, across = (n, m) if full else (k, k)
    return [
        ShapedArray((*lead, m, across), x.dtype),
        values,
        ShapedArray((*lead, rows, n), x.dtype),
    ]


def _svd_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, full: bool, vectors: bool
) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    m, n = x.shape[-2:]
    k = m if m < n else n
    outs = svd(x, full=full and vectors)
    if not k:
        return (outs if vectors else outs[1:2]), [None] * (3 if vectors else 1)
    u_all, s, vt_all = outs
    u, vt = part(u_all, (0, m), (0, k)), part(vt_all, (0, k), (0, n))
    v = adjoint(vt)
    inner = mm(adjoint(u), mm(t, v))
    real_inner = real_part(inner)
    ds = diagonal(real_inner)
    if not vectors:
        return [s], [ds]
    du, dv = _vectors_change(x, t, u, s, v, inner)
    others = u_all.shape[-1], vt_all.shape[-2]
    if others[0] > k:
        other = part(u_all, (0, m), (k, others[0]))
        du = blocks([[du, neg(mm(u, mm(adjoint(du), other)))]])
    if others[1] > k:
        other = adjoint(part(vt_all, (k, others[1]), (0, n)))
        dv = blocks([[dv, neg(mm(v, mm(adjoint(dv), other)))]])
    return outs, [du, ds, adjoint(dv)]


def _vectors_change(x: Any, t: Any, u: Any, s: Any, v: Any, inner: Any) -> tuple[Any, Any]:
    """Return the tangents of thin singular vectors."""
    m, n = x.shape[-2:]
    plain = real_part(inner)
    across, down = columns(s, plain), columns(s, plain, 2)
    most, count = _largest(s, plain), m if m > n else n
    apart = _off_diagonal_inverse(sub(across, down), most, count)
    gaps = as_dtype(mul(reciprocal_or_zero(add(across, down), most, count), apart), x.dtype)
    right, left = mul(as_dtype(across, x.dtype), inner), mul(as_dtype(down, x.dtype), inner)
    turn_u = mul(gaps, add(right, adjoint(right)))
    turn_v = mul(gaps, add(left, adjoint(left)))
    k = len(s.shape) - 1
    peak = broadcast_in_dim(reduce_max(s, axes=(k,)), shape=s.shape, dims=tuple(range(k)))
    inverse = reciprocal_or_zero(s, peak, count)
    if dtypes.is_complex(x.dtype):
        # The phases of a pair of singular vectors: the change is charged to u.
        phase = diagonal_part(sub(inner, adjoint(inner)))
        turn_u = add(turn_u, scale(mul(phase, columns(inverse, phase)), 0.5))
    du, dv = mm(u, turn_u), mm(v, turn_v)
    if m > n:
        du = add(du, _outside(u, mm(t, v), inverse))
    if n > m:
        dv = add(dv, _outside(v, mm(adjoint(t), u), inverse))
    return du, dv


def _outside(basis: Any, change: Any, inverse: Any) -> Any:
    """Return the part of ``change`` that is orthogonal to the basis, over the singular values."""
    rest = sub(change, mm(basis, mm(adjoint(basis), change)))
    return mul(rest, columns(inverse, rest))


def _small_svd(xp: Any, x: Any, *, full: bool, vectors: bool) -> tuple[Any, ...]:
    if not vectors:
        return (xp.linalg.svd(x, compute_uv=False),)
    return tuple(xp.linalg.svd(x, full_matrices=full))


svd_p = primitive("svd", _svd_type, _svd_jvp, small=_small_svd)


def svd(x: Any, *, full: bool = False, vectors: bool = True) -> Any:
    """Return u, s, vt, or s alone in a list; u and vt are square if ``full``."""
    return svd_p.bind(x, full=full, vectors=vectors)


# ------------------------------------------------------------------------------------- any matrices
def _geev_type(x: ShapedArray, *, left: bool, right: bool) -> list[ShapedArray]:
    check_matrices("geev", x)
    values = ShapedArray(x.shape[:-1], x.dtype)
    count = 1 if dtypes.is_complex(x.dtype) else 2
    return [values] * count + [ShapedArray(x.shape, x.dtype)] * (left + right)


geev_p = primitive("geev", _geev_type, "it is a step of eig, which has a derivative")


def _eig_check(x: ShapedArray, *, left: bool, right: bool) -> None:
    check_matrices("eig", x)


def _eig_program(x: Any, *, left: bool, right: bool) -> list[Any]:
    outs = geev_p.bind(x, left=left, right=right)
    if dtypes.is_complex(x.dtype):
        return list(outs)
    re, im, *vectors = outs
    return [complex(re, im), *(_unpacked(im, v) for v in vectors)]


def _unpacked(im: Any, v: Any) -> Any:
    """Return complex vectors: those of a conjugate pair lie as two columns, real and imaginary."""
    n = v.shape[-1]
    zero = zeros_like(v)
    if n < 2:
        return complex(v, zero)
    axis = len(v.shape) - 1
    edge = zeros_like(part(v, (0, n), (0, 1)))
    following = concatenate(part(v, (0, n), (1, n)), edge, axis=axis)
    before = concatenate(edge, part(v, (0, n), (0, n - 1)), axis=axis)
    sign = columns(im, v)
    first, second = gt(sign, zero), gt(zero, sign)
    return complex(
        select(second, before, v), select(first, following, select(second, neg(v), zero))
    )


def _eig_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, left: bool, right: bool
) -> tuple[Any, Any]:
    (x,), (t,) = primals, tangents
    if not x.shape[-1]:
        outs = eig(x, left=left, right=right)
        return outs, [None] * len(outs)
    w, *found = eig(x, left=left, right=True)
    v, t = found[-1], as_dtype(t, w.dtype)
    inner = solve(v, mm(t, v))
    changes = [diagonal(inner)]
    outs = [w]
    if left:  # they are the right vectors of xᴴ, whose values are conjugate
        u = found[0]
        outs.append(u)
        changes.append(_eig_vectors(conj(w), u, solve(u, mm(adjoint(t), u))))
    if right:
        outs.append(v)
        changes.append(_eig_vectors(w, v, inner))
    return outs, changes


def _eig_vectors(w: Any, v: Any, inner: Any) -> Any:
    """Return the tangent of vectors of length 1 whose largest element is real."""
    gaps = sub(columns(w, v), columns(w, v, 2))
    size = abs(gaps)
    inverse = _off_diagonal_inverse(size, _largest(w, size), w.shape[-1])
    square = as_dtype(mul(inverse, inverse), v.dtype)
    change = mm(v, mul(mul(conj(gaps), square), inner))
    axis = len(v.shape) - 2
    stretch = reduce_sum(real(mul(conj(v), change)), axes=(axis,))
    most = abs(v)
    peak = reduce_max(most, axes=(axis,))
    chosen = eq(most, columns(peak, most))
    # Of several largest ones the first is real: the others are left out.
    there = select(chosen, imag(change), zeros_like(most))
    by = select(chosen, real(v), zeros_like(most))
    weight = reduce_sum(mul(by, by), axes=(axis,))
    turn = div(reduce_sum(mul(there, by), axes=(axis,)), max(weight, _tiny_like(weight)))
    return sub(change, mul(columns(complex(stretch, turn), v), v))


def _tiny_like(x: Any) -> Any:
    return scale(ones_like(x), float(dtypes.finfo(x.dtype).tiny))


eig_p = macro("eig", _eig_check, _eig_program, _eig_jvp)


def eig(x: Any, *, left: bool = False, right: bool = True) -> Any:
    """Return the eigenvalues, and the left and the right vectors that are asked for, in a list."""
    return eig_p.bind(x, left=left, right=right)


# -------------------------------------------------------------------------------------------- Schur
def _schur_type(x: ShapedArray, *, vectors: bool) -> list[ShapedArray]:
    check_matrices("schur", x)
    return [ShapedArray(x.shape, x.dtype)] * (1 + vectors)


def _below(x: Any) -> Any:
    """Return where matrices of the shape of a Schur form x are below its diagonal blocks."""
    row, column = positions(x)
    low = gt(row, column)
    if dtypes.is_complex(x.dtype):
        return low
    next_row = eq(row, add(column, ones_like(column)))
    inside = bitwise_and(next_row, ne(x, zeros_like(x)))
    return bitwise_and(low, bitwise_not(inside))


def _pairs(t: Any) -> Any:
    """Return the imaginary parts of the eigenvalues of a real Schur form."""
    n = t.shape[-1]
    lead = tuple(range(len(t.shape) - 2))
    wide = reduce_sum(_beside(t), axes=(len(t.shape) - 1,))  # t[j, j + 1]
    low = reduce_sum(_beside(turned(t)), axes=(len(t.shape) - 1,))  # t[j + 1, j]
    first = select(ne(low, zeros_like(low)), sqrt(abs(mul(wide, low))), zeros_like(low))
    k = len(lead)
    start, stride = (0,) * (k + 1), (1,) * (k + 1)
    none = zeros_like(cut(first, start=start, limit=(*t.shape[:-2], 1), stride=stride))
    head = cut(first, start=start, limit=(*t.shape[:-2], n - 1), stride=stride)
    return sub(first, concatenate(none, head, axis=k))


def _beside(x: Any) -> Any:
    """Keep the elements right of the diagonal."""
    row, column = positions(x)
    return select(eq(add(row, ones_like(row)), column), x, zeros_like(x))


def _shift_check(t: ShapedArray, g: ShapedArray, *, back: bool) -> None:
    check_matrices("schur_shift", t)
    if g.shape != t.shape or g.dtype != t.dtype:
        raise TypeError(
            f"schur_shift takes two arrays of one type, got {t.str_short()}, {g.str_short()}"
        )


def _shift_program(t: Any, g: Any, *, back: bool) -> tuple[Any]:
    """Solve x t - t x = g below the diagonal blocks of t, for an x that is 0 elsewhere.

    In the basis of t's eigenvectors v, which is (block) triangular, this is one equation for each
    element: what is above the blocks stays there. ``back`` gives the transpose of that map.
    """
    v, below = trevc(t), _below(t)
    if dtypes.is_complex(t.dtype):
        d = diagonal(t)
    else:
        im = _pairs(t)
        v, d = _unpacked(im, v), complex(diagonal(t), im)
    g = as_dtype(g, v.dtype)
    gaps = sub(columns(d, v), columns(d, v, 2))
    size = abs(gaps)
    inverse = reciprocal_or_zero(
        select(below, size, ones_like(size)), _largest(d, size), t.shape[-1]
    )
    factor = mul(conj(gaps), as_dtype(mul(inverse, inverse), v.dtype))
    zero = zeros_like(v)

    def kept(x: Any) -> Any:
        return select(below, x, zero)

    if back:
        vt = turned(v)
        inner = turned(solve(v, turned(mm(vt, kept(g)))))  # vᵀ g v⁻ᵀ
        out = mm(solve(vt, kept(mul(factor, inner))), vt)
    else:
        inner = kept(mul(factor, mm(solve(v, g), v)))
        out = kept(turned(solve(turned(v), turned(mm(v, inner)))))
    return (out if dtypes.is_complex(t.dtype) else real(out),)


def _shift_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, back: bool) -> tuple[Any, Any]:
    (t, g), (tt, tg) = primals, tangents
    (x,) = schur_shift_p.bind(t, g, back=back)
    change = tg
    if tt is not None:
        by = turned(tt) if back else tt
        bent = sub(mm(by, x), mm(x, by))
        change = bent if tg is None else add(tg, bent)
    if change is None:
        return [x], [None]
    return [x], schur_shift_p.bind(t, change, back=back)


def _shift_transpose(ct: Sequence[Any], t: Any, g: Any, *, back: bool) -> tuple[Any, Any]:
    return None, schur_shift_p.bind(t, ct[0], back=not back)[0] if is_linear(g) else None


def _trevc_type(x: ShapedArray) -> ShapedArray:
    check_matrices("trevc", x)
    return ShapedArray(x.shape, x.dtype)


trevc_p = primitive(
    "trevc", _trevc_type, "it is a step of schur's derivative", multiple_results=False
)
trevc = trevc_p.bind
schur_shift_p = macro("schur_shift", _shift_check, _shift_program, _shift_jvp)
schur_shift_p.transpose = _shift_transpose
del schur_shift_p.none["transpose"]


def _schur_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, vectors: bool
) -> tuple[Any, Any]:
    """q turns by qᴴ dq = x - xᴴ, which makes the tangent of t a Schur form.

    A block of two rows and columns turns in itself so that its diagonal elements stay equal.
    """
    t, q = schur(primals[0])
    g = mm(adjoint(q), mm(tangents[0], q))
    if not t.shape[-1]:
        return [t, q][: 1 + vectors], [None] * (1 + vectors)
    (x,) = schur_shift_p.bind(t, g, back=False)
    turn = sub(x, adjoint(x))
    change = sub(g, sub(mm(turn, t), mm(t, turn)))
    if not dtypes.is_complex(t.dtype):
        own = _inside(t, change)
        change = sub(change, sub(mm(own, t), mm(t, own)))
        turn = add(turn, own)
        low = gt(*positions(t))
        off = bitwise_and(low, eq(t, zeros_like(t)))
    else:
        off = gt(*positions(t))
    change = select(off, zeros_like(change), change)
    return [t, q][: 1 + vectors], [change, mm(q, turn)][: 1 + vectors]


def _inside(t: Any, g: Any) -> Any:
    """Return the turns inside of the blocks of a real Schur form."""
    wide, low = _beside(t), turned(_beside(turned(t)))
    diagonals = diagonal(g)
    rise = _beside(sub(columns(diagonals, g), columns(diagonals, g, 2)))
    both = _beside(add(wide, turned(low)))
    most = broadcast_in_dim(
        reduce_max(abs(t), axes=(len(t.shape) - 2, len(t.shape) - 1)),
        shape=t.shape,
        dims=tuple(range(len(t.shape) - 2)),
    )
    angle = scale(
        mul(
            rise,
            reciprocal_or_zero(
                select(eq(both, zeros_like(both)), zeros_like(both), both), most, t.shape[-1]
            ),
        ),
        0.5,
    )
    block = ne(turned(low), zeros_like(low))
    angle = select(block, angle, zeros_like(angle))
    return sub(turned(angle), angle)


schur_p = primitive("schur", _schur_type, _schur_jvp)


def schur(x: Any, *, vectors: bool = True) -> Any:
    """Return t and the unitary q, or t alone in a list."""
    return schur_p.bind(x, vectors=vectors)
