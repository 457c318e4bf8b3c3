"""Loops, labels and addresses as LLVM instructions: what printed functions are written with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from funtorch.dims import NotDynamic, fixed, smaller

from ..scalars.block import Block

__all__ = ["Index", "Routine", "Writer"]

Index = str | int

# Written out, a loop is no more one that can be vectorised; and compiling it takes longer.
_AS_IT_IS = """!9000 = distinct !{!9000, !9001}
!9001 = !{!"llvm.loop.unroll.disable"}"""
_SIDE_BY_SIDE = """!9002 = distinct !{!9002, !9001, !9003}
!9003 = !{!"llvm.loop.interleave.count", i32 4}"""
_LANES = 16  # turns up to which a loop may be worth writing out


class Writer:
    """Writes one function."""

    longest = 100  # lines that a loop of few turns may have when it is written out

    def __init__(self) -> None:
        self.b = Block()
        self.at = "entry"
        self.cells: list[str] = []

    def block(self, label: str) -> None:
        self.b.lines.append(f"{label}:")
        self.at = label

    def label(self) -> str:
        self.b.count += 1
        return f"l{self.b.count}"

    def cell(self, kind: str, count: int = 1) -> str:
        """Return the address of memory of this call's own."""
        if not fixed(count):
            raise NotDynamic("a kernel keeps as many values as a size says")
        name = self.b.name("c")
        many = f", i64 {count}, align 64" if count > 1 else ""
        self.cells.append(f"  {name} = alloca {kind}{many}")
        return name

    def loop(
        self,
        start: Index,
        stop: Index,
        step: int,
        body: Callable[..., Sequence[str] | None],
        carried: Sequence[tuple[str, str]] = (),
        side_by_side: bool = False,
    ) -> list[str]:
        """Write ``for i in range(start, stop, step)``, which runs at least once.

        Args:
            carried: pairs (type, first value) of what goes from one turn to the next; the body
                takes their values after i, and returns the next ones.

        Returns:
            The last values of what is carried.
        """
        b, label, before = self.b, self.label(), self.at
        i, after = b.name("i"), b.name("n")
        held = [b.name("h") for _ in carried]
        b.do(f"br label %{label}")
        self.block(label)
        head = len(b.lines)
        last = list(body(i, *held) or ())
        phis = [f"  {i} = phi i64 [ {start}, %{before} ], [ {after}, %{self.at} ]"]
        for name, (kind, first), new in zip(held, carried, last, strict=True):
            phis.append(f"  {name} = phi {kind} [ {first}, %{before} ], [ {new}, %{self.at} ]")
        b.lines[head:head] = phis
        b.do(f"{after} = add nsw i64 {i}, {step}")
        again = b.op(f"icmp slt i64 {after}, {stop}")
        short = self.is_short(start, stop, step, len(b.lines) - head)
        if not short:
            b.declared["unroll"] = _AS_IT_IS
        if side_by_side and not short:
            b.declared["interleave"] = _SIDE_BY_SIDE
        kept = "" if short else f", !llvm.loop !{9002 if side_by_side else 9000}"
        b.do(f"br i1 {again}, label %{label}, label %{label}e{kept}")
        self.block(label + "e")
        return last

    def is_short(self, start: Index, stop: Index, step: int, lines: int) -> bool:
        """Tell whether a loop of so many lines may be written out."""
        if not (isinstance(start, int) and isinstance(stop, int)):
            return False
        if not (fixed(start) and fixed(stop)):
            return False
        turns = -(-(stop - start) // step)
        return turns < _LANES and turns * lines <= self.longest

    def when(self, mask: str, body: Callable[[], object]) -> tuple[str, str]:
        """Write the body to run where the mask holds; return the labels before and after it."""
        label, before = self.label(), self.at
        self.b.do(f"br i1 {mask}, label %{label}, label %{label}e")
        self.block(label)
        body()
        after = self.at
        self.b.do(f"br label %{label}e")
        self.block(label + "e")
        return before, after

    def sum(self, offset: int, terms: Iterable[tuple[Index, int]]) -> Index:
        """Return ``offset + sum(index * stride)``."""
        total: str | None = None
        for i, stride in terms:
            if isinstance(i, int):
                offset += i * stride
                continue
            if not stride:
                continue
            term = i if stride == 1 else self.b.op(f"mul nsw i64 {i}, {stride}")
            total = term if total is None else self.b.op(f"add nsw i64 {total}, {term}")
        if total is None:
            return offset
        return self.b.op(f"add nsw i64 {total}, {offset}") if offset else total

    def pointer(self, base: str, kind: str, offset: Index) -> str:
        return self.b.op(f"getelementptr inbounds {kind}, ptr {base}, i64 {offset}")


class Routine(Writer):
    """Writes a function whose loops are already as they shall run."""

    def pointer(self, base: str, kind: str, offset: Index) -> str:
        return base if offset == 0 else super().pointer(base, kind, offset)

    def each(self, count: Index, body: Callable[[Index], None]) -> None:
        """Write a loop from 0 to ``count``, which is at least 1."""
        if count == 1:
            body(0)
        else:
            self.loop(0, count, 1, body)

    def least(self, x: Index, y: Index) -> Index:
        """Return the smaller of two indices."""
        if isinstance(x, int) and isinstance(y, int):
            return smaller(x, y)
        return self.b.call("llvm.smin", [str(x), str(y)], "i64")

    def parts(self, sizes: Sequence[int], body: Callable[[list[Index]], None]) -> None:
        """Write a loop over the parts ``%lo`` to ``%hi``; the body takes its place in a grid."""

        def part(p: Index) -> None:
            found: list[Index] = []
            for n in reversed(sizes[1:]):
                found.append(0 if n == 1 else self.b.op(f"urem i64 {p}, {n}"))
                p = p if n == 1 else self.b.op(f"udiv i64 {p}, {n}")
            body([p, *reversed(found)])

        self.loop("%lo", "%hi", 1, part)

    def guarded(self, body: Callable[[], None]) -> None:
        """Write the body to run where there is a part to do."""
        go, none = self.label(), self.label()
        self.b.do(f"br i1 {self.b.op('icmp slt i64 %lo, %hi')}, label %{go}, label %{none}")
        self.block(go)
        body()
        self.b.do(f"br label %{none}")
        self.block(none)

    def held(self, base: str, size: Index, room: Index, body: Callable[[str], None]) -> None:
        """Write the body with the address of a slot that no other call holds meanwhile.

        Args:
            base: where the ``room`` slots of ``size`` bytes begin; which of them are taken is told
                by the bits of the first number in %scratch.
        """
        b, top, turn = self.b, self.label(), self.label()
        b.do(f"br label %{top}")
        self.block(top)
        taken = b.op("load atomic i64, ptr %scratch monotonic, align 8")
        free = b.op(f"xor i64 {taken}, -1")
        k = b.op(f"call i64 @llvm.cttz.i64(i64 {free}, i1 false)")
        b.declared["llvm.cttz.i64"] = "declare i64 @llvm.cttz.i64(i64, i1 immarg)"
        some = b.op(f"icmp slt i64 {k}, {room}")
        b.do(f"br i1 {some}, label %{turn}, label %{top}")
        self.block(turn)
        bit = b.op(f"shl i64 1, {k}")
        with_it = b.op(f"or i64 {taken}, {bit}")
        pair = b.op(f"cmpxchg ptr %scratch, i64 {taken}, i64 {with_it} acquire monotonic, align 8")
        won, go = b.op(f"extractvalue {{ i64, i1 }} {pair}, 1"), self.label()
        b.do(f"br i1 {won}, label %{go}, label %{top}")
        self.block(go)
        body(self.pointer(base, "i8", b.op(f"mul i64 {k}, {size}")))
        keep = b.op(f"xor i64 {bit}, -1")
        b.op(f"atomicrmw and ptr %scratch, i64 {keep} release, align 8")

    def text(self, name: str, args: Sequence[str], cold: bool = False) -> str:
        """Return the text of a function of what was written.

        ``optsize`` keeps loops loops; what is ``cold`` is not worth the time of optimising it.
        """
        how = "optnone" if cold else "optsize"
        return "\n".join(
            [
                f"define internal void @{name}({', '.join(args)}) noinline nounwind {how} #0 {{",
                "entry:",
                *self.cells,
                *self.b.lines,
                "  ret void",
                "}",
            ]
        )
