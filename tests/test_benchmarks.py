"""The benchmark as a program: it runs without the peers, says what is missing, and judges right."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def harness():
    """Return the benchmark's harness; the root is on the path for a moment only, because it would
    make `transforms` importable as a second, bare copy."""
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks import harness
    finally:
        sys.path.remove(str(ROOT))
    return harness


def bench(*args, **environment):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *args],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_one_row_is_measured_and_saved(tmp_path):
    done = bench("--only", "eager-add", "--rounds", "1", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "| eager x + x, 3 elements " in done.stdout
    # Without a peer there is no ratio to draw.
    compared = "torch: not installed" not in done.stdout
    assert (tmp_path / "benchmarks.png").exists() == compared
    (record,) = json.loads((tmp_path / "benchmarks.json").read_text())
    assert record["name"] == "eager-add"
    assert 0 < record["seconds"]["funtorch"] < 1e-3


def test_kernels_of_openblas_are_not_chosen_by_hand(tmp_path):
    done = bench("--only", "matmul-64", "--rounds", "1", "--out", str(tmp_path))
    forced = bench(
        "--only", "matmul-64", "--rounds", "1", "--out", str(tmp_path), OPENBLAS_CORETYPE="Prescott"
    )
    assert done.returncode == forced.returncode == 0, forced.stderr
    assert "Prescott" not in forced.stdout


def test_unknown_rows_are_named():
    done = bench("--only", "gemm")
    assert done.returncode != 0
    assert "no row is called gemm; there are: ['gelu', 'grad-gelu'" in done.stderr


def result(harness, medians, *targets):
    row = harness.Row("a", "work", targets, makers={})
    return harness.Result(row, medians, {})


def test_verdicts(harness):
    best = harness.Target(2.0)
    copy = harness.Target(0.5, "copy")
    medians = {"funtorch": 1.0, "jax": 2.0, "torch": 3.0, "copy": 0.4}
    assert dict(result(harness, medians, best, copy).verdicts()) == {best: True, copy: False}
    assert result(harness, medians, best).ratio() == 2.0
    medians["jax"] = 1.9
    assert dict(result(harness, medians, best).verdicts()) == {best: False}
    assert dict(result(harness, {"funtorch": 1.0}, best).verdicts()) == {best: None}
    assert dict(result(harness, {"jax": 1.0}, best).verdicts()) == {best: False}
    slack = harness.Target(1.0, "numpy", 0.15)
    got = result(harness, {"funtorch": 0.2, "numpy": 0.1}, slack)
    assert dict(got.verdicts()) == {slack: True}
    assert str(slack) == "1x numpy + 150 ms"


def test_whoever_cannot_is_left_out_with_a_note(harness):
    row = harness.Row("a", "work", ())
    row.makers = {
        "funtorch": lambda lib: lib.no_such_name,
        "numpy": lambda lib: lambda: lib.ones(2),
    }
    row.makers["no_such_module"] = row.makers["numpy"]
    notes = {}
    assert list(harness.start(row, notes)) == ["numpy"]
    assert notes["funtorch"].startswith("not there: module 'funtorch' has no attribute")
    assert notes["no_such_module"] == "not installed"


def test_different_results_are_told(harness):
    row = harness.Row("a", "work", ())
    row.makers = {
        "funtorch": lambda lib: lambda: {"a": lib.numpy.ones(2)},
        "numpy": lambda lib: lambda: [lib.full(2, 1.5)],
    }
    notes = {}
    harness.start(row, notes)
    assert notes == {"numpy": "results differ by 0.3 of the largest"}
    assert harness.disagreement([1.0], [1.0, 2.0], 0.1) == "other shapes: [()] against [(), ()]"
    assert (
        harness.disagreement([float("nan")], [1.0], 0.1) == "results differ by nan of the largest"
    )


def test_contenders_take_turns(harness):
    turns = []

    def worker(name):
        return lambda: turns.append(name)

    medians, fastest = harness.measure({"a": worker("a"), "b": worker("b")}, rounds=3, seconds=1e-9)
    assert set(medians) == set(fastest) == {"a", "b"}
    assert all(fastest[name] <= medians[name] for name in medians)
    rounds = [turns[k : k + 4] for k in range(2, len(turns), 4)]
    assert rounds == [["a", "a", "b", "b"], ["b", "b", "a", "a"], ["a", "a", "b", "b"]]
