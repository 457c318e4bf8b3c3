"""JAX's 32-bit mode: 64-bit dtypes become 32-bit ones wherever they are asked for or come in."""

import numpy as np
import pytest

import funtorch as ft
import funtorch.numpy as fnp

WIDE = np.ones(2)
PROGRAMS = {
    "zeros": lambda: fnp.zeros(2, "float64"),
    "asarray": lambda: fnp.asarray(WIDE),
    "list": lambda: fnp.asarray([np.float64(1)]),
    "scalar": lambda: fnp.asarray(np.float64(1)),
    "scalar type": lambda: fnp.float64(1),
    "operand": lambda: fnp.ones(2) + WIDE,
    "argument": lambda: fnp.sin(WIDE),
    "numpy function": lambda: np.add(fnp.ones(2), WIDE),
    "astype": lambda: fnp.ones(2).astype("float64"),
    "dtype=": lambda: fnp.sum(fnp.ones(2), dtype="float64"),
    "concatenate": lambda: fnp.concatenate([WIDE, fnp.ones(2)]),
    "jit": lambda: ft.jit(lambda x: 2 * x)(WIDE),
    "grad": lambda: ft.grad(lambda x: (x**2).sum())(WIDE),
    "scan": lambda: ft.lax.scan(lambda c, x: (c + x, c), 0.0, WIDE)[1],
    "vmap": lambda: ft.vmap(fnp.sin)(WIDE),
    "random": lambda: ft.random.normal(ft.random.key(0), (2,), "float64"),
    "linspace": lambda: fnp.linspace(0, 1, 3, dtype="float64"),
    "linalg": lambda: fnp.linalg.inv(np.eye(2)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_floats(name):
    with ft.config.override(jax_enable_x64=False):
        assert PROGRAMS[name]().dtype == np.float32
    assert PROGRAMS[name]().dtype == np.float64


def test_other_dtypes():
    with ft.config.override(jax_enable_x64=False):
        assert fnp.asarray(np.arange(3)).dtype == np.int32
        assert fnp.asarray(np.uint64(3)).dtype == np.uint32
        assert fnp.asarray(WIDE * 1j).dtype == np.complex64
        assert fnp.fft.fft(WIDE).dtype == np.complex64
        assert fnp.frombuffer(np.arange(2).tobytes(), np.int64).tolist() == [0, 1]
        with pytest.raises(OverflowError, match="does not fit in int32"):
            fnp.asarray(2**40)
    assert fnp.asarray(2**40).dtype == np.int64


def test_it_is_off_unless_asked_for():
    assert not ft.config.narrow
    with ft.config.override(jax_enable_x64=True):
        assert not ft.config.narrow
    f = ft.jit(lambda x: x + 1)
    assert f(WIDE).dtype == np.float64
    with ft.config.override(narrow=True):
        assert f(WIDE).dtype == np.float32
    assert f(WIDE).dtype == np.float64
