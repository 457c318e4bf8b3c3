"""Functions of numbers with loops: series and fractions that end when they have converged.

A `Numeric` is a formula in float64, written once for NumPy arrays and for tracers. Outside jit it
runs on NumPy arrays; compiled programs have its equations in their kernels and loops. Its
derivatives are given in closed form, or found by pushing tangents through the formula; those are
functions of the same kind, so there is one of every order.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ArrayImpl, Primitive, ShapedArray
from funtorch.jaxpr import Jaxpr, eval_jaxpr, stage
from funtorch.numpy import elementwise as functions
from funtorch.ops import elementwise as ops
from funtorch.ops import special
from funtorch.ops.families import accumulate, elementwise_batch, full_like
from funtorch.ops.reduce import reduce_or
from funtorch.ops.shape import reshape

from .batching import vmap
from .forward import jvp_flat
from .loops import while_loop

__all__ = ["Maths", "Numeric", "numeric", "numeric_p"]

FLOAT64 = np.dtype(np.float64)
_CHUNK = 1 << 14  # elements that NumPy works on at a time, which stay in the near caches
_LIMIT = 20_000  # steps after which a loop gives up


def _of_doubles(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function to which Python's numbers are float64, even where there are only those."""

    def wrapped(*args: Any) -> Any:
        return function(*(ArrayImpl(np.asarray(a)) if type(a) is float else a for a in args))

    return wrapped


# By name: what formulas call, as NumPy and as operations on arrays and tracers.
_NAMES = {
    "abs": (np.abs, ops.abs),
    "atan": (np.arctan, ops.atan),
    "cos": (np.cos, ops.cos),
    "cosh": (np.cosh, ops.cosh),
    "exp": (np.exp, ops.exp),
    "expm1": (np.expm1, ops.expm1),
    "floor": (np.floor, ops.floor),
    "log": (np.log, ops.log),
    "log1p": (np.log1p, ops.log1p),
    "rint": (np.rint, ops.round),
    "sin": (np.sin, ops.sin),
    "sinh": (np.sinh, ops.sinh),
    "sqrt": (np.sqrt, ops.sqrt),
    "tan": (np.tan, ops.tan),
    "tanh": (np.tanh, ops.tanh),
    "maximum": (np.maximum, _of_doubles(functions.maximum)),
    "minimum": (np.minimum, _of_doubles(functions.minimum)),
    "power": (np.power, _of_doubles(functions.power)),
    "where": (np.where, _of_doubles(functions.where)),
    "erf": (functools.partial(special.erf, np), ops.erf),
    "erfc": (functools.partial(special.erfc, np), ops.erfc),
    "lgamma": (functools.partial(special.lgamma, np), ops.lgamma),
    "digamma": (functools.partial(special.digamma, np), ops.digamma),
    "constant": (lambda x: x, ops.stop_gradient),
}

Going = Callable[..., Any]
Step = Callable[..., Sequence[Any]]


class Maths:
    """The operations that formulas are written with, beside Python's operators.

    Attributes:
        loop: ``loop(going, step, state, consts=(), limit=20_000)`` replaces the state by
            ``step(k, *state, *consts)`` for k = 1.0, 2.0, ... wherever ``going(*state, *consts)``
            holds, and returns it: nan where it still holds after ``limit`` steps.
    """

    abs: Callable[[Any], Any]
    atan: Callable[[Any], Any]
    cos: Callable[[Any], Any]
    cosh: Callable[[Any], Any]
    exp: Callable[[Any], Any]
    expm1: Callable[[Any], Any]
    floor: Callable[[Any], Any]
    log: Callable[[Any], Any]
    log1p: Callable[[Any], Any]
    rint: Callable[[Any], Any]
    sin: Callable[[Any], Any]
    sinh: Callable[[Any], Any]
    sqrt: Callable[[Any], Any]
    tan: Callable[[Any], Any]
    tanh: Callable[[Any], Any]
    maximum: Callable[[Any, Any], Any]
    minimum: Callable[[Any, Any], Any]
    power: Callable[[Any, Any], Any]
    where: Callable[[Any, Any, Any], Any]
    erf: Callable[[Any], Any]
    erfc: Callable[[Any], Any]
    lgamma: Callable[[Any], Any]
    digamma: Callable[[Any], Any]
    constant: Callable[[Any], Any]

    def __init__(self, column: int, loop: Callable[..., Sequence[Any]]) -> None:
        for name, row in _NAMES.items():
            setattr(self, name, row[column])
        self.loop = loop


