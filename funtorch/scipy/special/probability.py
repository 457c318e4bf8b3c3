"""Distribution functions under SciPy's names: of beta and gamma functions, and their inverses.

References:
    scipy.special, https://docs.scipy.org/doc/scipy/reference/special.html
    NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov: 8.17 (sums of the
    binomial distribution), 20.7.32 (the other form of a theta function).
"""

from __future__ import annotations

import math
from typing import Any

import funtorch.numpy as fnp
from funtorch.scipy.special import gammas, integrals
from funtorch.scipy.special.functions import function_row
from funtorch.transforms.numeric import Maths, numeric

__all__ = [
    "bdtr", "bdtrc", "bdtri", "chdtr", "chdtrc", "chdtri", "fdtr", "fdtrc", "fdtri", "gdtr",
    "gdtrc", "gdtrix", "kolmogorov", "nbdtr", "nbdtrc", "nbdtri", "pdtr", "pdtrc", "pdtri",
    "stdtr", "stdtrit",
]  # fmt: skip


def _where(valid: Any, function: Any, *args: Any, usual: Any = 0.5) -> Any:
    """Return a function where its arguments are valid, nan elsewhere, also in derivatives."""
    return fnp.where(valid, function(*[fnp.where(valid, a, usual) for a in args]), math.nan)


# ---------------------------------------------------------------------------------------- binomial
def _bdtr(k: Any, n: Any, p: Any) -> Any:
    k = fnp.floor(k)
    some = (k >= 0) & (k < n)
    out = _where(some & (p >= 0) & (p <= 1), gammas.betainc, n - k, k + 1, 1 - p)
    return fnp.where((k == n) & (p >= 0) & (p <= 1), 1, out)


def _bdtrc(k: Any, n: Any, p: Any) -> Any:
    k = fnp.floor(k)
    inside = (p >= 0) & (p <= 1)
    out = _where((k >= 0) & (k < n) & inside, gammas.betainc, k + 1, n - k, p)
    return fnp.where(inside & (k < 0), 1, fnp.where(inside & (k == n), 0, out))


def _bdtri(k: Any, n: Any, y: Any) -> Any:
    k = fnp.floor(k)
    valid = (k >= 0) & (k < n) & (y >= 0) & (y <= 1)
    return 1 - _where(valid, gammas.betaincinv, n - k, k + 1, y)


bdtr = function_row(
    "bdtr",
    _bdtr,
    "k n p",
    "Return the probability of at most k successes in n trials, each of probability p.",
    "float(bdtr(1, 2, 0.5)) -> 0.75",
)
bdtrc = function_row(
    "bdtrc",
    _bdtrc,
    "k n p",
    "Return the probability of more than k successes in n trials, each of probability p.",
    "float(bdtrc(1, 2, 0.5)) -> 0.25",
)
bdtri = function_row(
    "bdtri",
    _bdtri,
    "k n y",
    "Return the p at which bdtr(k, n, p) is y.",
    "round(float(bdtri(1, 2, 0.75)), 5) -> 0.5",
)


def _nbdtr(k: Any, n: Any, p: Any) -> Any:
    k = fnp.floor(k)
    return _where((k >= 0) & (n > 0) & (p >= 0) & (p <= 1), gammas.betainc, n, k + 1, p)


def _nbdtrc(k: Any, n: Any, p: Any) -> Any:
    k = fnp.floor(k)
    return _where((k >= 0) & (n > 0) & (p >= 0) & (p <= 1), gammas.betainc, k + 1, n, 1 - p)


def _nbdtri(k: Any, n: Any, y: Any) -> Any:
    k = fnp.floor(k)
    return _where((k >= 0) & (n > 0) & (y >= 0) & (y <= 1), gammas.betaincinv, n, k + 1, y)


nbdtr = function_row(
    "nbdtr",
    _nbdtr,
    "k n p",
    "Return the probability of at most k failures before n successes, each of probability p.",
    "float(nbdtr(1, 1, 0.5)) -> 0.75",
)
nbdtrc = function_row(
    "nbdtrc",
    _nbdtrc,
    "k n p",
    "Return the probability of more than k failures before n successes, each of probability p.",
    "float(nbdtrc(1, 1, 0.5)) -> 0.25",
)
nbdtri = function_row(
    "nbdtri",
    _nbdtri,
    "k n y",
    "Return the p at which nbdtr(k, n, p) is y.",
    "round(float(nbdtri(1, 1, 0.75)), 5) -> 0.5",
)


# ---------------------------------------------------------------------------------- F, chi-squared
def _ratio(a: Any, b: Any, x: Any) -> Any:
    return a * x / (b + a * x)


