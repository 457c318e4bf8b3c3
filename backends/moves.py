"""Index maps: where an element of a movement's result comes from in its operand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from funtorch.jaxpr import Eqn

from .kernel import Affine, row_major

__all__ = ["MOVES", "Map", "combine", "identity", "merged", "merged_axes", "moved"]

Map = tuple[Affine, ...]
"""One affine index per axis of an array."""


def combine(terms: Sequence[tuple[int, Affine]], ndim: int, offset: int = 0) -> Affine:
    """Return ``offset + sum(factor * index)`` as one affine index."""
    strides = [0] * ndim
    dynamic: dict[int, int] = {}
    for factor, m in terms:
        offset += factor * m.offset
        strides = [s + factor * t for s, t in zip(strides, m.strides, strict=True)]
        for n, s in m.dynamic:
            dynamic[n] = dynamic.get(n, 0) + factor * s
    return Affine(offset, tuple(strides), tuple(sorted(dynamic.items())))


def identity(sizes: Sequence[int]) -> Map:
    """Return every loop index by itself; those of axes of size 1 are 0."""
    ndim = len(sizes)
    return tuple(
        Affine(0, tuple(int(k == j and n != 1) for j in range(ndim))) for k, n in enumerate(sizes)
    )


def merged_axes(small: Sequence[int], large: Sequence[int]) -> list[list[int]] | None:
    """Return, per axis of ``small``, the axes of ``large`` that it merges, or None."""
    groups, at = [], 0
    for n in small:
        size, group = 1, []
        while at < len(large) and size != n and int(size) < int(n):
            size *= large[at]
            group.append(at)
            at += 1
        if size != n:
            return None
        groups.append(group)
    return groups if all(large[k] == 1 for k in range(at, len(large))) else None


def merged(small: Sequence[int], large: Sequence[int], where: Map, ndim: int) -> Map | None:
    """Return the index map into an array of shape ``small``, given the one into the same elements
    as an array of shape ``large``; None where ``small`` does not merge the axes of ``large``."""
    groups = merged_axes(small, large)
    if groups is None:
        return None
    found = []
    for group in groups:
        strides = row_major([large[k] for k in group])
        found.append(combine([(s, where[k]) for s, k in zip(strides, group, strict=True)], ndim))
    return tuple(found)


# ---------------------------------------------------------------------- one row per movement
def _broadcast(eqn: Eqn, where: Map, ndim: int) -> Map:
    zero, shape = Affine(0, (0,) * ndim), eqn.invars[0].aval.shape
    dims = eqn.params["dims"]
    return tuple(where[d] if n != 1 else zero for n, d in zip(shape, dims, strict=True))


def _transpose(eqn: Eqn, where: Map, ndim: int) -> Map:
    perm = eqn.params["perm"]
    return tuple(where[perm.index(k)] for k in range(len(perm)))


def _slice(eqn: Eqn, where: Map, ndim: int) -> Map:
    start = eqn.params["start"]
    stride = eqn.params["stride"] or (1,) * len(start)
    return tuple(
        combine([(s, m)], ndim, first) for first, s, m in zip(start, stride, where, strict=True)
    )


def _rev(eqn: Eqn, where: Map, ndim: int) -> Map:
    return tuple(
        combine([(-1, m)], ndim, n - 1) if k in eqn.params["axes"] else m
        for k, (n, m) in enumerate(zip(eqn.invars[0].aval.shape, where, strict=True))
    )


def _reshape(eqn: Eqn, where: Map, ndim: int) -> Map | None:
    return merged(eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape, where, ndim)


def _reduced(eqn: Eqn, where: Map, ndim: int) -> Map | None:
    """A reduction over axes of size 1 alone."""
    shape, axes, kept = eqn.invars[0].aval.shape, eqn.params["axes"], iter(where)
    if math.prod(shape[k] for k in axes) != 1:
        return None
    return tuple(Affine(0, (0,) * ndim) if k in axes else next(kept) for k in range(len(shape)))


def _windows(eqn: Eqn, where: Map, ndim: int) -> Map:
    window, strides, dilation = (eqn.params[k] for k in ("window", "strides", "dilation"))
    m, lead = len(window), len(where) - 2 * len(window)
    places = zip(where[lead : lead + m], where[lead + m :], strides, dilation, strict=True)
    return (*where[:lead], *(combine([(d, tap), (s, p)], ndim) for tap, p, s, d in places))


MOVES: dict[str, Callable[[Eqn, Map, int], Map | None]] = {
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "slice": _slice,
    "rev": _rev,
    "reshape": _reshape,
    "windows": _windows,
    **{f"reduce_{f}": _reduced for f in ("sum", "max", "min", "prod", "and", "or", "xor")},
}
"""By primitive: from an equation, an index map into its result and the number of loop axes to the
index map into its operand, or None where that is not affine."""


def moved(eqn: Eqn, where: Map, ndim: int) -> Map | None:
    """Return the index map into a movement's operand, given the one into its result."""
    return MOVES[eqn.prim.name](eqn, where, ndim)
