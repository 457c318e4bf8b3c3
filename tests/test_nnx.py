"""Modules are immutable pytrees with clear errors; layers and losses give PyTorch's numbers."""

import copy
import dataclasses
import pickle
import re

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import io, nnx, random


class MLP(nnx.Module):
    l1: nnx.Linear
    l2: nnx.Linear
    scale: float = nnx.static(2.0)

    def __init__(self, key):
        k1, k2 = random.split(key)
        self.l1 = nnx.Linear(4, 3, key=k1)
        self.l2 = nnx.Linear(3, 2, key=k2, bias=False)

    def __call__(self, x):
        return self.l2(nnx.relu(self.l1(x))) * self.scale


class Affine(nnx.Module):
    weight: ft.Array
    shift: ft.Array | None = None
    axes: tuple[int, ...] = nnx.static((0, 1))


@pytest.fixture
def model() -> MLP:
    return MLP(random.key(0))


def rows(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# ------------------------------------------------------------------------------------- modules
def test_constructor_comes_from_the_fields() -> None:
    module = Affine(fnp.ones(3), axes=(2,))
    assert module.shift is None
    assert module.axes == (2,)


def test_subclass_keeps_a_written_constructor() -> None:
    class Deeper(MLP):
        l3: nnx.Linear | None = None

    deeper = Deeper(random.key(0))
    assert deeper.l3 is None
    assert deeper.l1.weight.shape == (3, 4)


def test_leaves_paths_and_structure(model: MLP) -> None:
    leaves, treedef = ft.tree_util.tree_flatten_with_path(model)
    assert [ft.tree_util.keystr(path) for path, _ in leaves] == [
        ".l1.weight", ".l1.bias", ".l2.weight",
    ]  # fmt: skip
    again = ft.tree.unflatten(treedef, [leaf for _, leaf in leaves])
    assert type(again) is MLP
    assert again.scale == 2.0
    assert ft.tree.structure(model) == ft.tree.structure(MLP(random.key(1)))
    assert ft.tree.structure(model) != ft.tree.structure(model.replace(scale=3.0))


def test_transforms_take_modules(model: MLP) -> None:
    x = rows(5, 4)
    eager = model(x)
    np.testing.assert_allclose(ft.jit(lambda m, x: m(x))(model, x), eager, rtol=1e-5, atol=1e-6)
    gradient = ft.jit(ft.grad(lambda m: m(x).sum()))(model)
    assert type(gradient) is MLP
    assert gradient.l1.weight.shape == (3, 4)
    np.testing.assert_allclose(gradient.l1.bias, ft.grad(lambda m: m(x).sum())(model).l1.bias,
                               rtol=1e-5, atol=1e-6)  # fmt: skip


def test_vmap_makes_and_runs_an_ensemble() -> None:
    models = ft.vmap(MLP)(random.split(random.key(0), 6))
    assert models.l1.weight.shape == (6, 3, 4)
    outputs = ft.vmap(lambda m, x: m(x), in_axes=(0, None))(models, fnp.asarray(rows(5, 4)))
    assert outputs.shape == (6, 5, 2)


def test_static_fields_choose_the_compiled_program(model: MLP) -> None:
    traces = []

    @ft.jit
    def apply(m, x):
        traces.append(m.scale)
        return m(x)

    x = rows(5, 4)
    apply(model, x)
    apply(MLP(random.key(3)), x)
    apply(model.replace(scale=3.0), x)
    assert traces == [2.0, 3.0]


def test_replace_shares_the_rest(model: MLP) -> None:
    other = model.replace(scale=5.0)
    assert (other.scale, model.scale) == (5.0, 2.0)
    assert other.l1 is model.l1


def test_pickle_and_copy(model: MLP) -> None:
    for other in (pickle.loads(pickle.dumps(Affine(fnp.ones(3)))), copy.copy(model)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            other.weight = None
    assert copy.deepcopy(model).l1.weight.shape == (3, 4)


def test_repr_shows_shapes_and_counts(model: MLP) -> None:
    assert repr(model) == (
        "MLP(scale=2.0)  # 21 parameters\n"
        "  l1: Linear(in_features=4, out_features=3)  # 15 parameters\n"
        "    weight: float32[3,4]\n"
        "    bias: float32[3]\n"
        "  l2: Linear(in_features=3, out_features=2)  # 6 parameters\n"
        "    weight: float32[2,3]\n"
        "    bias: None"
    )


def test_param_count_leaves_out_integers() -> None:
    assert nnx.param_count({"w": fnp.ones((2, 3)), "steps": fnp.arange(4)}) == 6


# ------------------------------------------------------------------------------------- mistakes
def test_assignment_after_construction(model: MLP) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"'scale' of MLP.*replace\(scale="):
        model.scale = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'scale'"):
        del model.scale


def test_field_left_out_of_the_constructor() -> None:
    class Half(nnx.Module):
        l1: nnx.Linear
        l2: nnx.Linear

        def __init__(self):
            self.l1 = nnx.Linear(2, 2, key=random.key(0))

    with pytest.raises(TypeError, match=r"Half.__init__ did not set 'l2'"):
        Half()


def test_field_without_annotation() -> None:
    class Torchlike(nnx.Module):
        def __init__(self):
            self.l1 = nnx.Linear(2, 2, key=random.key(0))

    with pytest.raises(AttributeError, match="Annotate it in the class body: `l1: Linear`"):
        Torchlike()


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, np.ones(2)])
def test_static_value_that_cannot_be_hashed(value: object) -> None:
    with pytest.raises(TypeError, match=r"static field 'axes' of Affine must be hashable"):
        Affine(fnp.ones(2), axes=value)


