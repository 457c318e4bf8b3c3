"""Native scalar code against mpmath: errors in units of the last place, special values, bits."""

import itertools
from inspect import signature

import llvmlite.binding as llvm
import ml_dtypes
import mpmath
import numpy as np
import pytest
import scipy.special

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import random
from funtorch.backends import compile_jaxpr
from funtorch.backends.coverage import ELEMENTWISE
from funtorch.backends.fuse import fuse
from funtorch.backends.plan import Launch
from funtorch.backends.scalars.block import Block
from funtorch.backends.scalars.math import FORMULAS, Value
from funtorch.core import ArrayImpl, ShapedArray, primitives
from funtorch.jaxpr import stage
from funtorch.ops import special
from funtorch.transforms.simplify import simplify

F32, F64 = np.dtype("float32"), np.dtype("float64")
RNG = np.random.default_rng(5)
MOST = 4  # units in the last place
PI = np.pi
_START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers_in_every_order():
    RNG.bit_generator.state = _START


def compiled_together(calls, *args):
    """Compile calls of primitives, (name, number of arguments, params), as one program and run it.

    Each takes the first of the given arguments.
    """
    args = [np.asarray(a) for a in args]

    def program(*xs):
        return [primitives[name].bind(*xs[:count], **params) for name, count, params in calls]

    return compile_jaxpr(stage(program, [ShapedArray(a.shape, a.dtype) for a in args]))(args)


def compiled(name, *args, **params):
    return compiled_together([(name, len(args), params)], *args)[0]


def eager(name, *args, **params):
    return primitives[name].bind(*(ArrayImpl(np.asarray(a)) for a in args), **params)._data


def error_in_ulps(got, want, dtype):
    """Return errors in units of the last place of ``want``, a longdouble array; nan is nan's."""
    info = np.finfo(dtype)
    size = np.abs(want)
    with np.errstate(all="ignore"):
        exponent = np.floor(np.log2(np.where((size == 0) | ~np.isfinite(size), 1, size)))
        unit = np.exp2(np.maximum(exponent, info.minexp) - info.nmant)
        # Infinity stands for the power of two that the format ends before.
        end = np.longdouble(2) ** info.maxexp
        got, want = (np.clip(np.asarray(v, np.longdouble), -end, end) for v in (got, want))
        error = np.abs(got - want) / unit
    both = np.isnan(got) & np.isnan(want)
    return np.where(both, 0, np.where(np.isnan(got) | np.isnan(want), np.inf, error))


def exactly(function, *args):
    """Apply a function of mpmath numbers to arrays; complex results and poles are nan."""
    out = np.empty(args[0].shape, np.longdouble)
    with mpmath.workprec(120):
        for k, numbers in enumerate(zip(*args, strict=True)):
            try:
                y = function(*(mpmath.mpf(float(v)) for v in numbers))
                out[k] = np.nan if isinstance(y, mpmath.mpc) else np.longdouble(mpmath.nstr(y, 24))
            except (ValueError, ZeroDivisionError):
                out[k] = np.nan
    return out


def points(low, high, dtype, count):
    """Return uniform, log-spaced and random-bits numbers between two ends."""
    dtype = np.dtype(dtype)
    bits = RNG.integers(0, 2 ** (8 * dtype.itemsize), 4 * count, f"u{dtype.itemsize}").view(dtype)
    spread = np.exp(RNG.uniform(-80, 80, count)) * RNG.choice([-1, 1], count)
    near_ends = [e + RNG.uniform(-1, 1, count) * 2.0 ** RNG.uniform(-20, 0, count) for e in ENDS]
    x = np.concatenate([RNG.uniform(max(low, -9), min(high, 9), count), spread, *near_ends])
    with np.errstate(all="ignore"):
        x = np.concatenate([x.astype(dtype), bits])
        wide = x.astype(F64)
    return x[(wide >= low) & (wide <= high) & np.isfinite(wide)]


ENDS = (0, 1, -1)
BIG = 1e300

