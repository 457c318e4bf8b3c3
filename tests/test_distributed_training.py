"""Training in several processes gives what one process gives with the whole batch.

Most of it runs in one process, whose lanes stand for processes. What processes do is in
training_cases.py, which runs once with two and once with four of them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import data, launch, lax, nnx, optim, parallel, random
from funtorch.parallel.averaging import buckets
from funtorch.sharding import PartitionSpec as P

SCRIPT = Path(__file__).with_name("training_cases.py")
needs_mpi = pytest.mark.skipif(
    launch.find_mpirun() is None or importlib.util.find_spec("mpi4py") is None,
    reason="needs an MPI and mpi4py: pip install 'funtorch[mpi]'",
)
# Named here too, so that a case that has not run is a failure.
BOTH = (
    "averaged bfloat16_sums data_parallel fully_sharded gradients_that_are_summed_already pipeline "
    "sampled_by_a_loader saved_in_parts tensor_parallel zero "
)
CASES = {
    2: BOTH + "averaged_unchecked fully_sharded_unchecked tensor_parallel_unchecked",
    4: BOTH + "data_and_tensor_parallel",
}


def launched(
    ranks: int, what: str, folder: Path, *arguments: Any
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "funtorch.launch", "-n", str(ranks), "--threads", "1"]
    command += [str(SCRIPT), what, str(folder), *map(str, arguments)]
    # Waiting ranks leave the processors to the others, of which a machine may have many.
    environment = os.environ | {"OMPI_MCA_mpi_yield_when_idle": "1"}
    environment["FUNTORCH_CACHE_DIR"] = str(folder.parent / "code")  # of the launches of one test
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


# ------------------------------------------------------------------------------------ in processes
@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("cases")
    results = {}
    for ranks in (2, 4):
        done = launched(ranks, "all", folder)
        assert done.returncode == 0, done.stderr
        results[ranks] = json.loads((folder / f"cases-{ranks}.json").read_text())
    return folder, results


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_processes_train_as_one(found: tuple[Path, dict[int, dict[str, Any]]], ranks: int) -> None:
    results = found[1][ranks]
    assert sorted(results) == sorted(CASES[ranks].split())
    for name, of_ranks in results.items():
        for rank, worst in enumerate(of_ranks):
            assert not isinstance(worst, str), f"{name}, rank {rank}: {worst}"
            assert worst < 1e-13, f"{name}, rank {rank}"


@needs_mpi
def test_one_process_reads_the_parts_of_many(found: tuple[Path, dict[int, dict[str, Any]]]) -> None:
    for ranks in (2, 4):
        path = found[0] / f"parts-{ranks}.safetensors"
        tree = ft.load(path)
        np.testing.assert_array_equal(tree["rows"], np.arange(24.0).reshape(8, 3))
        np.testing.assert_array_equal(tree["columns"], np.arange(8).reshape(1, 8))
        assert tree["half"].dtype == fnp.bfloat16
        assert tree["step"] == 7
        np.testing.assert_array_equal(tree["complex"], np.arange(4) * 1j)
    part = next(found[0].glob("parts-4.*.2.part"))
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"\.2\.part cannot be loaded: it is damaged"):
        ft.load(path)
    part.unlink()
    with pytest.raises(ValueError, match=r"process 2 wrote, .*\.2\.part, are missing"):
        ft.load(path)


@needs_mpi
def test_a_run_whose_process_is_killed_ends_with_the_bits_of_a_quiet_one(tmp_path: Path) -> None:
    quiet = launched(2, "resume", tmp_path / "quiet")
    assert quiet.stdout == "[0] begins after step 0\n", quiet.stderr
    killed = launched(2, "resume", tmp_path / "killed", 7)
    assert killed.returncode != 0
    again = launched(2, "resume", tmp_path / "killed")
    assert again.stdout in ("[0] begins after step 6\n", "[0] begins after step 7\n"), again.stderr
    model = nnx.Sequential(
        nnx.Linear(6, 8, key=random.key(0), dtype=fnp.float64), nnx.Tanh(),
        nnx.Linear(8, 3, key=random.key(1), dtype=fnp.float64),
    )  # fmt: skip
    like = {"model": model, "state": optim.adamw(1e-2).init(model), "step": 0}
    ends = [
        ft.load(tmp_path / name / "final.safetensors", like=like) for name in ("quiet", "killed")
    ]
    assert ends[0]["step"] == 12
    for a, b in zip(*map(ft.tree.leaves, ends), strict=True):
        np.testing.assert_array_equal(a, b)
    files = sorted(p.name for p in (tmp_path / "killed").glob("*step*"))
    assert [f for f in files if f.endswith(".safetensors")] == [
        "step-000000000011.safetensors", "step-000000000012.safetensors"
    ]  # fmt: skip
    assert len(files) == 6  # and the parts of these two: nothing of the killed run is left


# -------------------------------------------------------------------------- in one process
def over(count: int, f: Any, *args: Any, in_axes: Any = 0) -> Any:
    return ft.jit(ft.vmap(f, in_axes, axis_name="data"))(*args)


def test_buckets_are_filled_from_the_end_by_dtype() -> None:
    leaves = [np.ones(3), np.ones(2, "f4"), np.ones(1), np.ones(2), np.ones(1, "f4")]
    assert sorted(buckets(leaves, 24)) == [[0], [3, 2], [4, 1]]
    assert sorted(buckets(leaves, 1)) == [[0], [1], [2], [3], [4]]
    large = [np.ones(2), np.ones(1 << 17), np.ones(2)]
    assert sorted(buckets(large, 1 << 30)) == [[1], [2, 0]]


@pytest.mark.parametrize("limit", [1, 50, 1 << 20])
def test_averages_do_not_depend_on_buckets(limit: int) -> None:
    chance = np.random.default_rng(1)
    shapes = {"a": (4,), "b": (2, 3), "c": (), "none": (0, 2)}
    tree = {k: chance.normal(size=(4, *s)) for k, s in shapes.items()} | {"skipped": None}
    tree["z"] = chance.normal(size=(4, 2)) + 1j
    found = over(4, lambda x: parallel.average(x, bucket_bytes=limit), tree)
    assert found["skipped"] is None
    for name in (*shapes, "z"):
        expected = np.broadcast_to(tree[name].mean(0), tree[name].shape)
        np.testing.assert_allclose(found[name], expected, rtol=1e-15, atol=1e-16)


def test_messages_are_as_many_as_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    psum = lax.psum
    monkeypatch.setattr(lax, "psum", lambda x, name: sent.append(x.size) or psum(x, name))
    over(2, parallel.average, [fnp.ones((2, n)) for n in (3, 4, 1 << 18, 2)])
    assert sorted(sent) == [9, 1 << 18]


def test_half_precision_is_averaged_in_float32() -> None:
    x = np.full((512, 1), 200.0)  # the sum overflows float16; bfloat16 stops at 256 terms
    for dtype in (fnp.float16, fnp.bfloat16):
        found = over(512, parallel.average, fnp.asarray(x, dtype=dtype))
        assert found.dtype == dtype
        assert (np.asarray(found, np.float32) == 200).all()


def test_what_cannot_be_averaged_is_named() -> None:
    with pytest.raises(
        TypeError, match=r"average averages arrays of floats; \['n'\] is int32\[3\]"
    ):
        over(2, parallel.average, {"n": fnp.ones((2, 3), int)})
    with pytest.raises(NameError, match="no axis named 'data'"):
        ft.vmap(parallel.average, axis_name="other")(fnp.ones(2))
    assert parallel.average({"x": 3.0}) == {"x": 3.0}  # one process alone


def test_results_besides_the_loss_are_left_alone() -> None:
    def loss(w: Any, x: Any) -> Any:
        return (w * x).mean(), {"count": lax.axis_index("data")}

    f = parallel.averaged(ft.value_and_grad(loss, has_aux=True))
    (value, aux), grad = over(2, f, 2.0, fnp.array([[1.0], [3.0]]), in_axes=(None, 0))
    assert value.tolist() == [4, 4]
    assert grad.tolist() == [2, 2]
    assert aux["count"].tolist() == [0, 1]


def test_zero_alone_is_the_optimizer_with_clipping() -> None:
    params, grads = {"w": fnp.ones((2, 4)), "b": None}, {"w": fnp.full((2, 4), 3.0), "b": None}
    ours = parallel.zero(optim.adam(0.1), max_norm=1.0)
    theirs = optim.chain(optim.clip_by_global_norm(1.0), optim.adam(0.1))
    updates, _ = ours.update(grads, ours.init(params), params)
    expected, _ = theirs.update(grads, theirs.init(params), params)
    np.testing.assert_array_equal(updates["w"], expected["w"])
    assert updates["b"] is None
    with pytest.raises(ValueError, match="zero takes max_norm at least 0; it was given -1"):
        parallel.zero(optim.sgd(0.1), max_norm=-1)


@pytest.mark.parametrize("shape", [(), (0,), (6,), (3, 4), (5, 8, 4), (7, 3), (2, 0, 4)])
def test_parts_make_the_whole(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(2).normal(size=shape)
    found = over(2, lambda _: parallel.gathered(parallel.own_part(x), x), fnp.zeros(2))
    np.testing.assert_array_equal(found, [x, x])
    (spec,) = ft.tree.leaves([parallel.divided_specs(x, 2)])
    axis = parallel.divided_axis(shape, 2)
    assert spec == (P() if axis is None else P(*[None] * axis, "data"))


def test_layers_that_do_not_divide_say_so() -> None:
    layer = nnx.ColumnParallel(nnx.Linear(4, 6, key=random.key(0)))
    with pytest.raises(ValueError, match="among 4 processes: out_features=6 is no multiple of 4"):
        nnx.partition_specs(layer, {"model": 4})
    attention = nnx.ParallelAttention(8, 2, key=random.key(0))
    with pytest.raises(ValueError, match="num_heads=2 is no multiple of 4"):
        nnx.partition_specs([attention], {"model": 4})
    with pytest.raises(ValueError, match="embed_dim=8, num_heads=3"):
        nnx.ParallelAttention(8, 3, key=random.key(0))
    row = nnx.RowParallel(nnx.Linear(4, 6, key=random.key(0)))
    with pytest.raises(ValueError, match=r"shape \(..., 4\), its part of 4 inputs; .* \(2, 3\)"):
        row(fnp.ones((2, 3)))


def test_a_pipeline_keeps_the_shape() -> None:
    stage = lambda w, x: fnp.zeros(4)
    run = ft.vmap(lambda w: parallel.pipeline(stage, w, fnp.ones((2, 3))), axis_name="stage")
    expected = r"took float32\[3\] and gave float32\[4\]; the next stage"
    with pytest.raises(ValueError, match=expected):
        run(fnp.ones(2))


def test_the_mesh_of_data_parallel_has_its_axis() -> None:
    mesh = ft.make_mesh((1,), ("model",))
    step = parallel.data_parallel(lambda x: x, mesh=mesh)
    with pytest.raises(
        ValueError, match="has no axis 'data': name one of its axes with axis_name="
    ):
        step(fnp.ones(2))


def test_samplers_know_the_processes() -> None:
    assert data.DistributedSampler(5, shuffle=False).order(0).tolist() == [0, 1, 2, 3, 4]


# What torch.utils.data.DistributedSampler (2.13) gives without shuffling, by (size, drop_last), for
# ranks 0 to 2 of 3.
TORCH = {
    (7, False): [[0, 3, 6], [1, 4, 0], [2, 5, 1]],
    (7, True): [[0, 3], [1, 4], [2, 5]],
    (2, False): [[0], [1], [0]],
    (2, True): [[], [], []],
    (6, True): [[0, 3], [1, 4], [2, 5]],
}


@pytest.mark.parametrize(("size", "drop"), TORCH)
def test_samplers_pad_and_drop_as_in_torch(size: int, drop: bool) -> None:
    for rank, expected in enumerate(TORCH[size, drop]):
        sampler = data.DistributedSampler(size, 3, rank, shuffle=False, drop_last=drop)
        assert (list(sampler), len(sampler)) == (expected, len(expected))


def test_each_epoch_of_a_loader_has_its_own_order() -> None:
    numbers = data.ArrayDataset(np.arange(12))
    parts = []
    for rank in range(2):
        sampler = data.DistributedSampler(numbers, 2, rank, seed=1)
        loader = data.DataLoader(numbers, batch_size=3, sampler=sampler)
        parts.append([[i for batch in loader for i in batch.tolist()] for _ in range(2)])
        sampler.set_epoch(1)
        assert list(sampler) == parts[-1][1]
    for epoch in range(2):
        assert sorted(parts[0][epoch] + parts[1][epoch]) == list(range(12))
    assert parts[0][0] != parts[0][1]
