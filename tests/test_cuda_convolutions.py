"""Convolutions on GPUs as cuDNN has them, on the stand-in: which ones, how, and what if not."""

import sys

import cuda_shim
import fake_cudnn
import numpy as np
import pytest
from fake_cupy import cuda
from gpu_programs import normal

import funtorch as ft
from funtorch import lax
from funtorch.backends.cuda import cudnn
from funtorch.backends.cuda.instructions import Run
from funtorch.backends.cuda.runtime import plan_for
from funtorch.transforms.simplify import simplify

ROWS = {
    "same": ((2, 4, 9, 8), (6, 4, 3, 3), (1, 1), "SAME", {}),
    "strided": ((2, 4, 9, 8), (6, 4, 3, 3), (2, 2), "SAME", {}),
    "not all is read": ((2, 4, 9, 8), (6, 4, 3, 3), (2, 2), "VALID", {}),
    "cut off": ((2, 4, 9, 8), (6, 4, 3, 3), (1, 1), ((-1, 2), (1, -2)), {}),
    "dilated": ((2, 4, 9, 8), (6, 4, 3, 3), (1, 1), "SAME", {"rhs_dilation": (2, 2)}),
    "groups": ((2, 4, 9, 8), (6, 2, 3, 3), (1, 1), "SAME", {"feature_group_count": 2}),
    "in space": ((1, 2, 4, 5, 4), (3, 2, 2, 2, 2), (1, 1, 1), "VALID", {}),
    "features last": (
        (2, 9, 8, 4), (3, 3, 4, 6), (1, 1), "SAME",
        {"dimension_numbers": ("NHWC", "HWIO", "NHWC")},
    ),
}  # fmt: skip


DONE = {"fprop": 8, "wgrad": 7, "dgrad": 5}
"""How often cuDNN is asked: not for filters in groups, nor where filters have gaps."""


@pytest.fixture
def library(cupy, monkeypatch):
    monkeypatch.setenv("FUNTORCH_CUDNN", "1")
    monkeypatch.setattr(cudnn, "load", lambda: fake_cudnn)
    monkeypatch.setattr(fake_cudnn.pygraph, "built", ())
    cudnn.cudnn_of.cache_clear()
    yield
    cudnn.cudnn_of.cache_clear()


def functions(name):
    x, w, strides, padding, options = ROWS[name]
    f = lambda x, w: lax.conv_general_dilated(x, w, strides, padding, **options)
    g = ft.grad(lambda x, w: (f(x, w) ** 2).sum(), (0, 1))
    return f, g, (normal(*x), normal(*w))


def kinds(f, *args):
    plan = plan_for(simplify(ft.jit(f).lower(*args)._program.jaxpr))[0]
    found = [s.convolution for s in plan.instructions if isinstance(s, Run)]
    return [c and (c.kind, c.before, c.after, c.stride, c.dilation) for c in found]


@pytest.mark.skipif(not cuda_shim.have_compiler(), reason="there is no g++")
def test_results_and_gradients(library):
    """What cuDNN does, and what it has no plan for, come to what the CPU computes."""

    def every(args):
        return {name: [h(*args[name]) for h in functions(name)[:2]] for name in ROWS}

    args = {name: functions(name)[2] for name in ROWS}
    got, want = ft.jit(every)(ft.device_put(args, "cuda:0")), ft.jit(every)(args)
    pairs = zip(ft.tree.leaves_with_path(got), ft.tree.leaves_with_path(want), strict=True)
    for (where, a), (_, b) in pairs:
        np.testing.assert_allclose(
            np.asarray(a), np.asarray(b), rtol=1e-4, atol=1e-4, err_msg=str(where)
        )
    done = [c[1] for c in cuda.calls if c[0] == "cudnn"]
    assert {kind: done.count(kind) for kind in set(done)} == DONE
    assert all(graph.notes for graph in fake_cudnn.pygraph.built)  # full precision


def test_what_is_asked_for_is_what_the_textbook_says():
    one, two = (1, 1), (2, 2)
    f, g, args = functions("same")
    assert kinds(f, *args) == [("fprop", one, one, one, one)]
    gradient = kinds(g, *args)
    assert {c[0] for c in gradient if c} == {"fprop", "wgrad", "dgrad"}
    assert all(c[1:] == (one, one, one, one) for c in gradient if c)
    f, g, args = functions("strided")
    assert kinds(f, *args) == [("fprop", (1, 0), one, two, one)]
    assert ("wgrad", (1, 0), one, two, one) in kinds(g, *args)
    f, _, (x, w) = functions("same")
    assert kinds(f, x.astype("f8"), w.astype("f8")) == [None]


def test_tf32_is_allowed_by_the_setting(library):
    f, _, args = functions("same")
    with ft.default_matmul_precision("high"):
        ft.jit(f)(*ft.device_put(args, "cuda:0"))
    (graph,) = fake_cudnn.pygraph.built
    assert not graph.notes


def test_programs_with_them_are_captured(library):
    f, _, args = functions("same")
    there, h = ft.device_put(args, "cuda:0"), ft.jit(lambda x, w: f(f(x, w)[:, :4], w))
    want = np.asarray(ft.jit(lambda x, w: f(f(x, w)[:, :4], w))(*args))
    for _ in range(5):
        cuda.calls.clear()
        np.testing.assert_allclose(np.asarray(h(*there)), want, rtol=1e-3, atol=1e-3)
    assert [c[0] for c in cuda.calls if c[0] != "get"] == ["graph"]


def test_without_the_wheel_a_warning_names_it(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cudnn", None)  # importing it fails
    monkeypatch.setenv("FUNTORCH_CUDNN", "1")
    for cached in (cudnn.load, cudnn.cudnn_of):
        cached.cache_clear()
    monkeypatch.setattr(cuda, "run_kernels", lambda *a: None)
    f, _, args = functions("same")
    try:
        with pytest.warns(UserWarning, match=r"pip install nvidia-cudnn-frontend==1\.28\.0 nvi"):
            ft.jit(f)(*ft.device_put(args, "cuda:0"))
        monkeypatch.setenv("FUNTORCH_CUDNN", "0")
        assert not cudnn.wanted()
    finally:
        for cached in (cudnn.load, cudnn.cudnn_of):
            cached.cache_clear()
    assert not [c for c in cuda.calls if c[0] == "cudnn"]
