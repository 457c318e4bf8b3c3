"""Distributions drawn by rejection: loops that propose numbers until one is accepted.

They stand on the control flow of `funtorch.transforms`, which makes `funtorch.random` part of the
package's face. Gamma numbers, and all that is made from them, have derivatives in their parameters:
those of the number below which the distribution has a fixed probability.

References:
    G. Marsaglia, W. W. Tsang, "A simple method for generating gamma variables", ACM Transactions
    on Mathematical Software 26 (2000).
    W. Hoermann, "The transformed rejection method for generating Poisson random variables",
    Insurance: Mathematics and Economics 12 (1993).
    D. E. Knuth, "The Art of Computer Programming", volume 2, section 3.4.1.
    F. Barthe, O. Guedon, S. Mendelson, A. Naor, "A probabilistic approach to the geometry of the
    l_p^n-ball", Annals of Probability 33 (2005).
    M. Figurnov, S. Mohamed, A. Mnih, "Implicit reparameterization gradients", NeurIPS 2018.
    JAX, "jax.random", https://docs.jax.dev/en/latest/jax.random.html: the same keys, the same
    numbers.
"""

from __future__ import annotations

import math
from typing import Any

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import Array
from funtorch.numpy import promotion
from funtorch.ops import elementwise as ops
from funtorch.ops.sampling import sampled_exp, sampled_log, sampled_log1p
from funtorch.random.draws import (
    constant,
    draw_normal,
    drawn_shape,
    float_dtype,
    param,
    rademacher,
    unit_floats,
)
from funtorch.random.keys import split_to, split_words, words_of
from funtorch.random.whole import FEW, drawn_whole
from funtorch.scipy.special.gammas import random_gamma_grad
from funtorch.transforms import custom_jvp, vmap, while_loop

__all__ = [
    "ball",
    "beta",
    "chisquare",
    "dirichlet",
    "f",
    "gamma",
    "generalized_normal",
    "loggamma",
    "poisson",
    "t",
]

_SQUEEZE = 0.0331  # Marsaglia and Tsang's bound, which spares most draws the logarithms
_SMALL_RATE = 10  # up to which Poisson numbers are counted rather than rejected
_LARGE_RATE = 1e5  # stands in for rates that are counted: almost every proposal is accepted


def _fused(x: Any, y: Any, z: Any) -> Any:
    """Return ``x * y + z``; float32 rounds once, as XLA fuses product and sum."""
    if x.dtype != dtypes.float32:
        return x * y + z
    x, y, z = (promotion.convert(v, dtypes.float64) for v in (x, y, z))
    return promotion.convert(x * y + z, dtypes.float32)


# --- gamma ---------------------------------------------------------------------------------
def _cube_root_proposal(words: Any, c: Any) -> tuple[Any, Any]:
    """Draw normal numbers x until ``1 + c x`` is above 0; return x and that."""

    def draw(state: Any) -> Any:
        words, child = split_words(state[0])
        x = draw_normal(child, (), c.dtype)
        return words, x, _fused(x, c, fnp.ones_like(x))

    start = words, fnp.zeros_like(c), -fnp.ones_like(c)
    _, x, v = while_loop(lambda state: state[2] <= 0, draw, start)
    return x, v


def _gamma_parts(words: Any, alpha: Any) -> tuple[Any, Any, Any]:
    """Return d and V, whose product has the gamma distribution of max(alpha, alpha + 1), and the
    key left over."""
    whole = fnp.where(alpha >= 1, alpha, alpha + 1)
    d = whole - fnp.asarray(1 / 3, alpha.dtype)
    # XLA multiplies by an approximate reciprocal root; the root rounded once is nearest to it.
    root = promotion.convert(ops.rsqrt(promotion.convert(d, dtypes.float64)), alpha.dtype)
    c = fnp.asarray(1 / 3, alpha.dtype) * root

    def rejected(state: Any) -> Any:
        _, square, v, u = state
        slow = sampled_log(u) >= square * 0.5 + d * ((1 - v) + sampled_log(v))
        return (u >= 1 - _SQUEEZE * (square * square)) & slow

    def propose(state: Any) -> Any:
        words, for_x, for_u = split_words(state[0], 3)
        x, v = _cube_root_proposal(for_x, c)
        return words, x * x, v * v * v, unit_floats(for_u, (), alpha.dtype)

    words, left = split_words(words)
    start = words, fnp.zeros_like(d), fnp.ones_like(d), fnp.full_like(d, 2)
    return d, while_loop(rejected, propose, start)[2], left


