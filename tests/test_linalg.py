"""numpy.linalg, lax.linalg and scipy.linalg: SciPy's values, every transform, gradients where
formulas are singular, and what bad input is told."""

import inspect

import numpy as np
import pytest
import scipy.linalg as sp

import funtorch as ft
import funtorch.lax.linalg as ll
import funtorch.numpy as fnp
import funtorch.scipy.linalg as sl
from funtorch.testing import check_grads

rng = np.random.default_rng(3)
A, T, V = rng.normal(size=(4, 4)), rng.normal(size=(5, 3)), rng.normal(size=4)
H = A @ A.T + np.eye(4)
C = A + 1j * rng.normal(size=(4, 4))
APART = np.diag([1.0, 3, 6, 10]) + 0.3 * A  # its eigenvalues are real, and far from each other
POSITIVE = H + 0.3 * A


def leaves(out):
    return [np.asarray(x) for x in ft.tree.leaves(out)]


def same(got, want, tol=1e-8):
    got, want = leaves(got), [np.asarray(x) for x in ft.tree.leaves(want)]
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape
        np.testing.assert_allclose(g, w, rtol=tol, atol=tol)


# ----------------------------------------------------------------------------------- SciPy's values
EQUAL_TO_SCIPY = [
    ("block_diag", (A, T, 2.0), {}),
    ("cholesky", (H,), {}),
    ("cholesky", (H,), {"lower": True}),
    ("circulant", (V,), {}),
    ("companion", (V,), {}),
    *(
        ("convolution_matrix", (V, k), {"mode": m})
        for k in (2, 6)
        for m in ("full", "same", "valid")
    ),
    ("det", (A,), {}),
    ("det", (C,), {}),
    ("dft", (5,), {"scale": "sqrtn"}),
    ("eigh", (H, A @ A.T + 2 * np.eye(4)), {"eigvals_only": True}),
    ("eigh", (A + A.T, H), {"eigvals_only": True, "type": 3}),
    ("eigh_tridiagonal", (V, V[:3]), {"eigvals_only": True}),
    ("eigh_tridiagonal", (V, V[:3]), {"eigvals_only": True, "select": "i", "select_range": (1, 2)}),
    ("expm", (A,), {}),
    ("expm", (30 * C / np.abs(C).max(),), {}),
    ("expm", (np.stack([A, 1e-9 * A, 0 * A]),), {}),
    ("expm_frechet", (A, H), {}),
    ("fiedler", (V,), {}),
    ("fiedler_companion", (V,), {}),
    ("hadamard", (8,), {}),
    ("hankel", (V, V[::-1]), {}),
    ("helmert", (5,), {"full": True}),
    ("hessenberg", (A,), {"calc_q": True}),
    ("hilbert", (4,), {}),
    ("inv", (C,), {}),
    ("invhilbert", (6,), {}),
    ("invpascal", (6,), {"kind": "lower"}),
    ("invpascal", (6,), {}),
    ("leslie", (V, V[:3]), {}),
    ("logm", (POSITIVE,), {}),
    ("logm", (sp.expm(C / 2),), {}),
    ("lu", (T,), {}),
    ("lu", (T.T,), {"permute_l": True}),
    ("lu_factor", (A,), {}),
    ("pascal", (6,), {"kind": "upper"}),
    ("polar", (T,), {}),
    ("polar", (T.T,), {"side": "left"}),
    ("qr", (T,), {}),
    ("qr", (C,), {"pivoting": True}),
    ("qr", (T,), {"mode": "economic"}),
    ("qr_multiply", (T, rng.normal(size=(2, 5))), {}),
    ("qr_multiply", (T, rng.normal(size=(3, 2))), {"mode": "left"}),
    ("solve", (C, V), {}),
    ("solve", (H, T[:4]), {"assume_a": "pos"}),
    ("solve_sylvester", (POSITIVE, H[:3, :3], A[:, :3]), {}),
    *(("solve_triangular", (C, V), {"trans": t}) for t in (0, "T", "C")),
    ("sqrtm", (POSITIVE,), {}),
    ("sqrtm", (C,), {}),
    ("svd", (T,), {"compute_uv": False}),
    ("toeplitz", (V, V[:3]), {}),
]


