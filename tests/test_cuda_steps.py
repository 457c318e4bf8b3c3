"""What is no kernel of loops: products, convolutions, running values and sorts as CUDA C++."""

import itertools
from types import SimpleNamespace

import cuda_shim
import numpy as np
import pytest
from test_cuda_kernels import EVERY, compiled, needs_gxx, needs_nvrtc
from test_kernels import steps

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.backends.cuda.scans import print_running
from funtorch.backends.cuda.sorting import print_sort
from funtorch.backends.cuda.tiles import print_convs, print_dot
from funtorch.backends.plan import Conv, Dot

F32, F64, I32 = map(np.dtype, ("float32", "float64", "int32"))
RNG = np.random.default_rng(8)


def convolved(**params):
    given = {"window_strides": (1, 1), "padding": "SAME", **params}
    return lambda x, w: lax.conv_general_dilated(x, w, **given)


def by_windows(x, y):
    return lax.conv_general_dilated(x, y, (1,), [(4, 0)])


PRODUCTS = {  # function, shapes, dtype
    "plain": (lambda a, b: a @ b, ((70, 33), (33, 90)), F32),
    "turned": (lambda a, b: a.T @ b.T, ((33, 70), (90, 33)), F32),
    "double": (lambda a, b: a @ b, ((7, 130), (130, 5)), F64),
    "large tiles": (lambda a, b: a @ b, ((256, 40), (40, 513)), F32),
    "long sums": (lambda a, b: a @ b, ((20, 5000), (5000, 30)), F32),
    "integers": (lambda a, b: a @ b, ((20, 50), (50, 30)), I32),
    "bytes": (
        lambda a, b: lax.dot(a, b, preferred_element_type=I32),
        ((20, 50), (50, 30)),
        np.dtype("i1"),
    ),
    "batch": (lambda a, b: a @ b, ((3, 20, 50), (3, 50, 30)), F32),
    "heads": (lambda q, k: fnp.einsum("bthd,bshd->bhts", q, k), ((2, 9, 4, 8), (2, 11, 4, 8)), F32),
    "convolution": (convolved(), ((2, 3, 9, 10), (5, 3, 3, 3)), F32),
    "with steps and gaps": (
        convolved(window_strides=(2, 1), padding=((0, 2), (1, 3)), rhs_dilation=(2, 1)),
        ((2, 3, 12, 10), (5, 3, 3, 2)),
        F64,
    ),
    "groups": (convolved(feature_group_count=2), ((2, 4, 9, 10), (6, 2, 3, 3)), F32),
    "transposed": (
        convolved(lhs_dilation=(2, 2), padding=((1, 2), (2, 1))),
        ((2, 3, 5, 6), (4, 3, 3, 3)),
        F32,
    ),
    "one axis": (by_windows, ((2, 20, 300), (20, 20, 5)), F32),
    "gradient of x": (
        lambda w, c: ft.vjp(lambda x: convolved(window_strides=(2, 2))(x, w), c[:, :3])[1](
            convolved(window_strides=(2, 2))(c[:, :3], w)
        )[0],
        ((5, 3, 3, 3), (4, 5, 9, 10)),
        F32,
    ),
    "gradient of weights": (
        lambda x, c: ft.vjp(lambda w: convolved()(x, w), c[:5, :3, :3, :3])[1](
            convolved()(x, c[:5, :3, :3, :3])
        )[0],
        ((4, 3, 9, 10), (5, 5, 9, 10)),
        F32,
    ),
}


def products():
    """Yield (label, code, operands, result wanted) of steps that are alone in their programs."""
    for name, (f, shapes, dtype) in PRODUCTS.items():
        found = [s for s in steps(f, *shapes, dtype=dtype) if isinstance(s, (Dot, Conv))]
        for step in found:
            a, b = (step.a, step.b) if isinstance(step, Dot) else (step.lhs, step.rhs)
            x, y = (
                RNG.integers(-9, 9, v.aval.shape).astype(v.aval.dtype)
                if np.dtype(dtype).kind == "i"
                else RNG.normal(size=v.aval.shape).astype(v.aval.dtype)
                for v in (a, b)
            )
            yield f"{name} {type(step).__name__}", step, x, y


