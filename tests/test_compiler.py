"""The compiler: passes, fusion, kernels (NumPy executor against LLVM), scalar formulas, memory."""

import math

import numpy as np
import pytest
import scipy.special as sp
from eager import eagerly

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.backends import compile_jaxpr
from funtorch.backends.buffers import Pool
from funtorch.backends.fuse import fuse
from funtorch.backends.kernel import Affine, Kernel, Op, Store, check_kernel, run_kernel
from funtorch.backends.plan import Call, Dot, Launch, Nothing, Sort
from funtorch.core import ArrayImpl, ShapedArray
from funtorch.jaxpr import Lit, check_jaxpr, eval_jaxpr, stage
from funtorch.transforms.simplify import drop_dead, fold, inline, share, simplify

F32, F64 = np.dtype("float32"), np.dtype("float64")
RNG = np.random.default_rng(0)


def program(f, *args):
    """Stage ``f`` of NumPy arrays that returns one Array."""
    return stage(lambda *xs: [f(*xs)], [ShapedArray(a.shape, a.dtype) for a in args])


def names(jaxpr):
    return [eqn.prim.name for eqn in jaxpr.eqns]


def floats(*shape, dtype=F32):
    return RNG.normal(size=shape).astype(dtype)


# ---------------------------------------------------------------------- passes
def test_inline_replaces_nested_jit_and_binds_each_variable_once():
    inner = ft.jit(lambda x: fnp.sin(x) * 2)
    jaxpr = program(lambda x: inner(x) + inner(x + 1), floats(3))
    assert "jit" in names(jaxpr)
    flat = inline(jaxpr)
    check_jaxpr(flat)
    assert "jit" not in names(flat)
    assert names(flat).count("sin") == 2


def test_share_computes_equal_expressions_once():
    jaxpr = share(program(lambda x: fnp.sin(x) + fnp.sin(x), floats(3)))
    check_jaxpr(jaxpr)
    assert names(jaxpr).count("sin") == 1


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * 1,
        lambda x: x / 1,
        lambda x: x - 0,
        lambda x: ft.stop_gradient(x),
        lambda x: x.T.T,
        lambda x: x.reshape(6).reshape(2, 3),
    ],
)
def test_fold_drops_what_changes_nothing(f):
    jaxpr = drop_dead(fold(fold(inline(program(f, floats(2, 3))))))
    check_jaxpr(jaxpr)
    assert names(jaxpr) == []


def test_fold_keeps_adding_zero_to_floats():
    run = compile_jaxpr(simplify(program(lambda x: x + 0.0, floats(2))))
    (out,) = run([np.array([-0.0, 1.0], F32)])
    assert not np.signbit(out[0])


def test_drop_dead_drops_unused():
    def f(x):
        fnp.exp(x)
        return x + 1

    assert "exp" not in names(drop_dead(program(f, floats(3))))


def test_simplify_lets_products_read_transposed_operands():
    jaxpr = simplify(program(lambda a, b: (a.T @ b.T).T, floats(4, 3), floats(5, 4)))
    check_jaxpr(jaxpr)
    assert names(jaxpr) == ["dot_general"]


