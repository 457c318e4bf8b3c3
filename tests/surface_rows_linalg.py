"""Rows of the table of public functions: products, convolutions, linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from surface_table import (
    CUBE,
    IMAGES,
    KERNEL,
    RNG,
    ROWS,
    S2,
    SIGNAL,
    TALL,
    P,
    Row,
    S,
    V,
    W,
    X,
    Y,
    rows,
)

import funtorch.numpy as fnp
from funtorch import lax

# ------------------------------------------------------------------------------ products
rows("numpy", "dot matmul inner outer vecdot", S, S2, dtypes=("complex128",))
rows("numpy", "vdot tensordot", X, Y, dtypes=("complex128",))
rows("numpy", "cross", S, S2)
# NumPy has them from version 2.2 on.
rows("numpy", "matvec", X, V, reference=lambda m, v: np.einsum("...ij,...j->...i", m, v))
rows("numpy", "vecmat", V[:3], X, reference=lambda v, m: np.einsum("...i,...ij->...j", v, m))
rows("numpy", "einsum", "ij,kj->ik", X, Y, dtypes=("complex128",))
rows("numpy", "polyval", V, X)
rows("numpy", "polyadd polysub polymul polydiv", V, W, dtypes=("complex128",))
ROWS["numpy.polydiv"] = Row(
    (V, W[:2]), reference=lambda u, v: (np.polydiv(u, v)[0], np.pad(np.polydiv(u, v)[1], (3, 0)))
)
rows("numpy", "polyder polyint", V)
rows("numpy", "poly", V)
rows("numpy", "polyfit", V, V**2 + W, 1)
rows("numpy", "roots", V, fixed=False, smooth=False)
rows("lax", "dot batch_matmul", S, S2, reference=np.matmul)
ROWS["lax.batch_matmul"] = Row((CUBE, CUBE.swapaxes(1, 2).copy()), reference=np.matmul)
rows("lax", "dot_general", X, Y, (((1,), (1,)), ((), ())), reference=lambda x, y, _: x @ y.T)
rows(
    "lax",
    "ragged_dot",
    TALL,
    CUBE.reshape(2, 4, 3).swapaxes(1, 2).copy(),
    np.array([2, 3]),
    reference=lambda x, y, n: np.concatenate([x[:2] @ y[0], x[2:] @ y[1]]),
)
rows(
    "lax",
    "ragged_dot_general",
    TALL,
    CUBE.reshape(2, 4, 3).swapaxes(1, 2).copy(),
    np.array([2, 3]),
    lax.RaggedDotDimensionNumbers((((1,), (1,)), ((), ())), [0], [0]),
    reference=lambda x, y, n, _: np.concatenate([x[:2] @ y[0], x[2:] @ y[1]]),
)


def convolved(x: Any, k: Any, *_: Any) -> Any:
    h, w = x.shape[2] - k.shape[2] + 1, x.shape[3] - k.shape[3] + 1
    patches = [
        [x[:, :, i : i + h, j : j + w] for j in range(k.shape[3])] for i in range(k.shape[2])
    ]
    return np.einsum("ijnchw,ocij->nohw", np.array(patches), k)


rows(
    "lax",
    "conv conv_general_dilated conv_with_general_padding",
    IMAGES,
    KERNEL,
    (1, 1),
    "VALID",
    reference=convolved,
)
ROWS["lax.conv_with_general_padding"] = Row(
    (IMAGES, KERNEL, (1, 1), [(0, 0), (0, 0)], None, None), reference=convolved
)
rows(
    "lax",
    "conv_general_dilated_patches",
    IMAGES,
    (3, 2),
    (1, 1),
    "VALID",
    reference=lambda x, k, *_: convolved(x, np.eye(18).reshape(18, 3, 3, 2)),
)
rows(
    "lax",
    "conv_general_dilated_local",
    IMAGES,
    np.broadcast_to(KERNEL.reshape(4, 18, 1, 1), (4, 18, 4, 4)).copy(),
    (1, 1),
    "VALID",
    (3, 2),
    reference=lambda x, *_: convolved(x, KERNEL),
    smooth=True,
)
ROWS["lax.conv_transpose"] = Row(
    (SIGNAL[None, :6, None], SIGNAL[:3, None, None], (1,), "VALID"),
    {"dimension_numbers": ("NWC", "WIO", "NWC")},
    reference=lambda x, k, *_: np.correlate(np.pad(x[0, :, 0], 2), k[:, 0, 0])[None, :, None],
)

# ------------------------------------------------------------------------- linear algebra
CHOLESKY = {"call": lambda f, x: f(x + x.T)}
SYMMETRIC = P / 2  # made symmetric in the call, whatever is done to it
rows("numpy.linalg", "det inv slogdet pinv norm cond matrix_norm svdvals eigvals", S)
rows("numpy.linalg", "matrix_transpose diagonal trace", X)
rows("numpy.linalg", "cholesky eigvalsh", SYMMETRIC, **CHOLESKY)
rows("numpy.linalg", "matmul outer vecdot tensordot", S, S2)
ROWS["numpy.linalg.outer"] = Row((V, W))
rows("numpy.linalg", "cross", S, S2)
rows("numpy.linalg", "vector_norm", X)
rows("numpy.linalg", "matrix_power", S, 3)
rows("numpy.linalg", "matrix_rank", S)
rows("numpy.linalg", "multi_dot", [X, X.T, X])
rows("numpy.linalg", "solve", S, S2)
rows("numpy.linalg", "lstsq", TALL, TALL[:, 0] ** 2, call=lambda f, a, b: f(a, b, None)[0])
rows("numpy.linalg", "tensorinv", RNG.normal(size=(4, 6, 8, 3)), rtol=1e-6, slope=1e-3)
rows(
    "numpy.linalg",
    "tensorsolve",
    RNG.normal(size=(6, 4, 2, 3, 4)),
    RNG.normal(size=(6, 4)),
    slope=1e-3,
)
rows("numpy.linalg", "eigh", SYMMETRIC, call=lambda f, x: (lambda w, v: [w, v * v])(*f(x + x.T)))
rows(
    "numpy.linalg",
    "eig",
    S,
    call=lambda f, x: (lambda w, v: abs(v.T @ v.conj()))(*f(x)),
    slope=1e-4,
)
rows("numpy.linalg", "qr", TALL, call=lambda f, x: (lambda q, r: [q @ r, r * r])(*f(x)))
rows(
    "numpy.linalg",
    "svd",
    TALL,
    call=lambda f, x: (lambda u, s, v: [s, u[:, :3] * u[:, :3], v * v])(*f(x)),
)
L = np.linalg.cholesky(P)
rows(
    "lax.linalg", "cholesky", SYMMETRIC, reference=lambda x: np.linalg.cholesky(x + x.T), **CHOLESKY
)
rows(
    "lax.linalg",
    "cholesky_update",
    L.T.copy(),
    V[:3],
    reference=lambda r, w: np.linalg.cholesky(r.T @ r + np.outer(w, w)).T,
)
rows(
    "lax.linalg",
    "eigh",
    SYMMETRIC,
    call=lambda f, x: f(x + x.T)[1],
    reference=lambda x: np.linalg.eigvalsh(x + x.T),
)
rows(
    "lax.linalg",
    "eig",
    S,
    call=lambda f, x: fnp.sort(fnp.real(f(x)[0])),
    reference=lambda x: np.sort(np.linalg.eigvals(x).real),
)
rows(
    "lax.linalg",
    "svd",
    TALL,
    call=lambda f, x: f(x, full_matrices=False)[1],
    reference=lambda x: np.linalg.svd(x, compute_uv=False),
)
rows(
    "lax.linalg",
    "qr",
    TALL,
    call=lambda f, x: (lambda q, r: q @ r)(*f(x, full_matrices=False)),
    reference=lambda x: x,
)
rows(
    "lax.linalg",
    "lu",
    S,
    call=lambda f, x: f(x)[0],
    reference=lambda x: scipy.linalg.lu_factor(x)[0],
)
rows(
    "lax.linalg",
    "lu_pivots_to_permutation",
    np.array([2, 2, 2], np.int32),
    3,
    reference=lambda p, n: np.array([2, 0, 1]),
)
rows("lax.linalg", "qdwh", S, call=lambda f, x: f(x)[:2], reference=lambda x: scipy.linalg.polar(x))
rows(
    "lax.linalg",
    "schur",
    S,
    call=lambda f, x: (lambda t, q: q @ t @ q.T)(*f(x)),
    reference=lambda x: x,
)
ROWS["lax.linalg.hessenberg"] = Row(
    (S,), reference=lambda x: scipy.linalg.lapack.dgehrd(x)[:2], smooth=False
)
ROWS["lax.linalg.tridiagonal"] = Row(
    (P,),
    call=lambda f, x: f(x, lower=True)[1:],
    reference=lambda x: scipy.linalg.lapack.dsytrd(x, lower=1)[1:4],
    smooth=False,
)
REFLECTORS, FACTORS = scipy.linalg.lapack.dgeqrf(TALL)[:2]
rows(
    "lax.linalg",
    "householder_product",
    REFLECTORS,
    FACTORS,
    reference=lambda a, t: scipy.linalg.lapack.dorgqr(a, t)[0],
)
rows(
    "lax.linalg",
    "ormqr",
    REFLECTORS,
    FACTORS,
    TALL[:, :2].copy(),
    rtol=1e-8,
    reference=lambda a, t, c: scipy.linalg.lapack.dormqr("L", "N", a, t, c, 64)[0],
)
rows(
    "lax.linalg",
    "symmetric_product",
    TALL,
    P[:1, :1].repeat(5, 0).repeat(5, 1),
    reference=lambda a, c: a @ a.T,
)
rows(
    "lax.linalg",
    "triangular_solve",
    L,
    S,
    kw={"left_side": True, "lower": True},
    reference=lambda a, b: scipy.linalg.solve_triangular(a, b, lower=True),
)
rows(
    "lax.linalg",
    "tridiagonal_solve",
    W,
    V + 9,
    W,
    X.T[:, :2].copy(),
    reference=lambda low, d, u, b: np.linalg.solve(
        np.diag(d) + np.diag(u[:-1], 1) + np.diag(low[1:], -1), b
    ),
)
rows("scipy.linalg", "det inv expm sqrtm logm", P, slope=1e-4)
rows("scipy.linalg", "cholesky", SYMMETRIC, call=lambda f, x: f(x + x.T))
rows(
    "scipy.linalg",
    "cho_factor",
    SYMMETRIC,
    call=lambda f, x: f(x + x.T, lower=True)[0].T[2:],
    reference=lambda x: np.linalg.cholesky(x + x.T).T[2:],
)
rows("scipy.linalg", "cho_solve", L, V[:3], call=lambda f, a, b: f((a, True), b))
rows("scipy.linalg", "solve", S, S2)
rows("scipy.linalg", "solve_triangular", L, S2, kw={"lower": True})
rows("scipy.linalg", "solve_sylvester", S, P, S2)
rows("scipy.linalg", "eigh", SYMMETRIC, call=lambda f, x: f(x + x.T, eigvals_only=True))
rows("scipy.linalg", "eigh_tridiagonal", V, W[:3], call=lambda f, d, e: f(d, e, eigvals_only=True))
rows("scipy.linalg", "svd", TALL, call=lambda f, x: f(x, compute_uv=False))
rows("scipy.linalg", "qr", TALL, call=lambda f, x: (lambda q, r: q @ r)(*f(x)))
rows("scipy.linalg", "qr_multiply", S, S2, call=lambda f, a, c: abs(f(a, c)[0]))
rows("scipy.linalg", "lu", S)
rows("scipy.linalg", "lu_factor", S, call=lambda f, x: f(x)[0])
rows(
    "scipy.linalg",
    "lu_solve",
    np.triu(S) + np.tril(S2, -1),
    V[:3],
    call=lambda f, a, b: f((a, np.arange(3, dtype=np.int32)), b),
)
rows("scipy.linalg", "schur", S, call=lambda f, x: (lambda t, z: z @ t @ z.T)(*f(x)))
rows(
    "scipy.linalg", "rsf2csf", np.triu(S), np.eye(3), call=lambda f, t, z: f(t, z)[0], smooth=False
)
rows("scipy.linalg", "polar", S)
rows("scipy.linalg", "hessenberg", S, smooth=False)
rows("scipy.linalg", "expm_frechet", S, S2)
rows("scipy.linalg", "funm", P, fnp.exp, reference=lambda x, _: scipy.linalg.expm(x), slope=1e-4)
rows("scipy.linalg", "block_diag", S, X)
rows("scipy.linalg", "circulant companion fiedler fiedler_companion toeplitz hankel", V)
rows("scipy.linalg", "leslie", V, W[:3])
rows("scipy.linalg", "convolution_matrix", V, 3)
rows("scipy.linalg", "dft hadamard hilbert invhilbert pascal invpascal helmert", 4, rtol=1e-6)
rows(
    "scipy.sparse.linalg",
    "cg bicgstab gmres",
    P,
    V[:3],
    call=lambda f, a, b: f(lambda x: a @ x, b, tol=1e-12)[0],
    reference=np.linalg.solve,
    slope=1e-4,
)