def _gamma_one(words: Any, alpha: Any) -> Any:
    d, v, left = _gamma_parts(words, alpha)
    u = 1 - unit_floats(left, (), alpha.dtype)
    return d * v * fnp.where(alpha >= 1, 1, u ** (1 / alpha))


def _loggamma_one(words: Any, alpha: Any) -> Any:
    d, v, left = _gamma_parts(words, alpha)
    log_u = sampled_log1p(-unit_floats(left, (), alpha.dtype))
    boost = fnp.where((alpha >= 1) | (log_u == 0), 0, log_u * (1 / alpha))
    return sampled_log(d) + sampled_log(v) + boost


def _small_slope(alpha: Any, log_x: Any) -> Any:
    """Return the derivative of log x for an x near 0, where P is ``x**a / gamma(a + 1)``."""
    return (ops.digamma(alpha + 1) - log_x) / alpha


def _log_slope(alpha: Any, log_x: Any) -> Any:
    small = log_x < math.log(float(dtypes.finfo(log_x.dtype).tiny))
    x = fnp.exp(fnp.where(small, 0, log_x))
    return fnp.where(small, _small_slope(alpha, log_x), random_gamma_grad(alpha, x) / x)


def _sampler(one: Any, slope: Any) -> Any:
    """Return the sampler of arrays, with the derivative of numbers that keep their probability."""

    @custom_jvp
    def sample(words: Any, alpha: Any) -> Any:
        keys = split_to(words, (alpha.size,))
        return fnp.reshape(vmap(one)(keys, fnp.ravel(alpha)), alpha.shape)

    @sample.defjvp
    def sample_jvp(primals: Any, tangents: Any) -> Any:
        out = sample(*primals)
        return out, tangents[1] * slope(primals[1], out)

    return sample


_gamma, _loggamma = _sampler(_gamma_one, random_gamma_grad), _sampler(_loggamma_one, _log_slope)


