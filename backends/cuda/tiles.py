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
_MOST_BATCHES = (1 << 16) - 1

_SIGNED = {"int8": "(signed char)"}  # what makes a number of what memory holds


def _reach(sizes: Sequence[int], strides: Sequence[int], offset: int) -> int:
    return abs(offset) + sum(abs(s) * (n - 1) for n, s in zip(sizes, strides, strict=True))


def _micro(size: int) -> int:
    """Return how many rows (columns) of a tile a thread has, one in every `_SIDE`."""
    return next((t for t in (8, 4, 2) if size >= 8 * _SIDE * t // 2), 1)


def _tiled(p: Tiled, name: str) -> CudaCode:
    """Return the launches of a product."""
    if p.dtype in HALVES:
        return print_halves(p, name)
    rows, columns = _micro(p.m), _micro(p.n)
    tall, broad = rows * _SIDE, columns * _SIDE
    across = -(-p.n // broad)
    tiles = -(-p.m // tall) * across
    piece, pieces, wide = cut(p, tiles, _DEEP, tall, broad)
    kind, size = memory_type(p.dtype), p.batch * p.m * p.n
    index = "s64" if wide else "int"
    batches = min(p.batch, _MOST_BATCHES)
    real = {"float": "fmaf", "double": "fma"}.get(kind)
    added = f"{real}(x[i], y[j], total[i][j])" if real else "total[i][j] + x[i] * y[j]"
    shared = _DEEP * (tall + 1), _DEEP * (broad + 1)
    first = -(-shared[0] * BYTES[kind] // 16) * 16
    a_if, a_at = p.a("r", "k")
    b_if, b_at = p.b("k", "c")
    out_if, out_at = p.out("r", "c")
    target = f"b2[{out_at}]"
    declared = ""
    if pieces > 1:
        target = f"part[((({index})blockIdx.z * {p.batch} + batch) * {p.m} + r) * {p.n} + c]"
        declared = f"\n  PART({kind}, part, scratch, 0, {pieces * size});"

    def walk(side: int, along: bool, outer: str, begin: str) -> str:
        """Return where a thread's element of a piece lies: term k, and row or column."""
        fast, slow = ("k", outer) if along else (outer, "k")
        fast_size = _DEEP if along else side
        begins = {"k": "k0", outer: begin}
        return (
            f"        const int at = threadIdx.x + {THREADS} * e;\n"
            f"        const int {fast}s = at % {fast_size}, {slow}s = at / {fast_size};\n"
            f"        const {index} {fast} = {begins[fast]} + {fast}s, "
            f"{slow} = {begins[slow]} + {slow}s;"
        )

    # Two blocks at a time: for more of them, the assembler would spill a few registers.
    least = ", 2" if BYTES[kind] <= 4 else ""
    bounds = f'extern "C" __global__ void __launch_bounds__({THREADS}{least}) {name}'
    narrow = kind if p.given is None else memory_type(p.given)
    signed = "" if p.given is None else _SIGNED[p.given.name]
    given = f"GLOBAL(const {narrow}) b0, GLOBAL(const {narrow}) b1, GLOBAL({kind}) b2"
    text = f"""{bounds}({given}, GLOBAL(u8) scratch) {{
  SHARED({kind}, sa, 0, {shared[0]});
  SHARED({kind}, sb, {first}, {shared[1]});{declared}
  const int tx = threadIdx.x % {_SIDE}, ty = threadIdx.x / {_SIDE};
  const {index} r0 = ({index})(blockIdx.x / {across}) * {tall};
  const {index} c0 = ({index})(blockIdx.x % {across}) * {broad};
  const {index} low = ({index})blockIdx.z * {piece};
  const {index} high = low + {piece} < {p.k} ? low + {piece} : {p.k};
  for ({index} batch = blockIdx.y; batch < {p.batch}; batch += gridDim.y) {{
    {kind} total[{rows}][{columns}];
    #pragma unroll
    for (int i = 0; i < {rows}; i++)
      #pragma unroll
      for (int j = 0; j < {columns}; j++) total[i][j] = 0;
    for ({index} k0 = low; k0 < high; k0 += {_DEEP}) {{
      #pragma unroll
      for (int e = 0; e < {_DEEP * tall // THREADS}; e++) {{
{walk(tall, p.a_along, "r", "r0")}
        {kind} v = 0;
        if (r < {p.m} && k < high{also(a_if)}) v = {signed}b{p.buffers[0]}[{a_at}];
        sa[ks * {tall + 1} + rs] = v;
      }}
      #pragma unroll
      for (int e = 0; e < {_DEEP * broad // THREADS}; e++) {{
{walk(broad, not p.b_along, "c", "c0")}
        {kind} v = 0;
        if (c < {p.n} && k < high{also(b_if)}) v = {signed}b{p.buffers[1]}[{b_at}];
        sb[ks * {broad + 1} + cs] = v;
      }}
      __syncthreads();
      #pragma unroll
      for (int s = 0; s < {_DEEP}; s++) {{
        {kind} x[{rows}], y[{columns}];
        #pragma unroll
        for (int i = 0; i < {rows}; i++) x[i] = sa[s * {tall + 1} + ty + {_SIDE} * i];
        #pragma unroll
        for (int j = 0; j < {columns}; j++) y[j] = sb[s * {broad + 1} + tx + {_SIDE} * j];
        #pragma unroll
        for (int i = 0; i < {rows}; i++)
          #pragma unroll
          for (int j = 0; j < {columns}; j++) total[i][j] = {added};
      }}
      __syncthreads();
    }}
    #pragma unroll
    for (int i = 0; i < {rows}; i++)
      #pragma unroll
      for (int j = 0; j < {columns}; j++) {{
        const {index} r = r0 + ty + {_SIDE} * i, c = c0 + tx + {_SIDE} * j;
        if (r < {p.m} && c < {p.n}{also(out_if)}) {target} = total[i][j];
      }}
  }}
}}"""
    size_shared = first + shared[1] * BYTES[kind]
    launches = [KernelLaunch(name, (tiles, batches, pieces), THREADS, size_shared)]
    if pieces == 1:
        return CudaCode(text, tuple(launches), 0)
    text += f"""

{bounds}_end({given}, GLOBAL(u8) scratch) {{
  PART({kind}, part, scratch, 0, {pieces * size});
  const {index} at = ({index})blockIdx.x * {THREADS} + threadIdx.x;
  if (at < {size}) {{
    const {index} c = at % {p.n}, r = at / {p.n} % {p.m}, batch = at / {p.n * p.m};
    {kind} total = 0;
    for (int s = 0; s < {pieces}; s++) total = total + part[({index})s * {size} + at];
    b2[{out_at}] = total;
  }}
}}"""
    launches.append(KernelLaunch(f"{name}_end", (-(-size // THREADS), 1, 1), THREADS))
    scratch = -(-pieces * size * BYTES[kind] // 64) * 64
    return CudaCode(text, tuple(launches), scratch)


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


def _conv(c: Correlation, dtype: np.dtype, name: str) -> CudaCode:
    """Return a dense part of a convolution."""
    space, window, places = (tuple(map(int, s)) for s in (c.space, c.window, c.places))
    xs, ws, ys = ([int(s) for s in where.strides] for where in (c.x, c.w, c.y))
    taps, spots = math.prod(window), math.prod(places)

    def joined(terms: Sequence[str], offset: int) -> str:
        return " + ".join([t for t in terms if t != "0"] + [str(int(offset))])

    def weight(r: str, k: str) -> tuple[str, str]:
        sizes = (int(c.features), *window)
        terms = [f"batch * {ws[0]}", f"{r} * {ws[1]}", position(k, sizes, ws[2:])]
        return "", joined(terms, c.w.offset)

    def coordinate(k: str, column: str, d: int) -> str:
        """Return where along space axis d a tap meets x."""
        inner_tap, inner_spot = math.prod(window[d + 1 :]), math.prod(places[d + 1 :])
        tap = f"({k}) / {inner_tap} % {window[d]}" if window[d] > 1 else "0"
        spot = f"({column}) / {inner_spot} % {places[d]}" if places[d] > 1 else "0"
        return f"({spot}) * {int(c.strides[d])} + ({tap}) * {int(c.dilation[d])} - {int(c.low[d])}"

    def sample(k: str, column: str) -> tuple[str, str]:
        conditions = []
        terms = [f"({column}) / {spots} * {xs[0]}", f"batch * {xs[1]}", f"({k}) / {taps} * {xs[2]}"]
        for d, n in enumerate(space):
            at = coordinate(k, column, d)
            low = -int(c.low[d])
            high = (places[d] - 1) * int(c.strides[d]) + (window[d] - 1) * int(c.dilation[d]) + low
            if low < 0:
                conditions.append(f"({at}) >= 0")
            if high >= n:
                conditions.append(f"({at}) < {n}")
            terms.append(f"({at}) * {xs[3 + d]}")
        return " && ".join(conditions), joined(terms, c.x.offset)

    def result(r: str, column: str) -> tuple[str, str]:
        sizes = (int(c.batch), *places)
        terms = [f"batch * {ys[1]}", f"{r} * {ys[2]}", position(column, sizes, [ys[0], *ys[3:]])]
        return "", joined(terms, c.y.offset)

    sizes = [int(n) for n in (c.batch, c.groups, c.features, c.outs)]
    batch, groups, features, outs = sizes
    reach = max(
        _reach((batch, groups, features, *space), xs, int(c.x.offset)),
        _reach((groups, outs, features, *window), ws, int(c.w.offset)),
        _reach((batch, groups, outs, *places), ys, int(c.y.offset)),
    )
    product = Tiled(
        dtype,
        groups,
        outs,
        batch * spots,
        features * taps,
        weight,
        sample,
        result,
        True,
        True,
        reach,
        (1, 0),
    )
    return _tiled(product, name)
