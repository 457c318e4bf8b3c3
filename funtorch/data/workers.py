"""Who makes batches: the caller, threads, or processes that send them through shared memory.

A crew's ``run(jobs)`` yields what ``make`` gives for each job, in the order of the jobs.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import multiprocessing
import pickle
import signal
import sys
import traceback
import weakref
from collections.abc import Callable, Generator, Sequence
from multiprocessing import connection, resource_tracker, shared_memory
from typing import Any, NamedTuple

import numpy as np

from funtorch import tree

__all__ = ["KINDS", "crew"]

KINDS = ("thread", "process")
_ALIGN = 64


def crew(
    kind: str, count: int, make: Callable[[Any], Any], prefetch: int, timeout: float | None
) -> Any:
    """Choose who makes batches.

    Args:
        kind: 'thread' or 'process'.
        count: how many of them; 0 for the caller.
        make: from a job to a batch.
        prefetch: how many batches each makes ahead.
        timeout: seconds to wait for one; None for ever.

    Returns:
        An object with ``run(jobs)`` and ``close()``.
    """
    if not count:
        return _Caller(make)
    return {"thread": _Threads, "process": _Processes}[kind](make, count, prefetch, timeout)


class _Caller:
    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def run(self, jobs: Sequence[Any]) -> Generator[Any]:
        return (self._make(job) for job in jobs)

    def close(self) -> None:
        """There is nobody to send home."""


class _Threads:
    def __init__(
        self, make: Callable[[Any], Any], count: int, prefetch: int, timeout: float | None
    ) -> None:
        self._make, self._count = make, count
        self._ahead, self._timeout = count * prefetch, timeout

    def run(self, jobs: Sequence[Any]) -> Generator[Any]:
        from concurrent.futures import ThreadPoolExecutor

        waiting = collections.deque(jobs)
        futures: collections.deque[Any] = collections.deque()
        pool = ThreadPoolExecutor(self._count, "loader")
        try:
            while waiting or futures:
                while waiting and len(futures) < self._ahead:
                    futures.append(pool.submit(self._make, waiting.popleft()))
                try:
                    batch = futures.popleft().result(self._timeout)
                except TimeoutError:
                    raise TimeoutError(_late(self._timeout)) from None
                yield batch
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Threads end with the loop that they work for."""


def _late(timeout: float | None) -> str:
    return f"a DataLoader waited {timeout} s for a batch: its workers are stuck, or slow (timeout=)"


# ---------------------------------------------------------------------------------------- processes
class _Processes:
    """Workers that live from the first loop until `close`; worker k makes batches k, k + n ..."""

    def __init__(
        self, make: Callable[[Any], Any], count: int, prefetch: int, timeout: float | None
    ) -> None:
        self._make, self._count = make, count
        self._prefetch, self._timeout = prefetch, timeout
        self._workers: list[_Worker] = []
        self._finalizer: Any = None

    def run(self, jobs: Sequence[Any]) -> Generator[Any]:
        self._start()
        crew = self._workers
        shares = [collections.deque(jobs[k :: len(crew)]) for k in range(len(crew))]
        finished = False
        try:
            for worker, share in zip(crew, shares, strict=True):
                for _ in range(min(self._prefetch, len(share))):
                    worker.send(share.popleft())
            for number in range(len(jobs)):
                k = number % len(crew)
                batch = crew[k].receive(self._timeout)
                if shares[k]:
                    crew[k].send(shares[k].popleft())
                yield batch
            finished = True
        finally:
            if not finished:  # what is under way is of no use to the next loop
                self.close()

    def _start(self) -> None:
        if self._workers:
            return
        # Forked workers get the data set as it is, closures and all; elsewhere it is pickled.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        resource_tracker.ensure_running()  # one for all, or each worker would start its own
        try:
            for k in range(self._count):
                self._workers.append(_Worker(context, k, self._make, self._prefetch))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            self._workers.clear()
            raise TypeError(
                "DataLoader(worker='process') sends the data set, collate and transform to its "
                f"workers, and one of them cannot be sent: {error}. Define it at the top of a "
                "module, or take worker='thread'"
            ) from error
        self._finalizer = weakref.finalize(self, _stop, self._workers)

    def close(self) -> None:
        """End the processes and give their memory back."""
        if self._workers:
            self._finalizer()
            self._workers = []


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.dismiss()
    for worker in workers:
        worker.stop()


