"""Whole steps of gradient descent, convolutions, and gradients of many functions at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.harness import Row, Run, Target, row

RATE = 0.01
Params = dict[str, np.ndarray]


def normals(*shape: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def labels(count: int, classes: int = 10) -> np.ndarray:
    return np.random.default_rng(7).integers(0, classes, count).astype(np.int32)


# ---------------------------------------------------------------------------------------- one step
def step(lib: ModuleType, loss: Callable[..., Any], params: Params, *data: np.ndarray) -> Run:
    """Return what takes a step of gradient descent: compiled, the parameters' memory donated."""

    def update(params: Any, *data: Any) -> Any:
        value, grads = lib.value_and_grad(loss)(params, *data)
        return lib.tree.map(lambda p, g: p - RATE * g, params, grads), value

    compiled = lib.jit(update, donate_argnums=0)
    arrays = [lib.numpy.asarray(x) for x in data]
    state = lib.tree.map(lib.numpy.array, params)

    def run() -> Any:
        nonlocal state
        state, value = compiled(state, *arrays)
        return value

    return run


def torch_step(
    torch: ModuleType, loss: Callable[..., Any], params: Params, *data: np.ndarray
) -> Run:
    """Return what takes a step of gradient descent: eager, all parameters updated in one call."""
    state = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    leaves = list(state.values())
    arrays = [torch.tensor(x).long() if x.dtype == np.int32 else torch.tensor(x) for x in data]

    def run() -> Any:
        value = loss(state, *arrays)
        grads = torch.autograd.grad(value, leaves)
        with torch.no_grad():
            torch._foreach_add_(leaves, grads, alpha=-RATE)
        return value.detach()

    return run


def cross_entropy(lib: ModuleType, scores: Any, y: Any) -> Any:
    logs = lib.nn.log_softmax(scores)
    return -(logs * lib.nn.one_hot(y, scores.shape[-1])).sum() / y.shape[0]


# ---------------------------------------------------------------------------------------- MLP
def perceptron_params(sizes: tuple[int, ...]) -> Params:
    made: Params = {}
    for k, (n, m) in enumerate(itertools.pairwise(sizes)):
        made[f"w{k}"] = normals(n, m, scale=n**-0.5, seed=k)
        made[f"b{k}"] = np.zeros(m, np.float32)
    return made


def perceptron(relu: Callable[[Any], Any], params: Any, x: Any, layers: int) -> Any:
    for k in range(layers - 1):
        x = relu(x @ params[f"w{k}"] + params[f"b{k}"])
    return x @ params[f"w{layers - 1}"] + params[f"b{layers - 1}"]


def perceptron_row(name: str, sizes: tuple[int, ...], batch: int, target: Target) -> Row:
    """Declare the training step of a perceptron."""
    layers = len(sizes) - 1
    args = perceptron_params(sizes), normals(batch, sizes[0], seed=9), labels(batch, sizes[-1])

    @row(name, f"MLP step {'-'.join(map(str, sizes))}, batch {batch}", target)
    def train(lib: ModuleType) -> Run:
        def loss(params: Any, x: Any, y: Any) -> Any:
            return cross_entropy(lib, perceptron(lib.nn.relu, params, x, layers), y)

        return step(lib, loss, *args)

    @train.also("torch")
    def _(torch: ModuleType) -> Run:
        functional = torch.nn.functional

        def loss(params: Any, x: Any, y: Any) -> Any:
            return functional.cross_entropy(perceptron(torch.relu, params, x, layers), y)

        return torch_step(torch, loss, *args)

    return train


small_mlp = perceptron_row("mlp-small", (64, 32, 10), 32, Target(3.0))
mlp = perceptron_row("mlp", (784, 512, 512, 10), 128, Target(1.2))


# ---------------------------------------------------------------------------------------- CNN
CNN_BATCH, CHANNELS = 64, (1, 16, 32)


def cnn_args() -> tuple[Params, np.ndarray, np.ndarray]:
    _, a, b = CHANNELS
    params = {
        "k0": normals(a, 1, 3, 3, scale=1 / 3),
        "c0": np.zeros(a, np.float32),
        "k1": normals(b, a, 3, 3, scale=1 / 12, seed=1),
        "c1": np.zeros(b, np.float32),
        "w0": normals(b * 49, 10, scale=(b * 49) ** -0.5, seed=2),
        "b0": np.zeros(10, np.float32),
    }
    return params, normals(CNN_BATCH, 1, 28, 28, seed=3), labels(CNN_BATCH)


