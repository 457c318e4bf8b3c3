"""Distributions made from the basic draws, most of them by inverting their distribution function.

References:
    JAX, "jax.random", https://docs.jax.dev/en/latest/jax.random.html: the same keys, the same
    numbers.
    L. Devroye, "Non-Uniform Random Variate Generation", Springer 1986.
"""

from __future__ import annotations

import math
from typing import Any

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import Array
from funtorch.numpy import promotion
from funtorch.numpy.places import divisible
from funtorch.ops import linalg
from funtorch.ops.sampling import sampled_exp, sampled_log, sampled_log1p
from funtorch.random.draws import (
    constant,
    draw_normal,
    draw_uniform,
    drawn_shape,
    float_dtype,
    param,
    rademacher,
    unit_floats,
)
from funtorch.random.keys import split_words, words_of
from funtorch.random.whole import LARGE, drawn_whole

__all__ = [
    "cauchy",
    "double_sided_maxwell",
    "exponential",
    "geometric",
    "laplace",
    "logistic",
    "lognormal",
    "maxwell",
    "multivariate_normal",
    "orthogonal",
    "pareto",
    "rayleigh",
    "triangular",
    "wald",
    "weibull_min",
]


def _start(function: str, key: Any, shape: Any, dtype: Any) -> tuple[Any, tuple[int, ...], Any]:
    """Check the arguments of a distribution without parameters."""
    chosen = float_dtype(function, dtype)
    return words_of(function, key), promotion.canonical_shape(shape, function), chosen


