"""Matrix products: the private OpenBLAS, and the functions that call it block by block."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence

import numpy as np

from funtorch import openblas

from ..kernel import Affine
from ..plan import Dot
from .gemm import FIELDS, KINDS, PACKS, gemm_symbol, lanes_of, widths
from .llvm import Code
from .packed import HEADER, registers

__all__ = ["blas_address", "dot_code"]

_GEMM = {np.dtype("float32"): "scipy_cblas_sgemm", np.dtype("float64"): "scipy_cblas_dgemm"}
_ROW_MAJOR, _PLAIN, _TRANSPOSED = 101, 111, 112
_WORTH = 21  # products of 2**21 multiplications are worth two blocks; one of 2**28 is 4, of 2**32 8
_EDGE = 64  # least rows and columns of a block


@functools.cache
def blas_address(name: str) -> int:
    """Return the address of a function of the library."""
    address = ctypes.cast(getattr(openblas.load(), name), ctypes.c_void_p).value
    assert address is not None
    return address


def _blocks(m: int, n: int, k: int) -> tuple[int, int]:
    """Return the rows and columns of the blocks that a product is made of, by its size alone.

    Every block packs its operands anew, which costs some percent: so there are not many.
    """
    size = (m * n * k).bit_length()
    rows, columns, wanted = m, n, 1 << max(size > _WORTH, (size - _WORTH) // 4)
    while -(-m // rows) * -(-n // columns) < wanted and max(rows, columns) >= 2 * _EDGE:
        if rows >= columns:
            rows = -(-rows // 2)
        else:
            columns = -(-columns // 2)
    return rows, columns


def _leading(place: Affine, transposed: bool, rows: int, columns: int) -> int:
    """Return the distance of a matrix's rows in memory, of its columns if it is transposed."""
    down, right = place.strides[-2:]
    return max(right, rows, 1) if transposed else max(down, columns, 1)


