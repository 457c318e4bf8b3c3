"""Compiled code on disk: a folder of files, each a checksum and what it is the checksum of.

Files are written whole and renamed into place, so that processes never see half of one; a file that
is damaged, foreign or truncated counts as absent and is written anew. The folder is
``FUNTORCH_CACHE_DIR``, by default ``funtorch`` in the user's cache folder; the value ``off`` turns
the cache off. It holds at most `LIMIT` bytes; what was not used for longest goes first.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import platform
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from funtorch import ops
from funtorch.config import config
from funtorch.core import ShapedArray
from funtorch.jaxpr import Jaxpr, Lit, Var
from funtorch.processes import Ranks

__all__ = ["LIMIT", "clear", "environment", "folder", "key", "load", "save", "spelled"]

LIMIT = 512 << 20
"""Most bytes of files that the folder keeps."""

_MAGIC = b"FunTorch code 1\n"
_DIGEST = hashlib.sha256().digest_size
_SUFFIX = ".code"
_EVERY = 64  # files written between two looks at the size of the folder
_OFF = ("off", "0", "none")

_said: set[str] = set()
_written = itertools.count()


def _note(text: str) -> None:
    """Print a line once, for those who debug: the cache never stops a program."""
    if config.debug >= 1 and text not in _said:
        print(f"cache: {text}", file=sys.stderr)
    _said.add(text)


# ---------------------------------------------------------------------- where
def folder() -> Path | None:
    """Return the cache's folder, or None when the cache is off."""
    given = os.environ.get("FUNTORCH_CACHE_DIR")
    if given is not None:
        return None if given.strip().lower() in _OFF or not given.strip() else Path(given)
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    if base:
        return Path(base) / "funtorch"
    try:
        return Path.home() / ".cache" / "funtorch"
    except RuntimeError:  # a user without a home
        return None


def _is_safe(place: Path) -> bool:
    """Tell whether nobody else can put code there that this process would run."""
    if not hasattr(os, "getuid"):
        return True
    found = place.stat()
    return found.st_uid in (os.getuid(), 0) and not found.st_mode & stat.S_IWOTH


# ---------------------------------------------------------------------- keys
@functools.cache
def environment() -> bytes:
    """Return what compiled code depends on besides its program: the machine, Python, our source."""
    ours = Path(__file__).parent, Path(ops.__file__).parent  # recipes and programs are among these
    source = sorted(place for folder in ours for place in folder.rglob("*.py"))
    stamps = [(p.name, s.st_size, s.st_mtime_ns) for p in source for s in (p.stat(),)]
    parts = (_processor(), sys.version, np.__version__, sys.platform, *stamps)
    return hashlib.sha256(repr(parts).encode()).digest()


