"""Special functions: values and all partial derivatives against mpmath, under every transform."""

import math
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special as sp

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.scipy import special
from funtorch.scipy.special import arithmetic

INF, NAN = math.inf, math.nan


def _p(a, x):
    low = mpmath.gammainc(a, 0, x, regularized=True)
    return low if x < a + 30 else 1 - mpmath.gammainc(a, x, regularized=True)


def _scaled(f, sign):
    return lambda v, x: f(v, x) * mpmath.exp(sign * mpmath.mpf(x))


def _owens_t(h, a):
    whole = mpmath.quad(lambda t: mpmath.exp(-h * h * (1 + t * t) / 2) / (1 + t * t), [0, a])
    return whole / (2 * mpmath.pi)


@dataclass(frozen=True)
class Row:
    """A function, its reference, and columns of arguments; derivatives are taken at the first few.

    ``second`` are pairs of arguments to differentiate in, ``skip`` arguments without derivative.
    """

    name: str
    reference: Any
    columns: tuple[tuple[float, ...], ...]
    edges: tuple[tuple[float, ...], ...] = ()
    second: tuple[tuple[int, int], ...] = ()
    skip: tuple[int, ...] = ()
    rtol: float = 2e-13

    def __repr__(self) -> str:
        return self.name


ROWS = [
    Row(
        "gammainc",
        _p,
        ((2.5, 0.3, 40.0, 900.0, 0.02, 1e-3), (1.6, 2.0, 45.0, 880.0, 0.4, 5.0)),
        ((1, 0, 0), (2, INF, 1), (0, 1, 1), (INF, 1, 0), (-1, 1, NAN), (1, -1, NAN), (NAN, 1, NAN)),
        ((0, 0), (0, 1), (1, 1)),
        rtol=4e-15,
    ),
    Row(
        "gammaincc",
        lambda a, x: mpmath.gammainc(a, x, regularized=True),
        ((2.5, 0.3, 40.0, 900.0, 0.02, 1e-3), (1.5, 2.0, 75.0, 950.0, 0.4, 0.5)),
        ((1, 0, 1), (2, INF, 0), (0, 1, 0), (-1, 1, NAN)),
        ((0, 0),),
        rtol=4e-15,
    ),
    Row(
        "gammaincinv",
        lambda a, p: sp.gammaincinv(float(a), float(p)),
        ((2.5, 0.3, 40.0, 900.0), (0.3, 0.9, 0.001, 0.6)),
        ((2, 0, 0), (2, 1, INF), (2, 1.5, NAN)),
        rtol=1e-12,
    ),
    Row(
        "gammainccinv",
        lambda a, p: sp.gammainccinv(float(a), float(p)),
        ((2.5, 0.3, 40.0), (0.3, 0.9, 1e-20)),
        rtol=1e-12,
    ),
    Row(
        "betainc",
        lambda a, b, x: mpmath.betainc(a, b, 0, x, regularized=True),
        ((2.5, 0.3, 40.0, 300.0), (1.5, 2.0, 0.5, 200.0), (0.4, 0.01, 0.97, 0.61)),
        ((1, 2, 0, 0), (1, 2, 1, 1), (1, 2, 1.5, NAN), (-1, 2, 0.5, NAN), (0, 1, 0.5, 1)),
        ((0, 0), (0, 1), (1, 2)),
    ),
    Row(
        "betaincinv",
        lambda a, b, p: sp.betaincinv(float(a), float(b), float(p)),
        ((2.5, 0.3, 40.0), (1.5, 2.0, 0.5), (0.4, 0.1, 0.7)),
        ((1, 2, 0, 0), (1, 2, 1, 1)),
        rtol=1e-12,
    ),
    Row(
        "zeta",
        mpmath.zeta,
        ((2.5, 1.01, 7.0, 60.0), (0.5, 3.0, 40.0, 1.0)),
        ((1, 1, INF), (0.5, 1, NAN), (2, 0, INF), (INF, 1, 1)),
        ((0, 0), (0, 1)),
    ),
    Row("zeta", mpmath.zeta, ((2.5, 0.5, -3.5, 30.0),), ((1, INF), (-2, 0), (0, -0.5)), ((0, 0),)),
    Row(
        "polygamma",
        lambda n, x: mpmath.polygamma(int(n), x),
        ((1.0, 2.0, 3.0), (0.4, 2.5, 30.0)),
        skip=(0,),
    ),
    *(
        Row(name, ref, ((0.3, -2.5, 25.0, -40.0, 300.0),), ((0.0, at_0),), ((0, 0),))
        for name, ref, at_0 in (
            ("i0", lambda x: mpmath.besseli(0, x), 1.0),
            ("i1", lambda x: mpmath.besseli(1, x), 0.0),
            ("i0e", lambda x: mpmath.besseli(0, x) * mpmath.exp(-abs(x)), 1.0),
            ("i1e", lambda x: mpmath.besseli(1, x) * mpmath.exp(-abs(x)), 0.0),
        )
    ),
    Row(
        "jv",
        mpmath.besselj,
        ((0.5, 2.0, 7.3, -1.7, 30.0, 0.0), (1.5, 0.1, 12.0, 5.0, 20.0, 100.0)),
        ((0, 0, 1), (2, 0, 0), (3, -1.5, float(sp.jv(3, -1.5))), (0.5, -1, NAN), (1, INF, 0)),
        ((0, 0), (0, 1)),
    ),
    Row(
        "yv",
        mpmath.bessely,
        ((0.5, 2.0, 7.3, -1.7, 3.0, 0.0), (1.5, 0.1, 12.0, 5.0, 20.0, 100.0)),
        ((0, 0, -INF), (1, -1, NAN), (1, INF, 0)),
    ),
    Row(
        "iv",
        mpmath.besseli,
        ((0.5, 2.0, 7.3, -1.7, 30.0), (1.5, 0.1, 12.0, 5.0, 40.0)),
        ((0, 0, 1), (2, 0, 0), (3, -1.5, float(sp.iv(3, -1.5))), (1, INF, INF)),
        ((0, 0),),
    ),
    Row("ive", _scaled(mpmath.besseli, -1), ((0.5, 2.0, 30.0), (1.5, 90.0, 700.0)), rtol=4e-13),
    Row(
        "kv",
        mpmath.besselk,
        ((0.5, 2.0, -7.3, 30.0, 0.0), (1.5, 0.1, 12.0, 40.0, 1e-3)),
        ((0, 0, INF), (1, -1, NAN), (1, INF, 0)),
        ((0, 0), (0, 1)),
    ),
    Row("kve", _scaled(mpmath.besselk, 1), ((0.5, 2.0, 30.0), (1.5, 90.0, 600.0))),
    Row("exp1", mpmath.e1, ((0.3, 2.5, 40.0, 1.0),), ((0, INF), (-1, NAN), (INF, 0)), ((0, 0),)),
    Row(
        "expi", mpmath.ei, ((0.3, -2.5, 39.0, 90.0),), ((0, -INF), (INF, INF), (-INF, 0)), ((0, 0),)
    ),
    Row(
        "expn",
        lambda n, x: mpmath.expint(int(n), x),
        ((2.0, 5.0, 0.0, 60.0), (0.5, 3.0, 1.5, 0.2)),
        ((2, 0, 1), (1, 0, INF), (3, INF, 0), (-2, 1, NAN)),
        skip=(0,),
    ),
    Row(
        "erfcx",
        lambda x: mpmath.exp(x * x) * mpmath.erfc(x),
        ((0.3, -2.5, 3.0, 90.0),),
        ((0, 1), (INF, 0), (-INF, INF)),
        ((0, 0),),
    ),
    Row(
        "dawsn",
        lambda x: mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(-x * x) * mpmath.erfi(x),
        ((0.3, -2.5, 3.0, 60.0),),
        ((0, 0), (INF, 0)),
        ((0, 0),),
    ),
    Row(
        "spence",
        lambda x: mpmath.polylog(2, 1 - x).real,
        ((0.3, 1.0, 2.5, 90.0),),
        ((-1, NAN),),
        ((0, 0),),
    ),
    Row(
        "owens_t",
        _owens_t,
        ((0.3, -1.5, 3.0), (0.5, 2.0, -0.7)),
        ((0, 1, 0.125), (1, 0, 0), (0, INF, 0.25)),
        ((0, 1),),
    ),
    Row(
        "hyp1f1",
        mpmath.hyp1f1,
        ((0.5, 2.0, -1.5, 3.0), (1.5, 0.7, 2.0, 5.0), (0.8, -20.0, 3.0, 400.0)),
        ((1, -1, 1, NAN), (1, 2, 0, 1)),
        ((0, 0), (1, 2)),
    ),
    Row(
        "hyp2f1",
        mpmath.hyp2f1,
        ((0.5, 2.0, -1.5), (1.5, 0.7, 2.0), (2.5, 1.7, 2.0), (0.8, -20.0, 0.3)),
        ((1, 2, -1, 0.5, NAN), (-2, 1, 3, 2.0, float(sp.hyp2f1(-2, 1, 3, 2.0)))),
        ((0, 0),),
    ),
    Row("ellipk", mpmath.ellipk, ((0.3, -2.5, 0.99),), ((1, INF), (2, NAN)), ((0, 0),)),
    Row("ellipe", mpmath.ellipe, ((0.3, -2.5, 0.99, 0.0),), ((1, 1), (2, NAN)), ((0, 0),)),
    Row("ellipkinc", mpmath.ellipf, ((0.5, -4.0, 2.0), (0.3, 0.9, -1.0)), second=((1, 1),)),
    Row("ellipeinc", mpmath.ellipe, ((0.5, -4.0, 2.0), (0.3, 0.9, -1.0)), second=((1, 1),)),
    Row(
        "boxcox",
        lambda x, k: (mpmath.mpf(x) ** k - 1) / k if k else mpmath.log(x),
        ((0.5, 3.0, 2.0), (0.3, -2.0, 1e-3)),
        ((2, 0, math.log(2)), (0, 2, -0.5), (-1, 1, NAN)),
        ((1, 1),),
    ),
]


