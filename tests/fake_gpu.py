"""What a test of whole programs needs of a GPU: kernels that run on the CPU, and libraries."""

import functools

import cuda_shim
import fake_cuda
import numpy as np
import pytest
from fake_cupy import cuda, namespace
from fake_libraries import FakeBlas, FakeSolver

from funtorch import hardware
from funtorch.backends.cuda import conditional, driver, libraries, nvrtc


def shim_kernels(text, function, grid, block, shared, args):
    """Run a kernel's text on the CPU."""
    if text == conditional.TEXT:
        fake_cuda.run(function.name, args)
        return
    regions = [cuda.region(int(a)) for a in args]
    threads = int(np.prod(block))
    _module(text).launch(
        function.name, grid, threads, shared, regions[:-1], regions[-1], begins=False
    )


_module = functools.cache(cuda_shim.Module)


@pytest.fixture
def cupy(monkeypatch):
    """Let the fake GPUs be there for a test: two of them."""
    monkeypatch.setattr(hardware, "_probe", lambda: (namespace, 2, ""))
    monkeypatch.setattr(cuda, "calls", [])
    monkeypatch.setattr(cuda, "run_kernels", shim_kernels)
    monkeypatch.setattr(nvrtc, "compile_cubin", lambda text, arch: text.encode())
    monkeypatch.setattr(nvrtc, "compile_ptx", str.encode)
    monkeypatch.setattr(conditional, "load_cuda", fake_cuda.FakeCuda)
    there = {"cublas": FakeBlas(), "cusolver": FakeSolver()}
    monkeypatch.setattr(libraries, "load", there.__getitem__)
    caches = hardware._kind, driver.driver_of, libraries.blas_of, libraries.solver_of
    for cached in caches:
        cached.cache_clear()
    yield namespace
    for cached in caches:
        cached.cache_clear()
    assert not cuda._capturing
    assert not cuda._devices
    assert not cuda._streams