# name: (mpmath's function, NumPy's or SciPy's in float64, the range where relative errors count)
UNARY = {
    "exp": (mpmath.exp, np.exp, -750, 712),
    "exp2": (lambda x: mpmath.power(2, x), np.exp2, -1080, 1026),
    "expm1": (mpmath.expm1, np.expm1, -750, 712),
    "log": (mpmath.log, np.log, 0, BIG),
    "log2": (lambda x: mpmath.log(x) / mpmath.log(2), np.log2, 0, BIG),
    "log10": (mpmath.log10, np.log10, 0, BIG),
    "log1p": (mpmath.log1p, np.log1p, -1, BIG),
    "sin": (mpmath.sin, np.sin, -BIG, BIG),
    "cos": (mpmath.cos, np.cos, -BIG, BIG),
    "tan": (mpmath.tan, np.tan, -BIG, BIG),
    "asin": (mpmath.asin, np.arcsin, -1, 1),
    "acos": (mpmath.acos, np.arccos, -1, 1),
    "atan": (mpmath.atan, np.arctan, -BIG, BIG),
    "sinh": (mpmath.sinh, np.sinh, -712, 712),
    "cosh": (mpmath.cosh, np.cosh, -712, 712),
    "tanh": (mpmath.tanh, np.tanh, -BIG, BIG),
    "asinh": (mpmath.asinh, np.arcsinh, -BIG, BIG),
    "acosh": (mpmath.acosh, np.arccosh, 1, BIG),
    "atanh": (mpmath.atanh, np.arctanh, -1, 1),
    "logistic": (lambda x: 1 / (1 + mpmath.exp(-x)), scipy.special.expit, -750, 750),
    "erf": (mpmath.erf, scipy.special.erf, -BIG, BIG),
    "erfc": (mpmath.erfc, scipy.special.erfc, -30, 30),
    "erf_inv": (mpmath.erfinv, scipy.special.erfinv, -0.999999, 0.999999),
    "lgamma": (mpmath.loggamma, scipy.special.gammaln, 0, BIG),
    "digamma": (mpmath.digamma, None, 0, BIG),
    "cbrt": (lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), np.cbrt, -BIG, BIG),
    "rsqrt": (lambda x: 1 / mpmath.sqrt(x), lambda x: 1 / np.sqrt(x), 0, BIG),
    "reciprocal": (lambda x: 1 / x, lambda x: 1 / x, -BIG, BIG),
}
# float32 numbers made by XLA's formula, which is that far off towards the ends.
WIDER = {("erf_inv", F32): 256}


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("run", [eager, compiled], ids=("eager", "compiled"))
def test_functions_of_a_number_are_within_four_ulps(name, dtype, run):
    exact, reference, low, high = UNARY[name]
    x = points(low, high, dtype, 3000 if dtype == F32 else 40)
    with np.errstate(all="ignore"):
        quick = dtype == F32 and reference is not None
        x = x if quick else x[:: max(1, len(x) // 200)]
        want = reference(x.astype(F64)) if quick else exactly(exact, x)
        error = error_in_ulps(run(name, x), np.asarray(want, np.longdouble), dtype)
    worst = int(np.argmax(error))
    assert error[worst] <= WIDER.get((name, dtype), MOST), f"{error[worst]} at {x[worst]!r}"


SPECIAL = np.array([0, 1, 0.5, 2, np.inf, np.nan, 1e-45, 1e-40, 3.4e38, 1e20, 4.5, 100])
SPECIAL = np.concatenate([SPECIAL, -SPECIAL])


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_special_values_are_those_of_the_eager_rules(name, dtype):
    with np.errstate(all="ignore"):
        x = SPECIAL.astype(dtype)
        got, want = compiled(name, x), eager(name, x)
    error = error_in_ulps(got, want.astype(np.longdouble), dtype)
    error[(x == -0.5) & (name == "digamma")] /= 16  # close to a zero
    assert np.max(error) <= 2 * MOST, (name, x[np.argmax(error)])
    for special_ones in (np.isnan, np.isinf, lambda v: v == 0):
        np.testing.assert_array_equal(special_ones(got), special_ones(want))
    signed = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got)[signed], np.signbit(want)[signed])
    exact = (x == 0) | (np.isin(want, (0, 1)) & (np.abs(x) < 1000) & (name not in ("tanh", "erf")))
    np.testing.assert_array_equal(got[exact], want[exact])


@pytest.mark.parametrize("n", [1, 2, 3, 8])
@pytest.mark.parametrize("run", [eager, compiled], ids=("eager", "compiled"))
def test_polygamma_is_within_four_ulps(n, run):
    x = np.concatenate([RNG.uniform(0, 30, 60), np.exp(RNG.uniform(-20, 20, 60))])
    want = exactly(lambda v: mpmath.polygamma(n, v), x)
    assert np.max(error_in_ulps(run("polygamma", x, n=n), want, F64)) <= MOST


