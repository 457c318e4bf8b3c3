"""The table of public functions: one row each, or the reason why there is none.

A row says how a function is called: its arguments, where NumPy arrays are what is mapped over,
cast and differentiated in, and the rest stays as it is. `tests/test_surface.py` checks that every
public function is here, and the generic properties of every row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.fft
import scipy.linalg
import scipy.ndimage
import scipy.signal
import scipy.special
import scipy.stats

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

SPACES = {
    "numpy": fnp, "numpy.linalg": fnp.linalg, "numpy.fft": fnp.fft, "lax": lax,
    "lax.linalg": lax.linalg, "nn": ft.nn, "nn.initializers": ft.nn.initializers,
    "random": ft.random, "image": ft.image, "ops": ft.ops, "scipy.special": ft.scipy.special,
    "scipy.linalg": ft.scipy.linalg, "scipy.stats": ft.scipy.stats,
    "scipy.signal": ft.scipy.signal, "scipy.fft": ft.scipy.fft,
    "scipy.ndimage": ft.scipy.ndimage, "scipy.optimize": ft.scipy.optimize,
    "scipy.integrate": ft.scipy.integrate, "scipy.interpolate": ft.scipy.interpolate,
    "scipy.cluster.vq": ft.scipy.cluster.vq, "scipy.sparse.linalg": ft.scipy.sparse.linalg,
}  # fmt: skip
_DISTRIBUTIONS = {
    "norm": (), "cauchy": (), "expon": (), "laplace": (), "logistic": (), "gumbel_l": (),
    "gumbel_r": (), "pareto": (2.5,), "uniform": (), "gamma": (2.5,), "chi2": (3.0,),
    "beta": (2.0, 3.0), "t": (4.0,), "gennorm": (1.5,), "truncnorm": (-1.0, 2.0),
    "vonmises": (1.3,), "wrapcauchy": (0.4,),
}  # fmt: skip
_COUNTED = {
    "bernoulli": (0.3,), "binom": (6.0, 0.3), "betabinom": (6.0, 2.0, 3.0), "geom": (0.3,),
    "nbinom": (3.0, 0.4), "poisson": (2.5,),
}  # fmt: skip
_OF_VECTORS = ("dirichlet", "multinomial", "multivariate_normal")
SPACES |= {
    f"scipy.stats.{n}": getattr(ft.scipy.stats, n) for n in (*_DISTRIBUTIONS, *_COUNTED, *_OF_VECTORS)
}
_MODULES = {
    "numpy": np, "numpy.linalg": np.linalg, "numpy.fft": np.fft, "scipy.special": scipy.special,
    "scipy.linalg": scipy.linalg, "scipy.signal": scipy.signal, "scipy.fft": scipy.fft,
    "scipy.ndimage": scipy.ndimage,
}  # fmt: skip

RNG = np.random.default_rng(5)
X, Y = RNG.uniform(0.2, 0.8, (3, 4)), RNG.uniform(0.2, 0.8, (3, 4))
V, W = np.array([3.0, 1.0, 2.0, 5.0]), np.array([0.5, 1.5, 0.25, 2.0])
S, S2 = RNG.normal(size=(3, 3)) + 2 * np.eye(3), RNG.normal(size=(3, 3))
P = S @ S.T + np.eye(3)
TALL, CUBE = RNG.normal(size=(5, 3)), RNG.normal(size=(2, 3, 4))
I, J = RNG.integers(1, 6, (3, 4)).astype(np.int32), RNG.integers(1, 6, (3, 4)).astype(np.int32)
N = np.arange(4, dtype=np.int32)
M = X > 0.5
Z = X + 1j * Y
KEY = np.array([7, 11], np.uint32)
IMAGES, KERNEL = RNG.normal(size=(2, 3, 6, 5)), RNG.normal(size=(4, 3, 3, 2))
SIGNAL = RNG.normal(size=64)
UNIT = np.clip(X, 0.01, 0.99)


@dataclass(frozen=True)
class Row:
    """How a function is called, and what is expected of it.

    Attributes:
        args, kw: its arguments.
        call: calls the function with them, if not ``f(*args, **kw)``.
        reference: the same of NumPy arrays; None finds the function of this name in NumPy or SciPy.
        apart: why there is no reference, and what compares its values instead.
        smooth: whether to compare derivatives with differences, if any argument is a float array.
        fixed: False where shapes of results depend on values: not under jit and vmap.
        dtypes: further dtypes to run all float arguments in.
        rtol: how far values may be from the reference, in float64.
        slope: how far derivatives may be from differences.
        reals: False where float32 is not to be tried.
    """

    args: tuple[Any, ...]
    kw: dict[str, Any] = field(default_factory=dict)
    call: Callable[..., Any] | None = None
    reference: Callable[..., Any] | None = None
    apart: str = ""
    smooth: bool = True
    fixed: bool = True
    dtypes: tuple[str, ...] = ()
    rtol: float = 1e-9
    slope: float = 1e-5
    reals: bool = True


ROWS: dict[str, Row] = {}
REASONS: dict[str, str] = {}


def rows(space: str, names: str, *args: Any, **options: Any) -> None:
    """Give several functions of a namespace the same row."""
    for name in names.split():
        ROWS[f"{space}.{name}"] = Row(args, **options)


def none(space: str, names: str, why: str) -> None:
    for name in names.split():
        REASONS[f"{space}.{name}"] = why


def referenced(space: str, args: tuple[Any, ...], table: dict[str, Callable[..., Any]], **options: Any):
    """Give functions that NumPy has under no name their rows with a reference each."""
    for name, reference in table.items():
        ROWS[f"{space}.{name}"] = Row(args, reference=reference, **options)


def reference_of(name: str) -> Callable[..., Any] | None:
    """Return the function of NumPy or SciPy that a row's values are compared with."""
    row = ROWS[name]
    if row.reference is not None or row.apart:
        return row.reference
    space, _, last = name.rpartition(".")
    found = getattr(_MODULES[space], last)
    if row.call is None:
        return lambda *args: found(*args, **row.kw)
    return lambda *args: row.call(found, *args, **row.kw)


