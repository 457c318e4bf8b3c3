"""How arrays lie in memory, under the names of jax.experimental.layout: row by row."""

from __future__ import annotations

from typing import Any, NamedTuple

from funtorch.sharding import Sharding

__all__ = ["Format", "Layout", "with_layout_constraint"]


class Layout(NamedTuple):
    """The order of axes in memory, the slowest first.

    Args:
        major_to_minor: the axes.
        tiling: tiles of elements that lie together.
        sub_byte_element_size_in_bits: of elements smaller than a byte.
    """

    major_to_minor: tuple[int, ...]
    tiling: tuple[tuple[int, ...], ...] | None = None
    sub_byte_element_size_in_bits: int = 0


class Format(NamedTuple):
    """A layout, and the devices that hold an array.

    Args:
        layout: a `Layout`, or None for the usual one.
        sharding: a sharding, or None.
    """

    layout: Layout | None = None
    sharding: Sharding | None = None


def with_layout_constraint(x: Any, layout: Layout) -> Any:
    """Return an array as it is: programs order axes in memory as they need.

    Example:
        >>> import funtorch.numpy as jnp
        >>> with_layout_constraint(jnp.arange(2), Layout((0,)))
        Array([0, 1], dtype=int32)
    """
    return x
