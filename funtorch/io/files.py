"""Trees on disk, in the safetensors format: plain data that no program can hide in.

A file holds arrays by dotted name, as every reader of the format expects, and in its metadata what
is needed to give back the very tree: a description (see `funtorch.io.structure`) and checksums.
"""

from __future__ import annotations

import functools
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import funtorch.numpy as fnp
from funtorch.processes import world

from . import parts, structure

__all__ = ["dumps", "load", "loads", "read_note", "save", "write"]

# The format's names of dtypes, from its specification.
_DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16,
    "U32": np.uint32, "I32": np.int32, "U64": np.uint64, "I64": np.int64,
    "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32, "F64": np.float64,
    "C64": np.complex64,
}  # fmt: skip
_STORABLE = frozenset(np.dtype(t) for t in _DTYPES.values())
# What the format lacks is stored as bytes, along one more axis, and named in our metadata.
_AS_BYTES = {"complex128": np.dtype(np.complex128)}
_KEY = "funtorch"  # of our entry in the metadata


def save(path: str | os.PathLike[str], tree: Any) -> None:
    """Write a tree to one safetensors file.

    The file appears under its name only when it is complete and on the disk, so whoever reads it
    meanwhile, or after a crash, finds the old file or the new one, never half of one.

    A tree with arrays that are divided among processes is saved by all of them together: each
    writes its parts into a file beside this one, which the first process writes. Any number of
    processes can load it.

    Args:
        path: where to; an existing file is replaced.
        tree: any pytree of arrays, random keys and Python scalars: a model, an optimizer's state,
            ``(model, state, step)``, a dict of arrays. Names in the file are the dotted paths, so
            a model or its `nnx.state_dict` can be read by other programs.

    Raises:
        TypeError: a leaf is none of these.
        ValueError: two arrays have the same dotted name.
        ImportError: the package safetensors is not installed.

    Example:
        >>> import os, tempfile
        >>> import funtorch as ft
        >>> import funtorch.numpy as fnp
        >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
        >>> ft.save(path, {"w": fnp.ones(2), "key": ft.random.key(1), "step": 3, "history": [0.5]})
        >>> ft.load(path)["step"], ft.load(path)["history"], ft.load(path)["w"]
        (3, [0.5], Array([1., 1.], dtype=float32))

    References:
        The format: https://huggingface.co/docs/safetensors
    """
    token = parts.agreed(tree)
    write(path, tree, None, token)
    if token is not None:
        world().barrier()


def write(path: str | os.PathLike[str], tree: Any, note: Any, token: str | None = None) -> None:
    """Write a tree and a note, which can be read without the arrays; else as `save`.

    Args:
        path: where to.
        tree: the tree.
        note: anything that JSON can hold.
        token: what `parts.agreed` gave for the tree.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to")
    if token is None:
        _write(path, *_packed(tree, note))
        return
    divided = structure.divided(tree)
    own = parts.own_parts(divided)
    if own:
        _write(parts.part_file(path, token, world().rank), *_packed(own, None))
    if world().rank == 0:
        parts.wait_for(path, token, parts.writers(divided))
        _write(path, *_packed(tree, note, token))
        parts.forget(path, token)


def _write(path: Path, stored: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write a file, which appears when it is on the disk."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    save_file = _safetensors().numpy.save_file
    try:
        save_file(stored, str(unfinished), metadata)
        _flush(unfinished, os.O_RDWR)
        os.replace(unfinished, path)
        if os.name == "posix":  # a directory can be flushed there only, and need be
            _flush(path.parent, os.O_RDONLY)
    finally:
        unfinished.unlink(missing_ok=True)


def dumps(tree: Any, note: Any) -> bytes:
    """Return the bytes of the file that `write` writes."""
    stored, metadata = _packed(tree, note)
    return _safetensors().numpy.save(stored, metadata)


def _packed(
    tree: Any, note: Any, token: str | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays and the metadata of a file."""
    node, arrays = structure.encode(tree)
    stored = {name: _storable(name, x) for name, x in arrays.items()}
    description = json.dumps(
        {
            "version": 1,
            "note": note,
            "tree": node,
            **({} if token is None else {"parts": token}),
            "dtypes": {n: x.dtype.name for n, x in arrays.items() if x.dtype.name in _AS_BYTES},
            "crc32": {name: _checksum(x) for name, x in stored.items()},
        },
        separators=(",", ":"),
    )
    # One entry: the writer keeps no order among several, and equal trees make equal files.
    metadata = {_KEY: f"{zlib.crc32(description.encode()):08x} {description}"}
    return stored, metadata


def load(path: str | os.PathLike[str], like: Any = None) -> Any:
    """Read the tree that `save` wrote, or the arrays of any safetensors file.

    Nothing in the file is run, and nothing is imported for it: dicts, lists, tuples and named
    tuples of imported modules come back as they were; objects of other classes, such as models,
    need ``like``.

    Args:
        path: a file that `save` or any other program wrote in the format.
        like: a tree with the structure of the saved one, such as a freshly made model and the
            state of its optimizer; its leaves say shapes and dtypes, their values do not matter.

    Returns:
        The tree. From another program's file, a dict of arrays by name; for a model,
        `nnx.load_state_dict` takes it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, damaged or in another format, or does not fit ``like``.
        ImportError: the package safetensors is not installed.

    Example:
        >>> import os, tempfile
        >>> import funtorch as ft
        >>> from funtorch import nnx, random
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> ft.save(path, (nnx.Linear(3, 2, key=random.key(0)), 7))
        >>> ft.load(path, like=(nnx.Linear(3, 2, key=random.key(1)), 0))[1]
        7
    """
    return loads(Path(path).read_bytes(), path, like)[0]


