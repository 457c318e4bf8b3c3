"""Values whose place in their operands is computed: gather, dynamic slices, pad, concatenate.

Each row writes, into the body of a kernel, the value at an index map of the result. A *guard* is
the number of a bool: where it is false, nothing may be read, for the map may lead out of the array.
`UPDATES` are their counterparts, which write a part of an array: each row says where.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from funtorch.jaxpr import Eqn, Lit, Var
from funtorch.ops.indexing import default_fill

from .kernel import Affine, Op
from .moves import Map, combine

__all__ = ["INDEXED", "UPDATES", "Writes"]

BOOL, INT64, UINT64 = map(np.dtype, ("bool", "int64", "uint64"))


class Body(Protocol):
    """What the rows write into."""

    ndim: int

    def value(self, v: Var | Lit, where: Map, guard: int | None = None) -> int: ...

    def constant(self, item: object, dtype: np.dtype) -> int: ...

    def emit(self, op: Op, key: object = None) -> int: ...


def _op(b: Body, name: str, args: Sequence[int], dtype: np.dtype, attr: Any = None) -> int:
    return b.emit(Op(name, tuple(args), dtype, attr))


def _both(b: Body, conditions: Sequence[int | None]) -> int | None:
    """Return the conjunction of conditions; None is one that always holds."""
    out = None
    for c in conditions:
        if c is not None:
            out = c if out is None else _op(b, "bitwise_and", (out, c), BOOL)
    return out


def _integer(b: Body, n: int, dtype: np.dtype) -> int:
    """Return an index as int64; what int64 cannot hold is made its greatest number."""
    if dtype == INT64:
        return n
    if dtype == UINT64:
        n = _op(b, "min", (n, b.constant(np.iinfo(INT64).max, UINT64)), UINT64)
    return _op(b, "convert", (n,), INT64, {"dtype": INT64, "weak_type": False})


def _clamped(b: Body, n: int, low: int, high: int) -> int:
    n = _op(b, "max", (n, b.constant(low, INT64)), INT64)
    return _op(b, "min", (n, b.constant(high, INT64)), INT64)


def _inside(b: Body, n: int, size: int) -> int:
    """Return whether ``0 <= n < size``: as unsigned numbers, one comparison."""
    n = _op(b, "convert", (n,), UINT64, {"dtype": UINT64, "weak_type": False})
    return _op(b, "lt", (n, b.constant(size, UINT64)), BOOL)


def _at(b: Body, n: int) -> Affine:
    return Affine(0, (0,) * b.ndim, ((n, 1),))


def _number(b: Body, m: Affine) -> int:
    """Return the value of an affine index."""
    return b.emit(Op("index", (), INT64, None, m), ("index", m))


# ---------------------------------------------------------------------- reading
def _indices(
    b: Body, eqn: Eqn, indices: Sequence[Var | Lit], where: Map, guard: int | None, drops: bool
) -> tuple[list[int], int | None]:
    """Return the indices of gather or a scatter as values, and a condition that they are valid.

    Args:
        drops: whether what is out of range is left out; else it is moved to the nearest end.
    """
    shape = eqn.invars[0].aval.shape
    numbers, conditions = [], []
    for v, axis in zip(indices, eqn.params["axes"], strict=True):
        n = _integer(b, b.value(v, where, guard), v.aval.dtype)
        if drops:
            conditions.append(_inside(b, n, shape[axis]))
        else:
            n = _clamped(b, n, 0, shape[axis] - 1)  # even where the user promised
        numbers.append(n)
    return numbers, _both(b, conditions)


def _indexed_map(b: Body, eqn: Eqn, numbers: Sequence[int], others: Sequence[Affine]) -> Map:
    """Return the index map into the array that gather reads or a scatter writes."""
    axes, rest = eqn.params["axes"], iter(others)
    places = dict(zip(axes, numbers, strict=True))
    ndim = eqn.invars[0].aval.ndim
    return tuple(_at(b, places[d]) if d in places else next(rest) for d in range(ndim))


def _filled(b: Body, valid: int | None, value: int, fill: int, dtype: np.dtype) -> int:
    return value if valid is None else _op(b, "select", (valid, value, fill), dtype)


def _gather(b: Body, eqn: Eqn, where: Map, guard: int | None) -> int:
    x, *indices = eqn.invars
    many, fill = indices[0].aval.ndim, eqn.params["fill"]
    drops = eqn.params["mode"] == "fill"
    numbers, valid = _indices(b, eqn, indices, where[:many], guard, drops)
    source = _indexed_map(b, eqn, numbers, where[many:])
    value = b.value(x, source, _both(b, (guard, valid)))
    fill = default_fill(x.aval.dtype) if fill is None else fill
    fill = np.asarray(fill, x.aval.dtype).item()
    return _filled(b, valid, value, b.constant(fill, x.aval.dtype), x.aval.dtype)


def _starts(
    b: Body, starts: Sequence[Var | Lit], shape: Sequence[int], sizes: Sequence[int]
) -> list[int | None]:
    """Return the first places of a block, moved so that it lies inside; None for 0."""
    found: list[int | None] = []
    for v, n, size in zip(starts, shape, sizes, strict=True):
        if n == size:
            found.append(None)
        else:
            number = _integer(b, b.value(v, ()), v.aval.dtype)
            found.append(_clamped(b, number, 0, n - size))
    return found


def _shifted(b: Body, where: Map, starts: Sequence[int | None]) -> Map:
    return tuple(
        m if n is None else combine([(1, m), (1, _at(b, n))], b.ndim)
        for m, n in zip(where, starts, strict=True)
    )


def _dynamic_slice(b: Body, eqn: Eqn, where: Map, guard: int | None) -> int:
    x, *starts = eqn.invars
    found = _starts(b, starts, x.aval.shape, eqn.params["sizes"])
    return b.value(x, _shifted(b, where, found), guard)


def _pad(b: Body, eqn: Eqn, where: Map, guard: int | None) -> int:
    (x, fill), p = eqn.invars, eqn.params
    source, conditions = [], []
    axes = zip(x.aval.shape, where, p["lo"], p["hi"], p["interior"], strict=True)
    for n, m, low, high, interior in axes:
        m = combine([(1, m)], b.ndim, -low)
        if interior:
            number = _number(b, m)
            step = b.constant(interior + 1, INT64)
            rest = _op(b, "rem", (number, step), INT64)
            conditions.append(_op(b, "eq", (rest, b.constant(0, INT64)), BOOL))
            number = _op(b, "div", (number, step), INT64)
            conditions.append(_inside(b, number, n))
            m = _at(b, number)
        else:
            if low > 0:
                zero = b.constant(0, INT64)
                conditions.append(_op(b, "ge", (_number(b, m), zero), BOOL))
            if high > 0:
                size = b.constant(n, INT64)
                conditions.append(_op(b, "lt", (_number(b, m), size), BOOL))
        source.append(m)
    valid = _both(b, conditions)
    value = b.value(x, tuple(source), _both(b, (guard, valid)))
    return _filled(b, valid, value, b.value(fill, ()), x.aval.dtype)


def _concatenate(b: Body, eqn: Eqn, where: Map, guard: int | None) -> int:
    axis, dtype = eqn.params["axis"], eqn.outvars[0].aval.dtype
    ends = list(itertools.accumulate(v.aval.shape[axis] for v in eqn.invars))
    place = _number(b, where[axis])
    before = [_op(b, "lt", (place, b.constant(n, INT64)), BOOL) for n in ends[:-1]]
    out = None
    for k in reversed(range(len(ends))):
        start = ends[k] - eqn.invars[k].aval.shape[axis]
        after = None if k == 0 else _op(b, "bitwise_not", (before[k - 1],), BOOL)
        valid = _both(b, (guard, after, before[k] if k < len(before) else None))
        source = list(where)
        source[axis] = combine([(1, where[axis])], b.ndim, -start)
        value = b.value(eqn.invars[k], tuple(source), valid)
        out = value if out is None else _op(b, "select", (before[k], value, out), dtype)
    assert out is not None
    return out


INDEXED: dict[str, Callable[[Body, Eqn, Map, int | None], int]] = {
    "gather": _gather,
    "dynamic_slice": _dynamic_slice,
    "pad": _pad,
    "concatenate": _concatenate,
}
"""By primitive: writes the value of an equation's result at an index map."""


