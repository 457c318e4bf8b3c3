"""One program for several sizes: what its traces at some sizes have in common.

Programs are compared equation by equation. Where they differ in an integer, it becomes a polynomial
in the sizes; where they differ in a scalar constant (a mean's divisor), that becomes an input.
Nothing is assumed beyond the sizes that were traced: every new size is traced too, and what it
gives must be what the template says.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from funtorch.core import ArrayImpl, ShapedArray
from funtorch.dims import Dim, NotDynamic, Scope
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var

if TYPE_CHECKING:
    from fractions import Fraction

__all__ = ["Inputs", "Sizes", "Template", "align", "fitted"]

Sizes = dict[str, int]


# ------------------------------------------------------------------------------ integers
_DIVISORS = (2, 3, 4)  # strides

Powers = tuple[int, ...]
"""Of each size, in a product."""


def _bases(count: int) -> Iterator[list[Powers]]:
    """Yield the products that a polynomial may be made of, what is likelier first."""
    one = (0,) * count
    yield from ([powers] for powers in sorted(itertools.product(range(4), repeat=count), key=sum))
    linear = [tuple(int(j == k) for j in range(count)) for k in range(count)]
    yield [one, *linear]
    pairs = itertools.combinations_with_replacement(range(count), 2)
    squares = [tuple((j == a) + (j == b) for j in range(count)) for a, b in pairs]
    yield [one, *linear, *(p for p in squares if max(p) == 1)]
    yield [one, *linear, *squares]


def _solved(rows: list[list[Fraction]]) -> list[Fraction] | None:
    """Return the one solution of linear equations, the right sides last; None without one."""
    count = len(rows[0]) - 1
    for k in range(count):
        pivot = next((r for r in range(k, len(rows)) if rows[r][k]), None)
        if pivot is None:
            return None
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [x / rows[k][k] for x in rows[k]]
        for r in range(len(rows)):
            if r != k and rows[r][k]:
                factor = rows[r][k]
                rows[r] = [x - factor * y for x, y in zip(rows[r], rows[k], strict=True)]
    return None if any(row[-1] for row in rows[count:]) else [row[-1] for row in rows[:count]]


def fitted(values: Sequence[int], points: Sequence[Sizes], symbols: dict[str, Any]) -> int:
    """Return the polynomial that has these values at these points.

    Raises:
        NotDynamic: if there is none with whole coefficients and degree two, or of one term, nor
            a part of one size, as strides leave.
    """
    from fractions import Fraction

    names = list(symbols)
    for basis in _bases(len(names)):
        if len(basis) > len(points):
            break
        rows = [
            [Fraction(math.prod(p[n] ** e for n, e in zip(names, powers, strict=True)))
             for powers in basis] + [Fraction(v)]
            for p, v in zip(points, values, strict=True)
        ]  # fmt: skip
        found = _solved(rows)
        if found is not None and all(c.denominator == 1 for c in found):
            total = 0
            for factor, powers in zip(found, basis, strict=True):
                term = int(factor)
                for n, e in zip(names, powers, strict=True):
                    term = term * symbols[n] ** e
                total = total + term
            return total
    for name in names:  # a part of a size
        ratio = Fraction(values[0], points[0][name])
        if all(p[name] * ratio == v for p, v in zip(points, values, strict=True)):
            return symbols[name] * ratio.numerator // ratio.denominator
    for name, divisor in itertools.product(names, _DIVISORS):
        for rest, factor in itertools.product(range(divisor), (1, divisor)):
            parts = [factor * ((p[name] + rest) // divisor) for p in points]
            over = values[0] - parts[0]
            same = all(v - part == over for v, part in zip(values, parts, strict=True))
            if same and abs(over) <= divisor:
                return (symbols[name] + rest) // divisor * factor + over
    shown = "; ".join(", ".join(f"{k}={v}" for k, v in p.items()) for p in points)
    raise NotDynamic(f"a size is {', '.join(map(str, values))} where sizes are {shown}")


# ------------------------------------------------------------------------------ programs
class _Aligned:
    """Walks through programs that are equal but for sizes; ``join`` makes one of their integers.

    Args:
        first: the program whose structure the result has.
        others: the programs that it is compared with.
    """

    def __init__(self, join: Callable[[Sequence[int]], int], inputs: Inputs) -> None:
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
        counts = {(len(p.invars), len(p.constvars), len(p.eqns), len(p.outvars)) for p in programs}
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
            given = self.inputs.input(found, top)
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


class Inputs:
    """Scalars that depend on the sizes: inputs of the template, before its others."""

    def __init__(self) -> None:
        self.vars: dict[tuple[Any, ...], Var] = {}

    def input(self, found: Sequence[Any], top: bool) -> Any:
        """Return the input that stands for constants that differ, None where they do not."""
        if not (top and all(isinstance(v, Lit) for v in found)):
            return None
        values = [np.asarray(v.val._data) for v in found]
        if all(_same_array(values[0], v) for v in values[1:]):
            return None
        first = found[0].aval
        if any(v.dtype != values[0].dtype for v in values):
            raise NotDynamic("a constant's type depends on a size")
        key = (values[0].dtype, *(v.tobytes() for v in values))
        return self.vars.setdefault(key, Var(ShapedArray((), first.dtype)))


class _Given(Inputs):
    """What the inputs of a template are in a program at other sizes."""

    def __init__(self, wanted: Sequence[Var]) -> None:
        super().__init__()
        self.wanted = set(wanted)
        self.found: dict[Var, ArrayImpl] = {}

    def input(self, found: Sequence[Any], top: bool) -> Any:
        var, given = found
        if not top or not isinstance(var, Var) or var not in self.wanted:
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

    def matched(self, jaxpr: Jaxpr, atoms: Sequence[int]) -> list[ArrayImpl]:
        """Check that a program is this one for values of the scope's atoms; return its scalars.

        Raises:
            NotDynamic: if it is another one.
        """

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


def align(
    programs: Sequence[Jaxpr],
    points: Sequence[Sizes],
    hints: Sizes,
    constants: Callable[[Sequence[Sizes], dict[str, Any]], Inputs] | None = None,
) -> Template:
    """Return what programs are for all sizes.

    Args:
        programs: of one function, calls inlined, without constants.
        points: the sizes of each.
        hints: of the template's sizes.
        constants: what takes the place of constants that depend on sizes, made of the points and
            the symbols; by default they become inputs.

    Raises:
        NotDynamic: if they differ in more than sizes and scalar constants.
    """
    scope = Scope()
    symbols: dict[str, Any] = {name: scope.symbol(name, n) for name, n in hints.items()}
    known: dict[tuple[int, ...], int] = {}

    def join(values: Sequence[int]) -> int:
        if all(v == values[0] for v in values[1:]):
            return values[0]
        key = tuple(values)
        if key not in known:
            known[key] = fitted(key, points, symbols)
        return known[key]

    inputs = Inputs() if constants is None else constants(points, symbols)
    body = _Aligned(join, inputs).program(list(programs), True)
    scalars = tuple(inputs.vars.values())
    found = Jaxpr([*scalars, *body.invars], body.eqns, body.outvars)
    return Template(found, scalars, scope)
