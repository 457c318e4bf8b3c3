"""Functions that NumPy does not have as they are here: sizes, windows, segments, functions."""

import io
import pickle

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

RNG = np.random.default_rng(0)
A, B = np.array([3, 1, 2, 2, 5]), np.array([2, 5, 7, 7])
ROWS = np.array([[1, 2], [1, 2], [0, 5], [3, 1]])


def lists(x):
    return [v.tolist() for v in x] if isinstance(x, tuple) else x.tolist()


# what JAX gives: (call, sized result)
SIZED = {
    "intersect1d": (lambda a, b, **k: fnp.intersect1d(a, b, **k), [2, 5, 2, 2, 2, 2]),
    "union1d": (lambda a, b, **k: fnp.union1d(a, b, **k), [1, 2, 3, 5, 7, 1]),
    "setdiff1d": (lambda a, b, **k: fnp.setdiff1d(a, b, **k), [1, 3, 0, 0, 0, 0]),
    "setxor1d": (lambda a, b, **k: fnp.setxor1d(a, b, **k), [1, 3, 7, 1, 1, 1]),
}


@pytest.mark.parametrize("name", SIZED)
def test_sets_of_fixed_size(name):
    call, want = SIZED[name]
    a, b = fnp.asarray(A), fnp.asarray(B)
    plain = getattr(np, name)(A, B).tolist()
    assert call(a, b).tolist() == plain
    assert ft.jit(lambda a, b: call(a, b, size=6))(a, b).tolist() == want
    filled = ft.jit(lambda a, b: call(a, b, size=6, fill_value=-1))(a, b)
    assert filled.tolist() == (plain + [-1] * 6)[:6]
    assert call(a, b, size=1).tolist() == plain[:1]


def test_indices_of_what_is_shared():
    found = fnp.intersect1d(fnp.asarray(A), fnp.asarray(B), return_indices=True, size=4)
    assert lists(found) == [[2, 5, 2, 2], [2, 4, 5, 5], [0, 1, 4, 4]]


def test_unique_rows_of_fixed_size():
    options = {"return_index": True, "return_inverse": True, "return_counts": True}

    @ft.jit
    def find(x):
        return fnp.unique(x, axis=0, size=5, fill_value=9, **options)

    values, *rest = find(fnp.asarray(ROWS))
    assert values.tolist() == [[0, 5], [1, 2], [3, 1], [9, 9], [9, 9]]
    assert lists(tuple(rest)) == [[2, 0, 3, 2, 2], [1, 1, 0, 2], [1, 2, 1, 0, 0]]
    everything = fnp.unique_all(fnp.asarray(ROWS), size=6)
    assert everything.values.tolist() == [0, 1, 2, 3, 5, 0]
    assert everything.inverse_indices.shape == ROWS.shape


def test_functions_that_write_return_copies():
    x = fnp.asarray(A)
    assert fnp.put(x, fnp.asarray([0, 9]), [7, 8], inplace=False).tolist() == [7, 1, 2, 2, 8]
    assert fnp.put(x, fnp.asarray([6]), 9, mode="wrap", inplace=False).tolist() == [3, 9, 2, 2, 5]
    assert fnp.place(x, x > 2, [10, 20], inplace=False).tolist() == [10, 1, 2, 2, 20]
    for shape, wrap in (((3, 2), False), ((5, 2), False), ((5, 2), True), ((3, 3, 3), False)):
        want = np.zeros(shape)
        np.fill_diagonal(want, [1, 2], wrap=wrap)
        got = fnp.fill_diagonal(fnp.zeros(shape), [1, 2], wrap=wrap, inplace=False)
        assert got.tolist() == want.tolist()
    with pytest.raises(ValueError, match="place: arrays are immutable: pass inplace=False"):
        fnp.place(x, x > 2, [1])


