"""Rules of ONNX's operators that make, move, cut, gather and scatter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import lax

from .node import Node, Rule, array, dtype_of

__all__ = ["SHAPES"]


def _vector(numbers: Sequence[int]) -> np.ndarray:
    return np.asarray(numbers, np.int64)


# ------------------------------------------------------------------------------ making
def _constant(n: Node) -> Any:
    kinds = {
        "value_int": np.int64, "value_ints": np.int64, "value_float": np.float32,
        "value_floats": np.float32, "value_string": object, "value_strings": object,
    }  # fmt: skip
    for name, value in n.attributes.items():
        if name in kinds:
            return np.asarray(value, kinds[name])
        if name in ("value", "sparse_value"):
            return value
    raise n.error("a Constant has no value")


def _constant_of_shape(n: Node, shape: Any) -> Any:
    value = np.asarray(n.get("value", np.zeros(1, np.float32)))
    return fnp.full(n.numbers(shape, "shape"), value.reshape(()), value.dtype)


def _range(n: Node, start: Any, limit: Any, delta: Any) -> Any:
    a, b, step = (
        n.static(x, w).reshape(())
        for x, w in ((start, "start"), (limit, "limit"), (delta, "delta"))
    )
    if step == 0:
        raise n.error("its delta is 0")
    wide = np.float64 if a.dtype.kind not in "iu" else np.int64
    count = max(math.ceil((b.astype(wide) - a.astype(wide)) / step.astype(wide)), 0)
    steps = fnp.arange(count, dtype=a.dtype if a.dtype.kind in "iu" else np.float64)
    return (steps * step + a).astype(a.dtype)


def _eye_like(n: Node, x: Any) -> Any:
    dtype = dtype_of(n.get("dtype"), n.place) if n.get("dtype") else x.dtype
    rows, columns = x.shape
    return fnp.eye(rows, columns, int(n.get("k", 0)), dtype)


def _one_hot(n: Node, indices: Any, depth: Any, values: Any) -> Any:
    count, values, indices = n.number_of(depth, "depth"), array(values), array(indices)
    axis = n.axis(indices.ndim + 1, -1)
    places = fnp.expand_dims(indices, axis).astype("int64")
    wide = [1] * (indices.ndim + 1)
    wide[axis] = count
    found = fnp.where(places < 0, places + count, places) == fnp.arange(count).reshape(wide)
    return fnp.where(found, values[1], values[0])


# ------------------------------------------------------------------------------ shapes
def _shape(n: Node, x: Any) -> Any:
    shape = x.shape[slice(n.get("start", 0), n.get("end"))]
    return _vector(shape)


def _reshape(n: Node, x: Any, shape: Any = None) -> Any:
    x = array(x)
    wanted = n.numbers(shape, "shape") if shape is not None else list(n.need("shape"))
    if not n.get("allowzero", 0):
        wanted = [x.shape[k] if m == 0 and k < x.ndim else m for k, m in enumerate(wanted)]
    return x.reshape(wanted)


def _flatten(n: Node, x: Any) -> Any:
    x = array(x)
    axis = int(n.get("axis", 1))
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _squeeze(n: Node, x: Any, axes: Any = None) -> Any:
    x, found = array(x), n.axes(axes)
    return fnp.squeeze(x, None if found is None else tuple(found))


def _unsqueeze(n: Node, x: Any, axes: Any = None) -> Any:
    return fnp.expand_dims(array(x), tuple(n.axes(axes)))


def _transpose(n: Node, x: Any) -> Any:
    x = array(x)
    return fnp.transpose(x, n.get("perm", range(x.ndim)[::-1]))


def _concat(n: Node, *xs: Any) -> Any:
    return fnp.concatenate(list(map(array, xs)), axis=int(n.get("axis", 1)))


def _split(n: Node, x: Any, sizes: Any = None) -> Any:
    x = array(x)
    axis = n.axis(x.ndim, 0)
    found = n.axes(sizes, "split")
    if found is None:
        count = int(n.get("num_outputs", n.outputs))
        if count != n.outputs:
            raise n.error(f"its num_outputs is {count}, and it has {n.outputs} results")
        each = -(-x.shape[axis] // count)
        found = [min(each, max(x.shape[axis] - k * each, 0)) for k in range(count)]
    if sum(found) != x.shape[axis]:
        raise n.error(f"its parts {found} are not {x.shape[axis]} together")
    return tuple(fnp.split(x, np.cumsum(found)[:-1].tolist(), axis=axis))


def _slice(n: Node, x: Any, *bounds: Any) -> Any:
    x = array(x)
    if not bounds:
        bounds = tuple(_vector(n.get(k)) for k in ("starts", "ends", "axes") if k in n.attributes)
    given: list[Any] = [*bounds, *[None] * (4 - len(bounds))]
    start, stop, axes, step = given
    starts, stops = n.numbers(start, "starts"), n.numbers(stop, "ends")
    places = range(len(starts)) if axes is None else n.numbers(axes, "axes")
    steps = [1] * len(starts) if step is None else n.numbers(step, "steps")
    cut: list[Any] = [slice(None)] * x.ndim
    for a, b, d, s in zip(starts, stops, places, steps, strict=True):
        d = n.place_of(d, x.ndim)
        size = x.shape[d]
        low, high = (0, size) if s > 0 else (-1, size - 1)
        a, b = ((v + size if v < 0 else v) for v in (a, b))
        a, b = (min(max(v, low), high) for v in (a, b))
        cut[d] = slice(max(a, 0) if s > 0 else a, None if b < 0 else b, s)
        if s < 0 and a < 0:
            cut[d] = slice(0, 0)
    return x[tuple(cut)]


def _pad(n: Node, x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    x = array(x)
    found = n.axes(pads, "pads")
    found = list(n.get("paddings", ())) if found is None else found
    places = range(x.ndim) if axes is None else n.numbers(axes, "axes")
    half = len(found) // 2
    width = [(0, 0)] * x.ndim
    for k, d in enumerate(places):
        width[n.place_of(d, x.ndim)] = (found[k], found[k + half])
    mode = n.one_of("mode", "constant", "reflect", "edge", "wrap")
    if mode != "constant" or not any(min(pair) < 0 for pair in width):
        cut = x
    else:
        cut = x[
            tuple(
                slice(max(-a, 0), m - max(-b, 0)) for (a, b), m in zip(width, x.shape, strict=True)
            )
        ]
        width = [(max(a, 0), max(b, 0)) for a, b in width]
    if mode != "constant":
        return fnp.pad(cut, width, mode=mode)
    value = n.get("value", 0) if value is None else array(value).reshape(())
    return fnp.pad(cut, width, constant_values=value)


def _expand(n: Node, x: Any, shape: Any) -> Any:
    x = array(x)
    wanted = np.broadcast_shapes(x.shape, tuple(n.numbers(shape, "shape")))
    return fnp.broadcast_to(x, wanted)


def _depth_to_space(n: Node, x: Any) -> Any:
    x, size = array(x), int(n.need("blocksize"))
    b, c, h, w = x.shape
    if n.one_of("mode", "DCR", "CRD") == "DCR":
        y = x.reshape(b, size, size, c // size**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(b, c // size**2, size, size, h, w).transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(b, c // size**2, h * size, w * size)


def _space_to_depth(n: Node, x: Any) -> Any:
    x, size = array(x), int(n.need("blocksize"))
    b, c, h, w = x.shape
    order = (0, 3, 5, 1, 2, 4) if n.one_of("mode", "DCR", "CRD") == "DCR" else (0, 1, 3, 5, 2, 4)
    y = x.reshape(b, c, h // size, size, w // size, size).transpose(order)
    return y.reshape(b, c * size**2, h // size, w // size)


def _center_crop_pad(n: Node, x: Any, shape: Any) -> Any:
    x, sizes = array(x), n.numbers(shape, "shape")
    for d, size in zip(n.get("axes", range(x.ndim)), sizes, strict=True):
        d, more = n.place_of(d, x.ndim), size - x.shape[n.place_of(d, x.ndim)]
        if more < 0:
            x = lax.slice_in_dim(x, -more // 2, -more // 2 + size, axis=d)
        elif more:
            width = [(0, 0)] * x.ndim
            width[d] = (more // 2, more - more // 2)
            x = fnp.pad(x, width)
    return x


def _reverse_sequence(n: Node, x: Any, lengths: Any) -> Any:
    x, lengths = array(x), array(lengths)
    batch, time = int(n.get("batch_axis", 1)), int(n.get("time_axis", 0))
    steps = fnp.arange(x.shape[time])
    wide = fnp.expand_dims(lengths.astype("int32"), 1)
    places = fnp.where(steps < wide, wide - 1 - steps, steps)  # (batch, time)
    places = places if batch < time else places.T
    shape = [x.shape[d] if d in (batch, time) else 1 for d in range(x.ndim)]
    return fnp.take_along_axis(x, fnp.broadcast_to(places.reshape(shape), x.shape), axis=time)


# ------------------------------------------------------------------------------ indexing
def _wrapped(indices: Any, size: int) -> Any:
    """Return indices from the end counted from the front."""
    indices = array(indices)
    if indices.dtype.kind == "u":
        return indices
    return fnp.where(indices < 0, indices + size, indices)


def _gather(n: Node, x: Any, indices: Any) -> Any:
    x = array(x)
    axis = n.axis(x.ndim, 0)
    if isinstance(indices, np.ndarray):
        indices = np.where(indices < 0, indices + x.shape[axis], indices)
        if indices.size and not 0 <= indices.min() <= indices.max() < x.shape[axis]:
            raise n.error(f"its indices leave the axis of size {x.shape[axis]}")
    else:
        indices = _wrapped(indices, x.shape[axis])
    return fnp.take(x, indices, axis=axis, mode="clip")


def _gather_elements(n: Node, x: Any, indices: Any) -> Any:
    x = array(x)
    axis = n.axis(x.ndim, 0)
    return x[_along(x, _wrapped(indices, x.shape[axis]), axis)]


def _along(x: Any, indices: Any, axis: int) -> tuple[Any, ...]:
    """Return indices of all axes: on one axis the given ones, on the others their own places."""
    grid: list[Any] = []
    for d, size in enumerate(indices.shape):
        wide = [1] * indices.ndim
        wide[d] = size
        grid.append(fnp.arange(size).reshape(wide))
    grid[axis] = indices
    return tuple(grid)


def _batched(x: Any, indices: Any, batch: int) -> tuple[Any, ...]:
    """Return what GatherND's indices are in each axis of the array."""
    found: list[Any] = []
    lead = indices.ndim - 1
    for d in range(batch):
        wide = [1] * lead
        wide[d] = indices.shape[d]
        found.append(fnp.arange(indices.shape[d]).reshape(wide))
    count = indices.shape[-1]
    return (*found, *(_wrapped(indices[..., k], x.shape[batch + k]) for k in range(count)))


