"""Every layer's output and gradients are PyTorch's, under every transform, in every float dtype."""

from __future__ import annotations

import inspect
import json
from functools import cache
from typing import Any

import layer_reference as reference
import numpy as np
import pytest
from layer_rows import ACTIVATIONS, ROWS, Row

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx, random

RECORDED = json.loads(reference.FILE.read_text())
BY_NAME = {reference.label(row): row for row in ROWS}
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


@cache
def _eager(name: str) -> dict[str, Any]:
    row = BY_NAME[name]
    return run(build(row), reference.inputs_of(row))


def eager(row: Row) -> dict[str, Any]:
    return _eager(reference.label(row))


def close(got: Any, want: Any, what: str, tol: float = 1e-4) -> None:
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, what
    scale = np.abs(want[np.isfinite(want)]).max(initial=1e-3)
    np.testing.assert_allclose(got, want, rtol=tol, atol=tol * scale, err_msg=what)


@named(ROWS)
def test_layer_gives_the_recorded_numbers(row: Row) -> None:
    got = eager(row)
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
    got, want = eager(row), reference.of_torch(row)
    assert got.keys() == want.keys()
    for name in want:
        close(got[name], want[name], name)


@named(FIRST)
def test_layer_under_jit(row: Row) -> None:
    layer, xs = build(row), reference.inputs_of(row)
    got = ft.jit(lambda layer, xs: run(layer, xs))(layer, xs)
    for name, want in eager(row).items():
        close(got[name], want, name)


@named(FIRST)
def test_layer_under_vmap(row: Row) -> None:
    layer = build(row)
    xs = reference.inputs_of(row)
    mapped = [is_float(x) or not any(map(is_float, xs)) for x in xs]
    axes = [0 if it else None for it in mapped]
    stacks = [
        np.stack([x, x[::-1] if x.ndim else -x]) if it else x
        for x, it in zip(xs, mapped, strict=True)
    ]
    got = ft.vmap(lambda *xs: outputs(layer, list(xs)), in_axes=tuple(axes))(*stacks)
    for k in range(2):
        each = [x[k] if axis == 0 else x for x, axis in zip(stacks, axes, strict=True)]
        for y, want in zip(got, outputs(layer, each), strict=True):
            close(y[k], want, f"sample {k}")


@named([row for row in FIRST if nnx.state_dict(build(row))])
def test_stacked_layers_are_an_ensemble(row: Row) -> None:
    layer, xs = build(row), reference.inputs_of(row)
    other = ft.tree.map(lambda x: 1 - x, layer)
    both = ft.tree.map(lambda a, b: fnp.stack([a, b]), layer, other)
    got = ft.vmap(lambda layer: outputs(layer, xs))(both)
    for k, one in enumerate((layer, other)):
        for y, want in zip(got, outputs(one, xs), strict=True):
            close(y[k], want, f"layer {k}")


@named([row for row in FIRST if any(isinstance(given, tuple) for given in row[3])])
def test_second_derivatives_agree(row: Row) -> None:
    """Forward over reverse is reverse over reverse."""
    layer, xs = build(row), reference.inputs_of(row)
    floats = [fnp.asarray(x) for x in xs if is_float(x)]
    ways = [fnp.asarray(reference.numbers(x.shape, 9)) for x in floats]

    def total(floats: list[Any]) -> Any:
        rest = iter(floats)
        ys = outputs(layer, [next(rest) if is_float(x) else x for x in xs])
        return sum((y**3 * reference.probe(y.shape)).sum() for y in ys if is_float(y))

    def slope(floats: list[Any]) -> Any:
        pairs = zip(ft.grad(total)(floats), ways, strict=True)
        return sum((g * way).sum() for g, way in pairs)

    _, forward = ft.jvp(ft.grad(total), (floats,), (ways,))
    for got, want in zip(forward, ft.grad(slope)(floats), strict=True):
        close(got, want, "hvp", 1e-3)


