"""What attention means in other operations, its derivatives, and its batches.

Compiled programs have the meaning in its place, unless their backend has a kernel for it. The
derivatives are operations of their own that use what the softmax subtracted and divided by, so
that a backward pass may compute the weights again rather than keep them; where both passes are in
one program, and the weights are in memory anyway, equal expressions are computed once. Derivatives
of derivatives, and in what is added to the products, are those of the meaning.

With many pairs, the meaning treats some queries at a time, each time with all keys that one of them
may see.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch.core import LinearArg, aval_of
from funtorch.ops.attention import (
    LOWEST,
    attention_grad_p,
    attention_p,
    attention_tangent_p,
    wide_of,
)
from funtorch.ops.contract import dot_general
from funtorch.ops.elementwise import stop_gradient
from funtorch.ops.families import broadcast_in_dim
from funtorch.ops.shape import iota, reshape
from funtorch.placement import array_of, buffer_of

from .forward import jvp_flat, linearize_flat
from .remat import checkpoint
from .reverse import transpose_jaxpr
from .scan import map, scan

__all__: list[str] = []

MOST_PAIRS = 1 << 24
"""With more pairs than this, queries are treated in tiles of about an eighth as many pairs."""
LEAST_ROWS = 16
_PARTS = 4  # in which queries that see some keys alone are treated, each with those that it sees

# Axes that products sum, of pairs (b h g t s), queries or results (b h g t e), and keys (b h s e).
_LOGITS = (((4,), (3,)), ((0, 1), (0, 1)))
_MIXED = (((4,), (2,)), ((0, 1), (0, 1)))
_SPREAD = (((2, 3), (2, 3)), ((0, 1), (0, 1)))


# ------------------------------------------------------------------------------- some queries
def _masks(extras: Sequence[Any]) -> list[Any]:
    return [x for x in extras if x.dtype == bool]


def _product(x: Any, y: Any, numbers: Any, dtype: Any) -> Any:
    return dot_general(x.astype(dtype), y.astype(dtype), dimension_numbers=numbers, out_dtype=dtype)


def _numbers(count: int) -> Any:
    """Return 0, 1, ...; not as a constant, which no expansion may have."""
    return iota(shape=(count,), axis=0, dtype=np.dtype(np.int32))


class _Tile:
    """Queries from number ``first`` on, and keys from number ``low`` on, and what they may see."""

    def __init__(
        self, q: Any, k: Any, v: Any, extras: Sequence[Any], first: Any, low: int,
        scale: float, left: int | None, right: int | None, empty: str,
    ) -> None:  # fmt: skip
        self.q, self.k, self.v, self.extras = q, k, v, extras
        self.scale, self.zero = scale, empty == "zero"
        self.wide = wide_of(q.dtype)
        self.allowed = self._allowed(first, low, left, right)

    def _allowed(self, first: Any, low: int, left: int | None, right: int | None) -> Any:
        found = _masks(self.extras)
        if left is not None or right is not None:
            own = first + _numbers(self.q.shape[3])[:, None]
            other = low + _numbers(self.k.shape[2])[None, :]
            found += [] if right is None else [other <= own + right]
            found += [] if left is None else [other >= own - left]
        allowed = found[0] if found else None
        for x in found[1:]:
            allowed = allowed & x
        return allowed

    def logits(self) -> Any:
        found = _product(self.q, self.k, _LOGITS, self.wide) * self.scale
        for x in self.extras:
            if x.dtype != bool:
                found = found + x.astype(self.wide)
        if self.allowed is None:
            return found
        return fnp.where(self.allowed, found, -fnp.inf if self.zero else LOWEST)

    def raised(self, logits: Any, top: Any) -> Any:
        # Of a row that sees nothing all are -inf: it must become 0, with derivatives 0.
        top = fnp.where(top == -fnp.inf, 0, top) if self.zero else top
        return fnp.exp(logits - top[..., None])

    def shares(self, raised: Any, total: Any) -> Any:
        total = fnp.where(total == 0, 1, total) if self.zero else total
        return raised / total[..., None]

    def hidden(self, x: Any) -> Any:
        """Return x, 0 where a pair is hidden."""
        return x if self.allowed is None else fnp.where(self.allowed, x, 0)

    def forward(self) -> tuple[Any, Any, Any]:
        logits = self.logits()
        top = stop_gradient(logits.max(-1))
        raised = self.raised(logits, top)
        total = raised.sum(-1)
        weights = self.shares(raised, total).astype(self.v.dtype)
        return _product(weights, self.v, _MIXED, self.v.dtype), top, total

    def weights(self, top: Any, total: Any) -> Any:
        return self.shares(self.raised(self.logits(), top), total)

    def tangent(self, out: Any, top: Any, total: Any, ts: dict[int, Any]) -> tuple[Any]:
        weights, wide = self.weights(top, total), self.wide
        found = _product(weights, ts[2], _MIXED, wide) if 2 in ts else None
        moved = None
        if 0 in ts:
            moved = _product(ts[0], self.k, _LOGITS, wide)
        if 1 in ts:
            other = _product(self.q, ts[1], _LOGITS, wide)
            moved = other if moved is None else moved + other
        if moved is not None:
            moved = weights * self.hidden(moved * self.scale)
            moved = moved - weights * moved.sum(-1, keepdims=True)
            moved = _product(moved, self.v, _MIXED, wide)
            found = moved if found is None else found + moved
        return (found.astype(out.dtype),)

    def backward(
        self, out: Any, top: Any, total: Any, ct: Any, of: Sequence[int]
    ) -> dict[int, Any]:
        """Return cotangents in the wide dtype."""
        weights, wide, found = self.weights(top, total), self.wide, {}
        if 2 in of:
            found[2] = _product(weights, ct, _SPREAD, wide)
        if 0 in of or 1 in of:
            back = self.hidden(_product(ct, self.v, _LOGITS, wide))
            mean = (weights * back).sum(-1, keepdims=True)
            back = weights * (back - mean) * self.scale
            if 0 in of:
                found[0] = _product(back, self.k, _MIXED, wide)
            if 1 in of:
                found[1] = _product(back, self.q, _SPREAD, wide)
        return found


# ------------------------------------------------------------------------------- all queries
def _rows(q: Any, k: Any) -> int:
    """Return how many queries are treated at a time."""
    length, each = q.shape[3], math.prod(q.shape[:3]) * k.shape[2]
    if length * each <= MOST_PAIRS:
        return length
    rows = max(MOST_PAIRS // 8 // each, LEAST_ROWS)
    return min(length, math.ceil(length / math.ceil(length / rows)))


def _ranges(
    length: int, source: int, rows: int, extras: Sequence[Any], left: int | None, right: int | None,
    empty: str,
) -> Iterator[tuple[int, int, int, int]]:  # fmt: skip
    """Yield runs of queries, start and stop, and of the keys that they may see."""
    some = left is not None or right is not None
    if not some or (empty == "mean" and extras):
        yield 0, length, 0, source
        return
    tiles = math.ceil(length / rows)
    each = math.ceil(tiles / _PARTS) * rows
    for start in range(0, length, each):
        stop = min(start + each, length)
        low = 0 if left is None else min(max(start - left, 0), source - 1)
        high = source if right is None else min(max(stop + right, 1), source)
        yield (start, stop, low, high) if low < high else (start, stop, 0, source)


def _split(x: Any, rows: int, count: int, fill: float = 0) -> Any:
    """Split the axis of queries into tiles; they are a new first axis."""
    more = count * rows - x.shape[3]
    if more:
        widths = [(0, more) if d == 3 else (0, 0) for d in range(x.ndim)]
        x = fnp.pad(x, widths, constant_values=fill)
    return fnp.moveaxis(x.reshape(*x.shape[:3], count, rows, *x.shape[4:]), 3, 0)


def _joined(x: Any, length: int) -> Any:
    """Return what tiles made as one array."""
    x = fnp.moveaxis(x, 0, 3)
    return x.reshape(*x.shape[:3], -1, *x.shape[5:])[:, :, :, :length]


class _Run:
    """A run of queries as tiles that a loop goes over, and the keys and masks for all of them."""

    def __init__(
        self, given: Sequence[Any], own: Sequence[Any], where: tuple[int, int, int, int], rows: int
    ) -> None:
        q, k, v, *extras = given
        self.start, stop, self.low, high = where
        self.length = stop - self.start
        count = math.ceil(self.length / rows)
        self.firsts = self.start + rows * _numbers(count)
        self.k, self.v = k[:, :, self.low : high], v[:, :, self.low : high]
        self.high = high
        self.fixed: list[Any] = []
        self.moving: list[Any] = []
        self.order: list[bool] = []
        for x in extras:
            x = x[..., self.low : high] if x.shape[4] == k.shape[2] else x
            long = x.shape[3] == q.shape[3] > 1
            self.order.append(long)
            if long:
                self.moving.append(_split(x[:, :, :, self.start : stop], rows, count))
            else:
                self.fixed.append(x)
        # A query that is not there has a softmax of 1s, of which nothing comes.
        fills = (0, 0, 0, 1, 0) if len(own) > 3 else (0,) * (len(own) + 1)
        parts = [x[:, :, :, self.start : stop] for x in (q, *own)]
        self.own = [_split(x, rows, count, f) for x, f in zip(parts, fills, strict=True)]

    def tile(self, x: Any, k: Any, v: Any, params: dict[str, Any]) -> tuple[_Tile, list[Any]]:
        """Return a tile and what else it has of its own."""
        first, (q, *own), moving = x
        turns, still = iter(moving), iter(self.fixed)
        extras = [next(turns) if long else next(still) for long in self.order]
        return _Tile(q, k, v, extras, first, self.low, **params), own

    @property
    def xs(self) -> Any:
        return self.firsts, self.own, self.moving


def _runs(given: Sequence[Any], own: Sequence[Any], params: dict[str, Any]) -> list[_Run] | None:
    """Return runs of tiles; None where all queries are treated at once."""
    q, k, _, *extras = given
    rows = _rows(q, k)
    if rows >= q.shape[3]:
        return None
    limits = {n: params[n] for n in ("left", "right", "empty")}
    found = _ranges(q.shape[3], k.shape[2], rows, extras, **limits)
    return [_Run(given, own, where, rows) for where in found]


def _whole(given: Sequence[Any], params: dict[str, Any]) -> _Tile:
    q, k, v, *extras = given
    return _Tile(q, k, v, extras, 0, 0, **params)


def _by_tiles(runs: Sequence[_Run], f: Callable[..., Any]) -> list[Any]:
    """Return what f gives for each tile, as arrays of all queries."""
    parts = []
    for run in runs:
        made = map(functools.partial(f, run), run.xs)
        parts.append([_joined(y, run.length) for y in made])
    return [fnp.concatenate(ys, 3) if len(ys) > 1 else ys[0] for ys in zip(*parts, strict=True)]


def _attend(*given: Any, **params: Any) -> list[Any]:
    """Return out, top and total."""
    runs = _runs(given, (), params)
    if runs is None:
        return list(_whole(given, params).forward())
    return _by_tiles(runs, lambda run, x: run.tile(x, run.k, run.v, params)[0].forward())


def _plain(*given: Any, **params: Any) -> list[Any]:
    """Return out alone, so that it has derivatives of every order, and in little memory."""
    runs = _runs(given, (), params)
    if runs is None:
        return [_whole(given, params).forward()[0]]

    def one(run: _Run, x: Any) -> Any:
        tile = checkpoint(lambda x, k, v: run.tile(x, k, v, params)[0].forward()[0])
        return [tile(x, run.k, run.v)]

    return _by_tiles(runs, one)


def _forward_tangent(*args: Any, of: tuple[int, ...], **params: Any) -> Any:
    n = len(of)
    given, results, ts = args[: -3 - n], args[-3 - n : len(args) - n], args[len(args) - n :]
    own = [t for which, t in zip(of, ts, strict=True) if which == 0]
    runs = _runs(given, (*results, *own), params)
    others = {which: t for which, t in zip(of, ts, strict=True) if which}
    if runs is None:
        out, top, total = results
        return _whole(given, params).tangent(out, top, total, dict(zip(of, ts, strict=True)))[0]

    def one(run: _Run, x: Any) -> Any:
        tile, (out, top, total, *tq) = run.tile(x, run.k, run.v, params)
        moved = {which: t[:, :, run.low : run.high] for which, t in others.items()}
        return tile.tangent(out, top, total, moved | dict(enumerate(tq)))

    return _by_tiles(runs, one)[0]


def _backward(*args: Any, of: tuple[int, ...], **params: Any) -> list[Any]:
    *given, out, top, total, ct = args
    q, k = given[:2]
    runs = _runs(given, (out, top, total, ct), params)
    if runs is None:
        found = _whole(given, params).backward(out, top, total, ct, of)
        return [found[n].astype(q.dtype) for n in of]
    wide, sums = wide_of(q.dtype), [n for n in of if n]
    totals: dict[int, Any] = {}
    of_queries = []
    for run in runs:

        def step(carry: Any, x: Any, run: _Run = run) -> Any:
            tile, own = run.tile(x, run.k, run.v, params)
            out, top, total, ct = own
            found = tile.backward(out, top, total, ct, of)
            added = [c + found[n] for c, n in zip(carry, sums, strict=True)]
            return added, [found[0].astype(q.dtype)] if 0 in of else []

        none = [fnp.zeros((run.k, run.v)[n - 1].shape, wide) for n in sums]
        carry, made = scan(step, none, run.xs)
        of_queries += [_joined(y, run.length) for y in made]
        for n, c in zip(sums, carry, strict=True):
            lost = k.shape[2] - run.high
            c = fnp.pad(c, [(0, 0), (0, 0), (run.low, lost), (0, 0)])
            totals[n] = totals[n] + c if n in totals else c
    found = {n: t.astype(q.dtype) for n, t in totals.items()}
    if 0 in of:
        found[0] = fnp.concatenate(of_queries, 3) if len(of_queries) > 1 else of_queries[0]
    return [found[n] for n in of]


# ------------------------------------------------------------------------------- derivatives
def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
    if any(t is not None for t in tangents[3:]):  # of what is added to the products
        outs = attention_p.bind(*primals, **params)
        _, (t,) = jvp_flat(lambda *xs: _plain(*xs, **params), primals, tangents)
        return outs, [t, None, None]
    outs = attention_p.bind(*primals, **params)
    of = tuple(n for n in range(3) if tangents[n] is not None)
    moved = [tangents[n] for n in of]
    t = attention_tangent_p.bind(*primals, *outs, *moved, of=of, **params)
    return outs, [t, None, None]


def _tangent_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, of: tuple[int, ...], **params: Any
) -> Any:
    n = len(of)
    split = len(primals) - n
    out = attention_tangent_p.bind(*primals, of=of, **params)
    given = split - 3
    if all(t is None for t in tangents[:given]):  # linear in the tangents
        kept = [j for j in range(n) if tangents[split + j] is not None]
        moved = [tangents[split + j] for j in kept]
        t = attention_tangent_p.bind(
            *primals[:split], *moved, of=tuple(of[j] for j in kept), **params
        ) if kept else None  # fmt: skip
        return out, t

    def whole(*args: Any) -> list[Any]:
        xs, ts = args[:given], dict(zip(of, args[given:], strict=True))
        moved = [ts.get(k) for k in range(len(xs))]
        return jvp_flat(lambda *ys: _plain(*ys, **params), xs, moved)[1]

    def but_results(xs: Sequence[Any]) -> list[Any]:
        return [*xs[:given], *xs[split:]]

    _, (t,) = jvp_flat(whole, but_results(primals), but_results(tangents))
    return out, t


def _grad_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, of: tuple[int, ...], **params: Any
) -> Any:
    outs = attention_grad_p.bind(*primals, of=of, **params)
    *held, ct = tangents
    given = len(held) - 3
    if all(t is None for t in held[:given]):  # linear in the cotangent
        if ct is None:
            return outs, [None] * len(of)
        return outs, attention_grad_p.bind(*primals[:-1], ct, of=of, **params)

    def whole(*args: Any) -> list[Any]:
        *xs, ct = args
        wanted = [k in of for k in range(len(xs))]
        _, linear, _ = linearize_flat(lambda *ys: _plain(*ys, **params), xs, wanted)
        found = dict(zip(sorted(of), transpose_jaxpr(linear, [ct]), strict=True))
        return [found[k] for k in of]

    def but_results(xs: Sequence[Any]) -> list[Any]:
        return [*xs[:given], xs[-1]]

    _, ts = jvp_flat(whole, but_results(primals), but_results(tangents))
    return outs, ts


def _tangent_transpose(ct: Any, *args: Any, of: tuple[int, ...], **params: Any) -> list[Any]:
    split = len(args) - len(of)
    wanted = [j for j in range(len(of)) if type(args[split + j]) is LinearArg]
    found = attention_grad_p.bind(*args[:split], ct, of=tuple(of[j] for j in wanted), **params)
    grads: list[Any] = [None] * len(args)
    for j, g in zip(wanted, found, strict=True):
        grads[split + j] = g
    return grads


def _grad_transpose(cts: Any, *args: Any, of: tuple[int, ...], **params: Any) -> list[Any]:
    kept = [j for j, c in enumerate(cts) if c is not None]
    moved = [cts[j] for j in kept]
    t = attention_tangent_p.bind(
        *args[:-1], *moved, of=tuple(of[j] for j in kept), **params
    ) if kept else None  # fmt: skip
    return [*[None] * (len(args) - 1), t]


# ------------------------------------------------------------------------------- batches
def _batch(prim: Any, extras_of: Callable[[int, dict[str, Any]], range]) -> Callable[..., Any]:
    """Return the rule that makes one axis of the batch's and the operation's own."""

    def rule(axis: Any, args: Any, batched: Any, **params: Any) -> Any:
        size, extras = axis.size, extras_of(len(args), params)
        own = max(aval_of(a).shape[b] for a, b in zip(args, batched, strict=True))

        def folded(k: int, x: Any, has: bool) -> Any:
            shape = aval_of(x).shape
            rest = shape[1:] if has else shape
            if k in extras and rest[0] == 1 and not has:
                return x
            if not has or (k in extras and rest[0] != own):
                wide = (size, own, *rest[1:])
                start = 0 if has else 1
                x = broadcast_in_dim(x, shape=wide, dims=tuple(range(start, len(wide))))
            return reshape(x, shape=(size * own, *rest[1:]))

        given = [folded(k, x, b) for k, (x, b) in enumerate(zip(args, batched, strict=True))]
        outs = prim.bind(*given, **params)

        def unfolded(x: Any) -> Any:
            return reshape(x, shape=(size, own, *aval_of(x).shape[1:]))

        if prim.multiple_results:
            return [unfolded(x) for x in outs], [True] * len(outs)
        return unfolded(outs), True

    return rule


def _extras(after: int) -> Callable[[int, dict[str, Any]], range]:
    return lambda count, params: range(3, count - after - len(params.get("of", ())))


def _extras_of_grad(count: int, params: dict[str, Any]) -> range:
    return range(3, count - 4)


def _eager(meaning: Callable[..., Any], many: bool) -> Callable[..., Any]:
    def eager(xp: Any, *buffers: Any, **params: Any) -> Any:
        outs = meaning(*[array_of(b) for b in buffers], **params)
        return [buffer_of(x) for x in outs] if many else buffer_of(outs)

    return eager


attention_p.expand, attention_p.jvp = _attend, _jvp
attention_p.batch = _batch(attention_p, _extras(0))
attention_tangent_p.expand, attention_tangent_p.jvp = _forward_tangent, _tangent_jvp
attention_tangent_p.transpose = _tangent_transpose
attention_tangent_p.batch = _batch(attention_tangent_p, _extras(3))
attention_grad_p.expand, attention_grad_p.jvp = _backward, _grad_jvp
attention_grad_p.transpose = _grad_transpose
attention_grad_p.batch = _batch(attention_grad_p, _extras_of_grad)
for _prim in (attention_p, attention_tangent_p, attention_grad_p):
    _prim.eager = _eager(_prim.expand, _prim.multiple_results)
    _prim.nests = True
