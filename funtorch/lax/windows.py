"""Reductions over sliding windows, and the paddings that windows share, with jax.lax's names."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl, ShapedArray, primitives
from funtorch.jaxpr import Jaxpr, stage
from funtorch.numpy import manipulation
from funtorch.numpy.promotion import convert, describe, spread_to, static_int, to_array
from funtorch.ops.window import slide
from funtorch.transforms import vmap
from funtorch.tree import flatten, unflatten

__all__ = ["padtype_to_pads", "pads_per_axis", "per_axis", "reduce_window", "spans"]

Pairs = tuple[tuple[int, int], ...]


# -------------------------------------------------------------------------------------- parameters
def per_axis(value: Sequence[int] | None, count: int, what: str) -> tuple[int, ...]:
    """Return a parameter of ``count`` axes as positive ints, 1 each where it is None.

    Raises:
        TypeError: it has another length, or holds something else than ints.
        ValueError: an entry is less than 1.
    """
    if value is None:
        return (1,) * count
    out = tuple(static_int(n, what) for n in value)
    if len(out) != count:
        raise TypeError(f"{what} must have one entry for each of {count} axes, got {out}")
    if any(n < 1 for n in out):
        raise ValueError(f"{what} must be positive, got {out}")
    return out


def spans(sizes: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Return the extents of elements with gaps between them."""
    return tuple((n - 1) * d + 1 if n else 0 for n, d in zip(sizes, dilation, strict=True))


