"""Every function in the table of dispatch, called as NumPy: eager, traced, mapped, differentiated.

The table is the one that `__array_function__` and `__array_ufunc__` read. Arguments are found by
trying: the first candidate that NumPy itself takes.
"""

import inspect

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.core import Array, ShapedArray
from funtorch.jaxpr import eval_jaxpr, stage
from funtorch.numpy import protocols

DISPATCH = next(
    cell.cell_contents
    for cell in Array.__array_function__.__closure__
    if hasattr(cell.cell_contents, "functions")
)
RNG = np.random.default_rng(0)
X, S, V = RNG.uniform(0.2, 0.8, (3, 4)), RNG.normal(size=(3, 3)), np.array([3.0, 1, 2, 5])
P, INTS = S @ S.T + np.eye(3), RNG.integers(1, 6, (3, 4))
M, W, CUBE = X > 0.5, np.arange(1, 5), RNG.normal(size=(2, 3, 4))
BYTES = np.array([[1, 3], [7, 255]], np.uint8)
TENSOR = RNG.normal(size=(4, 6, 8, 3))
OWN = {  # what the candidates do not fit
    "full_like": (X, 2.0), "broadcast_to": (X, (2, 3, 4)), "choose": (INTS - 1, [X, X, X, X, X, X]),
    "dsplit": (CUBE, 2), "einsum_path": ("ij,kj->ik", X, X), "polyfit": (V, V**2, 1),
    "polydiv": (V[:1], V),
    "polyadd": (V, V), "polysub": (V, V), "roll": (X, 1), "linalg.matrix_power": (S, 3),
    "linalg.tensorinv": (TENSOR.reshape(4, 6, 8, 3), 2), "apply_along_axis": (np.sum, 0, X),
    "apply_over_axes": (np.sum, X, [0]),
    "linalg.eigh": (P,), "linalg.eigvalsh": (P,), "roots": (V,), "poly": (V,),
    "interp": (X, W * 0.2, V), "vecmat": (V[:3], X),
    "piecewise": (X, [X < 0.5], [1.0, 2.0]), "trapezoid": (X,), "linalg.cond": (S,),
    "linalg.lstsq": (RNG.normal(size=(4, 2)), V), "select": ([M, ~M], [X, 2 * X]),
    "isin": (INTS, W),
    "vander": (V, 3), "ldexp": (X, INTS), "quantile": (X, 0.3),
    "percentile": (X, 30.0), "nanquantile": (X, 0.3), "nanpercentile": (X, 30.0),
    "take": (X, [1, 0], 1), "linalg.multi_dot": ([X, X.T, X],), "astype": (X, np.complex128),
    "resize": (X, (2, 3)), "searchsorted": (np.sort(V), X), "digitize": (X, np.array([0.3, 0.6])),
    "compress": ([True, False, True], X, 0), "delete": (V, 1), "insert": (V, 1, 9.0),
    "extract": (M, X), "bincount": (INTS.ravel(),), "unpackbits": (BYTES,), "packbits": (M,),
    "unravel_index": (W, (3, 4)), "ravel_multi_index": ([W[:2], W[:2]], (3, 4)), "tile": (X, 2),
    "repeat": (X, 2), "take_along_axis": (X, np.argsort(X, 1), 1), "partition": (V, 2),
    "argpartition": (np.arange(4.0), 2), "cross": (S, S),
    "linalg.tensorsolve": (RNG.normal(size=(6, 4, 2, 3, 4)), RNG.normal(size=(6, 4))),
    "linalg.matrix_rank": (S,), "spacing": (X,), "frexp": (X,), "histogram": (V,),
    "where": (M, X, X), "arccosh": (X + 1,),
    "histogram2d": (V, V), "histogramdd": (X,), "nan_to_num": (X,),
    "linalg.norm": (X,), "cov": (X,), "corrcoef": (X,), "gradient": (V,), "unique": (INTS,),
}  # fmt: skip
CANDIDATES = [
    (X,), (X, X), (V, V), (INTS,), (INTS, INTS), (P,), (V,), ([X, X],), (X, 1), (X, (4, 3)),
    (X, 0, 1), (V, 2),
    (M, X, X), (X, V), (CUBE,), (S, V[:3]), (W,), ("ij,ij->", X, X),
]  # fmt: skip
# The values mean nothing, an array is changed, or text and files are made.
LEFT_OUT = {
    "empty_like", "fill_diagonal", "place", "put", "put_along_axis", "save", "savez", "array_repr",
    "array_str", "can_cast", "result_type",
}  # fmt: skip
# Shapes or errors that depend on values: not under jit or vmap.
BY_VALUE = {
    "argwhere", "bincount", "choose", "compress", "delete", "extract", "flatnonzero", "insert",
    "intersect1d", "nonzero", "ravel_multi_index", "roots", "setdiff1d", "setxor1d", "trim_zeros",
    "union1d", "unique", "unique_all", "unique_counts", "unique_inverse", "unique_values",
    "einsum_path",
}  # fmt: skip


