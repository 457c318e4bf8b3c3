"""Whether processes do the same: what is compared before programs run, and while they wait.

Processes that talk must run the same programs in the same order. Before a program runs for the
first time they compare what it says; where one waits for long, they compare what they are at.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from funtorch import processes

__all__ = ["Said", "Sayings", "agree", "during"]

_LOOK = 0.25  # seconds between looks of the thread that watches
_LONG = 1.5  # seconds after which a program that waits is told to the others


class Said(NamedTuple):
    """One collective of a program: what must be equal in all processes, and the user's line."""

    what: str
    line: str

    def __str__(self) -> str:
        return f"{self.what} at {self.line}"


class Sayings(NamedTuple):
    """The collectives of a program, in order."""

    name: str
    said: tuple[Said, ...]
    digest: str

    @classmethod
    def of(cls, name: str, said: Sequence[Said]) -> Sayings:
        """Return the collectives of a program."""
        text = "\n".join(s.what for s in said)
        return cls(name, tuple(said), hashlib.sha256(text.encode()).hexdigest())


def agree(program: Sayings) -> None:
    """Compare a program with those that the other processes are about to run.

    Raises:
        RuntimeError: they differ, in all processes; it names the first difference.
    """
    everyone = processes.world()
    with _at(_Shared.number + 1, program):
        found = everyone.allgather_object(program.digest)
    if len(set(found)) > 1:
        raise RuntimeError(_difference(list(enumerate(everyone.allgather_object(program)))))


def _difference(programs: Sequence[tuple[int, Sayings]]) -> str:
    """Return the error for programs of ranks that differ."""
    own, first = programs[0]
    for rank, other in programs:
        if other.digest == first.digest:
            continue
        a, b = first.said, other.said
        k = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x.what != y.what), None)
        k = min(len(a), len(b)) if k is None else k
        shown = [str(s[k]) if k < len(s) else "nothing more" for s in (a, b)]
        return _MISMATCH.format(k + 1, own, first.name, shown[0], rank, other.name, shown[1])
    raise AssertionError("programs that are equal were said to differ")


_MISMATCH = (
    "ranks disagree about what they say to each other, as collective {}: rank {}, in {}, does {}; "
    "rank {}, in {}, does {}. All ranks must run the same programs in the same order, on arrays of "
    "equal shapes and dtypes: look for decisions that depend on the rank, or for parts of the data "
    "of different sizes"
)


# --------------------------------------------------------------------------------- while they run
class _At(NamedTuple):
    number: int
    program: Sayings
    since: float


class _Shared:
    """What this process is at."""

    number = 0  # of programs that were begun
    at: _At | None = None


@contextlib.contextmanager
def during(program: Sayings) -> Iterator[None]:
    """Return the context in which a program of all processes runs."""
    _Shared.number += 1
    with _at(_Shared.number, program):
        yield


@contextlib.contextmanager
def _at(number: int, program: Sayings) -> Iterator[None]:
    if processes.world().size > 1:
        _start()
    _Shared.at = _At(number, program, time.monotonic())
    try:
        yield
    finally:
        _Shared.at = None


@functools.cache
def _start() -> None:
    """Start the thread that watches; it ends before MPI does."""
    comm, stop = processes.world().comm.Dup(), threading.Event()
    if not processes.threads_may_talk():
        return
    thread = threading.Thread(target=_look, args=(comm, stop), daemon=True, name="funtorch.watch")
    thread.start()

    def end() -> None:
        stop.set()
        thread.join()

    atexit.register(end)


def _look(comm: Any, stop: threading.Event) -> None:
    told, requests = 0, []  # what is sent is kept until it has arrived
    heard: dict[int, tuple[int, Sayings]] = {}
    own, others = comm.Get_rank(), [r for r in range(comm.Get_size()) if r != comm.Get_rank()]
    while not stop.wait(_LOOK):
        while comm.iprobe():
            rank, number, program = comm.recv()
            heard[rank] = number, program
        at = _Shared.at
        if at is None:
            continue
        if at.number != told and time.monotonic() - at.since > _LONG:
            told = at.number
            requests += [comm.isend((own, at.number, at.program), r) for r in others]
        for rank, (number, program) in heard.items():
            if number == at.number and program.digest != at.program.digest:
                error = _difference(sorted([(own, at.program), (rank, program)]))
                print(f"RuntimeError on rank {own}: {error}", file=sys.stderr, flush=True)
                stop.wait(2 * _LOOK + _LONG)  # the others shall say it, too
                processes.end_all()
