"""Rules of ONNX's operators of neural networks: products, convolutions, pools, norms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes, lax

from .node import Node, Rule, array, dtype_of

__all__ = ["NETWORKS", "conv", "convolution", "float_of"]

Pads = list[tuple[int, int]]


def float_of(n: Node, x: Any) -> Any:
    """Return an array in the precision that norms are computed in."""
    return x.astype(dtype_of(int(n.get("stash_type", 1)), n.place)) if x.dtype != np.float64 else x


# ------------------------------------------------------------------------------ products
def _gemm(n: Node, a: Any, b: Any, c: Any = None) -> Any:
    a, b = array(a), array(b)
    a = a.T if n.get("transA", 0) else a
    b = b.T if n.get("transB", 0) else b
    out = _scaled(fnp.matmul(a, b), n.get("alpha", 1.0))
    return out if c is None else out + _scaled(array(c), n.get("beta", 1.0))


def _scaled(x: Any, factor: float) -> Any:
    return x if factor == 1 else (x * factor).astype(x.dtype)


def _einsum(n: Node, *xs: Any) -> Any:
    return fnp.einsum(n.need("equation"), *map(array, xs))


# ------------------------------------------------------------------------------ convolutions
def window(n: Node, space: Sequence[int], kernel: Sequence[int]) -> tuple[Any, Any, Pads]:
    """Return the strides, dilations and borders of windows."""
    count = len(space)
    if len(kernel) != count:
        raise n.error(f"its kernel_shape {list(kernel)} is not for {count} axes of space")
    strides = list(n.get("strides", [1] * count))
    dilations = list(n.get("dilations", [1] * count))
    given = list(n.get("pads", [0] * 2 * count))
    if not len(strides) == len(dilations) == len(given) // 2 == count or min(strides) < 1:
        raise n.error(f"its strides, dilations or pads are not for {count} axes of space")
    way = n.one_of("auto_pad", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    if not way.startswith("SAME"):
        given = [0] * 2 * count if way == "VALID" else given
        return strides, dilations, list(zip(given[:count], given[count:], strict=True))
    pads: Pads = []
    for size, k, s, d in zip(space, kernel, strides, dilations, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        small, large = total // 2, total - total // 2
        pads.append((small, large) if way == "SAME_UPPER" else (large, small))
    return strides, dilations, pads


def conv(n: Node, x: Any, w: Any, bias: Any = None) -> Any:
    """Convolve floats."""
    return _biased(convolution(n, array(x), array(w)), bias)


def _biased(y: Any, bias: Any) -> Any:
    return y if bias is None else y + array(bias).reshape(-1, *[1] * (y.ndim - 2))


def convolution(n: Node, x: Any, w: Any) -> Any:
    """Convolve arrays of one dtype as an operator's attributes say."""
    if "kernel_shape" in n.attributes and tuple(n.get("kernel_shape")) != w.shape[2:]:
        raise n.error(f"its kernel_shape is {n.get('kernel_shape')}, and its weights {w.shape}")
    strides, dilations, pads = window(n, x.shape[2:], w.shape[2:])
    groups = int(n.get("group", 1))
    return lax.conv_general_dilated(
        x, w, strides, pads, rhs_dilation=dilations, feature_group_count=groups
    )


