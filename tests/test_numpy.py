"""funtorch.numpy against NumPy: one row per call, computed eagerly and through a recorded program."""

# ruff: noqa: E501  (a table is read by its rows)
import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.core import ShapedArray
from funtorch.errors import ConcretizationTypeError
from funtorch.jaxpr import check_jaxpr, eval_jaxpr, stage

RNG = np.random.default_rng(0)
F = RNG.normal(size=(3, 4)).astype(np.float32)
G = RNG.normal(size=(3, 4)).astype(np.float32)
U = RNG.uniform(0.1, 0.9, size=(3, 4)).astype(np.float32)  # inside every domain
D = RNG.normal(size=(3, 4))
V = RNG.normal(size=5).astype(np.float32)
W = RNG.normal(size=5).astype(np.float32)
I = RNG.integers(-5, 6, size=(3, 4)).astype(np.int32)  # noqa: E741
J = RNG.integers(1, 5, size=(3, 4)).astype(np.int32)
K = np.arange(6, dtype=np.int32)[::-1].copy()
N = F.copy()
N[0, 0] = N[2, 3] = np.nan
N[1, 1], N[1, 2] = np.inf, -np.inf
B = F > 0
C = (F + 1j * G).astype(np.complex64)
T = RNG.normal(size=(2, 3, 4)).astype(np.float32)
M = RNG.normal(size=(4, 4)).astype(np.float32)
S = (M @ M.T + 4 * np.eye(4)).astype(np.float32)
ROW = F[:1]

UNARY = [
    "sin",
    "cos",
    "tan",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "arcsinh",
    "exp",
    "exp2",
    "expm1",
    "absolute",
    "fabs",
    "sign",
    "floor",
    "ceil",
    "trunc",
    "rint",
    "cbrt",
    "square",
    "negative",
    "positive",
    "isnan",
    "isinf",
    "isfinite",
    "isposinf",
    "isneginf",
    "signbit",
    "sinc",
    "deg2rad",
    "rad2deg",
    "degrees",
    "radians",
    "nan_to_num",
    "isreal",
    "iscomplex",
    "logical_not",
]
INSIDE = ["sqrt", "log", "log2", "log10", "log1p", "arcsin", "arccos", "arctanh", "reciprocal"]
BINARY = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "true_divide",
    "floor_divide",
    "remainder",
    "mod",
    "fmod",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "arctan2",
    "hypot",
    "logaddexp",
    "logaddexp2",
    "copysign",
    "heaviside",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
    "isclose",
    "nextafter",
]
BITS = ["bitwise_and", "bitwise_or", "bitwise_xor"]

