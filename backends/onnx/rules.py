"""Rules of elementwise primitives, reductions, loops and branches; and the table of all rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ShapedArray
from funtorch.jaxpr import Eqn, Jaxpr, Var

from ..lower import LOWERINGS
from .arrays import ARRAYS, of_bytes
from .graph import Graph, NotExpressible, Rule, taken, value_info
from .spectra import MATRICES
from .written import WRITTEN, eager, program

__all__ = ["RULES"]


def _kind(eqn: Eqn, k: int = 0) -> str:
    dtype = eqn.invars[k].aval.dtype
    return "f" if dtypes.is_float(dtype) else dtype.kind


# ------------------------------------------------------------------------------ one operator
def _one(operator: str, accepts: str = "fiu", of_bools: str | None = None) -> Rule:
    """A primitive that is one operator."""

    def rule(g: Graph, eqn: Eqn, *xs: str) -> str:
        kind = _kind(eqn)
        if kind == "b" and of_bools:
            return g.op(of_bools, *g.operands(xs))
        if kind not in accepts:
            raise NotExpressible(f"of {eqn.invars[0].aval.dtype.name} has no counterpart")
        return g.op(operator, *g.operands(xs))

    return rule


def _compared(operator: str) -> Rule:
    """A comparison; that of bools is one of bytes."""
    plain = _one(operator)

    def rule(g: Graph, eqn: Eqn, x: str, y: str) -> str:
        if _kind(eqn) == "b":
            return g.op(operator, *(g.cast(v, np.uint8) for v in g.operands([x, y])))
        return plain(g, eqn, x, y)

    return rule


_PLAIN: dict[str, Rule] = {
    "neg": lambda g, eqn, x: (
        g.op("Sub", g.const(0, eqn.invars[0].aval.dtype), x) if _kind(eqn) == "u"
        else _one("Neg", "fi")(g, eqn, x)
    ),
    "abs": _one("Abs"), "sign": _one("Sign"), "sqrt": _one("Sqrt", "f"),
    "floor": _one("Floor", "f"), "ceil": _one("Ceil", "f"), "round": _one("Round", "f"),
    "exp": _one("Exp", "f"), "log": _one("Log", "f"), "sin": _one("Sin", "f"),
    "cos": _one("Cos", "f"), "tan": _one("Tan", "f"), "asin": _one("Asin", "f"),
    "acos": _one("Acos", "f"), "atan": _one("Atan", "f"), "sinh": _one("Sinh", "f"),
    "cosh": _one("Cosh", "f"), "tanh": _one("Tanh", "f"), "asinh": _one("Asinh", "f"),
    "acosh": _one("Acosh", "f"), "atanh": _one("Atanh", "f"), "erf": _one("Erf", "f"),
    "logistic": _one("Sigmoid", "f"), "reciprocal": _one("Reciprocal", "f"),
    "add": _one("Add"), "sub": _one("Sub"), "mul": _one("Mul"),
    "pow": _one("Pow", "f"),
    "max": _one("Max", of_bools="Or"), "min": _one("Min", of_bools="And"),
    "lt": _compared("Less"), "le": _compared("LessOrEqual"), "gt": _compared("Greater"),
    "ge": _compared("GreaterOrEqual"), "eq": _one("Equal", "fiub"),
    "bitwise_not": _one("BitwiseNot", "iu", "Not"),
    "bitwise_and": _one("BitwiseAnd", "iu", "And"), "bitwise_or": _one("BitwiseOr", "iu", "Or"),
    "bitwise_xor": _one("BitwiseXor", "iu", "Xor"),
    "select": lambda g, eqn, *xs: g.where(*xs, eqn.outvars[0].aval.dtype),
    "copy": lambda g, eqn, x: x, "stop_gradient": lambda g, eqn, x: x,
    "optimization_barrier": lambda g, eqn, *xs: list(xs),
    "convert": lambda g, eqn, x: g.cast(x, eqn.params["dtype"]),
}  # fmt: skip


# ------------------------------------------------------------------------------ several operators
class _Of:
    """A graph and a dtype, with the operators that formulas are written in."""

    def __init__(self, g: Graph, eqn: Eqn) -> None:
        dtype = eqn.invars[0].aval.dtype
        self.g, self.dtype, self.kind = g, dtype, _kind(eqn)
        if self.kind not in "fiu":
            raise NotExpressible(f"of {dtype.name} has no counterpart")

    def number(self, value: float) -> str:
        return self.g.const(value, self.dtype)

    def Where(self, choice: str, *xs: str | float) -> str:
        x, y = (x if isinstance(x, str) else self.number(x) for x in xs)
        return self.g.where(choice, x, y, self.dtype)

    def __getattr__(self, operator: str) -> Callable[..., str]:
        """Return the writing of an operator; numbers among its operands become constants."""

        def write(*xs: str | float) -> str:
            return self.g.op(operator, *(x if isinstance(x, str) else self.number(x) for x in xs))

        return write


def _formula(accepts: str = "f") -> Callable[[Callable[..., str]], Rule]:
    def decorate(f: Callable[..., str]) -> Rule:
        def rule(g: Graph, eqn: Eqn, *xs: str) -> str:
            o = _Of(g, eqn)
            if o.kind not in accepts:
                raise NotExpressible(f"of {o.dtype.name} has no counterpart")
            return f(o, *xs, **eqn.params)

        return rule

    return decorate


@_formula()
def _expm1(o: Any, x: str) -> str:
    """2 t / (1 - t) with t = tanh(x / 2) where that is more exact."""
    t = o.Tanh(o.Mul(x, 0.5))
    near = o.Div(o.Mul(t, 2.0), o.Sub(1.0, t))
    return o.Where(o.Less(o.Abs(x), 0.5), near, o.Sub(o.Exp(x), 1.0))


@_formula()
def _log1p(o: Any, x: str) -> str:
    """2 atanh(x / (2 + x)) where that is more exact."""
    inside = o.Less(o.Abs(x), 0.5)
    small = o.Where(inside, x, 0.0)
    near = o.Mul(o.Atanh(o.Div(small, o.Add(small, 2.0))), 2.0)
    return o.Where(inside, near, o.Log(o.Add(x, 1.0)))


@_formula()
def _logaddexp(o: Any, x: str, y: str) -> str:
    most = o.Max(x, y)
    apart = o.Abs(o.Sub(x, y))
    found = o.Add(most, o.Log(o.Add(o.Exp(o.Neg(apart)), 1.0)))
    return o.Where(o.Equal(x, y), o.Add(x, math.log(2)), found)


@_formula()
def _atan2(o: Any, y: str, x: str) -> str:
    """Both arguments over the larger one, so that nothing overflows."""
    ax, ay = o.Abs(x), o.Abs(y)
    steep = o.Greater(ay, ax)
    under = o.Max(ax, ay)
    under = o.Where(o.Equal(under, 0.0), 1.0, under)
    angle = o.Atan(o.Div(o.Min(ax, ay), under))
    angle = o.Where(steep, o.Sub(math.pi / 2, angle), angle)
    angle = o.Where(_negative(o, x), o.Sub(math.pi, angle), angle)
    return o.Where(_negative(o, y), o.Neg(angle), angle)


def _negative(o: Any, x: str) -> str:
    """Tell whether the sign of x is negative, that of a zero too."""
    one = o.Where(o.Equal(x, 0.0), x, 1.0)
    below = o.Less(o.Reciprocal(one), 0.0)
    return o.Or(o.Less(x, 0.0), o.And(o.Equal(x, 0.0), below))


@_formula()
def _copysign(o: Any, x: str, y: str) -> str:
    return o.Where(_negative(o, y), o.Neg(o.Abs(x)), o.Abs(x))


@_formula()
def _hypot(o: Any, x: str, y: str) -> str:
    ax, ay = o.Abs(x), o.Abs(y)
    most = o.Max(ax, ay)
    safe = o.Where(o.Equal(most, 0.0), 1.0, most)
    ratio = o.Div(o.Min(ax, ay), safe)
    return o.Mul(most, o.Sqrt(o.Add(o.Mul(ratio, ratio), 1.0)))


@_formula()
def _cbrt(o: Any, x: str) -> str:
    return o.Mul(o.Sign(x), o.Pow(o.Abs(x), 1 / 3))


@_formula()
def _trunc(o: Any, x: str) -> str:
    return o.Where(o.Less(x, 0.0), o.Ceil(x), o.Floor(x))


@_formula()
def _is_finite(o: Any, x: str) -> str:
    return o.Not(o.Or(o.IsNaN(x), o.IsInf(x)))


@_formula("fiu")
def _square(o: Any, x: str) -> str:
    return o.Mul(x, x)


@_formula("fiu")
def _integer_pow(o: Any, x: str, y: int) -> str:
    exponent, out = abs(y), None
    while exponent:
        if exponent & 1:
            out = x if out is None else o.Mul(out, x)
        exponent >>= 1
        x = o.Mul(x, x) if exponent else x
    if out is None:
        return o.Add(o.Mul(x, 0), 1)
    return o.Div(1.0, out) if y < 0 else out


def _div(g: Graph, eqn: Eqn, x: str, y: str) -> str:
    """A division; that of integers by zero does not trap, and means what it means elsewhere."""
    o = _Of(g, eqn)
    if o.kind == "f":
        return g.op("Div", *g.operands([x, y]))
    zero = o.Equal(y, 0)
    by_zero = o.number(-1 if o.kind == "i" else np.iinfo(o.dtype).max)
    return o.Where(zero, by_zero, o.Div(x, o.Where(zero, 1, y)))


def _rem(g: Graph, eqn: Eqn, x: str, y: str) -> str:
    """That of integers is written as what a division leaves: some engines compute `Mod` of 64 bits
    in floats."""
    o = _Of(g, eqn)
    if o.kind == "f":
        return g.op("Mod", *g.operands([x, y]), fmod=1)
    zero = o.Equal(y, 0)
    return o.Where(zero, x, o.Sub(x, o.Mul(o.Div(x, o.Where(zero, 1, y)), y)))


@_formula()
def _masked_mul(o: Any, x: str, y: str) -> str:
    zero = o.Or(o.Equal(x, 0.0), o.Equal(y, 0.0))
    return o.Where(zero, 0.0, o.Mul(x, y))


_ERFC = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398,
    1.48851587, -0.82215223, 0.17087277,
)  # fmt: skip


@_formula()
def _erfc(o: Any, x: str) -> str:
    """1 - erf(x) near 0; beyond, a Chebyshev fit with relative error below 1.2e-7.

    References:
        W. H. Press et al., "Numerical Recipes in C", 2nd ed., 1992, section 6.2.
    """
    z = o.Abs(x)
    t = o.Div(1.0, o.Add(o.Mul(z, 0.5), 1.0))
    fit = o.number(_ERFC[-1])
    for c in reversed(_ERFC[:-1]):
        fit = o.Add(o.Mul(fit, t), c)
    tail = o.Mul(t, o.Exp(o.Sub(fit, o.Mul(z, z))))
    far = o.Where(o.Less(x, 0.0), o.Sub(2.0, tail), tail)
    exact = 5.0 if o.dtype == np.float64 else 0.5  # where 1 - erf(x) is good enough
    return o.Where(o.Less(x, exact), o.Sub(1.0, o.Erf(x)), far)


_FORMULAS: dict[str, Rule] = {
    "expm1": _expm1, "log1p": _log1p, "logaddexp": _logaddexp, "atan2": _atan2,
    "copysign": _copysign, "hypot": _hypot, "cbrt": _cbrt, "trunc": _trunc,
    "is_finite": _is_finite, "square": _square, "integer_pow": _integer_pow,
    "masked_mul": _masked_mul, "erfc": _erfc,
    "rsqrt": _formula()(lambda o, x: o.Reciprocal(o.Sqrt(x))),
    "exp2": _formula()(lambda o, x: o.Pow(2.0, x)),
    "log2": _formula()(lambda o, x: o.Div(o.Log(x), math.log(2))),
    "log10": _formula()(lambda o, x: o.Div(o.Log(x), math.log(10))),
    "ne": lambda g, eqn, x, y: g.op("Not", g.op("Equal", x, y)),
    "div": _div, "rem": _rem,
}  # fmt: skip


# ------------------------------------------------------------------------------ reductions
def _reduced(operator: str, of_bools: str | None = None, accepts: str = "fiu") -> Rule:
    """A reduction; of bools, that of bytes."""

    def rule(g: Graph, eqn: Eqn, x: str) -> str:
        axes = g.ints(eqn.params["axes"])
        if _kind(eqn) in accepts:
            return g.op(operator, x, axes, keepdims=0, noop_with_empty_axes=1)
        if of_bools is None or _kind(eqn) != "b":
            raise NotExpressible(f"of {eqn.invars[0].aval.dtype.name} has no counterpart")
        found = g.op(of_bools, g.cast(x, np.uint8), axes, keepdims=0, noop_with_empty_axes=1)
        return g.cast(found, np.bool_)

    return rule


def _extreme_place(operator: str) -> Rule:
    def rule(g: Graph, eqn: Eqn, x: str) -> str:
        if _kind(eqn) == "b":
            x = g.cast(x, np.uint8)
        found = g.op(operator, x, axis=eqn.params["axis"], keepdims=0)
        return g.cast(found, eqn.params["dtype"])

    return rule


def _cumsum(g: Graph, eqn: Eqn, x: str) -> str:
    axis = g.const(eqn.params["axis"], np.int64)
    return g.op("CumSum", x, axis, reverse=int(eqn.params["reverse"]))


def _all_bits(name: str, of_bools: str) -> Rule:
    """A reduction bit by bit; of bools, an extremum."""
    bools, bits = _reduced(of_bools, of_bools, ""), eager(name)
    return lambda g, eqn, x: bools(g, eqn, x) if _kind(eqn) == "b" else bits(g, eqn, x)


_REDUCTIONS: dict[str, Rule] = {
    "reduce_sum": _reduced("ReduceSum"), "reduce_prod": _reduced("ReduceProd"),
    "reduce_max": _reduced("ReduceMax", "ReduceMax"),
    "reduce_min": _reduced("ReduceMin", "ReduceMin"),
    "reduce_and": _all_bits("reduce_and", "ReduceMin"),
    "reduce_or": _all_bits("reduce_or", "ReduceMax"),
    "argmax": _extreme_place("ArgMax"), "argmin": _extreme_place("ArgMin"), "cumsum": _cumsum,
}  # fmt: skip


# ------------------------------------------------------------------------------ loops and branches
def _body(g: Graph, jaxpr: Jaxpr, inputs: Sequence[str], title: str, before: Sequence[Any]) -> Any:
    """Return a program as a graph inside of another one.

    Args:
        g: the graph around it.
        jaxpr: the program.
        inputs: names of its inputs, those of the graph around included.
        title: of the graph.
        before: descriptions of the graph's own inputs.
    """
    inner = Graph(g)
    outs = [inner.op("Identity", out) for out in inner.run(jaxpr, inputs)]
    made = [value_info(n, v.aval) for n, v in zip(outs, jaxpr.outvars, strict=True)]
    return inner, made, inner.made(title, before, made)


def _scan(g: Graph, eqn: Eqn, *xs: str) -> Sequence[str]:
    p = eqn.params
    consts, carries = p["num_consts"], p["num_carry"]
    jaxpr: Jaxpr = p["jaxpr"]
    own = [g.fresh() for _ in jaxpr.invars[consts:]]
    before = [value_info(n, v.aval) for n, v in zip(own, jaxpr.invars[consts:], strict=True)]
    if len(own) == carries:
        before.append(value_info(g.fresh(), ShapedArray((), np.dtype(np.int64))))
    _, _, body = _body(g, jaxpr, [*xs[:consts], *own], "step", before)
    read, made = len(own) - carries, len(jaxpr.outvars) - carries
    given = list(xs[consts:])
    if not read:  # over a length alone: the numbers of the turns stand for it
        given.append(g.op("Range", g.size(0), g.size(p["length"]), g.size(1)))
        read = 1
    ways = {}
    if p["reverse"]:
        ways = {
            f"scan_{k}_directions": [1] * n for k, n in (("input", read), ("output", made)) if n
        }
    out = g.op("Scan", *given, outputs=carries + made, body=body, num_scan_inputs=read, **ways)
    return [out] if carries + made == 1 else out


def _while(g: Graph, eqn: Eqn, *xs: str) -> Sequence[str]:
    import onnx

    p = eqn.params
    nc, nb = p["cond_nconsts"], p["body_nconsts"]
    cond: Jaxpr = p["cond_jaxpr"]
    body: Jaxpr = p["body_jaxpr"]
    carry = xs[nc + nb :]
    (first,) = g.run(cond, [*xs[:nc], *carry])
    own = [g.fresh() for _ in carry]
    turn, go = g.fresh(), g.fresh()
    inner = Graph(g)
    outs = inner.run(body, [*xs[nc : nc + nb], *own])
    (again,) = inner.run(cond, [*xs[:nc], *outs])
    results = [inner.op("Identity", x) for x in (again, *outs)]
    avals = [v.aval for v in body.outvars]
    scalar = onnx.helper.make_tensor_value_info
    before = [scalar(turn, 7, []), scalar(go, 9, [])]
    before += [value_info(n, a) for n, a in zip(own, avals, strict=True)]
    made = [scalar(results[0], 9, [])]
    made += [value_info(n, a) for n, a in zip(results[1:], avals, strict=True)]
    out = g.op("Loop", "", first, *carry, outputs=len(carry), body=inner.made("turn", before, made))
    return [out] if len(carry) == 1 else out


def _cond(g: Graph, eqn: Eqn, index: str, *xs: str) -> Sequence[str]:
    branches = eqn.params["branches"]
    number = g.cast(index, np.int64)

    def choose(here: Graph, k: int) -> Sequence[str]:
        if k == len(branches) - 1:
            return [here.op("Identity", x) for x in here.run(branches[k], xs)]
        first, rest = Graph(here), Graph(here)
        outs = [[first.op("Identity", x) for x in first.run(branches[k], xs)], choose(rest, k + 1)]
        avals = [v.aval for v in branches[k].outvars]
        graphs = [
            graph.made(name, [], [value_info(n, a) for n, a in zip(made, avals, strict=True)])
            for graph, name, made in zip((first, rest), ("this", "others"), outs, strict=True)
        ]
        compare = "LessOrEqual" if k == 0 else "Equal"  # an index out of range is the nearest one
        this = here.op(compare, number, here.const(k, np.int64))
        count = len(branches[k].outvars)
        out = here.op("If", this, outputs=count, then_branch=graphs[0], else_branch=graphs[1])
        return [out] if count == 1 else out

    return choose(g, 0)


# ------------------------------------------------------------------------------ types
def _widened(operator: str, rule: Rule) -> Rule:
    """Have a rule compute in a wider type what an operator does not take."""

    def wide(g: Graph, eqn: Eqn, *xs: str) -> Any:
        narrow = eqn.invars[0].aval.dtype
        kept = taken(operator, narrow)
        if kept == narrow or of_bytes(eqn):
            return rule(g, eqn, *xs)

        def var(v: Any) -> Var:
            dtype = kept if v.aval.dtype == narrow else v.aval.dtype
            return Var(ShapedArray(v.aval.shape, dtype))

        given = [
            g.cast(x, kept) if v.aval.dtype == narrow else x
            for x, v in zip(xs, eqn.invars, strict=True)
        ]
        params = {
            k: kept if isinstance(v, np.dtype) and v == narrow else v for k, v in eqn.params.items()
        }
        ins, outs = map(var, eqn.invars), map(var, eqn.outvars)
        found = rule(g, Eqn(eqn.prim, list(ins), params, list(outs), eqn.source), *given)
        many = eqn.prim.multiple_results
        made = [
            g.cast(x, narrow) if v.aval.dtype == narrow else x
            for x, v in zip(found if many else [found], eqn.outvars, strict=True)
        ]
        return made if many else made[0]

    return wide


def _or_written(name: str, rule: Rule | None) -> Rule:
    """Have what a rule is not for written as compiled programs have it written."""

    def either(g: Graph, eqn: Eqn, *xs: str) -> Any:
        refused = NotExpressible(f"of {eqn.invars[0].aval.dtype.name} has no counterpart")
        if rule is not None:
            try:
                return rule(g, eqn, *xs)
            except NotExpressible as error:
                refused = error
        written = LOWERINGS[name](eqn)
        if written is None:
            raise refused
        return program(lambda *given, **params: written(*given))(g, eqn, *xs)

    return either


_CURVES = (
    "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "asinh", "acosh",
    "atanh", "log1p",
)  # fmt: skip

_WIDENED = {
    "reduce_sum": "ReduceSum", "reduce_prod": "ReduceProd", "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin", "cumsum": "CumSum", "dot_general": "MatMul", "sort": "TopK",
    "sort_bits": "TopK", "det": "Det", "conv_general_dilated": "Conv", "argmax": "ArgMax",
    "argmin": "ArgMin", "reduce_window_sum": "Conv", "reduce_window_max": "MaxPool",
    "reduce_window_min": "MaxPool", "round": "Round",
    **dict.fromkeys(_CURVES, "Atan"), **dict.fromkeys(MATRICES, "Det"),
}  # fmt: skip
"""By primitive: the operator in its rule that takes the fewest types."""

_WRITTEN = (
    "conv_general_dilated", "dot_general", "is_finite", "lu", "pinv", "pow", "qr_pivoting",
    "reduce_max", "reduce_min", "reduce_prod", "reduce_sum", "reduce_window_max",
    "reduce_window_min", "reduce_window_sum", "schur_shift", "slogdet",
)  # fmt: skip
"""Primitives that are written out where their rules are not for their types, or that have none."""

RULES: dict[str, Rule] = {
    **_PLAIN, **_FORMULAS, **_REDUCTIONS, **ARRAYS, **WRITTEN, **MATRICES,
    "scan": _scan, "while": _while, "cond": _cond,
}  # fmt: skip
"""By primitive: ``rule(graph, equation, *names of operands)`` gives the names of its results."""
RULES |= {name: _or_written(name, RULES.get(name)) for name in _WRITTEN}
RULES |= {name: _widened(operator, RULES[name]) for name, operator in _WIDENED.items()}
