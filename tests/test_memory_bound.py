"""Kernels bounded by memory or by a few instructions: totals, streams, quotients, exponentials."""

import numpy as np
import pytest
from test_kernels import F32, F64, I32, check_printed, loaded, memory, place, printed, steps

import funtorch as ft
import funtorch.nn as fnn
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.backends.buffers import Pool
from funtorch.backends.cpu import stream
from funtorch.backends.kernel import Affine, Kernel, Op, Store, check_kernel, row_major
from funtorch.backends.plan import Launch
from funtorch.backends.scalars.quicker import quicker

RNG = np.random.default_rng(3)


# ---------------------------------------------------------------------- reductions over the rows
def totalled(sizes, inner, dtype, how, which=2):
    """Return a kernel of rows, x times its row's sum, that also reduces x or that over them."""
    wide = [k for k, r in enumerate(inner) if r]
    body = (
        loaded(sizes, dtype=dtype),
        Op("reduce", (0,), dtype, "reduce_sum"),
        Op("mul", (0, 1), dtype),
    )
    stores = (Store(1, 2, place(sizes)), Store(2, which, place(sizes, wide), None, f"reduce_{how}"))
    return Kernel("k", sizes, inner, (dtype,) * 3, body, stores)


@pytest.mark.parametrize("dtype", [F32, F64, I32], ids=str)
@pytest.mark.parametrize(
    ("sizes", "inner"),
    [
        ((40, 100), (False, True)),
        ((5000, 12), (False, True)),
        ((3, 20, 70), (False, False, True)),
        ((6, 7, 5, 9), (False, True, False, True)),
        ((2, 3), (False, True)),
    ],
    ids=str,
)
def test_rows_are_reduced_over_as_numpy_does(sizes, inner, dtype):
    lengths = int(np.prod(sizes)), int(np.prod([n for n, r in zip(sizes, inner, strict=True) if r]))
    for how in ("sum", "max", "min"):
        kernel = totalled(sizes, inner, dtype, how)
        x = RNG.integers(-3, 4, lengths[0]).astype(dtype)
        check_printed(kernel, [x, np.zeros_like(x), np.zeros(lengths[1], dtype)], 1e-3)


def test_totals_keep_nan_and_the_digits_of_long_sums():
    kernel = totalled((30, 10), (False, True), F32, "max", 0)
    x = RNG.normal(size=300).astype(F32)
    x[57] = np.nan
    out = np.zeros(10, F32)
    printed(kernel)[1]([x, np.zeros(300, F32), out])
    assert np.flatnonzero(np.isnan(out)).tolist() == [7]  # 57 is in column 7 of its row
    rows = 60_000
    body = (loaded((rows, 16)), Op("reduce", (0,), F32, "reduce_max"))
    stores = (
        Store(1, 1, place((rows, 16), [0])),
        Store(2, 0, place((rows, 16), [1]), None, "reduce_sum"),
    )
    kernel = Kernel("k", (rows, 16), (False, True), (F32,) * 3, body, stores)
    x, out = RNG.uniform(size=(rows, 16)).astype(F32), np.zeros(16, F32)
    printed(kernel)[1]([x.reshape(-1), np.zeros(rows, F32), out])
    np.testing.assert_allclose(out, x.sum(0, dtype=F64), rtol=5e-7)


def test_the_verifier_knows_totals():
    good = totalled((4, 9), (False, True), F32, "sum")
    check_kernel(good)
    assert "=reduce_sum=" in str(good)
    for where in (place((4, 9)), Affine(0, (0, 0))):
        bad = Kernel(
            "k",
            (4, 9),
            (False, True),
            (F32,) * 3,
            good.body,
            (Store(2, 2, where, None, "reduce_sum"),),
        )
        with pytest.raises(ValueError, match="does not reduce over the rows"):
            check_kernel(bad)


def norm(x, scale, shift):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * scale + shift


def test_gradients_of_factors_and_of_rows_are_one_kernel():
    def both(x, scale, shift, ct):
        y, pull = ft.vjp(norm, x, scale, shift)
        return y, *pull(ct)

    (step,) = steps(both, (64, 200), (200,), (200,), (64, 200))
    assert isinstance(step, Launch)
    assert sorted(s.how for s in step.kernel.stores) == ["reduce_sum"] * 2 + ["set"] * 2
    args = [RNG.normal(size=s).astype(F32) for s in ((64, 200), (200,), (200,), (64, 200))]
    for got, want in zip(ft.jit(both)(*args), both(*map(fnp.asarray, args)), strict=True):
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=2e-4, atol=2e-5)


