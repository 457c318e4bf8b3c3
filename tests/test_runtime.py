"""Compiled programs among threads, processes and over time."""

import ctypes
import gc
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.backends.buffers import pool
from funtorch.backends.cpu.codegen import object_code
from funtorch.backends.cpu.runtime import _builtin, load
from funtorch.backends.cpu.threads import default_threads, thread_count

DIGEST = """
import hashlib
import numpy as np
import funtorch as ft
import funtorch.numpy as fnp
from funtorch.backends.cpu.threads import thread_count

@ft.jit
def f(x, a, b):
    wide = fnp.tanh(x) * fnp.exp(-x * x) + fnp.sin(x) / (1 + x * x) + fnp.log1p(fnp.abs(x))
    rows = wide.reshape(1103, 1021).max(1)
    steps = ft.vmap(lambda x: ft.lax.fori_loop(0, 9, lambda i, c: fnp.sin(c) + x, x))(x[:9999])
    return wide, wide.sum(), rows, a @ b, fnp.tanh(a @ b[:, :200]).mean(0), steps

rng = np.random.default_rng(0)
args = [rng.normal(size=s).astype("float32") for s in ((1103 * 1021,), (500, 450), (450, 431))]
digest = hashlib.sha256()
for out in f(*args):
    digest.update(np.asarray(out).tobytes())
print(thread_count(), digest.hexdigest())
"""


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_results_do_not_depend_on_the_number_of_threads():
    """Large products included: they are cut into blocks by their size alone."""
    found = {}
    for n in ("1", "2", "3"):
        count, digest = run(DIGEST, FUNTORCH_NUM_THREADS=n)
        assert count == n
        found[n] = digest
    assert len(set(found.values())) == 1, found


@ft.jit
def step(w, x):
    """Every part of a segment: kernels, a product, a small arena, a reduction."""
    h = fnp.tanh(x @ w) - fnp.cos(x @ w)
    return w - 0.1 * (x.T @ (h * (1 - h * h))), (h * h).sum()


def problem(seed, n=24):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n)).astype("float32"), rng.normal(size=(3 * n, n)).astype("float32")


@pytest.mark.parametrize("n", [24, 700], ids=["small arena", "large arena"])
def test_one_program_runs_in_many_threads_at_once(n):
    problems = [problem(k, n) for k in range(6)]
    wants = [tuple(map(np.asarray, step(*p))) for p in problems]
    start = threading.Barrier(6)

    def work(k):
        start.wait()
        for _ in range(200 if n < 100 else 3):
            for got, want in zip(step(*problems[k]), wants[k], strict=True):
                np.testing.assert_array_equal(np.asarray(got), want)

    with ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(work, k) for k in range(6)]:
            done.result()