def label(source):
    for module, prefix in ((np, ""), (np.linalg, "linalg."), (np.fft, "fft.")):
        for name in (source.__name__, *dir(module)):
            if getattr(module, name, None) is source:
                return prefix + name
    raise AssertionError(source)


def works(source, args):
    try:
        source(*args)
    except (TypeError, ValueError, IndexError, AttributeError, np.linalg.LinAlgError):
        return False  # arguments for another function
    return True


def arguments(name, source):
    if name in OWN:
        return OWN[name]
    return next((c for c in CANDIDATES if works(source, c)), None)


SOURCES = {label(source): source for source in DISPATCH.functions}
CALLS = {
    name: (source, arguments(name, source))
    for name, source in SOURCES.items()
    if name not in LEFT_OUT
}


def split(args):
    """Return the NumPy arrays among arguments, in lists too, and the way to put others there."""
    arrays, slots = [], []
    for k, a in enumerate(args):
        if isinstance(a, np.ndarray):
            arrays.append(a)
            slots.append((k, None))
        elif isinstance(a, list) and a and all(isinstance(x, np.ndarray) for x in a):
            for j, x in enumerate(a):
                arrays.append(x)
                slots.append((k, j))

    def join(xs):
        full = [list(a) if isinstance(a, list) else a for a in args]
        for (k, j), x in zip(slots, xs, strict=True):
            if j is None:
                full[k] = x
            else:
                full[k][j] = x
        return full

    return arrays, join


def flat(out):
    parts = out if isinstance(out, (tuple, list)) else [out]
    return [x for part in parts for x in (part if isinstance(part, (tuple, list)) else [part])]


def same(got, want, name):
    gots, wants = flat(got), flat(want)
    assert len(gots) == len(wants), name
    for g, w in zip(gots, wants, strict=True):
        g, w = np.asarray(g), np.asarray(w)
        if w.dtype.kind in "US":
            continue
        assert g.shape == w.shape, name
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5, err_msg=name)


def test_every_function_has_arguments():
    assert [name for name, (_, args) in CALLS.items() if args is None] == []
    assert len(CALLS) > 300


@pytest.mark.parametrize("name", CALLS)
def test_called_as_numpy(name):
    source, args = CALLS[name]
    want = source(*args)
    arrays, join = split(args)
    assert arrays, f"{name} is called without an array"
    same(source(*join(map(fnp.asarray, arrays))), want, name)
    if name in BY_VALUE:
        return
    kept = []

    def traced(*xs):
        out = flat(source(*join(xs)))
        kept.append(len(out))
        return [fnp.asarray(x) for x in out if not isinstance(x, str)]

    jaxpr = stage(traced, [ShapedArray(a.shape, a.dtype) for a in arrays])
    if any(isinstance(x, str) for x in flat(want)):
        return
    same(eval_jaxpr(jaxpr, *map(fnp.asarray, arrays)), flat(want), name)
    batched = ft.vmap(lambda *xs: tuple(traced(*xs)))(
        *[fnp.stack([fnp.asarray(a)] * 2) for a in arrays]
    )
    same([x[1] for x in batched], flat(want), name)


