"""Sums of arrays padded with zeros, which gradients of slices are: arrays side by side.

Zeros are added as they were: what is -0 in an array is 0 in its sum with padding.
"""

from __future__ import annotations

from typing import Any

from funtorch.jaxpr import Eqn

from .rewrite import Atom, Rewriter, Rules

__all__ = ["PADS"]


def _is_zero(value: Any) -> bool:
    """Tell whether a known value is 0, and not -0."""
    return value is not None and not any(value.tobytes())


def _zero_padded(b: Rewriter, v: Atom) -> Eqn | None:
    """Return the equation that pads with zeros to make ``v``, if there is one that only adds."""
    pad = b.maker(v, "pad")
    if pad is None or not b.once(v):
        return None
    return (
        pad
        if _is_zero(b.value(pad.invars[1]))
        and all(n >= 0 for n in (*pad.params["lo"], *pad.params["hi"]))
        else None
    )


def _plus_zero(b: Rewriter, v: Atom) -> Atom:
    """Return ``v + 0``, which differs from ``v`` where that is -0."""
    added = b.maker(v, "add")
    if added is not None and any(_is_zero(b.value(x)) for x in added.invars):
        return v
    return b.emit("add", v, b.full(0, v.aval))


def _parts(b: Rewriter, v: Atom, axis: int) -> list[Atom]:
    """Return what lies side by side in ``v``, zero added."""
    joined = b.maker(v, "concatenate")
    if joined is None or joined.params["axis"] != axis:
        return [_plus_zero(b, v)]
    return [part for x in joined.invars for part in _parts(b, x, axis)]


def _both(b: Rewriter, first: Eqn | None, second: Eqn | None) -> Atom | None:
    """Return the sum of two padded arrays that cover the same place, or touch along one axis."""
    if first is None or second is None:
        return None
    p, q, x, y = first.params, second.params, first.invars[0], second.invars[0]
    if p["interior"] != q["interior"]:
        return None
    zero = first.invars[1]
    ends = [k for k, lo in enumerate(p["lo"]) if (lo, p["hi"][k]) != (q["lo"][k], q["hi"][k])]
    if not ends:
        return b.emit("pad", b.emit("add", x, y), zero, **p)
    axis, size = ends[0], first.outvars[0].aval.shape[ends[0]]
    if len(ends) > 1 or p["interior"][axis]:
        return None
    if size - p["hi"][axis] != q["lo"][axis]:
        first, second, p, q, x, y = second, first, q, p, y, x
    if size - p["hi"][axis] != q["lo"][axis]:
        return None
    whole = b.emit("concatenate", *_parts(b, x, axis), *_parts(b, y, axis), axis=axis)
    hi = tuple(q["hi"][k] if k == axis else n for k, n in enumerate(p["hi"]))
    return b.emit("pad", whole, zero, lo=p["lo"], hi=hi, interior=p["interior"])


def _add_pads(b: Rewriter, eqn: Eqn) -> Atom | None:
    """Join two padded arrays; let a third one join the one of a sum that it touches."""
    x, y = eqn.invars
    joined = _both(b, _zero_padded(b, x), _zero_padded(b, y))
    if joined is not None:
        return joined
    for total, last in ((x, y), (y, x)):
        added = b.maker(total, "add")
        if added is None or not b.once(total):
            continue
        for one, other in (added.invars, added.invars[::-1]):
            joined = _both(b, _zero_padded(b, one), _zero_padded(b, last))
            if joined is not None:
                return b.emit("add", joined, other)
    return None


PADS: Rules = {"add": (_add_pads,)}
