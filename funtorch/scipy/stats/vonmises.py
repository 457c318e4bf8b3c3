"""The von Mises distribution, of angles.

Example:
    >>> from funtorch.scipy.stats import vonmises
    >>> round(float(vonmises.pdf(0.0, 1.0)), 5)
    0.34171

References:
    scipy.stats.vonmises
"""

from __future__ import annotations

import math

import funtorch.numpy as fnp
from funtorch.scipy.special import i0e
from funtorch.scipy.stats.family import continuous

__all__ = ["logpdf", "pdf"]

_OF = continuous(
    "vonmises",
    "kappa",
    valid=lambda kappa: kappa > 0,
    logpdf=lambda z, kappa: kappa * (fnp.cos(z) - 1) - fnp.log(i0e(kappa)) - math.log(2 * math.pi),
)
pdf = _OF["pdf"]
logpdf = _OF["logpdf"]
