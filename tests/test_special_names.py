"""Names of scipy.special that JAX does not have, against SciPy; SciPy's ufuncs on our arrays."""

import math

import numpy as np
import pytest
import scipy.special as sp

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.scipy import special
from funtorch.scipy.special import orders, polynomials, probability, variants

RNG = np.random.default_rng(0)
PLUS = np.append(RNG.uniform(1e-3, 20, 40), [0.0, 1e-10, np.nan])
REAL = np.append(RNG.uniform(-20, 20, 40), [0.0, 1e-10, np.nan])
UNIT = np.append(RNG.uniform(0, 1, 40), [0.0, 1.0, 0.5, 1e-12, np.nan])
WHOLE = np.arange(44) * 7 % 13 * 1.0

ARGUMENTS = {
    "j0": [3 * REAL], "j1": [3 * REAL], "y0": [3 * PLUS], "y1": [3 * PLUS], "k0": [2 * PLUS],
    "k1": [2 * PLUS], "k0e": [2 * PLUS], "k1e": [2 * PLUS], "jn": [WHOLE, 2 * REAL],
    "yn": [WHOLE, 2 * PLUS], "kn": [WHOLE, 2 * PLUS], "jve": [REAL / 4, 2 * PLUS],
    "yve": [REAL[:40] / 4, 2 * PLUS[:40]],
    "agm": [REAL, REAL[::-1]], "betaincc": [PLUS[:40], PLUS[:40][::-1], UNIT],
    "binom": [REAL[:40], REAL[20:] / 2], "cbrt": [REAL], "cosdg": [36 * REAL], "cosm1": [REAL],
    "cotdg": [36 * REAL[:40]], "ellipkm1": [UNIT], "erfcinv": [2 * UNIT], "erfi": [REAL / 4],
    "exp10": [REAL], "exp2": [REAL], "expm1": [REAL], "exprel": [REAL],
    "huber": [REAL, REAL[::-1]], "inv_boxcox": [PLUS / 4, REAL / 8],
    "inv_boxcox1p": [PLUS / 4, REAL / 8], "log1p": [PLUS], "log_expit": [3 * REAL],
    "powm1": [PLUS, REAL / 8], "pseudo_huber": [REAL, REAL[::-1]], "psi": [REAL],
    "radian": [REAL, PLUS, PLUS[::-1]], "rgamma": [10 * REAL],
    "sindg": [36 * REAL], "tandg": [36 * REAL], "voigt_profile": [REAL[:40], PLUS[:40], PLUS[3:]],
    "zetac": [2 * REAL], "bdtr": [WHOLE, WHOLE[::-1] + 3, UNIT],
    "bdtrc": [WHOLE, WHOLE[::-1] + 3, UNIT], "bdtri": [WHOLE, WHOLE[::-1] + 13, UNIT],
    "chdtr": [PLUS, REAL], "chdtrc": [PLUS, REAL], "chdtri": [PLUS[:40], UNIT],
    "fdtr": [PLUS, PLUS[::-1], REAL], "fdtrc": [PLUS[:40], PLUS[:40][::-1], REAL],
    "fdtri": [PLUS[:40], 1 + PLUS[:40][::-1], UNIT], "gdtr": [PLUS, PLUS[::-1], REAL],
    "gdtrc": [PLUS, PLUS[::-1], REAL], "gdtrix": [PLUS[:40], PLUS[3:], UNIT],
    "kolmogorov": [REAL / 5], "nbdtr": [WHOLE, WHOLE[::-1] + 1, UNIT],
    "nbdtrc": [WHOLE, WHOLE[::-1] + 1, UNIT], "nbdtri": [WHOLE, WHOLE[::-1] + 1, UNIT],
    "pdtr": [WHOLE, PLUS], "pdtrc": [WHOLE, PLUS], "pdtri": [WHOLE, UNIT],
    "stdtr": [PLUS, REAL], "stdtrit": [PLUS[:40], UNIT], "ndtri": [UNIT], "log_ndtr": [3 * REAL],
    "spherical_jn": [WHOLE, PLUS], "spherical_yn": [WHOLE[:40], PLUS[:40]],
    "spherical_in": [WHOLE, PLUS], "spherical_kn": [WHOLE[:40], PLUS[:40]],
}  # fmt: skip
POLYNOMIALS = {
    **dict.fromkeys(
        ["chebyc", "chebys", "chebyt", "chebyu", "hermite", "hermitenorm", "laguerre", "legendre",
         "sh_chebyt", "sh_chebyu", "sh_legendre"], 0,
    ),
    "genlaguerre": 1, "gegenbauer": 1, "jacobi": 2,
}  # fmt: skip


