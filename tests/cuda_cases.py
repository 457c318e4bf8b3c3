"""Kernels to print as CUDA C++, each with memory to run on: what the tests of the target share."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import test_kernels as hand

from funtorch.backends.coverage import ELEMENTWISE, KINDS
from funtorch.backends.kernel import Affine, Kernel, Op, Store, in_memory, levels
from funtorch.backends.plan import Launch

F16, BF16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
F32, F64, I32, I64, BOOL = hand.F32, hand.F64, hand.I32, hand.I64, hand.BOOL
I8, U8, U32, C64, C128 = map(np.dtype, ("int8", "uint8", "uint32", "complex64", "complex128"))
_EPS = {F32: 2e-6, C64: 1e-5, F64: 1e-14, C128: 1e-13, F16: 3e-3, BF16: 3e-2}


@dataclasses.dataclass(frozen=True)
class Case:
    """A kernel, its buffers, how near results must be, and whether their bits are always the same.

    ``lengths``: whether the printer is told how long the buffers are.
    """

    label: str
    kernel: Kernel
    buffers: list[np.ndarray]
    tol: float
    same: bool = True
    lengths: bool = True


def values(dtype: np.dtype, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return small random numbers."""
    if dtype.kind == "b":
        return rng.random(count) > 0.3
    if dtype.kind in "iu":
        return rng.integers(0, 3, count).astype(dtype)
    if dtype.kind == "c":
        return (rng.normal(size=count) + 1j * rng.normal(size=count)).astype(dtype)
    return rng.normal(size=count).astype(dtype)


def fused() -> Iterator[Case]:
    """Yield softmax, layer norms, their gradients and the like."""
    for name, (f, shapes, _) in hand.FUSED.items():
        for step in hand.steps(f, *shapes):
            if isinstance(step, Launch):
                lengths = [v.aval.size for v in step.vars]
                yield Case(name, step.kernel, hand.memory(step.kernel, lengths), 1e-4)


_REDUCTIONS = (("sum", F32), ("max", F64), ("min", I32), ("and", BOOL), ("sum", C64))
_REDUCTIONS += (("prod", C64), ("sum", BF16), ("max", F16), ("sum", I8), ("min", F32))


