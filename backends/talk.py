"""Collectives between processes as steps of a plan: which there are, and when they begin and end.

A collective begins as soon as what it sends is there, and ends before the first step that reads
what it brings. Where other steps lie between, it goes on while they run, unless all processes are
on one machine: there it is the processors that move messages, and a collective that is done at once
takes less of their time. The order depends on the
program alone, so it is the same in all processes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from funtorch.jaxpr import Eqn, Var
from funtorch.processes import Ranks

from .plan import Nothing, Plan, Step, Talk, Wait, plans_of, reads, writes

__all__ = ["IN_PLACE", "TALKS", "overlapped", "speaks", "talks"]

_SUMS = frozenset("bhilqBHILQfdFD")  # kinds of numbers that MPI sums
_ORDERED = frozenset("bhilqBHILQ?")  # and of those that it compares

# The characters of dtypes that a collective can have; None: any, as bytes.
TALKS: dict[str, frozenset[str] | None] = {
    "psum": _SUMS,
    "psum_scatter": _SUMS,
    "pmax": _ORDERED,
    "pmin": _ORDERED,
    "all_gather": None,
    "all_to_all": None,
    "ppermute": None,
    "axis_index": None,
}
IN_PLACE = frozenset(("psum", "pmax", "pmin"))
"""Collectives whose result may be where their operand was."""

_MOST = np.iinfo(np.int32).max  # elements, or bytes, of one message


def talks(eqn: Eqn) -> bool:
    """Tell whether a collective is between processes, and native code can make it."""
    kinds, avals = TALKS[eqn.prim.name], [v.aval for v in (*eqn.invars, *eqn.outvars)]
    if type(eqn.params["axis_name"]) is not Ranks:
        return False
    if kinds is not None:
        return avals[0].dtype.char in kinds and max(a.size for a in avals) <= _MOST
    return max(a.size * a.dtype.itemsize for a in avals) <= _MOST


def speaks(plan: Plan) -> bool:
    """Tell whether a plan has a collective."""
    return any(isinstance(step, Talk) or any(map(speaks, plans_of(step))) for step in plan.steps)


def overlapped(plan: Plan) -> Plan:
    """Return a plan whose collectives begin early and end late."""
    if not any(isinstance(step, Talk) for step in plan.steps):
        return plan
    return replace(plan, steps=tuple(_with_waits(_early(plan.steps))))


def _early(steps: tuple[Step, ...]) -> list[Step]:
    """Move collectives to behind the steps that make what they send."""
    place: dict[Var, float] = {}  # the step that makes a value; in order, moved ones included
    keyed: list[tuple[float, int, Step]] = []
    for k, step in enumerate(steps):
        at = float(k)
        if isinstance(step, Talk) and step.eqn.prim.name != "axis_index":
            at = max((place[v] for v in reads(step) if v in place), default=-1.0)  # type: ignore[index]
        place.update((v, at) for v in writes(step))
        keyed.append((at, k, step))
    return [step for _, _, step in sorted(keyed, key=lambda item: item[:2])]


def _with_waits(steps: list[Step]) -> list[Step]:
    """Let collectives go on while steps run that do not need them."""
    out: list[Step] = []
    open_: list[Talk] = []  # that have begun
    for k, step in enumerate(steps):
        needs = set(reads(step))
        for talk in [t for t in open_ if not needs.isdisjoint(t.eqn.outvars)]:
            open_.remove(talk)
            out.append(Wait(talk.eqn))
        if isinstance(step, Talk) and _has_time(step, steps[k + 1 :]):
            step = Talk(step.eqn, later=True)
            open_.append(step)
        out.append(step)
        if open_ and not isinstance(step, (Talk, Nothing)):
            out.append(Wait(open_[0].eqn, only_look=True))
    return [*out, *[Wait(talk.eqn) for talk in open_]]


def _has_time(talk: Talk, after: list[Step]) -> bool:
    """Tell whether other work follows before the first step that needs a collective."""
    if talk.eqn.prim.name in ("axis_index", "ppermute") or talk.eqn.params["axis_name"].near:
        return False
    for step in after:
        if not set(reads(step)).isdisjoint(talk.eqn.outvars):
            return False
        if not isinstance(step, (Talk, Nothing)):
            return True
    return False
