"""Scalar functions as branch-free LLVM code, so that loops over them vectorise.

Each formula takes the `Block` it writes to, a value's name and its type ('float' or 'double'), and
returns the result's name. They are right at nan, infinities, zeros and denormals, and within 4
units in the last place elsewhere.

References:
    J.-M. Muller, "Elementary Functions: Algorithms and Implementation", 3rd ed., 2016 (additive
    range reduction for exp and log; log(1+f) from s = f / (2 + f)).
    W. J. Cody, W. Waite, "Software Manual for the Elementary Functions", 1980 (two-part constants).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["FORMULAS", "LIBM", "number"]


@dataclass(frozen=True)
class _Format:
    """What the formulas need to know of a float format."""

    ints: str
    mantissa: int
    bias: int
    magic: float  # adding it leaves the rounded integer in the low bits
    ln2: tuple[float, float]  # ln 2 as a short part and the rest
    exp_terms: int
    log_terms: int
    exp_range: tuple[float, float]
    tanh_range: float  # twice the size from which tanh is 1
    tiny: float  # least normal number
    root_half: int  # bits of sqrt(1/2)


_FORMATS = {
    "float": _Format(
        "i32",
        23,
        127,
        1.5 * 2**23,
        (0.693359375, -2.12194440054690583e-4),
        7,
        5,
        (-104.0, 89.0),
        20.0,
        2.0**-126,
        0x3F3504F3,
    ),
    "double": _Format(
        "i64",
        52,
        1023,
        1.5 * 2**52,
        (6.93147180369123816490e-01, 1.90821492927058770002e-10),
        14,
        11,
        (-746.0, 710.0),
        40.0,
        2.0**-1022,
        0x3FE6A09E667F3BCD,
    ),
}


def number(value: float, kind: str) -> str:
    """Return LLVM's spelling of a float constant: the bits of the double it equals."""
    rounded = np.float64(np.float32(value) if kind == "float" else value)
    return f"0x{int(rounded.view(np.uint64)):016X}"


def _polynomial(b: Any, x: str, kind: str, coefficients: Sequence[float]) -> str:
    """Return ``c[0] + c[1] x + ...`` by Horner's rule."""
    out = number(coefficients[-1], kind)
    for c in reversed(coefficients[:-1]):
        out = b.fma(out, x, number(c, kind), kind)
    return out


def exp(b: Any, x: str, kind: str) -> str:
    """Return e**x = 2**n e**r with n = round(x / ln 2) and the Taylor series of e**r."""
    f = _FORMATS[kind]
    low, high = (number(v, kind) for v in f.exp_range)
    x = b.select(b.op(f"fcmp olt {kind} {x}, {low}"), low, x, kind)
    x = b.select(b.op(f"fcmp ogt {kind} {x}, {high}"), high, x, kind)
    shifted = b.fma(x, number(1 / math.log(2), kind), number(f.magic, kind), kind)
    n = b.op(f"fsub {kind} {shifted}, {number(f.magic, kind)}")
    bits = b.op(f"bitcast {kind} {shifted} to {f.ints}")
    r = b.fma(n, number(-f.ln2[0], kind), x, kind)
    r = b.fma(n, number(-f.ln2[1], kind), r, kind)
    series = [1 / math.factorial(k) for k in range(f.exp_terms + 1)]
    p = _polynomial(b, r, kind, series)
    # Two factors, so that neither overflows where the result does not.
    magic_bits = int(
        np.float32(f.magic).view(np.int32)
        if kind == "float"
        else np.float64(f.magic).view(np.int64)
    )
    whole = b.op(f"sub {f.ints} {bits}, {magic_bits}")
    half = b.op(f"ashr {f.ints} {whole}, 1")
    rest = b.op(f"sub {f.ints} {whole}, {half}")
    for part in (half, rest):
        biased = b.op(f"add {f.ints} {part}, {f.bias}")
        scale = b.op(f"bitcast {f.ints} {b.op(f'shl {f.ints} {biased}, {f.mantissa}')} to {kind}")
        p = b.op(f"fmul {kind} {p}, {scale}")
    return p


