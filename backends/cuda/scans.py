"""Cumulative sums and the like along rows, as CUDA C++.

A block goes along a row by tiles: every thread combines a few neighbours, the threads of a warp
combine theirs by shuffles, the warps through shared memory, and what the tiles so far came to is
carried on. Few long rows are cut into parts: a first launch combines each part to one number, a
second one the parts before each part, and then the parts are done as rows are. The order in which
numbers are combined depends on sizes alone.
"""

from __future__ import annotations

from ..plan import Running
from ..scalars.elements import TYPES
from ..scalars.reduce import reduction
from .code import CudaCode, KernelLaunch
from .memory import memory_type
from .schedules import BYTES, THREADS
from .spelling import CudaBlock, operand

__all__ = ["print_running"]

_EACH = 4  # neighbours that a thread combines
_TILE = THREADS * _EACH
_WARPS = THREADS // 32
_FULL = 264  # blocks that keep a GPU busy
_LEAST = 4 * _TILE  # elements of a part
_MOST_ROWS = (1 << 31) - 1
_INT_MAX = 2**31 - (1 << 26)


def _combine(name: str, dtype: object, function: str) -> tuple[str, str, dict[str, str]]:
    """Return the text of the function that combines two numbers, and what it begins with."""
    code, b = reduction(f"reduce_{name}", dtype, False), CudaBlock()  # type: ignore[arg-type]
    kind = TYPES[dtype]  # type: ignore[index]
    (out,) = code.join(b, ["x"], ["y"])
    held = memory_type(dtype)  # type: ignore[arg-type]
    head = f"static __device__ __forceinline__ {held} {function}({held} x, {held} y) {{"
    lines = [head, *b.lines, f"  return {operand(out, kind)};", "}"]
    return "\n".join(lines), operand(code.starts[0], kind), b.declared


def print_running(step: Running, name: str) -> CudaCode:
    """Return a cumulative operation along rows as CUDA C++.

    Args:
        step: the operation, of integers or of floats of 32 or 64 bits.
        name: what the functions' names begin with.

    Returns:
        The code, whose functions take pointers to x, out and scratch.
    """
    dtype, rows, n = step.out.aval.dtype, int(step.rows), int(step.n)
    kind, function = memory_type(dtype), f"{name}_combine"
    combine, start, declared = _combine(step.name, dtype, function)
    parts = 1
    if rows < _FULL and n >= 2 * _LEAST:
        parts = min(-(-_FULL // rows), n // _LEAST)
    piece = -(-n // (parts * _TILE)) * _TILE
    parts = -(-n // piece)
    index = "s64" if max(rows * n, rows * parts) > _INT_MAX else "int"
    at = f"row * {n} + ({n - 1} - p)" if step.reverse else f"row * {n} + p"
    given = f"(GLOBAL(const {kind}) b0, GLOBAL({kind}) b1, GLOBAL(u8) scratch) {{"
    part = f"  PART({kind}, part, scratch, 0, {rows * parts});\n" if parts > 1 else ""
    where = f"""  SHARED({kind}, s, 0, {_WARPS});
{part}  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const {index} row = blockIdx.x;
  const {index} low = ({index})blockIdx.y * {piece};
  const {index} high = low + {piece} < {n} ? low + {piece} : {n};"""
    head = f'extern "C" __global__ void __launch_bounds__({THREADS}) {name}'
    whole = f"""{head}{given}
{where}
  {kind} carry = {f"part[row * {parts} + blockIdx.y]" if parts > 1 else start};
  for ({index} base = low; base < high; base += {_TILE}) {{
    {kind} x[{_EACH}];
    {kind} total = {start};
    #pragma unroll
    for (int e = 0; e < {_EACH}; e++) {{
      const {index} p = base + {_EACH} * threadIdx.x + e;
      {kind} v = {start};
      if (p < high) v = b0[{at}];
      total = {function}(total, v);
      x[e] = total;
    }}
    #pragma unroll
    for (int d = 1; d < 32; d *= 2) {{
      const {kind} other = shuffle_up(total, d);
      if (lane >= d) total = {function}(other, total);
    }}
    if (lane == 31) s[warp] = total;
    __syncthreads();
    {kind} before = carry;
    for (int w = 0; w < {_WARPS}; w++) {{
      const {kind} other = s[w];
      if (w < warp) before = {function}(before, other);
      carry = {function}(carry, other);
    }}
    const {kind} other = shuffle_up(total, 1);
    if (lane > 0) before = {function}(before, other);
    #pragma unroll
    for (int e = 0; e < {_EACH}; e++) {{
      const {index} p = base + {_EACH} * threadIdx.x + e;
      if (p < high) b1[{at}] = {function}(before, x[e]);
    }}
    __syncthreads();
  }}
}}"""
    size = _WARPS * BYTES[kind]
    main = KernelLaunch(name, (rows, parts, 1), THREADS, size)
    if parts == 1:
        return CudaCode("\n\n".join([combine, whole]), (main,), 0, declared)
    first = f"""{head}_parts{given}
{where}
  {kind} total = {start};
  for ({index} p = low + threadIdx.x; p < high; p += {THREADS}) total = {function}(total, b0[{at}]);
  #pragma unroll
  for (int d = 16; d > 0; d /= 2) total = {function}(total, shuffle_xor(total, d));
  if (lane == 0) s[warp] = total;
  __syncthreads();
  if (threadIdx.x == 0) {{
    for (int w = 1; w < {_WARPS}; w++) total = {function}(total, s[w]);
    part[row * {parts} + blockIdx.y] = total;
  }}
}}"""
    between = f"""{head}_before{given}
{part}  const {index} row = ({index})blockIdx.x * {THREADS} + threadIdx.x;
  if (row < {rows}) {{
    {kind} total = {start};
    for (int k = 0; k < {parts}; k++) {{
      const {kind} held = part[row * {parts} + k];
      part[row * {parts} + k] = total;
      total = {function}(total, held);
    }}
  }}
}}"""
    launches = (
        KernelLaunch(f"{name}_parts", (rows, parts, 1), THREADS, size),
        KernelLaunch(f"{name}_before", (-(-rows // THREADS), 1, 1), THREADS),
        main,
    )
    scratch = -(-rows * parts * BYTES[kind] // 64) * 64
    text = "\n\n".join([combine, first, between, whole])
    return CudaCode(text, launches, scratch, declared)
