"""Distributions and statistics of samples: SciPy's values, derivatives, JAX's numbers."""

import warnings

import numpy as np
import pytest
import scipy.stats as ss

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import random
from funtorch.scipy import stats

POINTS = np.array([-3.0, -1.0, -0.5, 0.0, 0.3, 0.5, 1.0, 1.5, 2.0, 4.0, 30.0])
PROBABILITIES = np.array([-0.1, 0.0, 1e-10, 0.1, 0.3, 0.5, 0.6, 0.999, 1.0, 1.2])
COUNTS = np.array([-2.0, -1, 0, 1, 2, 3, 5, 6, 7, 8, 2.5])
CONTINUOUS = {
    "norm": (),
    "cauchy": (),
    "expon": (),
    "laplace": (),
    "logistic": (),
    "gumbel_l": (),
    "gumbel_r": (),
    "pareto": (2.5,),
    "uniform": (),
    "gamma": (2.5,),
    "chi2": (3.0,),
    "beta": (2.0, 3.0),
    "t": (4.0,),
    "gennorm": (1.5,),
    "truncnorm": (-1.0, 2.0),
    "vonmises": (1.3,),
    "wrapcauchy": (0.4,),
}
DISCRETE = {
    "bernoulli": (0.3,),
    "binom": (6.0, 0.3),
    "betabinom": (6.0, 2.0, 3.0),
    "geom": (0.3,),
    "nbinom": (3.0, 0.4),
    "poisson": (2.5,),
}
METHODS = ("pdf", "logpdf", "cdf", "logcdf", "sf", "logsf", "ppf", "isf", "pmf", "logpmf")


def methods(name):
    module = getattr(stats, name)
    return [m for m in METHODS if m in module.__all__ and (name, m) != ("bernoulli", "ppf")]


@pytest.mark.parametrize("name", [*CONTINUOUS, *DISCRETE])
def test_methods(name):
    discrete = name in DISCRETE
    shapes = DISCRETE[name] if discrete else CONTINUOUS[name]
    for method in methods(name):
        at = PROBABILITIES if method in ("ppf", "isf") else COUNTS if discrete else POINTS
        for place in ((), (1.0,) if discrete else (0.5, 2.0)):
            f = getattr(getattr(stats, name), method)
            got = f(fnp.asarray(at), *map(np.float64, (*shapes, *place)))
            assert got.dtype == np.float64
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                want = getattr(getattr(ss, name), method)(at, *shapes, *place)
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-300, err_msg=method)
            assert f(1.0, *shapes).dtype == np.float32


# What scipy.stats has not: a few invalid parameters give nan.
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("norm", (0.5, 0, -1)),
        ("gamma", (0.5, -1)),
        ("beta", (0.5, 1, 0)),
        ("truncnorm", (0.5, 2, 1)),
    ],
)
def test_invalid_parameters_give_nan(name, args):
    for method in methods(name):
        assert np.isnan(getattr(getattr(stats, name), method)(*args)), method
    assert np.isnan(stats.poisson.pmf(1, -1.0))
    assert np.isnan(stats.norm.cdf(np.nan))


@pytest.mark.parametrize("name", ["norm", "gamma", "beta", "t", "truncnorm", "gennorm"])
def test_derivatives_of_distributions(name):
    module, shapes = getattr(stats, name), CONTINUOUS[name]
    x = 0.7
    args = [np.float64(v) for v in (x, *shapes, 0.1, 1.3)]
    slope = ft.grad(module.cdf)(*args)
    np.testing.assert_allclose(slope, module.pdf(*args), rtol=1e-10)
    for k in range(1, len(args)):
        h = 1e-5
        above, below = ([*args], [*args])
        above[k], below[k] = args[k] + h, args[k] - h
        for f in (module.logpdf, module.cdf):
            want = (float(f(*above)) - float(f(*below))) / (2 * h)
            np.testing.assert_allclose(ft.grad(f, k)(*args), want, rtol=1e-6, atol=1e-9)


def test_distributions_compile_and_batch():
    f = lambda x, a: stats.gamma.logpdf(x, a) + stats.norm.cdf(x) + stats.poisson.logpmf(2, a)
    x, a = np.array([0.5, 1.5, 3.0]), np.array([1.0, 2.0, 3.0])
    want = f(x, a)
    np.testing.assert_allclose(ft.jit(f)(x, a), want, rtol=1e-13)
    np.testing.assert_allclose(ft.vmap(f)(x, a), want, rtol=1e-14)
    keywords = stats.norm.pdf(x=x, scale=2.0)
    np.testing.assert_allclose(keywords, ss.norm.pdf(x, scale=2.0))


def test_quantiles_of_bernoulli():
    q = np.array([-0.1, 0.0, 0.7, 0.71, 1.0])
    np.testing.assert_array_equal(stats.bernoulli.ppf(q, 0.3), [np.nan, 0, 0, 1, 1])
    assert np.isnan(stats.bernoulli.ppf(0.5, 1.5))


def test_entropy_of_poisson():
    mu = np.array([0.0, 0.1, 5.0, 99.0, 120.0])
    np.testing.assert_allclose(stats.poisson.entropy(mu), ss.poisson.entropy(mu), atol=1e-10)


