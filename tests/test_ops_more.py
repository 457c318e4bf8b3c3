"""Contraction, indexing, sorting, bits and linear algebra: every rule of their primitives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from attention_rows import attention_rows
from linalg_rows import linalg_rows
from op_table import compare_compiled

from funtorch.core import ArrayImpl, aval_of
from funtorch.jaxpr import stage
from funtorch.ops import bits, contract, fft, indexing, linalg, marks, rounding, sort
from funtorch.ops.elementwise import add, conj, mul
from funtorch.ops.shape import transpose
from funtorch.transforms import jvp, vjp, vmap

rng = np.random.default_rng(7)


class Case(NamedTuple):
    """One call: ``fn`` of arrays, the arrays, which to differentiate, the expected result."""

    name: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    diff: tuple[int, ...]
    reference: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        return self.name


def normal(*shape: int) -> np.ndarray:
    return rng.normal(size=shape)


def complexes(*shape: int) -> np.ndarray:
    return normal(*shape) + 1j * normal(*shape)


def arrays(xs: Sequence[Any]) -> list[ArrayImpl]:
    return [ArrayImpl(np.asarray(x)) for x in xs]


def outputs(out: Any) -> list[np.ndarray]:
    return [np.asarray(o._data) for o in (out if isinstance(out, (list, tuple)) else [out])]


# ------------------------------------------------------------------------------ the cases
def dot(a: Any, b: Any, contracted: Any, batch: Any = ((), ())) -> Any:
    return contract.dot_general(a, b, dimension_numbers=(contracted, batch), out_dtype=None)


def dot_case(
    sa: tuple[int, ...],
    sb: tuple[int, ...],
    subscripts: str,
    contracted: Any,
    batch: Any = ((), ()),
) -> Case:
    return Case(
        f"dot_general-{subscripts}",
        lambda a, b: dot(a, b, contracted, batch),
        (normal(*sa), normal(*sb)),
        (0, 1),
        lambda a, b: np.einsum(subscripts, a, b),
    )


DOTS = [
    dot_case((3, 4), (4, 5), "ij,jk->ik", ((1,), (0,))),
    dot_case((4, 3), (5, 4), "ji,kj->ik", ((0,), (1,))),
    dot_case((4,), (4,), "j,j->", ((0,), (0,))),
    dot_case((3, 4), (4,), "ij,j->i", ((1,), (0,))),
    dot_case((4,), (5, 4), "j,kj->k", ((0,), (1,))),
    dot_case((), (), ",->", ((), ())),
    dot_case((3,), (4,), "i,j->ij", ((), ())),
    dot_case((2, 3, 4), (2, 4, 5), "bij,bjk->bik", ((2,), (1,)), ((0,), (0,))),
    dot_case((3, 2, 4, 6), (6, 5, 2, 3), "ibcj,jkbi->bck", ((3, 0), (0, 3)), ((1,), (2,))),
    dot_case((2, 3, 4), (3, 2, 4), "abi,bai->ab", ((2,), (2,)), ((0, 1), (1, 0))),
    dot_case((0, 3), (3, 4), "ij,jk->ik", ((1,), (0,))),
    dot_case((3, 0), (0, 4), "ij,jk->ik", ((1,), (0,))),
    Case(
        "dot_general-strided",
        lambda a, b: dot(a, b, ((1,), (0,))),
        (normal(6, 8)[::2, ::2], normal(5, 4).T),
        (0, 1),
        np.matmul,
    ),
]


def whole(n: int, *shape: int, low: int = 0) -> np.ndarray:
    return rng.integers(low, n, shape).astype(np.int32)


def gather_reference(axes: tuple[int, ...], mode: str) -> Callable[..., Any]:
    def reference(x: Any, *indices: Any) -> Any:
        moved = x.transpose(*axes, *(d for d in range(x.ndim) if d not in axes))
        out = np.empty((*indices[0].shape, *moved.shape[len(axes) :]), x.dtype)
        for where in np.ndindex(indices[0].shape):
            place = tuple(int(i[where]) for i in indices)
            inside = all(0 <= p < n for p, n in zip(place, moved.shape, strict=False))
            near = tuple(min(max(p, 0), n - 1) for p, n in zip(place, moved.shape, strict=False))
            out[where] = moved[near] if inside or mode == "clip" else np.nan
        return out

    return reference


COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "scatter": lambda x, u: u,
    "scatter_add": np.add,
    "scatter_mul": np.multiply,
    "scatter_min": np.minimum,
    "scatter_max": np.maximum,
}


def scatter_reference(name: str, axes: tuple[int, ...], mode: str) -> Callable[..., Any]:
    def reference(x: Any, updates: Any, *indices: Any) -> Any:
        out = x.copy()
        moved = out.transpose(*axes, *(d for d in range(x.ndim) if d not in axes))
        for where in np.ndindex(indices[0].shape):
            place = tuple(int(i[where]) for i in indices)
            if mode == "clip":
                place = tuple(
                    min(max(p, 0), x.shape[d] - 1) for p, d in zip(place, axes, strict=True)
                )
            if all(0 <= p < x.shape[d] for p, d in zip(place, axes, strict=True)):
                moved[place] = COMBINE[name](moved[place], updates[where])
        return out

    return reference


PLACES = [  # axes, shape of the indices, mode, lowest and highest index less 1 beyond the range
    ((0,), (6,), "clip", 3),
    ((1,), (2, 3), "fill", 3),
    ((0, 2), (7,), "fill", 1),
    ((2, 0), (2, 2), "clip", 2),
    ((0, 1, 2), (9,), "promise", 0),
    ((0,), (), "fill", 0),
    ((1,), (0,), "fill", 0),
]


def indexing_cases() -> list[Case]:
    cases = []
    x = normal(4, 5, 3)
    for axes, shape, mode, beyond in PLACES:
        indices = tuple(whole(x.shape[d] + beyond, *shape, low=-beyond) for d in axes)
        params = {"axes": axes, "mode": mode}
        cases.append(
            Case(
                f"gather-{axes}-{mode}",
                lambda *a, p=params: indexing.gather(*a, **p, fill=None),
                (x, *indices),
                (0,),
                gather_reference(axes, mode),
            )
        )
        rest = tuple(x.shape[d] for d in range(3) if d not in axes)
        mode = "drop" if mode == "fill" else mode
        params = {"axes": axes, "mode": mode, "unique": False}
        for name in COMBINE:
            prim = getattr(indexing, name)
            cases.append(
                Case(
                    f"{name}-{axes}-{mode}",
                    lambda *a, f=prim, p=params: f(*a, **p),
                    (x, normal(*shape, *rest), *indices),
                    (0, 1),
                    scatter_reference(name, axes, mode),
                )
            )
    unique = {"axes": (1,), "mode": "promise", "unique": True}
    for name in COMBINE:
        prim = getattr(indexing, name)
        cases.append(
            Case(
                f"{name}-unique",
                lambda *a, f=prim: f(*a, **unique),
                (x[::2, ::-1], normal(2, 2, 3), np.array([3, 1], np.int8)),
                (0, 1),
                scatter_reference(name, (1,), "promise"),
            )
        )
    return cases


def sort_cases() -> list[Case]:
    key = whole(3, 4, 5)
    return [
        Case(
            "sort-1",
            lambda x: sort.sort(x, axis=0, num_keys=1),
            (normal(6, 3),),
            (0,),
            lambda x: np.sort(x, axis=0),
        ),
        Case(
            "sort-complex",
            lambda x: sort.sort(x, axis=1, num_keys=1),
            (complexes(2, 5),),
            (0,),
            lambda x: np.sort(x, axis=1),
        ),
        Case(
            "sort-keys",
            lambda k, x, y: sort.sort(k, x, y, axis=1, num_keys=2),
            (key, normal(4, 5), normal(4, 5)),
            (1, 2),
            lambda k, x, y: [
                np.take_along_axis(v, np.lexsort((x, k), axis=1), 1) for v in (k, x, y)
            ],
        ),
        Case(
            "sort_bits",
            lambda x: sort.sort_bits(x, low=0, high=32, tie=None),
            (whole(99, 3, 7).astype(np.uint32),),
            (),
            np.sort,
        ),
        Case(
            "sort-empty",
            lambda x: sort.sort(x, axis=1, num_keys=1),
            (normal(2, 0),),
            (0,),
            lambda x: x,
        ),
    ]


def hermitian(x: Any) -> Any:
    n = len(x.shape)
    return add(x, conj(transpose(x, perm=(*range(n - 2), n - 1, n - 2))))


def positive(x: Any) -> Any:
    """x xᴴ + x + xᴴ + a multiple of 1: an input for cholesky that is Hermitian whatever x is."""
    n = len(x.shape)
    lead = tuple(range(n - 2))
    other = conj(transpose(x, perm=(*lead, n - 1, n - 2)))
    square = dot(x, other, ((n - 1,), (n - 2,)), (lead, lead))
    return add(
        add(square, hermitian(x)),
        ArrayImpl(np.broadcast_to((4 * np.eye(x.shape[-1])).astype(x.dtype), x.shape)),
    )


def triangular(lower: bool, trans: int, unit: bool) -> Callable[..., Any]:
    def reference(a: Any, b: Any) -> Any:
        a = np.tril(a) if lower else np.triu(a)
        if unit:
            a = np.where(np.eye(a.shape[-1], dtype=bool), 1, a)
        a = a.swapaxes(-1, -2) if trans else a
        return np.linalg.solve(a.conj() if trans == 2 else a, b)

    return reference


def without_phases(f: Callable[..., Any]) -> Callable[..., Any]:
    """Compare |v|² of complex vectors: their phases are free, also for finite differences."""

    def g(x: Any) -> list[Any]:
        return [mul(o, conj(o)) for o in f(x)]

    return g


def linalg_cases() -> list[Case]:
    cases = []
    for make, tag in ((normal, "real"), (complexes, "complex")):
        square, tall, wide = make(2, 4, 4) + 3 * np.eye(4), make(5, 3), make(2, 3, 5)
        cases += [
            Case(f"cholesky-{tag}", lambda x: linalg.cholesky(positive(x)), (make(2, 3, 3),), (0,)),
            Case(f"solve-{tag}", linalg.solve, (square, make(2, 4, 3)), (0, 1), np.linalg.solve),
            Case(f"slogdet-{tag}", linalg.slogdet, (square,), (0,), np.linalg.slogdet),
        ]
        for lower, trans, unit in itertools.product((False, True), (0, 1, 2), (False, True)):
            params = {"lower": lower, "trans": trans, "unit": unit}
            cases.append(
                Case(
                    f"triangular_solve-{tag}-{lower}-{trans}-{unit}",
                    lambda a, b, p=params: linalg.triangular_solve(a, b, **p),
                    (square, make(2, 4, 2)),
                    (0, 1),
                    triangular(**params),
                )
            )
        for shape, x in (("square", square), ("tall", tall), ("wide", wide)):
            cases.append(Case(f"qr-{tag}-{shape}", linalg.qr, (x,), (0,), np.linalg.qr))
            svd = linalg.svd if tag == "real" else without_phases(linalg.svd)
            cases.append(Case(f"svd-{tag}-{shape}", svd, (x,), (0,)))
        eigh = linalg.eigh if tag == "real" else eigh_without_phases
        cases.append(Case(f"eigh-{tag}", lambda x, f=eigh: f(hermitian(x)), (make(2, 3, 3),), (0,)))
    return cases


def eigh_without_phases(x: Any) -> list[Any]:
    w, v = linalg.eigh(x)
    return [w, mul(v, conj(v))]


def fft_cases() -> list[Case]:
    cases = []
    for n in (1, 4, 5):
        for kind, x in (
            ("fft", complexes(2, n)),
            ("ifft", complexes(2, n)),
            ("rfft", normal(2, n)),
            ("irfft", complexes(2, n // 2 + 1)),
        ):
            for axis in (0, 1):
                reference = getattr(np.fft, kind)
                cases.append(
                    Case(
                        f"{kind}-{n}-axis{axis}",
                        lambda x, p={"kind": kind, "axis": axis, "n": n}: fft.fft(x, **p),
                        (x if axis else x.T,),
                        (0,),
                        lambda x, f=reference, n=n, axis=axis: f(x, n, axis),
                    )
                )
    return cases


ROUNDING = Case(
    "reduce_precision",
    lambda x: rounding.reduce_precision(x, exponent_bits=11, mantissa_bits=23),
    (np.array([[1 / 3, -2 / 7, 1e30], [0.0, np.inf, 5.0]]),),
    (),
    lambda x: x.astype(np.float32).astype(np.float64),
)
MARKS = Case(
    "marks",
    lambda x, y: marks.optimization_barrier(marks.name(x, name="x"), y),
    (normal(3, 4), normal(2)),
    (0, 1),
    lambda x, y: (x, y),
)
# Complex numbers go by their real, then their imaginary part.
COMPLEX_EXTREMES = [
    Case(
        f"{name}-complex",
        lambda *a, f=getattr(indexing, name): f(*a, axes=(0,), mode="clip", unique=False),
        (complexes(4, 3), complexes(5, 3), whole(4, 5)),
        (0, 1),
        scatter_reference(name, (0,), "clip"),
    )
    for name in ("scatter_min", "scatter_max")
]
CASES = [
    *DOTS,
    *indexing_cases(),
    *sort_cases(),
    *linalg_cases(),
    *(Case(*row) for row in linalg_rows()),
    *(Case(*row) for row in attention_rows()),
    *fft_cases(),
    ROUNDING,
    MARKS,
    *COMPLEX_EXTREMES,
]
every_case = pytest.mark.parametrize("case", CASES, ids=repr)


# ------------------------------------------------------------------------------ rules
@every_case
def test_value_and_type(case: Case) -> None:
    args = arrays(case.args)
    out = outputs(case.fn(*args))
    program = stage(lambda *a: _as_list(case.fn(*a)), [aval_of(a) for a in args])
    for aval, got in zip(program.out_avals, out, strict=True):
        assert (aval.shape, aval.dtype) == (got.shape, got.dtype)
    if case.reference is not None:
        want = case.reference(*case.args)
        want = list(want) if isinstance(want, (list, tuple)) else [want]
        for w, got in zip(want, out, strict=True):
            np.testing.assert_allclose(got, w, rtol=1e-9, atol=1e-9)


def _as_list(out: Any) -> list[Any]:
    return list(out) if isinstance(out, (list, tuple)) else [out]


def restricted(case: Case) -> tuple[Callable[..., list[Any]], list[ArrayImpl]]:
    """Return the case as a function of its differentiated arguments, with their values."""
    args = arrays(case.args)

    def f(*diff: Any) -> list[Any]:
        full = list(args)
        for k, x in zip(case.diff, diff, strict=True):
            full[k] = x
        return [o for o in _as_list(case.fn(*full)) if o.dtype.kind in "fc"]

    return f, [args[k] for k in case.diff]


def direction(x: Any) -> ArrayImpl:
    v = normal(*x.shape)
    return ArrayImpl(np.asarray(v + 1j * normal(*x.shape) if x.dtype.kind == "c" else v))


def shifted(xs: Sequence[Any], vs: Sequence[Any], h: float) -> list[ArrayImpl]:
    return [ArrayImpl(np.asarray(x._data + h * v._data)) for x, v in zip(xs, vs, strict=True)]


def differences(f: Callable[..., Any], xs: Sequence[Any], vs: Sequence[Any]) -> list[np.ndarray]:
    h = 1e-6
    after, before = outputs(f(*shifted(xs, vs, h))), outputs(f(*shifted(xs, vs, -h)))
    return [(a - b) / (2 * h) for a, b in zip(after, before, strict=True)]


def compare(got: Sequence[np.ndarray], want: Sequence[np.ndarray], tol: float) -> None:
    for g, w in zip(got, want, strict=True):
        # fill values are nan in the value, and zero in its tangent
        np.testing.assert_allclose(g, np.where(np.isnan(w), 0, w), rtol=tol, atol=tol)


@every_case
def test_first_derivative(case: Case) -> None:
    f, xs = restricted(case)
    vs = [direction(x) for x in xs]
    _, tangents = jvp(f, tuple(xs), tuple(vs))
    compare(outputs(tangents), differences(f, xs, vs), 2e-5)
    out, pullback = vjp(f, *xs)
    cts = [direction(o) for o in out]
    grads = pullback(cts)
    there = sum(np.sum(c._data * t._data) for c, t in zip(cts, tangents, strict=True))
    back = sum(np.sum(g._data * v._data) for g, v in zip(grads, vs, strict=True))
    np.testing.assert_allclose(np.real(there), np.real(back), rtol=1e-8, atol=1e-8)


@every_case
def test_second_derivative(case: Case) -> None:
    f, xs = restricted(case)
    vs = [direction(x) for x in xs]

    def slope(*xs: Any) -> Any:
        return jvp(f, xs, tuple(vs))[1]

    us = [direction(x) for x in xs]
    _, tangents = jvp(slope, tuple(xs), tuple(us))
    compare(outputs(tangents), differences(slope, xs, us), 2e-4)
    out, pullback = vjp(slope, *xs)
    cts = [direction(o) for o in out]
    grads = pullback(cts)
    there = sum(np.sum(c._data * t._data) for c, t in zip(cts, tangents, strict=True))
    back = sum(np.sum(g._data * u._data) for g, u in zip(grads, us, strict=True))
    np.testing.assert_allclose(np.real(there), np.real(back), rtol=1e-7, atol=1e-7)


@every_case
def test_vmap_is_a_loop(case: Case) -> None:
    args = arrays(case.args)
    size = 3
    for mask in itertools.product((None, 0), repeat=len(args)):
        if all(m is None for m in mask):
            continue
        batch = [
            a if m is None else ArrayImpl(np.stack([perturbed(a._data) for _ in range(size)]))
            for a, m in zip(args, mask, strict=True)
        ]
        got = outputs(vmap(case.fn, in_axes=mask)(*batch))
        for k in range(size):
            one = [
                a if m is None else ArrayImpl(np.asarray(a._data[k]))
                for a, m in zip(batch, mask, strict=True)
            ]
            for g, w in zip(got, outputs(case.fn(*one)), strict=True):
                np.testing.assert_allclose(g[k], w, rtol=1e-9, atol=1e-9)


@every_case
def test_compiled_is_eager(case: Case) -> None:
    f, xs = restricted(case)
    cts = [direction(o) for o in f(*xs)]

    def backward(*args: Any) -> list[Any]:
        return list(vjp(f, *args[: len(xs)])[1](list(args[len(xs) :])))

    plain = [np.asarray(a) for a in case.args]
    narrow = [a.astype(np.float32) if a.dtype == np.float64 else a for a in plain]
    strided = [np.stack([a, a], -1)[..., 0] for a in plain]
    calls = [(lambda *a: _as_list(case.fn(*a)), args) for args in (plain, narrow, strided)]
    if xs:
        calls.append((backward, outputs([*xs, *cts])))
    compare_compiled(calls, 1000)


def perturbed(x: np.ndarray) -> np.ndarray:
    """Return another array of the kind of x: shuffled integers, or floats moved a little."""
    if x.dtype.kind in "iu":
        return rng.permutation(x.reshape(-1)).reshape(x.shape)
    return x + 0.1 * normal(*x.shape)


# ------------------------------------------------------------------------------ contraction
@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint32", "int64", "float16", "float32", "complex64"]
)
def test_dot_keeps_the_dtype(dtype: str) -> None:
    a, b = (rng.integers(0, 2, s).astype(dtype) for s in ((3, 4), (4, 2)))
    out = dot(*arrays([a, b]), ((1,), (0,)))
    assert out.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(out._data, a @ b)


def test_dot_accumulates_in_out_dtype() -> None:
    (x,) = arrays([np.full((1, 300), 100, np.int8)])
    dims = (((1,), (1,)), ((), ()))
    out = contract.dot_general(x, x, dimension_numbers=dims, out_dtype=np.dtype(np.int32))
    assert out.dtype == np.int32
    assert out._data.item() == 3_000_000
    (half,) = arrays([np.full((1, 4096), 1, np.float16)])
    assert dot(half, half, ((1,), (1,)))._data.item() == 4096  # float16 alone would stay at 2048


@pytest.mark.parametrize(
    ("a", "b", "dims", "named"),
    [
        (
            np.ones((2, 3)),
            np.ones((4, 5)),
            (((1,), (0,)), ((), ())),
            ["f64[2,3]", "f64[4,5]", "size 3"],
        ),
        (np.ones(3), np.ones(3, np.float32), (((0,), (0,)), ((), ())), ["float64", "float32"]),
        (np.ones(3), np.ones(3), (((1,), (0,)), ((), ())), ["a has 1 axes"]),
        (np.ones((3, 3)), np.ones((3, 3)), (((0, 0), (0, 1)), ((), ())), ["twice"]),
    ],
)
def test_dot_error_names_both(a: Any, b: Any, dims: Any, named: list[str]) -> None:
    with pytest.raises(TypeError) as error:
        contract.dot_general_p.type(aval_of(a), aval_of(b), dimension_numbers=dims, out_dtype=None)
    for text in named:
        assert text in str(error.value)


# ------------------------------------------------------------------------------ indexing
@pytest.mark.parametrize(
    ("dtype", "want"), [("float32", np.nan), ("int16", -(2**15)), ("uint8", 255), ("bool", True)]
)
def test_default_fill(dtype: str, want: Any) -> None:
    x, i = arrays([np.zeros(3, dtype), np.array([0, 3, -1, 2**62])])
    out = indexing.gather(x, i, axes=(0,), mode="fill", fill=None)
    np.testing.assert_array_equal(out._data, np.array([0, want, want, want], dtype))


@pytest.mark.parametrize("name", ["scatter_add", "scatter_mul", "scatter_min", "scatter_max"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "float16", "complex64"])
def test_scatter_keeps_the_dtype(name: str, dtype: str) -> None:
    x, updates = (rng.integers(0, 3, s).astype(dtype) for s in ((4, 3), (5, 3)))
    i = np.array([0, 0, 2, 9, -1])
    out = getattr(indexing, name)(*arrays([x, updates, i]), axes=(0,), mode="drop", unique=False)
    assert out.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(out._data, scatter_reference(name, (0,), "drop")(x, updates, i))


def test_narrow_floats_add_up_in_a_wide_one() -> None:
    x, ones, i = arrays([np.zeros(1, np.float16), np.ones(4096, np.float16), np.zeros(4096, int)])
    out = indexing.scatter_add(x, ones, i, axes=(0,), mode="clip", unique=False)
    assert out._data.item() == 4096


def test_tied_extremum_shares_the_derivative() -> None:
    x, updates, i = arrays([np.array([1.0, 5.0]), np.array([1.0, 1.0, 7.0]), np.array([0, 0, 1])])

    def f(x: Any, u: Any) -> Any:
        return indexing.scatter_max(x, u, i, axes=(0,), mode="clip", unique=False)

    _, pullback = vjp(f, x, updates)
    gx, gu = pullback(ArrayImpl(np.ones(2)))
    np.testing.assert_allclose(gx._data, [1 / 3, 0])
    np.testing.assert_allclose(gu._data, [1 / 3, 1 / 3, 1])


def test_product_with_zeros_has_the_right_derivative() -> None:
    x, i = arrays([np.array([2.0, 3.0, 5.0]), np.array([0, 0, 1, 1, 2])])
    updates = ArrayImpl(np.array([0.0, 7.0, 0.0, 0.0, 0.0]))

    def f(u: Any) -> Any:
        return indexing.scatter_mul(x, u, i, axes=(0,), mode="clip", unique=False)

    _, pullback = vjp(f, updates)
    np.testing.assert_allclose(pullback(ArrayImpl(np.ones(3)))[0]._data, [14, 0, 0, 0, 5])


@pytest.mark.parametrize(
    ("shape", "indices", "params", "named"),
    [
        ((0,), [np.zeros(2, int)], {"axes": (0,), "mode": "clip"}, "size 0"),
        ((3,), [np.zeros(2)], {"axes": (0,), "mode": "clip"}, "integers"),
        ((3,), [np.zeros(2, int)], {"axes": (1,), "mode": "clip"}, "within"),
        ((3, 3), [np.zeros(2, int)], {"axes": (0, 1), "mode": "clip"}, "as many"),
    ],
)
def test_gather_errors(shape: Any, indices: Any, params: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        indexing.gather_p.type(aval_of(np.zeros(shape)), *map(aval_of, indices), **params)


def test_scatter_error_says_what_fits() -> None:
    avals = [aval_of(x) for x in (np.zeros((4, 3)), np.zeros(2), np.zeros(2, int))]
    with pytest.raises(TypeError, match=r"f64\[2,3\], got f64\[2\]"):
        indexing.scatter_p.type(*avals, axes=(0,), mode="drop", unique=False)


# ------------------------------------------------------------------------------ sorting
def test_sort_puts_nan_last_and_keeps_the_order_of_ties() -> None:
    x, place = arrays([np.array([np.nan, 0.0, -0.0, -np.inf, np.nan, -1.0]), np.arange(6)])
    ordered, order = sort.sort(x, place, axis=0, num_keys=1)
    np.testing.assert_array_equal(order._data, [3, 5, 1, 2, 0, 4])
    np.testing.assert_array_equal(np.signbit(ordered._data[2:4]), [False, True])


# ------------------------------------------------------------------------------ bits
@pytest.mark.parametrize(
    ("key", "counter", "want"),
    [  # from the known answers of Random123
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
@pytest.mark.parametrize("shape", [(), (3, 2), (40_000,)])
def test_threefry_known_answers(key: Any, counter: Any, want: Any, shape: Any) -> None:
    args = [np.full(shape, v, np.uint32) for v in (*key, *counter)]
    for keys in (args[:2], [np.broadcast_to(np.uint32(v), shape) for v in key]):
        out = bits.threefry2x32(*arrays([*keys, *args[2:]]))
        for o, w in zip(out, want, strict=True):
            assert o.shape == shape
            assert o.dtype == np.uint32
            assert (o._data == w).all()


def test_threefry_vmap_over_keys() -> None:
    k0, k1, x0, x1 = arrays(rng.integers(0, 2**32, (4, 5), dtype=np.uint32))
    got = vmap(bits.threefry2x32, in_axes=(0, 0, None, None))(
        k0, k1, *(ArrayImpl(np.asarray(x._data[0])) for x in (x0, x1))
    )
    want = bits.threefry2x32(
        k0, k1, *(ArrayImpl(np.broadcast_to(x._data[0], (5,))) for x in (x0, x1))
    )
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g._data, w._data)


# ------------------------------------------------------------------------------ linear algebra
@pytest.mark.parametrize("make", [normal, complexes])
@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (5, 3), (3, 5), (2, 4, 3), (0, 3), (0, 2, 2)])
def test_factors_multiply_to_the_matrix(make: Any, shape: Any) -> None:
    x = make(*shape)
    q, r = outputs(linalg.qr(*arrays([x])))
    u, s, vt = outputs(linalg.svd(*arrays([x])))
    np.testing.assert_allclose(q @ r, x, atol=1e-12)
    np.testing.assert_allclose((u * s[..., None, :]) @ vt, x, atol=1e-12)
    if shape[-1] == shape[-2]:
        (p,) = outputs(positive(*arrays([x])))
        (low,) = outputs(linalg.cholesky(*arrays([p])))
        w, v = outputs(linalg.eigh(*arrays([p])))
        np.testing.assert_allclose(low @ low.conj().swapaxes(-1, -2), p, atol=1e-12)
        np.testing.assert_allclose(p @ v, v * w[..., None, :], atol=1e-10)


def test_blocks_of_a_large_triangular_system() -> None:
    a, b = normal(150, 150) / 150 + np.eye(150), normal(150, 2)
    for lower, trans in itertools.product((False, True), (0, 1)):
        out = linalg.triangular_solve(*arrays([a, b]), lower=lower, trans=trans, unit=False)
        np.testing.assert_allclose(out._data, triangular(lower, trans, False)(a, b), atol=1e-10)


def test_a_failing_matrix_gives_nan_to_itself_only() -> None:
    x = np.stack([np.eye(3), -np.eye(3)])
    low = linalg.cholesky(*arrays([x]))._data
    np.testing.assert_array_equal(low[0], np.eye(3))
    assert np.isnan(low[1]).all()
    singular = np.stack([np.ones((3, 3)), np.eye(3)])
    out = linalg.solve(*arrays([singular, normal(2, 3, 1)]))._data
    assert not np.isfinite(out[0]).any()
    assert np.isfinite(out[1]).all()
    bad = np.stack([np.eye(2), np.full((2, 2), np.nan)])
    for f in (linalg.svd, linalg.eigh):
        values = next(o for o in outputs(f(*arrays([bad]))) if o.ndim == 2)
        np.testing.assert_array_equal(np.isnan(values), [[False] * 2, [True] * 2])


def test_equal_eigenvalues_have_finite_derivatives() -> None:
    x = ArrayImpl(np.eye(3))
    _, pullback = vjp(lambda x: linalg.eigh(x)[0], x)
    np.testing.assert_allclose(pullback(ArrayImpl(np.ones(3)))[0]._data, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("prim", ["cholesky", "slogdet", "eigh"])
def test_square_matrices_are_asked_for(prim: str) -> None:
    with pytest.raises(TypeError, match=r"square matrices .* got f64\[2,3\]"):
        getattr(linalg, f"{prim}_p").type(aval_of(np.zeros((2, 3))))


def test_interchange_asks_for_inexact_vectors() -> None:
    pivots = aval_of(np.ones((2, 3), np.int32))
    with pytest.raises(TypeError, match=r"inexact vectors .* got i32\[2,4\] and i32\[2,3\]"):
        linalg.interchange_p.type(aval_of(np.ones((2, 4), np.int32)), pivots)


@pytest.mark.parametrize("size", [50, 1 << 14])
@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "int32", "uint32", "int8", "bool"]
)
def test_sorts_of_many_are_stable_sorts(dtype: str, size: int) -> None:
    x = (rng.normal(size=(2, size)) * 100).astype(dtype)
    if x.dtype.kind == "f":
        x = np.round(x)  # many ties
        x[:, ::7], x[:, 3::11], x[:, 5::13] = -0.0, np.nan, np.inf
        x[0, 1], x[0, 2] = 0.0, -np.nan
    elif size > 50 and x.dtype.itemsize == 4:
        x[:, 0], x[:, 1] = np.iinfo(dtype).min, np.iinfo(dtype).max
    order = np.argsort(x, axis=1, kind="stable")
    for axis, y in ((1, x), (0, x.T)):
        place = np.arange(size).reshape((1, -1) if axis else (-1, 1))
        got = sort.sort(*arrays([y, np.broadcast_to(place, y.shape)]), axis=axis, num_keys=1)
        wanted = np.take_along_axis(y, order if axis else order.T, axis)
        for values in (got[0], *sort.sort(*arrays([y]), axis=axis, num_keys=1)):
            np.testing.assert_array_equal(values._data, wanted)
            if x.dtype.kind == "f":
                real = ~np.isnan(wanted)
                np.testing.assert_array_equal(
                    np.signbit(values._data)[real], np.signbit(wanted)[real]
                )
        np.testing.assert_array_equal(got[1]._data, order if axis else order.T)


def test_sorting_values_keeps_the_order_of_zeros() -> None:
    x = np.array([0.0, 3.0, -0.0, -1.0, 0.0, -0.0], np.float32)
    (got,) = sort.sort(*arrays([x]), axis=0, num_keys=1)
    np.testing.assert_array_equal(np.signbit(got._data), [True, False, True, False, True, False])
