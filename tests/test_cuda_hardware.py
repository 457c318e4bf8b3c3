"""What only hardware does to a program: streams, failing captures, other drivers, forks, GPUs.

The stand-in notes which event is recorded on which GPU's stream, and which stream waits for it.
"""

import gc
import os
import types
import warnings

import numpy as np
import pytest
from fake_cupy import Graph, Module, Stream, cuda
from gpu_programs import normal
from test_cuda_figures import instructions
from test_cuda_kernels import needs_gxx, needs_nvrtc

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import hardware, placement
from funtorch.__main__ import doctor
from funtorch.backends.cuda import nvrtc
from funtorch.backends.cuda.code import module_text
from funtorch.backends.cuda.driver import driver_of
from funtorch.backends.cuda.instructions import Run
from funtorch.backends.cuda.runtime import plan_for
from funtorch.transforms.simplify import simplify


def named(*kinds):
    return [c for c in cuda.calls if c[0] in kinds]


# ---------------------------------------------------------------------- which code a GPU gets
@needs_nvrtc
def test_gpus_that_came_after_nvrtc_get_ptx(monkeypatch):
    library = nvrtc.library()
    assert library.target("sm_90") == "sm_90"
    monkeypatch.setattr(library, "archs", frozenset({75, 80, 90}))
    assert library.target("sm_120") == "compute_90"
    assert library.target("sm_89") == "compute_80"
    with pytest.raises(nvrtc.NvrtcError, match="compiles for sm_75 and later, and this GPU is sm_"):
        library.target("sm_70")
    text = module_text([])
    assert nvrtc.compile_cubin(text, "sm_90")[:4] == b"\x7fELF"
    assert b".target sm_90" in nvrtc.compile_cubin(text, "sm_120")


@needs_nvrtc
def test_the_doctor_says_that_a_gpu_came_after_nvrtc(cupy, monkeypatch):
    monkeypatch.setattr(nvrtc.library(), "archs", frozenset({75, 80}))
    (found,) = [f for f in doctor() if f.what == "NVRTC"]
    assert found.advice.startswith("it does not know sm_90: the driver compiles its PTX")


def test_code_that_the_driver_does_not_load_says_what_to_install(cupy, monkeypatch):
    def load(self, code):
        raise RuntimeError("CUDA_ERROR_INVALID_IMAGE: device kernel image is invalid")

    monkeypatch.setattr(Module, "load", load)
    x = ft.device_put(normal(3), "cuda:0")
    with pytest.raises(RuntimeError, match=r"INVALID_IMAGE.*driver for CUDA 12.9.*nvidia-cuda-nvr"):
        ft.jit(lambda a: a + 1)(x)


