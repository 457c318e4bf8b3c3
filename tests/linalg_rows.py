"""Rows of the op table for linear algebra: functions of matrices, and samples to check them on."""

from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch.core import ArrayImpl
from funtorch.ops import linalg, orthogonal, spectra
from funtorch.ops.elementwise import add, conj, imag, mul, real
from funtorch.ops.matrices import adjoint, mm, part, triangle

Row = tuple[str, Callable[..., Any], tuple[np.ndarray, ...], tuple[int, ...], Any]

rng = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape)


def complexes(*shape: int) -> np.ndarray:
    return normal(*shape) + 1j * normal(*shape)


def apart(n: int, make: Callable[..., Any]) -> np.ndarray:
    """Return matrices whose eigenvalues are real and far apart, and not normal."""
    x = np.triu(make(2, n, n), 1) + np.diag(2.0 * np.arange(1, n + 1))
    q = np.linalg.qr(make(2, n, n))[0]
    return q @ x @ q.conj().swapaxes(-1, -2)


def squares(xs: Any) -> list[Any]:
    """Return |x|², which has no phase."""
    return [mul(x, conj(x)) for x in xs]


def projections(full: bool) -> Callable[..., list[Any]]:
    """Return what the orthonormal columns and rows span, beside what is unique."""

    def f(x: Any) -> list[Any]:
        q, r = linalg.qr(x, full=full)
        k = x.shape[-1]
        other = part(q, (0, x.shape[-2]), (k, q.shape[-1]))
        return [part(q, (0, x.shape[-2]), (0, k)), r, mm(other, adjoint(other))]

    return f


def full_svd(x: Any) -> list[Any]:
    u, s, vt = linalg.svd(x, full=True)
    (m, n), k = x.shape[-2:], min(x.shape[-2:])
    beside, under = part(u, (0, m), (k, m)), part(vt, (k, n), (0, n))
    own, rows = part(u, (0, m), (0, k)), part(vt, (0, k), (0, n))
    return [s, mm(own, rows), mm(beside, adjoint(beside)), mm(adjoint(under), under)]


def of_reflectors(x: Any) -> Any:
    return linalg.householder_product(*orthogonal.geqrf(x))


def packed_eig(x: Any) -> list[Any]:
    """Real and imaginary parts, for conjugate pairs come in an order of their own."""
    outs = linalg.eig(x, left=True)
    return [f(o) for o in outs for f in (real, imag)]


def eig_without_signs(x: Any) -> list[Any]:
    w, *vectors = linalg.eig(x, left=True)
    return [real(w), imag(w), *squares(vectors)]


def sturdy(x: np.ndarray) -> np.ndarray:
    return x + 4 * np.eye(*x.shape[-2:])


