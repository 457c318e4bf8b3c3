"""Data sets: things with a length whose samples can be asked for by number, one or many at once."""

from __future__ import annotations

import bisect
import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from funtorch import random, tree

__all__ = [
    "ArrayDataset",
    "ConcatDataset",
    "Dataset",
    "MapDataset",
    "Subset",
    "TensorDataset",
    "random_split",
    "take",
]


class Dataset:
    """Base of data sets: define ``__len__`` and ``__getitem__``.

    Anything with these two methods can be loaded, derived from this class or not. One that can
    give many samples at once, already stacked, says so by a method ``take(indices)``, where
    ``indices`` is an int64 array; loaders prefer it.

    Example:
        >>> from funtorch import data
        >>> class Squares(data.Dataset):
        ...     def __len__(self):
        ...         return 5
        ...
        ...     def __getitem__(self, i):
        ...         return i * i
        >>> [batch.tolist() for batch in data.DataLoader(Squares(), batch_size=3)]
        [[0, 1, 4], [9, 16]]
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} needs a method __len__")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} needs a method __getitem__(index)")

    def __add__(self, other: Any) -> ConcatDataset:
        return ConcatDataset([self, other])


class ArrayDataset(Dataset):
    """A data set in memory: a tree of arrays whose first axis counts the samples.

    Args:
        *arrays: arrays, or trees of them, of equal lengths. One argument gives samples of its
            structure, several give tuples.

    Raises:
        ValueError: lengths differ, or there is no array.

    Example:
        >>> import numpy as np
        >>> from funtorch import data
        >>> pairs = data.ArrayDataset(np.arange(6).reshape(3, 2), np.array([0, 1, 0]))
        >>> len(pairs), pairs[1]
        (3, (array([2, 3]), np.int64(1)))
    """

    def __init__(self, *arrays: Any) -> None:
        values = arrays[0] if len(arrays) == 1 else arrays
        self.arrays = tree.map(np.asarray, values)
        shapes = [x.shape for x in tree.leaves(self.arrays)]
        if not shapes or not all(shapes) or len({shape[0] for shape in shapes}) > 1:
            raise ValueError(
                "ArrayDataset takes arrays whose first axes, which count the samples, are equal; "
                f"it was given shapes {shapes}"
            )
        self._length = shapes[0][0]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        return tree.map(operator.itemgetter(index), self.arrays)

    def take(self, indices: np.ndarray) -> Any:
        """Return many samples as one tree of arrays.

        Args:
            indices: int64[n].

        Returns:
            A tree of arrays with first axis ``n``.
        """
        return tree.map(lambda x: np.take(x, indices, axis=0), self.arrays)


TensorDataset = ArrayDataset  # PyTorch's name


class Subset(Dataset):
    """Some samples of a data set.

    Args:
        dataset: the data set.
        indices: the numbers of the samples, in order.

    Example:
        >>> import numpy as np
        >>> from funtorch import data
        >>> part = data.Subset(data.ArrayDataset(np.arange(10)), [7, 2])
        >>> len(part), int(part[0])
        (2, 7)
    """

    def __init__(self, dataset: Any, indices: Sequence[int] | np.ndarray) -> None:
        self.dataset = dataset
        self.indices = np.asarray(indices, np.int64).reshape(-1)
        size = len(dataset)
        wrong = self.indices[(self.indices < -size) | (self.indices >= size)]
        if wrong.size:
            raise IndexError(f"Subset got index {wrong[0]} of a data set of {size} samples")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def take(self, indices: np.ndarray) -> Any:
        """Return many samples, stacked; see `Dataset`."""
        return take(self.dataset, self.indices[indices])


class ConcatDataset(Dataset):
    """Several data sets, one after another.

    Args:
        datasets: the data sets, of samples of equal structure.

    Example:
        >>> import numpy as np
        >>> from funtorch import data
        >>> both = data.ConcatDataset(
        ...     [data.ArrayDataset(np.arange(3)), data.ArrayDataset(np.ones(2))]
        ... )
        >>> len(both), float(both[3])
        (5, 1.0)
    """

    def __init__(self, datasets: Sequence[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset needs at least one data set")
        self._ends = list(itertools.accumulate(len(d) for d in self.datasets))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Any:
        index = _wrapped(index, len(self))
        which = bisect.bisect_right(self._ends, index)
        return self.datasets[which][index - self._start(which)]

    def _start(self, which: int) -> int:
        return self._ends[which - 1] if which else 0


class MapDataset(Dataset):
    """A data set with a function applied to each sample when it is asked for.

    Args:
        dataset: the data set.
        f: from a sample to a sample.

    Example:
        >>> import numpy as np
        >>> from funtorch import data
        >>> halves = data.MapDataset(data.ArrayDataset(np.arange(4)), lambda x: x / 2)
        >>> float(halves[3])
        1.5
    """

    def __init__(self, dataset: Any, f: Callable[[Any], Any]) -> None:
        self.dataset = dataset
        self.f = f

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.f(self.dataset[index])


def random_split(
    dataset: Any, lengths: Sequence[int] | Sequence[float], key: Any = 0
) -> list[Subset]:
    """Split a data set at random into parts that share no sample.

    Args:
        dataset: the data set.
        lengths: how many samples each part gets, or fractions that sum to 1; what rounding
            leaves goes to the first parts, one each.
        key: a random key, or a seed.

    Returns:
        The parts.

    Raises:
        ValueError: the lengths do not add up.

    Example:
        >>> import numpy as np
        >>> from funtorch import data
        >>> train, test = data.random_split(data.ArrayDataset(np.arange(10)), [0.75, 0.25])
        >>> len(train), len(test)
        (8, 2)
    """
    size = len(dataset)
    counts = [int(n) for n in lengths]
    if abs(sum(lengths) - 1) < 1e-9 and all(0 <= n <= 1 for n in lengths) and size != 1:
        counts = [int(n * size) for n in lengths]
        for i in range(size - sum(counts)):
            counts[i % len(counts)] += 1
    if sum(counts) != size or any(n < 0 for n in counts):
        raise ValueError(
            f"random_split was asked for parts of {list(lengths)}, which is not the whole of a "
            f"data set of {size} samples; give lengths that sum to {size}, or fractions to 1"
        )
    if isinstance(key, int):
        key = random.key(key)
    order = np.asarray(random.permutation(key, size))
    ends = np.cumsum(counts)[:-1]
    return [Subset(dataset, part) for part in np.split(order, ends)]


def take(dataset: Any, indices: np.ndarray) -> Any | None:
    """Return many samples of a data set, stacked, if it can give them at once.

    Args:
        dataset: the data set.
        indices: int64[n].

    Returns:
        A tree of arrays with first axis ``n``, or None if samples must be asked for one by one.
    """
    method = getattr(dataset, "take", None)
    return None if method is None else method(indices)


def _wrapped(index: int, size: int) -> int:
    if not -size <= index < size:
        raise IndexError(f"index {index} of a data set of {size} samples")
    return index % size
