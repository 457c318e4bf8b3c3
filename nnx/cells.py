"""One step of a recurrent network, as functions of gates and as layers of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nn, random

from .module import Module, static, title

__all__ = ["GRUCell", "LSTMCell", "OptimizedLSTMCell", "RNNCell", "SimpleCell"]

State = tuple[Any, ...]


class Kind(NamedTuple):
    """A kind of recurrent network.

    ``step(wx, wh, state)`` gives the new state, whose first array is the output, from the products
    of the weights with the input and with the last output. Where ``one_bias``, only their sum
    matters, so both biases can be added to the first.
    """

    gates: int
    states: int
    one_bias: bool
    step: Callable[[Any, Any, State], State]


def _tanh(wx: Any, wh: Any, state: State) -> State:
    return (fnp.tanh(wx + wh),)


def _relu(wx: Any, wh: Any, state: State) -> State:
    return (nn.relu(wx + wh),)


def _lstm(wx: Any, wh: Any, state: State) -> State:
    i, f, g, o = fnp.split(wx + wh, 4, -1)
    c = nn.sigmoid(f) * state[1] + nn.sigmoid(i) * fnp.tanh(g)
    return nn.sigmoid(o) * fnp.tanh(c), c


def _gru(wx: Any, wh: Any, state: State) -> State:
    (xr, xz, xn), (hr, hz, hn) = fnp.split(wx, 3, -1), fnp.split(wh, 3, -1)
    z = nn.sigmoid(xz + hz)
    n = fnp.tanh(xn + nn.sigmoid(xr + hr) * hn)
    return (n + z * (state[0] - n),)


KINDS = {
    "tanh": Kind(1, 1, True, _tanh),
    "relu": Kind(1, 1, True, _relu),
    "LSTM": Kind(4, 2, True, _lstm),
    "GRU": Kind(3, 1, False, _gru),
}


def kind_of(name: str, nonlinearity: str) -> Kind:
    """Return the kind of a simple network with this nonlinearity."""
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(
            f"{name} takes nonlinearity 'tanh' or 'relu'; it was given {nonlinearity!r}"
        )
    return KINDS[nonlinearity]


def initial(key: Any, shapes: dict[str, tuple[int, ...]], size: int, dtype: Any) -> dict[str, Any]:
    """Draw parameters uniform in [-1/√size, 1/√size], as PyTorch does."""
    bound = 1 / math.sqrt(size)
    keys = random.split(key, len(shapes))
    return {
        name: random.uniform(k, shape, dtype, -bound, bound)
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def check_sizes(name: str, **sizes: int) -> None:
    """Complain of sizes that are no positive integers."""
    for size, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} takes {size} as a positive int; it was given {value!r}")


class _Cell(Module):
    weight_ih: ft.Array
    weight_hh: ft.Array
    bias_ih: ft.Array | None
    bias_hh: ft.Array | None
    input_size: int = static()
    hidden_size: int = static()

    kind: ClassVar[str]

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, key: Any,
        dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        check_sizes(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = self._kind().gates * hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, input_size), "weight_hh": (rows, hidden_size),
        }  # fmt: skip
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
        values = initial(key, shapes, hidden_size, dtype)
        self.weight_ih, self.weight_hh = values["weight_ih"], values["weight_hh"]
        self.bias_ih, self.bias_hh = values.get("bias_ih"), values.get("bias_hh")

    def _kind(self) -> Kind:
        return KINDS[self.kind]

    def _step(self, x: Any, state: Any) -> State:
        x = fnp.asarray(x)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"{title(self)} takes an array of shape (batch, {self.input_size}) or "
                f"({self.input_size},); it was given one of shape {x.shape}"
            )
        kind, shape = self._kind(), (*x.shape[:-1], self.hidden_size)
        wx = x @ self.weight_ih.T
        if state is None:
            state = (fnp.zeros(shape, wx.dtype),) * kind.states
        state = tuple(fnp.asarray(s) for s in state)
        if len(state) != kind.states or any(s.shape != shape for s in state):
            given = ", ".join(str(s.shape) for s in state)
            raise ValueError(
                f"{title(self)} takes a state of {kind.states} arrays of shape {shape}; it was "
                f"given {given}"
            )
        wh = state[0] @ self.weight_hh.T
        if self.bias_ih is not None and self.bias_hh is not None:
            wx, wh = wx + self.bias_ih, wh + self.bias_hh
        return kind.step(wx, wh, state)


class RNNCell(_Cell):
    """Make one step of a simple recurrent network.

    h' = tanh(W_ih x + b_ih + W_hh h + b_hh)

    Args:
        input_size: size of the last axis of the input.
        hidden_size: size of the last axis of the state.
        bias: whether there are biases.
        nonlinearity: 'tanh' or 'relu'.
        key: random key for the initial values, which are uniform in [-1/√hidden_size,
            1/√hidden_size].
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: a size or the nonlinearity is unknown; or, when called, shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> cell = nnx.RNNCell(3, 4, key=random.key(0))
        >>> h = cell(fnp.ones((5, 3)))
        >>> cell(fnp.ones((5, 3)), h).shape
        (5, 4)
    """

    nonlinearity: str = static()

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", *,
        key: Any, dtype: Any = fnp.float32,
    ) -> None:  # fmt: skip
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, bias, key=key, dtype=dtype)

    def _kind(self) -> Kind:
        return kind_of("RNNCell", self.nonlinearity)

    def __call__(self, x: Any, hx: Any = None) -> ft.Array:
        """Map x of shape (batch, input_size) and h of shape (batch, hidden_size) to the new h."""
        return self._step(x, None if hx is None else (hx,))[0]


class LSTMCell(_Cell):
    """Make one step of a network with long short-term memory.

    i, f, o = sigmoid(W x + b + U h + d) by their parts, g = tanh of its part, c' = f c + i g,
    h' = o tanh(c'); the parts of weights and biases are those of i, f, g and o, in this order.

    Args:
        input_size: size of the last axis of the input.
        hidden_size: size of the last axis of the state.
        bias: whether there are biases.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: a size is not positive; or, when called, shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> cell = nnx.LSTMCell(3, 4, key=random.key(0))
        >>> h, c = cell(fnp.ones((5, 3)))
        >>> h, c = cell(fnp.ones((5, 3)), (h, c))
        >>> h.shape, c.shape
        ((5, 4), (5, 4))

    References:
        S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997).
    """

    kind: ClassVar[str] = "LSTM"

    def __call__(self, x: Any, hx: Any = None) -> State:
        """Map x of shape (batch, input_size) and (h, c) to the new (h, c)."""
        return self._step(x, hx)


class GRUCell(_Cell):
    """Make one step of a network of gated recurrent units.

    r, z = sigmoid(W x + b + U h + d) by their parts, n = tanh(W x + b + r (U h + d)) by its part,
    h' = (1 - z) n + z h; the parts of weights and biases are those of r, z and n, in this order.

    Args:
        input_size: size of the last axis of the input.
        hidden_size: size of the last axis of the state.
        bias: whether there are biases.
        key: random key for the initial values.
        dtype: floating-point dtype of the parameters.

    Raises:
        ValueError: a size is not positive; or, when called, shapes do not fit.

    Example:
        >>> import funtorch.numpy as fnp
        >>> from funtorch import nnx, random
        >>> nnx.GRUCell(3, 4, key=random.key(0))(fnp.ones((5, 3))).shape
        (5, 4)

    References:
        K. Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014.
    """

    kind: ClassVar[str] = "GRU"

    def __call__(self, x: Any, hx: Any = None) -> ft.Array:
        """Map x of shape (batch, input_size) and h of shape (batch, hidden_size) to the new h."""
        return self._step(x, None if hx is None else (hx,))[0]


# Flax's names.
SimpleCell = RNNCell
OptimizedLSTMCell = LSTMCell
