"""The processes of a program: MPI as mpi4py gives it, and what they say to each other.

A program started by `mpirun` or `srun` runs as many processes, its *ranks*. MPI starts when one
first asks for the others; without such a launcher a process is alone and needs no MPI.
"""

from __future__ import annotations

import functools
import importlib
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from funtorch import hardware, sums
from funtorch.config import config

__all__ = [
    "Communicator",
    "Groups",
    "Pending",
    "WIDER",
    "Ranks",
    "end_all",
    "threads_may_talk",
    "when_joined",
    "launched",
    "started",
    "world",
]

_LAUNCHERS = (
    ("OMPI_COMM_WORLD_SIZE", "Open MPI's mpirun"),
    ("PMI_SIZE", "mpirun or srun (PMI)"),
    ("SLURM_STEP_NUM_TASKS", "srun"),
)
"""Environment variables that tell how many processes were started, and who sets them."""

WIDER = {np.dtype(k): np.dtype(v) for k, v in (
    (np.float16, np.float32), (ml_dtypes.bfloat16, np.float32),
    (np.int8, np.int32), (np.int16, np.int32), (np.uint8, np.uint32), (np.uint16, np.uint32),
)}  # fmt: skip
"""What narrow numbers are summed as. Open MPI's sums of 8 and 16 bits stop at the largest number on
processors with AVX (at some places of an array, and not at others); others wrap around."""
_OPERATIONS = {"sum": "SUM", "max": "MAX", "min": "MIN"}


Groups = tuple[tuple[int, ...], ...]


def launched() -> tuple[int, str]:
    """Return how many processes a launcher has started, and which launcher; (1, '') if none has."""
    for name, who in _LAUNCHERS:
        text = os.environ.get(name, "")
        if text.isdecimal() and int(text) > 1:
            return int(text), who
    return 1, ""


class Pending:
    """An operation that other processes take part in, and that goes on while this one works."""

    __slots__ = ("_after", "_request", "_result")

    def __init__(self, request: Any, result: Any, after: Callable[[], None] | None = None) -> None:
        self._request, self._result, self._after = request, result, after

    def wait(self) -> Any:
        """Wait for the end of the operation, and return its result."""
        if self._request is not None:
            self._request.Wait()
            if self._after is not None:
                self._after()
            self._request = self._after = None
        return self._result


