"""The normal distribution's tails, to all digits.

References:
    NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov: 7.2 (error functions).
"""

from __future__ import annotations

import math
from typing import Any

import funtorch.numpy as fnp
from funtorch.ops import elementwise as ops
from funtorch.scipy.special import ndtr
from funtorch.scipy.special.integrals import erfcx

__all__ = ["log_difference", "log_ndtr", "ndtri"]


def log_ndtr(x: Any) -> Any:
    """Return the logarithm of the normal distribution function."""
    left = fnp.where(x < 0, x, -1)
    right = fnp.where(x < 0, 0, x)
    far = fnp.log(erfcx(left * -math.sqrt(0.5))) - math.log(2) - 0.5 * left * left
    far = fnp.where(x == -math.inf, -math.inf, far)
    return fnp.where(x < 0, far, fnp.log1p(-ndtr(-right)))


def ndtri(q: Any) -> Any:
    """Return the quantile of a probability between 0 and 1, of the smaller tail."""
    small = fnp.minimum(q, 1 - q)
    start = math.sqrt(2) * ops.erf_inv(2 * q - 1)
    # A step of Newton's method in the logarithm, where erf_inv's argument has lost digits.
    x = -fnp.abs(start)
    x = fnp.where(fnp.isfinite(x), x, -fnp.sqrt(-2 * fnp.log(small)))
    for _ in range(3):
        value = log_ndtr(x)
        slope = fnp.exp(-0.5 * x * x - value) / math.sqrt(2 * math.pi)
        x = x - (value - fnp.log(small)) / slope
    return fnp.where(q < 0.4, x, fnp.where(q > 0.6, -x, start))


def log_difference(high: Any, low: Any) -> Any:
    """Return ``log(exp(high) - exp(low))``."""
    gap = fnp.where(high > low, low - high, -1)
    return fnp.where(high > low, high + fnp.log(-fnp.expm1(gap)), -math.inf)
