"""What a laid out program needs in memory, and which of its values are the largest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from funtorch.dims import evaluated
from funtorch.jaxpr import Lit, Var

from .layout import Layout
from .layout import nbytes as layout_nbytes

__all__ = ["Memory", "memory_of"]


@dataclass(frozen=True)
class Memory:
    """What a program's run needs, in bytes.

    Attributes:
        arguments, outputs: the arrays that go in and come out.
        aliased: outputs that live in donated arguments.
        temporaries: the arena, its peak.
        largest: the arena's largest values at that peak: (bytes, type, where it was made).
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    largest: tuple[tuple[int, str, str], ...]

    def __str__(self) -> str:
        shown = "\n".join(f"  {n} bytes: {kind}, made at {at}" for n, kind, at in self.largest)
        return (
            f"arguments {self.arguments}, outputs {self.outputs} ({self.aliased} of them in "
            f"donated arguments), temporaries {self.temporaries} bytes; the largest:\n{shown}"
        )


def memory_of(layout: Layout, arena: Any, number: Callable[[Any], int] = int) -> Memory:
    """Return what a laid out program needs, whose arena takes so many bytes."""
    jaxpr = layout.plan.jaxpr

    def nbytes(v: Var | Lit) -> int:
        return evaluated(layout_nbytes(v), number)

    made = {v: str(e.source) for e in jaxpr.eqns for v in e.outvars}
    found = [
        (nbytes(v), v.aval.str_short(), made.get(v, "an argument"))
        for v, place in layout.places.items()
        if place.kind == "arena"
    ]
    found += [
        (nbytes(v), v.aval.str_short(), made.get(v, "an argument"))
        for v in jaxpr.outvars
        if isinstance(v, Var)
    ]
    return Memory(
        sum(map(nbytes, jaxpr.invars)),
        sum(map(nbytes, jaxpr.outvars)),
        sum(nbytes(jaxpr.outvars[j]) for _, j in layout.pairs),
        arena + layout.cells,
        tuple(sorted(found, reverse=True)[:8]),
    )
