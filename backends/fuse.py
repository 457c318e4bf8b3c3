"""From a jaxpr to a plan: which values are written to memory, which kernels and calls make them.

Elementwise operations, conversions and movements are index maps and scalar code inside the kernels
of the values that need them. What may have to be in memory is a *root*: outputs, operands of what
is no kernel, results of reductions, and expensive values that several others want. Every root joins
the first kernel that has its loops and in which all that it reads is at hand at its own position,
so that reductions, their operands and what is made of them become one kernel; what nobody outside
of its kernel reads is not stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace

import numpy as np

from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var

from .correlate import convolution
from .coverage import ELEMENTWISE, KINDS, covers
from .indexed import INDEXED, UPDATES, Writes
from .kernel import Affine, Kernel, Op, Store, check_kernel, collapse, row_major
from .lower import lower
from .moves import MOVES, Map, combine, identity, merged, merged_axes, moved
from .plan import Call, Conv, Dot, Launch, Plan, Step
from .products import FLOATS, destination, product, source
from .spectral import transform
from .structure import structured

__all__ = ["fuse"]

REDUCERS = frozenset(f"reduce_{f}" for f in ("sum", "max", "min", "prod", "and", "or", "xor"))
CUMULATIVE = {f"cum{f}": f"reduce_{f}" for f in ("sum", "prod", "max", "min")}
MOST_OPS = 400  # a kernel that grew to this many operations takes in no more neighbours
_QUICK = frozenset(("div", "reciprocal", "sqrt", "rsqrt"))  # computed quicker than read from memory
_PIECES = 16  # operands of a concatenate that are selected from
_TRIES = 6  # kernels that a root tries to join
_SMALL = 1 << 12  # elements up to which kernels join that have nothing in common
_LONG = 1 << 17  # elements from which a reduction to a few values is worth all threads
_FEW = 16  # rows, too few to be shared out
_WIDE = 32  # neighbouring rows that go together where memory runs along the rows
_DEEP = 1 << 13  # elements of a row beyond which those do not stay in the cache


# ---------------------------------------------------------------------- kinds
def kind(eqn: Eqn) -> str:
    """Return how an equation is compiled.

    That is 'scalar', 'move', 'iota', 'indexed', 'update', 'reduce', 'cumulate', 'dot', 'conv',
    'fft' or 'call'.
    """
    name, avals = eqn.prim.name, [v.aval for v in (*eqn.invars, *eqn.outvars)]
    if name == "fft":
        return "call" if transform(eqn) is None else "fft"
    if any(a.dtype not in KINDS or a.size == 0 for a in avals):
        return "call"
    if name in ELEMENTWISE:
        return "scalar" if covers(name, (a.dtype for a in avals)) else "call"
    if name == "iota":
        return "iota"
    if name in REDUCERS:
        if math.prod(avals[0].shape[k] for k in eqn.params["axes"]) == 1:
            return "move"
        good = avals[0].dtype.kind != "b" or name in ("reduce_and", "reduce_or", "reduce_xor")
        return "reduce" if good else "call"
    if name in CUMULATIVE:
        return "cumulate" if avals[0].dtype.kind != "b" else "call"
    if name in MOVES:
        return "move"
    if name in INDEXED:
        return "indexed"
    if name in UPDATES and not any(isinstance(v, Lit) for v in eqn.invars[:1]):
        good = avals[0].dtype.kind != "b" or UPDATES[name][1] == "set"
        return "update" if good else "call"
    if name == "dot_general" and all(a.dtype == avals[0].dtype for a in avals):
        whole = not any(isinstance(v, Lit) for v in eqn.invars)
        return "dot" if avals[0].dtype in FLOATS and whole else "call"
    if name == "conv_general_dilated" and all(a.dtype == avals[0].dtype for a in avals):
        return "conv" if avals[0].dtype in FLOATS else "call"
    return "call"


# ---------------------------------------------------------------------- roots
class _Program:
    """What is known of a program before its kernels are made."""

    def __init__(self, jaxpr: Jaxpr) -> None:
        self.jaxpr = jaxpr
        self.eqn_of: dict[Var, Eqn] = {v: e for e in jaxpr.eqns for v in e.outvars}
        self.kinds = {e: kind(e) for e in jaxpr.eqns}
        self.outputs = {v for v in jaxpr.outvars if isinstance(v, Var)}
        self.wanted = set(self.outputs)  # must be in memory
        self.roots: set[Var] = {*jaxpr.constvars, *jaxpr.invars, *self.outputs}
        self.convs: dict[Eqn, Conv] = {}
        self.dots: dict[Eqn, Dot] = {}
        self.passed: set[Eqn] = set()  # what is done by writing a product where it goes
        self._place_convs()
        self._place_dots()
        for eqn in jaxpr.eqns:
            how = self.kinds[eqn]
            if how in ("call", "dot", "fft", "reduce", "update", "cumulate"):
                self.roots.update(eqn.outvars)
            if how == "conv":
                step = self.convs[eqn]
                self.roots.add(step.out)
                self.wanted.update((step.lhs, step.rhs))
            if how in ("call", "fft"):
                self.wanted.update(v for v in eqn.invars if isinstance(v, Var))
            if eqn in self.dots:
                dot = self.dots[eqn]
                self.wanted |= {dot.a, dot.b}
                self.roots.add(dot.out)
            if how == "update":
                self.wanted.add(eqn.invars[0])
            if eqn.prim.name == "reshape" and how == "move" and isinstance(eqn.invars[0], Var):
                self._place_reshape(eqn)
        self.roots |= self.wanted
        for eqn in jaxpr.eqns:
            if self.kinds[eqn] == "indexed" and eqn.prim.name == "concatenate":
                self._place_concatenate(eqn)
        self.lazy: set[Var] = set()  # those that are made where they are first read
        self._share()
        self._cut()
        self.roots |= self.lazy
        for eqn in jaxpr.eqns:
            if self.kinds[eqn] == "update" and eqn.invars[0] in self.leaves(eqn.invars[1:], ())[0]:
                # What an update reads of its own array is read before, so that it can be in place.
                self.roots.update(v for v in eqn.invars[1:] if isinstance(v, Var))
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
            self.convs[eqn] = step
            if out is not eqn.outvars[0]:
                self.kinds[after[0]] = "part"  # of the convolution
                self.passed.add(after[0])

    def _place_dots(self) -> None:
        """Find out where products read and write."""
        readers = self._readers()
        moves = {e for e, how in self.kinds.items() if how == "move"}
        made = ("call", "dot", "fft", "update", "cumulate")
        held = {v for e, how in self.kinds.items() if how in made for v in e.outvars}
        held.update((*self.jaxpr.constvars, *self.jaxpr.invars))
        held.update(step.out for step in self.convs.values())
        for eqn in self.jaxpr.eqns:
            if self.kinds[eqn] != "dot":
                continue
            (out,) = eqn.outvars
            last, strides, passed = destination(out, readers, moves, self.outputs)
            plain = [(v, (0, row_major(v.aval.shape))) for v in (*eqn.invars, out)]
            inputs = [source(v, self.eqn_of, moves, held) for v in eqn.invars]
            choices = (
                (*inputs, (last, (0, strides))),
                (*inputs, plain[2]),
                (*plain[:2], (last, (0, strides))),
                plain,
            )
            for choice in choices:
                dot = product(eqn, *choice)
                if dot is not None:
                    break
            if dot is None:
                self.kinds[eqn] = "call"
                continue
            self.dots[eqn] = dot
            if dot.out is not out:
                self.passed.update(passed)
                held.add(dot.out)

    def _place_reshape(self, eqn: Eqn) -> None:
        """Store a reshape that is no index map, or what it reshapes."""
        (x,), (out,) = eqn.invars, eqn.outvars
        if merged_axes(x.aval.shape, out.aval.shape) is None:
            finer = merged_axes(out.aval.shape, x.aval.shape) is not None
            self.roots.add(out if finer and x not in self.roots else x)

    def _place_concatenate(self, eqn: Eqn) -> None:
        """Choose whether pieces are selected from, or written one after the other."""
        size, pieces = eqn.outvars[0].aval.size, len(eqn.invars)
        if pieces > _PIECES or (size > _SMALL and eqn.outvars[0] in self.wanted):
            self.kinds[eqn] = "join"
            self.roots.update(eqn.outvars)

    def _share(self) -> None:
        """Mark expensive values that would be computed in several places or over and over."""
        sinks: dict[Var, set[Var]] = {}
        repeated: set[Var] = set()  # spread out by a broadcast
        for eqn in reversed(self.jaxpr.eqns):
            how = self.kinds[eqn]
            heavy = how == "scalar" and ELEMENTWISE[eqn.prim.name].heavy
            for v in eqn.outvars:
                often = len(sinks.get(v, ())) > 1 or (v in repeated and v.aval.size > 1)
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
                    if how != "call" and (spread or eqn.outvars[0].aval.size > v.aval.size):
                        repeated.add(v)
        self.sinks = sinks

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
            size = max(v.aval.size for v in eqn.outvars)
            many = sum(4 * v.aval.size >= size for v in read) > 2
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


# ---------------------------------------------------------------------- one kernel
class _Apart(Exception):
    """A root cannot join the kernel at hand."""


class _Group:
    """A kernel that grows by one root after the other."""

    def __init__(self, program: _Program, sizes: tuple[int, ...], placed: Container[Var]) -> None:
        self.program, self.sizes, self.ndim = program, sizes, len(sizes)
        self.placed = placed  # the roots that some kernel makes
        self.inner: frozenset[int] | None = None  # nothing is reduced yet
        self.identity = identity(sizes)
        self.ops: list[Op] = []
        self.stages: list[int] = []
        self.moves: list[frozenset[int]] = []  # the axes along which each value changes
        self.known: dict[object, int] = {}
        self.journal: list[object] = []  # the keys of ``known`` in order
        self.buffers: dict[Var, int] = {}
        self.own: dict[Var, tuple[Map, int]] = {}  # the roots: position, value
        self.update: tuple[Var, Writes, str] | None = None  # what is written to a part of a root
        self.seeds: tuple[tuple[Var, Var], ...] = ()

    # ---------------------------------------------------------------- joining
    def join(self, eqn: Eqn) -> list[Var]:
        """Take in the roots of an equation if they fit; return all that are made here now."""
        self.taken: list[tuple[Var, Map, int]] = []
        ops, keys, buffers, inner = len(self.ops), len(self.journal), len(self.buffers), self.inner
        try:
            made = self.made(eqn)
            self.check()
        except _Apart:
            del self.ops[ops:], self.stages[ops:], self.moves[ops:]
            for key in self.journal[keys:]:
                self.known.pop(key, None)
            del self.journal[keys:]
            for v in list(self.buffers)[buffers:]:
                del self.buffers[v]
            self.inner = inner
            return []
        for v, where, number in (*made, *self.taken):
            self.own[v] = where, number
            self.note((v, where, None), number)
        return [v for v, _, _ in (*made, *self.taken)]

    def made(self, eqn: Eqn) -> list[tuple[Var, Map, int]]:
        """Write an equation's roots; return each with its position and value."""
        if self.program.kinds[eqn] == "reduce":
            x, (out,) = eqn.invars[0], eqn.outvars
            groups = merged_axes(x.aval.shape, self.sizes)
            where = merged(x.aval.shape, self.sizes, self.identity, self.ndim)
            if groups is None or where is None:
                raise _Apart
            inner = frozenset(k for a in eqn.params["axes"] for k in groups[a] if self.sizes[k] > 1)
            if self.inner is not None and inner != self.inner:
                raise _Apart
            self.inner = inner
            value = self.value(x, where)
            number = self.emit(Op("reduce", (value,), out.aval.dtype, eqn.prim.name))
            return [(out, self.position(out.aval.shape), number)]
        where = self.position(eqn.outvars[0].aval.shape)
        roots = [v for v in eqn.outvars if v in self.program.roots]
        return [(v, where, self.compute(eqn, v, where, None)) for v in roots]

    def position(self, shape: tuple[int, ...]) -> Map:
        """Return where in an array of this shape the loops are: at every element or every row."""
        size = math.prod(shape)
        where = None
        if size == math.prod(self.sizes):
            where = merged(shape, self.sizes, self.identity, self.ndim)
        elif self.inner is not None:
            kept = [k for k in range(self.ndim) if k not in self.inner]
            sizes = [self.sizes[k] for k in kept]
            if size == math.prod(sizes):
                where = merged(shape, sizes, tuple(self.identity[k] for k in kept), self.ndim)
        if where is None:
            raise _Apart
        return where

    def check(self) -> None:
        """Refuse what had better be two kernels."""
        if len(self.ops) > MOST_OPS:
            raise _Apart
        if self.inner is None:
            return
        total = math.prod(self.sizes)
        length = math.prod(self.sizes[k] for k in self.inner)
        rows, wide = total // length, [k for k, n in enumerate(self.sizes) if n > 1]
        across = bool(wide) and wide[-1] not in self.inner
        few = total >= _LONG and (rows // _WIDE if across else rows) < _FEW
        if few or (across and length > _DEEP):
            staged = zip(self.stages, self.moves, strict=True)
            if any(stage and moves & self.inner for stage, moves in staged):
                raise _Apart

    # ---------------------------------------------------------------- values
    def emit(self, op: Op, key: object = None) -> int:
        used = op.args if op.where is None else (*op.args, *(n for n, _ in op.where.dynamic))
        own = (k for k, s in enumerate(op.where.strides) if s) if op.where is not None else ()
        moves = frozenset(own).union(*(self.moves[n] for n in used))
        if op.name == "cumulate":
            moves |= self.inner or frozenset()
        stage = max((self.stages[n] for n in used), default=0)
        if op.name == "reduce":
            stage, moves = stage + 1, moves - (self.inner or frozenset())
        self.ops.append(op)
        self.stages.append(stage)
        self.moves.append(moves)
        if key is not None:
            self.note(key, len(self.ops) - 1)
        return len(self.ops) - 1

    def note(self, key: object, number: int) -> None:
        self.known[key] = number
        self.journal.append(key)

    def load(self, v: Var, shape: Sequence[int], where: Map, guard: int | None) -> int:
        if v in self.own:
            raise _Apart  # read elsewhere than where it is made
        place = combine(list(zip(row_major(shape), where, strict=True)), self.ndim)
        key = ("load", v, place, guard)
        if key in self.known:
            return self.known[key]
        buffer = self.buffers.setdefault(v, len(self.buffers))
        args = () if guard is None else (guard,)
        return self.emit(Op("load", args, v.aval.dtype, buffer, place), key)

    def waits(self, v: Var) -> bool:
        """Tell whether a root is not made yet: by whoever reads it first."""
        return v in self.program.lazy and v not in self.placed

    def constant(self, item: object, dtype: np.dtype) -> int:
        key = ("const", dtype, repr(item))
        return (
            self.known[key] if key in self.known else self.emit(Op("const", (), dtype, item), key)
        )

    def value(self, v: Var | Lit, where: Map, guard: int | None = None) -> int:
        """Return the number of the value of ``v`` at an index map.

        Args:
            guard: number of a bool: where it is false, the map may lead out of the arrays.
        """
        if isinstance(v, Lit):
            return self.constant(v.val._data.item(), v.aval.dtype)
        zero = Affine(0, (0,) * self.ndim)
        where = tuple(zero if n == 1 else m for n, m in zip(v.aval.shape, where, strict=True))
        key = (v, where, guard)
        if key in self.known:
            return self.known[key]
        lazy = self.waits(v)
        if lazy and (where != self.position(v.aval.shape) or guard is not None):
            raise _Apart  # it must be made before
        if v in self.program.roots and not lazy:
            return self.load(v, v.aval.shape, where, guard)
        number = self.compute(self.program.eqn_of[v], v, where, guard)
        self.note(key, number)
        if lazy:
            self.taken.append((v, where, number))
        return number

    def compute(self, eqn: Eqn, v: Var, where: Map, guard: int | None) -> int:
        how = self.program.kinds[eqn]
        if how == "iota":
            return self.emit(Op("index", (), v.aval.dtype, None, where[eqn.params["axis"]]))
        if how == "indexed":
            return INDEXED[eqn.prim.name](self, eqn, where, guard)
        if how == "move":
            inner, operand = moved(eqn, where, self.ndim), eqn.invars[0]
            if inner is not None:
                return self.value(operand, inner, guard)
            if operand in self.program.roots and not self.waits(operand):
                return self.load(operand, v.aval.shape, where, guard)
            return self.value(operand, self.position(operand.aval.shape), guard)
        args, attr = [], dict(eqn.params)
        for a in eqn.invars:
            args.append(self.value(a, where, guard))
        if eqn.prim.multiple_results:
            attr["result"] = eqn.outvars.index(v)
        return self.emit(Op(eqn.prim.name, tuple(args), v.aval.dtype, attr or None))

    # ---------------------------------------------------------------- the result
    def launch(self, stored: set[Var], name: str) -> Launch | None:
        """Return the kernel that stores these of its roots, or None where they are none."""
        ends = [(v, number, where, None, "set") for v, (where, number) in self.own.items()]
        if self.update is not None:
            out, (number, where, mask), how = self.update
            ends.append((out, number, where, mask, how))
        ends = [e for e in ends if e[0] in stored]
        if not ends:
            return None
        live, todo = set(), [n for e in ends for n in _needs(e)]
        while todo:
            n = todo.pop()
            if n not in live:
                live.add(n)
                op = self.ops[n]
                todo += (
                    [*op.args, *(m for m, _ in op.where.dynamic if op.where)]
                    if op.where
                    else op.args
                )
        number = {n: k for k, n in enumerate(sorted(live))}
        leaves = list(self.buffers)
        buffers: dict[Var, int] = {}
        body = []
        for n in sorted(live):
            op = self.ops[n]
            if op.name == "load":
                op = replace(op, attr=buffers.setdefault(leaves[op.attr], len(buffers)))
            body.append(_renumbered(op, number))
        stores = []
        for v, n, where, mask, how in ends:
            place = combine(list(zip(row_major(v.aval.shape), where, strict=True)), self.ndim)
            place = _renumbered(Op("", (), v.aval.dtype, None, place), number).where
            buffer = buffers.setdefault(v, len(buffers))
            mask = None if mask is None else number[mask]
            stores.append(Store(buffer, number[n], place, mask, how))
        dtypes = tuple(v.aval.dtype for v in buffers)
        inner = tuple(k in (self.inner or ()) for k in range(self.ndim))
        kernel = collapse(Kernel(name, self.sizes, inner, dtypes, tuple(body), tuple(stores)))
        check_kernel(kernel)
        return Launch(kernel, tuple(buffers), self.seeds)


def _needs(end: tuple[Var, int, Map, int | None, str]) -> list[int]:
    """Return the numbers of the values that a store needs."""
    _, number, where, mask, _ = end
    return [number, *(() if mask is None else (mask,)), *(n for m in where for n, _ in m.dynamic)]


def _renumbered(op: Op, number: dict[int, int]) -> Op:
    where = op.where
    if where is not None and where.dynamic:
        where = replace(where, dynamic=tuple((number[n], s) for n, s in where.dynamic))
    return replace(op, args=tuple(number[a] for a in op.args), where=where)


# ---------------------------------------------------------------------- all kernels
class _Planner:
    """The steps so far; a root may join every kernel that does not come before what it reads."""

    def __init__(self, program: _Program) -> None:
        self.program = program
        self.steps: list[_Group | Step] = []
        self.place: dict[Var, int] = {}  # the step that makes a root
        self.reads: list[set[Var]] = []  # what each step reads, roots of its own aside
        self.open: dict[int, list[int]] = {}  # kernels by the size of their loops and rows

    def append(self, step: _Group | Step, made: Iterable[Var], reads: set[Var]) -> None:
        self.place.update((v, len(self.steps)) for v in made)
        self.steps.append(step)
        self.reads.append(reads)

    def root(self, eqn: Eqn) -> None:
        """Find a kernel for an equation that makes roots, or begin one."""
        program = self.program
        leaves, lazy = program.leaves(eqn.invars, self.place)
        first = max((self.place[v] for v in leaves if v in self.place), default=-1)
        shape = self.loops(eqn)
        size = math.prod(shape)
        large = {v for v in leaves if v.aval.size > 1}
        tries = 0
        for k in reversed(self.open.get(size, ())):
            group = self.steps[k]
            if k < first or tries == _TRIES:
                break
            assert isinstance(group, _Group)
            if size > _SMALL and not (large & self.reads[k] or large & group.own.keys()):
                continue
            tries += 1
            made = group.join(eqn)
            if made:
                self.place.update((v, k) for v in made)
                self.reads[k] |= leaves
                self.register(group, k)
                return
        group = _Group(program, shape, self.place)
        made = group.join(eqn)
        if made:
            self.append(group, made, leaves)
            self.register(group, len(self.steps) - 1)
            return
        if not lazy:  # it is too long: what it is made of goes to memory first
            lazy = [v for v in eqn.invars if isinstance(v, Var) and v not in program.roots]
            if not lazy:
                raise AssertionError(f"no kernel for {eqn.prim.name} of {shape}")
            program.roots.update(lazy)
        for v in lazy:
            if v not in self.place:
                self.root(program.eqn_of[v])
        self.root(eqn)

    def part(
        self,
        out: Var,
        source: Var | None,
        atoms: Sequence[Var | Lit],
        shape: Sequence[int],
        write: Callable[[_Group], Writes],
        how: str = "set",
    ) -> None:
        """Append a kernel that writes a part of ``out``; the rest is what ``source`` holds."""
        leaves, lazy = self.program.leaves(atoms, self.place)
        group = _Group(self.program, tuple(shape), self.place)
        try:
            group.taken = []
            writes = write(group)
        except _Apart:
            if not lazy:
                raise
            for v in lazy:
                if v not in self.place:
                    self.root(self.program.eqn_of[v])
            self.part(out, source, atoms, shape, write, how)
            return
        for v, where, number in group.taken:
            group.own[v] = where, number
        group.update = out, writes, how
        if source is not None:
            group.seeds = ((out, source),)
            leaves = leaves | {source}
        self.append(group, [out, *group.own], leaves)

    def pieces(self, eqn: Eqn) -> None:
        """Append the kernels that write the pieces of a concatenate."""
        axis, start, source = eqn.params["axis"], 0, None
        for k, v in enumerate(eqn.invars):
            last = k == len(eqn.invars) - 1
            out = eqn.outvars[0] if last else Var(eqn.outvars[0].aval)

            def write(group: _Group, v: Var | Lit = v, start: int = start) -> Writes:
                where = list(group.identity)
                where[axis] = combine([(1, where[axis])], group.ndim, start)
                return group.value(v, group.identity), tuple(where), None

            self.part(out, source, [v], v.aval.shape, write)
            source, start = out, start + v.aval.shape[axis]

    def cumulate(self, eqn: Eqn) -> None:
        """Append the kernel of a cumulative sum or the like."""
        (x,), (out,), axis = eqn.invars, eqn.outvars, eqn.params["axis"]
        name, size = CUMULATIVE[eqn.prim.name], x.aval.shape[axis]

        def write(group: _Group) -> Writes:
            where = list(group.identity)
            if eqn.params["reverse"]:
                where[axis] = combine([(-1, where[axis])], group.ndim, size - 1)
            group.inner = frozenset([axis])
            value = group.value(x, tuple(where))
            return group.emit(Op("cumulate", (value,), x.aval.dtype, name)), tuple(where), None

        self.part(out, None, [x], x.aval.shape, write)

    def register(self, group: _Group, k: int) -> None:
        total = math.prod(group.sizes)
        rows = total // math.prod(group.sizes[j] for j in group.inner or ())
        for size in {total, rows}:
            known = self.open.setdefault(size, [])
            if k not in known[-2 * _TRIES :]:
                known.append(k)
                known.sort()

    def loops(self, eqn: Eqn) -> tuple[int, ...]:
        """Return the loops that an equation's kernel has if it begins one."""
        x, out = eqn.invars[0] if eqn.invars else None, eqn.outvars[0]
        if self.program.kinds[eqn] == "reduce":
            return x.aval.shape
        if eqn.prim.name == "reshape" and x not in self.program.roots:
            if merged_axes(x.aval.shape, out.aval.shape) is None:
                return x.aval.shape
        return out.aval.shape


def fuse(jaxpr: Jaxpr) -> Plan:
    """Return the plan of a program: kernels, matrix products and calls of eager rules, in order."""
    jaxpr = lower(jaxpr)
    program = _Program(jaxpr)
    planner = _Planner(program)
    for eqn in jaxpr.eqns:
        how = program.kinds[eqn]
        operands = {v for v in eqn.invars if isinstance(v, Var)}
        if how == "call":
            planner.append(structured(eqn, fuse) or Call(eqn), eqn.outvars, operands)
        elif how == "cumulate":
            planner.cumulate(eqn)
        elif how == "join":
            planner.pieces(eqn)
        elif how == "update":
            write, combined = UPDATES[eqn.prim.name]
            planner.part(
                eqn.outvars[0],
                eqn.invars[0],
                eqn.invars[1:],
                eqn.invars[1].aval.shape,
                lambda group, eqn=eqn, write=write: write(group, eqn, group.identity),
                combined,
            )
        elif how == "fft":
            planner.append(transform(eqn), eqn.outvars, operands)  # type: ignore[arg-type]
        elif how == "conv":
            conv = program.convs[eqn]
            planner.append(conv, [conv.out], {conv.lhs, conv.rhs})
        elif how == "dot":
            dot = program.dots[eqn]
            planner.append(dot, [dot.out], {dot.a, dot.b})
        elif eqn in program.passed:
            continue
        elif any(v in program.roots and v not in program.lazy for v in eqn.outvars):
            planner.root(eqn)
    stored = set(program.wanted)
    for group, reads in zip(planner.steps, planner.reads, strict=True):
        own = group.own if isinstance(group, _Group) else ()
        stored.update(v for v in reads if v not in own)
    steps: list[Step] = []
    for step in planner.steps:
        made = step.launch(stored, f"k{len(steps)}") if isinstance(step, _Group) else step
        if made is not None:
            steps.append(made)
    return Plan(jaxpr, tuple(steps))
