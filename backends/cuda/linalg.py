"""Linear algebra on GPUs: the primitives on matrices by cuSOLVER and cuBLAS.

The libraries overwrite their operands, which lie column by column: each rule makes such a copy,
and gives transposed views of it back. Nothing waits for the GPU: whether a factorisation failed is
read there, and what failed becomes nan, as on the CPU. What is not here is in `placement.HOST`.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes, hardware
from funtorch.core import eval_trace, use_trace
from funtorch.hardware import Device
from funtorch.ops.matrices import HALF, MACROS
from funtorch.placement import array_of, buffer_of, on_host

from .libraries import KINDS, Blas, Solver, blas_of, prefix, solver_of

__all__ = ["OWN_RULES", "RULES"]

_LOWER, _UPPER = 0, 1  # CUBLAS_FILL_MODE_*
_RIGHT = 1  # CUBLAS_SIDE_RIGHT
_SMALL = 256  # rows up to which many matrices are factorised side by side


class _Matrices:
    """Copies of matrices (..., m, n), column by column one after the other.

    Attributes:
        held: an array (..., n, m), row-major.
        info: for each matrix what functions report: 0 where they succeeded.
    """

    def __init__(self, device: Device, x: Any) -> None:
        self.xp = hardware.cupy()
        self.held = self.xp.array(x.swapaxes(-1, -2), order="C")
        self.device, self.dtype = device, x.dtype
        self.lead, (self.m, self.n) = x.shape[:-2], x.shape[-2:]
        self.count = math.prod(self.lead)
        self.info = self.room((self.count,), np.int32)
        self.kind, self.letter = KINDS[x.dtype.name], prefix(x.dtype)
        self.step = self.m * self.n * x.dtype.itemsize

    def room(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Return uninitialised memory for each matrix."""
        return self.xp.empty(tuple(shape), np.dtype(self.dtype if dtype is None else dtype))

    @property
    def solver(self) -> Solver:
        return solver_of(self.device).on(self.xp.cuda.get_current_stream())

    @property
    def blas(self) -> Blas:
        return blas_of(self.device).on(self.xp.cuda.get_current_stream())

    def at(self, k: int) -> int:
        """Return the address of a matrix."""
        return self.held.data.ptr + k * self.step

    def addresses(self) -> Any:
        """Return the addresses of all matrices, in the GPU's memory."""
        return _addresses(self.xp, self.held, self.step, self.count)

    def report(self, k: int) -> int:
        """Return the address where a function reports on a matrix."""
        return self.info.data.ptr + k * 4

    @property
    def turned(self) -> Any:
        """The matrices as they are now, (..., m, n)."""
        return self.held.swapaxes(-1, -2)

    def good(self, x: Any) -> Any:
        """Return results (..., of any rank) with nan for the matrices that failed."""
        return _where(self.xp, (self.info == 0).reshape(self.lead), x)


def _addresses(xp: Any, held: Any, step: int, count: int) -> Any:
    first = held.data.ptr
    return xp.arange(first, first + count * step, step, dtype=np.dtype(np.uint64))


def _where(xp: Any, good: Any, x: Any) -> Any:
    """Return x with nan where ``good``, which has its leading axes, is false."""
    good = good.reshape(good.shape + (1,) * (x.ndim - good.ndim))
    return xp.where(good, x, xp.full((), np.nan, x.dtype))


def _finite(xp: Any, x: Any) -> tuple[Any, Any]:
    """Return which matrices are finite, and the matrices with zeros for the others."""
    good = xp.isfinite(x).all(axis=(-2, -1))
    return good, xp.where(good[..., None, None], x, xp.zeros((), x.dtype))


# ---------------------------------------------------------------------------------- factorisations
def _cholesky(device: Device, x: Any) -> tuple[Any]:
    w = _Matrices(device, x)
    n = w.n
    if w.count > 1:
        where = w.addresses()
        w.solver.call(
            f"cusolverDn{w.letter}potrfBatched",
            _LOWER, n, where.data.ptr, n, w.report(0), w.count,
        )  # fmt: skip
    else:
        asked = _LOWER, n, w.kind, w.at(0), n, w.kind
        w.solver.generic("Xpotrf", asked, asked, [w.report(0)])
    return (w.good(w.xp.tril(w.turned)),)


def _factorised(w: _Matrices) -> Any:
    """Factorise by Gauss' elimination in place; return the pivots, which count from 1."""
    k = min(w.m, w.n)
    if w.count > 1 and w.m == w.n <= _SMALL:
        where, pivots = w.addresses(), w.room((w.count, k), np.int32)
        w.blas.call(
            f"cublas{w.letter}getrfBatched",
            w.n, where.data.ptr, w.n, pivots.data.ptr, w.report(0), w.count,
        )  # fmt: skip
        return pivots
    pivots, solver = w.room((w.count, k), np.int64), w.solver
    for i in range(w.count):
        asked = w.m, w.n, w.kind, w.at(i), w.m, w.kind
        given = *asked[:5], pivots.data.ptr + i * k * 8, w.kind
        solver.generic("Xgetrf", asked, given, [w.report(i)])
    return pivots