def of_one_size(columns):
    n = min(map(len, columns))
    return [c[:n] for c in columns]


def agree(got, want, rtol=1e-11, atol=1e-14):
    np.testing.assert_allclose(np.asarray(got), want, rtol=rtol, atol=atol)


def test_every_name_is_compared():
    names = {*orders.__all__, *probability.__all__, *variants.__all__}
    assert names - set(ARGUMENTS) == {"airy", "ellipj", "sinc", "softplus"}
    assert {f"eval_{name}" for name in POLYNOMIALS} == set(polynomials.__all__)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_values_are_those_of_scipy(name):
    columns = of_one_size(ARGUMENTS[name])
    theirs = columns
    if name.startswith(("spherical", "bdtr")):  # SciPy wants orders as integers
        theirs = [c.astype(int) if (c == np.floor(c)).all() else c for c in columns]
    with np.errstate(all="ignore"):
        agree(getattr(special, name)(*columns), getattr(sp, name)(*theirs))


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials_are_those_of_scipy(name):
    n, x = np.arange(45), np.linspace(-1, 1, 45)
    parameters = [np.linspace(0.2, 3, 45)] * POLYNOMIALS[name]
    ours, theirs = getattr(special, f"eval_{name}"), getattr(sp, f"eval_{name}")
    agree(ours(n, *parameters, x), theirs(n, *parameters, x), 1e-9, 1e-10)
    agree(ours(3, *parameters, x), theirs(3, *parameters, x))
    slope = ft.vmap(ft.grad(lambda x, *p: ours(4, *p, x)))(x, *parameters)
    h = 1e-6
    agree(
        slope, (theirs(4, *parameters, x + h) - theirs(4, *parameters, x - h)) / (2 * h), 1e-6, 1e-6
    )


def test_functions_with_several_results():
    x = np.array([-20.0, -3.3, -1.0, -0.5, 0.0, 0.7, 0.999, 1.0, 5.0])
    for got, want in zip(special.airy(x), sp.airy(x), strict=True):
        agree(got, want, 1e-11, 1e-13)
    u, m = np.array([-9.0, -1.0, 0.0, 0.3, 2.0, 8.0]), np.array([0.0, 1e-9, 0.3, 0.8, 0.999, 1.0])
    for got, want in zip(special.ellipj(u, m), sp.ellipj(u, m), strict=True):
        agree(got, want, 1e-10, 1e-12)


GRADIENTS = {
    "j0": (0, [2.0, 30.0]), "j1": (0, [2.0, 30.0]), "k1": (0, [2.0]), "rgamma": (0, [2.5, -3.3]),
    "stdtr": (1, [3.0, 0.4]), "stdtrit": (1, [3.0, 0.3]), "betaincc": (2, [2.0, 3.0, 0.3]),
    "kolmogorov": (0, [0.8, 1.2]), "ndtri": (0, [1e-9, 0.3]), "log_ndtr": (0, [-30.0, 2.0]),
    "erfcinv": (0, [1e-9, 1.3]), "exprel": (0, [0.1, 2.0]), "fdtri": (2, [3.0, 4.0, 0.9]),
    "spherical_jn": (1, [1.0, 0.7]), "spherical_kn": (1, [1.0, 0.7]), "pdtrc": (1, [2.0, 1.5]),
}  # fmt: skip