def dot_wanted(step, x, y):
    """Return a product by its places."""
    sizes = (step.batches, step.rows, step.sums, (step.n,))
    counts = [len(s) for s in sizes]
    letters = iter("abcdefghijklmnop")
    b, r, s, n = ("".join(next(letters) for _ in range(k)) for k in counts)

    def view(flat, where, names):
        size = dict(zip(b + r + s + n, itertools.chain(*sizes), strict=True))
        strides = [k * flat.itemsize for k in where.strides]
        at = flat.reshape(-1)[where.offset :]
        return np.lib.stride_tricks.as_strided(at, [size[c] for c in names], strides)

    wide = [view(x, step.places[0], b + r + s), view(y, step.places[1], b + s + n)]
    out = np.zeros(step.out.aval.shape, step.out.aval.dtype)
    target = view(out, step.places[2], b + r + n)
    wide = [x.astype(out.dtype) for x in wide]
    target[...] = np.einsum(f"{b + r + s},{b + s + n}->{b + r + n}", *wide, optimize=True)
    return out


def conv_wanted(step, x, w):
    """Return a convolution by its parts, a sum over the window."""
    out = np.zeros(step.out.aval.size, np.float64)
    x, w = x.reshape(-1).astype(F64), w.reshape(-1).astype(F64)
    for c in step.parts:
        grid = np.indices((c.batch, c.groups, c.outs, *c.places)).reshape(3 + len(c.places), -1)
        b, g, o, *p = grid
        total = np.zeros(grid.shape[1])
        for i, *k in np.ndindex(c.features, *c.window):
            at = [
                q * s + t * d - low
                for q, s, t, d, low in zip(p, c.strides, k, c.dilation, c.low, strict=True)
            ]
            inside = np.ones(grid.shape[1], bool)
            for one, n in zip(at, c.space, strict=True):
                inside &= (one >= 0) & (one < n)
            xs = c.x.offset + sum(s * q for s, q in zip(c.x.strides, (b, g, i, *at), strict=True))
            ws = c.w.offset + sum(s * q for s, q in zip(c.w.strides, (g, o, i, *k), strict=True))
            total += np.where(inside, x[np.where(inside, xs, 0)], 0) * w[ws]
        out[c.y.offset + sum(s * q for s, q in zip(c.y.strides, (b, g, o, *p), strict=True))] = (
            total
        )
    return out.reshape(step.out.aval.shape)


def printed_products():
    for k, (label, step, x, y) in enumerate(products()):
        if isinstance(step, Dot):
            yield label, step, x, y, [print_dot(step, f"f{k}")]
        else:
            dtype = step.out.aval.dtype
            parts = [print_convs((c,), dtype, f"f{k}_{j}") for j, c in enumerate(step.parts)]
            yield label, step, x, y, parts


@needs_gxx
def test_products_and_convolutions_in_tiles():
    made = list(printed_products())
    assert len(made) >= len(PRODUCTS)
    module = cuda_shim.load([code for *_, codes in made for code in codes])
    launches = {label: len(codes[0].launches) for label, *_, codes in made}
    assert launches["long sums Dot"] == 2
    assert launches["plain Dot"] == 1
    for label, step, x, y, codes in made:
        want = (dot_wanted if isinstance(step, Dot) else conv_wanted)(step, x, y)
        first = None
        for order in cuda_shim.ORDERS:
            out = np.zeros(step.out.aval.shape, step.out.aval.dtype)
            for code in codes:
                module.run(code, [x, y, out], order)
            tol = {F32: 2e-4, F64: 1e-10, I32: 0}[out.dtype]
            np.testing.assert_allclose(out, want, rtol=tol, atol=tol, err_msg=label)
            assert first is None or first == out.tobytes(), label
            first = out.tobytes()


