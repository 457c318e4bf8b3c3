"""Saving and loading: trees there and back, damaged and hostile files, runs that are killed."""

from __future__ import annotations

import json
import random as pyrandom
import re
import signal
import subprocess
import sys
import time
import zlib
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import io, nnx, optim, random

pytest.importorskip("safetensors", reason="it is what writes the files")


class Pair(NamedTuple):
    a: object
    b: object


def same(x: object, y: object) -> bool:
    if isinstance(x, random.KeyArray):
        return type(y) is type(x) and bool((random.key_data(x) == random.key_data(y)).all())
    if hasattr(x, "dtype"):
        assert isinstance(y, ft.Array)
        a, b = np.asarray(x), np.asarray(y)
        weak = getattr(x, "weak_type", False) == y.weak_type
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() and weak
    return type(x) is type(y) and repr(x) == repr(y)


def assert_same(x: object, y: object) -> None:
    assert ft.tree.structure(x) == ft.tree.structure(y)
    pairs = zip(ft.tree.leaves(x), ft.tree.leaves(y), strict=True)
    assert all(same(a, b) for a, b in pairs)


def everything() -> dict[str, object]:
    return {
        "scalars": [1, -(10**30), 1.5, float("nan"), float("-inf"), -0.0, True, None, "ä\x00",
                    b"\xff", complex(1, float("inf"))],
        "containers": ({}, [], (), Pair(1, [fnp.ones(2)]), {"z": 1, "a": {3: 4}}),
        "keys": (random.key(3), random.split(random.key(1), (2, 2)), random.PRNGKey(7)),
        "weak": fnp.asarray(1.0),
        "arrays": [
            np.zeros((0, 3), np.int8), np.array(2.0), np.array([True]),
            np.arange(6.0).reshape(2, 3).T, np.float32(3), np.arange(3).astype(">i4"),
            *(np.arange(4).astype(t) for t in (
                np.uint64, np.float16, np.complex64, np.complex128, ml_dtypes.bfloat16)),
        ],
    }  # fmt: skip


def a_run() -> dict[str, object]:
    model = nnx.Linear(3, 2, key=random.key(0))
    return {"model": model, "state": optim.adamw(1e-3).init(model), "key": random.key(1), "step": 5}


# ------------------------------------------------------------------------------------- round trips
def native(x: object) -> object:
    return x.astype("=i4") if isinstance(x, np.ndarray) and not x.dtype.isnative else x


def test_every_kind_of_leaf_and_container(tmp_path) -> None:
    tree = everything()
    io.save(tmp_path / "a", tree)
    expected = ft.tree.map(native, tree)
    assert_same(expected, io.load(tmp_path / "a"))
    assert_same(expected, io.load(tmp_path / "a", like=tree))
    assert list(io.load(tmp_path / "a")["containers"][4]) == ["z", "a"]


@pytest.mark.parametrize("leaf", [3, fnp.ones((2, 2)), random.key(0), "text"])
def test_a_single_leaf_is_a_tree(leaf: object, tmp_path) -> None:
    ft.save(tmp_path / "a", leaf)
    assert_same(leaf, ft.load(tmp_path / "a"))


def test_models_and_optimizer_states_need_a_like(tmp_path) -> None:
    run = a_run()
    io.save(tmp_path / "a", run)
    fresh = a_run() | {"model": nnx.Linear(3, 2, key=random.key(9)), "step": 0}
    assert_same(run, io.load(tmp_path / "a", like=fresh))
    shapes = ft.eval_shape(lambda: a_run()["model"])
    io.save(tmp_path / "b", run["model"])
    assert_same(run["model"], io.load(tmp_path / "b", like=shapes))
    with pytest.raises(ValueError, match=r"holds a Linear at 'model'; .*like="):
        io.load(tmp_path / "a")


def test_a_state_dict_of_another_program(model_file, tmp_path) -> None:
    arrays = io.load(model_file)
    assert list(arrays) == ["bias", "weight"]
    layer = nnx.load_state_dict(nnx.Linear(3, 2, key=random.key(0)), arrays)
    np.testing.assert_array_equal(layer.weight, np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"was not written by funtorch\.save"):
        io.load(model_file, like={"bias": fnp.ones(2)})


@pytest.fixture
def model_file(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "other.safetensors"
    arrays = {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)}
    save_file(arrays, str(path), {"format": "pt"})
    return path


def test_what_we_write_other_programs_read(tmp_path) -> None:
    from safetensors.numpy import load_file

    ft.save(tmp_path / "a", {"model": nnx.Linear(3, 2, key=random.key(0)), "step": 3})
    assert set(load_file(str(tmp_path / "a"))) == {"model.weight", "model.bias"}


