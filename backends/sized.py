"""Programs whose sizes are known when they run: compiled once, bound for every size.

The text is that of any program, with loads from a record where others have numbers. The record is
computed in Python, once for each size: polynomials, and what functions give that were asked for
later (tables of products, places in the arena).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from funtorch.core import ArrayImpl, ShapedArray
from funtorch.dims import Dim, NotDynamic, Scope, evaluated, scope_of
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var, sub_jaxprs

from .cpu.codegen import kept_code
from .cpu.program import Program, print_program
from .cpu.runtime import bind, entry_of, load
from .fuse import fuse
from .layout import lay_out
from .plan import (
    Call,
    Fourier,
    Launch,
    Library,
    Plan,
    Running,
    Scan,
    Sort,
    Table,
    plans_of,
    reads,
    writes,
)

__all__ = ["Sized", "compile_sized"]

_OF_NUMBERS: dict[type, Callable[[Any], object]] = {
    Fourier: lambda step: (step.n, step.inner),
    Running: lambda step: step.n,
    Sort: lambda step: step.n,
    Library: lambda step: step.recipe,
    Table: lambda step: step.out.aval.shape,
}
"""By kind of step that is compiled for one size: what must not depend on sizes."""

Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


class Sized:
    """A compiled program of several sizes."""

    def __init__(self, program: Program, scope: Scope, address: int, library: Any) -> None:
        self.program, self.scope = program, scope
        self.address, self.library = address, library
        self.shapes = sorted({n for shape in _shapes(program.layout.plan) for n in shape}, key=hash)

    def bound(self, atoms: Sequence[int]) -> Run:
        """Return the function from input buffers to output buffers for values of the atoms.

        Raises:
            NotDynamic: if what the program assumes does not hold for these.
        """
        scope = self.scope
        if not scope.holds(atoms):
            raise NotDynamic("the program was compiled for other relations of its sizes")
        number = lambda dim: dim.at(atoms)  # noqa: E731
        if any(evaluated(n, number) < 1 for n in self.shapes):
            raise NotDynamic("an array is empty")
        record = ArrayImpl(np.array(scope.record(atoms), np.int64))
        jaxpr = self.program.layout.plan.jaxpr

        def variable(v: Any) -> Any:
            if isinstance(v, Lit):
                return v
            shape = evaluated(v.aval.shape, number)
            return Var(ShapedArray(shape, v.aval.dtype, v.aval.weak_type))

        ins, outs = ([variable(v) for v in vs] for vs in (jaxpr.invars, jaxpr.outvars))
        consts = [*jaxpr.consts[:-1], record]
        here = Jaxpr(ins, (), outs, jaxpr.constvars, consts)
        calls = [
            Eqn(
                e.prim,
                [variable(v) for v in e.invars],
                {k: evaluated(v, number) for k, v in e.params.items()},
                [variable(v) for v in e.outvars],
                e.source,
            )
            for e in self.program.calls
        ]
        entry = entry_of(replace(self.program, arena=evaluated(self.program.arena, number)), number)
        return bind(entry, here, calls, self.address, self.library)


def _shapes(plan: Plan) -> list[tuple[int, ...]]:
    """Return what depends on sizes of the shapes of a plan's values and of its kernels' loops."""
    found = [v.aval.shape for step in plan.steps for v in (*reads(step), *writes(step))] + [
        v.aval.shape for v in plan.jaxpr.invars
    ]
    for step in plan.steps:
        if isinstance(step, Launch):
            found.append(step.kernel.sizes)
        if isinstance(step, Scan):
            found.append((step.eqn.params["length"],))
        for inner in plans_of(step):
            found += _shapes(inner)
    return [tuple(n for n in shape if isinstance(n, Dim)) for shape in found]


def _holds_dims(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_holds_dims, value))
    if is_dataclass(value):
        return any(_holds_dims(getattr(value, f.name)) for f in fields(value))
    return isinstance(value, Dim)


def _check(plan: Plan) -> None:
    """Check that all steps can have sizes that are known later."""
    for step in plan.steps:
        avals = [v.aval for v in (*reads(step), *writes(step))]
        if scope_of([n for a in avals for n in a.shape]) is None:
            continue
        if _holds_dims(_OF_NUMBERS.get(type(step), lambda step: None)(step)):
            raise NotDynamic(f"{type(step).__name__.lower()} steps are compiled for one size")
        if isinstance(step, Call) and sub_jaxprs(step.eqn.params):
            raise NotDynamic(f"{step.eqn.prim.name} runs programs of its own")
        for inner in plans_of(step):
            _check(inner)


def printed(jaxpr: Jaxpr, donated: frozenset[int]) -> Program:
    """Return a simplified program whose sizes are Dims as text."""
    record = Var(ShapedArray((1,), np.dtype(np.int64)))
    own = ArrayImpl(np.zeros(1, np.int64))
    jaxpr = Jaxpr(
        jaxpr.invars, jaxpr.eqns, jaxpr.outvars, [*jaxpr.constvars, record], [*jaxpr.consts, own]
    )
    plan = fuse(jaxpr)
    _check(plan)
    if all(isinstance(step, Call) for step in plan.steps):
        raise NotDynamic("it has no native code")
    return print_program(plan, lay_out(plan, donated), sized=True)


def compile_sized(variants: Sequence[tuple[Jaxpr, Scope]], donated: frozenset[int]) -> Sized:
    """Compile a simplified program whose sizes are Dims.

    Args:
        variants: the program and the scope of its Dims, several times with other hints. Two that
            follow each other must give the same text, for nothing but speed may depend on hints.
        donated: positions of the inputs whose memory may be reused for outputs.

    Raises:
        NotDynamic: if it must be compiled for each size.
    """
    before: tuple[Any, ...] = ()
    for jaxpr, scope in variants:
        program = printed(jaxpr, donated)
        now = program.text, scope.facts()
        if now == before:
            break
        before = now
    else:
        raise NotDynamic("its code depends on the sizes")
    code = kept_code(program.text)
    (address,), library = load(code, [program.symbol], program.externals)
    return Sized(program, scope, address, library)
