"""Draws that others are made from: bits, uniform, integers, normal, coins, and choosing.

References:
    JAX, "jax.random", https://docs.jax.dev/en/latest/jax.random.html: the same keys, the same
    numbers.
    M. B. Giles, "Approximating the erfinv function", GPU Computing Gems 2 (2010).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import Array, ArrayImpl
from funtorch.numpy import promotion
from funtorch.numpy.places import divisible
from funtorch.ops import elementwise as ops
from funtorch.ops import families
from funtorch.ops.sampling import sampled_erf_inv, sampled_log, sampled_log1p
from funtorch.ops.sort import sort
from funtorch.random.keys import cipher, split_words, words_of
from funtorch.random.whole import LARGE, drawn_whole

__all__ = [
    "bernoulli",
    "bits",
    "categorical",
    "choice",
    "gumbel",
    "normal",
    "permutation",
    "rademacher",
    "randint",
    "truncated_normal",
    "uniform",
]

_UINT = {8: dtypes.uint8, 16: dtypes.uint16, 32: dtypes.uint32, 64: dtypes.uint64}


# --- arguments -----------------------------------------------------------------------------
def float_dtype(function: str, dtype: Any) -> np.dtype:
    """Return the dtype argument of a draw of real floats."""
    chosen = dtypes.canonical(float if dtype is None else dtype)
    if not dtypes.is_float(chosen):
        raise ValueError(f"{function}: dtype must be a real float dtype, got {chosen}")
    return chosen


def drawn_shape(function: str, shape: Any, **params: Any) -> tuple[int, ...]:
    """Return the shape argument; None takes the shape that the parameters broadcast to."""
    shapes = [promotion.shape_of(p) for p in params.values()]
    joint = promotion.broadcast_shapes(*shapes)
    if shape is None:
        return joint
    wanted = promotion.canonical_shape(shape, function)
    lead = len(wanted) - len(joint)
    fits = lead >= 0 and all(n in (1, m) for n, m in zip(joint, wanted[lead:], strict=True))
    if not fits:
        named = ", ".join(f"{n} of shape {s}" for n, s in zip(params, shapes, strict=True))
        raise ValueError(f"{function}: {named} cannot be broadcast to the shape {wanted} asked for")
    return wanted


def param(function: str, name: str, value: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Return a parameter as an Array of a dtype and shape."""
    return promotion.spread_to(constant(function, name, value, dtype), shape)


def constant(function: str, name: str, value: Any, dtype: Any) -> Any:
    return promotion.convert(promotion.to_array(value, function, name), dtype)


# --- bits ----------------------------------------------------------------------------------
def draw_bits(words: Any, width: int, shape: tuple[int, ...]) -> Any:
    """Return random unsigned integers of 8, 16, 32 or 64 bits."""
    high, low = cipher(words, shape)
    if width < 64:
        return promotion.convert(ops.bitwise_xor(high, low), _UINT[width])
    high, low = (promotion.convert(w, dtypes.uint64) for w in (high, low))
    return ops.bitwise_or(ops.shift_left(high, families.full_like(high, 32)), low)


@drawn_whole(LARGE)
@divisible()
def bits(key: Any, shape: Any = (), dtype: Any = None, *, out_sharding: Any = None) -> Array:
    """Draw random bits, as unsigned integers.

    Args:
        key: a single random key.
        shape: shape of the result.
        dtype: uint8, uint16, uint32 (the default) or uint64.
        out_sharding: how the result is divided over a mesh; None: it is not.

    Returns:
        Unsigned integers of the shape, each value equally likely.

    Raises:
        ValueError: the dtype is not an unsigned integer.

    Example:
        >>> from funtorch import random
        >>> random.bits(random.PRNGKey(0), (2,)).tolist()
        [4070199207, 4202968722]
    """
    chosen = dtypes.uint32 if dtype is None else dtypes.canonical(dtype)
    if chosen.kind != "u":
        raise ValueError(f"bits: dtype must be an unsigned integer dtype, got {chosen}")
    wanted = promotion.canonical_shape(shape, "bits")
    return draw_bits(words_of("bits", key), chosen.itemsize * 8, wanted)


