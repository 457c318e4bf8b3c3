"""A model with PyTorch's weights is the same as PyTorch's, also after steps of training."""

import numpy as np
import pytest

import funtorch as ft
from funtorch import nnx, optim, random


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


class Tagger(nnx.Module):
    """The word language model of PyTorch's examples: a table, a network over time, scores."""

    encoder: nnx.Embedding
    body: nnx.Module
    decoder: nnx.Linear

    def __init__(self, kind: str, key: ft.Array) -> None:
        k1, k2, k3 = random.split(key, 3)
        self.encoder = nnx.Embedding(30, 12, padding_idx=3, key=k1)
        if kind == "Transformer":
            layer = nnx.TransformerEncoderLayer(12, 2, 20, 0.0, key=k2)
            self.body = nnx.TransformerEncoder(layer, 2)
        else:
            self.body = getattr(nnx, kind)(12, 12, 2, key=k2)
        self.decoder = nnx.Linear(12, 30, key=k3)

    def __call__(self, x: ft.Array) -> ft.Array:
        x = self.encoder(x)
        if isinstance(self.body, nnx.TransformerEncoder):
            return self.decoder(self.body(x, is_causal=True))
        return self.decoder(self.body(x)[0])


def torch_tagger(torch, kind: str):
    class TorchTagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch.nn.Embedding(30, 12, padding_idx=3)
            if kind == "Transformer":
                layer = torch.nn.TransformerEncoderLayer(12, 2, 20, 0.0)
                self.body = torch.nn.TransformerEncoder(layer, 2)
            else:
                self.body = getattr(torch.nn, kind)(12, 12, 2)
            self.decoder = torch.nn.Linear(12, 30)

        def forward(self, x):
            x = self.encoder(x)
            if kind != "Transformer":
                return self.decoder(self.body(x)[0])
            mask = torch.nn.Transformer.generate_square_subsequent_mask(len(x))
            return self.decoder(self.body(x, mask=mask))

    return TorchTagger()


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "Transformer"])
def test_a_language_model_trains_as_in_torch(kind: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    torch.manual_seed(0)
    theirs = torch_tagger(torch, kind)
    model = nnx.load_state_dict(Tagger(kind, random.key(0)), theirs.state_dict())
    theirs_optimizer, optimizer = (
        torch.optim.AdamW(theirs.parameters(), 1e-2),
        optim.pytorch.adamw(1e-2),
    )
    state = optimizer.init(nnx.parameters(model))

    @ft.jit
    def step(model, state, x):
        value, grads = nnx.value_and_grad(lambda m: nnx.cross_entropy(m(x[:-1]), x[1:]))(model)
        updates, state = optimizer.update(grads, state, nnx.parameters(model))
        return optim.apply_updates(model, updates), state, value

    for x in np.random.default_rng(0).integers(0, 30, (50, 9, 8)):
        model, state, value = step(model, state, x)
        y = torch.tensor(x)
        want = torch.nn.functional.cross_entropy(theirs(y[:-1]).reshape(-1, 30), y[1:].reshape(-1))
        theirs_optimizer.zero_grad()
        want.backward()
        theirs_optimizer.step()
        np.testing.assert_allclose(value, want.detach(), rtol=2e-5)
    assert len(step.stats().compiles) == 1
    theirs.load_state_dict({k: torch.from_dlpack(v) for k, v in nnx.state_dict(model).items()})
    np.testing.assert_allclose(model(x), theirs(torch.tensor(x)).detach(), rtol=1e-4, atol=1e-5)
