"""Epilogues: kernels that run on each block of a product while it is in the cache.

What a product makes is often read once, by the kernel behind it: a bias, an activation, a residual,
a softmax over its rows. Where that kernel goes over the product's rows, it becomes a part of the
product's step: every block of the result is made in memory that stays in the cache, the kernel
reads it there, and what nobody else reads is never written.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from funtorch.dims import scope_of
from funtorch.jaxpr import Var

from .kernel import Affine, Kernel, Op, Store, row_major, serial_axes
from .plan import Conv, Dot, Epilogue, Launch, Plan, Step, reads

__all__ = ["TILE", "with_epilogues"]

TILE = 1 << 18  # bytes of a block
_RULES = {
    "bytes": 1 << 17,  # of the result at least: what is smaller is near in any case
    "far": 1 << 24,  # bytes from which it is far, and a pass dear whatever the sums
    "terms": 512,  # in a sum, up to which a pass over a result that is not far counts beside it
    "ratio": 4,  # how many times longer than the result a sum may be: longer ones are cut
    "depth": 2,  # terms of a sum for every row of a block of whole rows, for which all of b is read
    "outs": 8,  # features of a convolution in a block of whole planes
    "places": 128,  # of a plane: fewer fill vectors badly
    "brief": 8,  # elements that are reduced where memory runs along what is left
}
"""When a kernel becomes an epilogue, besides its form: where a pass over memory that is saved takes
longer than what blocks of a given form cost. Measured on results from 256 KB to 64 MB."""


def with_epilogues(plan: Plan) -> Plan:
    """Return a plan in which kernels are parts of the products before them."""
    steps: list[Step | None] = list(plan.steps)
    readers: dict[Var, list[int]] = {}
    for k, step in enumerate(plan.steps):
        for v in set(reads(step)):
            if isinstance(v, Var):
                readers.setdefault(v, []).append(k)
    kept = {v for v in plan.jaxpr.outvars if isinstance(v, Var)}
    # A kernel that reads several products belongs to the last one.
    for k in reversed(range(len(steps))):
        step = steps[k]
        if not isinstance(step, (Dot, Conv)) or not (after := readers.get(step.out)):
            continue
        launch = steps[after[0]]
        if not isinstance(launch, Launch) or not _is_known(step, launch.kernel):
            continue
        result = _result(step)
        if result is None or not result.is_worthwhile:
            continue
        found = _epilogue(step, result, launch, len(after) > 1 or step.out in kept)
        if found is not None:
            # Nobody reads the product before the kernel does, so it can wait until then.
            steps[k], steps[after[0]] = None, replace(step, after=found)
    if None not in steps:
        return plan
    return replace(plan, steps=tuple(step for step in steps if step is not None))


def _is_known(step: Dot | Conv, kernel: Kernel) -> bool:
    """Tell whether all sizes are numbers; of those known later, no blocks are written."""
    if isinstance(step, Dot):
        sizes, places = [*step.batches, *step.rows, *step.sums, step.n], list(step.places)
    else:
        sizes = [n for c in step.parts for n in (c.batch, *c.space, *c.places)]
        places = [place for c in step.parts for place in (c.x, c.w, c.y)]
    places += [op.where for op in kernel.body if op.where is not None]
    places += [s.where for s in kernel.stores]
    numbers = (n for place in places for n in (place.offset, *place.strides))
    return scope_of([*sizes, *kernel.sizes, *numbers]) is None


@dataclass(frozen=True)
class _Result:
    """What a product or a convolution makes, as a matrix whose rows lie one behind the other.

    Attributes:
        rows, columns: its sizes.
        terms: of each sum.
        size: bytes of an element.
        room: rows of a block of whole rows; 0: there is none.
    """

    rows: int
    columns: int
    terms: int
    size: int
    room: int

    @property
    def bytes(self) -> int:
        return self.rows * self.columns * self.size

    @property
    def is_far(self) -> bool:
        return self.bytes >= _RULES["far"]

    @property
    def is_worthwhile(self) -> bool:
        dear = self.terms <= _RULES["terms"] or self.is_far
        return self.bytes >= _RULES["bytes"] and dear and self.rows > 1 and self.columns > 1


def _result(step: Dot | Conv) -> _Result | None:
    """Return what a step makes; None if it lies otherwise, or is made in pieces."""
    size = step.out.aval.dtype.itemsize
    if isinstance(step, Dot):
        place, sizes = step.places[2], (*step.batches, *step.rows, step.n)
        room = min(TILE // (step.n * size), step.m)
        room = room if step.k <= _RULES["depth"] * room else 0
        found = _Result(step.batch * step.m, step.n, step.k, size, room)
        pieces = step.k > _RULES["ratio"] * max(step.m, step.n)
    else:
        c = step.parts[0]
        plane, taps = math.prod(c.places), math.prod(c.window)
        place, sizes = c.y, (c.batch, c.groups, c.outs, *c.places)
        room = TILE // (plane * size)
        packed = c.features * math.prod(c.space) * math.prod(c.window[1:]) * size
        room = room if room >= _RULES["outs"] and packed <= TILE else 0
        found = _Result(c.batch * c.groups * c.outs, plane, c.features * taps, size, room)
        # Many taps at few places are summed up tap by tap, few places sample by sample.
        pieces = len(step.parts) > 1 or not step.covered or plane < _RULES["places"] or taps > plane
    in_order = place.offset == 0 and place.strides == row_major(sizes)
    return found if in_order and not pieces else None


def _epilogue(step: Dot | Conv, result: _Result, launch: Launch, stored: bool) -> Epilogue | None:
    """Return a kernel as the epilogue of a product, if it goes over its rows.

    Args:
        stored: whether the product itself must be in memory too.
    """
    if launch.seeds:
        return None
    tile = launch.vars.index(step.out)
    found = _by_rows(launch.kernel, tile, result.rows, result.columns)
    if found is None:
        return None
    kernel, lead = found
    whole = not _is_plain(kernel, tile, lead, result.columns)
    if whole and not result.room:
        return None
    if isinstance(step, Conv) and not _suits_convolution(kernel, whole or result.is_far):
        return None
    if not stored:
        return Epilogue(Launch(kernel, launch.vars), tile, lead, whole)
    storing = _storing(kernel, tile, lead, result.columns)
    if storing is None:
        return None
    return Epilogue(Launch(storing, (*launch.vars, step.out)), tile, lead, whole)


def _suits_convolution(kernel: Kernel, dear: bool) -> bool:
    """Tell whether a kernel may follow a convolution, whose blocks may overlap.

    Args:
        dear: whether more is spared than a pass over what is not far.
    """
    return dear and all(s.how == "set" for s in kernel.stores)


def _loads(kernel: Kernel, tile: int) -> list[Op]:
    return [op for op in kernel.body if op.name == "load" and op.attr == tile]


def _by_rows(kernel: Kernel, tile: int, rows: int, n: int) -> tuple[Kernel, int] | None:
    """Return a kernel whose first axes count the rows of a buffer, in order; and how many do.

    Every load from the buffer must read from the row that these axes are at.
    """
    loads = _loads(kernel, tile)
    if any(op.args or op.where.dynamic for op in loads) or serial_axes(kernel):
        return None
    if any(op.name == "cumulate" for op in kernel.body):
        return None
    if any(s.where.dynamic or s.mask is not None for s in kernel.stores):
        return None
    kernel = _cut(kernel, loads[0].where.strides, n)
    loads = _loads(kernel, tile)
    steps = loads[0].where.strides
    lead = sorted((k for k, s in enumerate(steps) if s and s % n == 0), key=lambda k: -steps[k])
    rest = [k for k in range(len(steps)) if k not in lead]
    kernel = _with_totals(kernel, lead)
    sizes = [kernel.sizes[k] for k in lead]
    if math.prod(sizes) != rows or [steps[k] // n for k in lead] != list(row_major(sizes)):
        return None
    if not rest or rest[-1] != len(steps) - 1 or any(kernel.inner[k] for k in lead):
        return None
    inner = [size for size, r in zip(kernel.sizes, kernel.inner, strict=True) if r]
    if inner and not kernel.inner[-1] and math.prod(inner) > _RULES["brief"]:
        return None
    for op in loads:
        ways = [(op.where.strides[k] * (kernel.sizes[k] - 1)) for k in rest]
        first = op.where.offset + sum(min(0, w) for w in ways)
        last = op.where.offset + sum(max(0, w) for w in ways)
        if first < 0 or last >= n or any(op.where.strides[k] != steps[k] for k in lead):
            return None
    return _permuted(kernel, [*lead, *rest]), len(lead)


def _with_totals(kernel: Kernel, rows: Sequence[int]) -> Kernel:
    """Return a kernel that reduces over its rows as one that writes totals of them."""
    inner = [k for k, r in enumerate(kernel.inner) if r]
    reduced = {n: op for n, op in enumerate(kernel.body) if op.name == "reduce"}
    read = {a for op in kernel.body for a in op.args}
    if sorted(rows) != inner or not read.isdisjoint(reduced):
        return kernel
    # What takes the place of a reduction is read by nobody, and dropped when code is written.
    stores = tuple(
        replace(s, value=reduced[s.value].args[0], how=str(reduced[s.value].attr))
        if s.value in reduced
        else s
        for s in kernel.stores
    )
    body = tuple(Op("copy", op.args, op.dtype) if op.name == "reduce" else op for op in kernel.body)
    return replace(kernel, inner=tuple(not r for r in kernel.inner), body=body, stores=stores)


def _cut(kernel: Kernel, steps: Sequence[int], n: int) -> Kernel:
    """Return a kernel each of whose axes is one of rows of n elements, or lies in such a row."""
    cuts = {}
    for k, (size, step) in enumerate(zip(kernel.sizes, steps, strict=True)):
        if 0 < step < n and step * size > n and n % step == 0 and size % (n // step) == 0:
            cuts[k] = size * step // n, n // step
    if not cuts:
        return kernel

    def strides(at: Affine) -> Affine:
        found: list[int] = []
        for k, s in enumerate(at.strides):
            found += [s * cuts[k][1], s] if k in cuts else [s]
        return replace(at, strides=tuple(found))

    kernel = _placed(kernel, strides)
    split = [cuts.get(k, (size,)) for k, size in enumerate(kernel.sizes)]
    inner = tuple(r for r, parts in zip(kernel.inner, split, strict=True) for _ in parts)
    return replace(kernel, sizes=tuple(itertools.chain(*split)), inner=inner)


def _permuted(kernel: Kernel, order: Sequence[int]) -> Kernel:
    kernel = _placed(kernel, lambda at: replace(at, strides=tuple(at.strides[k] for k in order)))
    inner = tuple(kernel.inner[k] for k in order)
    return replace(kernel, sizes=tuple(kernel.sizes[k] for k in order), inner=inner)


def _placed(kernel: Kernel, change: Callable[[Affine], Affine]) -> Kernel:
    """Return a kernel with other places."""
    body = tuple(
        op if op.where is None else replace(op, where=change(op.where)) for op in kernel.body
    )
    stores = tuple(replace(s, where=change(s.where)) for s in kernel.stores)
    return replace(kernel, body=body, stores=stores)


def _is_plain(kernel: Kernel, tile: int, lead: int, n: int) -> bool:
    """Tell whether a kernel does one thing to each element of a row, at its place."""
    at_its_place = all(
        op.where.offset == 0 and op.where.strides[lead:] == (1,) for op in _loads(kernel, tile)
    )
    over_rows = any(s.over_rows for s in kernel.stores)
    return at_its_place and kernel.sizes[lead:] == (n,) and not any(kernel.inner) and not over_rows


def _storing(kernel: Kernel, tile: int, lead: int, n: int) -> Kernel | None:
    """Return a kernel that also writes what it reads of a buffer to a further one."""
    for k, op in enumerate(kernel.body):
        if op.name == "load" and op.attr == tile and op.where.offset == 0:
            sizes = kernel.sizes[lead:]
            if math.prod(sizes) == n and op.where.strides[lead:] == row_major(sizes):
                store = Store(len(kernel.buffers), k, op.where)
                buffers = (*kernel.buffers, kernel.buffers[tile])
                return replace(kernel, buffers=buffers, stores=(*kernel.stores, store))
    return None