@pytest.mark.parametrize(
    ("name", "args", "options"), EQUAL_TO_SCIPY, ids=lambda x: x if isinstance(x, str) else ""
)
def test_equals_scipy(name, args, options):
    want = getattr(sp, name)(*args, **options)
    given = [fnp.asarray(x) if isinstance(x, np.ndarray) else x for x in args]
    single = name in ("dft", "helmert", "hilbert", "invpascal", "invhilbert", "pascal")
    same(getattr(sl, name)(*given, **options), want, 1e-6 if single else 1e-8)


def test_factors_make_what_was_factored():
    for x in (A, C):
        t, z = sl.schur(fnp.asarray(x))
        same(z @ t @ z.conj().T, x)
        t, z = sl.rsf2csf(*sl.schur(fnp.asarray(A)))
        same(z @ t @ z.conj().T, A.astype(complex))
        assert not np.tril(t, -1).any()
        w, left, right = ll.eig(fnp.asarray(x))
        same(x @ np.asarray(right), right * w)
        same(np.conj(left).T @ x, w[:, None] * np.conj(left).T)
        v, w = ll.eigh(fnp.asarray(x), subset_by_index=(1, 3))
        same((x + x.conj().T) / 2 @ np.asarray(v), v * w)
    u, s, vh = fnp.linalg.svd(fnp.asarray(A + A.T), hermitian=True)
    same((u * s) @ vh, A + A.T)
    same(s, np.linalg.svd(A + A.T)[1])
    same(sl.funm(fnp.asarray(APART), fnp.exp), sp.expm(APART).astype(complex))
    a, taus = fnp.linalg.qr(fnp.asarray(T), mode="raw")
    same(ll.householder_product(a.T, taus), np.linalg.qr(T)[0])
    c = rng.normal(size=(2, 5))
    same(ll.ormqr(a.T, taus, fnp.asarray(c), left=False), c @ sp.qr(T)[0])
    same(ll.ormqr(a.T, taus, fnp.asarray(c.T), transpose=True), sp.qr(T)[0].T @ c.T)
    r = np.linalg.cholesky(H).T
    same(ll.cholesky_update(fnp.asarray(r), fnp.asarray(V)), sp.cholesky(H + np.outer(V, V)))
    same(
        ll.symmetric_product(fnp.asarray(T), fnp.eye(5), alpha=2, beta=3),
        2 * T @ T.T + 3 * np.eye(5),
    )
    packed, d, e, _ = ll.tridiagonal(fnp.asarray(H))
    same(
        np.linalg.eigvalsh(
            np.diag(np.asarray(d)) + np.diag(np.asarray(e), 1) + np.diag(np.asarray(e), -1)
        ),
        np.linalg.eigvalsh(H),
    )
    assert packed.shape == (4, 4)
    same(ll.lu_pivots_to_permutation(fnp.asarray([1, 2, 2]), 4), np.array([1, 2, 0, 3]))
    same(sl.lu_solve(sl.lu_factor(fnp.asarray(A)), fnp.asarray(V), 1), np.linalg.solve(A.T, V))
    same(sl.cho_solve(sl.cho_factor(fnp.asarray(H)), fnp.asarray(V)), np.linalg.solve(H, V))


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("conjugate", [False, True])
def test_triangular_solve_as_jax_has_it(left, transpose, conjugate):
    low = np.tril(C)
    op = low.T if transpose else low
    op = op.conj() if conjugate else op
    b = rng.normal(size=(4, 2)) if left else rng.normal(size=(2, 4))
    x = ll.triangular_solve(
        fnp.asarray(C), fnp.asarray(b), left_side=left, lower=True, transpose_a=transpose,
        conjugate_a=conjugate,
    )  # fmt: skip
    x = np.asarray(x)
    same(op @ x if left else x @ op, b.astype(complex))