@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_the_gamma_family_is_reflected_to_negative_numbers(name):
    exact = {"lgamma": lambda v: mpmath.log(abs(mpmath.gamma(v))), "digamma": mpmath.digamma}[name]
    x = np.concatenate([RNG.uniform(-30, 0, 200), -np.exp(RNG.uniform(-40, 3, 50))])
    want = exactly(exact, x).astype(F64)
    for run in (eager, compiled):
        np.testing.assert_allclose(run(name, x), want, rtol=1e-13, atol=1e-13)


BINARY = {
    "pow": (mpmath.power, np.power, (0, 30), (-20, 20)),
    "atan2": (mpmath.atan2, np.arctan2, (-9, 9), (-9, 9)),
    "hypot": (mpmath.hypot, np.hypot, (-9, 9), (-9, 9)),
}
SAME = {"rem": np.fmod, "nextafter": np.nextafter, "max": np.maximum, "min": np.minimum}


def pairs(first, second, dtype, count):
    x, y = RNG.uniform(*first, count), RNG.uniform(*second, count)
    x = np.concatenate([x, x * 2.0 ** RNG.integers(-60, 60, count), 1 + x / 1e4])
    y = np.concatenate([y, y / 10, y * 100])
    return x.astype(dtype), y.astype(dtype)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_functions_of_two_numbers_are_within_four_ulps(name, dtype):
    exact, reference, first, second = BINARY[name]
    x, y = pairs(first, second, dtype, 5000 if dtype == F32 else 150)
    with np.errstate(all="ignore"):
        wide = x.astype(F64), y.astype(F64)
        want = reference(*wide) if dtype == F32 else exactly(exact, x, y)
        error = error_in_ulps(compiled(name, x, y), np.asarray(want, np.longdouble), dtype)
    worst = int(np.argmax(error))
    assert error[worst] <= MOST, f"{error[worst]} at {x[worst]!r}, {y[worst]!r}"


@pytest.mark.parametrize("name", [*BINARY, *SAME, "logaddexp"])
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_special_pairs_are_those_of_numpy(name, dtype):
    x, y = (np.array(v, dtype) for v in zip(*itertools.product(SPECIAL, SPECIAL), strict=True))
    reference = SAME.get(name) or (BINARY[name][1] if name in BINARY else np.logaddexp)
    with np.errstate(all="ignore"):
        got, want = compiled(name, x, y), reference(x, y)
    error = error_in_ulps(got, want.astype(np.longdouble), dtype)
    worst = int(np.argmax(error))
    assert error[worst] <= (0 if name in SAME else MOST), (x[worst], y[worst], got[worst])
    if name not in ("max", "min"):  # which of two zeros is the greater one NumPy leaves open
        zero = want == 0
        np.testing.assert_array_equal(np.signbit(got)[zero], np.signbit(want)[zero])


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_exact_functions_are_exact(name, dtype):
    x, y = pairs((-9, 9), (-9, 9), dtype, 20_000)
    bits = RNG.integers(0, 2**63, (2, 20_000), "u8").view(dtype)
    x, y = np.concatenate([x, bits[0]]), np.concatenate([y, bits[1]])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(compiled(name, x, y), SAME[name](x, y))


def test_large_arguments_are_reduced_exactly():
    x = np.array([1e5, 1e6, 2**30 * PI, 1e22, 5e300, -1e15, 2.0**1023, 6381956970095103 * 2.0**797])
    for name, exact in (("sin", mpmath.sin), ("cos", mpmath.cos), ("tan", mpmath.tan)):
        with mpmath.workprec(1300):
            want = np.array([float(exact(mpmath.mpf(float(v)))) for v in x])
        np.testing.assert_array_max_ulp(compiled(name, x), want, 3)
        single = x[:4].astype(F32)
        np.testing.assert_array_max_ulp(
            compiled(name, single), getattr(np, name)(single.astype(F64)).astype(F32), 3
        )


# ---------------------------------------------------------------------- random numbers
def test_compiled_normals_are_the_eager_ones_to_the_bit():
    key, shape = random.PRNGKey(3), (1 << 20,)
    got = ft.jit(lambda k: random.normal(k, shape))(key)
    np.testing.assert_array_equal(np.asarray(got), np.asarray(random.normal(key, shape)))


