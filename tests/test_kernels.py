"""Kernels: what fusion makes of programs, and printed code against the NumPy executor."""

import ctypes
import functools
import itertools

import llvmlite.binding as llvm
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funtorch as ft
import funtorch.nn as fnn
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.backends.cpu.llvm import kernel_function
from funtorch.backends.fuse import fuse
from funtorch.backends.kernel import (
    Affine,
    Kernel,
    Op,
    Store,
    check_kernel,
    collapse,
    levels,
    row_major,
    run_kernel,
)
from funtorch.backends.plan import Call, Dot, Launch, Running
from funtorch.core import ShapedArray
from funtorch.jaxpr import stage
from funtorch.transforms.simplify import simplify

F32, F64, I32, I64, BOOL = map(np.dtype, ("float32", "float64", "int32", "int64", "bool"))
RNG = np.random.default_rng(0)


# ---------------------------------------------------------------------- running printed code
@functools.cache
def machine():
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=2, jit=True
    )
    return target, llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)


_symbols = itertools.count()


def printed(kernel):
    """Return a kernel's code, and a function that runs it on buffers: each part by itself."""
    code, symbol = kernel_function(kernel), f"entry{next(_symbols)}"
    args = "".join(f"ptr %b{k}, " for k in range(len(kernel.buffers)))
    finish = f"call void @{kernel.name}_end({args}ptr %scratch)" if code.finish else ""
    text = "\n".join(
        [
            *code.declared.values(),
            code.text,
            f"define void @{symbol}({args}ptr %scratch, i64 %lo, i64 %hi) {{",
            f"  call void @{kernel.name}({args}ptr %scratch, i64 %lo, i64 %hi)\n  ret void\n}}",
            f"define void @{symbol}_end({args}ptr %scratch) {{\n  {finish}\n  ret void\n}}",
            "attributes #0 = { nounwind }",
        ]
    )
    target, engine = machine()
    module = llvm.parse_assembly(text)
    module.verify()
    builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    engine.add_module(module)
    engine.finalize_object()
    kinds = [ctypes.c_void_p] * (len(kernel.buffers) + 1)
    run = ctypes.CFUNCTYPE(None, *kinds, ctypes.c_int64, ctypes.c_int64)(
        engine.get_function_address(symbol)
    )
    end = ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address(f"{symbol}_end"))

    def call(buffers, order=1):
        scratch = np.full(code.scratch, 0xAB, np.uint8)
        pointers = [b.ctypes.data for b in (*buffers, scratch)]
        for part in range(code.parts)[::order]:
            run(*pointers, part, part + 1)
        end(*pointers)

    return code, call


def memory(kernel, lengths, rng=RNG):
    """Return a buffer for each of the kernel's, filled with small numbers."""
    stored = {s.buffer for s in kernel.stores if s.how == "set"}
    made = []
    for k, (dtype, n) in enumerate(zip(kernel.buffers, lengths, strict=True)):
        values = rng.normal(size=n) if dtype.kind == "f" else rng.integers(0, 3, n)
        made.append((np.zeros(n) if k in stored else values).astype(dtype))
    return made


def check_printed(kernel, buffers, tol=2e-5):
    """Compare printed code with the NumPy executor; parts in any order give the same bits."""
    check_kernel(kernel)
    wants, gots, backwards = ([b.copy() for b in buffers] for _ in range(3))
    run_kernel(kernel, wants)
    code, run = printed(kernel)
    run(gots)
    run(backwards, -1)
    for got, want, other in zip(gots, wants, backwards, strict=True):
        np.testing.assert_array_equal(got, other)
        if got.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=tol, atol=tol)
        else:
            np.testing.assert_array_equal(got, want)
    return code


# ---------------------------------------------------------------------- what fusion makes
def steps(f, *shapes, dtype=F32):
    def flat(*xs):
        out = f(*xs)
        return list(out) if isinstance(out, tuple) else [out]

    jaxpr = stage(flat, [ShapedArray(s, dtype) for s in shapes])
    return fuse(simplify(jaxpr)).steps


def layer_norm(x, scale, shift):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / fnp.sqrt(var + 1e-5) * scale + shift