@pytest.mark.parametrize("value", ["relu", np.sin, [np.sin]])
def test_child_that_is_no_array(value: object) -> None:
    with pytest.raises(TypeError, match=r"field 'weight' of Affine holds .*nnx.static"):
        Affine(value)


def test_replace_of_an_unknown_field(model: MLP) -> None:
    with pytest.raises(TypeError, match=r"got 'l3'.*its fields are 'l1', 'l2', 'scale'"):
        model.replace(l3=None)


# ------------------------------------------------------------------------------------- state dicts
def test_state_dict_round_trip_through_a_file(model: MLP, tmp_path) -> None:
    state = nnx.state_dict(model)
    assert list(state) == ["l1.weight", "l1.bias", "l2.weight"]
    io.save(tmp_path / "model.safetensors", state)
    other = nnx.load_state_dict(MLP(random.key(9)), io.load(tmp_path / "model.safetensors"))
    for a, b in zip(ft.tree.leaves(other), ft.tree.leaves(model), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_load_state_dict_names_every_problem(model: MLP) -> None:
    state = {"l1.weight": np.ones((4, 3), np.float32), "l2.weight": np.ones((2, 3), np.int32),
             "l9.bias": np.ones(3)}  # fmt: skip
    with pytest.raises(ValueError, match="does not fit MLP") as raised:
        nnx.load_state_dict(model, state)
    text = str(raised.value)
    assert "missing: l1.bias float32[3]" in text
    assert "unknown: l9.bias float64[3]" in text
    assert "l1.weight is float32[3,4] in the model, float32[4,3] given" in text
    assert "l2.weight is float32[2,3] in the model, int32[2,3] given" in text


def test_load_state_dict_keeps_the_models_dtypes(model: MLP) -> None:
    state = {name: np.asarray(x, np.float64) for name, x in nnx.state_dict(model).items()}
    assert nnx.load_state_dict(model, state).l1.weight.dtype == np.float32


# ------------------------------------------------------------------------------------- layers
def test_linear_starts_within_the_bounds() -> None:
    layer = nnx.Linear(100, 400, key=random.key(1))
    for x in (np.asarray(layer.weight), np.asarray(layer.bias)):
        assert 0.09 < abs(x).max() <= 0.1
        assert abs(x.mean()) < 0.01


def test_linear_error_names_layer_and_shapes() -> None:
    text = r"Linear\(in_features=64, out_features=2\) takes .*\(\.\.\., 64\).*\(32, 65\)"
    with pytest.raises(ValueError, match=text):
        nnx.Linear(64, 2, key=random.key(0))(fnp.ones((32, 65)))
    with pytest.raises(ValueError, match="in_features=-1"):
        nnx.Linear(-1, 2, key=random.key(0))


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 4, 3)])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_linear_shapes_and_dtypes(shape: tuple[int, ...], dtype: str) -> None:
    layer = nnx.Linear(3, 5, key=random.key(0), dtype=getattr(fnp, dtype))
    y = layer(fnp.ones(shape, getattr(fnp, dtype)))
    assert y.shape == (*shape[:-1], 5)
    assert y.dtype == getattr(fnp, dtype)


