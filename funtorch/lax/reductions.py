"""`reduce` by any function, `reduce_precision`, and bits from a key, with jax.lax's names."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

from funtorch import dtypes
from funtorch.lax.windows import reduce_window
from funtorch.numpy import manipulation
from funtorch.numpy.promotion import describe, to_array
from funtorch.ops.marks import optimization_barrier as barrier
from funtorch.ops.rounding import reduce_precision as round_bits
from funtorch.tree import flatten, unflatten

__all__ = ["composite", "optimization_barrier", "reduce", "reduce_precision"]


def reduce(
    operands: Any,
    init_values: Any,
    computation: Callable[[Any, Any], Any],
    dimensions: Sequence[int],
    out_sharding: None = None,
) -> Any:
    """Reduce arrays along some axes by any associative function.

    Sums, maxima and minima are recognised. Any other function is applied to whole arrays, in about
    ``2 log2(n)`` steps per axis.

    Args:
        operands: array, or a pytree of arrays of one shape.
        init_values: a scalar for each, neutral for the function.
        computation: associative function of two values (two trees) of scalars.
        dimensions: the axes to reduce.
        out_sharding: for compatibility; None.

    Returns:
        Array (or tree of arrays) without those axes.

    Raises:
        TypeError: shapes or dtypes do not fit together.
        ValueError: an axis is out of range or given twice.

    Example:
        >>> from funtorch import lax
        >>> import funtorch.numpy as fnp
        >>> x = fnp.array([[1.0, 2.0], [3.0, 4.0]])
        >>> lax.reduce(x, 1.0, lax.mul, (1,))
        Array([ 2., 12.], dtype=float32)

    References:
        jax.lax.reduce
    """
    leaves, treedef = flatten(operands)
    xs = [to_array(x, "reduce", "operands") for x in leaves]
    if not xs or any(x.shape != xs[0].shape for x in xs):
        raise TypeError(
            "lax.reduce: operands must be arrays of one shape, got "
            f"{', '.join(map(describe, xs)) or 'no array'}"
        )
    shape, ndim = xs[0].shape, xs[0].ndim
    axes = [operator.index(d) for d in dimensions]
    if any(not 0 <= d < ndim for d in axes) or len(set(axes)) < len(axes):
        raise ValueError(
            f"lax.reduce: dimensions must be different axes from 0 to {ndim - 1} of operands of "
            f"shape {shape}, got {tuple(dimensions)}"
        )
    window = [n if k in axes else 1 for k, n in enumerate(shape)]
    kept = tuple(n for k, n in enumerate(shape) if k not in axes)
    if 0 in (shape[k] for k in axes):
        inits = [to_array(v, "reduce", "init_values") for v in flatten(init_values)[0]]
        full = [
            manipulation.broadcast_to(v.astype(x.dtype), kept)
            for v, x in zip(inits, xs, strict=True)
        ]
        return unflatten(treedef, full)
    found = reduce_window(unflatten(treedef, xs), init_values, computation, window)
    outs = [manipulation.reshape(y, kept) for y in flatten(found)[0]]
    return unflatten(treedef, outs)


def reduce_precision(operand: Any, exponent_bits: int, mantissa_bits: int) -> Any:
    """Round floats to what a format of fewer bits could hold, in their own dtype.

    Args:
        operand: array of a float dtype.
        exponent_bits: bits of the exponent, at least 1.
        mantissa_bits: bits of the mantissa, at least 0.

    Returns:
        Array of the same shape and dtype: rounded to even, infinite beyond the exponent's range,
        zero below it.

    Raises:
        TypeError: the dtype is no float.
        ValueError: a number of bits is out of range.

    Example:
        >>> from funtorch import lax
        >>> float(lax.reduce_precision(1.2, exponent_bits=5, mantissa_bits=2))
        1.25

    References:
        jax.lax.reduce_precision
    """
    x = to_array(operand, "reduce_precision", "operand")
    if not dtypes.is_float(x.dtype):
        raise TypeError(f"lax.reduce_precision: operand must be floats, got {describe(x)}")
    exponent, mantissa = operator.index(exponent_bits), operator.index(mantissa_bits)
    if exponent < 1 or mantissa < 0:
        raise ValueError(
            "lax.reduce_precision: exponent_bits must be at least 1 and mantissa_bits at least 0, "
            f"got {exponent_bits} and {mantissa_bits}"
        )
    return round_bits(x, exponent_bits=exponent, mantissa_bits=mantissa)


def optimization_barrier(operand: Any) -> Any:
    """Let compiled programs compute what depends on the result after everything before it, anew.

    Args:
        operand: pytree of arrays.

    Returns:
        The same values.

    Example:
        >>> from funtorch import lax
        >>> int(lax.optimization_barrier(3))
        3

    References:
        jax.lax.optimization_barrier
    """
    leaves, treedef = flatten(operand)
    return unflatten(
        treedef, barrier(*[to_array(x, "optimization_barrier", "operand") for x in leaves])
    )


def composite(decomposition: Callable[..., Any], name: str, version: int = 0) -> Callable[..., Any]:
    """Name a function as one operation; it is computed as what it consists of.

    Args:
        decomposition: function of arrays, and of static attributes by keyword.
        name: the operation's name.
        version: version of its meaning.

    Returns:
        The function. Name and version are taken for JAX's sake: no compiler here knows any.

    Example:
        >>> from funtorch import lax
        >>> tangent = lax.composite(lambda x: lax.sin(x) / lax.cos(x), name="my.tangent")
        >>> float(tangent(0.0))
        0.0

    References:
        jax.lax.composite
    """
    operator.index(version)

    @functools.wraps(decomposition)
    def composed(*args: Any, **attributes: Any) -> Any:
        return decomposition(*args, **attributes)

    return composed
