"""Samplers: which samples are given in an epoch, and in which order.

A sampler is a function of the number of the epoch: the same seed and epoch give the same order,
whoever asks and however often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from funtorch import processes

__all__ = [
    "BatchSampler",
    "DistributedSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
    "generator",
]


def generator(seed: int, epoch: int) -> np.random.Generator:
    """Make the generator of an epoch.

    Args:
        seed: of the whole run.
        epoch: number of the epoch.

    Returns:
        A generator of its own for each pair.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch])))


class Sampler:
    """Base of samplers: define ``order(epoch)``, an int64 array, and ``__len__``.

    Example:
        >>> from funtorch import data
        >>> list(data.SequentialSampler(3))
        [0, 1, 2]
    """

    epoch: int = 0

    def order(self, epoch: int) -> np.ndarray:
        """Return the numbers of an epoch's samples, in order: int64[len(self)]."""
        raise NotImplementedError(f"{type(self).__name__} needs a method order(epoch)")

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch iterating over the sampler itself gives; loaders do not need it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.order(self.epoch))

    def __iter__(self) -> Iterator[int]:
        return iter(self.order(self.epoch).tolist())


class SequentialSampler(Sampler):
    """All samples in order.

    Args:
        dataset: a data set, or the number of its samples.
    """

    def __init__(self, dataset: Any) -> None:
        self._size = _size(dataset)

    def __len__(self) -> int:
        return self._size

    def order(self, epoch: int) -> np.ndarray:
        """Return 0, 1, 2 ..."""
        return np.arange(self._size)


class RandomSampler(Sampler):
    """All samples in an order of chance, another one each epoch.

    Args:
        dataset: a data set, or the number of its samples.
        replacement: draw each sample from all of them, so that some come again.
        num_samples: how many are drawn; as many as there are if None.
        seed: of the order.

    Example:
        >>> from funtorch import data
        >>> sampler = data.RandomSampler(5, seed=1)
        >>> sorted(sampler.order(0).tolist()), (sampler.order(0) == sampler.order(1)).all()
        ([0, 1, 2, 3, 4], np.False_)
    """

    def __init__(
        self,
        dataset: Any,
        replacement: bool = False,
        num_samples: int | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self._size = _size(dataset)
        self._replacement = replacement
        self._count = self._size if num_samples is None else num_samples
        if self._count and not self._size:
            raise ValueError(f"RandomSampler cannot draw {num_samples} samples of none")
        self._seed = seed

    def __len__(self) -> int:
        return self._count

    def order(self, epoch: int) -> np.ndarray:
        """Return the epoch's samples in its order."""
        chance = generator(self._seed, epoch)
        if self._replacement:
            return chance.integers(0, self._size, self._count)
        rounds = [np.empty(0, np.int64)]
        while sum(map(len, rounds)) < self._count:
            rounds.append(chance.permutation(self._size))
        return np.concatenate(rounds)[: self._count]


class SubsetRandomSampler(Sampler):
    """Some samples in an order of chance.

    Args:
        indices: the numbers of the samples.
        seed: of the order.
    """

    def __init__(self, indices: Sequence[int], *, seed: int = 0) -> None:
        self._indices = np.asarray(indices, np.int64)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._indices)

    def order(self, epoch: int) -> np.ndarray:
        """Return the epoch's samples in its order."""
        return generator(self._seed, epoch).permutation(self._indices)


