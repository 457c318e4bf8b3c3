"""Lazy layers become the layers that they stand for, once an example of the input is known."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx, random

KEY = random.key(0)


def net() -> nnx.Sequential:
    return nnx.Sequential(
        nnx.LazyConv2d(4, 3, padding=1, key=KEY),
        nnx.ReLU(),
        nnx.Flatten(),
        nnx.LazyLinear(2, bias=False, key=KEY),
    )


def test_layers_are_those_that_were_meant() -> None:
    x = fnp.ones((5, 3, 6, 6))
    model = nnx.initialize(net(), x)
    assert [type(layer).__name__ for layer in model] == ["Conv2d", "ReLU", "Flatten", "Linear"]
    assert {k: v.shape for k, v in nnx.state_dict(model).items()} == {
        "0.weight": (4, 3, 3, 3), "0.bias": (4,), "3.weight": (2, 144),
    }  # fmt: skip
    assert model(x).shape == (5, 2)
    np.testing.assert_array_equal(model[3].weight, nnx.Linear(144, 2, bias=False, key=KEY).weight)


def test_an_example_may_be_of_shapes_alone() -> None:
    runs = []

    class Counting(nnx.Module):
        inner: nnx.Sequential

        def __call__(self, x, *, scale):
            runs.append(type(x))
            return self.inner(x) * scale

    model = nnx.initialize(
        Counting(net()), ft.ShapeDtypeStruct((1, 2, 4, 4), fnp.float32), scale=2.0
    )
    assert model.inner[0].in_channels == 2
    assert len(runs) == 1


def test_a_model_under_transforms_is_initialized() -> None:
    class Deep(nnx.Module):
        layers: list

        def __call__(self, x):
            x = ft.jit(lambda m, x: m(x))(self.layers[0], x)
            return ft.vmap(self.layers[1])(x)

    model = nnx.initialize(
        Deep([nnx.LazyLinear(3, key=KEY), nnx.LazyLinear(2, key=KEY)]), fnp.ones((5, 4))
    )
    assert model(fnp.ones((5, 4))).shape == (5, 2)
    assert [layer.in_features for layer in model.layers] == [4, 3]


def test_an_ensemble_is_initialized_lane_by_lane() -> None:
    def make(key):
        return nnx.initialize(nnx.LazyLinear(3, key=key), fnp.ones((5, 4)))

    models = ft.vmap(make)(random.split(KEY, 6))
    assert models.weight.shape == (6, 3, 4)
    assert models.in_features == 4


def test_a_layer_called_twice_is_one() -> None:
    class Twice(nnx.Module):
        inner: nnx.Module

        def __call__(self, x):
            return self.inner(self.inner(x))

    assert (
        nnx.initialize(Twice(nnx.LazyLinear(4, key=KEY)), fnp.ones((2, 4))).inner.in_features == 4
    )
    with pytest.raises(ValueError, match=r"inner.Linear: Linear\(in_features=4.*\(2, 3\)"):
        nnx.initialize(Twice(nnx.LazyLinear(3, key=KEY)), fnp.ones((2, 4)))


def test_mistakes() -> None:
    with pytest.raises(ValueError, match=r"0: LazyConv2d\(.*no parameters yet.*nnx.initialize"):
        net()(fnp.ones((5, 3, 6, 6)))
    with pytest.raises(TypeError, match=r"missing a required .*'key'"):
        nnx.LazyLinear(3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'biases'"):
        nnx.LazyLinear(3, biases=False, key=KEY)
    with pytest.raises(ValueError, match=r"LazyConv2d\(.*has axis -3; .*shape \(6, 6\)"):
        nnx.initialize(net(), fnp.ones((6, 6)))

    class Idle(nnx.Module):
        used: nnx.Module
        idle: list

        def __call__(self, x):
            return self.used(x)

    lazy = [nnx.LazyLinear(3, key=KEY) for _ in range(3)]
    with pytest.raises(ValueError, match=r"did not call idle.0: LazyLinear\(.*, idle.1: Lazy"):
        nnx.initialize(Idle(lazy[0], lazy[1:]), fnp.ones(2))


@pytest.mark.parametrize("name", [n for n in nnx.__all__ if n.startswith("LazyConv")])
def test_convolutions_of_all_kinds(name: str) -> None:
    space = int(name[-2])
    layer = getattr(nnx, name)(4, 3, groups=2, key=KEY)
    for shape in ((2, 6, *(5,) * space), (6, *(5,) * space)):
        made = nnx.initialize(layer, fnp.ones(shape))
        assert type(made).__name__ == name[4:]
        assert (made.in_channels, made.groups) == (6, 2)


@pytest.mark.parametrize("name", [n for n in nnx.__all__ if n.startswith("Lazy") and "Norm" in n])
def test_norms_of_all_kinds(name: str) -> None:
    x = fnp.asarray(np.random.default_rng(0).normal(size=(4, 3, *(5,) * int(name[-2]))), "float32")
    made = nnx.initialize(getattr(nnx, name)(eps=0.1, affine=True), x)
    want = getattr(nnx, name[4:])(3, eps=0.1, affine=True)
    assert ft.tree.structure(made) == ft.tree.structure(want)
    np.testing.assert_array_equal(nnx.train(made)(x)[0], nnx.train(want)(x)[0])


RECURRENT = [f"{kind}{part}" for kind in ("RNN", "LSTM", "GRU") for part in ("", "Cell")]


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_of_all_kinds(name: str) -> None:
    made = nnx.initialize(
        getattr(nnx, f"Lazy{name}")(4, bias=False, key=KEY), fnp.ones((7, 5, 3)[-2:])
    )
    want = getattr(nnx, name)(3, 4, bias=False, key=KEY)
    assert ft.tree.structure(made) == ft.tree.structure(want)
    for a, b in zip(ft.tree.leaves(made), ft.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_recurrent_layer_gets_what_it_is_called_with() -> None:
    class Tagger(nnx.Module):
        lstm: nnx.Module
        out: nnx.Module

        def __call__(self, x, lengths):
            y, (h, _) = self.lstm(x, lengths=lengths)
            return self.out(y), h

    lengths = np.array([7, 2, 5])
    lazy = Tagger(
        nnx.LazyLSTM(4, bidirectional=True, batch_first=True, key=KEY), nnx.LazyLinear(2, key=KEY)
    )
    model = nnx.initialize(lazy, fnp.ones((3, 7, 6)), lengths)
    assert (model.lstm.input_size, model.out.in_features) == (6, 8)
    assert model(fnp.ones((3, 7, 6)), lengths)[0].shape == (3, 7, 2)
    with pytest.raises(ValueError, match=r"lstm: LazyLSTM.*has no parameters yet"):
        lazy(fnp.ones((3, 7, 6)), lengths)
