"""Derivatives where a careless rule goes wrong: ties of branches, zeros of factors."""

import math

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nn
from funtorch.scipy import special

# function, argument, first and second derivative
CURVES = {
    "logaddexp": (lambda x: fnp.logaddexp(x, 0.0), 0.0, 0.5, 0.25),
    "logaddexp of itself": (lambda x: fnp.logaddexp(x, 2 * x), 0.0, 1.5, 0.25),
    "softplus": (nn.softplus, 0.0, 0.5, 0.25),
    "log_sigmoid": (nn.log_sigmoid, 0.0, 0.5, -0.25),
    "log_ndtr in the middle": (special.log_ndtr, 0.0, math.sqrt(2 / math.pi), -2 / math.pi),
    "log_ndtr at the seam": (special.log_ndtr, -10.0, 10.0981, -0.990646),
    "exponents": (lambda y: 2.0**y, 0.0, math.log(2), math.log(2) ** 2),
    "x to the y at y = 0": (lambda y: (2.0 + y) ** y, 0.0, math.log(2), 1 + math.log(2) ** 2),
    "xlogy in x": (lambda x: special.xlogy(x, 0.5), 0.0, math.log(0.5), 0.0),
    "xlog1py in x": (lambda x: special.xlog1py(x, 2.0), 0.0, math.log(3), 0.0),
    "xlogy in both": (lambda x: special.xlogy(x, 2.0 + x), 0.0, math.log(2), 1.0),
    "elu": (nn.elu, 0.0, 1.0, 0.0),
    "celu": (nn.celu, 0.0, 1.0, 0.0),
}


@pytest.mark.parametrize("name", CURVES)
def test_first_and_second_derivatives_at_seams(name):
    f, x, first, second = CURVES[name]
    for wrap in (lambda g: g, ft.jit):
        np.testing.assert_allclose(wrap(ft.grad(f))(x), first, rtol=2e-5, atol=1e-6)
        if name not in ("elu", "celu"):  # which bend there
            for twice in (ft.grad(ft.grad(f)), ft.jacfwd(ft.grad(f)), ft.grad(ft.jacfwd(f))):
                np.testing.assert_allclose(wrap(twice)(x), second, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("x", [0.5, 2.0])
@pytest.mark.parametrize("y", [0.0, 1.0, 2.0, -1.0])
def test_mixed_derivatives_of_powers_are_symmetric(x, y):
    (xx, xy), (yx, yy) = ft.hessian(fnp.power, (0, 1))(x, y)
    np.testing.assert_allclose(xy, yx, rtol=1e-5)
    np.testing.assert_allclose(xy, x ** (y - 1) * (1 + y * math.log(x)), rtol=1e-5)
    np.testing.assert_allclose(xx, y * (y - 1) * x ** (y - 2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(yy, x**y * math.log(x) ** 2, rtol=1e-5)


def test_no_nan_from_products_that_are_zero():
    assert float(ft.grad(lambda x: x**0.0)(0.0)) == 0
    assert [float(g) for g in ft.grad(special.xlogy, (0, 1))(0.0, 0.0)] == [0, 0]
    assert float(special.xlogy(0.0, math.inf)) == 0
    assert math.isnan(special.xlogy(0.0, math.nan))
    assert float(ft.grad(lambda x: fnp.logaddexp(x, -math.inf))(-math.inf)) == 0.5
