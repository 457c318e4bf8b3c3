"""Special functions written with others: several results, complex numbers, whole parameters.

References:
    scipy.special, https://docs.scipy.org/doc/scipy/reference/special.html
    NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov: 5.5.3, 5.5.5, 5.11.1
    (log gamma), 5.15.1 (polygamma), 14.10.3 (Legendre functions), 14.30 (spherical harmonics).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import Array
from funtorch.numpy import promotion
from funtorch.ops import elementwise as ops
from funtorch.ops import special
from funtorch.scipy.special import arithmetic, bessel, gammas, hypergeometric, integrals
from funtorch.scipy.special.basic import gammaln
from funtorch.scipy.special.functions import real_arguments
from funtorch.transforms.numeric import Maths, numeric

__all__ = [
    "bernoulli",
    "bessel_jn",
    "boxcox",
    "boxcox1p",
    "comb",
    "fresnel",
    "gammasgn",
    "growth",
    "lambertw",
    "log_ndtr",
    "loggamma",
    "polygamma",
    "sici",
    "sph_harm_y",
    "wofz",
    "zeta",
]


def _complex(function: str, name: str, x: Any) -> Any:
    """Return an argument as an Array of a complex dtype."""
    (x,) = promotion.promote_inexact(function, promotion.to_array(x, function, name))
    to = dtypes.complex_dtype(x.dtype)
    return x if x.dtype == to else promotion.convert(x, to)


# ------------------------------------------------------------------------------------------- gamma
def polygamma(n: Any, x: Any) -> Array:
    """Return the n-th derivative of `digamma`.

    Args:
        n: order, whole numbers from 0 on; derivatives in n are those of
            ``(-1)**(n + 1) gamma(n + 1) zeta(n + 1, x)`` with the sign held.
        x: real numbers.

    Returns:
        Floats of the shape that n and x broadcast to; with an array n, nan where x < 0.

    Raises:
        ValueError: n is a negative int.

    Example:
        >>> round(float(polygamma(1, 1.0)), 5)
        1.64493

    References:
        scipy.special.polygamma
    """
    if isinstance(n, (int, np.integer)) and not isinstance(n, bool):
        if n < 0:
            raise ValueError(f"polygamma: n must be 0 or more, got {n}")
        (y,) = real_arguments("polygamma", x=x)
        return ops.polygamma(y, n=int(n)) if n else ops.digamma(y)
    order, y = real_arguments("polygamma", n=n, x=x)
    sign = ops.stop_gradient(fnp.where(fnp.mod(order, 2) == 0, -1, 1)).astype(y.dtype)
    higher = sign * fnp.exp(ops.lgamma(order + 1)) * gammas.hurwitz(order + 1, y)
    return fnp.where(order == 0, ops.digamma(y), higher)


def zeta(x: Any, q: Any = None) -> Array:
    """Return the Riemann zeta function, or with q the Hurwitz one: the sum of ``(k + q)**-x``.

    Args:
        x: real numbers; with q, above 1.
        q: real numbers above 0; None for Riemann's function.

    Returns:
        Floats of the shape that the arguments broadcast to.

    Example:
        >>> round(float(zeta(2.0)), 5)
        1.64493

    References:
        scipy.special.zeta
    """
    if q is None:
        return gammas.riemann(*real_arguments("zeta", x=x))
    return gammas.hurwitz(*real_arguments("zeta", x=x, q=q))


def gammasgn(x: Any) -> Array:
    """Return the sign of the gamma function: nan at negative whole numbers.

    Args:
        x: real numbers.

    Returns:
        1, -1 or nan, of the shape of x.

    Example:
        >>> float(gammasgn(-0.5))
        -1.0

    References:
        scipy.special.gammasgn
    """
    (x,) = real_arguments("gammasgn", x=x)
    floor = fnp.floor(x)
    pole = (x < 0) & (x == floor)
    negative = ((x < 0) & (fnp.mod(floor, 2) != 0)) | ((x == 0) & fnp.signbit(x))
    out = fnp.where(negative, -1.0, 1.0).astype(x.dtype)
    return fnp.where(pole | fnp.isnan(x), math.nan, out)


def loggamma(x: Any) -> Array:
    """Return the principal branch of the logarithm of the gamma function.

    Args:
        x: real or complex numbers.

    Returns:
        The logarithm, of the shape and kind of x; nan for real x <= 0.

    Example:
        >>> round(float(loggamma(3.0)), 5)
        0.69315

    References:
        scipy.special.loggamma
    """
    (x,) = promotion.promote_inexact("loggamma", promotion.to_array(x, "loggamma", "x"))
    if not dtypes.is_complex(x.dtype):
        return fnp.where(x > 0, gammaln(x), math.nan)
    upper = fnp.where(x.imag < 0, fnp.conj(x), x)
    left = upper.real < 0.5
    z = fnp.where(left, 1 - upper, upper)
    logs = 0
    for k in range(8):
        logs = logs + fnp.log(z + k)
    w = z + 8
    stirling = (w - 0.5) * fnp.log(w) - w + 0.5 * math.log(2 * math.pi)
    out = stirling + arithmetic.poly(special.STIRLING, 1 / (w * w)) / w - logs
    # log(sin(pi z)), continuous in the upper half plane.
    turn = upper - fnp.round(upper.real)
    sine = fnp.log(-fnp.expm1(2j * math.pi * fnp.where(left, turn, 0.25)))
    sine = sine + 0.5j * math.pi - math.log(2) - 1j * math.pi * upper
    # log gamma(1 - z) of the lower half plane is that of its mirror image.
    out = fnp.where(left, math.log(math.pi) - sine - out, out)
    return fnp.where(x.imag < 0, fnp.conj(out), out)


def comb(N: Any, k: Any, *, repetition: bool = False) -> Array:
    """Return the number of combinations of N things taken k at a time.

    Args:
        N: real numbers, how many things there are.
        k: real numbers, how many are taken.
        repetition: whether a thing may be taken again.

    Returns:
        Floats; 0 where N < 0, k < 0 or k > N.

    Example:
        >>> round(float(comb(4, 2)), 3)
        6.0

    References:
        scipy.special.comb
    """
    N, k = real_arguments("comb", N=N, k=k)
    if repetition:
        return fnp.where((k == 0) & (N >= 0), 1, comb(N + k - 1, k))
    valid = (k <= N) & (N >= 0) & (k >= 0)
    n, j = fnp.where(valid, N, 0), fnp.where(valid, k, 0)
    return fnp.where(valid, fnp.exp(gammaln(n + 1) - gammaln(j + 1) - gammaln(n + 1 - j)), 0)


_BERNOULLI = [1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66]  # of 2, 4, ..., 10


def bernoulli(n: int) -> Array:
    """Return the Bernoulli numbers B_0 to B_n, with B_1 = -1/2.

    Args:
        n: a Python int, 0 or more.

    Returns:
        Floats of shape (n + 1,).

    Raises:
        ValueError: n is negative.

    Example:
        >>> [round(b, 4) for b in bernoulli(2).tolist()]
        [1.0, -0.5, 0.1667]

    References:
        scipy.special.bernoulli
    """
    count = promotion.static_int(n, "bernoulli: n")
    if count < 0:
        raise ValueError(f"bernoulli: n must be a whole number from 0 on, got {count}")
    m = np.arange(2, count // 2 * 2 + 1, 2)
    # |B_m| = 2 zeta(m) m! / (2 pi)^m; of the zeta function of m > 10 few terms are left.
    with np.errstate(over="ignore"):
        sizes = 2 * np.cumprod((m - 1) * m / (2 * np.pi) ** 2)
    zeta = 1 + np.sum(np.arange(2.0, 64.0) ** -np.maximum(m, 12)[:, None], 1)
    even = np.where(m % 4 == 2, 1.0, -1.0) * sizes * zeta
    even[: len(_BERNOULLI)] = _BERNOULLI[: len(m)]
    values = np.zeros(count + 1)
    values[:2] = [1.0, -0.5][: count + 1]
    values[2::2] = even
    return fnp.array(values, dtype=dtypes.canonical(float))


# ------------------------------------------------------------------------------------------ powers
@numeric()
def growth(m: Maths, u: Any) -> Any:
    """Return ``(exp(u) - 1) / u``, 1 at 0."""
    near = m.abs(u) < 0.5
    v = m.where(near, u, 0.0)
    series = arithmetic.poly([1 / math.factorial(k + 1) for k in range(17)][::-1], v)
    return m.where(near, series, m.expm1(u) / m.where(near, 1.0, u))


def boxcox(x: Any, lmbda: Any) -> Array:
    """Return the Box-Cox transform ``(x**lmbda - 1) / lmbda``, log(x) where lmbda is 0.

    Args:
        x: real numbers above 0.
        lmbda: real numbers.

    Returns:
        Floats of the shape that the arguments broadcast to; nan where x < 0.

    Example:
        >>> round(float(boxcox(3.0, 2.0)), 3)
        4.0

    References:
        scipy.special.boxcox
    """
    x, lmbda = real_arguments("boxcox", x=x, lmbda=lmbda)
    return _boxcox(x, lmbda, fnp.log(x))


def boxcox1p(x: Any, lmbda: Any) -> Array:
    """Return the Box-Cox transform of 1 + x.

    Args:
        x: real numbers above -1.
        lmbda: real numbers.

    Returns:
        Floats of the shape that the arguments broadcast to; nan where x < -1.

    Example:
        >>> round(float(boxcox1p(2.0, 2.0)), 3)
        4.0

    References:
        scipy.special.boxcox1p
    """
    x, lmbda = real_arguments("boxcox1p", x=x, lmbda=lmbda)
    return _boxcox(1 + x, lmbda, fnp.log1p(x))


def _boxcox(x: Any, lmbda: Any, log: Any) -> Any:
    zero = x == 0
    safe = fnp.where(zero, 0, log)
    at_zero = fnp.where(lmbda > 0, -1 / fnp.where(lmbda > 0, lmbda, 1), -math.inf)
    return fnp.where(zero, at_zero, safe * growth(lmbda * safe))


# --------------------------------------------------------------------------------------- integrals
def sici(x: Any) -> tuple[Array, Array]:
    """Return the sine and the cosine integral.

    Args:
        x: real numbers.

    Returns:
        (si, ci): the integral of ``sin(t) / t`` from 0 to x, and minus that of ``cos(t) / t`` from
        x on, nan for x < 0.

    Example:
        >>> [round(float(v), 5) for v in sici(1.0)]
        [0.94608, 0.3374]

    References:
        scipy.special.sici
    """
    (x,) = real_arguments("sici", x=x)
    return integrals.sine_integral(x), integrals.cosine_integral(x)


def fresnel(x: Any) -> tuple[Array, Array]:
    """Return the Fresnel integrals.

    Args:
        x: real numbers.

    Returns:
        (s, c): the integrals of ``sin(pi t**2 / 2)`` and of ``cos(pi t**2 / 2)`` from 0 to x.

    Example:
        >>> [round(float(v), 5) for v in fresnel(1.0)]
        [0.43826, 0.77989]

    References:
        scipy.special.fresnel
    """
    (x,) = real_arguments("fresnel", x=x)
    return integrals.fresnel_sine(x), integrals.fresnel_cosine(x)


def wofz(z: Any) -> Array:
    """Return the Faddeeva function ``exp(-z**2) erfc(-i z)``.

    Args:
        z: numbers; real ones become complex.

    Returns:
        Complex numbers of the shape of z.

    Example:
        >>> complex(wofz(0.0))
        (1+0j)

    References:
        scipy.special.wofz
    """
    return integrals.wofz(_complex("wofz", "z", z))


def lambertw(z: Any, k: int = 0, tol: float = 1e-8) -> Array:
    """Return branch k of Lambert's function: the solution w of ``w exp(w) = z``.

    Args:
        z: numbers; real ones become complex.
        k: which branch, a Python int.
        tol: taken for SciPy's sake; solutions are exact to the dtype.

    Returns:
        Complex numbers of the shape of z.

    Example:
        >>> round(float(lambertw(1.0).real), 5)
        0.56714

    References:
        scipy.special.lambertw
    """
    return hypergeometric.lambertw(
        _complex("lambertw", "z", z), promotion.static_int(k, "lambertw: k")
    )


def log_ndtr(x: Any, series_order: int = 3) -> Array:
    """Return the logarithm of `ndtr`, accurate in both tails.

    Args:
        x: real numbers.
        series_order: taken for JAX's sake; results are exact to the dtype.

    Returns:
        Floats of the shape of x.

    Example:
        >>> round(float(log_ndtr(-100.0)), 2)
        -5005.52

    References:
        scipy.special.log_ndtr
    """
    (x,) = real_arguments("log_ndtr", x=x)
    return integrals.log_ndtr(x)


# ---------------------------------------------------------------------------------- Bessel, sphere
def bessel_jn(z: Any, *, v: int, n_iter: int = 50) -> Array:
    """Return the Bessel functions of the first kind of orders 0 to v.

    Args:
        z: real numbers.
        v: the highest order, a Python int.
        n_iter: taken for JAX's sake; results are exact to the dtype.

    Returns:
        Floats of shape ``(v + 1, *z.shape)``.

    Raises:
        ValueError: v is negative.

    Example:
        >>> bessel_jn(0.0, v=2).tolist()
        [1.0, 0.0, 0.0]

    References:
        scipy.special.jv
    """
    (x,) = real_arguments("bessel_jn", z=z)
    top = promotion.static_int(v, "bessel_jn: v")
    if top < 0:
        raise ValueError(f"bessel_jn: v must be a whole number from 0 on, got {top}")
    orders = fnp.arange(top + 1, dtype=x.dtype).reshape(-1, *(1,) * x.ndim)
    return bessel.jv(*promotion.broadcast("bessel_jn", orders, x[None]))


def sph_harm_y(
    n: Any, m: Any, theta: Any, phi: Any, diff_n: None = None, n_max: int | None = None
) -> Array:
    """Return spherical harmonics of degree n and order m.

    Args:
        n: degrees, whole numbers from 0 on.
        m: orders, whole numbers with ``|m| <= n``.
        theta: polar angles, from 0 to pi.
        phi: azimuths.
        diff_n: only None.
        n_max: the highest degree, a Python int; degrees are clipped to it. That of n if None,
            which then must be known outside of jit.

    Returns:
        Complex numbers of the shape that the arguments broadcast to, at least one axis.

    Raises:
        NotImplementedError: diff_n is given.

    Example:
        >>> round(float(sph_harm_y(0, 0, 0.5, 0.5).real[0]), 5)
        0.28209

    References:
        scipy.special.sph_harm_y
    """
    if diff_n is not None:
        raise NotImplementedError(
            f"sph_harm_y: diff_n must be None, got {diff_n!r}; derivatives come from jvp and grad"
        )
    if n_max is None:
        n_max = int(np.max(np.asarray(n)))
    top = promotion.static_int(n_max, "sph_harm_y: n_max")
    theta, phi = real_arguments("sph_harm_y", theta=theta, phi=phi)
    n, m = (promotion.to_array(v, "sph_harm_y", name) for name, v in (("n", n), ("m", m)))
    n, m, theta, phi = promotion.broadcast("sph_harm_y", *map(fnp.atleast_1d, (n, m, theta, phi)))
    n, order = fnp.clip(n, 0, top), fnp.abs(m)
    x, s = fnp.cos(theta), fnp.sin(theta)
    # Normalised functions: first of degree and order |m|, then by degrees up to n.
    lower, value = fnp.zeros_like(x), fnp.full_like(x, math.sqrt(0.25 / math.pi))
    for k in range(1, top + 1):
        value = fnp.where(k <= order, -math.sqrt((2 * k + 1) / (2 * k)) * s * value, value)
    square = (order * order).astype(x.dtype)
    for k in range(1, top + 1):
        above = (k > order) & (k <= n)
        gap = fnp.where(above, k * k - square, 1)
        up = fnp.sqrt((4 * k * k - 1) / gap)
        down = fnp.sqrt(fnp.where(above, (k - 1) ** 2 - square, 0) / max(4 * (k - 1) ** 2 - 1, 1))
        new = up * (x * value - down * lower)
        lower, value = fnp.where(above, value, lower), fnp.where(above, new, value)
    angle = order.astype(x.dtype) * phi
    out = value * ops.complex(fnp.cos(angle), fnp.sin(angle))
    # Y of -m is the conjugate of Y of m, times (-1)**m.
    sign = fnp.where(fnp.mod(order, 2) == 0, 1, -1).astype(x.dtype)
    return fnp.where(m < 0, sign * fnp.conj(out), out)
