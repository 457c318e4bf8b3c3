"""Batches of images: how fast a loader gives an epoch of 100 batches of 128 samples of 28 x 28."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.harness import Run, Target, row

BATCH, BATCHES, WORKERS = 128, 100, 2


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels."""
    rng = np.random.default_rng(0)
    images = rng.random((BATCH * BATCHES, 1, 28, 28), np.float32)
    return images, rng.integers(0, 10, len(images))


def seen(loader: Any) -> int:
    """Go through an epoch; return how many samples came."""
    return sum(len(y) for _, y in loader)


class Samples:
    """A data set in Python: one sample at a time, changed by Python code."""

    def __len__(self) -> int:
        return BATCH * BATCHES

    def __getitem__(self, k: int) -> tuple[np.ndarray, int]:
        images, labels = digits()
        return (images[k] - 0.1307) / 0.3081, int(labels[k])


def ours(lib: ModuleType, dataset: Any, **options: Any) -> Run:
    loader = lib.data.DataLoader(dataset, BATCH, shuffle=True, **options)
    return lambda: np.asarray(seen(loader))


def theirs(torch: ModuleType, dataset: Any, **options: Any) -> Run:
    utils = importlib.import_module("torch.utils.data")
    if options.get("num_workers"):
        options["persistent_workers"] = True
    loader = utils.DataLoader(dataset, BATCH, shuffle=True, **options)
    return lambda: np.asarray(seen(loader))


def in_memory(torch: ModuleType) -> Any:
    utils = importlib.import_module("torch.utils.data")
    return utils.TensorDataset(*(torch.tensor(x) for x in digits()))


@row("batches", "100 batches of 128 images 28 x 28, shuffled, from memory", Target(1.0), peers=())
def batches(lib: ModuleType) -> Run:
    return ours(lib, lib.data.ArrayDataset(*digits()))


@batches.also("torch")
def _(torch: ModuleType) -> Run:
    return theirs(torch, in_memory(torch))


@row("batches-workers", "the same, 2 workers (threads; PyTorch: processes)", Target(1.0), peers=())
def batches_workers(lib: ModuleType) -> Run:
    return ours(lib, lib.data.ArrayDataset(*digits()), num_workers=WORKERS)


@batches_workers.also("torch")
def _(torch: ModuleType) -> Run:
    return theirs(torch, in_memory(torch), num_workers=WORKERS)


@row("batches-augmented", "the same, each image cropped and normalised", Target(1.0), peers=())
def batches_augmented(lib: ModuleType) -> Run:
    transforms = lib.data.transforms
    change = transforms.Compose(
        [transforms.RandomCrop(28, padding=2), transforms.Normalize([0.1307], [0.3081])]
    )
    dataset = lib.data.ArrayDataset(*digits())
    return ours(lib, dataset, transform=transforms.On(0, change))


@batches_augmented.also("torch")
def _(torch: ModuleType) -> Run:
    pad = torch.nn.functional.pad
    images, labels = (torch.tensor(x) for x in digits())

    class Changed(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, k: int) -> tuple[Any, Any]:
            i, j = torch.randint(0, 5, (2,)).tolist()
            x = pad(images[k], (2, 2, 2, 2))[:, i : i + 28, j : j + 28]
            return (x - 0.1307) / 0.3081, labels[k]

    return theirs(torch, Changed())


@row("samples", "the same, samples made one by one in Python", Target(1.0), peers=())
def samples(lib: ModuleType) -> Run:
    return ours(lib, Samples())


@samples.also("torch")
def _(torch: ModuleType) -> Run:
    return theirs(torch, Samples())


@row("samples-processes", "the same, 2 processes that share memory", Target(1.0), peers=())
def samples_processes(lib: ModuleType) -> Run:
    return ours(lib, Samples(), num_workers=WORKERS, worker="process")


@samples_processes.also("torch")
def _(torch: ModuleType) -> Run:
    return theirs(torch, Samples(), num_workers=WORKERS)
