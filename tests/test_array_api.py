"""The Array API standard: names, signatures, dtypes and values of the reference implementation."""

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp

strict = pytest.importorskip("array_api_strict", reason="compares with the standard's reference")
strict.set_array_api_strict_flags(api_version="2024.12")
SPACES = {"": (strict, fnp), "linalg": (strict.linalg, fnp.linalg), "fft": (strict.fft, fnp.fft)}
FLAGS = "array_api_strict_flags"


def public(space):
    skipped = ("__version__", "ArrayAPIStrictFlags")
    return [n for n in space.__all__ if FLAGS not in n and n not in skipped]


NAMES = [
    (key, name)
    for key, (theirs, _) in SPACES.items()
    for name in public(theirs)
    if name not in ("Device", "DType")
]


@pytest.mark.parametrize(("key", "name"), NAMES)
def test_signatures(key, name):
    """What the standard allows to be given by position or by name can be given so here."""
    theirs, ours = (getattr(space, name) for space in SPACES[key])
    if not callable(theirs) or isinstance(theirs, type) or name in ("meshgrid", "broadcast_arrays"):
        return
    parameters = inspect.signature(ours).parameters
    if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()):
        return
    positional = [
        p.name
        for p in parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    for k, p in enumerate(inspect.signature(theirs).parameters.values()):
        if p.kind is p.POSITIONAL_ONLY:
            assert k < len(positional)
        elif p.kind is p.POSITIONAL_OR_KEYWORD:
            assert positional[k] == p.name
        elif p.kind is p.KEYWORD_ONLY:
            assert p.name in parameters


RNG = np.random.default_rng(0)
DTYPES = (
    "bool", "int8", "int32", "int64", "uint8", "uint16", "float32", "float64", "complex64",
    "complex128",
)  # fmt: skip


def sample(dtype, k):
    values = RNG.uniform(0.1, 0.9, (2, 3)) if "o" in dtype else RNG.integers(1, 5, (2, 3))
    values = values.astype(dtype)
    return values + np.asarray(0.3j * k, dtype) if "complex" in dtype else values


SAMPLES = {dtype: [sample(dtype, k) for k in (1, 2)] for dtype in DTYPES}
ELEMENTWISE = """
abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_invert
bitwise_or bitwise_right_shift bitwise_xor ceil conj copysign cos cosh divide equal exp expm1 floor
floor_divide greater greater_equal hypot imag isfinite isinf isnan less less_equal log log1p log2
log10 logaddexp logical_and logical_not logical_or logical_xor maximum minimum multiply negative
nextafter not_equal positive pow real reciprocal remainder round sign signbit sin sinh square sqrt
subtract tan tanh trunc
""".split()  # noqa: SIM905  (one line each would be a page)


def agree(got, want, name):
    if isinstance(want, (tuple, list)):
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            agree(g, w, name)
        return
    if not hasattr(want, "dtype"):
        assert got == want, name
        return
    want = np.asarray(want._array)
    assert got.shape == want.shape, name
    assert got.dtype.kind == want.dtype.kind, name
    tol = 1e-5 if got.dtype.itemsize <= 8 and got.dtype.kind in "fc" else 1e-12
    np.testing.assert_allclose(np.asarray(got), want, rtol=tol, atol=tol, err_msg=name)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name):
    """All dtypes that the standard allows give its result dtype and values."""
    tried = 0
    for dtype in DTYPES:
        args = SAMPLES[dtype][: 1 + ("x2" in inspect.signature(getattr(strict, name)).parameters)]
        try:
            want = getattr(strict, name)(*map(strict.asarray, args))
        except TypeError:
            continue  # not in the standard for this dtype
        tried += 1
        got = getattr(fnp, name)(*map(fnp.asarray, args))
        assert got.dtype == want.dtype._np_dtype, f"{name} of {dtype}"
        agree(got, want, f"{name} of {dtype}")
    assert tried


