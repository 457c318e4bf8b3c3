"""The shared table of primitive checks: what a `Row` says, and the checks every row goes through.

A test module builds rows, one per primitive (or per primitive and choice of parameters), and
parametrizes
over them: ``check_eager``, ``check_stage``, ``check_jit``, ``check_jvp``, ``check_vjp``,
``check_vmap``.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from funtorch.backends import compile_jaxpr
from funtorch.core import ArrayImpl, ShapedArray
from funtorch.jaxpr import check_jaxpr, eval_jaxpr, stage
from funtorch.transforms import vjp
from funtorch.transforms.batching import Axis, batch_flat
from funtorch.transforms.forward import jvp_flat, linearize_flat
from funtorch.transforms.reverse import transpose_jaxpr
from funtorch.transforms.simplify import simplify

BF16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = tuple(map(np.dtype, ("float64", "float32", "float16"))) + (BF16,)
_EPS = {np.dtype(d): float(ml_dtypes.finfo(d).eps) for d in ("float64", "float32", "float16", BF16)}
_EPS |= {
    np.dtype("complex64"): _EPS[np.dtype("float32")],
    np.dtype("complex128"): _EPS[np.dtype("float64")],
}


@dataclass(frozen=True)
class Row:
    """One primitive and how to check it.

    Attributes:
        name: shown in the test's id.
        fn: from Arrays to an Array or a list of Arrays; parameters are bound inside.
        samples: argument tuples of NumPy arrays. Samples of equal shapes are batched together.
        reference: the same function on NumPy arrays; None where there is none.
        differentiable: positions of the arguments to differentiate in; False for none, True for all
            float64 and complex128 arguments.
        dtypes: other dtypes to run the float64 arguments in; results must agree to their precision.
        ulps: how many units of the dtype's precision results may be off.
        order: how often derivatives are taken.
        slope: how far derivatives may be from central differences.
        vmap_tol: how far a batched call may be from a loop, in a wide dtype.
    """

    name: str
    fn: Callable[..., Any]
    samples: Sequence[tuple[np.ndarray, ...]]
    reference: Callable[..., Any] | None = None
    differentiable: bool | tuple[int, ...] = True
    dtypes: Sequence[Any] = ()
    ulps: float = 16
    order: int = 2
    slope: float = 3e-6
    vmap_tol: float = 1e-12

    def __repr__(self) -> str:
        return self.name

    def flat(self, *args: Any) -> list[Any]:
        out = self.fn(*args)
        return list(out) if isinstance(out, (tuple, list)) else [out]

    def places(self, args: Sequence[np.ndarray]) -> tuple[int, ...]:
        """Return the positions of the arguments to differentiate in."""
        if self.differentiable is False:
            return ()
        inexact = tuple(k for k, a in enumerate(args) if a.dtype in (np.float64, np.complex128))
        return inexact if self.differentiable is True else self.differentiable


def inexact(dtype: np.dtype) -> bool:
    """Return whether numbers of a dtype have tangents."""
    return dtype.kind in "fc" or dtype == BF16


def arrays(args: Sequence[np.ndarray]) -> list[ArrayImpl]:
    return [ArrayImpl(a) for a in args]


def values(outs: Sequence[Any]) -> list[np.ndarray]:
    return [o._data for o in outs]


def assert_close(got: np.ndarray, want: Any, tol: float, what: str) -> None:
    """Compare up to ``tol``, relative to the size of what is wanted, in float64."""
    want = np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, wanted {want.shape}"
    if got.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want, what)
        return
    wide = np.complex128 if "c" in (got.dtype.kind, want.dtype.kind) else np.float64
    np.testing.assert_allclose(
        got.astype(wide), want.astype(wide), rtol=tol, atol=tol, err_msg=what
    )


# ------------------------------------------------------------------------------ eager, staged
def _cast(args: Sequence[np.ndarray], dtype: Any) -> list[np.ndarray]:
    return [a.astype(dtype) if a.dtype == np.float64 else a for a in args]


def check_eager(row: Row) -> None:
    """Compare with the reference, in each dtype; the reference always computes in float64."""
    if row.reference is None:
        return
    for args in row.samples:
        for dtype in (np.dtype(np.float64), *map(np.dtype, row.dtypes)):
            cast = _cast(args, dtype)
            wants = row.reference(*[a.astype(np.float64) if a.dtype == dtype else a for a in cast])
            wants = list(wants) if isinstance(wants, (tuple, list)) else [wants]
            gots = values(row.flat(*arrays(cast)))
            for got, want in zip(gots, wants, strict=True):
                if dtype not in (np.float64, BF16) and np.asarray(want).dtype == np.float64:
                    want = np.asarray(want).astype(dtype)  # what overflows must overflow in both
                tol = row.ulps * _EPS.get(got.dtype, 0)
                assert_close(
                    got, want, tol, f"{row.name} of {[(a.shape, str(a.dtype)) for a in cast]}"
                )


def check_stage(row: Row) -> None:
    """Compare the type rule with what the eager rule makes, and the program with the eager call."""
    for args in row.samples:
        for dtype in (np.dtype(np.float64), *map(np.dtype, row.dtypes)):
            ins = arrays(_cast(args, dtype))
            eager = row.flat(*ins)
            jaxpr = stage(row.flat, [x.aval for x in ins])
            check_jaxpr(jaxpr)
            assert [o.aval for o in eager] == jaxpr.out_avals, f"{row.name}\n{jaxpr}"
            for got, want in zip(eval_jaxpr(jaxpr, *ins), eager, strict=True):
                np.testing.assert_array_equal(got._data, want._data)


# ------------------------------------------------------------------------------ compiled
def compare_compiled(calls: Sequence[tuple[Callable[..., list[Any]], Sequence[Any]]], ulps: float):
    """Run all calls as one compiled program and one by one, and compare the results.

    One program for many small calls keeps the compiler busy for milliseconds instead of seconds.
    """
    flat = [np.asarray(a) for _, args in calls for a in args]

    def whole(*xs: Any) -> list[Any]:
        rest, outs = iter(xs), []
        for f, args in calls:
            outs += f(*[next(rest) for _ in args])
        return outs

    jaxpr = stage(whole, [ShapedArray(a.shape, a.dtype) for a in flat])
    simple = simplify(jaxpr)
    check_jaxpr(simple)
    assert all(v.aval.same_type(o) for v, o in zip(simple.outvars, jaxpr.out_avals, strict=True))
    wants = [o for f, args in calls for o in f(*arrays(args))]
    gots = compile_jaxpr(simple)(flat)
    for got, want in zip(gots, wants, strict=True):
        assert type(got) is np.ndarray
        assert got.dtype == want.dtype, f"compiled {got.dtype}, eager {want.dtype}"
        assert_close(got, want._data, ulps * _EPS.get(got.dtype, 0), "compiled, eager")


def _extreme(args: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return arguments of the same types, full of the values at the ends of arithmetic."""
    ends = [np.nan, np.inf, -np.inf, -0.0, 0.0, 5e-324, 1e-40, -1e-310, 3e38, -1.7e308, 1.0, -1.0]
    return [
        np.resize(np.roll(ends, 5 * k), a.shape) if a.dtype == np.float64 and a.size else a
        for k, a in enumerate(args)
    ]