def arrays(row):
    return [fnp.asarray(np.array(c)) for c in row.columns]


def exact(row, *at):
    return [float(row.reference(*map(mpmath.mpf, map(float, v)))) for v in zip(*at, strict=True)]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_values(row):
    f = getattr(special, row.name)
    np.testing.assert_allclose(f(*arrays(row)), exact(row, *row.columns), rtol=row.rtol)
    if row.edges:
        *args, want = (np.array(c, float) for c in zip(*row.edges, strict=True))
        np.testing.assert_allclose(f(*map(fnp.asarray, args)), want, rtol=1e-13)
    single = f(*(x.astype("float32") for x in arrays(row)))
    rounded = [np.float32(c).astype(float) for c in row.columns]
    assert single.dtype == np.float32
    want = np.array(exact(row, *rounded))
    want[np.abs(want) > np.finfo("float32").max] = INF
    np.testing.assert_allclose(single, want, rtol=1e-6 if row.rtol < 1e-12 else 1e-5)


# a and x far out in the tails, where the exponent is some hundreds; about them and in the middle.
TAILS = (
    (477.4989, 491.9225, 317.3232, 483.0546, 11.9649, 9.5, 3118.0, 631323.9853, 2e6, 5e5, 0.3,
     12.0),
    (64.3404, 218.8452, 1210.3813, 1536.8262, 553.2155, 700.5, 4e3, 617688.58, 2.03e6, 5e5, 650.0,
     1e-20),
)  # fmt: skip