def test_save_keeps_dtypes_shapes_and_order(tmp_path) -> None:
    arrays = {
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "half": fnp.asarray([1.5, 2.0], dtype=fnp.bfloat16),
        "scalar": np.array(3, np.int64),
        "empty": np.ones((0, 2), bool),
        "nested": {"deeper": {"c": np.ones(2, np.complex64)}},
    }
    io.save(tmp_path / "a", arrays)
    loaded = io.load(tmp_path / "a")
    assert ft.tree.structure(loaded) == ft.tree.structure(arrays)
    assert list(loaded) == list(arrays)
    for a, b in zip(ft.tree.leaves(loaded), ft.tree.leaves(arrays), strict=True):
        assert isinstance(a, ft.Array)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_failed_save_leaves_the_old_file(tmp_path) -> None:
    io.save(tmp_path / "a", {"x": fnp.ones(2)})
    with pytest.raises(TypeError, match="'y' of dtype object"):
        io.save(tmp_path / "a", {"x": fnp.zeros(2), "y": np.array([print])})
    assert list(io.load(tmp_path / "a")) == ["x"]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("tree", "error", "text"),
    [
        (print, TypeError, "what it was given is a builtin_function_or_method"),
        ({"a": [1, {3}]}, TypeError, "'a.1' is a set"),
        ({"a": np.array(["text"])}, TypeError, "'a' of dtype <U4"),
        ({"a": {"b": np.array(0, "m8[s]")}}, TypeError, "'a.b' of dtype timedelta64[s]"),
        ({"a": {"b": np.ones(1)}, "a.b": np.ones(1)}, ValueError, "both named 'a.b'"),
    ],
)
def test_what_save_refuses(tree: object, error: type, text: str, tmp_path) -> None:
    with pytest.raises(error, match=re.escape(text)):
        io.save(tmp_path / "a", tree)


def test_load_of_another_format(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"not at all in this format")
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        io.load(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        io.load(tmp_path / "b")


def test_what_does_not_fit_is_listed_at_once(tmp_path) -> None:
    io.save(tmp_path / "a", {"w": fnp.ones(3), "old": 1, "v": fnp.ones(2)})
    like = {"w": fnp.ones(4), "new": fnp.ones((2, 2)), "v": np.ones(2, np.int32)}
    with pytest.raises(ValueError, match="does not fit like") as raised:
        io.load(tmp_path / "a", like=like)
    text = str(raised.value)
    assert "missing: ['new'] float32[2,2]" in text
    assert "unknown: ['old']" in text
    assert "['w'] is float32[4] in like, float32[3] in the file" in text
    assert "['v'] is int32[2] in like, float32[2] in the file" in text


# ------------------------------------------------------------------------------------- bad files
def test_every_truncation_is_an_error(tmp_path) -> None:
    io.save(tmp_path / "a", a_run())
    data = (tmp_path / "a").read_bytes()
    for size in range(len(data)):
        (tmp_path / "b").write_bytes(data[:size])
        with pytest.raises(ValueError, match=re.escape(str(tmp_path / "b"))):
            io.load(tmp_path / "b", like=a_run())


def test_every_flipped_bit_is_an_error(tmp_path) -> None:
    io.save(tmp_path / "a", {"w": fnp.arange(9.0), "c": np.ones(2, complex), "step": 3})
    data = (tmp_path / "a").read_bytes()
    wrong = []
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << (bit % 8)
        (tmp_path / "b").write_bytes(flipped)
        try:
            io.load(tmp_path / "b")
        except ValueError:
            continue
        wrong.append(bit)
    assert not wrong


def forged(tmp_path, tree: object, **more: object):
    """Write a file whose checksums are right and whose description is ``tree``."""
    from safetensors.numpy import save_file

    text = json.dumps({"version": 1, "note": None, "tree": tree, "dtypes": {}, "crc32": {}} | more)
    metadata = {"funtorch": f"{zlib.crc32(text.encode()):08x} {text}"}
    save_file({}, str(tmp_path / "forged"), metadata)
    return tmp_path / "forged"


def nested(depth: int) -> object:
    node: object = ["none"]
    for _ in range(depth):
        node = ["list", [node]]
    return node


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (["named", "os:system", ["a"], [["str", "true"]]], "does not have"),
        (["named", "antigravity:fly", [], []], "does not have"),
        (["named", "builtins:tuple", ["a"], [["int", "1"]]], "does not have"),
        (["named", "nowhere", [], []], "does not have"),
        (["node", "Model", [], []], "like="),
        (["array", "absent"], "no description"),
        (["int", "one"], "cannot be loaded"),
        (["bytes", "%%"], "cannot be loaded"),
        (["unheard of", 1], "no description"),
        ({"a": 1}, "cannot be loaded|no description"),
        (["dict", [["list", []]], [["none"]]], "no description"),
        (["dict", [["int", "1"]], []], "cannot be loaded"),
        (7, "no description"),
        (nested(400), "no description"),
    ],
)
def test_hostile_descriptions(tree: object, text: str, tmp_path) -> None:
    path = forged(tmp_path, tree)
    with pytest.raises(ValueError, match=text):
        io.load(path)
    assert "antigravity" not in sys.modules