def test_options_of_numpy_linalg():
    x = fnp.asarray(T)
    same(fnp.linalg.qr(x, mode="complete"), np.linalg.qr(T, mode="complete"))
    same(fnp.linalg.qr(x, mode="r"), np.linalg.qr(T, mode="r"))
    u, s, vh = fnp.linalg.svd(x)
    assert u.shape == (5, 5)
    same((u[:, :3] * s) @ vh, T)
    same(fnp.linalg.svd(x, compute_uv=False, subset_by_index=(0, 2)), np.linalg.svd(T)[1][:2])
    same(np.sort_complex(fnp.linalg.eigvals(fnp.asarray(A))), np.sort_complex(np.linalg.eigvals(A)))
    for p in (None, 1, -1, 2, -2, np.inf, -np.inf, "fro"):
        same(fnp.linalg.cond(fnp.asarray(A), p), np.linalg.cond(A, p))
    assert fnp.linalg.cond(fnp.asarray(np.zeros((2, 2)))) == np.inf
    for order in (None, 0, 1, 2, 3, 0.5, -1, -2, np.inf, -np.inf):
        same(fnp.linalg.norm(fnp.asarray(V), order), np.linalg.norm(V, order))
    same(fnp.linalg.matrix_rank(fnp.asarray(A[:, :1] @ A[:1]), hermitian=False), 1)
    same(fnp.linalg.matrix_rank(fnp.asarray(np.diag([1, 1e-3, 0])), tol=1e-2), 1)
    same(fnp.linalg.pinv(fnp.asarray(H), hermitian=True), np.linalg.pinv(H))
    same(fnp.linalg.pinv(x, rtol=fnp.asarray(0.5)), np.linalg.pinv(T, 0.5))
    low_rank = T @ np.diag([1.0, 1, 0])
    b = rng.normal(size=5)
    got, want = fnp.linalg.lstsq(fnp.asarray(low_rank), b), np.linalg.lstsq(low_rank, b)
    same(got[0], want[0])
    assert int(got[2]) == want[2] == 2
    assert fnp.linalg.lstsq(fnp.asarray(low_rank), b, numpy_resid=True)[1].shape == (0,)


# ---------------------------------------------------------------------------------- every transform
def real(f):
    return lambda *xs: ft.tree.map(fnp.real, f(*xs))


