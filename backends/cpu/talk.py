"""Write collectives between processes as calls of MPI's functions in C, and find these.

Names tell what they stand for, so that code is the same in all processes and can be kept on disk:
functions of MPI, and cells of eight bytes with what MPI calls a communicator, a type or an
operation (an address in Open MPI, an int in MPICH: both fit, and take the same registers).

References:
    MPI: A Message-Passing Interface Standard, version 4.1, chapters 3 and 6,
    https://www.mpi-forum.org/docs/
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import re
from typing import Any

from funtorch import sums
from funtorch.dims import larger
from funtorch.jaxpr import Eqn
from funtorch.processes import Ranks

from ..layout import nbytes

__all__ = ["TALK", "begun", "talk_address", "waited"]

TALK = "funtorch_mpi_"
"""What the names of all that belongs to MPI begin with."""

_TYPES = {
    "int8": "INT8_T",
    "int16": "INT16_T",
    "int32": "INT32_T",
    "int64": "INT64_T",
    "uint8": "UINT8_T",
    "uint16": "UINT16_T",
    "uint32": "UINT32_T",
    "uint64": "UINT64_T",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "complex64": "C_FLOAT_COMPLEX",
    "complex128": "C_DOUBLE_COMPLEX",
    "bool": "C_BOOL",
}
_OPERATIONS = {"psum": "SUM", "psum_scatter": "SUM", "pmax": "MAX", "pmin": "MIN"}
_LOGICAL = {"MAX": "LOR", "MIN": "LAND"}
_SUMS = {"psum": "program", "psum_scatter": "scatter"}
_NUMBERS = {4: ("float", "fadd"), 8: ("double", "fadd")}

# By collective: MPI's function, and its arguments between the communicator and what is sent.
_FUNCTIONS = {
    "psum": "Allreduce",
    "pmax": "Allreduce",
    "pmin": "Allreduce",
    "psum_scatter": "Reduce_scatter_block",
    "all_gather": "Allgather",
    "all_to_all": "Alltoall",
}


def _handle(printer: Any, name: str) -> str:
    """Write the reading of a cell; return its value."""
    cell = printer.external(TALK + name, f"@{TALK}{name} = external global i64")
    return printer.op(f"load i64, ptr {cell}")


def _call(printer: Any, name: str, *args: str) -> str:
    """Write a call of one of MPI's functions; return its code."""
    kinds = ", ".join(a.split()[0] for a in args)
    symbol = f"{TALK}MPI_{name}"
    function = printer.external(symbol, f"declare i32 @{symbol}({kinds})")
    return printer.op(f"call i32 {function}({', '.join(args)})")


def _spelt(ranks: Ranks) -> str:
    return "_".join(".".join(map(str, group)) for group in ranks.groups)


def begun(printer: Any, eqn: Eqn, pointers: list[str], request: str | None) -> str | None:
    """Write a collective, or its beginning.

    Args:
        printer: what the program is written with.
        eqn: the equation.
        pointers: where its operand and its result are.
        request: where MPI's request goes; None: it is done when the call returns.

    Returns:
        the code that MPI gives, 0 for success; None where it is not asked.
    """
    name, ranks = eqn.prim.name, eqn.params["axis_name"]
    if name == "axis_index":
        number = _handle(printer, f"rank_{_spelt(ranks)}")
        narrow = printer.op(f"trunc i64 {number} to i32")
        printer.do(f"store i32 {narrow}, ptr {pointers[0]}, align 4")
        return None
    x, out = pointers
    comm = f"i64 {_handle(printer, f'comm_{_spelt(ranks)}')}"
    if name == "ppermute":
        return _permuted(printer, eqn, x, out, comm)
    if name in _OPERATIONS:
        size, what = nbytes(eqn.outvars[0]), _SUMS.get(name, "")
        way = sums.way(what, size, ranks.size, ranks.near) if what and request is None else ""
        if way == "memory":
            return _sum_in_memory(printer, eqn, x, out, comm)
        if way == "exchange":
            return (_sum_in_parts if what == "program" else _sum_of_part)(
                printer, eqn, x, out, comm
            )
        if _FUNCTIONS[name] == "Allreduce":
            printer.copy(out, x, size)
            x = _in_place(printer)
        args = [f"ptr {x}", f"ptr {out}", *_reduction(printer, eqn, eqn.outvars[0].aval.size), comm]
    else:
        size = nbytes(eqn.invars[0]) // (ranks.size if name == "all_to_all" else 1)
        kind = f"i64 {_handle(printer, 'type_BYTE')}"
        args = [f"ptr {x}", f"i32 {size}", kind, f"ptr {out}", f"i32 {size}", kind, comm]
    if request is None:
        return _call(printer, _FUNCTIONS[name], *args)
    return _call(printer, f"I{_FUNCTIONS[name].lower()}", *args, f"ptr {request}")


