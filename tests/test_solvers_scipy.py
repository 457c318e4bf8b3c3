"""Iterative solvers and minimisers: they find the answer, under every transform."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp

RNG = np.random.default_rng(1)
Q = RNG.normal(size=(6, 6))
B = RNG.normal(size=6)
SYSTEMS = {"cg": Q @ Q.T + np.eye(6), "bicgstab": Q + 4 * np.eye(6), "gmres": Q + 4 * np.eye(6)}


@pytest.mark.parametrize("name", SYSTEMS)
def test_linear_systems(name):
    solve = getattr(ft.scipy.sparse.linalg, name)
    matrix, b = fnp.asarray(SYSTEMS[name]), fnp.asarray(B)
    want = np.linalg.solve(SYSTEMS[name], B)
    x, info = solve(matrix, b, tol=1e-10)
    assert info is None
    np.testing.assert_allclose(np.asarray(x), want, rtol=1e-6)

    @ft.jit
    def preconditioned(a, b):
        return solve(lambda v: a @ v, b, tol=1e-10, M=lambda v: v / fnp.diag(a), x0=b)[0]

    np.testing.assert_allclose(np.asarray(preconditioned(matrix, b)), want, rtol=1e-6)
    both = ft.vmap(lambda b: solve(matrix, b, tol=1e-10)[0])(fnp.stack([b, 3 * b]))
    np.testing.assert_allclose(np.asarray(both[1]), 3 * want, rtol=1e-6)
    tree = solve(lambda t: {"v": [matrix @ t["v"][0]]}, {"v": [b]}, tol=1e-10)[0]
    np.testing.assert_allclose(np.asarray(tree["v"][0]), want, rtol=1e-6)
    turned = SYSTEMS[name] + 0.3j * (Q - Q.T)
    x, _ = solve(fnp.asarray(turned), b, tol=1e-10)
    np.testing.assert_allclose(np.asarray(x), np.linalg.solve(turned, B), rtol=1e-6)


@pytest.mark.parametrize("name", SYSTEMS)
def test_derivatives_of_linear_systems(name):
    solve = getattr(ft.scipy.sparse.linalg, name)
    args = fnp.asarray(SYSTEMS[name]), fnp.asarray(B)

    def loss(a, b):
        return fnp.sum(solve(a, b, tol=1e-12)[0] ** 2)

    def exact(a, b):
        return fnp.sum(fnp.linalg.solve(a, b) ** 2)

    for transform in (
        lambda f: ft.grad(f, (0, 1)),
        lambda f: ft.hessian(f, 1),
        lambda f: lambda a, b: ft.jvp(f, (a, b), (a, b))[1],
    ):
        gots, wants = (ft.tree.leaves(transform(f)(*args)) for f in (loss, exact))
        for got, want in zip(gots, wants, strict=True):
            np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-5, atol=1e-7)


def rosenbrock(x):
    return fnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


FUNCTIONS = {
    "rosenbrock": (rosenbrock, [-1.2, 1.0, 0.5], [1.0, 1.0, 1.0]),
    "himmelblau": (
        lambda p: (p[0] ** 2 + p[1] - 11.0) ** 2 + (p[0] + p[1] ** 2 - 7.0) ** 2,
        [1.0, 1.0],
        [3.0, 2.0],
    ),
    "quadratic": (lambda p: fnp.sum((p - 3.0) ** 2), [0.0, 1.0], [3.0, 3.0]),
}


@pytest.mark.parametrize("method", ["BFGS", "l-bfgs-experimental-do-not-rely-on-this"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_minimize(method, name):
    f, start, want = FUNCTIONS[name]
    x0 = fnp.asarray(np.array(start))

    def find(x):
        return ft.scipy.optimize.minimize(f, x, method=method)

    for found in (find(x0), ft.jit(find)(x0)):
        assert bool(found.success)
        assert int(found.status) == 0
        np.testing.assert_allclose(np.asarray(found.x), want, rtol=1e-5)
        assert float(np.abs(np.asarray(found.jac)).max()) < 1e-5
        assert (found.hess_inv is None) == (method != "BFGS")
    assert find(x0.astype("float32")).x.dtype == np.float32


def test_minimize_in_a_batch_and_without_iterations():
    starts = fnp.asarray(np.array([[-1.2, 1.0], [2.0, 2.0]]))
    found = ft.vmap(lambda x: ft.scipy.optimize.minimize(rosenbrock, x, method="BFGS").x)(starts)
    np.testing.assert_allclose(np.asarray(found), np.ones((2, 2)), rtol=1e-5)
    stopped = ft.scipy.optimize.minimize(
        rosenbrock, starts[0], method="BFGS", options={"maxiter": 1}
    )
    assert not bool(stopped.success)
    assert int(stopped.status) == 1
    extra = ft.scipy.optimize.minimize(
        lambda x, a: fnp.sum((x - a) ** 2), fnp.zeros(2), (5.0,), method="BFGS"
    )
    np.testing.assert_allclose(np.asarray(extra.x), [5.0, 5.0], rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: ft.scipy.optimize.minimize(len, x, method="CG"), ValueError, "got 'CG'"),
        (lambda x: ft.scipy.optimize.minimize(len, x, 1, method="BFGS"), TypeError, "args must be"),
        (
            lambda x: ft.scipy.optimize.minimize(len, x, method="BFGS", options={"eps": 1}),
            ValueError,
            r"has no options \['eps'\]",
        ),
        (lambda x: ft.scipy.sparse.linalg.cg(x, x), ValueError, "A must be a function or a square"),
        (lambda x: ft.scipy.sparse.linalg.cg(len, x, x[:1]), ValueError, "matching shapes"),
        (
            lambda x: ft.scipy.sparse.linalg.gmres(len, x, solve_method="best"),
            ValueError,
            "solve_method must be",
        ),
    ],
)
def test_mistakes_name_the_argument(call, error, text):
    with pytest.raises(error, match=text):
        call(fnp.zeros(3))
