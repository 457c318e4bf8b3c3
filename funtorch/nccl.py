"""Processes that talk about arrays in the memory of GPUs: NCCL, as CuPy gives it.

Each process has one GPU. MPI carries the number by which NCCL finds the others; what follows does
not leave the GPUs. Nothing waits for its end: it goes on the current stream, in order.

References:
    NVIDIA, "NCCL API", https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/api.html
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funtorch.processes import Communicator, Ranks

__all__ = ["GpuCommunicator", "among_gpus"]

# What NCCL calls the dtypes that it computes with, and how many of these make one.
_TYPES = {
    "int8": (0, 1),
    "uint8": (1, 1),
    "bool": (1, 1),
    "int32": (2, 1),
    "uint32": (3, 1),
    "int64": (4, 1),
    "uint64": (5, 1),
    "float16": (6, 1),
    "float32": (7, 1),
    "float64": (8, 1),
    "bfloat16": (9, 1),
    "complex64": (7, 2),
    "complex128": (8, 2),
}
_WIDER = {"int16": "int32", "uint16": "uint32"}
_BYTES = 1
_OPERATIONS = {"sum": 0, "max": 2, "min": 3}


class GpuCommunicator:
    """Processes with a GPU each: the methods of `Communicator` for arrays of CuPy.

    Args:
        ranks: the processes.
        xp: CuPy.
        nccl: the module ``cupy.cuda.nccl``.
    """

    def __init__(self, ranks: Communicator, xp: Any, nccl: Any) -> None:
        self.rank, self.size, self._xp, self._nccl = ranks.rank, ranks.size, xp, nccl
        name = ranks.bcast_object(nccl.get_unique_id() if ranks.rank == 0 else None)
        self._comm = nccl.NcclCommunicator(ranks.size, name, ranks.rank)

    def allreduce(self, x: Any, operation: str = "sum") -> Any:
        """Return the sum (max, min) of all processes' arrays."""
        return self._reduced("allReduce", x, x.shape, operation)

    def reduce_scatter(self, x: Any) -> Any:
        """Return the part of this process, of the leading axis, of the sum of all arrays."""
        return self._reduced("reduceScatter", x, x.shape[1:], "sum")

    def _reduced(self, function: str, x: Any, shape: tuple[int, ...], operation: str) -> Any:
        if operation not in _OPERATIONS:
            raise ValueError(
                f"allreduce: operation is one of {', '.join(_OPERATIONS)}, got {operation!r}"
            )
        name = np.dtype(x.dtype).name
        if name in _WIDER:
            wide = self._reduced(function, x.astype(_WIDER[name]), shape, operation)
            return wide.astype(name)
        if name == "bool" and operation == "sum":
            operation = "max"
        kind, parts = _TYPES[name]
        if parts > 1 and operation != "sum":
            raise ValueError(f"allreduce: complex numbers have no {operation}")
        x, out = self._xp.ascontiguousarray(x), self._xp.empty(shape, x.dtype)
        if out.size:
            count, stream = out.size * parts, self._stream()
            how = _OPERATIONS[operation]
            getattr(self._comm, function)(x.data.ptr, out.data.ptr, count, kind, how, stream)
        return out

    def allgather(self, x: Any) -> Any:
        """Return the arrays of all processes, along a new axis in front."""
        x = self._xp.ascontiguousarray(x).reshape(x.shape)
        out = self._xp.empty((self.size, *x.shape), x.dtype)
        if x.size:
            self._comm.allGather(x.data.ptr, out.data.ptr, x.nbytes, _BYTES, self._stream())
        return out

    def alltoall(self, x: Any) -> Any:
        """Return, at each place of the leading axis, this process's part of that process's one."""
        x = self._xp.ascontiguousarray(x)
        out = self._xp.empty(x.shape, x.dtype)
        step = x.nbytes // self.size
        with self._together():
            for peer in range(self.size if step else 0):
                self._send(x.data.ptr + peer * step, step, peer)
                self._receive(out.data.ptr + peer * step, step, peer)
        return out

    def permute(self, x: Any, pairs: Sequence[tuple[int, int]]) -> Any:
        """Return the array of the process that sends to this one; zeros where none does."""
        x = self._xp.ascontiguousarray(x).reshape(x.shape)
        out = self._xp.zeros(x.shape, x.dtype)
        with self._together():
            for source, target in pairs if x.size else ():
                if source == self.rank:
                    self._send(x.data.ptr, x.nbytes, target)
                if target == self.rank:
                    self._receive(out.data.ptr, x.nbytes, source)
        return out

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """Let messages be exchanged at once: one after the other, they would wait for ever."""
        self._nccl.groupStart()
        try:
            yield
        finally:
            self._nccl.groupEnd()

    def _send(self, address: int, count: int, peer: int) -> None:
        self._comm.send(address, count, _BYTES, peer, self._stream())

    def _receive(self, address: int, count: int, peer: int) -> None:
        self._comm.recv(address, count, _BYTES, peer, self._stream())

    def _stream(self) -> int:
        return self._xp.cuda.get_current_stream().ptr


@functools.cache
def among_gpus(ranks: Ranks) -> GpuCommunicator:
    """Return the processes along an axis of a mesh, to talk about arrays of GPUs.

    Raises:
        ImportError: NCCL is missing.
    """
    xp = importlib.import_module("cupy")
    try:
        nccl = importlib.import_module("cupy.cuda.nccl")
        if not nccl.available:
            raise ImportError("CuPy was built without it")
    except ImportError as error:
        raise ImportError(
            "arrays on GPUs of several processes need NCCL, and it cannot be loaded: pip install "
            f"nvidia-nccl-cu12, or nvidia-nccl-cu13, as your CuPy ({error})"
        ) from None
    return GpuCommunicator(ranks.communicator(), xp, nccl)
