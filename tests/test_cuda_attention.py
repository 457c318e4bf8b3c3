"""Attention as CUDA C++: the text means the operations, takes no matrix of pairs, and compiles."""

import dataclasses
import functools
import math

import cuda_shim
import ml_dtypes
import numpy as np
import pytest
from attention_rows import by_definition, grad_by_definition
from test_cuda_kernels import needs_gxx, needs_nvrtc

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import nn
from funtorch.backends.attention import row_major_step
from funtorch.backends.cuda import nvrtc
from funtorch.backends.cuda.attention import has_kernel, print_attention
from funtorch.backends.cuda.code import module_text
from funtorch.backends.cuda.fragments import in_fragments, print_fragments
from funtorch.backends.cuda.runtime import plan_for
from funtorch.core import ArrayImpl, aval_of
from funtorch.jaxpr import stage
from funtorch.ops.attention import attention, attention_grad
from funtorch.transforms.simplify import simplify

BF16 = np.dtype(ml_dtypes.bfloat16)
PARAMS = {"scale": 0.4, "left": None, "right": None, "empty": "zero"}
MASKS = (((1, 2, 1, 5, 70), bool), ((1, 1, 2, 1, 70), "f4"))
CASES = {  # (batch, heads, group, queries, keys, features, values), dtype, masks, of, parameters
    "plain": ((1, 1, 1, 20, 20, 80, 80), "f4", (), (1, 2), {}),
    "groups": ((2, 1, 2, 33, 33, 20, 33), "f4", (), (0, 1, 2), {"right": 0, "empty": "mean"}),
    "masks": ((1, 2, 2, 5, 70, 40, 8), "f4", MASKS, (0, 1, 2), {}),
    "one query": ((1, 2, 2, 5, 70, 40, 8), "f4", MASKS[:1], (1,), {"right": 3, "empty": "mean"}),
    "window": ((1, 1, 1, 200, 180, 4, 4), "f4", (), (0, 1, 2), {"left": 20, "right": 7}),
    "double": ((1, 1, 1, 40, 50, 70, 30), "f8", (), (0, 1, 2), {"right": 0}),
    "bfloat16": ((1, 1, 1, 40, 50, 16, 16), BF16, (), (0, 1, 2), {"right": 0}),
    "bfloat16 groups": ((2, 1, 2, 33, 70, 24, 9), BF16, (), (0, 1, 2), {"right": 2, "left": 40}),
    "half masked": ((1, 2, 1, 5, 70, 40, 128), "f2", MASKS[:1], (1, 2), {"empty": "mean"}),
    "half": ((1, 1, 1, 40, 50, 16, 16), "f2", (((1, 1, 1, 40, 50), "f2"),), (0,), {}),
    "wide values": ((1, 1, 1, 40, 50, 160, 256), "f4", (), (2,), {}),
}  # fmt: skip
COMPILED = ("masks", "half masked in fragments")
TOLERANCE = {"float32": 5e-6, "float64": 1e-13, "float16": 4e-3, "bfloat16": 3e-2}


def equation(f, args):
    return stage(f, [aval_of(ArrayImpl(a)) for a in args]).eqns[0]


def made(name, number):
    """Yield the equation, its operands and the results wanted, forward and backward."""
    rng = np.random.default_rng(number)
    (b, h, g, t, s, e, v), dtype, masks, of, more = CASES[name]
    params = {**PARAMS, **more}
    shapes = (b, h, g, t, e), (b, h, s, e), (b, h, s, v), (b, h, g, t, v)
    *arrays, ct = (rng.normal(size=shape).astype(dtype) for shape in shapes)
    extras = [
        rng.random(shape) > 0.4 if kind is bool else rng.normal(size=shape).astype(kind)
        for shape, kind in masks
    ]
    if masks and masks[0][1] is bool:
        extras[0][0, 0, 0, 1] = False  # a query that sees nothing
    args = [*arrays, *extras]
    wide = [x if x.dtype == bool else x.astype(np.float64) for x in args]
    results = [np.asarray(x) for x in attention(*map(ArrayImpl, args), **params)]
    want = [by_definition(*wide, **params), *results[1:]]
    yield equation(lambda *xs: attention(*xs, **params), args), args, want
    grads = grad_by_definition(ct.astype(np.float64), *wide, **params)
    args = [*args, *results, ct]
    f = lambda *xs: attention_grad(*xs, of=of, **params)
    yield equation(f, args), args, [grads[k] for k in of]