def reductions() -> Iterator[Case]:
    """Yield reductions by every schedule, of different kinds of dtypes."""
    rng, turn = np.random.default_rng(1), itertools.cycle(_REDUCTIONS)
    for name, (sizes, inner) in hand.SIZES.items():
        length = int(np.prod([n for n, r in zip(sizes, inner, strict=True) if r]))
        for what, dtype in itertools.islice(turn, 3):
            x = np.resize(values(dtype, 1009, rng), np.prod(sizes))
            if what == "prod":
                x = np.exp(0.1j * rng.normal(size=x.size)).astype(dtype)
            if what in ("max", "min") and dtype.kind == "f":
                x[:: x.size // 4], x[1 :: x.size // 3] = np.nan, np.inf
            kernel = hand.reduced(sizes, inner, dtype, f"reduce_{what}")
            tol = max(_EPS.get(dtype, 0) * 10, 1e-6 * length)
            out = np.zeros(x.size // length, dtype)
            yield Case(f"{what} of {name} {dtype}", kernel, [x, out], tol)


def running() -> Iterator[Case]:
    """Yield cumulative operations."""
    for name in ("one long row", "rows", "short rows", "columns", "windows"):
        sizes, inner = hand.SIZES[name]
        for what, dtype in (("sum", F32), ("max", I32)):
            body = (
                hand.loaded(sizes, dtype=dtype),
                Op("cumulate", (0,), dtype, f"reduce_{what}"),
                Op("neg", (1,), dtype),
            )
            kernel = Kernel(
                "k", sizes, inner, (dtype,) * 2, body, (Store(1, 2, hand.place(sizes)),)
            )
            x = np.random.default_rng(2).integers(-1, 2, np.prod(sizes)).astype(dtype)
            yield Case(f"running {what} of {name}", kernel, [x, np.zeros_like(x)], 1e-6)


def shared_out() -> Iterator[Case]:
    """Yield cumulative operations that several threads do together."""
    rows = (("long rows", "sum", C64), ("deep middle", "logaddexp", F32), ("columns", "prod", C64))
    for name, what, dtype in (*rows, ("long rows", "max", F64), ("outer and last", "sum", F32)):
        sizes, inner = hand.SIZES[name]
        if name == "outer and last":  # two operations, of which one reads the other's result
            sizes, inner = (5, 300), (False, True)
        body = [hand.loaded(sizes, dtype=dtype), Op("cumulate", (0,), dtype, f"reduce_{what}")]
        if name == "outer and last":
            body.append(Op("cumulate", (1,), dtype, "reduce_max"))
        out = Store(1, len(body) - 1, hand.place(sizes))
        kernel = Kernel("k", sizes, inner, (dtype,) * 2, tuple(body), (out,))
        x = values(dtype, int(np.prod(sizes)), np.random.default_rng(4))
        if what == "prod":
            x = np.exp(0.1j * (np.arange(x.size) % 7)).astype(dtype)
        if what == "max":
            x[2000] = np.nan
        yield Case(f"running {what} of {name} {dtype}", kernel, [x, np.zeros_like(x)], 2e-5)


def indexed() -> Iterator[Case]:
    """Yield gathers, and scatters by every way of combining, into few places and many times."""
    rng = np.random.default_rng(3)
    for mask in (False, True):
        for rows, width in ((7, 5), (40, 33), (300, 1), (40, 32)):
            places = rng.integers(-2 if mask else 0, 6, rows).astype(I32)
            table = rng.normal(size=6 * width).astype(F32)
            buffers = [places, table, np.zeros(rows * width, F32)]
            yield Case(f"gather {rows} {mask}", hand.gathered(rows, width, mask), buffers, 1e-6)
    dtypes = (F32, I32, U8, F64, F16, BF16, I64, U32, I8, C64)
    for how, dtype in itertools.product(("set", "add", "mul", "min", "max"), dtypes):
        if dtype == C64 and how in ("min", "max"):
            continue
        for n, known in ((50, True), (300, True), *(((300, False),) if how == "set" else ())):
            sizes = (n, 7)
            body = (
                hand.loaded(sizes, [0], I64),
                hand.loaded(sizes, dtype=dtype, buffer=1),
                Op("const", (), I64, 8),
                Op("lt", (0, 2), BOOL),
            )
            stores = (Store(2, 1, Affine(0, (0, 1), ((0, 7),)), 3, how),)
            kernel = Kernel("k", sizes, (False, False), (I64, dtype, dtype), body, stores)
            given = rng.integers(1, 2 if how == "mul" else 4, n * 7).astype(dtype)
            buffers = [rng.integers(0, 12, n), given, rng.integers(1, 9, 8 * 7).astype(dtype)]
            exact = how != "add" or dtype.kind in "iu" or n <= 64
            yield Case(f"scatter {how} {dtype} {n}", kernel, buffers, 1e-5, exact, known)


def in_place() -> Iterator[Case]:
    """Yield kernels whose results take the memory of what they read."""
    rng = np.random.default_rng(4)
    for name in ("softmax", "layer norm", "softmax gradient"):
        f, shapes, _ = hand.FUSED[name]
        for shape in ((64, 48), (3, 5000), (40, 1)):
            (step,) = hand.steps(f, *(shape if len(s) > 1 else shape[-1:] for s in shapes))
            places = list(range(len(step.vars)))
            places[-1] = 0
            kernel, kept = in_memory(step.kernel, places)
            buffers = [rng.normal(size=step.vars[k].aval.size).astype(F32) for k in kept]
            yield Case(f"{name} {shape} in place", kernel, buffers, 1e-4)
    sizes = (6, 700)  # the row's value takes the place of a row's value
    body = (
        hand.loaded(sizes),
        hand.loaded(sizes, [0], buffer=1),
        Op("mul", (0, 1), F32),
        Op("reduce", (2,), F32, "reduce_sum"),
    )
    store = (Store(1, 3, hand.place(sizes, [0])),)
    kernel = Kernel("k", sizes, (False, True), (F32, F32), body, store)
    buffers = [rng.normal(size=4200).astype(F32), rng.normal(size=6).astype(F32)]
    yield Case("rows in place", kernel, buffers, 1e-3)


def random_kernels(count: int) -> Iterator[Case]:
    """Yield kernels of several stages over random axes."""
    rng = np.random.default_rng(5)
    for number in range(count):
        sizes = tuple(int(n) for n in rng.integers(1, 13, rng.integers(1, 5)))
        inner = tuple(bool(r) for r in rng.random(len(sizes)) > 0.5)
        kept = [k for k, r in enumerate(inner) if not r]
        body = [hand.loaded(sizes)]
        for _ in range(rng.integers(1, 9)):
            n, choice = len(body), rng.choice(["add", "tanh", "reduce", "load row", "mul"])
            x, y = (int(v) for v in rng.integers(0, n, 2))
            if choice == "reduce" and any(inner):
                what = rng.choice(["reduce_sum", "reduce_max", "reduce_min"])
                body.append(Op("reduce", (x,), F32, str(what)))
            elif choice == "load row":
                body.append(hand.loaded(sizes, kept, buffer=1))
            elif choice == "tanh":
                body.append(Op("tanh", (x,), F32))
            else:
                body.append(Op("add" if choice == "add" else "max", (x, y), F32))
        element = levels(Kernel("k", sizes, inner, (F32, F32), tuple(body), ()))[1]
        stores, lengths = [], [int(np.prod(sizes)), int(np.prod([sizes[k] for k in kept]))]
        for n in {int(rng.integers(0, len(body))), len(body) - 1}:
            stores.append(
                Store(2 + len(stores), n, hand.place(sizes, None if element[n] else kept))
            )
            lengths.append(lengths[0] if element[n] else lengths[1])
        if any(inner) and kept and rng.random() > 0.5:
            k = [a for a in range(len(sizes)) if inner[a]]
            how = str(rng.choice(["reduce_sum", "reduce_max"]))
            stores.append(Store(2 + len(stores), len(body) - 1, hand.place(sizes, k), None, how))
            lengths.append(int(np.prod([sizes[a] for a in k])))
        buffers = (F32,) * len(lengths)
        kernel = Kernel("k", sizes, inner, buffers, tuple(body), tuple(stores))
        memory = [rng.normal(size=n).astype(F32) for n in lengths]
        yield Case(f"random kernel {number}", kernel, memory, 1e-3)


# ---------------------------------------------------------------------- elementwise primitives
_TWO = "add sub mul masked_mul div rem max min eq ne lt le gt ge bitwise_and bitwise_or bitwise_xor"
_TWO += " shift_left shift_right_logical shift_right_arithmetic nextafter copysign pow hypot atan2"
_TWO += " logaddexp complex"
_BOOLS = ("eq", "ne", "lt", "le", "gt", "ge", "is_finite")
_SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, 1e-3, 88.0, -88.0, 120.0, 1e-30]
_SPECIAL += [1e30, -1e30, np.inf, -np.inf, np.nan, 1e-42, 3.5, 2.5, -2.5, 7.0, 100.25, 1e10]
_COUNT = 512


def _numbers(dtype: np.dtype, seed: int) -> np.ndarray:
    """Return numbers among which are those that formulas have to take care of."""
    rng = np.random.default_rng(seed)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        out = rng.integers(max(info.min, -20), 20, _COUNT).astype(dtype)
        out[::7] = rng.integers(info.min, info.max, out[::7].size, dtype, endpoint=True)
        out[5], out[6] = info.min, info.max
        return out
    if dtype.kind in "bc":
        return values(dtype, _COUNT, rng)
    out = rng.normal(size=_COUNT) * 3
    out[: len(_SPECIAL)] = rng.permutation(_SPECIAL) if seed else _SPECIAL
    with np.errstate(all="ignore"):
        return out.astype(dtype)


def _signatures(name: str, dtype: np.dtype) -> Iterator[tuple[list[np.dtype], np.dtype, object]]:
    """Yield types of operands and result, and parameters, that a primitive is tried with."""
    given, real = [dtype] * (2 if name in _TWO.split() else 1), np.empty(0, dtype).real.dtype
    if name == "select":
        yield [BOOL, dtype, dtype], dtype, None
    elif name == "integer_pow":
        yield from ((given, dtype, {"y": y}) for y in ((3, 0) if dtype.kind in "iu" else (3, -2)))
    elif name == "polygamma":
        yield given, dtype, {"n": 2}
    elif name in ("real", "imag") or (name == "abs" and dtype.kind == "c"):
        if dtype.kind == "c":
            yield given, real, None
    elif name == "complex":
        if dtype.kind != "c":
            yield given, np.result_type(dtype, np.complex64), None
    elif name == "convert":
        yield from ((given, t, {"dtype": t, "weak_type": False}) for t in KINDS if t != dtype)
    elif name == "bitcast":
        for t in KINDS:
            if t.itemsize == dtype.itemsize and t != dtype and KINDS[t] in "ifh":
                yield given, t, {"dtype": t}
    elif name == "threefry2x32":
        if dtype == U32:
            yield from (([dtype] * 4, dtype, {"result": k}) for k in (0, 1))
    else:
        yield given, BOOL if name in _BOOLS else dtype, None


def elementwise(every: bool) -> Iterator[Case]:
    """Yield kernels of one primitive each.

    Args:
        every: all dtypes, or else one of each kind, another one for each primitive.
    """
    turn = itertools.count()
    for name, row in ELEMENTWISE.items():
        for kind in dict.fromkeys(row.kinds):
            dtypes = [d for d, k in KINDS.items() if k == kind]
            if name == "threefry2x32":
                dtypes = [U32]
            elif not every:
                dtypes = [dtypes[next(turn) % len(dtypes)]]
            for dtype in dtypes:
                found = list(_signatures(name, dtype))
                if not every and name == "convert":
                    found = found[next(turn) % 3 :: 3]
                for given, out, attr in found:
                    body = [Op("load", (), t, k, Affine(0, (1,))) for k, t in enumerate(given)]
                    n = len(body)
                    body.append(Op(name, tuple(range(n)), out, attr))
                    store = (Store(n, n, Affine(0, (1,))),)
                    kernel = Kernel("k", (_COUNT,), (False,), (*given, out), tuple(body), store)
                    buffers = [
                        *(_numbers(t, k) for k, t in enumerate(given)),
                        np.zeros(_COUNT, out),
                    ]
                    wide = 10 if name == "polygamma" else 1
                    yield Case(f"{name} {dtype} {out}", kernel, buffers, wide * _EPS.get(out, 0))
