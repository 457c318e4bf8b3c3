"""Equations of empty arrays: what gives elements where none came, and what gives none at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.jaxpr import Eqn
from funtorch.ops.families import broadcast_in_dim, scalar
from funtorch.ops.indexing import default_fill
from funtorch.ops.shape import concatenate

__all__ = ["gives_nothing", "of_nothing"]

Written = Callable[..., Any]


def gives_nothing(eqn: Eqn) -> bool:
    """Tell whether there is nothing to do for an equation: all its results are empty."""
    return bool(eqn.outvars) and not eqn.effects and all(v.aval.size == 0 for v in eqn.outvars)


def _full(eqn: Eqn, value: Any) -> Written:
    aval = eqn.outvars[0].aval
    return lambda *xs: broadcast_in_dim(scalar(value, aval.dtype), shape=aval.shape, dims=())


def _extreme(greatest: bool) -> Callable[[Eqn], Written]:
    """The reduction of nothing by min is the greatest number, by max the least."""

    def rule(eqn: Eqn) -> Written:
        dtype = eqn.outvars[0].aval.dtype
        if dtype.kind == "b":
            return _full(eqn, greatest)
        if dtypes.is_float(dtype):
            return _full(eqn, np.inf if greatest else -np.inf)
        limits = np.iinfo(dtype)
        return _full(eqn, limits.max if greatest else limits.min)

    return rule


def _and(eqn: Eqn) -> Written:
    dtype = eqn.outvars[0].aval.dtype
    return _full(eqn, ~np.zeros((), dtype))


def _concatenate(eqn: Eqn) -> Written:
    axis = eqn.params["axis"]

    def rest(*xs: Any) -> Any:
        full = [x for x in xs if x.aval.size]
        return full[0] if len(full) == 1 else concatenate(*full, axis=axis)

    return rest


def _pad(eqn: Eqn) -> Written:
    shape = eqn.outvars[0].aval.shape
    return lambda x, value: broadcast_in_dim(value, shape=shape, dims=())


def _gather(eqn: Eqn) -> Written | None:
    fill, dtype = eqn.params["fill"], eqn.outvars[0].aval.dtype
    if eqn.params["mode"] != "fill":
        return None  # there is no nearest element
    return _full(eqn, default_fill(dtype) if fill is None else fill)


def _first(eqn: Eqn) -> Written:
    return lambda x, *rest: x


def _zeros(eqn: Eqn) -> Written:
    return _full(eqn, 0)


_UPDATES: Sequence[str] = (
    "dynamic_update_slice",
    *(f"scatter{how}" for how in ("", "_add", "_mul", "_min", "_max")),
)
_RULES: dict[str, Callable[[Eqn], Written | None]] = {
    **dict.fromkeys(("reduce_sum", "reduce_or", "reduce_xor", "overlap_add"), _zeros),
    **dict.fromkeys(("dot_general", "conv_general_dilated"), _zeros),
    **dict.fromkeys(_UPDATES, _first),
    "reduce_prod": lambda eqn: _full(eqn, 1),
    "reduce_and": _and,
    "reduce_max": _extreme(False),
    "reduce_min": _extreme(True),
    "concatenate": _concatenate,
    "pad": _pad,
    "gather": _gather,
}


def of_nothing(eqn: Eqn) -> Written | None:
    """Return what an equation gives that has elements though an operand has none, if known."""
    rule = _RULES.get(eqn.prim.name)
    return None if rule is None or gives_nothing(eqn) else rule(eqn)
