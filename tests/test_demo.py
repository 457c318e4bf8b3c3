"""`make demo` learns, saves, reloads in a fresh process and draws."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from funtorch import io

SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "train_digits.py"


def run_demo(out: Path, *options: str) -> tuple[float, str]:
    """Run the demo in a process of its own; return the test accuracy it reports, and its output."""
    pytest.importorskip("sklearn", reason="the demo needs the examples extra")
    command = [sys.executable, str(SCRIPT), "--out", str(out), *options]
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.strip().splitlines()[-1]
    match = re.fullmatch(r"test accuracy ([\d.]+)% on 360 digits in ([\d.]+) s", last)
    assert match, last
    return float(match[1]) / 100, done.stdout


def test_short_run_writes_its_files(tmp_path: Path) -> None:
    accuracy, output = run_demo(tmp_path / "run", "--epochs", "3", "--seed", "1")
    assert accuracy > 0.9
    assert "MLP  # 17,226 parameters" in output
    assert "epoch   3" in output
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"digits.png", "digits.safetensors"}
    assert (tmp_path / "run" / "digits.png").read_bytes().startswith(b"\x89PNG")
    arrays = io.load(tmp_path / "run" / "digits.safetensors")
    assert {name: x.shape for name, x in arrays.items()} == {
        "l1.weight": (128, 64), "l1.bias": (128,),
        "l2.weight": (64, 128), "l2.bias": (64,),
        "l3.weight": (10, 64), "l3.bias": (10,),
    }  # fmt: skip


def test_full_run_reaches_97_percent(tmp_path: Path) -> None:
    accuracy, _ = run_demo(tmp_path / "run")
    assert accuracy >= 0.97


def test_batch_size_must_be_positive(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the demo needs the examples extra")
    command = [sys.executable, str(SCRIPT), "--batch-size", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "0 is not 1 or more" in done.stderr