def test_totals_wait_for_their_rows_but_not_for_their_readers():
    def f(x):
        total = x.sum(0)  # comes first, and is read by what follows
        y = x / x.sum(1, keepdims=True)
        return y + total, (y * 2).sum(0)

    x = RNG.uniform(1, 2, (48, 40)).astype(F32)
    for got, want in zip(ft.jit(f)(x), f(x), strict=True):
        np.testing.assert_allclose(np.asarray(got), want, rtol=2e-6)


def test_totals_are_the_same_for_any_number_of_threads():
    x, scale = RNG.normal(size=(3000, 96)).astype(F32), np.ones(96, F32)
    f = ft.jit(ft.grad(lambda s, x: (norm(x, s, s) ** 2).sum()))
    found = []
    for count in (1, 2, 3):
        with ft.threads(count):
            found.append(np.asarray(f(scale, x)))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


# ---------------------------------------------------------------------- past the caches
@pytest.fixture
def small_caches(monkeypatch):
    monkeypatch.setattr(stream, "STREAM", 1)
    monkeypatch.setattr(stream, "_SHORT", 64)


@pytest.mark.parametrize("offset", [0, 1, 16])
@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [((20_000,), F32), ((7, 1000), F32), ((5, 333), F64), ((9, 2000), np.dtype("int8"))],
    ids=str,
)
def test_results_past_the_caches_are_whole(small_caches, sizes, dtype, offset):
    body = (loaded(sizes, dtype=dtype), Op("add", (0, 0), dtype), Op("mul", (0, 0), dtype))
    stores = (Store(1, 1, place(sizes)), Store(2, 2, place(sizes)))
    kernel = Kernel("k", sizes, (False,) * len(sizes), (dtype,) * 3, body, stores)
    n = int(np.prod(sizes))
    x = RNG.integers(-5, 6, n).astype(dtype)
    room = np.full(2 * n + 64, 9, dtype)
    run = printed(kernel)[1]
    for gap in (0, 3):  # both results at one place in their lines, or not
        room[:] = 9
        y, z = room[offset : offset + n], room[offset + n + gap : offset + 2 * n + gap]
        run([x, y, z])
        np.testing.assert_array_equal(y, x + x)
        np.testing.assert_array_equal(z, x * x)
        assert (room[:offset] == 9).all()
        assert (room[offset + 2 * n + gap :] == 9).all()
    assert "nontemporal" in printed(kernel)[0].text


def test_rows_past_the_caches_mean_the_same(small_caches):
    sizes = (6, 700)
    body = (
        loaded(sizes),
        Op("reduce", (0,), F32, "reduce_max"),
        Op("sub", (0, 1), F32),
        Op("exp", (2,), F32),
        Op("reduce", (3,), F32, "reduce_sum"),
        Op("div", (3, 4), F32),
    )
    stores = (Store(1, 3, place(sizes)), Store(2, 5, place(sizes)))
    kernel = Kernel("k", sizes, (False, True), (F32,) * 3, body, stores)
    x = RNG.normal(size=4200).astype(F32)
    code = check_printed(kernel, [x, np.zeros(4200, F32), np.zeros(4200, F32)])
    assert "nontemporal" in code.text


@pytest.mark.parametrize("name", ["columns", "running", "running rows", "squares"])
def test_every_schedule_writes_past_the_caches(small_caches, name):
    sizes = (130, 200)
    inner = (name in ("columns", "running"), name == "running rows")
    body = [loaded(sizes)]
    if name == "columns":
        body += [Op("reduce", (0,), F32, "reduce_sum"), Op("mul", (0, 1), F32)]
    elif name.startswith("running"):
        body.append(Op("cumulate", (0,), F32, "reduce_sum"))
    else:
        across = Affine(0, (1, 130))
        body += [Op("load", (), F32, 1, across), Op("add", (0, 1), F32)]
    stores = (Store(2, len(body) - 1, place(sizes)),)
    kernel = Kernel("k", sizes, inner, (F32,) * 3, tuple(body), stores)
    code = check_printed(kernel, [RNG.normal(size=26_000).astype(F32) for _ in range(3)], 1e-3)
    assert "nontemporal" in code.text