def check_jit(row: Row) -> None:
    """Compare compiled with eager: samples and extremes in every dtype, and derivatives."""
    dtypes = (np.dtype(np.float64), *map(np.dtype, row.dtypes))
    samples = [*row.samples, *map(_extreme, row.samples)]
    calls = [(row.flat, _cast(args, dtype)) for args in samples for dtype in dtypes]
    rng = np.random.default_rng(2)
    for args in row.samples:
        places = row.places(args)
        if not places:
            continue
        f, at = closed(row, args, places), [args[k] for k in places]
        cts = [direction(rng, o._data) for o in f(*arrays(at))]
        calls.append((backward(f, len(at)), [*at, *cts]))
    compare_compiled(calls, 4 * row.ulps)


# ------------------------------------------------------------------------------ derivatives
def direction(rng: np.random.Generator, like: np.ndarray) -> np.ndarray:
    out = rng.standard_normal(like.shape)
    return out + 1j * rng.standard_normal(like.shape) if like.dtype.kind == "c" else out


def closed(row: Row, args: Sequence[np.ndarray], places: Sequence[int]) -> Callable[..., list[Any]]:
    """Return the row as a function of its differentiable arguments, with inexact results only."""

    def f(*xs: Any) -> list[Any]:
        full = arrays(args)
        for k, x in zip(places, xs, strict=True):
            full[k] = x
        return [o for o in row.flat(*full) if inexact(o.dtype)]

    return f


def derivative(f: Callable[..., list[Any]], n: int) -> Callable[..., list[Any]]:
    """Return ``(x..., t...) -> derivative of f at x along t``; a zero is left out."""

    def df(*xs: Any) -> list[Any]:
        return [t for t in jvp_flat(f, xs[:n], xs[n:])[1] if t is not None]

    return df


def backward(f: Callable[..., list[Any]], n: int) -> Callable[..., list[Any]]:
    """Return ``(x..., ct...) -> cotangents of x``, for a function of ``n`` arguments."""

    def df(*xs: Any) -> list[Any]:
        return list(vjp(lambda *ys: tuple(f(*ys)), *xs[:n])[1](tuple(xs[n:])))

    return df


