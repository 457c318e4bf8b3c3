"""Layers with state give PyTorch's outputs, gradients, buffers and names, in training and not."""

import re

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax, nnx, random

KEY = random.key(3)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 2.0, size=shape).astype(np.float32)


NORMS = [  # layer, settings, number of channels, shape of the input
    ("BatchNorm1d", {}, 4, (6, 4)),
    ("BatchNorm1d", {"momentum": None}, 4, (6, 4, 3)),
    ("BatchNorm1d", {"affine": False, "eps": 0.1}, 4, (6, 4)),
    ("BatchNorm1d", {"track_running_stats": False}, 4, (6, 4)),
    ("BatchNorm2d", {"momentum": 0.3}, 3, (2, 3, 5, 4)),
    ("BatchNorm2d", {}, 1, (2, 1, 1, 3)),
    ("BatchNorm3d", {"momentum": 0.0}, 3, (2, 3, 2, 2, 3)),
    ("InstanceNorm1d", {}, 4, (3, 4, 5)),
    ("InstanceNorm1d", {"affine": True, "track_running_stats": True}, 4, (3, 4, 5)),
    ("InstanceNorm1d", {"affine": True, "track_running_stats": True}, 4, (4, 5)),
    ("InstanceNorm2d", {"track_running_stats": True, "momentum": 0.4}, 3, (2, 3, 5, 4)),
    ("InstanceNorm2d", {"affine": True, "eps": 0.1}, 3, (3, 5, 4)),
    ("InstanceNorm3d", {"track_running_stats": True, "momentum": None}, 3, (2, 3, 2, 2, 3)),
]


def loaded(torch, theirs, layer):
    """Put the layer's arrays into PyTorch's layer, whose names and dtypes must be the same."""
    state = nnx.state_dict(layer)
    there = {k: (tuple(v.shape), str(v.dtype)) for k, v in theirs.state_dict().items()}
    assert {k: (v.shape, f"torch.{v.dtype}") for k, v in state.items()} == there
    assert list(state) == list(there)
    theirs.load_state_dict({k: torch.tensor(np.array(v)) for k, v in state.items()})


def compare_with(torch, theirs, layer, shape, calls=2):
    """Compare outputs, gradients and buffers over some calls in training, then in evaluation."""
    names = list(nnx.state_dict(layer))
    step = nnx.value_and_grad(weighed, (0, 1), has_aux=True)
    for k in range(calls + 1):
        train = k < calls
        theirs.train(train)
        x, ct = numbers(*shape, seed=k), numbers(*shape, seed=k + 10)
        y = torch.tensor(x, requires_grad=True)
        out = theirs(y)
        ct = ct if ct.shape == tuple(out.shape) else numbers(*out.shape, seed=k + 10)
        theirs.zero_grad()
        (out * torch.tensor(ct)).sum().backward()
        (_, (got, new)), (g, gx) = step(layer, x, ct, train)
        np.testing.assert_allclose(got, out.detach(), rtol=1e-4, atol=2e-5)
        np.testing.assert_allclose(gx, y.grad, rtol=1e-3, atol=1e-4)
        gradients = nnx.state_dict(g)
        parameters = dict(theirs.named_parameters())
        assert set(gradients) == set(parameters)
        for name, gradient in gradients.items():
            np.testing.assert_allclose(gradient, parameters[name].grad, 2e-3, 2e-4, err_msg=name)
        layer = new
        there = theirs.state_dict()
        for name in names:
            np.testing.assert_allclose(
                nnx.state_dict(layer)[name], there[name], rtol=1e-4, atol=1e-5, err_msg=name
            )


def weighed(layer, x, ct, train):
    y, new = nnx.train(layer)(x) if train else (layer(x), layer)
    return (y * ct).sum(), (y, new)


