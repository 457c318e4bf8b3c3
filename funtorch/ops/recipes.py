"""The recipes of the linear algebra primitives: one function each, from types to library calls.

LAPACK wants columns that lie together, so matrices are transposed on their way in and out, which
costs little beside a factorisation. ``W`` below is workspace.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import dtypes
from funtorch.core import ShapedArray
from funtorch.ops.lapack import LETTERS, At, Invoke, Part, Recipe, Scalar, Stage, Work, ask

__all__ = ["RECIPES", "batch_of", "recipe_of"]

_ROWS, _COLUMNS = 101, 102
_PLAIN, _TRANSPOSED, _ADJOINT = 111, 112, 113
_UPPER, _LOWER = 121, 122
_UNIT = {False: 131, True: 132}
_LEFT = 141
_INT = np.dtype(np.int32)
# Routines of orthogonal matrices are called otherwise where those are complex.
_COMPLEX_NAMES = {
    "orgqr": "ungqr", "ormqr": "unmqr", "syevd": "heevd", "sytrd": "hetrd", "ormtr": "unmtr",
    "sy_nancheck": "he_nancheck",
}  # fmt: skip


class _Calls:
    """Collects the calls for matrices of one dtype, and the workspace they need."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype, self.letter = dtype, LETTERS[dtype]
        self.real = dtypes.real_dtype(dtype)
        self.complex = dtypes.is_complex(dtype)
        self.stages: list[Stage] = []
        self.calls: list[Invoke] = []
        self.work = 64

    def room(self, count: int, dtype: np.dtype | None = None, blocks: int = 1) -> Work:
        """Return workspace for so many numbers, in every block."""
        size = -(-max(count, 1) * (dtype or self.dtype).itemsize // 64) * 64
        at = self.work
        self.work += blocks * size
        return Work(at, size if blocks > 1 else 0)

    def name(self, routine: str) -> str:
        return _COMPLEX_NAMES.get(routine, routine) if self.complex else routine

    def lapack(self, routine: str, *args: Any, fails: bool = True, work: bool = True) -> None:
        """Add a call on matrices whose columns lie together."""
        name = f"scipy_LAPACKE_{self.letter}{self.name(routine)}{'_work' if work else ''}"
        self.calls.append(Invoke(name, (_COLUMNS, *args), fails=fails))

    def sizes(self, routine: str, *args: Any) -> tuple[int, ...]:
        """Return the sizes of workspaces; ``args``: dtypes where those would be."""
        return ask(f"scipy_LAPACKE_{self.letter}{self.name(routine)}_work", (_COLUMNS, *args))

    def blas(self, routine: str, *args: Any) -> None:
        name = f"scipy_cblas_{self.letter}{routine}"
        self.calls.append(Invoke(name, args, returns=False, fails=False))

    def one(self, value: float = 1.0) -> Scalar:
        return Scalar(self.dtype, value)

    def turn(self, rows: int, columns: int, source: At | Work, target: At | Work) -> None:
        """Write the transpose of a matrix whose rows lie together."""
        if rows == 1 or columns == 1:
            self.copy(rows * columns, 1, source, target)
        else:
            self.blas(
                "omatcopy", _ROWS, _TRANSPOSED, rows, columns, self.one(), source, columns,
                target, rows,
            )  # fmt: skip

    def copy(
        self, length: int, count: int, source: At | Work, target: At | Work, part: bytes = b"A"
    ) -> None:
        """Copy a matrix of so many columns of a length, or a triangle of it ('U' or 'L')."""
        self.lapack("lacpy", part, length, count, source, length, target, length, fails=False)

    def clear(self, part: bytes, rows: int, columns: int, where: At | Work, lead: int) -> None:
        """Set the elements of a matrix strictly above ('U') or below ('L') its diagonal to 0."""
        upper = part == b"U"
        m = min(rows, columns - 1) if upper else rows - 1
        n = columns - 1 if upper else min(columns, rows - 1)
        if m < 1 or n < 1:
            return
        target = self.shifted(where, lead if upper else 1)
        zero, letter = Scalar(self.real, 0.0), LETTERS[self.real]
        name = f"scipy_LAPACKE_{letter}laset_work"
        if not self.complex:
            args = (_COLUMNS, part, m, n, zero, zero, target, lead)
            self.calls.append(Invoke(name, args, fails=False))
            return
        # Complex numbers would be passed by value, which every processor does in its own way.
        zeros = self.room(m * n)
        self.calls.append(
            Invoke(name, (_COLUMNS, b"A", 2 * m, n, zero, zero, zeros, 2 * m), fails=False)
        )
        self.lapack("lacpy", part, m, n, zeros, m, target, lead, fails=False)

    def shifted(self, where: At | Work, elements: int) -> At | Work:
        if isinstance(where, At):
            return At(where.array, where.offset + elements, where.step)
        return Work(where.offset + elements * self.dtype.itemsize, where.step)

    def finite(self, rows: int, columns: int, where: At | Work) -> None:
        """Fail where there is a nan, on which some routines would not end."""
        self.lapack("ge_nancheck", rows, columns, where, max(rows, 1), work=False)

    def gemm(self, ta: int, tb: int, m: int, n: int, k: int, a: Any, b: Any, c: Any) -> None:
        """Multiply matrices whose columns lie together; none has a distance of its own."""
        lda, ldb = (m if ta == _PLAIN else k), (k if tb == _PLAIN else n)
        self.blas(
            "gemm", _COLUMNS, ta, tb, m, n, k, self.one(), a, lda, b, ldb, self.one(0.0), c, m
        )

    def stage(self, blocks: int = 1) -> None:
        """End a stage."""
        self.stages.append(Stage(tuple(self.calls), blocks))
        self.calls = []

    def recipe(self, flops: float) -> Recipe:
        if self.calls:
            self.stage()
        return Recipe(tuple(self.stages), self.work, flops * (4 if self.complex else 1))


# -------------------------------------------------------------------------------- products and such
def _cholesky(avals: Sequence[ShapedArray], alone: bool) -> Recipe:
    n = avals[0].shape[-1]
    c = _Calls(avals[0].dtype)
    w = c.room(n * n)
    c.turn(n, n, At(0), w)
    c.lapack("sy_nancheck", b"L", n, w, n, work=False)
    c.lapack("potrf", b"L", n, w, n)
    c.clear(b"U", n, n, w, n)
    c.turn(n, n, w, At(1))
    return c.recipe(n**3 / 3)


_SHARED = 1 << 21  # multiplications from which a product of one matrix is cut into blocks
_NARROW = 64  # least columns of a block


def _cut(columns: int, products: int, alone: bool) -> tuple[int, int]:
    """Return into how many blocks of how many columns a result is cut, by sizes alone."""
    if not alone or products < _SHARED:
        return 1, columns
    wanted = 2 if products < 64 * _SHARED else 8
    size = max(_NARROW, -(-columns // wanted))
    return -(-columns // size), size


def _triangular(
    avals: Sequence[ShapedArray], alone: bool, *, lower: bool, trans: int, unit: bool
) -> Recipe:
    n, columns = avals[1].shape[-2:]
    c = _Calls(avals[0].dtype)
    # The rows of the matrix lie together: it is its transpose to LAPACK.
    where = b"U" if lower else b"L"
    diagonal = b"U" if unit else b"N"
    c.lapack("trtrs", where, b"N", diagonal, n, 0, At(0), n, At(2), n)  # is there a zero?
    blocks, size = _cut(columns, n * n * columns, alone)
    if blocks > 1:
        c.stage()
    part = Part(columns, size) if blocks > 1 else columns
    source, target = At(1, 0, size), At(2, 0, size)
    c.lapack("lacpy", b"A", part, n, source, columns, target, columns, fails=False)
    triangle = _LOWER if lower else _UPPER
    c.blas(
        "trsm", _ROWS, _LEFT, triangle, _PLAIN + trans, _UNIT[unit], n, part, c.one(), At(0), n,
        target, columns,
    )  # fmt: skip
    if blocks > 1:
        c.stage(blocks)
    return c.recipe(n * n * columns)


def _solve(avals: Sequence[ShapedArray], alone: bool) -> Recipe:
    n, columns = avals[1].shape[-2:]
    c = _Calls(avals[0].dtype)
    a, b, pivots = c.room(n * n), c.room(n * columns), c.room(n, _INT)
    c.finite(n, n, At(0))
    c.turn(n, n, At(0), a)
    c.turn(n, columns, At(1), b)
    c.lapack("gesv", n, columns, a, n, pivots, b, n)
    c.turn(columns, n, b, At(2))
    return c.recipe(2 / 3 * n**3 + 2 * n * n * columns)


def _factor(avals: Sequence[ShapedArray], alone: bool) -> Recipe:
    """LU factors over x, and LAPACK's row interchanges, which count from 1."""
    m, n = avals[0].shape[-2:]
    c = _Calls(avals[0].dtype)
    w = c.room(m * n)
    c.turn(m, n, At(0), w)
    c.lapack("getrf", m, n, w, m, At(2), fails=False)  # a zero pivot is the caller's business
    c.turn(n, m, w, At(1))
    return c.recipe(m * n * min(m, n))


def _interchange(avals: Sequence[ShapedArray], alone: bool) -> Recipe:
    """Interchange the elements of vectors in order, as `_factor` says."""
    size, count = avals[0].shape[-1], avals[1].shape[-1]
    c = _Calls(avals[0].dtype)
    c.copy(size, 1, At(0), At(2))
    c.lapack("laswp", 1, At(2), size, 1, count, At(1), 1, fails=False)
    return c.recipe(count)


def _tridiagonal_solve(avals: Sequence[ShapedArray], alone: bool) -> Recipe:
    n, columns = avals[3].shape[-2:]
    c = _Calls(avals[0].dtype)
    low, mid, up = (c.room(n) for _ in range(3))
    b = c.room(n * columns)
    c.copy(n, 1, At(0), low)
    c.copy(n, 1, At(1), mid)
    c.copy(n, 1, At(2), up)
    c.turn(n, columns, At(3), b)
    c.lapack("gtsv", n, columns, c.shifted(low, 1), mid, up, b, n)
    c.turn(columns, n, b, At(4))
    return c.recipe(6 * n * (columns + 1))


# --------------------------------------------------------------------------------------- reflectors
def _qr(avals: Sequence[ShapedArray], alone: bool, *, full: bool) -> Recipe:
    m, n = avals[0].shape[-2:]
    k = min(m, n)
    columns = m if full else k
    c = _Calls(avals[0].dtype)
    w, taus = c.room(m * max(n, columns)), c.room(k)
    (size,) = c.sizes("geqrf", m, n, None, m, None, c.dtype, -1)
    work = c.room(size)
    c.turn(m, n, At(0), w)
    c.lapack("geqrf", m, n, w, m, taus, work, size, fails=False)
    # The rows of r: the first ones of what is over x.
    c.blas("omatcopy", _COLUMNS, _TRANSPOSED, columns, n, c.one(), w, m, At(2), n)
    c.clear(b"U", n, columns, At(2), n)  # memory is transposed to LAPACK: below is above
    _orthonormal(c, m, columns, k, w, taus)
    c.turn(columns, m, w, At(1))
    return c.recipe(4 * m * n * k)


def _orthonormal(c: _Calls, m: int, columns: int, k: int, w: Work, taus: At | Work) -> None:
    (size,) = c.sizes("orgqr", m, columns, k, None, m, None, c.dtype, -1)
    c.lapack("orgqr", m, columns, k, w, m, taus, c.room(size), size, fails=False)


def _reflectors(avals: Sequence[ShapedArray], alone: bool) -> Recipe:
    """Reflectors over x, their factors."""
    m, n = avals[0].shape[-2:]
    c = _Calls(avals[0].dtype)
    w = c.room(m * n)
    (size,) = c.sizes("geqrf", m, n, None, m, None, c.dtype, -1)
    c.turn(m, n, At(0), w)
    c.lapack("geqrf", m, n, w, m, At(2), c.room(size), size, fails=False)
    c.turn(n, m, w, At(1))
    return c.recipe(2 * m * n * min(m, n))


def _pivoted(avals: Sequence[ShapedArray], alone: bool) -> Recipe:
    """Reflectors over x, their factors, the order of columns, which counts from 1."""
    m, n = avals[0].shape[-2:]
    c = _Calls(avals[0].dtype)
    w = c.room(m * n)
    extra = [c.room(2 * n, c.real)] if c.complex else []
    (size,) = c.sizes(
        "geqp3", m, n, None, m, None, None, c.dtype, -1, *([None] if c.complex else [])
    )
    c.turn(m, n, At(0), w)
    zeros = Scalar(np.dtype(np.float32), 0.0)  # all columns are free to move
    name = "scipy_LAPACKE_slaset_work"
    args = (_COLUMNS, b"A", n, 1, zeros, zeros, At(3), n)
    c.calls.append(Invoke(name, args, fails=False))
    c.lapack("geqp3", m, n, w, m, At(3), At(2), c.room(size), size, *extra, fails=False)
    c.turn(n, m, w, At(1))
    return c.recipe(4 * m * n * min(m, n))


def _product(avals: Sequence[ShapedArray], alone: bool) -> Recipe:
    """The first columns of the product of reflectors."""
    (m, n), k = avals[0].shape[-2:], avals[1].shape[-1]
    c = _Calls(avals[0].dtype)
    w = c.room(m * n)
    c.turn(m, n, At(0), w)
    _orthonormal(c, m, n, k, w, At(1))
    c.turn(n, m, w, At(2))
    return c.recipe(2 * m * n * k)


def _hessenberg(avals: Sequence[ShapedArray], alone: bool) -> Recipe:
    n = avals[0].shape[-1]
    c = _Calls(avals[0].dtype)
    w = c.room(n * n)
    (size,) = c.sizes("gehrd", n, 1, n, None, n, None, c.dtype, -1)
    c.turn(n, n, At(0), w)
    c.lapack("gehrd", n, 1, n, w, n, At(2), c.room(size), size, fails=False)
    c.turn(n, n, w, At(1))
    return c.recipe(10 / 3 * n**3)


def _tridiagonal(avals: Sequence[ShapedArray], alone: bool, *, lower: bool) -> Recipe:
    n = avals[0].shape[-1]
    c = _Calls(avals[0].dtype)
    w, uplo = c.room(n * n), b"L" if lower else b"U"
    (size,) = c.sizes("sytrd", uplo, n, None, n, None, None, None, c.dtype, -1)
    c.turn(n, n, At(0), w)
    c.lapack("sytrd", uplo, n, w, n, At(2), At(3), At(4), c.room(size), size, fails=False)
    c.turn(n, n, w, At(1))
    return c.recipe(4 / 3 * n**3)


# ------------------------------------------------------------------------------------------ spectra
def _eigh(avals: Sequence[ShapedArray], alone: bool, *, vectors: bool) -> Recipe:
    n = avals[0].shape[-1]
    c = _Calls(avals[0].dtype)
    w = c.room(n * n)
    c.turn(n, n, At(0), w)
    c.lapack("sy_nancheck", b"L", n, w, n, work=False)
    blocks, size = _cut(n, n**3, alone)
    if blocks > 1 and vectors:
        return _eigh_in_blocks(c, n, w, blocks, size)
    real = (c.real, -1) if c.complex else ()
    job = b"V" if vectors else b"N"
    sizes = c.sizes("syevd", job, b"L", n, None, n, None, c.dtype, -1, *real, _INT, -1)
    kinds = (c.dtype, c.real, _INT) if c.complex else (c.dtype, _INT)
    rooms = [x for size, kind in zip(sizes, kinds, strict=True) for x in (c.room(size, kind), size)]
    c.lapack("syevd", job, b"L", n, w, n, At(1), *rooms)
    if vectors:
        c.turn(n, n, w, At(2))
    return c.recipe((9 if vectors else 4 / 3) * n**3)


def _eigh_in_blocks(c: _Calls, n: int, w: Work, blocks: int, size: int) -> Recipe:
    """The steps of the routine above: blocks of vectors are turned back by several threads."""
    z, taus, e = c.room(n * n), c.room(n), c.room(n, c.real)
    (room,) = c.sizes("sytrd", b"L", n, None, n, None, None, None, c.dtype, -1)
    c.lapack("sytrd", b"L", n, w, n, At(1), e, taus, c.room(room), room, fails=False)
    kinds = (c.dtype, c.real, _INT) if c.complex else (c.dtype, _INT)
    asked = (x for kind in kinds for x in (kind, -1))
    sizes = c.sizes("stedc", b"I", n, None, None, None, n, *asked)
    rooms = [
        x for count, kind in zip(sizes, kinds, strict=True) for x in (c.room(count, kind), count)
    ]
    c.lapack("stedc", b"I", n, At(1), e, z, n, *rooms)
    c.stage()
    how = (b"L", b"L", b"N", n)
    (room,) = c.sizes("ormtr", *how, size, None, n, None, None, n, c.dtype, -1)
    part, own = Part(n, size), Work(z.offset, size * n * c.dtype.itemsize)
    c.lapack(
        "ormtr", *how, part, w, n, taus, own, n, c.room(room, blocks=blocks), room, fails=False
    )
    target = At(2, 0, size)
    c.blas("omatcopy", _ROWS, _TRANSPOSED, part, n, c.one(), own, n, target, n)
    c.stage(blocks)
    return c.recipe(9 * n**3)


def _svd(avals: Sequence[ShapedArray], alone: bool, *, full: bool, vectors: bool) -> Recipe:
    m, n = avals[0].shape[-2:]
    k = min(m, n)
    rows, columns = (n, m) if full else (k, k)
    c = _Calls(avals[0].dtype)
    w = c.room(m * n)
    job = b"N" if not vectors else b"A" if full else b"S"
    u, vt = (c.room(m * columns), c.room(rows * n)) if vectors else (c.room(1), c.room(1))
    extra = [None] if c.complex else []
    (size,) = c.sizes(
        "gesdd", job, m, n, None, m, None, None, m, None, rows, c.dtype, -1, *extra, None
    )
    if c.complex:
        most = max(m, n)
        extra = [c.room(max(5 * k * k + 5 * k, 2 * most * k + 2 * k * k + k) + 7 * k, c.real)]
    c.finite(n, m, At(0))
    c.turn(m, n, At(0), w)
    s = At(2) if vectors else At(1)
    c.lapack(
        "gesdd", job, m, n, w, m, s, u, m, vt, rows, c.room(size), size, *extra,
        c.room(8 * k, _INT),
    )  # fmt: skip
    if vectors:
        c.turn(columns, m, u, At(1))
        c.turn(n, rows, vt, At(3))
    return c.recipe((22 if vectors else 4) * m * n * k)


def _eig(avals: Sequence[ShapedArray], alone: bool, *, left: bool, right: bool) -> Recipe:
    """Eigenvalues (real matrices: their real and imaginary parts), left and right vectors."""
    n = avals[0].shape[-1]
    c = _Calls(avals[0].dtype)
    w = c.room(n * n)
    jobs = tuple(b"V" if wanted else b"N" for wanted in (left, right))
    values: list[At] = [At(1)] if c.complex else [At(1), At(2)]
    vl, vr = c.room(n * n), c.room(n * n)
    nulls, extra = [None] * len(values), [None] if c.complex else []
    (size,) = c.sizes("geev", *jobs, n, None, n, *nulls, None, n, None, n, c.dtype, -1, *extra)
    if c.complex:
        extra = [c.room(2 * n, c.real)]
    c.finite(n, n, At(0))
    c.turn(n, n, At(0), w)
    c.lapack("geev", *jobs, n, w, n, *values, vl, n, vr, n, c.room(size), size, *extra)
    at = 1 + len(values)
    for wanted, v in ((left, vl), (right, vr)):
        if wanted:
            c.turn(n, n, v, At(at))
            at += 1
    return c.recipe(25 * n**3)


def _triangular_vectors(avals: Sequence[ShapedArray], alone: bool) -> Recipe:
    """Eigenvectors of a Schur form, for real ones packed as by `_eig`."""
    n = avals[0].shape[-1]
    c = _Calls(avals[0].dtype)
    w, v = c.room(n * n), c.room(n * n)
    extra = [c.room(n, c.real)] if c.complex else []
    c.finite(n, n, At(0))
    c.turn(n, n, At(0), w)
    c.lapack(
        "trevc", b"R", b"A", None, n, w, n, None, n, v, n, n, c.room(1, _INT), c.room(3 * n),
        *extra,
    )  # fmt: skip
    c.turn(n, n, v, At(1))
    return c.recipe(n**3)


def _schur_calls(c: _Calls, n: int, w: Work, vectors: At | Work | None) -> None:
    """Overwrite a matrix with its triangular factor."""
    job = b"N" if vectors is None else b"V"
    values = [c.room(n)] if c.complex else [c.room(n), c.room(n)]
    nulls, extra = [None] * len(values), [None] if c.complex else []
    (size,) = c.sizes(
        "gees", job, b"N", None, n, None, n, None, *nulls, None, n, c.dtype, -1, *extra, None
    )
    if c.complex:
        extra = [c.room(n, c.real)]
    where = c.room(1) if vectors is None else vectors
    c.lapack(
        "gees", job, b"N", None, n, w, n, c.room(1, _INT), *values, where, n, c.room(size), size,
        *extra, None,
    )  # fmt: skip


def _schur(avals: Sequence[ShapedArray], alone: bool, *, vectors: bool) -> Recipe:
    n = avals[0].shape[-1]
    c = _Calls(avals[0].dtype)
    w = c.room(n * n)
    v = c.room(n * n) if vectors else None
    c.finite(n, n, At(0))
    c.turn(n, n, At(0), w)
    _schur_calls(c, n, w, v)
    c.turn(n, n, w, At(1))
    if v is not None:
        c.turn(n, n, v, At(2))
    return c.recipe(25 * n**3)


def _sylvester(avals: Sequence[ShapedArray], alone: bool) -> Recipe:
    """Solve a x + x b = c, as memory has it: bᵀ xᵀ + xᵀ aᵀ = cᵀ, by two Schur decompositions."""
    m, n = avals[2].shape[-2:]
    c = _Calls(avals[0].dtype)
    a, b, va, vb = c.room(m * m), c.room(n * n), c.room(m * m), c.room(n * n)
    f, g = c.room(m * n), c.room(m * n)
    for size, k in ((m, 0), (n, 1), (None, 2)):
        c.finite(size or n, size or m, At(k))
    c.copy(m, m, At(0), a)
    c.copy(n, n, At(1), b)
    _schur_calls(c, m, a, va)
    _schur_calls(c, n, b, vb)
    back = _ADJOINT if c.complex else _TRANSPOSED
    c.gemm(back, _PLAIN, n, m, n, vb, At(2), f)
    c.gemm(_PLAIN, _PLAIN, n, m, m, f, va, g)
    scale = c.room(1, c.real)
    c.lapack("trsyl", b"N", b"N", 1, n, m, b, n, a, m, g, n, scale, fails=False)
    c.gemm(_PLAIN, _PLAIN, n, m, n, vb, g, f)
    c.gemm(_PLAIN, back, n, m, m, f, va, At(3))
    return c.recipe(25 * (m**3 + n**3) + 5 * m * n * (m + n))


RECIPES: dict[str, Callable[..., Recipe]] = {
    "cholesky": _cholesky,
    "eigh": _eigh,
    "geev": _eig,
    "geqp3": _pivoted,
    "geqrf": _reflectors,
    "getrf": _factor,
    "hessenberg": _hessenberg,
    "householder_product": _product,
    "interchange": _interchange,
    "qr": _qr,
    "schur": _schur,
    "solve": _solve,
    "svd": _svd,
    "sylvester": _sylvester,
    "trevc": _triangular_vectors,
    "triangular_solve": _triangular,
    "tridiagonal": _tridiagonal,
    "tridiagonal_solve": _tridiagonal_solve,
}
"""By primitive: a function of the operands' types and whether there are few matrices."""

_VECTORS = {"interchange": (1, 1)}  # trailing axes of an operand that are one matrix's; else 2
_FEW = 3  # matrices that are each worth several threads


def batch_of(name: str, avals: Sequence[ShapedArray]) -> int:
    """Return how many matrices the operands of a primitive hold."""
    own = _VECTORS.get(name, (2,))[0]
    which = 3 if name == "tridiagonal_solve" else 0
    shape = avals[which].shape
    return math.prod(shape[: len(shape) - own])


@functools.lru_cache(1024)
def _made(name: str, avals: tuple[ShapedArray, ...], params: tuple[tuple[str, Any], ...]) -> Recipe:
    return RECIPES[name](avals, int(batch_of(name, avals)) <= _FEW, **dict(params))


def recipe_of(name: str, avals: Sequence[ShapedArray], params: dict[str, Any]) -> Recipe | None:
    """Return the recipe of a primitive, or None where it has none: other dtypes, empty arrays."""
    if name not in RECIPES or avals[0].dtype not in LETTERS:
        return None
    if any(a.size == 0 for a in avals):
        return None
    return _made(name, tuple(avals), tuple(sorted(params.items())))
