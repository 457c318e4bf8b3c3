"""The only file that asks the GPU for anything: memory, launches, copies, products, graphs.

It speaks to CuPy's documented interface, and to cuBLAS through ctypes: CuPy's own calls of that
library refuse to be captured into graphs.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from funtorch import hardware
from funtorch.hardware import Device

from . import nvrtc
from .gemm import Gemm
from .program import LaunchPlan

__all__ = ["Driver", "driver_of", "find_cudnn", "load_blas"]

Kernel = Callable[[Sequence[int]], None]

_WORKSPACE = 32 << 20  # bytes that cuBLAS may use; what it needs on the newest GPUs
_KINDS = {"float32": 0, "float64": 1, "float16": 2, "int8": 3, "complex64": 4, "complex128": 5,
          "int32": 10, "bfloat16": 14}  # fmt: skip
"""CUDA_R_32F and so on: cudaDataType_t by dtype."""
_SUMS = {"float64": (70, np.float64), "complex128": (70, np.complex128),
         "complex64": (68, np.complex64), "int32": (72, np.int32)}  # fmt: skip
"""CUBLAS_COMPUTE_64F, _32F, _32I: in what products are added up, and dtypes of their factors."""
_COMPUTE_32F, _COMPUTE_32F_FAST_TF32 = 68, 77
_DEFAULT_ALGORITHM, _FULL_SUMS = -1, 16  # CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION


class Driver:
    """One GPU."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.cupy = hardware.cupy()
        cuda = self.cupy.cuda
        with cuda.Device(device.id) as found:
            self.arch = f"sm_{found.compute_capability}"
            self.capturing = cuda.Stream(non_blocking=True)
        self.runtime = cuda.runtime
        self.stream: Any = None  # while work is captured: the stream that it goes to
        self.lock = threading.RLock()  # one thread at a time, or it would be captured as well

    # ---------------------------------------------------------------- memory
    @property
    def current(self) -> Any:
        """The stream that work goes to."""
        return self.stream or self.cupy.cuda.get_current_stream()

    def here(self) -> Any:
        """Return the context in which the GPU is the current one."""
        return self.cupy.cuda.Device(self.device.id)

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> Any:
        """Return an uninitialised array, from CuPy's pool of memory."""
        return self.cupy.empty(tuple(shape), dtype)

    def room(self, count: int) -> Any:
        """Return uninitialised memory."""
        return self.cupy.empty((max(count, 1),), np.dtype(np.uint8))

    def upload(self, data: bytes) -> Any:
        """Return bytes in the GPU's memory."""
        return self.cupy.asarray(np.frombuffer(data or bytes(1), np.uint8))

    def array(self, address: int, shape: tuple[int, ...], dtype: np.dtype, owner: Any) -> Any:
        """Return memory that ``owner`` keeps as an array."""
        cuda = self.cupy.cuda
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        memory = cuda.UnownedMemory(address, size, owner, self.device.id)
        return self.cupy.ndarray(shape, dtype, cuda.MemoryPointer(memory, 0))

    def read(self, address: int, dtype: np.dtype) -> Any:
        """Return one element, when all work before is done."""
        held = np.empty((), dtype)
        kind = self.runtime.memcpyDeviceToHost
        stream = self.current
        self.runtime.memcpyAsync(held.ctypes.data, address, held.nbytes, kind, stream.ptr)
        stream.synchronize()
        return held[()]

    # ---------------------------------------------------------------- work
    def copy(self, target: int, source: int, count: int) -> None:
        """Copy bytes within the GPU's memory."""
        kind = self.runtime.memcpyDeviceToDevice
        self.runtime.memcpyAsync(target, source, count, kind, self.current.ptr)

    def clear(self, target: int, count: int) -> None:
        """Fill memory with zeros."""
        self.runtime.memsetAsync(target, 0, count, self.current.ptr)

    def kernels(self, plan: LaunchPlan, text: str) -> list[Kernel]:
        """Load a program's kernels; return what launches each of its codes on addresses."""
        if not any(code.launches for code in plan.codes):
            return [lambda addresses: None for _ in plan.codes]
        module = self.cupy.cuda.Module()
        module.load(nvrtc.compile_cubin(text, self.arch))
        return [self._kernel(module, code.launches) for code in plan.codes]

    def _kernel(self, module: Any, launches: Sequence[Any]) -> Kernel:
        found = [
            (module.get_function(one.name), one.grid, (one.block, 1, 1), one.shared)
            for one in launches
        ]

        def launch(addresses: Sequence[int]) -> None:
            given, stream = tuple(addresses), self.current
            for function, grid, block, shared in found:
                function(grid, block, given, shared_mem=shared, stream=stream)

        return launch

    def product(self, gemm: Gemm) -> Callable[[int, int, int], None]:
        """Return what makes products of matrices of three addresses: a, b and their product."""
        blas = _blas(self.device)
        kind, made = _KINDS[gemm.dtype.name], _KINDS[gemm.made.name]
        compute, factor = _SUMS.get(gemm.made.name, (_COMPUTE_32F, np.float32))
        compute = _COMPUTE_32F_FAST_TF32 if gemm.tf32 else compute
        one, zero = (np.array(x, factor) for x in (1, 0))
        a, b, c = gemm.strides

        def run(left: int, right: int, out: int) -> None:
            blas.gemm(
                self.current, gemm.turned_b, gemm.turned_a, gemm.n, gemm.m, gemm.k,
                one, (right, kind, gemm.ldb, b), (left, kind, gemm.lda, a), zero,
                (out, made, gemm.ldc, c), gemm.batch, compute,
            )  # fmt: skip

        return run

    def synchronize(self) -> None:
        """Wait until all work is done."""
        self.current.synchronize()

    # ---------------------------------------------------------------- graphs
    @contextlib.contextmanager
    def captured(self) -> Iterator[list[Any]]:
        """Write the work of a block down instead of doing it; the list then has the graph.

        Nothing may be allocated meanwhile: what is captured has run before.
        """
        found: list[Any] = []
        with self.capturing:
            self.capturing.begin_capture()
            self.stream = self.capturing
            try:
                yield found
            finally:
                self.stream = None
                found.append(self.capturing.end_capture())

    def replay(self, graph: Any) -> None:
        """Do the work of a graph."""
        graph.launch(stream=self.current)


