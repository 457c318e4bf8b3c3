"""Primitives that the compiler writes in terms of others: one row each.

A row gives, for an equation, the function to put in its place, written in the strict operations;
it is staged with the equation's types and spliced in. None leaves the equation as it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import primitives
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var, stage
from funtorch.ops.elementwise import add, bitwise_or, convert, eq, ne, select
from funtorch.ops.families import broadcast_in_dim, full_like, scalar
from funtorch.ops.matrices import HALF, MACROS
from funtorch.ops.recipes import RECIPES
from funtorch.ops.reduce import reduce_max, reduce_min
from funtorch.ops.shape import iota, pad, reshape, transpose
from funtorch.ops.shape import slice as cut
from funtorch.ops.window import windows

from . import correlate, products
from .cumulative import CUMULATIVE, along_rows
from .nothing import of_nothing
from .ordering import by_bits
from .others import (
    bits_of_halves,
    contracted_bools,
    convolved,
    integer_powers,
    is_finite_number,
    meets,
    next_half,
    scattered_bools,
)
from .spectral import by_convolution

__all__ = ["BARRIER", "LOWERINGS", "lower"]

Rule = Callable[[Eqn], Callable[..., Any] | None]

BARRIER = "optimization_barrier"
INT32, INT64, UINT8 = map(np.dtype, ("int32", "int64", "uint8"))
_TAPS = 32  # taps of a window up to which its overlapping sum is written out


# ---------------------------------------------------------------------- first best element
def _first_best(x: Any, axes: Sequence[int], largest: bool, dtype: np.dtype) -> Any:
    """Return the row-major number, along the axes, of the first extremum; nan counts as one."""
    if x.dtype == np.bool_:
        x = convert(x, dtype=UINT8, weak_type=False)
    shape, axes = x.aval.shape, tuple(axes)
    kept = tuple(k for k in range(len(shape)) if k not in axes)
    best = (reduce_max if largest else reduce_min)(x, axes=axes)
    is_best = eq(x, broadcast_in_dim(best, shape=shape, dims=kept))
    if dtypes.is_float(x.dtype):
        is_best = bitwise_or(is_best, ne(x, x))
    size = math.prod(shape[a] for a in axes)
    wide = INT32 if size < 2**31 else INT64
    number = iota(shape=(size,), axis=0, dtype=wide)
    number = reshape(number, shape=tuple(shape[a] for a in axes))
    number = broadcast_in_dim(number, shape=shape, dims=axes)
    first = reduce_min(select(is_best, number, full_like(number, np.iinfo(wide).max)), axes=axes)
    return first if dtype == wide else convert(first, dtype=dtype, weak_type=False)


def _arg(largest: bool) -> Rule:
    def rule(eqn: Eqn) -> Callable[..., Any] | None:
        p = eqn.params
        return lambda x: _first_best(x, (p["axis"],), largest, p["dtype"])

    return rule


# ---------------------------------------------------------------------- bools
def _of_bools(logical: str) -> Rule:
    """A reduction of bools by the name of its logical counterpart."""

    def rule(eqn: Eqn) -> Callable[..., Any] | None:
        if eqn.invars[0].aval.dtype != np.bool_:
            return None
        return lambda x: primitives[logical].bind(x, axes=eqn.params["axes"])

    return rule


# ---------------------------------------------------------------------- windows
def _taps(eqn: Eqn) -> tuple[int, ...]:
    """Return the axes of the taps in the result of `windows`."""
    lead = eqn.invars[0].aval.ndim - len(eqn.params["window"])
    return tuple(range(lead, lead + len(eqn.params["window"])))


def _window_reduction(name: str) -> Rule:
    def rule(eqn: Eqn) -> Callable[..., Any] | None:
        return lambda x: primitives[name].bind(windows(x, **eqn.params), axes=_taps(eqn))

    return rule


def _window_arg(largest: bool) -> Rule:
    def rule(eqn: Eqn) -> Callable[..., Any] | None:
        return lambda x: _first_best(windows(x, **eqn.params), _taps(eqn), largest, INT32)

    return rule


def _overlap_add(eqn: Eqn) -> Callable[..., Any] | None:
    """Add up the taps, each moved to where its elements come from."""
    shape, strides, dilation = (eqn.params[k] for k in ("shape", "strides", "dilation"))
    m, aval = len(shape), eqn.invars[0].aval
    lead = aval.ndim - 2 * m
    window, counts = aval.shape[lead : lead + m], aval.shape[lead + m :]
    if aval.size == 0:
        return None
    front = (0,) * lead
    if all(
        w <= s and (d == 1 or w == 1) for w, s, d in zip(window, strides, dilation, strict=True)
    ):
        return lambda x: _laid_side_by_side(x, shape, strides)
    if math.prod(window) > _TAPS:
        return None

    def tap(x: Any, place: Sequence[int]) -> Any:
        start = (*front, *place, *(0,) * m)
        limit = (*aval.shape[:lead], *(k + 1 for k in place), *counts)
        x = cut(x, start=start, limit=limit, stride=(1,) * aval.ndim)
        x = reshape(x, shape=(*aval.shape[:lead], *counts))
        lo = tuple(k * d for k, d in zip(place, dilation, strict=True))
        ends = ((n - 1) * s + 1 + low for n, s, low in zip(counts, strides, lo, strict=True))
        hi = tuple(n - end for n, end in zip(shape, ends, strict=True))
        gaps = tuple(s - 1 for s in strides)
        return pad(
            x, scalar(0, aval.dtype), lo=(*front, *lo), hi=(*front, *hi), interior=(*front, *gaps)
        )

    def whole(x: Any) -> Any:
        total = None
        for place in itertools.product(*map(range, window)):
            piece = tap(x, place)
            total = piece if total is None else add(total, piece)
        return total

    return whole


def _laid_side_by_side(x: Any, shape: Sequence[int], strides: Sequence[int]) -> Any:
    """Return the overlapping sum of windows that do not overlap: every element has its place."""
    m = len(shape)
    lead = len(x.shape) - 2 * m
    window, counts, none = x.shape[lead : lead + m], x.shape[lead + m :], (0,) * len(x.shape)
    gaps = tuple(s - w for s, w in zip(strides, window, strict=True))
    zero = scalar(0, x.dtype)
    if any(gaps):
        x = pad(x, zero, lo=none, hi=(*none[:lead], *gaps, *none[:m]), interior=none)
    order = (k for j in range(m) for k in (lead + m + j, lead + j))
    x = transpose(x, perm=(*range(lead), *order))
    sizes = tuple(n * s for n, s in zip(counts, strides, strict=True))
    x = reshape(x, shape=(*x.shape[:lead], *sizes))
    ends = tuple(n - k for n, k in zip(shape, sizes, strict=True))
    none = none[: lead + m]
    return pad(x, zero, lo=none, hi=(*none[:lead], *ends), interior=none) if any(ends) else x


# ---------------------------------------------------------------------- linear algebra
def _macro(program: Callable[..., Any]) -> Rule:
    """A primitive that is a program of others."""

    def rule(eqn: Eqn) -> Callable[..., Any] | None:
        return lambda *xs: program(*xs, **eqn.params)

    return rule


def _by_float32(eqn: Eqn) -> Callable[..., Any] | None:
    """Matrices of 16-bit floats, which LAPACK does not know."""
    half, single = eqn.invars[0].aval.dtype, np.dtype(np.float32)
    if half not in HALF:
        return None

    def whole(*xs: Any) -> Any:
        wide = (convert(x, dtype=single, weak_type=False) if x.dtype == half else x for x in xs)
        outs = eqn.prim.bind(*wide, **eqn.params)
        outs = outs if eqn.prim.multiple_results else [outs]
        return [convert(x, dtype=half, weak_type=False) if x.dtype == single else x for x in outs]

    return whole


LOWERINGS: dict[str, Rule] = {
    "argmax": _arg(True),
    "argmin": _arg(False),
    "reduce_sum": _of_bools("reduce_or"),
    "reduce_max": _of_bools("reduce_or"),
    "reduce_prod": _of_bools("reduce_and"),
    "reduce_min": _of_bools("reduce_and"),
    "reduce_window_sum": _window_reduction("reduce_sum"),
    "reduce_window_max": _window_reduction("reduce_max"),
    "reduce_window_min": _window_reduction("reduce_min"),
    "window_argmax": _window_arg(True),
    "window_argmin": _window_arg(False),
    "overlap_add": _overlap_add,
    "dot_general": contracted_bools,
    "conv_general_dilated": convolved,
    "bitcast": bits_of_halves,
    "is_finite": is_finite_number,
    "nextafter": next_half,
    "pow": integer_powers,
    "scatter_add": scattered_bools(True),
    "scatter_max": scattered_bools(True),
    "scatter_mul": scattered_bools(False),
    "scatter_min": scattered_bools(False),
    **dict.fromkeys(CUMULATIVE, along_rows),
    "fft": by_convolution,
    "sort": by_bits,
    **dict.fromkeys(RECIPES, _by_float32),
    **{name: _macro(program) for name, program in MACROS.items()},
}
"""By primitive."""

AFTER: dict[str, Callable[[Eqn, dict[Var, Eqn]], correlate.Written | None]] = {
    "conv_general_dilated": correlate.rewritten
}
"""By primitive, where it matters what made the operands."""


def _listed(outs: Any) -> list[Any]:
    return list(outs) if isinstance(outs, (list, tuple)) else [outs]


def _is_empty(eqn: Eqn) -> bool:
    return any(v.aval.size == 0 for v in (*eqn.invars, *eqn.outvars))


def lower(jaxpr: Jaxpr, machine: products.Products = products.CPU_PRODUCTS) -> Jaxpr:
    """Return an equal program in which every equation with a row is written in other primitives.

    Barriers stay as equations of nothing: what they change is the order of steps.

    Args:
        jaxpr: the program.
        machine: which matrix products the machine makes by itself.
    """
    rewritten = {*LOWERINGS, *AFTER, BARRIER}
    if not any(eqn.prim.name in rewritten or _is_empty(eqn) for eqn in jaxpr.eqns):
        return jaxpr
    env: dict[Var, Var | Lit] = {}
    eqns: list[Eqn] = []
    makers: dict[Var, Eqn] = {}

    def renamed(atoms: Sequence[Var | Lit], names: dict[Var, Var | Lit]) -> list[Var | Lit]:
        return [names.get(v, v) if isinstance(v, Var) else v for v in atoms]

    for eqn in jaxpr.eqns:
        args = renamed(eqn.invars, env)
        if eqn.prim.name == BARRIER:
            env.update(zip(eqn.outvars, args, strict=True))
            eqns.append(Eqn(eqn.prim, [], eqn.params, [], eqn.source))
            continue
        new = Eqn(eqn.prim, args, eqn.params, eqn.outvars, eqn.source)
        atoms, rule = args, of_nothing if _is_empty(eqn) else LOWERINGS.get(eqn.prim.name)
        if rule is convolved and machine.convolves(eqn) and meets(eqn):
            rule = None
        written = None if rule is None else rule(eqn)
        if written is None and eqn.prim.name == "dot_general":
            written = products.rewritten(eqn, machine)
        if written is None and eqn.prim.name in AFTER and not _is_empty(eqn):
            written, atoms = AFTER[eqn.prim.name](new, makers) or (None, args)
        if written is None:
            eqns.append(new)
            makers.update((v, new) for v in new.outvars)
            continue
        sub = stage(lambda *xs, f=written: _listed(f(*xs)), [v.aval for v in atoms])
        inner: dict[Var, Var | Lit] = dict(zip(sub.invars, atoms, strict=True))
        sub = lower(sub, machine)
        for e in sub.eqns:
            new = Eqn(e.prim, renamed(e.invars, inner), e.params, e.outvars, eqn.source)
            eqns.append(new)
            makers.update((v, new) for v in new.outvars)
        env.update(zip(eqn.outvars, renamed(sub.outvars, inner), strict=True))
    outs = renamed(jaxpr.outvars, env)
    return Jaxpr(jaxpr.invars, eqns, outs, jaxpr.constvars, jaxpr.consts)