@pytest.mark.parametrize("compiled", [False, True])
def test_tails_of_incomplete_gammas_have_all_digits(compiled):
    a, x = (np.array(c) for c in TAILS)
    with mpmath.workdps(450):
        p = [mpmath.gammainc(u, 0, v, regularized=True) for u, v in zip(a, x, strict=True)]
        small = [float(v if u > w else 1 - v) for u, w, v in zip(a, x, p, strict=True)]
    for f, where in ((special.gammainc, a > x), (special.gammaincc, a <= x)):
        got = (ft.jit(f) if compiled else f)(fnp.asarray(a), fnp.asarray(x))
        want = np.where(where, small, 1 - np.array(small))
        np.testing.assert_allclose(got, want, rtol=32 * 1.1e-16)


def test_doubled_numbers_are_those_of_many_digits():
    x, y = (np.exp(rng.uniform(-200, 200, 500)) for rng in map(np.random.default_rng, (1, 2)))
    x[:100] = y[:100] * (1 + np.linspace(-1e-3, 1e-3, 100))
    for log in (ratio_log_of_numpy, ft.jit(ratio_log_of_numpy)):
        high, low = (np.asarray(v) for v in log(fnp.asarray(x), fnp.asarray(y)))
        with mpmath.workdps(60):
            for u, v, a, b in zip(x, y, high, low, strict=True):
                exact = mpmath.log(mpmath.mpf(float(u)) / mpmath.mpf(float(v)))
                assert abs(mpmath.mpf(float(a)) + mpmath.mpf(float(b)) - exact) <= 1e-22 * max(
                    abs(exact), 1e-3
                )