X, SQUARE, LINE = SAMPLES["float64"][0], RNG.normal(size=(3, 3)), np.array([3.0, 1.0, 2.0, 1.0])
INTS, MASK = np.array([[3, 1, 2], [1, 1, 5]]), np.array([[True, False, True], [False, True, True]])
POSITIVE = SQUARE @ SQUARE.T + np.eye(3)
# Each is called with a namespace and a function that makes its arrays.
CALLS = {
    "creation": lambda xp, a: [
        xp.zeros((2, 3)), xp.ones(2, dtype=xp.int64), xp.full((2,), 7.0), xp.eye(2, 3, k=1),
        xp.arange(1, 7, 2), xp.linspace(0, 1, 5), xp.linspace(0, 1, 4, endpoint=False),
        xp.zeros_like(a(X)), xp.ones_like(a(INTS)), xp.full_like(a(X), 2.0),
        xp.tril(a(SQUARE), k=-1),
        xp.triu(a(SQUARE)), *xp.meshgrid(a(LINE), a(LINE), indexing="ij"),
        xp.asarray(a(X), copy=True), xp.astype(a(INTS), xp.float64),
    ],
    "reductions": lambda xp, a: [
        f(a(X), axis=axis, keepdims=keep)
        for f in (xp.sum, xp.prod, xp.max, xp.min, xp.mean, xp.std, xp.var)
        for axis in (None, 0, -1, (0, 1))
        for keep in (False, True)
    ],
    "logic": lambda xp, a: [
        f(a(MASK), axis=axis, keepdims=keep)
        for f in (xp.all, xp.any)
        for axis in (None, 1)
        for keep in (False, True)
    ],
    "sums": lambda xp, a: [
        xp.sum(a(INTS), dtype=xp.float64), xp.var(a(X), correction=1.0), xp.std(a(X), correction=1),
        xp.cumulative_sum(a(X), axis=1), xp.cumulative_sum(a(LINE), include_initial=True),
        xp.cumulative_prod(a(X), axis=0, dtype=xp.float64), xp.diff(a(X)),
        xp.diff(a(X), n=2, axis=1),
        xp.diff(a(X), axis=0, prepend=a(X), append=a(X)), xp.count_nonzero(a(MASK), axis=0),
        xp.count_nonzero(a(INTS)),
    ],
    "searching": lambda xp, a: [
        xp.argmax(a(X), axis=1), xp.argmin(a(X)), xp.argmax(a(X), axis=0, keepdims=True),
        *xp.nonzero(a(MASK)), xp.where(a(MASK), a(X), 0.0), xp.searchsorted(a(LINE[:1]), a(LINE)),
        xp.searchsorted(a(LINE), a(LINE), side="right", sorter=xp.argsort(a(LINE))),
    ],
    "sorting": lambda xp, a: [
        xp.sort(a(LINE)), xp.sort(a(X), axis=0, descending=True), xp.argsort(a(LINE)),
        xp.argsort(a(LINE), descending=True, stable=True),
    ],
    "sets": lambda xp, a: [
        *xp.unique_all(a(INTS)), *xp.unique_counts(a(INTS)), *xp.unique_inverse(a(INTS)),
        xp.unique_values(a(INTS)),
    ],
    "manipulation": lambda xp, a: [
        *xp.broadcast_arrays(a(X), a(X[0])), xp.broadcast_to(a(X), (2, 2, 3)),
        xp.concat([a(X), a(X)], axis=1), xp.concat([a(X), a(X)], axis=None),
        xp.expand_dims(a(X), axis=1), xp.flip(a(X)), xp.flip(a(X), axis=1), xp.moveaxis(a(X), 0, 1),
        xp.permute_dims(a(X), (1, 0)), xp.repeat(a(LINE), 2),
        xp.repeat(a(X), a(np.array([1, 2])), axis=0),
        xp.reshape(a(X), (3, -1)), xp.roll(a(X), 1), xp.roll(a(X), (1, 2), axis=(0, 1)),
        xp.squeeze(a(X[:1]), 0), xp.stack([a(X), a(X)], axis=-1), xp.tile(a(X), (2, 1, 2)),
        *xp.unstack(a(X), axis=1), xp.matrix_transpose(a(X)),
    ],
    "indexing": lambda xp, a: [
        xp.take(a(X), a(np.array([2, 0])), axis=1),
        xp.take_along_axis(a(X), a(np.array([[0, 2], [1, 1]])), axis=1),
        a(X)[a(MASK)], a(X)[..., None], a(X)[1, ::-1], a(X)[-1, :], a(X).T, a(X).mT,
    ],
    "dtypes": lambda xp, a: [
        xp.can_cast(xp.int8, xp.int16), xp.isdtype(xp.float32, "real floating"),
        xp.isdtype(a(INTS).dtype, ("bool", "integral")), xp.finfo(xp.float32).bits,
        xp.iinfo(xp.int16).max, float(a(X)[0, 0]), int(a(INTS)[0, 0]), bool(a(MASK)[0, 0]),
    ],
    "operators": lambda xp, a: [
        a(X) + 1, 2.0 - a(X), a(X) @ a(X.T), -a(X), abs(a(X)), a(INTS) // 2, a(INTS) % 2,
        a(INTS) ** 2,
        a(INTS) << 1, a(INTS) >> 1, a(INTS) & 3, ~a(MASK), a(MASK) | True, a(X) < 0.5, a(X) == a(X),
    ],
    "products": lambda xp, a: [
        xp.matmul(a(X), a(X.T)), xp.tensordot(a(X), a(X), axes=((0, 1), (0, 1))),
        xp.vecdot(a(X), a(X)), xp.linalg.outer(a(LINE), a(LINE)),
        xp.linalg.cross(a(SQUARE), a(SQUARE[::-1].copy())),
    ],
    "linalg": lambda xp, a: [
        xp.linalg.cholesky(a(POSITIVE)), xp.linalg.det(a(SQUARE)), xp.linalg.diagonal(a(X)),
        xp.linalg.eigvalsh(a(POSITIVE)), xp.linalg.inv(a(SQUARE)), xp.linalg.matrix_norm(a(X)),
        xp.linalg.matrix_norm(a(X), ord="nuc"), xp.linalg.matrix_power(a(SQUARE), 3),
        xp.linalg.matrix_rank(a(SQUARE)), xp.linalg.pinv(a(X)), *xp.linalg.slogdet(a(SQUARE)),
        xp.linalg.solve(a(SQUARE), a(SQUARE)), xp.linalg.svdvals(a(X)), xp.linalg.trace(a(X)),
        xp.linalg.vector_norm(a(X), axis=1, ord=1), xp.linalg.vector_norm(a(X), keepdims=True),
        xp.linalg.qr(a(SQUARE)).R ** 2, xp.linalg.svd(a(X), full_matrices=False).S,
        xp.linalg.eigh(a(POSITIVE)).eigenvalues,
    ],
    "fft": lambda xp, a: [
        xp.fft.fft(xp.astype(a(LINE), xp.complex128)), xp.fft.rfft(a(LINE), n=6, norm="ortho"),
        xp.fft.irfft(xp.fft.rfft(a(LINE))), xp.fft.rfftn(a(X)), xp.fft.fftfreq(5),
        xp.fft.rfftfreq(4),
        xp.fft.fftshift(a(X), axes=1), xp.fft.ifftshift(a(LINE)),
        xp.fft.hfft(xp.astype(a(LINE), xp.complex128)), xp.fft.ihfft(a(LINE)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_calls(name):
    got, want = CALLS[name](fnp, fnp.asarray), CALLS[name](strict, strict.asarray)
    agree(got, want, name)


def test_inspection():
    info = fnp.__array_namespace_info__()
    assert info.capabilities()["boolean indexing"]
    assert info.default_device() == "cpu"
    assert info.devices() == ["cpu"]
    assert info.default_dtypes() == {
        "real floating": np.float32,
        "complex floating": np.complex64,
        "integral": np.int32,
        "indexing": np.int32,
    }
    assert info.dtypes(kind="unsigned integer").keys() == {"uint8", "uint16", "uint32", "uint64"}
    assert info.dtypes(kind=("bool", "complex floating")).keys() == {
        "bool", "complex64", "complex128",
    }  # fmt: skip
    assert info.dtypes().keys() == strict.__array_namespace_info__().dtypes().keys()
    with pytest.raises(ValueError, match="kind 'float' is none of"):
        info.dtypes(kind="float")


def test_array_protocol():
    x = fnp.asarray(X)
    assert x.__array_namespace__() is fnp
    assert x.__array_namespace__(api_version="2024.12") is fnp
    with pytest.raises(ValueError, match=r"api_version '2000\.01' is not"):
        x.__array_namespace__(api_version="2000.01")
    assert x.to_device(x.device) is x
    assert fnp.zeros(2, device=x.device).device == "cpu"
    with pytest.raises(ValueError, match="no device tpu"):
        fnp.zeros(2, device="tpu")
    assert fnp.from_dlpack(X).tolist() == X.tolist()
    assert fnp.asarray(x, copy=False) is x
    with pytest.raises(ValueError, match="only by a copy"):
        fnp.asarray(X, copy=False)
    assert x.__dlpack_device__()[0] == 1
    assert fnp.result_type(fnp.int8, fnp.asarray([1.0]), 2j) == np.complex64


CONSUMERS = """
import numpy as np, scipy.signal, scipy.special, scipy.stats, sklearn, funtorch.numpy as fnp
from funtorch import Array
from sklearn.decomposition import PCA
from sklearn.metrics import accuracy_score, mean_squared_error
x = np.random.default_rng(0).normal(size=(20, 3))
for f in (
    lambda x: scipy.special.softmax(x, axis=0),
    lambda x: scipy.stats.skew(x),
    lambda x: scipy.signal.detrend(x),
):
    got = f(fnp.asarray(x))
    assert isinstance(got, Array), type(got)
    np.testing.assert_allclose(np.asarray(got), f(x), rtol=1e-6)
with sklearn.config_context(array_api_dispatch=True):
    got = PCA(2, svd_solver="full").fit_transform(fnp.asarray(x))
    assert isinstance(got, Array), type(got)
    np.testing.assert_allclose(np.abs(got), np.abs(PCA(2).fit_transform(x)), rtol=1e-6)
    assert abs(mean_squared_error(fnp.asarray(x), fnp.asarray(x) + 1) - 1) < 1e-6
    assert accuracy_score(fnp.asarray([0, 1]), fnp.asarray([0, 1])) == 1
"""


def test_scipy_and_scikit_learn_take_our_arrays():
    pytest.importorskip("sklearn")
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CONSUMERS],
        capture_output=True, text=True, env=environment, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_namespace_is_the_arrays_own():
    assert ft.numpy is fnp.asarray(1.0).__array_namespace__()
