"""Quantisation: weights as int8 or int4, activations as int8, and training that knows of it.

A function of parameters stays as it is: `quantize` makes a tree of integers and scales of its
parameters, and `quantized` makes the function compute with such a tree. `calibrate` measures the
ranges of activations beforehand, and `fake_quantized` trains with the rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import funtorch.numpy as fnp
from funtorch import tree
from funtorch.transforms import jit
from funtorch.transforms.qarrays import QArray, quantize_array
from funtorch.transforms.quantize import (
    SCHEMES,
    Scheme,
    fake_quantize,
    fake_quantized,
    observed,
    quantize,
    quantized,
)

__all__ = [
    "SCHEMES",
    "QArray",
    "Scheme",
    "calibrate",
    "fake_quantize",
    "fake_quantized",
    "nbytes",
    "observed",
    "quantize",
    "quantize_array",
    "quantized",
]

_METHODS = ("largest", "percentile", "average")


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
            largest magnitudes.
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
    """
    if method not in _METHODS:
        raise ValueError(f"calibrate takes method {_listed(_METHODS)}; got {method!r}")
    if not 0 < percentile <= 100:
        raise ValueError(f"calibrate takes a percentile in (0, 100]; got {percentile}")

    def statistic(x: Any) -> Any:
        if method == "percentile":
            return fnp.percentile(fnp.abs(x), percentile)
        return fnp.abs(x).max()

    measure = jit(lambda params, *args: observed(fun, statistic)(params, *args)[1])
    ranges: dict[str, Any] = {}
    for batch in batches:
        seen = measure(params, *(batch if isinstance(batch, tuple) else (batch,)))
        for name, value in seen.items():
            before = ranges.get(name, value)
            if method == "average":
                ranges[name] = momentum * before + (1 - momentum) * value
            else:
                ranges[name] = fnp.maximum(before, value)
    if not ranges:
        raise ValueError(
            "calibrate saw no weight meet an activation: it takes at least one batch, and a "
            "function whose first argument holds the weights"
        )
    bad = [name for name, value in ranges.items() if not fnp.isfinite(value)]
    if bad:
        raise ValueError(
            f"calibrate saw activations that are not finite, at {_listed(bad)}: look for nan and "
            "inf in the batches, or leave those out"
        )
    return ranges


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
