"""Fourier transforms: NumPy's values and dtypes, every option, derivatives, and errors."""

import numpy as np
import pytest
import scipy.fft

import funtorch as ft
import funtorch.numpy as fnp
from funtorch import lax
from funtorch.backends.fuse import fuse
from funtorch.backends.spectral import radices
from funtorch.ops.fft import fft_table, unit_roots
from funtorch.testing import check_grads
from funtorch.transforms.simplify import simplify

rng = np.random.default_rng(3)
REAL = rng.normal(size=(3, 4, 5))
COMPLEX = REAL + 1j * rng.normal(size=REAL.shape)
NORMS = (None, "backward", "ortho", "forward")
ONE = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
MANY = ("fftn", "ifftn", "rfftn", "irfftn", "fft2", "ifft2", "rfft2", "irfft2")
TAKES_REAL = ("rfft", "ihfft", "rfftn", "rfft2")


def sample(name):
    return REAL if name in TAKES_REAL else COMPLEX


def check(name, x, *args, **options):
    got = getattr(fnp.fft, name)(fnp.asarray(x), *args, **options)
    want = getattr(np.fft, name)(x, *args, **options)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ONE)
def test_one_axis(name, norm):
    for n in (None, 1, 3, 4, 7):
        for axis in (0, 1, -1):
            check(name, sample(name), n, axis, norm)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MANY)
def test_several_axes(name, norm):
    check(name, sample(name), norm=norm)
    check(name, sample(name), (2, 7), (1, 0), norm)
    check(name, sample(name), (6, 3), (-1, 0), norm)
    check(name, sample(name), axes=(2, 1), norm=norm)


@pytest.mark.parametrize("name", [*ONE, *MANY])
def test_real_arrays_of_every_width(name):
    for dtype in ("float64", "float32", "float16", "int8", "bool"):
        x = (REAL > 0) if dtype == "bool" else (4 * REAL).astype(dtype)
        got = getattr(fnp.fft, name)(fnp.asarray(x))
        want = getattr(np.fft, name)(x.astype("float64"))
        single = dtype != "float64"
        narrow = {"complex128": "complex64", "float64": "float32"}
        assert got.dtype == (narrow[want.dtype.name] if single else want.dtype)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-4 if single else 1e-12)


def test_odd_shapes():
    check("fft", np.zeros((0, 4)))
    check("rfft", np.zeros((2, 0, 3)), axis=2)
    check("fft", COMPLEX[::2, ::-1, 1:4], axis=1)
    check("fft", np.array([np.nan, 1.0, np.inf]))
    assert fnp.fft.fftn(fnp.asarray(COMPLEX), axes=()).shape == COMPLEX.shape


def test_frequencies():
    for n in (1, 4, 5):
        np.testing.assert_allclose(fnp.fft.fftfreq(n, 0.5), np.fft.fftfreq(n, 0.5))
        np.testing.assert_allclose(fnp.fft.rfftfreq(n, 0.5), np.fft.rfftfreq(n, 0.5))
        assert fnp.fft.fftfreq(n).dtype == np.float32
        assert fnp.fft.rfftfreq(n, dtype="float64").dtype == np.float64
        for axes in (None, 0, (0, 2)):
            x = rng.normal(size=(n, 3, 2))
            np.testing.assert_array_equal(
                fnp.fft.fftshift(fnp.asarray(x), axes), np.fft.fftshift(x, axes)
            )
            np.testing.assert_array_equal(
                fnp.fft.ifftshift(fnp.asarray(x), axes), np.fft.ifftshift(x, axes)
            )


@pytest.mark.parametrize("name", [*ONE, "fftn", "irfftn"])
def test_derivatives(name):
    def f(x):
        return fnp.abs(getattr(fnp.fft, name)(x)) ** 2

    x = sample(name)[0, :3, :4]
    check_grads(f, (fnp.asarray(x),), order=2)
    np.testing.assert_allclose(ft.jit(f)(x), f(fnp.asarray(x)), rtol=1e-12)
    batch = fnp.asarray(np.stack([x, 2 * x]))
    np.testing.assert_allclose(ft.vmap(f)(batch), [f(b) for b in batch], rtol=1e-12)


