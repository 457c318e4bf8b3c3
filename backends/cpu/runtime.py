"""From a printed program to a callable: text -> object code -> address -> Python function.

Each arrow is a function of its own (`object_code` in codegen.py, then `load` and `bind`), so object
code may come from disk, with the `Entry` that says how it is called. Text names what lies outside
of it by symbols, never by addresses.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import json
import os
import platform
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from funtorch.config import config
from funtorch.jaxpr import Eqn, Jaxpr, Lit, Var

from ..buffers import ALIGN, LARGE, pool
from ..layout import nbytes
from ..memory import Memory, memory_of
from .along import ALONG_SYMBOL, along_text
from .blas import blas_address
from .codegen import files, kept_module, link
from .entry import CONTIGUOUS, DATA, FLAGS, LIST_ITEMS, TYPE
from .fourier import TABLE, table_address
from .gemm import gemm_text
from .image import Image, Unsupported, can_link
from .program import COPY, FAILED, RAISED, Program
from .talk import TALK, talk_address
from .threads import POOL_SYMBOLS, pool_text, thread_count

__all__ = ["PRODUCTS", "Entry", "bind", "entry_of", "load"]
__all__ += ["pool_code", "products_code", "resolve"]

PRODUCTS = "funtorch_gemm_", ALONG_SYMBOL
"""What the names of the functions of matrix products begin with."""

_numbers = itertools.count()


# ---------------------------------------------------------------------- object code -> address
def load(code: bytes, symbols: Sequence[str], externals: Sequence[str]) -> tuple[list[int], Any]:
    """Put object code into memory.

    Args:
        code: what `object_code` gave.
        symbols: the functions wanted.
        externals: names of the outside functions and data that the code uses.

    Returns:
        the functions' addresses, and the object that keeps them in memory.
    """
    _check_objects()
    addresses = resolve(externals)
    library: Any = None
    if can_link():
        try:
            library = Image(files(code), addresses)
        except (Unsupported, OSError) as error:
            if config.debug >= 1:
                print(f"linked by LLVM: {error}", file=sys.stderr)
    if library is None:
        library = link(code, symbols, addresses, f"funtorch{next(_numbers)}")
    return [library[symbol] for symbol in symbols], library


def resolve(externals: Sequence[str]) -> dict[str, int]:
    """Return the addresses of outside functions and data, loading the libraries that have them."""
    return {name: _address(name) for name in externals}


def pool_code() -> bytes:
    """Return the object code of the thread pool."""
    name = platform.machine()
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(name, name)
    return kept_module("threads", lambda: pool_text(machine))


@functools.cache
def _pool() -> dict[str, int]:
    """Return the addresses of the thread pool's functions."""
    addresses, library = load(pool_code(), POOL_SYMBOLS, ())
    _keep.append(library)
    found = dict(zip(POOL_SYMBOLS, addresses, strict=True))
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=ctypes.CFUNCTYPE(None)(found["funtorch_forked"]))
    return found


def _address(name: str) -> int:
    """Return the address that an external name stands for."""
    if name == "funtorch_ndarray":
        return id(np.ndarray)
    if name == "funtorch_call" or name.startswith("Py"):
        function = _callback if name == "funtorch_call" else getattr(ctypes.pythonapi, name)
        address = ctypes.cast(function, ctypes.c_void_p).value
        assert address is not None
        return address
    if name.startswith(PRODUCTS):
        return _gemm(name.removesuffix("_end"))[name]
    if name.startswith(TABLE):
        return table_address(name)
    if name.startswith(TALK):
        return talk_address(name)
    return _pool()[name] if name in POOL_SYMBOLS else blas_address(name)


def products_code(symbol: str) -> bytes:
    """Return the object code of the module of matrix products that has a symbol."""
    what, rows = symbol.rsplit("_", 2)[1:]
    text = along_text if symbol.startswith(ALONG_SYMBOL) else gemm_text
    return kept_module(symbol, lambda: text(what, int(rows)))


@functools.cache
def _gemm(symbol: str) -> dict[str, int]:
    """Return the addresses of the functions of a module of matrix products."""
    symbols = [symbol] if symbol.startswith(ALONG_SYMBOL) else [symbol, f"{symbol}_end"]
    addresses, library = load(products_code(symbol), symbols, ())
    _keep.append(library)
    return dict(zip(symbols, addresses, strict=True))


_keep: list[Any] = []


