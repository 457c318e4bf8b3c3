"""Layers whose weight is computed from other parameters: weight and spectral normalization.

Arrays are named as PyTorch's `torch.nn.utils.parametrizations` names them in a state dict.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, random

from .module import Module, buffer, field, static, title

__all__ = ["SpectralNorm", "WeightNorm"]


class _Parametrized(Module):
    """A layer without one of its parameters, which `whole` computes."""

    layer: Any = field(transparent=True)
    name: str = static()

    parts: ClassVar[dict[str, str]]  # field -> its name in a state dict

    def _without(self, layer: Any, name: str) -> Any:
        """Take the layer in, and return the parameter that it will miss."""
        weight = getattr(layer, name, None)
        if not isinstance(layer, Module) or name not in layer._children or not fnp.ndim(weight):
            raise ValueError(
                f"{type(self).__name__} takes a module and the name of an array in it; it was "
                f"given {title(layer) if isinstance(layer, Module) else repr(layer)} and {name!r}"
            )
        self.layer, self.name = layer.replace(**{name: None}), name
        return weight

    def _axis(self, dim: int, weight: Any) -> int:
        if not -weight.ndim <= dim < weight.ndim:
            raise ValueError(
                f"{type(self).__name__} takes a dim in [{-weight.ndim}, {weight.ndim}) for a "
                f"{self.name} of shape {weight.shape}; it was given {dim}"
            )
        return dim % weight.ndim

    def computed(self) -> ft.Array:
        """Compute the parameter."""
        raise NotImplementedError

    def whole(self) -> Any:
        """Return the layer with its parameter as it is computed."""
        return self.layer.replace(**{self.name: self.computed()})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.whole()(*args, **kwargs)

    def dotted_name(self, field: str) -> str:
        """Name a field as PyTorch does."""
        below = self.parts.get(field)
        return f"parametrizations.{self.name}.{below}" if below else super().dotted_name(field)


def _norm_along(x: Any, axis: int | None) -> Any:
    """Return the Euclidean norms of x over all axes but one, which are kept."""
    if axis is None:
        return fnp.sqrt(fnp.sum(fnp.square(x)))
    others = tuple(k for k in range(x.ndim) if k != axis)
    return fnp.sqrt(fnp.sum(fnp.square(x), axis=others, keepdims=True))


class WeightNorm(_Parametrized):
    """Give a layer the weight g v / |v|: length and direction are parameters of their own.

    Args:
        layer: a module.
        name: the field that is replaced.
        dim: the axis along which there are several lengths; None: one for all.

    Raises:
        ValueError: the layer has no such array, or ``dim`` is none of its axes.

    Example:
        >>> from funtorch import nnx, random
        >>> layer = nnx.WeightNorm(nnx.Linear(3, 2, key=random.key(0)))
        >>> list(nnx.state_dict(layer))[1:]
        ['parametrizations.weight.original0', 'parametrizations.weight.original1']
        >>> layer.whole().weight.shape
        (2, 3)

    References:
        Salimans, Kingma, "Weight normalization", NeurIPS (2016).
    """

    length: ft.Array
    direction: ft.Array
    dim: int | None = static()

    parts: ClassVar[dict[str, str]] = {"length": "original0", "direction": "original1"}

    def __init__(self, layer: Any, name: str = "weight", dim: int | None = 0) -> None:
        self.direction = self._without(layer, name)
        self.dim = None if dim is None else self._axis(dim, self.direction)
        self.length = _norm_along(self.direction, self.dim)

    def computed(self) -> ft.Array:
        """Compute g v / |v|."""
        return self.direction * (self.length / _norm_along(self.direction, self.dim))


class SpectralNorm(_Parametrized):
    """Divide a layer's weight by its largest singular value, so that the layer's slope is 1.

    The singular vectors are estimated by power iteration, which goes on by
    ``n_power_iterations`` in each call in training (see `train`); the weight is taken as a matrix
    whose rows are ``dim``. A weight of one axis is divided by its length.

    Args:
        layer: a module.
        name: the field that is replaced.
        n_power_iterations: steps in each call in training.
        eps: the least length that is divided by.
        dim: the axis of the outputs; by default 1 for transposed convolutions, else 0.
        key: random key for the first vectors.

    Raises:
        ValueError: the layer has no such array, ``dim`` is none of its axes, or
            ``n_power_iterations`` is not positive.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> k1, k2, k3 = random.split(random.key(0), 3)
        >>> layer = nnx.SpectralNorm(nnx.Linear(3, 2, key=k1), key=k2)
        >>> float(fnp.linalg.norm(layer.whole().weight, 2).round(3))
        1.0
        >>> y, layer = nnx.train(layer)(random.normal(k3, (5, 3)))
        >>> y.shape
        (5, 2)

    References:
        Miyato et al., "Spectral normalization for generative adversarial networks", ICLR (2018).
    """

    original: ft.Array
    u: ft.Array | None = buffer()
    v: ft.Array | None = buffer()
    n_power_iterations: int = static()
    eps: float = static()
    dim: int = static()

    parts: ClassVar[dict[str, str]] = {"original": "original", "u": "0._u", "v": "0._v"}

    def __init__(
        self, layer: Any, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12,
        dim: int | None = None, *, key: Any,
    ) -> None:  # fmt: skip
        if n_power_iterations < 1:
            raise ValueError(
                "SpectralNorm takes n_power_iterations of 1 or more; it was given "
                f"{n_power_iterations}"
            )
        weight = self.original = self._without(layer, name)
        if dim is None:
            dim = int(type(layer).__name__.startswith("ConvTranspose"))
        self.n_power_iterations, self.eps, self.dim = (
            n_power_iterations,
            eps,
            self._axis(dim, weight),
        )
        self.u = self.v = None
        if weight.ndim > 1:
            rows, columns = self._matrix().shape
            ku, kv = random.split(key)
            self.u = self._unit(random.normal(ku, (rows,), weight.dtype))
            self.v = self._unit(random.normal(kv, (columns,), weight.dtype))
            self.u, self.v = self._iterated(15)

    def _unit(self, x: Any) -> Any:
        return x / fnp.maximum(fnp.sqrt(fnp.sum(fnp.square(x))), self.eps)

    def _matrix(self) -> Any:
        weight = fnp.moveaxis(self.original, self.dim, 0)
        return weight.reshape(weight.shape[0], math.prod(weight.shape[1:]))

    def _iterated(self, steps: int) -> tuple[Any, Any]:
        matrix, u, v = lax.stop_gradient(self._matrix()), self.u, self.v
        for _ in range(steps):
            u = self._unit(matrix @ v)
            v = self._unit(matrix.T @ u)
        return u, v

    def computed(self) -> ft.Array:
        """Compute the weight; in training, after more power iterations."""
        if self.u is None:
            return self._unit(self.original)
        u, v = self.u, self.v
        if self.training:
            u, v = self._iterated(self.n_power_iterations)
            self.observe(u=u, v=v)
        return self.original / (u @ (self._matrix() @ v))