def rms_norm(x, scale):
    return x / fnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale


def batch_norm(x, scale, shift):
    mean = x.mean(0)
    var = ((x - mean) ** 2).mean(0)
    return (x - mean) / fnp.sqrt(var + 1e-5) * scale + shift


def cross_entropy(x, y):
    return -(fnn.log_softmax(x) * y).sum(-1).mean()


def attention(q, k, v):
    mask = fnp.tril(fnp.ones((16, 16))) > 0
    return fnn.softmax(fnp.where(mask, q @ k.swapaxes(-1, -2) / 4, -1e9)) @ v


def against(f, argnums=0):
    """Return the gradient of f's product with the last argument."""
    return ft.grad(lambda *xs: (f(*xs[:-1]) * xs[-1]).sum(), argnums)


X, V = (64, 48), (48,)
FUSED = {
    "softmax": (fnn.softmax, (X,), [Launch]),
    "log_softmax": (fnn.log_softmax, (X,), [Launch]),
    "logsumexp": (lambda x: fnn.logsumexp(x, axis=-1), (X,), [Launch]),
    "softmax gradient": (against(fnn.softmax), (X, X), [Launch]),
    "log_softmax gradient": (against(fnn.log_softmax), (X, X), [Launch]),
    "layer norm": (layer_norm, (X, V, V), [Launch]),
    "layer norm gradient": (against(layer_norm), (X, V, V, X), [Launch]),
    "layer norm gradients": (against(layer_norm, (0, 1, 2)), (X, V, V, X), [Launch]),
    "rms norm": (rms_norm, (X, V), [Launch]),
    "rms norm gradient": (against(rms_norm), (X, V, X), [Launch]),
    "batch norm": (batch_norm, (X, V, V), [Launch]),
    "batch norm gradients": (against(batch_norm, (0, 1, 2)), (X, V, V, X), [Launch]),
    "cross entropy": (cross_entropy, (X, X), [Launch] * 2),
    "cross entropy gradient": (ft.value_and_grad(cross_entropy), (X, X), [Launch] * 2),
    "attention": (attention, ((4, 16, 8),) * 3, [Launch, Dot, Launch, Dot]),
}


@pytest.mark.parametrize("name", FUSED)
def test_reductions_and_what_is_made_of_them_are_one_kernel(name):
    f, shapes, want = FUSED[name]
    made = steps(f, *shapes)
    if name == "attention":  # the mask is made by a kernel of its own, or folded
        made = [s for s in made if isinstance(s, Dot) or len(s.kernel.body) > 5]
        want = [Dot, Launch, Dot]
    assert [type(s) for s in made] == want


@pytest.mark.parametrize("name", FUSED)
def test_fused_kernels_mean_the_same_printed(name):
    f, shapes, _ = FUSED[name]
    for step in steps(f, *shapes):
        if isinstance(step, Launch):
            lengths = [v.aval.size for v in step.vars]
            check_printed(step.kernel, memory(step.kernel, lengths), 1e-4)


def test_values_that_nobody_else_reads_are_not_stored():
    (step,) = steps(fnn.softmax, X)
    assert len(step.vars) == 2


def test_a_residual_stream_does_not_read_all_its_summands_again():
    def f(x, *ws):
        for w in ws:
            x = x + fnp.tanh(x.reshape(32, 2, 32).mean(-1)) @ w
        return x

    widest = max(len(s.vars) for s in steps(f, (32, 64), *[(2, 64)] * 12) if isinstance(s, Launch))
    assert widest <= 8


def test_a_large_sum_is_cut_into_parts_that_a_function_joins():
    (step,) = steps(lambda x: fnp.sqrt((x * x).sum()), (1 << 18,))
    x = RNG.normal(size=1 << 18).astype(F32)
    code = check_printed(step.kernel, [x, np.zeros(1, F32)])
    assert code.finish
    assert code.parts > 1


def test_few_long_rows_take_a_kernel_for_every_stage():
    made = steps(lambda x: x / x.sum(), (1 << 18,))
    assert len(made) == 2
    assert all(kernel_function(s.kernel).parts >= 16 for s in made)