def _in_place(printer: Any) -> str:
    """Write the reading of what stands for "the result's memory" where MPI sends from."""
    return printer.op(f"inttoptr i64 {_handle(printer, 'place')} to ptr")


def _kind(printer: Any, eqn: Eqn) -> str:
    return f"i64 {_handle(printer, f'type_{_TYPES[eqn.invars[0].aval.dtype.name]}')}"


def _reduction(printer: Any, eqn: Eqn, count: int) -> list[str]:
    """Write what is summed or compared: how many of which numbers, and how."""
    operation = _OPERATIONS[eqn.prim.name]
    if eqn.invars[0].aval.dtype.kind == "b":
        operation = _LOGICAL[operation]
    return [f"i32 {count}", _kind(printer, eqn), f"i64 {_handle(printer, f'op_{operation}')}"]


# ------------------------------------------------------------------------ sums in shared memory
def _sum_in_memory(printer: Any, eqn: Eqn, x: str, out: str, comm: str) -> str:
    """Write a sum in memory that the processes share, a `funtorch.sums.Room`.

    Where there is none, the sum is MPI's.
    """
    ranks, dtype, size = ranks_of(eqn), eqn.invars[0].aval.dtype, nbytes(eqn.outvars[0])
    room = _handle(printer, f"room_{_spelt(ranks)}")
    found = printer.cell("i32", 4)

    def shared() -> None:
        symbol = printer.named(_memory_text(printer, dtype, ranks.size))
        where = printer.op(f"inttoptr i64 {room} to ptr")
        args = f"ptr {x}, ptr {out}, i64 {size}, ptr {where}, {comm}"
        printer.do(f"store i32 {printer.op(f'call i32 @{symbol}({args})')}, ptr {found}")

    def apart() -> None:
        printer.copy(out, x, size)
        args = f"ptr {_in_place(printer)}", f"ptr {out}"
        reduction = _reduction(printer, eqn, eqn.outvars[0].aval.size)
        printer.do(f"store i32 {_call(printer, 'Allreduce', *args, *reduction, comm)}, ptr {found}")

    printer.either(printer.op(f"icmp ne i64 {room}, 0"), shared, apart)
    return printer.op(f"load i32, ptr {found}")


def _memory_text(printer: Any, dtype: Any, count: int) -> str:
    """Return the function that sums in shared memory; ``room`` is the table of a `sums.Room`."""
    kind, add, size = _arithmetic(dtype)
    barrier, width = f"{TALK}MPI_Barrier", _LINE // size
    printer.external(barrier, f"declare i32 @{barrier}(i64)")
    printer.declared["nontemporal"] = f"{_PAST} = !{{i32 1}}"
    given = []
    for k in range(count):
        given += [
            f"%q{k} = getelementptr i64, ptr %room, i64 {2 + k}",
            f"%s{k} = load ptr, ptr %q{k}",
            f"%h{k} = getelementptr i8, ptr %s{k}, i64 %here",
            f"%m{k} = icmp eq i64 %rank, {k}",
            f"%a{k} = select i1 %m{k}, ptr %source, ptr %h{k}",
        ]

    def added(kind: str, i: str) -> str:
        lines = []
        for k in range(count):
            lines += [
                f"%{i}e{k} = getelementptr inbounds i8, ptr %a{k}, i64 %{i}",
                f"%{i}x{k} = load {kind}, ptr %{i}e{k}, align {size}",
            ]
            if k:
                before = f"%{i}t{k - 1}" if k > 1 else f"%{i}x0"
                lines.append(f"%{i}t{k} = {add} {kind} {before}, %{i}x{k}")
        lines += [
            f"%{i}o = getelementptr inbounds i8, ptr %result, i64 %{i}",
            f"store {kind} %{i}t{count - 1}, ptr %{i}o, align {size}",
        ]
        return "\n  ".join(lines)

    return _MEMORY.format(
        given="\n  ".join(given), lines=added(f"<{width} x {kind}>", "i"), rest=added(kind, "j"),
        size=size, slot=sums.SLOT, barrier=barrier, line=_LINE, past=_PAST,
    )  # fmt: skip


