"""Random programs: compiled and eager agree, and every simplified program is well formed.

Values are small whole numbers as long as only exact operations touch them, so comparisons and
conversions may follow without a rounding error deciding them; what is inexact goes on through
smooth operations only. ``FUNTORCH_FUZZ=first:last python tests/test_fuzz.py`` tries more seeds.
"""

import os

import numpy as np
import pytest

import funtorch.numpy as fnp
from funtorch.backends import compile_jaxpr
from funtorch.core import ArrayImpl, ShapedArray
from funtorch.jaxpr import check_jaxpr, stage
from funtorch.lax import select
from funtorch.ops.contract import dot_general
from funtorch.ops.elementwise import convert
from funtorch.ops.reduce import argmax, cumsum
from funtorch.ops.shape import concatenate, pad, rev
from funtorch.transforms.simplify import simplify

SEEDS = range(150)
DTYPES = [*["float32"] * 6, *["float64"] * 3, *["int32"] * 3, *["bool"] * 2]
DTYPES += ["int8", "uint8", "int64", "float16"]
SIZES = (1, 2, 3, 5, 8)
EXACT = (fnp.add, fnp.subtract, fnp.maximum, fnp.minimum, fnp.multiply)
SMOOTH = (fnp.sin, fnp.tanh, fnp.cos, lambda x: fnp.exp(fnp.tanh(x)), lambda x: 1 / (1 + x * x))
COMPARE = (fnp.less, fnp.equal, fnp.greater_equal, fnp.not_equal)
REDUCE = (fnp.sum, fnp.max, fnp.min, fnp.any, fnp.all, fnp.prod)


class Value:
    """An array of the program, and whether it holds whole numbers exactly."""

    def __init__(self, x, exact):
        self.x, self.exact = x, exact


def tame(x):
    """Keep values small; most types hold what products of these make."""
    if x.dtype == bool:
        return x
    low = 0 if x.dtype.kind == "u" else -7
    return fnp.clip(x, low, 7)


def unary(rng, v):
    x = v.x
    if x.dtype.kind == "f" and rng.random() < 0.3:
        return Value(SMOOTH[rng.integers(len(SMOOTH))](x), False)
    how = rng.integers(4)
    if x.dtype == bool:
        return Value(~x, True)
    if how == 0 and v.exact and x.dtype.kind == "f":
        return Value(fnp.floor(x / 2), True)
    if how == 1:
        return Value(tame(fnp.square(x)), v.exact)
    return Value(fnp.abs(x) if how == 2 or x.dtype.kind == "u" else -x, v.exact)


def binary(rng, v, w):
    try:
        np.broadcast_shapes(v.x.shape, w.x.shape)
    except ValueError:
        w = Value(fnp.sum(w.x), w.exact)
    exact = v.exact and w.exact
    if exact and rng.random() < 0.3:
        return Value(COMPARE[rng.integers(len(COMPARE))](v.x, w.x), True)
    if v.x.dtype == bool or w.x.dtype == bool:
        return Value(tame(fnp.where(v.x if v.x.dtype == bool else w.x, v.x, w.x)), exact)
    return Value(tame(EXACT[rng.integers(len(EXACT))](v.x, w.x)), exact)


def cast(rng, v):
    dtype = np.dtype(DTYPES[rng.integers(len(DTYPES))])
    if not v.exact and dtype.kind != "f":
        return v
    x = fnp.abs(v.x) if dtype.kind == "u" and v.x.dtype.kind in "if" else v.x
    return Value(convert(x, dtype=dtype, weak_type=False), v.exact)


def choose(rng, v, w):
    if v.x.shape != w.x.shape or v.x.dtype != w.x.dtype:
        return binary(rng, v, w)
    mask = fnp.arange(v.x.size).reshape(v.x.shape) % 3 == rng.integers(3)
    return Value(select(mask, v.x, w.x), v.exact and w.exact)


