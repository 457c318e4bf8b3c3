"""Runs the text of CUDA modules on the CPU: compiled by g++ together with `cuda_shim.hpp`."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from funtorch.backends.cuda.code import CudaCode, module_text

HEADER = Path(__file__).with_name("cuda_shim.hpp")
FLAGS = ["-std=c++17", "-O0", "-w", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno"]
FLAGS += ["-fwrapv", "-fno-strict-aliasing"]
_HEAD = re.compile(
    r'extern "C" __global__ void __launch_bounds__\(\d+(?:, \d+)?\) (\w+)\((.*?)\) \{', re.S
)
ORDERS = {"forwards": 0, "backwards": 1, "shuffled": 2}


class ShimError(AssertionError):
    """What a checked run found: an access out of bounds, a race, a barrier that is missed."""


def have_compiler() -> bool:
    """Tell whether there is a g++."""
    return shutil.which("g++") is not None


class Module:
    """A module's text as functions on memory of the CPU.

    Args:
        text: what `module_text` gives.
        flags: further flags for g++.
    """

    def __init__(self, text: str, flags: Sequence[str] = ()) -> None:
        heads = list(_HEAD.finditer(text))
        ends = [m.start() for m in heads[1:]] + [len(text)]
        waiting = _waiting(text)
        self.params: dict[str, list[str]] = {}
        lines = ['#include "cuda_shim.hpp"', text]
        for head, end in zip(heads, ends, strict=True):
            name, params = head.group(1), re.findall(r"GLOBAL\(([\w ]+)\)", head.group(2))
            self.params[name] = params
            body = text[head.end() : end]
            waits = any(word in body for word in waiting)
            given = ", ".join(
                f"Checked<{p}>{{&shim_regions[{k}], 0}}" for k, p in enumerate(params)
            )
            lines.append(f"static void shim_call_{name}() {{ {name}({given}); }}")
            lines.append(
                f'extern "C" int shim_{name}(int gx, int gy, int gz, int threads, long long shared,'
                " int count, void** pointers, const long long* sizes, const int* fresh, int order,"
                " char* message) { return shim_launch(gx, gy, gz, threads, shared, count, pointers,"
                f" sizes, fresh, order, {str(waits).lower()}, shim_call_{name}, message); }}"
            )
        self.lib = ctypes.CDLL(str(_built("\n".join(lines), [*FLAGS, *_native(), *flags])))

    def launch(
        self,
        name: str,
        grid: tuple[int, int, int],
        block: int,
        shared: int,
        buffers: Sequence[tuple[int, int]],
        scratch: tuple[int, int] = (0, 0),
        order: str = "forwards",
        begins: bool = True,
    ) -> None:
        """Run one launch.

        Args:
            name: of the function.
            grid: blocks; ``block``: threads of one; ``shared``: bytes of its shared memory.
            buffers: pairs (address, bytes) for each of the function's buffers.
            scratch: the same for the scratch memory.
            order: in which the threads of a block run, a key of `ORDERS`.
            begins: whether scratch holds nothing yet.

        Raises:
            ShimError: saying what is wrong with the text.
        """
        regions = [*buffers, scratch]
        if len(regions) != len(self.params[name]):
            raise ShimError(f"{name} takes {len(self.params[name])} pointers, not {len(regions)}")
        count = len(regions)
        pointers = (ctypes.c_void_p * count)(*(p for p, _ in regions))
        sizes = (ctypes.c_longlong * count)(*(n for _, n in regions))
        fresh = (ctypes.c_int * count)(*([0] * (count - 1)), 2 if begins else 1)
        message = ctypes.create_string_buffer(600)
        function = getattr(self.lib, f"shim_{name}")
        failed = function(
            *(ctypes.c_int(g) for g in grid),
            ctypes.c_int(block),
            ctypes.c_longlong(shared),
            ctypes.c_int(count),
            pointers,
            sizes,
            fresh,
            ctypes.c_int(ORDERS[order]),
            message,
        )
        if failed:
            raise ShimError(f"{name}: {message.value.decode() or 'cannot be launched'}")

    def run(self, code: CudaCode, arrays: Sequence[np.ndarray], order: str = "forwards") -> None:
        """Do all launches of a code on arrays, one per buffer, contiguous and written in place."""
        whole = np.full(code.scratch + 64, 0xFF, np.uint8)
        start = whole.ctypes.data + -whole.ctypes.data % 64
        for k, one in enumerate(code.launches):
            self.launch(
                one.name,
                one.grid,
                one.block,
                one.shared,
                [(a.ctypes.data, a.nbytes) for a in arrays],
                (start, code.scratch),
                order,
                k == 0,
            )


def _waiting(text: str) -> list[str]:
    """Return the words by which a function waits for other threads."""
    found = ["__sync", "shuffle"]
    for part in text.split("\nstatic __device__ __noinline__ ")[1:]:
        head, _, body = part.partition(") {")
        if any(word in body.partition("\n}")[0] for word in found):
            found.append(head.partition("(")[0].split()[-1])
    return found


def load(codes: Sequence[CudaCode]) -> Module:
    """Return the functions of several codes, compiled at once."""
    return Module(module_text(codes))


def _native() -> list[str]:
    """Return the flags under which fma is an instruction, where there is one."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return ["-mfma", "-mavx2"] if " fma " in text and " avx2 " in text else []


def _built(text: str, flags: Sequence[str]) -> Path:
    """Compile a text; the same text is compiled once per machine."""
    key = hashlib.sha256("\0".join([text, HEADER.read_text(), *flags]).encode()).hexdigest()[:32]
    folder = Path(tempfile.gettempdir()) / f"funtorch-shim-{_user()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    place = folder / f"{key}.so"
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            source, made = Path(work, "module.cpp"), Path(work, "module.so")
            source.write_text(text)
            header = _header(folder, tuple(flags))
            _gxx([*flags, f"-I{header}", str(source), "-o", str(made)])
            made.rename(place)
    return place


def _gxx(arguments: Sequence[str]) -> None:
    done = subprocess.run(["g++", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ShimError(f"g++ refuses the text:\n{done.stderr[:4000]}")


@functools.cache
def _header(folder: Path, flags: tuple[str, ...]) -> Path:
    """Return a folder in which the header lies, compiled: most of a small module is the header."""
    text = HEADER.read_text()
    place = folder / hashlib.sha256("\0".join([text, *flags]).encode()).hexdigest()[:32]
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            made = Path(work, "made")
            made.mkdir()
            (made / HEADER.name).write_text(text)
            header = str(made / HEADER.name)
            _gxx(["-x", "c++-header", *flags, header, "-o", f"{header}.gch"])
            with contextlib.suppress(OSError):  # another worker was here first
                made.rename(place)
    return place


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"
