"""Variants of functions under SciPy's names: inverses, quotients and differences that keep digits,
angles in degrees, robust losses.

References:
    scipy.special, https://docs.scipy.org/doc/scipy/reference/special.html
    NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov: 7.5.1 (erfi), 19.8.5
    (arithmetic-geometric means), 22.20 (Jacobi's functions by descending means), 25.11.1.
"""

from __future__ import annotations

import math
from typing import Any

import funtorch.numpy as fnp
from funtorch.core import Array
from funtorch.ops import elementwise as ops
from funtorch.scipy.special import basic, composed, gammas, hypergeometric, integrals
from funtorch.scipy.special.functions import function_row, real_arguments
from funtorch.transforms.numeric import Maths, numeric

__all__ = [
    "agm", "betaincc", "binom", "cbrt", "cosdg", "cosm1", "cotdg", "ellipj", "ellipkm1",
    "erfcinv", "erfi", "exp10", "exp2", "expm1", "exprel", "huber", "inv_boxcox", "inv_boxcox1p",
    "log1p", "log_expit", "powm1", "pseudo_huber", "psi", "radian", "rgamma", "sinc",
    "sindg", "softplus", "tandg", "voigt_profile", "zetac",
]  # fmt: skip

psi = basic.digamma
cbrt, exp2, expm1, log1p, sinc = fnp.cbrt, fnp.exp2, fnp.expm1, fnp.log1p, fnp.sinc


# -------------------------------------------------------------------------- exponentials, powers
exp10 = function_row(
    "exp10", lambda x: fnp.power(10, x), "x", "Return 10**x.", "float(exp10(2.0)) -> 100.0"
)
exprel = function_row(
    "exprel",
    lambda x: fnp.where(x == math.inf, x, composed.growth(x)),
    "x",
    "Return (exp(x) - 1) / x, 1 at 0.",
    "round(float(exprel(1.0)), 5) -> 1.71828",
)
cosm1 = function_row(
    "cosm1",
    lambda x: -2 * fnp.square(fnp.sin(x / 2)),
    "x",
    "Return cos(x) - 1.",
    "float(cosm1(0.0)) -> -0.0",
)
powm1 = function_row(
    "powm1",
    lambda x, y: fnp.where(x > 0, fnp.expm1(basic.xlogy(y, x)), fnp.power(x, y) - 1),
    "x y",
    "Return x**y - 1.",
    "float(powm1(2.0, 3.0)) -> 7.0",
)
log_expit = function_row(
    "log_expit",
    lambda x: -fnp.logaddexp(0, -x),
    "x",
    "Return the logarithm of the logistic function.",
    "round(float(log_expit(0.0)), 5) -> -0.69315",
)
softplus = function_row(
    "softplus",
    lambda x: fnp.logaddexp(0, x),
    "x",
    "Return log(1 + exp(x)).",
    "round(float(softplus(0.0)), 5) -> 0.69315",
)


def _inv_boxcox(y: Any, lmbda: Any) -> Any:
    zero = lmbda == 0
    power = fnp.where(zero, 1, lmbda)
    return fnp.exp(fnp.where(zero, y, fnp.log1p(power * y) / power))


def _inv_boxcox1p(y: Any, lmbda: Any) -> Any:
    zero = fnp.abs(lmbda * y) < 1e-30
    power = fnp.where(zero, 1, lmbda)
    return fnp.expm1(fnp.where(zero, y, fnp.log1p(power * y) / power))


inv_boxcox = function_row(
    "inv_boxcox",
    _inv_boxcox,
    "y lmbda",
    "Return the x at which boxcox(x, lmbda) is y.",
    "round(float(inv_boxcox(4.0, 2.0)), 5) -> 3.0",
)
inv_boxcox1p = function_row(
    "inv_boxcox1p",
    _inv_boxcox1p,
    "y lmbda",
    "Return the x at which boxcox1p(x, lmbda) is y.",
    "round(float(inv_boxcox1p(4.0, 2.0)), 5) -> 2.0",
)


# ----------------------------------------------------------------------------------------- degrees
def _degrees(function: Any, zeros: int, poles: int | None = None) -> Any:
    """Make a function of degrees, exact at multiples of 90.

    Args:
        zeros: an angle from 0 to 90 at which it is 0.
        poles: an angle at which it is infinite.
    """

    def of(x: Any) -> Any:
        period = 360 if poles is None else 180
        out = function(fnp.deg2rad(fnp.fmod(x, period)))
        turn = fnp.mod(x, 180)
        out = fnp.where(turn == zeros, 0, out)
        return out if poles is None else fnp.where(turn == poles, math.inf, out)

    return of