def halve(x: Any) -> Any:
    """Return the greatest of every 2 x 2 pixels."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))


@row("cnn", "CNN step, two 3 x 3 convolutions, 28 x 28, batch 64", Target(1.5))
def cnn(lib: ModuleType) -> Run:
    def loss(params: Any, x: Any, y: Any) -> Any:
        for k in range(2):
            x = lib.lax.conv_general_dilated(x, params[f"k{k}"], (1, 1), "SAME")
            x = halve(lib.nn.relu(x + params[f"c{k}"][:, None, None]))
        return cross_entropy(lib, x.reshape(CNN_BATCH, -1) @ params["w0"] + params["b0"], y)

    return step(lib, loss, *cnn_args())


@cnn.also("torch")
def _(torch: ModuleType) -> Run:
    functional = torch.nn.functional

    def loss(params: Any, x: Any, y: Any) -> Any:
        for k in range(2):
            x = functional.conv2d(x, params[f"k{k}"], params[f"c{k}"], padding=1)
            x = functional.max_pool2d(torch.relu(x), 2)
        scores = x.reshape(CNN_BATCH, -1) @ params["w0"] + params["b0"]
        return functional.cross_entropy(scores, y)

    return torch_step(torch, loss, *cnn_args())


def convolution_row(
    name: str, title: str, channels: int, groups: int, batch: int, backward: bool
) -> Row:
    """Declare a 3 x 3 convolution over 56 x 56 pixels, with its gradients or without."""
    image, kernel = (batch, channels, 56, 56), (channels, channels // groups, 3, 3)
    inputs = normals(*image), normals(*kernel, scale=0.1, seed=1)
    ct = normals(*image, seed=2)

    @row(name, title, Target(1.0))
    def convolve(lib: ModuleType) -> Run:
        def forward(x: Any, k: Any) -> Any:
            return lib.lax.conv_general_dilated(x, k, (1, 1), "SAME", feature_group_count=groups)

        def both(x: Any, k: Any, ct: Any) -> Any:
            y, pull = lib.vjp(forward, x, k)
            return y, pull(ct)

        x, k, c = (lib.numpy.asarray(a) for a in (*inputs, ct))
        if not backward:
            f = lib.jit(forward)
            return lambda: f(x, k)
        g = lib.jit(both)
        return lambda: g(x, k, c)

    @convolve.also("torch")
    def _(torch: ModuleType) -> Run:
        x, k = (torch.tensor(a, requires_grad=backward) for a in inputs)
        c = torch.tensor(ct)

        def run() -> Any:
            y = torch.nn.functional.conv2d(x, k, padding=1, groups=groups)
            return (y.detach(), torch.autograd.grad(y, (x, k), c)) if backward else y

        return run

    return convolve


CONVOLUTIONS = [
    convolution_row(
        "conv", "conv 3 x 3 and gradients, 64 channels, 56 x 56, batch 8", 64, 1, 8, True
    ),
    convolution_row(
        "depthwise", "depthwise 3 x 3, 256 channels, 56 x 56, batch 8", 256, 256, 8, False
    ),
    convolution_row(
        "depthwise-grad",
        "depthwise 3 x 3 and gradients, 256 channels, 56 x 56, batch 8",
        256,
        256,
        8,
        True,
    ),
]


# ------------------------------------------------------------------------ a convolution and more
FIRST = normals(8, 3, 224, 224), normals(32, 3, 3, 3, scale=0.2, seed=1), normals(32, seed=2)


@row("conv-first", "first layer, 3 to 32 channels, 224 x 224, bias and relu, batch 8", Target(1.0))
def first_layer(lib: ModuleType) -> Run:
    def forward(x: Any, k: Any, b: Any) -> Any:
        y = lib.lax.conv_general_dilated(x, k, (1, 1), "SAME")
        return lib.nn.relu(y + b[:, None, None])

    f, args = lib.jit(forward), [lib.numpy.asarray(a) for a in FIRST]
    return lambda: f(*args)


@first_layer.also("torch")
def _(torch: ModuleType) -> Run:
    x, k, b = (torch.tensor(a) for a in FIRST)
    return lambda: torch.relu_(torch.nn.functional.conv2d(x, k, b, padding=1))


# --------------------------------------------------------------------------------- transformer
BATCH, TIME, WIDTH, HEADS = 8, 128, 256, 4


def transformer_args() -> tuple[Params, np.ndarray, np.ndarray]:
    d = WIDTH
    params = {
        "g1": np.ones(d, np.float32),
        "h1": np.zeros(d, np.float32),
        "wqkv": normals(d, 3 * d, scale=d**-0.5),
        "wo": normals(d, d, scale=d**-0.5, seed=1),
        "g2": np.ones(d, np.float32),
        "h2": np.zeros(d, np.float32),
        "w1": normals(d, 4 * d, scale=d**-0.5, seed=2),
        "b1": np.zeros(4 * d, np.float32),
        "w2": normals(4 * d, d, scale=(4 * d) ** -0.5, seed=3),
        "b2": np.zeros(d, np.float32),
    }
    return params, normals(BATCH, TIME, d, seed=4), normals(BATCH, TIME, d, seed=5)


@row("transformer", "transformer block step, batch 8, 128 tokens, width 256", Target(1.2))
def transformer(lib: ModuleType) -> Run:
    np_ = lib.numpy

    def norm(x: Any, scale: Any, shift: Any) -> Any:
        mean = x.mean(axis=-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
        return (x - mean) * lib.lax.rsqrt(variance + 1e-5) * scale + shift

    def attend(x: Any) -> Any:
        q, k, v = np_.split(x.reshape(BATCH, TIME, 3 * HEADS, WIDTH // HEADS), 3, axis=2)
        scores = np_.einsum("bthd,bshd->bhts", q, k) * (WIDTH // HEADS) ** -0.5
        seen = np_.arange(TIME)[:, None] >= np_.arange(TIME)
        weights = lib.nn.softmax(np_.where(seen, scores, -1e30))
        return np_.einsum("bhts,bshd->bthd", weights, v).reshape(BATCH, TIME, WIDTH)

    def loss(p: Any, x: Any, y: Any) -> Any:
        x = x + attend(norm(x, p["g1"], p["h1"]) @ p["wqkv"]) @ p["wo"]
        hidden = lib.nn.gelu(norm(x, p["g2"], p["h2"]) @ p["w1"] + p["b1"])
        return ((x + hidden @ p["w2"] + p["b2"] - y) ** 2).mean()

    return step(lib, loss, *transformer_args())


@transformer.also("torch")
def _(torch: ModuleType) -> Run:
    functional = torch.nn.functional

    def attend(x: Any) -> Any:
        heads = x.reshape(BATCH, TIME, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*heads, is_causal=True)
        return mixed.transpose(1, 2).reshape(BATCH, TIME, WIDTH)

    def loss(p: Any, x: Any, y: Any) -> Any:
        normed = functional.layer_norm(x, (WIDTH,), p["g1"], p["h1"])
        x = x + attend(normed @ p["wqkv"]) @ p["wo"]
        normed = functional.layer_norm(x, (WIDTH,), p["g2"], p["h2"])
        hidden = functional.gelu(normed @ p["w1"] + p["b1"], approximate="tanh")
        return ((x + hidden @ p["w2"] + p["b2"] - y) ** 2).mean()

    return torch_step(torch, loss, *transformer_args())


# ---------------------------------------------------------------------------------------- LSTM
LSTM_TIME, LSTM_BATCH, LSTM_WIDTH = 64, 32, 128


def lstm_args() -> tuple[Params, np.ndarray, np.ndarray]:
    h = LSTM_WIDTH
    params = {
        "wx": normals(4 * h, h, scale=h**-0.5),
        "wh": normals(4 * h, h, scale=h**-0.5, seed=1),
        "bx": np.zeros(4 * h, np.float32),
        "bh": np.zeros(4 * h, np.float32),
    }
    shape = (LSTM_TIME, LSTM_BATCH, h)
    return params, normals(*shape, seed=2), normals(*shape, seed=3)


@row("lstm", "LSTM step by scan, 64 time steps, batch 32, width 128", Target(1.5))
def lstm(lib: ModuleType) -> Run:
    def loss(p: Any, x: Any, y: Any) -> Any:
        def cell(carry: Any, gates: Any) -> Any:
            hidden, memory = carry
            i, f, g, o = lib.numpy.split(gates + hidden @ p["wh"].T, 4, axis=-1)
            memory = lib.nn.sigmoid(f) * memory + lib.nn.sigmoid(i) * lib.numpy.tanh(g)
            hidden = lib.nn.sigmoid(o) * lib.numpy.tanh(memory)
            return (hidden, memory), hidden

        zeros = lib.numpy.zeros((LSTM_BATCH, LSTM_WIDTH), lib.numpy.float32)
        _, out = lib.lax.scan(cell, (zeros, zeros), x @ p["wx"].T + p["bx"] + p["bh"])
        return ((out - y) ** 2).mean()

    return step(lib, loss, *lstm_args())


@lstm.also("torch")
def _(torch: ModuleType) -> Run:
    zeros = torch.zeros(1, LSTM_BATCH, LSTM_WIDTH)

    def loss(p: Any, x: Any, y: Any) -> Any:
        weights = [p[name] for name in ("wx", "wh", "bx", "bh")]
        # The function behind nn.LSTM: input, state, weights, biases, layers, dropout, training,
        # bidirectional, batch first.
        out = torch._VF.lstm(x, (zeros, zeros), weights, True, 1, 0.0, True, False, False)[0]
        return ((out - y) ** 2).mean()

    return torch_step(torch, loss, *lstm_args())


# ------------------------------------------------------------------------------ many gradients
EXAMPLES, EXAMPLE_SIZES = 256, (64, 128, 10)


def example_args() -> tuple[Params, np.ndarray, np.ndarray]:
    return (
        perceptron_params(EXAMPLE_SIZES),
        normals(EXAMPLES, EXAMPLE_SIZES[0], seed=9),
        labels(EXAMPLES),
    )


@row("per-example", "per-example gradients, MLP 64-128-10, 256 examples", Target(2.0))
def per_example(lib: ModuleType) -> Run:
    def loss(params: Any, x: Any, y: Any) -> Any:
        logs = lib.nn.log_softmax(perceptron(lib.nn.relu, params, x, 2))
        return -(logs * lib.nn.one_hot(y, 10)).sum()

    f = lib.jit(lib.vmap(lib.grad(loss), (None, 0, 0)))
    args = lib.tree.map(lib.numpy.asarray, example_args())
    return lambda: f(*args)


@per_example.also("torch")
def _(torch: ModuleType) -> Run:
    def loss(params: Any, x: Any, y: Any) -> Any:
        scores = perceptron(torch.relu, params, x[None], 2)
        return torch.nn.functional.cross_entropy(scores, y[None])

    params, x, y = example_args()
    state = {name: torch.tensor(p) for name, p in params.items()}
    data = torch.tensor(x), torch.tensor(y).long()
    f = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
    return lambda: f(state, *data)


FEATURES, POINTS = 200, 1000


def logistic_args() -> tuple[np.ndarray, ...]:
    """Return the weights, the points and their signs."""
    signs = 2.0 * labels(POINTS, 2) - 1.0
    return normals(FEATURES, scale=0.1), normals(POINTS, FEATURES, seed=1), signs.astype(np.float32)


@row("hessian", "Hessian of logistic regression, 200 features, 1000 points", Target(2.0))
def hessian(lib: ModuleType) -> Run:
    def loss(w: Any, x: Any, signs: Any) -> Any:
        return lib.nn.softplus(-signs * (x @ w)).mean()

    f, args = lib.jit(lib.hessian(loss)), [lib.numpy.asarray(a) for a in logistic_args()]
    return lambda: f(*args)


@hessian.also("torch")
def _(torch: ModuleType) -> Run:
    def loss(w: Any, x: Any, signs: Any) -> Any:
        return torch.nn.functional.softplus(-signs * (x @ w)).mean()

    f, args = torch.func.hessian(loss), [torch.tensor(a) for a in logistic_args()]
    return lambda: f(*args)
