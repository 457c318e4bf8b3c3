"""From a jaxpr to a callable: fuse, lay out, print, load."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from funtorch.config import config
from funtorch.hardware import CPU, Device
from funtorch.jaxpr import Eqn, Jaxpr

from . import cache
from .cpu.blas import library_of, reads_rows
from .cpu.codegen import kept_code, object_code, start_compiler
from .cpu.program import print_program
from .cpu.runtime import Entry, bind, entry_of, load, resolve
from .cuda import linalg  # noqa: F401  (registers its rules)
from .cuda.attention import has_kernel
from .cuda.runtime import compile_for
from .eager import eager_program
from .fuse import fuse
from .layout import lay_out
from .plan import Call, Dot, Plan, Step, plans_of

__all__ = ["compile_jaxpr", "kept_by", "plan_of"]


def plan_of(jaxpr: Jaxpr) -> Plan:
    """Return the steps that a simplified program is compiled to."""
    return fuse(jaxpr)


def kept_by(device: Device) -> Callable[[Eqn], bool] | None:
    """Return which equations with an expansion a device has code of its own for; None for none."""
    return reads_rows if device == CPU else has_kernel


def compile_jaxpr(
    jaxpr: Jaxpr, donated: frozenset[int] = frozenset(), device: Device = CPU
) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """Return a function from a jaxpr's input buffers to its output buffers.

    What has scalar code or a BLAS call becomes native code, loops and branches too; the rest runs
    by its eager rules.

    Args:
        jaxpr: the program, simplified; its consts are concrete arrays.
        donated: positions of the inputs whose memory may be reused for outputs.
        device: where it runs; buffers are NumPy's, or CuPy's on that device.

    Returns:
        the function; a native one has ``memory``, what its runs need.
    """
    if device != CPU:
        return compile_for(device, jaxpr, donated)
    spelling = cache.spelled(jaxpr)
    name = cache.key("program", spelling, repr(sorted(donated))) if spelling else None
    kept = cache.load(name) if name and config.debug < 3 else None
    start = time.perf_counter()
    if kept is not None and (unpacked := Entry.unpacked(kept)) is not None:
        entry, code = unpacked
        (address,), library = load(code, [entry.symbol], entry.externals)
        _report(f"{len(jaxpr.eqns)} equations from disk", start)
        return bind(entry, jaxpr, (), address, library)
    from concurrent.futures import ThreadPoolExecutor

    # LLVM starts, and libraries are made and load, meanwhile.
    with ThreadPoolExecutor(1) as beside:
        beside.submit(start_compiler)
        plan = plan_of(jaxpr)
        if config.debug >= 3:
            print(plan, file=sys.stderr)
        if all(isinstance(step, Call) for step in plan.steps):
            return eager_program(jaxpr)
        products = [step for step in _steps(plan) if isinstance(step, Dot)]
        beside.submit(resolve, sorted({library_of(step) for step in products}))
        layout = lay_out(plan, donated)
        if config.debug >= 3:
            print(layout, file=sys.stderr)
        program = print_program(plan, layout)
        entry = entry_of(program)
        beside.submit(resolve, program.externals)
        if name is None or program.calls:  # calls are equations, which have no place on disk
            code = kept_code(program.text)
        else:
            code = object_code(program.text)
            cache.save(name, entry.packed(code))
    (address,), library = load(code, [entry.symbol], entry.externals)
    eager = [e.prim.name for e in program.calls]
    steps = len(list(_steps(plan))) - len(eager)
    _report(f"{len(jaxpr.eqns)} equations to {steps} native steps", start, eager)
    return bind(entry, plan.jaxpr, program.calls, address, library)


def _report(what: str, start: float, eager: Sequence[str] = ()) -> None:
    if config.debug >= 1:
        print(
            f"compiled {what} in {time.perf_counter() - start:.3f} s; run eagerly: "
            f"{', '.join(eager) or 'none'}",
            file=sys.stderr,
        )


def _steps(plan: Plan) -> Iterator[Step]:
    """Yield the steps of a plan and of the plans inside."""
    for step in plan.steps:
        yield step
        for inner in plans_of(step):
            yield from _steps(inner)
