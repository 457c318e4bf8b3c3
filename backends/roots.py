"""What has to be in memory: the roots of a program, from which its kernels are made.

A root is an output, an operand or a result of what is no kernel, the result of a reduction, or an
expensive value that several others want. *Lazy* roots are made where they are first read.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Container, Iterable

from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var
from funtorch.ops.recipes import RECIPES, recipe_of

from .attention import Made, attending, made_where
from .correlate import convolution
from .coverage import ELEMENTWISE, KINDS, covers
from .cumulative import CUMULATIVE, in_vectors
from .indexed import INDEXED, UPDATES
from .kernel import row_major
from .lower import BARRIER
from .moves import MOVES, merged_axes
from .nothing import gives_nothing
from .plan import Attention, Conv, Dot
from .products import (
    BYTES,
    CPU_PRODUCTS,
    Products,
    destination,
    in_order,
    is_summed,
    narrow,
    product,
    source,
)
from .spectral import transform
from .structure import STRUCTURED
from .talk import TALKS, talks

__all__ = ["MOST_OPS", "SMALL", "Program", "kind"]

NARROW = "narrow_dot"
KEPT = ("attention", "attention_grad")
"""What is an equation only in programs for a backend that has kernels for it."""
REDUCERS = frozenset(f"reduce_{f}" for f in ("sum", "max", "min", "prod", "and", "or", "xor"))
_STEPS = (
    "nothing",
    "call",
    "library",
    "talk",
    "dot",
    "fft",
    "table",
    "running",
    "sort",
    "attention",
)  # have steps
_PLACED = ("dot", "attention")  # read operands where they lie
MOST_OPS = 400  # a kernel that grew to this many operations takes in no more neighbours
_QUICK = frozenset(("div", "reciprocal", "sqrt", "rsqrt"))  # computed quicker than read from memory
_SCATTERED = 1 << 12  # updates of a scatter whose places and values may be made before
_PLACES = 4  # readers of different parts of a padded or joined array from which it is stored
SMALL = 1 << 12  # elements up to which related kernels join that read nothing in common
_LONG = {"pad": SMALL + 1, "concatenate": 1 << 10}  # elements of arrays that these readers store
_SHIFTS = ("slice", "rev")  # moves that read elsewhere
_PIECES = 16  # operands of a concatenate that are selected from
_JOINED, _SEVERAL = 1 << 12, 6  # elements and operations of a concatenate that is stored instead


# Kinds whose results lie in memory as the step that makes them leaves them.
MADE = (*_STEPS, "update", "cumulate")


# ---------------------------------------------------------------------- kinds
def kind(eqn: Eqn, machine: Products = CPU_PRODUCTS) -> str:
    """Return how an equation is compiled.

    That is 'scalar', 'move', 'iota', 'indexed', 'update', 'reduce', 'cumulate', 'dot', 'conv',
    'fft', 'table', 'running', 'sort', 'attention', 'library', 'talk', 'call', 'barrier', or
    'nothing' where there is nothing to do.
    """
    name, avals = eqn.prim.name, [v.aval for v in (*eqn.invars, *eqn.outvars)]
    if name == BARRIER:
        return "barrier"
    if gives_nothing(eqn):
        return "nothing"
    if name == "fft":
        return "call" if transform(eqn) is None else "fft"
    if name in RECIPES:
        recipe = recipe_of(name, [v.aval for v in eqn.invars], eqn.params)
        return "call" if recipe is None else "library"
    if any(a.dtype not in KINDS or a.size == 0 for a in avals):
        return "call"
    if name in KEPT:
        return "attention"
    if name in TALKS and talks(eqn):
        return "talk"
    if name == "fft_table":
        return "table"
    if name == "sort_bits":
        return "call" if isinstance(eqn.invars[0], Lit) else "sort"
    if name in ELEMENTWISE:
        return "scalar" if covers(name, (a.dtype for a in avals)) else "call"
    if name == "iota":
        return "iota"
    if name in REDUCERS:
        if math.prod(avals[0].shape[k] for k in eqn.params["axes"]) == 1:
            return "move"
        good = avals[0].dtype.kind != "b" or name in ("reduce_and", "reduce_or", "reduce_xor")
        return "reduce" if good else "call"
    if name in CUMULATIVE and in_vectors(eqn):
        return "running"
    if name in CUMULATIVE:
        return "cumulate" if avals[0].dtype.kind != "b" else "call"
    if name in MOVES:
        return "move"
    if name in INDEXED:
        return "indexed"
    if name in UPDATES and not any(isinstance(v, Lit) for v in eqn.invars[:1]):
        combined = UPDATES[name][1]
        return "call" if avals[0].dtype.kind == "b" and combined != "set" else "update"
    if name == "dot_general":
        return "dot" if machine.makes(eqn) else "call"
    if name == NARROW:
        return "dot" if not any(isinstance(v, Lit) for v in eqn.invars) else "call"
    if name == "conv_general_dilated":
        return "conv" if machine.convolves(eqn) else "call"
    return "call"


def _narrows(eqn: Eqn) -> bool:
    """Tell whether floats become bytes: these are quicker to read than to make again."""
    given, out = eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype
    return eqn.prim.name == "convert" and given.kind == "f" and out == BYTES


# ---------------------------------------------------------------------- roots
class Program:
    """What is known of a program before its kernels are made."""

    def __init__(self, jaxpr: Jaxpr, machine: Products = CPU_PRODUCTS) -> None:
        self.jaxpr, self.machine = jaxpr, machine
        self.eqn_of: dict[Var, Eqn] = {v: e for e in jaxpr.eqns for v in e.outvars}
        self.kinds = {e: kind(e, machine) for e in jaxpr.eqns}
        self.outputs = {v for v in jaxpr.outvars if isinstance(v, Var)}
        self.wanted = set(self.outputs)  # must be in memory
        self.roots: set[Var] = {*jaxpr.constvars, *jaxpr.invars, *self.outputs}
        self.convs: dict[Eqn, Conv] = {}
        self.dots: dict[Eqn, Dot] = {}
        self.attends: dict[Eqn, Attention] = {}
        self.operands: dict[Eqn, list[Var | Lit]] = {}  # what loops and branches read instead
        self.passed: set[Eqn] = set()  # what is done by writing a product where it goes
        self._place_convs()
        self._place_products()
        for eqn in jaxpr.eqns:
            how = self.kinds[eqn]
            if how in (*MADE, "reduce"):
                self.roots.update(eqn.outvars)
            if how == "attention":
                attention = self.attends[eqn]
                self.roots.update(attention.outs)
                self.wanted.update(v for v in attention.ins if isinstance(v, Var))
            if how == "conv":
                step = self.convs[eqn]
                self.roots.add(step.out)
                self.wanted.update((step.lhs, step.rhs))
            if how in _STEPS and how not in _PLACED and eqn.prim.name not in STRUCTURED:
                self.wanted.update(v for v in eqn.invars if isinstance(v, Var))
            if eqn in self.dots:
                dot = self.dots[eqn]
                self.wanted.update(dot.operands)
                self.roots.add(dot.out)
            if how == "update":
                self.wanted.update(v for v in eqn.invars[:1] if isinstance(v, Var))
            if eqn.prim.name == "reshape" and how == "move" and isinstance(eqn.invars[0], Var):
                self._place_reshape(eqn)
        self._place_operands()
        self.roots |= self.wanted
        for eqn in jaxpr.eqns:
            if self.kinds[eqn] == "update" and eqn.prim.name.startswith("scatter"):
                self._place_scatter(eqn)
        for eqn in jaxpr.eqns:
            if self.kinds[eqn] == "indexed" and eqn.prim.name == "concatenate":
                self._place_concatenate(eqn)
        self._place_borders()
        self.lazy: set[Var] = set()  # those that are made where they are first read
        self._share()
        self._store_repeated()
        self._cut()
        self.roots |= self.lazy
        for eqn in jaxpr.eqns:
            if self.kinds[eqn] == "update":
                # What an update reads of its own array is read before, so that it can be in place.
                own = eqn.invars[0]
                read = [v for v in eqn.invars[1:] if own in self.leaves([v], ())[0]]
                self.roots.update(v for v in read if isinstance(v, Var))
        self.lazy -= {v for e in jaxpr.eqns if self.kinds[e] == "update" for v in e.invars}

    def _readers(self) -> dict[Var, list[Eqn]]:
        readers: dict[Var, list[Eqn]] = {}
        for eqn in self.jaxpr.eqns:
            for v in eqn.invars:
                if isinstance(v, Var):
                    readers.setdefault(v, []).append(eqn)
        return readers

    def _place_convs(self) -> None:
        """Make the steps of convolutions; a transpose that alone reads one becomes part of it."""
        readers = self._readers()
        for eqn, how in list(self.kinds.items()):
            if how != "conv":
                continue
            out, perm = eqn.outvars[0], tuple(range(eqn.outvars[0].aval.ndim))
            after = readers.get(out, [])
            turned = len(after) == 1 and after[0].prim.name == "transpose"
            if turned and out not in self.outputs:
                out, perm = after[0].outvars[0], after[0].params["perm"]
            step = convolution(eqn, self.eqn_of, out, perm)
            if step is None:
                self.kinds[eqn] = "call"
                continue
            if isinstance(step, Dot):
                self.kinds[eqn], self.dots[eqn] = "dot", step
            else:
                self.convs[eqn] = step
            if out is not eqn.outvars[0]:
                self.kinds[after[0]] = "part"  # of the convolution
                self.passed.add(after[0])

    def _place_products(self) -> None:
        """Find out where products and attention read and write."""
        readers = self._readers()
        moves = {e for e, how in self.kinds.items() if how == "move"}
        held = {v for e, how in self.kinds.items() if how in MADE for v in e.outvars}
        made: dict[Eqn, Made] = {}
        for eqn, how in self.kinds.items():
            if how == "attention":
                outs, passed = made[eqn] = made_where(eqn, readers, moves, self.outputs)
                self.passed.update(passed)
                held.difference_update(eqn.outvars)
                held.update(v for v, _ in outs)
        self._place_dots(readers, moves, held)
        if made:
            first = {v for v, e in self.eqn_of.items() if e.prim.name != "reshape"}
            read = [v for dot in self.dots.values() for v in (dot.a, dot.b)]
            stored = {self._unshaped(v, first): v for v in read}
            results = {
                v: x for e, (o, _) in made.items() for v, x in zip(e.outvars, o, strict=True)
            }
            for eqn, found in made.items():
                self.attends[eqn] = attending(eqn, found, self.eqn_of, moves, held, stored, results)

    def _place_dots(self, readers: dict[Var, list[Eqn]], moves: set[Eqn], held: set[Var]) -> None:
        """Find out where products read and write; what they make is held, too."""
        held.update((*self.jaxpr.constvars, *self.jaxpr.invars))
        held.update(step.out for step in self.convs.values())
        held.update(self._read_in_several_shapes())
        for eqn, step in self.dots.items():  # of convolutions
            held.difference_update(eqn.outvars)
            held.add(step.out)
        for eqn in self.jaxpr.eqns:
            if self.kinds[eqn] != "dot" or eqn in self.dots:
                continue
            (out,) = eqn.outvars
            last, strides, passed = destination(out, readers, moves, self.outputs)
            if eqn.prim.name == NARROW:
                place = functools.partial(source, eqn_of=self.eqn_of, moves=moves, held=held)
                there = strides == row_major(out.aval.shape)
                self.dots[eqn] = narrow(eqn, place, last if there else out)
                if there and last is not out:
                    self.passed.update(passed)
                    held.add(last)
                continue
            plain = [in_order(v) for v in (*eqn.invars, out)]
            inputs = [source(v, self.eqn_of, moves, held) for v in eqn.invars if isinstance(v, Var)]
            # Where one operand lies as it should not, the other may be read in place all the same.
            pairs = itertools.product(
                *([there, made] for there, made in zip(inputs, plain[:2], strict=True))
            )
            choices = ((*pair, to) for pair in pairs for to in ((last, (0, strides)), plain[2]))
            dot = first = None
            for choice in choices:
                dot = product(eqn, *choice)
                if dot is not None and self.machine.takes(dot):
                    break
                first = first or dot
            else:
                dot = first if is_summed(eqn) else None
            if dot is None:
                self.kinds[eqn] = "call"
                continue
            self.dots[eqn] = dot
            if dot.out is not out:
                self.passed.update(passed)
                held.add(dot.out)

    def _place_operands(self) -> None:
        """Let loops and branches read what is in memory in another shape: the bytes are equal."""
        held = self.roots | self.wanted | self._read_in_several_shapes()
        for eqn in self.jaxpr.eqns:
            if eqn.prim.name not in STRUCTURED or self.kinds[eqn] != "call":
                continue
            found = [v if isinstance(v, Lit) else self._unshaped(v, held) for v in eqn.invars]
            self.wanted.update(v for v in found if isinstance(v, Var))
            if any(a is not b for a, b in zip(found, eqn.invars, strict=True)):
                self.operands[eqn] = found

    def _unshaped(self, v: Var, held: Container[Var]) -> Var:
        """Return what is held that has the elements of ``v`` in the same order, else ``v``."""
        at = v
        while at not in held:
            eqn = self.eqn_of.get(at)
            if eqn is None or eqn.prim.name != "reshape" or isinstance(eqn.invars[0], Lit):
                return v
            at = eqn.invars[0]
        return at

    def _read_in_several_shapes(self) -> set[Var]:
        """Return what products and loops read, or the program returns, in more than one shape."""
        first = {v for v, e in self.eqn_of.items() if e.prim.name != "reshape"}
        shapes: dict[Var, set[Var]] = {}
        readers = [e for e in self.jaxpr.eqns if self.kinds[e] in ("dot", "call")]
        for v in (*self.outputs, *(v for e in readers for v in e.invars)):
            if isinstance(v, Var):
                shapes.setdefault(self._unshaped(v, first), set()).add(v)
        return {x for x, found in shapes.items() if len(found) > 1 and x in first}

    def _place_scatter(self, eqn: Eqn) -> None:
        """Store dear places, and dear values of single elements, of what goes in order."""
        _, updates, *places = eqn.invars
        if int(updates.aval.size) < _SCATTERED:
            return
        single = updates.aval.ndim == places[0].aval.ndim
        found = places if not single else [updates, *places]
        self.roots.update(v for v in found if isinstance(v, Var) and self._is_dear(v))

    def _is_dear(self, v: Var) -> bool:
        """Tell whether a value is computed from what is dear."""
        todo, seen = list[Var | Lit]([v]), set[Var]()
        while todo:
            u = todo.pop()
            if not isinstance(u, Var) or u in seen or u in self.roots:
                continue
            seen.add(u)
            eqn = self.eqn_of[u]
            how = self.kinds[eqn]
            if how == "indexed" or (how == "scalar" and ELEMENTWISE[eqn.prim.name].heavy):
                return True
            todo.extend(eqn.invars)
        return False

    def _place_reshape(self, eqn: Eqn) -> None:
        """Store a reshape that is no index map, or what it reshapes."""
        (x,), (out,) = eqn.invars, eqn.outvars
        if merged_axes(x.aval.shape, out.aval.shape) is None:
            finer = merged_axes(out.aval.shape, x.aval.shape) is not None
            self.roots.add(x if isinstance(x, Var) and (x in self.roots or not finer) else out)

    def _place_concatenate(self, eqn: Eqn) -> None:
        """Choose whether pieces are selected from, or written one after the other."""
        size, pieces = int(eqn.outvars[0].aval.size), len(eqn.invars)
        stored = size > SMALL and eqn.outvars[0] in self.wanted
        if pieces > _PIECES or stored or (size >= _JOINED and self._is_computed(eqn.invars)):
            self.kinds[eqn] = "join"
            self.roots.update(eqn.outvars)

    def _is_computed(self, atoms: Iterable[Var | Lit]) -> bool:
        """Tell whether it takes several operations to make values: selecting from them does all."""
        todo, seen = list(atoms), set[Eqn]()
        while todo:
            v = todo.pop()
            eqn = self.eqn_of.get(v) if isinstance(v, Var) and v not in self.roots else None
            if eqn is None or eqn in seen or self.kinds[eqn] not in ("scalar", "move", "indexed"):
                continue
            seen.add(eqn)
            todo.extend(eqn.invars)
        return sum(self.kinds[e] == "scalar" for e in seen) >= _SEVERAL

    def _place_borders(self) -> None:
        """Store what is padded or joined, if it is read at many places: each would ask where it is
        from."""
        readers = self._readers()
        for eqn in self.jaxpr.eqns:
            least = _LONG.get(eqn.prim.name)
            if least is not None and self.kinds[eqn] == "indexed":
                (out,) = eqn.outvars
                moves = sum(self.kinds[e] == "move" for e in readers.get(out, ()))
                if moves >= _PLACES and int(out.aval.size) >= least:
                    self.roots.add(out)
                    if eqn.prim.name == "concatenate":
                        self.kinds[eqn] = "join"

    def _share(self) -> None:
        """Mark expensive values that would be computed in several places or over and over."""
        sinks: dict[Var, set[Var]] = {}
        repeated: set[Var] = set()  # spread out by a broadcast
        for eqn in reversed(self.jaxpr.eqns):
            how = self.kinds[eqn]
            heavy = how == "scalar" and (ELEMENTWISE[eqn.prim.name].heavy or _narrows(eqn))
            for v in eqn.outvars:
                often = len(sinks.get(v, ())) > 1 or (v in repeated and v.aval.size != 1)
                if heavy and often and (v in repeated or eqn.prim.name not in _QUICK):
                    self.lazy.add(v)
            ends: set[Var] = set()
            for v in eqn.outvars:
                ends |= {v} if v in self.roots or v in self.lazy else sinks.get(v, set())
            spread = any(v in repeated and v not in self.lazy for v in eqn.outvars)
            for v in eqn.invars:
                if isinstance(v, Var):
                    several = sinks.setdefault(v, set())
                    if len(several) < 2:
                        several |= ends
                    if how not in ("call", "library", "talk") and (
                        spread or int(eqn.outvars[0].aval.size) > int(v.aval.size)
                    ):
                        repeated.add(v)
        self.sinks = sinks

    def _store_repeated(self) -> None:
        """Store what would be computed anew at many places: long values that many moves read.

        Steps of a stencil are such: each reads the one before at several places, so kernels that
        went back through k of them would be as long as a power of k.
        """
        readers = self._readers()
        needs: dict[Var, frozenset[object]] = {}  # operations, each with the places it is done at
        for eqn in self.jaxpr.eqns:
            how = self.kinds[eqn]
            if how not in ("scalar", "move", "indexed") or self.roots.issuperset(eqn.outvars):
                continue
            found: set[object] = set() if how == "move" else {eqn}
            for k, v in enumerate(eqn.invars):
                inner = needs.get(v, ()) if isinstance(v, Var) else ()
                place = _place(eqn, k, how)
                found.update(inner if place is None else ((place, n) for n in inner))
            for v in eqn.outvars:
                places = {
                    _place(e, k, self.kinds[e])
                    for e in readers.get(v, ())
                    for k, u in enumerate(e.invars)
                    if u is v
                }
                if len(found) * len(places) <= MOST_OPS:
                    needs[v] = frozenset(found)
                elif len(places) > 1:
                    self.roots.add(v)

    def _cut(self) -> None:
        """Cut expressions that would make one kernel too long, or read too many arrays twice."""
        inside: dict[Var, frozenset[Eqn]] = {}
        arrays: dict[Var, frozenset[Var]] = {}
        for eqn in self.jaxpr.eqns:
            if self.kinds[eqn] not in ("scalar", "move", "iota", "indexed"):
                continue
            ins = [v for v in eqn.invars if isinstance(v, Var)]
            used = frozenset([eqn]).union(*(inside.get(v, ()) for v in ins))
            read = frozenset[Var]().union(*(arrays.get(v, {v}) for v in ins))
            size = max(int(v.aval.size) for v in eqn.outvars)
            many = sum(4 * int(v.aval.size) >= size for v in read) > 2
            shared = any(len(self.sinks.get(v, ())) > 1 for v in eqn.outvars)
            if len(used) > MOST_OPS // 2:
                self.roots.update(eqn.outvars)
            elif many and shared and self.kinds[eqn] == "scalar":
                self.lazy.update(v for v in eqn.outvars if v not in self.roots)
            for v in eqn.outvars:
                if v not in self.roots:
                    inside[v] = used
                    if v not in self.lazy:
                        arrays[v] = read
        self.lazy -= self.roots

    def leaves(
        self, atoms: Iterable[Var | Lit], placed: Container[Var]
    ) -> tuple[set[Var], list[Var]]:
        """Return the roots that a kernel of these values reads, and those to be made first or in
        it."""
        found: set[Var] = set()
        lazy: list[Var] = []
        todo, seen = list(atoms), set()
        while todo:
            v = todo.pop()
            if not isinstance(v, Var) or v in seen:
                continue
            seen.add(v)
            if v in self.roots and (v in placed or v not in self.lazy):
                found.add(v)
                continue
            if v in self.lazy:
                lazy.append(v)
            todo.extend(self.eqn_of[v].invars)
        return found, lazy


def _place(eqn: Eqn, k: int, how: str) -> object:
    """Tell where an equation reads its operand k, if not where its result is."""
    if how == "indexed":
        return eqn, k
    if how == "move" and eqn.prim.name in _SHIFTS:
        return eqn.prim.name, repr(sorted(eqn.params.items()))
    return None
