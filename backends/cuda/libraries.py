"""NVIDIA's libraries of matrix algebra through ctypes: cuBLAS and cuSOLVER.

Not through CuPy, whose calls of cuBLAS refuse to be captured into graphs, and whose factorisations
keep for themselves whether they failed. Matrices are column by column in memory; arguments of
functions are those of the libraries' headers, all of them numbers and addresses.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from funtorch import hardware
from funtorch.hardware import Device

__all__ = ["KINDS", "Blas", "Solver", "blas_of", "find_cudnn", "load", "prefix", "solver_of"]

KINDS = {"float32": 0, "float64": 1, "float16": 2, "int8": 3, "complex64": 4, "complex128": 5,
         "int32": 10, "bfloat16": 14}  # fmt: skip
"""CUDA_R_32F and so on: cudaDataType_t by dtype."""

_WORKSPACE = 32 << 20  # bytes that cuBLAS may use; what it needs on the newest GPUs
_FULL_SUMS = 16  # CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION
_LETTERS = {"float32": "S", "float64": "D", "complex64": "C", "complex128": "Z"}

_FILES = {
    "cublas": {12: ("libcublas.so.12", "cublas64_12.dll"),
               13: ("libcublas.so.13", "cublas64_13.dll")},
    "cusolver": {12: ("libcusolver.so.11", "cusolver64_11.dll"),
                 13: ("libcusolver.so.12", "cusolver64_12.dll")},
}  # fmt: skip
_TITLES = {"cublas": "cuBLAS", "cusolver": "cuSOLVER"}


def prefix(dtype: np.dtype) -> str:
    """Return the letter that functions' names have for a dtype."""
    return _LETTERS[dtype.name]


def load(name: str) -> Any:
    """Return a library: ``'cublas'`` or ``'cusolver'``.

    Raises:
        RuntimeError: it is not there; it says which wheel brings it.
    """
    majors = hardware.cuda_majors()
    files = [file for major in majors for file in _FILES[name][major]]
    folders = [f for part in (name, "cu13") for f in _wheel(part)]
    for file in (*files, *(os.path.join(f, "lib", file) for f in folders for file in files)):
        try:
            return ctypes.CDLL(file)
        except OSError:
            continue
    wheel = f"nvidia-{name}" + ("-cu12" if majors[0] == 12 else "")
    raise RuntimeError(
        f"{_TITLES[name]} ({files[0]}) is not there: pip install {wheel} (or "
        f"'cupy-cuda{majors[0]}x[ctk]') brings it"
    )


def _wheel(part: str) -> Sequence[str]:
    """Return the folders of one of NVIDIA's wheels."""
    if importlib.util.find_spec("nvidia") is None:
        return ()
    spec = importlib.util.find_spec(f"nvidia.{part}")
    return list(spec.submodule_search_locations or ()) if spec else ()


