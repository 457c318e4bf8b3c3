"""One program for several sizes: what its traces at some sizes have in common.

Programs are compared equation by equation. Where they differ in an integer, it becomes a polynomial
in the sizes; where they differ in a scalar constant (a mean's divisor), that becomes an input.
Nothing is assumed beyond the sizes that were traced: every new size is traced too, and what it
gives must be what the template says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from funtorch.core import ArrayImpl, ShapedArray
from funtorch.dims import Dim, NotDynamic, Scope, scope_of
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var, sub_jaxprs

__all__ = ["Template", "align", "samples"]

Sizes = dict[str, int]


def samples(sizes: Sizes, step: int) -> list[Sizes]:
    """Return sizes to trace at: each of them grown by ``step``, then all of them by twice that."""
    found = [{**sizes, name: n + step} for name, n in sizes.items()]
    return [*found, {name: n + 2 * step for name, n in sizes.items()}]


# ------------------------------------------------------------------------------ integers
def _linear(values: Sequence[int], points: Sequence[Sizes]) -> dict[str, Fraction]:
    base, names = points[0], list(points[0])
    return {
        name: Fraction(v - values[0], p[name] - base[name])
        for name, v, p in zip(names, values[1:], points[1:], strict=False)
    }


def _fitted(values: Sequence[int], points: Sequence[Sizes], symbols: dict[str, Dim]) -> int:
    """Return the polynomial that has these values at these points.

    Tried are sums of multiples of the sizes, multiples of a product of their powers, and
    polynomials of degree two in one size.

    Raises:
        NotDynamic: if it is none of these.
    """
    base, last = points[0], points[-1]
    slopes = _linear(values, points)
    if all(s.denominator == 1 for s in slopes.values()):
        start = values[0] - sum(int(s) * base[name] for name, s in slopes.items())
        if start + sum(int(s) * last[name] for name, s in slopes.items()) == values[-1]:
            return start + sum(int(s) * symbols[name] for name, s in slopes.items())
    powers: dict[str, int] = {}
    for name, v, p in zip(base, values[1:], points[1:], strict=False):
        ratio, grown = Fraction(v, values[0] or 1), Fraction(p[name], base[name])
        powers[name] = next((e for e in range(4) if grown**e == ratio), -1)
    if values[0] and min(powers.values()) >= 0:
        under = math.prod(base[name] ** e for name, e in powers.items())
        factor = Fraction(values[0], under)
        over = math.prod(last[name] ** e for name, e in powers.items())
        if factor.denominator == 1 and factor * over == values[-1]:
            found: int = int(factor)
            for name, e in powers.items():
                found = found * symbols[name] ** e
            return found
    if len(base) == 1:
        (name,) = base
        x, y, z = (p[name] for p in points[:3])
        a, b, c = values[:3]
        second = (Fraction(c - a, z - x) - Fraction(b - a, y - x)) / (z - y)
        first = Fraction(b - a, y - x) - second * (x + y)
        if second.denominator == first.denominator == 1:
            n = symbols[name]
            return n * n * int(second) + n * int(first) + int(a - second * x * x - first * x)
    raise NotDynamic(f"a size is {', '.join(map(str, values))} where sizes are {_shown(points)}")


def _shown(points: Sequence[Sizes]) -> str:
    return "; ".join(", ".join(f"{k}={v}" for k, v in p.items()) for p in points)


# ------------------------------------------------------------------------------ programs
class _Aligned:
    """Walks through programs that are equal but for sizes; ``join`` makes one of their integers.

    Args:
        first: the program whose structure the result has.
        others: the programs that it is compared with.
    """

    def __init__(self, join: Callable[[Sequence[int]], int], inputs: _Inputs) -> None:
        self.join, self.inputs = join, inputs

    def value(self, values: Sequence[Any]) -> Any:
        """Return what parameters have in common."""
        first = values[0]
        if isinstance(first, int) and not isinstance(first, bool):
            if not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
                raise NotDynamic("parameters differ in type")
            return self.join(values)
        kinds = {type(v) for v in values}
        if len(kinds) > 1:
            raise NotDynamic(f"a parameter is {first!r:.40} or {values[-1]!r:.40}")
        if isinstance(first, (tuple, list)):
            if len({len(v) for v in values}) > 1:
                raise NotDynamic("a parameter's length depends on a size")
            return type(first)([self.value(v) for v in zip(*values, strict=True)])
        if isinstance(first, Jaxpr):
            return self.program(values, False)
        if isinstance(first, np.ndarray):
            same = all(_same_array(first, v) for v in values[1:])
        else:
            same = all(v is first or v == first for v in values[1:])
        if not same:
            raise NotDynamic(f"a parameter is {first!r:.40} or {values[-1]!r:.40}")
        return first

    def aval(self, avals: Sequence[ShapedArray]) -> ShapedArray:
        first = avals[0]
        kinds = {(a.ndim, a.dtype, a.weak_type) for a in avals}
        if len(kinds) > 1:
            raise NotDynamic(f"a value is {first} or {avals[-1]}")
        shape = tuple(self.join(n) for n in zip(*[a.shape for a in avals], strict=True))
        return ShapedArray(shape, first.dtype, first.weak_type)

    def program(self, programs: Sequence[Jaxpr], top: bool) -> Jaxpr:
        counts = {
            (len(p.invars), len(p.constvars), len(p.eqns), len(p.outvars)) for p in programs
        }
        if len(counts) > 1:
            raise NotDynamic("the number of operations depends on a size")
        if programs[0].constvars:
            raise NotDynamic("a program inside has constants")
        known: dict[Var, tuple[Any, ...]] = {}  # of the first program: all, and the result's
        own: dict[Var, Var] = {}

        def bind(found: Sequence[Var]) -> Var:
            out = Var(self.aval([v.aval for v in found]))
            known[found[0]], own[found[0]] = tuple(found), out
            return out

        def atom(found: Sequence[Any]) -> Any:
            if top:
                given = self.inputs.input(found)
                if given is not None:
                    return given
            first = found[0]
            if isinstance(first, Lit):
                if not all(isinstance(v, Lit) and _same(first, v) for v in found[1:]):
                    raise NotDynamic("a constant inside a loop or branch depends on a size")
                return first
            if known.get(first) != tuple(found):
                raise NotDynamic("what operations read depends on a size")
            return own[first]

        invars = [bind(v) for v in zip(*[p.invars for p in programs], strict=True)]
        eqns = []
        for found in zip(*[p.eqns for p in programs], strict=True):
            first = found[0]
            shapes = {(e.prim, len(e.invars), len(e.outvars), tuple(e.params)) for e in found}
            if len(shapes) > 1:
                raise NotDynamic(
                    f"an operation is {first.prim.name} or {found[-1].prim.name}, by a size"
                )
            args = [atom(v) for v in zip(*[e.invars for e in found], strict=True)]
            params = {k: self.value([e.params[k] for e in found]) for k in first.params}
            outs = [bind(v) for v in zip(*[e.outvars for e in found], strict=True)]
            eqns.append(Eqn(first.prim, args, params, outs, first.source))
        outs = [atom(v) for v in zip(*[p.outvars for p in programs], strict=True)]
        return Jaxpr(invars, eqns, outs)


def _same_array(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _same(a: Lit, b: Lit) -> bool:
    return _same_array(np.asarray(a.val._data), np.asarray(b.val._data))


class _Inputs:
    """Scalars that depend on the sizes: inputs of the template, before its others."""

    def __init__(self) -> None:
        self.vars: dict[tuple[Any, ...], Var] = {}

    def input(self, found: Sequence[Any]) -> Var | None:
        """Return the input that stands for constants that differ, None where they do not."""
        if not all(isinstance(v, Lit) for v in found):
            return None
        values = [np.asarray(v.val._data) for v in found]
        if all(_same_array(values[0], v) for v in values[1:]):
            return None
        first = found[0].aval
        if any(v.dtype != values[0].dtype for v in values):
            raise NotDynamic("a constant's type depends on a size")
        key = (values[0].dtype, *(v.tobytes() for v in values))
        return self.vars.setdefault(key, Var(ShapedArray((), first.dtype)))


class _Given(_Inputs):
    """What the inputs of a template are in a program at other sizes."""

    def __init__(self, wanted: Sequence[Var]) -> None:
        super().__init__()
        self.wanted = set(wanted)
        self.found: dict[Var, ArrayImpl] = {}

    def input(self, found: Sequence[Any]) -> Var | None:
        var, given = found
        if not isinstance(var, Var) or var not in self.wanted:
            return None
        if not isinstance(given, Lit) or given.aval.dtype != var.aval.dtype:
            raise NotDynamic("what is a constant at other sizes is computed at these")
        known = self.found.setdefault(var, given.val)
        if not _same_array(np.asarray(known._data), np.asarray(given.val._data)):
            raise NotDynamic("constants that are equal at other sizes differ at these")
        return var


@dataclass(frozen=True)
class Template:
    """A program whose sizes are Dims.

    Attributes:
        jaxpr: its first inputs are the scalars that depend on the sizes.
        scalars: those inputs.
        scope: of its Dims.
    """

    jaxpr: Jaxpr
    scalars: tuple[Var, ...]
    scope: Scope

    def matched(self, jaxpr: Jaxpr, sizes: Sizes) -> list[ArrayImpl]:
        """Check that a program is this one for sizes; return its scalars.

        Raises:
            NotDynamic: if it is another one.
        """
        atoms = self.scope.values(sizes)

        def join(values: Sequence[int]) -> int:
            mine, given = values
            value = mine.at(atoms) if isinstance(mine, Dim) else mine
            if value != given:
                raise NotDynamic(f"a size is {given} where {value} was expected")
            return mine

        given = _Given(self.scalars)
        own = self.jaxpr
        body = Jaxpr(own.invars[len(self.scalars) :], own.eqns, own.outvars)
        _Aligned(join, given).program([body, jaxpr], True)
        missing = [v for v in self.scalars if v not in given.found]
        if missing:
            raise NotDynamic("a constant that depends on a size is not there")
        return [given.found[v] for v in self.scalars]


def align(programs: Sequence[Jaxpr], points: Sequence[Sizes]) -> Template:
    """Return what programs are for all sizes.

    Args:
        programs: of one function, calls inlined, without constants.
        points: the sizes of each; the first are the hints.

    Raises:
        NotDynamic: if they differ in more than sizes and scalar constants.
    """
    scope = Scope()
    symbols: dict[str, Any] = {name: scope.symbol(name, n) for name, n in points[0].items()}

    def join(values: Sequence[int]) -> int:
        if all(v == values[0] for v in values[1:]):
            return values[0]
        return _fitted(values, points, symbols)

    inputs = _Inputs()
    body = _Aligned(join, inputs).program(list(programs), True)
    scalars = tuple(inputs.vars.values())
    found = Jaxpr([*scalars, *body.invars], body.eqns, body.outvars)
    return Template(found, scalars, scope)


def shapes_of(jaxpr: Jaxpr) -> Iterator[tuple[int, ...]]:
    """Yield the shapes of a program's values that depend on sizes, those of programs inside too."""
    for v in (*jaxpr.constvars, *jaxpr.invars, *(v for e in jaxpr.eqns for v in e.outvars)):
        if scope_of(v.aval.shape) is not None:
            yield v.aval.shape
    for eqn in jaxpr.eqns:
        for sub in sub_jaxprs(eqn.params):
            yield from shapes_of(sub)