def linalg_rows() -> list[Row]:
    rows: list[Row] = []
    for make, tag in ((normal, "real"), (complexes, "complex")):
        square, tall, wide = sturdy(make(2, 4, 4)), make(2, 5, 3), make(2, 3, 5)
        pivots = ArrayImpl(np.array([[2, 3, 3]] * 2, np.int32))
        rows += [(f"lu-{tag}-{x.shape}", linalg.lu, (x,), (0,), None) for x in (square, tall, wide)]
        rows += [
            (
                f"schur_shift-{tag}",
                lambda x, g: spectra.schur_shift_p.bind(triangle(x, lower=False), g, back=False),
                (make(2, 3, 3) + np.diag([1.0, 4.0, 8.0]), make(2, 3, 3)),
                (0, 1),
                None,
            ),
            (f"qr-full-{tag}", projections(True), (tall,), (0,), None),
            (f"qr-full-wide-{tag}", lambda x: linalg.qr(x, full=True), (wide,), (0,), None),
            *(
                (f"qr-pivoting-{tag}-{x.shape}", linalg_pivoting, (x,), (0,), None)
                for x in (square, tall, wide)
            ),
            (f"svd-full-{tag}-tall", full_svd, (tall,), (0,), None),
            (f"svd-full-{tag}-wide", full_svd, (wide,), (0,), None),
            (
                f"svd-values-{tag}",
                lambda x: linalg.svd(x, vectors=False),
                (wide,),
                (0,),
                lambda x: np.linalg.svd(x, compute_uv=False),
            ),
            (
                f"eigvalsh-{tag}",
                lambda x: linalg.eigh(add(x, adjoint(x)), vectors=False),
                (square,),
                (0,),
                lambda x: np.linalg.eigvalsh(x + x.conj().swapaxes(-1, -2)),
            ),
            (f"det-{tag}", linalg.det, (square,), (0,), np.linalg.det),
            (
                f"pinv-{tag}-tall",
                lambda x: linalg.pinv(x, rtol=1e-12),
                (tall,),
                (0,),
                np.linalg.pinv,
            ),
            (f"pinv-{tag}-wide", lambda x: linalg.pinv(x, rtol=1e-12), (wide,), (0,), None),
            (f"eig-{tag}", packed_eig, (apart(3, make),), (0,), None),
            (
                f"trevc-{tag}",
                lambda x: spectra.trevc(triangle(x, lower=False)),
                (square,),
                (),
                None,
            ),
            (f"schur-{tag}", lambda x: squares(linalg.schur(x)), (apart(3, make),), (0,), None),
            (
                f"householder_product-{tag}",
                linalg.householder_product,
                (make(2, 5, 4), make(2, 3)),
                (0, 1),
                None,
            ),
            (
                f"sylvester-{tag}",
                linalg.sylvester,
                (sturdy(make(2, 3, 3)), sturdy(make(2, 2, 2)), make(2, 3, 2)),
                (0, 1, 2),
                None,
            ),
            (
                f"tridiagonal_solve-{tag}",
                linalg.tridiagonal_solve,
                (make(2, 4), make(2, 4) + 5, make(2, 4), make(2, 4, 3)),
                (0, 1, 2, 3),
                dense_tridiagonal,
            ),
            (f"geqrf-{tag}", orthogonal.geqrf, (tall,), (), None),
            (f"geqp3-{tag}", orthogonal.geqp3, (tall,), (), None),
            (f"hessenberg-{tag}", orthogonal.hessenberg, (square,), (), None),
            (
                f"tridiagonal-{tag}",
                lambda x: orthogonal.tridiagonal(add(x, adjoint(x)), lower=True),
                (square,),
                (),
                None,
            ),
            (f"getrf-{tag}", linalg.getrf, (square,), (), None),
            (
                f"geev-{tag}",
                lambda x: spectra.geev_p.bind(x, left=False, right=False),
                (square,),
                (),
                None,
            ),
            (
                f"interchange-{tag}",
                lambda x: linalg.interchange(x, pivots),
                (make(2, 4),),
                (),
                lambda x: x[:, [1, 2, 0, 3]],
            ),
        ]
    # Blocks at which LAPACK does not jump from one Schur form to another.
    turning = (
        np.diag([1.0, 1, 6, 6, 12]) + np.diag([-1.0, 0, -4, 0], 1) + np.diag([3.0, 0, 1, 0], -1)
    )
    turning = turning + 0.1 * np.random.default_rng(2).normal(size=(2, 5, 5))
    rows += [
        ("schur-real-pairs", lambda x: squares(linalg.schur(x)), (turning,), (0,), None),
        ("eig-real-pairs", eig_without_signs, (turning,), (0,), None),
    ]
    return rows


def linalg_pivoting(x: Any) -> list[Any]:
    return list(orthogonal.qr_pivoting(x))


def dense_tridiagonal(dl: Any, d: Any, du: Any, b: Any) -> Any:
    n = d.shape[-1]
    a = np.zeros((*d.shape, n), d.dtype)
    k = np.arange(n)
    a[..., k, k] = d
    a[..., k[1:], k[:-1]] = dl[..., 1:]
    a[..., k[:-1], k[1:]] = du[..., :-1]
    return np.linalg.solve(a, b)