def _processor() -> str:
    """Name the processor and what it can do."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            wanted = ("model name", "flags", "Features", "CPU part", "CPU implementer")
            one = itertools.takewhile(str.strip, lines)  # the first of several processors
            return "".join([line for line in one if line.startswith(wanted)])
    except OSError:
        return f"{platform.machine()} {platform.processor()}"


def key(*parts: str | bytes) -> str:
    """Return the name under which code is kept: a hash of the parts and the environment."""
    digest = hashlib.sha256(environment())
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


class _NotSpelled(Exception):
    """A program holds what has no exact spelling, such as a Python function."""


def spelled(jaxpr: Jaxpr) -> str | None:
    """Write a program down exactly, whatever its variables are called, for use in a key.

    Args:
        jaxpr: the program.

    Returns:
        The same text for the same program in every process, without the lines it came from; None
        where a parameter is a Python function or the like.

    Example:
        >>> import funtorch as ft
        >>> spelled(ft.make_jaxpr(lambda x: x * 2.0)(1.0))
        'float32();;mul{}0,float32():00000040;;float32();;1'
    """
    try:
        return _spelled(jaxpr)
    except _NotSpelled:
        return None


def _aval(aval: ShapedArray) -> str:
    return f"{aval.dtype.name}({','.join(map(str, aval.shape))})"


def _array(x: Any) -> str:
    data = np.asarray(x)
    digest = (
        hashlib.sha256(data.tobytes()).hexdigest() if data.nbytes > 64 else data.tobytes().hex()
    )
    return f"{data.dtype.name}({','.join(map(str, data.shape))}):{digest}"


def _spelled(jaxpr: Jaxpr) -> str:
    numbers: dict[Any, int] = {}

    def name(v: Var | Lit) -> str:
        return _array(v.val._data) if type(v) is Lit else str(numbers[v])

    lines = [",".join([_aval(v.aval) for v in (*jaxpr.constvars, *jaxpr.invars)])]
    lines.append(",".join([_array(x._data) for x in jaxpr.consts]))
    for v in (*jaxpr.constvars, *jaxpr.invars):
        numbers[v] = len(numbers)
    for eqn in jaxpr.eqns:
        params = ",".join([f"{k}={_value(x)}" for k, x in sorted(eqn.params.items())])
        lines.append(f"{eqn.prim.name}{{{params}}}{','.join(map(name, eqn.invars))}")
        lines.append("")
        lines.append(",".join([_aval(v.aval) for v in eqn.outvars]))
        for v in eqn.outvars:
            numbers[v] = len(numbers)
    lines.append("")
    lines.append(",".join(map(name, jaxpr.outvars)))
    return ";".join(lines)


def _value(x: Any) -> str:
    """Spell a parameter."""
    kind = type(x)
    if x is None or kind in (bool, int, str):
        return repr(x)
    if kind is float:
        return x.hex()
    if kind in (tuple, list):
        return f"[{','.join(map(_value, x))}]"
    if isinstance(x, np.dtype):
        return x.name
    if kind is Jaxpr:
        return f"<{_spelled(x)}>"
    if isinstance(x, np.generic):
        return _array(x)
    if kind is Ranks:
        return repr(x)
    raise _NotSpelled


# ---------------------------------------------------------------------- files
def load(name: str) -> bytes | None:
    """Return what was saved under a key, or None."""
    place = folder()
    if place is None:
        return None
    path = place / (name + _SUFFIX)
    try:
        data = path.read_bytes()
        if not _is_safe(place):
            _note(f"{place} can be written by other users, so it is not used")
            return None
    except OSError:
        return None
    head = len(_MAGIC) + _DIGEST
    payload = data[head:]
    if (
        data[: len(_MAGIC)] != _MAGIC
        or hashlib.sha256(payload).digest() != data[len(_MAGIC) : head]
    ):
        _note(f"{path} is damaged and will be written anew")
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return payload


def save(name: str, payload: bytes) -> None:
    """Keep bytes under a key; if that cannot be done, nothing happens."""
    place = folder()
    if place is None:
        return
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_safe(place):
            return _note(f"{place} can be written by other users, so it is not used")
        import tempfile

        handle, temporary = tempfile.mkstemp(prefix="new", dir=place)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, place / (name + _SUFFIX))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if next(_written) % _EVERY == 0:
            _shrink(place)
    except OSError as error:
        _note(f"compiled code is not kept: {error}")


def _files(place: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(place) as entries:
        yield from (e for e in entries if e.name.endswith(_SUFFIX) or e.name.startswith("new"))


def _shrink(place: Path) -> None:
    """Delete the files that were not used for longest until the rest fits."""
    found = []
    for entry in _files(place):
        with contextlib.suppress(OSError):  # another process may have deleted it
            about = entry.stat()
            found.append((about.st_mtime, about.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= LIMIT:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size


def clear() -> None:
    """Delete every file of the cache."""
    place = folder()
    if place is None or not place.is_dir():
        return
    for entry in _files(place):
        with contextlib.suppress(OSError):
            os.unlink(entry.path)
