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
from collections.abc import Mapping
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
_PROTECTION = {"code": 1 | 4, "data": 1 | 2}  # readable and executable; readable and writable


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


def _sections(code: bytes) -> list[_Section]:
    magic, kind, target, *_, start, _flags, _own, _, _, size, count, _names = _HEADER.unpack_from(
        code
    )
    if magic[:5] != b"\x7fELF\x02" or (kind, target) != (_RELOCATABLE, _X86_64):
        raise Unsupported("not an ELF object file for x86-64")
    found = []
    for k in range(count):
        _, kind, flags, _, offset, length, link, info, align, _ = _SECTION.unpack_from(
            code, start + k * size
        )
        found.append(_Section(kind, flags, offset, length, link, info, align))
    return found


class Image:
    """Object code in executable memory, for as long as this object lives.

    Args:
        code: an object file.
        externals: addresses of what the code refers to by name; what is not among them is looked up
            in the process.

    Raises:
        Unsupported: for object code that needs another linker.
        OSError: if the system gives no executable memory.
    """

    def __init__(self, code: bytes, externals: Mapping[str, int]) -> None:
        try:
            self._link(code, externals)
        except (struct.error, IndexError, ValueError, StopIteration) as error:
            raise Unsupported(f"object code with {error}") from None

    def __getitem__(self, symbol: str) -> int:
        """Return the address of a function."""
        return self._defined[symbol]

    def _link(self, code: bytes, externals: Mapping[str, int]) -> None:
        sections = _sections(code)
        table = next(s for s in sections if s.kind == _SYMTAB)
        names = sections[table.link].offset
        symbols = []
        for at in range(table.offset, table.offset + table.size, _SYMBOL.size):
            name, _, _, section, value, _ = _SYMBOL.unpack_from(code, at)
            symbols.append(
                (code[names + name : code.index(0, names + name)].decode(), section, value)
            )
        outside = [k for k, (name, section, _) in enumerate(symbols) if name and not section]
        self._place(code, sections, len(outside))
        jumps, entries, given = {}, {}, {}
        for k, number in enumerate(outside):
            jumps[number], entries[number] = self._jumps + 8 * k, self._entries + 8 * k
            given[number] = _outside(symbols[number][0], externals)
            self._write("<Q", entries[number], given[number])
            jump = _JUMP.pack(b"\xff\x25", entries[number] - jumps[number] - 6)
            self._memory[jumps[number] : jumps[number] + 8] = jump
        for relocations in sections:
            target = self._offsets.get(relocations.info)
            if relocations.kind != _RELA or target is None:
                continue
            first, end = relocations.offset, relocations.offset + relocations.size
            for at in range(first, end, _RELOCATION.size):
                place, info, addend = _RELOCATION.unpack_from(code, at)
                number, kind = info >> 32, info & 0xFFFFFFFF
                if kind == _WORD and number in given:
                    self._write("<Q", target + place, given[number] + addend)
                    continue
                value = jumps[number] if number in jumps else self._inside(*symbols[number][1:])
                self._relocate(target + place, kind, addend, value, entries.get(number))
        self._defined = {
            name: self._base + self._offsets[section] + value
            for name, section, value in symbols
            if name and section in self._offsets
        }
        self._protect()

    def _place(self, code: bytes, sections: list[_Section], outside: int) -> None:
        """Lay sections out in fresh memory: code and jumps, then data and the addresses table."""
        self._offsets: dict[int, int] = {}
        wanted = [
            (k, s) for k, s in enumerate(sections) if s.flags & _ALLOCATED and s.kind != _UNWIND
        ]
        top = 0
        for executable in (_EXECUTABLE, 0):
            for k, s in wanted:
                if s.flags & _EXECUTABLE == executable:
                    align = max(s.align, 1)
                    top = -(-top // align) * align
                    self._offsets[k] = top
                    top += s.size
            top = -(-top // 16) * 16
            if executable:
                self._jumps, top = top, top + 8 * outside
                self._code_end = top = -(-top // _PAGE) * _PAGE
            else:
                self._entries, top = top, top + 8 * outside
        self._memory = mmap.mmap(-1, max(top, self._code_end, _PAGE))
        self._view = (ctypes.c_char * len(self._memory)).from_buffer(self._memory)
        self._base = ctypes.addressof(self._view)
        for k, s in wanted:
            if s.kind != _NOBITS:
                self._memory[self._offsets[k] : self._offsets[k] + s.size] = code[
                    s.offset : s.offset + s.size
                ]

    def _inside(self, section: int, value: int) -> int | None:
        """Return where a symbol of the object code lies; None for one that is not placed."""
        if section >= _RESERVED or section not in self._offsets:
            return None
        return self._offsets[section] + value

    def _relocate(self, place: int, kind: int, addend: int, value: int | None, entry: Any) -> None:
        if kind in _TABLE and entry is not None:
            self._write("<i", place, entry + addend - place)
        elif value is None:
            raise Unsupported(f"a relocation of type {kind} to what is not in memory")
        elif kind == _WORD:
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
        if self._code_end and protect(self._base, self._code_end, _PROTECTION["code"]):
            raise OSError(ctypes.get_errno(), "the system gives no executable memory")
