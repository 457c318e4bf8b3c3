"""Attention as CUDA C++: the weights of a tile of pairs live in registers and shared memory alone.

Forward, a block has some queries and goes over the keys: products of a tile, its weights relative
to the greatest product so far, and their sums of values, which are scaled where a greater product
comes. Backward, the weights of a tile are computed again from what the softmax subtracted and
divided by; one kernel goes over the keys for each tile of queries, another one over the queries for
each tile of keys, so that nothing is added up by atomic operations. Tiles in which no query may
see a key are left out.

References:
    T. Dao, "FlashAttention-2: faster attention with better parallelism and work partitioning",
    ICLR 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from funtorch.jaxpr import Eqn
from funtorch.ops.attention import LOWEST, wide_of

from ..plan import Attention
from ..scalars.elements import TYPES
from ..scalars.scalar import scalar
from .attending import as_attending
from .code import INT_MAX, CudaCode, KernelLaunch
from .memory import from_memory, memory_type
from .mma import HEAD, function, narrowing, widening
from .schedules import BYTES, THREADS
from .spelling import CudaBlock, literal, operand
from .tiling import position

__all__ = [
    "MOST_FEATURES",
    "Pieces",
    "Writer",
    "has_kernel",
    "means_of",
    "print_attention",
    "printed",
    "scaled",
]

MOST_FEATURES = 256
_HALF = MOST_FEATURES // 2
_SIDE = 16  # threads along each side of a block
_WARPS = THREADS // 32
_NAMES = ("attention", "attention_grad")
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def has_kernel(eqn: Eqn) -> bool:
    """Tell whether there is a kernel for an equation."""
    avals = [v.aval for v in (*eqn.invars, *eqn.outvars)]
    q, v = avals[0], avals[2] if len(avals) > 2 else avals[0]
    return (
        eqn.prim.name in _NAMES
        and np.dtype(q.dtype).name in _FLOATS
        and all(type(n) is int and n > 0 for a in avals for n in a.shape)
        and max(q.shape[4], v.shape[3]) <= MOST_FEATURES
    )


@dataclass(frozen=True)
class Sizes:
    """What a call's arrays are.

    Attributes:
        heads: of queries, of all batches; each ``group`` of them shares a head of keys.
        queries, keys, features, values: lengths.
        extras: (buffer, dtype, strides of batch, heads, group, queries and keys) of masks.
        lead: sizes of batch, heads and group.
        places: by buffer, where an array lies: an offset, and a stride for each axis.
        reach: elements of the largest array.
    """

    lead: tuple[int, int, int]
    queries: int
    keys: int
    features: int
    values: int
    dtype: np.dtype
    extras: tuple[tuple[int, np.dtype, tuple[int, ...]], ...]
    places: tuple[tuple[int, tuple[int, ...]], ...]
    reach: int

    @property
    def heads(self) -> int:
        return math.prod(self.lead)

    @property
    def group(self) -> int:
        return self.lead[2]


def sizes_of(step: Attention, after: int) -> Sizes:
    """Return the sizes of a step, ``after`` of whose operands come behind the masks."""
    eqn = step.eqn
    q, _, v, *rest = (a.aval for a in eqn.invars)
    s = eqn.invars[1].aval.shape[2]
    extras = []
    for k, x in enumerate(rest[: len(rest) - after]):
        strides, size = [], 1
        for n in reversed(x.shape):
            strides.append(0 if n == 1 else size)
            size *= int(n)
        extras.append((3 + k, np.dtype(x.dtype), tuple(reversed(strides))))
    b, h, g, t, e = map(int, q.shape)
    sizes = ((b, h, g), t, int(s), e, int(v.shape[3]), np.dtype(q.dtype), tuple(extras))
    reach = max(int(x.aval.size) for x in (*step.ins, *step.outs))
    return Sizes(*sizes, step.places, reach)


# ---------------------------------------------------------------------- text
class Writer:
    """What the kernels of a call have in common."""

    def __init__(self, sizes: Sizes, params: dict[str, Any], name: str, buffers: int) -> None:
        self.z, self.p, self.name = sizes, params, name
        self.kind, self.real = memory_type(sizes.dtype), TYPES[wide_of(sizes.dtype)]
        wide = self.real == "double"
        most = max(sizes.features, sizes.values)
        self.rows = 2 if wide or most > 128 else 4  # of a thread in a tile; neighbours are far
        self.columns = 2 if wide else 4
        self.deep = 16 if wide else 32  # features that are in shared memory at a time
        self.tall, self.broad = self.rows * _SIDE, self.columns * _SIDE
        self.spread = -(-most // _SIDE) * _SIDE
        self.strip = min(self.broad, max(4, 4096 // self.spread))  # keys of which features are
        pieces = self.deep * (self.tall + 1 + self.broad + 1)
        self.pieces = max(pieces, self.strip * (self.spread + 1))
        self.size = BYTES[self.real]
        self.second = -(-self.pieces * self.size // 16) * 16
        self.shared = self.second + self.broad * (self.tall + 1) * self.size
        self.index = "s64" if sizes.reach > INT_MAX else "int"
        self.function = "fmaf" if self.real == "float" else "fma"
        self.kinds = ["const " + self.kind] * buffers
        self.declared: dict[str, str] = {}
        self.texts: list[str] = []
        self.launches: list[KernelLaunch] = []
        self._declare()

    def _declare(self) -> None:
        """Write the functions that load, store and raise numbers."""
        dtype, wide = self.z.dtype, wide_of(self.z.dtype)
        self.texts.append(widening(self.name, dtype, wide))
        self.texts.append(narrowing(self.name, dtype, wide, self.declared))

        def raised(b: CudaBlock) -> str:
            return operand(scalar(b, "exp_of_negative", ["x"], [wide], None), self.real)

        head = f"{HEAD} {self.real} {self.name}_exp({self.real} x)"
        self.texts.append(function(head, raised, self.declared))

    def launch(
        self, suffix: str, body: str, blocks: int, shared: int, threads: int = 0, least: int = 0
    ) -> None:
        """Write a function; ``least``: blocks of a multiprocessor at a time, for more of which
        registers would spill."""
        name = self.name + suffix
        given = ", ".join(f"GLOBAL({k}) b{n}" for n, k in enumerate(self.kinds))
        if not threads and self.real == "float" and self.spread <= _HALF:
            least = 2
        threads = threads or THREADS
        bounds = f"{threads}, {least}" if least else str(threads)
        head = f'extern "C" __global__ void __launch_bounds__({bounds}) {name}'
        self.texts.append(f"{head}({given}, GLOBAL(u8) scratch) {{\n{body}\n}}")
        self.launches.append(KernelLaunch(name, (blocks, 1, 1), threads, shared))

    def code(self, scratch: int = 0, prepared: Sequence[KernelLaunch] = ()) -> CudaCode:
        text, launches = "\n\n".join(self.texts), tuple(self.launches)
        return CudaCode(text, launches, scratch, self.declared, tuple(prepared))

    # ---------------------------------------------------------------- pieces of kernels
    def begin(self) -> str:
        return f"""  SHARED({self.real}, sa, 0, {self.pieces});
  SHARED({self.real}, sp, {self.second}, {self.broad * (self.tall + 1)});
  const int tx = threadIdx.x % {_SIDE}, ty = threadIdx.x / {_SIDE};
