"""Ufuncs, which are functions of functions; and gcd and lcm, which loop.

They stand on `vmap`, `scan` and `while_loop`, hence above the transforms, which themselves stand
on the rest of the namespace. Importing this module completes `funtorch.numpy` with its names, and
makes ufuncs of the functions of two arguments, so that ``add.reduce`` is there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import ArrayImpl
from funtorch.errors import MismatchError
from funtorch.numpy import elementwise, mapped, recurrences, reductions
from funtorch.numpy.direct import INTEGERS, direct, pair
from funtorch.numpy.dispatch import refuse
from funtorch.numpy.indexing import AtView
from funtorch.numpy.manipulation import concatenate, moveaxis, ravel
from funtorch.numpy.promotion import (
    asarray,
    broadcast,
    broadcast_to,
    canonical_axes,
    canonical_axis,
    convert,
    describe,
    is_eager,
    own,
    promote,
    static_int,
    to_array,
    to_arrays,
)
from funtorch.tracebacks import hide_frames, self_bounded
from funtorch.transforms import scan, while_loop

__all__ = ["frompyfunc", "gcd", "lcm", "ufunc"]


# ------------------------------------------------------------------------------------------- ufunc
class ufunc:
    """A function applied element by element, with the methods of NumPy's ufuncs.

    Args:
        func: function of ``nin`` Arrays that broadcasts over them.
        nin, nout: numbers of arguments and of results.
        name: its name.
        identity: what `reduce` gives for no elements, and starts from.
        reduce, accumulate, at, reduceat: quicker ways for these methods.

    Example:
        >>> fnp.add.reduce(asarray([1, 2, 3])), fnp.multiply.outer(asarray([1, 2]), asarray([3, 4]))
        (Array(6, dtype=int32), Array([[3, 4],
               [6, 8]], dtype=int32))

    References:
        numpy.ufunc
    """

    def __init__(
        self,
        func: Callable[..., Any],
        /,
        nin: int,
        nout: int,
        *,
        name: str | None = None,
        nargs: int | None = None,
        identity: Any = None,
        call: Callable[..., Any] | None = None,
        reduce: Callable[..., Any] | None = None,
        accumulate: Callable[..., Any] | None = None,
        at: Callable[..., Any] | None = None,
        reduceat: Callable[..., Any] | None = None,
    ) -> None:
        functools.update_wrapper(self, func, updated=())
        if name is not None:
            self.__name__ = name
        self.nin, self.nout, self.nargs = nin, nout, nin if nargs is None else nargs
        self.identity = identity
        self._call = func if call is None else call
        self._ways = {"reduce": reduce, "accumulate": accumulate, "at": at, "reduceat": reduceat}

    def __repr__(self) -> str:
        return f"<funtorch.numpy.ufunc {self.__name__!r}>"

    def __reduce__(self) -> Any:
        if getattr(fnp, self.__name__, None) is self:
            return _by_name, (self.__name__,)
        return super().__reduce__()

    @self_bounded
    def __call__(self, *args: Any, out: None = None, where: Any = None) -> Any:
        """Apply the function to ``nin`` arrays that broadcast."""
        try:
            if out is not None or where is not None:
                refuse(self.__name__, out=out, where=where)
            if len(args) != self.nin:
                raise TypeError(f"{self.__name__} takes {self.nin} arguments, got {len(args)}")
            return self._call(*args)
        except Exception as error:
            hide_frames(error)
            raise

    def _binary(self, method: str, array: Any, argument: str = "a") -> Any:
        if self.nin != 2 or self.nout != 1:
            raise ValueError(
                f"{self.__name__}.{method} is for functions of 2 arguments and 1 result; this one "
                f"has {self.nin} and {self.nout}"
            )
        return to_array(array, f"{self.__name__}.{method}", argument)

    def reduce(
        self,
        a: Any,
        axis: Any = 0,
        dtype: Any = None,
        out: None = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = None,
    ) -> Any:
        """Combine the elements along axes, from the first on."""
        x = self._binary("reduce", a)
        refuse(f"{self.__name__}.reduce", out=out)
        if where is not None and initial is None and self.identity is None:
            raise ValueError(f"{self.__name__}.reduce: where= needs initial=: it has no identity")
        way = self._ways["reduce"]
        if way is not None:
            return way(x, axis, dtype, keepdims, initial, where)
        axes = canonical_axes(axis, x.ndim, f"{self.__name__}.reduce")
        if len(axes) > 1 and self.identity is None:
            raise ValueError(
                f"{self.__name__}.reduce: the order of its operands matters, so it reduces one "
                f"axis, got axis={axis!r}"
            )
        if dtype is not None:
            x = convert(x, dtypes.canonical(dtype))
        rows = moveaxis(x, axes, tuple(range(len(axes))))
        rows = rows.reshape((-1, *rows.shape[len(axes) :]))
        mask = None
        if where is not None:
            mask = moveaxis(broadcast_to(where, x.shape), axes, tuple(range(len(axes))))
            mask = mask.reshape(rows.shape)
        done = self._fold(rows, mask, initial)
        if not keepdims:
            return done
        return done.reshape(tuple(1 if k in axes else n for k, n in enumerate(x.shape)))

    def _fold(self, rows: Any, mask: Any, initial: Any) -> Any:
        start = self.identity if initial is None else initial
        if start is None:
            if not rows.shape[0]:
                raise ValueError(f"{self.__name__}.reduce: no elements, no identity; give initial=")
            first, rows = rows[0], rows[1:]
        else:
            first = broadcast_to(asarray(start, rows.dtype), rows.shape[1:])
        first = convert(first, self._call(first, first).dtype)
        masks = broadcast_to(asarray(True), rows.shape) if mask is None else mask

        def step(carry: Any, item: Any) -> Any:
            row, chosen = item
            new = convert(self._call(carry, row), carry.dtype)
            return (new if mask is None else elementwise.where(chosen, new, carry)), None

        return scan(step, first, (rows, masks))[0]

    def accumulate(self, a: Any, axis: int | None = 0, dtype: Any = None, out: None = None) -> Any:
        """Return what `reduce` gives for each leading part of an axis."""
        x = self._binary("accumulate", a)
        refuse(f"{self.__name__}.accumulate", out=out)
        way = self._ways["accumulate"]
        x, axis = (ravel(x), 0) if axis is None else (x, axis)
        k = canonical_axis(axis, x.ndim, f"{self.__name__}.accumulate")
        if way is not None:
            return way(x, k, dtype)
        if dtype is not None:
            x = convert(x, dtypes.canonical(dtype))
        rows = moveaxis(x, k, 0)
        if not rows.shape[0]:
            return x
        first = convert(rows[0], self._call(rows[0], rows[0]).dtype)

        def step(carry: Any, row: Any) -> Any:
            new = convert(self._call(carry, row), carry.dtype)
            return new, new

        _, rest = scan(step, first, rows[1:])
        return moveaxis(concatenate([first[None], rest]), 0, k)

    def at(self, a: Any, indices: Any, b: Any = None, *, inplace: bool = True) -> Any:
        """Return ``a`` with the function applied at indices; repeated ones are applied in turn."""
        name = f"{self.__name__}.at"
        if inplace:
            raise NotImplementedError(
                f"{name}: arrays are immutable: pass inplace=False and use the result"
            )
        x = to_array(a, name, "a")
        way = self._ways["at"]
        if way is not None:
            return way(x, indices, b)
        view = AtView(x, indices)
        if self.nin == 1:
            return view.apply(self._call)
        places = _positions(x, indices)
        values = ravel(broadcast_to(to_array(b, name, "b"), places.shape))
        flat = ravel(x)

        def step(carry: Any, item: Any) -> Any:
            place, value = item
            return carry.at[place].set(convert(self._call(carry[place], value), x.dtype)), None

        return scan(step, flat, (ravel(places), values))[0].reshape(x.shape)

    def reduceat(
        self, a: Any, indices: Any, axis: int = 0, dtype: Any = None, out: None = None
    ) -> Any:
        """Reduce the stretches of an axis that start at indices and end at the next one."""
        x = self._binary("reduceat", a)
        refuse(f"{self.__name__}.reduceat", out=out)
        name = f"{self.__name__}.reduceat"
        k = canonical_axis(axis, x.ndim, name)
        starts = asarray(indices)
        if starts.ndim != 1 or not dtypes.is_integer(starts.dtype):
            raise ValueError(f"{name}: indices must be an integer vector, got {describe(starts)}")
        n = x.shape[k]
        ends = concatenate([starts[1:], asarray([n], starts.dtype)])
        ends = elementwise.where(
            elementwise.greater(ends, starts), ends, elementwise.add(starts, 1)
        )
        if self._ways["reduce"] is None:
            return moveaxis(self._fold_parts(moveaxis(x, k, 0), starts, ends, dtype), 0, k)
        rows = moveaxis(x, k, -1)
        place = fnp.arange(n, dtype=starts.dtype)
        inside = elementwise.logical_and(
            elementwise.greater_equal(place, starts[:, None]),
            elementwise.less(place, ends[:, None]),
        )
        whole = broadcast_to(rows[..., None, :], (*rows.shape[:-1], starts.shape[0], n))
        initial = self.identity
        if initial is None:
            initial = _EXTREMES[self.__name__](x.dtype)
        return moveaxis(self.reduce(whole, -1, dtype, initial=initial, where=inside), -1, k)

    def _fold_parts(self, rows: Any, starts: Any, ends: Any, dtype: Any) -> Any:
        """Fold the rows of each part, for all parts at once."""
        rows = rows if dtype is None else convert(rows, dtypes.canonical(dtype))
        inner = (1,) * (rows.ndim - 1)
        starts, ends = starts.reshape((-1, *inner)), ends.reshape((-1, *inner))
        first = broadcast_to(rows[:1], (starts.shape[0], *rows.shape[1:]))
        first = convert(first, self._call(first, first).dtype)

        def step(carry: Any, item: Any) -> Any:
            row, place = item
            row = convert(row, carry.dtype)
            going = elementwise.logical_and(
                elementwise.less(starts, place), elementwise.less(place, ends)
            )
            carry = elementwise.where(elementwise.equal(place, starts), row, carry)
            return elementwise.where(
                going, convert(self._call(carry, row), carry.dtype), carry
            ), None

        return scan(step, first, (rows, fnp.arange(rows.shape[0], dtype=starts.dtype)))[0]

    def outer(self, A: Any, B: Any, /) -> Any:
        """Apply the function to all pairs of elements."""
        if self.nin != 2:
            raise ValueError(f"{self.__name__}.outer is for functions of 2 arguments")
        x, y = to_arrays(f"{self.__name__}.outer", A=A, B=B)
        return self._call(x.reshape(x.shape + (1,) * y.ndim), y)


def _by_name(name: str) -> Any:
    return getattr(fnp, name)


def _positions(x: Any, indices: Any) -> Any:
    """Return the places in the flattened array that an index names."""
    return fnp.arange(x.size, dtype=np.int32).reshape(x.shape)[indices]


def frompyfunc(func: Callable[..., Any], /, nin: int, nout: int, *, identity: Any = None) -> ufunc:
    """Make a ufunc of a function of scalars.

    Args:
        func: function of ``nin`` arrays of rank 0, returning ``nout`` of them.
        nin, nout: numbers of arguments and of results.
        identity: what `reduce` starts from.

    Example:
        >>> larger = frompyfunc(lambda x, y: fnp.where(x > y, x, y), 2, 1)
        >>> larger.reduce(asarray([3, 1, 4]))
        Array(4, dtype=int32)

    References:
        numpy.frompyfunc
    """
    counts = [static_int(n, f"frompyfunc: {name}") for name, n in (("nin", nin), ("nout", nout))]
    return ufunc(func, *counts, identity=identity, call=mapped.vectorize(func))


# --------------------------------------------------------------------------- the namespace's ufuncs
def _reducing(function: Callable[..., Any], takes_dtype: bool) -> Callable[..., Any]:
    def way(x: Any, axis: Any, dtype: Any, keepdims: bool, initial: Any, where: Any) -> Any:
        if dtype is not None and not takes_dtype:
            x = convert(x, dtypes.canonical(dtype))
        options: dict[str, Any] = {"keepdims": keepdims, "where": where}
        if function not in (reductions.all, reductions.any):
            options["initial"] = initial
        if takes_dtype:
            options["dtype"] = dtype
        return function(x, axis, **options)

    return way


def _accumulating(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axis, dtype: function(x, axis, dtype)


def _lowest(dtype: Any) -> Any:
    if dtypes.is_inexact(dtype):
        return -np.inf
    return False if dtype == dtypes.bool_ else dtypes.iinfo(dtype).min


def _highest(dtype: Any) -> Any:
    if dtypes.is_inexact(dtype):
        return np.inf
    return True if dtype == dtypes.bool_ else dtypes.iinfo(dtype).max


_EXTREMES = {"maximum": _lowest, "minimum": _highest}
_AT = {
    "add": lambda x, i, b: x.at[i].add(b),
    "subtract": lambda x, i, b: x.at[i].subtract(b),
    "multiply": lambda x, i, b: x.at[i].mul(b),
    "maximum": lambda x, i, b: x.at[i].max(b),
    "minimum": lambda x, i, b: x.at[i].min(b),
}
_REDUCE = {
    "add": _reducing(reductions.sum, True),
    "multiply": _reducing(reductions.prod, True),
    "maximum": _reducing(reductions.max, False),
    "minimum": _reducing(reductions.min, False),
    "logical_and": _reducing(reductions.all, False),
    "logical_or": _reducing(reductions.any, False),
}
_ACCUMULATE = {
    "add": _accumulating(reductions.cumsum),
    "multiply": _accumulating(reductions.cumprod),
}
_IDENTITY: dict[str, Any] = {
    "add": 0, "multiply": 1, "logical_and": True, "logical_or": False, "logical_xor": False,
    "bitwise_and": -1, "bitwise_or": 0, "bitwise_xor": 0, "logaddexp": -np.inf,
    "logaddexp2": -np.inf, "hypot": 0, "gcd": 0,
}  # fmt: skip
_BINARY = [
    "add", "arctan2", "bitwise_and", "bitwise_or", "bitwise_xor", "copysign", "divide",
    "floor_divide", "fmax", "fmin", "fmod", "hypot", "logaddexp", "logaddexp2", "logical_and",
    "logical_or", "logical_xor", "maximum", "minimum", "multiply", "nextafter", "power",
    "remainder", "subtract",
]  # fmt: skip
_ALIASES = {"atan2": "arctan2", "mod": "remainder", "pow": "power", "true_divide": "divide"}


def _complete() -> None:
    """Put this module's functions, and ufuncs in place of functions, into the namespace."""
    for name in _BINARY:
        made = ufunc(
            getattr(elementwise, name),
            2,
            1,
            identity=_IDENTITY.get(name),
            reduce=_REDUCE.get(name),
            accumulate=_ACCUMULATE.get(name),
            at=_AT.get(name),
        )
        # Called without a detour: the function itself sees to the options of ufuncs.
        made.__class__ = type("ufunc", (ufunc,), {"__call__": staticmethod(made._call)})
        setattr(fnp, name, made)
    for alias, name in _ALIASES.items():
        setattr(fnp, alias, getattr(fnp, name))
    setattr(fnp, "negative", ufunc(elementwise.negative, 1, 1))  # noqa: B010
    for name in __all__:
        setattr(fnp, name, globals()[name])
    for module in (mapped, recurrences):
        for name in module.__all__:
            setattr(fnp, name, getattr(module, name))
    for function in (gcd, lcm):
        identity = _IDENTITY.get(function.__name__)
        setattr(fnp, function.__name__, ufunc(function, 2, 1, identity=identity))
    fnp.__all__.extend([*__all__, *mapped.__all__, *recurrences.__all__])
    setattr(AtView, "apply", _apply)  # noqa: B010


