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
from .code import INT_MAX, CudaCode, KernelLaunch
from .memory import memory_type
from .schedules import BYTES, FULL, THREADS
from .spelling import CudaBlock, operand

__all__ = ["in_warps", "print_running"]

_EACH = 4  # neighbours that a thread combines
_TILE = THREADS * _EACH
_WARPS = THREADS // 32
_LEAST = 4 * _TILE  # elements of a part


def _combine(name: str, dtype: object, function: str) -> tuple[str, str, dict[str, str]]:
    """Return the text of the function that combines two numbers, and what it begins with."""
    code, b = reduction(f"reduce_{name}", dtype, False), CudaBlock()  # type: ignore[arg-type]
    kind = TYPES[dtype]  # type: ignore[index]
    (out,) = code.join(b, ["x"], ["y"])
    held = memory_type(dtype)  # type: ignore[arg-type]
    head = f"static __device__ __forceinline__ {held} {function}({held} x, {held} y) {{"
    lines = [head, *b.lines, f"  return {operand(out, kind)};", "}"]
    return "\n".join(lines), operand(code.starts[0], kind), b.declared


def in_warps(kind: str, combined: str, total: str = "total", indent: str = "    ") -> str:
    """Write that each thread has what those before it in its warp and itself come to, and that
    warps leave theirs in ``s``.

    Args:
        kind: the C type of numbers.
        combined: of ``other``, which comes before, and the thread's own ``total``.
    """
    text = f"""#pragma unroll
for (int d = 1; d < 32; d *= 2) {{
  const {kind} other = shuffle_up({total}, d);
  if (lane >= d) {total} = {combined};
}}
if (lane == 31) s[warp] = {total};
__syncthreads();"""
    return "\n".join(indent + line for line in text.splitlines())


class _Scan:
    """Prints a cumulative operation along rows."""

    def __init__(self, step: Running, name: str) -> None:
        self.name, self.rows, self.n = name, int(step.rows), int(step.n)
        dtype = step.out.aval.dtype
        self.kind, self.function = memory_type(dtype), f"{name}_combine"
        self.combine, self.start, self.declared = _combine(step.name, dtype, self.function)
        parts = 1
        if self.rows < FULL and self.n >= 2 * _LEAST:
            parts = min(-(-FULL // self.rows), self.n // _LEAST)
        self.piece = -(-self.n // (parts * _TILE)) * _TILE
        self.parts = -(-self.n // self.piece)
        reach = max(self.rows * self.n, self.rows * self.parts)
        self.index = "s64" if reach > INT_MAX else "int"
        last = self.n - 1
        self.at = f"row * {self.n} + " + (f"({last} - p)" if step.reverse else "p")

    # ---------------------------------------------------------------- what functions begin with
    def head(self, suffix: str) -> str:
        bounds = f'extern "C" __global__ void __launch_bounds__({THREADS})'
        given = f"GLOBAL(const {self.kind}) b0, GLOBAL({self.kind}) b1, GLOBAL(u8) scratch"
        return f"{bounds} {self.name}{suffix}({given}) {{"

    @property
    def left(self) -> str:
        """The declaration of what parts of rows come to."""
        if self.parts == 1:
            return ""
        return f"  PART({self.kind}, part, scratch, 0, {self.rows * self.parts});\n"

    @property
    def where(self) -> str:
        """Where a block's part of a row is."""
        return f"""  SHARED({self.kind}, s, 0, {_WARPS});
{self.left}  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const {self.index} row = blockIdx.x;
  const {self.index} low = ({self.index})blockIdx.y * {self.piece};
  const {self.index} high = low + {self.piece} < {self.n} ? low + {self.piece} : {self.n};"""

    # ---------------------------------------------------------------- functions
    def main(self) -> str:
        """Write the function that makes the results of a part of a row."""
        kind, index, function, start = self.kind, self.index, self.function, self.start
        carry = f"part[row * {self.parts} + blockIdx.y]" if self.parts > 1 else start
        return f"""{self.head("")}
{self.where}
  {kind} carry = {carry};
  for ({index} base = low; base < high; base += {_TILE}) {{
    {kind} x[{_EACH}];
    {kind} total = {start};
    #pragma unroll
    for (int e = 0; e < {_EACH}; e++) {{
      const {index} p = base + {_EACH} * threadIdx.x + e;
      {kind} v = {start};
      if (p < high) v = b0[{self.at}];
      total = {function}(total, v);
      x[e] = total;
    }}
{in_warps(kind, f"{function}(other, total)")}
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
      if (p < high) b1[{self.at}] = {function}(before, x[e]);
    }}
    __syncthreads();
  }}
}}"""

    def pieces(self) -> str:
        """Write the function that leaves what parts come to."""
        kind, function = self.kind, self.function
        return f"""{self.head("_parts")}
{self.where}
  {kind} total = {self.start};
  for ({self.index} p = low + threadIdx.x; p < high; p += {THREADS})
    total = {function}(total, b0[{self.at}]);
  #pragma unroll
  for (int d = 16; d > 0; d /= 2) total = {function}(total, shuffle_xor(total, d));
  if (lane == 0) s[warp] = total;
  __syncthreads();
  if (threadIdx.x == 0) {{
    for (int w = 1; w < {_WARPS}; w++) total = {function}(total, s[w]);
    part[row * {self.parts} + blockIdx.y] = total;
  }}
}}"""

    def before(self) -> str:
        """Write the function that says what comes before each part."""
        return f"""{self.head("_before")}
{self.left}  const {self.index} row = ({self.index})blockIdx.x * {THREADS} + threadIdx.x;
  if (row < {self.rows}) {{
    {self.kind} total = {self.start};
    for (int k = 0; k < {self.parts}; k++) {{
      const {self.kind} held = part[row * {self.parts} + k];
      part[row * {self.parts} + k] = total;
      total = {self.function}(total, held);
    }}
  }}
}}"""

    def code(self) -> CudaCode:
        size = _WARPS * BYTES[self.kind]
        grid = self.rows, self.parts, 1
        main = KernelLaunch(self.name, grid, THREADS, size)
        if self.parts == 1:
            return CudaCode(f"{self.combine}\n\n{self.main()}", (main,), 0, self.declared)
        first = KernelLaunch(f"{self.name}_parts", grid, THREADS, size)
        second = KernelLaunch(f"{self.name}_before", (-(-self.rows // THREADS), 1, 1), THREADS)
        text = "\n\n".join([self.combine, self.pieces(), self.before(), self.main()])
        scratch = -(-self.rows * self.parts * BYTES[self.kind] // 64) * 64
        return CudaCode(text, (first, second, main), scratch, self.declared)


def print_running(step: Running, name: str) -> CudaCode:
    """Return a cumulative operation along rows as CUDA C++.

    Args:
        step: the operation, of integers or of floats of 32 or 64 bits.
        name: what the functions' names begin with.

    Returns:
        The code, whose functions take pointers to x, out and scratch.
    """
    return _Scan(step, name).code()