def test_grids():
    for name in ("mgrid", "ogrid"):
        for key in (np.s_[0:3, 0:2], np.s_[0:1:3j], np.s_[1:7:2], np.s_[0:1:3j, 0:4]):
            got, want = getattr(fnp, name)[key], getattr(np, name)[key]
            for g, w in zip(got, want, strict=True):
                np.testing.assert_allclose(np.asarray(g), w, rtol=1e-6)
    for key in (
        np.s_[1:4, 7, A], np.s_["0,2", 1:3, 3:5], np.s_["r", [1, 2], [3]], np.s_["c", [1], [3]],
        np.s_["0,3,1", [1, 2], [3, 4]], np.s_["-1", [1, 2], [3]], np.s_[1:2:5j],
    ):  # fmt: skip
        np.testing.assert_allclose(np.asarray(fnp.r_[key]), np.asarray(np.r_[key]), rtol=1e-6)
    assert fnp.c_[A, A].tolist() == np.c_[A, A].tolist()
    assert ft.jit(lambda x: fnp.r_[x, 1:3])(fnp.asarray(A)).tolist() == [*A, 1, 2]
    with pytest.raises(TypeError, match="mgrid is indexed with slices"):
        fnp.mgrid[3]
    with pytest.raises(ValueError, match="'up' is no directive"):
        fnp.r_["up", 1]


PAD_MODES = {
    "constant": [{}, {"constant_values": ((1, 2), (3, 4))}], "edge": [{}],
    "reflect": [{}, {"reflect_type": "odd"}], "symmetric": [{}, {"reflect_type": "odd"}],
    "wrap": [{}], "linear_ramp": [{"end_values": ((1.0, 2.0), (3.0, 4.0))}],
    "maximum": [{}, {"stat_length": 2}], "minimum": [{}],
    "mean": [{"stat_length": ((1, 2), (3, 1))}],
    "median": [{"stat_length": 3}],
}  # fmt: skip


@pytest.mark.parametrize("mode", PAD_MODES)
def test_pad(mode):
    x = RNG.normal(size=(3, 4))
    for options in PAD_MODES[mode]:
        for widths in (1, (2, 3), ((1, 0), (2, 5)), ((0, 0), (9, 1))):
            want = np.pad(x, widths, mode, **options)
            got = fnp.pad(fnp.asarray(x), widths, mode, **options)
            np.testing.assert_allclose(np.asarray(got), want, atol=1e-12)
        staged = ft.jit(lambda x, o=options: fnp.pad(x, (2, 3), mode, **o))(x)
        np.testing.assert_allclose(staged, np.pad(x, (2, 3), mode, **options), atol=1e-12)
    with pytest.raises(ValueError, match="does not take"):
        fnp.pad(x, 1, mode, nothing=1)


def test_files_and_text():
    file = io.BytesIO()
    fnp.save(file, fnp.asarray(A, "bfloat16"))
    file.seek(0)
    back = fnp.load(file)
    assert (back.tolist(), str(back.dtype)) == (A.tolist(), "bfloat16")
    assert fnp.array_repr(fnp.asarray(A)) == f"Array({A.tolist()}, dtype=int64)"
    assert fnp.array_str(fnp.asarray([0.12345]), precision=2) == "[0.12]"
    assert fnp.iterable([1])
    assert not fnp.iterable(1)


# -------------------------------------------------------------------------- functions of functions
def test_vectorize():
    a, v = RNG.normal(size=(5, 1, 2, 3)), RNG.normal(size=(4, 3))
    product = fnp.vectorize(lambda a, v: a @ v, signature="(m,n),(n)->(m)")
    want = np.vectorize(lambda a, v: a @ v, signature="(m,n),(n)->(m)")(a, v)
    for f in (product, ft.jit(product)):
        np.testing.assert_allclose(np.asarray(f(a, v)), want)
    plus = fnp.vectorize(lambda x, y, z=0: (x + y + z, x), excluded={1})
    assert [p.shape for p in plus(fnp.ones(3), 2, z=fnp.ones((2, 1)))] == [(2, 3), (2, 3)]
    assert fnp.vectorize(fnp.add)(1, fnp.ones((1, 1))).shape == (1, 1)
    with pytest.raises(ValueError, match="axis 'n' of the signature has size 3"):
        product(a, v[:, :2])
    with pytest.raises(ValueError, match=r"not of the form '\(m,n\),\(n\)->\(m\)'"):
        fnp.vectorize(len, signature="m->n")
    with pytest.raises(ValueError, match="result 0 has shape"):
        fnp.vectorize(lambda x: x, signature="(n)->()")(a)