# ------------------------------------------------------------------------------------- elementwise
rows("numpy", "abs absolute conj conjugate negative positive square real imag angle iscomplex isreal "
     "isfinite isnan isinf exp expm1 sin cos tan sinh cosh tanh arcsin arccos arctan arcsinh arctanh "
     "asin acos atan asinh atanh sqrt log log1p log2 log10 reciprocal sinc nan_to_num", X,
     dtypes=("complex128",))  # fmt: skip
rows("numpy", "sign fabs floor ceil trunc rint cbrt exp2 deg2rad rad2deg degrees radians signbit fix "
     "i0 isposinf isneginf around round logical_not unwrap", X)  # fmt: skip
rows("numpy", "arccosh acosh", X + 1.5, dtypes=("complex128",))
rows("numpy", "add subtract multiply divide true_divide equal not_equal power float_power pow", X, Y,
     dtypes=("complex128",))  # fmt: skip
rows("numpy", "maximum minimum fmax fmin hypot arctan2 atan2 logaddexp logaddexp2 copysign heaviside "
     "floor_divide remainder mod fmod less less_equal greater greater_equal logical_and logical_or "
     "logical_xor divmod isclose allclose array_equal array_equiv", X, Y)  # fmt: skip
rows("numpy", "bitwise_and bitwise_or bitwise_xor left_shift right_shift bitwise_left_shift "
     "bitwise_right_shift gcd lcm", I, J)  # fmt: skip
rows("numpy", "invert bitwise_not bitwise_invert bitwise_count", I)
rows("numpy", "nextafter", X, Y, smooth=False)
rows("numpy", "spacing frexp", X, smooth=False, reals=False)
rows("numpy", "modf", 3 * X)
rows("numpy", "ldexp", X, J)
rows("numpy", "clip", X, 0.3, 0.6)
rows("numpy", "where", M, X, Y, dtypes=("complex128",))
rows("numpy", "select", [M, ~M], [X, Y], dtypes=("complex128",))
rows("numpy", "piecewise", X, [X < 0.5], [1.0, 2.0], smooth=False)
rows("numpy", "choose", J % 2, [X, Y])
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
ROWS |= {f"lax.{n}": Row((Z,), reference=getattr(np, n), reals=False) for n in ("conj", "real", "imag")}
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
rows("lax", "igamma_grad_a random_gamma_grad", X + 1, Y,
     apart="tests/test_special.py: derivatives of igamma")  # fmt: skip
referenced("lax", (I, J), {
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "shift_left": np.left_shift, "shift_right_arithmetic": np.right_shift,
    "shift_right_logical": np.right_shift,
    "mulhi": lambda x, y: ((x.astype(np.int64) * y) >> 32).astype(np.int32),
})  # fmt: skip
referenced("lax", (I,), {
    "bitwise_not": np.invert, "population_count": lambda x: np.bitwise_count(x).astype(x.dtype),
    "clz": lambda x: (31 - np.floor(np.log2(x))).astype(x.dtype),
})  # fmt: skip
rows("lax", "clamp", 0.3, X, 0.6, reference=lambda a, x, b: np.clip(x, a, b))
rows("lax", "select", M, X, Y, reference=np.where, dtypes=("complex128",))
rows("lax", "select_n", M, X, Y, reference=lambda m, x, y: np.where(m, y, x))
ROWS["lax.reduce_precision"] = Row(
    (X, 11, 3), reference=lambda x, *_: np.round(x * 2 ** (3 - np.floor(np.log2(x))))
    / 2 ** (3 - np.floor(np.log2(x))), smooth=False, reals=False,
)  # fmt: skip
rows("lax", "convert_element_type", X, np.float32, reference=lambda x, d: x.astype(d), smooth=False)
rows("lax", "bitcast_convert_type", X, np.int64, reference=lambda x, d: x.view(d), reals=False)
rows("lax", "stop_gradient optimization_barrier", X, reference=lambda x: x, smooth=False)

# -------------------------------------------------------------------------------------- reductions
rows("numpy", "sum prod mean var std cumsum cumprod", X, dtypes=("complex128",))
rows("numpy", "max min amax amin ptp median argmax argmin any all count_nonzero nansum nanprod "
     "nanmean nanvar nanstd nanmax nanmin nanmedian nanargmax nanargmin nancumsum nancumprod average "
     "cumulative_sum cumulative_prod", X)  # fmt: skip
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
rows("lax", "reduce_window", X, np.float64(0), lax.add, (2, 2), (1, 1), "valid",
     reference=lambda x, *_: x[:-1, :-1] + x[1:, :-1] + x[:-1, 1:] + x[1:, 1:])  # fmt: skip
rows("scipy.integrate", "trapezoid", V, W, reference=np.trapezoid)
SEGMENTS = np.array([0, 1, 0, 2, 1])