def test_dropout() -> None:
    x = fnp.ones((100, 100))
    layer = nnx.Dropout(0.25)
    dropped = np.asarray(layer(x, key=random.key(0)))
    np.testing.assert_allclose(np.unique(dropped), [0, 4 / 3], rtol=1e-6)
    assert abs((dropped == 0).mean() - 0.25) < 0.02
    for y in (layer(x), layer(x, key=random.key(0), deterministic=True)):
        np.testing.assert_array_equal(y, x)
    assert not np.asarray(nnx.Dropout(1.0)(x, key=random.key(0))).any()
    with pytest.raises(ValueError, match=r"Dropout\(rate=0.25\).*needs key"):
        layer(x, deterministic=False)
    with pytest.raises(ValueError, match=r"rate in \[0, 1\]; it was given 1.5"):
        nnx.Dropout(1.5)


def test_sequential_splits_its_key() -> None:
    model = nnx.Sequential(nnx.Dropout(0.5), fnp.negative, nnx.Sequential(nnx.Dropout(0.5)))
    x = fnp.ones(1000)
    np.testing.assert_array_equal(model(x), -np.ones(1000))
    kept = np.asarray(model(x, key=random.key(0))) != 0
    assert abs(kept.mean() - 0.25) < 0.05
    assert len(model[1:]) == 2
    assert [type(layer).__name__ for layer in model] == ["Dropout", "Lambda", "Sequential"]
    with pytest.raises(TypeError, match="argument 0 is a list"):
        nnx.Sequential([nnx.ReLU()])


def test_flatten_and_identity() -> None:
    x = fnp.ones((2, 3, 4))
    assert nnx.Flatten()(x).shape == (2, 12)
    assert nnx.Flatten(0)(x).shape == (24,)
    assert nnx.Identity()(x) is x
    with pytest.raises(ValueError, match=r"Flatten\(start_dim=4, end_dim=-1\).*\(2, 3, 4\)"):
        nnx.Flatten(4)(x)


# --------------------------------------------------------------------------- numbers, as PyTorch's
X = np.array([-3.0, -0.5, 0.0, 0.25, 4.0], np.float32)
ACTIVATIONS = {  # layer -> its values at X, from PyTorch 2.13 with default settings
    "ReLU": [0.0, 0.0, 0.0, 0.25, 4.0],
    "LeakyReLU": [-0.03, -0.005, 0.0, 0.25, 4.0],
    "ELU": [-0.95021296, -0.39346933, 0.0, 0.25, 4.0],
    "GELU": [-0.00404969, -0.15426877, 0.0, 0.14967656, 3.99987336],
    "SiLU": [-0.14227761, -0.18877034, 0.0, 0.14054413, 3.92805529],
    "Sigmoid": [0.04742587, 0.37754068, 0.5, 0.56217653, 0.98201376],
    "Tanh": [-0.99505478, -0.46211717, 0.0, 0.24491866, 0.99932933],
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_values(name: str) -> None:
    layer = getattr(nnx, name)()
    np.testing.assert_allclose(layer(fnp.asarray(X)), ACTIVATIONS[name], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", [*ACTIVATIONS, "Softmax", "LogSoftmax"])
def test_activation_and_gradient_equal_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    x = np.where(X == 0, 1.5, X).astype(np.float32)  # at 0 some have no derivative
    args = (-1,) if "oftmax" in name else ()
    theirs_in = torch.tensor(x, requires_grad=True)
    theirs = getattr(torch.nn, name)(*args)(theirs_in)
    (theirs * torch.arange(5.0)).sum().backward()
    layer = getattr(nnx, name)()
    weights = fnp.arange(5.0)
    gradient = ft.grad(lambda x: (layer(x) * weights).sum())(fnp.asarray(x))
    np.testing.assert_allclose(layer(fnp.asarray(x)), theirs.detach(), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, theirs_in.grad, rtol=1e-4, atol=1e-5)


def test_mlp_output_and_gradient_equal_torch(model: MLP) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    x = rows(5, 4)
    theirs = torch.nn.Sequential(
        torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2, bias=False)
    )
    names = {"l1.weight": "0.weight", "l1.bias": "0.bias", "l2.weight": "2.weight"}
    state = {names[n]: torch.tensor(np.array(p)) for n, p in nnx.state_dict(model).items()}
    theirs.load_state_dict(state)
    y = theirs(torch.tensor(x)) * 2
    y.square().sum().backward()
    np.testing.assert_allclose(model(x), y.detach(), rtol=1e-5, atol=1e-6)
    gradient = nnx.state_dict(ft.grad(lambda m: (m(x) ** 2).sum())(model))
    for ours, other in names.items():
        np.testing.assert_allclose(
            gradient[ours], theirs.get_parameter(other).grad, rtol=1e-4, atol=1e-5
        )


LOGITS = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, -1.0]], np.float32)
OTHER = np.array([[0.5, 0.5, 0.0], [1.0, 0.5, 0.25]], np.float32)
SHARES = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], np.float32)
LOSSES = [  # loss, second argument, settings, value and torch.nn.functional's name for it
    ("mse", OTHER, {}, 2.09375, "mse_loss"),
    ("l1", OTHER, {"reduction": "sum"}, 7.25, "l1_loss"),
    ("huber", OTHER, {"delta": 0.7}, 0.61083333, "huber_loss"),
    ("bce_with_logits", OTHER, {}, 0.70321048, "binary_cross_entropy_with_logits"),
    ("cross_entropy", np.array([2, 0]), {}, 0.5352404, "cross_entropy"),
    ("cross_entropy", np.array([2, 0]), {"label_smoothing": 0.1}, 0.6852404, "cross_entropy"),
    ("cross_entropy", SHARES, {"label_smoothing": 0.1}, 0.97774042, "cross_entropy"),
    ("nll", np.array([2, 0]), {"reduction": "none"}, [-0.5, -3.0], "nll_loss"),
]


