"""Factorisations large enough for LAPACK itself: NumPy's results, and nan where there is none."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.ops import lapack, linalg
from funtorch.testing import check_grads

rng = np.random.default_rng(5)
START = rng.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers():
    """Draw the same numbers in each test, whatever ran before it."""
    rng.bit_generator.state = START


N = 30
DTYPES = ("float32", "float64", "complex64", "complex128")
TOLERANCE = {"float32": 2e-4, "float64": 1e-10, "complex64": 2e-4, "complex128": 1e-10}


def matrices(dtype, *shape):
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape) if "complex" in dtype else x).astype(dtype)


def definite(dtype, *lead):
    x = matrices(dtype, *lead, N, N)
    return (x @ x.conj().swapaxes(-1, -2) / N + np.eye(N)).astype(dtype)


def well(dtype, *lead):
    return (matrices(dtype, *lead, N, N) / N + np.eye(N)).astype(dtype)


class lapack_eager:
    """The eager rules, which run recipes, on NumPy arrays."""

    cholesky = staticmethod(lambda x: linalg.cholesky_p.eager(np, x))
    solve = staticmethod(lambda a, b: linalg.solve_p.eager(np, a, b))
    eigh = staticmethod(lambda x: linalg.eigh_p.eager(np, x, vectors=True))
    triangular_solve = staticmethod(
        lambda a, b, **params: linalg.triangular_solve_p.eager(np, a, b, **params)
    )


def close(got, want, dtype):
    np.testing.assert_allclose(got, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_values(dtype):
    a, b, p = well(dtype, 2), matrices(dtype, 2, N, 3), definite(dtype, 2)
    assert lapack.takes(np, p)
    low = lapack_eager.cholesky(p)
    assert low.dtype == dtype
    close(low, np.linalg.cholesky(p), dtype)
    close(lapack_eager.solve(a, b), np.linalg.solve(a, b), dtype)
    w, v = lapack_eager.eigh(p)
    assert w.dtype == np.zeros(0, dtype).real.dtype
    close(w, np.linalg.eigvalsh(p), dtype)
    close(p @ v, v * w[:, None, :], dtype)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("trans", [0, 1, 2])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_triangular_solves(dtype, lower, trans, unit):
    a, b = well(dtype, 2), matrices(dtype, 2, N, 5)
    triangle = np.tril(a) if lower else np.triu(a)
    if unit:
        triangle[:, range(N), range(N)] = 1
    op = (lambda x: x, lambda x: x.swapaxes(1, 2), lambda x: x.swapaxes(1, 2).conj())[trans]
    got = lapack_eager.triangular_solve(a, b, lower=lower, trans=trans, unit=unit)
    close(got, np.linalg.solve(op(triangle), b), dtype)


def test_other_layouts_are_read_and_left_alone():
    p, b = definite("float64"), matrices("float64", 2 * N, 8)[::2, ::2]
    views = [p.T, np.asfortranarray(p), np.repeat(p, 2, 1)[:, ::2]]
    for x in views:
        before = x.copy()
        close(lapack_eager.cholesky(x), np.linalg.cholesky(before), "float64")
        close(lapack_eager.solve(x, b), np.linalg.solve(before, b), "float64")
        close(lapack_eager.eigh(x)[0], np.linalg.eigvalsh(before), "float64")
        got = lapack_eager.triangular_solve(x, b, lower=True, trans=0, unit=False)
        close(got, np.linalg.solve(np.tril(before), b), "float64")
        np.testing.assert_array_equal(x, before)
    read_only = p.copy()
    read_only.flags.writeable = False
    lapack_eager.eigh(read_only)
    np.testing.assert_array_equal(read_only, p)


def test_only_the_failing_matrix_is_nan():
    p, b = definite("float32", 3), matrices("float32", 3, N, 2)
    bad = p.copy()
    bad[1] = -bad[1]
    low = lapack_eager.cholesky(bad)
    assert np.isnan(low[1]).all()
    close(low[::2], np.linalg.cholesky(p[::2]), "float32")
    singular = p.copy()
    singular[1, :, 0] = 0
    assert np.isnan(lapack_eager.solve(singular, b)[1]).all()
    got = lapack_eager.triangular_solve(singular, b, lower=True, trans=0, unit=False)
    assert np.isnan(got[1]).all()
    assert np.isfinite(got[::2]).all()
    missing = p.copy()
    missing[1, 3, 2] = np.nan
    for result in (
        *lapack_eager.eigh(missing),
        lapack_eager.cholesky(missing),
        lapack_eager.solve(missing, b),
    ):
        assert np.isnan(result[1]).all()
        assert np.isfinite(result[::2]).all()


def test_empty_batches_and_columns():
    assert lapack_eager.solve(definite("float32", 2), np.zeros((2, N, 0), "float32")).shape == (
        2,
        N,
        0,
    )
    for shape in ((0, N, N), (2, 0, 0)):
        x = fnp.zeros(shape)
        assert not lapack.takes(np, x._data)
        assert linalg.cholesky(x).shape == shape


def test_derivatives_compiled_and_not():
    p, ct = fnp.asarray(definite("float64")), fnp.asarray(matrices("float64", N, N))

    def f(p):
        w, v = fnp.linalg.eigh(p)
        x = fnp.linalg.solve(fnp.linalg.cholesky(p), ct)
        return (w**2).sum() + (x * ct).sum() + ((v * w) @ v.T * ct).sum()

    check_grads(f, (p,), order=1)
    np.testing.assert_allclose(ft.jit(ft.grad(f))(p), ft.grad(f)(p), rtol=1e-8, atol=1e-8)
