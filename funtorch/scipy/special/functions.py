"""Functions of real numbers under SciPy's names, differentiable in every argument: one row each.

References:
    scipy.special, https://docs.scipy.org/doc/scipy/reference/special.html
    JAX, "jax.scipy.special", https://docs.jax.dev/en/latest/jax.scipy.html
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from funtorch import dtypes
from funtorch.core import Array
from funtorch.numpy import promotion
from funtorch.scipy.special import bessel, gammas, hypergeometric, integrals

__all__ = [
    "betainc",
    "betaincinv",
    "dawsn",
    "ellipe",
    "ellipeinc",
    "ellipk",
    "ellipkinc",
    "erfcx",
    "exp1",
    "expi",
    "expn",
    "function_row",
    "gammainc",
    "gammaincc",
    "gammainccinv",
    "gammaincinv",
    "hyp1f1",
    "hyp2f1",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "iv",
    "ive",
    "jv",
    "kv",
    "kve",
    "ndtri",
    "owens_t",
    "real_arguments",
    "spence",
    "yv",
]


def real_arguments(function: str, **arguments: Any) -> list[Any]:
    """Return named arguments as Arrays of one real float dtype and one shape.

    Raises:
        TypeError: one is complex, or no number at all.
    """
    arrays = [promotion.to_array(x, function, name) for name, x in arguments.items()]
    for name, x in zip(arguments, arrays, strict=True):
        if dtypes.is_complex(x.dtype):
            raise TypeError(
                f"{function}: argument {name} must be real, got {promotion.describe(x)}; "
                "take its real part first"
            )
    return promotion.broadcast(function, *promotion.promote_inexact(function, *arrays))


def function_row(
    name: str, numeric: Callable[..., Any], arguments: str, summary: str, example: str
) -> Any:
    """Make a public function of real numbers.

    Args:
        numeric: the function, of arrays of one shape and float dtype.
        arguments: names of the arguments, separated by spaces.
        example: a call, and what it prints, separated by " -> ".
    """
    names = arguments.split()
    call, printed = example.split(" -> ")
    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature(
        [inspect.Parameter(n, kinds, annotation=Any) for n in names], return_annotation=Array
    )

    def function(*args: Any, **kwargs: Any) -> Array:
        if kwargs or len(args) != len(names):
            args = signature.bind(*args, **kwargs).args
        return numeric(*real_arguments(name, **dict(zip(names, args, strict=True))))

    function.__name__ = function.__qualname__ = name
    function.__signature__ = signature  # type: ignore[attr-defined]
    listed = "\n".join(
        f"        {n}: real numbers; integers become the default float." for n in names
    )
    function.__doc__ = f"""{summary}

    Args:
{listed}

    Returns:
        Floats of the shape that the arguments broadcast to.

    Raises:
        TypeError: an argument is complex.

    Example:
        >>> {call}
        {printed}

    References:
        scipy.special.{name}
    """
    return function


# ------------------------------------------------------------------------------------------- gamma
gammainc = function_row(
    "gammainc",
    gammas.igamma,
    "a x",
    "Return the regularised lower incomplete gamma function P(a, x).",
    "round(float(gammainc(1.0, 1.0)), 5) -> 0.63212",
)
gammaincc = function_row(
    "gammaincc",
    gammas.igammac,
    "a x",
    "Return the regularised upper incomplete gamma function, 1 - P(a, x).",
    "round(float(gammaincc(1.0, 1.0)), 5) -> 0.36788",
)
gammaincinv = function_row(
    "gammaincinv",
    gammas.gammaincinv,
    "a y",
    "Return the x at which gammainc(a, x) is y.",
    "round(float(gammaincinv(1.0, 0.5)), 5) -> 0.69315",
)
gammainccinv = function_row(
    "gammainccinv",
    gammas.gammainccinv,
    "a y",
    "Return the x at which gammaincc(a, x) is y.",
    "round(float(gammainccinv(1.0, 0.5)), 5) -> 0.69315",
)
betainc = function_row(
    "betainc",
    gammas.betainc,
    "a b x",
    "Return the regularised incomplete beta function I_x(a, b).",
    "float(betainc(1.0, 1.0, 0.25)) -> 0.25",
)
betaincinv = function_row(
    "betaincinv",
    gammas.betaincinv,
    "a b y",
    "Return the x at which betainc(a, b, x) is y.",
    "float(betaincinv(1.0, 1.0, 0.25)) -> 0.25",
)

# ------------------------------------------------------------------------------------------ Bessel
i0 = function_row(
    "i0",
    bessel.i0,
    "x",
    "Return the modified Bessel function of the first kind of order 0.",
    "float(i0(0.0)) -> 1.0",
)
i0e = function_row(
    "i0e", bessel.i0e, "x", "Return exp(-|x|) i0(x).", "round(float(i0e(1.0)), 5) -> 0.46576"
)
i1 = function_row(
    "i1",
    bessel.i1,
    "x",
    "Return the modified Bessel function of the first kind of order 1.",
    "round(float(i1(1.0)), 5) -> 0.56516",
)
i1e = function_row(
    "i1e", bessel.i1e, "x", "Return exp(-|x|) i1(x).", "round(float(i1e(1.0)), 5) -> 0.20791"
)
jv = function_row(
    "jv",
    bessel.jv,
    "v z",
    "Return the Bessel function of the first kind of real order v.",
    "round(float(jv(0.5, 1.0)), 5) -> 0.6714",
)
yv = function_row(
    "yv",
    bessel.yv,
    "v z",
    "Return the Bessel function of the second kind of real order v.",
    "round(float(yv(0.5, 1.0)), 5) -> -0.4311",
)
iv = function_row(
    "iv",
    bessel.iv,
    "v z",
    "Return the modified Bessel function of the first kind of real order v.",
    "round(float(iv(0.5, 1.0)), 5) -> 0.93767",
)
ive = function_row(
    "ive",
    bessel.ive,
    "v z",
    "Return exp(-|z|) iv(v, z).",
    "round(float(ive(0.0, 1.0)), 5) -> 0.46576",
)
kv = function_row(
    "kv",
    bessel.kv,
    "v z",
    "Return the modified Bessel function of the second kind of real order v.",
    "round(float(kv(0.5, 1.0)), 5) -> 0.46107",
)
kve = function_row(
    "kve", bessel.kve, "v z", "Return exp(z) kv(v, z).", "round(float(kve(0.5, 1.0)), 5) -> 1.25331"
)

# --------------------------------------------------------------------------------------- integrals
exp1 = function_row(
    "exp1",
    integrals.exp1,
    "x",
    "Return the exponential integral E_1, the integral of exp(-t) / t from x on.",
    "round(float(exp1(1.0)), 5) -> 0.21938",
)
expi = function_row(
    "expi",
    integrals.expi,
    "x",
    "Return the exponential integral Ei, the integral of exp(t) / t up to x.",
    "round(float(expi(1.0)), 5) -> 1.89512",
)
expn = function_row(
    "expn",
    integrals.expn,
    "n x",
    "Return the exponential integral E_n for whole n, the integral of exp(-x t) / t**n from 1 on.",
    "round(float(expn(2, 1.0)), 5) -> 0.1485",
)
erfcx = function_row(
    "erfcx", integrals.erfcx, "x", "Return exp(x**2) erfc(x).", "float(erfcx(0.0)) -> 1.0"
)
ndtri = function_row(
    "ndtri",
    integrals.ndtri,
    "y",
    "Return the inverse of `ndtr`: the quantiles of the standard normal distribution.",
    "round(float(ndtri(0.975)), 3) -> 1.96",
)
dawsn = function_row(
    "dawsn",
    integrals.dawsn,
    "x",
    "Return Dawson's integral, exp(-x**2) times the integral of exp(t**2) from 0 to x.",
    "round(float(dawsn(1.0)), 5) -> 0.53808",
)
owens_t = function_row(
    "owens_t",
    integrals.owens_t,
    "h a",
    "Return Owen's T function: the probability of X > h and 0 < Y < a X for normal X, Y.",
    "float(owens_t(0.0, 1.0)) -> 0.125",
)
spence = function_row(
    "spence",
    integrals.spence,
    "x",
    "Return the dilogarithm of 1 - x: the integral of log(t) / (1 - t) from 1 to x.",
    "round(float(spence(0.0)), 5) -> 1.64493",
)

# ------------------------------------------------------------------------ hypergeometric, elliptic
hyp1f1 = function_row(
    "hyp1f1",
    hypergeometric.hyp1f1,
    "a b x",
    "Return Kummer's confluent hypergeometric function 1F1(a; b; x).",
    "round(float(hyp1f1(1.0, 1.0, 1.0)), 5) -> 2.71828",
)
hyp2f1 = function_row(
    "hyp2f1",
    hypergeometric.hyp2f1,
    "a b c x",
    "Return Gauss' hypergeometric function 2F1(a, b; c; x).",
    "float(hyp2f1(1.0, 1.0, 1.0, 0.5)) -> 2.0",
)
ellipk = function_row(
    "ellipk",
    hypergeometric.ellipk,
    "m",
    "Return the complete elliptic integral of the first kind of parameter m.",
    "round(float(ellipk(0.0)), 5) -> 1.5708",
)
ellipe = function_row(
    "ellipe",
    hypergeometric.ellipe,
    "m",
    "Return the complete elliptic integral of the second kind of parameter m.",
    "float(ellipe(1.0)) -> 1.0",
)
ellipkinc = function_row(
    "ellipkinc",
    hypergeometric.ellipkinc,
    "phi m",
    "Return the incomplete elliptic integral of the first kind.",
    "float(ellipkinc(0.5, 0.0)) -> 0.5",
)
ellipeinc = function_row(
    "ellipeinc",
    hypergeometric.ellipeinc,
    "phi m",
    "Return the incomplete elliptic integral of the second kind.",
    "float(ellipeinc(0.5, 0.0)) -> 0.5",
)