@pytest.mark.parametrize("name", GRADIENTS)
def test_derivatives_are_those_of_finite_differences(name):
    k, values = GRADIENTS[name]
    points = [values] if k else [[v] for v in values]
    for at in points:
        f = lambda x, at=at: getattr(special, name)(*at[:k], x, *at[k + 1 :])
        x = np.float64(at[k])
        h = 1e-4 * min(abs(x), 1)
        steps = np.asarray(f(x + h * np.array([-2.0, -1.0, 1.0, 2.0])))
        agree(ft.grad(f)(x), steps @ [1, -8, 8, -1] / (12 * h), 1e-7)


def test_airy_and_jacobi_have_derivatives():
    _, slopes = ft.jvp(special.airy, (fnp.asarray(np.array([-2.0, 0.5, 3.0])),), (np.ones(3),))
    values = special.airy(np.array([-2.0, 0.5, 3.0]))
    agree(slopes[0], np.asarray(values[1]))
    agree(slopes[3], np.asarray(values[2]) * [-2.0, 0.5, 3.0])
    _, cn, dn, _ = special.ellipj(np.float64(0.7), np.float64(0.4))
    assert math.isclose(ft.grad(lambda u: special.ellipj(u, 0.4)[0])(np.float64(0.7)), cn * dn)
    assert ft.grad(lambda z: special.spherical_jn(1, z))(0.0) == np.float32(1 / 3)


def test_tails_and_edges():
    for p in (1e-300, 1e-20, 1e-9, 0.49999999, 1 - 1e-15):
        agree(special.ndtri(p := np.float64(p)), sp.ndtri(p), 1e-14)
    agree(special.log_ndtr(np.array([-1e5, -20.0, 10.0])), sp.log_ndtr([-1e5, -20.0, 10.0]), 1e-14)
    assert special.j0(fnp.inf) == 0
    assert special.erfi(fnp.inf) == fnp.inf
    assert special.bdtr(3, 2, 0.5) != special.bdtr(3, 2, 0.5)  # nan


def test_compiled_mapped_and_narrow():
    def f(x):
        return special.j0(x) + special.stdtr(3.0, x) + special.exprel(x)

    x = fnp.linspace(-3, 3, 7)
    eager = f(x)
    assert eager.dtype == fnp.float32
    assert fnp.allclose(ft.jit(f)(x), eager, rtol=1e-6)
    assert fnp.allclose(ft.jit(ft.vmap(ft.grad(f)))(x), ft.vmap(ft.grad(f))(x), rtol=1e-5)


def test_degrees_must_be_known_and_whole():
    with pytest.raises(ft.errors.ConcretizationTypeError, match="degree n given to eval_legendre"):
        ft.jit(special.eval_legendre)(2, 0.5)
    with pytest.raises(ValueError, match="n must be whole numbers from 0 on, got -1"):
        special.eval_hermite(-1, 0.5)
    with pytest.raises(TypeError, match="argument x must be real"):
        special.j0(1j)


def test_ufuncs_of_scipy_take_arrays_and_tracers():
    x = fnp.asarray(np.linspace(0.1, 2, 4))
    assert isinstance(sp.erf(x), ft.Array)
    agree(ft.grad(lambda x: sp.gammaln(x).sum())(x), sp.psi(np.asarray(x)))
    agree(ft.jit(lambda x: sp.jv(1, x))(x), sp.jv(1, np.asarray(x)))
    agree(ft.vmap(sp.psi)(x), sp.psi(np.asarray(x)))
    assert len(sp.airy(x)) == 4
    assert isinstance(sp.struve(1, x), np.ndarray)  # no counterpart: SciPy's own, of the values
    with pytest.raises(TypeError, match=r"numpy\.struve of float64\[4\] has no counterpart"):
        ft.jit(lambda x: sp.struve(1, x))(x)