# ---------------------------------------------------------------------- writing a part
Writes = tuple[int, Map, int | None]
"""The value to write, where to, and where not to (the number of a condition)."""


def _scatter(b: Body, eqn: Eqn, where: Map) -> Writes:
    _, updates, *indices = eqn.invars
    many, drops = indices[0].aval.ndim, eqn.params["mode"] == "drop"
    numbers, valid = _indices(b, eqn, indices, where[:many], None, drops)
    return b.value(updates, where), _indexed_map(b, eqn, numbers, where[many:]), valid


def _dynamic_update_slice(b: Body, eqn: Eqn, where: Map) -> Writes:
    x, update, *starts = eqn.invars
    found = _starts(b, starts, x.aval.shape, update.aval.shape)
    return b.value(update, where), _shifted(b, where, found), None


UPDATES: dict[str, tuple[Callable[[Body, Eqn, Map], Writes], str]] = {
    "dynamic_update_slice": (_dynamic_update_slice, "set"),
    "scatter": (_scatter, "set"),
    "scatter_add": (_scatter, "add"),
    "scatter_mul": (_scatter, "mul"),
    "scatter_min": (_scatter, "min"),
    "scatter_max": (_scatter, "max"),
}
"""By primitive, whose second operand goes into a part of a copy of the first: what says where,
given the index map of the second operand, and how it is combined with what is there."""
