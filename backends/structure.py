"""Loops and branches in a plan: equations whose programs are plans of their own."""

from __future__ import annotations

from collections.abc import Callable

from funtorch.jaxpr import Eqn, Jaxpr

from .plan import Branch, Plan, Scan, Step, While

__all__ = ["STRUCTURED", "structured"]

Fuse = Callable[[Jaxpr], Plan]

_STEPS: dict[str, Callable[[Eqn, Fuse], Step]] = {
    "scan": lambda eqn, fuse: Scan(eqn, fuse(eqn.params["jaxpr"])),
    "while": lambda eqn, fuse: While(
        eqn, fuse(eqn.params["cond_jaxpr"]), fuse(eqn.params["body_jaxpr"])
    ),
    "cond": lambda eqn, fuse: Branch(eqn, tuple(map(fuse, eqn.params["branches"]))),
}

STRUCTURED = frozenset(_STEPS)


def structured(eqn: Eqn, fuse: Fuse) -> Step | None:
    """Return the step of a loop or branch, its programs made plans by ``fuse``, else None."""
    make = _STEPS.get(eqn.prim.name)
    return None if make is None else make(eqn, fuse)