def _fdtr(dfn: Any, dfd: Any, x: Any) -> Any:
    def inside(dfn: Any, dfd: Any, x: Any) -> Any:
        return gammas.betainc(dfn / 2, dfd / 2, _ratio(dfn, dfd, x))

    return _where((dfn > 0) & (dfd > 0) & (x >= 0), inside, dfn, dfd, x)


def _fdtrc(dfn: Any, dfd: Any, x: Any) -> Any:
    def inside(dfn: Any, dfd: Any, x: Any) -> Any:
        return gammas.betainc(dfd / 2, dfn / 2, dfd / (dfd + dfn * x))

    return _where((dfn > 0) & (dfd > 0) & (x >= 0), inside, dfn, dfd, x)


def _fdtri(dfn: Any, dfd: Any, p: Any) -> Any:
    def inside(dfn: Any, dfd: Any, p: Any) -> Any:
        high = p > 0.5
        w = gammas.betaincinv(dfn / 2, dfd / 2, fnp.where(high, 0.5, p))
        rest = gammas.betaincinv(dfd / 2, dfn / 2, fnp.where(high, 1 - p, 0.5))
        return dfd / dfn * fnp.where(high, (1 - rest) / rest, w / (1 - w))

    return _where((dfn > 0) & (dfd > 0) & (p > 0) & (p <= 1), inside, dfn, dfd, p)


fdtr = function_row(
    "fdtr",
    _fdtr,
    "dfn dfd x",
    "Return the cumulative distribution function of the F distribution.",
    "float(fdtr(2.0, 2.0, 1.0)) -> 0.5",
)
fdtrc = function_row(
    "fdtrc",
    _fdtrc,
    "dfn dfd x",
    "Return 1 - fdtr(dfn, dfd, x).",
    "float(fdtrc(2.0, 2.0, 1.0)) -> 0.5",
)
fdtri = function_row(
    "fdtri",
    _fdtri,
    "dfn dfd p",
    "Return the x at which fdtr(dfn, dfd, x) is p.",
    "round(float(fdtri(2.0, 2.0, 0.5)), 5) -> 1.0",
)
chdtr = function_row(
    "chdtr",
    lambda v, x: gammas.igamma(v / 2, x / 2),
    "v x",
    "Return the cumulative distribution function of the chi-squared distribution.",
    "round(float(chdtr(2.0, 2.0)), 5) -> 0.63212",
)
chdtrc = function_row(
    "chdtrc",
    lambda v, x: gammas.igammac(v / 2, x / 2),
    "v x",
    "Return 1 - chdtr(v, x).",
    "round(float(chdtrc(2.0, 2.0)), 5) -> 0.36788",
)
chdtri = function_row(
    "chdtri",
    lambda v, p: 2 * gammas.gammainccinv(v / 2, p),
    "v p",
    "Return the x at which chdtrc(v, x) is p.",
    "round(float(chdtri(2.0, 0.5)), 5) -> 1.38629",
)

# ---------------------------------------------------------------------------------- gamma, Poisson
gdtr = function_row(
    "gdtr",
    lambda a, b, x: gammas.igamma(b, a * x),
    "a b x",
    "Return the cumulative distribution function of the gamma distribution of rate a and shape b.",
    "round(float(gdtr(1.0, 1.0, 1.0)), 5) -> 0.63212",
)
gdtrc = function_row(
    "gdtrc",
    lambda a, b, x: gammas.igammac(b, a * x),
    "a b x",
    "Return 1 - gdtr(a, b, x).",
    "round(float(gdtrc(1.0, 1.0, 1.0)), 5) -> 0.36788",
)
gdtrix = function_row(
    "gdtrix",
    lambda a, b, p: gammas.gammaincinv(b, p) / a,
    "a b p",
    "Return the x at which gdtr(a, b, x) is p.",
    "round(float(gdtrix(1.0, 1.0, 0.5)), 5) -> 0.69315",
)


def _pdtr(k: Any, m: Any) -> Any:
    return _where((k >= 0) & (m >= 0), gammas.igammac, fnp.floor(k) + 1, m)


def _pdtrc(k: Any, m: Any) -> Any:
    return _where((k >= 0) & (m >= 0), gammas.igamma, fnp.floor(k) + 1, m)


def _pdtri(k: Any, y: Any) -> Any:
    return _where((k >= 0) & (y >= 0) & (y < 1), gammas.gammainccinv, fnp.floor(k) + 1, y)


