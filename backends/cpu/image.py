"""Put object code into memory without LLVM: a linker for what LLVM writes on Linux, x86-64.

Importing LLVM takes longer than to trace and simplify most programs, so a process that finds its
object code on disk should not need it. Object files here are small: a few sections, and relocations
that are sums of addresses. On other machines, and for relocations not known here, LLVM's own linker
takes over.

References:
    System V Application Binary Interface, AMD64 Architecture Processor Supplement, section 4.4.
    Tool Interface Standard, Executable and Linking Format (ELF) Specification, version 1.2.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Image", "Unsupported", "can_link"]

_PAGE = mmap.PAGESIZE

# Fields of ELF64 structures, little-endian.
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_RELOCATABLE, _X86_64 = 1, 62
_SYMTAB, _RELA, _NOBITS = 2, 4, 8
_ALLOCATED, _EXECUTABLE = 2, 4
_UNWIND = 0x70000001  # tables for exceptions, of which there are none
_RESERVED = 0xFF00  # section numbers from here on mean something else

# Relocation types: what is written is value + addend, less the place where it is written, if
# relative; the value is a symbol's address, or the place of its entry in a table of addresses.
_WORD = 1  # a whole address
_RELATIVE = frozenset((2, 4))  # 32 bits, to the symbol or to a jump to it
_TABLE = frozenset((9, 41, 42))  # 32 bits, to the symbol's entry in the table

_JUMP = struct.Struct("<2sixx")  # jmp [rip + offset], eight bytes
_READ_AND_RUN = 1 | 4  # protection of memory


class Unsupported(Exception):
    """The object code holds what only LLVM's linker knows."""