ROWS = [
    *[(name, (F,), {}) for name in UNARY],
    *[(name, (U,), {}) for name in INSIDE],
    *[(name, (D,), {}) for name in ("sin", "exp", "floor", "sum", "mean", "cumsum", "sort")],
    *[(name, (F, G), {}) for name in BINARY],
    *[(name, (F, ROW), {}) for name in ("add", "maximum", "arctan2", "less")],
    *[(name, (I, J), {}) for name in ("add", "multiply", "floor_divide", "remainder", "fmod", *BITS, "power")],
    *[(name, (J, 2), {}) for name in ("left_shift", "right_shift", "power", "floor_divide")],
    ("arccosh", (U + 1,), {}), ("power", (U, G), {}), ("power", (F, 3), {}), ("float_power", (U, G), {}),
    ("invert", (I,), {}), ("absolute", (C,), {}), ("angle", (C,), {}), ("conjugate", (C,), {}),
    ("real", (C,), {}), ("imag", (C,), {}), ("exp", (C,), {}), ("multiply", (C, C), {}),
    ("ldexp", (F, I), {}), ("modf", (F,), {}), ("divmod", (F, G), {}), ("round", (F, 2), {}),
    ("clip", (F, -0.5, 0.5), {}), ("where", (B, F, G), {}), ("select", ([B, ~B], [F, G]), {}),
    ("where", (B, F, 0.0), {}), ("nan_to_num", (N,), {}), ("allclose", (F, F), {}), ("array_equal", (F, G), {}),
    # creation
    ("zeros", ((2, 3),), {}), ("ones", (3,), {"dtype": np.int32}), ("full", ((2,), 7.0), {}),
    ("zeros_like", (F,), {}), ("ones_like", (I,), {}), ("full_like", (F, 2), {}), ("arange", (5,), {}),
    ("arange", (1, 8, 3), {}), ("arange", (0.0, 1.0, 0.25), {}), ("linspace", (0.0, 1.0, 7), {}),
    ("linspace", (F, G, 5), {}), ("linspace", (0.0, 1.0, 4), {"endpoint": False}), ("logspace", (0.0, 2.0, 5), {}),
    ("geomspace", (1.0, 100.0, 5), {}), ("geomspace", (-F, -9 * F, 4), {"axis": -1}), ("logspace", (0.0, 2.0, 3), {"base": abs(F), "axis": 1}), ("eye", (3,), {}), ("eye", (3, 4, 1), {}), ("identity", (2,), {}),
    ("tri", (3, 4, 1), {}), ("tril", (F,), {}), ("triu", (T, 1), {}), ("diag", (V,), {}), ("diag", (V, -2), {}),
    ("diag", (F, 1), {}), ("diagflat", (F,), {}), ("meshgrid", (V, K), {}), ("vander", (V, 3), {}),
    ("meshgrid", (V, K), {"indexing": "ij", "sparse": True}), ("indices", ((2, 3),), {}),
    ("tril_indices", (4,), {}), ("triu_indices", (4, 1), {}), ("tril_indices_from", (M,), {}),
    ("hanning", (6,), {}), ("diag_indices", (3,), {}),
    # manipulation
    ("reshape", (F, (2, -1)), {}), ("reshape", (F, (2, 6)), {"order": "F"}), ("ravel", (F,), {}),
    ("transpose", (T,), {}), ("transpose", (T, (1, 0, 2)), {}), ("moveaxis", (T, 0, -1), {}),
    ("moveaxis", (T, (0, 1), (2, 0)), {}), ("rollaxis", (T, 2), {}), ("swapaxes", (T, 0, 2), {}),
    ("expand_dims", (F, (0, 2)), {}), ("squeeze", (ROW,), {}), ("stack", ([F, G],), {"axis": 1}),
    ("vstack", ([V, W],), {}), ("hstack", ([F, G],), {}), ("dstack", ([V, W],), {}), ("flip", (T, (0, 2)), {}),
    ("column_stack", ([V, W],), {}), ("concatenate", ([F, I],), {}), ("concatenate", ([F, G], None), {}),
    ("append", (F, G), {"axis": 0}), ("split", (F, 2), {"axis": 1}), ("array_split", (V, 3), {}),
    ("split", (V, [1, 3]), {}), ("hsplit", (F, 2), {}), ("vsplit", (F, [1]), {}), ("dsplit", (T, 2), {}),
    ("tile", (F, (2, 1, 2)), {}), ("repeat", (F, 2), {}), ("repeat", (V, [1, 0, 2, 1, 3]), {}),
    ("repeat", (F, 3), {"axis": 1}), ("roll", (F, 1), {}), ("roll", (F, (1, -2)), {"axis": (0, 1)}),
    ("rot90", (F,), {}), ("rot90", (T, 3), {"axes": (0, 2)}), ("fliplr", (F,), {}), ("flipud", (F,), {}),
    ("pad", (F, 1), {}), ("pad", (F, ((1, 0), (2, 3))), {"constant_values": 5.0}),
    *[("pad", (F, ((2, 1), (0, 2))), {"mode": mode}) for mode in ("edge", "reflect", "symmetric", "wrap")],
    ("broadcast_to", (V, (2, 5)), {}), ("broadcast_arrays", (F, ROW), {}), ("atleast_2d", (V,), {}),
    ("atleast_3d", (V,), {}), ("block", ([[F, F], [G, G]],), {}), ("delete", (F, 1), {"axis": 0}),
    ("insert", (V, 2, 9.0), {}), ("insert", (F, 1, V[:4]), {"axis": 0}), ("resize", (V, (3, 4)), {}),
    # reductions
    *[(name, (F,), {}) for name in ("sum", "prod", "mean", "var", "std", "max", "min", "ptp", "argmax", "argmin")],
    *[(name, (T,), {"axis": 1, "keepdims": True}) for name in ("sum", "mean", "std", "max", "median")],
    *[(name, (T,), {"axis": (0, 2)}) for name in ("sum", "prod", "mean", "var", "max", "min", "any", "all")],
    ("sum", (F,), {"where": B, "initial": 1.0}), ("max", (F,), {"where": B, "initial": 0.0, "axis": 0}),
    ("mean", (F,), {"where": B}), ("var", (F,), {"ddof": 1, "axis": 0}), ("sum", (I,), {}), ("sum", (B,), {}),
    ("std", (C,), {}), ("mean", (I,), {}), ("any", (B,), {"axis": 0}), ("cumsum", (F,), {"axis": 1}),
    ("cumprod", (F,), {}), ("cumsum", (I,), {"axis": 0}), ("count_nonzero", (I,), {"axis": 1}),
    ("argmax", (T,), {"axis": 1, "keepdims": True}), ("average", (F,), {"axis": 1, "weights": np.arange(4.0, dtype="f4")}),
    *[(name, (N,), {"axis": 0}) for name in (
        "nansum", "nanprod", "nanmax", "nanmin", "nanargmax", "nanargmin", "nanmedian", "nancumsum")],
    *[(name, (np.where(np.isinf(N), 1, N).astype("f4"),), {"axis": 1}) for name in ("nanmean", "nanvar", "nanstd")],
    ("median", (V,), {}), ("quantile", (F, 0.3), {}), ("quantile", (F, np.float32([0.1, 0.9])), {"axis": 1}),
    ("percentile", (F, 25.0), {"axis": 0, "method": "higher"}), ("nanquantile", (N, 0.5), {"axis": 1}),
    # sorting and searching
    ("sort", (N,), {}), ("sort", (F,), {"axis": None}), ("argsort", (F,), {"axis": 0}), ("lexsort", ((K, K % 2),), {}),
    ("searchsorted", (np.sort(V), F), {}), ("searchsorted", (np.sort(V), V), {"side": "right"}),
    ("digitize", (F, np.float32([-1, 0, 1])), {}), ("isin", (I, [1, 2]), {}), ("interp", (F, np.sort(V), W), {}),
    # products
    ("dot", (F, M), {}), ("dot", (V, W), {}), ("matmul", (T, M), {}), ("matmul", (F[0], M), {}), ("kron", (F, ROW), {}),
    ("matmul", (M, T.transpose(0, 2, 1)), {}), ("inner", (F, G), {}), ("outer", (V, K), {}), ("vdot", (C, C), {}),
    ("tensordot", (T, F), {"axes": ([1, 2], [0, 1])}), ("tensordot", (F, M, 1), {}), ("trace", (M,), {}),
    ("cross", (F[:, :3], G[:, :3]), {}), ("diagonal", (T,), {"offset": 1, "axis1": 1, "axis2": 2}),
    ("einsum", ("ij,jk->ik", F, M), {}), ("einsum", ("ij,ij->", F, G), {}), ("einsum", ("ii->i", M), {}),
    ("einsum", ("bij,kj->bik", T, F), {}), ("einsum", ("...ij->...ji", T), {}), ("einsum", ("i,j", V, W), {}),
    ("einsum", ("bij,bjk,kl->bil", T, T.transpose(0, 2, 1), M[:3]), {}), ("vecdot", (F, G), {}),
    # along an axis
    ("diff", (F,), {"n": 2}), ("diff", (V,), {"prepend": 0.0}), ("ediff1d", (V,), {}), ("gradient", (V,), {}),
    ("gradient", (F, 2.0), {"axis": 0}), ("convolve", (V, W[:3]), {}), ("convolve", (V, W[:2]), {"mode": "same"}),
    ("correlate", (V, W[:3]), {"mode": "full"}), ("correlate", (W[:3], V), {"mode": "full"}), ("cov", (F,), {}),
    ("corrcoef", (F,), {}), ("polyval", (V, F), {}), ("trapezoid", (F,), {"dx": 0.5}), ("unwrap", (3 * F,), {}),
    ("polyadd", (V, W[:2]), {}), ("polymul", (V, W), {}), ("polyder", (V,), {}), ("polyint", (V,), {}),
    ("take", (F, np.array([0, 2])), {"axis": 0}), ("take_along_axis", (F, np.argsort(F, 1), 1), {}),
    # linear algebra
    *[(f"linalg.{name}", (S,), {}) for name in ("det", "inv", "slogdet", "cholesky", "eigvalsh", "pinv", "cond")],
    *[("linalg.norm", (F,), {"ord": ord}) for ord in (None, "fro", "nuc", np.inf, -np.inf, 1, -1, 2, -2)],
    *[("linalg.norm", (V,), {"ord": ord}) for ord in (None, np.inf, -np.inf, 0, 1, 2, 3)],
    ("linalg.norm", (T,), {"axis": 1, "keepdims": True}), ("linalg.norm", (T,), {"axis": (0, 2)}),
    ("linalg.solve", (S, V[:4]), {}), ("linalg.solve", (S, F.T), {}), ("linalg.matrix_power", (M, 3), {}),
    ("linalg.matrix_rank", (S,), {}), ("linalg.multi_dot", ([F, M, M],), {}), ("linalg.svdvals", (F,), {}),
    ("linalg.matrix_power", (S, -2), {}), ("linalg.lstsq", (F.T, V[:4]), {}),
]  # fmt: skip
EAGER_ONLY = {
    "tril_indices",
    "triu_indices",
    "diag_indices",
    "tril_indices_from",
}  # no array arguments that matter


