"""Names of places in a model: in state dicts they are PyTorch's, and errors say theirs."""

import re

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx, random

KEY = random.key(0)


class Block(nnx.Module):
    linears: list
    named: dict

    def __init__(self):
        self.linears = [nnx.Linear(3, 3, key=KEY), nnx.Linear(4, 3, key=KEY)]
        self.named = {"first": nnx.Linear(3, 3, key=KEY)}

    def __call__(self, x):
        return self.linears[1](self.named["first"](self.linears[0](x)))


class Model(nnx.Module):
    encoder: nnx.Sequential

    def __init__(self):
        self.encoder = nnx.Sequential(nnx.Identity(), nnx.Sequential(Block(), nnx.ReLU()))

    def __call__(self, x):
        return self.encode(x)

    def encode(self, x):
        return self.encoder(x)


def test_names_of_a_sequence_are_those_of_torch() -> None:
    layers = nnx.Sequential(nnx.Linear(2, 3, key=KEY), nnx.ReLU(), nnx.Linear(3, 1, key=KEY))
    assert list(nnx.state_dict(layers)) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert next(iter(nnx.state_dict(Model()))) == "encoder.1.0.linears.0.weight"
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    theirs = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    state = {name: x.numpy() for name, x in theirs.state_dict().items()}
    x = np.ones((4, 2), np.float32)
    np.testing.assert_allclose(
        nnx.load_state_dict(layers, state)(x), theirs(torch.tensor(x)).detach(), rtol=1e-5
    )


def test_paths_in_key_paths_stay_whole() -> None:
    leaves, _ = ft.tree_util.tree_flatten_with_path(nnx.Sequential(nnx.Linear(1, 1, key=KEY)))
    assert ft.tree_util.keystr(leaves[0][0]) == ".layers[0].weight"


def test_transparent_fields_of_users() -> None:
    class Bag(nnx.Module):
        items: dict = nnx.field(transparent=True)

    bag = Bag({"a": nnx.Linear(1, 1, key=KEY)})
    assert list(nnx.state_dict(bag)) == ["a.weight", "a.bias"]
    assert nnx.load_state_dict(bag, nnx.state_dict(bag)).items["a"].weight.shape == (1, 1)


WHERE = (
    "encoder.1.0.linears.1: Linear(in_features=4, out_features=3) takes an array of shape "
    "(..., 4); it was given one of shape "
)
RUNS = {
    "called": lambda m, x: m(x),
    "method": lambda m, x: m.encode(x),
    "jit": lambda m, x: ft.jit(lambda m, x: m(x))(m, x),
    "vmap": lambda m, x: ft.vmap(m)(x),
    "grad": lambda m, x: ft.grad(lambda m: m(x).sum())(m),
    "remat": lambda m, x: ft.grad(ft.checkpoint(lambda m: m(x).sum()))(m),
}


@pytest.mark.parametrize("run", RUNS)
def test_errors_name_the_place(run: str) -> None:
    shape = "(3,)" if run == "vmap" else "(2, 3)"
    with pytest.raises(ValueError, match=re.escape(WHERE + shape) + "$"):
        RUNS[run](Model(), fnp.ones((2, 3)))


def test_errors_of_users_layers_name_the_place() -> None:
    class Own(nnx.Module):
        weight: ft.Array

        def __call__(self, x):
            return x @ self.weight

    model = nnx.Sequential(nnx.ReLU(), Own(fnp.ones((3, 2))))
    with pytest.raises((ValueError, TypeError), match=r"^1: .*matmul"):
        model(fnp.ones((2, 4)))


def test_a_layer_made_on_the_way_is_named_by_its_class() -> None:
    class Tied(nnx.Module):
        inner: nnx.Linear

        def __call__(self, x):
            return self.inner.replace(bias=None)(x)

    with pytest.raises(ValueError, match=r"^0\.Linear: Linear\(in_features=2"):
        nnx.Sequential(Tied(nnx.Linear(2, 2, key=KEY)))(fnp.ones(3))


def test_functions_in_fields_stay_as_they_are() -> None:
    def double(x):
        return 2 * x

    class Applied(nnx.Module):
        function: object = nnx.static(double)
        plain: object = nnx.static(len)

    assert Applied().function is double
    assert ft.tree.map(lambda x: x, Applied()).plain is len


def test_other_errors_are_left_alone() -> None:
    class Odd(Exception):
        pass

    def fail(x):
        raise Odd("as it was", x)

    with pytest.raises(Odd) as raised:
        nnx.Sequential(nnx.Sequential(fail))(1)
    assert raised.value.args == ("as it was", 1)
    assert raised.traceback[-1].name == "fail"
