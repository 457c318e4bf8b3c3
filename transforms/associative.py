"""`associative_scan`: all partial results of an associative function, in logarithmic depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funtorch import arraytree as tree
from funtorch.numpy import concatenate, flip, stack
from funtorch.numpy.manipulation import slice_axis

from .arguments import as_arrays, check_callable, function_name

__all__ = ["associative_scan"]

Leaves = list[Any]


def associative_scan(
    fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0
) -> Any:
    """Combine the elements up to each place along an axis by an associative function.

    Pairs of neighbours are combined at once, then what they gave, and so on: about ``2 log2(n)``
    calls of ``fn`` on arrays, with less than ``2 n`` combinations altogether.

    Args:
        fn: an associative function of two pytrees like ``elems``, elementwise along ``axis``
            (make it so by `vmap`); returns such a pytree.
        elems: pytree of arrays of one size along ``axis``.
        reverse: whether to begin at the end.
        axis: the axis.

    Returns:
        A pytree like ``elems``: ``e0, fn(e0, e1), fn(fn(e0, e1), e2), ...``.

    Raises:
        ValueError: if there are no arrays, sizes differ, or the axis is out of range.
        TypeError: if ``fn`` returns another structure or other shapes.

    Example:
        >>> import funtorch as ft
        >>> ft.lax.associative_scan(ft.numpy.maximum, ft.numpy.array([1, 3, 2, 5]))
        Array([1, 3, 3, 5], dtype=int32)

    References:
        G. E. Blelloch, "Prefix sums and their applications", CMU-CS-90-190, 1990
    """
    check_callable(fn, "associative_scan")
    leaves, treedef = tree.flatten(elems)
    xs = as_arrays(leaves, "elems", fn)
    if not xs:
        raise ValueError("associative_scan: elems has no arrays")
    if any(not -x.ndim <= axis < x.ndim for x in xs):
        shapes = ", ".join(str(x.shape) for x in xs)
        raise ValueError(f"associative_scan: axis {axis} is out of range for elems of {shapes}")
    axis = axis % xs[0].ndim if axis < 0 else axis
    if len({x.shape[axis] for x in xs}) > 1:
        shapes = ", ".join(str(x.shape) for x in xs)
        raise ValueError(
            f"associative_scan: elems must have one size along axis {axis}, got shapes {shapes}"
        )

    def combine(a: Leaves, b: Leaves) -> Leaves:
        out, out_tree = tree.flatten(fn(treedef.unflatten(a), treedef.unflatten(b)))
        if out_tree != treedef:
            raise TypeError(
                f"associative_scan: {function_name(fn)} must return the structure of its "
                f"arguments, {treedef}; it returned {out_tree}"
            )
        found = as_arrays(out, "output", fn)
        for k, (x, y) in enumerate(zip(a, found, strict=True)):
            if x.shape != y.shape or (x.dtype != y.dtype and not y.weak_type):
                raise TypeError(
                    f"associative_scan: {function_name(fn)} must return the types of its "
                    f"arguments; leaf {k} came in as {x.aval.str_short()} and out as "
                    f"{y.aval.str_short()}"
                )
        return [y.astype(x.dtype) for x, y in zip(a, found, strict=True)]

    if reverse:
        xs = [flip(x, axis) for x in xs]
    out = _scan(combine, xs, axis)
    if reverse:
        out = [flip(y, axis) for y in out]
    return treedef.unflatten(out)


def _scan(combine: Callable[[Leaves, Leaves], Leaves], xs: Leaves, axis: int) -> Leaves:
    n = xs[0].shape[axis]
    if n < 2:
        return xs

    def cut(ys: Leaves, start: int, stop: int, step: int = 1) -> Leaves:
        return [slice_axis(y, axis, start, stop, step) for y in ys]

    even = n - n % 2
    # What ends at odd places, then what ends at even ones, which are one element longer.
    odds = _scan(combine, combine(cut(xs, 0, even, 2), cut(xs, 1, even, 2)), axis)
    first = cut(xs, 0, 1)
    if n > 2:
        later = combine(cut(odds, 0, (n - 1) // 2), cut(xs, 2, n, 2))
        evens = [concatenate([f, r], axis) for f, r in zip(first, later, strict=True)]
    else:
        evens = first
    woven = [
        stack([e, o], axis + 1).reshape(*o.shape[:axis], even, *o.shape[axis + 1 :])
        for e, o in zip(cut(evens, 0, even // 2), odds, strict=True)
    ]
    if n == even:
        return woven
    last = cut(evens, even // 2, even // 2 + 1)
    return [concatenate([w, e], axis) for w, e in zip(woven, last, strict=True)]