def find(module, name):
    for part in name.split("."):
        module = getattr(module, part)
    return module


def convert(x, f):
    if isinstance(x, np.ndarray):
        return f(x)
    if isinstance(x, (list, tuple)) and any(isinstance(y, np.ndarray) for y in x):
        return type(x)(convert(y, f) for y in x)
    return x


def flat(out):
    if isinstance(out, (tuple, list)):
        return [y for x in out for y in flat(x)]
    return [out]


def close(ours, theirs, name):
    assert len(ours) == len(theirs), (len(ours), len(theirs))
    for a, b in zip(ours, theirs, strict=True):
        b = np.asarray(b)
        assert a.shape == b.shape
        np.testing.assert_allclose(np.asarray(a), b, rtol=2e-4, atol=2e-5)


def row_id(row):
    shapes = "-".join("x".join(map(str, a.shape)) for a in row[1] if isinstance(a, np.ndarray))
    return f"{row[0]}({shapes}){','.join(map(str, row[2]))}"


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_equals_numpy(row):
    name, args, kwargs = row
    theirs = getattr(np, name, None) if "." not in name else find(np, name)
    with np.errstate(all="ignore"):
        want = flat(theirs(*args, **kwargs))
    ours = find(fnp, name)
    arrays = []
    convert(args, arrays.append)
    close(flat(ours(*convert(args, fnp.asarray), **convert_values(kwargs))), want, name)

    def program(*xs):
        pieces = iter(xs)
        call = convert(args, lambda _: next(pieces))
        return [fnp.asarray(y) for y in flat(ours(*call, **kwargs))]

    if name in STATIC_VALUES:
        return
    jaxpr = stage(program, [ShapedArray(x.shape, x.dtype) for x in arrays], name)
    check_jaxpr(jaxpr)
    close(eval_jaxpr(jaxpr, *map(fnp.asarray, arrays)), want, name)