def test_large_elementwise_kernels_divide_whatever_their_axes():
    for shape in ((1 << 20,), (3, 1 << 18), (1 << 10, 1 << 10), (2, 3, 1 << 17), (2, 1 << 17, 3)):
        (step,) = steps(lambda x, y: x * y, shape, shape[-1:])
        assert kernel_function(step.kernel).parts >= 16, shape


@pytest.mark.parametrize("dtype", [F32, BOOL], ids=str)
def test_what_lies_across_is_read_in_squares(dtype):
    def f(x, y):
        return fnp.where(x.T[:, ::-1] != y, x.T[:, ::-1], True)

    (step,) = steps(f, (612, 305), (305, 612), dtype=dtype)
    n = 612 * 305
    values = [RNG.normal(size=n) > 0 if dtype == BOOL else RNG.normal(size=n) for _ in range(3)]
    code = check_printed(step.kernel, [v.astype(dtype) for v in values])
    assert "alloca" in code.text
    assert code.parts > 1


def test_fusing_a_long_program_takes_time_in_proportion():
    def f(x):
        for _ in range(300):
            x = fnp.exp(x - x.max(-1, keepdims=True)) / 2 + fnp.sin(x).sum(-1, keepdims=True)
        return x

    made = steps(f, (8, 40))
    assert not any(isinstance(s, Call) for s in made)
    assert max(len(s.kernel.body) for s in made) <= 400


# ---------------------------------------------------------------------- computed places
N, M, K = 37, 21, 26
INDEXED = {
    "gather": (lambda x, u, i, j, s: fnp.exp(x.at[i].get(mode="fill")).sum(1), 1),
    "gather of both axes": (lambda x, u, i, j, s: x.at[i, j].get(mode="clip") * 2, 1),
    "gather of columns": (lambda x, u, i, j, s: fnp.tanh(x).T[:, i].T + u, 1),
    "scatter": (lambda x, u, i, j, s: x.at[i].set(u * 2, mode="drop"), 1),
    "scatter of what was read": (lambda x, u, i, j, s: x.at[i].set(x[i] * 2), 2),
    "add": (lambda x, u, i, j, s: x.at[i].add(u * 2, mode="drop"), 1),
    "add to columns": (lambda x, u, i, j, s: x.T.at[:, i].add(u.T).sum(0), 3),
    "max": (lambda x, u, i, j, s: (x * 2).at[i].max(u, mode="clip"), 2),
    "mul": (lambda x, u, i, j, s: x.at[i, j].mul(u[:, 0], mode="drop"), 1),
    "gradient of gather": (
        lambda x, u, i, j, s: ft.grad(lambda x: (fnp.tanh(x[i]) * u).sum())(x),
        2,
    ),
    "dynamic slice": (lambda x, u, i, j, s: fnp.sin(cut(x, s, (9, 8))).sum(0), 1),
    "dynamic update": (lambda x, u, i, j, s: put(x, u[:7, :5] + 1, s), 1),
    "moved block": (lambda x, u, i, j, s: put(x, cut(x, s, (9, M)) * 3, s[::-1]), 2),
    "pad": (lambda x, u, i, j, s: lax.pad(fnp.abs(x), 2.0, ((2, -1, 0), (0, 3, 2))).sum(0), 1),
    "differences": (lambda x, u, i, j, s: ft.grad(lambda x: (fnp.diff(x) ** 2).sum())(x), 1),
    "pieces": (lambda x, u, i, j, s: (fnp.concatenate([x, fnp.tanh(u), x[::-1]]) * 2).sum(0), 2),
    "roll": (lambda x, u, i, j, s: fnp.roll(x, 3, 0) * x + fnp.roll(x, -2, 1), 1),
    "first best": (lambda x, u, i, j, s: x.argmax(1) + x.argmin(1), 1),
    "cumulative": (lambda x, u, i, j, s: lax.cummax(fnp.cumsum(x * 2, 1), axis=0, reverse=True), 3),
    "pooling": (lambda x, u, i, j, s: pool(x), 1),
    "pooling gradient": (lambda x, u, i, j, s: ft.grad(lambda x: (pool(x) ** 2).sum())(x), None),
}


