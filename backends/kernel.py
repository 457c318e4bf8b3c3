"""The kernel: a loop nest with affine loads, a scalar body, reductions and stores.

This is what fusion makes and what code printers print. `check_kernel` verifies one, ``str(kernel)``
shows it, and `run_kernel` executes it with NumPy: the meaning that every printer is tested against.

Some axes are *inner*; the others are the *rows*. A value that does not change along the inner axes
is a row's value, the others are elements' values; a ``reduce`` operation makes a row's value of all
its elements. A value's *stage* is how many reductions lie before it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from funtorch.core import primitives

__all__ = [
    "Affine",
    "Kernel",
    "Op",
    "Store",
    "axes_of",
    "check_kernel",
    "collapse",
    "in_memory",
    "levels",
    "needs",
    "operands",
    "row_major",
    "run_kernel",
    "serial_axes",
]


@dataclass(frozen=True)
class Affine:
    """An element offset: a constant, strides times loop indices, and strides times values.

    Attributes:
        dynamic: pairs (number of an integer value of the body, stride).
    """

    offset: int
    strides: tuple[int, ...]
    dynamic: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        terms = [f"{s}*i{k}" for k, s in enumerate(self.strides) if s]
        terms += [f"{s}*v{n}" for n, s in self.dynamic]
        return " + ".join([str(self.offset), *terms] if self.offset or not terms else terms)


@dataclass(frozen=True)
class Op:
    """One scalar operation.

    It is 'load' (attr: buffer number; an argument is a bool: where it is false, 0 is the value and
    memory is left alone), 'const' (attr: the value), 'index' (the value of ``where``), 'reduce' (of
    its argument over the inner axes; attr: the reduction's primitive), 'cumulate' (the same of all
    elements so far; there is one inner axis, run through in order), or the name of an elementwise
    primitive (attr: its params, and for a primitive of several results ``result``, which of them).
    """

    name: str
    args: tuple[int, ...]
    dtype: np.dtype
    attr: Any = None
    where: Affine | None = None


@dataclass(frozen=True)
class Store:
    """Write value number ``value`` to a buffer.

    Attributes:
        mask: number of a bool value: nothing is written where it is false.
        how: 'set', or how the value is combined with what memory holds: 'add', 'mul', 'min', 'max';
            or a reduction's primitive: what is written is the reduction of elements over all rows.
    """

    buffer: int
    value: int
    where: Affine
    mask: int | None = None
    how: str = "set"

    @property
    def over_rows(self) -> bool:
        """Whether it writes reductions over the rows."""
        return self.how.startswith("reduce_")


@dataclass(frozen=True)
class Kernel:
    """Loops over ``sizes``; the axes marked in ``inner`` are those that reductions run over."""

    name: str
    sizes: tuple[int, ...]
    inner: tuple[bool, ...]
    buffers: tuple[np.dtype, ...]
    body: tuple[Op, ...]
    stores: tuple[Store, ...]

    def __str__(self) -> str:
        axes = " ".join(
            f"i{k}<{n}{'(inner)' if r else ''}"
            for k, (n, r) in enumerate(zip(self.sizes, self.inner, strict=True))
        )
        lines = [f"kernel {self.name} [{axes}]"]
        for k, op in enumerate(self.body):
            args = "".join(f" v{a}" for a in op.args)
            rest = {
                "load": f" b{op.attr}[{op.where}]{' if' if args else ''}{args}",
                "const": f" {op.attr}",
                "index": f" {op.where}",
                "cumulate": f" {str(op.attr).removeprefix('reduce_')}{args}",
                "reduce": f" {str(op.attr).removeprefix('reduce_')}{args}",
            }.get(op.name, args + (f" {op.attr}" if op.attr else ""))
            lines.append(f"  v{k}:{op.dtype.name} = {op.name}{rest}")
        for s in self.stores:
            how = "=" if s.how == "set" else f"={s.how}="
            mask = "" if s.mask is None else f" if v{s.mask}"
            lines.append(f"  b{s.buffer}[{s.where}] {how} v{s.value}{mask}")
        return "\n".join(lines)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides, in elements, of a contiguous array."""
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))


