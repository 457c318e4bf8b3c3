"""Sizes that are known only when a program runs: integers that carry a polynomial.

A `Dim` is an int, its *hint*, and what it is in general: a polynomial with integer coefficients in
*atoms*. An atom is a size of the program's arguments (a symbol, at least 2), or what is computed
from such: quotients, minima, results of a function. Sums and products keep the polynomial;
comparisons answer for all sizes where they can, else by the hint, and note that as a guard of the
`Scope`. Two are equal if they are the same polynomial: a size equals no number that it happens to
be. What only makes a program faster may depend on the hint, by ``int(size)``.

Written into a text, a Dim is ``%z3``: number 3 of the program's record of sizes, which
`Scope.record` makes when the sizes are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = [
    "COMPUTED",
    "Dim",
    "NotDynamic",
    "Scope",
    "evaluated",
    "fixed",
    "larger",
    "scope_of",
    "smaller",
    "terms_of",
]

LEAST = 2
"""The smallest size that a symbol stands for: 0 and 1 have a meaning of their own."""

Monomial = tuple[int, ...]
"""The numbers of the atoms of a product, in order."""

Terms = tuple[tuple[Monomial, int], ...]
"""A polynomial: products with their coefficients, in order."""


class NotDynamic(Exception):
    """Something cannot be written for sizes that are known only later; the message says what."""


class Scope:
    """The sizes of one program: atoms, what was assumed of them, and the record."""

    def __init__(self) -> None:
        self.atoms: list[tuple[Any, ...]] = []
        self.hints: list[int] = []
        self.least: list[int] = []  # lower bounds
        self.guards: dict[Terms, bool] = {}  # whether each is positive
        self.entries: list[Terms] = []  # of the record
        self._numbers: dict[Terms, int] = {}
        self._known: dict[tuple[Any, ...], int] = {}
        self.calls: list[tuple[Callable[..., Sequence[int]], tuple[Any, ...]]] = []

    # ---------------------------------------------------------------- making
    def _atom(self, what: tuple[Any, ...], hint: int, least: int) -> Dim:
        if what not in self._known:
            self._known[what] = len(self.atoms)
            self.atoms.append(what)
            self.hints.append(hint)
            self.least.append(least)
        return self.make((((self._known[what],), 1),))  # type: ignore[return-value]

    def symbol(self, name: str, hint: int) -> Dim:
        """Return the size of an argument."""
        return self._atom(("symbol", name), hint, LEAST)

    def make(self, terms: Terms) -> int:
        """Return a polynomial: a Dim, or a number where it is one."""
        if not terms:
            return 0
        if len(terms) == 1 and not terms[0][0]:
            return terms[0][1]
        dim = Dim(self.value(terms, self.hints))
        dim.scope, dim.terms = self, terms
        return dim

    def computed(
        self, function: Callable[..., Sequence[int]], args: tuple[Any, ...], count: int
    ) -> list[int]:
        """Return what a function of sizes gives, computed anew for all sizes of the symbols.

        Args:
            function: gives ``count`` integers that are not negative; it is called with ``args``,
                in which Dims are replaced by numbers (within tuples and dataclasses).
            args: compared by equality.
            count: how many results it has.
        """
        key = ("call", function.__qualname__, args)
        number = self._known.get(key)
        if number is None:
            number = self._known[key] = len(self.calls)
            self.calls.append((function, args))
        found = function(*evaluated(args, int))
        if len(found) != count:
            raise NotDynamic(f"{function.__qualname__} gave {len(found)} numbers, not {count}")
        return [self._atom(("result", number, k), int(value), 0) for k, value in enumerate(found)]

    # ---------------------------------------------------------------- values
    def value(self, terms: Terms, atoms: Sequence[int]) -> int:
        """Return a polynomial's value for values of the atoms."""
        total = 0
        for monomial, factor in terms:
            for a in monomial:
                factor *= atoms[a]
            total += factor
        return total

    def values(self, sizes: dict[str, int]) -> list[int]:
        """Return the values of all atoms for sizes of the symbols.

        Raises:
            NotDynamic: if something cannot be computed for these.
        """
        try:
            return self._values(sizes)
        except (ArithmeticError, ValueError) as error:
            raise NotDynamic(f"these are not expected: {error}") from None

    def _values(self, sizes: dict[str, int]) -> list[int]:
        found: list[int] = []
        results: dict[int, Sequence[int]] = {}
        for what in self.atoms:
            kind, *args = what
            if kind == "symbol":
                found.append(sizes[args[0]])
            elif kind == "result":
                call, k = args
                if call not in results:
                    function, given = self.calls[call]
                    results[call] = function(*evaluated(given, lambda d: d.at(found)))
                found.append(int(results[call][k]))
            else:
                a, b = (self.value(terms, found) for terms in args)
                found.append(COMPUTED[kind](a, b))
        return found

    def holds(self, atoms: Sequence[int]) -> bool:
        """Tell whether all that was assumed is so for values of the atoms."""
        return all((self.value(t, atoms) > 0) == truth for t, truth in self.guards.items())

    def number(self, terms: Terms) -> int:
        """Return the place of a polynomial in the record."""
        if terms not in self._numbers:
            self._numbers[terms] = len(self.entries)
            self.entries.append(terms)
        return self._numbers[terms]

    def reserve(self, sizes: Sequence[int]) -> int:
        """Put numbers into the record one after the other; return the place of the first."""
        first = len(self.entries)
        self.entries += [terms_of(size) for size in sizes]
        return first

    def record(self, atoms: Sequence[int]) -> list[int]:
        """Return the record's numbers for values of the atoms."""
        return [self.value(terms, atoms) for terms in self.entries]

    def facts(self) -> tuple[Any, ...]:
        """Return all that does not depend on the hints, to compare with another scope's."""
        calls = [(f.__qualname__, evaluated(args, lambda d: d.terms)) for f, args in self.calls]
        return self.atoms, self.guards, self.entries, calls

    # ---------------------------------------------------------------- bounds
    def bound(self, terms: Terms) -> int | None:
        """Return a lower bound of a polynomial, None where none is plain."""
        shifted: dict[Monomial, int] = {}
        for monomial, factor in terms:
            parts: dict[Monomial, int] = {(): factor}
            for a in monomial:  # a = least + what is above it
                more: dict[Monomial, int] = {}
                for m, f in parts.items():
                    more[m] = more.get(m, 0) + f * self.least[a]
                    up = (*m, a)
                    more[up] = more.get(up, 0) + f
                parts = more
            for m, f in parts.items():
                shifted[m] = shifted.get(m, 0) + f
        constant = shifted.pop((), 0)
        return constant if all(f >= 0 for f in shifted.values()) else None


