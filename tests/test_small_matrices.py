"""Many small matrices: factorisations whose vectors hold an element of each matrix."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.scipy import linalg

rng = np.random.default_rng(5)
SIZES = [(4, 1), (5, 2), (17, 3), (33, 7), (9, 16)]
TOLERANCE = {"float32": 2e-4, "float64": 1e-12}


def matrices(batch, n, dtype):
    return (rng.normal(size=(batch, n, n)) + 3 * np.eye(n)).astype(dtype)


def close(got, want, dtype):
    assert got.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("batch", "n"), SIZES)
def test_factors_and_solutions(batch, n, dtype):
    a, b = matrices(batch, n, dtype), rng.normal(size=(batch, n, 3)).astype(dtype)
    wide = a.astype(float)
    spd = a @ a.swapaxes(1, 2)

    @ft.jit
    def f(a, b, spd):
        factors, pivots = linalg.lu_factor(a)
        return fnp.linalg.solve(a, b), fnp.linalg.cholesky(spd), fnp.linalg.det(a), factors, pivots

    x, root, det, factors, pivots = map(np.asarray, f(a, b, spd))
    close(x, np.linalg.solve(wide, b), dtype)
    close(root @ root.swapaxes(1, 2) / 16, spd / 16, dtype)
    assert not np.triu(root, 1).any()
    close(det, np.linalg.det(wide).astype(dtype), dtype)
    want = [linalg.lu_factor(m) for m in a]  # by LAPACK
    close(factors, np.stack([w[0] for w in want]), dtype)
    np.testing.assert_array_equal(pivots, np.stack([w[1] for w in want]))


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("lower", [False, True])
def test_triangles(lower, trans, unit):
    t, b = matrices(19, 5, "float64"), rng.normal(size=(19, 5, 2))

    @ft.jit
    def f(t, b):
        return linalg.solve_triangular(t, b, lower=lower, trans=trans, unit_diagonal=unit)

    part = np.tril(t) if lower else np.triu(t)
    if unit:
        part[:, range(5), range(5)] = 1
    part = part.swapaxes(1, 2) if trans else part
    close(np.asarray(f(t, b)), np.linalg.solve(part, b), "float64")


def test_what_fails_is_nan_and_leaves_the_others_alone():
    good = np.array([[2.0, 1.0], [1.0, 3.0]])
    bad = {"singular": [[1.0, 2.0], [2.0, 4.0]], "nan": [[np.nan, 1.0], [1.0, 2.0]]}
    a = np.stack([good, bad["singular"], good, bad["nan"], good])
    inverse = np.asarray(ft.jit(fnp.linalg.inv)(a))
    expected = np.linalg.inv(good)
    for k, m in enumerate(inverse):
        np.testing.assert_allclose(m, np.full((2, 2), np.nan) if k % 2 else expected)
    np.testing.assert_allclose(ft.jit(fnp.linalg.det)(a), [5, 0, 5, np.nan, 5])
    a = np.stack([good, -good, good, bad["nan"], good])
    root = np.asarray(ft.jit(lambda a: fnp.linalg.cholesky(a, symmetrize_input=False))(a))
    for k, m in enumerate(root):
        want = np.full((2, 2), np.nan) if k % 2 else np.linalg.cholesky(good)
        np.testing.assert_allclose(m, want)


def test_derivatives_and_threads_do_not_matter():
    a = matrices(40, 4, "float64")
    step = ft.grad(lambda a: (fnp.linalg.inv(a) ** 2).sum() + fnp.linalg.slogdet(a)[1].sum())
    found = np.asarray(ft.jit(step)(a))
    np.testing.assert_allclose(found, step(a), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(found[:7], ft.jit(step)(a[:7]))