def by_segment(reduce: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, ids, n: np.stack([reduce(x[ids == k], 0) for k in range(n)])


referenced("ops", (TALL, SEGMENTS, 3), {
    "segment_sum": by_segment(np.sum), "segment_prod": by_segment(np.prod),
    "segment_max": by_segment(np.max), "segment_min": by_segment(np.min),
})  # fmt: skip
rows("scipy.stats", "mode", I, reference=lambda x: scipy.stats.mode(x))
rows("scipy.stats", "rankdata", X, reference=scipy.stats.rankdata, smooth=False)
rows("scipy.stats", "sem", X, reference=scipy.stats.sem)

# ------------------------------------------------------------------------- shapes, moves, creation
rows("numpy", "ravel transpose permute_dims matrix_transpose squeeze flip fliplr flipud rot90 "
     "atleast_1d atleast_2d atleast_3d copy array asarray diag diagonal tril triu trace "
     "diagflat sort sort_complex argsort", X, dtypes=("complex128",))  # fmt: skip
rows("numpy", "zeros_like ones_like", X, smooth=False)
rows("numpy", "full_like", X, 2.0, smooth=False)
rows("numpy", "reshape resize", X, (2, 6))
rows("numpy", "broadcast_to", X, (2, 3, 4))
rows("numpy", "expand_dims", X, 1)
rows("numpy", "moveaxis swapaxes rollaxis", CUBE, 2, 0)
rows("numpy", "roll repeat tile", X, 2)
rows("numpy", "concatenate concat stack vstack hstack dstack column_stack block", [X, Y],
     dtypes=("complex128",))  # fmt: skip
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
rows("numpy", "unique unique_all unique_counts unique_inverse unique_values", I, fixed=False)
rows("numpy", "union1d intersect1d setdiff1d setxor1d", N, J[0], fixed=False)
rows("numpy", "isin", I, N)
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
rows("numpy", "identity bartlett blackman hamming hanning", 5)
rows("numpy", "kaiser", 5, 3.0, rtol=1e-6)
rows("numpy", "tri", 3, 4)
rows("numpy", "arange", 1, 9, 2)
rows("numpy", "linspace", 1.0, 2.0, 5, reals=False, rtol=1e-6)
rows("numpy", "logspace geomspace", 1.0, 2.0, 5, reals=False, rtol=1e-6)
ROWS |= {
    f"numpy.{n}": Row((W, V), {"num": 5}) for n in ("linspace", "logspace", "geomspace")
}
rows("numpy", "indices", (2, 3))
rows("numpy", "tril_indices triu_indices", 3)
rows("numpy", "diag_indices", 3)
rows("numpy", "mask_indices", 3, fnp.triu, fixed=False,
     reference=lambda n, _: np.mask_indices(n, np.triu))  # fmt: skip
rows("numpy", "broadcast_shapes", (2, 1), (3,))
rows("numpy", "empty", (2, 3), call=lambda f, s: f(s).shape)
rows("numpy", "empty_like", X, call=lambda f, x: f(x).shape)
ROWS["numpy.frombuffer"] = Row((V.tobytes(), np.float64))
ROWS["numpy.fromstring"] = Row(("1 2 3",), {"dtype": np.float64, "sep": " "})
rows("numpy", "from_dlpack", V)
ROWS["numpy.fromfunction"] = Row(
    ((2, 3),), call=lambda f, s: f(lambda i, j: 10 * i + j, s), rtol=1e-6
)
rows("numpy", "fill_diagonal", S, 0.5, reference=lambda x, v: x * (1 - np.eye(3)) + v * np.eye(3),
     kw={"inplace": False})  # fmt: skip
rows("numpy", "put", V, [1, 2], [7.0, 8.0], reference=lambda *_: np.array([3.0, 7, 8, 5]),
     kw={"inplace": False})  # fmt: skip
rows("numpy", "place", X, M, np.array([9.0, 8.0]), kw={"inplace": False}, fixed=False,
     reference=lambda x, m, v: (y := x.copy(), np.place(y, m, v))[0])  # fmt: skip
rows("numpy", "put_along_axis", X, np.argsort(Y, 1)[:, :1], np.float64(9), 1, kw={"inplace": False},
     reference=lambda x, i, v, k: (y := x.copy(), np.put_along_axis(y, i, v, k))[0])  # fmt: skip
referenced("lax", (X,), {
    "zeros_like_array": np.zeros_like, "unstack": lambda x: list(x),
}, smooth=False)  # fmt: skip
rows("lax", "broadcast", X, (2,), reference=lambda x, s: np.broadcast_to(x, s + x.shape))
rows("lax", "broadcast_in_dim", X, (2, 3, 4), (1, 2), reference=lambda x, s, d: np.broadcast_to(x, s))
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
rows("lax", "pad", X, np.float64(0.5), ((1, 2, 0), (0, 1, 0)),
     reference=lambda x, v, _: np.pad(x, ((1, 2), (0, 1)), constant_values=v))  # fmt: skip
rows("lax", "slice", X, (0, 1), (3, 4), (2, 1), reference=lambda x, *_: x[::2, 1:])
rows("lax", "slice_in_dim", X, 1, 3, reference=lambda x, *_: x[1:3])
rows("lax", "dynamic_slice", X, (1, np.int32(1)), (2, 2), reference=lambda x, *_: x[1:3, 1:3])
rows("lax", "dynamic_slice_in_dim", X, 1, 2, reference=lambda x, *_: x[1:3])
rows("lax", "index_in_dim dynamic_index_in_dim", X, 1, reference=lambda x, k: x[k : k + 1])
rows("lax", "index_take", X, (N[:3], N[:3]), (0, 1), reference=lambda x, i, _: x[i])
rows("lax", "dynamic_update_slice", X, Y[:2, :2], (1, 1),
     reference=lambda x, y, _: (z := x.copy(), z.__setitem__(np.s_[1:3, 1:3], y))[0])  # fmt: skip
rows("lax", "dynamic_update_slice_in_dim dynamic_update_index_in_dim", X, Y[:1], 1, 0,
     reference=lambda x, y, *_: (z := x.copy(), z.__setitem__(np.s_[1:2], y))[0])  # fmt: skip
rows("lax", "sort", X, reference=np.sort)
rows("lax", "sort_key_val", V, W, reference=lambda k, v: (np.sort(k), v[np.argsort(k)]))
rows("lax", "top_k", X, 2, reference=lambda x, k: (-np.sort(-x)[:, :k], np.argsort(-x)[:, :k]))
rows("lax", "approx_max_k", X, 2, reference=lambda x, k: (-np.sort(-x)[:, :k], np.argsort(-x)[:, :k]))
rows("lax", "approx_min_k", X, 2, reference=lambda x, k: (np.sort(x)[:, :k], np.argsort(x)[:, :k]))
rows("lax", "iota", np.float64, 4, reference=lambda d, n: np.arange(n, dtype=d))
rows("lax", "broadcasted_iota", np.int32, (2, 3), 1, reference=lambda d, s, k: np.indices(s)[k])
rows("lax", "full", (2, 3), 7.0, reference=np.full)
rows("lax", "full_like", X, 2.0, reference=np.full_like, smooth=False)
ROWS["lax.empty"] = Row(((2, 3), np.float32), call=lambda f, s, d: f(s, d).shape,
                        reference=lambda s, d: s)  # fmt: skip
rows("lax", "dtype", X, reference=lambda x: np.dtype(np.float64), reals=False)
rows("lax", "broadcast_shapes", (2, 1), (2, 3), reference=np.broadcast_shapes)
rows("lax", "padtype_to_pads", (6, 5), (3, 2), (1, 1), "SAME",
     reference=lambda *_: [(1, 1), (0, 1)])  # fmt: skip
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
rows("lax", "scatter_apply", X, np.array([[2], [0]]), fnp.sin, PLACES,
     reference=lambda x, i, *_: scattered(lambda a, u: np.sin(a))(x, i, None),
     kw={"update_shape": (2, 4)})  # fmt: skip

# ---------------------------------------------------------------------------------------- products
rows("numpy", "dot matmul inner outer vecdot", S, S2, dtypes=("complex128",))
rows("numpy", "vdot tensordot", X, Y, dtypes=("complex128",))
rows("numpy", "cross", S, S2)
rows("numpy", "matvec", X, V)
rows("numpy", "vecmat", V[:3], X)
rows("numpy", "einsum", "ij,kj->ik", X, Y, dtypes=("complex128",))
rows("numpy", "polyval", V, X)
rows("numpy", "polyadd polysub polymul polydiv", V, W, dtypes=("complex128",))
ROWS["numpy.polydiv"] = Row(
    (V, W[:2]), reference=lambda u, v: (np.polydiv(u, v)[0], np.pad(np.polydiv(u, v)[1], (3, 0)))
)
rows("numpy", "polyder polyint", V)
rows("numpy", "poly", V)
rows("numpy", "polyfit", V, V**2 + W, 1)
rows("numpy", "roots", V, fixed=False, smooth=False)
rows("lax", "dot batch_matmul", S, S2, reference=np.matmul)
ROWS["lax.batch_matmul"] = Row((CUBE, CUBE.swapaxes(1, 2).copy()), reference=np.matmul)
rows("lax", "dot_general", X, Y, (((1,), (1,)), ((), ())), reference=lambda x, y, _: x @ y.T)
rows("lax", "ragged_dot", TALL, CUBE.reshape(2, 4, 3).swapaxes(1, 2).copy(), np.array([2, 3]),
     reference=lambda x, y, n: np.concatenate([x[:2] @ y[0], x[2:] @ y[1]]))  # fmt: skip
rows("lax", "ragged_dot_general", TALL, CUBE.reshape(2, 4, 3).swapaxes(1, 2).copy(), np.array([2, 3]),
     lax.RaggedDotDimensionNumbers((((1,), (1,)), ((), ())), [0], [0]),
     reference=lambda x, y, n, _: np.concatenate([x[:2] @ y[0], x[2:] @ y[1]]))  # fmt: skip


def convolved(x: Any, k: Any, *_: Any) -> Any:
    h, w = x.shape[2] - k.shape[2] + 1, x.shape[3] - k.shape[3] + 1
    patches = [[x[:, :, i : i + h, j : j + w] for j in range(k.shape[3])] for i in range(k.shape[2])]
    return np.einsum("ijnchw,ocij->nohw", np.array(patches), k)


rows("lax", "conv conv_general_dilated conv_with_general_padding", IMAGES, KERNEL, (1, 1), "VALID",
     reference=convolved)  # fmt: skip
ROWS["lax.conv_with_general_padding"] = Row(
    (IMAGES, KERNEL, (1, 1), [(0, 0), (0, 0)], None, None), reference=convolved
)
rows("lax", "conv_general_dilated_patches", IMAGES, (3, 2), (1, 1), "VALID",
     reference=lambda x, k, *_: convolved(x, np.eye(18).reshape(18, 3, 3, 2)))  # fmt: skip
rows("lax", "conv_general_dilated_local", IMAGES,
     np.broadcast_to(KERNEL.reshape(4, 18, 1, 1), (4, 18, 4, 4)).copy(), (1, 1), "VALID", (3, 2),
     reference=lambda x, *_: convolved(x, KERNEL), smooth=True)  # fmt: skip
ROWS["lax.conv_transpose"] = Row(
    (SIGNAL[None, :6, None], SIGNAL[:3, None, None], (1,), "VALID"),
    {"dimension_numbers": ("NWC", "WIO", "NWC")},
    reference=lambda x, k, *_: np.correlate(np.pad(x[0, :, 0], 2), k[:, 0, 0])[None, :, None],
)

# ----------------------------------------------------------------------------------- linear algebra
CHOLESKY = {"call": lambda f, x: f(x + x.T)}
SYMMETRIC = P / 2  # made symmetric in the call, whatever is done to it
rows("numpy.linalg", "det inv slogdet pinv norm cond matrix_norm svdvals eigvals", S)
rows("numpy.linalg", "matrix_transpose diagonal trace", X)
rows("numpy.linalg", "cholesky eigvalsh", SYMMETRIC, **CHOLESKY)
rows("numpy.linalg", "matmul outer vecdot tensordot", S, S2)
ROWS["numpy.linalg.outer"] = Row((V, W))
rows("numpy.linalg", "cross", S, S2)
rows("numpy.linalg", "vector_norm", X)
rows("numpy.linalg", "matrix_power", S, 3)
rows("numpy.linalg", "matrix_rank", S)
rows("numpy.linalg", "multi_dot", [X, X.T, X])
rows("numpy.linalg", "solve", S, S2)
rows("numpy.linalg", "lstsq", TALL, TALL[:, 0] ** 2, call=lambda f, a, b: f(a, b, None)[0])
rows("numpy.linalg", "tensorinv", RNG.normal(size=(4, 6, 8, 3)), rtol=1e-6, slope=1e-3)
rows("numpy.linalg", "tensorsolve", RNG.normal(size=(6, 4, 2, 3, 4)), RNG.normal(size=(6, 4)),
     slope=1e-3)  # fmt: skip
rows("numpy.linalg", "eigh", SYMMETRIC, call=lambda f, x: (lambda w, v: [w, v * v])(*f(x + x.T)))
rows("numpy.linalg", "eig", S, call=lambda f, x: (lambda w, v: abs(v.T @ v.conj()))(*f(x)), slope=1e-4)
rows("numpy.linalg", "qr", TALL, call=lambda f, x: (lambda q, r: [q @ r, r * r])(*f(x)))
rows("numpy.linalg", "svd", TALL,
     call=lambda f, x: (lambda u, s, v: [s, u[:, :3] * u[:, :3], v * v])(*f(x)))  # fmt: skip
L = np.linalg.cholesky(P)
rows("lax.linalg", "cholesky", SYMMETRIC, reference=lambda x: np.linalg.cholesky(x + x.T), **CHOLESKY)
rows("lax.linalg", "cholesky_update", L.T.copy(), V[:3],
     reference=lambda r, w: np.linalg.cholesky(r.T @ r + np.outer(w, w)).T)  # fmt: skip
rows("lax.linalg", "eigh", SYMMETRIC, call=lambda f, x: f(x + x.T)[1],
     reference=lambda x: np.linalg.eigvalsh(x + x.T))  # fmt: skip
rows("lax.linalg", "eig", S, call=lambda f, x: fnp.sort(fnp.real(f(x)[0])),
     reference=lambda x: np.sort(np.linalg.eigvals(x).real))  # fmt: skip
rows("lax.linalg", "svd", TALL, call=lambda f, x: f(x, full_matrices=False)[1],
     reference=lambda x: np.linalg.svd(x, compute_uv=False))  # fmt: skip
rows("lax.linalg", "qr", TALL, call=lambda f, x: (lambda q, r: q @ r)(*f(x, full_matrices=False)),
     reference=lambda x: x)  # fmt: skip
rows("lax.linalg", "lu", S, call=lambda f, x: f(x)[0],
     reference=lambda x: scipy.linalg.lu_factor(x)[0])  # fmt: skip
rows("lax.linalg", "lu_pivots_to_permutation", np.array([2, 2, 2], np.int32), 3,
     reference=lambda p, n: np.array([2, 0, 1]))  # fmt: skip
rows("lax.linalg", "qdwh", S, call=lambda f, x: f(x)[:2],
     reference=lambda x: scipy.linalg.polar(x))  # fmt: skip
rows("lax.linalg", "schur", S, call=lambda f, x: (lambda t, q: q @ t @ q.T)(*f(x)),
     reference=lambda x: x)  # fmt: skip
ROWS["lax.linalg.hessenberg"] = Row(
    (S,), reference=lambda x: scipy.linalg.lapack.dgehrd(x)[:2], smooth=False
)
ROWS["lax.linalg.tridiagonal"] = Row(
    (P,), call=lambda f, x: f(x, lower=True)[1:],
    reference=lambda x: scipy.linalg.lapack.dsytrd(x, lower=1)[1:4], smooth=False,
)  # fmt: skip
REFLECTORS, FACTORS = scipy.linalg.lapack.dgeqrf(TALL)[:2]
rows("lax.linalg", "householder_product", REFLECTORS, FACTORS,
     reference=lambda a, t: scipy.linalg.lapack.dorgqr(a, t)[0])  # fmt: skip
rows("lax.linalg", "ormqr", REFLECTORS, FACTORS, TALL[:, :2].copy(), rtol=1e-8,
     reference=lambda a, t, c: scipy.linalg.lapack.dormqr("L", "N", a, t, c, 64)[0])  # fmt: skip
rows("lax.linalg", "symmetric_product", TALL, P[:1, :1].repeat(5, 0).repeat(5, 1),
     reference=lambda a, c: a @ a.T)  # fmt: skip
rows("lax.linalg", "triangular_solve", L, S, kw={"left_side": True, "lower": True},
     reference=lambda a, b: scipy.linalg.solve_triangular(a, b, lower=True))  # fmt: skip
rows("lax.linalg", "tridiagonal_solve", W, V + 9, W, X.T[:, :2].copy(),
     reference=lambda l, d, u, b: np.linalg.solve(
         np.diag(d) + np.diag(u[:-1], 1) + np.diag(l[1:], -1), b))  # fmt: skip
rows("scipy.linalg", "det inv expm sqrtm logm", P, slope=1e-4)
rows("scipy.linalg", "cholesky", SYMMETRIC, call=lambda f, x: f(x + x.T))
rows("scipy.linalg", "cho_factor", SYMMETRIC, call=lambda f, x: f(x + x.T, lower=True)[0].T[2:],
     reference=lambda x: np.linalg.cholesky(x + x.T).T[2:])  # fmt: skip
rows("scipy.linalg", "cho_solve", L, V[:3], call=lambda f, a, b: f((a, True), b))
rows("scipy.linalg", "solve", S, S2)
rows("scipy.linalg", "solve_triangular", L, S2, kw={"lower": True})
rows("scipy.linalg", "solve_sylvester", S, P, S2)
rows("scipy.linalg", "eigh", SYMMETRIC, call=lambda f, x: f(x + x.T, eigvals_only=True))
rows("scipy.linalg", "eigh_tridiagonal", V, W[:3], call=lambda f, d, e: f(d, e, eigvals_only=True))
rows("scipy.linalg", "svd", TALL, call=lambda f, x: f(x, compute_uv=False))
rows("scipy.linalg", "qr", TALL, call=lambda f, x: (lambda q, r: q @ r)(*f(x)))
rows("scipy.linalg", "qr_multiply", TALL, S2, call=lambda f, a, c: abs(f(a, c)[0]))
rows("scipy.linalg", "lu", S)
rows("scipy.linalg", "lu_factor", S, call=lambda f, x: f(x)[0])
rows("scipy.linalg", "lu_solve", np.triu(S) + np.tril(S2, -1), V[:3],
     call=lambda f, a, b: f((a, np.arange(3, dtype=np.int32)), b))  # fmt: skip
rows("scipy.linalg", "schur", S, call=lambda f, x: (lambda t, z: z @ t @ z.T)(*f(x)))
rows("scipy.linalg", "rsf2csf", np.triu(S), np.eye(3), call=lambda f, t, z: f(t, z)[0], smooth=False)
rows("scipy.linalg", "polar", S)
rows("scipy.linalg", "hessenberg", S, smooth=False)
rows("scipy.linalg", "expm_frechet", S, S2)
rows("scipy.linalg", "funm", P, fnp.exp, reference=lambda x, _: scipy.linalg.expm(x), slope=1e-4)
rows("scipy.linalg", "block_diag", S, X)
rows("scipy.linalg", "circulant companion fiedler fiedler_companion toeplitz hankel", V)
rows("scipy.linalg", "leslie", V, W[:3])
rows("scipy.linalg", "convolution_matrix", V, 3)
rows("scipy.linalg", "dft hadamard hilbert invhilbert pascal invpascal helmert", 4)
rows("scipy.sparse.linalg", "cg bicgstab gmres", P, V[:3], call=lambda f, a, b: f(lambda x: a @ x, b, tol=1e-12)[0],
     reference=np.linalg.solve, slope=1e-4)  # fmt: skip
# ---------------------------------------------------------------------------------------- transforms
rows("numpy.fft", "fft ifft fftn ifftn fft2 ifft2", Z, reals=False)
rows("numpy.fft", "rfft rfftn rfft2 ihfft fftshift ifftshift", X)
rows("numpy.fft", "irfft irfftn irfft2 hfft", Z, reals=False)
rows("numpy.fft", "fftfreq rfftfreq", 5, rtol=1e-6)
rows("lax", "fft", Z, lax.FftType.FFT, (4,), reference=lambda z, *_: np.fft.fft(z), reals=False)
rows("scipy.fft", "dct idct dctn idctn", X)
rows("scipy.signal", "convolve correlate fftconvolve", V, W[:3])
rows("scipy.signal", "convolve2d correlate2d", X, Y[:2, :2])
rows("scipy.signal", "detrend", V)
rows("scipy.signal", "welch", SIGNAL, kw={"nperseg": 16})
rows("scipy.signal", "csd", SIGNAL, SIGNAL[::-1].copy(), kw={"nperseg": 16})
rows("scipy.signal", "stft", SIGNAL, kw={"nperseg": 16})
rows("scipy.signal", "istft", np.fft.rfft(SIGNAL.reshape(8, 8)).T.copy(), kw={"nperseg": 8}, reals=False)
rows("scipy.ndimage", "map_coordinates", X, [3 * Y[:, 0], 3 * Y[:, 1]], kw={"order": 1})
rows("image", "resize", X, (6, 8), "linear",
     apart="tests/test_numpy_names.py: what resizing keeps")  # fmt: skip
rows("image", "scale_and_translate", X, (3, 4), (0, 1), np.ones(2), np.zeros(2), "linear",
     reference=lambda x, *_: x)  # fmt: skip

# ---------------------------------------------------------------------------------- special functions
rows("scipy.special", "entr erf erfc erfcx erfinv exp1 expi expit digamma gamma gammaln gammasgn i0 i0e "
     "i1 i1e log_ndtr logit ndtr ndtri spence fresnel sici dawsn ellipk ellipe loggamma softmax "
     "log_softmax logsumexp factorial", UNIT)  # fmt: skip
rows("scipy.special", "wofz", Z, reals=False)
rows("scipy.special", "xlogy xlog1py kl_div rel_entr beta betaln gammainc gammaincc gammaincinv "
     "gammainccinv boxcox boxcox1p owens_t ellipkinc ellipeinc jv yv iv ive kv kve", X, UNIT)  # fmt: skip
rows("scipy.special", "poch", X + 2, Y)
rows("scipy.special", "comb", X + 2, Y)
rows("scipy.special", "zeta", X + 1.5, Y)
rows("scipy.special", "betainc betaincinv hyp1f1", X, Y, UNIT)
rows("scipy.special", "hyp2f1", X, Y, X + 1, UNIT / 2)
rows("scipy.special", "expn", 2, X)
rows("scipy.special", "polygamma", 1, X)
rows("scipy.special", "multigammaln", X + 2, 2)
rows("scipy.special", "bernoulli", 6, rtol=1e-6)
rows("scipy.special", "bessel_jn", X, kw={"v": 2},
     reference=lambda x: np.stack([scipy.special.jv(k, x) for k in range(3)]))  # fmt: skip
rows("scipy.special", "lambertw", UNIT, reference=lambda x: scipy.special.lambertw(x).real)
rows("scipy.special", "sph_harm_y", np.array([2, 3, 1, 0]), np.array([1, -2, 0, 0]), V, W,
     kw={"n_max": 3}, call=lambda f, n, m, a, b, n_max=None: f(n, m, a, b, n_max=n_max),
     reference=lambda n, m, a, b: scipy.special.sph_harm_y(n, m, a, b), reals=False)  # fmt: skip
for _name, _shape in (_DISTRIBUTIONS | _COUNTED).items():
    _space = f"scipy.stats.{_name}"
    for _method in SPACES[_space].__all__:
        _at = (UNIT,) if _method in ("ppf", "isf") else (I if _name in _COUNTED else 3 * X,)
        _at = () if _method == "entropy" else (X,) if _name == "beta" else _at
        ROWS[f"{_space}.{_method}"] = Row(
            (*_at, *map(np.float64, _shape)), smooth=_name not in _COUNTED and _name != "uniform",
            reference=(lambda d, m: lambda *a: getattr(getattr(scipy.stats, d), m)(*a))(_name, _method),
            rtol=1e-8, reals=_method not in ("ppf", "isf"),
        )  # fmt: skip
ROWS["scipy.stats.bernoulli.ppf"] = Row(
    (UNIT, np.float64(0.3)), reference=lambda q, p: (q > 1 - p).astype(float), smooth=False
)
rows("scipy.stats.dirichlet", "pdf logpdf", X[:3, 0] / X[:3, 0].sum(), V[:3], smooth=False,
     reals=False)  # fmt: skip
for _name in ("pdf", "logpdf"):
    ROWS[f"scipy.stats.dirichlet.{_name}"] = Row(
        (X[:3, 0] / X[:3, 0].sum(), V[:3]), smooth=False, reals=False,
        reference=getattr(scipy.stats.dirichlet, _name),
    )  # fmt: skip
    ROWS[f"scipy.stats.multivariate_normal.{_name}"] = Row(
        (V[:3], W[:3], P), reference=getattr(scipy.stats.multivariate_normal, _name), slope=1e-4,
        call=lambda f, x, m, c: f(x, m, (c + c.T) / 2),
    )  # fmt: skip
for _name in ("pmf", "logpmf"):
    ROWS[f"scipy.stats.multinomial.{_name}"] = Row(
        (N[:3], np.int32(3), np.array([0.2, 0.3, 0.5])), smooth=False, reals=False,
        reference=getattr(scipy.stats.multinomial, _name),
    )  # fmt: skip
rows("scipy.cluster.vq", "vq", TALL, S, reference=lambda x, c: (
    np.argmin(((x[:, None] - c) ** 2).sum(-1), 1), np.sqrt(((x[:, None] - c) ** 2).sum(-1).min(1))))  # fmt: skip
rows("scipy.optimize", "minimize", V, call=lambda f, x: f(lambda y: ((y - 1) ** 2).sum(), x, method="BFGS").x,
     reference=lambda x: np.ones(4), rtol=1e-4, smooth=False, reals=False)  # fmt: skip

# ------------------------------------------------------------------------------------ neural networks
def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


WIDE = 3 * RNG.normal(size=(3, 4))
_gelu = lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))  # noqa: E731
referenced("nn", (WIDE,), {
    "relu": lambda x: np.maximum(x, 0), "relu6": lambda x: np.clip(x, 0, 6), "sigmoid": _sigmoid,
    "softplus": lambda x: np.logaddexp(x, 0), "soft_sign": lambda x: x / (1 + abs(x)),
    "silu": lambda x: x * _sigmoid(x), "swish": lambda x: x * _sigmoid(x), "tanh": np.tanh,
    "log_sigmoid": lambda x: -np.logaddexp(-x, 0), "identity": lambda x: x,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "celu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "gelu": _gelu, "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6, "hard_tanh": lambda x: np.clip(x, -1, 1),
    "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "squareplus": lambda x: (x + np.sqrt(x * x + 4)) / 2,
    "sparse_plus": lambda x: np.where(x <= -1, 0, np.where(x >= 1, x, (x + 1) ** 2 / 4)),
    "sparse_sigmoid": lambda x: np.clip((x + 1) / 2, 0, 1),
    "softmax": _softmax, "log_softmax": lambda x: np.log(_softmax(x)),
    "glu": lambda x: x[:, :2] * _sigmoid(x[:, 2:]),
    "logsumexp": lambda x: np.log(np.exp(x).sum()), "logmeanexp": lambda x: np.log(np.exp(x).mean()),
    "normalize": None, "standardize": None,
}, rtol=1e-7)  # fmt: skip
_standard = lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)  # noqa: E731
rows("nn", "standardize normalize", WIDE, reference=_standard, rtol=1e-6)
rows("nn", "log1mexp", X, reference=lambda x: np.log(1 - np.exp(-x)))
rows("nn", "one_hot", N, 5, reference=lambda n, k: np.eye(k)[n])
QUERY = RNG.normal(size=(2, 3, 2, 4))


