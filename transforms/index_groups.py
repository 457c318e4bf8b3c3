"""Collectives among groups of places of a mapped axis, JAX's ``axis_index_groups``.

Each place gets what all places have, and takes from it what its own group has.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from funtorch.core import ArrayImpl
from funtorch.ops.elementwise import select
from funtorch.ops.families import broadcast_in_dim, full_like
from funtorch.ops.indexing import gather
from funtorch.ops.reduce import reduce_max, reduce_min, reduce_sum

__all__ = ["IndexGroups"]


class IndexGroups:
    """Groups of the places of a mapped axis.

    Args:
        what: who asks, for errors.
        groups: the places of each group, in their order there.
        axis_name: the axis.
        count: its size.
        equal: whether all groups must have the same size.

    Attributes:
        size: of the largest group.

    Raises:
        ValueError: the groups are not of each place once, or differ in size.
    """

    def __init__(
        self,
        what: str,
        groups: Sequence[Sequence[int]],
        axis_name: Hashable,
        count: int,
        equal: bool,
    ) -> None:
        places = sorted(int(k) for group in groups for k in group)
        if places != list(range(count)):
            raise ValueError(
                f"{what}: axis_index_groups must have each place of the axis {axis_name!r}, 0 to "
                f"{count - 1}, once; got {groups}"
            )
        sizes = {len(group) for group in groups if len(group)}
        if equal and len(sizes) > 1:
            raise ValueError(
                f"{what}: axis_index_groups must be of the same size, got sizes {sorted(sizes)}"
            )
        self.equal, self.size = len(sizes) == 1, max(sizes)
        members = np.zeros((count, self.size), np.int32)
        there = np.zeros((count, self.size), bool)
        place = np.zeros(count, np.int32)
        for group in groups:
            for at, k in enumerate(group):
                members[k] = [*group, *[group[0]] * (self.size - len(group))]
                there[k] = np.arange(self.size) < len(group)
                place[k] = at
        self._members, self._there, self._place = map(ArrayImpl, (members, there, place))

    def apply(self, name: str, every: Any, index: Any) -> Any:
        """Return a collective's result in this place's group.

        Args:
            name: of the collective's primitive.
            every: what all places have, along the leading axis.
            index: this place.
        """
        own = _taken(every, _taken(self._members, index))
        return _RULES[name](self, own, index)

    def _sum(self, own: Any, index: Any) -> Any:
        if not self.equal:
            there = _taken(self._there, index)
            mask = broadcast_in_dim(there, shape=own.shape, dims=(0,))
            own = select(mask, own, full_like(own, 0))
        return reduce_sum(own, axes=(0,))

    def _part(self, own: Any, index: Any) -> Any:
        return _taken(self._sum(own, index), _taken(self._place, index))

    def _exchanged(self, own: Any, index: Any) -> Any:
        return _taken(own, _taken(self._place, index), 1)


def _taken(x: Any, index: Any, axis: int = 0) -> Any:
    return gather(x, index, axes=(axis,), mode="clip", fill=None)


_RULES: dict[str, Callable[[IndexGroups, Any, Any], Any]] = {
    "psum": IndexGroups._sum,
    "pmax": lambda groups, own, index: reduce_max(own, axes=(0,)),
    "pmin": lambda groups, own, index: reduce_min(own, axes=(0,)),
    "all_gather": lambda groups, own, index: own,
    "psum_scatter": IndexGroups._part,
    "all_to_all": IndexGroups._exchanged,
}
