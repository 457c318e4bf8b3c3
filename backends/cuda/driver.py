"""What asks the GPU for anything: memory, launches, copies, products, graphs.

It speaks to CuPy's documented interface, and to cuBLAS through `libraries`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from funtorch import hardware
from funtorch.hardware import Device

from . import nvrtc
from .attending import Attending
from .conditional import Conditional
from .convolutions import Convolution
from .cudnn import cudnn_of
from .gemm import Gemm
from .instructions import LaunchPlan
from .libraries import KINDS, blas_of

__all__ = ["Driver", "driver_of"]

Kernel = Callable[[Sequence[int]], None]

_SUMS = {"float64": (70, np.float64), "complex128": (70, np.complex128),
         "complex64": (68, np.complex64), "int32": (72, np.int32)}  # fmt: skip
"""CUBLAS_COMPUTE_64F, _32F, _32I: in what products are added up, and dtypes of their factors."""
_COMPUTE_32F, _COMPUTE_32F_FAST_TF32 = 68, 77
_DEFAULT_ALGORITHM = -1


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
        self.only = contextlib.nullcontext() if len(hardware.gpus()) == 1 else None
        self.stream: Any = None  # while work is captured: the stream that it goes to
        self.last: Any = None  # the stream of the last run
        self.uncaptured = ""  # why nothing is captured any more
        self.lock = threading.RLock()  # one thread at a time, or it would be captured as well

    # ---------------------------------------------------------------- memory
    @property
    def current(self) -> Any:
        """The stream that work goes to."""
        return self.stream or self.cupy.cuda.get_current_stream()

    def follow(self) -> None:
        """Let the current stream wait for the one that programs were given to before.

        All of them share constants, kept results, and the workspace of cuBLAS.
        """
        stream, last = self.cupy.cuda.get_current_stream(), self.last
        if last is not None and last.ptr != stream.ptr:
            if not (stream.ptr and stream.is_capturing()):  # the default one cannot be
                stream.wait_event(last.record())
        self.last = stream

    def here(self) -> Any:
        """Return the context in which the GPU is the current one."""
        return self.only or self.cupy.cuda.Device(self.device.id)

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

    def kernels(self, plan: LaunchPlan, text: str) -> list[tuple[Kernel, Kernel]]:
        """Load a program's kernels; return what launches each of its codes on addresses, and what
        launches its preparations for a library."""
        if not any(code.launches for code in plan.codes):
            return [(lambda addresses: None,) * 2 for _ in plan.codes]
        module, code = self.cupy.cuda.Module(), nvrtc.compile_cubin(text, self.arch)
        try:
            module.load(code)
        except RuntimeError as error:
            versions = ", ".join(hardware.cuda_versions())
            raise RuntimeError(
                f"the driver does not load what NVRTC made for {self.arch}: {error} ({versions}); "
                "an NVRTC of the driver's version of CUDA makes what it loads, as "
                "nvidia-cuda-nvrtc-cu12 does for drivers of CUDA 12"
            ) from error
        return [
            (self._kernel(module, code.launches), self._kernel(module, code.prepared))
            for code in plan.codes
        ]

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
        blas = blas_of(self.device)
        kind, made = KINDS[gemm.dtype.name], KINDS[gemm.made.name]
        compute, factor = _SUMS.get(gemm.made.name, (_COMPUTE_32F, np.float32))
        compute = _COMPUTE_32F_FAST_TF32 if gemm.tf32 else compute
        one, zero = (np.array(x, factor) for x in (1, 0))
        a, b, c = gemm.strides
        turned = int(gemm.turned_b), int(gemm.turned_a)

        def run(left: int, right: int, out: int) -> None:
            with blas.lock:
                blas.on(self.current).call(
                    "cublasGemmStridedBatchedEx", *turned, gemm.n, gemm.m, gemm.k, one.ctypes.data,
                    right, kind, gemm.ldb, b, left, kind, gemm.lda, a, zero.ctypes.data,
                    out, made, gemm.ldc, c, gemm.batch, compute, _DEFAULT_ALGORITHM,
                )  # fmt: skip

        return run

    def asked(self, spec: Convolution | Attending) -> Callable[[Sequence[int]], None] | None:
        """Return what does something on a launch's addresses; None where no library does it."""
        library = cudnn_of(self.device)
        run = None if library is None else library.plan(spec)
        return None if run is None else lambda addresses: run(self.current, addresses)

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
        with self.capturing_to():
            self.capturing.begin_capture()
            try:
                yield found
            except BaseException:
                with contextlib.suppress(RuntimeError):  # that of what could not be captured
                    self.capturing.end_capture()
                raise
            found.append(self.capturing.end_capture())

    def give_up(self, error: RuntimeError) -> None:
        """Capture nothing any more, and say so."""
        self.uncaptured = str(error) or type(error).__name__
        warnings.warn(
            f"work on {self.device} cannot be captured into graphs ({self.uncaptured}); it is "
            "asked for piece by piece from now on, which takes the host longer",
            RuntimeWarning,
            stacklevel=2,
        )

    @contextlib.contextmanager
    def capturing_to(self) -> Iterator[None]:
        """Let work go to the stream that is captured, while the caller captures it."""
        with self.capturing:
            self.stream = self.capturing
            try:
                yield
            finally:
                self.stream = None

    @functools.cached_property
    def conditional(self) -> Conditional | str:
        """Conditional nodes of graphs; or why there are none, as a trial on this GPU found."""
        if os.environ.get("FUNTORCH_CUDA_CONDITIONAL", "").strip() == "0":
            return "FUNTORCH_CUDA_CONDITIONAL=0 says so"
        try:
            with self.lock, self.here():
                made = Conditional(self)
                made.self_test()
        except Exception as error:  # whatever is wrong with them, programs do without
            return str(error) or type(error).__name__
        return made

    def replay(self, graph: Any) -> None:
        """Do the work of a graph."""
        graph.launch()  # on the current stream


@functools.cache
def driver_of(device: Device) -> Driver:
    """Return the driver of a GPU, the same each time."""
    return Driver(device)
