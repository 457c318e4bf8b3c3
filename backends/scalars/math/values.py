"""Values with operators, so that formulas read as formulas: what `math` is written with.

A `Value` is the name of an LLVM value in a `Block` and its element type. Python numbers stand for
constants of the other operand's type. Nothing is contracted or reordered: sums and products round
where they are written, `mad` may round once or twice, `fma` rounds once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..block import Block

__all__ = [
    "FORMATS",
    "Format",
    "Value",
    "absolute",
    "copysign",
    "fma",
    "mad",
    "maximum",
    "minimum",
    "number",
    "poly",
    "select",
    "sqrt",
]


@dataclass(frozen=True)
class Format:
    """What formulas need to know of a float format.

    Attributes:
        ints: the integer type of the same width.
        mantissa: bits of the mantissa, without the leading one.
        bias: what is added to exponents.
        magic: adding it to a small number leaves the number's rounded integer in the low bits.
        tiny: the least normal number.
    """

    ints: str
    mantissa: int
    bias: int

    @property
    def width(self) -> int:
        return int(self.ints[1:])

    @property
    def magic(self) -> float:
        return 1.5 * 2.0**self.mantissa

    @property
    def tiny(self) -> float:
        return 2.0 ** (1 - self.bias)


FORMATS = {"float": Format("i32", 23, 127), "double": Format("i64", 52, 1023)}
_OF_INTS = {f.ints: kind for kind, f in FORMATS.items()}


def number(value: float, kind: str) -> str:
    """Return LLVM's spelling of a float constant: the bits of the double it equals."""
    rounded = np.float64(np.float32(value) if kind == "float" else value)
    return f"0x{int(rounded.view(np.uint64)):016X}"