def _gather_nd(n: Node, x: Any, indices: Any) -> Any:
    x, batch = array(x), int(n.get("batch_dims", 0))
    return x[_batched(x, array(indices), batch)]


_SCATTERS = {"none": "set", "add": "add", "mul": "multiply", "max": "max", "min": "min"}


def _scatter_elements(n: Node, x: Any, indices: Any, updates: Any) -> Any:
    x = array(x)
    axis = n.axis(x.ndim, 0)
    kind = n.one_of("reduction", *_SCATTERS)
    at = x.at[_along(x, _wrapped(indices, x.shape[axis]), axis)]
    return getattr(at, _SCATTERS[kind])(array(updates))


def _scatter_nd(n: Node, x: Any, indices: Any, updates: Any) -> Any:
    x = array(x)
    kind = n.one_of("reduction", *_SCATTERS)
    at = x.at[_batched(x, array(indices), 0)]
    return getattr(at, _SCATTERS[kind])(array(updates))


def _tensor_scatter(n: Node, cache: Any, update: Any, starts: Any = None) -> Any:
    cache, update = array(cache), array(update)
    axis = n.axis(cache.ndim, -2)
    steps, size = fnp.arange(update.shape[axis]), cache.shape[axis]
    first = fnp.zeros(cache.shape[0], "int64") if starts is None else array(starts)
    places = first[:, None] + steps
    if n.one_of("mode", "linear", "circular") == "circular":
        places = places % size
    wide = [1] * cache.ndim
    wide[0], wide[axis] = places.shape
    indices = fnp.broadcast_to(places.reshape(wide), update.shape)
    return cache.at[_along(cache, indices, axis)].set(update)


