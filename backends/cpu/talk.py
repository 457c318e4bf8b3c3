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
    aval = eqn.invars[0].aval
    comm = f"i64 {_handle(printer, f'comm_{_spelt(ranks)}')}"
    if name == "ppermute":
        return _permuted(printer, eqn, x, out, comm)
    if name in _OPERATIONS:
        operation = _OPERATIONS[name]
        if aval.dtype.kind == "b":
            operation = _LOGICAL[operation]
        count = eqn.outvars[0].aval.size
        kind = f"i64 {_handle(printer, f'type_{_TYPES[aval.dtype.name]}')}"
        op = f"i64 {_handle(printer, f'op_{operation}')}"
        args = [f"ptr {x}", f"ptr {out}", f"i32 {count}", kind, op, comm]
    else:
        size = nbytes(eqn.invars[0]) // (ranks.size if name == "all_to_all" else 1)
        kind = f"i64 {_handle(printer, 'type_BYTE')}"
        args = [f"ptr {x}", f"i32 {size}", kind, f"ptr {out}", f"i32 {size}", kind, comm]
    if request is None:
        return _call(printer, _FUNCTIONS[name], *args)
    return _call(printer, f"I{_FUNCTIONS[name].lower()}", *args, f"ptr {request}")


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
    if what in ("type", "op"):
        return mpi._handleof(getattr(mpi, rest))
    if what in ("comm", "rank"):
        ranks = _ranks(rest).communicator()
        return ranks.rank if what == "rank" else mpi._handleof(ranks.comm)
    pairs, _, groups = rest.partition("__")
    own = _ranks(groups).communicator().rank
    found = [tuple(map(int, pair.split("."))) for pair in pairs.split("_") if pair]
    ends = [d if what == "target" else s for s, d in found if own == (s if what == "target" else d)]
    return ends[0] if ends else mpi.PROC_NULL


def _ranks(text: str) -> Ranks:
    return Ranks(tuple(tuple(map(int, re.findall(r"\d+", group))) for group in text.split("_")))