# ---------------------------------------------------------------------------------------- loops
def _numpy_loop(
    going: Going, step: Step, state: Sequence[Any], consts: Sequence[Any] = (), limit: int = _LIMIT
) -> Sequence[Any]:
    shape = np.broadcast_shapes(*(np.shape(v) for v in (*state, *consts)))
    state = [np.broadcast_to(np.asarray(v, FLOAT64), shape) for v in state]
    for k in range(1, limit + 1):
        active = going(*state, *consts)
        if not active.any():
            break
        new = step(float(k), *state, *consts)
        state = [np.where(active, n, s) for n, s in zip(new, state, strict=True)]
    else:
        active = going(*state, *consts)
        state = [np.where(active, np.nan, s) for s in state]
    return state


def _same_shape(values: Sequence[Any]) -> list[Any]:
    """Return numbers and arrays of one shape as arrays of that shape."""
    like = next(v for v in values if not isinstance(v, float | int))
    return [full_like(like, v) if isinstance(v, float | int) else v for v in values]


def _lock_step(
    going: Going, step: Step, state: Sequence[Any], consts: Sequence[Any] = (), limit: int = _LIMIT
) -> Sequence[Any]:
    values = _same_shape([*state, *consts])
    n = len(state)
    state, consts = values[:n], values[n:]

    def more(carry: Any) -> Any:
        k, active, _ = carry
        some = reduce_or(active, axes=tuple(range(active.ndim)))
        return some & (k <= limit)

    def body(carry: Any) -> Any:
        k, active, old = carry
        new = _same_shape([*step(k, *old, *consts), *old])[:n]
        new = [functions.where(active, a, b) for a, b in zip(new, old, strict=True)]
        return k + 1.0, going(*new, *consts), new

    one = ArrayImpl(np.asarray(1.0))
    _, active, found = while_loop(more, body, (one, going(*state, *consts), list(state)))
    return [functions.where(active, math.nan, s) for s in found]


def _by_lanes(
    going: Going, step: Step, state: Sequence[Any], consts: Sequence[Any] = (), limit: int = _LIMIT
) -> Sequence[Any]:
    values = _same_shape([*state, *consts])
    n, shape = len(state), values[0].shape

    def lane(*values: Any) -> Any:
        consts = values[n:]

        def body(carry: Any) -> Any:
            k, old = carry
            return k + 1.0, _same_shape([*step(k, *old, *consts), *old])[:n]

        start = full_like(values[0], 1.0), list(values[:n])
        found = while_loop(lambda c: going(*c[1], *consts) & (c[0] <= limit), body, start)[1]
        return [functions.where(going(*found, *consts), math.nan, s) for s in found]

    if not shape:
        return lane(*values)
    size = math.prod(shape)
    found = vmap(lane)(*(reshape(v, shape=(size,)) for v in values))
    return [reshape(v, shape=shape) for v in found]


_NUMPY = Maths(0, _numpy_loop)
_STEPWISE = Maths(1, _lock_step)  # for programs that run equation by equation
_COMPILED = Maths(1, _by_lanes)