def test_multivariate_distributions():
    rng = np.random.default_rng(0)
    x, mean, root = rng.normal(size=(5, 3)), rng.normal(size=3), rng.normal(size=(3, 3))
    cov = root @ root.T + np.eye(3)
    want = ss.multivariate_normal.logpdf(x, mean, cov)
    np.testing.assert_allclose(stats.multivariate_normal.logpdf(x, mean, cov), want, rtol=1e-12)
    covs = np.stack([cov, 2 * cov])[:, None]
    got = stats.multivariate_normal.logpdf(x, mean, covs)
    np.testing.assert_allclose(got[1], ss.multivariate_normal.logpdf(x, mean, 2 * cov), rtol=1e-12)
    number = stats.multivariate_normal.logpdf(x, mean, 2.0)
    np.testing.assert_allclose(
        number, ss.multivariate_normal.logpdf(x, mean, 2 * np.eye(3)), rtol=1e-12
    )
    alpha, p = np.array([2.0, 3.0, 0.5]), np.array([0.2, 0.3, 0.5])
    for y in (p, p[:2]):
        np.testing.assert_allclose(stats.dirichlet.pdf(y, alpha), ss.dirichlet.pdf(y, alpha))
    assert float(stats.dirichlet.logpdf(p * 2, alpha)) == -np.inf
    counts = np.array([[1, 2, 0], [1, 1, 1], [2, 2, 2]])
    want = ss.multinomial.logpmf(counts, 3, p)
    np.testing.assert_allclose(stats.multinomial.logpmf(counts, 3, p), want, rtol=1e-12)


def test_ranks_modes_and_errors_of_means():
    a = np.random.default_rng(0).integers(0, 4, (5, 7)).astype(float)
    for axis in (None, 0, 1):
        for method in ("average", "min", "max", "dense", "ordinal"):
            want = ss.rankdata(a, method, axis=axis)
            np.testing.assert_array_equal(
                stats.rankdata(a, method, axis=axis), want.reshape(-1) if axis is None else want
            )
        for keepdims in (False, True):
            got, want = (m.mode(a, axis, keepdims=keepdims) for m in (stats, ss))
            np.testing.assert_array_equal(got.mode, want.mode)
            np.testing.assert_array_equal(got.count, want.count)
        np.testing.assert_allclose(stats.sem(a, axis), ss.sem(a, axis))
    a[0, 0] = np.nan
    assert np.isnan(stats.rankdata(a, axis=1)[0]).all()
    np.testing.assert_allclose(stats.sem(a, nan_policy="omit"), ss.sem(a, nan_policy="omit"))
    ranks = ft.jit(lambda x: stats.rankdata(x))(a[1])
    np.testing.assert_array_equal(ranks, ss.rankdata(a[1]))


def test_density_estimates():
    rng = np.random.default_rng(0)
    data, weights, at = rng.normal(size=(2, 30)), rng.uniform(size=30), rng.normal(size=(2, 5))
    for method in (None, "silverman", 0.3, lambda kde: kde.neff**-0.2):
        kde = stats.gaussian_kde(data, method, weights)
        want = ss.gaussian_kde(data, method, weights)
        np.testing.assert_allclose(kde(at), want(at), rtol=1e-10)
        np.testing.assert_allclose(kde.logpdf(at), want.logpdf(at), rtol=1e-10)
        np.testing.assert_allclose(kde.integrate_kde(kde), want.integrate_kde(want), rtol=1e-10)
        normal = np.zeros(2), np.eye(2)
        np.testing.assert_allclose(
            kde.integrate_gaussian(*normal), want.integrate_gaussian(*normal)
        )
    line = stats.gaussian_kde(data[0])
    want = ss.gaussian_kde(data[0]).integrate_box_1d(-1, 0.5)
    np.testing.assert_allclose(line.integrate_box_1d(-1.0, 0.5), want)
    np.testing.assert_allclose(ft.jit(lambda k, x: k(x))(kde, at), kde(at), rtol=1e-12)
    assert kde.resample(random.key(0), (4,)).shape == (2, 4)
    assert (kde.d, kde.n) == (2, 30)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: stats.norm.pdf(1j), TypeError, "norm.pdf: argument x must be real"),
        (lambda: stats.gamma.pdf(1.0), TypeError, "missing a required argument: 'a'"),
        (
            lambda: stats.rankdata(np.ones(1), "best"),
            ValueError,
            "method must be one of .* got 'best'",
        ),
        (lambda: stats.mode(np.ones(1), nan_policy="x"), ValueError, "mode: nan_policy .* got 'x'"),
        (
            lambda: stats.mode(np.ones(1), nan_policy="omit"),
            NotImplementedError,
            "remove nan first",
        ),
        (lambda: stats.gaussian_kde(np.ones(1)), ValueError, "at least two points"),
        (lambda: stats.gaussian_kde(np.eye(2), "x"), ValueError, "bw_method must be .* got 'x'"),
        (
            lambda: stats.gaussian_kde(np.eye(2), None, np.ones(1)),
            ValueError,
            r"weights .* shape \(2,\)",
        ),
        (lambda: stats.gaussian_kde(np.eye(2))(np.ones((3, 2))), ValueError, "must have 2 coord"),
        (lambda: stats.dirichlet.pdf(np.ones(5), np.ones(3)), ValueError, "must have 3 or 2 numb"),
        (lambda: stats.multinomial.pmf(np.ones(2), 2, np.ones(2)), TypeError, "must hold integers"),
        (lambda: stats.multivariate_normal.pdf(1.0, np.ones(2), np.eye(3)), ValueError, "cov must"),
    ],
)
def test_wrong_arguments(call, error, text):
    with pytest.raises(error, match=text):
        call()
