"""Run equations one by one by their eager rules: what the compiler falls back on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var

__all__ = ["eager_program", "eager_step"]

Program = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
Step = Callable[[list[Any]], None]


def eager_step(eqn: Eqn, slots: dict[Var, int]) -> Step:
    """Return the function that runs one equation on an environment, a list with a slot per variable."""
    rule, params, many = eqn.prim.eager, eqn.params, eqn.prim.multiple_results
    ins = [(None, v.val._data) if isinstance(v, Lit) else (slots[v], None) for v in eqn.invars]
    outs = [slots[v] for v in eqn.outvars]

    def step(env: list[Any]) -> None:
        args = [value if k is None else env[k] for k, value in ins]
        with np.errstate(all="ignore"):
            results = rule(np, *args, **params)
        for k, result in zip(outs, results if many else (results,), strict=True):
            env[k] = np.asarray(result)

    return step


def eager_program(jaxpr: Jaxpr) -> Program:
    """Return a function from input buffers to output buffers that runs every equation eagerly."""
    variables = [*jaxpr.constvars, *jaxpr.invars, *(v for e in jaxpr.eqns for v in e.outvars)]
    slots = {v: k for k, v in enumerate(variables)}
    consts = [np.asarray(c._data) for c in jaxpr.consts]
    steps = [eager_step(eqn, slots) for eqn in jaxpr.eqns]
    room = [None] * sum(len(e.outvars) for e in jaxpr.eqns)
    outs = [(None, v.val._data) if isinstance(v, Lit) else (slots[v], None) for v in jaxpr.outvars]

    def program(args: Sequence[np.ndarray]) -> list[np.ndarray]:
        env = [*consts, *args, *room]
        for step in steps:
            step(env)
        return [value if k is None else env[k] for k, value in outs]

    return program
