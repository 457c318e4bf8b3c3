"""From LLVM IR to object code: the host's code generator, and several of them at once.

A module of many functions is cut into units that compile in parallel, each in a context of its own,
and that are kept on disk one by one, so that a program which differs in a kernel from one before
compiles that kernel. llvmlite lets one thread at a time into LLVM; the two calls that take the time
are made past that lock.
"""

from __future__ import annotations

import ctypes
import functools
import re
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from funtorch.config import config

from .. import cache
from .image import can_link
from .threads import default_threads

__all__ = ["FULL", "NONE", "TIDY", "Unit", "files", "kept_code", "kept_module", "link"]
__all__ += ["object_code", "start_compiler", "units"]

_UNIT = 3_000  # characters of functions from which another unit is worth its own compilation
_MOST_UNITS = 32

NONE, TIDY, FULL = 0, 1, 3
"""What LLVM makes of a module before it writes machine code: nothing; what is said twice once; all
that it can."""


class _Machine:
    """The host's processor as LLVM knows it."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        self.llvm = llvm
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        # Where two loads have a condition each, jump threading gives the second one two addresses,
        # and LLVM 22's loop vectorizer reads all lanes from where the first one's is.
        llvm.set_option("", "-jump-threading-threshold=0")
        cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features()
        # LLVM's linker puts sections anywhere, so there all addresses are written in full; ours
        # keeps them together.
        reloc, model = ("pic", "small") if can_link() else ("static", "large")
        flat = features.flatten()
        self.options = {
            "cpu": cpu, "features": flat, "reloc": reloc, "codemodel": model
        }  # fmt: skip
        self.triple = llvm.get_process_triple()
        wide = 512 if features.get("avx512f") else 256
        self.attributes = (
            f'attributes #0 = {{ "prefer-vector-width"="{wide}" "target-cpu"="{cpu}" '
            f'"target-features"="{flat}" "no-trapping-math"="true" }}'
        )
        self.run, self.emit = _past_lock(llvm) or (_run, _emit)

    def target(self, effort: int = 3) -> Any:
        """Return a code generator that works so hard, from 0 to 3."""
        options = self.options | {"opt": effort}
        return self.llvm.Target.from_triple(self.triple).create_target_machine(**options)

    @functools.cached_property
    def linker(self) -> Any:
        return self.llvm.create_lljit_compiler(self.target())

    def unit(self, unit: Unit) -> bytes:
        """Compile one module."""
        llvm = self.llvm
        context = llvm.create_context()
        module = llvm.parse_assembly(f"{unit.text}\n{self.attributes}\n", context)
        module.verify()
        functions = _FUNCTION.findall(unit.text)
        target = self.target(3 if any(map(_level, functions)) else 0)
        options = llvm.create_pipeline_tuning_options(speed_level=unit.level)
        builder = llvm.create_pass_builder(target, options)
        if unit.level == TIDY:
            passes = llvm.create_new_module_pass_manager()
            passes.add_sroa_pass()
            passes.add_new_gvn_pass()
            passes.add_instruction_combine_pass()
            passes.add_simplify_cfg_pass()
        else:
            passes = builder.getModulePassManager()
        self.run(passes, module, builder)
        return self.emit(target, module)


def _run(passes: Any, module: Any, builder: Any) -> None:
    passes.run(module, builder)


def _emit(target: Any, module: Any) -> bytes:
    return target.emit_object(module)


def _past_lock(llvm: Any) -> tuple[Callable[..., None], Callable[..., bytes]] | None:
    """Return `_run` and `_emit` without llvmlite's lock; None where llvmlite is another one.

    LLVM's rule is that no two threads are in one context; nothing here is shared by two units. The
    functions are those that llvmlite calls by its public methods, in a handle of our own.
    """
    library = llvm.ffi.lib
    try:
        free = ctypes.CDLL(library._name)
        run, emit = free.LLVMPY_RunNewModulePassManager, free.LLVMPY_TargetMachineEmitToMemory
    except (AttributeError, OSError):
        return None
    pointer = ctypes.c_void_p
    run.argtypes, run.restype = (pointer, pointer, pointer), None
    emit.argtypes = (pointer, pointer, ctypes.c_int, pointer)
    emit.restype = llvm.ffi.LLVMMemoryBufferRef

    def run_passes(passes: Any, module: Any, builder: Any) -> None:
        run(*map(_address, (passes, module, builder)))

    def emit_object(target: Any, module: Any) -> bytes:
        with llvm.ffi.OutputString() as error:
            memory = emit(_address(target), _address(module), 1, _address(error))
            if not memory:
                raise RuntimeError(f"LLVM makes no object code: {error}")
        try:
            size = library.LLVMPY_GetBufferSize(memory)
            return ctypes.string_at(library.LLVMPY_GetBufferStart(memory), size)
        finally:
            library.LLVMPY_DisposeMemoryBuffer(memory)

    return run_passes, emit_object


def _address(x: Any) -> Any:
    return ctypes.cast(x._ptr, ctypes.c_void_p)


_lock = threading.Lock()
_machines: list[_Machine] = []


def _machine() -> _Machine:
    with _lock:
        if not _machines:
            _machines.append(_Machine())
        return _machines[0]


def start_compiler() -> None:
    """Load LLVM, which the first module would wait for."""
    _machine()


# ---------------------------------------------------------------------- units
_FUNCTION = re.compile(r"^define .*?^\}$", re.MULTILINE | re.DOTALL)
_HEAD = re.compile(
    r"^define (?:internal |hidden |weak_odr )?(.*?@([\w.]+)\([^{]*?\))[^{\n]*\{", re.MULTILINE
)
_PARAMETER = re.compile(r" %[\w.]+")
_NAME = re.compile(r"@([\w.]+)")
_LEVELS = {" optnone ": NONE, " optsize ": TIDY}
"""Of functions that cost more to compile than they ever cost to run, and of those that are written
as they shall run."""


@dataclass(frozen=True)
class Unit:
    """A module that is compiled by itself, and how much LLVM shall make of it."""

    text: str
    level: int


def _head(function: str) -> str:
    return function.partition("{\n")[0]


def _is_shared(function: str) -> bool:
    head = _head(function)
    return head.startswith("define weak_odr") or "alwaysinline" in head


def _level(function: str) -> int:
    head = _head(function)
    return next((level for word, level in _LEVELS.items() if word in head), FULL)


def _two(text: str, level: int) -> list[Unit]:
    """Cut a module into what is cold, for which the code generator needs a quarter of the time, and
    the rest.
    """
    functions = _FUNCTION.findall(text)
    cold = [f for f in functions if _level(f) == NONE]
    rest = [f for f in functions if _level(f) != NONE]
    if not (cold and rest):
        return [Unit(text, level)]
    lines, heads = _outside(text, functions)
    return [_unit(lines, group, (), heads, level) for group in (rest, cold)]


def units(text: str, most: int) -> list[Unit]:
    """Cut a module into modules that together are the same, at most so many.

    A long function is a unit of its own: in another program it is the same one. The others are
    spread over units; what is to be inlined, and functions that modules may share (weak_odr), are
    in every unit that uses them. Declarations, constants and metadata take one line each.
    """
    functions = _FUNCTION.findall(text)
    shared = [f for f in functions if _is_shared(f)]
    free = [f for f in functions if f.startswith("define internal") and not _is_shared(f)]
    if sum(map(len, free)) < _UNIT:
        return [Unit(text, FULL)]
    long = [f for f in free if len(f) >= _UNIT][: most - 2]
    groups = [[f] for f in long]
    apart = {*long, *shared}
    for level in (NONE, TIDY, FULL):
        rest = [f for f in functions if f not in apart and _level(f) == level]
        count = min(max(most - len(groups), 1), sum(map(len, rest)) // _UNIT + 1)
        groups += _spread(rest, count if level == FULL else 1)
    lines, heads = _outside(text, [f for f in functions if f not in shared])
    # What takes longest first, so that all threads end together.
    groups.sort(key=lambda g: -sum(len(f) * (1 + _level(f)) for f in g))
    return [_unit(lines, group, shared, heads, max(map(_level, group))) for group in groups]


def _outside(text: str, functions: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the lines outside of a module's functions, and declarations of some of these."""
    lines = [line for line in _FUNCTION.sub("", text).split("\n") if line]
    heads = [head for function in functions for head in _HEAD.findall(function)]
    return lines, {name: "declare hidden " + _PARAMETER.sub("", head) for head, name in heads}