# ---------------------------------------------------------------------------------------- at.apply
def _apply(
    self: AtView,
    func: Callable[[Any], Any],
    *,
    indices_are_sorted: bool = False,
    unique_indices: bool = False,
    mode: str | None = None,
) -> Any:
    """Return a copy with ``func`` applied to the indexed elements, as often as they are indexed."""
    x = self.array
    places = AtView(_positions(x, slice(None)), self.index)
    flat = ravel(places.get(mode="clip" if mode == "clip" else "fill", fill_value=x.size))
    if unique_indices or (type(flat) is ArrayImpl and _distinct(flat._data)):
        old = self.get(mode="clip")
        return self.set(convert(asarray(func(old)), x.dtype), mode=mode)

    def step(carry: Any, place: Any) -> tuple[Any, None]:
        new = convert(asarray(func(carry.at[place].get(mode="clip"))), x.dtype)
        return carry.at[place].set(new, mode="drop"), None

    return scan(step, ravel(x), flat)[0].reshape(x.shape)


def _distinct(places: np.ndarray) -> bool:
    return np.unique(places).size == places.size


# ---------------------------------------------------------------------------------------- gcd, lcm
def _integer_pair(name: str, x1: Any, x2: Any) -> list[Any]:
    xs = promote(name, *to_arrays(name, x1=x1, x2=x2))
    if not dtypes.is_integer(xs[0].dtype):
        raise MismatchError(
            f"{name}: x1 and x2 must be integers, got {describe(to_array(x1, name))} and "
            f"{describe(to_array(x2, name))}"
        )
    return broadcast(name, *xs)


