"""Derivatives of functions of matrices where eigenvalues are equal: first and second order.

The references are central differences of values, and of first derivatives along directions.
"""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp
from funtorch.scipy import linalg as sl

RNG = np.random.default_rng(0)
Q = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
MATRICES = {
    "identity": np.eye(4),
    "pairs": Q @ np.diag([1.0, 1.0, 2.0, 2.0]) @ Q.T,
    "close": Q @ np.diag([1.0, 1.0 + 1e-9, 1.01, 3.0]) @ Q.T,
    "zeros": Q @ np.diag([0.0, 0.0, 2.0, 2.0]) @ Q.T,
    "zero": np.zeros((4, 4)),
}
ROOTS = ("identity", "pairs", "close")  # where a root and a logarithm have derivatives
EVERYWHERE = tuple(MATRICES)
real = lambda f: lambda a: f(a).real
FUNCTIONS = {
    "expm": (sl.expm, EVERYWHERE),
    "sqrtm": (real(sl.sqrtm), ROOTS),
    "logm": (real(sl.logm), ROOTS),
    "inv": (fnp.linalg.inv, ROOTS),
    "matrix_power": (lambda a: fnp.linalg.matrix_power(a, 3), EVERYWHERE),
    "inverse power": (lambda a: fnp.linalg.matrix_power(a, -2), ROOTS),
    "pinv": (fnp.linalg.pinv, ROOTS),
    "polar": (lambda a: sl.polar(a)[0], ROOTS),
    "nuclear": (lambda a: fnp.linalg.norm(a, "nuc"), ROOTS),
    "slogdet": (lambda a: fnp.linalg.slogdet(a)[1], ROOTS),
    "det": (fnp.linalg.det, ROOTS),
    "funm": (real(lambda a: sl.funm(a, fnp.exp)), ("identity", "pairs", "zeros", "zero")),
    "funm, exp": (lambda a: sl.funm(a, fnp.exp, hermitian=True), EVERYWHERE),
    "funm, power": (lambda a: sl.funm(a, lambda w: w**1.5, hermitian=True), ROOTS),
    "funm, log": (lambda a: sl.funm(a, fnp.log, hermitian=True), ROOTS),
    "funm, wave": (lambda a: sl.funm(a, lambda w: fnp.sin(5 * w), hermitian=True), EVERYWHERE),
    "eigvalsh": (lambda a: fnp.sum(fnp.exp(fnp.linalg.eigvalsh(a))), ()),
    "projection": (lambda a: (lambda v: v[:, :2] @ v[:, :2].T)(fnp.linalg.eigh(a)[1]), ()),
}
CASES = [(name, where) for name, (_, places) in FUNCTIONS.items() for where in places]


def scalar(name):
    f = FUNCTIONS[name][0]
    weights = fnp.asarray(np.random.default_rng(1).normal(size=(4, 4)))
    return lambda a: fnp.sum(f((a + a.T) / 2) * weights)


def symmetric():
    t = RNG.normal(size=(4, 4))
    return t + t.T


@pytest.mark.parametrize(("name", "where"), CASES)
def test_two_orders(name, where):
    g, at = scalar(name), fnp.asarray(MATRICES[where])
    slope = ft.grad(g)
    t, u = (fnp.asarray(symmetric()) for _ in range(2))

    def differences(f, step, along):
        return (f(at + step * along) - f(at - step * along)) / (2 * step)

    first = differences(g, 1e-5, t)
    np.testing.assert_allclose(fnp.sum(slope(at) * t), first, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(ft.jvp(g, (at,), (t,))[1], first, rtol=2e-6, atol=2e-6)
    second = ft.jvp(slope, (at,), (u,))[1]
    want = differences(lambda a: fnp.sum(slope(a) * t), 1e-5, u)
    np.testing.assert_allclose(fnp.sum(second * t), want, rtol=1e-5, atol=1e-5)
    h = 1e-3
    corners = [s * r * g(at + h * (s * t + r * u)) for s in (1, -1) for r in (1, -1)]
    want = sum(corners) / (4 * h * h)
    np.testing.assert_allclose(fnp.sum(second * t), want, rtol=2e-3, atol=2e-3)


def test_first_order_of_what_only_the_values_tell():
    """Right in first order where a sum over equal values is taken, or a whole space of theirs."""
    for name, where in (("eigvalsh", "pairs"), ("projection", "pairs"), ("eigvalsh", "identity")):
        g, at, t = scalar(name), fnp.asarray(MATRICES[where]), fnp.asarray(symmetric())
        want = (g(at + 1e-5 * t) - g(at - 1e-5 * t)) / 2e-5
        np.testing.assert_allclose(fnp.sum(ft.grad(g)(at) * t), want, rtol=1e-6)


def test_functions_with_parameters():
    at = fnp.asarray(MATRICES["pairs"])
    p = np.float64(1.5)
    slope = ft.grad(lambda p: fnp.sum(sl.funm(at, lambda w: w**p, hermitian=True)))
    want = fnp.sum(sl.funm(at, lambda w: w**1.5 * fnp.log(w), hermitian=True))
    np.testing.assert_allclose(slope(p), want, rtol=1e-6)
    mixed = ft.jacfwd(ft.grad(lambda p, a: sl.funm(a, lambda w: w**p, hermitian=True).sum()), 1)
    want = ft.grad(lambda a: sl.funm(a, lambda w: w**1.5 * fnp.log(w), hermitian=True).sum())(at)
    np.testing.assert_allclose(mixed(p, at), want, rtol=1e-5, atol=1e-6)


def test_under_transforms():
    stack = fnp.asarray(np.stack([MATRICES["identity"], MATRICES["pairs"]]))
    for hermitian in (False, True):

        def total(a, hermitian=hermitian):
            return fnp.sum(sl.funm(a, fnp.sin, hermitian=hermitian).real ** 2)

        slope = ft.grad(total)
        each = np.stack([slope(a) for a in stack])
        np.testing.assert_allclose(ft.vmap(slope)(stack), each, atol=1e-12)
        across = ft.grad(lambda s, f=total: ft.vmap(f)(s).sum())
        np.testing.assert_allclose(across(stack), each, atol=1e-12)
        np.testing.assert_allclose(ft.jit(slope)(stack[1]), each[1], atol=1e-10)
        assert not ft.explain(slope)(stack[1]).eager
        curve = ft.hessian(total)(stack[1])
        assert np.isfinite(np.asarray(curve)).all()


def test_complex_hermitian():
    x = RNG.normal(size=(3, 3)) + 1j * RNG.normal(size=(3, 3))
    q = np.linalg.qr(x)[0]
    at = fnp.asarray(q @ np.diag([1.0, 1.0, 2.0]) @ q.conj().T)
    t = fnp.asarray(x + x.conj().T)
    f = lambda a: sl.funm(a, fnp.exp, hermitian=True)
    value, change = ft.jvp(f, (at,), (t,))
    np.testing.assert_allclose(value, sl.expm(at), rtol=1e-12)
    np.testing.assert_allclose(change, ft.jvp(sl.expm, (at,), (t,))[1], rtol=1e-10)
    total = lambda f: lambda a: fnp.sum(fnp.abs(f(a)) ** 2)
    got, want = (ft.grad(total(g))(at) for g in (f, lambda a: sl.expm((a + a.conj().T) / 2)))
    np.testing.assert_allclose(got, want, rtol=1e-10)
