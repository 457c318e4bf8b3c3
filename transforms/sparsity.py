"""Which inputs each output depends on, read off a program, element by element.

A pattern is the sorted array of numbers ``row * columns + column`` of the places that may be
nonzero; a row is an element of a value, flat. Functions here go through the *linear* program of a
derivative, so that custom rules count as what they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl, Primitive, aval_of
from funtorch.jaxpr import Eqn, Jaxpr, Lit
from funtorch.ops.conv import conv_general_dilated_p
from funtorch.ops.families import ELEMENTWISE, LINEAR
from funtorch.ops.indexing import gather_p

__all__ = ["color", "pattern_of"]

Codes = np.ndarray

_NONE = np.zeros(0, np.int64)
_MOST_TAPS = 1024  # a convolution of more is taken to mix all of what it reads


def pattern_of(jaxpr: Jaxpr, seeds: Sequence[Codes | None], columns: int) -> list[Codes]:
    """Return the pattern of every output of a program.

    Args:
        jaxpr: a program, linear in the inputs that have seeds.
        seeds: the pattern of each input; None for values that are not known.
        columns: how many columns there are.
    """
    walk = _Walk(columns)
    patterns: dict[Any, Codes] = {}
    known: dict[Any, np.ndarray] = {}
    for var, const in zip(jaxpr.constvars, jaxpr.consts, strict=True):
        if isinstance(const, ArrayImpl):
            known[var] = np.asarray(const)
    for var, seed in zip(jaxpr.invars, seeds, strict=True):
        if seed is not None:
            patterns[var] = seed
    for eqn in jaxpr.eqns:
        values = [np.asarray(v.val) if type(v) is Lit else known.get(v) for v in eqn.invars]
        ins = [_NONE if type(v) is Lit else patterns.get(v, _NONE) for v in eqn.invars]
        if any(len(p) for p in ins):
            found = walk.through(eqn, ins, values)
            for var, codes in zip(eqn.outvars, found, strict=True):
                if dtypes.is_inexact(var.aval.dtype):
                    patterns[var] = codes
        elif _may_run(eqn, values):
            out = eqn.prim.eager(np, *values, **eqn.params)
            outs = out if eqn.prim.multiple_results else [out]
            known.update(zip(eqn.outvars, outs, strict=True))
    return [_NONE if type(v) is Lit else patterns.get(v, _NONE) for v in jaxpr.outvars]


def _may_run(eqn: Eqn, values: Sequence[np.ndarray | None]) -> bool:
    prim = eqn.prim
    cheap = prim.name in ELEMENTWISE or prim.name in LINEAR or prim.name in _CHEAP
    return cheap and prim.eager is not None and all(v is not None for v in values)


_CHEAP = frozenset(("iota", "gather", "argmax", "argmin", "sort"))


class _Walk:
    """Patterns of results from those of operands."""

    def __init__(self, columns: int) -> None:
        self.columns = max(columns, 1)

    def through(self, eqn: Eqn, ins: list[Codes], values: list[np.ndarray | None]) -> list[Codes]:
        name = eqn.prim.name
        rule = _RULES.get(name)
        found = rule(self, eqn, ins, values) if rule is not None else None
        if found is not None:
            return found
        if name in ELEMENTWISE:
            return [union(ins)] * len(eqn.outvars)
        return self.mixed(eqn, ins)

    def mixed(self, eqn: Eqn, ins: list[Codes]) -> list[Codes]:
        """Let every element of the results depend on all that any operand does."""
        used = np.unique(np.concatenate([p % self.columns for p in ins]))
        return [self.spread(used, v.aval.size) for v in eqn.outvars]

    def spread(self, used: np.ndarray, size: int) -> Codes:
        return (np.arange(size)[:, None] * self.columns + used).reshape(-1)

    def shifted(self, eqn: Eqn, ins: Sequence[Codes]) -> tuple[Codes, list[np.ndarray]]:
        """Return the operands' patterns below each other, and the numbers of their rows."""
        codes, ids, at = [], [], 0
        for v, p in zip(eqn.invars, ins, strict=True):
            aval = aval_of(v.val) if type(v) is Lit else v.aval
            codes.append(p + at * self.columns)
            ids.append((at + np.arange(aval.size)).reshape(aval.shape))
            at += aval.size
        return np.concatenate(codes), ids

    def take(self, codes: Codes, ids: np.ndarray) -> Codes:
        """Return the pattern whose row k is row ``ids[k]``; -1 is an empty one."""
        ids = np.asarray(ids, np.int64).reshape(-1)
        rows = codes // self.columns
        first, last = np.searchsorted(rows, ids, "left"), np.searchsorted(rows, ids, "right")
        counts = np.where(ids < 0, 0, last - first)
        out = np.repeat(np.arange(ids.size), counts)
        place = np.arange(out.size) - np.repeat(np.cumsum(counts) - counts, counts)
        return out * self.columns + codes[np.repeat(first, counts) + place] % self.columns

    def put(self, codes: Codes, rows: np.ndarray) -> Codes:
        """Return the pattern in which row k has gone to row ``rows[k]``; -1 drops it."""
        to = np.asarray(rows, np.int64).reshape(-1)[codes // self.columns]
        keep = to >= 0
        return np.unique(to[keep] * self.columns + codes[keep] % self.columns)

    def drop_zeros(self, codes: Codes, factor: np.ndarray) -> Codes:
        """Leave the rows out that a known factor makes zero."""
        return codes[factor.reshape(-1)[codes // self.columns] != 0]


def union(patterns: Sequence[Codes]) -> Codes:
    some = [p for p in patterns if len(p)]
    return some[0] if len(some) == 1 else np.unique(np.concatenate([_NONE, *some]))


# ---------------------------------------------------------------------------------------- rules
Rule = Callable[[_Walk, Eqn, list[Codes], list[Any]], "list[Codes] | None"]


def _run(prim: Primitive, operands: Sequence[np.ndarray], params: dict[str, Any]) -> list[Any]:
    out = prim.eager(np, *operands, **params)
    return list(out) if prim.multiple_results else [out]


def _moved(moving: int | None) -> Rule:
    """Return the rule of a primitive that moves elements of its first ``moving`` operands (None:
    all) to where the rest of them, if known, says."""

    def rule(walk: _Walk, eqn: Eqn, ins: list[Codes], values: list[Any]) -> list[Codes] | None:
        split = len(ins) if moving is None else moving
        if any(v is None for v in values[split:]):
            return None
        codes, ids = walk.shifted(eqn, ins)
        outs = _run(eqn.prim, [*ids[:split], *values[split:]], eqn.params)
        return [walk.take(codes, out) for out in outs]

    return rule


def _select(walk: _Walk, eqn: Eqn, ins: list[Codes], values: list[Any]) -> list[Codes] | None:
    if values[0] is None:
        return None
    codes, ids = walk.shifted(eqn, ins)
    return [walk.take(codes, np.where(values[0], ids[1], ids[2]))]


def _times(walk: _Walk, eqn: Eqn, ins: list[Codes], values: list[Any]) -> list[Codes]:
    pairs = zip(ins, reversed(values), strict=True)
    return [union([p if v is None else walk.drop_zeros(p, v) for p, v in pairs])]


def _gather(walk: _Walk, eqn: Eqn, ins: list[Codes], values: list[Any]) -> list[Codes] | None:
    if any(v is None for v in values[1:]) or not eqn.invars[0].aval.size:
        return None
    _, ids = walk.shifted(eqn, ins)
    return [walk.take(ins[0], _gathered(ids[0], values[1:], eqn.params["axes"]))]


def _gathered(ids: np.ndarray, indices: Sequence[Any], axes: tuple[int, ...]) -> np.ndarray:
    return gather_p.eager(np, ids, *indices, axes=axes, mode="fill", fill=-1)


def _scatter(walk: _Walk, eqn: Eqn, ins: list[Codes], values: list[Any]) -> list[Codes] | None:
    if any(v is None for v in values[2:]) or not eqn.invars[0].aval.size:
        return None
    _, ids = walk.shifted(eqn, ins)
    if eqn.params["mode"] == "clip":
        sizes = [eqn.invars[0].aval.shape[a] for a in eqn.params["axes"]]
        places = [np.clip(v, 0, n - 1) for v, n in zip(values[2:], sizes, strict=True)]
    else:
        places = values[2:]
    return [union([ins[0], walk.put(ins[1], _gathered(ids[0], places, eqn.params["axes"]))])]


def _reduced(walk: _Walk, eqn: Eqn, ins: list[Codes], values: list[Any]) -> list[Codes]:
    axes = eqn.params["axes"]
    shape = eqn.invars[0].aval.shape
    kept = [n if k not in axes else 1 for k, n in enumerate(shape)]
    to = np.broadcast_to(np.arange(math.prod(kept)).reshape(kept), shape)
    return [walk.put(ins[0], to)]


def _accumulated(walk: _Walk, eqn: Eqn, ins: list[Codes], values: list[Any]) -> list[Codes]:
    """A running sum: each place reads those before it."""
    axis, reverse = eqn.params["axis"], eqn.params["reverse"]
    shape = eqn.invars[0].aval.shape
    ids = np.moveaxis(np.arange(math.prod(shape)).reshape(shape), axis, 0)
    n = shape[axis]
    reads, writes = np.tril_indices(n)[::-1]
    if reverse:
        reads, writes = writes, reads
    took = walk.take(ins[0], ids[reads])
    return [walk.put(took, ids[writes])]


def _dot(walk: _Walk, eqn: Eqn, ins: list[Codes], values: list[Any]) -> list[Codes]:
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]
    found = []
    for k, (own, other) in enumerate((((ca, ba), (cb, bb)), ((cb, bb), (ca, ba)))):
        if len(ins[k]):
            found.append(_dot_one(walk, eqn, ins[k], k, own, other, values[1 - k]))
    return [union(found)]


def _dot_one(
    walk: _Walk, eqn: Eqn, codes: Codes, k: int, own: Any, other: Any, factor: Any
) -> Codes:
    """Return the pattern of a product by operand ``k``, whose axes are laid out as (batch, free,
    contracted), those of the other, ``factor``, as (batch, contracted, free)."""
    (mine, theirs) = (
        eqn.invars[j].aval.shape if type(eqn.invars[j]) is not Lit else () for j in (k, 1 - k)
    )
    (contracted, batch), (o_contracted, o_batch) = own, other
    free = [a for a in range(len(mine)) if a not in (*contracted, *batch)]
    o_free = [a for a in range(len(theirs)) if a not in (*o_contracted, *o_batch)]
    b, f, c = (math.prod(mine[a] for a in axes) for axes in (batch, free, contracted))
    g = math.prod(theirs[a] for a in o_free)
    ids = np.arange(math.prod(mine)).reshape(mine).transpose(*batch, *free, *contracted)
    ids = ids.reshape(b, f, c)
    shape = (b, f, g) if k == 0 else (b, g, f)
    places = np.arange(b * f * g).reshape(shape)
    places = places if k == 0 else places.transpose(0, 2, 1)  # [batch, free, the other's free]
    if factor is not None:
        hot = factor.transpose(*o_batch, *o_contracted, *o_free).reshape(b, c, g) != 0
        if 2 * np.count_nonzero(hot) < hot.size:
            at, row, column = np.nonzero(hot)
            return walk.put(
                walk.take(codes, ids.transpose(0, 2, 1)[at, row]),
                places.transpose(0, 2, 1)[at, column],
            )
    rows = np.empty(ids.size, np.int64)
    rows[ids] = np.broadcast_to(np.arange(b * f).reshape(b, f, 1), (b, f, c))
    summed = walk.put(codes, rows)
    back = np.empty(b * f * g, np.int64)
    back[places] = np.broadcast_to(np.arange(b * f).reshape(b, f, 1), (b, f, g))
    return walk.take(summed, back)


def _conv(walk: _Walk, eqn: Eqn, ins: list[Codes], values: list[Any]) -> list[Codes] | None:
    """Follow each tap of the filters: a convolution of row numbers by a single one."""
    shape = eqn.invars[1].aval.shape
    taps = shape[1:]
    if len(ins[1]) or math.prod(taps) > _MOST_TAPS:
        return None
    lhs = eqn.invars[0].aval
    numbers = np.arange(1.0, lhs.size + 1).reshape(lhs.shape)
    params = {**eqn.params, "out_dtype": np.dtype("float64")}
    found = []
    for tap in np.ndindex(*taps):
        kernel = np.zeros(shape)
        here = (slice(None), *tap)
        kernel[here] = 1.0 if values[1] is None else values[1][here] != 0
        ids = np.rint(conv_general_dilated_p.eager(np, numbers, kernel, **params))
        found.append(walk.take(ins[0], ids.astype(np.int64) - 1))
    return [union(found)]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("broadcast_in_dim", "concatenate", "pad", "reshape", "rev", "slice", "split", "transpose"),
        _moved(None),
    ),
    "conv_general_dilated": _conv,
    "cumsum": _accumulated,
    "dot_general": _dot,
    "dynamic_slice": _moved(1),
    "dynamic_update_slice": _moved(2),
    "gather": _gather,
    "masked_mul": _times,
    "mul": _times,
    "reduce_sum": _reduced,
    "scatter_add": _scatter,
    "select": _select,
    "windows": _moved(None),
}


# -------------------------------------------------------------------------------------- colours
def color(rows: np.ndarray, columns: np.ndarray, count: int) -> np.ndarray:
    """Number ``count`` columns so that no two that have a row in common have one number.

    Args:
        rows: the row of each place that may be nonzero.
        columns: its column.
        count: how many columns there are.

    Returns:
        The number of each column, the first free one in the columns' order.

    References:
        Curtis, Powell and Reid, On the estimation of sparse Jacobian matrices (1974).
    """
    taken: dict[int, int] = {}  # of each row, the set of numbers of its columns, as bits
    colors = np.zeros(count, np.int64)
    order = np.argsort(columns, kind="stable")
    bounds = np.searchsorted(columns[order], np.arange(count + 1)).tolist()
    by_column = rows[order].tolist()
    for k in range(count):
        mine = by_column[bounds[k] : bounds[k + 1]]
        used = 0
        for row in mine:
            used |= taken.get(row, 0)
        free = ~used & (used + 1)
        colors[k] = free.bit_length() - 1
        for row in mine:
            taken[row] = taken.get(row, 0) | free
    return colors
