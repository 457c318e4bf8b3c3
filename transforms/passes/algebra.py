"""Algebra on single elements, only where it is exact: nan, infinities and -0 come out as before.

Each rule says what it replaces. ``c`` stands for an array full of one known value.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from funtorch import dtypes
from funtorch.jaxpr import Eqn
from funtorch.ops.families import ELEMENTWISE

from .rewrite import Atom, Rewriter, Rules, merged, rewriter

__all__ = ["ALGEBRA", "is_exact", "simplify_algebra"]


# ---------------------------------------------------------------------- neutral elements
def _is_whole(v: Atom) -> bool:
    return dtypes.is_integer(v.aval.dtype)


def _is_real(v: Atom) -> bool:
    return dtypes.is_integer(v.aval.dtype) or dtypes.is_float(v.aval.dtype)


def _is_zero(c: Any, negative: bool) -> bool:
    return c == 0 and bool(np.signbit(np.float64(c))) == negative


def _add(b: Rewriter, eqn: Eqn) -> Atom | None:
    """x + c = x for c = -0.0, or 0 of integers; x + (-y) = x - y."""
    for x, y in (eqn.invars, eqn.invars[::-1]):
        c = b.value(y)
        if c is not None and _is_real(x) and ((_is_whole(x) and c == 0) or _is_zero(c, True)):
            return x
        if (negated := b.maker(y, "neg")) is not None:
            return b.emit("sub", x, negated.invars[0])
    return None


def _sub(b: Rewriter, eqn: Eqn) -> Atom | None:
    """x - c = x for c = +0; c - y = -y for c = -0.0, or 0 of integers; x - (-y) = x + y."""
    x, y = eqn.invars
    if not _is_real(x):
        return None
    c = b.value(y)
    if c is not None and _is_zero(c, False):
        return x
    c = b.value(x)
    if c is not None and ((_is_whole(x) and c == 0) or _is_zero(c, True)):
        return b.emit("neg", y)
    if x is y and _is_whole(x):
        return b.full(0, eqn.outvars[0].aval)
    if (negated := b.maker(y, "neg")) is not None:
        return b.emit("add", x, negated.invars[0])
    return None


def _mul(b: Rewriter, eqn: Eqn) -> Atom | None:
    """x * 1 = x; x * -1 = -x; 0 * x = 0 of integers; (-x) * (-y) = x * y; (-x) * c = x * (-c)."""
    for x, y in (eqn.invars, eqn.invars[::-1]):
        c = b.value(y)
        if c is None or not _is_real(x):
            continue
        if c == 1:
            return x
        if c == -1 and not (_is_whole(x) and not dtypes.is_signed(x.aval.dtype)):
            return b.emit("neg", x)
        if c == 0 and _is_whole(x):
            return b.full(0, eqn.outvars[0].aval)
        if (negated := b.maker(x, "neg")) is not None and dtypes.is_float(x.aval.dtype):
            return b.emit("mul", negated.invars[0], b.full(-c, y.aval))
    first, second = (b.maker(v, "neg") for v in eqn.invars)
    if first is not None and second is not None:
        return b.emit("mul", first.invars[0], second.invars[0])
    return None


def _masked_mul(b: Rewriter, eqn: Eqn) -> Atom | None:
    """A product with a finite number other than 0 is a plain one."""
    for v in eqn.invars:
        c = b.value(v)
        if c is not None and c != 0 and np.isfinite(c):
            return b.emit("mul", *eqn.invars)
    return None


def _div(b: Rewriter, eqn: Eqn) -> Atom | None:
    """x / 1 = x; x / -1 = -x; x / c = x * (1 / c) for powers of two; (-x) / (-y) = x / y."""
    x, y = eqn.invars
    if not _is_real(x):
        return None
    c = b.value(y)
    if c is not None and c == 1:
        return x
    if dtypes.is_float(x.aval.dtype):
        if c is not None and c == -1:
            return b.emit("neg", x)
        if c is not None and (inverse := _exact_inverse(c, x.aval.dtype)) is not None:
            return b.emit("mul", x, b.full(inverse, y.aval))
        first, second = (b.maker(v, "neg") for v in (x, y))
        if first is not None and second is not None:
            return b.emit("div", first.invars[0], second.invars[0])
    return None


def _exact_inverse(c: Any, dtype: np.dtype) -> float | None:
    """Return 1 / c where it is a normal number of the dtype and exact: c is a power of two."""
    value = float(c)
    if not math.isfinite(value) or abs(math.frexp(value)[0]) != 0.5:
        return None
    limits = ml_dtypes.finfo(dtype)
    within = float(limits.smallest_normal) <= abs(1 / value) <= float(limits.max)
    return 1 / value if within else None


def _neg(b: Rewriter, eqn: Eqn) -> Atom | None:
    """-(-x) = x; -(x - y) = y - x of integers."""
    x = eqn.invars[0]
    if (inner := b.maker(x, "neg")) is not None:
        return inner.invars[0]
    if _is_whole(x) and (inner := b.maker(x, "sub")) is not None and b.once(x):
        return b.emit("sub", *inner.invars[::-1])
    return None


def _integer_pow(b: Rewriter, eqn: Eqn) -> Atom | None:
    x, y = eqn.invars[0], eqn.params["y"]
    if y == 1:
        return x
    return b.emit("square", x) if y == 2 else None


def _pow(b: Rewriter, eqn: Eqn) -> Atom | None:
    """x ** 1 = x; x ** 2 = x * x; x ** 0.5 = sqrt(x), but for -0 and -inf."""
    x, y = eqn.invars
    c = b.value(y)
    if c is None or not _is_real(x):
        return None
    if c == 0.5:
        root = b.emit("sqrt", b.emit("add", x, b.full(0.0, x.aval)))
        lowest = b.emit("eq", x, b.full(-math.inf, x.aval))
        return b.emit("select", lowest, b.full(math.inf, x.aval), root)
    return x if c == 1 else b.emit("square", x) if c == 2 else None


def _extremum(worst: float) -> Callable[[Rewriter, Eqn], Atom | None]:
    """max(x, x) = x and max(x, -inf) = x; for min likewise."""

    def rule(b: Rewriter, eqn: Eqn) -> Atom | None:
        for x, y in (eqn.invars, eqn.invars[::-1]):
            c = b.value(y)
            if x is y or (c is not None and dtypes.is_float(x.aval.dtype) and c == worst):
                return x
        return None

    return rule


# ---------------------------------------------------------------------- booleans and select
def _same_array(b: Rewriter, x: Atom, y: Atom) -> bool:
    """Tell whether two atoms are surely the same array, to the bit."""
    if x is y:
        return True
    c, d = b.value(x), b.value(y)
    return c is not None and d is not None and c.tobytes() == d.tobytes()


def _select(b: Rewriter, eqn: Eqn) -> Atom | None:
    pred, yes, no = eqn.invars
    c = b.value(pred)
    if c is not None:
        return yes if c else no
    if _same_array(b, yes, no):
        return yes
    if (inner := b.maker(pred, "bitwise_not")) is not None:
        return b.emit("select", inner.invars[0], no, yes)
    if dtypes.is_bool(yes.aval.dtype):
        c, d = b.value(yes), b.value(no)
        if c is not None and d is not None:  # they differ
            return pred if c else b.emit("bitwise_not", pred)
    return None


def _logic(neutral: int, deciding: int) -> Callable[[Rewriter, Eqn], Atom | None]:
    """x & x = x, x & 1...1 = x, x & 0 = 0; for | with the roles of the constants exchanged."""

    def rule(b: Rewriter, eqn: Eqn) -> Atom | None:
        for x, y in (eqn.invars, eqn.invars[::-1]):
            c = b.value(y)
            if x is y:
                return x
            if c is not None and c == np.array(neutral).astype(y.aval.dtype):
                return x
            if c is not None and c == np.array(deciding).astype(y.aval.dtype):
                return y
        return None

    return rule


def _xor(b: Rewriter, eqn: Eqn) -> Atom | None:
    for x, y in (eqn.invars, eqn.invars[::-1]):
        c = b.value(y)
        if c is not None and c == 0:
            return x
    return b.full(0, eqn.outvars[0].aval) if eqn.invars[0] is eqn.invars[1] else None


_OPPOSITE = {"eq": "ne", "ne": "eq"}  # the other comparisons are all false of nan


def _not(b: Rewriter, eqn: Eqn) -> Atom | None:
    x = eqn.invars[0]
    inner = b.made_by.get(x)
    if inner is None:
        return None
    if inner.prim.name == "bitwise_not":
        return inner.invars[0]
    opposite = _OPPOSITE.get(inner.prim.name)
    return b.emit(opposite, *inner.invars) if opposite and b.once(x) else None


# ---------------------------------------------------------------------- undone again
def _absorbs(*inner: str) -> Callable[[Rewriter, Eqn], Atom | None]:
    """f(g(x)) = f(x) for the named g."""

    def rule(b: Rewriter, eqn: Eqn) -> Atom | None:
        made = b.made_by.get(eqn.invars[0])
        if made is None or made.prim.name not in inner:
            return None
        if made.invars[0].aval.dtype != eqn.invars[0].aval.dtype:
            return None
        return b.emit(eqn.prim.name, made.invars[0], **eqn.params)

    return rule


def _part(which: int) -> Callable[[Rewriter, Eqn], Atom | None]:
    """The real (imaginary) part of complex(x, y) is x (y)."""

    def rule(b: Rewriter, eqn: Eqn) -> Atom | None:
        made = b.maker(eqn.invars[0], "complex")
        return None if made is None else made.invars[which]

    return rule


def _inverse_of(b: Rewriter, eqn: Eqn) -> Atom | None:
    made = b.maker(eqn.invars[0], eqn.prim.name)
    return None if made is None else made.invars[0]


def _identity(b: Rewriter, eqn: Eqn) -> Atom | None:
    return eqn.invars[0]


# ---------------------------------------------------------------------- conversions
@functools.cache
def is_exact(source: np.dtype, target: np.dtype) -> bool:
    """Tell whether every value of a dtype is one of the other: its conversion loses nothing."""
    if source == target:
        return True
    if dtypes.is_bool(source):
        return not dtypes.is_bool(target)
    if dtypes.is_integer(source):
        if dtypes.is_integer(target):
            return bool(np.can_cast(source, target, "safe"))
        bits = source.itemsize * 8 - (1 if dtypes.is_signed(source) else 0)
        return dtypes.is_float(target) and bits <= ml_dtypes.finfo(target).nmant + 1
    if dtypes.is_float(source) and dtypes.is_float(target):
        a, b = ml_dtypes.finfo(source), ml_dtypes.finfo(target)
        return bool(
            a.nmant <= b.nmant
            and a.maxexp <= b.maxexp
            and float(a.smallest_subnormal) >= float(b.smallest_subnormal)
        )
    return False


def _convert(b: Rewriter, eqn: Eqn) -> Atom | None:
    """Drop conversions to the same dtype; skip what lies between if it lost nothing."""
    x, dtype = eqn.invars[0], eqn.params["dtype"]
    if x.aval.dtype == dtype:
        return x
    inner = b.maker(x, "convert")
    if inner is None or not is_exact(source := inner.invars[0].aval.dtype, x.aval.dtype):
        return None
    clamps = dtypes.is_float(x.aval.dtype) and dtypes.is_integer(dtype)  # integers would wrap
    if clamps and dtypes.is_integer(source) and not is_exact(source, dtype):
        return None
    return b.emit("convert", inner.invars[0], **eqn.params)


# ---------------------------------------------------------------------- below broadcasts
def _before_broadcast(b: Rewriter, eqn: Eqn) -> Atom | list[Atom] | None:
    """f(broadcast(x)) = broadcast(f(x)): compute on the smaller array."""
    aval = eqn.outvars[0].aval
    small, dims, sources = None, None, []
    for v in eqn.invars:
        made = b.maker(v, "broadcast_in_dim")
        if made is None:
            return None
        source = made.invars[0]
        sources.append(source)
        if b.value(source) is not None and not source.aval.shape:
            continue
        if small is None:
            small, dims = source.aval, made.params["dims"]
        elif source.aval.shape != small.shape or made.params["dims"] != dims:
            return None
    if small is None or int(small.size) >= int(aval.size):
        return None
    args = [
        s if s.aval.shape == small.shape else b.full(b.value(s), s.aval.update(shape=small.shape))
        for s in sources
    ]
    outs = b.emit(eqn.prim.name, *args, **eqn.params)
    grow: dict[str, Any] = {"shape": aval.shape, "dims": dims}
    if eqn.prim.multiple_results:
        return [b.emit("broadcast_in_dim", out, **grow) for out in outs]
    return b.emit("broadcast_in_dim", outs, **grow)


def _before_transpose(b: Rewriter, eqn: Eqn) -> Atom | list[Atom] | None:
    """f(transpose(x), broadcast(y)) = transpose(f(x, broadcast'(y))): so products can take it."""
    perm = None
    for v in eqn.invars:
        made = b.maker(v, "transpose")
        if made is not None:
            if perm is not None and made.params["perm"] != perm:
                return None
            perm = made.params["perm"]
    if perm is None:
        return None
    shape = tuple(n for _, n in sorted(zip(perm, eqn.outvars[0].aval.shape, strict=True)))
    args: list[Atom] = []
    for v in eqn.invars:
        made = b.made_by.get(v)
        if made is None or made.prim.name not in ("transpose", "broadcast_in_dim"):
            return None
        if made.prim.name == "broadcast_in_dim":
            dims = tuple(perm[d] for d in made.params["dims"])
            if list(dims) != sorted(dims):
                return None
            args.append(b.emit("broadcast_in_dim", made.invars[0], shape=shape, dims=dims))
        else:
            args.append(made.invars[0])
    outs = b.emit(eqn.prim.name, *args, **eqn.params)
    if eqn.prim.multiple_results:
        return [b.emit("transpose", out, perm=perm) for out in outs]
    return b.emit("transpose", outs, perm=perm)


# fmt: off
_OWN: Rules = {
    "add":           (_add,),
    "sub":           (_sub,),
    "mul":           (_mul,),
    "masked_mul":    (_masked_mul,),
    "div":           (_div,),
    "neg":           (_neg,),
    "integer_pow":   (_integer_pow,),
    "pow":           (_pow,),
    "max":           (_extremum(-math.inf),),
    "min":           (_extremum(math.inf),),
    "select":        (_select,),
    "bitwise_and":   (_logic(-1, 0),),
    "bitwise_or":    (_logic(0, -1),),
    "bitwise_xor":   (_xor,),
    "bitwise_not":   (_not,),
    "abs":           (_absorbs("neg", "abs"),),
    "square":        (_absorbs("neg", "abs"),),
    "conj":          (_inverse_of,),
    "real":          (_part(0),),
    "imag":          (_part(1),),
    "copy":          (_identity,),
    "stop_gradient": (_identity,),
    "convert":       (_convert,),
}
# fmt: on

ALGEBRA = merged(_OWN, dict.fromkeys(ELEMENTWISE, (_before_broadcast, _before_transpose)))

simplify_algebra = rewriter(
    "simplify_algebra", "Replace elementwise operations by simpler ones that are equal.", ALGEBRA
)