def cut(x, s, sizes):
    return lax.dynamic_slice(x, (s[0], s[1]), sizes)


def put(x, u, s):
    return lax.dynamic_update_slice(x, u, (s[0], s[1]))


def pool(x):
    return lax.reduce_window(x, -fnp.inf, lax.max, (3, 2), (2, 2), "VALID")


@pytest.mark.parametrize("name", INDEXED)
def test_computed_places_are_those_of_eager_evaluation(name):
    f, kernels = INDEXED[name]
    rng = np.random.default_rng(3)
    for n, m, k in ((N, M, K), (700, 500, 300)):
        x, u = (rng.normal(size=size).astype(F32) for size in ((n, m), (k, m)))
        i, j = rng.integers(-n - 1, n + 2, k).astype(I32), rng.integers(0, m, k)
        args = [fnp.asarray(a) for a in (x, u, i, j, rng.integers(-3, n + 3, 2).astype(I32))]
        if name in ("moved block",) and n != N:
            continue
        want, got = f(*args), ft.jit(f)(*args)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)
    avals = [ShapedArray(a.shape, a.dtype) for a in args]
    made = fuse(simplify(stage(lambda *xs: [f(*xs)], avals))).steps
    assert all(isinstance(s, (Launch, Running)) for s in made)
    assert kernels in (None, len(made))


def test_long_pieces_are_written_one_after_the_other():
    made = steps(lambda x: fnp.concatenate([x * 2, fnp.sin(x[1:]), x]), (3000, 5))
    assert [len(s.seeds) for s in made] == [0, 1, 1]
    assert made[1].seeds[0][1] is made[0].vars[-1]


@pytest.mark.parametrize("axis", [0, 1])
def test_long_pieces_of_a_size_are_written_together(axis):
    def f(x):
        other = x[:7] if axis == 0 else x[:, :7]
        return fnp.concatenate([x * 2, fnp.sin(x), other, x, -x], axis)

    x = np.random.default_rng(0).normal(size=(300, 50)).astype(F32)
    made = steps(f, x.shape)
    assert [len(s.kernel.stores) for s in made] == [2, 1, 2]
    np.testing.assert_allclose(ft.jit(f)(x), f(fnp.asarray(x)), rtol=1e-6)


def test_pieces_too_long_for_one_kernel_are_written_by_several():
    def f(x):
        parts = []
        for k in range(4):
            y = x
            for j in range(110):
                y = (y + k) * (0.5 + j / 400)
            parts.append(y)
        return fnp.concatenate(parts, 1)

    made = steps(f, (30, 40))
    assert sum(len(s.kernel.stores) for s in made if s.vars[-1].aval.shape == (30, 160)) == 4
    assert len(made) > 1
    x = np.random.default_rng(0).normal(size=(30, 40)).astype(F32)
    np.testing.assert_allclose(ft.jit(f)(x), f(fnp.asarray(x)), rtol=1e-4, atol=1e-6)


def test_stores_that_may_meet_are_refused():
    size = (4, 8)
    body = (loaded(size),)

    def stores(*wheres):
        return Kernel(
            "k", size, (False, False), (F32, F32), body, tuple(Store(1, 0, w) for w in wheres)
        )

    check_kernel(stores(Affine(0, (16, 1)), Affine(8, (16, 1))))
    check_kernel(stores(Affine(0, (8, 1)), Affine(32, (8, 1))))
    for where in (Affine(0, (16, 1)), Affine(7, (16, 1)), Affine(16, (16, 1)), Affine(8, (8, 1))):
        with pytest.raises(ValueError, match="two stores to b1 may meet"):
            check_kernel(stores(Affine(0, (16, 1)), where))


# ---------------------------------------------------------------------- kernels by hand
def loaded(sizes, which=None, dtype=F32, buffer=0):
    """Return a load at the position of the loops named, all by default."""
    which = range(len(sizes)) if which is None else which
    strides, shape = [0] * len(sizes), [sizes[k] for k in which]
    for k, s in zip(which, row_major(shape), strict=True):
        strides[k] = s
    return Op("load", (), dtype, buffer, Affine(0, tuple(strides)))


