"""Every public function has a row in the table, and every row has the generic properties.

Eagerly the function gives what NumPy or SciPy gives, in each dtype; under jit and vmap what it
gives eagerly; its derivative is that of differences, and the backward pass the adjoint of the
forward one. Arrays that are not contiguous, empty, of rank 0 or of size 1 change nothing.
"""

from __future__ import annotations

import os
import re
import warnings
from typing import Any

import numpy as np
import pytest
import surface_rows_linalg  # noqa: F401  (they fill the table)
import surface_rows_numpy  # noqa: F401
import surface_rows_other  # noqa: F401
from surface_table import REASONS, ROWS, SPACES, Row, reference_of

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.core import ArrayImpl

GROUP = 24  # rows that are compiled together
# Special functions and samplers that reject take long to compile, inverse functions to call and to
# differentiate: test_special.py, test_stats.py and test_random.py do that, and so does this module
# if it is asked for everything.
EVERYTHING = bool(os.environ.get("FUNTORCH_SURFACE"))
COMPILED_ELSEWHERE = re.compile(
    "scipy.(special|stats)|lax.(igamma|betainc|random_gamma|zeta|poly)"
    "|random.(gamma|loggamma|chisquare|t|beta|f|dirichlet|poisson|binomial|multinomial|gener|ball)$"
)
SLOW = re.compile(r".*(\.ppf|\.isf|inv|kv|kve|jv|yv|iv|ive|betainc|igamma_grad_a|hyp.f1)$")


def public(space: Any) -> list[str]:
    names = getattr(space, "__all__", None) or [n for n in dir(space) if n[0] != "_"]
    found = ((n, getattr(space, n)) for n in names)
    return [n for n, f in found if callable(f) and not isinstance(f, type)]


def test_every_public_function_has_a_row_or_a_reason():
    names = {f"{key}.{name}" for key, space in SPACES.items() for name in public(space)}
    listed = set(ROWS) | set(REASONS)
    assert not sorted(names - listed), "give these a row in surface_rows_*.py, or a reason"
    assert not sorted(listed - names), "there are no such functions"
    assert not set(ROWS) & set(REASONS)


def test_spaces_are_all_there():
    """Nothing that the package shows under numpy, lax, scipy ... is left out of the table."""
    for key, space in list(SPACES.items()):
        for name in dir(space):
            inner = getattr(space, name)
            if f"{key}." in inner.__name__ if hasattr(inner, "__path__") else False:
                assert f"{key}.{name}" in SPACES, f"{key}.{name}"


# ------------------------------------------------------------------------------ arrays in arguments
def take(args: Any) -> list[np.ndarray]:
    """Return the arrays among arguments, in lists and tuples too."""
    if isinstance(args, (np.ndarray, np.generic)):
        return [np.asarray(args)]
    if isinstance(args, (list, tuple)):
        return [x for a in args for x in take(a)]
    return []


def put(args: Any, arrays: Any) -> Any:
    """Return arguments with other arrays, from an iterator."""
    if isinstance(args, (np.ndarray, np.generic)):
        return next(arrays)
    if isinstance(args, (list, tuple)) and take(args):
        return type(args)(put(a, arrays) for a in args)
    return args


def function_of(name: str) -> Any:
    space, _, last = name.rpartition(".")
    return getattr(SPACES[space], last)


def run(name: str, arrays: Any) -> list[Any]:
    """Call a row's function with other arrays; return the arrays and numbers of its result."""
    row, f = ROWS[name], function_of(name)
    args = put(row.args, iter(arrays))
    out = f(*args, **row.kw) if row.call is None else row.call(f, *args, **row.kw)
    return ft.tree.leaves(out)


def leaves(x: Any) -> list[np.ndarray]:
    if isinstance(x, (list, tuple)):
        return [leaf for v in x for leaf in leaves(v)]
    return [] if x is None else [np.asarray(x)]


def inputs(row: Row) -> list[ArrayImpl]:
    return [ArrayImpl(a) for a in take(row.args)]


def close(got: Any, want: Any, tol: float, what: str) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, wanted {want.shape}"
    if got.dtype.kind in "biu" and want.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want, what)
        return
    wide = np.complex128 if "c" in (got.dtype.kind, want.dtype.kind) else np.float64
    scale = np.abs(want[np.isfinite(want)]).max(initial=1e-300) if want.size else 1
    np.testing.assert_allclose(
        got.astype(wide), want.astype(wide), rtol=tol, atol=tol * float(scale), err_msg=what
    )


