"""Every layer's output and gradients are PyTorch's, under every transform, in every float dtype."""

from __future__ import annotations

import inspect
import json
from functools import cache
from typing import Any

import layer_reference as reference
import numpy as np
import pytest
from layer_rows import ROWS, Row

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx, random

RECORDED = json.loads(reference.FILE.read_text())
FIRST = list({row[0]: row for row in reversed(ROWS)}.values())  # one row of each layer


def named(rows: list[Row]) -> Any:
    return pytest.mark.parametrize("row", rows, ids=reference.label)


@cache
def constructor_takes_key(name: str) -> bool:
    return "key" in inspect.signature(getattr(nnx, name).__init__).parameters


def build(row: Row) -> Any:
    name, args, options, _ = row
    more = {"key": random.key(0)} if constructor_takes_key(name) else {}
    layer = getattr(nnx, name)(*args, **options, **more)
    shapes = {k: v.shape for k, v in nnx.state_dict(layer).items()}
    return nnx.load_state_dict(layer, {k: reference.parameter(k, s) for k, s in shapes.items()})


def outputs(layer: Any, xs: list[Any]) -> tuple[Any, ...]:
    ys = layer(*xs)
    return ys if isinstance(ys, tuple) else (ys,)


def is_float(x: Any) -> bool:
    return fnp.issubdtype(x.dtype, fnp.floating)


def run(layer: Any, xs: list[Any]) -> dict[str, Any]:
    """Return outputs and gradients by the names that the reference gives them."""

    def total(layer: Any, floats: list[Any]) -> Any:
        rest = iter(floats)
        ys = outputs(layer, [next(rest) if is_float(x) else x for x in xs])
        return sum((y * reference.probe(y.shape)).sum() for y in ys if is_float(y)), ys

    floats = [fnp.asarray(x) for x in xs if is_float(x)]
    (_, ys), (by_layer, by_input) = ft.value_and_grad(total, (0, 1), has_aux=True)(layer, floats)
    where = [i for i, x in enumerate(xs) if is_float(x)]
    return {
        **{f"y{i}": y for i, y in enumerate(ys)},
        **{f"x{i}": g for i, g in zip(where, by_input, strict=True)},
        **nnx.state_dict(by_layer),
    }


def close(got: Any, want: Any, what: str, tol: float = 1e-4) -> None:
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, what
    scale = np.abs(want[np.isfinite(want)]).max(initial=1e-3)
    np.testing.assert_allclose(got, want, rtol=tol, atol=tol * scale, err_msg=what)


@named(ROWS)
def test_layer_gives_the_recorded_numbers(row: Row) -> None:
    got = run(build(row), reference.inputs_of(row))
    want = RECORDED[reference.label(row)]
    assert reference.shapes(got) == {name: entry["shape"] for name, entry in want.items()}
    for name, entry in want.items():
        ours, theirs = np.array(reference.digest(got[name])), np.array(entry["digest"])
        np.testing.assert_allclose(
            ours, theirs, rtol=2e-4, atol=1e-5 + 2e-5 * theirs[0], err_msg=name
        )


@named(ROWS)
def test_layer_is_that_of_torch(row: Row) -> None:
    pytest.importorskip("torch", reason="compares with PyTorch")
    got, want = run(build(row), reference.inputs_of(row)), reference.of_torch(row)
    assert got.keys() == want.keys()
    for name in want:
        close(got[name], want[name], name)


@named(FIRST)
def test_layer_under_jit(row: Row) -> None:
    layer, xs = build(row), reference.inputs_of(row)
    got, want = ft.jit(lambda layer, xs: run(layer, xs))(layer, xs), run(layer, xs)
    for name in want:
        close(got[name], want[name], name)


@named(FIRST)
def test_layer_under_vmap(row: Row) -> None:
    layer = build(row)
    xs = reference.inputs_of(row)
    stacks = [np.stack([x, x[::-1] if x.ndim else -x]) if is_float(x) else x for x in xs]
    axes = [0 if is_float(x) else None for x in xs]
    got = ft.vmap(lambda *xs: outputs(layer, list(xs)), in_axes=tuple(axes))(*stacks)
    for k in range(2):
        each = [x[k] if axis == 0 else x for x, axis in zip(stacks, axes, strict=True)]
        for y, want in zip(got, outputs(layer, each), strict=True):
            close(y[k], want, f"sample {k}")


@named(FIRST)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_layer_keeps_the_dtype(row: Row, dtype: str) -> None:
    kind = getattr(fnp, dtype)
    layer, xs = build(row), reference.inputs_of(row)
    want = run(layer, xs)

    def cast(x: Any) -> Any:
        return fnp.asarray(x, kind) if is_float(x) else x

    for name, x in run(ft.tree.map(cast, layer), [cast(x) for x in xs]).items():
        assert x.dtype == (kind if is_float(want[name]) else want[name].dtype), name
        if not (dtype == "bfloat16" and name.startswith("x")):
            close(x, want[name], name, 1e-4 if dtype == "float64" else 0.06)
