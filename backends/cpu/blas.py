"""Matrix products: how one is cut into parts, and what the library is told of it in a table."""

from __future__ import annotations

import ctypes
import functools
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from funtorch import openblas
from funtorch.core import ShapedArray
from funtorch.dims import Scope, fixed, larger, scope_of
from funtorch.jaxpr import Eqn, Var

from ..epilogue import TILE
from ..kernel import Affine, row_major
from ..plan import Dot
from .along import ALONG, ALONG_FIELDS, along_symbol, most_columns
from .epilogue import Behind, Grid, with_kernel
from .gemm import FIELDS, KINDS, PACKS, gemm_symbol, widths
from .llvm import Code
from .packed import HEADER
from .quads import QUAD
from .vectors import lanes_of, masked

__all__ = ["blas_address", "dot_code", "library_of", "reads_rows"]

_FAR = 4096  # bytes between rows from which they are copied, else read in place
_ACROSS = 512  # those where an operand has at least as many bytes as _CACHE
_CACHE = 1 << 20
_DEEP = 256  # terms of the sum that a panel has
_PART = 1 << 17  # multiplications that a part has at least
_MOST = 32  # parts that are enough for any number of threads
_COST = {"in place": 0.1, "copied": 0.8, "turned": 0.8}  # of an element, in vectors multiplied
_ADDED = 1024  # rows of a block, whose totals are added up one by one
_SEVERAL, _NARROW = 48, 4  # rows, or columns, up to which copies of b do not pay
_LONG = 4  # vectors of a sum from which it is made along these
_COPIED = 64  # columns that a block has at least, where many rows meet it
_MANY_TILES = 3  # of a block beside each other, from which rows of a are copied
_COPIES = 1 << 16  # bytes of a copy, at most
_BESIDE = 1 << 19  # bytes of a block's columns
_RUN = 48  # vectors multiplied while a kernel begins another row of a block


@functools.cache
def blas_address(name: str) -> int:
    """Return the address of a function of the library."""
    address = ctypes.cast(getattr(openblas.load(), name), ctypes.c_void_p).value
    assert address is not None
    return address


_FUNCTION = """define internal void @{name}({head}) noinline nounwind #0 {{
  {body}
  ret void
}}"""


_IF_SEVERAL = """%at = getelementptr i64, ptr %table, i64 {at}
  %pieces = load i64, ptr %at
  %some = icmp sgt i64 %pieces, 1
  br i1 %some, label %join, label %done
join:
  {body}
  br label %done
done:"""
_MANY = 1 << 12  # rows of which there may be any number


def _sizes(step: Dot) -> tuple[int, ...]:
    places = (n for p in step.places for n in (p.offset, *p.strides))
    return (*step.batches, *step.rows, *step.sums, step.n, *places)