def attended(q: Any, k: Any, v: Any) -> Any:
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / 2
    return np.einsum("bhqk,bkhd->bqhd", _softmax(scores), v)


rows("nn", "dot_product_attention", QUERY, QUERY[::-1].copy(), QUERY + 1, reference=attended, rtol=1e-6)
_DRAWN = "tests/test_random.py: numbers drawn, and what they are distributed like"
rows("nn.initializers", "glorot_normal glorot_uniform he_normal he_uniform kaiming_normal "
     "kaiming_uniform lecun_normal lecun_uniform xavier_normal xavier_uniform normal uniform "
     "truncated_normal orthogonal", KEY, call=lambda f, k: f()(k, (3, 4)),
     apart="tests/test_nn.py: JAX's numbers")  # fmt: skip
rows("nn.initializers", "delta_orthogonal", KEY, call=lambda f, k: f()(k, (3, 4, 4)),
     apart="tests/test_nn.py: JAX's numbers")  # fmt: skip
rows("nn.initializers", "variance_scaling", KEY, apart="tests/test_nn.py: JAX's numbers",
     call=lambda f, k: f(1.0, "fan_in", "normal")(k, (3, 4)))  # fmt: skip
rows("nn.initializers", "zeros ones", KEY, (2, 3), apart="constants")
rows("nn.initializers", "constant", KEY, call=lambda f, k: f(7.0)(k, (2, 3)),
     reference=lambda k: np.full((2, 3), 7.0))  # fmt: skip