@pytest.mark.parametrize("name", ["pooling", "softmax gradient", "batch norm gradients", "norm"])
def test_programs_mean_the_same_past_the_caches(small_caches, name):
    programs = {
        "pooling": lambda x: lax.reduce_window(x, -fnp.inf, lax.max, (1, 2), (1, 1)),
        "softmax gradient": ft.grad(lambda x: (fnn.softmax(x) ** 2).sum()),
        "batch norm gradients": ft.grad(lambda x: (norm(x.T, x[:, 0], x[:, 1]) ** 3).sum()),
        "norm": lambda x: norm(x, x[0], x[1]),
    }
    for step in steps(programs[name], (70, 150)):
        if isinstance(step, Launch):
            lengths = [v.aval.size for v in step.vars]
            check_printed(step.kernel, memory(step.kernel, lengths), 1e-3)


def test_what_works_in_place_stays_in_the_caches(small_caches):
    kernel = Kernel(
        "k", (5000,), (False,), (F32, F32), (loaded((5000,)),), (Store(1, 0, place((5000,))),)
    )
    assert stream.streamed(kernel, 0)
    both = Kernel("k", (5000,), (False,), (F32,), kernel.body, (Store(0, 0, place((5000,))),))
    assert not stream.streamed(both, 0)


def test_large_results_begin_a_cache_line():
    pool = Pool()
    made = [pool.empty((1 << 18,), F32, 1 << 20) for _ in range(3)]
    assert all(x.ctypes.data % 64 == 0 for x in made)
    assert row_major(made[0].shape) == (1,)


# ---------------------------------------------------------------------- quicker operations
def names(f, *shapes, dtype=F32):
    found = [s.kernel for s in steps(f, *shapes, dtype=dtype) if isinstance(s, Launch)]
    return {op.name for kernel in found for op in quicker(kernel).body}


def test_exponentials_of_what_is_never_positive_are_known():
    shape = (40, 50)
    for f in (
        lambda x: fnp.exp(x - x.max(1, keepdims=True)),
        lambda x: fnp.exp(-(x * x)),
        lambda x: fnp.exp(-0.5 * fnp.abs(x)),
        lambda x: fnp.exp(-fnp.sqrt(x) - fnp.exp(x)),
    ):
        assert "exp_of_negative" in names(f, shape)
    for f in (
        fnp.exp,
        lambda x: fnp.exp(x - x.min(1, keepdims=True)),
        lambda x: fnp.exp(x * x),
        lambda x: fnp.exp(x - (x + 1).max(1, keepdims=True)),
        lambda x: fnp.exp(-(x * fnp.abs(x))),
    ):
        assert "exp_of_negative" not in names(f, shape)


def test_one_divisor_of_many_dividends_is_inverted_once():
    assert "quotient" in names(lambda x: x / x.sum(1, keepdims=True), (40, 50))
    assert "quotient" in names(lambda x, y: x / y[:, None], (40, 50), (40,))
    assert "quotient" in names(lambda x: x / 3, (40, 50))
    assert "quotient" not in names(lambda x, y: x / y, (40, 50), (40, 50))
    assert "quotient" not in names(lambda x, y: x / y, (40, 50), (50,))


