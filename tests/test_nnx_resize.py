"""Resizing gives PyTorch's numbers in all modes, sizes and factors."""

import itertools

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nnx

SPACES = {
    "nearest": (1, 2, 3), "nearest-exact": (1, 2, 3), "area": (1, 2, 3), "linear": (1,),
    "bilinear": (2,), "trilinear": (3,), "bicubic": (2,),
}  # fmt: skip
SHAPE = (2, 2, 5, 4, 3)
SIZES = [{"size": 7}, {"size": 2}, {"scale_factor": 2}, {"scale_factor": 1.7},
         {"scale_factor": 0.6}, {"scale_factor": 1.7, "recompute_scale_factor": True},
         {"size": 1}]  # fmt: skip


def numbers(shape):
    return np.random.default_rng(0).normal(size=shape).astype("f4")


def compare(torch, x, options):
    theirs_in = torch.tensor(x, requires_grad=True)
    theirs = torch.nn.functional.interpolate(theirs_in, **options)
    weights = np.cos(np.arange(theirs.numel())).reshape(theirs.shape).astype(x.dtype)
    (theirs * torch.tensor(weights)).sum().backward()
    ours = nnx.interpolate(x, **options)
    gradient = ft.grad(lambda v: (nnx.interpolate(v, **options) * weights).sum())(fnp.asarray(x))
    assert ours.dtype == x.dtype
    np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient, theirs_in.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", SPACES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_modes_are_those_of_torch(mode, sizes) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    for space in SPACES[mode]:
        for corners in (None, True) if "linear" in mode or mode == "bicubic" else (None,):
            more = {} if corners is None else {"align_corners": corners}
            compare(torch, numbers(SHAPE[: 2 + space]), {"mode": mode, **sizes, **more})


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(2, 3), (3, 11), (10, 2)])
def test_antialias_is_that_of_torch(mode, size) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    compare(torch, numbers((1, 2, 7, 5)), {"mode": mode, "size": size, "antialias": True})
    compare(torch, numbers((1, 2, 7, 5)).astype("f8"), {"mode": mode, "size": size})


def test_nearest_rounds_as_torch_does() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    for n, out in itertools.product((3, 7, 10, 49), (5, 6, 21, 70, 98, 100)):
        x = np.arange(n, dtype="f4")[None, None]
        want = torch.nn.functional.interpolate(torch.tensor(x), size=out)
        np.testing.assert_array_equal(nnx.interpolate(x, out), want, err_msg=f"{n} to {out}")


def test_recorded_values() -> None:
    """What torch 2.13 gives, where it is not installed."""
    x = fnp.array([[[1.0, 4.0, 2.0]]])
    assert nnx.interpolate(x, 5)[0, 0].tolist() == [1, 1, 4, 4, 2]
    assert nnx.interpolate(x, 2, mode="area")[0, 0].tolist() == [2.5, 3]
    want = [1.0, 2.2, 4.0, 2.8, 2.0]
    np.testing.assert_allclose(nnx.interpolate(x, 5, mode="linear")[0, 0], want, rtol=1e-5)
    want = [0.7120, 2.3080, 4.0000, 2.9920, 1.8080]
    y = nnx.interpolate(x[:, :, None], (1, 5), mode="bicubic")[0, 0, 0]
    np.testing.assert_allclose(y, want, rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 1, 3), {}, "either size or scale_factor; it was given size=None"),
        ((1, 1, 3), {"size": 3, "mode": "cubic"}, "takes mode 'nearest'.*given 'cubic'"),
        ((1, 1, 3), {"size": 3, "mode": "bilinear"}, r"with 2 axes of space.*shape \(1, 1, 3\)"),
        ((1, 3), {"size": 3}, r"with 1 or 2 or 3 axes of space.*shape \(1, 3\)"),
        ((1, 1, 3), {"size": 3, "align_corners": True}, "'nearest' does not take align_corners"),
        ((1, 1, 3), {"size": 3, "antialias": True}, "antialias with mode 'bilinear' or 'bicubic'"),
        ((1, 1, 3), {"size": (3, 4)}, r"size as a number or 1 of them; it was given \(3, 4\)"),
        ((1, 1, 3), {"size": 0}, r"sizes of 1 or more; it was to make \(0,\) of \(3,\)"),
    ],
)
def test_errors(shape, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        nnx.interpolate(fnp.ones(shape), **options)