class Communicator:
    """Processes that talk to each other: all of the program's, or some of them.

    What all of them must call, in the same order, with arrays of equal shape and dtype, are the
    methods with a buffer and those with an object.

    Args:
        comm: the communicator of mpi4py; None where there is one process.

    Attributes:
        rank: the number of this process among them.
        size: how many there are.

    Example:
        >>> alone = Communicator(None)
        >>> alone.rank, alone.size, alone.allgather_object("a")
        (0, 1, ['a'])
    """

    def __init__(self, comm: Any = None) -> None:
        self.comm = comm
        self.rank: int = 0 if comm is None else comm.Get_rank()
        self.size: int = 1 if comm is None else comm.Get_size()
        self._groups: dict[Groups, Communicator] = {}
        self._brief: dict[np.dtype, tuple[Any, ...]] = {}  # what MPI sums, without more questions

    def __repr__(self) -> str:
        return f"<rank {self.rank} of {self.size}>"

    def barrier(self) -> None:
        """Wait until all processes have come here."""
        if self.comm is not None:
            self.comm.Barrier()

    def bcast_object(self, value: Any, root: int = 0) -> Any:
        """Return the object that process ``root`` gave."""
        return value if self.comm is None else self.comm.bcast(value, root)

    def allgather_object(self, value: Any) -> list[Any]:
        """Return the objects that all processes gave, by rank."""
        return [value] if self.comm is None else self.comm.allgather(value)

    def group(self, groups: Groups) -> Communicator:
        """Return the processes of this one's group; all must call it, with equal groups.

        Args:
            groups: the ranks of each group, in the order they have there; each rank once.
        """
        found = self._groups.get(groups)
        if found is None:
            for colour, ranks in enumerate(groups):
                if self.rank in ranks:
                    comm = self.comm and self.comm.Split(colour, ranks.index(self.rank))
                    found = self._groups[groups] = Communicator(comm)
        if found is None:
            raise ValueError(f"rank {self.rank} of {self.size} is in none of the groups {groups}")
        return found

    @functools.cached_property
    def room(self) -> sums.Room | None:
        """Memory that these processes share, on one machine; all must ask for it together.

        None where there is none for all of them.
        """
        return sums.shared_room(self.comm)

    @functools.cached_property
    def host(self) -> Communicator:
        """The processes on this one's machine; all must ask for the first time together."""
        if self.comm is None:
            return self
        return Communicator(self.comm.Split_type(_mpi().COMM_TYPE_SHARED, self.rank))

    def in_turn(self, work: Callable[[], Any]) -> Any:
        """Do work that leaves something on disk: one process of each machine first, then the rest.

        Raises:
            RuntimeError: the first one could not do it.
        """
        result, error = None, None
        if self.host.rank == 0:
            try:
                result = work()
            except Exception as raised:
                error = raised
        self._told_patiently()
        why = self.host.bcast_object(None if error is None else f"{type(error).__name__}: {error}")
        if error is not None:
            raise error
        if why is not None:
            raise RuntimeError(f"another rank has failed: {why}")
        return result if self.host.rank == 0 else work()

    def _told_patiently(self) -> None:
        """Wait for the first process of this machine, and leave it the processors meanwhile."""
        if self.host.comm is not None:
            request = self.host.comm.Ibcast(np.zeros(1, np.uint8), 0)
            while not request.Test():
                time.sleep(0.002)

    # ------------------------------------------------------------------------------- buffers
    def allreduce(self, buffer: np.ndarray, operation: str = "sum") -> np.ndarray:
        """Replace a contiguous array by the sum (max, min) of all processes' ones; return it.

        float16 and bfloat16 are summed in float32 and rounded once; integers wrap around. A nan is
        the largest number, and the smallest.

        Raises:
            ValueError: the array is not contiguous or cannot be written, or there is no such
                operation.
        """
        brief = self._brief.get(buffer.dtype) if operation == "sum" else None
        if (
            brief is None
            or buffer.nbytes > sums.ALONE
            or (buffer.ndim > 1 and not buffer.flags.c_contiguous)
        ):
            return self._allreduce(buffer, operation)
        reduce, in_place, op = brief
        try:
            reduce(in_place, buffer, op)
        except (BufferError, ValueError):  # mpi4py looks at the memory, too
            _refuse(buffer, operation)
        return buffer

    def _allreduce(self, buffer: np.ndarray, operation: str) -> np.ndarray:
        flags = buffer.flags
        if not (flags.c_contiguous and flags.writeable) or operation not in _OPERATIONS:
            _refuse(buffer, operation)
        if self.comm is None or not buffer.size:
            return buffer
        found = _reductions.get((buffer.dtype.num, operation))
        if found is None:
            found = _reductions[buffer.dtype.num, operation] = _reduction(buffer.dtype, operation)
        wide, kind, op, in_place = found
        if wide is not None:
            np.copyto(buffer, self.allreduce(buffer.astype(wide), operation), "unsafe")
            return buffer
        near = hardware.processes.near and operation == "sum"
        if operation == "sum" and sums.way("all", sums.ALONE, self.size, near) == "library":
            self._brief[buffer.dtype] = self.comm.Allreduce, in_place, op
        if sums.way("all", buffer.nbytes, self.size, near) == "library":
            self.comm.Allreduce(in_place, [buffer, kind], op)
        else:
            sums.summed(self.comm, buffer, kind, op, _mpi())
        return buffer

    def iallreduce(self, buffer: np.ndarray, operation: str = "sum") -> Pending:
        """Begin `allreduce`; the array must be left alone until ``wait`` of what comes back.

        Raises:
            ValueError: as `allreduce`.
        """
        flags = buffer.flags
        if not (flags.c_contiguous and flags.writeable) or operation not in _OPERATIONS:
            _refuse(buffer, operation)
        if self.comm is None or not buffer.size:
            return Pending(None, buffer)
        wide = _widened(buffer)
        sent = [wide, _type(wide.dtype)]
        op = _operation(operation, wide.dtype)
        request = self.comm.Iallreduce(_mpi().IN_PLACE, sent, op)
        if wide is buffer:
            return Pending(request, buffer)
        return Pending(request, buffer, lambda: np.copyto(buffer, wide, casting="unsafe"))

    def bcast(self, buffer: np.ndarray, root: int = 0) -> np.ndarray:
        """Replace a contiguous array by process ``root``'s one; return it."""
        if self.comm is not None and buffer.size:
            self.comm.Bcast(_bytes(buffer), root)
        return buffer

    def allgather(self, buffer: np.ndarray) -> np.ndarray:
        """Return the arrays of all processes, along a new axis in front."""
        buffer = np.ascontiguousarray(buffer).reshape(buffer.shape)
        out = np.empty((self.size, *buffer.shape), buffer.dtype)
        if self.comm is None:
            out[0] = buffer
        elif buffer.size:
            self.comm.Allgather(_bytes(buffer), _bytes(out))
        return out

    def reduce_scatter(self, buffer: np.ndarray) -> np.ndarray:
        """Return the part of this process, of the leading axis, of the sum of all arrays."""
        buffer = np.ascontiguousarray(buffer)
        if buffer.shape[0] != self.size:
            raise ValueError(
                f"reduce_scatter: the leading axis has size {buffer.shape[0]}, and there are "
                f"{self.size} processes"
            )
        if self.comm is None or not buffer.size:
            return buffer[0].copy()
        if buffer.dtype in WIDER:
            return self.reduce_scatter(_widened(buffer)).astype(buffer.dtype)
        out = np.empty(buffer.shape[1:], buffer.dtype)
        kind = _type(buffer.dtype)
        if sums.way("scatter", out.nbytes, self.size, hardware.processes.near) == "exchange":
            parts = buffer.reshape(self.size, -1)
            sums.scattered(self.comm, parts, out.reshape(-1), kind)
        else:
            op = _operation("sum", buffer.dtype)
            self.comm.Reduce_scatter_block([buffer, kind], [out, kind], op)
        return out

    def alltoall(self, buffer: np.ndarray) -> np.ndarray:
        """Return, at each place of the leading axis, this process's part of that process's one."""
        buffer = np.ascontiguousarray(buffer)
        if self.comm is None or not buffer.size:
            return buffer.copy()
        out = np.empty_like(buffer)
        part = buffer.nbytes // self.size
        byte = _mpi().BYTE
        self.comm.Alltoall([_bytes(buffer), part, byte], [_bytes(out), part, byte])
        return out

    def permute(self, buffer: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Return the array of the process that sends to this one; zeros where none does.

        Args:
            buffer: the array to send.
            pairs: (sender, receiver), each at most once a sender and once a receiver.
        """
        buffer = np.ascontiguousarray(buffer).reshape(buffer.shape)
        sources = [s for s, d in pairs if d == self.rank]
        targets = [d for s, d in pairs if s == self.rank]
        out = np.zeros_like(buffer)
        if self.comm is None:
            return buffer.copy() if sources else out
        mpi = _mpi()
        source = sources[0] if sources else mpi.PROC_NULL
        target = targets[0] if targets else mpi.PROC_NULL
        self.comm.Sendrecv(_bytes(buffer), target, 0, _bytes(out), source, 0)
        return out


def _refuse(buffer: np.ndarray, operation: str) -> None:
    """Raise the error for what cannot be reduced."""
    if operation not in _OPERATIONS:
        raise ValueError(
            f"allreduce: operation is one of {', '.join(_OPERATIONS)}, got {operation!r}"
        )
    raise ValueError(
        "allreduce works in place, on a contiguous array that can be written; got one of "
        f"shape {buffer.shape} and strides {buffer.strides}: pass a copy, x.copy()"
    )


def _widened(buffer: np.ndarray) -> np.ndarray:
    return buffer.astype(WIDER.get(buffer.dtype, buffer.dtype), copy=False)


def _bytes(buffer: np.ndarray) -> np.ndarray:
    """Return a contiguous array's memory, whatever its dtype."""
    return buffer.reshape(-1).view(np.uint8)


@functools.cache
def _mpi() -> Any:
    """Return mpi4py's module, which starts MPI.

    Raises:
        ImportError: it is missing; the error says how to get it.
    """
    try:
        return importlib.import_module("mpi4py.MPI")
    except ImportError as error:
        count, who = launched()
        why = f"{who} has started {count} processes, which" if count > 1 else "several processes"
        raise ImportError(
            f"{why} need mpi4py and an MPI to talk to each other: pip install 'funtorch[mpi]' "
            f"({error})"
        ) from None
    except RuntimeError as error:  # mpi4py finds no library of MPI
        raise ImportError(
            f"mpi4py is installed, but no MPI that it can load: pip install 'funtorch[mpi]', which "
            f"brings Open MPI, or load the module of your cluster's MPI ({error})"
        ) from None


@functools.cache
def _type(dtype: np.dtype) -> Any:
    """Return MPI's name of a dtype.

    Raises:
        TypeError: it has none.
    """
    mpi = _mpi()
    if dtype == np.bool_:
        return mpi.C_BOOL
    try:
        return mpi._typedict[dtype.char]
    except KeyError:
        raise TypeError(f"MPI has no arithmetic for {dtype.name}: convert the array") from None


@functools.cache
def _operation(name: str, dtype: np.dtype) -> Any:
    """Return MPI's operation for a dtype, 'sum', 'max' or 'min'.

    Raises:
        ValueError: there is none.
    """
    mpi = _mpi()
    if dtype == np.bool_:
        return mpi.LAND if name == "min" else mpi.LOR
    if name != "sum" and dtype.kind == "c":
        raise ValueError(f"allreduce: complex numbers have no {name}")
    if name == "sum" or dtype.kind in "iu":
        return getattr(mpi, _OPERATIONS[name])
    chosen = {"max": np.maximum, "min": np.minimum}[name]

    def keep(own: Any, other: Any, kind: Any) -> None:
        result = np.frombuffer(other, dtype)
        chosen(np.frombuffer(own, dtype), result, out=result)

    return mpi.Op.Create(keep, commute=True)  # MPI's own say nothing of nans


_reductions: dict[tuple[int, str], tuple[Any, ...]] = {}  # by number of a dtype: it hashes fast


def _reduction(dtype: np.dtype, operation: str) -> tuple[Any, ...]:
    """Return what an array is reduced with: a wider dtype or None, and MPI's names."""
    wide = WIDER.get(dtype)
    found = np.dtype(wide or dtype)
    return wide, _type(found), _operation(operation, found), _mpi().IN_PLACE


_here: list[Communicator] = []
when_joined: list[Callable[[], None]] = []
"""What is called once the processes know of each other."""


def started() -> bool:
    """Tell whether the processes know of each other."""
    return bool(_here)


def world() -> Communicator:
    """Return all processes of the program; the first call starts MPI where there are several.

    Raises:
        ImportError: there are several, and no MPI.
        RuntimeError: the launcher belongs to another MPI, or versions differ between processes.
    """
    if not _here:
        count, who = launched()
        _here.append(Communicator(_joined(count, who) if count > 1 else None))
        for f in when_joined:
            f()
    return _here[0]


def _joined(count: int, who: str) -> Any:
    mpi = _mpi()
    comm = mpi.COMM_WORLD.Dup()
    if comm.Get_size() != count:
        library = mpi.Get_library_version().split(",")[0].split("\n")[0]
        raise RuntimeError(
            f"{who} has started {count} processes, but mpi4py's MPI ({library}) sees "
            f"{comm.Get_size()}: the launcher belongs to another MPI. Use the mpirun of that "
            "library (python -m funtorch.launch finds it), or, under Slurm, srun --mpi=pmix"
        )
    _compare_versions(comm.allgather(_versions()))
    hardware.processes.index, hardware.processes.count = comm.Get_rank(), comm.Get_size()
    host = comm.Split_type(mpi.COMM_TYPE_SHARED, comm.Get_rank())
    hardware.processes.near = host.Get_size() == count
    _share_processors(host)
    sys.excepthook = _ending_all(sys.excepthook)
    return comm


def _share_processors(host: Any) -> None:
    """Divide the processors of a machine between its processes, unless somebody has."""
    if config.threads is not None or any(os.environ.get(name) for name in _THREADS):
        return
    affinity = getattr(os, "sched_getaffinity", None)
    own = sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))
    same = [x for x in host.allgather(own) if x == own]
    config.update("threads", max(len(own) // len(same), 1))


_THREADS = ("FUNTORCH_NUM_THREADS", "OMP_NUM_THREADS")


def _versions() -> dict[str, str]:
    """Return the versions that must be those of all processes."""
    own = importlib.import_module("importlib.metadata").version("funtorch")
    return {"funtorch": own, "NumPy": np.__version__, "Python": platform.python_version()}


def _compare_versions(found: Sequence[dict[str, str]]) -> None:
    """Check that all processes have the same versions.

    Raises:
        RuntimeError: they have not; it names the processes.
    """
    for name, first in found[0].items():
        for rank, versions in enumerate(found):
            if versions[name] != first:
                raise RuntimeError(
                    f"rank 0 has {name} {first}, rank {rank} has {versions[name]}: all processes "
                    "must run the same versions, or their results and their order of messages may "
                    "differ"
                )


def _ending_all(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return a hook for errors nobody catches that ends the other processes, too.

    They would wait for ever for a message from this one.
    """

    def ended(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        hook(kind, error, trace)
        print(f"rank {_here[0].rank if _here else '?'} failed: all ranks end", file=sys.stderr)
        end_all()

    return ended


def end_all() -> None:
    """End all processes at once."""
    sys.stdout.flush()
    sys.stderr.flush()
    _mpi().COMM_WORLD.Abort(1)


def threads_may_talk() -> bool:
    """Tell whether several threads of a process may use MPI at a time."""
    return _mpi().Query_thread() == _mpi().THREAD_MULTIPLE


@dataclass(frozen=True)
class Ranks:
    """Stands for an axis of a mesh in the program of one process: who is along it with whom.

    Args:
        groups: the ranks of each line of the mesh in that direction.
        near: whether all are on one machine. There nothing but the processors moves messages, so
            that none of them goes on while a program computes.

    Example:
        >>> Ranks(((0, 1), (2, 3))).size
        2
    """

    groups: Groups
    near: bool = False

    @property
    def size(self) -> int:
        """The number of processes along the axis."""
        return len(self.groups[0])

    def communicator(self) -> Communicator:
        """Return the processes along the axis that this one is among."""
        return world().group(self.groups)

    def prepare(self) -> None:
        """Make what the processes along the axis need to talk; all of them must call it."""
        found = self.communicator()
        if self.near and 1 < found.size <= sums.FEW:
            _ = found.room

    def __repr__(self) -> str:
        shown = "|".join(" ".join(map(str, group)) for group in self.groups)
        return f"ranks({shown}{', near' if self.near else ''})"
