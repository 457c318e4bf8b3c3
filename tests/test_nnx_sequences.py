"""Recurrent layers, attention and transformers are PyTorch's, under every transform."""

from __future__ import annotations

import inspect
import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import sequence_reference as reference
from sequence_reference import RECURRENT, ROWS, Row, build, of_ours, outputs, total

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx

RECORDED = json.loads(reference.FILE.read_text())
BY_NAME = {reference.label(row): row for row in ROWS}
FIRST = list({row[0]: row for row in reversed(ROWS)}.values())  # one row of each layer
# Of what takes long to compile, a part that is alone in its row stands for the whole.
COMPILED = [row for row in FIRST if row[0] != "Transformer"]
TWICE = [row for row in FIRST if "Cell" in row[0] or row[0] in ("RNN", "MultiheadAttention")]
TWICE += [row for row in ROWS if row[0] == "GRU" and "num_layers" not in row[2]]
TWICE += [row for row in FIRST if row[0] == "TransformerEncoderLayer"]


def named(rows: list[Row]) -> Any:
    return pytest.mark.parametrize("row", rows, ids=reference.label)


@cache
def _eager(name: str) -> dict[str, Any]:
    row = BY_NAME[name]
    return of_ours(row, build(row), reference.inputs_of(row))


def eager(row: Row) -> dict[str, Any]:
    return _eager(reference.label(row))


def close(got: Any, want: Any, what: str, tol: float = 1e-4) -> None:
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, what
    scale = np.abs(want).max(initial=1e-3)
    np.testing.assert_allclose(got, want, rtol=tol, atol=tol * scale, err_msg=what)


@named(ROWS)
def test_layer_gives_the_recorded_numbers(row: Row) -> None:
    got, want = eager(row), RECORDED[reference.label(row)]
    assert {k: list(v.shape) for k, v in got.items()} == {k: v["shape"] for k, v in want.items()}
    for name, entry in want.items():
        ours, theirs = np.array(reference.digest(got[name])), np.array(entry["digest"])
        np.testing.assert_allclose(
            ours, theirs, rtol=2e-4, atol=2e-5 + 2e-5 * theirs[0], err_msg=name
        )


@named(ROWS)
@pytest.mark.filterwarnings("ignore")
def test_layer_is_that_of_torch(row: Row) -> None:
    pytest.importorskip("torch", reason="compares with PyTorch")
    got, want = eager(row), reference.of_torch(row)
    assert got.keys() == want.keys()
    for name in want:
        close(got[name], want[name], name)


@named(ROWS)
@pytest.mark.filterwarnings("ignore")
def test_names_of_parameters_come_in_the_order_of_torch(row: Row) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    name, args, options, *_ = row
    theirs = list(getattr(torch.nn, name)(*args, **options).state_dict())
    ours = list(nnx.state_dict(build(row)))
    assert ours == theirs if row in RECURRENT else sorted(ours) == sorted(theirs)


@pytest.mark.parametrize("name", sorted({row[0] for row in ROWS}))
def test_arguments_are_those_of_torch_in_its_order(name: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")

    def positional(layer: type, method: str) -> list[str]:
        parameters = inspect.signature(getattr(layer, method)).parameters.values()
        names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
        return [{"input": "x"}.get(n, n) for n in names if n not in ("device", "dtype")]

    ours, theirs = getattr(nnx, name), getattr(torch.nn, name)
    assert positional(ours, "__call__") == positional(theirs, "forward")
    if name not in ("RNN", "LSTM", "GRU"):  # whose constructors take *args
        assert positional(ours, "__init__") == positional(theirs, "__init__")


@named(COMPILED)
def test_layer_under_jit(row: Row) -> None:
    layer, xs = build(row), reference.inputs_of(row)
    got = ft.jit(lambda layer, xs: of_ours(row, layer, xs))(layer, xs)
    for name, want in eager(row).items():
        close(got[name], want, name)


@named(FIRST)
def test_layer_under_vmap(row: Row) -> None:
    layer, xs = build(row), reference.inputs_of(row)
    stacks = [np.stack([x, x[::-1]]) for x in xs]
    got = ft.vmap(lambda xs: of_ours(row, layer, xs))(stacks)
    for k in range(2):
        each = of_ours(row, layer, [x[k] for x in stacks])
        for name, want in each.items():
            close(got[name][k], want, f"{name} of {k}")


@named(FIRST)
def test_stacked_layers_are_an_ensemble(row: Row) -> None:
    layer, xs = build(row), reference.inputs_of(row)
    other = ft.tree.map(lambda x: 1 - x, layer)
    both = ft.tree.map(lambda a, b: fnp.stack([a, b]), layer, other)
    got = ft.jit(ft.vmap(lambda layer: outputs(row, layer, xs)))(both)
    for k, one in enumerate((layer, other)):
        for y, want in zip(got, outputs(row, one, xs), strict=True):
            close(y[k], want, f"layer {k}")


@named(TWICE)
def test_second_derivatives_agree(row: Row) -> None:
    """Forward over reverse is reverse over reverse."""
    layer, xs = build(row), [fnp.asarray(x) for x in reference.inputs_of(row)]
    ways = [fnp.asarray(reference.numbers(x.shape, 9)) for x in xs]

    def cost(xs: list[Any]) -> Any:
        return total(row, layer, xs)[0] ** 2

    def slope(xs: list[Any]) -> Any:
        return sum((g * way).sum() for g, way in zip(ft.grad(cost)(xs), ways, strict=True))

    _, forward = ft.jvp(ft.grad(cost), (xs,), (ways,))
    for got, want in zip(forward, ft.grad(slope)(xs), strict=True):
        close(got, want, "hvp", 1e-3)


@named(FIRST)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_layer_keeps_the_dtype(row: Row, dtype: str) -> None:
    kind = getattr(fnp, dtype)
    layer = ft.tree.map(lambda x: x.astype(kind), build(row))
    ys = outputs(row, layer, [fnp.asarray(x, kind) for x in reference.inputs_of(row)])
    for i, y in enumerate(ys):
        assert y.dtype == kind
        close(y, eager(row)[f"y{i}"], f"y{i}", 1e-4 if dtype == "float64" else 0.1)
