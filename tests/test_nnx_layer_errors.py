"""Layers that are made or called wrongly say what they take and what came."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx, random

KEY = random.key(0)
ONES = np.ones

MADE_WRONGLY = [
    (lambda: nnx.GELU("erf"), r"GELU takes approximate as a bool, 'none' or 'tanh'.*'erf'"),
    (lambda: nnx.Hardtanh(2.0, 1.0), r"min_val <= max_val; it is Hardtanh\(min_val=2.0"),
    (lambda: nnx.RReLU(2.0, 1.0), r"lower <= upper; it is RReLU\(lower=2.0"),
    (lambda: nnx.Softshrink(-1.0), r"lambd of 0 or more; it was given -1.0"),
    (lambda: nnx.LayerNorm(0), r"LayerNorm takes normalized_shape as a positive int.*given 0"),
    (lambda: nnx.GroupNorm(4, 6), r"multiple of num_groups.*num_groups=4, num_channels=6"),
    (lambda: nnx.AdaptiveAvgPool2d((1, 0)), r"positive int or None, or 2 of them.*\(1, 0\)"),
    (lambda: nnx.LPPool1d(0, 2), r"LPPool1d takes a norm_type other than 0"),
    (lambda: nnx.FractionalMaxPool2d(2), r"either output_size or output_ratio"),
    (lambda: nnx.FractionalMaxPool2d(2, output_ratio=1.5), r"between 0 and 1, or 2.*given 1.5"),
    (lambda: nnx.ReflectionPad2d((1, 2)), r"an int or 4 ints, two for each axis.*\(1, 2\)"),
    (
        lambda: nnx.ConvTranspose2d(4, 6, 3, groups=4, key=KEY),
        r"both multiples of groups.*in_channels=4, out_channels=6, groups=4",
    ),
    (
        lambda: nnx.ConvTranspose1d(4, 6, 3, 2, output_padding=2, key=KEY),
        r"output_padding smaller than stride or dilation; it was given \(2,\) with stride \(2,\)",
    ),
    (lambda: nnx.Embedding(0, 3, key=KEY), r"one embedding or more.*num_embeddings=0"),
    (lambda: nnx.Embedding(5, 3, 5, key=KEY), r"padding_idx within its 5 embeddings.*given 5"),
    (lambda: nnx.EmbeddingBag(5, 3, mode="min", key=KEY), r"'mean', 'sum' or 'max'.*'min'"),
    (lambda: nnx.Bilinear(3, 0, 2, key=KEY), r"positive sizes; .*in2_features=0"),
    (
        lambda: nnx.AdaptiveLogSoftmaxWithLoss(8, 10, [5, 3], key=KEY),
        r"cutoffs that rise and lie between 1 and n_classes - 1; it was given \[5, 3\]",
    ),
]
CALLED_WRONGLY = [
    (nnx.GLU(), [(3, 5)], r"axis -1 has an even size.*shape \(3, 5\)"),
    (nnx.Softmax2d(), [(3, 5)], r"Softmax2d takes .*\(channels, height, width\).*\(3, 5\)"),
    (nnx.PReLU(3), [(2, 4)], r"shape \(batch, 3, ...\); it was given one of shape \(2, 4\)"),
    (nnx.LayerNorm((3, 4)), [(3, 5)], r"of shape \(..., 3, 4\); .* shape \(3, 5\)"),
    (nnx.RMSNorm(4), [()], r"of shape \(..., 4\); .* shape \(\)"),
    (nnx.GroupNorm(2, 4), [(2, 6)], r"of shape \(batch, 4, ...\); .* shape \(2, 6\)"),
    (nnx.LocalResponseNorm(2), [(2, 6)], r"three or more axes.* shape \(2, 6\)"),
    (nnx.PixelShuffle(2), [(6, 2, 2)], r"\(..., a multiple of 4, height.*\(6, 2, 2\)"),
    (nnx.PixelUnshuffle(2), [(6, 2, 3)], r"a multiple of 2, a multiple of 2\).*\(6, 2, 3\)"),
    (nnx.ChannelShuffle(4), [(1, 6, 3)], r"\(batch, a multiple of 4, ...\).*\(1, 6, 3\)"),
    (nnx.AdaptiveAvgPool2d(1), [(3, 4)], r"of shape \(batch, channels, height, width\).*\(3, 4\)"),
    (nnx.AdaptiveMaxPool1d(2), [(3, 0)], r"with channels and places.*\(3, 0\)"),
    (nnx.MaxUnpool1d(2), [(1, 2, 3), (1, 2, 4)], r"indices of the shape .*\(1, 2, 3\).*2, 4\)"),
    (nnx.FractionalMaxPool2d(3, 4), [(1, 5, 9)], r"axis of size 5 has no 4 windows of 3 elements"),
    (nnx.ReflectionPad1d(3), [(2, 3)], r"axis of size 3 cannot be padded by \(3, 3\).*\(2, 3\)"),
    (nnx.CircularPad1d(4), [(2, 3)], r"axis of size 3 cannot be padded by \(4, 4\)"),
    (nnx.CircularPad2d(1), [(3, 4)], r"of shape \(batch, channels, height, width\).*\(3, 4\)"),
    (nnx.ZeroPad2d(1), [(4,)], r"of shape \(..., height, width\); .* shape \(4,\)"),
    (nnx.ZeroPad1d(-2), [(3,)], r"cuts more off than an array of shape \(3,\) has"),
    (nnx.ConvTranspose1d(4, 6, 3, key=KEY), [(2, 3, 5)], r"takes 4 channels; .*\(2, 3, 5\)"),
    (nnx.ConvTranspose1d(4, 6, 1, 1, 1, key=KEY), [(4, 2)], r"size 2 leaves nothing after the pad"),
    (nnx.Conv1d(4, 6, 3, dilation=2, key=KEY), [(4, 4)], r"axis of size 4 with padding \(0, 0\)"),
    (nnx.Unfold(4), [(1, 3, 5)], r"no window fits into an image of size \(3, 5\)"),
    (nnx.Fold((4, 5), 2), [(4, 13)], r"\(batch, a multiple of 4, 12\).*shape \(4, 13\)"),
    (nnx.Bilinear(3, 4, 2, key=KEY), [(5, 3), (6, 4)], r"\(..., 3\) and \(..., 4\).*\(6, 4\)"),
    (nnx.Unflatten(1, (2, 2)), [(3, 5)], r"axis 1 has the product of these sizes; .*\(3, 5\)"),
    (nnx.EmbeddingBag(5, 3, key=KEY), [(4,)], r"Embedding.*takes integers; it was given float"),
    (nnx.Embedding(5, 3, key=KEY), [(4,)], r"takes integers; it was given float32"),
    (
        nnx.AdaptiveLogSoftmaxWithLoss(8, 10, [5], key=KEY),
        [(2, 8), (3,)],
        r"shapes \(batch, 8\) and \(batch,\); it was given \(2, 8\) and \(3,\)",
    ),
]


@pytest.mark.parametrize(("make", "message"), MADE_WRONGLY)
def test_what_constructors_refuse(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("layer", "shapes", "message"), CALLED_WRONGLY)
def test_what_calls_refuse(layer, shapes, message) -> None:
    xs = [fnp.ones(shape) for shape in shapes]
    with pytest.raises((ValueError, TypeError), match=message):
        layer(*xs)
    with pytest.raises((ValueError, TypeError), match=r"^body\.1: .*" + message):
        ft.jit(Model(layer))(*xs)


class Model(nnx.Module):
    body: list

    def __init__(self, layer):
        self.body = [nnx.Identity(), layer]

    def __call__(self, *xs):
        return self.body[1](*xs)


def test_numbers_that_a_table_has_not() -> None:
    layer = nnx.Embedding(5, 3, key=KEY)
    with pytest.raises(IndexError, match=r"Embedding\(num_embeddings=5.*from 0 to 4; .* given 5"):
        layer(fnp.array([1, 5]))
    with pytest.raises(IndexError, match=r"from 0 to 4; it was given -1"):
        nnx.EmbeddingBag(5, 3, key=KEY)(fnp.array([[1, 2, -1]]))
    assert bool(fnp.isnan(ft.jit(layer)(fnp.array([1, 5]))[1]).all())


def test_bags_without_or_with_offsets() -> None:
    layer = nnx.EmbeddingBag(5, 3, key=KEY)
    with pytest.raises(ValueError, match=r"\(elements,\) with offsets.*\(3,\) without offsets"):
        layer(fnp.array([1, 2, 3]))
    with pytest.raises(ValueError, match=r"\(1, 2\) with offsets"):
        layer(fnp.array([[1, 2]]), fnp.array([0]))
    with pytest.raises(ValueError, match=r"offsets of shape \(bags,\); it was given \(\)"):
        layer(fnp.array([1, 2]), fnp.array(0))
    with pytest.raises(ValueError, match=r"mode 'sum', and of the input's shape.*mode is 'mean'"):
        layer(fnp.array([[1, 2]]), per_sample_weights=fnp.ones((1, 2)))


def test_output_sizes_that_cannot_be() -> None:
    layer = nnx.ConvTranspose1d(1, 1, 3, 2, key=KEY)
    assert layer(fnp.ones((1, 4)), output_size=(10,)).shape == (1, 10)
    with pytest.raises(ValueError, match=r"from \(9,\) on, by less than a stride.*\(11,\)"):
        layer(fnp.ones((1, 4)), output_size=(11,))
    undo, where = nnx.MaxUnpool1d(2), fnp.array([[0, 3]])
    assert undo(fnp.ones((1, 2)), where, output_size=(1, 5)).shape == (1, 5)
    with pytest.raises(ValueError, match=r"less than a stride from \(4,\); it was given \(6,\)"):
        undo(fnp.ones((1, 2)), where, output_size=(6,))
