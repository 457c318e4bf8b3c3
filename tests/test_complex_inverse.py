"""Inverse trigonometric functions of complex numbers against exact values, in compiled programs."""

import itertools

import mpmath
import numpy as np
import pytest

import funtorch as ft
from funtorch.core import ArrayImpl
from funtorch.ops import elementwise

NAMES = ("asin", "acos", "atan", "asinh", "acosh", "atanh")
rng = np.random.default_rng(4)


def points(count, dtype):
    """Return numbers everywhere, very large and small ones, and many around 1, -1, i and -i."""
    most = 300 if dtype == "complex128" else 37

    def sign():
        return rng.choice([-1, 1], count)

    def power(low, high):
        return sign() * 10 ** rng.uniform(low, high, count)

    close = sign() * (1 + power(-16, 0)) + 1j * power(-20, 0)
    found = [
        rng.normal(size=count) + 1j * rng.normal(size=count),
        power(-most, most) + 1j * power(-most, most),
        close,
        close * 1j,
        power(-8, 2) * np.exp(1j * rng.uniform(0, 7, count)),
        rng.choice([-1.0, 1.0, 0.5, 2.0], count) + 1j * power(-most, most),
    ]
    return np.concatenate(found).astype(dtype)


def compiled(name, z):
    return np.asarray(ft.jit(getattr(elementwise, name))(z))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_both_parts_are_accurate(name, dtype):
    z = points(12, dtype)
    got, real = compiled(name, z), z.real.dtype
    with mpmath.workdps(700):
        exact = [getattr(mpmath, name)(mpmath.mpc(complex(v))) for v in z]
        for part in ("real", "imag"):
            want = [getattr(w, part) for w in exact]
            size = [max(abs(w), np.finfo(real).tiny) for w in want]
            error = [
                float(abs(g - w) / s)
                for g, w, s in zip(map(float, getattr(got, part)), want, size, strict=True)
            ]
            assert max(error) <= (0.51 if dtype == "complex64" else 3) * np.finfo(real).eps


@pytest.mark.parametrize("name", NAMES)
def test_zeros_infinities_and_nan(name):
    some = [0.0, -0.0, 1.0, -1.0, 2.0, np.inf, -np.inf, np.nan]
    z = np.array([complex(a, b) for a, b in itertools.product(some, some)])
    got = compiled(name, z)
    want = np.asarray(getattr(elementwise, name)(ArrayImpl(z)))
    for g, w in ((got.real, want.real), (got.imag, want.imag)):
        np.testing.assert_allclose(g, w, rtol=1e-14)
        zero = w == 0
        np.testing.assert_array_equal(np.signbit(g)[zero], np.signbit(w)[zero])