sindg = function_row(
    "sindg", _degrees(fnp.sin, 0), "x", "Return the sine of degrees.", "float(sindg(180.0)) -> 0.0"
)
cosdg = function_row(
    "cosdg",
    _degrees(fnp.cos, 90),
    "x",
    "Return the cosine of degrees.",
    "float(cosdg(90.0)) -> 0.0",
)
tandg = function_row(
    "tandg",
    _degrees(fnp.tan, 0, 90),
    "x",
    "Return the tangent of degrees.",
    "float(tandg(180.0)) -> 0.0",
)
cotdg = function_row(
    "cotdg",
    _degrees(lambda x: 1 / fnp.tan(x), 90, 0),
    "x",
    "Return the cotangent of degrees.",
    "float(cotdg(90.0)) -> 0.0",
)
radian = function_row(
    "radian",
    lambda d, m, s: fnp.deg2rad(d + m / 60 + s / 3600),
    "d m s",
    "Return an angle of degrees, minutes and seconds in radians.",
    "round(float(radian(180.0, 0.0, 0.0)), 5) -> 3.14159",
)

# ------------------------------------------------------------------------- error functions, losses
erfcinv = function_row(
    "erfcinv",
    lambda y: -math.sqrt(0.5) * integrals.ndtri(y / 2),
    "y",
    "Return the x at which erfc(x) is y.",
    "round(float(erfcinv(0.5)), 5) -> 0.47694",
)
erfi = function_row(
    "erfi",
    lambda x: fnp.where(
        fnp.isinf(x), x, 2 / math.sqrt(math.pi) * fnp.exp(x * x) * integrals.dawsn(x)
    ),
    "x",
    "Return the imaginary error function, -1j erf(1j x).",
    "round(float(erfi(1.0)), 5) -> 1.65043",
)


def _voigt(x: Any, sigma: Any, gamma: Any) -> Any:
    pure = sigma == 0  # Cauchy's profile
    width = math.sqrt(2) * fnp.where(pure, 1, sigma)
    w = composed.wofz(ops.complex(x / width, gamma / width)).real
    cauchy = gamma / math.pi / fnp.where(pure, x * x + gamma * gamma, 1)
    return fnp.where(pure, cauchy, w / (width * math.sqrt(math.pi)))


voigt_profile = function_row(
    "voigt_profile",
    _voigt,
    "x sigma gamma",
    "Return Voigt's profile: a normal density of scale sigma, smeared by Cauchy's of scale gamma.",
    "round(float(voigt_profile(0.0, 1.0, 1.0)), 5) -> 0.20871",
)


def _huber(delta: Any, r: Any) -> Any:
    size = fnp.abs(r)
    out = fnp.where(size <= delta, size * size / 2, delta * (size - delta / 2))
    return fnp.where(delta < 0, math.inf, out)


def _pseudo_huber(delta: Any, r: Any) -> Any:
    flat = (delta == 0) | (r == 0)
    u = r / fnp.where(flat, 1, delta)
    steep = delta * delta * (fnp.expm1(fnp.log1p(u * u) / 2))
    return fnp.where(delta < 0, math.inf, fnp.where(delta == 0, 0, steep))


huber = function_row(
    "huber",
    _huber,
    "delta r",
    "Return Huber's loss: r**2 / 2 up to |r| = delta, linear beyond.",
    "float(huber(1.0, 2.0)) -> 1.5",
)
pseudo_huber = function_row(
    "pseudo_huber",
    _pseudo_huber,
    "delta r",
    "Return delta**2 (sqrt(1 + (r / delta)**2) - 1), a smooth form of Huber's loss.",
    "round(float(pseudo_huber(1.0, 1.0)), 5) -> 0.41421",
)


# -------------------------------------------------------------------------------------- gamma, beta
def _rgamma(x: Any) -> Any:
    pole = (x <= 0) & (x == fnp.floor(x))
    y = fnp.where(pole, 1, x)
    large = fnp.abs(y) > 20
    near = 1 / basic.gamma(fnp.where(large, 1, y))
    far = composed.gammasgn(y) * fnp.exp(-basic.gammaln(fnp.where(large, y, 1)))
    return fnp.where(pole, 0, fnp.where(large, far, near))


rgamma = function_row("rgamma", _rgamma, "x", "Return 1 / gamma(x).", "float(rgamma(3.0)) -> 0.5")


def _binom(n: Any, k: Any) -> Any:
    logs = basic.gammaln(n + 1) - basic.gammaln(k + 1) - basic.gammaln(n - k + 1)
    sign = composed.gammasgn(n + 1) * composed.gammasgn(k + 1) * composed.gammasgn(n - k + 1)
    whole = (n == fnp.floor(n)) & (k == fnp.floor(k))
    outside = whole & ((k < 0) | (k > n)) & (n >= 0)
    return fnp.where(outside, 0, fnp.where(outside, 1, sign) * fnp.exp(logs))


