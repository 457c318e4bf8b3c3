"""Layers beyond PyTorch: maps over several axes, low-rank changes, smallest elements."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx, random, testing

KEY = random.key(0)


def numbers(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("f4")


@pytest.mark.parametrize(
    ("ins", "outs", "axis", "equation"),
    [
        (4, 5, -1, "abd,pd->abp"),
        ((3, 4), (5, 2), (1, 2), "abd,pqbd->apq"),
        ((4, 2), 5, (2, 0), "abd,pda->bp"),
    ],
)
def test_maps_of_axes_are_sums_of_products(ins, outs, axis, equation) -> None:
    layer = nnx.LinearGeneral(ins, outs, axis, key=KEY)
    x = numbers(2, 3, 4)
    want = np.einsum(equation, x, layer.weight) + np.asarray(layer.bias)
    np.testing.assert_allclose(layer(x), want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ft.jit(layer)(x), want, rtol=1e-5, atol=1e-5)


def test_general_linear_map_is_linear() -> None:
    layer = nnx.LinearGeneral(4, 3, key=KEY)
    plain = nnx.Linear(4, 3, key=KEY)
    np.testing.assert_array_equal(layer.weight, plain.weight)
    np.testing.assert_allclose(layer(numbers(2, 4)), plain(numbers(2, 4)), rtol=1e-6)


@pytest.mark.parametrize(
    ("equation", "shape", "bias", "out"),
    [
        ("btd,dhk->bthk", (4, 2, 5), (2, 5), (2, 3, 2, 5)),
        ("btd,dhk->bhtk", (4, 2, 5), (2, 1, 5), (2, 2, 3, 5)),
        ("...d,dk->...k", (4, 5), (5,), (2, 3, 5)),
        ("btd, dk -> kbt", (4, 5), (5, 1, 1), (5, 2, 3)),
        ("btd,d->bt", (4,), (), (2, 3)),
    ],
)
def test_einsum(equation, shape, bias, out) -> None:
    layer, x = nnx.Einsum(equation, shape, key=KEY), numbers(2, 3, 4)
    assert layer.bias.shape == bias
    want = np.einsum(equation, x, layer.weight) + np.asarray(layer.bias)
    assert layer(x).shape == out
    np.testing.assert_allclose(layer(x), want, rtol=1e-5, atol=1e-5)
    plain = nnx.Einsum(equation, shape, bias=False, key=KEY)
    assert plain.bias is None
    assert abs(np.asarray(plain.weight)).max() <= 0.5  # 1 / sqrt(4)


def test_low_rank_change() -> None:
    base, x = nnx.Linear(6, 4, key=KEY), numbers(5, 6)
    layer = nnx.LoRA(base, 2, alpha=6.0, key=random.key(1))
    layer = layer.replace(lora_B=fnp.asarray(numbers(4, 2)))
    change = 3 * np.asarray(layer.lora_B) @ np.asarray(layer.lora_A)
    want = np.asarray(base(x)) + x @ change.T
    np.testing.assert_allclose(layer(x), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.merged()(x), want, rtol=1e-4, atol=1e-5)
    assert list(nnx.state_dict(layer)) == ["base.weight", "base.bias", "lora_A", "lora_B"]
    frozen = nnx.freeze(layer, lambda m: m.base)
    gradients = nnx.grad(lambda m: fnp.square(m(x)).sum())(frozen)
    assert list(nnx.state_dict(gradients)) == ["lora_A", "lora_B"]


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_smallest_elements(dtype) -> None:
    x = (10 * numbers(2, 3, 7, 6)).astype(dtype)
    layer, largest = nnx.MinPool2d(3, 2, 1), nnx.MaxPool2d(3, 2, 1)
    np.testing.assert_array_equal(layer(x), -largest(-x))
    np.testing.assert_array_equal(layer(x[0]), -largest(-x[0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nnx.LinearGeneral((2, 3), 4, key=KEY), r"one axis for each.*\(2, 3\), axis=-1"),
        (lambda: nnx.LinearGeneral(3, 4, key=KEY)(fnp.ones(5)), r"sizes \(3,\) of axes \(-1,\)"),
        (lambda: nnx.Einsum("ab,bc", (2, 3), key=KEY), r"'input,weight->result'.*'ab,bc'"),
        (lambda: nnx.Einsum("ab,bc->ac", (2,), key=KEY), r"each axis of the weight; .*\(2,\)"),
        (lambda: nnx.Einsum("...a,ab->b...", (2, 3), key=KEY), r"no bias where .* before '...'"),
        (lambda: nnx.LoRALinear(3, 4, 0, key=KEY), r"LoRALinear takes a positive rank; .* 0"),
    ],
)
def test_mistakes(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ------------------------------------------------------------------------------------ neighbours
RESPONSES = {  # of torch.nn.CrossMapLRN2d(size, 0.5, 0.75, 1.5), PyTorch 2.13
    3: [-0.449569, -0.187195, 0.074259, 0.329547, 0.566783, -0.53545, -0.271478, -0.026931,
        0.216289, 0.481816, -0.616936, -0.3855],
    4: [-0.453268, -0.188328, 0.075853, 0.335316, 0.580574, -0.544839, -0.278522, -0.027526,
        0.222406, 0.48996, -0.632681, -0.392005],
}  # fmt: skip


@pytest.mark.parametrize("size", RESPONSES)
def test_cross_map_response_is_that_of_torch(size) -> None:
    x = ((np.arange(1, 13) * 0.37) % 2 - 1).reshape(1, 6, 1, 2)
    layer = nnx.CrossMapLRN2d(size, 0.5, 0.75, 1.5)
    np.testing.assert_allclose(layer(x.astype("f4")).ravel(), RESPONSES[size], atol=2e-6)
    testing.check_grads(layer, (x,), order=1, modes=("rev",))
    with pytest.raises(ValueError, match=r"height, width\); it was given one of shape \(2, 3\)"):
        layer(np.ones((2, 3)))


# ------------------------------------------------------------------------- several models at once
MODELS = nnx.vmap_init(lambda key: nnx.BatchNorm1d(2), 3, random.key(0))
MANY = {
    "models, then inputs": lambda m, x: ft.vmap(lambda m: ft.vmap(m)(x))(m),
    "inputs, then a scan of models": lambda m, x: ft.vmap(
        lambda x: ft.lax.scan(lambda h, m: (h, m(x)), 0.0, m)[1]
    )(x),
    "a scan of inputs, then models": lambda m, x: ft.lax.scan(
        lambda h, x: (h, ft.vmap(lambda m: m(x))(m)), 0.0, x
    )[1],
}


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("name", MANY)
def test_models_see_all_inputs_or_say_that_they_cannot(name, count) -> None:
    xs = random.normal(random.key(1), (count, 5, 2))
    if name == "models, then inputs" and count == 3:
        with pytest.raises(ValueError, match=r"under vmaps of \(3, 3\): sizes are equal"):
            nnx.train(MODELS, method=MANY[name])(xs)
        return
    wanted = nnx.BatchNorm1d(2)
    for x in xs:
        _, wanted = nnx.train(wanted)(x)
    _, got = nnx.train(MODELS, method=MANY[name])(xs)
    for k in range(3):
        np.testing.assert_allclose(got.running_mean[k], wanted.running_mean, rtol=1e-5)
        assert int(got.num_batches_tracked[k]) == count


class Sometimes(nnx.Module):
    layer: nnx.Module
    loop: bool = nnx.static(False)

    def __call__(self, x):
        if self.loop:
            return ft.lax.while_loop(lambda c: c.sum() < 9, lambda c: self.layer(c) + 1, x)
        return ft.lax.cond(x.sum() > 0, self.layer, lambda x: x, x)


@pytest.mark.parametrize("wrap", [lambda f: f, ft.jit], ids=["eager", "jit"])
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Sometimes(nnx.BatchNorm1d(3)), r"'layer'.*all branches must call the same ones"),
        (Sometimes(nnx.BatchNorm1d(3), True), r"'layer'.*updates its state.*use lax.scan"),
        (Sometimes(nnx.Dropout(0.5), True), r"'layer'.*draws random numbers.*with a key that"),
    ],
)
def test_layers_that_cannot_be_trained_where_they_are_say_what_to_do(model, message, wrap) -> None:
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        wrap(lambda m, x: nnx.train(m, random.key(0))(x)[0])(model, fnp.ones((4, 3)))


# -------------------------------------------------------------------------- names of parameters
def test_functional_call_takes_the_names_of_a_state_dict() -> None:
    keys = random.split(random.key(0), 3)
    tied = nnx.Sequential(
        nnx.Linear(3, 4, key=keys[0]), nnx.SpectralNorm(nnx.Linear(4, 2, key=keys[1]), key=keys[2])
    )
    model = nnx.Sequential(tied, nnx.Linear(2, 2, key=keys[2]))
    state, x = nnx.state_dict(model), fnp.ones((5, 3))
    twice = {name: 2 * value for name, value in state.items()}
    wanted = nnx.load_state_dict(model, twice)(x)
    np.testing.assert_array_equal(ft.func.functional_call(model, twice, x), wanted)
    parts = {"1.weight": twice["1.weight"]}, {"1.bias": twice["1.bias"]}
    got = ft.func.functional_call(model, parts, x)
    np.testing.assert_allclose(got, 2 * model(x), rtol=1e-6)
    per_sample = ft.vmap(
        ft.grad(lambda p, x: ft.func.functional_call(model, p, x).sum()), (None, 0)
    )
    assert per_sample(state, x)["1.weight"].shape == (5, 2, 2)
    with pytest.raises(KeyError, match=r"no parameters \['2.weight', 'bias'\]"):
        ft.func.functional_call(model, {"2.weight": x, "bias": x}, x)


# ------------------------------------------------------------------------------ where errors rose
def deep():
    keys = random.split(random.key(0), 2)
    inner = {"layers": [nnx.Identity(), nnx.Sequential(nnx.ReLU(), nnx.Linear(4, 2, key=keys[0]))]}

    class Model(nnx.Module):
        encoder: dict

        def __call__(self, x):
            for layer in self.encoder["layers"]:
                x = layer(x)
            return x

    return Model(inner)


WRAPPED = {
    "jit": lambda m, x: ft.jit(lambda m, x: m(x))(m, x),
    "vmap": lambda m, x: ft.vmap(m)(x),
    "grad": lambda m, x: ft.grad(lambda m: m(x).sum())(m),
    "scan": lambda m, x: ft.lax.scan(lambda c, x: (c, m(x)), 0, x),
    "train": lambda m, x: nnx.train(m)(x),
    "jit of vmap of grad": lambda m, x: ft.jit(
        lambda m: ft.vmap(ft.grad(lambda m, x: m(x).sum()), (None, 0))(m, x)
    )(m),
    "remat": lambda m, x: ft.checkpoint(lambda x: m(x))(x),
    "summary": lambda m, x: nnx.summary(m, x),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_errors_name_the_path_of_the_layer(name) -> None:
    with pytest.raises(ValueError, match=r"encoder\.layers\.1\.1: Linear\(in_features=4") as error:
        WRAPPED[name](deep(), fnp.ones((2, 5, 3)))
    assert "shape" in str(error.value)
