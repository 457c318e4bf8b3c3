"""Initializers: functions ``init(key, shape, dtype)`` that make the first values of parameters.

With a key they give the numbers of `jax.nn.initializers`.

References:
    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.
    K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers", ICCV 2015.
    Y. LeCun, L. Bottou, G. B. Orr, K.-R. Müller, "Efficient BackProp", 1998.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funtorch.numpy as fnp
from funtorch import dtypes
from funtorch.core import Array
from funtorch.numpy import promotion
from funtorch.random import distributions, draws
from funtorch.random.keys import split

__all__ = [
    "Initializer",
    "constant",
    "delta_orthogonal",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Initializer = Callable[..., Array]
Axes = int | Sequence[int]


def _initializer(draw: Callable[[Any, tuple[int, ...], np.dtype], Any], dtype: Any) -> Initializer:
    """Return ``init(key, shape, dtype)`` from a function of checked arguments."""

    def init(key: Any, shape: Any, dtype: Any = dtype) -> Array:
        chosen = dtypes.canonical(float if dtype is None else dtype)
        return draw(key, promotion.canonical_shape(shape, "initializer"), chosen)

    return init


# --- fixed values --------------------------------------------------------------------------
def constant(value: Any, dtype: Any = None) -> Initializer:
    """Return an initializer that fills with a value.

    Args:
        value: a number, or an array that broadcasts to the shape.
        dtype: default dtype; the default float if None.

    Returns:
        ``init(key, shape, dtype)``.

    Example:
        >>> constant(2.0)(None, (2,)).tolist()
        [2.0, 2.0]
    """
    return _initializer(lambda key, shape, dtype: fnp.full(shape, value, dtype), dtype)


def zeros(key: Any, shape: Any, dtype: Any = None) -> Array:
    """Return zeros, whatever the key.

    Example:
        >>> zeros(None, (2,)).tolist()
        [0.0, 0.0]
    """
    return constant(0)(key, shape, dtype)


def ones(key: Any, shape: Any, dtype: Any = None) -> Array:
    """Return ones, whatever the key.

    Example:
        >>> ones(None, (2,)).tolist()
        [1.0, 1.0]
    """
    return constant(1)(key, shape, dtype)


# --- plain distributions -------------------------------------------------------------------
def _times(x: Any, factor: Any) -> Any:
    return x * fnp.asarray(factor, x.dtype)


def uniform(scale: Any = 1e-2, dtype: Any = None) -> Initializer:
    """Return an initializer that draws uniformly from [0, scale).

    Example:
        >>> uniform(1.0)(random.key(0), (2, 3)).shape
        (2, 3)
    """
    return _initializer(
        lambda key, shape, dtype: _times(draws.uniform(key, shape, dtype), scale), dtype
    )


def normal(stddev: Any = 1e-2, dtype: Any = None) -> Initializer:
    """Return an initializer that draws from a normal distribution of mean 0.

    Example:
        >>> normal(1.0)(random.key(0), (2, 3)).shape
        (2, 3)
    """
    return _initializer(
        lambda key, shape, dtype: _times(draws.normal(key, shape, dtype), stddev), dtype
    )


def truncated_normal(
    stddev: Any = 1e-2, dtype: Any = None, lower: Any = -2.0, upper: Any = 2.0
) -> Initializer:
    """Return an initializer that draws from a normal distribution cut off at lower and upper.

    Args:
        stddev: factor of the numbers, and of the ends.
        dtype: default dtype; the default float if None.
        lower: lower end, in standard deviations.
        upper: upper end, in standard deviations.

    Returns:
        ``init(key, shape, dtype)``.

    Example:
        >>> truncated_normal(1.0)(random.key(0), (2, 3)).shape
        (2, 3)
    """
    return _initializer(
        lambda key, shape, dtype: _times(
            draws.truncated_normal(key, lower, upper, shape, dtype), stddev
        ),
        dtype,
    )


# --- scaled by the number of inputs or outputs ---------------------------------------------
def _size(shape: tuple[int, ...], axes: Axes) -> int:
    return math.prod(shape[k] for k in ((axes,) if isinstance(axes, int) else axes))


def _fans(
    shape: tuple[int, ...], in_axis: Axes, out_axis: Axes, batch_axis: Axes
) -> tuple[float, float]:
    """Return how many inputs each output sees, and how many outputs each input feeds."""
    if in_axis == -2 and len(shape) < 2:
        raise ValueError(
            f"variance_scaling: weights of shape {shape} have no axis of inputs at the default "
            "in_axis=-2; give at least two axes, or in_axis"
        )
    sizes = [_size(shape, axes) for axes in (in_axis, out_axis, batch_axis)]
    window = math.prod(shape) / math.prod(sizes) if math.prod(sizes) else 0.0
    return sizes[0] * window, sizes[1] * window


_MODES: dict[str, Callable[[float, float], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
    "fan_geo_avg": lambda fan_in, fan_out: (fan_in * fan_out) ** 0.5,
}
# Standard deviation of the standard normal distribution cut off at -2 and 2.
_TRUNCATED_DEVIATION = 0.87962566103423978


# The same of the complex one cut off at modulus 2.
_COMPLEX_DEVIATION = 0.95311164380491208


def _complex_truncated(key: Any, shape: Any, dtype: np.dtype) -> Any:
    """Draw complex normal numbers of modulus up to 2: the square of the modulus is exponential."""
    real = dtypes.real_dtype(dtype)
    key_modulus, key_angle = split(key)
    part = (1 - math.exp(-4)) * draws.uniform(key_modulus, shape, real)
    modulus = fnp.sqrt(-fnp.log(1 - part))
    angle = 2 * math.pi * draws.uniform(key_angle, shape, real)
    return (modulus * fnp.exp(1j * angle)).astype(dtype)


def _scaled_truncated(key: Any, shape: Any, dtype: Any, variance: Any) -> Any:
    if np.dtype(dtype).kind == "c":
        deviation = fnp.sqrt(variance) / fnp.asarray(_COMPLEX_DEVIATION, dtype)
        return _complex_truncated(key, shape, dtype) * deviation
    deviation = fnp.sqrt(variance) / fnp.asarray(_TRUNCATED_DEVIATION, dtype)
    return draws.truncated_normal(key, -2, 2, shape, dtype) * deviation


_DISTRIBUTIONS: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "truncated_normal": _scaled_truncated,
    "normal": lambda key, shape, dtype, variance: (
        draws.normal(key, shape, dtype) * fnp.sqrt(variance)
    ),
    "uniform": lambda key, shape, dtype, variance: (
        draws.uniform(key, shape, dtype, -1) * fnp.sqrt(3 * variance)
    ),
}


def variance_scaling(
    scale: Any,
    mode: str,
    distribution: str,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = None,
) -> Initializer:
    """Return an initializer whose variance is scale over the number of connections.

    Args:
        scale: factor of the variance.
        mode: which connections count: 'fan_in', 'fan_out', 'fan_avg' or 'fan_geo_avg'.
        distribution: 'truncated_normal', 'normal' or 'uniform'.
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        batch_axis: axes of independent weights; the axes left are a convolution's window.
        dtype: default dtype; the default float if None.

    Returns:
        ``init(key, shape, dtype)``.

    Raises:
        ValueError: there is no such mode or distribution; and when called, the shape has too few
            axes.

    Example:
        >>> variance_scaling(1.0, "fan_in", "normal")(random.key(0), (2, 3)).shape
        (2, 3)
    """
    for name, given, table in (
        ("mode", mode, _MODES),
        ("distribution", distribution, _DISTRIBUTIONS),
    ):
        if given not in table:
            raise ValueError(
                f"variance_scaling: {name} must be one of {', '.join(table)}; got {given!r}"
            )

    def draw(key: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        connections = _MODES[mode](*_fans(shape, in_axis, out_axis, batch_axis))
        variance = fnp.asarray(scale / connections if connections else 0.0, dtype)
        return _DISTRIBUTIONS[distribution](key, shape, dtype, variance)

    return _initializer(draw, dtype)


def _named(name: str, scale: float, mode: str, distribution: str) -> Callable[..., Initializer]:
    def make(
        in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
    ) -> Initializer:
        return variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, dtype)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"""Return ``variance_scaling({scale}, {mode!r}, {distribution!r}, ...)``.

    Args:
        in_axis: axis or axes of the inputs.
        out_axis: axis or axes of the outputs.
        batch_axis: axes of independent weights.
        dtype: default dtype; the default float if None.

    Returns:
        ``init(key, shape, dtype)``.

    Example:
        >>> {name}()(random.key(0), (2, 3)).shape
        (2, 3)
    """
    return make


glorot_uniform = xavier_uniform = _named("glorot_uniform", 1.0, "fan_avg", "uniform")
glorot_normal = xavier_normal = _named("glorot_normal", 1.0, "fan_avg", "truncated_normal")
lecun_uniform = _named("lecun_uniform", 1.0, "fan_in", "uniform")
lecun_normal = _named("lecun_normal", 1.0, "fan_in", "truncated_normal")
he_uniform = kaiming_uniform = _named("he_uniform", 2.0, "fan_in", "uniform")
he_normal = kaiming_normal = _named("he_normal", 2.0, "fan_in", "truncated_normal")


# --- orthogonal ----------------------------------------------------------------------------
def orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """Return an initializer of orthogonal matrices: all axes but one, flattened, are the rows.

    Args:
        scale: factor.
        column_axis: the axis that stays.
        dtype: default dtype; the default float if None.

    Returns:
        ``init(key, shape, dtype)``, which raises ValueError for fewer than two axes.

    Example:
        >>> orthogonal()(random.key(0), (3, 2)).shape
        (3, 2)

    References:
        A. M. Saxe, J. L. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of
        learning in deep linear neural networks", ICLR 2014.
    """

    def draw(key: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        if len(shape) < 2:
            raise ValueError(f"orthogonal: the shape must have two axes or more, got {shape}")
        if 0 in shape:
            return fnp.zeros(shape, dtype)
        axis = promotion.canonical_axis(column_axis, len(shape), "orthogonal")
        columns = shape[axis]
        q = distributions.orthogonal(key, math.prod(shape) // columns, (), dtype, columns)
        q = fnp.reshape(q, (*shape[:axis], *shape[axis + 1 :], columns))
        return _times(fnp.moveaxis(q, -1, axis), scale)

    return _initializer(draw, dtype)


def delta_orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """Return an initializer of convolutions that is orthogonal at the window's centre, else 0.

    Args:
        scale: factor.
        column_axis: the axis of the matrix that stays.
        dtype: default dtype; the default float if None.

    Returns:
        ``init(key, shape, dtype)`` for shapes (*window, inputs, outputs) with one to three window
        axes and no more inputs than outputs; it raises ValueError for others.

    Example:
        >>> delta_orthogonal()(random.key(0), (3, 3, 2, 4)).shape
        (3, 3, 2, 4)

    References:
        L. Xiao et al., "Dynamical isometry and a mean field theory of CNNs", ICML 2018.
    """
    matrix = orthogonal(scale, column_axis, dtype)

    def draw(key: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        if len(shape) not in (3, 4, 5) or shape[-1] < shape[-2]:
            raise ValueError(
                "delta_orthogonal: the shape must be (*window, inputs, outputs) with one to three "
                f"window axes and inputs <= outputs, got {shape}"
            )
        centre = tuple((n - 1) // 2 for n in shape[:-2])
        return fnp.zeros(shape, dtype).at[centre].set(matrix(key, shape[-2:], dtype))

    return _initializer(draw, dtype)
