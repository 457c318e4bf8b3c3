"""Initial values have the distributions of torch.nn.init."""

import math

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx, random

KEY = random.key(3)
SHAPE = (40, 30, 5)
BOUNDS = [  # function, options, bound of the uniform distribution, for fans 150 and 200
    ("xavier_uniform", {"gain": 2.0}, 2 * math.sqrt(6 / 350)),
    ("kaiming_uniform", {"a": math.sqrt(5)}, 1 / math.sqrt(150)),
    ("kaiming_uniform", {"mode": "fan_out", "nonlinearity": "relu"}, math.sqrt(6 / 200)),
]
DEVIATIONS = [
    ("xavier_normal", {}, math.sqrt(2 / 350)),
    ("kaiming_normal", {}, math.sqrt(2 / 150)),
    ("kaiming_normal", {"mode": "fan_out", "nonlinearity": "tanh"}, 5 / 3 / math.sqrt(200)),
    ("normal", {"mean": 1.0, "std": 0.3}, 0.3),
]


@pytest.mark.parametrize(("name", "options", "bound"), BOUNDS)
def test_uniform_bounds(name, options, bound) -> None:
    w = np.asarray(getattr(nnx.init, name)(KEY, SHAPE, **options))
    assert 0.99 * bound < abs(w).max() <= bound * (1 + 1e-6)
    assert abs(w.std() / (bound / math.sqrt(3)) - 1) < 0.03


@pytest.mark.parametrize(("name", "options", "deviation"), DEVIATIONS)
def test_deviations(name, options, deviation) -> None:
    w = np.asarray(getattr(nnx.init, name)(KEY, SHAPE, **options))
    assert abs(w.std() / deviation - 1) < 0.03
    assert abs(w.mean() - options.get("mean", 0)) < 0.03 * deviation
    assert abs(w).max() > 3 * deviation


@pytest.mark.parametrize("name", sorted({row[0] for row in BOUNDS + DEVIATIONS}))
def test_torch_has_the_same_distributions(name) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    torch.manual_seed(0)
    theirs = getattr(torch.nn.init, name + "_")(torch.empty(SHAPE)).numpy()
    ours = np.asarray(getattr(nnx.init, name)(KEY, SHAPE))
    cuts = np.linspace(0.05, 0.95, 7)
    spread = theirs.std()
    gaps = np.quantile(ours, cuts) - np.quantile(theirs, cuts)
    assert abs(gaps).max() < 0.12 * spread


def test_trunc_normal_keeps_to_its_bounds() -> None:
    w = np.asarray(nnx.init.trunc_normal(KEY, (20000,), mean=1.0, std=0.5, a=0.5, b=2.5))
    assert w.min() >= 0.5
    assert w.max() <= 2.5
    assert abs(w.mean() - 1.1403) < 0.02  # 1 + 0.5 (phi(-1) - phi(3)) / (Phi(3) - Phi(-1))


def test_gains_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    for name in ("linear", "conv2d", "conv_transpose3d", "sigmoid", "tanh", "relu", "selu"):
        assert nnx.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    for slope in (None, 0.2):
        theirs = torch.nn.init.calculate_gain("leaky_relu", slope)
        assert nnx.init.calculate_gain("leaky_relu", slope) == pytest.approx(theirs)


@pytest.mark.parametrize("shape", [(4, 3), (6, 4), (2, 3, 3), (6, 2, 1, 5)])
@pytest.mark.parametrize("groups", [1, 2])
def test_eye_and_dirac_are_those_of_torch(shape, groups) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    if len(shape) == 2:
        np.testing.assert_array_equal(
            nnx.init.eye(None, shape), torch.nn.init.eye_(torch.empty(shape))
        )
    else:
        theirs = torch.nn.init.dirac_(torch.empty(shape), groups)
        np.testing.assert_array_equal(nnx.init.dirac(None, shape, groups=groups), theirs)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 2, 3)])
def test_orthogonal(shape) -> None:
    w = np.asarray(nnx.init.orthogonal(KEY, shape, gain=2.0)).reshape(shape[0], -1)
    short = w if w.shape[0] <= w.shape[1] else w.T
    np.testing.assert_allclose(short @ short.T, 4 * np.eye(short.shape[0]), atol=1e-5)


def test_sparse_has_as_many_zeros_in_each_column() -> None:
    w = np.asarray(nnx.init.sparse(KEY, (50, 20), sparsity=0.33, std=0.1))
    assert ((w == 0).sum(0) == 17).all()
    assert len({tuple(c) for c in (w == 0).T}) > 15
    assert abs(w[w != 0].std() - 0.1) < 0.01


def test_functions_are_pure_and_keep_the_dtype() -> None:
    names = [n for n in nnx.init.__all__ if n != "calculate_gain"]
    options = {"constant": {"val": 2.0}, "sparse": {"sparsity": 0.5}}
    for name in names:
        f, more = getattr(nnx.init, name), options.get(name, {})
        shape = (4, 2, 3) if name == "dirac" else (4, 6)
        w = f(KEY, shape, fnp.float64, **more)
        assert (w.shape, w.dtype) == (shape, fnp.float64)
        np.testing.assert_array_equal(w, f(KEY, shape, fnp.float64, **more))
        jitted = ft.jit(lambda key: f(key, shape, fnp.float64, **more))(KEY)
        np.testing.assert_allclose(jitted, w, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nnx.init.calculate_gain("gelu"), r"knows 'linear', .*'leaky_relu'; .*'gelu'"),
        (lambda: nnx.init.xavier_normal(KEY, (3,)), r"xavier_normal takes a shape of 2 or more"),
        (lambda: nnx.init.eye(KEY, (3, 4, 5)), r"init.eye takes a shape of 2 axes.*\(3, 4, 5\)"),
        (lambda: nnx.init.dirac(KEY, (3, 4)), r"init.dirac takes a shape of 3 to 5 axes"),
        (lambda: nnx.init.dirac(KEY, (3, 4, 1), groups=2), r"multiple of groups.*3 and groups=2"),
        (lambda: nnx.init.kaiming_normal(KEY, (3, 4), mode="in"), r"'fan_in' or 'fan_out'.*'in'"),
        (lambda: nnx.init.sparse(KEY, (3, 4), sparsity=2.0), r"between 0 and 1; .* 2.0"),
    ],
)
def test_mistakes(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