def test_convolution_theorem_has_the_right_gradient():
    a, b = fnp.asarray(rng.normal(size=8)), fnp.asarray(rng.normal(size=8))

    def by_fft(a):
        return fnp.fft.irfft(fnp.fft.rfft(a) * fnp.fft.rfft(b), 8)[0]

    direct = [float(b[-k % 8]) for k in range(8)]
    np.testing.assert_allclose(ft.grad(by_fft)(a), direct, rtol=1e-12)


def test_lax_fft():
    for kind, name in (("FFT", "fftn"), ("IFFT", "ifftn"), ("RFFT", "rfftn")):
        got = lax.fft(fnp.asarray(REAL), kind, (4, 5))
        np.testing.assert_allclose(got, getattr(np.fft, name)(REAL, axes=(1, 2)), atol=1e-12)
    got = lax.fft(fnp.asarray(COMPLEX), lax.FftType.IRFFT, (4, 9))
    np.testing.assert_allclose(got, np.fft.irfftn(COMPLEX, (4, 9), (1, 2)), atol=1e-12)


X = fnp.ones((2, 3), "complex64")


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: fnp.fft.fft(X, norm="unit"), ValueError, "norm must be None, 'backward'.*'unit'"),
        (lambda: fnp.fft.fft(X, 0), ValueError, "fft: at least one point .* axis 1, got n = 0"),
        (lambda: fnp.fft.irfft(X[:, :1]), ValueError, "irfft: at least one point .* n = 0"),
        (lambda: fnp.fft.fft(X, axis=2), ValueError, "fft: axis 2 is out of bounds"),
        (lambda: fnp.fft.rfft(X), TypeError, r"rfft: argument a must be real, got .*complex64"),
        (lambda: fnp.fft.fftn(X, (2,), (0, 1)), ValueError, r"s = \(2,\) and axes = \(0, 1\)"),
        (lambda: fnp.fft.fftn(X, axes=(0, 0)), ValueError, "names an axis twice"),
        (lambda: fnp.fft.rfftn(X.real, axes=()), ValueError, "rfftn: at least one axis"),
        (lambda: fnp.fft.fftfreq(0), ValueError, "fftfreq: n must be at least 1, got 0"),
        (lambda: lax.fft(X, "DFT", (3,)), ValueError, "'DFT' is none of FFT, IFFT, RFFT, IRFFT"),
        (lambda: lax.fft(X, "FFT", (4,)), ValueError, r"last axes are \(4,\), got .*complex64"),
    ],
)  # fmt: skip
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


# ------------------------------------------------------------------------------------ compiled
@pytest.mark.parametrize("n", [2, 5, 8, 15, 16, 37, 60, 64, 158, 1000])
@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft"])
def test_native_transforms(n, name):
    dtype = "complex128" if n in (15, 64) else "complex64"
    shapes = [((3, n), 1), ((n, 5), 0), ((2, n, 16), 1)]
    for shape, axis in shapes if name == "fft" else shapes[n % 3 :][:1]:
        x = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
        x = x.real if name == "rfft" else x
        got = ft.jit(lambda x, axis=axis: getattr(fnp.fft, name)(x, axis=axis))(x)
        want = getattr(np.fft, name)(x.astype("float64" if name == "rfft" else dtype), axis=axis)
        error = np.abs(np.asarray(got) - want).max() / np.abs(want).max()
        assert error < (1e-5 if dtype == "complex64" else 2e-14)


def test_which_transforms_are_native():
    def steps(n, kind="fft"):
        x = fnp.ones(n, "complex64")
        program = ft.make_jaxpr(getattr(fnp.fft, kind))(x).jaxpr
        return [type(step).__name__ for step in fuse(simplify(program)).steps]

    assert steps(480) == steps(480, "ifft") == steps(31 * 64) == ["Fourier"]
    assert steps(1) == steps(1, "ifft") == []
    assert set(steps(481, "hfft")) == {"Launch", "Fourier", "Table"}
    convolved = ["Table", "Launch", "Fourier", "Table", "Launch", "Fourier", "Launch"]
    assert sorted(steps(37)) == sorted(steps(2003, "ifft")) == sorted(convolved)
    assert radices(2**20) == (8, 8, 8, 8, 8, 8, 4)
    assert radices(2**10) == (8, 8, 4, 4)
    assert radices(360) == (8, 3, 3, 5)
    assert radices(7 * 31) == (7, 31)
    assert radices(37) is radices(1) is None


