"""``python -m funtorch.launch -n 4 train.py``: run a script in several processes.

MPI starts the processes; this finds its ``mpirun``, says what it needs to be told, marks each line
of output with its rank, and ends them all when one of them dies. Scripts run under plain ``mpirun``
or ``srun`` too; what they lack there is the marks, and the end of all by an exception of one.

This file is also what runs in each process, by its path: it imports nothing but the standard
library, and nothing before output goes where it should.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.metadata
import os
import runpy
import selectors
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["command", "find_mpirun", "main", "threads_per_rank"]

# Where MPI libraries and srun say which process this is.
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
# Whoever set one of these has decided how many threads a process has.
_THREADS = ("FUNTORCH_NUM_THREADS", "OMP_NUM_THREADS")
_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
_STREAMS = ("stdout", "stderr")
_AS_RANK = "--as-rank"
_MISSING = (
    "funtorch.launch found no mpirun, neither beside this Python nor on PATH. Install an MPI and "
    "its Python package: pip install 'funtorch[mpi]'. Or name one: --mpirun /path/to/mpirun"
)


# ------------------------------------------------------------------------------------ the launcher
def find_mpirun() -> str | None:
    """Find the program that starts processes: beside the interpreter, in a package, or on PATH.

    Returns:
        Its path; None if there is none.

    Example:
        >>> from funtorch import launch
        >>> path = launch.find_mpirun()
        >>> path is None or path.endswith(("mpirun", "mpiexec"))
        True
    """
    folders = [os.path.dirname(sys.executable), sysconfig.get_path("scripts")]
    for package in ("openmpi", "mpich"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            files = importlib.metadata.files(package) or []
            folders += [str(Path(f.locate()).parent) for f in files if f.name == "mpiexec"]
    for path in (*folders, None):  # None: as PATH says
        for name in ("mpirun", "mpiexec"):
            if found := shutil.which(name, path=path):
                return os.path.abspath(found)
    return None


def threads_per_rank(ranks: int, hosts: int = 1) -> int:
    """Return how many threads each process gets when all share the processors evenly.

    Args:
        ranks: how many processes there are.
        hosts: on how many machines like this one.

    Example:
        >>> from funtorch import launch
        >>> launch.threads_per_rank(10**6)
        1
    """
    return max(1, _cores() * hosts // ranks)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _placed(ranks: int, hosts: Sequence[str]) -> str:
    """Spell hosts with how many processes each one gets: the first ones take the rest."""
    if any(":" in host for host in hosts):
        return ",".join(hosts)
    each, rest = divmod(ranks, len(hosts))
    shares = [each + (k < rest) for k in range(len(hosts))]
    return ",".join(f"{h}:{n}" for h, n in zip(hosts, shares, strict=True) if n)


def _open_mpi(ranks: int, hosts: Sequence[str], names: Sequence[str]) -> list[str]:
    flags = ["--bind-to", "none"]  # a rank may have threads: MPI would put all on one core
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--allow-run-as-root")
    if hosts:
        flags += ["--host", _placed(ranks, hosts)]
        for name in names:
            flags += ["-x", name]
    if ranks > _cores() * max(1, len(hosts)):
        flags += ["--map-by", ":OVERSUBSCRIBE", "--mca", "mpi_yield_when_idle", "1"]
    elif not hosts:
        flags += ["--host", f"localhost:{ranks}"]
    return flags


def _hydra(ranks: int, hosts: Sequence[str], names: Sequence[str]) -> list[str]:
    """Spell what MPICH and its relatives need; they hand the whole environment on."""
    return ["-hosts", _placed(ranks, hosts)] if hosts else []


# What the answer to --version has in it, and how that MPI is told.
_KINDS: tuple[tuple[str, Callable[..., list[str]]], ...] = (
    ("Open MPI", _open_mpi),
    ("OpenRTE", _open_mpi),
    ("HYDRA", _hydra),
    ("Intel", _hydra),
)


def command(
    mpirun: str, version: str, ranks: int, hosts: Sequence[str] = (), names: Sequence[str] = ()
) -> list[str]:
    """Say how to start processes with one kind of MPI.

    Args:
        mpirun: the program.
        version: what it answers to ``--version``.
        ranks: how many processes.
        hosts: on which machines, ``name`` or ``name:count`` each; here if there are none.
        names: variables of the environment that other machines need.

    Returns:
        The command, to be followed by what each process runs.

    Raises:
        RuntimeError: this kind is not known.

    Example:
        >>> from funtorch import launch
        >>> launch.command("mpiexec", "HYDRA build details", 4, ["a", "b"])
        ['mpiexec', '-n', '4', '-hosts', 'a:2,b:2']
    """
    for mark, spell in _KINDS:
        if mark in version:
            return [mpirun, "-n", str(ranks), *spell(ranks, hosts, names)]
    raise RuntimeError(
        f"funtorch.launch knows Open MPI and MPICH; {mpirun} --version says {version[:80]!r}. "
        "Name another with --mpirun, or start the script with mpirun itself"
    )


def _environment(ranks: int, hosts: Sequence[str], threads: int | None) -> dict[str, str]:
    """Return what ranks have in their environment besides: the number of threads, if not set."""
    if threads is None and any(os.environ.get(name) for name in _THREADS):
        return {}
    count = str(threads or threads_per_rank(ranks, max(1, len(hosts))))
    return dict.fromkeys((*_THREADS, "OPENBLAS_NUM_THREADS"), count)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m funtorch.launch",
        description="Run a Python script in several processes, started by MPI. Each line of output "
        "is marked with its process, and when one dies all end, with its exit code.",
        epilog="Example: python -m funtorch.launch -n 4 train.py --epochs 10",
    )
    parser.add_argument("-n", "--ranks", type=int, default=None, metavar="N",
                        help="how many processes; one per core if not given")  # fmt: skip
    parser.add_argument("--host", default="", metavar="A,B",
                        help="machines, with name:count for how many processes each runs; the same "
                        "Python and script must be there, and ssh must reach them")  # fmt: skip
    parser.add_argument("--threads", type=int, default=None, metavar="T",
                        help="threads of each process; cores / processes if neither this nor "
                        "OMP_NUM_THREADS nor FUNTORCH_NUM_THREADS is set")  # fmt: skip
    parser.add_argument("--no-prefix", action="store_true", help="leave the marks [rank] out")
    parser.add_argument("--mpirun", default=None, metavar="PATH", help="the mpirun to use")
    parser.add_argument("--mpi-args", default="", metavar="ARGS",
                        help="more arguments for mpirun, in one string")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="show the command and run nothing")
    parser.add_argument("-m", dest="module", action="store_true",
                        help="the script is the name of a module, as of python -m")  # fmt: skip
    parser.add_argument("script", help="a Python file")
    parser.add_argument("args", nargs=argparse.REMAINDER, help="its arguments")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: its arguments; those of this process if None.

    Returns:
        The exit code: that of the first process that failed, or 0.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    hosts = [host for host in options.host.split(",") if host]
    ranks = _cores() * max(1, len(hosts)) if options.ranks is None else options.ranks
    if ranks < 1:
        parser.error(f"-n takes a number of processes, at least 1; got {ranks}")
    if options.threads is not None and options.threads < 1:
        parser.error(f"--threads takes at least 1; got {options.threads}")
    if not options.module and not hosts and not os.path.isfile(options.script):
        parser.error(f"there is no file {options.script!r}; for a module write -m before its name")
    mpirun = options.mpirun or find_mpirun()
    if mpirun is None or shutil.which(mpirun) is None:
        print(_MISSING if mpirun is None else f"there is no program {mpirun}", file=sys.stderr)
        return 127
    extra = _environment(ranks, hosts, options.threads)
    carried = {*extra, *(n for n in os.environ if n.startswith(("FUNTORCH_", "PYTHON", "OMP_")))}
    asked = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False)
    start = command(mpirun, asked.stdout + asked.stderr, ranks, hosts, sorted(carried))
    start += options.mpi_args.split()
    import tempfile

    with tempfile.TemporaryDirectory(prefix="funtorch-launch-") as folder:
        # Other machines do not see the folder: their lines come through mpirun.
        place = "" if hosts else folder
        rank = [sys.executable, "-P", os.path.abspath(__file__), _AS_RANK, place]
        rank += ["0" if options.no_prefix else "1", "m" if options.module else "f"]
        start += [*rank, options.script, *options.args]
        if options.dry_run:
            print(" ".join(f"{k}={v}" for k, v in extra.items()), *start)
            return 0
        code = _run(start, os.environ | extra, folder if place else None)
    if code:
        print(f"funtorch.launch: {ranks} processes ended with {_told(code)}", file=sys.stderr)
    return code


def _told(code: int) -> str:
    """Spell an exit code; shells and mpirun add 128 to the number of a signal."""
    with contextlib.suppress(ValueError):
        return f"exit code {code} ({signal.Signals(code - 128).name})"
    return f"exit code {code}"


def _run(start: list[str], environment: dict[str, str], folder: str | None) -> int:
    """Run mpirun to its end, forwarding signals to it and the ranks' lines to the terminal."""
    with contextlib.ExitStack() as stack:
        pipes = {}
        for number, name in enumerate(_STREAMS, 1):
            if folder is not None:
                os.mkfifo(path := os.path.join(folder, name))
                pipes[os.open(path, os.O_RDONLY | os.O_NONBLOCK)] = number
        for pipe in pipes:
            stack.callback(os.close, pipe)
        process = subprocess.Popen(start, env=environment, start_new_session=True)
        stack.callback(_end, process)
        stack.enter_context(_forwarding(process))
        _copy(pipes, process, failed := Path(folder or os.devnull) / "failed")
        code = process.wait()
        if failed.exists():  # MPICH ends with its own signal's number
            return int(failed.read_text())
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _forwarding(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Hand the signals that come to this process on; mpirun hands them to the ranks."""

    def forward(number: int, frame: Any) -> None:
        if process.poll() is None:
            process.send_signal(number)

    known = [getattr(signal, name) for name in _FORWARDED if hasattr(signal, name)]
    before = {number: signal.signal(number, forward) for number in known}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End mpirun, and with it the ranks, if it still runs: when our own output is closed."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()


def _copy(pipes: dict[int, int], process: subprocess.Popen[bytes], failed: Path) -> None:
    """Copy what comes through pipes to our own streams until the process and all writers end.

    MPICH does not see that a rank has failed before it began with MPI: ``failed`` says so.
    """
    with selectors.DefaultSelector() as waiting:
        for pipe in pipes:
            waiting.register(pipe, selectors.EVENT_READ)
        deadline = None
        while pipes and (deadline is None or time.monotonic() < deadline):
            if deadline is None and failed.exists():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1.0)  # others may have something to say
                _end(process)
            if deadline is None and process.poll() is not None:
                deadline = time.monotonic() + 2.0  # for the last lines of processes that died
            ready = [key.fd for key, _ in waiting.select(0.05)]
            got = {pipe: os.read(pipe, 1 << 16) for pipe in ready}
            for pipe, data in got.items():
                _write_all(pipes[pipe], data)
            if not any(got.values()):
                if deadline is not None:
                    return  # nothing is left, and nobody is there to write more
                time.sleep(0.01)  # before the first and after the last writer a pipe reads as empty


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


# ------------------------------------------------------------------------------------- in each rank
def _as_rank(folder: str, prefix: str, kind: str, script: str, *args: str) -> None:
    """Be one of the processes: mark the output, run the script, end all if it fails."""
    rank = next((os.environ[name] for name in _RANKS if name in os.environ), "?")
    _mark(f"[{rank}] ".encode() if prefix == "1" else b"", folder)
    sys.argv = [script, *args]
    try:
        if kind == "m":
            sys.path.insert(0, os.getcwd())
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
            runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code:
            if not isinstance(end.code, int):
                print(end.code, file=sys.stderr)
            _abort(code, folder)
        raise
    except BaseException as error:
        _show(error)
        _abort(130 if isinstance(error, KeyboardInterrupt) else 1, folder)


def _show(error: BaseException) -> None:
    """Print a traceback as Python does for a script, without the frames that run it."""
    frames = error.__traceback__
    ours = (__file__, runpy.__file__, "<frozen runpy>")
    while frames is not None and frames.tb_frame.f_code.co_filename in ours:
        frames = frames.tb_next
    sys.excepthook(type(error), error.with_traceback(frames), frames)


def _abort(code: int, folder: str) -> NoReturn:
    """End all processes. A rank that just left would wait in MPI's end for those that wait for it.

    Args:
        code: what the launcher is to end with; that of the first rank that fails counts.
        folder: of the launcher, if it is on this machine.
    """
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    if folder:
        with contextlib.suppress(OSError):  # another rank was first, or the launcher is gone
            mine = Path(folder) / f"failed-{os.getpid()}"
            mine.write_text(str(code))
            os.link(mine, Path(folder) / "failed")
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.COMM_WORLD.Abort(code)
    os._exit(code)


def _mark(prefix: bytes, folder: str) -> None:
    """Send this process's output through another one, which marks its lines.

    That one ends when every process that can write has ended, however it did.
    """
    pipes = {name: os.pipe() for name in _STREAMS}
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:  # a fork of its own, so that the script never meets a child it did not make
        try:
            if os.fork() == 0:
                os.setsid()  # mpirun ends the group of a rank; the last lines must still come out
                for name in _FORWARDED:
                    signal.signal(getattr(signal, name), signal.SIG_IGN)
                for _, write in pipes.values():
                    os.close(write)
                _filter(prefix, folder, {read: name for name, (read, _) in pipes.items()})
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    for number, (read, write) in enumerate(pipes.values(), 1):
        os.close(read)
        os.dup2(write, number)
        os.close(write)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _filter(prefix: bytes, folder: str, sources: dict[int, str]) -> None:
    """Copy lines with a mark before each, whole ones, as long as there is somebody to write."""
    sinks = dict(zip(_STREAMS, (1, 2), strict=True))
    lock = None
    if folder:
        sinks = {name: os.open(os.path.join(folder, name), os.O_WRONLY) for name in _STREAMS}
        lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):  # mpirun must not wait for this process
            os.dup2(nothing, number)
    rest = dict.fromkeys(sources, b"")
    with selectors.DefaultSelector() as waiting:
        for source in sources:
            waiting.register(source, selectors.EVENT_READ)
        while waiting.get_map():
            for key, _ in waiting.select():
                data = os.read(key.fd, 1 << 16)
                if not data:
                    waiting.unregister(key.fd)
                    data = b"\n" if rest[key.fd] else b""
                *lines, rest[key.fd] = (rest[key.fd] + data).split(b"\n")
                marked = b"".join(prefix + line + b"\n" for line in lines)
                if lock is not None:
                    fcntl.flock(lock, fcntl.LOCK_EX)  # pipes keep only 4 KB together
                _write_all(sinks[sources[key.fd]], marked)
                if lock is not None:
                    fcntl.flock(lock, fcntl.LOCK_UN)


if __name__ == "__main__":
    if sys.argv[1:2] == [_AS_RANK]:
        _as_rank(*sys.argv[2:])
    else:
        sys.exit(main())
