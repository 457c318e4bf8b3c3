"""The example's networks are torchvision's: names, sizes, and, trained beside PyTorch, numbers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx, optim, random

FILE = Path(__file__).resolve().parent.parent / "examples" / "mnist_models.py"
KEY = random.key(0)
VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")


@pytest.fixture(scope="module")
def models() -> ModuleType:
    for needed in ("tqdm", "matplotlib", "tensorboardX"):
        pytest.importorskip(needed, reason="the example needs it")
    spec = importlib.util.spec_from_file_location("mnist_models", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their annotations up there
    spec.loader.exec_module(module)
    return module


def shapes_of(make: Any) -> dict[str, tuple[int, ...]]:
    return {name: x.shape for name, x in nnx.state_dict(ft.eval_shape(make)).items()}


def test_names_and_sizes_are_those_of_torchvision(models: ModuleType) -> None:
    """Counts of parameters as torchvision 0.20 documents them."""
    found = shapes_of(
        lambda: models.ResNet((2, 2, 2, 2), 64, classes=1000, channels=3, large=True, key=KEY)
    )
    assert len(found) == 122
    assert found["conv1.weight"] == (64, 3, 7, 7)
    assert found["layer2.0.downsample.0.weight"] == (128, 64, 1, 1)
    assert found["layer4.1.bn2.running_var"] == (512,)
    trained = [s for n, s in found.items() if "running" not in n and "tracked" not in n]
    assert sum(int(np.prod(s)) for s in trained) == 11_689_512
    found = shapes_of(lambda: models.VGG(VGG11, 4096, 7, classes=1000, channels=3, key=KEY))
    assert found["features.18.weight"] == (512, 512, 3, 3)
    assert found["classifier.6.bias"] == (1000,)
    assert sum(int(np.prod(s)) for s in found.values()) == 132_863_336
    block = shapes_of(lambda: models.Inception(192, (64, (96, 128), (16, 32), 32), KEY))
    assert block["branch1.conv.weight"] == (64, 192, 1, 1)
    assert block["branch4.1.bn.num_batches_tracked"] == ()


def torch_twin(torch: Any, model: Any) -> Any:
    """Make PyTorch's form of one of the networks, layer by layer, with its weights."""
    net = torch.nn

    def conv(layer: nnx.Conv2d) -> Any:
        return net.Conv2d(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
            bias=layer.bias is not None,
        )  # fmt: skip

    class Twin(net.Module):
        """A module with the same fields, whose forward is given."""

        def __init__(self, forward: Any, **fields: Any) -> None:
            super().__init__()
            self.call = forward
            for field, value in fields.items():
                setattr(self, field, value)

        def forward(self, x: Any) -> Any:
            return self.call(self, x)

    def twin(module: Any) -> Any:
        kind = type(module).__name__
        if kind not in layers:
            fields = {n: twin(v) for n, v in vars(module).items() if isinstance(v, nnx.Module)}
            return Twin(forwards[kind], **fields)
        return layers[kind](module)

    relu, concat = torch.relu, torch.cat
    layers = {
        "Conv2d": conv,
        "BatchNorm2d": lambda m: net.BatchNorm2d(m.num_features, m.eps, m.momentum),
        "Linear": lambda m: net.Linear(m.weight.shape[1], m.weight.shape[0]),
        "ReLU": lambda m: net.ReLU(),
        "Identity": lambda m: net.Identity(),
        "Flatten": lambda m: net.Flatten(),
        "MaxPool2d": lambda m: net.MaxPool2d(
            m.kernel_size, m.stride, m.padding, ceil_mode=m.ceil_mode
        ),
        "AdaptiveAvgPool2d": lambda m: net.AdaptiveAvgPool2d(m.output_size),
        "Sequential": lambda m: net.Sequential(*map(twin, m)),
    }

    def block(m: Any, x: Any) -> Any:
        y = m.bn2(m.conv2(relu(m.bn1(m.conv1(x)))))
        return relu(y + (m.downsample(x) if hasattr(m, "downsample") else x))

    def resnet(m: Any, x: Any) -> Any:
        x = relu(m.bn1(m.conv1(x)))
        x = net.functional.max_pool2d(x, 3, 2, 1) if model.large else x
        return m.fc(m.layer4(m.layer3(m.layer2(m.layer1(x)))).mean((2, 3)))

    forwards = {
        "Block": block,
        "ResNet": resnet,
        "VGG": lambda m, x: m.classifier(m.avgpool(m.features(x)).flatten(1)),
        "Conv": lambda m, x: relu(m.bn(m.conv(x))),
        "Inception": lambda m, x: concat(
            [m.branch1(x), m.branch2(x), m.branch3(x), m.branch4(x)], 1
        ),
    }
    theirs = twin(model).double()
    state = {n: torch.tensor(np.asarray(x)) for n, x in nnx.state_dict(model).items()}
    theirs.load_state_dict(state)
    return theirs