# -------------------------------------------------------------------------------------- random numbers
rows("random", "bits bernoulli normal uniform exponential gumbel laplace logistic cauchy rademacher "
     "split orthogonal", KEY, apart=_DRAWN)  # fmt: skip
rows("random", "uniform normal exponential gumbel laplace logistic cauchy bits rademacher maxwell "
     "double_sided_maxwell", KEY, (2, 3), apart=_DRAWN)  # fmt: skip
ROWS["random.double_sided_maxwell"] = Row((KEY, W, 1 + W), call=lambda f, k, a, b: f(k, a, b, (4,)),
                                          apart=_DRAWN)  # fmt: skip
rows("random", "orthogonal", KEY, 3, apart=_DRAWN)
rows("random", "bernoulli", KEY, X, apart=_DRAWN)
rows("random", "gamma loggamma chisquare t pareto poisson rayleigh wald", KEY, W + 1, apart=_DRAWN,
     slope=1e-3)  # fmt: skip
rows("random", "beta f", KEY, W + 1, W + 2, apart=_DRAWN, slope=1e-3)
rows("random", "dirichlet", KEY, W + 1, apart=_DRAWN, slope=1e-3)
rows("random", "binomial", KEY, np.float64(9), UNIT, apart=_DRAWN, smooth=False)
rows("random", "geometric", KEY, UNIT, apart=_DRAWN)
rows("random", "lognormal", KEY, W, apart=_DRAWN)
rows("random", "weibull_min", KEY, W, W + 1, apart=_DRAWN)
rows("random", "triangular", KEY, W, W + 1, W + 2, apart=_DRAWN)
rows("random", "truncated_normal", KEY, -W, W, apart=_DRAWN)
rows("random", "generalized_normal", KEY, 1.5, (3,), apart=_DRAWN, smooth=False)
rows("random", "ball", KEY, 3, apart=_DRAWN)
rows("random", "categorical", KEY, X, apart=_DRAWN)
rows("random", "multinomial", KEY, np.float64(9), X[0] / X[0].sum(), apart=_DRAWN, smooth=False)
rows("random", "multivariate_normal", KEY, V[:3], P, call=lambda f, k, m, c: f(k, m, (c + c.T) / 2),
     apart=_DRAWN, slope=1e-3)  # fmt: skip
