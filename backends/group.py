"""One kernel in the making: it grows by one root after the other."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import replace

import numpy as np

from funtorch.dims import Dim
from funtorch.jaxpr import Eqn, Lit, Var

from .indexed import INDEXED, Writes
from .kernel import Affine, Kernel, Op, Store, check_kernel, collapse, row_major
from .moves import Map, combine, identity, merged, merged_axes, moved
from .plan import Launch
from .roots import MOST_OPS, Program

__all__ = ["Apart", "Group"]

_LONG = 1 << 17  # elements from which a reduction to a few values is worth all threads
_FEW = 16  # rows, too few to be shared out
_WIDE = 32  # neighbouring rows that go together where memory runs along the rows
_DEEP = 1 << 13  # elements of a row beyond which those do not stay in the cache
_BRIEF = 8  # elements of a row that is written out in full
_TOTALS = 4  # reductions over the rows that a kernel of rows has room for


class Apart(Exception):
    """A root cannot join the kernel at hand."""


class Group:
    """A kernel that grows by one root after the other."""

    def __init__(self, program: Program, sizes: tuple[int, ...], placed: Container[Var]) -> None:
        self.program, self.sizes, self.ndim = program, sizes, len(sizes)
        self.placed = placed  # the roots that some kernel makes
        self.inner: frozenset[int] | None = None  # nothing is reduced yet
        self.limit = math.inf  # of operations: where to give up
        self.identity = identity(sizes)
        self.ops: list[Op] = []
        self.stages: list[int] = []
        self.moves: list[frozenset[int]] = []  # the axes along which each value changes
        self.known: dict[object, int] = {}
        self.journal: list[object] = []  # the keys of ``known`` in order
        self.buffers: dict[Var, int] = {}
        self.own: dict[Var, tuple[Map, int]] = {}  # the roots: position, value
        self.updates: list[tuple[Var, Writes, str]] = []  # what is written to parts of a root
        # Reductions over the rows: place, value, primitive.
        self.totals: dict[Var, tuple[Map, int, str]] = {}
        self.seeds: tuple[tuple[Var, Var], ...] = ()

    # ---------------------------------------------------------------- joining
    def join(self, eqn: Eqn) -> list[Var]:
        """Take in the roots of an equation if they fit; return all that are made here now."""
        self.taken: list[tuple[Var, Map, int]] = []
        ops, keys, buffers, inner = len(self.ops), len(self.journal), len(self.buffers), self.inner
        self.limit = MOST_OPS
        try:
            total = self.total(eqn)
            made = [] if total else self.made(eqn)
            self.check()
        except Apart:
            del self.ops[ops:], self.stages[ops:], self.moves[ops:]
            for key in self.journal[keys:]:
                self.known.pop(key, None)
            del self.journal[keys:]
            for v in list(self.buffers)[buffers:]:
                del self.buffers[v]
            self.inner = inner
            return []
        finally:
            self.limit = math.inf
        if total:
            (out,) = eqn.outvars
            self.totals[out] = total
        for v, where, number in (*made, *self.taken):
            self.own[v] = where, number
            self.note((v, where, None), number)
        return [*(eqn.outvars if total else ()), *(v for v, _, _ in (*made, *self.taken))]

    def total(self, eqn: Eqn) -> tuple[Map, int, str] | None:
        """Write what a reduction over the rows of a kernel of rows reduces, if it is one."""
        if self.program.kinds[eqn] != "reduce" or not self.inner:
            return None
        x, (out,) = eqn.invars[0], eqn.outvars
        groups = merged_axes(x.aval.shape, self.sizes)
        where = merged(x.aval.shape, self.sizes, self.identity, self.ndim)
        wide = {k for k, n in enumerate(self.sizes) if n != 1}
        if groups is None or where is None or not wide:
            return None
        over = {k for a in eqn.params["axes"] for k in groups[a]} & wide
        length = math.prod(self.sizes[k] for k in self.inner)
        rows = int(math.prod(self.sizes) // length)
        if over != wide - self.inner or max(wide) not in self.inner or self.updates:
            return None
        if rows < _FEW or not _BRIEF < int(length) <= _DEEP or len(self.totals) == _TOTALS:
            return None
        inner = sorted(self.inner)
        sizes = [self.sizes[k] for k in inner]
        place = merged(out.aval.shape, sizes, tuple(self.identity[k] for k in inner), self.ndim)
        if place is None:
            return None
        return place, self.value(x, where), eqn.prim.name

    def made(self, eqn: Eqn) -> list[tuple[Var, Map, int]]:
        """Write an equation's roots; return each with its position and value."""
        if self.program.kinds[eqn] == "reduce":
            x, (out,) = eqn.invars[0], eqn.outvars
            groups = merged_axes(x.aval.shape, self.sizes)
            where = merged(x.aval.shape, self.sizes, self.identity, self.ndim)
            if groups is None or where is None:
                raise Apart
            inner = frozenset(
                k for a in eqn.params["axes"] for k in groups[a] if self.sizes[k] != 1
            )
            if self.inner is not None and inner != self.inner:
                raise Apart
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
            raise Apart
        return where

    def check(self) -> None:
        """Refuse what had better be two kernels."""
        if len(self.ops) > MOST_OPS:
            raise Apart
        if self.inner is None:
            return
        total = int(math.prod(self.sizes))
        length = int(math.prod(self.sizes[k] for k in self.inner))
        rows, wide = total // length, [k for k, n in enumerate(self.sizes) if n != 1]
        across = bool(wide) and wide[-1] not in self.inner
        few = total >= _LONG and (rows // _WIDE if across else rows) < _FEW
        if few or (across and length > _DEEP):
            staged = zip(self.stages, self.moves, strict=True)
            if any(stage and moves & self.inner for stage, moves in staged):
                raise Apart

    # ---------------------------------------------------------------- values
    def emit(self, op: Op, key: object = None) -> int:
        if len(self.ops) > self.limit:
            raise Apart
        used = op.args if op.where is None else (*op.args, *(n for n, _ in op.where.dynamic))
        own = (k for k, s in enumerate(op.where.strides) if s) if op.where is not None else ()
        moves = frozenset(own).union(*(self.moves[n] for n in used))
        if op.name == "cumulate":
            moves |= self.inner or frozenset()
        stage = max((self.stages[n] for n in used), default=0)
        if op.name == "reduce":
            stage, moves = stage + 1, moves - (self.inner or frozenset())
        if len(self.ops) > 2 * MOST_OPS:
            raise Apart  # read at more and more places, a value would be written out for each
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
        if v in self.own or v in self.totals:
            raise Apart  # read elsewhere than where it is made
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
        key = ("const", dtype, item if isinstance(item, Dim) else repr(item))
        if key in self.known:
            return self.known[key]
        if isinstance(item, Dim):
            place = Affine(item, (0,) * self.ndim)
            return self.emit(Op("index", (), dtype, None, place), key)
        return self.emit(Op("const", (), dtype, item), key)

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
            raise Apart  # it must be made before
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
        ends: list[tuple[Var, int, Map, int | None, str]]
        ends = [(v, number, where, None, "set") for v, (where, number) in self.own.items()]
        ends += [(out, *writes, how) for out, writes, how in self.updates]
        ends += [(v, n, where, None, how) for v, (where, n, how) in self.totals.items()]
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
                buffer = buffers.setdefault(leaves[op.attr], len(buffers))
                op = Op(op.name, op.args, op.dtype, buffer, op.where)
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
    return Op(op.name, tuple(number[a] for a in op.args), op.dtype, op.attr, where)
