"""The loader: goes through a data set in batches."""

from __future__ import annotations

import collections
import contextlib
import inspect
import itertools
import numbers
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

import funtorch.numpy as fnp
from funtorch import random, tree

from . import datasets, samplers, workers

__all__ = ["DataLoader", "adapt", "default_collate"]


class Job(NamedTuple):
    """One batch to be made."""

    epoch: int
    number: int
    indices: np.ndarray


_NUMBERS = frozenset((bool, int, float, complex))
_LEAVES = _NUMBERS | {np.ndarray, np.float32, np.float64, np.int64, str, bytes}


class Recipe(NamedTuple):
    """How batches are made; a worker needs nothing else."""

    dataset: Any
    collate: Callable[[list[Any]], Any]
    transform: Callable[..., Any] | None
    keyed: bool
    seed: int

    def make(self, job: Job) -> Any:
        """Make a batch: a tree of NumPy arrays."""
        batch = (
            datasets.take(self.dataset, job.indices) if self.collate is default_collate else None
        )
        if batch is None:
            batch = self.collate([self.dataset[i] for i in job.indices.tolist()])
        if self.transform is None:
            return batch
        if not self.keyed:
            return self.transform(batch)
        epoch_key = random.fold_in(random.key(self.seed), job.epoch)
        return self.transform(batch, key=random.fold_in(epoch_key, job.number))