# ---------------------------------------------------------------------------------------- functions
class Numeric:
    """A function of numbers, applied to each element of arrays of one shape and float dtype.

    Args:
        name: of the function, for printing.
        formula: ``formula(maths, *xs)``: from float64 arrays to one, written with `Maths`.
        partials: by position of an argument, its derivative as a function of all arguments; the
            formula is differentiated in the others.
        traced: whether the formula is for tracers alone.
    """

    def __init__(
        self,
        name: str,
        formula: Callable[..., Any],
        partials: Mapping[int, Callable[..., Any]] | None = None,
        traced: bool = False,
    ) -> None:
        self.name, self.formula, self.traced = name, formula, traced
        self.partials = dict(partials or {})
        self.programs: dict[Any, Jaxpr] = {}

    def __repr__(self) -> str:
        return self.name

    def __call__(self, *args: Any) -> Any:
        return numeric_p.bind(*args, function=self)[0]

    def partial(self, k: int) -> Callable[..., Any]:
        """Return the derivative in argument k."""
        if k not in self.partials:

            def formula(maths: Maths, *xs: Any) -> Any:
                along = [full_like(x, 1.0) if i == k else None for i, x in enumerate(xs)]
                (out,), (t,) = jvp_flat(lambda *ys: [self.formula(maths, *ys)], xs, along)
                return full_like(out, 0.0) if t is None else t

            self.partials[k] = Numeric(f"{self.name}.{k}", formula, traced=True)
        return self.partials[k]

    def apply(self, maths: Maths, *args: Any) -> list[Any]:
        """Evaluate the formula in float64 on tracers of any float dtype."""
        to = args[0].dtype
        wide = [a if a.dtype == FLOAT64 else ops.convert(a, dtype=FLOAT64) for a in args]
        out = self.formula(maths, *(_strong(a) for a in wide))
        return [out if to == FLOAT64 else ops.convert(out, dtype=to, weak_type=False)]

    def program(self, avals: Sequence[ShapedArray], maths: Maths = _COMPILED) -> Jaxpr:
        """Return the equations for arguments of the given types."""
        key = (maths is _COMPILED, *((a.shape, a.dtype) for a in avals))
        if key not in self.programs:
            self.programs[key] = stage(functools.partial(self.apply, maths), avals, self.name)
        return self.programs[key]

    def on_numpy(self, *xs: np.ndarray) -> np.ndarray:
        """Evaluate the formula on NumPy vectors of float64."""
        if not self.traced:
            return self.formula(_NUMPY, *xs)
        # Few sizes mean few programs.
        n = len(xs[0])
        size = 1 << 2 * math.ceil(math.log2(n) / 2)
        padded = [ArrayImpl(np.pad(x, (0, size - n), mode="edge")) for x in xs]
        program = self.program([a.aval for a in padded], _STEPWISE)
        return eval_jaxpr(program, *padded)[0]._data[:n]


def _strong(x: Any) -> Any:
    return ops.convert(x, dtype=x.dtype, weak_type=False) if x.weak_type else x


def numeric(
    *, traced: bool = False, **partials: Callable[..., Any]
) -> Callable[[Callable[..., Any]], Numeric]:
    """Return the decorator that makes a `Numeric` of a formula.

    Args:
        traced: whether the formula is for tracers alone.
        **partials: the known derivatives, by the name of the formula's argument.
    """

    def decorate(formula: Callable[..., Any]) -> Numeric:
        names = formula.__code__.co_varnames[1 : formula.__code__.co_argcount]
        known = {names.index(name): f for name, f in partials.items()}
        return Numeric(formula.__name__, formula, known, traced)

    return decorate


# ---------------------------------------------------------------------------------------- rules
def _type(*avals: ShapedArray, function: Numeric) -> list[ShapedArray]:
    first = avals[0]
    if any(a.shape != first.shape or a.dtype != first.dtype for a in avals):
        raise TypeError(
            f"{function.name} takes arrays of equal shape and dtype, got "
            f"{', '.join(a.str_short() for a in avals)}"
        )
    if not dtypes.is_float(first.dtype):
        raise TypeError(
            f"{function.name} takes real floats, got {first.str_short()}: convert it first"
        )
    return [ShapedArray(first.shape, first.dtype)]


def _eager(xp: Any, *buffers: Any, function: Numeric) -> list[Any]:
    _type(*(ShapedArray(b.shape, b.dtype) for b in buffers), function=function)
    first = buffers[0]
    flat = [np.ascontiguousarray(b, FLOAT64).reshape(-1) for b in buffers]
    out = np.empty(first.size, FLOAT64)
    for start in range(0, first.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        out[part] = function.on_numpy(*(x[part] for x in flat))
    return [out.reshape(first.shape).astype(first.dtype, copy=False)]


def _jvp(primals: Any, tangents: Any, *, function: Numeric) -> tuple[Any, Any]:
    out = function(*primals)
    terms = [
        None if t is None else ops.mul(t, function.partial(k)(*primals))
        for k, t in enumerate(tangents)
    ]
    return [out], [accumulate(terms)]


def _expand(*args: Any, function: Numeric) -> list[Any]:
    return eval_jaxpr(function.program([a.aval for a in args]), *args)


numeric_p = Primitive("numeric", multiple_results=True)
numeric_p.type, numeric_p.eager, numeric_p.jvp = _type, _eager, _jvp
numeric_p.expand = _expand

numeric_p.batch = elementwise_batch(numeric_p)
numeric_p.none["transpose"] = "its derivative is a product with its partial derivatives"