PROGRAMS = {
    "expm": (sl.expm, 2 * A),
    "expm_frechet": (sl.expm_frechet, A, H),
    "sqrtm": (real(sl.sqrtm), POSITIVE),
    "logm": (real(sl.logm), np.eye(4) + 0.1 * A),
    "funm": (real(lambda x: sl.funm(x, fnp.exp) / 1e4), APART),
    "solve_sylvester": (sl.solve_sylvester, POSITIVE, H, A),
    "polar": (sl.polar, T),
    "lu": (sl.lu, A),
    "lu_solve": (lambda a, b: sl.lu_solve(sl.lu_factor(a), b), POSITIVE, V),
    "cho_solve": (lambda a, b: sl.cho_solve(sl.cho_factor((a + a.T) / 2), b), H, V),
    "generalized": (lambda a, b: sl.eigh(a + a.T, b + b.T, eigvals_only=True), A, H),
    "eigh_tridiagonal": (lambda d, e: sl.eigh_tridiagonal(d, e, eigvals_only=True), V, V[:3]),
    "qr_multiply": (sl.qr_multiply, T, rng.normal(size=(2, 5))),
    "toeplitz": (sl.toeplitz, V, V + 1),
    "leslie": (sl.leslie, V, V[:3]),
    "cholesky_update": (ll.cholesky_update, np.linalg.cholesky(H).T.copy(), V),
    "householder_product": (lambda a: ll.householder_product(a, V[:3]), T),
    "ormqr": (lambda a, c: ll.ormqr(a, V[:3], c), T, rng.normal(size=(5, 2))),
    "pinv": (fnp.linalg.pinv, T),
    "lstsq": (lambda a, b: fnp.linalg.lstsq(a, b)[:2], T, rng.normal(size=5)),
    "det": (fnp.linalg.det, A),
    "cond": (fnp.linalg.cond, A),
    "nuclear": (lambda x: fnp.linalg.norm(x, "nuc"), T),
    "eig": (lambda x: fnp.abs(fnp.linalg.eig(x)[1]), APART),
    "eigvals": (real(fnp.linalg.eigvals), APART),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_under_every_transform(name):
    f, *args = PROGRAMS[name]
    args = tuple(map(fnp.asarray, args))
    check_grads(f, args, order=1, rtol=1e-5, atol=1e-6)

    def slope(*xs):
        return ft.grad(lambda *ys: sum(fnp.sum(fnp.sin(o)) for o in ft.tree.leaves(f(*ys))))(*xs)

    want = slope(*args)
    same(ft.jit(slope)(*args), want, 1e-6)
    assert not ft.explain(slope)(*args).eager  # all of it is native
    stacks = tuple(fnp.stack([x, 1.01 * x]) for x in args)
    same(ft.vmap(slope)(*stacks)[0], want, 1e-6)


def test_batches_and_threads_change_nothing():
    x = rng.normal(size=(40, 9, 9)).astype(np.float32)
    p = x @ x.swapaxes(1, 2) + np.eye(9, dtype=np.float32)

    @ft.jit
    def f(x, p):
        return (
            fnp.linalg.cholesky(p), fnp.linalg.eigh(p), fnp.linalg.svd(x), fnp.linalg.qr(x),
            fnp.linalg.solve(p, x), fnp.linalg.eig(x), ll.lu(x), ll.schur(x),
        )  # fmt: skip

    whole = leaves(f(x, p))
    with ft.threads(1):
        for a, b in zip(whole, leaves(f(x, p)), strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(whole, leaves(f(x[17], p[17])), strict=True):
        np.testing.assert_array_equal(a[17], b)


def test_large_systems_in_blocks():
    n = 300
    a, b = rng.normal(size=(n, n)) + 20 * np.eye(n), rng.normal(size=(n, 250))

    def f(a, b):
        return sl.solve_triangular(a, b, lower=True), sl.solve_triangular(a, b, trans=1)

    want = sp.solve_triangular(a, b, lower=True), sp.solve_triangular(a, b, trans=1)
    same(f(fnp.asarray(a), fnp.asarray(b)), want)
    got = leaves(ft.jit(f)(a, b))
    same(got, want)
    with ft.threads(1):
        for x, y in zip(got, leaves(ft.jit(f)(a, b)), strict=True):
            np.testing.assert_array_equal(x, y)
    a[5, 5] = 0
    assert np.isnan(leaves(ft.jit(f)(a, b))).all()


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 0, 3), (0, 4, 4)])
def test_empty(shape):
    x = fnp.zeros(shape)
    for f in (fnp.linalg.svd, fnp.linalg.qr, ll.lu, fnp.linalg.pinv, lambda x: ll.qr(x)):
        out, compiled = leaves(f(x)), leaves(ft.jit(f)(x))
        assert [o.shape for o in out] == [o.shape for o in compiled]
    if shape[-1] == shape[-2]:
        square = (
            fnp.linalg.eig, fnp.linalg.eigh, fnp.linalg.cholesky, sl.expm, sl.sqrtm, sl.logm,
            sl.schur, ll.hessenberg, ll.tridiagonal, sl.polar, fnp.linalg.det,
        )  # fmt: skip
        for f in square:
            assert [o.shape for o in leaves(f(x))] == [o.shape for o in leaves(ft.jit(f)(x))]
        np.testing.assert_array_equal(fnp.linalg.det(x), np.ones(shape[:-2]))


