"""Objects that are indexed with ranges: mgrid, ogrid, r_, c_, s_, index_exp."""

from __future__ import annotations

from typing import Any

import numpy as np

from funtorch.core import Array, concrete_or_error
from funtorch.numpy.coordinates import meshgrid
from funtorch.numpy.creation import arange, linspace
from funtorch.numpy.manipulation import concatenate, reshape, stack
from funtorch.numpy.promotion import asarray, promote

__all__ = ["c_", "index_exp", "mgrid", "ogrid", "r_", "s_"]

index_exp = np.index_exp
s_ = np.s_


def _number(x: Any, what: str) -> Any:
    return concrete_or_error(x, what).item() if isinstance(x, (Array, np.generic)) else x


def _range(item: slice, what: str) -> Any:
    """Return the values that a slice stands for; an imaginary step counts them, ends included."""
    start, stop, step = (
        None if part is None else _number(part, f"a bound or step of a slice given to {what}")
        for part in (item.start, item.stop, item.step)
    )
    start = 0 if start is None else start
    if isinstance(step, complex):
        return linspace(start, stop, int(abs(step)))
    if stop is None:
        raise TypeError(f"{what}: a slice needs its end, got {item}")
    return arange(start, stop, 1 if step is None else step)


class _Grid:
    """``mgrid[0:3, 0:2]``: the coordinates of a grid, along all axes or (ogrid) each along its own.

    An imaginary step ``5j`` means 5 points, both ends included.

    Example:
        >>> mgrid[0:2, 0:2].tolist()
        [[[0, 0], [1, 1]], [[0, 1], [0, 1]]]
    """

    def __init__(self, name: str, sparse: bool) -> None:
        self.name, self.sparse = name, sparse

    def __repr__(self) -> str:
        return f"<funtorch.numpy.{self.name}>"

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return _range(key, self.name)
        if not isinstance(key, tuple) or not all(isinstance(item, slice) for item in key):
            raise TypeError(f"{self.name} is indexed with slices, got {key!r:.80}")
        axes = promote(self.name, *[_range(item, self.name) for item in key])
        grids = meshgrid(*axes, indexing="ij", sparse=self.sparse)
        return grids if self.sparse else stack(grids)


mgrid = _Grid("mgrid", sparse=False)
ogrid = _Grid("ogrid", sparse=True)


class _Joiner:
    """``r_[1:4, 7]`` and ``c_[x, y]``: ranges, numbers and arrays joined to one array.

    A string first says how: 'axis', 'axis,rank' or 'axis,rank,place', where the place is that of
    the axes of an array of lower rank.

    Example:
        >>> r_[1:4, 7].tolist(), c_[1:3, 3:5].tolist()
        ([1, 2, 3, 7], [[1, 3], [2, 4]])

    References:
        numpy.r_, numpy.c_
    """

    def __init__(self, name: str, axis: int, rank: int, place: int) -> None:
        self.name = name
        self.how = (axis, rank, place)

    def __repr__(self) -> str:
        return f"<funtorch.numpy.{self.name}>"

    def _directive(self, text: str) -> tuple[tuple[int, int, int], bool | None]:
        if text in ("r", "c"):
            return self.how, text == "c"
        try:
            given = [int(part) for part in text.split(",")]
            if len(given) > 3:
                raise ValueError
        except ValueError:
            raise ValueError(
                f"{self.name}: {text!r} is no directive: 'r', 'c', or up to three numbers "
                "'axis,rank,place'"
            ) from None
        return (*given, *self.how[len(given) :]), None  # type: ignore[return-value]

    def __getitem__(self, key: Any) -> Any:
        items = list(key) if isinstance(key, tuple) else [key]
        (axis, rank, place), as_column = self.how, None
        if items and isinstance(items[0], str):
            (axis, rank, place), as_column = self._directive(items.pop(0))
        if not items:
            raise ValueError(f"{self.name}: nothing to join")
        parts = []
        for item in items:
            if isinstance(item, str):
                raise ValueError(f"{self.name}: the directive {item!r} must come first")
            part = _range(item, self.name) if isinstance(item, slice) else asarray(item)
            parts.append(_to_rank(part, max(rank, 1), place))
        out = concatenate(parts, axis)
        if as_column is None or out.ndim > 1:
            return out
        return reshape(out, (-1, 1) if as_column else (1, -1))


def _to_rank(x: Any, rank: int, place: int) -> Any:
    """Add axes of size 1 up to a rank; those x has start at ``place``, -1 for the last ones."""
    missing = rank - x.ndim
    if missing <= 0:
        return x
    before = min(place, missing) if place >= 0 else missing + place + 1
    return reshape(x, (1,) * before + x.shape + (1,) * (missing - before))


r_ = _Joiner("r_", 0, 1, -1)
c_ = _Joiner("c_", -1, 2, 0)
