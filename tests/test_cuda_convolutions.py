"""Convolutions and attention as cuDNN has them, on the stand-in: which ones, how, what if not."""

import sys

import fake_cudnn
import numpy as np
import pytest
from fake_cupy import cuda
from gpu_programs import normal
from test_cuda_kernels import needs_gxx

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.backends.cuda import cudnn
from funtorch.backends.cuda.attending import Attending
from funtorch.backends.cuda.attention import has_kernel
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
    "long sums": ((2, 40, 6, 5), (20, 40, 3, 3), (1, 1), "SAME", {}),
    "features last": (
        (2, 9, 8, 4), (3, 3, 4, 6), (1, 1), "SAME",
        {"dimension_numbers": ("NHWC", "HWIO", "NHWC")},
    ),
}  # fmt: skip


DONE = {"fprop": 9, "wgrad": 9, "dgrad": 8}
"""How often cuDNN is asked: not for the gradient of images that are cut off."""


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
    found = [s.asked for s in plan.instructions if isinstance(s, Run)]
    return [c and (c.kind, c.before, c.after, c.stride, c.dilation) for c in found]


def compared(names, dtype, tol):
    """Compare results and gradients on the stand-in with the CPU's."""

    def every(args):
        return {name: [h(*args[name]) for h in functions(name)[:2]] for name in names}

    args = {name: [fnp.asarray(x).astype(dtype) for x in functions(name)[2]] for name in names}
    got, want = ft.jit(every)(ft.device_put(args, "cuda:0")), ft.jit(every)(args)
    pairs = zip(ft.tree.leaves_with_path(got), ft.tree.leaves_with_path(want), strict=True)
    for (where, a), (_, b) in pairs:
        assert a.dtype == b.dtype == dtype
        a, b = (np.asarray(x).astype(float) for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=tol, atol=tol * np.abs(b).max(), err_msg=str(where))


def asked():
    done = [c[1] for c in cuda.calls if c[0] == "cudnn"]
    return {kind: done.count(kind) for kind in set(done)}


@needs_gxx
@pytest.mark.parametrize(("dtype", "tol"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_results_and_gradients(library, dtype, tol):
    """What cuDNN does, and what it has no plan for, come to what the CPU computes."""
    compared(ROWS, dtype, tol)
    assert asked() == DONE
    single = dtype == "float32"
    assert all(bool(graph.notes) == single for graph in fake_cudnn.pygraph.built)  # full precision


@needs_gxx
@pytest.mark.parametrize(("dtype", "tol"), [("float16", 4e-3), ("bfloat16", 2e-2)])
def test_halves_by_our_own_kernels(cupy, dtype, tol):
    """They are multiplied as they are, as fragments of tiles, and added up in float32."""
    names = ("strided", "groups", "features last", "long sums")
    compared(names if dtype == "bfloat16" else names[:1], dtype, tol)
    assert not asked()


def test_halves_are_not_converted():
    _, g, args = functions("same")
    args = [fnp.asarray(x).astype("float16") for x in args]
    plan = plan_for(simplify(ft.jit(g).lower(*args)._program.jaxpr))[0]
    assert sum("_multiply(" in code.text for code in plan.codes) == 3
    sizes = {n for x in plan.instructions for n in x.sizes}
    assert max(sizes) == 2 * 2 * 6 * 9 * 8  # bytes of the largest array


@needs_gxx
@pytest.mark.parametrize("causal", [False, True])
def test_attention(library, causal):
    q, k, v = (fnp.asarray(normal(2, 9, h, 16, seed=h)).astype("bfloat16") for h in (4, 2, 2))

    def f(q, k, v):
        out = ft.nn.dot_product_attention(q, k, v, is_causal=causal)
        return (out.astype("f4") ** 2).sum(), out

    g = lambda *xs: ft.grad(f, (0, 1, 2), has_aux=True)(*xs)
    h, there = ft.jit(g), ft.device_put((q, k, v), "cuda:0")
    for _ in range(3):
        cuda.calls.clear()
        for a, b in zip(ft.tree.leaves(h(*there)), ft.tree.leaves(g(q, k, v)), strict=True):
            a, b = (np.asarray(x).astype("f4") for x in (a, b))
            np.testing.assert_allclose(a, b, rtol=3e-2, atol=3e-2 * np.abs(b).max())
    assert [c[0] for c in cuda.calls if c[0] != "get"] == ["graph"]
    built = [graph.kind for graph in fake_cudnn.pygraph.built]
    assert built == ["sdpa", "sdpa_backward"]


@needs_gxx
def test_the_backward_pass_of_one_follows_the_forward_pass_of_the_other(library, monkeypatch):
    q, k, v, ct = (fnp.asarray(normal(1, 5, 2, 8, seed=s)).astype("float16") for s in range(4))
    f = lambda *xs: ft.nn.dot_product_attention(*xs)
    want = ft.vjp(f, q, k, v)[1](ct)
    there, ct = ft.device_put((q, k, v), "cuda:0"), ft.device_put(ct, "cuda:0")
    for first in ("1", "0"):
        ft.clear_caches()
        for asked_for in (first, "10"[int(first)]):
            monkeypatch.setenv("FUNTORCH_CUDNN", asked_for)
            cudnn.cudnn_of.cache_clear()
            if asked_for == first:
                pull = ft.vjp(ft.jit(f), *there)[1]
        for a, b in zip(pull(ct), want, strict=True):
            a, b = (np.asarray(x).astype("f4") for x in (a, b))
            np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-2)
    assert [graph.kind for graph in fake_cudnn.pygraph.built] == ["sdpa", "sdpa_backward"]


def attentions(f, *args):
    jaxpr = simplify(ft.jit(f).lower(*args)._program.jaxpr, has_kernel)
    plan = plan_for(jaxpr)[0]
    found = [s for s in plan.instructions if isinstance(s, Run)]
    return [s.asked for s in found if "_exp" in plan.codes[s.code].text]


def test_attention_that_it_has_nothing_for():
    q = fnp.zeros((1, 5, 2, 8), "float16")
    attend = ft.nn.dot_product_attention
    masked = lambda q: attend(q, q, q, mask=fnp.ones((1, 2, 5, 5), bool))
    for f, x in ((masked, q), (lambda q: attend(q, q, q), q.astype("f4")),
                 (lambda q: attend(q, q, q, local_window_size=2), q)):  # fmt: skip
        assert attentions(f, x) == [None]
    (spec,) = attentions(lambda q: attend(q, q, q), q)
    assert spec.scale == pytest.approx(8**-0.5)
    row = 0, (16, 8, 16, 1)  # heads lie side by side, and there is one batch
    sums = (0, (10, 5, 5, 1)), (0, (10, 5, 5, 1))
    places = (row, row, row, (0, (80, 8, 16, 1)), *sums)
    want = Attending(False, np.dtype("f2"), 1, 2, 2, 5, 5, 8, 8, spec.scale, False, places)
    assert spec == want


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
    assert ("dgrad", (1, 0), one, two, one) in kinds(g, *args)
    f, g, args = functions("groups")
    assert {c[0] for c in kinds(g, *args) if c} == {"fprop", "wgrad", "dgrad"}
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
