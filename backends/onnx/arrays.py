"""Rules of primitives that move, contract, gather, scatter and convolve."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.dims import Dim
from funtorch.jaxpr import Eqn
from funtorch.ops.indexing import default_fill

from .graph import Graph, NotExpressible, Rule, taken

__all__ = ["ARRAYS", "of_bytes", "padded"]

_END = np.iinfo(np.int64).max


def _shape(eqn: Eqn, k: int = 0) -> tuple[int, ...]:
    return eqn.invars[k].aval.shape


def _not_empty(eqn: Eqn) -> None:
    if 0 in eqn.outvars[0].aval.shape:
        raise NotExpressible("whose result is empty has no counterpart")


# ------------------------------------------------------------------------------ movement
def _broadcast(g: Graph, eqn: Eqn, x: str) -> str:
    shape, dims, old = eqn.params["shape"], eqn.params["dims"], _shape(eqn)
    wide: list[int] = [1] * len(shape)
    for d, n in zip(dims, old, strict=True):
        wide[d] = n
    if tuple(wide) != tuple(old):
        x = g.reshape(x, wide)
    return x if tuple(wide) == tuple(shape) else g.expand(x, shape)


def _rev(g: Graph, eqn: Eqn, x: str) -> str:
    axes = eqn.params["axes"]
    if not axes:
        return x
    ones = [-1] * len(axes)
    return g.cut(x, axes, ones, [-_END] * len(axes), ones)


def _split(g: Graph, eqn: Eqn, x: str) -> Sequence[str]:
    sizes = eqn.params["sizes"]
    found = g.op("Split", x, g.ints(sizes), outputs=len(sizes), axis=eqn.params["axis"])
    return [found] if len(sizes) == 1 else found


def _slice(g: Graph, eqn: Eqn, x: str) -> str:
    p, axes = eqn.params, range(len(_shape(eqn)))
    return g.cut(x, list(axes), p["start"], p["limit"], p["stride"]) if axes else x


def _pad(g: Graph, eqn: Eqn, x: str, value: str) -> str:
    p = eqn.params
    return padded(g, x, value, _shape(eqn), p["lo"], p["hi"], p["interior"])


def padded(
    g: Graph, x: str, value: str, shape: Sequence[int], lo: Any, hi: Any, interior: Any
) -> str:
    """Write a pad: the value between elements, then at the ends; last, what is cut off."""
    sizes = list(shape)
    for axis, gap in enumerate(interior):
        if not gap or sizes[axis] == 0:
            continue
        n = sizes[axis]
        x = g.reshape(x, [*sizes[: axis + 1], 1, *sizes[axis + 1 :]])
        ends = [0] * (len(sizes) + 1)
        ends[axis + 1] = gap
        x = g.op("Pad", x, g.ints([0] * len(ends) + ends), value)
        sizes[axis] = n * (gap + 1)
        x = g.reshape(x, sizes)
        sizes[axis] -= gap
        x = g.cut(x, [axis], [0], [sizes[axis]])
    ends = [max(n, 0) for n in (*lo, *hi)]
    x = g.op("Pad", x, g.ints(ends), value) if any(ends) else x
    if any(n < 0 for n in (*lo, *hi)):
        count = len(sizes)
        sizes = [n + a + b for n, a, b in zip(sizes, ends[:count], ends[count:], strict=True)]
        start = [max(-n, 0) for n in lo]
        stop = [n - max(-h, 0) for n, h in zip(sizes, hi, strict=True)]
        x = g.cut(x, range(count), start, stop)
    return x


def _starts(g: Graph, starts: Sequence[str], shape: Sequence[int], sizes: Sequence[int]) -> str:
    """Return a vector of starts, moved to where all of a slice is inside."""
    wide = [g.reshape(g.cast(s, np.int64), [1]) for s in starts]
    found = g.op("Concat", *wide, axis=0)
    most = g.ints([n - size for n, size in zip(shape, sizes, strict=True)])
    return g.op("Max", g.op("Min", found, most), g.const([0], np.int64))


def _dynamic_slice(g: Graph, eqn: Eqn, x: str, *starts: str) -> str:
    sizes, shape = eqn.params["sizes"], _shape(eqn)
    if not sizes:
        return x
    start = _starts(g, starts, shape, sizes)
    return g.cut(x, range(len(shape)), start, g.op("Add", start, g.ints(sizes)))


def _dynamic_update_slice(g: Graph, eqn: Eqn, x: str, update: str, *starts: str) -> str:
    shape, sizes = _shape(eqn), _shape(eqn, 1)
    if not sizes:
        return update
    if any(isinstance(n, Dim) for n in sizes):
        raise NotExpressible("of a part whose size is known later has no counterpart")
    start = _starts(g, starts, shape, sizes)
    grid = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1)
    return g.op("ScatterND", x, g.op("Add", g.const(grid, np.int64), start), update)


def _iota(g: Graph, eqn: Eqn) -> str:
    shape, axis, dtype = (eqn.params[k] for k in ("shape", "axis", "dtype"))
    n = shape[axis]
    if not isinstance(n, Dim):
        line = g.const(np.arange(n).astype(dtype))
    else:
        line = g.op("Range", g.size(0), g.size(n), g.size(1))
        line = g.cast(line, dtype)
    wide = [1] * len(shape)
    wide[axis] = n
    line = g.reshape(line, wide)
    return line if tuple(wide) == tuple(shape) else g.expand(line, shape)


# ------------------------------------------------------------------------------ contraction
def _dot_general(g: Graph, eqn: Eqn, a: str, b: str) -> str:
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    x, y = (v.aval for v in eqn.invars)
    out = eqn.outvars[0].aval
    if not (dtypes.is_float(x.dtype) or dtypes.is_integer(x.dtype)):
        raise NotExpressible(f"of {x.dtype.name} has no counterpart")
    multiply = "MatMulInteger" if of_bytes(eqn) else "MatMul"
    lead = tuple(range(len(ba)))
    plain = (ba, bb) == (lead, lead) and len(ca) == 1
    if plain and x.ndim == y.ndim == len(lead) + 2 and cb[0] == len(lead):
        a = a if ca[0] == x.ndim - 1 else g.transpose(a, [*lead, x.ndim - 1, x.ndim - 2])
        return _multiplied(g, multiply, (a, b), x.dtype, out.dtype)
    if plain and x.ndim == y.ndim == len(lead) + 2 and ca[0] == x.ndim - 1:
        b = g.transpose(b, [*lead, y.ndim - 1, y.ndim - 2])
        return _multiplied(g, multiply, (a, b), x.dtype, out.dtype)
    if plain and not lead and y.ndim == 2 and ca[0] == x.ndim - 1:  # of rows with several axes
        b = b if cb[0] == 0 else g.transpose(b, [1, 0])
        return _multiplied(g, multiply, (a, b), x.dtype, out.dtype)
    wide = taken("Einsum", out.dtype)
    if wide != x.dtype:
        a, b = g.cast(a, wide), g.cast(b, wide)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    left, right = ([""] * v.ndim for v in (x, y))
    for i, j in (*zip(ba, bb, strict=True), *zip(ca, cb, strict=True)):
        left[i] = right[j] = next(letters)
    for side in (left, right):
        for k, letter in enumerate(side):
            side[k] = letter or next(letters)
    free = [c for k, c in enumerate(left) if k not in (*ca, *ba)]
    free += [c for k, c in enumerate(right) if k not in (*cb, *bb)]
    result = "".join([*(left[k] for k in ba), *free])
    made = g.op("Einsum", a, b, equation=f"{''.join(left)},{''.join(right)}->{result}")
    return made if wide == out.dtype else g.cast(made, out.dtype)


def of_bytes(eqn: Eqn) -> bool:
    """Tell whether a product is one of int8 that is summed in int32, which has an operator."""
    return len(eqn.invars) == 2 and (eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype) == (
        np.int8,
        np.int32,
    )


def _multiplied(g: Graph, operator: str, xs: Sequence[str], given: Any, out: Any) -> str:
    """Write a product of matrices whose operands may have to become another dtype first."""
    if operator == "MatMul" and out != given:
        xs = [g.cast(x, out) for x in xs]
    return g.op(operator, *xs)


def _conv(g: Graph, eqn: Eqn, x: str, w: str) -> str:
    p = eqn.params
    shape, dtype = _shape(eqn), eqn.invars[0].aval.dtype
    bytes_alone = of_bytes(eqn)
    if not (dtypes.is_float(dtype) or bytes_alone):
        raise NotExpressible(f"of {dtype.name} has no counterpart")
    padding = p["padding"]
    _not_empty(eqn)
    if 0 in (*shape, *_shape(eqn, 1)):  # sums of nothing, on which some engines do not end
        out = eqn.outvars[0].aval
        return g.expand(g.const(0, out.dtype), out.shape)
    if not padding:  # operators want an axis to convolve over
        line = g.reshape(x, [*shape, 1]), g.reshape(w, [*_shape(eqn, 1), 1])
        found = g.op("Conv", *line, group=p["groups"])
        return g.reshape(found, eqn.outvars[0].aval.shape)
    if any(n > 1 for n in p["lhs_dilation"]) or any(n < 0 for pair in padding for n in pair):
        lo, hi = ((0, 0, *(pair[k] for pair in padding)) for k in (0, 1))
        gaps = (0, 0, *(n - 1 for n in p["lhs_dilation"]))
        x = padded(g, x, g.const(0, dtype), shape, lo, hi, gaps)
        padding = [(0, 0)] * len(padding)
    out = eqn.outvars[0].aval.dtype
    if out != dtype and not bytes_alone:
        x, w = g.cast(x, out), g.cast(w, out)
    operator = "ConvInteger" if bytes_alone else "Conv"
    return g.op(
        operator, x, w, strides=p["strides"], dilations=p["rhs_dilation"], group=p["groups"],
        pads=[pair[k] for k in (0, 1) for pair in padding],
    )  # fmt: skip


# ------------------------------------------------------------------------------ indexing
def _indices(g: Graph, eqn: Eqn, indices: Sequence[str], first: int) -> tuple[str, str | None]:
    """Return indices side by side along a last axis, inside of the array, and which were."""
    shape, axes = _shape(eqn), eqn.params["axes"]
    lead = eqn.invars[first].aval.shape
    wide = [g.reshape(g.cast(i, np.int64), [*lead, 1]) for i in indices]
    found = g.op("Concat", *wide, axis=len(lead))
    if eqn.params["mode"] == "promise":
        return found, None
    most, zero = g.ints([shape[d] - 1 for d in axes]), g.const([0], np.int64)
    inside = g.op("Max", g.op("Min", found, most), zero)
    if eqn.params["mode"] == "clip":
        return inside, None
    right = g.cast(g.op("Equal", inside, found), np.uint8)
    last = g.const([len(lead)], np.int64)
    return inside, g.cast(g.op("ReduceMin", right, last, keepdims=0), np.bool_)


def _leading(eqn: Eqn) -> list[int]:
    """Return the order of the axes in which those that are indexed come first."""
    axes = eqn.params["axes"]
    return [*axes, *(d for d in range(len(_shape(eqn))) if d not in axes)]


def _gather(g: Graph, eqn: Eqn, x: str, *indices: str) -> str:
    shape, lead = _shape(eqn), _shape(eqn, 1)
    found, inside = _indices(g, eqn, indices, 1)
    out = g.op("GatherND", g.transpose(x, _leading(eqn)), found)
    if inside is None:
        return out
    rest = len(shape) - len(eqn.params["axes"])
    mask = g.reshape(inside, [*lead, *[1] * rest])
    dtype, fill = eqn.invars[0].aval.dtype, eqn.params.get("fill")
    fill = g.const(default_fill(dtype) if fill is None else fill, dtype)
    return g.where(mask, out, fill, dtype)


def _scatter(reduction: str, neutral: Any) -> Rule:
    def rule(g: Graph, eqn: Eqn, x: str, updates: str, *indices: str) -> str:
        aval = eqn.invars[0].aval
        found, inside = _indices(g, eqn, indices, 2)
        if inside is not None and neutral is None:
            return _scatter_inside(g, eqn, x, updates, found, inside)
        if inside is not None:
            mask = g.reshape(inside, [*_shape(eqn, 2), *[1] * (aval.ndim - len(indices))])
            none = g.const(neutral(aval.dtype), aval.dtype)
            updates = g.where(mask, updates, none, aval.dtype)
        order = _leading(eqn)
        out = g.op("ScatterND", g.transpose(x, order), found, updates, reduction=reduction)
        back = [order.index(d) for d in range(aval.ndim)]
        return g.transpose(out, back)

    return rule


def _scatter_inside(g: Graph, eqn: Eqn, x: str, updates: str, found: str, inside: str) -> str:
    """Scatter what is outside into one more row, which is cut off again."""
    shape, order = _shape(eqn), _leading(eqn)
    count, rows = len(eqn.params["axes"]), shape[order[0]]
    beyond = [g.ints([rows]), *([g.const([0] * (count - 1), np.int64)] if count > 1 else ())]
    where = g.op("Concat", *beyond, axis=0) if count > 1 else beyond[0]
    wide = g.reshape(inside, [*_shape(eqn, 2), 1])
    places = g.op("Where", wide, found, where)
    ends = g.const([0] * len(shape) + [1] + [0] * (len(shape) - 1), np.int64)
    zero = g.const(0, eqn.invars[0].aval.dtype)
    longer = g.op("Pad", g.transpose(x, order), ends, zero)
    out = g.op("ScatterND", longer, places, updates)
    return g.transpose(g.cut(out, [0], [0], [rows]), [order.index(d) for d in range(len(shape))])


def _end(largest: bool) -> Callable[[np.dtype], Any]:
    def end(dtype: np.dtype) -> Any:
        if dtypes.is_float(dtype):
            return math.inf if largest else -math.inf
        info = np.iinfo(dtype)
        return info.max if largest else info.min

    return end


# ------------------------------------------------------------------------------ windows
def _pooled(operator: str, sign: str | None = None) -> Rule:
    """A reduction over windows of floats: a pooling of (rows, 1, *space)."""

    def rule(g: Graph, eqn: Eqn, x: str) -> str:
        p, shape, aval = eqn.params, _shape(eqn), eqn.invars[0].aval
        if not dtypes.is_float(aval.dtype):
            raise NotExpressible(f"of {aval.dtype.name} has no counterpart")
        if not p["window"]:
            return x
        _not_empty(eqn)
        window, strides, dilation = map(list, (p["window"], p["strides"], p["dilation"]))
        while len(window) > 1 and window[0] == strides[0] == 1:
            del window[0], strides[0], dilation[0]
        lead = len(shape) - len(window)
        rows: int = 1
        for n in shape[:lead]:
            rows = rows * n
        x = g.reshape(x, [rows, 1, *shape[lead:]])
        x = g.op(sign, x) if sign else x
        sizes: dict[str, Any] = {"strides": strides, "dilations": dilation}
        if operator == "sum":
            ones = g.const(np.ones((1, 1, *window)), aval.dtype)
            x = g.op("Conv", x, ones, **sizes)
        else:
            x = g.op(operator, x, kernel_shape=window, **sizes)
        x = g.op(sign, x) if sign else x
        return g.reshape(x, eqn.outvars[0].aval.shape)

    return rule


def _windows(g: Graph, eqn: Eqn, x: str) -> str:
    p, shape, out = eqn.params, _shape(eqn), eqn.outvars[0].aval.shape
    lead = len(shape) - len(p["window"])
    counts = out[lead + len(p["window"]) :]
    axes = list(range(lead, len(shape)))
    taps = []
    for tap in itertools.product(*map(range, p["window"])):
        start = [k * d for k, d in zip(tap, p["dilation"], strict=True)]
        stop = [a + (n - 1) * s + 1 for a, n, s in zip(start, counts, p["strides"], strict=True)]
        part = g.cut(x, axes, start, stop, p["strides"])
        taps.append(g.reshape(part, [*shape[:lead], 1, *counts]))
    return g.reshape(g.op("Concat", *taps, axis=lead), out)


def _narrow_dot(g: Graph, eqn: Eqn, x: str, values: str, scale: str | None = None) -> str:
    """A product by rows of int8, or of two four-bit integers in a byte, with or without scales."""
    n, width = eqn.invars[1].aval.shape
    groups = 1 if scale is None else eqn.invars[2].aval.shape[1]
    if eqn.invars[1].aval.dtype == np.int8:
        w = g.op("DequantizeLinear", values, g.const(1.0, np.float32))
    else:
        low = g.op("BitwiseAnd", values, g.const(15, np.uint8))
        high = g.op("BitShift", values, g.const(4, np.uint8), direction="RIGHT")
        parts = [g.reshape(v, (n, groups, width // groups)) for v in (low, high)]
        both, eight = g.op("Concat", *parts, axis=2), g.const(8.0, np.float32)
        w, width = g.op("Sub", g.cast(both, np.dtype(np.float32)), eight), 2 * width
    if scale is not None:
        w = g.reshape(w, (n, groups, width // groups))
        w = g.op("Mul", w, g.reshape(scale, (n, groups, 1)))
    return g.op("MatMul", x, g.transpose(g.reshape(w, (n, width)), [1, 0]))


ARRAYS: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast, "rev": _rev, "split": _split, "slice": _slice, "pad": _pad,
    "reshape": lambda g, eqn, x: g.reshape(x, eqn.params["shape"]),
    "transpose": lambda g, eqn, x: g.transpose(x, eqn.params["perm"]),
    "concatenate": lambda g, eqn, *xs: g.op("Concat", *xs, axis=eqn.params["axis"]),
    "dynamic_slice": _dynamic_slice, "dynamic_update_slice": _dynamic_update_slice, "iota": _iota,
    "dot_general": _dot_general, "conv_general_dilated": _conv, "narrow_dot": _narrow_dot,
    "gather": _gather, "scatter": _scatter("none", None),
    "scatter_add": _scatter("add", lambda dtype: 0),
    "scatter_mul": _scatter("mul", lambda dtype: 1),
    "scatter_min": _scatter("min", _end(True)), "scatter_max": _scatter("max", _end(False)),
    "windows": _windows,
    "reduce_window_max": _pooled("MaxPool"), "reduce_window_min": _pooled("MaxPool", "Neg"),
    "reduce_window_sum": _pooled("sum"),
}  # fmt: skip
"""By primitive, as `RULES` has them."""
