"""Random numbers from explicit keys: equal to those of `jax.random` for equal keys.

    key = random.key(0)
    key, sub = random.split(key)
    x = random.normal(sub, (3,))

There is no hidden state: a function that draws takes a key, and a key gives the same numbers each
time, eagerly, under `jit` and under `vmap`.

Example:
    >>> from funtorch import random
    >>> keys = random.split(random.key(0))
    >>> random.randint(keys[0], (3,), 0, 6).shape
    (3,)
"""

from __future__ import annotations

from funtorch.random.counts import binomial, multinomial
from funtorch.random.distributions import (
    cauchy,
    double_sided_maxwell,
    exponential,
    geometric,
    laplace,
    logistic,
    lognormal,
    maxwell,
    multivariate_normal,
    orthogonal,
    pareto,
    rayleigh,
    triangular,
    wald,
    weibull_min,
)
from funtorch.random.draws import (
    bernoulli,
    bits,
    categorical,
    choice,
    gumbel,
    normal,
    permutation,
    rademacher,
    randint,
    truncated_normal,
    uniform,
)
from funtorch.random.keys import (
    KeyArray,
    PRNGKey,
    clone,
    fold_in,
    key,
    key_data,
    key_dtype,
    key_impl,
    split,
    wrap_key_data,
)
from funtorch.random.rejection import (
    ball,
    beta,
    chisquare,
    dirichlet,
    f,
    gamma,
    generalized_normal,
    loggamma,
    poisson,
    t,
)

__all__ = [
    "ball",
    "bernoulli",
    "beta",
    "binomial",
    "bits",
    "categorical",
    "cauchy",
    "chisquare",
    "choice",
    "clone",
    "dirichlet",
    "double_sided_maxwell",
    "exponential",
    "f",
    "fold_in",
    "gamma",
    "generalized_normal",
    "geometric",
    "gumbel",
    "key",
    "key_data",
    "key_dtype",
    "key_impl",
    "KeyArray",
    "laplace",
    "loggamma",
    "logistic",
    "lognormal",
    "maxwell",
    "multinomial",
    "multivariate_normal",
    "normal",
    "orthogonal",
    "pareto",
    "permutation",
    "poisson",
    "PRNGKey",
    "rademacher",
    "randint",
    "rayleigh",
    "split",
    "t",
    "triangular",
    "truncated_normal",
    "uniform",
    "wald",
    "weibull_min",
    "wrap_key_data",
]
