"""Sorts of rows of unsigned integers as CUDA C++: by ranks, by digits in a block, by digits.

    rows of up to 32       every element counts how many of its row come before it
    rows that a block holds  by digits of four bits, the least important first, in shared memory
    longer rows            the same by launches: blocks count their digits, one launch says where
                           each digit of each block begins, and blocks move their elements there

Each thread has neighbouring elements and moves them in order, and counts are summed by digit, then
by thread, then by block: so equal digits keep their order, whatever comes first.

References:
    N. Satish, M. Harris, M. Garland, "Designing efficient sorting algorithms for manycore GPUs",
    2009 (radix sort by counting, a prefix sum and moving).
"""

from __future__ import annotations

from ..plan import Sort
from .code import INT_MAX, CudaCode, KernelLaunch
from .memory import memory_type
from .scans import in_warps
from .schedules import BYTES, THREADS

__all__ = ["print_sort"]

_BRIEF = 32  # elements up to which a row is sorted by ranks
_BITS = 4
_DIGITS = 1 << _BITS
_EACH = 8  # elements of a thread
_TILE = THREADS * _EACH
_WARPS = THREADS // 32
_IN_WARPS = in_warps("u32", "other + total")

# A block's digits in the order of digit, then thread: `c` holds a count for each, and afterwards
# where its elements begin. Every thread sums the counts of neighbours, warps sum theirs.
_COUNTED = f"""    #pragma unroll
    for (int d = 0; d < {_DIGITS}; d++) c[d * {THREADS} + threadIdx.x] = 0;
    #pragma unroll
    for (int e = 0; e < {_EACH}; e++)
      if (first + e < count) {{
        const int d = DIGIT(x[e]);
        c[d * {THREADS} + threadIdx.x] = c[d * {THREADS} + threadIdx.x] + 1;
      }}
    __syncthreads();
    u32 own = 0;
    #pragma unroll
    for (int d = 0; d < {_DIGITS}; d++) own += c[threadIdx.x * {_DIGITS} + d];
    u32 total = own;
{_IN_WARPS}
    u32 before = total - own;
    for (int w = 0; w < warp; w++) before += s[w];
    #pragma unroll
    for (int d = 0; d < {_DIGITS}; d++) {{
      const u32 held = c[threadIdx.x * {_DIGITS} + d];
      c[threadIdx.x * {_DIGITS} + d] = before;
      before += held;
    }}
    __syncthreads();"""