def test_a_newer_format_says_so(tmp_path) -> None:
    with pytest.raises(ValueError, match="version 2 of the format"):
        io.load(forged(tmp_path, ["none"], version=2))


# ------------------------------------------------------------------------------------- checkpoints
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_best_and_the_last_stay(asynchronous: bool, tmp_path) -> None:
    losses = [5.0, 1.0, 4.0, float("nan"), 2.0, 3.0]
    with io.CheckpointManager(
        tmp_path, keep_last=2, keep_best=2, metric="loss", asynchronous=asynchronous
    ) as manager:
        for step, loss in enumerate(losses):
            manager.save(step, {"x": fnp.full(3, step)}, metrics={"loss": fnp.asarray(loss)})
        assert manager.latest_step() == 5
        assert manager.best_step() == 1
    assert manager.steps() == [1, 4, 5]
    found = manager.restore(1)
    assert (found.step, found.tree["x"].tolist(), found.metrics) == (1, [1, 1, 1], {"loss": 1.0})


def test_an_empty_directory_has_no_checkpoint(tmp_path) -> None:
    manager = io.CheckpointManager(tmp_path / "new")
    assert manager.restore() is None
    assert manager.latest_step() is None
    assert manager.best_step() is None
    with pytest.raises(FileNotFoundError, match="no checkpoint of step 3"):
        manager.restore(3)


def test_damaged_checkpoints_are_passed_over(tmp_path) -> None:
    with io.CheckpointManager(tmp_path) as manager:
        for step in range(3):
            manager.save(step, {"x": fnp.full(9, step)})
    newest = tmp_path / "step-000000000002.safetensors"
    newest.write_bytes(newest.read_bytes()[:-3])
    with pytest.warns(UserWarning, match="passing over a checkpoint.*step-000000000002"):
        assert manager.restore().step == 1
    with pytest.raises(ValueError, match="step-000000000002"):
        manager.restore(2)


def test_what_is_saved_is_what_it_was(tmp_path) -> None:
    update = ft.jit(lambda x: x + 1, donate_argnums=0)
    x = fnp.zeros(1_000_000)
    with io.CheckpointManager(tmp_path, keep_last=None) as manager:
        for step in range(5):
            manager.save(step, x)
            x = update(x)
    for step in range(5):
        assert bool((manager.restore(step).tree == step).all())


def test_an_error_in_the_background_is_raised(tmp_path) -> None:
    manager = io.CheckpointManager(tmp_path)
    manager.save(0, {"f": print})
    with pytest.raises(TypeError, match="'f' is a builtin_function_or_method"):
        manager.wait()
    manager.save(1, {"x": 1})
    manager.close()
    assert manager.steps() == [1]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"keep_last": 0}, "keep_last=0"),
        ({"keep_best": 1}, "metric="),
        ({"mode": "least"}, "'least'"),
    ],
)
def test_settings_that_contradict(options: dict, text: str, tmp_path) -> None:
    with pytest.raises(ValueError, match=text):
        io.CheckpointManager(tmp_path, **options)


def test_a_save_without_the_deciding_figure(tmp_path) -> None:
    manager = io.CheckpointManager(tmp_path, keep_best=1, metric="loss")
    with pytest.raises(ValueError, match="keeps the best by 'loss'"):
        manager.save(0, {}, metrics={"accuracy": 1})
    with pytest.raises(ValueError, match="at least 0, got -1"):
        manager.save(-1, {}, metrics={"loss": 1})


RUN = """
import sys
import funtorch as ft, funtorch.numpy as fnp
from funtorch import io, nnx, optim, random

manager = io.CheckpointManager(sys.argv[1], keep_last=2)
optimizer = optim.adam(1e-2)
model = nnx.Linear(64, 64, key=random.key(0))
run = (model, optimizer.init(model), random.key(1))
found = manager.restore(like=run)
start, run = (found.step, found.tree) if found else (0, run)

@ft.jit
def train(run):
    model, state, key = run
    key, now = random.split(key)
    x = random.normal(now, (8, 64))
    grads = ft.grad(lambda m: (m(x) ** 2).mean())(model)
    updates, state = optimizer.update(grads, state, model)
    return optim.apply_updates(model, updates), state, key

print("ready", flush=True)
for step in range(start, 60):
    run = train(run)
    manager.save(step + 1, run)
manager.close()
"""


def test_a_killed_run_ends_as_an_uninterrupted_one(tmp_path) -> None:
    def start(folder):
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(folder)], stdout=subprocess.PIPE, text=True
        )

    whole = start(tmp_path / "whole")
    assert whole.wait() == 0
    moments, kills = pyrandom.Random(0), 0
    for _ in range(60):
        process = start(tmp_path / "killed")
        assert process.stdout.readline() == "ready\n"
        if kills < 4:
            time.sleep(moments.uniform(0.0, 0.06))
            process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
    assert process.returncode == 0
    assert kills > 0
    name = "step-000000000060.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
