"""Fragments of matrices of 16-bit floats, and the instruction that multiplies them.

A warp multiplies 16 x 16 by 16 x 8 numbers that lie in its registers (`mma.m16n8k16`), and adds
them to 16 x 8 float32 numbers. Lane l has, with g = l / 4 and c = l % 4,

    of a (16 x 16)   rows g and g + 8, columns 2c, 2c + 1 and, in its last two registers, 8 more
    of b (16 x 8)    rows 2c, 2c + 1, and 8 more, of column g
    of d (16 x 8)    rows g and g + 8, columns 2c and 2c + 1

Where there is no such instruction (before sm_80, and on the CPU), the same fragments are multiplied
by shuffles.

References:
    NVIDIA, "PTX ISA", "Matrix Fragments for mma.m16n8k16 with floating point type".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..scalars.elements import TYPES
from .memory import from_memory, memory_type, to_memory
from .spelling import CudaBlock, operand

__all__ = ["GAP", "HEAD", "function", "multiplying", "narrowing", "widening"]

GAP = 4
"""Words between rows of 8, 16, ... words in shared memory: 8 rows by 4 words lie in all banks."""

HEAD = "static __device__ __forceinline__"


def function(
    head: str, write: Callable[[CudaBlock], str], declared: dict[str, str] | None = None
) -> str:
    """Return the text of a function of what is written, and note what it needs."""
    b = CudaBlock()
    if declared is not None:
        b.declared = declared
    out = write(b)
    return "\n".join([f"{head} {{", *b.lines, f"  return {out};", "}"])


def widening(name: str, dtype: np.dtype, wide: np.dtype) -> str:
    """Return a function ``name_wide`` from what memory holds to a number."""
    kind = TYPES[wide]
    head = f"{HEAD} {kind} {name}_wide({memory_type(dtype)} x)"
    return function(head, lambda b: operand(from_memory(b, ["x"], dtype), kind))


def narrowing(name: str, dtype: np.dtype, wide: np.dtype, declared: dict[str, str]) -> str:
    """Return a function ``name_narrow`` from a number to what memory holds."""
    head = f"{HEAD} {memory_type(dtype)} {name}_narrow({TYPES[wide]} x)"
    return function(head, lambda b: to_memory(b, "x", dtype)[0], declared)


def multiplying(name: str, dtype: np.dtype) -> str:
    """Return functions of fragments: ``name_pack`` makes a word of two numbers, ``name_multiply``
    adds the product of two fragments to one; they need `widening` and `narrowing`."""
    kind = "f16" if np.dtype(dtype) == np.float16 else "bf16"
    cells = ", ".join(f'"+f"(d[{k}])' for k in range(4))
    given = ", ".join([*(f'"r"(a[{k}])' for k in range(4)), '"r"(b0)', '"r"(b1)'])
    return f"""#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
{HEAD} u32 {name}_pack(float x, float y) {{
  u32 out;
  asm("cvt.rn.{kind}x2.f32 %0, %1, %2;" : "=r"(out) : "f"(y), "f"(x));
  return out;
}}
{HEAD} void {name}_multiply(
    float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {{
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.{kind}.{kind}.f32 "
               "{{%0, %1, %2, %3}}, {{%4, %5, %6, %7}}, {{%8, %9}}, {{%0, %1, %2, %3}};"
               : {cells} : {given});
}}
#else
{HEAD} u32 {name}_pack(float x, float y) {{
  return {name}_narrow(x) | (u32){name}_narrow(y) << 16;
}}
{HEAD} float {name}_twice(u32 x, u32 y, float sum) {{
  sum = fmaf({name}_wide((u16)x), {name}_wide((u16)y), sum);
  return fmaf({name}_wide((u16)(x >> 16)), {name}_wide((u16)(y >> 16)), sum);
}}
{HEAD} void {name}_multiply(
    float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {{
  const int lane = threadIdx.x % 32, own = lane / 4, third = lane % 4;
  for (int h = 0; h < 4; h++) {{
    u32 x[4], y[2][2];
    for (int k = 0; k < 4; k++) x[k] = __shfl_sync(ALL, a[k], 4 * own + h);
    for (int e = 0; e < 2; e++) {{
      y[e][0] = __shfl_sync(ALL, b0, 4 * (2 * third + e) + h);
      y[e][1] = __shfl_sync(ALL, b1, 4 * (2 * third + e) + h);
    }}
    for (int e = 0; e < 2; e++)
      for (int i = 0; i < 2; i++)
        d[2 * i + e] = {name}_twice(x[i + 2], y[e][1], {name}_twice(x[i], y[e][0], d[2 * i + e]));
  }}
}}
#endif"""
