"""Scalar code of elementwise primitives: one row per primitive, written into a `Block`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .math import FORMULAS, LIBM, number

__all__ = [
    "MEMORY",
    "TYPES",
    "Block",
    "constant",
    "load_value",
    "reduction",
    "scalar",
    "store_value",
]

TYPES = {
    np.dtype("bool"): "i1",
    np.dtype("float32"): "float",
    np.dtype("float64"): "double",
    **{np.dtype(f"{u}int{w}"): f"i{w}" for u in ("", "u") for w in (8, 16, 32, 64)},
}
"""The type of a value in registers."""

MEMORY = {**TYPES, np.dtype("bool"): "i8"}
"""The type of an element in memory."""


class Block:
    """The instructions of one function, in order; methods that make a value return its name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declared: dict[str, str] = {}
        self.count = 0

    def name(self, stem: str = "v") -> str:
        self.count += 1
        return f"%{stem}{self.count}"

    def op(self, text: str) -> str:
        out = self.name()
        self.lines.append(f"  {out} = {text}")
        return out

    def do(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def select(self, cond: str, yes: str, no: str, kind: str) -> str:
        return self.op(f"select i1 {cond}, {kind} {yes}, {kind} {no}")

    def fma(self, x: str, y: str, z: str, kind: str) -> str:
        return self.call("llvm.fmuladd", [x, y, z], kind)

    def call(self, function: str, args: Sequence[str], kind: str, flags: Sequence[str] = ()) -> str:
        """Call a function from values of one type to that type; intrinsics get it in their name."""
        if function.startswith("llvm."):
            function += {"float": ".f32", "double": ".f64"}.get(kind, f".{kind}")
        types = [kind] * len(args) + [f.split()[0] for f in flags]
        # The C library's error number is nobody's business: declared pure, unused calls vanish.
        self.declared[function] = (
            f"declare {kind} @{function}({', '.join(types)}) memory(none) nounwind willreturn"
        )
        given = [f"{kind} {a}" for a in args] + list(flags)
        return self.op(f"call {kind} @{function}({', '.join(given)})")


def load_value(b: Block, pointer: str, dtype: np.dtype) -> str:
    """Read one element at a pointer; return the value in registers."""
    found = b.op(f"load {MEMORY[dtype]}, ptr {pointer}, align 1")
    return b.op(f"icmp ne i8 {found}, 0") if dtype.kind == "b" else found


def store_value(b: Block, pointer: str, dtype: np.dtype, value: str) -> None:
    """Write one value to the element at a pointer."""
    if dtype.kind == "b":
        value = b.op(f"zext i1 {value} to i8")
    b.do(f"store {MEMORY[dtype]} {value}, ptr {pointer}, align 1")


def constant(value: Any, dtype: np.dtype) -> str:
    """Return LLVM's spelling of a constant."""
    if dtype.kind == "f":
        return number(value, TYPES[dtype])
    if dtype.kind == "b":
        return "true" if value else "false"
    return str(int(value))


Code = Callable[[Block, Sequence[str], str, np.dtype, Any], str]


def _plain(for_float: str | None, signed: str | None = None, unsigned: str | None = None) -> Code:
    """Return the code of an operation that is one instruction."""
    by_kind = {"f": for_float, "i": signed, "u": unsigned or signed, "b": unsigned or signed}
    return lambda b, xs, kind, dtype, attr: b.op(f"{by_kind[dtype.kind]} {kind} {', '.join(xs)}")


def _intrinsic(function: str) -> Code:
    return lambda b, xs, kind, dtype, attr: b.call(function, xs, kind)


def _extremum(name: str) -> Code:
    """Return the code of max or min: nan wins among floats."""
    by_kind = {"f": f"llvm.{name}imum", "i": f"llvm.s{name[:3]}", "u": f"llvm.u{name[:3]}"}

    def code(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
        if dtype.kind == "b":
            return b.op(f"{'or' if name == 'max' else 'and'} i1 {', '.join(xs)}")
        return b.call(by_kind[dtype.kind], xs, kind)

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


def _division(rest: bool) -> Code:
    """Return the code of div or rem; integers divided by zero do not trap."""

    def code(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
        x, y = xs
        if dtype.kind == "f":
            return b.op(f"fdiv {kind} {x}, {y}") if not rest else _library("rem", b, xs, kind)
        zero = b.op(f"icmp eq {kind} {y}, 0")
        safe = b.select(zero, "1", y, kind)
        if dtype.kind == "u":
            out = b.op(f"{'urem' if rest else 'udiv'} {kind} {x}, {safe}")
            return b.select(zero, x if rest else "-1", out, kind)
        minus = b.op(f"icmp eq {kind} {y}, -1")  # the least integer by -1 traps as well
        safe = b.select(minus, "1", safe, kind)
        out = b.op(f"{'srem' if rest else 'sdiv'} {kind} {x}, {safe}")
        out = b.select(minus, "0" if rest else b.op(f"sub {kind} 0, {x}"), out, kind)
        return b.select(zero, x if rest else "-1", out, kind)

    return code


def _library(name: str, b: Block, xs: Sequence[str], kind: str) -> str:
    return b.call(LIBM[name] + ("f" if kind == "float" else ""), xs, kind)


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


def _reciprocal(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    return b.op(f"fdiv {kind} {number(1, kind)}, {xs[0]}")


def _rsqrt(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    return b.op(f"fdiv {kind} {number(1, kind)}, {b.call('llvm.sqrt', xs, kind)}")


def _is_finite(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    return b.op(f"fcmp one {kind} {b.call('llvm.fabs', xs, kind)}, {number(math.inf, kind)}")


def _bitwise_not(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    return b.op(f"xor {kind} {xs[0]}, {'true' if kind == 'i1' else '-1'}")


def _same(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    return xs[0]


def _bitcast(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    return b.op(f"bitcast {kind} {xs[0]} to {TYPES[attr['dtype']]}")


def _convert(b: Block, xs: Sequence[str], kind: str, dtype: np.dtype, attr: Any) -> str:
    (x,), to = xs, attr["dtype"]
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
        return b.op(f"{'fpext' if kind == 'float' else 'fptrunc'} {kind} {x} to {target}")
    if dtype.kind == "f":
        sign = "u" if to.kind == "u" else "s"
        function = f"llvm.fpto{sign}i.sat.{target}.f{8 * dtype.itemsize}"
        b.declared[function] = f"declare {target} @{function}({kind})"
        return b.op(f"call {target} @{function}({kind} {x})")
    if to.kind == "f":
        return b.op(f"{'sitofp' if dtype.kind == 'i' else 'uitofp'} {kind} {x} to {target}")
    if dtype.kind != "b" and to.itemsize == dtype.itemsize:
        return x
    if dtype.kind != "b" and to.itemsize < dtype.itemsize:
        return b.op(f"trunc {kind} {x} to {target}")
    return b.op(f"{'sext' if dtype.kind == 'i' else 'zext'} {kind} {x} to {target}")


_MUL = _plain("fmul contract", "mul")

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
    "reciprocal": _reciprocal,
    "max": _extremum("max"),
    "min": _extremum("min"),
    "sqrt": _intrinsic("llvm.sqrt"),
    "rsqrt": _rsqrt,
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
    "copy": _same,
    "stop_gradient": _same,
    "bitcast": _bitcast,
    "convert": _convert,
}


def scalar(b: Block, name: str, xs: Sequence[str], dtypes: Sequence[np.dtype], attr: Any) -> str:
    """Write one elementwise primitive on values ``xs`` of the given dtypes; return its name."""
    dtype = dtypes[0]
    kind = TYPES[dtype]
    if name == "select":
        return b.select(xs[0], xs[1], xs[2], TYPES[dtypes[1]])
    if (name, kind) in FORMULAS:
        return FORMULAS[name, kind](b, xs[0], kind)
    if name in _CODE:
        return _CODE[name](b, xs, kind, dtype, attr)
    return _library(name, b, xs, kind)


def _limit(dtype: np.dtype, largest: bool) -> Any:
    if dtype.kind == "f":
        return math.inf if largest else -math.inf
    return np.iinfo(dtype).max if largest else np.iinfo(dtype).min


def reduction(name: str, dtype: np.dtype) -> tuple[str, Callable[[Block, str, str], str]]:
    """Return a reduction's start value and the code that takes in one more value."""
    kind = TYPES[dtype]
    starts = {
        "reduce_sum": 0,
        "reduce_prod": 1,
        "reduce_or": 0,
        "reduce_and": True if kind == "i1" else -1,
        "reduce_max": None,
        "reduce_min": None,
    }
    start = _limit(dtype, name == "reduce_min") if starts[name] is None else starts[name]
    float_ops = {"reduce_sum": "fadd reassoc contract", "reduce_prod": "fmul reassoc"}
    int_ops = {"reduce_sum": "add", "reduce_prod": "mul", "reduce_or": "or", "reduce_and": "and"}

    def step(b: Block, acc: str, x: str) -> str:
        if name in ("reduce_max", "reduce_min"):
            return _CODE[name[7:]](b, [acc, x], kind, dtype, None)
        return b.op(f"{(float_ops if dtype.kind == 'f' else int_ops)[name]} {kind} {acc}, {x}")

    return constant(start, dtype), step
