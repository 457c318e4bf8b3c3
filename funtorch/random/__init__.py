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
    key_impl,
    split,
    wrap_key_data,
)

__all__ = [
    "bernoulli",
    "bits",
    "categorical",
    "cauchy",
    "choice",
    "clone",
    "double_sided_maxwell",
    "exponential",
    "fold_in",
    "geometric",
    "gumbel",
    "key",
    "key_data",
    "key_impl",
    "KeyArray",
    "laplace",
    "logistic",
    "lognormal",
    "maxwell",
    "multivariate_normal",
    "normal",
    "orthogonal",
    "pareto",
    "permutation",
    "PRNGKey",
    "rademacher",
    "randint",
    "rayleigh",
    "split",
    "triangular",
    "truncated_normal",
    "uniform",
    "wald",
    "weibull_min",
    "wrap_key_data",
]