def test_along_axes():
    x = RNG.normal(size=(2, 3, 4))

    def ends(xp):
        return lambda v: xp.stack([v.sum(), v.max()])

    for axis in (0, 1, -1):
        want = np.apply_along_axis(ends(np), axis, x)
        got = ft.jit(lambda x, k=axis: fnp.apply_along_axis(ends(fnp), k, x))(x)
        np.testing.assert_allclose(np.asarray(got), want)
    np.testing.assert_allclose(
        np.asarray(fnp.apply_over_axes(fnp.sum, x, [0, 2])), np.apply_over_axes(np.sum, x, [0, 2])
    )


def test_own_ufuncs():
    f = fnp.frompyfunc(lambda x, y: 2 * x + y, 2, 1, identity=0)
    want = np.frompyfunc(lambda x, y: 2 * x + y, 2, 1)
    x = RNG.integers(1, 5, (3, 4))
    y = fnp.asarray(x)
    assert (f.nin, f.nout, f.identity) == (2, 1, 0)
    for axis in (0, 1):
        # From the identity on: f(0, first) is the first element here.
        assert f.reduce(y, axis).tolist() == want.reduce(x, axis).tolist()
        assert f.accumulate(y, axis).tolist() == want.accumulate(x, axis).tolist()
    assert f.outer(y[0], y[1]).tolist() == want.outer(x[0], x[1]).tolist()
    assert f.at(fnp.zeros(3), fnp.asarray([0, 0, 1]), 1.0, inplace=False).tolist() == [3, 1, 0]
    assert pickle.loads(pickle.dumps(fnp.add)) is fnp.add
    assert repr(fnp.add) == "<funtorch.numpy.ufunc 'add'>"
    assert ft.grad(lambda x: fnp.hypot.reduce(x))(
        fnp.asarray([3.0, 4.0])
    ).tolist() == pytest.approx([0.6, 0.8])
    with pytest.raises(TypeError, match="add takes 2 arguments, got 1"):
        fnp.add(1)


def test_apply_as_often_as_indexed():
    x, i = fnp.ones(3), fnp.asarray([0, 0, 7, -1])
    want = [4.0, 1.0, 2.0]
    assert x.at[i].apply(lambda v: 2 * v).tolist() == want
    assert ft.jit(lambda x, i: x.at[i].apply(lambda v: 2 * v))(x, i).tolist() == want
    assert x.at[1:].apply(fnp.exp)[0] == 1
    assert ft.grad(lambda x: x.at[i].apply(lambda v: v**2).sum())(x + 1).tolist() == [32, 1, 4]


def test_gcd_lcm_under_transforms():
    x, y = np.array([12, 18, 0, -4, 2**40]), np.array([8, 27, 5, 6, 2**35])
    for name in ("gcd", "lcm"):
        got = ft.jit(ft.vmap(getattr(fnp, name)))(x, y)
        assert got.tolist() == getattr(np, name)(x, y).tolist()
    with pytest.raises(TypeError, match=r"gcd: x1 and x2 must be integers"):
        fnp.gcd(1.5, 2)


# ---------------------------------------------------------------------------------- lax, jax.ops
def reference_gather(x, starts, numbers, sizes, mode):
    """Read windows one by one."""
    offset, collapsed, index_map = numbers
    out = []
    for start in starts.reshape(-1, starts.shape[-1]):
        full = np.zeros(x.ndim, int)
        full[list(index_map)] = start
        last = np.array(x.shape) - sizes
        fine = ((full >= 0) & (full <= last)).all()
        full = np.clip(full, 0, last)
        window = x[tuple(slice(k, k + n) for k, n in zip(full, sizes, strict=True))]
        window = window if fine or mode == "clip" else np.full_like(window, np.nan)
        out.append(np.squeeze(window, tuple(collapsed)))
    out = np.stack(out).reshape(starts.shape[:-1] + out[0].shape)
    lead = starts.ndim - 1
    return np.moveaxis(out, range(lead, out.ndim), offset)


