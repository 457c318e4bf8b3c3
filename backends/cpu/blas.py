"""Matrix products: the private OpenBLAS, and the functions that call it block by block."""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from funtorch.openblas import library

from ..kernel import Affine
from ..plan import Dot
from .llvm import Code

__all__ = ["blas_address", "dot_code"]

_GEMM = {np.dtype("float32"): "scipy_cblas_sgemm", np.dtype("float64"): "scipy_cblas_dgemm"}
_ROW_MAJOR, _PLAIN, _TRANSPOSED = 101, 111, 112
_BLOCK = 1 << 24  # multiplications in one block of a product, about
_MOST = 64  # blocks of one product
_EDGE = 64  # least rows and columns of a block


@functools.cache
def blas_address(name: str) -> int:
    """Return the address of a function of the library."""
    address = ctypes.cast(getattr(library(), name), ctypes.c_void_p).value
    assert address is not None
    return address


def _blocks(m: int, n: int, k: int) -> tuple[int, int]:
    """Return the rows and columns of the blocks that a product is made of, by its size alone."""
    rows, columns = m, n
    while (
        -(-m // rows) * -(-n // columns) < _MOST
        and rows * columns * k >= 2 * _BLOCK
        and max(rows, columns) >= 2 * _EDGE
    ):
        if rows >= columns:
            rows = -(-rows // 2)
        else:
            columns = -(-columns // 2)
    return rows, columns


def _leading(place: Affine, transposed: bool, rows: int, columns: int) -> int:
    """Return the distance of a matrix's rows in memory, of its columns if it is transposed."""
    down, right = place.strides[-2:]
    return max(right, rows, 1) if transposed else max(down, columns, 1)


def _batch_numbers(sizes: tuple[int, ...]) -> str:
    """Return the code that splits ``%batch`` into the numbers ``%i0``, ``%i1`` ... of its axes."""
    lines, rest = [], "%batch"
    for k in reversed(range(len(sizes))):
        lines.append(f"  %i{k} = urem i64 {rest}, {sizes[k]}")
        lines.append(f"  %rest{k} = udiv i64 {rest}, {sizes[k]}")
        rest = f"%rest{k}"
    return "\n".join(lines)


def _place(which: str, place: Affine, row: str | None, column: str | None) -> str:
    """Return the code of ``%<which>o``, where the block of a matrix begins."""
    names = [f"%i{k}" for k in range(len(place.strides) - 2)]
    lines, total = [], str(place.offset)
    for k, (name, stride) in enumerate(zip([*names, row, column], place.strides, strict=True)):
        if name is not None and stride:
            lines.append(f"  %{which}m{k} = mul i64 {name}, {stride}")
            lines.append(f"  %{which}s{k} = add i64 {total}, %{which}m{k}")
            total = f"%{which}s{k}"
    lines.append(f"  %{which}o = add i64 {total}, 0")
    return "\n".join(lines)


def dot_code(step: Dot) -> tuple[Code, str, str]:
    """Return the function ``dot`` of a product, the function that it calls, its declaration.

    Its parts are blocks of the output, each a product on one thread.
    """
    dtype = step.out.aval.dtype
    kind = "float" if dtype == np.float32 else "double"
    m, n, k = step.m, step.n, step.k
    rows, columns = _blocks(m, n, k)
    across = -(-n // columns)
    blocks = -(-m // rows) * across
    flags = ", ".join(f"i32 {_TRANSPOSED if t else _PLAIN}" for t in (step.trans_a, step.trans_b))
    lda = _leading(step.places[0], step.trans_a, m, k)
    ldb = _leading(step.places[1], step.trans_b, k, n)
    ldc = _leading(step.places[2], False, m, n)
    a, b, c = step.places
    places = "\n".join(
        [
            _batch_numbers(step.batches),
            _place("a", a, "%row", None),
            _place("b", b, None, "%column"),
            _place("c", c, "%row", "%column"),
        ]
    )
    gemm = _GEMM[dtype]
    text = f"""define internal void @dot(ptr %a, ptr %b, ptr %c, ptr %scratch, i64 %lo, i64 %hi) \
noinline nounwind #0 {{
entry:
  br label %head
head:
  %p = phi i64 [ %lo, %entry ], [ %after, %body ]
  %more = icmp slt i64 %p, %hi
  br i1 %more, label %body, label %exit
body:
  %batch = udiv i64 %p, {blocks}
  %q = urem i64 %p, {blocks}
  %r = udiv i64 %q, {across}
  %s = urem i64 %q, {across}
  %row = mul i64 %r, {rows}
  %column = mul i64 %s, {columns}
  %below = sub i64 {m}, %row
  %right = sub i64 {n}, %column
  %high = call i64 @llvm.smin.i64(i64 %below, i64 {rows})
  %wide = call i64 @llvm.smin.i64(i64 %right, i64 {columns})
  %mm = trunc i64 %high to i32
  %nn = trunc i64 %wide to i32
{places}
  %ap = getelementptr {kind}, ptr %a, i64 %ao
  %bp = getelementptr {kind}, ptr %b, i64 %bo
  %cp = getelementptr {kind}, ptr %c, i64 %co
  call void @{gemm}(i32 {_ROW_MAJOR}, {flags}, i32 %mm, i32 %nn, i32 {k}, {kind} 1.0, \
ptr %ap, i32 {lda}, ptr %bp, i32 {ldb}, {kind} 0.0, ptr %cp, i32 {ldc})
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
    work = step.batch * m * n * k // 8
    return Code(text, least, step.batch * blocks, 0, False, work), gemm, declaration