def test_failures_are_nan_in_compiled_programs():
    p = np.stack([H, -H, H]).astype(np.float32)
    low = np.asarray(ft.jit(fnp.linalg.cholesky)(p))
    assert np.isnan(low[1]).all()
    assert np.isfinite(low[[0, 2]]).all()
    p[1] = np.nan
    for f in (fnp.linalg.eigh, fnp.linalg.eig, fnp.linalg.svd, sl.schur):
        for out in (*leaves(f(fnp.asarray(p))), *leaves(ft.jit(f)(p))):
            assert np.isnan(out[1]).all()
            assert np.isfinite(out[[0, 2]]).all()
    p[1] = 0
    solved = np.asarray(ft.jit(fnp.linalg.solve)(p, p))
    assert np.isnan(solved[1]).all()


# ---------------------------------------------------------------------- where formulas are singular
REPEATED = sp.block_diag(2 * np.eye(2), 5.0, 5.0)
Q = sp.qr(rng.normal(size=(4, 4)))[0]


@pytest.mark.parametrize(
    "x", [np.eye(4), REPEATED, Q @ REPEATED @ Q.T], ids=["1", "blocks", "turned"]
)
def test_equal_eigenvalues(x):
    """What does not depend on the choice of vectors has the derivative that it has nearby."""
    m, x = fnp.asarray(A + A.T), fnp.asarray((x + x.T) / 2)

    def powers(x):
        return (fnp.linalg.eigvalsh(x) ** 3).sum()

    same(ft.grad(powers)(x), 3 * x @ x, 1e-7)

    def nuclear(x):
        return fnp.linalg.norm(x, "nuc")

    u = sp.polar(np.asarray(x))[0]
    same(ft.grad(nuclear)(x), u, 1e-7)

    def space(x):
        v = fnp.linalg.eigh(x)[1][:, 2:]
        return ((v @ v.T) * m).sum()

    def left(x):
        u = fnp.linalg.svd(x)[0][:, :2]
        return u @ u.T

    if not np.allclose(x, np.eye(4)):
        check_grads(space, (x,), order=1, rtol=1e-4, atol=1e-5)
        check_grads(left, (x,), order=1, rtol=1e-4, atol=1e-5)
    for f in (fnp.linalg.pinv, sl.polar, real(sl.sqrtm), sl.expm, fnp.linalg.inv, real(sl.logm)):
        check_grads(f, (x,), order=1, rtol=1e-4, atol=1e-5)


def test_gradients_are_finite_at_zero():
    zero = fnp.zeros(3)
    for order in (None, 1, 2, 3, 1.5, np.inf):
        np.testing.assert_array_equal(
            ft.grad(lambda x, o=order: fnp.linalg.norm(x, o))(zero) * 0, 0
        )
    for order in (None, 2, 3):
        np.testing.assert_array_equal(ft.grad(lambda x, o=order: fnp.linalg.norm(x, o))(zero), 0)
    np.testing.assert_array_equal(ft.grad(fnp.linalg.norm)(fnp.zeros((2, 2))), 0)
    grown = ft.grad(lambda x: fnp.linalg.norm(x, axis=1).sum())(
        fnp.asarray([[0.0, 0.0], [3.0, 4.0]])
    )
    same(grown, np.array([[0, 0], [0.6, 0.8]]), 1e-6)
    # A singular matrix has a determinant with a derivative: its adjugate.
    singular = np.diag([1.0, 2, 3, 0])
    got = ft.grad(fnp.linalg.det)(fnp.asarray(singular))
    same(got, np.diag([0.0, 0, 0, 6]))
    same(ft.grad(fnp.linalg.det)(fnp.zeros((4, 4))), np.zeros((4, 4)))
    turned = Q @ singular @ Q.T
    same(ft.grad(fnp.linalg.det)(fnp.asarray(turned)), 6 * np.outer(Q[:, 3], Q[:, 3]))


