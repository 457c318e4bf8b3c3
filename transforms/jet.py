"""Taylor mode: `jet` pushes truncated Taylor series through programs.

A series is the list of the derivatives of a curve, orders 1 to K. Products follow Leibniz; what
has a differential equation y' = phi(y, x) x' follows the recurrence of its derivatives; anything
else is differentiated once by its jvp rule, whose series, one order shorter, is the answer's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import arraytree as tree
from funtorch.core import (
    ArrayImpl,
    Primitive,
    ShapedArray,
    Trace,
    Tracer,
    _state,
    aval_of,
    current,
    known_values,
    source_of,
    truth,
    use_trace,
)
from funtorch.errors import user_frame
from funtorch.jaxpr import eval_jaxpr
from funtorch.ops.elementwise import add, convert, cos, cosh, div, mul, neg, sin, sinh, sub
from funtorch.ops.families import BILINEAR, LINEAR, accumulate, full_like, zeros

from .arguments import FlatFunction, as_arrays, check_callable
from .forward import as_weak_as, is_differentiable

__all__ = ["jet"]

Coefs = list[Any]  # a value, then its derivatives by the parameter; None where zero


class JetTracer(Tracer):
    """A value with the derivatives of the curve it is on; None are zero."""

    __slots__ = ("coefs",)

    def __init__(self, trace: Jet, coefs: Coefs, source: Any) -> None:
        self.owner = trace
        self.coefs = coefs
        self.source = source

    @property
    def aval(self) -> ShapedArray:  # type: ignore[override]
        return self.coefs[0].aval

    @property
    def shape(self) -> tuple[int, ...]:
        return self.coefs[0].shape

    @property
    def dtype(self) -> Any:
        return self.coefs[0].dtype

    @property
    def weak_type(self) -> bool:
        return self.coefs[0].weak_type

    def concrete(self) -> ArrayImpl | None:
        primal = self.coefs[0]
        return primal if isinstance(primal, ArrayImpl) else primal.concrete()

    def values(self) -> tuple[np.ndarray, int] | None:
        return known_values(self.coefs[0])


class Jet(Trace):
    """Push Taylor series of ``order`` derivatives through operations."""

    __slots__ = ("order",)

    def __init__(self, parent: Trace, order: int, fun: Any = "") -> None:
        super().__init__(parent, fun)
        self.order = order

    def process(self, prim: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        if prim.name == "jit":
            with use_trace(self):
                return eval_jaxpr(params["jaxpr"], *args)
        ins = [self.unwrap(a) for a in args]
        saved, _state.trace = _state.trace, self.parent
        before = _state.source
        try:
            if all(c is None for x in ins for c in x[1:]):
                return prim.bind(*[x[0] for x in ins], **params)
            source = _state.source = source_of()
            outs = _series(prim, ins, params)
        finally:
            _state.trace, _state.source = saved, before
        wrapped = [self.wrap(coefs, source) for coefs in outs]
        return wrapped if prim.multiple_results else wrapped[0]

    def decide(self, x: Any, soft: bool = False) -> bool | None:
        return truth(x.coefs[0], soft)

    def wrap(self, coefs: Coefs, source: Any) -> Any:
        if all(c is None for c in coefs[1:]):
            return coefs[0]
        return JetTracer(self, coefs, source)

    def unwrap(self, x: Any) -> Coefs:
        if type(x) is JetTracer and x.owner is self:
            return x.coefs
        return [x, *[None] * self.order]


def _series(prim: Primitive, ins: list[Coefs], params: dict[str, Any]) -> list[Coefs]:
    name = prim.name
    if name in _RULES:
        return [_RULES[name](prim, ins, params)]
    if name in BILINEAR:
        x, y = ins
        return [[_product(prim.bind, x, y, n, params) for n in range(len(x))]]
    if name in LINEAR:
        return _linear(prim, ins, params)
    return _by_derivative(prim, ins, params)


def _linear(prim: Primitive, ins: list[Coefs], params: dict[str, Any]) -> list[Coefs]:
    linear_in = LINEAR[prim.name]
    chosen = [x for k, x in enumerate(ins) if linear_in(k)]
    rows: list[Any] = []
    for n in range(len(ins[0])):
        if n and (
            all(x[n] is None for x in chosen) or not is_differentiable(aval_of(rows[0][0]).dtype)
        ):
            rows.append(None)
            continue
        args = [
            x[0] if n == 0 or not linear_in(k) else zeros(aval_of(x[0])) if x[n] is None else x[n]
            for k, x in enumerate(ins)
        ]
        out = prim.bind(*args, **params)
        rows.append(out if prim.multiple_results else [out])
    return [[None if r is None else r[k] for r in rows] for k in range(len(rows[0]))]


def _by_derivative(prim: Primitive, ins: list[Coefs], params: dict[str, Any]) -> list[Coefs]:
    """Take the derivative by the jvp rule, along a curve of one order less."""
    order = len(ins[0]) - 1
    trace = Jet(current(), order - 1, prim.name)
    source = _state.source
    with trace:
        primals, tangents = [], []
        for x in ins:
            primals.append(trace.wrap(x[:-1], source))
            if all(c is None for c in x[1:]):
                tangents.append(None)
                continue
            first = zeros(aval_of(x[0]).tangent()) if x[1] is None else x[1]
            tangents.append(trace.wrap([first, *x[2:]], source))
        outs, touts = prim.rule("jvp")(primals, tangents, **params)
        if not prim.multiple_results:
            outs, touts = [outs], [touts]
        found = [
            [trace.unwrap(y)[0], *([None] * order if t is None else trace.unwrap(t))]
            for y, t in zip(outs, touts, strict=True)
        ]
    return found


# ---------------------------------------------------------------------------------- recurrences
def _times(x: Any, factor: float) -> Any:
    """Return a number times a value; None stays zero, and 1 costs nothing."""
    if x is None or factor == 1:
        return x
    return mul(x, full_like(x, factor))


def _product(
    bind: Callable[..., Any], x: Coefs, y: Coefs, n: int, params: dict[str, Any], start: int = 0
) -> Any:
    """Return derivative ``n`` of a product, less the terms with x's derivatives before ``start``:
    sum over j of C(n, j) x^(j) y^(n-j)."""
    terms = [
        _times(bind(x[j], y[n - j], **params), math.comb(n, j))
        for j in range(start, n + 1)
        if x[j] is not None and y[n - j] is not None
    ]
    return accumulate(terms)


def _mul(x: Coefs, y: Coefs, n: int, start: int = 0) -> Any:
    return _product(mul, x, y, n, {}, start)


def _minus(x: Any, y: Any) -> Any:
    if y is None:
        return x
    return neg(y) if x is None else sub(x, y)


def _quotient(y0: Any, x: Coefs, by: Coefs) -> Coefs:
    """Return the series of x / by, whose value is ``y0``: by y = x, solved for the newest y."""
    y = [y0, *[None] * (len(x) - 1)]
    for n in range(1, len(x)):
        top = _minus(x[n], _mul(by, y, n, start=1))
        y[n] = None if top is None else div(top, by[0])
    return y


def _flow(y0: Any, x: Coefs, slope: Callable[[Coefs, int], Any]) -> Coefs:
    """Return the series of y with y' = phi x'.

    Args:
        slope: ``slope(y, n)`` is derivative ``n`` of phi, from those of y up to ``n``.
    """
    dx = x[1:]
    y, phi = [y0], []
    for n in range(len(dx)):
        phi.append(slope(y, n))
        y.append(_mul(phi, dx, n))
    return y


def _constant(value: Any, length: int) -> Coefs:
    return [value, *[None] * (length - 1)]


def _one(x: Any) -> Any:
    return full_like(x, 1)


def _exp(prim: Primitive, ins: list[Coefs], params: dict[str, Any]) -> Coefs:
    (x,) = ins
    return _flow(prim.bind(x[0]), x, lambda y, n: y[n])


def _expm1(prim: Primitive, ins: list[Coefs], params: dict[str, Any]) -> Coefs:
    (x,) = ins
    return _flow(prim.bind(x[0]), x, lambda y, n: y[n] if n else add(y[0], _one(y[0])))


def _tanh(prim: Primitive, ins: list[Coefs], params: dict[str, Any]) -> Coefs:
    (x,) = ins
    return _flow(prim.bind(x[0]), x, lambda y, n: _minus(None if n else _one(y[0]), _mul(y, y, n)))


def _logistic(prim: Primitive, ins: list[Coefs], params: dict[str, Any]) -> Coefs:
    (x,) = ins
    return _flow(prim.bind(x[0]), x, lambda y, n: _minus(y[n], _mul(y, y, n)))


def _log(prim: Primitive, ins: list[Coefs], params: dict[str, Any]) -> Coefs:
    (x,) = ins
    at = x[0] if prim.name == "log" else add(x[0], _one(x[0]))
    one = _one(at)
    phi = _quotient(div(one, at), _constant(one, len(x)), [at, *x[1:]])
    return _flow(prim.bind(x[0]), x, lambda y, n: phi[n])


def _atan(prim: Primitive, ins: list[Coefs], params: dict[str, Any]) -> Coefs:
    (x,) = ins
    by = [_mul(x, x, n) for n in range(len(x))]
    one = _one(x[0])
    by[0] = add(by[0], one)
    phi = _quotient(div(one, by[0]), _constant(one, len(x)), by)
    return _flow(prim.bind(x[0]), x, lambda y, n: phi[n])


def _wave(
    pair: tuple[Callable[..., Any], Callable[..., Any]], sign: int
) -> Callable[[Primitive, list[Coefs], dict[str, Any]], Coefs]:
    """Return the rule of s and c with s' = c x' and c' = sign s x'."""

    def rule(prim: Primitive, ins: list[Coefs], params: dict[str, Any]) -> Coefs:
        (x,) = ins
        dx = x[1:]
        s, c = ([f(x[0])] for f in pair)
        for n in range(len(dx)):
            up, down = _mul(c, dx, n), _mul(s, dx, n)
            s.append(up)
            c.append(None if down is None else neg(down) if sign < 0 else down)
        return s if prim.name in ("sin", "sinh") else c

    return rule


def _sqrt(prim: Primitive, ins: list[Coefs], params: dict[str, Any]) -> Coefs:
    (x,) = ins
    y = _constant(prim.bind(x[0]), len(x))
    twice = add(y[0], y[0])
    for n in range(1, len(x)):
        top = _minus(x[n], _mul(y, y, n))  # y^(n) itself is still None, that is left out
        y[n] = None if top is None else div(top, twice)
    return y


def _square(prim: Primitive, ins: list[Coefs], params: dict[str, Any]) -> Coefs:
    (x,) = ins
    return [_mul(x, x, n) for n in range(len(x))]


def _div(prim: Primitive, ins: list[Coefs], params: dict[str, Any]) -> Coefs:
    x, by = ins
    return _quotient(prim.bind(x[0], by[0]), x, by)


def _reciprocal(prim: Primitive, ins: list[Coefs], params: dict[str, Any]) -> Coefs:
    (x,) = ins
    return _quotient(prim.bind(x[0]), _constant(_one(x[0]), len(x)), x)


def _integer_pow(prim: Primitive, ins: list[Coefs], params: dict[str, Any]) -> Coefs:
    """Square and multiply."""
    (x,) = ins
    size, exponent = len(x), params["y"]
    power, base, left = _constant(_one(x[0]), size), x, abs(exponent)
    while left:
        if left % 2:
            power = [_mul(power, base, n) for n in range(size)]
        left //= 2
        if left:
            base = [_mul(base, base, n) for n in range(size)]
    value = prim.bind(x[0], **params)
    if exponent < 0:
        return _quotient(value, _constant(_one(x[0]), size), power)
    return [value, *power[1:]]


_RULES: dict[str, Callable[[Primitive, list[Coefs], dict[str, Any]], Coefs]] = {
    "atan": _atan,
    "cos": _wave((sin, cos), -1),
    "cosh": _wave((sinh, cosh), 1),
    "div": _div,
    "exp": _exp,
    "expm1": _expm1,
    "integer_pow": _integer_pow,
    "log": _log,
    "log1p": _log,
    "logistic": _logistic,
    "reciprocal": _reciprocal,
    "sin": _wave((sin, cos), -1),
    "sinh": _wave((sinh, cosh), 1),
    "sqrt": _sqrt,
    "square": _square,
    "tanh": _tanh,
}


# --------------------------------------------------------------------------------------- public
def jet(
    fun: Callable[..., Any],
    primals: Sequence[Any],
    series: Sequence[Sequence[Any]],
    factorial_scaled: bool = True,
) -> tuple[Any, Any]:
    """Compute a function's higher derivatives along a curve (Taylor mode).

    Args:
        fun: a function of arrays or pytrees of arrays.
        primals: tuple or list, one per argument of ``fun``: where the curve starts.
        series: per argument, the list of the derivatives of the curve there, orders 1 to K, each
            like the argument.
        factorial_scaled: whether series, given and returned, hold derivatives (True), or
            coefficients of Taylor polynomials, that is derivative k over k! (False).

    Returns:
        ``(output, output_series)``; ``output_series`` has, in place of each array of the output,
        the list of its derivatives of orders 1 to K.

    Raises:
        TypeError: when a term differs from its primal in structure or shape, or an argument is not
            of a float dtype.
        ValueError: when there is not one series per argument, or their lengths differ.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.experimental.jet import jet
        >>> y, (d1, d2, d3) = jet(lambda x: x**3, (2.0,), ((1.0, 0.0, 0.0),))
        >>> float(y), float(d1), float(d2), float(d3)
        (8.0, 12.0, 12.0, 6.0)

    References:
        Griewank and Walther, Evaluating Derivatives (2008), chapter 13: recurrences of Taylor
        coefficients.
    """
    check_callable(fun, "jet")
    order = _check_series(primals, series)
    leaves, treedef = tree.flatten(tuple(primals))
    arrays = as_arrays(leaves, "primals", fun)
    terms = []
    for n in range(order):
        given, structure = tree.flatten(tuple(s[n] for s in series))
        if structure != treedef:
            raise TypeError(
                f"jet: terms of order {n + 1} have the structure {structure}, the primals "
                f"{treedef}: they must be the same"
            )
        scale = 1 if factorial_scaled else math.factorial(n + 1)
        terms.append(
            [
                _times(_checked_term(n, k, p, t), scale)
                for k, (p, t) in enumerate(zip(arrays, given, strict=True))
            ]
        )
    flat = FlatFunction(fun, treedef, False, "jet")
    source = user_frame()
    trace = Jet(current(), order, fun)
    with trace:
        ins = [trace.wrap([p, *(row[k] for row in terms)], source) for k, p in enumerate(arrays)]
        found = [trace.unwrap(y) for y in flat(*ins)]
    lists = []
    for coefs in found:
        aval = aval_of(coefs[0])
        zero = zeros(aval.tangent() if is_differentiable(aval.dtype) else aval)
        full = [zero if c is None else as_weak_as(c, aval) for c in coefs[1:]]
        if not factorial_scaled:
            full = [_times(c, 1 / math.factorial(n + 1)) for n, c in enumerate(full)]
        lists.append(full)
    return flat.out_tree.unflatten([c[0] for c in found]), flat.out_tree.unflatten(lists)


def _check_series(primals: Any, series: Any) -> int:
    """Return the number of derivatives."""
    for what, x in (("primals", primals), ("series", series)):
        if not isinstance(x, (tuple, list)):
            raise TypeError(
                f"jet takes {what} as a tuple or list, got {type(x).__name__}: write (x,) for one "
                "argument"
            )
    if len(primals) != len(series) or not primals:
        raise ValueError(
            f"jet takes one series per primal, and at least one, got {len(primals)} primals and "
            f"{len(series)} series"
        )
    for k, s in enumerate(series):
        if not isinstance(s, (tuple, list)):
            raise TypeError(
                f"jet: the series of argument {k} must be a tuple or list of its derivatives, got "
                f"{type(s).__name__}"
            )
    lengths = [len(s) for s in series]
    if len(set(lengths)) != 1 or not lengths[0]:
        raise ValueError(
            "jet takes series of one length, at least 1, for all arguments, got lengths "
            f"{lengths}: fill up with zeros"
        )
    return lengths[0]


def _checked_term(n: int, k: int, primal: Any, term: Any) -> Any:
    aval = aval_of(primal)
    if not is_differentiable(aval.dtype):
        raise TypeError(
            f"jet: leaf {k} of the primals has dtype {aval.dtype.name}, but derivatives need a "
            "float dtype: convert it with astype(float), or close over it"
        )
    (term,) = as_arrays([term], "series", None)
    if term.shape != aval.shape:
        raise TypeError(
            f"jet: leaf {k} of the primals is {aval.str_short()} but its term of order {n + 1} is "
            f"{term.aval.str_short()}; shapes must be equal"
        )
    if term.dtype != aval.dtype or term.weak_type != aval.weak_type:
        term = convert(term, dtype=aval.dtype, weak_type=aval.weak_type)
    return term