def _table(step: Dot) -> dict[str, int]:
    """Return what the function of a product reads from its table, by name.

    Blocks of a matrix, blocks across it, rows and columns of one; the product's sizes; where
    operands and result begin, how far apart their rows or columns are, how the operands lie; last
    the sizes of the batch axes and how far apart the matrices lie along them.
    """
    rows, columns = _blocks(step.m, step.n, step.k)
    trans_a, trans_b = (p.strides[-1] != 1 for p in step.places[:2])
    across = -(-step.n // columns)
    a, b, c = step.places
    table = {
        "blocks": -(-step.m // rows) * across,
        "across": across,
        "rows": rows,
        "columns": columns,
        "m": step.m,
        "n": step.n,
        "k": step.k,
        "a": a.offset,
        "b": b.offset,
        "c": c.offset,
        "ar": a.strides[-2],
        "bc": b.strides[-1],
        "cr": c.strides[-2],
        "lda": _leading(a, trans_a, step.m, step.k),
        "ldb": _leading(b, trans_b, step.k, step.n),
        "ldc": _leading(c, False, step.m, step.n),
        "ta": _TRANSPOSED if trans_a else _PLAIN,
        "tb": _TRANSPOSED if trans_b else _PLAIN,
    }
    for k, size in enumerate(step.batches):
        table |= {
            f"n{k}": size,
            f"a{k}": a.strides[k],
            f"b{k}": b.strides[k],
            f"c{k}": c.strides[k],
        }
    return table


def _places(axes: int) -> str:
    """Return the code of ``%a.o``, ``%b.o``, ``%c.o``, where the blocks of matrices begin."""
    lines, rest = [], "%batch"
    for k in reversed(range(axes)):
        lines.append(f"  %i{k} = urem i64 {rest}, %n{k}")
        lines.append(f"  %rest{k} = udiv i64 {rest}, %n{k}")
        rest = f"%rest{k}"
    ends = {"a": [("%row", "%ar")], "b": [("%column", "%bc")], "c": [("%row", "%cr")]}
    for which, terms in ends.items():
        total = f"%{which}.0" if which != "c" else "%c.1"
        if which == "c":
            lines.append("  %c.1 = add i64 %c.0, %column")
        every = [*((f"%i{k}", f"%{which}{k}") for k in range(axes)), *terms]
        for number, (index, stride) in enumerate(every):
            lines.append(f"  %{which}.m{number} = mul i64 {index}, {stride}")
            name = "o" if number == len(every) - 1 else f"s{number}"
            lines.append(f"  %{which}.{name} = add i64 {total}, %{which}.m{number}")
            total = f"%{which}.{name}"
    return "\n".join(lines)


def _library_code(step: Dot) -> tuple[Code, str, str]:
    """Return the function ``dot`` of a product, the function that it calls, its declaration.

    Its parts are blocks of the output, each a product on one thread. All products of a dtype and a
    number of batch axes have the same function and differ in its table, since compiling costs more
    than reading numbers.
    """
    dtype = step.out.aval.dtype
    kind = "float" if dtype == np.float32 else "double"
    table, gemm = _table(step), _GEMM[dtype]
    # Arguments of the function have the names a, b, c: where they begin is a.0, b.0, c.0.
    names = [f"{name}.0" if name in ("a", "b", "c") else name for name in table]
    loads = "\n".join(
        f"  %{name}.p = getelementptr i64, ptr %table, i64 {at}\n"
        f"  %{name} = load i64, ptr %{name}.p\n"
        f"  %{name}.i = trunc i64 %{name} to i32"
        for at, name in enumerate(names)
    )
    text = f"""define internal void @dot(ptr %a, ptr %b, ptr %c, ptr %table, ptr %scratch, i64 %lo, i64 %hi) \
noinline nounwind #0 {{
entry:
{loads}
  br label %head
head:
  %p = phi i64 [ %lo, %entry ], [ %after, %body ]
  %more = icmp slt i64 %p, %hi
  br i1 %more, label %body, label %exit
body:
  %batch = udiv i64 %p, %blocks
  %q = urem i64 %p, %blocks
  %r = udiv i64 %q, %across
  %s = urem i64 %q, %across
  %row = mul i64 %r, %rows
  %column = mul i64 %s, %columns
  %below = sub i64 %m, %row
  %right = sub i64 %n, %column
  %high = call i64 @llvm.smin.i64(i64 %below, i64 %rows)
  %wide = call i64 @llvm.smin.i64(i64 %right, i64 %columns)
  %mm = trunc i64 %high to i32
  %nn = trunc i64 %wide to i32
{_places(len(step.batches))}
  %ap = getelementptr {kind}, ptr %a, i64 %a.o
  %bp = getelementptr {kind}, ptr %b, i64 %b.o
  %cp = getelementptr {kind}, ptr %c, i64 %c.o
  call void @{gemm}(i32 {_ROW_MAJOR}, i32 %ta.i, i32 %tb.i, i32 %mm, i32 %nn, i32 %k.i, \
{kind} 1.0, ptr %ap, i32 %lda.i, ptr %bp, i32 %ldb.i, {kind} 0.0, ptr %cp, i32 %ldc.i)
  %after = add i64 %p, 1
  br label %head
exit:
  ret void
}}"""
    declaration = (
        f"declare void @{gemm}(i32, i32, i32, i32, i32, i32, {kind}, ptr, i32, ptr, i32, {kind}, "
        "ptr, i32)"
    )
    least = {"llvm.smin.i64": "declare i64 @llvm.smin.i64(i64, i64)"}
    # A multiplication of a product takes a fraction of a scalar operation's time.
    work = step.batch * step.m * step.n * step.k // 4
    parts = step.batch * table["blocks"]
    return Code(text, least, parts, 0, False, work, tuple(table.values())), gemm, declaration


# ------------------------------------------------------------------------------- our own library
_FAR = 4096  # bytes between rows from which they are copied, else read in place
_ACROSS = 512  # those where an operand has at least as many bytes as _CACHE
_CACHE = 1 << 20
_MASKED = 32  # bytes of vectors from which a processor reads and writes parts of them quickly
_DEEP = 256  # terms of the sum that a panel has
_PART = 1 << 17  # multiplications that a part has at least
_MOST = 32  # parts that are enough for any number of threads
_COST = {"in place": 0.1, "copied": 0.8, "turned": 0.8}  # of an element, in vectors multiplied


_FUNCTION = """define internal void @{name}({head}) noinline nounwind #0 {{
  {body}
  ret void
}}"""


def _tile_rows(m: int) -> int:
    """Return how many rows a tile has: many, but few beyond the last."""
    return min(range(8, 0, -1), key=lambda r: -(-m // r) * (r + 1))


def _lanes(step: Dot) -> int:
    return lanes_of(KINDS[step.out.aval.dtype.name.removeprefix("u")])


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
    elif step.m > 4 * rows and bk * size >= _FAR:
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
    best: tuple[float, int, int] | None = None
    for across in range(1, min(wide, 2 * wanted) + 1):
        columns = -(-wide // across)
        for down in range(max(1, wanted // across), 2 * wanted // across + 1):
            high = -(-tall // min(down, tall))
            parts = -(-tall // high) * -(-wide // columns)
            each = high * columns * rows * vectors
            each += cost_a * high * rows + cost_b * columns * panel  # type: ignore[assignment]
            # On two threads, and on eight.
            all_parts = parts * step.batch * pieces
            cost = each * (-(-all_parts // 2) + 4 * -(-all_parts // 8))
            if best is None or cost < best[0]:
                best = cost, high, columns
    assert best is not None
    _, high, columns = best
    return min(high * rows, step.m), min(columns * panel, step.n), pieces


def _axes(prefix: str, count: int, place: Sequence[int], first: int) -> dict[str, int]:
    """Return the strides of ``count`` axes from the innermost on, 0 where there are fewer."""
    found = [*reversed(place), *[0] * count][:count]
    return {f"{prefix}{k + first}": n for k, n in enumerate(found)}


def gemm_table(step: Dot, rows: int) -> dict[str, int]:
    """Return what the library reads from the table of a product, by name."""
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
    table = {
        "across": across, "down": down, "pieces": pieces, "m": step.m, "n": step.n, "k": inner,
        "rows": high, "columns": wide, "piece": piece, "depth": depth, "turns": turns,
        "steps": steps, "panel": panel, "a": a.offset, "b": b.offset, "c": c.offset, "ak": a.strides[-1],
        "bk": b.strides[-2], "bn": b.strides[-1], "pack_a": PACKS[packs[0]],
        "pack_b": PACKS[packs[1]], "slots": -(-(HEADER + partial) // 64) * 64, "slot": slot,
        "room": min(64, os.cpu_count() or 1, parts) if slot else 0, "copied": copied,
        "list": listed, "axes": lead, "single": int(single), "r0": step.rows[-1],
        "r1": [1, 1, *step.rows[:-1]][-1],
        **_axes("ar", 3, a.strides[lead:middle], 0), **_axes("cr", 3, c.strides[lead:-1], 0),
        "s1": outer[0], "s2": outer[1], **_axes("as", 3, a.strides[middle:-1], 1),
        **_axes("bs", 3, b.strides[lead:-2], 1),
    }  # fmt: skip
    assert tuple(table) == FIELDS
    for j, count in reversed(list(enumerate(step.batches))):
        strides = {f"{x}{j}": p.strides[j] for x, p in zip("abc", step.places, strict=True)}
        table |= {f"n{j}": count, **strides}
    return table


def _by_openblas(step: Dot) -> bool:
    """Tell whether OpenBLAS makes a product: where vectors have no masks, if it can."""
    (ar, ak), dtype = step.places[0].strides[-2:], step.out.aval.dtype
    single = len(step.rows) == len(step.sums) == 1 and 1 in (ar, ak)
    return single and dtype.kind == "f" and registers()[0] < _MASKED


def dot_code(step: Dot) -> list[tuple[str, Code, dict[str, str]]]:
    """Return the functions of a product in the order in which they run, by name, each with what it
    calls and how that is declared.

    Their parts are blocks of the output, or pieces of its sums. Functions of equal products differ
    in their tables alone, since compiling costs more than reading numbers.
    """
    dtype = step.out.aval.dtype
    if _by_openblas(step):
        code, name, declaration = _library_code(step)
        return [("dot", code, {name: declaration})]
    rows = _tile_rows(step.m)
    table = gemm_table(step, rows)
    symbol = gemm_symbol(dtype.name.removeprefix("u"), rows)
    head, types = "ptr %a, ptr %b, ptr %c, ptr %table, ptr %scratch", "ptr, ptr, ptr, ptr, ptr, i64"
    declared = {symbol: f"declare void @{symbol}({types}, i64)"}
    text = _FUNCTION.format(
        name="dot", head=f"{head}, i64 %lo, i64 %hi",
        body=f"call void @{symbol}({head}, i64 %lo, i64 %hi)",
    )  # fmt: skip
    several = table["pieces"] > 1
    if several:
        declared[f"{symbol}_end"] = f"declare void @{symbol}_end({types})"
        body = f"call void @{symbol}_end({head}, i64 {step.batch})"
        text += "\n\n" + _FUNCTION.format(name="dot_end", head=head, body=body)
    work = step.products * dtype.itemsize // 8
    parts = step.batch * table["down"] * table["across"] * table["pieces"]
    scratch = table["slots"] + table["room"] * table["slot"] if several or table["room"] else 0
    main = Code(text, {}, parts, scratch, several, work, tuple(table.values()))
    if not table["room"]:
        return [("dot", main, declared)]
    free = _FUNCTION.format(
        name="slots", head="ptr %a, ptr %b, ptr %c, ptr %scratch, i64 %lo, i64 %hi",
        body="store i64 0, ptr %scratch, align 8",
    )  # fmt: skip
    return [("slots", Code(free, {}, 1, scratch, False, 1), {}), ("dot", main, declared)]
