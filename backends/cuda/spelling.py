"""Scalar code in CUDA C++: every LLVM instruction that formulas are written in, as one statement.

The formulas of `backends/scalars/` write instructions into a `Block`. A `CudaBlock` spells each of
them by a table, so that both machines compute with the same formulas. Integers have no sign in
LLVM: here they are unsigned, so that nothing about overflow is undefined, and instructions that
mean signed numbers convert. A complex number has no variable of its own: its parts have.

Modules are compiled without contraction (``-fmad=false``); what LLVM may contract, a sum with a
product that nobody rounds in between, is written as ``fma`` here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from ..scalars.block import Block
from ..scalars.math import Value

__all__ = ["C_TYPES", "CudaBlock", "operand"]

C_TYPES = {
    "i1": "bool",
    "i8": "u8",
    "i16": "u16",
    "i32": "u32",
    "i64": "u64",
    "i128": "u128",
    "half": "u16",  # its bits
    "float": "float",
    "double": "double",
}
"""The C type of a value, by its type in LLVM."""

_FLAGS = "(?:contract|reassoc|nnan|ninf|nsz|arcp|nuw|nsw|exact|fast)"
_KIND = r"(?:float|double|half|i\d+)"
_NAME = r"[-\w.]+"
_BINARY = re.compile(rf"(\w+)((?: {_FLAGS})*) ({_KIND}) ({_NAME}), ({_NAME})$")
_UNARY = re.compile(rf"(\w+)((?: {_FLAGS})*) ({_KIND}) ({_NAME})$")
_COMPARISON = re.compile(rf"[fi]cmp(?: {_FLAGS})* (\w+) ({_KIND}) ({_NAME}), ({_NAME})$")
_CAST = re.compile(rf"(\w+) ({_KIND}) ({_NAME}) to ({_KIND})$")
_PART = re.compile(r"extractvalue \{ (\w+), \w+ \} (.+), (\d)$")
_PAIR = re.compile(r"\{ (\w+) (\w+), \w+ (\w+) \}$")
_JOIN = re.compile(r"insertvalue \{ \w+, \w+ \} \S+, \w+ \S+, \d$")

# Of x and y; t is the type of both, s the signed one.
_ARITHMETIC = {
    "fadd": "{x} + {y}",
    "fsub": "{x} - {y}",
    "fmul": "{x} * {y}",
    "fdiv": "{x} / {y}",
    "add": "({t})({x} + {y})",
    "sub": "({t})({x} - {y})",
    "mul": "({t})({w}{x} * {y})",
    "and": "({t})({x} & {y})",
    "or": "({t})({x} | {y})",
    "xor": "({t})({x} ^ {y})",
    "shl": "({t})({w}{x} << {y})",
    "lshr": "({t})({x} >> {y})",
    "ashr": "({t})(({s}){x} >> {y})",
    "udiv": "({t})({x} / {y})",
    "urem": "({t})({x} % {y})",
    "sdiv": "({t})(({s}){x} / ({s}){y})",
    "srem": "({t})(({s}){x} % ({s}){y})",
}
_COMPARISONS = {
    "eq": "{x} == {y}",
    "ne": "{x} != {y}",
    "ult": "{x} < {y}",
    "ule": "{x} <= {y}",
    "ugt": "{x} > {y}",
    "uge": "{x} >= {y}",
    "slt": "({s}){x} < ({s}){y}",
    "sle": "({s}){x} <= ({s}){y}",
    "sgt": "({s}){x} > ({s}){y}",
    "sge": "({s}){x} >= ({s}){y}",
}
_FLOAT_COMPARISONS = {
    "oeq": "{x} == {y}",
    "une": "{x} != {y}",
    "olt": "{x} < {y}",
    "ole": "{x} <= {y}",
    "ogt": "{x} > {y}",
    "oge": "{x} >= {y}",
    "one": "{x} < {y} || {x} > {y}",
    "ueq": "!({x} < {y} || {x} > {y})",
    "ult": "!({x} >= {y})",
    "ule": "!({x} > {y})",
    "ugt": "!({x} <= {y})",
    "uge": "!({x} < {y})",
    "ord": "{x} == {x} && {y} == {y}",
    "uno": "{x} != {x} || {y} != {y}",
}
# Of x; t is the type to convert to, s that type with a sign, f the type of x with a sign.
_CASTS = {
    "zext": "({t}){x}",
    "trunc": "({t}){x}",
    "sext": "({t})({s})({f}){x}",
    "sitofp": "({t})({f}){x}",
    "uitofp": "({t}){x}",
    "fptosi": "({t})({s}){x}",
    "fptoui": "({t}){x}",
    "fpext": "({t}){x}",
    "fptrunc": "({t}){x}",
}
_BETWEEN = {
    ("fpext", "half", "float"): "float_of_half({x})",
    ("fptrunc", "float", "half"): "half_of_float({x})",
    ("bitcast", "half", "i16"): "{x}",
    ("bitcast", "i16", "half"): "{x}",
    ("bitcast", "float", "i32"): "__float_as_uint({x})",
    ("bitcast", "i32", "float"): "__uint_as_float({x})",
    ("bitcast", "double", "i64"): "(u64)__double_as_longlong({x})",
    ("bitcast", "i64", "double"): "__longlong_as_double((s64){x})",
    ("trunc", "i8", "i1"): "(bool)({x} & 1)",
    ("trunc", "i32", "i1"): "(bool)({x} & 1)",
    ("trunc", "i64", "i1"): "(bool)({x} & 1)",
}
# Functions by LLVM's name; {0}, {1}, ... are operands, {f} is 'f' for float and '' for double.
_CALLS = {
    "llvm.fabs": "fabs{f}({0})",
    "llvm.sqrt": "sqrt{f}({0})",
    "llvm.floor": "floor{f}({0})",
    "llvm.ceil": "ceil{f}({0})",
    "llvm.rint": "rint{f}({0})",
    "llvm.trunc": "trunc{f}({0})",
    "llvm.copysign": "copysign{f}({0}, {1})",
    "llvm.fma": "fma{f}({0}, {1}, {2})",
    "llvm.fmuladd": "fma{f}({0}, {1}, {2})",
    "llvm.maximum": "maximum_of({0}, {1})",
    "llvm.minimum": "minimum_of({0}, {1})",
    "llvm.abs": "({s}){0} < 0 ? ({t})(0 - {0}) : {0}",
    "llvm.smax": "({s}){0} > ({s}){1} ? {0} : {1}",
    "llvm.smin": "({s}){0} < ({s}){1} ? {0} : {1}",
    "llvm.umax": "{0} > {1} ? {0} : {1}",
    "llvm.umin": "{0} < {1} ? {0} : {1}",
    "llvm.ctpop": "({t})bits_set({0})",
    "llvm.ctlz": "({t})leading_zeros({0})",
    "llvm.fshl": "funnel_left({0}, {1}, {2})",
    "fmodf": "fmodf({0}, {1})",
    "fmod": "fmod({0}, {1})",
}
_CONTRACTED = {"fadd": ("", ""), "fsub": ("-", "")}


def signed(kind: str) -> str:
    """Return the signed C type of an integer type; a bool is -1 or 0."""
    return "int" if kind == "i1" else "s" + kind[1:]


def literal(value: float, kind: str) -> str:
    """Return C's spelling of a float constant."""
    f = "f" if kind == "float" else ""
    if math.isnan(value):
        return f"nan{f}_number()"
    if math.isinf(value):
        return f"{'-' if value < 0 else ''}infinity{f}()"
    text = repr(float(value)) + f
    return f"({text})" if text.startswith("-") else text