@pytest.mark.parametrize("mode", ["clip", "fill"])
@pytest.mark.parametrize(
    ("numbers", "sizes", "count"),
    [
        (((1,), (0,), (0,)), (1, 4), 1),
        (((0, 2), (), (0, 1)), (2, 3), 2),
        (((), (0, 1), (1, 0)), (1, 1), 2),
        (((1, 2), (), (1,)), (3, 2), 1),
    ],
)
def test_gather_and_scatter(numbers, sizes, count, mode):
    x = RNG.normal(size=(3, 4))
    starts = RNG.integers(-1, 5, (5, count))
    want = reference_gather(x, starts, numbers, sizes, mode)

    def read(x):
        return lax.gather(x, starts, lax.GatherDimensionNumbers(*numbers), sizes, mode=mode)

    for f in (read, ft.jit(read)):
        np.testing.assert_array_equal(np.asarray(f(x)), want)
    # scatter_add is its transpose.
    updates = RNG.normal(size=want.shape)
    back = lax.scatter_add(
        fnp.zeros(x.shape, float).astype(x.dtype), starts, updates,
        lax.ScatterDimensionNumbers(*numbers), mode=mode,
    )  # fmt: skip
    left = np.sum(np.asarray(back) * x)
    assert left == pytest.approx(np.nansum(want * updates))
    (grad,) = ft.vjp(lambda x: fnp.nan_to_num(read(x)), x)[1](fnp.asarray(updates))
    np.testing.assert_allclose(np.asarray(grad), np.asarray(back))


def test_gather_with_batches_and_mistakes():
    x, i = RNG.normal(size=(3, 4)), np.array([[1], [3], [0]])
    numbers = lax.GatherDimensionNumbers((), (1,), (1,), (0,), (0,))
    got = lax.gather(x, i, numbers, (1, 1))
    np.testing.assert_array_equal(np.asarray(got), x[np.arange(3), i[:, 0]])
    with pytest.raises(TypeError, match="must hold 1 starts"):
        lax.gather(x, np.zeros((3, 2), int), numbers, (1, 1))
    with pytest.raises(TypeError, match=r"windows of sizes \(1, 9\) do not fit"):
        lax.gather(x, i, numbers, (1, 9))
    with pytest.raises(TypeError, match="must be a GatherDimensionNumbers"):
        lax.gather(x, i, None, (1, 1))
    with pytest.raises(ValueError, match="mode must be a GatherScatterMode or one of 'clip'"):
        lax.gather(x, i, numbers, (1, 1), mode="wrap")


def test_ragged_dot():
    x, y, sizes = RNG.normal(size=(7, 3)), RNG.normal(size=(3, 3, 5)), np.array([2, 0, 4])
    group = np.array([0, 0, 2, 2, 2, 2])
    want = np.zeros((7, 5))
    want[:6] = np.einsum("mk,mkn->mn", x[:6], y[group])
    np.testing.assert_allclose(np.asarray(lax.ragged_dot(x, y, sizes)), want, atol=1e-12)
    numbers = lax.RaggedDotDimensionNumbers((((0,), (0,)), ((), ())), [0], [])
    z = RNG.normal(size=(7, 5))
    got = lax.ragged_dot_general(x, z, sizes, numbers)
    want = [x[:2].T @ z[:2], np.zeros((3, 5)), x[2:6].T @ z[2:6]]
    np.testing.assert_allclose(np.asarray(got), want, atol=1e-12)


def test_mulhi():
    for dtype in ("int8", "uint8", "int32", "uint32", "int64", "uint64"):
        info = np.iinfo(dtype)
        a, b = RNG.integers(info.min, info.max, (2, 20), dtype=dtype, endpoint=True)
        want = [(int(p) * int(q)) >> (8 * a.itemsize) for p, q in zip(a, b, strict=True)]
        assert lax.mulhi(fnp.asarray(a), fnp.asarray(b)).tolist() == want


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min"])
def test_segments(name):
    data, ids = RNG.normal(size=(8, 2)), np.array([0, 2, 1, 1, 5, -1, 2, 0])
    segment = getattr(ft.ops, f"segment_{name}")
    reduce = getattr(np, name)
    empty = {"sum": 0.0, "prod": 1.0, "max": -np.inf, "min": np.inf}[name]

    def want(n):
        rows = [data[ids == k] for k in range(n)]
        return [reduce(r, 0) if len(r) else np.full(2, empty) for r in rows]

    np.testing.assert_allclose(np.asarray(segment(data, ids)), want(6))
    for options in ({}, {"bucket_size": 3}):
        got = ft.jit(lambda d, i, o=options: segment(d, i, 4, **o))(data, ids)
        np.testing.assert_allclose(np.asarray(got), want(4))
    grad = ft.grad(lambda d: segment(d, ids, 3).sum())(data)
    assert grad.shape == data.shape
    with pytest.raises(ValueError, match="one number for each row of data"):
        segment(data, ids[:3])