binom = function_row(
    "binom",
    _binom,
    "x y",
    "Return gamma(x + 1) / (gamma(y + 1) gamma(x - y + 1)): binomial coefficients of real numbers.",
    "round(float(binom(4.0, 2.0)), 4) -> 6.0",
)


@numeric(x=lambda a, b, x: -gammas.beta_density(a, b, x))
def _betaincc(m: Maths, a: Any, b: Any, x: Any) -> Any:
    inside = (a > 0) & (b > 0) & (x > 0) & (x < 1) & (a < math.inf) & (b < math.inf)
    p, q, y = m.where(inside, a, 1.0), m.where(inside, b, 1.0), m.where(inside, x, 0.5)
    out = gammas.beta_both(m, inside, p, q, y, 1.0 - y)[1]
    return m.where(inside, out, 1.0 - gammas.betainc.formula(m, a, b, m.where(inside, 0.0, x)))


betaincc = function_row(
    "betaincc",
    _betaincc,
    "a b x",
    "Return 1 - betainc(a, b, x).",
    "float(betaincc(1.0, 1.0, 0.25)) -> 0.75",
)


def _zetac(x: Any) -> Any:
    above = x > 1
    return fnp.where(
        above,
        gammas.hurwitz(fnp.where(above, x, 2), fnp.full_like(x, 2)),
        gammas.riemann(fnp.where(above, 0, x)) - 1,
    )


zetac = function_row(
    "zetac", _zetac, "x", "Return zeta(x) - 1.", "round(float(zetac(2.0)), 5) -> 0.64493"
)


# ---------------------------------------------------------------------------------------- elliptic
@numeric()
def _ellipkm1(m: Maths, p: Any) -> Any:
    inside = (p > 0) & (p < math.inf)
    out = 0.5 * math.pi / hypergeometric.means(m, m.sqrt(m.where(inside, p, 1.0)))[0]
    return m.where(inside, out, m.where(p == 0, math.inf, m.where(p > 0, 0.0, math.nan)))


@numeric()
def _agm(m: Maths, a: Any, b: Any) -> Any:
    inside = (a * b > 0) & (m.abs(a) < math.inf) & (m.abs(b) < math.inf)
    c, d = m.where(inside, a, 1.0), m.where(inside, b, 1.0)
    size = m.abs(c) >= m.abs(d)
    big, small = m.where(size, c, d), m.where(size, d, c)
    out = big * hypergeometric.means(m, small / big)[0]
    ends = m.where((a == 0) | (b == 0), 0.0, math.nan)
    return m.where(inside, out, m.where((a == a) & (b == b), ends, math.nan))


ellipkm1 = function_row(
    "ellipkm1",
    _ellipkm1,
    "p",
    "Return ellipk(1 - p), exact near p = 0.",
    "round(float(ellipkm1(1.0)), 5) -> 1.5708",
)
agm = function_row(
    "agm",
    _agm,
    "a b",
    "Return the arithmetic-geometric mean.",
    "round(float(agm(1.0, 2.0)), 5) -> 1.45679",
)


def ellipj(u: Any, m: Any) -> tuple[Array, Array, Array, Array]:
    """Return Jacobi's elliptic functions of parameter m.

    Args:
        u: real numbers.
        m: real numbers from 0 to 1.

    Returns:
        ``(sn, cn, dn, ph)``, each of the shape that u and m broadcast to; nan where m is outside.
        ph is the amplitude.

    Raises:
        TypeError: an argument is complex.

    Example:
        >>> round(float(ellipj(1.0, 0.0)[0]), 5)
        0.84147

    References:
        scipy.special.ellipj
    """
    u, m = real_arguments("ellipj", u=u, m=m)
    inside = (m >= 0) & (m < 1)
    k = fnp.where(inside, m, 0)
    a, b = [fnp.ones_like(k)], fnp.sqrt(1 - k)
    sines: list[Any] = []
    for _ in range(6):
        mean = (a[-1] + b) / 2
        sines.append((a[-1] - b) / 2 / mean)
        a.append(mean)
        b = fnp.sqrt(a[-2] * b)
    phase = 2 ** len(sines) * a[-1] * u
    for s in reversed(sines):
        phase = (phase + fnp.arcsin(s * fnp.sin(phase))) / 2
    one = m == 1  # hyperbolic functions there
    x = fnp.where(one, u, 0)
    phase = fnp.where(one, 2 * fnp.arctan(fnp.tanh(x / 2)), phase)
    phase = fnp.where(inside | one, phase, math.nan)
    sn, sech = fnp.sin(phase), 1 / fnp.cosh(x)
    cn = fnp.where(one, sech, fnp.cos(phase))
    dn = fnp.where(one, sech, fnp.sqrt(1 - fnp.where(one, 0, m) * sn * sn))
    return fnp.where(one, fnp.tanh(x), sn), cn, dn, phase