def _spread(functions: Sequence[str], count: int) -> list[list[str]]:
    """Return the functions in so many groups of about the same size, none of them empty."""
    groups: list[list[str]] = [[] for _ in range(count)]
    sizes = [0] * count
    for function in sorted(functions, key=len, reverse=True):
        k = sizes.index(min(sizes))
        groups[k].append(function)
        sizes[k] += len(function)
    return [group for group in groups if group]


def _unit(
    lines: Sequence[str],
    group: Sequence[str],
    shared: Sequence[str],
    heads: dict[str, str],
    level: int,
) -> Unit:
    """Return the module of a group of functions, with declarations of what it takes from others."""
    body = "\n".join([*group, *_wanted("\n".join(group), shared)])
    own = {name for _, name in _HEAD.findall(body)}
    used = set(_NAME.findall(body))
    outside = [line for line in lines if line[0] == "!" or not used.isdisjoint(_NAME.findall(line))]
    others = [head for name, head in heads.items() if name in used and name not in own]
    body = re.sub(r"^define internal (?![^\n]*alwaysinline)", "define hidden ", body, flags=re.M)
    return Unit("\n".join([*outside, *others, body]), level)


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


def object_code(text: str, level: int = FULL) -> bytes:
    """Compile a module's text to object code; the same text gives the same bytes.

    Args:
        text: the module, without the attributes #0, which the machine defines.
        level: of optimisation: NONE, TIDY or FULL.

    Returns:
        object files, each after its length.
    """
    if config.debug >= 4:
        print(text, file=sys.stderr)
    if not can_link():
        parts = [Unit(text, level)]
    else:
        parts = units(text, _MOST_UNITS) if level == FULL else _two(text, level)
    if level == NONE or len(parts) == 1:
        codes = [_machine().unit(part) for part in parts]
    else:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(default_threads(), len(parts))) as threads:
            codes = list(threads.map(_kept_unit, parts))
    return b"".join([len(code).to_bytes(8, "little") + code for code in codes])


def _kept_unit(unit: Unit) -> bytes:
    """Return a unit's object file, from disk if any program held the same one before."""
    name = cache.key("unit", unit.text, str(unit.level))
    code = cache.load(name)
    if code is None:
        code = _machine().unit(unit)
        cache.save(name, code)
    return code


def files(code: bytes) -> list[bytes]:
    """Return the object files that `object_code` gave."""
    found, at = [], 0
    while at < len(code):
        size = int.from_bytes(code[at : at + 8], "little")
        found.append(code[at + 8 : at + 8 + size])
        at += 8 + size
    return found


def kept_code(text: str, level: int = FULL) -> bytes:
    """Return a module's object code, from disk if it was compiled before."""
    return _kept(("text", text, str(level)), lambda: text, level)


def kept_module(name: str, text: Callable[[], str]) -> bytes:
    """Return the object code of a module of ours, from disk if it was compiled before.

    Args:
        name: of the module.
        text: gives its text, written by hand as it shall be; it depends on the processor alone.
    """
    return _kept(("module", name), text, NONE)


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