def ratio_log_of_numpy(x, y):
    """`ratio_log`, with the operations of `funtorch.numpy` for its own."""
    return arithmetic.ratio_log(fnp, x, y)


def partial(f, k):
    return lambda *xs: ft.grad(lambda *ys: f(*ys).sum(), k)(*xs)


POINTS = 2  # at which derivatives are compared


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_partial_derivatives(row):
    f = getattr(special, row.name)
    xs = [x[:POINTS] for x in arrays(row)]
    found = "inv" in row.name  # the reference is a float: compare with the inverted function
    for k in range(len(xs)):
        if k in row.skip:
            continue
        got = np.asarray(partial(f, k)(*xs))
        if found:
            want = _of_inverse(row.name.removesuffix("inv"), xs, f(*xs), k)
        else:
            want = [_differentiated(row.reference, v, (k,)) for v in zip(*xs, strict=True)]
        np.testing.assert_allclose(got, want, rtol=1e-9, err_msg=f"in argument {k}")
    for j, k in row.second:
        got = np.asarray(partial(partial(f, j), k)(*xs))
        want = [_differentiated(row.reference, v, (j, k)) for v in zip(*xs, strict=True)]
        np.testing.assert_allclose(got, want, rtol=1e-8, err_msg=f"in arguments {j}, {k}")


def _differentiated(f, at, places):
    orders = tuple(places.count(k) for k in range(len(at)))
    at = tuple(mpmath.mpf(float(v)) for v in at)
    with mpmath.workdps(30):
        return float(
            mpmath.diff(f, at if len(at) > 1 else at[0], orders if len(at) > 1 else orders[0])
        )


def _of_inverse(name, xs, y, k):
    """Differentiate ``f(*params, y) = p`` implicitly."""
    f = getattr(special, name)
    params = [*xs[:-1], y]
    slope = np.asarray(partial(f, len(xs) - 1)(*params))
    if k == len(xs) - 1:
        return 1 / slope
    return -np.asarray(partial(f, k)(*params)) / slope


COMPILED = ["gammainc", "betaincinv", "i1e", "kv", "expn", "hyp1f1", "ellipe"]


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_and_batched(name):
    row = next(r for r in ROWS if r.name == name)
    f, xs = getattr(special, name), arrays(row)
    want = np.asarray(f(*xs))
    np.testing.assert_allclose(ft.jit(f)(*xs), want, rtol=5e-14)
    np.testing.assert_allclose(ft.vmap(f)(*xs), want, rtol=1e-15)
    np.testing.assert_array_equal(ft.vmap(lambda x: f(*xs[:-1], x))(xs[-1][None])[0], want)
    tall = [x[:, None] for x in xs]
    np.testing.assert_array_equal(
        f(*tall[:-1], xs[-1]).shape, (want.size,) * 2 if tall[:-1] else want.shape
    )


