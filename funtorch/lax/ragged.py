"""Products of matrices by groups of rows: ragged_dot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from funtorch import dtypes
from funtorch.lax.structured import dot_general
from funtorch.numpy import elementwise, manipulation
from funtorch.numpy.creation import arange
from funtorch.numpy.promotion import broadcast_to, check_precision, convert, describe, to_array
from funtorch.numpy.reductions import cumsum

__all__ = ["RaggedDotDimensionNumbers", "ragged_dot", "ragged_dot_general"]


class RaggedDotDimensionNumbers(NamedTuple):
    """Which axes are which in `ragged_dot_general`.

    Attributes:
        dot_dimension_numbers: as for `dot_general`.
        lhs_ragged_dimensions: the one axis of lhs that is cut into groups.
        rhs_group_dimensions: the axis of rhs that runs over the groups, or none.
    """

    dot_dimension_numbers: Any
    lhs_ragged_dimensions: Sequence[int]
    rhs_group_dimensions: Sequence[int]


_PLAIN = RaggedDotDimensionNumbers((((1,), (1,)), ((), ())), (0,), (0,))


def ragged_dot(
    lhs: Any,
    rhs: Any,
    group_sizes: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
    group_offset: Any = None,
) -> Any:
    """Multiply the rows of each group by the matrix of the group.

    Args:
        lhs: matrix (m, k).
        rhs: one matrix per group (g, k, n).
        group_sizes: integers (g,); the groups' rows follow each other. Rows beyond them give 0.
        precision: accepted for JAX's sake.
        preferred_element_type: dtype to accumulate and return.
        group_offset: must be None.

    Returns:
        An Array (m, n).

    Example:
        >>> from funtorch.numpy import asarray, ones
        >>> ragged_dot(ones((3, 1)), asarray([[[1.0]], [[5.0]]]), asarray([1, 2])).tolist()
        [[1.0], [5.0], [5.0]]

    References:
        jax.lax.ragged_dot
    """
    check_precision(precision, "ragged_dot")
    return ragged_dot_general(
        lhs, rhs, group_sizes, _PLAIN, precision, preferred_element_type, group_offset
    )


def ragged_dot_general(
    lhs: Any,
    rhs: Any,
    group_sizes: Any,
    ragged_dot_dimension_numbers: RaggedDotDimensionNumbers,
    precision: Any = None,
    preferred_element_type: Any = None,
    group_offset: Any = None,
) -> Any:
    """Contract as `dot_general` does, where one axis of lhs is cut into groups.

    If that axis is free, each of its rows meets its group's part of rhs, and the result is that of
    `dot_general`. If it is contracted, the result has the groups as a leading axis. If it runs with
    an axis of rhs, groups do not matter.

    Args:
        lhs, rhs: arrays.
        group_sizes: integers (g,), or with leading axes for those of lhs outside of the ragged one.
        ragged_dot_dimension_numbers: a `RaggedDotDimensionNumbers`.
        precision: accepted for JAX's sake.
        preferred_element_type: dtype to accumulate and return.
        group_offset: must be None.

    References:
        jax.lax.ragged_dot_general
    """
    check_precision(precision, "ragged_dot_general")
    name = "ragged_dot_general"
    x, y = to_array(lhs, name, "lhs"), to_array(rhs, name, "rhs")
    sizes = to_array(group_sizes, name, "group_sizes")
    if group_offset is not None:
        raise NotImplementedError(f"lax.{name}: group_offset is not supported")
    if not sizes.ndim or not dtypes.is_integer(sizes.dtype):
        raise TypeError(f"lax.{name}: group_sizes must be integers (g,), got {describe(sizes)}")
    numbers = ragged_dot_dimension_numbers
    if not isinstance(numbers, RaggedDotDimensionNumbers):
        raise TypeError(
            f"lax.{name}: ragged_dot_dimension_numbers must be a RaggedDotDimensionNumbers, got "
            f"{type(numbers).__name__}: {numbers!r:.80}"
        )
    (cl, cr), (bl, br) = (tuple(map(tuple, pair)) for pair in numbers.dot_dimension_numbers)
    if len(numbers.lhs_ragged_dimensions) != 1 or len(numbers.rhs_group_dimensions) > 1:
        raise TypeError(
            f"lax.{name}: one ragged axis of lhs and at most one group axis of rhs are possible, "
            f"got {numbers}"
        )
    (ragged,) = numbers.lhs_ragged_dimensions
    options = (precision, preferred_element_type)
    if ragged in bl:
        return dot_general(x, y, ((cl, cr), (bl, br)), *options)
    free = [d for d in range(x.ndim) if d not in cl and d not in bl]
    outer = cl if ragged in cl else free
    before = (*bl, *outer[: list(outer).index(ragged)])
    masked = manipulation.expand_dims(x, 0)
    zero = convert(to_array(0, name), x.dtype)
    masked = elementwise.where(_members(x, sizes, ragged, before, name), masked, zero)
    shifted = tuple(tuple(d + 1 for d in axes) for axes in (cl, bl))
    if ragged in cl:
        out = dot_general(masked, y, ((shifted[0], cr), (shifted[1], br)), *options)
        return manipulation.moveaxis(out, len(bl), 0)
    if len(numbers.rhs_group_dimensions) != 1:
        raise TypeError(f"lax.{name}: rhs needs a group axis where a free axis of lhs is ragged")
    (group,) = numbers.rhs_group_dimensions
    return dot_general(masked, y, (((0, *shifted[0]), (group, *cr)), (shifted[1], br)), *options)


def _members(x: Any, sizes: Any, ragged: int, before: tuple[int, ...], name: str) -> Any:
    """Return a bool array (g, axes of x): whether an element is in a group."""
    lead = tuple(x.shape[d] for d in before)
    g = sizes.shape[-1]
    if sizes.ndim == 1:
        sizes = broadcast_to(sizes, (*lead, g))
    if sizes.shape[:-1] != lead:
        raise TypeError(
            f"lax.{name}: group_sizes must have shape {(g,)} or {(*lead, g)}, got {describe(sizes)}"
        )
    ends = manipulation.moveaxis(cumsum(sizes, -1), -1, 0)
    starts = elementwise.subtract(ends, manipulation.moveaxis(sizes, -1, 0))
    shape = (g, *(n if d in before else 1 for d, n in enumerate(x.shape)))
    order = np.argsort(np.asarray(before)) if before else np.arange(0)
    starts, ends = (
        manipulation.reshape(manipulation.transpose(b, (0, *(int(k) + 1 for k in order))), shape)
        for b in (starts, ends)
    )
    line = (1, *(n if d == ragged else 1 for d, n in enumerate(x.shape)))
    place = manipulation.reshape(arange(x.shape[ragged], dtype=sizes.dtype), line)
    return elementwise.logical_and(
        elementwise.less_equal(starts, place), elementwise.less(place, ends)
    )