SPECIAL = [0.0, -0.0, 1.0, -3.0, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_quotients_are_those_of_a_division(dtype):
    info = np.finfo(dtype)
    edges = [
        info.tiny,
        info.tiny / 8,
        info.smallest_subnormal,
        info.max,
        info.max / 3,
        1 / info.max,
    ]
    bits = RNG.integers(0, 2 ** (8 * dtype.itemsize), (2, 400), f"u{dtype.itemsize}").view(dtype)
    rest = np.array([*SPECIAL, *edges, *RNG.normal(size=300)], dtype)
    x, y = (np.concatenate([rest, row]) for row in bits)
    with np.errstate(all="ignore"):
        want = x[None, :] / y[:, None]
    got = np.asarray(ft.jit(lambda x, y: x[None, :] / y[:, None])(x, y))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    normal = (np.abs(want) >= info.tiny) & (np.abs(y) < info.max / 4)[:, None]
    normal &= (np.abs(want) < info.max) & (np.abs(x) > info.tiny / info.eps)[None, :]
    np.testing.assert_array_equal(got[normal], want[normal])
    wide = np.isfinite(want)
    with np.errstate(all="ignore"):
        error = np.abs(got[wide] - want[wide]) / np.spacing(np.abs(want[wide]))
    assert error.max() <= 1
    np.testing.assert_array_equal(got[~wide], want[~wide])


@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_integers_are_divided_as_floats_exactly(name):
    dtype = np.dtype(name)
    info = np.iinfo(dtype)
    edges = np.array([0, 1, 2, 3, 7, info.max, info.max - 1, info.min, info.max // 2 + 1], dtype)
    x, y = (
        np.concatenate([edges, RNG.integers(info.min, info.max, 500, dtype, endpoint=True)])
        for _ in range(2)
    )
    if info.min < 0:
        y[-1] = -1
    x = np.concatenate([x, y[:200] * x[200:400], y[:200] * x[200:400] - dtype.type(1)])
    assert "div_in_floats" in names(lax.div, (40,), (40,), dtype=dtype)
    args = [fnp.asarray(a.copy()) for a in np.broadcast_arrays(x[:, None], y)]
    for f in (lax.div, lax.rem):
        np.testing.assert_array_equal(np.asarray(ft.jit(f)(*args)), np.asarray(f(*args)))
    some = y != 0
    for f in (lambda x, y: x // y, lambda x, y: x % y):
        got, want = (np.asarray(g(*args))[:, some] for g in (ft.jit(f), f))
        np.testing.assert_array_equal(got, want)


# ---------------------------------------------------------------------- blocks of short rows
def norm_and_entropy(sizes, inner, dtype=F32):
    """Return a kernel of three stages with kept exponentials, a logarithm and a root of rows."""
    rows = [k for k, r in enumerate(inner) if not r]
    body = (
        loaded(sizes, dtype=dtype),
        Op("reduce", (0,), dtype, "reduce_max"),
        Op("sub", (0, 1), dtype),
        Op("exp", (2,), dtype),
        Op("reduce", (3,), dtype, "reduce_sum"),
        Op("log", (4,), dtype),
        Op("sub", (2, 5), dtype),
        Op("div", (3, 4), dtype),
        Op("mul", (6, 7), dtype),
        Op("reduce", (8,), dtype, "reduce_min"),
        Op("sqrt", (4,), dtype),
        Op("add", (9, 10), dtype),
        Op("mul", (8, 11), dtype),
    )
    stores = (
        Store(1, 12, place(sizes)),
        Store(2, 6, place(sizes)),
        Store(3, 11, place(sizes, rows)),
    )
    return Kernel("k", sizes, inner, (dtype,) * 4, body, stores)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize(
    ("sizes", "inner"),
    [
        ((300, 33), (False, True)),
        ((6, 50, 17), (False, False, True)),
        ((9, 40, 3, 11), (False, False, True, True)),
        ((5, 8, 7, 20), (False, True, False, True)),
        ((2100, 10), (False, True)),
    ],
    ids=str,
)
def test_blocks_of_rows_mean_the_same(sizes, inner, dtype):
    kernel = norm_and_entropy(sizes, inner, dtype)
    n, length = (
        int(np.prod([s for s, r in zip(sizes, inner, strict=True) if r or all_]))
        for all_ in (True, False)
    )
    x = RNG.normal(size=n).astype(dtype)
    buffers = [x, np.zeros(n, dtype), np.zeros(n, dtype), np.zeros(n // length, dtype)]
    check_printed(kernel, buffers, 1e-4)


def test_totals_of_blocks_of_rows_are_those_of_numpy():
    sizes = (700, 24)
    kernel = norm_and_entropy(sizes, (False, True))
    stores = (*kernel.stores, Store(4, 12, place(sizes, [1]), None, "reduce_sum"))
    kernel = Kernel("k", sizes, (False, True), (F32,) * 5, kernel.body, stores)
    x = RNG.normal(size=700 * 24).astype(F32)
    out = [np.zeros(n, F32) for n in (x.size, x.size, 700, 24)]
    assert check_printed(kernel, [x, *out], 1e-4).parts > 1