@pytest.mark.parametrize(
    "draw",
    [
        lambda k: random.bits(k, (1001,)),
        lambda k: random.bits(k, (33,), "uint64"),
        lambda k: random.uniform(k, (7, 11), minval=-2, maxval=3.5),
        lambda k: random.randint(k, (100,), 0, 37),
        lambda k: random.split(k, 3),
        lambda k: random.bernoulli(k, 0.3, (100,)),
        lambda k: random.gumbel(k, (1000,)),
        lambda k: random.exponential(k, (1000,)),
        lambda k: random.laplace(k, (1000,)),
    ],
)
def test_compiled_draws_are_the_eager_ones(draw):
    key = random.PRNGKey(11)
    np.testing.assert_array_equal(np.asarray(ft.jit(draw)(key)), np.asarray(draw(key)))


SINGLE = {
    "erf_inv": special.erf_inv_single,
    "sampled_erf_inv": special.erf_inv_single,
    "sampled_exp": special.exp_single,
    "sampled_log": special.log_single,
    "sampled_log1p": special.log1p_single,
}


@pytest.mark.parametrize("name", SINGLE)
def test_functions_of_samplers_give_the_eager_bits(name):
    x = np.concatenate([RNG.uniform(-1, 1, 200_000), 1 - np.exp(RNG.uniform(-17, 0, 50_000))])
    some = [0, -0.0, 1, -1, 1.5, -np.inf, np.inf, np.nan, 1e-40, 88.72283, -87.4, 3e38]
    x = np.concatenate([x, x * 90, np.exp(x * 80), some]).astype(F32)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(compiled(name, x), SINGLE[name](np, x))
        x = x.astype(F64)
        got, want = compiled(name, x), eager(name, x)
    np.testing.assert_allclose(got, want, rtol=2e-15)


# ---------------------------------------------------------------------- 16-bit floats
HALVES = tuple(map(np.dtype, (np.float16, ml_dtypes.bfloat16)))
ALL_DTYPES = (*map(np.dtype, ("bool", "float32", "float64")), *HALVES)
ALL_DTYPES += tuple(np.dtype(f"{u}int{w}") for u in ("", "u") for w in (8, 16, 32, 64))
WITH_HALVES = [name for name, row in ELEMENTWISE.items() if "h" in row.kinds]
OF_PARAMS = {"convert", "bitcast", "integer_pow", "polygamma"}
OF_THREE = {"select"}


def steps_apart(got, want):
    """Return how many 16-bit floats lie between two arrays of them; nan is nan."""
    both = np.isnan(got.astype(F32)) & np.isnan(want.astype(F32))
    places = [
        np.where(v < 0, -32768 - v, v) for v in (a.view("i2").astype(int) for a in (got, want))
    ]
    return np.where(both, 0, np.abs(places[0] - places[1]))


@pytest.mark.parametrize("name", [n for n in WITH_HALVES if n not in OF_PARAMS | OF_THREE])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_every_half_gives_what_the_eager_rule_gives(name, dtype):
    x = np.arange(65536, dtype=np.uint16).view(dtype)
    args = [x] if name in {*UNARY, *OF_ONE, *SINGLE} else [x, RNG.permutation(x)]
    with np.errstate(all="ignore"):
        got, want = compiled(name, *args), eager(name, *args)
    if want.dtype == bool:
        np.testing.assert_array_equal(got, want)
    else:
        assert np.max(steps_apart(got, want)) <= 1


OF_ONE = {"neg", "abs", "sign", "square", "copy", "stop_gradient", "sqrt"}
OF_ONE |= {"floor", "ceil", "round", "trunc", "is_finite"}


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_halves_round_after_every_operation(dtype):
    x = RNG.normal(size=4096).astype(dtype)

    def f(v):
        y = v * 3 + v
        return (y == y.max()).sum(), (y * y - v).astype("float32"), y.sum()

    want = f(fnp.asarray(x))
    got = ft.jit(f)(x)
    for k in (0, 1):
        np.testing.assert_array_equal(np.asarray(got[k]), np.asarray(want[k]))
    np.testing.assert_allclose(float(got[2]), float(want[2]), rtol=2e-2)


