"""A program as a shared library with a C header, which needs the C library and nothing else.

The program's object code is linked, by the C compiler of the machine, with the library of matrix
products and the thread pool, its constants, and a few lines of C that the header declares.
Programs of linear algebra call LAPACK, which is a library of its own, put beside.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from funtorch.core import ShapedArray
from funtorch.jaxpr import Jaxpr
from funtorch.openblas import library_file

from .cpu.codegen import files, object_code
from .cpu.fourier import TABLE, table
from .cpu.program import Program, print_program
from .cpu.runtime import PRODUCTS, pool_code, products_code
from .cpu.threads import POOL_SYMBOLS
from .fuse import fuse
from .layout import lay_out

__all__ = ["write_shared"]

_C_TYPES = {
    "bool": "uint8_t", "uint8": "uint8_t", "uint16": "uint16_t", "uint32": "uint32_t",
    "uint64": "uint64_t", "int8": "int8_t", "int16": "int16_t", "int32": "int32_t",
    "int64": "int64_t", "float32": "float", "float64": "double",
    "float16": "uint16_t", "bfloat16": "uint16_t",
    "complex64": "float", "complex128": "double",
}  # fmt: skip
_NOTES = {
    "bool": "0 or 1", "float16": "the bits of a float16", "bfloat16": "the bits of a bfloat16",
    "complex64": "real, imaginary, real ...", "complex128": "real, imaginary, real ...",
}  # fmt: skip


@dataclass(frozen=True)
class _Parameter:
    """An array that the C function takes."""

    name: str
    aval: ShapedArray
    result: bool

    @property
    def declaration(self) -> str:
        kind = _C_TYPES[self.aval.dtype.name]
        return f"{kind} *{self.name}" if self.result else f"const {kind} *{self.name}"

    @property
    def comment(self) -> str:
        dtype = self.aval.dtype.name
        shape = "x".join(map(str, self.aval.shape)) or "1"
        note = f" ({_NOTES[dtype]})" if dtype in _NOTES else ""
        return f" *   {self.name}: {'out, ' if self.result else ''}{dtype} {shape}{note}"


_HEADER = """/* {title}, as a function of C: written by FunTorch. */
#ifndef {guard}
#define {guard}
#include <stdint.h>
#ifdef __cplusplus
extern "C" {{
#endif

/* Arrays are contiguous, the last axis first; results must not overlap anything:
{comments}
 * Returns 0, or 1 where there is no memory for {temporaries} bytes of temporaries. */
int {name}({declarations});

/* How many threads long steps may run on: 1 unless set. */
void {name}_threads(int count);

#ifdef __cplusplus
}}
#endif
#endif
"""

_BODY = """#define _GNU_SOURCE
#include <sys/mman.h>
#include "{header}"
extern int run(void **, void **, void *, void *, int) __attribute__((visibility("hidden")));
{data}
static int threads = 1;
{memory}

void {name}_threads(int count) {{ threads = count > 0 ? count : 1; }}

int {name}({declarations}) {{
  void *inputs[] = {{{inputs}}};
  void *outputs[] = {{{outputs}}};
  void *memory = take();
  if (!memory) return 1;
  run(inputs, outputs, memory, 0, threads);
  give(memory);
  return 0;
}}
"""

# The last call's memory is kept for the next: new pages cost more than a small network. Calls at
# the same time have memory of their own.
_MEMORY = """
static void *kept;

