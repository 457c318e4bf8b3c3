"""Branches that `where` does not take have derivative 0, whatever is in them; roots at 0, too."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import config, lax
from funtorch.ops.masked import masked_mul
from funtorch.scipy import special

where = fnp.where
# Functions of x that are harmless where x > 0; at the other places only masked branches are ill.
MASKED = {
    "log": lambda x: where(x > 0, fnp.log(x), 0),
    "sqrt": lambda x: where(x > 0, fnp.sqrt(x), 0),
    "quotient": lambda x: where(x > 0, 1 / x, 0),
    "product": lambda x: where(x > 0, x * fnp.log(x), 0),
    "square of a quotient": lambda x: where(x > 0, x * (1 / x) ** 2, 0),
    "power": lambda x: where(x > 0, x**0.3 + x**x, 0),
    "overflow": lambda x: where(x > 0, fnp.exp(-800 * x), 0),
    "sum of some": lambda x: fnp.sum(fnp.log(x), where=x > 0),
    "call in the branch": lambda x: where(x > 0, ft.jit(lambda y: fnp.log(y) * y)(x), 0),
    "where in a call": lambda x: ft.jit(lambda y: where(x > 0, y, 0))(fnp.log(x)),
    "scan in the branch": lambda x: where(
        x > 0, lax.scan(lambda c, _: (c * fnp.log(x), None), x, None, length=2)[0], 0
    ),
    "special function": lambda x: where(x > 0, special.gammaln(x) + special.exp1(x), 0),
}
X = np.array([0.0, -1.0, 2.0, 0.5])
INSIDE = X[2:]


@pytest.mark.parametrize("name", MASKED)
def test_masked_branches_count_as_zero(name):
    f = lambda x: MASKED[name](x).sum()
    want = ft.grad(f)(INSIDE)
    assert np.isfinite(want).all()
    curved = np.diagonal(ft.hessian(f)(INSIDE))
    for grad in (ft.grad(f), ft.jit(ft.grad(f)), ft.jacfwd(f)):
        got = np.asarray(grad(X))
        np.testing.assert_allclose(got[2:], want, rtol=1e-12)
        assert got[:2].tolist() == [0, 0]
    for second in (ft.hessian(f), ft.jacrev(ft.jacrev(f))):
        got = np.diagonal(second(X))
        np.testing.assert_allclose(got[2:], curved, rtol=1e-10)
        assert got[:2].tolist() == [0, 0]
    batched = ft.vmap(ft.grad(f))(np.stack([X, X[::-1]]))
    np.testing.assert_allclose(batched[1][:2], want[::-1], rtol=1e-12)


ROOTS = {
    "sqrt": lambda x: fnp.sqrt(fnp.sum(x * x)),
    "power": lambda x: fnp.sum(x**2) ** 0.5,
    "cbrt": lambda x: fnp.cbrt(fnp.sum(fnp.abs(x) ** 3)),
    "norm": fnp.linalg.norm,
    "hypot": lambda x: fnp.hypot(x[0], x[1]),
    "abs": lambda x: fnp.abs(lax.complex(x[0], x[1])),
}


@pytest.mark.parametrize("name", ROOTS)
def test_lengths_have_derivative_zero_at_zero(name):
    f, zero = ROOTS[name], np.zeros(2)
    for grad in (ft.grad(f), ft.jit(ft.grad(f)), ft.jacfwd(f)):
        assert np.asarray(grad(zero)).tolist() == [0, 0]
    x = np.array([0.3, -0.4])
    h = 1e-6
    want = [(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(ft.grad(f)(x), want, rtol=1e-6)


def test_strict_gradients_are_the_plain_rules():
    masked, root = (lambda x: MASKED["log"](x).sum()), ROOTS["sqrt"]
    with config.override(strict_gradients=True):
        for transform in (lambda f: f, ft.jit):
            assert np.isnan(transform(ft.grad(masked))(X)[0])
            assert np.isnan(transform(ft.grad(root))(np.zeros(2))).all()
        assert ft.grad(fnp.sqrt)(0.0) == np.inf
    assert ft.grad(masked)(X)[0] == 0
    assert ft.grad(fnp.sqrt)(0.0) == 0


def test_products_are_plain_where_nothing_is_masked():
    def names(f):
        return {eqn.prim.name for eqn in ft.make_jaxpr(ft.grad(f))(X).jaxpr.eqns}

    assert "masked_mul" not in names(lambda x: (fnp.sin(x) * x / 2).sum())
    assert "masked_mul" in names(lambda x: where(x > 0, fnp.sin(x), 0).sum())
    weights = np.eye(4)
    layered = lambda x: where(x > 0, weights @ fnp.sin(x), 0).sum()  # products end the mask
    assert "masked_mul" not in names(layered)


def test_zero_wins_only_over_what_is_no_number():
    x = np.array([0.0, 0.0, -0.0, 2.0, np.inf, np.nan, 0.0])
    y = np.array([np.inf, np.nan, -np.inf, 3.0, 0.0, 1.0, 5.0])
    for f in (masked_mul, ft.jit(masked_mul)):
        got = f(fnp.asarray(x), fnp.asarray(y))
        np.testing.assert_array_equal(got, [0, 0, 0, 6, 0, np.nan, 0])
        got = f(fnp.asarray(x + 0j), fnp.asarray(y + 0j))
        np.testing.assert_array_equal(np.asarray(got)[:5].real, [0, 0, 0, 6, 0])
