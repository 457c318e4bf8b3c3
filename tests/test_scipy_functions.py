"""SciPy's names against SciPy itself: eager, jitted, batched and differentiated."""

import numpy as np
import pytest
import scipy.cluster.vq
import scipy.fft
import scipy.interpolate
import scipy.ndimage
import scipy.signal

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.scipy.spectral import get_window
from funtorch.testing import check_grads

RNG = np.random.default_rng(0)
LINE = RNG.normal(size=7)
SHORT = RNG.normal(size=4)
PLANE = RNG.normal(size=(5, 6))
SMALL = RNG.normal(size=(3, 2))
WAVES = RNG.normal(size=(2, 50))
SPECTRA = scipy.signal.stft(WAVES, nperseg=16)[2]
PLACES = RNG.uniform(-3, 8, size=(2, 4))
GRID = (np.array([0.0, 1, 3, 4, 6]), np.array([0.0, 2, 3, 5, 6, 7]))


def grid_values(scipy_or_ours, xp):
    def f(values, at, **options):
        points = [xp.asarray(g) for g in GRID]
        return scipy_or_ours(points, values, bounds_error=False, **options)(at)

    return f


def coordinates(module):
    return lambda x, at, **options: module.map_coordinates(x, list(at), **options)


sig, ours = scipy.signal, ft.scipy.signal
# name: (ours, SciPy's, arrays, options)
CASES = {}
for mode in ("full", "same", "valid"):
    for name, args in (
        ("convolve", (LINE, SHORT)),
        ("convolve", (SHORT, LINE)),
        ("correlate", (PLANE, SMALL)),
        ("correlate", (LINE + 1j, 1j * SHORT)),
        ("fftconvolve", (PLANE, SMALL)),
    ):
        f, g = getattr(ours, name), getattr(sig, name)
        CASES[f"{name} {mode} {args[0].dtype} {args[0].shape}"] = f, g, args, {"mode": mode}
    for boundary in ("fill", "wrap", "symm"):
        for name in ("convolve2d", "correlate2d"):
            options = {"mode": mode, "boundary": boundary, "fillvalue": 2.0}
            f, g = getattr(ours, name), getattr(sig, name)
            CASES[f"{name} {mode} {boundary}"] = f, g, (PLANE, SMALL), options
for k, options in enumerate([{}, {"type": "constant", "axis": 0}, {"bp": [10, 30]}]):
    CASES[f"detrend {k}"] = ours.detrend, sig.detrend, (WAVES,), options
for k, options in enumerate(
    [
        {"nperseg": 16},
        {"nperseg": 16, "noverlap": 4, "window": "hamming", "boundary": None},
        {"nperseg": 15, "nfft": 20, "detrend": "constant", "padded": False},
        {"nperseg": 16, "return_onesided": False, "boundary": "odd"},
        {"nperseg": 16, "boundary": "even", "fs": 10.0},
    ]
):
    CASES[f"stft {k}"] = ours.stft, sig.stft, (WAVES,), options
for k, options in enumerate(
    [
        {"nperseg": 16, "scaling": "spectrum", "average": "median"},
        {"nperseg": 15, "nfft": 20, "detrend": "linear", "window": ("kaiser", 3.0)},
        {"nperseg": 16, "return_onesided": False, "fs": 100.0},
    ]
):
    CASES[f"csd {k}"] = ours.csd, sig.csd, (WAVES, WAVES[::-1].copy()), options
    CASES[f"welch {k}"] = ours.welch, sig.welch, (WAVES,), options
CASES["istft"] = ours.istft, sig.istft, (SPECTRA,), {"nperseg": 16}
CASES["istft odd"] = (
    ours.istft, sig.istft, (scipy.signal.stft(WAVES, nperseg=15)[2],), {"nperseg": 15},
)  # fmt: skip
CASES["istft axes"] = (
    ours.istft, sig.istft, (SPECTRA.transpose(2, 0, 1).copy(),), {"time_axis": 0, "freq_axis": 2},
)  # fmt: skip
for kind in (1, 2, 3, 4):
    for norm in (None, "ortho", "forward"):
        for name, options in (("dct", {"n": 9}), ("idct", {"axis": 0}), ("dctn", {"s": (4, 7)})):
            options = {"type": kind, "norm": norm, **options}
            f, g = getattr(ft.scipy.fft, name), getattr(scipy.fft, name)
            CASES[f"{name} {kind} {norm}"] = f, g, (PLANE,), options
CASES["idctn"] = ft.scipy.fft.idctn, scipy.fft.idctn, (PLANE,), {"axes": [0]}
for order in (0, 1):
    for mode in ("nearest", "mirror", "reflect"):
        CASES[f"map_coordinates {order} {mode}"] = (
            coordinates(ft.scipy.ndimage),
            coordinates(scipy.ndimage),
            (PLANE, PLACES),
            {"order": order, "mode": mode},
        )