def find_cudnn() -> str | None:
    """Return the name under which cuDNN loads, None where it is not there."""
    for name in ("libcudnn.so.9", "libcudnn.so", "cudnn64_9.dll"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    return None


# ---------------------------------------------------------------------------------------- calling
_CODES = {"p": ctypes.c_void_p, "i": ctypes.c_int, "l": ctypes.c_longlong, "z": ctypes.c_size_t,
          "b": ctypes.c_byte}  # fmt: skip


class Library:
    """A library with a handle on one GPU."""

    title = ""
    create = ""
    signatures: ClassVar[dict[str, str]] = {}  # of each function; ? for s, d, c, z
    statuses: ClassVar[dict[int, str]] = {}

    def __init__(self, device: Device, library: Any) -> None:
        self.library = library
        self.functions: dict[str, Callable[..., int]] = {}
        self.handle = ctypes.c_void_p()
        with hardware.cupy().cuda.Device(device.id):
            self.check(self.create, self.function(self.create)(ctypes.byref(self.handle)))

    def function(self, name: str) -> Callable[..., int]:
        """Return a function, told what its arguments are."""
        if name not in self.functions:
            generic = name if name in self.signatures else _generic(name, self.signatures)
            found = getattr(self.library, name)
            found.argtypes = tuple(_CODES[c] for c in self.signatures[generic])
            self.functions[name] = found
        return self.functions[name]

    def check(self, name: str, status: int) -> None:
        """Raise an error where the library reports one."""
        if status:
            what = self.statuses.get(status, f"status {status}")
            raise RuntimeError(f"{self.title}: {name}: {what}")

    def call(self, name: str, *args: Any) -> None:
        """Call a function with the handle and these arguments."""
        self.check(name, self.function(name)(self.handle, *args))


def _generic(name: str, known: dict[str, str]) -> str:
    """Return the name of a function with ``?`` for the letter of its dtype."""
    return next(
        g for g in known if "?" in g and len(g) == len(name) and _fits(name, g)
    )  # fmt: skip


def _fits(name: str, generic: str) -> bool:
    return all(a == b or b == "?" for a, b in zip(name, generic, strict=True))


class Blas(Library):
    """cuBLAS, with workspace of its own, so that nothing is allocated in a capture."""

    title, create = "cuBLAS", "cublasCreate_v2"
    signatures: ClassVar = {
        "cublasCreate_v2": "p",
        "cublasSetMathMode": "pi",
        "cublasSetStream_v2": "pp",
        "cublasSetWorkspace_v2": "ppz",
        "cublasGemmStridedBatchedEx": "piiiiip" + "piil" * 2 + "p" + "piil" + "iii",
        "cublas?trsm_v2": "piiiiiippipi",
        "cublas?trsmBatched": "piiiiiippipii",
        "cublas?getrfBatched": "pipippi",
        "cublas?getrsBatched": "piiipippipi",
    }
    statuses: ClassVar = {1: "not initialised", 3: "out of memory", 7: "an argument is wrong",
                8: "the GPU cannot do that", 11: "access failed", 13: "execution failed",
                14: "internal error", 15: "not supported"}  # fmt: skip

    def __init__(self, device: Device, library: Any) -> None:
        super().__init__(device, library)
        xp = hardware.cupy()
        with xp.cuda.Device(device.id):
            self.call("cublasSetMathMode", _FULL_SUMS)
            self.workspace = xp.empty((_WORKSPACE,), np.dtype(np.uint8))
        self.lock = threading.RLock()  # a handle has one stream, a GPU one handle of each library

    def on(self, stream: Any) -> Blas:
        """Let what is called next go to a stream."""
        self.call("cublasSetStream_v2", stream.ptr)
        # A new stream takes the workspace away.
        self.call("cublasSetWorkspace_v2", self.workspace.data.ptr, _WORKSPACE)
        return self


class Solver(Library):
    """cuSOLVER's dense functions."""

    title, create = "cuSOLVER", "cusolverDnCreate"
    signatures: ClassVar = {
        "cusolverDnCreate": "p",
        "cusolverDnCreateParams": "p",
        "cusolverDnSetStream": "pp",
        "cusolverDnXpotrf_bufferSize": "ppilipl" + "i" + "pp",
        "cusolverDnXpotrf": "ppilipl" + "i" + "pzpz" + "p",
        "cusolverDnXgetrf_bufferSize": "ppllipl" + "i" + "pp",
        "cusolverDnXgetrf": "ppllipl" + "pi" + "pzpz" + "p",
        "cusolverDnXgetrs": "ppillipl" + "pipl" + "p",
        "cusolverDnXgeqrf_bufferSize": "ppllipl" + "ip" + "i" + "pp",
        "cusolverDnXgeqrf": "ppllipl" + "ip" + "i" + "pzpz" + "p",
        "cusolverDnXsyevd_bufferSize": "ppiilipl" + "ip" + "i" + "pp",
        "cusolverDnXsyevd": "ppiilipl" + "ip" + "i" + "pzpz" + "p",
        "cusolverDnXsyevBatched_bufferSize": "ppiilipl" + "ip" + "i" + "pp" + "l",
        "cusolverDnXsyevBatched": "ppiilipl" + "ip" + "i" + "pzpz" + "p" + "l",
        "cusolverDnXgesvd_bufferSize": "ppbbllipl" + "ip" + "ipl" * 2 + "i" + "pp",
        "cusolverDnXgesvd": "ppbbllipl" + "ip" + "ipl" * 2 + "i" + "pzpz" + "p",
        "cusolverDn?potrfBatched": "piipipi",
        "cusolverDn???gqr_bufferSize": "piiipipp",
        "cusolverDn???gqr": "piiipippip",
    }
    statuses: ClassVar = {1: "not initialised", 2: "out of memory", 3: "an argument is wrong",
                4: "the GPU cannot do that", 5: "access failed", 6: "execution failed",
                7: "internal error", 8: "this type of matrix is not supported",
                9: "not supported"}  # fmt: skip

    def __init__(self, device: Device, library: Any) -> None:
        super().__init__(device, library)
        self.params = ctypes.c_void_p()
        name = "cusolverDnCreateParams"
        self.check(name, self.function(name)(ctypes.byref(self.params)))

    def on(self, stream: Any) -> Solver:
        """Let what is called next go to a stream."""
        self.stream = stream
        self.call("cusolverDnSetStream", stream.ptr)
        return self

    def has(self, name: str) -> bool:
        """Tell whether the installed version has a function."""
        return hasattr(self.library, name)

    def generic(
        self, name: str, asked: Sequence[Any], given: Sequence[Any], end: Sequence[Any]
    ) -> None:
        """Call one of the functions for all dtypes, with the memory that it asks for.

        Args:
            name: without ``cusolverDn``.
            asked: arguments of its ``_bufferSize`` between the parameters and the sizes.
            given: arguments of itself between the parameters and the buffers.
            end: what follows the buffers, and the sizes too if it is more than one.
        """
        xp = hardware.cupy()
        device, host = ctypes.c_size_t(), ctypes.c_size_t()
        sizes = ctypes.byref(device), ctypes.byref(host)
        name = f"cusolverDn{name}"
        self.call(f"{name}_bufferSize", self.params, *asked, *sizes, *end[1:])
        there = xp.empty((max(device.value, 1),), np.dtype(np.uint8))
        here = np.empty((max(host.value, 1),), np.uint8)
        buffers = there.data.ptr, device.value, here.ctypes.data, host.value
        self.call(name, self.params, *given, *buffers, *end)
        if host.value:
            self.stream.synchronize()  # the library uses that memory until then


@functools.cache
def blas_of(device: Device) -> Blas:
    """Return cuBLAS on a GPU, the same each time."""
    hardware.cupy().cuda.get_cublas_handle()  # CuPy knows where the library lies, and loads it
    return Blas(device, load("cublas"))


@functools.cache
def solver_of(device: Device) -> Solver:
    """Return cuSOLVER on a GPU, the same each time."""
    blas_of(device)  # which it is linked to
    return Solver(device, load("cusolver"))
