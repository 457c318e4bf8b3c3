"""NVRTC, NVIDIA's compiler as a library: text of CUDA C++ to machine code for one kind of GPU.

The library is called directly, through ctypes: it needs neither a GPU nor a driver. It is looked
for in the wheel ``nvidia-cuda-nvrtc-cu12`` (or ``-cu13``), which CuPy's ``[ctk]`` extra installs
too, then where the system's CUDA is.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import cache

__all__ = [
    "Nvrtc",
    "NvrtcError",
    "Usage",
    "compile_cubin",
    "compile_ptx",
    "find_library",
    "library",
]

OPTIONS = (
    "--std=c++17",
    "--fmad=false",  # what may be contracted is written as fma
    "--ftz=false",
    "--prec-div=true",
    "--prec-sqrt=true",
    "--device-int128",
    "--restrict",
    "--disable-warnings",
)
_ADVICE = "pip install nvidia-cuda-nvrtc-cu12 (or cupy-cuda12x[ctk]) brings it"


_USAGE = re.compile(
    r"(?s)Function properties for (\w+).*?(\d+) bytes stack frame, (\d+) bytes spill.*?"
    r"Used (\d+) registers"
)


@dataclass(frozen=True)
class Usage:
    """What a function takes: registers of a thread, bytes of its stack, bytes of what it spills."""

    registers: int
    stack: int
    spilled: int


class NvrtcError(RuntimeError):
    """NVRTC is not there, or refuses a text."""


def _names() -> tuple[str, ...]:
    if sys.platform == "win32":
        return ("nvrtc64_*.dll",)
    return ("libnvrtc.so.1[0-9]", "libnvrtc.so")


def _folders() -> Iterator[Path]:
    """Yield where the library may be, the best place first."""
    try:
        found = importlib.util.find_spec("nvidia")
    except (ImportError, ValueError):
        found = None
    for base in (found.submodule_search_locations or ()) if found else ():
        for inner in ("cuda_nvrtc", "cu13"):
            yield from (Path(base, inner, part) for part in ("lib", "bin", "bin/x86_64"))
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if root := os.environ.get(variable):
            yield from (Path(root, part) for part in ("lib64", "lib", "bin"))
    yield from (Path("/usr/local/cuda", part) for part in ("lib64", "lib"))


def find_library() -> Path | None:
    """Return the file of the library, or None where there is none."""
    for folder in _folders():
        for name in _names():
            found = sorted(p for p in folder.glob(name) if ".alt." not in p.name)
            if found:
                return found[-1]
    return None


class Nvrtc:
    """The library, loaded."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.lib = ctypes.CDLL(str(place))
        self.lib.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.lib.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        self.version = major.value, minor.value
        count = ctypes.c_int()
        self._check(self.lib.nvrtcGetNumSupportedArchs(ctypes.byref(count)), "say what it is for")
        archs = (ctypes.c_int * count.value)()
        self._check(self.lib.nvrtcGetSupportedArchs(archs), "say what it is for")
        self.archs = frozenset(archs)

    def target(self, arch: str) -> str:
        """Return what to compile for: a kind of GPU, or, if it came after this library, the latest
        virtual one before, whose PTX its driver compiles.

        Args:
            arch: the kind of GPU, such as 'sm_90'.

        Raises:
            NvrtcError: the GPU is older than all that the library knows.
        """
        number = int(arch.removeprefix("sm_"))
        if number in self.archs:
            return arch
        known = [n for n in self.archs if n < number]
        if not known:
            shown = ".".join(map(str, self.version))
            raise NvrtcError(
                f"NVRTC {shown} compiles for sm_{min(self.archs)} and later, and this GPU is "
                f"{arch}: install an earlier one, such as nvidia-cuda-nvrtc-cu12"
            )
        return f"compute_{max(known)}"

    def _check(self, status: int, what: str) -> None:
        if status:
            said = self.lib.nvrtcGetErrorString(status).decode()
            raise NvrtcError(f"NVRTC {self.version[0]}.{self.version[1]} could not {what}: {said}")

    def usage(self, text: str, arch: str) -> dict[str, Usage]:
        """Return what the functions of a text take of a multiprocessor, as the assembler says."""
        program = self._compiled(text, arch, "funtorch.cu", ["--ptxas-options=-v"])
        log = self._read(program, "nvrtcGetProgramLog").rstrip(b"\0").decode()
        self.lib.nvrtcDestroyProgram(ctypes.byref(program))
        found = {}
        for name, stack, spilled, registers in _USAGE.findall(log):
            found[name] = Usage(int(registers), int(stack), int(spilled))
        return found

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        """Return what a pair of functions ``nvrtcGet...Size`` and ``nvrtcGet...`` says."""
        size = ctypes.c_size_t()
        self._check(getattr(self.lib, f"{what}Size")(program, ctypes.byref(size)), "say a size")
        held = ctypes.create_string_buffer(size.value)
        self._check(getattr(self.lib, what)(program, held), "hand over what it made")
        return held.raw

    def compile(self, text: str, arch: str, name: str = "funtorch.cu") -> bytes:
        """Return the cubin of a text.

        Args:
            text: CUDA C++.
            arch: the kind of GPU, such as 'sm_90'.
            name: what messages call the text.

        Raises:
            NvrtcError: with NVRTC's messages and the lines that they are about.
        """
        program = self._compiled(text, arch, name, [])
        try:
            return self._read(program, "nvrtcGetCUBIN")
        finally:
            self.lib.nvrtcDestroyProgram(ctypes.byref(program))

    def assembly(self, text: str, arch: str) -> bytes:
        """Return the PTX of a text for a virtual kind of GPU, such as 'compute_80'."""
        program = self._compiled(text, arch, "funtorch.cu", [])
        try:
            return self._read(program, "nvrtcGetPTX")
        finally:
            self.lib.nvrtcDestroyProgram(ctypes.byref(program))

    def ptx(self, text: str) -> bytes:
        """Return the PTX of a text of simple instructions, for any GPU since Turing.

        The driver compiles it. Drivers refuse PTX of later versions than their own, so it is said
        to be of an early one.
        """
        made = self.assembly(text, "compute_75")
        return re.sub(rb"(?m)^\.version .*$", b".version 7.0", made, count=1)

    def _compiled(self, text: str, arch: str, name: str, extra: Sequence[str]) -> ctypes.c_void_p:
        """Return a program that NVRTC compiled; its messages are an error where it could not."""
        program = ctypes.c_void_p()
        status = self.lib.nvrtcCreateProgram(
            ctypes.byref(program), text.encode(), name.encode(), 0, None, None
        )
        self._check(status, "begin")
        options = [o.encode() for o in (f"--gpu-architecture={arch}", *OPTIONS, *extra)]
        given = (ctypes.c_char_p * len(options))(*options)
        if self.lib.nvrtcCompileProgram(program, len(options), given):
            log = self._read(program, "nvrtcGetProgramLog").rstrip(b"\0\n").decode()
            self.lib.nvrtcDestroyProgram(ctypes.byref(program))
            raise NvrtcError(_explained(text, arch, log))
        return program


