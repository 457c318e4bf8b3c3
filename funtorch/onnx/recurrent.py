"""Rules of ONNX's recurrent layers: `RNN`, `GRU` and `LSTM`, as scans over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import funtorch.numpy as fnp
from funtorch import lax, nn

from .node import Node, Rule, array

__all__ = ["RECURRENT"]

_ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "Relu": lambda x, a, b: fnp.maximum(x, 0), "Tanh": lambda x, a, b: fnp.tanh(x),
    "Sigmoid": lambda x, a, b: nn.sigmoid(x), "Softsign": lambda x, a, b: nn.soft_sign(x),
    "Softplus": lambda x, a, b: nn.softplus(x),
    "Affine": lambda x, a, b: (1.0 if a is None else a) * x + (0.0 if b is None else b),
    "LeakyRelu": lambda x, a, b: fnp.where(x >= 0, x, (0.01 if a is None else a) * x),
    "ThresholdedRelu": lambda x, a, b: fnp.where(x > (1.0 if a is None else a), x, 0.0),
    "ScaledTanh": lambda x, a, b: (
        (1.0 if a is None else a) * fnp.tanh((1.0 if b is None else b) * x)
    ),
    "HardSigmoid": lambda x, a, b: fnp.clip(
        (0.2 if a is None else a) * x + (0.5 if b is None else b), 0, 1
    ),
    "Elu": lambda x, a, b: fnp.where(x > 0, x, (1.0 if a is None else a) * fnp.expm1(x)),
}  # fmt: skip


def _functions(n: Node, default: Sequence[str], directions: int) -> list[list[Any]]:
    """Return the activations of each direction."""
    names = list(n.get("activations", list(default) * directions))
    if len(names) != len(default) * directions:
        raise n.error(f"its activations {names} are not {len(default)} for each direction")
    alphas, betas = iter(n.get("activation_alpha", ())), iter(n.get("activation_beta", ()))
    found = []
    for name in names:
        if name not in _ACTIVATIONS:
            raise n.unsupported(f"it uses {name!r}; activations are {', '.join(_ACTIVATIONS)}")
        takes = name in (
            "Affine",
            "LeakyRelu",
            "ThresholdedRelu",
            "ScaledTanh",
            "HardSigmoid",
            "Elu",
        )
        a = next(alphas, None) if takes else None
        b = next(betas, None) if name in ("Affine", "ScaledTanh", "HardSigmoid") else None
        clip = n.get("clip")
        f = _ACTIVATIONS[name]
        found.append(
            lambda x, f=f, a=a, b=b: f(x if clip is None else fnp.clip(x, -clip, clip), a, b)
        )
    return [found[k * len(default) : (k + 1) * len(default)] for k in range(directions)]


def _rnn_step(n: Node, fs: Any, x: Any, state: Any, r: Any, bias: Any, peep: Any) -> Any:
    (h,) = state
    return (fs[0](x + h @ r.T + bias),)


def _gru_step(n: Node, fs: Any, x: Any, state: Any, r: Any, bias: Any, peep: Any) -> Any:
    (h,) = state
    f, g = fs
    xz, xr, xh = fnp.split(x, 3, axis=-1)
    rz, rr, rh = fnp.split(r, 3, axis=0)
    bz, br, bh = fnp.split(bias, 3)
    z, reset = f(xz + h @ rz.T + bz), f(xr + h @ rr.T + br)
    if n.get("linear_before_reset", 0):
        new = g(xh + reset * (h @ rh.T + bh))
    else:
        new = g(xh + (reset * h) @ rh.T + bh)
    return ((1 - z) * new + z * h,)


def _lstm_step(n: Node, fs: Any, x: Any, state: Any, r: Any, bias: Any, peep: Any) -> Any:
    h, c = state
    f, g, last = fs
    i, o, forget, new = fnp.split(x + h @ r.T + bias, 4, axis=-1)
    pi, po, pf = (0, 0, 0) if peep is None else fnp.split(peep, 3)
    i = f(i + pi * c)
    forget = 1 - i if n.get("input_forget", 0) else f(forget + pf * c)
    cell = forget * c + i * g(new)
    return f(o + po * cell) * last(cell), cell


def _layer(step: Callable[..., Any], gates: int, states: int, activations: Sequence[str]) -> Rule:
    def rule(
        n: Node, x: Any, w: Any, r: Any, bias: Any = None, lengths: Any = None, h: Any = None,
        c: Any = None, peep: Any = None,
    ) -> Any:  # fmt: skip
        x, w, r = array(x), array(w), array(r)
        if n.get("layout", 0):
            x = fnp.swapaxes(x, 0, 1)
        ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
        backwards = ways[n.one_of("direction", *ways)]
        count, batch, size = len(backwards), x.shape[1], r.shape[-1]
        functions = _functions(n, activations, count)
        given = [h, c][:states]
        outs, lasts = [], []
        for k, back in enumerate(backwards):
            start = tuple(
                fnp.zeros((batch, size), x.dtype) if s is None else _initial(n, s)[k] for s in given
            )
            of_inputs, of_states = (
                fnp.split(array(bias)[k], 2)
                if bias is not None
                else [fnp.zeros(gates * size, x.dtype)] * 2
            )
            pre = x @ w[k].T + of_inputs
            own = None if peep is None else array(peep)[k]

            def body(
                state: Any, item: Any, k: int = k, b: Any = of_states, own: Any = own
            ) -> tuple[Any, Any]:
                row, t = item
                new = step(n, functions[k], row, state, r[k], b, own)
                if lengths is None:
                    return new, new[0]
                alive = (t < array(lengths))[:, None]
                kept = tuple(fnp.where(alive, a, b) for a, b in zip(new, state, strict=True))
                return kept, fnp.where(alive, new[0], fnp.zeros_like(new[0]))

            last, ys = lax.scan(body, start, (pre, fnp.arange(x.shape[0])), reverse=back)
            outs.append(ys)
            lasts.append(last)
        y = fnp.stack(outs, 1)
        finals = [fnp.stack([last[s] for last in lasts]) for s in range(states)]
        if n.get("layout", 0):
            y = y.transpose(2, 0, 1, 3)
            finals = [fnp.swapaxes(s, 0, 1) for s in finals]
        return (y, *finals)[: n.outputs]

    return rule


def _initial(n: Node, state: Any) -> Any:
    return fnp.swapaxes(array(state), 0, 1) if n.get("layout", 0) else array(state)


RECURRENT: dict[str, Rule] = {
    "RNN": _layer(_rnn_step, 1, 1, ["Tanh"]),
    "GRU": _layer(_gru_step, 3, 1, ["Sigmoid", "Tanh"]),
    "LSTM": _layer(_lstm_step, 4, 2, ["Sigmoid", "Tanh", "Tanh"]),
}