class WeightedRandomSampler(Sampler):
    """Samples drawn in proportion to weights.

    Args:
        weights: one number per sample, at least 0; they need not sum to 1.
        num_samples: how many are drawn each epoch.
        replacement: whether a sample can be drawn again in the same epoch.
        seed: of the draws.

    Raises:
        ValueError: a weight is negative or not finite, or too few are positive.

    Example:
        >>> from funtorch import data
        >>> data.WeightedRandomSampler([0, 1, 0], 4).order(0).tolist()
        [1, 1, 1, 1]
    """

    def __init__(
        self,
        weights: Sequence[float] | np.ndarray,
        num_samples: int,
        replacement: bool = True,
        *,
        seed: int = 0,
    ) -> None:
        self._weights = np.asarray(weights, np.float64)
        good = self._weights.ndim == 1 and np.all(self._weights >= 0)
        if not good or not np.isfinite(total := self._weights.sum()) or total == 0:
            raise ValueError(
                "WeightedRandomSampler takes finite weights of at least 0, one per sample and not "
                f"all 0; it was given {self._weights!r:.200}"
            )
        if not replacement and num_samples > np.count_nonzero(self._weights):
            raise ValueError(
                f"WeightedRandomSampler cannot draw {num_samples} different samples: only "
                f"{np.count_nonzero(self._weights)} have a weight above 0"
            )
        self._share = self._weights / total
        self._count = num_samples
        self._replacement = replacement
        self._seed = seed

    def __len__(self) -> int:
        return self._count

    def order(self, epoch: int) -> np.ndarray:
        """Return the epoch's draws."""
        return generator(self._seed, epoch).choice(
            len(self._share), self._count, self._replacement, self._share
        )


class DistributedSampler(Sampler):
    """The part of the samples that falls to one of several processes.

    All processes shuffle alike and take every ``num_replicas``-th sample. In a `DataLoader` each
    epoch has its own order; `set_epoch` chooses it where the sampler itself is looped over.

    Args:
        dataset: a data set, or the number of its samples.
        num_replicas: how many processes there are; None: as many as the program runs as.
        rank: the number of this one; None: what it is.
        shuffle: whether in an order of chance.
        seed: of the order; the same in all processes.
        drop_last: leave out what does not fill all parts; else the first samples come again, so
            that all parts are equally long.

    Raises:
        ValueError: ``rank`` is not below ``num_replicas``.

    Example:
        >>> from funtorch import data
        >>> [
        ...     data.DistributedSampler(5, 2, rank, shuffle=False).order(0).tolist()
        ...     for rank in (0, 1)
        ... ]
        [[0, 2, 4], [1, 3, 0]]
    """

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        num_replicas = processes.world().size if num_replicas is None else num_replicas
        rank = processes.world().rank if rank is None else rank
        if not 0 <= rank < num_replicas:
            raise ValueError(
                f"DistributedSampler got rank {rank} of {num_replicas} replicas: ranks are numbers "
                "from 0 on, below that of the replicas"
            )
        self._size = _size(dataset)
        self._replicas = num_replicas
        self._rank = rank
        self._shuffle = shuffle
        self._seed = seed
        share = self._size / num_replicas
        self._count = math.floor(share) if drop_last else math.ceil(share)

    def __len__(self) -> int:
        return self._count

    def order(self, epoch: int) -> np.ndarray:
        """Return this process's part of the epoch's samples."""
        chance = generator(self._seed, epoch)
        whole = chance.permutation(self._size) if self._shuffle else np.arange(self._size)
        return np.resize(whole, self._count * self._replicas)[self._rank :: self._replicas]


class BatchSampler:
    """Batches of the samples that a sampler gives.

    Args:
        sampler: the sampler, or any iterable of numbers.
        batch_size: how many samples a batch has.
        drop_last: leave out a last batch that is smaller.

    Example:
        >>> from funtorch import data
        >>> list(data.BatchSampler(data.SequentialSampler(5), 2, drop_last=False))
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool = False) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches([int(i) for i in self.sampler]))

    def _batches(self, order: Any) -> list[Any]:
        starts = range(0, len(order), self.batch_size)
        batches = [order[start : start + self.batch_size] for start in starts]
        if self.drop_last and batches and len(batches[-1]) < self.batch_size:
            batches.pop()
        return batches

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return an epoch's batches, each int64[batch]."""
        order = getattr(self.sampler, "order", None)
        if order is not None:
            return self._batches(order(epoch))
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)
        return self._batches(np.fromiter(self.sampler, np.int64))


def _size(dataset: Any) -> int:
    return dataset if isinstance(dataset, int) else len(dataset)
