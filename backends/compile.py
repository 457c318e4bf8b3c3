"""From a jaxpr to a callable: fuse, lay out, print, load."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from funtorch.config import config
from funtorch.jaxpr import Jaxpr

from .cpu.program import print_program
from .cpu.runtime import bind, load, object_code
from .eager import eager_program
from .fuse import fuse
from .layout import lay_out
from .plan import Call, Plan, Step, plans_of

__all__ = ["compile_jaxpr", "plan_of"]


def plan_of(jaxpr: Jaxpr) -> Plan:
    """Return the steps that a simplified program is compiled to."""
    return fuse(jaxpr)


def compile_jaxpr(
    jaxpr: Jaxpr, donated: frozenset[int] = frozenset()
) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """Return a function from a jaxpr's input buffers to its output buffers.

    What has scalar code or a BLAS call becomes native code, loops and branches too; the rest runs
    by its eager rules.

    Args:
        jaxpr: the program, simplified; its consts are concrete arrays.
        donated: positions of the inputs whose memory may be reused for outputs.

    Returns:
        the function; a native one has ``memory``, what its runs need.
    """
    start = time.perf_counter()
    plan = plan_of(jaxpr)
    if config.debug >= 3:
        print(plan, file=sys.stderr)
    if all(isinstance(step, Call) for step in plan.steps):
        return eager_program(jaxpr)
    layout = lay_out(plan, donated)
    if config.debug >= 3:
        print(layout, file=sys.stderr)
    program = print_program(plan, layout)
    run = bind(program, *load(object_code(program.text), program.symbol, program.externals))
    if config.debug >= 1:
        steps = list(_steps(plan))
        print(
            f"compiled {len(jaxpr.eqns)} equations to {len(steps) - len(program.calls)} native "
            f"steps in {time.perf_counter() - start:.3f} s; run eagerly: "
            f"{', '.join(e.prim.name for e in program.calls) or 'none'}",
            file=sys.stderr,
        )
    return run


def _steps(plan: Plan) -> Iterator[Step]:
    """Yield the steps of a plan and of the plans inside."""
    for step in plan.steps:
        yield step
        for inner in plans_of(step):
            yield from _steps(inner)
