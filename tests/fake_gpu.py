"""What a test of whole programs needs of a GPU: kernels that run on the CPU, and cuBLAS."""

import ctypes
import functools
from typing import ClassVar

import cuda_shim
import numpy as np
import pytest
from fake_cupy import BF16, cuda, memory_at, namespace

from funtorch import hardware
from funtorch.backends.cuda import driver, nvrtc


def shim_kernels(text, function, grid, block, shared, args):
    """Run a kernel's text on the CPU."""
    regions = [cuda.region(int(a)) for a in args]
    threads = int(np.prod(block))
    _module(text).launch(
        function.name, grid, threads, shared, regions[:-1], regions[-1], begins=False
    )


_module = functools.cache(cuda_shim.Module)


def tf32(x):
    """Round float32 numbers to 10 bits after the point, as tensor cores do."""
    bits = np.ascontiguousarray(x).view(np.uint32) + 0x1000
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


class FakeBlas:
    """cuBLAS: products of matrices that lie column by column in memory, through NumPy."""

    # cudaDataType_t of library_types.h, CUDA 12.9 (CUDA_R_32F, _64F, _16F, _8I, CUDA_C_32F, ...)
    DTYPES: ClassVar = {0: np.dtype("f4"), 1: np.dtype("f8"), 2: np.dtype("f2"), 14: BF16,
              4: np.dtype("c8"), 5: np.dtype("c16"), 3: np.dtype("i1"),
              10: np.dtype("i4")}  # fmt: skip
    # cublasComputeType_t of cublas_api.h 12.9, and the types of A and B, C, alpha and beta that
    # the table of cublasGemmEx in cuBLAS's documentation has for it
    COMPUTE: ClassVar = {
        (68, 0, 0): "f4", (77, 0, 0): "f4", (70, 1, 1): "f8", (68, 2, 2): "f4", (68, 2, 0): "f4",
        (68, 14, 14): "f4", (68, 14, 0): "f4", (68, 4, 4): "c8", (70, 5, 5): "c16",
        (72, 3, 10): "i4",
    }  # fmt: skip

    def __init__(self):
        names = (
            "cublasCreate_v2", "cublasSetMathMode", "cublasSetStream_v2", "cublasSetWorkspace_v2"
        )  # fmt: skip
        for name in names:
            setattr(self, name, self._call(getattr(self, f"_{name}")))
        self.cublasGemmStridedBatchedEx = self._call(self._gemm)
        self.stream, self.workspace = None, None

    def _call(self, method):
        def function(*args):
            assert len(args) == len(function.argtypes)
            values = []
            for x, kind in zip(args, function.argtypes, strict=True):
                if kind in (ctypes.c_int, ctypes.c_longlong, ctypes.c_size_t):
                    assert kind(x).value == x, (method, x)
                values.append(x)
            return method(*values)

        return function

    def _cublasCreate_v2(self, handle):
        handle._obj.value = 77
        return 0

    def _cublasSetMathMode(self, handle, mode):
        assert mode == 16  # CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION
        return 0

    def _cublasSetStream_v2(self, handle, stream):
        self.stream, self.workspace = stream, None
        return 0

    def _cublasSetWorkspace_v2(self, handle, address, size):
        assert address % 256 == 0
        assert cuda.region(address)[1] >= size
        self.workspace = address
        return 0

    def _matrices(self, address, kind, ld, stride, rows, columns, batch):
        dtype = self.DTYPES[kind]
        assert ld >= max(rows, 1), "a leading dimension is less than the rows of a column"
        extent = (batch - 1) * stride + (columns - 1) * ld + rows
        assert cuda.region(address)[1] >= extent * dtype.itemsize, "cuBLAS out of bounds"
        flat = np.ndarray((extent,), dtype, memory_at(address, extent * dtype.itemsize))
        steps = tuple(s * dtype.itemsize for s in (stride, 1, ld))
        return np.lib.stride_tricks.as_strided(flat, (batch, rows, columns), steps)

    def _gemm(self, handle, ta, tb, m, n, k, alpha, a, ka, lda, sa, b, kb, ldb, sb, beta, c, kc,
              ldc, sc, batch, compute, algorithm):  # fmt: skip
        assert self.workspace is not None, "cuBLAS would allocate a workspace"
        assert ta in (0, 1)
        assert tb in (0, 1)
        assert algorithm == -1
        assert ka == kb
        factor = np.dtype(self.COMPUTE[compute, ka, kc])
        one, zero = (np.ctypeslib.as_array((ctypes.c_uint8 * factor.itemsize).from_address(x))
                     .view(factor)[0] for x in (alpha, beta))  # fmt: skip
        assert (one, zero) == (1, 0)
        if ka == 3:
            assert not any(n % 4 for n in (lda, ldb, a, b, sa, sb, m, n, k))

        def run():
            left = self._matrices(a, ka, lda, sa, *((k, m) if ta else (m, k)), batch)
            right = self._matrices(b, kb, ldb, sb, *((n, k) if tb else (k, n)), batch)
            out = self._matrices(c, kc, ldc, sc, m, n, batch)
            left, right = (x.astype(factor) for x in (left, right))
            if compute == 77:
                left, right = (tf32(x) for x in (left, right))
            left = left.transpose(0, 2, 1) if ta else left
            right = right.transpose(0, 2, 1) if tb else right
            with np.errstate(all="ignore"):
                out[...] = np.matmul(left, right)

        cuda._do(("gemm", batch, m, n, k, compute, ka, kc), run, self.stream)
        return 0


@pytest.fixture
def cupy(monkeypatch):
    """Let the fake GPUs be there for a test: two of them."""
    monkeypatch.setattr(hardware, "_probe", lambda: (namespace, 2, ""))
    monkeypatch.setattr(cuda, "calls", [])
    monkeypatch.setattr(cuda, "run_kernels", shim_kernels)
    monkeypatch.setattr(nvrtc, "compile_cubin", lambda text, arch: text.encode())
    blas = FakeBlas()
    monkeypatch.setattr(driver, "load_blas", lambda: blas)
    caches = hardware._kind, driver.driver_of, driver._blas
    for cached in caches:
        cached.cache_clear()
    yield namespace
    for cached in caches:
        cached.cache_clear()
    assert not cuda._capturing
    assert not cuda._devices
    assert not cuda._streams
