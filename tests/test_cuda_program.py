"""Whole programs on the stand-in for a GPU give what they give on the CPU."""

import numpy as np
import pytest
from fake_cupy import cuda, cupy  # noqa: F401

import funtorch as ft
import funtorch.numpy as fnp

def normal(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def on_gpu(f, *args, **options):
    """Return a jitted function's results on the GPU and on the CPU, as lists."""
    there = ft.jit(f, **options)(*ft.device_put(args, "cuda:0"))
    assert {x.device for x in ft.tree.leaves(there)} <= {ft.devices("cuda")[0]}
    return ft.tree.leaves(there), ft.tree.leaves(ft.jit(f)(*args))


def assert_same(f, *args, tol=1e-5):
    got, want = on_gpu(f, *args)
    for g, w in zip(got, want, strict=True):
        assert (g.shape, g.dtype, g.weak_type) == (w.shape, w.dtype, w.weak_type)
        np.testing.assert_allclose(np.asarray(g), np.asarray(w), rtol=tol, atol=tol)


def test_elementwise_and_rows(cupy):
    assert_same(lambda x: fnp.exp(x) * 2 + fnp.sin(x).sum(1, keepdims=True), normal(5, 7))
