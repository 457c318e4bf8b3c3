"""The product in which a zero wins over infinities and nan.

Derivatives of what `where` has masked away are made of it. It is linear in each argument, like any
product of finite numbers.
"""

from __future__ import annotations

from typing import Any

from funtorch.ops.families import bilinear, elementwise_linear_type

__all__ = ["masked_mul", "masked_mul_p"]


def _masked_mul_eager(xp: Any, x: Any, y: Any) -> Any:
    out = xp.asarray(xp.multiply(x, y))
    wrong = out != out
    if wrong.any():
        out[wrong & ((x == 0) | (y == 0))] = 0
    return out


masked_mul_p = bilinear(
    "masked_mul",
    type=elementwise_linear_type("masked_mul", "fc"),
    eager=_masked_mul_eager,
    transposes=(lambda ct, y, aval: masked_mul(ct, y), lambda ct, x, aval: masked_mul(ct, x)),
    batch=None,
)
masked_mul = masked_mul_p.bind