class _Printer:
    """Prints one sort."""

    def __init__(self, step: Sort, name: str) -> None:
        self.name, self.rows, self.n = name, int(step.rows), int(step.n)
        self.dtype = step.out.aval.dtype
        self.kind = memory_type(self.dtype)
        self.low, self.high, self.tie = step.low, step.high, step.tie
        self.launches: list[KernelLaunch] = []
        self.index = "s64" if self.rows * self.n > INT_MAX else "int"

    def head(self, suffix: str) -> str:
        """Return the beginning of a function."""
        given = f"GLOBAL(const {self.kind}) b0, GLOBAL({self.kind}) b1, GLOBAL(u8) scratch"
        bounds = f'extern "C" __global__ void __launch_bounds__({THREADS})'
        return f"{bounds} {self.name}{suffix}({given}) {{"

    def key(self, x: str) -> str:
        """Return the expression of what an element is sorted by."""
        kind = self.kind
        if self.tie is not None:
            whole = (1 << 8 * self.dtype.itemsize) - 1
            x = f"({kind})({x} == {(self.tie + 1) & whole}ull ? {self.tie}ull : {x})"
        mask = (1 << (self.high - self.low)) - 1
        return f"(({kind})({x} >> {self.low}) & {mask}ull)"

    def digit(self) -> str:
        """Return the macro of the digit of an element that begins at bit ``shift`` of its key."""
        return f"#undef DIGIT\n#define DIGIT(v) (int)({self.key('(v)')} >> shift & {_DIGITS - 1})"

    def code(self) -> CudaCode:
        if self.n <= _BRIEF:
            return self.ranks()
        if self.n <= _TILE:
            return self.in_blocks()
        return self.by_launches()

    def ranks(self) -> CudaCode:
        """Write a sort in which every thread finds the place of one element."""
        n, kind, index = self.n, self.kind, self.index
        count = self.rows * n
        text = f"""{self.head("")}
  const {index} at = ({index})blockIdx.x * {THREADS} + threadIdx.x;
  if (at < {count}) {{
    const {index} row = at / {n} * {n};
    const {kind} own = b0[at];
    const {kind} mine = (({kind}){self.key("own")});
    int before = 0;
    for (int k = 0; k < {n}; k++) {{
      const {kind} other = b0[row + k];
      const {kind} its = (({kind}){self.key("other")});
      before += its < mine || (its == mine && row + k < at);
    }}
    b1[row + before] = own;
  }}
}}"""
        return CudaCode(text, (KernelLaunch(self.name, (-(-count // THREADS), 1, 1), THREADS),))

    def _shared(self, keys: int) -> tuple[str, int]:
        """Return the declarations of shared memory, and its bytes."""
        lines, at = [], 0
        sizes = (("u32", "c", _DIGITS * THREADS), ("u32", "s", _WARPS), (self.kind, "held", keys))
        for kind, name, count in sizes:
            if count:
                lines.append(f"  SHARED({kind}, {name}, {at}, {count});")
                at += -(-BYTES[kind] * count // 16) * 16
        lines.append("  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;")
        lines.append(f"  const int first = {_EACH} * threadIdx.x;")
        return "\n".join(lines), at

    def in_blocks(self) -> CudaCode:
        """Write a sort in which a block has a row in its shared memory."""
        declared, size = self._shared(_TILE)
        n, index = self.n, self.index
        lines = [
            self.digit(),
            self.head(""),
            declared,
            f"  const int count = {n};",
            f"  {self.kind} x[{_EACH}];",
            f"  for ({index} row = blockIdx.x; row < {self.rows}; row += gridDim.x) {{",
            "    #pragma unroll",
            f"    for (int e = 0; e < {_EACH}; e++)",
            f"      if (first + e < {n}) x[e] = b0[row * {n} + first + e];",
        ]
        lines += [
            "    #pragma unroll 1",
            f"    for (int shift = 0; shift < {self.high - self.low}; shift += {_BITS}) {{",
            _COUNTED,
            "    #pragma unroll",
            f"    for (int e = 0; e < {_EACH}; e++)",
            "      if (first + e < count) {",
            f"        const int d = DIGIT(x[e]) * {THREADS} + threadIdx.x;",
            "        const u32 to = c[d];",
            "        c[d] = to + 1;",
            "        held[to] = x[e];",
            "      }",
            "    __syncthreads();",
            "    #pragma unroll",
            f"    for (int e = 0; e < {_EACH}; e++)",
            "      if (first + e < count) x[e] = held[first + e];",
            "    __syncthreads();",
            "    }",
            "    #pragma unroll",
            f"    for (int e = 0; e < {_EACH}; e++)",
            f"      if (first + e < {n}) b1[row * {n} + first + e] = x[e];",
            "  }",
            "}",
        ]
        grid = min(self.rows, (1 << 31) - 1), 1, 1
        return CudaCode("\n".join(lines), (KernelLaunch(self.name, grid, THREADS, size),))

    def by_launches(self) -> CudaCode:
        """Write a sort by launches: for each digit one that counts, one that sums, one that moves.

        Elements go from x to the result and to scratch and back, and end up in the result.
        """
        blocks = -(-self.n // _TILE)
        declared, size = self._shared(0)
        width = -(-BYTES[self.kind] * self.rows * self.n // 64) * 64
        counts = self.rows * _DIGITS * blocks
        end = width + -(-4 * counts // 64) * 64
        place = f"  PART(u32, place, scratch, {width}, {counts});"
        # The bit at which the digit at hand begins, so that all turns are the same functions.
        turn = f"  PART(int, turn, scratch, {end}, 1);"
        held = {
            "index": self.index,
            "threads": THREADS,
            "digits": _DIGITS,
            "each": _EACH,
            "warps": _WARPS,
            "tile": _TILE,
            "in_warps": _IN_WARPS,
            "counts": _DIGITS * blocks,
            "blocks": blocks,
            "n": self.n,
            "kind": self.kind,
            "place": f"place[(row * {_DIGITS} + d) * {blocks} + block]",
        }
        begin = "\n".join([declared, place, _READ.format(**held), _COUNTED])
        head = f"static __device__ __noinline__ void {self.name}"
        given = f"GLOBAL(const {self.kind}) source"
        lines = [
            self.digit(),
            f"{head}_counted({given}, GLOBAL(u8) scratch, int shift) {{",
            begin,
            _COUNTS.format(**held),
            f"{head}_moved({given}, GLOBAL({self.kind}) target, GLOBAL(u8) scratch, int shift) {{",
            begin,
            _MOVES.format(**held),
            self.head("_sum"),
            f"  SHARED(u32, s, 0, {_WARPS});",
            "  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;",
            place,
            turn,
            f"  if (blockIdx.x == 0 && threadIdx.x == 0) turn[0] = turn[0] + {_BITS};",
            _SUM.format(**held),
            *self.turns(turn, (self.rows * blocks, 1, 1), size),
        ]
        return CudaCode("\n".join(lines), tuple(self.launches), end + 64)

    def turns(self, turn: str, grid: tuple[int, int, int], size: int) -> list[str]:
        """Return the functions of all turns, a turn for each digit, and note their launches.

        Args:
            turn: the declaration of what tells them where their digit begins.
            grid: blocks of the launches; ``size``: their shared memory.
        """
        name, lines = self.name, list[str]()
        other = f"  PART({self.kind}, other, scratch, 0, {self.rows * self.n});"
        turns = -(-(self.high - self.low) // _BITS)
        source, written = "b0", set()
        for k in range(turns):
            # The last turn writes the result; those before go back and forth.
            target = "other" if (turns - k) % 2 == 0 else "b1"
            which = "" if k == 0 else "_there" if target == "b1" else "_back"
            if which not in written:
                start = "  if (blockIdx.x == 0 && threadIdx.x == 0) turn[0] = 0;" if k == 0 else ""
                now, then = ("0", "0") if k == 0 else ("turn[0]", f"turn[0] - {_BITS}")
                count = f"  {name}_counted({source}, scratch, {now});"
                move = f"  {name}_moved({source}, {target}, scratch, {then});"
                lines += [self.head(f"_count{which}"), other, turn, start, count, "}"]
                lines += [self.head(f"_move{which}"), other, turn, move, "}"]
            written.add(which)
            self.launches += [
                KernelLaunch(f"{name}_count{which}", grid, THREADS, size),
                KernelLaunch(f"{name}_sum", (self.rows, 1, 1), THREADS, 4 * _WARPS),
                KernelLaunch(f"{name}_move{which}", grid, THREADS, size),
            ]
            source = target
        return lines


# A block's elements: a thread has neighbours.
_READ = """  const int block = blockIdx.x % {blocks};
  const {index} row = blockIdx.x / {blocks};
  const int count = {n} - block * {tile} < {tile} ? {n} - block * {tile} : {tile};
  const {index} begin = row * {n} + block * {tile};
  {kind} x[{each}];
  #pragma unroll
  for (int e = 0; e < {each}; e++)
    if (first + e < count) x[e] = source[begin + first + e];"""
_COUNTS = """    if (threadIdx.x < {digits}) {{
      const int d = threadIdx.x;
      const u32 after = d + 1 < {digits} ? (u32)c[(d + 1) * {threads}] : (u32)count;
      {place} = after - c[d * {threads}];
    }}
}}"""
_MOVES = """    u32 start[{digits}];
    #pragma unroll
    for (int d = 0; d < {digits}; d++) start[d] = {place} - c[d * {threads}];
    __syncthreads();
    #pragma unroll
    for (int e = 0; e < {each}; e++)
      if (first + e < count) {{
        const int d = DIGIT(x[e]);
        const u32 to = c[d * {threads} + threadIdx.x];
        c[d * {threads} + threadIdx.x] = to + 1;
        #pragma unroll
        for (int k = 0; k < {digits}; k++)
          if (k == d) target[row * {n} + start[k] + to] = x[e];
      }}
}}"""
# Where the digits of a row's blocks begin: the counts before, in the order of digit, then block.
_SUM = """  const {index} row = blockIdx.x;
  const {index} begin = row * {counts};
  u32 carry = 0;
  for (int base = 0; base < {counts}; base += {threads} * {each}) {{
    const int first = base + {each} * threadIdx.x;
    u32 x[{each}], own = 0;
    #pragma unroll
    for (int e = 0; e < {each}; e++) {{
      x[e] = 0;
      if (first + e < {counts}) x[e] = place[begin + first + e];
      own += x[e];
    }}
    u32 total = own;
{in_warps}
    u32 before = carry + total - own;
    for (int w = 0; w < {warps}; w++) {{
      const u32 held = s[w];
      if (w < warp) before += held;
      carry += held;
    }}
    #pragma unroll
    for (int e = 0; e < {each}; e++) {{
      if (first + e < {counts}) place[begin + first + e] = before;
      before += x[e];
    }}
    __syncthreads();
  }}
}}
"""


def print_sort(step: Sort, name: str) -> CudaCode:
    """Return a sort of rows as CUDA C++.

    Args:
        step: the sort.
        name: what the functions' names begin with.

    Returns:
        The code, whose functions take pointers to x, out and scratch.
    """
    return _Printer(step, name).code()
