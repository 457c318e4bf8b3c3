"""Convolution and pooling layers give PyTorch's numbers."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx, random

RNG = np.random.default_rng(3)


def images(*shape):
    return RNG.normal(size=shape).astype("f4")


CONVS = [
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 1}, (2, 4, 9)),
    ("Conv2d", (4, 6, 3), {"padding": "same", "dilation": 2}, (2, 4, 9, 8)),
    ("Conv2d", (4, 6, (2, 3)), {"padding": (1, 0), "groups": 2, "bias": False}, (2, 4, 6, 5)),
    ("Conv2d", (4, 4, 3), {"padding": 2, "padding_mode": "circular"}, (4, 6, 5)),
    ("Conv2d", (4, 4, 4), {"padding": "same", "padding_mode": "reflect"}, (1, 4, 6, 5)),
    ("Conv2d", (4, 4, 3), {"padding": "valid", "padding_mode": "replicate"}, (1, 4, 6, 5)),
    ("Conv3d", (2, 3, 2), {"stride": (1, 2, 1)}, (2, 2, 4, 5, 3)),
]
POOLS = [
    ("MaxPool1d", (2,), {}, (2, 3, 9)),
    ("MaxPool2d", (3, 2), {"padding": 1}, (2, 3, 9, 8)),
    ("MaxPool2d", ((3, 2), (2, 1)), {"dilation": (1, 2), "ceil_mode": True}, (2, 3, 10, 8)),
    ("MaxPool3d", (2,), {"stride": 1}, (2, 2, 3, 4, 5)),
    ("AvgPool1d", (3, 2), {"padding": 1, "count_include_pad": False}, (2, 3, 9)),
    ("AvgPool2d", (3, 2), {"padding": 1}, (2, 3, 9, 8)),
    ("AvgPool2d", (3, 2), {"padding": 1, "ceil_mode": True}, (3, 10, 8)),
    ("AvgPool2d", (2,), {"divisor_override": 3}, (2, 3, 7, 6)),
    ("AvgPool3d", (2,), {"ceil_mode": True, "count_include_pad": False}, (1, 1, 4, 5, 3)),
]


@pytest.mark.parametrize(("name", "args", "options", "shape"), CONVS)
def test_convolution_is_that_of_torch(name, args, options, shape):
    torch = pytest.importorskip("torch")
    layer = getattr(nnx, name)(*args, **options, key=random.key(0))
    other = getattr(torch.nn, name)(*args, **options)
    state = nnx.state_dict(layer)
    assert {k: tuple(v.shape) for k, v in other.state_dict().items()} == {
        k: v.shape for k, v in state.items()
    }
    other.load_state_dict({k: torch.tensor(np.asarray(v)) for k, v in state.items()})
    x = images(*shape)
    y = torch.tensor(x, requires_grad=True)
    want = other(y)
    np.testing.assert_allclose(layer(x), want.detach(), rtol=1e-4, atol=1e-5)
    want.square().sum().backward()
    gradients, gx = ft.grad(lambda m, v: fnp.square(m(v)).sum(), (0, 1))(layer, x)
    np.testing.assert_allclose(gx, y.grad, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(gradients.weight, other.weight.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "args", "options", "shape"), POOLS)
def test_pooling_is_that_of_torch(name, args, options, shape):
    torch = pytest.importorskip("torch")
    layer, other = getattr(nnx, name)(*args, **options), getattr(torch.nn, name)(*args, **options)
    x = np.round(images(*shape), 1)  # with ties
    y = torch.tensor(x, requires_grad=True)
    want = other(y)
    np.testing.assert_allclose(layer(x), want.detach(), rtol=1e-5, atol=1e-6)
    (want.square().sum()).backward()
    gx = ft.jit(ft.grad(lambda v: fnp.square(layer(v)).sum()))(x)
    np.testing.assert_allclose(gx, y.grad, rtol=1e-4, atol=1e-5)


def test_recorded_values():
    """What torch 2.13 gives, where it is not installed."""
    x = np.arange(10, dtype="f4").reshape(1, 10)
    conv = nnx.Conv1d(1, 1, 3, stride=2, padding=1, key=random.key(0))
    conv = conv.replace(weight=fnp.array([[[1.0, 0.5, -2.0]]]), bias=fnp.array([0.25]))
    assert conv(x).tolist() == [[-1.75, -3.75, -4.75, -5.75, -6.75]]
    assert nnx.MaxPool1d(3, 2, 1)(x).tolist() == [[1, 3, 5, 7, 9]]
    assert nnx.AvgPool1d(3, 2, 1)(x).tolist()[0][1:] == [2, 4, 6, 8]


def test_layers_train_inside_a_model():
    keys = random.split(random.key(0), 2)
    model = nnx.Sequential(
        nnx.Conv2d(1, 4, 3, padding=1, key=keys[0]),
        nnx.ReLU(),
        nnx.MaxPool2d(2),
        nnx.Flatten(),
        nnx.Linear(4 * 4 * 4, 3, key=keys[1]),
    )
    x, y = images(16, 1, 8, 8), np.arange(16) % 3

    @ft.jit
    def step(model):
        loss, g = ft.value_and_grad(lambda m: nnx.cross_entropy(m(x), y))(model)
        return loss, ft.tree.map(lambda p, d: p - 0.1 * d, model, g)

    losses = []
    for _ in range(60):
        loss, model = step(model)
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    assert ft.vmap(model)(x[:, None]).shape == (16, 1, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nnx.Conv2d(3, 8, 3, groups=2, key=random.key(0)),
            r"in_channels a multiple of groups; it was given in_channels=3, .* groups=2",
        ),
        (
            lambda: nnx.Conv2d(4, 7, 3, groups=2, key=random.key(0)),
            r"out_channels that are a multiple of groups; it was given out_channels=7",
        ),
        (
            lambda: nnx.Conv2d(3, 8, (3, 3, 3), key=random.key(0)),
            r"Conv2d takes kernel_size as an int or 2 ints of 1 or more; it was given \(3, 3, 3\)",
        ),
        (
            lambda: nnx.Conv2d(3, 8, 3, stride=2, padding="same", key=random.key(0)),
            r"padding 'valid', 'same' \(with stride 1\) or sizes; it was given 'same' with stride",
        ),
        (
            lambda: nnx.Conv1d(3, 8, 3, padding_mode="zero", key=random.key(0)),
            r"padding_mode 'zeros', 'reflect', 'replicate', 'circular'; it was given 'zero'",
        ),
        (
            lambda: nnx.Conv2d(3, 8, 3, key=random.key(0))(np.ones((2, 4, 8, 8))),
            r"takes 3 channels; it was given an array of shape \(2, 4, 8, 8\)",
        ),
        (
            lambda: nnx.Conv2d(3, 8, 3, key=random.key(0))(np.ones((8, 8))),
            r"takes an array of shape \(batch, channels, height, width\) or .* of shape \(8, 8\)",
        ),
        (
            lambda: nnx.MaxPool2d(2, padding=2),
            r"MaxPool2d takes padding of at most half the kernel_size; it was given padding=\(2, 2",
        ),
        (
            lambda: nnx.AvgPool2d(4)(np.ones((1, 1, 3, 8))),
            r"no window fits into an axis of size 3 with padding 0",
        ),
        (lambda: nnx.AvgPool1d(2, divisor_override=0), r"a divisor_override other than 0"),
    ],
)
def test_errors_name_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
