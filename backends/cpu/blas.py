"""Addresses of BLAS functions in the private OpenBLAS."""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from funtorch.openblas import library

__all__ = ["gemm_address", "threads_setter"]

_GEMM = {np.dtype("float32"): "scipy_cblas_sgemm", np.dtype("float64"): "scipy_cblas_dgemm"}


@functools.cache
def gemm_address(dtype: np.dtype) -> int:
    """Return the address of cblas_?gemm for float32 or float64."""
    address = ctypes.cast(getattr(library(), _GEMM[dtype]), ctypes.c_void_p).value
    assert address is not None
    return address


@functools.cache
def threads_setter() -> tuple[int, int]:
    """Return the address of OpenBLAS's setter of the number of threads, and the number now."""
    setter = library().scipy_openblas_set_num_threads
    address = ctypes.cast(setter, ctypes.c_void_p).value
    assert address is not None
    return address, int(library().scipy_openblas_get_num_threads())