@needs_nvrtc
@pytest.mark.parametrize(("dtype", "most"), [("float16", 12), ("bfloat16", 12), ("float32", 8)])
def test_16_bit_floats_are_converted_by_instructions(dtype, most):
    """At two bytes an element a formula of integers would take longer than the memory."""
    x = ft.ShapeDtypeStruct((1024, 1024), dtype)
    plan, _ = plan_for(simplify(ft.jit(lambda x: x * 1.5).lower(x)._program.jaxpr))
    ptx = nvrtc.library().assembly(module_text(plan.codes), "compute_90").decode()
    assert instructions(ptx) / (16 // np.dtype(x.dtype).itemsize) < most


# ---------------------------------------------------------------------- streams
@needs_gxx
def test_runs_on_another_stream_wait_for_those_before(cupy):
    """They share constants, kept results, and the workspace of cuBLAS."""
    f, x = ft.jit(lambda a: a @ a + 1), ft.device_put(normal(4, 4), "cuda:0")
    f(x)
    f(x)
    assert not named("record", "wait")
    with Stream(non_blocking=True) as other:
        f(x)
        assert named("record", "wait") == [
            ("record", (0, 0)), ("wait", (0, other.ptr), (0, 0))
        ]  # fmt: skip
        f(x)
        assert len(named("record", "wait")) == 2
    f(x)
    assert named("record", "wait")[2:] == [
        ("record", (0, other.ptr)), ("wait", (0, 0), (0, other.ptr))
    ]  # fmt: skip


def test_copies_between_gpus_wait_for_both(cupy):
    x = ft.device_put(np.arange(3.0), "cuda:0")
    cuda.calls.clear()
    y = x.to("cuda:1")
    assert y.device == "cuda:1"
    assert named("record", "wait") == [
        ("record", (0, 0)), ("wait", (1, 0), (0, 0)),  # what made it has ended
        ("record", (1, 0)), ("wait", (0, 0), (1, 0)),  # nobody writes there before it is read
    ]  # fmt: skip


def test_memory_of_copies_to_the_host_lives_until_they_end(cupy, monkeypatch):
    monkeypatch.setattr(placement, "_under_way", type(placement._under_way)())
    x = ft.device_put(np.arange(3.0), "cuda:0")
    x.copy_to_host_async()
    held = x._pending[0]
    del x
    gc.collect()
    assert placement._under_way[0][0] is held
    y = ft.device_put(np.arange(4.0), "cuda:0")
    y.copy_to_host_async()
    assert [len(copied) for copied, _ in placement._under_way] == [4]  # the first has ended


# ---------------------------------------------------------------------- captures
@needs_gxx
@pytest.mark.parametrize("when", ["while work is captured", "at the end", "at the launch"])
def test_what_cannot_be_captured_runs_piece_by_piece(cupy, monkeypatch, when):
    failed = RuntimeError("cudaErrorStreamCaptureUnsupported")
    f, x = ft.jit(lambda a: fnp.tanh(a @ a) @ a), normal(24, 24)
    want, there = np.asarray(f(x)), ft.device_put(x, "cuda:0")
    f(there)
    if when == "at the launch":

        def launch(self, stream=None):
            raise failed

        monkeypatch.setattr(Graph, "launch", launch)
        with pytest.raises(RuntimeError, match="Unsupported"):  # whatever it is, it is no capture
            f(there)
        return
    do, end = cuda._do, Stream.end_capture

    def refused(call, action, stream):
        if cuda._capturing and call[0] == "gemm":
            raise failed
        do(call, action, stream)

    def ended(self):
        end(self)
        raise failed

    if when == "at the end":
        monkeypatch.setattr(Stream, "end_capture", ended)
    else:
        monkeypatch.setattr(cuda, "_do", refused, raising=False)
    with pytest.warns(RuntimeWarning, match=r"on cuda:0 cannot be captured .*CaptureUnsupported"):
        got = f(there)
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-5)
    assert driver_of(ft.devices("cuda")[0]).uncaptured == "cudaErrorStreamCaptureUnsupported"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cuda.calls.clear()
        np.testing.assert_allclose(np.asarray(f(there)), want, rtol=1e-5)
    assert not named("begin_capture", "graph")


# ---------------------------------------------------------------------- memory
def test_results_in_an_inputs_memory_have_one_name():
    """Kernels are told that pointers do not meet: two names of one place would break that."""

    def step(w, g, m):
        m = 0.9 * m + g
        return w - 0.1 * m / (1 + fnp.abs(m).sum()), m

    args = [ft.ShapeDtypeStruct((8, 4), "float32")] * 3
    jaxpr = simplify(ft.jit(step).lower(*args)._program.jaxpr)
    plan, _ = plan_for(jaxpr, frozenset({0, 2}))
    assert plan.pairs
    shared = {plan.first_output + j for j, _ in plan.pairs}
    runs = [x for x in plan.instructions if isinstance(x, Run)]
    assert all(at.base not in shared for x in runs for at in x.args)
    assert all(len({*x.args}) == len(x.args) for x in runs)


@needs_gxx
def test_out_of_memory_while_inputs_are_copied_says_what_is_there(cupy, monkeypatch):
    f, x = ft.jit(lambda a: a * 2), ft.device_put(normal(301, 40), "cuda:0")
    apart, turned = x[:, 1:].reshape(-1)[1:], x.T
    f(apart), f(turned)
    monkeypatch.setattr(cuda, "limit", cuda.taken)
    with pytest.raises(MemoryError, match=r"(?s)Out of memory.*the program needs.*largest arrays"):
        f(apart)  # is not aligned
    with pytest.raises(MemoryError, match=r"(?s)jit: Out of memory.*largest arrays"):
        f(turned)


# ---------------------------------------------------------------------- processes
def test_forked_processes_know_of_no_gpu(cupy, monkeypatch):
    called = []
    monkeypatch.setattr(os, "register_at_fork", lambda **given: called.append(given))
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 1)
    module = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))
    monkeypatch.setattr(hardware.importlib.util, "find_spec", lambda name: "there")
    monkeypatch.setattr(hardware.importlib, "import_module", lambda name: module)
    monkeypatch.setattr(hardware, "_driver", lambda: True)
    assert PROBE() == (module, 1, "")
    (given,) = called
    given["after_in_child"]()
    assert hardware.gpus() == ()
    with pytest.raises(RuntimeError, match=r"device_put: .*forked from .*get_context\('spawn'\)"):
        ft.device_put(1.0, "cuda:0")


PROBE = hardware._probe.__wrapped__
