"""Activations: the functions of `funtorch.nn`, and the same as layers for `Sequential`."""

from __future__ import annotations

from typing import Any

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nn

from .module import Module, static, title

__all__ = [
    "CELU", "ELU", "GELU", "GLU", "LeakyReLU", "LogSigmoid", "LogSoftmax", "Mish", "ReLU", "SELU",
    "SiLU", "Sigmoid", "Softmax", "Softmax2d", "Softmin", "Softplus", "Softsign", "Tanh",
    "Tanhshrink", "celu", "elu", "gelu", "glu", "leaky_relu", "log_sigmoid", "log_softmax", "mish",
    "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus", "tanh",
]  # fmt: skip

celu, elu, gelu, glu, leaky_relu = nn.celu, nn.elu, nn.gelu, nn.glu, nn.leaky_relu
log_sigmoid, log_softmax, mish, relu, relu6 = (
    nn.log_sigmoid, nn.log_softmax, nn.mish, nn.relu, nn.relu6,
)  # fmt: skip
selu, sigmoid, silu, softmax, softplus = nn.selu, nn.sigmoid, nn.silu, nn.softmax, nn.softplus
tanh = fnp.tanh


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

    Its derivative at 0 is negative_slope, as in PyTorch; that of `leaky_relu` is 1, as in JAX.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.LeakyReLU(0.5)(fnp.array([-1.0, 2.0]))
        Array([-0.5,  2. ], dtype=float32)
    """

    negative_slope: float = static(0.01)

    def __call__(self, x: Any) -> ft.Array:
        x = fnp.asarray(x)
        return fnp.where(x > 0, x, self.negative_slope * x)


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


class CELU(Module):
    """Fall to -alpha below 0 with a continuous slope: alpha * (exp(x / alpha) - 1) there.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.CELU()(fnp.array([0.0, 2.0]))
        Array([0., 2.], dtype=float32)
    """

    alpha: float = static(1.0)

    def __call__(self, x: Any) -> ft.Array:
        return nn.celu(x, self.alpha)


class SELU(Module):
    """Scale an ELU so that normalised inputs stay normalised through deep networks.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.SELU()(fnp.array([0.0]))
        Array([0.], dtype=float32)
    """

    def __call__(self, x: Any) -> ft.Array:
        return nn.selu(x)


class GELU(Module):
    """Weigh x by the normal distribution function of x.

    Exact unless ``approximate`` is true or 'tanh'; mind that the function `gelu` approximates by
    default, as in JAX.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.GELU()(fnp.array([0.0]))
        Array([0.], dtype=float32)
    """

    approximate: bool | str = static(False)

    def __post_init__(self) -> None:
        if self.approximate not in (False, True, "none", "tanh"):
            raise ValueError(
                "GELU takes approximate as a bool, 'none' or 'tanh'; it was given "
                f"{self.approximate!r}"
            )

    def __call__(self, x: Any) -> ft.Array:
        return nn.gelu(x, approximate=self.approximate in (True, "tanh"))


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


class LogSigmoid(Module):
    """Take the logarithm of the logistic function: -log(1 + exp(-x)).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.LogSigmoid()(fnp.array([-1000.0]))
        Array([-1000.], dtype=float32)
    """

    def __call__(self, x: Any) -> ft.Array:
        return nn.log_sigmoid(x)


class Mish(Module):
    """Weigh x by tanh(softplus(x)).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Mish()(fnp.array([0.0]))
        Array([0.], dtype=float32)
    """

    def __call__(self, x: Any) -> ft.Array:
        return nn.mish(x)


class Softplus(Module):
    """Smooth max(x, 0): log(1 + exp(beta x)) / beta, and x itself where beta x > threshold.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Softplus()(fnp.array([-1000.0, 30.0]))
        Array([ 0., 30.], dtype=float32)
    """

    beta: float = static(1.0)
    threshold: float = static(20.0)

    def __call__(self, x: Any) -> ft.Array:
        x = fnp.asarray(x)
        scaled = x * self.beta
        return fnp.where(scaled > self.threshold, x, nn.softplus(scaled) / self.beta)


class Softsign(Module):
    """Squeeze into (-1, 1) slowly: x / (1 + |x|).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Softsign()(fnp.array([1.0, -3.0]))
        Array([ 0.5 , -0.75], dtype=float32)
    """

    def __call__(self, x: Any) -> ft.Array:
        return nn.soft_sign(x)


class Tanhshrink(Module):
    """Take away tanh(x): x - tanh(x).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Tanhshrink()(fnp.array([0.0]))
        Array([0.], dtype=float32)
    """

    def __call__(self, x: Any) -> ft.Array:
        x = fnp.asarray(x)
        return x - fnp.tanh(x)


class Softmin(Module):
    """Turn costs along an axis into probabilities: exp(-x) / sum(exp(-x)).

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Softmin()(fnp.zeros(4))
        Array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """

    axis: int = static(-1)

    def __call__(self, x: Any) -> ft.Array:
        return nn.softmax(-fnp.asarray(x), axis=self.axis)


class Softmax2d(Module):
    """Turn the channels of each place of an image into probabilities.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.Softmax2d()(fnp.zeros((2, 1, 1))).ravel()
        Array([0.5, 0.5], dtype=float32)
    """

    def __call__(self, x: Any) -> ft.Array:
        """Map x of shape (batch, channels, height, width) or (channels, height, width)."""
        x = fnp.asarray(x)
        if x.ndim not in (3, 4):
            raise ValueError(
                "Softmax2d takes an array of shape (batch, channels, height, width) or (channels, "
                f"height, width); it was given one of shape {x.shape}"
            )
        return nn.softmax(x, axis=-3)


class GLU(Module):
    """Weigh the first half of an axis by the logistic function of the second.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.GLU()(fnp.array([3.0, 4.0, 0.0, 0.0]))
        Array([1.5, 2. ], dtype=float32)
    """

    axis: int = static(-1)

    def __call__(self, x: Any) -> ft.Array:
        x = fnp.asarray(x)
        if not x.ndim or x.shape[self.axis] % 2:
            raise ValueError(
                f"{title(self)} takes an array whose axis {self.axis} has an even size; it was "
                f"given one of shape {x.shape}"
            )
        return nn.glu(x, axis=self.axis)