def place(sizes, which=None):
    return loaded(sizes, which).where


def reduced(sizes, inner, dtype, name):
    kept = [k for k, r in enumerate(inner) if not r]
    body = (loaded(sizes, dtype=dtype), Op("reduce", (0,), dtype, name))
    return Kernel("k", sizes, inner, (dtype, dtype), body, (Store(1, 1, place(sizes, kept)),))


SIZES = {
    "one long row": ((70_001,), (True,)),
    "long rows": ((3, 5000), (False, True)),
    "rows": ((40, 100), (False, True)),
    "short rows": ((50, 5), (False, True)),
    "columns": ((100, 40), (True, False)),
    "long columns": ((1000, 520), (True, False)),
    "windows": ((4, 9, 33), (False, True, False)),
    "deep middle": ((4, 90, 33), (False, True, False)),
    "outer and last": ((40, 3, 50), (True, False, True)),
    "two groups": ((5, 6, 7, 8), (False, True, False, True)),
    "few long columns": ((50_000, 3), (True, False)),
}
REDUCTIONS = [
    *itertools.product(("sum", "prod", "max", "min"), (F32, F64, I32)),
    *itertools.product(("and", "or"), (BOOL, I32)),
]


@pytest.mark.parametrize("name", SIZES)
def test_every_schedule_reduces_as_numpy_does(name):
    sizes, inner = SIZES[name]
    length = np.prod([n for n, r in zip(sizes, inner, strict=True) if r])
    for what, dtype in REDUCTIONS:
        kernel = reduced(sizes, inner, dtype, f"reduce_{what}")
        x = np.resize(memory(kernel, [1000, 1])[0], np.prod(sizes))
        if what == "prod":
            x = (x > 0).astype(dtype) + dtype.type(1) if dtype.kind == "i" else np.abs(x) ** 1e-3
            x = x.astype(dtype)
        out = np.zeros(np.prod(sizes) // length, dtype)
        check_printed(kernel, [x, out], tol=max(2e-5, 1e-6 * length))


@pytest.mark.parametrize("name", ["one long row", "rows", "short rows", "columns", "windows"])
def test_running_values_are_those_of_numpy(name):
    sizes, inner = SIZES[name]
    for what, dtype in itertools.product(("sum", "max", "min", "prod"), (F32, I32)):
        body = (loaded(sizes, dtype=dtype), Op("cumulate", (0,), dtype, f"reduce_{what}"))
        kernel = Kernel("k", sizes, inner, (dtype,) * 2, body, (Store(1, 1, place(sizes)),))
        x = RNG.integers(-1, 2, np.prod(sizes)).astype(dtype)
        check_printed(kernel, [x, np.zeros_like(x)])


@pytest.mark.parametrize("dtype", [np.dtype("float16"), np.dtype(ml_dtypes.bfloat16)], ids=str)
def test_running_values_of_16_bit_floats_are_rounded_once(dtype):
    sizes = (3, 40)
    body = (loaded(sizes, dtype=dtype), Op("cumulate", (0,), dtype, "reduce_sum"))
    kernel = Kernel("k", sizes, (False, True), (dtype,) * 2, body, (Store(1, 1, place(sizes)),))
    x = RNG.normal(size=sizes).astype(dtype)
    out = np.zeros(sizes, dtype)
    run_kernel(kernel, [x.reshape(-1), out])
    np.testing.assert_array_equal(out, np.cumsum(x.astype(F32), 1).astype(dtype))
    assert (out != np.add.accumulate(x, 1)).any()  # what rounding each sum gives
    got = np.zeros(120, dtype)
    printed(kernel)[1]([x.reshape(-1), got])
    near = dict.fromkeys(("rtol", "atol"), float(ml_dtypes.finfo(dtype).eps))
    np.testing.assert_allclose(got.astype(F32), out.reshape(-1).astype(F32), **near)


@pytest.mark.parametrize("name", ["one long row", "rows", "short rows", "columns", "windows"])
def test_extremes_keep_nan_and_infinities(name):
    sizes, inner = SIZES[name]
    for what, dtype in itertools.product(("max", "min"), (F32, F64)):
        kernel = reduced(sizes, inner, dtype, f"reduce_{what}")
        x = RNG.normal(size=sizes).astype(dtype)
        x.reshape(-1)[:: np.prod(sizes) // 4] = np.nan
        x.reshape(-1)[1 :: np.prod(sizes) // 3] = np.inf
        x.reshape(-1)[2 :: np.prod(sizes) // 3] = -np.inf
        size = np.prod([n for n, r in zip(sizes, inner, strict=True) if not r], initial=1)
        check_printed(kernel, [x.reshape(-1), np.zeros(int(size), dtype)])


@pytest.mark.parametrize(
    ("sizes", "inner"), [((1 << 20,), (True,)), ((30_000, 600), (True, False))], ids=str
)
def test_sums_of_float32_are_accurate(sizes, inner):
    x = RNG.uniform(size=sizes).astype(F32)
    kernel = reduced(sizes, inner, F32, "reduce_sum")
    want = x.sum(0, dtype=F64)
    out = np.zeros(want.shape, F32)
    printed(kernel)[1]([x, out.reshape(-1)])
    np.testing.assert_allclose(out, want, rtol=5e-7)


def gathered(rows, width, mask=False):
    """Return a kernel that reads rows of a table by an array of numbers."""
    sizes = (rows, width)
    body = [loaded(sizes, [0], I32), Op("const", (), I32, 0), Op("ge", (0, 1), BOOL)]
    where = Affine(0, (0, 1), ((0, width),))
    body.append(Op("load", (2,) if mask else (), F32, 1, where))
    body.append(Op("exp", (3,), F32))
    stores = (Store(2, 4, place(sizes)),)
    return Kernel("k", sizes, (False, False), (I32, F32, F32), tuple(body), stores)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize(("rows", "width"), [(7, 5), (40, 33), (300, 1)])
def test_loads_are_placed_by_values(rows, width, mask):
    numbers = RNG.integers(-2 if mask else 0, 6, rows).astype(I32)
    table = RNG.normal(size=6 * width).astype(F32)
    check_printed(gathered(rows, width, mask), [numbers, table, np.zeros(rows * width, F32)])


@pytest.mark.parametrize("how", ["set", "add", "mul", "min", "max"])
@pytest.mark.parametrize("dtype", [F32, I32], ids=str)
def test_stores_scatter_and_update(how, dtype):
    sizes = (50, 7)
    body = (
        loaded(sizes, [0], I64),
        loaded(sizes, dtype=dtype, buffer=1),
        Op("const", (), I64, 8),
        Op("lt", (0, 2), BOOL),
    )
    stores = (Store(2, 1, Affine(0, (0, 1), ((0, 7),)), 3, how),)
    kernel = Kernel("k", sizes, (False, False), (I64, dtype, dtype), body, stores)
    numbers = RNG.integers(0, 12, 50)
    out = RNG.integers(1, 9, 8 * 7).astype(dtype)
    code = check_printed(kernel, [numbers, RNG.integers(1, 4, 350).astype(dtype), out], 1e-4)
    assert code.parts in (1, 7)  # never along the axis that repeats places


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), data=st.data())
@settings(max_examples=15, deadline=None)
def test_random_kernels_of_several_stages(sizes, data):
    sizes = tuple(sizes)
    inner = tuple(data.draw(st.booleans()) for _ in sizes)
    body = [loaded(sizes)]
    kept = [k for k, r in enumerate(inner) if not r]
    for _ in range(data.draw(st.integers(1, 8))):
        n = len(body)
        pick = st.integers(0, n - 1)
        choice = data.draw(st.sampled_from(["add", "exp", "reduce", "load row", "mul"]))
        if choice == "reduce" and any(inner):
            name = data.draw(st.sampled_from(["reduce_sum", "reduce_max", "reduce_min"]))
            body.append(Op("reduce", (data.draw(pick),), F32, name))
        elif choice == "load row":
            body.append(loaded(sizes, kept, buffer=1))
        elif choice == "exp":
            body.append(Op("tanh", (data.draw(pick),), F32))
        else:
            name = choice if choice in ("add", "mul") else "max"
            body.append(Op(name, (data.draw(pick), data.draw(pick)), F32))
    bare = Kernel("k", sizes, inner, (F32, F32), tuple(body), ())
    element = levels(bare)[1]
    stores, lengths = [], [int(np.prod(sizes)), int(np.prod([sizes[k] for k in kept]))]
    for n in {data.draw(st.integers(0, len(body) - 1)), len(body) - 1}:
        which = None if element[n] else kept
        stores.append(Store(2 + len(stores), n, place(sizes, which)))
        lengths.append(lengths[0] if element[n] else lengths[1])
    kernel = Kernel("k", sizes, inner, (F32,) * len(lengths), tuple(body), tuple(stores))
    buffers = memory(kernel, lengths, np.random.default_rng(1))
    check_printed(kernel, buffers, 1e-3)
    small = collapse(kernel)
    check_kernel(small)
    wants, gots = ([b.copy() for b in buffers] for _ in range(2))
    run_kernel(kernel, wants)
    run_kernel(small, gots)
    for got, want in zip(gots, wants, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------- the verifier
def test_the_verifier_knows_rows_and_masks():
    sizes = (4, 6)
    good = reduced(sizes, (False, True), F32, "reduce_sum")
    check_kernel(good)
    assert "v1:float32 = reduce sum v0" in str(good)
    bad = [
        ("reduces over no axes", {"inner": (False, False)}),
        ("one place", {"stores": (Store(1, 0, place(sizes, [0])),)}),
        ("mask of no bools", {"stores": (Store(1, 1, place(sizes, [0]), 0),)}),
        ("differ in length", {"inner": (False,)}),
    ]
    for message, change in bad:
        fields = {**{k: getattr(good, k) for k in good.__dataclass_fields__}, **change}
        with pytest.raises(ValueError, match=message):
            check_kernel(Kernel(**fields))


@pytest.mark.parametrize("n", [1, 5, 16, 40, 64])
def test_loops_are_cut_at_borders(n):
    x = np.arange(3 * n, dtype=np.float32).reshape(3, n)

    def f(x):
        rolled = fnp.roll(x, 1, 1) + 2 * fnp.roll(x, -1, 1)
        return rolled, fnp.pad(x, ((1, 0), (2, 1))) * 3, fnp.concatenate([x[0, ::-1], x[1]]) + 1

    want = (
        np.roll(x, 1, 1) + 2 * np.roll(x, -1, 1),
        np.pad(x, ((1, 0), (2, 1))) * 3,
        np.concatenate([x[0, ::-1], x[1]]) + 1,
    )
    for got, expected in zip(ft.jit(f)(x), want, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_tile_that_is_all_rows_of_an_axis():
    """Sums over rows beside several passes over them, where one axis of rows is one block."""
    r = np.random.default_rng(0)
    table, places = (r.standard_normal((n, 64), np.float32) for n in (7, 64))
    w, which = r.standard_normal((64, 64), np.float32), r.integers(0, 7, (4, 64))

    def loss(table, places, scale):
        x = table[which] + places[None]
        x = scale * (x - x.mean(-1, keepdims=True)) / fnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return (fnp.tanh(x @ w) ** 2).sum()

    slopes = ft.grad(loss, (0, 1, 2))
    args = (table, places, np.ones(64, np.float32))
    for got, want in zip(ft.jit(slopes)(*args), slopes(*args), strict=True):
        assert np.allclose(got, want, atol=1e-3)


@pytest.mark.parametrize("n", [15, 16, 17, 64])
def test_two_loads_with_conditions(n):
    """Outside of their places both read nothing, wherever lanes begin."""
    p, r, t, u = (np.random.default_rng(k).random(n - k // 2, np.float32) for k in range(4))

    def step(p, r, t, u):
        ap = fnp.pad(t, (0, 1)) + fnp.pad(2 * (p[1:] - p[:-1] * u), (1, 0))
        r = r - ap / fnp.sum(p * ap)
        return r, p + r

    for got, want in zip(ft.jit(step)(p, r, t, u), step(p, r, t, u), strict=True):
        assert np.allclose(got, want, atol=1e-5)