class DataLoader:
    """Goes through a data set in batches, once per ``for`` loop.

    What comes, and in which order, depends on the seed and the epoch alone, whatever the number
    of workers. Each loop over the loader is the next epoch, shuffled anew.

    Args:
        dataset: anything with ``len`` and ``[]`` (see `Dataset`), a tree of arrays in an
            `ArrayDataset`, or an iterable of samples.
        batch_size: samples in a batch.
        shuffle: whether in an order of chance.
        sampler: gives the order instead, see `Sampler`.
        batch_sampler: gives whole batches instead, see `BatchSampler`.
        num_workers: how many threads or processes make batches; 0 makes each one when it is
            asked for.
        worker: 'thread', for work that NumPy, files or FunTorch do, or 'process', for Python
            code; batches then come through shared memory.
        collate: from a list of samples to a batch; `default_collate` if None.
        drop_last: leave out a last batch that is smaller.
        seed: of the order, and of the keys.
        prefetch: how many batches each worker makes ahead.
        transform: applied to each batch, where it is made; if it has an argument ``key``, it gets
            a random key that depends on seed, epoch and batch.
        timeout: seconds to wait for a batch before complaining; None for ever.

    Raises:
        ValueError: the settings contradict each other.

    Example:
        >>> import numpy as np
        >>> from funtorch import data
        >>> pairs = data.ArrayDataset(np.arange(5.0), np.array([0, 1, 0, 1, 0]))
        >>> for x, y in data.DataLoader(pairs, batch_size=2, drop_last=True):
        ...     print(x, y)
        [0. 1.] [0 1]
        [2. 3.] [0 1]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        collate: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
        *,
        worker: str = "thread",
        seed: int = 0,
        prefetch: int = 2,
        transform: Callable[..., Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        _check_settings(dataset, batch_size, shuffle, sampler, batch_sampler, num_workers, worker)
        if prefetch < 1:
            raise ValueError(f"DataLoader makes at least one batch ahead: prefetch={prefetch}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self._drop_last = drop_last
        self._collate = collate or default_collate
        self._recipe = Recipe(dataset, self._collate, transform, _takes_key(transform), seed)
        self._batches: Any = None
        if hasattr(dataset, "__getitem__"):
            if sampler is None:
                sampler = (
                    samplers.RandomSampler(dataset, seed=seed)
                    if shuffle
                    else samplers.SequentialSampler(dataset)
                )
            self._batches = batch_sampler or samplers.BatchSampler(sampler, batch_size, drop_last)
        self._crew = workers.crew(worker, num_workers, self._recipe.make, prefetch, timeout)
        self._epoch = 0
        self._position = 0
        self._resuming = False

    def __len__(self) -> int:
        if self._batches is None:
            raise TypeError("a DataLoader of an iterable does not know its length")
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        if self._position and not self._resuming:  # the last loop was left early
            self._epoch, self._position = self._epoch + 1, 0
        self._resuming = False
        made = self._from_numbers() if self._batches is not None else self._from_iterable()
        with contextlib.closing(made):
            for batch in made:
                self._position += 1
                yield tree.map(_as_array, batch)
        self._epoch, self._position = self._epoch + 1, 0

    def _from_numbers(self) -> Generator[Any]:
        batches = _epoch_batches(self._batches, self._epoch)
        jobs = [
            Job(self._epoch, number, np.asarray(indices, np.int64))
            for number, indices in enumerate(batches)
        ]
        return self._crew.run(jobs[self._position :])

    def _from_iterable(self) -> Generator[Any]:
        samples = iter(self.dataset)
        for number in itertools.count():
            chunk = list(itertools.islice(samples, self.batch_size))
            if not chunk or (self._drop_last and len(chunk) < self.batch_size):
                return
            if number >= self._position:
                recipe = self._recipe._replace(dataset=chunk)
                yield recipe.make(Job(self._epoch, number, np.arange(len(chunk))))

    def state_dict(self) -> dict[str, int]:
        """Return where the loader is: plain numbers, to be saved with the model.

        Example:
            >>> import numpy as np
            >>> from funtorch import data
            >>> loader = data.DataLoader(data.ArrayDataset(np.arange(4)), 1, shuffle=True)
            >>> batches = iter(loader)
            >>> _, state = next(batches), loader.state_dict()
            >>> state
            {'epoch': 0, 'position': 1, 'seed': 0}
            >>> other = data.DataLoader(data.ArrayDataset(np.arange(4)), 1, shuffle=True)
            >>> other.load_state_dict(state)
            >>> [int(x[0]) for x in other] == [int(x[0]) for x in batches]
            True
        """
        return {"epoch": self._epoch, "position": self._position, "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where another loader was; the next loop gives the rest of its epoch.

        Args:
            state: what its `state_dict` returned.

        Raises:
            ValueError: it had another seed, so its order was another one, or it is no state.
        """
        if set(state) != {"epoch", "position", "seed"}:
            raise ValueError(f"this is no state of a DataLoader: {state!r:.200}")
        if int(state["seed"]) != self.seed:
            raise ValueError(
                f"the state is of a DataLoader with seed={int(state['seed'])}, this one has "
                f"seed={self.seed}: its batches would be others"
            )
        self._epoch, self._position = int(state["epoch"]), int(state["position"])
        self._resuming = True

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next loop is."""
        self._epoch, self._position = epoch, 0

    def close(self) -> None:
        """End the workers; a later loop starts them again."""
        self._crew.close()

    def __enter__(self) -> DataLoader:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()


def default_collate(samples: list[Any]) -> Any:
    """Stack samples into a batch, leaf by leaf.

    Args:
        samples: trees of equal structure; their leaves are arrays of equal shapes or numbers,
            or texts, which stay lists. Python's numbers get the default dtypes.

    Returns:
        A tree of arrays with one more axis, in front.

    Raises:
        ValueError: structures or shapes differ.

    Example:
        >>> from funtorch import data
        >>> data.default_collate([{"x": 1.5, "name": "a"}, {"x": 2.5, "name": "b"}])
        {'name': ['a', 'b'], 'x': array([1.5, 2.5], dtype=float32)}
    """
    paths, treedef = tree.flatten_with_path(samples[0])
    columns = _plain_columns(samples)
    if columns is None:
        rows = [treedef.flatten_up_to(sample) for sample in samples]
        columns = list(zip(*rows, strict=True))
    return tree.unflatten(
        treedef, [_stack(path, list(xs)) for (path, _), xs in zip(paths, columns, strict=True)]
    )


def _plain_columns(samples: list[Any]) -> list[tuple[Any, ...]] | None:
    """Return the leaves of tuples of arrays, numbers and texts, side by side; else None."""
    if {type(sample) for sample in samples} != {tuple} or len({len(s) for s in samples}) != 1:
        return None
    columns = list(zip(*samples, strict=True))
    return columns if all(_LEAVES.issuperset(map(type, xs)) for xs in columns) else None


def _stack(path: Any, values: list[Any]) -> Any:
    if isinstance(values[0], (str, bytes)):
        return values
    kinds = set(map(type, values))
    if _NUMBERS.issuperset(kinds):
        return _numbers(values, kinds)
    arrays = [np.asarray(x) for x in values]
    if len({x.shape for x in arrays}) > 1:
        shapes = sorted({x.shape for x in arrays})
        where = f"{tree.keystr(path)} of the samples" if path else "the samples"
        raise ValueError(
            f"{where} cannot be stacked into a batch: their shapes differ, {shapes}. Cut or pad "
            "them in the data set, or give DataLoader(collate=...)"
        )
    return np.stack(arrays)


def _numbers(values: list[Any], kinds: set[type]) -> np.ndarray:
    """Return an array of Python's numbers in the default dtype of their kinds."""
    found = np.asarray(values)
    dtype = fnp.asarray([kind(0) for kind in kinds]).dtype
    if found.dtype.kind == "i" and dtype.kind == "i":
        limits = np.iinfo(dtype)
        if not limits.min <= found.min() <= found.max() <= limits.max:
            return np.asarray(fnp.asarray(values))
    elif found.dtype.kind != dtype.kind:
        return np.asarray(fnp.asarray(values))
    return found.astype(dtype)


