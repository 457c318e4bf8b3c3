"""Checks a list of what a GPU is asked to do: all that is touched lies in memory that is there."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .instructions import (
    At,
    Choose,
    Clear,
    Copy,
    Instruction,
    LaunchPlan,
    Product,
    Repeat,
    Rule,
    Run,
)

__all__ = ["check_launches"]


def check_launches(plan: LaunchPlan) -> None:
    """Check that all that is touched lies inside of the memory that there is.

    Raises:
        ValueError: naming the instruction.
    """
    sizes = dict(enumerate((*plan.inputs, *plan.outputs, plan.arena, len(plan.constants))))
    _check(plan.instructions, sizes, plan)


def _check(instructions: Sequence[Instruction], sizes: dict[int, int], plan: LaunchPlan) -> None:
    def need(at: At, size: int, what: object) -> None:
        if at.base not in sizes:
            raise ValueError(f"r{at.base} holds nothing in: {what}")
        if not 0 <= at.offset <= at.offset + size <= max(sizes[at.base], at.offset * (not size)):
            raise ValueError(f"{size} bytes at {at} are not in r{at.base}'s memory: {what}")

    for x in instructions:
        inner = dict(sizes)
        if isinstance(x, Run):
            code = plan.codes[x.code]
            for at, size in zip(x.args, x.sizes, strict=True):
                need(at, size, x)
            need(x.args[-1], code.scratch, x)
        elif isinstance(x, Copy):
            need(x.target, x.nbytes, x)
            need(x.origin, x.nbytes, x)
        elif isinstance(x, Clear):
            need(x.target, x.nbytes, x)
        elif isinstance(x, Product):
            for at, size in zip((x.a, x.b, x.out), x.gemm.extents(), strict=True):
                need(at, size, x)
        elif isinstance(x, Rule):
            for at, shape, dtype in (*x.ins, *x.outs):
                need(at, math.prod(shape) * dtype.itemsize, x)
        elif isinstance(x, Choose):
            need(x.index, x.dtype.itemsize, "a branch")
            for branch in x.branches:
                _check(branch, sizes, plan)
        else:
            for c in x.carries:
                need(c.init, c.nbytes, "a loop")
                need(c.home, c.nbytes, "a loop")
                if c.spare is not None:
                    need(c.spare, c.nbytes, "a loop")
                inner |= {c.old: c.nbytes, c.new: c.nbytes}
            if isinstance(x, Repeat):
                for s in x.slices:
                    need(s.start, s.stride * x.length, "a loop")
                    inner[s.register] = s.stride
            else:
                _check(x.cond, inner, plan)
                need(x.holds, 1, "a loop")
            _check(x.body, inner, plan)