@pytest.mark.parametrize(("loss", "targets", "settings", "value", "_"), LOSSES)
def test_loss_values(loss: str, targets, settings: dict, value, _: str) -> None:
    got = getattr(nnx, loss)(fnp.asarray(LOGITS), fnp.asarray(targets), **settings)
    np.testing.assert_allclose(got, value, rtol=2e-5)


@pytest.mark.parametrize(("loss", "targets", "settings", "_", "name"), LOSSES)
def test_loss_and_gradient_equal_torch(loss: str, targets, settings: dict, _, name: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    theirs_in = torch.tensor(LOGITS, requires_grad=True)
    theirs = getattr(torch.nn.functional, name)(theirs_in, torch.tensor(targets), **settings)
    theirs.sum().backward()

    def total(logits):
        return getattr(nnx, loss)(logits, fnp.asarray(targets), **settings).sum()

    value, gradient = ft.value_and_grad(total)(fnp.asarray(LOGITS))
    np.testing.assert_allclose(value, theirs.sum().item(), rtol=2e-5)
    np.testing.assert_allclose(gradient, theirs_in.grad, rtol=1e-4, atol=1e-6)


def test_losses_are_stable_far_out() -> None:
    logits = fnp.asarray([[1e4, -1e4], [0.0, 1e4]])
    np.testing.assert_allclose(nnx.cross_entropy(logits, fnp.asarray([1, 1])), 1e4)
    far = nnx.bce_with_logits(fnp.asarray([1e4, 20.0]), fnp.asarray([0.0, 1.0]), reduction="none")
    np.testing.assert_allclose(far, [1e4, 2.0611537e-09], rtol=1e-4)


@pytest.mark.parametrize("label", [-1, 3])
def test_label_out_of_range_is_not_silent(label: int) -> None:
    losses = nnx.cross_entropy(fnp.asarray(LOGITS), fnp.asarray([label, 0]), reduction="none")
    assert np.isnan(losses[0])
    assert np.isfinite(losses[1])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: nnx.mse(fnp.ones(32), fnp.ones((32, 1))), "predictions (32,) and targets (32, 1)"),
        (lambda: nnx.cross_entropy(fnp.ones((4, 3)), fnp.arange(3)), "logits (4, 3) and labels (3"),
        (lambda: nnx.cross_entropy(fnp.ones((4, 3)), fnp.ones(4)), "labels (probabilities) (4,)"),
        (lambda: nnx.nll(fnp.ones((4, 3)), fnp.ones(4)), "integer labels; it was given float32"),
        (lambda: nnx.l1(1.0, 2.0, reduction="avg"), "'mean', 'sum' or 'none'; it was given 'avg'"),
        (lambda: nnx.huber(1.0, 2.0, delta=0), "positive delta; it was given 0"),
        (lambda: nnx.cross_entropy(fnp.ones((1, 2)), fnp.arange(1), label_smoothing=2), "[0, 1]"),
    ],
)
def test_what_losses_refuse(call, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        call()
