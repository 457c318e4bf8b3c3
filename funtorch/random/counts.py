"""Counts: the binomial and the multinomial distribution.

References:
    W. Hoermann, "The generation of binomial random variates", Journal of Statistical Computation
    and Simulation 46 (1993): algorithm BTRS.
    L. Devroye, "Non-uniform random variate generation", Springer 1986, X.4: waiting times.
    JAX, "jax.random", https://docs.jax.dev/en/latest/jax.random.html: the same keys, the same
    numbers.
"""

from __future__ import annotations

import math
from typing import Any

import funtorch.numpy as fnp
from funtorch.core import Array
from funtorch.numpy import promotion
from funtorch.ops import elementwise as ops
from funtorch.ops.reduce import cumsum
from funtorch.ops.sampling import sampled_log, sampled_log1p
from funtorch.random.draws import drawn_shape, float_dtype, unit_floats
from funtorch.random.keys import split_to, split_words, words_of
from funtorch.random.whole import FEW, drawn_whole
from funtorch.transforms import scan, while_loop

__all__ = ["binomial", "multinomial"]

_SMALL_MEAN = 10  # up to which waiting times are added up
_STAND_IN = 1e4, 0.5  # a count and a probability for places that are done otherwise
# log(k!) less Stirling's formula for it, for k = 0 to 9, and the series in 1 / (k + 1)**2 beyond.
_TAIL = (
    0.0810614667953272,
    0.0413406959554092,
    0.0276779256849983,
    0.02079067210376509,
    0.0166446911898211,
    0.0138761288230707,
    0.0118967099458917,
    0.0104112652619720,
    0.00925546218271273,
    0.00833056343336287,
)


def _stirling_tail(k: Any) -> Any:
    few = fnp.clip(k, 0, 9)
    square = (few + 1) * (few + 1)
    series = (1 / 12 - (1 / 360 - 1 / 1260 / square) / square) / (few + 1)
    listed = fnp.array(_TAIL, dtype=k.dtype)[fnp.floor(few).astype("int32")]
    return fnp.where(k <= 9, listed, series)


def _waited(words: Any, count: Any, prob: Any) -> Any:
    """Count the geometric waiting times whose sum is at most the count."""
    rate = sampled_log1p(-prob)

    def going(state: Any) -> Any:
        return fnp.any(state[1] <= count)

    def wait(state: Any) -> Any:
        number, total, words = state
        child, words = split_words(words)
        number = fnp.where(total <= count, number + 1, number)
        u = unit_floats(child, prob.shape, prob.dtype)
        return number, total + fnp.ceil(sampled_log(u) / rate), words

    start = fnp.zeros_like(prob), fnp.zeros_like(prob), words
    return while_loop(going, wait, start)[0] - 1


def _rejected(words: Any, count: Any, prob: Any) -> Any:
    """Propose from a table mountain that covers the distribution."""
    deviation = fnp.sqrt(count * prob * (1 - prob))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * prob
    centre = count * prob + 0.5
    quick = 0.92 - 4.2 / b
    odds = prob / (1 - prob)
    alpha = (2.83 + 5.1 / b) * deviation
    mode = fnp.floor((count + 1) * prob)

    def going(state: Any) -> Any:
        return fnp.any(~state[1])

    def propose(state: Any) -> Any:
        out, accepted, words = state
        words, for_u, for_v = split_words(words, 3)
        u = unit_floats(for_u, prob.shape, prob.dtype) - 0.5
        v = unit_floats(for_v, prob.shape, prob.dtype)
        edge = 0.5 - fnp.abs(u)
        k = fnp.floor((2 * a / edge + b) * u + centre)
        outside = (k < 0) | (k > count)
        left = sampled_log(v * alpha / (a / (edge * edge) + b))
        right = (
            (mode + 0.5) * sampled_log((mode + 1) / (odds * (count - mode + 1)))
            + (count + 1) * sampled_log((count - mode + 1) / (count - k + 1))
            + (k + 0.5) * sampled_log(odds * (count - k + 1) / (k + 1))
            + _stirling_tail(mode)
            + _stirling_tail(count - mode)
            - _stirling_tail(k)
            - _stirling_tail(count - k)
        )
        accept = ((edge >= 0.07) & (v <= quick)) | (~outside & (left <= right))
        return fnp.where(accept, k, out), accepted | accept, words

    start = fnp.full_like(prob, -1), fnp.zeros(prob.shape, bool), words
    return while_loop(going, propose, start)[0]


