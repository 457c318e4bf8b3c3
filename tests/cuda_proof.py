"""The proof of the CUDA target: every kernel of the op table, compiled, and run against NumPy.

The table's rows are compiled in each dtype that they take, as `jit` compiles them for a GPU; so are
whole programs, and words of transforms. Of kernels whose texts are equal but for their names one is
kept. All kernels of a share are one module, for NVRTC and for g++; then the programs run on the
stand-in, and around each launch of a kernel its buffers are compared with what `run_kernel` makes
of them.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cuda_cases
import ml_dtypes
import numpy as np
from coverage_matrix import cast_array
from cuda_shim import Module
from fake_cupy import cuda, memory_at
from gpu_programs import LOOPS, STEPS
from gpu_training import TRAINING, flat
from test_native_dtypes import rows
from test_transforms import EVERY, PRODUCT, PROGRAMS, X

import funtorch.numpy as fnp
from funtorch import nn
from funtorch.backends.cuda import program, runtime
from funtorch.backends.cuda.code import CudaCode, module_text
from funtorch.backends.cuda.driver import Driver
from funtorch.backends.cuda.instructions import Run, each
from funtorch.backends.kernel import Kernel, run_kernel
from funtorch.core import ArrayImpl, ShapedArray
from funtorch.hardware import Device
from funtorch.jaxpr import stage
from funtorch.placement import put
from funtorch.transforms.simplify import simplify

DTYPES = ("bool", "int8", "uint32", "int64", "float16", "float32", "float64", "complex64")
DTYPES += ("complex128", "bfloat16")
ALL = (*DTYPES, "int16", "int32", "uint8", "uint16", "uint64")
SHARES = 12
VECTORS = ("eig", "eigh", "schur", "svd")
"""Primitives whose vectors have free signs, which GPU and CPU need not agree on."""

ROUNDED = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 2e-6, "complex64": 1e-5}
ROUNDED |= {"float64": 4e-15, "complex128": 4e-14}
"""How far kernels may be from NumPy: a last digit of 16-bit floats, some of the others."""

SUMMED = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 1e-4, "complex64": 1e-4}
SUMMED |= {"float64": 1e-9, "complex128": 1e-9}
"""How far programs may be from their eager rules: roundings add up."""


def dtype_named(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name) if name == "bfloat16" else name)


@dataclasses.dataclass(frozen=True)
class Printed:
    """A kernel's code under a name of its own; ``kernel``: what it means, where that is known."""

    code: CudaCode
    kernel: Kernel | None
    old: str

    @property
    def text(self) -> str:
        """The text, whatever the name."""
        return re.sub(rf"\b{self.old}(?![0-9])", "KERNEL", self.code.text)

    def named(self, name: str) -> CudaCode:
        """Return the code under another name."""
        launches = [
            dataclasses.replace(one, name=re.sub(rf"^{self.old}(?![0-9])", name, one.name))
            for one in self.code.launches
        ]
        text = self.text.replace("KERNEL", name)
        return dataclasses.replace(self.code, text=text, launches=tuple(launches))


@dataclasses.dataclass(frozen=True)
class Program:
    """A row in a dtype: its function, its arguments, and what a GPU is asked for."""

    label: str
    function: Callable[..., list[Any]]
    args: list[np.ndarray]
    jaxpr: Any
    plan: Any
    memory: Any
    kernels: list[Printed]


@dataclasses.dataclass(frozen=True)
class Share:
    """Programs that have a kernel which no program before has, and all their kernels, by text.

    ``tols``: how far, by dtype, kernels may be from NumPy.
    """

    programs: list[Program]
    numbers: dict[str, int]
    codes: list[CudaCode]
    tols: dict[str, float]


def samples(share: int, dtypes: Sequence[str]) -> Iterator[tuple[str, Any, list[np.ndarray]]]:
    """Yield rows of a share and arguments, in every dtype; rows of a primitive stay together."""
    places: dict[str, int] = {}
    for name, fn, given in rows():
        primitive = re.split(r"[-( ]", name)[0]
        if places.setdefault(primitive, len(places)) % SHARES != share:
            continue

        def flat(*xs, fn=fn):
            out = fn(*xs)
            return list(out) if isinstance(out, (tuple, list)) else [out]

        for args in given[:3]:
            arrays = [np.asarray(a) for a in args]
            for dtype in map(dtype_named, dtypes):
                for kind in sorted({a.dtype.kind for a in arrays} & set("fci")):
                    cast = [cast_array(a, dtype) if a.dtype.kind == kind else a for a in arrays]
                    yield name, flat, cast


