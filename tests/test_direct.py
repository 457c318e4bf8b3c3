"""Eager calls that go straight to NumPy give what the general way gives, and its messages."""

import inspect
import operator

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.core import ArrayImpl
from funtorch.numpy import elementwise

F32 = np.float32
M = np.arange(12.0, dtype=F32).reshape(3, 4) - 5.5
V, PLACES, EMPTY = M[1], np.array([2, 0, -1, 2], np.int32), np.zeros((0, 3), F32)
ZEROS = np.array([0.0, -0.0, -1.0, 0.0, -0.0], F32)
SCALAR, HOLES = np.float32(2.5), np.array([[1.0, np.nan], [-np.inf, 2.0]], F32)
SQUARE = np.array([[2.0, 1.0, 0.5], [0.0, -3.0, 1.0], [1.0, 0.0, 4.0]], F32)
RISING = np.array([-4.0, -1.0, 0.5, 3.0], F32)


CASES = [
    (
        "reshape",
        [(M, (2, 6)), (M, -1), (M, (5, 5)), (M, (2, -1, -1)), (EMPTY, (3, 0)), (SCALAR, 1)],
    ),
    ("ravel", [(M,), (M.T,), (SCALAR,), (EMPTY,)]),
    ("transpose", [(M,), (M, (1, 0)), (M, (0, 0)), (SCALAR,)]),
    ("swapaxes", [(M, 0, -1), (M, 0, 2)]),
    ("moveaxis", [(M, 0, 1), (M, (0, 1), (1, 0)), (M, 0, 3)]),
    ("expand_dims", [(M, 0), (M, (0, -1)), (M, 5)]),
    ("squeeze", [(M[:1],), (M[:1], 0), (M, 0)]),
    ("flip", [(M,), (M, 0), (M, (0, 1)), (M, 2)]),
    ("roll", [(M, 1), (M, -2, 1), (M, (1, 2), (0, 1)), (M, 1, 7)]),
    ("tile", [(M, 2), (V, (2, 3)), (M, (2, 1, 1)), (EMPTY, 2)]),
    ("repeat", [(M, 2), (M, 2, 1), (M, 0, 0), (M, -1, 0)]),
    ("concatenate", [([M, M],), ([M, M], 1), ([M, V],), ([M, M], None), ([V, PLACES],), ([],)]),
    ("stack", [([M, M],), ([M, M], -1), ([M, V],), ([V, PLACES],)]),
    (
        "where",
        [
            (M > 0, M, -M),
            (M > 0, M, 0.0),
            (M > 0, 1, PLACES),
            (PLACES > 0, PLACES, 0.5),
            (M > 0, M, V),
        ],
    ),
    (
        "take",
        [(M, PLACES), (M, PLACES, 0), (M, PLACES + 9), (M, V), (M, PLACES, 3), (EMPTY, PLACES)],
    ),
    ("matmul", [(M, V), (M, M), (V, V), (SCALAR, V), (M, PLACES)]),
    ("dot", [(M, V), (M, M), (V, V), (SCALAR, V)]),
    ("vdot", [(V, V), (M, M), (M, V), (SCALAR, SCALAR), (V, PLACES)]),
    ("vecdot", [(V, V), (M, V), (M, M), (M, V[:2]), (SCALAR, V)]),
    ("inner", [(V, V), (M, M), (M, V), (M, M.T), (SCALAR, V)]),
    ("linalg.inv", [(SQUARE,), (SQUARE[:1],), (np.zeros((2, 2), F32),), (M,), (V,)]),
    (
        "linalg.solve",
        [(SQUARE, V[:3]), (SQUARE, M), (SQUARE, V), (np.zeros((3, 3), F32), M), (V, V)],
    ),
    ("linalg.cholesky", [(SQUARE @ SQUARE.T,), (SQUARE,), (-SQUARE,), (M,), (V,), (EMPTY,)]),
    ("any", [(M > 0,), (M > 0, 1), (M,), (HOLES, 0), (EMPTY,), (EMPTY, 1), (M, 2), (PLACES,)]),
    ("all", [(M > 0,), (M > 0, (0, 1)), (M, -1), (HOLES,), (EMPTY,), (PLACES,)]),
    (
        "clip",
        [
            (M, -1, 2.5),
            (M, None, 0),
            (M, 0.0),
            (M, None, None),
            (M, V, 3.0),
            (HOLES, 0, 1),
            (PLACES, 0, 1),
            (PLACES, 0.5, 1),
            (PLACES, 0, 2**40),
            (ZEROS, -0.0, 0.0),
            (EMPTY, 0, 1),
            (M, PLACES, 2),
            (M > 0, 0, 1),
            (M, M[:2], 1),
        ],
    ),
    ("outer", [(V, V), (M, V), (V, PLACES)]),
    ("trace", [(M,), (M, 1), (V,)]),
    ("diag", [(V,), (M,), (M, 1), (SCALAR,)]),
    ("sum", [(M,), (M, 0), (M, (0, 1), None, None, True), (PLACES,), (EMPTY,), (EMPTY, 1), (M, 2)]),
    ("prod", [(M,), (M, -1), (PLACES,), (EMPTY,)]),
    ("max", [(M,), (M, 0), (PLACES,), (HOLES,), (HOLES, 0), (EMPTY,), (EMPTY, 1), (M > 0,)]),
    ("min", [(M,), (M, 0), (PLACES,), (HOLES,), (EMPTY, 0)]),
    ("mean", [(M,), (M, 0), (M, (0, 1)), (PLACES,), (EMPTY,), (EMPTY, 0), (HOLES, 1), (SCALAR,)]),
    ("var", [(M,), (M, 0), (PLACES,), (M, 1, None, None, 1)]),
    ("std", [(M,), (M, (0, 1)), (M, 0, None, None, 1, True)]),
    ("argmax", [(M,), (M, 1), (PLACES,), (HOLES,), (EMPTY,), (M, 4)]),
    ("argmin", [(M,), (M, 0), (HOLES, 1)]),
    (
        "sort",
        [(M,), (M, 0), (M, None), (PLACES,), (HOLES, 0), (ZEROS,), (EMPTY,), (SCALAR,), (M, 2)],
    ),
    (
        "argsort",
        [(M,), (M, 0), (M, None), (PLACES,), (HOLES, 0), (ZEROS,), (EMPTY,), (SCALAR,), (M, 2)],
    ),
    (
        "linalg.norm",
        [
            (M,),
            (M, None, 1),
            (M, None, (0, 1)),
            (M, 1),
            (M, None, (0, 1, 0)),
            (V, None, (0,)),
            (HOLES,),
            (EMPTY,),
            (EMPTY, None, 0),
            (SCALAR,),
            (M, None, 2),
            (PLACES,),
        ],
    ),
    ("cumsum", [(M,), (M, 1), (PLACES,), (M, 3)]),
    ("cumprod", [(M,), (M, 0)]),
    ("frexp", [(M,), (HOLES,), (PLACES,), (EMPTY,), (SCALAR,)]),
    ("modf", [(M,), (HOLES,), (PLACES,), (EMPTY,), (SCALAR,)]),
    ("spacing", [(M,), (HOLES,), (EMPTY,), (SCALAR,)]),
    ("ldexp", [(M[:, 0], PLACES[:3]), (M, PLACES), (HOLES, PLACES[:2]), (PLACES, PLACES)]),
    ("sinc", [(M,), (HOLES,), (ZEROS,), (PLACES,)]),
    ("angle", [(M,), (M, True), (HOLES,), (PLACES,)]),
    ("nan_to_num", [(M,), (HOLES,), (PLACES,), (HOLES, True, 7.0)]),
    ("gcd", [(PLACES, PLACES + 4), (PLACES, PLACES[:, None]), (V, V), (PLACES, 6)]),
    ("lcm", [(PLACES, PLACES + 4), (PLACES, PLACES[:, None]), (V, V)]),
    ("interp", [(M, RISING, V), (RISING, RISING, V), (HOLES, RISING, V), (V, RISING, V[:2])]),
    ("convolve", [(V, V[:2]), (V[:2], V), (V, EMPTY), (M, V), (PLACES, PLACES)]),
    ("correlate", [(V, V[:2]), (V[:2], V), (V, EMPTY), (M, V)]),
    ("ediff1d", [(M,), (V,), (EMPTY,)]),
    ("vander", [(V,), (V, 2), (V, 3, True), (M,)]),
    ("bincount", [(PLACES + 1,), (PLACES,), (EMPTY,), (PLACES + 1, None, 9), (M,)]),
    ("digitize", [(M, RISING), (M, RISING[::-1]), (M, RISING, True), (M, M), (V, EMPTY[:, 0])]),
    ("histogram", [(M,), (M, 4), (V, 0), (HOLES[:, 1], 3), (PLACES,), (ZEROS[:1],), (M, RISING)]),
    ("quantile", [(M, 0.3), (M, 0.7, 1), (HOLES, 0.5, 0), (EMPTY, 0.5), (M, 1), (M, 2.0)]),
    ("percentile", [(M, 30), (M, 71.5, 1), (HOLES, 50, 0), (M, 100)]),
]