@drawn_whole(FEW)
def gamma(key: Any, a: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Draw from the gamma distribution, density ``x**(a - 1) exp(-x) / Gamma(a)``.

    Args:
        key: a single random key.
        a: shape parameter, above 0; broadcasts to the shape.
        shape: shape of the result; that of a if None.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype; small a can underflow to 0, see `loggamma`.

    Example:
        >>> from funtorch import random
        >>> random.gamma(random.PRNGKey(0), 2.0, (3,)).shape
        (3,)
    """
    words, dtype = words_of("gamma", key), float_dtype("gamma", dtype)
    shape = drawn_shape("gamma", shape, a=a)
    return _gamma(words, param("gamma", "a", a, dtype, shape))


@drawn_whole(FEW)
def loggamma(key: Any, a: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Draw logarithms of gamma numbers, exact where the numbers themselves underflow.

    Args:
        key: a single random key.
        a: shape parameter, above 0; broadcasts to the shape.
        shape: shape of the result; that of a if None.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype.

    Example:
        >>> from funtorch import random
        >>> random.loggamma(random.PRNGKey(0), 1e-3, (3,)).shape
        (3,)
    """
    words, dtype = words_of("loggamma", key), float_dtype("loggamma", dtype)
    shape = drawn_shape("loggamma", shape, a=a)
    return _loggamma(words, param("loggamma", "a", a, dtype, shape))


# --- made from gamma -----------------------------------------------------------------------
@drawn_whole(FEW)
def beta(key: Any, a: Any, b: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Draw from the beta distribution, density proportional to ``x**(a - 1) (1 - x)**(b - 1)``.

    Args:
        key: a single random key.
        a: first shape parameter, above 0; broadcasts to the shape.
        b: second shape parameter, above 0; broadcasts to the shape.
        shape: shape of the result; that of the parameters if None.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype, from 0 to 1.

    Example:
        >>> from funtorch import random
        >>> random.beta(random.PRNGKey(0), 2.0, 3.0, (3,)).shape
        (3,)
    """
    words, dtype = words_of("beta", key), float_dtype("beta", dtype)
    shape = drawn_shape("beta", shape, a=a, b=b)
    logs = [
        _loggamma(child, param("beta", name, x, dtype, shape))
        for child, name, x in zip(split_words(words), "ab", (a, b), strict=True)
    ]
    top = ops.max(*logs)
    mine, other = (sampled_exp(x - top) for x in logs)
    return mine / (mine + other)


@drawn_whole(FEW)
def dirichlet(key: Any, alpha: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Draw probability vectors from the Dirichlet distribution.

    Args:
        key: a single random key.
        alpha: concentrations, above 0, float[..., n].
        shape: shape of the result before n; that of alpha before n if None.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of shape ``(*shape, n)`` that sum to 1 along the last axis.

    Raises:
        ValueError: alpha has no axis.

    Example:
        >>> from funtorch import random
        >>> random.dirichlet(random.PRNGKey(0), fnp.ones(3), (2,)).shape
        (2, 3)
    """
    words, dtype = words_of("dirichlet", key), float_dtype("dirichlet", dtype)
    alpha = constant("dirichlet", "alpha", alpha, dtype)
    if not alpha.ndim:
        raise ValueError(
            f"dirichlet: alpha must have an axis of concentrations, got {promotion.describe(alpha)}"
        )
    batch = alpha.shape[:-1]
    shape = batch if shape is None else promotion.canonical_shape(shape, "dirichlet")
    if promotion.broadcast_shapes(shape, batch) != shape:
        raise ValueError(
            f"dirichlet: alpha {promotion.describe(alpha)} does not fit the shape {shape} asked for"
        )
    logs = _loggamma(words, promotion.spread_to(alpha, (*shape, alpha.shape[-1])))
    parts = sampled_exp(logs - fnp.max(logs, axis=-1, keepdims=True))
    return parts / fnp.sum(parts, axis=-1, keepdims=True)


@drawn_whole(FEW)
def t(key: Any, df: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Draw from Student's t distribution.

    Args:
        key: a single random key.
        df: degrees of freedom, above 0; broadcasts to the shape.
        shape: shape of the result; that of df if None.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype.

    Example:
        >>> from funtorch import random
        >>> random.t(random.PRNGKey(0), 3.0, (3,)).shape
        (3,)
    """
    words, dtype = words_of("t", key), float_dtype("t", dtype)
    shape = drawn_shape("t", shape, df=df)
    for_normal, for_gamma = split_words(words)
    half = param("t", "df", df, dtype, shape) / 2
    return draw_normal(for_normal, shape, dtype) * fnp.sqrt(half / _gamma(for_gamma, half))


def _chisquare(words: Any, df: Any) -> Any:
    return sampled_exp(_loggamma(words, df / 2)) * 2


@drawn_whole(FEW)
def chisquare(key: Any, df: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Draw from the chi-square distribution: sums of df squared normal numbers.

    Args:
        key: a single random key.
        df: degrees of freedom, above 0; broadcasts to the shape.
        shape: shape of the result; that of df if None.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype, at least 0.

    Example:
        >>> from funtorch import random
        >>> random.chisquare(random.PRNGKey(0), 3.0, (3,)).shape
        (3,)
    """
    words, dtype = words_of("chisquare", key), float_dtype("chisquare", dtype)
    shape = drawn_shape("chisquare", shape, df=df)
    return _chisquare(words, param("chisquare", "df", df, dtype, shape))


@drawn_whole(FEW)
def f(key: Any, dfnum: Any, dfden: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Draw from the F distribution: ratios of two mean squares of normal numbers.

    Args:
        key: a single random key.
        dfnum: degrees of freedom of the numerator, above 0; broadcasts to the shape.
        dfden: degrees of freedom of the denominator, above 0; broadcasts to the shape.
        shape: shape of the result; that of the parameters if None.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype, at least 0.

    Example:
        >>> from funtorch import random
        >>> random.f(random.PRNGKey(0), 3.0, 4.0, (3,)).shape
        (3,)
    """
    words, dtype = words_of("f", key), float_dtype("f", dtype)
    shape = drawn_shape("f", shape, dfnum=dfnum, dfden=dfden)
    num, den = (
        param("f", name, x, dtype, shape) for name, x in (("dfnum", dfnum), ("dfden", dfden))
    )
    for_den, for_num = split_words(words)
    return _chisquare(for_num, num) / num / (_chisquare(for_den, den) / den)


@drawn_whole(FEW)
def generalized_normal(key: Any, p: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Draw from the generalized normal distribution, density proportional to ``exp(-|x|**p)``.

    Args:
        key: a single random key.
        p: the power, a number above 0.
        shape: shape of the result.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of the shape and dtype.

    Example:
        >>> from funtorch import random
        >>> random.generalized_normal(random.PRNGKey(0), 1.5, (3,)).shape
        (3,)
    """
    words, dtype = words_of("generalized_normal", key), float_dtype("generalized_normal", dtype)
    shape = promotion.canonical_shape(shape, "generalized_normal")
    power = 1 / constant("generalized_normal", "p", p, dtype)
    lengths, signs = split_words(words)
    return (
        rademacher(signs, shape, dtype)
        * _gamma(lengths, promotion.spread_to(power, shape)) ** power
    )


def ball(key: Any, d: Any, p: Any = 2, shape: Any = (), dtype: Any = None) -> Array:
    """Draw points uniformly from the unit ball of the p-norm.

    Args:
        key: a single random key.
        d: number of coordinates, a static int.
        p: the norm's power, above 0.
        shape: leading shape of the result.
        dtype: a float dtype; the default float if None.

    Returns:
        Floats of shape ``(*shape, d)`` whose p-norm along the last axis is at most 1.

    Example:
        >>> from funtorch import random
        >>> random.ball(random.PRNGKey(0), 3, shape=(2,)).shape
        (2, 3)
    """
    words, dtype = words_of("ball", key), float_dtype("ball", dtype)
    shape = promotion.canonical_shape(shape, "ball")
    p = constant("ball", "p", p, dtype)
    for_direction, for_length = split_words(words)
    coordinates = (*shape, promotion.static_int(d, "ball: d"))
    x = generalized_normal(for_direction, p, coordinates, dtype)
    e = -sampled_log1p(-unit_floats(for_length, shape, dtype))
    return x / ((fnp.sum(fnp.abs(x) ** p, axis=-1) + e) ** (1 / p))[..., None]


# --- poisson -------------------------------------------------------------------------------
def _poisson_counted(words: Any, rate: Any, dtype: Any, limit: int) -> Any:
    """Count the uniform numbers whose product stays above exp(-rate)."""

    def going(state: Any) -> Any:
        return fnp.any(state[3] > -rate) & (state[0] < limit)

    def draw(state: Any) -> Any:
        step, count, words, log_product = state
        words, child = split_words(words)
        count = fnp.where(log_product > -rate, count + 1, count)
        log_u = sampled_log(unit_floats(child, rate.shape, dtypes.float32))
        return step + 1, count, words, log_product + log_u

    start = 0, fnp.zeros(rate.shape, dtype), words, fnp.zeros_like(rate)
    return while_loop(going, draw, start)[1] - 1


def _poisson_rejected(words: Any, rate: Any, dtype: Any, limit: int) -> Any:
    """Propose from a table mountain that covers the distribution."""
    log_rate, root = sampled_log(rate), fnp.sqrt(rate)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    quick = 0.9277 - 3.6224 / (b - 2)

    def going(state: Any) -> Any:
        return fnp.any(~state[2]) & (state[0] < limit)

    def propose(state: Any) -> Any:
        step, out, accepted, words = state
        words, for_u, for_v = split_words(words, 3)
        u = unit_floats(for_u, rate.shape, rate.dtype) - 0.5
        v = unit_floats(for_v, rate.shape, rate.dtype)
        edge = 0.5 - fnp.abs(u)
        k = fnp.floor((2 * a / edge + b) * u + rate + 0.43)
        left = sampled_log(v * inverse_alpha / (a / (edge * edge) + b))
        right = -rate + k * log_rate - ops.lgamma(k + 1)
        outside = (k < 0) | ((edge < 0.013) & (v > edge))
        accept = ((edge >= 0.07) & (v <= quick)) | (~outside & (left <= right))
        return step + 1, fnp.where(accept, k, out), accepted | accept, words

    start = 0, fnp.full_like(rate, -1), fnp.zeros(rate.shape, bool), words
    return while_loop(going, propose, start)[1].astype(dtype)


@drawn_whole(FEW)
def poisson(key: Any, lam: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Draw from the Poisson distribution: counts of rare events.

    Args:
        key: a single random key.
        lam: the rate, at least 0; broadcasts to the shape.
        shape: shape of the result; that of lam if None.
        dtype: an integer dtype; the default int if None.

    Returns:
        Integers of the shape and dtype, at least 0; -1 where the rate is nan.

    Raises:
        ValueError: the dtype is not an integer.

    Example:
        >>> from funtorch import random
        >>> random.poisson(random.PRNGKey(0), 4.0, (3,)).shape
        (3,)
    """
    words, dtype = words_of("poisson", key), dtypes.canonical(int if dtype is None else dtype)
    if not dtypes.is_integer(dtype):
        raise ValueError(f"poisson: dtype must be an integer dtype, got {dtype}")
    shape = drawn_shape("poisson", shape, lam=lam)
    rate = ops.stop_gradient(param("poisson", "lam", lam, dtypes.float32, shape))
    counted = fnp.isnan(rate) | (rate < _SMALL_RATE)
    limit = min(dtypes.iinfo(dtype).max, dtypes.iinfo(dtypes.int32).max)
    small = _poisson_counted(words, fnp.where(counted, rate, 0), dtype, limit)
    large = _poisson_rejected(words, fnp.where(counted, _LARGE_RATE, rate), dtype, limit)
    return fnp.where(rate == 0, fnp.zeros_like(small), fnp.where(counted, small, large))