def without_dropout(model: Any) -> Any:
    leaf = lambda m: isinstance(m, nnx.Dropout)
    return ft.tree.map(lambda m: nnx.Identity() if leaf(m) else m, model, is_leaf=leaf)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["vgg", "resnet", "large resnet", "inception"])
def test_training_beside_torch_gives_its_numbers(models: ModuleType, name: str) -> None:
    """Twenty steps of momentum in float64: losses, gradients, weights and statistics."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    make = {
        "vgg": lambda: models.VGG((4, "M", 6, 6, "M"), 7, 3, key=KEY),
        "resnet": lambda: models.ResNet((1, 2, 1, 1), 3, key=KEY),
        "large resnet": lambda: models.ResNet((1, 1, 1, 1), 3, large=True, key=KEY),
        "inception": lambda: nnx.Sequential(
            models.Inception(1, (2, (3, 4), (1, 3), 2), KEY),
            nnx.AdaptiveAvgPool2d((1, 2)), nnx.Flatten(), nnx.Linear(22, 10, key=KEY),
        ),
    }[name]  # fmt: skip
    wide = lambda x: x.astype("f8") if x.dtype == np.float32 else x
    model = ft.tree.map(wide, without_dropout(make()))
    theirs = torch_twin(torch, model)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 1, 21, 18)), rng.integers(0, 10, 6)
    assert list(nnx.state_dict(model)) == list(theirs.state_dict())
    optimizer = optim.sgd(0.01, momentum=0.9)
    state = optimizer.init(nnx.parameters(model))

    @ft.jit
    def step(model: Any, state: Any) -> Any:
        def loss(model: Any) -> Any:
            logits, model = nnx.train(model)(x)
            return nnx.cross_entropy(logits, y), model

        (value, model), grads = nnx.value_and_grad(loss, has_aux=True)(model)
        updates, state = optimizer.update(grads, state, nnx.parameters(model))
        return optim.apply_updates(model, updates), state, value, grads

    other = torch.optim.SGD(theirs.parameters(), 0.01, momentum=0.9)
    for _ in range(20):
        other.zero_grad()
        want = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y))
        want.backward()
        model, state, value, grads = step(model, state)
        np.testing.assert_allclose(value, want.detach(), rtol=1e-10)
        for ours, p in zip(ft.tree.leaves(grads), theirs.parameters(), strict=True):
            np.testing.assert_allclose(ours, p.grad, rtol=1e-6, atol=1e-10)
        other.step()
    for (n, p), ours in zip(
        theirs.state_dict().items(), nnx.state_dict(model).values(), strict=True
    ):
        np.testing.assert_allclose(ours, p, rtol=1e-7, atol=1e-10, err_msg=n)
    theirs.eval()
    with torch.no_grad():
        want = theirs(torch.tensor(x[:3]))
    np.testing.assert_allclose(model(x[:3]), want, rtol=1e-7, atol=1e-10)


def test_running_variances_keep_the_precision_of_float64() -> None:
    x = np.random.default_rng(0).normal(size=(4, 6, 3, 5))
    layer = nnx.BatchNorm1d(3, dtype=fnp.float64)
    _, alone = nnx.train(layer)(x[0])
    expected = 0.9 + 0.1 * x[0].transpose(1, 0, 2).reshape(3, -1).var(1, ddof=1)
    np.testing.assert_allclose(alone.running_var, expected, rtol=1e-14)
    layer = nnx.BatchNorm1d(3, dtype=fnp.float64, axis_name="lanes")
    run = ft.vmap(lambda x: nnx.train(layer)(x), axis_name="lanes", out_axes=(0, None))
    expected = 0.9 + 0.1 * x.transpose(2, 0, 1, 3).reshape(3, -1).var(1, ddof=1)
    np.testing.assert_allclose(ft.jit(run)(x)[1].running_var, expected, rtol=1e-14)