# ---------------------------------------------------------------------- whole programs
PROGRAMS = {
    "chain": (lambda x: fnp.tanh(x) * 2 + x**3, (floats(7, 5),)),
    "scalar": (lambda x: x * 2 + 1, (floats(),)),
    "broadcast": (lambda x, y: x[:, None] * y - x.sum(), (floats(4), floats(5))),
    "transpose": (lambda x: x.T + x[::-1, ::2].sum(), (floats(6, 6),)),
    "softmax": (lambda x: fnp.exp(x - x.max(1, keepdims=True)) / 3, (floats(9, 33),)),
    "middle axis": (lambda x: (x * x).sum(1), (floats(4, 5, 6),)),
    "first axis": (lambda x: fnp.abs(x).max(0), (floats(40, 17),)),
    "long sum": (lambda x: (x + 1).sum(), (floats(10_001),)),
    "mean of rows": (lambda x: x.mean((0, 2)), (floats(3, 4, 5, dtype=F64),)),
    "one element": (lambda x: x.sum(0), (floats(1, 4),)),
    "matmul": (lambda a, b: fnp.maximum(a @ b, 0).sum(0), (floats(8, 5), floats(5, 3))),
    "batched matmul": (lambda a, b: a @ b, (floats(3, 8, 5), floats(3, 5, 2))),
    "heads": (
        lambda q, k: (
            (
                (
                    q.reshape(2, 4, 3, 5).transpose(0, 2, 1, 3)
                    @ k.reshape(2, 4, 3, 5).transpose(0, 2, 3, 1)
                )
                @ k.reshape(2, 4, 3, 5).transpose(0, 2, 1, 3)
            )
            .transpose(0, 2, 1, 3)
            .reshape(2, 4, 15)
        ),
        (floats(2, 4, 15), floats(2, 4, 15)),
    ),
    "slices of a product": (
        lambda x, w: (x @ w)[:, 2:6] @ (x @ w)[::2, 1:4],
        (floats(8, 5), floats(5, 7)),
    ),
    "one row and one column": (lambda a, b: (a.T @ b.T).T, (floats(4, 1), floats(1, 4))),
    "where and iota": (lambda x: fnp.where(fnp.arange(6) < 3, x, -x), (floats(2, 6),)),
    "integers": (lambda x: x // 3 + x % 4 - (x << 1), (np.arange(-9, 9, dtype=np.int32),)),
    "bool": (lambda x: (x > 0) & ~(x > 1), (floats(11),)),
    "sort in the middle": (lambda x: fnp.sort(x * 2)[::-1] + 1, (floats(12),)),
    "eager in the middle": (lambda x: eagerly(x * 2)[::-1] + 1, (floats(12),)),
    "concatenate": (lambda x: fnp.concatenate([x, x * 2]).sum(), (floats(5),)),
    "empty": (lambda x: x * 2 + 1, (floats(0, 3),)),
    "half": (lambda x: x * 2 + 1, (floats(4).astype(np.float16),)),
    "complex": (lambda x: x * x, (floats(4).astype(np.complex64),)),
    "two results in one": (
        lambda x: fnp.sin(x) + fnp.cos(x).sum(1, keepdims=True),
        (floats(3, 4),),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_agrees_with_eager(name):
    f, args = PROGRAMS[name]
    jaxpr = program(f, *args)
    (want,) = (np.asarray(o._data) for o in eval_jaxpr(jaxpr, *map(ArrayImpl, args)))
    simple = simplify(jaxpr)
    check_jaxpr(simple)
    run = compile_jaxpr(simple)
    for _ in range(2):
        (got,) = run(list(args))
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)
    strided = [np.stack([a, a], -1)[..., 0] for a in args]
    np.testing.assert_allclose(run(strided)[0], want, rtol=2e-5, atol=2e-6)


def run_dot(step, env):
    """Execute a product with NumPy."""
    found = []
    sizes = ((*step.rows, *step.sums), (*step.sums, step.n), (*step.rows, step.n))
    for v, place, matrix in zip((step.a, step.b, step.out), step.places, sizes, strict=True):
        flat = env[v].reshape(-1)
        strides = [s * flat.itemsize for s in place.strides]
        shape = (*step.batches, *matrix)
        found.append(np.lib.stride_tricks.as_strided(flat[place.offset :], shape, strides))
    a = found[0].reshape(*step.batches, step.m, step.k)
    b = found[1].reshape(*step.batches, step.k, step.n)
    found[2][...] = (a @ b).reshape(found[2].shape)


@pytest.mark.parametrize("name", PROGRAMS)
def test_kernels_mean_the_same_to_numpy_and_llvm(name):
    f, args = PROGRAMS[name]
    jaxpr = simplify(program(f, *args))
    env = dict(zip(jaxpr.invars, args, strict=True))
    env.update((v, c._data) for v, c in zip(jaxpr.constvars, jaxpr.consts, strict=True))
    plan = fuse(jaxpr)
    for step in plan.steps:
        if isinstance(step, Launch):
            check_kernel(step.kernel)
            env.update((out, np.array(env[source])) for out, source in step.seeds)
            for v in step.vars:
                env.setdefault(v, np.empty(v.aval.shape, v.aval.dtype))
            run_kernel(
                step.kernel,
                [np.ascontiguousarray(env[v]) if v.aval.ndim else env[v] for v in step.vars],
            )
        elif isinstance(step, Nothing):
            env.update((v, np.empty(v.aval.shape, v.aval.dtype)) for v in step.outs)
        elif isinstance(step, Sort):
            env[step.out] = np.sort(env[step.x])
        elif isinstance(step, Dot):
            env[step.out] = np.empty(step.out.aval.shape, step.out.aval.dtype)
            run_dot(step, env)
        else:
            ins = [v.val._data if isinstance(v, Lit) else env[v] for v in step.eqn.invars]
            out = step.eqn.prim.eager(np, *ins, **step.eqn.params)
            outs = out if step.eqn.prim.multiple_results else [out]
            env.update((v, np.array(o)) for v, o in zip(step.eqn.outvars, outs, strict=True))
    (want,) = (env[v] for v in plan.jaxpr.outvars)
    np.testing.assert_allclose(compile_jaxpr(jaxpr)(list(args))[0], want, rtol=2e-5, atol=2e-6)


def test_an_elementwise_chain_is_one_kernel():
    jaxpr = simplify(program(lambda x: fnp.exp(fnp.sin(x) * 2 + 1) / (x + 3), floats(100)))
    (step,) = fuse(jaxpr).steps
    assert isinstance(step, Launch)
    assert len(step.vars) == 2


def test_a_training_step_is_native():
    def loss(w, x, y):
        z = fnp.tanh(x @ w[0]) @ w[1]
        p = z - fnp.log(fnp.exp(z).sum(1, keepdims=True))
        return -(p * y).sum(1).mean()

    def step(a, b, x, y):
        g = ft.grad(loss)((a, b), x, y)
        return (a - 0.1 * g[0]).sum() + (b - 0.1 * g[1]).sum()

    jaxpr = simplify(program(step, floats(6, 5), floats(5, 3), floats(8, 6), floats(8, 3)))
    assert not any(isinstance(s, Call) for s in fuse(jaxpr).steps)


def test_a_very_long_chain_compiles():
    def f(x):
        for k in range(600):
            x = x * 0.999 + k
        return x

    x = floats(5)
    jaxpr = program(f, x)
    (want,) = eval_jaxpr(jaxpr, ArrayImpl(x))
    np.testing.assert_allclose(compile_jaxpr(simplify(jaxpr))([x])[0], want._data, rtol=1e-5)


def test_outputs_never_share_memory_with_inputs():
    x = floats(6)
    for f in (lambda x: x, lambda x: x.reshape(2, 3), fnp.sort, eagerly):
        (out,) = compile_jaxpr(simplify(program(f, x)))([x])
        assert not np.shares_memory(out, x)


# ---------------------------------------------------------------------- kernels
def test_the_verifier_names_what_is_wrong():
    load = Op("load", (), F32, 0, Affine(0, (1,)))
    good = Kernel("k", (4,), (False,), (F32, F32), (load,), (Store(1, 0, Affine(0, (1,))),))
    check_kernel(good)
    assert "v0:float32 = load b0[1*i0]" in str(good)
    late = Kernel("k", (4,), (False,), (F32, F32), (Op("neg", (1,), F32), load), good.stores)
    with pytest.raises(ValueError, match="v0 uses a later value"):
        check_kernel(late)
    both = Kernel("k", (4,), (False,), (F32, F32), (load,), (Store(0, 0, Affine(0, (1,))),))
    with pytest.raises(ValueError, match="loaded and stored"):
        check_kernel(both)


# ---------------------------------------------------------------------- formulas
FORMULAS = {
    "exp": (np.exp, (-104, 89), (-745, 709)),
    "log": (np.log, (1e-40, 1e30), (1e-310, 1e300)),
    "tanh": (np.tanh, (-12, 12), (-25, 25)),
    "logistic": (sp.expit, (-80, 80), (-700, 700)),
    "erf": (sp.erf, (-5, 5), (-7, 7)),
    "log1p": (np.log1p, (-0.999, 50), (-0.999, 50)),
    "expm1": (np.expm1, (-20, 88), (-40, 700)),
    "sin": (np.sin, (-100, 100), (-100, 100)),
}
SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, -1e-45, 1e-38, 1.0, -1.0, 3e38, -3e38]


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_are_within_four_ulps(name, dtype):
    reference, narrow, wide = FORMULAS[name]
    low, high = narrow if dtype == F32 else wide
    if low > 0:
        x = np.geomspace(low, high, 20_000)
    else:
        tiny = np.geomspace(1e-30, 1, 4000)
        x = np.concatenate([np.linspace(low, high, 20_000), tiny[tiny < high], -tiny[-tiny > low]])
    x = np.concatenate([x, SPECIAL]).astype(dtype)
    from_primitive = ft.core.primitives[name].bind
    (got,) = compile_jaxpr(program(from_primitive, x))([x])
    with np.errstate(all="ignore"):
        exact = reference(
            x.astype(np.longdouble if dtype == F64 and name in ("exp", "log", "tanh") else F64)
        )
        want = exact.astype(dtype)
        spacing = np.spacing(np.maximum(np.abs(want), np.finfo(dtype).tiny))
        ulps = np.abs(got.astype(exact.dtype) - exact) / spacing
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    assert np.max(np.where(same, 0, ulps)) < 4
    assert np.all(np.isfinite(got) == np.isfinite(want))


# ---------------------------------------------------------------------- memory
def test_the_pool_uses_a_buffer_again_once_nobody_holds_it():
    pool = Pool()
    x = pool.empty((1 << 18,), F32, 1 << 20)
    address = x.ctypes.data
    view = x[3:5]
    del x
    y = pool.empty((1 << 18,), F32, 1 << 20)
    assert y.ctypes.data != address
    del view
    assert pool.empty((1 << 18,), F32, 1 << 20).ctypes.data == address
    pool.clear()
    assert pool.held == 0


def test_threads_do_not_change_results():
    x = floats(1_200_003)
    results = []
    run = compile_jaxpr(simplify(program(lambda x: fnp.tanh(x) * x + 1, x)))
    for count in (1, 2, 3):
        with ft.threads(count):
            results.append(run([x])[0])
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    np.testing.assert_allclose(results[0], np.tanh(x) * x + 1, rtol=1e-5, atol=1e-6)
