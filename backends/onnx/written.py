"""Rules of primitives that ONNX has no operator for, written in those it has.

Most of them are the eager rule of the primitive, staged: its formula in the public operations is a
program, whose equations have rules. Elementwise ones are staged of scalars, which operators
broadcast, so they are right for sizes that are known later too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import ShapedArray, primitives
from funtorch.dims import Dim
from funtorch.jaxpr import Eqn, Jaxpr, stage
from funtorch.ops.bits import PARITY, ROTATIONS

from .arrays import ARRAYS
from .graph import Graph, NotExpressible, Rule, type_of

__all__ = ["WHOLE", "WRITTEN", "eager", "program"]


def _listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, (list, tuple)) else [found]


def program(f: Callable[..., Any], scalars: bool = False) -> Rule:
    """A primitive written in our operations.

    Args:
        f: of arrays, and of the primitive's parameters by name.
        scalars: it is elementwise, so that scalars tell its program.
    """

    def staged(eqn: Eqn, avals: Sequence[ShapedArray]) -> Jaxpr:
        return stage(lambda *given: _listed(f(*given, **eqn.params)), avals)

    def rule(g: Graph, eqn: Eqn, *xs: str) -> Any:
        avals = [v.aval for v in eqn.invars]
        for a in avals:
            g.takes(a.dtype)
        if scalars and g.broadcasts:
            inner = staged(eqn, [ShapedArray((), a.dtype) for a in avals])
            xs = tuple(g.operands(xs))
        if not (scalars and g.broadcasts) or any(e.prim.name in ARRAYS for e in inner.eqns):
            if any(isinstance(n, Dim) for a in avals for n in a.shape):
                raise NotExpressible("of sizes that are known later has no counterpart")
            inner = staged(eqn, avals)
        consts = [g.const(np.asarray(c._data)) for c in inner.consts]
        g.names.update(zip(inner.constvars, consts, strict=True))
        outs = g.run(inner, xs)
        return outs if eqn.prim.multiple_results else outs[0]

    return rule


def _formula(name: str) -> Callable[..., Any]:
    rule: Any = primitives[name].eager
    return lambda *xs, **params: rule(fnp, *xs, **params)


def eager(name: str) -> Rule:
    """A primitive whose eager rule is a formula in NumPy's functions, which are ours too."""
    return program(_formula(name))


def special(name: str) -> Rule:
    """A special function: its formula for doubles, for every float."""
    rule: Any = primitives[name].eager

    def doubles(*xs: Any, **params: Any) -> Any:
        found = rule(fnp, *(x.astype("float64") for x in xs), **params)
        return found.astype(xs[0].dtype)

    return program(doubles, scalars=True)


# ------------------------------------------------------------------------------ bits
def _unsigned(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"uint{8 * dtype.itemsize}")


def _shift(direction: str) -> Rule:
    """A shift of unsigned integers; what is shifted by too much is zero."""

    def rule(g: Graph, eqn: Eqn, x: str, y: str) -> str:
        dtype = eqn.invars[0].aval.dtype
        bits = 8 * dtype.itemsize
        kinds = [_unsigned(dtype)] + [np.dtype(np.uint32)] * (bits == 16)  # as onnxruntime has them
        x, y = g.operands([x, y])
        for kind in kinds:
            x, y = (g.cast(v, kind) if dtype != kind else v for v in (x, y))
        near = g.op("Less", y, g.const(bits, kind))
        by = g.where(near, y, g.const(0, kind), kind)
        found = g.op("BitShift", x, by, direction=direction)
        found = g.where(near, found, g.const(0, kind), kind)
        return g.cast(found, dtype) if dtype != kind else found

    return rule


