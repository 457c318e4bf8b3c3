"""Scalar code of elementwise primitives: one row per primitive, written into a `Block`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .block import Block
from .elements import (
    FLOAT16,
    HALVES,
    MEMORY,
    TYPES,
    bits_of_half,
    constant,
    half_of_bits,
    joined,
    load_value,
    mark_exact,
    narrow,
    part_kind,
    parts,
    register_dtype,
    store_value,
)
from .math import FORMULAS, REWRITTEN, Value, absolute, number, select, threefry2x32
from .math.complex import COMPLEX, Pair

__all__ = ["MEMORY", "TYPES", "Block", "constant", "load_value", "scalar", "store_value"]

Code = Callable[[Block, Sequence[str], str, np.dtype, Any], str]


def _plain(for_float: str | None, signed: str | None = None, unsigned: str | None = None) -> Code:
    """Return the code of an operation that is one instruction."""
    by_kind = {"f": for_float, "i": signed, "u": unsigned or signed, "b": unsigned or signed}
    return lambda b, xs, kind, dtype, attr: b.op(f"{by_kind[dtype.kind]} {kind} {', '.join(xs)}")


def _intrinsic(function: str) -> Code:
    return lambda b, xs, kind, dtype, attr: b.call(function, xs, kind)


def _extremum(name: str) -> Code:
    """Return the code of max or min: nan wins among floats, and of two zeros the second one."""
    condition = {"max": "ogt", "min": "olt"}[name]
    by_kind = {"i": f"llvm.s{name}", "u": f"llvm.u{name}"}

    def code(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
        if dtype.kind == "b":
            return b.op(f"{'or' if name == 'max' else 'and'} i1 {', '.join(xs)}")
        if dtype.kind != "f":
            return b.call(by_kind[dtype.kind], xs, kind)
        x, y = xs
        chosen = b.select(b.op(f"fcmp {condition} {kind} {x}, {y}"), x, y, kind)
        return b.select(b.op(f"fcmp uno {kind} {x}, {x}"), x, chosen, kind)

    return code


def _neg(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    return b.op(f"fneg {kind} {xs[0]}" if dtype.kind == "f" else f"sub {kind} 0, {xs[0]}")


def _abs(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    if dtype.kind == "u":
        return xs[0]
    return (
        b.call("llvm.fabs", xs, kind)
        if dtype.kind == "f"
        else b.call("llvm.abs", xs, kind, ["i1 false"])
    )


def _sign(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    (x,) = xs
    if dtype.kind == "f":
        one = b.call("llvm.copysign", [number(1, kind), x], kind)
        return b.select(b.op(f"fcmp one {kind} {x}, {number(0, kind)}"), one, x, kind)
    positive = b.op(f"zext i1 {b.op(f'icmp ne {kind} {x}, 0')} to {kind}")
    if dtype.kind == "u":
        return positive
    return b.select(b.op(f"icmp slt {kind} {x}, 0"), "-1", positive, kind)


def _square(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    return _MUL(b, [xs[0], xs[0]], kind, dtype, attr)


def _one(dtype: np.dtype) -> str:
    return constant(1, dtype)


def _integer_pow(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    """Multiply by repeated squaring."""
    (x,), exponent, out = xs, abs(attr["y"]), None
    while exponent:
        if exponent & 1:
            out = x if out is None else _MUL(b, [out, x], kind, dtype, None)
        exponent >>= 1
        if exponent:
            x = _MUL(b, [x, x], kind, dtype, None)
    if out is None:
        return _one(dtype)
    return b.op(f"fdiv {kind} {_one(dtype)}, {out}") if attr["y"] < 0 else out


def _in_floats(b: Block, x: str, y: str, kind: str, dtype: np.dtype) -> str:
    """Divide integers of at most 32 bits as floats, which become vectors.

    A quotient of n bits is no nearer to the next integer than 2**-n of it, and the float has more.
    """
    wide, sign = "double" if dtype.itemsize == 4 else "float", "u" if dtype.kind == "u" else "s"
    p, q = (b.op(f"{sign}itofp {kind} {v} to {wide}") for v in (x, y))
    return b.op(f"fpto{sign}i {wide} {b.op(f'fdiv {wide} {p}, {q}')} to {kind}")


def _division(rest: bool, in_floats: bool = False) -> Code:
    """Return the code of div or rem; integers divided by zero do not trap."""

    def divided(b: Block, x: str, y: str, kind: str, dtype: np.dtype) -> str:
        if not in_floats:
            sign = "u" if dtype.kind == "u" else "s"
            return b.op(f"{sign}{'rem' if rest else 'div'} {kind} {x}, {y}")
        out = _in_floats(b, x, y, kind, dtype)
        return b.op(f"sub {kind} {x}, {b.op(f'mul {kind} {out}, {y}')}") if rest else out

    def code(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
        x, y = xs
        if dtype.kind == "f":
            return b.op(f"fdiv {kind} {x}, {y}")
        zero = b.op(f"icmp eq {kind} {y}, 0")
        safe = b.select(zero, "1", y, kind)
        if dtype.kind == "u":
            out = divided(b, x, safe, kind, dtype)
            return b.select(zero, x if rest else "-1", out, kind)
        minus = b.op(f"icmp eq {kind} {y}, -1")  # the least integer by -1 traps as well
        safe = b.select(minus, "1", safe, kind)
        out = divided(b, x, safe, kind, dtype)
        out = b.select(minus, "0" if rest else b.op(f"sub {kind} 0, {x}"), out, kind)
        return b.select(zero, x if rest else "-1", out, kind)

    return code


def _shift(instruction: str) -> Code:
    def code(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
        width = 8 * dtype.itemsize
        inside = b.op(f"icmp ult {kind} {xs[1]}, {width}")
        if instruction == "ashr":
            return b.op(f"ashr {kind} {xs[0]}, {b.select(inside, xs[1], str(width - 1), kind)}")
        out = b.op(f"{instruction} {kind} {xs[0]}, {b.select(inside, xs[1], '0', kind)}")
        return b.select(inside, out, "0", kind)

    return code


def _compare(name: str, ordered: str) -> Code:
    def code(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
        if dtype.kind == "f":
            return b.op(f"fcmp {ordered} {kind} {', '.join(xs)}")
        sign = "" if name in ("eq", "ne") else "s" if dtype.kind == "i" else "u"
        return b.op(f"icmp {sign}{name} {kind} {', '.join(xs)}")

    return code


def _is_finite(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    return b.op(f"fcmp one {kind} {b.call('llvm.fabs', xs, kind)}, {number(math.inf, kind)}")


def _bitwise_not(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    return b.op(f"xor {kind} {xs[0]}, {'true' if kind == 'i1' else '-1'}")


def _same(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    return xs[0]


def _bitcast(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    (x,), to = xs, attr["dtype"]
    if to in HALVES:
        return half_of_bits(b, x, to)
    return b.op(f"bitcast {kind} {x} to {TYPES[to]}")


def _counted(function: str, *flags: str) -> Code:
    return lambda b, xs, kind, dtype, attr: b.call(function, xs, kind, flags)


def _threefry(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    return threefry2x32(*(Value(b, x, kind) for x in xs), result=attr["result"]).name


def _rounded_to_odd(x: Value) -> Value:
    """Return a double as a float that rounds to a narrower format as the double would.

    References:
        S. Boldo, G. Melquiond, "Emulation of FMA and correctly rounded sums", 2008 (odd rounding).
    """
    near = x.cast("fptrunc", "float")
    wide = near.cast("fpext", "double")
    beyond = (absolute(wide) > absolute(x)).cast("zext", "i32")
    odd = ((near.bits() - beyond) | 1).unbits()
    return select(wide.cmp("one", x), odd, near)


def _nearest_integer(b: Block, x: str, kind: str, to: np.dtype) -> str:
    """Return a float without its fraction as an integer, the nearest one there is; 0 for nan.

    LLVM's own saturating conversion does not become one of vectors.
    """
    info, target, value = np.iinfo(to), TYPES[to], Value(b, x, kind)
    end = float(info.max + 1)  # exact, as all powers of two
    above = value.cmp("oge", end)
    below = value.cmp("ole", -1.0) if to.kind == "u" else value < -end
    inside = value.cmp("ord", value) & ~(above | below)
    convert = "fptoui" if to.kind == "u" else "fptosi"
    out = select(inside, value, 0.0).cast(convert, target)
    return select(above, out.like(int(info.max)), select(below, int(info.min), out)).name


def _convert(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    (x,), to = xs, register_dtype(attr["dtype"])
    target = TYPES[to]
    if to == dtype:
        return x
    if to.kind == "b":
        return b.op(
            f"fcmp une {kind} {x}, {number(0, kind)}"
            if dtype.kind == "f"
            else f"icmp ne {kind} {x}, 0"
        )
    if dtype.kind == "f" and to.kind == "f":
        if attr["dtype"] == FLOAT16:
            return _rounded_to_odd(Value(b, x, kind)).name
        return b.op(f"{'fpext' if kind == 'float' else 'fptrunc'} {kind} {x} to {target}")
    if dtype.kind == "f":
        return _nearest_integer(b, x, kind, to)
    if to.kind == "f":
        return b.op(f"{'sitofp' if dtype.kind == 'i' else 'uitofp'} {kind} {x} to {target}")
    if dtype.kind != "b" and to.itemsize == dtype.itemsize:
        return x
    if dtype.kind != "b" and to.itemsize < dtype.itemsize:
        return b.op(f"trunc {kind} {x} to {target}")
    return b.op(f"{'sext' if dtype.kind == 'i' else 'zext'} {kind} {x} to {target}")


_MUL = _plain("fmul contract", "mul")
_FORMULAS = FORMULAS | REWRITTEN

_CODE: dict[str, Code] = {
    "add": _plain("fadd contract", "add"),
    "sub": _plain("fsub contract", "sub"),
    "mul": _MUL,
    "neg": _neg,
    "abs": _abs,
    "sign": _sign,
    "square": _square,
    "integer_pow": _integer_pow,
    "div": _division(False),
    "rem": _division(True),
    "div_in_floats": _division(False, in_floats=True),
    "rem_in_floats": _division(True, in_floats=True),
    "max": _extremum("max"),
    "min": _extremum("min"),
    "sqrt": _intrinsic("llvm.sqrt"),
    "floor": _intrinsic("llvm.floor"),
    "ceil": _intrinsic("llvm.ceil"),
    "round": _intrinsic("llvm.rint"),
    "trunc": _intrinsic("llvm.trunc"),
    "is_finite": _is_finite,
    "eq": _compare("eq", "oeq"),
    "ne": _compare("ne", "une"),
    "lt": _compare("lt", "olt"),
    "le": _compare("le", "ole"),
    "gt": _compare("gt", "ogt"),
    "ge": _compare("ge", "oge"),
    "bitwise_not": _bitwise_not,
    "bitwise_and": _plain(None, "and"),
    "bitwise_or": _plain(None, "or"),
    "bitwise_xor": _plain(None, "xor"),
    "shift_left": _shift("shl"),
    "shift_right_logical": _shift("lshr"),
    "shift_right_arithmetic": _shift("ashr"),
    "population_count": _counted("llvm.ctpop"),
    "clz": _counted("llvm.ctlz", "i1 false"),
    "threefry2x32": _threefry,
    "copy": _same,
    "stop_gradient": _same,
    "bitcast": _bitcast,
    "convert": _convert,
}


# Of numbers of a narrow format, these make numbers of it (or none at all): nothing to round.
_EXACT = frozenset(
    ("neg", "abs", "sign", "copysign", "max", "min", "floor", "ceil", "round", "trunc")
    + ("select", "copy", "stop_gradient", "bitcast")
    + ("is_finite", "eq", "ne", "lt", "le", "gt", "ge")
)


def _operand(b: Block, x: str, dtype: np.dtype) -> Value | Pair:
    if dtype.kind != "c":
        return Value(b, x, TYPES[dtype])
    kind = part_kind(dtype)
    re, im = (Value(b, p, kind) for p in parts(b, x, kind))
    return Pair(re, im)


def _complex(b: Block, name: str, xs: Sequence[str], dtypes: Sequence[np.dtype], attr: Any) -> str:
    """Write a primitive that takes or makes complex numbers."""
    if name == "convert":
        return _complex_convert(b, xs[0], dtypes[0], attr["dtype"])
    if name == "conj" and dtypes[0].kind != "c":
        return xs[0]
    args = (_operand(b, x, d) for x, d in zip(xs, dtypes, strict=True))
    out = COMPLEX[name](*args, **(attr or {}))
    return joined(b, (out.re.name, out.im.name), out.re.kind) if isinstance(out, Pair) else out.name


def _complex_convert(b: Block, x: str, dtype: np.dtype, to: np.dtype) -> str:
    """Convert to or from complex: reals have no imaginary part, and complex numbers lose theirs."""
    if dtype.kind == "c":
        real, found = np.empty(0, dtype).real.dtype, parts(b, x, part_kind(dtype))
        if to.kind == "b":
            z = [Value(b, p, part_kind(dtype)) for p in found]
            return (z[0].cmp("une", 0.0) | z[1].cmp("une", 0.0)).name
    else:
        real, found = dtype, (x,)
    if to.kind != "c":
        return scalar(b, "convert", found[:1], [real], {"dtype": to})
    target = np.empty(0, to).real.dtype
    out = [scalar(b, "convert", [p], [real], {"dtype": target}) for p in found]
    out += [constant(0, target)] if len(out) == 1 else []
    return joined(b, out, part_kind(to))


def scalar(b: Block, name: str, xs: Sequence[str], dtypes: Sequence[np.dtype], attr: Any) -> str:
    """Write one elementwise primitive on values ``xs`` of the given dtypes; return its name."""
    dtype = dtypes[1] if name == "select" else dtypes[0]
    to = attr["dtype"] if name == "convert" else dtype
    if "c" in (dtype.kind, to.kind) or name in ("complex", "conj"):
        return _complex(b, name, xs, dtypes, attr)
    if name == "bitcast" and dtype in HALVES:
        bits = bits_of_half(b, xs[0], dtype)
        return half_of_bits(b, bits, attr["dtype"]) if attr["dtype"] in HALVES else bits
    computed = register_dtype(dtype)
    kind = TYPES[computed]
    if name == "select":
        out = b.select(xs[0], xs[1], xs[2], kind)
    elif name in _FORMULAS and computed.kind == "f":
        out = _FORMULAS[name](*(Value(b, x, kind) for x in xs), **(attr or {})).name
    else:
        out = _CODE[name](b, xs, kind, computed, attr)
    if to not in HALVES:
        return out
    if name in _EXACT:
        return mark_exact(b, out, to)
    return narrow(b, out, to)
