"""Activations: the functions of `funtorch.nn`, and the same as layers for `Sequential`."""

from __future__ import annotations

from typing import Any

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nn

from .module import Module, static

__all__ = [
    "ELU", "GELU", "LeakyReLU", "LogSoftmax", "ReLU", "SiLU", "Sigmoid", "Softmax", "Tanh",
    "elu", "gelu", "leaky_relu", "log_softmax", "relu", "sigmoid", "silu", "softmax", "tanh",
]  # fmt: skip

elu, gelu, leaky_relu, log_softmax = nn.elu, nn.gelu, nn.leaky_relu, nn.log_softmax
relu, sigmoid, silu, softmax, tanh = nn.relu, nn.sigmoid, nn.silu, nn.softmax, fnp.tanh


class ReLU(Module):
    """Keep what is positive: max(x, 0).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ReLU()(fnp.array([-1.0, 2.0]))
        Array([0., 2.], dtype=float32)
    """

    def __call__(self, x: Any) -> ft.Array:
        return nn.relu(x)


class LeakyReLU(Module):
    """Keep what is positive and shrink the rest: max(x, 0) + negative_slope * min(x, 0).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.LeakyReLU(0.5)(fnp.array([-1.0, 2.0]))
        Array([-0.5,  2. ], dtype=float32)
    """

    negative_slope: float = static(0.01)

    def __call__(self, x: Any) -> ft.Array:
        return nn.leaky_relu(x, self.negative_slope)


class ELU(Module):
    """Keep what is positive, and let the rest fall to -alpha: alpha * (exp(x) - 1) below 0.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.ELU()(fnp.array([0.0, 2.0]))
        Array([0., 2.], dtype=float32)
    """

    alpha: float = static(1.0)

    def __call__(self, x: Any) -> ft.Array:
        return nn.elu(x, self.alpha)


class GELU(Module):
    """Weigh x by the normal distribution function of x.

    Exact unless ``approximate``; mind that the function `gelu` approximates by default, as in JAX.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.GELU()(fnp.array([0.0]))
        Array([0.], dtype=float32)
    """

    approximate: bool = static(False)

    def __call__(self, x: Any) -> ft.Array:
        return nn.gelu(x, approximate=self.approximate)


class SiLU(Module):
    """Weigh x by its logistic function: x * sigmoid(x).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.SiLU()(fnp.array([0.0]))
        Array([0.], dtype=float32)
    """

    def __call__(self, x: Any) -> ft.Array:
        return nn.silu(x)


class Sigmoid(Module):
    """Squeeze into (0, 1): 1 / (1 + exp(-x)).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Sigmoid()(fnp.array([0.0]))
        Array([0.5], dtype=float32)
    """

    def __call__(self, x: Any) -> ft.Array:
        return nn.sigmoid(x)


class Tanh(Module):
    """Squeeze into (-1, 1): tanh(x).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Tanh()(fnp.array([0.0]))
        Array([0.], dtype=float32)
    """

    def __call__(self, x: Any) -> ft.Array:
        return fnp.tanh(x)


class Softmax(Module):
    """Turn scores along an axis into probabilities: exp(x) / sum(exp(x)).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Softmax()(fnp.zeros(4))
        Array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """

    axis: int = static(-1)

    def __call__(self, x: Any) -> ft.Array:
        return nn.softmax(x, axis=self.axis)


class LogSoftmax(Module):
    """Turn scores along an axis into log-probabilities: x - log(sum(exp(x))).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.LogSoftmax()(fnp.zeros(1))
        Array([0.], dtype=float32)
    """

    axis: int = static(-1)

    def __call__(self, x: Any) -> ft.Array:
        return nn.log_softmax(x, axis=self.axis)