_LINE, _PAST = 64, "!1000000"  # bytes of a cache's line; what marks stores past the caches
_MEMORY = """define internal void @?_put(ptr %to, ptr %from, i64 %bytes) noinline nounwind #0 {{
entry:
  %whole = and i64 %bytes, -{line}
  %some = icmp ne i64 %whole, 0
  br i1 %some, label %line, label %rest
line:
  %i = phi i64 [ 0, %entry ], [ %i1, %line ]
  %f = getelementptr inbounds i8, ptr %from, i64 %i
  %t = getelementptr inbounds i8, ptr %to, i64 %i
  %x = load <{line} x i8>, ptr %f, align 1
  store <{line} x i8> %x, ptr %t, align {line}, !nontemporal {past}
  %i1 = add nuw nsw i64 %i, {line}
  %again = icmp ult i64 %i1, %whole
  br i1 %again, label %line, label %rest
rest:
  %left = sub i64 %bytes, %whole
  %f1 = getelementptr inbounds i8, ptr %from, i64 %whole
  %t1 = getelementptr inbounds i8, ptr %to, i64 %whole
  call void @llvm.memcpy.p0.p0.i64(ptr %t1, ptr %f1, i64 %left, i1 false)
  ret void
}}

define internal i32 @?(ptr %x, ptr %out, i64 %bytes, ptr %room, i64 %comm) noinline nounwind #0 {{
entry:
  %numbered = getelementptr i64, ptr %room, i64 1
  %rank = load i64, ptr %numbered
  %before = getelementptr i64, ptr %numbered, i64 1
  %mine = getelementptr i64, ptr %before, i64 %rank
  %own = load ptr, ptr %mine
  %first = load i64, ptr %room
  %lack = icmp ult i64 %bytes, {slot}
  %begin = select i1 %lack, i64 %bytes, i64 {slot}
  %odd = and i64 %first, 1
  %place = mul i64 %odd, {slot}
  %target = getelementptr i8, ptr %own, i64 %place
  call void @?_put(ptr %target, ptr %x, i64 %begin)
  br label %slot
slot:
  %at = phi i64 [ 0, %entry ], [ %next, %added ]
  %turn = phi i64 [ %first, %entry ], [ %following, %added ]
  %side = and i64 %turn, 1
  %here = mul i64 %side, {slot}
  %following = add i64 %turn, 1
  fence seq_cst
  %code = call i32 @{barrier}(i64 %comm)
  fence seq_cst
  %good = icmp eq i32 %code, 0
  br i1 %good, label %ahead, label %end
ahead:
  %next = add i64 %at, {slot}
  %left = sub i64 %bytes, %at
  %beyond = sub i64 %bytes, %next
  %more = icmp sgt i64 %beyond, 0
  br i1 %more, label %put, label %sum
put:
  %other = sub i64 {slot}, %here
  %free = getelementptr i8, ptr %own, i64 %other
  %coming = getelementptr i8, ptr %x, i64 %next
  %less = icmp ult i64 %beyond, {slot}
  %n = select i1 %less, i64 %beyond, i64 {slot}
  call void @?_put(ptr %free, ptr %coming, i64 %n)
  br label %sum
sum:
  %last = icmp ult i64 %left, {slot}
  %these = select i1 %last, i64 %left, i64 {slot}
  %whole = and i64 %these, -{line}
  %source = getelementptr i8, ptr %x, i64 %at
  %result = getelementptr i8, ptr %out, i64 %at
  {given}
  %some = icmp ne i64 %whole, 0
  br i1 %some, label %line, label %ends
line:
  %i = phi i64 [ 0, %sum ], [ %i1, %line ]
  {lines}
  %i1 = add nuw nsw i64 %i, {line}
  %again = icmp ult i64 %i1, %whole
  br i1 %again, label %line, label %ends
ends:
  %few = icmp ult i64 %whole, %these
  br i1 %few, label %number, label %added
number:
  %j = phi i64 [ %whole, %ends ], [ %j1, %number ]
  {rest}
  %j1 = add nuw nsw i64 %j, {size}
  %others = icmp ult i64 %j1, %these
  br i1 %others, label %number, label %added
added:
  br i1 %more, label %slot, label %end
end:
  store i64 %following, ptr %room
  ret i32 %code
}}"""