"""

    def base(self, buffer: int, head: str) -> str:
        """Return the expression of where a head of an array begins.

        Args:
            head: the expression of the number of a head of queries, or, of keys and values, of
                theirs.
        """
        offset, strides = self.z.places[buffer]
        lead = strides[:-2]
        at = position(head, self.z.lead[: len(lead)], lead)
        return f"{at} + {offset}" if offset else at

    @property
    def shared_head(self) -> str:
        """The number of the head of keys that head n of queries meets."""
        return f"n / {self.z.group}" if self.z.group > 1 else "n"

    def heads(self, **places: tuple[int, str]) -> str:
        """Write where heads begin: by name, of which buffer, and which head."""
        lines = (f"  const {self.index} {name} = {self.base(*at)};" for name, at in places.items())
        return "\n".join(lines)

    def step(self, buffer: int) -> int:
        """Return how many elements lie between rows of an array."""
        return int(self.z.places[buffer][1][-2])

    def accumulators(self, name: str, columns: int) -> str:
        return f"""    {self.real} {name}[{self.rows}][{columns}];
    #pragma unroll
    for (int i = 0; i < {self.rows}; i++)
      #pragma unroll
      for (int j = 0; j < {columns}; j++) {name}[i][j] = 0;
"""

    def piece(self, side: int, at: str, buffer: int, first: str, count: str, n: int, base: str,
              low: str = "k0") -> str:  # fmt: skip
        """Write how rows of an array, some features of each, go to shared memory, turned."""
        return f"""      for (int e = threadIdx.x; e < {side * self.deep}; e += {THREADS}) {{
        const int f = e % {self.deep}, r = e / {self.deep};
        {self.real} number = 0;
        if ({low} + f < {n} && {first} + r < {count})
          number = {self.name}_wide(
              b{buffer}[{base} + ({self.index})({first} + r) * {self.step(buffer)} + {low} + f]);
        sa[{at} + f * {side + 1} + r] = number;
      }}
