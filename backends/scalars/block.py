"""The block: the instructions of one function of LLVM IR, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Block"]

_SUFFIX = {"float": "f32", "double": "f64", "half": "f16"}


class Block:
    """The instructions of one function; methods that make a value return its name.

    Args:
        lanes: 0 for scalar code; otherwise the formulas of `math` write the code of vectors of so
            many elements.
    """

    def __init__(self, lanes: int = 0) -> None:
        self.lines: list[str] = []
        self.declared: dict[str, str] = {}
        # Float32 values, each with a 16-bit format that it is a number of.
        self.exact: set[tuple[str, str]] = set()
        self.parts: dict[str, tuple[str, str]] = {}  # of complex values
        self.count = 0
        self.lanes = lanes

    def name(self, stem: str = "v") -> str:
        self.count += 1
        return f"%{stem}{self.count}"

    def op(self, text: str) -> str:
        out = self.name()
        self.lines.append(f"  {out} = {text}")
        return out

    def do(self, text: str) -> None:
        self.lines.append(f"  {text}")

    # How a machine with branches writes a slow path (see `math.rare`); None: LLVM's way.
    rarely: Callable[..., Any] | None = None
    # How a machine that can rounds a float32 to a bfloat16 that stays a float32; None: a formula.
    bfloat16: Callable[[str], str] | None = None

    def entry(self, table: str, words: Sequence[int], at: str) -> str:
        """Return the number at a place of a constant table of 64-bit integers."""
        held = ", ".join(f"i64 {w}" for w in words)
        kind = f"[{len(words)} x i64]"
        self.declared[table] = f"@{table} = internal unnamed_addr constant {kind} [{held}]"
        place = self.op(f"getelementptr i64, ptr @{table}, i64 {at}")
        return self.op(f"load i64, ptr {place}, align 8")

    def type(self, kind: str) -> str:
        """Return the type of this block's values of an element type."""
        return f"<{self.lanes} x {kind}>" if self.lanes else kind

    def select(self, cond: str, yes: str, no: str, kind: str) -> str:
        return self.op(
            f"select {self.type('i1')} {cond}, {self.type(kind)} {yes}, {self.type(kind)} {no}"
        )

    def call(
        self,
        function: str,
        args: Sequence[str],
        kind: str,
        flags: Sequence[str] = (),
        fast: str = "",
    ) -> str:
        """Call a function from values of one type to that type; intrinsics get it in their name.

        Args:
            function: its name.
            args: names of values.
            kind: their element type.
            flags: further arguments, each a type and a constant.
            fast: fast-math flags of the call.
        """
        if function.startswith("llvm."):
            function += f".{f'v{self.lanes}' if self.lanes else ''}{_SUFFIX.get(kind, kind)}"
        whole = self.type(kind)
        types = [whole] * len(args) + [f.split()[0] for f in flags]
        # The C library's error number is nobody's business: declared pure, unused calls vanish.
        self.declared[function] = (
            f"declare {whole} @{function}({', '.join(types)}) memory(none) nounwind willreturn"
        )
        given = [f"{whole} {a}" for a in args] + list(flags)
        return self.op(f"call {fast} {whole} @{function}({', '.join(given)})")
