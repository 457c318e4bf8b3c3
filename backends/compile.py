"""From a jaxpr to a callable: fuse, print, load."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from funtorch.config import config
from funtorch.jaxpr import Jaxpr

from .cpu.program import native_program
from .eager import eager_program
from .fuse import fuse
from .plan import Call, Launch, Plan

__all__ = ["compile_jaxpr", "plan_of"]


def plan_of(jaxpr: Jaxpr) -> Plan:
    """Return the steps that a simplified program is compiled to."""
    return fuse(jaxpr)


def compile_jaxpr(
    jaxpr: Jaxpr, donated: frozenset[int] = frozenset()
) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """Return a function from a jaxpr's input buffers to its output buffers.

    What has scalar code or a BLAS call becomes native code; the rest runs by its eager rules.

    Args:
        jaxpr: the program, simplified; its consts are concrete arrays.
        donated: positions of the inputs whose memory may be reused for outputs.
    """
    start = time.perf_counter()
    plan = plan_of(jaxpr)
    if config.debug >= 3:
        shown = (str(s.kernel) if isinstance(s, Launch) else str(s) for s in plan.steps)
        print("\n".join(shown), file=sys.stderr)
    if all(isinstance(step, Call) for step in plan.steps):
        return eager_program(jaxpr)
    run = native_program(plan)
    if config.debug >= 1:
        calls = [step.eqn.prim.name for step in plan.steps if isinstance(step, Call)]
        print(
            f"compiled {len(jaxpr.eqns)} equations to {len(plan.steps) - len(calls)} native steps "
            f"in {time.perf_counter() - start:.3f} s; run eagerly: {', '.join(calls) or 'none'}",
            file=sys.stderr,
        )
    return run
