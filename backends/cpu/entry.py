"""The entry of a printed program: what Python calls, and the addresses of the arrays it gives."""

from __future__ import annotations

from typing import Any

__all__ = [
    "CONTIGUOUS",
    "DATA",
    "FLAGS",
    "LIST_ITEMS",
    "POINTER",
    "TYPE",
    "addresses",
    "entry_text",
]

POINTER = 8  # bytes
_MANY = 16  # arrays from which their addresses are read by a loop

# Where CPython and NumPy keep what native code reads; the runtime checks it against live objects.
LIST_ITEMS = list.__basicsize__ - 2 * POINTER
TYPE = object.__basicsize__ - POINTER
DATA = object.__basicsize__
FLAGS = object.__basicsize__ + 6 * POINTER
CONTIGUOUS = 1

_ENTRY = """define ptr @program(ptr %self, ptr %args, i64 %count) {care}nounwind #0 {{
  %p1 = getelementptr ptr, ptr %args, i64 1
  %p2 = getelementptr ptr, ptr %args, i64 2
  %p3 = getelementptr ptr, ptr %args, i64 3
  %p4 = getelementptr ptr, ptr %args, i64 4
  %inputs = load ptr, ptr %args
  %outputs = load ptr, ptr %p1
  %memory = load ptr, ptr %p2
  %runtime = load ptr, ptr %p3
  %number = load ptr, ptr %p4
  %long = call i64 @PyLong_AsLong(ptr %number)
  %threads = trunc i64 %long to i32
  {before}
  %code = call i32 @run(ptr %inputs, ptr %outputs, ptr %memory, ptr %runtime, i32 %threads)
  {after}
  %wide = sext i32 %code to i64
  %result = call ptr @PyLong_FromLong(i64 %wide)
  ret ptr %result
}}"""
_BRIEFLY = {"care": "optsize ", "before": "", "after": ""}
_UNLOCK = {
    "care": "noinline optnone ",
    "before": "%state = call ptr @PyEval_SaveThread()",
    "after": "call void @PyEval_RestoreThread(ptr %state)",
}


def entry_text(brief: bool) -> str:
    """Return the function that Python calls; unless brief, other Python threads run meanwhile."""
    return _ENTRY.format(**(_BRIEFLY if brief else _UNLOCK))


def addresses(printer: Any, which: str, count: int, checked: bool) -> list[str]:
    """Write the reading of the addresses of the data of a list's arrays.

    Args:
        printer: of the program.
        which: the list's name.
        count: its length.
        checked: whether ``run`` goes to ``copy`` if one is not a plain contiguous ndarray.
    """
    if not count:
        return []
    p, items = printer, f"%{which}"
    if not p.python:  # a table of addresses
        return [p.op(f"load ptr, ptr {p.shift(items, k * POINTER)}") for k in range(count)]
    items = p.op(f"load ptr, ptr {p.shift(items, LIST_ITEMS)}")
    if count < _MANY:
        found = [p.op(f"load ptr, ptr {p.shift(items, k * POINTER)}") for k in range(count)]
        if checked:
            _check(p, found)
        return [p.op(f"load ptr, ptr {p.shift(x, DATA)}") for x in found]
    table = p.cell(f"[{count} x ptr]")

    def one(k: str) -> None:
        place = p.op(f"getelementptr ptr, ptr {items}, i64 {k}")
        x = p.op(f"load ptr, ptr {place}")
        if checked:
            _check(p, [x])
        data = p.op(f"load ptr, ptr {p.shift(x, DATA)}")
        p.do(f"store ptr {data}, ptr {p.op(f'getelementptr ptr, ptr {table}, i64 {k}')}")

    p.counted(0, count, one)
    return [p.op(f"load ptr, ptr {p.shift(table, k * POINTER)}") for k in range(count)]


def _check(p: Any, found: list[str]) -> None:
    """Write a jump to ``copy`` where one of the objects is not a plain contiguous ndarray."""
    sound = None
    for x in found:
        kind = p.op(f"load ptr, ptr {p.shift(x, TYPE)}")
        plain = p.op(f"icmp eq ptr {kind}, @funtorch_ndarray")
        sound = plain if sound is None else p.op(f"and i1 {sound}, {plain}")
    read, packed = p.label("arrays"), p.label("packed")
    p.do(f"br i1 {sound}, label %{read}, label %copy")
    p.start(read)
    flags = None
    for x in found:
        these = p.op(f"load i32, ptr {p.shift(x, FLAGS)}")
        flags = these if flags is None else p.op(f"and i32 {flags}, {these}")
    one = p.op(f"and i32 {flags}, {CONTIGUOUS}")
    p.do(f"br i1 {p.op(f'icmp ne i32 {one}, 0')}, label %{packed}, label %copy")
    p.start(packed)
