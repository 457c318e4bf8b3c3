"""The launcher: what it tells each kind of MPI, what comes out of it, and how it ends."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from funtorch import launch

needs_mpi = pytest.mark.skipif(
    launch.find_mpirun() is None or importlib.util.find_spec("mpi4py") is None,
    reason="needs an MPI and mpi4py: pip install 'funtorch[mpi]'",
)
OPEN_MPI = "mpirun (Open MPI) 5.0.11"


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_cores", lambda: 2)
    monkeypatch.setattr(launch.os, "geteuid", lambda: 1000)


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(
    ("version", "ranks", "hosts", "expected"),
    [
        (OPEN_MPI, 2, (), "--bind-to none --host localhost:2"),
        (OPEN_MPI, 3, (), "--bind-to none --map-by :OVERSUBSCRIBE --mca mpi_yield_when_idle 1"),
        (OPEN_MPI, 3, ("a", "b"), "--bind-to none --host a:2,b:1 -x OMP_NUM_THREADS"),
        (OPEN_MPI, 1, ("a", "b"), "--bind-to none --host a:1 -x OMP_NUM_THREADS"),
        ("HYDRA build details:", 4, (), ""),
        ("HYDRA build details:", 4, ("a:1", "b:3"), "-hosts a:1,b:3"),
        ("Intel(R) MPI Library for Linux* OS", 2, (), ""),
    ],
)
def test_each_mpi_is_told_in_its_own_words(
    version: str, ranks: int, hosts: tuple[str, ...], expected: str
) -> None:
    command = launch.command("mpirun", version, ranks, hosts, ["OMP_NUM_THREADS"])
    assert command == ["mpirun", "-n", str(ranks), *expected.split()]


def test_root_is_allowed_and_an_unknown_mpi_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.os, "geteuid", lambda: 0)
    assert "--allow-run-as-root" in launch.command("mpirun", OPEN_MPI, 1)
    with pytest.raises(
        RuntimeError, match=r"knows Open MPI and MPICH; /x/mpirun --version says 'L"
    ):
        launch.command("/x/mpirun", "LAM 7.1", 2)


def test_a_missing_mpirun_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "find_mpirun", lambda: None)
    assert launch.main([__file__]) == 127
    assert "pip install 'funtorch[mpi]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "0", __file__], "-n takes a number of processes, at least 1; got 0"),
        (["--threads", "0", __file__], "--threads takes at least 1; got 0"),
        (["nowhere.py"], "there is no file 'nowhere.py'; for a module write -m before its name"),
        ([], "the following arguments are required: script"),
    ],
)
def test_bad_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        launch.main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        launch.main(["--help"])
    assert "python -m funtorch.launch -n 4 train.py --epochs 10" in capsys.readouterr().out


@pytest.mark.usefixtures("two_cores")
def test_threads_are_shared_unless_somebody_has_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FUNTORCH_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert launch._environment(1, (), None)["OMP_NUM_THREADS"] == "2"
    assert launch._environment(3, (), None)["OMP_NUM_THREADS"] == "1"
    assert launch._environment(4, ("a", "b"), None)["FUNTORCH_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert launch._environment(3, (), None) == {}
    assert launch._environment(3, (), 7)["OMP_NUM_THREADS"] == "7"


# -------------------------------------------------------------------------- real processes
def launched(folder: Path, script: str, *arguments: str, ranks: int = 2) -> list[str]:
    path = folder / "script.py"
    path.write_text("import os, signal, sys, time\nfrom mpi4py import MPI\n"
                    "comm = MPI.COMM_WORLD\n" + script)  # fmt: skip
    return [sys.executable, "-m", "funtorch.launch", "-n", str(ranks), str(path), *arguments]


def run(command: list[str], **options: Any) -> tuple[subprocess.CompletedProcess[str], float]:
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    return done, time.monotonic() - start


@needs_mpi
def test_lines_of_all_ranks_come_whole_and_marked(tmp_path: Path) -> None:
    script = """
assert __name__ == "__main__" and sys.argv[1:] == ["--epochs", "3"], sys.argv
assert sys.path[0] == os.path.dirname(os.path.abspath(__file__))
lines = [f"{k} of rank {comm.rank} {'x' * (7 * k % 300)} end {k}\\n" for k in range(2000)]
os.write(1, "".join(lines[:1000]).encode())  # pipes would mix them
for line in lines[1000:]:
    sys.stdout.write(line)
