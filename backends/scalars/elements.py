"""Elements in memory and in registers: their types, loads, stores, constants.

A bool is a byte in memory and one bit in registers. A complex number is two numbers in memory and
a structure of two in registers, which LLVM takes apart; a `Block` remembers the parts. The 16-bit
floats, float16 and bfloat16, are only storage: in registers they are float32 numbers, which every
operation rounds to the narrow format again, so that compiled programs compute what eager ones do.

References:
    bfloat16 is the upper half of a float32: rounding half to even is an integer addition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from .block import Block
from .math import Value, number, select

__all__ = [
    "BFLOAT16",
    "FLOAT16",
    "HALVES",
    "MEMORY",
    "TYPES",
    "bits_of_half",
    "constant",
    "half_of_bits",
    "joined",
    "load_value",
    "mark_exact",
    "narrow",
    "part_kind",
    "parts",
    "register_dtype",
    "store_value",
]

FLOAT16, BFLOAT16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
HALVES = (FLOAT16, BFLOAT16)

TYPES = {
    np.dtype("bool"): "i1",
    FLOAT16: "float",
    BFLOAT16: "float",
    np.dtype("float32"): "float",
    np.dtype("float64"): "double",
    np.dtype("complex64"): "{ float, float }",
    np.dtype("complex128"): "{ double, double }",
    **{np.dtype(f"{u}int{w}"): f"i{w}" for u in ("", "u") for w in (8, 16, 32, 64)},
}
"""The type of a value in registers."""

MEMORY = {**TYPES, np.dtype("bool"): "i8", FLOAT16: "half", BFLOAT16: "i16"}
"""The type of an element in memory."""


def register_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype that values are computed in."""
    return np.dtype("float32") if dtype in HALVES else dtype


def load_value(b: Block, pointer: str, dtype: np.dtype) -> str:
    """Read one element at a pointer; return the value in registers."""
    if dtype.kind == "c":
        kind = part_kind(dtype)
        at = b.op(f"getelementptr inbounds {kind}, ptr {pointer}, i64 1")
        return joined(b, [b.op(f"load {kind}, ptr {p}, align 1") for p in (pointer, at)], kind)
    found = b.op(f"load {MEMORY[dtype]}, ptr {pointer}, align 1")
    if dtype.kind == "b":
        return b.op(f"icmp ne i8 {found}, 0")
    if dtype == FLOAT16:
        return mark_exact(b, b.op(f"fpext half {found} to float"), dtype)
    return half_of_bits(b, found, dtype) if dtype == BFLOAT16 else found


def store_value(b: Block, pointer: str, dtype: np.dtype, value: str) -> None:
    """Write one value to the element at a pointer; 16-bit floats are rounded if need be."""
    if dtype.kind == "c":
        kind = part_kind(dtype)
        at = b.op(f"getelementptr inbounds {kind}, ptr {pointer}, i64 1")
        for p, part in zip((pointer, at), parts(b, value, kind), strict=True):
            b.do(f"store {kind} {part}, ptr {p}, align 1")
        return
    if dtype.kind == "b":
        value = b.op(f"zext i1 {value} to i8")
    elif dtype == FLOAT16:
        value = b.op(f"fptrunc float {value} to half")
    elif dtype == BFLOAT16:
        value = bits_of_half(b, value, dtype)
    b.do(f"store {MEMORY[dtype]} {value}, ptr {pointer}, align 1")


def constant(value: Any, dtype: np.dtype) -> str:
    """Return LLVM's spelling of a constant."""
    if TYPES[dtype] in ("float", "double"):
        return number(value, TYPES[dtype])
    if dtype.kind == "c":
        kind, z = part_kind(dtype), complex(value)
        return f"{{ {kind} {number(z.real, kind)}, {kind} {number(z.imag, kind)} }}"
    if dtype.kind == "b":
        return "true" if value else "false"
    return str(int(value))


# ---------------------------------------------------------------------- complex numbers
def part_kind(dtype: np.dtype) -> str:
    """Return the type of a complex number's parts."""
    return "float" if dtype.itemsize == 8 else "double"


def joined(b: Block, found: Sequence[str], kind: str) -> str:
    """Return a real and an imaginary part as one value."""
    re, im = found
    whole = f"{{ {kind}, {kind} }}"
    half = b.op(f"insertvalue {whole} poison, {kind} {re}, 0")
    out = b.op(f"insertvalue {whole} {half}, {kind} {im}, 1")
    b.parts[out] = re, im
    return out


def parts(b: Block, value: str, kind: str) -> tuple[str, str]:
    """Return the parts of a complex value."""
    if value in b.parts:
        return b.parts[value]
    re, im = (b.op(f"extractvalue {{ {kind}, {kind} }} {value}, {k}") for k in (0, 1))
    return re, im


# ---------------------------------------------------------------------- 16-bit floats
def mark_exact(b: Block, value: str, dtype: np.dtype) -> str:
    """Remember that a float32 value is a number of a 16-bit format already."""
    b.exact.add((value, dtype.name))
    return value


def narrow(b: Block, value: str, dtype: np.dtype) -> str:
    """Round a float32 value to a 16-bit format, half to even; it stays in a float32 register."""
    if (value, dtype.name) in b.exact:
        return value
    if dtype == FLOAT16:
        half = b.op(f"fptrunc float {value} to half")
        return mark_exact(b, b.op(f"fpext half {half} to float"), dtype)
    if b.bfloat16 is not None:
        return mark_exact(b, b.bfloat16(value), dtype)
    x = Value(b, value, "float")
    bits = x.bits()
    rounded = bits + ((bits.lshr(16) & 1) + 0x7FFF)
    kept = select(x.is_nan(), bits | 0x400000, rounded)  # a quiet nan, whatever is cut off
    return mark_exact(b, (kept & -0x10000).unbits().name, dtype)


def bits_of_half(b: Block, value: str, dtype: np.dtype) -> str:
    """Return the i16 of a 16-bit float in a register."""
    value = narrow(b, value, dtype)
    if dtype == FLOAT16:
        return b.op(f"bitcast half {b.op(f'fptrunc float {value} to half')} to i16")
    return Value(b, value, "float").bits().lshr(16).cast("trunc", "i16").name


def half_of_bits(b: Block, bits: str, dtype: np.dtype) -> str:
    """Return the 16-bit float of an i16 in a register."""
    if dtype == FLOAT16:
        half = b.op(f"bitcast i16 {bits} to half")
        return mark_exact(b, b.op(f"fpext half {half} to float"), dtype)
    wide = Value(b, bits, "i16").cast("zext", "i32") << 16
    return mark_exact(b, wide.unbits().name, dtype)