def test_compiled_derivatives():
    xs = arrays(ROWS[0])
    slope = partial(special.gammainc, 0)
    np.testing.assert_allclose(ft.jit(slope)(*xs), slope(*xs), rtol=1e-12)
    one = [x[0] for x in xs]
    np.testing.assert_allclose(ft.vmap(ft.grad(special.gammainc))(*xs), slope(*xs), rtol=1e-12)
    tangent = ft.jvp(special.gammainc, tuple(one), (fnp.ones_like(one[0]), fnp.zeros_like(one[1])))[
        1
    ]
    assert float(tangent) == pytest.approx(float(ft.grad(special.gammainc)(*one)), rel=1e-12)


def test_many_elements_and_none():
    rng = np.random.default_rng(0)
    a, x = rng.uniform(0.1, 20, 40_000), rng.uniform(0.1, 20, 40_000)
    np.testing.assert_allclose(special.gammainc(a, x), sp.gammainc(a, x), rtol=1e-12)
    assert special.gammainc(np.zeros((0, 3)), 1.0).shape == (0, 3)
    strided = fnp.asarray(a.reshape(200, 200).T)
    np.testing.assert_array_equal(
        special.i0e(strided), np.asarray(special.i0e(a.reshape(200, 200))).T
    )


def test_complex_functions():
    rng = np.random.default_rng(0)
    z = rng.normal(size=60) * 4 + 1j * rng.normal(size=60) * 4
    np.testing.assert_allclose(special.wofz(z), sp.wofz(z), rtol=1e-12)
    np.testing.assert_allclose(special.loggamma(z), sp.loggamma(z), rtol=1e-12, atol=1e-13)
    for k in (-2, -1, 0, 1):
        np.testing.assert_allclose(special.lambertw(z, k), sp.lambertw(z, k), rtol=1e-12)
    x = np.array([-0.3, -0.1, 0.5, 20.0])
    np.testing.assert_allclose(special.lambertw(x), sp.lambertw(x), rtol=1e-13)
    slope = ft.grad(lambda x: special.lambertw(x).real)(0.7)
    w = sp.lambertw(0.7).real
    assert float(slope) == pytest.approx(w / (0.7 * (1 + w)), rel=1e-6)


def test_pairs_of_integrals():
    x = np.array([-3.0, 0.0, 0.3, 1.6, 5.0, 90.0, INF])
    np.testing.assert_allclose(special.fresnel(x), sp.fresnel(x), rtol=1e-13)
    positive = np.abs(x)
    np.testing.assert_allclose(special.sici(positive), sp.sici(positive), rtol=1e-13)
    assert float(special.sici(-2.0)[0]) == pytest.approx(sp.sici(-2.0)[0])
    x = fnp.asarray(x[2:5])
    for k, want in enumerate((np.sin, np.cos)):
        got = partial(lambda x, k=k: special.fresnel(x)[k], 0)(x)
        np.testing.assert_allclose(got, want(np.pi / 2 * np.asarray(x) ** 2), rtol=1e-11)
    np.testing.assert_allclose(
        partial(lambda x: special.sici(x)[1], 0)(x), np.cos(x) / np.asarray(x)
    )