def _top_k(n: Node, x: Any, k: Any = None) -> Any:
    x = array(x)
    count = n.number_of(k, "k") if k is not None else int(n.need("k"))
    axis = n.axis(x.ndim, -1)
    largest = bool(n.get("largest", 1))
    order = fnp.argsort(x, axis=axis, stable=True, descending=largest)
    order = lax.slice_in_dim(order, 0, count, axis=axis)
    return fnp.take_along_axis(x, order, axis=axis), order.astype("int64")


def _trilu(n: Node, x: Any, k: Any = None) -> Any:
    f = fnp.triu if n.get("upper", 1) else fnp.tril
    return f(array(x), 0 if k is None else n.number_of(k, "k"))


def _compress(n: Node, x: Any, condition: Any) -> Any:
    x, axis = array(x), n.get("axis")
    keep = np.flatnonzero(n.static(condition, "condition"))
    return fnp.take(x.reshape(-1) if axis is None else x, keep, axis=axis or 0)


def _non_zero(n: Node, x: Any) -> Any:
    return np.asarray(np.nonzero(np.atleast_1d(n.static(x, "operand"))), np.int64)


def _unique(n: Node, x: Any) -> Any:
    data, axis = n.static(x, "operand"), n.get("axis")
    if axis is None:
        data = data.reshape(-1)
    found, first, inverse, counts = np.unique(
        data, return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    inverse = inverse.reshape(-1)
    if not n.get("sorted", 1):
        order = np.argsort(first)
        found = np.take(found, order, axis=axis or 0)
        place = np.argsort(order)
        first, counts, inverse = first[order], counts[order], place[inverse]
    return (found, *(v.astype(np.int64) for v in (first, inverse, counts)))[: n.outputs]


def _non_max_suppression(
    n: Node, boxes: Any, scores: Any, most: Any = None, overlap: Any = None, least: Any = None
) -> Any:
    """Boxes in the order of their scores, without those that overlap a better one too much."""
    given, points = n.static(boxes, "boxes"), n.static(scores, "scores")
    count = 0 if most is None else n.number_of(most, "max_output_boxes_per_class")
    limit = 0.0 if overlap is None else float(n.static(overlap, "iou_threshold").reshape(()))
    low = None if least is None else float(n.static(least, "score_threshold").reshape(()))
    found: list[tuple[int, int, int]] = []
    for b, c in np.ndindex(points.shape[:2]):
        corners = _corners(given[b], bool(n.get("center_point_box", 0)))
        order = np.argsort(-points[b, c], kind="stable")
        kept: list[int] = []
        for k in order if low is None else order[points[b, c][order] > low]:
            if len(kept) >= count:
                break
            if all(_overlap(corners[k], corners[j]) <= limit for j in kept):
                kept.append(int(k))
        found += [(b, c, k) for k in kept]
    return np.asarray(found, np.int64).reshape(-1, 3)


def _corners(boxes: np.ndarray, centers: bool) -> np.ndarray:
    a, b, c, d = boxes.astype(np.float64).T
    if centers:
        a, b, c, d = b - d / 2, a - c / 2, b + d / 2, a + c / 2
    return np.stack([np.minimum(a, c), np.minimum(b, d), np.maximum(a, c), np.maximum(b, d)], 1)


def _overlap(p: np.ndarray, q: np.ndarray) -> float:
    low, high = np.maximum(p[:2], q[:2]), np.minimum(p[2:], q[2:])
    both = float(np.prod(np.maximum(high - low, 0)))
    total = float(np.prod(p[2:] - p[:2]) + np.prod(q[2:] - q[:2])) - both
    return both / total if total > 0 else 0.0


def _tile(n: Node, x: Any, repeats: Any) -> Any:
    return fnp.tile(array(x), n.numbers(repeats, "repeats"))


def _size(n: Node, x: Any) -> Any:
    return np.asarray(math.prod(x.shape), np.int64)


def _det(n: Node, x: Any) -> Any:
    return fnp.linalg.det(array(x))


SHAPES: dict[str, Rule] = {
    "Constant": _constant, "ConstantOfShape": _constant_of_shape, "Range": _range,
    "EyeLike": _eye_like, "OneHot": _one_hot, "Shape": _shape, "Size": _size,
    "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
    "Transpose": _transpose, "Concat": _concat, "Split": _split, "Slice": _slice, "Pad": _pad,
    "Tile": _tile, "Expand": _expand, "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth, "CenterCropPad": _center_crop_pad,
    "ReverseSequence": _reverse_sequence, "Gather": _gather, "GatherElements": _gather_elements,
    "GatherND": _gather_nd, "ScatterElements": _scatter_elements, "Scatter": _scatter_elements,
    "ScatterND": _scatter_nd, "TensorScatter": _tensor_scatter, "TopK": _top_k, "Trilu": _trilu,
    "Compress": _compress, "NonZero": _non_zero, "Unique": _unique,
    "NonMaxSuppression": _non_max_suppression, "Det": _det,
}  # fmt: skip