"""

    def products(
        self, name: str, rows: tuple[int, str, str, str], columns: tuple[int, str, str, str], n: int
    ) -> str:
        """Write products of a tile of rows with a tile of columns.

        Args:
            rows, columns: buffer, first row, number of rows, and where the head begins.
            n: features that are summed.
        """
        at = self.deep * (self.tall + 1)
        return f"""{self.accumulators(name, self.columns)}
    for (int k0 = 0; k0 < {n}; k0 += {self.deep}) {{
      __syncthreads();
{self.piece(self.tall, "0", rows[0], rows[1], rows[2], n, rows[3])}
{self.piece(self.broad, str(at), columns[0], columns[1], columns[2], n, columns[3])}
      __syncthreads();
      #pragma unroll 8
      for (int f = 0; f < {self.deep}; f++) {{
        {self.real} one[{self.rows}], two[{self.columns}];
        #pragma unroll
        for (int i = 0; i < {self.rows}; i++) one[i] = sa[f * {self.tall + 1} + ty + {_SIDE} * i];
        #pragma unroll
        for (int j = 0; j < {self.columns}; j++)
          two[j] = sa[{at} + f * {self.broad + 1} + tx + {_SIDE} * j];
        #pragma unroll
        for (int i = 0; i < {self.rows}; i++)
          #pragma unroll
          for (int j = 0; j < {self.columns}; j++)
            {name}[i][j] = {self.function}(one[i], two[j], {name}[i][j]);
      }}
    }}
"""

    def keep(self, value: str) -> str:
        """Write a tile to shared memory, column by column."""
        return f"""    #pragma unroll
    for (int i = 0; i < {self.rows}; i++)
      #pragma unroll
      for (int j = 0; j < {self.columns}; j++)
        sp[(tx + {_SIDE} * j) * {self.tall + 1} + ty + {_SIDE} * i] = {value};
"""

    def mixed(self, name: str, buffer: int, first: str, count: str, n: int, base: str) -> str:
        """Write that the rows of an array, mixed by the tile in shared memory, are added."""
        wide = -(-n // _SIDE)
        side = wide * _SIDE
        return f"""    for (int c0 = 0; c0 < {self.broad}; c0 += {self.strip}) {{
      __syncthreads();
      for (int e = threadIdx.x; e < {self.strip * side}; e += {THREADS}) {{
        const int f = e % {side}, r = e / {side};
        {self.real} number = 0;
        if (f < {n} && c0 + r < {self.broad} && {first} + c0 + r < {count})
          number = {self.name}_wide(
              b{buffer}[{base} + ({self.index})({first} + c0 + r) * {self.step(buffer)} + f]);
        sa[r * {side + 1} + f] = number;
      }}
      __syncthreads();
      for (int s = 0; s < {self.strip} && c0 + s < {self.broad}; s++) {{
        {self.real} one[{self.rows}];
        #pragma unroll
        for (int i = 0; i < {self.rows}; i++)
          one[i] = sp[(c0 + s) * {self.tall + 1} + ty + {_SIDE} * i];
        #pragma unroll
        for (int j = 0; j < {wide}; j++) {{
          const {self.real} two = sa[s * {side + 1} + tx + {_SIDE} * j];
          #pragma unroll
          for (int i = 0; i < {self.rows}; i++)
            {name}[i][j] = {self.function}(one[i], two, {name}[i][j]);
        }}
      }}
    }}
