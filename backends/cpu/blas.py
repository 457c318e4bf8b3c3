"""Matrix products: the private OpenBLAS, and the functions that call it block by block."""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from funtorch import openblas

from ..kernel import Affine
from ..plan import Dot
from .llvm import Code

__all__ = ["blas_address", "dot_code"]

_LETTERS = {"float32": "s", "float64": "d", "complex64": "c", "complex128": "z"}
_GEMM = {np.dtype(name): f"scipy_cblas_{letter}gemm" for name, letter in _LETTERS.items()}
# Real factors go by value, complex ones by address.
_ONE = "@one_{0} = private unnamed_addr constant [2 x {0}] [{0} 1.0, {0} 0.0], align 16"
_NONE = "@none_{0} = private unnamed_addr constant [2 x {0}] zeroinitializer, align 16"
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
        "lda": _leading(a, step.trans_a, step.m, step.k),
        "ldb": _leading(b, step.trans_b, step.k, step.n),
        "ldc": _leading(c, False, step.m, step.n),
        "ta": _TRANSPOSED if step.trans_a else _PLAIN,
        "tb": _TRANSPOSED if step.trans_b else _PLAIN,
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


def dot_code(step: Dot) -> tuple[Code, str, str]:
    """Return the function ``dot`` of a product, the function that it calls, its declaration.

    Its parts are blocks of the output, each a product on one thread. All products of a dtype and a
    number of batch axes have the same function and differ in its table, since compiling costs more
    than reading numbers.
    """
    dtype = step.out.aval.dtype
    kind = part = "float" if dtype.char in "fF" else "double"
    factors = f"{kind} 1.0", f"{kind} 0.0"
    least = {"llvm.smin.i64": "declare i64 @llvm.smin.i64(i64, i64)"}
    if dtype.kind == "c":
        kind, factors = f"{{{part}, {part}}}", (f"ptr @one_{part}", f"ptr @none_{part}")
        least |= {f"@one_{part}": _ONE.format(part), f"@none_{part}": _NONE.format(part)}
    given = factors[0].split()[0]
    table, gemm = _table(step), _GEMM[dtype]
    # Arguments of the function have the names a, b, c: where they begin is a.0, b.0, c.0.
    names = [f"{name}.0" if name in ("a", "b", "c") else name for name in table]
    loads = "\n".join(
        f"  %{name}.p = getelementptr i64, ptr %scratch, i64 {at}\n"
        f"  %{name} = load i64, ptr %{name}.p\n"
        f"  %{name}.i = trunc i64 %{name} to i32"
        for at, name in enumerate(names)
    )
    text = f"""define internal void @dot(ptr %a, ptr %b, ptr %c, ptr %scratch, i64 %lo, i64 %hi) \
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
{factors[0]}, ptr %ap, i32 %lda.i, ptr %bp, i32 %ldb.i, {factors[1]}, ptr %cp, i32 %ldc.i)
  %after = add i64 %p, 1
  br label %head
exit:
  ret void
}}"""
    declaration = (
        f"declare void @{gemm}(i32, i32, i32, i32, i32, i32, {given}, ptr, i32, ptr, i32, {given}, "
        "ptr, i32)"
    )
    # A multiplication of a product takes a fraction of a scalar operation's time.
    work = step.batch * step.m * step.n * step.k // (1 if dtype.kind == "c" else 4)
    parts = step.batch * table["blocks"]
    return Code(text, least, parts, 0, False, work, tuple(table.values())), gemm, declaration