def _explained(text: str, arch: str, log: str) -> str:
    """Return NVRTC's messages with the lines of text, and the function, that they are about."""
    lines, out = text.splitlines(), [f"NVRTC refuses a module for {arch}:"]
    for said in log.splitlines()[:40]:
        out.append(f"  {said}")
        place = said.partition("(")[2].partition(")")[0]
        if "error" in said and place.isdigit() and int(place) <= len(lines):
            at = int(place) - 1
            heads = [k for k in range(at + 1) if "__global__" in lines[k]]
            if heads:
                out.append(f"    in {lines[heads[-1]].strip()}")
            out.append(f"    line {place}: {lines[at].strip()}")
    return "\n".join(out)


@functools.cache
def library() -> Nvrtc:
    """Return the library, loaded once.

    Raises:
        NvrtcError: where there is none, saying what brings it.
    """
    place = find_library()
    if place is None:
        looked = ", ".join(map(str, _folders()))
        raise NvrtcError(f"there is no NVRTC library (looked in {looked}): {_ADVICE}")
    try:
        return Nvrtc(place)
    except OSError as error:
        raise NvrtcError(f"NVRTC at {place} cannot be loaded ({error}): {_ADVICE}") from error


def compile_cubin(text: str, arch: str) -> bytes:
    """Return a module as the driver of a kind of GPU loads it, from the cache on disk if it is
    there: machine code, or PTX for GPUs that came after the library.

    Args:
        text: CUDA C++, as `module_text` gives it.
        arch: the kind of GPU, such as 'sm_90'.
    """
    compiler = library()
    target = compiler.target(arch)
    name = cache.key("cubin", text, target, repr(compiler.version), *OPTIONS)
    held = cache.load(name)
    if isinstance(held, bytes):
        return held
    make = compiler.compile if target == arch else compiler.assembly
    made = make(text, target)
    cache.save(name, made)
    return made


def compile_ptx(text: str) -> bytes:
    """Return the PTX of a text of simple instructions, which the driver compiles."""
    return library().ptx(text)
