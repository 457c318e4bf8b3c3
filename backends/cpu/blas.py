"""Addresses of BLAS functions in the private OpenBLAS."""

from __future__ import annotations

import ctypes
import functools
import glob
import os

import numpy as np

__all__ = ["gemm_address", "threads_setter"]

_GEMM = {np.dtype("float32"): "scipy_cblas_sgemm", np.dtype("float64"): "scipy_cblas_dgemm"}


@functools.cache
def _library() -> ctypes.CDLL:
    import scipy_openblas32

    # The package's own loader gives a path only on some platforms, the folder on all.
    folder = scipy_openblas32.get_lib_dir()
    names = [
        p
        for p in glob.glob(os.path.join(folder, "*scipy_openblas*"))
        if p.endswith((".so", ".dylib", ".dll"))
    ]
    return ctypes.CDLL(sorted(names)[0])


@functools.cache
def gemm_address(dtype: np.dtype) -> int:
    """Return the address of cblas_?gemm for float32 or float64."""
    address = ctypes.cast(getattr(_library(), _GEMM[dtype]), ctypes.c_void_p).value
    assert address is not None
    return address


@functools.cache
def threads_setter() -> tuple[int, int]:
    """Return the address of OpenBLAS's setter of the number of threads, and the number now."""
    setter = _library().scipy_openblas_set_num_threads
    address = ctypes.cast(setter, ctypes.c_void_p).value
    assert address is not None
    return address, int(_library().scipy_openblas_get_num_threads())