pdtr = function_row(
    "pdtr",
    _pdtr,
    "k m",
    "Return the probability of at most k events where m are expected (Poisson's distribution).",
    "round(float(pdtr(1, 1.0)), 5) -> 0.73576",
)
pdtrc = function_row(
    "pdtrc",
    _pdtrc,
    "k m",
    "Return the probability of more than k events where m are expected.",
    "round(float(pdtrc(1, 1.0)), 5) -> 0.26424",
)
pdtri = function_row(
    "pdtri",
    _pdtri,
    "k y",
    "Return the m at which pdtr(k, m) is y.",
    "round(float(pdtri(0, 0.5)), 5) -> 0.69315",
)


# --------------------------------------------------------------------------------------- Student's
def _density(v: Any, t: Any) -> Any:
    """Return the density of Student's distribution, by that of t**2 / (v + t**2)."""
    far = v == math.inf
    df, size = fnp.where(far, 1, v), fnp.where(t == 0, 1e-15, fnp.abs(t))
    square = size * size
    beta = gammas.beta_density(fnp.full_like(v, 0.5), df / 2, square / (df + square))
    normal = fnp.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    return fnp.where(far, normal, beta * size * df / (df + square) ** 2)


@numeric(t=_density)
def _stdtr(m: Maths, v: Any, t: Any) -> Any:
    inside = (v > 0) & (v < math.inf) & (m.abs(t) < math.inf) & (t != 0)
    df, s = m.where(inside, v, 1.0), m.where(inside, t, 1.0)
    square = s * s
    x, y = df / (df + square), square / (df + square)
    tail = 0.5 * gammas.beta_both(m, inside, 0.5 * df, 0.5 + 0.0 * df, x, y)[0]
    out = m.where(t < 0, tail, 1.0 - tail)
    ends = m.where(t == 0, 0.5, m.where(t > 0, 1.0, m.where(t < 0, 0.0, math.nan)))
    normal = 0.5 * m.erfc(-t * math.sqrt(0.5))
    ends = m.where(v == math.inf, normal, m.where(v > 0, ends, math.nan))
    return m.where(inside, out, ends)


@numeric(
    v=lambda v, p: -_stdtr.partial(0)(v, _stdtrit(v, p)) / _density(v, _stdtrit(v, p)),
    p=lambda v, p: 1 / _density(v, _stdtrit(v, p)),
)
def _stdtrit(m: Maths, v: Any, p: Any) -> Any:
    """Return the t at which stdtr(v, t) is p, by whichever of two inverses is exact there."""
    inside = (v > 0) & (v < math.inf) & (p > 0) & (p < 1)
    df, low = m.where(inside, v, 1.0), m.minimum(p, 1.0 - p)
    half, tail = 0.5 + 0.0 * df, inside & (low < 0.25)
    inverse = gammas.betaincinv.formula
    w = inverse(m, 0.5 * df, half, m.where(tail, 2.0 * low, 0.5))
    u = inverse(m, half, 0.5 * df, m.where(inside & ~tail, 1.0 - 2.0 * low, 0.5))
    size = m.sqrt(df * m.where(tail, (1.0 - w) / w, u / (1.0 - u)))
    ends = m.where(p == 0, -math.inf, m.where(p == 1, math.inf, math.nan))
    return m.where(inside, m.where(p < 0.5, -size, size), m.where(v > 0, ends, math.nan))


def _student_at(v: Any, p: Any) -> Any:
    far = v == math.inf
    return fnp.where(far, integrals.ndtri(p), _stdtrit(fnp.where(far, 1, v), p))


stdtr = function_row(
    "stdtr",
    _stdtr,
    "df t",
    "Return the cumulative distribution function of Student's t distribution.",
    "round(float(stdtr(1.0, 1.0)), 5) -> 0.75",
)
stdtrit = function_row(
    "stdtrit",
    _student_at,
    "df p",
    "Return the t at which stdtr(df, t) is p.",
    "round(float(stdtrit(1.0, 0.75)), 5) -> 1.0",
)


# ------------------------------------------------------------------------------------- Kolmogorov's
@numeric()
def _kolmogorov(m: Maths, y: Any) -> Any:
    low = y < 1.0
    small, large = m.where(low & (y > 0), y, 1.0), m.where(low, 1.0, y)
    above: Any = 0.0
    below: Any = 0.0
    for k in range(1, 6):
        above = above + 2 * (-1.0) ** (k + 1) * m.exp(-2.0 * k * k * large * large)
        below = below + m.exp(-(((2 * k - 1) * math.pi) ** 2) / (8.0 * small * small))
    out = m.where(low, 1.0 - math.sqrt(2 * math.pi) / small * below, above)
    return m.where(y <= 0, 1.0, m.where(y == y, out, math.nan))


kolmogorov = function_row(
    "kolmogorov",
    _kolmogorov,
    "y",
    "Return the limit of the probability that Kolmogorov's statistic times sqrt(n) exceeds y.",
    "round(float(kolmogorov(1.0)), 5) -> 0.27",
)
