"""Reductions as scalar code: what is accumulated, how values join it, what comes out of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .elements import HALVES, joined, narrow, part_kind, parts
from .math import number
from .scalar import TYPES, Block, constant, scalar

__all__ = ["Reduction", "reduction"]

States = list[str]


@dataclass(frozen=True)
class Reduction:
    """The code of one reduction.

    Attributes:
        kinds: LLVM types of its accumulators.
        starts: what they are before the first value.
        take: writes how one more value changes them.
        join: writes how two sets of them become one.
        end: writes the result.
    """

    kinds: tuple[str, ...]
    starts: tuple[str, ...]
    take: Callable[[Block, Sequence[str], str], States]
    join: Callable[[Block, Sequence[str], Sequence[str]], States]
    end: Callable[[Block, Sequence[str]], str]


# Sums may be added up in any order: that is what makes them vectorise.
_FLOAT = {"reduce_sum": "fadd reassoc contract", "reduce_prod": "fmul reassoc"}
_WHOLE = {
    "reduce_sum": "add",
    "reduce_prod": "mul",
    "reduce_or": "or",
    "reduce_and": "and",
    "reduce_xor": "xor",
}
_STARTS: dict[str, float] = {
    "reduce_sum": 0,
    "reduce_prod": 1,
    "reduce_or": 0,
    "reduce_and": -1,
    "reduce_xor": 0,
}
_STARTS["reduce_logaddexp"] = -math.inf


def _limit(dtype: np.dtype, largest: bool) -> Any:
    if dtype.kind == "f":
        return math.inf if largest else -math.inf
    if dtype.kind == "b":
        return largest
    return np.iinfo(dtype).max if largest else np.iinfo(dtype).min


def reduction(name: str, dtype: np.dtype, in_registers: bool) -> Reduction:
    """Return the code of a reduction of values of ``dtype``; 16-bit floats accumulate in float32.

    Args:
        in_registers: whether the accumulators are carried from one turn of a loop to the next. LLVM
            vectorises such a maximum of floats only if no nan can come, so whether one came is
            accumulated beside it.
    """
    if dtype in HALVES:
        wide = reduction(name, np.dtype("float32"), in_registers)
        return replace(wide, end=lambda b, acc: narrow(b, wide.end(b, acc), dtype))
    kind = TYPES[dtype]
    real, extreme = dtype.kind == "f", name in ("reduce_max", "reduce_min")
    by_name = extreme or name == "reduce_logaddexp"
    start = _limit(dtype, name == "reduce_min") if extreme else _STARTS[name]
    first = constant(bool(start) if dtype.kind == "b" else start, dtype)
    if real and extreme:
        return (_flagged if in_registers else _extremum)(name, kind, first)

    def take(b: Block, acc: Sequence[str], x: str) -> States:
        if by_name:
            return [scalar(b, name[7:], [acc[0], x], [dtype, dtype], None)]
        if dtype.kind == "c" and name == "reduce_prod":
            return [scalar(b, "mul", [acc[0], x], [dtype, dtype], None)]
        if dtype.kind == "c":
            half = part_kind(dtype)
            both = zip(parts(b, acc[0], half), parts(b, x, half), strict=True)
            return [joined(b, [b.op(f"{_FLOAT[name]} {half} {p}, {q}") for p, q in both], half)]
        return [b.op(f"{(_FLOAT if real else _WHOLE)[name]} {kind} {acc[0]}, {x}")]

    return Reduction(
        (kind,), (first,), take, lambda b, p, q: take(b, p, q[0]), lambda b, acc: acc[0]
    )


def _extremum(name: str, kind: str, start: str) -> Reduction:
    """Return a maximum or minimum of floats that keeps nan, in one accumulator."""
    function = "llvm.maximum" if name == "reduce_max" else "llvm.minimum"

    def take(b: Block, acc: Sequence[str], x: str) -> States:
        return [b.call(function, [acc[0], x], kind, fast="nsz")]

    return Reduction(
        (kind,), (start,), take, lambda b, p, q: take(b, p, q[0]), lambda b, acc: acc[0]
    )


def _flagged(name: str, kind: str, start: str) -> Reduction:
    """Return a maximum or minimum of floats in two accumulators: the best, and if a nan came."""
    better = "ogt" if name == "reduce_max" else "olt"

    def best(b: Block, p: str, q: str) -> str:
        found = b.op(f"fcmp nnan nsz {better} {kind} {p}, {q}")
        return b.op(f"select nnan nsz i1 {found}, {kind} {p}, {kind} {q}")

    def take(b: Block, acc: Sequence[str], x: str) -> States:
        nan = b.op(f"fcmp uno {kind} {x}, {number(0, kind)}")
        return [best(b, acc[0], x), b.op(f"or i1 {acc[1]}, {nan}")]

    def join(b: Block, p: Sequence[str], q: Sequence[str]) -> States:
        return [best(b, p[0], q[0]), b.op(f"or i1 {p[1]}, {q[1]}")]

    def end(b: Block, acc: Sequence[str]) -> str:
        return b.select(acc[1], number(math.nan, kind), acc[0], kind)

    return Reduction((kind, "i1"), (start, "false"), take, join, end)