def quietly(f: Any, *args: Any) -> Any:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return f(*args)


# -------------------------------------------------------------------------------------- properties
def cast(arrays: list[np.ndarray], dtype: Any) -> list[np.ndarray]:
    """Return float arrays in another dtype; complex ones get an imaginary part."""
    kind = np.dtype(dtype).kind
    part = 0.3j if kind == "c" else 0
    return [(a + part * a[..., ::-1] if a.ndim else a).astype(dtype) if a.dtype == np.float64 else a
            for a in arrays]  # fmt: skip


NARROW = {"float32": 2e-4, "complex64": 2e-4}


@pytest.mark.parametrize("name", ROWS)
def test_eager(name):
    row, reference = ROWS[name], reference_of(name)
    arrays = take(row.args)
    if reference is None:
        assert row.apart, "no function of NumPy or SciPy has this name: give a reference"
        return
    has_floats = any(a.dtype == np.float64 for a in arrays)
    narrow = ("float32",) if row.reals and has_floats else ()
    for dtype in ("float64", *narrow, *row.dtypes):
        given = cast(arrays, dtype) if dtype != "float64" else arrays
        exact = [a.astype(np.float64) if a.dtype == np.float32 else a for a in given]
        wants = leaves(quietly(reference, *put(row.args, iter(exact))))
        gots = run(name, [ArrayImpl(a) for a in given])
        assert len(gots) == len(wants), f"{name}: {len(gots)} results, wanted {len(wants)}"
        for got, want in zip(gots, wants, strict=True):
            close(got, want, NARROW.get(dtype, row.rtol), f"{name} of {dtype}")
            got = np.asarray(got)
            if dtype == "float32" and want.dtype.kind in "fc" and has_floats:
                single = np.complex64 if got.dtype.kind == "c" else np.float32
                assert got.dtype in (single, np.int32, np.bool_), f"{name} of float32: {got.dtype}"


FIXED = [name for name, row in ROWS.items() if row.fixed]
COMPILED = [name for name in FIXED if EVERYTHING or not COMPILED_ELSEWHERE.match(name)]
GROUPS = [COMPILED[k : k + GROUP] for k in range(0, len(COMPILED), GROUP)]


@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_jit(names):
    def all_of(arrays):
        return [run(name, own) for name, own in zip(names, arrays, strict=True)]

    arrays = [inputs(ROWS[name]) for name in names]
    for name, got, own in zip(names, ft.jit(all_of)(arrays), arrays, strict=True):
        want = run(name, own)
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            close(g, w, max(ROWS[name].rtol, 1e-9), f"{name}, compiled")
            assert np.asarray(g).dtype == np.asarray(w).dtype or not hasattr(w, "dtype"), name


MAPPED = [
    name
    for name in FIXED
    if take(ROWS[name].args) and (EVERYTHING or not SLOW.match(name) or "random" in name)
]


@pytest.mark.parametrize("name", MAPPED)
def test_vmap(name):
    own = take(ROWS[name].args)
    others = [a[..., ::-1] if a.dtype.kind in "fc" and a.ndim > 1 and a.shape[-1] != a.shape[-2]
              else a for a in own]  # fmt: skip
    stacks = [ArrayImpl(np.stack([a, b])) for a, b in zip(own, others, strict=True)]
    got = ft.vmap(lambda *arrays: [fnp.asarray(x) for x in run(name, arrays)])(*stacks)
    for k, arrays in enumerate((own, others)):
        want = run(name, [ArrayImpl(np.array(a)) for a in arrays])
        for g, w in zip(got, want, strict=True):
            close(g[k], w, max(ROWS[name].rtol, 1e-9), f"{name}, mapped, number {k}")