def _levels(row: Row, rng: np.random.Generator):
    """Yield (f, arguments) for the function itself, then for its derivatives, at every sample."""
    for args in row.samples:
        places = row.places(args)
        if not places:
            continue
        f, at = closed(row, args, places), [args[k] for k in places]
        for _ in range(row.order):
            yield f, at
            f, at = derivative(f, len(at)), [*at, *(direction(rng, a) for a in at)]


def check_jvp(row: Row) -> None:
    """Compare the derivative along a random direction with central differences."""
    rng = np.random.default_rng(0)
    for f, at in _levels(row, rng):
        along = [direction(rng, a) for a in at]
        outs, tangents = jvp_flat(f, arrays(at), arrays(along))
        h = 1e-6
        above = values(f(*arrays([a + h * t for a, t in zip(at, along, strict=True)])))
        below = values(f(*arrays([a - h * t for a, t in zip(at, along, strict=True)])))
        for out, t, high, low in zip(outs, tangents, above, below, strict=True):
            want = (high - low) / (2 * h)
            got = np.zeros_like(want) if t is None else t._data
            assert t is None or t.dtype == out.dtype, (
                f"{row.name}: {t.aval} is the tangent of {out.aval}"
            )
            scale = 1 + (np.abs(want).max() if want.size else 0)
            np.testing.assert_allclose(
                got / scale, want / scale, rtol=0, atol=row.slope, err_msg=row.name
            )


def _dot(xs: Sequence[Any], ys: Sequence[Any]) -> float:
    total = 0.0
    for x, y in zip(xs, ys, strict=True):
        if x is not None and y is not None:
            total += float(np.real(np.sum(x * y)))
    return total


def check_vjp(row: Row) -> None:
    """Check that the backward pass is the adjoint of the forward one: <ct, J t> = <J' ct, t>."""
    rng = np.random.default_rng(1)
    for f, at in _levels(row, rng):
        along = [direction(rng, a) for a in at]
        outs, linear, active = linearize_flat(f, arrays(at))
        check_jaxpr(linear)
        if not any(active):
            continue
        cts = [direction(rng, o._data) for o, on in zip(outs, active, strict=True) if on]
        tangents = values(eval_jaxpr(linear, *arrays(along)))
        back = transpose_jaxpr(linear, arrays(cts))
        for ct, v in zip(back, linear.invars, strict=True):
            assert ct is None or ct.aval.same_type(v.aval), f"{row.name}: {ct.aval} for {v.aval}"
        want = _dot(cts, tangents)
        got = _dot([None if c is None else c._data for c in back], along)
        assert abs(got - want) <= 1e-9 * (1 + abs(want) + _size(cts) * _size(tangents)), row.name


def _size(xs: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(np.abs(x) ** 2) for x in xs)))


# ------------------------------------------------------------------------------ vmap
def _companions(row: Row, args: tuple[np.ndarray, ...]) -> list[tuple[np.ndarray, ...]]:
    """Return a batch of samples like ``args``: the table's own, else flipped copies."""
    key = [(a.shape, a.dtype) for a in args]
    alike = [s for s in row.samples if [(a.shape, a.dtype) for a in s] == key]
    return alike if len(alike) > 1 else [args, tuple(np.flip(a) for a in args)]


def _masks(n: int) -> list[tuple[bool, ...]]:
    if n <= 3:
        return [m for m in itertools.product((False, True), repeat=n) if any(m)]
    return [(True,) * n, *(tuple(k == j for k in range(n)) for j in range(n))]


def check_vmap(row: Row) -> None:
    """Compare one batched call with a loop, for every choice of which arguments are batched."""
    for args in row.samples:
        batch = _companions(row, args)
        for mask in _masks(len(args)):
            ins = [np.stack([b[k] for b in batch]) if on else args[k] for k, on in enumerate(mask)]
            outs, batched = batch_flat(row.flat, Axis(len(batch)), arrays(ins), mask)
            each = []
            for b in batch:
                each.append(
                    values(
                        row.flat(*arrays([b[k] if on else args[k] for k, on in enumerate(mask)]))
                    )
                )
            for k, (out, on) in enumerate(zip(outs, batched, strict=True)):
                want = np.stack([e[k] for e in each])
                got = out._data if on else np.stack([out._data] * len(batch))
                assert got.dtype == want.dtype, (
                    f"{row.name} {mask}: {got.dtype}, wanted {want.dtype}"
                )
                tol = max(row.vmap_tol, 4 * _EPS.get(got.dtype, 0))
                assert_close(got, want, tol, f"{row.name}, batched {mask}")


CHECKS = (check_eager, check_stage, check_jit, check_jvp, check_vjp, check_vmap)
