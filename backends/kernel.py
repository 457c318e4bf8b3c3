"""The kernel: a loop nest with affine loads, a scalar body, reductions and stores.

This is what fusion makes and what code printers print. `check_kernel` verifies one, ``str(kernel)``
shows it, and `run_kernel` executes it with NumPy: the meaning that every printer is tested against.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from funtorch.core import primitives

__all__ = ["Affine", "Kernel", "Op", "Store", "check_kernel", "collapse", "row_major", "run_kernel"]


@dataclass(frozen=True)
class Affine:
    """An element offset: ``offset + sum(strides[k] * index[k])`` over the loop axes."""

    offset: int
    strides: tuple[int, ...]

    def __str__(self) -> str:
        terms = [f"{s}*i{k}" for k, s in enumerate(self.strides) if s]
        return " + ".join([str(self.offset), *terms] if self.offset or not terms else terms)


@dataclass(frozen=True)
class Op:
    """One scalar operation.

    It is 'load' (attr: buffer number), 'const' (attr: the value), 'index' (the value of ``where``),
    or the name of an elementwise primitive (attr: its params, and for a primitive of several
    results ``result``, which of them).
    """

    name: str
    args: tuple[int, ...]
    dtype: np.dtype
    attr: Any = None
    where: Affine | None = None


@dataclass(frozen=True)
class Store:
    """Write value number ``value`` to a buffer; ``reducer`` names the reduction, if any."""

    buffer: int
    value: int
    where: Affine
    reducer: str | None = None


@dataclass(frozen=True)
class Kernel:
    """Loops over ``sizes``; axes marked in ``reduced`` are summed (or so) away by every store."""

    name: str
    sizes: tuple[int, ...]
    reduced: tuple[bool, ...]
    buffers: tuple[np.dtype, ...]
    body: tuple[Op, ...]
    stores: tuple[Store, ...]

    def __str__(self) -> str:
        axes = " ".join(
            f"i{k}<{n}{'(reduced)' if r else ''}"
            for k, (n, r) in enumerate(zip(self.sizes, self.reduced, strict=True))
        )
        lines = [f"kernel {self.name} [{axes}]"]
        for k, op in enumerate(self.body):
            what = {
                "load": f" b{op.attr}[{op.where}]",
                "const": f" {op.attr}",
                "index": f" {op.where}",
            }
            rest = what.get(op.name) or "".join(f" v{a}" for a in op.args) + (
                f" {op.attr}" if op.attr else ""
            )
            lines.append(f"  v{k}:{op.dtype.name} = {op.name}{rest}")
        for s in self.stores:
            how = "=" if s.reducer is None else f"={s.reducer}="
            lines.append(f"  b{s.buffer}[{s.where}] {how} v{s.value}")
        return "\n".join(lines)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides, in elements, of a contiguous array."""
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))


def check_kernel(kernel: Kernel) -> None:
    """Check that values come before their uses and that axes, buffers and dtypes agree.

    Raises:
        ValueError: naming the first thing that is wrong.
    """

    def need(ok: bool, what: str) -> None:
        if not ok:
            raise ValueError(f"{what} in\n{kernel}")

    need(len(kernel.sizes) == len(kernel.reduced), "sizes and reduced differ in length")
    for k, op in enumerate(kernel.body):
        need(all(0 <= a < k for a in op.args), f"v{k} uses a later value")
        need(op.where is None or len(op.where.strides) == len(kernel.sizes), f"v{k} has other axes")
        if op.name == "load":
            need(op.dtype == kernel.buffers[op.attr], f"v{k} loads another dtype")
    written = {s.buffer for s in kernel.stores}
    need(len(written) == len(kernel.stores), "a buffer is stored twice")
    need(
        not written & {op.attr for op in kernel.body if op.name == "load"},
        "a buffer is loaded and stored",
    )
    for s in kernel.stores:
        need(
            kernel.body[s.value].dtype == kernel.buffers[s.buffer],
            f"store to b{s.buffer} changes the dtype",
        )
        need(
            (s.reducer is not None) == any(kernel.reduced),
            f"store to b{s.buffer} misses its reduction",
        )
        need(
            all(st == 0 for st, r in zip(s.where.strides, kernel.reduced, strict=True) if r),
            f"store to b{s.buffer} moves along a reduced axis",
        )


def collapse(kernel: Kernel) -> Kernel:
    """Merge neighbouring axes that every access walks through as one, and drop axes of size 1.

    A reduction over no axes, or over axes of size 1 alone, becomes a plain store.
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
            and kernel.reduced[groups[-1][0]] == kernel.reduced[k]
            and all(m.strides[groups[-1][0]] == m.strides[k] * n for m in maps)
        ):
            groups[-1] = [k, groups[-1][1] * n]
        else:
            groups.append([k, n])
    if not groups:
        groups = [[0, 1]] if kernel.sizes else []
    axes = [k for k, _ in groups]

    def squeeze(m: Affine | None) -> Affine | None:
        return None if m is None else Affine(m.offset, tuple(m.strides[k] for k in axes))

    reduced = tuple(kernel.reduced[k] for k in axes)
    stores = tuple(
        replace(s, where=squeeze(s.where), reducer=s.reducer if any(reduced) else None)
        for s in kernel.stores
    )
    body = tuple(replace(op, where=squeeze(op.where)) for op in kernel.body)
    sizes = tuple(n for _, n in groups)
    return replace(kernel, sizes=sizes, reduced=reduced, body=body, stores=stores)


def _view(kernel: Kernel, buffer: np.ndarray, where: Affine, shape: Sequence[int]) -> np.ndarray:
    flat = buffer.reshape(-1)
    strides = [s * flat.itemsize if n > 1 else 0 for s, n in zip(where.strides, shape, strict=True)]
    return as_strided(flat[where.offset :], shape, strides)


def run_kernel(kernel: Kernel, buffers: Sequence[np.ndarray]) -> None:
    """Execute a kernel with NumPy, writing into the (contiguous) buffers that it stores to."""
    values: list[np.ndarray] = []
    with np.errstate(all="ignore"):
        for op in kernel.body:
            if op.name == "load":
                value = _view(kernel, buffers[op.attr], op.where, kernel.sizes)
            elif op.name == "const":
                value = np.broadcast_to(np.asarray(op.attr, op.dtype), kernel.sizes)
            elif op.name == "index":
                grid = np.indices(kernel.sizes)
                value = sum(
                    (s * g for s, g in zip(op.where.strides, grid, strict=True)), op.where.offset
                )
                value = np.broadcast_to(value, kernel.sizes).astype(op.dtype)
            else:
                params = dict(op.attr or {})
                result = params.pop("result", None)
                value = primitives[op.name].eager(np, *[values[a] for a in op.args], **params)
                value = value if result is None else value[result]
            values.append(np.asarray(value))
        axes = tuple(k for k, r in enumerate(kernel.reduced) if r)
        for s in kernel.stores:
            value = values[s.value]
            if s.reducer is not None:
                value = np.asarray(primitives[s.reducer].eager(np, value, axes=axes))
            kept = [k for k in range(len(kernel.sizes)) if k not in axes]
            where = Affine(s.where.offset, tuple(s.where.strides[k] for k in kept))
            _view(kernel, buffers[s.buffer], where, [kernel.sizes[k] for k in kept])[...] = value
