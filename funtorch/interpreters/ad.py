"""Derivative rules of primitives under the names of jax.interpreters.ad."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funtorch.core import LinearArg, Primitive, ShapedArray, aval_of
from funtorch.numpy.promotion import asarray
from funtorch.ops.elementwise import add
from funtorch.ops.elementwise import add_p as add_jaxvals_p
from funtorch.ops.families import zeros
from funtorch.transforms.forward import JVP as JVPTrace
from funtorch.transforms.forward import JVPTracer

__all__ = [
    "JVPTrace",
    "JVPTracer",
    "UndefinedPrimal",
    "Zero",
    "add_jaxvals",
    "add_jaxvals_p",
    "add_tangents",
    "defbilinear",
    "defjvp",
    "defjvp2",
    "deflinear",
    "deflinear2",
    "get_primitive_transpose",
    "instantiate_zeros",
    "is_undefined_primal",
    "primitive_jvps",
    "primitive_transposes",
    "zeros_like_aval",
]

Rule = Callable[..., Any]
UndefinedPrimal = LinearArg


class Zero:
    """A tangent or cotangent that is zero: its type alone.

    Args:
        aval: the type.
    """

    __slots__ = ("aval",)

    def __init__(self, aval: ShapedArray) -> None:
        self.aval = aval

    @staticmethod
    def from_primal_value(value: Any) -> Zero:
        """Return the zero tangent of a value."""
        return Zero(aval_of(value).tangent())

    def __repr__(self) -> str:
        return f"Zero({self.aval})"


def is_undefined_primal(x: Any) -> bool:
    """Tell whether an argument of a transpose rule is one that the operation is linear in."""
    return type(x) is LinearArg


def instantiate_zeros(x: Any) -> Any:
    """Return an array of zeros for a `Zero`, and anything else as it is."""
    return zeros(x.aval) if type(x) is Zero else x


def add_tangents(x: Any, y: Any) -> Any:
    """Add tangents or cotangents, either of which may be a `Zero`."""
    if type(x) is Zero:
        return y
    return x if type(y) is Zero else add(x, y)


def add_jaxvals(x: Any, y: Any) -> Any:
    """Add two arrays of one type."""
    return add(x, y)


def zeros_like_aval(aval: ShapedArray) -> Any:
    """Return an array of zeros of a type."""
    return zeros(aval)


def get_primitive_transpose(primitive: Primitive) -> Rule:
    """Return the transpose rule of a primitive: ``rule(cotangents, *args, **params)``.

    Raises:
        NotImplementedError: it has none.
    """
    return primitive_transposes.get(primitive) or primitive.rule("transpose")


def _given(x: Any) -> Any:
    """Return what a rule gave as the library has it: an array, or None for zero."""
    return None if x is None or type(x) is Zero else asarray(x)


def _map(many: bool, f: Callable[..., Any], *columns: Any) -> Any:
    return [f(*xs) for xs in zip(*columns, strict=True)] if many else f(*columns)


class _Rules(dict[Primitive, Rule]):
    """Primitive -> rule; setting one completes the primitive."""

    def __init__(self, install: Callable[[Primitive, Rule], None]) -> None:
        super().__init__()
        self._install = install

    def __setitem__(self, prim: Primitive, rule: Rule) -> None:
        super().__setitem__(prim, rule)
        self._install(prim, rule)


def _install_jvp(prim: Primitive, rule: Rule) -> None:
    def jvp(primals: Any, tangents: Any, **params: Any) -> Any:
        ts = [
            Zero.from_primal_value(p) if t is None else t
            for p, t in zip(primals, tangents, strict=True)
        ]
        outs, touts = rule(tuple(primals), tuple(ts), **params)
        many = prim.multiple_results
        return _map(many, asarray, outs), _map(many, _given, touts)

    prim.jvp, prim.linearize = jvp, None


def _install_transpose(prim: Primitive, rule: Rule) -> None:
    def transpose(ct: Any, *args: Any, **params: Any) -> list[Any]:
        if prim.multiple_results:
            types = prim.type(*[a.aval for a in args], **params)
            ct = [Zero(a) if c is None else c for c, a in zip(ct, types, strict=True)]
        found = rule(ct, *args, **params)
        cts = [None] * len(args) if type(found) is Zero else list(found)
        if len(cts) != len(args):
            raise TypeError(
                f"the transpose rule of {prim.name} gave {len(cts)} cotangents for {len(args)} "
                "arguments: give one for each, None where it is not linear"
            )
        return [_given(c) for c in cts]

    prim.transpose = transpose


primitive_jvps: dict[Primitive, Rule] = _Rules(_install_jvp)
primitive_transposes: dict[Primitive, Rule] = _Rules(_install_transpose)


def _sum(terms: Sequence[Any], out: Any) -> Any:
    total: Any = Zero.from_primal_value(out)
    for term in terms:
        total = add_tangents(total, term)
    return total


def defjvp(primitive: Primitive, *jvprules: Rule | None) -> None:
    """Set one rule per argument: ``rule(tangent, *primals, **params)`` -> tangent out, or None.

    Example:
        >>> import funtorch as ft
        >>> from funtorch.extend.core import Primitive
        >>> cube_p = Primitive("cube")
        >>> _ = cube_p.def_impl(lambda x: x**3), cube_p.def_abstract_eval(lambda x: x)
        >>> defjvp(cube_p, lambda t, x: 3 * x**2 * t)
        >>> float(ft.grad(cube_p.bind)(2.0))
        12.0
    """
    defjvp2(primitive, *[rule and _without_out(rule) for rule in jvprules])


def _without_out(rule: Rule) -> Rule:
    return lambda t, out, *primals, **params: rule(t, *primals, **params)


def defjvp2(primitive: Primitive, *jvprules: Rule | None) -> None:
    """Set one rule per argument: ``rule(tangent, out, *primals, **params)``, or None."""

    def jvp(primals: Any, tangents: Any, **params: Any) -> Any:
        out = primitive.bind(*primals, **params)
        terms = [
            rule(t, out, *primals, **params)
            for rule, t in zip(jvprules, tangents, strict=True)
            if rule is not None and type(t) is not Zero
        ]
        return out, _sum(terms, out)

    primitive_jvps[primitive] = jvp


def deflinear(primitive: Primitive, transpose_rule: Rule) -> None:
    """Say that a primitive is linear in all arguments; ``rule(ct, **params)`` -> cotangents."""
    deflinear2(primitive, lambda ct, *args, **params: transpose_rule(ct, **params))


def deflinear2(primitive: Primitive, transpose_rule: Rule) -> None:
    """Say that a primitive is linear in all arguments; ``rule(ct, *args, **params)``."""

    def jvp(primals: Any, tangents: Any, **params: Any) -> Any:
        out = primitive.bind(*primals, **params)
        if all(type(t) is Zero for t in tangents):
            many = primitive.multiple_results
            return out, _map(many, Zero.from_primal_value, out)
        return out, primitive.bind(*map(instantiate_zeros, tangents), **params)

    primitive_jvps[primitive] = jvp
    primitive_transposes[primitive] = transpose_rule


def defbilinear(primitive: Primitive, lhs_rule: Rule, rhs_rule: Rule) -> None:
    """Say that a primitive of two arguments is linear in each; ``lhs_rule(ct, x, y, **params)``
    gives the cotangent of x, and ``rhs_rule`` that of y."""
    defjvp(
        primitive,
        lambda t, x, y, **params: primitive.bind(t, y, **params),
        lambda t, x, y, **params: primitive.bind(x, t, **params),
    )

    def transpose(ct: Any, x: Any, y: Any, **params: Any) -> list[Any]:
        if is_undefined_primal(x):
            return [lhs_rule(ct, x, y, **params), None]
        return [None, rhs_rule(ct, x, y, **params)]

    primitive_transposes[primitive] = transpose