def _binomial(words: Any, count: Any, prob: Any) -> Any:
    """Draw binomial numbers for arrays of one shape and float dtype."""
    few = prob < 0.5
    q = fnp.where(few, prob, 1 - prob)
    bad_count, endless = fnp.isnan(count) | (count < 0), fnp.isinf(count)
    bad = fnp.isnan(q) | (q < 0)
    q = fnp.where(bad, 0.01, q).astype(prob.dtype)
    waiting = bad_count | (count * q <= _SMALL_MEAN)
    count = fnp.floor(count)
    some, half = _STAND_IN
    small = _waited(words, fnp.where(waiting, count, 0), q)
    large = _rejected(words, fnp.where(waiting, some, count), fnp.where(waiting, half, q))
    out = fnp.where(waiting, small, large)
    out = fnp.where(bad | bad_count, math.nan, fnp.where(endless, math.inf, out))
    return fnp.where(few | bad_count | endless | fnp.isnan(prob), out, count - out)


@drawn_whole(FEW)
def binomial(key: Any, n: Any, p: Any, shape: Any = None, dtype: Any = None) -> Array:
    """Draw from the binomial distribution: successes among n trials of probability p.

    Args:
        key: a single random key.
        n: how many trials, at least 0; broadcasts to the shape.
        p: the probability of success; broadcasts to the shape.
        shape: shape of the result; that of the parameters if None.
        dtype: a float dtype; the default float if None.

    Returns:
        Whole numbers as floats; nan where n or p makes no sense. They have no derivative.

    Example:
        >>> from funtorch import random
        >>> random.binomial(random.PRNGKey(0), 10, 0.5, (3,)).shape
        (3,)
    """
    words, dtype = words_of("binomial", key), float_dtype("binomial", dtype)
    shape = drawn_shape("binomial", shape, n=n, p=p)
    n, p = promotion.to_array(n, "binomial", "n"), promotion.to_array(p, "binomial", "p")
    (p,) = promotion.promote_inexact("binomial", p)
    n, p = (
        ops.stop_gradient(promotion.spread_to(promotion.convert(v, p.dtype), shape)) for v in (n, p)
    )
    return promotion.convert(_binomial(words, n, p), dtype)


def multinomial(
    key: Any, n: Any, p: Any, *, shape: Any = None, dtype: Any = None, unroll: int | bool = 1
) -> Array:
    """Draw from the multinomial distribution: how many of n draws fall into each class.

    Args:
        key: a single random key.
        n: how many draws, at least 0; broadcasts to the shape before its last axis.
        p: the classes' probabilities along the last axis; broadcasts to the shape.
        shape: shape of the result, classes last; that of p if None.
        dtype: a float dtype; that of n and p if None.
        unroll: taken for JAX's sake.

    Returns:
        Whole numbers as floats that add up to n along the last axis.

    Raises:
        ValueError: the shapes do not fit.

    Example:
        >>> from funtorch import random
        >>> float(random.multinomial(random.PRNGKey(0), 10, fnp.array([0.2, 0.8])).sum())
        10.0
    """
    words = words_of("multinomial", key)
    n, p = promotion.to_array(n, "multinomial", "n"), promotion.to_array(p, "multinomial", "p")
    n, p = promotion.promote_inexact("multinomial", n, p)
    shape = p.shape if shape is None else promotion.canonical_shape(shape, "multinomial")
    fits = shape and promotion.broadcast_shapes(p.shape, shape) == shape
    if not fits or promotion.broadcast_shapes(n.shape, shape[:-1]) != shape[:-1]:
        raise ValueError(
            "multinomial: n must fit the shape before its last axis and p the shape, got n "
            f"{promotion.describe(n)}, p {promotion.describe(p)} and shape {shape}"
        )
    n, p = promotion.spread_to(n, shape[:-1]), promotion.spread_to(p, shape)
    n, p = ops.stop_gradient(n), fnp.moveaxis(ops.stop_gradient(p), -1, 0)
    left = cumsum(p, axis=0, reverse=True)
    ratios = p / fnp.where(left == 0, 1, left)

    def draw(remainder: Any, given: Any) -> Any:
        ratio, child = given
        count = _binomial(child, remainder, fnp.clip(ratio, 0, 1))
        return remainder - count, count

    counts = scan(draw, n, (ratios, split_to(words, (p.shape[0],))))[1]
    dtype = p.dtype if dtype is None else float_dtype("multinomial", dtype)
    return promotion.convert(fnp.moveaxis(counts, 0, -1), dtype)