def planned(jaxpr: Any, donated: frozenset[int] = frozenset()) -> tuple[Any, Any, list[Printed]]:
    """Return a program's plan and what it needs in memory, and its kernels with what they mean."""
    meanings: dict[str, Kernel] = {}
    plain = program.print_kernel

    def noted(kernel: Kernel, *args: Any, **options: Any) -> CudaCode:
        code = plain(kernel, *args, **options)
        meanings[code.text] = kernel
        return code

    program.print_kernel = noted
    try:
        plan, memory = runtime.plan_for(jaxpr, donated)
    finally:
        program.print_kernel = plain
    kernels = []
    for code in plan.codes:
        name = re.match(r"k\d+", code.launches[0].name).group() if code.launches else "k"
        kernels.append(Printed(code, meanings.get(code.text), name))
    return plan, memory, kernels


def gathered(
    found: Iterator[tuple[str, Any, list[np.ndarray]]], tols: dict[str, float], donate: bool = False
) -> Share:
    """Return what is to be proved of functions with their arguments.

    Args:
        found: names, functions of arrays and arguments.
        tols: how far, by dtype, kernels may be from NumPy.
        donate: whether the memory of all arguments may be used for results.
    """
    programs: list[Program] = []
    numbers: dict[str, int] = {}
    codes: list[CudaCode] = []
    seen = set()
    for name, function, args in found:
        avals = [ShapedArray(a.shape, a.dtype) for a in args]
        key = (name, *map(str, avals))
        if key in seen:
            continue
        seen.add(key)
        try:
            jaxpr = simplify(stage(function, avals))
        except (TypeError, ValueError):
            continue  # a dtype that it does not take
        donated = frozenset(range(len(args))) if donate else frozenset()
        plan, memory, kernels = planned(jaxpr, donated)
        new = False
        for one in kernels:
            if one.code.launches and one.text not in numbers:
                numbers[one.text], new = len(numbers), True
                codes.append(one.named(f"proof{len(codes)}"))
        if new:
            label = f"{name} of {', '.join(a.str_short() for a in avals)}"
            programs.append(Program(label, function, args, jaxpr, plan, memory, kernels))
    return Share(programs, numbers, codes, tols)


def whole_programs() -> Iterator[tuple[str, Any, list[np.ndarray]]]:
    """Yield the programs that other tests run whole, as functions of arrays."""
    for name, (f, *args) in {**STEPS, **LOOPS, **TRAINING}.items():
        yield name, *flat(f, tuple(args))


def words() -> Iterator[tuple[str, Any, list[np.ndarray]]]:
    """Yield all words of up to two transforms on some programs."""
    for name, letters in itertools.product(SPELLED, [*PAIRS, *((x,) for x in PRODUCT)]):
        f = PROGRAMS[name]
        for letter in letters:
            f = EVERY[letter][0](f)
        yield f"{' of '.join(letters[::-1])} of {name}", *flat(f, (X,))


SPELLED = ("layers", "piecewise", "update")
PAIRS = list(itertools.product(PRODUCT, repeat=2))
OTHERS = {"programs": whole_programs, "words": words}


@functools.cache
def share_of(which: int | str, dtypes: tuple[str, ...] = DTYPES) -> Share:
    """Return a share of the op table, by its number, or of what else there is, by its name."""
    if isinstance(which, int):
        return gathered(samples(which, dtypes), ROUNDED)
    return gathered(OTHERS[which](), SUMMED)


