"""Attention as cuDNN has it: of 16-bit floats, with no mask but the causal one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..plan import Attention
from ..scalars.elements import HALVES

__all__ = ["Attending", "as_attending"]


@dataclass(frozen=True)
class Attending:
    """Attention, or the cotangents of queries, keys and values.

    Attributes:
        backward: which of the two.
        dtype: of queries, keys, values and results.
        batch, heads: of queries; ``shared``: heads of keys and values, each for as many of queries.
        queries, keys, features, values: lengths.
        scale: of the products.
        causal: whether a query sees no keys after its own position.
        places: where queries, keys, values, results and all that is of their shapes lie, in the
            order of the step's arrays: an offset, and strides of batch, heads, rows and features.
    """

    backward: bool
    dtype: np.dtype
    batch: int
    heads: int
    shared: int
    queries: int
    keys: int
    features: int
    values: int
    scale: float
    causal: bool
    places: tuple[tuple[int, tuple[int, ...]], ...]


def as_attending(step: Attention) -> Attending | None:
    """Return what cuDNN is asked for a step of attention; None where it has nothing for it."""
    eqn = step.eqn
    q, k, v, *rest = (x.aval for x in eqn.invars)
    p, backward = eqn.params, eqn.prim.name == "attention_grad"
    masks = len(rest) > (4 if backward else 0)
    seen = p["left"] is None and p["right"] in (None, 0)
    whole = not backward or p["of"] == (0, 1, 2)
    if q.dtype not in HALVES or masks or not seen or not whole:
        return None
    b, h, g, t, e = map(int, q.shape)
    s, n = int(k.shape[2]), int(v.shape[3])
    scale, causal = float(p["scale"]), p["right"] == 0
    places = []
    for offset, strides in step.places:
        if len(strides) == 5:  # heads of a group are neighbours of heads
            if g > 1 and h > 1 and strides[1] != g * strides[2]:
                return None
            strides = (strides[0], strides[2] if g > 1 else strides[1], *strides[3:])
        places.append((offset, _positive(strides)))
    return Attending(
        backward, np.dtype(q.dtype), b, h * g, h, t, s, e, n, scale, causal, tuple(places)
    )


def _positive(strides: tuple[int, ...]) -> tuple[int, ...]:
    """Return strides in which those of axes of one element, that are 0, are some others."""
    most = max(strides)
    return tuple(s or most for s in strides)