def arrays(x):
    if isinstance(x, list):
        return [arrays(v) for v in x]
    return ArrayImpl(np.asarray(x)) if isinstance(x, (np.ndarray, np.generic)) else x


def outcome(f, args):
    try:
        return f(*args)
    except Exception as error:
        return error


@pytest.mark.parametrize(
    ("name", "args"), [(name, args) for name, samples in CASES for args in samples]
)
def test_straight_to_numpy_is_the_general_way(name, args):
    f = elementwise.where if name == "where" else operator.attrgetter(name)(fnp)
    given = [arrays(a) for a in args]
    got, want = outcome(f, given), outcome(inspect.unwrap(f), given)
    assert type(got) is type(want)
    if isinstance(want, Exception):
        assert str(got) == str(want)
        return
    several = (got, want) if isinstance(want, tuple) else ((got,), (want,))
    for g, w in zip(*several, strict=True):
        assert (g.shape, g.dtype, g.weak_type) == (w.shape, w.dtype, w.weak_type)
        np.testing.assert_allclose(g, w, rtol=2e-6, atol=1e-5)


def test_names_and_weak_numbers_go_the_general_way():
    x = fnp.asarray(M)
    assert fnp.sum(x, axis=0, keepdims=True).shape == (1, 4)
    assert fnp.sum(x, axis=0, dtype=np.float64).dtype == np.float64
    assert fnp.sum(x, where=x > 0).shape == ()
    assert fnp.argmax(x, axis=1, keepdims=True).shape == (3, 1)
    weak = fnp.asarray(2.0)
    assert fnp.reshape(weak, (1,)).weak_type
    assert fnp.stack([weak, weak]).weak_type == inspect.unwrap(fnp.stack)([weak, weak]).weak_type
    ones = fnp.ones(3, fnp.bfloat16)
    assert fnp.sum(ones).dtype == fnp.bfloat16


