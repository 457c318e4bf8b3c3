"""Products of matrices and convolutions as one kernel of our own: tiles of the result.

A block makes a tile of the result. Pieces of both operands that are as long as the tile's sides go
to shared memory, each element once, wherever it lies; every thread adds up the products of some of
the rows and columns in registers. A convolution is the same (an implicit GEMM): its rows are out
features, its columns the places of all samples, its sums run over features and taps, and what an
element of the second operand is, is computed from its row and column.

Where the result is small and the sums are long, blocks do pieces of the sums, and a second launch
adds these up in order. Libraries are quicker for large plain products; this is for everything else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..plan import Correlation, Dot
from ..scalars.elements import HALVES
from .code import CudaCode, KernelLaunch
from .halves import print_halves
from .memory import memory_type
from .schedules import BYTES, THREADS
from .tiling import Element, Tiled, also, cut, position

__all__ = ["print_convs", "print_dot"]

_SIDE = 16  # threads along each side of a block
_DEEP = 16  # terms of the sums that are in shared memory at a time

_SIGNED = {"int8": "(signed char)"}  # what makes a number of what memory holds


def _reach(sizes: Sequence[int], strides: Sequence[int], offset: int) -> int:
    return abs(offset) + sum(abs(s) * (n - 1) for n, s in zip(sizes, strides, strict=True))


def _micro(size: int) -> int:
    """Return how many rows (columns) of a tile a thread has, one in every `_SIDE`."""
    return next((t for t in (8, 4, 2) if size >= 8 * _SIDE * t // 2), 1)


class _Tiles:
    """Prints a product whose numbers are multiplied one by one."""

    def __init__(self, p: Tiled, name: str) -> None:
        self.p, self.name = p, name
        self.rows, self.columns = _micro(p.m), _micro(p.n)  # of a thread
        self.tall, self.broad = self.rows * _SIDE, self.columns * _SIDE
        self.cut = cut(p, _DEEP, self.tall, self.broad)
        self.kind, self.index = memory_type(p.dtype), self.cut.index
        self.shared = _DEEP * (self.tall + 1), _DEEP * (self.broad + 1)
        self.second = -(-self.shared[0] * BYTES[self.kind] // 16) * 16
        self.narrow = self.kind if p.given is None else memory_type(p.given)

    @property
    def head(self) -> str:
        """The name of the function, and its parameters."""
        given = f"GLOBAL(const {self.narrow}) b0, GLOBAL(const {self.narrow}) b1"
        return f"{self.name}({given}, GLOBAL({self.kind}) b2, GLOBAL(u8) scratch)"

    def walk(self, side: int, along: bool, outer: str, begin: str) -> str:
        """Write where a thread's element of a piece lies: term k, and row or column."""
        fast, slow = ("k", outer) if along else (outer, "k")
        fast_size = _DEEP if along else side
        begins = {"k": "k0", outer: begin}
        return (
            f"        const int at = threadIdx.x + {THREADS} * e;\n"
            f"        const int {fast}s = at % {fast_size}, {slow}s = at / {fast_size};\n"
            f"        const {self.index} {fast} = {begins[fast]} + {fast}s, "
            f"{slow} = {begins[slow]} + {slow}s;"
        )

    def load(self, which: int) -> str:
        """Write how a piece of an operand goes to shared memory."""
        p = self.p
        side, own, size, begin, along, element = (
            (self.tall, "r", p.m, "r0", p.a_along, p.a("r", "k")),
            (self.broad, "c", p.n, "c0", not p.b_along, p.b("k", "c")),
        )[which]
        condition, place = element
        signed = "" if p.given is None else _SIGNED[p.given.name]
        return f"""      #pragma unroll
      for (int e = 0; e < {_DEEP * side // THREADS}; e++) {{
{self.walk(side, along, own, begin)}
        {self.kind} v = 0;
        if ({own} < {size} && k < high{also(condition)}) v = {signed}b{p.buffers[which]}[{place}];
        s{"ab"[which]}[ks * {side + 1} + {own}s] = v;
      }}"""

    def products(self) -> str:
        """Write how a thread multiplies what is in shared memory."""
        real = {"float": "fmaf", "double": "fma"}.get(self.kind)
        added = f"{real}(x[i], y[j], total[i][j])" if real else "total[i][j] + x[i] * y[j]"
        return f"""      #pragma unroll
      for (int s = 0; s < {_DEEP}; s++) {{
        {self.kind} x[{self.rows}], y[{self.columns}];
        #pragma unroll
        for (int i = 0; i < {self.rows}; i++) x[i] = sa[s * {self.tall + 1} + ty + {_SIDE} * i];
        #pragma unroll
        for (int j = 0; j < {self.columns}; j++) y[j] = sb[s * {self.broad + 1} + tx + {_SIDE} * j];
        #pragma unroll
        for (int i = 0; i < {self.rows}; i++)
          #pragma unroll
          for (int j = 0; j < {self.columns}; j++) total[i][j] = {added};
      }}"""

    def main(self) -> str:
        """Write the function that makes tiles."""
        kind, index = self.kind, self.index
        # Two blocks at a time: for more of them, the assembler would spill a few registers.
        least = ", 2" if BYTES[kind] <= 4 else ""
        parts = "\n" + self.cut.parts(kind) if self.cut.pieces > 1 else ""
        return f"""extern "C" __global__ void __launch_bounds__({THREADS}{least}) {self.head} {{
  SHARED({kind}, sa, 0, {self.shared[0]});
  SHARED({kind}, sb, {self.second}, {self.shared[1]});{parts}
  const int tx = threadIdx.x % {_SIDE}, ty = threadIdx.x / {_SIDE};
{self.cut.begin()}
    {kind} total[{self.rows}][{self.columns}];
    #pragma unroll
    for (int i = 0; i < {self.rows}; i++)
      #pragma unroll
      for (int j = 0; j < {self.columns}; j++) total[i][j] = 0;
    for ({index} k0 = low; k0 < high; k0 += {_DEEP}) {{
{self.load(0)}
{self.load(1)}
      __syncthreads();
{self.products()}
      __syncthreads();
    }}
    #pragma unroll
    for (int i = 0; i < {self.rows}; i++)
      #pragma unroll
      for (int j = 0; j < {self.columns}; j++) {{
        const {index} r = r0 + ty + {_SIDE} * i, c = c0 + tx + {_SIDE} * j;
        {self.cut.store("total[i][j]", "total[i][j]")}
      }}
  }}
}}"""

    def code(self) -> CudaCode:
        """Return the launches."""
        size = self.second + self.shared[1] * BYTES[self.kind]
        texts, launches = [self.main()], [KernelLaunch(self.name, self.cut.grid, THREADS, size)]
        if self.cut.pieces > 1:
            text, launch = self.cut.join(self.head, self.kind, "total")
            texts.append(text)
            launches.append(launch)
        return CudaCode("\n\n".join(texts), tuple(launches), self.cut.scratch(self.kind))