def convert_values(kwargs):
    return {key: convert(value, fnp.asarray) for key, value in kwargs.items()}


STATIC_VALUES = {"insert", "delete"} | EAGER_ONLY


def test_indices_of_the_flattened_array():
    shape, flat = (2, 3, 4), np.array([0, 5, 23, 11])
    for mine, theirs in zip(
        fnp.unravel_index(flat, shape), np.unravel_index(flat, shape), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    assert [int(k) for k in ft.jit(lambda i: fnp.unravel_index(i, shape))(99)] == [1, 2, 3]
    assert fnp.unravel_index(np.zeros(0, int), (3, 0))[0].shape == (0,)
    parts = np.unravel_index(flat, shape)
    for order in "CF":
        want = np.ravel_multi_index(parts, shape, order=order)
        np.testing.assert_array_equal(fnp.ravel_multi_index(parts, shape, order=order), want)
    assert int(fnp.ravel_multi_index((5, -1), (3, 4), mode=("clip", "wrap"))) == 11
    with pytest.raises(ValueError, match="along axis 1 is out of range for size 4"):
        fnp.ravel_multi_index((0, 4), (3, 4))
    with pytest.raises(ValueError, match="1 coordinates and 2 modes"):
        fnp.ravel_multi_index((0,), (3, 4))
    with pytest.raises(TypeError, match="unravel_index: indices must be integers"):
        fnp.unravel_index(1.5, (3, 4))


def test_sinc_has_derivatives_of_every_order_at_zero():
    f, found = fnp.sinc, []
    for _ in range(6):
        f = ft.grad(f)
        found.append(float(f(0.0)))
    want = [0, -(np.pi**2) / 3, 0, np.pi**4 / 5, 0, -(np.pi**6) / 7]
    np.testing.assert_allclose(found, want, rtol=1e-6)


@pytest.mark.parametrize("right", [False, True])
def test_digitize_in_falling_bins(right):
    x, bins = np.array([1.0, 2.0, 2.5, 1.5, 3.0, 3.5, 0.5]), np.array([3.0, 2.0, 1.0])
    np.testing.assert_array_equal(fnp.digitize(x, bins, right=right), np.digitize(x, bins, right))


def test_likes_take_descriptions_of_arrays():
    model = ft.ShapeDtypeStruct((2, 3), "int8")
    assert fnp.zeros_like(model).aval == fnp.zeros((2, 3), "int8").aval
    assert fnp.full_like(model, 7, shape=(1,)).tolist() == [7]
    assert fnp.size(np.ones((2, 3, 4)), axis=(0, -1)) == 8


def test_a_path_for_einsum_is_taken_with_and_without_its_name():
    xs = [np.arange(6.0).reshape(2, 3), np.ones((3, 4)), np.ones((4, 2))]
    path, _ = fnp.einsum_path("ij,jk,kl->il", *xs)
    for optimize in (path, ["einsum_path", *path]):
        found = fnp.einsum("ij,jk,kl->il", *xs, optimize=optimize)
        np.testing.assert_allclose(found, xs[0] @ xs[1] @ xs[2])


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin", "maximum", "minimum", "ptp"])
@pytest.mark.parametrize("with_nan", [False, True])
def test_complex_numbers_are_in_lexicographic_order(name, with_nan):
    rng = np.random.default_rng(0)
    z = (rng.integers(0, 3, (4, 5)) + 1j * rng.integers(0, 3, (4, 5))).astype("c8")
    if with_nan:
        z[1, 2], z[2, 0] = complex(np.nan, 1), complex(1, np.nan)
    if name.endswith("imum"):
        cases = [lambda xp, a: getattr(xp, name)(a, a[::-1])]
    else:
        cases = [lambda xp, a, k=k: getattr(xp, name)(a, axis=k) for k in (None, 0, 1)]
    for f in cases:
        want = f(np, z)
        for found in (f(fnp, fnp.asarray(z)), ft.jit(lambda a, f=f: f(fnp, a))(z)):
            nan = np.isnan(want)
            np.testing.assert_array_equal(np.isnan(found), nan)
            np.testing.assert_array_equal(np.where(nan, 0, found), np.where(nan, 0, want))


@pytest.mark.parametrize("total", [3, 6, 9])
def test_repeat_by_traced_numbers(total):
    x, repeats = np.arange(8.0).reshape(2, 4), np.array([2, 0, 3, 1])
    f = ft.jit(lambda a, n: fnp.repeat(a, n, axis=1, total_repeat_length=total))
    want = fnp.repeat(x, repeats, axis=1, total_repeat_length=total)
    np.testing.assert_array_equal(f(x, repeats), want)
    np.testing.assert_array_equal(want[:, :6], np.repeat(x, repeats, axis=1)[:, :total])


def test_delete_at_traced_places():
    x = np.arange(12.0).reshape(3, 4)
    f = ft.jit(lambda a, k: fnp.delete(a, k, axis=1, assume_unique_indices=True))
    np.testing.assert_array_equal(f(x, np.array([3, -4])), x[:, 1:3])
    with pytest.raises(ft.errors.ConcretizationTypeError, match="argument obj of delete"):
        ft.jit(fnp.delete)(x, np.array([1]))


@pytest.mark.parametrize(
    "rule", ["auto", "fd", "doane", "scott", "stone", "rice", "sturges", "sqrt"]
)
def test_histograms_take_the_names_of_rules(rule):
    counts, edges = fnp.histogram(F, rule)
    np.testing.assert_array_equal(counts, np.histogram(F, rule)[0])
    np.testing.assert_allclose(edges, np.histogram(F, rule)[1], rtol=1e-6)
    with pytest.raises(ConcretizationTypeError, match="the number of edges that bins='auto' gives"):
        ft.jit(lambda x: fnp.histogram(x, "auto"))(F)
