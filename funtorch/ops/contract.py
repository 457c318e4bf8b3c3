"""`dot_general`: the one contraction, behind dot, matmul, tensordot and einsum.

    dot_general(a, b; dimension_numbers=((ca, cb), (ba, bb)), out_dtype, precision)

Axis ``ca[i]`` of a is summed against axis ``cb[i]`` of b; ``ba[i]`` and ``bb[i]`` run together. The
axes of the result are the batch axes, the free axes of a and the free axes of b. ``precision``
'tf32' lets GPUs round float32 operands; products that are to have full precision do not name it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ShapedArray
from funtorch.ops.elementwise import convert
from funtorch.ops.families import bilinear
from funtorch.ops.shape import transpose

__all__ = ["dot_general", "dot_general_p", "free_axes", "inner_dtype"]

# ((contracted axes of a, of b), (batch axes of a, of b))
DimensionNumbers = tuple[
    tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]
]


def free_axes(ndim: int, contracted: Sequence[int], batch: Sequence[int]) -> tuple[int, ...]:
    """Return the axes that are neither contracted nor batch axes, in order."""
    return tuple(d for d in range(ndim) if d not in contracted and d not in batch)


# --------------------------------------------------------------------------------------------- type
def _type(
    a: ShapedArray,
    b: ShapedArray,
    *,
    dimension_numbers: DimensionNumbers,
    out_dtype: Any = None,
    precision: str | None = None,
) -> ShapedArray:
    (ca, cb), (ba, bb) = dimension_numbers
    problem = _mismatch(a, b, dimension_numbers, out_dtype)
    if problem:
        raise TypeError(
            f"dot_general: {problem}. It was asked to contract axes {ca} of a: {a.str_short()} "
            f"with axes {cb} of b: {b.str_short()}, with batch axes {ba} of a and {bb} of b, and "
            f"out_dtype {out_dtype}"
        )
    shape = (
        *(a.shape[d] for d in ba),
        *(a.shape[d] for d in free_axes(a.ndim, ca, ba)),
        *(b.shape[d] for d in free_axes(b.ndim, cb, bb)),
    )
    return ShapedArray(
        shape, a.dtype if out_dtype is None else np.dtype(out_dtype), a.weak_type and b.weak_type
    )


def _mismatch(
    a: ShapedArray, b: ShapedArray, dimension_numbers: DimensionNumbers, out_dtype: Any
) -> str | None:
    (ca, cb), (ba, bb) = dimension_numbers
    if a.dtype != b.dtype:
        return f"the dtypes {a.dtype.name} and {b.dtype.name} differ: convert one of the arrays"
    if out_dtype is not None and dtypes.is_complex(a.dtype) and not dtypes.is_complex(out_dtype):
        return "a complex product has no real out_dtype: take its real part instead"
    for kind, da, db in (("contracted", ca, cb), ("batch", ba, bb)):
        if len(da) != len(db):
            return f"a has {len(da)} {kind} axes and b has {len(db)}; they go in pairs"
    for name, x, axes in (("a", a, (*ca, *ba)), ("b", b, (*cb, *bb))):
        if any(not 0 <= d < x.ndim for d in axes):
            return f"{name} has {x.ndim} axes, numbered from 0"
        if len(set(axes)) != len(axes):
            return f"an axis of {name} is named twice"
    for kind, da, db in (("contracted", ca, cb), ("batch", ba, bb)):
        for i, j in zip(da, db, strict=True):
            if a.shape[i] != b.shape[j]:
                return (
                    f"the {kind} axis {i} of a has size {a.shape[i]} but axis {j} of b has "
                    f"size {b.shape[j]}; they must be equal"
                )
    return None


# -------------------------------------------------------------------------------------------- eager
_BYTES = np.dtype(np.int8)
_ACCUMULATE_IN = {
    **dict.fromkeys(dtypes.HALVES, dtypes.float32),
    **dict.fromkeys(dtypes.NARROW_INTS, dtypes.int32),
}


def inner_dtype(dtype: np.dtype, out_dtype: np.dtype) -> np.dtype:
    """Return the dtype in which products of a dtype are summed for a result of another one."""
    inner = _ACCUMULATE_IN.get(dtype, dtype)
    if out_dtype == inner:
        return inner
    return dtypes.promote_types(inner, _ACCUMULATE_IN.get(out_dtype, out_dtype))


def _eager(
    xp: Any,
    a: Any,
    b: Any,
    *,
    dimension_numbers: DimensionNumbers,
    out_dtype: Any = None,
    precision: str | None = None,
) -> Any:
    dtype = a.dtype
    out_dtype = dtype if out_dtype is None else out_dtype
    inner = inner_dtype(dtype, out_dtype)
    if dtype == _BYTES and inner.kind == "i" and inner.itemsize <= 4:
        # Sums of products of bytes are exact in float64, in which there is BLAS. What is too large
        # for the result wraps around on the way there.
        a, b = a.astype(dtypes.float64), b.astype(dtypes.float64)
        out = _contract(xp, a, b, dimension_numbers)
        return out.astype(xp.int64).astype(out_dtype)
    if inner != dtype:
        a, b = a.astype(inner), b.astype(inner)
    out = _contract(xp, a, b, dimension_numbers)
    return out if inner == out_dtype else out.astype(out_dtype)


def _contract(xp: Any, a: Any, b: Any, dimension_numbers: DimensionNumbers) -> Any:
    (ca, cb), (ba, bb) = dimension_numbers
    if not ba and len(ca) == 1 and a.ndim <= 2 and b.ndim <= 2:
        return xp.matmul(a if ca[0] == a.ndim - 1 else a.T, b if cb[0] == 0 else b.T)
    free_a, free_b = free_axes(a.ndim, ca, ba), free_axes(b.ndim, cb, bb)
    shape = (
        *(a.shape[d] for d in ba),
        *(a.shape[d] for d in free_a),
        *(b.shape[d] for d in free_b),
    )
    pairs = sorted(zip(ca, cb, strict=True))
    left = _matrices(xp, a, ba, free_a, tuple(i for i, _ in pairs))
    right = _matrices(xp, b, bb, tuple(j for _, j in pairs), free_b)
    return xp.matmul(left, right).reshape(shape)


def _matrices(
    xp: Any, x: Any, batch: tuple[int, ...], rows: tuple[int, ...], columns: tuple[int, ...]
) -> Any:
    """Return x as (*batch, rows, columns), each merged into one axis, uncopied if possible."""
    shape = x.shape
    n, m = math.prod(shape[d] for d in rows), math.prod(shape[d] for d in columns)
    lead = tuple(shape[d] for d in batch)
    if (*batch, *columns, *rows) == tuple(range(x.ndim)):
        out = x.reshape(*lead, m, n).swapaxes(-1, -2)
    else:
        out = x.transpose(*batch, *rows, *columns).reshape(*lead, n, m)
    # A matrix with a unit stride goes to BLAS as it is, any other to a slow loop.
    return out if out.itemsize in out.strides[-2:] else xp.ascontiguousarray(out)


# ------------------------------------------------------------------------------------- linear rules
def _transpose(
    ct: Any,
    other: Any,
    aval: ShapedArray,
    dimension_numbers: DimensionNumbers,
    first: bool,
    precision: str | None,
) -> Any:
    """Return the cotangent of the argument of type ``aval``, the first or the second one.

    The free axes of ``other`` are summed away against those of ct; what is left are the batch axes,
    the argument's own free axes and (as free axes of other) its contracted axes.
    """
    (ca, cb), (ba, bb) = dimension_numbers
    if not first:
        (ca, cb), (ba, bb) = (cb, ca), (bb, ba)
    free_a = free_axes(aval.ndim, ca, ba)
    free_b = free_axes(len(other.shape), cb, bb)
    start = len(ba) + (len(free_a) if first else 0)
    summed = tuple(range(start, start + len(free_b)))
    inner = dtypes.promote_types(ct.dtype, other.dtype)
    out = dot_general(
        _to(ct, inner),
        _to(other, inner),
        dimension_numbers=((summed, free_b), (tuple(range(len(ba))), bb)),
        out_dtype=aval.dtype,
        **_asked(precision),
    )
    contracted = tuple(i for _, i in sorted(zip(cb, ca, strict=True)))
    return _permute(out, np.argsort((*ba, *free_a, *contracted)).tolist())


def _asked(precision: str | None) -> dict[str, str]:
    """Return the parameter that says so; none for full precision."""
    return {} if precision is None else {"precision": precision}


def _to(x: Any, dtype: Any) -> Any:
    return x if x.dtype == dtype else convert(x, dtype=dtype, weak_type=False)


def _permute(x: Any, perm: Sequence[int]) -> Any:
    perm = tuple(perm)
    return x if perm == tuple(range(len(perm))) else transpose(x, perm=perm)


def _transpose_a(
    ct: Any,
    b: Any,
    aval: ShapedArray,
    *,
    dimension_numbers: DimensionNumbers,
    out_dtype: Any = None,
    precision: str | None = None,
) -> Any:
    return _transpose(ct, b, aval, dimension_numbers, True, precision)


def _transpose_b(
    ct: Any,
    a: Any,
    aval: ShapedArray,
    *,
    dimension_numbers: DimensionNumbers,
    out_dtype: Any = None,
    precision: str | None = None,
) -> Any:
    return _transpose(ct, a, aval, dimension_numbers, False, precision)


def _batch(
    axis: Any,
    args: Sequence[Any],
    batched: Sequence[bool],
    *,
    dimension_numbers: DimensionNumbers,
    out_dtype: Any = None,
    precision: str | None = None,
) -> tuple[Any, bool]:
    a, b = args
    (ca, cb), (ba, bb) = dimension_numbers
    if batched[0]:
        ca, ba = _shift(ca), _shift(ba)
    if batched[1]:
        cb, bb = _shift(cb), _shift(bb)
    if all(batched):
        ba, bb = (0, *ba), (0, *bb)
    new = ((ca, cb), (ba, bb))
    options = {"out_dtype": out_dtype, **_asked(precision)}
    if all(batched):
        return dot_general(a, b, dimension_numbers=new, **options), True
    free_a, free_b = free_axes(len(a.shape), ca, ba), free_axes(len(b.shape), cb, bb)
    where = len(ba)
    if batched[1] and len(free_b) == 1:
        # The batch axis is all that is free in b: with b first, it need not be moved past a's.
        out = dot_general(b, a, dimension_numbers=((cb, ca), (bb, ba)), **options)
    else:
        out = dot_general(a, b, dimension_numbers=new, **options)
        where += len(free_a) if batched[1] else 0
    rest = [d for d in range(len(out.shape)) if d != where]
    return _permute(out, [where, *rest]), True


def _shift(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(d + 1 for d in axes)


dot_general_p = bilinear(
    "dot_general", type=_type, eager=_eager, transposes=(_transpose_a, _transpose_b), batch=_batch
)
dot_general = dot_general_p.bind