def test_strict_gradients():
    with ft.config.override(strict_gradients=True):
        assert np.isnan(ft.grad(fnp.linalg.norm)(fnp.zeros(3))).all()
        projection = ft.grad(lambda x: (fnp.linalg.eigh(x)[1][:, :2] ** 2).sum())
        assert not np.isfinite(projection(fnp.asarray(np.eye(4)))).all()
    assert np.isfinite(ft.grad(fnp.linalg.norm)(fnp.zeros(3))).all()


# ---------------------------------------------------------------------------------------- bad input
BAD = [
    (lambda: fnp.linalg.eig(fnp.ones((2, 3))), r"eig: argument a must hold square .*\[2,3\]"),
    (lambda: fnp.linalg.qr(fnp.ones((2, 2)), "x"), r"qr: mode must be .*, got 'x'"),
    (lambda: fnp.linalg.matrix_rank(fnp.eye(2), 1, tol=1), "give rtol or tol, not both"),
    (lambda: fnp.linalg.svd(fnp.eye(3), subset_by_index=(2, 5)), "must be a part of"),
    (lambda: fnp.linalg.cond(fnp.ones((0, 0))), "argument x must not be empty"),
    (lambda: ll.householder_product(fnp.ones((2, 3)), fnp.ones(2)), r"m, n\) with m >= n"),
    (lambda: ll.tridiagonal_solve(*[fnp.ones(3)] * 4), r"takes diagonals .* got .*\[3\]"),
    (lambda: ll.triangular_solve(fnp.eye(3), fnp.ones((3, 2))), r"b float32\[3,2\] does not fit a"),
    (lambda: ll.lu_pivots_to_permutation(fnp.ones(3), 4), "pivots must be integers"),
    (lambda: ll.lu_pivots_to_permutation(fnp.asarray([1, 2]), 1), "is less than the 2 pivots"),
    (lambda: ll.ormqr(fnp.eye(3), fnp.ones(3), fnp.ones((2, 2))), r"c float32\[2,2\]"),
    (lambda: ll.cholesky_update(fnp.eye(3), fnp.ones(2)), "must have as many elements"),
    (lambda: ll.schur(fnp.eye(2), sort_eig_vals=True), "eigenvalues are not sorted"),
    (lambda: sl.solve(fnp.eye(2), fnp.ones(2), assume_a="x"), "assume_a must be 'gen'"),
    (lambda: sl.solve_triangular(fnp.eye(2), fnp.ones(3)), r"b float32\[3\] does not fit a"),
    (lambda: sl.solve_sylvester(fnp.eye(2), fnp.eye(3), fnp.eye(2)), r"C float32\[2,2\] does not"),
    (lambda: sl.schur(fnp.eye(2), output="x"), "output must be 'real' or 'complex', got 'x'"),
    (lambda: sl.polar(fnp.ones((2, 3))), "at least as many rows as columns"),
    (lambda: sl.qr_multiply(fnp.eye(2), fnp.ones(3)), r"c float32\[1,3\] does not fit"),
    (lambda: sl.expm(fnp.ones(3)), r"expm: argument A must hold square matrices"),
    (lambda: sl.funm(fnp.ones((2, 2, 2)), fnp.exp), "must be one matrix"),
    (lambda: sl.hadamard(3), "must be a power of two, got 3"),
    (lambda: sl.companion(fnp.ones(1)), "at least 2 elements"),
    (lambda: sl.leslie(fnp.ones(3), fnp.ones(3)), "one element less than f"),
    (lambda: sl.convolution_matrix(fnp.ones(3), 0), "n must be at least 1, got 0"),
    (lambda: sl.block_diag(fnp.ones((1, 1, 1))), "at most 2 dimensions"),
    (
        lambda: sl.eigh_tridiagonal(fnp.ones(3), fnp.ones(2), select="v"),
        "select='v' and select_range=None",
    ),
    (
        lambda: ft.jit(
            lambda d: sl.eigh_tridiagonal(d, d[:2], select="v", select_range=(0, 1))
        )(fnp.ones(3)),
        "number of eigenvalues in an interval",
    ),
    (
        lambda: sl.eigh_tridiagonal(
            fnp.ones((2, 3)), fnp.ones((2, 2)), select="v", select_range=(0, 1)
        ),
        "takes one matrix, got a stack",
    ),
    (lambda: sl.pascal(3, kind="x"), "kind must be one of"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m[:24] for _, m in BAD])