# The derivative is undefined or follows another rule at these places; order depends on ties.
ROUGH = {
    "linalg.eig", "linalg.qr", "linalg.svd", "linalg.eigh", "histogram", "histogramdd",
    "histogram2d",
    "nextafter", "spacing",
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n, (_, a) in CALLS.items() if n not in BY_VALUE | ROUGH])
def test_differentiated(name):
    source, args = CALLS[name]
    arrays, join = split(args)
    floats = [k for k, a in enumerate(arrays) if a.dtype == np.float64]
    wants = [np.asarray(w) for w in flat(source(*args))]
    places = [k for k, w in enumerate(wants) if w.dtype.kind in "fc"]
    if not floats or not places:
        return
    steps = [RNG.normal(size=arrays[k].shape) for k in floats]

    def f(*xs):
        full = list(map(fnp.asarray, arrays))
        for k, x in zip(floats, xs, strict=True):
            full[k] = x
        out = flat(source(*join(full)))
        return [fnp.asarray(out[k]) for k in places]

    at = [fnp.asarray(arrays[k]) for k in floats]
    outs, tangents = ft.jvp(lambda *xs: f(*xs), at, [fnp.asarray(s) for s in steps])
    h = 1e-6
    ends = [f(*[x + d * h * s for x, s in zip(at, steps, strict=True)]) for d in (1, -1)]
    for t, high, low in zip(tangents, *ends, strict=True):
        want = (np.asarray(high) - np.asarray(low)) / (2 * h)
        if np.abs(want).max(initial=0) > 1e5:
            continue  # a jump lies in between
        np.testing.assert_allclose(np.asarray(t), want, rtol=1e-4, atol=1e-4, err_msg=name)
    cts = [fnp.asarray(RNG.normal(size=np.shape(o))).astype(o.dtype) for o in outs]
    back = ft.vjp(lambda *xs: f(*xs), *at)[1](cts)
    forth = sum(float(fnp.sum(fnp.real(c * t))) for c, t in zip(cts, tangents, strict=True))
    along = sum(float(np.sum(np.asarray(b) * s)) for b, s in zip(back, steps, strict=True))
    assert abs(forth - along) <= 1e-6 * (1 + abs(forth)), name