def adapt(iterable: Iterable[Any]) -> Iterator[Any]:
    """Turn the batches of any iterable, such as a loader of another library, into our arrays.

    Args:
        iterable: of trees of arrays: NumPy's, PyTorch's, JAX's.

    Yields:
        The same trees of FunTorch arrays; leaves that are no arrays stay as they are.

    Example:
        >>> import numpy as np
        >>> from funtorch import data
        >>> next(data.adapt([(np.arange(2), "text")]))
        (Array([0, 1], dtype=int64), 'text')
    """
    for batch in iterable:
        yield tree.map(_as_array, batch)


def _as_array(x: Any) -> Any:
    foreign = hasattr(x, "__array__") or hasattr(x, "__dlpack__")
    return fnp.asarray(np.asarray(x)) if foreign or isinstance(x, numbers.Number) else x


def _epoch_batches(batches: Any, epoch: int) -> Any:
    if hasattr(batches, "batches"):
        return batches.batches(epoch)
    if hasattr(batches, "set_epoch"):
        batches.set_epoch(epoch)
    return list(batches)


def _takes_key(transform: Any) -> bool:
    return transform is not None and "key" in inspect.signature(transform).parameters


def _check_settings(
    dataset: Any,
    batch_size: int,
    shuffle: bool,
    sampler: Any,
    batch_sampler: Any,
    num_workers: int,
    worker: str,
) -> None:
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"DataLoader takes batch_size of at least 1, got {batch_size!r}")
    if num_workers < 0:
        raise ValueError(f"DataLoader takes num_workers of at least 0, got {num_workers}")
    if worker not in workers.KINDS:
        raise ValueError(f"DataLoader takes worker='thread' or 'process', got {worker!r}")
    given = [
        name
        for name, value in (
            ("shuffle", shuffle),
            ("sampler", sampler),
            ("batch_sampler", batch_sampler),
        )
        if value not in (None, False)
    ]
    if len(given) > 1:
        raise ValueError(f"DataLoader takes one order, got {' and '.join(given)}")
    if not hasattr(dataset, "__getitem__"):
        if not isinstance(dataset, collections.abc.Iterable):
            raise TypeError(
                "DataLoader takes a data set with len and [], or an iterable; it was given a "
                f"{type(dataset).__name__}"
            )
        if given or num_workers:
            raise ValueError(
                f"DataLoader of an iterable takes samples as they come: no {given or 'num_workers'}"
            )
