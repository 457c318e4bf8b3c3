"""Functions that map other functions over axes: vectorize, apply_along_axis, fromfunction.

They stand on `vmap`, hence above the transforms; `funtorch.numpy.ufuncs` puts them into the
namespace.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import funtorch.numpy as fnp
from funtorch.numpy.promotion import (
    asarray,
    broadcast_shapes,
    canonical_axis,
    canonical_shape,
    describe,
    to_array,
)
from funtorch.transforms import vmap

__all__ = ["apply_along_axis", "apply_over_axes", "fromfunction", "vectorize"]


def fromfunction(
    function: Callable[..., Any], shape: Any, *, dtype: Any = float, **kwargs: Any
) -> Any:
    """Call a function with the coordinates of each place of a shape.

    Args:
        function: takes one number for each axis. It is mapped over the places, as in JAX.
        shape: the shape.
        dtype: dtype of the coordinates.
        **kwargs: passed on.

    Returns:
        An Array of that shape, followed by the shape of what the function makes.

    Example:
        >>> fromfunction(lambda i, j: 10 * i + j, (2, 3), dtype=int).tolist()
        [[0, 1, 2], [10, 11, 12]]

    References:
        numpy.fromfunction
    """
    sizes = canonical_shape(shape, "fromfunction")
    mapped = functools.partial(function, **kwargs)
    for k in reversed(range(len(sizes))):
        mapped = vmap(mapped, in_axes=tuple(0 if j == k else None for j in range(len(sizes))))
    return mapped(*(fnp.arange(n, dtype=dtype) for n in sizes))


# --------------------------------------------------------------------------------- along the axes
def apply_along_axis(
    func1d: Callable[..., Any], axis: int, arr: Any, *args: Any, **kwargs: Any
) -> Any:
    """Apply a function of vectors to the vectors along an axis.

    Args:
        func1d: function of a vector, and of what follows; its result's axes take the axis' place.
        axis: the axis.
        arr: array.
        *args, **kwargs: passed on.

    Example:
        >>> apply_along_axis(fnp.sum, 0, asarray([[1, 2], [3, 4]]))
        Array([4, 6], dtype=int32)

    References:
        numpy.apply_along_axis
    """
    x = to_array(arr, "apply_along_axis", "arr")
    k = canonical_axis(axis, x.ndim, "apply_along_axis")

    def function(v: Any) -> Any:
        return func1d(v, *args, **kwargs)

    for after in range(1, x.ndim - k):
        function = vmap(function, in_axes=after, out_axes=-1)
    for _ in range(k):
        function = vmap(function, in_axes=0, out_axes=0)
    return function(x)


def apply_over_axes(func: Callable[[Any, int], Any], a: Any, axes: Sequence[int] | int) -> Any:
    """Apply a function of an array and an axis to one axis after the other.

    Args:
        func: its result has the rank of its argument, or one axis less.
        a: array.
        axes: axes.

    Example:
        >>> apply_over_axes(fnp.sum, asarray([[1, 2], [3, 4]]), [0, 1])
        Array([[10]], dtype=int32)

    References:
        numpy.apply_over_axes
    """
    x = to_array(a, "apply_over_axes", "a")
    for axis in axes if isinstance(axes, (tuple, list)) else (axes,):
        k = canonical_axis(axis, x.ndim, "apply_over_axes")
        out = func(x, k)
        if out.ndim == x.ndim - 1:
            out = fnp.expand_dims(out, k)
        if out.ndim != x.ndim:
            raise ValueError(
                f"apply_over_axes: func made {describe(out)} of {describe(x)}; it must keep the "
                "rank, or drop one axis"
            )
        x = out
    return x


# ---------------------------------------------------------------------------------------- vectorize
_SIGNATURE = re.compile(
    r"^\s*(\([^()]*\)\s*(,\s*\([^()]*\)\s*)*)?->\s*\([^()]*\)\s*(,\s*\([^()]*\)\s*)*$"
)
_GROUP = re.compile(r"\(([^()]*)\)")


def _core_dims(text: str) -> list[tuple[str, ...]]:
    return [
        tuple(name.strip() for name in group.split(",") if name.strip())
        for group in _GROUP.findall(text)
    ]


def _read_signature(signature: str) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    if not isinstance(signature, str) or not _SIGNATURE.match(signature):
        raise ValueError(f"vectorize: signature {signature!r} is not of the form '(m,n),(n)->(m)'")
    before, after = signature.split("->")
    return _core_dims(before), _core_dims(after)


def _check_sizes(args: Sequence[Any], dims: Sequence[tuple[str, ...]]) -> None:
    sizes: dict[str, int] = {}
    for k, (x, names) in enumerate(zip(args, dims, strict=True)):
        if x.ndim < len(names):
            raise ValueError(
                f"vectorize: argument {k} is {describe(x)}, but the signature gives it the axes "
                f"{names}"
            )
        for name, n in zip(names, x.shape[x.ndim - len(names) :], strict=True):
            if sizes.setdefault(name, n) != n:
                raise ValueError(
                    f"vectorize: axis {name!r} of the signature has size {sizes[name]}, but "
                    f"argument {k}, {describe(x)}, has size {n} there"
                )


def vectorize(
    pyfunc: Callable[..., Any],
    *,
    excluded: Collection[int | str] = frozenset(),
    signature: str | None = None,
) -> Callable[..., Any]:
    """Make a function that broadcasts, as ufuncs do, of one that does not.

    Args:
        pyfunc: function of arrays of rank 0, or of those that the signature names.
        excluded: positions and names of arguments that are passed on as they are.
        signature: the axes that pyfunc itself works on, as in '(m,n),(n)->(m)'.

    Returns:
        A function; the other axes of its arguments broadcast against each other.

    Raises:
        ValueError: the signature or an argument's shape does not fit.

    Example:
        >>> dot = vectorize(fnp.dot, signature="(n),(n)->()")
        >>> dot(asarray([[1, 2], [3, 4]]), asarray([1, 1]))
        Array([3, 7], dtype=int32)

    References:
        numpy.vectorize
    """
    for item in excluded:
        if not isinstance(item, (int, str)) or (isinstance(item, int) and item < 0):
            raise ValueError(
                f"vectorize: excluded holds positions and names of arguments, got {item!r}"
            )
    ins, outs = (None, None) if signature is None else _read_signature(signature)

    @functools.wraps(pyfunc)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        named = {n: v for n, v in kwargs.items() if v is not None and n not in excluded}
        fixed = {n: v for n, v in kwargs.items() if n not in named}
        places = [k for k in range(len(args)) if k not in excluded]
        given = [args[k] for k in places] + list(named.values())
        arrays = [asarray(x) for x in given]
        dims = [()] * len(arrays) if ins is None else ins
        if len(dims) != len(arrays):
            raise TypeError(
                f"vectorize: the signature {signature!r} has {len(dims)} arguments, got "
                f"{len(arrays)}"
            )
        _check_sizes(arrays, dims)

        def core(*xs: Any) -> Any:
            full = list(args)
            for k, x in zip(places, xs, strict=False):
                full[k] = x
            keywords = dict(zip(named, xs[len(places) :], strict=True))
            return _checked(pyfunc(*full, **keywords, **fixed), outs)

        return _over_leading(core, arrays, dims)

    return wrapped


def _checked(out: Any, dims: Any) -> Any:
    """Check a result's rank by the signature."""
    if dims is None:
        return out
    parts = out if isinstance(out, tuple) else (out,)
    if len(parts) != len(dims):
        raise TypeError(f"vectorize: the signature has {len(dims)} results, got {len(parts)}")
    for k, (part, names) in enumerate(zip(parts, dims, strict=True)):
        if fnp.ndim(part) != len(names):
            raise ValueError(
                f"vectorize: result {k} has shape {fnp.shape(part)}, but the signature gives it "
                f"the axes {names}"
            )
    return out


def _over_leading(
    core: Callable[..., Any], arrays: Sequence[Any], dims: Sequence[tuple[str, ...]]
) -> Any:
    """Map a function over the leading axes of its arguments, which broadcast."""
    leads = [x.shape[: x.ndim - len(names)] for x, names in zip(arrays, dims, strict=True)]
    shape = broadcast_shapes(*leads)
    function, aligned = core, []
    for x, lead in zip(arrays, leads, strict=True):
        # Axes of size 1 are dropped, and the argument is not mapped over those axes.
        kept = tuple(n for n in lead if n != 1)
        aligned.append(x.reshape(kept + x.shape[len(lead) :]))
    for k in reversed(range(len(shape))):
        back = len(shape) - k
        mapped = [0 if back <= len(lead) and lead[-back] != 1 else None for lead in leads]
        if all(m is None for m in mapped):
            function = _with_axis(function)
        else:
            function = vmap(function, in_axes=tuple(mapped))
    return function(*aligned)


def _with_axis(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add a leading axis of size 1 to the results, where no argument has more."""

    def wrapped(*xs: Any) -> Any:
        out = function(*xs)
        if isinstance(out, tuple):
            return tuple(asarray(x)[None] for x in out)
        return asarray(out)[None]

    return wrapped
