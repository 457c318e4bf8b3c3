"""Matrix products: the private OpenBLAS, and the functions that call it block by block."""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from funtorch.openblas import library

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


# What the function of a product reads from its table, in order: blocks of a matrix, blocks across
# it, their sizes; sizes of the product; how far apart matrices, rows of a and columns of b lie.
_SIZES = (
    "blocks", "across", "rows", "columns", "m", "n", "k", "an", "ar", "bn", "bc", "cn", "lda",
    "ldb", "ta", "tb",
)  # fmt: skip


def dot_code(step: Dot) -> tuple[Code, str, str]:
    """Return the function ``dot`` of a product, the function that it calls, its declaration.

    Its parts are blocks of the output, each a product on one thread. All products of a dtype have
    the same function and differ in its table, since compiling costs more than reading numbers.
    """
    dtype = step.out.aval.dtype
    kind = "float" if dtype == np.float32 else "double"
    m, n, k = step.m, step.n, step.k
    rows, columns = _blocks(m, n, k)
    across = -(-n // columns)
    blocks = -(-m // rows) * across
    lda, ldb = (m if step.trans_a else k), (k if step.trans_b else n)
    flags = [_TRANSPOSED if t else _PLAIN for t in (step.trans_a, step.trans_b)]
    steps = (m * k, 1 if step.trans_a else k, k * n, k if step.trans_b else 1, m * n)
    table = (blocks, across, rows, columns, m, n, k, *steps, lda, ldb, *flags)
    gemm = _GEMM[dtype]
    loads = "\n".join(
        f"  %{name}.p = getelementptr i64, ptr %scratch, i64 {at}\n"
        f"  %{name} = load i64, ptr %{name}.p\n"
        f"  %{name}.i = trunc i64 %{name} to i32"
        for at, name in enumerate(_SIZES)
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
  %i = udiv i64 %p, %blocks
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
  %ai = mul i64 %i, %an
  %ad = mul i64 %row, %ar
  %ao = add i64 %ai, %ad
  %bi = mul i64 %i, %bn
  %bs = mul i64 %column, %bc
  %bo = add i64 %bi, %bs
  %ci = mul i64 %i, %cn
  %cr = mul i64 %row, %n
  %cs = add i64 %ci, %cr
  %co = add i64 %cs, %column
  %ap = getelementptr {kind}, ptr %a, i64 %ao
  %bp = getelementptr {kind}, ptr %b, i64 %bo
  %cp = getelementptr {kind}, ptr %c, i64 %co
  call void @{gemm}(i32 {_ROW_MAJOR}, i32 %ta.i, i32 %tb.i, i32 %mm, i32 %nn, i32 %k.i, \
{kind} 1.0, ptr %ap, i32 %lda.i, ptr %bp, i32 %ldb.i, {kind} 0.0, ptr %cp, i32 %n.i)
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
    code = Code(text, least, step.batch * blocks, 0, False, work, table)
    return code, gemm, declaration
