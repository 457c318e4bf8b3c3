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
_LEAST = 21  # a product of 2**24 multiplications is 2 blocks, one of 2**28 is 4, and so on
_EDGE = 64  # least rows and columns of a block


@functools.cache
def blas_address(name: str) -> int:
    """Return the address of a function of the library."""
    address = ctypes.cast(getattr(library(), name), ctypes.c_void_p).value
    assert address is not None
    return address


def _blocks(m: int, n: int, k: int) -> tuple[int, int]:
    """Return the rows and columns of the blocks that a product is made of, by its size alone.

    Every block packs its operands anew, which costs some percent: so there are not many.
    """
    rows, columns, wanted = m, n, 1 << max(0, ((m * n * k).bit_length() - _LEAST) // 4)
    while -(-m // rows) * -(-n // columns) < wanted and max(rows, columns) >= 2 * _EDGE:
        if rows >= columns:
            rows = -(-rows // 2)
        else:
            columns = -(-columns // 2)
    return rows, columns


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
    lda, ldb = (m if step.trans_a else k), (k if step.trans_b else n)
    flags = ", ".join(f"i32 {_TRANSPOSED if t else _PLAIN}" for t in (step.trans_a, step.trans_b))
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
  %i = udiv i64 %p, {blocks}
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
  %ai = mul i64 %i, {m * k}
  %ar = mul i64 %row, {1 if step.trans_a else k}
  %ao = add i64 %ai, %ar
  %bi = mul i64 %i, {k * n}
  %bs = mul i64 %column, {k if step.trans_b else 1}
  %bo = add i64 %bi, %bs
  %ci = mul i64 %i, {m * n}
  %cr = mul i64 %row, {n}
  %cs = add i64 %ci, %cr
  %co = add i64 %cs, %column
  %ap = getelementptr {kind}, ptr %a, i64 %ao
  %bp = getelementptr {kind}, ptr %b, i64 %bo
  %cp = getelementptr {kind}, ptr %c, i64 %co
  call void @{gemm}(i32 {_ROW_MAJOR}, {flags}, i32 %mm, i32 %nn, i32 {k}, {kind} 1.0, \
ptr %ap, i32 {lda}, ptr %bp, i32 {ldb}, {kind} 0.0, ptr %cp, i32 {n})
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
