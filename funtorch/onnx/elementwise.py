"""Rules of ONNX's elementwise operators and reductions.

References:
    ONNX operators: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes, lax, nn, random

from .node import NARROW, Node, Rule, array, dtype_of

__all__ = ["ELEMENTWISE", "REDUCTIONS"]


def _plain(f: Callable[..., Any]) -> Rule:
    """An operator that is one function of its operands."""
    return lambda n, *xs: f(*map(array, xs))


def _with(f: Callable[..., Any], **defaults: float) -> Rule:
    """An operator that is a function of its operands and of numbers among its attributes."""
    return lambda n, *xs: f(*map(array, xs), **{k: n.get(k, v) for k, v in defaults.items()})


def _folded(f: Callable[[Any, Any], Any]) -> Rule:
    """An operator of any number of operands."""
    return lambda n, *xs: functools.reduce(f, map(array, xs))


# ------------------------------------------------------------------------------ arithmetic
def _div(n: Node, x: Any, y: Any) -> Any:
    x, y = array(x), array(y)
    if dtypes.is_inexact(x.dtype):
        return x / y
    return lax.div(*fnp.broadcast_arrays(x, y))


def _mod(n: Node, x: Any, y: Any) -> Any:
    x, y = array(x), array(y)
    return fnp.fmod(x, y) if n.get("fmod", 0) else fnp.mod(x, y)


def _pow(n: Node, x: Any, y: Any) -> Any:
    """The power has the type of the base."""
    x, y = array(x), array(y)
    if dtypes.is_integer(x.dtype) and dtypes.is_inexact(y.dtype):
        return fnp.trunc(fnp.power(x.astype("float64"), y)).astype(x.dtype)
    if dtypes.is_integer(x.dtype):
        return fnp.power(x, y.astype(x.dtype))
    return fnp.power(x, y).astype(x.dtype)


def _shift(n: Node, x: Any, y: Any) -> Any:
    x, y = array(x), array(y)
    if n.one_of("direction", "RIGHT", "LEFT") == "LEFT":
        bits = 8 * x.dtype.itemsize
        far = (y < 0) | (y >= bits) if y.dtype.kind == "i" else y >= bits
        return fnp.where(far, fnp.zeros_like(x), x << fnp.where(far, fnp.zeros_like(y), y))
    bits = 8 * x.dtype.itemsize - 1
    far = (y < 0) | (y > bits) if y.dtype.kind == "i" else y > bits
    if x.dtype.kind == "i":
        return x >> fnp.where(far, fnp.full_like(y, bits), y)
    return fnp.where(far, fnp.zeros_like(x), x >> fnp.where(far, fnp.zeros_like(y), y))


def _clip(n: Node, x: Any, low: Any = None, high: Any = None) -> Any:
    low = n.get("min") if low is None else low
    high = n.get("max") if high is None else high
    x = array(x)
    x = x if low is None else fnp.maximum(x, fnp.asarray(low, x.dtype))
    return x if high is None else fnp.minimum(x, fnp.asarray(high, x.dtype))


def _is_inf(n: Node, x: Any) -> Any:
    x = array(x)
    found = fnp.zeros(x.shape, bool)
    if n.get("detect_positive", 1):
        found = found | (x == math.inf)
    return found | (x == -math.inf) if n.get("detect_negative", 1) else found


def _cast_to(n: Node, x: Any, dtype: Any) -> Any:
    x, dtype = array(x), np.dtype(dtype)
    kept = NARROW.get(dtype)
    if kept is None:
        return x.astype(dtype)
    if kept == np.float32:
        return narrow_float(x.astype("float32"), dtype, bool(n.get("saturate", 1)))
    low, high = int(ml_dtypes.iinfo(dtype).min), int(ml_dtypes.iinfo(dtype).max)
    return (((x.astype("int32") - low) & (high - low)) + low).astype(kept)


def narrow_float(x: Any, dtype: np.dtype, saturate: bool) -> Any:
    """Round to the values of a float of 8 bits or fewer.

    Args:
        x: float32.
        dtype: the type.
        saturate: whether what is too large becomes the largest value.
    """
    info = ml_dtypes.finfo(dtype)
    has_inf = bool(np.isinf(np.float32(np.inf).astype(dtype).astype(np.float32)))
    _, exponent = fnp.frexp(x)
    least = math.frexp(float(info.smallest_normal))[1]
    step = fnp.ldexp(fnp.ones_like(x), fnp.maximum(exponent, least) - 1 - int(info.nmant))
    rounded = fnp.round(x / step) * step
    most = float(info.max)
    over = math.inf if has_inf else math.nan
    if dtype.name.startswith("float4"):
        return fnp.where(fnp.isnan(x), -0.0, fnp.clip(rounded, -most, most))
    if saturate:
        return fnp.where(fnp.isnan(x), x, fnp.clip(rounded, -most, most))
    return fnp.where(fnp.abs(rounded) > most, fnp.copysign(over, x), rounded)


def _cast(n: Node, x: Any) -> Any:
    return _cast_to(n, x, dtype_of(n.need("to"), n.place))


def _gelu(n: Node, x: Any) -> Any:
    return nn.gelu(array(x), approximate=n.one_of("approximate", "none", "tanh") == "tanh")


def _prelu(n: Node, x: Any, slope: Any) -> Any:
    x = array(x)
    return fnp.where(x < 0, slope * x, x)


def _softmax(f: Callable[..., Any]) -> Rule:
    """Before version 13, of the axes from one on as of one axis."""

    def rule(n: Node, x: Any) -> Any:
        x = array(x)
        if n.opset >= 13:
            return f(n, x, n.axis(x.ndim, -1))
        axis = n.axis(x.ndim, 1)
        flat = x.reshape(math.prod(x.shape[:axis]), -1)
        return f(n, flat, 1).reshape(x.shape)

    return rule


def _hardmax(n: Node, x: Any, axis: int) -> Any:
    best = fnp.argmax(x, axis=axis)
    return nn.one_hot(best, x.shape[axis], axis=axis, dtype=x.dtype)


def _dropout(n: Node, x: Any, ratio: Any = None, training: Any = None) -> Any:
    """In training, what is kept is drawn from the attribute seed and the number of the node."""
    x = array(x)
    kept = fnp.ones(x.shape, bool)
    if training is not None and bool(n.static(training, "training_mode")):
        drop = float(n.static(0.5 if ratio is None else ratio, "ratio"))
        if drop:
            kept = random.bernoulli(key_of(n), 1 - drop, x.shape)
            x = fnp.where(kept, x / (1 - drop), 0).astype(x.dtype)
    return (x, kept)[: max(n.outputs, 1)]


def key_of(n: Node) -> Any:
    """Return the key of a node that draws random numbers: of its seed, or of its place."""
    seed = n.get("seed")
    return random.key(n.number if seed is None else int(np.float32(seed).view(np.uint32)))


def _random(draw: Callable[..., Any], **defaults: float) -> Rule:
    def rule(n: Node, like: Any = None) -> Any:
        shape = n.need("shape") if like is None else like.shape
        number = n.get("dtype", 1 if like is None else None)
        dtype = like.dtype if number is None else dtype_of(number, n.place)
        return draw(key_of(n), tuple(shape), dtype, *(n.get(k, v) for k, v in defaults.items()))

    return rule


def _normal(key: Any, shape: Any, dtype: Any, mean: float, scale: float) -> Any:
    return random.normal(key, shape, dtype) * scale + mean


def _uniform(key: Any, shape: Any, dtype: Any, low: float, high: float) -> Any:
    return random.uniform(key, shape, dtype, low, high)


def _bernoulli(n: Node, x: Any) -> Any:
    x = array(x)
    dtype = dtype_of(n.get("dtype"), n.place) if n.get("dtype") else x.dtype
    return random.bernoulli(key_of(n), x).astype(dtype)


def _multinomial(n: Node, x: Any) -> Any:
    x = array(x)
    count = int(n.get("sample_size", 1))
    found = random.categorical(key_of(n), x[:, None, :], shape=(x.shape[0], count))
    return found.astype(dtype_of(n.get("dtype", 6), n.place))


def _selu(x: Any, alpha: float, gamma: float) -> Any:
    return gamma * fnp.where(x > 0, x, alpha * fnp.expm1(fnp.minimum(x, 0)))


def _shrink(x: Any, bias: float, lambd: float) -> Any:
    moved = fnp.where(x < -lambd, x + bias, fnp.where(x > lambd, x - bias, 0))
    return moved.astype(x.dtype)


def _celu(x: Any, alpha: float) -> Any:
    return fnp.maximum(x, 0) + fnp.minimum(alpha * fnp.expm1(x / alpha), 0)


ELEMENTWISE: dict[str, Rule] = {
    "Abs": _plain(fnp.abs), "Acos": _plain(fnp.arccos), "Acosh": _plain(fnp.arccosh),
    "Asin": _plain(fnp.arcsin), "Asinh": _plain(fnp.arcsinh), "Atan": _plain(fnp.arctan),
    "Atanh": _plain(fnp.arctanh), "Ceil": _plain(fnp.ceil), "Cos": _plain(fnp.cos),
    "Cosh": _plain(fnp.cosh), "Erf": _plain(lax.erf), "Exp": _plain(fnp.exp),
    "Floor": _plain(fnp.floor), "IsNaN": _plain(fnp.isnan), "Log": _plain(fnp.log),
    "Neg": _plain(fnp.negative), "Not": _plain(fnp.logical_not),
    "Reciprocal": _plain(lambda x: 1 / x), "Round": _plain(fnp.round),
    "Sigmoid": _plain(nn.sigmoid), "Sign": _plain(fnp.sign), "Sin": _plain(fnp.sin),
    "Sinh": _plain(fnp.sinh), "Sqrt": _plain(fnp.sqrt), "Tan": _plain(fnp.tan),
    "Tanh": _plain(fnp.tanh), "Relu": _plain(lambda x: fnp.maximum(x, 0)),
    "Softplus": _plain(nn.softplus), "Softsign": _plain(nn.soft_sign),
    "Mish": _plain(nn.mish), "HardSwish": _plain(nn.hard_swish),
    "Identity": lambda n, x: x, "BitwiseNot": _plain(fnp.bitwise_not),
    "Add": _plain(fnp.add), "Sub": _plain(fnp.subtract), "Mul": _plain(fnp.multiply),
    "Div": _div, "Mod": _mod, "Pow": _pow, "BitShift": _shift,
    "And": _plain(fnp.logical_and), "Or": _plain(fnp.logical_or), "Xor": _plain(fnp.logical_xor),
    "BitwiseAnd": _plain(fnp.bitwise_and), "BitwiseOr": _plain(fnp.bitwise_or),
    "BitwiseXor": _plain(fnp.bitwise_xor),
    "Equal": _plain(fnp.equal), "Greater": _plain(fnp.greater), "Less": _plain(fnp.less),
    "GreaterOrEqual": _plain(fnp.greater_equal), "LessOrEqual": _plain(fnp.less_equal),
    "Max": _folded(fnp.maximum), "Min": _folded(fnp.minimum), "Sum": _folded(fnp.add),
    "Mean": lambda n, *xs: functools.reduce(fnp.add, map(array, xs)) / len(xs),
    "Where": _plain(fnp.where), "PRelu": _prelu, "Clip": _clip, "IsInf": _is_inf,
    "Elu": _with(lambda x, alpha: fnp.where(x > 0, x, alpha * fnp.expm1(fnp.minimum(x, 0))),
                 alpha=1.0),
    "Celu": _with(_celu, alpha=1.0),
    "Selu": _with(_selu, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    "LeakyRelu": _with(lambda x, alpha: fnp.where(x >= 0, x, alpha * x), alpha=0.01),
    "HardSigmoid": _with(lambda x, alpha, beta: fnp.clip(alpha * x + beta, 0, 1),
                         alpha=0.2, beta=0.5),
    "ThresholdedRelu": _with(lambda x, alpha: fnp.where(x > alpha, x, fnp.zeros_like(x)),
                             alpha=1.0),
    "Swish": _with(lambda x, alpha: x * nn.sigmoid(alpha * x), alpha=1.0),
    "Shrink": _with(_shrink, bias=0.0, lambd=0.5),
    "Gelu": _gelu, "Cast": _cast, "CastLike": lambda n, x, like: _cast_to(n, x, like.dtype),
    "BitCast": lambda n, x: lax.bitcast_convert_type(array(x), dtype_of(n.need("to"), n.place)),
    "Softmax": _softmax(lambda n, x, axis: nn.softmax(x, axis=axis)),
    "LogSoftmax": _softmax(lambda n, x, axis: nn.log_softmax(x, axis=axis)),
    "Hardmax": _softmax(_hardmax), "Dropout": _dropout, "Bernoulli": _bernoulli,
    "RandomNormal": _random(_normal, mean=0.0, scale=1.0),
    "RandomNormalLike": _random(_normal, mean=0.0, scale=1.0),
    "RandomUniform": _random(_uniform, low=0.0, high=1.0),
    "RandomUniformLike": _random(_uniform, low=0.0, high=1.0), "Multinomial": _multinomial,
}  # fmt: skip


# ------------------------------------------------------------------------------ reductions
def _reduction(f: Callable[..., Any], neutral: Any = None) -> Rule:
    """A reduction over the axes of an attribute or an operand; of no axes, over all of them."""

    def rule(n: Node, x: Any, axes: Any = None) -> Any:
        x, found = array(x), n.axes(axes)
        if not found:
            if n.get("noop_with_empty_axes", 0):
                return f(x, (), False)
            found = list(range(x.ndim))
        over = tuple(n.place_of(a, x.ndim) for a in found) if x.ndim else ()
        return f(x, over, bool(n.get("keepdims", 1))).astype(x.dtype)

    return rule


def _extreme(f: Callable[..., Any], sign: int) -> Callable[..., Any]:
    def reduce(x: Any, axes: Any, keepdims: bool) -> Any:
        if dtypes.is_bool(x.dtype):
            every = fnp.any if sign < 0 else fnp.all
            return every(x, axis=axes, keepdims=keepdims)
        if dtypes.is_float(x.dtype):
            return f(x, axis=axes, keepdims=keepdims, initial=sign * math.inf)
        info = np.iinfo(x.dtype)
        return f(x, axis=axes, keepdims=keepdims, initial=info.max if sign > 0 else info.min)

    return reduce


def _log_sum_exp(x: Any, axes: Any, keepdims: bool) -> Any:
    return nn.logsumexp(x, axis=axes, keepdims=keepdims)


def _keep(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axes, keepdims: f(x, axis=axes, keepdims=keepdims)


def _arg(f: Callable[..., Any]) -> Rule:
    def rule(n: Node, x: Any) -> Any:
        x = array(x)
        axis = n.axis(x.ndim, 0)
        if n.get("select_last_index", 0):
            found = x.shape[axis] - 1 - f(fnp.flip(x, axis), axis=axis)
        else:
            found = f(x, axis=axis)
        found = found.astype("int64")
        return fnp.expand_dims(found, axis) if n.get("keepdims", 1) else found

    return rule


def _cumulative(f: Callable[..., Any], neutral: int) -> Rule:
    def rule(n: Node, x: Any, axis: Any) -> Any:
        x = array(x)
        d, back = n.place_of(n.number_of(axis, "axis"), x.ndim), bool(n.get("reverse", 0))
        found = f(x, axis=d, reverse=back)
        if n.get("exclusive", 0) and x.shape[d]:
            first = fnp.full_like(lax.slice_in_dim(x, 0, 1, axis=d), neutral)
            size = x.shape[d]
            rest = lax.slice_in_dim(found, int(back), size - (not back), axis=d)
            found = fnp.concatenate([rest, first] if back else [first, rest], axis=d)
        return found.astype(x.dtype)

    return rule


def _mean_variance(n: Node, x: Any) -> Any:
    x, axes = array(x), tuple(n.get("axes", (0, 2, 3)))
    mean = x.mean(axes, keepdims=True)
    spread = fnp.sqrt((x * x).mean(axes, keepdims=True) - mean * mean)
    return (x - mean) / (spread + 1e-9)


REDUCTIONS: dict[str, Rule] = {
    "ReduceSum": _reduction(_keep(fnp.sum)), "ReduceProd": _reduction(_keep(fnp.prod)),
    "ReduceMean": _reduction(_keep(fnp.mean)),
    "ReduceMax": _reduction(_extreme(fnp.max, -1)), "ReduceMin": _reduction(_extreme(fnp.min, 1)),
    "ReduceL1": _reduction(lambda x, a, k: fnp.sum(fnp.abs(x), axis=a, keepdims=k)),
    "ReduceL2": _reduction(lambda x, a, k: fnp.sqrt(fnp.sum(x * x, axis=a, keepdims=k))),
    "ReduceSumSquare": _reduction(lambda x, a, k: fnp.sum(x * x, axis=a, keepdims=k)),
    "ReduceLogSum": _reduction(lambda x, a, k: fnp.log(fnp.sum(x, axis=a, keepdims=k))),
    "ReduceLogSumExp": _reduction(_log_sum_exp),
    "ArgMax": _arg(fnp.argmax), "ArgMin": _arg(fnp.argmin),
    "CumSum": _cumulative(lax.cumsum, 0), "CumProd": _cumulative(lax.cumprod, 1),
    "MeanVarianceNormalization": _mean_variance,
}  # fmt: skip