rows("random", "randint", KEY, (3,), 0, 9, apart=_DRAWN)
rows("random", "permutation choice", KEY, V, apart=_DRAWN)
rows("random", "fold_in", KEY, 5, apart=_DRAWN)
rows("random", "key_data wrap_key_data clone", KEY, reference=lambda k: k,
     call=lambda f, k: ft.random.key_data(f(k)))  # fmt: skip
rows("random", "PRNGKey", np.int32(42), reference=lambda s: np.array([0, 42]))
rows("random", "key", np.int32(42), call=lambda f, s: ft.random.key_data(f(s)),
     reference=lambda s: np.array([0, 42]))  # fmt: skip
none("random", "key_impl key_dtype", "gives a name; tests/test_random.py")

# ------------------------------------------------------------------------ functions of functions, axes
rows("numpy", "apply_along_axis", X, call=lambda f, x: f(fnp.cumsum, 1, x),
     reference=lambda x: np.cumsum(x, 1))  # fmt: skip
rows("numpy", "apply_over_axes", X, call=lambda f, x: f(fnp.sum, x, [0]),
     reference=lambda x: x.sum(0, keepdims=True))  # fmt: skip
rows("numpy", "vectorize", X, Y, call=lambda f, x, y: f(lambda a, b: a * fnp.sin(b))(x, y),
     reference=lambda x, y: x * np.sin(y))  # fmt: skip
