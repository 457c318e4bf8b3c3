"""Orthogonal polynomials at given points, under SciPy's names: one row each, by their recurrences.

References:
    scipy.special, https://docs.scipy.org/doc/scipy/reference/special.html
    NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov: table 18.9.1 and
    18.7 (recurrences, relations).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch.core import Array, concrete_or_error
from funtorch.scipy.special.functions import real_arguments
from funtorch.transforms.loops import fori_loop

__all__ = [
    "eval_chebyc", "eval_chebys", "eval_chebyt", "eval_chebyu", "eval_gegenbauer",
    "eval_genlaguerre", "eval_hermite", "eval_hermitenorm", "eval_jacobi", "eval_laguerre",
    "eval_legendre", "eval_sh_chebyt", "eval_sh_chebyu", "eval_sh_legendre",
]  # fmt: skip

_UNROLLED = 32  # steps; more are a loop of the program

# The polynomial of degree 1, and A and C of p_(k + 1)(x) = A(k, x) p_k(x) - C(k) p_(k - 1)(x); all
# take the kind's parameters, too.
Recurrence = tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]


def _degrees(name: str, n: Any) -> np.ndarray:
    known = np.asarray(concrete_or_error(n, f"the degree n given to {name}"))
    if (known != np.floor(known)).any() or (known < 0).any():
        raise ValueError(f"{name}: n must be whole numbers from 0 on, got {known}")
    return known.astype(np.int32)


def _evaluate(name: str, recurrence: Recurrence, n: Any, x: Any, parameters: Any) -> Array:
    degrees = _degrees(name, n)
    first, factor, less = recurrence

    def step(k: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        lower, value = carry
        new = factor(k, x, *parameters) * value - less(k, *parameters) * lower
        on = k < degrees
        return fnp.where(on, value, lower), fnp.where(on, new, value)

    one = fnp.ones_like(x)
    start = fnp.where(degrees == 0, one, first(x, *parameters))
    carry = fnp.broadcast_to(one, start.shape), start
    top = int(degrees.max(initial=0))
    for k in range(1, min(top, _UNROLLED)):
        carry = step(k, carry)
    if top > _UNROLLED:
        carry = fori_loop(_UNROLLED, top, lambda k, c: step(k.astype(x.dtype), c), carry)
    return carry[1]


def _row(
    name: str,
    recurrence: Recurrence,
    text: str,
    example: str,
    parameters: str = "",
    at: Callable[[Any], Any] = lambda x: x,
    times: float = 1,
    of_parameters: Callable[..., Any] = lambda *p: p,
) -> Any:
    """Make a public function.

    Args:
        parameters: names of those beside n and x, separated by spaces.
        at: gives the points at which the recurrence is run.
        times: a factor of the result.
        of_parameters: gives those that the recurrence takes.
    """
    names = ["n", *parameters.split(), "x"]
    call, printed = example.split(" -> ")
    signature = inspect.Signature(
        [inspect.Parameter(p, inspect.Parameter.POSITIONAL_OR_KEYWORD) for p in names],
        return_annotation=Array,
    )

    def function(*args: Any, **kwargs: Any) -> Array:
        n, *given = signature.bind(*args, **kwargs).args
        *values, x = real_arguments(name, **dict(zip(names[1:], given, strict=True)))
        return times * _evaluate(name, recurrence, n, at(x), of_parameters(*values))

    listed = "".join(f"        {p}: real numbers.\n" for p in names[1:])
    function.__name__ = function.__qualname__ = name
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__doc__ = f"""Return {text}.

    Args:
        n: degrees, whole numbers from 0 on, whose values must be known while tracing.
{listed}
    Returns:
        Floats of the shape that the arguments broadcast to.

    Raises:
        ValueError: a degree is negative or not whole.
        ConcretizationTypeError: the degrees are traced.

    Example:
        >>> {call}
        {printed}

    References:
        scipy.special.{name}
    """
    return function


# ------------------------------------------------------------------------------------- recurrences
def _jacobi_first(x: Any, a: Any, b: Any) -> Any:
    return (a + 1) + (a + b + 2) * (x - 1) / 2


def _jacobi_factor(k: Any, x: Any, a: Any, b: Any) -> Any:
    s = 2 * k + a + b
    return (s + 1) * (s * (s + 2) * x + (a - b) * (a + b)) / (2 * (k + 1) * (k + a + b + 1) * s)


def _jacobi_less(k: Any, a: Any, b: Any) -> Any:
    s = 2 * k + a + b
    return (k + a) * (k + b) * (s + 2) / ((k + 1) * (k + a + b + 1) * s)


_LEGENDRE: Recurrence = (lambda x: x, lambda k, x: (2 * k + 1) / (k + 1) * x, lambda k: k / (k + 1))
_CHEBYSHEV_T: Recurrence = (lambda x: x, lambda k, x: 2 * x, lambda k: 1)
_CHEBYSHEV_U: Recurrence = (lambda x: 2 * x, lambda k, x: 2 * x, lambda k: 1)
_HERMITE: Recurrence = (lambda x: 2 * x, lambda k, x: 2 * x, lambda k: 2 * k)
_HERMITE_NORM: Recurrence = (lambda x: x, lambda k, x: x, lambda k: k)
_LAGUERRE: Recurrence = (
    lambda x, a: 1 + a - x,
    lambda k, x, a: (2 * k + 1 + a - x) / (k + 1),
    lambda k, a: (k + a) / (k + 1),
)
_GEGENBAUER: Recurrence = (
    lambda x, a: 2 * a * x,
    lambda k, x, a: 2 * (k + a) / (k + 1) * x,
    lambda k, a: (k + 2 * a - 1) / (k + 1),
)
_JACOBI: Recurrence = (_jacobi_first, _jacobi_factor, _jacobi_less)


def _shifted(x: Any) -> Any:
    return 2 * x - 1


# ------------------------------------------------------------------------------------------- names
eval_legendre = _row(
    "eval_legendre", _LEGENDRE, "Legendre polynomials", "float(eval_legendre(2, 0.5)) -> -0.125"
)
eval_sh_legendre = _row(
    "eval_sh_legendre",
    _LEGENDRE,
    "Legendre polynomials of 2 x - 1",
    "float(eval_sh_legendre(2, 0.75)) -> -0.125",
    at=_shifted,
)
eval_chebyt = _row(
    "eval_chebyt",
    _CHEBYSHEV_T,
    "Chebyshev polynomials of the first kind",
    "float(eval_chebyt(2, 0.5)) -> -0.5",
)
eval_sh_chebyt = _row(
    "eval_sh_chebyt",
    _CHEBYSHEV_T,
    "Chebyshev polynomials of the first kind of 2 x - 1",
    "float(eval_sh_chebyt(2, 0.75)) -> -0.5",
    at=_shifted,
)
eval_chebyu = _row(
    "eval_chebyu",
    _CHEBYSHEV_U,
    "Chebyshev polynomials of the second kind",
    "float(eval_chebyu(2, 0.5)) -> 0.0",
)
eval_sh_chebyu = _row(
    "eval_sh_chebyu",
    _CHEBYSHEV_U,
    "Chebyshev polynomials of the second kind of 2 x - 1",
    "float(eval_sh_chebyu(2, 0.75)) -> 0.0",
    at=_shifted,
)
eval_chebyc = _row(
    "eval_chebyc",
    _CHEBYSHEV_T,
    "Chebyshev polynomials of the first kind on (-2, 2): 2 T_n(x / 2)",
    "float(eval_chebyc(2, 1.0)) -> -1.0",
    at=lambda x: x / 2,
    times=2,
)
eval_chebys = _row(
    "eval_chebys",
    _CHEBYSHEV_U,
    "Chebyshev polynomials of the second kind on (-2, 2): U_n(x / 2)",
    "float(eval_chebys(2, 1.0)) -> 0.0",
    at=lambda x: x / 2,
)
eval_hermite = _row(
    "eval_hermite",
    _HERMITE,
    "Hermite polynomials, of weight exp(-x**2)",
    "float(eval_hermite(2, 1.0)) -> 2.0",
)
eval_hermitenorm = _row(
    "eval_hermitenorm",
    _HERMITE_NORM,
    "Hermite polynomials of weight exp(-x**2 / 2)",
    "float(eval_hermitenorm(2, 2.0)) -> 3.0",
)
eval_laguerre = _row(
    "eval_laguerre",
    _LAGUERRE,
    "Laguerre polynomials",
    "float(eval_laguerre(1, 0.5)) -> 0.5",
    of_parameters=lambda: (0,),
)
eval_genlaguerre = _row(
    "eval_genlaguerre",
    _LAGUERRE,
    "generalised Laguerre polynomials",
    "float(eval_genlaguerre(1, 1.0, 0.5)) -> 1.5",
    "alpha",
)
eval_gegenbauer = _row(
    "eval_gegenbauer",
    _GEGENBAUER,
    "Gegenbauer polynomials",
    "float(eval_gegenbauer(2, 1.0, 0.5)) -> 0.0",
    "alpha",
)
eval_jacobi = _row(
    "eval_jacobi",
    _JACOBI,
    "Jacobi polynomials",
    "float(eval_jacobi(1, 1.0, 1.0, 0.5)) -> 1.0",
    "alpha beta",
)
