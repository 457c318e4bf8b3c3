"""The private OpenBLAS: loaded when first needed, for matrix products and for LAPACK."""

from __future__ import annotations

import ctypes
import functools
import glob
import os
from pathlib import Path

__all__ = ["library_file", "load"]


def library_file() -> Path:
    """Return the file of the library that scipy-openblas32 brings."""
    import scipy_openblas32

    # The package's own loader gives a path only on some platforms, the folder on all.
    folder = scipy_openblas32.get_lib_dir()
    names = [
        p
        for p in glob.glob(os.path.join(folder, "*scipy_openblas*"))
        if p.endswith((".so", ".dylib", ".dll"))
    ]
    return Path(sorted(names)[0])


@functools.cache
def load() -> ctypes.CDLL:
    """Return the library that scipy-openblas32 brings; its symbols begin with ``scipy_``.

    It computes on its caller's thread alone: the threads are ours.
    """
    found = ctypes.CDLL(str(library_file()))
    found.scipy_openblas_set_num_threads(1)
    return found