def move(rng, v):
    x, how = v.x, rng.integers(9)
    if x.ndim == 0:
        return Value(fnp.broadcast_to(x, (int(rng.choice(SIZES)),)), v.exact)
    axis = int(rng.integers(x.ndim))
    if how == 0:
        return Value(x.transpose(*map(int, rng.permutation(x.ndim))), v.exact)
    if how == 1:
        return Value(rev(x, axes=(axis,)), v.exact)
    if how == 2:
        return Value(x.reshape(-1), v.exact)
    if how == 3:
        shape = [n for n in x.shape if n != 1] or [1]
        split = [m for n in shape for m in ((2, n // 2) if n % 2 == 0 and n > 2 else (n,))]
        return Value(x.reshape(split[::-1]), v.exact)
    if how == 4:
        key = [slice(None)] * x.ndim
        key[axis] = slice(int(rng.integers(x.shape[axis])), None, int(rng.integers(1, 3)))
        return Value(x[tuple(key)], v.exact)
    if how == 5:
        return Value(concatenate(x, x, axis=axis), v.exact)
    if how == 6:
        lo, hi, inner = (tuple(map(int, r)) for r in rng.integers(0, 3, (3, x.ndim)))
        lo = tuple(-1 if n > 1 and k == axis else lo[k] for k, n in enumerate(x.shape))
        value = ArrayImpl(np.zeros((), x.dtype))
        return Value(pad(x, value, lo=lo, hi=hi, interior=inner), v.exact)
    if how == 7:
        picks = rng.integers(-x.shape[axis], x.shape[axis], int(rng.integers(1, 6)))
        return Value(fnp.take(x, fnp.asarray(picks), axis=axis), v.exact)
    return Value(fnp.expand_dims(x, axis), v.exact)


def reduce(rng, v):
    axes = tuple(k for k in range(v.x.ndim) if rng.random() < 0.5)
    how = REDUCE[rng.integers(len(REDUCE))]
    if not v.exact and how in (fnp.any, fnp.all):
        how = fnp.sum
    if v.x.ndim and v.exact and rng.random() < 0.2:
        return Value(argmax(v.x, axis=0, dtype=np.dtype("int32")), True)
    if v.x.ndim and v.x.dtype != bool and rng.random() < 0.1:
        return Value(tame(cumsum(v.x, axis=0, reverse=False)), v.exact)
    if v.x.dtype == bool and how is fnp.prod:
        how = fnp.all
    if how is fnp.prod and v.x.dtype.kind == "f":
        return Value(tame(how(fnp.clip(v.x, -1, 1), axis=axes)), v.exact)
    return Value(tame(how(v.x, axis=axes, keepdims=bool(rng.random() < 0.3))), v.exact)


def product(rng, v, w):
    a, b = v.x, w.x
    if a.ndim == 0 or b.ndim == 0 or a.dtype != b.dtype or a.shape[-1] not in b.shape:
        b = a
    if a.ndim == 0 or a.dtype.kind not in "fi":
        return v
    contracted = b.shape.index(a.shape[-1])
    batch = ((), ())
    if b is a and a.ndim == 3:
        batch, contracted = ((0,), (0,)), 2
    if a.size * b.size > 20_000:
        return v
    numbers = (((a.ndim - 1,), (contracted,)), batch)
    exact = v.exact and (w.exact or b is a)
    return Value(tame(dot_general(a, b, dimension_numbers=numbers, out_dtype=None)), exact)


def constant(rng, v):
    shape = tuple(int(n) for n in rng.choice(SIZES, rng.integers(0, 3)))
    dtype = np.dtype(DTYPES[rng.integers(len(DTYPES))])
    return Value(ArrayImpl(rng.integers(0, 4, shape).astype(dtype)), True)


STEPS = (  # how often, operands, what
    (4, 1, unary), (6, 2, binary), (2, 1, cast), (2, 2, choose), (6, 1, move), (3, 1, reduce),
    (2, 2, product), (1, 1, constant),
)  # fmt: skip


def inputs(seed):
    rng = np.random.default_rng([seed, 0])
    found = []
    for _ in range(rng.integers(1, 5)):
        shape = tuple(int(n) for n in rng.choice(SIZES, rng.integers(0, 4)))
        x = rng.integers(-5, 6, shape).astype(np.dtype(DTYPES[rng.integers(len(DTYPES))]))
        found.append(np.stack([x, x], -1)[..., 0] if rng.random() < 0.3 else x)
    return found


def program(seed, exact):
    """Return the program of a seed: it makes the same choices every time it is called."""

    def f(*xs):
        rng = np.random.default_rng([seed, 1])
        pool = [Value(x, True) for x in xs]
        weights = np.array([w for w, _, _ in STEPS], float)
        for _ in range(rng.integers(5, 31)):
            _, n, step = STEPS[rng.choice(len(STEPS), p=weights / weights.sum())]
            late = [len(pool) - 1 - min(int(rng.exponential(4)), len(pool) - 1) for _ in range(n)]
            made = step(rng, *[pool[k] for k in late])
            if made.x.size <= 4000 and made.x.ndim <= 5:
                pool.append(made)
        outs = [pool[k] for k in {len(pool) - 1, *rng.integers(0, len(pool), rng.integers(1, 5))}]
        exact[:] = [v.exact for v in outs]
        return [v.x for v in outs]

    return f


def check(seed):
    args, exact = inputs(seed), []
    f = program(seed, exact)
    jaxpr = stage(f, [ShapedArray(a.shape, a.dtype) for a in args])
    wants = f(*map(ArrayImpl, args))
    simple = simplify(jaxpr)
    check_jaxpr(simple)
    dtypes = {
        v.aval.dtype.itemsize for e in jaxpr.eqns for v in e.outvars if v.aval.dtype.kind == "f"
    }
    tol = {2: 2e-2, 4: 1e-4, 8: 1e-9}[min(dtypes, default=8)]
    run = compile_jaxpr(simple)
    for _ in range(2):
        gots = run(list(args))
        for got, want, is_exact in zip(gots, wants, exact, strict=True):
            what = f"seed {seed}: {'exact' if is_exact else tol}\n{jaxpr}"
            assert (got.shape, got.dtype) == (want.shape, want.dtype), what
            if is_exact:
                np.testing.assert_array_equal(got, want._data, what)
            else:
                size = 1 + np.max(np.abs(want._data), initial=0)
                np.testing.assert_allclose(got, want._data, rtol=tol, atol=tol * size, err_msg=what)
            assert not any(np.shares_memory(got, a) for a in args), what


@pytest.mark.parametrize("first", SEEDS[::10])
def test_random_programs(first):
    for seed in range(first, first + 10):
        check(seed)


if __name__ == "__main__":
    start, stop = map(int, os.environ["FUNTORCH_FUZZ"].split(":"))
    for number in range(start, stop):
        check(number)
    print(f"{stop - start} programs agree")
