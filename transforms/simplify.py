"""Passes on programs in order, until nothing is left to do: inside bodies of loops too."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from funtorch.config import config
from funtorch.jaxpr import Eqn, Jaxpr

from .passes import (
    ALGEBRA,
    CONSTANTS,
    MOVEMENT,
    ONE_HOT,
    PADS,
    drop_dead,
    inline,
    merged,
    rewriter,
    share,
    simplify_loops,
)

__all__ = ["drop_dead", "fold", "inline", "share", "simplify", "simplify_bodies"]

_ROUNDS = 6  # most programs need two: one that changes something and one that does not

fold = rewriter(
    "fold",
    "Fold constants, simplify elementwise algebra and join movements, in one walk.",
    merged(CONSTANTS, ALGEBRA, ONE_HOT, MOVEMENT, PADS),
)


Keeps = Callable[[Eqn], bool] | None
"""Which equations a backend has code of its own for, so that they are not expanded."""


def simplify_bodies(jaxpr: Jaxpr, keeps: Keeps = None) -> Jaxpr:
    """Simplify the programs inside loops and branches."""
    eqns, changed = [], False
    for eqn in jaxpr.eqns:
        for value in eqn.params.values():
            if type(value) is Jaxpr or (type(value) is tuple and _holds_jaxprs(value)):
                params = {key: _simplified(value, keeps) for key, value in eqn.params.items()}
                if any(params[key] is not value for key, value in eqn.params.items()):
                    eqn = Eqn(eqn.prim, eqn.invars, params, eqn.outvars, eqn.source)
                    changed = True
                break
        eqns.append(eqn)
    if not changed:
        return jaxpr
    return Jaxpr(jaxpr.invars, eqns, jaxpr.outvars, jaxpr.constvars, jaxpr.consts)


def _holds_jaxprs(value: tuple[Any, ...]) -> bool:
    return bool(value) and type(value[0]) is Jaxpr


def _simplified(value: Any, keeps: Keeps) -> Any:
    if type(value) is Jaxpr:
        return simplify(value, keeps)
    if type(value) is tuple and _holds_jaxprs(value):
        found = tuple(simplify(v, keeps) for v in value)
        return value if all(a is b for a, b in zip(found, value, strict=True)) else found
    return value


_PASSES = (share, fold, simplify_loops, drop_dead)


def simplify(jaxpr: Jaxpr, keeps: Keeps = None) -> Jaxpr:
    """Return an equal, simpler program of the same inputs and outputs.

    Args:
        jaxpr: the program.
        keeps: which of the equations that have an expansion stay as they are.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.transforms.simplify import simplify
        >>> len(simplify(ft.make_jaxpr(lambda x: x * 1.0 + 0.0 * 2.0)(3.0).jaxpr).eqns)
        1
    """
    key = "simplified" if keeps is None else ("simplified", keeps)
    found = jaxpr.memo.get(key)
    if found is not None:
        return found
    current = jaxpr
    own = (inline, simplify_bodies)
    passes: list[tuple[str, Callable[[Jaxpr], Jaxpr]]] = [
        *((f.__name__, functools.partial(f, keeps=keeps)) for f in own),
        *((f.__name__, f) for f in _PASSES),
    ]
    for _ in range(_ROUNDS):
        before = current
        for name, run in passes:
            after = run(current)
            if after is not current and config.debug >= 2:
                print(f"after {name}:\n{after}", file=sys.stderr)
            current = after
        if current is before:
            break
    current.memo[key] = current
    jaxpr.memo[key] = current
    return current