@named(FIRST)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_layer_keeps_the_dtype(row: Row, dtype: str) -> None:
    kind = getattr(fnp, dtype)
    layer, xs, want = build(row), reference.inputs_of(row), eager(row)

    def cast(x: Any) -> Any:
        return fnp.asarray(x, kind) if is_float(x) else x

    for name, x in run(ft.tree.map(cast, layer), [cast(x) for x in xs]).items():
        assert x.dtype == (kind if is_float(want[name]) else want[name].dtype), name
        if not (dtype == "bfloat16" and name.startswith("x")):
            close(x, want[name], name, 1e-4 if dtype == "float64" else 0.06)


@named(FIRST)
def test_layer_of_an_empty_batch(row: Row) -> None:
    layer, xs = build(row), reference.inputs_of(row)
    if xs[0].ndim < 2:
        pytest.skip("one sample")
    ys = outputs(layer, [x[:0] for x in xs])
    for y, full in zip(ys, outputs(layer, xs), strict=True):
        assert y.shape == ((0, *full.shape[1:]) if full.ndim else ())
        assert y.dtype == full.dtype
    gradients = run(layer, [x[:0] for x in xs])
    assert gradients["y0"].shape[0] == 0
    for name, x in nnx.state_dict(layer).items():
        assert gradients[name].shape == x.shape


