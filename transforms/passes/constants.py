"""Constant folding: operations on literals, on arrays full of one value, and on iotas.

Only scalars are ever computed here, so folding takes a bounded time whatever the shapes are.
"""

from __future__ import annotations

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl
from funtorch.jaxpr import Eqn, Lit
from funtorch.ops.families import ELEMENTWISE

from .rewrite import Atom, Rewriter, Rules, rewriter

__all__ = ["CONSTANTS", "fold_constants"]


def _elementwise(b: Rewriter, eqn: Eqn) -> Atom | list[Atom] | None:
    """Compute on scalars what is asked of literals and of arrays full of one value."""
    values = []
    for v in eqn.invars:
        value = b.value(v)
        if value is None:
            return None
        values.append(np.asarray(value, v.aval.dtype))
    with np.errstate(all="ignore"):
        outs = eqn.prim.eager(np, *values, **eqn.params)
    if not eqn.prim.multiple_results:
        return b.full(outs, eqn.outvars[0].aval)
    return [b.full(out, v.aval) for out, v in zip(outs, eqn.outvars, strict=True)]


def _literal(b: Rewriter, eqn: Eqn) -> Atom | None:
    """Compute an operation on literals whose result is a scalar."""
    if eqn.outvars[0].aval.shape or not all(type(v) is Lit for v in eqn.invars):
        return None
    with np.errstate(all="ignore"):
        out = eqn.prim.eager(np, *[v.val._data for v in eqn.invars], **eqn.params)  # type: ignore[union-attr]
    return Lit(ArrayImpl(np.asarray(out), eqn.outvars[0].aval.weak_type))


def _move(b: Rewriter, eqn: Eqn) -> Atom | None:
    """A movement of an array full of one value is another such array."""
    x = eqn.invars[0]
    value = b.value(x)
    if value is None or (eqn.prim.name == "broadcast_in_dim" and type(x) is Lit):
        return None
    return b.full(value, eqn.outvars[0].aval)


def _join(b: Rewriter, eqn: Eqn) -> Atom | None:
    """Arrays full of the same value side by side are one."""
    values = [b.value(v) for v in eqn.invars]
    if any(value is None or value.tobytes() != values[0].tobytes() for value in values):
        return None
    return b.full(values[0], eqn.outvars[0].aval)


def _reduce(b: Rewriter, eqn: Eqn) -> Atom | None:
    """Maxima and such of an array full of one value, as long as there is any element."""
    value, shape = b.value(eqn.invars[0]), eqn.invars[0].aval.shape
    if value is None or any(shape[a] == 0 for a in eqn.params["axes"]):
        return None
    return b.full(value, eqn.outvars[0].aval)


def _iota(b: Rewriter, eqn: Eqn) -> Atom | None:
    aval = eqn.outvars[0].aval
    return b.full(0, aval) if aval.shape[eqn.params["axis"]] == 1 else None


def _convert_iota(b: Rewriter, eqn: Eqn) -> Atom | None:
    """A converted iota is an iota of the other dtype where no count wraps around."""
    source, aval = b.maker(eqn.invars[0], "iota"), eqn.outvars[0].aval
    if source is None:
        return None
    before, count = source.params["dtype"], aval.shape[source.params["axis"]]
    whole = dtypes.is_integer(before) and count - 1 <= np.iinfo(before).max
    known = whole and (dtypes.is_integer(aval.dtype) or aval.dtype in _PLAIN_FLOATS)
    return b.emit("iota", **{**source.params, "dtype": aval.dtype}) if known else None


_PLAIN_FLOATS = frozenset(map(np.dtype, ("float32", "float64")))
_REDUCERS = ("reduce_max", "reduce_min", "reduce_and", "reduce_or")
_MOVES = ("broadcast_in_dim", "reshape", "transpose", "rev", "slice", "dynamic_slice")
_SCALAR = ("reduce_sum", "reduce_prod", "reduce_xor", "dot_general")

CONSTANTS: Rules = {
    **dict.fromkeys(ELEMENTWISE, (_elementwise,)),
    **dict.fromkeys(_SCALAR, (_literal,)),
    **dict.fromkeys(_MOVES, (_move,)),
    **dict.fromkeys(_REDUCERS, (_reduce,)),
    "concatenate": (_join,),
    "pad": (_join,),
    "iota": (_iota,),
    "convert": (_elementwise, _convert_iota),
}

fold_constants = rewriter(
    "fold_constants", "Compute operations on literals and on arrays full of one value.", CONSTANTS
)
