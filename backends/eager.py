"""Run equations one by one by their eager rules: what the compiler falls back on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var

__all__ = ["eager_program", "eager_step", "output_collector"]

Program = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
Step = Callable[[list[Any]], None]


def eager_step(eqn: Eqn, slots: dict[Var, int]) -> Step:
    """Return the function that runs one equation on an environment: a list, a slot per variable."""
    rule, params, many = eqn.prim.eager, eqn.params, eqn.prim.multiple_results
    ins = [(None, v.val._data) if isinstance(v, Lit) else (slots[v], None) for v in eqn.invars]
    outs = [slots[v] for v in eqn.outvars]

    def step(env: list[Any]) -> None:
        args = [value if k is None else env[k] for k, value in ins]
        with np.errstate(all="ignore"):
            results = rule(np, *args, **params)
        for k, result in zip(outs, results if many else (results,), strict=True):
            result = np.asarray(result)
            env[k] = result if result.flags.c_contiguous else result.copy(order="C")

    return step


def eager_program(jaxpr: Jaxpr) -> Program:
    """Return a function from input buffers to output buffers that runs every equation eagerly."""
    variables = [*jaxpr.constvars, *jaxpr.invars, *(v for e in jaxpr.eqns for v in e.outvars)]
    slots = {v: k for k, v in enumerate(variables)}
    consts = [np.asarray(c._data) for c in jaxpr.consts]
    steps = [eager_step(eqn, slots) for eqn in jaxpr.eqns]
    room = [None] * sum(len(e.outvars) for e in jaxpr.eqns)
    outputs = output_collector(jaxpr, slots, {v for e in jaxpr.eqns for v in e.outvars})

    def program(args: Sequence[np.ndarray]) -> list[np.ndarray]:
        env = [*consts, *args, *room]
        for step in steps:
            step(env)
        return outputs(env)

    return program


def output_collector(
    jaxpr: Jaxpr, slots: dict[Var, int], foreign: set[Var]
) -> Callable[[list[Any]], list[np.ndarray]]:
    """Return the function that takes a program's results from an environment.

    Inputs, and what eager rules made (``foreign``: it may be a view of an input), are copied where
    they do not own their memory: an argument may be an array that its owner goes on writing to.
    """
    given = {*jaxpr.constvars, *jaxpr.invars}
    outs = [
        (0, v.val._data, False, False)
        if isinstance(v, Lit)
        else (slots[v], None, v in given, v in foreign)
        for v in jaxpr.outvars
    ]

    def outputs(env: list[Any]) -> list[np.ndarray]:
        results = []
        for slot, value, is_input, is_foreign in outs:
            if value is None:
                value = env[slot]
                if is_input or (
                    is_foreign and (value.base is not None or any(value is a for a in env[:inputs]))
                ):
                    value = value.copy()
            results.append(value)
        return results

    inputs = len(given)
    return outputs
