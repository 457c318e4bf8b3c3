"""Activations and normalizing functions, with the names and derivatives of `jax.nn`.

References:
    JAX, "jax.nn", https://docs.jax.dev/en/latest/jax.nn.html
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import Array, primitives
from funtorch.numpy import promotion
from funtorch.numpy.direct import FLOATS, LARGE, compiled_if_large, direct
from funtorch.ops import elementwise as ops
from funtorch.ops import shape as shape_ops
from funtorch.scipy.special import basic as special
from funtorch.scipy.special.basic import logsumexp

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "leaky_relu",
    "log1mexp",
    "log_sigmoid",
    "log_softmax",
    "logmeanexp",
    "logsumexp",
    "mish",
    "normalize",
    "one_hot",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softmax",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "standardize",
    "swish",
    "tanh",
]

tanh = fnp.tanh


def _real(function: str, x: Any) -> Any:
    return promotion.to_array(x, function)


def _float(function: str, x: Any) -> Any:
    x = promotion.to_array(x, function)
    return promotion.convert(x, dtypes.to_inexact(x.dtype), x.weak_type)


# --- activations ---------------------------------------------------------------------------
def identity(x: Any) -> Array:
    """Return x.

    Example:
        >>> float(identity(2.0))
        2.0
    """
    return _real("identity", x)


_ZEROS = {dtype: np.zeros((), dtype) for dtype in FLOATS}  # NumPy takes longer for a Python 0


def _straight_relu(x: np.ndarray) -> Any:
    return np.maximum(x, _ZEROS[x.dtype])


@direct(_straight_relu, FLOATS)
def relu(x: Any) -> Array:
    """Return ``max(x, 0)``, elementwise; its derivative at 0 is 0.

    Args:
        x: real numbers.

    Returns:
        An array like x.

    Example:
        >>> relu(fnp.array([-1.0, 2.0])).tolist()
        [0.0, 2.0]

    References:
        D. Bertoin et al., "Numerical influence of ReLU'(0) on backpropagation", NeurIPS 2021.
    """
    x = _real("relu", x)
    return fnp.where(x <= 0, 0, x)  # nan stays nan


@compiled_if_large
def relu6(x: Any) -> Array:
    """Return ``min(max(x, 0), 6)``; its derivative at 0 and 6 is 0.

    Example:
        >>> relu6(fnp.array([-1.0, 2.0, 8.0])).tolist()
        [0.0, 2.0, 6.0]
    """
    x = _float("relu6", x)
    return fnp.where(x <= 0, 0, fnp.where(x >= 6, 6, x))


@compiled_if_large
def leaky_relu(x: Any, negative_slope: Any = 1e-2) -> Array:
    """Return x where it is 0 or more, and ``negative_slope * x`` below.

    Example:
        >>> leaky_relu(fnp.array([-4.0, 2.0]), 0.5).tolist()
        [-2.0, 2.0]
    """
    x = _real("leaky_relu", x)
    return fnp.where(x >= 0, x, negative_slope * x)


@compiled_if_large
def elu(x: Any, alpha: Any = 1.0) -> Array:
    """Return x where it is positive, and ``alpha * (exp(x) - 1)`` elsewhere.

    Example:
        >>> elu(fnp.array([0.0, 2.0])).tolist()
        [0.0, 2.0]

    References:
        D.-A. Clevert, T. Unterthiner, S. Hochreiter, "Fast and accurate deep network learning by
        exponential linear units (ELUs)", ICLR 2016.
    """
    x = _real("elu", x)
    positive = x > 0
    # The inner choice keeps exp from overflowing, which would make the gradient nan.
    return fnp.where(positive, x, alpha * fnp.expm1(fnp.where(positive, 0.0, x)))


@compiled_if_large
def celu(x: Any, alpha: Any = 1.0) -> Array:
    """Return ``max(x, 0) + alpha * (exp(min(x, 0) / alpha) - 1)``, smooth for every alpha.

    Example:
        >>> celu(fnp.array([0.0, 2.0]), 2.0).tolist()
        [0.0, 2.0]

    References:
        J. T. Barron, "Continuously differentiable exponential linear units", 2017.
    """
    x = _real("celu", x)
    return fnp.maximum(x, 0.0) + alpha * fnp.expm1(fnp.minimum(x, 0.0) / alpha)


_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


@compiled_if_large
def selu(x: Any) -> Array:
    """Return the self-normalizing `elu`, which keeps mean 0 and variance 1 through layers.

    Example:
        >>> selu(fnp.array([0.0, 1.0])).round(4).tolist() == [0.0, 1.0506999492645264]
        True

    References:
        G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, "Self-normalizing neural networks",
        NeurIPS 2017.
    """
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


@compiled_if_large
def gelu(x: Any, approximate: bool = True) -> Array:
    """Return x times the standard normal distribution function of x.

    Args:
        x: real numbers.
        approximate: whether to use ``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3)))``.

    Returns:
        Floats of the shape of x.

    Example:
        >>> float(gelu(0.0))
        0.0

    References:
        D. Hendrycks, K. Gimpel, "Gaussian error linear units (GELUs)", 2016.
    """
    x = promotion.convert(x := _float("gelu", x), x.dtype)
    if approximate:
        cubic = x + 0.044715 * (x * x * x)
        return x * (0.5 * (1.0 + fnp.tanh(math.sqrt(2 / math.pi) * cubic)))
    return 0.5 * x * ops.erfc(-x * math.sqrt(0.5))


@direct(functools.partial(primitives["logistic"].eager, np), FLOATS, large=LARGE)
def sigmoid(x: Any) -> Array:
    """Return ``1 / (1 + exp(-x))``.

    Example:
        >>> float(sigmoid(0.0))
        0.5
    """
    return ops.logistic(_float("sigmoid", x))


@compiled_if_large
def log_sigmoid(x: Any) -> Array:
    """Return ``log(sigmoid(x))`` without underflow.

    Example:
        >>> float(log_sigmoid(-1000.0))
        -1000.0
    """
    return -softplus(-_real("log_sigmoid", x))


@compiled_if_large
def silu(x: Any) -> Array:
    """Return ``x * sigmoid(x)``, also known as swish.

    Example:
        >>> float(silu(0.0))
        0.0

    References:
        S. Elfwing, E. Uchibe, K. Doya, "Sigmoid-weighted linear units for neural network function
        approximation in reinforcement learning", Neural Networks 107 (2018).
    """
    x = _float("silu", x)
    return x * ops.logistic(x)


swish = silu


@compiled_if_large
def softplus(x: Any) -> Array:
    """Return ``log(1 + exp(x))``, a smooth `relu`.

    Example:
        >>> float(softplus(1000.0))
        1000.0
    """
    return fnp.logaddexp(_float("softplus", x), 0.0)


@compiled_if_large
def mish(x: Any) -> Array:
    """Return ``x * tanh(softplus(x))``.

    Example:
        >>> float(mish(0.0))
        0.0

    References:
        D. Misra, "Mish: a self regularized non-monotonic activation function", BMVC 2020.
    """
    x = _float("mish", x)
    return x * fnp.tanh(softplus(x))


@compiled_if_large
def squareplus(x: Any, b: Any = 4) -> Array:
    """Return ``(x + sqrt(x**2 + b)) / 2``, a smooth `relu` without exponentials.

    Example:
        >>> float(squareplus(0.0))
        1.0

    References:
        J. T. Barron, "Squareplus: a softplus-like algebraic rectifier", 2021.
    """
    x = _float("squareplus", x)
    return (x + fnp.sqrt(fnp.square(x) + b)) / 2


@compiled_if_large
def sparse_plus(x: Any) -> Array:
    """Return 0 up to -1, x from 1 on, and ``(x + 1)**2 / 4`` between.

    Example:
        >>> sparse_plus(fnp.array([-2.0, 0.0, 2.0])).tolist()
        [0.0, 0.25, 2.0]
    """
    x = _float("sparse_plus", x)
    return fnp.where(x <= -1.0, 0.0, fnp.where(x >= 1.0, x, fnp.square(x + 1.0) / 4))


@compiled_if_large
def sparse_sigmoid(x: Any) -> Array:
    """Return 0 up to -1, 1 from 1 on, and a straight line between.

    Example:
        >>> sparse_sigmoid(fnp.array([-2.0, 0.0, 2.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    return 0.5 * fnp.clip(_float("sparse_sigmoid", x) + 1.0, 0.0, 2.0)


@compiled_if_large
def soft_sign(x: Any) -> Array:
    """Return ``x / (1 + |x|)``.

    Example:
        >>> float(soft_sign(1.0))
        0.5
    """
    x = _real("soft_sign", x)
    return x / (fnp.abs(x) + 1)


@compiled_if_large
def hard_tanh(x: Any) -> Array:
    """Return x cut off at -1 and 1.

    Example:
        >>> hard_tanh(fnp.array([-2.0, 0.5, 2.0])).tolist()
        [-1.0, 0.5, 1.0]
    """
    x = _real("hard_tanh", x)
    return fnp.where(x > 1, 1, fnp.where(x < -1, -1, x))


@compiled_if_large
def hard_sigmoid(x: Any) -> Array:
    """Return ``relu6(x + 3) / 6``.

    Example:
        >>> hard_sigmoid(fnp.array([-4.0, 0.0, 4.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    return relu6(_real("hard_sigmoid", x) + 3.0) / 6.0


@compiled_if_large
def hard_silu(x: Any) -> Array:
    """Return ``x * hard_sigmoid(x)``, also known as hard swish.

    Example:
        >>> hard_silu(fnp.array([-4.0, 0.0, 4.0])).tolist() == [0, 0, 4]
        True

    References:
        A. Howard et al., "Searching for MobileNetV3", ICCV 2019.
    """
    x = _real("hard_silu", x)
    return x * hard_sigmoid(x)


hard_swish = hard_silu


@compiled_if_large
def glu(x: Any, axis: int = -1) -> Array:
    """Return the first half of x along an axis times the sigmoid of the second.

    Args:
        x: real numbers.
        axis: an axis of even size.

    Returns:
        Floats, half as long along the axis.

    Raises:
        ValueError: the size is odd.

    Example:
        >>> glu(fnp.array([4.0, 0.0])).tolist()
        [2.0]

    References:
        Y. N. Dauphin, A. Fan, M. Auli, D. Grangier, "Language modeling with gated convolutional
        networks", ICML 2017.
    """
    x = _float("glu", x)
    axis = promotion.canonical_axis(axis, x.ndim, "glu")
    if x.shape[axis] % 2:
        raise ValueError(f"glu: axis {axis} must have an even size, got {promotion.describe(x)}")
    value, gate = fnp.split(x, 2, axis=axis)
    return value * ops.logistic(gate)


@compiled_if_large
def log1mexp(x: Any) -> Array:
    """Return ``log(1 - exp(-x))`` of x above 0, accurate near 0 and far from it.

    Example:
        >>> round(float(log1mexp(1.0)), 4)
        -0.4587

    References:
        M. Mächler, "Accurately computing log(1 - exp(-|a|))", 2012.
    """
    x = _float("log1mexp", x)
    small = x < math.log(2)
    near, far = fnp.where(small, x, 1.0), fnp.where(small, 1.0, x)
    return fnp.where(small, fnp.log(-fnp.expm1(-near)), fnp.log1p(-fnp.exp(-far)))


# --- along an axis -------------------------------------------------------------------------
@compiled_if_large
def softmax(x: Any, axis: Any = -1, where: Any = None) -> Array:
    """Return ``exp(x) / sum(exp(x))`` along an axis.

    Args:
        x: real numbers.
        axis: the axis or axes of the sum; all if None.
        where: bool; members where it is False do not count and get 0.

    Returns:
        Floats of the shape of x, which sum to 1.

    Example:
        >>> softmax(fnp.array([0.0, 0.0])).tolist()
        [0.5, 0.5]
    """
    return special.softmax(x, axis, where)


@compiled_if_large
def log_softmax(x: Any, axis: Any = -1, where: Any = None) -> Array:
    """Return ``log(softmax(x))`` along an axis.

    Args:
        x: real numbers.
        axis: the axis or axes of the sum; all if None.
        where: bool; members where it is False do not count and get -inf.

    Returns:
        Floats of the shape of x.

    Example:
        >>> log_softmax(fnp.array([0.0, 1000.0])).tolist()
        [-1000.0, 0.0]
    """
    return special.log_softmax(x, axis, where)


@compiled_if_large
def logmeanexp(x: Any, axis: Any = None, where: Any = None, keepdims: bool = False) -> Array:
    """Return ``log(mean(exp(x)))`` without overflow.

    Args:
        x: real numbers.
        axis: the axis or axes of the mean; all if None.
        where: bool; members where it is False do not count.
        keepdims: whether the axes stay, with size 1.

    Returns:
        Floats.

    Example:
        >>> float(logmeanexp(fnp.array([1000.0, 1000.0])))
        1000.0
    """
    total = logsumexp(x, axis=axis, keepdims=keepdims, where=where)
    counted = fnp.ones_like(_float("logmeanexp", x))
    return total - fnp.log(fnp.sum(counted, axis=axis, keepdims=keepdims, where=where))


@compiled_if_large
def standardize(
    x: Any,
    axis: Any = -1,
    mean: Any = None,
    variance: Any = None,
    epsilon: Any = 1e-5,
    where: Any = None,
    *,
    algorithm: str = "fast",
) -> Array:
    """Return ``(x - mean) / sqrt(variance + epsilon)`` along axes.

    Args:
        x: real numbers.
        axis: the axis or axes that the mean is taken over; all if None.
        mean: the mean, if it is known.
        variance: the variance, if it is known.
        epsilon: added to the variance.
        where: bool; members where it is False do not count.
        algorithm: 'fast' for ``mean(x**2) - mean(x)**2``, 'stable' for ``mean((x - mean)**2)``.

    Returns:
        Floats of the shape of x, of mean 0 and variance close to 1.

    Raises:
        ValueError: there is no such algorithm.

    Example:
        >>> standardize(fnp.array([1.0, 3.0])).round(3).tolist()
        [-1.0, 1.0]
    """
    if algorithm not in ("fast", "stable"):
        raise ValueError(f"standardize: algorithm must be 'fast' or 'stable', got {algorithm!r}")
    x = _float("standardize", x)
    if mean is None:
        mean = fnp.mean(x, axis=axis, keepdims=True, where=where)
    if variance is None:
        square = x if algorithm == "fast" else x - mean
        variance = fnp.mean(fnp.square(square), axis=axis, keepdims=True, where=where)
        if algorithm == "fast":
            variance = fnp.maximum(variance - fnp.square(mean), 0)  # rounding can make it negative
    return (x - mean) * ops.rsqrt(_float("standardize", variance + epsilon))


normalize = standardize


@compiled_if_large
def one_hot(x: Any, num_classes: int, *, dtype: Any = None, axis: int = -1) -> Array:
    """Return vectors that are 1 at the given index and 0 elsewhere.

    Args:
        x: indices, integers; those outside 0 .. num_classes - 1 give a vector of zeros.
        num_classes: length of the vectors, a Python int.
        dtype: dtype of the result; the default float if None.
        axis: where the new axis goes.

    Returns:
        An array of the shape of x with one more axis.

    Example:
        >>> one_hot(fnp.array([0, 2]), 3).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    x = promotion.asarray(x)
    count = promotion.static_int(num_classes, "one_hot: num_classes")
    if count < 0:
        raise ValueError(f"one_hot: num_classes must not be negative, got {count}")
    position = promotion.canonical_axis(axis, x.ndim + 1, "one_hot")
    dtype = dtypes.canonical(float if dtype is None else dtype)
    shape = x.shape[:position] + (count,) + x.shape[position:]
    wide = dtypes.int32 if x.dtype.itemsize < 4 else x.dtype  # 300 classes and uint8 indices
    indices = promotion.spread_to(fnp.expand_dims(promotion.convert(x, wide), position), shape)
    classes = shape_ops.iota(shape=shape, axis=position, dtype=wide)
    return promotion.convert(ops.eq(indices, classes), dtype)
