"""Attention of 16-bit floats as CUDA C++, by instructions that multiply small matrices.

As in `attention`, but a warp has 16 rows of a tile, and products are made of fragments (`mma`). The
weights of a tile become an operand of the next product where they are. Rows are read from memory as
fragments, what meets them lies in shared memory, turned where it is summed over.

References:
    T. Dao, "FlashAttention-2: faster attention with better parallelism and work partitioning",
    ICLR 2024.
"""

from __future__ import annotations

import math

import numpy as np

from funtorch.jaxpr import Eqn

from ..plan import Attention
from .attention import Pieces, Writer, means_of, printed, scaled
from .code import CudaCode
from .mma import GAP, multiplying
from .spelling import literal

__all__ = ["in_fragments", "print_fragments"]

_MOST = 128  # features of which sums stay in registers
_WARPS = 4
_LANES = 32 * _WARPS
_ROWS = 16 * _WARPS  # of a block's tile
_FORWARD, _BACKWARD = 64, 32  # columns of a tile
_HALF = _MOST // 2
_NEVER = literal(-math.inf, "float")


def in_fragments(eqn: Eqn) -> bool:
    """Tell whether an equation of attention is done so: one of 16-bit floats, not too many."""
    q, _, v, *_ = (x.aval for x in eqn.invars)
    return np.dtype(q.dtype).itemsize == 2 and max(q.shape[4], v.shape[3]) <= _MOST


