"""Quantisation: weights as int8 or int4, activations as int8, and training that knows of it.

A function of parameters stays as it is: `quantize` makes a tree of integers and scales of its
parameters, and `quantized` makes the function compute with such a tree. `calibrate` measures the
ranges of activations beforehand, and `fake_quantized` trains with the rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import tree
from funtorch.transforms import jit
from funtorch.transforms.qarrays import QArray, quantize_array
from funtorch.transforms.quantize import (
    fake_quantize,
    fake_quantized,
    observed,
    quantize,
    quantized,
)
from funtorch.transforms.schemes import SCHEMES, Scheme, Schemes

__all__ = [
    "SCHEMES",
    "QArray",
    "Scheme",
    "Schemes",
    "calibrate",
    "fake_quantize",
    "fake_quantized",
    "nbytes",
    "observed",
    "quantize",
    "quantize_array",
    "quantized",
]

_METHODS = ("largest", "percentile", "average", "mse", "entropy")
_STEPS, _OCTAVES = 32, (-40, 40)  # bins of a histogram to an octave, and its octaves
_LEVELS = 127  # of the magnitudes of int8
_BINS = 2048  # of equal width, for the entropy
_CANDIDATES = 128  # ranges that are tried for the least error


def calibrate(
    fun: Callable[..., Any], params: Any, batches: Iterable[Any], *, method: str = "largest",
    percentile: float = 99.9, momentum: float = 0.9,
) -> dict[str, Any]:  # fmt: skip
    """Measure the ranges of the activations that a function's weights meet.

    Args:
        fun: a function whose first argument is a tree of parameters.
        params: the parameters, floats.
        batches: what the function is called with beside them: a tuple of arguments, or its only
            argument, for each batch.
        method: 'largest': the largest magnitude of all batches; 'percentile': the largest of each
            batch's percentile of the magnitudes; 'average': a moving average of the batches'
            largest magnitudes; 'mse': the range in which rounding and cutting off err least, in
            mean square; 'entropy': that in which the distribution of the magnitudes loses the least
            information. The last two keep histograms of all batches.
        percentile: between 0 and 100.
        momentum: how much of the average each new batch leaves.

    Returns:
        Ranges by the name of the weight, for `quantize` and `fake_quantized`.

    Raises:
        ValueError: there are no batches, the method is unknown, or a range is not finite.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import quant
        >>> f = lambda p, x: x @ p["w"]
        >>> batches = [fnp.array([[1.0, 2.0]]), fnp.array([[-3.0, 0.0]])]
        >>> {k: float(r) for k, r in quant.calibrate(f, {"w": fnp.eye(2)}, batches).items()}
        {"['w']": 3.0}

    References:
        Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference",
        arXiv:1806.08342 (2018).
        Migacz, "8-bit inference with TensorRT", GPU Technology Conference (2017): the entropy.
        Choi et al., "PACT: parameterized clipping activation for quantized neural networks",
        arXiv:1805.06085 (2018), on cutting off for the sake of rounding.
    """
    if method not in _METHODS:
        raise ValueError(f"calibrate takes method {_listed(_METHODS)}; got {method!r}")
    if not 0 < percentile <= 100:
        raise ValueError(f"calibrate takes a percentile in (0, 100]; got {percentile}")

    counts = method in _FROM_COUNTS

    def statistic(x: Any) -> Any:
        if counts:
            return _histogram(x)
        if method == "percentile":
            return fnp.percentile(fnp.abs(x), percentile)
        return fnp.abs(x).max()

    watched = observed(fun, statistic, total=counts)
    measure = jit(lambda params, *args: watched(params, *args)[1])
    ranges: dict[str, Any] = {}
    for batch in batches:
        seen = measure(params, *(batch if isinstance(batch, tuple) else (batch,)))
        for name, value in seen.items():
            before = ranges.get(name, value)
            if counts:
                ranges[name] = ranges[name] + value if name in ranges else value
            elif method == "average":
                ranges[name] = momentum * before + (1 - momentum) * value
            else:
                ranges[name] = fnp.maximum(before, value)
    if not ranges:
        raise ValueError(
            "calibrate saw no weight meet an activation: it takes at least one batch, and a "
            "function whose first argument holds the weights"
        )
    if counts:
        find = _FROM_COUNTS[method]
        ranges = {name: fnp.asarray(find(np.asarray(n)), "float32") for name, n in ranges.items()}
    bad = [name for name, value in ranges.items() if not fnp.isfinite(value)]
    if bad:
        raise ValueError(
            f"calibrate saw activations that are not finite, at {_listed(bad)}: look for nan and "
            "inf in the batches, or leave those out"
        )
    return ranges


# ------------------------------------------------------------------------------------- histograms
def _histogram(x: Any) -> Any:
    """Count magnitudes by their logarithms; zeros come first, what is not finite last."""
    low, high = _OCTAVES
    size = fnp.abs(x).astype("float32")
    bins = fnp.floor((fnp.log2(fnp.maximum(size, 2.0**low)) - low) * _STEPS)
    bins = fnp.clip(bins, 0, (high - low) * _STEPS - 1) + 1
    bins = fnp.where(size == 0, 0, fnp.where(fnp.isfinite(size), bins, (high - low) * _STEPS + 1))
    count = fnp.zeros((high - low) * _STEPS + 2, "float32")
    return count.at[bins.astype("int32").ravel()].add(1.0)


def _edges() -> np.ndarray:
    """Return where the bins of magnitudes end, from 0 on."""
    low, high = _OCTAVES
    return 2.0 ** (low + np.arange((high - low) * _STEPS + 1) / _STEPS)


def _least_error(count: np.ndarray) -> float:
    """Return the range whose integers are nearest to what was counted, in mean square."""
    if count[-1]:
        return float("nan")
    edges = _edges()
    filled = np.flatnonzero(count[1:])
    if not len(filled):
        return 0.0
    centres, count = (edges[1:] + edges[:-1]) / 2, count[1:-1].astype(np.float64)
    best, error = edges[filled[-1] + 1], np.inf
    for k in range(_CANDIDATES):
        limit = edges[filled[-1] + 1] * 2.0 ** (-k * 8 / _CANDIDATES)
        step = limit / _LEVELS
        rounding = np.minimum(step**2 / 12, np.where(centres < step / 2, centres**2, np.inf))
        off = np.where(centres > limit, (centres - limit) ** 2, rounding)
        total = float((count * off).sum())
        if total < error:
            best, error = limit, total
    return float(best)


def _least_information_lost(count: np.ndarray) -> float:
    """Return the range in which the distribution of what was counted changes least when it is
    rounded, by its relative entropy."""
    if count[-1]:
        return float("nan")
    edges, filled = _edges(), np.flatnonzero(count[1:])
    if not len(filled):
        return 0.0
    largest = edges[filled[-1] + 1]
    below = np.concatenate([[0.0], np.cumsum(count[1:-1].astype(np.float64))])
    even = np.linspace(0, largest, _BINS + 1)
    equal = np.diff(np.interp(even, edges, below))
    best, lost = _BINS, np.inf
    for width in range(_LEVELS + 1, _BINS + 1, 8):
        p = equal[:width].copy()
        p[-1] += equal[width:].sum()
        level = np.arange(width) * (_LEVELS + 1) // width
        there = equal[:width] > 0
        sums = np.bincount(level, equal[:width], _LEVELS + 1)
        many = np.bincount(level, there, _LEVELS + 1)
        q = np.where(there, (sums / np.maximum(many, 1))[level], 0.0)
        if not q.sum():
            continue
        p, q = p / p.sum(), q / q.sum()
        kept = (p > 0) & (q > 0)
        missing = p[(p > 0) & (q == 0)].sum()
        total = float((p[kept] * np.log(p[kept] / q[kept])).sum() + missing * 1e3)
        if total < lost:
            best, lost = width, total
    return float(largest * best / _BINS)


_FROM_COUNTS: dict[str, Callable[[np.ndarray], float]] = {
    "mse": _least_error,
    "entropy": _least_information_lost,
}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def nbytes(params: Any) -> int:
    """Count the bytes of the arrays of a tree.

    Args:
        params: a tree of arrays and `QArray`.

    Returns:
        How many there are.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import quant
        >>> quant.nbytes([fnp.zeros((8, 8)), quant.quantize_array(fnp.zeros((8, 8)), axes=(1,))])
        352
    """
    leaves = (x for x in tree.leaves(params) if hasattr(x, "dtype"))
    return sum(x.size * x.dtype.itemsize for x in leaves)