@pytest.mark.parametrize(
    "method", ["nearest", "linear", "cubic", "lanczos3", "cubic-pytorch", "area"]
)
def test_resize_keeps_what_it_should(method):
    flat = fnp.ones((4, 6))
    for shape in ((8, 6), (2, 3), (5, 9)):
        np.testing.assert_allclose(np.asarray(ft.image.resize(flat, shape, method)), 1, rtol=1e-5)
    x = RNG.normal(size=(4, 6))
    np.testing.assert_array_equal(np.asarray(ft.image.resize(x, (4, 6), method)), x)
    assert ft.jit(lambda x: ft.image.resize(x, (2, 12), method))(x).shape == (2, 12)


def test_resize_and_move():
    got = ft.image.resize(fnp.asarray([0.0, 2.0]), (4,), "linear")
    assert got.tolist() == [0.0, 0.5, 1.5, 2.0]
    move = ft.image.scale_and_translate
    shifted = move(fnp.arange(4.0), (4,), (0,), fnp.ones(1), fnp.ones(1), "linear")
    assert shifted.tolist() == [0.0, 0.0, 1.0, 2.0]
    with pytest.raises(ValueError, match="method must be one of 'nearest'"):
        ft.image.resize(fnp.ones(3), (2,), "best")
    with pytest.raises(ValueError, match=r"shape \(2, 2\) must have as many axes"):
        ft.image.resize(fnp.ones(3), (2, 2), "linear")


def test_parts_that_are_made_first_are_made_in_order():
    """A kernel that grew too long reads a value, and another one that is made of that value."""

    def program(x):
        for axis in (0, 0, 1, 1):
            ends = [lax.slice_in_dim(x, k, k + 1, axis=axis) for k in (0, 1)]
            x = fnp.concatenate([2 * ends[0] - ends[1], x], axis)
        return x

    x = fnp.asarray(RNG.normal(size=(3, 4)))
    np.testing.assert_allclose(np.asarray(ft.jit(program)(x)), np.asarray(program(x)))


@pytest.mark.parametrize("precision", ["nonsense", 3, ("high",), "HIGH", ("high", "low")])
@pytest.mark.parametrize("name", ["matmul", "tensordot", "vdot", "convolve", "lax.dot", "einsum"])
def test_precision_must_make_sense(name, precision):
    x = fnp.ones(3)
    space, f = ft.lax if "lax" in name else fnp, name.rpartition(".")[2]
    args = ("i,i", x, x) if f == "einsum" else (x, x, 1) if f == "tensordot" else (x, x)
    with pytest.raises(ValueError, match=f"{f}: precision must be None, one of .*; got"):
        getattr(space, f)(*args, precision=precision)


@pytest.mark.parametrize(
    "precision", [None, "highest", ("high", None), "BF16_BF16_F32", ft.lax.Precision.HIGH]
)
def test_precision_has_no_effect(precision):
    x = fnp.ones((3, 3)) / 3
    np.testing.assert_array_equal(fnp.matmul(x, x, precision=precision), x @ x)


@pytest.mark.parametrize("shape", [(0, 2, -1), (-1, 0), (-1, -1, 0)])
def test_reshape_of_nothing_cannot_work_out_a_size(shape):
    with pytest.raises(ValueError, match=r"reshape: float32\[0,6\] of size 0 does not fit"):
        fnp.ones((0, 6)).reshape(shape)
    assert fnp.ones((0, 6)).reshape(-1, 6).shape == (0, 6)
