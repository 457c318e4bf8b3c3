"""What PyTorch gives for recurrent layers and attention, recorded for where it is not installed.

Run as ``python tests/sequence_reference.py`` to record anew, with PyTorch 2.13. A row is (name,
arguments, settings, shapes of inputs, settings of the call); ``lengths`` is what packing does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from layer_reference import digest, numbers, parameter, probe

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx, random

FILE = Path(__file__).with_name("sequence_reference.json")
Row = tuple[str, tuple[Any, ...], dict[str, Any], tuple[tuple[int, ...], ...], dict[str, Any]]

X, STEP = (6, 3, 4), (3, 4)  # length, batch, size
BOTH = {"num_layers": 2, "bidirectional": True}
LENGTHS = {"lengths": [6, 2, 5]}
PAD = np.arange(6) >= np.array([[6], [4], [5]])
LATER = np.triu(np.ones((6, 6), bool), 1)
ADDED = numbers((6, 6, 6), 2)  # batch * heads, length, source
Q, K = (6, 3, 8), (5, 3, 8)

RECURRENT: list[Row] = [
    ("RNNCell", (4, 5), {}, (STEP,), {}),
    ("RNNCell", (4, 5), {"nonlinearity": "relu", "bias": False}, ((4,), (5,)), {}),
    ("LSTMCell", (4, 5), {}, (STEP, (3, 5), (3, 5)), {}),
    ("GRUCell", (4, 5), {}, (STEP, (3, 5)), {}),
    ("GRUCell", (4, 5), {"bias": False}, ((4,),), {}),
    ("RNN", (4, 5), {}, (X,), {}),
    ("RNN", (4, 5, 2, "relu"), {"bidirectional": True}, (X, (4, 3, 5)), LENGTHS),
    ("LSTM", (4, 5), BOTH, (X,), {}),
    ("LSTM", (4, 5), {"batch_first": True, "bias": False}, ((3, 6, 4),), LENGTHS),
    ("LSTM", (4, 5), {"proj_size": 2, **BOTH}, (X, (4, 3, 2), (4, 3, 5)), LENGTHS),
    ("LSTM", (4, 5), {}, ((6, 4), (1, 5), (1, 5)), {}),
    ("GRU", (4, 5), BOTH, (X,), LENGTHS),
    ("GRU", (4, 5), {"batch_first": True, "bias": False}, ((3, 6, 4), (1, 3, 5)), {}),
    ("GRU", (4, 5), {"bidirectional": True}, ((6, 4),), {}),
]
ATTENTION: list[Row] = [
    ("MultiheadAttention", (8, 2), {}, (Q, K, K), {}),
    ("MultiheadAttention", (8, 2), {"bias": False}, (Q, Q, Q),
     {"attn_mask": LATER, "key_padding_mask": PAD, "average_attn_weights": False}),
    ("MultiheadAttention", (8, 2), {"batch_first": True, "add_bias_kv": True,
     "add_zero_attn": True}, ((3, 6, 8),) * 3, {"attn_mask": ADDED}),
    ("MultiheadAttention", (8, 2), {"kdim": 5, "vdim": 7}, (Q, (6, 3, 5), (6, 3, 7)),
     {"need_weights": False, "key_padding_mask": PAD}),
    ("MultiheadAttention", (8, 4), {}, ((6, 8), (5, 8), (5, 8)), {}),
    ("TransformerEncoderLayer", (8, 2, 10), {}, (Q,), {"src_key_padding_mask": PAD}),
    ("TransformerEncoderLayer", (8, 2, 10), {"norm_first": True, "activation": "gelu",
     "batch_first": True, "bias": False}, ((3, 6, 8),), {"src_mask": LATER}),
    ("TransformerDecoderLayer", (8, 2, 10), {}, (Q, K), {"tgt_mask": LATER}),
    ("TransformerDecoderLayer", (8, 2, 10), {"norm_first": True, "layer_norm_eps": 0.1}, (K, Q),
     {"memory_key_padding_mask": PAD}),
    ("Transformer", (8, 2, 2, 1, 10), {}, (Q, K),
     {"src_key_padding_mask": PAD, "memory_key_padding_mask": PAD}),
]  # fmt: skip
ROWS = RECURRENT + ATTENTION


def label(row: Row) -> str:
    """Name a row."""
    name, args, options, inputs, call = row
    settings = [repr(a) for a in args] + [f"{k}={v!r}" for k, v in options.items()]
    with_call = "".join(f",{k}" for k in call)
    text = f"{name}({','.join(settings)})of{','.join(map(str, inputs))}{with_call}"
    return text.replace(" ", "")


def inputs_of(row: Row) -> list[np.ndarray]:
    """Make the inputs of a row."""
    return [numbers(shape, 3 + i) for i, shape in enumerate(row[3])]


def arranged(name: str, xs: list[Any]) -> list[Any]:
    """Return the arguments of a call: the state of an LSTM is a pair."""
    return [xs[0], tuple(xs[1:])] if name.startswith("LSTM") and len(xs) > 1 else xs


def flat(ys: Any) -> list[Any]:
    """List the arrays of nested tuples."""
    if isinstance(ys, tuple):
        return [y for part in ys for y in flat(part)]
    return [] if ys is None else [ys]


def _packed(layer: Any, xs: list[Any], lengths: list[int]) -> Any:
    from torch.nn.utils import rnn

    first = layer.batch_first
    pack = rnn.pack_padded_sequence(xs[0], lengths, batch_first=first, enforce_sorted=False)
    y, last = layer(pack, *xs[1:])
    return rnn.pad_packed_sequence(y, batch_first=first)[0], last


def of_torch(row: Row) -> dict[str, np.ndarray]:
    """Run a row in PyTorch: outputs ``y0``.., gradients ``x0``.. of inputs, those of parameters."""
    import torch

    name, args, options, _, call = row
    layer = getattr(torch.nn, name)(*args, **options)
    state = {k: torch.tensor(parameter(k, tuple(v.shape))) for k, v in layer.state_dict().items()}
    layer.load_state_dict(state)
    layer.eval()
    xs = [torch.tensor(x, requires_grad=True) for x in inputs_of(row)]
    given = arranged(name, xs)
    if "lengths" in call:
        ys = _packed(layer, given, call["lengths"])
    else:
        call = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in call.items()}
        ys = layer(*given, **call)
    sum((y * torch.tensor(probe(tuple(y.shape)))).sum() for y in flat(ys)).backward()
    out = {f"y{i}": y.detach().numpy() for i, y in enumerate(flat(ys))}
    out |= {f"x{i}": x.grad.numpy() for i, x in enumerate(xs)}
    out |= {k: p.grad.numpy() for k, p in layer.named_parameters()}
    return out


def build(row: Row) -> Any:
    """Make our layer of a row, with its parameters."""
    name, args, options, *_ = row
    layer = getattr(nnx, name)(*args, **options, key=random.key(0))
    shapes = {k: v.shape for k, v in nnx.state_dict(layer).items()}
    return nnx.load_state_dict(layer, {k: parameter(k, shape) for k, shape in shapes.items()})


def outputs(row: Row, layer: Any, xs: list[Any]) -> list[Any]:
    """Call our layer of a row."""
    return flat(layer(*arranged(row[0], xs), **row[4]))


def total(row: Row, layer: Any, xs: list[Any]) -> tuple[Any, list[Any]]:
    """Return a number that depends on all outputs, and the outputs."""
    ys = outputs(row, layer, xs)
    return sum((y * probe(y.shape)).sum() for y in ys), ys


def of_ours(row: Row, layer: Any, xs: list[Any]) -> dict[str, Any]:
    """Run our layer of a row; as `of_torch`."""
    f = ft.value_and_grad(lambda layer, xs: total(row, layer, xs), (0, 1), has_aux=True)
    (_, ys), (by_layer, by_input) = f(layer, [fnp.asarray(x) for x in xs])
    out = {f"y{i}": y for i, y in enumerate(ys)} | {f"x{i}": x for i, x in enumerate(by_input)}
    return out | nnx.state_dict(by_layer)


def main() -> None:
    """Record all rows."""
    import torch

    rows = {
        label(row): {
            k: {"shape": list(v.shape), "digest": digest(v)} for k, v in of_torch(row).items()
        }
        for row in ROWS
    }
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in rows.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(rows)} rows of torch {torch.__version__}")


if __name__ == "__main__":
    main()