@functools.cache
def driver_of(device: Device) -> Driver:
    """Return the driver of a GPU, the same each time."""
    return Driver(device)


# ---------------------------------------------------------------------------------------- cuBLAS
_STATUS = {1: "not initialised", 3: "out of memory", 7: "an argument is wrong",
           8: "the GPU cannot do that", 11: "access failed", 13: "execution failed",
           14: "internal error", 15: "not supported"}  # fmt: skip
_NAMES = ("libcublas.so.{}", "cublas64_{}.dll")  # by the major version of CUDA


class Blas:
    """cuBLAS on one GPU, with workspace of its own, so that nothing is allocated in a capture."""

    def __init__(self, device: Device, library: Any) -> None:
        self.library = library
        for name, kinds in _SIGNATURES.items():
            getattr(library, name).argtypes = kinds
        self.handle = ctypes.c_void_p()
        xp = hardware.cupy()
        with xp.cuda.Device(device.id):
            self.check(library.cublasCreate_v2(ctypes.byref(self.handle)))
            self.check(library.cublasSetMathMode(self.handle, _FULL_SUMS))
            self.workspace = xp.empty((_WORKSPACE,), np.dtype(np.uint8))

    def check(self, status: int) -> None:
        """Raise an error where the library reports one."""
        if status:
            raise RuntimeError(f"cuBLAS: {_STATUS.get(status, f'status {status}')}")

    def gemm(
        self,
        stream: Any,
        turned_left: bool,
        turned_right: bool,
        m: int,
        n: int,
        k: int,
        alpha: np.ndarray,
        left: tuple[int, int, int, int],
        right: tuple[int, int, int, int],
        beta: np.ndarray,
        out: tuple[int, int, int, int],
        batch: int,
        compute: int,
    ) -> None:
        """Make products, column by column; arrays are (address, type, leading size, stride)."""
        library, handle = self.library, self.handle
        self.check(library.cublasSetStream_v2(handle, stream.ptr))
        # Setting the stream takes the workspace away.
        address = self.workspace.data.ptr
        self.check(library.cublasSetWorkspace_v2(handle, address, _WORKSPACE))
        self.check(
            library.cublasGemmStridedBatchedEx(
                handle,
                int(turned_left),
                int(turned_right),
                m,
                n,
                k,
                alpha.ctypes.data,
                *left,
                *right,
                beta.ctypes.data,
                *out,
                batch,
                compute,
                _DEFAULT_ALGORITHM,
            )
        )


_P, _I, _L, _Z = ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong, ctypes.c_size_t
_SIGNATURES = {
    "cublasCreate_v2": (ctypes.POINTER(ctypes.c_void_p),),
    "cublasSetMathMode": (_P, _I),
    "cublasSetStream_v2": (_P, _P),
    "cublasSetWorkspace_v2": (_P, _P, _Z),
    "cublasGemmStridedBatchedEx": (
        *(_P, _I, _I, _I, _I, _I, _P), *(_P, _I, _I, _L) * 2, _P, *(_P, _I, _I, _L), _I, _I, _I
    ),
}  # fmt: skip


def load_blas() -> Any:
    """Return the library cuBLAS.

    Raises:
        RuntimeError: it is not there; it says what brings it.
    """
    wheels = importlib.util.find_spec("nvidia.cublas")
    folders = list(wheels.submodule_search_locations or ()) if wheels else []
    names = [name.format(major) for major in hardware.cuda_majors() for name in _NAMES]
    for name in (*names, *(os.path.join(f, "lib", name) for f in folders for name in names)):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise RuntimeError(
        "cuBLAS is not there: pip install nvidia-cublas-cu12 (or cupy-cuda12x[ctk]) brings it"
    )


def find_cudnn() -> str | None:
    """Return the name under which cuDNN loads, None where it is not there."""
    for name in ("libcudnn.so.9", "libcudnn.so", "cudnn64_9.dll"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    return None


@functools.cache
def _blas(device: Device) -> Blas:
    hardware.cupy().cuda.get_cublas_handle()  # CuPy knows where the library lies, and loads it
    return Blas(device, load_blas())