static void *take(void) {{
  void *memory = __atomic_exchange_n(&kept, (void *)0, __ATOMIC_ACQUIRE);
  if (memory) return memory;
  memory = mmap(0, {size}, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  return memory == MAP_FAILED ? (void *)0 : memory;
}}

static void give(void *memory) {{
  memory = __atomic_exchange_n(&kept, memory, __ATOMIC_ACQ_REL);
  if (memory) munmap(memory, {size});
}}

__attribute__((destructor)) static void forget(void) {{ give((void *)0); }}
"""

_NO_MEMORY = """
static void *take(void) {{ return &threads; }}

static void give(void *memory) {{ (void)memory; }}
"""

# The steps of a program share out the work; the library computes on its caller's thread.
_ONE_THREAD = """
extern void scipy_openblas_set_num_threads(int);

__attribute__((constructor)) static void one_thread(void) { scipy_openblas_set_num_threads(1); }
"""

_LAPACK = "scipy_"
"""What the names in the library of LAPACK begin with."""

_DATA = """  .section .rodata
  .hidden {symbol}
  .globl {symbol}
  .balign 64
{symbol}: .incbin "{file}"
  .byte 0
"""


def write_shared(
    jaxpr: Jaxpr,
    names: Sequence[str],
    path: str | os.PathLike[str],
    name: str,
    bundle: bool = False,
) -> Path:
    """Write a program as a shared library, with a C header beside it.

    Args:
        jaxpr: the program, simplified.
        names: of its inputs and outputs, in order.
        path: of the library.
        name: of the C function.
        bundle: put the library of LAPACK beside, if the program calls it.

    Returns:
        the path of the header.

    Raises:
        NotImplementedError: the program has steps that run in Python, or in LAPACK without
            ``bundle``.
        RuntimeError: there is no C compiler, or this is not Linux.
    """
    import tempfile

    compiler = _compiler()
    plan = fuse(jaxpr)
    program = print_program(plan, lay_out(plan, frozenset()), python=False)
    lapack = [symbol for symbol in program.externals if symbol.startswith(_LAPACK)]
    if lapack and not bundle:
        raise NotImplementedError(
            f"{name} calls LAPACK's {lapack[0].removeprefix(_LAPACK)}, which a library that stands "
            "alone does not have; to_shared(..., link='bundle') puts the library of LAPACK beside"
        )
    objects = [*files(object_code(program.text)), *_outside(program, name)]
    parameters = _parameters(jaxpr, names)
    path = Path(path).absolute()
    header = path.with_suffix(".h")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        for k, code in enumerate(objects):
            (made / f"{k}.o").write_bytes(code)
        data = {f"constant{k}": np.asarray(c._data).tobytes() for k, c in enumerate(jaxpr.consts)}
        tables = [e for e in program.externals if e.startswith(TABLE)]
        data |= {symbol: table(symbol).tobytes() for symbol in tables}
        for symbol, content in data.items():
            (made / symbol).write_bytes(content)
        spelt = [_DATA.format(symbol=s, file=made / s) for s in data]
        (made / "data.S").write_text("\n".join([*spelt, _NO_STACK]), encoding="utf-8")
        text = _source(program, parameters, name, header.name) + (_ONE_THREAD if lapack else "")
        (made / "main.c").write_text(text, encoding="utf-8")
        (made / "symbols").write_text(f"{{ global: {name}; {name}_threads; local: *; }};")
        header.write_text(_header(program, parameters, name), encoding="utf-8")
        command = [
            compiler, "-shared", "-fPIC", "-O2", "-o", str(path), "main.c", "data.S",
            *(f"{k}.o" for k in range(len(objects))), "-I", str(path.parent),
            "-Wl,--version-script=symbols", "-lm", "-lpthread",
        ]  # fmt: skip
        if lapack:
            shutil.copy(library_file(), path.parent)
            command += [f"-L{path.parent}", f"-l:{library_file().name}", "-Wl,-rpath,$ORIGIN"]
        result = subprocess.run(command, cwd=made, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{compiler} does not link {path.name}: {result.stderr.strip()[:2000]}")
    return header


_NO_STACK = '  .section .note.GNU-stack,"",@progbits\n'


def _compiler() -> str:
    if sys.platform != "linux":
        raise RuntimeError("shared libraries are written on Linux only")
    wanted = os.environ.get("CC", "").split()[:1] or ["cc", "gcc", "clang"]
    found = next(filter(None, map(shutil.which, wanted)), None)
    if found is None:
        raise RuntimeError(
            f"a shared library needs a C compiler to link it; there is no {' or '.join(wanted)}. "
            "Install one (on Debian: apt install gcc), or name it in CC"
        )
    return found


def _outside(program: Program, name: str) -> list[bytes]:
    """Return the object files of what a program uses."""
    if program.calls:
        steps = ", ".join(sorted({e.prim.name for e in program.calls}))
        raise NotImplementedError(f"{name} has steps that run in Python: {steps}")
    found: dict[str, list[bytes]] = {}
    for symbol in program.externals:
        if symbol in POOL_SYMBOLS:
            found["pool"] = files(pool_code())
        elif symbol.startswith(PRODUCTS):
            module = symbol.removesuffix("_end")
            found[module] = files(products_code(module))
        elif not symbol.startswith((TABLE, _LAPACK)):
            raise NotImplementedError(f"{name} uses {symbol}, which is no part of a library")
    return [code for codes in found.values() for code in codes]


def _parameters(jaxpr: Jaxpr, names: Sequence[str]) -> list[_Parameter]:
    avals = [(v.aval, False) for v in jaxpr.invars] + [(v.aval, True) for v in jaxpr.outvars]
    taken: set[str] = set()
    found = []
    for given, (aval, result) in zip(names, avals, strict=True):
        clean = re.sub(r"\W+", "_", given).strip("_") or "x"
        clean = f"_{clean}" if clean[0].isdigit() or clean in _C_WORDS else clean
        while clean in taken:
            clean += "_"
        taken.add(clean)
        found.append(_Parameter(clean, aval, result))
    return found


_C_WORDS = frozenset(
    ("auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else")
    + ("enum", "extern", "float", "for", "goto", "if", "inline", "int", "long", "register")
    + ("restrict", "return", "short", "signed", "sizeof", "static", "struct", "switch", "typedef")
    + ("union", "unsigned", "void", "volatile", "while")
    + ("inputs", "outputs", "memory", "threads", "run")  # of _BODY
)


def _header(program: Program, parameters: Sequence[_Parameter], name: str) -> str:
    return _HEADER.format(
        title=name,
        guard=f"FUNTORCH_{name.upper()}_H",
        comments="\n".join(p.comment for p in parameters),
        temporaries=program.arena,
        name=name,
        declarations=", ".join(p.declaration for p in parameters),
    )


def _source(program: Program, parameters: Sequence[_Parameter], name: str, header: str) -> str:
    count = len(program.layout.plan.jaxpr.constvars)
    constants = [f"constant{k}" for k in range(count)]
    given = [*constants, *(p.name for p in parameters if not p.result)]
    made = [p.name for p in parameters if p.result]
    hidden = '__attribute__((visibility("hidden")))'
    return _BODY.format(
        header=header,
        data="\n".join(f"extern const char {c}[] {hidden};" for c in constants),
        name=name,
        declarations=", ".join(p.declaration for p in parameters),
        inputs=", ".join(f"(void *){x}" for x in given) or "0",
        outputs=", ".join(made) or "0",
        memory=(_MEMORY if program.arena else _NO_MEMORY).format(size=program.arena),
    )