# ------------------------------------------------------------------------- sums by own messages
def _sum_in_parts(printer: Any, eqn: Eqn, x: str, out: str, comm: str) -> str | None:
    """Write a sum of which each process makes a part, as `funtorch.sums.summed`."""
    aval, count = eqn.invars[0].aval, ranks_of(eqn).size
    part, rest = divmod(aval.size, count)
    size = part * aval.dtype.itemsize
    own = printer.op(f"mul i64 {_handle(printer, f'rank_{_spelt(ranks_of(eqn))}')}, {size}")
    printer.checked(_sum_of_part(printer, eqn, x, printer.shift(out, own), comm, part))
    kind, place = _kind(printer, eqn), _in_place(printer)
    sent = [f"ptr {place}", f"i32 {part}", kind, f"ptr {out}", f"i32 {part}", kind, comm]
    code = _call(printer, "Allgather", *sent)
    if not rest:
        return code
    printer.checked(code)
    target = printer.shift(out, count * size)
    printer.copy(target, printer.shift(x, count * size), rest * aval.dtype.itemsize)
    return _call(
        printer, "Allreduce", f"ptr {place}", f"ptr {target}", *_reduction(printer, eqn, rest), comm
    )


def _sum_of_part(
    printer: Any, eqn: Eqn, x: str, out: str, comm: str, part: int | None = None
) -> str | None:
    """Write the sum of this process's part, by messages, as `funtorch.sums.scattered`.

    Args:
        x: where all parts are.
        out: where the sum goes.
        part: how many numbers a part has; None: what the result has.
    """
    dtype, ranks = eqn.invars[0].aval.dtype, ranks_of(eqn)
    part = eqn.outvars[0].aval.size if part is None else part
    rank, size = _handle(printer, f"rank_{_spelt(ranks)}"), part * dtype.itemsize
    step = sums.PIECE // dtype.itemsize
    whole, rest = divmod(part, step)
    printer.scratch = larger(printer.scratch, sums.PIECE)
    mine = printer.shift(x, printer.op(f"mul i64 {rank}, {size}"))
    kind = _kind(printer, eqn)

    def exchange(k: int | str, before: str) -> None:
        ahead = printer.op(f"add i64 {rank}, {k}")
        behind = printer.op(f"sub i64 {printer.op(f'add i64 {rank}, {ranks.size}')}, {k}")
        to, source = (printer.op(f"urem i64 {n}, {ranks.size}") for n in (ahead, behind))
        peers = [printer.op(f"trunc i64 {n} to i32") for n in (to, source)]
        parts = printer.shift(x, printer.op(f"mul i64 {to}, {size}"))

        def piece(at: int | str, count: int) -> None:
            sent, added, total = (printer.shift(p, at) for p in (parts, before, out))
            status = printer.cell("[64 x i8]", 16)
            code = _call(
                printer,
                "Sendrecv",
                *(f"ptr {sent}", f"i32 {count}", kind, f"i32 {peers[0]}", "i32 0"),
                *("ptr %scratch", f"i32 {count}", kind, f"i32 {peers[1]}", "i32 0"),
                comm,
                f"ptr {status}",
            )
            printer.checked(code)
            _added(printer, dtype, added, "%scratch", total, count)

        if whole:
            printer.counted(
                0, whole, lambda i: piece(printer.op(f"mul i64 {i}, {sums.PIECE}"), step)
            )
        if rest:
            piece(whole * sums.PIECE, rest)

    exchange(1, mine)
    if ranks.size > 2:
        printer.counted(2, ranks.size, lambda k: exchange(k, out))
    return None


