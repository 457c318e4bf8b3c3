"""Rows of the table of public functions: elementwise ones, reductions, shapes and moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special
import scipy.stats
from surface_table import (
    CUBE,
    ROWS,
    S2,
    TALL,
    UNIT,
    J,
    K,
    M,
    N,
    Row,
    S,
    V,
    W,
    X,
    Y,
    Z,
    none,
    referenced,
    rows,
)

import funtorch.numpy as fnp
from funtorch import lax

# --------------------------------------------------------------------------- elementwise
rows(
    "numpy",
    "abs absolute conj conjugate negative positive square real imag angle iscomplex isreal "
    "isfinite isnan isinf exp expm1 sin cos tan sinh cosh tanh arcsin arccos arctan arcsinh "
    "arctanh asin acos atan asinh atanh sqrt log log1p log2 log10 reciprocal sinc nan_to_num",
    X,
    dtypes=("complex128",),
)
rows(
    "numpy",
    "sign fabs floor ceil trunc rint cbrt exp2 deg2rad rad2deg degrees radians signbit fix "
    "i0 isposinf isneginf around round logical_not unwrap",
    X,
)
rows("numpy", "arccosh acosh", X + 1.5, dtypes=("complex128",))
rows(
    "numpy",
    "add subtract multiply divide true_divide equal not_equal power float_power pow",
    X,
    Y,
    dtypes=("complex128",),
)
rows(
    "numpy",
    "maximum minimum fmax fmin hypot arctan2 atan2 logaddexp logaddexp2 copysign heaviside "
    "floor_divide remainder mod fmod less less_equal greater greater_equal logical_and logical_or "
    "logical_xor divmod isclose allclose array_equal array_equiv",
    X,
    Y,
)
rows(
    "numpy",
    "bitwise_and bitwise_or bitwise_xor left_shift right_shift bitwise_left_shift "
    "bitwise_right_shift gcd lcm",
    K,
    J,
)
rows("numpy", "invert bitwise_not bitwise_invert bitwise_count", K)
rows("numpy", "nextafter", X, Y, smooth=False)
rows("numpy", "spacing frexp", X, smooth=False, reals=False)
rows("numpy", "modf", 3 * X)
rows("numpy", "ldexp", X, J)
rows("numpy", "clip", X, 0.3, 0.6)
rows("numpy", "where", M, X, Y, dtypes=("complex128",))
rows("numpy", "select", [M, ~M], [X, Y], dtypes=("complex128",))
rows("numpy", "piecewise", X, [X < 0.5], [1.0, 2.0], smooth=False)
rows("numpy", "choose", J % 2, [X, Y], fixed=False)
rows("numpy", "astype", X, np.float32, smooth=False)
referenced("lax", (X,), {
    "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan, "asinh": np.arcsinh,
    "atanh": np.arctanh, "sin": np.sin, "cos": np.cos, "tan": np.tan, "sinh": np.sinh,
    "cosh": np.cosh, "tanh": np.tanh, "exp": np.exp, "expm1": np.expm1, "log": np.log,
    "log1p": np.log1p, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "neg": np.negative,
    "abs": np.abs, "square": np.square, "reciprocal": np.reciprocal, "exp2": np.exp2,
    "logistic": lambda x: 1 / (1 + np.exp(-x)), "is_finite": np.isfinite, "sign": np.sign,
}, dtypes=("complex128",))  # fmt: skip
referenced("lax", (X,), {
    "ceil": np.ceil, "floor": np.floor, "round": np.round, "cbrt": np.cbrt,
    "digamma": scipy.special.digamma, "lgamma": scipy.special.gammaln, "erf": scipy.special.erf,
    "erfc": scipy.special.erfc, "erf_inv": scipy.special.erfinv,
    "bessel_i0e": scipy.special.i0e, "bessel_i1e": scipy.special.i1e,
})  # fmt: skip
rows("lax", "acosh", X + 1.5, reference=np.arccosh)
ROWS |= {
    f"lax.{n}": Row((Z,), reference=getattr(np, n), reals=False) for n in ("conj", "real", "imag")
}
rows("lax", "integer_pow", X, 3, reference=lambda x, y: x**y, dtypes=("complex128",))
rows("lax", "complex", X, Y, reference=lambda x, y: x + 1j * y)
referenced("lax", (X, Y), {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power,
    "eq": np.equal, "ne": np.not_equal,
}, dtypes=("complex128",))  # fmt: skip
referenced("lax", (X, Y), {
    "atan2": np.arctan2, "max": np.maximum, "min": np.minimum, "rem": np.fmod, "lt": np.less,
    "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "igamma": scipy.special.gammainc, "igammac": scipy.special.gammaincc,
})  # fmt: skip
rows("lax", "nextafter", X, Y, reference=np.nextafter, smooth=False)
rows("lax", "zeta", X + 1.5, Y, reference=scipy.special.zeta)
rows("lax", "polygamma", np.floor(4 * X) + 1, Y, reference=scipy.special.polygamma, smooth=False)
rows("lax", "betainc", X, Y, UNIT, reference=scipy.special.betainc)
rows(
    "lax",
    "igamma_grad_a random_gamma_grad",
    X + 1,
    Y,
    apart="tests/test_special.py: derivatives of igamma",
)
referenced("lax", (K, J), {
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "shift_left": np.left_shift, "shift_right_arithmetic": np.right_shift,
    "shift_right_logical": np.right_shift,
    "mulhi": lambda x, y: ((x.astype(np.int64) * y) >> 32).astype(np.int32),
})  # fmt: skip
referenced("lax", (K,), {
    "bitwise_not": np.invert, "population_count": lambda x: np.bitwise_count(x).astype(x.dtype),
    "clz": lambda x: (31 - np.floor(np.log2(x))).astype(x.dtype),
})  # fmt: skip
rows("lax", "clamp", 0.3, X, 0.6, reference=lambda a, x, b: np.clip(x, a, b))
rows("lax", "select", M, X, Y, reference=np.where, dtypes=("complex128",))
rows("lax", "select_n", M, X, Y, reference=lambda m, x, y: np.where(m, y, x))
ROWS["lax.reduce_precision"] = Row(
    (X, 11, 3),
    reference=lambda x, *_: (
        np.round(x * 2 ** (3 - np.floor(np.log2(x)))) / 2 ** (3 - np.floor(np.log2(x)))
    ),
    smooth=False,
    reals=False,
)
rows("lax", "convert_element_type", X, np.float32, reference=lambda x, d: x.astype(d), smooth=False)
rows("lax", "bitcast_convert_type", X, np.int64, reference=lambda x, d: x.view(d), reals=False)
rows("lax", "stop_gradient optimization_barrier", X, reference=lambda x: x, smooth=False)

# ---------------------------------------------------------------------------- reductions
rows("numpy", "sum prod mean var std cumsum cumprod", X, dtypes=("complex128",))
rows(
    "numpy",
    "max min amax amin ptp median argmax argmin any all count_nonzero nansum nanprod "
    "nanmean nanvar nanstd nanmax nanmin nanmedian nanargmax nanargmin nancumsum nancumprod "
    "average cumulative_sum cumulative_prod",
    X,
)
for _name in ("cumulative_sum", "cumulative_prod"):
    ROWS[f"numpy.{_name}"] = Row((X,), {"axis": 1}, dtypes=("complex128",))
rows("numpy", "quantile nanquantile", X, 0.3)
rows("numpy", "percentile nanpercentile", X, 30.0)
rows("numpy", "diff ediff1d trapezoid gradient", V, dtypes=("complex128",))
rows("numpy", "cov corrcoef", X)
rows("numpy", "histogram histogram_bin_edges", V, smooth=False)
rows("numpy", "histogram2d", V, W, smooth=False)
rows("numpy", "histogramdd", TALL, smooth=False)
rows("numpy", "bincount", N, fixed=False)
rows("numpy", "digitize", X, np.array([0.3, 0.6]))
rows("numpy", "searchsorted", np.sort(V), X)
rows("numpy", "interp", X, N * 0.2, V)
rows("numpy", "convolve correlate", V, W[:3], dtypes=("complex128",))
AXES = {"axes": (1,)}
referenced("lax", (X,), {
    "reduce_sum": lambda x: x.sum(1), "reduce_prod": lambda x: x.prod(1),
    "reduce_max": lambda x: x.max(1), "reduce_min": lambda x: x.min(1),
}, kw=AXES)  # fmt: skip
referenced("lax", (M,), {
    "reduce_and": lambda x: x.all(1), "reduce_or": lambda x: x.any(1),
    "reduce_xor": lambda x: np.logical_xor.reduce(x, 1),
}, kw=AXES)  # fmt: skip
rows("lax", "argmax", X, 1, np.int32, reference=lambda x, k, d: x.argmax(k).astype(d))
rows("lax", "argmin", X, 1, np.int32, reference=lambda x, k, d: x.argmin(k).astype(d))
referenced("lax", (X, 1), {
    "cumsum": np.cumsum, "cumprod": np.cumprod, "cummax": np.maximum.accumulate,
    "cummin": np.minimum.accumulate, "cumlogsumexp": np.logaddexp.accumulate,
})  # fmt: skip
rows("lax", "reduce", X, np.float64(0), lax.add, (0,), reference=lambda x, *_: x.sum(0))
rows(
    "lax",
    "reduce_window",
    X,
    np.float64(0),
    lax.add,
    (2, 2),
    (1, 1),
    "valid",
    reference=lambda x, *_: x[:-1, :-1] + x[1:, :-1] + x[:-1, 1:] + x[1:, 1:],
)
rows("scipy.integrate", "trapezoid", V, W, reference=np.trapezoid)
SEGMENTS = np.array([0, 1, 0, 2, 1])


def by_segment(reduce: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, ids, n: np.stack([reduce(x[ids == k], 0) for k in range(n)])


referenced("ops", (TALL, SEGMENTS, 3), {
    "segment_sum": by_segment(np.sum), "segment_prod": by_segment(np.prod),
    "segment_max": by_segment(np.max), "segment_min": by_segment(np.min),
})  # fmt: skip
rows("scipy.stats", "mode", K, reference=lambda x: scipy.stats.mode(x))
rows("scipy.stats", "rankdata", X, reference=scipy.stats.rankdata, smooth=False)
rows("scipy.stats", "sem", X, reference=scipy.stats.sem)

# --------------------------------------------------------------- shapes, moves, creation
rows(
    "numpy",
    "ravel transpose permute_dims matrix_transpose squeeze flip fliplr flipud rot90 "
    "atleast_1d atleast_2d atleast_3d copy array asarray diag diagonal tril triu trace "
    "diagflat sort sort_complex argsort",
    X,
    dtypes=("complex128",),
)
rows("numpy", "zeros_like ones_like", X, smooth=False)
rows("numpy", "full_like", X, 2.0, smooth=False)
rows("numpy", "reshape resize", X, (2, 6))
rows("numpy", "broadcast_to", X, (2, 3, 4))
rows("numpy", "expand_dims", X, 1)
rows("numpy", "moveaxis swapaxes rollaxis", CUBE, 2, 0)
rows("numpy", "roll repeat tile", X, 2)
rows(
    "numpy",
    "concatenate concat stack vstack hstack dstack column_stack block",
    [X, Y],
    dtypes=("complex128",),
)
rows("numpy", "broadcast_arrays", X, V)
rows("numpy", "append", X, Y)
rows("numpy", "split array_split", X, 2, 1)
rows("numpy", "hsplit", X, 2)
rows("numpy", "vsplit", X, 3)
rows("numpy", "dsplit", CUBE, 2)
rows("numpy", "unstack", X)
rows("numpy", "pad", X, ((1, 2), (0, 1)))
rows("numpy", "take", X, [1, 0], 1)
rows("numpy", "take_along_axis", X, np.argsort(Y, 1), 1)
rows("numpy", "compress", [True, False, True], X, 0)
rows("numpy", "extract", M, X, fixed=False)
rows("numpy", "delete", V, 1)
rows("numpy", "insert", V, 1, 9.0)
rows("numpy", "partition", V, 2)
rows("numpy", "argpartition", np.arange(4.0), 2)
rows("numpy", "lexsort", (V, W))
rows("numpy", "kron", S, S2, dtypes=("complex128",))
rows("numpy", "meshgrid", V, W)
rows("numpy", "ix_", N, N)
rows("numpy", "vander", V, 3)
rows("numpy", "nonzero flatnonzero argwhere", M, fixed=False)
rows("numpy", "unique unique_all unique_counts unique_inverse unique_values", K, fixed=False)
rows("numpy", "union1d intersect1d setdiff1d setxor1d", N, J[0], fixed=False)
ROWS["numpy.unique_values"] = Row((K,), fixed=False, reference=np.unique)
rows("numpy", "isin", K, N)
rows("numpy", "trim_zeros", np.array([0.0, 1.0, 2.0, 0.0]), fixed=False, smooth=False)
rows("numpy", "packbits", M)
rows("numpy", "unpackbits", np.array([[1, 3], [7, 255]], np.uint8))
rows("numpy", "unravel_index", N, (3, 4))
rows("numpy", "ravel_multi_index", [N[:3], N[:3]], (3, 4), fixed=False)
rows("numpy", "triu_indices_from tril_indices_from", X)
rows("numpy", "diag_indices_from", S)
rows("numpy", "shape size ndim iscomplexobj isrealobj", X)
rows("numpy", "zeros ones", (2, 3))
rows("numpy", "full", (2, 3), 7.0)
rows("numpy", "eye", 3, 4, 1)
rows("numpy", "identity bartlett blackman hamming hanning", 5, rtol=1e-6)
rows("numpy", "kaiser", 5, 3.0, rtol=1e-6)
rows("numpy", "tri", 3, 4)
rows("numpy", "arange", 1, 9, 2)
rows("numpy", "linspace", 1.0, 2.0, 5, reals=False, rtol=1e-6)
rows("numpy", "logspace geomspace", 1.0, 2.0, 5, reals=False, rtol=1e-6)
ROWS |= {f"numpy.{n}": Row((W, V), {"num": 5}) for n in ("linspace", "logspace", "geomspace")}
rows("numpy", "indices", (2, 3))
rows("numpy", "tril_indices triu_indices", 3)
rows("numpy", "diag_indices", 3)
rows(
    "numpy",
    "mask_indices",
    3,
    fnp.triu,
    fixed=False,
    reference=lambda n, _: np.mask_indices(n, np.triu),
)
rows("numpy", "broadcast_shapes", (2, 1), (3,))
rows("numpy", "empty", (2, 3), call=lambda f, s: f(s).shape)
rows("numpy", "empty_like", X, call=lambda f, x: f(x).shape)
ROWS["numpy.frombuffer"] = Row((V.tobytes(), np.float64))
ROWS["numpy.fromstring"] = Row(("1 2 3",), {"dtype": np.float64, "sep": " "})
rows("numpy", "from_dlpack", V)
ROWS["numpy.fromiter"] = Row(((3, 1, 2), np.int64))
ROWS["numpy.fromfunction"] = Row(
    ((2, 3),), call=lambda f, s: f(lambda i, j: 10 * i + j, s), rtol=1e-6
)
rows(
    "numpy",
    "fill_diagonal",
    S,
    0.5,
    reference=lambda x, v: x * (1 - np.eye(3)) + v * np.eye(3),
    kw={"inplace": False},
)
rows(
    "numpy",
    "put",
    V,
    [1, 2],
    [7.0, 8.0],
    reference=lambda *_: np.array([3.0, 7, 8, 5]),
    kw={"inplace": False},
)
rows(
    "numpy",
    "place",
    X,
    M,
    np.array([9.0, 8.0]),
    kw={"inplace": False},
    fixed=False,
    reference=lambda x, m, v: (y := x.copy(), np.place(y, m, v))[0],
)
rows(
    "numpy",
    "put_along_axis",
    X,
    np.argsort(Y, 1)[:, :1],
    np.float64(9),
    1,
    kw={"inplace": False},
    reference=lambda x, i, v, k: (y := x.copy(), np.put_along_axis(y, i, v, k))[0],
)
referenced("lax", (X,), {
    "zeros_like_array": np.zeros_like, "unstack": lambda x: list(x),
}, smooth=False)  # fmt: skip
rows("lax", "broadcast", X, (2,), reference=lambda x, s: np.broadcast_to(x, s + x.shape))
rows(
    "lax", "broadcast_in_dim", X, (2, 3, 4), (1, 2), reference=lambda x, s, d: np.broadcast_to(x, s)
)
rows("lax", "broadcast_like", V, X, reference=lambda x, y: np.broadcast_to(x, y.shape))
rows("lax", "broadcast_to_rank", X, 3, reference=lambda x, n: x[None])
rows("lax", "reshape", X, (2, 6), reference=np.reshape)
rows("lax", "collapse", CUBE, 0, 2, reference=lambda x, *_: x.reshape(6, 4))
rows("lax", "transpose", X, (1, 0), reference=np.transpose)
rows("lax", "rev", X, (1,), reference=np.flip)
rows("lax", "squeeze", X[None], (0,), reference=np.squeeze)
rows("lax", "expand_dims", X, (0,), reference=np.expand_dims)
rows("lax", "concatenate", [X, Y], 1, reference=np.concatenate)
rows("lax", "stack", [X, Y], 1, reference=np.stack)
rows("lax", "split", X, (1, 2), 0, reference=lambda x, s, k: np.split(x, [1]))
rows("lax", "tile", X, (2, 1), reference=np.tile)
rows(
    "lax",
    "pad",
    X,
    np.float64(0.5),
    ((1, 2, 0), (0, 1, 0)),
    reference=lambda x, v, _: np.pad(x, ((1, 2), (0, 1)), constant_values=v),
)
rows("lax", "slice", X, (0, 1), (3, 4), (2, 1), reference=lambda x, *_: x[::2, 1:])
rows("lax", "slice_in_dim", X, 1, 3, reference=lambda x, *_: x[1:3])
rows("lax", "dynamic_slice", X, (1, np.int32(1)), (2, 2), reference=lambda x, *_: x[1:3, 1:3])
rows("lax", "dynamic_slice_in_dim", X, 1, 2, reference=lambda x, *_: x[1:3])
rows("lax", "index_in_dim dynamic_index_in_dim", X, 1, reference=lambda x, k: x[k : k + 1])
rows("lax", "index_take", X, (N[:3], N[:3]), (0, 1), reference=lambda x, i, _: x[i])
rows(
    "lax",
    "dynamic_update_slice",
    X,
    Y[:2, :2],
    (1, 1),
    reference=lambda x, y, _: (z := x.copy(), z.__setitem__(np.s_[1:3, 1:3], y))[0],
)
rows(
    "lax",
    "dynamic_update_slice_in_dim dynamic_update_index_in_dim",
    X,
    Y[:1],
    1,
    0,
    reference=lambda x, y, *_: (z := x.copy(), z.__setitem__(np.s_[1:2], y))[0],
)
rows("lax", "sort", X, reference=np.sort)
rows("lax", "sort_key_val", V, W, reference=lambda k, v: (np.sort(k), v[np.argsort(k)]))
rows("lax", "top_k", X, 2, reference=lambda x, k: (-np.sort(-x)[:, :k], np.argsort(-x)[:, :k]))
rows(
    "lax", "approx_max_k", X, 2, reference=lambda x, k: (-np.sort(-x)[:, :k], np.argsort(-x)[:, :k])
)
rows("lax", "approx_min_k", X, 2, reference=lambda x, k: (np.sort(x)[:, :k], np.argsort(x)[:, :k]))
rows("lax", "iota", np.float64, 4, reference=lambda d, n: np.arange(n, dtype=d))
rows("lax", "broadcasted_iota", np.int32, (2, 3), 1, reference=lambda d, s, k: np.indices(s)[k])
rows("lax", "full", (2, 3), 7.0, reference=np.full)
rows("lax", "full_like", X, 2.0, reference=np.full_like, smooth=False)
ROWS["lax.empty"] = Row(
    ((2, 3), np.float32), call=lambda f, s, d: f(s, d).shape, reference=lambda s, d: s
)
none("lax", "dtype", "gives a dtype; tests/test_dtypes.py")
rows("lax", "broadcast_shapes", (2, 1), (2, 3), reference=np.broadcast_shapes)
rows(
    "lax", "padtype_to_pads", (6, 5), (3, 2), (1, 1), "SAME", reference=lambda *_: [(1, 1), (0, 1)]
)
WINDOW = lax.GatherDimensionNumbers((1,), (0,), (0,))
rows("lax", "gather", X, np.array([[2], [0]]), WINDOW, (1, 4), reference=lambda x, *_: x[[2, 0]])
PLACES = lax.ScatterDimensionNumbers((1,), (0,), (0,))


def scattered(change: Callable[..., Any]) -> Callable[..., Any]:
    def reference(x: Any, i: Any, u: Any, *_: Any) -> Any:
        out = x.copy()
        out[i[:, 0]] = change(out[i[:, 0]], u)
        return out

    return reference


referenced("lax", (X, np.array([[2], [0]]), Y[:2], PLACES), {
    "scatter": scattered(lambda x, u: u), "scatter_add": scattered(np.add),
    "scatter_sub": scattered(np.subtract), "scatter_mul": scattered(np.multiply),
    "scatter_min": scattered(np.minimum), "scatter_max": scattered(np.maximum),
})  # fmt: skip
rows(
    "lax",
    "scatter_apply",
    X,
    np.array([[2], [0]]),
    fnp.sin,
    PLACES,
    reference=lambda x, i, *_: scattered(lambda a, u: np.sin(a))(x, i, None),
    kw={"update_shape": (2, 4)},
)
