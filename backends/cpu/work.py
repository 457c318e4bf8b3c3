"""How much there is to do: what decides whether threads are worth it, and who may wait."""

from __future__ import annotations

import functools
import math

from funtorch.dims import larger

from ..kernel import Kernel
from ..plan import (
    Branch,
    Conv,
    Dot,
    Fourier,
    Launch,
    Library,
    Nothing,
    Plan,
    Running,
    Scan,
    Sort,
    Table,
    Talk,
    Wait,
    While,
    plans_of,
)

__all__ = ["ends", "kernel_work", "work_of"]


def kernel_work(kernel: Kernel) -> int:
    """Estimate the scalar operations of a kernel."""
    return math.prod(kernel.sizes) * max(len(kernel.body), 1)


def work_of(plan: Plan) -> int:
    """Estimate the scalar operations of a plan; a loop of unknown length counts 64 times."""
    total = 0
    for step in plan.steps:
        inner = [work_of(p) for p in plans_of(step)]
        if isinstance(step, (Dot, Conv)) and step.after is not None:
            total += kernel_work(step.after.launch.kernel)
        if isinstance(step, Launch):
            total += kernel_work(step.kernel)
        elif isinstance(step, Dot):
            total += step.products // 8
        elif isinstance(step, Conv):
            total += sum(c.products for c in step.parts) // 8
        elif isinstance(step, Fourier):
            total += 8 * step.batch * step.n * step.inner * len(step.radices)
        elif isinstance(step, Table):
            total += step.out.aval.size
        elif isinstance(step, (Nothing, Talk, Wait)):
            continue
        elif isinstance(step, Running):
            total += 2 * step.rows * step.n
        elif isinstance(step, Sort):
            total += 16 * step.rows * step.n
        elif isinstance(step, Library):
            total += int(step.batch * step.recipe.flops) // 8
        elif isinstance(step, Branch):
            total += functools.reduce(larger, inner)
        else:
            times = step.eqn.params["length"] if isinstance(step, Scan) else 64
            total += times * sum(inner)
    return total


def ends(plan: Plan) -> bool:
    """Tell whether a plan's loops are all of known length."""
    return not any(
        isinstance(step, While) or not all(map(ends, plans_of(step))) for step in plan.steps
    )