class _Worker:
    """The loader's end of one process."""

    def __init__(self, context: Any, number: int, make: Callable[[Any], Any], slots: int) -> None:
        self._number = number
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(theirs, make, slots), daemon=True, name=f"loader-{number}"
        )
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self._blocks: dict[str, shared_memory.SharedMemory] = {}

    def send(self, job: Any) -> None:
        try:
            self._pipe.send(job)
        except OSError:
            raise self._died() from None

    def receive(self, timeout: float | None) -> Any:
        ready = connection.wait([self._pipe, self._process.sentinel], timeout)
        if not ready:
            raise TimeoutError(_late(timeout))
        if self._pipe not in ready and not self._pipe.poll():
            raise self._died()
        try:
            kind, *content = self._pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if kind == "error":
            error, text = content
            error.add_note(f"raised in worker {self._number} of a DataLoader:\n{text}")
            raise error
        return self._unpacked(*content)

    def _unpacked(self, treedef: Any, leaves: list[Any], name: str, gone: str | None) -> Any:
        if gone is not None:
            self._forget(gone)
        if name not in self._blocks and name:
            self._blocks[name] = shared_memory.SharedMemory(name)
        buffer = self._blocks[name].buf if name else b""
        return tree.unflatten(
            treedef,
            [
                np.ndarray(leaf.shape, leaf.dtype, buffer, leaf.offset).copy()
                if isinstance(leaf, _Placed)
                else leaf
                for leaf in leaves
            ],
        )

    def _forget(self, name: str) -> None:
        _release(self._blocks.pop(name, None))

    def _died(self) -> RuntimeError:
        self._process.join(5)
        code = self._process.exitcode
        how = f"ended with exit code {code}"
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        return RuntimeError(
            f"worker {self._number} of a DataLoader (process {self._process.pid}) {how}. "
            "If the machine ran out of memory, take fewer workers or prefetch less"
        )

    def dismiss(self) -> None:
        with contextlib.suppress(OSError):  # it is dead
            self._pipe.send(None)

    def stop(self) -> None:
        self._process.join(0.5)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(5)
        with contextlib.suppress(EOFError, OSError):  # it may have died while it sent
            while self._pipe.poll():  # blocks that were never asked for
                kind, *content = self._pipe.recv()
                if kind == "batch":
                    self._unpacked(*content)
        self._pipe.close()
        for name in list(self._blocks):
            self._forget(name)


class _Placed(NamedTuple):
    """Where an array lies in a block of shared memory."""

    dtype: Any
    shape: tuple[int, ...]
    offset: int


# ---------------------------------------------------------------------------------- in the process
def _work(pipe: Any, make: Callable[[Any], Any], slots: int) -> None:
    """Do jobs until there are no more: the whole life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the loader decides
    blocks: list[Any] = [None] * slots
    with contextlib.suppress(EOFError, OSError):  # the loader is gone
        for turn in itertools.cycle(range(slots)):
            job = pipe.recv()
            if job is None:
                break
            try:
                pipe.send(("batch", *_placed(make(job), blocks, turn)))
            except Exception as error:  # of whatever kind: the loader raises it
                pipe.send(("error", _portable(error), traceback.format_exc()))
    for block in blocks:
        _release(block)


def _placed(batch: Any, blocks: list[Any], turn: int) -> tuple[Any, list[Any], str, str | None]:
    """Put a batch's arrays into the block whose turn it is, in a larger one if they do not fit."""
    leaves, treedef = tree.flatten(batch)
    spots: list[Any] = []
    arrays, end = [], 0
    for leaf in leaves:
        x = np.asarray(leaf) if hasattr(leaf, "__array__") else None
        if x is None or x.dtype.hasobject:
            spots.append(leaf)
            continue
        spots.append(_Placed(x.dtype, x.shape, end))
        arrays.append((x, spots[-1]))
        end += -(-x.nbytes // _ALIGN) * _ALIGN
    gone = None
    block = blocks[turn]
    if end and (block is None or block.size < end):
        gone = block and block.name
        blocks[turn] = block = shared_memory.SharedMemory(create=True, size=end)
    for x, spot in arrays:
        np.ndarray(spot.shape, spot.dtype, block.buf if end else b"", spot.offset)[...] = x
    return treedef, spots, block.name if end else "", gone


def _portable(error: Exception) -> Exception:
    """Return an error that can be sent: itself, or its text."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # it can fail in any way: its class wrote the code that runs
        return RuntimeError(f"{type(error).__name__}: {error}")


def _release(block: Any) -> None:
    if block is not None:
        block.close()
        with contextlib.suppress(FileNotFoundError):  # the other end may have done it
            block.unlink()