@pytest.mark.parametrize(("name", "settings", "features", "shape"), NORMS)
def test_normalization_is_that_of_torch(name, settings, features, shape):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    layer = getattr(nnx, name)(features, **settings)
    if layer.weight is not None:
        layer = layer.replace(weight=numbers(layer.num_features), bias=numbers(layer.num_features))
        layer = ft.tree.map(fnp.asarray, layer)
    theirs = getattr(torch.nn, name)(layer.num_features, **settings)
    loaded(torch, theirs, layer)
    compare_with(torch, theirs, layer, shape)


def test_recorded_values():
    """What PyTorch 2.13 gives, where it is not installed: two calls in training, one not."""
    x = np.arange(8, dtype="f4").reshape(4, 2) ** 2
    layer = nnx.BatchNorm1d(2)
    for scale in (1.0, 2.0):
        y, layer = nnx.train(layer)(x * scale)
    np.testing.assert_allclose(y[:, 0], [-1.0, -0.71428573, 0.14285719, 1.5714287], 1e-5)
    np.testing.assert_allclose(layer.running_mean, [4.06, 6.09], 1e-5)
    np.testing.assert_allclose(layer.running_var, [128.86334, 220.33], 1e-5)
    assert int(layer.num_batches_tracked) == 2
    np.testing.assert_allclose(layer(x)[0], [-0.35765252, -0.34291065], 1e-5)


WRAPPED = [  # our wrapper, PyTorch's, their settings, the layer, its arguments, shape of the input
    ("WeightNorm", "weight_norm", {}, "Linear", (3, 5), (4, 3)),
    ("WeightNorm", "weight_norm", {"dim": None}, "Linear", (3, 5), (4, 3)),
    ("WeightNorm", "weight_norm", {"dim": 1}, "Conv2d", (2, 3, 2), (2, 2, 4, 4)),
    ("WeightNorm", "weight_norm", {"name": "bias"}, "Linear", (3, 5), (4, 3)),
    ("SpectralNorm", "spectral_norm", {}, "Linear", (3, 5), (4, 3)),
    ("SpectralNorm", "spectral_norm", {"n_power_iterations": 3}, "Conv2d", (2, 3, 2), (2, 2, 4, 4)),
    ("SpectralNorm", "spectral_norm", {"dim": 1}, "Conv1d", (2, 3, 2), (2, 2, 4)),
]


@pytest.mark.parametrize(("ours", "theirs", "settings", "layer", "args", "shape"), WRAPPED)
def test_parametrized_layers_are_those_of_torch(ours, theirs, settings, layer, args, shape):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    make = getattr(torch.nn.utils.parametrizations, theirs)
    other = make(getattr(torch.nn, layer)(*args), **settings)
    key = {"key": KEY} if ours == "SpectralNorm" else {}
    wrapped = getattr(nnx, ours)(getattr(nnx, layer)(*args, key=KEY), **settings, **key)
    loaded(torch, other, wrapped)
    compare_with(torch, other, wrapped, shape)


def test_weights_of_one_axis():
    layer = nnx.SpectralNorm(nnx.BatchNorm1d(4), key=KEY)
    np.testing.assert_allclose(layer.whole().weight, [0.5] * 4, rtol=1e-6)
    assert layer.u is None
    _, layer = nnx.train(layer)(numbers(5, 4))
    assert int(layer.layer.num_batches_tracked) == 1


def test_a_layer_called_twice_iterates_once():
    layer = nnx.SpectralNorm(nnx.Linear(4, 4, key=KEY), key=KEY)
    layer = layer.replace(original=layer.original + numbers(4, 4))
    x = numbers(3, 4)
    once = nnx.train(layer)(x)[1]
    y, twice = nnx.train(layer, method=lambda m, x: m(m(x)))(x)
    np.testing.assert_array_equal(once.u, twice.u)
    assert not np.allclose(once.u, layer.u)
    np.testing.assert_allclose(y, once(once(x)), rtol=1e-4, atol=1e-5)
    scanned = nnx.train(layer, method=lambda m, x: lax.scan(lambda h, _: (m(h), 0), x, None, 2)[0])
    np.testing.assert_allclose(scanned(x)[0], y, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scanned(x)[1].u, once.u, rtol=1e-5)