def test_native_transforms_of_special_values_and_views():
    x = np.zeros(64, "complex64")
    x[3] = np.nan
    assert np.isnan(np.asarray(ft.jit(fnp.fft.fft)(x))).all()
    y = COMPLEX[0].T[:4]
    np.testing.assert_allclose(ft.jit(fnp.fft.fft)(y), np.fft.fft(y), atol=1e-12)
    both = ft.jit(lambda x: (fnp.fft.ifft(fnp.fft.fft(x)), x))(COMPLEX[:, :, 0])
    np.testing.assert_allclose(both[0], COMPLEX[:, :, 0], atol=1e-12)
    np.testing.assert_array_equal(both[1], COMPLEX[:, :, 0])


def test_native_transforms_do_not_depend_on_threads():
    x = (rng.normal(size=2**17) + 1j).astype("complex64")
    results = []
    for count in (1, 2, 3):
        with ft.threads(count):
            results.append(np.asarray(ft.jit(lambda x: fnp.fft.fft(x))(x)).tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("n", [7, 31, 37, 74, 1009])
def test_native_transforms_are_accurate(n):
    """The relative error in the mean is that of a few roundings, for primes too."""
    x = rng.normal(size=n) + 1j * rng.normal(size=n)
    exact = scipy.fft.fft(x.astype(np.clongdouble))
    for name, y, want in (
        ("fft", x, exact),
        ("ifft", x, scipy.fft.ifft(x.astype(np.clongdouble))),
        ("rfft", x.real.copy(), scipy.fft.rfft(x.real.astype(np.longdouble))),
    ):
        for dtype, most in ((np.complex128, 1e-15), (np.complex64, 5e-7)):
            y = y.astype(dtype if np.iscomplexobj(y) else dtype(0).real.dtype)
            got = np.asarray(ft.jit(getattr(fnp.fft, name))(y))
            assert np.linalg.norm(got - want) <= most * np.linalg.norm(want)
    half = np.fft.rfft(x.real)
    got = np.asarray(ft.jit(lambda half: fnp.fft.irfft(half, n))(half))
    assert np.linalg.norm(got - x.real) <= 1e-15 * np.linalg.norm(x.real)


def test_transforms_of_one_point():
    x = np.complex128([[1 + 2j], [3 - 1j]])
    for name in ("fft", "ifft"):
        np.testing.assert_array_equal(ft.jit(getattr(fnp.fft, name))(x), x)
    np.testing.assert_array_equal(ft.jit(fnp.fft.rfft)(x.real), x.real)
    np.testing.assert_array_equal(ft.jit(lambda x: fnp.fft.irfft(x, 1))(x), x.real)


def test_irfft_takes_no_imaginary_part_where_there_is_none():
    x = COMPLEX[:, :, 0]  # its first and last frequencies have one
    for n in (7, 8, 6):
        got = ft.jit(lambda x, n=n: fnp.fft.irfft(x, n, axis=1))(x)
        np.testing.assert_allclose(got, np.fft.irfft(x, n, axis=1), atol=1e-14)


def test_several_axes_and_empty_arrays_compiled():
    x = rng.normal(size=(3, 37, 14)) + 1j * rng.normal(size=(3, 37, 14))
    np.testing.assert_allclose(ft.jit(fnp.fft.fftn)(x), np.fft.fftn(x), atol=1e-11)
    np.testing.assert_allclose(ft.jit(fnp.fft.rfftn)(x.real), np.fft.rfftn(x.real), atol=1e-11)
    assert ft.jit(fnp.fft.fft)(np.zeros((0, 37))).shape == (0, 37)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 12, 1009])
def test_tables(n):
    def table(what, size):
        return fft_table(what=what, n=n, size=size, dtype=np.dtype("complex128"))

    k = np.arange(2 * n)
    turn = -2j * np.arccos(np.longdouble(-1)) / n
    np.testing.assert_allclose(table("roots", 2 * n), np.exp(turn * (k % n)), atol=2.3e-16)
    np.testing.assert_allclose(
        table("chirp", n), np.exp(turn / 2 * (k[:n] ** 2 % (2 * n))), atol=2.3e-16
    )
    assert unit_roots(np.arange(n), n)[0] == 1
    with pytest.raises(TypeError, match=f"no 'filter' of {2 * n - 2} elements for n = {n}"):
        ft.make_jaxpr(lambda: table("filter", 2 * n - 2))()
