"""Elements in the GPU's memory: how they lie there, and how they become values of a `CudaBlock`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..scalars.elements import HALVES, TYPES, bits_of_half, half_of_bits, joined, part_kind, parts
from .spelling import C_TYPES, CudaBlock, operand

__all__ = ["from_memory", "memory_type", "numbers", "to_memory"]


def numbers(dtype: np.dtype) -> int:
    """Return how many numbers an element is: two for a complex one."""
    return 2 if dtype.kind == "c" else 1


def memory_type(dtype: np.dtype) -> str:
    """Return the C type of the numbers of which elements are made."""
    if dtype.kind == "c":
        return part_kind(dtype)
    if dtype.kind == "b":
        return "u8"
    return "u16" if dtype in HALVES else C_TYPES[TYPES[dtype]]


def from_memory(b: CudaBlock, held: Sequence[str], dtype: np.dtype) -> str:
    """Return the value of an element, given the numbers that memory holds."""
    if dtype.kind == "c":
        return joined(b, held, part_kind(dtype))
    if dtype.kind == "b":
        return b.put("i1", f"{held[0]} != 0")
    return half_of_bits(b, held[0], dtype) if dtype in HALVES else held[0]


def to_memory(b: CudaBlock, value: str, dtype: np.dtype) -> list[str]:
    """Return the numbers that memory shall hold for a value."""
    kind = TYPES[dtype]
    if dtype.kind == "c":
        half = part_kind(dtype)
        return [operand(p, half) for p in parts(b, value, half)]
    if dtype.kind == "b":
        return [f"(u8){operand(value, kind)}"]
    if dtype in HALVES:
        return [operand(bits_of_half(b, value, dtype), "i16")]
    return [operand(value, kind)]
