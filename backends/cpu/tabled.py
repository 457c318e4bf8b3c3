"""A writer of functions that read the sizes of a product from a table."""

from __future__ import annotations

from .vectors import Vectors
from .writer import Index

__all__ = ["Fields", "Tabled"]


class Fields:
    """Reads numbers of the table where they are wanted: kept, they would need all registers."""

    def __init__(self, writer: Vectors, names: tuple[str, ...]) -> None:
        self.writer, self.names = writer, names

    def __getitem__(self, name: str) -> str:
        return self.writer.number("%table", self.names.index(name))


class Tabled(Vectors):
    """Writes a function whose argument ``%table`` holds numbers by name; behind these, for every
    batch axis, its size and its strides in a, b and c."""

    def __init__(self, kind: str, names: tuple[str, ...], rows: int = 0) -> None:
        super().__init__(kind, rows)
        self.f = Fields(self, names)

    def batch(self, number: Index) -> list[str]:
        """Return where the matrices of one batch index begin."""
        f = self.f
        first = self.pointer("%table", "i64", len(f.names))
        starts = [f["a"], f["b"], f["c"]]
        some = self.b.op(f"icmp sgt i64 {f['axes']}, 0")

        def axis(k: Index, rest: str, *at: str) -> list[str]:
            row = self.pointer(first, "i64", self.times(k, 4))
            size = self.number(row, 0)
            i = self.b.op(f"urem i64 {rest}, {size}")
            moved = [self.plus(x, self.times(i, self.number(row, n + 1))) for n, x in enumerate(at)]
            return [self.b.op(f"udiv i64 {rest}, {size}"), *moved]

        carried = [("i64", str(number)), *(("i64", s) for s in starts)]
        return self.loop_if(some, 0, f["axes"], 1, axis, carried)[1:]