def operands(op: Op) -> tuple[int, ...]:
    """Return the numbers of the values that an operation needs."""
    return op.args if op.where is None else (*op.args, *(n for n, _ in op.where.dynamic))


def needs(s: Store) -> tuple[int, ...]:
    """Return the numbers of the values that a store needs."""
    mask = () if s.mask is None else (s.mask,)
    return (s.value, *mask, *(n for n, _ in s.where.dynamic))


def axes_of(kernel: Kernel) -> list[frozenset[int]]:
    """Return the axes along which each value changes."""
    inner = frozenset(k for k, r in enumerate(kernel.inner) if r)
    axes: list[frozenset[int]] = []
    for op in kernel.body:
        found = frozenset(k for k, s in enumerate(op.where.strides) if s) if op.where else ()
        found = frozenset(found).union(*(axes[a] for a in operands(op)))
        found = found | inner if op.name == "cumulate" else found
        axes.append(found - inner if op.name == "reduce" else found)
    return axes


def levels(kernel: Kernel) -> tuple[list[int], list[bool]]:
    """Return each value's stage, and whether it is an element's (or else a row's)."""
    stages: list[int] = []
    for op in kernel.body:
        stage = max((stages[a] for a in operands(op)), default=0)
        stages.append(stage + (op.name == "reduce"))
    inner = {k for k, r in enumerate(kernel.inner) if r}
    return stages, [not inner.isdisjoint(axes) for axes in axes_of(kernel)]


def serial_axes(kernel: Kernel) -> frozenset[int]:
    """Return the axes that must run in order, by one thread, for the sake of scattering stores.

    Those are the axes that decide where such a store goes; along the others it moves through axes
    of its own of the array, as fusion makes them, and never meets itself.
    """
    axes = axes_of(kernel)
    found: set[int] = set()
    for s in kernel.stores:
        if s.where.dynamic or not (s.how == "set" or s.over_rows):
            found |= {k for k, n in enumerate(kernel.sizes) if n != 1 and not s.where.strides[k]}
            found = found.union(*(axes[n] for n, _ in s.where.dynamic))
    return frozenset(found)


def check_kernel(kernel: Kernel) -> None:
    """Check that values come before their uses and that axes, buffers and dtypes agree.

    Raises:
        ValueError: naming the first thing that is wrong.
    """

    def need(ok: bool, what: str) -> None:
        if not ok:
            raise ValueError(f"{what} in\n{kernel}")

    body = kernel.body
    if len(kernel.sizes) != len(kernel.inner):
        raise ValueError(f"sizes {kernel.sizes} and inner {kernel.inner} differ in length")
    for k, op in enumerate(body):
        need(all(0 <= a < k for a in operands(op)), f"v{k} uses a later value")
        if op.where is not None:
            need(len(op.where.strides) == len(kernel.sizes), f"v{k} has other axes")
            need(
                all(body[n].dtype.kind in "iu" for n, _ in op.where.dynamic),
                f"v{k} is placed by a value that is no integer",
            )
        if op.name == "load":
            need(op.dtype == kernel.buffers[op.attr], f"v{k} loads another dtype")
            need(all(body[a].dtype.kind == "b" for a in op.args), f"v{k} has a mask of no bools")
        if op.name == "reduce":
            need(any(kernel.inner), f"v{k} reduces over no axes")
        if op.name == "cumulate":
            need(sum(kernel.inner) == 1, f"v{k} runs along several axes")
        if op.name in ("reduce", "cumulate"):
            need(op.dtype == body[op.args[0]].dtype, f"v{k} changes the dtype")
    written = {s.buffer for s in kernel.stores}
    for first, second in itertools.combinations(kernel.stores, 2):
        if first.buffer == second.buffer:
            need(_apart(kernel.sizes, first, second), f"two stores to b{first.buffer} may meet")
    need(
        not written & {op.attr for op in body if op.name == "load"}, "a buffer is loaded and stored"
    )
    _, element = levels(kernel)
    for s in kernel.stores:
        need(
            body[s.value].dtype == kernel.buffers[s.buffer],
            f"store to b{s.buffer} changes the dtype",
        )
        need(
            s.mask is None or body[s.mask].dtype.kind == "b",
            f"store to b{s.buffer} has a mask of no bools",
        )
        if s.over_rows:
            still = [st == 0 for st in s.where.strides]
            need(
                s.mask is None and not s.where.dynamic and still == [not r for r in kernel.inner],
                f"store to b{s.buffer} does not reduce over the rows",
            )
            continue
        moves = [bool(st) or n == 1 for st, n in zip(s.where.strides, kernel.sizes, strict=True)]
        along = [m for m, r in zip(moves, kernel.inner, strict=True) if r]
        wide = any(
            element[n] for n in (s.value, s.mask, *(n for n, _ in s.where.dynamic)) if n is not None
        )
        need(
            bool(s.where.dynamic) or s.how != "set" or not wide or all(along),
            f"store to b{s.buffer} puts a row's elements in one place",
        )