print("warned", file=sys.stderr)
os.write(1, b"no end of line")
"""
    done, _ = run(launched(tmp_path, script, "--epochs", "3", ranks=3))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    form = re.compile(r"\[(\d)\] (\d+) of rank (\d) x* end (\d+)")
    found = [m for m in map(form.fullmatch, lines) if m]
    assert all(m[1] == m[3] and m[2] == m[4] for m in found)
    for rank in "012":
        assert [int(m[2]) for m in found if m[1] == rank] == list(range(2000))
        assert lines.count(f"[{rank}] no end of line") == 1
        assert done.stderr.splitlines().count(f"[{rank}] warned") == 1
    assert len(lines) == 3 * 2001


ENDS = {
    "an exception": ("raise ValueError('bad')", 1, "[1] ValueError: bad"),
    "an exit": ("sys.exit(7)", 7, "exit code 7"),
    "a kill": ("os.kill(os.getpid(), signal.SIGKILL)", 137, "exit code 137 (SIGKILL)"),
}


@needs_mpi
@pytest.mark.parametrize("what", ENDS)
def test_when_one_rank_ends_badly_all_end(what: str, tmp_path: Path) -> None:
    end, code, message = ENDS[what]
    script = f"if comm.rank == 1:\n    {end}\ncomm.Barrier()\n"
    done, seconds = run(launched(tmp_path, script))
    if "Open MPI" not in _version() and what == "a kill":
        code, message = done.returncode or -1, "exit code"
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "<frozen runpy>" not in done.stderr
    assert seconds < 30  # of which 10 are for the end; the rest is for a machine with much to do


def _version() -> str:
    mpirun = launch.find_mpirun()
    assert mpirun is not None
    return subprocess.run([mpirun, "--version"], capture_output=True, text=True).stdout


@needs_mpi
def test_signals_go_to_the_ranks(tmp_path: Path) -> None:
    script = """
signal.signal(signal.SIGUSR1, lambda number, frame: print("saving"))
print("ready")
time.sleep(60)
time.sleep(60)
"""
    process = subprocess.Popen(
        launched(tmp_path, script), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with _ended(process):
        assert process.stdout is not None
        assert {process.stdout.readline() for _ in range(2)} == {"[0] ready\n", "[1] ready\n"}
        process.send_signal(signal.SIGUSR1)
        assert {process.stdout.readline() for _ in range(2)} == {"[0] saving\n", "[1] saving\n"}
        process.send_signal(signal.SIGINT)
        assert process.wait(20) != 0


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    with process:
        try:
            yield
        finally:
            if process.poll() is None:
                process.terminate()


# -------------------------------------------------------------------------- separate hosts
NET = "10.213.77"
AGENT = """#!/bin/sh
# In the place of ssh: HOST COMMAND..., in a network and with a name of its own.
host=${1##*.}; shift
exec ip netns exec PREFIX$host unshare --uts --mount sh -c \
  'mount --bind /dev/null /etc/resolv.conf; hostname "$0"; exec sh -c "$1"' "node$host" "$*"
"""


@pytest.fixture
def two_hosts(tmp_path: Path) -> Iterator[str]:
    """Make two network namespaces with a bridge between them; give the script that enters them."""
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("unshare")):
        pytest.skip("needs root, iproute2 and unshare to make network namespaces")
    prefix = f"ft{os.getpid() % 10000}h"
    steps = [f"link add {prefix}b type bridge", f"addr add {NET}.254/24 dev {prefix}b"]
    steps.append(f"link set {prefix}b up")
    for k in "12":
        steps += [
            f"netns add {prefix}{k}",
            f"link add {prefix}v{k} type veth peer name eth0 netns {prefix}{k}",
            f"link set {prefix}v{k} master {prefix}b up",
            f"-n {prefix}{k} addr add {NET}.{k}/24 dev eth0",
            f"-n {prefix}{k} link set eth0 up",
            f"-n {prefix}{k} link set lo up",
        ]
    agent = tmp_path / "agent.sh"
    agent.write_text(AGENT.replace("PREFIX", prefix))
    agent.chmod(0o755)
    try:
        for step in steps:
            done = subprocess.run(["ip", *step.split()], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"network namespaces cannot be made here: ip {step}: {done.stderr}")
        yield str(agent)
    finally:
        for step in (f"netns del {prefix}1", f"netns del {prefix}2", f"link del {prefix}b"):
            subprocess.run(["ip", *step.split()], capture_output=True)


@needs_mpi
def test_ranks_on_separate_hosts_talk_and_end_together(two_hosts: str, tmp_path: Path) -> None:
    if "Open MPI" not in _version():
        pytest.skip("the script in the place of ssh is told to Open MPI")
    script = """
import socket
from funtorch import distributed
total = distributed.communicator().allgather_object(socket.gethostname())
print(*total, os.environ["OMP_NUM_THREADS"])
sys.stdout.flush()
comm.Barrier()
time.sleep(0.5)
if comm.rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
comm.Barrier()
"""
    command = launched(tmp_path, script)
    at = command.index("-n")
    command[at:at] = ["--host", f"{NET}.1,{NET}.2", "--threads", "3"]
    command[at:at] = ["--mpi-args", f"--mca plm_rsh_agent {two_hosts}"]
    done, _ = run(command)
    assert sorted(done.stdout.split("\n")) == ["", "[0] node1 node2 3", "[1] node1 node2 3"]
    # Whether mpirun sees the killed rank first, or the other its lost connection, is a race.
    assert done.returncode != 0
    assert "2 processes ended with exit code" in done.stderr