def _shift_arithmetic(g: Graph, eqn: Eqn, x: str, y: str) -> str:
    """Negative numbers are turned around, so that the bits that come in are zeros."""
    dtype = eqn.invars[0].aval.dtype
    x, y = g.operands([x, y])
    last = g.const(np.asarray(1 << (8 * dtype.itemsize - 1), _unsigned(dtype)).astype(dtype), dtype)
    negative = g.op("Equal", g.op("BitwiseAnd", x, last), last)
    found = _shift("RIGHT")(g, eqn, g.where(negative, g.op("BitwiseNot", x), x, dtype), y)
    return g.where(negative, g.op("BitwiseNot", found), found, dtype)


def _bitcast(g: Graph, eqn: Eqn, x: str) -> str:
    """Between integers of one width a cast; else `BitCast`, which came with version 26."""
    old, new = eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype
    if old.itemsize != new.itemsize or eqn.invars[0].aval.shape != eqn.outvars[0].aval.shape:
        raise NotExpressible(f"of {old.name} to {new.name} has no counterpart")
    if old.kind in "iu" and new.kind in "iu":
        return g.cast(x, new)
    if "b" in (old.kind, new.kind):
        return g.cast(x, new)
    g.root.opset = max(g.root.opset, 26)
    return g.op("BitCast", x, to=type_of(new))


def _leading_zeros(x: Any) -> Any:
    """Halve the word that holds the highest bit."""
    kind = _unsigned(x.dtype)
    y, bits = x.astype(kind), 8 * x.dtype.itemsize
    count, step = fnp.full((), bits, kind), bits // 2
    while step:
        rest = y >> np.asarray(step, kind)
        high = rest != 0
        count = fnp.where(high, count - np.asarray(step, kind), count)
        y = fnp.where(high, rest, y)
        step //= 2
    return (count - y).astype(x.dtype)


def _population(x: Any) -> Any:
    """Add neighbouring bits, then pairs, and so on."""
    kind, bits = _unsigned(x.dtype), 8 * x.dtype.itemsize
    y, step = x.astype(kind), 1
    while step < bits:
        mask = sum(((1 << step) - 1) << k for k in range(0, bits, 2 * step))
        y = (y & np.asarray(mask, kind)) + ((y >> np.asarray(step, kind)) & np.asarray(mask, kind))
        step *= 2
    return y.astype(x.dtype)


def _threefry(k0: Any, k1: Any, x0: Any, x1: Any) -> tuple[Any, Any]:
    keys = (k0, k1, k0 ^ k1 ^ np.uint32(PARITY))
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for step in range(5):
        for r in ROTATIONS[step % 2]:
            x0 = x0 + x1
            x1 = ((x1 << np.uint32(r)) | (x1 >> np.uint32(32 - r))) ^ x0
        x0 = x0 + keys[(step + 1) % 3]
        x1 = x1 + keys[(step + 2) % 3] + np.uint32(step + 1)
    return x0, x1


def _next_after(x: Any, y: Any) -> Any:
    """Count the bits of a float up or down: they are ordered as magnitudes are."""
    kind = np.dtype(f"int{8 * x.dtype.itemsize}")
    bits = fnp.asarray(x).view(kind)
    away = (y > x) == (x > 0)
    moved = fnp.where(away, bits + np.asarray(1, kind), bits - np.asarray(1, kind))
    least = np.asarray(1, kind)
    sign = np.asarray(np.iinfo(kind).min, kind)
    moved = fnp.where(x == 0, fnp.where(y > 0, least, least | sign), moved)
    found = fnp.where(x == y, y, moved.view(x.dtype))
    return fnp.where((x != x) | (y != y), x + y, found)


# ------------------------------------------------------------------------------ along axes
def _running(f: Callable[[Any, Any], Any], neutral: Any) -> Callable[..., Any]:
    """A cumulative operation: with what is 1, 2, 4 ... places before, which all have done so."""

    def run(x: Any, *, axis: int, reverse: bool) -> Any:
        x = fnp.flip(x, axis) if reverse else x
        size, step = x.shape[axis], 1
        while step < size:
            lead = [slice(None)] * x.ndim
            lead[axis] = slice(0, size - step)
            width = [(0, 0)] * x.ndim
            width[axis] = (step, 0)
            x = f(x, fnp.pad(x[tuple(lead)], width, constant_values=neutral(x.dtype)))
            step *= 2
        return fnp.flip(x, axis) if reverse else x

    return run


