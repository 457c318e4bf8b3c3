"""Properties over random shapes, dtypes and axes: eager = NumPy, jit = eager, vmap = loop, vjp =
jvp^T."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import assume, given
from hypothesis.extra import numpy as hnp

import funtorch as ft
import funtorch.numpy as fnp

DTYPES = st.sampled_from(["float32", "float64", "int32", "int64", "uint8", "bool", "complex64"])
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def values(dtype: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return small numbers, so that sums in any order agree to rounding."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "c":
        return (rng.integers(-4, 5, shape) + 1j * rng.integers(-4, 5, shape)).astype(dtype)
    return rng.integers(0 if np.dtype(dtype).kind in "ub" else -4, 5, shape).astype(dtype)


def agree(found, expected) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-5, atol=1e-5)


@st.composite
def arrays_with_axes(draw):
    x = values(draw(DTYPES), draw(SHAPES), draw(st.integers(0, 99)))
    axes = draw(st.lists(st.integers(0, max(x.ndim - 1, 0)), unique=True, max_size=x.ndim))
    axes = tuple(a - x.ndim if draw(st.booleans()) else a for a in axes)
    return x, axes or None


@given(
    arrays_with_axes(), st.sampled_from(["sum", "prod", "max", "min", "any", "all"]), st.booleans()
)
def test_reductions(case, name: str, keepdims: bool) -> None:
    x, axes = case
    if name in ("max", "min"):
        assume(x.dtype.kind != "c" and x.size)
    ours = getattr(fnp, name)
    found = ours(fnp.asarray(x), axis=axes, keepdims=keepdims)
    expected = getattr(np, name)(x, axis=axes, keepdims=keepdims)
    assert found.shape == np.shape(expected)
    agree(found, expected)
    agree(ft.jit(lambda v: ours(v, axis=axes, keepdims=keepdims))(x), found)


@st.composite
def broadcastable(draw):
    shapes = draw(
        hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=4)
    ).input_shapes
    seed = draw(st.integers(0, 99))
    return [values(draw(DTYPES), s, seed + k) for k, s in enumerate(shapes)]


@given(broadcastable(), st.sampled_from(["add", "subtract", "multiply", "maximum", "equal"]))
def test_broadcasting_and_promotion(pair, name: str) -> None:
    x, y = pair
    assume(not (name == "subtract" and x.dtype == y.dtype == np.bool_))
    assume(name != "maximum" or "c" not in (x.dtype.kind, y.dtype.kind))
    ours = getattr(fnp, name)
    found = ours(fnp.asarray(x), fnp.asarray(y))
    expected = getattr(np, name)(x.astype(found.dtype), y.astype(found.dtype))
    assert found.shape == expected.shape
    agree(found, getattr(np, name)(x, y))
    compiled = ft.jit(ours)(x, y)
    assert compiled.dtype == found.dtype
    agree(compiled, found)


@given(SHAPES, st.data())
def test_movement(shape: tuple[int, ...], data) -> None:
    x = values("float32", shape, 0)
    perm = tuple(data.draw(st.permutations(range(len(shape)))))
    flips = data.draw(st.lists(st.sampled_from(range(max(len(shape), 1))), unique=True))
    flips = tuple(a for a in flips if a < len(shape))

    def move(v, lib):
        return lib.ravel(lib.flip(lib.transpose(v, perm), flips)) * 2

    expected = move(x, np)
    agree(move(fnp.asarray(x), fnp), expected)
    agree(ft.jit(lambda v: move(v, fnp))(x), expected)
    _, back = ft.vjp(lambda v: move(v, fnp), fnp.asarray(x))
    ct = values("float32", expected.shape, 1)
    agree(np.vdot(ct, expected), np.vdot(np.asarray(back(fnp.asarray(ct))[0]), x))


@given(st.integers(0, 3), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.booleans())
def test_matmul_under_vmap(batch: int, n: int, k: int, m: int, shared: bool) -> None:
    x = values("float32", (batch, n, k), 0)
    y = values("float32", (k, m) if shared else (batch, k, m), 1)
    assume(batch)
    axes = (0, None if shared else 0)
    found = ft.vmap(lambda a, b: a @ b, in_axes=axes)(fnp.asarray(x), fnp.asarray(y))
    agree(found, x @ y)
    agree(ft.jit(ft.vmap(lambda a, b: a @ b, in_axes=axes))(x, y), x @ y)


@given(hnp.array_shapes(min_dims=1, max_dims=3, max_side=4), st.data())
def test_vmap_equals_a_loop_for_any_axes(shape: tuple[int, ...], data) -> None:
    x = fnp.asarray(values("float64", shape, 2))
    in_axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    out_axis = data.draw(st.integers(-len(shape), len(shape) - 1))

    def f(v):
        return fnp.cumsum(v, axis=-1) * fnp.sum(v) if v.ndim else v * v

    found = ft.vmap(f, in_axes=in_axis, out_axes=out_axis)(x)
    rows = np.moveaxis(np.asarray(x), in_axis, 0)
    agree(found, np.stack([np.asarray(f(fnp.asarray(r))) for r in rows], axis=out_axis))