def _collected(terms: dict[Monomial, int]) -> Terms:
    return tuple(sorted((m, f) for m, f in terms.items() if f))


COMPUTED: dict[str, Callable[[int, int], int]] = {
    "floor": lambda a, b: a // b,
    "ceil": lambda a, b: -(-a // b),
    "least": min,
    "most": max,
}
"""What an atom may be of two polynomials."""


class Dim(int):
    """An integer of a program's sizes; see the module's first lines."""

    scope: Scope
    terms: Terms

    # ---------------------------------------------------------------- exact
    def _terms_of(self, other: Any) -> Terms | None:
        if isinstance(other, Dim):
            return other.terms if other.scope is self.scope else None
        if isinstance(other, int):
            return terms_of(other)
        return None

    def _combined(self, a: Terms, b: Terms, sign: int) -> int:
        found = dict(a)
        for m, f in b:
            found[m] = found.get(m, 0) + sign * f
        return self.scope.make(_collected(found))

    def __add__(self, other: Any) -> Any:
        terms = self._terms_of(other)
        return NotImplemented if terms is None else self._combined(self.terms, terms, 1)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        terms = self._terms_of(other)
        return NotImplemented if terms is None else self._combined(self.terms, terms, -1)

    def __rsub__(self, other: Any) -> Any:
        terms = self._terms_of(other)
        return NotImplemented if terms is None else self._combined(terms, self.terms, -1)

    def __neg__(self) -> int:
        return self._combined((), self.terms, -1)

    def __pos__(self) -> int:
        return self

    def __mul__(self, other: Any) -> Any:
        terms = self._terms_of(other)
        if terms is None:
            return NotImplemented
        found: dict[Monomial, int] = {}
        for m, f in self.terms:
            for n, g in terms:
                both = tuple(sorted(m + n))
                found[both] = found.get(both, 0) + f * g
        return self.scope.make(_collected(found))

    __rmul__ = __mul__

    def __pow__(self, other: Any, mod: Any = None) -> Any:
        found: int = 1
        for _ in range(other):
            found = found * self
        return found

    def _quotient(self, a: Terms, b: Terms) -> int | None:
        """Return an exact quotient by one product; None where there is none."""
        if len(b) != 1:
            return None
        ((under, divisor),) = b
        found: dict[Monomial, int] = {}
        for m, f in a:
            left = list(m)
            for atom in under:
                if atom not in left:
                    return None
                left.remove(atom)
            if f % divisor:
                return None
            found[tuple(left)] = f // divisor
        return self.scope.make(_collected(found))

    def _floor(self, a: Terms, b: Terms) -> int:
        if not b:
            raise ZeroDivisionError("a size is divided by 0")
        exact = self._quotient(a, b)
        if exact is not None:
            return exact
        scope, negative = self.scope, all(f < 0 for _, f in a)
        kind = "ceil" if negative else "floor"
        a = tuple((m, -f) for m, f in a) if negative else a
        hint = COMPUTED[kind](*(scope.value(t, scope.hints) for t in (a, b)))
        positive = negative and (scope.bound(a) or 0) > 0
        found = scope._atom((kind, a, b), hint, int(positive))
        return -found if negative else found

    def __floordiv__(self, other: Any) -> Any:
        terms = self._terms_of(other)
        return NotImplemented if terms is None else self._floor(self.terms, terms)

    def __rfloordiv__(self, other: Any) -> Any:
        terms = self._terms_of(other)
        return NotImplemented if terms is None else self._floor(terms, self.terms)

    def __mod__(self, other: Any) -> Any:
        return self - (self // other) * other

    def __rmod__(self, other: Any) -> Any:
        return other - (other // self) * self

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __abs__(self) -> int:
        return -self if self < 0 else self

    # ---------------------------------------------------------------- comparing
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and (self.scope, self.terms) == (other.scope, other.terms)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.terms)

    def __bool__(self) -> bool:
        return True  # as one that is generic is

    def _positive(self, difference: int) -> bool:
        """Tell whether a difference is positive, for all sizes or by the hint."""
        if not isinstance(difference, Dim):
            return difference > 0
        scope, terms = self.scope, difference.terms
        below, above = scope.bound(terms), scope.bound(tuple((m, -f) for m, f in terms))
        if below is not None and below > 0:
            return True
        if above is not None and above >= 0:
            return False
        return scope.guards.setdefault(terms, int(difference) > 0)

    def __gt__(self, other: Any) -> bool:
        return self._positive(self - other) if isinstance(other, int) else int(self) > other

    def __lt__(self, other: Any) -> bool:
        return self._positive(other - self) if isinstance(other, int) else int(self) < other

    def __ge__(self, other: Any) -> bool:
        return self._positive(self - other + 1) if isinstance(other, int) else int(self) >= other

    def __le__(self, other: Any) -> bool:
        return self._positive(other - self + 1) if isinstance(other, int) else int(self) <= other

    # ---------------------------------------------------------------- what has no polynomial
    def _refused(self, *args: Any) -> Any:
        """Refuse what would silently take the hint for the size."""
        raise NotDynamic("what is computed from a size is not a polynomial")

    __float__ = __complex__ = __truediv__ = __rtruediv__ = __round__ = _refused
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __invert__ = _refused
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = __rpow__ = _refused
    bit_length = bit_count = as_integer_ratio = _refused

    # ---------------------------------------------------------------- text
    def __str__(self) -> str:
        return f"%z{self.scope.number(self.terms)}"

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return str(self)

    def at(self, atoms: Sequence[int]) -> int:
        """Return the number for values of the scope's atoms."""
        return self.scope.value(self.terms, atoms)


def terms_of(size: int) -> Terms:
    """Return a size as a polynomial."""
    if isinstance(size, Dim):
        return size.terms
    return (((), int(size)),) if size else ()


def fixed(size: int) -> bool:
    """Tell whether a size is a number."""
    return not isinstance(size, Dim)


def scope_of(sizes: Sequence[int]) -> Scope | None:
    """Return the scope of sizes, None where all are numbers."""
    return next((n.scope for n in sizes if isinstance(n, Dim)), None)


def _extreme(kind: str, a: int, b: int) -> int:
    scope = scope_of([a, b])
    if scope is None:
        return COMPUTED[kind](a, b)
    difference = a - b
    if fixed(difference):
        return COMPUTED[kind](difference, 0) + b
    assert isinstance(difference, Dim)
    terms = difference.terms
    below, above = scope.bound(terms), scope.bound(tuple((m, -f) for m, f in terms))
    if below is not None and below >= 0:
        return a if kind == "most" else b
    if above is not None and above >= 0:
        return b if kind == "most" else a
    hint = COMPUTED[kind](int(a), int(b))
    return scope._atom((kind, terms_of(a), terms_of(b)), hint, 0)


def smaller(a: int, b: int) -> int:
    """Return the smaller of two sizes that are not negative."""
    return _extreme("least", a, b)


def larger(a: int, b: int) -> int:
    """Return the larger of two sizes that are not negative."""
    return _extreme("most", a, b)


def evaluated(value: Any, of: Callable[[Dim], Any]) -> Any:
    """Return a tuple, list or dataclass of sizes with ``of(dim)`` in place of each Dim."""
    if isinstance(value, Dim):
        return of(value)
    if isinstance(value, (tuple, list)):
        return type(value)([evaluated(v, of) for v in value])
    return value