@functools.cache
def _check_objects() -> None:
    """Check that lists and ndarrays keep their fields where native code looks for them.

    Raises:
        RuntimeError: if this Python or NumPy lays its objects out in another way.
    """
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    read = ctypes.c_size_t.from_address
    arrays = [x, x.T]
    items = read(id(arrays) + LIST_ITEMS).value
    flags = [ctypes.c_int32.from_address(id(a) + FLAGS).value & CONTIGUOUS for a in arrays]
    if (
        read(items + ctypes.sizeof(ctypes.c_size_t)).value != id(arrays[1])
        or read(id(x) + TYPE).value != id(np.ndarray)
        or read(id(x) + DATA).value != x.ctypes.data
        or flags != [1, 0]
    ):
        raise RuntimeError(
            f"compiled code cannot read the arrays of NumPy {np.__version__} on this Python "
            f"({sys.version.split()[0]}): run with jit off, funtorch.config.update('disable_jit', "
            "True), and report it"
        )


# ---------------------------------------------------------------------- calls from native code
class _Call:
    """An equation's eager rule on memory that native code points to."""

    def __init__(self, eqn: Eqn) -> None:
        self.eqn = eqn
        self.ins = [v.val._data if isinstance(v, Lit) else _Window(v) for v in eqn.invars]
        self.outs = [_Window(v) for v in eqn.outvars]
        self.table = ctypes.c_size_t * (
            sum(isinstance(w, _Window) for w in self.ins) + len(self.outs)
        )

    def __call__(self, table: int) -> None:
        at = iter(self.table.from_address(table))
        args = [w.view(next(at)) if type(w) is _Window else w for w in self.ins]
        prim = self.eqn.prim
        with np.errstate(all="ignore"):
            results = prim.eager(np, *args, **self.eqn.params)
        for w, result in zip(
            self.outs, results if prim.multiple_results else (results,), strict=True
        ):
            result = np.asarray(result)
            if result.shape != w.shape or result.dtype != w.dtype:
                raise TypeError(
                    f"the eager rule of {prim.name} gave {result.dtype}{list(result.shape)} where "
                    f"its type rule says {w.dtype}{list(w.shape)}"
                )
            np.copyto(w.view(next(at)), result)


class _Window:
    """Makes ndarrays over the memory of one variable."""

    def __init__(self, v: Var) -> None:
        self.shape, self.dtype = v.aval.shape, np.dtype(v.aval.dtype)
        self.raw = ctypes.c_char * max(nbytes(v), 1)

    def view(self, address: int) -> np.ndarray:
        return np.ndarray(self.shape, self.dtype, memoryview(self.raw.from_address(address)))


class _Run:
    """One run of a program that calls Python: what to call, and what a call raised."""

    __slots__ = ("calls", "error")

    def __init__(self, calls: Sequence[_Call]) -> None:
        self.calls = calls
        self.error: BaseException | None = None


@ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.py_object, ctypes.c_int64, ctypes.c_void_p)
def _callback(run: _Run, number: int, table: int) -> int:
    try:
        run.calls[number](table)
    except BaseException as error:  # it is raised again where the program was called
        run.error = error
        return 1
    return 0


# ---------------------------------------------------------------------- address -> function
_METHOD = struct.Struct("PPiP")  # CPython's PyMethodDef: name, function, flags, documentation
_FASTCALL = 0x80  # METH_FASTCALL: function(self, array of arguments, their number)
_BYTES = bytes.__basicsize__ - 1  # where the content of a bytes object lies
_NAME = ctypes.create_string_buffer(b"program")


