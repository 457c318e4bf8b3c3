"""Steps as kernels: what runs where no library is asked.

They say what a step means, for every form of it; they are not the quickest that there is.
"""

from __future__ import annotations

import numpy as np

from ..kernel import Affine, Kernel, Op, Store
from ..plan import Correlation, Dot, Running

__all__ = ["conv_kernel", "dot_kernel", "running_kernel"]

_INT = np.dtype("int32")
_BOOL = np.dtype(bool)


def dot_kernel(step: Dot) -> Kernel:
    """Return the kernel of matrix products: a sum of products for each element."""
    sizes = (*step.batches, *step.rows, step.n, *step.sums)
    nb, nr, ns = len(step.batches), len(step.rows), len(step.sums)
    a, b, out = step.places
    rows, none = (0,) * nr, (0,) * ns
    where_a = (*a.strides[: nb + nr], 0, *a.strides[nb + nr :])
    where_b = (*b.strides[:nb], *rows, b.strides[-1], *b.strides[nb : nb + ns])
    where_out = (*out.strides, *none)
    dtype = np.dtype(step.out.aval.dtype)
    body = (
        Op("load", (), dtype, 0, Affine(a.offset, where_a)),
        Op("load", (), dtype, 1, Affine(b.offset, where_b)),
        Op("mul", (0, 1), dtype),
        Op("reduce", (2,), dtype, "reduce_sum"),
    )
    store = Store(2, 3, Affine(out.offset, where_out))
    inner = (False,) * (nb + nr + 1) + (True,) * ns
    return Kernel("dot", sizes, inner, (dtype,) * 3, body, (store,))


def conv_kernel(part: Correlation, dtype: np.dtype) -> Kernel:
    """Return the kernel of a dense convolution: what lies outside of the array is not loaded."""
    m = len(part.space)
    rows = (part.batch, part.groups, part.outs, *part.places)
    sums = (part.features, *part.window)
    sizes, nr = (*rows, *sums), len(rows)
    dtype = np.dtype(dtype)
    body: list[Op] = []

    def add(op: Op) -> int:
        body.append(op)
        return len(body) - 1

    def unit(*steps: tuple[int, int]) -> tuple[int, ...]:
        found = [0] * len(sizes)
        for axis, stride in steps:
            found[axis] += stride
        return tuple(found)

    # x, over (b, g, i, *space); w, over (g, o, i, *window); y, over (b, g, o, *places).
    xs, ws, ys = part.x.strides, part.w.strides, part.y.strides
    offset, moves = part.x.offset, [(0, xs[0]), (1, xs[1]), (nr, xs[2])]
    mask: int | None = None
    for k in range(m):
        stride, dilation, low = part.strides[k], part.dilation[k], part.low[k]
        place, tap = 3 + k, nr + 1 + k
        offset -= low * xs[3 + k]
        moves += [(place, stride * xs[3 + k]), (tap, dilation * xs[3 + k])]
        last = (part.places[k] - 1) * stride + (part.window[k] - 1) * dilation - low
        where = Affine(-low, unit((place, stride), (tap, dilation)))
        tests = [("ge", 0)] * (low > 0) + [("lt", part.space[k])] * (last >= part.space[k])
        for name, bound in tests:
            at = add(Op("index", (), _INT, None, where))
            ok = add(Op(name, (at, add(Op("const", (), _INT, bound))), _BOOL))
            mask = ok if mask is None else add(Op("bitwise_and", (mask, ok), _BOOL))
    given = () if mask is None else (mask,)
    x = add(Op("load", given, dtype, 0, Affine(offset, unit(*moves))))
    taps = [(nr + 1 + k, ws[3 + k]) for k in range(m)]
    spot = unit((1, ws[0]), (2, ws[1]), (nr, ws[2]), *taps)
    w = add(Op("load", (), dtype, 1, Affine(part.w.offset, spot)))
    total = add(Op("reduce", (add(Op("mul", (x, w), dtype)),), dtype, "reduce_sum"))
    home = unit((0, ys[0]), (1, ys[1]), (2, ys[2]), *((3 + k, ys[3 + k]) for k in range(m)))
    store = Store(2, total, Affine(part.y.offset, home))
    inner = (False,) * nr + (True,) * len(sums)
    return Kernel("conv", sizes, inner, (dtype,) * 3, tuple(body), (store,))


def running_kernel(step: Running) -> Kernel:
    """Return the kernel of cumulative sums and the like along rows."""
    dtype, n = np.dtype(step.x.aval.dtype), step.n
    where = Affine(n - 1, (n, -1)) if step.reverse else Affine(0, (n, 1))
    body = (Op("load", (), dtype, 0, where), Op("cumulate", (0,), dtype, f"reduce_{step.name}"))
    store = Store(1, 1, where)
    return Kernel("running", (step.rows, n), (False, True), (dtype,) * 2, body, (store,))
