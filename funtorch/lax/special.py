"""Special functions with the names and the strictness of jax.lax.

References:
    JAX, "jax.lax", https://docs.jax.dev/en/latest/jax.lax.html
"""

from __future__ import annotations

from typing import Any

from funtorch.core import Array
from funtorch.lax.operations import agree
from funtorch.scipy.special import bessel, gammas
from funtorch.scipy.special import polygamma as _polygamma

__all__ = [
    "bessel_i0e",
    "bessel_i1e",
    "betainc",
    "igamma",
    "igamma_grad_a",
    "igammac",
    "polygamma",
    "random_gamma_grad",
    "zeta",
]


def bessel_i0e(x: Any) -> Array:
    """Return ``exp(-|x|)`` times the modified Bessel function of order 0.

    Example:
        >>> from funtorch import lax
        >>> float(lax.bessel_i0e(0.0))
        1.0

    References:
        jax.lax.bessel_i0e
    """
    return bessel.i0e(*agree("bessel_i0e", (x,)))


def bessel_i1e(x: Any) -> Array:
    """Return ``exp(-|x|)`` times the modified Bessel function of order 1.

    Example:
        >>> from funtorch import lax
        >>> float(lax.bessel_i1e(0.0))
        0.0

    References:
        jax.lax.bessel_i1e
    """
    return bessel.i1e(*agree("bessel_i1e", (x,)))


def betainc(a: Any, b: Any, x: Any) -> Array:
    """Return the regularised incomplete beta function I_x(a, b).

    Example:
        >>> from funtorch import lax
        >>> float(lax.betainc(1.0, 1.0, 0.25))
        0.25

    References:
        jax.lax.betainc
    """
    return gammas.betainc(*agree("betainc", (a, b, x)))


def igamma(a: Any, x: Any) -> Array:
    """Return the regularised lower incomplete gamma function P(a, x).

    Example:
        >>> from funtorch import lax
        >>> round(float(lax.igamma(1.0, 1.0)), 5)
        0.63212

    References:
        jax.lax.igamma
    """
    return gammas.igamma(*agree("igamma", (a, x)))


def igamma_grad_a(a: Any, x: Any) -> Array:
    """Return the derivative of `igamma` in a.

    Example:
        >>> from funtorch import lax
        >>> round(float(lax.igamma_grad_a(1.0, 1.0)), 5)
        -0.43173

    References:
        jax.lax.igamma_grad_a
    """
    return gammas.igamma.partial(0)(*agree("igamma_grad_a", (a, x)))


def igammac(a: Any, x: Any) -> Array:
    """Return the regularised upper incomplete gamma function, 1 - P(a, x).

    Example:
        >>> from funtorch import lax
        >>> round(float(lax.igammac(1.0, 1.0)), 5)
        0.36788

    References:
        jax.lax.igammac
    """
    return gammas.igammac(*agree("igammac", (a, x)))


def polygamma(m: Any, x: Any) -> Array:
    """Return the derivative of order m of `digamma`.

    Example:
        >>> from funtorch import lax
        >>> round(float(lax.polygamma(1.0, 1.0)), 5)
        1.64493

    References:
        jax.lax.polygamma
    """
    return _polygamma(*agree("polygamma", (m, x)))


def random_gamma_grad(a: Any, x: Any, *, dtype: Any = None) -> Array:
    """Return the derivative of gamma-distributed numbers x in their parameter a.

    Args:
        a: the parameter.
        x: numbers drawn with it.
        dtype: taken for JAX's sake; it is that of the arguments.

    Example:
        >>> from funtorch import lax
        >>> round(float(lax.random_gamma_grad(1.0, 1.0)), 4)
        1.1736

    References:
        jax.lax.random_gamma_grad
    """
    return gammas.random_gamma_grad(*agree("random_gamma_grad", (a, x)))


def zeta(x: Any, q: Any) -> Array:
    """Return the Hurwitz zeta function, the sum of ``(k + q)**-x`` over k from 0 on.

    Example:
        >>> from funtorch import lax
        >>> round(float(lax.zeta(2.0, 1.0)), 5)
        1.64493

    References:
        jax.lax.zeta
    """
    return gammas.hurwitz(*agree("zeta", (x, q)))