def _up(n: int, step: int) -> int:
    return -(-n // step) * step


class _Fragments(Writer):
    """Writes kernels that multiply fragments."""

    def _declare(self) -> None:
        super()._declare()
        name = self.name
        self.texts.append(f"""{multiplying(name, self.z.dtype)}
template <int N, class P> static __device__ __forceinline__ u32 {name}_pair(
    P p, {self.index} at, int f, bool there) {{
  if (N % 2 == 0) {{
    Vector<u16, 2> held = {{}};
    if (there && f < N) held = load_vector<2>(p + at);
    return held.x[0] | (u32)held.x[1] << 16;
  }}
  u32 low = 0, high = 0;
  if (there && f < N) low = p[at];
  if (there && f + 1 < N) high = p[at + 1];
  return low | high << 16;
}}
template <int N, class P> static __device__ __forceinline__ void {name}_rows(
    u32 (&a)[4], P p, {self.index} base, {self.index} step, int row, int count, int f) {{
  #pragma unroll
  for (int k = 0; k < 4; k++) {{
    const int r = row + k % 2 * 8, g = f + k / 2 * 8;
    a[k] = {name}_pair<N>(p, base + r * step + g, g, r < count);
  }}
}}""")
        self.words = 0
        self.wide_rows: dict[str, int] = {}

    # ---------------------------------------------------------------- shared memory
    def room(self, name: str, rows: int, words: int) -> str:
        """Return the declaration of rows of so many words, and a few more, in shared memory."""
        self.wide_rows[name] = words + GAP
        text = f"  SHARED(u32, {name}, {4 * self.words}, {rows * (words + GAP)});\n"
        self.words += rows * (words + GAP)
        return text

    def as_rows(
        self, to: str, count: int, buffer: int, first: str, end: int, n: int, base: str
    ) -> str:
        """Write how rows of an array go to shared memory."""
        width, whole = self.wide_rows[to], _up(n, 16)
        step = 8 if n % 8 == 0 else 2
        head = f"""      for (int e = threadIdx.x; e < {count * whole // step}; e += {_LANES}) {{
        const int f = e % {whole // step} * {step}, r = e / {whole // step};
        const {self.index} at = {base} + ({self.index})({first} + r) * {self.step(buffer)} + f;
"""
        if step == 2:
            return f"""{head}        {to}[r * {width} + f / 2] =
            {self.name}_pair<{n}>(b{buffer}, at, f, {first} + r < {end});
      }}
"""
        return f"""{head}        Vector<u16, 8> held = {{}};
        if (f < {n} && {first} + r < {end}) held = load_vector<8>(b{buffer} + at);
        #pragma unroll
        for (int k = 0; k < 4; k++)
          {to}[r * {width} + f / 2 + k] = held.x[2 * k] | (u32)held.x[2 * k + 1] << 16;
      }}
"""

    def turned(
        self, to: str, count: int, buffer: int, first: str, end: int, n: int, base: str
    ) -> str:
        """Write how rows of an array go to shared memory, a word being two rows' number."""
        width, whole = self.wide_rows[to], _up(n, 8)
        return f"""      for (int e = threadIdx.x; e < {count // 2 * whole}; e += {_LANES}) {{
        const int f = e % {whole}, r = e / {whole} * 2;
        const {self.index} at = {base} + ({self.index})({first} + r) * {self.step(buffer)} + f;
        u32 low = 0, high = 0;
        if (f < {n} && {first} + r < {end}) low = b{buffer}[at];
        if (f < {n} && {first} + r + 1 < {end}) high = b{buffer}[at + {self.step(buffer)}];
        {to}[f * {width} + r / 2] = low | high << 16;
      }}
"""

    # ---------------------------------------------------------------- products
    def sums(self, name: str, tiles: int) -> str:
        return f"""    float {name}[{tiles}][4];
    #pragma unroll
    for (int j = 0; j < {tiles}; j++)
      #pragma unroll
      for (int e = 0; e < 4; e++) {name}[j][e] = 0;
"""

    def pairs(
        self, name: str, tiles: int, buffer: int, row: str, end: int, n: int, base: str, to: str
    ) -> str:
        """Write products of a warp's rows of an array with rows in shared memory."""
        width = self.wide_rows[to]
        return f"""{self.sums(name, tiles)}
    #pragma unroll
    for (int f = 0; f < {_up(n, 16)}; f += 16) {{
      u32 a[4];
      {self.name}_rows<{n}>(a, b{buffer}, {base}, {self.step(buffer)}, {row}, {end}, f + 2 * third);
      #pragma unroll
      for (int j = 0; j < {tiles}; j++) {{
        const int at = (8 * j + own) * {width} + f / 2 + third;
        {self.name}_multiply({name}[j], a, {to}[at], {to}[at + 4]);
      }}
    }}
"""

    def mix(self, name: str, weights: str, columns: int, n: int, to: str) -> str:
        """Write that what is turned in shared memory, weighted, is added."""
        width = self.wide_rows[to]
        words = ", ".join(
            f"{self.name}_pack({weights}[2 * s + {k // 2}][{2 * (k % 2)}], "
            f"{weights}[2 * s + {k // 2}][{2 * (k % 2) + 1}])"
            for k in range(4)
        )
        return f"""    #pragma unroll
    for (int s = 0; s < {columns // 16}; s++) {{
      const u32 a[4] = {{{words}}};
      #pragma unroll
      for (int j = 0; j < {_up(n, 8) // 8}; j++) {{
        const int at = (8 * j + own) * {width} + 8 * s + third;
        {self.name}_multiply({name}[j], a, {to}[at], {to}[at + 4]);
      }}
    }}
"""

    def out(
        self, name: str, buffer: int, row: str, end: int, n: int, base: str, factor: str
    ) -> str:
        """Write how a warp's rows go to memory."""
        return f"""  #pragma unroll
  for (int j = 0; j < {_up(n, 8) // 8}; j++)
    #pragma unroll
    for (int e = 0; e < 4; e++) {{
      const int r = {row} + e / 2 * 8, f = 8 * j + 2 * third + e % 2;
      if (r < {end} && f < {n})
        b{buffer}[{base} + ({self.index})r * {self.step(buffer)} + f] =
            {self.name}_narrow({name}[j][e]{factor});
    }}
"""

    def lanes(self) -> str:
        return """  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int own = lane / 4, third = lane % 4;
"""

    def finish(self, suffix: str, text: str, blocks: int, least: int = 0) -> None:
        self.launch(suffix, text, blocks, 4 * self.words, _LANES, least)
        self.words = 0


def _weighted(w: _Fragments, columns: int, wide: int) -> str:
    """Write how products of a tile become weights, relative to the greatest product so far."""
    z = w.z
    return f"""    #pragma unroll
    for (int i = 0; i < 2; i++) {{
      const int t = row + 8 * i;
      float most = top[i];
      #pragma unroll
      for (int j = 0; j < {columns}; j++)
        #pragma unroll
        for (int e = 0; e < 2; e++) {{
        const int s = s0 + 8 * j + 2 * third + e;
        const bool here = t < {z.queries} && s < {z.keys};
        float z = x[j][2 * i + e];
{w.logit("t", "s")}
        x[j][2 * i + e] = s < {z.keys} ? z : {_NEVER};
        most = maximum_of(most, x[j][2 * i + e]);
      }}
      most = maximum_of(most, shuffle_xor(most, 2));
      most = maximum_of(most, shuffle_xor(most, 1));
      const float base = most == {_NEVER} ? 0.0f : most;
      const float shrunk = {w.name}_exp(top[i] - base);
      float sum = 0;
      #pragma unroll
      for (int j = 0; j < {columns}; j++)
        #pragma unroll
        for (int e = 0; e < 2; e++) {{
          x[j][2 * i + e] = {w.name}_exp(x[j][2 * i + e] - base);
          sum = sum + x[j][2 * i + e];
        }}
      sum = sum + shuffle_xor(sum, 2);
      sum = sum + shuffle_xor(sum, 1);
      total[i] = fmaf(total[i], shrunk, sum);
      top[i] = most;
      #pragma unroll
      for (int j = 0; j < {wide}; j++) {{
        o[j][2 * i] = o[j][2 * i] * shrunk;
        o[j][2 * i + 1] = o[j][2 * i + 1] * shrunk;
      }}
    }}"""


def _forward(w: _Fragments) -> None:
    z, out = w.z, 3 + len(w.z.extras)
    tiles, columns = -(-z.queries // _ROWS), _FORWARD // 8
    text = w.room("sk", _FORWARD, _up(z.features, 16) // 2)
    text += w.room("sv", _up(z.values, 8), _FORWARD // 2)
    wide = _up(z.values, 8) // 8
    text += w.lanes() + w.head(f"blockIdx.x / {tiles}")
    text += f"""  const int t0 = ({tiles - 1} - (int)(blockIdx.x % {tiles})) * {_ROWS};
  const int row = t0 + 16 * warp + own;
{w.heads(q=(0, "n"), k=(1, w.shared_head), v=(2, w.shared_head))}
{w.span(_ROWS, "t0", z.keys, w.p["left"], w.p["right"], _FORWARD)}
  float top[2] = {{{_NEVER}, {_NEVER}}}, total[2] = {{0, 0}};
{w.sums("o", wide)}
  for (int s0 = low; s0 < high; s0 += {_FORWARD}) {{
    __syncthreads();
{w.as_rows("sk", _FORWARD, 1, "s0", z.keys, z.features, "k")}
{w.turned("sv", _FORWARD, 2, "s0", z.keys, z.values, "v")}
    __syncthreads();
{w.pairs("x", columns, 0, "row", z.queries, z.features, "q", "sk")}
{_weighted(w, columns, wide)}
{w.mix("o", "x", _FORWARD, z.values, "sv")}
  }}
  #pragma unroll
  for (int i = 0; i < 2; i++) {{
    const int t = row + 8 * i;
    if (third == 0 && t < {z.queries}) {{
      b{out + 1}[n * {z.queries} + t] = top[i];
      b{out + 2}[n * {z.queries} + t] = total[i];
    }}
    const float share = total[i] == 0 ? 1.0f : 1.0f / total[i];
    #pragma unroll
    for (int j = 0; j < {wide}; j++) {{
      o[j][2 * i] = o[j][2 * i] * share;
      o[j][2 * i + 1] = o[j][2 * i + 1] * share;
    }}
  }}
{w.out("o", out, "row", z.queries, z.values, w.base(out, "n"), "")}"""
    w.finish("", text, tiles * z.heads, least=3 if w.spread <= _HALF else 0)


def _known(w: _Fragments) -> str:
    """Write what is known of query t: what is subtracted, divided by, and its mean."""
    z, out = w.z, 3 + len(w.z.extras)
    return f"""        float base = 0, share = 0, mean = 0;
        if (t < {z.queries}) {{
          const {w.index} at = n * {z.queries} + t;
          const float top = b{out + 1}[at], total = b{out + 2}[at];
          base = top == {_NEVER} ? 0.0f : top;
          share = total == 0 ? 1.0f : 1.0f / total;
          mean = means[at];
        }}
"""


def _again(w: _Fragments, at: str, key: bool = True) -> str:
    """Write that x is the weight of a pair, and y the cotangent of its product."""
    z = w.z
    back = f"\n        y{at} = seen ? p * (y{at} - mean) : 0.0f;" if key else ""
    return f"""        const bool here = t < {z.queries} && s < {z.keys};
        float z = x{at};
{w.logit("t", "s")}
        const float p = here ? {w.name}_exp(z - base) * share : 0.0f;
        x{at} = p;{back}
"""


def _of_queries(w: _Fragments, target: int) -> None:
    z, ct = w.z, 6 + len(w.z.extras)
    tiles, columns = -(-z.queries // _ROWS), _BACKWARD // 8
    text = w.room("sk", _BACKWARD, _up(z.features, 16) // 2)
    text += w.room("sv", _BACKWARD, _up(z.values, 16) // 2)
    text += w.room("turned", _up(z.features, 8), _BACKWARD // 2)
    text += means_of(w) + w.lanes() + w.head(f"blockIdx.x / {tiles}")
    text += f"""  const int t0 = ({tiles - 1} - (int)(blockIdx.x % {tiles})) * {_ROWS};
  const int row = t0 + 16 * warp + own;
{w.heads(q=(0, "n"), k=(1, w.shared_head), c=(ct, "n"), v=(2, w.shared_head))}
{w.span(_ROWS, "t0", z.keys, w.p["left"], w.p["right"], _BACKWARD)}
{w.sums("o", _up(z.features, 8) // 8)}
  for (int s0 = low; s0 < high; s0 += {_BACKWARD}) {{
    __syncthreads();
{w.as_rows("sk", _BACKWARD, 1, "s0", z.keys, z.features, "k")}
{w.as_rows("sv", _BACKWARD, 2, "s0", z.keys, z.values, "v")}
{w.turned("turned", _BACKWARD, 1, "s0", z.keys, z.features, "k")}
    __syncthreads();
{w.pairs("x", columns, 0, "row", z.queries, z.features, "q", "sk")}
{w.pairs("y", columns, ct, "row", z.queries, z.values, "c", "sv")}
    #pragma unroll
    for (int i = 0; i < 2; i++) {{
        const int t = row + 8 * i;
{_known(w)}
      #pragma unroll
      for (int e = 0; e < {2 * columns}; e++) {{
        const int s = s0 + e / 2 * 8 + 2 * third + e % 2;
{_again(w, "[e / 2][2 * i + e % 2]")}
      }}
    }}
{w.mix("o", "y", _BACKWARD, z.features, "turned")}
  }}
{w.out("o", target, "row", z.queries, z.features, w.base(target, "n"), scaled(w))}"""
    w.finish("_queries", text, tiles * z.heads)


def _of_keys(w: _Fragments, key: int | None, value: int | None) -> None:
    z, ct = w.z, 6 + len(w.z.extras)
    tiles, columns = -(-z.keys // _ROWS), _BACKWARD // 8
    need = [
        ("sq", 0, z.features, "q", False, True),
        ("sc", ct, z.values, "c", False, key is not None),
        ("tq", 0, z.features, "q", True, key is not None),
        ("tc", ct, z.values, "c", True, value is not None),
    ]
    text, loads = "", ""
    for name, buffer, n, base, turned, wanted in need:
        if wanted and turned:
            text += w.room(name, _up(n, 8), _BACKWARD // 2)
            loads += w.turned(name, _BACKWARD, buffer, "t0", z.queries, n, base)
        elif wanted:
            text += w.room(name, _BACKWARD, _up(n, 16) // 2)
            loads += w.as_rows(name, _BACKWARD, buffer, "t0", z.queries, n, base)
    left, right = w.p["left"], w.p["right"]
    text += means_of(w) + w.lanes()
    text += f"""  const {w.index} head = blockIdx.x / {tiles};
  const int s0 = (int)(blockIdx.x % {tiles}) * {_ROWS};
  const int row = s0 + 16 * warp + own;
{w.heads(k=(1, "head"), v=(2, "head"))}
{w.span(_ROWS, "s0", z.queries, right, left, _BACKWARD)}
"""
    text += w.sums("dk", _up(z.features, 8) // 8) if key is not None else ""
    text += w.sums("dv", _up(z.values, 8) // 8) if value is not None else ""
    text += f"""  for (int member = 0; member < {z.group}; member++) {{
  {w.head(f"head * {z.group} + member")}
{w.heads(q=(0, "n"), c=(ct, "n"))}
  for (int t0 = low; t0 < high; t0 += {_BACKWARD}) {{
    __syncthreads();
{loads}
    __syncthreads();
{w.pairs("x", columns, 1, "row", z.keys, z.features, "k", "sq")}
"""
    if key is not None:
        text += w.pairs("y", columns, 2, "row", z.keys, z.values, "v", "sc")
    text += f"""    #pragma unroll
    for (int e = 0; e < {2 * columns}; e++) {{
        const int t = t0 + e / 2 * 8 + 2 * third + e % 2;
{_known(w)}
      #pragma unroll
      for (int i = 0; i < 2; i++) {{
        const int s = row + 8 * i;
{_again(w, "[e / 2][2 * i + e % 2]", key is not None)}
      }}
    }}
"""
    text += w.mix("dv", "x", _BACKWARD, z.values, "tc") if value is not None else ""
    text += w.mix("dk", "y", _BACKWARD, z.features, "tq") if key is not None else ""
    text += "  }\n  }\n"
    if value is not None:
        text += w.out("dv", value, "row", z.keys, z.values, w.base(value, "head"), "")
    if key is not None:
        text += w.out("dk", key, "row", z.keys, z.features, w.base(key, "head"), scaled(w))
    blocks = tiles * z.lead[0] * z.lead[1]
    w.finish("_keys", text, blocks, least=3 if w.spread <= _HALF else 0)


def print_fragments(step: Attention, name: str) -> CudaCode:
    """Return attention of 16-bit floats, or its cotangents, as CUDA C++.

    Args:
        step: of an equation of which `has_kernel` and `in_fragments`.
        name: what the functions' names begin with.

    Returns:
        The code, whose functions take pointers to the step's arrays and scratch.
    """
    return printed(step, name, _Fragments, Pieces(_forward, _of_queries, _of_keys))
