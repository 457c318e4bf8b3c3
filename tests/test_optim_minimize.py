"""`optim.minimize` finds the minima that are known, as SciPy does."""

import re

import numpy as np
import pytest
import scipy.optimize

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import optim

METHODS = ["bfgs", "l-bfgs", "newton-cg", "gauss-newton", "levenberg-marquardt"]
SQUARES = METHODS[3:]
TIMES = np.linspace(0.0, 3.0, 20)


# Residuals, start, minimum (of Moré, Garbow & Hillstrom, "Testing unconstrained optimization
# software", 1981; half the sums of squares of theirs).
PROBLEMS = {
    "rosenbrock of ten": (
        lambda x: fnp.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]]),
        [-0.5] * 10, [1.0] * 10,
    ),
    "beale": (
        lambda x: fnp.stack(
            [1.5 - x[0] * (1 - x[1]), 2.25 - x[0] * (1 - x[1] ** 2), 2.625 - x[0] * (1 - x[1] ** 3)]
        ),
        [1.0, 1.0], [3.0, 0.5],
    ),
    "helix": (
        lambda x: fnp.stack(
            [
                10 * (x[2] - 10 * fnp.arctan2(x[1], x[0]) / (2 * fnp.pi)),
                10 * (fnp.sqrt(x[0] ** 2 + x[1] ** 2) - 1), x[2],
            ]
        ),
        [-1.0, 0.5, 0.0], [1.0, 0.0, 0.0],
    ),
    "fit with noise": (
        lambda x: x[0] * fnp.exp(-x[1] * TIMES) - np.exp(-TIMES) - 0.1 * np.sin(5 * TIMES),
        [2.0, 0.1], None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_finds_what_scipy_finds(name: str, method: str) -> None:
    residuals, start, known = PROBLEMS[name]
    start = np.array(start)

    def value(x):
        return (residuals(x) ** 2).sum() / 2

    fun = residuals if method in SQUARES else value
    found = ft.jit(lambda x: optim.minimize(fun, x, method=method, tol=1e-8, maxiter=2000))(start)
    assert found.x.dtype == np.float64
    assert bool(found.success), found
    assert int(found.status) == 0
    theirs = scipy.optimize.least_squares(
        lambda x: np.asarray(residuals(fnp.asarray(x))), start, xtol=1e-15, ftol=1e-15, gtol=1e-12
    )
    assert float(found.fun) <= theirs.cost + 1e-12
    np.testing.assert_allclose(found.x, theirs.x, rtol=1e-5, atol=1e-6)
    if known is not None:
        np.testing.assert_allclose(found.x, known, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.grad, 0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_pytrees_in_float32(method: str) -> None:
    target = {"w": np.arange(6.0, dtype="f4").reshape(2, 3), "b": [np.float32(7.0)]}

    def residuals(p):
        return {"w": 2 * (p["w"] - target["w"]), "b": [(p["b"][0] - 7.0) ** 1]}

    def value(p):
        return sum((r**2).sum() / 2 for r in ft.tree.leaves(residuals(p)))

    start = {"w": fnp.zeros((2, 3)), "b": [fnp.zeros(())]}
    found = optim.minimize(residuals if method in SQUARES else value, start, method=method)
    assert ft.tree.structure(found.x) == ft.tree.structure(start)
    assert found.x["w"].dtype == found.grad["w"].dtype == np.float32
    np.testing.assert_allclose(found.x["w"], target["w"], atol=1e-4)
    np.testing.assert_allclose(found.x["b"][0], 7.0, rtol=1e-5)
    assert float(found.fun) < 1e-8


@pytest.mark.parametrize("method", METHODS)
def test_batches_equal_loops(method: str) -> None:
    def solve(c):
        def residuals(x, c):
            return fnp.stack([x[0] - c, x[1] - fnp.sin(x[0]), 0.1 * x[1]])

        def value(x, c):
            return (residuals(x, c) ** 2).sum()

        fun = residuals if method in SQUARES else value
        return optim.minimize(fun, fnp.zeros(2, fnp.float64), (c,), method=method, tol=1e-9).x

    cs = np.array([-2.0, 0.3, 1.7])
    together = ft.jit(ft.vmap(solve))(cs)
    np.testing.assert_allclose(together, [np.asarray(solve(c)) for c in cs], rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_derivatives_of_the_minimum(method: str) -> None:
    """By args and by closure; finite differences agree."""

    def solve(c, scale):
        def value(x, c):
            return fnp.cosh(x - c).sum() + scale * (x**2).sum()

        def residuals(x, c):
            return fnp.concatenate([fnp.expm1(x - c), scale * x])

        fun = residuals if method in SQUARES else value
        return optim.minimize(fun, fnp.zeros(2, fnp.float64), (c,), method=method, tol=1e-11).x

    c, scale, h = np.array([0.5, -1.0]), 0.7, 1e-3
    slope = ft.jit(ft.grad(lambda c: solve(c, scale)[0]))(c)[0]
    numeric = (solve(c + h, scale)[0] - solve(c - h, scale)[0]) / (2 * h)
    np.testing.assert_allclose(slope, numeric, rtol=1e-5)
    forward = ft.jacfwd(lambda s: solve(c, s))(scale)
    numeric = (solve(c, scale + h) - solve(c, scale - h)) / (2 * h)
    np.testing.assert_allclose(forward, numeric, rtol=1e-5)


def test_iterations_can_be_differentiated() -> None:
    def f(c):
        return optim.minimize(
            lambda x: (x - c) ** 2 + x**2, fnp.float64(0.0), method="newton-cg", implicit=False
        ).x

    np.testing.assert_allclose(ft.jvp(f, (2.0,), (1.0,))[1], 0.5, rtol=1e-6)


def test_what_does_not_converge_says_so() -> None:
    slow = optim.minimize(lambda x: (x**4).sum(), fnp.ones(3), method="bfgs", maxiter=1)
    assert not bool(slow.success)
    assert int(slow.status) == 1
    assert int(slow.nit) == 1
    stuck = optim.minimize(lambda x: fnp.log(x).sum(), fnp.ones(1), method="newton-cg", maxiter=30)
    assert not bool(stuck.success)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda f: optim.minimize(f, 1.0, method="simplex"), ValueError, "method is one of bfgs, "),
        (lambda f: optim.minimize(f, 1.0, (1.0, 2), tol=-1.0), ValueError, "takes tol at least 0"),
        (lambda f: optim.minimize(f, 1.0, [3.0]), TypeError, "args must be a tuple, got list"),
        (lambda f: optim.minimize(f, {"a": 1}), TypeError, "x0['a'] is of dtype int32"),
        (lambda f: optim.minimize(f, fnp.ones(1) * 1j), TypeError, "of dtype complex64"),
    ],
)
def test_what_minimize_refuses(call, error, text) -> None:
    with pytest.raises(error, match=re.escape(text)):
        call(lambda x: (x**2).sum())
