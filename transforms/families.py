"""Families of calls of a jitted function that differ in sizes alone, and their programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from funtorch.core import ArrayImpl
from funtorch.dims import NotDynamic
from funtorch.jaxpr import Jaxpr

from .. import backends
from .dynamic import Sizes, Template, align
from .dynamic_axes import Marks
from .misses import Signature
from .simplify import inline, simplify

__all__ = ["Family", "alike"]

_LEAST = 2  # sizes 0 and 1 have a meaning of their own
_NAMES = 3  # sizes that change at once, beyond which it is another problem
_COMPILES = 2  # programs of one family; what these do not fit is compiled for each size
_TRACES = 6  # that a family remembers
_TYPICAL = 128  # a program is made as is good for sizes that are not smaller
_FAR = 16  # times that a size may be larger than a program was made for, if it is to be quick
# What a function raises that does not take a size, such as an odd one.
_REFUSALS = (ValueError, TypeError, LookupError, ArithmeticError, AssertionError)
_CLOSE = (0, 1, 3)  # hints that must give one text; where one of them meets a threshold, the others

TraceAt = Callable[[Sizes], Jaxpr]
"""Traces a function at some sizes."""

Bound = tuple[Callable[[list[Any]], list[Any]], list[ArrayImpl]]
"""What runs a program of some sizes, and the scalars that it takes before its other inputs."""


def _masked(key: Signature, marks: Iterable[tuple[int, int]]) -> Signature:
    """Return a signature without the sizes of the marked axes."""
    places = set(marks)
    types = tuple(
        (tuple(None if (k, a) in places else n for a, n in enumerate(shape)), *rest)
        for k, (shape, *rest) in enumerate(key.types)
    )
    return key._replace(types=types)


@dataclass(frozen=True)
class _Program:
    """A compiled program of a family: for sizes up to ``most`` it is as quick as it can be."""

    template: Template
    sized: backends.Sized
    donated: frozenset[int]
    most: Sizes

    def suits(self, sizes: Sizes) -> bool:
        return all(n <= self.most[name] for name, n in sizes.items())


@dataclass
class Family:
    """Calls whose arguments differ in the sizes of marked axes alone.

    Attributes:
        marks: the axes, with names of their sizes.
        masked: the signature of the calls.
        programs: what was compiled for it.
        known: traced programs, by their sizes.
        tries: how often it was tried to compile a program.
        served: sizes that run one of the programs.
    """

    marks: Marks
    masked: Signature
    programs: list[_Program] = field(default_factory=list)
    known: list[tuple[Sizes, Jaxpr]] = field(default_factory=list)
    tries: int = 0
    served: int = 0

    @staticmethod
    def of(key: Signature, marks: Marks) -> Family:
        """Return the family of a signature."""
        return Family(marks, _masked(key, marks))

    def sizes(self, key: Signature) -> Sizes | None:
        """Return the sizes that a call has; None if it is none of the family."""
        if len(key.types) != len(self.masked.types) or key.treedef != self.masked.treedef:
            return None
        found: Sizes = {}
        for (leaf, axis), name in self.marks.items():
            shape = key.types[leaf][0]
            if axis >= len(shape) or found.setdefault(name, shape[axis]) != shape[axis]:
                return None
        return found if _masked(key, self.marks) == self.masked else None

    def types(self, key: Signature, sizes: Sizes) -> list[tuple[Any, ...]]:
        """Return the types of arguments that a call with other sizes has."""
        return [
            (tuple(sizes.get(self.marks.get((k, a), ""), n) for a, n in enumerate(shape)), *rest)
            for k, (shape, *rest) in enumerate(key.types)
        ]

    def remember(self, key: Signature, jaxpr: Jaxpr) -> None:
        """Take in a traced program if it belongs to the family."""
        sizes = self.sizes(key)
        if sizes and min(sizes.values()) >= _LEAST and len(self.known) < _TRACES:
            self.known.append((sizes, inline(jaxpr)))

    def bound(
        self, jaxpr: Jaxpr, sizes: Sizes, donated: frozenset[int], trace_at: TraceAt
    ) -> tuple[Bound, bool]:
        """Return what runs a program of the family, and whether it was compiled for that.

        Args:
            jaxpr: the program as traced for these sizes.
            sizes: its sizes.
            donated: positions of its inputs whose memory may be reused.
            trace_at: traces it for others.

        Raises:
            NotDynamic: if it must be compiled for these sizes.
        """
        if min(sizes.values()) < _LEAST:
            raise NotDynamic("sizes 0 and 1 have programs of their own")
        jaxpr = inline(jaxpr)
        why, late = NotDynamic("it did not work for other sizes"), self.tries >= _COMPILES
        for program in sorted(self.programs, key=lambda p: not p.suits(sizes)):
            if not program.suits(sizes) and not late:
                break
            try:
                return self._served(program, jaxpr, sizes, donated), False
            except NotDynamic as error:
                why = error
        if len(self.known) < _TRACES:
            self.known.append((sizes, jaxpr))
        if late:
            raise why
        self.tries += 1
        try:
            program = self._compiled(jaxpr, sizes, donated, trace_at)
            found = self._served(program, jaxpr, sizes, donated)
        except NotDynamic:
            raise
        except Exception as error:  # of a trace at other sizes, or of what takes numbers only
            raise NotDynamic(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
        self.programs.append(program)
        return found, True

    def _served(
        self, program: _Program, jaxpr: Jaxpr, sizes: Sizes, donated: frozenset[int]
    ) -> Bound:
        if donated != program.donated:
            raise NotDynamic("other donated arguments can be used")
        atoms = program.template.scope.values(sizes)
        scalars = program.template.matched(jaxpr, atoms)
        found = program.sized.bound(atoms), scalars
        self.served += 1
        return found

    def _compiled(
        self, jaxpr: Jaxpr, sizes: Sizes, donated: frozenset[int], trace_at: TraceAt
    ) -> _Program:
        points, programs = self._traces(jaxpr, sizes, trace_at)

        typical = {name: max(n, _TYPICAL) for name, n in sizes.items()}

        def template(more: int) -> tuple[Template, Jaxpr]:
            made = align(programs, points, {name: n + more for name, n in typical.items()})
            return made, simplify(made.jaxpr)

        made = [template(more) for more in _CLOSE]
        first = made[0][0]
        shifted = frozenset(k + len(first.scalars) for k in donated)
        variants = [(simple, t.scope) for t, simple in made]
        most = {name: _FAR * n for name, n in typical.items()}
        sized = backends.compile_sized(variants, shifted)
        # Hints may have decided otherwise in the first: sizes are looked up where it was compiled.
        used = next(t for t, _ in made if t.scope is sized.scope)
        return _Program(used, sized, donated, most)

    def _traces(
        self, jaxpr: Jaxpr, sizes: Sizes, trace_at: TraceAt
    ) -> tuple[list[Sizes], list[Jaxpr]]:
        """Return sizes and the program traced at them: those known, or one more of each size."""
        found = {tuple(s.values()): (s, j) for s, j in self.known}
        other = next((s for s, _ in self.known if all(s[k] != n for k, n in sizes.items())), None)
        if len(sizes) > 1 or other is None:
            for name, n in sizes.items():
                changed = [*([other[name]] if other else []), n + 1, 2 * n]
                self._trace_one(found, sizes, name, changed, trace_at)
        found.pop(tuple(sizes.values()), None)
        points = [sizes, *(s for s, _ in found.values())]
        return points, [jaxpr, *(j for _, j in found.values())]

    def _trace_one(
        self,
        found: dict[tuple[int, ...], tuple[Sizes, Jaxpr]],
        sizes: Sizes,
        name: str,
        changed: Sequence[int],
        trace_at: TraceAt,
    ) -> None:
        for k, n in enumerate(changed):
            here = {**sizes, name: n}
            try:
                jaxpr = trace_at(here)
            except _REFUSALS:
                if k == len(changed) - 1:
                    raise
                continue
            found.setdefault(tuple(here.values()), (here, inline(jaxpr)))
            return


def alike(key: Signature, others: Iterable[Signature], names: Sequence[str]) -> Marks | None:
    """Return the axes whose sizes alone tell a call from another one that was before.

    Args:
        key: the call's signature.
        others: those of the others.
        names: of the leaves of its arguments.
    """
    for other in others:
        if key._replace(types=()) != other._replace(types=()):
            continue
        if len(key.types) != len(other.types):
            continue
        marks = _differing(key, other, names)
        if marks:
            return marks
    return None


def _differing(key: Signature, other: Signature, names: Sequence[str]) -> Marks | None:
    marks: Marks = {}
    pairs: dict[tuple[int, int], str] = {}
    for leaf, (new, old) in enumerate(zip(key.types, other.types, strict=True)):
        if new[1:] != old[1:] or len(new[0]) != len(old[0]):
            return None
        for axis, pair in enumerate(zip(new[0], old[0], strict=True)):
            if pair[0] != pair[1]:
                if min(pair) < _LEAST:
                    return None
                name = pairs.setdefault(pair, f"{names[leaf]}.shape[{axis}]")
                marks[leaf, axis] = name
    return marks if len(pairs) <= _NAMES else None
