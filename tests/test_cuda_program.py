"""Whole programs on the stand-in for a GPU give what they give on the CPU.

Their kernels are CUDA C++ that g++ compiles; where there is no g++, only the lists are checked.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cuda_shim
import numpy as np
import pytest
from fake_cupy import Stream, cuda
from gpu_programs import LOOPS, STEPS, assert_same, benchmark, normal, together
from gpu_training import TRAINING

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.backends.cuda import nvrtc, runtime, turns
from funtorch.backends.cuda.checking import check_launches
from funtorch.backends.cuda.instructions import At, Copy, Repeat, Run, count_of, each
from funtorch.backends.cuda.nvrtc import NvrtcError
from funtorch.backends.cuda.runtime import plan_for
from funtorch.transforms.simplify import simplify

compiles = pytest.mark.skipif(not cuda_shim.have_compiler(), reason="there is no g++")


def plan_of(f, *args, donated=()):
    jaxpr = ft.jit(f).lower(*args)._program.jaxpr
    return plan_for(simplify(jaxpr), frozenset(donated))[0]


def named(what):
    return [c for c in cuda.calls if c[0] == what]


@compiles
@pytest.mark.parametrize("table", [STEPS, LOOPS, TRAINING], ids=["steps", "loops", "training"])
def test_programs(cupy, table):
    run, args = together(table)
    want = ft.jit(run)(args)
    f, there = ft.jit(run), ft.device_put(args, "cuda:0")
    for _ in range(3):  # plainly, captured, replayed
        assert_same(f(there), want)
    assert f.stats().calls == 3
    assert len(f.stats().compiles) == 1
    if table is not LOOPS:
        assert named("graph")
        assert named("begin_capture")


@compiles
def test_a_step_is_one_graph(cupy):
    """The second run on the same memory is captured, later ones are replayed; inputs may move."""

    def step(w, x):
        return w - 0.1 * ft.grad(lambda w: ((fnp.tanh(x @ w) @ w) ** 2).sum())(w)

    w, x = normal(4, 4), normal(6, 4)
    f, there = ft.jit(step), ft.device_put((w, x), "cuda:0")
    want = ft.jit(step)(w, x)
    kept = None
    for _ in range(5):
        cuda.calls.clear()
        kept = None
        kept = f(*there)
        np.testing.assert_allclose(np.asarray(kept), np.asarray(want), rtol=1e-5, atol=1e-5)
    assert [c[0] for c in cuda.calls if c[0] not in ("alloc", "get", "set")] == ["graph"]
    other = ft.device_put((w * 2, x), "cuda:0")
    np.testing.assert_allclose(
        np.asarray(f(*other)), np.asarray(ft.jit(step)(w * 2, x)), rtol=1e-5, atol=1e-5
    )


@compiles
def test_threads_take_turns(cupy):
    """What one thread asks for must not get into the graph that another one captures."""
    f, x = ft.jit(lambda a: fnp.tanh(a @ a) @ a), normal(4, 4)
    want, there = np.asarray(f(x)), ft.device_put(x, "cuda:0")

    def work(n):
        return [np.asarray(f(there)) for _ in range(6)]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(work, range(4)):
            for got in found:
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@compiles
def test_arguments_of_all_kinds(cupy):
    f = ft.jit(lambda a, b: a * 2 + b)
    x = ft.device_put(normal(3, 4), "cuda:0")
    want = np.asarray(x) * 2 + 1
    for b in (1.0, np.ones((3, 4), np.float32), fnp.ones((3, 4)), np.ones((4, 3), np.float32).T):
        got = f(x, b)
        assert got.device == "cuda:0"
        np.testing.assert_allclose(np.asarray(got), want)
    np.testing.assert_allclose(np.asarray(f(x.T, 1.0)), want.T)  # not row-major
    row = ft.device_put(normal(5, 3), "cuda:0")[1:]  # 12 bytes on: not aligned
    np.testing.assert_allclose(np.asarray(f(row, 1.0)), np.asarray(row) * 2 + 1)
    g = ft.jit(lambda a: a + 1, device="cuda:1")
    assert g(normal(2)).device == g(x).device == "cuda:1"
    with ft.default_device("cuda:1"):
        assert f(normal(3), 1.0).device == "cuda:1"
    assert f(normal(3), 1.0).device == "cpu"
    held = ft.device_put(normal(3), "cuda:1")
    assert ft.jit(lambda a: a + held)(normal(3)).device == "cuda:1"
    compiled = f.lower(x, 1.0).compile()
    np.testing.assert_allclose(np.asarray(compiled(x, 1.0)), want)


@compiles
def test_donated_memory_is_used_again(cupy):
    f = ft.jit(lambda x, y: x * 2 + y, donate_argnums=0)
    x, y = ft.device_put((normal(40), normal(40)), "cuda:0")
    want, place = np.asarray(x) * 2 + np.asarray(y), x.unsafe_buffer_pointer()
    out = f(x, y)
    assert out.unsafe_buffer_pointer() == place
    assert x.is_deleted()
    assert not y.is_deleted()
    np.testing.assert_allclose(np.asarray(out), want, rtol=1e-6)
    x = ft.device_put(normal(40), "cuda:0")
    theirs, values = x._buffer, np.asarray(x)
    assert f(x, y).unsafe_buffer_pointer() != theirs.data.ptr  # somebody else sees it
    np.testing.assert_array_equal(theirs.get(), values)


@compiles
def test_python_decisions(cupy):
    @ft.jit
    def f(x):
        if x.sum() > 0:
            return x * 2
        return x * 3

    for x in (np.abs(normal(5)), -np.abs(normal(5))):
        got = f(ft.device_put(x, "cuda:0"))
        assert got.device == "cuda:0"
        np.testing.assert_allclose(np.asarray(got), np.asarray(f(x)), rtol=1e-6)


@compiles
def test_eager_scatters_are_compiled(cupy):
    x = ft.device_put(normal(6, 2), "cuda:0")
    i = np.array([1, 4, 1], np.int32)
    for how in ("set", "add"):
        got = getattr(x.at[i], how)(normal(3, 2))
        want = getattr(fnp.array(normal(6, 2)).at[i], how)(normal(3, 2))
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-6)


@compiles
def test_callbacks(cupy):
    x, seen = ft.device_put(normal(3), "cuda:0"), []

    @ft.jit
    def f(a):
        ft.debug.callback(lambda v: seen.append(float(v)), a.sum())
        like = ft.ShapeDtypeStruct(a.shape, a.dtype)
        return ft.pure_callback(lambda v: np.asarray(v) * 2, like, a) + 1

    np.testing.assert_allclose(np.asarray(f(x)), np.asarray(x) * 2 + 1, rtol=1e-6)
    assert seen == pytest.approx([float(x.sum())])


def test_out_of_memory_names_the_program(cupy, monkeypatch):
    f = ft.jit(lambda a: (a @ a.T).sum() * 1.0)
    x = ft.device_put(normal(100, 3), "cuda:0")
    text = cuda.run_kernels
    monkeypatch.setattr(cuda, "run_kernels", lambda *a: None)
    f(x[:10])
    monkeypatch.setattr(cuda, "limit", cuda.taken + 2000)
    with pytest.raises(MemoryError, match=r"(?s)the program needs .* the largest:.*test_cuda_pro"):
        f(x)
    assert text


@compiles
def test_what_fails_is_traced_to_the_line(cupy, monkeypatch):
    """With FUNTORCH_DEBUG_SYNC=1 the host waits after each thing, and knows which one failed."""
    monkeypatch.setattr(runtime, "SYNC", True)

    def f(x):
        y = fnp.tanh(x @ x)
        return fnp.sort(y, 1)

    done = []
    monkeypatch.setattr(cuda, "run_kernels", lambda *args: done.append(args))
    plain = type(Stream.null).synchronize

    def synchronize(self):
        plain(self)
        if len(done) == 1:
            raise RuntimeError("cudaErrorIllegalAddress: an illegal memory access")

    monkeypatch.setattr(Stream, "synchronize", synchronize)
    line = f.__code__.co_firstlineno + 2  # what the kernel makes is wanted there
    said = rf"in the instruction: run 0 .*, for .*test_cuda_program.py:{line}.*: cudaErrorIll"
    with pytest.raises(RuntimeError, match=said):
        ft.jit(f)(ft.device_put(normal(5, 5), "cuda:0"))


def test_what_nvrtc_refuses_is_traced_to_the_line(cupy, monkeypatch):
    def refuse(text, arch):
        raise NvrtcError("NVRTC refuses a module for sm_90:\n  in void k0(...)\n    line 3: x")

    monkeypatch.setattr(nvrtc, "compile_cubin", refuse)
    with pytest.raises(NvrtcError, match=r"(?s)line 3: x.*k0 is for .*test_cuda_program.py:\d+"):
        ft.jit(lambda x: fnp.tanh(x))(ft.device_put(normal(5), "cuda:0"))


# ------------------------------------------------------------------------------ lists
def test_lists_are_checked_and_shown():
    for table in (STEPS, LOOPS):
        run, args = together(table)
        plan = plan_of(run, args)
        check_launches(plan)
        shown = str(plan)
        assert "run 0 (r" in shown and "x 4 x" in shown if table is STEPS else "times" in shown
    steps = [x for x in plan.instructions if isinstance(x, Run)]
    far = replace(steps[0], args=(At(steps[0].args[0].base, 1 << 30), *steps[0].args[1:]))
    for bad in (far, Copy(At(0), At(plan.registers + 5), 4), Copy(At(0), At(1), 1 << 40)):
        with pytest.raises(ValueError, match=r"memory|holds nothing"):
            check_launches(replace(plan, instructions=(bad,)))


def test_what_decides_is_not_captured():
    run, args = together(STEPS)
    counts = [count_of([x]) for x in plan_of(run, args).instructions]
    assert None not in counts
    loop = plan_of(*LOOPS["scan"])
    (repeat,) = [x for x in loop.instructions if isinstance(x, Repeat)]
    assert repeat.length == 7
    assert count_of([repeat]) > 7
    f, *a = LOOPS["while"]
    assert None in [count_of([x]) for x in plan_of(f, *a).instructions]


def long_loop(x, xs, reverse=False):
    def step(c, e):
        c = lax.optimization_barrier(c @ c * 0.1 + e[:1])
        return fnp.tanh(c), (c.sum(0), e[0] * c[0, 0])

    return lax.scan(step, x, xs, reverse=reverse)


@compiles
@pytest.mark.parametrize("length", [40, 43, 44])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_long_loop_is_turns_of_a_graph(cupy, monkeypatch, length, reverse):
    """No step but those of the first turns is launched kernel by kernel."""
    f = lambda x, xs: long_loop(x, xs, reverse)
    args = normal(3, 3), normal(length, 5, seed=1)
    want = ft.jit(f)(*args)
    monkeypatch.setattr(turns, "MOST_NODES", 90)
    g, there = ft.jit(f), ft.device_put(args, "cuda:0")
    for _ in range(3):
        cuda.calls.clear()
        assert_same(g(*there), want)
    plan = plan_of(f, *args)
    check_launches(plan)
    loops = [x for x in plan.instructions if isinstance(x, Repeat)]
    ((outer, turn),) = [(x, y) for x in loops for y in x.body if isinstance(y, Repeat)]
    assert count_of([turn]) <= 90
    assert turn.length % 2 == 0
    assert outer.length * turn.length == length - length % turn.length
    assert len(named("graph")) <= outer.length + 2
    assert len(named("kernel")) == 0
    assert len(named("memcpy")) <= outer.length * len(outer.slices) + 4


@compiles
def test_the_gradient_of_a_long_loop(cupy, monkeypatch):
    f = ft.grad(lambda x, xs: sum((y**2).sum() for y in ft.tree.leaves(long_loop(x, xs))), (0, 1))
    args = normal(3, 3), normal(21, 5, seed=1)
    want = ft.jit(f)(*args)
    monkeypatch.setattr(turns, "MOST_NODES", 90)
    g, there = ft.jit(f), ft.device_put(args, "cuda:0")
    for _ in range(3):
        assert_same(g(*there), want, 1e-4)
    found = [x for x in each(plan_of(f, *args).instructions) if isinstance(x, Repeat)]
    assert len(found) > 3


@compiles
def test_many_sums_of_columns_fit_the_memory_of_a_block(cupy):
    f = lambda x: [(x * k).sum(0) for k in range(1, 41)]
    x = normal(600, 8).astype("f8")
    launches = [one for code in plan_of(f, x).codes for one in code.launches]
    assert max(one.shared for one in launches) == 48 << 10  # what a launch gets unasked
    assert_same(ft.jit(f)(ft.device_put(x, "cuda:0")), f(fnp.asarray(x)), 1e-6)


def test_what_a_turn_copies_is_bounded():
    x, xs = normal(3, 3), np.zeros((6000, 1 << 16), "f4")
    plan = plan_of(lambda c, xs: lax.scan(lambda c, e: (c + e.sum(), None), c, xs)[0], x, xs)
    check_launches(plan)
    assert plan.arena < 1 << 27
    plan = plan_of(lambda c: lax.fori_loop(0, 100_000, lambda i, c: c @ c * 0.1, c), x)
    (outer, rest) = plan.instructions[-2:]
    assert (count_of([outer.body[0]]) or 0) <= turns.MOST_NODES
    assert outer.length * outer.body[0].length + rest.length == 100_000


def test_memory_is_shared_in_time():
    def chain(x):
        for _ in range(20):
            x = fnp.tanh(x @ x)
        return x

    x = normal(64, 64)
    assert plan_of(chain, x).arena <= 4 * x.nbytes
    in_place = plan_of(
        lambda x: lax.fori_loop(0, 9, lambda i, c: c.at[i].add(1.0), x), normal(9, 9)
    )
    (repeat,) = [y for y in in_place.instructions if isinstance(y, Repeat)]
    assert any(c.old == c.new and c.nbytes == 324 for c in repeat.carries)


@compiles
def test_the_benchmark_runs(cupy):
    (row,) = [row for row in benchmark.ROWS if row.name == "launch"]
    times = benchmark.measure(row, quick=True)
    assert times["ours"] > 0
    assert set(times) == {"ours", "first ours"}  # others have no GPU here
    assert benchmark.copied(quick=True) > 0
    assert benchmark._line(row, times, 1.0, True).startswith("launch ")


@compiles
def test_a_row_of_the_benchmark_that_fails_leaves_the_others(cupy, monkeypatch, capsys):
    def broken(xp, x):
        raise RuntimeError("no such thing")

    rows = (benchmark.Row("broken", ((8,),), broken), benchmark.ROWS[-1])
    monkeypatch.setattr(benchmark, "ROWS", rows)

    def torch(row, arrays, compiled):
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(benchmark, "_torch", torch)
    assert benchmark.main(["--quick"]) == 1
    said, warned = capsys.readouterr()
    assert "broken           failed: RuntimeError('no such thing')" in said
    assert said.splitlines()[-1].startswith("launch ")
    assert "launch: torch.compile failed: RuntimeError('no kernel image')" in warned


@compiles
@pytest.mark.parametrize(("rows", "n", "copies"), [(3, 20, 1), (64, 20, 0), (3, 300, 0), (9, 4, 0)])
def test_values_of_rows_are_changed_in_place(cupy, rows, n, copies):
    """They are copied only where threads without a row of their own would read another one's."""

    def f(r, x):
        s = fnp.exp(x - r[:, None]).sum(1)
        return r + fnp.log(s), x * r[:, None] / (1 + s[:, None])

    r, x = normal(rows), normal(rows, n)
    found = plan_of(f, r, x, donated=[0]).instructions
    assert sum(isinstance(i, Copy) for i in found) == copies
    want, got = ft.jit(f)(r, x), ft.jit(f, donate_argnums=0)(*ft.device_put((r, x), "cuda:0"))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=2e-5, atol=1e-5)
