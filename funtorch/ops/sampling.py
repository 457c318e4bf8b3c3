"""Functions that samplers are made of: they round as XLA's compiled code does on CPUs.

Random numbers are those of JAX for the same key, which takes more than accuracy: float32 agrees to
the bit, float64 to a few units in the last place. For everything else there are `exp`, `log` ...

References:
    M. B. Giles, "Approximating the erfinv function", GPU Computing Gems 2 (2010): the polynomials
    in double precision.
    S. L. Moshier, Cephes mathematical library, https://www.netlib.org/cephes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from funtorch.dtypes import float64
from funtorch.ops import special
from funtorch.ops.elementwise import add, div, mul
from funtorch.ops.families import full_like, unary

__all__ = [
    "sampled_erf_inv",
    "sampled_erf_inv_p",
    "sampled_exp",
    "sampled_exp_p",
    "sampled_log",
    "sampled_log1p",
    "sampled_log1p_p",
    "sampled_log_p",
]

# erf_inv(x) / x in w = -log(1 - x**2) - 3.125, sqrt(w) - 3.25, sqrt(w) - 5, highest power first.
CENTRE = (
    -3.6444120640178196996e-21,
    -1.685059138182016589e-19,
    1.2858480715256400167e-18,
    1.115787767802518096e-17,
    -1.333171662854620906e-16,
    2.0972767875968561637e-17,
    6.6376381343583238325e-15,
    -4.0545662729752068639e-14,
    -8.1519341976054721522e-14,
    2.6335093153082322977e-12,
    -1.2975133253453532498e-11,
    -5.4154120542946279317e-11,
    1.051212273321532285e-09,
    -4.1126339803469836976e-09,
    -2.9070369957882005086e-08,
    4.2347877827932403518e-07,
    -1.3654692000834678645e-06,
    -1.3882523362786468719e-05,
    0.0001867342080340571352,
    -0.00074070253416626697512,
    -0.0060336708714301490533,
    0.24015818242558961693,
    1.6536545626831027356,
)
MIDDLE = (
    2.2137376921775787049e-09,
    9.0756561938885390979e-08,
    -2.7517406297064545428e-07,
    1.8239629214389227755e-08,
    1.5027403968909827627e-06,
    -4.013867526981545969e-06,
    2.9234449089955446044e-06,
    1.2475304481671778723e-05,
    -4.7318229009055733981e-05,
    6.8284851459573175448e-05,
    2.4031110387097893999e-05,
    -0.0003550375203628474796,
    0.00095328937973738049703,
    -0.0016882755560235047313,
    0.0024914420961078508066,
    -0.0037512085075692412107,
    0.005370914553590063617,
    1.0052589676941592334,
    3.0838856104922207635,
)
TAIL = (
    -2.7109920616438573243e-11,
    -2.5556418169965252055e-10,
    1.5076572693500548083e-09,
    -3.7894654401267369937e-09,
    7.6157012080783393804e-09,
    -1.4960026627149240478e-08,
    2.9147953450901080826e-08,
    -6.7711997758452339498e-08,
    2.2900482228026654717e-07,
    -9.9298272942317002539e-07,
    4.5260625972231537039e-06,
    -1.9681778105531670567e-05,
    7.5995277030017761139e-05,
    -0.00021503011930044477347,
    -0.00013871931833623122026,
    1.0103004648645343977,
    4.8499064014085844221,
)


def _poly(coefficients: tuple[float, ...], x: Any) -> Any:
    total = x * coefficients[0]
    for c in coefficients[1:-1]:
        total += c
        total *= x
    total += coefficients[-1]
    return total


def _log1p_double(xp: Any, z: Any) -> Any:
    """Return log(1 + z), with the up to 128 units that XLA loses for z below 1 / sqrt(2) - 1."""
    square = z * z
    ratio = _poly(special.LOG1P_NUM64, z) / _poly(special.LOG1P_DEN64, z)
    near = z + (z * square * ratio - 0.5 * square)
    return xp.where(xp.abs(z) < special.LOG1P_LIMIT, near, xp.log(1 + z))


def _erf_inv_double(xp: Any, x: Any) -> Any:
    w = -_log1p_double(xp, x * -x)
    root = xp.sqrt(w)
    factor = _poly(CENTRE, w - 3.125)
    if not xp.all(w < 6.25):
        factor = xp.where(w < 6.25, factor, _poly(MIDDLE, root - 3.25))
        factor = xp.where(w < 16, factor, _poly(TAIL, root - 5))
    return xp.where(xp.abs(x) == 1, xp.copysign(math.inf, x), factor * x)


def _eager(single: Callable[..., Any], double: Callable[..., Any]) -> Callable[..., Any]:
    """Return the eager rule; 16-bit floats are computed in float32."""

    def eager(xp: Any, x: Any) -> Any:
        if x.dtype == float64:
            return double(xp, x)
        return single(xp, x.astype(np.float32, copy=False)).astype(x.dtype, copy=False)

    return eager


def _erf_inv_jvp(t: Any, x: Any, y: Any) -> Any:
    slope = mul(full_like(y, math.sqrt(math.pi) / 2), sampled_exp(mul(y, y)))
    return mul(t, slope)


sampled_log_p = unary(
    "sampled_log",
    _eager(special.log_single, lambda xp, x: xp.log(x)),
    lambda t, x, y: div(t, x),
    accepts="f",
)
sampled_log1p_p = unary(
    "sampled_log1p",
    _eager(special.log1p_single, _log1p_double),
    lambda t, x, y: div(t, add(x, full_like(x, 1))),
    accepts="f",
)
sampled_exp_p = unary(
    "sampled_exp",
    _eager(special.exp_single, lambda xp, x: xp.exp(x)),
    lambda t, x, y: mul(t, y),
    accepts="f",
)
sampled_erf_inv_p = unary(
    "sampled_erf_inv", _eager(special.erf_inv_single, _erf_inv_double), _erf_inv_jvp, accepts="f"
)
sampled_log, sampled_log1p = sampled_log_p.bind, sampled_log1p_p.bind
sampled_exp, sampled_erf_inv = sampled_exp_p.bind, sampled_erf_inv_p.bind
