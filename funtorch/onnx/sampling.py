"""Rules of ONNX's operators that sample images between pixels, and of its Fourier transforms."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import lax
from funtorch.transforms import vmap

from .node import Node, Rule, array, dtype_of

__all__ = ["SAMPLING"]


# ------------------------------------------------------------------------------ resize
def _cubic(t: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel: R. Keys, "Cubic Convolution Interpolation", 1981."""
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


_ROUNDINGS: dict[str, Callable[[Any], Any]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _places(way: str, size: int, out: int, scale: float, roi: tuple[float, float]) -> np.ndarray:
    """Return where each pixel of a result lies in the array."""
    k = np.arange(out, dtype=np.float64)
    if way == "asymmetric":
        return k / scale
    if way == "align_corners":
        wide = scale * size
        return np.zeros(out) if wide == 1 else k * (size - 1) / (wide - 1)
    if way == "pytorch_half_pixel":
        return (k + 0.5) / scale - 0.5 if out > 1 else np.zeros(out)
    if way == "tf_half_pixel_for_nn":
        return (k + 0.5) / scale
    if way == "half_pixel_symmetric":
        middle = size / 2 * (1 - out / (scale * size))
        return middle + (k + 0.5) / scale - 0.5
    if way == "tf_crop_and_resize":
        start, stop = roi
        if out == 1:
            return np.full(1, 0.5 * (start + stop) * (size - 1))
        return start * (size - 1) + k * (stop - start) * (size - 1) / (out - 1)
    return (k + 0.5) / scale - 0.5


_WAYS = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
         "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize")  # fmt: skip


