"""Rows of the op table whose values are known: factors, multiplied again, are what was factored.

The rows of linalg_rows.py check derivatives of the factors themselves, which are unique only up to
signs, phases and order, so that no reference gives the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from linalg_rows import apart, complexes, normal, sturdy
from op_table import Row

import funtorch.numpy as fnp
from funtorch.ops import linalg, orthogonal, spectra
from funtorch.ops.matrices import adjoint, diagonal, mm, triangle


def _unit_lower(packed: Any) -> Any:
    return triangle(packed, lower=True, strict=True) + fnp.eye(packed.shape[-1], dtype=packed.dtype)


def _upper(packed: Any) -> Any:
    return triangle(packed, lower=False)[..., : packed.shape[-1], :]


def _rows_back(x: Any, order: Any) -> Any:
    """Undo ``x[order]`` in every matrix."""
    return fnp.take_along_axis(x, fnp.argsort(order, axis=-1)[..., None], axis=-2)


def cholesky(x: Any) -> Any:
    low = linalg.cholesky(x)
    return mm(low, adjoint(low))


def lu(x: Any) -> Any:
    packed, _, order = linalg.lu(x)
    return _rows_back(mm(_unit_lower(packed), triangle(packed, lower=False)), order)


def getrf(x: Any) -> Any:
    packed, pivots = linalg.getrf(x)
    order = linalg.permutation_of(pivots - 1, x.shape[-1])
    return _rows_back(mm(_unit_lower(packed), triangle(packed, lower=False)), order)


def geqrf(x: Any) -> Any:
    packed, taus = orthogonal.geqrf(x)
    q = orthogonal.householder_product(packed, taus)
    return mm(q, _upper(packed))


def geqp3(x: Any) -> Any:
    packed, taus, places = orthogonal.geqp3(x)
    q = orthogonal.householder_product(packed, taus)
    return adjoint(_rows_back(adjoint(mm(q, _upper(packed))), places))


def qr_pivoting(x: Any) -> Any:
    q, r, order = orthogonal.qr_pivoting(x)
    return adjoint(_rows_back(adjoint(mm(q, r)), order))


def eig(x: Any) -> Any:
    w, v = linalg.eig(x)
    return mm(v * w[..., None, :], fnp.linalg.inv(v))


def geev(x: Any) -> Any:
    """Real matrices of real eigenvalues only."""
    outs = spectra.geev_p.bind(x, left=False, right=True)
    return mm(outs[-1] * outs[0][..., None, :], fnp.linalg.inv(outs[-1]))


def schur(x: Any) -> Any:
    t, q = linalg.schur(x)
    return mm(mm(q, t), adjoint(q))


def schur_shift(x: Any) -> list[Any]:
    """Solve x t - t x = g below the diagonal, and show g there."""
    t, g = triangle(x, lower=False), triangle(x, lower=True, strict=True)
    (s,) = spectra.schur_shift_p.bind(t, g, back=False)
    return [triangle(mm(s, t) - mm(t, s), lower=True, strict=True)]


def trevc(x: Any) -> Any:
    """Multiply by the eigenvectors of a triangle with different eigenvalues, and back."""
    t = triangle(x, lower=False)
    v = spectra.trevc(t)
    return mm(v * diagonal(t)[..., None, :], fnp.linalg.inv(v))


def hessenberg(x: Any) -> Any:
    packed, taus = orthogonal.hessenberg(x)
    n = x.shape[-1]
    small = orthogonal.householder_product(packed[..., 1:, : n - 1], taus)
    corner = fnp.zeros((*x.shape[:-2], n, n), x.dtype).at[..., 0, 0].set(1)
    q = corner.at[..., 1:, 1:].set(small)
    return mm(mm(q, fnp.triu(packed, -1)), adjoint(q))


def tridiagonal(x: Any) -> Any:
    """The sum of squares of a Hermitian matrix, and its trace, which turning it keeps."""
    hermitian = x + adjoint(x)
    _, d, e, _ = orthogonal.tridiagonal(hermitian, lower=True)
    squares = fnp.sum(d * d, axis=-1) + 2 * fnp.sum(fnp.real(e * fnp.conj(e)), axis=-1)
    return [fnp.sum(d, axis=-1), squares]


def _invariants(x: np.ndarray) -> list[np.ndarray]:
    hermitian = x + x.conj().swapaxes(-1, -2)
    squares = (hermitian * hermitian.conj()).real.sum((-2, -1))
    return [np.trace(hermitian, axis1=-2, axis2=-1).real, squares]


def sylvester(a: Any, b: Any, c: Any) -> Any:
    x = linalg.sylvester(a, b, c)
    return mm(a, x) + mm(x, b)


def rebuilt_rows() -> list[Row]:
    """Return the rows, for real and complex matrices."""
    rows = []
    for make, tag in ((normal, "real"), (complexes, "complex")):
        square, tall = sturdy(make(2, 4, 4)), make(2, 5, 3)
        positive = square @ square.conj().swapaxes(-1, -2)
        sort: list[tuple[Callable[..., Any], np.ndarray, Any]] = [
            (cholesky, positive, np.array),
            *((f, square, np.array) for f in (lu, getrf, qr_pivoting)),
            *((f, tall, np.array) for f in (geqrf, geqp3, qr_pivoting)),
            *((f, apart(4, make), np.array) for f in (eig, geev, schur, hessenberg)),
            (trevc, apart(4, make), np.triu),
            (
                schur_shift,
                np.diag(np.arange(1.0, 4)) + 0.1 * make(2, 3, 3),
                lambda x: np.tril(x, -1),
            ),
            (tridiagonal, square, _invariants),
        ]
        rows += [
            Row(f"{f.__name__}-rebuilt-{tag}", f, [(x,)], of, differentiable=False, ulps=4000)
            for f, x, of in sort
        ]
        args = (sturdy(make(2, 3, 3)), sturdy(make(2, 2, 2)), make(2, 3, 2))
        rows.append(
            Row(
                f"sylvester-rebuilt-{tag}", sylvester, [args], lambda a, b, c: c,
                differentiable=False, ulps=4000,
            )
        )  # fmt: skip
    return rows
