"""What PyTorch gives for the rows of `layer_rows`, recorded for where it is not installed.

Run as ``python tests/layer_reference.py`` to record anew, with PyTorch 2.13.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from layer_rows import ROWS, Row

FILE = Path(__file__).with_name("layer_reference.json")


def label(row: Row) -> str:
    """Name a row."""
    name, args, options, inputs = row
    settings = [repr(a) for a in args] + [f"{k}={v!r}" for k, v in options.items()]
    return f"{name}({', '.join(settings)}) of {', '.join(map(str, inputs))}".replace(" ", "")


def numbers(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Make floats in (-2, 2) that no generator's version changes."""
    count = int(np.prod(shape))
    return (2 * np.sin(1 + seed + 1.7 * np.arange(count) ** 1.1)).reshape(shape).astype(np.float32)


def inputs_of(row: Row) -> list[np.ndarray]:
    """Make the inputs of a row."""
    return [
        numbers(given, 3 + i) if isinstance(given, tuple) else np.asarray(given)
        for i, given in enumerate(row[3])
    ]


def parameter(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Make the value of a parameter."""
    return numbers(shape, len(name)) / 2


def probe(shape: tuple[int, ...]) -> np.ndarray:
    """Make what an output is multiplied by, so that all of it counts in a gradient."""
    return np.cos(0.37 * np.arange(int(np.prod(shape)))).reshape(shape).astype(np.float32)


def digest(x: Any) -> list[float]:
    """Reduce an array to a few numbers: its size, sums with three weights, the first elements."""
    flat = np.asarray(x, np.float64).ravel()
    places = np.arange(flat.size)
    sums = [np.abs(flat).sum(), flat.sum(), flat @ np.cos(places), flat @ np.sin(0.7 * places)]
    return [float(f"{v:.6g}") for v in (*sums, *flat[:3])]


def shapes(values: dict[str, Any]) -> dict[str, list[int]]:
    """List the shapes of named arrays."""
    return {name: list(np.shape(x)) for name, x in values.items()}


def of_torch(row: Row) -> dict[str, np.ndarray]:
    """Run a row in PyTorch: outputs ``y0``.., gradients ``x0``.. of inputs, those of parameters."""
    import torch

    name, args, options, _ = row
    layer = getattr(torch.nn, name)(*args, **options)
    state = {k: torch.tensor(parameter(k, tuple(v.shape))) for k, v in layer.state_dict().items()}
    layer.load_state_dict(state)
    layer.eval()
    xs = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs_of(row)]
    ys = layer(*xs)
    ys = ys if isinstance(ys, tuple) else (ys,)
    floats = [y for y in ys if y.dtype.is_floating_point]
    sum((y * torch.tensor(probe(tuple(y.shape)))).sum() for y in floats).backward()
    out = {f"y{i}": y.detach().numpy() for i, y in enumerate(ys)}
    out |= {f"x{i}": x.grad.numpy() for i, x in enumerate(xs) if x.requires_grad}
    out |= {k: p.grad.numpy() for k, p in layer.named_parameters()}
    return out


def main() -> None:
    """Record all rows."""
    import torch

    torch.manual_seed(0)
    rows = {}
    for row in ROWS:
        values = of_torch(row)
        rows[label(row)] = {
            k: {"shape": list(v.shape), "digest": digest(v)} for k, v in values.items()
        }
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in rows.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(rows)} rows of torch {torch.__version__}")


if __name__ == "__main__":
    main()
