"""Loops and branches that the GPU decides about: graphs with conditional nodes, on the stand-in."""

import ctypes
import gc

import cuda_shim
import fake_cuda
import numpy as np
import pytest
from fake_cupy import cuda
from gpu_programs import LOOPS, assert_same, normal
from test_cuda_kernels import needs_nvrtc

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.backends.cuda import conditional, nvrtc
from funtorch.backends.cuda.driver import driver_of

pytestmark = pytest.mark.skipif(not cuda_shim.have_compiler(), reason="there is no g++")

# What comes back to the host for other reasons than to decide.
DECIDED = [n for n in LOOPS if n not in ("scan", "scan's gradient", "transforms", "matrices")]
DECIDED.remove("an update in place")


def collatz(n):
    """Loops inside of a loop, with branches inside."""

    def turn(c):
        k, longest, best = c

        def step(d):
            m = lax.cond(d[0] % 2 == 0, lambda m: m // 2, lambda m: 3 * m + 1, d[0])
            return m, d[1] + 1

        _, steps = lax.while_loop(lambda d: d[0] > 1, step, (k, 0))
        return k + 1, fnp.maximum(longest, steps), fnp.where(steps > longest, k, best)

    return lax.while_loop(lambda c: c[0] < n, turn, (fnp.int32(1), 0, 0))


def swaps(x, y):
    """Carries that take each other's place, in a scan whose steps end when the data says."""

    def inner(a, b):
        return lax.while_loop(lambda c: c[0].sum() < 40, lambda c: (c[1] + 1, c[0] * 2), (a, b))

    return lax.scan(lambda c, _: (inner(*c), c[0].sum()), (x, y), None, length=3)


PROGRAMS = {n: LOOPS[n] for n in DECIDED}
PROGRAMS["collatz"] = (collatz, np.int32(12))
PROGRAMS["swaps"] = (swaps, np.abs(normal(3)), np.abs(normal(3, seed=2)))
PROGRAMS["no turn"] = (
    lambda x: lax.while_loop(lambda c: c.sum() < 0, lambda c: c + 1, x), np.abs(normal(4))
)  # fmt: skip
PROGRAMS["a branch that is not there"] = (
    lambda i, x: (
        [lax.switch(i + k, [lambda x: x + 1, lambda x: x * 3], x) for k in (-9, 0, 1, 7)]
    ), np.int32(0), normal(4),
)  # fmt: skip


def run_often(name):
    """Run a program plainly, as new graphs, and as those; return what the last run asked for."""
    f, *args = PROGRAMS[name]
    want, jitted, there = ft.jit(f)(*args), ft.jit(f), ft.device_put(tuple(args), "cuda:0")
    for _ in range(6):  # results take turns in two places
        cuda.calls.clear()
        got = jitted(*there)
        assert_same(got, want)
        asked = [c[0] for c in cuda.calls]
        del got  # so that the next run has the same memory
    return [a for a in asked if a not in ("alloc", "get", "set")]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_gpu_decides(cupy, name):
    assert run_often(name) == ["graph"]


@pytest.mark.parametrize("name", ["while", "cond", "collatz", "swaps"])
def test_the_host_decides_where_there_are_none(cupy, monkeypatch, name):
    monkeypatch.setenv("FUNTORCH_CUDA_CONDITIONAL", "0")
    asked = run_often(name)
    assert "synchronize" in asked
    assert driver_of(ft.devices("cuda")[0]).conditional == "FUNTORCH_CUDA_CONDITIONAL=0 says so"


def test_other_inputs_go_other_ways(cupy):
    def f(x):
        x = lax.while_loop(lambda c: c.sum() < 50, lambda c: c * 2, x)
        return lax.cond(x[0] > 20, lambda x: x - 1, lambda x: -x, x)

    jitted = ft.jit(f)
    for scale in (1, 9, 0.01, 77, 3, 0.5):
        x = np.abs(normal(3)) * np.float32(scale)
        there = ft.device_put(x, "cuda:0")
        np.testing.assert_allclose(np.asarray(jitted(there)), np.asarray(ft.jit(f)(x)), rtol=1e-5)


def found(monkeypatch):
    driver_of.cache_clear()
    return driver_of(ft.devices("cuda")[0]).conditional


def test_a_trial_says_whether_they_work(cupy, monkeypatch):
    assert isinstance(found(monkeypatch), conditional.Conditional)
    monkeypatch.setattr(cupy.cuda.runtime, "driverGetVersion", lambda: 12020, raising=False)
    assert found(monkeypatch) == (
        "the driver is for CUDA 12.2; conditional nodes came with 12.4"
    )  # fmt: skip
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("kernel", "that were tried counted to"),
        ("library", "libcuda.so.1 is not there"),
        ("function", r"cuGraphAddNode: CUDA_ERROR_NOT_SUPPORTED (801)"),
        ("compiler", "no NVRTC"),
    ],
)
def test_what_does_not_work_is_done_without(cupy, monkeypatch, what, why):
    def absent(*args):
        raise OSError("libcuda.so.1 is not there")

    def uncompiled(text):
        raise nvrtc.NvrtcError("no NVRTC")

    def stays(name, args, run=fake_cuda.run):
        run(name, args if name != "count_to" else (*args[:2], 2))

    if what == "kernel":
        monkeypatch.setattr(fake_cuda, "run", stays)
    if what == "library":
        monkeypatch.setattr(conditional, "load_cuda", absent)
    if what == "function":
        monkeypatch.setattr(fake_cuda.FakeCuda, "_cuGraphAddNode", lambda *args: 801)
    if what == "compiler":
        monkeypatch.setattr(nvrtc, "compile_ptx", uncompiled)
    asked = run_often("while")
    assert "synchronize" in asked
    assert why in driver_of(ft.devices("cuda")[0]).conditional


def test_a_program_whose_graph_cannot_be_made_is_done_without(cupy, monkeypatch):
    driver = driver_of(ft.devices("cuda")[0])
    assert isinstance(driver.conditional, conditional.Conditional)
    monkeypatch.setattr(fake_cuda.FakeCuda, "_cuGraphAddNode", lambda *args: 1)
    driver.conditional.library.cuGraphAddNode.method = lambda *args: 1
    assert "synchronize" in run_often("while")
    assert driver.conditional == (
        "a program's graph could not be made: cuGraphAddNode: CUDA_ERROR_INVALID_VALUE (1)"
    )


def test_parameters_of_nodes_lie_as_in_the_header():
    """cuda.h of CUDA 12.9: an int, three more, a union of 29 long longs, a long long."""
    params = conditional.NodeParams
    assert ctypes.sizeof(params) == 16 + 29 * 8 + 8
    assert params.inside.offset == 16
    assert params.reserved2.offset == 248
    inside = type(params().conditional)
    places = {n: getattr(inside, n).offset for n, _ in inside._fields_}
    assert places == {"handle": 0, "type": 8, "size": 12, "graphs": 16, "context": 24}


@needs_nvrtc
def test_the_kernels_that_decide_are_for_the_driver_to_link():
    ptx = nvrtc.compile_ptx(conditional.TEXT).decode()
    assert ".extern .func cudaGraphSetConditional" in ptx
    assert "\n.version 7.0\n" in ptx
    assert "\n.target sm_75\n" in ptx
    for name in ("goes_on", "is_branch", "count_to"):
        assert f".visible .entry {name}(" in ptx


def test_graphs_are_given_back(cupy):
    before = len(fake_cuda._made)
    run_often("while")
    gc.collect()
    assert len(fake_cuda._made) <= before + 1  # that of the trial