def test_threads_that_compile_at_the_same_time():
    start = threading.Barrier(4)
    x = np.arange(5, dtype="float32")
    f = ft.jit(lambda x, k: fnp.sin(x) * k + x**2)

    def work(k):
        start.wait()
        own = ft.jit(lambda x: fnp.sin(x) * k + x**2)
        return np.asarray(own(x)), np.asarray(f(x, np.float32(k)))

    with ThreadPoolExecutor(4) as threads:
        for k, (own, shared) in enumerate(threads.map(work, range(4))):
            np.testing.assert_allclose(own, np.sin(x) * k + x**2, rtol=1e-5)
            np.testing.assert_allclose(shared, own, rtol=1e-6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_computes_and_compiles():
    code = """
import os, sys, threading
import numpy as np
import funtorch as ft, funtorch.numpy as fnp
x = np.linspace(-1, 1, 1 << 21, dtype="float32")
f = ft.jit(lambda x: fnp.tanh(x) * x)
want = np.asarray(f(x))  # runs on several threads
pid = os.fork()
if pid == 0:
    same = (np.asarray(f(x)) == want).all()
    new = np.asarray(ft.jit(lambda a: a @ a.T)(np.ones((4, 4), "float32")))
    os._exit(0 if same and (new == 4).all() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert run(code, FUNTORCH_NUM_THREADS="2") == ["0"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads by /proc")
def test_a_forked_child_leaves_its_parents_threads_alone():
    code = """
import os, time
import numpy as np
import funtorch as ft, funtorch.numpy as fnp
x = np.linspace(-1, 1, 1 << 21, dtype="float32")
f = ft.jit(lambda x: fnp.tanh(x) * x)
f(x)
time.sleep(0.5)  # threads that compiled end
counts = []
for child_computes in (False, True, False):
    pid = os.fork()
    if pid == 0:
        if child_computes:
            f(x)
        os._exit(0)
    os.waitpid(pid, 0)
    f(x)
    counts.append(len(os.listdir("/proc/self/task")))
print(len(set(counts)))
"""
    assert run(code, FUNTORCH_NUM_THREADS="2") == ["1"]


@pytest.mark.parametrize("n", [24, 700], ids=["small", "large"])
def test_memory_stays_flat(n):
    w, x = map(fnp.asarray, problem(0, n))
    calls = 2000 if n < 100 else 20
    for _ in range(5):
        w, _ = step(w, x)
    tracemalloc.start()
    try:
        before, held = tracemalloc.get_traced_memory()[0], pool.held
        for _ in range(calls):
            w, _ = step(w, x)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 30_000 + 2 * w.size * w.dtype.itemsize
    assert pool.held <= held + w.size * w.dtype.itemsize


# ---------------------------------------------------------------------- the pool
COUNTING = """
declare void @funtorch_parallel(ptr, ptr, i64, i64, i32)
define internal void @count(ptr %cells, i64 %lo, i64 %hi) {
entry:
  br label %loop
loop:
  %k = phi i64 [ %lo, %entry ], [ %next, %loop ]
  %cell = getelementptr i32, ptr %cells, i64 %k
  %before = atomicrmw add ptr %cell, i32 1 monotonic
  %next = add i64 %k, 1
  %more = icmp slt i64 %next, %hi
  br i1 %more, label %loop, label %done
done:
  ret void
}
define i64 @program(ptr %cells, i64 %parts, i64 %grain, i32 %threads, i64 %times) nounwind #0 {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  call void @funtorch_parallel(ptr @count, ptr %cells, i64 %parts, i64 %grain, i32 %threads)
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %times
  br i1 %more, label %loop, label %done
done:
  ret i64 %j
}
"""


@pytest.fixture(scope="module")
def counting():
    """Return a function that adds 1 to cells in so many parallel regions."""
    (address,), library = load(object_code(COUNTING), ["program"], ["funtorch_parallel"])
    i64 = ctypes.c_int64
    native = ctypes.CFUNCTYPE(i64, ctypes.c_void_p, i64, i64, ctypes.c_int32, i64)(address)

    def run(parts, grain, threads, times):
        cells = np.zeros(parts, np.int32)
        native(cells.ctypes.data, parts, grain, threads, times)
        return cells

    run.code = library
    return run


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("parts", "grain"), [(1, 1), (7, 1), (100, 9), (64, 64), (3, 100)])
def test_a_region_does_every_part_once(counting, parts, grain, threads):
    assert (counting(parts, grain, threads, 3000) == 3000).all()


def test_regions_of_several_callers_at_once(counting):
    with ThreadPoolExecutor(4) as callers:
        found = callers.map(lambda k: counting(10 + k, 1, 2 + k % 3, 5000), range(12))
        assert all((cells == 5000).all() for cells in found)


def test_a_region_after_the_workers_slept(counting):
    for _ in range(5):
        time.sleep(0.01)
        assert (counting(50, 1, 3, 20) == 20).all()


def test_workers_do_not_spin_when_there_is_nothing_to_do(counting):
    counting(50, 1, 4, 100)
    time.sleep(0.02)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


def test_threads_must_be_a_number_from_one_on():
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="whole number from 1 on"), ft.threads(wrong):
            pass
    with ft.threads(3):
        assert thread_count() == 3
        with ft.threads(None):
            assert thread_count() == default_threads()


def test_a_new_number_of_threads_compiles_nothing_again():
    traced = []
    f = ft.jit(lambda x: traced.append(1) or fnp.tanh(x) * 2)
    x = fnp.linspace(-1, 1, 1 << 20)
    want = np.asarray(f(x))
    for n in (1, 2, 3):
        with ft.threads(n):
            np.testing.assert_array_equal(f(x), want)
    assert len(traced) == 1


def test_an_interrupt_during_a_native_loop_is_raised_when_it_returns():
    code = """
import signal, threading, time
import funtorch as ft, funtorch.numpy as fnp
step = lambda c: (c[0] + 1, fnp.sin(c[1]))
f = ft.jit(lambda n: ft.lax.while_loop(lambda c: c[0] < n, step, (0, 1.0)))
f(10)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
try:
    threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
    f(5_000_000)
    time.sleep(20)
except KeyboardInterrupt:
    print("interrupted", int(f(5)[0]))
"""
    assert run(code) == ["interrupted", "5"]


def test_other_python_threads_run_during_a_native_loop():
    f = ft.jit(
        lambda n: ft.lax.while_loop(
            lambda c: c[0] < n, lambda c: (c[0] + 1, fnp.sin(c[1])), (0, 1.0)
        )
    )
    f(10)
    ticks = []
    done = threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(1)
            time.sleep(0.001)

    clock = threading.Thread(target=tick)
    clock.start()
    try:
        before = len(ticks)
        f(3_000_000)
        assert len(ticks) - before > 3
    finally:
        done.set()
        clock.join()


def test_running_out_of_memory_names_the_largest_arrays():
    f = ft.jit(lambda x: fnp.sort(x[:, None] * x)[0] + fnp.zeros((1 << 40,))[:1])
    with pytest.raises(MemoryError, match=r"f32\[\d+.*test_runtime"):
        f(fnp.ones(1 << 20))


def test_a_program_may_run_in_a_thread_while_another_is_staged():
    inner = ft.jit(lambda x: fnp.sin(x) * 2)
    one = np.float32(1)

    @ft.jit
    def outer(x):
        with ThreadPoolExecutor(1) as threads:
            known = threads.submit(lambda: float(inner(one))).result()
        return inner(x) + known

    assert np.allclose(outer(one), 4 * np.sin(1))


def test_what_a_native_function_is_made_of_is_freed_after_it():
    """The garbage collector clears the objects of a cycle in any order, and freeing a built-in
    function reads its PyMethodDef: that memory must be nothing that can be cleared."""
    function = _builtin(1)  # never called
    assert type(function.__self__) is bytes
    assert not gc.is_tracked(function.__self__)
    cycle = [function]
    cycle.append(cycle)
    del cycle, function
    assert gc.collect() > 0