def _exponential(words: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    # 1 - u, since log is finite on (0, 1].
    return -sampled_log1p(-unit_floats(words, shape, dtype))


@drawn_whole(LARGE)
@divisible()
def exponential(key: Any, shape: Any = (), dtype: Any = None, *, out_sharding: Any = None) -> Array:
    """Draw from the exponential distribution of mean 1, density ``exp(-x)``.

    Args:
        key: a single random key.
        shape: shape of the result.
        dtype: a float dtype; the default float if None.
        out_sharding: how the result is divided over a mesh; None: it is not.

    Returns:
        Floats of the shape and dtype, at least 0.

    Example:
        >>> from funtorch import random
        >>> random.exponential(random.PRNGKey(0), (3,)).shape
        (3,)
    """
    return _exponential(*_start("exponential", key, shape, dtype))


@drawn_whole(LARGE)
def laplace(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Draw from the Laplace distribution, density ``exp(-|x|) / 2``.

    Args:
        key: a single random key.
        shape: shape of the result.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype.

    Example:
        >>> from funtorch import random
        >>> random.laplace(random.PRNGKey(0), (3,)).shape
        (3,)
    """
    words, shape, dtype = _start("laplace", key, shape, dtype)
    u = draw_uniform(words, shape, dtype, -1 + float(dtypes.finfo(dtype).epsneg), 1.0)
    return fnp.sign(u) * sampled_log1p(-fnp.abs(u))


@drawn_whole(LARGE)
def logistic(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Draw from the logistic distribution, whose distribution function is the sigmoid.

    Args:
        key: a single random key.
        shape: shape of the result.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype.

    Example:
        >>> from funtorch import random
        >>> random.logistic(random.PRNGKey(0), (3,)).shape
        (3,)
    """
    words, shape, dtype = _start("logistic", key, shape, dtype)
    u = draw_uniform(words, shape, dtype, float(dtypes.finfo(dtype).tiny), 1.0)
    return sampled_log(u) - sampled_log1p(-u)


@drawn_whole(LARGE)
def cauchy(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Draw from the Cauchy distribution, density ``1 / (pi (1 + x**2))``.

    Args:
        key: a single random key.
        shape: shape of the result.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype.

    Example:
        >>> from funtorch import random
        >>> random.cauchy(random.PRNGKey(0), (3,)).shape
        (3,)
    """
    words, shape, dtype = _start("cauchy", key, shape, dtype)
    u = draw_uniform(words, shape, dtype, float(dtypes.finfo(dtype).eps), 1.0)
    return fnp.tan(math.pi * (u - 0.5))


@drawn_whole(LARGE)
def maxwell(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Draw from the Maxwell distribution: the length of three independent normal numbers.

    Args:
        key: a single random key.
        shape: shape of the result.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype, at least 0.

    Example:
        >>> from funtorch import random
        >>> random.maxwell(random.PRNGKey(0), (3,)).shape
        (3,)
    """
    words, shape, dtype = _start("maxwell", key, shape, dtype)
    return fnp.sqrt(fnp.sum(fnp.square(draw_normal(words, (*shape, 3), dtype)), axis=-1))


@drawn_whole(LARGE)
def double_sided_maxwell(
    key: Any, loc: Any, scale: Any, shape: Any = (), dtype: Any = None
) -> Array:
    """Draw Maxwell numbers with random signs, scaled and moved.

    Args:
        key: a single random key.
        loc: centre of the distribution.
        scale: its scale; broadcasts against loc.
        shape: leading shape of the result.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of shape ``shape`` and the shape of the parameters after it.

    Example:
        >>> from funtorch import random
        >>> random.double_sided_maxwell(random.PRNGKey(0), 0.0, 1.0, (3,)).shape
        (3,)
    """
    words, shape, dtype = _start("double_sided_maxwell", key, shape, dtype)
    params = promotion.broadcast_shapes(promotion.shape_of(loc), promotion.shape_of(scale))
    # Without a shape JAX repeats that of the parameters; so the numbers agree.
    shape = (shape or params) + params
    lengths, signs = split_words(words)
    return rademacher(signs, shape, dtype) * maxwell(lengths, shape, dtype) * constant(
        "double_sided_maxwell", "scale", scale, dtype
    ) + constant("double_sided_maxwell", "loc", loc, dtype)


@drawn_whole(LARGE)
def pareto(key: Any, b: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Draw from the Pareto distribution, density ``b / x**(b + 1)`` for x >= 1.

    Args:
        key: a single random key.
        b: shape parameter, above 0; broadcasts to the shape.
        shape: shape of the result; that of b if None.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype, at least 1.

    Example:
        >>> from funtorch import random
        >>> random.pareto(random.PRNGKey(0), 2.0, (3,)).shape
        (3,)
    """
    words, dtype = words_of("pareto", key), float_dtype("pareto", dtype)
    shape = drawn_shape("pareto", shape, b=b)
    return sampled_exp(_exponential(words, shape, dtype) / param("pareto", "b", b, dtype, shape))


@drawn_whole(LARGE)
def rayleigh(key: Any, scale: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Draw from the Rayleigh distribution, density ``x / s**2 exp(-x**2 / (2 s**2))``.

    Args:
        key: a single random key.
        scale: s, above 0; broadcasts to the shape.
        shape: shape of the result; that of scale if None.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype.

    Example:
        >>> from funtorch import random
        >>> random.rayleigh(random.PRNGKey(0), 1.0, (3,)).shape
        (3,)
    """
    words, dtype = words_of("rayleigh", key), float_dtype("rayleigh", dtype)
    shape = drawn_shape("rayleigh", shape, scale=scale)
    u = unit_floats(words, shape, dtype)
    return param("rayleigh", "scale", scale, dtype, shape) * fnp.sqrt(-2 * sampled_log(u))


@drawn_whole(LARGE)
def weibull_min(
    key: Any, scale: Any, concentration: Any, shape: Any = (), dtype: Any = None
) -> Array:
    """Draw from the Weibull distribution, whose function is ``1 - exp(-(x / scale)**c)``.

    Args:
        key: a single random key.
        scale: scale, above 0; broadcasts against the shape.
        concentration: c, above 0; broadcasts against the shape.
        shape: shape of the uniform draws.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats, at least 0.

    Example:
        >>> from funtorch import random
        >>> random.weibull_min(random.PRNGKey(0), 1.0, 2.0, (3,)).shape
        (3,)
    """
    words, shape, dtype = _start("weibull_min", key, shape, dtype)
    power = 1.0 / constant("weibull_min", "concentration", concentration, dtype)
    scale = constant("weibull_min", "scale", scale, dtype)
    return _exponential(words, shape, dtype) ** power * scale


@drawn_whole(LARGE)
def lognormal(key: Any, sigma: Any = 1.0, shape: Any = None, dtype: Any = None) -> Array:
    """Draw from the log-normal distribution, ``exp(sigma * z)`` of a standard normal z.

    Args:
        key: a single random key.
        sigma: standard deviation of the logarithm; broadcasts to the shape.
        shape: shape of the result; that of sigma if None.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype, above 0.

    Example:
        >>> from funtorch import random
        >>> random.lognormal(random.PRNGKey(0), 0.5, (3,)).shape
        (3,)
    """
    words, dtype = words_of("lognormal", key), float_dtype("lognormal", dtype)
    shape = drawn_shape("lognormal", shape, sigma=sigma)
    deviation = param("lognormal", "sigma", sigma, dtype, shape)
    return sampled_exp(draw_normal(words, shape, dtype) * deviation)


@drawn_whole(LARGE)
def triangular(
    key: Any, left: Any, mode: Any, right: Any, shape: Any = None, dtype: Any = None
) -> Array:
    """Draw from the triangular distribution on [left, right], highest at mode.

    Args:
        key: a single random key.
        left: lower end; broadcasts to the shape.
        mode: where the density is highest; broadcasts to the shape.
        right: upper end; broadcasts to the shape.
        shape: shape of the result; that of the parameters if None.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype.

    Example:
        >>> from funtorch import random
        >>> random.triangular(random.PRNGKey(0), 0.0, 1.0, 4.0, (3,)).shape
        (3,)
    """
    words, dtype = words_of("triangular", key), float_dtype("triangular", dtype)
    params = {"left": left, "mode": mode, "right": right}
    shape = drawn_shape("triangular", shape, **params)
    low, peak, high = (param("triangular", n, x, dtype, shape) for n, x in params.items())
    u = unit_floats(words, shape, dtype)
    rising = low + fnp.sqrt(u * (high - low) * (peak - low))
    falling = high - fnp.sqrt((1 - u) * (high - low) * (high - peak))
    return fnp.where(u < (peak - low) / (high - low), rising, falling)


@drawn_whole(LARGE)
def wald(key: Any, mean: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Draw from the Wald (inverse Gaussian) distribution of scale 1.

    Args:
        key: a single random key.
        mean: its mean, above 0; broadcasts to the shape.
        shape: shape of the result; that of mean if None.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype, above 0.

    Example:
        >>> from funtorch import random
        >>> random.wald(random.PRNGKey(0), 1.0, (3,)).shape
        (3,)

    References:
        J. R. Michael, W. R. Schucany, R. W. Haas, "Generating random variates using transformations
        with multiple roots", The American Statistician 30 (1976).
    """
    words, dtype = words_of("wald", key), float_dtype("wald", dtype)
    shape = drawn_shape("wald", shape, mean=mean)
    mean = param("wald", "mean", mean, dtype, shape)
    for_normal, for_uniform = split_words(words)
    y = fnp.square(draw_normal(for_normal, shape, dtype))
    root = fnp.sqrt(4 * mean * y + fnp.square(mean) * fnp.square(y))
    smaller = mean + fnp.square(mean) * y / 2 - mean / 2 * root
    first = unit_floats(for_uniform, shape, dtype) <= mean / (mean + smaller)
    return fnp.where(first, smaller, fnp.square(mean) / smaller)


@drawn_whole(LARGE)
def geometric(key: Any, p: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Draw the number of the first success among trials of probability p.

    Args:
        key: a single random key.
        p: probability of success, a float; broadcasts to the shape.
        shape: shape of the result; that of p if None.
        dtype: an integer dtype; the default int if None.

    Returns:
        Integers of the shape and dtype, at least 1.

    Raises:
        ValueError: the dtype is not an integer.

    Example:
        >>> from funtorch import random
        >>> random.geometric(random.PRNGKey(0), 0.5, (3,)).shape
        (3,)
    """
    words, dtype = words_of("geometric", key), dtypes.canonical(int if dtype is None else dtype)
    if not dtypes.is_integer(dtype):
        raise ValueError(f"geometric: dtype must be an integer dtype, got {dtype}")
    shape = drawn_shape("geometric", shape, p=p)
    p = promotion.to_array(p, "geometric", "p")
    p = param("geometric", "p", p, dtypes.to_inexact(p.dtype), shape)
    u = unit_floats(words, shape, p.dtype)
    u = fnp.where(u == 0, 1, u)
    return (fnp.floor(sampled_log(u) / sampled_log1p(-p)) + 1).astype(dtype)


def _scaled_columns(values: Any, vectors: Any) -> Any:
    return vectors * fnp.sqrt(values)[..., None, :]


# How to get a matrix a with cov = a @ a.T.
_FACTORS = {
    "cholesky": linalg.cholesky,
    "eigh": lambda cov: _scaled_columns(*linalg.eigh(cov)),
    "svd": lambda cov: _scaled_columns(*linalg.svd(cov)[1::-1]),
}


def multivariate_normal(
    key: Any, mean: Any, cov: Any, shape: Any = None, dtype: Any = None, method: str = "cholesky"
) -> Array:
    """Draw vectors from a multivariate normal distribution.

    Args:
        key: a single random key.
        mean: float[..., n].
        cov: float[..., n, n], symmetric and positive (semi)definite.
        shape: shape of the result before n; that of the parameters if None.
        dtype: a float dtype; that of the mean if None.
        method: 'cholesky' (fastest; definite matrices only), 'eigh' or 'svd'.

    Returns:
        Floats of shape ``(*shape, n)``.

    Raises:
        ValueError: the shapes do not fit, or there is no such method.

    Example:
        >>> from funtorch import random
        >>> random.multivariate_normal(random.PRNGKey(0), fnp.zeros(2), fnp.eye(2), (3,)).shape
        (3, 2)
    """
    words = words_of("multivariate_normal", key)
    mean, cov = promotion.promote_inexact(
        "multivariate_normal", *promotion.to_arrays("multivariate_normal", mean=mean, cov=cov)
    )
    if method not in _FACTORS:
        raise ValueError(
            f"multivariate_normal: method must be one of {', '.join(_FACTORS)}; got {method!r}"
        )
    if mean.ndim < 1 or cov.ndim < 2 or cov.shape[-2:] != (mean.shape[-1],) * 2:
        raise ValueError(
            "multivariate_normal takes mean[..., n] and cov[..., n, n]; got mean "
            f"{promotion.describe(mean)} and cov {promotion.describe(cov)}"
        )
    dtype = float_dtype("multivariate_normal", mean.dtype if dtype is None else dtype)
    batch = promotion.broadcast_shapes(mean.shape[:-1], cov.shape[:-2])
    shape = batch if shape is None else promotion.canonical_shape(shape, "multivariate_normal")
    if promotion.broadcast_shapes(shape, batch) != shape:
        raise ValueError(
            f"multivariate_normal: parameters of shape {batch} do not fit the shape {shape}"
        )
    z = draw_normal(words, shape + mean.shape[-1:], dtype)
    return mean + fnp.matmul(_FACTORS[method](cov), z[..., None])[..., 0]


def orthogonal(key: Any, n: Any, shape: Any = (), dtype: Any = None, m: Any = None) -> Array:
    """Draw orthogonal matrices, uniformly (by the Haar measure).

    Args:
        key: a single random key.
        n: number of rows.
        shape: leading shape.
        dtype: a float dtype; the default float if None.
        m: number of columns; n if None.

    Returns:
        Floats of shape ``(*shape, n, m)`` with orthonormal columns, or rows if n < m.

    Example:
        >>> from funtorch import random
        >>> q = random.orthogonal(random.PRNGKey(0), 3)
        >>> bool(fnp.allclose(q @ q.T, fnp.eye(3), atol=1e-5))
        True

    References:
        F. Mezzadri, "How to generate random matrices from the classical compact groups",
        Notices of the AMS 54 (2007).
    """
    words, shape, dtype = _start("orthogonal", key, shape, dtype)
    rows = promotion.static_int(n, "orthogonal: n")
    columns = rows if m is None else promotion.static_int(m, "orthogonal: m")
    z = draw_normal(words, (*shape, max(rows, columns), min(rows, columns)), dtype)
    q, r = linalg.qr(z)
    # The signs make the factorisation unique, without which q is not uniform.
    q = q * fnp.sign(fnp.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    return fnp.swapaxes(q, -1, -2) if rows < columns else q