def log(b: Any, x: str, kind: str) -> str:
    """Return log x = n ln 2 + log(1 + f), 1 + f near 1, by a series in f / (2 + f)."""
    f = _FORMATS[kind]
    grow = f.mantissa + 2
    small = b.op(f"fcmp olt {kind} {x}, {number(f.tiny, kind)}")
    normal = b.select(small, b.op(f"fmul {kind} {x}, {number(2.0**grow, kind)}"), x, kind)
    bits = b.op(f"bitcast {kind} {normal} to {f.ints}")
    exponent = b.op(f"ashr {f.ints} {b.op(f'sub {f.ints} {bits}, {f.root_half}')}, {f.mantissa}")
    reduced = b.op(f"sub {f.ints} {bits}, {b.op(f'shl {f.ints} {exponent}, {f.mantissa}')}")
    m = b.op(f"fsub {kind} {b.op(f'bitcast {f.ints} {reduced} to {kind}')}, {number(1, kind)}")
    n = b.op(f"sitofp {f.ints} {exponent} to {kind}")
    n = b.op(f"fsub {kind} {n}, {b.select(small, number(grow, kind), number(0, kind), kind)}")
    s = b.op(f"fdiv {kind} {m}, {b.op(f'fadd {kind} {m}, {number(2, kind)}')}")
    z = b.op(f"fmul {kind} {s}, {s}")
    series = [2 / (2 * k + 3) for k in range(f.log_terms)]
    tail = b.op(f"fmul {kind} {z}, {_polynomial(b, z, kind, series)}")
    half = b.op(f"fmul {kind} {b.op(f'fmul {kind} {m}, {number(0.5, kind)}')}, {m}")
    inner = b.op(f"fmul {kind} {s}, {b.op(f'fadd {kind} {half}, {tail}')}")
    inner = b.fma(n, number(f.ln2[1], kind), inner, kind)
    inner = b.op(f"fsub {kind} {inner}, {half}")
    out = b.fma(n, number(f.ln2[0], kind), b.op(f"fadd {kind} {inner}, {m}"), kind)
    out = b.select(b.op(f"fcmp oeq {kind} {x}, {number(math.inf, kind)}"), x, out, kind)
    out = b.select(
        b.op(f"fcmp oeq {kind} {x}, {number(0, kind)}"), number(-math.inf, kind), out, kind
    )
    return b.select(
        b.op(f"fcmp ult {kind} {x}, {number(0, kind)}"), number(math.nan, kind), out, kind
    )


def logistic(b: Any, x: str, kind: str) -> str:
    """Return 1 / (1 + e**-x)."""
    e = exp(b, b.op(f"fneg {kind} {x}"), kind)
    return b.op(f"fdiv {kind} {number(1, kind)}, {b.op(f'fadd {kind} {e}, {number(1, kind)}')}")


def tanh(b: Any, x: str, kind: str) -> str:
    """Return t / (t + 2) with t = e**2x - 1 = 2**n (e**r - 1) + (2**n - 1), accurate near zero."""
    f = _FORMATS[kind]
    low, high = (number(v, kind) for v in (-f.tanh_range, f.tanh_range))
    y = b.op(f"fadd {kind} {x}, {x}")
    y = b.select(b.op(f"fcmp olt {kind} {y}, {low}"), low, y, kind)
    y = b.select(b.op(f"fcmp ogt {kind} {y}, {high}"), high, y, kind)
    shifted = b.fma(y, number(1 / math.log(2), kind), number(f.magic, kind), kind)
    n = b.op(f"fsub {kind} {shifted}, {number(f.magic, kind)}")
    r = b.fma(n, number(-f.ln2[0], kind), y, kind)
    r = b.fma(n, number(-f.ln2[1], kind), r, kind)
    series = [1 / math.factorial(k + 1) for k in range(f.exp_terms)]
    q = b.op(f"fmul {kind} {r}, {_polynomial(b, r, kind, series)}")
    # The shift leaves of the bits nothing but n, in the exponent's place.
    bits = b.op(f"shl {f.ints} {b.op(f'bitcast {kind} {shifted} to {f.ints}')}, {f.mantissa}")
    bits = b.op(f"add {f.ints} {bits}, {f.bias << f.mantissa}")
    scale = b.op(f"bitcast {f.ints} {bits} to {kind}")
    t = b.fma(scale, q, b.op(f"fsub {kind} {scale}, {number(1, kind)}"), kind)
    out = b.op(f"fdiv {kind} {t}, {b.op(f'fadd {kind} {t}, {number(2, kind)}')}")
    return b.call("llvm.copysign", [out, x], kind)