def test_messages(call, message):
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=message):
        call()


def test_pivots_from_outside_are_checked():
    wild = fnp.asarray([10**6, -(10**6), 3])
    for f in (ll.lu_pivots_to_permutation, ft.jit(ll.lu_pivots_to_permutation, static_argnums=1)):
        assert sorted(np.asarray(f(wild, 4))) == [0, 1, 2, 3]


def test_names():
    assert len(ll.__all__) == 17
    assert len(sl.__all__) == 41
    assert str(inspect.signature(ll.eigh)).startswith("(x: 'Any', *, lower: 'bool' = True, symm")


def test_extremes_over_nothing_are_their_initial_value():
    for shape, axis in (((0,), None), ((2, 0), 1), ((0, 3), 0)):
        x = np.zeros(shape, np.float32)
        for f, plain in ((fnp.max, np.max), (fnp.min, np.min)):
            same(f(fnp.asarray(x), axis, initial=-2.0), plain(x, axis, initial=-2.0))
            wide = f(fnp.asarray(x), axis, initial=-2.0, keepdims=True)
            assert wide.shape == plain(x, axis, initial=-2.0, keepdims=True).shape


def test_eigenvalues_in_an_interval():
    d, e = np.arange(5.0) + 1, np.full(4, 0.3)
    w, v = sl.eigh_tridiagonal(d, e)
    for low, high in ((1.5, 3.5), (-1, 0), (0, 9), (float(w[1]), float(w[2]))):
        kept = np.flatnonzero((np.asarray(w) > low) & (np.asarray(w) <= high))
        some, vectors = sl.eigh_tridiagonal(d, e, select="v", select_range=(low, high))
        assert some.tolist() == w[kept].tolist()
        assert vectors.tolist() == v[:, kept].tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_singular_tridiagonal_systems(dtype):
    """Finite, and one step of inverse iteration gives an eigenvector."""
    n = 7
    d, e = rng.normal(size=n).astype(dtype), rng.normal(size=n - 1).astype(dtype)
    beside = np.concatenate([e, [0]]).astype(dtype)
    matrix = np.diag(d) + np.diag(e, 1) + np.diag(e, -1)
    solve = ft.jit(lambda *x: ll.tridiagonal_solve(*x, perturb_singular=True))
    system = np.roll(beside, 1), d, beside
    b = rng.normal(size=(n, 2)).astype(dtype)
    np.testing.assert_allclose(solve(*system, b), np.linalg.solve(matrix, b), rtol=1e-3, atol=1e-3)
    for w in np.linalg.eigvals(matrix).astype(dtype):
        x = np.asarray(solve(np.roll(beside, 1), d - w, beside, b[:, :1]))
        assert np.isfinite(x).all()
        x = x / np.linalg.norm(x)
        assert np.linalg.norm(matrix @ x - w * x) < 1e4 * np.finfo(dtype).eps
    for zero in (np.zeros(n, dtype), np.zeros((2, n), dtype)):
        assert np.isfinite(solve(zero, zero, zero, np.ones((*zero.shape, 1), dtype))).all()
    alike = solve(*(np.stack([x, x]) for x in (*system, b)))
    np.testing.assert_allclose(alike[1], solve(*system, b), rtol=1e-5)
