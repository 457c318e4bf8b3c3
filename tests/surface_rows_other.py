"""Rows of the table of public functions: transforms, special functions, distributions, networks,
random numbers, functions of functions; and the reasons for which some have none.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.special
import scipy.stats
from surface_table import (
    _COUNTED,
    _DISTRIBUTIONS,
    KEY,
    RNG,
    ROWS,
    SIGNAL,
    SPACES,
    TALL,
    UNIT,
    K,
    N,
    P,
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

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax

# ------------------------------------------------------------------------------ transforms
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
rows(
    "scipy.signal",
    "istft",
    np.fft.rfft(SIGNAL.reshape(8, 8)).T.copy(),
    kw={"nperseg": 8},
    reals=False,
)
rows("scipy.ndimage", "map_coordinates", X, [3 * Y[:, 0], 3 * Y[:, 1]], kw={"order": 1})
rows("image", "resize", X, (6, 8), "linear", apart="tests/test_numpy_names.py: what resizing keeps")
rows(
    "image",
    "scale_and_translate",
    X,
    (3, 4),
    (0, 1),
    np.array([1.3, 1.4]),
    -W[:2],
    "linear",
    apart="tests/test_numpy_names.py: what moving keeps",
)

# ------------------------------------------------------------------------ special functions
rows(
    "scipy.special",
    "entr erf erfc erfcx erfinv exp1 expi expit digamma gamma gammaln gammasgn i0 i0e "
    "i1 i1e log_ndtr logit ndtr ndtri spence fresnel sici dawsn ellipk ellipe loggamma softmax "
    "log_softmax logsumexp factorial",
    UNIT,
)
rows("scipy.special", "wofz", Z, reals=False)
rows(
    "scipy.special",
    "xlogy xlog1py kl_div rel_entr beta betaln gammainc gammaincc gammaincinv "
    "gammainccinv boxcox boxcox1p owens_t ellipkinc ellipeinc jv yv iv ive kv kve",
    X,
    Y,
)
rows("scipy.special", "poch", X + 2, Y)
rows("scipy.special", "comb", X + 2, Y)
rows("scipy.special", "zeta", X + 1.5, Y)
rows("scipy.special", "betainc betaincinv hyp1f1", X, Y, UNIT)
rows("scipy.special", "hyp2f1", X, Y, X + 1, UNIT / 2)
rows("scipy.special", "expn", 2, X)
rows("scipy.special", "polygamma", 1, X)
rows("scipy.special", "multigammaln", X + 2, 2)
rows("scipy.special", "bernoulli", 6, rtol=1e-6)
rows(
    "scipy.special",
    "bessel_jn",
    X,
    kw={"v": 2},
    reference=lambda x: np.stack([scipy.special.jv(k, x) for k in range(3)]),
)
rows("scipy.special", "lambertw", UNIT, reference=lambda x: scipy.special.lambertw(x).real)
rows(
    "scipy.special",
    "sph_harm_y",
    np.array([2, 3, 1, 0]),
    np.array([1, -2, 0, 0]),
    V,
    W,
    kw={"n_max": 3},
    call=lambda f, n, m, a, b, n_max=None: f(n, m, a, b, n_max=n_max),
    reference=lambda n, m, a, b: scipy.special.sph_harm_y(n, m, a, b),
    reals=False,
)
rows(
    "scipy.special",
    "airy j0 j1 y0 y1 k0 k0e k1 k1e cbrt cosdg cosm1 cotdg ellipkm1 erfcinv erfi exp10 exp2 expm1 "
    "exprel kolmogorov log1p log_expit psi rgamma sinc sindg tandg zetac",
    UNIT,
)
rows("scipy.special", "softplus", UNIT, reference=lambda x: np.logaddexp(0, x))
rows("scipy.special", "jn yn kn spherical_jn spherical_yn spherical_in spherical_kn", 2, X)
rows(
    "scipy.special",
    "jve yve agm binom chdtr chdtrc ellipj huber inv_boxcox inv_boxcox1p powm1 pseudo_huber stdtr",
    X,
    UNIT,
)
rows(
    "scipy.special", "betaincc fdtr fdtrc fdtri gdtr gdtrc gdtrix radian voigt_profile", X, Y, UNIT
)
rows("scipy.special", "chdtri stdtrit", X, UNIT)
rows("scipy.special", "bdtr bdtrc bdtri nbdtr nbdtrc nbdtri", 2, 5, UNIT)
rows("scipy.special", "pdtr pdtrc pdtri", 2, UNIT)
rows(
    "scipy.special",
    "eval_chebyc eval_chebys eval_chebyt eval_chebyu eval_hermite eval_hermitenorm eval_laguerre "
    "eval_legendre eval_sh_chebyt eval_sh_chebyu eval_sh_legendre",
    4,
    UNIT,
)
rows("scipy.special", "eval_genlaguerre eval_gegenbauer", 4, X, UNIT)
rows("scipy.special", "eval_jacobi", 4, X, Y, UNIT)
for _name, _shape in (_DISTRIBUTIONS | _COUNTED).items():
    _space = f"scipy.stats.{_name}"
    for _method in SPACES[_space].__all__:
        _at = (UNIT,) if _method in ("ppf", "isf") else (K if _name in _COUNTED else 3 * X,)
        _at = (
            ()
            if _method == "entropy"
            else (X + 1.1,)
            if (_name == "pareto" and len(_method) > 3)
            or (_method in ("pdf", "cdf") and _name == "pareto")
            else _at
        )
        _at = (
            (X,)
            if _name in ("beta", "truncnorm") and _at and _method not in ("ppf", "isf")
            else _at
        )
        ROWS[f"{_space}.{_method}"] = Row(
            (*_at, *map(np.float64, _shape)),
            smooth=_name not in _COUNTED and _name != "uniform",
            reference=(lambda d, m: lambda *a: getattr(getattr(scipy.stats, d), m)(*a))(
                _name, _method
            ),
            rtol=1e-8,
            reals=_method not in ("ppf", "isf"),
        )
ROWS["scipy.stats.bernoulli.ppf"] = Row(
    (UNIT, np.float64(0.3)), reference=lambda q, p: (q > 1 - p).astype(float), smooth=False
)
rows(
    "scipy.stats.dirichlet",
    "pdf logpdf",
    X[:3, 0] / X[:3, 0].sum(),
    V[:3],
    smooth=False,
    reals=False,
)
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


def nearest(x: Any, c: Any) -> tuple[Any, Any]:
    distances = ((x[:, None] - c) ** 2).sum(-1)
    return np.argmin(distances, 1), np.sqrt(distances.min(1))


rows("scipy.cluster.vq", "vq", TALL, S, reference=nearest)
rows(
    "scipy.optimize",
    "minimize",
    V,
    call=lambda f, x: f(lambda y: ((y - 1) ** 2).sum(), x, method="BFGS").x,
    reference=lambda x: np.ones(4),
    rtol=1e-4,
    smooth=False,
    reals=False,
)


# -------------------------------------------------------------------------- neural networks
def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


WIDE = 3 * RNG.normal(size=(3, 4))
_gelu = lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
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
    "logsumexp": lambda x: np.log(np.exp(x).sum()),
    "logmeanexp": lambda x: np.log(np.exp(x).mean()),
    "normalize": None, "standardize": None,
}, rtol=1e-7)  # fmt: skip
_standard = lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
rows("nn", "standardize normalize", WIDE, reference=_standard, rtol=1e-6)
rows("nn", "log1mexp", X, reference=lambda x: np.log(1 - np.exp(-x)))
rows("nn", "one_hot", N, 5, reference=lambda n, k: np.eye(k)[n])
QUERY = RNG.normal(size=(2, 3, 2, 4))


def attended(q: Any, k: Any, v: Any) -> Any:
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / 2
    return np.einsum("bhqk,bkhd->bqhd", _softmax(scores), v)


rows(
    "nn",
    "dot_product_attention",
    QUERY,
    QUERY[::-1].copy(),
    QUERY + 1,
    reference=attended,
    rtol=1e-6,
)
rows(
    "nn",
    "grouped_attention",
    QUERY[:, :, None],
    QUERY[::-1].copy(),
    QUERY + 1,
    reference=lambda q, k, v: np.einsum(
        "bhgts,bhsv->bhgtv", _softmax(np.einsum("bhgte,bhse->bhgts", q, k) / 2), v
    ),
    rtol=1e-6,
)
_DRAWN = "tests/test_random.py: numbers drawn, and what they are distributed like"
rows(
    "nn.initializers",
    "glorot_normal glorot_uniform he_normal he_uniform kaiming_normal "
    "kaiming_uniform lecun_normal lecun_uniform xavier_normal xavier_uniform normal uniform "
    "truncated_normal orthogonal",
    KEY,
    call=lambda f, k: f()(k, (3, 4)),
    apart="tests/test_nn.py: JAX's numbers",
)
rows(
    "nn.initializers",
    "delta_orthogonal",
    KEY,
    call=lambda f, k: f()(k, (3, 4, 4)),
    apart="tests/test_nn.py: JAX's numbers",
)
rows(
    "nn.initializers",
    "variance_scaling",
    KEY,
    apart="tests/test_nn.py: JAX's numbers",
    call=lambda f, k: f(1.0, "fan_in", "normal")(k, (3, 4)),
)
rows("nn.initializers", "zeros ones", KEY, (2, 3), apart="constants")
rows(
    "nn.initializers",
    "constant",
    KEY,
    call=lambda f, k: f(7.0)(k, (2, 3)),
    reference=lambda k: np.full((2, 3), 7.0),
)

# ---------------------------------------------------------------------------- random numbers
rows(
    "random",
    "bits bernoulli normal uniform exponential gumbel laplace logistic cauchy rademacher "
    "split orthogonal",
    KEY,
    apart=_DRAWN,
)
rows("random", "maxwell", KEY, (2, 3), apart=_DRAWN)  # fmt: skip
ROWS["random.double_sided_maxwell"] = Row(
    (KEY, W, 1 + W), call=lambda f, k, a, b, **kw: f(k, a, b, (4,), **kw), apart=_DRAWN
)
rows("random", "orthogonal", KEY, 3, apart=_DRAWN)
rows("random", "bernoulli", KEY, X, apart=_DRAWN)
rows(
    "random",
    "gamma loggamma chisquare pareto poisson rayleigh wald",
    KEY,
    W + 1,
    apart=_DRAWN,
    slope=1e-3,
)
rows("random", "t", KEY, W + 1, (4,), apart=_DRAWN, slope=1e-3)
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
rows(
    "random",
    "multivariate_normal",
    KEY,
    V[:3],
    P,
    call=lambda f, k, m, c, **kw: f(k, m, (c + c.T) / 2, **kw),
    apart=_DRAWN,
    slope=1e-3,
)
rows("random", "randint", KEY, (3,), 0, 9, apart=_DRAWN)
rows("random", "permutation choice", KEY, V, apart=_DRAWN)
rows("random", "fold_in", KEY, 5, apart=_DRAWN)
rows(
    "random",
    "key_data wrap_key_data clone",
    KEY,
    reference=lambda k: k,
    call=lambda f, k: ft.random.key_data(f(k)),
)
rows("random", "PRNGKey", np.int32(42), reference=lambda s: np.array([0, 42]))
rows(
    "random",
    "key",
    np.int32(42),
    call=lambda f, s: ft.random.key_data(f(s)),
    reference=lambda s: np.array([0, 42]),
)
none("random", "key_impl key_dtype", "gives a name; tests/test_random.py")

for _name in [
    "gamma",
    "loggamma",
    "chisquare",
    "t",
    "beta",
    "f",
    "dirichlet",
]:  # of what is accepted, not drawn
    ROWS[f"random.{_name}"] = replace(ROWS[f"random.{_name}"], smooth=False)
ROWS |= {n: replace(r, rtol=1e-6) for n, r in ROWS.items() if n.startswith("random.")}
_WIDE = {"dtype": np.float64}  # steps of a float32 result are no slope
for _name in [
    "gamma",
    "loggamma",
    "chisquare",
    "t",
    "pareto",
    "poisson",
    "rayleigh",
    "wald",
    "beta",
    "f",
    "dirichlet",
    "lognormal",
    "weibull_min",
    "triangular",
    "truncated_normal",
    "double_sided_maxwell",
    "multivariate_normal",
]:
    _row = ROWS[f"random.{_name}"]
    if _name != "poisson":
        ROWS[f"random.{_name}"] = replace(_row, kw=_WIDE)

# -------------------------------------------------------------- functions of functions, axes
rows(
    "numpy",
    "apply_along_axis",
    X,
    call=lambda f, x: f(fnp.cumsum, 1, x),
    reference=lambda x: np.cumsum(x, 1),
)
rows(
    "numpy",
    "apply_over_axes",
    X,
    call=lambda f, x: f(fnp.sum, x, [0]),
    reference=lambda x: x.sum(0, keepdims=True),
)
rows(
    "numpy",
    "vectorize",
    X,
    Y,
    call=lambda f, x, y: f(lambda a, b: a * fnp.sin(b))(x, y),
    reference=lambda x, y: x * np.sin(y),
)
rows(
    "numpy",
    "frompyfunc",
    X,
    Y,
    call=lambda f, x, y: f(lambda a, b: a * b, 2, 1)(x, y),
    reference=np.multiply,
)
rows(
    "lax",
    "scan",
    X,
    call=lambda f, x: f(lambda c, v: (c * v, c + v), x[0], x[1:]),
    reference=lambda x: (x[0] * x[1] * x[2], np.stack([x[0] + x[1], x[0] * x[1] + x[2]])),
)
rows(
    "lax",
    "map",
    X,
    call=lambda f, x: f(lambda v: v * v.sum(), x),
    reference=lambda x: x * x.sum(1, keepdims=True),
)
rows(
    "lax",
    "associative_scan",
    X,
    call=lambda f, x: f(fnp.add, x),
    reference=lambda x: np.cumsum(x, 0),
)
rows(
    "lax",
    "cond",
    np.array(True),
    X,
    call=lambda f, p, x: f(p, lambda x: x * x, lambda x: x + x, x),
    reference=lambda p, x: x * x,
)
rows(
    "lax",
    "switch",
    np.int32(1),
    X,
    call=lambda f, k, x: f(k, [fnp.exp, fnp.sin], x),
    reference=lambda k, x: np.sin(x),
)
rows(
    "lax",
    "fori_loop",
    X,
    call=lambda f, x: f(0, 3, lambda _, y: y * x, x),
    reference=lambda x: x**4,
)
rows(
    "lax",
    "while_loop",
    X,
    reference=lambda x: x**4,
    call=lambda f, x: f(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * x), (0, x))[1],
)
rows(
    "lax",
    "platform_dependent",
    X,
    reference=lambda x: x**2,
    call=lambda f, x: f(x, default=lambda x: x * x),
)
rows(
    "lax",
    "custom_linear_solve",
    P,
    V[:3],
    reference=np.linalg.solve,
    call=lambda f, a, b: f(
        lambda x: a @ x,
        b,
        lambda _, y: fnp.linalg.solve(a, y),
        transpose_solve=lambda _, y: fnp.linalg.solve(a.T, y),
    ),
)
rows(
    "lax",
    "custom_root",
    X,
    reference=np.sqrt,
    slope=1e-4,
    call=lambda f, x: f(
        lambda y: y * y - x, x, lambda _, y: fnp.sqrt(x), lambda g, y: y / g(fnp.ones_like(y))
    ),
    reals=False,
)
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
    (X,),
    reference=lambda x: np.roll(x, 1, 0),
    call=lambda f, x: ft.vmap(lambda v: f(v, "i", [(0, 1), (1, 2), (2, 0)]), axis_name="i")(x),
)
ROWS["lax.pshuffle"] = Row(
    (X,),
    reference=lambda x: x[[2, 0, 1]],
    call=lambda f, x: ft.vmap(lambda v: f(v, "i", [2, 0, 1]), axis_name="i")(x),
)
ROWS["lax.pswapaxes"] = Row(
    (S,),
    call=lambda f, x: ft.vmap(lambda v: f(v, "i", 0), axis_name="i")(x),
    reference=np.transpose,
)
ROWS["lax.all_to_all"] = Row(
    (S,),
    call=lambda f, x: ft.vmap(lambda v: f(v, "i", 0, 0), axis_name="i")(x),
    reference=np.transpose,
)
ROWS["lax.psum_scatter"] = Row(
    (S,),
    call=lambda f, x: ft.vmap(lambda v: f(v, "i"), axis_name="i")(x),
    reference=lambda x: x.sum(0),
)
for _name, _want in (("axis_index", np.arange(3)), ("axis_size", np.full(3, 3))):
    ROWS[f"lax.{_name}"] = Row(
        (X,), reference=(lambda w: lambda x: w)(_want),
        call=lambda f, x: ft.vmap(lambda v: f("i") + 0 * fnp.int32(v[0]), axis_name="i")(x),
    )  # fmt: skip

# ---------------------------------------------------------------------------- without a row
none(
    "lax", "pcast pvary", "says how a value differs inside of shard_map; tests/test_distributed.py"
)
none(
    "numpy",
    "array_repr array_str set_printoptions get_printoptions printoptions",
    "gives text; tests/test_numpy_names.py",
)
none("numpy", "save savez load", "reads or writes files; tests/test_numpy_names.py")
none("numpy", "fromfile", "reads a file; tests/test_numpy_contract.py")
none(
    "lax",
    "after_all create_token pbroadcast ragged_all_to_all",
    "works across a mapped axis, or orders what does; tests/test_collectives.py",
)
none("lax", "with_sharding_constraint", "says where values lie; tests/test_distributed.py")
none(
    "numpy",
    "can_cast finfo iinfo isdtype issubdtype promote_types result_type __array_namespace_info__",
    "tells of dtypes; tests/test_array_api.py and tests/test_dtypes.py",
)
none("numpy", "isscalar iterable", "tells of Python objects; tests/test_numpy_names.py")
none("numpy", "einsum_path", "gives a plan; tests/test_numpy.py")
none("nn.initializers", "Initializer", "a type")
none("lax", "rng_bit_generator", "tests/test_random.py")
none("nn", "scaled_matmul", "tests/test_narrow_dtypes.py")
none("lax", "composite", "takes a function; tests/test_narrow_dtypes.py")
none("lax", "conv_dimension_numbers", "gives a description; tests/test_conv.py")
for _name in (
    *("conv_general_permutations", "conv_general_shape_tuple", "conv_shape_tuple"),
    *("conv_transpose_shape_tuple", "reduce_window_shape_tuple"),
):
    none("lax", _name, "gives a tuple of integers; tests/test_conv.py")
