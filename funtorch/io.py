"""Arrays on disk, in the safetensors format: plain data that no program can hide in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import funtorch.numpy as fnp
from funtorch.core import Array

__all__ = ["load", "save"]

# The format's names of dtypes, from its specification.
_DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16,
    "U32": np.uint32, "I32": np.int32, "U64": np.uint64, "I64": np.int64,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
    "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32, "F64": np.float64,
    "C64": np.complex64,
}  # fmt: skip
_STORABLE = frozenset(np.dtype(t) for t in _DTYPES.values())


def save(path: str | os.PathLike[str], tree: Mapping[str, Any]) -> None:
    """Write a dict of arrays to a safetensors file.

    The file appears under its name only when it is complete, so whoever reads it meanwhile, or
    after a crash, finds the old file or the new one, never half of one.

    Args:
        path: where to; an existing file is replaced.
        tree: arrays by name. A dict inside it is stored under dotted names.

    Raises:
        TypeError: something in it is no array, or has a dtype that the format lacks.
        ValueError: two arrays have the same dotted name.
        ImportError: the package safetensors is not installed.

    Example:
        >>> import os, tempfile
        >>> import funtorch.numpy as fnp
        >>> from funtorch import io
        >>> path = os.path.join(tempfile.mkdtemp(), "arrays.safetensors")
        >>> io.save(path, {"a": fnp.ones(2), "b": {"c": fnp.zeros((2, 0))}})
        >>> {name: x.shape for name, x in sorted(io.load(path).items())}
        {'a': (2,), 'b.c': (2, 0)}

    References:
        The format: https://huggingface.co/docs/safetensors
    """
    arrays: dict[str, np.ndarray] = {}
    for name, x in _flat(tree, ""):
        if name in arrays:
            raise ValueError(f"save got two arrays that are both named {name!r}")
        arrays[name] = _storable(name, x)
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    write = _safetensors().numpy.save_file
    try:
        write(arrays, str(unfinished))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read the arrays of a safetensors file.

    Args:
        path: a file that `save` or any other program wrote in the format.

    Returns:
        Arrays by name, with their dtypes and shapes; for a model, `nnx.load_state_dict` takes it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not in the format, or holds a dtype that FunTorch lacks.
        ImportError: the package safetensors is not installed.

    Example:
        >>> import os, tempfile
        >>> import funtorch.numpy as fnp
        >>> from funtorch import io
        >>> path = os.path.join(tempfile.mkdtemp(), "arrays.safetensors")
        >>> io.save(path, {"a": fnp.arange(3)})
        >>> io.load(path)
        {'a': Array([0, 1, 2], dtype=int32)}
    """
    safetensors = _safetensors()
    data = Path(path).read_bytes()
    try:
        entries = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    return {name: fnp.asarray(_decoded(path, name, **entry)) for name, entry in entries}


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, Mapping):
        raise TypeError(
            f"save takes a dict of arrays; it was given a {type(tree).__name__}. For a model, save "
            "nnx.state_dict(model)"
        )
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _storable(name: str, x: Any) -> np.ndarray:
    if not isinstance(x, (Array, np.ndarray, np.generic)):
        raise TypeError(f"save takes a dict of arrays; {name!r} is a {type(x).__name__}")
    # The format stores bytes in row-major order and takes a buffer as it lies.
    data = np.asarray(np.asarray(x), order="C")
    if data.dtype not in _STORABLE:
        raise TypeError(
            f"save got {name!r} of dtype {data.dtype}, which the safetensors format does not have; "
            "convert it first (a complex128 array as its real and imag parts)"
        )
    return data


def _decoded(path: Any, name: str, dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    if dtype not in _DTYPES:
        raise ValueError(f"{path}: array {name!r} has dtype {dtype}, which FunTorch does not have")
    return np.frombuffer(data, _DTYPES[dtype]).reshape(shape)


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "saving and loading arrays needs the package safetensors: pip install safetensors"
        ) from error
    return safetensors
