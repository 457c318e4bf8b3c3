"""From LLVM IR to object code: the host's code generator, and several of them at once.

A module of many functions is cut into units that compile in parallel, each in a context of its own.
llvmlite lets one thread at a time into LLVM; the two calls that take the time are made past that
lock, which LLVM allows for contexts that share nothing.
"""

from __future__ import annotations

import ctypes
import functools
import re
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from funtorch.config import config

from .. import cache
from .image import can_link
from .threads import default_threads

__all__ = ["files", "kept_code", "kept_module", "link", "object_code", "units"]

_UNIT = 4_000  # characters of functions from which another unit is worth its own compilation
_MOST_UNITS = 8


class _Machine:
    """The host's processor as LLVM knows it."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        self.llvm = llvm
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features()
        # LLVM's linker puts sections anywhere, so there all addresses are written in full; ours
        # keeps them together.
        reloc, model = ("pic", "small") if can_link() else ("static", "large")
        flat = features.flatten()
        self.options = {
            "cpu": cpu, "features": flat, "opt": 3, "reloc": reloc, "codemodel": model
        }  # fmt: skip
        self.triple = llvm.get_process_triple()
        wide = 512 if features.get("avx512f") else 256
        self.attributes = (
            f'attributes #0 = {{ "prefer-vector-width"="{wide}" "target-cpu"="{cpu}" '
            f'"target-features"="{flat}" "no-trapping-math"="true" }}'
        )
        library = ctypes.CDLL(llvm.ffi.lib._name)
        pointer = ctypes.c_void_p
        self.run = library.LLVMPY_RunNewModulePassManager
        self.run.argtypes, self.run.restype = (pointer, pointer, pointer), None
        self.emit = library.LLVMPY_TargetMachineEmitToMemory
        self.emit.argtypes = (pointer, pointer, ctypes.c_int, pointer)
        self.emit.restype = llvm.ffi.LLVMMemoryBufferRef

    def target(self) -> Any:
        return self.llvm.Target.from_triple(self.triple).create_target_machine(**self.options)

    @functools.cached_property
    def linker(self) -> Any:
        return self.llvm.create_lljit_compiler(self.target())

    def unit(self, text: str, level: int) -> bytes:
        """Compile one module."""
        llvm = self.llvm
        context = llvm.create_context()
        module = llvm.parse_assembly(text, context)
        module.verify()
        target = self.target()
        options = llvm.create_pipeline_tuning_options(speed_level=level)
        builder = llvm.create_pass_builder(target, options)
        passes = builder.getModulePassManager()
        self.run(*map(_address, (passes, module, builder)))
        with llvm.ffi.OutputString() as error:
            memory = self.emit(_address(target), _address(module), 1, _address(error))
            if not memory:
                raise RuntimeError(f"LLVM makes no object code: {error}")
        library = llvm.ffi.lib
        try:
            size = library.LLVMPY_GetBufferSize(memory)
            return ctypes.string_at(library.LLVMPY_GetBufferStart(memory), size)
        finally:
            library.LLVMPY_DisposeMemoryBuffer(memory)


def _address(x: Any) -> Any:
    return ctypes.cast(x._ptr, ctypes.c_void_p)


_lock = threading.Lock()
_machines: list[_Machine] = []


def _machine() -> _Machine:
    with _lock:
        if not _machines:
            _machines.append(_Machine())
        return _machines[0]


# ---------------------------------------------------------------------- units
_HEAD = re.compile(
    r"^define (?:internal |hidden |weak_odr )?(.*?@([\w.]+)\([^{]*?\))[^{\n]*\{", re.MULTILINE
)
_PARAMETER = re.compile(r" %[\w.]+")
_NAME = re.compile(r"@([\w.]+)")


def _is_shared(block: str) -> bool:
    return block.startswith("define weak_odr") or "alwaysinline" in block.partition("\n")[0]


def units(text: str, most: int) -> list[str]:
    """Cut a module into modules that together are the same, at most so many.

    Functions stand in blocks between empty lines. The internal ones are spread over the units; what
    is to be inlined, and functions that modules may share (weak_odr), are in every unit that uses
    them.
    """
    blocks = text.split("\n\n")
    functions = [b for b in blocks if b.startswith("define")]
    shared = [b for b in functions if _is_shared(b)]
    free = [b for b in functions if b.startswith("define internal") and not _is_shared(b)]
    count = min(most, sum(map(len, free)) // _UNIT + 1)
    if count < 2:
        return [text]
    apart = {*free, *shared}
    groups = [[b for b in functions if b not in apart], *([] for _ in range(count - 1))]
    sizes = [sum(map(len, group)) for group in groups]
    for block in sorted(free, key=len, reverse=True):
        k = sizes.index(min(sizes))
        groups[k].append(block)
        sizes[k] += len(block)
    rest = [b for b in blocks if not b.startswith("define")]
    heads = {
        name: "declare hidden " + _PARAMETER.sub("", head)
        for block in functions
        if block not in shared
        for head, name in _HEAD.findall(block)
    }
    return [_unit(rest, group, shared, heads) for group in groups if group]


def _unit(
    rest: Sequence[str], group: Sequence[str], shared: Sequence[str], heads: dict[str, str]
) -> str:
    """Return the module of a group of functions, with declarations of those of other groups."""
    body = "\n\n".join([*group, *_wanted("\n".join(group), shared)])
    own = {name for _, name in _HEAD.findall(body)}
    used = set(_NAME.findall(body))
    others = [head for name, head in heads.items() if name in used and name not in own]
    body = re.sub(r"^define internal (?![^\n]*alwaysinline)", "define hidden ", body, flags=re.M)
    return "\n\n".join([*rest, *others, body])


def _wanted(body: str, shared: Sequence[str]) -> list[str]:
    """Return the shared functions that a text uses, and all that those use."""
    found: list[str] = []
    todo = list(shared)
    while True:
        used = {name.split(".v")[0] for name in _NAME.findall(body)}
        more = [b for b in todo if _HEAD.findall(b)[0][1].split(".v")[0] in used]
        if not more:
            return found
        found += more
        todo = [b for b in todo if b not in more]
        body = "\n".join(more)


def object_code(text: str, level: int = 3) -> bytes:
    """Compile a module's text to object code; the same text gives the same bytes.

    Args:
        text: the module, without the attributes #0, which the machine defines.
        level: of optimisation, 0 to 3.

    Returns:
        object files, each after its length.
    """
    host = _machine()
    if config.debug >= 4:
        print(text, file=sys.stderr)
    parts = units(text, _MOST_UNITS) if can_link() else [text]
    parts = [f"{part}\n\n{host.attributes}\n" for part in parts]
    if len(parts) == 1:
        codes = [host.unit(parts[0], level)]
    else:
        with ThreadPoolExecutor(min(default_threads(), len(parts))) as threads:
            codes = list(threads.map(lambda part: host.unit(part, level), parts))
    return b"".join([len(code).to_bytes(8, "little") + code for code in codes])


def files(code: bytes) -> list[bytes]:
    """Return the object files that `object_code` gave."""
    found, at = [], 0
    while at < len(code):
        size = int.from_bytes(code[at : at + 8], "little")
        found.append(code[at + 8 : at + 8 + size])
        at += 8 + size
    return found


def kept_code(text: str, level: int = 3) -> bytes:
    """Return a module's object code, from disk if it was compiled before."""
    return _kept(("text", text, str(level)), lambda: text, level)


def kept_module(name: str, text: Callable[[], str]) -> bytes:
    """Return the object code of a module of ours, from disk if it was compiled before.

    Args:
        name: of the module.
        text: gives its text, written by hand as it shall be; it depends on the processor alone.
    """
    return _kept(("module", name), text, 0)


def _kept(parts: Sequence[str], text: Callable[[], str], level: int) -> bytes:
    name = cache.key(*parts)
    code = cache.load(name)
    if code is None:
        code = object_code(text(), level)
        cache.save(name, code)
    return code


def link(code: bytes, symbols: Sequence[str], addresses: dict[str, int], name: str) -> Any:
    """Let LLVM put object code into memory.

    Args:
        code: what `object_code` gave.
        symbols: the functions wanted.
        addresses: of what the code refers to.
        name: of the library, not used before.

    Returns:
        a mapping of symbols to addresses that keeps the code in memory.
    """
    host = _machine()
    builder = host.llvm.JITLibraryBuilder().add_current_process()
    for file in files(code):
        builder.add_object_img(file)
    for external, address in addresses.items():
        builder.import_symbol(external, address)
    for symbol in symbols:
        builder.export_symbol(symbol)
    return builder.link(host.linker, name)
