"""Layers beyond PyTorch: maps over several axes, low-rank changes, smallest elements."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx, random

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
