"""Polynomials that are worked out coefficient by coefficient: polyval, polydiv, poly.

Short ones are written out; long ones are a compiled `scan`, hence this module stands above the
transforms. `funtorch.numpy.ufuncs` puts its functions into the namespace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funtorch import dtypes, transforms
from funtorch.numpy import linalg
from funtorch.numpy.creation import zeros
from funtorch.numpy.elementwise import add, divide, multiply, subtract
from funtorch.numpy.manipulation import concatenate, ravel, stack
from funtorch.numpy.polynomials import trimmed, vector
from funtorch.numpy.promotion import (
    asarray,
    broadcast_shapes,
    broadcast_to,
    convert,
    describe,
    promote,
    promote_inexact,
    to_array,
    to_arrays,
)

__all__ = ["poly", "polydiv", "polyval"]

_WRITTEN_OUT = 16
"""Up to so many steps are written out: compiling a loop takes longer than they do."""

_Step = Callable[[Any, Any], tuple[Any, Any]]


def _steps(step: _Step, compiled: Callable[[Any, Any], Any], carry: Any, xs: Any) -> Any:
    """Return what `scan` of a step returns; ``compiled`` is that scan, jitted."""
    if xs.shape[0] > _WRITTEN_OUT:
        return compiled(carry, xs)
    ys = []
    for k in range(xs.shape[0]):
        carry, y = step(carry, xs[k])
        ys.append(y)
    return carry, stack(ys) if ys and ys[0] is not None else None


# --------------------------------------------------------------------------------------- evaluation
def _horner(carry: Any, coefficient: Any) -> tuple[Any, None]:
    total, x = carry
    return (add(multiply(total, x), coefficient), x), None


@transforms.jit
def _long_horner(carry: Any, xs: Any) -> tuple[Any, Any]:
    return transforms.scan(_horner, carry, xs)


def polyval(p: Any, x: Any, *, unroll: int = 16) -> Any:
    """Evaluate a polynomial by Horner's rule.

    Args:
        p: coefficients, the highest power first; further axes broadcast with x.
        x: array of arguments.
        unroll: accepted for JAX's sake.

    Example:
        >>> polyval(asarray([1, 0, 2]), asarray(3))
        Array(11, dtype=int32)

    References:
        numpy.polyval
    """
    p, x = to_arrays("polyval", p=p, x=x)
    p, x = promote("polyval", p, x)
    if p.ndim == 0:
        raise ValueError(f"polyval: p must have an axis of coefficients, got {describe(p)}")
    p, x = convert(p, p.dtype), convert(x, x.dtype)
    shape = broadcast_shapes(p.shape[1:], x.shape) if p.shape[0] else x.shape
    start = broadcast_to(asarray(0, x.dtype), shape)
    return _steps(_horner, _long_horner, (start, x), p)[0][0]


# ----------------------------------------------------------------------------------------- division
def _divide(carry: Any, following: Any) -> tuple[Any, Any]:
    """Take one coefficient of the quotient: ``window`` is what v is subtracted from."""
    window, divisor, scale = carry
    factor = multiply(scale, window[0])
    rest = subtract(window, multiply(factor, divisor))
    return (concatenate([rest[1:], following[None]]), divisor, scale), stack([factor, rest[0]])


@transforms.jit
def _long_division(carry: Any, xs: Any) -> tuple[Any, Any]:
    return transforms.scan(_divide, carry, xs)


def polydiv(u: Any, v: Any, *, trim_leading_zeros: bool = False) -> tuple[Any, Any]:
    """Divide polynomials.

    Args:
        u: coefficients of the dividend.
        v: coefficients of the divisor; the first must not be 0.
        trim_leading_zeros: drop the zeros in front of the remainder; values must be known.

    Returns:
        (quotient, remainder); the remainder has the length of u unless it is trimmed.

    Example:
        >>> quotient, remainder = polydiv(asarray([1.0, 0.0, 2.0]), asarray([1.0, 1.0]))
        >>> quotient.tolist(), remainder.tolist()
        ([1.0, -1.0], [0.0, 0.0, 3.0])

    References:
        numpy.polydiv
    """
    x, y = promote_inexact("polydiv", vector(u, "polydiv", "u"), vector(v, "polydiv", "v"))
    x, y = convert(x, x.dtype), convert(y, y.dtype)
    m, n = x.shape[0], y.shape[0]
    if not n or not m:
        raise ValueError("polydiv: u and v must have at least one coefficient each")
    if m < n:
        q, rest = zeros((1,), x.dtype), x
    else:
        following = concatenate([x[n:], zeros((1,), x.dtype)])
        start = (x[:n], y, divide(1.0, y[0]))
        (last, _, _), taken = _steps(_divide, _long_division, start, following)
        q, rest = taken[:, 0], concatenate([taken[:, 1], last[:-1]])
    return q, trimmed(rest, "polydiv") if trim_leading_zeros else rest


# -------------------------------------------------------------------------------------------- zeros
def _multiply(coefficients: Any, root: Any) -> tuple[Any, None]:
    """Multiply by (t - root), in an array as long as the last product."""
    lower = multiply(root, coefficients[:-1])
    return concatenate([coefficients[:1], subtract(coefficients[1:], lower)]), None


@transforms.jit
def _long_product(carry: Any, xs: Any) -> tuple[Any, Any]:
    return transforms.scan(_multiply, carry, xs)


def poly(seq_of_zeros: Any) -> Any:
    """Return the coefficients of the polynomial with given zeros.

    Args:
        seq_of_zeros: vector of zeros, or a square matrix whose eigenvalues they are.

    Returns:
        A vector of coefficients, the first one 1.

    Example:
        >>> poly(asarray([1.0, 2.0])).tolist()
        [1.0, -3.0, 2.0]

    References:
        numpy.poly
    """
    x = to_array(seq_of_zeros, "poly", "seq_of_zeros")
    x = convert(x, dtypes.to_inexact(x.dtype))
    if x.ndim == 2 and x.shape[0] == x.shape[1]:
        x = linalg.eigvals(x)
    elif x.ndim > 1:
        raise ValueError(f"poly: a vector or a square matrix is required, got {describe(x)}")
    x = ravel(x)
    if not x.shape[0]:
        return asarray(1, x.dtype)
    start = concatenate([asarray([1], x.dtype), zeros(x.shape, x.dtype)])
    return _steps(_multiply, _long_product, start, x)[0]
