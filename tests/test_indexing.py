"""x[index] and x.at[index] against NumPy, eagerly and through recorded programs."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.core import ShapedArray
from funtorch.errors import NonConcreteBooleanIndexError
from funtorch.jaxpr import eval_jaxpr, stage

SHAPE = (4, 3, 5)
X = np.arange(60, dtype=np.float32).reshape(SHAPE)


@st.composite
def indices(draw: st.DrawFn) -> tuple:
    """Draw an index of X: any mix of ints, slices, None, Ellipsis, integer arrays and masks."""
    if draw(st.booleans()):
        return draw(
            hnp.basic_indices(SHAPE, allow_ellipsis=True, allow_newaxis=True).map(
                lambda i: i if isinstance(i, tuple) else (i,)
            )
        )
    batch = draw(st.sampled_from([(2,), (3,), (2, 2), ()]))
    items, axis = [], 0
    while axis < len(SHAPE):
        n = SHAPE[axis]
        kind = draw(st.sampled_from(["array", "slice", "int", "new", "mask", "stop"]))
        if kind == "stop":
            break
        if kind == "new":
            items.append(None)
            if sum(item is None for item in items) > 2:
                break
            continue
        if kind == "array":
            sizes = draw(st.sampled_from([batch, (1,) * len(batch)]))
            items.append(draw(hnp.arrays(np.int32, sizes, elements=st.integers(-n, n - 1))))
        elif kind == "slice":
            items.append(draw(st.slices(n)))
        elif kind == "int":
            items.append(draw(st.integers(-n, n - 1)))
        else:
            mask = np.zeros(n, bool)
            mask[draw(st.integers(0, n - 1))] = True  # one element: it broadcasts with all
            items.append(mask)
        axis += 1
    return tuple(items)


def ours(index: tuple) -> tuple:
    return tuple(fnp.asarray(i) if isinstance(i, np.ndarray) else i for i in index)


def recorded(f, *arrays):
    jaxpr = stage(lambda *xs: [f(*xs)], [ShapedArray(a.shape, a.dtype) for a in arrays])
    return np.asarray(eval_jaxpr(jaxpr, *map(fnp.asarray, arrays))[0])


@given(indices())
def test_reading_equals_numpy(index):
    want = X[index]
    got = fnp.asarray(X)[ours(index)]
    assert got.shape == want.shape
    np.testing.assert_array_equal(np.asarray(got), want)
    np.testing.assert_array_equal(recorded(lambda x: x[ours(index)], X), want)


UPDATES = {
    "set": lambda x, i, v: x.__setitem__(i, v),
    "add": np.add.at,
    "multiply": np.multiply.at,
    "min": np.minimum.at,
    "max": np.maximum.at,
}


@pytest.mark.parametrize("how", UPDATES)
@given(index=indices())
def test_updates_equal_numpy(how, index):
    want = X.copy()
    # One value for all, since NumPy does not say which of repeated `set`s wins.
    UPDATES[how](want, index, np.float32(7))
    got = getattr(fnp.asarray(X).at[ours(index)], how)(7)
    np.testing.assert_array_equal(np.asarray(got), want)
    staged = recorded(lambda x: getattr(x.at[ours(index)], how)(7.0), X)
    np.testing.assert_array_equal(staged, want)


@given(indices())
def test_values_land_where_they_belong(index):
    want = X.copy()
    shape = X[index].shape
    flat = np.arange(60).reshape(SHAPE)[index].ravel()
    if len(set(flat)) < flat.size:
        return  # repeated positions: the order of writing is open
    values = -np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    want[index] = values
    got = fnp.asarray(X).at[ours(index)].set(values)
    np.testing.assert_array_equal(np.asarray(got), want)


@pytest.mark.parametrize(
    ("index", "want"),
    [(7, X[3]), (-9, X[0]), ((slice(None), 5), X[:, 2]), (np.array([1, 9]), X[[1, 3]])],
)
def test_traced_indices_clip(index, want):
    np.testing.assert_array_equal(recorded(lambda x: x[index], X), want)


def test_out_of_bounds():
    x = fnp.arange(3.0)
    with pytest.raises(IndexError, match="out of bounds"):
        x[3]
    far = fnp.asarray([0, 5])
    assert x[far].tolist() == [0.0, 2.0]
    assert x.at[far].set(9.0).tolist() == [9.0, 1.0, 2.0]
    assert x.at[far].set(9.0, mode="clip").tolist() == [9.0, 1.0, 9.0]
    assert x.at[far].get(mode="fill", fill_value=-1).tolist() == [0.0, -1.0]
    assert np.isnan(np.asarray(fnp.take(x, far))[1])
    assert fnp.take(x, far, mode="wrap").tolist() == [0.0, 2.0]


def test_traced_scalar_index():
    f = stage(
        lambda x, i: [x[i], x.at[i, 1].add(5.0)[i], x[1:, i]],
        [ShapedArray(SHAPE, X.dtype), ShapedArray((), np.dtype(np.int32))],
    )
    row, added, column = eval_jaxpr(f, fnp.asarray(X), fnp.asarray(-2, "int32"))
    np.testing.assert_array_equal(np.asarray(row), X[-2])
    np.testing.assert_array_equal(np.asarray(added)[1], X[-2, 1] + 5)
    np.testing.assert_array_equal(np.asarray(column), X[1:, -2])


def test_other_updates():
    x = fnp.asarray([1.0, 2.0, 4.0])
    assert x.at[1].subtract(1.0).tolist() == [1.0, 1.0, 4.0]
    assert x.at[1:].divide(2.0).tolist() == [1.0, 1.0, 2.0]
    assert x.at[fnp.asarray([0, 0])].divide(2.0).tolist() == [0.25, 2.0, 4.0]
    assert x.at[2].power(2).tolist() == [1.0, 2.0, 16.0]
    assert x.at[::2].apply(lambda v: -v).tolist() == [-1.0, 2.0, -4.0]
    assert x.at[x > 1].set(0.0).tolist() == [1.0, 0.0, 0.0]
    assert x.at[[0, 1]].set([5, 6]).tolist() == [5.0, 6.0, 4.0]


def test_messages():
    x = fnp.arange(3.0)
    with pytest.raises(TypeError, match=r"x = x\.at\[i\]\.set\(v\)"):
        x[0] = 1.0
    with pytest.raises(NonConcreteBooleanIndexError, match=r"where\(mask, x, y\).*size="):
        stage(lambda y: [y[y > 0]], [x.aval])
    with pytest.raises(IndexError, match="too many indices"):
        x[0, 0]
    with pytest.raises(IndexError, match="integers or bool, got float32"):
        x[fnp.asarray([0.5])]
    with pytest.raises(IndexError, match="mask has size 2 where axis 0"):
        x[fnp.asarray([True, False])]
    with pytest.raises(ValueError, match="do not broadcast to the indexed shape"):
        x.at[:2].set(fnp.zeros(3))
    with pytest.raises(IndexError, match="str"):
        x["a"]


@pytest.mark.parametrize(
    ("index", "mode", "expected"),
    [
        (7, "drop", [[0, 1, 2], [3, 4, 5]]),
        (7, "clip", [[0, 1, 2], [9, 9, 9]]),
        ((1, 5), "fill", [[0, 1, 2], [3, 4, 5]]),
        ((slice(None), 4), "clip", [[0, 1, 9], [3, 4, 9]]),
        (-9, "drop", [[0, 1, 2], [3, 4, 5]]),
    ],
)
def test_named_mode_takes_static_indices_out_of_range(index, mode: str, expected) -> None:
    x = fnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(x.at[index].set(9.0, mode=mode), expected)
    with pytest.raises(IndexError, match="out of bounds"):
        x.at[index].set(9.0)


def test_get_out_of_range_fills() -> None:
    x = fnp.arange(3.0)
    assert np.isnan(x.at[5].get(mode="fill"))
    assert float(x.at[5].get(mode="fill", fill_value=7.0)) == 7.0


# What eager calls leave to NumPy must mean what the traced forms mean.
def traced(f, x):
    return eval_jaxpr(stage(lambda x: [f(x)], [x.aval]), x)[0]


def assert_same(got, want):
    np.testing.assert_array_equal(got, want)
    assert (got.dtype, got.weak_type) == (want.dtype, want.weak_type)


MASK = X[:, :, 0] % 2 == 0


@pytest.mark.parametrize("wrap", [lambda i: i, fnp.asarray], ids=["numpy", "funtorch"])
@pytest.mark.parametrize(
    "index",
    [
        (np.array([0, -1, 1]),),
        (np.array([5, -9], np.int8),),
        (np.array(1, np.uint8),),
        (np.zeros((0,), np.int32),),
        (MASK,),
        (np.array([2, 0]), slice(1, 3)),
        (slice(None), np.array([0, 2])),
        (np.array([2, 0]), slice(None), None, np.array([1, 1])),
        (1, slice(None), np.array([0, 3, 7])),
        (Ellipsis, np.array([True, False, True, False, True])),
        (slice(None, None, -1), np.array([[1, 2], [-3, 0]])),
    ],
    ids=repr,
)
def test_eager_indexing_by_arrays_is_traced_indexing(index, wrap):
    index = tuple(wrap(i) if isinstance(i, np.ndarray) else i for i in index)
    x = fnp.asarray(X)
    assert_same(x[index], traced(lambda x: x[index], x))


@pytest.mark.parametrize("how", ["set", "add", "mul", "min", "max", "subtract", "divide"])
@pytest.mark.parametrize(
    "index",
    [0, -1, slice(1, None), (1, 2), (slice(None, None, -2), 1), None, (..., 3), slice(0, 0)],
    ids=repr,
)
def test_eager_updates_are_traced_updates(how, index):
    for dtype in ("float32", "float16", "int32", "bool"):
        x = fnp.asarray(X % 5, dtype)
        for values in (2, 1.5, x[index], x[index][..., :1]):

            def update(x, values=values):
                return getattr(x.at[index], how)(values)

            if how == "subtract" and dtype == "bool" and not isinstance(values, (int, float)):
                continue  # bool has no negative
            assert_same(update(x), traced(update, x))


def test_eager_updates_leave_their_array_alone_and_check_shapes():
    x = fnp.arange(6.0).reshape(2, 3)
    x.at[0].set(7.0)
    assert x[0, 0] == 0
    with pytest.raises(
        ValueError, match=r"x.at\[...\].set: values float32\[1,3\] do not broadcast"
    ):
        x.at[0].set(fnp.ones((1, 3)))
    with pytest.raises(IndexError, match="index 2 is out of bounds for axis 0 with size 2"):
        x.at[2].set(0.0)


_PARTS = [
    True, np.array(True), np.bool_(False), None, Ellipsis, 0, slice(1, None), np.array([0, 2]),
    np.array([[True, False, True], [False, True, True], [True, True, True], [False] * 3]),
]  # fmt: skip


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_masks_without_axes_are_new_axes_as_in_numpy(rank: int) -> None:
    checked = 0
    for index in itertools.product(_PARTS, repeat=rank):
        if not any(getattr(i, "ndim", 1) == 0 or i is True for i in index):
            continue
        try:
            want = X[index]
        except IndexError:
            with pytest.raises(IndexError):
                fnp.asarray(X)[index]
            continue
        np.testing.assert_array_equal(fnp.asarray(X)[index], want)
        changed = X.copy()
        changed[index] = -1
        np.testing.assert_array_equal(fnp.asarray(X).at[index].set(-1), changed)
        checked += 1
    assert checked >= (1, 9, 60)[rank - 1]


def test_a_mask_without_axes_must_be_known():
    with pytest.raises(NonConcreteBooleanIndexError, match="its values are not known"):
        ft.jit(lambda x, mask: x[mask])(X, True)
    assert fnp.asarray(X).flat[7] == 7
