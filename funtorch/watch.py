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
    _Shared.at = _At(number, program, time.monotonic())
    try:
        yield
    finally:
        _Shared.at = None


@functools.cache
def _start() -> None:
    """Start the thread that watches; it ends before MPI does, and with those of all processes."""
    if processes.world().size == 1 or not processes.threads_may_talk():
        return
    watcher, stop = _Watcher(processes.world().comm.Dup()), threading.Event()
    thread = threading.Thread(target=watcher.run, args=(stop,), daemon=True, name="funtorch.watch")
    thread.start()

    def end() -> None:
        stop.set()
        thread.join()

    atexit.register(end)


class _Watcher:
    """What a process hears of the others, while it and they do what they do.

    Args:
        comm: mpi4py's communicator, of its own.
    """

    def __init__(self, comm: Any) -> None:
        self.comm, self.own = comm, comm.Get_rank()
        self.others = [r for r in range(comm.Get_size()) if r != self.own]
        self.heard: dict[int, tuple[int, Sayings]] = {}  # programs that they wait in
        self.left: dict[int, int] = {}  # how many programs those have begun that have ended
        self.told = 0
        self.requests: list[Any] = []  # what is sent is kept until it has arrived
        self.main = threading.main_thread().ident
        self.stuck: tuple[Any, float] = None, 0.0  # where the main thread is, and since when

    def run(self, stop: threading.Event) -> None:
        """Look around until this process, and then all others, have come to their end."""
        while not stop.wait(_LOOK):
            self.listen()
            at, now = _Shared.at, time.monotonic()
            if at is not None and at.number != self.told and now - at.since > _LONG:
                self.told = at.number
                self.tell(at.number, at.program)
            problem = (at and self.other_program(at)) or (self.left and self.nobody_there(at, now))
            if problem:
                print(f"RuntimeError on rank {self.own}: {problem}", file=sys.stderr, flush=True)
                stop.wait(2 * _LOOK + _LONG)  # the others shall say it, too
                processes.end_all()
        self.tell(_Shared.number, None)
        while len(self.left) < len(self.others):
            self.listen()
            time.sleep(_LOOK / 10)

    def tell(self, number: int, program: Sayings | None) -> None:
        self.requests += [self.comm.isend((self.own, number, program), r) for r in self.others]

    def listen(self) -> None:
        while self.comm.iprobe():
            rank, number, program = self.comm.recv()
            if program is None:
                self.left[rank] = number
            else:
                self.heard[rank] = number, program

    def other_program(self, at: _At) -> str | None:
        """Return the error where another process waits in another program."""
        for rank, (number, program) in self.heard.items():
            if number == at.number and program.digest != at.program.digest:
                return _difference(sorted([(self.own, at.program), (rank, program)]))
        return None

    def nobody_there(self, at: _At | None, now: float) -> str | None:
        """Return the error where this process waits for one that has ended."""
        ranks = sorted(self.left)
        where = self.blocked()
        if where != self.stuck[0]:
            self.stuck = where, now
        if at is not None and now - at.since > _LONG:
            ranks = [r for r in ranks if self.left[r] < at.number]
            if ranks:
                return _ENDED.format(_listed(ranks), f"in {at.program.name}")
        elif at is None and where is not None and now - self.stuck[1] > 2 * _LONG:
            return _ENDED.format(_listed(ranks), f"in {where[2]}")
        return None

    def blocked(self) -> tuple[int, int, str] | None:
        """Return which function of all processes the main thread is in, and where in it."""
        frame = sys._current_frames().get(self.main or 0)
        while frame is not None and frame.f_code.co_filename not in _TALKING:
            frame = frame.f_back
        if frame is None or getattr(frame.f_locals.get("self"), "size", 0) <= len(self.others):
            return None
        return id(frame), frame.f_lasti, f"{frame.f_code.co_name} of the communicator"


_TALKING = (processes.__file__,)
_ENDED = (
    "{} ended, and this rank waits for it {}: all ranks must come to the same calls. Look for "
    "sys.exit, or the end of a loop, that depends on the rank"
)


def _listed(ranks: Sequence[int]) -> str:
    shown = ", ".join(map(str, ranks))
    return f"rank {shown} has" if len(ranks) == 1 else f"ranks {shown} have"


processes.when_joined.append(_start)