def test_functions_of_whole_numbers():
    np.testing.assert_allclose(special.bernoulli(20), sp.bernoulli(20), rtol=1e-6)
    n, k = np.arange(-1, 8.0)[:, None], np.arange(-1, 8.0)
    np.testing.assert_allclose(special.comb(n, k), sp.comb(n, k), rtol=1e-13)
    np.testing.assert_allclose(
        special.comb(n[2:], k[2:], repetition=True),
        sp.comb(n[2:], k[2:], repetition=True),
        rtol=1e-13,
    )
    x = np.array([-2.5, -2.0, -0.0, 0.0, 3.0])
    np.testing.assert_array_equal(special.gammasgn(x), [-1, NAN, -1, 1, 1])
    z = np.array([0.0, 0.5, 12.0])
    np.testing.assert_allclose(
        special.bessel_jn(z, v=3), [sp.jv(v, z) for v in range(4)], atol=1e-14
    )
    for degree, order in ((0, 0), (2, -1), (3, 3), (5, 2)):
        got = special.sph_harm_y(degree, order, np.array([0.3, 2.0]), np.array([0.4, 5.0]))
        want = sp.sph_harm_y(degree, order, np.array([0.3, 2.0]), np.array([0.4, 5.0]))
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_names_of_lax():
    a, x = np.array([0.5, 3.0]), np.array([1.0, 2.0])
    np.testing.assert_allclose(lax.igamma(a, x), sp.gammainc(a, x), rtol=1e-13)
    np.testing.assert_allclose(lax.igammac(a, x), sp.gammaincc(a, x), rtol=1e-13)
    np.testing.assert_allclose(
        lax.igamma_grad_a(a, x), partial(special.gammainc, 0)(a, x), rtol=1e-12
    )
    np.testing.assert_allclose(lax.bessel_i1e(x), sp.i1e(x), rtol=1e-13)
    np.testing.assert_allclose(lax.bessel_i0e(x), sp.i0e(x), rtol=1e-13)
    np.testing.assert_allclose(lax.zeta(a + 1, x), sp.zeta(a + 1, x), rtol=1e-13)
    np.testing.assert_allclose(lax.polygamma(np.ones(2), x), sp.polygamma(1, x), rtol=1e-13)
    np.testing.assert_allclose(lax.betainc(a, a, x / 4), sp.betainc(a, a, x / 4), rtol=1e-13)
    density = np.exp((a - 1) * np.log(x) - x - sp.gammaln(a))
    implicit = -np.asarray(partial(special.gammainc, 0)(a, x)) / density
    np.testing.assert_allclose(lax.random_gamma_grad(a, x), implicit, rtol=1e-12)
    np.testing.assert_allclose(fnp.i0(np.array([0.3, 40.0])), sp.i0([0.3, 40.0]), rtol=1e-13)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: special.jv(1j, 1.0), TypeError, "jv: argument v must be real, got complex64"),
        (lambda: special.gammainc("a", 1.0), TypeError, "gammainc: argument a must be an array"),
        (lambda: special.gammainc(1.0), TypeError, "missing a required argument: 'x'"),
        (lambda: special.betainc(np.ones(2), np.ones(3), 1.0), ValueError, "betainc"),
        (
            lambda: special.bernoulli(-1),
            ValueError,
            "bernoulli: n must be a whole number .* got -1",
        ),
        (lambda: special.bessel_jn(1.0, v=-1), ValueError, "bessel_jn: v must .* got -1"),
        (lambda: special.polygamma(-1, 1.0), ValueError, "polygamma: n must be 0 or more, got -1"),
        (lambda: special.sph_harm_y(1, 0, 1.0, 1.0, 2), NotImplementedError, "diff_n must be None"),
        (lambda: lax.igamma(1, 2), TypeError, "igamma takes real floats, got i32"),
        (lambda: lax.igamma(np.ones(2), np.ones(3)), TypeError, "equal shapes and dtypes"),
    ],
)
def test_wrong_arguments(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_polynomials_of_1f1_and_logits_near_a_half_keep_their_digits():
    columns = np.array(
        [(-76, 0.59, 37.59), (-102, 8.25, -55.125), (-3, 19.5, 13.875), (-2, -3, 1), (0, 2, 3)]
    )
    want = [float(mpmath.hyp1f1(*row)) for row in columns]
    np.testing.assert_allclose(special.hyp1f1(*columns.T), want, rtol=2e-13)

    x = np.array([0.25, 0.5 - 3e-9, 0.5, 0.5 + 1e-13, 0.5 + 2e-5, 0.9])
    want = [float(2 * mpmath.atanh(2 * mpmath.mpf(v) - 1)) for v in x]
    np.testing.assert_allclose(special.logit(x), want, rtol=1e-15)
    slopes = ft.vmap(ft.grad(special.logit))(np.float32([0.0, 0.2, 0.5, 0.9, 1.0]))
    np.testing.assert_allclose(slopes, [INF, 6.25, 4.0, 1 / 0.09, INF], rtol=1e-6)