def test_every_layer_of_torch_has_a_row() -> None:
    """Those that other files test, or that keep nothing and do nothing here, are listed."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    elsewhere = {
        # training: test_nnx_training
        "AlphaDropout", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Dropout", "Dropout1d",
        "Dropout2d", "Dropout3d", "FeatureAlphaDropout", "InstanceNorm1d", "InstanceNorm2d",
        "InstanceNorm3d",
        # random windows, below
        "FractionalMaxPool2d", "FractionalMaxPool3d",
        # its gradient is not the derivative there: test_nnx_more
        "CrossMapLRN2d",
        # sequences and attention
        "GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNCell", "MultiheadAttention",
        "Transformer", "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder",
        "TransformerEncoderLayer",
        # containers, bases, several devices
        "Buffer", "Container", "DataParallel", "Module", "ModuleDict", "ModuleList", "Parameter",
        "ParameterDict", "ParameterList", "RNNBase", "RNNCellBase", "Sequential", "SyncBatchNorm",
        "UninitializedBuffer", "UninitializedParameter", "LinearCrossEntropyOptions",
    }  # fmt: skip
    theirs = {name for name in dir(torch.nn) if isinstance(getattr(torch.nn, name), type)}
    theirs = {name for name in theirs if not name.startswith("Lazy") and "Loss" not in name}
    assert theirs - elsewhere - {row[0] for row in ROWS} == set()


def positional(layer: type) -> list[str]:
    parameters = inspect.signature(layer.__init__).parameters.values()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][1:]


@pytest.mark.parametrize("name", sorted({row[0] for row in ROWS}))
def test_arguments_are_those_of_torch_in_its_order(name: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    # In-place work, sparse gradients, devices and ready weights have no place here.
    none = ("inplace", "sparse", "device", "dtype", "_weight", "_freeze", "min_value", "max_value")
    keywords = {"EmbeddingBag": ("include_last_offset", "padding_idx")}.get(name, ())
    theirs = [p for p in positional(getattr(torch.nn, name)) if p not in (*none, *keywords)]
    theirs = [{"dim": "axis"}.get(p, p) if name != "Unflatten" else p for p in theirs]
    ours = positional(getattr(nnx, name))
    if name.startswith("ConvTranspose"):  # whose only mode is 'zeros'
        theirs.remove("padding_mode")
    assert ours[: len(theirs)] == theirs


FRACTIONAL = [
    ("FractionalMaxPool2d", (2, 5), {}, (2, 3, 9, 8)),
    ("FractionalMaxPool2d", ((3, 2), None, (0.5, 0.7)), {"return_indices": True}, (3, 9, 8)),
    ("FractionalMaxPool3d", (2, (3, 4, 1)), {"return_indices": True}, (1, 2, 5, 9, 4)),
]


@pytest.mark.parametrize(("name", "args", "options", "shape"), FRACTIONAL, ids=str)
def test_fractional_pool_is_that_of_torch(name, args, options, shape) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    layer, x = getattr(nnx, name)(*args, **options), reference.numbers(shape, 0)
    batch = shape if len(shape) > layer.space + 1 else (1, *shape)
    u = np.random.default_rng(0).random((*batch[:2], layer.space)).astype("f4")
    other = getattr(torch.nn, name)(*args, **options, _random_samples=torch.tensor(u))
    theirs_in = torch.tensor(x, requires_grad=True)
    theirs = other(theirs_in)
    ours = layer(x, samples=u)
    if layer.return_indices:
        np.testing.assert_array_equal(ours[1], theirs[1])
        ours, theirs = ours[0], theirs[0]
    np.testing.assert_array_equal(ours, theirs.detach())
    theirs.square().sum().backward()

    def total(x):
        y = layer(x, samples=u)
        return fnp.square(y[0] if layer.return_indices else y).sum()

    close(ft.jit(ft.grad(total))(x), theirs_in.grad, "x")


def test_fractional_pool_draws_its_windows() -> None:
    layer, x = nnx.FractionalMaxPool2d(2, output_ratio=0.6), reference.numbers((2, 3, 9, 8), 0)
    drawn = layer(x, key=random.key(0))
    assert drawn.shape == layer(x).shape == (2, 3, 5, 4)
    assert not (drawn == layer(x, key=random.key(1))).all()
    trained, _ = nnx.train(layer, random.key(0))(x)
    assert trained.shape == drawn.shape
    with pytest.raises(ValueError, match=r"samples of shape \(2, 3, 2\); it was given \(2, 3\)"):
        layer(x, samples=np.zeros((2, 3)))


def test_rrelu_draws_its_slopes() -> None:
    layer, x = nnx.RReLU(0.25, 0.5), fnp.full((50,), -2.0)
    np.testing.assert_allclose(layer(x), -0.75)
    for y in (layer(x, key=random.key(0)), nnx.train(layer, random.key(0))(x)[0]):
        assert bool(((y <= -0.5) & (y > -1)).all())
        assert len(set(y.tolist())) > 40
    np.testing.assert_array_equal(layer(-x, key=random.key(0)), -x)


def test_pools_keep_infinities_where_they_are() -> None:
    x = np.ones((1, 1, 5), np.float32)
    x[..., 0] = np.inf
    for layer in (nnx.AdaptiveAvgPool1d(3), nnx.AdaptiveMaxPool1d(3), nnx.MaxPool1d(2)):
        y = np.asarray(layer(x))[0, 0]
        assert np.isinf(y[0])
        assert (y[1:] == 1).all()
    y = nnx.interpolate(x, 10, mode="linear")[0, 0]
    assert bool((y[3:] == 1).all())


def test_pool_indices_of_equal_elements_are_the_first() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    x = np.round(reference.numbers((2, 3, 7, 6), 0)).astype("f4")
    for args in ((3, 2, 1), (2,), (3, 1, 1, 2)):
        want = torch.nn.MaxPool2d(*args, return_indices=True)(torch.tensor(x))[1]
        np.testing.assert_array_equal(nnx.MaxPool2d(*args, return_indices=True)(x)[1], want)
    want = torch.nn.AdaptiveMaxPool2d(4, return_indices=True)(torch.tensor(x))[1]
    np.testing.assert_array_equal(nnx.AdaptiveMaxPool2d(4, return_indices=True)(x)[1], want)


@pytest.mark.parametrize("name", [
    "Hardtanh", "ReLU", "ReLU6", "Hardsigmoid", "Hardswish", "Hardshrink", "Softshrink", "PReLU",
    "LeakyReLU", "ELU", "CELU", "SELU", "Softsign", "RReLU",
])  # fmt: skip
def test_derivatives_where_pieces_meet(name: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    x = np.array([-3, -1, -0.5, 0, 0.5, 1, 3, 6], np.float32)
    theirs_in = torch.tensor(x, requires_grad=True)
    getattr(torch.nn, name)().eval()(theirs_in).sum().backward()
    layer = getattr(nnx, name)()
    np.testing.assert_allclose(
        ft.grad(lambda x: layer(x).sum())(fnp.asarray(x)), theirs_in.grad, rtol=1e-5
    )


@named([row for row in FIRST if row in ACTIVATIONS])
def test_activations_let_nan_through(row: Row) -> None:
    xs = reference.inputs_of(row)
    assert bool(fnp.isnan(build(row)(fnp.full(xs[0].shape, fnp.nan))).all())
