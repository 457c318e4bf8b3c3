"""Values, loads and stores of one kernel as CUDA C++: what all schedules write with.

A thread works on one element of the kernel's loops, or on several *lanes*: neighbours along the
last axis. A value that changes along that axis has one name for each lane, others have one.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace

import numpy as np

from ..kernel import (
    Affine,
    Kernel,
    Op,
    Store,
    axes_of,
    collapse,
    is_row_store,
    levels,
    needs,
    operands,
    row_major,
    serial_axes,
)
from ..scalars.quicker import quicker
from ..scalars.scalar import constant, scalar
from .code import INT_MAX
from .memory import from_memory, memory_type, numbers, to_memory
from .spelling import CudaBlock, operand

__all__ = ["Env", "Nest", "is_aligned", "is_wide", "prepared", "scatters"]

Env = dict[int, list[str]]
INT64 = np.dtype("int64")
_ADDED = ("float", "double", "u32", "u64")  # what there is an instruction for
_WORDS = {
    "float": ("u32", "__float_as_uint({})", "__uint_as_float({})"),
    "double": ("u64", "(u64)__double_as_longlong({})", "__longlong_as_double((s64){})"),
}


def _extent(kernel: Kernel, where: Affine) -> int:
    """Return the largest offset, up to sign, that the affine part of a place may be."""
    reach = sum(
        abs(int(s)) * (int(n) - 1) for s, n in zip(where.strides, kernel.sizes, strict=True)
    )
    return abs(int(where.offset)) + reach


def is_aligned(kernel: Kernel, where: Affine, lanes: int, still: Container[int]) -> bool:
    """Tell whether so many lanes lie side by side, beginning where a vector may begin.

    Args:
        still: numbers of the values that do not change along the last axis.
    """
    if not where.strides or where.strides[-1] != 1:
        return False
    others = (*where.strides[:-1], where.offset, *(s for _, s in where.dynamic))
    return all(s % lanes == 0 for s in others) and all(n in still for n, _ in where.dynamic)


class Nest:
    """Writes the body of one kernel."""

    def __init__(self, kernel: Kernel, lanes: int, wide: bool) -> None:
        """Take the number of lanes, and whether places may need 64 bits."""
        self.kernel, self.body = kernel, kernel.body
        self.b = CudaBlock()
        self.lanes = lanes
        self.index = "s64" if wide else "int"
        self.at: dict[int, str] = {}  # by axis, where it stands; the first lane's on the last axis
        self.stage, self.is_element = levels(kernel)
        last = len(kernel.sizes) - 1
        axes = axes_of(kernel)
        self.varies = [lanes > 1 and last in a for a in axes]
        self.still = {n for n, a in enumerate(axes) if last not in a}
        self.row_stores = [
            s for s in kernel.stores if not s.over_rows and is_row_store(kernel, s, self.is_element)
        ]
        self.totals = [s for s in kernel.stores if s.over_rows]
        self.element_stores = [
            s for s in kernel.stores if s not in self.row_stores and not s.over_rows
        ]
        self.used = self.closure(n for s in kernel.stores for n in needs(s))
        self.serial: frozenset[int] = frozenset()  # axes that a thread goes along in order
        # By buffer, where scattered stores say which of them is the last; whether they say it here.
        self.claims: dict[int, str] = {}
        self.claiming = False

    def closure(self, wanted: Iterable[int], known: Container[int] = ()) -> list[int]:
        """Return, in order, what the wanted values are computed from, without what is known."""
        found: set[int] = set()
        todo = list(wanted)
        while todo:
            n = todo.pop()
            if n not in found and n not in known:
                found.add(n)
                todo.extend(operands(self.body[n]))
        return sorted(found)

    # ---------------------------------------------------------------- addresses
    def place(self, where: Affine, env: Env, lane: int, factor: int = 1) -> str:
        """Return the expression of an offset, ``factor`` numbers for each element."""
        terms, offset = [], int(where.offset)
        for k, s in enumerate(where.strides):
            if not s or k not in self.at:
                continue
            if k == len(where.strides) - 1:
                offset += lane * int(s)
            terms.append(self.times(self.at[k], int(s) * factor))
        for n, s in where.dynamic:
            dtype = self.body[n].dtype
            value = scalar(self.b, "convert", [self.get(env, n, lane)], [dtype], {"dtype": INT64})
            held = f"({self.index})(s64){operand(value, 'i64')}"
            terms.append(self.times(held, int(s) * factor))
        if offset or not terms:
            terms.append(str(offset * factor))
        return " + ".join(terms)

    def times(self, index: str, stride: int) -> str:
        return index if stride == 1 else f"{stride} * {index}"

    @staticmethod
    def get(env: Env, n: int, lane: int) -> str:
        names = env[n]
        return names[lane if len(names) > 1 else 0]

    # ---------------------------------------------------------------- values
    def value(self, n: int, env: Env) -> None:
        """Write operation ``n``, whose operands are in ``env``, where the axes stand."""
        op = self.body[n]
        lanes = range(self.lanes if self.varies[n] else 1)
        if op.name == "load":
            env[n] = self.load(op, env, len(lanes))
        elif op.name == "const":
            env[n] = [constant(op.attr, op.dtype)]
        elif op.name == "index":
            to = {"dtype": op.dtype}
            env[n] = []
            for v in lanes:
                place = self.b.put("i64", f"(u64)({self.place(op.where, env, v)})")
                env[n].append(scalar(self.b, "convert", [place], [INT64], to))
        else:
            dtypes = [self.body[a].dtype for a in op.args]
            env[n] = [
                scalar(self.b, op.name, [self.get(env, a, v) for a in op.args], dtypes, op.attr)
                for v in lanes
            ]

    def load(self, op: Op, env: Env, lanes: int) -> list[str]:
        b, dtype = self.b, self.kernel.buffers[op.attr]
        kind, each, memory = memory_type(dtype), numbers(dtype), f"b{op.attr}"
        masks = [operand(self.get(env, a, v), "i1") for a in op.args for v in range(lanes)]
        if (
            lanes > 1
            and len(set(masks)) <= 1
            and is_aligned(self.kernel, op.where, lanes, self.still)
        ):
            held, count = b.name("w"), lanes * each
            read = f"load_vector<{count}>({memory} + {self.place(op.where, env, 0, each)})"
            if masks:
                b.do(f"Vector<{kind}, {count}> {held} = {{}};")
                b.do(f"if ({masks[0]}) {held} = {read};")
            else:
                b.do(f"const Vector<{kind}, {count}> {held} = {read};")
            found = [f"{held}.x[{k}]" for k in range(count)]
            names = [b.name("r") for _ in found]
            for name, text in zip(names, found, strict=True):
                b.do(f"const {kind} {name} = {text};")
            return [from_memory(b, names[each * v : each * (v + 1)], dtype) for v in range(lanes)]
        out = []
        for v in range(lanes):
            place, held = self.place(op.where, env, v, each), []
            for k in range(each):
                held.append(b.name("r"))
                text = f"{memory}[{place}{f' + {k}' if k else ''}]"
                text = f"{masks[v]} ? ({kind}){text} : ({kind})0" if masks else text
                b.do(f"const {kind} {held[-1]} = {text};")
            out.append(from_memory(b, held, dtype))
        return out

    # ---------------------------------------------------------------- stores
    def store(self, s: Store, env: Env, alone: str = "") -> None:
        """Write a store of what ``env`` holds.

        Args:
            alone: a condition under which the thread stores at all.
        """
        b, dtype, last = self.b, self.kernel.buffers[s.buffer], len(self.kernel.sizes) - 1
        moving = self.lanes > 1 and (
            bool(s.where.strides and s.where.strides[last]) or any(self.varies[n] for n in needs(s))
        )
        lanes = self.lanes if moving else 1
        masks: list[str] = []
        if s.mask is not None:
            masks = [operand(self.get(env, s.mask, v), "i1") for v in range(lanes)]
        whole = len(set(masks)) <= 1 and s.how == "set" and s.buffer not in self.claims
        if lanes > 1 and whole and is_aligned(self.kernel, s.where, lanes, self.still):
            self.store_vector(s, env, lanes, [alone, *masks[:1]])
            return
        for v in range(lanes):
            conditions = " && ".join(c for c in (alone, masks[v] if masks else "") if c)
            with b.braces(f"if ({conditions})" if conditions else ""):
                self.write(s, env, v, dtype)

    def store_vector(self, s: Store, env: Env, lanes: int, conditions: Sequence[str]) -> None:
        b, dtype = self.b, self.kernel.buffers[s.buffer]
        held = [x for v in range(lanes) for x in to_memory(b, self.get(env, s.value, v), dtype)]
        place, name = self.place(s.where, env, 0, numbers(dtype)), b.name("w")
        given = ", ".join(held)
        b.do(f"const Vector<{memory_type(dtype)}, {len(held)}> {name} = {{{{{given}}}}};")
        text = " && ".join(c for c in conditions if c)
        b.do(f"{f'if ({text}) ' if text else ''}store_vector(b{s.buffer} + {place}, {name});")

    def write(self, s: Store, env: Env, lane: int, dtype: np.dtype) -> None:
        """Write one lane of a store, under the conditions that hold already."""
        b, each, value = self.b, numbers(dtype), self.get(env, s.value, lane)
        place = b.name("p")
        b.do(f"const {self.index} {place} = {self.place(s.where, env, lane)};")
        if s.buffer in self.claims:
            number = self.place(Affine(1, row_major(self.kernel.sizes)), env, lane)
            claim = self.claims[s.buffer]
            if self.claiming:
                b.do(f"atomicMax(PLACE({claim}, {place}), (u64)({number}));")
                return
            b.do(f"if ({claim}[{place}] == (u64)({number}))")
        memory = f"b{s.buffer}"
        at = [f"{each} * {place} + {k}" if each > 1 else place for k in range(each)]
        if s.how != "set" and self.meets(s):
            self.atomic(s, memory, at, value, dtype)
            return
        if s.how != "set":
            kind, names = memory_type(dtype), []
            for a in at:
                names.append(b.name("r"))
                b.do(f"const {kind} {names[-1]} = {memory}[{a}];")
            held = from_memory(b, names, dtype)
            value = scalar(b, s.how, [held, value], [dtype, dtype], None)
        with b.braces():
            for a, x in zip(at, to_memory(b, value, dtype), strict=True):
                b.do(f"{memory}[{a}] = {x};")

    def meets(self, s: Store) -> bool:
        """Tell whether several threads may store to one place."""
        return not self.serial and scatters(self.kernel, s)

    def atomic(self, s: Store, memory: str, at: Sequence[str], value: str, dtype: np.dtype) -> None:
        """Write an update of memory that other threads may update meanwhile."""
        b, kind, mine = self.b, memory_type(dtype), to_memory(self.b, value, dtype)
        if s.how == "add" and kind in _ADDED:
            for a, x in zip(at, mine, strict=True):
                b.do(f"atomicAdd(PLACE({memory}, {a}), {x});")
            return
        if dtype.kind in "iu" and dtype.itemsize >= 4 and s.how in ("min", "max"):
            sign = f"{'s' if dtype.kind == 'i' else 'u'}{kind[1:]}"
            target = f"({sign}*)PLACE({memory}, {at[0]})"
            b.do(f"atomic{s.how.title()}({target}, ({sign}){mine[0]});")
            return
        word, to_bits, of_bits = _WORDS.get(kind, (kind, "{}", "{}"))
        target, seen, old, held = b.name("t"), b.name("q"), b.name("q"), b.name("r")
        b.do(f"{word}* {target} = ({word}*)PLACE({memory}, {at[0]});")
        b.do(f"{word} {seen} = *(volatile {word}*){target}, {old};")
        with b.braces("do"):
            b.do(f"{old} = {seen};")
            b.do(f"const {kind} {held} = {of_bits.format(old)};")
            both = [from_memory(b, [held], dtype), value]
            (new,) = to_memory(b, scalar(b, s.how, both, [dtype, dtype], None), dtype)
            b.do(f"{seen} = compare_swap({target}, {old}, {to_bits.format(new)});")
        b.lines[-1] += f" while ({seen} != {old});"


def scatters(kernel: Kernel, s: Store) -> bool:
    """Tell whether a store may come to one place twice."""
    return bool(serial_axes(replace(kernel, stores=(s,))))


def _without_empty_rows(kernel: Kernel) -> Kernel:
    """Return a kernel without totals of no elements: these are reductions over all axes."""
    if any(kernel.inner) or not any(s.over_rows for s in kernel.stores):
        return kernel
    body, stores = list(kernel.body), []
    for s in kernel.stores:
        if s.over_rows:
            body.append(Op("reduce", (s.value,), kernel.body[s.value].dtype, s.how))
            s = Store(s.buffer, len(body) - 1, s.where)
        stores.append(s)
    inner = (True,) * len(kernel.sizes)
    return replace(kernel, inner=inner, body=tuple(body), stores=tuple(stores))


def prepared(kernel: Kernel) -> Kernel:
    """Return an equal kernel as it is printed."""
    kernel = quicker(_without_empty_rows(collapse(kernel)))
    plain = {"div_in_floats": "div", "rem_in_floats": "rem"}  # no vectors: nothing to gain
    body = tuple(replace(op, name=plain.get(op.name, op.name)) for op in kernel.body)
    return replace(kernel, body=body)


def is_wide(kernel: Kernel, lengths: Sequence[int] | None) -> bool:
    """Tell whether places may need 64 bits."""
    places: list[Affine] = [op.where for op in kernel.body if op.where is not None]
    places += [s.where for s in kernel.stores]
    each = max((numbers(d) for d in kernel.buffers), default=1)
    reach = max((_extent(kernel, w) for w in places), default=0) * each
    if any(w.dynamic for w in places):
        reach = max(reach, *(int(n) * each for n in lengths)) if lengths else INT_MAX
    return max(reach, 2 * math.prod(map(int, kernel.sizes))) >= INT_MAX