def _tiled(p: Tiled, name: str) -> CudaCode:
    """Return the launches of a product."""
    return print_halves(p, name) if p.dtype in HALVES else _Tiles(p, name).code()


# ---------------------------------------------------------------------- what is multiplied
def print_dot(step: Dot, name: str) -> CudaCode:
    """Return products of matrices as CUDA C++.

    Args:
        step: products whose operands and result have one dtype, of integers of 32 or 64 bits or of
            floats, or of int8 summed in int32.
        name: what the functions' names begin with.

    Returns:
        The code, whose functions take pointers to a, b, out and scratch.
    """
    sizes = [tuple(map(int, s)) for s in (step.batches, step.rows, step.sums, (step.n,))]
    batches, rows, sums, columns = sizes
    counts = [len(s) for s in sizes]

    def place(which: int, first: Sequence[int], second: Sequence[int]) -> Element:
        where = step.places[which]
        strides = [int(s) for s in where.strides]
        one, two = counts[0], counts[0] + len(first)

        def element(x: str, y: str) -> tuple[str, str]:
            terms = [
                position("batch", batches, strides[:one]),
                position(x, first, strides[one:two]),
                position(y, second, strides[two:]),
                str(int(where.offset)),
            ]
            return "", " + ".join(t for t in terms if t != "0") or "0"

        return element

    axes = ((*batches, *rows, *sums), (*batches, *sums, *columns), (*batches, *rows, *columns))
    reach = max(
        _reach(n, [int(s) for s in w.strides], int(w.offset))
        for n, w in zip(axes, step.places, strict=True)
    )
    product = Tiled(
        step.out.aval.dtype,
        math.prod(batches),
        math.prod(rows),
        int(step.n),
        math.prod(sums),
        place(0, rows, sums),
        place(1, sums, columns),
        place(2, rows, columns),
        step.places[0].strides[-1] == 1,
        step.places[1].strides[-1] == 1,
        reach,
        given=None if step.a.aval.dtype == step.out.aval.dtype else step.a.aval.dtype,
    )
    return _tiled(product, name)