for method in ("linear", "nearest"):
    CASES[f"RegularGridInterpolator {method}"] = (
        grid_values(ft.scipy.interpolate.RegularGridInterpolator, fnp),
        grid_values(scipy.interpolate.RegularGridInterpolator, np),
        (PLANE, RNG.uniform(-1, 7, size=(3, 4, 2))),
        {"method": method, "fill_value": 0.5},
    )
CASES["vq"] = ft.scipy.cluster.vq.vq, scipy.cluster.vq.vq, (PLANE, PLANE[:2] + 0.1), {}
CASES["trapezoid"] = ft.scipy.integrate.trapezoid, np.trapezoid, (PLANE, GRID[1]), {"axis": 1}


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


def close(gots, wants, tol=1e-10):
    for got, want in zip(as_tuple(gots), as_tuple(wants), strict=True):
        want = np.asarray(want)
        assert got.shape == want.shape
        tol_here = 1e-5 if got.dtype in (np.float32, np.complex64) else tol  # times, frequencies
        np.testing.assert_allclose(np.asarray(got), want, rtol=tol_here, atol=tol_here)


@pytest.mark.parametrize("name", CASES)
def test_as_scipy(name):
    f, reference, args, options = CASES[name]
    gots, wants = f(*map(fnp.asarray, args), **options), reference(*args, **options)
    if "istft" in name:  # whose times SciPy counts along the first axis
        gots, wants = gots[1], wants[1]
    close(gots, wants)


# One of each function, for what costs a compilation.
@pytest.mark.parametrize("name", list({n.split()[0]: n for n in CASES}.values()))
def test_under_transforms(name):
    f, _, args, options = CASES[name]
    arrays = list(map(fnp.asarray, args))
    close(ft.jit(lambda *xs: f(*xs, **options))(*arrays), f(*arrays, **options))
    pair = [fnp.stack([x, 2 * x]) for x in arrays]
    second = f(*[2 * x for x in arrays], **options)
    axes = [0] * len(arrays)
    batched = ft.vmap(lambda *xs: as_tuple(f(*xs, **options))[-1], in_axes=tuple(axes))(*pair)
    close(batched[1], as_tuple(second)[-1])
    if "vq" not in name and "nearest" not in name:
        check_grads(lambda x: as_tuple(f(x, *arrays[1:], **options))[-1], (arrays[0],), order=1)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_windows(n):
    for window in (
        "boxcar", "bartlett", "blackman", "blackmanharris", "cosine", "flattop", "hamming", "hann",
        "nuttall", "triang", "tukey", ("tukey", 0.2), ("kaiser", 3.0), ("gaussian", 2.0),
    ):  # fmt: skip
        np.testing.assert_allclose(
            get_window(window, n), scipy.signal.get_window(window, n), atol=1e-12
        )


def test_constant_and_wrapped_coordinates():
    """Between the last and the first element JAX and SciPy differ; inside they agree."""
    at = np.array([[0.5, 3.2, 9.0], [1.5, 2.0, -4.0]])
    got = ft.scipy.ndimage.map_coordinates(fnp.asarray(PLANE), list(at), 1, cval=2.0)
    want = scipy.ndimage.map_coordinates(PLANE, at, order=1, cval=2.0)
    np.testing.assert_allclose(np.asarray(got), want)
    wrapped = ft.scipy.ndimage.map_coordinates(
        fnp.asarray(PLANE), [at[0] + 5, at[1] - 6], 1, "wrap"
    )
    np.testing.assert_allclose(np.asarray(wrapped)[:2], want[:2])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: ours.convolve(x, x, mode="ful"), ValueError, "mode must be one of 'full'"),
        (lambda x: ours.convolve2d(x, x[0]), ValueError, r"in1 and in2 must have 2 axes each"),
        (lambda x: ours.stft(x, window="han"), ValueError, "window 'han' is none of"),
        (lambda x: ours.stft(x, noverlap=99), ValueError, "noverlap must be in 0"),
        (lambda x: ft.scipy.fft.dct(x, type=5), ValueError, "type must be 1, 2, 3 or 4, got 5"),
        (lambda x: ft.scipy.fft.dct(x + 1j), TypeError, "x must be real"),
        (lambda x: ft.scipy.ndimage.map_coordinates(x, [x], 1), ValueError, "holds 1 arrays"),
        (lambda x: ft.scipy.cluster.vq.vq(x, x[0]), ValueError, r"got float64\[5,6\]"),
        (
            lambda x: ft.scipy.interpolate.RegularGridInterpolator([x[0], x[0]], x),
            ValueError,
            r"points\[0\] must be a vector of the 5 coordinates",
        ),
    ],
)
def test_mistakes_name_the_argument(call, error, text):
    with pytest.raises(error, match=text):
        call(fnp.asarray(PLANE))