def _taps(n: Node, at: np.ndarray, size: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels that each result is made of, and their weights: (taps, results)."""
    mode = n.one_of("mode", "nearest", "linear", "cubic", "bilinear")
    if mode == "nearest":
        words = "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"
        nearest = n.one_of("nearest_mode", *words) if n.opset >= 11 else "floor"
        return _ROUNDINGS[nearest](at)[None], np.ones((1, len(at)))
    wide = 1 / scale if n.get("antialias", 0) and scale < 1 else 1.0
    reach = (2 if mode == "cubic" else 1) * wide
    first = np.floor(at - reach).astype(int) + 1
    count = int(np.ceil(2 * reach)) + (wide != 1)
    if count > 4 * size + 8:
        raise n.error(f"its scale {scale} makes one pixel of {count}, and there are {size}")
    index = first[None] + np.arange(count)[:, None]
    away = (index - at) / wide
    if mode == "cubic":
        weight = _cubic(away, n.get("cubic_coeff_a", -0.75))
    else:
        weight = np.maximum(1 - np.abs(away), 0)
    outside = (index < 0) | (index >= size)
    if n.get("exclude_outside", 0):
        weight = np.where(outside, 0, weight)
    total = weight.sum(0)
    return index, weight / np.where(total == 0, 1, total)


def _axis_resized(
    n: Node, x: Any, axis: int, out: int, scale: float, roi: tuple[float, float]
) -> Any:
    size = x.shape[axis]
    way = n.one_of("coordinate_transformation_mode", *_WAYS) if n.opset >= 11 else "asymmetric"
    at = _places(way, size, out, scale, roi)
    index, weight = _taps(n, at, size, scale)
    index = np.clip(index, 0, size - 1).astype(np.int32)
    wide = [1] * x.ndim
    wide[axis] = out
    if len(index) == 1:
        found = fnp.take(x, index[0], axis=axis, mode="clip")
    else:
        found = 0
        for row, w in zip(index, weight, strict=True):
            part = fnp.take(x, row, axis=axis, mode="clip")
            found = found + part * fnp.asarray(w.reshape(wide).astype(x.dtype))
    if way == "tf_crop_and_resize":
        beyond = ((at < 0) | (at > size - 1)).reshape(wide)
        value = np.asarray(n.get("extrapolation_value", 0.0), x.dtype)
        found = fnp.where(beyond, value, found)
    return found


def _resize(n: Node, x: Any, *given: Any) -> Any:
    x = array(x)
    if n.opset < 11:
        given = (None, given[0])
    operands: list[Any] = [*given, *[None] * (3 - len(given))]
    roi, scales, sizes = operands
    axes = [n.place_of(int(a), x.ndim) for a in n.get("axes", range(x.ndim))]
    old = [x.shape[d] for d in axes]
    if sizes is not None and np.size(sizes):
        wanted = n.numbers(sizes, "sizes")
        factors = [a / b for a, b in zip(wanted, old, strict=True)]
        keep = n.one_of("keep_aspect_ratio_policy", "stretch", "not_larger", "not_smaller")
        if keep != "stretch":
            factor = min(factors) if keep == "not_larger" else max(factors)
            factors = [factor] * len(old)
            wanted = [math.floor(m * factor + 0.5) for m in old]
    else:
        factors = [float(s) for s in n.static(scales, "scales").reshape(-1)]
        wanted = [math.floor(m * s) for m, s in zip(old, factors, strict=True)]
    box = np.zeros(2 * len(axes)) if roi is None else n.static(roi, "roi").astype(float)
    moved = x.astype("float32") if x.dtype.kind in "iu" and n.get("mode") != "nearest" else x
    crop = n.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    for k, d in enumerate(axes):
        if wanted[k] != old[k] or crop or factors[k] != 1:
            part = (box[k], box[k + len(axes)]) if crop else (0.0, 1.0)
            moved = _axis_resized(n, moved, d, wanted[k], factors[k], part)
    return moved if moved.dtype == x.dtype else fnp.round(moved).astype(x.dtype)


def _upsample(n: Node, x: Any, scales: Any = None) -> Any:
    x = array(x)
    given = np.asarray(n.get("scales")) if scales is None else n.static(scales, "scales")
    for d, s in enumerate(map(float, given.reshape(-1))):
        if s != 1:
            x = _axis_resized(n, x, d, math.floor(x.shape[d] * s), s, (0.0, 1.0))
    return x


# ------------------------------------------------------------------------------ grids
def _reflected(at: Any, low: float, high: float) -> Any:
    span = high - low
    far = fnp.mod(fnp.abs(at - low), 2 * span)
    return low + fnp.where(far > span, 2 * span - far, far)


def _grid_sample(n: Node, x: Any, grid: Any) -> Any:
    x, grid = array(x), array(grid)
    space = x.shape[2:]
    mode = n.one_of("mode", "linear", "bilinear", "nearest", "cubic", "bicubic")
    border = n.one_of("padding_mode", "zeros", "border", "reflection")
    corners = bool(n.get("align_corners", 0))
    places = []
    for d, size in enumerate(space):
        g = grid[..., len(space) - 1 - d]
        at = (g + 1) / 2 * (size - 1) if corners else ((g + 1) * size - 1) / 2
        places.append(at)
    low = [0.0 if corners else -0.5] * len(space)
    high = [m - 1 - a for m, a in zip(space, low, strict=True)]
    if mode == "nearest":
        places = [fnp.round(p) for p in places]
    limits = list(zip(low, high, strict=True))
    if "cubic" not in mode:
        bounded = zip(places, space, limits, strict=True)
        places = [_bordered(p, m, lim, border) for p, m, lim in bounded]
    reach = {"nearest": [0], "cubic": [-1, 0, 1, 2], "bicubic": [-1, 0, 1, 2]}.get(mode, [0, 1])
    first = [p if mode == "nearest" else fnp.floor(p) for p in places]
    rows = fnp.moveaxis(x, 1, -1)
    batch = fnp.arange(x.shape[0]).reshape(-1, *[1] * len(space))
    total: Any = 0
    for tap in itertools.product(reach, repeat=len(space)):
        index, weight, inside = [batch], 1, True
        for p, f, k, m, lim in zip(places, first, tap, space, limits, strict=True):
            near = f + k
            weight = weight * _grid_weight(mode, p - f - k)
            near = _bordered(near, m, lim, border) if "cubic" in mode else near
            inside = inside & (near >= 0) & (near <= m - 1)
            index.append(fnp.clip(near, 0, m - 1).astype("int32"))
        found = rows[tuple(index)]
        keep = fnp.asarray(inside) if border == "zeros" else True
        total = total + found * fnp.where(keep, weight, 0.0).astype(x.dtype)[..., None]
    return fnp.moveaxis(total, -1, 1)


def _grid_weight(mode: str, t: Any) -> Any:
    if mode == "nearest":
        return fnp.ones_like(t)
    t = fnp.abs(t)
    if "cubic" not in mode:
        return fnp.maximum(1 - t, 0)
    a = -0.75
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return fnp.where(t <= 1, near, fnp.where(t < 2, far, 0.0))


def _bordered(at: Any, size: int, limits: tuple[float, float], border: str) -> Any:
    if border == "border":
        return fnp.clip(at, 0, size - 1)
    if border == "reflection":
        if limits[1] <= limits[0]:
            return fnp.zeros_like(at)
        return fnp.clip(_reflected(at, *limits), 0, size - 1)
    return at


# ------------------------------------------------------------------------------ regions
def _bilinear_at(plane: Any, ys: Any, xs: Any) -> list[Any]:
    """Return the four weighted neighbours of points: (features, points)."""
    height, width = plane.shape[1:]
    outside = (ys < -1) | (ys > height) | (xs < -1) | (xs > width)
    ys, xs = fnp.maximum(ys, 0), fnp.maximum(xs, 0)
    y0 = fnp.minimum(fnp.floor(ys), height - 1)
    x0 = fnp.minimum(fnp.floor(xs), width - 1)
    ys, xs = (fnp.where(a >= m - 1, a0, a) for a, a0, m in ((ys, y0, height), (xs, x0, width)))
    y1, x1 = fnp.minimum(y0 + 1, height - 1), fnp.minimum(x0 + 1, width - 1)
    dy, dx = ys - y0, xs - x0
    parts = []
    for a, b, w in (
        (y0, x0, (1 - dy) * (1 - dx)), (y0, x1, (1 - dy) * dx), (y1, x0, dy * (1 - dx)),
        (y1, x1, dy * dx),
    ):  # fmt: skip
        values = plane[:, a.astype("int32"), b.astype("int32")]
        parts.append(values * fnp.where(outside, 0, w))
    return parts


def _roi_align(n: Node, x: Any, rois: Any, batch: Any) -> Any:
    x, boxes, batch = array(x), array(rois), array(batch)
    out = int(n.get("output_height", 1)), int(n.get("output_width", 1))
    scale, ratio = n.get("spatial_scale", 1.0), int(n.get("sampling_ratio", 0))
    default = "half_pixel" if n.opset >= 16 else "output_half_pixel"
    other = "output_half_pixel" if n.opset >= 16 else "half_pixel"
    half = n.one_of("coordinate_transformation_mode", default, other) == "half_pixel"
    mode = n.one_of("mode", "avg", "max")

    def one(box: Any, number: Any, counts: Sequence[int]) -> Any:
        shift = 0.5 if half else 0.0
        x1, y1, x2, y2 = (box[k] * scale - shift for k in range(4))
        size = [y2 - y1, x2 - x1]
        size = size if half else [fnp.maximum(s, 1.0) for s in size]
        places = []
        for start, span, bins, c in zip((y1, x1), size, out, counts, strict=True):
            steps = (np.arange(bins)[:, None] + (np.arange(c) + 0.5) / c).astype(x.dtype)
            places.append(start + fnp.asarray(steps) * (span / bins))
        ys = places[0][:, None, :, None]
        xs = places[1][None, :, None, :]
        shape = (*out, *counts)
        ys, xs = (fnp.broadcast_to(v, shape).reshape(-1) for v in (ys, xs))
        parts = _bilinear_at(x[number], ys, xs)
        if mode == "max":
            found = functools.reduce(fnp.maximum, parts).reshape(-1, *out, math.prod(counts))
            return found.max(-1)
        return functools.reduce(fnp.add, parts).reshape(-1, *out, math.prod(counts)).mean(-1)

    if ratio > 0:
        return vmap(lambda box, number: one(box, number, (ratio, ratio)))(boxes, batch)
    known = n.static(rois, "rois, where sampling_ratio is 0,").astype(float) * scale
    found = []
    for k, (x1, y1, x2, y2) in enumerate(known):
        size = (y2 - y1, x2 - x1) if half else (max(y2 - y1, 1.0), max(x2 - x1, 1.0))
        counts = [max(math.ceil(s / m), 1) for s, m in zip(size, out, strict=True)]
        found.append(one(boxes[k], batch[k], counts))
    return fnp.stack(found) if found else fnp.zeros((0, x.shape[1], *out), x.dtype)


def _max_roi_pool(n: Node, x: Any, rois: Any) -> Any:
    """The largest value in each part of a box; boxes must be known."""
    x, (height, width) = array(x), n.need("pooled_shape")
    scale, found = n.get("spatial_scale", 1.0), []
    if not 0 < height * width < 1 << 20:
        raise n.error(f"its pooled_shape is {height, width}")
    for number, *box in n.static(rois, "rois"):
        x1, y1, x2, y2 = (int(np.floor(v * scale + 0.5)) for v in box)
        cells = []
        for i, j in np.ndindex(height, width):
            cut = []
            for k, bins, a, b, m in (
                (i, height, y1, y2, x.shape[2]),
                (j, width, x1, x2, x.shape[3]),
            ):
                step = max(b - a + 1, 1) / bins
                low, high = math.floor(k * step) + a, math.ceil((k + 1) * step) + a
                cut.append(slice(min(max(low, 0), m), min(max(high, 0), m)))
            part = x[int(number)][:, cut[0], cut[1]]
            cells.append(part.max((1, 2)) if part.size else fnp.zeros(x.shape[1], x.dtype))
        found.append(fnp.stack(cells, -1).reshape(-1, height, width))
    return fnp.stack(found)


# ------------------------------------------------------------------------------ spectra
def _dft(n: Node, x: Any, length: Any = None, axis: Any = None) -> Any:
    """Pairs of numbers along the last axis are complex numbers."""
    x = array(x)
    given = (
        n.get("axis", 1) if n.opset < 20 else (-2 if axis is None else n.number_of(axis, "axis"))
    )
    d = n.place_of(int(given), x.ndim)
    count = None if length is None else n.number_of(length, "dft_length")
    back, one_sided = bool(n.get("inverse", 0)), bool(n.get("onesided", 0))
    if back and one_sided:
        values = lax.complex(x[..., 0], x[..., 1]) if x.shape[-1] == 2 else x[..., 0]
        return fnp.fft.irfft(values, count, axis=d)[..., None].astype(x.dtype)
    values = x[..., 0] if x.shape[-1] == 1 else lax.complex(x[..., 0], x[..., 1])
    if one_sided:
        found = fnp.fft.rfft(values.real if x.shape[-1] == 2 else values, count, axis=d)
    else:
        found = (fnp.fft.ifft if back else fnp.fft.fft)(values, count, axis=d)
    return fnp.stack([found.real, found.imag], -1).astype(x.dtype)


def _stft(n: Node, x: Any, step: Any, window: Any = None, length: Any = None) -> Any:
    x, hop = array(x), n.number_of(step, "frame_step")
    size = n.number_of(length, "frame_length") if length is not None else window.shape[0]
    count = (x.shape[1] - size) // hop + 1
    places = np.arange(count)[:, None] * hop + np.arange(size)
    values = x[..., 0] if x.shape[-1] == 1 else lax.complex(x[..., 0], x[..., 1])
    frames = values[:, places]
    frames = frames if window is None else frames * array(window)
    real = x.shape[-1] == 1
    found = fnp.fft.rfft(frames) if real and n.get("onesided", 1) else fnp.fft.fft(frames)
    return fnp.stack([found.real, found.imag], -1).astype(x.dtype)


def _window(first: float, second: float, third: float = 0.0) -> Rule:
    def rule(n: Node, size: Any) -> Any:
        count = n.number_of(size, "size")
        whole = max(count if n.get("periodic", 1) else count - 1, 1)
        angle = fnp.arange(count, dtype="float64") * (2 * math.pi / whole)
        found = first - second * fnp.cos(angle) + third * fnp.cos(2 * angle)
        return found.astype(dtype_of(n.get("output_datatype", 1), n.place))

    return rule


def _mel_weights(n: Node, bins: Any, length: Any, rate: Any, low: Any, high: Any) -> Any:
    """Triangles over the bins of a spectrum, whose ends are even on the mel scale."""
    count, size, hertz = (n.number_of(v, "size") for v in (bins, length, rate))
    edges = [float(n.static(v, "edge").reshape(())) for v in (low, high)]
    if not (0 < count < 1 << 16 and 0 < size < 1 << 24):
        raise n.error(f"{count} mel bins of a spectrum of {size} are none")
    mels = 2595 * np.log10(1 + np.asarray(edges) / 700)
    steps = mels[0] + np.arange(count + 2) * (mels[1] - mels[0]) / (count + 2)
    places = np.floor((size + 1) * (700 * (10 ** (steps / 2595) - 1)) / hertz).astype(int)
    out = np.zeros((size // 2 + 1, count))
    for k in range(count):
        a, b, c = places[k : k + 3]
        if b == a:
            out[b, k] = 1
        else:
            out[a : b + 1, k] = (np.arange(a, b + 1) - a) / (b - a)
        if c > b:
            out[b:c, k] = (c - np.arange(b, c)) / (c - b)
    return out.astype(dtype_of(n.get("output_datatype", 1), n.place))


SAMPLING: dict[str, Rule] = {
    "Resize": _resize, "Upsample": _upsample, "GridSample": _grid_sample,
    "RoiAlign": _roi_align, "MaxRoiPool": _max_roi_pool, "DFT": _dft, "STFT": _stft,
    "HannWindow": _window(0.5, 0.5), "HammingWindow": _window(25 / 46, 21 / 46),
    "BlackmanWindow": _window(0.42, 0.5, 0.08), "MelWeightMatrix": _mel_weights,
}  # fmt: skip