METHODS = ["reduce", "accumulate", "outer", "reduceat"]
BINARY = [
    "add", "multiply", "subtract", "maximum", "minimum", "logical_or", "logical_and", "logaddexp",
    "hypot", "divide", "fmax", "bitwise_xor", "gcd", "lcm",
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", BINARY)
def test_ufunc_methods(name, method):
    """NumPy's methods of ufuncs on our arrays, and those of our own ufuncs."""
    ufunc, ours = getattr(np, name), getattr(fnp, name, None)
    x = INTS if name in ("bitwise_xor", "gcd", "lcm") else X
    y = fnp.asarray(x)
    options = [{}] if method == "outer" else [{}, {"axis": 1}]
    if method == "reduce":
        options += [{"keepdims": True}, {"initial": 1}, {"where": M, "initial": 1}]
    for kwargs in options:
        args = {"outer": (x,), "reduceat": ([0, 2, 1],)}.get(method, ())
        want = getattr(ufunc, method)(x, *args, **kwargs)
        for function in (ufunc, ours):
            got = getattr(function, method)(y, *args, **kwargs)
            assert isinstance(got, Array)
            same(got, want, f"{name}.{method} {kwargs}")


def test_ufunc_at():
    x, i = fnp.asarray(V), fnp.asarray([0, 0, 3])
    for name in ("add", "multiply", "maximum", "subtract", "hypot"):
        want = V.copy()
        getattr(np, name).at(want, np.asarray(i), 2.0)
        same(getattr(fnp, name).at(x, i, 2.0, inplace=False), want, name)
    with pytest.raises(TypeError, match=r"numpy.add.at changes .*x.at\[indices\].add"):
        np.add.at(x, i, 1.0)
    with pytest.raises(NotImplementedError, match="pass inplace=False"):
        fnp.add.at(x, i, 1.0)


def test_out_and_where():
    x, buffer = fnp.asarray(X), np.zeros(X.shape)
    assert np.sin(x, out=buffer) is buffer
    np.testing.assert_allclose(buffer, np.sin(X))
    np.negative(x, out=buffer, where=M)
    np.testing.assert_allclose(buffer, np.where(M, -X, np.sin(X)))
    total = np.zeros(4)
    assert np.sum(x, axis=0, out=total) is total
    np.testing.assert_allclose(total, X.sum(0))
    whole, part = np.zeros(X.shape), np.zeros(X.shape)
    np.modf(x, out=(part, whole))
    np.testing.assert_allclose(part, X)
    with pytest.raises(TypeError, match=r"numpy.sin: out= cannot be used with traced or immutable"):
        np.sin(X, out=x)
    with pytest.raises(TypeError, match=r"numpy.sin: out= cannot"):
        ft.jit(lambda x: np.sin(x, out=buffer))(x)
    with pytest.raises(TypeError, match=r"where= needs out="):
        np.sin(x, where=M)
    with pytest.raises(TypeError, match=r"casting='unsafe' is not supported"):
        np.add(x, x, casting="unsafe")
    assert np.add(x, x, dtype=np.float32).dtype == np.float32
    with pytest.raises(NotImplementedError, match="sum: out= is not supported"):
        fnp.sum(x, out=buffer)


@pytest.mark.parametrize("name", ["fill_diagonal", "place", "put", "put_along_axis"])
def test_functions_that_write_say_so(name):
    options = {"axis": 1} if name == "put_along_axis" else {}
    args = (fnp.asarray(X), 1.0) if name == "fill_diagonal" else map(fnp.asarray, (X, INTS, V))
    with pytest.raises(TypeError, match=f"numpy.{name} changes its first argument"):
        getattr(np, name)(*args, **options)


def test_lists_and_numpy_only_functions():
    x = fnp.asarray(V)
    same(np.dot([1.0, 2, 3, 4], x), np.dot([1.0, 2, 3, 4], V), "dot")
    same(np.stack([V, x]), np.stack([V, V]), "stack")
    assert np.array2string(x) == np.array2string(V)
    assert np.real_if_close(x).tolist() == V.tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.clip(x, a_min=0.3, a_max=0.6),
        lambda x: np.clip(x, 0.3, 0.6),
        lambda x: np.histogram(x, 3, None, None, x)[0],
        lambda x: np.concatenate((x, x), axis=0, casting="same_kind"),
        lambda x: np.concatenate((x, x), 0, None),
        lambda x: np.vstack([x, x], dtype=np.float32),
        lambda x: np.zeros_like(x, np.float32, "K"),
        lambda x: np.real(val=x),
        lambda x: np.broadcast_to(x, (2, 3, 4), subok=False),
        lambda x: np.where(x > 0.5, x, 0),
        lambda x: np.argsort(x, axis=1, kind=None),
        lambda x: np.linalg.pinv(x, rcond=1e-6),
    ],
)
def test_the_names_and_places_that_numpy_gives_arguments(call):
    same(call(fnp.asarray(X)), call(X), "call")


def test_arguments_without_counterpart_are_named():
    with pytest.raises(TypeError, match=r"numpy.vstack: casting='unsafe' is not supported"):
        np.vstack([fnp.asarray(X)], casting="unsafe")


def test_signatures_kept_for_old_versions_are_numpys():
    if np.lib.NumpyVersion(np.__version__) < "2.4.0":
        pytest.skip("this NumPy does not tell them")
    for name, kept in protocols._UNTOLD.items():
        theirs = inspect.signature(getattr(np, name)).parameters.values()
        ours = inspect.signature(kept).parameters.values()
        assert [(p.name, p.kind) for p in theirs] == [(p.name, p.kind) for p in ours], name
