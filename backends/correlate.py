"""From a convolution to dense correlations: which memory each reads and writes, and how.

Movements around it (layouts, mirrored weights, groups) become strides; gaps in lhs become several
correlations, each of which makes some of the output.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from funtorch.jaxpr import Eqn, Lit, Var
from funtorch.ops.conv import conv_general_dilated, phases
from funtorch.ops.elementwise import add, mul
from funtorch.ops.families import broadcast_in_dim, scalar
from funtorch.ops.reduce import reduce_sum
from funtorch.ops.shape import concatenate, pad, reshape, rev, transpose
from funtorch.ops.shape import slice as cut

from .kernel import Affine, row_major
from .moves import MOVES, Map, combine, identity, merged_axes, moved
from .plan import Conv, Correlation, Dot
from .products import FLOATS, dot

__all__ = ["convolution", "rewritten", "runs"]

_TAPS = 32  # terms up to which they are written out
_WIDE = 8  # out features from which they are the columns of a product

Makers = dict[Var, Eqn]


def runs(where: Affine, first: int, sizes: Sequence[int]) -> bool:
    """Tell whether the axes from ``first`` on lie one element after another."""
    steps = where.strides[first:]
    return all(n == 1 or s == r for n, s, r in zip(sizes, steps, row_major(sizes), strict=True))


def convolution(eqn: Eqn, makers: Makers, out: Var, perm: Sequence[int]) -> Conv | Dot | None:
    """Return the step of an equation, or None where it is left to its eager rule.

    Args:
        makers: the equations that make variables.
        out: the variable to be written: the equation's result with its axes permuted.
        perm: that permutation.
    """
    lhs, rhs = eqn.invars
    if isinstance(lhs, Lit) or isinstance(rhs, Lit):
        return None
    p, (outs, inner, *taps) = eqn.params, rhs.aval.shape
    (batch, features, *space), groups = lhs.aval.shape, p["groups"]
    places = eqn.outvars[0].aval.shape[2:]
    steps = row_major(out.aval.shape)
    n, f, *rest = (steps[perm.index(k)] for k in range(len(perm)))
    y = Affine(0, (n, f * (outs // groups), f, *rest))
    geometry = (p["strides"], p["padding"], p["lhs_dilation"], p["rhs_dilation"])
    found = list(phases(space, taps, *geometry))
    if not found:
        return None
    sizes = (batch, groups, features // groups, *space)
    x, x_at = list(_sources(lhs, _split_axis(1, sizes), sizes, makers))[-1]
    sizes = (groups, outs // groups, inner, *taps)
    for w, w_at in reversed(list(_sources(rhs, _split_axis(0, sizes), sizes, makers))):
        parts = tuple(
            Correlation(
                batch=batch,
                groups=groups,
                features=inner,
                outs=outs // groups,
                space=tuple(space),
                window=tuple(len(range(k)[a.taps]) for k, a in zip(taps, axes, strict=True)),
                places=tuple(len(range(k)[a.out]) for k, a in zip(places, axes, strict=True)),
                strides=tuple(a.stride for a in axes),
                dilation=tuple(a.dilation for a in axes),
                low=tuple(a.padding[0] for a in axes),
                x=x_at,
                w=_part(w_at, [a.taps for a in axes]),
                y=_part(y, [a.out for a in axes]),
            )
            for axes in found
        )
        made = sum(math.prod(c.places) for c in parts)
        if len(parts) == 1 and made == math.prod(places):
            step = _as_product(parts[0], (x, w, out))
            if step is not None:
                return step
        if w is rhs or all(map(_good, parts)):
            whole = replace(
                parts[0], window=tuple(taps), places=tuple(places), strides=tuple(p["strides"]),
                dilation=tuple(p["rhs_dilation"]), low=tuple(lo for lo, _ in p["padding"]),
                w=w_at, y=y,
            )  # fmt: skip
            gaps = tuple(p["lhs_dilation"])
            return Conv(x, w, out, parts, made == math.prod(places), gaps=gaps, whole=whole)
    raise AssertionError("an operand is its own source")


def _split_axis(axis: int, sizes: Sequence[int]) -> Map:
    """Return the index map into an operand whose ``axis`` has groups, split in two in ``sizes``."""
    ndim = len(sizes)
    unit = [Affine(0, tuple(int(k == j) for j in range(ndim))) for k in range(ndim)]
    both = combine([(sizes[axis + 1], unit[axis]), (1, unit[axis + 1])], ndim)
    return (*unit[:axis], both, *unit[axis + 2 :])


def _sources(
    v: Var, where: Map, sizes: Sequence[int], makers: Makers
) -> Iterator[tuple[Var, Affine]]:
    """Yield the variable and those that movements make it from, with where its elements are."""
    ndim = len(sizes)
    while True:
        strides = row_major(v.aval.shape)
        yield v, combine(list(zip(strides, where, strict=True)), ndim)
        eqn = makers.get(v)
        if eqn is None or eqn.prim.name not in MOVES:
            return
        operand = eqn.invars[0]
        if isinstance(operand, Lit):
            return
        inner = moved(eqn, where, ndim)
        if inner is None and eqn.prim.name == "reshape":
            inner = _unmerged(eqn, where, sizes)
        if inner is None:
            return
        v, where = operand, inner


def _unmerged(eqn: Eqn, where: Map, sizes: Sequence[int]) -> Map | None:
    """Return the index map into the operand of a reshape that merges axes, if it is affine."""
    operand, result = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    groups = merged_axes(result, operand)
    if groups is None:
        return None
    found: dict[int, Affine] = {}
    for m, group in zip(where, groups, strict=True):
        rest: Affine | None = m
        for k in reversed(group[1:]):
            if rest is None:
                return None
            rest, low = _divided(rest, operand[k], sizes)
            if low is None:
                return None
            found[k] = low
        if rest is None:
            return None
        if group:
            found[group[0]] = rest
    zero = Affine(0, (0,) * len(sizes))
    return tuple(found.get(k, zero) for k in range(len(operand)))


def _divided(m: Affine, n: int, sizes: Sequence[int]) -> tuple[Affine | None, Affine | None]:
    """Return the quotient and the remainder by n of an index, where both are affine."""
    high = tuple(s // n if s % n == 0 else 0 for s in m.strides)
    low = tuple(0 if s % n == 0 else s for s in m.strides)
    offset = m.offset % n
    ends = [s * (k - 1) for s, k in zip(low, sizes, strict=True)]
    most = offset + sum(e for e in ends if e > 0)
    least = offset + sum(e for e in ends if e < 0)
    if least < 0 or most >= n:
        return None, None
    return Affine(m.offset // n, high), Affine(offset, low)


def _as_product(c: Correlation, arrays: tuple[Var, Var, Var]) -> Dot | None:
    """Return a correlation as products of matrices, where features lie next to each other.

    Rows are places, whose terms lie in several pieces: no window is copied.
    """
    columns = c.outs if c.y.strides[2] == 1 else c.batch if math.prod(c.places) == 1 else 0
    if int(columns) < _WIDE or not _inside(c):
        return None
    batches = [(c.groups, c.x.strides[1], c.w.strides[0], c.y.strides[1])]
    rows = [(c.batch, c.x.strides[0], c.y.strides[0])]
    sums = [(c.features, c.x.strides[2], c.w.strides[2])]
    start = c.x.offset
    for k, size in enumerate(c.places):
        step = c.x.strides[3 + k]
        rows.append((size, step * c.strides[k], c.y.strides[3 + k]))
        sums.append((c.window[k], step * c.dilation[k], c.w.strides[3 + k]))
        start -= step * c.low[k]
    rows.sort(key=lambda axis: -abs(int(axis[2])))
    outs = [(c.outs, c.w.strides[1], c.y.strides[2])]
    return dot(arrays, (start, c.w.offset, c.y.offset), batches, rows, outs, sums)


def _inside(c: Correlation) -> bool:
    """Tell whether all windows are inside of x."""
    ends = zip(c.places, c.strides, c.window, c.dilation, c.low, c.space, strict=True)
    return all(low <= 0 and (p - 1) * s + (k - 1) * d - low < n for p, s, k, d, low, n in ends)


Written = tuple[Callable[..., Any], Sequence[Var | Lit]]
"""A function to put in the place of an equation, and what it is called with."""


def rewritten(eqn: Eqn, makers: Makers) -> Written | None:
    """Return a convolution written in what is compiled well; None if it is that already.

    Args:
        makers: the equations that make variables.
    """
    for rule in (_exchanged, _stencil, _sums, _bordered):
        found = rule(eqn, makers)
        if found is not None:
            return found
    return None


def _exchanged(eqn: Eqn, makers: Makers) -> Written | None:
    """Return a convolution of an array with gaps with a larger window as one of the window, whose
    window is the array: gradients of the weights of transposed convolutions.

    With gaps of ``gap``, out[p] sums lhs[q] rhs[k] over p + k - lo = gap q, so it is also the sum
    over q of rhs[gap q - p + lo] lhs[q].
    """
    (lhs, rhs), p = eqn.invars, eqn.params
    space, taps, places = (v.aval.shape[2:] for v in (lhs, rhs, *eqn.outvars))
    if max(p["lhs_dilation"], default=1) == 1 or p["groups"] > 1:
        return None
    if max((*p["strides"], *p["rhs_dilation"])) > 1 or math.prod(taps) <= math.prod(places):
        return None
    pads = []
    for n, k, size, gap, (lo, _) in zip(
        space, taps, places, p["lhs_dilation"], p["padding"], strict=True
    ):
        low = size - 1 - lo
        pads.append((low, size + (n - 1) * gap - k - low))
    ones, axes = (1,) * len(space), tuple(range(2, lhs.aval.ndim))
    geometry = {"strides": ones, "lhs_dilation": ones, "rhs_dilation": p["lhs_dilation"]}

    def exchanged(x: Any, w: Any) -> Any:
        y = conv_general_dilated(w, x, **{**p, **geometry, "padding": tuple(pads)})
        return transpose(rev(y, axes=axes), perm=(1, 0, *axes))

    return exchanged, eqn.invars


def _in_memory(v: Var, makers: Makers) -> tuple[int, ...]:
    """Return the axes of a variable in the order in which they lie in memory."""
    shape = v.aval.shape
    *_, (_, where) = _sources(v, identity(shape), shape, makers)
    return tuple(sorted(range(len(shape)), key=lambda k: -abs(where.strides[k])))


def _turned_back(x: Any, order: Sequence[int]) -> Any:
    return transpose(x, perm=tuple(order.index(k) for k in range(len(order))))


def _with_border(x: Any, order: Sequence[int], params: dict[str, Any]) -> Any:
    """Return x with its axes in an order, and with what surrounds its elements along the last."""
    pairs, gaps = params["padding"], params["lhs_dilation"]
    front = (0,) * (len(order) - len(pairs))
    x = transpose(x, perm=tuple(order))
    if not any(map(any, pairs)) and max(gaps, default=1) == 1:
        return x
    lo, hi = ((*front, *(pair[k] for pair in pairs)) for k in (0, 1))
    between = (*front, *(n - 1 for n in gaps))
    ends = {"lo": lo, "hi": hi, "interior": between}
    ends = {name: tuple(n[k] for k in order) for name, n in ends.items()}
    return pad(x, scalar(0, x.dtype), **ends)


def _window(
    x: Any, order: Sequence[int], start: Sequence[int], steps: Sequence[int], counts: Sequence[int]
) -> Any:
    """Return ``counts`` elements from ``start`` on, ``steps`` apart, along the last axes of those
    that lie in x in an order."""
    first = len(order) - len(counts)
    sizes = [x.shape[order.index(k)] for k in range(first)]
    begin = (*(0,) * first, *start)
    apart = (*(1,) * first, *steps)
    end = (*sizes, *(s + (n - 1) * d + 1 for s, n, d in zip(start, counts, steps, strict=True)))
    begin, end, apart = (tuple(n[k] for k in order) for n in (begin, end, apart))
    return cut(x, start=begin, limit=end, stride=apart)


def _stencil(eqn: Eqn, makers: Makers) -> Written | None:
    """Return a convolution of every feature on its own as a sum of elementwise products.

    They are one kernel, which reads x once, from the cache as often as there are taps.
    """
    (lhs, rhs), p = eqn.invars, eqn.params
    (outs, inner, *taps), places = rhs.aval.shape, eqn.outvars[0].aval.shape[2:]
    if isinstance(lhs, Lit) or inner != 1 or outs != p["groups"] or lhs.aval.dtype not in FLOATS:
        return None
    if not 1 < math.prod(taps) <= min(_TAPS, math.prod(places)):
        return None
    order = _in_memory(lhs, makers)

    def summed(x: Any, w: Any) -> Any:
        x, total = _with_border(x, order, p), None
        for at in itertools.product(*map(range, taps)):
            start = [k * d for k, d in zip(at, p["rhs_dilation"], strict=True)]
            piece = _window(x, order, start, p["strides"], places)
            one = cut(
                w, start=(0, 0, *at), limit=(outs, 1, *(k + 1 for k in at)), stride=(1,) * w.ndim
            )
            one = reshape(one, shape=(outs,))
            one = broadcast_in_dim(one, shape=piece.shape, dims=(order.index(1),))
            term = mul(piece, one)
            total = term if total is None else add(total, term)
        return _turned_back(total, order)

    return summed, eqn.invars


def _sums(eqn: Eqn, makers: Makers) -> Written | None:
    """Return a convolution with large windows of every group on its own as a few sums of
    elementwise products: the gradient of the weights of a `_stencil`."""
    (lhs, rhs), p = eqn.invars, eqn.params
    (outs, inner, *taps), places = rhs.aval.shape, eqn.outvars[0].aval.shape[2:]
    if isinstance(lhs, Lit) or outs != p["groups"] or lhs.aval.dtype not in FLOATS:
        return None
    if math.prod(places) > min(_TAPS, math.prod(taps) - 1):
        return None
    batch, _, *space = lhs.aval.shape
    shape = (batch, outs, inner, *space)
    eqn_of = makers.get(lhs)
    if eqn_of is not None and eqn_of.prim.name == "reshape":
        whole = eqn_of.invars[0]  # it may have the groups as an axis, where they lie in memory
        if isinstance(whole, Var) and _without_ones(whole.aval.shape) == _without_ones(shape):
            lhs = whole
    axes = iter(_in_memory(lhs, makers))
    long = [k for k, n in enumerate(shape) if n != 1]
    number = (
        dict(zip((k for k, n in enumerate(lhs.aval.shape) if n != 1), long, strict=True))
        if _without_ones(lhs.aval.shape) == _without_ones(shape)
        else {}
    )
    order = [number[k] for k in axes if k in number] or list(range(len(shape)))
    order = (*(k for k in range(len(shape)) if k not in order), *order)
    away = tuple(k for k, axis in enumerate(order) if axis > 1)

    def summed(x: Any, w: Any) -> Any:
        x = _with_border(reshape(x, shape=shape), order, p)
        w = reshape(w, shape=(outs, inner, *taps))
        w = transpose(w, perm=tuple(k - 1 for k in order if k > 0))
        found = []
        for at in itertools.product(*map(range, places)):
            start = [k * s for k, s in zip(at, p["strides"], strict=True)]
            piece = _window(x, order, start, p["rhs_dilation"], taps)
            dims = tuple(k for k, axis in enumerate(order) if axis > 0)
            terms = mul(piece, broadcast_in_dim(w, shape=piece.shape, dims=dims))
            total = reduce_sum(terms, axes=away)
            if order.index(0) > order.index(1):
                total = transpose(total, perm=(1, 0))
            found.append(reshape(total, shape=(batch, outs, 1)))
        return reshape(concatenate(*found, axis=2), shape=(batch, outs, *places))

    return summed, (lhs, rhs)


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [n for n in shape if n != 1]


def _bordered(eqn: Eqn, makers: Makers) -> Written | None:
    """Return a convolution of features that lie next to each other, of an array with its padding.

    It is a product of matrices then. The border is written in the order in which the array lies.
    """
    lhs, rhs = eqn.invars
    p = eqn.params
    padded = any(map(any, p["padding"]))
    if isinstance(lhs, Lit) or isinstance(rhs, Lit) or not padded or max(p["lhs_dilation"]) > 1:
        return None
    order = _in_memory(lhs, makers)
    if order[-1] > 1 or rhs.aval.shape[0] // p["groups"] < _WIDE:
        return None

    def bordered(x: Any, w: Any) -> Any:
        x = _turned_back(_with_border(x, order, p), order)
        none = ((0, 0),) * len(p["padding"])
        return conv_general_dilated(x, w, **{**p, "padding": none})

    return bordered, eqn.invars


def _good(c: Correlation) -> bool:
    """Tell whether long windows lie in a row, so that vectors of them can be read."""
    return math.prod(c.window) <= math.prod(c.places) or runs(c.w, 3, c.window)


def _part(where: Affine, slices: Sequence[slice]) -> Affine:
    """Return the place of elements of slices of the last axes."""
    first = len(where.strides) - len(slices)
    last = where.strides[first:]
    offset = sum((s.start or 0) * n for s, n in zip(slices, last, strict=True))
    steps = (n * (s.step or 1) for s, n in zip(slices, last, strict=True))
    return Affine(where.offset + offset, (*where.strides[:first], *steps))