def _added(printer: Any, dtype: Any, x: str, y: str, out: str, count: int) -> None:
    """Write ``out = x + y`` for arrays in memory; a complex number is two numbers."""
    kind, add, size = _arithmetic(dtype)
    count *= dtype.itemsize // size

    def one(i: str) -> None:
        at = [printer.op(f"getelementptr inbounds {kind}, ptr {p}, i64 {i}") for p in (x, y, out)]
        a, b = (printer.op(f"load {kind}, ptr {p}, align {size}") for p in at[:2])
        total = printer.op(f"{add} {kind} {a}, {b}")
        printer.do(f"store {kind} {total}, ptr {at[2]}, align {size}")

    printer.counted(0, count, one)


def _arithmetic(dtype: Any) -> tuple[str, str, int]:
    """Return what numbers are in LLVM, how they are added, and their bytes: twice if complex."""
    size = dtype.itemsize // (2 if dtype.kind == "c" else 1)
    if dtype.kind in "fc":
        return *_NUMBERS[size], size
    return f"i{8 * size}", "add", size


def _permuted(printer: Any, eqn: Eqn, x: str, out: str, comm: str) -> str:
    """Write an exchange of messages; what none comes to is 0."""
    size = nbytes(eqn.invars[0])
    printer.declared["memset"] = "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1 immarg)"
    printer.do(f"call void @llvm.memset.p0.i64(ptr {out}, i8 0, i64 {size}, i1 false)")
    pairs = "_".join(f"{s}.{d}" for s, d in eqn.params["perm"])
    peers = [
        printer.op(
            f"trunc i64 {_handle(printer, f'{end}_{pairs}__{_spelt(ranks_of(eqn))}')} to i32"
        )
        for end in ("target", "source")
    ]
    kind, status = f"i64 {_handle(printer, 'type_BYTE')}", printer.cell("[64 x i8]", 16)
    return _call(
        printer,
        "Sendrecv",
        *(f"ptr {x}", f"i32 {size}", kind, f"i32 {peers[0]}", "i32 0"),
        *(f"ptr {out}", f"i32 {size}", kind, f"i32 {peers[1]}", "i32 0"),
        comm,
        f"ptr {status}",
    )


def ranks_of(eqn: Eqn) -> Ranks:
    """Return which processes a collective is between."""
    return eqn.params["axis_name"]


def waited(printer: Any, request: str, only_look: bool) -> str:
    """Write the end of a collective that has begun, or a look at how it goes."""
    status = printer.cell("[64 x i8]", 16)
    if only_look:
        flag = printer.cell("i32", 4)
        return _call(printer, "Test", f"ptr {request}", f"ptr {flag}", f"ptr {status}")
    return _call(printer, "Wait", f"ptr {request}", f"ptr {status}")


# ------------------------------------------------------------------------------------- addresses
@functools.cache
def _library() -> tuple[Any, ctypes.CDLL]:
    """Return mpi4py's module, and what finds the functions that it is linked with."""
    mpi = importlib.import_module("mpi4py.MPI")
    return mpi, ctypes.CDLL(mpi.__file__)


_cells: dict[str, ctypes.c_int64] = {}


def talk_address(name: str) -> int:
    """Return the address of a function of MPI, or of a cell."""
    name = name.removeprefix(TALK)
    if name.startswith("MPI_"):
        function = getattr(_library()[1], name)
        address = ctypes.cast(function, ctypes.c_void_p).value
        assert address is not None
        return address
    if name not in _cells:
        _cells[name] = ctypes.c_int64(_value(name))
    return ctypes.addressof(_cells[name])


def _value(name: str) -> int:
    mpi = _library()[0]
    what, _, rest = name.partition("_")
    if what == "place":
        return int(mpi.IN_PLACE)
    if what in ("type", "op"):
        return mpi._handleof(getattr(mpi, rest))
    if what in ("comm", "rank", "room"):
        ranks = _ranks(rest).communicator()
        if what == "room":
            return 0 if ranks.room is None else ranks.room.table.ctypes.data
        return ranks.rank if what == "rank" else mpi._handleof(ranks.comm)
    pairs, _, groups = rest.partition("__")
    own = _ranks(groups).communicator().rank
    found = [tuple(map(int, pair.split("."))) for pair in pairs.split("_") if pair]
    ends = [d if what == "target" else s for s, d in found if own == (s if what == "target" else d)]
    return ends[0] if ends else mpi.PROC_NULL


def _ranks(text: str) -> Ranks:
    return Ranks(tuple(tuple(map(int, re.findall(r"\d+", group))) for group in text.split("_")))