def _tile_rows(m: int) -> int:
    """Return how many rows a tile has: many, but few beyond the last."""
    return min(range(8, 0, -1), key=lambda r: -(-m // r) * (r + 1))


def _kind(step: Dot) -> str:
    """Return the dtype of whose products a step is one."""
    return step.a.aval.dtype.name.removeprefix("u")


def _lanes(step: Dot) -> int:
    return lanes_of(KINDS[_kind(step)])


def _in_quads(step: Dot) -> Dot:
    """Return a product of int8 as the library sees it: its elements are four terms side by side."""
    if step.a.aval.dtype.itemsize != 1:
        return step
    *sums, inner = step.sums
    a, b = (
        Affine(p.offset // QUAD, tuple(s if s == 1 else s // QUAD for s in p.strides))
        for p in step.places[:2]
    )
    return replace(step, sums=(*sums, inner // QUAD), places=(a, b, step.places[2]))


def _packs(step: Dot, rows: int, panel: int) -> tuple[str, str]:
    """Return how the operands of a product are read."""
    (ar, ak), (bk, bn) = (p.strides[-2:] for p in step.places[:2])
    size = step.out.aval.dtype.itemsize
    pack_a = pack_b = "in place"
    # Rows read across memory: from far apart, or so many that they do not stay in the cache.
    many = ak * size >= _FAR or (ak * size >= _ACROSS and step.m * step.k * size >= _CACHE)
    if len(step.rows) == 1 and ar == 1 and step.m > 1 and step.n > panel and many:
        pack_a = "copied"
    if bn != 1 and step.n > 1:
        pack_b = "turned"
    elif (step.m > 4 * rows and bk * size >= _FAR) or (not masked() and step.n % _lanes(step)):
        pack_b = "copied"
    return pack_a, pack_b


def _split(step: Dot, rows: int, panel: int, packs: tuple[str, str]) -> tuple[int, int, int]:
    """Return the rows and the columns of a part, and the pieces of the sum, by sizes alone."""
    wanted = min(_MOST, max(1, step.products // _PART))
    wanted = -(-wanted // step.batch)
    pieces = max(1, step.k // (2 * _DEEP))
    pieces = min(pieces, wanted) if step.k >= 4 * max(step.m, step.n) else 1
    wanted = -(-wanted // pieces)
    tall, wide = -(-step.m // rows), -(-step.n // panel)
    vectors = panel // _lanes(step)
    cost_a, cost_b = (_COST[how] for how in packs)
    limit, most = math.inf, min(wide, 2 * wanted)  # elements of a block; blocks across
    if step.after is not None:
        limit = min(TILE // step.out.aval.dtype.itemsize, _ADDED * step.n)
        pieces, wanted = 1, max(wanted, -(-step.m * step.n // limit))
        most = 1 if step.after.whole else min(wide, 2 * wanted)
        limit = max(limit, rows * (step.n if step.after.whole else panel))
    best: tuple[float, int, int] | None = None
    for across in range(1, most + 1):
        columns = -(-wide // across)
        for down in range(max(1, wanted // across), 2 * wanted // across + 1):
            high = -(-tall // min(down, tall))
            if min(high * rows, step.m) * min(columns * panel, step.n) > limit:
                continue
            parts = -(-tall // high) * -(-wide // columns)
            each = high * columns * rows * vectors
            each += cost_a * high * rows + cost_b * columns * panel  # type: ignore[assignment]
            if step.after is not None:
                each += _RUN * high * rows / step.k  # type: ignore[assignment]
            # On two threads, and on eight.
            all_parts = parts * step.batch * pieces
            cost = each * (-(-all_parts // 2) + 4 * -(-all_parts // 8))
            if best is None or cost < best[0]:
                best = cost, high, columns
    if best is None:  # one row of tiles is as much as a block holds
        best = 0.0, 1, wide if most == 1 else 1
    _, high, columns = best
    return min(high * rows, step.m), min(columns * panel, step.n), pieces


def _axes(prefix: str, count: int, place: Sequence[int], first: int) -> dict[str, int]:
    """Return the strides of ``count`` axes from the innermost on, 0 where there are fewer."""
    found = [*reversed(place), *[0] * count][:count]
    return {f"{prefix}{k + first}": n for k, n in enumerate(found)}


def gemm_table(step: Dot, rows: int) -> dict[str, int]:
    """Return what the library reads from the table of a product, by name."""
    step = _in_quads(step)
    size, lanes = step.out.aval.dtype.itemsize, _lanes(step)
    vectors = -(-step.n // lanes)
    panel = lanes * -(-vectors // -(-vectors // widths(rows)[0]))
    a, b, c = step.places
    packs = _packs(step, rows, panel)
    high, wide, pieces = _split(step, rows, panel, packs)
    inner, lead = step.sums[-1], len(step.batches)
    depth = min(_DEEP, -(-step.k // pieces))
    depth = -(-inner // -(-inner // depth))
    turns = -(-inner // depth)
    steps = turns * (step.k // inner)
    piece = -(-steps // min(pieces, steps))
    down, across, pieces = -(-step.m // high), -(-step.n // wide), -(-steps // piece)
    copied = panels = 0
    if packs[0] != "in place":
        copied = -(-high // rows) * (rows * depth + lanes) + lanes * lanes
    if packs[1] != "in place":
        panels = min(panel, -(-wide // lanes) * lanes) * (depth + lanes)
    listed = -(-(copied + panels) * size // 64) * 64
    single = len(step.rows) == 1
    slot = listed + (0 if single else -(-16 * (high + rows) // 64) * 64)
    parts = step.batch * down * across * pieces
    partial = step.batch * pieces * step.m * step.n * size if pieces > 1 else 0
    middle = lead + len(step.rows)
    outer = [*reversed(step.sums[:-1]), 1, 1]
    if step.after is not None:  # what is written is a block, row by row
        c = Affine(0, row_major((*step.batches, *step.rows, wide)))
    table = {
        "across": across, "down": down, "pieces": pieces, "m": step.m, "n": step.n, "k": inner,
        "rows": high, "columns": wide, "piece": piece, "depth": depth, "turns": turns,
        "steps": steps, "panel": panel, "a": a.offset, "b": b.offset, "c": c.offset,
        "ak": a.strides[-1], "bk": b.strides[-2], "bn": b.strides[-1], "pack_a": PACKS[packs[0]],
        "pack_b": PACKS[packs[1]], "slots": -(-(HEADER + partial) // 64) * 64, "slot": slot,
        "room": min(64, os.cpu_count() or 1, parts) if slot else 0, "copied": copied,
        "list": listed, "axes": lead, "single": int(single), "r0": step.rows[-1],
        "r1": [1, 1, *step.rows[:-1]][-1],
        **_axes("ar", 3, a.strides[lead:middle], 0), **_axes("cr", 3, c.strides[lead:-1], 0),
        "s1": outer[0], "s2": outer[1], **_axes("as", 3, a.strides[middle:-1], 1),
        **_axes("bs", 3, b.strides[lead:-2], 1),
    }  # fmt: skip
    assert tuple(table) == FIELDS
    return table | _batch_axes(step.batches, (a, b, c))


def _rows(step: Dot) -> int:
    """Return how many rows the tiles of a product have."""
    return _tile_rows(step.m) if fixed(step.m) else _tile_rows(_MANY)


def reads_rows(eqn: Eqn) -> bool:
    """Tell whether an equation is a product by rows of integers that the library makes."""
    avals = [v.aval for v in eqn.invars]
    return eqn.prim.name == "narrow_dot" and all(
        type(n) is int and n > 0 for a in avals for n in a.shape
    )


_INTEGERS = {"int8": "bytes", "uint8": "nibbles"}


def _along(step: Dot) -> str | None:
    """Return how a product is made whose operands are read along the sum; None if it is not."""
    b = step.b.aval.dtype.name
    if b != step.a.aval.dtype.name:
        return "scaled" if b == "int8" and step.scale is not None else _INTEGERS[b]
    sizes = (*_sizes(step), *(int(v.aval.size) for v in step.operands))
    if b not in ALONG or not masked() or scope_of(sizes) is not None:
        return None
    (ar, ak), (bk, bn) = (p.strides[-2:] for p in step.places[:2])
    one = len(step.rows) == len(step.sums) == 1
    if not one or (ak, bk) != (1, 1) or 1 in (ar, bn) or step.n == 1:
        return None
    rows = _tile_rows(step.m)
    tiles = step.batch * -(-step.m // rows) * -(-step.n // most_columns(rows))
    long = tiles < min(_MOST, step.products // _PART)  # sums that are better cut into pieces
    few = step.m <= min(_SEVERAL, step.k // _lanes(step)) or step.n <= _NARROW
    return b if few and step.k >= _LONG * _lanes(step) and not long else None


def along_table(step: Dot, rows: int) -> dict[str, int]:
    """Return what the library reads from the table of a product along sums, by name."""
    a, b, c = step.places
    lead, high, wide = len(step.batches), step.m, step.n
    most, size = most_columns(rows), step.out.aval.dtype.itemsize
    wanted = -(-min(_MOST, max(1, step.products // _PART)) // step.batch)
    # What many rows meet stays in the second cache meanwhile.
    room = max(1, _BESIDE // (step.k * step.b.aval.dtype.itemsize)) if step.m > rows else step.n
    if step.after is None or not step.after.whole:
        wide = min(room, max(-(-step.n // wanted), _COPIED if step.m > rows else 1))
        wide = min(step.n, max(1, wide // most) * most)
        wanted = -(-wanted // -(-step.n // wide))
    high = -(-step.m // wanted)
    if step.after is not None:
        high = min(high, max(1, TILE // (size * wide)))
    high = min(step.m, -(-high // rows) * rows)
    if step.after is not None:
        c = Affine(0, row_major((*step.batches, *step.rows, wide)))
    groups = 1 if step.scale is None else step.scale.aval.shape[1]
    terms = 2 if step.b.aval.dtype == np.uint8 else 1  # in one place of b
    runs = groups * terms * -(-step.k // groups // terms // _lanes(step))
    slot = -(-rows * runs * _lanes(step) * size // 64) * 64
    parts = step.batch * -(-step.n // wide) * -(-step.m // high)
    # Rows as far apart as the first cache's sets go around drive each other out of it.
    apart = a.strides[-2] * size % _FAR == 0 and slot <= _COPIES
    worth = apart and rows > 1 and wide >= _MANY_TILES * most
    room = min(64, os.cpu_count() or 1, parts) if worth else 0
    table = {
        "across": -(-step.n // wide), "down": -(-step.m // high), "m": step.m, "n": step.n,
        "rows": high, "columns": wide, "k": step.k // groups, "groups": groups,
        "a": a.offset, "b": b.offset, "c": c.offset, "ar": a.strides[-2], "bn": b.strides[-1],
        "cr": c.strides[-2], "axes": lead, "slots": HEADER, "slot": slot, "room": room,
    }  # fmt: skip
    assert tuple(table) == ALONG_FIELDS
    return table | _batch_axes(step.batches, (a, b, c))


def _batch_axes(sizes: Sequence[int], places: Sequence[Affine]) -> dict[str, int]:
    table: dict[str, int] = {}
    for j, count in reversed(list(enumerate(sizes))):
        strides = {f"{x}{j}": p.strides[j] for x, p in zip("abc", places, strict=True)}
        table |= {f"n{j}": count, **strides}
    return table


def library_of(step: Dot) -> str:
    """Return the name of the library function that makes a product."""
    what = _along(step)
    if what is not None:
        return along_symbol(what, _tile_rows(step.m))
    return gemm_symbol(_kind(step), _rows(step))


def _room(step: Dot, table: dict[str, int]) -> tuple[int, int]:
    """Return how many parts a product has, and the bytes that these share."""
    parts = step.batch * table["down"] * table["across"] * table["pieces"]
    several = table["pieces"] > 1 or table["room"]
    return parts, table["slots"] + table["room"] * table["slot"] if several else 0


def _numbers(step: tuple[Any, ...], dtype: str, out_dtype: str, rows: int) -> list[int]:
    """Return the table of a product, its parts and its room, when its sizes are known."""
    place, out = (Var(ShapedArray((), np.dtype(name))) for name in (dtype, out_dtype))
    batches, terms, sums, n, (a, b, c) = step
    places = Affine(*a), Affine(*b), Affine(*c)
    dot = Dot(place, place, out, batches, terms, sums, n, places)
    table = gemm_table(dot, rows)
    return [*table.values(), *_room(dot, table)]


def _later(step: Dot, rows: int, scope: Scope) -> tuple[list[int], int, int]:
    """Return the table of a product of sizes that are known later, its parts and its room."""
    places = tuple((p.offset, p.strides) for p in step.places)
    given = (step.batches, step.rows, step.sums, step.n, places)
    count = len(FIELDS) + 4 * len(step.batches) + 2
    names = (v.aval.dtype.name for v in (step.a, step.out))
    *table, parts, room = scope.computed(_numbers, (given, *names, rows), count)
    return table, parts, larger(room, 8)


def dot_code(step: Dot, behind: Behind | None = None) -> list[tuple[str, Code, dict[str, str]]]:
    """Return the functions of a product in the order in which they run, by name, each with what it
    calls and how that is declared.

    Their parts are blocks of the output, or pieces of its sums. Functions of equal products differ
    in their tables alone, since compiling costs more than reading numbers.

    Args:
        behind: the step's epilogue, if it has one: then functions take the addresses of its
            kernel's other buffers instead of that of the result.
    """
    dtype = step.out.aval.dtype
    table: Sequence[int]
    rows = _rows(step)
    scope = scope_of(_sizes(step))
    if _along(step) is not None:
        fields = along_table(step, rows)
        table = tuple(fields.values())
        parts = step.batch * fields["down"] * fields["across"]
        scratch = HEADER + fields["room"] * fields["slot"] if fields["room"] else 0
        several, slots = False, bool(fields["room"])
    elif scope is None:
        fields = gemm_table(step, rows)
        table = tuple(fields.values())
        parts, scratch = _room(step, fields)
        several, slots = fields["pieces"] > 1, bool(fields["room"])
    else:
        table, parts, scratch = _later(step, rows, scope)
        several = slots = True
    symbol = library_of(step)
    head, types = "ptr %a, ptr %b, ptr %c, ptr %table, ptr %scratch", "ptr, ptr, ptr, ptr, ptr, i64"
    declared = {symbol: f"declare void @{symbol}({types}, i64)"}
    text = _FUNCTION.format(
        name="dot", head=f"{head}, i64 %lo, i64 %hi",
        body=f"call void @{symbol}({head}, i64 %lo, i64 %hi)",
    )  # fmt: skip
    if several:
        declared[f"{symbol}_end"] = f"declare void @{symbol}_end({types})"
        body = f"call void @{symbol}_end({head}, i64 {step.batch})"
        if scope is not None:
            body = _IF_SEVERAL.format(body=body, at=FIELDS.index("pieces"))
        text += "\n\n" + _FUNCTION.format(name="dot_end", head=head, body=body)
    work = step.products * dtype.itemsize // 8
    main = Code(text, {}, parts, scratch, several, work, tuple(table))
    taken, pointers = ([0] if slots else []), 3
    if behind is not None:
        grid = Grid(
            step.batch, step.m, step.n, fields["rows"], fields["columns"], dtype.itemsize,
            min(64, os.cpu_count() or 1, parts),
        )  # fmt: skip
        main, inner = with_kernel(behind, grid, main, symbol)
        taken, pointers = [0, *(inner + at for at in taken)], 1 + len(behind.kernel.buffers)
    if not taken:
        return [("dot", main, declared)]
    return [("slots", _free(taken, pointers, main.scratch), {}), ("dot", main, declared)]


def _free(places: Sequence[int], pointers: int, scratch: int) -> Code:
    """Return the function that says that no slot is taken, by a number at each of these places."""
    lines = []
    for k, at in enumerate(places):
        lines.append(f"%p{k} = getelementptr i8, ptr %scratch, i64 {at}")
        lines.append(f"store i64 0, ptr %p{k}, align 8")
    head = "".join(f"ptr %x{k}, " for k in range(pointers))
    text = _FUNCTION.format(
        name="slots", head=f"{head}ptr %scratch, i64 %lo, i64 %hi", body="\n  ".join(lines)
    )
    return Code(text, {}, 1, scratch, False, 1)