def _conv_transpose(n: Node, x: Any, w: Any, bias: Any = None) -> Any:
    x, w = array(x), array(w)
    space, kernel = x.shape[2:], w.shape[2:]
    count, groups = len(space), int(n.get("group", 1))
    strides = list(n.get("strides", [1] * count))
    dilations = list(n.get("dilations", [1] * count))
    more = list(n.get("output_padding", [0] * count))
    given = list(n.get("pads", [0] * 2 * count))
    way = n.one_of("auto_pad", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    wanted = n.get("output_shape")
    if wanted is None and way.startswith("SAME"):
        wanted = [m * s for m, s in zip(space, strides, strict=True)]
    pads = []
    for k in range(count):
        span = (kernel[k] - 1) * dilations[k] + 1
        lo, hi = given[k], given[k + count]
        if wanted is not None:
            total = strides[k] * (space[k] - 1) + more[k] + span - wanted[k]
            small, large = total // 2, total - total // 2
            lo, hi = (small, large) if way == "SAME_UPPER" else (large, small)
        elif way == "VALID":
            lo = hi = 0
        pads.append((span - 1 - lo, span - 1 - hi + more[k]))
    parts = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    flipped = fnp.flip(fnp.swapaxes(parts, 1, 2), tuple(range(3, 3 + count)))
    y = lax.conv_general_dilated(
        x, flipped.reshape(-1, w.shape[0] // groups, *kernel), [1] * count, pads,
        lhs_dilation=strides, rhs_dilation=dilations, feature_group_count=groups,
    )  # fmt: skip
    return _biased(y, bias)


def _deform_conv(n: Node, x: Any, w: Any, offset: Any, bias: Any = None, mask: Any = None) -> Any:
    """A convolution whose taps lie where offsets say, between pixels (two axes of space)."""
    x, w, offset = array(x), array(w), array(offset)
    kernel = w.shape[2:]
    if len(kernel) != 2:
        raise n.unsupported(f"it has {len(kernel)} axes of space; two are translated")
    strides, dilations, pads = window(n, x.shape[2:], kernel)
    groups, of_offsets = int(n.get("group", 1)), int(n.get("offset_group", 1))
    batch, features, height, width = x.shape
    out, taps = offset.shape[2:], math.prod(kernel)
    moved = offset.reshape(batch, of_offsets, taps, 2, *out)
    grid = np.stack(np.meshgrid(*map(np.arange, kernel), indexing="ij"), -1).reshape(taps, 2)
    places = []
    for k in range(2):
        steps = np.arange(out[k]) * strides[k] - pads[k][0]
        wide = steps.reshape([-1, 1] if k == 0 else [1, -1])
        start = wide + (grid[:, k] * dilations[k]).reshape(taps, 1, 1)
        places.append(moved[:, :, :, k] + start.astype(x.dtype))
    planes = x.reshape(batch, of_offsets, features // of_offsets, height, width)
    total = 0
    for corner in itertools.product((0, 1), repeat=2):
        near = [fnp.floor(p) + c for p, c in zip(places, corner, strict=True)]
        weight = 1
        for p, q in zip(places, near, strict=True):
            weight = weight * (1 - fnp.abs(p - q))
        inside = (near[0] >= 0) & (near[0] < height) & (near[1] >= 0) & (near[1] < width)
        rows = fnp.clip(near[0], 0, height - 1).astype("int32")
        columns = fnp.clip(near[1], 0, width - 1).astype("int32")
        b = fnp.arange(batch).reshape(-1, 1, 1, 1, 1)
        o = fnp.arange(of_offsets).reshape(1, -1, 1, 1, 1)
        found = fnp.moveaxis(planes, 2, -1)[b, o, rows, columns]
        total = total + found * fnp.where(inside, weight, 0)[..., None]
    if mask is not None:
        total = total * array(mask).reshape(batch, of_offsets, taps, *out)[..., None]
    columns = fnp.moveaxis(total, -1, 2).reshape(batch, groups, features // groups, taps, *out)
    weights = w.reshape(groups, -1, features // groups, taps)
    y = fnp.einsum("bgctij,goct->bgoij", columns, weights)
    return _biased(y.reshape(batch, w.shape[0], *out), bias)


# ------------------------------------------------------------------------------ pools
def _pooling(n: Node, x: Any, kernel: Sequence[int]) -> tuple[Any, Any, Pads, Pads]:
    """Return strides, dilations, borders, and borders that windows over the end need."""
    space = x.shape[2:]
    strides, dilations, pads = window(n, space, kernel)
    same = n.get("auto_pad", "NOTSET").startswith("SAME")
    wider = []
    for size, k, s, d, (lo, hi) in zip(space, kernel, strides, dilations, pads, strict=True):
        span = (k - 1) * d + 1
        room = size + lo + hi - span
        if n.get("ceil_mode", 0) and not same:
            count = -(-room // s) + 1
            count -= (count - 1) * s >= size + lo
        else:
            count = room // s + 1
        if room < 0 or span > 1 << 31:
            raise n.error(f"its window of {list(kernel)} is larger than {list(space)} with pads")
        wider.append((lo, (count - 1) * s + span - size - lo))
    return strides, dilations, pads, wider


def _windows(x: Any, start: Any, f: Any, kernel: Any, strides: Any, pads: Any, dil: Any) -> Any:
    return lax.reduce_window(
        x, np.asarray(start, x.dtype), f, (1, 1, *kernel), (1, 1, *strides),
        [(0, 0), (0, 0), *pads], window_dilation=(1, 1, *dil),
    )  # fmt: skip


def _lowest(dtype: Any) -> Any:
    return -math.inf if dtypes.is_float(dtype) else np.iinfo(dtype).min


def _max_pool(n: Node, x: Any) -> Any:
    x, kernel = array(x), list(n.need("kernel_shape"))
    strides, dilations, _, pads = _pooling(n, x, kernel)
    low = _lowest(x.dtype)
    if n.outputs < 2:
        narrow = dtypes.is_integer(x.dtype)
        wide = x.astype("float32") if narrow and x.dtype.itemsize < 4 else x
        start = _lowest(wide.dtype)
        return _windows(wide, start, lax.max, kernel, strides, pads, dilations).astype(x.dtype)
    taps, places = [], []
    space = x.shape[2:]
    wide = fnp.pad(x, [(0, 0), (0, 0), *((lo, max(hi, 0)) for lo, hi in pads)], constant_values=low)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    counts = [
        (m + lo + hi - span) // s + 1
        for m, (lo, hi), span, s in zip(space, pads, spans, strides, strict=True)
    ]
    order = range(len(space)) if n.get("storage_order", 0) == 0 else range(len(space))[::-1]
    steps = _steps(space, order)
    for tap in itertools.product(*map(range, kernel)):
        start = [k * d for k, d in zip(tap, dilations, strict=True)]
        cut = [
            slice(a, a + (c - 1) * s + 1, s) for a, c, s in zip(start, counts, strides, strict=True)
        ]
        taps.append(wide[(slice(None), slice(None), *cut)])
        where = [
            np.arange(c) * s + a - lo
            for c, s, a, (lo, _) in zip(counts, strides, start, pads, strict=True)
        ]
        grid = np.meshgrid(*where, indexing="ij")
        places.append(sum(g * s for g, s in zip(grid, steps, strict=True)))
    best = fnp.argmax(fnp.stack(taps), axis=0)
    flat = fnp.asarray(np.stack(places).reshape(len(taps), *[1, 1], *counts).astype(np.int64))
    number = fnp.take_along_axis(fnp.broadcast_to(flat, (len(taps), *best.shape)), best[None], 0)
    plane = fnp.arange(math.prod(x.shape[:2]), dtype="int64").reshape(*x.shape[:2])
    first = (plane * math.prod(space)).reshape(*x.shape[:2], *[1] * len(space))
    return fnp.max(fnp.stack(taps), axis=0), number[0] + first


def _steps(space: Sequence[int], order: Sequence[int]) -> list[int]:
    """Return how far apart neighbours lie along each axis; the last in order are next to each
    other."""
    steps, step = [0] * len(space), 1
    for d in list(order)[::-1]:
        steps[d] = step
        step *= space[d]
    return steps


def _average_pool(n: Node, x: Any) -> Any:
    x, kernel = array(x), list(n.need("kernel_shape"))
    strides, dilations, pads, wider = _pooling(n, x, kernel)
    total = _windows(x, 0, lax.add, kernel, strides, wider, dilations)
    counted = np.ones([1] * len(kernel))
    for d, (size, k, s, dil) in enumerate(
        zip(x.shape[2:], kernel, strides, dilations, strict=True)
    ):
        lo, hi = pads[d] if n.get("count_include_pad", 0) else (0, 0)
        taps = np.arange(total.shape[2 + d])[:, None] * s - pads[d][0] + np.arange(k) * dil
        inside = ((taps >= -lo) & (taps < size + hi)).sum(1)
        wide = [1] * len(kernel)
        wide[d] = -1
        counted = counted * inside.reshape(wide)
    return total / fnp.asarray(np.maximum(counted, 1).astype(x.dtype))


def _lp_pool(n: Node, x: Any) -> Any:
    x, kernel, p = array(x), list(n.need("kernel_shape")), n.get("p", 2)
    strides, dilations, _, pads = _pooling(n, x, kernel)
    total = _windows(fnp.abs(x) ** p, 0, lax.add, kernel, strides, pads, dilations)
    return (total ** (1 / p)).astype(x.dtype)


def _global(f: Callable[[Any, Any], Any]) -> Rule:
    def rule(n: Node, x: Any) -> Any:
        x = array(x)
        return f(x, tuple(range(2, x.ndim)))

    return rule


def _global_lp(n: Node, x: Any) -> Any:
    x, p = array(x), n.get("p", 2)
    total = fnp.sum(fnp.abs(x) ** p, axis=tuple(range(2, x.ndim)), keepdims=True)
    return (total ** (1 / p)).astype(x.dtype)


def _max_unpool(n: Node, x: Any, indices: Any, shape: Any = None) -> Any:
    x, indices = array(x), array(indices)
    kernel = list(n.need("kernel_shape"))
    strides, _, pads = window(n, x.shape[2:], kernel)
    sizes = [
        (m - 1) * s + k - lo - hi
        for m, s, k, (lo, hi) in zip(x.shape[2:], strides, kernel, pads, strict=True)
    ]
    out = [*x.shape[:2], *sizes]
    flat = fnp.zeros(math.prod(out), x.dtype).at[indices.reshape(-1)].set(x.reshape(-1))
    found = flat.reshape(out)
    if shape is None:
        return found
    wanted = n.numbers(shape, "output_shape")
    return fnp.pad(found, [(0, b - a) for a, b in zip(out, wanted, strict=True)])


def _col2im(n: Node, x: Any, image: Any, block: Any) -> Any:
    """Add up the columns of windows where they came from."""
    x = array(x)
    space, kernel = n.numbers(image, "image_shape"), n.numbers(block, "block_shape")
    strides, dilations, pads = window(n, space, kernel)
    wide = [m + lo + hi for m, (lo, hi) in zip(space, pads, strict=True)]
    counts = [
        (m - (k - 1) * d - 1) // s + 1
        for m, k, d, s in zip(wide, kernel, dilations, strides, strict=True)
    ]
    taps = x.reshape(x.shape[0], -1, math.prod(kernel), *counts)
    out = fnp.zeros((*taps.shape[:2], *wide), x.dtype)
    for number, tap in enumerate(itertools.product(*map(range, kernel))):
        cut = [
            slice(k * d, k * d + (c - 1) * s + 1, s)
            for k, d, c, s in zip(tap, dilations, counts, strides, strict=True)
        ]
        out = out.at[(slice(None), slice(None), *cut)].add(taps[:, :, number])
    inside = [slice(lo, lo + m) for m, (lo, _) in zip(space, pads, strict=True)]
    return out[(slice(None), slice(None), *inside)]


# ------------------------------------------------------------------------------ norms
def _batch_norm(n: Node, x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
    x, mean, var = array(x), array(mean), array(var)
    wide = (-1, *[1] * (x.ndim - 2))
    if not n.get("training_mode", 0):
        factor = array(scale) / fnp.sqrt(var + n.get("epsilon", 1e-5))
        shift = array(bias) - mean * factor
        return (x * factor.reshape(wide) + shift.reshape(wide)).astype(x.dtype)
    axes = (0, *range(2, x.ndim))
    here, spread = x.mean(axes), x.var(axes)
    y = (x - here.reshape(wide)) / fnp.sqrt(spread + n.get("epsilon", 1e-5)).reshape(wide)
    y = y * array(scale).reshape(wide) + array(bias).reshape(wide)
    keep = n.get("momentum", 0.9)
    running = (mean * keep + here * (1 - keep), var * keep + spread * (1 - keep))
    kept = (v.astype(old.dtype) for v, old in zip(running, (mean, var), strict=True))
    return (y.astype(x.dtype), *kept)[: n.outputs]


def _standard(x: Any, axes: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Return an array with mean 0 and variance 1, its mean, and one over its deviation."""
    mean = x.mean(axes, keepdims=True)
    apart = x - mean
    inverse = lax.rsqrt((apart * apart).mean(axes, keepdims=True) + epsilon)
    return apart * inverse, mean, inverse


def _instance_norm(n: Node, x: Any, scale: Any, bias: Any) -> Any:
    x = array(x)
    wide = (-1, *[1] * (x.ndim - 2))
    y, _, _ = _standard(x, tuple(range(2, x.ndim)), n.get("epsilon", 1e-5))
    return y * array(scale).reshape(wide) + array(bias).reshape(wide)


def _layer_norm(n: Node, x: Any, scale: Any, bias: Any = None) -> Any:
    x = array(x)
    axes = tuple(range(n.axis(x.ndim, -1), x.ndim))
    y, mean, inverse = _standard(float_of(n, x), axes, n.get("epsilon", 1e-5))
    y = y.astype(x.dtype) * array(scale)
    y = y if bias is None else y + array(bias)
    return (y, mean, inverse)[: n.outputs]


def _rms_norm(n: Node, x: Any, scale: Any) -> Any:
    x = array(x)
    axes, wide = tuple(range(n.axis(x.ndim, -1), x.ndim)), float_of(n, array(x))
    power = (wide * wide).mean(axes, keepdims=True)
    y = wide * lax.rsqrt(power + n.get("epsilon", 1e-5))
    return y.astype(x.dtype) * array(scale)


def _group_norm(n: Node, x: Any, scale: Any, bias: Any) -> Any:
    """Before version 21, scale and bias are those of groups."""
    x, groups = array(x), int(n.need("num_groups"))
    parts = float_of(n, x).reshape(x.shape[0], groups, -1)
    y, _, _ = _standard(parts, 2, n.get("epsilon", 1e-5))
    y = y.astype(x.dtype)
    if n.opset < 21:
        y = y * array(scale).reshape(-1, 1) + array(bias).reshape(-1, 1)
        return y.reshape(x.shape)
    wide = (-1, *[1] * (x.ndim - 2))
    return y.reshape(x.shape) * array(scale).reshape(wide) + array(bias).reshape(wide)


def _lrn(n: Node, x: Any) -> Any:
    x, size = array(x), int(n.need("size"))
    low = (size - 1) // 2
    around = [(0, 0)] * x.ndim
    around[1] = (low, size - 1 - low)
    shape = [1] * x.ndim
    shape[1] = size
    zero = np.asarray(0, x.dtype)
    total = lax.reduce_window(x * x, zero, lax.add, shape, [1] * x.ndim, around)
    scale = n.get("bias", 1.0) + n.get("alpha", 1e-4) / size * total
    return x / scale ** n.get("beta", 0.75)


def _lp_normalization(n: Node, x: Any) -> Any:
    x = array(x)
    axis = n.axis(x.ndim, -1)
    if n.get("p", 2) == 1:
        norm = fnp.sum(fnp.abs(x), axis=axis, keepdims=True)
    else:
        norm = fnp.sqrt(fnp.sum(x * x, axis=axis, keepdims=True))
    return fnp.where(norm == 0, fnp.zeros_like(x), x / fnp.where(norm == 0, 1, norm))


NETWORKS: dict[str, Rule] = {
    "Gemm": _gemm, "MatMul": lambda n, a, b: fnp.matmul(array(a), array(b)), "Einsum": _einsum,
    "Conv": conv, "ConvTranspose": _conv_transpose, "DeformConv": _deform_conv,
    "MaxPool": _max_pool, "AveragePool": _average_pool, "LpPool": _lp_pool,
    "GlobalAveragePool": _global(lambda x, axes: x.mean(axes, keepdims=True)),
    "GlobalMaxPool": _global(lambda x, axes: x.max(axes, keepdims=True)),
    "GlobalLpPool": _global_lp, "MaxUnpool": _max_unpool, "Col2Im": _col2im,
    "BatchNormalization": _batch_norm, "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm, "RMSNormalization": _rms_norm,
    "GroupNormalization": _group_norm, "LRN": _lrn, "LpNormalization": _lp_normalization,
}  # fmt: skip
