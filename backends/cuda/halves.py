"""Products and convolutions of 16-bit floats as one kernel of our own: fragments of tiles.

As in `tiles`, but pairs of neighbouring terms go to shared memory as they are, and warps multiply
fragments of these (`mma`), 32 rows by 32 columns each, which add up in float32 and are rounded
once.
"""

from __future__ import annotations

import numpy as np

from .code import CudaCode, KernelLaunch
from .memory import memory_type
from .mma import GAP, multiplying, narrowing, widening
from .tiling import Tiled, also, cut

__all__ = ["print_halves"]

_LANES = 128  # threads of a block
_WARP = 32  # rows and columns of a warp
_DEEP = 32  # terms of the sums that are in shared memory at a time
_WORDS = _DEEP // 2
_WIDTH = _WORDS + GAP  # words from one row in shared memory to the next
_NAMES = ("a", "b")


def _shape(m: int, n: int) -> tuple[int, int]:
    """Return how many warps there are down a tile, and across."""
    return (1, 4) if m <= _WARP else (4, 1) if n <= _WARP else (2, 2)


def _load(p: Tiled, which: int, outer: str, side: int, along: bool, index: str) -> str:
    """Write how a piece of an operand goes to shared memory, pairs of terms as words."""
    if along:
        words, others = f"at % {_WORDS}", f"at / {_WORDS}"
    else:
        words, others = f"at / {side}", f"at % {side}"
    first, size, element = (("r0", p.m, p.a), ("c0", p.n, p.b))[which]
    condition, place = element("r", "k") if which == 0 else element("k", "c")
    return f"""      #pragma unroll
      for (int e = 0; e < {_WORDS * side // _LANES}; e++) {{
        const int at = threadIdx.x + {_LANES} * e;
        const int word = {words}, own = {others};
        const {index} {outer} = {first} + own;
        u32 held = 0;
        #pragma unroll
        for (int h = 0; h < 2; h++) {{
          const {index} k = k0 + 2 * word + h;
          u32 v = 0;
          if ({outer} < {size} && k < high{also(condition)}) v = b{p.buffers[which]}[{place}];
          held |= v << 16 * h;
        }}
        s{_NAMES[which]}[own * {_WIDTH} + word] = held;
      }}
"""


def _multiplied(name: str) -> str:
    """Write how a warp multiplies what is in shared memory."""
    row, column = f"(down + own) * {_WIDTH}", f"(right + 8 * j + own) * {_WIDTH}"
    return f"""      #pragma unroll
      for (int s = 0; s < {_WORDS}; s += 8) {{
        u32 x[2][4];
        #pragma unroll
        for (int i = 0; i < 2; i++)
          #pragma unroll
          for (int k = 0; k < 4; k++)
            x[i][k] = sa[{row} + (16 * i + k % 2 * 8) * {_WIDTH} + s + third + k / 2 * 4];
        #pragma unroll
        for (int j = 0; j < 4; j++) {{
          const u32 low = sb[{column} + s + third], last = sb[{column} + s + third + 4];
          #pragma unroll
          for (int i = 0; i < 2; i++) {name}_multiply(total[i][j], x[i], low, last);
        }}
      }}
"""


class _Halves:
    """Prints a product whose fragments warps multiply."""

    def __init__(self, p: Tiled, name: str) -> None:
        self.p, self.name = p, name
        self.down, self.across = _shape(p.m, p.n)
        self.tall, self.broad = self.down * _WARP, self.across * _WARP
        self.cut = cut(p, _DEEP, self.tall, self.broad)
        kind = memory_type(p.dtype)
        given = f"GLOBAL(const {kind}) b0, GLOBAL(const {kind}) b1, GLOBAL({kind}) b2"
        self.head = f"{name}({given}, GLOBAL(u8) scratch)"

    def main(self) -> str:
        """Write the function that makes tiles."""
        p, tall, broad, index = self.p, self.tall, self.broad, self.cut.index
        parts = "\n" + self.cut.parts("float") if self.cut.pieces > 1 else ""
        return f"""extern "C" __global__ void __launch_bounds__({_LANES}) {self.head} {{
  SHARED(u32, sa, 0, {tall * _WIDTH});
  SHARED(u32, sb, {4 * tall * _WIDTH}, {broad * _WIDTH});{parts}
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int own = lane / 4, third = lane % 4;
  const int down = warp / {self.across} * {_WARP}, right = warp % {self.across} * {_WARP};
{self.cut.begin()}
    float total[2][4][4];
    #pragma unroll
    for (int i = 0; i < 2; i++)
      #pragma unroll
      for (int j = 0; j < 4; j++)
        #pragma unroll
        for (int e = 0; e < 4; e++) total[i][j][e] = 0;
    for ({index} k0 = low; k0 < high; k0 += {_DEEP}) {{
{_load(p, 0, "r", tall, p.a_along, index)}
{_load(p, 1, "c", broad, not p.b_along, index)}
      __syncthreads();
{_multiplied(self.name)}
      __syncthreads();
    }}
    #pragma unroll
    for (int i = 0; i < 2; i++)
      #pragma unroll
      for (int j = 0; j < 4; j++)
        #pragma unroll
        for (int e = 0; e < 4; e++) {{
          const {index} r = r0 + down + 16 * i + own + e / 2 * 8;
          const {index} c = c0 + right + 8 * j + 2 * third + e % 2;
          {self.cut.store("total[i][j][e]", f"{self.name}_narrow(total[i][j][e])")}
        }}
  }}
}}"""

    def code(self) -> CudaCode:
        """Return the launches."""
        name, dtype, float32 = self.name, np.dtype(self.p.dtype), np.dtype(np.float32)
        declared: dict[str, str] = {}
        texts = [widening(name, dtype, float32), narrowing(name, dtype, float32, declared)]
        texts += [multiplying(name, dtype), self.main()]
        size = 4 * (self.tall + self.broad) * _WIDTH
        launches = [KernelLaunch(name, self.cut.grid, _LANES, size)]
        if self.cut.pieces > 1:
            text, launch = self.cut.join(self.head, "float", f"{name}_narrow(total)")
            texts.append(text)
            launches.append(launch)
        scratch = self.cut.scratch("float")
        return CudaCode("\n\n".join(texts), tuple(launches), scratch, declared)


def print_halves(p: Tiled, name: str) -> CudaCode:
    """Return a product of 16-bit floats as CUDA C++.

    Args:
        p: the product, whose arrays have one dtype.
        name: what the functions' names begin with.

    Returns:
        The code, whose functions take pointers to both operands, the result and scratch.
    """
    return _Halves(p, name).code()
