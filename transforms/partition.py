"""Lanes of `vmap` that decide differently in Python: groups, what they share, and one result.

When lanes disagree, the run goes on with those of one outcome, and the function runs again for the
others. What it did before they parted is not done again: each operation gives what it gave then,
cut to the lanes of the group. Where the values of lanes are known, a group has these lanes only.
Where they are not (under `jit`), it has a mask: all lanes are computed, and `select` takes those of
the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funtorch.core import ArrayImpl, aval_of
from funtorch.errors import Source, TooManyPathsError
from funtorch.ops.elementwise import bitwise_and, convert, select
from funtorch.ops.families import broadcast_in_dim, spread
from funtorch.ops.indexing import gather
from funtorch.ops.shape import concatenate

from .explore import common_types
from .paths import MOST_PATHS

__all__ = ["Group", "NoLanesError", "Part", "merge", "take", "too_many_groups"]


class NoLanesError(BaseException):
    """A group turned out to have no lanes: its run is given up."""


class Group:
    """Lanes that have decided alike so far.

    Attributes:
        cuts: lanes that were kept at each division, as places among those before it.
        route: the outcomes of the decisions.
        past: what was done before the last of them: primitives, and what is left of their results.
        mask: which lanes belong to it, where that is not known yet; None for all.
        where: the line of the last division.
    """

    __slots__ = ("cuts", "mask", "past", "route", "where")

    def __init__(
        self,
        cuts: Sequence[np.ndarray] = (),
        route: Sequence[bool] = (),
        past: Sequence[Any] = (),
        mask: Any = None,
        where: Source | None = None,
    ) -> None:
        self.cuts = list(cuts)
        self.route = list(route)
        self.past = past
        self.mask = mask
        self.where = where

    @property
    def is_part(self) -> bool:
        """Whether it may lack lanes."""
        return bool(self.cuts) or self.mask is not None

    def since(self, version: int) -> np.ndarray:
        """Return the lanes that are left, as places among those after ``version`` cuts."""
        index = self.cuts[version]
        for cut in self.cuts[version + 1 :]:
            index = index[cut]
        return index

    def __str__(self) -> str:
        if not self.cuts:
            return f"the lanes that decide {self.route[-1]} at {self.where}"
        lanes = self.since(0)
        shown = ", ".join(map(str, lanes[:8].tolist())) + (", ..." if len(lanes) > 8 else "")
        return f"lane{'s' if len(lanes) > 1 else ''} {shown}"


class Part(NamedTuple):
    """What a function returned for a group."""

    group: Group
    outs: list[Any]
    batched: list[bool]


def too_many_groups(name: str, where: Source) -> TooManyPathsError:
    return TooManyPathsError(
        f"vmap of {name}: its lanes go more than {MOST_PATHS} ways through its Python decisions "
        f"(`if`, `while`, `and`, `or`, `not`, `assert`), the last one at {where}. Write that "
        "decision as funtorch.lax.cond or funtorch.numpy.where, and its loop as "
        "funtorch.lax.while_loop; or call vmap outside of jit, where each lane goes its way"
    )


def take(x: Any, index: np.ndarray) -> Any:
    """Return the lanes at the places ``index`` of an array with lanes in front."""
    return gather(x, ArrayImpl(index.astype(np.int32)), axes=(0,), mode="promise", fill=None)


def merge(parts: Sequence[Part], size: int, name: str) -> list[Any]:
    """Return the results of all lanes, lanes in front, from those of groups.

    Args:
        parts: what the function returned for each group.
        size: the number of lanes.
        name: the function's name.

    Raises:
        TypeError: if groups return different shapes.
    """
    columns = [
        [
            aval.update(shape=aval.shape[1:]) if b else aval
            for aval, b in zip(map(aval_of, part.outs), part.batched, strict=True)
        ]
        for part in parts
    ]
    types = common_types(columns, lambda k: f"in {parts[k].group}", f"vmap of {name}")
    found = []
    for k, aval in enumerate(types):
        arrays = [_full(part, k, aval, size) for part in parts]
        found.append((_selected if _masked(parts) else _permuted)(parts, arrays, size))
    return found


def _masked(parts: Sequence[Part]) -> bool:
    return any(part.group.mask is not None for part in parts)


def _full(part: Part, k: int, aval: Any, size: int) -> Any:
    x = part.outs[k]
    if not part.batched[k]:
        x = spread(x, len(part.group.since(0)) if part.group.cuts else size)
    if x.dtype != aval.dtype or x.weak_type != aval.weak_type:
        x = convert(x, dtype=aval.dtype, weak_type=aval.weak_type)
    return x


def _permuted(parts: Sequence[Part], arrays: Sequence[Any], size: int) -> Any:
    lanes = np.concatenate([part.group.since(0) for part in parts])
    return take(concatenate(*arrays, axis=0), np.argsort(lanes, kind="stable"))


def _selected(parts: Sequence[Part], arrays: Sequence[Any], size: int) -> Any:
    """Take each lane from the group whose mask has it; the first group needs none."""
    chosen = None
    for part, x in zip(parts, arrays, strict=True):
        mask = part.group.mask
        if part.group.cuts:
            lanes = part.group.since(0)
            place, member = np.zeros(size, np.int32), np.zeros(size, bool)
            place[lanes], member[lanes] = np.arange(len(lanes)), True
            x = take(x, place)
            own = ArrayImpl(member)
            mask = own if mask is None else bitwise_and(own, take(mask, place))
        if chosen is None:
            chosen = x
        else:
            chosen = select(broadcast_in_dim(mask, shape=x.shape, dims=(0,)), x, chosen)
    return chosen