# --- uniform -------------------------------------------------------------------------------
def unit_floats(words: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """Return floats on [0, 1): random mantissas under the exponent of 1, less 1."""
    info = dtypes.finfo(dtype)
    carrier = _UINT[info.bits]
    drawn = info.bits if info.nmant >= 8 else 8
    mantissa = promotion.convert(draw_bits(words, drawn, shape), carrier)
    mantissa = ops.shift_right_logical(mantissa, families.full_like(mantissa, drawn - info.nmant))
    exponent = families.full_like(mantissa, int(np.array(1, dtype).view(carrier)))
    floats = ops.bitcast(ops.bitwise_or(mantissa, exponent), dtype=dtype)
    return ops.sub(floats, families.ones_like(floats))


def _is_exact(low: Any, span: Any) -> bool:
    """Tell whether ``x * span + low`` rounds once at most for every x of the dtype."""
    if type(low) is not ArrayImpl or type(span) is not ArrayImpl or low.ndim or span.ndim:
        return False
    return float(low._data) == 0 or math.frexp(float(span._data))[0] == 0.5


def stretch(floats: Any, low: Any, high: Any) -> Any:
    """Map [0, 1) to [low, high); float32 rounds product and sum once, as XLA fuses them."""
    shape, dtype = floats.shape, floats.dtype
    span = ops.sub(*promotion.broadcast("uniform", high, low))
    fused = dtype == dtypes.float32 and not _is_exact(low, span)
    wide = dtypes.float64 if fused else dtype
    x, width, start = (
        promotion.spread_to(promotion.convert(v, wide), shape) for v in (floats, span, low)
    )
    moved = promotion.convert(ops.add(ops.mul(x, width), start), dtype)
    return ops.max(promotion.spread_to(low, shape), moved)


def draw_uniform(
    words: Any, shape: tuple[int, ...], dtype: np.dtype, low: float, high: float
) -> Any:
    """Return floats between two Python numbers."""
    floats = unit_floats(words, shape, dtype)
    if (low, high) == (0, 1):
        return floats
    return stretch(floats, families.scalar(low, dtype), families.scalar(high, dtype))


@drawn_whole(LARGE)
@divisible()
def uniform(
    key: Any,
    shape: Any = (),
    dtype: Any = None,
    minval: Any = 0.0,
    maxval: Any = 1.0,
    *,
    out_sharding: Any = None,
) -> Array:
    """Draw floats uniformly from [minval, maxval).

    Args:
        key: a single random key.
        shape: shape of the result.
        dtype: a float dtype; the default float if None.
        minval: lower bound, included; broadcasts to the shape.
        maxval: upper bound, excluded (rounding may reach it); broadcasts to the shape.
        out_sharding: how the result is divided over a mesh; None: it is not.

    Returns:
        Floats of the shape and dtype.

    Raises:
        ValueError: the dtype is not a float, or a bound does not fit the shape.

    Example:
        >>> from funtorch import random
        >>> random.uniform(random.PRNGKey(0), (2,))
        Array([0.947667 , 0.9785799], dtype=float32)
    """
    words, dtype = words_of("uniform", key), float_dtype("uniform", dtype)
    shape = drawn_shape("uniform", shape, minval=minval, maxval=maxval)
    if isinstance(minval, (int, float)) and isinstance(maxval, (int, float)):
        return draw_uniform(words, shape, dtype, minval, maxval)
    low = constant("uniform", "minval", minval, dtype)
    high = constant("uniform", "maxval", maxval, dtype)
    return stretch(unit_floats(words, shape, dtype), low, high)


# --- integers ------------------------------------------------------------------------------
def _integer_bound(name: str, value: Any, dtype: np.dtype) -> Any:
    bound = promotion.to_array(value, "randint", name)
    if not dtypes.is_integer(bound.dtype):
        bound = promotion.convert(bound, dtypes.default_int())
    return bound


def _clipped(x: Any, dtype: np.dtype) -> Any:
    """Convert integers to a dtype; those beyond its range go to its ends."""
    here, there = dtypes.iinfo(x.dtype), dtypes.iinfo(dtype)
    low = families.full_like(x, max(here.min, there.min))
    high = families.full_like(x, min(here.max, there.max))
    return promotion.convert(ops.min(ops.max(x, low), high), dtype)


@drawn_whole(LARGE)
@divisible()
def randint(
    key: Any, shape: Any, minval: Any, maxval: Any, dtype: Any = None, *, out_sharding: Any = None
) -> Array:
    """Draw integers uniformly from [minval, maxval).

    Args:
        key: a single random key.
        shape: shape of the result.
        minval: lower bound, included; broadcasts to the shape.
        maxval: upper bound, excluded; broadcasts to the shape. Where it is not above minval, the
            result is minval.
        dtype: an integer dtype; the default int if None.
        out_sharding: how the result is divided over a mesh; None: it is not.

    Returns:
        Integers of the shape and dtype. A span that is no power of two has a bias of about
        span / 2**64 (span / 2**128 for 64-bit integers).

    Raises:
        TypeError: the dtype is not an integer.

    Example:
        >>> from funtorch import random
        >>> random.randint(random.PRNGKey(0), (4,), 0, 10).tolist()
        [9, 0, 2, 3]
    """
    words = words_of("randint", key)
    dtype = dtypes.canonical(int if dtype is None else dtype)
    if not dtypes.is_integer(dtype):
        raise TypeError(f"randint: dtype must be an integer dtype, got {dtype}")
    shape = drawn_shape("randint", shape, minval=minval, maxval=maxval)
    low, high = _integer_bound("minval", minval, dtype), _integer_bound("maxval", maxval, dtype)
    if dtype.itemsize >= 4:
        return _randint(words, shape, low, high, dtype)
    # Narrow integers are drawn in 32 bits, where the largest of them plus one is a number too.
    info = dtypes.iinfo(dtype)
    low, high = (
        fnp.clip(promotion.convert(x, dtypes.int32), info.min, info.max + k)
        for k, x in enumerate((low, high))
    )
    return promotion.convert(_randint(words, shape, low, high, dtypes.int32), dtype)


def _randint(words: Any, shape: tuple[int, ...], low: Any, high: Any, dtype: np.dtype) -> Any:
    """Draw twice the bits of the dtype and take the remainder by the span."""
    width = dtype.itemsize * 8
    unsigned = _UINT[width]
    top = _clipped(families.scalar(dtypes.iinfo(dtype).max, dtype), high.dtype)
    beyond = ops.gt(high, promotion.spread_to(top, high.shape))
    low, high, beyond = promotion.broadcast(
        "randint", _clipped(low, dtype), _clipped(high, dtype), beyond
    )
    span = promotion.convert(ops.sub(high, low), unsigned)
    one = families.ones_like(span)
    empty = ops.le(high, low)
    span = ops.select(empty, one, span)
    # A span of the whole dtype wraps to 0, and a remainder by 0 is the number itself.
    span = ops.select(ops.bitwise_and(beyond, ops.bitwise_not(empty)), ops.add(span, one), span)
    # 2**width mod span, without leaving the dtype.
    factor = ops.rem(families.full_like(span, 1 << width // 2), span)
    factor = ops.rem(ops.mul(factor, factor), span)
    upper, lower = (draw_bits(w, width, shape) for w in split_words(words))
    span, factor, low = (promotion.spread_to(x, shape) for x in (span, factor, low))
    offset = ops.add(ops.mul(ops.rem(upper, span), factor), ops.rem(lower, span))
    return ops.add(low, promotion.convert(ops.rem(offset, span), dtype))


# --- normal --------------------------------------------------------------------------------
def _erf_inv(u: Any) -> Any:
    # That of narrower floats rounds as XLA's does already, and has native code.
    return sampled_erf_inv(u) if u.dtype == dtypes.float64 else ops.erf_inv(u)


def draw_normal(words: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """Return standard normal floats, by inversion."""
    above_minus_one = -1 + float(dtypes.finfo(dtype).eps) / 2
    u = draw_uniform(words, shape, dtype, above_minus_one, 1.0)
    return ops.mul(families.full_like(u, math.sqrt(2)), _erf_inv(u))


@drawn_whole(LARGE)
@divisible()
def normal(key: Any, shape: Any = (), dtype: Any = None, *, out_sharding: Any = None) -> Array:
    """Draw from the normal distribution of mean 0 and variance 1.

    Args:
        key: a single random key.
        shape: shape of the result.
        dtype: a float or complex dtype; the default float if None. Complex numbers have variance
            1/2 in each part.
        out_sharding: how the result is divided over a mesh; None: it is not.

    Returns:
        Numbers of the shape and dtype.

    Raises:
        ValueError: the dtype is an integer or bool.

    Example:
        >>> from funtorch import random
        >>> random.normal(random.PRNGKey(0), (2,))
        Array([1.6226422, 2.0252647], dtype=float32)
    """
    words = words_of("normal", key)
    dtype = dtypes.canonical(float if dtype is None else dtype)
    if not dtypes.is_inexact(dtype):
        raise ValueError(f"normal: dtype must be a float or complex dtype, got {dtype}")
    shape = promotion.canonical_shape(shape, "normal")
    if dtypes.is_float(dtype):
        return draw_normal(words, shape, dtype)
    real = dtypes.real_dtype(dtype)
    parts = [draw_normal(w, shape, real) for w in split_words(words)]
    root = families.full(shape, math.sqrt(2), real)
    return ops.complex(*(ops.div(part, root) for part in parts))


@drawn_whole(LARGE)
@divisible()
def truncated_normal(
    key: Any,
    lower: Any,
    upper: Any,
    shape: Any = None,
    dtype: Any = None,
    *,
    out_sharding: Any = None,
) -> Array:
    """Draw from the standard normal distribution cut off outside (lower, upper).

    Args:
        key: a single random key.
        lower: lower end; broadcasts to the shape.
        upper: upper end; broadcasts to the shape.
        shape: shape of the result; that of the ends if None.
        dtype: a float dtype; the default float if None.
        out_sharding: how the result is divided over a mesh; None: it is not.

    Returns:
        Floats of the shape and dtype, strictly between the ends.

    Example:
        >>> from funtorch import random
        >>> x = random.truncated_normal(random.PRNGKey(0), -2, 2, (1000,))
        >>> bool((abs(x) < 2).all())
        True
    """
    words, dtype = words_of("truncated_normal", key), float_dtype("truncated_normal", dtype)
    shape = drawn_shape("truncated_normal", shape, lower=lower, upper=upper)
    ends = [
        constant("truncated_normal", "lower", lower, dtype),
        constant("truncated_normal", "upper", upper, dtype),
    ]
    low, high = (ops.erf(ops.div(x, families.full_like(x, math.sqrt(2)))) for x in ends)
    u = stretch(unit_floats(words, shape, dtype), low, high)
    out = ops.mul(families.full_like(u, math.sqrt(2)), _erf_inv(u))
    # Rounding must not leave the open interval.
    inner = [
        ops.nextafter(ops.stop_gradient(x), families.full_like(x, toward))
        for x, toward in zip(ends, (math.inf, -math.inf), strict=True)
    ]
    return fnp.clip(out, *inner)


# --- coins ---------------------------------------------------------------------------------
@drawn_whole(LARGE)
@divisible()
def bernoulli(
    key: Any, p: Any = 0.5, shape: Any = None, mode: str = "low", *, out_sharding: Any = None
) -> Array:
    """Draw True with probability p.

    Args:
        key: a single random key.
        p: probability of True, a float; broadcasts to the shape.
        shape: shape of the result; that of p if None.
        mode: 'low', or 'high' for twice the random bits, where small p must be exact.
        out_sharding: how the result is divided over a mesh; None: it is not.

    Returns:
        bool of the shape.

    Raises:
        TypeError: p is not a float.
        ValueError: there is no such mode.

    Example:
        >>> from funtorch import random
        >>> random.bernoulli(random.PRNGKey(0), 0.3, (4,)).tolist()
        [False, False, False, False]
    """
    words = words_of("bernoulli", key)
    if mode not in ("low", "high"):
        raise ValueError(f"bernoulli: mode must be 'low' or 'high', got {mode!r}")
    p = promotion.to_array(p, "bernoulli", "p")
    if not dtypes.is_float(p.dtype):
        raise TypeError(f"bernoulli: p must be a float, got {promotion.describe(p)}")
    shape = drawn_shape("bernoulli", shape, p=p)
    p = promotion.spread_to(promotion.convert(p, p.dtype), shape)
    if mode == "low":
        return ops.lt(unit_floats(words, shape, p.dtype), p)
    coarse, fine = unit_floats(words, (2, *shape), p.dtype)
    fine = fine * 2.0 ** -int(dtypes.finfo(p.dtype).nmant)
    return ops.lt(fine, ops.sub(p, coarse))


@drawn_whole(LARGE)
def rademacher(key: Any, shape: Any = (), dtype: Any = None) -> Array:
    """Draw 1 and -1 with equal probability.

    Args:
        key: a single random key.
        shape: shape of the result.
        dtype: a dtype with negative numbers; the default int if None.

    Returns:
        Numbers of the shape and dtype.

    Example:
        >>> from funtorch import random
        >>> random.rademacher(random.PRNGKey(0), (4,)).tolist()
        [-1, -1, 1, 1]
    """
    words = words_of("rademacher", key)
    dtype = dtypes.canonical(int if dtype is None else dtype)
    shape = promotion.canonical_shape(shape, "rademacher")
    u = unit_floats(words, shape, dtypes.default_float())
    return ops.select(
        ops.lt(u, families.full_like(u, 0.5)),
        families.full(shape, 1, dtype),
        families.full(shape, -1, dtype),
    )


# --- choosing ------------------------------------------------------------------------------
@drawn_whole(LARGE)
@divisible()
def gumbel(
    key: Any,
    shape: Any = (),
    dtype: Any = None,
    mode: str | None = None,
    *,
    out_sharding: Any = None,
) -> Array:
    """Draw from the standard Gumbel distribution, ``-log(-log(u))``.

    Args:
        key: a single random key.
        shape: shape of the result.
        dtype: a float dtype; the default float if None.
        mode: 'low' (the default), or 'high' for twice the random bits and longer tails.
        out_sharding: how the result is divided over a mesh; None: it is not.

    Returns:
        Floats of the shape and dtype.

    Raises:
        ValueError: there is no such mode.

    Example:
        >>> from funtorch import random
        >>> random.gumbel(random.PRNGKey(0), (3,)).shape
        (3,)
    """
    words, dtype = words_of("gumbel", key), float_dtype("gumbel", dtype)
    shape = promotion.canonical_shape(shape, "gumbel")
    info = dtypes.finfo(dtype)
    if mode not in (None, "low", "high"):
        raise ValueError(f"gumbel: mode must be 'low' or 'high', got {mode!r}")
    if mode != "high":
        return -sampled_log(-sampled_log(draw_uniform(words, shape, dtype, float(info.tiny), 1.0)))
    coarse, fine = unit_floats(words, (2, *shape), dtype)
    small = coarse + fine * 2.0 ** -int(info.nmant) + float(info.tiny)
    return -sampled_log(-sampled_log1p(-fnp.where(coarse >= 0.5, coarse, small)))


def _largest(x: Any, k: int) -> Any:
    """Return the indices of the k largest members along the last axis, the largest first."""
    return fnp.argsort(-x, axis=-1)[..., :k].astype(int)


@drawn_whole(LARGE)
@divisible()
def categorical(
    key: Any,
    logits: Any,
    axis: int = -1,
    shape: Any = None,
    replace: bool = True,
    mode: str | None = None,
    *,
    out_sharding: Any = None,
) -> Array:
    """Draw indices with probabilities softmax(logits), by the Gumbel-max trick.

    Args:
        key: a single random key.
        logits: unnormalized log probabilities, float[..., n, ...].
        axis: the axis of categories.
        shape: shape of the result, ending in that of logits without `axis`; just that if None.
        replace: whether one category can be drawn several times along the leading axes.
        mode: see `gumbel`.
        out_sharding: how the result is divided over a mesh; None: it is not.

    Returns:
        Integers from 0 to n - 1.

    Raises:
        ValueError: the shape does not fit, or more draws than categories without replacement.

    Example:
        >>> from funtorch import random
        >>> logits = fnp.log(fnp.array([0.0, 1.0]))
        >>> random.categorical(random.PRNGKey(0), logits, shape=(3,)).tolist()
        [1, 1, 1]
    """
    logits = promotion.to_array(logits, "categorical", "logits")
    logits = promotion.convert(logits, dtypes.to_inexact(logits.dtype))
    axis = promotion.canonical_axis(axis, logits.ndim, "categorical")
    batch = logits.shape[:axis] + logits.shape[axis + 1 :]
    shape = batch if shape is None else promotion.canonical_shape(shape, "categorical")
    if shape[len(shape) - len(batch) :] != batch:
        raise ValueError(
            f"categorical: the shape asked for must end in {batch}, that of logits "
            f"{promotion.describe(logits)} without axis {axis}; got {shape}"
        )
    extra = shape[: len(shape) - len(batch)]
    if replace:
        noise = gumbel(key, extra + logits.shape, logits.dtype, mode)
        return fnp.argmax(noise + logits, axis=len(extra) + axis)
    count, n = math.prod(extra), logits.shape[axis]
    if count > n:
        raise ValueError(
            f"categorical: {count} draws without replacement need as many categories, got {n}"
        )
    noisy = fnp.moveaxis(logits + gumbel(key, logits.shape, logits.dtype, mode), axis, -1)
    return fnp.reshape(fnp.moveaxis(_largest(noisy, count), -1, 0), shape)


def _shuffle(words: Any, x: Any, axis: int) -> Any:
    """Sort by random 32-bit keys, often enough that ties in every round are unlikely."""
    rounds = math.ceil(3 * math.log(max(1, x.size)) / math.log(0xFFFF_FFFF))
    for _ in range(rounds):
        words, drawn = split_words(words)
        x = sort(draw_bits(drawn, 32, x.shape), x, axis=axis, num_keys=1)[1]
    return x


def permutation(key: Any, x: Any, axis: int = 0, independent: bool = False) -> Array:
    """Shuffle an array along an axis, or the integers below x.

    Args:
        key: a single random key.
        x: an array, or a static int n, which means arange(n).
        axis: the axis to shuffle along.
        independent: whether each row along the axis gets its own order.

    Returns:
        An array of the shape and dtype of x.

    Raises:
        TypeError: x is a float of shape ().

    Example:
        >>> from funtorch import random
        >>> random.permutation(random.PRNGKey(0), 5).tolist()
        [0, 1, 4, 3, 2]
    """
    words = words_of("permutation", key)
    x = promotion.to_array(x, "permutation")
    axis = promotion.canonical_axis(axis, x.ndim or 1, "permutation")
    if not x.ndim:
        if not dtypes.is_integer(x.dtype):
            raise TypeError(f"permutation: x must be an integer or have axes, got {x.dtype}[]")
        return _shuffle(words, fnp.arange(promotion.static_int(x, "permutation: x")), 0)
    if independent or x.ndim == 1:
        return _shuffle(words, x, axis)
    return fnp.take(x, _shuffle(words, fnp.arange(x.shape[axis]), 0), axis=axis)


def choice(
    key: Any,
    a: Any,
    shape: Any = (),
    replace: bool = True,
    p: Any = None,
    axis: int = 0,
    mode: str | None = None,
) -> Array:
    """Draw members of an array, or integers below a.

    Args:
        key: a single random key.
        a: an array, or a static int n, which means arange(n).
        shape: how many members, and in what shape.
        replace: whether a member can be drawn several times.
        p: probabilities of the members, float[n]; all equal if None.
        axis: the axis of members.
        mode: see `gumbel`; it matters with p and without replacement.

    Returns:
        Members of a: its shape with `shape` in the place of `axis`.

    Raises:
        ValueError: there are no members, too few for drawing without replacement, or p does not
            fit.

    Example:
        >>> from funtorch import random
        >>> random.choice(random.PRNGKey(0), 5, (5,), replace=False).tolist()
        [0, 1, 4, 3, 2]
    """
    words_of("choice", key)
    shape, a = promotion.canonical_shape(shape, "choice"), promotion.to_array(a, "choice", "a")
    axis = promotion.canonical_axis(axis, a.ndim or 1, "choice")
    n = a.shape[axis] if a.ndim else promotion.static_int(a, "choice: a")
    count = math.prod(shape)
    if count and n <= 0:
        raise ValueError(f"choice: cannot draw {count} members from none")
    if not replace and count > n:
        raise ValueError(f"choice: {count} draws without replacement from only {n} members")
    out_shape = a.shape[:axis] + shape + a.shape[axis + 1 :] if a.ndim else shape
    if not count:
        return fnp.zeros(out_shape, a.dtype)
    if p is not None:
        chosen = _weighted(key, n, shape, replace, p, mode)
    elif replace:
        chosen = randint(key, shape, 0, n)
    else:
        whole = permutation(key, a if a.ndim else n, axis=axis)
        front = (slice(None),) * axis + (slice(count),)
        return fnp.reshape(whole[front], out_shape)
    return fnp.reshape(fnp.take(a, chosen, axis=axis) if a.ndim else chosen, out_shape)


def _weighted(key: Any, n: int, shape: tuple[int, ...], replace: bool, p: Any, mode: Any) -> Any:
    """Draw indices with probabilities p: by inversion, or the Gumbel top-k trick."""
    p = promotion.to_array(p, "choice", "p")
    p = promotion.convert(p, dtypes.to_inexact(p.dtype))
    if p.shape != (n,):
        raise ValueError(
            f"choice: p must have shape ({n},), one probability for each member; "
            f"got {promotion.describe(p)}"
        )
    if replace:
        total = fnp.cumsum(p)
        return fnp.searchsorted(total, total[-1] * (1 - uniform(key, shape, p.dtype))).astype(int)
    return _largest(gumbel(key, (n,), p.dtype, mode) + fnp.log(p), math.prod(shape))