def operand(name: str, kind: str) -> str:
    """Return C's spelling of an operand: a variable, or a constant as LLVM spells it."""
    if name[0].isalpha() or name[0] == "_":
        return name
    if kind in ("float", "double"):
        bits = np.array(int(name, 16), np.uint64)
        return literal(float(bits.view(np.float64)), kind)
    width = int(kind[1:])
    value = int(name) % (1 << width)
    if width <= 16:
        return f"({C_TYPES[kind]}){value}"
    if width == 128:
        return f"((u128){value >> 64}ull << 64 | {value % (1 << 64)}ull)"
    return f"{value}{'u' if width == 32 else 'ull'}"


class CudaBlock(Block):
    """The statements of one function of CUDA C++; methods that make a value return its name."""

    def __init__(self, indent: str = "  ") -> None:
        super().__init__()
        self.indent = indent
        self.products: dict[str, tuple[str, str]] = {}  # by name, the factors of what may contract

    def name(self, stem: str = "v") -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def do(self, text: str) -> None:
        self.lines.append(self.indent + text)

    @contextmanager
    def braces(self, head: str = "") -> Iterator[None]:
        """Write a head and what the body of the with-statement writes, in braces."""
        self.do(f"{head} {{".lstrip())
        self.indent += "  "
        yield
        self.indent = self.indent[2:]
        self.do("}")

    def put(self, kind: str, expression: str) -> str:
        """Write a new constant variable of an LLVM type."""
        out = self.name()
        self.do(f"const {C_TYPES[kind]} {out} = {expression};")
        return out

    # ---------------------------------------------------------------- instructions
    def op(self, text: str) -> str:
        for pattern, write in _PATTERNS:
            if found := pattern.match(text):
                return write(self, found)
        raise NotImplementedError(f"the instruction {text!r} has no spelling in CUDA C++")

    def binary(self, found: re.Match[str]) -> str:
        name, flags, kind, x, y = found.groups()
        x, y = operand(x, kind), operand(y, kind)
        if "contract" in flags and (text := self.contracted(name, kind, x, y)):
            return self.put(kind, text)
        wide = "(u32)" if kind in ("i8", "i16") else ""  # C would multiply shorts as signed ints
        sign = "" if kind in ("float", "double") else signed(kind)
        text = _ARITHMETIC[name].format(x=x, y=y, t=C_TYPES[kind], s=sign, w=wide)
        out = self.put(kind, text)
        if name == "fmul" and "contract" in flags:
            self.products[out] = x, y
        return out

    def contracted(self, name: str, kind: str, x: str, y: str) -> str | None:
        """Return a sum with a product as one operation, if it is that."""
        if name not in ("fadd", "fsub") or x == y:
            return None
        f, minus = "f" if kind == "float" else "", "-" if name == "fsub" else ""
        if x in self.products:
            p, q = self.products[x]
            return f"fma{f}({p}, {q}, {minus}{y})"
        if y in self.products:
            p, q = self.products[y]
            return f"fma{f}({minus}{p}, {q}, {x})"
        return None

    def unary(self, found: re.Match[str]) -> str:
        name, _, kind, x = found.groups()
        assert name == "fneg", name
        return self.put(kind, f"-{operand(x, kind)}")

    def comparison(self, found: re.Match[str]) -> str:
        condition, kind, x, y = found.groups()
        real = kind in ("float", "double")
        table, sign = (_FLOAT_COMPARISONS, "") if real else (_COMPARISONS, signed(kind))
        text = table[condition].format(x=operand(x, kind), y=operand(y, kind), s=sign)
        return self.put("i1", text)

    def cast(self, found: re.Match[str]) -> str:
        name, kind, x, to = found.groups()
        same = "{x}" if kind == to else None
        text = _BETWEEN.get((name, kind, to)) or same or _CASTS[name]
        sign = {k: signed(k) if k.startswith("i") else "" for k in (kind, to)}
        minus = "-" if kind == "i1" and name in ("sext", "sitofp") else ""
        x = minus + operand(x, kind)
        return self.put(to, text.format(x=x, t=C_TYPES[to], s=sign[to], f=sign[kind]))

    def part(self, found: re.Match[str]) -> str:
        _, whole, k = found.groups()
        pair = _PAIR.match(whole)
        assert pair, whole  # the parts of what is no constant are known
        return pair.group(2 + int(k))

    def join(self, found: re.Match[str]) -> str:
        return self.name("z")  # who joins parts says so in `parts`

    # ---------------------------------------------------------------- the rest of a block
    def bfloat16(self, value: str) -> str:
        return self.put("float", f"bfloat_near({operand(value, 'float')})")

    def select(self, cond: str, yes: str, no: str, kind: str) -> str:
        yes, no = operand(yes, kind), operand(no, kind)
        return self.put(kind, f"{operand(cond, 'i1')} ? {yes} : {no}")

    def call(
        self,
        function: str,
        args: Sequence[str],
        kind: str,
        flags: Sequence[str] = (),
        fast: str = "",
    ) -> str:
        given = [operand(a, kind) for a in args]
        f, sign = "f" if kind == "float" else "", signed(kind) if kind.startswith("i") else ""
        text = _CALLS[function].format(*given, f=f, t=C_TYPES[kind], s=sign)
        return self.put(kind, text)

    def entry(self, table: str, words: Sequence[int], at: str) -> str:
        symbol = table.replace(".", "_")
        held = ", ".join(f"{w}ull" for w in words)
        self.declared[symbol] = f"__constant__ u64 {symbol}[{len(words)}] = {{{held}}};"
        return self.put("i64", f"{symbol}[{operand(at, 'i64')}]")

    def rarely(
        self,
        name: str,
        rare: Callable[..., Value],
        slow: Callable[..., Value],
        fast: Value,
        *args: Value,
    ) -> Value:
        """Return ``slow(*args)`` where ``rare(*args)`` holds, else ``fast``: by a branch."""
        kind, function = fast.kind, f"funtorch_{name}_{fast.kind}"
        if function not in self.declared:
            work = CudaBlock()
            given = [Value(work, f"x{k}", kind) for k in range(len(args))]
            out = slow(*given)
            taken = ", ".join(f"const {C_TYPES[kind]} {v.name}" for v in given)
            head = f"static __device__ __noinline__ {C_TYPES[kind]} {function}({taken}) {{"
            lines = [head, *work.lines, f"  return {operand(out.name, kind)};", "}"]
            self.declared.update(work.declared)
            self.declared[function] = "\n".join(lines)
        found, out = rare(*args), self.name()
        held = ", ".join(operand(a.name, kind) for a in args)
        self.do(f"{C_TYPES[kind]} {out} = {operand(fast.name, kind)};")
        self.do(f"if ({operand(found.name, 'i1')}) {out} = {function}({held});")
        return Value(self, out, kind)


_PATTERNS: tuple[tuple[re.Pattern[str], Callable[[CudaBlock, re.Match[str]], str]], ...] = (
    (_COMPARISON, CudaBlock.comparison),
    (_CAST, CudaBlock.cast),
    (_BINARY, CudaBlock.binary),
    (_UNARY, CudaBlock.unary),
    (_PART, CudaBlock.part),
    (_JOIN, CudaBlock.join),
)