class Value:
    """An LLVM value of an element type: float, double, i1 or an integer type."""

    __slots__ = ("b", "kind", "name")

    def __init__(self, b: Block, name: str, kind: str) -> None:
        self.b = b
        self.name = name
        self.kind = kind

    @property
    def type(self) -> str:
        return self.b.type(self.kind)

    @property
    def format(self) -> Format:
        return FORMATS[self.kind]

    @property
    def is_float(self) -> bool:
        return self.kind in FORMATS

    def constant(self, value: float, kind: str) -> Value:
        """Return a number as a constant of an element type, in this value's block."""
        text = number(value, kind) if kind in FORMATS else str(int(value))
        return Value(self.b, f"splat ({kind} {text})" if self.b.lanes else text, kind)

    def like(self, other: Any) -> Value:
        """Return a number as a constant of this value's type; values pass."""
        return other if isinstance(other, Value) else self.constant(other, self.kind)

    def op(self, instruction: str, *others: Any) -> Value:
        """Write an instruction on this value and others of its type, giving one of its type."""
        names = ", ".join([self.name, *(self.like(o).name for o in others)])
        return Value(self.b, self.b.op(f"{instruction} {self.type} {names}"), self.kind)

    def cast(self, instruction: str, kind: str) -> Value:
        text = f"{instruction} {self.type} {self.name} to {self.b.type(kind)}"
        return Value(self.b, self.b.op(text), kind)

    def call(self, function: str, *others: Any, flags: Sequence[str] = ()) -> Value:
        names = [self.name, *(self.like(o).name for o in others)]
        return Value(self.b, self.b.call(function, names, self.kind, flags), self.kind)

    # ---------------------------------------------------------------- arithmetic
    def __add__(self, other: Any) -> Value:
        return self.op("fadd" if self.is_float else "add", other)

    def __radd__(self, other: Any) -> Value:
        return self + other

    def __sub__(self, other: Any) -> Value:
        return self.op("fsub" if self.is_float else "sub", other)

    def __rsub__(self, other: Any) -> Value:
        return self.like(other) - self

    def __mul__(self, other: Any) -> Value:
        return self.op("fmul" if self.is_float else "mul", other)

    def __rmul__(self, other: Any) -> Value:
        return self * other

    def __truediv__(self, other: Any) -> Value:
        return self.op("fdiv", other)

    def __rtruediv__(self, other: Any) -> Value:
        return self.like(other) / self

    def __neg__(self) -> Value:
        return self.op("fneg") if self.is_float else self.like(0) - self

    # ---------------------------------------------------------------- bits
    def __and__(self, other: Any) -> Value:
        return self.op("and", other)

    def __or__(self, other: Any) -> Value:
        return self.op("or", other)

    def __xor__(self, other: Any) -> Value:
        return self.op("xor", other)

    def __lshift__(self, other: Any) -> Value:
        return self.op("shl", other)

    def __rshift__(self, other: Any) -> Value:
        return self.op("ashr", other)

    def lshr(self, other: Any) -> Value:
        return self.op("lshr", other)

    def __invert__(self) -> Value:
        return self.op("xor", 1 if self.kind == "i1" else -1)

    def bits(self) -> Value:
        """Return the bits of a float as an integer."""
        return self.cast("bitcast", self.format.ints)

    def unbits(self) -> Value:
        """Return the float of an integer's bits."""
        return self.cast("bitcast", _OF_INTS[self.kind])

    def to_float(self) -> Value:
        """Convert a signed integer to the float of its width."""
        return self.cast("sitofp", _OF_INTS[self.kind])

    # ---------------------------------------------------------------- comparisons
    def cmp(self, condition: str, other: Any) -> Value:
        """Compare: 'olt', 'une', ... of floats, 'slt', 'ne', ... of integers."""
        instruction = "fcmp" if self.is_float else "icmp"
        text = f"{instruction} {condition} {self.type} {self.name}, {self.like(other).name}"
        return Value(self.b, self.b.op(text), "i1")

    def __lt__(self, other: Any) -> Value:
        return self.cmp("olt" if self.is_float else "slt", other)

    def __le__(self, other: Any) -> Value:
        return self.cmp("ole" if self.is_float else "sle", other)

    def __gt__(self, other: Any) -> Value:
        return self.cmp("ogt" if self.is_float else "sgt", other)

    def __ge__(self, other: Any) -> Value:
        return self.cmp("oge" if self.is_float else "sge", other)

    def equals(self, other: Any) -> Value:
        return self.cmp("oeq" if self.is_float else "eq", other)

    def is_nan(self) -> Value:
        return self.cmp("uno", self)


def select(cond: Value, yes: Any, no: Any) -> Value:
    """Return ``yes`` where the condition holds, else ``no``; one of them is a `Value`."""
    pattern = yes if isinstance(yes, Value) else no
    names = pattern.like(yes).name, pattern.like(no).name
    return Value(pattern.b, pattern.b.select(cond.name, *names, pattern.kind), pattern.kind)


def absolute(x: Value) -> Value:
    return x.call("llvm.fabs")


def sqrt(x: Value) -> Value:
    return x.call("llvm.sqrt")


def copysign(size: Value, sign: Value) -> Value:
    return size.call("llvm.copysign", sign)


def minimum(x: Value, y: Any) -> Value:
    """Return the lesser of two; ``y`` where x is nan. One instruction on x86."""
    return select(x < y, x, y)


def maximum(x: Value, y: Any) -> Value:
    """Return the greater of two; ``y`` where x is nan. One instruction on x86."""
    return select(x > y, x, y)


def fma(x: Value, y: Any, z: Any) -> Value:
    """Return ``x * y + z``, rounded once."""
    return x.call("llvm.fma", y, z)


def mad(x: Value, y: Any, z: Any) -> Value:
    """Return ``x * y + z``, rounded once where that is quick, else twice."""
    return x.call("llvm.fmuladd", y, z)


def poly(x: Value, coefficients: Sequence[float]) -> Value:
    """Return ``c[0] + c[1] x + ...`` by Horner's rule."""
    total = x.like(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = mad(x, total, c)
    return total