# ---------------------------------------------------------------------- running values
def variable(x):
    return SimpleNamespace(aval=SimpleNamespace(dtype=x.dtype, shape=x.shape, size=x.size))


_RUNNING = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}


def running():
    """Yield (label, code, operand, result wanted)."""
    shapes = ((3, 70), (2, 5000), (1, 20_000), (300, 1000))
    kinds = (("sum", "f4"), ("max", "f8"), ("prod", "i4"), ("min", "f4"), ("sum", "u1"))
    cases = list(itertools.product(shapes, kinds, (False, True)))
    for k, ((rows, n), (name, dtype), reverse) in enumerate(cases if EVERY else cases[::4]):
        x = RNG.integers(-2, 3, (rows, n)).astype(dtype)
        if name in ("max", "min"):
            x = RNG.normal(size=x.shape).astype(dtype)
            x[0, n // 2] = np.nan
        step = SimpleNamespace(out=variable(x), rows=rows, n=n, name=name, reverse=reverse)
        turned = x[:, ::-1] if reverse else x
        want = _RUNNING[name].accumulate(turned, 1, dtype=x.dtype)
        want = want[:, ::-1] if reverse else want
        yield f"{name} {dtype} {x.shape}", print_running(step, f"f{k}"), x, want


# ---------------------------------------------------------------------- sorts
def sorts():
    """Yield (label, code, operand, result wanted)."""
    shapes = ((5, 20), (700, 7), (3, 100), (2, 2048), (2, 2049), (1, 9000))
    kinds = ("u1", "u2", "u4", "u8")
    cases = list(itertools.product(shapes, kinds, ("plain", "tie", "places")))
    for k, ((rows, n), dtype, mode) in enumerate(cases if EVERY else cases[::5]):
        bits = 8 * np.dtype(dtype).itemsize
        x = RNG.integers(0, 2**bits - 1, (rows, n), dtype=dtype, endpoint=True)
        low, high, tie = 0, bits, None
        want = np.sort(x, 1)
        if mode == "tie":
            tie = (1 << (bits - 1)) - 1
            x[:, ::3], x[:, 1::3] = tie, tie + 1
            order = np.argsort(np.where(x == tie + 1, x.dtype.type(tie), x), 1, kind="stable")
            want = np.take_along_axis(x, order, 1)
        elif mode == "places" and bits >= 32:
            low = (n - 1).bit_length()
            high = low + 11
            keys = RNG.integers(0, 1 << 11, (rows, n)).astype(dtype) << x.dtype.type(low)
            x = keys | np.arange(n, dtype=dtype)
            want = np.sort(x, 1)
        step = SimpleNamespace(out=variable(x), rows=rows, n=n, low=low, high=high, tie=tie)
        yield f"{mode} {dtype} {x.shape}", print_sort(step, f"f{k}"), x, want


@needs_gxx
@pytest.mark.parametrize("family", [running, sorts])
def test_rows_are_as_numpy_makes_them(family):
    made = list(family())
    module = cuda_shim.load([code for _, code, _, _ in made])
    for k, (label, code, x, want) in enumerate(made):
        orders = list(cuda_shim.ORDERS)
        for order in orders if EVERY else [orders[k % 3]]:
            out = np.zeros_like(x)
            module.run(code, [x, out], order)
            if x.dtype.kind == "f":
                np.testing.assert_allclose(out, want, rtol=1e-6, err_msg=label)
            else:
                np.testing.assert_array_equal(out, want, label)


@needs_nvrtc
def test_nvrtc_compiles_all_of_them():
    each = [codes[0] for *_, codes in printed_products()]
    compiled(each if EVERY else each[::3])
    compiled(code for _, code, _, _ in running())
    compiled(code for _, code, _, _ in list(sorts())[:: 1 if EVERY else 4])