def every_code():
    for number, name in enumerate(CASES):
        for way, (eqn, args, want) in enumerate(made(name, number)):
            assert has_kernel(eqn)
            yield name, eqn, args, want, print_attention(row_major_step(eqn), f"f{number}_{way}")
            if in_fragments(eqn):
                code = print_fragments(row_major_step(eqn), f"g{number}_{way}")
                yield f"{name} in fragments", eqn, args, want, code


@needs_gxx
def test_text_on_the_cpu_means_attention():
    found = list(every_code())
    module = cuda_shim.load([code for *_, code in found])
    for name, eqn, args, want, code in found:
        first = None
        for order in ("forwards", "shuffled"):
            got = [np.zeros(v.aval.shape, v.aval.dtype) for v in eqn.outvars]
            module.run(code, [*map(np.ascontiguousarray, args), *got], order)
            bits = [x.tobytes() for x in got]
            assert first is None or first == bits, f"{name}: the order of threads shows"
            first = bits
        for x, y in zip(got, want, strict=True):
            tol = TOLERANCE[np.dtype(args[0].dtype).name]
            x, y = x.astype(np.float64), y.astype(np.float64)
            finite = np.isfinite(y)
            np.testing.assert_array_equal(x[~finite], y[~finite], name)
            scale = np.abs(y[finite]).max(initial=1e-6)
            np.testing.assert_allclose(x[finite] / scale, y[finite] / scale, 0, tol, err_msg=name)


def heads_inside(step):
    """Return a step whose heads lie side by side in rows, and by array the order of its axes."""
    ins, backward = len(step.ins), step.eqn.prim.name == "attention_grad"
    moved = {0, 1, 2, *([ins - 4, *range(ins - 1, ins + len(step.outs))] if backward else [ins])}
    places, orders = [], []
    for k, v in enumerate((*step.ins, *step.outs)):
        axes = tuple(range(v.aval.ndim))
        order = ((0, 3, 1, 2, 4) if len(axes) == 5 else (0, 2, 1, 3)) if k in moved else axes
        there = np.zeros([v.aval.shape[a] for a in order], "i1").strides
        orders.append(order)
        places.append((0, tuple(there[order.index(a)] for a in axes)))
    return dataclasses.replace(step, places=tuple(places)), orders


@needs_gxx
@pytest.mark.parametrize("case", ["masks", "bfloat16 groups"])
def test_heads_may_lie_inside_of_rows(case):
    for way, (eqn, args, want) in enumerate(made(case, 7)):
        step, orders = heads_inside(row_major_step(eqn))
        printers = [print_attention, *[print_fragments] * in_fragments(eqn)]
        codes = [printer(step, f"f{k}_{way}") for k, printer in enumerate(printers)]
        module = cuda_shim.load(codes)
        for code in codes:
            outs = [np.zeros(v.aval.shape, v.aval.dtype) for v in eqn.outvars]
            arrays = zip([*args, *outs], orders, strict=True)
            there = [np.ascontiguousarray(x.transpose(o)) for x, o in arrays]
            module.run(code, there, "shuffled")
            results = list(zip(there, orders, strict=True))[len(args) :]
            for (x, o), y in zip(results, want, strict=True):
                x, y = x.transpose(np.argsort(o)).astype(np.float64), y.astype(np.float64)
                finite = np.isfinite(y)
                scale = np.abs(y[finite]).max(initial=1e-6)
                tol = TOLERANCE[np.dtype(args[0].dtype).name]
                np.testing.assert_allclose(x[finite] / scale, y[finite] / scale, 0, tol)