def test_transforms_see_what_was_called():
    x = fnp.asarray(V)
    jaxpr = ft.make_jaxpr(lambda x: fnp.reshape(fnp.stack([x, x]), (8,)).sum())(x)
    assert [e.prim.name for e in jaxpr.jaxpr.eqns][-1] == "reduce_sum"
    slope = ft.grad(lambda x: fnp.max(x) * fnp.mean(x))(x)
    np.testing.assert_allclose(slope, ft.jit(ft.grad(lambda x: fnp.max(x) * fnp.mean(x)))(x))


@pytest.mark.parametrize("dtype", ["int32", "int64", "int8", "uint8", "uint32"])
@pytest.mark.parametrize("size", [1, 3, 64, 65])
def test_conversions_saturate_wherever_a_bad_number_stands(dtype, size):
    limits = np.iinfo(dtype)
    for bad, want in ((np.nan, 0), (np.inf, limits.max), (-np.inf, limits.min), (1e30, limits.max)):
        for source in (np.float32, np.float64):
            x = np.ones(size, source)
            x[-1] = bad
            got = np.asarray(fnp.asarray(x).astype(dtype))
            assert got.dtype == dtype
            assert got[-1] == want
            assert (got[:-1] == 1).all()


def test_full_and_zeros():
    assert fnp.full((2, 3), 2).weak_type
    assert fnp.full(3, 2.5, np.float64).dtype == np.float64
    assert fnp.full((2, 2), fnp.arange(2)).tolist() == [[0, 1], [0, 1]]
    assert fnp.full((), 3).shape == ()
    assert np.asarray(fnp.zeros((2, 0))).shape == (2, 0)
    assert ft.jit(lambda: fnp.full((2,), 1.5))().tolist() == [1.5, 1.5]