# ---------------------------------------------------------------------------------------- running
class ProvingDriver(Driver):
    """A driver whose launches are compared with what the kernels mean.

    Attributes:
        proved: the texts of the kernels that ran.
        wrong: what differed.
    """

    def __init__(self, share: Share) -> None:
        super().__init__(Device("cuda"))
        self.share, self.module = share, Module(module_text(share.codes))
        self.kernels_of: list[Printed] = []
        self.proved: set[str] = set()
        self.wrong: list[str] = []

    def prove(self, p: Program) -> None:
        """Run a program; compare its kernels with NumPy, and its results with the eager rules."""
        self.kernels_of = p.kernels
        made = runtime._Program(self, p.jaxpr, p.plan, p.memory)
        outs = made([put(ArrayImpl(a), self.device)._buffer for a in p.args])
        with np.errstate(all="ignore"):
            wanted = [np.asarray(x) for x in p.function(*map(ArrayImpl, p.args))]
        free = any(getattr(x, "name", "") in VECTORS for x in p.plan.instructions)
        for out, want in zip(outs, wanted, strict=True):
            assert (out.shape, out.dtype) == (want.shape, want.dtype), p.label
            got = out.get()
            got, want = (np.abs(got), np.abs(want)) if free else (got, want)
            self.compare(got, want, SUMMED, f"the results of {p.label}")

    def prove_branches(self) -> None:
        """Run the kernels that no program came to, in branches not taken, on drawn numbers."""
        for p in self.share.programs:
            sizes = sizes_of(p.plan)
            for n, one in enumerate(p.kernels):
                if one.kernel is not None and one.code.launches and one.text not in self.proved:
                    pairs = zip(sizes[n], one.kernel.buffers, strict=False)
                    rng = np.random.default_rng(0)
                    arrays = [drawn(np.zeros(size // d.itemsize, d), rng) for size, d in pairs]
                    scratch = np.zeros(one.code.scratch + 16, np.uint8)
                    place = -(-scratch.ctypes.data // 16) * 16
                    self._check(one, arrays, (place, one.code.scratch), "shuffled")
                    self.proved.add(one.text)

    def kernels(self, plan: Any, text: str) -> list[Any]:
        sizes = sizes_of(plan)

        def launcher(one: Printed, sizes: Sequence[int]) -> Callable[[Sequence[int]], None]:
            def launch(addresses: Sequence[int]) -> None:
                run = functools.partial(self._run, one, sizes, tuple(addresses))
                cuda._do(("kernel", one.old), run, self.current)  # at once, or when it is replayed

            return launch

        found = [launcher(one, sizes.get(n, ())) for n, one in enumerate(self.kernels_of)]
        return [(launch, launch) for launch in found]  # no library is asked

    def _run(self, one: Printed, sizes: Sequence[int], addresses: Sequence[int]) -> None:
        """Run a kernel where the program wants it; the first time, on drawn numbers before."""
        *buffers, scratch = [cuda.region(int(a)) for a in addresses]
        if one.kernel is None:  # a product, a sort ...: the program's results prove it
            self._launch(one, buffers, scratch)
        else:
            typed = zip(addresses, sizes, one.kernel.buffers, strict=False)
            arrays = [np.ndarray((n // d.itemsize,), d, memory_at(a, n)) for a, n, d in typed]
            if one.text not in self.proved and len(one.kernel.body) < 60:
                rng = np.random.default_rng(0)  # for each, whatever came before it
                self._check(one, [drawn(x, rng) for x in arrays], scratch, "backwards")
            self._check(one, arrays, scratch, "forwards")
        self.proved.add(one.text)

    def _check(
        self, one: Printed, arrays: Sequence[np.ndarray], scratch: tuple[int, int], order: str
    ) -> None:
        want = meaning(one.kernel, arrays)
        self._launch(one, [(x.ctypes.data, x.nbytes) for x in arrays], scratch, order)
        for k in sorted({s.buffer for s in one.kernel.stores}):
            terms = any(op.name == "reduce" for op in one.kernel.body)  # they may cancel
            self.compare(arrays[k], want[k], self.share.tols, str(one.kernel), terms)

    def _launch(
        self, one: Printed, buffers: Any, scratch: tuple[int, int], order: str = "shuffled"
    ) -> None:
        for k, x in enumerate(self.share.codes[self.share.numbers[one.text]].launches):
            self.module.launch(
                x.name, x.grid, x.block, x.shared, buffers, scratch, order, begins=k == 0
            )

    def compare(
        self,
        got: np.ndarray,
        want: np.ndarray,
        tols: dict[str, float],
        what: str,
        sums: bool = False,
    ) -> None:
        """Note what differs by more than a dtype's tolerance; integers must be equal. A sum that is
        small beside others has terms like theirs."""
        tol = tols.get(got.dtype.name, 0)
        wide = np.complex128 if got.dtype.kind == "c" else np.float64
        if got.dtype.kind not in "biu":
            got, want = got.astype(wide), want.astype(wide)
        size = np.abs(want[np.isfinite(want)]).max(initial=1) if sums else 1
        try:
            np.testing.assert_allclose(got, want, rtol=tol, atol=tol / 4 * size)
        except AssertionError as error:
            self.wrong.append(f"{what}:{str(error)[:1500]}")


def drawn(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return random numbers for those of a buffer; integers, which may be places, stay."""
    return x.copy() if x.dtype.kind in "biu" else cuda_cases.values(x.dtype, x.size, rng)


def meaning(kernel: Kernel, buffers: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return what NumPy makes of a kernel; what works in place reads copies."""
    out, count = [b.copy() for b in buffers], len(kernel.buffers)
    body = tuple(
        dataclasses.replace(op, attr=op.attr + count) if op.name == "load" else op
        for op in kernel.body
    )
    apart = dataclasses.replace(kernel, buffers=kernel.buffers * 2, body=body)
    run_kernel(apart, [*out, *(b.copy() for b in buffers)])
    return out


def sizes_of(plan: Any) -> dict[int, tuple[int, ...]]:
    """Return the bytes of each kernel's buffers."""
    return {x.code: x.sizes for x in each(plan.instructions) if type(x) is Run}


# ---------------------------------------------------------------------------------------- in place
STEPS_IN_PLACE: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "scaled": lambda x, y: x * 0.5 - y,
    "tanh": lambda x, y: fnp.tanh(x),
    "rows": lambda x, y: x - x.max(-1, keepdims=True),
    "softmax": lambda x, y: nn.softmax(x),
    "norm": lambda x, y: x / fnp.sqrt((x * x).sum(-1, keepdims=True) + 1.0),
    "columns": lambda x, y: x - y.mean(0, keepdims=True),
    "all": lambda x, y: x / (1.0 + fnp.abs(y).sum()),
    "turned": lambda x, y: x[::-1] + y,
    "mirrored": lambda x, y: x[..., ::-1] * 0.5 + x,
    "rolled": lambda x, y: fnp.roll(x, 1, -1) + y,
    "next": lambda x, y: fnp.roll(x, 1, 0) - y,
    "square": lambda x, y: x.T + y if x.shape[0] == x.shape[-1] else x,
    "first": lambda x, y: x + x[:1] * 0.25 + y[..., :1],
    "running": lambda x, y: fnp.cumsum(x, -1) * 0.1,
    "set": lambda x, y: x.at[0].set(y[-1]),
    "added": lambda x, y: x.at[:, 0].add(y[:, -1]),
    "taken": lambda x, y: x[np.arange(3, 3 + len(x)) % len(x)] + y,
    # What is chosen is equal where the choice is close: the last digit must not decide.
    "masked": lambda x, y: fnp.where(x > y[:1], x - y[:1], 0.25 * (y[:1] - x)) + y,
}
"""What random programs are made of: of two arrays of one shape, another one."""


def in_place(count: int, seed: int) -> Iterator[tuple[str, Any, list[np.ndarray]]]:
    """Yield random programs of two arrays, whose results may take the place of these."""
    rng, table = np.random.default_rng(seed), STEPS_IN_PLACE
    shapes = ((4, 4), (3, 40), (33, 5), (40, 33), (2, 300), (64, 1), (130, 64), (16, 16))
    for number in range(count):
        names = [str(n) for n in rng.choice(list(table), rng.integers(2, 6))]
        picks = rng.integers(0, 1 << 16, (len(names), 2))
        outs = rng.integers(0, 1 << 16, 2)

        def run(*xs, names=names, picks=picks, outs=outs):
            values = list(xs)
            for name, (a, b) in zip(names, picks, strict=True):
                values.append(table[name](values[a % len(values)], values[-1 - b % 2]))
            return [values[-1], values[len(xs) + outs[0] % len(names)]][: 1 + outs[1] % 2]

        shape = shapes[number % len(shapes)]
        args = [rng.normal(size=shape).astype(np.float32) for _ in range(2)]
        yield f"{number}: {' '.join(names)}", run, args