@needs_gxx
def test_nan_and_infinities_reach_their_rows_alone():
    q = np.ones((1, 1, 1, 40, 4), "f4")
    k = np.ones((1, 1, 50, 4), "f4")
    q[0, 0, 0, 3], q[0, 0, 0, 5, 0] = np.nan, np.inf
    eqn = equation(lambda *xs: attention(*xs, **PARAMS), [q, k, k])
    got = [np.zeros(v.aval.shape, "f4") for v in eqn.outvars]
    code = print_attention(row_major_step(eqn), "f")
    cuda_shim.load([code]).run(code, [q, k, k, *got])
    wrong = np.isnan(got[0][0, 0, 0]).any(1)
    assert set(np.flatnonzero(wrong)) == {3, 5}


@needs_gxx
@pytest.mark.parametrize(
    ("printer", "case", "which", "count"),
    [
        (print_attention, "plain", "", 4),
        (print_attention, "plain", "_keys", 9),
        (print_fragments, "bfloat16 groups", "", 2),
        (print_fragments, "bfloat16 groups", "_keys", 2),
    ],
)
def test_every_barrier_is_needed(printer, case, which, count):
    """Without any one of them the shim finds a race, or a read of what nobody wrote."""
    eqn, args, _ = list(made(case, 0))[bool(which)]
    code = printer(row_major_step(eqn), "f")
    start = code.text.index(f" f{which}(")
    stop = code.text.find('extern "C"', start)
    body = code.text[start : stop if stop > 0 else None]
    places = [start + k for k in range(len(body)) if body.startswith("__syncthreads();", k)]
    assert len(places) == count
    for at in places:
        text = code.text[:at] + " " * len("__syncthreads();") + code.text[at + 16 :]
        wrong = type(code)(text, code.launches, code.scratch, code.declared)
        got = [np.zeros(v.aval.shape, v.aval.dtype) for v in eqn.outvars]
        with pytest.raises(cuda_shim.ShimError):
            cuda_shim.load([wrong]).run(wrong, [*args, *got], "shuffled")


@needs_nvrtc
def test_nvrtc_compiles_attention_and_little_is_spilled():
    codes = {name: code for name, *_, code in every_code() if name in COMPILED}  # backward
    usage = nvrtc.library().usage(module_text(codes.values()), "sm_80")
    assert len(usage) == 5
    for name, used in usage.items():
        assert used.spilled <= 64, name  # for a higher occupancy
        assert used.registers <= (128 if name.startswith("f") else 208), name
    fragments = [code for name, code in codes.items() if "fragments" in name]
    assert nvrtc.library().compile(module_text(fragments), "sm_90")[:4] == b"\x7fELF"


@pytest.mark.parametrize("size", [8, 64, 65, 128, 256])
def test_every_size_fits_into_a_block(size):
    for dtype in ("f2", BF16, "f4", "f8"):
        x, y = np.zeros((1, 1, 1, 99, size), dtype), np.zeros((1, 1, 99, size), dtype)
        forward = equation(lambda *a: attention(*a, **PARAMS), [x, y, y])
        row = np.zeros((1, 1, 1, 99), "f8" if dtype == "f8" else "f4")
        backward = equation(
            lambda *a: attention_grad(*a, of=(0, 1, 2), **PARAMS), [x, y, y, x, row, row, x]
        )
        for eqn in (forward, backward):
            printer = print_fragments if in_fragments(eqn) else print_attention
            assert all(one.shared <= 48 << 10 for one in printer(row_major_step(eqn), "f").launches)


def of_heads(x, w, width, groups):
    """Return attention as layers have it: of a product whose columns are all heads' features."""
    n, t, _ = x.shape
    y = x @ w
    parts = fnp.split(y, [groups * 2 * width, (groups + 1) * 2 * width], -1)
    q, k, v = (z.reshape(n, t, -1, width) for z in parts)
    return nn.dot_product_attention(q, k, v, is_causal=True).reshape(n, t, -1)