def loads(data: bytes, path: Any, like: Any = None) -> tuple[Any, Any]:
    """Return the tree and the note in the bytes of a file.

    Args:
        data: the bytes.
        path: what to call them in messages.
        like: as of `load`.

    Raises:
        ValueError: as `load`.
    """
    safetensors = _safetensors()
    try:
        entries = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    stored = {name: _decoded(path, name, **entry) for name, entry in entries}
    text = _description(path, data)
    if text is None:
        if like is not None:
            raise ValueError(
                f"{path} was not written by funtorch.save: it holds arrays by name only. "
                "Load it without like=, and give the dict to nnx.load_state_dict"
            )
        return {name: fnp.asarray(stored[name]) for name in sorted(stored)}, None
    try:
        description = json.loads(text)
        _check(path, description, stored)
        arrays = _Arrays(path, description.get("parts"))
        arrays |= {n: _restored(x, description["dtypes"].get(n)) for n, x in stored.items()}
        node, note = description["tree"], description["note"]
        if like is None:
            return structure.decode(node, arrays), note
        return structure.fill(node, arrays, like), note
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} holds no description of a tree: {error!r}") from error
    except ValueError as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from error


class _Arrays(dict[str, np.ndarray]):
    """The arrays of a file by name, and those of the files of its parts, which are read once."""

    def __init__(self, path: Any, token: str | None) -> None:
        super().__init__()
        self._path, self._token = path, token
        self.part = functools.cache(self._part)

    def _part(self, rank: int) -> dict[str, np.ndarray]:
        if self._token is None or not self._token.isalnum():
            raise ValueError("it names parts, but not of which save they are")
        file = parts.part_file(Path(self._path), self._token, rank)
        try:
            return {name: np.asarray(x) for name, x in load(file).items()}
        except FileNotFoundError:
            raise ValueError(f"the parts that process {rank} wrote, {file}, are missing") from None


def read_note(path: str | os.PathLike[str]) -> Any:
    """Read the note of a file that `write` wrote, without its arrays.

    Args:
        path: the file.

    Returns:
        The note.

    Raises:
        ValueError: the file is damaged, or another program wrote it.
    """
    with open(path, "rb") as file:
        size = file.read(8)
        header = file.read(min(int.from_bytes(size, "little"), os.path.getsize(path)))
    try:
        text = _description(path, size + header)
        if text is not None:
            return json.loads(text)["note"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    raise ValueError(f"{path} was not written by funtorch.save")


def _description(path: Any, data: bytes) -> str | None:
    """Return our entry of a file's metadata, checked; None if it has none."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = header.get("__metadata__") or {}
    if _KEY not in metadata and not any(map(_fits, metadata.values())):
        return None
    if not _fits(metadata.get(_KEY, "")):
        raise ValueError(f"{path} is damaged: the description in it does not fit its checksum")
    return metadata[_KEY].partition(" ")[2]


def _fits(entry: str) -> bool:
    """Tell whether an entry is a checksum, a space, and the text that it fits."""
    checksum, _, text = entry.partition(" ")
    return f"{zlib.crc32(text.encode()):08x}" == checksum


def _check(path: Any, description: dict[str, Any], stored: Mapping[str, np.ndarray]) -> None:
    if description["version"] != 1:
        raise ValueError(
            f"it was written in version {description['version']} of the format, by a newer "
            "funtorch; this one reads version 1"
        )
    expected = description["crc32"]
    bad = [n for n in sorted({*expected, *stored}) if _differs(expected.get(n), stored.get(n))]
    if bad:
        raise ValueError(f"it is damaged: {', '.join(map(repr, bad))} do not fit their checksums")


def _differs(expected: Any, x: np.ndarray | None) -> bool:
    return x is None or expected != _checksum(x)


def _checksum(x: np.ndarray) -> int:
    """Return a checksum of an array's dtype, shape and bytes."""
    start = zlib.crc32(f"{x.dtype.name}{x.shape}".encode())
    return zlib.crc32(x.reshape(-1).view(np.uint8).data, start) if x.size else start


def _storable(name: str, x: np.ndarray) -> np.ndarray:
    # The format stores bytes in row-major order and takes a buffer as it lies.
    data = np.asarray(x, order="C")
    if not data.dtype.isnative:
        data = data.astype(data.dtype.newbyteorder("="))
    if data.dtype in _STORABLE:
        return data
    if data.dtype.name not in _AS_BYTES:
        raise TypeError(f"save got {name!r} of dtype {data.dtype}, which FunTorch does not have")
    return data.reshape(*data.shape, 1).view(np.uint8)


def _restored(x: np.ndarray, dtype: str | None) -> np.ndarray:
    if dtype is None:
        return x
    return x.view(_AS_BYTES[dtype]).reshape(x.shape[:-1])


def _decoded(path: Any, name: str, dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    if dtype not in _DTYPES:
        raise ValueError(f"{path}: array {name!r} has dtype {dtype}, which FunTorch does not have")
    return np.frombuffer(data, _DTYPES[dtype]).reshape(shape)


def _flush(path: Path, mode: int) -> None:
    """Wait until a file or directory is on the disk."""
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "saving and loading arrays needs the package safetensors: pip install safetensors"
        ) from error
    return safetensors
