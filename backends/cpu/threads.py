"""Threads for large kernels: one executor, made when first needed and made anew after a fork."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor

__all__ = ["executor", "thread_count"]


@functools.cache
def thread_count() -> int:
    """Return how many threads a kernel may run on: FUNTORCH_NUM_THREADS, OMP_NUM_THREADS or all."""
    for name in ("FUNTORCH_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0].strip()
        if text.isdecimal() and int(text) > 0:
            return int(text)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@functools.cache
def executor() -> ThreadPoolExecutor:
    """Return the threads that work beside the caller's."""
    return ThreadPoolExecutor(max(1, thread_count() - 1), "funtorch")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=executor.cache_clear)