def _apart(sizes: Sequence[int], first: Store, second: Store) -> bool:
    """Tell whether two stores surely write different elements of a buffer: side by side."""
    plain = all(s.how == "set" and s.mask is None and not s.where.dynamic for s in (first, second))
    distance = abs(first.where.offset - second.where.offset)
    if not plain or first.where.strides != second.where.strides:
        return False
    span, inside = 0, True  # of the axes that the distance leaps over
    for stride, n in sorted(zip(first.where.strides, sizes, strict=True)):
        if n == 1:
            continue
        if inside and stride > distance:
            inside = False
            if distance <= span:
                return False
            span += distance
        if stride <= span:
            return False
        span += (n - 1) * stride
    return distance > span if inside else True


def is_row_store(kernel: Kernel, store: Store, element: Sequence[bool]) -> bool:
    """Tell whether a store is done once per row."""
    used = (store.value, *([] if store.mask is None else [store.mask]))
    used += tuple(n for n, _ in store.where.dynamic)
    still = not any(
        s and n != 1 and r
        for s, n, r in zip(store.where.strides, kernel.sizes, kernel.inner, strict=True)
    )
    return still and not any(element[n] for n in used)


def collapse(kernel: Kernel) -> Kernel:
    """Merge neighbouring axes that every access walks through as one, and drop axes of size 1.

    A reduction over axes of size 1 alone becomes a copy.
    """
    maps = [op.where for op in kernel.body if op.where is not None] + [
        s.where for s in kernel.stores
    ]
    groups: list[list[int]] = []  # [last axis, size]
    for k, n in enumerate(kernel.sizes):
        if n == 1:
            continue
        if (
            groups
            and kernel.inner[groups[-1][0]] == kernel.inner[k]
            and all(m.strides[groups[-1][0]] == m.strides[k] * n for m in maps)
        ):
            groups[-1] = [k, groups[-1][1] * n]
        else:
            groups.append([k, n])
    axes = [k for k, _ in groups]

    def squeeze(m: Affine | None) -> Affine | None:
        return None if m is None else replace(m, strides=tuple(m.strides[k] for k in axes))

    inner = tuple(kernel.inner[k] for k in axes)
    body = [replace(op, where=squeeze(op.where)) for op in kernel.body]
    if not any(inner):
        folds = ("reduce", "cumulate")
        body = [Op("copy", o.args, o.dtype) if o.name in folds else o for o in body]
    stores = tuple(replace(s, where=squeeze(s.where)) for s in kernel.stores)
    sizes = tuple(n for _, n in groups)
    return replace(kernel, sizes=sizes, inner=inner, body=tuple(body), stores=stores)


def in_memory(kernel: Kernel, places: Sequence[object]) -> tuple[Kernel, list[int]]:
    """Return a kernel whose buffers in the same memory are one, and which buffers it keeps."""
    stored = {places[s.buffer] for s in kernel.stores}
    kept: list[int] = []
    number: dict[object, int] = {}
    new = []
    for k, place in enumerate(places):
        key = place if place in stored else (k, "read")
        if key not in number:
            number[key] = len(kept)
            kept.append(k)
        new.append(number[key])
    if len(kept) == len(places):
        return kernel, kept
    body = tuple(replace(op, attr=new[op.attr]) if op.name == "load" else op for op in kernel.body)
    stores = tuple(replace(s, buffer=new[s.buffer]) for s in kernel.stores)
    buffers = tuple(kernel.buffers[k] for k in kept)
    return replace(kernel, buffers=buffers, body=body, stores=stores), kept


