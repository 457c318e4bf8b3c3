"""Probability distributions and statistics of samples, under SciPy's names.

Every distribution is a module. All functions are differentiable in numbers and parameters.

Example:
    >>> from funtorch.scipy import stats
    >>> round(float(stats.norm.logpdf(0.0)), 5)
    -0.91894

References:
    scipy.stats, https://docs.scipy.org/doc/scipy/reference/stats.html
"""

from __future__ import annotations

from funtorch.scipy.stats import (
    bernoulli,
    beta,
    betabinom,
    binom,
    cauchy,
    chi2,
    dirichlet,
    expon,
    gamma,
    gennorm,
    geom,
    gumbel_l,
    gumbel_r,
    laplace,
    logistic,
    multinomial,
    multivariate_normal,
    nbinom,
    norm,
    pareto,
    poisson,
    t,
    truncnorm,
    uniform,
    vonmises,
    wrapcauchy,
)
from funtorch.scipy.stats.descriptive import mode, rankdata, sem
from funtorch.scipy.stats.kde import gaussian_kde

__all__ = [
    "bernoulli",
    "beta",
    "betabinom",
    "binom",
    "cauchy",
    "chi2",
    "dirichlet",
    "expon",
    "gamma",
    "gaussian_kde",
    "gennorm",
    "geom",
    "gumbel_l",
    "gumbel_r",
    "laplace",
    "logistic",
    "mode",
    "multinomial",
    "multivariate_normal",
    "nbinom",
    "norm",
    "pareto",
    "poisson",
    "rankdata",
    "sem",
    "t",
    "truncnorm",
    "uniform",
    "vonmises",
    "wrapcauchy",
]