def print_convs(parts: Sequence[Correlation], dtype: np.dtype, name: str) -> CudaCode:
    """Return dense parts of a convolution as CUDA C++.

    Args:
        parts: they make different elements of one result.
        dtype: of all arrays, floats; those of 16 bits add up in float32.
        name: what the functions' names begin with.

    Returns:
        The code, whose functions take pointers to x, w, y and scratch.
    """
    suffixes = [f"_{k}" if k else "" for k in range(len(parts))]
    codes = [_conv(c, dtype, name + s) for c, s in zip(parts, suffixes, strict=True)]
    declared = {name: text for code in codes for name, text in code.declared.items()}
    launches = tuple(one for code in codes for one in code.launches)
    text = "\n\n".join(code.text for code in codes)
    return CudaCode(text, launches, max(code.scratch for code in codes), declared)


class _Places:
    """Where the elements of a convolution are: of weights, samples and results."""

    def __init__(self, c: Correlation) -> None:
        self.c = c
        self.space, self.window, self.places = (
            tuple(map(int, s)) for s in (c.space, c.window, c.places)
        )
        self.x, self.w, self.y = ([int(s) for s in at.strides] for at in (c.x, c.w, c.y))
        sizes = (c.batch, c.groups, c.features, c.outs)
        self.batch, self.groups, self.features, self.outs = map(int, sizes)
        self.taps, self.spots = math.prod(self.window), math.prod(self.places)

    @staticmethod
    def joined(terms: Sequence[str], offset: int) -> str:
        return " + ".join([t for t in terms if t != "0"] + [str(int(offset))])

    def weight(self, r: str, k: str) -> tuple[str, str]:
        taps = position(k, (self.features, *self.window), self.w[2:])
        terms = [f"batch * {self.w[0]}", f"{r} * {self.w[1]}", taps]
        return "", self.joined(terms, self.c.w.offset)

    def coordinate(self, k: str, column: str, d: int) -> str:
        """Return where along space axis d a tap meets x."""
        c, window, places = self.c, self.window, self.places
        inner_tap, inner_spot = math.prod(window[d + 1 :]), math.prod(places[d + 1 :])
        tap = f"({k}) / {inner_tap} % {window[d]}" if window[d] > 1 else "0"
        spot = f"({column}) / {inner_spot} % {places[d]}" if places[d] > 1 else "0"
        return f"({spot}) * {int(c.strides[d])} + ({tap}) * {int(c.dilation[d])} - {int(c.low[d])}"

    def sample(self, k: str, column: str) -> tuple[str, str]:
        c, x, conditions = self.c, self.x, []
        terms = [f"({column}) / {self.spots} * {x[0]}", f"batch * {x[1]}"]
        terms.append(f"({k}) / {self.taps} * {x[2]}")
        for d, n in enumerate(self.space):
            at = self.coordinate(k, column, d)
            low = -int(c.low[d])
            high = (self.places[d] - 1) * int(c.strides[d]) + low
            high += (self.window[d] - 1) * int(c.dilation[d])
            if low < 0:
                conditions.append(f"({at}) >= 0")
            if high >= n:
                conditions.append(f"({at}) < {n}")
            terms.append(f"({at}) * {x[3 + d]}")
        return " && ".join(conditions), self.joined(terms, c.x.offset)

    def result(self, r: str, column: str) -> tuple[str, str]:
        spots = position(column, (self.batch, *self.places), [self.y[0], *self.y[3:]])
        terms = [f"batch * {self.y[1]}", f"{r} * {self.y[2]}", spots]
        return "", self.joined(terms, self.c.y.offset)

    @property
    def reach(self) -> int:
        """The greatest offset."""
        c, batch, groups = self.c, self.batch, self.groups
        return max(
            _reach((batch, groups, self.features, *self.space), self.x, int(c.x.offset)),
            _reach((groups, self.outs, self.features, *self.window), self.w, int(c.w.offset)),
            _reach((batch, groups, self.outs, *self.places), self.y, int(c.y.offset)),
        )


def _conv(c: Correlation, dtype: np.dtype, name: str) -> CudaCode:
    """Return a dense part of a convolution."""
    at = _Places(c)
    product = Tiled(
        dtype,
        at.groups,
        at.outs,
        at.batch * at.spots,
        at.features * at.taps,
        at.weight,
        at.sample,
        at.result,
        True,
        True,
        at.reach,
        (1, 0),
    )
    return _tiled(product, name)
