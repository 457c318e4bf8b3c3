"""A model with PyTorch's weights is the same as PyTorch's, also after steps of training."""

import numpy as np
import pytest

import funtorch as ft
from funtorch import nnx, random


class Block(nnx.Module):
    conv1: nnx.Conv2d
    norm1: nnx.GroupNorm
    conv2: nnx.Conv2d
    act: nnx.SiLU
    down: nnx.Module

    def __init__(self, ins, outs, stride, key):
        k1, k2, k3 = random.split(key, 3)
        self.conv1 = nnx.Conv2d(ins, outs, 3, stride, 1, bias=False, key=k1)
        self.norm1 = nnx.GroupNorm(2, outs)
        self.conv2 = nnx.Conv2d(outs, outs, 3, 1, "same", key=k2)
        self.act = nnx.SiLU()
        self.down = nnx.Sequential(nnx.Conv2d(ins, outs, 1, stride, key=k3), nnx.GroupNorm(2, outs))

    def __call__(self, x):
        return self.act(self.conv2(self.act(self.norm1(self.conv1(x)))) + self.down(x))


def ours() -> nnx.Sequential:
    k1, k2, k3, k4 = random.split(random.key(0), 4)
    return nnx.Sequential(
        nnx.ReflectionPad2d(1),
        nnx.Conv2d(1, 4, 3, key=k1),
        Block(4, 8, 2, k2),
        nnx.Upsample(scale_factor=2, mode="bilinear"),
        nnx.ConvTranspose2d(8, 6, 3, 2, 1, key=k3),
        nnx.PReLU(6),
        nnx.AdaptiveAvgPool2d((2, 3)),
        nnx.Flatten(),
        nnx.LayerNorm(36),
        nnx.Linear(36, 5, key=k4),
    )


def torch_net(torch):
    class TorchBlock(torch.nn.Module):
        def __init__(self, ins, outs, stride):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
            self.norm1 = torch.nn.GroupNorm(2, outs)
            self.conv2 = torch.nn.Conv2d(outs, outs, 3, 1, "same")
            self.act = torch.nn.SiLU()
            self.down = torch.nn.Sequential(
                torch.nn.Conv2d(ins, outs, 1, stride), torch.nn.GroupNorm(2, outs)
            )

        def forward(self, x):
            return self.act(self.conv2(self.act(self.norm1(self.conv1(x)))) + self.down(x))

    return torch.nn.Sequential(
        torch.nn.ReflectionPad2d(1),
        torch.nn.Conv2d(1, 4, 3),
        TorchBlock(4, 8, 2),
        torch.nn.Upsample(scale_factor=2, mode="bilinear"),
        torch.nn.ConvTranspose2d(8, 6, 3, 2, 1),
        torch.nn.PReLU(6),
        torch.nn.AdaptiveAvgPool2d((2, 3)),
        torch.nn.Flatten(),
        torch.nn.LayerNorm(36),
        torch.nn.Linear(36, 5),
    )


def test_weights_go_over_and_training_stays_the_same() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    torch.manual_seed(0)
    theirs = torch_net(torch)
    state = theirs.state_dict()
    model = nnx.load_state_dict(ours(), state)
    assert list(nnx.state_dict(model)) == list(state)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 1, 7, 8)).astype("f4"), rng.integers(0, 5, 6)

    @ft.jit
    def step(model):
        loss, g = ft.value_and_grad(lambda m: nnx.cross_entropy(m(x), y))(model)
        return loss, ft.tree.map(lambda p, d: p - 0.1 * d, model, g)

    optimizer = torch.optim.SGD(theirs.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        want = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y))
        want.backward()
        optimizer.step()
        loss, model = step(model)
        np.testing.assert_allclose(loss, want.detach(), rtol=1e-4)
    back = {name: torch.tensor(np.asarray(p)) for name, p in nnx.state_dict(model).items()}
    for name, p in theirs.state_dict().items():
        np.testing.assert_allclose(back[name], p, rtol=1e-3, atol=1e-4, err_msg=name)
    theirs.load_state_dict(back)


def test_what_does_not_fit_is_listed_at_once() -> None:
    state = nnx.state_dict(ours())
    state["2.down.2.weight"] = state.pop("2.down.1.weight")
    state["9.weight"] = state["9.weight"].T
    with pytest.raises(ValueError, match="does not fit Sequential") as raised:
        nnx.load_state_dict(ours(), state)
    text = str(raised.value)
    assert "missing: 2.down.1.weight float32[8]" in text
    assert "unknown: 2.down.2.weight float32[8]" in text
    assert "different: 9.weight is float32[5,36] in the model, float32[36,5] given" in text
