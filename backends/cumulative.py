"""Cumulative sums and the like: along rows they have code of their own, elsewhere they are kernels.

A kernel runs along its axis one element after the other, and vectorises over the others. Along
memory, where there is nothing else to vectorise over, `Running` goes by vectors and blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch.core import primitives
from funtorch.dims import fixed
from funtorch.jaxpr import Eqn, Lit
from funtorch.ops.elementwise import convert
from funtorch.ops.shape import transpose

from .coverage import KINDS
from .plan import Running

__all__ = ["CUMULATIVE", "along_rows", "in_vectors", "running"]

CUMULATIVE = {f"cum{f}": f"reduce_{f}" for f in ("sum", "prod", "max", "min")}
CUMULATIVE["cumlogsumexp"] = "reduce_logaddexp"
"""By primitive, what accumulates."""

_SHORT = 64  # elements of a row up to which kernels, that fuse, are as quick
_LONG, _FEW = 1 << 12, 16  # elements of columns, and most of them, that are worth turning into rows
_FLOAT32, _UINT8 = np.dtype("float32"), np.dtype("uint8")


def _inner(eqn: Eqn) -> tuple[int, int]:
    """Return the size of an equation's axis, and of all axes after it."""
    shape, axis = eqn.invars[0].aval.shape, eqn.params["axis"]
    return shape[axis], math.prod(shape[axis + 1 :])


def in_vectors(eqn: Eqn) -> bool:
    """Tell whether a cumulative operation is a step of its own."""
    (x,), (n, inner) = eqn.invars, _inner(eqn)
    plain = KINDS[x.aval.dtype] in "if" and eqn.prim.name != "cumlogsumexp"
    return plain and fixed(n) and n > _SHORT and inner == 1 and not isinstance(x, Lit)


def running(eqn: Eqn) -> Running:
    """Return the step of a cumulative operation."""
    (x,), (out,), (n, _) = eqn.invars, eqn.outvars, _inner(eqn)
    assert not isinstance(x, Lit)
    name = eqn.prim.name.removeprefix("cum")
    return Running(x, out, x.aval.size // n, n, name, eqn.params["reverse"])


def along_rows(eqn: Eqn) -> Callable[..., Any] | None:
    """Write what has no code of its own in terms of what has."""
    aval, p = eqn.invars[0].aval, eqn.params
    f, (n, inner) = primitives[eqn.prim.name].bind, _inner(eqn)
    kind = KINDS.get(aval.dtype, "")
    if eqn.prim.name == "cumlogsumexp":
        return None
    # 16-bit floats are accumulated in 32 bits, of which each result is rounded.
    wide = {"b": _UINT8, "h": _FLOAT32}.get(kind)
    if wide is not None and (kind == "b" or int(n) > _SHORT):
        return lambda x: convert(
            f(convert(x, dtype=wide, weak_type=False), **p), dtype=aval.dtype, weak_type=False
        )
    if kind in ("i", "f") and fixed(aval.size) and n >= _LONG and 1 < inner < _FEW:
        axis, last = p["axis"], aval.ndim - 1
        perm = (*(k for k in range(aval.ndim) if k != axis), axis)
        back = tuple(perm.index(k) for k in range(aval.ndim))
        return lambda x: transpose(
            f(transpose(x, perm=perm), axis=last, reverse=p["reverse"]), perm=back
        )
    return None