@needs_gxx
@pytest.mark.parametrize(
    ("dtype", "width", "groups", "most"),
    [("float32", 8, 1, 8), ("float16", 16, 2, 8), ("bfloat16", 8, 1, 8), ("float16", 5, 1, 14)],
)
def test_heads_are_read_and_written_where_they_lie(cupy, dtype, width, groups, most):
    """Neither heads nor their cotangents are copied, where rows begin at multiples of 16 bytes."""
    rng = np.random.default_rng(3)
    x, w = (
        fnp.asarray(rng.normal(size=s) / 3).astype(dtype)
        for s in ((2, 9, 12), (12, (groups + 2) * 2 * width))
    )
    f = functools.partial(of_heads, width=width, groups=groups)
    g = lambda x, w: ft.vjp(f, x, w)[1](f(x, w) * 2)
    for h in (f, g):
        want, got = ft.jit(h)(x, w), ft.jit(h)(*ft.device_put((x, w), "cuda:0"))
        for a, b in zip(ft.tree.leaves(got), ft.tree.leaves(want), strict=True):
            a, b = (np.asarray(z).astype(np.float64) for z in (a, b))
            tol = TOLERANCE[dtype] * 4
            np.testing.assert_allclose(a, b, tol, tol * np.abs(b).max())
    jaxpr = simplify(ft.jit(g).lower(x, w)._program.jaxpr, has_kernel)
    assert len(plan_for(jaxpr)[0].instructions) <= most


@needs_gxx
def test_results_are_written_where_they_are_read(cupy):
    """Products, attention, a product of its result, and their cotangents: nothing is moved."""
    rng = np.random.default_rng(5)
    x, w, u, c = (
        fnp.asarray(rng.normal(size=s) / 3).astype("float32")
        for s in ((2, 9, 12), (12, 48), (16, 12), (2, 9, 12))
    )

    def f(x, w, u, c):
        return ft.vjp(lambda x, w, u: of_heads(x, w, 8, 1) @ u, x, w, u)[1](c)

    jaxpr = simplify(ft.jit(f).lower(x, w, u, c)._program.jaxpr, has_kernel)
    kinds = [type(i).__name__ for i in plan_for(jaxpr)[0].instructions]
    assert sorted(kinds) == ["Product"] * 5 + ["Run"] * 3  # attention, cotangents, these joined
    want, got = ft.jit(f)(x, w, u, c), ft.jit(f)(*ft.device_put((x, w, u, c), "cuda:0"))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), 2e-5, 1e-5)


def test_no_matrix_of_pairs_is_in_memory():
    def cost(q, k, v):
        return nn.dot_product_attention(q, k, v, is_causal=True).sum()

    peaks = []
    for length in (1024, 2048):
        x = ft.ShapeDtypeStruct((1, length, 2, 64), fnp.float32)
        jaxpr = ft.make_jaxpr(ft.grad(cost, (0, 1, 2)))(x, x, x).jaxpr
        plan = plan_for(simplify(jaxpr, has_kernel))[0]
        assert len(plan.codes) < 16
        peaks.append(plan.arena)
        assert plan.arena < 12 * math.prod(x.shape) * 4
    assert peaks[1] < 2.1 * peaks[0]


def test_what_has_no_kernel_is_written_in_other_operations():
    def eqn_of(features, dtype):
        x = np.zeros((1, 1, 1, 3, features), dtype)
        return equation(lambda q, k, v: attention(q, k, v, **PARAMS), [x, x[0], x[0]])

    assert has_kernel(eqn_of(256, "f4"))
    assert not has_kernel(eqn_of(257, "f4"))
    jaxpr = stage(
        lambda q, k, v: attention(q, k, v, **PARAMS),
        [aval_of(ArrayImpl(np.zeros(s, "f4"))) for s in ((1, 1, 1, 3, 257), *[(1, 1, 3, 257)] * 2)],
    )
    names = {e.prim.name for e in simplify(jaxpr, has_kernel).eqns}
    assert "attention" not in names
    assert "dot_general" in names