"""

    def write(self, name: str, buffer: int, first: str, count: int, n: int, base: str,
              factor: str = "") -> str:  # fmt: skip
        """Write how rows of results go to memory."""
        return f"""    #pragma unroll
    for (int i = 0; i < {self.rows}; i++)
      #pragma unroll
      for (int j = 0; j < {-(-n // _SIDE)}; j++) {{
        const int r = {first} + ty + {_SIDE} * i, f = tx + {_SIDE} * j;
        if (r < {count} && f < {n})
          b{buffer}[{base} + ({self.index})r * {self.step(buffer)} + f] =
              {self.name}_narrow({name}[i][j]{factor});
      }}
"""

    # ---------------------------------------------------------------- what a query sees
    @property
    def skips(self) -> bool:
        """Whether tiles that nobody sees are left out: not where hidden keys may count."""
        return self.p["empty"] == "zero" or not self.z.extras

    def head(self, number: str) -> str:
        """Write where a head of queries is, and in batch, heads and group for the masks."""
        _, h, g = self.z.lead
        text = f"  const {self.index} n = {number};\n"
        for k in range(len(self.z.extras)):
            sb, sh, sg = self.z.extras[k][2][:3]
            terms = [f"n / {h * g} * {sb}"] * (sb > 0) + [f"n / {g} % {h} * {sh}"] * (sh > 0)
            terms += [f"n % {g} * {sg}"] * (sg > 0)
            text += f"  const {self.index} m{k} = {' + '.join(terms) or '0'};\n"
        return text

    def logit(self, t: str, s: str) -> str:
        """Write ``seen``, and what becomes of ``z``, the product of a pair."""
        left, right = self.p["left"], self.p["right"]
        conditions = [] if right is None else [f"{s} <= {t} + {right}"]
        conditions += [] if left is None else [f"{s} >= {t} - {left}"]
        text, added = "", ""
        for k, (buffer, dtype, strides) in enumerate(self.z.extras):
            at = f"m{k} + ({self.index}){t} * {strides[3]} + {s} * {strides[4]}"
            if dtype.kind == "b":
                conditions.append(f"b{buffer}[{at}] != 0")
            else:
                b = CudaBlock()
                held = from_memory(b, ["held"], dtype)
                wide = wide_of(self.z.dtype)
                from_dtype = np.dtype(np.float64 if dtype == np.float64 else np.float32)
                if from_dtype != wide:
                    held = scalar(b, "convert", [held], [from_dtype], {"dtype": wide})
                lines = " ".join(line.strip() for line in b.lines)
                added += f"""        if (here) {{
          const {memory_type(dtype)} held = b{buffer}[{at}];
          {lines}
          z = z + {operand(held, self.real)};
        }}
"""
        hidden = -math.inf if self.p["empty"] == "zero" else LOWEST
        seen = " && ".join(["here", *conditions])
        return f"""        z = z * {literal(float(self.p["scale"]), self.real)};
{added}        const bool seen = {seen};
        if (!seen) z = {literal(hidden, self.real)};
{text}"""

    def span(self, side: int, first: str, source: int, before: Any, after: Any, step: int) -> str:
        """Write ``low`` and ``high``: which of the others a tile may meet."""
        low, high = "0", str(source)
        if self.skips and before is not None:
            low = f"({first} - {before} > 0 ? ({first} - {before}) / {step} * {step} : 0)"
        if self.skips and after is not None:
            end = f"{first} + {side + int(after)}"
            high = f"({end} < 0 ? 0 : {end} < {source} ? {end} : {source})"
        return f"  const int low = {low}, high = {high};\n"


# ---------------------------------------------------------------------- forward
def _weighted(w: Writer, wide: int) -> str:
    """Write how products of a tile become weights, relative to the greatest product so far."""
    z, real = w.z, w.real
    return f"""    #pragma unroll
    for (int i = 0; i < {w.rows}; i++) {{
      const int t = t0 + ty + {_SIDE} * i;
      {real} most = top[i];
      #pragma unroll
      for (int j = 0; j < {w.columns}; j++) {{
        const int s = s0 + tx + {_SIDE} * j;
        const bool here = t < {z.queries} && s < {z.keys};
        {real} z = x[i][j];
{w.logit("t", "s")}
        x[i][j] = s < {z.keys} ? z : {literal(-math.inf, real)};
        most = maximum_of(most, x[i][j]);
      }}
      #pragma unroll
      for (int d = {_SIDE // 2}; d > 0; d /= 2) most = maximum_of(most, shuffle_xor(most, d));
      const {real} base = most == {literal(-math.inf, real)} ? ({real})0 : most;
      const {real} shrunk = {w.name}_exp(top[i] - base);
      {real} sum = 0;
      #pragma unroll
      for (int j = 0; j < {w.columns}; j++) {{
        x[i][j] = {w.name}_exp(x[i][j] - base);
        sum = sum + x[i][j];
      }}
      #pragma unroll
      for (int d = {_SIDE // 2}; d > 0; d /= 2) sum = sum + shuffle_xor(sum, d);
      total[i] = {w.function}(total[i], shrunk, sum);
      top[i] = most;
      #pragma unroll
      for (int j = 0; j < {wide}; j++) o[i][j] = o[i][j] * shrunk;
    }}"""


def _forward(w: Writer) -> None:
    z, real = w.z, w.real
    out = 3 + len(z.extras)
    tiles = -(-z.queries // w.tall)
    text = w.begin() + w.head(f"blockIdx.x / {tiles}")
    wide = -(-z.values // _SIDE)
    text += f"""  const int t0 = ({tiles - 1} - (int)(blockIdx.x % {tiles})) * {w.tall};
{w.heads(q=(0, "n"), k=(1, w.shared_head), v=(2, w.shared_head))}
{w.span(w.tall, "t0", z.keys, w.p["left"], w.p["right"], w.broad)}
  {real} top[{w.rows}], total[{w.rows}];
  #pragma unroll
  for (int i = 0; i < {w.rows}; i++) top[i] = {literal(-math.inf, real)}, total[i] = 0;
{w.accumulators("o", wide)}
  for (int s0 = low; s0 < high; s0 += {w.broad}) {{
{w.products("x", (0, "t0", str(z.queries), "q"), (1, "s0", str(z.keys), "k"), z.features)}
{_weighted(w, wide)}
{w.keep("x[i][j]")}
{w.mixed("o", 2, "s0", str(z.keys), z.values, "v")}
  }}
  #pragma unroll
  for (int i = 0; i < {w.rows}; i++) {{
    const int t = t0 + ty + {_SIDE} * i;
    if (tx == 0 && t < {z.queries}) {{
      b{out + 1}[n * {z.queries} + t] = top[i];
      b{out + 2}[n * {z.queries} + t] = total[i];
    }}
    const {real} share = total[i] == 0 ? ({real})1 : ({real})1 / total[i];
    #pragma unroll
    for (int j = 0; j < {wide}; j++) o[i][j] = o[i][j] * share;
  }}
{w.write("o", out, "t0", z.queries, z.values, w.base(out, "n"))}"""
    w.launch("", text, tiles * z.heads, w.shared)


# ---------------------------------------------------------------------- backward
def _again(w: Writer, t: str, s: str, at: str) -> str:
    """Write ``p``, the weight of a pair, and ``back``, the cotangent of its product."""
    z, real = w.z, w.real
    return f"""        const bool here = {t} < {z.queries} && {s} < {z.keys};
        {real} z = x[i][j];
{w.logit(t, s)}
        {real} p = here ? {w.name}_exp(z - base[{at}]) * share[{at}] : ({real})0;
"""


def _rows_of(w: Writer, count: int, t: str, at: str) -> str:
    """Write what is known of queries: what is subtracted, divided by, and their mean."""
    z, real, out = w.z, w.real, 3 + len(w.z.extras)
    return f"""    {real} base[{count}], share[{count}], mean[{count}];
    #pragma unroll
    for (int {at} = 0; {at} < {count}; {at}++) {{
      const int t = {t};
      base[{at}] = share[{at}] = mean[{at}] = 0;
      if (t < {z.queries}) {{
        const {w.index} row = n * {z.queries} + t;
        const {real} top = b{out + 1}[row], total = b{out + 2}[row];
        base[{at}] = top == {literal(-math.inf, real)} ? ({real})0 : top;
        share[{at}] = total == 0 ? ({real})1 : ({real})1 / total;
        mean[{at}] = means[row];
      }}
    }}
"""


def means_of(w: Writer) -> str:
    z = w.z
    return f"  PART({w.real}, means, scratch, 0, {z.heads * z.queries});\n"


def _mean_of_rows(w: Writer) -> None:
    """Print the launch that leaves, for each query, the product of its result and cotangent."""
    z, out = w.z, 3 + len(w.z.extras)
    rows, ct = z.heads * z.queries, out + 3
    text = f"""{means_of(w)}
  const int lane = threadIdx.x % 32;
  const {w.index} row = ({w.index})blockIdx.x * {_WARPS} + threadIdx.x / 32;
  const {w.index} n = row / {z.queries}, t = row % {z.queries};
{w.heads(o=(out, "n"), c=(ct, "n"))}
  {w.real} sum = 0;
  if (row < {rows})
    for (int f = lane; f < {z.values}; f += 32)
      sum = {w.function}({w.name}_wide(b{out}[o + t * {w.step(out)} + f]),
                         {w.name}_wide(b{ct}[c + t * {w.step(ct)} + f]), sum);
  #pragma unroll
  for (int d = 16; d > 0; d /= 2) sum = sum + shuffle_xor(sum, d);
  if (row < {rows} && lane == 0) means[row] = sum;"""
    w.launch("_means", text, -(-rows // _WARPS), 0)


def _of_queries(w: Writer, target: int) -> None:
    """Print the launch that makes the cotangent of queries."""
    z, out = w.z, 3 + len(w.z.extras)
    tiles = -(-z.queries // w.tall)
    ct = out + 3
    text = w.begin() + means_of(w) + w.head(f"blockIdx.x / {tiles}")
    text += f"""  const int t0 = ({tiles - 1} - (int)(blockIdx.x % {tiles})) * {w.tall};
{w.heads(q=(0, "n"), k=(1, w.shared_head), c=(ct, "n"), v=(2, w.shared_head))}
{w.span(w.tall, "t0", z.keys, w.p["left"], w.p["right"], w.broad)}
{_rows_of(w, w.rows, f"t0 + ty + {_SIDE} * i", "i")}
{w.accumulators("o", -(-z.features // _SIDE))}
  for (int s0 = low; s0 < high; s0 += {w.broad}) {{
{w.products("x", (0, "t0", str(z.queries), "q"), (1, "s0", str(z.keys), "k"), z.features)}
{w.products("y", (ct, "t0", str(z.queries), "c"), (2, "s0", str(z.keys), "v"), z.values)}
    #pragma unroll
    for (int i = 0; i < {w.rows}; i++)
      #pragma unroll
      for (int j = 0; j < {w.columns}; j++) {{
        const int t = t0 + ty + {_SIDE} * i, s = s0 + tx + {_SIDE} * j;
{_again(w, "t", "s", "i")}
        x[i][j] = seen ? p * (y[i][j] - mean[i]) : ({w.real})0;
      }}
{w.keep("x[i][j]")}
{w.mixed("o", 1, "s0", str(z.keys), z.features, "k")}
  }}
{w.write("o", target, "t0", z.queries, z.features, w.base(target, "n"), scaled(w))}"""
    w.launch("_queries", text, tiles * z.heads, w.shared)


def scaled(w: Writer) -> str:
    return f" * {literal(float(w.p['scale']), w.real)}"


def _of_keys(w: Writer, key: int | None, value: int | None) -> None:
    """Print the launch that makes the cotangents of keys and values."""
    z, out, real = w.z, 3 + len(w.z.extras), w.real
    tiles, ct = -(-z.keys // w.tall), out + 3
    left, right = w.p["left"], w.p["right"]
    text = w.begin() + means_of(w)
    text += f"""  const {w.index} head = blockIdx.x / {tiles};
  const int s0 = (int)(blockIdx.x % {tiles}) * {w.tall};
{w.heads(k=(1, "head"), v=(2, "head"))}
{w.span(w.tall, "s0", z.queries, right, left, w.broad)}
"""
    text += w.accumulators("dk", -(-z.features // _SIDE)) if key is not None else ""
    text += w.accumulators("dv", -(-z.values // _SIDE)) if value is not None else ""
    again = ""
    if key is not None:
        again = w.products("y", (2, "s0", str(z.keys), "v"), (ct, "t0", str(z.queries), "c"),
                           z.values)  # fmt: skip
    text += f"""  for (int member = 0; member < {z.group}; member++) {{
  {w.head(f"head * {z.group} + member")}
{w.heads(q=(0, "n"), c=(ct, "n"))}
  for (int t0 = low; t0 < high; t0 += {w.broad}) {{
{_rows_of(w, w.columns, f"t0 + tx + {_SIDE} * j", "j")}
{w.products("x", (1, "s0", str(z.keys), "k"), (0, "t0", str(z.queries), "q"), z.features)}
{again}
    #pragma unroll
    for (int i = 0; i < {w.rows}; i++)
      #pragma unroll
      for (int j = 0; j < {w.columns}; j++) {{
        const int t = t0 + tx + {_SIDE} * j, s = s0 + ty + {_SIDE} * i;
{_again(w, "t", "s", "j")}
        x[i][j] = p;
"""
    if key is not None:
        text += f"        y[i][j] = seen ? p * (y[i][j] - mean[j]) : ({real})0;\n"
    text += "      }\n"
    if value is not None:
        text += w.keep("x[i][j]") + w.mixed("dv", ct, "t0", str(z.queries), z.values, "c")
    if key is not None:
        text += "    __syncthreads();\n" * (value is not None)
        text += w.keep("y[i][j]") + w.mixed("dk", 0, "t0", str(z.queries), z.features, "q")
    text += "  }\n  }\n"
    if value is not None:
        text += w.write("dv", value, "s0", z.keys, z.values, w.base(value, "head"))
    if key is not None:
        text += w.write("dk", key, "s0", z.keys, z.features, w.base(key, "head"), scaled(w))
    blocks = tiles * z.lead[0] * z.lead[1]
    w.launch("_keys", text, blocks, w.shared)


class Pieces(NamedTuple):
    """What prints the launches of a kind of writer.

    Attributes:
        forward: of a writer.
        of_queries: of it, and the buffer of the queries' cotangent.
        of_keys: of it, and the buffers of the keys' and the values', None where not wanted.
    """

    forward: Callable[[Any], None]
    of_queries: Callable[[Any, int], None]
    of_keys: Callable[[Any, int | None, int | None], None]


def printed(step: Attention, name: str, kind: type[Writer], pieces: Pieces) -> CudaCode:
    """Return attention, or its cotangents, as a kind of writer prints them."""
    eqn = step.eqn
    count, first = len(eqn.invars) + len(eqn.outvars), len(eqn.invars)
    backward = eqn.prim.name == "attention_grad"
    w = kind(sizes_of(step, 4 if backward else 0), eqn.params, name, count)
    for buffer, dtype, _ in w.z.extras:
        w.kinds[buffer] = "const " + memory_type(dtype)
    if not backward:
        w.kinds[first:] = [w.kind, w.real, w.real]
        prepared = _prepared(w, step)
        pieces.forward(w)
        return w.code(0, prepared)
    w.kinds[first - 3 : first - 1] = ["const " + w.real] * 2
    w.kinds[first:] = [w.kind] * (count - first)
    target = {n: first + k for k, n in enumerate(eqn.params["of"])}
    prepared = _prepared(w, step)
    _mean_of_rows(w)
    if 0 in target:
        pieces.of_queries(w, target[0])
    if 1 in target or 2 in target:
        pieces.of_keys(w, target.get(1), target.get(2))
    return w.code(-(-w.z.heads * w.z.queries * w.size // 64) * 64, prepared)


def _prepared(w: Writer, step: Attention) -> list[KernelLaunch]:
    """Print what comes before cuDNN, which has one number for what a softmax subtracted and
    divided by: forward it is subtracted, and 1 divides; backward it is left in scratch."""
    if as_attending(step) is None:
        return []
    backward = step.eqn.prim.name == "attention_grad"
    out, rows = 3 + len(w.z.extras), w.z.heads * w.z.queries
    text = f"b{out + 2}[at] = 1;"
    if backward:
        text = f"means[at] = b{out + 1}[at] + logf(b{out + 2}[at]);"
    head = means_of(w) if backward else ""
    body = f"""{head}  const int at = blockIdx.x * {THREADS} + threadIdx.x;
  if (at < {rows}) {text}"""
    w.launch("_sums", body, -(-rows // THREADS), 0)
    return [w.launches.pop()]


def print_attention(step: Attention, name: str) -> CudaCode:
    """Return attention, or its cotangents, as CUDA C++.

    Args:
        step: of an equation of which `has_kernel`.
        name: what the functions' names begin with.

    Returns:
        The code, whose functions take pointers to the step's arrays and scratch.
    """
    return printed(step, name, Writer, Pieces(_forward, _of_queries, _of_keys))