def test_half_sums_accumulate_in_float32():
    x = np.ones((3000, 3), np.float16)
    assert np.asarray(ft.jit(lambda v: v.sum())(x)) == 9000
    np.testing.assert_array_equal(np.asarray(ft.jit(lambda v: v.sum(0))(x)), [3000] * 3)


# ---------------------------------------------------------------------- conversions and integers
@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_conversions_are_the_eager_ones(dtype):
    if dtype.kind in "iub":
        x = RNG.integers(0, 2**63, 1000, "u8").view(np.uint8)[:1000].copy()
        x = (x & 1).astype(bool) if dtype.kind == "b" else np.resize(x, 8000).view(dtype)
    else:
        special_ones = [0, -0.0, np.inf, -np.inf, np.nan, 0.5, 1.5, -0.999, 127.9, -128.5, 255.5]
        edges = [
            s * (2.0**k + d)
            for s in (1, -1)
            for k in (7, 8, 15, 31, 32, 63, 64)
            for d in (-1, 0, 1)
        ]
        with np.errstate(all="ignore"):
            spread = RNG.normal(size=900) * np.exp(RNG.uniform(-30, 50, 900))
            x = np.array([*special_ones, *edges, *spread]).astype(dtype)
    calls = [("convert", 1, {"dtype": to, "weak_type": False}) for to in ALL_DTYPES]
    for to, got in zip(ALL_DTYPES, compiled_together(calls, x), strict=True):
        with np.errstate(all="ignore"):
            want = eager("convert", x, dtype=to, weak_type=False)
        assert got.dtype == want.dtype == to
        if to in HALVES:
            got, want = got.astype(F32), want.astype(F32)
        np.testing.assert_array_equal(got, want, str(to))


INTEGERS = [d for d in ALL_DTYPES if d.kind in "iu"]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integer_operations_are_defined_everywhere(dtype):
    info = np.iinfo(dtype)
    edges = np.array([info.min, info.max, 0, 1, info.max - 1, 8 * dtype.itemsize, 7, 3], dtype)
    edges = np.concatenate([edges, ~edges])
    x, y = (np.array(v, dtype) for v in zip(*itertools.product(edges, edges), strict=True))
    shifts = ("shift_left", "shift_right_logical", "shift_right_arithmetic")
    calls = [(name, 2, {}) for name in ("div", "rem", "add", "mul", "max", "min", *shifts)]
    one = ("neg", "abs", "sign", "population_count", "clz", "bitwise_not")
    calls += [(name, 1, {}) for name in one]
    for (name, count, _), got in zip(calls, compiled_together(calls, x, y), strict=True):
        np.testing.assert_array_equal(got, eager(name, *(x, y)[:count]), name)


# ---------------------------------------------------------------------- complex numbers
COMPLEXES = tuple(map(np.dtype, ("complex64", "complex128")))
OF_COMPLEX = [n for n, row in ELEMENTWISE.items() if "c" in row.kinds]
COMPLEX_PAIRS = {"add", "sub", "mul", "masked_mul", "div", "pow", "eq", "ne"}
# Functions that are right at infinities and zeros too, to the sign.
EVERYWHERE = ("neg", "add", "sub", "mul", "conj", "abs", "sign", "sqrt", "log", "reciprocal", "exp")


def complexes(re, im, dtype):
    z = np.empty(np.shape(re), dtype)
    z.real, z.imag = re, im
    return z