def test_spectral_norm_finds_the_largest_singular_value():
    layer = nnx.SpectralNorm(nnx.Linear(6, 5, key=KEY), key=KEY)
    weight = numbers(5, 6)
    layer = layer.replace(original=fnp.asarray(weight))
    for _ in range(100):
        _, layer = nnx.train(layer)(numbers(1, 6))
    np.testing.assert_allclose(np.linalg.norm(layer.whole().weight, 2), 1.0, rtol=1e-4)


@pytest.mark.parametrize("jit", [False, True])
def test_statistics_over_a_mapped_axis_are_those_of_the_whole_batch(jit):
    x = numbers(4, 5, 3)
    layer = nnx.BatchNorm1d(3, axis_name="devices", momentum=0.2)

    def whole(x):
        y, new = nnx.train(layer.replace(axis_name=None))(x.reshape(20, 3))
        return y.reshape(x.shape), new

    def parts(x):
        return ft.vmap(lambda x: nnx.train(layer)(x), axis_name="devices", out_axes=(0, None))(x)

    (y, new), (z, other) = (ft.jit(parts) if jit else parts)(x), whole(fnp.asarray(x))
    np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-5)
    for a, b in zip(ft.tree.leaves(new), ft.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    inside = nnx.train(layer, method=lambda m, x: ft.vmap(m, axis_name="devices")(x))
    (y, new) = inside(fnp.asarray(x))
    np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new.running_var, other.running_var, rtol=1e-5)
    gradient = ft.grad(lambda x: (parts(x)[0] ** 3).sum())(x)
    wanted = ft.grad(lambda x: (whole(x)[0] ** 3).sum())(x)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtypes(dtype):
    dtype = getattr(fnp, dtype)
    x = fnp.asarray(numbers(64, 3), dtype)
    y, layer = nnx.train(nnx.BatchNorm1d(3))(x)
    assert y.dtype == dtype
    assert layer.running_mean.dtype == np.float32
    wide = np.asarray(x.astype(fnp.float64))
    np.testing.assert_allclose(layer.running_mean, 0.1 * wide.mean(0), rtol=1e-4)
    own = nnx.BatchNorm1d(3, dtype=dtype)
    assert own.running_var.dtype == dtype
    assert nnx.train(own)(x)[1].running_var.dtype == dtype


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2)])
def test_empty_batches(shape):
    assert nnx.BatchNorm1d(3)(np.ones(shape, "f4")).shape == shape


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: nnx.BatchNorm1d(-1), "num_features of 0 or more; it was given -1"),
        (lambda: nnx.BatchNorm1d(3)(np.ones((1, 2, 3, 4))), r"(batch, channels) or (batch, chann"),
        (lambda: nnx.BatchNorm1d(3)(np.ones(3)), "given one of shape (3,)"),
        (lambda: nnx.BatchNorm2d(3)(np.ones((1, 2, 3, 4))), "takes 3 channels; it was given an"),
        (lambda: nnx.BatchNorm2d(2)(np.ones((1, 2, 3, 4), int)), "floating-point array; it was"),
        (lambda: nnx.train(nnx.BatchNorm1d(3))(np.ones((1, 3))), "more than 1 value per channel"),
        (lambda: nnx.InstanceNorm2d(3)(np.ones((2, 3, 1, 1))), "1 value per channel and sample"),
        (lambda: nnx.InstanceNorm1d(3)(np.ones((2, 3))), "takes 3 channels; it was given"),
        (lambda: nnx.WeightNorm(nnx.Linear(3, 2, key=KEY), dim=2), "dim in [-2, 2) for a weight"),
        (lambda: nnx.WeightNorm(nnx.ReLU()), "takes a module and the name of an array"),
        (lambda: nnx.WeightNorm(3), "it was given 3 and 'weight'"),
        (
            lambda: nnx.SpectralNorm(nnx.Linear(3, 2, key=KEY), n_power_iterations=0, key=KEY),
            "n_power_iterations of 1 or more; it was given 0",
        ),
    ],
)  # fmt: skip
def test_errors_say_what_is_wrong(call, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        call()