# ---------------------------------------------------------------------- the meaning of a kernel
_UPDATES = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}
_RUNNING = {
    "reduce_sum": "cumsum",
    "reduce_prod": "cumprod",
    "reduce_max": "cummax",
    "reduce_min": "cummin",
    "reduce_logaddexp": "cumlogsumexp",
}


def _places(kernel: Kernel, where: Affine, values: Sequence[np.ndarray]) -> np.ndarray:
    """Return the offsets that ``where`` stands for, all loops wide where it moves."""
    found = np.full((1,) * len(kernel.sizes), where.offset, np.int64)
    for k, (s, n) in enumerate(zip(where.strides, kernel.sizes, strict=True)):
        if s:
            axis = [1] * len(kernel.sizes)
            axis[k] = n
            found = found + s * np.arange(n, dtype=np.int64).reshape(axis)
    for n, s in where.dynamic:
        found = found + s * values[n].astype(np.int64)
    return found


def _load(memory: np.ndarray, places: np.ndarray, mask: Sequence[np.ndarray]) -> np.ndarray:
    if not mask:
        return memory[places]
    places, ok = np.broadcast_arrays(places, mask[0])
    out = np.zeros(places.shape, memory.dtype)
    out[ok] = memory[places[ok]]
    return out


def _write(kernel: Kernel, s: Store, memory: np.ndarray, values: Sequence[np.ndarray]) -> None:
    if s.over_rows:
        rows = tuple(k for k, r in enumerate(kernel.inner) if not r)
        wide = np.broadcast_to(values[s.value], kernel.sizes)
        found = np.expand_dims(np.asarray(primitives[s.how].eager(np, wide, axes=rows)), rows)
        memory[_places(kernel, s.where, values)] = found
        return
    mask = np.ones((1,) * len(kernel.sizes), bool) if s.mask is None else values[s.mask]
    if is_row_store(kernel, s, levels(kernel)[1]):
        shape = [1 if r else n for n, r in zip(kernel.sizes, kernel.inner, strict=True)]
    else:
        shape = list(kernel.sizes)
    places, value, mask = (
        np.broadcast_to(a, shape) for a in (_places(kernel, s.where, values), values[s.value], mask)
    )
    if s.how == "set":
        memory[places[mask]] = value[mask]
    else:
        _UPDATES[s.how].at(memory, places[mask], value[mask])


def run_kernel(kernel: Kernel, buffers: Sequence[np.ndarray]) -> None:
    """Execute a kernel with NumPy, writing into the (contiguous) buffers that it stores to."""
    axes = tuple(k for k, r in enumerate(kernel.inner) if r)
    flat = [b.reshape(-1) for b in buffers]
    values: list[np.ndarray] = []
    with np.errstate(all="ignore"):
        for op in kernel.body:
            args = [values[a] for a in op.args]
            if op.name == "load":
                value = _load(flat[op.attr], _places(kernel, op.where, values), args)
            elif op.name == "const":
                value = np.full((1,) * len(kernel.sizes), op.attr, op.dtype)
            elif op.name == "index":
                value = _places(kernel, op.where, values).astype(op.dtype)
            elif op.name == "reduce":
                wide = np.broadcast_to(args[0], kernel.sizes)
                value = primitives[op.attr].eager(np, wide, axes=axes)
                value = np.expand_dims(np.asarray(value), axes)
            elif op.name == "cumulate":
                wide = np.broadcast_to(args[0], kernel.sizes)
                running = primitives[_RUNNING[op.attr]]
                value = running.eager(np, wide, axis=axes[0], reverse=False)
            else:
                params = dict(op.attr or {})
                result = params.pop("result", None)
                value = primitives[op.name].eager(np, *np.broadcast_arrays(*args), **params)
                value = value if result is None else value[result]
            values.append(np.asarray(value))
        for s in kernel.stores:
            _write(kernel, s, flat[s.buffer], values)