SMOOTH = [
    name
    for name, row in ROWS.items()
    if row.smooth
    and any(a.dtype.kind in "fc" for a in take(row.args))
    and (EVERYTHING or not SLOW.match(name))
]


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives(name):
    row = ROWS[name]
    arrays = take(row.args)
    at = [k for k, a in enumerate(arrays) if a.dtype.kind in "fc"]
    rng = np.random.default_rng(len(name))

    def f(*xs):
        full = [ArrayImpl(a) for a in arrays]
        for k, x in zip(at, xs, strict=True):
            full[k] = x
        return [x for x in map(fnp.asarray, run(name, full)) if x.dtype.kind in "fc"]

    def direction(x):
        t = rng.normal(size=x.shape)
        return ArrayImpl(t + 1j * rng.normal(size=x.shape) if x.dtype.kind == "c" else t)

    xs = [ArrayImpl(arrays[k]) for k in at]
    ts = [direction(x) for x in xs]
    outs, changes = ft.jvp(f, xs, ts)
    if not outs:
        return
    h = 1e-6
    high, low = (f(*(x + s * h * t for x, t in zip(xs, ts, strict=True))) for s in (1, -1))
    for change, a, b in zip(changes, high, low, strict=True):
        close(change, (np.asarray(a) - np.asarray(b)) / (2 * h), row.slope, f"{name}: slope")
    back = ft.vjp(f, *xs)[1]
    cts = [direction(o).astype(o.dtype) for o in outs]
    dots = [
        sum(
            float(np.real(np.sum(np.asarray(a) * np.asarray(b)))) for a, b in zip(p, q, strict=True)
        )
        for p, q in ((cts, changes), (back(cts), ts))
    ]
    size = sum(float(np.abs(np.asarray(c)).sum()) for c in changes)
    assert abs(dots[0] - dots[1]) <= 1e-7 * (1 + size), f"{name}: backward {dots}"


@pytest.mark.parametrize("name", MAPPED)
def test_not_contiguous(name):
    """Views of other arrays, transposed and with steps, give what copies give."""
    own = take(ROWS[name].args)

    def view(a):
        if a.ndim > 1:
            return np.ascontiguousarray(a.swapaxes(0, -1)).swapaxes(0, -1)
        return np.repeat(a, 2)[::2] if a.ndim else a

    got = run(name, [ArrayImpl(view(a)) for a in own])
    for g, w in zip(got, run(name, [ArrayImpl(a) for a in own]), strict=True):
        close(g, w, 1e-9, f"{name} of views")


# Where NumPy answers and we, as JAX, refuse or answer otherwise; or references are for one shape.
DIFFERENT = re.compile(
    "|".join(
        [
            r"numpy.(nan)?(median|quantile|percentile) .*0",
            r"numpy.tri[lu] .\d,",
            r"stats.sem ..$",
            r"numpy.put",
            r"numpy.argsort ..$",
            r"partition",
            r"sort_key_val",
            r"lax.(broadcast_in_dim|broadcast_to_rank|tile|fft)",
            r"lax.(dynamic_slice|index|dynamic_index)_in_dim",
            r"lax.(top_k|approx_)",
            r"dot_general",
            r"fiedler",
            r"hankel",
            r"special.sph_harm_y",
            r"optimize",
            r"softmax ..$",
            r"nn.glu",
            r"apply_over_axes",
            r"associative_scan",
            r"lax.(p|all_|axis_|slice)",
            r"polyder .",
            r"signal.detrend .1",
        ]
    )
)
ALIKE = [
    name
    for name in FIXED
    if (shapes := {a.shape for a in take(ROWS[name].args)}) in ({(3, 4)}, {(4,)})
    and not ROWS[name].apart
]
SHAPES = ((), (1,), (0,), (1, 1), (2, 0))


@pytest.mark.parametrize("name", ALIKE)
def test_other_shapes(name):
    """Where the reference takes arrays of rank 0, of size 1 or empty ones, so do we, and agree."""
    row, reference = ROWS[name], reference_of(name)
    for shape in SHAPES:
        arrays = [np.resize(a, shape) for a in take(row.args)]
        try:
            wants = leaves(quietly(reference, *put(row.args, iter(arrays))))
        except (ValueError, IndexError, TypeError, np.linalg.LinAlgError, StopIteration):
            continue
        if DIFFERENT.search(f"{name} {shape}"):
            continue
        gots = run(name, [ArrayImpl(a) for a in arrays])
        for got, want in zip(gots, wants, strict=True):
            close(got, want, row.rtol, f"{name} of shape {shape}")