@direct(np.gcd, INTEGERS, pair)
def gcd(x1: Any, x2: Any) -> Any:
    """Return the greatest common divisor, by Euclid's algorithm.

    Args:
        x1, x2: integer arrays that broadcast.

    Example:
        >>> gcd(asarray([12, -4, 0]), 6)
        Array([6, 2, 6], dtype=int32)

    References:
        numpy.gcd
    """
    x, y = _integer_pair("gcd", x1, x2)
    if is_eager(x, y):
        return ArrayImpl(own(np.gcd(x._data, y._data)), x.weak_type)
    x, y = convert(elementwise.absolute(x), x.dtype), convert(elementwise.absolute(y), y.dtype)

    def unfinished(pair: Any) -> Any:
        return reductions.any(elementwise.not_equal(pair[1], 0))

    def step(pair: Any) -> Any:
        a, b = pair
        done = elementwise.equal(b, 0)
        rest = elementwise.fmod(a, elementwise.where(done, convert(asarray(1), b.dtype), b))
        return elementwise.where(done, a, b), elementwise.where(done, b, rest)

    return while_loop(unfinished, step, (x, y))[0]


@direct(np.lcm, INTEGERS, pair)
def lcm(x1: Any, x2: Any) -> Any:
    """Return the least common multiple.

    Args:
        x1, x2: integer arrays that broadcast.

    Example:
        >>> lcm(asarray([4, 0]), 6)
        Array([12,  0], dtype=int32)

    References:
        numpy.lcm
    """
    x, y = _integer_pair("lcm", x1, x2)
    d = gcd(x, y)
    one = convert(asarray(1), d.dtype, d.weak_type)
    share = elementwise.floor_divide(x, elementwise.where(elementwise.equal(d, 0), one, d))
    return elementwise.absolute(elementwise.multiply(share, y))


_complete()
