"""Recurrent networks over whole sequences, with PyTorch's parameters.

A layer is one matrix product with the inputs of all steps, then a scan whose step is a product with
the last output.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, random

from .cells import KINDS, Kind, State, check_sizes, initial, kind_of
from .embedding import known_values
from .module import Module, field, is_array, static, title, typed

__all__ = ["GRU", "LSTM", "RNN", "Bidirectional"]


class _Recurrent(Module):
    """What RNN, LSTM and GRU share; they differ in their kind and the form of a state."""

    weights: OrderedDict[str, ft.Array] = field(transparent=True)
    input_size: int = static()
    hidden_size: int = static()
    num_layers: int = static()
    bias: bool = static()
    batch_first: bool = static()
    dropout: float = static()
    bidirectional: bool = static()

    kind: ClassVar[str]

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        key: Any, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        check_sizes(name, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if not 0 <= dropout <= 1:
            raise ValueError(f"{name} takes dropout in [0, 1]; it was given {dropout!r}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional = bidirectional
        self.weights = OrderedDict(initial(key, self._shapes(), hidden_size, dtype))

    def __getattr__(self, name: str) -> Any:
        try:
            return vars(self)["weights"][name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no {name!r}") from None

    def _kind(self) -> Kind:
        return KINDS[self.kind]

    @property
    def _out(self) -> int:
        """Size of the output of one direction."""
        return self.hidden_size

    def _state_sizes(self) -> tuple[int, ...]:
        return (self._out, self.hidden_size)[: self._kind().states]

    def _passes(self) -> list[list[str]]:
        """Return the endings of the names of parameters, for each layer for each direction."""
        ways = ("", "_reverse")[: 1 + self.bidirectional]
        return [[f"_l{k}{way}" for way in ways] for k in range(self.num_layers)]

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        rows = self._kind().gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {}
        for k, layer in enumerate(self._passes()):
            for end in layer:
                size = self._out * len(layer) if k else self.input_size
                shapes[f"weight_ih{end}"] = (rows, size)
                shapes[f"weight_hh{end}"] = (rows, self._out)
                if self.bias:
                    shapes[f"bias_ih{end}"] = shapes[f"bias_hh{end}"] = (rows,)
                if self._out != self.hidden_size:
                    shapes[f"weight_hr{end}"] = (self._out, self.hidden_size)
        return shapes

    # ------------------------------------------------------------------------------------ running
    def _run(self, x: Any, states: Any, lengths: Any, key: Any) -> tuple[Any, list[Any]]:
        """Run all layers; states are arrays (layers * directions, batch, size), or None."""
        x = fnp.asarray(x)
        single = x.ndim == 2
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            axes = "batch, length" if self.batch_first else "length, batch"
            raise ValueError(
                f"{title(self)} takes an array of shape ({axes}, {self.input_size}) or "
                f"(length, {self.input_size}); it was given one of shape {x.shape}"
            )
        x = x[:, None] if single else x.swapaxes(0, 1) if self.batch_first else x
        states = self._states(x, states, single)
        kept = None if lengths is None else self._kept(x, lengths, single)
        finals: list[State] = []
        for k, layer in enumerate(self._passes()):
            x = self._dropped(x, key, k) if k else x
            outputs = []
            for end in layer:
                final, y = self._pass(end, x, tuple(s[len(finals)] for s in states), kept)
                finals.append(final)
                outputs.append(y)
            x = outputs[0] if len(outputs) == 1 else fnp.concatenate(outputs, -1)
        last = [fnp.stack(arrays) for arrays in zip(*finals, strict=True)]
        if single:
            return x[:, 0], [s[:, 0] for s in last]
        return x.swapaxes(0, 1) if self.batch_first else x, last

    def _states(self, x: Any, states: Any, single: bool) -> list[Any]:
        count = self.num_layers * (1 + self.bidirectional)
        shapes = [(count, x.shape[1], size) for size in self._state_sizes()]
        dtype = fnp.result_type(x, self.weight_ih_l0)
        if states is None:
            return [fnp.zeros(shape, dtype) for shape in shapes]
        if not isinstance(states, tuple | list):
            raise TypeError(
                f"{title(self)} takes initial states (h, c); it was given "
                f"{typed(states) if is_array(states) else type(states).__name__}"
            )
        states = [fnp.asarray(s) for s in states]
        wanted = [(n, size) for n, _, size in shapes] if single else shapes
        if [s.shape for s in states] != wanted:
            raise ValueError(
                f"{title(self)} takes initial states of shape {_listed(wanted)}, which are "
                f"(layers * directions, {'' if single else 'batch, '}size); it was given "
                f"{_listed([s.shape for s in states])}"
            )
        dtype = fnp.result_type(dtype, *states)
        return [s.reshape(shape).astype(dtype) for s, shape in zip(states, shapes, strict=True)]

    def _kept(self, x: Any, lengths: Any, single: bool) -> Any:
        """Return a mask (length, batch, 1) of the steps that count."""
        lengths = fnp.asarray(lengths)
        wanted = () if single else x.shape[1:2]
        if lengths.shape != wanted or not fnp.issubdtype(lengths.dtype, fnp.integer):
            raise ValueError(
                f"{title(self)} takes lengths as integers of shape {wanted}, one for each "
                f"sequence; it was given {lengths.dtype} of shape {lengths.shape}"
            )
        known = known_values(lengths)
        if known is not None and known.size and not 0 <= known.min() <= known.max() <= len(x):
            raise ValueError(
                f"{title(self)} takes lengths from 0 to that of the sequences, {len(x)}; it was "
                f"given {known.tolist()}"
            )
        return (fnp.arange(len(x))[:, None] < lengths.reshape(1, -1))[..., None]

    def _dropped(self, x: Any, key: Any, layer: int) -> Any:
        if self.dropout == 0 or (key is None and not self.training):
            return x
        key = self.fresh_key(x) if key is None else random.fold_in(key, layer)
        kept = random.bernoulli(key, 1 - self.dropout, x.shape)
        return fnp.where(kept, x / (1 - self.dropout), 0) if self.dropout < 1 else x * 0

    def _pass(self, end: str, x: Any, state: State, kept: Any) -> tuple[State, Any]:
        """Run one direction of one layer; return its last state and the outputs of all steps."""
        kind, weights = self._kind(), self.weights
        hidden, project = weights[f"weight_hh{end}"].T, weights.get(f"weight_hr{end}")
        wx, late = x @ weights[f"weight_ih{end}"].T, None
        if self.bias:
            early, late = weights[f"bias_ih{end}"], weights[f"bias_hh{end}"]
            wx, late = (wx + (early + late), None) if kind.one_bias else (wx + early, late)

        def step(state: State, at: Any) -> tuple[State, Any]:
            wx, kept = at
            wh = state[0] @ hidden
            new = kind.step(wx, wh if late is None else wh + late, state)
            if project is not None:
                new = (new[0] @ project.T, *new[1:])
            new = tuple(s.astype(old.dtype) for s, old in zip(new, state, strict=True))
            if kept is None:
                return new, new[0]
            new = tuple(fnp.where(kept, s, old) for s, old in zip(new, state, strict=True))
            return new, fnp.where(kept, new[0], 0)

        return lax.scan(step, state, (wx, kept), reverse=end.endswith("_reverse"))


def _listed(shapes: Any) -> str:
    return " and ".join(map(str, shapes))


class RNN(_Recurrent):
    """Run a simple recurrent network over sequences: h' = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Parameters are named as in PyTorch: ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``,
    ``bias_hh_l0``, ``..._l0_reverse``; they start uniform in [-1/√hidden_size, 1/√hidden_size].

    Args:
        input_size: size of the last axis of the input.
        hidden_size: size of the last axis of the state.
        num_layers: how many networks there are, each of which runs over the outputs of the one
            before.
        nonlinearity: 'tanh' or 'relu'.
        bias: whether there are biases.
        batch_first: whether sequences are (batch, length, size) rather than (length, batch, size).
        dropout: in training, the share of each layer's outputs but the last one's that is dropped.
        bidirectional: whether there is a second network that runs from the end; its outputs stand
            behind those of the first.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: an argument is none of these; or, when called, shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.RNN(3, 4, batch_first=True, key=random.key(0))
        >>> y, h = layer(fnp.ones((5, 7, 3)), lengths=fnp.array([7, 1, 2, 3, 7]))
        >>> y.shape, h.shape
        ((5, 7, 4), (1, 5, 4))
        >>> bool((y[1, 1:] == 0).all() & (y[1, 0] == h[0, 1]).all())
        True
    """

    nonlinearity: str = static()

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
        bias: bool = True, batch_first: bool = False, dropout: float = 0.0,
        bidirectional: bool = False, *, key: Any, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            key=key, dtype=dtype,
        )  # fmt: skip

    def _kind(self) -> Kind:
        return kind_of("RNN", self.nonlinearity)

    def __call__(
        self, x: Any, hx: Any = None, *, lengths: Any = None, key: Any = None
    ) -> tuple[ft.Array, ft.Array]:
        """Run over sequences.

        Args:
            x: (length, batch, input_size), or (batch, length, input_size) with ``batch_first``, or
                one sequence (length, input_size).
            hx: (num_layers * directions, batch, hidden_size), zeros by default.
            lengths: (batch,), how many steps of each sequence count; outputs are 0 after them.
            key: random key; drops as in training.

        Returns:
            The outputs of the last layer at all steps, and the last states of all layers.
        """
        y, (h,) = self._run(x, None if hx is None else (hx,), lengths, key)
        return y, h


class LSTM(_Recurrent):
    """Run a network with long short-term memory over sequences; a step is that of `LSTMCell`.

    Parameters are named as in PyTorch: ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``,
    ``bias_hh_l0``, ``weight_hr_l0``, ``..._l0_reverse``.

    Args:
        input_size: size of the last axis of the input.
        hidden_size: size of the memory, and of the output where there is no ``proj_size``.
        num_layers: how many networks there are, one after the other.
        bias: whether there are biases.
        batch_first: whether sequences are (batch, length, size) rather than (length, batch, size).
        dropout: in training, the share of each layer's outputs but the last one's that is dropped.
        bidirectional: whether there is a second network that runs from the end.
        proj_size: size to which outputs are projected, if it is not 0.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: an argument is none of these; or, when called, shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> layer = nnx.LSTM(3, 4, num_layers=2, bidirectional=True, key=random.key(0))
        >>> y, (h, c) = layer(fnp.ones((7, 5, 3)))
        >>> y.shape, h.shape, c.shape
        ((7, 5, 8), (4, 5, 4), (4, 5, 4))
        >>> layer.weight_ih_l1_reverse.shape
        (16, 8)

    References:
        S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997).
        H. Sak, A. Senior, F. Beaufays, "Long short-term memory based recurrent neural network
        architectures", 2014.
    """

    proj_size: int = static()

    kind: ClassVar[str] = "LSTM"

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
        proj_size: int = 0, *, key: Any, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        if not 0 <= proj_size < max(hidden_size, 1):
            raise ValueError(
                "LSTM takes a proj_size that is less than hidden_size, or 0 for none; it was given "
                f"proj_size={proj_size}, hidden_size={hidden_size}"
            )
        self.proj_size = proj_size
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            key=key, dtype=dtype,
        )  # fmt: skip

    @property
    def _out(self) -> int:
        return self.proj_size or self.hidden_size

    def __call__(
        self, x: Any, hx: Any = None, *, lengths: Any = None, key: Any = None
    ) -> tuple[ft.Array, tuple[ft.Array, ft.Array]]:
        """Run over sequences.

        Args:
            x: (length, batch, input_size), or (batch, length, input_size) with ``batch_first``, or
                one sequence (length, input_size).
            hx: (h, c) of shapes (num_layers * directions, batch, size), zeros by default.
            lengths: (batch,), how many steps of each sequence count; outputs are 0 after them.
            key: random key; drops as in training.

        Returns:
            The outputs of the last layer at all steps, and the last (h, c) of all layers.
        """
        y, (h, c) = self._run(x, hx, lengths, key)
        return y, (h, c)


class GRU(_Recurrent):
    """Run a network of gated recurrent units over sequences; a step is that of `GRUCell`.

    Parameters are named as in PyTorch: ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``,
    ``bias_hh_l0``, ``..._l0_reverse``.

    Args:
        input_size: size of the last axis of the input.
        hidden_size: size of the last axis of the state.
        num_layers: how many networks there are, one after the other.
        bias: whether there are biases.
        batch_first: whether sequences are (batch, length, size) rather than (length, batch, size).
        dropout: in training, the share of each layer's outputs but the last one's that is dropped.
        bidirectional: whether there is a second network that runs from the end.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: an argument is none of these; or, when called, shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> y, h = nnx.GRU(3, 4, key=random.key(0))(fnp.ones((7, 5, 3)))
        >>> y.shape, h.shape
        ((7, 5, 4), (1, 5, 4))

    References:
        K. Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014.
    """

    kind: ClassVar[str] = "GRU"

    def __call__(
        self, x: Any, hx: Any = None, *, lengths: Any = None, key: Any = None
    ) -> tuple[ft.Array, ft.Array]:
        """Run over sequences.

        Args:
            x: (length, batch, input_size), or (batch, length, input_size) with ``batch_first``, or
                one sequence (length, input_size).
            hx: (num_layers * directions, batch, hidden_size), zeros by default.
            lengths: (batch,), how many steps of each sequence count; outputs are 0 after them.
            key: random key; drops as in training.

        Returns:
            The outputs of the last layer at all steps, and the last states of all layers.
        """
        y, (h,) = self._run(x, None if hx is None else (hx,), lengths, key)
        return y, h


class Bidirectional(Module):
    """Run one network from the start of sequences and another one from their end.

    Args:
        forward_rnn: `RNN`, `LSTM`, `GRU` or what is called like them.
        backward_rnn: one that gets sequences reversed; its outputs are put back in order.
        merge: makes one output of two; puts the second behind the first by default.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> k1, k2 = random.split(random.key(0))
        >>> both = nnx.Bidirectional(nnx.GRU(3, 4, key=k1), nnx.GRU(3, 6, key=k2))
        >>> y, (forward, backward) = both(fnp.ones((7, 5, 3)))
        >>> y.shape, forward.shape, backward.shape
        ((7, 5, 10), (1, 5, 4), (1, 5, 6))
    """

    forward_rnn: Any
    backward_rnn: Any
    merge: Callable[[Any, Any], Any] = static(lambda a, b: fnp.concatenate([a, b], -1))

    def __call__(
        self, x: Any, hx: Any = None, *, lengths: Any = None, key: Any = None
    ) -> tuple[ft.Array, tuple[Any, Any]]:
        """Run over sequences, as the networks do; states are pairs."""
        first, second = (None, None) if hx is None else hx
        keys = (None, None) if key is None else random.split(key)
        x = fnp.asarray(x)
        axis = 1 if x.ndim == 3 and self.forward_rnn.batch_first else 0
        y, last = self.forward_rnn(x, first, lengths=lengths, key=keys[0])
        z, end = self.backward_rnn(
            _reversed(x, lengths, axis), second, lengths=lengths, key=keys[1]
        )
        return self.merge(y, _reversed(z, lengths, axis)), (last, end)


def _reversed(x: Any, lengths: Any, axis: int) -> Any:
    """Reverse sequences along an axis, each as far as it counts."""
    if lengths is None:
        return fnp.flip(x, axis)
    steps, lengths = fnp.arange(x.shape[axis]), fnp.asarray(lengths)
    places = lengths[..., None] - 1 - steps if axis or x.ndim == 2 else lengths - 1 - steps[:, None]
    kept = places >= 0
    own = fnp.expand_dims(steps, tuple(range(axis + 1, places.ndim)))
    places = fnp.where(kept, places, own)
    return fnp.take_along_axis(x, places[..., None], axis)
