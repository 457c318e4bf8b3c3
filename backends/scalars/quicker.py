"""Kernels in quicker operations: what is known of values and of rows spares instructions.

Three things are known here that scalar code cannot see: that a value is never positive, so that its
exponential neither overflows nor needs two scalings; that a divisor serves many dividends, so that
one division of 1 by it, and products, give their quotients; and that integers are divided many at a
time, for which processors have no instruction, but one for floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..kernel import Affine, Kernel, Op, levels

__all__ = ["HEAVY", "quicker"]

HEAVY = frozenset(
    ("exp_of_negative", "division_scale", "quotient", "div_in_floats", "rem_in_floats")
)
"""Those of the operations written here that are dearer than memory traffic."""

_FEW = 8  # dividends for which it is not worth preparing their divisor
_FLOATS = (np.dtype("float32"), np.dtype("float64"))


class _Signs:
    """Tells whether values of a kernel are never negative, or never positive; nan is neither."""

    def __init__(self, body: tuple[Op, ...]) -> None:
        self.body = body
        self.known: dict[int, int] = {}

    def sign(self, n: int) -> int:
        """Return 1 if a value is at least 0 or nan, -1 if it is at most 0 or nan, else 0."""
        if n not in self.known:
            op = self.body[n]
            self.known[n] = _SIGNS[op.name](self, op) if op.name in _SIGNS else 0
        return self.known[n]

    def const(self, op: Op) -> int:
        if op.dtype.kind not in "fiu":
            return 0
        return 1 if op.attr >= 0 else -1 if op.attr < 0 else 0

    def same(self, op: Op) -> int:
        return self.sign(op.args[0])

    def opposite(self, op: Op) -> int:
        return -self.sign(op.args[0])

    def product(self, op: Op) -> int:
        x, y = op.args
        return 1 if x == y else self.sign(x) * self.sign(y)

    def agreed(self, op: Op) -> int:
        x, y = (self.sign(a) for a in op.args[-2:])
        return x if x == y else 0

    def difference(self, op: Op) -> int:
        x, y = op.args
        best = self.body[y]
        if best.name == "reduce" and best.args == (x,):
            return {"reduce_max": -1, "reduce_min": 1}.get(str(best.attr), 0)
        sign = self.sign(x)
        return sign if sign == -self.sign(y) else 0

    def reduced(self, op: Op) -> int:
        sums = ("reduce_sum", "reduce_max", "reduce_min")
        return self.sign(op.args[0]) if op.attr in sums else 0


_SIGNS: dict[str, Callable[[_Signs, Op], int]] = {
    "const": _Signs.const,
    **dict.fromkeys(("copy", "stop_gradient"), _Signs.same),
    "neg": _Signs.opposite,
    **dict.fromkeys(("square", "abs", "exp", "sqrt", "logistic"), lambda signs, op: 1),
    **dict.fromkeys(("mul", "div"), _Signs.product),
    **dict.fromkeys(("add", "max", "min", "select"), _Signs.agreed),
    "sub": _Signs.difference,
    "reduce": _Signs.reduced,
}
"""How the sign of a result follows from those of its operands. Integers may overflow, but only
floats are asked about, and floats are made of them by 'convert', which has no row."""


def quicker(kernel: Kernel) -> Kernel:
    """Return a kernel that computes the same: exponentials and quotients to the last place."""
    if not any(op.name in ("exp", "div", "rem") for op in kernel.body):
        return kernel
    many = int(math.prod(kernel.sizes)) > _FEW
    signs, shared = _Signs(kernel.body), _shared(kernel)
    body: list[Op] = []
    number: dict[int, int] = {}
    divisors: dict[int, tuple[int, ...]] = {}

    def emit(name: str, args: tuple[int, ...], op: Op, attr: object = None) -> int:
        body.append(Op(name, args, op.dtype, attr))
        return len(body) - 1

    for n, op in enumerate(kernel.body):
        args = tuple(number[a] for a in op.args)
        if op.name == "exp" and signs.sign(op.args[0]) < 0 and op.dtype.kind != "c":
            number[n] = emit("exp_of_negative", args, op)
        elif op.name == "div" and op.dtype in _FLOATS and shared(*op.args):
            if args[1] not in divisors:
                scale = emit("division_scale", args[1:], op)
                scaled = emit("mul", (args[1], scale), op)
                divisors[args[1]] = scale, scaled, emit("reciprocal", (scaled,), op)
            scale, scaled, inverse = divisors[args[1]]
            dividend = emit("mul", (args[0], scale), op)
            number[n] = emit("quotient", (dividend, scaled, inverse), op)
        elif op.name in ("div", "rem") and many and _is_slow(op, kernel.body[op.args[1]]):
            number[n] = emit(f"{op.name}_in_floats", args, op)
        else:
            body.append(replace(op, args=args, where=_moved(op.where, number)))
            number[n] = len(body) - 1
    stores = tuple(
        replace(
            s,
            value=number[s.value],
            mask=None if s.mask is None else number[s.mask],
            where=_moved(s.where, number),
        )
        for s in kernel.stores
    )
    return replace(kernel, body=tuple(body), stores=stores)


def _is_slow(op: Op, divisor: Op) -> bool:
    """Tell whether a division is one of integers; a known divisor is multiplied with."""
    return op.dtype.kind in "iu" and op.dtype.itemsize <= 4 and divisor.name != "const"


def _moved(where: Affine | None, number: dict[int, int]) -> Affine | None:
    if where is None or not where.dynamic:
        return where
    return replace(where, dynamic=tuple((number[n], s) for n, s in where.dynamic))


def _shared(kernel: Kernel) -> Callable[[int, int], bool]:
    """Return what tells whether a dividend is one of many of a divisor."""
    _, element = levels(kernel)
    if any(kernel.inner):
        count = [n for n, r in zip(kernel.sizes, kernel.inner, strict=True) if r]
        return lambda x, y: element[x] and not element[y] and int(math.prod(count)) > _FEW
    last = replace(kernel, inner=(False,) * (len(kernel.sizes) - 1) + (True,))
    if not kernel.sizes or int(kernel.sizes[-1]) <= _FEW:
        return lambda x, y: False
    _, along = levels(last)
    return lambda x, y: along[x] and not along[y]
