"""What the code printers cover: one row per elementwise primitive.

A primitive with a row has native scalar code for the kinds of dtypes that the row names: b bool,
i integers, f float32 and float64, h float16 and bfloat16, c complex. All of an equation's dtypes
must be among them, bool always being one (conditions and what comparisons make). Without a row
the compiled program calls the eager rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import ml_dtypes
import numpy as np

__all__ = ["ELEMENTWISE", "KINDS", "Row", "covers"]

KINDS: dict[np.dtype, str] = {
    np.dtype("bool"): "b",
    **{np.dtype(f"{u}int{w}"): "i" for u in ("", "u") for w in (8, 16, 32, 64)},
    **{np.dtype(f"float{w}"): "f" for w in (32, 64)},
    **{np.dtype(f"complex{w}"): "c" for w in (64, 128)},
    **{np.dtype(t): "h" for t in (np.float16, ml_dtypes.bfloat16)},
}
"""The kind of every dtype that native code knows."""


@dataclass(frozen=True)
class Row:
    """What is known of a primitive's native code.

    Attributes:
        kinds: the kinds of dtypes covered.
        heavy: whether it costs more than memory traffic, so that sharing a value beats computing
            it again.
        results: how many results it has. Scalar code makes one value, so a primitive of several is
            one operation for each, ``result=k`` among its parameters; what they have in common,
            LLVM computes once.
    """

    kinds: str
    heavy: bool = False
    results: int = 1


def _rows(kinds: str, names: str, heavy: bool = False) -> dict[str, Row]:
    return dict.fromkeys(names.split(), Row(kinds, heavy))


ELEMENTWISE: dict[str, Row] = {
    **_rows("ifhc", "neg add sub mul abs sign square integer_pow"),
    **_rows("ifh", "bitcast"),
    **_rows("bifhc", "eq ne select convert copy stop_gradient"),
    **_rows("bifh", "max min lt le gt ge"),
    **_rows("fhc", "masked_mul"),
    **_rows("fhc", "is_finite conj"),
    **_rows("fc", "real imag complex"),
    **_rows("fh", "floor ceil round trunc"),
    **_rows("bi", "bitwise_not bitwise_and bitwise_or bitwise_xor"),
    **_rows("i", "shift_left shift_right_logical shift_right_arithmetic population_count clz"),
    **_rows("f", "nextafter"),
    **_rows("fh", "copysign"),
    **_rows("ifhc", "div", heavy=True),
    **_rows("ifh", "rem", heavy=True),
    **_rows("fhc", "sqrt rsqrt reciprocal pow", heavy=True),
    **_rows("fhc", "exp exp2 expm1 log log1p log2 log10 logistic", heavy=True),
    **_rows("fhc", "sin cos tan sinh cosh tanh", heavy=True),
    **_rows("fh", "cbrt hypot atan2 logaddexp", heavy=True),
    **_rows("fhc", "asin acos atan asinh acosh atanh", heavy=True),
    **_rows("fh", "erf erfc erf_inv lgamma digamma polygamma", heavy=True),
    **_rows("fh", "sampled_erf_inv sampled_exp sampled_log sampled_log1p", heavy=True),
    "threefry2x32": Row("i", heavy=True, results=2),
}
"""Rows by primitive."""


def covers(name: str, dtypes: Iterable[np.dtype]) -> bool:
    """Return whether an elementwise primitive has native code for these argument and result
    dtypes."""
    row = ELEMENTWISE.get(name)
    return row is not None and all(KINDS.get(d, "?") in "b" + row.kinds for d in dtypes)