rows("numpy", "frompyfunc", X, Y, call=lambda f, x, y: f(lambda a, b: a * b, 2, 1)(x, y),
     reference=np.multiply)  # fmt: skip
rows("lax", "scan", X, call=lambda f, x: f(lambda c, v: (c * v, c + v), x[0], x[1:]),
     reference=lambda x: (x[0] * x[1] * x[2], np.stack([x[0] + x[1], x[0] * x[1] + x[2]])))  # fmt: skip
rows("lax", "map", X, call=lambda f, x: f(lambda v: v * v.sum(), x),
     reference=lambda x: x * x.sum(1, keepdims=True))  # fmt: skip
rows("lax", "associative_scan", X, call=lambda f, x: f(fnp.add, x), reference=lambda x: np.cumsum(x, 0))
rows("lax", "cond", np.array(True), X, call=lambda f, p, x: f(p, lambda x: x * x, lambda x: x + x, x),
     reference=lambda p, x: x * x)  # fmt: skip
rows("lax", "switch", np.int32(1), X, call=lambda f, k, x: f(k, [fnp.exp, fnp.sin], x),
     reference=lambda k, x: np.sin(x))  # fmt: skip
rows("lax", "fori_loop", X, call=lambda f, x: f(0, 3, lambda _, y: y * x, x), reference=lambda x: x**4)
rows("lax", "while_loop", X, reference=lambda x: x**4,
     call=lambda f, x: f(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * x), (0, x))[1])  # fmt: skip