def _getrf(device: Device, x: Any) -> tuple[Any, Any]:
    w = _Matrices(device, x)
    pivots = _factorised(w)  # a zero pivot is the caller's business
    return w.turned, pivots.astype(np.dtype(np.int32)).reshape(*w.lead, pivots.shape[-1])


def _solve(device: Device, a: Any, b: Any) -> tuple[Any]:
    w, y = _Matrices(device, a), _Matrices(device, b)
    pivots = _factorised(w)
    n, count = w.n, y.n
    if pivots.dtype == np.int32:
        left, right, wrong = w.addresses(), y.addresses(), ctypes.c_int()
        w.blas.call(
            f"cublas{w.letter}getrsBatched",
            0, n, count, left.data.ptr, n, pivots.data.ptr, right.data.ptr, n,
            ctypes.addressof(wrong), w.count,
        )  # fmt: skip
    else:
        solver = w.solver
        for i in range(w.count):
            solver.call(
                "cusolverDnXgetrs", solver.params, 0, n, count, w.kind, w.at(i), n,
                pivots.data.ptr + i * n * 8, w.kind, y.at(i), n, y.report(i),
            )  # fmt: skip
    return (w.good(y.turned),)


def _triangular(
    device: Device, a: Any, b: Any, *, lower: bool, trans: int, unit: bool
) -> tuple[Any]:
    """Solve xᵀ op(a)ᵀ = bᵀ: as the library sees what lies row by row, that is x a = b."""
    xp = hardware.cupy()
    a, x = xp.ascontiguousarray(a), xp.array(b, order="C")
    (n, k), count = b.shape[-2:], math.prod(b.shape[:-2])
    one = np.ones((), a.dtype)
    head = _RIGHT, _UPPER if lower else _LOWER, trans, int(unit), k, n, one.ctypes.data
    blas = blas_of(device).on(xp.cuda.get_current_stream())
    if count == 1:
        name = f"cublas{prefix(a.dtype)}trsm_v2"
        blas.call(name, *head, a.data.ptr, n, x.data.ptr, k)
    else:
        left, right = (_addresses(xp, z, z.nbytes // count, count) for z in (a, x))
        name = f"cublas{prefix(a.dtype)}trsmBatched"
        blas.call(name, *head, left.data.ptr, n, right.data.ptr, k, count)
    if unit:
        return (x,)
    regular = (a.diagonal(0, -2, -1) != 0).all(axis=-1)
    return (_where(xp, regular, x),)


# ---------------------------------------------------------------------------------- reflectors
def _reflected(w: _Matrices) -> Any:
    """Put reflectors over matrices; return their factors."""
    k = min(w.m, w.n)
    taus, solver = w.room((w.count, k)), w.solver
    for i in range(w.count):
        tau = taus.data.ptr + i * k * w.dtype.itemsize
        asked = w.m, w.n, w.kind, w.at(i), w.m, w.kind, tau, w.kind
        solver.generic("Xgeqrf", asked, asked, [w.report(i)])
    return taus.reshape(*w.lead, k)


def _geqrf(device: Device, x: Any) -> tuple[Any, Any]:
    w = _Matrices(device, x)
    taus = _reflected(w)
    return w.turned, taus


def _product(device: Device, a: Any, taus: Any) -> tuple[Any]:
    """Return the first columns of the product of reflectors."""
    w, k = _Matrices(device, a), taus.shape[-1]
    taus = w.xp.ascontiguousarray(taus)
    name = f"cusolverDn{w.letter}{'un' if w.dtype.kind == 'c' else 'or'}gqr"
    solver = w.solver
    for i in range(w.count):
        tau = taus.data.ptr + i * k * w.dtype.itemsize
        head, size = (w.m, w.n, k, w.at(i), w.m, tau), ctypes.c_int()
        solver.call(f"{name}_bufferSize", *head, ctypes.addressof(size))
        work = w.room((max(size.value, 1),))
        solver.call(name, *head, work.data.ptr, size.value, w.report(i))
    return (w.turned,)


def _qr(device: Device, x: Any, *, full: bool) -> tuple[Any, Any]:
    xp, (m, n) = hardware.cupy(), x.shape[-2:]
    columns = m if full else min(m, n)
    packed, taus = _geqrf(device, x)
    wide = packed[..., :columns]
    if columns > n:
        wide = xp.concatenate([packed, xp.zeros((*x.shape[:-1], columns - n), x.dtype)], axis=-1)
    return _product(device, wide, taus)[0], xp.triu(packed[..., :columns, :])


# ---------------------------------------------------------------------------------- spectra
def _eigh(device: Device, x: Any, *, vectors: bool) -> tuple[Any, ...]:
    xp = hardware.cupy()
    good, x = _finite(xp, xp.tril(x))
    w, n = _Matrices(device, x), x.shape[-1]
    real = dtypes.real_dtype(w.dtype)
    values, kind, solver = w.room((w.count, n), real), KINDS[real.name], w.solver

    def asked(i: int) -> tuple[Any, ...]:
        there = values.data.ptr + i * n * real.itemsize
        return int(vectors), _LOWER, n, w.kind, w.at(i), n, kind, there, w.kind

    if w.count > 1 and solver.has("cusolverDnXsyevBatched"):
        solver.generic("XsyevBatched", asked(0), asked(0), [w.report(0), w.count])
    else:
        for i in range(w.count):
            solver.generic("Xsyevd", asked(i), asked(i), [w.report(i)])
    outs = [values.reshape(*w.lead, n), *([w.turned] if vectors else [])]
    return tuple(_where(xp, good, w.good(out)) for out in outs)


def _svd(device: Device, x: Any, *, full: bool, vectors: bool) -> tuple[Any, ...]:
    """Return factors; the library wants no fewer rows than columns: else it gets xᴴ."""
    xp = hardware.cupy()
    good, x = _finite(xp, x)
    wide = x.shape[-2] < x.shape[-1]
    w = _Matrices(device, x.conj().swapaxes(-1, -2) if wide else x)
    m, n = w.m, w.n
    real = dtypes.real_dtype(w.dtype)
    across = (m if full else n) if vectors else 0
    s, u = w.room((w.count, n), real), w.room((w.count, across, m))
    v = w.room((w.count, n if vectors else 0, n))
    job = ord(("A" if full else "S") if vectors else "N")
    solver = w.solver
    for i in range(w.count):
        there = [z.data.ptr + i * (z.nbytes // w.count) for z in (s, u, v)]
        asked = (
            job, job, m, n, w.kind, w.at(i), m, KINDS[real.name], there[0],
            w.kind, there[1], m, w.kind, there[2], n, w.kind,
        )  # fmt: skip
        solver.generic("Xgesvd", asked, asked, [w.report(i)])
    values = _where(xp, good, w.good(s.reshape(*w.lead, n)))
    if not vectors:
        return (values,)
    left, right = (z.reshape(*w.lead, *z.shape[1:]).swapaxes(-1, -2) for z in (u, v))
    if wide:
        left, right = right.conj().swapaxes(-1, -2), left.conj().swapaxes(-1, -2)
    left, right = (_where(xp, good, w.good(z)) for z in (left, right))
    return left, values, right


# ---------------------------------------------------------------------------------- the rules
RULES: dict[str, Callable[..., tuple[Any, ...]]] = {
    "cholesky": _cholesky,
    "eigh": _eigh,
    "geqrf": _geqrf,
    "getrf": _getrf,
    "householder_product": _product,
    "qr": _qr,
    "solve": _solve,
    "svd": _svd,
    "triangular_solve": _triangular,
}
"""By primitive: (device, *buffers, **params) -> results."""

_ONE = ("cholesky", "householder_product", "solve", "triangular_solve")  # have one result
_PROGRAMS = ("det", "lu", "pinv", "slogdet")


def _rule(name: str, f: Callable[..., tuple[Any, ...]]) -> Callable[..., Any]:
    """Return a rule as `own_rules` has them."""

    def rule(device: Device, *buffers: Any, **params: Any) -> Any:
        dtype = buffers[0].dtype
        if any(b.size == 0 for b in buffers):
            return on_host(name, buffers, params)
        if dtype in HALF:
            buffers = tuple(b.astype(dtypes.float32) for b in buffers)
        with blas_of(device).lock:
            outs = f(device, *buffers, **params)
        if dtype in HALF:
            outs = tuple(x.astype(dtype) if x.dtype == dtypes.float32 else x for x in outs)
        return outs[0] if name in _ONE else outs

    return rule


def _program(name: str) -> Callable[..., Any]:
    """Return the rule that runs a primitive's program, each of its operations on the GPU."""

    def rule(device: Device, *buffers: Any, **params: Any) -> Any:
        with use_trace(eval_trace):
            outs = MACROS[name](*map(array_of, buffers), **params)
        return tuple(map(buffer_of, outs))

    return rule


OWN_RULES = {
    **{name: _rule(name, f) for name, f in RULES.items()},
    **{name: _program(name) for name in _PROGRAMS},
}
"""What `funtorch.placement.own_rules` is given of these."""