# Chebyshev fit of erf(x) / x in x**2 on [0, 16], as powers of x**2 / 8 - 1.
_ERF = (
    0.35353099564340495,
    -0.17657623330392602,
    0.13167511689547207,
    -0.10771044230403215,
    0.09020899404424358,
    -0.07472787156784315,
    0.05988690674393009,
    -0.04576504084136504,
    0.033060611596419896,
    -0.02247402944863727,
    0.01434973873577006,
    -0.008604359881842768,
    0.004852986669306072,
    -0.0025830290325423205,
    0.0012940700205056187,
    -0.0006048631720031436,
    0.0002730868781407246,
    -0.00012649419013464726,
    5.0516480984461565e-05,
    -1.2635295810882527e-05,
    5.069598611100321e-06,
    -4.586436654384096e-06,
    1.4883137738024427e-06,
)


def _erf(b: Any, x: str) -> str:
    """Return erf of a double to the accuracy of a float."""
    kind = "double"
    size = b.call("llvm.fabs", [x], kind)
    big = b.op(f"fcmp oge {kind} {size}, {number(4, kind)}")
    z = b.op(f"fmul {kind} {x}, {x}")
    z = b.select(big, number(16, kind), z, kind)
    z = b.fma(z, number(0.125, kind), number(-1, kind), kind)
    near = b.op(f"fmul {kind} {x}, {_polynomial(b, z, kind, _ERF)}")
    return b.select(big, b.call("llvm.copysign", [number(1, kind), x], kind), near, kind)


def _log1p(b: Any, x: str) -> str:
    kind = "double"
    out = log(b, b.op(f"fadd {kind} {x}, {number(1, kind)}"), kind)
    tiny = b.op(f"fcmp olt {kind} {b.call('llvm.fabs', [x], kind)}, {number(1e-8, kind)}")
    return b.select(tiny, x, out, kind)


def _expm1(b: Any, x: str) -> str:
    kind = "double"
    out = b.op(f"fsub {kind} {exp(b, x, kind)}, {number(1, kind)}")
    tiny = b.op(f"fcmp olt {kind} {b.call('llvm.fabs', [x], kind)}, {number(1e-8, kind)}")
    return b.select(tiny, x, out, kind)


def _through_double(formula: Callable[[Any, str], str]) -> Callable[[Any, str, str], str]:
    """Return the float formula that computes in double and rounds once."""

    def narrow(b: Any, x: str, kind: str) -> str:
        wide = formula(b, b.op(f"fpext float {x} to double"))
        return b.op(f"fptrunc double {wide} to float")

    return narrow


FORMULAS: dict[tuple[str, str], Callable[[Any, str, str], str]] = {
    **{(f.__name__, kind): f for f in (exp, log, logistic, tanh) for kind in _FORMATS},
    ("erf", "float"): _through_double(_erf),
    ("log1p", "float"): _through_double(_log1p),
    ("expm1", "float"): _through_double(_expm1),
}
"""Formula by (primitive, LLVM type)."""

LIBM = {
    "exp2": "exp2",
    "expm1": "expm1",
    "log1p": "log1p",
    "log2": "log2",
    "log10": "log10",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "asin": "asin",
    "acos": "acos",
    "atan": "atan",
    "sinh": "sinh",
    "cosh": "cosh",
    "asinh": "asinh",
    "acosh": "acosh",
    "atanh": "atanh",
    "erf": "erf",
    "erfc": "erfc",
    "pow": "pow",
    "atan2": "atan2",
    "hypot": "hypot",
    "cbrt": "cbrt",
    "rem": "fmod",
}
"""The C library's function (with an f behind it for float) for primitives with no formula here."""