rows("lax", "custom_linear_solve", P, V[:3], reference=np.linalg.solve,
     call=lambda f, a, b: f(lambda x: a @ x, b, lambda _, y: fnp.linalg.solve(a, y),
                            transpose_solve=lambda _, y: fnp.linalg.solve(a.T, y)))  # fmt: skip
rows("lax", "custom_root", X, reference=np.sqrt, slope=1e-4,
     call=lambda f, x: f(lambda y: y * y - x, x, lambda _, y: fnp.sqrt(x), lambda g, y: y / g(1.0)),
     reals=False)  # fmt: skip
for _name, _want in (
    ("psum", lambda x: np.broadcast_to(x.sum(0), x.shape)),
    ("pmean", lambda x: np.broadcast_to(x.mean(0), x.shape)),
    ("pmax", lambda x: np.broadcast_to(x.max(0), x.shape)),
    ("pmin", lambda x: np.broadcast_to(x.min(0), x.shape)),
    ("all_gather", lambda x: np.broadcast_to(x, (3, 3, 4))),
):
    ROWS[f"lax.{_name}"] = Row(
        (X,), call=lambda f, x: ft.vmap(lambda v: f(v, "i"), axis_name="i")(x), reference=_want
    )
ROWS["lax.ppermute"] = Row(
    (X,), reference=lambda x: np.roll(x, 1, 0),
    call=lambda f, x: ft.vmap(lambda v: f(v, "i", [(0, 1), (1, 2), (2, 0)]), axis_name="i")(x),
)  # fmt: skip
ROWS["lax.pshuffle"] = Row(
    (X,), reference=lambda x: x[[2, 0, 1]],
    call=lambda f, x: ft.vmap(lambda v: f(v, "i", [2, 0, 1]), axis_name="i")(x),
)  # fmt: skip
ROWS["lax.pswapaxes"] = Row(
    (S,), call=lambda f, x: ft.vmap(lambda v: f(v, "i", 0), axis_name="i")(x), reference=np.transpose
)
ROWS["lax.all_to_all"] = Row(
    (S,), call=lambda f, x: ft.vmap(lambda v: f(v, "i", 0, 0), axis_name="i")(x), reference=np.transpose
)
ROWS["lax.psum_scatter"] = Row(
    (S,), call=lambda f, x: ft.vmap(lambda v: f(v, "i"), axis_name="i")(x), reference=lambda x: x.sum(0)
)
for _name, _want in (("axis_index", np.arange(3)), ("axis_size", np.full(3, 3))):
    ROWS[f"lax.{_name}"] = Row(
        (X,), reference=(lambda w: lambda x: w)(_want),
        call=lambda f, x: ft.vmap(lambda v: f("i") + 0 * fnp.int32(v[0]), axis_name="i")(x),
    )  # fmt: skip

# -------------------------------------------------------------------------------------- without a row
none("numpy", "array_repr array_str set_printoptions get_printoptions printoptions",
     "gives text; tests/test_numpy_names.py")  # fmt: skip
none("numpy", "save savez load", "reads or writes files; tests/test_numpy_names.py")
none("numpy", "bfloat16 bool bool_ cdouble complex128 complex64 complex_ csingle double float16 float32 "
     "float64 float_ int16 int32 int64 int8 int_ single uint uint16 uint32 uint64 uint8",
     "a dtype; tests/test_dtypes.py calls each")  # fmt: skip
none("numpy", "can_cast finfo iinfo isdtype issubdtype promote_types result_type __array_namespace_info__",
     "tells of dtypes; tests/test_array_api.py and tests/test_dtypes.py")  # fmt: skip
none("numpy", "isscalar iterable", "tells of Python objects; tests/test_numpy_names.py")
none("numpy", "einsum_path", "gives a plan; tests/test_numpy.py")
none("nn.initializers", "Initializer", "a type")
none("lax", "rng_bit_generator", "tests/test_random.py")
none("lax", "conv_dimension_numbers", "gives a description; tests/test_conv.py")