def can_link() -> bool:
    """Tell whether this machine's object code can be linked here."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


@functools.cache
def _process() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _outside(name: str, externals: Mapping[str, int]) -> int:
    """Return the address of a function or datum that is not in the object code."""
    if name in externals:
        return externals[name]
    try:
        found = ctypes.cast(getattr(_process(), name), ctypes.c_void_p).value
    except AttributeError:
        raise Unsupported(f"the process has no symbol {name!r}") from None
    assert found is not None
    return found


class _Section(NamedTuple):
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int


class _Symbol(NamedTuple):
    name: str
    section: int  # 0: defined elsewhere
    value: int
    is_local: bool


class _Object:
    """An object file taken apart; ``offsets``: where its sections lie in memory."""

    def __init__(self, code: bytes) -> None:
        self.code = code
        magic, kind, target, _, _, _, start, *_, size, count, _ = _HEADER.unpack_from(code)
        if magic[:5] != b"\x7fELF\x02" or (kind, target) != (_RELOCATABLE, _X86_64):
            raise Unsupported("not an ELF object file for x86-64")
        self.sections: list[_Section] = []
        for k in range(count):
            _, kind, flags, _, offset, length, link, info, align, _ = _SECTION.unpack_from(
                code, start + k * size
            )
            self.sections.append(_Section(kind, flags, offset, length, link, info, align))
        table = next(s for s in self.sections if s.kind == _SYMTAB)
        names = self.sections[table.link].offset
        self.symbols: list[_Symbol] = []
        for at in range(table.offset, table.offset + table.size, _SYMBOL.size):
            name, info, _, section, value, _ = _SYMBOL.unpack_from(code, at)
            text = code[names + name : code.index(0, names + name)].decode()
            self.symbols.append(_Symbol(text, section, value, info >> 4 == 0))
        self.offsets: dict[int, int] = {}

    def wanted(self) -> Iterator[tuple[int, _Section]]:
        """Yield the sections that go into memory."""
        for k, s in enumerate(self.sections):
            if s.flags & _ALLOCATED and s.kind != _UNWIND:
                yield k, s

    def where(self, symbol: _Symbol) -> int | None:
        """Return where a symbol lies; None for one that is not in memory."""
        if symbol.section >= _RESERVED or symbol.section not in self.offsets:
            return None
        return self.offsets[symbol.section] + symbol.value

    def relocations(self) -> Iterator[tuple[int, int, _Symbol, int]]:
        """Yield place, type, symbol and addend of each relocation of what is in memory."""
        for s in self.sections:
            if s.kind == _RELA and s.info in self.offsets:
                for at in range(s.offset, s.offset + s.size, _RELOCATION.size):
                    place, info, addend = _RELOCATION.unpack_from(self.code, at)
                    symbol = self.symbols[info >> 32]
                    yield self.offsets[s.info] + place, info & 0xFFFFFFFF, symbol, addend


class Image:
    """Object code in executable memory, for as long as this object lives.

    Args:
        codes: object files, which may refer to each other.
        externals: addresses of what the code refers to by name; what is not among them is looked up
            in the process.

    Raises:
        Unsupported: for object code that needs another linker.
        OSError: if the system gives no executable memory.
    """

    def __init__(self, codes: Sequence[bytes], externals: Mapping[str, int]) -> None:
        try:
            self._link([_Object(code) for code in codes], externals)
        except (struct.error, IndexError, ValueError, StopIteration) as error:
            raise Unsupported(f"object code with {error}") from None

    def __getitem__(self, symbol: str) -> int:
        """Return the address of a function."""
        return self._base + self._defined[symbol]

    def _link(self, objects: list[_Object], externals: Mapping[str, int]) -> None:
        every = [(o, s) for o in objects for s in o.symbols if s.name]
        defined = {s.name for _, s in every if s.section and not s.is_local}
        outside = sorted({s.name for _, s in every if not s.section} - defined)
        self._place(objects, len(outside))
        self._defined = {
            s.name: place
            for o, s in every
            if s.section and not s.is_local and (place := o.where(s)) is not None
        }
        given = {name: _outside(name, externals) for name in outside}
        jumps = {name: self._jumps + 8 * k for k, name in enumerate(outside)}
        entries = {name: self._entries + 8 * k for k, name in enumerate(outside)}
        for name in outside:
            self._write("<Q", entries[name], given[name])
            jump = _JUMP.pack(b"\xff\x25", entries[name] - jumps[name] - 6)
            self._memory[jumps[name] : jumps[name] + 8] = jump
        for o in objects:
            for place, kind, symbol, addend in o.relocations():
                name = symbol.name
                if symbol.section or name not in given:
                    value = o.where(symbol) if symbol.section else self._defined[name]
                    self._relocate(place, kind, addend, value)
                elif kind == _WORD:
                    self._write("<Q", place, given[name] + addend)
                elif kind in _TABLE:
                    self._write("<i", place, entries[name] + addend - place)
                else:
                    self._relocate(place, kind, addend, jumps[name])
        self._protect()

    def _place(self, objects: list[_Object], outside: int) -> None:
        """Lay sections out in fresh memory: code and jumps, then data and the addresses table."""
        top = 0
        for executable in (_EXECUTABLE, 0):
            for o in objects:
                for k, s in o.wanted():
                    if s.flags & _EXECUTABLE == executable:
                        align = max(s.align, 1)
                        o.offsets[k] = top = -(-top // align) * align
                        top += s.size
            top = -(-top // 16) * 16
            if executable:
                self._jumps, top = top, top + 8 * outside
                self._code_end = top = -(-top // _PAGE) * _PAGE
            else:
                self._entries, top = top, top + 8 * outside
        # Private: what a forked child writes, such as that its threads are gone, is its own.
        size = max(top, self._code_end, _PAGE)
        self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._view = (ctypes.c_char * len(self._memory)).from_buffer(self._memory)
        self._base = ctypes.addressof(self._view)
        for o in objects:
            for k, s in o.wanted():
                if s.kind != _NOBITS:
                    at, data = o.offsets[k], o.code[s.offset : s.offset + s.size]
                    self._memory[at : at + s.size] = data

    def _relocate(self, place: int, kind: int, addend: int, value: int | None) -> None:
        if value is None:
            raise Unsupported(f"a relocation of type {kind} to what is not in memory")
        if kind == _WORD:
            self._write("<Q", place, self._base + value + addend)
        elif kind in _RELATIVE:
            self._write("<i", place, value + addend - place)
        else:
            raise Unsupported(f"relocation type {kind}")

    def _write(self, form: str, place: int, value: int) -> None:
        struct.pack_into(form, self._memory, place, value)

    def _protect(self) -> None:
        protect = _process().mprotect
        protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        if self._code_end and protect(self._base, self._code_end, _READ_AND_RUN):
            raise OSError(ctypes.get_errno(), "the system gives no executable memory")