def _builtin(address: int) -> Callable[..., int]:
    """Return a native function as a built-in one.

    What it is made of lives in the bytes object that is its ``self``: the function reads it up to
    its last moment, so nothing may free it before, and the garbage collector, which clears the
    objects of a cycle in any order, knows nothing of bytes.
    """
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype = ctypes.py_object
    new.argtypes = (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    method = _METHOD.pack(ctypes.addressof(_NAME), address, _FASTCALL, 0)
    return new(id(method) + _BYTES, method, None)


@dataclass(frozen=True)
class Entry:
    """How native code is called, but for the program itself: what is kept on disk beside the code.

    Attributes:
        symbol: the entry's name.
        externals: names of the outside functions and data that it uses.
        arena: bytes of the ndarray that a run needs besides inputs and outputs; 0: none.
        parallel: whether a step may run on several threads.
        pairs: (input, output) positions that share memory.
        memory: what a run needs.
    """

    symbol: str
    externals: tuple[str, ...]
    arena: int
    parallel: bool
    pairs: tuple[tuple[int, int], ...]
    memory: Memory

    def packed(self, code: bytes) -> bytes:
        """Return this and object code as bytes."""
        head = json.dumps(asdict(self)).encode()
        return len(head).to_bytes(8, "little") + head + code

    @staticmethod
    def unpacked(data: bytes) -> tuple[Entry, bytes] | None:
        """Return what `packed` was given; None for bytes that are something else."""
        end = 8 + int.from_bytes(data[:8], "little")
        try:
            fields = json.loads(data[8:end])
            largest = tuple(map(tuple, fields["memory"].pop("largest")))
            memory = Memory(**fields.pop("memory"), largest=largest)
            externals, pairs = fields.pop("externals"), tuple(map(tuple, fields.pop("pairs")))
            entry = Entry(**fields, externals=tuple(externals), pairs=pairs, memory=memory)
        except (ValueError, TypeError, KeyError):
            return None
        return entry, data[end:]


def entry_of(program: Program, number: Callable[[Any], int] = int) -> Entry:
    """Return how a printed program is called.

    Args:
        program: the program.
        number: gives the values of sizes that are known later.
    """
    return Entry(
        program.symbol,
        tuple(program.externals),
        program.arena,
        program.parallel,
        tuple(sorted(program.layout.pairs)),
        memory_of(program.layout, program.arena, number),
    )


def _plain(x: Any) -> np.ndarray:
    """Return an input as native code takes it."""
    if type(x) is np.ndarray and x.flags.c_contiguous:
        return x
    return np.array(x, order="C", subok=False)


def _small_arena(spare: list[np.ndarray], size: int) -> np.ndarray:
    try:
        return spare.pop()
    except IndexError:  # none yet, or other threads have them all
        return np.empty(size, np.uint8)


_GIVEN = 5  # references to a donated buffer in a run: its Array's, of two lists, two of the asking
_OWNED = 4  # references to what owns its memory: the buffer's, the pool's, two of the asking


def _exclusive(buffers: list[np.ndarray], k: int) -> np.ndarray:
    """Return a donated buffer if nobody else can see its memory, else a copy."""
    x = buffers[k]
    alone = sys.getrefcount(x) <= _GIVEN
    owner = x if x.base is None else x.base
    if (
        alone
        and type(owner) is np.ndarray
        and owner.flags.owndata
        and x.flags.writeable
        and owner.nbytes - x.nbytes <= ALIGN
        and (owner is x or sys.getrefcount(owner) <= _OWNED)
    ):
        return x
    return x.copy()


def bind(
    entry: Entry, jaxpr: Jaxpr, eqns: Sequence[Eqn], address: int, library: Any
) -> Callable[[Sequence[Any]], list[Any]]:
    """Return the function from input buffers to output buffers, with ``memory`` on it.

    Args:
        entry: how the native function is called.
        jaxpr: the program.
        eqns: the equations that run by their eager rules, by number.
        address: of the native function.
        library: what keeps that in memory.
    """
    native = _builtin(address), library  # a run in progress keeps both
    memory = entry.memory
    consts = [np.ascontiguousarray(c._data) for c in jaxpr.consts]
    count, size, parallel = len(consts) + len(jaxpr.invars), entry.arena, entry.parallel
    fresh = [(v.aval.shape, np.dtype(v.aval.dtype)) for v in jaxpr.outvars]
    bytes_of = [nbytes(v) for v in jaxpr.outvars]
    large = any(n >= LARGE for n in bytes_of)
    given = [(j, i) for i, j in sorted(entry.pairs)]
    calls = [_Call(eqn) for eqn in eqns]
    empty = np.empty
    spare: list[np.ndarray] = []  # small arenas at rest; one run at a time uses each

    def prepare(buffers: list[Any]) -> list[Any]:
        """Return the output arrays, made anew or of donated memory."""
        outs = [pool.empty(s, d, n) for (s, d), n in zip(fresh, bytes_of, strict=True)]
        for j, i in given:
            x = buffers[i] = _exclusive(buffers, i)
            same = (x.shape, x.dtype) == fresh[j]
            outs[j] = x if same else x.view(fresh[j][1]).reshape(fresh[j][0])
        return outs

    def failed(code: int, state: Any, buffers: list[Any]) -> list[Any]:
        if code == RAISED:
            raise state.error
        if code == FAILED:
            raise RuntimeError(
                "MPI has failed in a collective of a compiled program: another rank has ended, or "
                "it runs another program, or the same on arrays of other sizes"
            )
        assert code == COPY
        return run([_plain(x) for x in buffers[len(consts) :]])

    def run(args: Sequence[Any]) -> list[Any]:
        buffers = [*consts, *args] if consts or given or type(args) is not list else args
        if len(buffers) != count:
            raise TypeError(f"the program takes {count - len(consts)} arrays, got {len(args)}")
        state = _Run(calls) if calls else None
        try:
            outs = prepare(buffers) if large or given else [empty(s, d) for s, d in fresh]
            if not size:
                arena = None
            elif size >= LARGE:
                arena = pool.block(size)
            else:
                arena = _small_arena(spare, size)
        except MemoryError as error:
            raise MemoryError(f"{error}; the program needs {memory}") from None
        code = native[0](buffers, outs, arena, state, thread_count() if parallel else 1)
        if arena is not None and size < LARGE:
            spare.append(arena)
        return failed(code, state, buffers) if code else outs

    run.memory = memory  # type: ignore[attr-defined]
    return run