@pytest.mark.parametrize("name", [n for n in OF_COMPLEX if n not in OF_PARAMS | OF_THREE])
@pytest.mark.parametrize("dtype", COMPLEXES, ids=str)
def test_complex_functions_are_the_eager_ones(name, dtype):
    if name == "complex":
        args = RNG.normal(size=(2, 50)).astype(np.empty(0, dtype).real.dtype)
    else:
        z = complexes(RNG.normal(size=3000), RNG.normal(size=3000), dtype)
        far = 2 if name in ("pow", "logistic") else 15
        z = np.concatenate([z * 2, z * far, z / 100, 1 + z / 100]).astype(dtype)
        if name == "logistic":
            z.imag = np.clip(z.imag, -2, 2)  # away from the poles
        args = [z, RNG.permutation(z)] if name in COMPLEX_PAIRS else [z]
    with np.errstate(all="ignore"):
        got, want = compiled(name, *args), eager(name, *args)
    assert got.dtype == want.dtype
    if want.dtype == bool:
        np.testing.assert_array_equal(got, want)
        return
    finite = np.isfinite(want)
    np.testing.assert_array_equal(np.isfinite(got), finite)
    distance, size = np.abs(got - want)[finite], np.abs(want)[finite]
    most = 64 if name == "pow" else 6  # a power has the error of its exponent
    assert np.max(distance / np.maximum(size, 1e-30)) <= most * np.finfo(dtype).eps


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize("dtype", COMPLEXES, ids=str)
def test_complex_functions_at_zeros_and_infinities(name, dtype):
    some = [0, -0.0, 1, -1, 2.5, np.inf, -np.inf, np.nan, 1e-30, 1e30]
    z = complexes(*zip(*itertools.product(some, some), strict=True), dtype)
    args = [z, z[::-1].copy()] if name in COMPLEX_PAIRS else [z]
    with np.errstate(all="ignore"):
        got, want = compiled(name, *args), eager(name, *args)
        for g, w in ((got.real, want.real), (got.imag, want.imag)):
            np.testing.assert_allclose(g, w, rtol=8 * np.finfo(dtype).eps)
            signed = ~np.isnan(w) & (name not in ("mul", "sign", "exp"))
            np.testing.assert_array_equal(np.signbit(g)[signed], np.signbit(w)[signed])


@pytest.mark.parametrize("y", [-3, 0, 1, 5])
def test_complex_powers_multiply(y):
    z = complexes(RNG.normal(size=99), RNG.normal(size=99), "complex64")
    np.testing.assert_allclose(
        compiled("integer_pow", z, y=y), eager("integer_pow", z, y=y), rtol=1e-5
    )


def test_complex_programs_are_kernels():
    z = complexes(RNG.normal(size=(33, 130)), RNG.normal(size=(33, 130)), "complex64")

    def f(z):
        w = fnp.exp(z / 4) * z
        big = fnp.where(fnp.abs(w) > 1, w, z.conj())
        return big.sum(), big.sum(0), big.T.prod(1)[:2], big.real.max(1), big[::2, 1:].imag, w == z

    jaxpr = simplify(stage(lambda v: list(f(v)), [ShapedArray(z.shape, z.dtype)]))
    assert all(isinstance(step, Launch) for step in fuse(jaxpr).steps)
    for got, want in zip(ft.jit(f)(z), f(fnp.asarray(z)), strict=True):
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=3e-4, atol=1e-5)


# ---------------------------------------------------------------------- vectors
@pytest.mark.parametrize("kind", ["float", "double"])
def test_loops_over_formulas_become_loops_over_vectors(kind):
    """Compile a loop per formula; its result must be stored from a vector register."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features, target = llvm.get_host_cpu_features().flatten(), llvm.Target.from_default_triple()
    machine = target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True
    )
    declared, functions = {}, []
    for name, formula in FORMULAS.items():
        b = Block()
        x = [
            b.op(f"load {kind}, ptr {b.op(f'getelementptr {kind}, ptr %{p}, i64 %i')}")
            for p in "xy"
        ]
        count = len([p for p in signature(formula).parameters.values() if p.name != "n"])
        params = {"n": 2} if name == "polygamma" else {}
        out = formula(*(Value(b, v, kind) for v in x[:count]), **params)
        b.do(f"store {kind} {out.name}, ptr {b.op(f'getelementptr {kind}, ptr %out, i64 %i')}")
        declared |= b.declared
        loop = ["  br label %l", "l:", "  %i = phi i64 [ 0, %entry ], [ %j, %l ]", *b.lines]
        loop += ["  %j = add nsw i64 %i, 1", "  %m = icmp slt i64 %j, 4096"]
        loop += ["  br i1 %m, label %l, label %end", "end:", "  ret void", "}"]
        head = f"define void @{name}.loop(ptr noalias %x, ptr noalias %y, ptr noalias %out) #0 {{"
        functions.append("\n".join([head, "entry:", *loop]))
    attributes = f'attributes #0 = {{ "target-features"="{features}" }}'
    module = llvm.parse_assembly("\n\n".join([*declared.values(), *functions, attributes]))
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    scalar_loops = [
        name
        for name in FORMULAS
        if f" x {kind}>"
        not in str(module.get_function(f"{name}.loop")).replace(f"<1 x {kind}>", "")
    ]
    assert not scalar_loops
