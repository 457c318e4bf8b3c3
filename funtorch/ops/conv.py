"""`conv_general_dilated`: the one convolution, in one layout.

    conv_general_dilated(lhs, rhs; strides, padding, lhs_dilation, rhs_dilation, groups, out_dtype)

lhs has axes (batch, features, *space), rhs (out features, features / groups, *space), the result
(batch, out features, *space). As everywhere in machine learning it is a correlation: along an axis

    out[p] = sum over k of lhs[(p * stride + k * rhs_dilation - lo) / lhs_dilation] * rhs[k]

where a term counts if its index is whole and inside. Other layouts are transposes around it, and
groups of the batch are groups of features. Both derivatives are convolutions again: a stride
becomes a dilation, and the roles of batch and features change.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from funtorch import dtypes
from funtorch.core import ShapedArray
from funtorch.ops.contract import inner_dtype
from funtorch.ops.elementwise import convert
from funtorch.ops.families import bilinear, zeros
from funtorch.ops.shape import pad_p, reshape, rev, transpose
from funtorch.ops.window import windows_p

__all__ = ["Phase", "conv_general_dilated", "conv_general_dilated_p", "out_sizes", "phases"]

Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def _span(n: int, dilation: int) -> int:
    """Return the extent of n elements with gaps between them."""
    return (n - 1) * dilation + 1 if n else 0


def out_sizes(
    lhs: Sequence[int],
    rhs: Sequence[int],
    strides: Ints,
    padding: Pairs,
    lhs_dilation: Ints,
    rhs_dilation: Ints,
) -> Ints:
    """Return the spatial sizes of a convolution's result."""
    return tuple(
        max(0, (_span(n, ld) + lo + hi - _span(k, rd)) // s + 1)
        for n, k, s, (lo, hi), ld, rd in zip(
            lhs, rhs, strides, padding, lhs_dilation, rhs_dilation, strict=True
        )
    )


# --------------------------------------------------------------------------------------------- type
def _type(
    lhs: ShapedArray,
    rhs: ShapedArray,
    *,
    strides: Ints,
    padding: Pairs,
    lhs_dilation: Ints,
    rhs_dilation: Ints,
    groups: int,
    out_dtype: Any = None,
) -> ShapedArray:
    geometry = (strides, padding, lhs_dilation, rhs_dilation)
    problem = _mismatch(lhs, rhs, geometry, groups, out_dtype)
    if problem:
        raise TypeError(
            f"conv_general_dilated: {problem}. It was asked to convolve lhs: {lhs.str_short()} "
            f"(batch, features, *space) with rhs: {rhs.str_short()} (out features, features / "
            f"groups, *space), strides {strides}, padding {padding}, lhs_dilation {lhs_dilation}, "
            f"rhs_dilation {rhs_dilation}, {groups} groups of features"
        )
    shape = (lhs.shape[0], rhs.shape[0], *out_sizes(lhs.shape[2:], rhs.shape[2:], *geometry))
    dtype = lhs.dtype if out_dtype is None else np.dtype(out_dtype)
    return ShapedArray(shape, dtype, lhs.weak_type and rhs.weak_type)


def _mismatch(
    lhs: ShapedArray, rhs: ShapedArray, geometry: Sequence[Any], groups: int, out_dtype: Any
) -> str | None:
    if lhs.dtype != rhs.dtype:
        return f"the dtypes {lhs.dtype.name} and {rhs.dtype.name} differ: convert one of the arrays"
    if dtypes.is_bool(lhs.dtype):
        return "it takes numbers, not bool: convert both arrays"
    if out_dtype is not None and dtypes.is_complex(lhs.dtype) and not dtypes.is_complex(out_dtype):
        return "a complex product has no real out_dtype: take its real part instead"
    if lhs.ndim != rhs.ndim or lhs.ndim < 2:
        return "lhs and rhs must have the same number of axes, at least 2"
    if any(len(g) != lhs.ndim - 2 for g in geometry):
        return (
            f"strides, padding and dilations need one entry for each of {lhs.ndim - 2} space axes"
        )
    strides, _, *dilations = geometry
    if any(n < 1 for n in itertools.chain(strides, *dilations)):
        return "strides and dilations must be positive"
    if groups < 1 or rhs.shape[1] * groups != lhs.shape[1]:
        return (
            f"lhs has {lhs.shape[1]} features, but rhs takes {rhs.shape[1]} in each of {groups} "
            "groups"
        )
    if rhs.shape[0] % groups:
        return f"{rhs.shape[0]} out features cannot be shared between {groups} groups"
    return None


# ------------------------------------------------------------------------------------------- phases
class Phase(NamedTuple):
    """One axis of a convolution without gaps in lhs, that makes every ``out.step``-th output.

    ``taps`` are the elements of rhs that it takes; the padding may be negative.
    """

    out: slice
    taps: slice
    stride: int
    padding: tuple[int, int]
    dilation: int


def _axis_phases(
    n: int, k: int, places: int, stride: int, lo: int, gap: int, dilation: int
) -> list[Phase]:
    """Return the phases of one axis. Gaps of lhs meet each tap only at some outputs: with

        out place r + every * j,    tap first + step * l,

    the index into lhs is affine in j and l. Outputs that no tap reaches are in no phase.
    """
    every, step, found = gap // math.gcd(stride, gap), gap // math.gcd(dilation, gap), []
    for r in range(min(every, places)):
        first = next(
            (t for t in range(min(step, k)) if (r * stride + t * dilation - lo) % gap == 0), k
        )
        if first == k:
            continue
        start = (r * stride + first * dilation - lo) // gap
        s, d = every * stride // gap, step * dilation // gap
        count, taps = -(-(places - r) // every), -(-(k - first) // step)
        end = start + (count - 1) * s + (taps - 1) * d + 1
        found.append(
            Phase(slice(r, None, every), slice(first, None, step), s, (-start, end - n), d)
        )
    return found


def phases(
    lhs: Sequence[int],
    rhs: Sequence[int],
    strides: Ints,
    padding: Pairs,
    lhs_dilation: Ints,
    rhs_dilation: Ints,
) -> Iterator[tuple[Phase, ...]]:
    """Yield the convolutions without lhs_dilation that a convolution consists of, axis by axis.

    Every product that counts is computed once, none with an element between those of lhs.
    """
    counts = out_sizes(lhs, rhs, strides, padding, lhs_dilation, rhs_dilation)
    axes = [
        _axis_phases(n, k, p, s, lo, ld, rd)
        for n, k, p, s, (lo, _), ld, rd in zip(
            lhs, rhs, counts, strides, padding, lhs_dilation, rhs_dilation, strict=True
        )
    ]
    return itertools.product(*axes)


# -------------------------------------------------------------------------------------------- eager
_BLOCK = 1 << 19  # elements of the windows copied for one product: they should stay in the cache


def _eager(
    xp: Any,
    lhs: Any,
    rhs: Any,
    *,
    strides: Ints,
    padding: Pairs,
    lhs_dilation: Ints,
    rhs_dilation: Ints,
    groups: int,
    out_dtype: Any = None,
) -> Any:
    if lhs.dtype != rhs.dtype or dtypes.is_bool(lhs.dtype):
        raise TypeError("conv_general_dilated: the dtypes differ or are bool")  # see the type rule
    out_dtype = lhs.dtype if out_dtype is None else np.dtype(out_dtype)
    inner = inner_dtype(lhs.dtype, out_dtype)
    exact = lhs.dtype == np.int8 and inner.kind == "i" and inner.itemsize <= 4
    if exact:  # sums of products of bytes are whole numbers in float64, in which there is BLAS
        inner = dtypes.float64
    lhs, rhs = lhs.astype(inner, copy=False), rhs.astype(inner, copy=False)
    geometry = (strides, padding, lhs_dilation, rhs_dilation)
    counts = out_sizes(lhs.shape[2:], rhs.shape[2:], *geometry)
    out = xp.zeros((lhs.shape[0], groups, rhs.shape[0] // groups, *counts), inner)
    whole = (slice(None),) * 2
    if lhs.size and rhs.size and out.size:
        for axes in phases(lhs.shape[2:], rhs.shape[2:], *geometry):
            part = out[(..., *(a.out for a in axes))]
            taps = rhs[(*whole, *(a.taps for a in axes))]
            _correlate(xp, _padded(xp, lhs, axes), taps, part, axes)
    out = out.reshape(lhs.shape[0], rhs.shape[0], *counts)
    if exact:
        out = out.astype(xp.int64)  # from where what is too large wraps around
    return out.astype(out_dtype, copy=False)


def _padded(xp: Any, x: Any, axes: Sequence[Phase]) -> Any:
    lo, hi = ((0, 0, *(a.padding[k] for a in axes)) for k in (0, 1))
    if not any((*lo, *hi)):
        return x
    return pad_p.eager(xp, x, 0, lo=lo, hi=hi, interior=(0,) * x.ndim)


def _correlate(xp: Any, lhs: Any, rhs: Any, out: Any, axes: Sequence[Phase]) -> None:
    """Write a convolution without padding and gaps into ``out`` (batch, groups, features, *space).

    Windows are copied block by block, so that they stay in the cache, and multiplied as matrices.
    """
    m = len(axes)
    window, n, groups = rhs.shape[2:], lhs.shape[0], out.shape[1]
    x = lhs.reshape(n, groups, -1, *lhs.shape[2:])
    x = windows_p.eager(
        xp,
        x,
        window=window,
        strides=tuple(a.stride for a in axes),
        dilation=tuple(a.dilation for a in axes),
    )
    w = rhs.reshape(groups, -1, *rhs.shape[1:])
    # Axes: group | features, taps: summed | batch, places: kept. The axis with the smallest
    # stride that is long goes last, so that windows are copied in long runs.
    summed, kept = (2, *range(3, 3 + m)), (0, *range(3 + m, 3 + 2 * m))
    by_places = m == 0 or x.shape[-1] >= x.shape[2 + m]
    blocks = _blocks(x.shape, (0, 1, *kept[1:], *summed))
    for block in itertools.product(
        *(range(0, size, step) for size, step in zip(x.shape, blocks, strict=True))
    ):
        at = tuple(slice(b, b + step) for b, step in zip(block, blocks, strict=True))
        part = x[at]
        sizes = part.shape
        rows, columns = (math.prod(sizes[k] for k in ks) for ks in (summed, kept))
        if by_places:
            b = part.transpose(1, *summed, *kept).reshape(sizes[1], rows, columns)
        else:
            b = part.transpose(1, *kept, *summed).reshape(sizes[1], columns, rows).swapaxes(1, 2)
        a = w[(at[1], slice(None), *(at[k] for k in summed))]
        product = xp.matmul(a.reshape(sizes[1], -1, rows), b)
        product = product.reshape(sizes[1], -1, *(sizes[k] for k in kept))
        product = product.transpose(2, 0, 1, *range(3, 3 + m))
        target = out[(at[0], at[1], slice(None), *at[3 + m :])]
        if any(block[k] for k in summed):
            target += product
        else:
            target[...] = product


def _blocks(sizes: Sequence[int], order: Sequence[int]) -> list[int]:
    """Return block sizes of at most `_BLOCK` elements in all, cutting axes in order."""
    blocks, total = list(sizes), math.prod(sizes)
    for k in order:
        if total <= _BLOCK:
            break
        rest = total // blocks[k]
        blocks[k] = max(1, _BLOCK // rest)
        total = rest * blocks[k]
    return blocks


# ------------------------------------------------------------------------------------- linear rules
def _to(x: Any, dtype: Any) -> Any:
    return x if x.dtype == dtype else convert(x, dtype=dtype, weak_type=False)


def _shuffle(x: Any, m: int, split: Ints, perm: Ints, merged: Ints) -> Any:
    """Reshape the axes before the last m to ``split``, permute those, merge them to ``merged``."""
    space = x.shape[len(x.shape) - m :]
    x = reshape(x, shape=(*split, *space))
    x = transpose(x, perm=(*perm, *range(len(split), len(split) + m)))
    return reshape(x, shape=(*merged, *space))


def _transpose_lhs(
    ct: Any,
    rhs: Any,
    aval: ShapedArray,
    *,
    strides: Ints,
    padding: Pairs,
    lhs_dilation: Ints,
    rhs_dilation: Ints,
    groups: int,
    out_dtype: Any = None,
) -> Any:
    """Convolve the cotangent, with gaps for strides, with the mirrored taps."""
    if 0 in (*ct.shape, *rhs.shape, *aval.shape):
        return zeros(aval)
    m = len(strides)
    out, inner = rhs.shape[:2]
    inside = out // groups
    mirrored = rev(rhs, axes=tuple(range(2, 2 + m)))
    mirrored = _shuffle(mirrored, m, (groups, inside, inner), (0, 2, 1), (groups * inner, inside))
    pads = []
    for n, k, p, s, (lo, _), ld, rd in zip(
        aval.shape[2:], rhs.shape[2:], ct.shape[2:], strides, padding, lhs_dilation, rhs_dilation,
        strict=True,
    ):  # fmt: skip
        reach = _span(k, rd)
        low = reach - 1 - lo
        pads.append((low, _span(n, ld) + reach - 1 - _span(p, s) - low))
    return _product(
        ct,
        mirrored,
        aval.dtype,
        strides=lhs_dilation,
        padding=tuple(pads),
        lhs_dilation=strides,
        rhs_dilation=rhs_dilation,
        groups=groups,
    )


def _transpose_rhs(
    ct: Any,
    lhs: Any,
    aval: ShapedArray,
    *,
    strides: Ints,
    padding: Pairs,
    lhs_dilation: Ints,
    rhs_dilation: Ints,
    groups: int,
    out_dtype: Any = None,
) -> Any:
    """Convolve lhs with the cotangent over the batch: features and batch change places."""
    if 0 in (*ct.shape, *lhs.shape, *aval.shape):
        return zeros(aval)
    m, n = len(strides), lhs.shape[0]
    inner = aval.shape[1]
    images = _shuffle(lhs, m, (n, groups, inner), (2, 1, 0), (inner, groups * n))
    kernel = transpose(ct, perm=(1, 0, *range(2, 2 + m)))
    pads = tuple(
        (lo, (k - 1) * rd + _span(p, s) - _span(size, ld) - lo)
        for size, k, p, s, (lo, _), ld, rd in zip(
            lhs.shape[2:], aval.shape[2:], ct.shape[2:], strides, padding, lhs_dilation,
            rhs_dilation, strict=True,
        )
    )  # fmt: skip
    out = _product(
        images,
        kernel,
        aval.dtype,
        strides=rhs_dilation,
        padding=pads,
        lhs_dilation=lhs_dilation,
        rhs_dilation=strides,
        groups=groups,
    )
    return transpose(out, perm=(1, 0, *range(2, 2 + m)))


def _product(lhs: Any, rhs: Any, dtype: Any, **params: Any) -> Any:
    inner = dtypes.promote_types(lhs.dtype, rhs.dtype)
    return conv_general_dilated(_to(lhs, inner), _to(rhs, inner), **params, out_dtype=dtype)


def _batch(
    axis: Any, args: Sequence[Any], batched: Sequence[bool], *, groups: int, **params: Any
) -> tuple[Any, bool]:
    """Fold the batch axis into lhs's batch, or make its members groups of features."""
    lhs, rhs = args
    b, m = axis.size, len(params["strides"])
    n, features = lhs.shape[1:3] if batched[0] else lhs.shape[:2]
    out, inner = rhs.shape[1:3] if batched[1] else rhs.shape[:2]
    if not batched[1]:
        lhs = reshape(lhs, shape=(b * n, *lhs.shape[2:]))
        y = conv_general_dilated(lhs, rhs, groups=groups, **params)
        return reshape(y, shape=(b, n, *y.shape[1:])), True
    if batched[0]:
        lhs = _shuffle(lhs, m, (b, n, features), (1, 0, 2), (n, b * features))
        rhs = reshape(rhs, shape=(b * out, *rhs.shape[2:]))
        y = conv_general_dilated(lhs, rhs, groups=b * groups, **params)
        return _shuffle(y, m, (n, b, out), (1, 0, 2), (b, n, out)), True
    inside = out // groups
    rhs = _shuffle(rhs, m, (b, groups, inside, inner), (1, 0, 2, 3), (b * out, inner))
    y = conv_general_dilated(lhs, rhs, groups=groups, **params)
    return _shuffle(y, m, (n, groups, b, inside), (2, 0, 1, 3), (b, n, out)), True


conv_general_dilated_p = bilinear(
    "conv_general_dilated",
    type=_type,
    eager=_eager,
    transposes=(_transpose_lhs, _transpose_rhs),
    batch=_batch,
)
conv_general_dilated = conv_general_dilated_p.bind