def _same(n: int, window: int, stride: int) -> int:
    return builtins.max(0, (-(-n // stride) - 1) * stride + window - n)


_PADDINGS: dict[str, Callable[[int, int, int], tuple[int, int]]] = {
    "SAME": lambda *axis: (_same(*axis) // 2, -(-_same(*axis) // 2)),
    "SAME_LOWER": lambda *axis: (-(-_same(*axis) // 2), _same(*axis) // 2),
    "VALID": lambda *axis: (0, 0),
}


def padtype_to_pads(
    in_shape: Sequence[int],
    window_shape: Sequence[int],
    window_strides: Sequence[int],
    padding: str,
) -> list[tuple[int, int]]:
    """Return the (low, high) padding of each axis that a padding's name stands for.

    Args:
        in_shape: sizes of the axes.
        window_shape: extents of the window, dilation included.
        window_strides: its strides.
        padding: 'SAME' (as many windows as a stride of 1 would give places, divided by the stride;
            an odd element goes to the high end), 'SAME_LOWER' (to the low end) or 'VALID' (none).

    Raises:
        ValueError: the name is another one.

    Example:
        >>> padtype_to_pads((8, 9), (3, 2), (1, 2), "SAME")
        [(1, 1), (0, 1)]

    References:
        jax.lax.padtype_to_pads
    """
    given = {"in_shape": in_shape, "window_shape": window_shape, "window_strides": window_strides}
    for name, sizes in given.items():
        if isinstance(sizes, str) or not all(isinstance(n, (int, np.integer)) for n in sizes):
            raise TypeError(f"padtype_to_pads: {name} must be integers, got {sizes!r:.80}")
    rule = _PADDINGS.get(str(padding).upper())
    if rule is None:
        raise ValueError(
            f"padding {padding!r} is unknown: write {', '.join(map(repr, _PADDINGS))}, or a pair "
            "(low, high) for each axis"
        )
    return [rule(*axis) for axis in zip(in_shape, window_shape, window_strides, strict=True)]


def pads_per_axis(
    padding: Any, sizes: Sequence[int], window: Sequence[int], strides: Sequence[int], what: str
) -> Pairs:
    """Return a padding argument, a name or pairs, as one (low, high) per axis.

    Raises:
        TypeError: it is neither, or has another length.
        ValueError: the name is unknown.
    """
    if isinstance(padding, str):
        return tuple(padtype_to_pads(sizes, window, strides, padding))
    try:
        pairs = tuple((static_int(lo, what), static_int(hi, what)) for lo, hi in padding)
    except (TypeError, ValueError):
        pairs = None
    if pairs is None or len(pairs) != len(sizes):
        raise TypeError(
            f"{what} must be 'SAME', 'VALID' or a pair (low, high) for each of {len(sizes)} axes, "
            f"got {padding!r}"
        )
    return pairs


# --------------------------------------------------------------------------------- reduce_window
def _end(dtype: Any, sign: int) -> Any:
    """Return the largest (sign 1) or the smallest (sign -1) value of a dtype."""
    if dtypes.is_float(dtype):
        return sign * math.inf
    if dtypes.is_bool(dtype):
        return sign > 0
    limits = dtypes.iinfo(dtype)
    return limits.max if sign > 0 else limits.min


# scalar primitive: the primitive over windows, and its neutral element
_MONOIDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "add": ("reduce_window_sum", lambda dtype: 0),
    "max": ("reduce_window_max", lambda dtype: _end(dtype, -1)),
    "min": ("reduce_window_min", lambda dtype: _end(dtype, 1)),
}


def _known(jaxpr: Jaxpr) -> str | None:
    """Return the name of the primitive that a program of two arguments consists of, if it does."""
    if len(jaxpr.eqns) != 1 or len(jaxpr.invars) != 2:
        return None
    (eqn,) = jaxpr.eqns
    plain = set(eqn.invars) == set(jaxpr.invars) and jaxpr.outvars == list(eqn.outvars)
    return eqn.prim.name if plain and eqn.prim.name in _MONOIDS else None


def _cut(xs: list[Any], axis: int, start: int, count: int, step: int) -> list[Any]:
    stop = start + (count - 1) * step + 1 if count else start
    return [manipulation.slice_axis(x, x.ndim + axis, start, stop, step) for x in xs]


def _reduce(
    flat: Callable[..., list[Any]], xs: list[Any], values: list[Any], params: dict[str, Any]
) -> list[Any]:
    """Reduce the windows of padded arrays by a function of scalars."""
    scalars = [ShapedArray((), x.dtype) for x in xs]
    kind = _known(stage(flat, [*scalars, *scalars]))
    over_lanes = vmap(flat)

    def combine(first: list[Any], second: list[Any], taps: int = 0) -> list[Any]:
        lanes = over_lanes(*(manipulation.ravel(x) for x in (*first, *second)))
        return [manipulation.reshape(y, x.shape) for x, y in zip(first, lanes, strict=True)]

    if kind is not None:
        name, neutral = _MONOIDS[kind]
        out = [primitives[name].bind(*xs, **params)]
        start = values[0]  # one that is differentiated in stays
        if isinstance(start, ArrayImpl) and start.host() == neutral(xs[0].dtype):
            return out
    else:
        out = slide(xs, xs[0].shape, **params, combine=combine, cut=_cut)
    return combine([spread_to(v, o.shape) for v, o in zip(values, out, strict=True)], out)


def reduce_window(
    operand: Any,
    init_value: Any,
    computation: Callable[[Any, Any], Any],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int] | None = None,
    padding: Any = "VALID",
    base_dilation: Sequence[int] | None = None,
    window_dilation: Sequence[int] | None = None,
) -> Any:
    """Reduce every window of an array.

    Sums, maxima and minima are recognised. Any other monoid is applied to whole arrays, in about
    ``2 log2(window)`` steps per axis.

    Args:
        operand: array of rank n, or a pytree of arrays of one shape.
        init_value: number, or a tree of numbers: the padding, and what an empty window gives.
        computation: associative function of two values (two trees) with neutral ``init_value``.
        window_dimensions: n sizes.
        window_strides: n strides; 1 where None.
        padding: 'SAME', 'SAME_LOWER', 'VALID' or n pairs (low, high).
        base_dilation: n distances between the elements of operand; 1 where None.
        window_dilation: n distances between the taps of a window; 1 where None.

    Returns:
        Array (or tree of arrays) of rank n. The derivative of a maximum goes to the first element
        that attains it.

    Raises:
        TypeError: shapes, dtypes or lengths do not fit together.
        ValueError: a size is not positive, or the padding's name is unknown.

    Example:
        >>> from funtorch import lax
        >>> import funtorch.numpy as fnp
        >>> lax.reduce_window(fnp.array([1.0, 2.0, 3.0, 4.0]), 0.0, lax.add, (2,), (2,))
        Array([3., 7.], dtype=float32)

    References:
        jax.lax.reduce_window
    """
    leaves, treedef = flatten(operand)
    inits = flatten(init_value)[0]
    xs = [to_array(x, "reduce_window", "operand") for x in leaves]
    if not xs or len(inits) != len(xs) or any(x.shape != xs[0].shape for x in xs):
        raise TypeError(
            "lax.reduce_window: operand and init_value must be arrays of one shape and a scalar "
            f"for each; got {', '.join(map(describe, xs)) or 'no array'} and {len(inits)} values"
        )
    values = [
        convert(to_array(v, "reduce_window", "init_value"), x.dtype)
        for v, x in zip(inits, xs, strict=True)
    ]
    if any(v.ndim for v in values):
        raise TypeError(
            "lax.reduce_window: init_value must be a scalar, got "
            f"{', '.join(map(describe, values))}"
        )
    n, name = xs[0].ndim, "lax.reduce_window: "
    window = per_axis(window_dimensions, n, name + "window_dimensions")
    strides = per_axis(window_strides, n, name + "window_strides")
    base = per_axis(base_dilation, n, name + "base_dilation")
    dilation = per_axis(window_dilation, n, name + "window_dilation")
    pairs = pads_per_axis(
        padding, spans(xs[0].shape, base), spans(window, dilation), strides, name + "padding"
    )
    pads = {
        "lo": tuple(lo for lo, _ in pairs),
        "hi": tuple(hi for _, hi in pairs),
        "interior": tuple(d - 1 for d in base),
    }
    padded = [primitives["pad"].bind(x, v, **pads) for x, v in zip(xs, values, strict=True)]

    def flat(*args: Any) -> list[Any]:
        trees = (unflatten(treedef, part) for part in (args[: len(xs)], args[len(xs) :]))
        out, found = flatten(computation(*trees))
        if found != treedef:
            raise TypeError(
                f"lax.reduce_window: the computation returned a tree {found}; like its arguments "
                f"it must be a tree {treedef}"
            )
        return [
            convert(to_array(o, "reduce_window", "the result of computation"), x.dtype)
            for o, x in zip(out, xs, strict=True)
        ]

    params = {"window": window, "strides": strides, "dilation": dilation}
    return unflatten(treedef, _reduce(flat, padded, values, params))
