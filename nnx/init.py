"""Initial values of parameters: torch.nn.init's distributions as pure functions.

Each takes (key, shape, dtype) and options by name. The shape of a weight is PyTorch's: (out, in) or
(out, in / groups, *kernel). The other layouts are in `funtorch.nn.initializers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nn, random

__all__ = [
    "calculate_gain", "constant", "dirac", "eye", "kaiming_normal", "kaiming_uniform", "normal",
    "ones", "orthogonal", "sparse", "trunc_normal", "uniform", "xavier_normal", "xavier_uniform",
    "zeros",
]  # fmt: skip

Shape = Sequence[int]

_GAINS: dict[str, float] = {
    **dict.fromkeys(("linear", "sigmoid"), 1.0),
    **{f"conv{kind}{n}d": 1.0 for kind in ("", "_transpose") for n in (1, 2, 3)},
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "selu": 3 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return by what weights are scaled so that a layer keeps the variance of its input.

    Args:
        nonlinearity: what follows the layer: 'linear', 'conv2d' ..., 'sigmoid', 'tanh', 'relu',
            'selu' or 'leaky_relu'.
        param: slope below 0 of 'leaky_relu'; 0.01 where None.

    Raises:
        ValueError: the nonlinearity is unknown.

    Example:
        >>> calculate_gain("tanh")
        1.6666666666666667
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        raise ValueError(
            f"calculate_gain knows {', '.join(map(repr, (*_GAINS, 'leaky_relu')))}; it was given "
            f"{nonlinearity!r}"
        )
    return _GAINS[nonlinearity]


def _matrix(name: str, shape: Shape, least: int = 2, most: float = math.inf) -> tuple[int, ...]:
    shape = tuple(shape)
    if not least <= len(shape) <= most:
        span = {least: f"{least}", math.inf: f"{least} or more"}.get(most, f"{least} to {most:.0f}")
        raise ValueError(f"init.{name} takes a shape of {span} axes; it was given {shape}")
    return shape


def uniform(
    key: Any, shape: Shape, dtype: Any = fnp.float32, *, a: float = 0.0, b: float = 1.0
) -> ft.Array:
    """Draw from the interval [a, b).

    Example:
        >>> from funtorch import random
        >>> w = uniform(random.key(0), (100,), a=2.0, b=3.0)
        >>> bool(((w >= 2) & (w < 3)).all())
        True
    """
    return random.uniform(key, shape, dtype, a, b)


def normal(
    key: Any, shape: Shape, dtype: Any = fnp.float32, *, mean: float = 0.0, std: float = 1.0
) -> ft.Array:
    """Draw from the normal distribution of this mean and standard deviation.

    Example:
        >>> from funtorch import random
        >>> normal(random.key(0), (3, 5), std=0.02).shape
        (3, 5)
    """
    return random.normal(key, shape, dtype) * std + mean


def trunc_normal(
    key: Any, shape: Shape, dtype: Any = fnp.float32, *, mean: float = 0.0, std: float = 1.0,
    a: float = -2.0, b: float = 2.0,
) -> ft.Array:  # fmt: skip
    """Draw from a normal distribution what lies in [a, b], which are values, not deviations.

    Example:
        >>> from funtorch import random
        >>> w = trunc_normal(random.key(0), (100,), a=-0.5, b=0.5)
        >>> bool((abs(w) <= 0.5).all())
        True
    """
    z = random.truncated_normal(key, (a - mean) / std, (b - mean) / std, shape, dtype)
    return fnp.clip(z * std + mean, a, b)


def constant(key: Any, shape: Shape, dtype: Any = fnp.float32, *, val: float) -> ft.Array:
    """Fill with one value; the key is not used, and may be None.

    Example:
        >>> constant(None, (2,), val=0.5)
        Array([0.5, 0.5], dtype=float32)
    """
    return fnp.full(shape, val, dtype)


def ones(key: Any, shape: Shape, dtype: Any = fnp.float32) -> ft.Array:
    """Fill with 1; the key is not used, and may be None.

    Example:
        >>> ones(None, (2,))
        Array([1., 1.], dtype=float32)
    """
    return fnp.ones(shape, dtype)


def zeros(key: Any, shape: Shape, dtype: Any = fnp.float32) -> ft.Array:
    """Fill with 0; the key is not used, and may be None.

    Example:
        >>> zeros(None, (2,))
        Array([0., 0.], dtype=float32)
    """
    return fnp.zeros(shape, dtype)


def eye(key: Any, shape: Shape, dtype: Any = fnp.float32) -> ft.Array:
    """Make a linear layer keep its input: 1 on the diagonal of a matrix.

    Example:
        >>> eye(None, (2, 3))
        Array([[1., 0., 0.],
               [0., 1., 0.]], dtype=float32)
    """
    rows, columns = _matrix("eye", shape, 2, 2)
    return fnp.eye(rows, columns, dtype=dtype)


def dirac(key: Any, shape: Shape, dtype: Any = fnp.float32, *, groups: int = 1) -> ft.Array:
    """Make a convolution keep its input: 1 in the middle of the kernel of each channel to itself.

    Example:
        >>> dirac(None, (2, 2, 3))[0]
        Array([[0., 1., 0.],
               [0., 0., 0.]], dtype=float32)
    """
    outs, ins, *kernel = _matrix("dirac", shape, 3, 5)
    if groups < 1 or outs % groups:
        raise ValueError(
            f"init.dirac takes out channels that are a multiple of groups; it was given {outs} and "
            f"groups={groups}"
        )
    weight = np.zeros(shape)
    each = outs // groups
    for place in range(min(each, ins)):
        middle = tuple(n // 2 for n in kernel)
        weight[(np.arange(groups) * each + place, place, *middle)] = 1  # type: ignore[index]
    return fnp.asarray(weight, dtype)


def _scaled(name: str, scale: float, mode: str, distribution: str) -> Callable[..., ft.Array]:
    def draw(key: Any, shape: Shape, dtype: Any) -> ft.Array:
        shape = _matrix(name, shape)
        make = nn.initializers.variance_scaling(
            scale, mode, distribution, in_axis=1, out_axis=0, dtype=dtype
        )
        return make(key, shape)

    return draw


def xavier_uniform(
    key: Any, shape: Shape, dtype: Any = fnp.float32, *, gain: float = 1.0
) -> ft.Array:
    """Draw from [-a, a) with a = gain √(6 / (fan_in + fan_out)).

    Example:
        >>> from funtorch import random
        >>> w = xavier_uniform(random.key(0), (20, 34))
        >>> bool((abs(w) <= 1 / 3).all())
        True

    References:
        X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
        networks", AISTATS 2010.
    """
    return _scaled("xavier_uniform", gain**2, "fan_avg", "uniform")(key, shape, dtype)


def xavier_normal(
    key: Any, shape: Shape, dtype: Any = fnp.float32, *, gain: float = 1.0
) -> ft.Array:
    """Draw from a normal distribution of deviation gain √(2 / (fan_in + fan_out)).

    Example:
        >>> from funtorch import random
        >>> xavier_normal(random.key(0), (3, 5)).shape
        (3, 5)

    References:
        X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
        networks", AISTATS 2010.
    """
    return _scaled("xavier_normal", gain**2, "fan_avg", "normal")(key, shape, dtype)


def _kaiming(name: str, a: float, mode: str, nonlinearity: str, distribution: str) -> Any:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"init.{name} takes mode 'fan_in' or 'fan_out'; it was given {mode!r}")
    return _scaled(name, calculate_gain(nonlinearity, a) ** 2, mode, distribution)


def kaiming_uniform(
    key: Any, shape: Shape, dtype: Any = fnp.float32, *, a: float = 0.0, mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> ft.Array:  # fmt: skip
    """Draw from [-b, b) with b = gain √(3 / fan).

    Args:
        key: random key.
        shape: of the weight; two axes or more.
        dtype: floating-point dtype.
        a: slope below 0, where the nonlinearity is 'leaky_relu'.
        mode: 'fan_in' keeps the variance of outputs, 'fan_out' that of gradients.
        nonlinearity: what `calculate_gain` takes.

    Raises:
        ValueError: an argument is none of these.

    Example:
        >>> from funtorch import random
        >>> w = kaiming_uniform(random.key(0), (20, 6), nonlinearity="relu")
        >>> bool((abs(w) <= 1).all())
        True

    References:
        K. He et al., "Delving deep into rectifiers", ICCV 2015.
    """
    return _kaiming("kaiming_uniform", a, mode, nonlinearity, "uniform")(key, shape, dtype)


def kaiming_normal(
    key: Any, shape: Shape, dtype: Any = fnp.float32, *, a: float = 0.0, mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
) -> ft.Array:  # fmt: skip
    """Draw from a normal distribution of deviation gain / √fan; as `kaiming_uniform`.

    Example:
        >>> from funtorch import random
        >>> kaiming_normal(random.key(0), (3, 5), mode="fan_out").shape
        (3, 5)

    References:
        K. He et al., "Delving deep into rectifiers", ICCV 2015.
    """
    return _kaiming("kaiming_normal", a, mode, nonlinearity, "normal")(key, shape, dtype)


def orthogonal(key: Any, shape: Shape, dtype: Any = fnp.float32, *, gain: float = 1.0) -> ft.Array:
    """Draw an orthogonal map: rows, or columns where they are fewer, have length gain.

    Axes after the first count as one.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import random
        >>> w = orthogonal(random.key(0), (2, 5))
        >>> bool(fnp.allclose(w @ w.T, fnp.eye(2), atol=1e-6))
        True

    References:
        A. M. Saxe, J. L. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of
        learning in deep linear neural networks", ICLR 2014.
    """
    shape = _matrix("orthogonal", shape)
    return nn.initializers.orthogonal(gain, column_axis=0, dtype=dtype)(key, shape)


def sparse(
    key: Any, shape: Shape, dtype: Any = fnp.float32, *, sparsity: float, std: float = 0.01
) -> ft.Array:
    """Draw a normal matrix in each of whose columns the same share of elements is 0.

    Args:
        key: random key.
        shape: of the matrix.
        dtype: floating-point dtype.
        sparsity: the share, which is rounded up to whole elements.
        std: deviation of the others.

    Raises:
        ValueError: the shape is not that of a matrix, or the share not between 0 and 1.

    Example:
        >>> from funtorch import random
        >>> (sparse(random.key(0), (10, 3), sparsity=0.25) == 0).sum(0)
        Array([3, 3, 3], dtype=int32)

    References:
        J. Martens, "Deep learning via Hessian-free optimization", ICML 2010.
    """
    rows, _ = shape = _matrix("sparse", shape, 2, 2)
    if not 0 <= sparsity <= 1:
        raise ValueError(f"init.sparse takes a sparsity between 0 and 1; it was given {sparsity}")
    value_key, order_key = random.split(key)
    rank = fnp.argsort(fnp.argsort(random.uniform(order_key, shape), axis=0), axis=0)
    return fnp.where(rank < math.ceil(sparsity * rows), 0, normal(value_key, shape, dtype, std=std))