def _lowest(dtype: np.dtype) -> Any:
    if dtype.kind == "b":
        return False
    return -np.inf if dtypes.is_float(dtype) else np.iinfo(dtype).min


def _highest(dtype: np.dtype) -> Any:
    if dtype.kind == "b":
        return True
    return np.inf if dtypes.is_float(dtype) else np.iinfo(dtype).max


def _overlap_add(x: Any, *, shape: Any, strides: Any, dilation: Any) -> Any:
    """Add the taps of windows, each spread out and moved to where it came from."""
    m = len(shape)
    lead = x.ndim - 2 * m
    window, counts = x.shape[lead : lead + m], x.shape[lead + m :]
    total = fnp.zeros((*x.shape[:lead], *shape), x.dtype)
    for k in np.ndindex(*window):
        where = [
            slice(i * d, i * d + (n - 1) * s + 1, s)
            for i, d, n, s in zip(k, dilation, counts, strides, strict=True)
        ]
        part = x[(slice(None),) * lead + k]
        total = total.at[(slice(None),) * lead + tuple(where)].add(part)
    return total


def _conj(g: Graph, eqn: Eqn, x: str) -> str:
    if dtypes.is_complex(eqn.invars[0].aval.dtype):
        raise NotExpressible("of complex numbers has no counterpart")
    return x


def _det(g: Graph, eqn: Eqn, x: str) -> Sequence[str]:
    return [g.op("Det", x)]


def _sort(g: Graph, eqn: Eqn, *xs: str) -> Sequence[str]:
    """Sort by the last key first: ONNX keeps the order of what is equal."""
    axis, keys = eqn.params.get("axis", -1), eqn.params.get("num_keys", 1)
    count = g.ints([eqn.invars[0].aval.shape[axis]])
    found = list(xs)
    for k in reversed(range(keys)):
        x = found[k]
        if eqn.invars[k].aval.dtype == np.bool_:
            x = g.cast(x, np.uint8)
        _, order = g.op("TopK", x, count, outputs=2, axis=axis, largest=0)
        found = [g.op("GatherElements", v, order, axis=axis) for v in found]
    return found


_SPECIAL = ("lgamma", "digamma", "polygamma", "erf_inv")
_SPECIAL += ("sampled_exp", "sampled_log", "sampled_log1p")


WHOLE: dict[str, Callable[..., Any]] = {
    **{k: _formula(k) for k in ("cumlogsumexp", "reduce_xor", "window_argmax", "window_argmin")},
    "cumprod": _running(lambda a, b: a * b, lambda dtype: 1),
    "cummax": _running(fnp.maximum, _lowest), "cummin": _running(fnp.minimum, _highest),
    "overlap_add": _overlap_add,
}  # fmt: skip
"""Programs for arrays of sizes that are numbers, by primitive: of operands and of parameters."""

WRITTEN: dict[str, Rule] = {
    **{name: special(name) for name in _SPECIAL}, **{k: program(f) for k, f in WHOLE.items()},
    "sampled_erf_inv": special("erf_inv"),
    "shift_left": _shift("LEFT"), "shift_right_logical": _shift("RIGHT"),
    "shift_right_arithmetic": _shift_arithmetic, "bitcast": _bitcast,
    "clz": program(_leading_zeros, True), "population_count": program(_population, True),
    "threefry2x32": program(_threefry, True), "nextafter": program(_next_after, True),
    "sort": _sort, "sort_bits": lambda g, eqn, x: _sort(g, eqn, x)[0],
    "conj": _conj, "det": _det,
}  # fmt: skip
"""By primitive, as `RULES` has them."""
