"""Layers that learn the size of their input from an example of it."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import Any, ClassVar, TypeVar

import funtorch as ft
import funtorch.numpy as fnp

from .batchnorm import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)
from .cells import GRUCell, LSTMCell, RNNCell
from .conv import Conv1d, Conv2d, Conv3d
from .layers import Linear
from .locate import path_to
from .module import Module, static, title
from .recurrent import GRU, LSTM, RNN
from .transposed import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d

__all__ = [
    "LazyBatchNorm1d", "LazyBatchNorm2d", "LazyBatchNorm3d", "LazyConv1d", "LazyConv2d",
    "LazyConv3d", "LazyConvTranspose1d", "LazyConvTranspose2d", "LazyConvTranspose3d", "LazyGRU",
    "LazyGRUCell", "LazyInstanceNorm1d", "LazyInstanceNorm2d", "LazyInstanceNorm3d", "LazyLSTM",
    "LazyLSTMCell", "LazyLinear", "LazyRNN", "LazyRNNCell", "initialize",
]  # fmt: skip

M = TypeVar("M")

# The sizes that lazy layers, by their numbers, have seen in the run that initializes a model.
_seen: ContextVar[dict[int, int] | None] = ContextVar("_seen", default=None)
_numbers = itertools.count()


class _Lazy(Module):
    """A layer to be: what it will be made of, and the key for its initial values."""

    key: Any  # None for layers that draw no numbers
    arguments: tuple[Hashable, ...] = static()
    settings: tuple[tuple[str, Hashable], ...] = static()
    number: int = static()

    layer: ClassVar[Callable[..., Any]]
    axis: ClassVar[int]

    def __init__(self, *arguments: Any, key: Any = None, **settings: Any) -> None:
        self.key = key
        self.arguments = tuple(map(_hashable, arguments))
        self.settings = tuple((name, _hashable(value)) for name, value in settings.items())
        self.number = next(_numbers)
        # What the layer does not take is complained of at once.
        takes = inspect.signature(self.layer.__init__)  # type: ignore[misc]
        takes.bind(self, 1, *arguments, **self._keys(), **settings)

    def made(self, size: int) -> Any:
        """Make the layer for inputs of this size."""
        return self.layer(size, *self.arguments, **self._keys(), **dict(self.settings))

    def _keys(self) -> dict[str, Any]:
        return {} if self.key is None else {"key": self.key}

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        seen = _seen.get()
        if seen is None:
            raise ValueError(
                f"{title(self)} has no parameters yet: model = nnx.initialize(model, x) makes them "
                "from an example of the model's input"
            )
        x = fnp.asarray(x)
        if not -x.ndim <= self.axis < x.ndim:
            raise ValueError(
                f"{title(self)} takes an array that has axis {self.axis}; it was given one of "
                f"shape {x.shape}"
            )
        made = self.made(seen.setdefault(self.number, x.shape[self.axis]))
        return made(x, *args, **kwargs)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def initialize(model: M, *args: Any, **kwargs: Any) -> M:
    """Make the parameters of lazy layers, from an example of the model's input.

    The model runs on shapes alone, so the example may be of `ShapeDtypeStruct`.

    Args:
        model: a module, or a pytree of them that can be called.
        *args: what it is called with.
        **kwargs: what it is called with by name.

    Returns:
        The model, with `LazyLinear` become `Linear` and so on.

    Raises:
        ValueError: the model has lazy layers that it did not call; they are named.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> model = nnx.Sequential(nnx.Flatten(), nnx.LazyLinear(10, key=random.key(0)))
        >>> nnx.initialize(model, fnp.ones((5, 8, 8)))[1].weight.shape
        (10, 64)
    """
    seen: dict[int, int] = {}
    before = _seen.set(seen)
    try:
        ft.eval_shape(lambda *a, **k: model(*a, **k), *args, **kwargs)  # type: ignore[operator]
    finally:
        _seen.reset(before)
    nodes = ft.tree.leaves(model, is_leaf=_is_lazy)
    missed = [node for node in nodes if _is_lazy(node) and node.number not in seen]
    if missed:
        names = ", ".join(f"{path_to(m, model)}: {title(m)}" for m in missed)
        raise ValueError(f"initialize: the model did not call {names}")
    return ft.tree.map(
        lambda node: node.made(seen[node.number]) if _is_lazy(node) else node,
        model,
        is_leaf=_is_lazy,
    )


def _is_lazy(node: Any) -> bool:
    return isinstance(node, _Lazy)


class LazyLinear(_Lazy):
    """Be a `Linear` layer once the size of the input is known: see `initialize`.

    Args:
        *arguments: those of `Linear` after in_features.
        key: random key for the initial values.
        **settings: those of `Linear`.

    Raises:
        ValueError: when called before `initialize`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.LazyLinear(2, key=random.key(0))
        >>> nnx.initialize(layer, fnp.ones((5, 3))).in_features
        3
    """

    layer: ClassVar[Callable[..., Any]] = Linear
    axis: ClassVar[int] = -1


class LazyConv1d(_Lazy):
    """Be a `Conv1d` layer once the number of channels is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.LazyConv1d(4, 3, stride=2, key=random.key(0))
        >>> nnx.initialize(layer, fnp.ones((5, 3, 8))).in_channels
        3
    """

    layer: ClassVar[Callable[..., Any]] = Conv1d
    axis: ClassVar[int] = -2


class LazyConv2d(_Lazy):
    """Be a `Conv2d` layer once the number of channels is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.LazyConv2d(4, 3, stride=2, key=random.key(0))
        >>> nnx.initialize(layer, fnp.ones((5, 3, 8, 8))).in_channels
        3
    """

    layer: ClassVar[Callable[..., Any]] = Conv2d
    axis: ClassVar[int] = -3


class LazyConv3d(_Lazy):
    """Be a `Conv3d` layer once the number of channels is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.LazyConv3d(4, 3, stride=2, key=random.key(0))
        >>> nnx.initialize(layer, fnp.ones((5, 3, 8, 8, 8))).in_channels
        3
    """

    layer: ClassVar[Callable[..., Any]] = Conv3d
    axis: ClassVar[int] = -4


class LazyConvTranspose1d(_Lazy):
    """Be a `ConvTranspose1d` layer once the number of channels is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.LazyConvTranspose1d(4, 3, stride=2, key=random.key(0))
        >>> nnx.initialize(layer, fnp.ones((5, 3, 8))).in_channels
        3
    """

    layer: ClassVar[Callable[..., Any]] = ConvTranspose1d
    axis: ClassVar[int] = -2


class LazyConvTranspose2d(_Lazy):
    """Be a `ConvTranspose2d` layer once the number of channels is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.LazyConvTranspose2d(4, 3, stride=2, key=random.key(0))
        >>> nnx.initialize(layer, fnp.ones((5, 3, 8, 8))).in_channels
        3
    """

    layer: ClassVar[Callable[..., Any]] = ConvTranspose2d
    axis: ClassVar[int] = -3


class LazyConvTranspose3d(_Lazy):
    """Be a `ConvTranspose3d` layer once the number of channels is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.LazyConvTranspose3d(4, 3, stride=2, key=random.key(0))
        >>> nnx.initialize(layer, fnp.ones((5, 3, 8, 8, 8))).in_channels
        3
    """

    layer: ClassVar[Callable[..., Any]] = ConvTranspose3d
    axis: ClassVar[int] = -4


class LazyBatchNorm1d(_Lazy):
    """Be a `BatchNorm1d` layer once the number of channels is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.initialize(nnx.LazyBatchNorm1d(), fnp.ones((5, 3, 8))).num_features
        3
    """

    layer: ClassVar[Callable[..., Any]] = BatchNorm1d
    axis: ClassVar[int] = 1


class LazyBatchNorm2d(_Lazy):
    """Be a `BatchNorm2d` layer once the number of channels is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.initialize(nnx.LazyBatchNorm2d(), fnp.ones((5, 3, 8, 8))).num_features
        3
    """

    layer: ClassVar[Callable[..., Any]] = BatchNorm2d
    axis: ClassVar[int] = 1


class LazyBatchNorm3d(_Lazy):
    """Be a `BatchNorm3d` layer once the number of channels is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.initialize(nnx.LazyBatchNorm3d(), fnp.ones((5, 3, 8, 8, 8))).num_features
        3
    """

    layer: ClassVar[Callable[..., Any]] = BatchNorm3d
    axis: ClassVar[int] = 1


class LazyInstanceNorm1d(_Lazy):
    """Be a `InstanceNorm1d` layer once the number of channels is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.initialize(nnx.LazyInstanceNorm1d(), fnp.ones((5, 3, 8))).num_features
        3
    """

    layer: ClassVar[Callable[..., Any]] = InstanceNorm1d
    axis: ClassVar[int] = -2


class LazyInstanceNorm2d(_Lazy):
    """Be a `InstanceNorm2d` layer once the number of channels is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.initialize(nnx.LazyInstanceNorm2d(), fnp.ones((5, 3, 8, 8))).num_features
        3
    """

    layer: ClassVar[Callable[..., Any]] = InstanceNorm2d
    axis: ClassVar[int] = -3


class LazyInstanceNorm3d(_Lazy):
    """Be a `InstanceNorm3d` layer once the number of channels is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx
        >>> nnx.initialize(nnx.LazyInstanceNorm3d(), fnp.ones((5, 3, 8, 8, 8))).num_features
        3
    """

    layer: ClassVar[Callable[..., Any]] = InstanceNorm3d
    axis: ClassVar[int] = -4


class LazyRNN(_Lazy):
    """Be an `RNN` once the size of the input is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.LazyRNN(4, key=random.key(0))
        >>> nnx.initialize(layer, fnp.ones((7, 5, 3))).input_size
        3
    """

    layer: ClassVar[Callable[..., Any]] = RNN
    axis: ClassVar[int] = -1


class LazyLSTM(_Lazy):
    """Be an `LSTM` once the size of the input is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.LazyLSTM(4, key=random.key(0))
        >>> nnx.initialize(layer, fnp.ones((7, 5, 3))).input_size
        3
    """

    layer: ClassVar[Callable[..., Any]] = LSTM
    axis: ClassVar[int] = -1


class LazyGRU(_Lazy):
    """Be a `GRU` once the size of the input is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.LazyGRU(4, key=random.key(0))
        >>> nnx.initialize(layer, fnp.ones((7, 5, 3))).input_size
        3
    """

    layer: ClassVar[Callable[..., Any]] = GRU
    axis: ClassVar[int] = -1


class LazyRNNCell(_Lazy):
    """Be an `RNNCell` once the size of the input is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.LazyRNNCell(4, key=random.key(0))
        >>> nnx.initialize(layer, fnp.ones((5, 3))).input_size
        3
    """

    layer: ClassVar[Callable[..., Any]] = RNNCell
    axis: ClassVar[int] = -1


class LazyLSTMCell(_Lazy):
    """Be an `LSTMCell` once the size of the input is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.LazyLSTMCell(4, key=random.key(0))
        >>> nnx.initialize(layer, fnp.ones((5, 3))).input_size
        3
    """

    layer: ClassVar[Callable[..., Any]] = LSTMCell
    axis: ClassVar[int] = -1


class LazyGRUCell(_Lazy):
    """Be a `GRUCell` once the size of the input is known; as `LazyLinear`.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.LazyGRUCell(4, key=random.key(0))
        >>> nnx.initialize(layer, fnp.ones((5, 3))).input_size
        3
    """

    layer: ClassVar[Callable[..., Any]] = GRUCell
    axis: ClassVar[int] = -1
